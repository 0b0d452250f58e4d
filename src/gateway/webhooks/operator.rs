//! Webhooks of all merchants, as the operator sees them and may act on them.

use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::webhook::rows;
use crate::domain::audit::{Change, Operator};
use crate::domain::ids::{EndpointId, MerchantId, NotificationId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Anew, Endpoint, EndpointStatus, Notification};
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
/// Most rows that are counted.
const COUNTED_MAX: usize = 1_000;
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
    /// Notifications that wait for it, counted up to 1,000; only where one endpoint is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<usize>,
    /// Its dead letters, counted up to 1,000; only where one endpoint is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<usize>,
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
                if is(&filter.status, &view.status) && is(&filter.health, &view.health.state) {
                    items.push(OperatorEndpointView {
                        merchant_id: endpoint.merchant_id.to_string(),
                        endpoint: view,
                        waiting: None,
                        dead_letters: None,
                    });
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
    /// [`GatewayError::InvalidRequest`] when no merchant is named, or the filter or the page asked for is none.
    pub fn list_notifications_of(
        &self,
        merchant_id: Option<&str>,
        filter: &NotificationFilter,
        page: &PageRequest,
    ) -> Result<Page<OperatorNotificationView>, GatewayError> {
        let merchant_id = merchant_id.ok_or_else(|| GatewayError::field("merchant_id", "must be given"))?;
        let Page { items, next_cursor } = self.list_notifications(&MerchantId::new(merchant_id), filter, page)?;
        let with_merchant =
            |notification| OperatorNotificationView { merchant_id: merchant_id.to_owned(), notification };
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
    /// [`GatewayError::NotFound`]; [`GatewayError::InvalidRequest`] when `kept` says something and it was not disabled.
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
        // Before it begins: nothing is begun without its entry.
        audit::record(&self.core, by, &change.field("since", None, Some(since.rfc3339().into()))).await?;
        self.recover(&merchant_id, endpoint_id, since).await
    }

    fn operator_view(&self, endpoint: &Endpoint) -> Result<OperatorEndpointView, GatewayError> {
        let count = |prefix: Vec<u8>| self.core.store.scan(&Scan::prefix(&prefix, COUNTED_MAX)).map(|rows| rows.len());
        Ok(OperatorEndpointView {
            merchant_id: endpoint.merchant_id.to_string(),
            endpoint: self.endpoint_view(endpoint)?,
            waiting: Some(count(keys::notifications_due_of(&endpoint.id))?),
            dead_letters: Some(count(keys::dead_letters_of(&endpoint.id))?),
        })
    }

    /// Whose endpoint it is: every merchant that has some is asked.
    fn merchant_of_endpoint(&self, endpoint_id: &EndpointId) -> Result<MerchantId, GatewayError> {
        let key = |merchant_id: &MerchantId| keys::endpoint(merchant_id, endpoint_id);
        self.merchant_that_has(keys::endpoints(), endpoint_id.as_str(), key, "webhook endpoint")
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
