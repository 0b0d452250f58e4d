//! Decisions only: ids, money, time and the state machines. Nothing in this room waits, reads a clock, draws a random
//! number or touches a file; `now` and random draws are arguments, effects are returned as data.

pub mod audit;
pub mod clock_watch;
pub mod country;
pub mod event;
pub mod fees;
pub mod history;
pub mod ids;
pub mod inbox;
pub mod language;
pub mod limit;
pub mod merchant;
pub mod money;
pub mod outcome;
pub mod pan;
pub mod payment;
pub mod pre_auth;
pub mod refund;
pub mod routing;
pub mod signature;
pub mod stray;
pub mod time;
pub mod trace;
pub mod webhook;
