//! Webhooks: a merchant's endpoints, its events, and the notifications that carry them.
//!
//! An event and its notifications are committed together with the change that they are about ([`Webhooks::plan`]); only
//! then is anybody told that there is something to send ([`Webhooks::announce`]). Who forgets to announce loses nothing:
//! what is due is in the store, and is sent when the endpoint is next looked at.

mod endpoints;
mod events;
mod notifications;
mod urgency;
mod views;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::actors::webhook::{EndpointLists, WebhookActors, WebhookParts};
use crate::delivery::Deliver;
use crate::domain::event::{Event, EventName};
use crate::domain::ids::{EndpointId, EventId, MerchantId, NotificationId, sortable_id};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{DueEntry, Endpoint, EndpointStatus, NewNotification, Notification};
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::webhooks::urgency::class_of;
use crate::storage::{Batch, StoreError, keys, record};

pub(crate) use endpoints::reseal_endpoint;
pub use notifications::NotificationFilter;
pub use views::{
    CreateEndpoint, EndpointView, EventView, NewSecretView, NotificationView, SettableStatus, TryView, UpdateEndpoint,
};

/// Longest id that is looked up; ours are shorter.
const ID_MAX_BYTES: usize = 64;
/// Commits tried before a change that others keep overtaking is refused.
const CHANGES_MAX: usize = 8;

/// The webhooks of one gateway. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks {
    core: Core,
    lists: Arc<EndpointLists>,
    actors: WebhookActors,
}

/// Endpoints that will have something due once a batch is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "after the commit it has to be announced"]
pub struct Planned {
    endpoints: Vec<EndpointId>,
}

impl Webhooks {
    /// Starts sending: first what was due when the process last ended.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when the actors can't be started or what is due can't be read.
    pub(crate) async fn start(core: Core, deliver: Arc<dyn Deliver>) -> Result<Self, GatewayError> {
        let lists = Arc::new(EndpointLists::new(Arc::clone(&core.store)));
        let parts = WebhookParts {
            store: Arc::clone(&core.store),
            clock: core.clock.clone(),
            random: core.random.clone(),
            vault: Arc::clone(&core.vault),
            deliver,
            config: core.config.webhook.clone(),
        };
        let actors = WebhookActors::start(parts, Arc::clone(&lists))
            .await
            .map_err(|error| GatewayError::Internal(error.to_string()))?;
        Ok(Self { core, lists, actors })
    }

    /// Starts no more requests, waits for those under way at most `within`, and ends.
    pub async fn stop(&self, within: Duration) {
        self.actors.stop(within).await;
    }

    /// Adds an event to `batch`: the event itself, and a notification that is due at once for each endpoint of the
    /// merchant that wants it. After the commit, [`Webhooks::announce`] what is returned.
    ///
    /// # Errors
    /// [`GatewayError`] when the endpoints can't be read; then `batch` must not be committed.
    pub fn plan(
        &self,
        batch: &mut Batch,
        merchant_id: &MerchantId,
        event: &Event,
        order_no: Option<&str>,
    ) -> Result<Planned, GatewayError> {
        batch.append(keys::events_of(merchant_id), record::encode(event)?);
        let mut planned = Planned::default();
        for endpoint in self.lists.of(merchant_id)?.iter().filter(|endpoint| endpoint.wants(event.name)) {
            self.add_notification(batch, endpoint, event, order_no)?;
            planned.endpoints.push(endpoint.id.clone());
        }
        Ok(planned)
    }

    /// Tells the endpoints of committed batches that something is due. Never waits.
    pub fn announce(&self, planned: Planned) {
        for endpoint_id in &planned.endpoints {
            self.actors.directory().poke(endpoint_id);
        }
    }

    fn add_notification(
        &self,
        batch: &mut Batch,
        endpoint: &Endpoint,
        event: &Event,
        order_no: Option<&str>,
    ) -> Result<Notification, GatewayError> {
        let now = self.core.clock.now();
        let notification = Notification::new(
            NewNotification {
                id: NotificationId::new(sortable_id("wn_", now, self.core.random.draw_u64())),
                merchant_id: endpoint.merchant_id.clone(),
                endpoint_id: endpoint.id.clone(),
                url: endpoint.url.clone(),
                event: event.name,
                object_no: event.object_no.clone(),
                order_no: order_no.map(str::to_owned),
                body: event.body.clone(),
                amount_minor: event.amount_minor,
                class: class_of(&self.core.config, event.currency, event.amount_minor),
                max_attempts: endpoint.max_attempts,
            },
            now,
        );
        let row_key = keys::notification(&endpoint.merchant_id, &notification.id);
        batch.put(row_key, record::encode(&notification)?);
        let due_key = keys::notification_due(&endpoint.id, now, &notification.id);
        // Known to be new, an entry that is soon deleted again never reaches the index.
        batch.insert(due_key, record::encode(&DueEntry::of(&notification))?);
        Ok(notification)
    }

    /// Sends a `test` event to one endpoint, whatever events it wants. Returns its notification.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], or [`GatewayError::InvalidState`] when the endpoint is not enabled.
    pub async fn send_test(
        &self,
        merchant_id: &MerchantId,
        endpoint_id: &EndpointId,
    ) -> Result<NotificationView, GatewayError> {
        let (endpoint, _) = self.read_endpoint(merchant_id, endpoint_id)?;
        if endpoint.status != EndpointStatus::Enabled {
            return Err(GatewayError::InvalidState { status: endpoint.status.as_str().to_owned() });
        }
        let event = self.test_event(self.core.clock.now())?;
        let mut batch = Batch::new();
        batch.append(keys::events_of(merchant_id), record::encode(&event)?);
        let notification = self.add_notification(&mut batch, &endpoint, &event, None)?;
        self.core.store.commit(batch).await?;
        self.actors.directory().poke(endpoint_id);
        Ok(NotificationView::of(&notification))
    }

    fn test_event(&self, now: Timestamp) -> Result<Event, GatewayError> {
        let body = serde_json::json!({
            "event": EventName::Test.as_str(),
            "payment_no": null,
            "order_no": null,
            "amount": null,
            "currency": null,
            "status": null,
            "timestamp": now.unix_s(),
            "extra": {},
        });
        let body = serde_json::value::to_raw_value(&body)
            .map_err(|error| GatewayError::Internal(format!("a test event can't be written: {error}")))?;
        Ok(Event {
            id: EventId::new(sortable_id("ev_", now, self.core.random.draw_u64())),
            name: EventName::Test,
            object_no: None,
            amount_minor: 0,
            currency: None,
            at: now,
            body,
        })
    }
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Webhooks").field("active", &self.actors.active()).finish_non_exhaustive()
    }
}

/// What became of one commit: `None` when somebody else had changed what it was based on.
fn unless_overtaken<T>(committed: Result<T, StoreError>) -> Result<Option<T>, GatewayError> {
    match committed {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Precondition { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
