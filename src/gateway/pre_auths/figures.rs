//! What is counted of pre-auths.

use crate::domain::pre_auth::{EndedOperation, Operation, OperationKind, OperationOutcome, PreAuth, PreAuthStatus};
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, IntCounterVec, IntGauge};

/// How a pre-auth ends.
const ENDS: [PreAuthStatus; 5] = [
    PreAuthStatus::Captured,
    PreAuthStatus::Canceled,
    PreAuthStatus::Expired,
    PreAuthStatus::Failed,
    PreAuthStatus::NeedsReview,
];
/// What may be asked of a channel.
const KINDS: [&str; 4] = ["authorize", "capture", "release", "extend"];
/// What comes of it.
const OUTCOMES: [&str; 4] =
    [OperationOutcome::Done.as_str(), OperationOutcome::Declined.as_str(), OperationOutcome::Refused.as_str(), UNKNOWN];
/// An operation whose first request was not answered.
const UNKNOWN: &str = "unknown";

/// The figures of one gateway's pre-auths.
#[derive(Clone)]
pub(super) struct PreAuthFigures {
    ended: IntCounterVec,
    operations: IntCounterVec,
    actors: IntGauge,
}

impl PreAuthFigures {
    /// # Errors
    /// [`GatewayError::Internal`] when a name is there twice.
    pub(super) fn new(figures: &Figures) -> Result<Self, GatewayError> {
        let made = Self {
            ended: figures.counters("pre_auths_total", "Pre-auths that came to their end, by how", &["end"])?,
            operations: figures.counters(
                "pre_auth_operations_total",
                "Operations on pre-auths, by what came of them; unknown ones once more when that is known",
                &["kind", "outcome"],
            )?,
            actors: figures.gauge("pre_auth_actors", "Pre-auths that are being worked on")?,
        };
        // All are there from the first scrape.
        for end in ENDS {
            made.ended.with_label_values(&[end.as_str()]);
        }
        for kind in KINDS {
            for outcome in OUTCOMES {
                made.operations.with_label_values(&[kind, outcome]);
            }
        }
        Ok(made)
    }

    /// Counts what a change has brought to its end.
    pub(super) fn note(&self, before: &PreAuth, after: &PreAuth) {
        if before.status != after.status && ENDS.contains(&after.status) {
            self.ended.with_label_values(&[after.status.as_str()]).inc();
        }
        let last_known = before.operations.last().map_or(0, |ended| ended.number);
        for EndedOperation { kind, outcome, .. } in after.operations.iter().filter(|ended| ended.number > last_known) {
            self.count(kind, outcome.as_str());
        }
        let unanswered = |operation: &&Operation| operation.unanswered_at.is_some();
        if let Some(operation) = after.operation.as_ref().filter(unanswered) {
            let was = before.operation.as_ref().filter(unanswered);
            if was.is_none_or(|was| was.number != operation.number) {
                self.count(&operation.kind, UNKNOWN);
            }
        }
    }

    fn count(&self, kind: &OperationKind, outcome: &str) {
        self.operations.with_label_values(&[kind.as_str(), outcome]).inc();
    }

    /// Says how many are being worked on.
    pub(super) fn read(&self, actors: usize) {
        self.actors.set(i64::try_from(actors).unwrap_or(i64::MAX));
    }
}
