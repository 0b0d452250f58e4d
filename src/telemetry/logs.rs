//! Logs: how they look, and what is logged, which can be changed while the process runs.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

use crate::config::{LogFormat, TelemetryConfig, parse_log_filter};
use crate::domain::time::Timestamp;
use crate::telemetry::lines::Lines;
use crate::telemetry::panics;

/// What this crate logs begins with it.
const OWN: &str = "tollgate";

/// Logs can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter can't be read.
    #[error("telemetry.log {0}")]
    Filter(String),
    /// Somebody in this process has set logs up before.
    #[error("logs are set up already: {0}")]
    AlreadySet(String),
    /// Nobody can write them.
    #[error("no thread can be started that writes logs: {0}")]
    NoWriter(#[source] io::Error),
    /// The filter can't be changed.
    #[error("what is logged can't be changed: {0}")]
    NotChanged(#[from] reload::Error),
}

type ChangeFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// Changes what is logged. Cheap to clone; clones change the same.
#[derive(Clone)]
pub struct LogControl(Arc<Control>);

struct Control {
    change: ChangeFilter,
    lines: Option<Lines>,
    state: Mutex<State>,
}

struct State {
    filter: LogFilter,
    /// Counts changes, so that one can be ended only while it is the last.
    changes: u64,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// What is in force, in the syntax of `[telemetry] log`.
    pub in_force: String,
    /// What the configuration says.
    pub configured: String,
    /// When what the configuration says comes back by itself.
    pub until: Option<Timestamp>,
}

impl LogControl {
    fn new(configured: &str, change: ChangeFilter, lines: Option<Lines>) -> Self {
        let filter = LogFilter { in_force: configured.to_owned(), configured: configured.to_owned(), until: None };
        Self(Arc::new(Control { change, lines, state: Mutex::new(State { filter, changes: 0 }) }))
    }

    /// One whose logs nobody reads.
    #[cfg(test)]
    pub(crate) fn unheard(configured: &str) -> Self {
        Self::new(configured, Box::new(|_| Ok(())), None)
    }

    /// Logs what the configuration says from now on, which is `filter`. That ends a change that somebody has made.
    ///
    /// # Errors
    /// [`TelemetryError::Filter`] when it can't be read; then nothing has changed.
    pub fn configure(&self, filter: &str) -> Result<(), TelemetryError> {
        self.put(filter, |state| {
            state.configured = filter.to_owned();
            state.until = None;
        })?;
        Ok(())
    }

    /// Logs what `filter` says, until it is changed again; `until` is told to those who ask. Returns what
    /// [`LogControl::end`] ends this change by.
    ///
    /// # Errors
    /// [`TelemetryError::Filter`] when it can't be read; then nothing has changed.
    pub fn change(&self, filter: &str, until: Option<Timestamp>) -> Result<u64, TelemetryError> {
        self.put(filter, |state| state.until = until)
    }

    /// Logs what the configuration says again, if nothing was changed since `change`. Says whether it did.
    ///
    /// # Errors
    /// [`TelemetryError::NotChanged`] when logs are gone.
    pub fn end(&self, change: u64) -> Result<bool, TelemetryError> {
        let configured = {
            let state = self.0.state.lock();
            if state.changes != change {
                return Ok(false);
            }
            state.filter.configured.clone()
        };
        self.put(&configured, |state| state.until = None)?;
        Ok(true)
    }

    /// What is logged.
    pub fn filter(&self) -> LogFilter {
        self.0.state.lock().filter.clone()
    }

    /// How many lines were lost, since whoever reads them did not keep up.
    pub fn lines_lost(&self) -> u64 {
        self.0.lines.as_ref().map_or(0, Lines::lost)
    }

    /// Waits until what was logged is written, no longer than `within`, holding up its thread. Says whether it is.
    pub fn flush(&self, within: Duration) -> bool {
        self.0.lines.as_ref().is_none_or(|lines| lines.flush(within))
    }

    fn put(&self, filter: &str, note: impl FnOnce(&mut LogFilter)) -> Result<u64, TelemetryError> {
        let parsed = parse_log_filter(filter).map_err(TelemetryError::Filter)?;
        let mut state = self.0.state.lock();
        (self.0.change)(parsed)?;
        state.filter.in_force = filter.to_owned();
        note(&mut state.filter);
        state.changes += 1;
        Ok(state.changes)
    }
}

/// Sends this process's logs to standard error from now on, its panics among them. Whoever embeds the crate sets up logs of its own instead.
///
/// A thread of its own writes them, so that nobody waits for whoever reads them; [`LogControl::flush`] at the end waits
/// for what is under way.
///
/// # Errors
/// [`TelemetryError`] when the filter is wrong or logs are set up already.
pub fn init(config: &TelemetryConfig) -> Result<LogControl, TelemetryError> {
    let filter = parse_log_filter(&config.log).map_err(TelemetryError::Filter)?;
    let on_terminal = io::stderr().is_terminal();
    let format = format_for(config.format, on_terminal);
    let lines = Lines::to(io::stderr()).map_err(TelemetryError::NoWriter)?;
    let writer = lines.clone();
    let (layer, change) = layer(format, on_terminal, filter, move || writer.clone());
    let set = tracing_subscriber::registry().with(layer).try_init();
    set.map_err(|error| TelemetryError::AlreadySet(error.to_string()))?;
    panics::log_all(lines.clone());
    Ok(LogControl::new(&config.log, change, Some(lines)))
}

/// Writes logs to `writer`, and what changes its filter.
fn layer<S, W>(
    format: LogFormat,
    colours: bool,
    filter: EnvFilter,
    writer: W,
) -> (Box<dyn Layer<S> + Send + Sync>, ChangeFilter)
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync + 'static,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter);
    let own = filter_fn(may_be_logged).with_max_level_hint(LevelFilter::TRACE);
    let filter = filter.and(own);
    // It would complain on standard error itself, and wait there for whoever does not read it.
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    let layer: Box<dyn Layer<S> + Send + Sync> = match format {
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_current_span(false).with_span_list(false);
            Box::new(layer.with_filter(filter))
        }
        LogFormat::Pretty | LogFormat::Auto => Box::new(layer.with_ansi(colours).with_filter(filter)),
    };
    (layer, Box::new(move |filter| handle.reload(filter)))
}

/// Whatever the filter says, other crates log nothing below `info`: what they see in detail are bytes of requests, rows and
/// TLS, with secrets and customers' data in them.
fn may_be_logged(about: &Metadata<'_>) -> bool {
    let below = about.target().strip_prefix(OWN);
    *about.level() <= Level::INFO || below.is_some_and(|below| below.is_empty() || below.starts_with("::"))
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
pub(super) mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn auto_is_for_people_on_a_terminal_and_for_programs_elsewhere() {
        assert_eq!(format_for(LogFormat::Auto, true), LogFormat::Pretty);
        assert_eq!(format_for(LogFormat::Auto, false), LogFormat::Json);
        assert_eq!(format_for(LogFormat::Json, true), LogFormat::Json);
        assert_eq!(format_for(LogFormat::Pretty, false), LogFormat::Pretty);
    }

    #[test]
    fn a_wrong_filter_is_an_error_and_sets_nothing_up() {
        let telemetry = Config::embedded().unwrap().telemetry;
        let config = TelemetryConfig { log: String::from("=x="), ..telemetry };
        assert!(matches!(init(&config), Err(TelemetryError::Filter(_))));
    }

    /// What was written.
    #[derive(Clone, Default)]
    pub(in crate::telemetry) struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        pub(in crate::telemetry) fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
        }
    }

    /// Logs of their own, for the thread of a test.
    pub(in crate::telemetry) fn logs(
        format: LogFormat,
        filter: &str,
    ) -> (Written, LogControl, impl Subscriber + Send + Sync) {
        let written = Written::default();
        let writer = written.clone();
        let (layer, change) = layer(format, false, parse_log_filter(filter).unwrap(), move || writer.clone());
        (written, LogControl::new(filter, change, None), tracing_subscriber::registry().with(layer))
    }

    #[test]
    fn what_is_logged_can_be_changed_and_comes_back() {
        let (written, control, subscriber) = logs(LogFormat::Json, "warn");
        tracing::subscriber::with_default(subscriber, || {
            let is_heard = || {
                tracing::debug!(target: "tollgate::gateway", "heard");
                written.take().contains("heard")
            };
            assert!(!is_heard());
            let first = control.change("debug", None).unwrap();
            assert!(is_heard());
            let until = Some(Timestamp::from_unix_s(60));
            let second = control.change("tollgate::gateway=debug", until).unwrap();
            assert!(is_heard());
            let filter = control.filter();
            let expected = (String::from("tollgate::gateway=debug"), String::from("warn"), until);
            assert_eq!((filter.in_force, filter.configured, filter.until), expected);
            assert!(!control.end(first).unwrap() && is_heard(), "another change came after it");
            assert!(control.end(second).unwrap() && !is_heard());
            assert_eq!(control.filter().until, None);
            assert!(!control.end(second).unwrap());
            let third = control.change("debug", until).unwrap();
            assert!(matches!(control.change("info,=x=", None), Err(TelemetryError::Filter(_))));
            assert!(is_heard(), "a wrong one changes nothing");
            control.configure("error").unwrap();
            assert!(!is_heard() && !control.end(third).unwrap());
            let filter = control.filter();
            assert_eq!((filter.in_force.as_str(), filter.configured.as_str(), filter.until), ("error", "error", None));
        });
    }

    #[test]
    fn other_crates_never_log_details() {
        let (written, _control, subscriber) = logs(LogFormat::Pretty, "trace");
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "hyper::proto", "told");
            tracing::warn!(target: "sled::pagecache", "told too");
            tracing::trace!(target: "tollgate::gateway", "own");
            tracing::trace!(target: "tollgate", "front");
            tracing::debug!(target: "hyper::proto", "secret head");
            tracing::trace!(target: "sled::pagecache", "secret row");
            tracing::debug!(target: "tollgatekeeper", "secret of others");
        });
        let text = written.take();
        for told in ["told", "told too", "own", "front"] {
            assert!(text.contains(told), "{told}: {text}");
        }
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn a_line_for_programs_is_one_flat_object() {
        let (written, _control, subscriber) = logs(LogFormat::Json, "info");
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "tollgate::api", status = 201, trace_id = None::<&str>, "request");
        });
        let line: serde_json::Value = serde_json::from_str(&written.take()).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["status"]),
            (&"INFO".into(), &"request".into(), &201.into())
        );
        assert!(line.get("trace_id").is_none() && line["timestamp"].is_string());
    }
}
