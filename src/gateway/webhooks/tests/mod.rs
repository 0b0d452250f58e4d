//! Tests of `webhooks`.

mod fixture;
mod management;
mod sending;
mod sockets;
mod store;
mod stress;
