//! Webhooks: a merchant's endpoints, its events, and the notifications that carry them.
//!
//! An event and its notifications are committed together with the change that they are about ([`Webhooks::plan`]); only
//! then is anybody told that there is something to send ([`Webhooks::announce`]). Who forgets to announce loses nothing:
//! what is due is in the store, and is sent when the endpoint is next looked at.

mod about;
mod endpoints;
mod events;
mod health_events;
mod jobs;
pub(in crate::gateway) mod metrics;
mod notifications;
mod operator;
mod planner;
mod urgency;
mod views;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::actors::webhook::rows::Changed;
use crate::actors::webhook::{EndpointLists, WebhookActors, WebhookParts};
use crate::config::WebhookConfig;
use crate::delivery::Deliver;
use crate::domain::audit::{Change, Operator};
use crate::domain::event::{Event, EventName};
use crate::domain::ids::{EndpointId, EventId, MerchantId, sortable_id};
use crate::domain::time::Timestamp;
use crate::domain::webhook::EndpointStatus;
use crate::gateway::audit;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::page::{Page, PageRequest, cursor_of};
use crate::gateway::webhooks::health_events::HealthEvents;
use crate::gateway::webhooks::jobs::Jobs;
use crate::gateway::webhooks::metrics::WebhookFigures;
use crate::gateway::webhooks::planner::Planner;
use crate::storage::{Batch, Committed, Row, Scan, StoreError, keys, record};

pub use crate::actors::webhook::rows::Planned;

pub use about::About;
pub(crate) use endpoints::COUNTED_MAX;
pub(crate) use endpoints::reseal_endpoint;
pub(crate) use jobs::new_job_id;
pub use jobs::{JobFilterView, JobView};
pub use notifications::NotificationFilter;
pub use operator::{EndpointFilter, OperatorEndpointView, OperatorJobView, OperatorNotificationView};
pub use views::{
    CreateEndpoint, EndpointHealthView, EndpointView, EventView, Kept, NewSecretView, NotificationView, SettableStatus,
    TryView, UpdateEndpoint,
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
    planner: Planner,
    actors: WebhookActors,
    figures: Arc<WebhookFigures>,
    jobs: Jobs,
}

impl Webhooks {
    /// Starts sending: first what was due when the process last ended.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when the actors can't be started or what is due can't be read.
    pub(crate) async fn start(core: Core, deliver: Arc<dyn Deliver>) -> Result<Self, GatewayError> {
        let lists = Arc::new(EndpointLists::new(Arc::clone(&core.store)));
        let planner = Planner::new(core.clone(), Arc::clone(&lists));
        let figures = Arc::new(WebhookFigures::new(&core.figures)?);
        let jobs = Jobs::new(&core);
        let parts = WebhookParts {
            store: Arc::clone(&core.store),
            clock: core.clock.clone(),
            random: core.random.clone(),
            vault: Arc::clone(&core.vault),
            deliver,
            config: core.config.webhook.clone(),
            traces: core.traces.clone(),
            observer: Arc::clone(&figures) as _,
            job_added: jobs.added(),
            teller: Arc::new(HealthEvents::new(core.clone(), planner.clone())),
        };
        let actors = WebhookActors::start(parts, Arc::clone(&lists))
            .await
            .map_err(|error| GatewayError::Internal(error.to_string()))?;
        let webhooks = Self { core, lists, planner, actors, figures, jobs };
        webhooks.jobs.start(&webhooks);
        Ok(webhooks)
    }

    /// Goes by other figures of retries, breakers and recovery from now on.
    pub(crate) fn configure(&self, config: &WebhookConfig) {
        self.actors.configure(config);
    }

    /// Starts no more requests, waits for those under way at most `within`, and ends.
    pub async fn stop(&self, within: Duration) {
        self.jobs.stop().await;
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
        Ok(self.planner.plan(batch, merchant_id, event, order_no, None)?)
    }

    /// Tells the endpoints of committed batches that something is due. Never waits.
    pub fn announce(&self, planned: Planned) {
        self.actors.announce(&planned);
    }

    /// Counts what was committed of notifications that nobody has to be told of.
    pub(crate) fn count(&self, changed: &Changed) {
        self.actors.count(changed);
    }

    /// Notifications that wait to be sent, and those that were given up, each once they were counted.
    pub(crate) fn waiting_and_dead(&self) -> (Option<u64>, Option<u64>) {
        self.figures.waiting_and_dead()
    }

    /// Brings the figures for Prometheus up to date.
    pub(crate) fn read_figures(&self) {
        self.figures.read(&self.actors);
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
        let (notification, changed) = self.planner.notify(&mut batch, &endpoint, &event, None)?;
        self.core.store.commit(batch).await?;
        let mut planned = Planned::default();
        planned.add(endpoint.id, changed);
        self.announce(planned);
        Ok(NotificationView::of(&notification))
    }

    /// One page of the rows with a prefix, newest first, as `view` shows them; those of which it says nothing are left out.
    fn newest<V>(
        &self,
        prefix: &[u8],
        page: &PageRequest,
        view: impl Fn(&Row) -> Result<Option<V>, GatewayError>,
    ) -> Result<Page<V>, GatewayError> {
        let rows_max = page.rows()?;
        let mut scan = Scan::prefix_reverse(prefix, rows_max.saturating_add(1));
        if let Some(after) = page.key_after(prefix)? {
            scan.end = Some(after);
        }
        let mut rows = self.core.store.scan(&scan)?;
        let has_more = rows.len() > rows_max;
        rows.truncate(rows_max);
        let next_cursor = rows.last().filter(|_| has_more).map(|last| cursor_of(prefix, &last.key));
        let items = rows.iter().filter_map(|row| view(row).transpose()).collect::<Result<_, GatewayError>>()?;
        Ok(Page { items, next_cursor })
    }

    /// Commits a change; one that an operator has made with its entry in the audit.
    async fn commit_by(&self, batch: Batch, by: Option<(&Operator, &Change)>) -> Result<Committed, StoreError> {
        match by {
            None => self.core.store.commit(batch).await,
            Some((by, change)) => audit::commit(&self.core, batch, by, change).await,
        }
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
