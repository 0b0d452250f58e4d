//! Who holds state in memory. Every actor is a thin shell: decisions are [`crate::domain`]'s, what must last is in the
//! store before anything follows from it.

pub mod webhook;
