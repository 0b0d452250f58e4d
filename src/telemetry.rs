//! Logs and traces: what is said is said where it happens, how it looks and where it goes is decided here.

mod export;
mod lines;
mod logs;
mod otlp;
mod panics;
pub(crate) mod trace;

pub use logs::{LogControl, LogFilter, TelemetryError, init};
pub use trace::Traces;

/// Checks what a collector of traces is to see in headers, without keeping it. `variable` reads an environment variable.
///
/// # Errors
/// In words, without what is in them.
pub(crate) fn check_headers(
    config: &crate::config::TelemetryConfig,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(), String> {
    match config.otlp_endpoint {
        Some(_) => otlp::headers(config, variable).map(|_| ()),
        None => Ok(()),
    }
}
