//! The channels that are set up, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::channels::{Capabilities, Channel, ChannelSetupError, CredentialError, Credentials, CurrencySupport, build};
use crate::clock::Clock;
use crate::config::{ChannelConfig, ChannelKind, Config, Mode};
use crate::domain::ids::ChannelName;
use crate::domain::routing::RoutingSetup;
use crate::gateway::Variables;
use crate::gateway::observed_channel::{CallFigures, ObservedChannel};
use crate::gateway::sandbox::{credentials_of, provider_of};
use crate::random::Random;

/// Why a channel can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum ChannelsError {
    /// A credential is missing.
    #[error("channel {channel}: {source}")]
    Credential {
        /// The channel.
        channel: String,
        /// What is missing.
        source: CredentialError,
    },
    /// The adapter can't be made.
    #[error(transparent)]
    Setup(#[from] ChannelSetupError),
    /// There is no address to talk to.
    #[error("channel {0} has no base_url, and there is no sandbox for it")]
    NoAddress(String),
    /// It is configured as one that is brought along, and nobody has.
    #[error("channel {0} is of kind \"custom\", and the program that embeds Tollgate does not bring it along")]
    NotBrought(String),
    /// It moves real money in sandbox mode.
    #[error(
        "channel {0} moves real money, as its key or its address says, and mode is \"sandbox\"; give it a test key and the \
         provider's test address, or set mode = \"live\""
    )]
    RealMoney(String),
    /// It moves play money in live mode.
    #[error(
        "channel {0} moves no real money, as its key or its address says, and mode is \"live\"; give it a live key and the \
         provider's live address"
    )]
    PlayMoney(String),
    /// It was brought along, and the configuration has none of this name and kind.
    #[error("the channel {0} was brought along; add [channels.{0}] with kind = \"custom\" and its fees")]
    NotConfigured(String),
}

impl ChannelsError {
    /// Whether what a credential's entry names is not there, which an operator can mend without a restart.
    const fn is_missing(&self) -> bool {
        use CredentialError::{File, Variable};
        matches!(self, Self::Credential { source: Variable { .. } | File { .. }, .. })
    }
}

/// Channels by name whose credentials have changed, with why where they can't be read.
pub(crate) type OtherCredentials = Vec<(ChannelName, Option<CredentialError>)>;

/// Channels by name.
pub(super) type Channels = BTreeMap<ChannelName, Arc<dyn Channel>>;

/// The channels of a gateway.
pub(crate) struct ChannelSet {
    channels: ArcSwap<Channels>,
    /// What is missing, in words, of channels that could not be set up.
    missing: ArcSwap<BTreeMap<ChannelName, String>>,
    /// Where credentials are looked for again. Held while files are read, however long that takes: never by a worker of the
    /// runtime.
    sources: Mutex<Option<Sources>>,
    /// Where calls are counted.
    calls: Option<CallFigures>,
}

/// Channels that could not be set up because of credentials that are not there.
#[derive(Default)]
pub(crate) struct MissingChannels {
    /// What is missing, in words.
    why: BTreeMap<ChannelName, String>,
    /// Where it is looked for again.
    sources: Option<Sources>,
}

struct Sources {
    /// Addresses of emulators, by provider.
    sandbox_urls: BTreeMap<String, String>,
    variable: Arc<Variables>,
    clock: Clock,
    /// Which kind of money they have to move.
    mode: Mode,
    /// So that the digests say nothing to anybody else.
    salt: [u8; 32],
    /// The digests of the credentials in use, of channels that read some.
    used: BTreeMap<String, [u8; 32]>,
}

impl Sources {
    fn build(&mut self, name: &str, config: &ChannelConfig) -> Result<Arc<dyn Channel>, ChannelsError> {
        let (built, credentials) = build_one(name, config, &self.sandbox_urls, &**self.variable, &self.clock)?;
        let built = in_mode(name, built, self.mode)?;
        if let Some(credentials) = credentials {
            self.used.insert(name.to_owned(), credentials.digest(&self.salt));
        }
        Ok(built)
    }

    /// Whether a channel would have other credentials if it were set up now.
    ///
    /// # Errors
    /// When it would have none.
    fn have_changed(&self, name: &str, config: &ChannelConfig) -> Result<bool, CredentialError> {
        let Some(used) = self.used.get(name) else { return Ok(false) };
        // A pipe can't be read again.
        if Credentials::name_a_pipe(&config.credentials) {
            return Ok(false);
        }
        let now = Credentials::read(&config.credentials, &**self.variable)?;
        Ok(now.digest(&self.salt) != *used)
    }
}

impl ChannelSet {
    /// Sets up every configured channel whose credentials are there; those of kind `custom` are the `brought` ones. Channels
    /// with `sandbox = true` talk to the emulators at `sandbox_urls`.
    ///
    /// # Errors
    /// When a channel is wrong in another way, when none that is enabled could be set up, or, in live mode, when the default
    /// channel could not.
    pub(crate) fn build(
        config: &Config,
        sandbox_urls: BTreeMap<String, String>,
        variable: Arc<Variables>,
        mut brought: Channels,
        clock: &Clock,
        random: &Random,
    ) -> Result<(Channels, MissingChannels), ChannelsError> {
        let mut salt = [0; 32];
        random.fill(&mut salt);
        let (clock, mode) = (clock.clone(), config.mode);
        let mut sources = Sources { sandbox_urls, variable, clock, mode, salt, used: BTreeMap::new() };
        let (mut channels, mut missing) = (BTreeMap::new(), Vec::new());
        for (name, channel_config) in &config.channels {
            let built = if channel_config.kind == ChannelKind::Custom {
                let own = brought.remove(&ChannelName::new(name.as_str()));
                own.ok_or_else(|| ChannelsError::NotBrought(name.clone()))
                    .and_then(|channel| in_mode(name, channel, config.mode))
            } else {
                sources.build(name, channel_config)
            };
            match built {
                Ok(channel) => {
                    channels.insert(ChannelName::new(name.as_str()), channel);
                }
                Err(error) if error.is_missing() => missing.push((name, error)),
                Err(error) => return Err(error),
            }
        }
        if let Some(name) = brought.keys().next() {
            return Err(ChannelsError::NotConfigured(name.to_string()));
        }
        let is_usable = |(name, channel): (&String, &ChannelConfig)| {
            channel.enabled && channels.contains_key(&ChannelName::new(name.as_str()))
        };
        let any_usable = config.channels.iter().any(is_usable);
        let needs = |name: &String| !any_usable || config.mode == Mode::Live && *name == config.routing.default_channel;
        if let Some(place) = missing.iter().position(|(name, _)| needs(name)) {
            return Err(missing.swap_remove(place).1);
        }
        for (_, error) in &missing {
            tracing::error!(
                "{error}; no payment goes there until that is mended and the configuration is loaded again"
            );
        }
        let why = missing.into_iter().map(|(name, error)| (ChannelName::new(name.as_str()), error.to_string()));
        Ok((channels, MissingChannels { why: why.collect(), sources: Some(sources) }))
    }

    /// These channels, without those that are missing.
    pub(crate) fn new(channels: Channels, missing: MissingChannels) -> Self {
        let MissingChannels { why, sources } = missing;
        Self {
            channels: ArcSwap::from_pointee(channels),
            missing: ArcSwap::from_pointee(why),
            sources: Mutex::new(sources),
            calls: None,
        }
    }

    /// The same, with every call of a channel counted and seen in traces.
    pub(super) fn observed(self, calls: CallFigures) -> Self {
        let all = Channels::clone(&self.channels.load());
        let observed = all.into_iter().map(|(name, channel)| {
            let observed = ObservedChannel::over(channel, &name, &calls);
            (name, observed)
        });
        Self { channels: ArcSwap::from_pointee(observed.collect()), calls: Some(calls), ..self }
    }

    /// Channels that a test has made.
    #[cfg(test)]
    pub(crate) fn of(channels: impl IntoIterator<Item = (&'static str, Arc<dyn Channel>)>) -> Self {
        let channels = channels.into_iter().map(|(name, channel)| (ChannelName::new(name), channel));
        Self::new(channels.collect(), MissingChannels::default())
    }

    /// Looks for the missing credentials again, and sets up the channels whose are there now. May block.
    pub(crate) fn look_again(&self, config: &Config) {
        let mut sources = self.sources.lock();
        let Some(sources) = &mut *sources else { return };
        let mut why = BTreeMap::clone(&self.missing.load());
        let mut found = BTreeMap::new();
        for (name, why) in why.iter_mut() {
            let Some(channel_config) = config.channels.get(name.as_str()) else { continue };
            // A pipe would be waited for.
            if Credentials::name_a_pipe(&channel_config.credentials) {
                continue;
            }
            match sources.build(name.as_str(), channel_config) {
                Ok(channel) => {
                    let channel = match &self.calls {
                        Some(calls) => ObservedChannel::over(channel, name, calls),
                        None => channel,
                    };
                    found.insert(name.clone(), channel);
                }
                Err(error) => {
                    tracing::error!("{error}; still no payment goes there");
                    *why = error.to_string();
                }
            }
        }
        why.retain(|name, _| !found.contains_key(name));
        self.missing.store(Arc::new(why));
        if !found.is_empty() {
            let mut channels = Channels::clone(&self.channels.load());
            channels.append(&mut found);
            self.channels.store(Arc::new(channels));
        }
    }

    /// The channels whose credentials are other ones by now than those in use, which the next start would take, or can't be
    /// read, with why. May block.
    pub(crate) fn with_other_credentials(&self, config: &Config) -> OtherCredentials {
        let sources = self.sources.lock();
        let Some(sources) = &*sources else { return Vec::new() };
        let mut others = Vec::new();
        for (name, channel) in &config.channels {
            match sources.have_changed(name, channel) {
                Ok(false) => {}
                Ok(true) => others.push((ChannelName::new(name.as_str()), None)),
                Err(error) => others.push((ChannelName::new(name.as_str()), Some(error))),
            }
        }
        others
    }

    /// The channels that are here although `setup` has them without credentials.
    pub(crate) fn found_since(&self, setup: &RoutingSetup) -> Vec<ChannelName> {
        let channels = self.channels.load();
        let since = setup.channels.iter().filter(|facts| !facts.has_credentials && channels.contains_key(&facts.name));
        since.map(|facts| facts.name.clone()).collect()
    }

    /// What a channel lacks, in words, where it lacks something.
    pub(crate) fn lacks(&self, name: &ChannelName) -> Option<String> {
        self.missing.load().get(name).cloned()
    }

    /// What each channel can do.
    pub(crate) fn abilities(&self) -> BTreeMap<ChannelName, Capabilities> {
        self.channels.load().iter().map(|(name, channel)| (name.clone(), channel.capabilities())).collect()
    }

    /// Leaves in a setup what the adapters can do: what is not configured is all that they can, what is configured is
    /// only what they can.
    pub(crate) fn narrow(&self, setup: &mut RoutingSetup) {
        let channels = self.channels.load();
        for facts in &mut setup.channels {
            let Some(channel) = channels.get(&facts.name) else { continue };
            let supported = channel.currencies();
            match supported {
                CurrencySupport::Listed(codes) if facts.currencies.is_empty() => {
                    facts.currencies = codes.iter().filter_map(|code| code.parse().ok()).collect();
                }
                _ => facts.currencies.retain(|currency| supported.contains(*currency)),
            }
            if facts.methods.is_empty() {
                facts.methods = channel.methods().iter().map(ToString::to_string).collect();
            }
        }
    }

    /// The channels whose provider does not know this token, so that it is not shown to them.
    pub(crate) fn refusing(&self, token: Option<&str>) -> Vec<ChannelName> {
        let Some(token) = token else { return Vec::new() };
        let channels = self.channels.load();
        let refusing = channels.iter().filter(|(_, channel)| !channel.takes_token(token));
        refusing.map(|(name, _)| name.clone()).collect()
    }

    /// Whether one of these channels (of all, if none is named) knows this token, of those that take payments. Without any
    /// that is set up it is not the token that is wrong.
    pub(crate) fn any_takes(&self, token: &str, names: &[ChannelName]) -> bool {
        let channels = self.channels.load();
        let takes_payments = |channel: &Arc<dyn Channel>| channel.capabilities().charge;
        let mut asked = channels
            .iter()
            .filter(|(name, channel)| (names.is_empty() || names.contains(name)) && takes_payments(channel))
            .peekable();
        asked.peek().is_none() || asked.any(|(_, channel)| channel.takes_token(token))
    }

    /// One channel.
    pub(crate) fn get(&self, name: &ChannelName) -> Option<Arc<dyn Channel>> {
        self.channels.load().get(name).map(Arc::clone)
    }
}

/// The channel, unless it moves another kind of money than the mode promises.
fn in_mode(name: &str, channel: Arc<dyn Channel>, mode: Mode) -> Result<Arc<dyn Channel>, ChannelsError> {
    match (channel.livemode(), mode) {
        (Some(true), Mode::Sandbox) => Err(ChannelsError::RealMoney(name.to_owned())),
        (Some(false), Mode::Live) => Err(ChannelsError::PlayMoney(name.to_owned())),
        _ => Ok(channel),
    }
}

/// The channel, and what it read to prove itself with, if it did.
fn build_one(
    name: &str,
    config: &ChannelConfig,
    sandbox_urls: &BTreeMap<String, String>,
    variable: &dyn Fn(&str) -> Option<String>,
    clock: &Clock,
) -> Result<(Arc<dyn Channel>, Option<Credentials>), ChannelsError> {
    let channel_name = ChannelName::new(name);
    if config.kind == ChannelKind::Instant {
        return Ok((build(&channel_name, config, "", &Credentials::default(), clock.clone())?, None));
    }
    if config.sandbox {
        let no_address = || ChannelsError::NoAddress(name.to_owned());
        let url = sandbox_urls.get(provider_of(config.kind)).ok_or_else(no_address)?;
        return Ok((build(&channel_name, config, url, &credentials_of(config.kind), clock.clone())?, None));
    }
    let credentials = Credentials::read(&config.credentials, variable)
        .map_err(|source| ChannelsError::Credential { channel: name.to_owned(), source })?;
    let base_url = config.base_url.as_ref().ok_or_else(|| ChannelsError::NoAddress(name.to_owned()))?;
    Ok((build(&channel_name, config, base_url, &credentials, clock.clone())?, Some(credentials)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::router::setup_from_config;
    use crate::domain::time::Timestamp;

    /// Two channels of Stripe's kind, in live mode: `a` is the default, and each has its key in a file.
    fn config(directory: &std::path::Path) -> Config {
        let mut config = Config::embedded().unwrap();
        let mut channel = config.channels.remove("stripe").unwrap();
        (channel.sandbox, channel.base_url) = (false, Some(String::from("https://api.stripe.com")));
        config.channels.clear();
        for name in ["a", "b"] {
            let path = directory.join(name).display().to_string();
            channel.credentials = BTreeMap::from([(String::from("secret_key_file"), path)]);
            config.channels.insert(name.to_owned(), channel.clone());
        }
        config.routing.default_channel = String::from("a");
        (config.mode, config.sandbox) = (Mode::Live, None);
        config
    }

    fn build(config: &Config) -> Result<ChannelSet, ChannelsError> {
        let clock = Clock::manual(Timestamp::from_unix_s(1_737_715_200));
        let variable: Variables = Box::new(|_| None);
        ChannelSet::build(config, BTreeMap::new(), Arc::new(variable), Channels::new(), &clock, &Random::seeded(1))
            .map(|(channels, missing)| ChannelSet::new(channels, missing))
    }

    #[test]
    fn real_and_play_money_do_not_mix() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(directory.path());
        config.channels.remove("b");
        let path = directory.path().join("a");
        for (key, mode, is_right) in [
            ("sk_live_a", Mode::Live, true),
            ("sk_test_a", Mode::Live, false),
            ("rk_test_a", Mode::Live, false),
            ("sk_live_a", Mode::Sandbox, false),
            ("rk_live_a", Mode::Sandbox, false),
            ("sk_test_a", Mode::Sandbox, true),
            ("unheard_of", Mode::Live, true),
        ] {
            std::fs::write(&path, key).unwrap();
            config.mode = mode;
            assert_eq!(build(&config).is_ok(), is_right, "{key} {mode:?}");
        }
        let channel = config.channels.get_mut("a").unwrap();
        channel.kind = ChannelKind::Paypal;
        for name in ["client_id", "client_secret"] {
            channel.credentials.insert(format!("{name}_file"), path.display().to_string());
        }
        for (host, mode, is_right) in [
            ("api-m.paypal.com", Mode::Live, true),
            ("api-m.sandbox.paypal.com", Mode::Live, false),
            ("api-m.paypal.com", Mode::Sandbox, false),
            ("api-m.sandbox.paypal.com", Mode::Sandbox, true),
        ] {
            config.channels.get_mut("a").unwrap().base_url = Some(format!("https://{host}"));
            config.mode = mode;
            assert_eq!(build(&config).is_ok(), is_right, "{host} {mode:?}");
        }
    }

    #[test]
    fn a_channel_without_credentials_is_left_out_until_they_are_there() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        std::fs::write(directory.path().join("a"), "sk_live_a").unwrap();
        let set = build(&config).unwrap();
        let (a, b) = (ChannelName::new("a"), ChannelName::new("b"));
        assert!(set.get(&a).is_some() && set.lacks(&a).is_none());
        assert!(set.get(&b).is_none());
        assert!(set.lacks(&b).unwrap().contains(&directory.path().join("b").display().to_string()));
        let setup = setup_from_config(&config, &set.abilities()).unwrap();
        let with: Vec<bool> = setup.channels.iter().map(|facts| facts.has_credentials).collect();
        assert_eq!(with, [true, false]);
        set.look_again(&config);
        assert!(set.found_since(&setup).is_empty() && set.get(&b).is_none());
        std::fs::write(directory.path().join("b"), "sk_live_b").unwrap();
        set.look_again(&config);
        assert_eq!(set.found_since(&setup), std::slice::from_ref(&b));
        assert!(set.get(&b).is_some() && set.lacks(&b).is_none());
        // One that is there stays, whatever becomes of the file.
        std::fs::remove_file(directory.path().join("b")).unwrap();
        set.look_again(&config);
        assert!(set.get(&b).is_some());
    }

    #[test]
    fn credentials_that_have_changed_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let put = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let (a, b) = (ChannelName::new("a"), ChannelName::new("b"));
        put("a", "sk_live_a");
        let set = build(&config).unwrap();
        assert!(set.with_other_credentials(&config).is_empty(), "what is missing is told as missing");
        put("b", "sk_live_b");
        set.look_again(&config);
        assert!(set.with_other_credentials(&config).is_empty());
        put("a", " sk_live_a\n");
        put("b", "sk_live_c");
        assert_eq!(set.with_other_credentials(&config), [(b.clone(), None)]);
        put("a", "sk_live_b");
        put("b", "sk_live_b");
        assert_eq!(set.with_other_credentials(&config), [(a.clone(), None)]);
        std::fs::remove_file(directory.path().join("a")).unwrap();
        let others = set.with_other_credentials(&config);
        let [(name, Some(CredentialError::File { .. }))] = others.as_slice() else { panic!("{others:?}") };
        assert_eq!(*name, a, "the next start would have none");
        // Nobody waits for what has become a pipe.
        assert!(std::process::Command::new("mkfifo").arg(directory.path().join("a")).status().unwrap().success());
        assert!(set.with_other_credentials(&config).is_empty());
    }

    #[test]
    fn what_is_missing_is_known_while_files_keep_their_reader_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        std::fs::write(directory.path().join("a"), "sk_live_a").unwrap();
        let set = build(&config).unwrap();
        let _reader = set.sources.lock();
        assert!(set.lacks(&ChannelName::new("b")).is_some() && set.get(&ChannelName::new("a")).is_some());
    }

    #[test]
    fn without_the_default_channel_or_any_that_is_enabled_the_start_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(directory.path());
        let refused = |config: &Config| build(config).err().map(|error| error.to_string());
        assert!(refused(&config).is_some_and(|error| error.starts_with("channel a: the file ")));
        std::fs::write(directory.path().join("b"), "sk_live_b").unwrap();
        assert!(refused(&config).is_some_and(|error| error.starts_with("channel a: the file ")), "the default's");
        config.mode = Mode::Sandbox;
        std::fs::write(directory.path().join("b"), "sk_test_b").unwrap();
        assert_eq!(refused(&config), None, "nobody's money");
        config.channels.get_mut("b").unwrap().enabled = false;
        assert!(
            refused(&config).is_some_and(|error| error.starts_with("channel a: the file ")),
            "none that is enabled"
        );
    }
}
