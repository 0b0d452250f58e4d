//! What is written down about a decision: everything it was made from and what came of it, in a form small enough for
//! the payment's row. Names are short and rates are integers for that reason; sentences are made when somebody asks.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::ids::ChannelName;
use crate::domain::money::{Currency, Money};
use crate::domain::routing::breaker::BreakerView;
use crate::domain::routing::choose::{Inputs, Rung, Verdict, choose};
use crate::domain::routing::country::Country;
use crate::domain::routing::eligibility::DroppedBy;
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
    /// The number that that check held against it, where there is one: minor units, payments, or the end in Unix
    /// milliseconds.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<i64>,
    /// What it would take, in minor units of the payment's currency; `None` when that is not known.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub fee_minor: Option<i64>,
    /// Its expected success rate, in parts per million.
    #[serde(rename = "s")]
    pub success_ppm: u32,
    /// Outcomes behind that.
    #[serde(rename = "n")]
    pub samples: u32,
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

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !*value
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
                fee_minor: None,
                success_ppm: 0,
                samples: 0,
                in_flight: 0,
                latency_us: None,
                weight: 1,
                local: false,
                breaker: BreakerView::Closed,
            }],
            steps: Vec::new(),
            adopted: true,
        }
    }

    /// Makes the choice from the record's inputs alone: the verdict and the steps to it. Whatever the table was then,
    /// this gives what was decided.
    pub fn replay(&self) -> (Option<Verdict>, Vec<Step>) {
        let place_of = |name: &ChannelName| self.channels.iter().position(|verdict| verdict.channel == *name);
        let inputs = Inputs {
            mode: self.mode,
            smart: self.smart,
            rules_first: self.rules_first,
            prior: self.prior_outcomes,
            draw: self.draw,
            requested: self.requested.as_ref().map(place_of),
            rule: self.rule.as_ref(),
            default: self.default_place,
            channels: &self.channels,
        };
        let mut steps = Vec::new();
        let verdict = choose(&inputs, &mut steps);
        (verdict, steps)
    }

    /// Decides and writes the result down.
    pub(super) fn conclude(&mut self) -> Option<Verdict> {
        let (verdict, steps) = self.replay();
        self.steps = steps;
        self.rung = verdict.map(|verdict| verdict.rung);
        self.strategy = verdict.and_then(|verdict| verdict.strategy);
        self.chosen = verdict.map(|verdict| verdict.place);
        verdict
    }

    /// The channel that was chosen.
    pub fn chosen_channel(&self) -> Option<&ChannelVerdict> {
        self.channels.get(self.chosen?)
    }

    /// Why, in one sentence.
    pub fn reason(&self) -> String {
        let (Some(rung), Some(chosen)) = (self.rung, self.chosen_channel()) else {
            return self.reason_for_none();
        };
        let name = &chosen.channel;
        if self.adopted {
            return format!("The payment was made again from what {name} has on record, after the store was restored.");
        }
        match (rung, self.strategy) {
            (Rung::Requested, _) => format!("{name} was asked for and can take it."),
            (Rung::Rules, _) => {
                let rule = self.rule.as_ref().map_or("", |rule| &rule.name);
                format!("The rule \"{rule}\" names {name}.")
            }
            (Rung::Default, _) => format!("{name} is the default channel."),
            (Rung::Smart, None) => format!("{name} is the only channel that can take it."),
            (Rung::Smart, Some(Strategy::Geographic)) if self.country_from_address => {
                format!("{name} is local to the payer's country, as known from the payer's address.")
            }
            (Rung::Smart, Some(Strategy::Geographic)) => format!("{name} is local to the payer's country."),
            (Rung::Smart, Some(Strategy::SuccessRate)) => format!(
                "{name} has clearly the best success rate, {}.{} % from {} outcomes.",
                chosen.success_ppm / 10_000,
                chosen.success_ppm / 1_000 % 10,
                chosen.samples
            ),
            (Rung::Smart, Some(Strategy::Cost)) => {
                let fee = Money::new(chosen.fee_minor.unwrap_or(0), self.currency);
                format!("{name} is the cheapest of those left, at a fee of {fee}.")
            }
            (Rung::Smart, Some(Strategy::LoadBalance)) => {
                format!("{name} was drawn by weight and load among channels that are as good.")
            }
        }
    }

    fn reason_for_none(&self) -> String {
        let dropped = |verdict: &ChannelVerdict| {
            let why = verdict.dropped_by.map_or("was not named by any rule or default", DroppedBy::in_words);
            format!("{} {why}", verdict.channel)
        };
        if let Some(requested) = &self.requested {
            let asked_for = self.channels.iter().find(|verdict| verdict.channel == *requested);
            let why = asked_for.map_or_else(|| format!("there is no channel {requested}"), dropped);
            return format!("The channel that was asked for can't take it: {why}.");
        }
        let reasons: Vec<String> = self.channels.iter().map(dropped).collect();
        format!("No channel can take it: {}.", reasons.join(", "))
    }
}
