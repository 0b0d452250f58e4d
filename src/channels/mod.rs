//! How to talk to payment providers. A [`Channel`] turns one request into calls of a provider's API and the answers
//! into one of few outcomes; what follows from an outcome is decided elsewhere.
//!
//! The outcomes keep one promise: *certainly not done* is said only when the provider's object is closed or was never
//! made, so that another channel may be asked. Everything else that is not a final answer is *unknown*, and unknown is
//! resolved by asking ([`Channel::resolve`]), never by guessing.

mod alipay;
mod build;
mod credentials;
mod http;
mod instant;
mod listing;
mod separate_sandbox;
mod stripe;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;

pub use crate::channels::build::{ChannelSetupError, build};
pub use crate::channels::credentials::{CredentialError, Credentials};
pub use crate::channels::listing::{ListError, ListPage, ListedCharge, ListedRefund};
pub use crate::channels::separate_sandbox::separate_sandbox_urls;
use crate::config::ChannelKind;
use crate::domain::money::{Currency, Money};
use crate::domain::time::Timestamp;

pub use crate::domain::outcome::{
    AMOUNT_NOT_SUPPORTED, ChargeAnswer, ChargeState, DeclineScope, Failure, NextAction, ProviderRefs, RefundAnswer,
    RefundState,
};

/// How far the clock may be behind the time when something was sent, as a time server corrects it, without putting its
/// age in doubt. Adapters leave more room than that before a provider's memory ends.
const CLOCK_BEHIND_MAX: Duration = Duration::from_secs(300);

/// What a provider can do. The default is nothing, so that a new adapter has to say what it supports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Takes payments.
    pub charge: bool,
    /// Gives money back.
    pub refund: bool,
    /// Holds money first and takes it later.
    pub pre_auth: bool,
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
        ChannelKind::Alipay => alipay::CURRENCIES,
        ChannelKind::Instant => CurrencySupport::All,
    }
}

/// One charge. The reference is our number and the key is derived from it and the attempt: both are stored before the
/// request is sent, so that asking again after a crash means the same thing.
#[derive(Clone, Debug)]
pub struct ChargeRequest {
    /// Our `payment_no`, exactly.
    pub reference: String,
    /// Whose payment it is. Kept by the provider, so that a lost payment can be made again from what it knows.
    pub merchant_id: String,
    /// The merchant's order number, kept by the provider too.
    pub order_no: String,
    /// Identifies this attempt to the provider; the same for every repetition of it, never used for another.
    pub provider_key: String,
    /// What the payer pays.
    pub money: Money,
    /// The payment method as the merchant names it, if any.
    pub method: Option<String>,
    /// The provider's token for the payer's means of payment, if the merchant has one.
    pub payment_token: Option<String>,
    /// For the payer's statement or order page.
    pub description: Option<String>,
    /// The payer's address for receipts.
    pub customer_email: Option<String>,
    /// Where the payer returns to after acting.
    pub return_url: Option<String>,
}

/// What is known about a charge whose outcome has to be asked for.
#[derive(Clone, Debug)]
pub struct ResolveRequest {
    /// The request as it was (or may have been) sent.
    pub charge: ChargeRequest,
    /// When it was first about to be sent.
    pub first_sent_at: Timestamp,
    /// By then it had left this machine, or never did. Not earlier than `first_sent_at`.
    pub sent_by: Timestamp,
    /// How long after it was sent a request may still take effect at the provider, though nobody waits for its answer.
    pub settling: Duration,
    /// The time now.
    pub now: Timestamp,
    /// By how much the clock may have been set back since `first_sent_at`: so much more than it seems may have gone by.
    pub set_back: Duration,
    /// Names learned so far.
    pub refs: ProviderRefs,
    /// When the payer last got something to act on; `None` when nobody ever did.
    pub offered_at: Option<Timestamp>,
    /// Close it if it is not charged: the merchant canceled, its time ran out, or nobody waits for it any more.
    pub close: bool,
}

impl ResolveRequest {
    /// Whether the request has arrived by now or never will. Before that, its absence proves nothing.
    pub fn is_settled(&self) -> bool {
        self.now >= self.sent_by.plus(self.settling)
    }

    /// How long ago the provider may have seen the key first, at most; `None` when the clocks of then and now contradict
    /// each other, so that nobody can say. Then the request must not be repeated.
    pub fn key_age(&self) -> Option<Duration> {
        key_age(self.first_sent_at, self.now, self.set_back)
    }
}

fn key_age(first_sent_at: Timestamp, now: Timestamp, set_back: Duration) -> Option<Duration> {
    (first_sent_at.since(now) <= CLOCK_BEHIND_MAX).then(|| now.since(first_sent_at) + set_back)
}

/// Money to give back.
#[derive(Clone, Debug)]
pub struct RefundRequest {
    /// Our `payment_no`, exactly.
    pub reference: String,
    /// Our `refund_no`, exactly.
    pub refund_reference: String,
    /// Whose payment it is, as for a charge.
    pub merchant_id: String,
    /// Identifies this refund to the provider, as for a charge.
    pub provider_key: String,
    /// How much to give back.
    pub money: Money,
    /// How much was charged.
    pub charged: Money,
    /// Why, in the merchant's words.
    pub reason: Option<String>,
    /// Names of the charge.
    pub refs: ProviderRefs,
    /// When it was first about to be sent; equal to `now` for the first try.
    pub first_sent_at: Timestamp,
    /// By then the first try had left this machine, or never did. Not earlier than `first_sent_at`.
    pub sent_by: Timestamp,
    /// As for a charge.
    pub settling: Duration,
    /// Whether nothing was sent for this refund before.
    pub is_first: bool,
    /// As for a charge.
    pub set_back: Duration,
    /// The time now.
    pub now: Timestamp,
}

impl RefundRequest {
    /// As for a charge.
    pub fn key_age(&self) -> Option<Duration> {
        key_age(self.first_sent_at, self.now, self.set_back)
    }

    /// Whether the first try has arrived by now or never will.
    pub fn is_settled(&self) -> bool {
        self.now >= self.sent_by.plus(self.settling)
    }
}

/// A call of a provider under way. It never panics and always ends within the channel's timeout.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A way to move money. What an implementation needs to know about a payment comes with the request; what it remembers
/// beyond that only saves work.
pub trait Channel: Send + Sync + 'static {
    /// What this channel can do.
    fn capabilities(&self) -> Capabilities;

    /// The currencies it can express. A charge in another one is answered `NotDone` without asking the provider.
    fn currencies(&self) -> CurrencySupport {
        CurrencySupport::All
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
    fn charge<'a>(&'a self, request: &'a ChargeRequest) -> Call<'a, ChargeAnswer>;

    /// Finds out what became of a charge: by the provider's number, else by our reference, else by repeating it with
    /// the same key while the provider still remembers keys. With `close`, an object that is not charged is closed
    /// first, so that the answer is final.
    fn resolve<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, ChargeAnswer>;

    /// Sends one refund, or repeats it with the same key, or asks about it: whichever is safe and leads to an answer.
    fn refund<'a>(&'a self, request: &'a RefundRequest) -> Call<'a, RefundAnswer>;

    /// Looks for a charge by its key and changes nothing. Asked after a restore of channels that have no list, about
    /// attempts that were forgotten here; `sent_by` is the latest moment at which it, or what a payer needs for it, can have
    /// been sent. `None` when there is none and none can come up any more. An error that is not
    /// [`ListError::NotSupported`] means that this is not known yet.
    fn find_charge<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, Result<Option<ChargeAnswer>, ListError>> {
        let _ = request;
        Box::pin(std::future::ready(Err(ListError::NotSupported)))
    }

    /// A page of the charges that the provider made since `since`, newest first, from behind `after` on. Changes nothing.
    fn list_charges<'a>(
        &'a self,
        since: Timestamp,
        after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedCharge>, ListError>> {
        let _ = (since, after);
        Box::pin(std::future::ready(Err(ListError::NotSupported)))
    }

    /// The same for refunds.
    fn list_refunds<'a>(
        &'a self,
        since: Timestamp,
        after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedRefund>, ListError>> {
        let _ = (since, after);
        Box::pin(std::future::ready(Err(ListError::NotSupported)))
    }
}
