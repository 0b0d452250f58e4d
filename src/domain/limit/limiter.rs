//! One decision over every limit.

use std::time::Duration;

use crate::domain::limit::buckets::Buckets;
use crate::domain::limit::days::DailyUsage;
use crate::domain::limit::figures::LimitFigures;
use crate::domain::limit::leases::{LeaseId, Leases};
use crate::domain::limit::ring::BurstRing;
use crate::domain::limit::snapshot::{
    LimiterSnapshot, UnseenSpan, restore_buckets, ring_known_us, save_buckets, save_ring, whole_ms,
};
use crate::domain::limit::view::{ConcurrencyView, LimitView, Refusal, WindowView, millis_up};
use crate::domain::time::{Monotonic, Timestamp};

/// Ticks before the clock's start, so that what happened before a restart has a place in time (50 days). Whole milliseconds.
const ORIGIN_US: u64 = 50 * 86_400 * 1_000_000;
/// By how much the limits' own time and ticks of the same process may differ at most over the life of a snapshot.
const SAME_PROCESS_US: u64 = 10_000;
const MINUTE_BUCKETS: u32 = 60;
const MINUTE_WIDTH_US: u64 = 1_000_000;
const HOUR_BUCKETS: u32 = 240;
const HOUR_WIDTH_US: u64 = 15_000_000;

/// What a limiter decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Admitted and counted.
    Admitted {
        /// The right to be in flight; to be given back.
        lease: LeaseId,
        /// The limits after it.
        view: LimitView,
    },
    /// Refused; nothing was counted.
    Refused(Refusal),
    /// The request costs more than a window can ever hold; waiting does not help.
    CostTooLarge {
        /// The most that one request may cost.
        cost_max: u32,
    },
}

/// The windows of one merchant.
#[derive(Clone, Debug)]
pub struct Limiter {
    figures: LimitFigures,
    burst: BurstRing,
    minute: Buckets,
    hour: Buckets,
    /// The latest time seen; a clock that goes back (it never should) only makes this stricter.
    last: u64,
}

impl Limiter {
    /// A limiter with no history.
    pub fn new(figures: LimitFigures, now: Monotonic) -> Self {
        let figures = figures.clamped();
        let tick = ORIGIN_US + now.micros();
        Self {
            figures,
            burst: BurstRing::new(figures.burst, figures.burst_window_us(), tick),
            minute: Buckets::new(MINUTE_BUCKETS, MINUTE_WIDTH_US, figures.per_minute, tick),
            hour: Buckets::new(HOUR_BUCKETS, HOUR_WIDTH_US, figures.per_hour, tick),
            last: tick,
        }
    }

    /// The limits in force.
    pub const fn figures(&self) -> LimitFigures {
        self.figures
    }

    #[inline]
    fn advance(&mut self, now: Monotonic) -> u64 {
        let tick = (ORIGIN_US + now.micros()).max(self.last);
        self.last = tick;
        self.burst.advance(tick);
        self.minute.advance(tick);
        self.hour.advance(tick);
        tick
    }

    /// Decides one request of `cost` (at least 1) over all windows and the leases, in one step: either everything is
    /// counted and a lease granted, or nothing changes.
    pub fn decide(&mut self, leases: &mut Leases, cost: u32, now: Monotonic) -> Decision {
        let cost = cost.max(1);
        let cost_max = self.figures.burst.min(self.figures.per_minute).min(self.figures.per_hour);
        if cost > cost_max {
            return Decision::CostTooLarge { cost_max };
        }
        let tick = self.advance(now);
        leases.expire(now);
        let busy = leases.in_use() >= self.figures.concurrent;
        if busy || !(self.burst.fits(cost) && self.minute.fits(cost) && self.hour.fits(cost)) {
            return self.refuse(leases, cost, busy, tick);
        }
        self.burst.record(cost, tick);
        self.minute.record(cost, tick);
        self.hour.record(cost, tick);
        let lease = leases.grant(now);
        Decision::Admitted { lease, view: self.view_at(leases, tick) }
    }

    #[inline(never)]
    fn refuse(&self, leases: &Leases, cost: u32, busy: bool, tick: u64) -> Decision {
        let waits_us = [self.burst.wait_us(cost, tick), self.minute.wait_us(cost, tick), self.hour.wait_us(cost, tick)];
        Decision::Refused(Refusal { view: self.view_at(leases, tick), waits_us, busy })
    }

    /// The limits as they stand; consumes nothing.
    pub fn view(&mut self, leases: &mut Leases, now: Monotonic) -> LimitView {
        let tick = self.advance(now);
        leases.expire(now);
        self.view_at(leases, tick)
    }

    /// Inlined, so that it is written where it is answered: a copy of it right after costs more than all the rest of it.
    #[inline(always)]
    fn view_at(&self, leases: &Leases, tick: u64) -> LimitView {
        let buckets = |window: &Buckets| WindowView {
            limit: window.limit(),
            window_ms: window.window_ms(),
            used: window.used(),
            reset_in_ms: millis_up(window.reset_us(tick)),
        };
        LimitView {
            per_second: self.figures.per_second,
            second: WindowView {
                limit: self.burst.limit(),
                window_ms: self.burst.window_ms(),
                used: self.burst.used(),
                reset_in_ms: millis_up(self.burst.reset_us(tick)),
            },
            minute: buckets(&self.minute),
            hour: buckets(&self.hour),
            concurrency: ConcurrencyView { limit: self.figures.concurrent, used: leases.in_use() },
        }
    }

    /// Puts other limits in force and keeps the history: a raised limit has room at once, a lowered one refuses until
    /// what was admitted fits.
    pub fn reconfigure(&mut self, figures: LimitFigures, now: Monotonic) {
        let figures = figures.clamped();
        let tick = self.advance(now);
        self.burst.reconfigure(figures.burst, figures.burst_window_us(), tick);
        self.minute.set_limit(figures.per_minute);
        self.hour.set_limit(figures.per_hour);
        self.figures = figures;
    }

    /// Whether every window is empty, so that a new limiter would decide the same.
    pub fn is_empty(&mut self, now: Monotonic) -> bool {
        self.advance(now);
        self.burst.used() == 0 && self.minute.used() == 0 && self.hour.used() == 0
    }

    /// The windows and the daily counts as they are stored at `saved_at` of the limits' own time; without what is known of thresholds ([`NearLimits`]).
    ///
    /// [`NearLimits`]: crate::domain::limit::NearLimits
    pub fn save(&mut self, days: &DailyUsage, now: Monotonic, saved_at: Timestamp) -> LimiterSnapshot {
        let tick = self.advance(now);
        let saved_tick = whole_ms(tick);
        LimiterSnapshot {
            version: LimiterSnapshot::VERSION,
            saved_at,
            saved_tick: Some(saved_tick),
            saved_early_us: u32::try_from(saved_tick - tick).unwrap_or(0),
            burst: save_ring(&self.burst, saved_tick),
            burst_known_us: ring_known_us(&self.burst, tick, saved_tick),
            minute: save_buckets(&self.minute, saved_tick),
            hour: save_buckets(&self.hour, saved_tick),
            days: days.days().to_vec(),
            near: Vec::new(),
        }
    }

    /// A limiter that goes on from a snapshot (or from nothing), moved by the time since (it is `at` of the limits' own time),
    /// and charged for the spans in which admissions may have been made that no snapshot knows. Never lighter than the truth:
    /// a snapshot of an unknown form counts as an hour in which as much was admitted as can be.
    pub fn restore(
        figures: LimitFigures,
        snapshot: Option<&LimiterSnapshot>,
        unseen: &[UnseenSpan],
        now: Monotonic,
        at: Timestamp,
    ) -> Self {
        let mut limiter = Self::new(figures, now);
        let tick = limiter.last;
        let unread = snapshot.filter(|snapshot| !snapshot.is_known()).map(LimiterSnapshot::unread);
        if let Some(unread) = unread {
            limiter.charge(&unread, at);
        }
        if let Some(snapshot) = snapshot.filter(|snapshot| snapshot.is_known()) {
            let saved_tick = saved_tick(snapshot, tick, at);
            for (age_us, count) in snapshot.before_burst() {
                limiter.burst.record(count, saved_tick.saturating_sub(age_us));
            }
            for (age_ms, count) in snapshot.burst.iter().rev() {
                limiter.burst.record(*count, saved_tick.saturating_sub(u64::from(*age_ms) * 1000));
            }
            restore_buckets(&mut limiter.minute, &snapshot.minute, saved_tick, tick);
            restore_buckets(&mut limiter.hour, &snapshot.hour, saved_tick, tick);
        }
        let saved_at = snapshot.map_or(Timestamp::from_unix_ms(i64::MIN), |snapshot| snapshot.saved_at);
        for span in unseen {
            limiter.charge(&span.after(saved_at), at);
        }
        limiter.burst.reconfigure(limiter.figures.burst, limiter.figures.burst_window_us(), tick);
        limiter
    }

    /// Counts the most that could have been admitted in a span that nobody saw, as late as it could have been.
    fn charge(&mut self, span: &UnseenSpan, at: Timestamp) {
        let length_us = micros(span.until.since(span.since));
        if length_us == 0 {
            return;
        }
        let highest = span.former.map_or(self.figures, |former| self.figures.highest(&former.clamped()));
        let most = |limit: u32, window_us: u64| u64::from(limit).saturating_mul(length_us.div_ceil(window_us));
        let in_bursts = match span.former {
            None => most(highest.burst, highest.burst_window_us()),
            Some(_) => most_of_changing(&highest, length_us),
        };
        let admitted = in_bursts
            .min(most(highest.per_minute, self.minute.window_us()))
            .min(most(highest.per_hour, self.hour.window_us()));
        let tick = self.last.saturating_sub(micros(at.since(span.until)));
        let charged = |limit: u32| u32::try_from(admitted).unwrap_or(u32::MAX).min(limit);
        // All of it, so that the ring knows that there was more when a longer window comes into force.
        self.burst.record(u32::try_from(admitted).unwrap_or(u32::MAX), tick);
        self.minute.record(charged(highest.per_minute), tick);
        self.hour.record(charged(highest.per_hour), tick);
    }
}

/// The most that burst windows let through in a span in which figures changed, none of them above `highest`. Each admission
/// was within the window of its own figures; those windows, laid one before the other, fill the span at no more than the
/// rate, but for the first, of which all may be in it.
fn most_of_changing(highest: &LimitFigures, length_us: u64) -> u64 {
    let at_rate = (u128::from(highest.per_second) * u128::from(length_us)).div_ceil(1_000_000);
    u64::try_from(at_rate).unwrap_or(u64::MAX).saturating_add(u64::from(highest.burst))
}

/// When a snapshot was made, in ticks of a limiter that is restored from it at `tick`. Ticks of another process say nothing,
/// nor do those from before the machine was suspended: they are believed only when they say what the limits' time says,
/// and that is cut to milliseconds, so up to one less may have passed.
fn saved_tick(snapshot: &LimiterSnapshot, tick: u64, at: Timestamp) -> u64 {
    let elapsed = at.since(snapshot.saved_at).saturating_sub(Duration::from_millis(1));
    let at_latest = (tick + u64::from(snapshot.saved_early_us.min(999))).saturating_sub(micros(elapsed));
    let is_of_this_process = |saved: &u64| at_latest.checked_sub(*saved).is_some_and(|later| later <= SAME_PROCESS_US);
    snapshot.saved_tick.filter(is_of_this_process).unwrap_or(at_latest)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
