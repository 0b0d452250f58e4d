//! What is wrong with a body is said by field, and nothing that was sent is repeated.

use axum::http::HeaderName;

use super::*;
use crate::gateway::command::{CreatePayment, CreateRefund, UpdateMerchant};
use crate::gateway::error::GatewayError;

fn wrong<T: DeserializeOwned>(body: &str) -> (String, String) {
    match parse::<T>(body.as_bytes()) {
        Err(ApiError::Gateway(GatewayError::InvalidRequest(errors))) => {
            assert_eq!(errors.len(), 1);
            (errors[0].field.clone(), errors[0].message.clone())
        }
        Err(other) => panic!("{body}: {other:?}"),
        Ok(_) => panic!("{body} was taken"),
    }
}

#[test]
fn a_command_is_read_with_its_defaults() {
    let payment: CreatePayment =
        parse(br#" {"order_no":"O-1","amount":500,"currency":"USD","metadata":{"a":"b"}} "#).unwrap();
    assert_eq!((payment.order_no.as_str(), payment.amount), ("O-1", 500));
    assert_eq!(payment.metadata.unwrap()["a"], "b");
    assert_eq!(parse::<CreateRefund>(b"{}").unwrap(), CreateRefund::default());
}

#[test]
fn unknown_missing_and_repeated_fields_are_named() {
    let unknown = wrong::<CreatePayment>(r#"{"order_no":"O","amount":1,"currency":"USD","ammount":1}"#);
    assert_eq!(unknown, (String::from("ammount"), String::from("is not a field of this request")));
    let missing = wrong::<CreatePayment>(r#"{"order_no":"O","currency":"USD"}"#);
    assert_eq!(missing, (String::from("amount"), String::from("is missing")));
    let twice = wrong::<CreateRefund>(r#"{"amount":1,"amount":2}"#);
    assert_eq!(twice, (String::from("amount"), String::from("is there twice")));
    let inner = wrong::<UpdateMerchant>(r#"{"limits":{"per_day":5}}"#);
    assert_eq!(inner, (String::from("limits.per_day"), String::from("is not a field of this request")));
}

#[test]
fn wrong_types_are_named_and_values_are_not_repeated() {
    let (field, message) = wrong::<CreatePayment>(r#"{"order_no":"O","amount":"4242424242424242","currency":"USD"}"#);
    assert_eq!((field.as_str(), message.as_str()), ("amount", "must be a whole number"));
    for (body, field, message) in [
        (r#"{"amount":1.0}"#, "amount", "must be a whole number"),
        (r#"{"amount":1e3}"#, "amount", "must be a whole number"),
        (r#"{"amount":99999999999999999999}"#, "amount", "must be a whole number"),
        (r#"{"reason":5}"#, "reason", "must be a string"),
        (r#"{"reason":["a, expected b"]}"#, "reason", "must be a string"),
    ] {
        assert_eq!(wrong::<CreateRefund>(body), (String::from(field), String::from(message)), "{body}");
    }
    for (body, field, message) in [
        (r#"{"limits":{"burst":-1}}"#, "limits.burst", "must be a whole number from 0 to 4294967295"),
        (r#"{"limits":7}"#, "limits", "must be an object"),
        (r#"{"channels":"stripe"}"#, "channels", "must be a list"),
        (r#"{"channels":["a",1]}"#, "channels[1]", "must be a string"),
        (r#"{"status":"gone"}"#, "status", "must be `active` or `suspended`"),
        (r#"{"status":5}"#, "status", "must be a string that is one of its documented values"),
        (r#"{"status":[]}"#, "status", "must be a string that is one of its documented values"),
        (r#"{"status":true}"#, "status", "must be a string that is one of its documented values"),
        (r#"{"status":{}}"#, "status", "must be a string that is one of its documented values"),
        (r#"{"status":{"active":1}}"#, "status", "must be a string that is one of its documented values"),
    ] {
        assert_eq!(wrong::<UpdateMerchant>(body), (String::from(field), String::from(message)), "{body}");
    }
}

#[test]
fn what_is_not_an_object_is_refused() {
    for body in ["", " ", "[]", r#"["O",1,"USD"]"#, "null", "1", r#""a""#] {
        assert_eq!(wrong::<CreateRefund>(body).0, "body", "{body:?}");
    }
    for body in ["{", r#"{"amount":1"#, r#"{"amount":1} x"#, r#"{"amount":1}{}"#, r#"{"amount":01}"#, "{'amount':1}"] {
        let (field, message) = wrong::<CreateRefund>(body);
        assert_eq!(field, "body", "{body}");
        assert!(message.starts_with("is not valid JSON at line 1 column "), "{message}");
    }
    assert!(parse::<CreateRefund>(b"{\"reason\":\"\xff\"}").is_err());
}

#[test]
fn deep_nesting_is_refused_without_harm() {
    let deep = format!("{{\"reason\":{}", "[".repeat(60_000));
    assert!(parse::<CreateRefund>(deep.as_bytes()).is_err());
    let value: Result<serde_json::Value, _> = parse(format!("{{\"a\":{}", "[".repeat(60_000)).as_bytes());
    assert!(value.is_err());
}

#[test]
fn a_body_must_be_declared_as_plain_json() {
    let with = |pairs: &[(&'static str, &str)]| -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    };
    for taken in ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json ;x=y"] {
        assert!(check_media_type(&with(&[("content-type", taken)]), b"{}").is_ok(), "{taken}");
    }
    for refused in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "text/json", ""] {
        let refused = check_media_type(&with(&[("content-type", refused)]), b"{}");
        assert!(matches!(refused, Err(ApiError::UnsupportedMediaType)));
    }
    assert!(check_media_type(&HeaderMap::new(), b"{}").is_err());
    assert!(check_media_type(&HeaderMap::new(), b"").is_ok(), "nothing needs no type");
    let compressed = with(&[("content-type", "application/json"), ("content-encoding", "gzip")]);
    assert!(check_media_type(&compressed, b"{}").is_err());
    let identity = with(&[("content-type", "application/json"), ("content-encoding", "identity")]);
    assert!(check_media_type(&identity, b"{}").is_ok());
}
