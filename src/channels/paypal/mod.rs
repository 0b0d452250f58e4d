//! PayPal's Orders and Payments.
//!
//! Three things decide most of what is here. A request's id answers with the *present* state of what it made, so that
//! repeating and asking are the same. An answer of 201 says that something was made, not that it went well: only its
//! status does. And an order that the payer has approved does nothing until we finish it, so that whoever asks may have
//! to.

mod amount;
mod capture;
mod certificate;
mod charge;
mod check;
mod codes;
mod hold;
mod notification;
mod refund;
mod request;
mod resolve;
mod response;
#[cfg(test)]
mod tests;
mod token;

use crate::channels::build::required;
use crate::channels::credentials::Credentials;
use crate::channels::http::{HttpClient, HttpError};
use crate::channels::paypal::certificate::{Certificates, LIVE_HOSTS, SANDBOX_HOSTS};
use crate::channels::paypal::notification::Notifications;
use crate::channels::paypal::request::PaypalClient;
use crate::channels::{
    AMOUNT_NOT_SUPPORTED, AuthorizeRequest, Call, Capabilities, CaptureRequest, Channel, ChargeAnswer, ChargeRequest,
    CheckFailure, CheckReport, CurrencySupport, DeclineScope, ExtendRequest, Failure, HoldAnswer, HoldQuestion,
    Inbound, Notification, NotificationRefusal, RefundAnswer, RefundRequest, ReleaseRequest, ResolveRequest,
};
use crate::clock::Clock;

/// The emulators' tokens; live mode takes none of them.
const SANDBOX_TOKENS: [&str; 10] = [
    "tok_visa",
    "tok_declined",
    "tok_insufficient_funds",
    "tok_stolen_card",
    "tok_3ds",
    "tok_processing",
    "tok_timeout",
    "tok_lost_response",
    "tok_error",
    "tok_processing_error",
];
/// How the emulators' tokens begin that say who refuses, and with which code.
const SANDBOX_PREFIXES: [&str; 3] = ["tok_stripe_declines:", "tok_alipay_declines:", "tok_paypal_declines:"];
/// Lengths of a stored means of payment's id.
const VAULT_ID_LENGTHS: std::ops::RangeInclusive<usize> = 4..=64;
/// Lengths of what Alipay's payers show as a bar code: digits alone.
const BAR_CODE_LENGTHS: std::ops::RangeInclusive<usize> = 16..=24;

/// The currencies in which amounts can be expressed.
pub(super) const CURRENCIES: CurrencySupport = CurrencySupport::Listed(amount::CURRENCIES);

/// Talks to PayPal.
pub(crate) struct PaypalChannel {
    client: PaypalClient,
    clock: Clock,
    default_payment_token: Option<String>,
    notifications: Option<Notifications>,
}

impl PaypalChannel {
    /// A channel with the account's `client_id` and `client_secret`. Notifications are understood with a `webhook_id`;
    /// their certificates are held against the roots in `webhook_ca`, or else this machine's.
    ///
    /// # Errors
    /// A sentence about the credential that is missing or can't be read.
    pub(crate) fn new(http: HttpClient, credentials: &Credentials, clock: Clock) -> Result<Self, String> {
        let (client_id, client_secret) = (required(credentials, "client_id")?, required(credentials, "client_secret")?);
        let notifications = match credentials.get("webhook_id") {
            Some(webhook_id) => {
                let certificates = Certificates::new(credentials.get("webhook_ca"))?;
                let merchant_id = credentials.get("merchant_id").map(str::to_owned);
                Some(Notifications::new(webhook_id.to_owned(), merchant_id, certificates))
            }
            None => None,
        };
        Ok(Self {
            client: PaypalClient::new(http, clock.clone(), &client_id, &client_secret),
            clock,
            default_payment_token: credentials.get("default_payment_token").map(str::to_owned),
            notifications,
        })
    }
}

fn amount_not_supported() -> Failure {
    Failure::new(AMOUNT_NOT_SUPPORTED, "PayPal can't take this amount in this currency.", DeclineScope::Processor)
}

fn unreachable(error: &HttpError) -> Failure {
    Failure::new("channel_unreachable", error.to_string(), DeclineScope::Processor)
}

fn not_received() -> Failure {
    Failure::new("not_received", "PayPal never carried out the request.", DeclineScope::Processor)
}

fn given_up() -> Failure {
    Failure::new("given_up", "It was given up before anything was held.", DeclineScope::Customer)
}

impl Channel for PaypalChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            charge: true,
            refund: true,
            pre_auth: true,
            partial_capture: true,
            notifications: self.notifications.is_some(),
            check: true,
        }
    }

    fn currencies(&self) -> CurrencySupport {
        CURRENCIES
    }

    fn livemode(&self) -> Option<bool> {
        let host = self.client.http().base_url().host_str().unwrap_or_default().trim_end_matches('.');
        if LIVE_HOSTS.contains(&host) { Some(true) } else { SANDBOX_HOSTS.contains(&host).then_some(false) }
    }

    fn methods(&self) -> &'static [&'static str] {
        &["paypal", "card"]
    }

    fn takes_token(&self, token: &str) -> bool {
        let is_sandbox =
            SANDBOX_TOKENS.contains(&token) || SANDBOX_PREFIXES.iter().any(|prefix| token.starts_with(prefix));
        let is_bar_code = BAR_CODE_LENGTHS.contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_digit());
        let is_vault_id = VAULT_ID_LENGTHS.contains(&token.len())
            && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        is_sandbox || (is_vault_id && !is_bar_code)
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
        Box::pin(self.send_authorize(request))
    }

    fn capture<'a>(&'a self, request: &'a CaptureRequest) -> Call<'a, HoldAnswer> {
        Box::pin(self.take(request))
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> Call<'a, HoldAnswer> {
        Box::pin(self.let_go(request))
    }

    fn extend<'a>(&'a self, request: &'a ExtendRequest) -> Call<'a, HoldAnswer> {
        Box::pin(self.hold_for_longer(request))
    }

    fn ask_hold<'a>(&'a self, question: &'a HoldQuestion) -> Call<'a, HoldAnswer> {
        Box::pin(self.ask_about_hold(question))
    }

    fn verify<'a>(&'a self, inbound: &'a Inbound) -> Call<'a, Result<Notification, NotificationRefusal>> {
        Box::pin(self.verify_notification(inbound))
    }

    fn check<'a>(&'a self) -> Call<'a, Result<CheckReport, CheckFailure>> {
        Box::pin(self.look_around())
    }
}
