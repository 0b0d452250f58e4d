//! Notifications: what is on its way, what arrived, and beginning or ending one by hand.

use crate::actors::webhook::rows;
use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, MerchantId, NotificationId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{
    Anew, Ending, EndpointStatus, Failure, JobFilter, NotPossible, Notification, NotificationStatus,
};
use crate::gateway::error::{FieldError, GatewayError};
use crate::gateway::page::{Page, PageRequest, cursor_of};
use crate::gateway::webhooks::{CHANGES_MAX, ID_MAX_BYTES, NotificationView, Planned, Webhooks, unless_overtaken};
use crate::storage::{Batch, Row, Scan, keys, record};

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
    /// The payment or pre-auth that they are about.
    pub payment_no: Option<String>,
    /// Why they were given up: `exhausted`, `refused`, `canceled`, `endpoint_deleted`, `endpoint_disabled` or `expired`.
    pub failure: Option<String>,
    /// Those that were made at this time or later.
    pub from: Option<Timestamp>,
    /// Those that were made before this time.
    pub to: Option<Timestamp>,
}

impl NotificationFilter {
    /// What it says about notifications, but for where they go and when they were made.
    pub(super) fn parsed(&self) -> Result<JobFilter, GatewayError> {
        let mut errors = Vec::new();
        let status = one_of(&mut errors, "status", self.status.as_deref(), NotificationStatus::parse, || {
            String::from("must be pending, retrying, success or failed")
        });
        let event_named = |name: &str| EventName::ALL.into_iter().find(|event| event.as_str() == name);
        let event = one_of(&mut errors, "event", self.event.as_deref(), event_named, || {
            let names: Vec<&str> = EventName::ALL.iter().map(|name| name.as_str()).collect();
            format!("must be one of {}", names.join(", "))
        });
        let failure = one_of(&mut errors, "failure", self.failure.as_deref(), Failure::parse, || {
            let names: Vec<&str> = Failure::ALL.iter().map(|failure| failure.as_str()).collect();
            format!("must be one of {}", names.join(", "))
        });
        if !errors.is_empty() {
            return Err(GatewayError::InvalidRequest(errors));
        }
        Ok(JobFilter { status, event, failure, payment_no: self.payment_no.clone() })
    }

    fn takes(&self, parsed: &JobFilter, notification: &Notification) -> bool {
        parsed.takes(notification)
            && self.endpoint_id.as_deref().is_none_or(|wanted| wanted == notification.endpoint_id.as_str())
            && self.from.is_none_or(|from| notification.created_at >= from)
            && self.to.is_none_or(|to| notification.created_at < to)
    }

    /// The endpoint among whose dead letters all that it takes are.
    fn endpoint_of_dead_letters(&self, parsed: &JobFilter) -> Option<EndpointId> {
        let is_dead_letter = parsed.failure.is_some_and(Failure::is_dead_letter);
        let endpoint_id = self.endpoint_id.as_deref().filter(|id| is_dead_letter && id.len() <= ID_MAX_BYTES);
        endpoint_id.map(EndpointId::new)
    }
}

/// Reads a name, or adds to `errors` what would be right.
fn one_of<T>(
    errors: &mut Vec<FieldError>,
    field: &str,
    given: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
    right: impl Fn() -> String,
) -> Option<T> {
    let given = given?;
    let parsed = parse(given);
    if parsed.is_none() {
        errors.push(FieldError::new(field, right()));
    }
    parsed
}

impl Webhooks {
    /// A merchant's notifications, newest first; those that an endpoint was given up on for one reason, which are found by
    /// an index of their own, by when they were given up.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the filter or the page asked for is none.
    pub fn list_notifications(
        &self,
        merchant_id: &MerchantId,
        filter: &NotificationFilter,
        page: &PageRequest,
    ) -> Result<Page<NotificationView>, GatewayError> {
        let parsed = filter.parsed()?;
        if let Some(endpoint_id) = filter.endpoint_of_dead_letters(&parsed) {
            let prefix = keys::dead_letters_of(&endpoint_id);
            let scan = Scan::prefix_reverse(&prefix, ROWS_READ_MAX);
            // Behind the time, which may be of any bytes, stands the notification.
            let is_place = |rest: &[u8]| rest.get(8..).is_some_and(|id| id.len() > 1 && id.ends_with(&[0]));
            let after = page.place_after(&prefix, is_place)?;
            return self.page_of(&prefix, scan, (page, after), |row| {
                let Some((_, _, notification_id)) = keys::parse_dead_letter(&row.key) else { return Ok(None) };
                let stored = self.core.store.get(&keys::notification(merchant_id, &notification_id))?;
                let notification = stored.map(|stored| record::decode::<Notification>(&stored.value)).transpose()?;
                Ok(notification.filter(|notification| filter.takes(&parsed, notification)))
            });
        }
        let prefix = keys::notifications_of(merchant_id);
        let mut scan = Scan::prefix_reverse(&prefix, ROWS_READ_MAX);
        if let Some(from) = filter.from.max(parsed.made_from()) {
            scan.start = keys::notifications_from(merchant_id, from);
        }
        if let Some(to) = filter.to {
            scan.end = Some(keys::notifications_from(merchant_id, to));
        }
        self.page_of(&prefix, scan, (page, page.key_after(&prefix)?), |row| {
            let is_about = |number: &String| record::may_name(&row.versioned.value, number);
            if !filter.payment_no.as_ref().is_none_or(is_about) {
                return Ok(None);
            }
            let notification: Notification = record::decode(&row.versioned.value)?;
            Ok(Some(notification).filter(|notification| filter.takes(&parsed, notification)))
        })
    }

    /// One page of what `read` finds in the rows of `scan`, which goes backwards, on from the key behind the page.
    fn page_of(
        &self,
        prefix: &[u8],
        mut scan: Scan,
        (page, after): (&PageRequest, Option<Vec<u8>>),
        read: impl Fn(&Row) -> Result<Option<Notification>, GatewayError>,
    ) -> Result<Page<NotificationView>, GatewayError> {
        let rows_max = page.rows()?;
        if let Some(after) = after {
            scan.end = Some(scan.end.map_or(after.clone(), |end| end.min(after)));
        }
        let mut items = Vec::new();
        for _ in 0..ROWS_LOOKED_AT_MAX / ROWS_READ_MAX {
            if scan.end.as_ref().is_some_and(|end| *end <= scan.start) {
                return Ok(Page { items, next_cursor: None });
            }
            let rows = self.core.store.scan(&scan)?;
            for row in &rows {
                if items.len() == rows_max {
                    return Ok(Page { items, next_cursor: scan.end.map(|end| cursor_of(prefix, &end)) });
                }
                items.extend(read(row)?.as_ref().map(NotificationView::of));
                scan.end = Some(row.key.clone());
            }
            if rows.len() < ROWS_READ_MAX {
                return Ok(Page { items, next_cursor: None });
            }
        }
        Ok(Page { items, next_cursor: scan.end.map(|end| cursor_of(prefix, &end)) })
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
    /// [`GatewayError::NotFound`]; [`GatewayError::InvalidState`] when it has not failed, or its endpoint is gone or
    /// disabled.
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

    pub(super) fn attempts_of(&self, merchant_id: &MerchantId, endpoint_id: &EndpointId) -> Result<u32, GatewayError> {
        match self.read_endpoint(merchant_id, endpoint_id) {
            Ok((endpoint, _)) if endpoint.status == EndpointStatus::Disabled => {
                Err(GatewayError::InvalidState { status: endpoint.status.as_str().to_owned() })
            }
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

    pub(super) fn read_notification(
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

pub(super) fn refused(refused: NotPossible) -> GatewayError {
    GatewayError::InvalidState { status: refused.0.as_str().to_owned() }
}
