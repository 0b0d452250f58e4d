//! Tests of `webhooks`.

mod dead_letters;
mod fairness;
mod figures;
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
