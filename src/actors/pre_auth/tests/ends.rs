//! Bounds, due entries, refunds, and stopping.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::bench::{Bench, SETTINGS, START, held, number, stored_with};
use super::{capture, captured, held_answer};
use crate::actors::pre_auth::{Command, PreAuthMessage, PreAuthWorks, Refused, StoreError, StoredPreAuth, Told};
use crate::domain::ids::RefundNo;
use crate::domain::outcome::{HoldAnswer, HoldState, RefundAnswer, RefundState};
use crate::domain::pre_auth::{PreAuthStatus, Sending};
use crate::domain::refund::RefundStatus;
use crate::domain::time::Timestamp;

/// Has what is due at a time seen to, with a place of its own.
fn see_to(bench: &Bench, at: Timestamp) -> Arc<Semaphore> {
    let room = Arc::new(Semaphore::new(1));
    let place = Arc::clone(&room).try_acquire_owned().unwrap();
    bench.send(1, PreAuthMessage::Due { at, place });
    room
}

async fn until(bench: &Bench, at: Timestamp) {
    tokio::time::sleep(at.since(bench.script.now())).await;
}

#[tokio::test(start_paused = true)]
async fn a_due_entry_is_seen_to_once_and_gives_its_place_back_with_the_answer() {
    let bench = Bench::with(held(1));
    let due_at = bench.script.row(1).due_at.unwrap();
    let other_time = see_to(&bench, START);
    bench.quiet().await;
    assert_eq!((bench.script.asked().len(), other_time.available_permits()), (0, 1), "there is none for then");
    until(&bench, due_at).await;
    let told = see_to(&bench, due_at);
    bench.quiet().await;
    assert_eq!((bench.script.row(1).expiring_told, told.available_permits()), (true, 1));
    let due_at = bench.script.row(1).due_at.unwrap();
    until(&bench, due_at).await;
    let released = see_to(&bench, due_at);
    bench.quiet().await;
    assert_eq!((bench.script.asked(), released.available_permits()), (vec![(Sending::Release, true)], 0));
    let again = see_to(&bench, bench.script.row(1).due_at.unwrap());
    bench.quiet().await;
    assert_eq!((bench.script.asked().len(), again.available_permits()), (1, 1), "it is being asked");
    bench.script.answer(HoldAnswer::bare(HoldState::Released { expired: false }));
    bench.quiet().await;
    assert_eq!((bench.script.row(1).status, released.available_permits()), (PreAuthStatus::Expired, 1));
}

#[tokio::test(start_paused = true)]
async fn a_due_entry_that_can_not_be_seen_to_is_left_alone_for_a_moment() {
    let bench = Bench::with(held(1));
    let due_at = bench.script.row(1).due_at.unwrap();
    until(&bench, due_at).await;
    let full = super::CommitError::Store(StoreError::Overloaded("full"));
    bench.script.fail_next(1, &full);
    let room = see_to(&bench, due_at);
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(room.available_permits(), 0);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(room.available_permits(), 1);
}

fn captured_one() -> StoredPreAuth {
    let mut stored = held(1);
    let pre_auth = &mut stored.pre_auth;
    (pre_auth.status, pre_auth.captured_minor) = (PreAuthStatus::Captured, 1000);
    pre_auth.due_at = None;
    stored
}

#[tokio::test(start_paused = true)]
async fn refunds_run_beside_each_other_and_never_take_more_than_there_is() {
    let bench = Bench::with(captured_one());
    let refund = |amount| Command::Refund { amount: Some(amount), reason: None };
    let (mut first, mut second) = (bench.begin(1, refund(600)), bench.begin(1, refund(300)));
    let mut third = bench.begin(1, refund(101));
    bench.quiet().await;
    let rejected = Told::Rejected(crate::domain::pre_auth::Rejection::TooMuch { max_minor: 100 });
    assert_eq!(third.try_recv(), Ok(rejected));
    let refunds = [1, 2].map(|no| (Sending::Refund(RefundNo::new(format!("RF{no}"))), true));
    assert_eq!(bench.script.asked(), refunds);
    bench.send(1, PreAuthMessage::Hint);
    bench.quiet().await;
    assert_eq!(bench.script.asked().len(), 3, "what is being asked is not asked again");
    bench.script.answer_refund(RefundAnswer::bare(RefundState::Success));
    bench.quiet().await;
    assert!(matches!(first.try_recv(), Ok(Told::Now(pre_auth)) if pre_auth.refunded_minor() == 600));
    assert!(second.try_recv().is_err());
    bench.script.answer_refund(RefundAnswer::unknown("no answer"));
    bench.quiet().await;
    let Ok(Told::Now(pre_auth)) = second.try_recv() else { panic!("it was not told") };
    assert_eq!(pre_auth.refunds[1].status, RefundStatus::Pending);
}

#[tokio::test(start_paused = true)]
async fn stray_money_goes_back_with_the_commit_that_notes_it() {
    let mut stored = held(1);
    stored.pre_auth.status = PreAuthStatus::Canceled;
    stored.pre_auth.released_minor = 1000;
    let bench = Bench::with(stored);
    bench.send(1, PreAuthMessage::Hint);
    bench.quiet().await;
    bench.script.answer(captured(700));
    bench.quiet().await;
    assert_eq!(bench.script.asked(), [(Sending::Refund(RefundNo::new("RF1")), true)]);
    let row = bench.script.row(1);
    assert_eq!((row.strays.len(), row.refunds[0].amount_minor, bench.script.commits()), (1, 700, 1));
}

#[tokio::test(start_paused = true)]
async fn who_looks_gets_what_the_channel_says_and_stores_nothing_of_their_own() {
    let bench = Bench::with(stored_with(1));
    let _creating = bench.carry(1);
    bench.quiet().await;
    let mut looking = bench.begin(1, Command::Refresh);
    bench.quiet().await;
    assert!(looking.try_recv().is_err());
    bench.script.answer(held_answer());
    bench.quiet().await;
    assert!(matches!(looking.try_recv(), Ok(Told::Now(pre_auth)) if pre_auth.authorized_minor == 1000));
    assert_eq!(bench.script.commits(), 1);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_go_through_room_for_a_hundred() {
    let bench = Bench::with(held(1));
    let mut active_most = 0;
    for no in 1..=10_000 {
        bench.script.add(held(no));
        let message = || {
            let (tell, told) = tokio::sync::oneshot::channel();
            (PreAuthMessage::Begin { command: capture(0), client: Box::new(super::bench::Waiter(Some(tell))) }, told)
        };
        let mut told = loop {
            let (message, told) = message();
            match bench.directory.send(&number(no), message) {
                Ok(()) => break told,
                Err(refused) => assert_eq!(refused, Refused::Full),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        bench.quiet().await;
        assert!(matches!(told.try_recv(), Ok(Told::Rejected(_))), "{no}");
        active_most = active_most.max(bench.directory.active());
    }
    assert_eq!(active_most, SETTINGS.active_max);
    tokio::time::sleep(SETTINGS.idle * 3).await;
    assert_eq!((bench.directory.active(), bench.directory.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn every_mailbox_has_a_bound() {
    let bench = Bench::with(held(1));
    let sent = (0..20).filter(|_| bench.directory.send(&number(1), PreAuthMessage::Hint).is_ok()).count();
    assert_eq!(sent, SETTINGS.mailbox_max);
    assert_eq!(bench.directory.send(&number(1), PreAuthMessage::Hint), Err(Refused::Busy));
    bench.quiet().await;
    assert_eq!(bench.directory.send(&number(1), PreAuthMessage::Hint), Ok(()));
    assert_eq!(bench.script.asked().len(), 1, "one question is answer enough");
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_what_is_being_asked_and_begins_nothing() {
    let bench = Bench::with(held(1));
    let mut client = bench.begin(1, capture(600));
    bench.quiet().await;
    let (directory, script) = (bench.directory.clone(), Arc::clone(&bench.script));
    let stopping = tokio::spawn(async move { directory.stop(Duration::from_secs(10)).await });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.directory.send(&number(1), PreAuthMessage::Hint), Err(Refused::Stopping));
    script.answer(captured(600));
    assert_eq!(stopping.await.unwrap(), 0);
    assert!(matches!(client.try_recv(), Ok(Told::Now(pre_auth)) if pre_auth.status == PreAuthStatus::Captured));
    assert_eq!(bench.directory.active(), 0);

    let bench = Bench::with(held(1));
    let mut client = bench.begin(1, capture(600));
    bench.quiet().await;
    assert_eq!(bench.directory.stop(Duration::from_secs(10)).await, 1, "that channel never answers");
    assert!(client.try_recv().is_err());
    assert_eq!(bench.script.row(1).capture_pending_minor(), 600, "the next process asks about it");
}
