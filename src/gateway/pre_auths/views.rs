//! Pre-auths as merchants see them, and the bodies of their events.

use serde_json::json;
use serde_json::value::RawValue;

use crate::domain::event::{Event, EventName};
use crate::domain::ids::EventId;
use crate::domain::outcome::Failure;
use crate::domain::pre_auth::{EndedOperation, Operation, OperationKind, OperationOutcome, PreAuth, PreAuthStatus};
use crate::domain::refund::{Refund, RefundStatus};
use crate::domain::time::Timestamp;
use crate::gateway::answer::Reply;
use crate::gateway::error::GatewayError;
use crate::gateway::payments::views::{failure_view, next_action_view, refund_view_of, routing_summary};
use crate::gateway::view::{
    ChannelOperationView, ChannelPreAuthView, FeeView, NextActionView, OperationView, PreAuthView, RefundView,
};
use crate::storage::StoreError;

/// What a pre-auth is answered as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// By our own number.
    Own,
    /// By its channel's number.
    Channel,
}

/// The pre-auth as its merchant sees it.
pub(super) fn pre_auth_view(pre_auth: &PreAuth, livemode: bool) -> PreAuthView {
    let terms = &pre_auth.terms;
    let ended = pre_auth.operations.iter().map(ended_view);
    PreAuthView {
        pre_auth_no: pre_auth.pre_auth_no.to_string(),
        order_no: terms.order_no.clone(),
        reference: terms.reference.clone(),
        amount: terms.money.amount_minor,
        currency: terms.money.currency.to_string(),
        status: pre_auth.status.as_str().to_owned(),
        reconciling: is_reconciling(pre_auth),
        country: terms.country.clone(),
        method: terms.method.clone(),
        channel: pre_auth.channel.to_string(),
        channel_pre_auth_no: channel_pre_auth_no(pre_auth),
        client_secret: client_secret(pre_auth),
        next_action: next_action(pre_auth),
        routing: routing_summary(&pre_auth.decision),
        authorized_amount: pre_auth.authorized_minor,
        captured_amount: pre_auth.captured_minor,
        released_amount: pre_auth.released_minor,
        refunded_amount: pre_auth.refunded_minor(),
        refundable_amount: pre_auth.refundable_minor(),
        fee: pre_auth.fee_minor().map(|amount| FeeView { amount, currency: terms.money.currency.to_string() }),
        operations: ended.chain(pre_auth.operation.iter().map(open_view)).collect(),
        failure: pre_auth.failure.as_ref().map(failure_view),
        description: terms.description.clone(),
        metadata: terms.metadata.clone(),
        livemode,
        expires_at: expires_at(pre_auth).map(Timestamp::rfc3339),
        created_at: pre_auth.created_at.rfc3339(),
        updated_at: pre_auth.updated_at.rfc3339(),
        authorized_at: pre_auth.authorized_at.map(Timestamp::rfc3339),
        captured_at: pre_auth.captured_at.map(Timestamp::rfc3339),
        erased_at: pre_auth.erased_at.map(Timestamp::rfc3339),
    }
}

/// The same, as it is told under its channel's number.
pub(super) fn channel_view(pre_auth: &PreAuth, livemode: bool) -> ChannelPreAuthView {
    ChannelPreAuthView {
        channel: pre_auth.channel.to_string(),
        pre_auth_no: merchants_no(pre_auth),
        channel_pre_auth_no: channel_pre_auth_no(pre_auth),
        client_secret: client_secret(pre_auth),
        next_action: next_action(pre_auth),
        status: pre_auth.status.as_str().to_owned(),
        reconciling: is_reconciling(pre_auth),
        expires_at: expires_at(pre_auth).map(Timestamp::unix_s),
        amount: pre_auth.terms.money.amount_minor,
        currency: pre_auth.terms.money.currency.to_string(),
        livemode,
    }
}

fn channel_operation_view(pre_auth: &PreAuth, amount: i64) -> ChannelOperationView {
    let refs = &pre_auth.refs;
    ChannelOperationView {
        channel: pre_auth.channel.to_string(),
        pre_auth_no: merchants_no(pre_auth),
        channel_pre_auth_no: channel_pre_auth_no(pre_auth),
        channel_trade_no: refs.capture_no.clone().or_else(|| refs.channel_order_no.clone()),
        status: pre_auth.status.as_str().to_owned(),
        amount,
    }
}

/// What the merchant calls it.
fn merchants_no(pre_auth: &PreAuth) -> String {
    pre_auth.terms.reference.clone().unwrap_or_else(|| pre_auth.pre_auth_no.to_string())
}

fn channel_pre_auth_no(pre_auth: &PreAuth) -> Option<String> {
    pre_auth.refs.hold_no.clone().or_else(|| pre_auth.refs.channel_order_no.clone())
}

/// Whether the payer can act.
fn waits_for_payer(pre_auth: &PreAuth) -> bool {
    use PreAuthStatus::{Processing, RequiresAction, RequiresPaymentMethod};
    let may_wait = matches!(pre_auth.status, RequiresPaymentMethod | RequiresAction | Processing);
    may_wait && pre_auth.authorized_at.is_none() && pre_auth.closing.is_none()
}

fn client_secret(pre_auth: &PreAuth) -> Option<String> {
    pre_auth.refs.client_secret.clone().filter(|_| waits_for_payer(pre_auth))
}

fn next_action(pre_auth: &PreAuth) -> Option<NextActionView> {
    pre_auth.next_action.as_ref().filter(|_| waits_for_payer(pre_auth)).map(next_action_view)
}

fn is_reconciling(pre_auth: &PreAuth) -> bool {
    !pre_auth.status.is_final() && (pre_auth.reconciling || pre_auth.closing.is_some())
}

fn expires_at(pre_auth: &PreAuth) -> Option<Timestamp> {
    pre_auth.expires_at.or(pre_auth.act_by)
}

fn ended_view(ended: &EndedOperation) -> OperationView {
    operation_view(&ended.kind, ended.outcome.as_str(), ended.failure.as_ref(), ended.sent_at)
}

fn open_view(operation: &Operation) -> OperationView {
    operation_view(&operation.kind, "open", None, operation.sent_at)
}

fn operation_view(kind: &OperationKind, status: &str, failure: Option<&Failure>, at: Timestamp) -> OperationView {
    let amount = match kind {
        OperationKind::Capture { money_minor } => Some(*money_minor),
        OperationKind::Authorize | OperationKind::Release { .. } | OperationKind::Extend => None,
    };
    OperationView {
        kind: kind.as_str().to_owned(),
        status: status.to_owned(),
        amount,
        failure: failure.map(failure_view),
        at: at.rfc3339(),
    }
}

/// A refund of a pre-auth as its merchant sees it.
pub(super) fn refund_view(pre_auth: &PreAuth, refund: &Refund, livemode: bool) -> RefundView {
    RefundView {
        pre_auth_no: Some(pre_auth.pre_auth_no.to_string()),
        ..refund_view_of(refund, pre_auth.terms.money.currency, livemode)
    }
}

/// What is answered to the request that created the pre-auth.
pub(super) fn created_reply(pre_auth: &PreAuth, form: Form, livemode: bool) -> Reply {
    let was_not_done =
        pre_auth.status == PreAuthStatus::Failed && was_refused(pre_auth, |kind| *kind == OperationKind::Authorize);
    if was_not_done {
        return not_done(pre_auth);
    }
    match form {
        Form::Own => Reply::PreAuthCreated(pre_auth_view(pre_auth, livemode)),
        Form::Channel => Reply::ChannelPreAuthCreated(channel_view(pre_auth, livemode)),
    }
}

/// What is answered to a request to capture.
pub(super) fn captured_reply(pre_auth: &PreAuth, form: Form, livemode: bool) -> Reply {
    if was_refused(pre_auth, |kind| matches!(kind, OperationKind::Capture { .. })) {
        return not_done(pre_auth);
    }
    match form {
        Form::Own => Reply::PreAuthCaptured(pre_auth_view(pre_auth, livemode)),
        Form::Channel => {
            let amount = pre_auth.captured_minor.max(pre_auth.capture_pending_minor());
            Reply::ChannelPreAuthCaptured(channel_operation_view(pre_auth, amount))
        }
    }
}

/// What is answered to a request to cancel.
pub(super) fn canceled_reply(pre_auth: &PreAuth, form: Form, livemode: bool) -> Reply {
    let was_not_done = pre_auth.status != PreAuthStatus::Canceled
        && was_refused(pre_auth, |kind| matches!(kind, OperationKind::Release { .. }));
    if was_not_done {
        return not_done(pre_auth);
    }
    match form {
        Form::Own => Reply::PreAuthCanceled(pre_auth_view(pre_auth, livemode)),
        Form::Channel => Reply::ChannelPreAuthCanceled(channel_operation_view(pre_auth, pre_auth.released_minor)),
    }
}

/// What is answered to the request that created a refund.
pub(super) fn refund_reply(pre_auth: &PreAuth, refund_no: &str, livemode: bool) -> Result<Reply, GatewayError> {
    let refund = find_refund(pre_auth, refund_no)?;
    let view = refund_view(pre_auth, refund, livemode);
    Ok(if refund.status == RefundStatus::Failed { Reply::RefundNotDone(view) } else { Reply::RefundCreated(view) })
}

/// One refund of a pre-auth.
pub(super) fn find_refund<'a>(pre_auth: &'a PreAuth, refund_no: &str) -> Result<&'a Refund, GatewayError> {
    let found = pre_auth.refunds.iter().find(|refund| refund.refund_no.as_str() == refund_no);
    found.ok_or(GatewayError::NotFound("refund"))
}

fn not_done(pre_auth: &PreAuth) -> Reply {
    Reply::PreAuthNotDone { pre_auth_no: pre_auth.pre_auth_no.to_string() }
}

/// Whether nothing is open, and the last operation of this kind was certainly not done.
fn was_refused(pre_auth: &PreAuth, is_kind: impl Fn(&OperationKind) -> bool) -> bool {
    let last = pre_auth.operations.iter().rfind(|ended| is_kind(&ended.kind));
    pre_auth.operation.is_none() && last.is_some_and(|ended| ended.outcome == OperationOutcome::Refused)
}

/// The event that tells a pre-auth's new state; `sequence` is its number among the events of the pre-auth.
pub(super) fn pre_auth_event(
    pre_auth: &PreAuth,
    name: EventName,
    sequence: u64,
    id: EventId,
) -> Result<Event, StoreError> {
    let terms = &pre_auth.terms;
    let body = json!({
        "event": name.as_str(),
        "pre_auth_no": pre_auth.pre_auth_no.as_str(),
        "order_no": terms.order_no,
        "amount": terms.money.amount_minor,
        "currency": terms.money.currency.code(),
        "status": pre_auth.status.as_str(),
        "timestamp": pre_auth.updated_at.unix_s(),
        "extra": {
            "channel": pre_auth.channel.as_str(),
            "channel_pre_auth_no": channel_pre_auth_no(pre_auth),
            "reference": terms.reference,
            "authorized_amount": pre_auth.authorized_minor,
            "captured_amount": pre_auth.captured_minor,
            "released_amount": pre_auth.released_minor,
            "refunded_amount": pre_auth.refunded_minor(),
            "expires_at": pre_auth.expires_at.map(Timestamp::rfc3339),
            "failure": told_failure(pre_auth, name),
            "sequence": sequence,
        },
    });
    let amount_minor = match name {
        EventName::PreAuthCaptured => pre_auth.captured_minor,
        _ => terms.money.amount_minor,
    };
    event_of(pre_auth, name, id, amount_minor, &body)
}

/// Why it failed; with a hold that is told of again, why it was not captured or released.
fn told_failure(pre_auth: &PreAuth, name: EventName) -> Option<Failure> {
    match name {
        EventName::PreAuthAuthorized => pre_auth.operations.last().and_then(|ended| ended.failure.clone()),
        EventName::PreAuthFailed => pre_auth.failure.clone(),
        _ => None,
    }
}

/// The event that tells a refund's new state.
pub(super) fn refund_event(
    pre_auth: &PreAuth,
    refund: &Refund,
    name: EventName,
    sequence: u64,
    id: EventId,
) -> Result<Event, StoreError> {
    let body = json!({
        "event": name.as_str(),
        "payment_no": null,
        "pre_auth_no": pre_auth.pre_auth_no.as_str(),
        "refund_no": refund.refund_no.as_str(),
        "order_no": pre_auth.terms.order_no,
        "amount": refund.amount_minor,
        "currency": pre_auth.terms.money.currency.code(),
        "status": refund.status.as_str(),
        "timestamp": refund.updated_at.unix_s(),
        "extra": {
            "channel": pre_auth.channel.as_str(),
            "channel_refund_no": refund.channel_refund_no,
            "reference": pre_auth.terms.reference,
            "refunded_amount": pre_auth.refunded_minor(),
            "failure": refund.failure,
            "sequence": sequence,
        },
    });
    event_of(pre_auth, name, id, refund.amount_minor, &body)
}

fn event_of(
    pre_auth: &PreAuth,
    name: EventName,
    id: EventId,
    amount_minor: i64,
    body: &serde_json::Value,
) -> Result<Event, StoreError> {
    let body = RawValue::from_string(body.to_string())
        .map_err(|error| StoreError::Invalid(format!("an event's body can't be written: {error}")))?;
    let object_no = Some(pre_auth.pre_auth_no.to_string());
    let currency = Some(pre_auth.terms.money.currency);
    Ok(Event { id, name, object_no, amount_minor, currency, at: pre_auth.updated_at, body })
}
