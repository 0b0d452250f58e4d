//! What channels are asked for, and what is known about what was sent before. Every key and number in here is stored
//! before it is sent.

use std::time::Duration;

use crate::domain::money::Money;
use crate::domain::outcome::ProviderRefs;
use crate::domain::time::Timestamp;

/// How far the clock may be behind the time when something was sent, as a time server corrects it, without putting its
/// age in doubt. Adapters leave more room than that before a provider's memory ends.
const CLOCK_BEHIND_MAX: Duration = Duration::from_secs(300);

fn key_age(first_sent_at: Timestamp, now: Timestamp, set_back: Duration) -> Option<Duration> {
    (first_sent_at.since(now) <= CLOCK_BEHIND_MAX).then(|| now.since(first_sent_at) + set_back)
}

fn is_settled(sent_by: Timestamp, money_sent_at: Option<Timestamp>, settling: Duration, now: Timestamp) -> bool {
    now >= money_sent_at.map_or(sent_by, |at| at.max(sent_by)).plus(settling)
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
    /// Where the provider may tell what becomes of it, for providers that have to be told that with each request.
    pub notify_url: Option<String>,
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
    /// When a question last sent what may move money (see [`crate::domain::outcome::ChargeAnswer::sent_money`]); `None` when none ever did.
    pub money_sent_at: Option<Timestamp>,
    /// Close it if it is not charged: the merchant canceled, its time ran out, or nobody waits for it any more.
    pub close: bool,
}

impl ResolveRequest {
    /// Whether the request has arrived by now or never will. Before that, its absence proves nothing.
    pub fn is_settled(&self) -> bool {
        is_settled(self.sent_by, self.money_sent_at, self.settling, self.now)
    }

    /// How long ago the provider may have seen the key first, at most; `None` when the clocks of then and now contradict
    /// each other, so that nobody can say. Then the request must not be repeated.
    pub fn key_age(&self) -> Option<Duration> {
        key_age(self.first_sent_at, self.now, self.set_back)
    }
}

/// Money to give back.
#[derive(Clone, Debug)]
pub struct RefundRequest {
    /// Our `payment_no` or `pre_auth_no`, exactly.
    pub reference: String,
    /// Our `refund_no`, exactly.
    pub refund_reference: String,
    /// Whose it is, as for a charge.
    pub merchant_id: String,
    /// Identifies this refund to the provider, as for a charge.
    pub provider_key: String,
    /// How much to give back.
    pub money: Money,
    /// How much was charged or captured.
    pub charged: Money,
    /// Why, in the merchant's words.
    pub reason: Option<String>,
    /// Names of the charge or of the capture.
    pub refs: ProviderRefs,
    /// The provider's number of the refund, once it is known.
    pub channel_refund_no: Option<String>,
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
        is_settled(self.sent_by, None, self.settling, self.now)
    }
}

/// Money to hold.
#[derive(Clone, Debug)]
pub struct AuthorizeRequest {
    /// Our `pre_auth_no`, exactly.
    pub reference: String,
    /// Whose pre-auth it is, as for a charge.
    pub merchant_id: String,
    /// The merchant's order number, kept by the provider too.
    pub order_no: String,
    /// Identifies this pre-auth to the provider, as for a charge.
    pub provider_key: String,
    /// How much to hold.
    pub money: Money,
    /// The provider's token for the payer's means of payment. Without one the pre-auth waits for the payer.
    pub payment_token: Option<String>,
    /// For the payer's statement or order page.
    pub description: Option<String>,
    /// The payer's address for receipts.
    pub customer_email: Option<String>,
    /// Where the payer returns to after acting.
    pub return_url: Option<String>,
    /// As for a charge.
    pub notify_url: Option<String>,
}

/// What is known about the first try of an operation on held money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When it was first about to be sent; equal to `now` for the first try.
    pub first_sent_at: Timestamp,
    /// By then the first try had left this machine, or never did. Not earlier than `first_sent_at`.
    pub sent_by: Timestamp,
    /// As for a charge.
    pub settling: Duration,
    /// As for a charge.
    pub set_back: Duration,
    /// The time now.
    pub now: Timestamp,
    /// Whether nothing was sent for this operation before.
    pub is_first: bool,
}

impl Sent {
    /// As for a charge.
    pub fn key_age(&self) -> Option<Duration> {
        key_age(self.first_sent_at, self.now, self.set_back)
    }

    /// Whether the first try has arrived by now or never will.
    pub fn is_settled(&self) -> bool {
        is_settled(self.sent_by, None, self.settling, self.now)
    }
}

/// Held money to take. What is not taken is released in the same step.
#[derive(Clone, Debug)]
pub struct CaptureRequest {
    /// The hold, as it was asked for.
    pub hold: AuthorizeRequest,
    /// Names of the hold.
    pub refs: ProviderRefs,
    /// Identifies this capture to the provider, as for a charge.
    pub provider_key: String,
    /// Our name of this capture, for the provider's books.
    pub capture_reference: String,
    /// How much to take; at most what is held.
    pub money: Money,
    /// What is known about the first try.
    pub sent: Sent,
}

/// Held money to let go, all of it.
#[derive(Clone, Debug)]
pub struct ReleaseRequest {
    /// The hold, as it was asked for.
    pub hold: AuthorizeRequest,
    /// Names of the hold.
    pub refs: ProviderRefs,
    /// Identifies this release to the provider, as for a charge.
    pub provider_key: String,
    /// How much is held.
    pub held: Money,
    /// Why, in the merchant's words.
    pub reason: Option<String>,
    /// What is known about the first try.
    pub sent: Sent,
}

/// Held money to hold for longer.
#[derive(Clone, Debug)]
pub struct ExtendRequest {
    /// The hold, as it was asked for.
    pub hold: AuthorizeRequest,
    /// Names of the hold.
    pub refs: ProviderRefs,
    /// Identifies this extension to the provider, as for a charge.
    pub provider_key: String,
    /// How much is held.
    pub held: Money,
    /// What is known about the first try.
    pub sent: Sent,
}

/// What is known about held money that has to be asked about.
#[derive(Clone, Debug)]
pub struct HoldQuestion {
    /// The request as it was (or may have been) sent.
    pub hold: AuthorizeRequest,
    /// Names learned so far.
    pub refs: ProviderRefs,
    /// When the request was first about to be sent.
    pub first_sent_at: Timestamp,
    /// By then it had left this machine, or never did. Not earlier than `first_sent_at`.
    pub sent_by: Timestamp,
    /// As for a charge.
    pub settling: Duration,
    /// As for a charge.
    pub set_back: Duration,
    /// The time now.
    pub now: Timestamp,
    /// When the payer last got something to act on; `None` when nobody ever did.
    pub offered_at: Option<Timestamp>,
    /// When a question last sent what may move money; `None` when none ever did.
    pub money_sent_at: Option<Timestamp>,
    /// Close it, whatever it has become: the merchant canceled, or its time ran out.
    pub close: bool,
    /// The pre-auth is over: nothing is sent that could still hold or take money.
    pub is_over: bool,
}

impl HoldQuestion {
    /// As for a charge.
    pub fn key_age(&self) -> Option<Duration> {
        key_age(self.first_sent_at, self.now, self.set_back)
    }

    /// Whether everything that was sent has arrived by now or never will.
    pub fn is_settled(&self) -> bool {
        is_settled(self.sent_by, self.money_sent_at, self.settling, self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Timestamp = Timestamp::from_unix_s(1_700_000_000);
    const SETTLING: Duration = Duration::from_secs(60);

    fn later(seconds: u64) -> Timestamp {
        SENT.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn what_was_sent_last_says_when_all_has_settled() {
        for (money_sent_at, settles_after) in [(None, 60), (Some(later(30)), 90), (Some(SENT), 60)] {
            assert!(!is_settled(SENT, money_sent_at, SETTLING, later(settles_after - 1)), "{money_sent_at:?}");
            assert!(is_settled(SENT, money_sent_at, SETTLING, later(settles_after)), "{money_sent_at:?}");
        }
        // A clock that was set back in between does not shorten it.
        assert!(!is_settled(later(10), Some(SENT), SETTLING, later(69)));
    }

    #[test]
    fn an_operation_counts_from_its_first_try() {
        let sent = |now, set_back| Sent {
            first_sent_at: SENT,
            sent_by: later(5),
            settling: SETTLING,
            set_back,
            now,
            is_first: false,
        };
        assert!(!sent(later(64), Duration::ZERO).is_settled() && sent(later(65), Duration::ZERO).is_settled());
        assert_eq!(sent(later(10), SETTLING).key_age(), Some(Duration::from_secs(70)));
        let earlier = Timestamp::from_unix_s(SENT.unix_s() - 301);
        assert_eq!(sent(earlier, Duration::ZERO).key_age(), None, "the clocks contradict each other");
    }
}
