//! Finding out what became of a charge.
//!
//! With its number, the PaymentIntent is read. Without, the request is sent again with its key while Stripe is sure to
//! remember keys: the answer is then the recorded one, or the charge is made now, once. To close a charge of which no
//! number is known, its key is taken by a PaymentIntent that is never confirmed: either that succeeds, and the charge,
//! should it still be on its way, will be refused for its key; or Stripe says that the key was used with other
//! parameters, and the charge has arrived and can be found.
//!
//! When the clock is earlier than when the request was sent, nobody knows how old the key is, and the list alone is asked.
//!
//! "Not done" without a closed object is said only when Stripe has finished with the key (it answered the repetition
//! for good, or the key's time is over), its list does not hold the PaymentIntent, and every request with the key was
//! sent so long ago that none can be on its way. The list is consistent: an object of a request that has been answered is in it.

use std::time::Duration;

use crate::channels::http::Deadline;
use crate::channels::stripe::request::{charge_parameters, closing_parameters};
use crate::channels::stripe::response::{ErrorReply, IntentStatus, PaymentIntent, Reply, read};
use crate::channels::stripe::search::Sought;
use crate::channels::stripe::{StripeChannel, amount, amount_not_supported, decline, not_received};
use crate::channels::{ChargeAnswer, Failure, ResolveRequest};
use crate::domain::time::Timestamp;

/// Stripe forgets keys after 24 hours at the earliest; an hour less leaves room for clocks and delays.
pub(super) const KEY_LIFETIME: Duration = Duration::from_secs(23 * 60 * 60);
/// How far Stripe's clock may be behind ours when its list is searched.
pub(super) const CLOCK_SLACK: Duration = Duration::from_secs(60);
/// Pages of a list that are looked through by one call.
pub(super) const PAGES_MAX: usize = 20;

impl StripeChannel {
    pub(super) async fn ask_about_charge(&self, request: &ResolveRequest) -> ChargeAnswer {
        let deadline = self.client.deadline();
        if let Some(id) = &request.refs.channel_order_no {
            return self.ask_by_number(id, request, deadline).await;
        }
        let sought = Sought::from(request);
        if sought.key_is_remembered() {
            return self.ask_by_key(request, deadline).await;
        }
        let settled_at = sought.settled_after_key();
        let executed_by = self.searches.executed_by(sought.provider_key, settled_at);
        let is_settled = request.now >= settled_at;
        self.ask_by_list(request, not_received(), executed_by, is_settled, deadline).await
    }

    async fn ask_by_number(&self, id: &str, request: &ResolveRequest, deadline: Deadline) -> ChargeAnswer {
        let answer = match self.client.get_intent(id, deadline).await {
            Ok(answer) => answer,
            Err(error) => return ChargeAnswer::unknown(error.to_string()),
        };
        match read::<PaymentIntent>(&answer) {
            Ok(Reply::Object(intent)) if intent.id == id => {
                self.judge(intent, &request.charge, request.close, deadline).await
            }
            Ok(Reply::Object(_)) => ChargeAnswer::unknown("Stripe answered about another PaymentIntent"),
            Ok(Reply::Error(reply)) => ChargeAnswer::unknown(format!("Stripe answered with status {}", reply.status)),
            Err(reason) => ChargeAnswer::unknown(reason),
        }
    }

    async fn ask_by_key(&self, request: &ResolveRequest, deadline: Deadline) -> ChargeAnswer {
        let charge = &request.charge;
        let Some(amount) = amount::to_stripe(charge.money) else {
            return ChargeAnswer::not_done(amount_not_supported());
        };
        let form = if request.close {
            closing_parameters(charge, amount)
        } else {
            charge_parameters(charge, amount, self.token_of(charge))
        };
        let answer = match self.client.create_intent(&form, &charge.provider_key, deadline).await {
            Ok(answer) => answer,
            Err(error) => return ChargeAnswer::unknown(error.to_string()),
        };
        match read::<PaymentIntent>(&answer) {
            Ok(Reply::Object(intent)) if intent.status == IntentStatus::Succeeded => {
                self.judge(intent, charge, request.close, deadline).await
            }
            // The answer may be a recorded one; what the object is now has to be read.
            Ok(Reply::Object(intent)) => self.ask_by_number(&intent.id, request, deadline).await,
            Ok(Reply::Error(reply)) => self.refused_repetition(reply, request, deadline).await,
            Err(reason) => ChargeAnswer::unknown(reason),
        }
    }

    /// What the refusal of a repetition says about the request that it repeats.
    async fn refused_repetition(
        &self,
        mut reply: ErrorReply,
        request: &ResolveRequest,
        deadline: Deadline,
    ) -> ChargeAnswer {
        if let Some(intent) = reply.error.payment_intent.take() {
            return self.close_refused(*intent, &reply, &request.charge, deadline).await;
        }
        let absent = match reply.status {
            // Recorded: Stripe has finished with the key, and what it did, if anything, is in the list.
            500.. if reply.replayed => not_received(),
            // The key was used with other parameters, or the request is refused for good.
            400 if reply.is_key_conflict() => not_received(),
            400 | 404 if reply.is_stripes() => decline::refusal(&reply),
            402 if reply.is_stripes() => decline::decline(&reply.error),
            status => return ChargeAnswer::unknown(format!("Stripe answered with HTTP status {status}")),
        };
        let executed_by = self.executed_by(&reply, &Sought::from(request));
        self.ask_by_list(request, absent, executed_by, request.is_settled(), deadline).await
    }

    /// Looks for the PaymentIntent in Stripe's list. When it is not there and nothing can be on its way any more, it was
    /// not carried out, for the reason given.
    async fn ask_by_list(
        &self,
        request: &ResolveRequest,
        absent: Failure,
        executed_by: Timestamp,
        is_settled: bool,
        deadline: Deadline,
    ) -> ChargeAnswer {
        match self.find_intent(&Sought::from(request), executed_by, is_settled, deadline).await {
            Ok(Some(intent)) => self.judge(intent, &request.charge, request.close, deadline).await,
            Ok(None) if is_settled => ChargeAnswer::not_done(absent),
            Ok(None) => ChargeAnswer::unknown("Stripe has no such PaymentIntent yet"),
            Err(reason) => ChargeAnswer::unknown(reason),
        }
    }
}
