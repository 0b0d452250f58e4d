//! Amounts, caps, maintenance and credentials.

use super::*;

#[test]
fn amounts_caps_maintenance_and_credentials_are_filters_with_the_number_that_was_not_kept() {
    let caps =
        ChannelCaps { per_second: Some(3), per_day: Some(100), amount_per_day_minor: Some(50_000), concurrent: 9 };
    let range = AmountRange { min_minor: Some(100), max_minor: Some(20_000) };
    let (from, until) = (Timestamp::from_unix_s(1_750_000_000), Timestamp::from_unix_s(1_750_000_600));
    let why = |change: &dyn Fn(&mut ChannelFacts, &mut ChannelReading, &mut RouteRequest<'_>)| {
        let mut setup = setup(RoutingMode::Balanced);
        let (mut reading, mut request) =
            (ChannelReading { probe_available: true, ..ChannelReading::default() }, request(10_000));
        let facts = &mut setup.channels[ALIPAY];
        (facts.caps, facts.amounts) = (caps, BTreeMap::from([(Currency::USD, range)]));
        change(facts, &mut reading, &mut request);
        let record = match decide(&table(setup), &[reading], &request, NOW) {
            Ok(choice) => choice.record,
            Err(none) => *none.record,
        };
        let alipay = &record.channels[ALIPAY];
        let of_a_day = alipay.dropped_by == Some(DroppedBy::AmountPerDay);
        assert_eq!(alipay.bound_currency, of_a_day.then_some(Currency::USD));
        assert!(!of_a_day || alipay.value.is_none_or(|with_this| with_this > 50_000), "{:?}", alipay.value);
        (alipay.dropped_by, alipay.bound)
    };
    use DroppedBy::{AmountMax, AmountMin, AmountPerDay, Credentials, Maintenance, PerDay, PerSecond};
    let amount = |amount_minor| Money::new(amount_minor, Currency::USD);
    assert_eq!(why(&|_, _, _| {}), (None, None));
    assert_eq!(why(&|_, _, request| request.money = amount(99)), (Some(AmountMin), Some(100)));
    assert_eq!(why(&|_, _, request| request.money = amount(100)), (None, None));
    assert_eq!(why(&|_, _, request| request.money = amount(20_000)), (None, None));
    assert_eq!(why(&|_, _, request| request.money = amount(20_001)), (Some(AmountMax), Some(20_000)));
    assert_eq!(why(&|_, _, request| request.money = Money::new(50, Currency::CNY)), (None, None));
    assert_eq!(why(&|_, reading, _| reading.this_second = 3), (Some(PerSecond), Some(3)));
    assert_eq!(why(&|_, reading, _| reading.today = 100), (Some(PerDay), Some(100)));
    assert_eq!(why(&|_, reading, _| reading.today_minor = 40_000), (None, None));
    assert_eq!(why(&|_, reading, _| reading.today_minor = 40_001), (Some(AmountPerDay), Some(50_000)));
    let won = |_: &mut ChannelFacts, _: &mut ChannelReading, request: &mut RouteRequest<'_>| {
        request.money = Money::new(1, "KRW".parse().unwrap());
    };
    assert_eq!(why(&won), (Some(AmountPerDay), Some(50_000)), "what can't be converted is not known to fit");
    assert_eq!(why(&|facts, _, _| facts.has_credentials = false), (Some(Credentials), None));
    let away = |facts: &mut ChannelFacts, _: &mut ChannelReading, _: &mut RouteRequest<'_>| {
        facts.maintenance.push(TimeSpan { from, until });
    };
    assert_eq!(why(&away), (Some(Maintenance), Some(until.unix_ms())));
    let after = |facts: &mut ChannelFacts, _: &mut ChannelReading, request: &mut RouteRequest<'_>| {
        facts.maintenance.push(TimeSpan { from, until });
        request.at = until;
    };
    assert_eq!(why(&after), (None, None));
}
