//! Webhook actors: one for each endpoint that has notifications due. It keeps the timer for the next of them, starts
//! what is due in tasks of their own, and is put away when nothing is left.
//!
//! The store holds the truth: every notification that has to be sent has an entry in the index of what is due, and the
//! entry is replaced or removed in the same commit as the result of the try. Actors hold only what can be read again,
//! so that an actor, or the process, may die at any point: what was due is still due. A crash between the receiver's
//! answer and that commit sends again, with the same `webhook-id` and the same body.

mod directory;
mod endpoint;
mod health;
mod lists;
mod observer;
mod pools;
mod reader;
pub mod rows;
mod send;
mod supervisor;
mod sweep;
mod upgrade;
mod watched;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ractor::{Actor, ActorRef};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::WebhookConfig;
use crate::delivery::{Deliver, DeliveryFigures};
use crate::domain::ids::EndpointId;
use crate::domain::time::{Monotonic, Timestamp};
use crate::random::Random;
use crate::storage::Store;
use crate::storage::unreadable::UnreadableRows;
use crate::storage::vault::Vault;
use crate::telemetry::Traces;

pub use directory::WebhookDirectory;
pub use health::HealthTeller;
pub use lists::EndpointLists;
pub use observer::{DeliveryObserver, Tried, Unobserved};
pub(crate) use pools::SLOW_OVER;
pub use reader::secret_identity;

use health::Healths;
use pools::Pools;
use rows::{Changed, Planned};
use supervisor::{Supervisor, SupervisorMessage};

/// After this, tasks that were told to give up are left to themselves.
const GIVE_UP_WITHIN: Duration = Duration::from_secs(2);
/// How often it is told that there are too many slow requests.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Why the actors could not be started.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// The supervisor did not start.
    #[error("the webhook supervisor could not be started: {0}")]
    Supervisor(String),
    /// What is due could not be read.
    #[error(transparent)]
    Store(#[from] crate::storage::StoreError),
}

/// What the actors work with.
pub struct WebhookParts {
    /// Where everything durable is.
    pub store: Arc<dyn Store>,
    /// The only clock.
    pub clock: Clock,
    /// Decides the jitter.
    pub random: Random,
    /// Decrypts the endpoints' secrets.
    pub vault: Arc<Vault>,
    /// Sends the requests.
    pub deliver: Arc<dyn Deliver>,
    /// Bounds and the schedule.
    pub config: WebhookConfig,
    /// Records the requests.
    pub traces: Traces,
    /// Counts.
    pub observer: Arc<dyn DeliveryObserver>,
    /// Tells merchants how their endpoints do.
    pub teller: Arc<dyn HealthTeller>,
    /// Notified after each commit of a new job.
    pub job_added: Arc<Notify>,
}

/// Shared by the actors and their tasks.
struct Engine {
    parts: WebhookParts,
    healths: Healths,
    directory: WebhookDirectory,
    pools: Pools,
    slow_pool_full: SlowPoolFull,
    sends: TaskTracker,
    stopping: CancellationToken,
    giving_up: CancellationToken,
    started_at: Timestamp,
    started: Monotonic,
    unreadable: UnreadableRows,
    reminded_total: AtomicU64,
    /// Entries of the index of what is due that actors hold.
    held: AtomicUsize,
    asking: AtomicUsize,
    recording: AtomicUsize,
}

/// Requests that last and had to keep a place that is meant for quick ones.
#[derive(Default)]
struct SlowPoolFull {
    last_told: Mutex<Option<Timestamp>>,
    total: AtomicU64,
}

impl SlowPoolFull {
    /// Counts one, and tells of it now and then.
    fn note(&self, now: Timestamp) {
        let total = self.total.fetch_add(1, Ordering::Relaxed) + 1;
        let mut last_told = self.last_told.lock();
        if last_told.is_none_or(|last| now.since(last) >= TELL_EVERY) {
            *last_told = Some(now);
            tracing::warn!(total, "slow webhooks take places of quick ones: webhook.slow_in_flight_max is too small");
        }
    }
}

/// Counted as long as it is there.
struct CountedIn<'a>(&'a AtomicUsize);

impl<'a> CountedIn<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for CountedIn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is under way over all endpoints. A crash repeats no more than this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Requests without an answer.
    pub asking: usize,
    /// Answers that are not committed.
    pub recording: usize,
}

impl Engine {
    /// Counts what was committed, and tells the endpoints that have something new, and who carries jobs out.
    fn announce(&self, planned: &Planned) {
        if planned.has_job() {
            self.parts.job_added.notify_one();
        }
        for (endpoint_id, changed) in planned.changes() {
            self.parts.observer.changed(changed);
            if changed.lane.is_some() {
                self.directory.poke(endpoint_id, changed.lanes());
            }
        }
    }

    /// The time by which things are due: the time of day, but never less than our start and the time since, so that a
    /// clock that is set back holds up nothing.
    fn due_now(&self) -> Timestamp {
        let clock = &self.parts.clock;
        clock.now().max(self.started_at.plus(clock.monotonic().since(self.started)))
    }
}

/// The running actors.
#[derive(Clone)]
pub struct WebhookActors {
    engine: Arc<Engine>,
    supervisor: ActorRef<SupervisorMessage>,
}

impl WebhookActors {
    /// Starts them, with one actor for each endpoint that has something due.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(parts: WebhookParts, lists: Arc<EndpointLists>) -> Result<Self, StartError> {
        let config = &parts.config;
        let healths = Healths::new(&parts, &lists);
        let slow_after = Duration::from_millis(config.slow_after_ms);
        let directory = WebhookDirectory::new(parts.clock.clone(), slow_after);
        let pools = Pools::new(config.in_flight_max, config.slow_in_flight_max);
        let (started_at, started) = (parts.clock.now(), parts.clock.monotonic());
        let engine = Arc::new(Engine {
            parts,
            healths,
            directory,
            pools,
            slow_pool_full: SlowPoolFull::default(),
            sends: TaskTracker::new(),
            stopping: CancellationToken::new(),
            giving_up: CancellationToken::new(),
            started_at,
            started,
            unreadable: UnreadableRows::default(),
            reminded_total: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            asking: AtomicUsize::new(0),
            recording: AtomicUsize::new(0),
        });
        let (supervisor, _) = Actor::spawn(None, Supervisor, Arc::clone(&engine))
            .await
            .map_err(|error| StartError::Supervisor(error.to_string()))?;
        upgrade::convert(engine.parts.store.as_ref(), &engine.unreadable).await?;
        engine.directory.open(supervisor.clone());
        supervisor::poke_all_due(&engine).await?;
        Ok(Self { engine, supervisor })
    }

    /// Who to tell that an endpoint has something due.
    pub fn directory(&self) -> &WebhookDirectory {
        &self.engine.directory
    }

    /// Goes by these figures of retries, breakers and recovery from now on. The places of an endpoint and the length of its
    /// breaker's window must be what they were, and all else of it is not looked at.
    pub fn configure(&self, config: &WebhookConfig) {
        self.engine.healths.configure(config);
    }

    /// Counts what was committed, and tells the endpoints that have something new. Never waits.
    pub fn announce(&self, planned: &Planned) {
        self.engine.announce(planned);
    }

    /// Counts what was committed of notifications that nobody has to be told of.
    pub fn count(&self, changed: &Changed) {
        self.engine.parts.observer.changed(changed);
    }

    /// Reads again next time how an endpoint does. Called after every commit of others that changes or removes its health.
    pub fn forget_health(&self, endpoint_id: &EndpointId) {
        self.engine.healths.forget(endpoint_id);
    }

    /// The time by which things are due; see [`Engine::due_now`].
    pub(crate) fn due_now(&self) -> Timestamp {
        self.engine.due_now()
    }

    /// What is under way.
    pub fn under_way(&self) -> UnderWay {
        UnderWay {
            asking: self.engine.asking.load(Ordering::Relaxed),
            recording: self.engine.recording.load(Ordering::Relaxed),
        }
    }

    /// Entries of the index of what is due that are in memory.
    pub fn held(&self) -> usize {
        self.engine.held.load(Ordering::Relaxed)
    }

    /// Requests that have a place among the quick ones, and among the slow ones.
    pub fn in_pools(&self) -> (usize, usize) {
        self.engine.pools.taken()
    }

    /// What the sender has done since the start, and what it holds.
    pub fn delivery_figures(&self) -> DeliveryFigures {
        self.engine.parts.deliver.figures()
    }

    /// Rows that can't be read and were passed over, since the start.
    pub fn unreadable(&self) -> usize {
        self.engine.unreadable.count()
    }

    /// Times that a request lasted and had to keep a place that is meant for quick ones, since the start.
    pub fn slow_pool_full_total(&self) -> u64 {
        self.engine.slow_pool_full.total.load(Ordering::Relaxed)
    }

    /// Starts no more requests, waits up to `drain` for those under way and their results, and ends the actors. What
    /// is cut off stays due and is sent again after the next start.
    pub async fn stop(&self, drain: Duration) {
        self.engine.directory.close();
        self.engine.stopping.cancel();
        self.engine.sends.close();
        if tokio::time::timeout(drain, self.engine.sends.wait()).await.is_err() {
            tracing::warn!(in_flight = self.engine.sends.len(), "webhooks under way are cut off; they are sent again");
            self.engine.giving_up.cancel();
            let _ = tokio::time::timeout(GIVE_UP_WITHIN, self.engine.sends.wait()).await;
        }
        let _ = self.supervisor.stop_and_wait(None, Some(GIVE_UP_WITHIN)).await;
    }

    /// Actors in memory.
    pub fn active(&self) -> usize {
        self.engine.directory.len()
    }

    /// Endpoints that had something due and were found without anybody seeing to it, since the start. Each is a fault of
    /// this program that was made good.
    pub fn reminded_total(&self) -> u64 {
        self.engine.reminded_total.load(Ordering::Relaxed)
    }

    /// Whether an endpoint's actor is in memory.
    pub fn is_active(&self, endpoint_id: &EndpointId) -> bool {
        self.engine.directory.contains(endpoint_id)
    }
}
