//! What is done about a clock that is wrong: the gateway does not open with one that is behind what its store has seen,
//! nothing is deleted for its age while the time of day jumps, and ages from before a step back are counted as too long
//! rather than too short.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::domain::clock_watch::{ClockWatch, START_GAP_MAX, STEADY_FOR};
use crate::domain::time::Timestamp;

/// How far behind a clock may be without being worth an entry in the audit.
pub(super) const BEHIND_UNNOTED: Duration = Duration::from_secs(300);

/// The time of day is behind the last change in the store by more than the configuration allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the machine's clock says {now}, but the last change in the store was made at {last}, {} s later. With a clock that \
     is behind, a charge could be sent again after its provider has forgotten the first one, so nothing is begun. Set \
     the clock and start again. If the clock is right now and was wrong then, start once with `tollgate serve --accept-clock`, or \
     with a larger [storage] clock_back_max_s", last.since(*now).as_secs()
)]
pub struct ClockIsBehind {
    now: Timestamp,
    last: Timestamp,
}

/// How far the time of day is behind the last change.
///
/// # Errors
/// [`ClockIsBehind`] when that is more than `back_max`.
pub(super) fn check_at_opening(
    last_written_at: Option<Timestamp>,
    now: Timestamp,
    back_max: Duration,
) -> Result<Duration, ClockIsBehind> {
    let Some(last) = last_written_at else { return Ok(Duration::ZERO) };
    let behind = last.since(now);
    if behind > back_max { Err(ClockIsBehind { now, last }) } else { Ok(behind) }
}

/// Watches a gateway's clock; see [`ClockWatch`]. Clones are the same watch. One that was not begun begins with its
/// first use.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClockGuard(Arc<Mutex<Option<ClockWatch>>>);

impl ClockGuard {
    /// Begins now, behind what was last written down.
    pub(crate) fn begin(clock: &Clock, last_written_at: Option<Timestamp>) -> Self {
        let watch = ClockWatch::new(last_written_at, clock.now(), clock.steady());
        if !watch.is_believed() {
            let (gap_h, wait_h) = (START_GAP_MAX.as_secs() / 3_600, STEADY_FOR.as_secs() / 3_600);
            tracing::info!(
                last_change = last_written_at.map(Timestamp::rfc3339),
                "the last change is more than {gap_h} h ago: nothing is deleted for its age before the clock has gone on \
                 steadily for {wait_h} h"
            );
        }
        Self(Arc::new(Mutex::new(Some(watch))))
    }

    /// Reads the clocks; whether the time of day may be used to delete something for good.
    pub(crate) fn is_believed(&self, clock: &Clock) -> bool {
        self.look(clock, ClockWatch::is_believed)
    }

    /// Reads the clocks; by how much the time of day may have been set back since it was `then`.
    pub(crate) fn set_back_since(&self, clock: &Clock, then: Timestamp) -> Duration {
        self.look(clock, |watch| watch.set_back_since(then))
    }

    /// Reads the clocks; by how much the time of day may have been set forward since it was `then`.
    pub(crate) fn set_forward_since(&self, clock: &Clock, then: Timestamp) -> Duration {
        self.look(clock, |watch| watch.set_forward_since(then))
    }

    fn look<T>(&self, clock: &Clock, ask: impl FnOnce(&ClockWatch) -> T) -> T {
        let mut watch = self.0.lock();
        // Both are read while nobody else is at it: readings must not go back.
        let (now, steady) = (clock.now(), clock.steady());
        let watch = watch.get_or_insert_with(|| ClockWatch::new(None, now, steady));
        let was_believed = watch.is_believed();
        if let Some(step) = watch.observe(now, steady) {
            tracing::warn!(
                by_s = step.by_ms / 1_000,
                now = now.rfc3339(),
                "the time of day has jumped; nothing is deleted for its age before it has gone on steadily for {} h",
                STEADY_FOR.as_secs() / 3_600
            );
        } else if !was_believed && watch.is_believed() {
            tracing::info!("the clock has gone on steadily; what is old enough is deleted again");
        }
        ask(watch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_behind_the_last_change_is_refused_in_words() {
        let (last, back_max) = (Timestamp::from_unix_s(1_737_715_200), Duration::from_secs(300));
        let check = |now| check_at_opening(Some(last), now, back_max);
        assert_eq!(check(last.plus(Duration::from_secs(1))), Ok(Duration::ZERO));
        assert_eq!(check(last.minus(back_max)), Ok(back_max));
        assert_eq!(check_at_opening(None, Timestamp::from_unix_s(0), back_max), Ok(Duration::ZERO));
        let refusal = check(last.minus(Duration::from_secs(301))).unwrap_err().to_string();
        for part in ["2025-01-24T10:34:59Z", "2025-01-24T10:40:00Z", "301 s", "--accept-clock", "clock_back_max_s"] {
            assert!(refusal.contains(part), "{refusal}");
        }
    }
}
