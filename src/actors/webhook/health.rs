//! What is learned about endpoints, and what follows from it for them: whether and how fast they are sent to, and when
//! they are tried again.
//!
//! What must outlive the process is in a row of its own, written in the commit of the try that changed it. Tries that change
//! nothing of it, as those of an endpoint that is well, write and read nothing.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use xxhash_rust::xxh3::xxh3_64;

use crate::actors::webhook::observer::DeliveryObserver;
use crate::actors::webhook::rows::{self, Planned};
use crate::actors::webhook::watched::{Known, Watched};
use crate::actors::webhook::{EndpointLists, WebhookParts};
use crate::clock::Clock;
use crate::config::WebhookConfig;
use crate::domain::ids::{EndpointId, JobId, MerchantId, sortable_id};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{
    Endpoint, EndpointHealth, EndpointStatus, EndpointTry, EndpointWatch, Failure, HealthChange, HealthSettings,
    JobKind, Judged, Notification, Schedule, ScheduleSettings, TryOutcome, TryResult, WebhookJob,
};
use crate::random::Random;
use crate::storage::{ABSENT, Batch, Store, StoreError, Versioned, keys, record};

/// Tells a merchant how an endpoint does.
pub trait HealthTeller: Send + Sync + 'static {
    /// Adds to `batch` what the merchant has to know, for its other endpoints too. `last` is how the last try went. What is
    /// returned is announced after the commit.
    ///
    /// # Errors
    /// [`StoreError`] when the endpoints can't be read; then `batch` must not be committed.
    fn tell(
        &self,
        batch: &mut Batch,
        endpoint: &Endpoint,
        change: &HealthChange,
        last: &TryResult,
        now: Timestamp,
    ) -> Result<Planned, StoreError>;
}

/// Whether an endpoint may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// It may.
    Open,
    /// Not before then. No try is used up.
    Closed { until: Timestamp },
}

/// One request that was answered, or was not, as it is about to be committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered<'a> {
    /// The endpoint as it was when asked.
    pub(super) sent_to: &'a Endpoint,
    pub(super) outcome: TryOutcome,
    /// When it may be asked again, among others.
    pub(super) result: &'a TryResult,
    /// The notification from now on.
    pub(super) notification: &'a Notification,
    /// Why the endpoint has to be disabled, if it has to.
    pub(super) disable: Option<&'static str>,
}

/// What has to be done once what was learned is committed.
#[derive(Debug)]
#[must_use = "it is for after the commit"]
pub(super) struct After {
    /// What the try says; `None` when it says nothing, because the endpoint has another address by now.
    learned: Option<Learned>,
    /// Who has to be told.
    pub(super) planned: Planned,
}

#[derive(Debug)]
struct Learned {
    merchant_id: MerchantId,
    endpoint_id: EndpointId,
    address: u64,
    a_try: EndpointTry,
    /// What was written with it, as the row is now.
    written: Option<(Judged, u64)>,
    status_code: Option<u16>,
}

/// An endpoint's rows as they were read.
struct Stored {
    endpoint: Endpoint,
    revision: u64,
    health: Option<Versioned>,
}

impl Stored {
    fn digest(&self) -> u64 {
        self.health.as_ref().map_or(0, |health| xxh3_64(&health.value))
    }
}

/// What is known of all endpoints.
pub(super) struct Healths {
    store: Arc<dyn Store>,
    clock: Clock,
    random: Random,
    lists: Arc<EndpointLists>,
    teller: Arc<dyn HealthTeller>,
    observer: Arc<dyn DeliveryObserver>,
    tuning: ArcSwap<Tuning>,
    watched: Watched,
}

/// What the configuration says of waits and breakers; it may change while the gateway runs.
pub(super) struct Tuning {
    /// When notifications are tried again.
    pub(super) schedule: ScheduleSettings,
    /// When endpoints are left alone.
    settings: HealthSettings,
}

impl Tuning {
    fn of(config: &WebhookConfig) -> Self {
        Self {
            schedule: ScheduleSettings {
                initial_backoff_s: config.initial_backoff_s,
                max_backoff_s: config.max_backoff_s,
                own_waits_s: config.schedule_s.clone(),
                jitter_percent: config.jitter_percent,
            },
            settings: health_settings(config),
        }
    }
}

fn health_settings(config: &WebhookConfig) -> HealthSettings {
    HealthSettings {
        breaker_min: config.breaker_min,
        breaker_failure_percent: config.breaker_failure_percent,
        breaker_window: Duration::from_secs(config.breaker_window_s),
        breaker_open: Duration::from_secs(config.breaker_open_s),
        breaker_open_max: Duration::from_secs(config.breaker_open_max_s),
        failing_event_after: Duration::from_secs(config.failing_event_after_s),
        disable_after: (config.disable_after_s > 0).then(|| Duration::from_secs(config.disable_after_s)),
        disable_min_tries: u64::from(config.disable_min_tries),
        recovery_rate_per_s: config.recovery_rate_per_s,
        in_flight_max: config.endpoint_in_flight_max.max(1),
    }
}

impl Healths {
    pub(super) fn new(parts: &WebhookParts, lists: &Arc<EndpointLists>) -> Self {
        Self {
            store: Arc::clone(&parts.store),
            clock: parts.clock.clone(),
            random: parts.random.clone(),
            lists: Arc::clone(lists),
            teller: Arc::clone(&parts.teller),
            observer: Arc::clone(&parts.observer),
            tuning: ArcSwap::from_pointee(Tuning::of(&parts.config)),
            watched: Watched::default(),
        }
    }

    /// Goes by these figures from now on; what was scheduled before stays as it is. The places of an endpoint and the length of
    /// its breaker's window must be what they were.
    pub(super) fn configure(&self, config: &WebhookConfig) {
        self.tuning.store(Arc::new(Tuning::of(config)));
    }

    /// What it goes by.
    pub(super) fn tuning(&self) -> arc_swap::Guard<Arc<Tuning>> {
        self.tuning.load()
    }

    /// Whether an endpoint may be sent to. `now` is the present.
    ///
    /// # Errors
    /// [`StoreError`] when what is known of it can't be read.
    pub(super) fn gate(&self, endpoint: &Endpoint, now: Timestamp) -> Result<Gate, StoreError> {
        if let Some(known) = self.watched.part(&endpoint.id).get(&endpoint.id) {
            known.watch.settle(now, &self.tuning().settings);
        }
        let known = self.known(endpoint, now)?;
        let until = known.and_then(|known| known.watch.closed_until(now, &self.tuning().settings));
        Ok(until.map_or(Gate::Open, |until| Gate::Closed { until }))
    }

    /// Requests that may be under way to an endpoint. One, when what is known of it can't be read.
    pub(super) fn pace(&self, endpoint: &Endpoint, now: Timestamp) -> usize {
        match self.known(endpoint, now) {
            Ok(Some(known)) => known.watch.places(now, &self.tuning().settings),
            Ok(None) => self.tuning().settings.in_flight_max,
            Err(_) => 1,
        }
    }

    /// Whether an endpoint has taken nothing since it failed last, or that can't be read.
    pub(super) fn is_failing(&self, endpoint: &Endpoint, now: Timestamp) -> bool {
        match self.known(endpoint, now) {
            Ok(known) => known.is_some_and(|known| known.watch.health().failing_since.is_some()),
            Err(_) => true,
        }
    }

    /// When an endpoint's notifications are tried again.
    pub(super) fn schedule(&self, endpoint: &Endpoint, now: Timestamp) -> Schedule {
        let schedule = Schedule::from(endpoint.overrides.schedule(&self.tuning().schedule));
        match self.known(endpoint, now) {
            Ok(Some(known)) => schedule.at_pace(known.watch.factor_permille(now)),
            Ok(None) | Err(_) => schedule,
        }
    }

    /// Adds to `batch` what a request says about its endpoint. It is asked again for each commit that is tried, so nothing
    /// is remembered before [`Healths::committed`].
    ///
    /// # Errors
    /// [`StoreError`] when what has to be changed can't be read or written.
    pub(super) fn after(
        &self,
        batch: &mut Batch,
        answered: &Answered<'_>,
        now: Timestamp,
    ) -> Result<After, StoreError> {
        let sent_to = answered.sent_to;
        let nothing = || After { learned: None, planned: Planned::default() };
        let Some(known) = self.known(sent_to, now)? else { return Ok(nothing()) };
        let a_try = endpoint_try(answered, now);
        // As good as drawn: the end of an id is.
        let draw = xxh3_64(answered.notification.id.as_str().as_bytes());
        let mut judged = known.watch.judge(&a_try, answered.disable, &self.tuning().settings, draw);
        let proves = a_try.outcome == TryOutcome::Success && sent_to.proven_at.is_none();
        let mut learned = Learned {
            merchant_id: sent_to.merchant_id.clone(),
            endpoint_id: sent_to.id.clone(),
            address: known.address,
            a_try,
            written: None,
            status_code: answered.result.status_code,
        };
        if !judged.is_to_be_written && !proves {
            return Ok(After { learned: Some(learned), planned: Planned::default() });
        }
        let Some(stored) = self.stored(sent_to)? else { return Ok(nothing()) };
        if stored.digest() != known.stored {
            // Another try, or somebody else, has changed it.
            let watch = known.watch.with_stored(health_of(stored.health.as_ref(), sent_to));
            judged = watch.judge(&a_try, answered.disable, &self.tuning().settings, draw);
        }
        let planned = self.write(batch, stored, &mut judged, (answered, proves), now)?;
        if judged.is_to_be_written {
            let row = record::encode(&judged.health)?;
            learned.written = Some((judged, xxh3_64(&row)));
            batch.put(keys::endpoint_health(&sent_to.merchant_id, &sent_to.id), row);
        }
        Ok(After { learned: Some(learned), planned })
    }

    /// What is stored of the endpoint. `None` when it is gone, or has another address by now, about which nothing was
    /// learned.
    fn stored(&self, sent_to: &Endpoint) -> Result<Option<Stored>, StoreError> {
        let Some(row) = self.store.get(&keys::endpoint(&sent_to.merchant_id, &sent_to.id))? else { return Ok(None) };
        let endpoint: Endpoint = record::decode(&row.value)?;
        if endpoint.url != sent_to.url {
            return Ok(None);
        }
        let health = self.store.get(&keys::endpoint_health(&sent_to.merchant_id, &sent_to.id))?;
        Ok(Some(Stored { endpoint, revision: row.revision, health }))
    }

    /// Adds to `batch` what follows for the endpoint's own row and for its merchant, and that nothing of it may have changed
    /// since it was read.
    fn write(
        &self,
        batch: &mut Batch,
        stored: Stored,
        judged: &mut Judged,
        (answered, proves): (&Answered<'_>, bool),
        now: Timestamp,
    ) -> Result<Planned, StoreError> {
        let Stored { mut endpoint, revision, health } = stored;
        let key = keys::endpoint(&endpoint.merchant_id, &endpoint.id);
        let health_key = keys::endpoint_health(&endpoint.merchant_id, &endpoint.id);
        if judged.is_to_be_written {
            batch.expect(health_key, health.map_or(ABSENT, |health| health.revision));
        }
        let mut planned = Planned::default();
        let mut is_changed = proves && endpoint.proven_at.is_none();
        if is_changed {
            endpoint.proven_at = Some(now);
        }
        if endpoint.status == EndpointStatus::Disabled {
            judged.changes.retain(|change| !matches!(change, HealthChange::Disabled { .. }));
        }
        for change in &judged.changes {
            match change {
                HealthChange::Opened { .. } | HealthChange::Closed => {}
                HealthChange::Failing(_) => {
                    planned = self.teller.tell(batch, &endpoint, change, answered.result, now)?;
                }
                HealthChange::Disabled { reason, .. } => {
                    endpoint.disable(reason, now);
                    is_changed = true;
                    planned = self.teller.tell(batch, &endpoint, change, answered.result, now)?;
                    self.park(batch, &mut planned, &endpoint, now)?;
                }
            }
        }
        batch.expect(key.clone(), revision);
        if is_changed {
            batch.put(key, record::encode(&endpoint)?);
        }
        Ok(planned)
    }

    /// What [`Healths::after`] has added is committed. Returns whom to announce.
    pub(super) fn committed(&self, after: After) -> Planned {
        let After { learned, planned } = after;
        let Some(learned) = learned else { return planned };
        self.remember(&learned);
        let changes = learned.written.as_ref().map_or(&[][..], |(judged, _)| &judged.changes);
        for change in changes {
            self.tell_operator(&learned, change);
        }
        planned
    }

    fn remember(&self, learned: &Learned) {
        let mut watched = self.watched.part(&learned.endpoint_id);
        // What was forgotten meanwhile is read again.
        let Some(known) = watched.get(&learned.endpoint_id).filter(|known| known.address == learned.address) else {
            return;
        };
        let before = known.watch.health().changes;
        let written = learned.written.as_ref();
        known.watch.learn(&learned.a_try, written.map(|(judged, _)| judged), &self.tuning().settings);
        if let Some((_, stored)) = written
            && known.watch.health().changes > before
        {
            known.stored = *stored;
        }
    }

    /// Forgets what is known of an endpoint but not stored. Called after every commit of others that changes or removes its
    /// health.
    pub(super) fn forget(&self, endpoint_id: &EndpointId) {
        self.watched.part(endpoint_id).remove(endpoint_id);
    }

    fn tell_operator(&self, learned: &Learned, change: &HealthChange) {
        let Learned { endpoint_id, status_code, .. } = learned;
        match change {
            HealthChange::Opened { until } => {
                self.observer.breaker(true);
                let open_s = until.since(self.clock.now()).as_secs();
                tracing::warn!(%endpoint_id, status_code, open_s, "a webhook endpoint fails and is left alone for a while");
            }
            HealthChange::Closed => {
                self.observer.breaker(false);
                tracing::info!(%endpoint_id, "a webhook endpoint is no longer left alone");
            }
            HealthChange::Failing(trouble) => {
                let tries = trouble.tries;
                tracing::warn!(%endpoint_id, status_code, tries, "a webhook endpoint has been failing for long");
            }
            HealthChange::Disabled { reason, .. } => {
                self.lists.forget(&learned.merchant_id);
                tracing::warn!(%endpoint_id, status_code, reason, "a webhook endpoint was disabled");
            }
        }
    }

    /// Has what waits for an endpoint that was disabled made into dead letters.
    fn park(
        &self,
        batch: &mut Batch,
        planned: &mut Planned,
        endpoint: &Endpoint,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let id = JobId::new(sortable_id("wj_", now, self.random.draw_u64()));
        let mut job = WebhookJob::new(id, endpoint.merchant_id.clone(), JobKind::Park, now);
        job.endpoint_id = Some(endpoint.id.clone());
        rows::add_job(batch, planned, &job)
    }

    /// What is known of an endpoint. `None` when it is another address by now.
    fn known(&self, endpoint: &Endpoint, now: Timestamp) -> Result<Option<Known>, StoreError> {
        let address = address_of(endpoint);
        if let Some(known) = self.watched.part(&endpoint.id).get(&endpoint.id) {
            if known.address == address {
                return Ok(Some(*known));
            }
            if known.endpoint_at > endpoint.updated_at {
                return Ok(None);
            }
        }
        let key = keys::endpoint_health(&endpoint.merchant_id, &endpoint.id);
        let stored = self.store.get(&key)?;
        let known = Known {
            address,
            endpoint_at: endpoint.updated_at,
            watch: EndpointWatch::new(health_of(stored.as_ref(), endpoint), now, &self.tuning().settings),
            stored: stored.map_or(0, |stored| xxh3_64(&stored.value)),
        };
        let mut watched = self.watched.part(&endpoint.id);
        match watched.get(&endpoint.id) {
            // Somebody was quicker, and may have learned something already.
            Some(quicker) if quicker.address == address => Ok(Some(*quicker)),
            Some(newer) if newer.endpoint_at > endpoint.updated_at => Ok(None),
            _ => {
                watched.insert(endpoint.id.clone(), known);
                Ok(Some(known))
            }
        }
    }
}

fn address_of(endpoint: &Endpoint) -> u64 {
    xxh3_64(endpoint.url.as_bytes())
}

/// What is stored of an endpoint. At another address, and when its row can't be read, it begins anew.
fn health_of(stored: Option<&Versioned>, endpoint: &Endpoint) -> EndpointHealth {
    let address = address_of(endpoint);
    let read = stored.map(|stored| record::decode::<EndpointHealth>(&stored.value)).transpose();
    let health = read.unwrap_or_else(|error| {
        tracing::error!(endpoint_id = %endpoint.id, %error, "what was known of a webhook endpoint is lost");
        None
    });
    let mut health = health.unwrap_or_default();
    if health.address.is_some_and(|known| known != address) {
        health = health.begun_anew();
    }
    health.address = Some(address);
    health
}

/// What a request says about its endpoint.
fn endpoint_try(answered: &Answered<'_>, now: Timestamp) -> EndpointTry {
    let result = answered.result;
    // Other answers say only when their own notification is wanted again.
    let is_too_much = matches!(result.status_code, Some(429 | 503));
    EndpointTry {
        outcome: answered.outcome,
        began_at: now.minus(Duration::from_millis(result.duration_ms)),
        ended_at: now,
        is_exhausted: answered.notification.failure == Some(Failure::Exhausted),
        leave_alone_for: result.retry_after.filter(|_| is_too_much),
    }
}
