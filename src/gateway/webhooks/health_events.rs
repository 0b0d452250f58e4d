//! Tells a merchant that one of its endpoints is not well.

use crate::actors::webhook::HealthTeller;
use crate::actors::webhook::rows::Planned;
use crate::domain::event::{Event, EventName};
use crate::domain::ids::{EventId, sortable_id};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Endpoint, EndpointTrouble, HealthChange, TryResult};
use crate::gateway::core::Core;
use crate::gateway::webhooks::planner::Planner;
use crate::storage::{Batch, StoreError};

/// Makes events of it.
pub(super) struct HealthEvents {
    core: Core,
    planner: Planner,
}

impl HealthEvents {
    pub(super) const fn new(core: Core, planner: Planner) -> Self {
        Self { core, planner }
    }

    fn event(
        &self,
        name: EventName,
        status: &str,
        extra: &serde_json::Value,
        now: Timestamp,
    ) -> Result<Event, StoreError> {
        let body = serde_json::json!({
            "event": name.as_str(),
            "payment_no": null,
            "order_no": null,
            "amount": null,
            "currency": null,
            "status": status,
            "timestamp": now.unix_s(),
            "extra": extra,
        });
        let body = serde_json::value::to_raw_value(&body)
            .map_err(|error| StoreError::Invalid(format!("an event can't be written: {error}")))?;
        Ok(Event {
            id: EventId::new(sortable_id("ev_", now, self.core.random.draw_u64())),
            name,
            object_no: None,
            amount_minor: 0,
            currency: None,
            at: now,
            body,
        })
    }
}

/// What an event says beside its name and status. Its number lets a receiver order what it hears about one endpoint.
fn extra(endpoint: &Endpoint, trouble: &EndpointTrouble, reason: Option<&str>, last: &TryResult) -> serde_json::Value {
    serde_json::json!({
        "endpoint_id": endpoint.id.as_str(),
        // Others hear of it: what grants access stands in the query, if anywhere.
        "url": endpoint.url.split_once('?').map_or(endpoint.url.as_str(), |(url, _)| url),
        "since": trouble.since.map(Timestamp::rfc3339),
        "reason": reason,
        "tries": trouble.tries,
        "last_status_code": last.status_code,
        "last_error": last.error,
        "sequence": trouble.sequence,
    })
}

impl HealthTeller for HealthEvents {
    fn tell(
        &self,
        batch: &mut Batch,
        endpoint: &Endpoint,
        change: &HealthChange,
        last: &TryResult,
        now: Timestamp,
    ) -> Result<Planned, StoreError> {
        let (name, status, extra) = match change {
            HealthChange::Opened { .. } | HealthChange::Closed => return Ok(Planned::default()),
            HealthChange::Failing(trouble) => {
                (EventName::WebhookEndpointFailing, "failing", extra(endpoint, trouble, None, last))
            }
            HealthChange::Disabled { reason, trouble } => {
                (EventName::WebhookEndpointDisabled, "disabled", extra(endpoint, trouble, Some(reason), last))
            }
        };
        let event = self.event(name, status, &extra, now)?;
        // The endpoint itself would hear nothing of it.
        self.planner.plan(batch, &endpoint.merchant_id, &event, None, Some(&endpoint.id))
    }
}
