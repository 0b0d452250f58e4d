//! What the rate over the emulator is measured against: the same adapter's calls of the same emulator, in a loop. Nothing is
//! stored, nothing is signed or decided, nobody is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tollgate::channels::{AuthorizeRequest, CaptureRequest, Channel, HoldState, Sent};
use tollgate::clock::Clock;
use tollgate::domain::money::{Currency, Money};

use crate::house::House;

/// Of one pre-auth, minor units.
const AMOUNT_MINOR: i64 = 5_000;

/// See the module.
pub struct Bare {
    channel: Arc<dyn Channel>,
    merchant_id: String,
    clock: Clock,
    next: AtomicU64,
}

impl Bare {
    pub fn new(house: &House) -> Self {
        let (channel, merchant_id) = (Arc::clone(&house.channel), house.merchant_id.clone());
        Self { channel, merchant_id, clock: Clock::system(), next: AtomicU64::new(1) }
    }

    /// Has money held, and takes it.
    pub async fn hold_and_take(&self) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let money = Money::new(AMOUNT_MINOR, Currency::USD);
        let hold = AuthorizeRequest {
            reference: format!("PA00000000000000{number:012}"),
            merchant_id: self.merchant_id.clone(),
            order_no: format!("ROOM-{number:012}"),
            provider_key: format!("bare-hold-{number:032}"),
            money,
            payment_token: Some("tok_visa".to_owned()),
            description: Some("Two nights, breakfast included".to_owned()),
            customer_email: None,
            return_url: None,
            notify_url: None,
        };
        let held = self.channel.authorize(&hold).await;
        assert!(matches!(held.state, HoldState::Held { .. }), "{held:?}");
        let now = self.clock.now();
        let capture = CaptureRequest {
            refs: held.refs,
            provider_key: format!("bare-take-{number:032}"),
            capture_reference: format!("{}-2", hold.reference),
            hold,
            money,
            sent: Sent {
                first_sent_at: now,
                sent_by: now,
                settling: Duration::ZERO,
                set_back: Duration::ZERO,
                now,
                is_first: true,
            },
        };
        let taken = self.channel.capture(&capture).await;
        assert!(matches!(taken.state, HoldState::Captured { captured_minor: AMOUNT_MINOR, .. }), "{taken:?}");
    }
}
