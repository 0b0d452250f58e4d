//! Features through real ports: one binary, one file a feature.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod addresses;
mod admin;
mod audit;
mod auth;
mod callbacks;
mod channel_checks;
mod channel_pre_auths;
mod channels;
mod console;
mod costs;
mod countries;
mod crypto;
mod custom_channel;
mod custom_strategy;
mod deliveries;
mod documents;
mod explain;
mod failover;
mod fixture;
mod input;
mod isolation;
mod limits;
mod notifications;
mod operations;
mod payments;
mod pre_auth_input;
mod pre_auths;
mod privacy;
mod rate_limit_layer;
mod reload;
mod resolve;
mod restart;
mod routing;
mod simulate;
mod support;
mod tidy;
mod tls;
mod webhook_admin;
mod webhook_ends;
mod webhook_jobs;
mod webhook_metrics;
mod webhooks;
