//! What is logged, changed while the gateway runs, for a while or until it is changed again.

use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use utoipa::ToSchema;

use crate::config::parse_log_filter;
use crate::domain::audit::{Change, Operator};
use crate::domain::time::Timestamp;
use crate::gateway::error::GatewayError;
use crate::gateway::{Gateway, audit};
use crate::telemetry::{LogControl, LogFilter, TelemetryError};

/// Longest time for which a change may be made, in seconds; without a time it lasts until the next one.
pub const LOG_LEVEL_FOR_MAX_S: u64 = 86_400;

/// What logs are changed through.
#[derive(Default)]
pub(super) struct LogLevel {
    control: OnceLock<LogControl>,
    /// Puts back what the last change changed.
    timer: Mutex<Option<AbortHandle>>,
}

impl LogLevel {
    /// How many lines of the log were lost.
    pub(super) fn lines_lost(&self) -> u64 {
        self.control.get().map_or(0, LogControl::lines_lost)
    }
}

/// What is to be logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeLogLevel {
    /// A level (`off`, `error`, `warn`, `info`, `debug`, `trace`) or a list such as `info,tollgate::delivery=debug`. Without
    /// it, what the configuration says.
    #[schema(example = "info,tollgate::delivery=debug", max_length = 1024)]
    pub filter: Option<String>,
    /// After so many seconds what the configuration says comes back; without it, not before the next change or start.
    #[schema(example = 600, minimum = 1, maximum = 86_400)]
    pub for_s: Option<u64>,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LogLevelView {
    /// What is in force.
    #[schema(example = "info,tollgate::delivery=debug")]
    pub filter: String,
    /// What the configuration says.
    #[schema(example = "info")]
    pub configured_filter: String,
    /// When what the configuration says comes back, RFC 3339; null when nothing comes back by itself.
    #[schema(example = "2025-01-24T10:50:00Z")]
    pub until: Option<String>,
}

impl From<LogFilter> for LogLevelView {
    fn from(filter: LogFilter) -> Self {
        let LogFilter { in_force, configured, until } = filter;
        Self { filter: in_force, configured_filter: configured, until: until.map(Timestamp::rfc3339) }
    }
}

impl Gateway {
    /// Says what this process's logs are changed through. Once: a second one is not taken.
    pub fn set_log_control(&self, control: LogControl) {
        let _ = self.0.log_level.control.set(control);
    }

    /// What is logged.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`] when whoever embeds the gateway keeps logs of its own.
    pub fn log_level(&self) -> Result<LogLevelView, GatewayError> {
        Ok(self.log_control()?.filter().into())
    }

    /// Changes what is logged, and puts it back after a while if asked to.
    ///
    /// # Errors
    /// As for [`Gateway::log_level`]; [`GatewayError::InvalidRequest`] for a filter or a time that is none.
    pub async fn change_log_level(&self, by: &Operator, wanted: ChangeLogLevel) -> Result<LogLevelView, GatewayError> {
        let control = self.log_control()?.clone();
        if let Some(filter) = &wanted.filter {
            parse_log_filter(filter).map_err(|why| GatewayError::field("filter", &why))?;
        }
        if wanted.for_s.is_some_and(|for_s| !(1..=LOG_LEVEL_FOR_MAX_S).contains(&for_s)) {
            return Err(GatewayError::field("for_s", format!("must be from 1 to {LOG_LEVEL_FOR_MAX_S}")));
        }
        if wanted.for_s.is_some() && wanted.filter.is_none() {
            return Err(GatewayError::field("for_s", "needs a filter; without one what the configuration says stays"));
        }
        let (gateway, by) = (self.clone(), by.clone());
        let work = async move { gateway.put_log_level(&control, &by, wanted).await };
        self.0.core.carry(Box::pin(work)).await
    }

    fn log_control(&self) -> Result<&LogControl, GatewayError> {
        self.0.log_level.control.get().ok_or(GatewayError::NotFound("log of this process to change"))
    }

    async fn put_log_level(
        &self,
        control: &LogControl,
        by: &Operator,
        wanted: ChangeLogLevel,
    ) -> Result<LogLevelView, GatewayError> {
        let core = &self.0.core;
        let before = control.filter();
        let filter = wanted.filter.unwrap_or(before.configured);
        let change = Change::new("log_level.update", "log")
            .field("filter", Some(before.in_force.into()), Some(filter.as_str().into()))
            .field("for_s", None, wanted.for_s.map(Into::into));
        // Before it is in force, so that nobody turns logs off unseen.
        audit::record(core, by, &change).await?;
        let lasts = wanted.for_s.map(Duration::from_secs);
        let until = lasts.map(|lasts| core.clock.now().plus(lasts));
        let number = control.change(&filter, until).map_err(not_changed)?;
        tracing::info!(filter, for_s = wanted.for_s, by = by.name, "what is logged has changed");
        let timer = lasts.map(|lasts| self.spawn_end(control.clone(), number, lasts));
        if let Some(former) = std::mem::replace(&mut *self.0.log_level.timer.lock(), timer) {
            former.abort();
        }
        Ok(control.filter().into())
    }

    /// Ends the change with this number after a while.
    fn spawn_end(&self, control: LogControl, number: u64, after: Duration) -> AbortHandle {
        let stopping = self.0.core.stopping.clone();
        let ending = async move {
            tokio::time::sleep(after).await;
            match control.end(number) {
                Ok(true) => tracing::info!(filter = control.filter().in_force, "what is logged is as configured again"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "what is logged could not be put back"),
            }
        };
        let task = self.0.core.tasks.spawn(async move { stopping.run_until_cancelled(ending).await });
        task.abort_handle()
    }
}

fn not_changed(error: TelemetryError) -> GatewayError {
    GatewayError::Internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::gateway::Environment;
    use crate::gateway::audit::AuditFilter;
    use crate::gateway::page::PageRequest;
    use crate::random::Random;

    fn wanted(filter: &str, for_s: Option<u64>) -> ChangeLogLevel {
        ChangeLogLevel { filter: Some(filter.to_owned()), for_s }
    }

    #[tokio::test]
    async fn a_change_is_written_down_and_ends_with_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::embedded().unwrap();
        config.storage.dir = directory.path().join("data");
        (config.storage.segment_bytes, config.storage.group_bytes_max) = (1 << 20, 1 << 18);
        config.storage.ballast_bytes = 0;
        let variable = Box::new(|_: &str| None);
        let environment = Environment { clock: Clock::system(), random: Random::seeded(1), variable };
        let gateway = Gateway::open(config, environment).await.unwrap();
        let by = Operator::process("test");
        assert!(matches!(gateway.log_level(), Err(GatewayError::NotFound(_))), "nobody has said what logs");
        gateway.set_log_control(LogControl::unheard("info"));
        for (filter, for_s) in [("verbose", None), ("", None), ("debug", Some(0)), ("debug", Some(86_401))] {
            let refused = gateway.change_log_level(&by, wanted(filter, for_s)).await;
            assert!(matches!(refused, Err(GatewayError::InvalidRequest { .. })), "{filter} {for_s:?}: {refused:?}");
        }
        let nothing = ChangeLogLevel { filter: None, for_s: Some(9) };
        assert!(gateway.change_log_level(&by, nothing).await.is_err());
        assert!(gateway.audit().list(&AuditFilter::default(), &PageRequest::default()).unwrap().items.is_empty());

        let lasting = gateway.change_log_level(&by, wanted("warn", None)).await.unwrap();
        assert_eq!(
            (lasting.filter.as_str(), lasting.configured_filter.as_str(), lasting.until),
            ("warn", "info", None)
        );
        gateway.change_log_level(&by, wanted("trace", Some(1))).await.unwrap();
        // Its time runs anew, from this change on.
        let passing = gateway.change_log_level(&by, wanted("debug", Some(600))).await.unwrap();
        assert!(passing.filter == "debug" && passing.until.is_some());
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(599)).await;
        assert_eq!(gateway.log_level().unwrap().filter, "debug");
        tokio::time::sleep(Duration::from_secs(2)).await;
        tokio::time::resume();
        let back = gateway.log_level().unwrap();
        assert_eq!((back.filter.as_str(), back.until), ("info", None));
        gateway.change_log_level(&by, wanted("debug", Some(600))).await.unwrap();
        let reset = gateway.change_log_level(&by, ChangeLogLevel::default()).await.unwrap();
        assert_eq!((reset.filter.as_str(), reset.until), ("info", None));
        let entries = gateway.audit().list(&AuditFilter::default(), &PageRequest::default()).unwrap().items;
        assert_eq!(entries.len(), 5);
        assert!(entries.iter().all(|entry| entry.action == "log_level.update"));
        // Stopping does not wait for what is to be put back.
        gateway.stop().await.unwrap();
    }
}
