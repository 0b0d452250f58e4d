//! The value of an entry in the index of dead letters.

use serde::{Deserialize, Serialize};

use crate::domain::event::EventName;
use crate::domain::ids::MerchantId;
use crate::domain::webhook::{Failure, Notification};

/// What is known of a dead letter without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadEntry {
    /// Whose notification it is.
    pub merchant_id: MerchantId,
    /// Why it was given up.
    pub failure: Failure,
    /// What it tells.
    pub event: EventName,
}

impl DeadEntry {
    /// The entry of `notification`; `None` when it is no dead letter.
    pub fn of(notification: &Notification) -> Option<Self> {
        let failure = notification.failure.filter(|failure| failure.is_dead_letter())?;
        Some(Self { merchant_id: notification.merchant_id.clone(), failure, event: notification.event })
    }
}
