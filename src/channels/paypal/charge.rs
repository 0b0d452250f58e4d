//! Charging: at once with means of payment that the payer left with PayPal, or by an order that the payer approves and
//! that is captured then.
//!
//! Only we can capture an order. One that is given up is therefore closed once nothing that we sent can be on its way.

use crate::channels::http::{Deadline, HttpError};
use crate::channels::paypal::request::Terms;
use crate::channels::paypal::response::{
    Capture, CaptureStatus, ErrorReply, Link, Order, OrderStatus, PurchaseUnit, Reply, read,
};
use crate::channels::paypal::{PaypalChannel, amount, amount_not_supported, unreachable};
use crate::channels::{ChargeAnswer, ChargeRequest, ChargeState, DeclineScope, Failure, NextAction, ProviderRefs};

/// How an order is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    /// It is given up unless money moved.
    pub(super) close: bool,
    /// Nothing that was sent before can still take effect, so that what is said now holds.
    pub(super) certain: bool,
    /// What it is for is over: what the payer has approved is not finished any more.
    pub(super) is_over: bool,
}

impl Asking {
    /// Nothing was sent before.
    pub(super) const FIRST: Self = Self { close: false, certain: true, is_over: false };
}

impl PaypalChannel {
    pub(super) fn charge_terms<'a>(&'a self, charge: &'a ChargeRequest) -> Terms<'a> {
        Terms::of_charge(charge, charge.payment_token.as_deref().or(self.default_payment_token.as_deref()))
    }

    pub(super) async fn send_charge(&self, charge: &ChargeRequest) -> ChargeAnswer {
        let Some(value) = amount::to_paypal(charge.money) else {
            return ChargeAnswer::not_done(amount_not_supported());
        };
        let deadline = self.client.deadline();
        let answer = match self.client.create_order(&self.charge_terms(charge), &value, deadline).await {
            Ok(answer) => answer,
            Err(error @ HttpError::NotSent(_)) => return ChargeAnswer::not_done(unreachable(&error)),
            Err(error) => return ChargeAnswer::unknown(error.to_string()),
        };
        match read::<Order>(&answer) {
            Ok(Reply::Object(order)) => self.judge_order(order, charge, Asking::FIRST, deadline).await,
            Ok(Reply::Error(reply)) => ChargeAnswer::bare(refused(&reply)),
            Err(reason) => ChargeAnswer::unknown(reason),
        }
    }

    /// What the present state of an order means. One that the payer has approved is captured, or given up.
    pub(super) async fn judge_order(
        &self,
        order: Order,
        charge: &ChargeRequest,
        asking: Asking,
        deadline: Deadline,
    ) -> ChargeAnswer {
        if order.status == OrderStatus::Approved && !asking.close && captured_in(&order).is_none() {
            let terms = self.charge_terms(charge);
            if unit_of(&order, &terms).is_none() {
                return ChargeAnswer::unknown(format!("order {} is not that of this payment", order.id));
            }
            return self.capture_order(&order, &terms, charge, asking, deadline).await;
        }
        self.judge_present(&order, charge, asking)
    }

    async fn capture_order(
        &self,
        order: &Order,
        terms: &Terms<'_>,
        charge: &ChargeRequest,
        asking: Asking,
        deadline: Deadline,
    ) -> ChargeAnswer {
        let in_doubt = |reason: String, sent_money: bool| ChargeAnswer {
            sent_money,
            ..with_order(&order.id, ChargeState::Unknown { reason })
        };
        let answer = match self.client.finish_order(&order.id, terms, deadline).await {
            Ok(answer) => answer,
            Err(error @ HttpError::NotSent(_)) => return in_doubt(error.to_string(), false),
            Err(error) => return in_doubt(error.to_string(), true),
        };
        match read::<Order>(&answer) {
            Ok(Reply::Object(now)) if now.id == order.id => {
                let judged = self.judge_present(&now, charge, asking);
                let sent_money = matches!(judged.state, ChargeState::Unknown { .. } | ChargeState::Processing);
                ChargeAnswer { sent_money, ..judged }
            }
            Ok(Reply::Object(_)) => in_doubt(String::from("PayPal answered about another order"), true),
            Ok(Reply::Error(reply)) if reply.is_about_the_request() && asking.certain => {
                with_order(&order.id, refused(&reply))
            }
            Ok(Reply::Error(reply)) => in_doubt(reply.describe(), !reply.is_definite()),
            Err(reason) => in_doubt(reason, true),
        }
    }

    /// What the present state of an order means, without doing anything about it.
    pub(super) fn judge_present(&self, order: &Order, charge: &ChargeRequest, asking: Asking) -> ChargeAnswer {
        let Some(unit) = unit_of(order, &self.charge_terms(charge)) else {
            return ChargeAnswer::unknown(format!("order {} is not that of this payment", order.id));
        };
        if let Some(capture) = unit.payments.captures.first() {
            return ChargeAnswer::with(captured(capture, charge), refs_of(&order.id, Some(&capture.id)));
        }
        let state = match order.status {
            OrderStatus::Voided => ChargeState::Canceled,
            OrderStatus::Created | OrderStatus::Saved | OrderStatus::PayerActionRequired | OrderStatus::Approved
                if asking.close =>
            {
                given_up(asking)
            }
            OrderStatus::Created | OrderStatus::Saved | OrderStatus::PayerActionRequired => {
                ChargeState::ActionRequired { next_action: page_of(&order.links), expires_at: None }
            }
            OrderStatus::Approved => unknown("the order is approved and was not captured"),
            OrderStatus::Completed => unknown("the order is completed without a capture"),
            OrderStatus::Other => unknown("the order is in a state that is not known"),
        };
        with_order(&order.id, state)
    }
}

/// An order without a capture that is given up: nobody but us can capture it.
fn given_up(asking: Asking) -> ChargeState {
    if asking.certain { ChargeState::Canceled } else { unknown("what was sent may still take effect") }
}

/// What a capture of the whole payment means.
fn captured(capture: &Capture, charge: &ChargeRequest) -> ChargeState {
    if !capture.amount.is(charge.money) {
        return unknown("PayPal took another amount than was asked for");
    }
    match capture.status {
        CaptureStatus::Completed | CaptureStatus::PartiallyRefunded | CaptureStatus::Refunded => {
            ChargeState::Success { fee_minor: capture.fee_minor(charge.money.currency) }
        }
        CaptureStatus::Pending => ChargeState::Processing,
        CaptureStatus::Declined | CaptureStatus::Failed => ChargeState::Declined(not_captured(capture)),
        CaptureStatus::Other => unknown("the capture is in a state that is not known"),
    }
}

/// A capture that was answered as made and is not.
pub(super) fn not_captured(capture: &Capture) -> Failure {
    let declined = capture.status == CaptureStatus::Declined;
    let code = if declined { "capture_declined" } else { "capture_failed" };
    let failure = Failure::new(code, "The payer's side did not give the money.", DeclineScope::Bank);
    Failure { network_code: capture.network_code(), ..failure }
}

/// What a refusal that certainly did nothing means; anything else is open.
fn refused(reply: &ErrorReply) -> ChargeState {
    match reply {
        reply if reply.is_decline() => ChargeState::Declined(reply.failure()),
        reply if reply.is_definite() => ChargeState::NotDone(reply.failure()),
        reply => ChargeState::Unknown { reason: reply.describe() },
    }
}

/// The order's purchase unit, if it is the one that these terms made.
pub(super) fn unit_of<'a>(order: &'a Order, terms: &Terms<'_>) -> Option<&'a PurchaseUnit> {
    let unit = order.purchase_units.first().filter(|_| order.purchase_units.len() == 1)?;
    let is_ours = unit.custom_id.as_deref() == Some(terms.custom_id().as_str())
        && unit.invoice_id.as_deref() == Some(terms.provider_key)
        && unit.amount.as_ref().is_some_and(|amount| amount.is(terms.money));
    is_ours.then_some(unit)
}

fn captured_in(order: &Order) -> Option<&Capture> {
    order.purchase_units.first()?.payments.captures.first()
}

/// The page on which the payer approves.
pub(super) fn page_of(links: &[Link]) -> Option<NextAction> {
    let link = links.iter().find(|link| matches!(link.rel.as_str(), "payer-action" | "approve"))?;
    Some(NextAction::Redirect { url: link.href.clone() })
}

pub(super) fn refs_of(order_id: &str, capture_id: Option<&str>) -> ProviderRefs {
    ProviderRefs {
        channel_order_no: Some(order_id.to_owned()),
        capture_no: capture_id.map(str::to_owned),
        ..ProviderRefs::default()
    }
}

pub(super) fn with_order(order_id: &str, state: ChargeState) -> ChargeAnswer {
    ChargeAnswer::with(state, refs_of(order_id, None))
}

fn unknown(reason: &str) -> ChargeState {
    ChargeState::Unknown { reason: reason.to_owned() }
}
