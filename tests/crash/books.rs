//! Our books beside the providers', and the events beside both.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::client;
use crate::load::Record;

/// Nobody was charged twice; what was charged there is `success` here and the other way round; refunds likewise.
pub async fn compare_ledgers(sandbox_url: &str, by_number: &HashMap<&str, &Value>) {
    let mut charged: HashMap<String, (usize, i64)> = HashMap::new();
    let mut refunded: HashMap<String, i64> = HashMap::new();
    for channel in ["stripe", "alipay"] {
        let path = format!("/control/{channel}/ledger");
        let ledger = client::send(&client::http_client(), sandbox_url, "GET", &path, None, HashMap::new()).await;
        for line in ledger.body["items"].as_array().unwrap() {
            let reference = line["reference"].as_str().unwrap().to_owned();
            let amount = line["amount_minor"].as_i64().unwrap();
            match line["operation"].as_str().unwrap() {
                "charge" => {
                    let entry = charged.entry(reference).or_default();
                    *entry = (entry.0 + 1, amount);
                }
                "refund" => *refunded.entry(reference).or_default() += amount,
                other => panic!("unexpected {other}"),
            }
        }
    }
    for (reference, (times, amount)) in &charged {
        assert_eq!(*times, 1, "{reference} was charged {times} times");
        let payment = by_number.get(reference.as_str()).unwrap_or_else(|| panic!("{reference} is charged and unknown"));
        assert_eq!(payment["status"], "success", "{reference} is charged: {payment}");
        assert_eq!(payment["amount"], *amount);
    }
    for (number, payment) in by_number {
        assert_eq!(payment["status"] == "success", charged.contains_key(*number), "{number}: {payment}");
        let expected = refunded.remove(*number).unwrap_or(0);
        assert_eq!(payment["refunded_amount"], expected, "{number}");
        assert!(expected <= payment["amount"].as_i64().unwrap(), "{number}: more was refunded than paid");
    }
    assert!(refunded.is_empty(), "refunded at the provider and unknown here: {refunded:?}");
}

/// One event for each payment's end and for each refund's, none twice, none about something else.
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
        let payment_no = event["payment_no"].as_str().unwrap();
        let object = refund_of(event).unwrap_or(payment_no);
        assert!(told.insert((name, object)), "{name} of {object} is told twice");
        let number = numbers.entry(payment_no).or_default();
        *number += 1;
        assert_eq!(event["body"]["extra"]["sequence"], *number, "the events of {payment_no} have a gap: {event}");
        let payment = by_number.get(payment_no).unwrap_or_else(|| panic!("an event about nothing: {event}"));
        if name == "refund.success" {
            *refunded.entry(payment_no).or_default() += event["body"]["amount"].as_i64().unwrap();
        } else if name.starts_with("payment.") && name != "payment.requires_action" {
            assert_eq!(name, format!("payment.{}", payment["status"].as_str().unwrap()), "{event}");
        }
    }
    for (number, payment) in by_number {
        let name = format!("payment.{}", payment["status"].as_str().unwrap());
        assert!(told.contains(&(name.as_str(), *number)), "{name} of {number} is not told");
        let expected = refunded.get(number).copied().unwrap_or(0);
        assert_eq!(payment["refunded_amount"], expected, "{number}: events tell of other refunds");
    }
    for refund_no in record.refunds.keys().chain(record.refunds_not_done.keys()) {
        let ends =
            ["refund.success", "refund.failed"].iter().filter(|name| told.contains(&(**name, refund_no.as_str())));
        assert_eq!(ends.count(), 1, "the end of {refund_no}");
    }
}

fn refund_of(event: &Value) -> Option<&str> {
    event["body"]["refund_no"].as_str()
}
