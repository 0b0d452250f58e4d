//! Answers that are made while they are sent, such as exports and live figures: how many at once, for how long, and
//! how they end.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::api::context::RequestContext;
use crate::clock::Clock;
use crate::domain::time::Monotonic;
use crate::gateway::stream_figures::ListenerStreams;

/// One merchant gets one place in so many, rounded up, so that it can't hold them all.
const SHARES: usize = 8;

/// What a stream is, which decides how it ends when it lasts too long or the gateway stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// Of use only as a whole: ended early it breaks, so that nobody takes a part for all. Goes on while the gateway
    /// drains.
    Download,
    /// News for as long as somebody listens. Ends in good order at any moment, and when the gateway begins to stop.
    Live,
}

impl StreamKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Live => "live",
        }
    }
}

/// Why a stream broke.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub(crate) struct StreamFailed(pub(crate) String);

/// What makes the parts of a body.
type Parts = Pin<Box<dyn Stream<Item = Result<Bytes, StreamFailed>> + Send>>;

/// A body that has not begun. Clones are the same one: whoever takes it first has it.
#[derive(Clone)]
pub(crate) struct StreamSource {
    /// What it is.
    pub(crate) kind: StreamKind,
    parts: Arc<Mutex<Option<Parts>>>,
}

impl StreamSource {
    /// A body of these parts, none of which is asked for before the one before has been taken by the connection.
    pub(crate) fn new<S>(kind: StreamKind, parts: S) -> Self
    where
        S: Stream<Item = Result<Bytes, StreamFailed>> + Send + 'static,
    {
        Self { kind, parts: Arc::new(Mutex::new(Some(Box::pin(parts)))) }
    }
}

impl std::fmt::Debug for StreamSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StreamSource").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The streams of one listener. They hold no place of a request: a client that reads slowly would keep it for hours.
pub(crate) struct Streams {
    clock: Clock,
    /// Of each kind.
    streams_max: usize,
    timeout: Duration,
    stopping: CancellationToken,
    taken: Arc<Mutex<Taken>>,
    figures: Option<ListenerStreams>,
}

/// How many are under way.
#[derive(Debug, Default)]
struct Taken {
    downloads: usize,
    live: usize,
    /// Only of merchants that have any, so never more entries than places.
    by_merchant: HashMap<String, usize>,
}

impl Taken {
    fn of(&mut self, kind: StreamKind) -> &mut usize {
        match kind {
            StreamKind::Download => &mut self.downloads,
            StreamKind::Live => &mut self.live,
        }
    }
}

/// Held while a stream lasts.
#[derive(Debug)]
struct Place {
    taken: Arc<Mutex<Taken>>,
    kind: StreamKind,
    merchant: Option<String>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        let of_kind = taken.of(self.kind);
        *of_kind = of_kind.saturating_sub(1);
        let Some(merchant) = self.merchant.take() else { return };
        match taken.by_merchant.get_mut(&merchant) {
            Some(held) if *held > 1 => *held -= 1,
            _ => drop(taken.by_merchant.remove(&merchant)),
        }
    }
}

impl Streams {
    /// At most `streams_max` of each kind at once, each for at most `timeout`; live ones end when `stopping` is cancelled.
    pub(crate) fn new(clock: Clock, streams_max: usize, timeout: Duration, stopping: CancellationToken) -> Self {
        Self { clock, streams_max: streams_max.max(1), timeout, stopping, taken: Arc::default(), figures: None }
    }

    /// The same, counted.
    pub(crate) fn counted(self, figures: ListenerStreams) -> Self {
        Self { figures: Some(figures), ..self }
    }

    /// Begins a stream as the body of this request's answer; `None` when there are too many.
    pub(crate) fn begin(&self, source: &StreamSource, context: &Arc<RequestContext>) -> Option<StreamBody> {
        let merchant = context.merchant.get().map(|merchant| String::from(merchant.as_str()));
        let Some(place) = self.enter(source.kind, merchant) else {
            self.figures.iter().for_each(|figures| figures.refuse(source.kind.as_str()));
            return None;
        };
        self.figures.iter().for_each(|figures| figures.begin(source.kind.as_str()));
        let parts = source.parts.lock().take();
        let is_live = source.kind == StreamKind::Live;
        Some(StreamBody {
            parts,
            kind: source.kind,
            deadline: Box::pin(tokio::time::sleep(self.timeout)),
            stopping: is_live.then(|| Box::pin(self.stopping.clone().cancelled_owned())),
            line: StreamLine {
                clock: self.clock.clone(),
                started: self.clock.monotonic(),
                context: Arc::clone(context),
                kind: source.kind,
                bytes: 0,
                ending: Ending::ClientGone,
                figures: self.figures.clone(),
            },
            _place: place,
        })
    }

    fn enter(&self, kind: StreamKind, merchant: Option<String>) -> Option<Place> {
        let mut taken = self.taken.lock();
        if *taken.of(kind) >= self.streams_max {
            return None;
        }
        if let Some(merchant) = &merchant {
            let held = taken.by_merchant.get(merchant).copied().unwrap_or(0);
            if held >= self.streams_max.div_ceil(SHARES) {
                return None;
            }
            taken.by_merchant.insert(merchant.clone(), held + 1);
        }
        *taken.of(kind) += 1;
        Some(Place { taken: Arc::clone(&self.taken), kind, merchant })
    }
}

/// A body that is being made while it is sent.
pub(crate) struct StreamBody {
    /// `None` once it has ended.
    parts: Option<Parts>,
    kind: StreamKind,
    deadline: Pin<Box<Sleep>>,
    stopping: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    line: StreamLine,
    _place: Place,
}

impl StreamBody {
    /// Ends it, whatever it still had to say.
    fn end(&mut self, ending: Ending) {
        self.parts = None;
        self.line.ending = ending;
    }

    /// Ends it before its time: well, if it is live.
    fn end_early(&mut self, ending: Ending) -> Option<StreamFailed> {
        self.end(ending);
        (self.kind == StreamKind::Download).then(|| StreamFailed(String::from("a download took too long")))
    }

    fn is_stopping(&mut self, task: &mut Context<'_>) -> bool {
        self.stopping.as_mut().is_some_and(|stopping| stopping.as_mut().poll(task).is_ready())
    }

    fn poll_part(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamFailed>>> {
        let Some(parts) = &mut self.parts else { return Poll::Ready(None) };
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| parts.as_mut().poll_next(task)));
        polled.unwrap_or_else(|_panic| Poll::Ready(Some(Err(StreamFailed(String::from("its maker panicked"))))))
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = StreamFailed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamFailed>>> {
        if self.parts.is_none() {
            return Poll::Ready(None);
        }
        if self.is_stopping(task) {
            return Poll::Ready(self.end_early(Ending::Stopping).map(Err));
        }
        if self.deadline.as_mut().poll(task).is_ready() {
            return Poll::Ready(self.end_early(Ending::TooLong).map(Err));
        }
        match self.poll_part(task) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(part))) => {
                self.line.bytes += part.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(part))))
            }
            Poll::Ready(Some(Err(failed))) => {
                tracing::error!(request_id = self.line.context.request_id, reason = failed.0, "a stream failed inside");
                self.end(Ending::Failed);
                Poll::Ready(Some(Err(failed)))
            }
            Poll::Ready(None) => {
                self.end(Ending::Whole);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_none()
    }
}

/// How a stream came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Everything was handed to the connection.
    Whole,
    /// The gateway stops.
    Stopping,
    /// It lasted as long as one may.
    TooLong,
    /// What makes it failed.
    Failed,
    /// The client went away, or took too little of it for too long, or was cut off when the gateway stopped.
    ClientGone,
}

impl Ending {
    fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Stopping => "stopping",
            Self::TooLong => "too_long",
            Self::Failed => "failed",
            Self::ClientGone => "client_gone",
        }
    }
}

/// The one line about the end of a stream, which is counted with it; the request's own line was written when its answer began.
struct StreamLine {
    clock: Clock,
    started: Monotonic,
    context: Arc<RequestContext>,
    kind: StreamKind,
    bytes: u64,
    ending: Ending,
    figures: Option<ListenerStreams>,
}

impl Drop for StreamLine {
    fn drop(&mut self) {
        self.figures.iter().for_each(|figures| figures.end(self.kind.as_str(), self.ending.as_str()));
        let duration_us = self.clock.monotonic().since(self.started).as_micros();
        tracing::info!(
            kind = self.kind.as_str(),
            route = self.context.route.get().map_or("-", |route| route.as_str()),
            ending = self.ending.as_str(),
            bytes = self.bytes,
            duration_us = u64::try_from(duration_us).unwrap_or(u64::MAX),
            request_id = self.context.request_id,
            merchant_id = self.context.merchant.get().map_or("-", |merchant| merchant.as_str()),
            "a stream ended",
        );
    }
}

/// The body of any answer.
pub(crate) enum ResponseBody {
    /// Made before it is sent.
    Whole(Full<Bytes>),
    /// Made meanwhile.
    Stream(Box<StreamBody>),
}

impl ResponseBody {
    /// Whether it is made while it is sent.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = StreamFailed;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamFailed>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(task).map_err(|never| match never {}),
            Self::Stream(body) => Pin::new(body.as_mut()).poll_frame(task),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    #[test]
    fn one_merchant_gets_its_share_and_leaves_the_rest_to_others() {
        let clock = Clock::manual(Timestamp::from_unix_s(1_700_000_000));
        let streams = Streams::new(clock, 17, Duration::from_secs(1), CancellationToken::new());
        let enter = |merchant: &str| streams.enter(StreamKind::Download, Some(String::from(merchant)));
        let held: Vec<_> = (0..4).map_while(|_| enter("m-1")).collect();
        assert_eq!(held.len(), 3, "an eighth, rounded up");
        let others: Vec<_> = (0..20).map_while(|turn| enter(&format!("m-{}", 2 + turn))).collect();
        assert_eq!(others.len(), 14);
        assert!(streams.enter(StreamKind::Download, None).is_none(), "there are no more");
        assert!(streams.enter(StreamKind::Live, None).is_some(), "the other kind has its own");
        drop(held);
        let again: Vec<_> = (0..4).map_while(|_| enter("m-1")).collect();
        assert_eq!(again.len(), 3, "they came back");
        drop((again, others));
        let taken = streams.taken.lock();
        assert_eq!((taken.downloads, taken.live, taken.by_merchant.len()), (0, 0, 0));
    }

    #[test]
    fn what_streams_are_and_how_they_end_is_counted_by_these_names() {
        use crate::gateway::stream_figures::{ENDINGS, KINDS};

        assert_eq!([StreamKind::Download, StreamKind::Live].map(StreamKind::as_str), KINDS);
        let endings =
            [Ending::Whole, Ending::Stopping, Ending::TooLong, Ending::Failed, Ending::ClientGone].map(Ending::as_str);
        assert_eq!(endings, ENDINGS);
    }
}
