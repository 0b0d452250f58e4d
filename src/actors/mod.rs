//! Who holds state in memory. Actors are thin shells around decisions of the domain: one per active merchant for its
//! limits, one for the router, one root that starts them again when they fail.

pub mod directory;
pub mod merchant;
pub mod router;
pub mod supervisor;
