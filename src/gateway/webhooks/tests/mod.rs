//! Tests of `webhooks`.

mod fairness;
mod fixture;
mod health;
mod management;
mod priority;
mod sending;
mod sockets;
mod store;
mod stress;
mod upgrade;
