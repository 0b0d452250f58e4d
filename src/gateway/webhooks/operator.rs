//! Webhooks of all merchants, as the operator sees them and may act on them.

use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::webhook::{DeliveryObserver, rows};
use crate::domain::audit::{Change, Operator};
use crate::domain::ids::{EndpointId, JobId, MerchantId, NotificationId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Anew, Endpoint, EndpointHealth, EndpointStatus, LaneSet, Notification};
use crate::gateway::audit;
use crate::gateway::error::GatewayError;
use crate::gateway::page::{Page, PageRequest, cursor_of};
use crate::gateway::webhooks::notifications::refused;
use crate::gateway::webhooks::{
    CHANGES_MAX, EndpointView, ID_MAX_BYTES, JobView, Kept, NotificationFilter, NotificationView, Planned,
    SettableStatus, Webhooks, unless_overtaken,
};
use crate::storage::{Batch, Scan, keys, prefix_end, record};

/// Rows looked at for one page. A page may be shorter than asked for, even empty, and still have a `next_cursor`.
const ROWS_LOOKED_AT_MAX: usize = 2_000;
/// Rows read at once.
const ROWS_READ_MAX: usize = 200;
/// How an endpoint can do.
const HEALTHS: [&str; 4] = ["healthy", "failing", "open", "unknown"];

/// Which endpoints; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointFilter {
    /// Whose.
    pub merchant_id: Option<String>,
    /// `enabled`, `paused` or `disabled`.
    pub status: Option<String>,
    /// `healthy`, `failing`, `open` or `unknown`.
    pub health: Option<String>,
    /// Only those that have notifications that were given up and are kept.
    pub has_dead_letters: bool,
}

impl EndpointFilter {
    fn check(&self) -> Result<(), GatewayError> {
        if self.status.as_deref().is_some_and(|status| EndpointStatus::parse(status).is_none()) {
            return Err(GatewayError::field("status", "must be enabled, paused or disabled"));
        }
        if self.health.as_deref().is_some_and(|health| !HEALTHS.contains(&health)) {
            return Err(GatewayError::field("health", "must be healthy, failing, open or unknown"));
        }
        Ok(())
    }
}

/// An endpoint and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct OperatorEndpointView {
    /// Whose it is.
    pub merchant_id: String,
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: EndpointView,
}

/// A notification and whose it is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OperatorNotificationView {
    /// Whose it is.
    pub merchant_id: String,
    /// The notification.
    #[serde(flatten)]
    pub notification: NotificationView,
}

/// A job and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct OperatorJobView {
    /// Whose it is.
    pub merchant_id: String,
    /// The job.
    #[serde(flatten)]
    pub job: JobView,
}

impl From<(MerchantId, JobView)> for OperatorJobView {
    fn from((merchant_id, job): (MerchantId, JobView)) -> Self {
        Self { merchant_id: merchant_id.to_string(), job }
    }
}

impl Webhooks {
    /// Endpoints of all merchants, in the order of merchants.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the filter or the page asked for is none.
    pub fn list_all_endpoints(
        &self,
        filter: &EndpointFilter,
        page: &PageRequest,
    ) -> Result<Page<OperatorEndpointView>, GatewayError> {
        filter.check()?;
        let rows_max = page.rows()?;
        let all = keys::endpoints();
        let prefix = match &filter.merchant_id {
            Some(merchant_id) => keys::endpoints_of(&MerchantId::new(merchant_id.as_str())),
            None => all.clone(),
        };
        let mut scan = Scan::prefix(&prefix, ROWS_READ_MAX);
        if let Some(last) = page.key_after(&all)? {
            scan.start = [last.as_slice(), &[0]].concat().max(scan.start);
            if scan.end.as_ref().is_some_and(|end| *end <= scan.start) {
                return Ok(Page { items: Vec::new(), next_cursor: None });
            }
        }
        let mut items = Vec::new();
        let mut last = None;
        for _ in 0..ROWS_LOOKED_AT_MAX / ROWS_READ_MAX {
            let rows = self.core.store.scan(&scan)?;
            for row in &rows {
                if items.len() == rows_max {
                    return Ok(Page { items, next_cursor: last.map(|last: Vec<u8>| cursor_of(&all, &last)) });
                }
                let endpoint: Endpoint = record::decode(&row.versioned.value)?;
                let view = self.endpoint_view(&endpoint)?;
                let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
                if is(&filter.status, &view.status)
                    && is(&filter.health, &view.health.state)
                    && (!filter.has_dead_letters || self.has_dead_letters(&endpoint)?)
                {
                    items.push(OperatorEndpointView { merchant_id: endpoint.merchant_id.to_string(), endpoint: view });
                }
                last = Some(row.key.clone());
                scan.start = [row.key.as_slice(), &[0]].concat();
            }
            if rows.len() < ROWS_READ_MAX {
                return Ok(Page { items, next_cursor: None });
            }
        }
        Ok(Page { items, next_cursor: last.map(|last| cursor_of(&all, &last)) })
    }

    /// One endpoint, whosever it is.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn find_endpoint(&self, endpoint_id: &EndpointId) -> Result<OperatorEndpointView, GatewayError> {
        let merchant_id = self.merchant_of_endpoint(endpoint_id)?;
        self.operator_view(&self.read_endpoint(&merchant_id, endpoint_id)?.0)
    }

    /// A merchant's notifications, newest first.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when neither a merchant nor an endpoint is named, or the filter or the page asked
    /// for is none; [`GatewayError::NotFound`] when the endpoint is not there.
    pub fn list_notifications_of(
        &self,
        merchant_id: Option<&str>,
        filter: &NotificationFilter,
        page: &PageRequest,
    ) -> Result<Page<OperatorNotificationView>, GatewayError> {
        let merchant_id = match (merchant_id, &filter.endpoint_id) {
            (Some(merchant_id), _) => MerchantId::new(merchant_id),
            (None, Some(endpoint_id)) => self.merchant_of_endpoint(&EndpointId::new(endpoint_id.as_str()))?,
            (None, None) => return Err(GatewayError::field("merchant_id", "must be given, or endpoint_id")),
        };
        let Page { items, next_cursor } = self.list_notifications(&merchant_id, filter, page)?;
        let with_merchant =
            |notification| OperatorNotificationView { merchant_id: merchant_id.to_string(), notification };
        Ok(Page { items: items.into_iter().map(with_merchant).collect(), next_cursor })
    }

    /// One notification with its tries, whosever it is.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn find_notification(
        &self,
        notification_id: &NotificationId,
    ) -> Result<OperatorNotificationView, GatewayError> {
        let merchant_id = self.merchant_of_notification(notification_id)?;
        let notification = self.get_notification(&merchant_id, notification_id)?;
        Ok(OperatorNotificationView { merchant_id: merchant_id.to_string(), notification })
    }

    /// Pauses or enables any merchant's endpoint.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`]; [`GatewayError::InvalidRequest`] when `kept` says something and it was not disabled;
    /// [`GatewayError::InvalidState`] when it is disabled and is to be paused.
    pub async fn set_any_status(
        &self,
        endpoint_id: &EndpointId,
        status: (SettableStatus, Option<Kept>),
        by: &Operator,
    ) -> Result<OperatorEndpointView, GatewayError> {
        let merchant_id = self.merchant_of_endpoint(endpoint_id)?;
        let endpoint = self.set_status_by((&merchant_id, endpoint_id), status, by).await?;
        self.operator_view(&endpoint)
    }

    /// Sends any merchant's failed notification again.
    ///
    /// # Errors
    /// As for [`Webhooks::retry_notification`].
    pub async fn retry_any_notification(
        &self,
        notification_id: &NotificationId,
        by: &Operator,
    ) -> Result<OperatorNotificationView, GatewayError> {
        let merchant_id = self.merchant_of_notification(notification_id)?;
        let change = Change::new("webhook_notification.retry", format!("{merchant_id}/{notification_id}"));
        for _ in 0..CHANGES_MAX {
            let (before, revision) = self.read_notification(&merchant_id, notification_id)?;
            let max_attempts = self.attempts_of(&merchant_id, &before.endpoint_id)?;
            let now = self.core.clock.now();
            let after: Notification = before.clone().begin_anew(max_attempts, Anew::Manual, now).map_err(refused)?;
            let mut batch = Batch::finishing();
            let changed = rows::change(&mut batch, Some((&before, revision)), &after)?;
            if unless_overtaken(audit::commit(&self.core, batch, by, &change).await)?.is_some() {
                let notification = NotificationView::with_tries(&after);
                let mut planned = Planned::default();
                planned.add(after.endpoint_id, changed);
                self.announce(planned);
                return Ok(OperatorNotificationView { merchant_id: merchant_id.to_string(), notification });
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    /// Sends any merchant's endpoint again what it has missed since a time.
    ///
    /// # Errors
    /// As for [`Webhooks::recover`].
    pub async fn recover_any(
        &self,
        endpoint_id: &EndpointId,
        since: Timestamp,
        by: &Operator,
    ) -> Result<JobView, GatewayError> {
        let merchant_id = self.merchant_of_endpoint(endpoint_id)?;
        let change = Change::new("webhook_endpoint.recover", format!("{merchant_id}/{endpoint_id}"));
        let change = change.field("since", None, Some(since.rfc3339().into()));
        self.recover_by((&merchant_id, endpoint_id), since, Some((by, &change))).await
    }

    /// Closes the breaker of any merchant's endpoint at once, and forgets how it did; what waits is released gradually.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub async fn reset_any_health(
        &self,
        endpoint_id: &EndpointId,
        by: &Operator,
    ) -> Result<OperatorEndpointView, GatewayError> {
        let merchant_id = self.merchant_of_endpoint(endpoint_id)?;
        let change = Change::new("webhook_endpoint.reset_health", format!("{merchant_id}/{endpoint_id}"));
        let key = keys::endpoint_health(&merchant_id, endpoint_id);
        for _ in 0..CHANGES_MAX {
            let (endpoint, revision) = self.read_endpoint(&merchant_id, endpoint_id)?;
            let mut batch = Batch::finishing();
            batch.expect(keys::endpoint(&merchant_id, endpoint_id), revision);
            let mut was_open = false;
            if let Some(stored) = self.core.store.get(&key)? {
                // What can't be read is not known.
                let health: EndpointHealth = record::decode(&stored.value).unwrap_or_default();
                was_open = health.open_until.is_some();
                batch.replace(
                    key.clone(),
                    stored.revision,
                    record::encode(&health.released_at(self.actors.due_now()))?,
                );
            }
            if unless_overtaken(audit::commit(&self.core, batch, by, &change).await)?.is_some() {
                self.actors.forget_health(endpoint_id);
                if was_open {
                    self.figures.breaker(false);
                }
                self.actors.directory().poke(endpoint_id, LaneSet::ALL);
                return self.operator_view(&endpoint);
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    /// A merchant's jobs, or, where none is named, those of all merchants that are under way; newest first.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the page asked for is none.
    pub fn list_all_jobs(
        &self,
        merchant_id: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<OperatorJobView>, GatewayError> {
        let Page { items, next_cursor } = match merchant_id.map(MerchantId::new) {
            None => self.list_open_jobs(page)?,
            Some(merchant_id) => {
                let Page { items, next_cursor } = self.list_jobs(&merchant_id, page)?;
                let items = items.into_iter().map(|job| (merchant_id.clone(), job)).collect();
                Page { items, next_cursor }
            }
        };
        Ok(Page { items: items.into_iter().map(OperatorJobView::from).collect(), next_cursor })
    }

    /// One job, whosever it is.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn find_job(&self, job_id: &JobId) -> Result<OperatorJobView, GatewayError> {
        let merchant_id = self.merchant_of_job(job_id)?;
        let job = self.get_job(&merchant_id, job_id)?;
        Ok((merchant_id, job).into())
    }

    /// Ends any merchant's job where it is.
    ///
    /// # Errors
    /// As for [`Webhooks::cancel_job`].
    pub async fn cancel_any_job(&self, job_id: &JobId, by: &Operator) -> Result<OperatorJobView, GatewayError> {
        let merchant_id = self.merchant_of_job(job_id)?;
        let change = Change::new("webhook_job.cancel", format!("{merchant_id}/{job_id}"));
        let job = self.cancel_job_by((&merchant_id, job_id), Some((by, &change))).await?;
        Ok((merchant_id, job).into())
    }

    fn operator_view(&self, endpoint: &Endpoint) -> Result<OperatorEndpointView, GatewayError> {
        let merchant_id = endpoint.merchant_id.to_string();
        Ok(OperatorEndpointView { merchant_id, endpoint: self.counted_endpoint_view(endpoint)? })
    }

    /// Whose endpoint it is: every merchant that has some is asked.
    fn merchant_of_endpoint(&self, endpoint_id: &EndpointId) -> Result<MerchantId, GatewayError> {
        let key = |merchant_id: &MerchantId| keys::endpoint(merchant_id, endpoint_id);
        self.merchant_that_has(keys::endpoints(), endpoint_id.as_str(), key, "webhook endpoint")
    }

    /// The same for a job.
    fn merchant_of_job(&self, job_id: &JobId) -> Result<MerchantId, GatewayError> {
        let key = |merchant_id: &MerchantId| keys::webhook_job(merchant_id, job_id);
        self.merchant_that_has(keys::webhook_jobs(), job_id.as_str(), key, "webhook job")
    }

    /// The same for a notification.
    fn merchant_of_notification(&self, notification_id: &NotificationId) -> Result<MerchantId, GatewayError> {
        let key = |merchant_id: &MerchantId| keys::notification(merchant_id, notification_id);
        self.merchant_that_has(keys::notifications(), notification_id.as_str(), key, "notification")
    }

    fn merchant_that_has(
        &self,
        all: Vec<u8>,
        id: &str,
        key: impl Fn(&MerchantId) -> Vec<u8>,
        what: &'static str,
    ) -> Result<MerchantId, GatewayError> {
        let not_found = || GatewayError::NotFound(what);
        if id.len() > ID_MAX_BYTES {
            return Err(not_found());
        }
        let end = prefix_end(&all);
        let mut start = all;
        loop {
            let next = Scan { start, end: end.clone(), limit: 1, reverse: false };
            let row = self.core.store.scan(&next)?.into_iter().next().ok_or_else(not_found)?;
            if let Some(merchant_id) = keys::merchant_of(&row.key)
                && self.core.store.get(&key(&merchant_id))?.is_some()
            {
                return Ok(merchant_id);
            }
            start = prefix_end(keys::of_one_merchant(&row.key)).ok_or_else(not_found)?;
        }
    }
}
