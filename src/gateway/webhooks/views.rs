//! What requests about webhooks carry and what is answered.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::domain::event::Event;
use crate::domain::ids::PRE_AUTH_NO_PREFIX;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{
    Endpoint, EndpointHealth, EndpointStatus, EventPattern, Notification, NotificationStatus, Overrides, Try,
};
use crate::gateway::command::given;

/// A new endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateEndpoint {
    /// Where events go: `https://`, to a public address.
    pub url: String,
    /// Which events: names, `payment.*` for all of a group, `*` for all (also when absent).
    #[serde(default)]
    pub events: Option<Vec<String>>,
    /// A note, up to 500 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// Tries of one notification, the first included: 1 to 100.
    #[serde(default)]
    pub max_attempts: Option<u32>,
    /// Waits before the second try and those after it, in seconds; the last one repeats. Up to 100, each up to a week.
    #[serde(default)]
    pub schedule_s: Option<Vec<u64>>,
    /// Wait before the second try, in seconds, 1 to 3600; the built-in waits are scaled from it.
    #[serde(default)]
    pub initial_backoff_s: Option<u64>,
    /// Longest wait between tries, in seconds, up to a week.
    #[serde(default)]
    pub max_backoff_s: Option<u64>,
    /// Waits vary at random by up to this share either way, in percent, 0 to 50.
    #[serde(default)]
    pub jitter_percent: Option<u32>,
    /// One request ends within this many seconds; never more than the gateway allows.
    #[serde(default)]
    pub timeout_s: Option<u64>,
}

/// The statuses that a merchant can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettableStatus {
    /// Send; also what was kept meanwhile.
    Enabled,
    /// Send nothing for now; keep what happens.
    Paused,
}

impl From<SettableStatus> for EndpointStatus {
    fn from(status: SettableStatus) -> Self {
        match status {
            SettableStatus::Enabled => Self::Enabled,
            SettableStatus::Paused => Self::Paused,
        }
    }
}

/// What becomes of what was kept for an endpoint that was disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// It is sent.
    Send,
    /// It stays with the dead letters until it is too old, or is asked for.
    Drop,
}

/// Changes of an endpoint; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateEndpoint {
    /// Where events go.
    #[serde(default)]
    pub url: Option<String>,
    /// Which events.
    #[serde(default)]
    pub events: Option<Vec<String>>,
    /// A note; an empty one removes it.
    #[serde(default)]
    pub description: Option<String>,
    /// Whether it is sent to.
    #[serde(default)]
    pub status: Option<SettableStatus>,
    /// What becomes of what was kept since the endpoint was disabled; `drop` when absent. Only where a disabled endpoint
    /// is enabled.
    #[serde(default)]
    pub kept: Option<Kept>,
    /// Tries of notifications made from now on, the first included; null for as many as the gateway makes.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub max_attempts: Option<Option<u32>>,
    /// Waits before the second try and those after it, in seconds; null for those of the gateway.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<u64>>)]
    pub schedule_s: Option<Option<Vec<u64>>>,
    /// Wait before the second try, in seconds; null for the gateway's.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    pub initial_backoff_s: Option<Option<u64>>,
    /// Longest wait between tries, in seconds; null for the gateway's.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    pub max_backoff_s: Option<Option<u64>>,
    /// Share by which waits vary, in percent; null for the gateway's.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub jitter_percent: Option<Option<u32>>,
    /// One request ends within this many seconds; null for the gateway's.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    pub timeout_s: Option<Option<u64>>,
}

impl UpdateEndpoint {
    /// Changes what an endpoint has otherwise than the configuration.
    pub(super) fn change_overrides(&self, overrides: &mut Overrides) {
        fn change<T: Clone>(value: &mut Option<T>, given: Option<&Option<T>>) {
            if let Some(given) = given {
                value.clone_from(given);
            }
        }
        change(&mut overrides.schedule_s, self.schedule_s.as_ref());
        change(&mut overrides.initial_backoff_s, self.initial_backoff_s.as_ref());
        change(&mut overrides.max_backoff_s, self.max_backoff_s.as_ref());
        change(&mut overrides.jitter_percent, self.jitter_percent.as_ref());
        change(&mut overrides.timeout_s, self.timeout_s.as_ref());
    }
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct EndpointView {
    /// Its id.
    pub id: String,
    /// Where events go.
    pub url: String,
    /// Which events.
    pub events: Vec<String>,
    /// The merchant's note.
    pub description: Option<String>,
    /// `enabled`, `paused` or `disabled`.
    pub status: String,
    /// Why it is disabled.
    pub disabled_reason: Option<String>,
    /// Since when.
    pub disabled_at: Option<String>,
    /// How it does.
    pub health: EndpointHealthView,
    /// Tries of one notification.
    pub max_attempts: u32,
    /// Waits between tries, in seconds; this and the four below are null where the endpoint has those of the gateway.
    pub schedule_s: Option<Vec<u64>>,
    /// Wait before the second try, in seconds.
    pub initial_backoff_s: Option<u64>,
    /// Longest wait between tries, in seconds.
    pub max_backoff_s: Option<u64>,
    /// Share by which waits vary, in percent.
    pub jitter_percent: Option<u32>,
    /// One request ends within this many seconds.
    pub timeout_s: Option<u64>,
    /// Until when the secret before the current one signs too.
    pub previous_secret_valid_until: Option<String>,
    /// Notifications that wait for it, counted up to 1,000; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<usize>,
    /// Its dead letters, counted up to 1,000; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<usize>,
    /// When it was made.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// How an endpoint does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct EndpointHealthView {
    /// `healthy`, `failing` (what was last tried failed), `open` (its breaker is open: nothing is sent for the moment), or
    /// `unknown` (it has taken nothing at this URL yet).
    pub state: String,
    /// The first failure since it last took a webhook.
    pub failing_since: Option<String>,
    /// When it last took a webhook after failures; null where it never failed.
    pub last_success_at: Option<String>,
    /// `closed`, `open`, or `half_open`: one webhook is tried.
    pub breaker: String,
    /// Until when the breaker is open.
    pub opens_until: Option<String>,
}

impl EndpointHealthView {
    /// The view of what is stored of an endpoint's health.
    pub(super) fn of(endpoint: &Endpoint, health: Option<&EndpointHealth>, now: Timestamp) -> Self {
        let open_until = health.and_then(|health| health.open_until);
        let failing_since = health.and_then(|health| health.failing_since);
        let breaker = match open_until {
            Some(until) if now < until => "open",
            Some(_) => "half_open",
            None => "closed",
        };
        let state = if breaker == "open" {
            "open"
        } else if failing_since.is_some() {
            "failing"
        } else if endpoint.proven_at.is_some() {
            "healthy"
        } else {
            "unknown"
        };
        Self {
            state: state.to_owned(),
            failing_since: failing_since.map(Timestamp::rfc3339),
            last_success_at: health.and_then(|health| health.last_success_at).map(Timestamp::rfc3339),
            breaker: breaker.to_owned(),
            opens_until: open_until.filter(|until| now < *until).map(Timestamp::rfc3339),
        }
    }
}

impl EndpointView {
    /// The view of an endpoint, with what is stored of its health.
    pub(super) fn of(endpoint: &Endpoint, health: Option<&EndpointHealth>, now: Timestamp) -> Self {
        let overrides = endpoint.overrides.clone();
        let former = endpoint.secrets.former_at(now).next();
        Self {
            id: endpoint.id.to_string(),
            url: endpoint.url.clone(),
            events: endpoint.events.iter().map(EventPattern::as_str).map(str::to_owned).collect(),
            description: endpoint.description.clone(),
            status: endpoint.status.as_str().to_owned(),
            disabled_reason: endpoint.disabled_reason.clone(),
            disabled_at: endpoint.disabled_at.map(Timestamp::rfc3339),
            health: EndpointHealthView::of(endpoint, health, now),
            max_attempts: endpoint.max_attempts,
            schedule_s: overrides.schedule_s,
            initial_backoff_s: overrides.initial_backoff_s,
            max_backoff_s: overrides.max_backoff_s,
            jitter_percent: overrides.jitter_percent,
            timeout_s: overrides.timeout_s,
            previous_secret_valid_until: former.map(|former| former.valid_until.rfc3339()),
            waiting: None,
            dead_letters: None,
            created_at: endpoint.created_at.rfc3339(),
            updated_at: endpoint.updated_at.rfc3339(),
        }
    }
}

/// An endpoint with its new secret, which is never shown again.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct NewSecretView {
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: EndpointView,
    /// The secret that signs from now on, `whsec_…`.
    pub secret: String,
}

impl std::fmt::Debug for NewSecretView {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NewSecretView").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// One try of a notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TryView {
    /// When it began.
    pub at: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The receiver's status code, if it answered.
    pub status_code: Option<u16>,
    /// The beginning of the receiver's answer.
    pub response: Option<String>,
    /// Why there was no answer.
    pub error: Option<String>,
}

impl TryView {
    fn of(a_try: &Try) -> Self {
        Self {
            at: a_try.at.rfc3339(),
            duration_ms: a_try.duration_ms,
            status_code: a_try.status_code,
            response: a_try.response.clone(),
            error: a_try.error.clone(),
        }
    }
}

/// A notification.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NotificationView {
    /// Its id; also its `webhook-id` on the wire.
    pub id: String,
    /// Where it goes.
    pub endpoint_id: String,
    /// The payment that it is about.
    pub payment_no: Option<String>,
    /// The pre-auth that it is about; absent when it is about none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub pre_auth_no: Option<String>,
    /// The merchant's number for it.
    pub order_no: Option<String>,
    /// What happened.
    pub event: String,
    /// The address of the last try.
    pub url: String,
    /// The body as it goes over the wire.
    #[schema(value_type = Object)]
    pub payload: Box<RawValue>,
    /// `pending`, `retrying`, `success` or `failed`.
    pub status: String,
    /// Tries so far.
    pub attempts: u32,
    /// Tries before it is given up, counted anew where it was sent again.
    pub max_attempts: u32,
    /// Status code of the last try.
    pub status_code: Option<u16>,
    /// The beginning of the receiver's last answer.
    pub response: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// Why it was given up: `exhausted` (all tries were in vain), `refused`, `endpoint_disabled`, which are dead letters, or
    /// `canceled`, `endpoint_deleted`, `expired`.
    pub failure: Option<String>,
    /// When it is tried again.
    pub next_retry_at: Option<String>,
    /// When the receiver took it.
    pub succeeded_at: Option<String>,
    /// When it was given up.
    pub failed_at: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
    /// All tries, oldest first; only where one notification is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tries: Option<Vec<TryView>>,
}

impl NotificationView {
    /// The view of a notification in a list.
    pub(super) fn of(notification: &Notification) -> Self {
        let last_try = notification.last_try();
        let is_retrying = notification.status == NotificationStatus::Retrying;
        Self {
            id: notification.id.to_string(),
            endpoint_id: notification.endpoint_id.to_string(),
            payment_no: notification.object_no.clone().filter(|number| !is_pre_auth(number)),
            pre_auth_no: notification.object_no.clone().filter(|number| is_pre_auth(number)),
            order_no: notification.order_no.clone(),
            event: notification.event.as_str().to_owned(),
            url: notification.url.clone(),
            payload: notification.body.clone(),
            status: notification.status.as_str().to_owned(),
            attempts: notification.attempts,
            max_attempts: notification.max_attempts,
            status_code: last_try.and_then(|last| last.status_code),
            response: last_try.and_then(|last| last.response.clone()),
            error: notification.error_text(),
            failure: notification.failure.map(|failure| failure.as_str().to_owned()),
            next_retry_at: notification.due_at.filter(|_| is_retrying).map(|at| at.rfc3339()),
            succeeded_at: notification.succeeded_at.map(|at| at.rfc3339()),
            failed_at: notification.failed_at.map(|at| at.rfc3339()),
            created_at: notification.created_at.rfc3339(),
            updated_at: notification.updated_at.rfc3339(),
            tries: None,
        }
    }

    /// The view of a notification with its tries.
    pub(super) fn with_tries(notification: &Notification) -> Self {
        let tries = notification.tries.iter().map(TryView::of).collect();
        Self { tries: Some(tries), ..Self::of(notification) }
    }
}

/// An event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EventView {
    /// Its number among the merchant's events, from 1 without gaps.
    pub sequence: u64,
    /// Its id.
    pub id: String,
    /// What happened.
    pub event: String,
    /// The payment that it is about.
    pub payment_no: Option<String>,
    /// The pre-auth that it is about; absent when it is about none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub pre_auth_no: Option<String>,
    /// When it happened.
    pub created_at: String,
    /// The body as it went over the wire.
    #[schema(value_type = Object)]
    pub body: Box<RawValue>,
}

impl EventView {
    /// The view of an event with its number.
    pub(super) fn of(sequence: u64, event: Event) -> Self {
        Self {
            sequence,
            id: event.id.to_string(),
            event: event.name.as_str().to_owned(),
            payment_no: event.object_no.clone().filter(|number| !is_pre_auth(number)),
            pre_auth_no: event.object_no.filter(|number| is_pre_auth(number)),
            created_at: event.at.rfc3339(),
            body: event.body,
        }
    }
}

/// Whether an object's number is a pre-auth's; all others are payments'.
fn is_pre_auth(object_no: &str) -> bool {
    object_no.starts_with(PRE_AUTH_NO_PREFIX)
}
