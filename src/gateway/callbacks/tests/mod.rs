//! Tests of notifications on virtual time, with a provider that is asked about nothing but because of them.

mod arriving;
mod fixture;
mod following;
