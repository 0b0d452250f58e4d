//! Limits for services beside the gateway: they ask over HTTP whether a merchant's request may go on, and give the permit
//! back by its id. What is never given back ends with its lease.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::ToSchema;

use crate::actors::directory::{AdmitRequest, MerchantDirectory};
use crate::actors::merchant::{Permit, Refused};
use crate::domain::ids::MerchantId;
use crate::domain::limit::{LimitView, Policy, PolicySet, Refusal};
use crate::domain::merchant::MerchantStatus;
use crate::domain::time::Monotonic;
use crate::gateway::admission;
use crate::gateway::core::Core;
use crate::gateway::error::{Forbidden, GatewayError};
use crate::gateway::merchants::KnownMerchant;
use crate::gateway::metrics::IntCounter;
use crate::gateway::view::{ConcurrencyView, WindowView};

/// How often permits are looked for that were not given back in time.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Random bytes of an id: nobody finds another one's.
const ID_BYTES: usize = 16;
/// A merchant may have this part of all permits, and always so many ...
const SHARE_PART: usize = 8;
const SHARE_LEAST: usize = 16;
/// ... and as many as it may have requests in flight, up to this part: where it has more, its own limits say so.
const SHARE_PART_MOST: usize = 2;
/// Longest id that is looked up.
const ID_LEN_MAX: usize = 64;

/// Body of `POST /admin/v1/limits/check`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckLimits {
    /// Whose limits.
    pub merchant_id: String,
    /// How many requests it counts for; 1 when absent. 0 only looks: nothing is consumed and there is no permit.
    #[serde(default = "one")]
    pub cost: u32,
}

const fn one() -> u32 {
    1
}

/// Body of `POST /admin/v1/limits/release`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleasePermit {
    /// `permit` of an answer to `check`.
    pub permit: String,
}

/// What the limits say to a request.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct LimitCheckView {
    /// Whether it may go on. A refusal consumes nothing.
    pub admitted: bool,
    /// To be given back when the request ends; null when refused or when nothing was to be consumed.
    pub permit: Option<String>,
    /// When the permit ends by itself, RFC 3339.
    pub expires_at: Option<String>,
    /// The merchant's tier.
    pub tier: String,
    /// The limit that refuses longest: `second`, `minute`, `hour`, `concurrency`; null when admitted.
    pub limit: Option<String>,
    /// Every limit that refuses.
    pub violated_policies: Vec<String>,
    /// Whole seconds to wait; null when admitted.
    pub retry_after: Option<u64>,
    /// `second`, `minute` and `hour` as they stand now.
    pub windows: Vec<WindowView>,
    /// Requests in flight now.
    pub concurrency: ConcurrencyView,
}

/// What became of a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReleasedView {
    /// Whether it was given back now; false when it was given back before, has ended, or never was.
    pub released: bool,
}

/// The permits that are out.
#[derive(Clone)]
pub(super) struct ExternalPermits {
    core: Core,
    directory: MerchantDirectory,
    lease: Duration,
    places: Arc<Semaphore>,
    shares: Shares,
    out: Arc<Mutex<Out>>,
    expired: IntCounter,
}

#[derive(Default)]
struct Out {
    permits: HashMap<String, Held>,
    /// In the order of granting, which is that of ending. Ids that were given back stay until their time is over; they
    /// are dropped earlier when they are more than half.
    ending: VecDeque<(Monotonic, String)>,
}

struct Held {
    merchant_id: MerchantId,
    _permit: Permit,
    _place: OwnedSemaphorePermit,
    _share: Share,
}

/// How many permits each merchant has, so that a service that forgets to release for one leaves some for the others.
#[derive(Clone)]
struct Shares {
    taken: Arc<Mutex<HashMap<MerchantId, usize>>>,
    permits_max: usize,
}

impl Shares {
    fn of(permits_max: usize) -> Self {
        Self { taken: Arc::default(), permits_max }
    }

    /// How many a merchant may have that may have so many requests in flight.
    fn max_of(&self, concurrent: u32) -> usize {
        let in_flight = usize::try_from(concurrent).unwrap_or(usize::MAX).min(self.permits_max / SHARE_PART_MOST);
        in_flight.max(self.permits_max / SHARE_PART).max(SHARE_LEAST)
    }

    fn take(&self, merchant_id: &MerchantId, concurrent: u32) -> Option<Share> {
        let mut shares = self.taken.lock();
        let taken = shares.get(merchant_id).copied().unwrap_or_default();
        if taken >= self.max_of(concurrent) {
            return None;
        }
        shares.insert(merchant_id.clone(), taken + 1);
        Some(Share { shares: self.clone(), merchant_id: merchant_id.clone() })
    }
}

/// One of a merchant's permits; given back when dropped.
struct Share {
    shares: Shares,
    merchant_id: MerchantId,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut shares = self.shares.taken.lock();
        if let Some(taken) = shares.get_mut(&self.merchant_id) {
            *taken -= 1;
            if *taken == 0 {
                shares.remove(&self.merchant_id);
            }
        }
    }
}

impl Out {
    fn insert(&mut self, id: String, held: Held, ends: Monotonic) {
        self.ending.push_back((ends, id.clone()));
        self.permits.insert(id, held);
        if self.ending.len() > 2 * self.permits.len() + 16 {
            let permits = &self.permits;
            self.ending.retain(|(_, id)| permits.contains_key(id));
        }
    }

    /// Takes out what has ended.
    fn ended(&mut self, now: Monotonic) -> Vec<Held> {
        let mut ended = Vec::new();
        while self.ending.front().is_some_and(|(ends, _)| *ends <= now) {
            let Some((_, id)) = self.ending.pop_front() else { break };
            ended.extend(self.permits.remove(&id));
        }
        ended
    }
}

impl ExternalPermits {
    /// None is out.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when the figure can't be made.
    pub(super) fn new(core: &Core, directory: &MerchantDirectory) -> Result<Self, GatewayError> {
        let limits = &core.config.limits;
        Ok(Self {
            core: core.clone(),
            directory: directory.clone(),
            lease: Duration::from_millis(limits.lease_ms),
            places: Arc::new(Semaphore::new(limits.external_permits_max)),
            shares: Shares::of(limits.external_permits_max),
            out: Arc::new(Mutex::new(Out::default())),
            expired: core.figures.counter(
                "limit_external_permits_expired_total",
                "Permits of other services that ended without being given back",
            )?,
        })
    }

    /// Starts looking for permits that have ended, so that their merchants can leave memory.
    pub(super) fn start(&self) {
        let permits = self.clone();
        self.core.tasks.spawn(async move {
            let stopping = permits.core.stopping.clone();
            while stopping.run_until_cancelled(tokio::time::sleep(SWEEP_INTERVAL)).await.is_some() {
                permits.sweep();
            }
            permits.sweep();
            // Nobody can give them back any more.
            drop(std::mem::take(&mut *permits.out.lock()));
        });
    }

    /// Takes back what has ended. Whoever takes it out counts it, so each counts once.
    fn sweep(&self) {
        let ended = self.out.lock().ended(self.core.clock.monotonic());
        if let Some(first) = ended.first() {
            self.expired.inc_by(ended.len() as u64);
            // One line for all of them: a service that fails may leave thousands.
            tracing::warn!(
                permits = ended.len(),
                merchant_id = %first.merchant_id,
                "permits of other services ended without being given back (one of their merchants is named)"
            );
        }
    }

    pub(super) async fn check(&self, known: &KnownMerchant, cost: u32) -> Result<LimitCheckView, GatewayError> {
        if known.merchant.status == MerchantStatus::Suspended {
            return Err(GatewayError::Forbidden(Forbidden::Suspended));
        }
        let merchant_id = &known.merchant.merchant_id;
        if cost == 0 {
            return self.look(known).await;
        }
        self.sweep();
        let Some((share, place)) = self.room_for(known) else {
            // Who is over its limits is told so: waiting for room would not help it. Of a dear request it is the least wait.
            let looked = self.look(known).await?;
            return if looked.admitted { Err(GatewayError::Overloaded { retry_after_s: 1 }) } else { Ok(looked) };
        };
        let request = AdmitRequest {
            merchant_id: MerchantId::clone(merchant_id),
            figures: known.figures,
            revision: Some(known.revision),
            idempotency: None,
            cost,
        };
        // Read before the lease begins, so that it is over here first and never twice.
        let (now, wall) = (self.core.clock.monotonic(), self.core.clock.now());
        match self.directory.admit(request).await {
            Ok(admitted) => {
                let id = self.new_id();
                let held =
                    Held { merchant_id: merchant_id.clone(), _permit: admitted.permit, _place: place, _share: share };
                self.out.lock().insert(id.clone(), held, now.plus(self.lease));
                let expires_at = Some(wall.plus(self.lease).rfc3339());
                Ok(LimitCheckView { permit: Some(id), expires_at, ..self.view_of(known, &admitted.view) })
            }
            Err(Refused::Limited(refusal)) => Ok(self.refused(known, &refusal)),
            Err(Refused::CostTooLarge { cost_max }) => Err(GatewayError::field(
                "cost",
                format!("must be at most {cost_max}: this merchant's limits never admit more at once"),
            )),
            Err(refused) => Err(admission::error_of(&refused)),
        }
    }

    /// Room for one permit more, the merchant's and that of all.
    fn room_for(&self, known: &KnownMerchant) -> Option<(Share, OwnedSemaphorePermit)> {
        let share = self.shares.take(&known.merchant.merchant_id, known.figures.concurrent)?;
        Some((share, Arc::clone(&self.places).try_acquire_owned().ok()?))
    }

    /// What a request of cost 1 would be told now; nothing is consumed.
    async fn look(&self, known: &KnownMerchant) -> Result<LimitCheckView, GatewayError> {
        let usage = self.directory.usage(&known.merchant.merchant_id, known.figures, Some(known.revision)).await;
        Ok(self.looked(known, &usage.map_err(|refused| admission::error_of(&refused))?.view))
    }

    pub(super) fn release(&self, id: &str) -> ReleasedView {
        self.sweep();
        let held = if id.len() <= ID_LEN_MAX { self.out.lock().permits.remove(id) } else { None };
        ReleasedView { released: held.is_some() }
    }

    fn new_id(&self) -> String {
        let mut bytes = [0; ID_BYTES];
        self.core.random.fill(&mut bytes);
        format!("lp_{}", hex::encode(bytes))
    }

    fn view_of(&self, known: &KnownMerchant, view: &LimitView) -> LimitCheckView {
        LimitCheckView {
            admitted: true,
            permit: None,
            expires_at: None,
            tier: known.merchant.tier.clone(),
            limit: None,
            violated_policies: Vec::new(),
            retry_after: None,
            windows: admission::window_views(view, self.core.clock.now()),
            concurrency: admission::concurrency_view(view),
        }
    }

    fn refused(&self, known: &KnownMerchant, refusal: &Refusal) -> LimitCheckView {
        LimitCheckView {
            admitted: false,
            limit: Some(refusal.limit().as_str().to_owned()),
            violated_policies: names(refusal.violated()),
            retry_after: Some(refusal.retry_after_s()),
            ..self.view_of(known, &refusal.view)
        }
    }

    /// The same of limits that stand like this.
    fn looked(&self, known: &KnownMerchant, view: &LimitView) -> LimitCheckView {
        let mut violated = PolicySet::default();
        let mut longest: Option<(Policy, u64)> = None;
        let mut note = |policy: Policy, wait_ms: u64| {
            violated.insert(policy);
            if longest.is_none_or(|(_, longest_ms)| wait_ms >= longest_ms) {
                longest = Some((policy, wait_ms));
            }
        };
        if view.concurrency.used >= view.concurrency.limit {
            note(Policy::Concurrency, 0);
        }
        for (policy, window) in view.windows().into_iter().filter(|(_, window)| window.remaining() == 0) {
            note(policy, u64::from(window.reset_in_ms));
        }
        let Some((limit, wait_ms)) = longest else { return self.view_of(known, view) };
        LimitCheckView {
            admitted: false,
            limit: Some(limit.as_str().to_owned()),
            violated_policies: names(violated),
            retry_after: Some(wait_ms.div_ceil(1000).max(1)),
            ..self.view_of(known, view)
        }
    }
}

fn names(policies: PolicySet) -> Vec<String> {
    policies.iter().map(|policy| policy.as_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::domain::time::Timestamp;
    use crate::gateway::shedding::testing::Node;

    #[tokio::test(start_paused = true)]
    async fn one_merchant_does_not_take_the_permits_of_all() {
        let clock = Clock::manual(Timestamp::from_unix_s(1_737_715_200));
        let node = Node::start(clock.clone(), |config| {
            config.limits.external_permits_max = 20;
            for tier in config.tiers.values_mut() {
                (tier.burst, tier.concurrent) = (1_000, 1_000);
            }
        })
        .await;
        let merchants = [node.merchant().await, node.merchant().await].map(|made| made.merchant.merchant_id);
        let check = |merchant_id: &str| {
            let command = CheckLimits { merchant_id: merchant_id.to_owned(), cost: 1 };
            let gateway = &node.gateway;
            async move { gateway.check_limits(&command).await }
        };
        let mut permits = Vec::new();
        for _ in 0..SHARE_LEAST {
            permits.extend(check(&merchants[0]).await.unwrap().permit);
        }
        assert!(matches!(check(&merchants[0]).await, Err(GatewayError::Overloaded { .. })));
        assert!(check(&merchants[1]).await.unwrap().permit.is_some());
        assert!(node.gateway.release_permit(&permits[0]).released);
        assert!(check(&merchants[0]).await.unwrap().permit.is_some(), "given back, it can be had again");
        // Those that end by themselves, too.
        clock.advance(Duration::from_millis(node.gateway.config().limits.lease_ms));
        assert!(check(&merchants[0]).await.unwrap().permit.is_some());
        assert_eq!(node.gateway.0.external_permits.shares.taken.lock().len(), 1);
        node.gateway.stop().await.unwrap();
    }

    #[test]
    fn a_share_is_what_may_be_in_flight_up_to_half_and_an_eighth_at_least() {
        for (permits_max, concurrent, share) in
            [(200, 50, 50), (200, 500, 100), (10_000, 50, 1_250), (10_000, 2_000, 2_000), (200, 1, 25), (20, 1_000, 16)]
        {
            assert_eq!(Shares::of(permits_max).max_of(concurrent), share, "of {permits_max} with {concurrent}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_its_share_is_told_of_its_limits_first() {
        let clock = Clock::manual(Timestamp::from_unix_s(1_737_715_200));
        let node = Node::start(clock.clone(), |config| {
            config.limits.external_permits_max = 200;
            for tier in config.tiers.values_mut() {
                (tier.per_second, tier.burst, tier.concurrent) = (60, 60, 50);
            }
        })
        .await;
        let merchant_id = node.merchant().await.merchant.merchant_id;
        let check = |cost: u32| {
            let command = CheckLimits { merchant_id: merchant_id.clone(), cost };
            let gateway = &node.gateway;
            async move { gateway.check_limits(&command).await.unwrap() }
        };
        let mut permits = Vec::new();
        for _ in 0..50 {
            permits.extend(check(1).await.permit);
        }
        assert_eq!(permits.len(), 50, "its limits let in as many");
        for _ in 0..2 {
            let refused = check(1).await;
            assert!(!refused.admitted && refused.permit.is_none(), "{refused:?}");
            assert_eq!((refused.limit.as_deref(), refused.concurrency.used), (Some("concurrency"), 50), "{refused:?}");
            assert_eq!(refused.windows[0].used, 50, "nothing is consumed: {refused:?}");
        }
        // What was looked at only has taken no room either.
        assert!(node.gateway.release_permit(&permits[0]).released);
        assert!(check(1).await.permit.is_some());
        assert_eq!(node.gateway.0.external_permits.places.available_permits(), 150);
        node.gateway.stop().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_without_being_given_back_is_counted_once_and_apart_from_leases() {
        let clock = Clock::manual(Timestamp::from_unix_s(1_737_715_200));
        let node = Node::start(clock.clone(), |_| {}).await;
        let merchant_id = node.merchant().await.merchant.merchant_id;
        let gateway = &node.gateway;
        let check = || async {
            let command = CheckLimits { merchant_id: merchant_id.clone(), cost: 1 };
            gateway.check_limits(&command).await.unwrap().permit.unwrap()
        };
        let has = |expected: &[&str]| {
            let text = gateway.metrics().text().unwrap();
            assert!(expected.iter().all(|line| text.contains(&format!("tollgate_{line}\n"))), "{expected:?} in {text}");
        };
        has(&["limit_external_permits_expired_total 0"]);
        let (kept, given_back, forgotten) = (check().await, check().await, check().await);
        assert!(gateway.release_permit(&given_back).released);
        clock.advance(Duration::from_millis(gateway.config().limits.lease_ms));
        // Seen by whoever comes first, and by nobody again.
        assert!(!gateway.release_permit(&kept).released);
        has(&["limit_external_permits_expired_total 2", "limit_leases_expired_total 0"]);
        assert!(!gateway.release_permit(&forgotten).released);
        tokio::time::sleep(3 * SWEEP_INTERVAL).await;
        has(&["limit_external_permits_expired_total 2", "limit_leases_expired_total 0"]);
        // By the watch, without anybody asking; and what ends with the gateway has not ended by itself.
        let _lost = check().await;
        clock.advance(Duration::from_millis(gateway.config().limits.lease_ms));
        tokio::time::sleep(2 * SWEEP_INTERVAL).await;
        has(&["limit_external_permits_expired_total 3"]);
        let _out = check().await;
        gateway.stop().await.unwrap();
        has(&["limit_external_permits_expired_total 3", "limit_leases_expired_total 0"]);
    }
}
