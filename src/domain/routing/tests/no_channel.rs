//! Payments that lose a channel to others, and what is said when none is left.

use super::*;

#[test]
fn who_loses_a_channel_to_others_gets_the_next_one_and_the_record_says_so() {
    let table = with_strategies(setup(RoutingMode::Cost), &[("mine", 95, paypal_only)]);
    let mut choice = chosen(&table, &request(10_000));
    let mut places = vec![choice.place];
    let none = loop {
        assert!(choice.record.is_reproduced());
        assert_eq!(choice.record.chosen, Some(choice.place));
        match choice.lost_to_others() {
            Ok(next) => choice = next,
            Err(none) => break none,
        }
        places.push(choice.place);
    };
    assert_eq!(places, [ALIPAY, CRYPTO, STRIPE, PAYPAL], "by fee");
    assert!(none.record.is_reproduced());
    let other = DecisionRecord { chosen: Some(PAYPAL), rung: Some(Rung::Smart), ..(*none.record).clone() };
    assert!(!other.is_reproduced(), "a record that was made up is found out");
    assert_eq!(none.retry_in, Some(Duration::from_secs(1)));
    assert!(none.record.channels.iter().all(|one| one.dropped_by == Some(DroppedBy::InFlightMax)));
    // What a registered strategy kept is kept no more when it is gone.
    let table = with_strategies(setup(RoutingMode::Balanced), &[("mine", 95, paypal_only)]);
    let choice = chosen(&table, &request(10_000));
    assert_eq!(choice.place, PAYPAL);
    let next = choice.lost_to_others().unwrap();
    assert_eq!((next.place, next.record.is_reproduced()), (ALIPAY, true));
}

#[test]
fn it_is_known_whether_the_payment_or_the_channels_are_the_cause() {
    let mut table = table(setup(RoutingMode::Cost));
    let is_of_request = |table: &RoutingTable, request: &RouteRequest<'_>| {
        decide(table, &idle(table), request, NOW).unwrap_err().is_of_request()
    };
    let unknown = RouteRequest { method: Some("qr_unknown"), ..request(10_000) };
    assert!(is_of_request(&table, &unknown), "a merchant's slip");
    let (crypto, stripe) = (channel("crypto"), channel("stripe"));
    let card_by = |requested| RouteRequest { requested: Some(requested), method: Some("card"), ..request(10_000) };
    learn(&mut table, STRIPE, OutcomeClass::TechnicalFailure, 5);
    assert!(is_of_request(&table, &card_by(&crypto)), "stripe was not meant");
    Arc::make_mut(&mut table.setup).channels[STRIPE].enabled = false;
    assert!(!is_of_request(&table, &card_by(&stripe)), "no other one was meant");
    Arc::make_mut(&mut table.setup).channels[ALIPAY].has_credentials = false;
    assert!(is_of_request(&table, &unknown), "one that is not set up is told otherwise");
    Arc::make_mut(&mut table.setup).channels.iter_mut().for_each(|channel| channel.has_credentials = false);
    assert!(!is_of_request(&table, &unknown), "none is set up");
    Arc::make_mut(&mut table.setup).channels.iter_mut().for_each(|channel| channel.enabled = false);
    assert!(!is_of_request(&table, &unknown), "all are switched off");
}

#[test]
fn nobody_waits_for_a_channel_that_would_not_take_it() {
    let mut table = table(setup(RoutingMode::Cost));
    learn(&mut table, STRIPE, OutcomeClass::TechnicalFailure, 5);
    let crypto = channel("crypto");
    let retry_in = |table: &RoutingTable, request: &RouteRequest<'_>, readings: &[ChannelReading]| {
        decide(table, readings, request, NOW).unwrap_err().retry_in
    };
    let idle = idle(&table);
    let card_by_crypto = RouteRequest { requested: Some(&crypto), method: Some("card"), ..request(10_000) };
    assert_eq!(retry_in(&table, &card_by_crypto, &idle), None, "stripe's breaker is not what it waits for");
    let setup = Arc::make_mut(&mut table.setup);
    (setup.smart, setup.default_channel) = (false, crypto.clone());
    let card = RouteRequest { method: Some("card"), ..request(10_000) };
    assert_eq!(retry_in(&table, &card, &idle), None, "nobody names stripe");
    // A day's caps begin anew at midnight, and what is away comes back.
    let at = "2026-01-31".parse::<crate::domain::time::Day>().unwrap().start().plus(Duration::from_secs(82_800));
    let by_crypto = RouteRequest { requested: Some(&crypto), at, ..request(10_000) };
    let with = |change: &dyn Fn(&mut ChannelFacts)| {
        let mut table = table.clone();
        change(&mut Arc::make_mut(&mut table.setup).channels[CRYPTO]);
        let today = ChannelReading { probe_available: true, today: 7, today_minor: 500, ..ChannelReading::default() };
        retry_in(&table, &by_crypto, &[today; 4])
    };
    assert_eq!(with(&|facts| facts.caps.per_day = Some(7)), Some(Duration::from_secs(3_600)));
    assert_eq!(with(&|facts| facts.caps.amount_per_day_minor = Some(10_000)), Some(Duration::from_secs(3_600)));
    assert_eq!(with(&|facts| facts.caps.amount_per_day_minor = Some(9_999)), None, "too much for any day");
    let until = at.plus(Duration::from_secs(90));
    assert_eq!(with(&|facts| facts.maintenance.push(TimeSpan { from: at, until })), Some(Duration::from_secs(90)));
    assert_eq!(with(&|facts| facts.enabled = false), None);
}
