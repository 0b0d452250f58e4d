//! What Prometheus is told about webhooks. What happens on the way of each webhook is counted there, without a lock; what
//! only the store knows is looked for now and then, in the background.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::actors::webhook::rows::{Changed, End};
use crate::actors::webhook::{DeliveryObserver, Tried, WebhookActors};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{DueEntry, Endpoint, EndpointHealth, EndpointStatus, TryOutcome};
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, Gauge, Histogram, IntCounter, IntGauge, IntGaugeVec, advance};
use crate::gateway::webhooks::{Webhooks, unless_overtaken};
use crate::storage::unreadable::UnreadableRows;
use crate::storage::{Batch, Row, Scan, StoreError, keys, prefix_end, record};

/// From the end of one look at the store to the beginning of the next.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);
/// Rows read at once.
const PAGE_ROWS: usize = 256;
/// After each page a look rests so many times as long as reading it took: it has at most a quarter of one thread.
const REST_FACTOR: u32 = 3;
/// Up to so many rows of a kind are counted in each look. More are followed, and only counted anew when the count before is no longer good enough.
const COUNTED_MAX: i64 = 10_000;
/// Bounds of how long a request takes, in seconds.
const TRY_BOUNDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Bounds of how long a webhook is on its way, in seconds.
const LATENCY_BOUNDS: [f64; 14] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What may come of looking up a name.
const LOOK_UPS: [&str; 5] = ["ok", "cached", "failed", "timeout", "refused"];

/// A number that is followed by its changes, and corrected by counting.
#[derive(Debug, Default)]
struct Followed {
    value: AtomicI64,
    /// How much it has changed in all, either way.
    moved: AtomicU64,
    /// How much it has changed while it was last counted.
    unsure: AtomicU64,
    is_known: AtomicBool,
}

impl Followed {
    fn add(&self, by: i64) {
        if by != 0 {
            self.moved.fetch_add(by.unsigned_abs(), Ordering::Relaxed);
            self.value.fetch_add(by, Ordering::Relaxed);
        }
    }

    fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Whether it should be counted: it is not known, counting costs little, or it may be wrong by as much as it says. What
    /// came or went during a count may have been counted or not.
    fn wants_counting(&self) -> bool {
        let value = self.value.load(Ordering::Relaxed);
        let wrong_by = self.unsure.load(Ordering::Relaxed).saturating_mul(2);
        !self.is_known.load(Ordering::Relaxed) || value <= COUNTED_MAX || wrong_by >= value.unsigned_abs()
    }

    /// So many were `found` by a count that began when it had `moved` so far. What changed meanwhile may have been counted
    /// or not.
    fn correct(&self, moved: u64, found: i64) {
        let unsure = self.moved().saturating_sub(moved);
        self.unsure.store(unsure, Ordering::Relaxed);
        if !self.is_known.swap(true, Ordering::Relaxed) {
            self.value.store(found, Ordering::Relaxed);
            return;
        }
        let slack = i64::try_from(unsure).unwrap_or(i64::MAX);
        let (least, most) = (found.saturating_sub(slack), found.saturating_add(slack));
        // Only what changes it in between makes this repeat.
        let _ = self.value.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| Some(value.clamp(least, most)));
    }

    /// Not a number while it is not known.
    fn read(&self) -> f64 {
        let value = self.value.load(Ordering::Relaxed).max(0);
        if self.is_known.load(Ordering::Relaxed) { value as f64 } else { f64::NAN }
    }
}

/// The figures of one gateway's webhooks.
pub(super) struct WebhookFigures {
    /// In the order of [`TryOutcome::ALL`].
    tries: [IntCounter; TryOutcome::ALL.len()],
    /// In the order of [`End::ALL`].
    ends: [IntCounter; End::ALL.len()],
    try_duration: Histogram,
    latency: Histogram,
    breakers_changed: [IntCounter; 2],
    in_flight: IntGaugeVec,
    connections_idle: IntGauge,
    look_ups: [IntCounter; 5],
    unreadable: IntGauge,
    results_waiting: IntGauge,
    actors: IntGauge,
    reminded: IntCounter,
    waiting: (Followed, Gauge),
    dead_letters: (Followed, Gauge),
    oldest_due_age: Gauge,
    oldest_held_age: Gauge,
    breakers_open: Gauge,
    jobs_open: Gauge,
    endpoints: IntGaugeVec,
}

impl WebhookFigures {
    /// Makes the figures, each with a value from the first reading on.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when one is there already.
    pub(super) fn new(figures: &Figures) -> Result<Self, GatewayError> {
        let tries = figures.counters(
            "webhook_tries_total",
            "Requests to webhook endpoints that ended, by what came of them",
            &["outcome"],
        )?;
        let ends =
            figures.counters("webhook_notifications_total", "Notifications that ended, by how they ended", &["end"])?;
        let breakers = figures.counters(
            "webhook_breaker_changes_total",
            "How often an endpoint's breaker opened or closed",
            &["to"],
        )?;
        let endpoints = figures.gauges("webhook_endpoints", "Webhook endpoints by status", &["status"])?;
        for status in EndpointStatus::ALL {
            endpoints.with_label_values(&[status.as_str()]);
        }
        let look_ups = figures.counters(
            "webhook_dns_lookups_total",
            "Host names of webhook endpoints that were looked up, by what came of it",
            &["result"],
        )?;
        let unknown = |name: &str, help: &str| {
            let gauge = figures.decimal(name, help)?;
            gauge.set(f64::NAN);
            Ok::<_, GatewayError>(gauge)
        };
        Ok(Self {
            tries: TryOutcome::ALL.map(|outcome| tries.with_label_values(&[outcome.as_str()])),
            ends: End::ALL.map(|end| ends.with_label_values(&[end.as_str()])),
            try_duration: figures.histogram(
                "webhook_try_duration_seconds",
                "How long requests to webhook endpoints took",
                &TRY_BOUNDS,
            )?,
            latency: figures.histogram(
                "webhook_delivery_latency_seconds",
                "From the commit of an event until a receiver had taken it, where the first try succeeded",
                &LATENCY_BOUNDS,
            )?,
            breakers_changed: ["open", "closed"].map(|to| breakers.with_label_values(&[to])),
            in_flight: figures.gauges(
                "webhook_in_flight",
                "Requests to webhook endpoints under way: among those that are expected to be quick, and the others",
                &["pool"],
            )?,
            connections_idle: figures
                .gauge("webhook_connections_idle", "Connections to receivers that are kept open without a request")?,
            look_ups: LOOK_UPS.map(|result| look_ups.with_label_values(&[result])),
            unreadable: figures.gauge(
                "webhook_unreadable",
                "Rows of webhooks that can't be read and were passed over, since the start; there should be none",
            )?,
            results_waiting: figures
                .gauge("webhook_results_waiting", "Answers of receivers that are not committed yet")?,
            actors: figures
                .gauge("webhook_actors", "Webhook endpoints that are in memory, since they have something due")?,
            reminded: figures.counter(
                "webhook_reminded_total",
                "Endpoints that had something due and were found without anybody seeing to it; there should be none",
            )?,
            waiting: (
                Followed::default(),
                unknown("webhook_waiting", "Notifications that wait to be sent; NaN until they were counted")?,
            ),
            dead_letters: (
                Followed::default(),
                unknown(
                    "webhook_dead_letters",
                    "Notifications that were given up and are kept to be sent again; NaN until they were counted",
                )?,
            ),
            oldest_due_age: unknown(
                "webhook_oldest_due_age_seconds",
                "For how long the oldest notification has been due to an endpoint that may be sent to; NaN until looked for",
            )?,
            oldest_held_age: unknown(
                "webhook_oldest_held_age_seconds",
                "The same for endpoints that are paused, disabled, or whose breaker is open",
            )?,
            breakers_open: unknown("webhook_breakers_open", "Endpoints whose breaker is open; NaN until looked for")?,
            jobs_open: unknown("webhook_jobs_open", "Jobs on many notifications under way; NaN until looked for")?,
            endpoints,
        })
    }

    /// Notifications that wait to be sent, and those that were given up, each once they were counted.
    pub(super) fn waiting_and_dead(&self) -> (Option<u64>, Option<u64>) {
        let whole = |followed: &Followed| {
            let count = followed.read();
            (!count.is_nan()).then_some(count as u64)
        };
        (whole(&self.waiting.0), whole(&self.dead_letters.0))
    }

    /// Brings up to date what is read from others.
    pub(super) fn read(&self, actors: &WebhookActors) {
        let under_way = actors.under_way();
        let (quick, slow) = actors.in_pools();
        for (pool, count) in [("quick", quick), ("slow", slow)] {
            self.in_flight.with_label_values(&[pool]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let sent = actors.delivery_figures();
        self.connections_idle.set(i64::try_from(sent.idle_connections).unwrap_or(i64::MAX));
        let looked_up = [
            sent.look_ups_ok,
            sent.look_ups_cached,
            sent.look_ups_failed,
            sent.look_ups_timed_out,
            sent.look_ups_refused,
        ];
        for (counter, total) in self.look_ups.iter().zip(looked_up) {
            advance(counter, total);
        }
        self.unreadable.set(i64::try_from(actors.unreadable()).unwrap_or(i64::MAX));
        self.results_waiting.set(i64::try_from(under_way.recording).unwrap_or(i64::MAX));
        self.actors.set(i64::try_from(actors.active()).unwrap_or(i64::MAX));
        advance(&self.reminded, actors.reminded_total());
        for (followed, gauge) in [&self.waiting, &self.dead_letters] {
            gauge.set(followed.read());
        }
    }
}

impl DeliveryObserver for WebhookFigures {
    fn tried(&self, tried: &Tried) {
        self.tries[tried.outcome as usize].inc();
        self.try_duration.observe(tried.took.as_secs_f64());
        if let Some(since_made) = tried.since_made.filter(|_| tried.outcome == TryOutcome::Success) {
            self.latency.observe(since_made.as_secs_f64());
        }
    }

    fn changed(&self, changed: &Changed) {
        if let Some(position) = changed.end.and_then(|end| End::ALL.iter().position(|known| *known == end)) {
            self.ends[position].inc();
        }
        self.waiting.0.add(changed.waiting);
        self.dead_letters.0.add(changed.dead_letters);
    }

    fn breaker(&self, is_open: bool) {
        self.breakers_changed[usize::from(!is_open)].inc();
    }
}

/// Starts to look at the store now and then; it ends when the gateway stops.
pub(in crate::gateway) fn start(core: &Core, webhooks: &Webhooks) {
    let onlooker = Onlooker { webhooks: webhooks.clone(), unreadable: UnreadableRows::default() };
    let stopping = core.stopping.clone();
    core.tasks.spawn(async move {
        let looks = async {
            loop {
                if let Err(error) = onlooker.look().await {
                    tracing::warn!(%error, "webhooks could not be counted; tried again later");
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        stopping.run_until_cancelled(looks).await;
    });
}

/// Looks at the store once.
#[cfg(test)]
pub(super) async fn look(webhooks: &Webhooks) {
    let onlooker = Onlooker { webhooks: webhooks.clone(), unreadable: UnreadableRows::default() };
    onlooker.look().await.unwrap();
    webhooks.read_figures();
}

/// The oldest of what is due, by whether it may be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Oldest {
    due: Duration,
    held: Duration,
}

/// Looks at the store.
struct Onlooker {
    webhooks: Webhooks,
    unreadable: UnreadableRows,
}

impl Onlooker {
    fn core(&self) -> &Core {
        &self.webhooks.core
    }

    /// Looks at everything once.
    async fn look(&self) -> Result<(), GatewayError> {
        let figures = &self.webhooks.figures;
        let oldest = self.oldest().await?;
        figures.oldest_due_age.set(oldest.due.as_secs_f64());
        figures.oldest_held_age.set(oldest.held.as_secs_f64());
        for ((followed, _), prefix) in
            [(&figures.waiting, keys::notifications_due()), (&figures.dead_letters, keys::dead_letters())]
        {
            if followed.wants_counting() {
                let moved = followed.moved();
                let found = self.for_each(&prefix, |_| {}).await?;
                followed.correct(moved, i64::try_from(found).unwrap_or(i64::MAX));
            }
        }
        figures.jobs_open.set(self.for_each(&keys::webhook_jobs_open(), |_| {}).await? as f64);
        let mut open = 0_u32;
        let now = self.core().clock.now();
        let count = |row: &Row| {
            let health: Option<EndpointHealth> = self.read(row);
            open += u32::from(health.is_some_and(|health| health.open_until.is_some_and(|until| now < until)));
        };
        self.for_each(&keys::endpoint_healths(), count).await?;
        figures.breakers_open.set(f64::from(open));
        self.look_at_endpoints().await
    }

    /// Counts endpoints, and takes away secrets that sign no more.
    async fn look_at_endpoints(&self) -> Result<(), GatewayError> {
        let mut found = EndpointStatus::ALL.map(|status| (status, 0_i64));
        let mut expired = Vec::new();
        let now = self.core().clock.now();
        let count = |row: &Row| {
            let Some(endpoint) = self.read::<Endpoint>(row) else { return };
            found.iter_mut().filter(|(status, _)| *status == endpoint.status).for_each(|(_, count)| *count += 1);
            if endpoint.secrets.has_expired(now) && expired.len() < PAGE_ROWS {
                expired.push((endpoint, row.versioned.revision));
            }
        };
        self.for_each(&keys::endpoints(), count).await?;
        for (status, count) in found {
            self.webhooks.figures.endpoints.with_label_values(&[status.as_str()]).set(count);
        }
        if !self.core().clock_guard.is_believed(&self.core().clock) {
            return Ok(());
        }
        for (mut endpoint, revision) in expired {
            endpoint.secrets.forget_expired(now);
            let mut batch = Batch::finishing();
            let key = keys::endpoint(&endpoint.merchant_id, &endpoint.id);
            batch.replace(key, revision, record::encode(&endpoint)?);
            if unless_overtaken(self.core().store.commit(batch).await)?.is_some() {
                self.webhooks.lists.forget(&endpoint.merchant_id);
            }
        }
        Ok(())
    }

    /// Goes over the heads of all lanes.
    async fn oldest(&self) -> Result<Oldest, GatewayError> {
        let now = self.core().clock.now();
        let mut oldest = Oldest::default();
        let end = prefix_end(&keys::notifications_due());
        let mut start = keys::notifications_due();
        let mut pace = Pace::new(self.core());
        loop {
            let scan = Scan { start, end: end.clone(), limit: 1, reverse: false };
            let Some(row) = self.core().store.scan(&scan)?.pop() else { return Ok(oldest) };
            let head = keys::parse_notification_due(&row.key);
            start = match head
                .as_ref()
                .and_then(|(endpoint_id, lane, _, _)| prefix_end(&keys::notifications_due_in(endpoint_id, *lane)))
            {
                Some(next) => next,
                None => [row.key.as_slice(), &[0]].concat(),
            };
            if let (Some((endpoint_id, _, due_at, _)), Some(entry)) = (head, self.read::<DueEntry>(&row))
                && due_at < now
            {
                let age = now.since(due_at);
                let key = keys::endpoint(&entry.merchant_id, &endpoint_id);
                let endpoint = self.core().store.get(&key)?.map(|stored| record::decode::<Endpoint>(&stored.value));
                let is_held = match endpoint {
                    // Of one that is gone, what is due has to be ended.
                    None => false,
                    Some(Ok(endpoint)) => {
                        endpoint.status != EndpointStatus::Enabled
                            || self.webhooks.health_of(&endpoint)?.is_some_and(|health| is_open(&health, now))
                    }
                    Some(Err(_)) => true,
                };
                let so_far = if is_held { &mut oldest.held } else { &mut oldest.due };
                *so_far = age.max(*so_far);
            }
            pace.step(1).await;
        }
    }

    /// Calls `each` with every row that has a prefix; answers how many there are.
    async fn for_each(&self, prefix: &[u8], mut each: impl FnMut(&Row)) -> Result<usize, StoreError> {
        let mut scan = Scan { start: prefix.to_vec(), end: prefix_end(prefix), limit: PAGE_ROWS, reverse: false };
        let mut found = 0;
        let mut pace = Pace::new(self.core());
        loop {
            let page = self.core().store.scan(&scan)?;
            page.iter().for_each(&mut each);
            found += page.len();
            let Some(last) = page.last().filter(|_| page.len() == PAGE_ROWS) else { return Ok(found) };
            scan.start = [last.key.as_slice(), &[0]].concat();
            pace.step(PAGE_ROWS).await;
        }
    }

    fn read<R: record::Record>(&self, row: &Row) -> Option<R> {
        record::decode(&row.versioned.value).map_err(|error| self.unreadable.report(&row.key, error)).ok()
    }
}

/// Whether nothing is sent to an endpoint with this health at the moment.
pub(super) fn is_open(health: &EndpointHealth, now: Timestamp) -> bool {
    health.open_until.is_some_and(|until| now < until)
}

/// Rests after each page.
struct Pace<'a> {
    core: &'a Core,
    began: crate::domain::time::Monotonic,
    rows: usize,
}

impl<'a> Pace<'a> {
    fn new(core: &'a Core) -> Self {
        Self { core, began: core.clock.monotonic(), rows: 0 }
    }

    /// So many rows more were looked at.
    async fn step(&mut self, rows: usize) {
        self.rows += rows;
        if self.rows >= PAGE_ROWS {
            let took = self.core.clock.monotonic().since(self.began);
            tokio::time::sleep((took * REST_FACTOR).max(Duration::from_millis(1))).await;
            *self = Self::new(self.core);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::webhook::Failure;

    #[test]
    fn a_followed_number_is_right_after_a_quiet_count_and_never_jumps_by_more_than_has_moved() {
        let followed = Followed::default();
        assert!(followed.read().is_nan() && followed.wants_counting());
        followed.add(3);
        followed.correct(followed.moved(), 10);
        assert!((followed.read() - 10.0).abs() < 0.1, "the first count is taken as it is");
        followed.add(-2);
        let moved = followed.moved();
        followed.add(1);
        // It says 9; 12 were found while one moved: at least 11.
        followed.correct(moved, 12);
        assert!((followed.read() - 11.0).abs() < 0.1, "{}", followed.read());
        followed.correct(followed.moved(), 4);
        assert!((followed.read() - 4.0).abs() < 0.1);
        followed.add(-9);
        assert!(followed.read().abs() < 0.1, "never less than none");
        followed.add(COUNTED_MAX + 10);
        assert!(!followed.wants_counting(), "too many to be counted each time");
    }

    #[test]
    fn a_number_that_was_counted_while_it_changed_is_counted_again_before_it_is_all_wrong() {
        let backlog = Followed::default();
        // A count of 100,000 takes so long that 40,000 of those that it has counted are sent meanwhile.
        backlog.add(-40_000);
        backlog.correct(0, 100_000);
        assert!((backlog.read() - 100_000.0).abs() < 0.1);
        assert!(!backlog.wants_counting(), "it is not far from right yet");
        backlog.add(-60_000);
        assert!(backlog.wants_counting(), "nothing waits any more, and it says {}", backlog.read());
        backlog.correct(backlog.moved(), 0);
        assert!(backlog.read().abs() < 0.1);
        // What is right and large is not counted for ever.
        backlog.add(2_000_000);
        assert!(!backlog.wants_counting());
        backlog.add(-1_900_000);
        assert!(!backlog.wants_counting(), "it was followed all the time");
    }

    #[test]
    fn what_is_said_to_be_worth_an_alert_is_there_and_can_be_asked() {
        let figures = Figures::default();
        WebhookFigures::new(&figures).unwrap();
        let text = figures.text();
        let documented = include_str!("../../../docs/webhooks.md");
        let (_, alerts) = documented.split_once("Worth an alert:\n").unwrap();
        let alerts: Vec<&str> = alerts.lines().filter(|line| line.starts_with("    ")).collect();
        assert!(alerts.len() >= 5, "{alerts:?}");
        for alert in alerts {
            let words = alert.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            for name in words.filter(|word| word.starts_with("tollgate_")) {
                assert!(text.contains(&format!("# TYPE {name} ")), "{name} is no figure: {alert}");
            }
            // Series are joined where all their labels are the same, unless it is said which are.
            let is_joined = alert.contains(" and ");
            assert!(!is_joined || alert.contains(" and ignoring ("), "it never fires: {alert}");
        }
    }

    #[test]
    fn every_figure_is_there_from_the_first_reading() {
        let figures = Figures::default();
        let webhooks = WebhookFigures::new(&figures).unwrap();
        let text = figures.text();
        for outcome in TryOutcome::ALL {
            let line = format!("tollgate_webhook_tries_total{{outcome=\"{}\"}} 0", outcome.as_str());
            assert!(text.contains(&line), "{line} is missing in\n{text}");
        }
        for end in End::ALL {
            let line = format!("tollgate_webhook_notifications_total{{end=\"{}\"}} 0", end.as_str());
            assert!(text.contains(&line), "{line} is missing in\n{text}");
        }
        for line in [
            "tollgate_webhook_delivery_latency_seconds_count 0",
            "tollgate_webhook_endpoints{status=\"paused\"} 0",
            "tollgate_webhook_waiting NaN",
            "tollgate_webhook_oldest_due_age_seconds NaN",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        let refused = Changed { end: Some(End::Failed(Failure::Refused)), dead_letters: 1, ..Changed::default() };
        webhooks.changed(&refused);
        let took = Duration::from_millis(30);
        let tried = |outcome, since_made| Tried { outcome, took, waited: Duration::ZERO, since_made };
        webhooks.tried(&tried(TryOutcome::Success, Some(took)));
        webhooks.tried(&tried(TryOutcome::Success, None));
        webhooks.tried(&tried(TryOutcome::Gone, Some(took)));
        webhooks.breaker(true);
        let text = figures.text();
        for line in [
            "tollgate_webhook_notifications_total{end=\"refused\"} 1",
            "tollgate_webhook_notifications_total{end=\"success\"} 0",
            "tollgate_webhook_tries_total{outcome=\"success\"} 2",
            "tollgate_webhook_tries_total{outcome=\"gone\"} 1",
            "tollgate_webhook_try_duration_seconds_bucket{le=\"0.025\"} 0",
            "tollgate_webhook_try_duration_seconds_bucket{le=\"0.05\"} 3",
            "tollgate_webhook_delivery_latency_seconds_count 1",
            "tollgate_webhook_breaker_changes_total{to=\"open\"} 1",
            "tollgate_webhook_breaker_changes_total{to=\"closed\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
