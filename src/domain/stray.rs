//! Money that came in another way than it was asked for: late, too little, too much, or for what was closed. It is never
//! ignored: it is written down, somebody is alerted, and a policy says what becomes of it.

use serde::{Deserialize, Serialize};

use crate::domain::ids::RefundNo;
use crate::domain::outcome::StrayKind;
use crate::domain::time::Timestamp;

/// Such money, as it is kept with what it was for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// In which way it came.
    pub kind: StrayKind,
    /// How much, in minor units of what it was for, where the provider says so: of too much, only what is beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_minor: Option<i64>,
    /// By which try of a payment it came, counted from 0.
    #[serde(default)]
    pub attempt: usize,
    /// When that was noticed.
    pub seen_at: Timestamp,
    /// What was done about it.
    pub action: StrayAction,
}

/// What was done about stray money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrayAction {
    /// It is being given back with this refund.
    Refunding(RefundNo),
    /// Somebody has to look.
    Reported,
    /// It counts as what was asked for.
    Accepted,
}

impl Stray {
    /// How much of it can be given back beside what was asked for, in minor units.
    pub fn refundable_minor(&self) -> i64 {
        match self.action {
            StrayAction::Refunding(_) | StrayAction::Reported => self.received_minor.unwrap_or(0),
            StrayAction::Accepted => 0,
        }
    }
}

/// A refund has failed. If it was to give stray money back, nobody else does: somebody has to look.
pub(in crate::domain) fn refund_failed(strays: &mut [Stray], refund_no: &RefundNo) {
    for stray in strays {
        if matches!(&stray.action, StrayAction::Refunding(of) if of == refund_no) {
            stray.action = StrayAction::Reported;
        }
    }
}

/// What is done about stray money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrayPolicy {
    /// It is given back.
    #[default]
    Refund,
    /// It is reported, and a person decides.
    Report,
    /// A late payment of exactly what was asked for counts as paid while its order number is still held; everything else
    /// is given back.
    Accept,
}
