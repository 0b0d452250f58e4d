//! Tier limits: how many requests a merchant may send, decided exactly and without I/O.
//!
//! Three windows are looked at in one decision: `burst` admissions in `burst / per_second` seconds (an exact ring of
//! admissions), a minute and an hour (conservative buckets that return a slot up to one bucket late, never early). With
//! them goes a number of requests in flight, held as leases. A refusal consumes nothing, names every limit that refused
//! and says how long to wait. No true sliding window ever holds more than its limit.

mod address;
mod buckets;
mod client_address;
mod days;
mod figures;
pub mod headers;
mod leases;
mod limiter;
mod near;
mod packed;
mod ring;
pub mod shedding;
mod snapshot;
mod view;
pub mod wording;

pub use address::{ADDRESS_BURST_MAX, ADDRESS_ENTRY_BYTES, ADDRESS_FAILURES_MAX, AddressLimits, AddressTable};
pub use client_address::{ClientFound, ClientNetwork, ForwardingHeader, find_client};
pub use days::{DAYS_KEPT, DailyUsage, DayUsage, RefusedBy};
pub use figures::{BURST_MAX, BURST_WINDOW_MAX_S, CONCURRENT_MAX, InvalidFigures, LimitFigures, Policy, PolicySet};
pub use leases::{LeaseId, Leases};
pub use limiter::{Decision, Limiter};
pub use near::{
    HYSTERESIS_POINTS, NearLimits, NearSettings, NearSnapshot, Passed, THRESHOLD_MIN_PERCENT, THRESHOLDS_MAX,
};
pub use packed::PackedSnapshot;
pub use snapshot::{BucketsSnapshot, LimiterSnapshot, UnseenSpan};
pub use view::{ConcurrencyView, LimitView, Refusal, WindowView};

#[cfg(test)]
mod tests;
