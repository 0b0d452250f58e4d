//! Holds: asking for one, and finding out where one stands.
//!
//! What is held is read from the PaymentIntent as it is now, never from a recorded answer. A declined PaymentIntent is not
//! closed as that of a charge is: its payer goes on with it, so that it waits for another means of payment. How a hold is
//! found whose number is not known is what `resolve.rs` says of charges.

use crate::channels::http::{Deadline, HttpError};
use crate::channels::stripe::request::{closing_hold_parameters, hold_parameters};
use crate::channels::stripe::response::{ErrorReply, IntentStatus, PaymentIntent, Reply, read};
use crate::channels::stripe::search::Sought;
use crate::channels::stripe::{StripeChannel, amount, amount_not_supported, decline, not_received, unreachable};
use crate::channels::{AuthorizeRequest, Failure, HoldAnswer, HoldQuestion, HoldState, ProviderRefs};
use crate::domain::money::Money;

/// How sure it is that an operation was not carried out, if the hold is found as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// Nothing was sent that could have done it.
    Certain,
    /// All that was sent has taken effect by now, or never will.
    Settled,
    /// Something may be on its way.
    Possible,
}

impl Absence {
    /// Of something that was sent before.
    pub(super) const fn when(is_settled: bool) -> Self {
        if is_settled { Self::Settled } else { Self::Possible }
    }
}

impl StripeChannel {
    pub(super) async fn send_hold(&self, hold: &AuthorizeRequest) -> HoldAnswer {
        let Some(amount) = amount::to_stripe(hold.money) else {
            return HoldAnswer::not_done(amount_not_supported());
        };
        let deadline = self.client.deadline();
        let form = hold_parameters(hold, amount);
        let answer = match self.client.create_intent(&form, &hold.provider_key, deadline).await {
            Ok(answer) => answer,
            Err(error @ HttpError::NotSent(_)) => return HoldAnswer::not_done(unreachable(&error)),
            Err(error) => return HoldAnswer::unknown(error.to_string()),
        };
        match read::<PaymentIntent>(&answer) {
            Ok(Reply::Object(intent)) => judge_hold(&intent, hold),
            Ok(Reply::Error(reply)) => refused_hold(reply, hold),
            Err(reason) => HoldAnswer::unknown(reason),
        }
    }

    pub(super) async fn ask_about_hold(&self, question: &HoldQuestion) -> HoldAnswer {
        let deadline = self.client.deadline();
        if let Some(id) = &question.refs.channel_order_no {
            return self.ask_hold_by_number(id, &question.hold, question.close, deadline).await;
        }
        let sought = Sought::from(question);
        // With the key it could be made now.
        if sought.key_is_remembered() && !question.is_over {
            return self.ask_hold_by_key(question, deadline).await;
        }
        let settled_at = sought.settled_after_key();
        let executed_by = self.searches.executed_by(sought.provider_key, settled_at);
        let is_settled = question.now >= settled_at;
        let found = self.find_intent(&sought, executed_by, is_settled, deadline).await;
        self.judge_found(found, question, not_received(), is_settled, deadline).await
    }

    async fn ask_hold_by_number(
        &self,
        id: &str,
        hold: &AuthorizeRequest,
        close: bool,
        deadline: Deadline,
    ) -> HoldAnswer {
        match self.read_intent(id, deadline).await {
            Ok(intent) => self.judge_or_close(intent, hold, close, deadline).await,
            Err(reason) => HoldAnswer::unknown(reason),
        }
    }

    async fn ask_hold_by_key(&self, question: &HoldQuestion, deadline: Deadline) -> HoldAnswer {
        let hold = &question.hold;
        let Some(amount) = amount::to_stripe(hold.money) else {
            return HoldAnswer::not_done(amount_not_supported());
        };
        let form = if question.close { closing_hold_parameters(hold, amount) } else { hold_parameters(hold, amount) };
        let answer = match self.client.create_intent(&form, &hold.provider_key, deadline).await {
            Ok(answer) => answer,
            Err(error) => return HoldAnswer::unknown(error.to_string()),
        };
        match read::<PaymentIntent>(&answer) {
            // The answer may be a recorded one; what the object is now has to be read.
            Ok(Reply::Object(intent)) => self.ask_hold_by_number(&intent.id, hold, question.close, deadline).await,
            Ok(Reply::Error(reply)) => self.refused_hold_repetition(reply, question, deadline).await,
            Err(reason) => HoldAnswer::unknown(reason),
        }
    }

    /// What the refusal of a repetition says about the request that it repeats.
    async fn refused_hold_repetition(
        &self,
        reply: ErrorReply,
        question: &HoldQuestion,
        deadline: Deadline,
    ) -> HoldAnswer {
        if let Some(intent) = &reply.error.payment_intent {
            return self.ask_hold_by_number(&intent.id, &question.hold, question.close, deadline).await;
        }
        let absent = match reply.status {
            // Recorded: Stripe has finished with the key, and what it did, if anything, is in the list.
            500.. if reply.replayed => not_received(),
            // The key was used with other parameters, or the request is refused for good.
            400 if reply.is_key_conflict() => not_received(),
            400 | 404 if reply.is_stripes() => decline::refusal(&reply),
            402 if reply.is_stripes() => decline::decline(&reply.error),
            status => return HoldAnswer::unknown(format!("Stripe answered with HTTP status {status}")),
        };
        let sought = Sought::from(question);
        let executed_by = self.executed_by(&reply, &sought);
        let is_settled = question.is_settled();
        let found = self.find_intent(&sought, executed_by, is_settled, deadline).await;
        self.judge_found(found, question, absent, is_settled, deadline).await
    }

    /// What it means that the list has the hold, or has it not. When it is not there and nothing can be on its way any
    /// more, it was never made, for the reason given.
    async fn judge_found(
        &self,
        found: Result<Option<PaymentIntent>, String>,
        question: &HoldQuestion,
        absent: Failure,
        is_settled: bool,
        deadline: Deadline,
    ) -> HoldAnswer {
        match found {
            Ok(Some(intent)) => self.judge_or_close(intent, &question.hold, question.close, deadline).await,
            Ok(None) if is_settled => HoldAnswer::not_done(absent),
            Ok(None) => HoldAnswer::unknown("Stripe has no such PaymentIntent yet"),
            Err(reason) => HoldAnswer::unknown(reason),
        }
    }

    /// Where a hold stands after an operation whose own answer proves nothing. Where it is found as it was, the operation
    /// was not carried out, for the reason given, as far as that is sure.
    pub(super) async fn look_after(
        &self,
        id: &str,
        hold: &AuthorizeRequest,
        failure: Failure,
        absence: Absence,
        deadline: Deadline,
    ) -> HoldAnswer {
        let mut answer = match self.read_intent(id, deadline).await {
            Ok(intent) => judge_hold(&intent, hold),
            Err(reason) => HoldAnswer::unknown(reason),
        };
        match (&answer.state, absence) {
            (HoldState::Held { .. }, Absence::Certain | Absence::Settled)
            | (HoldState::Unknown { .. }, Absence::Certain) => answer.refused = Some(failure),
            (HoldState::Held { .. }, Absence::Possible) => {
                answer.state = unknown_state("it is still held, and what was asked for may be on its way");
            }
            _ => {}
        }
        answer
    }

    /// Reads a PaymentIntent; `Err` says why that did not work.
    async fn read_intent(&self, id: &str, deadline: Deadline) -> Result<PaymentIntent, String> {
        let answer = self.client.get_intent(id, deadline).await.map_err(|error| error.to_string())?;
        match read::<PaymentIntent>(&answer)? {
            Reply::Object(intent) if intent.id == id => Ok(intent),
            Reply::Object(_) => Err(String::from("Stripe answered about another PaymentIntent")),
            Reply::Error(reply) => Err(format!("Stripe answered with status {}", reply.status)),
        }
    }

    async fn judge_or_close(
        &self,
        intent: PaymentIntent,
        hold: &AuthorizeRequest,
        close: bool,
        deadline: Deadline,
    ) -> HoldAnswer {
        let is_over = matches!(intent.status, IntentStatus::Succeeded | IntentStatus::Canceled);
        if is_over || !is_of(&intent, hold) || !(close || intent.is_for_closing()) {
            return judge_hold(&intent, hold);
        }
        self.close_hold(&intent, hold, deadline).await
    }

    /// Cancels a PaymentIntent, whatever it holds. That it is canceled already, or can't be because it was captured, comes
    /// back as an error that carries it.
    async fn close_hold(&self, intent: &PaymentIntent, hold: &AuthorizeRequest, deadline: Deadline) -> HoldAnswer {
        let unknown = |reason: String| answer(intent, unknown_state(&reason));
        let response = match self.client.cancel_intent(&intent.id, deadline).await {
            Ok(response) => response,
            Err(error) => return unknown(format!("it could not be closed: {error}")),
        };
        let now = match read::<PaymentIntent>(&response) {
            Ok(Reply::Object(now)) => now,
            Ok(Reply::Error(ErrorReply { status: 400, error, .. })) => match error.payment_intent {
                Some(now) => *now,
                None => return unknown(String::from("Stripe refused to close it")),
            },
            Ok(Reply::Error(reply)) => return unknown(format!("closing it was answered with {}", reply.status)),
            Err(reason) => return unknown(reason),
        };
        if now.id != intent.id {
            return unknown(String::from("Stripe answered about another PaymentIntent"));
        }
        match now.status {
            IntentStatus::Canceled | IntentStatus::Succeeded | IntentStatus::Processing => judge_hold(&now, hold),
            _ => unknown(String::from("it could not be closed yet")),
        }
    }
}

/// What the first request's refusal means.
fn refused_hold(reply: ErrorReply, hold: &AuthorizeRequest) -> HoldAnswer {
    let failure = if reply.status == 402 { decline::decline(&reply.error) } else { decline::refusal(&reply) };
    if let Some(intent) = &reply.error.payment_intent {
        let mut answer = judge_hold(intent, hold);
        if let HoldState::AwaitsMethod { failure: of_last_try @ None, .. } = &mut answer.state {
            *of_last_try = Some(failure);
        }
        return answer;
    }
    // A key conflict says that something has already been done with this key.
    if !reply.is_stripes() || reply.is_key_conflict() {
        return HoldAnswer::unknown(format!("Stripe answered with HTTP status {}", reply.status));
    }
    match reply.status {
        // Refused before anything was made; 429 is never recorded, and this key is not sent again by this call.
        400 | 401 | 403 | 404 | 429 => HoldAnswer::not_done(failure),
        status => HoldAnswer::unknown(format!("Stripe answered with HTTP status {status}")),
    }
}

/// Where a hold stands, if the PaymentIntent is that of the hold.
pub(super) fn judge_hold(intent: &PaymentIntent, hold: &AuthorizeRequest) -> HoldAnswer {
    if !is_of(intent, hold) {
        return HoldAnswer::unknown(format!("PaymentIntent {} is not that of this pre-auth", intent.id));
    }
    answer(intent, state_of_hold(intent, hold.money))
}

/// Where the hold of so much money stands that is this PaymentIntent.
pub(super) fn state_of_hold(intent: &PaymentIntent, money: Money) -> HoldState {
    let failure = intent.last_payment_error.as_ref().map(decline::decline);
    let next_action = intent.page_for_payer();
    match intent.status {
        IntentStatus::Canceled if intent.is_for_closing() => HoldState::NotDone(not_received()),
        _ if intent.is_for_closing() => unknown_state("what was to rule it out is not closed"),
        IntentStatus::RequiresPaymentMethod | IntentStatus::RequiresConfirmation => {
            HoldState::AwaitsMethod { failure, next_action, expires_at: None }
        }
        IntentStatus::RequiresAction => HoldState::ActionRequired { next_action, expires_at: None },
        IntentStatus::Processing => HoldState::Processing,
        IntentStatus::RequiresCapture => held(intent, money),
        IntentStatus::Succeeded => captured(intent, money),
        IntentStatus::Canceled => {
            let expired = matches!(intent.cancellation_reason.as_deref(), Some("automatic" | "expired"));
            HoldState::Released { expired }
        }
        IntentStatus::Other => unknown_state("the PaymentIntent is in a state that is not known"),
    }
}

fn held(intent: &PaymentIntent, money: Money) -> HoldState {
    let capturable = intent.amount_capturable.and_then(|amount| amount::from_stripe(amount, money.currency));
    if capturable != Some(money) || intent.amount_received != 0 {
        return unknown_state("Stripe holds another amount than was asked for");
    }
    HoldState::Held { held_minor: money.amount_minor, expires_at: intent.capture_before(), honor_until: None }
}

/// What was captured is what was received: once it is over nothing is capturable, and an amount that is missing is none.
fn captured(intent: &PaymentIntent, money: Money) -> HoldState {
    match amount::from_stripe(intent.amount_received, money.currency) {
        Some(received) if (1..=money.amount_minor).contains(&received.amount_minor) => {
            HoldState::Captured { captured_minor: received.amount_minor, fee_minor: intent.fee_minor(received) }
        }
        _ => unknown_state("Stripe took an amount that can't be right"),
    }
}

fn is_of(intent: &PaymentIntent, hold: &AuthorizeRequest) -> bool {
    intent.is_of(&hold.reference, &hold.provider_key) && intent.amounts_to(hold.money)
}

fn answer(intent: &PaymentIntent, state: HoldState) -> HoldAnswer {
    // The payer's browser needs the secret for as long as the payer can act.
    let waits = matches!(state, HoldState::AwaitsMethod { .. } | HoldState::ActionRequired { .. });
    let refs = ProviderRefs {
        channel_order_no: Some(intent.id.clone()),
        client_secret: intent.client_secret.clone().filter(|_| waits),
        ..ProviderRefs::default()
    };
    HoldAnswer { refs, ..HoldAnswer::bare(state) }
}

pub(super) fn unknown_state(reason: &str) -> HoldState {
    HoldState::Unknown { reason: reason.to_owned() }
}
