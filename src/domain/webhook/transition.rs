//! What may become of a notification. Every pair of state and event that is not here is refused and changes nothing.

use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::domain::webhook::{
    EXCERPT_OF_OLDER_TRIES_MAX_BYTES, Failure, Notification, NotificationStatus, Schedule, TRIES_KEPT_MAX, Try,
    TryResult, Verdict, verdict,
};

/// Why an endpoint that answered 410 is disabled.
const GONE_REASON: &str = "the receiver answered 410 Gone";

/// The notification's status does not allow this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not possible in status {}", .0.as_str())]
pub struct NotPossible(pub NotificationStatus);

/// What to do next about a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the receiver has it.
    Done,
    /// Try again then.
    RetryAt(Timestamp),
    /// Nothing: it was given up.
    Failed,
}

/// What a try leads to.
#[derive(Debug)]
pub struct AfterTry {
    /// The notification from now on.
    pub notification: Notification,
    /// What to do next.
    pub next: Next,
    /// Why the endpoint has to be disabled, if it has to.
    pub disable_endpoint: Option<&'static str>,
}

/// Why a notification is begun anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anew {
    /// The merchant named it.
    Manual,
    /// The merchant asked for what its endpoint has missed.
    Recover,
    /// By itself: its endpoint has recovered.
    Sweep,
    /// Its endpoint was disabled and is enabled again.
    Enabled,
}

/// Why a notification ends without a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The merchant canceled it.
    Canceled,
    /// Its endpoint is no longer there.
    EndpointDeleted,
    /// Its endpoint is disabled.
    EndpointDisabled,
    /// It waited for too long.
    Expired,
}

impl Notification {
    /// What follows from a try that ended at `now`. `draw` is any random number and decides the jitter.
    ///
    /// # Errors
    /// [`NotPossible`] when it is not open.
    pub fn after_try(
        mut self,
        result: &TryResult,
        schedule: &Schedule,
        now: Timestamp,
        draw: u64,
    ) -> Result<AfterTry, NotPossible> {
        if !self.status.is_open() {
            return Err(NotPossible(self.status));
        }
        let was_due_at = self.due_at.take();
        self.record(Try::of(result, now), now);
        let verdict = verdict(result.status_code);
        let attempts_in_round = self.attempts.saturating_sub(self.attempts_before_round);
        let next = match verdict {
            Verdict::Success => self.succeed(now),
            Verdict::Refused | Verdict::Gone => self.fail(Failure::Refused, now),
            Verdict::Retry if attempts_in_round >= self.max_attempts => self.fail(Failure::Exhausted, now),
            Verdict::Retry => {
                let wait = schedule.jittered_wait_before(attempts_in_round.saturating_add(1), result.retry_after, draw);
                self.retry_at(now.plus(wait), was_due_at)
            }
        };
        let disable_endpoint = (verdict == Verdict::Gone).then_some(GONE_REASON);
        Ok(AfterTry { notification: self, next, disable_endpoint })
    }

    /// Notes a try whose notification was ended or begun anew while it was under way. It does not count against the
    /// new round, and the status stays; but what was only kept for an endpoint that was disabled has arrived, if it has.
    pub fn note_late_try(&mut self, result: &TryResult, now: Timestamp) {
        self.record(Try::of(result, now), now);
        self.attempts_before_round = self.attempts_before_round.saturating_add(1);
        if self.failure == Some(Failure::EndpointDisabled) && verdict(result.status_code) == Verdict::Success {
            (self.failure, self.failed_at) = (None, None);
            let _ = self.succeed(now);
        }
    }

    /// Begins a failed notification anew, with the whole schedule and `max_attempts` tries before it.
    ///
    /// # Errors
    /// [`NotPossible`] when it has not failed.
    pub fn begin_anew(mut self, max_attempts: u32, why: Anew, now: Timestamp) -> Result<Self, NotPossible> {
        if self.status != NotificationStatus::Failed {
            return Err(NotPossible(self.status));
        }
        match why {
            Anew::Sweep => self.sweeps = self.sweeps.saturating_add(1),
            Anew::Manual | Anew::Recover | Anew::Enabled => (self.dead_since, self.sweeps) = (None, 0),
        }
        self.status = NotificationStatus::Pending;
        self.failure = None;
        self.failed_at = None;
        self.attempts_before_round = self.attempts;
        self.max_attempts = max_attempts;
        self.due_at = Some(now);
        self.updated_at = now;
        Ok(self)
    }

    /// Ends it without a try.
    ///
    /// # Errors
    /// [`NotPossible`] when it is not open.
    pub fn end(mut self, ending: Ending, now: Timestamp) -> Result<Self, NotPossible> {
        if !self.status.is_open() {
            return Err(NotPossible(self.status));
        }
        self.due_at = None;
        self.updated_at = now;
        self.fail(
            match ending {
                Ending::Canceled => Failure::Canceled,
                Ending::EndpointDeleted => Failure::EndpointDeleted,
                Ending::EndpointDisabled => Failure::EndpointDisabled,
                Ending::Expired => Failure::Expired,
            },
            now,
        );
        Ok(self)
    }

    /// What went wrong, in words for the merchant.
    pub fn error_text(&self) -> Option<String> {
        match self.failure {
            Some(Failure::Canceled) => return Some(String::from("canceled")),
            Some(Failure::EndpointDeleted) => return Some(String::from("the endpoint was deleted")),
            Some(Failure::EndpointDisabled) => return Some(String::from("the endpoint is disabled")),
            Some(Failure::Expired) => return Some(String::from("it waited for too long")),
            Some(Failure::Exhausted | Failure::Refused) | None => {}
        }
        if self.status == NotificationStatus::Success {
            return None;
        }
        let last = self.last_try()?;
        last.error.clone().or_else(|| Some(format!("the receiver answered {}", last.status_code?)))
    }

    fn succeed(&mut self, now: Timestamp) -> Next {
        self.status = NotificationStatus::Success;
        self.succeeded_at = Some(now);
        (self.dead_since, self.sweeps) = (None, 0);
        Next::Done
    }

    fn fail(&mut self, failure: Failure, now: Timestamp) -> Next {
        self.status = NotificationStatus::Failed;
        self.failure = Some(failure);
        self.failed_at = Some(now);
        if failure.is_dead_letter() {
            self.dead_since.get_or_insert(now);
        }
        Next::Failed
    }

    fn retry_at(&mut self, at: Timestamp, was_due_at: Option<Timestamp>) -> Next {
        // Strictly later than before, so that the entries of two rounds are never the same key of the due index.
        let earliest = was_due_at.map_or(at, |was| was.plus(Duration::from_millis(1)));
        let at = at.max(earliest);
        self.status = NotificationStatus::Retrying;
        self.due_at = Some(at);
        Next::RetryAt(at)
    }

    fn record(&mut self, new_try: Try, now: Timestamp) {
        if let Some(response) = self.tries.last_mut().and_then(|previous| previous.response.as_mut()) {
            shorten(response, EXCERPT_OF_OLDER_TRIES_MAX_BYTES);
        }
        self.tries.push(new_try);
        let surplus = self.tries.len().saturating_sub(TRIES_KEPT_MAX);
        self.tries.drain(..surplus);
        self.attempts = self.attempts.saturating_add(1);
        self.updated_at = now;
    }
}

/// Cuts `text` to at most `max_bytes`, at a boundary between characters.
fn shorten(text: &mut String, max_bytes: usize) {
    let end = (0..=max_bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
}
