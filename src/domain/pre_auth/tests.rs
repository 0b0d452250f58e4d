//! Every pair of state and event, against the documented table, and what a pre-auth says about itself.

mod answers;
mod bench;
mod commands;
mod expiry;
mod money;
mod sequences;

use std::collections::BTreeSet;

use super::*;
use crate::domain::ids::RefundNo;
use crate::domain::money::Currency;

const NOW: Timestamp = Timestamp::from_unix_s(1_700_000_000);

/// The documented table, as it is written: status, event, what follows.
const DOCUMENTED: &str = "
    requires_payment_method  PayerConfirms   requires_action requires_capture processing
    requires_payment_method  Declined        requires_payment_method
    requires_payment_method  Cancel          canceled
    requires_payment_method  Unconfirmed     expired
    requires_action          PayerActs       requires_capture processing requires_payment_method
    requires_action          Cancel          canceled
    requires_action          Unconfirmed     expired
    processing               OutcomeKnown    requires_capture captured canceled failed
    processing               Unresolved      needs_review
    requires_capture         Capture         captured
    requires_capture         OutcomeOpen     processing
    requires_capture         Cancel          canceled
    requires_capture         ProviderExpiry  expired
    captured                 Refund          captured
    captured                 StrayMoney      captured
    canceled                 StrayMoney      canceled
    expired                  StrayMoney      expired
    failed                   StrayMoney      failed
    needs_review             Reviewed        requires_capture captured canceled failed
";

#[test]
fn every_pair_is_as_documented() {
    let mut documented = BTreeSet::new();
    for line in DOCUMENTED.lines().filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let status = PreAuthStatus::parse(words[0]).unwrap();
        let event = EventKind::ALL.into_iter().find(|event| format!("{event:?}") == words[1]).unwrap();
        let to: Vec<&str> = table(status, event).unwrap_or_default().iter().map(|status| status.as_str()).collect();
        assert_eq!(to, words[2..], "{line}");
        documented.insert((words[0].to_owned(), words[1].to_owned()));
    }
    for status in PreAuthStatus::ALL {
        for event in EventKind::ALL {
            let pair = (status.as_str().to_owned(), format!("{event:?}"));
            assert_eq!(table(status, event).is_some(), documented.contains(&pair), "{pair:?}");
        }
    }
}

#[test]
fn nothing_leads_out_of_a_final_status() {
    for status in PreAuthStatus::ALL {
        let leads_out = EventKind::ALL
            .into_iter()
            .filter_map(|event| table(status, event))
            .any(|to| to.iter().any(|to| *to != status));
        assert_eq!(leads_out, !status.is_final(), "{status:?}");
        assert!(status.is_final() || !status.frees_order_no(), "{status:?}");
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
    }
}

fn refund(status: RefundStatus, amount_minor: i64) -> Refund {
    Refund {
        refund_no: RefundNo::new(format!("RF{amount_minor}")),
        amount_minor,
        status,
        reason: None,
        provider_key: String::from("tg_r"),
        channel_refund_no: None,
        failure: None,
        resolve_tries: 0,
        unanswered_at: None,
        known_at: None,
        created_at: NOW,
        updated_at: NOW,
    }
}

fn pre_auth(status: PreAuthStatus) -> PreAuth {
    PreAuth {
        pre_auth_no: PreAuthNo::new("PA20231114221320000abcde"),
        merchant_id: MerchantId::new("m_1"),
        terms: PreAuthTerms {
            order_no: String::from("O-1"),
            money: Money::new(1000, Currency::USD),
            country: None,
            method: None,
            requested_channel: None,
            payment_token: None,
            customer_email: None,
            customer_ip: None,
            description: None,
            metadata: BTreeMap::new(),
            return_url: None,
            reference: None,
        },
        channel: ChannelName::new("stripe"),
        decision: DecisionRecord::adopted(ChannelName::new("stripe"), Currency::USD),
        provider_key: String::from("tg_1"),
        status,
        reconciling: false,
        closing: None,
        operation: None,
        operations: Vec::new(),
        operation_count: 0,
        refs: ProviderRefs::default(),
        next_action: None,
        offered_at: None,
        money_sent_at: None,
        authorized_minor: 0,
        captured_minor: 0,
        released_minor: 0,
        reported_fee_minor: None,
        refunds: Vec::new(),
        failure: None,
        strays: Vec::new(),
        act_by: None,
        expires_at: None,
        honor_until: None,
        expiring_told: false,
        is_held_on: false,
        event_count: 0,
        due_at: None,
        created_at: NOW,
        updated_at: NOW,
        authorized_at: None,
        captured_at: None,
        erased_at: None,
    }
}

#[test]
fn only_an_open_capture_reserves() {
    let mut held = pre_auth(PreAuthStatus::Processing);
    assert_eq!(held.capture_pending_minor(), 0);
    let kinds = [
        (OperationKind::Authorize, 0),
        (OperationKind::Capture { money_minor: 700 }, 700),
        (OperationKind::Release { why: ReleaseWhy::Expiry }, 0),
        (OperationKind::Extend, 0),
    ];
    for (kind, reserved_minor) in kinds {
        held.operation = Some(Operation {
            number: 1,
            kind,
            provider_key: String::from("tg_1"),
            sent_at: NOW,
            unanswered_at: None,
            known_at: None,
            resolve_tries: 0,
        });
        assert_eq!(held.capture_pending_minor(), reserved_minor, "{held:?}");
    }
}

#[test]
fn what_is_on_its_way_back_is_not_refundable() {
    let mut captured = pre_auth(PreAuthStatus::Captured);
    (captured.authorized_minor, captured.captured_minor, captured.released_minor) = (1000, 600, 400);
    assert_eq!((captured.refunded_minor(), captured.refundable_minor()), (0, 600));
    captured.refunds = vec![
        refund(RefundStatus::Success, 100),
        refund(RefundStatus::Pending, 20),
        refund(RefundStatus::NeedsReview, 3),
        refund(RefundStatus::Failed, 400),
    ];
    assert_eq!((captured.refunded_minor(), captured.refundable_minor()), (100, 477));
    captured.status = PreAuthStatus::NeedsReview;
    assert_eq!(captured.refundable_minor(), 0, "what was taken is not known");
}

#[test]
fn a_row_reads_back_and_reads_without_what_was_added() {
    let mut full = pre_auth(PreAuthStatus::Processing);
    full.closing = Some(ReleaseWhy::Merchant { reason: Some(String::from("no show")) });
    full.operation = Some(Operation {
        number: 2,
        kind: OperationKind::Release { why: ReleaseWhy::Merchant { reason: None } },
        provider_key: String::from("tg_2"),
        sent_at: NOW,
        unanswered_at: Some(NOW),
        known_at: None,
        resolve_tries: 1,
    });
    full.operations = vec![EndedOperation {
        number: 1,
        kind: OperationKind::Capture { money_minor: 5 },
        outcome: OperationOutcome::Refused,
        failure: None,
        sent_at: NOW,
        ended_at: NOW,
    }];
    full.strays = vec![Stray {
        kind: crate::domain::outcome::StrayKind::Late,
        received_minor: Some(5),
        attempt: 0,
        seen_at: NOW,
        action: crate::domain::stray::StrayAction::Refunding(RefundNo::new("RF1")),
    }];
    full.reported_fee_minor = Some(47);
    let written = serde_json::to_string(&full).unwrap();
    assert_eq!(serde_json::from_str::<PreAuth>(&written).unwrap(), full);
    let bare = pre_auth(PreAuthStatus::RequiresCapture);
    let written = serde_json::to_string(&bare).unwrap();
    assert!(!written.contains("null"), "{written}");
    assert_eq!(serde_json::from_str::<PreAuth>(&written).unwrap(), bare);
}
