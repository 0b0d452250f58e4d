//! One event on its way to one endpoint, with all that was tried.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, MerchantId, NotificationId};
use crate::domain::time::Timestamp;
use crate::domain::trace::TraceContext;
use crate::domain::webhook::{AmountClass, TryResult};

/// Tries remembered of one notification; the oldest are forgotten first. The schedule's own fit with room for manual
/// ones.
pub const TRIES_KEPT_MAX: usize = 32;
/// Of tries before the last, this much of the receiver's answer is kept, in bytes.
pub const EXCERPT_OF_OLDER_TRIES_MAX_BYTES: usize = 512;

/// Where a notification stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationStatus {
    /// Not tried yet.
    Pending,
    /// Tried in vain, and due again.
    Retrying,
    /// The receiver has it.
    Success,
    /// Given up.
    Failed,
}

impl NotificationStatus {
    /// The name as the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Success => "success",
            Self::Failed => "failed",
        }
    }

    /// Reads what the API writes.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Retrying, Self::Success, Self::Failed].into_iter().find(|status| status.as_str() == text)
    }

    /// Whether it will be sent.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Retrying)
    }
}

/// Why a notification was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// All tries were in vain. A recovered endpoint may get it again.
    Exhausted,
    /// The receiver answered that it does not want it.
    Refused,
    /// The merchant canceled it.
    Canceled,
    /// Its endpoint is no longer there.
    EndpointDeleted,
    /// Its endpoint was disabled before it could be sent.
    EndpointDisabled,
    /// It waited for too long, for an endpoint that was paused.
    Expired,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Exhausted, Self::Refused, Self::Canceled, Self::EndpointDeleted, Self::EndpointDisabled, Self::Expired];

    /// The name as the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Refused => "refused",
            Self::Canceled => "canceled",
            Self::EndpointDeleted => "endpoint_deleted",
            Self::EndpointDisabled => "endpoint_disabled",
            Self::Expired => "expired",
        }
    }

    /// Reads what the API writes.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|failure| failure.as_str() == text)
    }

    /// Whether what was given up so is kept as a dead letter, which may be sent again without anybody naming it.
    pub const fn is_dead_letter(self) -> bool {
        matches!(self, Self::Exhausted | Self::Refused | Self::EndpointDisabled)
    }
}

/// One try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// When it began.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The receiver's status code, if it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// The beginning of the receiver's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// Why there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Try {
    /// The record of a try that ended at `now` with `result`.
    pub fn of(result: &TryResult, now: Timestamp) -> Self {
        Self {
            at: now.minus(std::time::Duration::from_millis(result.duration_ms)),
            duration_ms: result.duration_ms,
            status_code: result.status_code,
            response: result.response.clone(),
            error: result.error.clone(),
        }
    }
}

/// What a notification is made from.
#[derive(Debug)]
pub struct NewNotification {
    /// Its id.
    pub id: NotificationId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// Where it goes.
    pub endpoint_id: EndpointId,
    /// The endpoint's address at the moment.
    pub url: String,
    /// What happened.
    pub event: EventName,
    /// The payment (or pre-auth) that it is about, if any.
    pub object_no: Option<String>,
    /// The merchant's number for it.
    pub order_no: Option<String>,
    /// The body exactly as it goes over the wire.
    pub body: Box<RawValue>,
    /// The amount that it is about, in minor units.
    pub amount_minor: i64,
    /// How much that is worth; decides how urgent it is.
    pub class: AmountClass,
    /// Tries before it is given up.
    pub max_attempts: u32,
    /// Where what it tells belongs in a trace, if it is in one.
    pub trace: Option<TraceContext>,
}

/// A notification as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notification {
    /// Its id; also its `webhook-id` on the wire, the same at every try.
    pub id: NotificationId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// Where it goes.
    pub endpoint_id: EndpointId,
    /// The address of the last try, or of the endpoint when it was made.
    pub url: String,
    /// What happened.
    pub event: EventName,
    /// The payment (or pre-auth) that it is about, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_no: Option<String>,
    /// The merchant's number for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_no: Option<String>,
    /// The body exactly as it goes over the wire, the same at every try.
    pub body: Box<RawValue>,
    /// The amount that it is about, in minor units.
    pub amount_minor: i64,
    /// How much that is worth; decides how urgent it is.
    #[serde(default)]
    pub class: AmountClass,
    /// Where it stands.
    pub status: NotificationStatus,
    /// Why it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// All tries so far.
    pub attempts: u32,
    /// Tries made before the schedule was last begun anew (by a manual retry).
    #[serde(default)]
    pub attempts_before_round: u32,
    /// Tries of one round before it is given up.
    pub max_attempts: u32,
    /// The tries, oldest first; at most [`TRIES_KEPT_MAX`].
    #[serde(default)]
    pub tries: Vec<Try>,
    /// When it has to be sent; `None` when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// When the receiver took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_at: Option<Timestamp>,
    /// When it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Timestamp>,
    /// When it became a dead letter first, since somebody last asked for it to be sent again: from then on it is kept for
    /// its days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_since: Option<Timestamp>,
    /// How often it was sent again by itself since then.
    #[serde(default)]
    pub sweeps: u32,
    /// Where what it tells belongs in a trace, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Notification {
    /// A notification that is due at once.
    pub fn new(new: NewNotification, now: Timestamp) -> Self {
        Self {
            id: new.id,
            merchant_id: new.merchant_id,
            endpoint_id: new.endpoint_id,
            url: new.url,
            event: new.event,
            object_no: new.object_no,
            order_no: new.order_no,
            body: new.body,
            amount_minor: new.amount_minor,
            class: new.class,
            status: NotificationStatus::Pending,
            failure: None,
            attempts: 0,
            attempts_before_round: 0,
            max_attempts: new.max_attempts,
            tries: Vec::new(),
            due_at: Some(now),
            succeeded_at: None,
            failed_at: None,
            dead_since: None,
            sweeps: 0,
            trace: new.trace,
            created_at: now,
            updated_at: now,
        }
    }

    /// Number of the next try, from 1, as the receiver sees it.
    pub const fn next_attempt(&self) -> u32 {
        self.attempts.saturating_add(1)
    }

    /// Since when it is kept as something that was given up; `None` when it was not.
    pub fn given_up_since(&self) -> Option<Timestamp> {
        let is_dead_letter = self.failure.is_some_and(Failure::is_dead_letter);
        self.dead_since.filter(|_| is_dead_letter).or(self.failed_at)
    }

    /// Whether there is anything in it that others have written and that may be about the customer: what receivers answered,
    /// and what the merchant's tracing has sent along.
    pub fn may_tell_of_customer(&self) -> bool {
        self.tries.iter().any(|a_try| a_try.response.is_some())
            || self.trace.as_ref().is_some_and(|trace| trace.state.is_some())
    }

    /// The same without any of that.
    #[must_use]
    pub fn without_customer(mut self) -> Self {
        self.tries.iter_mut().for_each(|a_try| a_try.response = None);
        self.trace.iter_mut().for_each(|trace| trace.state = None);
        self
    }

    /// The last try, if there was one.
    pub fn last_try(&self) -> Option<&Try> {
        self.tries.last()
    }
}
