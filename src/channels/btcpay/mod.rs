//! Invoices of a BTCPay server, by its Greenfield API.
//!
//! Three things decide most of what is here. Creating is not idempotent, so that an invoice is created once and looked for
//! by our number from then on. Nobody can keep a payer from sending coins to an address once it was shown, so that an
//! invoice is over only when the server stops looking for them. And what comes late or in part is money all the same: it
//! is reported as stray, never as success and never as nothing, once it can't be taken back any more.

mod amount;
mod charge;
mod check;
mod invoice;
mod notification;
mod refund;
mod request;
mod resolve;
mod response;
#[cfg(test)]
mod tests;

use zeroize::Zeroizing;

use crate::channels::btcpay::request::BtcpayClient;
use crate::channels::build::required;
use crate::channels::http::{HttpClient, HttpError};
use crate::channels::{
    AMOUNT_NOT_SUPPORTED, Call, Capabilities, Channel, ChargeAnswer, ChargeRequest, CheckFailure, CheckReport,
    Credentials, DeclineScope, Failure, Inbound, ListError, Notification, NotificationRefusal, RefundAnswer,
    RefundRequest, ResolveRequest,
};

/// How the sandbox's tokens begin. A real server knows no tokens.
const SANDBOX_TOKEN_PREFIX: &str = "tok_";

/// A store of a BTCPay server.
pub(super) struct BtcpayChannel {
    client: BtcpayClient,
    webhook_secret: Option<Zeroizing<String>>,
    default_payment_token: Option<String>,
}

impl BtcpayChannel {
    /// Credentials: `api_key` and `store_id`, and `webhook_secret` where notifications are to be taken.
    ///
    /// # Errors
    /// A sentence, when one is missing or can't be one.
    pub(super) fn new(http: HttpClient, credentials: &Credentials) -> Result<Self, String> {
        let api_key = Zeroizing::new(required(credentials, "api_key")?);
        let store_id = required(credentials, "store_id")?;
        if !is_id(&store_id) {
            return Err(String::from("credential `store_id` is no id of a store: it consists of letters and digits"));
        }
        Ok(Self {
            client: BtcpayClient::new(http, &api_key, store_id),
            webhook_secret: credentials.get("webhook_secret").map(|secret| Zeroizing::new(secret.to_owned())),
            default_payment_token: credentials.get("default_payment_token").map(str::to_owned),
        })
    }

    /// What the payer does, for the sandbox.
    fn token_of<'a>(&'a self, charge: &'a ChargeRequest) -> Option<&'a str> {
        let default = self.default_payment_token.as_deref()?;
        Some(charge.payment_token.as_deref().unwrap_or(default))
    }
}

/// Whether it can stand in a path as it is.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn amount_not_supported() -> Failure {
    Failure::new(AMOUNT_NOT_SUPPORTED, "BTCPay can't ask for this amount.", DeclineScope::Processor)
}

fn unreachable(error: &HttpError) -> Failure {
    Failure::new("channel_unreachable", error.to_string(), DeclineScope::Processor)
}

fn not_received() -> Failure {
    Failure::new("not_received", "BTCPay never carried out the request.", DeclineScope::Processor)
}

/// What BTCPay refuses is for the server's owner to mend.
fn refused(code: &str, message: &str) -> Failure {
    Failure::new(code, message, DeclineScope::Processor)
}

impl Channel for BtcpayChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            charge: true,
            refund: true,
            notifications: self.webhook_secret.is_some(),
            check: true,
            ..Capabilities::default()
        }
    }

    fn methods(&self) -> &'static [&'static str] {
        &["crypto"]
    }

    fn takes_token(&self, token: &str) -> bool {
        self.default_payment_token.is_some() && token.starts_with(SANDBOX_TOKEN_PREFIX)
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

    fn verify<'a>(&'a self, inbound: &'a Inbound) -> Call<'a, Result<Notification, NotificationRefusal>> {
        Box::pin(std::future::ready(self.read_notification(inbound)))
    }

    fn check<'a>(&'a self) -> Call<'a, Result<CheckReport, CheckFailure>> {
        Box::pin(self.look_at_store())
    }
}
