//! Tollgate: a payment gateway that runs as one process with nothing beside it.
//!
//! Modules in reading order: [`domain`] decides, [`storage`], [`channels`] and [`delivery`] do the input and output,
//! [`actors`] hold state in memory, [`gateway`] puts them together and is the in-process API, [`api`] serves it over
//! HTTP, [`cli`] is the command line. [`sandbox`] stands in for the payment providers. [`ratelimit`] offers the limits to
//! other services as a tower layer.

pub mod actors;
pub mod api;
pub mod channels;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod gateway;
pub mod random;
pub mod ratelimit;
pub mod sandbox;
pub mod storage;
pub mod telemetry;
