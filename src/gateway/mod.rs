//! The in-process API: the composition root and one file a resource.

pub(crate) mod core;
pub mod error;
pub mod page;
pub mod webhooks;
