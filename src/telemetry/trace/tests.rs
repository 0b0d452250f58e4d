//! What is recorded, of whom it is a part, and what is left out.

use tokio::sync::mpsc;

use super::*;
use crate::config::Config;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn context(parent: &str, state: Option<&str>) -> TraceContext {
    TraceContext { parent: parent.parse().unwrap(), state: state.map(str::to_owned) }
}

const START: Timestamp = Timestamp::from_unix_s(1_737_715_200);

/// Traces that are recorded, what becomes of their spans, and the clock.
fn recorded(sample_ratio: f64, parent_decides: bool) -> (Traces, mpsc::Receiver<SpanData>, Clock) {
    recorded_by(Clock::manual(START), sample_ratio, parent_decides)
}

/// The same by a clock of one's own.
fn recorded_by(clock: Clock, sample_ratio: f64, parent_decides: bool) -> (Traces, mpsc::Receiver<SpanData>, Clock) {
    let (export, spans) = Export::kept(16);
    let recorder = Recorder {
        export,
        clock: clock.clone(),
        random: Random::seeded(7),
        sampled_below: threshold(sample_ratio),
        parent_decides,
        scope: InstrumentationScope::builder("tollgate").build(),
    };
    (Traces(Some(Arc::new(Tracer { recorder: Some(Arc::new(recorder)), passes_on: true }))), spans, clock)
}

#[tokio::test]
async fn spans_stand_under_those_in_which_they_were_begun_also_in_other_tasks() {
    let (traces, mut spans, clock) = recorded(1.0, true);
    let mut request = traces.begin_request(None, "request");
    let work = async {
        drop(begin("first", Kind::Internal));
        let call = begin("call", Kind::Client);
        let inside = async {
            clock.advance(Duration::from_millis(20));
            drop(begin("inside", Kind::Internal));
            current().unwrap()
        };
        assert_eq!(call.scope(inside).await, *call.context().unwrap());
        drop(call);
        tokio::spawn(in_current(async { drop(begin("task", Kind::Internal)) })).await.unwrap();
        tokio::spawn(async { assert!(begin("lost", Kind::Internal).context().is_none()) }).await.unwrap();
    };
    request.scope(work).await;
    request.rename(|| String::from("POST /api/v1/payments"));
    request.set("http.response.status_code", 201_i64);
    let root = request.context().unwrap().clone();
    drop(request);
    let mut ended = Vec::new();
    while let Ok(span) = spans.try_recv() {
        ended.push(span);
    }
    let names: Vec<&str> = ended.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["first", "inside", "call", "task", "POST /api/v1/payments"]);
    let [first, inside, call, task, request] = ended.try_into().unwrap();
    assert!(request.parent_span_id == SpanId::INVALID && request.span_kind == SpanKind::Server);
    assert_eq!(request.span_context.trace_id(), TraceId::from(root.parent.trace_id));
    for (child, parent) in [(&first, &request), (&call, &request), (&task, &request), (&inside, &call)] {
        assert_eq!(child.parent_span_id, parent.span_context.span_id(), "{}", child.name);
        assert_eq!(child.span_context.trace_id(), parent.span_context.trace_id());
        assert!(!child.parent_span_is_remote && child.span_context.is_sampled());
    }
    let lasted = call.end_time.duration_since(call.start_time).unwrap();
    assert_eq!(lasted, Duration::from_millis(20));
    assert_eq!(call.start_time, UNIX_EPOCH + Duration::from_secs(1_737_715_200));
    assert_eq!(request.attributes, [KeyValue::new("http.response.status_code", 201_i64)]);
}

#[tokio::test]
async fn a_request_goes_on_in_the_trace_that_it_names() {
    let (traces, mut spans, _) = recorded(0.0, true);
    let request = traces.begin_request(Some(context(PARENT, Some("a=1"))), "request");
    let below = request.scope(async { outgoing().unwrap() }).await;
    assert_eq!(below.parent.trace_id_text(), "0af7651916cd43dd8448eb211c80319c");
    assert_ne!(below.parent.to_string(), PARENT, "what follows stands under the request");
    assert_eq!(below.state.as_deref(), Some("a=1"));
    drop(request);
    let span = spans.try_recv().unwrap();
    assert!(span.parent_span_is_remote && span.parent_span_id == SpanId::from(0xb7ad_6b71_6920_3331));
    assert_eq!(span.span_context.trace_state().header(), "a=1");
    // Told not to be recorded it is not, and what follows is told so.
    let unsampled = PARENT.replace("-01", "-00");
    let request = traces.begin_request(Some(context(&unsampled, None)), "request");
    let below = request.scope(async { (begin("below", Kind::Internal).is_recorded(), outgoing().unwrap()) }).await;
    assert!(!request.is_recorded() && !below.0 && !below.1.parent.is_sampled);
    drop(request);
    assert!(spans.try_recv().is_err());
}

#[test]
fn the_share_decides_by_the_trace_and_alike_everywhere() {
    let (traces, _spans, _) = recorded(0.25, false);
    let requests: Vec<Span> = (0..2_000).map(|_| traces.begin_request(None, "request")).collect();
    let recorded_of = |requests: &[Span]| requests.iter().filter(|request| request.is_recorded()).count();
    assert!((400..600).contains(&recorded_of(&requests)), "{}", recorded_of(&requests));
    for request in &requests {
        let context = request.context().unwrap();
        assert_eq!(request.is_recorded(), context.parent.is_sampled);
        // Whoever gets it and decides by the same share decides the same, whatever the flag says.
        let flipped = TraceParent { is_sampled: !context.parent.is_sampled, ..context.parent };
        let again = traces.begin_request(Some(TraceContext { parent: flipped, state: None }), "request");
        assert_eq!(again.is_recorded(), request.is_recorded());
    }
    for (ratio, expected) in [(0.0, false), (1.0, true)] {
        let (traces, _spans, _) = recorded(ratio, true);
        assert!((0..100).all(|_| traces.begin_request(None, "request").is_recorded() == expected));
    }
}

#[tokio::test]
async fn without_a_collector_a_trace_goes_through_and_none_begins() {
    let config = Config::embedded().unwrap().telemetry;
    let clock = Clock::manual(Timestamp::from_unix_s(0));
    let traces = Traces::open(&config, &clock, &Random::seeded(1), |_| None).unwrap();
    assert!(traces.begin_request(None, "request").context().is_none());
    let sent = context(PARENT, Some("a=1"));
    let request = traces.begin_request(Some(sent.clone()), "request");
    let below = request.scope(async { (begin("below", Kind::Internal).is_recorded(), outgoing()) }).await;
    assert_eq!(below, (false, Some(sent.clone())));
    let later = traces.begin_later(Some(&sent), "webhook", Kind::Client);
    assert_eq!(later.outgoing(), Some(sent.clone()));
    assert!(traces.begin_later(None, "webhook", Kind::Client).context().is_none());
    // Unless it is to stay inside; then it is in the logs only.
    let config = TelemetryConfig { pass_on_traceparent: false, ..config };
    let traces = Traces::open(&config, &clock, &Random::seeded(1), |_| None).unwrap();
    let request = traces.begin_request(Some(sent.clone()), "request");
    assert_eq!(request.scope(async { (current(), outgoing()) }).await, (Some(sent), None));
}

#[test]
fn what_is_said_of_a_span_is_bounded() {
    let (traces, mut spans, _) = recorded(1.0, true);
    let mut request = traces.begin_request(None, "request");
    request.rename(|| "é".repeat(1_000));
    (0..100).for_each(|_| request.set("key", "é".repeat(1_000)));
    drop(request);
    let span = spans.try_recv().unwrap();
    assert_eq!((span.name.len(), span.attributes.len(), span.dropped_attributes_count), (256, 24, 76));
    assert_eq!(span.attributes[0].value.as_str().len(), 256);
}

#[test]
fn a_full_queue_loses_spans_and_counts_them() {
    let (traces, mut spans, _) = recorded(1.0, true);
    (0..20).for_each(|_| drop(traces.begin_request(None, "request")));
    assert_eq!(traces.counts(), SpanCounts { queue_full: 4, ..SpanCounts::default() });
    assert!(spans.try_recv().is_ok());
    drop(traces.begin_request(None, "request"));
    assert_eq!(traces.counts().queue_full, 4);
}

#[tokio::test(start_paused = true)]
async fn times_follow_the_machines_clock_and_durations_do_not() {
    let (traces, mut spans, clock) = recorded_by(Clock::virtual_from(START), 1.0, true);
    let mut at_start = |clock_ahead: Duration| {
        let SpanData { start_time, end_time, .. } = spans.try_recv().unwrap();
        assert_eq!(start_time, UNIX_EPOCH + Duration::from_secs(1_737_715_200) + clock_ahead);
        end_time.duration_since(start_time).unwrap()
    };
    let request = traces.begin_request(None, "request");
    // The machine's clock is set while a request is under way, which makes it neither longer nor shorter.
    clock.set_forward(Duration::from_secs(3_600));
    tokio::time::advance(Duration::from_millis(20)).await;
    drop(request);
    assert_eq!(at_start(Duration::ZERO), Duration::from_millis(20));
    // What begins later has the time that the machine has by then, as everybody else's spans do.
    drop(traces.begin_request(None, "request"));
    assert_eq!(at_start(Duration::from_millis(3_600_020)), Duration::ZERO);
    let kept = TraceContext { parent: PARENT.parse().unwrap(), state: None };
    clock.set_back(Duration::from_secs(1_800));
    drop(traces.begin_later(Some(&kept), "webhook", Kind::Client));
    assert_eq!(at_start(Duration::from_millis(1_800_020)), Duration::ZERO);
}

#[tokio::test]
async fn an_answer_from_400_on_is_a_failure_of_whoever_asked() {
    let (traces, mut spans, _) = recorded(1.0, true);
    let request = traces.begin_request(None, "request");
    for (status, is_failure) in [(200, false), (302, false), (400, true), (404, true), (500, true)] {
        let mut call = request.scope(async { begin("call", Kind::Client) }).await;
        call.answered(status);
        drop(call);
        let span = spans.try_recv().unwrap();
        let has = |key: &'static str, value: Value| span.attributes.contains(&KeyValue::new(key, value));
        assert!(has("http.response.status_code", i64::from(status).into()));
        assert_eq!(matches!(span.status, Status::Error { .. }), is_failure, "{status}");
        assert_eq!(has("error.type", status.to_string().into()), is_failure, "{status}");
    }
}
