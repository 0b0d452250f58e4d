//! Decisions only: ids, money, time and the state machines. Nothing in this room waits, reads a clock, draws a random
//! number or touches a file; `now` and random draws are arguments, effects are returned as data.

pub mod audit;
#[doc(hidden)]
pub mod clock_watch;
pub mod country;
#[doc(hidden)]
pub mod event;
#[doc(hidden)]
pub mod fees;
#[doc(hidden)]
pub mod history;
pub mod ids;
#[doc(hidden)]
pub mod inbox;
pub mod language;
pub mod limit;
pub mod merchant;
pub mod money;
#[doc(hidden)]
pub mod outcome;
#[doc(hidden)]
pub mod pan;
#[doc(hidden)]
pub mod payment;
#[doc(hidden)]
pub mod pre_auth;
#[doc(hidden)]
pub mod refund;
pub mod routing;
pub mod signature;
#[doc(hidden)]
pub mod stray;
pub mod time;
#[doc(hidden)]
pub mod trace;
#[doc(hidden)]
pub mod webhook;
