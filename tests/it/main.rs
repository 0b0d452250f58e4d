//! Features through real ports: one binary, one file a feature.

mod payments;
mod support;
mod tidy;
