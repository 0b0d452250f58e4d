//! What a merchant is told: one event for each change that it may care about, in the order of their commits.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::ids::EventId;
use crate::domain::time::Timestamp;

/// The names of events, as subscriptions and the wire write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventName {
    /// Money was taken.
    #[serde(rename = "payment.success")]
    PaymentSuccess,
    /// Certainly no money was taken.
    #[serde(rename = "payment.failed")]
    PaymentFailed,
    /// Given up before anything was charged.
    #[serde(rename = "payment.canceled")]
    PaymentCanceled,
    /// The payer has to act.
    #[serde(rename = "payment.requires_action")]
    PaymentRequiresAction,
    /// Money went back.
    #[serde(rename = "refund.success")]
    RefundSuccess,
    /// The refund was not possible.
    #[serde(rename = "refund.failed")]
    RefundFailed,
    /// The merchant comes near one of its limits.
    #[serde(rename = "limit.near")]
    LimitNear,
    /// Sent on request, to try an endpoint.
    #[serde(rename = "test")]
    Test,
}

impl EventName {
    /// All names, in the order in which they are documented.
    pub const ALL: [Self; 8] = [
        Self::PaymentSuccess,
        Self::PaymentFailed,
        Self::PaymentCanceled,
        Self::PaymentRequiresAction,
        Self::RefundSuccess,
        Self::RefundFailed,
        Self::LimitNear,
        Self::Test,
    ];

    /// The name as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PaymentSuccess => "payment.success",
            Self::PaymentFailed => "payment.failed",
            Self::PaymentCanceled => "payment.canceled",
            Self::PaymentRequiresAction => "payment.requires_action",
            Self::RefundSuccess => "refund.success",
            Self::RefundFailed => "refund.failed",
            Self::LimitNear => "limit.near",
            Self::Test => "test",
        }
    }
}

/// One event. Its number in the merchant's stream is the number that its append got.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// What happened.
    pub name: EventName,
    /// The payment (or pre-auth) that it is about, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_no: Option<String>,
    /// The amount that decides how urgent its webhook is, in minor units.
    pub amount_minor: i64,
    /// When it happened.
    pub at: Timestamp,
    /// The body exactly as it goes over the wire, JSON.
    pub body: Box<RawValue>,
}
