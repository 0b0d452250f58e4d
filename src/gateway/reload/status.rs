//! How the last reading of the configuration went, and how many there were.

use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::FileWork;
use crate::domain::audit::Operator;
use crate::domain::time::Timestamp;
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, Gauge, IntCounter, IntGauge};
use crate::gateway::reload::{RefusedFileView, ReloadError, Reloaded};

/// How the last reading of the configuration went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LastReload {
    /// When, RFC 3339.
    pub at: String,
    /// Who asked: the name of a token, `signal` or `file`.
    #[schema(example = "file")]
    pub by: String,
    /// Why nothing of it was put in force; null when all that can change is.
    pub problem: Option<String>,
    /// Keys whose new values it put in force.
    pub applied: Vec<String>,
    /// Files behind the configuration that could not be used then: what was read of them before stayed in use.
    pub refused: Vec<RefusedFileView>,
}

/// What is known of a gateway's reloads.
pub(crate) struct Reloads {
    succeeded: IntCounter,
    failed: IntCounter,
    last_succeeded: IntGauge,
    last_at: Gauge,
    needs_restart: IntGauge,
    known: Mutex<Known>,
    /// Where the files are read that make a configuration.
    pub(super) files: FileWork,
}

#[derive(Default)]
struct Known {
    last: Option<LastReload>,
    needs_restart: Vec<String>,
}

impl Reloads {
    /// # Errors
    /// [`GatewayError::Internal`] when a name is there twice.
    pub(crate) fn new(figures: &Figures) -> Result<Self, GatewayError> {
        let reloads = figures.counters(
            "config_reloads_total",
            "Readings of the configuration while the gateway runs: all that can change is in force (success), or nothing \
             was changed (failure)",
            &["result"],
        )?;
        let last_succeeded =
            figures.gauge("config_last_reload_successful", "0 when the last reading of the configuration failed")?;
        last_succeeded.set(1);
        let last_at = figures.decimal(
            "config_last_reload_timestamp_seconds",
            "When the configuration was last read again with success; NaN when it never was",
        )?;
        last_at.set(f64::NAN);
        Ok(Self {
            succeeded: reloads.with_label_values(&["success"]),
            failed: reloads.with_label_values(&["failure"]),
            last_succeeded,
            last_at,
            needs_restart: figures
                .gauge("config_needs_restart", "Keys of the configuration that wait for the next start")?,
            known: Mutex::default(),
            files: FileWork::default(),
        })
    }

    /// Notes how a reading that `by` asked for went.
    pub(super) fn note(&self, at: Timestamp, by: &Operator, reloaded: &Result<Reloaded, ReloadError>) {
        let mut known = self.known.lock();
        let (at_text, by) = (at.rfc3339(), by.name.clone());
        let mut last = LastReload { at: at_text, by, problem: None, applied: Vec::new(), refused: Vec::new() };
        match reloaded {
            Ok(reloaded) => {
                last.applied.clone_from(&reloaded.applied);
                last.refused.clone_from(&reloaded.refused);
                known.needs_restart.clone_from(&reloaded.needs_restart);
                self.succeeded.inc();
                self.last_at.set(at.unix_s() as f64);
                self.needs_restart.set(i64::try_from(reloaded.needs_restart.len()).unwrap_or(i64::MAX));
            }
            Err(error) => {
                last.problem = Some(error.to_string());
                self.failed.inc();
            }
        }
        self.last_succeeded.set(i64::from(reloaded.is_ok()));
        known.last = Some(last);
    }

    /// The last one, if there was any, and the keys that wait for the next start.
    pub(super) fn last(&self) -> (Option<LastReload>, Vec<String>) {
        let known = self.known.lock();
        (known.last.clone(), known.needs_restart.clone())
    }
}
