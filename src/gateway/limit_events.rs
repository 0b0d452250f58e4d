//! What the limits decide, as figures for the operator and, where a merchant comes near a limit, as its event
//! `limit.near`. An event is a courtesy: when there is no room for it, it is left out and counted. Those that wait when the
//! gateway stops are written once nothing is decided any more, since their merchants would not be told again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::actors::merchant::{LimitObserver, NearLimit};
use crate::config::LimitsConfig;
use crate::domain::event::{Event, EventName};
use crate::domain::ids::{EventId, sortable_id};
use crate::domain::limit::{NearSettings, Passed, Policy};
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::merchants::Merchants;
use crate::gateway::metrics::{Figures, Histogram, IntCounter, IntCounterVec, IntGauge};
use crate::gateway::stats::LimitStatsView;
use crate::gateway::webhooks::Webhooks;
use crate::storage::Batch;

/// Events that may wait to be written.
const WAITING_MAX: usize = 1_024;
/// Bounds of how long a request waits for its merchant's actor, in seconds.
const WAIT_BOUNDS: [f64; 10] = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5];
/// How long is waited before an event is written again after the store had too much to do. Others wait meanwhile.
const RETRY_WAITS: [Duration; 3] = [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(4)];

/// The thresholds that are configured.
pub(super) fn near_settings(limits: &LimitsConfig) -> NearSettings {
    NearSettings::new(&limits.near_percent, limits.near_interval_s)
}

/// Counts what the limits decide, and hands on who comes near one.
pub(super) struct LimitCounts {
    admitted: IntCounter,
    refused: IntCounter,
    /// In the order of [`Policy::ALL`].
    refused_by: [IntCounter; Policy::ALL.len()],
    near: IntCounterVec,
    near_dropped: IntCounter,
    leases_expired: IntCounter,
    waits: Histogram,
    merchants_active: IntGauge,
    waiting: mpsc::Sender<NearLimit>,
}

/// What [`start`] writes.
pub(super) type Waiting = mpsc::Receiver<NearLimit>;

impl LimitCounts {
    /// Makes the figures, each with a value from the first reading on.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when one is there already.
    pub(super) fn new(figures: &Figures, limits: &LimitsConfig) -> Result<(Arc<Self>, Waiting), GatewayError> {
        let decisions =
            figures.counters("limit_decisions_total", "Requests by what the limits decided", &["result"])?;
        let refused_by = figures.counters(
            "limit_refused_total",
            "Requests that a limit refused, by the limit that refused longest",
            &["limit"],
        )?;
        let near = figures.counters(
            "limit_near_total",
            "How often a merchant's use of a limit reached a threshold, in percent",
            &["limit", "threshold"],
        )?;
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let made = Self {
            admitted: decisions.with_label_values(&["admitted"]),
            refused: decisions.with_label_values(&["refused"]),
            refused_by: Policy::ALL.map(|policy| refused_by.with_label_values(&[policy.as_str()])),
            near,
            near_dropped: figures.counter(
                "limit_near_dropped_total",
                "Events limit.near that were left out, for want of room or since they could not be written",
            )?,
            leases_expired: figures
                .counter("limit_leases_expired_total", "Permits that were taken back because their time was over")?,
            waits: figures.histogram(
                "limit_wait_seconds",
                "How long requests waited for their merchant's actor, which decides about its limits",
                &WAIT_BOUNDS,
            )?,
            merchants_active: figures.gauge("merchants_active", "Merchants whose limits are in memory")?,
            waiting: sender,
        };
        made.know_thresholds(&limits.near_percent);
        Ok((Arc::new(made), receiver))
    }

    /// What was decided since the start.
    pub(super) fn stats(&self) -> LimitStatsView {
        let refused_by = Policy::ALL.iter().zip(&self.refused_by);
        LimitStatsView {
            admitted: self.admitted.get(),
            refused: self.refused.get(),
            refused_by: refused_by.map(|(policy, count)| (policy.as_str().to_owned(), count.get())).collect(),
            merchants_active: u64::try_from(self.merchants_active.get()).unwrap_or(0),
        }
    }

    /// Gives the figures of each threshold a value before it is passed.
    pub(super) fn know_thresholds(&self, near_percent: &[u8]) {
        for policy in Policy::ALL {
            for percent in near_percent {
                self.near.with_label_values(&[policy.as_str(), &percent.to_string()]);
            }
        }
    }
}

impl LimitObserver for LimitCounts {
    fn waited(&self, waited: Duration) {
        self.waits.observe(waited.as_secs_f64());
    }

    fn admitted(&self) {
        self.admitted.inc();
    }

    fn refused(&self, limit: Policy) {
        self.refused.inc();
        self.refused_by[limit as usize].inc();
    }

    fn near(&self, near: NearLimit) {
        let Passed { policy, percent, .. } = near.passed;
        self.near.with_label_values(&[policy.as_str(), &percent.to_string()]).inc();
        if self.waiting.try_send(near).is_err() {
            self.near_dropped.inc();
        }
    }

    fn leases_expired(&self, leases: u64) {
        self.leases_expired.inc_by(leases);
    }

    fn merchant_came(&self) {
        self.merchants_active.inc();
    }

    fn merchant_went(&self) {
        self.merchants_active.dec();
    }
}

/// What an event is made with.
pub(super) struct Teller {
    core: Core,
    merchants: Merchants,
    webhooks: Webhooks,
    counts: Arc<LimitCounts>,
}

impl Teller {
    /// With these.
    pub(super) fn new(core: &Core, merchants: &Merchants, webhooks: &Webhooks, counts: &Arc<LimitCounts>) -> Self {
        let (core, merchants, webhooks) = (core.clone(), merchants.clone(), webhooks.clone());
        Self { core, merchants, webhooks, counts: Arc::clone(counts) }
    }

    /// Writes the event, again after a while when the store has too much to do.
    async fn tell(&self, near: &NearLimit) {
        for wait in RETRY_WAITS.into_iter().map(Some).chain([None]) {
            match (self.write(near).await, wait) {
                (Ok(()), _) => return,
                (Err(GatewayError::Overloaded { .. }), Some(wait)) => tokio::time::sleep(wait).await,
                (Err(error), _) => {
                    self.counts.near_dropped.inc();
                    tracing::warn!(%error, merchant_id = %near.merchant_id, "an event limit.near was left out");
                    return;
                }
            }
        }
    }

    async fn write(&self, near: &NearLimit) -> Result<(), GatewayError> {
        let Self { core, merchants, webhooks, .. } = self;
        let merchant_id = &near.merchant_id;
        let known = merchants.merchant(merchant_id)?;
        // Nobody else writes these, so it rises from one to the next.
        let sequence = webhooks.last_event_number(merchant_id)? + 1;
        let event = event_of(core, near, &known.merchant.tier, sequence)?;
        let mut batch = Batch::new();
        let planned = webhooks.plan(&mut batch, merchant_id, &event, None)?;
        core.store.commit(batch).await?;
        webhooks.announce(planned);
        Ok(())
    }
}

/// Writes an event for each that comes near a limit. It goes on while the gateway stops, until [`Telling::finish`].
pub(super) struct Telling {
    task: TaskTracker,
    /// Nothing more comes: what waits is written, and that is the end.
    finishing: CancellationToken,
    /// The time for that is over.
    is_late: CancellationToken,
}

impl Telling {
    /// Starts to write what comes out of `waiting`.
    pub(super) fn start(teller: Teller, waiting: Waiting) -> Self {
        let telling =
            Self { task: TaskTracker::new(), finishing: CancellationToken::new(), is_late: CancellationToken::new() };
        let (finishing, is_late) = (telling.finishing.clone(), telling.is_late.clone());
        telling.task.spawn(run(teller, waiting, finishing, is_late));
        telling.task.close();
        telling
    }

    /// Writes what still waits, as far as that goes `within` this time; the rest is counted as left out. To be called when
    /// nothing is decided any more, and before the store is closed.
    pub(super) async fn finish(&self, within: Duration) {
        self.finishing.cancel();
        if tokio::time::timeout(within, self.task.wait()).await.is_err() {
            self.is_late.cancel();
            self.task.wait().await;
        }
    }
}

async fn run(teller: Teller, mut waiting: Waiting, finishing: CancellationToken, is_late: CancellationToken) {
    while let Some(Some(near)) = finishing.run_until_cancelled(waiting.recv()).await {
        if is_late.run_until_cancelled(teller.tell(&near)).await.is_none() {
            return leave_out(&teller, 1 + waiting.len());
        }
    }
    // What comes from here on finds it closed, and is counted by whoever sends it.
    waiting.close();
    while let Ok(near) = waiting.try_recv() {
        if is_late.run_until_cancelled(teller.tell(&near)).await.is_none() {
            return leave_out(&teller, 1 + waiting.len());
        }
    }
}

fn leave_out(teller: &Teller, events: usize) {
    teller.counts.near_dropped.inc_by(events as u64);
    tracing::warn!(events, "events limit.near were left out: the time to stop ran out");
}

fn event_of(core: &Core, near: &NearLimit, tier: &str, sequence: u64) -> Result<Event, GatewayError> {
    let Passed { policy, percent, used, quota, window_ms } = near.passed;
    let body = serde_json::json!({
        "event": EventName::LimitNear.as_str(),
        "payment_no": null,
        "order_no": null,
        "amount": null,
        "currency": null,
        "status": null,
        "timestamp": near.at.unix_s(),
        "extra": {
            "limit": policy.as_str(),
            "threshold_percent": percent,
            "used": used,
            "quota": quota,
            "window_s": (window_ms > 0).then(|| window_ms.div_ceil(1000)),
            "tier": tier,
            "sequence": sequence,
        },
    });
    let body = serde_json::value::to_raw_value(&body)
        .map_err(|error| GatewayError::Internal(format!("an event can't be written: {error}")))?;
    Ok(Event {
        id: EventId::new(sortable_id("ev_", near.at, core.random.draw_u64())),
        name: EventName::LimitNear,
        object_no: None,
        amount_minor: 0,
        currency: None,
        at: near.at,
        body,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::domain::ids::MerchantId;
    use crate::domain::time::Timestamp;
    use crate::gateway::Gateway;
    use crate::gateway::external_permits::CheckLimits;
    use crate::gateway::page::PageRequest;
    use crate::gateway::shedding::testing::Node;

    #[test]
    fn what_finds_no_room_is_counted_and_nobody_waits() {
        let limits = Config::embedded().unwrap().limits;
        let (figures, mut waiting) = LimitCounts::new(&Figures::default(), &limits).unwrap();
        let passed = Passed { policy: Policy::Hour, percent: 80, used: 8, quota: 10, window_ms: 3_600_000 };
        for _ in 0..WAITING_MAX + 3 {
            let at = Timestamp::from_unix_s(1_737_715_200);
            figures.near(NearLimit { merchant_id: MerchantId::new("m_1"), passed, at });
        }
        assert_eq!(figures.near_dropped.get(), 3);
        assert_eq!(figures.near.with_label_values(&["hour", "80"]).get(), WAITING_MAX as u64 + 3);
        assert_eq!(waiting.try_recv().unwrap().passed, passed);
    }

    /// Ten merchants that reach 80 % of their burst at once, and a stop right after it, each commit taking `commit`.
    async fn told_of_ten_before_the_stop(drain: Duration, commit: Duration) -> (usize, Gateway) {
        let change = |config: &mut Config| {
            config.server.drain_timeout_ms = u64::try_from(drain.as_millis()).unwrap();
            config.limits.near_percent = vec![80];
        };
        let node = Node::start(Clock::system(), change).await;
        let mut shops = Vec::new();
        for _ in 0..10 {
            shops.push(node.merchant().await.merchant.merchant_id);
        }
        node.commits.set(commit);
        for shop in &shops {
            let command = CheckLimits { merchant_id: shop.clone(), cost: 800 };
            assert!(node.gateway.check_limits(&command).await.unwrap().admitted);
        }
        node.gateway.stop().await.unwrap();
        let page = PageRequest::default();
        let events =
            shops.iter().map(|shop| node.gateway.webhooks().list_events(&MerchantId::new(shop.as_str()), &page));
        let told = events.map(|page| page.unwrap().items.iter().filter(|one| one.event == "limit.near").count());
        (told.sum(), node.gateway.clone())
    }

    fn figure(gateway: &Gateway, name: &str) -> u64 {
        let text = gateway.metrics().text().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("tollgate_{name} ")));
        line.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    }

    /// How many events there are of one merchant, and how many were left out, when the store takes nothing for so long.
    async fn told_while_the_store_is_full(full_for: Duration) -> (usize, u64) {
        let node = Node::start(Clock::system(), |config| config.limits.near_percent = vec![80]).await;
        let shop = node.merchant().await.merchant.merchant_id;
        node.is_full.store(true, Ordering::SeqCst);
        let command = CheckLimits { merchant_id: shop.clone(), cost: 800 };
        assert!(node.gateway.check_limits(&command).await.unwrap().admitted);
        tokio::time::sleep(full_for).await;
        node.is_full.store(false, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let page = PageRequest::default();
        let events = node.gateway.webhooks().list_events(&MerchantId::new(shop.as_str()), &page).unwrap().items;
        (events.len(), figure(&node.gateway, "limit_near_dropped_total"))
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_the_store_has_no_room_for_is_tried_again_and_then_counted() {
        assert_eq!(told_while_the_store_is_full(Duration::ZERO).await, (1, 0));
        assert_eq!(told_while_the_store_is_full(Duration::from_secs(3)).await, (1, 0));
        assert_eq!(told_while_the_store_is_full(Duration::from_secs(60)).await, (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_when_the_gateway_stops_is_written() {
        let (told, gateway) = told_of_ten_before_the_stop(Duration::from_secs(25), Duration::from_millis(200)).await;
        assert_eq!((told, figure(&gateway, "limit_near_dropped_total")), (10, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_too_slow_does_not_hold_up_the_stop_and_what_is_left_out_is_counted() {
        let (told, gateway) = told_of_ten_before_the_stop(Duration::ZERO, Duration::from_millis(400)).await;
        let dropped = figure(&gateway, "limit_near_dropped_total");
        assert!((1..=4).contains(&told) && dropped >= 10 - told as u64, "{told} told, {dropped} left out");
    }
}
