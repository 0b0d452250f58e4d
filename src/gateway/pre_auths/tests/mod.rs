//! Tests of pre-auths over a store that can fail and a provider that does what a test says, on virtual time.

mod canceling;
mod capturing;
mod erasing;
mod expiring;
mod fixture;
mod holding;
mod measuring;
mod recovering;
mod refunding;
mod reviewing;
mod taking;
