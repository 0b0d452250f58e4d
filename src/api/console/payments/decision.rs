//! Why a channel was chosen, in words and numbers.

use super::story::{failure_facts, pretty};
use crate::api::console::table::{Cell, Facts, Table, Tone};
use crate::api::console::text::{count, expectation, money, words};
use crate::api::error::ApiError;
use crate::gateway::explain::{ChannelDecisionView, DecisionView};
use crate::gateway::view::{AttemptView, FeeView};

/// One attempt on one channel.
pub(super) struct AttemptStory {
    /// Such as `Attempt 1: stripe`.
    pub(super) title: String,
    pub(super) outcome: Cell,
    pub(super) facts: Facts,
    pub(super) failure: Option<Facts>,
    /// Why another channel was asked after it, or not.
    pub(super) failover: Option<String>,
    pub(super) decision: DecisionStory,
}

/// How a channel was chosen.
pub(in crate::api::console) struct DecisionStory {
    /// In one sentence.
    pub(in crate::api::console) reason: String,
    /// What led there, a sentence each.
    pub(in crate::api::console) steps: Vec<String>,
    /// Every channel with its figures.
    pub(in crate::api::console) candidates: Table,
    /// All of it, for who wants to know.
    pub(in crate::api::console) json: String,
}

/// The story of an attempt in a payment of this currency.
pub(super) fn attempt_story(attempt: &AttemptView, currency: &str) -> Result<AttemptStory, ApiError> {
    let facts = Facts::default()
        .with("Sent (UTC)", Cell::moment(Some(&attempt.sent_at)))
        .with_some("Number there", Cell::code(attempt.channel_order_no.clone().unwrap_or_default()));
    Ok(AttemptStory {
        title: format!("Attempt {}: {}", attempt.attempt, attempt.channel),
        outcome: Cell::status(&attempt.outcome),
        facts,
        failure: attempt.failure.as_ref().map(failure_facts),
        failover: attempt.failover.as_ref().map(|failover| failover.explanation.clone()),
        decision: decision_story(&attempt.explanation, currency)?,
    })
}

/// How a channel was chosen for money of this currency.
pub(in crate::api::console) fn decision_story(
    decision: &DecisionView,
    currency: &str,
) -> Result<DecisionStory, ApiError> {
    let mut steps = Vec::new();
    if let Some(requested) = &decision.requested_channel {
        steps.push(format!("The merchant asked for {requested}."));
    }
    if let Some(rule) = &decision.rule {
        steps.push(format!("The rule \u{201c}{}\u{201d} fits: {}.", rule.name, rule.channels.join(", ")));
    }
    steps.extend(decision.steps.iter().map(|step| format!("{}: {}", words(&step.strategy), step.in_words)));
    if let Some(margin) = &decision.margin {
        let by = match (margin.percentage_points, &margin.saved) {
            (Some(points), _) => format!("{points:.1} percentage points"),
            (None, Some(saved)) => money(saved.amount, &saved.currency),
            (None, None) => String::from("nothing that can be counted"),
        };
        steps.push(format!("It led over {} by {by}.", margin.over));
    }
    let columns = [
        "Channel",
        "Could it?",
        "Fee",
        "Expected cost",
        "Expected to succeed",
        "Outcomes",
        "In flight",
        "Latency",
        "Breaker",
    ];
    let chosen = decision.channel.as_deref();
    let rows = decision.channels.iter().map(|channel| candidate(channel, chosen));
    let caption = format!("Channels that were looked at for this payment in {currency}");
    Ok(DecisionStory {
        reason: decision.reason.clone(),
        steps,
        candidates: Table::new(caption, &columns, "No channel was looked at.").with_rows(rows),
        json: pretty(decision)?,
    })
}

fn candidate(channel: &ChannelDecisionView, chosen: Option<&str>) -> Vec<Cell> {
    let name = match chosen == Some(channel.channel.as_str()) {
        true => Cell::Lines(vec![Cell::text(&channel.channel), Cell::Badge(Tone::Good, String::from("chosen"))]),
        false => Cell::text(&channel.channel),
    };
    let could = match &channel.dropped {
        None if channel.eligible => Cell::text("yes"),
        None => Cell::text(format!("no: {}", words(channel.dropped_by.as_deref().unwrap_or("unknown")))),
        Some(dropped) => Cell::text(format!("no: it {}", dropped.in_words)),
    };
    let fee = |fee: &Option<FeeView>| fee.as_ref().map_or(Cell::Nothing, |fee| Cell::money(fee.amount, &fee.currency));
    vec![
        name,
        could,
        fee(&channel.fee),
        fee(&channel.expected_cost),
        Cell::Number(expectation(channel.success_rate, channel.samples == 0)),
        Cell::Number(count(channel.samples)),
        Cell::Number(count(channel.in_flight)),
        channel.latency_ms.map_or(Cell::Nothing, |latency| Cell::Number(format!("{latency:.0} ms"))),
        Cell::status(&channel.breaker),
    ]
}
