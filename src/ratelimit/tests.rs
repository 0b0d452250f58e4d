//! The layer around small services: what is let through, what is told to others, and that permits come back.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::http::request::Parts;
use hyper::http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use super::*;
use crate::domain::limit::{DailyUsage, Limiter, LimiterSnapshot};
use crate::domain::time::{Monotonic, Timestamp};

const START: Timestamp = Timestamp::from_unix_s(1_737_715_200);
const SMALL: LimitFigures = LimitFigures { per_second: 2, per_minute: 500, per_hour: 10_000, burst: 4, concurrent: 2 };
const LARGE: LimitFigures = LimitFigures { per_second: 20, burst: 40, concurrent: 20, ..SMALL };

type Answer = Response<PermitBody<Full<Bytes>>>;

fn subject(head: &Parts) -> Option<Subject> {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let cost = text("x-cost").and_then(|cost| cost.parse().ok()).unwrap_or(1);
    Some(Subject { cost, ..Subject::new(text("x-merchant")?, text("x-tier").unwrap_or("small")) })
}

fn request(headers: &[(&'static str, &'static str)]) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in headers {
        request.headers_mut().insert(*name, hyper::http::HeaderValue::from_static(value));
    }
    request
}

const OF_A: &[(&str, &str)] = &[("x-merchant", "a")];

async fn limits(clock: &Clock) -> RateLimits {
    let settings = Settings { clock: clock.clone(), ..Settings::default() };
    RateLimits::start([("small", SMALL), ("large", LARGE)], settings).await.unwrap()
}

fn hello(limits: &RateLimits) -> impl Service<Request<()>, Response = Answer, Error = Infallible> + Clone {
    ServiceBuilder::new()
        .layer(limits.layer(subject))
        .service(service_fn(|_request: Request<()>| async { Ok(Response::new(Full::from("hello"))) }))
}

async fn ask<S>(service: &S, headers: &[(&'static str, &'static str)]) -> Answer
where
    S: Service<Request<()>, Response = Answer, Error = Infallible> + Clone,
{
    service.clone().oneshot(request(headers)).await.unwrap()
}

async fn text(answer: Answer) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn in_flight(limits: &RateLimits) -> u32 {
    limits.usage("a", "small").await.unwrap().view.concurrency.used
}

#[tokio::test]
async fn what_fits_is_let_through_with_headers_and_the_rest_is_told_when_to_come_back() {
    let clock = Clock::manual(START);
    let limits = limits(&clock).await;
    let service = hello(&limits);
    for remaining in ["3", "2", "1", "0"] {
        let answer = ask(&service, OF_A).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["x-ratelimit-limit"], "2");
        assert_eq!(answer.headers()["x-ratelimit-remaining"], remaining);
        assert_eq!(answer.headers()["x-ratelimit-tier"], "small");
        assert!(answer.headers().contains_key("ratelimit") && answer.headers().contains_key("ratelimit-policy"));
        assert_eq!(text(answer).await, "hello");
    }
    let refusal = ask(&service, OF_A).await;
    assert_eq!(refusal.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refusal.headers()["retry-after"], "2");
    assert_eq!(refusal.headers()["ratelimit"], "\"second\";r=0;t=2");
    assert_eq!(refusal.headers()["content-type"], "application/json");
    assert_eq!(refusal.headers()["cache-control"], "no-store");
    let body: Value = serde_json::from_str(&text(refusal).await).unwrap();
    let expected = json!({
        "code": "RATE_LIMIT_EXCEEDED",
        "message": "Request rate exceeds the limit: more than 2 requests per second",
        "tier": "small",
        "limit": "second",
        "violated_policies": ["second"],
        "retry_after": 2,
    });
    assert_eq!(body, expected);
    assert_eq!(
        ask(&service, &[("x-merchant", "b")]).await.status(),
        StatusCode::OK,
        "everybody has limits of their own"
    );
    clock.advance(Duration::from_secs(2));
    assert_eq!(ask(&service, OF_A).await.status(), StatusCode::OK, "its word can be taken");
}

#[tokio::test]
async fn what_is_told_is_in_the_client_s_language_and_has_its_request_s_id() {
    let limits = limits(&Clock::manual(START)).await;
    let service = hello(&limits);
    let told = |headers: &[(&'static str, &'static str)]| {
        let headers: Vec<_> = [("x-merchant", "a")].into_iter().chain(headers.iter().copied()).collect();
        let service = service.clone();
        async move { serde_json::from_str::<Value>(&text(ask(&service, &headers).await).await).unwrap() }
    };
    for _ in 0..4 {
        assert_eq!(text(ask(&service, OF_A).await).await, "hello");
    }
    let chinese = ("accept-language", "zh-CN,en;q=0.5");
    let limited = told(&[chinese, ("x-request-id", "order-1:try.2_x")]).await;
    assert_eq!(limited["message"], "请求频率超过限制: 超过每秒 2 次请求限制");
    assert_eq!((&limited["request_id"], &limited["retry_after"]), (&json!("order-1:try.2_x"), &json!(2)));
    let dear = told(&[chinese, ("x-merchant", "b"), ("x-cost", "5"), ("x-request-id", "r")]).await;
    assert_eq!(
        dear,
        json!({ "code": "INVALID_REQUEST", "message": "请求的开销超过限制所能允许的最大值: 4", "request_id": "r" })
    );
    let unknown = told(&[chinese, ("x-tier", "none"), ("x-request-id", "r")]).await;
    assert_eq!(unknown, json!({ "code": "OVERLOADED", "message": "系统繁忙, 请稍后重试", "request_id": "r" }));
    let english = told(&[("accept-language", "en,zh"), ("x-tier", "none")]).await;
    assert_eq!(english, json!({ "code": "OVERLOADED", "message": "Too much work at the moment; try again shortly" }));
    for bad in ["a b", "a\"b", "", "12345678901234567890123456789012345678901234567890123456789012345"] {
        assert_eq!(told(&[("x-request-id", bad)]).await.get("request_id"), None, "{bad:?}");
    }
    let mut twice = request(OF_A);
    for id in ["a", "b"] {
        twice.headers_mut().append("x-request-id", hyper::http::HeaderValue::from_static(id));
    }
    let body: Value = serde_json::from_str(&text(service.clone().oneshot(twice).await.unwrap()).await).unwrap();
    assert_eq!((&body["code"], body.get("request_id")), (&json!("RATE_LIMIT_EXCEEDED"), None));
}

#[tokio::test]
async fn who_is_named_by_nobody_is_not_limited() {
    let limits = limits(&Clock::manual(START)).await;
    let service = hello(&limits);
    for _ in 0..100 {
        let answer = ask(&service, &[]).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(!answer.headers().contains_key("x-ratelimit-limit"));
    }
}

#[tokio::test]
async fn what_can_t_be_decided_is_answered_503_and_a_cost_that_never_fits_400() {
    let limits = limits(&Clock::manual(START)).await;
    let service = hello(&limits);
    let unknown = ask(&service, &[("x-merchant", "a"), ("x-tier", "none")]).await;
    assert_eq!(
        (unknown.status(), &unknown.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
    );
    let dear = ask(&service, &[("x-merchant", "a"), ("x-cost", "5")]).await;
    assert_eq!(dear.status(), StatusCode::BAD_REQUEST);
    assert!(text(dear).await.contains("which is 4"));
    assert!(limits.stop().await);
    assert_eq!(ask(&service, OF_A).await.status(), StatusCode::SERVICE_UNAVAILABLE, "stopped is not unlimited");
}

#[tokio::test]
async fn a_request_is_in_flight_until_its_body_has_been_sent_or_dropped() {
    let clock = Clock::manual(START);
    let limits = limits(&clock).await;
    let service = hello(&limits);
    let (first, second) = (ask(&service, OF_A).await, ask(&service, OF_A).await);
    assert_eq!(in_flight(&limits).await, 2);
    let refusal = ask(&service, OF_A).await;
    assert_eq!(refusal.headers()["ratelimit"], "\"concurrency\";r=0");
    let mut body = first.into_body();
    assert!(body.frame().await.is_some());
    assert_eq!(in_flight(&limits).await, 1, "given back with the last frame");
    drop(body);
    drop(second);
    assert_eq!(in_flight(&limits).await, 0);
}

#[tokio::test]
async fn a_request_that_fails_panics_or_is_cancelled_gives_its_permit_back() {
    let limits = limits(&Clock::manual(START)).await;
    let broken = service_fn(|_request: Request<()>| async { Err::<Response<Full<Bytes>>, _>("broken") });
    let broken = ServiceBuilder::new().layer(limits.layer(subject)).service(broken);
    assert_eq!(broken.oneshot(request(OF_A)).await.unwrap_err(), "broken");
    assert_eq!(in_flight(&limits).await, 0);

    let panics = service_fn(|request: Request<()>| async move {
        assert!(request.headers().is_empty(), "the request fails");
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let panics = ServiceBuilder::new().layer(limits.layer(subject)).service(panics);
    assert!(tokio::spawn(panics.oneshot(request(OF_A))).await.is_err());
    assert_eq!(in_flight(&limits).await, 0);

    let hangs = service_fn(|_request: Request<()>| std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>());
    let hangs = ServiceBuilder::new().layer(limits.layer(subject)).service(hangs);
    let task = tokio::spawn(hangs.oneshot(request(OF_A)));
    while in_flight(&limits).await == 0 {
        tokio::task::yield_now().await;
    }
    task.abort();
    assert!(task.await.is_err());
    assert_eq!(in_flight(&limits).await, 0);
}

#[tokio::test]
async fn another_tier_holds_at_once_and_keeps_what_was_used() {
    let limits = limits(&Clock::manual(START)).await;
    let service = hello(&limits);
    for _ in 0..6 {
        drop(ask(&service, OF_A).await);
    }
    let promoted = ask(&service, &[("x-merchant", "a"), ("x-tier", "large")]).await;
    assert_eq!(
        (promoted.status(), promoted.headers()["x-ratelimit-remaining"].as_bytes()),
        (StatusCode::OK, &b"35"[..])
    );
    drop(promoted);
    let back = ask(&service, OF_A).await;
    assert_eq!(back.status(), StatusCode::TOO_MANY_REQUESTS, "five were used, four are allowed");
}

/// A service that takes a request only after it was ready; a clone has to be asked again.
struct Careful {
    is_ready: bool,
    is_open: Arc<AtomicBool>,
}

impl Clone for Careful {
    fn clone(&self) -> Self {
        Self { is_ready: false, is_open: Arc::clone(&self.is_open) }
    }
}

impl Service<Request<()>> for Careful {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = self.is_open.load(Ordering::SeqCst);
        if self.is_ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, _request: Request<()>) -> Self::Future {
        assert!(self.is_ready, "called without having been ready");
        std::future::ready(Ok(Response::new(Full::default())))
    }
}

#[tokio::test]
async fn whoever_was_ready_gets_the_request_and_who_is_not_gets_none() {
    let limits = limits(&Clock::manual(START)).await;
    let is_open = Arc::new(AtomicBool::new(false));
    let careful = Careful { is_ready: false, is_open: Arc::clone(&is_open) };
    let mut service = ServiceBuilder::new().layer(limits.layer(subject)).service(careful);
    assert!(futures_util::FutureExt::now_or_never(service.ready()).is_none());
    is_open.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let answer = service.ready().await.unwrap().call(request(OF_A)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn figures_out_of_range_don_t_start() {
    let none = LimitFigures { burst: 0, ..SMALL };
    let refused = RateLimits::start([("none", none)], Settings::default()).await.err().unwrap();
    assert_eq!(refused.to_string(), "tier none: burst must be at least 1");
}

#[tokio::test]
async fn settings_that_would_let_nobody_through_don_t_start() {
    let refused =
        async |settings: Settings| RateLimits::start([("small", SMALL)], settings).await.err().unwrap().to_string();
    let settings = Settings::default;
    assert_eq!(refused(Settings { lease: Duration::ZERO, ..settings() }).await, "lease must be at least 1 ms");
    // Less than the limits can tell from nothing.
    assert_eq!(refused(Settings { lease: Duration::from_nanos(1), ..settings() }).await, "lease must be at least 1 ms");
    assert_eq!(
        refused(Settings { merchants_active_max: 0, ..settings() }).await,
        "merchants_active_max must be at least 1"
    );
    assert_eq!(refused(Settings { mailbox_max: 0, ..settings() }).await, "mailbox_max must be at least 1");
    let least = Settings { lease: Duration::from_millis(1), merchants_active_max: 1, mailbox_max: 1, ..settings() };
    let limits = RateLimits::start([("small", SMALL)], least).await.unwrap();
    assert!(limits.admit(&Subject::new("a", "small")).await.is_ok());
}

/// Requests of one merchant in several tiers that are all on their way before any of them is decided.
#[tokio::test]
async fn requests_of_several_tiers_at_once_are_each_decided_by_their_own() {
    const MEDIUM: LimitFigures = LimitFigures { per_second: 4, burst: 8, concurrent: 8, ..SMALL };
    let tiers = [("small", SMALL), ("medium", MEDIUM), ("large", LARGE)];
    let settings = Settings { clock: Clock::manual(START), ..Settings::default() };
    let limits = RateLimits::start(tiers, settings).await.unwrap();
    drop(limits.admit(&Subject::new("a", "small")).await.unwrap());
    for order in [["large", "medium", "small"], ["small", "large", "medium"], ["medium", "small", "large"]] {
        let asked = order.map(|tier| {
            let limits = limits.clone();
            async move { limits.admit(&Subject::new("a", tier)).await }
        });
        for (tier, answer) in order.into_iter().zip(futures_util::future::join_all(asked).await) {
            let view = match answer {
                Ok(admitted) => admitted.view,
                Err(Refused::Limited(refusal)) => refusal.view,
                Err(refused) => panic!("{tier}: {refused:?}"),
            };
            assert_eq!(view.figures(), limits.0.tiers[tier], "{tier} in {order:?}");
        }
    }
    // One for the start, and 2, 3 and 2 in the rounds: the smallest tier has no room beside two that are in flight.
    let used = async |tier| limits.usage("a", tier).await.unwrap().view.second;
    assert_eq!((used("large").await.used, used("large").await.limit), (8, 40));
    assert_eq!((used("small").await.used, used("small").await.limit), (8, 4), "shown by the tier that is asked about");
}

#[tokio::test]
async fn a_refusal_in_one_tier_says_nothing_to_a_request_of_another() {
    let limits = limits(&Clock::manual(START)).await;
    let ask = async |tier| limits.admit(&Subject::new("a", tier)).await.is_ok();
    for _ in 0..4 {
        assert!(ask("small").await);
    }
    for _ in 0..3 {
        // The first of them is kept, so that the second is refused without a decision.
        assert!(!ask("small").await && !ask("small").await);
        assert!(ask("large").await);
    }
    assert!(!ask("small").await, "and what was admitted there counts here");
}

fn snapshot_of(now: Monotonic, wall: Timestamp) -> LimiterSnapshot {
    Limiter::new(SMALL, now).save(&DailyUsage::default(), now, wall)
}

#[test]
fn snapshots_that_still_count_are_never_forgotten_for_room() {
    let clock = Clock::manual(START);
    let snapshots = MemorySnapshots::new(1, clock.clone());
    let save = |merchant: &MerchantId| snapshots.save(merchant, snapshot_of(clock.monotonic(), clock.now()));
    let (a, b) = (MerchantId::new("a"), MerchantId::new("b"));
    assert!(save(&a));
    clock.advance(Duration::from_secs(3600));
    assert!(!save(&b));
    assert!(save(&a), "whom it knows it takes");
    clock.advance(Duration::from_secs(3600));
    assert!(!save(&b));
    clock.advance(Duration::from_secs(1));
    assert!(save(&b));
    assert!(snapshots.load(&a).snapshot.is_none() && snapshots.load(&b).snapshot.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_time_of_day_that_is_set_makes_no_snapshot_older() {
    let clock = Clock::virtual_from(START);
    let snapshots = MemorySnapshots::new(1, clock.clone());
    let save = |merchant: &MerchantId| snapshots.save(merchant, snapshot_of(clock.monotonic(), clock.now()));
    let (a, b) = (MerchantId::new("a"), MerchantId::new("b"));
    assert!(save(&a));
    clock.set_forward(Duration::from_secs(7200));
    assert!(!save(&b));
    assert!(snapshots.load(&a).snapshot.is_some());
    clock.set_back(Duration::from_secs(20_000));
    tokio::time::advance(Duration::from_secs(3601)).await;
    assert!(save(&b), "nor younger");
}

#[test]
fn without_room_what_is_old_is_looked_for_once_a_second_at_most() {
    let clock = Clock::manual(START);
    let snapshots = MemorySnapshots::new(1, clock.clone());
    let save = |merchant: &MerchantId| snapshots.save(merchant, snapshot_of(clock.monotonic(), clock.now()));
    let (a, b) = (MerchantId::new("a"), MerchantId::new("b"));
    assert!(save(&a));
    clock.advance(Duration::from_millis(3_599_500));
    assert!(!save(&b));
    clock.advance(Duration::from_millis(999));
    assert!(!save(&b), "a is old now, and nobody has looked");
    clock.advance(Duration::from_millis(1));
    assert!(save(&b));
}
