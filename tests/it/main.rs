//! Features through real ports: one binary, one file a feature.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod payments;
mod support;
mod tidy;
