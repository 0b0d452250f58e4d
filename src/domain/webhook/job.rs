//! Work on many notifications at once, which outlives the process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, JobId, MerchantId, object_made_at};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Anew, Ending, Failure, Notification, NotificationStatus};

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
    /// Gives up what has waited for too long for an endpoint that is paused.
    Expire,
}

/// What a job does with the notifications that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobAct {
    /// Sends them again, with the whole schedule before them.
    Begin(Anew),
    /// Gives them up.
    End(Ending),
}

/// Where a job finds its notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobSource<'a> {
    /// Among the dead letters of an endpoint, by when they were given up.
    DeadLetters(&'a EndpointId),
    /// Among what waits for an endpoint, lane by lane and there by when it is due.
    Waiting(&'a EndpointId),
    /// Among all of its merchant, by when they were made.
    All,
}

impl JobKind {
    /// Its name as the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Recover => "recover",
            Self::Cancel => "cancel",
            Self::Sweep => "sweep",
            Self::Park => "park",
            Self::Enable => "enable",
            Self::Purge => "purge",
            Self::Expire => "expire",
        }
    }

    /// Whether merchants ask for it. The others follow from something else.
    pub const fn is_asked_for(self) -> bool {
        matches!(self, Self::Retry | Self::Recover | Self::Cancel)
    }

    /// Whether it can be left undone without anything being wrong then.
    pub const fn is_cancelable(self) -> bool {
        matches!(self, Self::Retry | Self::Recover | Self::Cancel | Self::Sweep | Self::Enable)
    }

    /// What it does.
    pub const fn act(self) -> JobAct {
        match self {
            Self::Retry => JobAct::Begin(Anew::Manual),
            Self::Recover => JobAct::Begin(Anew::Recover),
            Self::Sweep => JobAct::Begin(Anew::Sweep),
            Self::Enable => JobAct::Begin(Anew::Enabled),
            Self::Cancel => JobAct::End(Ending::Canceled),
            Self::Park => JobAct::End(Ending::EndpointDisabled),
            Self::Purge => JobAct::End(Ending::EndpointDeleted),
            Self::Expire => JobAct::End(Ending::Expired),
        }
    }
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

impl JobStatus {
    /// Its name as the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
        }
    }
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

/// How far the clock may have been set back between a payment and what is told about it.
const CLOCK_SLACK: Duration = Duration::from_secs(86_400);

impl JobFilter {
    /// What was made before this is not among them: nothing is told about a payment before it is made.
    pub fn made_from(&self) -> Option<Timestamp> {
        Some(object_made_at(self.payment_no.as_deref()?)?.minus(CLOCK_SLACK))
    }

    /// Whether a notification is among them.
    pub fn takes(&self, notification: &Notification) -> bool {
        self.status.is_none_or(|status| status == notification.status)
            && self.event.is_none_or(|event| event == notification.event)
            && self.failure.is_none_or(|failure| notification.failure == Some(failure))
            && self.payment_no.as_deref().is_none_or(|wanted| notification.object_no.as_deref() == Some(wanted))
    }
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
    /// Those from this time on, see [`WebhookJob::takes`].
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

/// For so long after an endpoint was enabled, what was planned before may still be committed as if it were disabled.
const STRAGGLERS: Duration = Duration::from_secs(5);

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

    /// A job on the notifications of one endpoint.
    pub fn of_endpoint(
        id: JobId,
        (merchant_id, endpoint_id): (MerchantId, EndpointId),
        kind: JobKind,
        now: Timestamp,
    ) -> Self {
        Self { endpoint_id: Some(endpoint_id), ..Self::new(id, merchant_id, kind, now) }
    }

    /// Whether there is more to do.
    pub fn is_open(&self) -> bool {
        self.status == JobStatus::Running
    }

    /// Brings it to its end.
    pub fn finish(&mut self, status: JobStatus, error: Option<String>, now: Timestamp) {
        self.status = status;
        self.error = error;
        self.updated_at = now;
        self.finished_at = Some(now);
    }

    /// Where its notifications are. It may be among others.
    pub fn source(&self) -> JobSource<'_> {
        let Some(endpoint_id) = &self.endpoint_id else { return JobSource::All };
        let wants_others = self.filter.failure.is_some_and(|failure| !failure.is_dead_letter());
        match self.kind {
            // Only dead letters are found by their endpoint.
            JobKind::Retry if wants_others => JobSource::All,
            JobKind::Retry | JobKind::Recover | JobKind::Sweep | JobKind::Enable => JobSource::DeadLetters(endpoint_id),
            JobKind::Cancel | JobKind::Park | JobKind::Expire => JobSource::Waiting(endpoint_id),
            JobKind::Purge => JobSource::All,
        }
    }

    /// Whether it acts on a notification as it is now. `since` and `until` are about when it was made; for dead letters of
    /// one endpoint, about when it was given up; for what has waited for too long, about when it was due. What was sent
    /// again `sweeps_max` times by itself is not swept once more.
    pub fn takes(&self, notification: &Notification, sweeps_max: u32) -> bool {
        let is_of_endpoint = self.endpoint_id.as_ref().is_none_or(|id| *id == notification.endpoint_id);
        if !is_of_endpoint || !self.filter.takes(notification) || !self.is_in_time(notification) {
            return false;
        }
        let is_dead_letter = notification.failure.is_some_and(Failure::is_dead_letter);
        match self.kind {
            JobKind::Cancel | JobKind::Park | JobKind::Purge | JobKind::Expire => notification.status.is_open(),
            // What it has sent again and what has failed since is not its business.
            _ if notification.failed_at.is_none_or(|failed_at| failed_at > self.failures_until()) => false,
            JobKind::Retry => is_dead_letter || self.filter.failure.is_some(),
            JobKind::Recover => is_dead_letter,
            JobKind::Sweep => notification.failure == Some(Failure::Exhausted) && notification.sweeps < sweeps_max,
            JobKind::Enable => {
                // Only what was planned as ended comes late; what was ended after it was sent was disabled anew.
                let is_straggler = notification.failed_at == Some(notification.created_at);
                let is_kept = is_straggler || notification.failed_at <= Some(self.created_at);
                is_kept && notification.failure == Some(Failure::EndpointDisabled)
            }
        }
    }

    /// The last failure that is its business. Nothing that an enabled endpoint was sent fails because it is disabled, so that
    /// sending what was kept need not be afraid of its own.
    pub fn failures_until(&self) -> Timestamp {
        if self.kind == JobKind::Enable { self.created_at.plus(STRAGGLERS) } else { self.created_at }
    }

    /// Whether at `now` nothing more can come that is its business.
    pub fn is_settled(&self, now: Timestamp) -> bool {
        // A clock that was ahead when it was made says nothing about what may come.
        self.kind != JobKind::Enable || now >= self.failures_until() || now < self.created_at
    }

    fn is_in_time(&self, notification: &Notification) -> bool {
        let at = match self.kind {
            JobKind::Recover | JobKind::Sweep | JobKind::Enable => notification.failed_at,
            JobKind::Expire => notification.due_at,
            JobKind::Retry | JobKind::Cancel | JobKind::Park | JobKind::Purge => Some(notification.created_at),
        };
        let Some(at) = at else { return false };
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}
