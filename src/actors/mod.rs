//! Who holds state in memory. Actors are thin shells around decisions of the domain: one per active merchant for its
//! limits, one for the router, one per webhook endpoint with something due, one per pre-auth that is worked on, and roots
//! that start them again when they fail. What must last is in the store before anything follows from it.

pub mod directory;
pub mod merchant;
pub mod pre_auth;
pub mod router;
pub mod supervisor;
pub mod webhook;
