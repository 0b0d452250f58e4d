//! Tests of `payments` over a store that runs out of room and channels that do what a test says, on virtual time.

mod failing_over;
pub(in crate::gateway) mod fixture;
mod holding;
mod in_flight;
mod listing;
mod reconciling;
mod reviewing;
mod storing;
mod strays;
mod teaching;
