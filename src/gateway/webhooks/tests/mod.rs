//! Tests of `webhooks`.

mod fixture;
mod health;
mod management;
mod sending;
mod sockets;
mod store;
mod stress;
mod upgrade;
