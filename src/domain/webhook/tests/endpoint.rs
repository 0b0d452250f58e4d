//! Tests of endpoints.

use std::time::Duration;

use super::NOW;
use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, MerchantId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Endpoint, EndpointStatus, EventPattern, Overrides, SealedSecrets};

#[test]
fn patterns_match_names_groups_and_everything() {
    let table = [
        ("*", EventName::RefundFailed, true),
        ("payment.*", EventName::PaymentFailed, true),
        ("payment.*", EventName::RefundFailed, false),
        ("payment.success", EventName::PaymentSuccess, true),
        ("payment.disputed", EventName::PaymentDisputed, true),
        ("pre_auth.*", EventName::PreAuthExpiring, true),
        ("webhook.*", EventName::WebhookEndpointDisabled, true),
        ("webhook.*", EventName::PaymentDisputed, false),
        ("payment.success", EventName::PaymentFailed, false),
    ];
    for (pattern, name, expected) in table {
        assert_eq!(EventPattern::parse(pattern).unwrap().matches(name), expected, "{pattern} {name:?}");
    }
    for never_matches in ["", "payment", "payment.", "pay*", "payment*", ".*", "**", "nothing.*", "payment.succes"] {
        assert_eq!(EventPattern::parse(never_matches), None, "{never_matches:?}");
    }
}

#[test]
fn events_are_made_for_endpoints_whatever_their_status() {
    let mut endpoint = Endpoint {
        proven_at: None,
        id: EndpointId::new("we_1"),
        merchant_id: MerchantId::new("m_1"),
        url: String::from("https://example.com/"),
        events: vec![EventPattern::all()],
        description: None,
        max_attempts: 13,
        overrides: Overrides::default(),
        status: EndpointStatus::Enabled,
        disabled_reason: None,
        disabled_at: None,
        secrets: SealedSecrets::new(String::from("a")),
        created_at: NOW,
        updated_at: NOW,
    };
    assert!(endpoint.subscribes(EventName::PaymentSuccess));
    endpoint.set_status(EndpointStatus::Paused, NOW);
    assert!(endpoint.subscribes(EventName::PaymentSuccess));
    endpoint.disable("gone", NOW);
    assert_eq!((endpoint.disabled_reason.as_deref(), endpoint.disabled_at), (Some("gone"), Some(NOW)));
    assert!(endpoint.subscribes(EventName::PaymentSuccess));
    endpoint.set_status(EndpointStatus::Enabled, NOW);
    assert_eq!((endpoint.disabled_reason, endpoint.disabled_at), (None, None));
}

fn former(secrets: &SealedSecrets, now: Timestamp) -> Vec<&str> {
    secrets.former_at(now).map(|former| former.sealed.as_str()).collect()
}

#[test]
fn the_secret_before_the_current_one_signs_only_during_the_rotation() {
    let mut secrets = SealedSecrets::new(String::from("first"));
    assert!(former(&secrets, NOW).is_empty());
    let end = NOW.plus(Duration::from_secs(60));
    secrets.rotate(String::from("second"), end);
    assert_eq!((secrets.current.as_str(), former(&secrets, NOW)), ("second", vec!["first"]));
    secrets.forget_expired(NOW);
    assert_eq!((former(&secrets, NOW), secrets.has_expired(NOW)), (vec!["first"], false));
    assert_eq!((former(&secrets, end), secrets.has_expired(end)), (vec![], true));
    secrets.forget_expired(end);
    assert_eq!(secrets, SealedSecrets::new(String::from("second")));
}

#[test]
fn a_second_rotation_leaves_the_first_secret_its_time() {
    let at = |seconds| NOW.plus(Duration::from_secs(seconds));
    let mut secrets = SealedSecrets::new(String::from("1"));
    for (number, name) in ["2", "3", "4", "5"].into_iter().enumerate() {
        secrets.rotate(String::from(name), at(100 + u64::try_from(number).unwrap()));
    }
    assert_eq!((secrets.current.as_str(), former(&secrets, NOW)), ("5", vec!["4", "3", "2"]), "three at most");
    assert_eq!(former(&secrets, at(102)), ["4"], "each has its own end");
    secrets.forget_expired(at(102));
    assert_eq!(secrets.former.len(), 1);
}

#[test]
fn secrets_as_they_once_were_stored_are_read() {
    let end = NOW.plus(Duration::from_secs(60));
    let end_json = serde_json::to_value(end).unwrap();
    let stored = serde_json::json!({ "current": "b", "previous": "a", "previous_valid_until": end_json });
    let secrets: SealedSecrets = serde_json::from_value(stored).unwrap();
    assert_eq!((secrets.current.as_str(), former(&secrets, NOW)), ("b", vec!["a"]));
    let again: SealedSecrets = serde_json::from_value(serde_json::to_value(&secrets).unwrap()).unwrap();
    assert_eq!(again, secrets);
    let alone: SealedSecrets = serde_json::from_value(serde_json::json!({ "current": "b" })).unwrap();
    assert_eq!(serde_json::to_value(&alone).unwrap(), serde_json::json!({ "current": "b" }));
}
