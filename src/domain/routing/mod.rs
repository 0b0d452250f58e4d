//! Which channel takes a payment, and why. Pure: a decision is a function of the published table, the live readings,
//! the request with its random draw, and the time.
//!
//! The ladder is smart → rules → default, or rules → smart → default where the operator wants the rules to go first. The same eligibility filter stands before every rung, and a channel that was
//! asked for by name skips the choice but not the filter. Every decision comes with a record of what it was made from;
//! the choice can be made again from the record alone.

mod approvals;
mod breaker;
mod choose;
mod country;
mod custom;
mod decide;
mod eligibility;
mod health;
mod outcome_class;
mod reason;
mod record;
mod rules;
mod segments;
mod set;
mod strategies;
mod table;
mod window;

pub use approvals::{ApprovalSettings, WindowEstimate};
pub use breaker::{BreakerSettings, BreakerView, OpenBreaker, OpenedBy};
pub use choose::{Rung, Verdict};
pub use country::{Country, CountrySet, InvalidCountry};
pub use custom::{
    CUSTOM_STRATEGIES_MAX, Candidates, CustomStrategies, CustomVerdict, InvalidStrategy, RoutingStrategy,
};
pub use decide::{ChannelReading, Choice, NoChannel, RouteRequest, decide};
pub use eligibility::{DroppedBy, fee_on};
pub use health::{ChannelHealth, HealthSettings, Outcome, SavedHealth};
pub use outcome_class::OutcomeClass;
pub use reason::Margin;
pub use record::{ChannelVerdict, DecisionRecord, RuleMatch, Step};
pub use rules::{
    Conditions, DayTime, Finding, Hours, InvalidDayTime, KnownNames, MetadataCondition, POINTS, Rule, RuleResult,
    Severity, Share, SplitError, Weekday, Weekdays, check_rules, split_order, split_point,
};
pub use segments::{Learned, NEWCOMER_OUTCOMES, SavedLearned, Segment, SegmentEstimate};
pub use set::{CHANNELS_MAX, ChannelSet};
pub use strategies::{LoadBalancing, RoutingMode, Strategy};
pub use table::{
    AmountRange, ChannelCaps, ChannelFacts, ChoiceSettings, InvalidSetup, RoutingSetup, RoutingTable, TimeSpan,
};
pub use window::WINDOW_OUTCOMES_MAX;

#[cfg(test)]
mod tests;
