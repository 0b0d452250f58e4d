//! Money that came otherwise than it was asked for, and what a person says about what could not be resolved.

use super::*;
use crate::domain::stray::StrayPolicy;

const POLICIES: [StrayPolicy; 3] = [StrayPolicy::Refund, StrayPolicy::Report, StrayPolicy::Accept];

fn rules(policy: StrayPolicy) -> StrayRules {
    StrayRules { policy, refunds_max: 10 }
}

fn names(number: &str) -> NewRefund {
    NewRefund { refund_no: RefundNo::new(number), provider_key: format!("tg_{number}") }
}

fn usd(amount_minor: i64) -> Option<Money> {
    Some(Money::new(amount_minor, Currency::USD))
}

fn stray(kind: StrayKind, received: Option<Money>) -> ChargeState {
    ChargeState::Stray { kind, received }
}

fn success() -> ChargeState {
    ChargeState::Success { fee_minor: None }
}

/// A payment of 1000 in a status, its only attempt as it then is.
fn ended(status: PaymentStatus) -> Payment {
    let mut payment = payment(status);
    payment.attempts[0].outcome = match status {
        PaymentStatus::Success => Some(AttemptOutcome::Success),
        PaymentStatus::Failed => Some(AttemptOutcome::Declined),
        PaymentStatus::Canceled => Some(AttemptOutcome::Canceled),
        _ => None,
    };
    payment
}

fn told(before: &Payment, place: usize, state: ChargeState, policy_of: StrayPolicy) -> Option<Outcome> {
    let number = format!("RF{}", before.refunds.len());
    on_stray(before, place, &answer(state), rules(policy_of), names(&number), &policy(), NOW)
}

#[test]
fn a_late_success_leaves_the_status_and_is_given_back_once_however_often_it_is_told() {
    for status in [PaymentStatus::Failed, PaymentStatus::Canceled] {
        for state in [success(), stray(StrayKind::Late, usd(1000))] {
            let first = told(&ended(status), 0, state.clone(), StrayPolicy::Refund).unwrap();
            assert_eq!((first.payment.status, first.effect), (status, Effect::None));
            let [noted] = &first.payment.strays[..] else { panic!("{:?}", first.payment.strays) };
            assert_eq!((noted.kind, noted.received_minor), (StrayKind::Late, Some(1000)));
            assert_eq!(noted.action, StrayAction::Refunding(RefundNo::new("RF0")));
            let [refund] = &first.payment.refunds[..] else { panic!("{:?}", first.payment.refunds) };
            assert_eq!((refund.amount_minor, refund.status), (1000, RefundStatus::Pending));
            assert!(first.payment.due_at.is_some(), "somebody has to ask about the refund");
            assert_eq!(first.payment.refundable_minor(), 0);
            for again in [success(), state] {
                assert_eq!(told(&first.payment, 0, again, StrayPolicy::Refund), None);
            }
            let (source, brought_minor) = first.payment.source_of(&refund.refund_no).unwrap();
            assert_eq!((source, brought_minor), (&first.payment.attempts[0], 1000));
        }
    }
}

#[test]
fn what_is_only_reported_can_be_given_back_by_hand_and_no_more_of_it() {
    let reported = told(&ended(PaymentStatus::Failed), 0, success(), StrayPolicy::Report).unwrap().payment;
    assert_eq!(reported.strays[0].action, StrayAction::Reported);
    assert!(reported.refunds.is_empty() && reported.due_at.is_none());
    let too_much = begin_refund(&reported, refund("RF1", 1001), 10, &policy(), NOW);
    assert_eq!(too_much, Err(RefundRejection::TooMuch { refundable_minor: 1000 }));
    let begun = begin_refund(&reported, refund("RF1", 400), 10, &policy(), NOW).unwrap();
    assert_eq!(begun.refundable_minor(), 600);
    assert_eq!(begun.source_of(&RefundNo::new("RF1")).unwrap().1, 1000);
    let none = begin_refund(&ended(PaymentStatus::Failed), refund("RF1", 1), 10, &policy(), NOW);
    assert_eq!(none, Err(RefundRejection::State(PaymentStatus::Failed)), "nothing came");
}

#[test]
fn money_in_part_or_late_ends_an_open_payment() {
    for status in [PaymentStatus::RequiresAction, PaymentStatus::Processing] {
        for policy_of in POLICIES {
            let partial = told(&payment(status), 0, stray(StrayKind::Partial, usd(300)), policy_of).unwrap();
            assert_eq!(partial.payment.status, PaymentStatus::Failed);
            assert_eq!(partial.effect, Effect::Tell(EventName::PaymentFailed));
            assert_eq!(partial.payment.failure().unwrap().code, "partially_paid");
            assert_eq!(partial.payment.strayed_minor(), 300);
            assert_eq!(partial.payment.refunds.len(), usize::from(policy_of != StrayPolicy::Report));

            let late = told(&payment(status), 0, stray(StrayKind::Late, usd(1000)), policy_of).unwrap();
            let is_accepted = policy_of == StrayPolicy::Accept;
            let expected = if is_accepted { PaymentStatus::Success } else { PaymentStatus::Failed };
            assert_eq!(late.payment.status, expected, "{policy_of:?}");
            assert_eq!(late.payment.strays.len(), 1);
            assert_eq!(late.payment.refunds.len(), usize::from(policy_of == StrayPolicy::Refund));
            if is_accepted {
                assert_eq!(late.payment.refundable_minor(), 1000, "it was paid once");
                assert_eq!(told(&late.payment, 0, success(), policy_of), None);
            } else {
                assert_eq!(late.payment.failure().unwrap().code, "paid_late");
            }
        }
        // Late and of another amount is never accepted.
        let more = told(&payment(status), 0, stray(StrayKind::Late, usd(1001)), StrayPolicy::Accept).unwrap();
        assert_eq!((more.payment.status, more.payment.refunds.len()), (PaymentStatus::Failed, 1));
    }
    let mut given_up = payment(PaymentStatus::RequiresAction);
    given_up.cancel_requested = true;
    let late = told(&given_up, 0, stray(StrayKind::Late, usd(1000)), StrayPolicy::Refund).unwrap();
    assert_eq!((late.payment.status, late.payment.refunds.len()), (PaymentStatus::Canceled, 1));
}

#[test]
fn of_too_much_only_what_is_beyond_is_stray() {
    let over = told(&payment(PaymentStatus::Processing), 0, stray(StrayKind::Over, usd(1250)), StrayPolicy::Refund);
    let over = over.unwrap();
    assert_eq!((over.payment.status, over.effect), (PaymentStatus::Success, Effect::Tell(EventName::PaymentSuccess)));
    assert_eq!((over.payment.strays[0].kind, over.payment.strays[0].received_minor), (StrayKind::Over, Some(250)));
    assert_eq!((over.payment.refunds[0].amount_minor, over.payment.refundable_minor()), (250, 1000));
    assert_eq!(over.payment.source_of(&RefundNo::new("RF0")).unwrap().1, 1250);
    assert_eq!(told(&over.payment, 0, stray(StrayKind::Over, usd(1250)), StrayPolicy::Refund), None);
    let more = told(&over.payment, 0, stray(StrayKind::Over, usd(1300)), StrayPolicy::Refund).unwrap().payment;
    assert_eq!((more.strays[1].received_minor, more.refunds.len()), (Some(50), 2));

    // Nobody says how much.
    let unsaid = told(&payment(PaymentStatus::Processing), 0, stray(StrayKind::Over, None), StrayPolicy::Refund);
    let unsaid = unsaid.unwrap().payment;
    assert_eq!((unsaid.status, unsaid.refundable_minor()), (PaymentStatus::Success, 1000));
    assert_eq!((unsaid.strays[0].action.clone(), unsaid.refunds.len()), (StrayAction::Reported, 0));
    assert_eq!(told(&unsaid, 0, stray(StrayKind::Over, None), StrayPolicy::Refund), None);
}

#[test]
fn what_comes_in_pieces_is_written_down_piece_by_piece() {
    let partial = |total| stray(StrayKind::Partial, usd(total));
    let first = told(&ended(PaymentStatus::Failed), 0, partial(300), StrayPolicy::Refund).unwrap().payment;
    assert_eq!(told(&first, 0, partial(300), StrayPolicy::Refund), None);
    assert_eq!(told(&first, 0, partial(200), StrayPolicy::Refund), None, "an old answer");
    let second = told(&first, 0, partial(800), StrayPolicy::Refund).unwrap().payment;
    let amounts: Vec<_> = second.refunds.iter().map(|refund| refund.amount_minor).collect();
    assert_eq!(amounts, [300, 500]);
    assert_eq!(second.strayed_minor(), 800);
}

#[test]
fn money_of_an_earlier_attempt_is_stray_beside_what_the_last_one_charged() {
    let mut paid = ended(PaymentStatus::Success);
    let mut earlier = attempt("alipay");
    earlier.outcome = Some(AttemptOutcome::NotDone);
    paid.attempts.insert(0, earlier);
    assert_eq!(told(&paid, 1, success(), StrayPolicy::Refund), None, "that is the one that counts");
    let twice = told(&paid, 0, success(), StrayPolicy::Refund).unwrap().payment;
    assert_eq!((twice.status, twice.refundable_minor()), (PaymentStatus::Success, 1000));
    let (source, brought_minor) = twice.source_of(&RefundNo::new("RF0")).unwrap();
    assert_eq!((source.channel.as_str(), brought_minor), ("alipay", 1000));
    let later = begin_refund(&twice, refund("RF9", 1000), 10, &policy(), NOW).unwrap();
    assert_eq!(later.source_of(&RefundNo::new("RF9")).unwrap().0.channel.as_str(), "stripe");
    assert_eq!(told(&twice, 7, success(), StrayPolicy::Refund), None, "there is no such attempt");
}

#[test]
fn what_says_nothing_of_money_changes_nothing() {
    for status in PaymentStatus::ALL {
        for (name, state) in answers() {
            let is_late = name == "success" && matches!(status, PaymentStatus::Failed | PaymentStatus::Canceled);
            let outcome = told(&ended(status), 0, state, StrayPolicy::Refund);
            assert_eq!(outcome.is_some(), is_late, "{name} in {status:?}");
        }
    }
    for status in [PaymentStatus::Pending, PaymentStatus::NeedsReview] {
        assert_eq!(told(&ended(status), 0, stray(StrayKind::Late, usd(1000)), StrayPolicy::Refund), None);
    }
}

#[test]
fn no_more_refunds_begin_than_may_and_other_currencies_are_left_to_a_person() {
    let few = StrayRules { policy: StrayPolicy::Refund, refunds_max: 0 };
    let full = on_stray(&ended(PaymentStatus::Failed), 0, &answer(success()), few, names("RF0"), &policy(), NOW);
    assert_eq!(full.unwrap().payment.strays[0].action, StrayAction::Reported);
    let euros = stray(StrayKind::Late, Some(Money::new(1000, "EUR".parse().unwrap())));
    let foreign = told(&ended(PaymentStatus::Failed), 0, euros, StrayPolicy::Refund).unwrap().payment;
    assert_eq!((foreign.strays[0].received_minor, foreign.refundable_minor()), (None, 0));
    assert!(foreign.refunds.is_empty());
}

#[test]
fn a_person_ends_only_what_waits_for_one() {
    for status in PaymentStatus::ALL {
        for verdict in [ReviewVerdict::Success, ReviewVerdict::Failed] {
            let outcome = on_review(&payment(status), verdict, &policy(), NOW);
            let Some(outcome) = outcome else {
                assert_ne!(status, PaymentStatus::NeedsReview);
                continue;
            };
            assert_eq!(status, PaymentStatus::NeedsReview);
            let (expected, event) = match verdict {
                ReviewVerdict::Success => (PaymentStatus::Success, EventName::PaymentSuccess),
                ReviewVerdict::Failed => (PaymentStatus::Failed, EventName::PaymentFailed),
            };
            assert_eq!((outcome.payment.status, outcome.effect), (expected, Effect::Tell(event)));
            assert_eq!(outcome.payment.event_count, 1);
            assert_eq!(outcome.payment.terms.payment_token, None);
            assert_eq!(outcome.payment.paid_at.is_some(), verdict == ReviewVerdict::Success);
            let code = outcome.payment.failure().map(|failure| failure.code.as_str());
            assert_eq!(code, (verdict == ReviewVerdict::Failed).then_some("resolved_by_operator"));
        }
    }
    let mut given_up = payment(PaymentStatus::NeedsReview);
    given_up.cancel_requested = true;
    let failed = on_review(&given_up, ReviewVerdict::Failed, &policy(), NOW).unwrap().payment;
    assert_eq!(failed.status, PaymentStatus::Failed);
}

#[test]
fn a_person_gives_a_refunds_reservation_back_or_keeps_it() {
    let number = RefundNo::new("RF1");
    for status in [RefundStatus::Pending, RefundStatus::Success, RefundStatus::Failed, RefundStatus::NeedsReview] {
        for (verdict, left, event) in [
            (ReviewVerdict::Success, 400, EventName::RefundSuccess),
            (ReviewVerdict::Failed, 1000, EventName::RefundFailed),
        ] {
            let mut paid = ended(PaymentStatus::Success);
            paid.refunds.push(Refund { status, ..refund("RF1", 600) });
            let outcome = on_refund_review(&paid, &number, verdict, &policy(), NOW);
            assert_eq!(outcome.is_some(), status == RefundStatus::NeedsReview, "{status:?}");
            let Some(outcome) = outcome else { continue };
            assert_eq!((outcome.payment.refundable_minor(), outcome.effect), (left, Effect::Tell(event)));
        }
    }
    let unknown = on_refund_review(&ended(PaymentStatus::Success), &number, ReviewVerdict::Failed, &policy(), NOW);
    assert_eq!(unknown, None);
}

#[test]
fn stray_money_whose_refund_failed_is_left_to_a_person_and_can_be_given_back_by_hand() {
    let refund_no = RefundNo::new("RF0");
    let begun = told(&ended(PaymentStatus::Failed), 0, success(), StrayPolicy::Refund).unwrap().payment;
    let no = Failure::new("channel_unreachable", "No.", DeclineScope::Processor);
    let failed = on_refund_answer(&begun, &refund_no, &RefundAnswer::failed(no), &policy(), NOW).unwrap().payment;
    assert_eq!(failed.strays[0].action, StrayAction::Reported);
    assert_eq!((failed.strays.len(), failed.refundable_minor()), (1, 1000));
    assert_eq!(told(&failed, 0, success(), StrayPolicy::Refund), None, "it is still the same money");
    assert!(begin_refund(&failed, refund("RF1", 1000), 10, &policy(), NOW).is_ok());

    let mut stuck = begun.clone();
    stuck.refunds[0].status = RefundStatus::NeedsReview;
    let verdict = |verdict| on_refund_review(&stuck, &refund_no, verdict, &policy(), NOW).unwrap().payment;
    assert_eq!(verdict(ReviewVerdict::Failed).strays[0].action, StrayAction::Reported);
    assert_eq!(verdict(ReviewVerdict::Success).strays, begun.strays);
}

#[test]
fn excess_of_which_nobody_knows_how_much_it_is_yet_is_given_back_once_that_is_known() {
    let waiting = payment(PaymentStatus::Processing);
    let paid = told(&waiting, 0, stray(StrayKind::Over, None), StrayPolicy::Refund).unwrap().payment;
    assert_eq!((paid.status, paid.refunds.len()), (PaymentStatus::Success, 0));
    assert_eq!((paid.strays[0].received_minor, &paid.strays[0].action), (None, &StrayAction::Reported));
    assert_eq!(told(&paid, 0, stray(StrayKind::Over, None), StrayPolicy::Refund), None);
    let known = told(&paid, 0, stray(StrayKind::Over, usd(1300)), StrayPolicy::Refund).unwrap().payment;
    assert_eq!((known.strays.len(), known.refunds[0].amount_minor), (2, 300));
}
