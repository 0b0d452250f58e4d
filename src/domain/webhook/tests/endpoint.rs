//! Tests of endpoints.

use std::time::Duration;

use super::NOW;
use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, MerchantId};
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

#[test]
fn the_secret_before_the_current_one_signs_only_during_the_rotation() {
    let mut secrets = SealedSecrets::new(String::from("first"));
    assert_eq!(secrets.previous_at(NOW), None);
    let end = NOW.plus(Duration::from_secs(60));
    secrets.rotate(String::from("second"), end);
    assert_eq!((secrets.current.as_str(), secrets.previous_at(NOW)), ("second", Some("first")));
    secrets.forget_expired(NOW);
    assert_eq!(secrets.previous_at(NOW), Some("first"));
    assert_eq!(secrets.previous_at(end), None);
    secrets.forget_expired(end);
    assert_eq!(secrets, SealedSecrets::new(String::from("second")));
}
