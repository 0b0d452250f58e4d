//! Requests against a scripted server.

use std::io::Write;

use reqwest::header::HeaderMap;

use super::*;
use crate::cli::scripted::Scripted;
use crate::clock::Clock;
use crate::domain::signature::SignedParts;
use crate::domain::time::Timestamp;
use crate::random::Random;

fn context(environment: &[(&str, &str)]) -> Context {
    let environment = environment.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect();
    let clock = Clock::manual(Timestamp::from_unix_s(1_700_000_000));
    Context { environment, clock, random: Random::seeded(1) }
}

fn arguments(method: &str, path: &str, url: &str) -> Arguments {
    Arguments {
        method: String::from(method),
        path: String::from(path),
        data: None,
        key: Some(String::from("ak_test")),
        secret: Some(String::from("sk_test")),
        url: Some(String::from(url)),
        ca_file: None,
        idempotency_key: None,
    }
}

#[tokio::test]
async fn what_is_sent_is_what_was_signed() {
    let server = Scripted::start(&[(201, "{}"), (200, "{}")]).await;
    let mut create = arguments("post", "/api/v1/payments?a=b%20c", &server.url);
    create.data = Some(String::from("{ \"amount\": 1 }"));
    create.idempotency_key = Some(String::from("k-1"));
    let context = context(&[]);
    assert_eq!(run(create, &context).await, Ok(Outcome::Fine));
    assert_eq!(run(arguments("GET", "/api/v1/limits", &server.url), &context).await, Ok(Outcome::Fine));
    let asked = server.asked();
    for request in &asked {
        let parts = SignedParts {
            key_id: request.header("x-api-key"),
            timestamp: request.header("x-timestamp"),
            nonce: request.header("x-nonce"),
            method: request.method.as_str(),
            path_and_query: request.uri.path_and_query().unwrap().as_str(),
            idempotency_key: request.header("idempotency-key"),
            body: &request.body,
        };
        assert!(parts.verify("sk_test", request.header("x-signature")), "{request:?}");
        assert_eq!(request.header("x-timestamp"), "1700000000");
    }
    assert_eq!(asked[0].uri.to_string(), "/api/v1/payments?a=b%20c");
    assert_eq!(&asked[0].body[..], b"{ \"amount\": 1 }");
    assert_eq!(asked[0].header("content-type"), "application/json");
    assert_eq!(asked[0].header("idempotency-key"), "k-1");
    assert_eq!(asked[1].header("content-type"), "");
    assert_ne!(asked[0].header("x-nonce"), asked[1].header("x-nonce"));
}

#[tokio::test]
async fn only_2xx_is_fine() {
    let server = Scripted::start(&[(202, "{}"), (402, "{}"), (302, ""), (500, "no json")]).await;
    let context = context(&[]);
    for expected in [Outcome::Fine, Outcome::Failed, Outcome::Failed, Outcome::Failed] {
        assert_eq!(run(arguments("GET", "/x", &server.url), &context).await, Ok(expected));
    }
}

#[tokio::test]
async fn keys_come_from_flags_or_the_environment() {
    let server = Scripted::start(&[(200, "{}"), (200, "{}")]).await;
    let mut without = arguments("GET", "/x", &server.url);
    (without.key, without.secret) = (None, None);
    let set = context(&[("TOLLGATE_KEY", "ak_env"), ("TOLLGATE_SECRET", "sk_env")]);
    assert_eq!(run(without, &set).await, Ok(Outcome::Fine));
    assert_eq!(server.asked()[0].header("x-api-key"), "ak_env");
    let mut without = arguments("GET", "/x", &server.url);
    without.secret = None;
    let mut nowhere = arguments("GET", "/x", &server.url);
    nowhere.url = None;
    let elsewhere = context(&[("TOLLGATE_URL", server.url.as_str())]);
    assert_eq!(run(nowhere, &elsewhere).await, Ok(Outcome::Fine));
    let unset = context(&[("TOLLGATE_SECRET", "")]);
    assert!(matches!(run(without, &unset).await, Err(Failure::Usage(message)) if message.contains("TOLLGATE_SECRET")));
}

#[tokio::test]
async fn wrong_arguments_are_usage_errors_and_a_silent_server_is_a_failure() {
    let context = context(&[]);
    for (method, path, url) in [
        ("FETCH", "/x", "http://127.0.0.1:1"),
        ("GET", "x", "http://127.0.0.1:1"),
        ("GET", "/x", "127.0.0.1"),
        ("GET", "/x", "ftp://127.0.0.1"),
    ] {
        let result = run(arguments(method, path, url), &context).await;
        assert!(matches!(result, Err(Failure::Usage(_))), "{method} {path} {url}: {result:?}");
    }
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let result = run(arguments("GET", "/x", &format!("http://{closed}")), &context).await;
    assert!(matches!(&result, Err(Failure::Failed(message)) if message.contains("tollgate serve")), "{result:?}");
}

#[test]
fn data_is_text_or_a_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"{\"a\":1}").unwrap();
    let name = format!("@{}", file.path().display());
    assert_eq!(body_of(&name), Ok(b"{\"a\":1}".to_vec()));
    assert_eq!(body_of("{}"), Ok(b"{}".to_vec()));
    assert!(matches!(body_of("@/nonexistent"), Err(Failure::Usage(_))));
}

#[test]
fn an_answer_is_shown_with_headers_of_interest_and_indented() {
    let mut headers = HeaderMap::new();
    for (name, value) in [("x-request-id", "req_1"), ("x-ratelimit-limit", "10"), ("date", "today")] {
        headers.insert(name, value.parse().unwrap());
    }
    let answer = Answer { status: reqwest::StatusCode::CREATED, headers, body: b"{\"b\":1,\"a\":[]}".to_vec() };
    let text = shown(&answer);
    assert!(text.starts_with("201 Created\n"), "{text}");
    assert!(text.contains("x-request-id: req_1\n") && text.contains("x-ratelimit-limit: 10\n"), "{text}");
    assert!(!text.contains("today"), "{text}");
    assert!(text.contains("\n  \"b\": 1"), "{text}");
}
