//! Stripe's PaymentIntents.
//!
//! Three things decide most of what is here. An answer can be a *recorded* one, frozen when the key was first used, so
//! that the present state is always read from the object itself. A declined charge leaves a PaymentIntent that could
//! still be paid, so that it is canceled before anyone hears of a decline. And a key is taken by the first request that
//! arrives with it, so that a charge can be ruled out for good by taking its key for something harmless.
//!
//! Holds are PaymentIntents that are captured by hand. A declined one is left open: its payer goes on with it.

mod amount;
mod capture;
mod check;
mod codes;
mod decline;
mod hold;
mod listing;
mod notification;
mod refund;
mod release;
mod request;
mod resolve;
mod response;
mod search;
#[cfg(test)]
mod tests;

use std::future::ready;

use zeroize::Zeroizing;

use crate::channels::build::required;
use crate::channels::credentials::Credentials;
use crate::channels::http::{Deadline, HttpClient, HttpError};
use crate::channels::stripe::request::{StripeClient, charge_parameters};
use crate::channels::stripe::response::{ErrorReply, IntentStatus, PaymentIntent, Reply, read};
use crate::channels::stripe::search::Searches;
use crate::channels::{
    AMOUNT_NOT_SUPPORTED, AuthorizeRequest, Call, Capabilities, CaptureRequest, Channel, ChargeAnswer, ChargeRequest,
    ChargeState, CheckFailure, CheckReport, CurrencySupport, DeclineScope, Failure, HoldAnswer, HoldQuestion, Inbound,
    ListError, ListPage, ListedCharge, ListedRefund, Notification, NotificationRefusal, ProviderRefs, RefundAnswer,
    RefundRequest, ReleaseRequest, ResolveRequest, Subject,
};
use crate::domain::time::Timestamp;

/// Metadata that holds our number of the payment or pre-auth.
const REFERENCE_KEY: &str = "gateway_payment_id";
/// Metadata that holds the attempt's key, which tells attempts of one payment apart.
const ATTEMPT_KEY: &str = "gateway_attempt";
/// Metadata that holds the merchant's id.
const MERCHANT_KEY: &str = "gateway_merchant";
/// Metadata that holds the merchant's order number.
const ORDER_KEY: &str = "gateway_order";
/// Metadata of a PaymentIntent that was made only to use up its key.
const CLOSED_KEY: &str = "gateway_closed";
/// Metadata that holds our refund number.
const REFUND_KEY: &str = "gateway_refund_id";
/// Metadata that holds our name of a capture.
const CAPTURE_KEY: &str = "gateway_capture_id";

/// How Stripe's tokens, PaymentMethods, cards and sources begin.
const TOKEN_PREFIXES: [&str; 4] = ["tok_", "pm_", "card_", "src_"];

/// The currencies in which amounts can be expressed.
pub(super) const CURRENCIES: CurrencySupport = CurrencySupport::Listed(amount::CURRENCIES);

/// Talks to Stripe.
pub(crate) struct StripeChannel {
    client: StripeClient,
    default_payment_token: Option<String>,
    /// Whether it moves real money, as its key says; `None` when the key is of no known kind.
    livemode: Option<bool>,
    /// With what Stripe signs what it sends of its own accord.
    webhook_secret: Option<Zeroizing<String>>,
    searches: Searches,
}

/// What a PaymentIntent that gets closed means for its payment.
enum Ending {
    Declined(Failure),
    NotDone(Failure),
    Canceled,
}

impl StripeChannel {
    /// A channel with the account's `secret_key`.
    ///
    /// # Errors
    /// A sentence about the credential that is missing.
    pub(crate) fn new(http: HttpClient, credentials: &Credentials) -> Result<Self, String> {
        let secret_key = required(credentials, "secret_key")?;
        let livemode = livemode_of(&secret_key);
        let webhook_secret = credentials.get("webhook_secret").filter(|secret| !secret.is_empty());
        let webhook_secret = webhook_secret.map(|secret| Zeroizing::new(secret.to_owned()));
        let default_payment_token = credentials.get("default_payment_token").map(str::to_owned);
        let client = StripeClient::new(http, secret_key);
        Ok(Self { client, default_payment_token, livemode, webhook_secret, searches: Searches::default() })
    }

    fn token_of<'a>(&'a self, charge: &'a ChargeRequest) -> Option<&'a str> {
        charge.payment_token.as_deref().or(self.default_payment_token.as_deref())
    }

    async fn send_charge(&self, charge: &ChargeRequest) -> ChargeAnswer {
        let Some(amount) = amount::to_stripe(charge.money) else {
            return ChargeAnswer::not_done(amount_not_supported());
        };
        let deadline = self.client.deadline();
        let form = charge_parameters(charge, amount, self.token_of(charge));
        let answer = match self.client.create_intent(&form, &charge.provider_key, deadline).await {
            Ok(answer) => answer,
            Err(error @ HttpError::NotSent(_)) => return ChargeAnswer::not_done(unreachable(&error)),
            Err(error) => return ChargeAnswer::unknown(error.to_string()),
        };
        match read(&answer) {
            Ok(Reply::Object(intent)) => self.judge(intent, charge, false, deadline).await,
            Ok(Reply::Error(reply)) => self.refused(reply, charge, deadline).await,
            Err(reason) => ChargeAnswer::unknown(reason),
        }
    }

    /// What the first request's refusal means.
    async fn refused(&self, mut reply: ErrorReply, charge: &ChargeRequest, deadline: Deadline) -> ChargeAnswer {
        if let Some(intent) = reply.error.payment_intent.take() {
            return self.close_refused(*intent, &reply, charge, deadline).await;
        }
        // A key conflict says that something has already been done with this key.
        if !reply.is_stripes() || reply.is_key_conflict() {
            return ChargeAnswer::unknown(format!("Stripe answered with HTTP status {}", reply.status));
        }
        match reply.status {
            // Refused before anything was made; 429 is never recorded, and this key is not sent again by this call.
            400 | 401 | 403 | 404 | 429 => ChargeAnswer::not_done(decline::refusal(&reply)),
            status => ChargeAnswer::unknown(format!("Stripe answered with HTTP status {status}")),
        }
    }

    /// A refusal that names the PaymentIntent it left behind: it is closed before anything is said about it.
    async fn close_refused(
        &self,
        intent: PaymentIntent,
        reply: &ErrorReply,
        charge: &ChargeRequest,
        deadline: Deadline,
    ) -> ChargeAnswer {
        if !intent.is_of(&charge.reference, &charge.provider_key) {
            return ChargeAnswer::unknown("Stripe's refusal is about another payment");
        }
        let ending = if reply.status == 402 {
            Ending::Declined(decline::decline(&reply.error))
        } else {
            Ending::NotDone(decline::refusal(reply))
        };
        self.close(intent, charge, ending, deadline).await
    }

    /// What the present state of a PaymentIntent means; with `close` it is closed unless it is charged.
    async fn judge(
        &self,
        intent: PaymentIntent,
        charge: &ChargeRequest,
        close: bool,
        deadline: Deadline,
    ) -> ChargeAnswer {
        if !intent.is_of(&charge.reference, &charge.provider_key) || !intent.amounts_to(charge.money) {
            return ChargeAnswer::unknown(format!("PaymentIntent {} is not that of this payment", intent.id));
        }
        let declined = intent.last_payment_error.as_ref().map(decline::decline);
        match (intent.status, declined) {
            (IntentStatus::Succeeded, _) => succeeded(&intent, charge),
            (IntentStatus::Canceled, _) if intent.is_for_closing() => {
                answer(&intent, ChargeState::NotDone(not_received()))
            }
            (IntentStatus::Canceled, Some(failure)) => answer(&intent, ChargeState::Declined(failure)),
            (IntentStatus::Canceled, None) => answer(&intent, ChargeState::Canceled),
            // It could still be paid with other means; this payment's attempt is over.
            (IntentStatus::RequiresPaymentMethod | IntentStatus::RequiresConfirmation, Some(failure)) => {
                self.close(intent, charge, Ending::Declined(failure), deadline).await
            }
            _ if intent.is_for_closing() => self.close(intent, charge, Ending::NotDone(not_received()), deadline).await,
            _ if close => self.close(intent, charge, Ending::Canceled, deadline).await,
            (IntentStatus::Processing, _) => answer(&intent, ChargeState::Processing),
            (
                IntentStatus::RequiresAction | IntentStatus::RequiresPaymentMethod | IntentStatus::RequiresConfirmation,
                _,
            ) => action_required(intent),
            (IntentStatus::RequiresCapture | IntentStatus::Other, _) => {
                answer(&intent, unknown_state("the PaymentIntent is in a state that a charge does not have"))
            }
        }
    }

    /// Cancels a PaymentIntent. That it is canceled already, or can't be because it was paid, comes back as an error
    /// that carries it.
    async fn close(
        &self,
        intent: PaymentIntent,
        charge: &ChargeRequest,
        ending: Ending,
        deadline: Deadline,
    ) -> ChargeAnswer {
        let response = match self.client.cancel_intent(&intent.id, deadline).await {
            Ok(response) => response,
            Err(error) => return answer(&intent, unknown_state(&format!("it could not be closed: {error}"))),
        };
        let now = match read::<PaymentIntent>(&response) {
            Ok(Reply::Object(now)) => now,
            Ok(Reply::Error(ErrorReply { status: 400, error, .. })) => match error.payment_intent {
                Some(now) => *now,
                None => return answer(&intent, unknown_state("Stripe refused to close it")),
            },
            Ok(Reply::Error(reply)) => {
                return answer(&intent, unknown_state(&format!("closing it was answered with {}", reply.status)));
            }
            Err(reason) => return answer(&intent, unknown_state(&reason)),
        };
        if now.id != intent.id {
            return answer(&intent, unknown_state("Stripe answered about another PaymentIntent"));
        }
        match (now.status, ending) {
            (IntentStatus::Canceled, Ending::Declined(failure)) => answer(&now, ChargeState::Declined(failure)),
            (IntentStatus::Canceled, Ending::NotDone(failure)) => answer(&now, ChargeState::NotDone(failure)),
            (IntentStatus::Canceled, Ending::Canceled) => answer(&now, ChargeState::Canceled),
            (IntentStatus::Succeeded, _) => succeeded(&now, charge),
            (IntentStatus::Processing, _) => answer(&now, ChargeState::Processing),
            _ => answer(&now, unknown_state("it could not be closed yet")),
        }
    }
}

/// Success, if what was taken is what was asked for.
fn succeeded(intent: &PaymentIntent, charge: &ChargeRequest) -> ChargeAnswer {
    let received = amount::from_stripe(intent.amount_received, charge.money.currency);
    if received != Some(charge.money) || !intent.amounts_to(charge.money) {
        return answer(intent, unknown_state("Stripe took another amount than was asked for"));
    }
    answer(intent, ChargeState::Success { fee_minor: intent.fee_minor(charge.money) })
}

fn action_required(intent: PaymentIntent) -> ChargeAnswer {
    let next_action = intent.page_for_payer();
    let refs = ProviderRefs {
        channel_order_no: Some(intent.id),
        client_secret: intent.client_secret,
        ..ProviderRefs::default()
    };
    ChargeAnswer::with(ChargeState::ActionRequired { next_action, expires_at: None }, refs)
}

fn answer(intent: &PaymentIntent, state: ChargeState) -> ChargeAnswer {
    let refs = ProviderRefs { channel_order_no: Some(intent.id.clone()), ..ProviderRefs::default() };
    ChargeAnswer::with(state, refs)
}

fn unknown_state(reason: &str) -> ChargeState {
    ChargeState::Unknown { reason: reason.to_owned() }
}

/// Whether a secret or restricted key is for real money.
fn livemode_of(secret_key: &str) -> Option<bool> {
    let of_mode = |mode: &str| ["sk", "rk"].iter().any(|kind| secret_key.starts_with(&format!("{kind}_{mode}_")));
    if of_mode("live") { Some(true) } else { of_mode("test").then_some(false) }
}

fn amount_not_supported() -> Failure {
    Failure::new(AMOUNT_NOT_SUPPORTED, "Stripe can't take this amount in this currency.", DeclineScope::Processor)
}

fn unreachable(error: &HttpError) -> Failure {
    Failure::new("channel_unreachable", error.to_string(), DeclineScope::Processor)
}

fn missing_number() -> Failure {
    let message = "What holds the money has no number at Stripe, so that nothing can be done with it.";
    Failure::new("missing_hold", message, DeclineScope::Processor)
}

fn not_received() -> Failure {
    Failure::new("not_received", "Stripe never carried out the request.", DeclineScope::Processor)
}

impl Channel for StripeChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            charge: true,
            refund: true,
            pre_auth: true,
            partial_capture: true,
            notifications: self.webhook_secret.is_some(),
            check: true,
        }
    }

    fn currencies(&self) -> CurrencySupport {
        CURRENCIES
    }

    fn livemode(&self) -> Option<bool> {
        self.livemode
    }

    fn methods(&self) -> &'static [&'static str] {
        &["card"]
    }

    fn takes_token(&self, token: &str) -> bool {
        TOKEN_PREFIXES.iter().any(|prefix| token.starts_with(prefix))
    }

    fn charge<'a>(&'a self, request: &'a ChargeRequest) -> Call<'a, ChargeAnswer> {
        Box::pin(self.send_charge(request))
    }

    fn resolve<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, ChargeAnswer> {
        Box::pin(self.ask_about_charge(request))
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest) -> Call<'a, RefundAnswer> {
        Box::pin(self.give_back(request))
    }

    fn authorize<'a>(&'a self, request: &'a AuthorizeRequest) -> Call<'a, HoldAnswer> {
        Box::pin(self.send_hold(request))
    }

    fn capture<'a>(&'a self, request: &'a CaptureRequest) -> Call<'a, HoldAnswer> {
        Box::pin(self.take_held(request))
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> Call<'a, HoldAnswer> {
        Box::pin(self.let_go(request))
    }

    fn ask_hold<'a>(&'a self, question: &'a HoldQuestion) -> Call<'a, HoldAnswer> {
        Box::pin(self.ask_about_hold(question))
    }

    fn list_charges<'a>(
        &'a self,
        since: Timestamp,
        after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedCharge>, ListError>> {
        Box::pin(self.charges_since(since, after))
    }

    fn list_refunds<'a>(
        &'a self,
        since: Timestamp,
        after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedRefund>, ListError>> {
        Box::pin(self.refunds_since(since, after))
    }

    fn verify<'a>(&'a self, inbound: &'a Inbound) -> Call<'a, Result<Notification, NotificationRefusal>> {
        Box::pin(ready(self.read_notification(inbound)))
    }

    fn names_of<'a>(&'a self, provider_no: &'a str) -> Call<'a, Result<Option<Subject>, ListError>> {
        Box::pin(self.look_up_names(provider_no))
    }

    fn check<'a>(&'a self) -> Call<'a, Result<CheckReport, CheckFailure>> {
        Box::pin(self.look_at_account())
    }
}
