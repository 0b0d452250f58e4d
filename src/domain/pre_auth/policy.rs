//! What is configured about pre-auths.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::payment::ResolvePolicy;
use crate::domain::stray::StrayPolicy;

/// What becomes of held money that nobody has captured when its time is about to run out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExpiry {
    /// It is released.
    #[default]
    Release,
    /// All of it is taken.
    Capture,
}

/// How pre-auths are worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreAuthPolicy {
    /// How outcomes are asked about.
    pub resolve: ResolvePolicy,
    /// What the payer has not acted on for this long is given up.
    pub unconfirmed_expires: Duration,
    /// How long before its expiry the merchant is told of it.
    pub expiring_before: Duration,
    /// How long before its expiry `on_expiry` is done.
    pub on_expiry_before: Duration,
    /// What is done then.
    pub on_expiry: OnExpiry,
    /// How long money is held where the provider does not say.
    pub hold_valid: Duration,
    /// Whether the clock may be relied on for what is done past the end of a hold, where nothing is lost by waiting.
    pub is_clock_believed: bool,
    /// What is done about money that comes although the pre-auth is over.
    pub stray: StrayPolicy,
}
