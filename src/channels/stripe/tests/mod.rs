//! The Stripe adapter against its emulator over real sockets, and against peers that are not Stripe.

mod charges;
mod differential;
mod hold_faults;
mod holds;
mod notifications;

use crate::channels::ProviderRefs;

const NOTHING: ProviderRefs =
    ProviderRefs { channel_order_no: None, client_secret: None, hold_no: None, parent_hold_no: None, capture_no: None };
