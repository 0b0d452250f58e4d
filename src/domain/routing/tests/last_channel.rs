//! What becomes of a payment when every channel that could take it is being left alone.

use super::*;

#[test]
fn the_last_channel_is_never_left_out() {
    let mut table = table(setup(RoutingMode::Cost));
    let card = RouteRequest { method: Some("card"), ..request(10_000) };
    let fail = |table: &mut RoutingTable, place: usize, now: Monotonic| {
        for _ in 0..5 {
            let outcome = Outcome { class: OutcomeClass::TechnicalFailure, latency_ms: None, probe: false };
            table.health[place] = table.health[place].after(outcome, &HEALTH, now);
        }
    };
    fail(&mut table, STRIPE, NOW);
    assert_eq!(chosen(&table, &card).channel, channel("paypal"));
    fail(&mut table, PAYPAL, NOW.plus(Duration::from_secs(1)));
    let now = NOW.plus(Duration::from_secs(2));
    let decided = |table: &RoutingTable, readings: &[ChannelReading], request: &RouteRequest<'_>| {
        let decision = decide(table, readings, request, now);
        let record = decision.map_or_else(|none| *none.record, |choice| choice.record);
        let (verdict, steps) = record.replay();
        assert_eq!((verdict.map(|verdict| verdict.place), steps), (record.chosen, record.steps.clone()));
        assert_eq!(record.all_down, record.chosen_channel().is_some_and(|verdict| verdict.dropped_by.is_some()));
        record
    };
    let readings = idle(&table);
    let record = decided(&table, &readings, &card);
    assert_eq!((record.chosen, record.all_down, record.rung), (Some(STRIPE), true, Some(Rung::Smart)), "due first");
    assert!(record.reason().contains("stripe takes it"), "{}", record.reason());
    let due_at = card.at.plus(Duration::from_secs(28)).unix_ms();
    assert_eq!(record.channels[STRIPE].dropped_by, Some(DroppedBy::BreakerOpen));
    assert_eq!(record.channels[STRIPE].bound, Some(due_at));

    // A channel that is up and has no room is worth coming back for.
    let mut full = table.clone();
    full.health[PAYPAL] = ChannelHealth::default();
    let mut busy = readings.clone();
    busy[PAYPAL].in_flight = 100;
    assert_eq!(decided(&full, &busy, &card).chosen, None);
    let mut due = table.clone();
    due.health[PAYPAL] = ChannelHealth::default();
    fail(&mut due, PAYPAL, Monotonic::from_micros(0));
    let mut tried = readings.clone();
    tried[PAYPAL].probe_available = false;
    let later = NOW.plus(Duration::from_millis(29_500));
    // While it is being tried nobody waits for that: it would have taken them all before its breaker let one try.
    let beside = decide(&due, &tried, &card, later).unwrap();
    assert_eq!((beside.place, beside.all_down, beside.probe), (PAYPAL, true, false), "due before the other");
    assert_eq!(beside.record.channels[PAYPAL].dropped_by, Some(DroppedBy::ProbeTaken));
    assert_eq!(beside.record.replay().0.map(|verdict| verdict.place), Some(PAYPAL));
    assert!(!decide(&due, &readings, &card, later).unwrap().all_down);
    // One that will not take it today is not, and one with its cap used up is not the one that takes it.
    let mut spent = table.clone();
    Arc::make_mut(&mut spent.setup).channels[STRIPE].caps.per_day = Some(7);
    let mut used_up = readings.clone();
    used_up[STRIPE].today = 7;
    assert_eq!(decided(&spent, &used_up, &card).chosen, Some(PAYPAL));
    let mut away = table.clone();
    let span = TimeSpan { from: card.at, until: card.at.plus(Duration::from_secs(60)) };
    Arc::make_mut(&mut away.setup).channels[STRIPE].maintenance.push(span);
    assert_eq!(decided(&away, &readings, &card).chosen, Some(PAYPAL));
    // A payment that was elsewhere already has had its chance.
    let elsewhere = [channel("paypal")];
    assert_eq!(decided(&table, &readings, &RouteRequest { tried: &elsewhere, ..card }).chosen, None);
    // The ladder still says who may be asked.
    let mut ruled = table.clone();
    let setup = Arc::make_mut(&mut ruled.setup);
    (setup.smart, setup.default_channel) = (false, channel("crypto"));
    let then = RuleResult::Ordered(vec![channel("paypal"), channel("stripe")]);
    setup.rules.push(Rule { name: Arc::from("cards"), then, ..Rule::default() });
    let record = decided(&ruled, &readings, &card);
    assert_eq!((record.chosen, record.rung, record.all_down), (Some(PAYPAL), Some(Rung::Rules), true));
    let other = RouteRequest { method: Some("paypal"), allowed: &elsewhere, ..card };
    assert_eq!(decided(&ruled, &readings, &other).chosen, Some(PAYPAL));
}
