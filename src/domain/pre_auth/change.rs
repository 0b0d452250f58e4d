//! What a decision about a pre-auth comes to: its new state, and what follows from it.

use crate::domain::event::EventName;
use crate::domain::ids::RefundNo;
use crate::domain::outcome::StrayKind;
use crate::domain::pre_auth::{PreAuth, PreAuthStatus};
use crate::domain::time::Timestamp;

/// A new state and what goes with it. The state and the events are stored first, in one commit; then is sent what is to be
/// sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The new state.
    pub pre_auth: PreAuth,
    /// What the merchant is told, in this order.
    pub tell: Vec<EventName>,
    /// What the channel is asked for.
    pub send: Vec<Dispatch>,
    /// What somebody has to be woken for.
    pub alerts: Vec<Alert>,
}

impl Change {
    /// The present state, which is answered and not changed.
    pub fn nothing(pre_auth: &PreAuth) -> Self {
        Self { pre_auth: pre_auth.clone(), tell: Vec::new(), send: Vec::new(), alerts: Vec::new() }
    }
}

/// One call of the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Which.
    pub what: Sending,
    /// Whether nothing was sent for this operation (or refund) before.
    pub is_first: bool,
}

/// What the channel is asked for. All but refunds and questions are the pre-auth's open operation, as it was stored. While a
/// capture, release or extension is open, to ask about it is the same call again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sending {
    /// To hold the money.
    Authorize,
    /// To take it.
    Capture,
    /// To release it.
    Release,
    /// To hold it for longer.
    Extend,
    /// Where it stands.
    Ask {
        /// And to close it.
        close: bool,
    },
    /// To give back what was taken.
    Refund(RefundNo),
}

/// What somebody has to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    /// Money came in another way than it was asked for.
    Stray {
        /// In which.
        kind: StrayKind,
        /// How much, in minor units, where the provider says so.
        received_minor: Option<i64>,
    },
    /// It could not be resolved.
    NeedsReview,
}

/// Why nothing is done; nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Not in this status.
    State(PreAuthStatus),
    /// More than is there.
    TooMuch {
        /// What is there, in minor units.
        max_minor: i64,
    },
    /// It has had as many refunds as it may have.
    TooMany,
}

/// What a person says became of a pre-auth that could not be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewVerdict {
    /// The money is held.
    Held {
        /// When the provider lets it go, if that is known.
        expires_at: Option<Timestamp>,
    },
    /// So much was taken, and the rest is released.
    Captured {
        /// Minor units of the pre-auth's currency.
        captured_minor: i64,
    },
    /// Nothing was taken, and nothing is held.
    Canceled,
    /// Nothing was ever held.
    Failed,
}
