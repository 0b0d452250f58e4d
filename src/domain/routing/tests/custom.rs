//! Strategies of whoever embeds the gateway.

use super::*;

pub(super) type Narrow = fn(&Candidates<'_>) -> ChannelSet;

/// Keeps what a test tells it to, or fails.
struct Told(&'static str, u8, Narrow);

impl RoutingStrategy for Told {
    fn name(&self) -> &str {
        self.0
    }

    fn priority(&self) -> u8 {
        self.1
    }

    fn narrow(&self, _request: &RouteRequest<'_>, candidates: &Candidates<'_>) -> ChannelSet {
        self.2(candidates)
    }
}

pub(super) fn with_strategies(setup: RoutingSetup, strategies: &[(&'static str, u8, Narrow)]) -> RoutingTable {
    let strategies = strategies.iter().map(|(name, priority, narrow)| Arc::new(Told(name, *priority, *narrow)) as _);
    RoutingTable { custom: CustomStrategies::register(strategies.collect()).unwrap(), ..table(setup) }
}

pub(super) fn paypal_only(candidates: &Candidates<'_>) -> ChannelSet {
    candidates.named(&channel("paypal"))
}

pub(super) fn nothing(_: &Candidates<'_>) -> ChannelSet {
    ChannelSet::default()
}

pub(super) fn others_than_given(_: &Candidates<'_>) -> ChannelSet {
    (0..CHANNELS_MAX).collect()
}

fn failing(_: &Candidates<'_>) -> ChannelSet {
    panic!("told to fail")
}

#[test]
fn registered_strategies_take_their_place_by_priority_in_every_mode() {
    let order = |mode, priority| {
        let table = with_strategies(setup(mode), &[("mine", priority, nothing)]);
        let asked = chosen(&table, &request(10_000));
        asked.record.steps.iter().map(|step| asked.record.name_of(step.strategy).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(order(RoutingMode::Balanced, 95), ["mine", "geographic", "success_rate", "cost"]);
    assert_eq!(order(RoutingMode::Balanced, 90), ["geographic", "mine", "success_rate", "cost"]);
    assert_eq!(order(RoutingMode::Balanced, 60), ["geographic", "success_rate", "mine", "cost"]);
    assert_eq!(order(RoutingMode::Geographic, 95), ["geographic", "mine", "success_rate", "cost"]);
    assert_eq!(order(RoutingMode::Success, 95), ["success_rate", "mine", "cost"]);
    assert_eq!(order(RoutingMode::Cost, 95), ["cost"]);
    let two: Vec<Strategy> = {
        let (order, asked) = RoutingMode::Success.order_with([60, 40].into_iter());
        order.into_iter().take(asked).collect()
    };
    let among_equals = |priority| {
        let table = with_strategies(twins(RoutingMode::Cost), &[("mine", priority, nothing)]);
        let record = chosen(&table, &card(1)).record;
        record.steps.iter().any(|step| record.name_of(step.strategy) == "mine")
    };
    assert!(among_equals(31) && !among_equals(30), "load balance leaves nothing to those of 30 or below");
    use Strategy::{Cost, Custom, Geographic, LoadBalance, SuccessRate};
    assert_eq!(two, [SuccessRate, Custom(0), Cost, Custom(1), LoadBalance, Geographic]);
}

#[test]
fn a_registered_strategy_decides_abstains_or_is_passed_over_and_the_record_says_so() {
    let choice = chosen(&with_strategies(setup(RoutingMode::Balanced), &[("mine", 60, paypal_only)]), &request(10_000));
    assert_eq!((choice.place, choice.record.strategy_name()), (PAYPAL, Some("mine")));
    assert_eq!(choice.record.strategy_outside(), Some("mine"));
    assert_eq!(choice.record.reason(), "The strategy mine chose paypal.");
    let stored: DecisionRecord = serde_json::from_str(&serde_json::to_string(&choice.record).unwrap()).unwrap();
    assert_eq!(
        stored.replay(),
        (Some(Verdict { rung: Rung::Smart, strategy: choice.strategy, place: PAYPAL }), choice.record.steps)
    );
    for (abstaining, panicked) in [(nothing as Narrow, false), (others_than_given, false), (failing, true)] {
        let table =
            with_strategies(setup(RoutingMode::Balanced), &[("first", 70, abstaining), ("mine", 60, paypal_only)]);
        let choice = chosen(&table, &request(10_000));
        assert_eq!((choice.place, choice.record.strategy_name()), (PAYPAL, Some("mine")));
        assert_eq!((choice.record.custom[0].kept, choice.record.custom[0].panicked), (None, panicked));
        let in_words = choice.record.step_in_words(&choice.record.steps[2], crate::domain::language::Language::English);
        assert_eq!(in_words.contains("failed"), panicked, "{in_words}");
    }
}

#[test]
fn strategies_that_can_not_be_told_apart_are_refused() {
    let register = |names: &[&'static str]| {
        let strategies =
            names.iter().map(|name| Arc::new(Told(name, 1, nothing)) as Arc<dyn RoutingStrategy>).collect();
        CustomStrategies::register(strategies).map(|_| ())
    };
    assert_eq!(register(&["a", "b_2"]), Ok(()));
    assert_eq!(register(&["a", "a"]), Err(InvalidStrategy::Taken("a".to_owned())));
    assert_eq!(register(&["cost"]), Err(InvalidStrategy::Taken("cost".to_owned())));
    for wrong in ["", "A", "a b", "a-b"] {
        assert_eq!(register(&[wrong]), Err(InvalidStrategy::Name(wrong.to_owned())));
    }
    assert_eq!(register(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]), Err(InvalidStrategy::TooMany));
}
