//! Disk faults on the real store: full disks, directories that can't be written, damage to every file. Each ends in one
//! of two ways: everything acknowledged is there, or it does not open and says which file, where, and what to do.
//!
//! Shown by breaking the code by hand: when any checksum of a frame is taken (`storage/frame.rs`, `parse`), `damage` says for
//! nearly every flipped bit of the journal that rows are missing or older, silently.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a summary for those who run it")]

mod base;
#[path = "../it/support/client.rs"]
#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
mod client;
mod damage;
mod full_disk;
mod gateway;
mod house;
mod index;
#[path = "../crash/ledger.rs"]
#[allow(dead_code, reason = "shared with the crash test, which uses more of it")]
mod ledger;
#[path = "../crash/process.rs"]
#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
mod process;
