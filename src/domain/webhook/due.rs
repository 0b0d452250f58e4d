//! The value of an entry in the index of what is due.

use serde::{Deserialize, Serialize};

use crate::domain::ids::MerchantId;
use crate::domain::webhook::Notification;

/// What is known of a due notification without reading it: enough to choose which is sent first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueEntry {
    /// Whose notification it is.
    pub merchant_id: MerchantId,
    /// Tries made so far; 0 before the first.
    pub attempts: u32,
    /// The amount that decides how urgent it is, in minor units.
    pub amount_minor: i64,
}

impl DueEntry {
    /// The entry of `notification` as it is now.
    pub fn of(notification: &Notification) -> Self {
        Self {
            merchant_id: notification.merchant_id.clone(),
            attempts: notification.attempts,
            amount_minor: notification.amount_minor,
        }
    }

    /// Whether this is a notification's first try.
    pub const fn is_first_try(&self) -> bool {
        self.attempts == 0
    }
}
