//! What is learned about endpoints, and what follows from it for them: whether and how fast they are sent to, and when
//! they are tried again.

use std::sync::Arc;

use crate::actors::webhook::rows::Planned;
use crate::actors::webhook::{EndpointLists, WebhookParts};
use crate::domain::ids::{EndpointId, MerchantId, NotificationId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{
    Endpoint, EndpointHealth, EndpointStatus, HealthChange, Notification, Schedule, ScheduleSettings, TryOutcome,
    TryResult,
};
use crate::storage::{Batch, Store, StoreError, keys, record};

/// Tells a merchant how an endpoint does.
pub trait HealthTeller: Send + Sync + 'static {
    /// Adds to `batch` what the merchant has to know, for its other endpoints too. What is returned is announced after the
    /// commit.
    ///
    /// # Errors
    /// [`StoreError`] when the endpoints can't be read; then `batch` must not be committed.
    fn tell(
        &self,
        batch: &mut Batch,
        endpoint: &Endpoint,
        change: &HealthChange,
        now: Timestamp,
    ) -> Result<Planned, StoreError>;
}

/// Whether an endpoint may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// It may.
    Open,
    /// Not before then. No try is used up.
    Closed { until: Timestamp },
}

/// One request that was answered, or was not, as it is about to be committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered<'a> {
    /// The endpoint as it was when asked.
    pub(super) sent_to: &'a Endpoint,
    pub(super) outcome: TryOutcome,
    /// When it may be asked again, among others.
    pub(super) result: &'a TryResult,
    /// The notification from now on.
    pub(super) notification: &'a Notification,
    /// Why the endpoint has to be disabled, if it has to.
    pub(super) disable: Option<&'static str>,
}

/// What has to be done once what was learned is committed.
#[derive(Debug)]
#[must_use = "it is for after the commit"]
pub(super) struct After {
    /// The endpoint that was disabled.
    disabled: Option<Disabled>,
    /// Who has to be told of it.
    pub(super) planned: Planned,
}

/// Which endpoint was disabled, and by what.
#[derive(Debug)]
struct Disabled {
    merchant_id: MerchantId,
    endpoint_id: EndpointId,
    notification_id: NotificationId,
    status_code: Option<u16>,
}

/// What is known of all endpoints.
pub(super) struct Healths {
    store: Arc<dyn Store>,
    lists: Arc<EndpointLists>,
    teller: Arc<dyn HealthTeller>,
    schedule: ScheduleSettings,
    endpoint_in_flight_max: usize,
}

impl Healths {
    pub(super) fn new(parts: &WebhookParts, lists: &Arc<EndpointLists>) -> Self {
        let config = &parts.config;
        Self {
            store: Arc::clone(&parts.store),
            lists: Arc::clone(lists),
            teller: Arc::clone(&parts.teller),
            schedule: ScheduleSettings {
                initial_backoff_s: config.initial_backoff_s,
                max_backoff_s: config.max_backoff_s,
                own_waits_s: config.schedule_s.clone(),
                jitter_percent: config.jitter_percent,
            },
            endpoint_in_flight_max: config.endpoint_in_flight_max.max(1),
        }
    }

    /// Whether an endpoint may be sent to.
    ///
    /// # Errors
    /// [`StoreError`] when what is known of it can't be read.
    pub(super) fn gate(&self, endpoint: &Endpoint, now: Timestamp) -> Result<Gate, StoreError> {
        let stored = self.store.get(&keys::endpoint_health(&endpoint.merchant_id, &endpoint.id))?;
        let health: Option<EndpointHealth> = stored.map(|stored| record::decode(&stored.value)).transpose()?;
        let open_until = health.and_then(|health| health.open_until).filter(|until| *until > now);
        Ok(open_until.map_or(Gate::Open, |until| Gate::Closed { until }))
    }

    /// Requests that may be under way to an endpoint.
    pub(super) const fn pace(&self, _endpoint: &Endpoint, _now: Timestamp) -> usize {
        self.endpoint_in_flight_max
    }

    /// When an endpoint's notifications are tried again.
    pub(super) fn schedule(&self, endpoint: &Endpoint, _now: Timestamp) -> Schedule {
        Schedule::from(endpoint.overrides.schedule(&self.schedule))
    }

    /// Adds to `batch` what a request says about its endpoint. It is asked again for each commit that is tried, so nothing
    /// is remembered before [`Healths::committed`].
    ///
    /// # Errors
    /// [`StoreError`] when what has to be changed can't be read or written.
    pub(super) fn after(
        &self,
        batch: &mut Batch,
        answered: &Answered<'_>,
        now: Timestamp,
    ) -> Result<After, StoreError> {
        let mut after = After { disabled: None, planned: Planned::default() };
        let learned = match answered.disable {
            Some(reason) => Learned::Gone(reason),
            None if answered.outcome == TryOutcome::Success && answered.sent_to.proven_at.is_none() => Learned::Proven,
            None => return Ok(after),
        };
        let Some(endpoint) = self.change_endpoint(batch, answered.sent_to, learned, now)? else { return Ok(after) };
        if let Learned::Gone(reason) = learned {
            let change = HealthChange::Disabled { reason: reason.to_owned() };
            after.planned = self.teller.tell(batch, &endpoint, &change, now)?;
            after.disabled = Some(Disabled {
                merchant_id: endpoint.merchant_id,
                endpoint_id: endpoint.id,
                notification_id: answered.notification.id.clone(),
                status_code: answered.result.status_code,
            });
        }
        Ok(after)
    }

    /// What [`Healths::after`] has added is committed. Returns whom to announce.
    pub(super) fn committed(&self, after: After) -> Planned {
        if let Some(Disabled { merchant_id, endpoint_id, notification_id, status_code }) = after.disabled {
            self.lists.forget(&merchant_id);
            tracing::warn!(%endpoint_id, %notification_id, status_code, "a webhook endpoint was disabled");
        }
        after.planned
    }

    /// Changes the endpoint's row for what was learned. `None` when nothing has to change: the endpoint is gone, known as
    /// such already, or has another address by now, about which nothing was learned.
    fn change_endpoint(
        &self,
        batch: &mut Batch,
        sent_to: &Endpoint,
        learned: Learned,
        now: Timestamp,
    ) -> Result<Option<Endpoint>, StoreError> {
        let key = keys::endpoint(&sent_to.merchant_id, &sent_to.id);
        let Some(stored) = self.store.get(&key)? else { return Ok(None) };
        let mut endpoint: Endpoint = record::decode(&stored.value)?;
        if endpoint.url != sent_to.url {
            return Ok(None);
        }
        match learned {
            Learned::Proven if endpoint.proven_at.is_some() => return Ok(None),
            Learned::Proven => endpoint.proven_at = Some(now),
            Learned::Gone(_) if endpoint.status == EndpointStatus::Disabled => return Ok(None),
            Learned::Gone(reason) => endpoint.disable(reason, now),
        }
        batch.replace(key, stored.revision, record::encode(&endpoint)?);
        Ok(Some(endpoint))
    }
}

/// What a result says about the endpoint.
#[derive(Clone, Copy)]
enum Learned {
    /// It takes webhooks.
    Proven,
    /// It wants no more, for this reason.
    Gone(&'static str),
}
