//! What a collector gets to see of requests, what goes on to others, and what neither spans nor logs ever hold.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue as Any, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use parking_lot::Mutex;
use prost::Message;
use serde_json::json;
use tollgate::config::Config;

use crate::pre_auths::with_instant;
use crate::support::{Answer, Client, House, LogBook, Receiver, eventually, nonce, unix_s};

const PAYMENTS: &str = "/api/v1/payments";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What an OpenTelemetry collector has taken.
#[derive(Clone, Default)]
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
    about: Arc<Mutex<Vec<KeyValue>>>,
    /// Requests that are refused before any is taken.
    refusals: Arc<Mutex<u32>>,
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> StatusCode {
    {
        let mut refusals = collector.refusals.lock();
        if *refusals > 0 {
            *refusals -= 1;
            return StatusCode::SERVICE_UNAVAILABLE;
        }
    }
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(headers["authorization"], "Bearer collector");
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in request.resource_spans {
        *collector.about.lock() = resource.resource.unwrap().attributes;
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        collector.spans.lock().extend(spans);
    }
    StatusCode::OK
}

impl Collector {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self { url, ..Self::default() };
        let router = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        collector
    }

    /// Has a gateway send its spans here.
    fn wanted(&self, directory: &std::path::Path) -> impl FnOnce(&mut Config) + use<> {
        let headers = directory.join("otlp-headers");
        std::fs::write(&headers, "authorization=Bearer%20collector\n").unwrap();
        let url = self.url.clone();
        move |config| {
            config.telemetry.otlp_endpoint = Some(url);
            config.telemetry.otlp_headers_file = Some(headers);
            config.telemetry.otlp_interval_ms = 20;
        }
    }

    async fn house(&self, change: impl FnOnce(&mut Config)) -> House {
        let directory = tempfile::tempdir().unwrap();
        let wanted = self.wanted(directory.path());
        House::start_in(directory, |config| {
            wanted(config);
            change(config);
        })
        .await
    }

    /// The spans of a trace once `enough` are there.
    async fn trace(&self, trace_id: &str, enough: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        eventually("the trace", || async {
            let mut spans = self.spans.lock().clone();
            spans.retain(|span| hex::encode(&span.trace_id) == trace_id);
            enough(&spans).then_some(spans)
        })
        .await
    }
}

fn has(name: &'static str) -> impl Fn(&[Span]) -> bool {
    move |spans| spans.iter().any(|span| span.name == name)
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {names:?}"))
}

fn under<'a>(spans: &'a [Span], parent: &Span) -> Vec<&'a str> {
    let below = spans.iter().filter(|span| span.parent_span_id == parent.span_id);
    below.map(|span| span.name.as_str()).collect()
}

fn attribute(span: &Span, key: &str) -> String {
    text_of(&span.attributes, key)
}

fn text_of(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.clone()) {
        Some(Any { value: Some(AnyValue::StringValue(text)) }) => text,
        Some(Any { value: Some(AnyValue::IntValue(number)) }) => number.to_string(),
        _ => String::new(),
    }
}

/// A signed request with an idempotency key and headers of its own.
async fn post_with(shop: &Client, path: &str, body: serde_json::Value, own: &[(&str, &str)]) -> Answer {
    let text = body.to_string();
    let mut headers = shop.signed("POST", path, &text, Some(&nonce()), unix_s(), &nonce());
    headers.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    shop.send("POST", path, Some(text), headers).await
}

fn order(order_no: &str) -> serde_json::Value {
    json!({ "order_no": order_no, "amount": 900, "currency": "USD", "channel": "stripe" })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_payment_is_one_trace_from_its_client_to_its_webhook() {
    let log = LogBook::open();
    let collector = Collector::start().await;
    let house = collector.house(|_| {}).await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    let endpoint = json!({ "url": receiver.url, "events": ["payment.*"] });
    shop.post("/api/v1/webhooks/endpoints", endpoint).await.expect(201, "SUCCESS");
    let own = [("traceparent", PARENT), ("tracestate", "shop=till-7"), ("x-request-id", "till-7-1")];
    let paid = post_with(&shop, PAYMENTS, order("O-1"), &own).await.expect(201, "SUCCESS");
    let delivery = eventually("the webhook", || async { receiver.about(paid.data("payment_no")).pop() }).await;

    let spans = collector.trace(TRACE, |spans| has("POST /api/v1/payments")(spans) && has("webhook")(spans)).await;
    let request = named(&spans, "POST /api/v1/payments");
    assert_eq!(hex::encode(&request.parent_span_id), "b7ad6b7169203331", "under the span of its client");
    assert_eq!((request.kind, request.trace_state.as_str()), (SpanKind::Server as i32, "shop=till-7"));
    for (key, expected) in [
        ("http.request.method", "POST"),
        ("http.route", PAYMENTS),
        ("http.response.status_code", "201"),
        ("tollgate.request_id", "till-7-1"),
        ("tollgate.merchant_id", shop.merchant_id.as_str()),
        ("tollgate.listener", "merchant"),
        ("tollgate.payment_no", paid.data("payment_no")),
    ] {
        assert_eq!(attribute(request, key), expected, "{key}");
    }
    let mut below = under(&spans, request);
    below.sort_unstable();
    assert_eq!(below, ["admission", "channel charge", "commit", "commit", "decision", "webhook"]);
    let charge = named(&spans, "channel charge");
    assert_eq!((attribute(charge, "tollgate.channel"), charge.kind), (String::from("stripe"), SpanKind::Client as i32));
    assert_eq!(attribute(charge, "tollgate.outcome"), "success");
    assert!(!under(&spans, charge).is_empty(), "its calls of the provider");
    let http = named(&spans, "HTTP");
    assert_eq!(
        (attribute(http, "http.response.status_code"), http.kind),
        (String::from("200"), SpanKind::Client as i32)
    );
    assert_eq!(attribute(named(&spans, "decision"), "tollgate.channel"), "stripe");
    for span in &spans {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{}", span.name);
        assert!(span.start_time_unix_nano >= request.start_time_unix_nano, "{} begins in its request", span.name);
    }

    let webhook = named(&spans, "webhook");
    assert_eq!(attribute(webhook, "tollgate.event"), "payment.success");
    let expected = format!("00-{TRACE}-{}-01", hex::encode(&webhook.span_id));
    assert_eq!((delivery.header("traceparent"), delivery.header("tracestate")), (expected.as_str(), "shop=till-7"));
    assert_eq!(text_of(&collector.about.lock(), "service.name"), "tollgate");
    house.stop().await;
    let logged = log.text();
    let line = logged.lines().find(|line| line.contains("till-7-1") && line.contains("duration_us")).unwrap();
    assert!(line.contains(&format!("trace_id=\"{TRACE}\"")) && line.contains("bytes="), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_actors_do_for_a_request_is_in_its_trace() {
    let collector = Collector::start().await;
    let house = collector.house(with_instant).await;
    let shop = house.merchant("premium").await;
    let body = json!({ "order_no": "ROOM-1", "amount": 10_000, "currency": "USD", "channel": "instant" });
    let held = post_with(&shop, "/api/v1/pre-auths", body, &[]).await.expect(201, "SUCCESS");
    let path = format!("/api/v1/pre-auths/{}/capture", held.data("pre_auth_no"));
    let captured = post_with(&shop, &path, json!({ "amount": 2_500 }), &[("traceparent", PARENT)]).await;
    captured.expect(200, "SUCCESS");
    let name = "POST /api/v1/pre-auths/{pre_auth_no}/capture";
    let spans = collector.trace(TRACE, |spans| has(name)(spans) && has("channel capture")(spans)).await;
    let request = named(&spans, name);
    assert_eq!(named(&spans, "channel capture").parent_span_id, request.span_id);
    let commits = spans.iter().filter(|span| span.name == "commit" && span.parent_span_id == request.span_id);
    assert_eq!(commits.count(), 2, "the intent and the outcome");
    assert!(!has("channel authorize")(&spans), "that was another request");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_traceparent_begins_a_trace_and_one_that_is_not_recorded_is_not() {
    let collector = Collector::start().await;
    let house = collector.house(|config| config.telemetry.trust_traceparent = true).await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    shop.post("/api/v1/webhooks/endpoints", json!({ "url": receiver.url })).await.expect(201, "SUCCESS");
    let unsampled = PARENT.replace("-01", "-00");
    let quiet = post_with(&shop, PAYMENTS, order("O-1"), &[("traceparent", &unsampled)]).await.expect(201, "SUCCESS");
    let told = eventually("the webhook", || async { receiver.about(quiet.data("payment_no")).pop() }).await;
    let header = told.header("traceparent");
    assert!(header.contains(TRACE) && header.ends_with("-00"), "{header}");
    let own = [("traceparent", "00-xyz"), ("x-request-id", "wrong-parent")];
    post_with(&shop, PAYMENTS, order("O-2"), &own).await.expect(201, "SUCCESS");
    let request = eventually("the request", || async {
        let spans = collector.spans.lock();
        spans.iter().find(|span| attribute(span, "tollgate.request_id") == "wrong-parent").cloned()
    })
    .await;
    assert!(request.parent_span_id.is_empty(), "it is the first of its trace");
    assert!(collector.spans.lock().iter().all(|span| hex::encode(&span.trace_id) != TRACE));
    let refused = post_with(&shop, PAYMENTS, json!({}), &[("traceparent", PARENT)]).await;
    refused.expect(400, "INVALID_REQUEST");
    let spans = collector.trace(TRACE, has("POST /api/v1/payments")).await;
    assert_eq!(attribute(named(&spans, "POST /api/v1/payments"), "error.type"), "INVALID_REQUEST");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_of_a_request_says_what_it_is_about() {
    let log = LogBook::open();
    let house = House::start_with(with_instant).await;
    let shop = house.merchant("premium").await;
    let line = |answer: &Answer| {
        let (log, request_id) = (&log, format!("request_id=\"{}\"", answer.header("x-request-id")));
        async move {
            eventually("its line", || async {
                let text = log.text();
                text.lines().find(|line| line.contains(&request_id) && line.contains("duration_us")).map(String::from)
            })
            .await
        }
    };
    let says = |line: String, numbers: &[(&str, &str)]| {
        for (field, number) in numbers {
            assert!(line.contains(&format!("{field}=\"{number}\"")), "{field} {number}: {line}");
        }
        let said = ["payment_no=", "pre_auth_no=", "refund_no="].iter().filter(|field| line.contains(**field)).count();
        assert_eq!(said, numbers.len(), "{line}");
    };
    let key = nonce();
    let pay = || shop.post_with_key(PAYMENTS, order("O-1"), &key);
    let paid = pay().await.expect(201, "SUCCESS");
    let payment_no = paid.data("payment_no").to_owned();
    says(line(&paid).await, &[("payment_no", &payment_no)]);
    let again = pay().await.expect(201, "SUCCESS");
    assert_eq!(again.header("idempotent-replayed"), "true");
    says(line(&again).await, &[("payment_no", &payment_no)]);
    let taken = shop.post(PAYMENTS, order("O-1")).await.expect(409, "ORDER_EXISTS");
    says(line(&taken).await, &[("payment_no", &payment_no)]);
    let read = shop.get(&format!("{PAYMENTS}/{payment_no}")).await.expect(200, "SUCCESS");
    says(line(&read).await, &[("payment_no", &payment_no)]);
    let refunds = format!("{PAYMENTS}/{payment_no}/refunds");
    let refunded = shop.post_with_key(&refunds, json!({ "amount": 100 }), &nonce()).await.expect(201, "SUCCESS");
    says(line(&refunded).await, &[("payment_no", &payment_no), ("refund_no", refunded.data("refund_no"))]);
    let hold = json!({ "order_no": "R-1", "amount": 900, "currency": "USD", "channel": "instant" });
    let held = shop.post("/api/v1/pre-auths", hold).await.expect(201, "SUCCESS");
    says(line(&held).await, &[("pre_auth_no", held.data("pre_auth_no"))]);
    says(line(&shop.get(PAYMENTS).await).await, &[]);
    says(line(&shop.get(&format!("{PAYMENTS}/mine-7")).await).await, &[]);
    house.stop().await;
}

/// A figure of `/metrics`.
async fn figure(house: &House, name: &str) -> f64 {
    let text = house.admin("GET", "/metrics", None).await.text;
    let line =
        text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

const NOT_TAKEN: &str = "tollgate_trace_spans_lost_total{reason=\"not_taken\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let nobody = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    let away = Collector { url, ..Collector::default() };
    drop(nobody);
    let house = away.house(|config| config.telemetry.otlp_timeout_ms = 200).await;
    let shop = house.merchant("premium").await;
    assert_eq!(figure(&house, "tollgate_trace_spans_sent_total").await, 0.0);
    shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    eventually("lost spans", || async { (figure(&house, NOT_TAKEN).await > 0.0).then_some(()) }).await;
    shop.pay("O-2", 900, json!({})).await.expect(201, "SUCCESS");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_has_no_room_is_asked_again_and_stopping_sends_what_is_left() {
    let collector = Collector::start().await;
    *collector.refusals.lock() = 1;
    let house = collector.house(|config| config.telemetry.otlp_interval_ms = 60_000).await;
    let shop = house.merchant("premium").await;
    post_with(&shop, PAYMENTS, order("O-1"), &[("traceparent", PARENT)]).await.expect(201, "SUCCESS");
    assert!(collector.spans.lock().is_empty());
    house.stop().await;
    assert_eq!(*collector.refusals.lock(), 0);
    let spans = collector.spans.lock().clone();
    assert!(has("POST /api/v1/payments")(&spans) && has("channel charge")(&spans));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_does_not_decide_what_is_recorded() {
    let collector = Collector::start().await;
    let house = collector.house(|config| config.telemetry.trace_sample_ratio = 0.0).await;
    let shop = house.merchant("premium").await;
    let traced = post_with(&shop, PAYMENTS, order("O-1"), &[("traceparent", PARENT)]).await.expect(201, "SUCCESS");
    assert_eq!(traced.status, 201);
    // Stopping sends what is left.
    house.stop().await;
    assert!(collector.spans.lock().is_empty(), "{:?}", collector.spans.lock());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_goes_through_a_gateway_that_records_nothing() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    shop.post("/api/v1/webhooks/endpoints", json!({ "url": receiver.url })).await.expect(201, "SUCCESS");
    let traced = post_with(&shop, PAYMENTS, order("O-1"), &[("traceparent", PARENT)]).await.expect(201, "SUCCESS");
    let untraced = post_with(&shop, PAYMENTS, order("O-2"), &[]).await.expect(201, "SUCCESS");
    let told = |paid: &Answer| {
        let payment_no = paid.data("payment_no").to_owned();
        let receiver = &receiver;
        async move { eventually("the webhook", || async { receiver.about(&payment_no).pop() }).await }
    };
    assert_eq!(told(&traced).await.header("traceparent"), PARENT);
    assert_eq!(told(&untraced).await.header("traceparent"), "");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_and_nothing_of_a_body_is_in_logs_or_spans() {
    const MARK: &str = "zq7mark";
    const CARD: &str = "4242424242424242";
    let log = LogBook::open();
    let collector = Collector::start().await;
    let house = collector.house(with_instant).await;
    let shop = house.merchant_with(json!({ "name": format!("{MARK} shop"), "tier": "premium" })).await;
    let receiver = Receiver::start().await;
    receiver.answer(500);
    let url = format!("{}?token={MARK}", receiver.url);
    let endpoint = shop.post_with_key("/api/v1/webhooks/endpoints", json!({ "url": url }), "k-1").await;
    let endpoint = endpoint.expect(201, "SUCCESS");
    let personal = json!({
        "customer_email": format!("{MARK}@mail.example"), "description": format!("{MARK} goods"),
        "metadata": { "note": MARK }, "return_url": format!("https://shop.example/{MARK}"),
    });
    let paid = shop.pay("O-1", 900, personal.clone()).await;
    assert_eq!(paid.status, 201, "{}", paid.text);
    let number = paid.data("payment_no").to_owned();
    let mut hold = json!({ "order_no": "R-1", "amount": 900, "currency": "USD", "channel": "instant" });
    hold.as_object_mut().unwrap().extend(personal.as_object().unwrap().clone());
    let held = shop.post("/api/v1/pre-auths", hold).await.expect(201, "SUCCESS");
    let cancel = format!("/api/v1/pre-auths/{}/cancel", held.data("pre_auth_no"));
    shop.post_with_key(&cancel, json!({ "reason": MARK }), "k-2").await.expect(200, "SUCCESS");
    let refunds = format!("{PAYMENTS}/{number}/refunds");
    shop.post_with_key(&refunds, json!({ "amount": 100, "reason": MARK }), "k-3").await;
    let own = [("x-request-id", CARD), ("traceparent", PARENT), ("tracestate", "a=4242424242424242")];
    let answer = post_with(&shop, PAYMENTS, order("O-4"), &own).await.expect(201, "SUCCESS");
    assert_ne!(answer.header("x-request-id"), CARD);
    // What is refused is not told either.
    assert_eq!(shop.pay("O-2", 900, json!({ "description": CARD })).await.status, 422);
    shop.pay("O-3", 900, json!({ "payment_token": format!("tok_{MARK}"), "channel": "stripe" })).await;
    shop.post_bytes(PAYMENTS, format!("{{ {MARK}").as_bytes(), Some("application/json")).await;
    shop.post(PAYMENTS, json!({ MARK: CARD })).await.expect(400, "INVALID_REQUEST");
    for path in [format!("{PAYMENTS}?{MARK}={MARK}"), format!("/api/v1/{MARK}"), format!("{PAYMENTS}/{MARK}")] {
        assert!(shop.get(&path).await.status >= 400);
    }
    let signature = format!("{:0<64}", hex::encode(MARK));
    let mut wrong = shop.signed("GET", PAYMENTS, "", None, unix_s(), &nonce());
    wrong.insert(String::from("x-signature"), signature.clone());
    shop.send("GET", PAYMENTS, None, wrong).await.expect(401, "UNAUTHENTICATED");
    let bearer = HashMap::from([(String::from("authorization"), format!("Bearer {MARK}"))]);
    house.admin_as("GET", "/admin/v1/merchants", None, bearer).await.expect(401, "UNAUTHENTICATED");
    let rotate = format!("/api/v1/webhooks/endpoints/{}/rotate-secret", endpoint.data("id"));
    let rotated = shop.post(&rotate, json!({})).await.expect(200, "SUCCESS");
    let erase = format!("/admin/v1/merchants/{}/payments/{number}/erase", shop.merchant_id);
    house.admin("POST", &erase, None).await;
    eventually("a webhook", || async { receiver.about(&number).pop() }).await;
    let secrets = [
        MARK.to_owned(),
        CARD.to_owned(),
        signature,
        shop.key.secret.clone(),
        house.admin_token.clone(),
        endpoint.data("secret").to_owned(),
        rotated.data("secret").to_owned(),
        String::from("Bearer collector"),
    ];
    house.stop().await;
    let refused = named(&collector.spans.lock(), "webhook").clone();
    assert_eq!(attribute(&refused, "error.type"), "500");
    assert_eq!(refused.status.unwrap().code, SpanStatus::Error as i32, "whoever asks has failed from 400 on");
    let (logged, spans) = (log.text(), format!("{:?}", collector.spans.lock()));
    assert!(logged.contains(&shop.merchant_id) && spans.contains(&shop.merchant_id) && spans.contains("webhook"));
    for secret in secrets {
        assert!(!secret.is_empty());
        let line = logged.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "in the log");
        assert!(!spans.contains(&secret), "{secret} is in a span");
    }
}
