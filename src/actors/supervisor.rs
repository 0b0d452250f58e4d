//! The root of a gateway's actors: starts them, and starts them again when one fails, within a budget. A value like any
//! other; two gateways in one process have two.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::time::Monotonic;

/// How often actors may be started again before something is taken to be wrong with the program itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartBudget {
    /// Restarts allowed within the time below, over all actors.
    pub restarts_max: usize,
    /// The time over which they are counted.
    pub within: Duration,
}

impl Default for RestartBudget {
    fn default() -> Self {
        Self { restarts_max: 60, within: Duration::from_secs(60) }
    }
}

/// An actor could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an actor could not be started: {0}")]
pub struct StartError(String);

impl From<SpawnErr> for StartError {
    fn from(error: SpawnErr) -> Self {
        Self(error.to_string())
    }
}

/// An actor that has been spawned but that nobody knows yet.
pub(super) struct Spawned {
    /// The actor.
    pub cell: ActorCell,
    /// Makes it known to those who send to it; called once the root watches over it.
    pub publish: Box<dyn FnOnce() + Send>,
}

type Spawning = Pin<Box<dyn Future<Output = Result<Spawned, StartError>> + Send>>;

/// Spawns an actor under the root that it is given, for the first time or again.
pub(super) type Respawn = Arc<dyn Fn(ActorCell) -> Spawning + Send + Sync>;

#[derive(Clone)]
struct Child {
    name: Arc<str>,
    respawn: Respawn,
}

#[derive(Default)]
struct Family {
    children: HashMap<ActorId, Child>,
    /// Actors that failed before they were written down; bounded by the starts under way.
    failed_early: HashSet<ActorId>,
}

struct Shared {
    family: Mutex<Family>,
    clock: Clock,
    budget: RestartBudget,
    restarts_total: AtomicU64,
    exhausted: CancellationToken,
}

/// The root. Cheap to clone; clones are the same root.
#[derive(Clone)]
pub struct Supervisor {
    root: ActorRef<RootMessage>,
    shared: Arc<Shared>,
}

impl Supervisor {
    /// Starts a root.
    ///
    /// # Errors
    /// When the runtime does not take it.
    pub async fn start(budget: RestartBudget, clock: Clock) -> Result<Self, StartError> {
        let shared = Arc::new(Shared {
            family: Mutex::new(Family::default()),
            clock,
            budget,
            restarts_total: AtomicU64::new(0),
            exhausted: CancellationToken::new(),
        });
        let (root, _task) = Actor::spawn(None, Root, Arc::clone(&shared)).await?;
        Ok(Self { root, shared })
    }

    /// Starts an actor that will be started again by the same closure when it fails.
    pub(super) async fn start_child(&self, name: Arc<str>, respawn: Respawn) -> Result<(), StartError> {
        let spawned = respawn(self.root.get_cell()).await?;
        let child = Child { name, respawn };
        if let Some(failed) = self.shared.adopt(spawned, child) {
            // It failed between being spawned and being written down; the root has passed over that already.
            let _ = self.root.cast(RootMessage::Restart(failed));
        }
        Ok(())
    }

    /// Actors started again since the root was started.
    pub fn restarts_total(&self) -> u64 {
        self.shared.restarts_total.load(Ordering::Relaxed)
    }

    /// Actors that are watched over now.
    pub fn children(&self) -> usize {
        self.shared.family.lock().children.len()
    }

    /// Ready once actors failed more often than the budget allows; what failed last was not started again. The process
    /// should be started anew.
    pub async fn exhausted(&self) {
        self.shared.exhausted.cancelled().await;
    }

    /// Ends the root and whatever still runs under it, waiting at most `timeout`. Stop what holds state before this.
    pub async fn stop(&self, timeout: Duration) {
        self.shared.family.lock().children.clear();
        let _ = self.root.stop_and_wait(None, Some(timeout)).await;
    }
}

impl Shared {
    /// Watches over a spawned actor and makes it known; gives it back when it has failed already.
    fn adopt(&self, spawned: Spawned, child: Child) -> Option<Failed> {
        let Spawned { cell, publish } = spawned;
        let id = cell.get_id();
        let failed_early = {
            let mut family = self.family.lock();
            let failed_early = family.failed_early.remove(&id);
            if !failed_early {
                family.children.insert(id, child.clone());
            }
            failed_early
        };
        if failed_early {
            return Some(Failed(child));
        }
        publish();
        None
    }
}

/// What the root is told by its own handle.
enum RootMessage {
    /// This one has failed and is to be started again.
    Restart(Failed),
}

struct Failed(Child);

struct Root;

struct RootState {
    shared: Arc<Shared>,
    /// When actors were started again, oldest first; at most as many as the budget allows.
    restarted_at: VecDeque<Monotonic>,
}

impl Actor for Root {
    type Msg = RootMessage;
    type State = RootState;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        _myself: ActorRef<RootMessage>,
        shared: Arc<Shared>,
    ) -> Result<RootState, ActorProcessingErr> {
        Ok(RootState { shared, restarted_at: VecDeque::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<RootMessage>,
        message: RootMessage,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        let RootMessage::Restart(Failed(child)) = message;
        state.restart(child, &myself).await;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RootMessage>,
        event: SupervisionEvent,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => {
                let known = {
                    let mut family = state.shared.family.lock();
                    let known = family.children.remove(&cell.get_id());
                    if known.is_none() {
                        family.failed_early.insert(cell.get_id());
                    }
                    known
                };
                if let Some(child) = known {
                    tracing::error!(actor = %child.name, %error, "an actor failed and is started again");
                    state.restart(child, &myself).await;
                }
            }
            SupervisionEvent::ActorTerminated(cell, ..) => {
                state.shared.family.lock().children.remove(&cell.get_id());
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl RootState {
    /// Starts a child again until it stands or the budget is spent.
    async fn restart(&mut self, child: Child, myself: &ActorRef<RootMessage>) {
        loop {
            if !self.may_restart() {
                tracing::error!(actor = %child.name, "actors fail too often; this one is not started again");
                self.shared.exhausted.cancel();
                return;
            }
            self.shared.restarts_total.fetch_add(1, Ordering::Relaxed);
            match (child.respawn)(myself.get_cell()).await {
                Ok(spawned) => {
                    if self.shared.adopt(spawned, child.clone()).is_none() {
                        return;
                    }
                }
                Err(error) => tracing::error!(actor = %child.name, %error, "an actor could not be started again"),
            }
        }
    }

    fn may_restart(&mut self) -> bool {
        let now = self.shared.clock.monotonic();
        let budget = self.shared.budget;
        while self.restarted_at.front().is_some_and(|restarted| now.since(*restarted) >= budget.within) {
            self.restarted_at.pop_front();
        }
        if self.restarted_at.len() >= budget.restarts_max {
            return false;
        }
        self.restarted_at.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::domain::time::Timestamp;

    struct Fragile;

    impl Actor for Fragile {
        type Msg = bool;
        type State = Arc<AtomicUsize>;
        type Arguments = Arc<AtomicUsize>;

        async fn pre_start(
            &self,
            _myself: ActorRef<bool>,
            starts: Arc<AtomicUsize>,
        ) -> Result<Arc<AtomicUsize>, ActorProcessingErr> {
            starts.fetch_add(1, Ordering::SeqCst);
            Ok(starts)
        }

        async fn handle(
            &self,
            _myself: ActorRef<bool>,
            fail: bool,
            _starts: &mut Arc<AtomicUsize>,
        ) -> Result<(), ActorProcessingErr> {
            assert!(!fail, "told to fail");
            Ok(())
        }
    }

    struct Bench {
        supervisor: Supervisor,
        actor: Arc<Mutex<Option<ActorRef<bool>>>>,
        starts: Arc<AtomicUsize>,
    }

    impl Bench {
        async fn start(budget: RestartBudget) -> Self {
            let supervisor = Supervisor::start(budget, Clock::manual(Timestamp::from_unix_s(0))).await.unwrap();
            let actor = Arc::new(Mutex::new(None));
            let starts = Arc::new(AtomicUsize::new(0));
            let (place, counter) = (Arc::clone(&actor), Arc::clone(&starts));
            let respawn: Respawn = Arc::new(move |root| {
                let (place, counter) = (Arc::clone(&place), Arc::clone(&counter));
                Box::pin(async move {
                    let (actor, _task) = Actor::spawn_linked(None, Fragile, counter, root).await?;
                    let cell = actor.get_cell();
                    Ok(Spawned { cell, publish: Box::new(move || *place.lock() = Some(actor)) })
                })
            });
            supervisor.start_child(Arc::from("fragile"), respawn).await.unwrap();
            Self { supervisor, actor, starts }
        }

        /// Makes the actor fail and waits until it is over.
        async fn fail(&self) {
            let actor = self.actor.lock().clone().unwrap();
            actor.cast(true).unwrap();
            actor.get_cell().wait(None).await.unwrap();
        }

        async fn until(&self, starts: usize) {
            while self.starts.load(Ordering::SeqCst) < starts {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_actor_that_panics_in_a_handler_is_started_again() {
        let bench = Bench::start(RestartBudget::default()).await;
        for failures in 1..=3 {
            bench.fail().await;
            bench.until(failures + 1).await;
        }
        assert_eq!(bench.supervisor.restarts_total(), 3);
        assert_eq!(bench.supervisor.children(), 1);
        let actor = bench.actor.lock().clone().unwrap();
        assert!(actor.cast(false).is_ok(), "the new one takes messages");
        bench.supervisor.stop(Duration::from_secs(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_budget_is_reported_and_nothing_is_started_again() {
        let bench = Bench::start(RestartBudget { restarts_max: 2, within: Duration::from_secs(60) }).await;
        for failures in 1..=2 {
            bench.fail().await;
            bench.until(failures + 1).await;
        }
        bench.fail().await;
        bench.supervisor.exhausted().await;
        assert_eq!(bench.starts.load(Ordering::SeqCst), 3);
        assert_eq!(bench.supervisor.children(), 0);
    }
}
