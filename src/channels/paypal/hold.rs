//! Holding money: an order of intent AUTHORIZE that the payer approves, and the authorization that it is given then.
//!
//! An approved order holds nothing yet. It is authorized by whoever asks next, with an id of its own, so that it happens
//! once however often it is asked; and by nobody once its pre-auth is over.

use std::time::Duration;

use crate::channels::http::{Deadline, HttpError};
use crate::channels::paypal::charge::{Asking, page_of, unit_of};
use crate::channels::paypal::request::Terms;
use crate::channels::paypal::resolve::{ORDER_KEY_LIFETIME, finished_by_nobody, is_gone, is_taken};
use crate::channels::paypal::response::{
    Authorization, AuthorizationStatus, Capture, CaptureStatus, ErrorReply, Order, OrderStatus, Reply, error_of, read,
};
use crate::channels::paypal::{PaypalChannel, amount, amount_not_supported, given_up, not_received, unreachable};
use crate::channels::{AuthorizeRequest, DeclineScope, Failure, HoldAnswer, HoldQuestion, HoldState, ProviderRefs};
use crate::domain::time::Timestamp;

/// For so long after it was made, capturing what an authorization holds is sure to work.
const HONOR_PERIOD: Duration = Duration::from_secs(3 * 24 * 60 * 60);

impl PaypalChannel {
    pub(super) async fn send_authorize(&self, hold: &AuthorizeRequest) -> HoldAnswer {
        let Some(value) = amount::to_paypal(hold.money) else {
            return HoldAnswer::not_done(amount_not_supported());
        };
        let deadline = self.client.deadline();
        let answer = match self.client.create_order(&Terms::of_hold(hold), &value, deadline).await {
            Ok(answer) => answer,
            Err(error @ HttpError::NotSent(_)) => return HoldAnswer::not_done(unreachable(&error)),
            Err(error) => return HoldAnswer::unknown(error.to_string()),
        };
        match read::<Order>(&answer) {
            Ok(Reply::Object(order)) => self.judge_hold_order(order, hold, Asking::FIRST, deadline).await,
            Ok(Reply::Error(reply)) => HoldAnswer::bare(refused(&reply)),
            Err(reason) => HoldAnswer::unknown(reason),
        }
    }

    pub(super) async fn ask_about_hold(&self, question: &HoldQuestion) -> HoldAnswer {
        let deadline = self.client.deadline();
        if question.refs.hold_no.is_some() {
            return self.ask_by_hold(question, deadline).await;
        }
        if let Some(id) = &question.refs.channel_order_no {
            return self.ask_by_order(id, question, deadline).await;
        }
        if question.is_over {
            return HoldAnswer::unknown("to ask without a number could be what makes it");
        }
        if question.key_age().is_some_and(|age| age < ORDER_KEY_LIFETIME) {
            return self.ask_hold_by_key(question, deadline).await;
        }
        // Until the id's time was over it may have been sent again.
        let last_sent_at = question.sent_by.max(question.first_sent_at.plus(ORDER_KEY_LIFETIME));
        if question.hold.payment_token.is_none() && question.now >= last_sent_at.plus(question.settling) {
            return HoldAnswer::not_done(not_received());
        }
        HoldAnswer::unknown("PayPal can't be asked about an order without its number any more")
    }

    /// Reads the authorization in force; with `close`, it is voided.
    async fn ask_by_hold(&self, question: &HoldQuestion, deadline: Deadline) -> HoldAnswer {
        let state = self.state_of_hold(&question.hold, &question.refs, deadline).await;
        if question.close && matches!(state.state, HoldState::Held { .. } | HoldState::Processing) {
            return HoldAnswer { refused: None, ..self.void(&question.hold, &question.refs, false, deadline).await };
        }
        state
    }

    async fn ask_by_order(&self, id: &str, question: &HoldQuestion, deadline: Deadline) -> HoldAnswer {
        let answer = match self.client.get_order(id, deadline).await {
            Ok(answer) => answer,
            Err(error) => return HoldAnswer::unknown(error.to_string()),
        };
        match read::<Order>(&answer) {
            Ok(Reply::Object(order)) if order.id == id => {
                let certain = question.is_settled()
                    || finished_by_nobody(&order, question.first_sent_at, question.sent_by, question.money_sent_at);
                let asking = Asking { close: question.close, certain, is_over: question.is_over };
                self.judge_hold_order(order, &question.hold, asking, deadline).await
            }
            Ok(Reply::Object(_)) => HoldAnswer::unknown("PayPal answered about another order"),
            // PayPal forgets orders that nobody approved; what was never authorized holds nothing.
            Ok(Reply::Error(reply))
                if is_gone(&reply) && question.money_sent_at.is_none() && question.hold.payment_token.is_none() =>
            {
                HoldAnswer::not_done(given_up())
            }
            Ok(Reply::Error(reply)) => HoldAnswer::unknown(reply.describe()),
            Err(reason) => HoldAnswer::unknown(reason),
        }
    }

    async fn ask_hold_by_key(&self, question: &HoldQuestion, deadline: Deadline) -> HoldAnswer {
        let hold = &question.hold;
        let Some(value) = amount::to_paypal(hold.money) else {
            return HoldAnswer::not_done(amount_not_supported());
        };
        let terms = Terms::of_hold(hold);
        let terms = if question.close { terms.for_closing() } else { terms };
        let has_token = terms.token.is_some();
        let certain = question.is_settled();
        let answer = match self.client.create_order(&terms, &value, deadline).await {
            Ok(answer) => answer,
            Err(error) => {
                let sent_money = has_token && matches!(error, HttpError::MayHaveArrived(_));
                return HoldAnswer { sent_money, ..HoldAnswer::unknown(error.to_string()) };
            }
        };
        match read::<Order>(&answer) {
            Ok(Reply::Object(order)) => {
                let asking = Asking { close: question.close, certain, is_over: question.is_over };
                self.judge_hold_order(order, hold, asking, deadline).await
            }
            Ok(Reply::Error(reply)) if reply.is_about_the_request() && certain => HoldAnswer::bare(refused(&reply)),
            Ok(Reply::Error(reply)) => {
                HoldAnswer { sent_money: has_token && !reply.is_definite(), ..HoldAnswer::unknown(reply.describe()) }
            }
            Err(reason) => HoldAnswer { sent_money: has_token, ..HoldAnswer::unknown(reason) },
        }
    }

    /// What the present state of an order means. One that the payer has approved is authorized, or given up.
    async fn judge_hold_order(
        &self,
        order: Order,
        hold: &AuthorizeRequest,
        asking: Asking,
        deadline: Deadline,
    ) -> HoldAnswer {
        let Some(judged) = judge_present(&order, hold, asking) else {
            if asking.is_over {
                let state = HoldState::NotDone(given_up());
                return HoldAnswer { refs: order_refs(&order.id), ..HoldAnswer::bare(state) };
            }
            return self.authorize_order(&order, hold, asking, deadline).await;
        };
        if asking.close && matches!(judged.state, HoldState::Held { .. } | HoldState::Processing) {
            return HoldAnswer { refused: None, ..self.void(hold, &judged.refs, false, deadline).await };
        }
        judged
    }

    async fn authorize_order(
        &self,
        order: &Order,
        hold: &AuthorizeRequest,
        asking: Asking,
        deadline: Deadline,
    ) -> HoldAnswer {
        let with_refs = |answer: HoldAnswer| HoldAnswer { refs: order_refs(&order.id), ..answer };
        let in_doubt = |reason: String| HoldAnswer { sent_money: true, ..with_refs(HoldAnswer::unknown(reason)) };
        let answer = match self.client.finish_order(&order.id, &Terms::of_hold(hold), deadline).await {
            Ok(answer) => answer,
            Err(error @ HttpError::NotSent(_)) => return with_refs(HoldAnswer::unknown(error.to_string())),
            Err(error) => return in_doubt(error.to_string()),
        };
        match read::<Order>(&answer) {
            Ok(Reply::Object(now)) if now.id == order.id => match judge_present(&now, hold, asking) {
                Some(judged) => {
                    let sent_money = matches!(judged.state, HoldState::Unknown { .. } | HoldState::Processing);
                    HoldAnswer { sent_money, ..judged }
                }
                None => in_doubt(String::from("PayPal has not finished authorizing")),
            },
            Ok(Reply::Object(_)) => in_doubt(String::from("PayPal answered about another order")),
            Ok(Reply::Error(reply)) if reply.is_about_the_request() && asking.certain => {
                with_refs(HoldAnswer::bare(refused(&reply)))
            }
            Ok(Reply::Error(reply)) if reply.is_definite() => with_refs(HoldAnswer::unknown(reply.describe())),
            Ok(Reply::Error(reply)) => in_doubt(reply.describe()),
            Err(reason) => in_doubt(reason),
        }
    }

    /// Where held money stands now, by the number of its authorization.
    pub(super) async fn state_of_hold(
        &self,
        hold: &AuthorizeRequest,
        refs: &ProviderRefs,
        deadline: Deadline,
    ) -> HoldAnswer {
        let Some(id) = refs.hold_no.as_deref() else {
            return HoldAnswer::unknown("the hold has no number at PayPal");
        };
        let answer = match self.client.get_authorization(id, deadline).await {
            Ok(answer) => answer,
            Err(error) => return HoldAnswer::unknown(error.to_string()),
        };
        let authorization = match read::<Authorization>(&answer) {
            Ok(Reply::Object(authorization)) if authorization.id == id => authorization,
            Ok(Reply::Object(_)) => return HoldAnswer::unknown("PayPal answered about another authorization"),
            Ok(Reply::Error(reply)) => return HoldAnswer::unknown(reply.describe()),
            Err(reason) => return HoldAnswer::unknown(reason),
        };
        if !is_of(&authorization, hold) {
            return HoldAnswer::unknown(format!("authorization {id} is not that of this pre-auth"));
        }
        match state_of(&authorization) {
            Some(state) => HoldAnswer::bare(state),
            None => self.taken_of(hold, refs, deadline).await,
        }
    }

    /// How much was taken of an authorization that was captured: by the number of the capture, else as its order shows it.
    async fn taken_of(&self, hold: &AuthorizeRequest, refs: &ProviderRefs, deadline: Deadline) -> HoldAnswer {
        if let Some(id) = &refs.capture_no {
            return match self.read_capture(id, deadline).await {
                Ok(capture) => taken(&[capture], hold),
                Err(reason) => HoldAnswer::unknown(reason),
            };
        }
        let Some(id) = &refs.channel_order_no else {
            return HoldAnswer::unknown("it was captured, and nothing shows how much");
        };
        let answer = match self.client.get_order(id, deadline).await {
            Ok(answer) => answer,
            Err(error) => return HoldAnswer::unknown(error.to_string()),
        };
        match read::<Order>(&answer) {
            Ok(Reply::Object(order)) => match unit_of(&order, &Terms::of_hold(hold)) {
                Some(unit) => taken(&unit.payments.captures, hold),
                None => HoldAnswer::unknown(format!("order {id} is not that of this pre-auth")),
            },
            Ok(Reply::Error(reply)) => HoldAnswer::unknown(reply.describe()),
            Err(reason) => HoldAnswer::unknown(reason),
        }
    }

    /// Releases what is held. That it is released already comes back as an error; so does that it was captured, and then
    /// its state is read.
    pub(super) async fn void(
        &self,
        hold: &AuthorizeRequest,
        refs: &ProviderRefs,
        is_first: bool,
        deadline: Deadline,
    ) -> HoldAnswer {
        // Voiding takes the authorization that the payer gave, not the one that has replaced it.
        let Some(id) = refs.parent_hold_no.as_deref().or(refs.hold_no.as_deref()) else {
            return HoldAnswer::unknown("the hold has no number at PayPal");
        };
        let answered = |state: HoldState| HoldAnswer { refs: refs.clone(), ..HoldAnswer::bare(state) };
        let released = || answered(HoldState::Released { expired: false });
        let unknown = |reason: String| answered(HoldState::Unknown { reason });
        let answer = match self.client.void(id, deadline).await {
            Ok(answer) => answer,
            Err(error) => return unknown(error.to_string()),
        };
        match answer.status {
            204 => released(),
            200 => match read::<Authorization>(&answer) {
                Ok(Reply::Object(now)) if now.id == id && now.status == AuthorizationStatus::Voided => released(),
                _ => unknown(String::from("PayPal's answer to a void can't be believed")),
            },
            status if status >= 400 => {
                let reply = error_of(&answer);
                if reply.status == 422 && reply.issue() == "PREVIOUSLY_VOIDED" {
                    return released();
                }
                // What is said of the credentials or of too many requests says nothing about an earlier try.
                if !reply.is_definite() || !(is_first || reply.is_about_the_request()) {
                    return unknown(reply.describe());
                }
                let now = self.state_of_hold(hold, refs, deadline).await;
                HoldAnswer { refused: Some(reply.failure()), ..now }
            }
            status => unknown(format!("an answer with HTTP status {status} that is not PayPal's")),
        }
    }
}

/// What the present state of an order means, without doing anything about it; `None` when the payer has approved it.
fn judge_present(order: &Order, hold: &AuthorizeRequest, asking: Asking) -> Option<HoldAnswer> {
    let Some(unit) = unit_of(order, &Terms::of_hold(hold)) else {
        return Some(HoldAnswer::unknown(format!("order {} is not that of this pre-auth", order.id)));
    };
    if let Some(authorization) = unit.payments.authorizations.first() {
        let judged = match state_of(authorization) {
            Some(state) if is_of(authorization, hold) => HoldAnswer::bare(state),
            Some(_) => HoldAnswer::unknown("PayPal holds another amount than was asked for"),
            None => taken(&unit.payments.captures, hold),
        };
        let mut refs = ProviderRefs { hold_no: Some(authorization.id.clone()), ..order_refs(&order.id) };
        refs.learn(&judged.refs);
        return Some(HoldAnswer { refs, ..judged });
    }
    let waits = |is_for_means: bool| {
        let next_action = page_of(&order.links);
        if is_for_means {
            HoldState::AwaitsMethod { failure: None, next_action, expires_at: None }
        } else {
            HoldState::ActionRequired { next_action, expires_at: None }
        }
    };
    let unknown = |reason: &str| HoldState::Unknown { reason: reason.to_owned() };
    let state = match order.status {
        OrderStatus::Voided => HoldState::NotDone(given_up()),
        OrderStatus::Created | OrderStatus::Saved | OrderStatus::PayerActionRequired | OrderStatus::Approved
            if asking.close && asking.certain =>
        {
            HoldState::NotDone(given_up())
        }
        OrderStatus::Created | OrderStatus::Saved | OrderStatus::PayerActionRequired | OrderStatus::Approved
            if asking.close =>
        {
            unknown("what was sent may still take effect")
        }
        OrderStatus::Approved => return None,
        OrderStatus::Created | OrderStatus::Saved | OrderStatus::PayerActionRequired => {
            waits(hold.payment_token.is_none())
        }
        OrderStatus::Completed => unknown("the order is completed without an authorization"),
        OrderStatus::Other => unknown("the order is in a state that is not known"),
    };
    Some(HoldAnswer { refs: order_refs(&order.id), ..HoldAnswer::bare(state) })
}

/// Where an authorization stands; `None` when it was captured, so that the captures say it.
fn state_of(authorization: &Authorization) -> Option<HoldState> {
    let time_of = |text: &Option<String>| text.as_deref().and_then(Timestamp::parse_rfc3339);
    Some(match authorization.status {
        AuthorizationStatus::Created => HoldState::Held {
            held_minor: held_minor(authorization)?,
            expires_at: time_of(&authorization.expiration_time),
            honor_until: time_of(&authorization.create_time).map(|at| at.plus(HONOR_PERIOD)),
        },
        AuthorizationStatus::Pending => HoldState::Processing,
        AuthorizationStatus::Denied => HoldState::Declined(denied()),
        // Whether it was us who voided it, whoever asked knows.
        AuthorizationStatus::Voided | AuthorizationStatus::Expired => HoldState::Released { expired: true },
        AuthorizationStatus::Other => {
            HoldState::Unknown { reason: String::from("the authorization is in a state that is not known") }
        }
        AuthorizationStatus::Captured | AuthorizationStatus::PartiallyCaptured => return None,
    })
}

fn held_minor(authorization: &Authorization) -> Option<i64> {
    let currency = authorization.amount.currency_code.parse().ok()?;
    authorization.amount.in_currency(currency).map(|money| money.amount_minor)
}

/// Whether an authorization is the one for this hold.
fn is_of(authorization: &Authorization, hold: &AuthorizeRequest) -> bool {
    let names_us = authorization.custom_id.as_deref().is_none_or(|id| id == Terms::of_hold(hold).custom_id());
    names_us && authorization.amount.is(hold.money)
}

/// What the captures of an authorization came to. With one that is not final, the rest may still be taken by others.
pub(super) fn taken(captures: &[Capture], hold: &AuthorizeRequest) -> HoldAnswer {
    let currency = hold.money.currency;
    let done: Vec<&Capture> = captures.iter().filter(|capture| is_taken(capture.status)).collect();
    let is_pending = captures.iter().any(|capture| capture.status == CaptureStatus::Pending);
    let amounts: Option<Vec<i64>> =
        done.iter().map(|capture| Some(capture.amount.in_currency(currency)?.amount_minor)).collect();
    let capture_no = done.first().copied().or(captures.first()).map(|capture| capture.id.clone());
    let refs = ProviderRefs { capture_no, ..ProviderRefs::default() };
    let unknown = |reason: &str| HoldState::Unknown { reason: reason.to_owned() };
    let state = match amounts {
        _ if is_pending => HoldState::Processing,
        None => unknown("PayPal captured in another currency than was asked for"),
        Some(amounts) if amounts.is_empty() => unknown("it was captured, and nothing shows how much"),
        Some(amounts) => {
            let captured_minor = amounts.iter().copied().fold(0, i64::saturating_add);
            let is_over = done.iter().any(|capture| capture.final_capture) || captured_minor == hold.money.amount_minor;
            let fees: Option<Vec<i64>> = done.iter().map(|capture| capture.fee_minor(currency)).collect();
            if is_over {
                HoldState::Captured {
                    captured_minor,
                    fee_minor: fees.map(|fees| fees.into_iter().fold(0, i64::saturating_add)),
                }
            } else {
                unknown("a part was captured, and the rest is still held")
            }
        }
    };
    HoldAnswer { refs, ..HoldAnswer::bare(state) }
}

/// What a refusal that certainly did nothing means; anything else is open.
fn refused(reply: &ErrorReply) -> HoldState {
    match reply {
        reply if reply.is_decline() => HoldState::Declined(reply.failure()),
        reply if reply.is_definite() => HoldState::NotDone(reply.failure()),
        reply => HoldState::Unknown { reason: reply.describe() },
    }
}

fn order_refs(order_id: &str) -> ProviderRefs {
    ProviderRefs { channel_order_no: Some(order_id.to_owned()), ..ProviderRefs::default() }
}

fn denied() -> Failure {
    Failure::new("authorization_denied", "PayPal did not authorize the payment.", DeclineScope::Bank)
}
