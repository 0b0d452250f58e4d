//! Adds events and their notifications to batches. It is there before anything is sent, for those who send have events to
//! tell as well.

use std::sync::Arc;

use crate::actors::webhook::EndpointLists;
use crate::actors::webhook::rows::{self, Changed, Planned};
use crate::domain::event::Event;
use crate::domain::ids::{EndpointId, MerchantId, NotificationId, sortable_id};
use crate::domain::webhook::{Ending, Endpoint, EndpointStatus, NewNotification, Notification};
use crate::gateway::core::Core;
use crate::gateway::webhooks::urgency::class_of;
use crate::storage::{Batch, StoreError, keys, record};
use crate::telemetry::trace;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Planner {
    core: Core,
    lists: Arc<EndpointLists>,
}

impl Planner {
    pub(super) const fn new(core: Core, lists: Arc<EndpointLists>) -> Self {
        Self { core, lists }
    }

    /// Adds an event, and a notification for each endpoint of the merchant that wants it, but for one that is `left_out`.
    ///
    /// # Errors
    /// [`StoreError`] when the endpoints can't be read; then `batch` must not be committed.
    pub(super) fn plan(
        &self,
        batch: &mut Batch,
        merchant_id: &MerchantId,
        event: &Event,
        order_no: Option<&str>,
        left_out: Option<&EndpointId>,
    ) -> Result<Planned, StoreError> {
        batch.append(keys::events_of(merchant_id), record::encode(event)?);
        let mut planned = Planned::default();
        let endpoints = self.lists.of(merchant_id)?;
        let wanting = |endpoint: &&Endpoint| left_out != Some(&endpoint.id) && endpoint.subscribes(event.name);
        for endpoint in endpoints.iter().filter(wanting) {
            let (_, changed) = self.notify(batch, endpoint, event, order_no)?;
            planned.add(endpoint.id.clone(), changed);
        }
        Ok(planned)
    }

    /// Adds a notification of an event for one endpoint. That for a disabled one is a dead letter, which may be sent when
    /// it is enabled again.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when it can't be written.
    pub(super) fn notify(
        &self,
        batch: &mut Batch,
        endpoint: &Endpoint,
        event: &Event,
        order_no: Option<&str>,
    ) -> Result<(Notification, Changed), StoreError> {
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
                trace: trace::current(),
            },
            now,
        );
        let notification = match endpoint.status {
            EndpointStatus::Enabled | EndpointStatus::Paused => notification,
            EndpointStatus::Disabled => notification
                .end(Ending::EndpointDisabled, now)
                .map_err(|error| StoreError::Invalid(format!("a new notification can't be kept: {error}")))?,
        };
        let changed = rows::change(batch, None, &notification)?;
        Ok((notification, changed))
    }
}
