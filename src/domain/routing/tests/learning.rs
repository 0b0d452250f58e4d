//! Newcomers, looks at channels that are left out, and what is assumed and what is chance.

use super::*;

#[test]
fn a_newcomer_gets_its_share_until_enough_is_known() {
    let mut table = table(twins(RoutingMode::Cost));
    Arc::make_mut(&mut table.setup).channels[PAYPAL].fees.percent = percent("2");
    let to_paypal =
        |table: &RoutingTable| (0..4_000).filter(|step| chosen(table, &card(*step)).place == PAYPAL).count();
    assert_eq!(to_paypal(&table), 4_000, "who was there from the beginning is none");
    table.learned[PAYPAL] = Arc::new(Learned::newcomer());
    assert!((340..=460).contains(&to_paypal(&table)), "{}", to_paypal(&table));
    let left_out = (0..).map(|step| chosen(&table, &card(step))).find(|choice| choice.place == STRIPE).unwrap();
    assert_eq!(left_out.strategy, Some(Strategy::Newcomers));
    assert_eq!(left_out.record.strategy_outside(), Some("success_rate"));
    assert_eq!(left_out.record.steps.len(), 1);
    let mut alone = RouteRequest { method: Some("paypal"), ..card(1) };
    alone.draw = left_out.record.draw;
    assert_eq!(chosen(&table, &alone).place, PAYPAL, "better a newcomer than nobody");
    learn_of(&mut table, PAYPAL, &card(1), true, 50);
    assert_eq!(to_paypal(&table), 4_000);
}

#[test]
fn a_few_payments_explore_what_the_success_rate_leaves_out() {
    let mut table = table(twins(RoutingMode::Success));
    for _ in 0..10 {
        learn(&mut table, STRIPE, OutcomeClass::Approved, 20);
        learn(&mut table, PAYPAL, OutcomeClass::Approved, 18);
        learn(&mut table, PAYPAL, OutcomeClass::DeclinedByProcessor, 2);
    }
    let explored = |table: &RoutingTable| {
        let choices = (0..10_000).map(|step| chosen(table, &card(step)));
        let explored: Vec<Choice> = choices.filter(|choice| choice.place == PAYPAL).collect();
        assert!(explored.iter().all(|choice| choice.strategy == Some(Strategy::Explore)));
        assert!(explored.iter().all(|choice| choice.record.strategy_outside() == Some("success_rate")));
        explored.len()
    };
    assert!((140..=260).contains(&explored(&table)), "{}", explored(&table));
    learn(&mut table, PAYPAL, OutcomeClass::DeclinedByProcessor, 30);
    assert_eq!(explored(&table), 0, "more than ten points behind");
}

#[test]
fn a_channel_far_behind_is_looked_at_the_more_the_longer_ago_that_was_and_the_better_it_went() {
    let mut table = table(twins(RoutingMode::Success));
    learn(&mut table, STRIPE, OutcomeClass::Approved, 200);
    for _ in 0..20 {
        learn(&mut table, PAYPAL, OutcomeClass::Approved, 3);
        learn(&mut table, PAYPAL, OutcomeClass::DeclinedByProcessor, 2);
    }
    let looks = |table: &RoutingTable, after_s: u64| {
        let now = NOW.plus(Duration::from_secs(after_s));
        let choices = (0..10_000).map(|step| decide(table, &idle(table), &card(step), now).unwrap());
        let looks: Vec<Choice> = choices.filter(|choice| choice.place == PAYPAL).collect();
        for look in &looks {
            assert_eq!(look.strategy, Some(Strategy::Explore));
            let stored: DecisionRecord = serde_json::from_str(&serde_json::to_string(&look.record).unwrap()).unwrap();
            assert_eq!(stored.replay().0.map(|verdict| verdict.place), Some(PAYPAL));
        }
        looks.len()
    };
    assert_eq!(looks(&table, 0), 0);
    let (soon, late) = (looks(&table, 9), looks(&table, 45));
    assert!((20..=65).contains(&soon), "a fifth of two percent: {soon}");
    assert!((150..=250).contains(&late), "two percent: {late}");
    assert!((150..=250).contains(&looks(&table, 200)), "and no more");
    learn(&mut table, PAYPAL, OutcomeClass::Approved, 4);
    let well = looks(&table, 45);
    assert!((850..=1_150).contains(&well), "ten percent: {well}");
    Arc::make_mut(&mut table.setup).choice.explore_percent = 0;
    assert_eq!(looks(&table, 45), 0, "who wants none has none");
}

#[test]
fn a_channel_of_which_nothing_is_known_is_taken_to_be_as_good_as_the_others() {
    let mut table = table(twins(RoutingMode::Success));
    for _ in 0..200 {
        learn(&mut table, STRIPE, OutcomeClass::Approved, 1);
    }
    let verdict = |table: &RoutingTable, place: usize| chosen(table, &card(1)).record.channels[place].success_ppm;
    assert!(verdict(&table, PAYPAL) >= 990_000, "{}", verdict(&table, PAYPAL));
    let (paypal, stripe) = (verdict(&table, PAYPAL), verdict(&table, STRIPE));
    assert!(paypal.abs_diff(stripe) < 1_000, "{paypal} and {stripe}");
    learn(&mut table, PAYPAL, OutcomeClass::DeclinedByProcessor, 1);
    assert_ne!(chosen(&table, &card(1)).strategy, Some(Strategy::SuccessRate), "one decline is no outage");
    // Those that are far behind say nothing about the others.
    learn(&mut table, CRYPTO, OutcomeClass::DeclinedByNetwork, 200);
    learn(&mut table, PAYPAL, OutcomeClass::TechnicalFailure, 5);
    let later = NOW.plus(Duration::from_secs(30));
    let half_open = decide(&table, &idle(&table), &card(1), later).unwrap().record.channels[PAYPAL].success_ppm;
    assert!(half_open >= 980_000, "{half_open}");
}

#[test]
fn differences_that_chance_explains_leave_nobody_out_and_others_do() {
    // So many declines of 200 each.
    let left_out = |declines: [usize; 4]| {
        let mut setup = twins(RoutingMode::Success);
        for channel in &mut setup.channels {
            channel.methods = vec![String::from("card")];
        }
        let mut table = table(setup);
        for (place, declined) in declines.into_iter().enumerate() {
            for index in 0..200 {
                let is_declined = (index + 1) * declined / 200 > index * declined / 200;
                let class = if is_declined { OutcomeClass::DeclinedByProcessor } else { OutcomeClass::Approved };
                learn(&mut table, place, class, 1);
            }
        }
        Arc::make_mut(&mut table.setup).choice.explore_percent = 0;
        let step = chosen(&table, &card(1)).record.steps[0];
        assert_eq!(step.strategy, Strategy::SuccessRate);
        4 - step.after.len()
    };
    assert_eq!(left_out([10, 10, 10, 10]), 0);
    assert_eq!(left_out([6, 9, 11, 14]), 0, "one in twenty each, and luck: four points between the first and the last");
    assert_eq!(left_out([10, 10, 10, 40]), 1);
    assert_eq!(left_out([8, 12, 40, 60]), 2);
}
