//! What the limits decide, as figures for the operator and, where a merchant comes near a limit, as its event
//! `limit.near`. An event is a courtesy: when there is no room for it, or the gateway stops, it is left out and counted.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::actors::merchant::{LimitObserver, NearLimit};
use crate::config::LimitsConfig;
use crate::domain::event::{Event, EventName};
use crate::domain::ids::{EventId, sortable_id};
use crate::domain::limit::{NearSettings, Passed, Policy};
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::merchants::Merchants;
use crate::gateway::metrics::{Figures, IntCounter, IntCounterVec, IntGauge};
use crate::gateway::webhooks::Webhooks;
use crate::storage::Batch;

/// Events that may wait to be written.
const WAITING_MAX: usize = 1_024;

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
        for policy in Policy::ALL {
            for percent in &limits.near_percent {
                near.with_label_values(&[policy.as_str(), &percent.to_string()]);
            }
        }
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let made = Self {
            admitted: decisions.with_label_values(&["admitted"]),
            refused: decisions.with_label_values(&["refused"]),
            refused_by: Policy::ALL.map(|policy| refused_by.with_label_values(&[policy.as_str()])),
            near,
            near_dropped: figures
                .counter("limit_near_dropped_total", "Events limit.near that were left out for want of room")?,
            leases_expired: figures
                .counter("limit_leases_expired_total", "Permits that were taken back because their time was over")?,
            merchants_active: figures.gauge("merchants_active", "Merchants whose limits are in memory")?,
            waiting: sender,
        };
        Ok((Arc::new(made), receiver))
    }
}

impl LimitObserver for LimitCounts {
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

/// Writes an event for each that comes near a limit, until the gateway stops.
pub(super) fn start(core: &Core, merchants: &Merchants, webhooks: &Webhooks, mut waiting: Waiting) {
    let (core, merchants, webhooks) = (core.clone(), merchants.clone(), webhooks.clone());
    core.tasks.clone().spawn(async move {
        while let Some(Some(near)) = core.stopping.run_until_cancelled(waiting.recv()).await {
            if let Err(error) = tell(&core, &merchants, &webhooks, &near).await {
                tracing::warn!(%error, merchant_id = %near.merchant_id, "an event limit.near was left out");
            }
        }
    });
}

async fn tell(core: &Core, merchants: &Merchants, webhooks: &Webhooks, near: &NearLimit) -> Result<(), GatewayError> {
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
        at: near.at,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::domain::ids::MerchantId;
    use crate::domain::time::Timestamp;

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
}
