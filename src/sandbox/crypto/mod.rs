//! The emulator of a BTCPay server. There is nothing behind it yet but such a server's way of saying so.

use std::future::{Future, ready};
use std::pin::Pin;

use serde_json::json;

use crate::sandbox::ledger::LedgerEntry;
use crate::sandbox::server::{Call, Emulator, Outcome, answer};

/// The emulator behind one port.
pub(super) struct CryptoEmulator;

impl Emulator for CryptoEmulator {
    fn handle(&self, _call: Call) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>> {
        let body = json!({ "code": "not-found", "message": "There is no such resource." });
        Box::pin(ready(Outcome::Answer(answer(404, "application/json", body.to_string()))))
    }

    fn ledger(&self) -> Vec<LedgerEntry> {
        Vec::new()
    }
}
