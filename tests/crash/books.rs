//! Our books beside the providers', and the events beside both.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::ledger::{self, Entries};
use crate::load::{Record, Run};

/// Nobody was charged twice, and nothing was held or taken twice; what happened there is what is said here, and the other
/// way round.
pub async fn compare_ledgers(run: &Run, sandbox_url: &str, by_number: &HashMap<&str, &Value>) {
    let entries = ledger::read_all(&run.http, sandbox_url).await;
    let unknown: Vec<_> = entries.iter().filter(|(number, _)| !by_number.contains_key(number.as_str())).collect();
    assert!(unknown.is_empty(), "money moved at a provider for what is unknown here: {unknown:?}");
    let none = Entries::default();
    for (number, object) in by_number {
        let entries = entries.get(*number).unwrap_or(&none);
        if object["pre_auth_no"].is_null() { compare_payment(object, entries) } else { compare_hold(object, entries) }
    }
}

fn compare_payment(payment: &Value, there: &Entries) {
    let amount = payment["amount"].as_i64().unwrap();
    let charged: &[i64] = if payment["status"] == "success" { &[amount] } else { &[] };
    assert_eq!(there.charges, charged, "charged there, and here {payment}");
    assert!(there.holds.is_empty() && there.captures.is_empty() && there.voids.is_empty(), "{there:?}: {payment}");
    let refunded: i64 = there.refunds.iter().sum();
    assert_eq!(payment["refunded_amount"], refunded, "{there:?}: {payment}");
    assert!(refunded <= amount, "more was refunded than paid: {payment}");
}

/// A pre-auth that has ended beside what its provider did.
pub fn compare_hold(pre_auth: &Value, there: &Entries) {
    let said = |field: &str| pre_auth[field].as_i64().unwrap();
    let sum = |amounts: &[i64]| amounts.iter().sum::<i64>();
    assert!(there.charges.is_empty() && there.holds.len() <= 1, "held twice: {there:?}: {pre_auth}");
    assert!(there.captures.len() <= 1, "captured twice: {there:?}: {pre_auth}");
    assert!(there.holds.is_empty() || there.holds == [said("amount")], "{there:?}: {pre_auth}");
    assert_eq!(sum(&there.captures), said("captured_amount"), "{there:?}: {pre_auth}");
    match pre_auth["status"].as_str().unwrap() {
        "captured" => {
            assert_eq!((there.captures.len(), there.holds.len()), (1, 1), "{there:?}: {pre_auth}");
            // The rest goes with the capture.
            assert_eq!((there.voids.len(), said("authorized_amount")), (0, said("amount")), "{there:?}: {pre_auth}");
            assert_eq!(said("released_amount"), said("amount") - said("captured_amount"), "{pre_auth}");
        }
        "canceled" | "expired" | "failed" => {
            assert_eq!(sum(&there.voids), sum(&there.holds), "it is held on: {there:?}: {pre_auth}");
            assert_eq!(said("released_amount"), said("authorized_amount"), "{pre_auth}");
            // What was closed before it was known here to be held, was not held here.
            let held = said("authorized_amount");
            assert!(held == 0 || held == sum(&there.holds), "{there:?}: {pre_auth}");
        }
        _ => panic!("it has not ended: {pre_auth}"),
    }
    let refunded = sum(&there.refunds);
    assert_eq!(said("refunded_amount"), refunded, "{there:?}: {pre_auth}");
    assert!(refunded <= said("captured_amount"), "more was refunded than taken: {there:?}: {pre_auth}");
}

/// One event for each end of a payment, a pre-auth and a refund, none twice, none about something else.
pub fn compare_events(events: &[Value], by_number: &HashMap<&str, &Value>, record: &Record) {
    let mut told = HashSet::new();
    let mut refunded: HashMap<&str, i64> = HashMap::new();
    let mut numbers: HashMap<&str, u64> = HashMap::new();
    for event in events {
        let name = event["event"].as_str().unwrap();
        if name == "limit.near" || name.starts_with("webhook.") {
            // About no payment.
            continue;
        }
        let number = event["payment_no"].as_str().or_else(|| event["pre_auth_no"].as_str()).unwrap();
        let is_new = told.insert((name, refund_of(event).unwrap_or(number)));
        assert!(is_new || is_held_again(event), "{name} of {number} is told twice: {event}");
        let sequence = numbers.entry(number).or_default();
        *sequence += 1;
        assert_eq!(event["body"]["extra"]["sequence"], *sequence, "the events of {number} have a gap: {event}");
        let object = by_number.get(number).unwrap_or_else(|| panic!("an event about nothing: {event}"));
        if name == "refund.success" {
            *refunded.entry(number).or_default() += event["body"]["amount"].as_i64().unwrap();
        } else if !name.starts_with("refund.") && !is_on_the_way(name) {
            assert_eq!(name, end_of(object), "{event}");
        }
    }
    for (number, object) in by_number {
        let name = end_of(object);
        assert!(told.contains(&(name.as_str(), *number)), "{name} of {number} is not told");
        let was_held = object["authorized_amount"].as_i64().is_some_and(|held| held > 0);
        assert_eq!(told.contains(&("pre_auth.authorized", *number)), was_held, "{object}");
        let expected = refunded.get(number).copied().unwrap_or(0);
        assert_eq!(object["refunded_amount"], expected, "{number}: events tell of other refunds");
    }
    for refund_no in record.refunds.keys().chain(record.refunds_not_done.keys()) {
        let ends =
            ["refund.success", "refund.failed"].iter().filter(|name| told.contains(&(**name, refund_no.as_str())));
        assert_eq!(ends.count(), 1, "the end of {refund_no}");
    }
}

/// The event that tells how it ended.
fn end_of(object: &Value) -> String {
    let kind = if object["pre_auth_no"].is_null() { "payment" } else { "pre_auth" };
    format!("{kind}.{}", object["status"].as_str().unwrap())
}

/// Whether an event tells of something before the end.
fn is_on_the_way(name: &str) -> bool {
    matches!(name, "payment.requires_action" | "pre_auth.authorized")
}

/// Whether it tells that a hold is there still, because what was asked of it and answered 202 was not done.
fn is_held_again(event: &Value) -> bool {
    event["event"] == "pre_auth.authorized" && !event["body"]["extra"]["failure"].is_null()
}

fn refund_of(event: &Value) -> Option<&str> {
    event["body"]["refund_no"].as_str()
}
