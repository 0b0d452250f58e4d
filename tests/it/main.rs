//! Features through real ports: one binary, one file a feature.

mod admin;
mod auth;
mod input;
mod limits;
mod payments;
mod restart;
mod support;
mod tidy;
mod webhooks;
