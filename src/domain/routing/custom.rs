//! Strategies of whoever embeds the gateway. They take their place among the built-in four by priority, and are pure as
//! those are: the same request and candidates, the same answer.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::ids::ChannelName;
use crate::domain::routing::decide::RouteRequest;
use crate::domain::routing::record::ChannelVerdict;
use crate::domain::routing::set::ChannelSet;
use crate::domain::routing::strategies::Strategy;

/// Most strategies that can be registered.
pub const CUSTOM_STRATEGIES_MAX: usize = 8;
/// Longest name of a strategy, so that records stay small.
const NAME_BYTES_MAX: usize = 32;

/// A way to prefer some channels over others, made by whoever embeds the gateway.
///
/// It is asked in every decision in which more than one channel is left when its turn comes, in the caller's task: it has
/// to be quick, and to go by its arguments alone (no clock, no random numbers, no state), or a decision could not be made
/// again. What it said is written into the decision's record. If it panics it is passed over for that decision.
pub trait RoutingStrategy: Send + Sync {
    /// Shown in decisions and as `routing.strategy`: 1 to 32 lower-case letters, digits and `_`.
    fn name(&self) -> &str;

    /// Its place: geographic has 90, success rate 80, cost 50, load balance 30. The strategy that a mode puts first stays
    /// first, and load balance always leaves one channel, so that one of 30 or below is never asked. Among equals the built-in
    /// one is asked first, then in the order of registration.
    fn priority(&self) -> u8;

    /// The candidates that it keeps. None at all, or others than were given, means that it abstains.
    fn narrow(&self, request: &RouteRequest<'_>, candidates: &Candidates<'_>) -> ChannelSet;
}

/// The channels that are left when a strategy's turn comes.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    set: ChannelSet,
    channels: &'a [ChannelVerdict],
}

impl<'a> Candidates<'a> {
    /// Their places in the table.
    pub const fn set(&self) -> ChannelSet {
        self.set
    }

    /// Each with its place and everything that the decision knows about it.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &'a ChannelVerdict)> {
        let channels = self.channels;
        self.set.iter().filter_map(move |place| Some((place, channels.get(place)?)))
    }

    /// The one with this name, if it is among them, as a set.
    pub fn named(&self, name: &ChannelName) -> ChannelSet {
        self.iter().filter(|(_, channel)| channel.channel == *name).map(|(place, _)| place).collect()
    }
}

/// Why strategies can't be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStrategy {
    /// There are more than are taken.
    #[error("at most {CUSTOM_STRATEGIES_MAX} strategies can be registered")]
    TooMany,
    /// A name can't be shown.
    #[error("the strategy's name {0:?} is not 1 to {NAME_BYTES_MAX} lower-case letters, digits and _")]
    Name(String),
    /// A name is taken, by a built-in strategy or another one.
    #[error("there is a strategy {0} already")]
    Taken(String),
}

struct Registered {
    name: Arc<str>,
    priority: u8,
    strategy: Arc<dyn RoutingStrategy>,
}

/// The strategies of whoever embeds the gateway, in the order in which they are asked. Cheap to clone.
#[derive(Clone, Default)]
pub struct CustomStrategies(Arc<[Registered]>);

impl CustomStrategies {
    /// Takes these in.
    ///
    /// # Errors
    /// [`InvalidStrategy`].
    pub fn register(strategies: Vec<Arc<dyn RoutingStrategy>>) -> Result<Self, InvalidStrategy> {
        if strategies.len() > CUSTOM_STRATEGIES_MAX {
            return Err(InvalidStrategy::TooMany);
        }
        let mut registered: Vec<Registered> = Vec::with_capacity(strategies.len());
        for strategy in strategies {
            let name: Arc<str> = Arc::from(strategy.name());
            let is_sound = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'_';
            if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_sound) {
                return Err(InvalidStrategy::Name(name.to_string()));
            }
            let is_taken = Strategy::BUILT_IN.iter().any(|built_in| built_in.as_str() == &*name)
                || registered.iter().any(|other| other.name == name);
            if is_taken {
                return Err(InvalidStrategy::Taken(name.to_string()));
            }
            registered.push(Registered { name, priority: strategy.priority(), strategy });
        }
        registered.sort_by_key(|one| std::cmp::Reverse(one.priority));
        Ok(Self(registered.into()))
    }

    /// Their priorities, in the order in which they are asked.
    pub(super) fn priorities(&self) -> impl Iterator<Item = u8> {
        self.0.iter().map(|one| one.priority)
    }

    /// What one of them says.
    pub(super) fn ask(
        &self,
        index: usize,
        request: &RouteRequest<'_>,
        set: ChannelSet,
        channels: &[ChannelVerdict],
    ) -> Option<CustomVerdict> {
        let Registered { name, priority, strategy } = self.0.get(index)?;
        let candidates = Candidates { set, channels };
        let said = catch_unwind(AssertUnwindSafe(|| strategy.narrow(request, &candidates)));
        let panicked = said.is_err();
        let kept = said.ok().filter(|kept| !kept.is_empty() && kept.without(set).is_empty() && *kept != set);
        Some(CustomVerdict { name: Arc::clone(name), priority: *priority, kept, panicked })
    }
}

impl fmt::Debug for CustomStrategies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|one| (&one.name, one.priority))).finish()
    }
}

/// What a strategy of an embedding program said, so that the decision can be made again without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomVerdict {
    /// Its name.
    #[serde(rename = "n")]
    pub name: Arc<str>,
    /// Its priority.
    #[serde(rename = "p")]
    pub priority: u8,
    /// The channels that it kept; `None` when it abstained.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<ChannelSet>,
    /// Whether it panicked and was passed over.
    #[serde(rename = "x", default, skip_serializing_if = "std::ops::Not::not")]
    pub panicked: bool,
}
