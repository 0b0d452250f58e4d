//! Alipay's open platform: `gateway.do`, RSA2 signatures, trades by bar code and by QR code.
//!
//! A payment token is what the payer's app shows as a bar code, and is charged at once; without one the payer gets a QR
//! code to scan. Trades are known by a number of ours that can be used once, for ever: that is what makes asking and
//! closing safe.

mod amount;
mod charge;
mod codes;
mod refund;
mod resolve;
mod rsa2;
#[cfg(test)]
mod tests;
mod wire;

use sha2::{Digest, Sha256};

use crate::channels::alipay::rsa2::{Signer, Verifier};
use crate::channels::alipay::wire::AlipayClient;
use crate::channels::build::required;
use crate::channels::credentials::Credentials;
use crate::channels::http::HttpClient;
use crate::channels::{
    AMOUNT_NOT_SUPPORTED, Call, Capabilities, Channel, ChargeAnswer, ChargeRequest, CurrencySupport, DeclineScope,
    Failure, ListError, RefundAnswer, RefundRequest, ResolveRequest,
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
}

impl AlipayChannel {
    /// A channel with the application's credentials.
    ///
    /// # Errors
    /// A sentence about the credential that is missing or unusable.
    pub(crate) fn new(http: HttpClient, credentials: &Credentials, clock: Clock) -> Result<Self, String> {
        let app_id = required(credentials, "app_id")?;
        let signer = Signer::new(&required(credentials, "app_private_key")?)?;
        let verifier = Verifier::new(&required(credentials, "alipay_public_key")?)?;
        Ok(Self {
            client: AlipayClient::new(http, clock, app_id, signer, verifier),
            default_payment_token: credentials.get("default_payment_token").map(str::to_owned),
        })
    }

    /// The payer's bar code; `None` when a QR code is to be shown instead.
    fn bar_code_of<'a>(&'a self, charge: &'a ChargeRequest) -> Option<&'a str> {
        let token = charge.payment_token.as_deref().or(self.default_payment_token.as_deref());
        token.filter(|token| *token != SCAN_TOKEN)
    }
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

fn not_received() -> Failure {
    Failure::new("not_received", "Alipay never carried out the request.", DeclineScope::Processor)
}

impl Channel for AlipayChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities { charge: true, refund: true, ..Capabilities::default() }
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
}
