//! The limits as a layer of an axum service, and the example that shows it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tollgate::clock::Clock;
use tollgate::domain::limit::LimitFigures;
use tollgate::domain::time::Timestamp;
use tollgate::ratelimit::{RateLimits, Settings, Subject};
use tower::ServiceExt;

use crate::support::{Answer, http_client, send};

#[allow(dead_code, reason = "its main is the example's")]
#[path = "../../examples/rate_limit_layer.rs"]
mod example;

const TIER: LimitFigures = LimitFigures { per_second: 2, per_minute: 500, per_hour: 10_000, burst: 4, concurrent: 2 };

#[tokio::test]
async fn the_example_limits_who_is_named_by_what_was_agreed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    // Its error can't go to another thread, so that it is served and asked on this one.
    let served = async { example::serve(listener, async { drop(stopped.await) }).await.unwrap() };
    let asked = async {
        let http = http_client();
        let ask = async |headers: &[(&str, &str)]| -> Answer {
            let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            send(&http, &url, "GET", "/", None, headers.collect::<HashMap<_, _>>()).await
        };
        let nobody = ask(&[]).await;
        assert_eq!((nobody.status, nobody.text.as_str(), nobody.header("x-ratelimit-limit")), (200, "hello\n", ""));
        let first = ask(&[("x-merchant", "acme")]).await;
        assert_eq!((first.status, first.text.as_str()), (200, "hello\n"));
        assert_eq!((first.header("x-ratelimit-limit"), first.header("x-ratelimit-remaining")), ("10", "19"));
        assert_eq!(first.header("x-ratelimit-tier"), "starter");
        let mut refusal = None;
        // A strict limit of 20 in any 2 s: however slowly this runs, it is met within a few hundred requests.
        for _ in 0..500 {
            let answers = futures_util::future::join_all((0..10).map(|_| ask(&[("x-merchant", "acme")]))).await;
            refusal = answers.into_iter().find(|answer| answer.status == 429);
            if refusal.is_some() {
                break;
            }
        }
        let refusal = refusal.expect("the limit was never met");
        assert_eq!(refusal.body["limit"], "second", "{}", refusal.text);
        assert!((1..=2).contains(&refusal.header("retry-after").parse::<u64>().unwrap()));
        let other = ask(&[("x-merchant", "globex"), ("x-plan", "business")]).await;
        assert_eq!((other.status, other.header("x-ratelimit-limit")), (200, "50"));
        stop.send(()).unwrap();
    };
    tokio::join!(served, asked);
}

fn subject(head: &Parts) -> Option<Subject> {
    Some(Subject::new(head.headers.get("x-merchant")?.to_str().ok()?, "small"))
}

async fn limits() -> RateLimits {
    let clock = Clock::manual(Timestamp::from_unix_s(1_737_715_200));
    RateLimits::start([("small", TIER)], Settings { clock, ..Settings::default() }).await.unwrap()
}

async fn ask(app: &Router, path: &str) -> Response {
    let request = Request::get(path).header("x-merchant", "a").body(Body::empty()).unwrap();
    app.clone().oneshot(request).await.unwrap()
}

async fn in_flight(limits: &RateLimits) -> u32 {
    limits.usage("a", "small").await.unwrap().view.concurrency.used
}

#[tokio::test]
async fn an_answer_that_is_streamed_is_in_flight_until_it_has_ended() {
    let limits = limits().await;
    let two_parts = async || {
        let parts = stream::iter(["one ", "two"]).map(|part| Ok::<_, Infallible>(Bytes::from(part)));
        Body::from_stream(parts)
    };
    let app = Router::new().route("/", get(two_parts)).layer(limits.layer(subject));
    let (read, dropped) = (ask(&app, "/").await, ask(&app, "/").await);
    assert_eq!((read.status(), dropped.status()), (StatusCode::OK, StatusCode::OK));
    assert_eq!(in_flight(&limits).await, 2, "the handlers have returned, the bodies have not been sent");
    let refusal = ask(&app, "/").await;
    assert_eq!(
        (refusal.status(), refusal.headers()["ratelimit"].as_bytes()),
        (StatusCode::TOO_MANY_REQUESTS, &b"\"concurrency\";r=0"[..])
    );
    drop(dropped);
    let mut body = read.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one ");
    assert_eq!(in_flight(&limits).await, 1, "there is more to come");
    assert_eq!(body.collect().await.unwrap().to_bytes(), "two");
    assert_eq!(in_flight(&limits).await, 0);
}

#[tokio::test]
async fn a_layer_of_one_route_limits_that_route() {
    let limits = limits().await;
    let plain = async |headers: HeaderMap| format!("{} headers", headers.len());
    let limited = get(plain).layer(limits.layer(subject));
    let app = Router::new().route("/limited", limited).route("/free", get(plain));
    for remaining in ["3", "2", "1", "0"] {
        let answer = ask(&app, "/limited").await;
        assert_eq!(answer.headers()["x-ratelimit-remaining"], remaining);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "1 headers", "the request as it was sent");
    }
    let refusal = ask(&app, "/limited").await;
    assert_eq!(
        (refusal.status(), &refusal.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"2".parse().unwrap())
    );
    let body: serde_json::Value =
        serde_json::from_slice(&refusal.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(body["violated_policies"], serde_json::json!(["second"]), "{body}");
    let free = ask(&app, "/free").await;
    assert_eq!((free.status(), free.headers().get("x-ratelimit-limit")), (StatusCode::OK, None));
}

#[tokio::test]
async fn a_handler_that_panics_gives_its_permit_back() {
    let limits = limits().await;
    let panics = async || -> &'static str { panic!("the handler fails") };
    let app = Router::new().route("/", get(panics)).layer(limits.layer(subject));
    let failed = tokio::spawn(async move { ask(&app, "/").await.status() });
    assert!(failed.await.unwrap_err().is_panic());
    assert_eq!(in_flight(&limits).await, 0);
    assert_eq!(limits.usage("a", "small").await.unwrap().view.second.used, 1);
    let _ = tokio::time::timeout(Duration::from_secs(5), limits.stop()).await.unwrap();
}
