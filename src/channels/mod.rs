//! How to talk to payment providers. A [`Channel`] turns one request into calls of a provider's API and the answers
//! into one of few outcomes; what follows from an outcome is decided elsewhere.
//!
//! The outcomes keep one promise: *certainly not done* is said only when the provider's object is closed or was never
//! made, so that another channel may be asked. Everything else that is not a final answer is *unknown*, and unknown is
//! resolved by asking ([`Channel::resolve`]), never by guessing.

mod alipay;
mod btcpay;
mod build;
mod check;
mod credentials;
mod http;
mod inbound;
mod instant;
mod listing;
mod paypal;
mod requests;
mod separate_sandbox;
mod stripe;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unsupported_tests;

use std::future::{Future, ready};
use std::pin::Pin;

use serde::Serialize;

pub use crate::channels::build::{ChannelSetupError, build};
pub use crate::channels::check::{CheckFailure, CheckReport};
pub use crate::channels::credentials::{CredentialError, Credentials};
pub use crate::channels::inbound::{Acknowledgement, Inbound, Notification, NotificationRefusal};
pub use crate::channels::listing::{ListError, ListPage, ListedCharge, ListedRefund};
pub use crate::channels::requests::{
    AuthorizeRequest, CaptureRequest, ChargeRequest, ExtendRequest, HoldQuestion, RefundRequest, ReleaseRequest,
    ResolveRequest, Sent,
};
pub use crate::channels::separate_sandbox::{register_callbacks, separate_sandbox_urls};
use crate::config::ChannelKind;
use crate::domain::money::Currency;
use crate::domain::time::Timestamp;

pub use crate::domain::inbox::{DisputeHint, Subject};
pub use crate::domain::outcome::{
    AMOUNT_NOT_SUPPORTED, ChargeAnswer, ChargeState, DeclineScope, Failure, HoldAnswer, HoldState, NOT_SUPPORTED,
    NextAction, ProviderRefs, RefundAnswer, RefundState, StrayKind,
};

/// What a provider can do. The default is nothing, so that a new adapter has to say what it supports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Takes payments.
    pub charge: bool,
    /// Gives money back.
    pub refund: bool,
    /// Holds money first and takes it later.
    pub pre_auth: bool,
    /// Takes less than is held, and releases the rest.
    pub partial_capture: bool,
    /// Understands what its provider sends of its own accord.
    pub notifications: bool,
    /// Can be checked without moving money.
    pub check: bool,
}

/// The currencies in which an adapter can express amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurrencySupport {
    /// Every currency.
    All,
    /// Those whose codes are listed here.
    Listed(&'static [&'static str]),
}

impl CurrencySupport {
    /// Whether `currency` is one of them.
    pub fn contains(self, currency: Currency) -> bool {
        match self {
            Self::All => true,
            Self::Listed(codes) => codes.contains(&currency.code()),
        }
    }
}

/// The currencies in which the adapter of a kind of channel can express amounts.
pub(crate) const fn currencies_of(kind: ChannelKind) -> CurrencySupport {
    match kind {
        ChannelKind::Stripe => stripe::CURRENCIES,
        ChannelKind::Paypal => paypal::CURRENCIES,
        ChannelKind::Alipay => alipay::CURRENCIES,
        ChannelKind::Btcpay | ChannelKind::Instant | ChannelKind::Custom => CurrencySupport::All,
    }
}

/// A call of a provider under way. It never panics and always ends within the channel's timeout.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A way to move money. What an implementation needs to know about a payment comes with the request; what it remembers
/// beyond that only saves work. What it does not implement it does not support: nothing is sent then.
pub trait Channel: Send + Sync + 'static {
    /// What this channel can do.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// The currencies it can express. A charge in another one is answered `NotDone` without asking the provider.
    fn currencies(&self) -> CurrencySupport {
        CurrencySupport::All
    }

    /// Whether it moves real money, where its credentials or its address say so. A gateway does not start with a channel
    /// that contradicts its mode.
    fn livemode(&self) -> Option<bool> {
        None
    }

    /// The payment methods it serves, as merchants name them; empty for any.
    fn methods(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether a payer's token can be one of this provider's. One that can't be is not shown to it.
    fn takes_token(&self, token: &str) -> bool {
        let _ = token;
        true
    }

    /// Sends one charge, once. A failure to connect is `NotDone`; a request that may have arrived and has no answer is
    /// `Unknown`.
    fn charge<'a>(&'a self, request: &'a ChargeRequest) -> Call<'a, ChargeAnswer> {
        let _ = request;
        at_once(ChargeAnswer::not_done(Failure::not_supported()))
    }

    /// Finds out what became of a charge: by the provider's number, else by our reference, else by repeating it with
    /// the same key while the provider still remembers keys. With `close`, an object that is not charged is closed
    /// first, so that the answer is final.
    fn resolve<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, ChargeAnswer> {
        let _ = request;
        at_once(ChargeAnswer::unknown(CANT_BE_ASKED))
    }

    /// Sends one refund, or repeats it with the same key, or asks about it: whichever is safe and leads to an answer.
    fn refund<'a>(&'a self, request: &'a RefundRequest) -> Call<'a, RefundAnswer> {
        at_once(match request.is_first {
            true => RefundAnswer::failed(Failure::not_supported()),
            false => RefundAnswer::unknown(CANT_BE_ASKED),
        })
    }

    /// Asks once for money to be held. A failure to connect is `NotDone`, as for a charge.
    fn authorize<'a>(&'a self, request: &'a AuthorizeRequest) -> Call<'a, HoldAnswer> {
        let _ = request;
        at_once(HoldAnswer::not_done(Failure::not_supported()))
    }

    /// Takes what is held, or part of it and releases the rest: sends that, or repeats it with the same key, or asks
    /// about it, whichever is safe and leads to an answer. `Captured` is said only with the amount that was read back.
    fn capture<'a>(&'a self, request: &'a CaptureRequest) -> Call<'a, HoldAnswer> {
        at_once(not_supported(&request.sent))
    }

    /// Releases all that is held, in the same way.
    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> Call<'a, HoldAnswer> {
        at_once(not_supported(&request.sent))
    }

    /// Asks in the same way for what is held to be held for longer.
    fn extend<'a>(&'a self, request: &'a ExtendRequest) -> Call<'a, HoldAnswer> {
        at_once(not_supported(&request.sent))
    }

    /// Finds out where held money stands, as for a charge. It may finish what the payer has approved, unless the pre-auth is
    /// over; with `close`, the object is closed, even if money is held by now, so that the answer is final.
    fn ask_hold<'a>(&'a self, question: &'a HoldQuestion) -> Call<'a, HoldAnswer> {
        let _ = question;
        at_once(HoldAnswer::unknown(CANT_BE_ASKED))
    }

    /// Looks for a charge by its key and changes nothing. Asked after a restore of channels that have no list, about
    /// attempts that were forgotten here; `sent_by` is the latest moment at which it, or what a payer needs for it, can have
    /// been sent. `None` when there is none and none can come up any more. An error that is not
    /// [`ListError::NotSupported`] means that this is not known yet.
    fn find_charge<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, Result<Option<ChargeAnswer>, ListError>> {
        let _ = request;
        at_once(Err(ListError::NotSupported))
    }

    /// A page of the charges that the provider made since `since`, newest first, from behind `after` on. Changes nothing.
    fn list_charges<'a>(
        &'a self,
        since: Timestamp,
        after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedCharge>, ListError>> {
        let _ = (since, after);
        at_once(Err(ListError::NotSupported))
    }

    /// The same for refunds.
    fn list_refunds<'a>(
        &'a self,
        since: Timestamp,
        after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedRefund>, ListError>> {
        let _ = (since, after);
        at_once(Err(ListError::NotSupported))
    }

    /// Proves that a notification comes from the provider, about our account and in our mode, and reads what it is about.
    /// Nothing of it is believed before that.
    fn verify<'a>(&'a self, inbound: &'a Inbound) -> Call<'a, Result<Notification, NotificationRefusal>> {
        let _ = inbound;
        at_once(Err(NotificationRefusal::NotSupported))
    }

    /// Our names of what a notification calls by the provider's number alone, as the provider keeps them; `None` when it
    /// has none of ours. Changes nothing.
    fn names_of<'a>(&'a self, provider_no: &'a str) -> Call<'a, Result<Option<Subject>, ListError>> {
        let _ = provider_no;
        at_once(Err(ListError::NotSupported))
    }

    /// What the provider wants to read when a notification was taken.
    fn acknowledgement(&self) -> Acknowledgement {
        Acknowledgement::default()
    }

    /// Makes an authenticated call that changes nothing, and says what it found.
    fn check<'a>(&'a self) -> Call<'a, Result<CheckReport, CheckFailure>> {
        at_once(Err(CheckFailure::NotSupported))
    }
}

/// Why a channel that can't be asked knows nothing.
const CANT_BE_ASKED: &str = "this channel can't be asked";

fn at_once<'a, T: Send + 'a>(answer: T) -> Call<'a, T> {
    Box::pin(ready(answer))
}

/// What was never sent is refused; what was sent before, by whatever stood here then, can't be asked about.
fn not_supported(sent: &Sent) -> HoldAnswer {
    let unknown = HoldAnswer::unknown(CANT_BE_ASKED);
    match sent.is_first {
        true => HoldAnswer::refused(unknown.state, Failure::not_supported()),
        false => unknown,
    }
}
