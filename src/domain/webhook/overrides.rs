//! What one endpoint has otherwise than the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::webhook::ScheduleSettings;

/// What is `None` is as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// Waits before the second try and those after it, in seconds; the last one repeats. Empty for the built-in ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_s: Option<Vec<u64>>,
    /// Wait before the second try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_backoff_s: Option<u64>,
    /// Longest wait between tries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff_s: Option<u64>,
    /// Waits vary by up to this share either way, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_percent: Option<u32>,
    /// One request ends within this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
}

impl Overrides {
    /// Whether everything is as configured.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The schedule's settings where the configuration has `settings`.
    pub fn schedule(&self, settings: &ScheduleSettings) -> ScheduleSettings {
        ScheduleSettings {
            initial_backoff_s: self.initial_backoff_s.unwrap_or(settings.initial_backoff_s),
            max_backoff_s: self.max_backoff_s.unwrap_or(settings.max_backoff_s),
            own_waits_s: self.schedule_s.as_ref().unwrap_or(&settings.own_waits_s).clone(),
            jitter_percent: self.jitter_percent.unwrap_or(settings.jitter_percent),
        }
    }

    /// How long one request may take where the configuration says `timeout`: never longer than that.
    pub fn timeout(&self, timeout: Duration) -> Duration {
        self.timeout_s.map_or(timeout, |seconds| Duration::from_secs(seconds).min(timeout))
    }
}
