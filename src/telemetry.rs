//! Logs: what is logged is said where it happens, how it looks is decided here.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, reload};

use crate::config::{LogFormat, TelemetryConfig};

/// Logs can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter can't be read.
    #[error("telemetry.log is not a filter such as \"info,tollgate::delivery=debug\": {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Somebody in this process has set logs up before.
    #[error("logs are set up already: {0}")]
    AlreadySet(String),
    /// The filter can't be changed.
    #[error("what is logged can't be changed: {0}")]
    NotChanged(#[from] reload::Error),
}

type ChangeFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// Changes what is logged.
pub struct LogControl(ChangeFilter);

impl LogControl {
    /// Logs what `filter` says from now on, in the syntax of `[telemetry] log`.
    ///
    /// # Errors
    /// [`TelemetryError::Filter`] when it can't be read; then nothing has changed.
    pub fn change(&self, filter: &str) -> Result<(), TelemetryError> {
        let filter = EnvFilter::builder().parse(filter)?;
        Ok((self.0)(filter)?)
    }
}

/// Sends this process's logs to standard error from now on. Whoever embeds the crate sets up logs of its own instead.
///
/// # Errors
/// [`TelemetryError`] when the filter is wrong or logs are set up already.
pub fn init(config: &TelemetryConfig) -> Result<LogControl, TelemetryError> {
    let filter = EnvFilter::builder().parse(&config.log)?;
    let on_terminal = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let (set, control): (_, ChangeFilter) = match format_for(config.format, on_terminal) {
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), Box::new(move |filter| handle.reload(filter)))
        }
        LogFormat::Pretty | LogFormat::Auto => {
            let builder = builder.with_ansi(on_terminal).with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), Box::new(move |filter| handle.reload(filter)))
        }
    };
    set.map_err(|error| TelemetryError::AlreadySet(error.to_string()))?;
    Ok(LogControl(control))
}

/// What `auto` comes to.
fn format_for(format: LogFormat, on_terminal: bool) -> LogFormat {
    match format {
        LogFormat::Auto if on_terminal => LogFormat::Pretty,
        LogFormat::Auto => LogFormat::Json,
        chosen => chosen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_for_people_on_a_terminal_and_for_programs_elsewhere() {
        assert_eq!(format_for(LogFormat::Auto, true), LogFormat::Pretty);
        assert_eq!(format_for(LogFormat::Auto, false), LogFormat::Json);
        assert_eq!(format_for(LogFormat::Json, true), LogFormat::Json);
        assert_eq!(format_for(LogFormat::Pretty, false), LogFormat::Pretty);
    }

    #[test]
    fn a_wrong_filter_is_an_error_and_sets_nothing_up() {
        let config = TelemetryConfig { log: String::from("=x="), format: LogFormat::Auto };
        assert!(matches!(init(&config), Err(TelemetryError::Filter(_))));
    }
}
