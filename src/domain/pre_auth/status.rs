//! Where a pre-auth stands, and what it may become.

use serde::{Deserialize, Serialize};

/// Where a pre-auth stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreAuthStatus {
    /// The intent is stored; the payer has to bring a means of payment, or was declined and may bring another.
    RequiresPaymentMethod,
    /// The payer must act.
    RequiresAction,
    /// The channel works on it, money is under way, or the outcome is unknown.
    Processing,
    /// The money is held.
    RequiresCapture,
    /// Money was taken, the rest was released.
    Captured,
    /// Given up with nothing taken and nothing held.
    Canceled,
    /// Its time ran out with nothing taken and nothing held.
    Expired,
    /// Certainly nothing held, and the provider's object is closed.
    Failed,
    /// Could not be resolved; a person has to look.
    NeedsReview,
}

impl PreAuthStatus {
    /// All statuses, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::RequiresPaymentMethod,
        Self::RequiresAction,
        Self::Processing,
        Self::RequiresCapture,
        Self::Captured,
        Self::Canceled,
        Self::Expired,
        Self::Failed,
        Self::NeedsReview,
    ];

    /// The status as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequiresPaymentMethod => "requires_payment_method",
            Self::RequiresAction => "requires_action",
            Self::Processing => "processing",
            Self::RequiresCapture => "requires_capture",
            Self::Captured => "captured",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::NeedsReview => "needs_review",
        }
    }

    /// The status that is written `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether nothing of its own accord changes it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Captured | Self::Canceled | Self::Expired | Self::Failed)
    }

    /// Whether the order number is free for another pre-auth.
    pub const fn frees_order_no(self) -> bool {
        matches!(self, Self::Canceled | Self::Expired | Self::Failed)
    }
}

/// What may happen to a pre-auth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The payer brings a means of payment, with the request or later.
    PayerConfirms,
    /// The payer does what was asked of them.
    PayerActs,
    /// The payer's means of payment is declined, and they may bring another.
    Declined,
    /// It is given up, by the merchant or by somebody at the provider.
    Cancel,
    /// The payer has not acted in time.
    Unconfirmed,
    /// The provider says what became of it.
    OutcomeKnown,
    /// Nobody could say for too long what became of it.
    Unresolved,
    /// What is held, or part of it, is taken.
    Capture,
    /// A capture or a release is under way, and what came of it is not known yet.
    OutcomeOpen,
    /// The provider lets go of what is held.
    ProviderExpiry,
    /// Money that was taken goes back.
    Refund,
    /// Money comes although it is over.
    StrayMoney,
    /// A person says what became of it.
    Reviewed,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::PayerConfirms,
        Self::PayerActs,
        Self::Declined,
        Self::Cancel,
        Self::Unconfirmed,
        Self::OutcomeKnown,
        Self::Unresolved,
        Self::Capture,
        Self::OutcomeOpen,
        Self::ProviderExpiry,
        Self::Refund,
        Self::StrayMoney,
        Self::Reviewed,
    ];
}

/// What a pre-auth in `from` may be after `event`; `None` when `event` is not possible in it and changes nothing. This is
/// the documented table, and nothing passes by it: one change may take several of its steps at once.
pub const fn table(from: PreAuthStatus, event: EventKind) -> Option<&'static [PreAuthStatus]> {
    use EventKind as Event;
    use PreAuthStatus::{
        Canceled, Captured, Expired, Failed, NeedsReview, Processing, RequiresAction, RequiresCapture,
        RequiresPaymentMethod,
    };
    let to: &'static [PreAuthStatus] = match (from, event) {
        (RequiresPaymentMethod, Event::PayerConfirms) => &[RequiresAction, RequiresCapture, Processing],
        (RequiresPaymentMethod, Event::Declined) => &[RequiresPaymentMethod],
        (RequiresAction, Event::PayerActs) => &[RequiresCapture, Processing, RequiresPaymentMethod],
        (RequiresPaymentMethod | RequiresAction | RequiresCapture, Event::Cancel) => &[Canceled],
        (RequiresPaymentMethod | RequiresAction, Event::Unconfirmed) => &[Expired],
        (Processing, Event::OutcomeKnown) => &[RequiresCapture, Captured, Canceled, Failed],
        (Processing, Event::Unresolved) => &[NeedsReview],
        (RequiresCapture, Event::Capture) => &[Captured],
        (RequiresCapture, Event::OutcomeOpen) => &[Processing],
        (RequiresCapture, Event::ProviderExpiry) => &[Expired],
        (Captured, Event::Refund | Event::StrayMoney) => &[Captured],
        (Canceled, Event::StrayMoney) => &[Canceled],
        (Expired, Event::StrayMoney) => &[Expired],
        (Failed, Event::StrayMoney) => &[Failed],
        (NeedsReview, Event::Reviewed) => &[RequiresCapture, Captured, Canceled, Failed],
        _ => return None,
    };
    Some(to)
}
