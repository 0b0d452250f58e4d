//! Who is told what the limits decide, for figures and events.

use std::time::Duration;

use crate::domain::ids::MerchantId;
use crate::domain::limit::{Passed, Policy};
use crate::domain::time::Timestamp;

/// A merchant came near one of its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearLimit {
    /// Who.
    pub merchant_id: MerchantId,
    /// Which limit, and how near.
    pub passed: Passed,
    /// When.
    pub at: Timestamp,
}

/// Is told what the limits decide. All calls are made on the way of a request and must be quick and wait for nothing.
pub trait LimitObserver: Send + Sync + 'static {
    /// A request has waited for its merchant's actor.
    fn waited(&self, waited: Duration);

    /// A request was let through.
    fn admitted(&self);

    /// A request was refused; its answer names `limit`.
    fn refused(&self, limit: Policy);

    /// A merchant came near a limit.
    fn near(&self, near: NearLimit);

    /// Permits were taken back because their time was over.
    fn leases_expired(&self, leases: u64);

    /// One more merchant is in memory.
    fn merchant_came(&self);

    /// One merchant less is.
    fn merchant_went(&self);
}

/// Nobody is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl LimitObserver for NoObserver {
    fn waited(&self, _waited: Duration) {}
    fn admitted(&self) {}
    fn refused(&self, _limit: Policy) {}
    fn near(&self, _near: NearLimit) {}
    fn leases_expired(&self, _leases: u64) {}
    fn merchant_came(&self) {}
    fn merchant_went(&self) {}
}
