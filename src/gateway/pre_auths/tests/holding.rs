//! After a restore: holds are compared, asked about and made again, and nothing is captured or held until that is done.

use std::sync::Arc;
use std::time::Duration;

use super::fixture::{Asked, HELD, House, Mood, Provider, pass, told};
use crate::actors::pre_auth::{PreAuthId, PreAuthMessage};
use crate::channels::{ChargeState, HoldState, ListedCharge, ListedRefund, ProviderRefs, RefundState};
use crate::clock::Clock;
use crate::domain::audit::Operator;
use crate::domain::ids::PreAuthNo;
use crate::domain::money::{Currency, Money};
use crate::domain::pre_auth::OPERATIONS_MAX;
use crate::gateway::error::GatewayError;
use crate::gateway::installation::ProviderKeys;
use crate::gateway::payments::Hold;
use crate::gateway::payments::tests::fixture::{START, UnsteadyStore};
use crate::storage::held::{Held, HeldFile};
use crate::storage::record::encode;
use crate::storage::{Batch, keys};

const MADE_AGAIN: &str = "PA20260921141320aaaaaaaa";

/// A process that finds a store that was restored, so long ago that nothing can be on its way any more.
struct Restored {
    house: House,
    hold: Hold,
    _directory: tempfile::TempDir,
}

impl Restored {
    /// What an earlier process left; nobody has compared `stripe`.
    async fn of(left: (Arc<UnsteadyStore>, Arc<Provider>, Clock)) -> Self {
        Self::with(left, &["alipay"]).await
    }

    async fn with((store, provider, clock): (Arc<UnsteadyStore>, Arc<Provider>, Clock), confirmed: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mark = Held {
            restored_until_sequence: 1,
            restored_until_time: START,
            since: None,
            made_at: clock.now().minus(Duration::from_secs(3_600)),
            confirmed: confirmed.iter().map(|name| (String::from(*name), START)).collect(),
        };
        HeldFile::of(directory.path()).write(&mark).unwrap();
        let only_both = |config: &mut crate::config::Config| {
            config.channels.retain(|name, _| name == "stripe" || name == "alipay");
        };
        let house = House::built(store, provider, &clock, only_both).await;
        let merchant = &house.caller.merchant;
        let mut batch = Batch::new();
        batch.put(keys::merchant(&merchant.merchant_id), encode(&**merchant).unwrap());
        house.core.store.commit(batch).await.unwrap();
        let file = Some(HeldFile::of(directory.path()));
        let hold = Hold::open(&house.payments, &house.pre_auths, file).unwrap();
        house.payments.start().unwrap();
        house.pre_auths.start().unwrap();
        hold.start();
        Self { house, hold, _directory: directory }
    }

    fn state_of_stripe(&self) -> String {
        let view = self.hold.view();
        view.channels.into_iter().find(|channel| channel.channel == "stripe").unwrap().state
    }
}

fn lists(provider: &Provider, holds: Vec<ListedCharge>) {
    *provider.listed.lock() = Some(holds);
}

fn listed(pre_auth_no: &str, order_no: &str, hold: HoldState) -> ListedCharge {
    let provider_no = format!("pi_{order_no}");
    ListedCharge {
        reference: Some(pre_auth_no.to_owned()),
        provider_key: Some(ProviderKeys::for_tests().key(pre_auth_no, "authorize", 1)),
        merchant_id: Some(String::from("m_1")),
        order_no: Some(order_no.to_owned()),
        money: Some(Money::new(HELD, Currency::USD)),
        state: ChargeState::Unknown { reason: String::from("it is a hold") },
        hold: Some(hold),
        refs: ProviderRefs { channel_order_no: Some(provider_no.clone()), ..ProviderRefs::default() },
        provider_no,
        created_at: START,
    }
}

fn held() -> HoldState {
    HoldState::Held { held_minor: HELD, expires_at: None, honor_until: None }
}

fn refund_listed(pre_auth_no: &str, refund_no: &str, amount_minor: i64) -> ListedRefund {
    ListedRefund {
        provider_no: format!("re_{refund_no}"),
        reference: Some(pre_auth_no.to_owned()),
        refund_reference: Some(refund_no.to_owned()),
        merchant_id: Some(String::from("m_1")),
        money: Some(Money::new(amount_minor, Currency::USD)),
        state: RefundState::Success,
        created_at: START,
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_captured_behind_the_point_is_learned_and_not_captured_again() {
    let before = House::new().await;
    before.hold("O-1").await.unwrap();
    let no = before.only().pre_auth_no;
    let left = before.killed().await;
    left.1.take(4_000);
    lists(&left.1, Vec::new());
    let Restored { house, hold, _directory } = Restored::of(left).await;
    pass(Duration::from_secs(60)).await;
    assert!(!hold.view().held, "{:?}", hold.view());
    let view = house.view(&no).await;
    assert_eq!((view.status.as_str(), view.captured_amount, view.released_amount), ("captured", 4_000, HELD - 4_000));
    assert_eq!(house.events().last().map(String::as_str), Some("pre_auth.captured"));
    assert_eq!((house.provider.captures(), house.provider.authorizes()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_capture_that_was_under_way_is_asked_about_and_not_sent() {
    let before = House::new().await;
    before.hold("O-1").await.unwrap();
    let no = before.only().pre_auth_no;
    before.provider.set(|mood| mood.is_away = true);
    assert_eq!(told(&before.capture(&no, Some(4_000), "k-1").await.unwrap()), (202, "processing"));
    let left = before.killed().await;
    let sent = left.1.captures();
    left.1.set(|mood| mood.is_away = false);
    lists(&left.1, Vec::new());
    let Restored { house, hold, _directory } = Restored::of(left).await;
    pass(Duration::from_secs(60)).await;
    assert!(!hold.view().held, "{:?}", hold.view());
    let row = house.row(&no);
    assert_eq!(
        (row.status.as_str(), row.operation.is_none(), house.provider.captures()),
        ("requires_capture", true, sent)
    );
    assert_eq!(row.failure.map(|failure| failure.code).as_deref(), Some("not_received"));
    assert_eq!(house.events().last().map(String::as_str), Some("pre_auth.authorized"), "it is there to be captured");
    // Behind the point other operations may have had the numbers that come next.
    assert!(row.operation_count as usize > OPERATIONS_MAX, "{}", row.operation_count);
    assert_eq!(told(&house.capture(&no, Some(2_000), "k-2").await.unwrap()), (200, "captured"));
}

#[tokio::test(start_paused = true)]
async fn what_no_provider_has_named_is_closed_and_not_sent() {
    let before = House::new().await;
    before.provider.set(|mood| mood.is_away = true);
    assert_eq!(told(&before.hold("O-1").await.unwrap()), (202, "processing"));
    let no = before.only().pre_auth_no;
    let left = before.killed().await;
    left.1.set(|mood| mood.is_away = false);
    lists(&left.1, Vec::new());
    let Restored { house, hold, _directory } = Restored::of(left).await;
    pass(Duration::from_secs(60)).await;
    assert!(!hold.view().held, "{:?}", hold.view());
    assert_eq!((house.view(&no).await.status.as_str(), house.provider.authorizes()), ("canceled", 1));
    assert_eq!(house.provider.count(|asked| *asked == Asked::Ask { close: false }), 0, "asking could have sent it");
    let again = house.hold_with("O-1", |command| command.wanted.description = None).await.unwrap();
    assert_eq!(told(&again), (202, "processing"), "a repetition gets its answer");
}

#[tokio::test(start_paused = true)]
async fn holds_that_are_not_here_are_made_again() {
    let left = House::new().await.killed().await;
    let taken = "PA20260921141320bbbbbbbb";
    let gone = "PA20260921141320cccccccc";
    lists(
        &left.1,
        vec![
            listed(MADE_AGAIN, "O-1", held()),
            listed(taken, "O-2", HoldState::Captured { captured_minor: 700, fee_minor: None }),
            listed(gone, "O-3", HoldState::Released { expired: false }),
        ],
    );
    *left.1.listed_refunds.lock() = vec![refund_listed(taken, "RF20260921141400aaaaaaaa", 300)];
    let Restored { house, hold, _directory } = Restored::of(left).await;
    pass(Duration::from_secs(60)).await;
    let view = hold.view();
    assert!(!view.held, "{view:?}");
    let stripe = view.channels.iter().find(|channel| channel.channel == "stripe").unwrap();
    assert_eq!((stripe.objects, stripe.pre_auths, stripe.adopted, stripe.items.len()), (4, 4, 4, 0));
    let again = house.view(MADE_AGAIN).await;
    assert_eq!((again.status.as_str(), again.authorized_amount), ("requires_capture", HELD));
    assert_eq!(again.channel_pre_auth_no.as_deref(), Some("pi_O-1"));
    let by_number = house.pre_auths.by_channel().get(&house.caller, "stripe", "pi_O-1").await.unwrap();
    assert_eq!(by_number.status, "requires_capture", "its provider's number names it");
    let of_taken = house.view(taken).await;
    assert_eq!((of_taken.status.as_str(), of_taken.captured_amount, of_taken.refunded_amount), ("captured", 700, 300));
    assert_eq!(house.view(gone).await.status, "canceled");
    let taken_order = house.hold("O-1").await;
    assert!(matches!(taken_order, Err(GatewayError::OrderExists { .. })), "{taken_order:?}");
    assert_eq!(told(&house.hold("O-3").await.unwrap()), (201, "requires_capture"), "nothing holds that one");
    assert_eq!(house.provider.authorizes(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_put_in_the_place_of_another_takes_its_order_number() {
    let before = House::new().await;
    before.provider.set(|mood| mood.waits = true);
    assert_eq!(told(&before.hold("O-1").await.unwrap()), (201, "requires_payment_method"));
    let no = before.only().pre_auth_no;
    let left = before.killed().await;
    // Behind the point it was given up, and the order has another.
    lists(&left.1, vec![listed(MADE_AGAIN, "O-1", held())]);
    let Restored { house, hold, _directory } = Restored::of(left).await;
    pass(Duration::from_secs(60)).await;
    assert!(!hold.view().held, "{:?}", hold.view());
    assert_eq!(house.view(MADE_AGAIN).await.status, "requires_capture");
    assert_eq!(house.view(&no).await.status, "expired");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_placed_waits_for_a_person() {
    let before = House::new().await;
    before.hold("O-1").await.unwrap();
    let no = before.only().pre_auth_no;
    before.cancel(&no, "k-1").await.unwrap();
    let left = before.killed().await;
    let mut forged = listed(MADE_AGAIN, "O-2", held());
    forged.provider_key = Some(String::from("tg_of_another_installation"));
    let mut orphan = listed("PA20260921141320bbbbbbbb", "O-3", held());
    orphan.merchant_id = Some(String::from("m_gone"));
    let twice = listed("PA20260921141320cccccccc", "O-4", held());
    lists(&left.1, vec![forged, orphan, twice.clone(), twice, listed(&no, "O-1", held())]);
    let restored = Restored::of(left).await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(restored.state_of_stripe(), "needs_confirmation");
    let view = restored.hold.view();
    let stripe = view.channels.iter().find(|channel| channel.channel == "stripe").unwrap();
    assert_eq!((stripe.adopted, stripe.items.len()), (0, 5), "{stripe:?}");
    assert_eq!(restored.house.all().len(), 1, "nothing is made up");
    restored.hold.confirm(&Operator::process("test"), "stripe").await.unwrap();
    pass(Duration::from_secs(5)).await;
    assert!(!restored.hold.view().held);
}

#[tokio::test(start_paused = true)]
async fn while_it_is_held_nothing_is_captured_or_held_and_holds_are_let_go() {
    let before = House::new().await;
    before.provider.set(|mood| mood.expires_at = Some(START.plus(Duration::from_secs(7_200))));
    for order in ["O-1", "O-2", "O-3"] {
        before.hold(order).await.unwrap();
    }
    let [last, second, first] = before.all().try_into().unwrap();
    before.provider.set(|mood| mood.is_away = true);
    before.capture(&first.pre_auth_no, None, "k-1").await.unwrap();
    let left = before.killed().await;
    let sent = left.1.captures();
    left.1.set(|mood| mood.is_away = false);
    lists(&left.1, Vec::new());
    // Nobody has compared Alipay.
    let Restored { house, hold, _directory } = Restored::with(left, &[]).await;
    pass(Duration::from_secs(60)).await;
    assert!(hold.view().held);
    assert!(matches!(house.hold("O-4").await, Err(GatewayError::Held)));
    assert!(matches!(house.capture(&second.pre_auth_no, None, "k-2").await, Err(GatewayError::Held)));
    assert!(matches!(house.refund(&second.pre_auth_no, None, "k-3").await, Err(GatewayError::Held)));
    assert_eq!(told(&house.cancel(&last.pre_auth_no, "k-4").await.unwrap()), (200, "canceled"));
    let merchant_id = house.caller.merchant.merchant_id.clone();
    let id = PreAuthId { merchant_id, pre_auth_no: PreAuthNo::new(first.pre_auth_no.as_str()) };
    house.pre_auths.0.directory.send(&id, PreAuthMessage::Hint).unwrap();
    pass(Duration::from_secs(3_600)).await;
    assert_eq!((house.provider.captures(), house.provider.authorizes()), (sent, 3));
    assert_eq!(house.provider.count(|asked| matches!(asked, Asked::Release { .. })), 1, "what was canceled");
    hold.confirm(&Operator::process("test"), "alipay").await.unwrap();
    pass(Duration::from_secs(10)).await;
    assert!(!hold.view().held);
    assert_eq!(house.view(&second.pre_auth_no).await.status, "expired", "what became due meanwhile is done");
}

#[tokio::test(start_paused = true)]
async fn a_capture_of_before_is_not_sent_by_a_hint() {
    let before = House::new().await;
    before.hold("O-1").await.unwrap();
    let no = before.only().pre_auth_no;
    before.provider.set(|mood| mood.is_away = true);
    before.capture(&no, None, "k-1").await.unwrap();
    let left = before.killed().await;
    let sent = left.1.captures();
    left.1.set(|mood| *mood = Mood::default());
    // It has no list, so that nothing is asked before somebody has compared it.
    let restored = Restored::of(left).await;
    let house = &restored.house;
    let id =
        PreAuthId { merchant_id: house.caller.merchant.merchant_id.clone(), pre_auth_no: PreAuthNo::new(no.as_str()) };
    house.pre_auths.0.directory.send(&id, PreAuthMessage::Hint).unwrap();
    pass(Duration::from_millis(100)).await;
    assert_eq!(house.provider.captures(), sent);
    assert!(house.provider.count(|asked| *asked == Asked::Ask { close: false }) > 0, "it was only asked about");
    assert!(matches!(house.capture(&no, None, "k-2").await, Err(GatewayError::Held)));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_does_not_answer_keeps_the_store_held_until_somebody_has_compared() {
    let before = House::new().await;
    before.hold("O-1").await.unwrap();
    let held_no = before.only().pre_auth_no;
    before.provider.set(|mood| mood.is_away = true);
    before.hold("O-2").await.unwrap();
    let nameless = before.all().remove(0).pre_auth_no;
    let left = before.killed().await;
    lists(&left.1, Vec::new());
    let restored = Restored::of(left).await;
    pass(Duration::from_secs(600)).await;
    let view = restored.hold.view();
    let stripe = view.channels.iter().find(|channel| channel.channel == "stripe").unwrap();
    assert_eq!(stripe.state, "comparing");
    assert!(stripe.problem.as_ref().is_some_and(|problem| problem.contains("PA")), "{stripe:?}");
    let asked = restored.house.provider.count(|asked| matches!(asked, Asked::Ask { .. }));
    assert!((10..=60).contains(&asked), "asked {asked} times in ten minutes");
    restored.hold.confirm(&Operator::process("test"), "stripe").await.unwrap();
    pass(Duration::from_secs(120)).await;
    assert!(!restored.hold.view().held);
    let house = &restored.house;
    assert_eq!(house.view(&nameless).await.status, "needs_review", "it must not be sent");
    assert_eq!(house.view(&held_no).await.status, "requires_capture");
    assert!(house.core.figures.text().contains("tollgate_needs_review_total{object=\"pre_auth\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn a_refund_that_was_under_way_and_that_no_list_names_is_not_sent() {
    let before = House::new().await;
    before.hold("O-1").await.unwrap();
    let no = before.only().pre_auth_no;
    before.capture(&no, None, "k-1").await.unwrap();
    before.provider.set(|mood| mood.is_away = true);
    assert_eq!(told(&before.refund(&no, Some(1_000), "k-2").await.unwrap()), (202, "pending"));
    let left = before.killed().await;
    let sent = left.1.count(|asked| matches!(asked, Asked::Refund { .. }));
    left.1.set(|mood| mood.is_away = false);
    lists(&left.1, Vec::new());
    let Restored { house, hold, _directory } = Restored::of(left).await;
    pass(Duration::from_secs(600)).await;
    assert!(!hold.view().held, "{:?}", hold.view());
    let refund = house.pre_auths.refunds(&house.caller, &no).unwrap().items.remove(0);
    assert_eq!(refund.status, "failed");
    assert_eq!(house.provider.count(|asked| matches!(asked, Asked::Refund { .. })), sent);
    assert_eq!(house.view(&no).await.refundable_amount, HELD);
}
