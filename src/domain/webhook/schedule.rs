//! When a notification is tried again.

use std::time::Duration;

/// Waits before attempts 2 to 13 for an initial backoff of one second, in seconds; the last one repeats.
const WAITS_S: [u64; 12] = [1, 2, 4, 8, 16, 32, 60, 120, 300, 600, 1_800, 3_600];

/// What a schedule is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleSettings {
    /// Wait before the second try, in seconds; the built-in waits are multiplied by it.
    pub initial_backoff_s: u64,
    /// Longest wait of the built-in schedule and of a `Retry-After`, in seconds.
    pub max_backoff_s: u64,
    /// Waits before the second try and those after it, in seconds, in place of the built-in ones; the last one
    /// repeats. Empty for the built-in ones.
    pub own_waits_s: Vec<u64>,
    /// Waits vary by up to this share either way, in percent, at most 100.
    pub jitter_percent: u32,
}

/// When a notification is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    settings: ScheduleSettings,
}

impl From<ScheduleSettings> for Schedule {
    fn from(settings: ScheduleSettings) -> Self {
        Self { settings }
    }
}

impl Schedule {
    /// The wait before `attempt` (from 1) without jitter; zero before the first.
    pub fn wait_before(&self, attempt: u32) -> Duration {
        let Some(retry) = attempt.checked_sub(2) else { return Duration::ZERO };
        let position = usize::try_from(retry).unwrap_or(usize::MAX);
        let own = &self.settings.own_waits_s;
        if let Some(last) = own.last() {
            return Duration::from_secs(*own.get(position).unwrap_or(last));
        }
        let wait_s = WAITS_S[position.min(WAITS_S.len() - 1)];
        Duration::from_secs(wait_s.saturating_mul(self.settings.initial_backoff_s).min(self.settings.max_backoff_s))
    }

    /// The wait before `attempt` (from 1). `retry_after` lengthens it, up to the longest backoff; `draw` is any random
    /// number and decides the jitter, which never makes a retry come before the `retry_after`.
    pub fn jittered_wait_before(&self, attempt: u32, retry_after: Option<Duration>, draw: u64) -> Duration {
        if attempt < 2 {
            return Duration::ZERO;
        }
        let asked = retry_after.unwrap_or_default().min(Duration::from_secs(self.settings.max_backoff_s));
        let wait = self.wait_before(attempt).max(asked);
        self.jittered(wait, draw).max(asked)
    }

    fn jittered(&self, wait: Duration, draw: u64) -> Duration {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let span_ms = wait_ms.saturating_mul(u64::from(self.settings.jitter_percent.min(100))) / 100;
        let shift_ms = draw % (span_ms.saturating_mul(2).saturating_add(1));
        Duration::from_millis(wait_ms.saturating_sub(span_ms).saturating_add(shift_ms))
    }
}
