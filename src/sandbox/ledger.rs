//! The emulators' own book of what they did with money, for comparing it with the gateway's.

use serde::{Deserialize, Serialize};

use crate::domain::money::Money;
use crate::domain::time::Timestamp;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerOperation {
    /// Money was taken.
    Charge,
    /// Money was held.
    Hold,
    /// Held money was taken.
    Capture,
    /// Held money was released.
    Void,
    /// Money was given back.
    Refund,
}

/// One line of the book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// What was done.
    pub operation: LedgerOperation,
    /// The emulator's number of the object.
    pub provider_no: String,
    /// The gateway's number of the payment or pre-auth.
    pub reference: String,
    /// How much, in minor units of ISO 4217.
    pub amount_minor: i64,
    /// The currency.
    pub currency: String,
    /// When, in RFC 3339.
    pub at: String,
}

/// A book as it is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Its lines in the order in which they were written.
    pub items: Vec<LedgerEntry>,
}

impl LedgerEntry {
    pub(super) fn new(
        operation: LedgerOperation,
        provider_no: &str,
        reference: &str,
        money: Money,
        at: Timestamp,
    ) -> Self {
        Self {
            operation,
            provider_no: provider_no.to_owned(),
            reference: reference.to_owned(),
            amount_minor: money.amount_minor,
            currency: money.currency.code().to_owned(),
            at: at.rfc3339(),
        }
    }
}
