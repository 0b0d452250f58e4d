//! Decisions for people: everything that a decision record holds, with names that can be read, the numbers that each
//! strategy went by, and sentences.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::fees::Percent;
use crate::domain::language::Language;
use crate::domain::money::Money;
use crate::domain::outcome::DeclineScope;
use crate::domain::payment::{Attempt, AttemptOutcome};
use crate::domain::routing::{
    ChannelSet, ChannelVerdict, DecisionRecord, DroppedBy, Margin, NoChannel, Step, Strategy,
};
use crate::domain::time::Timestamp;
use crate::gateway::view::FeeView;

/// Parts per million of the whole.
const PPM: f64 = 1_000_000.0;
/// What a success rate stands on, by level.
const LEVELS: [&str; 4] = ["channel", "method", "currency", "country"];

/// Where a payment goes, or would go, and why.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Decision)]
pub struct DecisionView {
    /// The channel; null when none can take it.
    pub channel: Option<String>,
    /// `requested`, `smart`, `rules` or `default`.
    pub rung: Option<String>,
    /// The strategy that decided: `geographic`, `success_rate`, `cost`, `load_balance`, or the name of a registered one; null
    /// where none had to. What keeps newcomers back and what explores belongs to `success_rate`; `steps` says which it was.
    pub strategy: Option<String>,
    /// One sentence, in the language of `Accept-Language`.
    pub reason: String,
    /// By how much the winner led, where the strategy that decided goes by a number.
    pub margin: Option<MarginView>,
    /// Every channel, eligible or not.
    pub channels: Vec<ChannelDecisionView>,
    /// What each strategy that was asked did, in order.
    pub steps: Vec<StepView>,
    /// The rule that fits, whether or not it was needed.
    pub rule: Option<RuleMatchView>,
    /// The last rung's channel.
    pub default_channel: Option<String>,
    /// The channel that was asked for by name.
    pub requested_channel: Option<String>,
    /// Version of the table that it was made over; counts from 1 since the process started.
    pub table_version: u64,
    /// Version of the operator's part of it.
    pub setup_version: u64,
    /// The 64 random bits, as a decimal number in a text, since not every reader keeps so large a number.
    pub draw: String,
    /// Whose turn it was, where load is balanced in turn.
    pub turn: Option<u64>,
    /// Order of the strategies: `balanced`, `cost`, `success` or `geographic`.
    pub mode: String,
    /// Whether strategies were asked at all.
    pub smart: bool,
    /// Whether the rules were asked before the strategies.
    pub rules_first: bool,
    /// Outcomes that the assumption about a channel weighs as much as.
    pub prior_outcomes: u32,
    /// What a payment that does not go through was taken to cost, in percent of its amount.
    pub failed_payment_cost_percent: String,
    /// Share of payments for newcomers, in percent.
    pub newcomer_share_percent: u8,
    /// Share of payments for channels that rank lower, in percent.
    pub explore_percent: u8,
    /// The payment's amount in minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// The payer's country, where it was known.
    pub country: Option<String>,
    /// Whether that was found out from the payer's address.
    pub country_from_address: bool,
    /// The method asked for.
    pub method: Option<String>,
    /// Whether the decision itself is lost and the payment was made again from what its provider has on record.
    pub adopted: bool,
    /// Whether all channels that could take it were being left alone after failures, so that the one that was due first took
    /// it.
    pub all_down: bool,
    /// Whether making the decision again, just now, from its record alone gave the same.
    pub reproduced: bool,
}

/// By how much a channel led.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Margin)]
pub struct MarginView {
    /// The channel that came next.
    pub over: String,
    /// Percentage points of success rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub percentage_points: Option<f64>,
    /// Expected cost that is saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub saved: Option<FeeView>,
}

/// The rule that fits.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = RuleMatch)]
pub struct RuleMatchView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The channels that it names, in order of preference.
    pub channels: Vec<String>,
    /// Where the payment stands among those of a rule that splits, in percent; null where it does not split.
    pub split_percent: Option<f64>,
}

/// What one strategy did.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = RoutingStep)]
pub struct StepView {
    /// The strategy.
    pub strategy: String,
    /// The channels that it was given.
    pub before: Vec<String>,
    /// Those it kept; all of them when it had no preference.
    pub after: Vec<String>,
    /// The same in one sentence.
    pub in_words: String,
    /// What it went by, for each channel that it was given.
    pub figures: Vec<FigureView>,
}

/// What a strategy went by. Only what it looks at is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = RoutingFigure)]
pub struct FigureView {
    /// The channel.
    pub channel: String,
    /// Whether it was kept.
    pub kept: bool,
    /// Whether it is local to the payer's country.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub local: Option<bool>,
    /// Share of approvals, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub success_rate: Option<f64>,
    /// The lead in percentage points that the best one would need over this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub dead_band_points: Option<f64>,
    /// The fee in minor units of the payment's currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub fee: Option<i64>,
    /// The expected cost in minor units: the fee, and what a failed payment costs, by how likely that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub expected_cost: Option<i64>,
    /// Payments in flight on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub in_flight: Option<u32>,
    /// Its smoothed latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub latency_ms: Option<f64>,
    /// Its share of load among equals.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub weight: Option<u32>,
    /// Whether it was added while others were known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub newcomer: Option<bool>,
}

/// One channel as the decision saw it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ChannelDecision)]
pub struct ChannelDecisionView {
    /// The channel.
    pub channel: String,
    /// Whether it could take the payment.
    pub eligible: bool,
    /// The filter that dropped it.
    pub dropped_by: Option<String>,
    /// The same with what it had and what was demanded.
    pub dropped: Option<DroppedView>,
    /// What it would take.
    pub fee: Option<FeeView>,
    /// The fee, and what a failed payment costs, by how likely that is.
    pub expected_cost: Option<FeeView>,
    /// Share of approvals, 0 to 1.
    pub success_rate: f64,
    /// What that share is of: `channel`, or the `method`, `currency` or `country` on the channel as well.
    pub success_level: String,
    /// Outcomes behind that share.
    pub samples: u64,
    /// The number of equally weighed outcomes that would say as much; newer ones count more.
    pub effective_samples: u64,
    /// Payments on their way to it now.
    pub in_flight: u64,
    /// Its smoothed latency; null when none was measured.
    pub latency_ms: Option<f64>,
    /// Its share of load among equals.
    pub weight: u32,
    /// Whether it is local to the payer's country.
    pub local: bool,
    /// Whether it was added while others were known, and too little is known about it.
    pub newcomer: bool,
    /// `closed`, `open` or `half_open`.
    pub breaker: String,
}

/// Why a channel was dropped.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = DroppedChannel)]
pub struct DroppedView {
    /// The filter.
    pub filter: String,
    /// What the payment or the channel has; null where it is said by the filter's name.
    pub value: Option<String>,
    /// What the filter demands, where that is a number; until when it drops the channel, where that is known.
    pub demanded: Option<String>,
    /// The same in words, to follow the channel's name.
    pub in_words: String,
}

/// A decision record for people.
pub(crate) fn decision_view(record: &DecisionRecord, language: Language) -> DecisionView {
    let currency = record.currency.to_string();
    let name = |place: usize| record.channels.get(place).map(|verdict| verdict.channel.to_string());
    DecisionView {
        channel: record.chosen_channel().map(|verdict| verdict.channel.to_string()),
        rung: record.rung.map(|rung| rung.as_str().to_owned()),
        strategy: record.strategy_outside().map(str::to_owned),
        reason: record.reason_in(language),
        margin: record.margin().and_then(|margin| match margin {
            Margin::Success { over, ppm } => {
                Some(MarginView { over: name(over)?, percentage_points: Some(points(u64::from(ppm))), saved: None })
            }
            Margin::Cost { over, minor } => {
                let saved = Some(FeeView { amount: minor, currency: currency.clone() });
                Some(MarginView { over: name(over)?, percentage_points: None, saved })
            }
        }),
        channels: (0..record.channels.len()).map(|place| channel_view(record, place, language)).collect(),
        steps: record.steps.iter().map(|step| step_view(record, step, language)).collect(),
        rule: record.rule.as_ref().map(|rule| RuleMatchView {
            id: rule.id.to_string(),
            name: rule.name.to_string(),
            channels: rule.places.iter().filter_map(|place| name(*place)).collect(),
            split_percent: rule.point.map(|point| f64::from(point) / 100.0),
        }),
        default_channel: record.default_place.and_then(name),
        requested_channel: record.requested.as_ref().map(ToString::to_string),
        table_version: record.table_version,
        setup_version: record.setup_version,
        draw: record.draw.to_string(),
        turn: record.turn,
        mode: record.mode.as_str().to_owned(),
        smart: record.smart,
        rules_first: record.rules_first,
        prior_outcomes: record.prior_outcomes,
        failed_payment_cost_percent: Percent::from_ppm(record.failed_payment_cost_ppm).to_string(),
        newcomer_share_percent: record.newcomer_share_percent,
        explore_percent: record.explore_percent,
        amount: record.amount_minor,
        currency,
        country: record.country.map(|country| country.to_string()),
        country_from_address: record.country_from_address,
        method: record.method.clone(),
        adopted: record.adopted,
        all_down: record.all_down,
        reproduced: record.is_reproduced(),
    }
}

/// Percentage points of parts per million.
fn points(ppm: u64) -> f64 {
    ppm as f64 / 10_000.0
}

fn in_ms(latency_us: Option<u32>) -> Option<f64> {
    latency_us.map(|micros| f64::from(micros) / 1000.0)
}

fn channel_view(record: &DecisionRecord, place: usize, language: Language) -> ChannelDecisionView {
    let verdict = &record.channels[place];
    let money = |amount: i64| FeeView { amount, currency: record.currency.to_string() };
    ChannelDecisionView {
        channel: verdict.channel.to_string(),
        eligible: verdict.dropped_by.is_none(),
        dropped_by: verdict.dropped_by.map(|filter| filter.as_str().to_owned()),
        dropped: verdict.dropped_by.map(|filter| dropped_view(record, verdict, filter, language)),
        fee: verdict.fee_minor.map(money),
        expected_cost: record.expected_cost_minor(place).map(money),
        success_rate: f64::from(verdict.success_ppm) / PPM,
        success_level: LEVELS.get(usize::from(verdict.level)).copied().unwrap_or("channel").to_owned(),
        samples: u64::from(verdict.samples),
        effective_samples: u64::from(verdict.effective()),
        in_flight: u64::from(verdict.in_flight),
        latency_ms: in_ms(verdict.latency_us),
        weight: verdict.weight,
        local: verdict.local,
        newcomer: verdict.newcomer,
        breaker: verdict.breaker.as_str().to_owned(),
    }
}

fn dropped_view(
    record: &DecisionRecord,
    verdict: &ChannelVerdict,
    filter: DroppedBy,
    language: Language,
) -> DroppedView {
    let money = |minor: i64| Money::new(minor, verdict.bound_currency.unwrap_or(record.currency)).to_string();
    let number = |value: Option<i64>| value.map(|value| value.to_string());
    let time = |unix_ms: Option<i64>| unix_ms.map(|unix_ms| Timestamp::from_unix_ms(unix_ms).rfc3339());
    let (value, demanded) = match filter {
        DroppedBy::AmountMin | DroppedBy::AmountMax => (Some(money(record.amount_minor)), verdict.bound.map(money)),
        DroppedBy::Currency => (Some(record.currency.to_string()), None),
        DroppedBy::Country => (record.country.map(|country| country.to_string()), None),
        DroppedBy::Method => (record.method.clone(), None),
        DroppedBy::BreakerOpen => (Some(verdict.breaker.as_str().to_owned()), time(verdict.bound)),
        DroppedBy::ProbeTaken => (Some(verdict.breaker.as_str().to_owned()), None),
        DroppedBy::Maintenance => (None, time(verdict.bound)),
        DroppedBy::AmountPerDay if verdict.bound_currency.is_some() => {
            (verdict.value.map(money), verdict.bound.map(money))
        }
        DroppedBy::InFlightMax => (Some(verdict.in_flight.to_string()), number(verdict.bound)),
        _ => (number(verdict.value), number(verdict.bound)),
    };
    let in_words = filter.in_words_of(language).to_owned();
    DroppedView { filter: filter.as_str().to_owned(), value, demanded, in_words }
}

fn step_view(record: &DecisionRecord, step: &Step, language: Language) -> StepView {
    let names = |set: ChannelSet| {
        set.iter().filter_map(|place| Some(record.channels.get(place)?.channel.to_string())).collect::<Vec<_>>()
    };
    let in_set = step.before.iter().filter(|place| *place < record.channels.len());
    StepView {
        strategy: record.name_of(step.strategy).to_owned(),
        before: names(step.before),
        after: names(step.after),
        in_words: record.step_in_words(step, language),
        figures: in_set.map(|place| figure_view(record, step, place)).collect(),
    }
}

fn figure_view(record: &DecisionRecord, step: &Step, place: usize) -> FigureView {
    let verdict = &record.channels[place];
    let channel = verdict.channel.to_string();
    let figure = FigureView { channel, kept: step.after.contains(place), ..FigureView::default() };
    let success_rate = Some(f64::from(verdict.success_ppm) / PPM);
    match step.strategy {
        Strategy::Geographic => FigureView { local: Some(verdict.local), ..figure },
        Strategy::SuccessRate | Strategy::Explore => {
            let dead_band_points = record.dead_band_ppm(step.before, place).map(points);
            FigureView { success_rate, dead_band_points, ..figure }
        }
        Strategy::Cost => {
            let expected_cost = record.expected_cost_minor(place);
            FigureView { success_rate, fee: verdict.fee_minor, expected_cost, ..figure }
        }
        Strategy::LoadBalance => {
            let (in_flight, latency_ms) = (Some(verdict.in_flight), in_ms(verdict.latency_us));
            FigureView { in_flight, latency_ms, weight: Some(verdict.weight), ..figure }
        }
        Strategy::Newcomers => FigureView { newcomer: Some(verdict.newcomer), ..figure },
        Strategy::Custom(_) => figure,
    }
}

/// Why a channel did not get a payment that no channel took.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = UnavailableChannel)]
pub struct UnavailableView {
    /// The channel.
    pub channel: String,
    /// In words that follow its name.
    pub reason: String,
    /// The filter that dropped it; null for one that could have taken the payment but was not asked.
    pub dropped_by: Option<String>,
    /// What the payment or the channel has.
    pub value: Option<String>,
    /// What the filter demands, or until when it drops the channel.
    pub demanded: Option<String>,
}

/// Every channel with the reason why it did not get the payment.
pub(crate) fn unavailable_views(none: &NoChannel, language: Language) -> Vec<UnavailableView> {
    let record = &*none.record;
    let view = |verdict: &ChannelVerdict| {
        let dropped = verdict.dropped_by.map(|filter| dropped_view(record, verdict, filter, language));
        let (value, demanded) = dropped.map_or((None, None), |dropped| (dropped.value, dropped.demanded));
        UnavailableView {
            channel: verdict.channel.to_string(),
            reason: record.why_not(verdict, language).to_owned(),
            dropped_by: verdict.dropped_by.map(|filter| filter.as_str().to_owned()),
            value,
            demanded,
        }
    };
    record.channels.iter().map(view).collect()
}

/// Why another channel was asked after this attempt, in one sentence.
pub(crate) fn failed_over(attempt: &Attempt, next: Option<&Attempt>, language: Language) -> Option<String> {
    let (next, failure) = (next?, attempt.failure.as_ref());
    let code = failure.map_or("-", |failure| failure.code.as_str());
    let is_network = failure.is_some_and(|failure| failure.decline_scope == DeclineScope::Network);
    let (channel, next) = (&attempt.channel, &next.channel);
    let sentence = match (attempt.outcome, is_network) {
        (Some(AttemptOutcome::Declined), true) => language.choose(
            "{channel}'s network refused ({code}) and nothing was charged, so {next} was asked.",
            "{channel} 的网络拒绝了 ({code}), 没有扣款, 因此改用 {next}。",
        ),
        (Some(AttemptOutcome::Declined), false) => language.choose(
            "{channel} itself refused ({code}) and nothing was charged, so {next} was asked.",
            "{channel} 自身拒绝了 ({code}), 没有扣款, 因此改用 {next}。",
        ),
        _ => language.choose(
            "{channel} could not do it ({code}) and certainly charged nothing, so {next} was asked.",
            "{channel} 未能处理 ({code}), 确定没有扣款, 因此改用 {next}。",
        ),
    };
    let filled = sentence.replace("{channel}", channel.as_str()).replace("{code}", code);
    Some(filled.replace("{next}", next.as_str()))
}
