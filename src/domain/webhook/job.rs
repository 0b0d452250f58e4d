//! Work on many notifications at once, which outlives the process.

use serde::{Deserialize, Serialize};

use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, JobId, MerchantId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Failure, NotificationStatus};

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Sends again what the merchant has chosen.
    Retry,
    /// Sends again what an endpoint has missed since a time.
    Recover,
    /// Gives up what the merchant has chosen.
    Cancel,
    /// Sends dead letters again of an endpoint that has recovered.
    Sweep,
    /// Makes dead letters of what waits for an endpoint that was disabled.
    Park,
    /// Sends what was kept for an endpoint that was disabled.
    Enable,
    /// Takes away the endpoints of a merchant that was removed, with what waits for them.
    Purge,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Not at its end.
    Running,
    /// At its end.
    Done,
    /// The merchant canceled it; what was done stays.
    Canceled,
    /// It could not go on.
    Failed,
}

/// Which notifications; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFilter {
    /// Where they stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<NotificationStatus>,
    /// What they tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventName>,
    /// The payment (or pre-auth) that they are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_no: Option<String>,
    /// Why they were given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What a job has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    /// Rows.
    pub looked_at: u64,
    /// Of them, those that it changed.
    pub changed: u64,
    /// Of them, those that it should have changed and could not.
    pub skipped: u64,
}

/// A job as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookJob {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// What it does.
    pub kind: JobKind,
    /// The endpoint that it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<EndpointId>,
    /// Which notifications.
    #[serde(default)]
    pub filter: JobFilter,
    /// Those from this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Those before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The last key that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Vec<u8>>,
    /// What it has done so far.
    #[serde(default)]
    pub done: JobProgress,
    /// How far it is.
    pub status: JobStatus,
    /// Why it could not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When it came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

impl WebhookJob {
    /// A job on everything, at its beginning. Whoever asks for less narrows it before it is stored.
    pub fn new(id: JobId, merchant_id: MerchantId, kind: JobKind, now: Timestamp) -> Self {
        Self {
            id,
            merchant_id,
            kind,
            endpoint_id: None,
            filter: JobFilter::default(),
            since: None,
            until: None,
            cursor: None,
            done: JobProgress::default(),
            status: JobStatus::Running,
            error: None,
            created_at: now,
            updated_at: now,
            finished_at: None,
        }
    }

    /// Whether there is more to do.
    pub fn is_open(&self) -> bool {
        self.status == JobStatus::Running
    }
}
