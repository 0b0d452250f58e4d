//! After a restore: what is closed instead of sent, what is made again, what a person has to look at.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;

use super::fixture::{Fixture, START, UnsteadyStore, caller, pass};
use crate::channels::{
    ChargeState, DeclineScope, Failure, HoldState, ListError, ListedCharge, ListedRefund, ProviderRefs, RefundState,
    StrayKind,
};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::audit::Operator;
use crate::domain::ids::{PaymentNo, RefundNo};
use crate::domain::money::{Currency, Money};
use crate::domain::payment::{Refund, RefundStatus};
use crate::domain::time::Timestamp;
use crate::gateway::audit::{self, Audit, AuditFilter};
use crate::gateway::command::CreatePayment;
use crate::gateway::error::GatewayError;
use crate::gateway::installation::ProviderKeys;
use crate::gateway::page::PageRequest;
use crate::gateway::payments::{Hold, rows};
use crate::storage::held::{Held, HeldFile};
use crate::storage::record::encode;
use crate::storage::{Batch, Store, keys};

/// A process that finds a store that was restored; the operator has compared Alipay already.
async fn restored(store: &Arc<UnsteadyStore>, clock: &Clock, directory: &tempfile::TempDir) -> (Fixture, Hold) {
    restored_with(store, clock, directory, &["alipay"]).await
}

async fn restored_with(
    store: &Arc<UnsteadyStore>,
    clock: &Clock,
    directory: &tempfile::TempDir,
    confirmed: &[&str],
) -> (Fixture, Hold) {
    // So long ago that nothing can be on its way any more.
    restored_at(START.minus(Duration::from_secs(3_600)), store, clock, directory, confirmed).await
}

async fn restored_at(
    made_at: Timestamp,
    store: &Arc<UnsteadyStore>,
    clock: &Clock,
    directory: &tempfile::TempDir,
    confirmed: &[&str],
) -> (Fixture, Hold) {
    let configure = |config: &mut Config| {
        directory.path().clone_into(&mut config.storage.dir);
        config.channels.retain(|name, _| name == "stripe" || name == "alipay");
    };
    restored_as(made_at, store, clock, directory, confirmed, configure).await
}

async fn restored_as(
    made_at: Timestamp,
    store: &Arc<UnsteadyStore>,
    clock: &Clock,
    directory: &tempfile::TempDir,
    confirmed: &[&str],
    configure: impl FnOnce(&mut Config),
) -> (Fixture, Hold) {
    let mark = Held {
        restored_until_sequence: 1,
        restored_until_time: START,
        since: None,
        made_at,
        confirmed: confirmed.iter().map(|name| (String::from(*name), START)).collect(),
    };
    HeldFile::of(directory.path()).write(&mark).unwrap();
    let house = Fixture::over(Arc::clone(store), clock, configure).await;
    let mut batch = Batch::new();
    let merchant = caller().merchant;
    batch.put(keys::merchant(&merchant.merchant_id), encode(&*merchant).unwrap());
    house.store.commit(batch).await.unwrap();
    let hold = Hold::open(&house.payments, &house.pre_auths, Some(HeldFile::of(directory.path()))).unwrap();
    (house, hold)
}

fn listed(payment_no: &str, order_no: &str, state: ChargeState) -> ListedCharge {
    let provider_no = format!("pi_{order_no}");
    ListedCharge {
        reference: Some(payment_no.to_owned()),
        provider_key: Some(ProviderKeys::for_tests().key(payment_no, "charge", 1)),
        merchant_id: Some(String::from("m_1")),
        order_no: Some(order_no.to_owned()),
        money: Some(Money::new(900, Currency::USD)),
        state,
        hold: None,
        refs: ProviderRefs { channel_order_no: Some(provider_no.clone()), ..ProviderRefs::default() },
        provider_no,
        created_at: START,
    }
}

fn success() -> ChargeState {
    ChargeState::Success { fee_minor: None }
}

fn not_done() -> ChargeState {
    ChargeState::NotDone(Failure::new("not_received", "Never arrived.", DeclineScope::Processor))
}

fn state_of_stripe(hold: &Hold) -> String {
    let view = hold.view();
    view.channels.into_iter().find(|channel| channel.channel == "stripe").unwrap().state
}

#[tokio::test(start_paused = true)]
async fn what_no_provider_has_is_closed_and_not_sent() {
    let clock = Clock::virtual_from(START);
    let store: Arc<UnsteadyStore> = Arc::default();
    let before = Fixture::over(Arc::clone(&store), &clock, |_| {}).await;
    before.stripe.set(|script| script.takes = Duration::from_secs(3_600));
    let paying = async { drop(before.pay("O-1").await) };
    drop(tokio::time::timeout(Duration::from_secs(1), paying).await);
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = restored(&store, &clock, &directory).await;
    house.stripe.set(|script| script.resolve = not_done());
    house.stripe.list(Some(Vec::new()));
    house.payments.start().unwrap();
    hold.start();
    pass(Duration::from_secs(120)).await;
    assert!(!hold.view().held);
    assert_eq!(house.only().status, "failed");
    let closing = house.stripe.closing.load(Ordering::SeqCst);
    assert_eq!(
        (closing, house.stripe.charges.load(Ordering::SeqCst)),
        (house.stripe.resolves.load(Ordering::SeqCst), 0)
    );
    assert!(closing > 0, "it was closed, never just asked about");
    assert_eq!(HeldFile::of(directory.path()).read(), Ok(None));
    let by_itself = AuditFilter { action: Some(String::from("hold.end")), ..AuditFilter::default() };
    let entries = Audit::new(house.core.clone()).list(&by_itself, &PageRequest::default()).unwrap().items;
    assert_eq!(entries.iter().map(|entry| entry.actor.as_str()).collect::<Vec<_>>(), ["hold"]);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_was_paid_after_the_point_is_held_by_the_payment_that_was_paid() {
    let clock = Clock::virtual_from(START);
    let store: Arc<UnsteadyStore> = Arc::default();
    let before = Fixture::over(Arc::clone(&store), &clock, |_| {}).await;
    before.stripe.set(|script| script.charge = ChargeState::Processing);
    before.pay("O-1").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = restored(&store, &clock, &directory).await;
    // Behind the point the first payment was closed, and the order was paid by another one.
    house.stripe.set(|script| script.resolve = not_done());
    house.stripe.list(Some(vec![listed("PY20260921141320aaaaaaaa", "O-1", success())]));
    house.payments.start().unwrap();
    hold.start();
    let refused = house.pay("O-2").await;
    assert!(matches!(refused, Err(GatewayError::Held)), "{refused:?}");
    pass(Duration::from_secs(120)).await;
    assert!(!hold.view().held, "{:?}", hold.view());
    let mut found: Vec<(String, String)> =
        house.all().into_iter().map(|payment| (payment.payment_no, payment.status)).collect();
    found.sort();
    assert_eq!(found.len(), 2);
    assert!(found.contains(&(String::from("PY20260921141320aaaaaaaa"), String::from("success"))), "{found:?}");
    let made_again = house.all().into_iter().find(|payment| payment.payment_no == "PY20260921141320aaaaaaaa").unwrap();
    // The provider does not say what it took: 2.9 % of 9.00 and 0.30.
    assert_eq!(made_again.fee.map(|fee| fee.amount), Some(56));
    let again = house.pay_with("O-1", |_| {}).await;
    assert!(again.is_err() || house.stripe.charges.load(Ordering::SeqCst) == 0, "the order was paid for already");
    assert_eq!(house.stripe.charges.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_placed_waits_for_a_person_and_what_is_foreign_does_not() {
    let clock = Clock::virtual_from(START);
    let store: Arc<UnsteadyStore> = Arc::default();
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = restored(&store, &clock, &directory).await;
    let mut forged = listed("PY20260921141320bbbbbbbb", "O-2", success());
    forged.provider_key = Some(String::from("tg_of_another_installation"));
    let mut orphan = listed("PY20260921141320cccccccc", "O-3", success());
    orphan.merchant_id = Some(String::from("m_gone"));
    let mut foreign = listed("", "O-4", success());
    foreign.reference = None;
    house.stripe.list(Some(vec![forged, orphan, foreign]));
    house.payments.start().unwrap();
    hold.start();
    pass(Duration::from_secs(60)).await;
    assert_eq!(state_of_stripe(&hold), "needs_confirmation");
    let view = hold.view();
    let stripe = view.channels.iter().find(|channel| channel.channel == "stripe").unwrap();
    assert_eq!((stripe.objects, stripe.foreign, stripe.adopted, stripe.items.len()), (3, 1, 0, 2));
    assert!(house.all().is_empty(), "nothing is made up");
    assert!(matches!(hold.confirm(&Operator::process("test"), "nobody").await, Err(GatewayError::NotFound(_))));
    hold.confirm(&Operator::process("test"), "stripe").await.unwrap();
    pass(Duration::from_secs(5)).await;
    assert!(!hold.view().held);
    house.pay("O-5").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_cannot_be_asked_keeps_the_store_held() {
    let clock = Clock::virtual_from(START);
    let store: Arc<UnsteadyStore> = Arc::default();
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = restored_with(&store, &clock, &directory, &[]).await;
    house.payments.start().unwrap();
    hold.start();
    pass(Duration::from_secs(3_600)).await;
    assert!(hold.view().held);
    assert_eq!(state_of_stripe(&hold), "needs_confirmation");
    hold.confirm(&Operator::process("test"), "stripe").await.unwrap();
    // A process that ends before the hold does finds what was confirmed.
    let held = HeldFile::of(directory.path()).read().unwrap().unwrap();
    assert!(held.confirmed.contains_key("stripe"));
}

/// A hold of which nothing is confirmed yet.
async fn unconfirmed(directory: &tempfile::TempDir) -> (Fixture, Hold) {
    let (house, _) = restored(&Arc::default(), &Clock::virtual_from(START), directory).await;
    let file = HeldFile::of(directory.path());
    file.write(&Held { confirmed: Default::default(), ..file.read().unwrap().unwrap() }).unwrap();
    let hold = Hold::open(&house.payments, &house.pre_auths, Some(file)).unwrap();
    (house, hold)
}

fn confirmed_in(directory: &tempfile::TempDir) -> Vec<String> {
    HeldFile::of(directory.path()).read().unwrap().unwrap().confirmed.into_keys().collect()
}

#[tokio::test(start_paused = true)]
async fn channels_confirmed_at_once_are_all_in_the_mark_and_each_in_the_audit_once() {
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = unconfirmed(&directory).await;
    let by = Operator::process("test");
    let (stripe, alipay, again) =
        tokio::join!(hold.confirm(&by, "stripe"), hold.confirm(&by, "alipay"), hold.confirm(&by, "stripe"));
    assert!(stripe.is_ok() && alipay.is_ok() && again.is_ok());
    assert_eq!(confirmed_in(&directory), ["alipay", "stripe"]);
    assert_eq!(audit::head(house.core.store.as_ref()).unwrap().number, 2);
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_counts_although_the_operator_hung_up() {
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = unconfirmed(&directory).await;
    let hung_up = hold.confirm(&Operator::process("test"), "stripe").now_or_never();
    assert!(hung_up.is_none(), "it takes longer than that");
    house.core.tasks.close();
    house.core.tasks.wait().await;
    assert_eq!((state_of_stripe(&hold).as_str(), confirmed_in(&directory)), ("confirmed", vec!["stripe".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_does_not_bring_a_hold_back_that_has_just_ended() {
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = unconfirmed(&directory).await;
    for stub in [&house.stripe, &house.alipay] {
        stub.list(Some(Vec::new()));
    }
    house.payments.start().unwrap();
    hold.start();
    // Whenever it comes: before the end, at it, or after it.
    let by = Operator::process("test");
    for _ in 0..200 {
        drop(hold.confirm(&by, "stripe").await);
        drop(hold.confirm(&by, "alipay").await);
        pass(Duration::from_millis(50)).await;
    }
    assert!(!hold.view().held);
    assert_eq!(HeldFile::of(directory.path()).read(), Ok(None));
    assert!(matches!(hold.confirm(&by, "stripe").await, Err(GatewayError::NotFound(_))));
}

const LOST: &str = "PY20260921141320dddddddd";

fn declined(decline_scope: DeclineScope) -> ChargeState {
    ChargeState::Declined(Failure::new("processing_error", "The card could not be processed.", decline_scope))
}

fn key_of_second_attempt(payment_no: &str) -> String {
    ProviderKeys::for_tests().key(payment_no, "charge", 2)
}

#[tokio::test(start_paused = true)]
async fn a_charge_that_followed_a_refusal_is_found_where_there_is_no_list() {
    let clock = Clock::virtual_from(START);
    let store: Arc<UnsteadyStore> = Arc::default();
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = restored_with(&store, &clock, &directory, &[]).await;
    let first = listed(LOST, "O-1", declined(DeclineScope::Processor));
    house.stripe.list(Some(vec![first]));
    // It can't be reached at first; what is known of the payment must not count meanwhile.
    house.alipay.find(Err(ListError::Failed(String::from("no answer"))));
    house.payments.start().unwrap();
    hold.start();
    pass(Duration::from_secs(600)).await;
    assert_eq!(state_of_stripe(&hold), "comparing");
    assert!(house.all().is_empty(), "it is not known yet what became of it");
    let asked = house.alipay.finds.load(Ordering::SeqCst);
    assert!((5..=20).contains(&asked), "asked {asked} times in ten minutes");
    let view = hold.view();
    let stripe = view.channels.iter().find(|channel| channel.channel == "stripe").unwrap();
    assert!(stripe.problem.as_ref().unwrap().contains(LOST), "{stripe:?}");

    house.alipay.find(Ok(Some((key_of_second_attempt(LOST), success()))));
    pass(Duration::from_secs(120)).await;
    assert_eq!(state_of_stripe(&hold), "checked");
    let paid = house.only();
    assert_eq!((paid.payment_no.as_str(), paid.status.as_str()), (LOST, "success"));
    let stored = rows::read(&house.core, &caller().merchant.merchant_id, &PaymentNo::new(LOST)).unwrap();
    let channels: Vec<&str> = stored.payment.attempts.iter().map(|attempt| attempt.channel.as_str()).collect();
    assert_eq!(channels, ["stripe", "alipay"]);
    assert!(hold.view().held, "the operator has not compared the rest of what it did");
    hold.confirm(&Operator::process("test"), "alipay").await.unwrap();
    pass(Duration::from_secs(5)).await;
    assert!(!hold.view().held);
    let again = house.pay_with("O-1", |_| {}).await;
    assert!(matches!(again, Err(GatewayError::OrderExists { .. })), "{again:?}");
    let charges = house.stripe.charges.load(Ordering::SeqCst) + house.alipay.charges.load(Ordering::SeqCst);
    let resolves = house.alipay.resolves.load(Ordering::SeqCst);
    assert_eq!((charges, resolves), (0, 0), "it was only looked for");
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_was_under_way_is_not_closed_while_its_next_attempt_is_looked_for() {
    let clock = Clock::virtual_from(START);
    let store: Arc<UnsteadyStore> = Arc::default();
    let before = Fixture::over(Arc::clone(&store), &clock, |_| {}).await;
    before.stripe.set(|script| script.takes = Duration::from_secs(3_600));
    let paying = async { drop(before.pay("O-1").await) };
    drop(tokio::time::timeout(Duration::from_secs(1), paying).await);
    let payment_no = before.only().payment_no;
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = restored_with(&store, &clock, &directory, &[]).await;
    house.stripe.set(|script| script.resolve = declined(DeclineScope::Processor));
    house.stripe.list(Some(vec![listed(&payment_no, "O-1", declined(DeclineScope::Processor))]));
    house.alipay.find(Err(ListError::Failed(String::from("no answer"))));
    house.payments.start().unwrap();
    hold.start();
    pass(Duration::from_secs(300)).await;
    assert_eq!(house.only().status, "processing");
    house.alipay.find(Ok(Some((key_of_second_attempt(&payment_no), success()))));
    pass(Duration::from_secs(120)).await;
    assert_eq!(house.only().status, "success");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_else_can_have_is_not_looked_for_and_a_confirmation_ends_the_search() {
    let clock = Clock::virtual_from(START);
    let store: Arc<UnsteadyStore> = Arc::default();
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = restored_with(&store, &clock, &directory, &[]).await;
    // A refusal by the bank is no reason to ask another channel, so that nobody did.
    let by_bank = listed("PY20260921141320eeeeeeee", "O-2", declined(DeclineScope::Bank));
    house.stripe.list(Some(vec![by_bank, listed(LOST, "O-1", declined(DeclineScope::Network))]));
    house.alipay.find(Err(ListError::Failed(String::from("no answer"))));
    house.payments.start().unwrap();
    hold.start();
    pass(Duration::from_millis(600)).await;
    assert_eq!(house.alipay.finds.load(Ordering::SeqCst), 1);
    assert_eq!(house.only().payment_no, "PY20260921141320eeeeeeee");
    hold.confirm(&Operator::process("test"), "alipay").await.unwrap();
    pass(Duration::from_secs(2)).await;
    assert!(!hold.view().held, "{:?}", hold.view());
    assert_eq!(house.all().iter().filter(|payment| payment.status == "failed").count(), 2);

    // One that was confirmed by an earlier process is asked all the same, once.
    let (store, directory) = (Arc::<UnsteadyStore>::default(), tempfile::tempdir().unwrap());
    let (house, hold) = restored(&store, &clock, &directory).await;
    house.stripe.list(Some(vec![listed(LOST, "O-1", declined(DeclineScope::Processor))]));
    house.alipay.find(Ok(Some((key_of_second_attempt(LOST), success()))));
    house.payments.start().unwrap();
    hold.start();
    pass(Duration::from_secs(5)).await;
    assert_eq!(house.only().status, "success");
    assert!(!hold.view().held);
}

#[tokio::test(start_paused = true)]
async fn a_list_counts_only_when_nothing_that_was_sent_before_can_take_effect_any_more() {
    let clock = Clock::virtual_from(START);
    let store: Arc<UnsteadyStore> = Arc::default();
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = restored_at(START, &store, &clock, &directory, &["alipay"]).await;
    house.stripe.list(Some(Vec::new()));
    house.payments.start().unwrap();
    hold.start();
    pass(Duration::from_secs(30)).await;
    // A request of the process before takes effect now.
    house.stripe.list(Some(vec![listed(LOST, "O-1", success())]));
    let config = &house.core.config;
    let settling =
        Duration::from_millis(config.payments.settling_ms + config.channels.get("stripe").unwrap().timeout_ms);
    assert!(settling > Duration::from_secs(60));
    pass(settling - Duration::from_secs(40)).await;
    assert_eq!(state_of_stripe(&hold), "waiting");
    let view = hold.view();
    let stripe = view.channels.iter().find(|channel| channel.channel == "stripe").unwrap();
    assert_eq!(stripe.waiting_until, Some(START.plus(settling).rfc3339()));
    assert_eq!(house.stripe.lists.load(Ordering::SeqCst), 1, "once for information");
    assert!(view.held && house.all().is_empty());
    pass(Duration::from_secs(60)).await;
    assert!(!hold.view().held, "{:?}", hold.view());
    assert_eq!(house.only().payment_no, LOST);
    let again = house.pay_with("O-1", |_| {}).await;
    assert!(matches!(again, Err(GatewayError::OrderExists { .. })), "{again:?}");
}

/// A payment with a refund of 100 that was being sent when the process ended.
async fn with_refund_under_way(store: &Arc<UnsteadyStore>, clock: &Clock, channel: &str) -> (String, RefundNo) {
    let before = Fixture::over(Arc::clone(store), clock, |_| {}).await;
    before.pay_with("O-1", |command| command.channel = Some(channel.to_owned())).await.unwrap();
    let payment_no = before.only().payment_no;
    for scripted in [&before.stripe, &before.alipay] {
        scripted.set(|script| script.takes = Duration::from_secs(3_600));
    }
    let refunding = async { drop(before.refund(&payment_no, "r-1").await) };
    drop(tokio::time::timeout(Duration::from_secs(1), refunding).await);
    let [refund] = refunds_of(&before, &payment_no).try_into().unwrap();
    assert_eq!(refund.status, RefundStatus::Pending);
    (payment_no, refund.refund_no)
}

fn refunds_of(house: &Fixture, payment_no: &str) -> Vec<Refund> {
    let payment_no = PaymentNo::new(payment_no);
    rows::read(&house.core, &caller().merchant.merchant_id, &payment_no).unwrap().payment.refunds
}

fn listed_refund(payment_no: &str, refund_no: &str, amount_minor: i64, created_at: Timestamp) -> ListedRefund {
    ListedRefund {
        provider_no: format!("re_{refund_no}"),
        reference: Some(payment_no.to_owned()),
        refund_reference: Some(refund_no.to_owned()),
        merchant_id: Some(String::from("m_1")),
        money: Some(Money::new(amount_minor, Currency::USD)),
        state: RefundState::Success,
        created_at,
    }
}

#[tokio::test(start_paused = true)]
async fn pre_auths_in_the_lists_are_taken_over_as_such() {
    let clock = Clock::virtual_from(START);
    let store: Arc<UnsteadyStore> = Arc::default();
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = restored(&store, &clock, &directory).await;
    let pre_auth_no = "PA20260921141320aaaaaaaa";
    let mut held = listed(pre_auth_no, "O-1", ChargeState::Unknown { reason: String::from("held") });
    held.provider_key = Some(ProviderKeys::for_tests().key(pre_auth_no, "authorize", 1));
    held.hold = Some(HoldState::Captured { captured_minor: 900, fee_minor: None });
    house.stripe.list(Some(vec![held]));
    house.stripe.list_refunds(vec![listed_refund(pre_auth_no, "RF20260921141400aaaaaaaa", 500, clock.now())]);
    house.payments.start().unwrap();
    hold.start();
    pass(Duration::from_secs(600)).await;
    let view = hold.view();
    assert!(!view.held, "nobody has to look: {view:?}");
    let stripe = view.channels.iter().find(|channel| channel.channel == "stripe").unwrap();
    assert_eq!((stripe.objects, stripe.pre_auths, stripe.foreign, stripe.adopted), (2, 2, 0, 2));
    assert!(stripe.items.is_empty() && house.all().is_empty(), "no payment is made up");
    let taken = house.pre_auths.find(pre_auth_no).unwrap().pre_auth;
    assert_eq!((taken.status.as_str(), taken.captured_amount, taken.refunded_amount), ("captured", 900, 500));
}

#[tokio::test(start_paused = true)]
async fn money_that_came_otherwise_than_asked_for_is_a_person_s_matter() {
    let clock = Clock::virtual_from(START);
    let store: Arc<UnsteadyStore> = Arc::default();
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = restored(&store, &clock, &directory).await;
    let late = ChargeState::Stray { kind: StrayKind::Late, received: None };
    house.stripe.list(Some(vec![listed("PY20260921141320aaaaaaaa", "O-1", late)]));
    house.payments.start().unwrap();
    hold.start();
    pass(Duration::from_secs(60)).await;
    assert_eq!(state_of_stripe(&hold), "needs_confirmation");
    assert!(house.all().is_empty(), "nothing is made up");
}

#[tokio::test(start_paused = true)]
async fn a_refund_under_way_that_no_list_names_is_not_sent_and_makes_room_for_those_that_followed_it() {
    let clock = Clock::virtual_from(START);
    let store: Arc<UnsteadyStore> = Arc::default();
    let (payment_no, first) = with_refund_under_way(&store, &clock, "stripe").await;
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = restored(&store, &clock, &directory).await;
    // Behind the point the first was refused, and everything was given back in two steps.
    let at = |seconds: u64| clock.now().plus(Duration::from_secs(seconds));
    house.stripe.list(Some(Vec::new()));
    house.stripe.list_refunds(vec![
        listed_refund(&payment_no, "RF20260921141400aaaaaaaa", 500, at(9)),
        listed_refund(&payment_no, "RF20260921141400bbbbbbbb", 400, at(5)),
    ]);
    house.payments.start().unwrap();
    hold.start();
    pass(Duration::from_secs(600)).await;
    assert!(!hold.view().held, "{:?}", hold.view());
    let refunds = refunds_of(&house, &payment_no);
    let told: Vec<(&str, i64, &str)> =
        refunds.iter().map(|refund| (refund.refund_no.as_str(), refund.amount_minor, refund.status.as_str())).collect();
    assert_eq!(
        told,
        [
            (first.as_str(), 100, "failed"),
            ("RF20260921141400bbbbbbbb", 400, "success"),
            ("RF20260921141400aaaaaaaa", 500, "success"),
        ]
    );
    assert_eq!(house.stripe.refunds.load(Ordering::SeqCst), 0, "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn a_refund_that_was_done_long_before_the_point_is_found_in_the_list() {
    let clock = Clock::virtual_from(START.minus(Duration::from_secs(7_200)));
    let store: Arc<UnsteadyStore> = Arc::default();
    let (payment_no, refund_no) = with_refund_under_way(&store, &clock, "stripe").await;
    pass(Duration::from_secs(7_200)).await;
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = restored(&store, &clock, &directory).await;
    let done_at = START.minus(Duration::from_secs(7_190));
    house.stripe.list(Some(Vec::new()));
    house.stripe.list_refunds(vec![listed_refund(&payment_no, refund_no.as_str(), 100, done_at)]);
    house.payments.start().unwrap();
    hold.start();
    pass(Duration::from_secs(60)).await;
    assert!(!hold.view().held, "{:?}", hold.view());
    assert_eq!(refunds_of(&house, &payment_no)[0].status, RefundStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn a_refund_under_way_at_a_channel_without_a_list_is_shown_and_given_to_a_person() {
    let clock = Clock::virtual_from(START);
    let store: Arc<UnsteadyStore> = Arc::default();
    let (payment_no, refund_no) = with_refund_under_way(&store, &clock, "alipay").await;
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = restored_with(&store, &clock, &directory, &["stripe"]).await;
    house.payments.start().unwrap();
    hold.start();
    pass(Duration::from_secs(600)).await;
    let view = hold.view();
    let alipay = view.channels.iter().find(|channel| channel.channel == "alipay").unwrap();
    let references: Vec<&str> = alipay.items.iter().filter_map(|item| item.reference.as_deref()).collect();
    assert_eq!(references, [refund_no.as_str()], "it is shown once");
    assert_eq!(refunds_of(&house, &payment_no)[0].status, RefundStatus::Pending);
    hold.confirm(&Operator::process("test"), "alipay").await.unwrap();
    pass(Duration::from_secs(600)).await;
    assert!(!hold.view().held);
    assert_eq!(refunds_of(&house, &payment_no)[0].status, RefundStatus::NeedsReview);
    assert_eq!(house.alipay.refunds.load(Ordering::SeqCst), 0, "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn rows_that_cant_be_read_keep_the_store_held_until_a_person_has_seen_them() {
    let clock = Clock::virtual_from(START);
    let store: Arc<UnsteadyStore> = Arc::default();
    let directory = tempfile::tempdir().unwrap();
    let (house, hold) = restored(&store, &clock, &directory).await;
    let merchant_id = caller().merchant.merchant_id.clone();
    let payment_no = PaymentNo::new(LOST);
    let mut batch = Batch::new();
    batch.put(keys::payment(&merchant_id, &payment_no), b"no payment".to_vec());
    batch.put(keys::payment_due(START, &payment_no), b"m_1\nstripe".to_vec());
    batch.put(keys::payment_due(START, &PaymentNo::new("PY1")), vec![0xff]);
    house.store.commit(batch).await.unwrap();
    house.stripe.list(Some(Vec::new()));
    house.payments.start().unwrap();
    hold.start();
    pass(Duration::from_secs(600)).await;
    let view = hold.view();
    assert!(view.held, "nobody knows what they would do");
    let unreadable = view.channels.iter().find(|channel| channel.channel == "unreadable-rows").unwrap();
    assert_eq!((unreadable.state.as_str(), unreadable.items.len()), ("needs_confirmation", 2), "{unreadable:?}");
    assert!(unreadable.items.iter().any(|item| item.reference.as_ref().unwrap().contains(LOST)), "{unreadable:?}");
    hold.confirm(&Operator::process("test"), "unreadable-rows").await.unwrap();
    pass(Duration::from_secs(5)).await;
    assert!(!hold.view().held);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_not_configured_any_more_is_held_too() {
    let clock = Clock::virtual_from(START);
    let store: Arc<UnsteadyStore> = Arc::default();
    let by_alipay = |command: &mut CreatePayment| command.channel = Some(String::from("alipay"));
    let before = Fixture::over(Arc::clone(&store), &clock, |_| {}).await;
    before.pay_with("O-1", by_alipay).await.unwrap();
    before.alipay.set(|script| script.takes = Duration::from_secs(3_600));
    let paying = async { drop(before.pay_with("O-2", by_alipay).await) };
    drop(tokio::time::timeout(Duration::from_secs(1), paying).await);
    let directory = tempfile::tempdir().unwrap();
    let without = |config: &mut Config| {
        directory.path().clone_into(&mut config.storage.dir);
        config.channels.retain(|name, _| name == "stripe");
    };
    let (house, hold) =
        restored_as(START.minus(Duration::from_secs(3_600)), &store, &clock, &directory, &["stripe"], without).await;
    house.payments.start().unwrap();
    hold.start();
    pass(Duration::from_secs(600)).await;
    let view = hold.view();
    let alipay = view.channels.iter().find(|channel| channel.channel == "alipay").expect("it is held");
    assert!(alipay.problem.as_ref().unwrap().contains("not configured"), "{alipay:?}");
    assert!(view.held);
    hold.confirm(&Operator::process("test"), "alipay").await.unwrap();
    pass(Duration::from_secs(5)).await;
    assert!(!hold.view().held, "{:?}", hold.view());
    let mut found: Vec<String> = house.all().into_iter().map(|payment| payment.status).collect();
    found.sort();
    // Configured once more, the channel must not be asked to take it.
    assert_eq!(found, ["needs_review", "success"]);
}
