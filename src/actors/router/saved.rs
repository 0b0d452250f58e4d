//! What a router leaves to the next process: how channels are doing, and what went through them in the last days.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::actors::router::live::{ChannelLive, DayCount};
use crate::domain::ids::ChannelName;
use crate::domain::routing::{ChannelFacts, ChannelHealth, Learned, RoutingTable, SavedHealth, SavedLearned};
use crate::domain::time::Monotonic;

/// All channels, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedRouter {
    /// The table that it was taken from, and how many payments had begun then.
    #[serde(skip)]
    as_of: (u64, u64),
    /// The store's last commit when the days' counts had everything that was stored, and nothing could follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    complete_at: Option<u64>,
    channels: BTreeMap<ChannelName, SavedChannel>,
}

/// One channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedChannel {
    #[serde(default)]
    health: SavedHealth,
    #[serde(default)]
    learned: SavedLearned,
    #[serde(default)]
    days: Vec<DayCount>,
}

impl SavedRouter {
    pub(super) fn of(table: &RoutingTable, live: &[Arc<ChannelLive>], now: Monotonic) -> Self {
        let saved = |(place, facts): (usize, &ChannelFacts)| {
            let (health, learned) = (table.health[place].save(now), table.learned[place].save(now));
            (facts.name.clone(), SavedChannel { health, learned, days: live[place].days() })
        };
        let begun = live.iter().map(|live| live.counted_total()).sum();
        let channels = table.setup.channels.iter().enumerate().map(saved).collect();
        Self { as_of: (table.version, begun), complete_at: None, channels }
    }

    /// Says that the days' counts have everything that was stored up to this commit, the last one.
    #[must_use]
    pub fn complete_at(self, commit: Option<u64>) -> Self {
        Self { complete_at: commit, ..self }
    }

    /// Whether the days' counts have everything that is in a store whose last commit is this.
    pub fn is_complete_at(&self, commit: u64) -> bool {
        self.complete_at == Some(commit)
    }

    /// Whether nothing happened between the two, of the same router, but that time passed.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.as_of == other.as_of
    }

    /// Goes on in a table and its counters from what was left `passed` ago; what is not known starts afresh.
    pub(super) fn restore(
        &self,
        table: &mut RoutingTable,
        live: &[Arc<ChannelLive>],
        passed: Duration,
        now: Monotonic,
    ) {
        let setup = Arc::clone(&table.setup);
        for (place, facts) in setup.channels.iter().enumerate() {
            let Some(saved) = self.channels.get(&facts.name) else { continue };
            let settings = setup.health_at(place);
            live[place].resume_days(&saved.days);
            table.health[place] = ChannelHealth::restore(&saved.health, passed, &settings, now);
            table.learned[place] = Arc::new(Learned::restore(&saved.learned, passed, &settings.approvals, now));
        }
    }
}
