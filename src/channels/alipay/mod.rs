//! Alipay's open platform: `gateway.do`, RSA2 signatures, trades and held money by bar code and by QR code.
//!
//! A payment token is what the payer's app shows as a bar code, and is charged at once; without one the payer gets a QR
//! code to scan. Trades and holds are known by a number of ours that can be used once, for ever: that is what makes asking
//! and closing safe.

mod amount;
mod capture;
mod charge;
mod check;
mod codes;
mod freeze;
mod hold;
mod notification;
mod refund;
mod resolve;
mod rsa2;
#[cfg(test)]
mod tests;
mod unfreeze;
mod wire;

use std::future::ready;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::channels::alipay::rsa2::{Signer, Verifier};
use crate::channels::alipay::wire::AlipayClient;
use crate::channels::build::required;
use crate::channels::credentials::Credentials;
use crate::channels::http::HttpClient;
use crate::channels::{
    AMOUNT_NOT_SUPPORTED, Acknowledgement, AuthorizeRequest, Call, Capabilities, CaptureRequest, Channel, ChargeAnswer,
    ChargeRequest, CheckFailure, CheckReport, CurrencySupport, DeclineScope, Failure, HoldAnswer, HoldQuestion,
    Inbound, ListError, Notification, NotificationRefusal, RefundAnswer, RefundRequest, ReleaseRequest, ResolveRequest,
};
use crate::clock::Clock;

/// The emulators' token for a payer who has to act: here, one who scans a QR code.
const SCAN_TOKEN: &str = "tok_3ds";
/// The emulators' tokens; live mode takes none of them.
const SANDBOX_TOKENS: [&str; 10] = [
    "tok_visa",
    "tok_declined",
    "tok_insufficient_funds",
    "tok_stolen_card",
    SCAN_TOKEN,
    "tok_processing",
    "tok_timeout",
    "tok_lost_response",
    "tok_error",
    "tok_processing_error",
];
/// How the emulators' tokens begin that say who refuses, and with which code.
const SANDBOX_PREFIXES: [&str; 2] = ["tok_stripe_declines:", "tok_alipay_declines:"];
/// Longest number that Alipay takes.
const NUMBER_LENGTH_MAX: usize = 64;

/// The currencies in which amounts can be expressed.
pub(super) const CURRENCIES: CurrencySupport = CurrencySupport::Listed(amount::CURRENCIES);

/// Talks to Alipay.
pub(crate) struct AlipayChannel {
    client: AlipayClient,
    default_payment_token: Option<String>,
    /// The merchant's account, where it is known: what is told about another is not ours.
    seller_id: Option<String>,
    /// How long Alipay holds money. That is a matter of the contract; no answer says it.
    hold_valid: Duration,
}

impl AlipayChannel {
    /// A channel with the application's credentials. Money is held for `hold_valid`.
    ///
    /// # Errors
    /// A sentence about the credential that is missing or unusable.
    pub(crate) fn new(
        http: HttpClient,
        credentials: &Credentials,
        clock: Clock,
        hold_valid: Duration,
    ) -> Result<Self, String> {
        let app_id = required(credentials, "app_id")?;
        let signer = Signer::new(&required(credentials, "app_private_key")?)?;
        let verifier = Verifier::new(&required(credentials, "alipay_public_key")?)?;
        Ok(Self {
            client: AlipayClient::new(http, clock, app_id, signer, verifier),
            default_payment_token: credentials.get("default_payment_token").map(str::to_owned),
            seller_id: credentials.get("seller_id").map(str::to_owned),
            hold_valid,
        })
    }

    /// The payer's bar code; `None` when a QR code is to be shown instead.
    fn bar_code_of<'a>(&'a self, charge: &'a ChargeRequest) -> Option<&'a str> {
        let token = charge.payment_token.as_deref().or(self.default_payment_token.as_deref());
        token.filter(|token| *token != SCAN_TOKEN)
    }
}

/// The payer's bar code of a hold; `None` when a QR code is to be shown instead. Nothing stands in for it: a hold without
/// one waits for its payer.
fn hold_bar_code_of(hold: &AuthorizeRequest) -> Option<&str> {
    hold.payment_token.as_deref().filter(|token| *token != SCAN_TOKEN)
}

/// The number under which Alipay knows an attempt: its key where Alipay takes that (64 letters, digits and
/// underscores), else a digest of it.
fn number_of(provider_key: &str) -> String {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !provider_key.is_empty() && provider_key.len() <= NUMBER_LENGTH_MAX && provider_key.bytes().all(allowed) {
        return provider_key.to_owned();
    }
    hex::encode(Sha256::digest(provider_key.as_bytes()))
}

/// What a payer's app shows as a bar code: 16 to 24 digits that begin with 25 to 30.
fn is_bar_code(token: &str) -> bool {
    let begins_right =
        token.get(..2).and_then(|two| two.parse::<u8>().ok()).is_some_and(|two| (25..=30).contains(&two));
    begins_right && (16..=24).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_digit())
}

fn amount_not_supported() -> Failure {
    Failure::new(AMOUNT_NOT_SUPPORTED, "Alipay can't take this amount in this currency.", DeclineScope::Processor)
}

fn unreachable(reason: String) -> Failure {
    Failure::new("channel_unreachable", reason, DeclineScope::Processor)
}

fn missing_hold() -> Failure {
    let message = "The pre-authorization has no number at Alipay, so that nothing can be done with what is held.";
    Failure::new("missing_hold", message, DeclineScope::Processor)
}

fn not_received() -> Failure {
    Failure::new("not_received", "Alipay never carried out the request.", DeclineScope::Processor)
}

impl Channel for AlipayChannel {
    fn livemode(&self) -> Option<bool> {
        self.client.livemode()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            charge: true,
            refund: true,
            pre_auth: true,
            partial_capture: true,
            notifications: true,
            check: true,
        }
    }

    fn currencies(&self) -> CurrencySupport {
        CURRENCIES
    }

    fn methods(&self) -> &'static [&'static str] {
        &["alipay"]
    }

    fn takes_token(&self, token: &str) -> bool {
        is_bar_code(token)
            || SANDBOX_TOKENS.contains(&token)
            || SANDBOX_PREFIXES.iter().any(|prefix| token.starts_with(prefix))
    }

    fn charge<'a>(&'a self, request: &'a ChargeRequest) -> Call<'a, ChargeAnswer> {
        Box::pin(self.send_charge(request))
    }

    fn resolve<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, ChargeAnswer> {
        Box::pin(self.ask_about_charge(request))
    }

    fn find_charge<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, Result<Option<ChargeAnswer>, ListError>> {
        Box::pin(self.look_for_charge(request))
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest) -> Call<'a, RefundAnswer> {
        Box::pin(self.give_back(request))
    }

    fn authorize<'a>(&'a self, request: &'a AuthorizeRequest) -> Call<'a, HoldAnswer> {
        Box::pin(self.send_hold(request))
    }

    fn capture<'a>(&'a self, request: &'a CaptureRequest) -> Call<'a, HoldAnswer> {
        Box::pin(self.take(request))
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> Call<'a, HoldAnswer> {
        Box::pin(self.let_go(request))
    }

    fn ask_hold<'a>(&'a self, question: &'a HoldQuestion) -> Call<'a, HoldAnswer> {
        Box::pin(self.ask_about_hold(question))
    }

    fn verify<'a>(&'a self, inbound: &'a Inbound) -> Call<'a, Result<Notification, NotificationRefusal>> {
        Box::pin(ready(self.read_notification(inbound)))
    }

    fn acknowledgement(&self) -> Acknowledgement {
        Acknowledgement { content_type: "text/plain", body: "success" }
    }

    fn check<'a>(&'a self) -> Call<'a, Result<CheckReport, CheckFailure>> {
        Box::pin(self.check_credentials())
    }
}
