//! What begins on a pre-auth because somebody wants it: the hold itself, a capture, a release. All of it is stored before
//! anything is sent.

use crate::domain::ids::{ChannelName, MerchantId, PreAuthNo};
use crate::domain::outcome::ProviderRefs;
use crate::domain::pre_auth::draft::Draft;
use crate::domain::pre_auth::due::next_due_at;
use crate::domain::pre_auth::{
    Change, Dispatch, EventKind, Operation, OperationKind, PreAuth, PreAuthPolicy, PreAuthStatus, PreAuthTerms,
    Rejection, ReleaseWhy, Sending,
};
use crate::domain::routing::DecisionRecord;
use crate::domain::time::Timestamp;

/// Operations of one pre-auth that stay in its row, at most.
pub const OPERATIONS_MAX: usize = 32;

/// A hold that is about to be asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Intent {
    /// Our number.
    pub pre_auth_no: PreAuthNo,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// What was asked for.
    pub terms: PreAuthTerms,
    /// The channel.
    pub channel: ChannelName,
    /// Why this channel.
    pub decision: DecisionRecord,
    /// Identifies the hold to the provider.
    pub provider_key: String,
}

/// The pre-auth of an intent, and that its channel is asked.
pub fn begin(intent: Intent, policy: &PreAuthPolicy, now: Timestamp) -> Change {
    let Intent { pre_auth_no, merchant_id, terms, channel, decision, provider_key } = intent;
    let authorize = Operation {
        number: 1,
        kind: OperationKind::Authorize,
        provider_key: provider_key.clone(),
        sent_at: now,
        unanswered_at: None,
        known_at: None,
        resolve_tries: 0,
    };
    let mut pre_auth = PreAuth {
        pre_auth_no,
        merchant_id,
        terms,
        channel,
        decision,
        provider_key,
        status: PreAuthStatus::RequiresPaymentMethod,
        reconciling: true,
        closing: None,
        operation: Some(authorize),
        operations: Vec::new(),
        operation_count: 1,
        refs: ProviderRefs::default(),
        next_action: None,
        offered_at: None,
        money_sent_at: None,
        authorized_minor: 0,
        captured_minor: 0,
        released_minor: 0,
        reported_fee_minor: None,
        refunds: Vec::new(),
        failure: None,
        strays: Vec::new(),
        act_by: Some(now.plus(policy.unconfirmed_expires)),
        expires_at: None,
        honor_until: None,
        expiring_told: false,
        is_held_on: false,
        event_count: 0,
        due_at: None,
        created_at: now,
        updated_at: now,
        authorized_at: None,
        captured_at: None,
        erased_at: None,
    };
    pre_auth.due_at = next_due_at(&pre_auth, policy, now);
    let send = vec![Dispatch { what: Sending::Authorize, is_first: true }];
    Change { pre_auth, tell: Vec::new(), send, alerts: Vec::new() }
}

/// Reserves `amount_minor`, all that is held when there is none, to be taken. The state is checked first, then the amount.
///
/// # Errors
/// [`Rejection`]; nothing is reserved then.
pub fn begin_capture(
    before: &PreAuth,
    amount_minor: Option<i64>,
    provider_key: String,
    policy: &PreAuthPolicy,
    now: Timestamp,
) -> Result<Change, Rejection> {
    may_begin(before)?;
    let max_minor = before.authorized_minor;
    let money_minor = amount_minor.unwrap_or(max_minor);
    if money_minor < 1 || money_minor > max_minor {
        return Err(Rejection::TooMuch { max_minor });
    }
    let mut draft = Draft::of(before);
    open_capture(&mut draft, money_minor, provider_key, now);
    Ok(draft.finish(policy, now).unwrap_or_else(|| Change::nothing(before)))
}

/// Gives the pre-auth up: what is held is released, and what may still come to be held is closed. What was given up before
/// stays as it is.
///
/// # Errors
/// [`Rejection`]; nothing is sent then.
pub fn begin_release(
    before: &PreAuth,
    why: ReleaseWhy,
    provider_key: String,
    policy: &PreAuthPolicy,
    now: Timestamp,
) -> Result<Change, Rejection> {
    let mut draft = Draft::of(before);
    match (before.status, before.operation.as_ref().map(|operation| &operation.kind)) {
        // It is being released because it is about to expire.
        (PreAuthStatus::RequiresCapture, Some(OperationKind::Release { .. })) => return Ok(Change::nothing(before)),
        (PreAuthStatus::RequiresCapture, _) => {
            may_begin(before)?;
            open_release(&mut draft, why, provider_key, now);
        }
        (PreAuthStatus::RequiresPaymentMethod | PreAuthStatus::RequiresAction, _)
        | (PreAuthStatus::Processing, Some(OperationKind::Authorize))
            if before.closing.is_none() =>
        {
            close(&mut draft, why);
        }
        (PreAuthStatus::RequiresPaymentMethod | PreAuthStatus::RequiresAction | PreAuthStatus::Canceled, _)
        | (PreAuthStatus::Processing, Some(OperationKind::Authorize | OperationKind::Release { .. })) => {
            return Ok(Change::nothing(before));
        }
        _ => return Err(Rejection::State(before.status)),
    }
    Ok(draft.finish(policy, now).unwrap_or_else(|| Change::nothing(before)))
}

/// The process that sent the open operation is gone, and whether it was sent is not known. `None` when there is none, or an
/// answer about it.
pub fn on_recovery(before: &PreAuth, policy: &PreAuthPolicy, now: Timestamp) -> Option<Change> {
    let operation = before.operation.as_ref().filter(|operation| !operation.had_answer())?;
    if before.status == PreAuthStatus::NeedsReview {
        return None;
    }
    let mut draft = Draft::of(before);
    draft.note_unanswered(now);
    match (before.status, &operation.kind) {
        (PreAuthStatus::RequiresPaymentMethod, _) => {
            draft.step(EventKind::PayerConfirms, PreAuthStatus::Processing);
        }
        (PreAuthStatus::RequiresCapture, OperationKind::Release { .. }) => {
            draft.step(EventKind::OutcomeOpen, PreAuthStatus::Processing);
        }
        _ => {}
    }
    ask(&mut draft);
    draft.finish(policy, now)
}

/// Whether an operation can begin on what is held.
fn may_begin(before: &PreAuth) -> Result<(), Rejection> {
    if before.status != PreAuthStatus::RequiresCapture || before.operation.is_some() {
        return Err(Rejection::State(before.status));
    }
    Ok(())
}

pub(super) fn open_capture(draft: &mut Draft<'_>, money_minor: i64, provider_key: String, now: Timestamp) {
    draft.step(EventKind::OutcomeOpen, PreAuthStatus::Processing);
    draft.open(OperationKind::Capture { money_minor }, provider_key, now);
}

/// What is released because it is about to expire anyway stays held until that is done: only there it can become expired.
pub(super) fn open_release(draft: &mut Draft<'_>, why: ReleaseWhy, provider_key: String, now: Timestamp) {
    if why != ReleaseWhy::Expiry {
        draft.step(EventKind::OutcomeOpen, PreAuthStatus::Processing);
    }
    draft.open(OperationKind::Release { why }, provider_key, now);
}

/// Has what is not held yet closed at its provider.
pub(super) fn close(draft: &mut Draft<'_>, why: ReleaseWhy) {
    draft.pre_auth.closing = Some(why);
    if let Some(operation) = &mut draft.pre_auth.operation {
        operation.resolve_tries = 0;
    }
    draft.send(Sending::Ask { close: true }, false);
}

/// Asks where it stands; about a capture, a release or an extension by sending it again.
pub(super) fn ask(draft: &mut Draft<'_>) {
    let close = draft.pre_auth.closing.is_some();
    let what = match draft.pre_auth.operation.as_ref().map(|operation| &operation.kind) {
        Some(OperationKind::Capture { .. }) => Sending::Capture,
        Some(OperationKind::Release { .. }) => Sending::Release,
        Some(OperationKind::Extend) => Sending::Extend,
        Some(OperationKind::Authorize) | None => Sending::Ask { close },
    };
    draft.send(what, false);
}
