//! Routing as the operator changes it: what is in force, and the one way by which it becomes something else. The
//! configuration file is the base, the admin API's changes lie on top. A change is checked as a whole, committed as a
//! version together with its entry in the audit, and only then put in force, at once.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::actors::router::{InvalidRouting, RouterError, RouterHandle, setup_from_config};
use crate::config::{Config, ConfigError};
use crate::domain::audit::{Change, Operator};
use crate::domain::ids::MerchantId;
use crate::domain::routing::{Finding, KnownNames, RoutingSetup, check_rules};
use crate::gateway::audit;
use crate::gateway::channels::ChannelSet;
use crate::gateway::core::Core;
use crate::gateway::error::{FieldError, GatewayError};
use crate::gateway::reload::ReloadError;
use crate::gateway::routing::overrides::{Fitted, Overrides, UnfitView};
use crate::gateway::routing::versions::{self, StoredPart, StoredVersion};
use crate::storage::keys;

/// What the audit calls going back to a version.
pub(super) const ROLL_BACK: &str = "routing.rollback";

/// For changes to which it does not matter what a check finds.
type Refuse = fn(&(), &[Finding], &[Finding]) -> Result<(), GatewayError>;
pub(super) const UNCHECKED: Option<Refuse> = None;

/// What is in force.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    /// What the configuration files say, as far as it could be changed while running.
    pub(crate) file: Config,
    /// The file with the overrides on top; the API's rules stand before the file's.
    pub(crate) config: Config,
    /// What was changed through the admin API.
    pub(crate) overrides: Overrides,
    /// What of that does not fit the file.
    pub(crate) unfit: Vec<UnfitView>,
    /// Why what was changed through the admin API could not be read at the start, as long as nobody has said what of it is to
    /// be in force.
    pub(crate) lost: Option<String>,
    /// The version that decisions name; 0 when it could not be written down.
    pub(crate) version: u64,
}

impl InForce {
    /// A file with overrides on top, as far as they fit.
    pub(crate) fn of(file: Config, overrides: Overrides) -> Self {
        let Fitted { config, unfit } = overrides.fit(&file);
        Self { file, config, overrides, unfit, lost: None, version: 0 }
    }

    /// The same in place of `before`, which also has lost what that has.
    pub(crate) fn after(before: &Self, file: Config, overrides: Overrides) -> Self {
        let mut next = Self::of(file, overrides);
        if let Some(problem) = &before.lost {
            next.lose(problem.clone());
        }
        next
    }

    fn lose(&mut self, problem: String) {
        let told = format!(
            "can't be read ({problem}); the configuration file alone is in force; go back to a version that can be read \
             (tollgate routing versions, tollgate routing rollback N), or to version 0 for none"
        );
        self.unfit.push(UnfitView { what: String::from("all"), problem: told });
        self.lost = Some(problem);
    }

    /// How many of the rules are the API's; they stand first.
    pub(super) fn own_rules(&self) -> usize {
        self.config.rules.len() - self.file.rules.len()
    }
}

/// Routing of one gateway, for the operator. Cheap to clone. A change that has begun goes on when its future is dropped.
#[derive(Clone)]
pub struct Routing(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) core: Core,
    pub(super) router: RouterHandle,
    pub(super) channels: Arc<ChannelSet>,
    in_force: tokio::sync::Mutex<InForce>,
}

/// What a gateway that is being opened routes by, and what the router begins with.
pub(crate) async fn at_start(core: &Core, channels: &ChannelSet) -> Result<(InForce, RoutingSetup), InvalidRouting> {
    let store = core.store.as_ref();
    let (stored, mut unreadable) = match versions::last(store) {
        Ok(stored) => (stored, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let number = match versions::last_number(store) {
        Ok(number) => number,
        Err(error) => {
            unreadable = Some(error.to_string());
            0
        }
    };
    let overrides = stored.map(|stored| stored.overrides).unwrap_or_default();
    let mut in_force = InForce::of(core.config.as_ref().clone(), overrides);
    if let Some(problem) = unreadable {
        in_force.lose(problem);
    }
    tell_unfit(&in_force.unfit);
    let mut setup = setup_of(&in_force.config, channels)?;
    tell_findings(core, &in_force.config, &setup);
    in_force.version = if in_force.lost.is_some() { 0 } else { note_start(core, &in_force, number).await };
    setup.version = in_force.version;
    Ok((in_force, setup))
}

/// Writes a version down when what is in force at a start is not what was in force last. Answers the version in force; 0
/// when it could not be written, which is no reason not to start.
async fn note_start(core: &Core, in_force: &InForce, last: u64) -> u64 {
    let part = versions::part_of(&in_force.config);
    let before = match versions::last_part(core.store.as_ref()) {
        Ok(before) => before,
        Err(error) => {
            tracing::warn!(%error, "what of the routing was in force last can't be read");
            None
        }
    };
    let stored = StoredPart::of(part.clone());
    if last > 0 && before.as_ref().is_some_and(|before| before.sha256 == stored.sha256) {
        return last;
    }
    let before = before.and_then(|before| before.part).unwrap_or(Value::Null);
    let mut change = Change::new("config.start", "configuration");
    if last > 0 {
        change = versions::differences(change, &before, &part);
    }
    let by = Operator::process("start");
    let version = StoredVersion::new(last + 1, core.clock.now(), &by, &change, in_force.overrides.clone());
    let batch = match version.batch(&stored) {
        Ok(batch) => batch,
        Err(error) => {
            tracing::warn!(%error, "the routing in force has no version: decisions say version 0");
            return 0;
        }
    };
    // The first version changes nothing: there was none before it.
    let committed = if last == 0 {
        core.store.commit(batch).await.map(|_| ())
    } else {
        audit::commit(core, batch, &by, &change).await.map(|_| ())
    };
    match committed {
        Ok(()) => version.number,
        Err(error) => {
            tracing::warn!(%error, "the routing in force could not be written down: decisions say version 0");
            0
        }
    }
}

fn tell_unfit(unfit: &[UnfitView]) {
    for UnfitView { what, problem } in unfit {
        tracing::error!(
            what,
            problem,
            "what was changed through the admin API does not fit the configuration; it is not in force"
        );
    }
}

/// Says in the log what is wrong with the rules in force.
fn tell_findings(core: &Core, config: &Config, setup: &RoutingSetup) {
    for Finding { rule, message, .. } in findings(core, config, setup) {
        tracing::warn!(rule = &*rule, problem = message, "a rule of the routing does less than it seems to");
    }
}

/// The router's setup of a configuration.
pub(super) fn setup_of(config: &Config, channels: &ChannelSet) -> Result<RoutingSetup, InvalidRouting> {
    let mut setup = setup_from_config(config, &channels.abilities())?;
    channels.narrow(&mut setup);
    Ok(setup)
}

/// What is wrong with the rules of a setup.
pub(super) fn findings(core: &Core, config: &Config, setup: &RoutingSetup) -> Vec<Finding> {
    let store = core.store.as_ref();
    let merchant = |id: &str| store.get(&keys::merchant(&MerchantId::new(id))).ok().map(|stored| stored.is_some());
    let tiers: Vec<&str> = config.tiers.keys().map(String::as_str).collect();
    check_rules(&setup.channels, &setup.rules, &KnownNames { tiers: &tiers, merchant: &merchant })
}

impl Routing {
    pub(crate) fn new(core: Core, router: RouterHandle, channels: Arc<ChannelSet>, in_force: InForce) -> Self {
        Self(Arc::new(Inner { core, router, channels, in_force: tokio::sync::Mutex::new(in_force) }))
    }

    /// What is in force, for as long as it is held: nobody else changes it.
    pub(crate) async fn hold(&self) -> tokio::sync::MutexGuard<'_, InForce> {
        self.0.in_force.lock().await
    }

    /// Whether the router would take a configuration.
    ///
    /// # Errors
    /// [`ReloadError::Routing`], [`ReloadError::Router`].
    pub(crate) fn check_setup(&self, config: &Config) -> Result<(), ReloadError> {
        Ok(self.0.setup_of(config)?.check().map_err(RouterError::from)?)
    }

    /// Puts another state in force, or leaves everything as it was.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub(crate) async fn adopt(
        &self,
        in_force: &mut InForce,
        next: InForce,
        by: &Operator,
        change: &Change,
        failed: &'static str,
    ) -> Result<(), ReloadError> {
        self.0.adopt(in_force, next, by, change, failed).await
    }
}

impl Inner {
    pub(super) fn setup_of(&self, config: &Config) -> Result<RoutingSetup, InvalidRouting> {
        setup_of(config, &self.channels)
    }

    /// The rules of a configuration as a check sees them. Large tables take a while, in which nobody else waits.
    pub(super) async fn check(&self, config: &Config) -> Result<Vec<Finding>, GatewayError> {
        let (core, channels, config) = (self.core.clone(), Arc::clone(&self.channels), config.clone());
        let work = move || {
            let setup =
                setup_of(&config, &channels).map_err(|error| GatewayError::field("rules", error.to_string()))?;
            Ok(findings(&core, &config, &setup))
        };
        let failed = |error| GatewayError::Internal(format!("checking the rules ended: {error}"));
        tokio::task::spawn_blocking(work).await.map_err(failed)?
    }

    async fn adopt(
        &self,
        in_force: &mut InForce,
        mut next: InForce,
        by: &Operator,
        change: &Change,
        failed: &'static str,
    ) -> Result<(), ReloadError> {
        let mut setup = self.setup_of(&next.config)?;
        // What the router would refuse is no change, and gets no entry.
        setup.check().map_err(RouterError::from)?;
        let (before, after) = (versions::part_of(&in_force.config), versions::part_of(&next.config));
        let is_new = before != after || in_force.overrides != next.overrides || in_force.lost != next.lost;
        // As long as it is not known what the API's part is, a version would say that there is none.
        if !is_new || next.lost.is_some() {
            // Nothing that decisions depend on: no version.
            audit::record(&self.core, by, change).await?;
            next.version = in_force.version;
            setup.version = in_force.version;
            // Nor is it one that credentials were found, but the router must know.
            if *self.router.table().setup != setup {
                self.router.configure(setup).await?;
            }
            *in_force = next;
            return Ok(());
        }
        next.version = versions::last_number(self.core.store.as_ref())? + 1;
        setup.version = next.version;
        let effect = versions::differences(Change::new(change.action, change.object.as_str()), &before, &after);
        let now = self.core.clock.now();
        let version = StoredVersion::new(next.version, now, by, &effect, next.overrides.clone());
        audit::commit(&self.core, version.batch(&StoredPart::of(after))?, by, change).await?;
        if let Err(error) = self.router.configure(setup).await {
            self.take_back(in_force, next.version, by, failed, &error, StoredPart::of(before)).await?;
            return Err(error.into());
        }
        // What the operator has just been answered needs not be said in the log, what a file brought about does.
        if in_force.overrides == next.overrides {
            tell_unfit(&next.unfit);
            if let Ok(setup) = self.setup_of(&next.config) {
                tell_findings(&self.core, &next.config, &setup);
            }
        }
        *in_force = next;
        Ok(())
    }

    /// The entry before this one says what was meant to be, and so does the last version: the next one restores what
    /// stays in force.
    async fn take_back(
        &self,
        in_force: &InForce,
        number: u64,
        by: &Operator,
        failed: &'static str,
        error: &RouterError,
        part: StoredPart,
    ) -> Result<(), ReloadError> {
        let change = Change::new(failed, "configuration").field("reason", None, Some(json!(error.to_string())));
        let restored = StoredVersion::new(number + 1, self.core.clock.now(), by, &change, in_force.overrides.clone());
        audit::commit(&self.core, restored.batch(&part)?, by, &change).await?;
        Ok(())
    }

    /// Makes a change through the admin API, unless `refuse` has something against what a check finds before and after:
    /// `edit` changes the overrides; what then does not fit is refused, unless it
    /// was the same before and did not fit either.
    pub(super) async fn change<T>(
        &self,
        by: &Operator,
        edit: impl FnOnce(&InForce, &mut Overrides) -> Result<(Change, T), GatewayError>,
        refuse: Option<impl FnOnce(&T, &[Finding], &[Finding]) -> Result<(), GatewayError>>,
    ) -> Result<(InForce, T), GatewayError> {
        let mut in_force = self.in_force.lock().await;
        let mut overrides = in_force.overrides.clone();
        let (change, told) = edit(&in_force, &mut overrides)?;
        let goes_back = change.action == ROLL_BACK;
        if let Some(problem) = in_force.lost.as_ref().filter(|_| !goes_back) {
            let message = format!(
                "what was changed before can't be read ({problem}); say what is to be in force first: tollgate routing \
                 rollback N, or 0 for nothing of it"
            );
            return Err(GatewayError::field("routing", message));
        }
        if overrides == in_force.overrides && in_force.lost.is_none() {
            return Ok((in_force.clone(), told));
        }
        let next = InForce::of(in_force.file.clone(), overrides);
        let is_new = |unfit: &&UnfitView| {
            let was_unfit = in_force.unfit.iter().any(|before| before.what == unfit.what);
            !was_unfit || in_force.overrides.part(&unfit.what) != next.overrides.part(&unfit.what)
        };
        let wrong: Vec<FieldError> =
            next.unfit.iter().filter(is_new).map(|unfit| FieldError::new(&unfit.what, unfit.told())).collect();
        if !wrong.is_empty() {
            return Err(GatewayError::InvalidRequest(wrong));
        }
        if let Some(refuse) = refuse {
            refuse(&told, &self.check(&in_force.config).await?, &self.check(&next.config).await?)?;
        }
        self.adopt(&mut in_force, next, by, &change, "routing.change_failed").await?;
        Ok((in_force.clone(), told))
    }
}

impl From<ReloadError> for GatewayError {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::DoesNotFit(ConfigError::Problems(problems)) => {
                let fields = problems.into_iter().map(|problem| FieldError::new(problem.path, problem.message));
                Self::InvalidRequest(fields.collect())
            }
            ReloadError::DoesNotFit(error) => Self::field("configuration", error.to_string()),
            ReloadError::Source(problem) => Self::field("configuration", problem),
            ReloadError::Routing(error) => Self::field("configuration", error.to_string()),
            ReloadError::Countries(error) => Self::field("routing.geoip_database", error.to_string()),
            ReloadError::Router(RouterError::Restarting) => Self::Overloaded { retry_after_s: 1 },
            ReloadError::Router(error) => Self::field("configuration", error.to_string()),
            ReloadError::Audit(error) => error.into(),
            ReloadError::Gateway(error) => error,
        }
    }
}
