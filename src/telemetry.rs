//! Logs and traces: what is said is said where it happens, how it looks and where it goes is decided here.

mod export;
mod lines;
mod logs;
mod otlp;
mod panics;
pub(crate) mod trace;

pub use logs::{LogControl, LogFilter, TelemetryError, init};
pub use trace::Traces;
