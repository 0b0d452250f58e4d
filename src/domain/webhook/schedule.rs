//! When a notification is tried again.

use std::time::Duration;

use crate::domain::webhook::recent::USUAL_PERMILLE;

/// The first attempt whose wait depends on how its endpoint does.
const ADAPTIVE_FROM: u32 = 7;

/// Waits before attempts 2 to 13 for an initial backoff of one second, in seconds; the last one repeats.
const WAITS_S: [u64; 12] = [1, 2, 4, 8, 16, 32, 60, 120, 300, 600, 1_800, 3_600];

/// What a schedule is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleSettings {
    /// Wait before the second try, in seconds; the built-in waits are multiplied by it.
    pub initial_backoff_s: u64,
    /// Longest wait of the built-in schedule, of a `Retry-After` and of a wait that was made longer, in seconds.
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
    /// Later waits are multiplied by this, in thousandths.
    factor_permille: u32,
}

impl From<ScheduleSettings> for Schedule {
    fn from(settings: ScheduleSettings) -> Self {
        Self { settings, factor_permille: USUAL_PERMILLE }
    }
}

impl Schedule {
    /// The same for an endpoint whose later waits are multiplied by this, in thousandths.
    #[must_use]
    pub fn at_pace(self, factor_permille: u32) -> Self {
        Self { factor_permille, ..self }
    }

    /// The wait before `attempt` (from 1) without jitter; zero before the first.
    pub fn wait_before(&self, attempt: u32) -> Duration {
        let usual = self.usual_wait_before(attempt);
        if attempt < ADAPTIVE_FROM {
            return usual;
        }
        // An own list may have longer waits than the longest backoff; those are not cut.
        let longest = usual.max(Duration::from_secs(self.settings.max_backoff_s));
        usual.saturating_mul(self.factor_permille).checked_div(USUAL_PERMILLE).unwrap_or(usual).min(longest)
    }

    /// The wait for an endpoint that does neither well nor badly.
    fn usual_wait_before(&self, attempt: u32) -> Duration {
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
    /// number and decides the jitter. No retry comes before the `retry_after`, and those that were told the same one do not
    /// all come at that moment.
    pub fn jittered_wait_before(&self, attempt: u32, retry_after: Option<Duration>, draw: u64) -> Duration {
        if attempt < 2 {
            return Duration::ZERO;
        }
        let asked = retry_after.unwrap_or_default().min(Duration::from_secs(self.settings.max_backoff_s));
        let wait = self.wait_before(attempt).max(asked);
        let (wait_ms, asked_ms) = (whole_ms(wait), whole_ms(asked));
        let span_ms = wait_ms.saturating_mul(u64::from(self.settings.jitter_percent.min(100))) / 100;
        let earliest_ms = wait_ms.saturating_sub(span_ms).max(asked_ms);
        let latest_ms = wait_ms.saturating_add(span_ms);
        let shift_ms = draw % latest_ms.saturating_sub(earliest_ms).saturating_add(1);
        Duration::from_millis(earliest_ms.saturating_add(shift_ms))
    }
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
