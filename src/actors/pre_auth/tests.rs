//! Actors of pre-auths with a scripted channel and a scripted store, on virtual time.

mod bench;
mod ends;

use std::time::Duration;

use bench::{Bench, SETTINGS, failure, held, number, stored_with};

use super::*;
use crate::domain::outcome::{HoldAnswer, HoldState};
use crate::domain::pre_auth::{PreAuthStatus, Sending};

fn capture(amount: i64) -> Command {
    Command::Capture { amount: Some(amount) }
}

fn cancel() -> Command {
    Command::Cancel { reason: None }
}

fn captured(captured_minor: i64) -> HoldAnswer {
    HoldAnswer::bare(HoldState::Captured { captured_minor, fee_minor: None })
}

fn released() -> HoldAnswer {
    HoldAnswer::bare(HoldState::Released { expired: false })
}

const PROCESSING: Told = Told::Rejected(Rejection::State(PreAuthStatus::Processing));

#[tokio::test(start_paused = true)]
async fn of_two_captures_at_once_one_is_sent_and_one_is_refused_without_the_store() {
    let bench = Bench::with(held(1));
    let (mut first, mut second) = (bench.begin(1, capture(600)), bench.begin(1, capture(400)));
    bench.quiet().await;
    assert_eq!(second.try_recv(), Ok(PROCESSING));
    assert!(first.try_recv().is_err(), "it waits for the channel");
    assert_eq!((bench.script.commits(), bench.script.asked()), (1, vec![(Sending::Capture, true)]));
    bench.script.answer(captured(600));
    bench.quiet().await;
    let Ok(Told::Now(pre_auth)) = first.try_recv() else { panic!("it was not told") };
    assert_eq!((pre_auth.status, pre_auth.captured_minor), (PreAuthStatus::Captured, 600));
    assert_eq!(bench.script.parts(), [Some(ClientPart::Begin), Some(ClientPart::Answer)]);
}

#[tokio::test(start_paused = true)]
async fn a_capture_and_a_cancellation_at_once_end_as_the_first_of_them() {
    for (first, second, sent, answer, end) in [
        (capture(600), cancel(), Sending::Capture, captured(600), PreAuthStatus::Captured),
        (cancel(), capture(600), Sending::Release, released(), PreAuthStatus::Canceled),
    ] {
        let bench = Bench::with(held(1));
        let (_first, mut second) = (bench.begin(1, first), bench.begin(1, second));
        bench.quiet().await;
        assert_eq!(second.try_recv(), Ok(PROCESSING));
        assert_eq!(bench.script.asked(), [(sent, true)]);
        bench.script.answer(answer);
        bench.quiet().await;
        assert_eq!(bench.script.row(1).status, end);
        let mut late = bench.begin(1, capture(1));
        bench.quiet().await;
        assert_eq!(late.try_recv(), Ok(Told::Rejected(Rejection::State(end))));
    }
}

/// The channel is asked about one thing at a time: a capture that begins while it is asked waits until it has answered.
#[tokio::test(start_paused = true)]
async fn a_capture_waits_for_a_question_and_is_then_sent_for_the_first_time() {
    let bench = Bench::with(held(1));
    bench.send(1, PreAuthMessage::Hint);
    bench.quiet().await;
    let mut client = bench.begin(1, capture(600));
    bench.quiet().await;
    bench.send(1, PreAuthMessage::Hint);
    bench.quiet().await;
    assert_eq!(bench.script.asked(), [(Sending::Ask { close: false }, false)]);
    // It was asked before the capture began and knows nothing of it.
    bench.script.answer(released());
    bench.quiet().await;
    assert_eq!(bench.script.row(1).status, PreAuthStatus::Processing);
    assert_eq!(bench.script.asked(), [(Sending::Capture, true)]);
    bench.script.answer(captured(600));
    bench.quiet().await;
    assert!(matches!(client.try_recv(), Ok(Told::Now(pre_auth)) if pre_auth.status == PreAuthStatus::Captured));
    assert!(bench.script.asked().is_empty(), "nothing is left to ask");
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_during_the_first_call_closes_what_it_made() {
    let bench = Bench::with(stored_with(1));
    let mut creating = bench.carry(1);
    bench.quiet().await;
    assert_eq!(bench.script.asked(), [(Sending::Authorize, true)]);
    let mut canceling = bench.begin(1, cancel());
    bench.quiet().await;
    assert!(creating.try_recv().is_err() && canceling.try_recv().is_err());
    bench.script.answer(held_answer());
    bench.quiet().await;
    assert!(matches!(creating.try_recv(), Ok(Told::Now(_))));
    assert!(canceling.try_recv().is_err(), "that answer says nothing about closing");
    assert_eq!(bench.script.asked(), [(Sending::Ask { close: true }, false)]);
    bench.script.answer(released());
    bench.quiet().await;
    assert!(matches!(canceling.try_recv(), Ok(Told::Now(pre_auth)) if pre_auth.status == PreAuthStatus::Canceled));
}

/// The first call ends it already, so that nobody asks for it to be closed.
#[tokio::test(start_paused = true)]
async fn who_cancels_is_answered_also_when_nothing_has_to_be_closed() {
    let bench = Bench::with(stored_with(1));
    let _creating = bench.carry(1);
    let mut canceling = bench.begin(1, cancel());
    bench.quiet().await;
    bench.script.answer(HoldAnswer::not_done(failure()));
    bench.quiet().await;
    assert!(matches!(canceling.try_recv(), Ok(Told::Now(pre_auth)) if pre_auth.status == PreAuthStatus::Canceled));
    assert!(bench.script.asked().is_empty());
    assert_eq!(bench.directory.waiting(), 0);
}

fn held_answer() -> HoldAnswer {
    HoldAnswer::bare(HoldState::Held { held_minor: 1000, expires_at: None, honor_until: None })
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_never_answers_blocks_nobody() {
    let bench = Bench::with(held(1));
    let mut client = bench.begin(1, capture(600));
    bench.quiet().await;
    for _ in 0..5 {
        let mut other = bench.begin(1, cancel());
        bench.quiet().await;
        assert_eq!(other.try_recv(), Ok(PROCESSING));
    }
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(bench.directory.active(), 1, "it is not put away while its channel is asked");
    assert!(client.try_recv().is_err());
    bench.script.answer(captured(600));
    tokio::time::sleep(SETTINGS.idle * 3).await;
    assert!(matches!(client.try_recv(), Ok(Told::Now(_))));
    assert_eq!(bench.directory.active(), 0, "it is idle");
    let mut late = bench.begin(1, capture(1));
    bench.quiet().await;
    assert_eq!(late.try_recv(), Ok(Told::Rejected(Rejection::State(PreAuthStatus::Captured))), "it is read again");
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_fails_is_followed_by_one_that_takes_the_answer() {
    let bench = Bench::with(held(1));
    let mut client = bench.begin(1, capture(600));
    bench.quiet().await;
    bench.fail(1);
    bench.quiet().await;
    assert!(client.try_recv().is_err(), "who waited with it is told nothing");
    bench.send(1, PreAuthMessage::Hint);
    let mut other = bench.begin(1, capture(600));
    bench.quiet().await;
    assert_eq!(other.try_recv(), Ok(PROCESSING));
    assert_eq!(bench.script.asked(), [(Sending::Capture, true)], "it is being asked");
    bench.script.answer(captured(600));
    bench.quiet().await;
    assert_eq!(bench.script.row(1).captured_minor, 600);
    tokio::time::sleep(SETTINGS.idle * 3).await;
    assert_eq!(bench.directory.active(), 0);
    // One that fails with nothing under way leaves nothing behind either.
    bench.send(1, PreAuthMessage::Reread);
    bench.fail(1);
    tokio::time::sleep(SETTINGS.idle * 3).await;
    assert_eq!((bench.directory.active(), bench.directory.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_breaks_off_is_unknown() {
    let bench = Bench::with(held(1));
    let mut client = bench.begin(1, capture(600));
    bench.quiet().await;
    bench.script.break_off();
    bench.quiet().await;
    let Ok(Told::Now(pre_auth)) = client.try_recv() else { panic!("it was not told") };
    assert_eq!((pre_auth.status, pre_auth.reconciling), (PreAuthStatus::Processing, true));
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_left_open_is_asked_about_before_anything_else() {
    let bench = Bench::with(held(1));
    drop(bench.begin(1, capture(600)));
    bench.quiet().await;
    let left_behind = bench.script.row(1);
    let next = Bench::with(StoredPreAuth { pre_auth: left_behind, revision: 7 });
    let mut client = next.begin(1, capture(600));
    next.quiet().await;
    assert_eq!(client.try_recv(), Ok(PROCESSING));
    assert_eq!(next.script.asked(), [(Sending::Capture, false)], "it may have been sent");
    assert!(next.script.row(1).reconciling);
    next.script.answer(captured(600));
    next.quiet().await;
    assert_eq!(next.script.row(1).status, PreAuthStatus::Captured);
}

#[tokio::test(start_paused = true)]
async fn a_decision_is_made_anew_when_somebody_else_was_faster_and_not_for_ever() {
    let bench = Bench::with(held(1));
    bench.script.fail_next(7, &CommitError::Precondition);
    let _client = bench.begin(1, capture(600));
    bench.quiet().await;
    assert_eq!(bench.script.asked(), [(Sending::Capture, true)]);
    bench.script.fail_next(8, &CommitError::Precondition);
    bench.script.answer(captured(600));
    bench.quiet().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.script.row(1).status, PreAuthStatus::Captured, "an answer is tried again");

    let other = Bench::with(held(1));
    other.script.fail_next(8, &CommitError::Precondition);
    let mut client = other.begin(1, capture(600));
    other.quiet().await;
    assert!(matches!(client.try_recv(), Ok(Told::Failed(StoreError::Overloaded(_)))));
    assert_eq!((other.script.asked().len(), other.script.row(1).status), (0, PreAuthStatus::RequiresCapture));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_can_not_be_stored_is_told_and_stored_later_once() {
    let bench = Bench::with(held(1));
    let mut client = bench.begin(1, capture(600));
    bench.quiet().await;
    bench.script.fail_next(usize::MAX, &CommitError::Store(StoreError::Overloaded("full")));
    bench.script.answer(captured(600));
    bench.quiet().await;
    let Ok(Told::NotStored(pre_auth)) = client.try_recv() else { panic!("it was not told") };
    assert_eq!(pre_auth.captured_minor, 600);
    bench.send(1, PreAuthMessage::Hint);
    let mut other = bench.begin(1, capture(600));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(other.try_recv(), Ok(PROCESSING));
    assert!(bench.script.asked().is_empty(), "nothing is asked before that is stored");
    assert_eq!((bench.script.row(1).status, bench.directory.active()), (PreAuthStatus::Processing, 1));
    let before = bench.script.commits();
    bench.script.fail_next(0, &CommitError::Precondition);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!((bench.script.row(1).status, bench.script.commits()), (PreAuthStatus::Captured, before + 1));
    assert_eq!(bench.script.parts().last(), Some(&Some(ClientPart::Answer)), "so is what the client was told");
}

#[tokio::test(start_paused = true)]
async fn of_an_answer_that_is_perhaps_stored_nothing_is_told_that_may_not_be_kept() {
    let bench = Bench::with(held(1));
    let mut client = bench.begin(1, capture(600));
    bench.quiet().await;
    bench.script.fail_next(1, &CommitError::Store(StoreError::Indeterminate(String::from("the disk is gone"))));
    bench.script.answer(captured(600));
    bench.quiet().await;
    assert!(matches!(client.try_recv(), Ok(Told::Failed(StoreError::Indeterminate(_)))));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.script.row(1).status, PreAuthStatus::Captured, "it is tried again while there is a store");
}

#[tokio::test(start_paused = true)]
async fn who_uses_a_key_twice_is_told_so_and_nothing_is_sent() {
    let bench = Bench::with(held(1));
    bench.script.fail_next(1, &CommitError::InProgress);
    let mut client = bench.begin(1, capture(600));
    bench.quiet().await;
    assert_eq!((client.try_recv(), bench.script.asked().len()), (Ok(Told::InProgress), 0));
    // When its answer is there already, what the channel said is stored all the same.
    let mut client = bench.begin(1, capture(600));
    bench.quiet().await;
    bench.script.fail_next(1, &CommitError::InProgress);
    bench.script.answer(captured(600));
    bench.quiet().await;
    assert!(matches!(client.try_recv(), Ok(Told::Now(pre_auth)) if pre_auth.status == PreAuthStatus::Captured));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_not_done() {
    let bench = Bench::with(held(1));
    let mut client = bench.begin(2, capture(600));
    bench.quiet().await;
    assert!(matches!(client.try_recv(), Ok(Told::Failed(StoreError::Invalid(_)))));
    assert_eq!(number(2).pre_auth_no.as_str().len(), 25);
}
