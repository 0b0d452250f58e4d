//! The in-process API: the composition root and one file a resource.
//!
//! [`Gateway::open`] puts everything together in order: the store is recovered, the installation checked, emulators
//! and channels set up, actors started, and what an earlier process left behind is taken over. [`Gateway::stop`] takes
//! it apart in the reverse order, the store last.

#[doc(hidden)]
pub mod addresses;
pub mod admin_tokens;
pub mod admission;
pub mod answer;
pub mod audit;
pub mod auth;
pub mod backups;
#[doc(hidden)]
pub mod callbacks;
pub mod certificates;
mod channel_figures;
mod channel_snapshots;
pub mod channels;
#[doc(hidden)]
pub mod clock_check;
pub mod command;
pub(crate) mod core;
pub mod costs;
#[doc(hidden)]
pub mod countries;
mod day_counts;
mod embedding;
pub mod erasures;
pub mod error;
pub mod explain;
pub mod exports;
#[doc(hidden)]
pub mod external_permits;
pub mod history;
pub mod idempotency;
#[doc(hidden)]
pub mod installation;
mod limit_events;
mod limit_snapshots;
pub mod log_level;
pub mod merchants;
pub mod metrics;
mod money_figures;
mod newcomers;
mod numbered_list;
mod observed_channel;
#[doc(hidden)]
pub mod outside;
pub mod page;
mod parts;
pub(crate) mod patience;
pub mod payments;
pub mod pre_auths;
pub mod reconciliation;
pub mod reload;
pub(crate) mod request_figures;
mod requests;
mod retention;
pub mod rotation;
pub mod routing;
#[doc(hidden)]
pub mod sandbox;
mod service_figures;
pub(crate) mod shedding;
pub mod stats;
mod stopping;
pub mod store;
pub(crate) mod stream_figures;
pub(crate) mod told;
mod trace_figures;
pub mod view;
pub mod webhooks;
pub(crate) mod wish;

pub use outside::Extensions;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::actors::directory::{DirectorySettings, MerchantDirectory};
use crate::actors::router::{Beginning, InvalidRouting, RouterError, RouterHandle};
use crate::actors::supervisor::{RestartBudget, StartError, Supervisor};
use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::client::{DeliverySettings, HttpDelivery};
use crate::domain::audit::{Change, Operator};
use crate::domain::routing::{CustomStrategies, InvalidStrategy};
use crate::domain::time::Timestamp;
use crate::gateway::addresses::Addresses;
use crate::gateway::admin_tokens::{AdminToken, AdminTokenError};
use crate::gateway::auth::Authentication;
use crate::gateway::backups::BackupView;
use crate::gateway::callbacks::Callbacks;
use crate::gateway::certificates::{CertificateFigures, Certificates, InvalidCertificate};
use crate::gateway::channel_figures::ChannelFigures;
use crate::gateway::channel_snapshots::ChannelSnapshots;
use crate::gateway::channels::{ChannelSet, ChannelsError, MissingChannels};
use crate::gateway::clock_check::{BEHIND_UNNOTED, ClockGuard, ClockIsBehind, check_at_opening};
use crate::gateway::core::Core;
use crate::gateway::countries::{Countries, InvalidCountries};
use crate::gateway::erasures::Erasures;
use crate::gateway::error::GatewayError;
use crate::gateway::exports::ExportView;
use crate::gateway::external_permits::ExternalPermits;
use crate::gateway::installation::{Installation, InstallationError};
use crate::gateway::limit_events::{LimitCounts, Teller, Telling};
use crate::gateway::limit_snapshots::LimitSnapshots;
use crate::gateway::log_level::LogLevel;
use crate::gateway::merchants::{LimitsChanging, Merchants};
use crate::gateway::metrics::{Figures, Metrics};
use crate::gateway::observed_channel::CallFigures;
use crate::gateway::outside::{DiskWork, MasterKey, Outside};
use crate::gateway::payments::{Hold, Payments, Refunds};
use crate::gateway::pre_auths::PreAuths;
use crate::gateway::reconciliation::Reconciliation;
use crate::gateway::reload::{ConfigSource, Reloads};
use crate::gateway::request_figures::RequestFigures;
use crate::gateway::rotation::KeyRotation;
use crate::gateway::routing::{Routing, RoutingFigures};
use crate::gateway::sandbox::{Emulators, SandboxControl, SandboxStartError};
use crate::gateway::service_figures::ServiceFigures;
use crate::gateway::shedding::{CommitTimes, Shedding, TimedStore};
use crate::gateway::stopping::Stopping;
use crate::gateway::store::{OwnStore, StoreView};
use crate::gateway::trace_figures::TraceFigures;
use crate::gateway::webhooks::Webhooks;
use crate::random::Random;
use crate::storage::engine::Engine;
use crate::storage::held::HeldFile;
use crate::storage::key_file::KeyFile;
use crate::storage::whole_file::DirectoryFiles;
use crate::storage::{Health, Store, StoreError};
use crate::telemetry::Traces;

/// Idempotency keys of one merchant being worked on at once.
const CLAIMS_MAX: usize = 4_096;
/// Requests that may wait for all merchants' actors together, as a multiple of one's.
const MAILBOXES_TOTAL: usize = 16;
/// How long the writing of what merchants are still to be told is given when stopping, whatever the stages before it took.
const TELLING_STOP_MIN: Duration = Duration::from_secs(1);
/// The last spans have so long to reach the collector, whatever the stages before took and left.
const TRACES_STOP_MIN: Duration = Duration::from_secs(1);
const TRACES_STOP_MAX: Duration = Duration::from_secs(5);
/// How long actors are given to end once everything that uses them has stopped.
const ACTORS_STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What a gateway takes from outside: readings and draws, so that tests can supply their own.
pub struct Environment {
    /// Where the time is read.
    pub clock: Clock,
    /// Where random numbers come from.
    pub random: Random,
    /// Reads an environment variable (credentials, the first admin token).
    pub variable: Variables,
}

impl Environment {
    /// This machine's clock and random numbers, and this process's environment variables.
    pub fn of_process() -> Self {
        Self {
            clock: Clock::system(),
            random: Random::from_os(),
            variable: Box::new(|name| std::env::var(name).ok().filter(|value| !value.is_empty())),
        }
    }
}

/// Reads an environment variable by its name.
pub type Variables = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Why a gateway can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The clock is behind the store.
    #[error(transparent)]
    Clock(#[from] ClockIsBehind),
    /// The data directory belongs to another installation.
    #[error(transparent)]
    Installation(#[from] InstallationError),
    /// The admin token.
    #[error(transparent)]
    AdminToken(#[from] AdminTokenError),
    /// The emulators.
    #[error(transparent)]
    Sandbox(#[from] SandboxStartError),
    /// A channel.
    #[error(transparent)]
    Channels(#[from] ChannelsError),
    /// The routing in the configuration.
    #[error(transparent)]
    Routing(#[from] InvalidRouting),
    /// The country database.
    #[error(transparent)]
    Countries(#[from] InvalidCountries),
    /// A listener's certificate or its key.
    #[error(transparent)]
    Certificate(#[from] InvalidCertificate),
    /// The router.
    #[error(transparent)]
    Router(#[from] RouterError),
    /// The registered strategies.
    #[error(transparent)]
    Strategy(#[from] InvalidStrategy),
    /// The actors.
    #[error(transparent)]
    Actors(#[from] StartError),
    /// Something inside.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The sender of webhooks.
    #[error("webhooks can't be sent: {0}")]
    Delivery(String),
}

impl OpenError {
    /// Whether files could not be read, written or had for oneself, which another data directory would mend.
    pub fn is_about_data_directory(&self) -> bool {
        matches!(self, Self::Store(StoreError::Io { .. }))
    }
}

/// A payment gateway. Cheap to clone; clones are the same gateway.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

/// What a gateway has when it was opened on a directory of its own.
#[derive(Default)]
struct Own {
    sandbox: Option<SandboxControl>,
    store: Option<OwnStore>,
    held: Option<HeldFile>,
    /// Channels that could not be set up.
    missing: MissingChannels,
    /// When the last change in the store was made.
    last_written_at: Option<Timestamp>,
    countries: Arc<Countries>,
    /// Strategies of whoever embeds the gateway.
    custom: CustomStrategies,
    traces: Traces,
}

struct Inner {
    core: Core,
    addresses: Addresses,
    certificates: Arc<Certificates>,
    certificate_figures: CertificateFigures,
    authentication: Authentication,
    merchants: Merchants,
    payments: Payments,
    pre_auths: PreAuths,
    callbacks: Callbacks,
    refunds: Refunds,
    reconciliation: Reconciliation,
    hold: Hold,
    own_store: Option<OwnStore>,
    rotation: KeyRotation,
    metrics: Metrics,
    request_figures: RequestFigures,
    service_figures: ServiceFigures,
    routing_figures: RoutingFigures,
    trace_figures: TraceFigures,
    log_level: LogLevel,
    webhooks: Webhooks,
    erasures: Erasures,
    external_permits: ExternalPermits,
    limit_counts: Arc<LimitCounts>,
    telling: Telling,
    router: RouterHandle,
    directory: MerchantDirectory,
    supervisor: Supervisor,
    snapshots: Arc<LimitSnapshots>,
    channel_snapshots: Arc<ChannelSnapshots>,
    /// Whether what began on channels today is known to the last payment.
    days_complete: bool,
    channel_figures: ChannelFigures,
    disk_work: DiskWork,
    sandbox: Option<SandboxControl>,
    admin_tokens: Vec<AdminToken>,
    routing: Routing,
    config_source: OnceLock<Box<dyn ConfigSource>>,
    reloads: Reloads,
    shedding: Arc<Shedding>,
    recent: history::Recent,
    stopping: Stopping,
}

impl Gateway {
    /// Opens the gateway that `config` describes, and takes over what an earlier process left behind. Must be called
    /// within a tokio runtime. The configuration must be valid ([`Config::validate`]).
    ///
    /// # Errors
    /// [`OpenError`], with a sentence that says what to do.
    pub async fn open(config: Config, environment: Environment) -> Result<Self, OpenError> {
        Self::open_with(config, environment, Extensions::default()).await
    }

    /// The same with what the program that embeds the gateway adds to it.
    ///
    /// # Errors
    /// As for [`Gateway::open`]; [`OpenError::Channels`] when the channels are not those of kind `custom` in the
    /// configuration, [`OpenError::Strategy`] when the strategies can't be told apart.
    pub async fn open_with(
        config: Config,
        environment: Environment,
        extensions: Extensions,
    ) -> Result<Self, OpenError> {
        let Environment { clock, random, variable } = environment;
        let custom = CustomStrategies::register(extensions.strategies)?;
        let traces = Traces::open(&config.telemetry, &clock, &random, &*variable).unwrap_or_else(|problem| {
            // Payments do not stand still because nobody watches them.
            tracing::error!(
                problem,
                "traces can't be sent; nothing is recorded until that is mended and the next start"
            );
            Traces::without_collector(&config.telemetry)
        });
        let countries = Countries::open(config.routing.geoip_database.as_deref()).await?;
        let (engine, behind) = open_store(&config, clock.clone()).await?;
        let last_written_at = engine.last_written_at();
        let own_store = OwnStore::new(Arc::clone(&engine), &config.storage, clock.clone());
        let held = HeldFile::of(&config.storage.dir);
        let store: Arc<dyn Store> = engine;
        // Said before what else does not fit: which channels there are follows from the mode.
        Installation::check_mode(store.as_ref(), config.mode)?;
        let dir = &config.storage.dir;
        let master_key = MasterKey::File(key_file_of(&config));
        let emulators = Emulators::start(&config, &clock, &random).await?;
        let variable = Arc::new(variable);
        let (channels, missing) = {
            let (urls, brought) = (emulators.urls, extensions.channels);
            ChannelSet::build(&config, urls, Arc::clone(&variable), brought, &clock, &random)?
        };
        let outside = Outside {
            channels,
            deliver: Arc::new(sender(&config)?),
            admin_tokens: admin_tokens::open(dir, &*variable, &random)?,
            windows: Arc::new(DirectoryFiles::new(dir)),
            disk_work: DiskWork::Threads,
            master_key,
            store,
        };
        let sandbox = emulators.built_in.map(SandboxControl::new);
        let own = Own {
            sandbox,
            store: Some(own_store),
            held: Some(held),
            missing,
            last_written_at,
            countries,
            custom,
            traces,
        };
        let gateway = Box::pin(Self::put_together(config, clock, random, outside, own)).await?;
        if behind > BEHIND_UNNOTED {
            gateway.note_accepted_clock(last_written_at, behind).await;
        }
        Ok(gateway)
    }

    /// Puts a gateway together from what the caller has made, and takes over what an earlier process left behind. Must
    /// be called within a tokio runtime. `config` must be valid; its sections about what is handed over here are not
    /// looked at.
    ///
    /// # Errors
    /// [`OpenError`], with a sentence that says what to do.
    pub async fn assemble(config: Config, clock: Clock, random: Random, outside: Outside) -> Result<Self, OpenError> {
        let countries = Countries::open(config.routing.geoip_database.as_deref()).await?;
        Box::pin(Self::put_together(config, clock, random, outside, Own { countries, ..Own::default() })).await
    }

    async fn put_together(
        config: Config,
        clock: Clock,
        random: Random,
        outside: Outside,
        own: Own,
    ) -> Result<Self, OpenError> {
        let Own { sandbox, store: own_store, held, missing, last_written_at, countries, custom, traces } = own;
        let Outside { store, master_key, windows, disk_work, channels, deliver, admin_tokens } = outside;
        let last_change = store.health().last_change;
        let certificates = Arc::new(Certificates::open(&config.server, &clock).await?);
        let installation = Installation::open(store.as_ref(), config.mode, &master_key, random.clone()).await?;
        let provider_keys = installation.provider_keys();
        let figures = Figures::default();
        let commits = CommitTimes::new(clock.clone(), &figures)?;
        let clock_guard = ClockGuard::begin(&clock, last_written_at);
        let store = TimedStore::over(store, &commits);
        let core = Core::new(store, clock.clone(), random.clone(), config, installation.vault);
        let core = Core { clock_guard, countries, figures, traces, ..core };
        let config = &core.config;
        let calls = CallFigures::new(&core.figures, clock.clone())?;
        let channels = Arc::new(ChannelSet::new(channels, missing).observed(calls));
        let supervisor = Supervisor::start(RestartBudget::default(), clock.clone()).await?;
        let cost_files = Arc::clone(&windows);
        let (in_force, setup) = routing::control::at_start(&core, &channels).await?;
        let channel_snapshots = ChannelSnapshots::new(Arc::clone(&windows), disk_work);
        let newcomers = newcomers::open(&core).await;
        let saved = channel_snapshots.read(clock.now());
        let mut days_complete =
            last_change == 0 || saved.as_ref().is_some_and(|(saved, _)| saved.is_complete_at(last_change));
        let counted = if days_complete || !setup.bounds_days() {
            None
        } else {
            days_complete = true;
            Some(day_counts::count(&core, &setup).await?)
        };
        let beginning = Beginning { custom, newcomers: newcomers.clone(), random, saved, counted };
        let router = RouterHandle::resume(setup, beginning, clock.clone(), &supervisor).await?;
        newcomers::start(&core, &router, newcomers);
        let snapshots = LimitSnapshots::open(windows, disk_work, config, &clock).await;
        let (limit_counts, near_limits) = LimitCounts::new(&core.figures, &config.limits)?;
        let directory = MerchantDirectory::start_observed(
            directory_settings(config),
            clock,
            Arc::clone(&snapshots) as _,
            supervisor.clone(),
            limit_events::near_settings(&config.limits),
            Arc::clone(&limit_counts) as _,
        );
        let webhooks = Webhooks::start(core.clone(), deliver).await?;
        let rotation = {
            let webhooks = webhooks.clone();
            let endpoints_changed = Box::new(move |merchant_id: &_| webhooks.forget_endpoints(merchant_id));
            KeyRotation::new(core.clone(), master_key.file().cloned(), disk_work, endpoints_changed)
        };
        // Before anything is sealed.
        rotation.open().await?;
        let payments = Payments::new(
            core.clone(),
            router.clone(),
            Arc::clone(&channels),
            webhooks.clone(),
            provider_keys.clone(),
        )?;
        // Before anything stores an outcome.
        let is_continued = payments.costs().open(cost_files, disk_work, last_change).await?;
        let pre_auths = PreAuths::new(
            core.clone(),
            payments.clone(),
            router.clone(),
            Arc::clone(&channels),
            webhooks.clone(),
            provider_keys,
        )?;
        // Before anything looks after payments and pre-auths.
        let hold = Hold::open(&payments, &pre_auths, held)?;
        let callbacks = Callbacks::new(core.clone(), Arc::clone(&channels), payments.clone(), pre_auths.clone())?;
        let limits_changed = {
            let directory = directory.clone();
            Box::new(move |merchant_id: &_, figures, revision| directory.update_limits(merchant_id, figures, revision))
        };
        let limits_changing: LimitsChanging = {
            let snapshots = Arc::clone(&snapshots);
            Box::new(move |merchant_id: &_, figures| {
                let (snapshots, merchant_id) =
                    (Arc::clone(&snapshots), crate::domain::ids::MerchantId::clone(merchant_id));
                Box::pin(async move { snapshots.before_change(&merchant_id, figures).await })
            })
        };
        let merchants = Merchants::new(core.clone(), limits_changing, limits_changed);
        {
            let snapshots = Arc::clone(&snapshots);
            merchants.tell_creating(Box::new(move |merchant_id| snapshots.created(merchant_id)));
            let webhooks = webhooks.clone();
            merchants.tell_deleted(Box::new(move |planned| webhooks.announce(planned)));
        }
        let inner = Inner {
            telling: Telling::start(Teller::new(&core, &merchants, &webhooks, &limit_counts), near_limits),
            limit_counts,
            certificate_figures: CertificateFigures::new(&core.figures, &certificates)?,
            certificates,
            authentication: Authentication::new(core.clone()),
            addresses: Addresses::new(&core)?,
            merchants,
            erasures: Erasures::new(core.clone()),
            external_permits: ExternalPermits::new(&core, &directory)?,
            refunds: Refunds::new(payments.clone()),
            reconciliation: Reconciliation::new(core.clone(), disk_work),
            hold,
            own_store,
            rotation,
            metrics: Metrics::new(&core.figures, Arc::clone(&core.store), core.clock.clone())?,
            request_figures: RequestFigures::new(&core.figures)?,
            service_figures: ServiceFigures::new(&core.figures, Arc::clone(&core.store))?,
            routing_figures: RoutingFigures::new(&core.figures)?,
            trace_figures: TraceFigures::new(&core)?,
            log_level: LogLevel::default(),
            payments,
            pre_auths,
            callbacks,
            webhooks,
            routing: Routing::new(core.clone(), router.clone(), Arc::clone(&channels), in_force),
            config_source: OnceLock::new(),
            reloads: Reloads::new(&core.figures)?,
            router,
            directory,
            supervisor,
            snapshots,
            channel_snapshots,
            days_complete,
            channel_figures: ChannelFigures::new(&core.figures)?,
            sandbox,
            disk_work,
            admin_tokens,
            shedding: Shedding::new(core.config.limits.adaptive, &core.figures, core.random.draw_u64())?,
            recent: history::Recent::default(),
            stopping: Stopping::new(Duration::from_millis(core.config.server.drain_timeout_ms)),
            core,
        };
        let gateway = Self(Arc::new(inner));
        gateway.0.payments.start()?;
        gateway.0.pre_auths.start()?;
        gateway.0.callbacks.start()?;
        gateway.0.payments.costs().start();
        gateway.0.reconciliation.start(is_continued);
        gateway.0.hold.start();
        gateway.0.rotation.start();
        gateway.0.snapshots.start(&gateway.0.core)?;
        gateway.0.channel_snapshots.start(&gateway.0.core, &gateway.0.router);
        gateway.0.shedding.start(&gateway.0.core, gateway.0.directory.clone(), commits);
        gateway.0.external_permits.start();
        retention::start(&gateway.0.core, &gateway.0.webhooks);
        webhooks::metrics::start(&gateway.0.core, &gateway.0.webhooks);
        gateway.0.core.countries.start(&gateway.0.core.tasks, &gateway.0.core.stopping);
        gateway.0.certificates.start(&gateway.0.core.tasks, &gateway.0.core.stopping);
        audit::start(&gateway.0.core);
        gateway.0.erasures.start();
        history::start(&gateway);
        Ok(gateway)
    }

    /// Writes down that it was opened with a clock that is behind. From then on the store's last change is of this clock,
    /// so that the next start does not ask again.
    async fn note_accepted_clock(&self, last_written_at: Option<Timestamp>, behind: Duration) {
        let last = last_written_at.map_or_else(String::new, Timestamp::rfc3339);
        tracing::warn!(
            last_change = last,
            behind_s = behind.as_secs(),
            "opened with a clock that is behind the last change"
        );
        let change = Change::new("clock.accept", &last);
        if let Err(error) = audit::record(&self.0.core, &Operator::process("start"), &change).await {
            tracing::warn!(%error, "that this clock was accepted could not be written down");
        }
    }

    /// Begins a backup of the running store into a directory of this machine.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`] when the store has no directory, [`GatewayError::InvalidState`] while another one is made,
    /// [`GatewayError::InvalidRequest`] for a destination that can't be used.
    pub async fn begin_backup(&self, by: &Operator, destination: &str) -> Result<BackupView, GatewayError> {
        let reserved = self.backups().ok_or(GatewayError::NotFound("directory to back up"))?.reserve(destination)?;
        let (core, by, change) = (self.0.core.clone(), by.clone(), Change::new("store.backup", destination));
        let work = async move {
            // Before it begins: no backup without its entry.
            audit::record(&core, &by, &change).await?;
            Ok(reserved.begin())
        };
        self.0.core.carry(work).await
    }

    /// Begins an export of the running store into a file of this machine.
    ///
    /// # Errors
    /// As for [`Gateway::begin_backup`].
    pub async fn begin_export(&self, by: &Operator, destination: &str) -> Result<ExportView, GatewayError> {
        let own_store = self.own_store().ok_or(GatewayError::NotFound("directory to export"))?;
        let reserved = own_store.exports().reserve(destination)?;
        let (core, by, change) = (self.0.core.clone(), by.clone(), Change::new("store.export", destination));
        let work = async move {
            audit::record(&core, &by, &change).await?;
            Ok(reserved.begin())
        };
        self.0.core.carry(work).await
    }

    /// How the store and its directory stand.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`] when the store has no directory, [`GatewayError::Internal`] when that can't be read.
    pub async fn store_view(&self) -> Result<StoreView, GatewayError> {
        let own_store = self.own_store().ok_or(GatewayError::NotFound("directory of the store"))?;
        own_store.view(self.0.hold.view().held).await
    }

    /// How the store is doing.
    pub fn store_health(&self) -> Health {
        self.0.core.store.health()
    }

    /// Whether requests should be sent here: what an earlier process left behind is taken over, the gateway is not
    /// stopping, and the store takes new work.
    pub fn is_ready(&self) -> bool {
        let health = self.0.core.store.health();
        !self.is_stopping() && self.0.payments.has_recovered() && health.poisoned.is_none() && health.accepts_new
    }

    /// Whether stopping has begun.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.has_begun()
    }

    /// Notes that stopping begins: [`Gateway::is_ready`] says no, and the time that stopping may take runs. Work goes on
    /// until [`Gateway::stop`].
    pub fn begin_stopping(&self) {
        self.0.stopping.begin(self.0.core.clock.monotonic());
    }

    /// Ready with the reason once the gateway can't go on: the store has failed, or actors fail too often. The process
    /// should end and be started again; nothing that was acknowledged is lost.
    pub async fn failed(&self) -> String {
        tokio::select! {
            reason = self.0.core.store.failed() => format!("the store has failed: {reason}"),
            () = self.0.supervisor.exhausted() => "actors failed too often".to_owned(),
        }
    }

    /// Stops in stages: no new work, work under way is finished (as long as the configuration lets it, counted from
    /// [`Gateway::begin_stopping`] over all stages), what merchants are still to be told is written, windows and store are written down. Stop listening before.
    ///
    /// # Errors
    /// When the store could not be closed; what was acknowledged is safe all the same.
    pub async fn stop(&self) -> Result<(), StoreError> {
        let inner = &self.0;
        self.begin_stopping();
        let time_left = || inner.stopping.left(inner.core.clock.monotonic());
        inner.core.stopping.cancel();
        inner.core.tasks.close();
        let all_ended = tokio::time::timeout(time_left(), inner.core.tasks.wait()).await.is_ok();
        if !all_ended {
            tracing::warn!("payments were still under way when the time to stop ran out; they go on at the next start");
        }
        inner.pre_auths.stop(time_left()).await;
        inner.webhooks.stop(time_left()).await;
        inner.snapshots.admit_no_more();
        let handed_over = match tokio::time::timeout(ACTORS_STOP_TIMEOUT, inner.directory.stop()).await {
            Ok(unsaved) => unsaved == 0,
            Err(_elapsed) => false,
        };
        if !handed_over {
            tracing::warn!("limits of some merchants could not be handed over");
        }
        // Nothing is decided any more, and the windows say that these were told.
        inner.telling.finish(time_left().max(TELLING_STOP_MIN)).await;
        inner.snapshots.write_final(handed_over).await;
        let complete_at = (all_ended && inner.days_complete).then(|| inner.core.store.health().last_change);
        inner.channel_snapshots.write_final(&inner.router, &inner.core.clock, complete_at).await;
        inner.supervisor.stop(ACTORS_STOP_TIMEOUT).await;
        inner.payments.costs().write_final(all_ended).await;
        let store = Arc::clone(&inner.core.store);
        let closed = inner.disk_work.run(move || store.close()).await;
        if let Some(sandbox) = &inner.sandbox {
            sandbox.stop().await;
        }
        // Last, with the spans of all that was done meanwhile.
        inner.core.traces.finish(time_left().clamp(TRACES_STOP_MIN, TRACES_STOP_MAX)).await;
        closed.unwrap_or_else(|error| Err(StoreError::Poisoned(error)))
    }
}

/// Where the master key is.
fn key_file_of(config: &Config) -> KeyFile {
    let file = config.security.master_key_file.clone();
    KeyFile::new(file.unwrap_or_else(|| config.storage.dir.join("master.key")))
}

/// Opens the store, and says how far the clock is behind it.
async fn open_store(config: &Config, clock: Clock) -> Result<(Arc<Engine>, Duration), OpenError> {
    let storage = config.storage.clone();
    let open = move || {
        let engine = Engine::open_dir_by(&storage, clock.clone())?;
        let back_max = Duration::from_secs(storage.clock_back_max_s);
        // Refused, it is dropped, not closed: the mark of a clean stop would have the wrong time.
        let behind = check_at_opening(engine.last_written_at(), clock.now(), back_max)?;
        Ok::<_, OpenError>((Arc::new(engine), behind))
    };
    let opened = tokio::task::spawn_blocking(open).await;
    opened.map_err(|error| StoreError::Corrupt(format!("opening the store: {error}")))?
}

fn directory_settings(config: &Config) -> DirectorySettings {
    let limits = &config.limits;
    DirectorySettings {
        lease: Duration::from_millis(limits.lease_ms),
        merchants_active_max: limits.merchants_active_max,
        idle: Duration::from_millis(limits.idle_ms),
        mailbox_max: limits.mailbox_max,
        mailboxes_total_max: limits.mailbox_max.saturating_mul(MAILBOXES_TOTAL),
        claims_max: CLAIMS_MAX,
        snapshot_interval: Duration::from_millis(limits.snapshot_interval_ms),
    }
}

fn sender(config: &Config) -> Result<HttpDelivery, OpenError> {
    HttpDelivery::new(DeliverySettings::from(&config.webhook)).map_err(OpenError::Delivery)
}
