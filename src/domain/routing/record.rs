//! What is written down about a decision: everything it was made from and what came of it, in a form small enough for
//! the payment's row. Names are short and rates are integers for that reason; sentences are made when somebody asks.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::ids::ChannelName;
use crate::domain::money::Currency;
use crate::domain::routing::breaker::BreakerView;
use crate::domain::routing::choose::{AskCustom, Inputs, Rung, Verdict, choose};
use crate::domain::routing::country::Country;
use crate::domain::routing::custom::{CustomStrategies, CustomVerdict};
use crate::domain::routing::decide::RouteRequest;
use crate::domain::routing::eligibility::DroppedBy;
use crate::domain::routing::segments::Segment;
use crate::domain::routing::set::ChannelSet;
use crate::domain::routing::strategies::{RoutingMode, Strategy};

/// One channel as the decision saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelVerdict {
    /// Its name.
    #[serde(rename = "c")]
    pub channel: ChannelName,
    /// Why it was not considered; `None` when it was.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub dropped_by: Option<DroppedBy>,
    /// The number that that check held against it, where there is one: minor units, payments, or the end of a breaker's
    /// open time or of a maintenance in Unix milliseconds.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<i64>,
    /// What it had instead, where that is a number and stands nowhere else in the record.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub value: Option<i64>,
    /// The currency of both where they are money of another than the payment's: the settlement currency of a day's cap.
    #[serde(rename = "oc", default, skip_serializing_if = "Option::is_none")]
    pub bound_currency: Option<Currency>,
    /// What it would take, in minor units of the payment's currency; `None` when that is not known.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub fee_minor: Option<i64>,
    /// Its expected success rate, in parts per million.
    #[serde(rename = "s")]
    pub success_ppm: u32,
    /// Outcomes behind that.
    #[serde(rename = "n")]
    pub samples: u32,
    /// The number of equally weighed outcomes that say as much; as many as `samples` when absent.
    #[serde(rename = "se", default, skip_serializing_if = "Option::is_none")]
    pub effective_samples: Option<u32>,
    /// How special they are: 0 all of the channel, 1 those of the method, 2 and currency, 3 and payer's country.
    #[serde(rename = "sl", default, skip_serializing_if = "is_zero")]
    pub level: u8,
    /// How much of `explore_percent` a look at it is worth, in parts per million: of those that may be left out for their
    /// success rate.
    #[serde(rename = "lk", default, skip_serializing_if = "is_nothing")]
    pub worth_a_look_ppm: u32,
    /// Whether too little is known about it to let it take many payments.
    #[serde(rename = "nc", default, skip_serializing_if = "is_false")]
    pub newcomer: bool,
    /// Payments in flight on it.
    #[serde(rename = "i")]
    pub in_flight: u32,
    /// Its average latency in microseconds; `None` when nothing was measured.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u32>,
    /// Its share of load among equals.
    #[serde(rename = "w")]
    pub weight: u32,
    /// Whether it is local to the payer's country.
    #[serde(rename = "g", default, skip_serializing_if = "is_false")]
    pub local: bool,
    /// Its breaker.
    #[serde(rename = "b", default, skip_serializing_if = "is_closed")]
    pub breaker: BreakerView,
}

impl ChannelVerdict {
    /// The number of equally weighed outcomes that its success rate stands on.
    pub fn effective(&self) -> u32 {
        self.effective_samples.unwrap_or(self.samples)
    }

    /// Whether a payment that goes here is the one that tries whether the channel is well again.
    pub(super) fn is_probe(&self) -> bool {
        self.breaker == BreakerView::HalfOpen && self.dropped_by.is_none()
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(value: &u8) -> bool {
    *value == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_nothing(value: &u32) -> bool {
    *value == 0
}

fn is_closed(breaker: &BreakerView) -> bool {
    *breaker == BreakerView::Closed
}

/// The line of the rule table that fits the payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleMatch {
    /// Names it for good.
    #[serde(rename = "i", default)]
    pub id: Arc<str>,
    /// Its name.
    #[serde(rename = "r")]
    pub name: Arc<str>,
    /// Where the payment stands among those of a rule that splits, in hundredths of a percent.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub point: Option<u32>,
    /// Places of its channels, in the order of preference.
    #[serde(rename = "p")]
    pub places: Vec<usize>,
}

/// What one strategy left of what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The strategy.
    #[serde(rename = "y")]
    pub strategy: Strategy,
    /// The channels before it.
    #[serde(rename = "b")]
    pub before: ChannelSet,
    /// The channels it kept; the same as before when it abstained.
    #[serde(rename = "a")]
    pub after: ChannelSet,
}

/// A decision with everything it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Version of the table.
    #[serde(rename = "v")]
    pub table_version: u64,
    /// Version of the operator's part of it.
    #[serde(rename = "u", default)]
    pub setup_version: u64,
    /// The random draw.
    #[serde(rename = "x")]
    pub draw: u64,
    /// Order of the strategies.
    #[serde(rename = "m")]
    pub mode: RoutingMode,
    /// Whether strategies were asked at all.
    #[serde(rename = "sm")]
    pub smart: bool,
    /// Whether the rule table was asked before the strategies.
    #[serde(rename = "rf", default, skip_serializing_if = "is_false")]
    pub rules_first: bool,
    /// Weight of the prior in outcomes.
    #[serde(rename = "k")]
    pub prior_outcomes: u32,
    /// What a payment that does not go through was taken to cost, in millionths of its amount.
    #[serde(rename = "fc", default)]
    pub failed_payment_cost_ppm: u32,
    /// The share of payments that newcomers may have, in percent.
    #[serde(rename = "nw", default, skip_serializing_if = "is_zero")]
    pub newcomer_share_percent: u8,
    /// The share of payments that went to channels that ranked lower, in percent.
    #[serde(rename = "ex", default, skip_serializing_if = "is_zero")]
    pub explore_percent: u8,
    /// Whose turn it was, where load was balanced in turn.
    #[serde(rename = "tu", default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<u64>,
    /// What strategies of an embedding program said, in the order in which they were asked.
    #[serde(rename = "cu", default, skip_serializing_if = "Vec::is_empty")]
    pub custom: Vec<CustomVerdict>,
    /// Currency of the payment and the fees.
    #[serde(rename = "cur")]
    pub currency: Currency,
    /// The payment's amount in minor units.
    #[serde(rename = "am", default)]
    pub amount_minor: i64,
    /// The payer's country, if it was known.
    #[serde(rename = "co", default, skip_serializing_if = "Option::is_none")]
    pub country: Option<Country>,
    /// Whether it was found out from the payer's address.
    #[serde(rename = "ca", default, skip_serializing_if = "is_false")]
    pub country_from_address: bool,
    /// The method asked for.
    #[serde(rename = "me", default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The channel that was asked for by name.
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<ChannelName>,
    /// The rule that fits, whether or not it was needed.
    #[serde(rename = "ru", default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleMatch>,
    /// Place of the default channel.
    #[serde(rename = "df", default, skip_serializing_if = "Option::is_none")]
    pub default_place: Option<usize>,
    /// The rung that decided; `None` when none could.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub rung: Option<Rung>,
    /// The strategy that decided, if one had to.
    #[serde(rename = "y", default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Place of the channel that was chosen.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<usize>,
    /// Every channel, eligible or not.
    #[serde(rename = "ch")]
    pub channels: Vec<ChannelVerdict>,
    /// What each strategy did.
    #[serde(rename = "st", default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// The decision itself is lost: its payment was made again from what the provider has on record.
    #[serde(rename = "ad", default, skip_serializing_if = "is_false")]
    pub adopted: bool,
    /// All channels that could take it were being left alone after failures; the one that was due first took it.
    #[serde(rename = "al", default, skip_serializing_if = "is_false")]
    pub all_down: bool,
}

impl DecisionRecord {
    /// What stands in place of the decision of a payment that was made again from what `channel` has on record.
    pub fn adopted(channel: ChannelName, currency: Currency) -> Self {
        Self {
            table_version: 0,
            setup_version: 0,
            draw: 0,
            mode: RoutingMode::Balanced,
            smart: false,
            rules_first: false,
            prior_outcomes: 0,
            failed_payment_cost_ppm: 0,
            newcomer_share_percent: 0,
            explore_percent: 0,
            turn: None,
            custom: Vec::new(),
            currency,
            amount_minor: 0,
            country: None,
            country_from_address: false,
            method: None,
            requested: Some(channel.clone()),
            rule: None,
            default_place: None,
            rung: Some(Rung::Requested),
            strategy: None,
            chosen: Some(0),
            channels: vec![ChannelVerdict {
                channel,
                dropped_by: None,
                bound: None,
                value: None,
                bound_currency: None,
                fee_minor: None,
                success_ppm: 0,
                samples: 0,
                effective_samples: None,
                level: 0,
                worth_a_look_ppm: 0,
                newcomer: false,
                in_flight: 0,
                latency_us: None,
                weight: 1,
                local: false,
                breaker: BreakerView::Closed,
            }],
            steps: Vec::new(),
            adopted: true,
            all_down: false,
        }
    }

    /// Makes the choice from the record's inputs alone: the verdict and the steps to it. Whatever the table was then,
    /// this gives what was decided.
    pub fn replay(&self) -> (Option<Verdict>, Vec<Step>) {
        self.choose(&mut Remembered(&self.custom))
    }

    fn choose(&self, custom: &mut impl AskCustom) -> (Option<Verdict>, Vec<Step>) {
        let mut steps = Vec::new();
        let verdict = choose(&self.inputs(), custom, &mut steps);
        (verdict, steps)
    }

    /// What the ladder is climbed with.
    pub(super) fn inputs(&self) -> Inputs<'_> {
        let place_of = |name: &ChannelName| self.channels.iter().position(|verdict| verdict.channel == *name);
        Inputs {
            mode: self.mode,
            smart: self.smart,
            rules_first: self.rules_first,
            prior: self.prior_outcomes,
            draw: self.draw,
            amount_minor: self.amount_minor,
            failed_payment_cost_ppm: self.failed_payment_cost_ppm,
            newcomer_share_percent: self.newcomer_share_percent,
            explore_percent: self.explore_percent,
            turn: self.turn,
            requested: self.requested.as_ref().map(place_of),
            rule: self.rule.as_ref(),
            default: self.default_place,
            channels: &self.channels,
        }
    }

    /// Decides and writes the result down.
    pub(super) fn conclude(&mut self, custom: &CustomStrategies, request: &RouteRequest<'_>) -> Option<Verdict> {
        let mut asking = Asking { custom, request, said: Vec::new() };
        let (verdict, steps) = self.choose(&mut asking);
        self.custom = asking.said;
        self.note(verdict, steps)
    }

    /// Decides again with another turn.
    pub(super) fn take_turn(&mut self, turn: u64) -> Option<Verdict> {
        self.turn = Some(turn);
        self.decide_again()
    }

    /// Decides again from what the record holds, and writes the result down.
    pub(super) fn decide_again(&mut self) -> Option<Verdict> {
        let (verdict, steps) = self.replay();
        self.note(verdict, steps)
    }

    /// Whether making the decision again from the record alone gives what was decided.
    pub fn is_reproduced(&self) -> bool {
        let (verdict, steps) = self.replay();
        let again = (
            verdict.map(|verdict| verdict.place),
            verdict.map(|verdict| verdict.rung),
            verdict.and_then(|verdict| verdict.strategy),
        );
        (again, &steps) == ((self.chosen, self.rung, self.strategy), &self.steps)
    }

    fn note(&mut self, verdict: Option<Verdict>, steps: Vec<Step>) -> Option<Verdict> {
        self.steps = steps;
        self.rung = verdict.map(|verdict| verdict.rung);
        self.strategy = verdict.and_then(|verdict| verdict.strategy);
        self.chosen = verdict.map(|verdict| verdict.place);
        self.all_down = self.chosen_channel().is_some_and(|chosen| chosen.dropped_by.is_some());
        verdict
    }

    /// The kind of payments that it was one of.
    pub fn segment(&self) -> Segment {
        Segment::new(self.method.as_deref(), self.currency, self.country)
    }

    /// The name of a strategy of this decision.
    pub fn name_of(&self, strategy: Strategy) -> &str {
        match strategy {
            Strategy::Custom(index) => {
                self.custom.get(usize::from(index)).map_or(strategy.as_str(), |verdict| &verdict.name)
            }
            _ => strategy.as_str(),
        }
    }

    /// The name of the strategy that decided, if one had to.
    pub fn strategy_name(&self) -> Option<&str> {
        self.strategy.map(|strategy| self.name_of(strategy))
    }

    /// The name by which the strategy that decided is known outside: the few payments of newcomers and those that explore are
    /// the success rate's doing, and the steps say which of these it was.
    pub fn strategy_outside(&self) -> Option<&str> {
        self.strategy.map(|strategy| match strategy {
            Strategy::Newcomers | Strategy::Explore => Strategy::SuccessRate.as_str(),
            _ => self.name_of(strategy),
        })
    }

    /// The set among which load was balanced in turn, if that was how it was decided.
    pub(crate) fn taken_in_turn(&self) -> Option<ChannelSet> {
        self.turn?;
        self.steps.iter().find(|step| step.strategy == Strategy::LoadBalance).map(|step| step.before)
    }

    /// The channel that was chosen.
    pub fn chosen_channel(&self) -> Option<&ChannelVerdict> {
        self.channels.get(self.chosen?)
    }
}

/// Asks the strategies and keeps what they say.
struct Asking<'a> {
    custom: &'a CustomStrategies,
    request: &'a RouteRequest<'a>,
    said: Vec<CustomVerdict>,
}

impl AskCustom for Asking<'_> {
    fn priorities(&self) -> impl Iterator<Item = u8> {
        self.custom.priorities()
    }

    fn ask(&mut self, index: usize, set: ChannelSet, channels: &[ChannelVerdict]) -> ChannelSet {
        let Some(said) = self.custom.ask(index, self.request, set, channels) else { return set };
        let kept = said.kept.unwrap_or(set);
        self.said.push(said);
        kept
    }
}

/// What they said when the decision was made. Those that were not asked then are not asked now either.
struct Remembered<'a>(&'a [CustomVerdict]);

impl AskCustom for Remembered<'_> {
    fn priorities(&self) -> impl Iterator<Item = u8> {
        self.0.iter().map(|verdict| verdict.priority)
    }

    fn ask(&mut self, index: usize, set: ChannelSet, _channels: &[ChannelVerdict]) -> ChannelSet {
        // A channel that was lost to others since is kept by nobody.
        let kept = self.0.get(index).and_then(|verdict| verdict.kept).map(|kept| kept.and(set));
        kept.filter(|kept| !kept.is_empty()).unwrap_or(set)
    }
}
