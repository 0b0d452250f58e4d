//! Payments and refunds as merchants see them, and the bodies of their events.

use serde_json::json;
use serde_json::value::RawValue;

use crate::domain::event::{Event, EventName};
use crate::domain::ids::EventId;
use crate::domain::language::Language;
use crate::domain::money::Currency;
use crate::domain::outcome::{DeclineScope, Failure, NextAction};
use crate::domain::payment::{Failover, Payment, PaymentStatus, Refund};
use crate::domain::routing::DecisionRecord;
use crate::domain::stray::{Stray, StrayAction};
use crate::domain::time::Timestamp;
use crate::gateway::answer::Reply;
use crate::gateway::error::GatewayError;
use crate::gateway::explain::{decision_view, failed_over};
use crate::gateway::view::{
    AttemptView, FailoverView, FailureView, FeeView, NextActionView, PaymentView, RefundView, RoutingSummary,
    RoutingView, StrayView,
};

/// The payment as its merchant sees it.
pub(crate) fn payment_view(payment: &Payment, livemode: bool) -> PaymentView {
    let current = payment.current();
    let currency = payment.terms.money.currency.to_string();
    PaymentView {
        payment_no: payment.payment_no.to_string(),
        order_no: payment.terms.order_no.clone(),
        amount: payment.terms.money.amount_minor,
        currency: currency.clone(),
        status: payment.status.as_str().to_owned(),
        reconciling: payment.reconciling,
        country: payment.terms.country.clone(),
        method: payment.terms.method.clone(),
        channel: current.map(|attempt| attempt.channel.to_string()),
        channel_order_no: current.and_then(|attempt| attempt.refs.channel_order_no.clone()),
        client_secret: current.and_then(|attempt| attempt.refs.client_secret.clone()),
        next_action: payment.next_action.as_ref().map(next_action_view),
        routing: current.map(|attempt| routing_summary(&attempt.decision)),
        fee: payment.fee_minor.map(|amount| FeeView { amount, currency }),
        refunded_amount: payment.refunded_minor(),
        failure: payment.failure().map(failure_view),
        description: payment.terms.description.clone(),
        metadata: payment.terms.metadata.clone(),
        livemode,
        created_at: payment.created_at.rfc3339(),
        updated_at: payment.updated_at.rfc3339(),
        paid_at: payment.paid_at.map(Timestamp::rfc3339),
        erased_at: payment.erased_at.map(Timestamp::rfc3339),
    }
}

/// What a payer has to do.
pub(in crate::gateway) fn next_action_view(NextAction::Redirect { url }: &NextAction) -> NextActionView {
    NextActionView { kind: "redirect".to_owned(), url: url.clone() }
}

/// How the channel was chosen.
pub(in crate::gateway) fn routing_summary(decision: &DecisionRecord) -> RoutingSummary {
    RoutingSummary {
        rung: decision.rung.map_or("default", |rung| rung.as_str()).to_owned(),
        strategy: decision.strategy_outside().map(str::to_owned),
        reason: decision.reason(),
    }
}

/// Why something failed.
pub(in crate::gateway) fn failure_view(failure: &Failure) -> FailureView {
    let scope = match failure.decline_scope {
        DeclineScope::Processor => "processor",
        DeclineScope::Network => "network",
        DeclineScope::Bank => "bank",
        DeclineScope::Customer => "customer",
        DeclineScope::Unknown => "unknown",
    };
    FailureView {
        code: failure.code.clone(),
        message: failure.message.clone(),
        decline_scope: scope.to_owned(),
        advice: failure.advice.map(|advice| advice.as_str().to_owned()),
        network_code: failure.network_code.clone(),
        network_advice_code: failure.network_advice_code.clone(),
    }
}

fn failover_view(failover: Failover, language: Language) -> FailoverView {
    FailoverView {
        allowed: failover.is_allowed(),
        reason: failover.as_str().to_owned(),
        explanation: failover.sentence(language).to_owned(),
    }
}

/// A refund as its merchant sees it.
pub(crate) fn refund_view(payment: &Payment, refund: &Refund, livemode: bool) -> RefundView {
    RefundView {
        payment_no: Some(payment.payment_no.to_string()),
        ..refund_view_of(refund, payment.terms.money.currency, livemode)
    }
}

/// The same of whatever the money was taken with.
pub(in crate::gateway) fn refund_view_of(refund: &Refund, currency: Currency, livemode: bool) -> RefundView {
    RefundView {
        refund_no: refund.refund_no.to_string(),
        payment_no: None,
        pre_auth_no: None,
        amount: refund.amount_minor,
        currency: currency.to_string(),
        status: refund.status.as_str().to_owned(),
        reason: refund.reason.clone(),
        channel_refund_no: refund.channel_refund_no.clone(),
        failure: refund.failure.as_ref().map(failure_view),
        livemode,
        created_at: refund.created_at.rfc3339(),
        updated_at: refund.updated_at.rfc3339(),
    }
}

/// Money that came otherwise than it was asked for, as the operator sees it.
pub(crate) fn stray_view(stray: &Stray) -> StrayView {
    let (action, refund_no) = match &stray.action {
        StrayAction::Refunding(refund_no) => ("refunding", Some(refund_no.to_string())),
        StrayAction::Reported => ("reported", None),
        StrayAction::Accepted => ("accepted", None),
    };
    StrayView {
        kind: stray.kind.as_str().to_owned(),
        amount: stray.received_minor,
        seen_at: stray.seen_at.rfc3339(),
        action: action.to_owned(),
        refund_no,
    }
}

/// What is answered to the request that created the payment.
pub(crate) fn created_reply(payment: &Payment, livemode: bool) -> Reply {
    use crate::domain::payment::AttemptOutcome;
    let view = payment_view(payment, livemode);
    let not_taken = payment.status == PaymentStatus::Failed
        && payment.current().is_some_and(|attempt| attempt.outcome == Some(AttemptOutcome::NotDone));
    if not_taken { Reply::PaymentNotTaken(view) } else { Reply::PaymentCreated(view) }
}

/// Every attempt of a payment with its decision.
pub(crate) fn routing_view(payment: &Payment, language: Language) -> Result<RoutingView, GatewayError> {
    let attempts = payment.attempts.iter().enumerate().map(|(index, attempt)| {
        let decision = serde_json::to_value(&attempt.decision)
            .map_err(|error| GatewayError::Internal(format!("a decision record can't be shown: {error}")))?;
        Ok(AttemptView {
            attempt: index + 1,
            channel: attempt.channel.to_string(),
            channel_order_no: attempt.refs.channel_order_no.clone(),
            outcome: attempt.outcome.map_or("open", |outcome| outcome.as_str()).to_owned(),
            failure: attempt.failure.as_ref().map(failure_view),
            failover: attempt.failover.map(|failover| failover_view(failover, language)),
            sent_at: attempt.sent_at.rfc3339(),
            failed_over: failed_over(attempt, payment.attempts.get(index + 1), language),
            explanation: decision_view(&attempt.decision, language),
            decision,
        })
    });
    let attempts = attempts.collect::<Result<Vec<_>, GatewayError>>()?;
    Ok(RoutingView { payment_no: payment.payment_no.to_string(), attempts })
}

/// The event that tells a payment's new state.
pub(crate) fn payment_event(payment: &Payment, name: EventName, id: EventId) -> Result<Event, GatewayError> {
    let current = payment.current();
    let mut extra = serde_json::Map::new();
    extra.insert("channel".to_owned(), json!(current.map(|attempt| attempt.channel.as_str())));
    let channel_order_no = current.and_then(|attempt| attempt.refs.channel_order_no.as_deref());
    extra.insert("channel_order_no".to_owned(), json!(channel_order_no));
    if let Some(paid_at) = payment.paid_at {
        extra.insert("paid_at".to_owned(), json!(paid_at.rfc3339()));
    }
    if let Some(failure) = payment.failure() {
        extra.insert("failure".to_owned(), json!(failure));
    }
    if name == EventName::PaymentDisputed {
        let dispute_no = payment.disputes.last().map(|dispute| dispute.dispute_no.as_str());
        extra.insert("dispute_no".to_owned(), json!(dispute_no));
    }
    extra.insert("sequence".to_owned(), json!(payment.event_count));
    let body = json!({
        "event": name.as_str(),
        "payment_no": payment.payment_no.as_str(),
        "order_no": payment.terms.order_no,
        "amount": payment.terms.money.amount_minor,
        "currency": payment.terms.money.currency.code(),
        "status": payment.status.as_str(),
        "timestamp": payment.updated_at.unix_s(),
        "extra": extra,
    });
    event_of(payment, name, id, payment.terms.money.amount_minor, &body)
}

/// The event that tells a refund's new state.
pub(crate) fn refund_event(
    payment: &Payment,
    refund: &Refund,
    name: EventName,
    id: EventId,
) -> Result<Event, GatewayError> {
    let body = json!({
        "event": name.as_str(),
        "payment_no": payment.payment_no.as_str(),
        "refund_no": refund.refund_no.as_str(),
        "order_no": payment.terms.order_no,
        "amount": refund.amount_minor,
        "currency": payment.terms.money.currency.code(),
        "status": refund.status.as_str(),
        "timestamp": refund.updated_at.unix_s(),
        "extra": {
            "channel": payment.current().map(|attempt| attempt.channel.as_str()),
            "channel_refund_no": refund.channel_refund_no,
            "refunded_amount": payment.refunded_minor(),
            "failure": refund.failure,
            "sequence": payment.event_count,
        },
    });
    event_of(payment, name, id, refund.amount_minor, &body)
}

fn event_of(
    payment: &Payment,
    name: EventName,
    id: EventId,
    amount_minor: i64,
    body: &serde_json::Value,
) -> Result<Event, GatewayError> {
    let body = RawValue::from_string(body.to_string())
        .map_err(|error| GatewayError::Internal(format!("an event's body can't be written: {error}")))?;
    let object_no = Some(payment.payment_no.to_string());
    let currency = Some(payment.terms.money.currency);
    Ok(Event { id, name, object_no, amount_minor, currency, at: payment.updated_at, body })
}
