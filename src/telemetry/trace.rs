//! Traces: what a request leads to, as spans that are sent to a collector, and the W3C trace context that goes with it.
//!
//! A [`Traces`] belongs to one gateway. Where work is being done is kept with the task that does it: [`Span::scope`] makes
//! a span the current one for a future, [`in_current`] hands the current one on to a task that is spawned, and [`begin`]
//! makes a span under it. Without a collector and without a `traceparent` from outside there is no current span, and all of
//! this does nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tokio::task::futures::TaskLocalFuture;

use crate::clock::Clock;
use crate::config::TelemetryConfig;
use crate::domain::time::{Monotonic, Timestamp};
use crate::domain::trace::{TraceContext, TraceParent};
use crate::random::Random;
use crate::telemetry::export::{Export, Exporter, SpanCounts};

pub(crate) use opentelemetry::Value;

/// Attributes of one span; more are left out. None is longer than [`ATTRIBUTE_MAX_BYTES`].
const ATTRIBUTES_MAX: usize = 24;
/// Longest text of an attribute, in bytes.
const ATTRIBUTE_MAX_BYTES: usize = 256;

tokio::task_local! {
    /// Where the work of this task belongs.
    static CURRENT: Option<Arc<Place>>;
}

/// The traces of one gateway. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Tracer>>);

#[derive(Debug)]
struct Tracer {
    /// Takes what is recorded; none without a collector.
    recorder: Option<Arc<Recorder>>,
    passes_on: bool,
}

/// Records spans for a collector.
struct Recorder {
    export: Export,
    clock: Clock,
    random: Random,
    /// Of traces without a parent, those are recorded whose ids are below this.
    sampled_below: u64,
    parent_decides: bool,
    scope: InstrumentationScope,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Recorder")
    }
}

/// A place in a trace.
#[derive(Debug)]
pub(crate) struct Place {
    context: TraceContext,
    /// Takes the spans below it, if they are recorded.
    recorded: Option<Recorded>,
    passes_on: bool,
}

/// Who takes the spans of some work, and what their times are reckoned from.
#[derive(Clone, Debug)]
struct Recorded {
    recorder: Arc<Recorder>,
    /// When the work began here, by both clocks. Its spans are measured by the steady one, so that none ends before it
    /// begins; each work has a moment of its own, since the two clocks drift apart while a process runs for months, and
    /// the machine's is set from time to time.
    anchor: (Timestamp, Monotonic),
}

impl Recorded {
    /// Work that begins now.
    fn now_on(recorder: &Arc<Recorder>) -> Self {
        let clock = &recorder.clock;
        Self { recorder: Arc::clone(recorder), anchor: (clock.now(), clock.monotonic()) }
    }

    fn now(&self) -> SystemTime {
        let (time, steady) = self.anchor;
        let began = Duration::from_millis(u64::try_from(time.unix_ms()).unwrap_or(0));
        UNIX_EPOCH + began + self.recorder.clock.monotonic().since(steady)
    }
}

impl Traces {
    /// Records nothing and passes nothing on.
    pub fn off() -> Self {
        Self(None)
    }

    /// Records nothing, and passes on what others said, as the configuration says.
    pub(crate) fn without_collector(config: &TelemetryConfig) -> Self {
        Self(Some(Arc::new(Tracer { recorder: None, passes_on: config.pass_on_traceparent })))
    }

    /// As the configuration says; spans are sent by a task of their own, so there has to be a runtime. `variable` reads an
    /// environment variable.
    ///
    /// # Errors
    /// In words, when the collector's address or headers can't be used.
    pub(crate) fn open(
        config: &TelemetryConfig,
        clock: &Clock,
        random: &Random,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let recorder = match &config.otlp_endpoint {
            Some(endpoint) => {
                let exporter = Exporter::over_http(config, endpoint, variable)?;
                Some(Arc::new(Recorder {
                    export: Export::start(exporter, config, clock.clone()),
                    clock: clock.clone(),
                    random: random.clone(),
                    sampled_below: threshold(config.trace_sample_ratio),
                    parent_decides: config.trust_traceparent,
                    scope: InstrumentationScope::builder("tollgate").with_version(env!("CARGO_PKG_VERSION")).build(),
                }))
            }
            None => None,
        };
        Ok(Self(Some(Arc::new(Tracer { recorder, passes_on: config.pass_on_traceparent }))))
    }

    /// The span of a request that came in, under what it said itself. Everything that it leads to belongs under it.
    pub(crate) fn begin_request(&self, incoming: Option<TraceContext>, name: &'static str) -> Span {
        let Some(tracer) = &self.0 else { return Span::none() };
        tracer.begin(incoming, name, Kind::Server, Recorder::samples)
    }

    /// A span of work that goes on under what was kept of its request, which has decided whether it is recorded.
    pub(crate) fn begin_later(&self, kept: Option<&TraceContext>, name: &'static str, kind: Kind) -> Span {
        let (Some(tracer), Some(kept)) = (&self.0, kept) else { return Span::none() };
        tracer.begin(Some(kept.clone()), name, kind, |_, parent, _| parent.is_some_and(|parent| parent.is_sampled))
    }

    /// Whether spans are recorded.
    pub(crate) fn are_recorded(&self) -> bool {
        self.0.as_ref().is_some_and(|tracer| tracer.recorder.is_some())
    }

    /// How many spans were sent and lost.
    pub(crate) fn counts(&self) -> SpanCounts {
        let recorder = self.0.as_ref().and_then(|tracer| tracer.recorder.as_ref());
        recorder.map_or_else(SpanCounts::default, |recorder| recorder.export.counts())
    }

    /// Sends what has been recorded, for no longer than `within`. What ends later is lost.
    pub(crate) async fn finish(&self, within: Duration) {
        if let Some(recorder) = self.0.as_ref().and_then(|tracer| tracer.recorder.as_ref()) {
            recorder.export.finish(within).await;
        }
    }
}

impl Tracer {
    fn begin(
        &self,
        parent: Option<TraceContext>,
        name: &'static str,
        kind: Kind,
        samples: impl FnOnce(&Recorder, Option<&TraceParent>, u128) -> bool,
    ) -> Span {
        let passes_on = self.passes_on;
        let Some(recorder) = &self.recorder else {
            // Nothing is added to the trace, so that what follows belongs under whoever has sent it.
            return Span::passing(parent.map(|context| Place { context, recorded: None, passes_on }));
        };
        let above = parent.as_ref().map(|context| context.parent);
        let trace_id = above.map_or_else(|| recorder.trace_id(), |above| above.trace_id);
        let is_sampled = samples(recorder, above.as_ref(), trace_id);
        let parent_span_id = above.map_or(0, |above| above.span_id);
        let state = parent.and_then(|context| context.state);
        let context = TraceContext { parent: TraceParent { trace_id, span_id: recorder.span_id(), is_sampled }, state };
        if !is_sampled {
            return Span::passing(Some(Place { context, recorded: None, passes_on }));
        }
        let recorded = Recorded::now_on(recorder);
        let place = Place { context, recorded: Some(recorded.clone()), passes_on };
        Span::recording(recorded, place, (parent_span_id, kind == Kind::Server), name, kind)
    }
}

impl Recorder {
    /// Whether a request is recorded.
    fn samples(&self, parent: Option<&TraceParent>, trace_id: u128) -> bool {
        match parent {
            Some(parent) if self.parent_decides => parent.is_sampled,
            _ => is_below(trace_id, self.sampled_below),
        }
    }

    fn trace_id(&self) -> u128 {
        u128::from(self.span_id()) << 64 | u128::from(self.random.draw_u64())
    }

    fn span_id(&self) -> u64 {
        self.random.draw_u64().max(1)
    }
}

/// Ids count by 63 of their bits, as `TraceIdRatioBased` samplers do.
const FULL: u64 = 1 << 63;

fn threshold(ratio: f64) -> u64 {
    if ratio >= 1.0 {
        return FULL;
    }
    // In range, so that nothing is lost but fractions.
    (ratio.max(0.0) * FULL as f64) as u64
}

fn is_below(trace_id: u128, threshold: u64) -> bool {
    let low = u64::try_from(trace_id & u128::from(u64::MAX)).unwrap_or(u64::MAX);
    low >> 1 < threshold
}

/// What a span is to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Answers somebody.
    Server,
    /// Asks somebody.
    Client,
    /// Neither.
    Internal,
}

impl From<Kind> for SpanKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Server => Self::Server,
            Kind::Client => Self::Client,
            Kind::Internal => Self::Internal,
        }
    }
}

/// Something that takes time, until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Span {
    place: Option<Arc<Place>>,
    recording: Option<Box<Recording>>,
}

#[derive(Debug)]
struct Recording {
    by: Recorded,
    data: SpanData,
}

impl Span {
    /// Nothing.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    fn passing(place: Option<Place>) -> Self {
        Self { place: place.map(Arc::new), recording: None }
    }

    fn recording(
        by: Recorded,
        place: Place,
        (parent_span_id, parent_span_is_remote): (u64, bool),
        name: &'static str,
        kind: Kind,
    ) -> Self {
        let TraceParent { trace_id, span_id, .. } = place.context.parent;
        let state = place.context.state.as_deref().and_then(|state| state.parse::<TraceState>().ok());
        let now = by.now();
        let data = SpanData {
            span_context: SpanContext::new(
                TraceId::from(trace_id),
                SpanId::from(span_id),
                TraceFlags::SAMPLED,
                false,
                state.unwrap_or_default(),
            ),
            parent_span_id: SpanId::from(parent_span_id),
            parent_span_is_remote: parent_span_is_remote && parent_span_id != 0,
            span_kind: kind.into(),
            name: name.into(),
            start_time: now,
            end_time: now,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: by.recorder.scope.clone(),
        };
        Self { place: Some(Arc::new(place)), recording: Some(Box::new(Recording { by, data })) }
    }

    /// Where it is in its trace, if it is in one.
    pub(crate) fn context(&self) -> Option<&TraceContext> {
        self.place.as_ref().map(|place| &place.context)
    }

    /// What is told to others about it.
    pub(crate) fn outgoing(&self) -> Option<TraceContext> {
        self.place.as_ref().filter(|place| place.passes_on).map(|place| place.context.clone())
    }

    /// Whether somebody will see what is set.
    pub(crate) fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }

    /// Calls it something else.
    pub(crate) fn rename(&mut self, name: impl FnOnce() -> String) {
        if let Some(recording) = &mut self.recording {
            recording.data.name = cut(name()).into();
        }
    }

    /// Adds an attribute. Never a secret, nothing of a body, nothing about a customer.
    pub(crate) fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        let Some(recording) = &mut self.recording else { return };
        let data = &mut recording.data;
        if data.attributes.len() == ATTRIBUTES_MAX {
            data.dropped_attributes_count += 1;
            return;
        }
        let value = match value.into() {
            Value::String(text) if text.as_str().len() > ATTRIBUTE_MAX_BYTES => cut(text.as_str().to_owned()).into(),
            Value::Array(_) => Value::Array(Array::String(Vec::new())),
            value => value,
        };
        data.attributes.push(KeyValue::new(key, value));
    }

    /// Notes the status of the answer to a request that was sent. By OpenTelemetry's conventions whoever sends one has
    /// failed from 400 on, whoever answers it only from 500 on.
    pub(crate) fn answered(&mut self, status: u16) {
        if self.recording.is_none() {
            return;
        }
        self.set("http.response.status_code", i64::from(status));
        if status >= 400 {
            self.set("error.type", status.to_string());
            self.fail("answered with an error");
        }
    }

    /// Says that it went wrong, and why in a few fixed words.
    pub(crate) fn fail(&mut self, why: &'static str) {
        if let Some(recording) = &mut self.recording {
            recording.data.status = Status::error(why);
        }
    }

    /// Makes it the current one wherever `work` goes, but for tasks that it spawns.
    pub(crate) fn scope<F: Future>(&self, work: F) -> Within<F> {
        CURRENT.scope(self.place.clone(), work)
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(recording) = self.recording.take() {
            let Recording { by, mut data } = *recording;
            data.end_time = by.now().max(data.start_time);
            by.recorder.export.take(data);
        }
    }
}

/// At most [`ATTRIBUTE_MAX_BYTES`] of a text.
fn cut(mut text: String) -> String {
    if text.len() > ATTRIBUTE_MAX_BYTES {
        let end = (0..=ATTRIBUTE_MAX_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
    }
    text
}

/// A future with its place.
pub(crate) type Within<F> = TaskLocalFuture<Option<Arc<Place>>, F>;

/// The place of some task, to be handed to another one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Here(Option<Arc<Place>>);

impl Here {
    /// Makes it the place of `work`.
    pub(crate) fn scope<F: Future>(self, work: F) -> Within<F> {
        CURRENT.scope(self.0, work)
    }
}

/// Where this task is.
pub(crate) fn here() -> Here {
    Here(CURRENT.try_with(Clone::clone).ok().flatten())
}

/// Keeps the place of this task in another one, as which `work` is spawned.
pub(crate) fn in_current<F: Future>(work: F) -> Within<F> {
    here().scope(work)
}

/// A span under the current one; none where there is none.
pub(crate) fn begin(name: &'static str, kind: Kind) -> Span {
    let Here(Some(above)) = here() else { return Span::none() };
    let Some(recorded) = above.recorded.clone() else { return Span { place: Some(above), recording: None } };
    let parent = above.context.parent;
    let context = TraceContext {
        parent: TraceParent { span_id: recorded.recorder.span_id(), ..parent },
        state: above.context.state.clone(),
    };
    let place = Place { context, recorded: Some(recorded.clone()), passes_on: above.passes_on };
    Span::recording(recorded, place, (parent.span_id, false), name, kind)
}

/// Where the work of this task belongs, to be kept with what it makes.
pub(crate) fn current() -> Option<TraceContext> {
    here().0.map(|place| place.context.clone())
}

/// The same where others are to be told.
pub(crate) fn outgoing() -> Option<TraceContext> {
    here().0.filter(|place| place.passes_on).map(|place| place.context.clone())
}

#[cfg(test)]
mod tests;
