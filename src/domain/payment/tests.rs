//! Every pair of state and event, against the documented table.

mod strays;

use std::time::Duration;

use super::*;
use crate::domain::event::EventName;
use crate::domain::ids::RefundNo;
use crate::domain::language::Language;
use crate::domain::money::Currency;
use crate::domain::outcome::{
    ChargeAnswer, ChargeState, DeclineScope, RefundAnswer, RefundState, RetryAdvice, StrayKind,
};
use crate::domain::routing::{DecisionRecord, RoutingMode};

const NOW: Timestamp = Timestamp::from_unix_s(1_700_000_000);

fn policy() -> ResolvePolicy {
    ResolvePolicy {
        first: Duration::from_secs(1),
        early_max: Duration::from_secs(10),
        late_max: Duration::from_secs(600),
        needs_review_after: Duration::from_secs(72 * 3600),
        action_expires: Duration::from_secs(24 * 3600),
        abandoned_after: Duration::from_secs(60),
    }
}

fn decision() -> DecisionRecord {
    DecisionRecord {
        table_version: 1,
        setup_version: 1,
        draw: 0,
        mode: RoutingMode::Balanced,
        smart: true,
        rules_first: false,
        prior_outcomes: 20,
        failed_payment_cost_ppm: 0,
        newcomer_share_percent: 0,
        explore_percent: 0,
        turn: None,
        custom: Vec::new(),
        currency: Currency::USD,
        amount_minor: 1000,
        country: None,
        country_from_address: false,
        method: None,
        requested: None,
        rule: None,
        default_place: None,
        rung: None,
        strategy: None,
        chosen: None,
        channels: Vec::new(),
        steps: Vec::new(),
        adopted: false,
        all_down: false,
    }
}

fn attempt(channel: &str) -> Attempt {
    Attempt {
        channel: ChannelName::new(channel),
        provider_key: format!("tg_{channel}"),
        decision: decision(),
        sent_at: NOW,
        refs: ProviderRefs::default(),
        unanswered_at: None,
        offered_at: None,
        money_sent_at: None,
        outcome: None,
        failure: None,
        failover: None,
    }
}

fn payment(status: PaymentStatus) -> Payment {
    Payment {
        payment_no: PaymentNo::new("PY20231114221320000abcde"),
        merchant_id: MerchantId::new("m_1"),
        terms: PaymentTerms {
            order_no: "O-1".to_owned(),
            money: Money::new(1000, Currency::USD),
            card_country: None,
            country: None,
            method: None,
            requested_channel: None,
            payment_token: Some("tok_visa".to_owned()),
            customer_email: None,
            customer_ip: None,
            description: None,
            metadata: BTreeMap::new(),
            return_url: None,
        },
        status,
        reconciling: false,
        cancel_requested: false,
        attempts: vec![attempt("stripe")],
        refunds: Vec::new(),
        strays: Vec::new(),
        disputes: Vec::new(),
        next_action: None,
        fee_minor: Some(59),
        fee_reported: false,
        resolve_tries: 0,
        known_at: None,
        event_count: 0,
        due_at: None,
        expires_at: None,
        created_at: NOW,
        updated_at: NOW,
        paid_at: None,
        erased_at: None,
    }
}

fn failure() -> Failure {
    Failure::new("card_declined", "The card was declined.", DeclineScope::Bank)
}

fn answer(state: ChargeState) -> ChargeAnswer {
    let refs = ProviderRefs { channel_order_no: Some("pi_1".to_owned()), ..ProviderRefs::default() };
    ChargeAnswer::with(state, refs)
}

fn answers() -> Vec<(&'static str, ChargeState)> {
    vec![
        ("success", ChargeState::Success { fee_minor: Some(61) }),
        ("declined", ChargeState::Declined(failure())),
        ("not_done", ChargeState::NotDone(failure())),
        ("action", ChargeState::ActionRequired { next_action: None, expires_at: None }),
        ("processing", ChargeState::Processing),
        ("canceled", ChargeState::Canceled),
        ("unknown", ChargeState::Unknown { reason: "timeout".to_owned() }),
    ]
}

#[test]
fn money_that_came_otherwise_than_asked_for_leaves_the_payment_open() {
    for status in PaymentStatus::ALL {
        let state = ChargeState::Stray { kind: StrayKind::Late, received: Some(Money::new(1000, Currency::USD)) };
        let unknown = ChargeState::Unknown { reason: String::new() };
        let after = |state| on_answer(&payment(status), &answer(state), &policy(), NOW);
        assert_eq!(after(state), after(unknown), "{status:?}");
    }
}

#[test]
fn it_is_noted_when_a_question_sent_money_last() {
    let sent = ChargeAnswer { sent_money: true, ..answer(ChargeState::Processing) };
    let asked =
        |payment: &Payment, answer: &ChargeAnswer, at| on_answer(payment, answer, &policy(), at).unwrap().payment;
    let first = asked(&payment(PaymentStatus::RequiresAction), &sent, NOW);
    let later = NOW.plus(Duration::from_secs(5));
    let second = asked(&first, &answer(ChargeState::Processing), later);
    assert_eq!(second.attempts[0].money_sent_at, Some(NOW), "what was sent stays sent");
    assert_eq!(asked(&second, &sent, later).attempts[0].money_sent_at, Some(later));
    let never = asked(&payment(PaymentStatus::RequiresAction), &answer(ChargeState::Processing), NOW);
    assert_eq!(never.attempts[0].money_sent_at, None);
}

/// The status after each answer, in the order of [`answers`]; `None` where nothing changes.
const TABLE: [(PaymentStatus, [Option<PaymentStatus>; 7]); 7] = {
    use PaymentStatus::{Canceled, Failed, NeedsReview, Pending, Processing, RequiresAction, Success};
    [
        (
            Pending,
            [
                Some(Success),
                Some(Failed),
                Some(Failed),
                Some(RequiresAction),
                Some(Processing),
                Some(Failed),
                Some(Processing),
            ],
        ),
        (
            RequiresAction,
            [
                Some(Success),
                Some(Failed),
                Some(Failed),
                Some(RequiresAction),
                Some(Processing),
                Some(Canceled),
                Some(RequiresAction),
            ],
        ),
        (
            Processing,
            [
                Some(Success),
                Some(Failed),
                Some(Failed),
                Some(Processing),
                Some(Processing),
                Some(Failed),
                Some(Processing),
            ],
        ),
        (Success, [None; 7]),
        (Failed, [None; 7]),
        (Canceled, [None; 7]),
        (NeedsReview, [None; 7]),
    ]
};

#[test]
fn every_answer_in_every_status_leads_where_the_table_says() {
    for (status, expected) in TABLE {
        for ((name, state), expected) in answers().into_iter().zip(expected) {
            let outcome = on_answer(&payment(status), &answer(state), &policy(), NOW);
            assert_eq!(outcome.map(|outcome| outcome.payment.status), expected, "{} + {name}", status.as_str());
        }
    }
}

#[test]
fn a_payment_that_was_given_up_is_canceled_when_it_is_closed_and_charged_when_it_was_charged() {
    for status in [PaymentStatus::RequiresAction, PaymentStatus::Processing] {
        let given_up = on_cancel_request(&payment(status), &policy(), NOW).unwrap().payment;
        assert_eq!(given_up.status, status);
        let after = |state| on_answer(&given_up, &answer(state), &policy(), NOW).unwrap();
        assert_eq!(after(ChargeState::Canceled).payment.status, PaymentStatus::Canceled);
        assert_eq!(after(ChargeState::NotDone(failure())).payment.status, PaymentStatus::Canceled);
        assert_eq!(after(ChargeState::Canceled).effect, Effect::Tell(EventName::PaymentCanceled));
        assert_eq!(after(ChargeState::Success { fee_minor: None }).payment.status, PaymentStatus::Success);
    }
    for status in [
        PaymentStatus::Pending,
        PaymentStatus::Success,
        PaymentStatus::Failed,
        PaymentStatus::Canceled,
        PaymentStatus::NeedsReview,
    ] {
        assert_eq!(on_cancel_request(&payment(status), &policy(), NOW), Err(status));
    }
}

#[test]
fn each_change_of_status_that_merchants_hear_of_is_told_once() {
    let told = |status, state| on_answer(&payment(status), &answer(state), &policy(), NOW).unwrap();
    let success = told(PaymentStatus::Pending, ChargeState::Success { fee_minor: Some(61) });
    assert_eq!(success.effect, Effect::Tell(EventName::PaymentSuccess));
    assert_eq!(success.payment.event_count, 1);
    assert_eq!(success.payment.fee_minor, Some(61));
    assert_eq!(success.payment.paid_at, Some(NOW));
    assert_eq!(success.payment.terms.payment_token, None, "tokens are forgotten when they are no longer needed");
    assert_eq!(success.payment.current().unwrap().refs.channel_order_no.as_deref(), Some("pi_1"));
    let again =
        told(PaymentStatus::RequiresAction, ChargeState::ActionRequired { next_action: None, expires_at: None });
    assert_eq!(again.effect, Effect::None);
    assert_eq!(again.payment.event_count, 0);
}

#[test]
fn a_payment_without_outcome_needs_a_person_after_72_hours() {
    let late = NOW.plus(Duration::from_secs(72 * 3600));
    let unknown = || answer(ChargeState::Unknown { reason: "timeout".to_owned() });
    let before =
        on_answer(&payment(PaymentStatus::Processing), &unknown(), &policy(), late.minus(Duration::from_secs(1)));
    assert_eq!(before.unwrap().payment.status, PaymentStatus::Processing);
    let after = on_answer(&payment(PaymentStatus::Processing), &unknown(), &policy(), late).unwrap().payment;
    assert_eq!(after.status, PaymentStatus::NeedsReview);
    assert_eq!(after.due_at, None);
}

#[test]
fn a_payer_s_payment_never_goes_straight_to_a_person() {
    let after = |payment: &Payment, state, hours: u64| {
        on_answer(payment, &answer(state), &policy(), NOW.plus(Duration::from_secs(hours * 3600))).unwrap().payment
    };
    let unknown = || ChargeState::Unknown { reason: "timeout".to_owned() };
    let waits = || ChargeState::ActionRequired { next_action: None, expires_at: None };
    // The payer may take days; one question without an answer says nothing.
    let waiting = after(&payment(PaymentStatus::Pending), waits(), 0);
    let waiting = after(&waiting, waits(), 80);
    let unknown_once = after(&waiting, unknown(), 81);
    assert_eq!(unknown_once.status, PaymentStatus::RequiresAction);
    let unknown_for_long = after(&unknown_once, unknown(), 80 + 72);
    assert_eq!(unknown_for_long.status, PaymentStatus::Processing);
    assert_eq!(after(&unknown_for_long, unknown(), 80 + 73).status, PaymentStatus::NeedsReview);
    assert_eq!(after(&unknown_for_long, waits(), 80 + 73).status, PaymentStatus::Processing);
}

#[test]
fn what_the_channel_says_it_works_on_needs_nobody_however_long_it_takes() {
    let late = |hours: u64| NOW.plus(Duration::from_secs(hours * 3600));
    let works = on_answer(&payment(PaymentStatus::Processing), &answer(ChargeState::Processing), &policy(), late(100));
    let unknown = answer(ChargeState::Unknown { reason: "timeout".to_owned() });
    let once = on_answer(&works.unwrap().payment, &unknown, &policy(), late(101)).unwrap().payment;
    assert_eq!(once.status, PaymentStatus::Processing);

    let paid = begin_refund(&payment(PaymentStatus::Success), refund("RF1", 600), 10, &policy(), NOW).unwrap();
    let number = RefundNo::new("RF1");
    let ask = |payment: &Payment, state, hours| {
        on_refund_answer(payment, &number, &refund_answer(state), &policy(), late(hours)).unwrap().payment
    };
    let unknown = || RefundState::Unknown { reason: "timeout".to_owned() };
    let pending = ask(&paid, RefundState::Pending, 100);
    assert_eq!(pending.refunds[0].status, RefundStatus::Pending);
    assert!(pending.due_at.is_some());
    let pending = ask(&pending, unknown(), 101);
    assert_eq!(pending.refunds[0].status, RefundStatus::Pending);
    assert_eq!(ask(&pending, unknown(), 172).refunds[0].status, RefundStatus::NeedsReview);
    assert_eq!(ask(&paid, unknown(), 72).refunds[0].status, RefundStatus::NeedsReview);
}

#[test]
fn what_waited_for_its_payer_is_canceled_when_its_time_is_over() {
    let page = Some(crate::domain::outcome::NextAction::Redirect { url: "https://pay.example/1".to_owned() });
    for status in [PaymentStatus::Pending, PaymentStatus::Processing] {
        let state = ChargeState::ActionRequired { next_action: page.clone(), expires_at: None };
        let waiting = on_answer(&payment(status), &answer(state), &policy(), NOW).unwrap().payment;
        assert_eq!(waiting.current().unwrap().offered_at, Some(NOW));
        let over = on_answer(&waiting, &answer(ChargeState::Canceled), &policy(), NOW).unwrap();
        assert_eq!(over.payment.status, PaymentStatus::Canceled);
        assert_eq!(over.payment.failure(), None);
        let refused = on_answer(&waiting, &answer(ChargeState::Declined(failure())), &policy(), NOW).unwrap();
        assert_eq!(refused.payment.status, PaymentStatus::Failed);
    }
}

#[test]
fn it_is_noted_when_a_request_was_given_up() {
    let later = NOW.plus(Duration::from_secs(40));
    let unknown = answer(ChargeState::Unknown { reason: "timeout".to_owned() });
    let given_up = on_answer(&payment(PaymentStatus::Pending), &unknown, &policy(), later).unwrap().payment;
    assert_eq!(given_up.current().unwrap().unanswered_at, Some(later));
    let again = on_answer(&given_up, &unknown, &policy(), later.plus(Duration::from_secs(9))).unwrap().payment;
    assert_eq!(again.current().unwrap().unanswered_at, Some(later));
    let recovered = on_recovery(&payment(PaymentStatus::Pending), &policy(), later).unwrap().payment;
    assert_eq!(recovered.current().unwrap().unanswered_at, Some(later));
}

#[test]
fn the_next_attempt_begins_only_where_nothing_was_charged() {
    for (name, state) in answers() {
        let next = begin_attempt(&payment(PaymentStatus::Pending), &answer(state), attempt("alipay"), NOW);
        assert_eq!(next.is_some(), matches!(name, "declined" | "not_done"), "{name}");
        if let Some(next) = next {
            assert_eq!(next.attempts.len(), 2);
            assert_eq!(next.status, PaymentStatus::Pending);
            assert!(next.attempts[0].outcome.is_some());
        }
    }
    let processing = payment(PaymentStatus::Processing);
    assert!(begin_attempt(&processing, &answer(ChargeState::NotDone(failure())), attempt("alipay"), NOW).is_none());
}

#[test]
fn a_payment_that_lost_its_task_is_asked_about() {
    let recovered = on_recovery(&payment(PaymentStatus::Pending), &policy(), NOW).unwrap().payment;
    assert_eq!(recovered.status, PaymentStatus::Processing);
    assert!(recovered.reconciling);
    assert_eq!(recovered.due_at, Some(NOW.plus(Duration::from_secs(1))));
    assert!(on_recovery(&payment(PaymentStatus::Success), &policy(), NOW).is_none());
}

#[test]
fn questions_come_in_doubling_steps_to_ten_seconds_then_to_ten_minutes() {
    let seconds = |tries, age_s| policy().wait(tries, Duration::from_secs(age_s)).as_secs();
    assert_eq!([0, 1, 2, 3, 4, 40].map(|tries| seconds(tries, 30)), [1, 2, 4, 8, 10, 10]);
    assert_eq!(seconds(60, 600), 60);
    assert_eq!(seconds(60, 3_000), 300);
    assert_eq!(seconds(60, 100_000), 600);
}

#[test]
fn what_the_payer_leaves_undone_is_due_at_its_expiry() {
    let expires_at = NOW.plus(Duration::from_millis(700));
    let state = ChargeState::ActionRequired { next_action: None, expires_at: Some(expires_at) };
    let waiting = on_answer(&payment(PaymentStatus::Pending), &answer(state), &policy(), NOW).unwrap().payment;
    assert_eq!(waiting.due_at, Some(expires_at));
    let state = ChargeState::ActionRequired { next_action: None, expires_at: None };
    let waiting = on_answer(&payment(PaymentStatus::Pending), &answer(state), &policy(), NOW).unwrap().payment;
    assert_eq!(waiting.expires_at, Some(NOW.plus(Duration::from_secs(24 * 3600))));
}

fn refund(number: &str, amount_minor: i64) -> Refund {
    Refund {
        refund_no: RefundNo::new(number),
        amount_minor,
        status: RefundStatus::Pending,
        reason: None,
        provider_key: format!("tg_{number}"),
        channel_refund_no: None,
        failure: None,
        resolve_tries: 0,
        unanswered_at: None,
        known_at: None,
        created_at: NOW,
        updated_at: NOW,
    }
}

fn refund_answer(state: RefundState) -> RefundAnswer {
    RefundAnswer { state, channel_refund_no: Some("re_1".to_owned()) }
}

#[test]
fn refunds_reserve_their_amount_until_they_certainly_failed() {
    let paid = payment(PaymentStatus::Success);
    let first = begin_refund(&paid, refund("RF1", 600), 10, &policy(), NOW).unwrap();
    assert_eq!(first.refundable_minor(), 400);
    let too_much = begin_refund(&first, refund("RF2", 401), 10, &policy(), NOW);
    assert_eq!(too_much, Err(RefundRejection::TooMuch { refundable_minor: 400 }));
    let number = RefundNo::new("RF1");
    let unknown = refund_answer(RefundState::Unknown { reason: "timeout".to_owned() });
    let unknown = on_refund_answer(&first, &number, &unknown, &policy(), NOW).unwrap();
    assert_eq!((unknown.payment.refundable_minor(), unknown.effect), (400, Effect::None));
    let failed = on_refund_answer(&first, &number, &refund_answer(RefundState::Failed(failure())), &policy(), NOW);
    let failed = failed.unwrap();
    assert_eq!((failed.payment.refundable_minor(), failed.payment.refunded_minor()), (1000, 0));
    assert_eq!(failed.effect, Effect::Tell(EventName::RefundFailed));
    let done = on_refund_answer(&first, &number, &refund_answer(RefundState::Success), &policy(), NOW).unwrap();
    assert_eq!((done.payment.refundable_minor(), done.payment.refunded_minor()), (400, 600));
    assert_eq!(done.effect, Effect::Tell(EventName::RefundSuccess));
    assert_eq!(done.payment.due_at, None);
    let again = on_refund_answer(&done.payment, &number, &refund_answer(RefundState::Success), &policy(), NOW);
    assert!(again.is_none(), "a repeated answer changes nothing");
}

#[test]
fn only_charged_payments_are_refunded_and_not_without_bound() {
    for status in PaymentStatus::ALL {
        let begun = begin_refund(&payment(status), refund("RF1", 1), 10, &policy(), NOW);
        assert_eq!(begun.is_ok(), status == PaymentStatus::Success, "{}", status.as_str());
    }
    for amount_minor in [0, -1, 1001, i64::MAX] {
        assert!(
            begin_refund(&payment(PaymentStatus::Success), refund("RF1", amount_minor), 10, &policy(), NOW).is_err()
        );
    }
    let one = begin_refund(&payment(PaymentStatus::Success), refund("RF1", 1), 1, &policy(), NOW).unwrap();
    assert_eq!(begin_refund(&one, refund("RF2", 1), 1, &policy(), NOW), Err(RefundRejection::TooMany));
}

#[test]
fn only_final_payments_without_open_refunds_can_be_erased() {
    for status in PaymentStatus::ALL {
        let expected = if status.is_final() { Erasability::Erasable } else { Erasability::Open };
        assert_eq!(erasability(&payment(status)), expected, "{status:?}");
    }
    let mut due = payment(PaymentStatus::Success);
    due.due_at = Some(NOW);
    assert_eq!(erasability(&due), Erasability::Open);
}

#[test]
fn erasing_takes_the_customers_data_and_nothing_else() {
    let mut before = payment(PaymentStatus::Success);
    before.terms.customer_email = Some("ann@example.com".to_owned());
    before.terms.customer_ip = Some("192.0.2.1".to_owned());
    before.terms.description = Some("two nights".to_owned());
    before.terms.return_url = Some("https://example.com/ann".to_owned());
    before.terms.metadata.insert("room".to_owned(), "7".to_owned());
    before.attempts[0].refs.client_secret = Some("secret".to_owned());
    let after = erase_customer_data(&before, NOW);
    assert_eq!(erasability(&after), Erasability::Nothing);
    let text = serde_json::to_string(&after).unwrap();
    for word in ["ann@", "example.com", "192.0.2.1", "nights", "room", "secret", "tok_visa"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
    let bare = payment(PaymentStatus::Success);
    let mut expected = bare.clone();
    expected.terms.payment_token = None;
    expected.erased_at = Some(NOW);
    assert_eq!(after, expected);
    assert_eq!((after.refundable_minor(), after.updated_at), (before.refundable_minor(), before.updated_at));
}

const BOUNDS: FailoverBounds = FailoverBounds { failover_max: 2, within: Duration::from_secs(20) };

fn refusal(scope: DeclineScope, advice: Option<RetryAdvice>) -> Failure {
    Failure { advice, ..Failure::new("some_code", "It was refused.", scope) }
}

#[test]
fn another_channel_is_asked_only_for_what_lies_with_the_channel_and_is_not_advised_against() {
    use DeclineScope::{Bank, Customer, Network, Processor, Unknown};
    let by_scope = [
        (Processor, Ok(())),
        (Network, Ok(())),
        (Bank, Err(Failover::RefusedByBank)),
        (Customer, Err(Failover::RefusedByCustomer)),
        (Unknown, Err(Failover::RefusedByUnknown)),
    ];
    for (scope, expected) in by_scope {
        for advice in [None, Some(RetryAdvice::Later)] {
            assert_eq!(failure_allows(&refusal(scope, advice)), expected, "{scope:?} {advice:?}");
        }
        for advice in [RetryAdvice::Corrected, RetryAdvice::NotNow, RetryAdvice::Never] {
            let judged = failure_allows(&refusal(scope, Some(advice)));
            assert_eq!(judged, Err(Failover::AdvisedAgainst), "{scope:?} {advice:?}");
        }
    }
}

#[test]
fn another_channel_is_asked_twice_at_most_and_in_time() {
    let judge =
        |payment: &Payment, bounds, now| may_ask_another(payment, &refusal(DeclineScope::Processor, None), bounds, now);
    let mut payment = payment(PaymentStatus::Pending);
    payment.terms.requested_channel = None;
    payment.attempts = vec![attempt("a")];
    assert_eq!(judge(&payment, BOUNDS, NOW), Ok(()));
    assert_eq!(judge(&payment, BOUNDS, NOW.plus(BOUNDS.within)), Err(Failover::OutOfTime));
    assert_eq!(judge(&payment, FailoverBounds { failover_max: 0, ..BOUNDS }, NOW), Err(Failover::Exhausted));
    payment.attempts.push(attempt("b"));
    assert_eq!(judge(&payment, BOUNDS, NOW), Ok(()));
    assert_eq!(judge(&payment, FailoverBounds { failover_max: 1, ..BOUNDS }, NOW), Err(Failover::Exhausted));
    payment.attempts.push(attempt("c"));
    // Whatever an older configuration says.
    for failover_max in [2, 10, u32::MAX] {
        assert_eq!(judge(&payment, FailoverBounds { failover_max, ..BOUNDS }, NOW), Err(Failover::Exhausted));
    }
    payment.attempts.truncate(1);
    payment.terms.requested_channel = Some(ChannelName::new("a"));
    assert_eq!(judge(&payment, BOUNDS, NOW), Err(Failover::ChannelRequested));
}

#[test]
fn an_attempt_says_why_no_other_channel_was_asked_and_the_first_reason_stays() {
    let after = |state: ChargeState| {
        on_answer(&payment(PaymentStatus::Pending), &answer(state), &policy(), NOW).unwrap().payment
    };
    let unknown = after(ChargeState::Unknown { reason: String::new() });
    assert_eq!(unknown.attempts[0].failover, Some(Failover::OutcomeUnknown));
    let open = after(ChargeState::ActionRequired { next_action: None, expires_at: None });
    assert_eq!(open.attempts[0].failover, Some(Failover::OutcomeOpen));
    assert_eq!(after(ChargeState::Processing).attempts[0].failover, Some(Failover::OutcomeOpen));
    assert_eq!(after(ChargeState::Success { fee_minor: None }).attempts[0].failover, None);
    // What is learned later does not make another channel have been asked then.
    let declined = answer(ChargeState::Declined(refusal(DeclineScope::Processor, None)));
    let later = on_answer(&unknown, &declined, &policy(), NOW).unwrap().payment;
    assert_eq!(later.status, PaymentStatus::Failed);
    assert_eq!(later.attempts[0].failover, Some(Failover::OutcomeUnknown));
    let next = begin_attempt(&payment(PaymentStatus::Pending), &declined, attempt("b"), NOW).unwrap();
    assert_eq!(next.attempts[0].failover, Some(Failover::Asked));
    assert_eq!(next.attempts[1].failover, None);
}

#[test]
fn reasons_and_failures_are_written_as_documented_and_old_records_are_read() {
    for failover in Failover::ALL {
        assert_eq!(serde_json::to_value(failover).unwrap(), failover.as_str());
        assert!(failover.sentence(Language::English).ends_with('.'));
        assert!(failover.sentence(Language::Chinese).ends_with('。'));
    }
    assert_eq!(
        Failover::ALL.into_iter().filter(|failover| failover.is_allowed()).collect::<Vec<_>>(),
        [Failover::Asked, Failover::NoChannelLeft, Failover::NotStored]
    );
    let old = r#"{"code":"card_declined","message":"The card was declined.","decline_scope":"bank"}"#;
    assert_eq!(serde_json::from_str::<Failure>(old).unwrap(), failure());
    assert_eq!(serde_json::to_string(&failure()).unwrap(), old);
    let mut old = serde_json::to_value(attempt("a")).unwrap();
    assert!(old.as_object_mut().unwrap().remove("failover").is_none());
    assert_eq!(serde_json::from_value::<Attempt>(old).unwrap(), attempt("a"));
}
