//! The limits' own time. It goes on by a steady clock and never jumps, whatever is done to the time of day.

use crate::clock::Clock;
use crate::domain::time::Timestamp;

/// Tells the time by which windows are saved and loaded. It begins near the time of day and may part from it, so it is compared
/// only with readings of its own. Clones tell the same time.
#[derive(Clone, Debug)]
pub struct LimitTime {
    clock: Clock,
    /// What it would be when the steady clock stood at zero, in milliseconds.
    origin_ms: i64,
}

impl LimitTime {
    /// One that stands at `start` now, which must not be earlier than anything that was saved and is to be loaded.
    pub fn starting_at(clock: &Clock, start: Timestamp) -> Self {
        let clock = clock.clone();
        let origin_ms = start.unix_ms().saturating_sub(steady_ms(&clock));
        Self { clock, origin_ms }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.at_steady_ms(steady_ms(&self.clock))
    }

    /// The time, and what the steady clock showed at that moment in milliseconds.
    pub(crate) fn now_and_steady_ms(&self) -> (Timestamp, i64) {
        let steady_ms = steady_ms(&self.clock);
        (self.at_steady_ms(steady_ms), steady_ms)
    }

    /// Where the time is read.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn at_steady_ms(&self, steady_ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(self.origin_ms.saturating_add(steady_ms))
    }
}

fn steady_ms(clock: &Clock) -> i64 {
    i64::try_from(clock.steady().millis()).unwrap_or(i64::MAX)
}
