//! The PayPal emulator. There is nothing behind it yet but PayPal's way of saying so.

use std::future::{Future, ready};
use std::pin::Pin;

use serde_json::json;

use crate::domain::ids::random_id;
use crate::random::Random;
use crate::sandbox::ledger::LedgerEntry;
use crate::sandbox::server::{Call, Emulator, Outcome, answer};

/// The emulator behind one port.
pub(super) struct PaypalEmulator {
    random: Random,
}

impl PaypalEmulator {
    pub(super) fn new(random: Random) -> Self {
        Self { random }
    }
}

impl Emulator for PaypalEmulator {
    fn handle(&self, _call: Call) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>> {
        let body = json!({
            "name": "RESOURCE_NOT_FOUND",
            "message": "The specified resource does not exist.",
            "debug_id": random_id("", [self.random.draw_u64(), self.random.draw_u64()]),
        });
        Box::pin(ready(Outcome::Answer(answer(404, "application/json", body.to_string()))))
    }

    fn ledger(&self) -> Vec<LedgerEntry> {
        Vec::new()
    }
}
