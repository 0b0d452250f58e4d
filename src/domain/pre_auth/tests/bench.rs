//! Pre-auths in every situation there is, each brought there by the functions under test, and what a channel may answer.

use std::time::Duration;

use super::super::*;
use super::{NOW, pre_auth};
use crate::domain::event::EventName;
use crate::domain::outcome::{DeclineScope, HoldAnswer, HoldState};
use crate::domain::payment::ResolvePolicy;
use crate::domain::stray::StrayPolicy;

pub const MONEY_MINOR: i64 = 1000;
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(86_400);

pub fn policy() -> PreAuthPolicy {
    PreAuthPolicy {
        resolve: ResolvePolicy {
            first: Duration::from_secs(1),
            early_max: Duration::from_secs(10),
            late_max: Duration::from_secs(600),
            needs_review_after: 3 * DAY,
            action_expires: DAY,
            abandoned_after: Duration::from_secs(60),
        },
        unconfirmed_expires: DAY,
        expiring_before: 6 * HOUR,
        on_expiry_before: HOUR,
        on_expiry: OnExpiry::Release,
        hold_valid: 7 * DAY,
        is_clock_believed: true,
        stray: StrayPolicy::Refund,
    }
}

pub fn expires_at() -> Timestamp {
    NOW.plus(7 * DAY)
}

pub fn failure() -> Failure {
    Failure::new("card_declined", "The card was declined.", DeclineScope::Bank)
}

/// The pre-auth of an intent whose channel has not answered.
pub fn fresh() -> PreAuth {
    let PreAuth { pre_auth_no, merchant_id, mut terms, channel, decision, provider_key, .. } =
        pre_auth(PreAuthStatus::RequiresPaymentMethod);
    terms.payment_token = Some(String::from("tok_visa"));
    let intent = Intent { pre_auth_no, merchant_id, terms, channel, decision, provider_key };
    let change = begin(intent, &policy(), NOW);
    assert_eq!(change.send, [Dispatch { what: Sending::Authorize, is_first: true }]);
    change.pre_auth
}

pub fn awaits(failure: Option<Failure>) -> HoldState {
    HoldState::AwaitsMethod { failure, next_action: Some(page()), expires_at: None }
}

pub fn page() -> NextAction {
    NextAction::Redirect { url: String::from("https://pay.example/1") }
}

pub fn action() -> HoldState {
    HoldState::ActionRequired { next_action: Some(page()), expires_at: None }
}

pub fn held() -> HoldState {
    HoldState::Held { held_minor: MONEY_MINOR, expires_at: Some(expires_at()), honor_until: None }
}

pub const fn captured(captured_minor: i64) -> HoldState {
    HoldState::Captured { captured_minor, fee_minor: None }
}

pub fn unknown() -> HoldState {
    HoldState::Unknown { reason: String::from("no answer") }
}

/// What a channel may answer, each with the name that the tables below give it.
pub fn answers() -> Vec<(&'static str, HoldAnswer)> {
    let bare = [
        ("awaits", awaits(None)),
        ("declined-open", awaits(Some(failure()))),
        ("action", action()),
        ("processing", HoldState::Processing),
        ("held", held()),
        ("captured", captured(600)),
        ("released", HoldState::Released { expired: false }),
        ("expired", HoldState::Released { expired: true }),
        ("declined", HoldState::Declined(failure())),
        ("not-done", HoldState::NotDone(failure())),
        ("unknown", unknown()),
    ];
    let refused = [("held-refused", held()), ("unknown-refused", unknown())];
    let bare = bare.into_iter().map(|(name, state)| (name, HoldAnswer::bare(state)));
    bare.chain(refused.map(|(name, state)| (name, HoldAnswer::refused(state, failure())))).collect()
}

/// Takes an answer about what is open.
pub fn take(before: &PreAuth, state: HoldState, now: Timestamp) -> Option<Change> {
    on_answer(before, before.operation_number(), &HoldAnswer::bare(state), &policy(), now)
}

pub fn taken(before: &PreAuth, state: HoldState) -> PreAuth {
    take(before, state, NOW).unwrap().pre_auth
}

pub fn is_held() -> PreAuth {
    taken(&fresh(), held())
}

pub fn capturing(amount_minor: i64) -> PreAuth {
    begin_capture(&is_held(), Some(amount_minor), key(), &policy(), NOW).unwrap().pre_auth
}

pub fn releasing() -> PreAuth {
    given_up(&is_held(), ReleaseWhy::Merchant { reason: None })
}

pub fn given_up(before: &PreAuth, why: ReleaseWhy) -> PreAuth {
    begin_release(before, why, key(), &policy(), NOW).unwrap().pre_auth
}

pub fn key() -> String {
    String::from("tg_2")
}

pub fn due(before: &PreAuth, now: Timestamp) -> Option<Change> {
    on_due(before, &policy(), now, |kind, number| format!("tg_{kind}_{number}"))
}

/// Nobody could say what became of it until a person had to look.
pub fn given_to_person(before: &PreAuth) -> PreAuth {
    let change = take(before, unknown(), NOW.plus(4 * DAY)).unwrap();
    assert_eq!(change.alerts, [Alert::NeedsReview]);
    change.pre_auth
}

pub fn extending() -> PreAuth {
    let state = HoldState::Held {
        held_minor: MONEY_MINOR,
        expires_at: Some(expires_at()),
        honor_until: Some(NOW.plus(3 * DAY)),
    };
    let change = due(&taken(&fresh(), state), NOW.plus(3 * DAY)).unwrap();
    assert_eq!(change.send, [Dispatch { what: Sending::Extend, is_first: true }]);
    change.pre_auth
}

pub fn releasing_in_time() -> PreAuth {
    let change = due(&is_held(), expires_at().minus(HOUR)).unwrap();
    assert_eq!(change.tell, [EventName::PreAuthExpiring]);
    assert_eq!(change.send, [Dispatch { what: Sending::Release, is_first: true }]);
    change.pre_auth
}

/// Every situation, by name.
pub fn situations() -> Vec<(&'static str, PreAuth)> {
    let offered = taken(&fresh(), awaits(None));
    vec![
        ("fresh", fresh()),
        ("offered", offered.clone()),
        ("action", taken(&fresh(), action())),
        ("processing", taken(&fresh(), HoldState::Processing)),
        ("closing", given_up(&offered, ReleaseWhy::Merchant { reason: None })),
        ("unconfirmed", given_up(&offered, ReleaseWhy::Unconfirmed)),
        ("capturing", capturing(600)),
        ("releasing", releasing()),
        ("held", is_held()),
        ("extending", extending()),
        ("releasing-in-time", releasing_in_time()),
        ("captured", taken(&capturing(600), captured(600))),
        ("canceled", taken(&releasing(), HoldState::Released { expired: false })),
        ("expired", taken(&is_held(), HoldState::Released { expired: true })),
        ("failed", taken(&fresh(), HoldState::Declined(failure()))),
        ("review", given_to_person(&fresh())),
        ("review-capturing", given_to_person(&capturing(600))),
    ]
}

pub fn situation(name: &str) -> PreAuth {
    situations().into_iter().find(|(known, _)| *known == name).unwrap().1
}
