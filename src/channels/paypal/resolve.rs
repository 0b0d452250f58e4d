//! Finding out what became of a charge.
//!
//! With its number, the order is read. Without, the request is sent again with its id while PayPal is sure to remember
//! ids: the answer is then the present state of what the first one made, or it is made now, once. Nothing else shows an
//! order of which no number is known. When that time is over, a charge that needs the payer's approval was certainly not
//! done, for nobody ever had the page to approve it on; one with stored means of payment stays unknown.
//!
//! To close a charge of which no number is known, its id is sent with an order that lacks means of payment: either that is
//! what was made before, or it is made now and takes the id, and nothing is charged.

use std::time::Duration;

use crate::channels::http::{Deadline, HttpError};
use crate::channels::paypal::charge::{Asking, with_order};
use crate::channels::paypal::response::{Capture, CaptureStatus, ErrorReply, Order, OrderStatus, Reply, read};
use crate::channels::paypal::{PaypalChannel, amount, amount_not_supported, not_received};
use crate::channels::{ChargeAnswer, ChargeState, ResolveRequest};
use crate::domain::time::Timestamp;

/// PayPal remembers the ids of orders for six hours; an hour less leaves room for clocks and delays.
pub(super) const ORDER_KEY_LIFETIME: Duration = Duration::from_secs(5 * 60 * 60);

impl PaypalChannel {
    pub(super) async fn ask_about_charge(&self, request: &ResolveRequest) -> ChargeAnswer {
        let deadline = self.client.deadline();
        if let Some(id) = &request.refs.channel_order_no {
            return self.ask_by_number(id, request, deadline).await;
        }
        if request.key_age().is_some_and(|age| age < ORDER_KEY_LIFETIME) {
            return self.ask_by_key(request, deadline).await;
        }
        let needs_approval = self.charge_terms(&request.charge).token.is_none();
        // Until the id's time was over it may have been sent again.
        let last_sent_at = request.sent_by.max(request.first_sent_at.plus(ORDER_KEY_LIFETIME));
        if needs_approval && request.now >= last_sent_at.plus(request.settling) {
            return ChargeAnswer::not_done(not_received());
        }
        ChargeAnswer::unknown("PayPal can't be asked about an order without its number any more")
    }

    async fn ask_by_number(&self, id: &str, request: &ResolveRequest, deadline: Deadline) -> ChargeAnswer {
        let answer = match self.client.get_order(id, deadline).await {
            Ok(answer) => answer,
            Err(error) => return ChargeAnswer::unknown(error.to_string()),
        };
        match read::<Order>(&answer) {
            Ok(Reply::Object(order)) if order.id == id => {
                let certain = request.is_settled()
                    || finished_by_nobody(&order, request.first_sent_at, request.sent_by, request.money_sent_at);
                let asking = Asking { close: request.close, certain, is_over: false };
                self.judge_order(order, &request.charge, asking, deadline).await
            }
            Ok(Reply::Object(_)) => ChargeAnswer::unknown("PayPal answered about another order"),
            Ok(Reply::Error(reply)) if is_gone(&reply) => self.order_is_gone(id, request, deadline).await,
            Ok(Reply::Error(reply)) => with_order(id, ChargeState::Unknown { reason: reply.describe() }),
            Err(reason) => ChargeAnswer::unknown(reason),
        }
    }

    /// PayPal forgets orders that nobody approved. With a capture, that is asked; with means of payment that need no
    /// approval, or a capture that was ever sent, nobody can say.
    async fn order_is_gone(&self, id: &str, request: &ResolveRequest, deadline: Deadline) -> ChargeAnswer {
        let Some(capture_id) = &request.refs.capture_no else {
            let never_paid = request.money_sent_at.is_none() && self.charge_terms(&request.charge).token.is_none();
            let state = if never_paid {
                ChargeState::Canceled
            } else {
                ChargeState::Unknown { reason: String::from("PayPal has the order no more") }
            };
            return with_order(id, state);
        };
        let reason = match self.read_capture(capture_id, deadline).await {
            Ok(capture) if capture.amount.is(request.charge.money) && is_taken(capture.status) => {
                let fee_minor = capture.fee_minor(request.charge.money.currency);
                return with_order(id, ChargeState::Success { fee_minor });
            }
            Ok(_) => String::from("PayPal has the order no more, and its capture is not completed"),
            Err(reason) => reason,
        };
        with_order(id, ChargeState::Unknown { reason })
    }

    async fn ask_by_key(&self, request: &ResolveRequest, deadline: Deadline) -> ChargeAnswer {
        let charge = &request.charge;
        let Some(value) = amount::to_paypal(charge.money) else {
            return ChargeAnswer::not_done(amount_not_supported());
        };
        let terms = self.charge_terms(charge);
        let terms = if request.close { terms.for_closing() } else { terms };
        let has_token = terms.token.is_some();
        let answer = match self.client.create_order(&terms, &value, deadline).await {
            Ok(answer) => answer,
            Err(error) => {
                let sent_money = has_token && matches!(error, HttpError::MayHaveArrived(_));
                return ChargeAnswer { sent_money, ..ChargeAnswer::unknown(error.to_string()) };
            }
        };
        let certain = request.is_settled();
        match read::<Order>(&answer) {
            Ok(Reply::Object(order)) => {
                let asking = Asking { close: request.close, certain, is_over: false };
                self.judge_order(order, charge, asking, deadline).await
            }
            // It was looked at and refused. An earlier one with the same id did nothing, or that would have been shown.
            Ok(Reply::Error(reply)) if reply.is_about_the_request() && certain => {
                ChargeAnswer::bare(if reply.is_decline() {
                    ChargeState::Declined(reply.failure())
                } else {
                    ChargeState::NotDone(reply.failure())
                })
            }
            Ok(Reply::Error(reply)) => ChargeAnswer {
                sent_money: has_token && !reply.is_definite(),
                ..ChargeAnswer::unknown(reply.describe())
            },
            Err(reason) => ChargeAnswer { sent_money: has_token, ..ChargeAnswer::unknown(reason) },
        }
    }

    /// Reads a capture.
    pub(super) async fn read_capture(&self, id: &str, deadline: Deadline) -> Result<Capture, String> {
        let answer = self.client.get_capture(id, deadline).await.map_err(|error| error.to_string())?;
        match read::<Capture>(&answer)? {
            Reply::Object(capture) if capture.id == id => Ok(capture),
            Reply::Object(_) => Err(String::from("PayPal answered about another capture")),
            Reply::Error(reply) => Err(reply.describe()),
        }
    }
}

/// Whether nothing that finishes this order can be on its way. Its number was learned from an answer, so that of what was
/// sent only that can be. It is sent to approved ones; what a process before this one sent last, nobody has written down.
pub(super) fn finished_by_nobody(
    order: &Order,
    first_sent_at: Timestamp,
    sent_by: Timestamp,
    money_sent_at: Option<Timestamp>,
) -> bool {
    money_sent_at.is_none() && (sent_by <= first_sent_at || order.status != OrderStatus::Approved)
}

/// Whether PayPal itself says that there is no such thing.
pub(super) fn is_gone(reply: &ErrorReply) -> bool {
    reply.status == 404 && reply.is_paypals()
}

/// Whether money was taken, whatever was given back since.
pub(super) const fn is_taken(status: CaptureStatus) -> bool {
    matches!(status, CaptureStatus::Completed | CaptureStatus::PartiallyRefunded | CaptureStatus::Refunded)
}
