//! What a router leaves to the next process: how channels are doing, and what went through them in the last days.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::actors::router::live::{ChannelLive, DayCount};
use crate::domain::ids::ChannelName;
use crate::domain::routing::{ChannelFacts, ChannelHealth, RoutingSetup, RoutingTable, SavedHealth};
use crate::domain::time::Monotonic;

/// All channels, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedRouter {
    /// The table that it was taken from, and how many payments had begun then.
    #[serde(skip)]
    as_of: (u64, u64),
    channels: BTreeMap<ChannelName, SavedChannel>,
}

/// One channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedChannel {
    #[serde(default)]
    health: SavedHealth,
    #[serde(default)]
    days: Vec<DayCount>,
}

impl SavedRouter {
    pub(super) fn of(table: &RoutingTable, live: &[Arc<ChannelLive>], now: Monotonic) -> Self {
        let saved = |((facts, health), live): ((&ChannelFacts, &ChannelHealth), &Arc<ChannelLive>)| {
            (facts.name.clone(), SavedChannel { health: health.save(now), days: live.days() })
        };
        let begun = live.iter().map(|live| live.counted_total()).sum();
        Self {
            as_of: (table.version, begun),
            channels: table.setup.channels.iter().zip(&table.health).zip(live).map(saved).collect(),
        }
    }

    /// Whether nothing happened between the two, of the same router, but that time passed.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.as_of == other.as_of
    }

    /// The channels of a setup as they were left `passed` ago; what is not known starts afresh.
    pub(super) fn restore(
        &self,
        setup: &RoutingSetup,
        passed: Duration,
        now: Monotonic,
    ) -> (Vec<ChannelHealth>, Vec<Arc<ChannelLive>>) {
        let restored = setup.channels.iter().enumerate().map(|(place, facts)| {
            let live = Arc::<ChannelLive>::default();
            let Some(saved) = self.channels.get(&facts.name) else { return (ChannelHealth::default(), live) };
            live.resume_days(&saved.days);
            (ChannelHealth::restore(&saved.health, passed, &setup.health_at(place), now), live)
        });
        restored.unzip()
    }
}
