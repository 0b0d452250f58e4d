//! What providers have told of their own accord and was not gone into yet. It is kept before the provider is answered, so
//! that nothing told is lost.

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;

/// What a notification is about, by whichever names it carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Our `payment_no` or `pre_auth_no`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merchant_id: Option<String>,
    /// Our key of what was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_key: Option<String>,
    /// The provider's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_no: Option<String>,
}

/// The payer's bank claims money back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeHint {
    /// The provider's number of the claim.
    pub dispute_no: String,
}

/// A notification as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxRow {
    /// When it first arrived.
    pub received_at: Timestamp,
    /// What the provider calls what happened.
    pub event: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<Subject>,
    /// Whether it is about a claim of the payer's bank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispute: Option<DisputeHint>,
    /// When nothing was left to do about it; `None` while there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_at: Option<Timestamp>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// How often its subjects were looked for so far.
    #[serde(default)]
    pub tries: u32,
}
