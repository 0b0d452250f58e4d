//! The gateway's limits for any service built on tower: exact windows, several at once, and requests in flight, without a
//! gateway.
//!
//! ```no_run
//! use tollgate::domain::limit::LimitFigures;
//! use tollgate::ratelimit::{RateLimits, Settings, Subject};
//!
//! # async fn start() -> Result<(), tollgate::ratelimit::StartError> {
//! let free = LimitFigures { per_second: 10, per_minute: 500, per_hour: 10_000, burst: 20, concurrent: 10 };
//! let limits = RateLimits::start([("free", free)], Settings::default()).await?;
//! let layer = limits.layer(|head| {
//!     let merchant = head.headers.get("x-merchant")?.to_str().ok()?;
//!     Some(Subject::new(merchant, "free"))
//! });
//! # let _ = layer;
//! # Ok(())
//! # }
//! ```
//!
//! An admitted request's answer has the `X-RateLimit-*`, `RateLimit` and `RateLimit-Policy` headers, and is in flight until
//! its body has been sent or dropped. A refused one is answered 429 with `Retry-After`, and consumes nothing. When it can't
//! be decided the answer is 503: nobody is let through for that reason.
//!
//! What people read in an answer that is made here is Chinese where `Accept-Language` prefers it, else English. Its body has
//! `request_id` when the request has one `X-Request-Id` of up to 64 letters, digits and `-_.:`; otherwise it has none, since
//! ids are given out by whoever stands in front. The header itself is that one's, too.

mod answer;
mod body;
mod layer;
mod memory;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::actors::directory::{AdmitRequest, DirectorySettings, MerchantDirectory};
use crate::actors::merchant::{Admitted, LimiterSnapshots, MerchantUsage, Refused};
use crate::actors::supervisor::{self, RestartBudget, Supervisor};
use crate::clock::Clock;
use crate::domain::ids::MerchantId;
use crate::domain::limit::{InvalidFigures, LimitFigures};

pub use body::PermitBody;
pub use layer::{RateLimit, RateLimitLayer};
pub use memory::MemorySnapshots;

/// Requests that may wait for all merchants' decisions together, as a multiple of one's.
const MAILBOXES_TOTAL: usize = 16;
/// How long the actors are given to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// A shorter lease would end before anything was done under it.
const LEASE_MIN: Duration = Duration::from_millis(1);

/// Bounds, and where windows are kept.
#[derive(Clone)]
pub struct Settings {
    /// A permit that is not given back is taken back after this: longer than any request takes, and at least 1 ms.
    pub lease: Duration,
    /// Merchants in memory at once, at least 1; requests of further ones are answered 503.
    pub merchants_active_max: usize,
    /// A merchant leaves memory after being idle this long.
    pub idle: Duration,
    /// Requests that may wait for one merchant's decision, at least 1; more are answered 503.
    pub mailbox_max: usize,
    /// How often the windows of merchants with traffic are handed over to `snapshots`.
    pub snapshot_interval: Duration,
    /// Where the windows of merchants are that are not in memory as actors: [`MemorySnapshots`] unless they are to outlive the
    /// process.
    pub snapshots: Arc<dyn LimiterSnapshots>,
    /// Where the time is read.
    pub clock: Clock,
}

impl Default for Settings {
    fn default() -> Self {
        let merchants_active_max = 20_000;
        Self {
            lease: Duration::from_secs(60),
            merchants_active_max,
            idle: Duration::from_secs(300),
            mailbox_max: 1024,
            snapshot_interval: Duration::from_secs(5),
            snapshots: Arc::new(MemorySnapshots::new(4 * merchants_active_max, Clock::system())),
            clock: Clock::system(),
        }
    }
}

impl Settings {
    /// Refuses what would let nobody through, ever, or hold nobody back.
    fn check(&self) -> Result<(), StartError> {
        let too_small = [
            ("lease", self.lease < LEASE_MIN, "1 ms"),
            ("merchants_active_max", self.merchants_active_max == 0, "1"),
            ("mailbox_max", self.mailbox_max == 0, "1"),
        ];
        match too_small.into_iter().find(|(_, is_too_small, _)| *is_too_small) {
            Some((name, _, least)) => Err(StartError::Settings { name, least }),
            None => Ok(()),
        }
    }
}

/// Why limits can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A tier's figures make no sense.
    #[error("tier {tier}: {reason}")]
    Tier {
        /// The tier's name.
        tier: String,
        /// What is wrong.
        reason: InvalidFigures,
    },
    /// A setting makes no sense.
    #[error("{name} must be at least {least}")]
    Settings {
        /// The setting's name.
        name: &'static str,
        /// The least that it may be.
        least: &'static str,
    },
    /// The actors' supervisor could not be started.
    #[error(transparent)]
    Actors(#[from] supervisor::StartError),
}

/// Whose request it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Whose limits are asked. What names it should have been authenticated: whoever can make names up has new limits with
    /// each of them.
    pub merchant: String,
    /// The tier's name, as given to [`RateLimits::start`]. A merchant's tier may change from one request to the next; what it
    /// used counts on.
    pub tier: String,
    /// How many requests it counts for, at least 1.
    pub cost: u32,
}

impl Subject {
    /// One request of `merchant`, which is in `tier`.
    pub fn new(merchant: impl Into<String>, tier: impl Into<String>) -> Self {
        Self { merchant: merchant.into(), tier: tier.into(), cost: 1 }
    }
}

/// Limits of many merchants. Cheap to clone; clones are the same limits.
#[derive(Clone)]
pub struct RateLimits(Arc<Inner>);

struct Inner {
    tiers: HashMap<String, LimitFigures>,
    directory: MerchantDirectory,
    supervisor: Supervisor,
    clock: Clock,
}

impl RateLimits {
    /// Starts the limits with these tiers. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When a tier's figures or the settings are out of range.
    pub async fn start<N: Into<String>>(
        tiers: impl IntoIterator<Item = (N, LimitFigures)>,
        settings: Settings,
    ) -> Result<Self, StartError> {
        settings.check()?;
        let mut known = HashMap::new();
        for (name, figures) in tiers {
            let tier: String = name.into();
            figures.check().map_err(|reason| StartError::Tier { tier: tier.clone(), reason })?;
            known.insert(tier, figures);
        }
        let supervisor = Supervisor::start(RestartBudget::default(), settings.clock.clone()).await?;
        let bounds = DirectorySettings {
            lease: settings.lease,
            merchants_active_max: settings.merchants_active_max,
            idle: settings.idle,
            mailbox_max: settings.mailbox_max,
            mailboxes_total_max: settings.mailbox_max.saturating_mul(MAILBOXES_TOTAL),
            claims_max: 1,
            snapshot_interval: settings.snapshot_interval,
        };
        let directory =
            MerchantDirectory::start(bounds, settings.clock.clone(), settings.snapshots, supervisor.clone());
        Ok(Self(Arc::new(Inner { tiers: known, directory, supervisor, clock: settings.clock })))
    }

    /// A layer that asks these limits about every request for which `subject` names somebody. A request for which it names
    /// nobody is not limited.
    pub fn layer<F>(&self, subject: F) -> RateLimitLayer<F>
    where
        F: Fn(&hyper::http::request::Parts) -> Option<Subject>,
    {
        RateLimitLayer::new(self.clone(), subject)
    }

    /// Asks about one request, for services that don't use the layer. The permit in the answer is given back by dropping it.
    ///
    /// # Errors
    /// [`Refused`]; [`Refused::Overloaded`] for a tier that there is not.
    pub async fn admit(&self, subject: &Subject) -> Result<Admitted, Refused> {
        let figures = self.figures_of(&subject.tier)?;
        let merchant_id = MerchantId::new(subject.merchant.as_str());
        // Requests of several tiers may come at once, and each is decided by the figures of its own.
        let cost = subject.cost.max(1);
        let request = AdmitRequest { merchant_id, figures, revision: None, idempotency: None, cost };
        self.0.directory.admit(request).await
    }

    /// How much of the limits of a tier a merchant has used, without using any.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] while its limits are being recovered, or for a tier that there is not.
    pub async fn usage(&self, merchant: &str, tier: &str) -> Result<MerchantUsage, Refused> {
        self.0.directory.usage(&MerchantId::new(merchant), self.figures_of(tier)?, None).await
    }

    fn figures_of(&self, tier: &str) -> Result<LimitFigures, Refused> {
        let figures = self.0.tiers.get(tier).copied();
        figures.ok_or_else(|| {
            tracing::error!(tier, "a request names a tier that there is not");
            Refused::Overloaded("there is no such tier")
        })
    }

    fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Hands every window over and stops; requests from now on are answered 503. Answers whether everything was handed over.
    pub async fn stop(&self) -> bool {
        let unsaved = self.0.directory.stop().await;
        self.0.supervisor.stop(STOP_TIMEOUT).await;
        unsaved == 0
    }
}

#[cfg(test)]
mod tests;
