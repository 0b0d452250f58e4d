//! What every resource of the gateway works with.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{Config, Mode};
use crate::gateway::clock_check::ClockGuard;
use crate::gateway::countries::Countries;
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::Figures;
use crate::gateway::told::ToldAnswers;
use crate::random::Random;
use crate::storage::Store;
use crate::storage::vault::Vault;
use crate::telemetry::Traces;
use crate::telemetry::trace;

/// Shared by all resources of one gateway; two gateways in one process share nothing.
#[derive(Clone)]
pub(crate) struct Core {
    /// Where everything durable is.
    pub(crate) store: Arc<dyn Store>,
    /// The only clock.
    pub(crate) clock: Clock,
    /// Says when the clock is not to be believed.
    pub(crate) clock_guard: ClockGuard,
    /// The only source of random numbers.
    pub(crate) random: Random,
    /// The configuration that the gateway was opened with.
    pub(crate) config: Arc<Config>,
    /// The configuration that was put in force since then; see [`Core::settings`].
    pub(crate) reloaded: Reloadable,
    /// Knows the countries of payers' addresses.
    pub(crate) countries: Arc<Countries>,
    /// Encrypts secrets at rest.
    pub(crate) vault: Arc<Vault>,
    /// Makes figures for the operator.
    pub(crate) figures: Figures,
    /// Answers that were given and are not stored yet.
    pub(crate) told: ToldAnswers,
    /// Who holds it writes the next entry of the audit: its entries are a chain, so that they can only follow each other.
    pub(crate) audit_turn: Arc<Mutex<()>>,
    /// Work that goes on when its client hangs up; stopping waits for it.
    pub(crate) tasks: TaskTracker,
    /// Records what requests lead to.
    pub(crate) traces: Traces,
    /// Fired when the gateway stops: timers and loops end, work under way is finished.
    pub(crate) stopping: CancellationToken,
}

/// A configuration that was put in force while the gateway runs; none before the first. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Reloadable(Arc<ArcSwapOption<Config>>);

impl Reloadable {
    /// Goes by `config` from now on. Only what may change while the gateway runs may differ from what was before.
    pub(crate) fn put(&self, config: Config) {
        self.0.store(Some(Arc::new(config)));
    }
}

impl Core {
    /// Over a store that is open, with nothing under way, nobody to tell of figures and traces, and a clock that is believed.
    pub(crate) fn new(store: Arc<dyn Store>, clock: Clock, random: Random, config: Config, vault: Vault) -> Self {
        Self {
            store,
            clock,
            clock_guard: ClockGuard::default(),
            random,
            config: Arc::new(config),
            reloaded: Reloadable::default(),
            countries: Arc::default(),
            vault: Arc::new(vault),
            figures: Figures::default(),
            told: ToldAnswers::default(),
            audit_turn: Arc::default(),
            tasks: TaskTracker::new(),
            traces: Traces::off(),
            stopping: CancellationToken::new(),
        }
    }

    /// The configuration as it is in force now, but for what the admin API has put on top of the routing. To be asked again for each
    /// use; what may not change while the gateway runs is also in `config`.
    pub(crate) fn settings(&self) -> Arc<Config> {
        self.reloaded.0.load_full().unwrap_or_else(|| Arc::clone(&self.config))
    }

    /// Carries `work` to its end, also when this future is dropped because a client hung up: what follows a commit, such
    /// as forgetting what was cached, must not be left out.
    pub(crate) async fn carry<T, E>(&self, work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<GatewayError> + Send + 'static,
    {
        let carried = self.tasks.spawn(trace::in_current(work)).await;
        carried.unwrap_or_else(|error| Err(GatewayError::Internal(format!("a request's task ended: {error}")).into()))
    }

    /// Whether real money moves.
    pub(crate) fn livemode(&self) -> bool {
        self.config.mode == Mode::Live
    }
}
