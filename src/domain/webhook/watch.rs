//! How an endpoint does, and what follows from it: whether it is sent to, how much at once, when it is tried again, what
//! its merchant is told.

use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::domain::webhook::health::Sign;
use crate::domain::webhook::recent::Recent;
use crate::domain::webhook::{Breaker, EndpointHealth, EndpointTrouble, EndpointTry, HealthChange, TryOutcome};

/// After failures for longer than this, a success begins a recovery, also where the breaker never opened.
const OUTAGE_MIN: Duration = Duration::from_secs(60);
/// A backlog that is released this fast needs no restraint.
const RATE_ENOUGH_PER_S: f64 = 10_000.0;
/// Open times differ by up to this share either way, in percent, so that endpoints that failed together do not come back
/// together.
const OPEN_JITTER_PERCENT: u64 = 10;
/// What need not be known at once after a crash is written no more often than this, of an endpoint that comes and goes.
const WRITTEN_EVERY: Duration = Duration::from_secs(10);
/// Of an endpoint that fails, that it still does is written at least this often, if it is tried.
const WRITTEN_WITHIN: Duration = Duration::from_secs(3_600);
/// And after so many tries.
const WRITTEN_EVERY_TRIES: u64 = 100;
/// What is known of an endpoint is not later than now by more than this, unless the clock was set back.
const CLOCK_STEP_MIN: Duration = Duration::from_secs(60);

/// What is made of what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// Tries in the breaker's window before it may open.
    pub breaker_min: u32,
    /// Share of them that failed at which it opens, in percent.
    pub breaker_failure_percent: u32,
    /// Length of the window.
    pub breaker_window: Duration,
    /// How long it stays open; doubles each time it opens again.
    pub breaker_open: Duration,
    /// How long at most.
    pub breaker_open_max: Duration,
    /// An endpoint that has taken nothing for this long is told about.
    pub failing_event_after: Duration,
    /// An endpoint that has taken nothing for this long is disabled, if there is such a time.
    pub disable_after: Option<Duration>,
    /// Tries that must have failed by then.
    pub disable_min_tries: u64,
    /// Requests a second with which a recovered endpoint's backlog begins; 0 for all at once.
    pub recovery_rate_per_s: u32,
    /// Requests that may be under way to one endpoint, at least 1.
    pub in_flight_max: usize,
}

impl HealthSettings {
    /// How long a breaker is open at the very most.
    pub fn open_at_most(&self) -> Duration {
        self.breaker_open_max + self.breaker_open_max * 10 / 100
    }

    /// Requests that may have been started `elapsed` after a recovery, from 1 on; `None` when there is no more bound.
    fn released(&self, elapsed: Duration) -> Option<u32> {
        let rate = f64::from(self.recovery_rate_per_s);
        let growth = elapsed.as_secs_f64().exp2();
        let is_bounded = self.recovery_rate_per_s > 0 && rate * growth <= RATE_ENOUGH_PER_S;
        // Bounded by the rate that is enough, so it fits.
        is_bounded.then(|| (rate * (growth - 1.0)) as u32 + 1)
    }

    /// How long after a recovery a request may be started before which so many have `ended`.
    fn released_after(&self, ended: u32) -> Duration {
        let doublings = (f64::from(ended) / f64::from(self.recovery_rate_per_s) + 1.0).log2();
        // Rounded up, so that it is never too early.
        Duration::from_millis((doublings * 1_000.0).ceil() as u64)
    }
}

/// One endpoint: what is stored of it and what is only remembered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EndpointWatch {
    health: EndpointHealth,
    recent: Recent,
    /// Something has changed that is to be written soon.
    is_unwritten: bool,
}

/// What follows from a try.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// What is known of the endpoint from now on.
    pub health: EndpointHealth,
    /// What has changed about it.
    pub changes: Vec<HealthChange>,
    /// It has recovered.
    pub has_recovered: bool,
    /// That has to be committed with the try.
    pub is_to_be_written: bool,
}

impl EndpointWatch {
    /// An endpoint of which `health` was read at `now`.
    pub fn new(health: EndpointHealth, now: Timestamp, settings: &HealthSettings) -> Self {
        let health = health.at_start(now, settings.open_at_most());
        let mut recent = Recent::default();
        if let Some(since) = health.recovering_since {
            // As if as much as may be had been sent: a restart is no reason for more at once.
            let released = settings.released(now.since(since)).unwrap_or(u32::MAX);
            recent.begin_recovery(released.saturating_sub(1));
        }
        Self { health, recent, is_unwritten: false }
    }

    /// What is known of it.
    pub const fn health(&self) -> &EndpointHealth {
        &self.health
    }

    /// The same where what is stored was changed by somebody else.
    #[must_use]
    pub fn with_stored(mut self, stored: EndpointHealth) -> Self {
        let last_success_at = self.health.last_success_at.max(stored.last_success_at);
        let changes = self.health.changes.max(stored.changes);
        self.health = EndpointHealth { last_success_at, changes, ..stored };
        self
    }

    /// Lets times that lie in the future hold nothing up, because the clock was ahead and was set back since. `now` is the
    /// present.
    pub fn settle(&mut self, now: Timestamp, settings: &HealthSettings) {
        let latest = now.plus(CLOCK_STEP_MIN);
        let health = &self.health;
        let noted = [
            health.failing_since,
            health.last_failure_at,
            health.last_success_at,
            health.recovering_since,
            health.dead_until_success,
        ];
        let is_ahead = noted.into_iter().flatten().any(|at| at > latest)
            || health.open_until.is_some_and(|until| until > latest.plus(settings.open_at_most()));
        if is_ahead {
            self.health = self.health.at_start(now, settings.open_at_most());
        }
        self.recent.settle(now, CLOCK_STEP_MIN);
    }

    /// Until when nothing may be sent, if that is so at `now`.
    pub fn closed_until(&self, now: Timestamp, settings: &HealthSettings) -> Option<Timestamp> {
        let open = match self.health.breaker(now) {
            Breaker::Open { until } => Some(until),
            Breaker::Closed | Breaker::Probing { .. } => None,
        };
        let released =
            self.recovery(now, settings).map(|(since, _)| since.plus(settings.released_after(self.recent.ended)));
        open.max(self.recent.left_alone_until(now)).max(released.filter(|at| *at > now))
    }

    /// Requests that may be under way to it, at least 1.
    pub fn places(&self, now: Timestamp, settings: &HealthSettings) -> usize {
        let all = settings.in_flight_max.max(1);
        match self.health.breaker(now) {
            Breaker::Closed => {}
            Breaker::Open { .. } | Breaker::Probing { .. } => return 1,
        }
        let Some((_, released)) = self.recovery(now, settings) else { return all };
        let doubled = 1_usize.checked_shl(self.recent.doublings).unwrap_or(all);
        let left = usize::try_from(released.saturating_sub(self.recent.ended)).unwrap_or(all);
        all.min(doubled).min(left).max(1)
    }

    /// By how much later waits are multiplied, in thousandths, from 500 to 2000.
    pub fn factor_permille(&self, now: Timestamp) -> u32 {
        self.recent.factor_permille(now, self.health.tries_since_success)
    }

    /// Since when its backlog is released slowly, and how many requests may have been started by now; `None` when it is
    /// not.
    fn recovery(&self, now: Timestamp, settings: &HealthSettings) -> Option<(Timestamp, u32)> {
        let since = self.health.recovering_since?;
        Some((since, settings.released(now.since(since))?))
    }

    /// What follows from a try. `gone` is why the endpoint has to be disabled, if the receiver said so; `draw` is any random
    /// number. Nothing is remembered of it before [`EndpointWatch::learn`].
    pub fn judge(&self, a_try: &EndpointTry, gone: Option<&str>, settings: &HealthSettings, draw: u64) -> Judged {
        let before = &self.health;
        let mut judged = Judged { health: *before, changes: Vec::new(), has_recovered: false, is_to_be_written: false };
        judged.health.note(a_try);
        match gone {
            Some(reason) => judged.disable(reason.to_owned()),
            None => {
                self.judge_breaker(a_try, settings, draw, &mut judged);
                judge_time(a_try, settings, &mut judged);
            }
        }
        judged.is_to_be_written = self.is_to_be_written(a_try, &judged);
        if judged.is_to_be_written {
            judged.health.changes = before.changes.saturating_add(1);
            judged.health.updated_at = a_try.ended_at;
        }
        judged
    }

    fn judge_breaker(&self, a_try: &EndpointTry, settings: &HealthSettings, draw: u64, judged: &mut Judged) {
        let now = a_try.ended_at;
        match (self.health.breaker(now), a_try.outcome.sign()) {
            // Sent before it opened. That it fails is known, and that it does not is for the one that is sent to find out.
            (Breaker::Open { .. }, _) => {}
            (Breaker::Probing { since }, _) if a_try.began_at < since => {}
            (Breaker::Probing { .. }, Sign::Takes | Sign::Alive) => {
                judged.health.open_until = None;
                judged.changes.push(HealthChange::Closed);
                judged.recover(now);
            }
            (Breaker::Probing { .. }, Sign::Fails) => self.open(settings, now, draw, judged),
            (Breaker::Closed, Sign::Fails) => {
                let mut recent = self.recent;
                recent.note(a_try, settings.breaker_window);
                let (tries, failed) = recent.in_window(now, settings.breaker_window);
                let share = u64::from(tries) * u64::from(settings.breaker_failure_percent);
                if tries >= settings.breaker_min && u64::from(failed) * 100 >= share {
                    self.open(settings, now, draw, judged);
                }
            }
            (Breaker::Closed, Sign::Takes) => {
                let failing_since = self.health.failing_since;
                if failing_since.is_some_and(|since| now.since(since) > OUTAGE_MIN) {
                    judged.recover(now);
                }
            }
            (Breaker::Closed, Sign::Alive) => {}
        }
    }

    fn open(&self, settings: &HealthSettings, now: Timestamp, draw: u64, judged: &mut Judged) {
        let before = &self.health;
        let has_just_recovered =
            before.recovering_since.is_some_and(|since| now.since(since) <= settings.breaker_open_max * 2);
        let is_again = before.open_until.is_some() || has_just_recovered;
        let opens = if is_again { before.opens.saturating_add(1) } else { 1 };
        let doubled = settings.breaker_open.saturating_mul(2_u32.saturating_pow(opens.saturating_sub(1)));
        let until = now.plus(jittered(doubled.min(settings.breaker_open_max), draw));
        judged.health.opens = opens;
        judged.health.open_until = Some(until);
        judged.changes.push(HealthChange::Opened { until });
    }

    fn is_to_be_written(&self, a_try: &EndpointTry, judged: &Judged) -> bool {
        let (before, after) = (&self.health, &judged.health);
        let waits_for_success = before.dead_until_success.is_some_and(|dead_at| !before.has_taken_since(dead_at));
        let is_urgent = !judged.changes.is_empty()
            || judged.has_recovered
            || after.dead_until_success != before.dead_until_success
            || (waits_for_success && a_try.outcome == TryOutcome::Success)
            || (after.tries_since_success > 0 && after.tries_since_success.is_multiple_of(WRITTEN_EVERY_TRIES));
        let unwritten_for = a_try.ended_at.since(before.updated_at);
        let is_different = self.is_unwritten || begins_or_ends(before, after);
        is_urgent
            || (is_different && unwritten_for >= WRITTEN_EVERY)
            || (after.failing_since.is_some() && unwritten_for >= WRITTEN_WITHIN)
    }

    /// Remembers a try that is committed. `written` is what was written with it; `None` if nothing was.
    pub fn learn(&mut self, a_try: &EndpointTry, written: Option<&Judged>, settings: &HealthSettings) {
        self.recent.note(a_try, settings.breaker_window);
        // Of two that were written, the one that was written first may be learned of last.
        let Some(written) = written.filter(|written| written.health.changes > self.health.changes) else {
            let before = self.health;
            self.health.note(a_try);
            self.is_unwritten |= begins_or_ends(&before, &self.health);
            return;
        };
        self.health = written.health;
        self.is_unwritten = false;
        if written.has_recovered {
            self.recent.begin_recovery(0);
        }
        for change in &written.changes {
            match change {
                HealthChange::Opened { .. } | HealthChange::Closed => self.recent.forget_window(),
                HealthChange::Disabled { .. } => self.recent = Recent::default(),
                HealthChange::Failing(_) => {}
            }
        }
    }
}

impl Judged {
    fn recover(&mut self, now: Timestamp) {
        self.health.recovering_since = Some(now);
        self.has_recovered = true;
    }

    /// What is told about the endpoint next.
    fn trouble(&mut self) -> EndpointTrouble {
        self.health.told = self.health.told.saturating_add(1);
        EndpointTrouble {
            since: self.health.failing_since,
            tries: self.health.tries_since_success,
            sequence: self.health.told,
        }
    }

    fn disable(&mut self, reason: String) {
        let trouble = self.trouble();
        if self.health.open_until.is_some() {
            self.changes.push(HealthChange::Closed);
        }
        self.health = EndpointHealth { address: self.health.address, ..self.health.begun_anew() };
        self.changes.push(HealthChange::Disabled { reason, trouble });
    }
}

/// Tells the merchant of an endpoint that has been failing for long, and disables it after longer. Only a try that fails
/// is a reason, so an endpoint to which nothing is sent is left as it is.
fn judge_time(a_try: &EndpointTry, settings: &HealthSettings, judged: &mut Judged) {
    let now = a_try.ended_at;
    let health = &judged.health;
    let Some(since) = health.failing_since else { return };
    let (failing_for, tries) = (now.since(since), health.tries_since_success);
    let is_over = |after: Duration| failing_for >= after && tries >= settings.disable_min_tries;
    match (health.told_failing_at, settings.disable_after) {
        (None, _) if failing_for >= settings.failing_event_after => {
            judged.health.told_failing_at = Some(now);
            let trouble = judged.trouble();
            judged.changes.push(HealthChange::Failing(trouble));
        }
        // Never without having told before.
        (Some(_), Some(after)) if is_over(after) => {
            judged.disable(format!("nothing but failures for {}", in_words(after)));
        }
        _ => {}
    }
}

/// Whether a run of failures begins or ends.
fn begins_or_ends(before: &EndpointHealth, after: &EndpointHealth) -> bool {
    before.failing_since.is_some() != after.failing_since.is_some()
}

fn jittered(wait: Duration, draw: u64) -> Duration {
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let span_ms = wait_ms.saturating_mul(OPEN_JITTER_PERCENT) / 100;
    let shift_ms = draw % span_ms.saturating_mul(2).saturating_add(1);
    Duration::from_millis(wait_ms.saturating_sub(span_ms).saturating_add(shift_ms))
}

fn in_words(time: Duration) -> String {
    match (time.as_secs() / 86_400, time.as_secs() % 86_400) {
        (1, 0) => "1 day".to_owned(),
        (days, 0) => format!("{days} days"),
        _ => format!("{} seconds", time.as_secs()),
    }
}
