//! Tests of `webhooks`.

mod fairness;
mod dead_letters;
mod fixture;
mod health;
mod jobs;
mod management;
mod priority;
mod sending;
mod sockets;
mod store;
mod stress;
mod upgrade;
