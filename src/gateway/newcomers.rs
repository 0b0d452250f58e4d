//! Which channels are new: those that were added to an installation that had others already. The names of the others are
//! kept, so that a restart makes no channel a newcomer again.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::actors::router::RouterHandle;
use crate::domain::ids::ChannelName;
use crate::gateway::core::Core;
use crate::storage::record::{Record, decode, encode};
use crate::storage::{Batch, StoreError, keys};

const KEY: &str = "known_channels";
/// How often it is written down that a newcomer is none any more.
const INTERVAL: Duration = Duration::from_secs(60);

/// Names of the channels that are no newcomers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct KnownChannels {
    names: BTreeSet<ChannelName>,
}

impl Record for KnownChannels {
    const NAME: &'static str = "known channels";
}

/// Which of the configured channels are newcomers. The first time that somebody asks, all of them are known. What this goes
/// by only ranks channels: that it can't be read or written keeps no gateway from starting.
pub(crate) async fn open(core: &Core) -> BTreeSet<ChannelName> {
    let configured: BTreeSet<ChannelName> =
        core.config.channels.keys().map(|name| ChannelName::new(name.as_str())).collect();
    let written = match read(core) {
        Ok(Some(known)) => return configured.difference(&known.names).cloned().collect(),
        Ok(None) => write(core, KnownChannels { names: configured }).await,
        Err(error) => Err(error),
    };
    if let Err(error) = written {
        tracing::warn!(%error, "which channels are known is not kept; none counts as a newcomer");
    }
    BTreeSet::new()
}

/// Writes down from time to time which newcomers are none any more. Without one there is nothing to do.
pub(crate) fn start(core: &Core, router: &RouterHandle, newcomers: BTreeSet<ChannelName>) {
    if newcomers.is_empty() {
        return;
    }
    let (core, router) = (core.clone(), router.clone());
    let tasks = core.tasks.clone();
    tasks.spawn(async move {
        let stopping = core.stopping.clone();
        let mut left = newcomers;
        while !left.is_empty() && stopping.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
            note_known(&core, &router, &mut left).await;
        }
        note_known(&core, &router, &mut left).await;
    });
}

async fn note_known(core: &Core, router: &RouterHandle, newcomers: &mut BTreeSet<ChannelName>) {
    let table = router.table();
    let is_new = |name: &ChannelName| table.setup.place_of(name).is_none_or(|place| table.learned[place].is_newcomer());
    let (still_new, known_now): (BTreeSet<_>, BTreeSet<_>) = newcomers.iter().cloned().partition(is_new);
    if known_now.is_empty() {
        return;
    }
    let noted = async {
        let mut known = read(core)?.unwrap_or_default();
        known.names.extend(known_now);
        write(core, known).await
    };
    match noted.await {
        Ok(()) => *newcomers = still_new,
        Err(error) => tracing::warn!(%error, "that a channel is known now could not be written down yet"),
    }
}

fn read(core: &Core) -> Result<Option<KnownChannels>, StoreError> {
    core.store.get(&keys::installation(KEY))?.map(|stored| decode(&stored.value)).transpose()
}

async fn write(core: &Core, known: KnownChannels) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    batch.put(keys::installation(KEY), encode(&known)?);
    core.store.commit(batch).await.map(drop)
}
