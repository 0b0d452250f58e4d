//! The emulators, seen by clients that know nothing of the adapters.

mod alipay;
mod alipay_holds;
mod crypto;
mod paypal;
mod sender;
mod server;
mod stripe;
mod unknown;

use std::sync::Arc;

use crate::clock::Clock;
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::sandbox::{Sandbox, SandboxOptions};

const START: Timestamp = Timestamp::from_unix_s(1_790_000_000);

/// Emulators on a clock that stands still.
fn sandbox() -> (Arc<Sandbox>, Clock) {
    let clock = Clock::manual(START);
    let options = SandboxOptions::new(clock.clone(), Random::seeded(1));
    (Arc::new(Sandbox::start(options).unwrap()), clock)
}
