//! Every error has its code, status, fields, headers and words.

use std::collections::BTreeSet;

use std::time::Duration;

use super::*;
use crate::delivery::url::UrlRefusal;
use crate::domain::ids::ChannelName;
use crate::domain::money::Currency;
use crate::domain::routing::{DecisionRecord, DroppedBy, NoChannel};
use crate::domain::time::Timestamp;
use crate::gateway::addresses::AddressReason;
use crate::gateway::error::Forbidden;

fn every_error() -> Vec<ApiError> {
    let gateway = [
        GatewayError::field("amount", "is missing"),
        GatewayError::Unauthenticated,
        GatewayError::SignatureExpired { server_time: Timestamp::from_unix_s(1_700_000_000) },
        GatewayError::NonceReused,
        GatewayError::Forbidden(Forbidden::Suspended),
        GatewayError::JobRefused(JobRefusal::TooMany(8)),
        GatewayError::NotFound("payment"),
        GatewayError::OrderExists { field: "payment_no", number: String::from("PY1") },
        GatewayError::InvalidState { status: String::from("success") },
        GatewayError::IdempotencyInProgress,
        GatewayError::IdempotencyMismatch,
        GatewayError::AmountTooLarge { max_minor: 5 },
        GatewayError::CurrencyNotSupported(String::from("JPY")),
        GatewayError::PreAuthNotSupported,
        GatewayError::PanRefused(String::from("description")),
        GatewayError::UrlNotAllowed(UrlRefusal::PrivateAddress),
        no_channel(None),
        GatewayError::Overloaded { retry_after_s: 0 },
        GatewayError::StorageLow,
        GatewayError::Held,
        GatewayError::ShuttingDown,
        GatewayError::Internal(String::from("sled is on fire")),
    ];
    let http = [
        ApiError::AddressLimited(AddressRefusal::new(AddressReason::Rate(200), Duration::from_millis(1))),
        ApiError::AddressLimited(AddressRefusal::new(AddressReason::FailedAuthentication, Duration::from_secs(60))),
        ApiError::ChannelFailed { field: "payment_no", number: String::from("PY2") },
        ApiError::BasicNotAllowed,
        ApiError::OperatorUnauthenticated,
        ApiError::TlsExpected,
        ApiError::HostNotAllowed,
        ApiError::PathNotFound,
        ApiError::MethodNotAllowed { allow: Some(HeaderValue::from_static("GET")) },
        ApiError::BodyTimeout,
        ApiError::AnswerTimeout,
        ApiError::PayloadTooLarge { max_bytes: 65_536 },
        ApiError::UnsupportedMediaType,
    ];
    gateway.into_iter().map(ApiError::from).chain(http).collect()
}

/// Stripe was asked for and takes a hundred dollars at most.
fn no_channel(retry_in: Option<Duration>) -> GatewayError {
    let mut record = DecisionRecord::adopted(ChannelName::new("stripe"), Currency::USD);
    record.amount_minor = 12_345;
    (record.rung, record.chosen) = (None, None);
    (record.channels[0].dropped_by, record.channels[0].bound) = (Some(DroppedBy::AmountMax), Some(10_000));
    GatewayError::NoChannelAvailable(Box::new(NoChannel { record: Box::new(record), retry_in }))
}

fn body_of(error: &ApiError, language: Language) -> Value {
    serde_json::from_slice(&error.body(language, "req_1")).unwrap()
}

#[test]
fn every_code_has_an_error_here() {
    let met: BTreeSet<Code> = every_error().iter().map(ApiError::code).collect();
    assert_eq!(met, Code::ALL.into_iter().collect());
}

#[test]
fn every_error_has_a_message_in_both_languages() {
    for error in every_error() {
        let english = body_of(&error, Language::English);
        let chinese = body_of(&error, Language::Chinese);
        assert!(english["message"].as_str().unwrap().is_ascii(), "{english}");
        assert!(!chinese["message"].as_str().unwrap().is_ascii(), "{chinese}");
        assert_eq!(english["request_id"], "req_1");
        assert_eq!(english["code"], error.code().as_str());
        assert!(english.get("data").is_none());
    }
}

#[test]
fn a_channel_without_holds_is_refused_in_the_documented_words() {
    let error = ApiError::from(GatewayError::PreAuthNotSupported);
    assert_eq!((error.code().as_str(), error.code().status().as_u16()), ("PRE_AUTH_NOT_SUPPORTED", 422));
    assert_eq!(body_of(&error, Language::Chinese)["message"], "当前支付渠道不支持预授权功能");
}

#[test]
fn errors_carry_fields_of_their_own() {
    let with = |error: GatewayError| body_of(&error.into(), Language::English);
    assert_eq!(
        with(GatewayError::field("amount", "is missing"))["errors"],
        json!([{"field": "amount", "message": "is missing"}])
    );
    let expired = GatewayError::SignatureExpired { server_time: Timestamp::from_unix_s(1_700_000_000) };
    assert_eq!(with(expired)["server_time"], 1_700_000_000);
    let exists = GatewayError::OrderExists { field: "pre_auth_no", number: String::from("PA1") };
    assert_eq!(with(exists)["pre_auth_no"], "PA1");
    assert_eq!(with(GatewayError::InvalidState { status: String::from("failed") })["status"], "failed");
    assert_eq!(with(GatewayError::AmountTooLarge { max_minor: 7 })["max_amount"], 7);
    let reason = json!({ "channel": "stripe", "reason": "does not take amounts as large", "dropped_by": "amount_max",
        "value": "123.45 USD", "demanded": "100.00 USD" });
    assert_eq!(with(no_channel(None))["reasons"], json!([reason]));
    let chinese = body_of(&no_channel(None).into(), Language::Chinese);
    assert_eq!(chinese["reasons"][0]["reason"], "不接受这么大的金额");
    let failed = ApiError::ChannelFailed { field: "refund_no", number: String::from("RF1") };
    assert_eq!(body_of(&failed, Language::English)["refund_no"], "RF1");
}

#[test]
fn who_finds_no_channel_is_told_when_the_first_one_is_back() {
    let told = |wait| {
        let mut headers = HeaderMap::new();
        ApiError::from(no_channel(wait)).add_headers(&mut headers);
        headers[RETRY_AFTER].to_str().unwrap().to_owned()
    };
    assert_eq!(told(Some(Duration::from_millis(12_001))), "13");
    assert_eq!(told(Some(Duration::from_secs(30))), "30");
    assert_eq!(told(Some(Duration::ZERO)), "1");
    assert_eq!(told(None), "60", "time alone will not help");
}

#[test]
fn fields_are_written_in_the_order_in_which_people_read_them() {
    let error = ApiError::from(GatewayError::InvalidState { status: String::from("failed") });
    assert_eq!(
        error.body(Language::English, "req_1"),
        r#"{"code":"INVALID_STATE","message":"Not possible in status failed","status":"failed","request_id":"req_1"}"#
    );
}

#[test]
fn a_refused_address_is_told_how_long_to_wait_and_nothing_of_a_merchant() {
    let refused = AddressRefusal::new(AddressReason::Rate(200), Duration::from_millis(2_001));
    let error = ApiError::from(refused);
    assert_eq!(
        error.body(Language::English, "req_1"),
        r#"{"code":"RATE_LIMIT_EXCEEDED","message":"Request rate exceeds the limit of your address: more than 200 requests per second","limit":"client_address","violated_policies":["client_address"],"retry_after":3,"request_id":"req_1"}"#
    );
    let mut headers = HeaderMap::new();
    error.add_headers(&mut headers);
    assert_eq!((headers.len(), &headers[RETRY_AFTER]), (1, &HeaderValue::from_static("3")));
    let at_once = ApiError::from(AddressRefusal::new(AddressReason::FailedAuthentication, Duration::ZERO));
    assert_eq!(body_of(&at_once, Language::English)["retry_after"], 1);
}

#[test]
fn the_inside_is_not_shown() {
    let error = ApiError::from(GatewayError::Internal(String::from("sled is on fire")));
    for language in [Language::English, Language::Chinese] {
        assert!(!body_of(&error, language).to_string().contains("sled"));
    }
}

#[test]
fn headers_say_when_to_come_back_and_how_to_authenticate() {
    let headers_of = |error: ApiError| {
        let mut headers = HeaderMap::new();
        error.add_headers(&mut headers);
        headers
    };
    let overloaded = headers_of(GatewayError::Overloaded { retry_after_s: 0 }.into());
    assert_eq!(overloaded[RETRY_AFTER], "1", "never zero, which would mean at once");
    assert!(headers_of(GatewayError::ShuttingDown.into()).contains_key(RETRY_AFTER));
    assert!(headers_of(GatewayError::NonceReused.into()).contains_key(WWW_AUTHENTICATE));
    assert_eq!(headers_of(ApiError::OperatorUnauthenticated)[WWW_AUTHENTICATE], "Bearer realm=\"tollgate-admin\"");
    let allow = Some(HeaderValue::from_static("GET,HEAD"));
    assert_eq!(headers_of(ApiError::MethodNotAllowed { allow })[ALLOW], "GET,HEAD");
    assert!(headers_of(ApiError::PathNotFound).is_empty());
}

#[test]
fn what_is_refused_about_webhooks_is_said_in_both_languages() {
    let refusals = [
        (
            GatewayError::Forbidden(Forbidden::EndpointsMax(16)),
            "Not allowed: a merchant has at most 16 webhook endpoints",
            "无权执行此操作: 每个商户最多 16 个 Webhook 端点",
        ),
        (
            GatewayError::JobRefused(JobRefusal::UnderWay(String::from("wj_1"))),
            "Not possible now: job wj_1 of this kind is under way for this endpoint; wait for its end or cancel it",
            "该端点已有同类任务 wj_1 正在进行; 请等待其结束或取消该任务",
        ),
        (
            GatewayError::JobRefused(JobRefusal::TooMany(8)),
            "Not possible now: as many jobs are under way as there may be (8); wait for the end of one or cancel one",
            "正在进行的任务已达上限 8 个; 请等待其中之一结束或取消",
        ),
        (
            GatewayError::JobRefused(JobRefusal::HasToBeDone("park")),
            "Not possible now: a park job has to be done and can't be canceled",
            "park 类任务必须完成, 不可取消",
        ),
    ];
    for refusal in [
        UrlRefusal::TooLong,
        UrlRefusal::Hides,
        UrlRefusal::NoUrl(String::from("empty host")),
        UrlRefusal::NotHttps,
        UrlRefusal::Credentials,
        UrlRefusal::Fragment,
        UrlRefusal::NoHost,
        UrlRefusal::PrivateAddress,
        UrlRefusal::ThisMachine,
        UrlRefusal::LastDot,
        UrlRefusal::NoName,
        UrlRefusal::PrivateName,
        UrlRefusal::Port(String::from("443")),
    ] {
        let chinese = message_of(&ApiError::from(GatewayError::UrlNotAllowed(refusal)), Language::Chinese);
        let words = chinese.split(|letter: char| !letter.is_ascii_alphabetic()).filter(|word| !word.is_empty());
        let foreign: Vec<&str> = words.filter(|word| !["URL", "Webhook", "https", "DNS"].contains(word)).collect();
        assert!(foreign.is_empty(), "{chinese}");
    }
    for (error, english, chinese) in refusals {
        let error = ApiError::from(error);
        assert_eq!(message_of(&error, Language::English), english);
        assert_eq!(message_of(&error, Language::Chinese), chinese);
    }
    let under_way = ApiError::from(GatewayError::JobRefused(JobRefusal::UnderWay(String::from("wj_1"))));
    let body: Value = serde_json::from_slice(&under_way.body(Language::English, "req_1")).unwrap();
    assert_eq!(
        (&body["code"], &body["status"], &body["job_id"]),
        (&json!("INVALID_STATE"), &json!("running"), &json!("wj_1"))
    );
}
