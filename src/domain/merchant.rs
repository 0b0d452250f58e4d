//! Merchants, their tiers and their API keys.

use serde::{Deserialize, Serialize};

use crate::domain::ids::{ChannelName, KeyId, MerchantId};
use crate::domain::time::Timestamp;

/// Most active keys of a merchant: one in use and one to change over to.
pub const ACTIVE_KEYS_MAX: usize = 2;

/// Whether a merchant may send requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MerchantStatus {
    /// It may.
    Active,
    /// Every request is answered 403.
    Suspended,
}

/// Single limits that replace the tier's for one merchant. `None` keeps the tier's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitOverrides {
    /// Requests per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Requests per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Requests per hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u32>,
    /// Requests at once, see the tier's `burst`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Requests in flight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u32>,
}

/// A merchant as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merchant {
    /// Its id.
    pub merchant_id: MerchantId,
    /// What people call it.
    pub name: String,
    /// Name of its tier, one of `[tiers.<name>]`.
    pub tier: String,
    /// ISO 3166-1 alpha-2 code of where it is, for fees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Limits of its own.
    #[serde(default)]
    pub limits: LimitOverrides,
    /// The only channels it may use; empty for all.
    #[serde(default)]
    pub channels: Vec<ChannelName>,
    /// Whether it may send requests.
    pub status: MerchantStatus,
    /// Ids of its active keys, oldest first.
    #[serde(default)]
    pub keys: Vec<KeyId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}
