//! What a decision says about the limits: the figures for headers and for `GET /limits`, and a refusal.

use std::time::Duration;

use crate::domain::limit::figures::{LimitFigures, Policy, PolicySet};

/// From this share of any limit on a client is told that it is near, in percent.
const NEAR_LIMIT_PERCENT: u64 = 80;
/// Nobody can say when a request in flight will end, so this is what a client is told to wait.
const CONCURRENCY_WAIT_US: u64 = 1_000_000;

/// One window as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowView {
    /// Admissions that fit into the window.
    pub limit: u32,
    /// Length of the window in milliseconds, rounded up.
    pub window_ms: u32,
    /// Admissions in it. Above `limit` for a while after a limit was lowered.
    pub used: u32,
    /// Milliseconds, rounded up, until it next frees an admission; 0 when it is empty.
    pub reset_in_ms: u32,
}

impl WindowView {
    /// Admissions that are possible now.
    pub const fn remaining(&self) -> u32 {
        self.limit.saturating_sub(self.used)
    }

    /// Length of the window in whole seconds, rounded up, as headers write it.
    pub const fn window_s(&self) -> u32 {
        self.window_ms.div_ceil(1000)
    }
}

/// Requests in flight as they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencyView {
    /// Requests that may be in flight.
    pub limit: u32,
    /// Requests that are.
    pub used: u32,
}

/// All limits of a merchant as they stand after a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitView {
    /// The advertised rate.
    pub per_second: u32,
    /// The burst window.
    pub second: WindowView,
    /// The minute.
    pub minute: WindowView,
    /// The hour.
    pub hour: WindowView,
    /// Requests in flight.
    pub concurrency: ConcurrencyView,
}

impl LimitView {
    /// The figures in force.
    pub const fn figures(&self) -> LimitFigures {
        LimitFigures {
            per_second: self.per_second,
            per_minute: self.minute.limit,
            per_hour: self.hour.limit,
            burst: self.second.limit,
            concurrent: self.concurrency.limit,
        }
    }

    /// The windows with their names, shortest first.
    pub const fn windows(&self) -> [(Policy, WindowView); 3] {
        [(Policy::Second, self.second), (Policy::Minute, self.minute), (Policy::Hour, self.hour)]
    }

    /// The window under which the fewest admissions are possible now; of equals the longest, since it lasts.
    pub fn tightest(&self) -> (Policy, WindowView) {
        let [second, minute, hour] = self.windows();
        [minute, hour].into_iter().fold(second, |tightest, candidate| {
            if candidate.1.remaining() <= tightest.1.remaining() { candidate } else { tightest }
        })
    }

    /// The window of which the smallest share is left; of equals the longest.
    pub fn fullest(&self) -> (Policy, WindowView) {
        let share = |window: &WindowView, of: u32| u64::from(window.remaining()) * u64::from(of);
        let [second, minute, hour] = self.windows();
        [minute, hour].into_iter().fold(second, |fullest, candidate| {
            let fuller = share(&candidate.1, fullest.1.limit) <= share(&fullest.1, candidate.1.limit);
            if fuller { candidate } else { fullest }
        })
    }

    /// The limit of which the largest share is used, and that share in thousandths; above 1,000 for a while after a limit
    /// was lowered. Of equals the longest window, and requests in flight last.
    pub fn most_used(&self) -> (Policy, u32) {
        let thousandths =
            |used: u32, limit: u32| u32::try_from(u64::from(used) * 1000 / u64::from(limit.max(1))).unwrap_or(u32::MAX);
        let windows = self.windows().map(|(policy, window)| (policy, thousandths(window.used, window.limit)));
        let in_flight = thousandths(self.concurrency.used, self.concurrency.limit);
        let [second, minute, hour] = windows;
        let fullest = [minute, hour].into_iter().fold(second, |most, one| if one.1 >= most.1 { one } else { most });
        if in_flight > fullest.1 { (Policy::Concurrency, in_flight) } else { fullest }
    }

    /// Whether any limit is used to 80 % or more.
    pub fn near_limit(&self) -> bool {
        let near = |used: u32, limit: u32| u64::from(used) * 100 >= u64::from(limit) * NEAR_LIMIT_PERCENT;
        let windows = self.windows();
        windows.iter().any(|(_, window)| near(window.used, window.limit))
            || near(self.concurrency.used, self.concurrency.limit)
    }
}

/// A request was refused and nothing was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The limits as they stand.
    pub view: LimitView,
    /// How long each window refuses what was asked, in microseconds: second, minute, hour; 0 where it does not.
    pub(super) waits_us: [u64; 3],
    /// Whether too many requests are in flight.
    pub(super) busy: bool,
}

impl Refusal {
    const WINDOWS: [Policy; 3] = [Policy::Second, Policy::Minute, Policy::Hour];

    /// Every limit that refused.
    pub fn violated(&self) -> PolicySet {
        let mut violated = PolicySet::default();
        for (policy, wait_us) in Self::WINDOWS.into_iter().zip(self.waits_us) {
            if wait_us > 0 {
                violated.insert(policy);
            }
        }
        if self.busy {
            violated.insert(Policy::Concurrency);
        }
        violated
    }

    /// The limit that refuses longest, which is the one to tell the client about.
    pub fn limit(&self) -> Policy {
        let mut longest = (Policy::Concurrency, 0);
        for (policy, wait_us) in Self::WINDOWS.into_iter().zip(self.waits_us) {
            if wait_us > longest.1 {
                longest = (policy, wait_us);
            }
        }
        longest.0
    }

    /// How long every window goes on refusing, if nothing is admitted meanwhile; zero when only requests in flight
    /// refused.
    pub fn blocked_for(&self) -> Duration {
        Duration::from_micros(self.waits_us.into_iter().max().unwrap_or(0))
    }

    /// How long to wait. A client that waits it is not refused again for the same window, unless others came first.
    pub fn wait(&self) -> Duration {
        let least_us = if self.busy { CONCURRENCY_WAIT_US } else { 0 };
        self.blocked_for().max(Duration::from_micros(least_us))
    }

    /// [`Refusal::wait`] in whole seconds, rounded up, at least 1.
    pub fn retry_after_s(&self) -> u64 {
        u64::try_from(self.wait().as_micros().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1)
    }

    /// What the same request would be told `elapsed` later if nothing was admitted meanwhile; `None` when no window
    /// would refuse it any more. Refusals consume nothing, so between two admissions this is exactly the decision that
    /// would be made, for the limits that refuse; the figures of the others are those of the refusal.
    pub fn after(&self, elapsed: Duration, busy: bool) -> Option<Self> {
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let waits_us = self.waits_us.map(|wait_us| wait_us.saturating_sub(elapsed_us));
        if waits_us == [0; 3] {
            return None;
        }
        let mut view = self.view;
        let windows = [&mut view.second, &mut view.minute, &mut view.hour];
        for (window, wait_us) in windows.into_iter().zip(waits_us) {
            if wait_us > 0 {
                window.reset_in_ms = millis_up(wait_us);
            }
        }
        Some(Self { view, waits_us, busy })
    }

    /// The window to show with the refusal: the one that refuses longest, or the fullest when only requests in flight
    /// refused.
    pub fn window(&self) -> (Policy, WindowView) {
        match self.limit() {
            Policy::Second => (Policy::Second, self.view.second),
            Policy::Minute => (Policy::Minute, self.view.minute),
            Policy::Hour => (Policy::Hour, self.view.hour),
            Policy::Concurrency => self.view.tightest(),
        }
    }
}

/// Microseconds in milliseconds, rounded up.
#[inline]
pub(super) fn millis_up(micros: u64) -> u32 {
    u32::try_from(micros.saturating_add(999) / 1000).unwrap_or(u32::MAX)
}
