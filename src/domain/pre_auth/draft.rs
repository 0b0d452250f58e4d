//! A change in the making: what is true of every change, whatever it came from.

use crate::domain::event::EventName;
use crate::domain::outcome::{Failure, HoldAnswer};
use crate::domain::pre_auth::due::next_due_at;
use crate::domain::pre_auth::{
    Alert, Change, Dispatch, EndedOperation, EventKind, OPERATIONS_MAX, Operation, OperationKind, OperationOutcome,
    PreAuth, PreAuthPolicy, PreAuthStatus, ReleaseWhy, Sending, table,
};
use crate::domain::time::Timestamp;

/// A pre-auth that is being changed, beside what it was before.
pub(super) struct Draft<'a> {
    before: &'a PreAuth,
    pub pre_auth: PreAuth,
    tell: Vec<EventName>,
    send: Vec<Dispatch>,
    alerts: Vec<Alert>,
}

impl<'a> Draft<'a> {
    pub fn of(before: &'a PreAuth) -> Self {
        Self { before, pre_auth: before.clone(), tell: Vec::new(), send: Vec::new(), alerts: Vec::new() }
    }

    /// Takes one step of the documented table. A step that is not in it is not taken.
    pub fn step(&mut self, event: EventKind, to: PreAuthStatus) {
        let from = self.pre_auth.status;
        let is_documented = table(from, event).is_some_and(|documented| documented.contains(&to));
        debug_assert!(is_documented, "{from:?} does not become {to:?} by {event:?}");
        if is_documented {
            self.pre_auth.status = to;
        }
    }

    pub fn tell(&mut self, name: EventName) {
        self.tell.push(name);
    }

    pub fn send(&mut self, what: Sending, is_first: bool) {
        self.send.push(Dispatch { what, is_first });
    }

    pub fn alert(&mut self, alert: Alert) {
        self.alerts.push(alert);
    }

    /// Takes over names, and when money may have been sent.
    pub fn learn(&mut self, answer: &HoldAnswer, now: Timestamp) {
        self.pre_auth.refs.learn(&answer.refs);
        if answer.sent_money {
            self.pre_auth.money_sent_at = Some(now);
        }
    }

    /// Opens the next operation and sends it for the first time.
    pub fn open(&mut self, kind: OperationKind, provider_key: String, now: Timestamp) {
        let what = match kind {
            OperationKind::Authorize => Sending::Authorize,
            OperationKind::Capture { .. } => Sending::Capture,
            OperationKind::Release { .. } => Sending::Release,
            OperationKind::Extend => Sending::Extend,
        };
        let number = self.pre_auth.next_operation_number();
        self.pre_auth.operation_count = number;
        self.pre_auth.operation = Some(Operation {
            number,
            kind,
            provider_key,
            sent_at: now,
            unanswered_at: None,
            known_at: None,
            resolve_tries: 0,
        });
        self.send(what, true);
    }

    /// Ends the open operation, if there is one. When there are too many, the oldest is forgotten: all but the hold itself
    /// and the last were refused. However many were refused, the money can be taken or let go.
    pub fn end_operation(&mut self, outcome: OperationOutcome, failure: Option<Failure>, now: Timestamp) {
        let Some(Operation { number, kind, sent_at, .. }) = self.pre_auth.operation.take() else { return };
        let operations = &mut self.pre_auth.operations;
        operations.push(EndedOperation { number, kind, outcome, failure, sent_at, ended_at: now });
        if operations.len() > OPERATIONS_MAX
            && let Some(oldest) = operations.iter().position(|ended| ended.kind != OperationKind::Authorize)
        {
            operations.remove(oldest);
        }
    }

    /// Notes that the channel has said where the object stands, and that the operation goes on.
    pub fn note_known(&mut self, now: Timestamp) {
        self.pre_auth.reconciling = false;
        self.note_try(|operation| operation.known_at = Some(now));
    }

    /// Notes that nothing was learned.
    pub fn note_unanswered(&mut self, now: Timestamp) {
        self.pre_auth.reconciling = true;
        self.note_try(|operation| {
            operation.unanswered_at.get_or_insert(now);
        });
    }

    fn note_try(&mut self, note: impl FnOnce(&mut Operation)) {
        let is_closing = self.pre_auth.closing.is_some();
        if let Some(operation) = &mut self.pre_auth.operation {
            // The first answer is no question's.
            if operation.had_answer() || is_closing {
                operation.resolve_tries = operation.resolve_tries.saturating_add(1);
            }
            note(operation);
        }
    }

    /// Whether nobody has known anything about the open operation for too long.
    pub fn is_unknown_for_too_long(&self, policy: &PreAuthPolicy, now: Timestamp) -> bool {
        self.pre_auth.operation.as_ref().is_some_and(|operation| {
            let unknown_for = now.since(operation.known_at.unwrap_or(operation.sent_at));
            unknown_for >= policy.resolve.needs_review_after
        })
    }

    /// A person has to look.
    pub fn give_to_person(&mut self) {
        self.step(EventKind::Unresolved, PreAuthStatus::NeedsReview);
        self.alert(Alert::NeedsReview);
    }

    /// The money is held.
    pub fn hold(&mut self, held_minor: i64, now: Timestamp) {
        self.pre_auth.authorized_minor = held_minor;
        self.pre_auth.authorized_at.get_or_insert(now);
        self.pre_auth.failure = None;
        self.tell(EventName::PreAuthAuthorized);
    }

    /// So much of what is held was taken, and the rest was let go. `fee_minor` is the channel's own figure, where it gave one.
    pub fn take(&mut self, captured_minor: i64, fee_minor: Option<i64>, now: Timestamp) {
        self.pre_auth.captured_minor = captured_minor;
        self.pre_auth.reported_fee_minor = fee_minor;
        self.pre_auth.released_minor = self.pre_auth.authorized_minor - captured_minor;
        self.pre_auth.captured_at = Some(now);
        self.pre_auth.failure = None;
        self.tell(EventName::PreAuthCaptured);
    }

    /// Nothing was taken and nothing is held any more, which `status` says.
    pub fn let_go(&mut self) {
        self.pre_auth.released_minor = self.pre_auth.authorized_minor;
        match self.pre_auth.status {
            PreAuthStatus::Expired => self.tell(EventName::PreAuthExpired),
            PreAuthStatus::Failed => self.tell(EventName::PreAuthFailed),
            _ => self.tell(EventName::PreAuthCanceled),
        }
    }

    /// The change; `None` when there is none. What only asks changes nothing, so that its due entry stands until there is
    /// an answer.
    pub fn finish(mut self, policy: &PreAuthPolicy, now: Timestamp) -> Option<Change> {
        self.tidy();
        let only_asks = !self.send.is_empty() && self.pre_auth == *self.before;
        if !only_asks {
            self.pre_auth.due_at = next_due_at(&self.pre_auth, policy, now);
            let is_nothing = self.tell.is_empty() && self.send.is_empty() && self.alerts.is_empty();
            if self.pre_auth == *self.before && is_nothing {
                return None;
            }
            self.pre_auth.updated_at = now;
            self.pre_auth.event_count += self.tell.len() as u64;
        }
        debug_assert!(self.pre_auth.is_balanced_after(self.before), "{:?} became {:?}", self.before, self.pre_auth);
        Some(Change { pre_auth: self.pre_auth, tell: self.tell, send: self.send, alerts: self.alerts })
    }

    /// Forgets what the status has no use for any more.
    fn tidy(&mut self) {
        let pre_auth = &mut self.pre_auth;
        if pre_auth.status == PreAuthStatus::RequiresCapture || pre_auth.status.is_final() {
            pre_auth.next_action = None;
            pre_auth.act_by = None;
            pre_auth.terms.payment_token = None;
        }
        if pre_auth.status == PreAuthStatus::RequiresCapture {
            pre_auth.closing = None;
            // That it is held is known; only what is open may be unknown.
            pre_auth.reconciling &= pre_auth.operation.is_some();
        }
        if pre_auth.status.is_final() {
            pre_auth.reconciling = false;
            pre_auth.closing = pre_auth.closing.take().filter(|why| *why == ReleaseWhy::Stray);
        }
    }
}
