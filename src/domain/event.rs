//! What a merchant is told: one event for each change that it may care about, in the order of their commits.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::ids::EventId;
use crate::domain::money::Currency;
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
    /// The payer's bank claims the money back.
    #[serde(rename = "payment.disputed")]
    PaymentDisputed,
    /// Money went back.
    #[serde(rename = "refund.success")]
    RefundSuccess,
    /// The refund was not possible.
    #[serde(rename = "refund.failed")]
    RefundFailed,
    /// Money is held for the merchant.
    #[serde(rename = "pre_auth.authorized")]
    PreAuthAuthorized,
    /// Of what was held, money was taken.
    #[serde(rename = "pre_auth.captured")]
    PreAuthCaptured,
    /// What was held is free again.
    #[serde(rename = "pre_auth.canceled")]
    PreAuthCanceled,
    /// It was not captured in time.
    #[serde(rename = "pre_auth.expired")]
    PreAuthExpired,
    /// It is to be captured soon or never.
    #[serde(rename = "pre_auth.expiring")]
    PreAuthExpiring,
    /// Certainly nothing is held.
    #[serde(rename = "pre_auth.failed")]
    PreAuthFailed,
    /// The merchant comes near one of its limits.
    #[serde(rename = "limit.near")]
    LimitNear,
    /// One of the merchant's webhook endpoints has taken nothing for long, and will be disabled.
    #[serde(rename = "webhook.endpoint_failing")]
    WebhookEndpointFailing,
    /// One of the merchant's webhook endpoints was disabled.
    #[serde(rename = "webhook.endpoint_disabled")]
    WebhookEndpointDisabled,
    /// Sent on request, to try an endpoint.
    #[serde(rename = "test")]
    Test,
}

impl EventName {
    /// All names, in the order in which they are documented.
    pub const ALL: [Self; 17] = [
        Self::PaymentSuccess,
        Self::PaymentFailed,
        Self::PaymentCanceled,
        Self::PaymentRequiresAction,
        Self::PaymentDisputed,
        Self::RefundSuccess,
        Self::RefundFailed,
        Self::PreAuthAuthorized,
        Self::PreAuthCaptured,
        Self::PreAuthCanceled,
        Self::PreAuthExpired,
        Self::PreAuthExpiring,
        Self::PreAuthFailed,
        Self::LimitNear,
        Self::WebhookEndpointFailing,
        Self::WebhookEndpointDisabled,
        Self::Test,
    ];

    /// The name as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PaymentSuccess => "payment.success",
            Self::PaymentFailed => "payment.failed",
            Self::PaymentCanceled => "payment.canceled",
            Self::PaymentRequiresAction => "payment.requires_action",
            Self::PaymentDisputed => "payment.disputed",
            Self::RefundSuccess => "refund.success",
            Self::RefundFailed => "refund.failed",
            Self::PreAuthAuthorized => "pre_auth.authorized",
            Self::PreAuthCaptured => "pre_auth.captured",
            Self::PreAuthCanceled => "pre_auth.canceled",
            Self::PreAuthExpired => "pre_auth.expired",
            Self::PreAuthExpiring => "pre_auth.expiring",
            Self::PreAuthFailed => "pre_auth.failed",
            Self::LimitNear => "limit.near",
            Self::WebhookEndpointFailing => "webhook.endpoint_failing",
            Self::WebhookEndpointDisabled => "webhook.endpoint_disabled",
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
    /// In what that is; `None` when it is about no money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// When it happened.
    pub at: Timestamp,
    /// The body exactly as it goes over the wire, JSON.
    pub body: Box<RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_stored_as_it_is_written() {
        for name in EventName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
        }
    }
}
