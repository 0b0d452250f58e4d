//! Sends spans to a collector: from a bounded queue, in batches, by one task. Whoever records a span never waits; where
//! there is no room, or the collector does not take them, spans are lost and counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{TelemetryConfig, traces_url};
use crate::domain::time::Monotonic;
use crate::telemetry::otlp::{self, CollectorClient};

/// Spans in one request.
const BATCH_MAX: usize = 512;
/// How often at most it is said that spans can't be sent.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How many spans became what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpanCounts {
    /// Taken by the collector.
    pub(crate) sent: u64,
    /// Lost because the queue was full.
    pub(crate) queue_full: u64,
    /// Lost because the collector did not take them.
    pub(crate) not_taken: u64,
}

/// Talks to one collector.
#[derive(Debug)]
pub(crate) struct Exporter(SpanExporter);

impl Exporter {
    /// OTLP as protobuf over HTTP, to the collector at `endpoint`.
    ///
    /// # Errors
    /// In words, when the address or the headers can't be used.
    pub(crate) fn over_http(
        config: &TelemetryConfig,
        endpoint: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let timeout = Duration::from_millis(config.otlp_timeout_ms);
        let headers = otlp::headers(config, variable)?;
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(CollectorClient::new(endpoint, timeout)?)
            .with_headers(HashMap::from_iter(headers))
            // The client tries again; this would block a thread while it waits.
            .with_retry_policy(RetryPolicy::disabled())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(traces_url(endpoint)?.as_str())
            .with_timeout(timeout)
            .build()
            .map_err(|error| format!("telemetry.otlp_endpoint can't be used: {error}"))?;
        let about = [
            KeyValue::new("service.name", config.service_name.clone()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ];
        exporter.set_resource(&Resource::builder_empty().with_attributes(about).build());
        Ok(Self(exporter))
    }
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    queue_full: AtomicU64,
    not_taken: AtomicU64,
}

/// The way of spans to a collector.
#[derive(Debug)]
pub(crate) struct Export {
    queue: mpsc::Sender<SpanData>,
    counters: Arc<Counters>,
    finishing: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Export {
    /// Starts the task. It ends with [`Export::finish`], or when this is dropped.
    pub(crate) fn start(exporter: Exporter, config: &TelemetryConfig, clock: Clock) -> Self {
        let (queue, spans) = mpsc::channel(config.trace_queue_max);
        let counters = Arc::new(Counters::default());
        let finishing = CancellationToken::new();
        let sending = Sending {
            exporter,
            spans,
            counters: Arc::clone(&counters),
            interval: Duration::from_millis(config.otlp_interval_ms),
            finishing: finishing.clone(),
            clock,
            last_told: None,
        };
        Self { queue, counters, finishing, task: Mutex::new(Some(tokio::spawn(sending.run()))) }
    }

    /// Keeps up to `spans_max` spans for a test.
    #[cfg(test)]
    pub(crate) fn kept(spans_max: usize) -> (Self, mpsc::Receiver<SpanData>) {
        let (queue, spans) = mpsc::channel(spans_max);
        (Self { queue, counters: Arc::default(), finishing: CancellationToken::new(), task: Mutex::new(None) }, spans)
    }

    /// Takes a span that has ended.
    pub(crate) fn take(&self, span: SpanData) {
        if self.queue.try_send(span).is_err() {
            self.counters.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many became what.
    pub(crate) fn counts(&self) -> SpanCounts {
        let Counters { sent, queue_full, not_taken } = &*self.counters;
        SpanCounts {
            sent: sent.load(Ordering::Relaxed),
            queue_full: queue_full.load(Ordering::Relaxed),
            not_taken: not_taken.load(Ordering::Relaxed),
        }
    }

    /// Sends what is there, for no longer than `within`, and ends.
    pub(crate) async fn finish(&self, within: Duration) {
        self.finishing.cancel();
        let Some(mut task) = self.task.lock().take() else { return };
        if tokio::time::timeout(within, &mut task).await.is_err() {
            task.abort();
            tracing::warn!("the last spans could not be sent to the collector in time");
        }
    }
}

/// What the task works with.
struct Sending {
    exporter: Exporter,
    spans: mpsc::Receiver<SpanData>,
    counters: Arc<Counters>,
    /// How long a span waits for others at most.
    interval: Duration,
    finishing: CancellationToken,
    clock: Clock,
    last_told: Option<Monotonic>,
}

impl Sending {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            if self.finishing.is_cancelled() {
                // What is in the queue can still be taken out.
                self.spans.close();
            }
            if !self.fill(&mut batch).await {
                return;
            }
            if !batch.is_empty() {
                self.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH_MAX))).await;
            }
        }
    }

    /// Waits for spans, and a while for more of them; `false` at the end.
    async fn fill(&mut self, batch: &mut Vec<SpanData>) -> bool {
        let is_finishing = self.finishing.is_cancelled();
        let received = tokio::select! {
            biased;
            received = self.spans.recv_many(batch, BATCH_MAX) => received,
            () = self.finishing.cancelled(), if !is_finishing => return true,
        };
        if received == 0 {
            return false;
        }
        let more = async {
            while batch.len() < BATCH_MAX {
                if self.spans.recv_many(batch, BATCH_MAX - batch.len()).await == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = more => {}
            () = self.finishing.cancelled() => {}
            () = tokio::time::sleep(self.interval) => {}
        }
        true
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let Err(error) = self.exporter.0.export(batch).await else {
            self.counters.sent.fetch_add(spans, Ordering::Relaxed);
            return;
        };
        self.counters.not_taken.fetch_add(spans, Ordering::Relaxed);
        let now = self.clock.monotonic();
        if self.last_told.is_none_or(|last| now.since(last) >= TELL_EVERY) {
            self.last_told = Some(now);
            let lost = self.counters.not_taken.load(Ordering::Relaxed);
            tracing::warn!(%error, lost, "the collector takes no spans; requests are not held up, their traces are lost");
        }
    }
}
