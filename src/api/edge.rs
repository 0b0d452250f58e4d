//! What happens around every request, whatever it asks for: an id, a bound on requests at once, a deadline, the
//! envelope of errors, the headers of every answer, one line in the log.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, STRICT_TRANSPORT_SECURITY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use tokio_util::sync::CancellationToken;

use crate::api::context::RequestContext;
use crate::api::counted::{CLIENT_GONE, Counted};
use crate::api::envelope::{Answer, Outcome};
use crate::api::error::ApiError;
use crate::api::in_flight::InFlight;
use crate::api::language::Language;
use crate::api::request_id::{REQUEST_ID, RequestIds};
use crate::api::routes::Verb;
use crate::api::server::Site;
use crate::api::stream::{ResponseBody, StreamBody, Streams};
use crate::clock::Clock;
use crate::config::ServerConfig;
use crate::domain::limit::shedding::Worth;
use crate::domain::time::Monotonic;
use crate::domain::trace::TraceContext;
use crate::gateway::error::GatewayError;
use crate::gateway::request_figures::{ListenerFigures, OpenConnection};
use crate::telemetry::Traces;
use crate::telemetry::trace::Span;

const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Asked for by whoever decides to kill the process, so they are answered however much work there is.
pub(crate) const PROBES: [&str; 2] = ["/healthz", "/readyz"];
/// Asked for by whoever collects figures.
const SCRAPES: [&str; 2] = ["/metrics", "/admin/v1/metrics"];
/// When to come back after a refusal for too many requests at once: they take milliseconds.
const BUSY_RETRY_AFTER_S: u64 = 1;
/// The same for too many streams, which take longer.
const STREAMS_RETRY_AFTER_S: u64 = 10;

/// What one listener serves.
pub(crate) trait Handler: Send + Sync + 'static {
    /// A request that has been read.
    type Read: Send;

    /// What a request is worth, by its method and path alone; none where everything may have every place, as for the
    /// operator.
    fn worth(&self, method: &Method, path: &str) -> Option<Worth>;

    /// Every route, by which requests are counted.
    fn routes(&self) -> Vec<(Verb, &'static str)> {
        Vec::new()
    }

    /// Counts a request of this worth that was refused because too many were being worked on.
    fn note_full(&self, worth: Option<Worth>);

    /// Reads the request to its end. Takes as long as its client likes, within the bounds of bodies, so nothing that
    /// others need is held meanwhile.
    fn read(
        &self,
        context: &Arc<RequestContext>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Self::Read, ApiError>> + Send;

    /// Does what the request asks for.
    fn handle(&self, context: &Arc<RequestContext>, read: Self::Read) -> impl Future<Output = Outcome> + Send;
}

/// The bounds of an edge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EdgeBounds {
    /// Requests being worked on at once.
    pub(crate) requests_in_flight_max: usize,
    /// A request is answered by then; a stream has begun by then.
    pub(crate) request_timeout: Duration,
    /// Streams of each kind at once.
    pub(crate) streams_max: usize,
    /// A stream lasts no longer.
    pub(crate) stream_timeout: Duration,
}

impl EdgeBounds {
    /// The bounds that the configuration names.
    pub(crate) fn of(config: &ServerConfig) -> Self {
        Self {
            requests_in_flight_max: config.requests_in_flight_max,
            request_timeout: Duration::from_millis(config.request_timeout_ms),
            streams_max: config.streams_max,
            stream_timeout: Duration::from_millis(config.stream_timeout_ms),
        }
    }
}

/// The edge of one listener.
pub(crate) struct Edge<H> {
    handler: H,
    /// Which listener, for the log.
    listener_name: &'static str,
    clock: Clock,
    traces: Traces,
    request_ids: RequestIds,
    in_flight: InFlight,
    request_timeout: Duration,
    streams: Streams,
    figures: Option<ListenerFigures>,
    /// Whether its listener speaks TLS.
    is_tls: bool,
    /// What browsers are told of it.
    hsts: Option<HeaderValue>,
}

impl<H: Handler> Edge<H> {
    /// An edge within these bounds, until `stopping` is cancelled.
    pub(crate) fn new(
        handler: H,
        listener_name: &'static str,
        (clock, traces): (Clock, Traces),
        bounds: EdgeBounds,
        stopping: CancellationToken,
    ) -> Self {
        let in_flight = InFlight::new(bounds.requests_in_flight_max);
        let streams = Streams::new(clock.clone(), bounds.streams_max, bounds.stream_timeout, stopping);
        Self {
            handler,
            listener_name,
            clock,
            traces,
            request_ids: RequestIds::new(),
            in_flight,
            request_timeout: bounds.request_timeout,
            streams,
            figures: None,
            is_tls: false,
            hsts: None,
        }
    }

    /// The same for a listener that speaks TLS; browsers are told to use nothing else for `hsts_max_age_s`, unless that is 0.
    pub(crate) fn over_tls(self, hsts_max_age_s: u64) -> Self {
        let hsts = HeaderValue::from_str(&format!("max-age={hsts_max_age_s}"));
        Self { is_tls: true, hsts: hsts.ok().filter(|_| hsts_max_age_s > 0), ..self }
    }

    /// The same, with its requests and connections counted.
    pub(crate) fn counted(self, figures: ListenerFigures) -> Self {
        let streams = self.streams.counted(figures.streams.clone());
        Self { figures: Some(figures), streams, ..self }
    }

    /// Sees to it that the request ends.
    async fn carry(&self, context: &Arc<RequestContext>, request: Request<Incoming>) -> Outcome {
        let work = AssertUnwindSafe(self.read_and_handle(context, request)).catch_unwind();
        match tokio::time::timeout(self.request_timeout, work).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => Err(GatewayError::Internal(String::from("a handler panicked")).into()),
            Err(_elapsed) => Err(too_late(&context.method)),
        }
    }

    /// Lets the request in once it has been read, or not. A client that sends slowly holds no place, so that many of them
    /// keep nobody out.
    async fn read_and_handle(&self, context: &Arc<RequestContext>, request: Request<Incoming>) -> Outcome {
        let is_probe = PROBES.contains(&request.uri().path());
        let worth = self.handler.worth(request.method(), request.uri().path());
        if !is_probe && !self.in_flight.has_room(worth) {
            context.leave_body_unread_unless_empty(request.body());
            return Err(self.full(worth));
        }
        let read = self.handler.read(context, request).await?;
        let place = self.in_flight.enter(worth);
        if place.is_none() && !is_probe {
            return Err(self.full(worth));
        }
        self.handler.handle(context, read).await
    }

    /// What to say to a request for which there is no place, which is counted.
    fn full(&self, worth: Option<Worth>) -> ApiError {
        self.handler.note_full(worth);
        busy()
    }

    /// Begins what is made while it is sent, of which nothing is made where nobody reads it. If there is no place for it, that
    /// is what comes of the request.
    fn begin_stream(&self, context: &Arc<RequestContext>, outcome: Outcome) -> (Outcome, Option<StreamBody>) {
        let source = match &outcome {
            Ok(answer) if context.method != Method::HEAD => answer.stream.clone(),
            _ => None,
        };
        let Some(source) = source else { return (outcome, None) };
        match self.streams.begin(&source, context) {
            Some(body) => (outcome, Some(body)),
            None => (Err(GatewayError::Overloaded { retry_after_s: STREAMS_RETRY_AFTER_S }.into()), None),
        }
    }
}

fn busy() -> ApiError {
    GatewayError::Overloaded { retry_after_s: BUSY_RETRY_AFTER_S }.into()
}

impl<H: Handler> Site for Edge<H> {
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<ResponseBody> {
        let request_id = self.request_ids.of(request.headers());
        let mut context = RequestContext::new(request_id, request.method().clone(), request.headers(), peer);
        context.is_tls = self.is_tls;
        let context = Arc::new(context);
        let span = self.traces.begin_request(trace_of(request.headers()), "request");
        let mut line = LogLine::begin(self.listener_name, &self.clock, Arc::clone(&context), span);
        let mut counted = self.figures.as_ref().map(|figures| Counted::begin(figures, &self.clock, &context));
        let outcome = line.span.scope(self.carry(&context, request)).await;
        let (outcome, stream) = self.begin_stream(&context, outcome);
        line.code = outcome.as_ref().map_or_else(|error| Some(error.code().as_str()), |answer| answer.error_code);
        if let Err(ApiError::Gateway(GatewayError::OrderExists { field, number })) = &outcome {
            context.numbers.note(field, number);
        }
        let mut response = write(&context, outcome).map(|body| match stream {
            Some(stream) => ResponseBody::Stream(Box::new(stream)),
            None => ResponseBody::Whole(Full::new(body)),
        });
        if let Some(hsts) = &self.hsts {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        line.status = response.status().as_u16();
        line.bytes = response.body().size_hint().exact();
        counted.iter_mut().for_each(|counted| counted.status = line.status);
        response
    }

    fn connected(&self) -> Option<OpenConnection> {
        self.figures.as_ref().map(ListenerFigures::connected)
    }

    fn refusal(&self) -> Bytes {
        self.figures.iter().for_each(ListenerFigures::refused);
        written(&busy(), &self.request_ids.draw())
    }

    fn refusal_without_tls(&self) -> Bytes {
        written(&ApiError::TlsExpected, &self.request_ids.draw())
    }
}

/// An error as it goes over a connection of which no request was read.
fn written(error: &ApiError, request_id: &str) -> Bytes {
    let body = error.body(Language::English, request_id);
    let mut headers = HeaderMap::new();
    error.add_headers(&mut headers);
    let headers: String =
        headers.iter().filter_map(|(name, value)| Some(format!("{name}: {}\r\n", value.to_str().ok()?))).collect();
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}{REQUEST_ID}: \
         {request_id}\r\nconnection: close\r\n\r\n",
        error.code().status(),
        body.len(),
    );
    Bytes::from([head.as_bytes(), &body].concat())
}

/// What to say at the deadline. A request that only reads changed nothing and may be sent again; of any other it is
/// not known what it changed, and work that moves money goes on without its client.
fn too_late(method: &Method) -> ApiError {
    if method.is_safe() {
        GatewayError::Overloaded { retry_after_s: BUSY_RETRY_AFTER_S }.into()
    } else {
        ApiError::AnswerTimeout
    }
}

/// Writes the response, and the one line about an error inside.
fn write(context: &RequestContext, outcome: Outcome) -> Response<Bytes> {
    let mut headers = HeaderMap::with_capacity(14);
    if let Some(limits) = context.limit_headers.get() {
        headers.extend(limits.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    // Answers hold secrets and states that change; the few that don't say so themselves.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let (status, body) = match outcome {
        Ok(answer) => write_answer(answer, &mut headers),
        Err(error) => write_error(context, &error, &mut headers),
    };
    if let Ok(request_id) = HeaderValue::from_str(&context.request_id) {
        headers.insert(REQUEST_ID, request_id);
    }
    if context.body_is_unread() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn write_answer(answer: Answer, headers: &mut HeaderMap) -> (StatusCode, Bytes) {
    headers.insert(CONTENT_TYPE, answer.content_type);
    if answer.replayed {
        headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    // Of its own, and in place of what is there under the same name.
    headers.extend(answer.headers);
    (answer.status, answer.body)
}

fn write_error(context: &RequestContext, error: &ApiError, headers: &mut HeaderMap) -> (StatusCode, Bytes) {
    if let ApiError::Gateway(GatewayError::Internal(reason)) = error {
        tracing::error!(request_id = context.request_id, reason, "a request failed inside");
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    error.add_headers(headers);
    (error.code().status(), error.body(context.language, &context.request_id))
}

/// Where a request says that it belongs in a trace.
fn trace_of(headers: &HeaderMap) -> Option<TraceContext> {
    if !headers.contains_key(TRACEPARENT) {
        return None;
    }
    let texts = |name| headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
    TraceContext::from_headers(texts(TRACEPARENT), texts(TRACESTATE))
}

/// The one line about a request, and its span. Written when it goes out of scope, so that a request whose client went away has one
/// too. Never holds a path, a query, a body or a secret.
struct LogLine<'a> {
    listener_name: &'static str,
    clock: &'a Clock,
    started: Monotonic,
    context: Arc<RequestContext>,
    span: Span,
    status: u16,
    /// The code of the error that it was answered with.
    code: Option<&'static str>,
    /// Of the body, where that is known when it begins.
    bytes: Option<u64>,
}

impl<'a> LogLine<'a> {
    fn begin(listener_name: &'static str, clock: &'a Clock, context: Arc<RequestContext>, span: Span) -> Self {
        let started = clock.monotonic();
        Self { listener_name, clock, started, context, span, status: CLIENT_GONE, code: None, bytes: None }
    }

    /// Says of the span what the line says.
    fn describe_span(&mut self) {
        let Self { span, context, .. } = self;
        if !span.is_recorded() {
            return;
        }
        let (method, route) = (context.method.as_str(), context.route.get().map(|route| route.as_str()));
        span.rename(|| route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}")));
        span.set("http.request.method", method.to_owned());
        if let Some(route) = route {
            span.set("http.route", route.to_owned());
        }
        span.set("http.response.status_code", i64::from(self.status));
        span.set("tollgate.listener", self.listener_name);
        span.set("tollgate.request_id", context.request_id.clone());
        if let Some(merchant) = context.merchant.get() {
            span.set("tollgate.merchant_id", merchant.to_string());
        }
        let numbers = [
            ("tollgate.payment_no", context.numbers.payment_no()),
            ("tollgate.pre_auth_no", context.numbers.pre_auth_no()),
            ("tollgate.refund_no", context.numbers.refund_no()),
        ];
        for (key, number) in numbers {
            number.into_iter().for_each(|number| span.set(key, number.to_owned()));
        }
        if let Some(code) = self.code {
            span.set("error.type", code);
        }
        if self.status >= StatusCode::INTERNAL_SERVER_ERROR.as_u16() {
            span.fail("not answered as it should be");
        }
    }
}

/// The line at a level, which `tracing` has to know when it is compiled.
macro_rules! log_line {
    ($level:ident, $line:expr, $route:expr, $duration_us:expr) => {
        tracing::$level!(
            listener = $line.listener_name,
            method = $line.context.method.as_str(),
            route = $route,
            status = $line.status,
            duration_us = u64::try_from($duration_us).unwrap_or(u64::MAX),
            request_id = $line.context.request_id,
            merchant_id = $line.context.merchant.get().map_or("-", |merchant| merchant.as_str()),
            payment_no = $line.context.numbers.payment_no(),
            pre_auth_no = $line.context.numbers.pre_auth_no(),
            refund_no = $line.context.numbers.refund_no(),
            error = $line.code,
            bytes = $line.bytes,
            trace_id = $line.span.context().map(|context| context.parent.trace_id_text()),
            "request",
        )
    };
}

impl Drop for LogLine<'_> {
    fn drop(&mut self) {
        self.describe_span();
        let duration_us = self.clock.monotonic().since(self.started).as_micros();
        let route = self.context.route.get().map_or("-", |route| route.as_str());
        // Whoever looks every few seconds and finds everything in order would fill the logs.
        let is_probe = PROBES.contains(&route) || SCRAPES.contains(&route);
        match self.status {
            _ if !is_probe => log_line!(info, self, route, duration_us),
            200..400 => log_line!(debug, self, route, duration_us),
            _ => log_line!(warn, self, route, duration_us),
        }
    }
}
