//! What a gateway stands on and does not make by itself: the store, the master key, small files, the channels and the
//! sender of webhooks. [`super::Gateway::open`] makes them as the configuration says; whoever has others hands them to
//! [`super::Gateway::assemble`]. And what is added to what it makes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::channels::Channel;
use crate::config::Config;
use crate::delivery::Deliver;
use crate::domain::ids::ChannelName;
use crate::domain::routing::RoutingStrategy;
use crate::gateway::admin_tokens::AdminToken;
use crate::gateway::{Environment, Gateway, OpenError};
use crate::random::Random;
use crate::storage::Store;
use crate::storage::key_file::KeyFile;
use crate::storage::vault::{Vault, VaultError};
use crate::storage::whole_file::WholeFiles;

/// What a program that embeds the gateway adds to it ([`super::Gateway::open_with`]).
#[derive(Default)]
pub struct Extensions {
    /// Channels, by the names that they have in the configuration; their kind there is `custom`.
    pub channels: BTreeMap<ChannelName, Arc<dyn Channel>>,
    /// Strategies that take their place among the built-in ones when channels are chosen.
    pub strategies: Vec<Arc<dyn RoutingStrategy>>,
}

impl Gateway {
    /// A gateway as [`Gateway::open`] makes it, with strategies that take their place among the built-in ones when channels
    /// are chosen.
    ///
    /// # Errors
    /// As for [`Gateway::open_with`].
    pub async fn open_with_strategies(
        config: Config,
        environment: Environment,
        strategies: Vec<Arc<dyn RoutingStrategy>>,
    ) -> Result<Self, OpenError> {
        Self::open_with(config, environment, Extensions { strategies, ..Extensions::default() }).await
    }

    /// A gateway as [`Gateway::open`] makes it, with channels of the embedding program's own, by the names that they have in
    /// the configuration. Their kind there is `custom` ([`Config::validate_with`]).
    ///
    /// # Errors
    /// As for [`Gateway::open_with`].
    pub async fn open_with_channels(
        config: Config,
        environment: Environment,
        channels: BTreeMap<ChannelName, Arc<dyn Channel>>,
    ) -> Result<Self, OpenError> {
        Self::open_with(config, environment, Extensions { channels, ..Extensions::default() }).await
    }
}

/// See the module.
pub struct Outside {
    /// Where everything durable is.
    pub store: Arc<dyn Store>,
    /// What secrets in the store are encrypted with.
    pub master_key: MasterKey,
    /// Where merchants' windows are written down. They are no money, and may be lost.
    pub windows: Arc<dyn WholeFiles>,
    /// Where work is done that waits for a disk.
    pub disk_work: DiskWork,
    /// The channels, by the names that they have in the configuration.
    pub channels: BTreeMap<ChannelName, Arc<dyn Channel>>,
    /// Sends webhooks.
    pub deliver: Arc<dyn Deliver>,
    /// The operator's tokens.
    pub admin_tokens: Vec<AdminToken>,
}

/// Where the master key is.
#[derive(Clone)]
pub enum MasterKey {
    /// In this file, which is made with the installation.
    File(KeyFile),
    /// Somebody else keeps it.
    Given([u8; 32]),
}

impl MasterKey {
    /// The vault that it opens.
    ///
    /// # Errors
    /// [`VaultError`] when the file can't be used, or is missing although `encrypted_records_exist`.
    pub(super) fn open(&self, encrypted_records_exist: bool, random: Random) -> Result<Vault, VaultError> {
        match self {
            Self::File(file) => Vault::open(file, encrypted_records_exist, random),
            Self::Given(key) => Ok(Vault::with_key(key, random)),
        }
    }

    /// The file that it is in, if it is in one.
    pub(super) fn file(&self) -> Option<&KeyFile> {
        match self {
            Self::File(file) => Some(file),
            Self::Given(_) => None,
        }
    }
}

/// Where work is done that waits for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskWork {
    /// In threads of the runtime that are there for it.
    Threads,
    /// Where it comes up: for stores and files that never wait, such as those in memory.
    InPlace,
}

impl DiskWork {
    /// Does `work`.
    ///
    /// # Errors
    /// When its thread panicked, in words.
    pub(super) async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        match self {
            Self::Threads => tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string()),
            Self::InPlace => Ok(work()),
        }
    }
}
