//! The ladder: from the channels with their verdicts to one of them. Needs nothing but what a decision record holds, so
//! that a record can be decided again.

use serde::{Deserialize, Serialize};

use crate::domain::routing::eligibility::DroppedBy;
use crate::domain::routing::record::{ChannelVerdict, RuleMatch, Step};
use crate::domain::routing::set::ChannelSet;
use crate::domain::routing::strategies::{RoutingMode, Strategy, explored, without_newcomers};

/// Which rung of the ladder decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// The merchant asked for this channel.
    Requested,
    /// The strategies.
    Smart,
    /// A line of the rule table.
    Rules,
    /// The default channel.
    Default,
}

impl Rung {
    /// The name as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Smart => "smart",
            Self::Rules => "rules",
            Self::Default => "default",
        }
    }
}

/// Who won and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The rung that decided.
    pub rung: Rung,
    /// The strategy that left one channel; `None` where no strategy had to.
    pub strategy: Option<Strategy>,
    /// The winner's place.
    pub place: usize,
}

/// What the ladder is climbed with.
pub(super) struct Inputs<'a> {
    pub mode: RoutingMode,
    pub smart: bool,
    pub rules_first: bool,
    pub prior: u32,
    pub draw: u64,
    pub amount_minor: i64,
    pub failed_payment_cost_ppm: u32,
    pub newcomer_share_percent: u8,
    pub explore_percent: u8,
    /// The turn, where load is balanced in turn.
    pub turn: Option<u64>,
    /// The place of the channel asked for; `Some(None)` when one was asked for that is not there.
    pub requested: Option<Option<usize>>,
    pub rule: Option<&'a RuleMatch>,
    pub default: Option<usize>,
    pub channels: &'a [ChannelVerdict],
}

impl Inputs<'_> {
    /// Whether a rung of the ladder can name the channel at a place at all, be it eligible or not.
    pub(super) fn may_name(&self, place: usize) -> bool {
        if let Some(requested) = self.requested {
            return requested == Some(place);
        }
        let by_rule = || self.rule.is_some_and(|rule| rule.places.contains(&place));
        self.smart || by_rule() || self.default == Some(place)
    }
}

/// Asks the strategies of whoever embeds the gateway, or looks up what they said.
pub(super) trait AskCustom {
    /// Their priorities, highest first.
    fn priorities(&self) -> impl Iterator<Item = u8>;

    /// What one of them keeps of a set; the set where it abstains.
    fn ask(&mut self, index: usize, set: ChannelSet, channels: &[ChannelVerdict]) -> ChannelSet;
}

/// Climbs the ladder. Each strategy that was asked leaves its step in `steps`.
pub(super) fn choose(inputs: &Inputs<'_>, custom: &mut impl AskCustom, steps: &mut Vec<Step>) -> Option<Verdict> {
    let eligible: ChannelSet =
        (0..inputs.channels.len()).filter(|place| inputs.channels[*place].dropped_by.is_none()).collect();
    let on = |rung: Rung, place: Option<usize>| {
        place.filter(|place| eligible.contains(*place)).map(|place| Verdict { rung, strategy: None, place })
    };
    if let Some(requested) = inputs.requested {
        return on(Rung::Requested, requested);
    }
    let ladder = if inputs.rules_first {
        [Rung::Rules, Rung::Smart, Rung::Default]
    } else {
        [Rung::Smart, Rung::Rules, Rung::Default]
    };
    for rung in ladder {
        let verdict = match rung {
            Rung::Smart if inputs.smart => by_strategies(inputs, eligible, custom, steps),
            Rung::Rules => {
                let named = inputs.rule.and_then(|rule| rule.places.iter().find(|place| eligible.contains(**place)));
                on(Rung::Rules, named.copied())
            }
            Rung::Default => on(Rung::Default, inputs.default),
            Rung::Smart | Rung::Requested => None,
        };
        if verdict.is_some() {
            return verdict;
        }
    }
    last_resort(inputs, ladder)
}

/// Where all channels that the ladder could name and that could take it are dropped by a breaker that is open, or that lets
/// another payment try, and by nothing else, the one that is due first takes it: the last channel is never left out. A
/// channel that is up and has no room at this moment is worth coming back for; so is none when the payment was elsewhere
/// already. Channels that will not take it today, such as one being maintained, count for nothing.
fn last_resort(inputs: &Inputs<'_>, ladder: [Rung; 3]) -> Option<Verdict> {
    use DroppedBy::{BreakerOpen, InFlightMax, PerSecond, ProbeTaken, Tried};
    let named_by_rule = inputs.rule.map_or(&[][..], |rule| rule.places.as_slice());
    let mut open = ChannelSet::default();
    for (place, verdict) in inputs.channels.iter().enumerate() {
        if verdict.dropped_by == Some(Tried) {
            return None;
        }
        if !inputs.may_name(place) {
            continue;
        }
        match verdict.dropped_by {
            Some(BreakerOpen | ProbeTaken) => open.insert(place),
            None | Some(InFlightMax | PerSecond) => return None,
            Some(_) => {}
        }
    }
    let due_first = || open.iter().min_by_key(|place| inputs.channels[*place].bound);
    ladder.into_iter().find_map(|rung| {
        let place = match rung {
            Rung::Smart if inputs.smart => due_first(),
            Rung::Rules => named_by_rule.iter().copied().find(|place| open.contains(*place)),
            Rung::Default => inputs.default.filter(|place| open.contains(*place)),
            Rung::Smart | Rung::Requested => None,
        };
        place.map(|place| Verdict { rung, strategy: None, place })
    })
}

fn by_strategies(
    inputs: &Inputs<'_>,
    eligible: ChannelSet,
    custom: &mut impl AskCustom,
    steps: &mut Vec<Step>,
) -> Option<Verdict> {
    let mut left = eligible;
    let mut decided_by = None;
    let mut take = |strategy: Strategy, before: ChannelSet, after: ChannelSet| {
        steps.push(Step { strategy, before, after });
        decided_by = Some(strategy);
        after
    };
    if let Some(known) = without_newcomers(left, inputs) {
        left = take(Strategy::Newcomers, left, known);
    }
    let (order, asked) = inputs.mode.order_with(custom.priorities());
    for strategy in order.into_iter().take(asked) {
        if left.len() <= 1 {
            break;
        }
        let before = left;
        let kept = match strategy {
            Strategy::Custom(index) => custom.ask(usize::from(index), before, inputs.channels),
            _ => strategy.narrow(before, inputs),
        };
        left = take(strategy, before, kept);
        if strategy == Strategy::SuccessRate
            && let Some(one) = explored(before, kept, inputs)
        {
            left = take(Strategy::Explore, before, one);
        }
    }
    left.first().map(|place| Verdict { rung: Rung::Smart, strategy: decided_by, place })
}
