//! Routing as the configuration describes it, what can be asked about it, and how the operator changes it.

pub mod channels;
pub mod check;
pub(crate) mod control;
pub(in crate::gateway) mod figures;
pub mod overrides;
pub mod rules;
pub mod settings;
pub mod versions;

use crate::actors::router::RouterHandle;
use crate::domain::ids::ChannelName;
use crate::domain::language::Language;
use crate::domain::outcome::{AMOUNT_NOT_SUPPORTED, ChargeState, DeclineScope, Failure, HoldState};
use crate::domain::routing::{NoChannel, OutcomeClass, RouteRequest};
use crate::domain::time::Timestamp;
use crate::gateway::channels::ChannelSet;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::explain::{DecisionView, decision_view};
use crate::gateway::metrics::{Figures, IntCounter, advance};
use crate::gateway::view::ChannelView;

/// What the router counts, for the operator.
pub(crate) struct RoutingFigures {
    strategies_failed: IntCounter,
    outcomes_dropped: IntCounter,
}

impl RoutingFigures {
    /// # Errors
    /// [`GatewayError::Internal`] when a name is there twice.
    pub(crate) fn new(figures: &Figures) -> Result<Self, GatewayError> {
        Ok(Self {
            strategies_failed: figures.counter(
                "routing_strategies_failed_total",
                "Decisions in which a registered strategy panicked and was passed over",
            )?,
            outcomes_dropped: figures.counter(
                "routing_outcomes_dropped_total",
                "Outcomes that the router did not learn because too many were waiting",
            )?,
        })
    }

    /// Follows what the router has counted.
    pub(crate) fn read(&self, router: &RouterHandle) {
        advance(&self.strategies_failed, router.strategies_failed_total());
        advance(&self.outcomes_dropped, router.outcomes_dropped_total());
    }
}

pub use control::Routing;

/// Parts per million of the whole.
const PPM: f64 = 1_000_000.0;

/// Where a payment would go, and why.
pub(crate) fn quote(router: &RouterHandle, request: &RouteRequest<'_>, language: Language) -> DecisionView {
    let record = router.quote(request).unwrap_or_else(|NoChannel { record, .. }| *record);
    decision_view(&record, language)
}

/// The channels as the operator sees them.
pub(crate) fn channel_views(core: &Core, router: &RouterHandle, channels: &ChannelSet) -> Vec<ChannelView> {
    let (config, now) = (&core.config, core.clock.now());
    let kinds = |name: &ChannelName| {
        let kind = config.channels.get(name.as_str()).map(|channel| channel.kind);
        kind.and_then(|kind| serde_json::to_value(kind).ok()).and_then(|kind| kind.as_str().map(str::to_owned))
    };
    let views = router.channels().into_iter().map(|status| ChannelView {
        kind: kinds(&status.name).unwrap_or_default(),
        name: status.name.to_string(),
        enabled: status.enabled,
        breaker: status.breaker.as_str().to_owned(),
        success_rate: f64::from(status.success_ppm) / PPM,
        samples: u64::from(status.samples),
        in_flight: u64::from(status.in_flight),
        latency_ms: status.latency_ms.map(f64::from),
        opens_until: status.open.map(|open| now.plus(open.left).rfc3339()),
        opened_by: status.open.map(|open| open.by.as_str().to_owned()),
        failed_probes: status.open.map_or(0, |open| u64::from(open.failed_probes)),
        maintained_until: status.maintained_until.map(Timestamp::rfc3339),
        lacks: channels.lacks(&status.name).filter(|_| !status.has_credentials),
        payments_today: u64::from(status.today),
        amount_today_minor: status.today_minor,
    });
    views.collect()
}

/// What the outcome of a charge says about its channel.
pub(crate) fn outcome_class(state: &ChargeState) -> OutcomeClass {
    match state {
        ChargeState::Success { .. } => OutcomeClass::Approved,
        ChargeState::ActionRequired { .. }
        | ChargeState::Processing
        | ChargeState::Canceled
        | ChargeState::Stray { .. } => OutcomeClass::Answered,
        ChargeState::Unknown { .. } => OutcomeClass::TechnicalFailure,
        ChargeState::Declined(failure) => declined_class(failure),
        ChargeState::NotDone(failure) => not_done_class(failure),
    }
}

/// What the outcome of a hold says about its channel.
pub(crate) fn hold_outcome_class(state: &HoldState) -> OutcomeClass {
    match state {
        HoldState::Held { .. } | HoldState::Captured { .. } => OutcomeClass::Approved,
        HoldState::AwaitsMethod { failure: None, .. }
        | HoldState::ActionRequired { .. }
        | HoldState::Processing
        | HoldState::Released { .. } => OutcomeClass::Answered,
        HoldState::AwaitsMethod { failure: Some(failure), .. } | HoldState::Declined(failure) => {
            declined_class(failure)
        }
        HoldState::NotDone(failure) => not_done_class(failure),
        HoldState::Unknown { .. } => OutcomeClass::TechnicalFailure,
    }
}

fn declined_class(failure: &Failure) -> OutcomeClass {
    match failure.decline_scope {
        DeclineScope::Processor => OutcomeClass::DeclinedByProcessor,
        DeclineScope::Network => OutcomeClass::DeclinedByNetwork,
        DeclineScope::Bank => OutcomeClass::DeclinedByBank,
        DeclineScope::Customer => OutcomeClass::DeclinedByCustomer,
        DeclineScope::Unknown => OutcomeClass::DeclinedUnspecified,
    }
}

fn not_done_class(failure: &Failure) -> OutcomeClass {
    // Nothing was sent: what a payment's amount is says nothing about the channel.
    if failure.code == AMOUNT_NOT_SUPPORTED {
        return OutcomeClass::DeclinedByCustomer;
    }
    // Nothing was done: when that is the channel's own doing it was not able to, which is a technical matter.
    match failure.decline_scope {
        DeclineScope::Processor | DeclineScope::Network => OutcomeClass::TechnicalFailure,
        DeclineScope::Bank => OutcomeClass::DeclinedByBank,
        DeclineScope::Customer => OutcomeClass::DeclinedByCustomer,
        DeclineScope::Unknown => OutcomeClass::DeclinedUnspecified,
    }
}

#[cfg(test)]
mod concurrency_tests;
#[cfg(test)]
mod lost_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::StrayKind;

    #[test]
    fn only_the_channel_s_own_trouble_counts_for_its_breaker() {
        let not_done = |code: &str, scope| outcome_class(&ChargeState::NotDone(Failure::new(code, "", scope)));
        for code in ["channel_unreachable", "rate_limit", "invalid_credentials"] {
            assert_eq!(not_done(code, DeclineScope::Processor).technical(), Some(false), "{code}");
        }
        for class in [
            not_done("resource_missing", DeclineScope::Customer),
            not_done(AMOUNT_NOT_SUPPORTED, DeclineScope::Processor),
        ] {
            assert_eq!((class.technical(), class.approval()), (None, None));
        }
        let unknown = ChargeState::Unknown { reason: String::new() };
        assert_eq!(outcome_class(&unknown).technical(), Some(false));
        let stray = outcome_class(&ChargeState::Stray { kind: StrayKind::Late, received: None });
        assert_eq!((stray.technical(), stray.approval()), (Some(true), None));
    }

    #[test]
    fn a_hold_says_of_its_channel_what_a_charge_would() {
        let failure = |scope| Failure::new("x", "", scope);
        let held = HoldState::Held { held_minor: 1, expires_at: None, honor_until: None };
        assert_eq!(hold_outcome_class(&held), OutcomeClass::Approved);
        let awaits =
            |failure| hold_outcome_class(&HoldState::AwaitsMethod { failure, next_action: None, expires_at: None });
        assert_eq!(awaits(None), OutcomeClass::Answered);
        assert_eq!(awaits(Some(failure(DeclineScope::Bank))), OutcomeClass::DeclinedByBank);
        for scope in [DeclineScope::Processor, DeclineScope::Network, DeclineScope::Bank, DeclineScope::Customer] {
            let not_done = hold_outcome_class(&HoldState::NotDone(failure(scope)));
            assert_eq!(not_done, outcome_class(&ChargeState::NotDone(failure(scope))), "{scope:?}");
            let declined = hold_outcome_class(&HoldState::Declined(failure(scope)));
            assert_eq!(declined, outcome_class(&ChargeState::Declined(failure(scope))), "{scope:?}");
        }
        let unknown = HoldState::Unknown { reason: String::new() };
        assert_eq!(hold_outcome_class(&unknown), OutcomeClass::TechnicalFailure);
    }
}
