//! Notifications: what is on its way, what arrived, and beginning or ending one by hand.

use crate::actors::webhook::rows;
use crate::domain::ids::{EndpointId, MerchantId, NotificationId};
use crate::domain::webhook::{Anew, Ending, NotPossible, Notification, NotificationStatus};
use crate::gateway::error::GatewayError;
use crate::gateway::page::{Page, PageRequest, cursor_of};
use crate::gateway::webhooks::{CHANGES_MAX, ID_MAX_BYTES, NotificationView, Planned, Webhooks, unless_overtaken};
use crate::storage::{Batch, Scan, keys, record};

/// Rows looked at for one page. A page may be shorter than asked for, even empty, and still have a `next_cursor`.
const ROWS_LOOKED_AT_MAX: usize = 2_000;
/// Rows read at once.
const ROWS_READ_MAX: usize = 200;

/// Which notifications; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotificationFilter {
    /// `pending`, `retrying`, `success` or `failed`.
    pub status: Option<String>,
    /// Where they go.
    pub endpoint_id: Option<String>,
    /// What happened, by name.
    pub event: Option<String>,
    /// The payment (or pre-auth) that they are about.
    pub payment_no: Option<String>,
}

impl NotificationFilter {
    fn check(&self) -> Result<(), GatewayError> {
        match &self.status {
            Some(status) if NotificationStatus::parse(status).is_none() => {
                Err(GatewayError::field("status", "must be pending, retrying, success or failed"))
            }
            _ => Ok(()),
        }
    }

    fn takes(&self, notification: &Notification) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        is(&self.status, notification.status.as_str())
            && is(&self.endpoint_id, notification.endpoint_id.as_str())
            && is(&self.event, notification.event.as_str())
            && is(&self.payment_no, notification.object_no.as_deref().unwrap_or_default())
    }
}

impl Webhooks {
    /// A merchant's notifications, newest first.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the filter or the page asked for is none.
    pub fn list_notifications(
        &self,
        merchant_id: &MerchantId,
        filter: &NotificationFilter,
        page: &PageRequest,
    ) -> Result<Page<NotificationView>, GatewayError> {
        filter.check()?;
        let rows_max = page.rows()?;
        let prefix = keys::notifications_of(merchant_id);
        let mut scan = Scan::prefix_reverse(&prefix, ROWS_READ_MAX);
        if let Some(after) = page.key_after(&prefix)? {
            scan.end = Some(after);
        }
        let mut items = Vec::new();
        for _ in 0..ROWS_LOOKED_AT_MAX / ROWS_READ_MAX {
            let rows = self.core.store.scan(&scan)?;
            for row in &rows {
                if items.len() == rows_max {
                    return Ok(Page { items, next_cursor: scan.end.map(|end| cursor_of(&prefix, &end)) });
                }
                let notification: Notification = record::decode(&row.versioned.value)?;
                if filter.takes(&notification) {
                    items.push(NotificationView::of(&notification));
                }
                scan.end = Some(row.key.clone());
            }
            if rows.len() < ROWS_READ_MAX {
                return Ok(Page { items, next_cursor: None });
            }
        }
        Ok(Page { items, next_cursor: scan.end.map(|end| cursor_of(&prefix, &end)) })
    }

    /// One notification with its tries.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn get_notification(
        &self,
        merchant_id: &MerchantId,
        notification_id: &NotificationId,
    ) -> Result<NotificationView, GatewayError> {
        Ok(NotificationView::with_tries(&self.read_notification(merchant_id, notification_id)?.0))
    }

    /// Sends a failed notification again, with the whole schedule before it.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`]; [`GatewayError::InvalidState`] when it has not failed, or its endpoint is gone.
    pub async fn retry_notification(
        &self,
        merchant_id: &MerchantId,
        notification_id: &NotificationId,
    ) -> Result<NotificationView, GatewayError> {
        self.change_notification(merchant_id, notification_id, |notification| {
            let max_attempts = self.attempts_of(merchant_id, &notification.endpoint_id)?;
            notification.begin_anew(max_attempts, Anew::Manual, self.core.clock.now()).map_err(refused)
        })
        .await
    }

    /// Gives up a notification that is on its way. A request that is under way is not called back.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`]; [`GatewayError::InvalidState`] when it is not on its way.
    pub async fn cancel_notification(
        &self,
        merchant_id: &MerchantId,
        notification_id: &NotificationId,
    ) -> Result<NotificationView, GatewayError> {
        self.change_notification(merchant_id, notification_id, |notification| {
            notification.end(Ending::Canceled, self.core.clock.now()).map_err(refused)
        })
        .await
    }

    fn attempts_of(&self, merchant_id: &MerchantId, endpoint_id: &EndpointId) -> Result<u32, GatewayError> {
        match self.read_endpoint(merchant_id, endpoint_id) {
            Ok((endpoint, _)) => Ok(endpoint.max_attempts),
            Err(GatewayError::NotFound(_)) => {
                Err(GatewayError::InvalidState { status: String::from("endpoint_deleted") })
            }
            Err(error) => Err(error),
        }
    }

    async fn change_notification(
        &self,
        merchant_id: &MerchantId,
        notification_id: &NotificationId,
        change: impl Fn(Notification) -> Result<Notification, GatewayError>,
    ) -> Result<NotificationView, GatewayError> {
        for _ in 0..CHANGES_MAX {
            let (before, revision) = self.read_notification(merchant_id, notification_id)?;
            let after = change(before.clone())?;
            let mut batch = Batch::new();
            let changed = rows::change(&mut batch, Some((&before, revision)), &after)?;
            if unless_overtaken(self.core.store.commit(batch).await)?.is_some() {
                let view = NotificationView::with_tries(&after);
                let mut planned = Planned::default();
                planned.add(after.endpoint_id, changed);
                self.announce(planned);
                return Ok(view);
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    fn read_notification(
        &self,
        merchant_id: &MerchantId,
        notification_id: &NotificationId,
    ) -> Result<(Notification, u64), GatewayError> {
        if notification_id.as_str().len() > ID_MAX_BYTES {
            return Err(GatewayError::NotFound("notification"));
        }
        let stored = self.core.store.get(&keys::notification(merchant_id, notification_id))?;
        let stored = stored.ok_or(GatewayError::NotFound("notification"))?;
        Ok((record::decode(&stored.value)?, stored.revision))
    }
}

fn refused(refused: NotPossible) -> GatewayError {
    GatewayError::InvalidState { status: refused.0.as_str().to_owned() }
}
