//! The operator's rule table: what a payment must be, and where it goes then. Top down, the first match counts.

mod check;
mod conditions;
mod hours;
mod region;
mod split;

use std::sync::Arc;

use crate::domain::ids::ChannelName;
use crate::domain::routing::decide::RouteRequest;
use crate::domain::routing::record::RuleMatch;
use crate::domain::routing::table::RoutingSetup;

pub use check::{Finding, KnownNames, Severity, check_rules};
pub use conditions::{Conditions, MetadataCondition};
pub use hours::{DayTime, Hours, InvalidDayTime, Weekday, Weekdays};
pub use split::{POINTS, Share, SplitError, split_order, split_point};

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Names it for good, also when it is moved or changed.
    pub id: Arc<str>,
    /// Shown in decisions.
    pub name: Arc<str>,
    /// Whether it counts; one that does not is as good as absent.
    pub enabled: bool,
    /// What a payment must be.
    pub when: Conditions,
    /// Where it goes then.
    pub then: RuleResult,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            id: Arc::from(""),
            name: Arc::from(""),
            enabled: true,
            when: Conditions::default(),
            then: RuleResult::default(),
        }
    }
}

/// Where a payment goes that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleResult {
    /// The first of these that can take it.
    Ordered(Vec<ChannelName>),
    /// One of these by their shares, which add up to 100; the others, in their order, where that one can't take it.
    Split(Vec<Share>),
}

impl Default for RuleResult {
    fn default() -> Self {
        Self::Ordered(Vec::new())
    }
}

impl RuleResult {
    /// Every channel that it names.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        let (ordered, shares): (&[ChannelName], &[Share]) = match self {
            Self::Ordered(channels) => (channels, &[]),
            Self::Split(shares) => (&[], shares),
        };
        ordered.iter().chain(shares.iter().map(|share| &share.channel))
    }
}

/// The first rule of a table that a payment matches, with the order of its channels for this payment. A channel that is
/// not in the table is left out: the decision goes on with the others, or with the next rung.
pub(super) fn matching_rule(setup: &RoutingSetup, request: &RouteRequest<'_>) -> Option<RuleMatch> {
    let rule = setup.rules.iter().find(|rule| rule.enabled && rule.when.hold(request))?;
    let (point, places) = match &rule.then {
        RuleResult::Ordered(channels) => (None, channels.iter().filter_map(|name| setup.place_of(name)).collect()),
        RuleResult::Split(shares) => {
            let point = split_point(&rule.id, request.merchant_id, request.order_no);
            let order = split_order(shares, point).filter_map(|share| setup.place_of(&share.channel));
            (Some(point), order.collect())
        }
    };
    Some(RuleMatch { id: Arc::clone(&rule.id), name: Arc::clone(&rule.name), point, places })
}

#[cfg(test)]
mod tests;
