//! Tests of `webhooks`.

mod figures;
mod fixture;
mod health;
mod management;
mod sending;
mod sockets;
mod store;
mod stress;
mod upgrade;
