//! Reading a request's body: bounded in bytes and in time.

pub(crate) mod places;

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;

use crate::api::context::RequestContext;
use crate::api::error::ApiError;
use crate::config::{CallbacksConfig, ServerConfig};
use crate::domain::limit::ClientNetwork;
use crate::gateway::error::GatewayError;

use places::Places;

/// A body that is no longer than this, or not yet, needs no room of its own: it costs no more memory than the connection
/// that it comes on, and those are counted.
const SMALL_BODY_BYTES: usize = 4 * 1024;
/// When to come back after a refusal for too many large bodies at once.
const BUSY_RETRY_AFTER_S: u64 = 1;

/// How much of a body is taken, and how long it may take to arrive.
#[derive(Debug)]
pub(crate) struct BodyBounds {
    /// Largest body.
    max_bytes: usize,
    /// It must have arrived by then, counted from the end of the head.
    timeout: Duration,
    /// Places for bodies that are not small. Slow clients can hold theirs for as long as the timeout, and each has only a
    /// share; small bodies, which nearly all are, don't need one.
    large_bodies: Places,
}

impl BodyBounds {
    /// Bodies of up to `max_bytes` that arrive within `timeout`, and up to `large_bodies_max` at once that are not small;
    /// one client gets a share of those.
    pub(crate) fn new(max_bytes: usize, timeout: Duration, large_bodies_max: usize) -> Self {
        Self { max_bytes, timeout, large_bodies: Places::new(large_bodies_max) }
    }

    /// The bounds that the configuration names.
    pub(crate) fn of(config: &ServerConfig) -> Self {
        let timeout = Duration::from_millis(config.body_timeout_ms);
        Self::new(config.body_max_bytes, timeout, config.requests_in_flight_max)
    }

    /// The bounds of what providers send of their own accord.
    pub(crate) fn of_callbacks(server: &ServerConfig, callbacks: &CallbacksConfig) -> Self {
        Self { max_bytes: callbacks.body_max_bytes, ..Self::of(server) }
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// [`ApiError::PayloadTooLarge`], without waiting for the rest; [`ApiError::BodyTimeout`];
    /// [`GatewayError::Overloaded`] when too many large ones are being read, of all clients or of this one; or an invalid request when the client breaks
    /// off or its chunks make no sense.
    pub(crate) async fn read<B>(
        &self,
        headers: &HeaderMap,
        body: B,
        context: &RequestContext,
    ) -> Result<Bytes, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if body.is_end_stream() {
            return Ok(Bytes::new());
        }
        // Until it is read to its end, an answer leaves bytes behind on the connection.
        let read = self.read_within_bounds(declared_length(headers), body, context.network.get().copied()).await;
        if read.is_err() {
            context.leave_body_unread();
        }
        read
    }

    async fn read_within_bounds<B>(
        &self,
        declared: Option<usize>,
        body: B,
        client: Option<ClientNetwork>,
    ) -> Result<Bytes, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if declared.is_some_and(|length| length > self.max_bytes) {
            return Err(self.too_large());
        }
        let collect = self.collect(declared.unwrap_or(0), body, client);
        tokio::time::timeout(self.timeout, collect).await.unwrap_or(Err(ApiError::BodyTimeout))
    }

    /// Reads a body that is `expected_bytes` long at least. It takes a place as soon as it is known not to be small.
    async fn collect<B>(
        &self,
        expected_bytes: usize,
        mut body: B,
        client: Option<ClientNetwork>,
    ) -> Result<Bytes, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let busy = || GatewayError::Overloaded { retry_after_s: BUSY_RETRY_AFTER_S };
        let take_place = || self.large_bodies.take(client).ok_or_else(busy);
        let mut place = if expected_bytes > SMALL_BODY_BYTES { Some(take_place()?) } else { None };
        let mut first = Bytes::new();
        let mut joined = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| GatewayError::field("body", "did not arrive completely"))?;
            let Ok(data) = frame.into_data() else { continue };
            let read_bytes = first.len() + joined.len() + data.len();
            if read_bytes > self.max_bytes {
                return Err(self.too_large());
            }
            if place.is_none() && read_bytes > SMALL_BODY_BYTES {
                place = Some(take_place()?);
            }
            // Most bodies come in one piece, which is then not copied.
            if first.is_empty() && joined.is_empty() {
                first = data;
                continue;
            }
            if joined.is_empty() {
                joined.extend_from_slice(&std::mem::take(&mut first));
            }
            joined.extend_from_slice(&data);
        }
        drop(place);
        Ok(if joined.is_empty() { first } else { joined.freeze() })
    }

    fn too_large(&self) -> ApiError {
        ApiError::PayloadTooLarge { max_bytes: self.max_bytes }
    }
}

/// What `Content-Length` says; the connection has checked that it is a number.
fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::http::Method;
    use futures_util::stream;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    fn bounds() -> BodyBounds {
        BodyBounds::new(8, Duration::from_secs(10), 4)
    }

    fn context() -> RequestContext {
        RequestContext::new(String::from("r"), Method::POST, &HeaderMap::new(), "127.0.0.1:1".parse().unwrap())
    }

    const FULL: &str = match std::str::from_utf8(&[b' '; SMALL_BODY_BYTES]) {
        Ok(text) => text,
        Err(_) => "",
    };

    fn in_pieces(pieces: &[&'static str]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let frames: Vec<_> = pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))).collect();
        StreamBody::new(stream::iter(frames))
    }

    #[tokio::test]
    async fn a_body_of_exactly_the_limit_is_read_whole_or_in_pieces() {
        for pieces in [&["12345678"][..], &["123", "45678"], &["1", "", "234", "5678"], &["", "12345678"]] {
            let context = context();
            let read = bounds().read(&HeaderMap::new(), in_pieces(pieces), &context).await.unwrap();
            assert_eq!(read, "12345678");
            assert!(!context.body_is_unread());
        }
    }

    #[tokio::test]
    async fn one_byte_more_is_too_large_even_when_its_length_is_not_declared() {
        let context = context();
        let read = bounds().read(&HeaderMap::new(), in_pieces(&["12345678", "9"]), &context).await;
        assert!(matches!(read, Err(ApiError::PayloadTooLarge { max_bytes: 8 })));
        assert!(context.body_is_unread());
    }

    #[tokio::test(start_paused = true)]
    async fn a_declared_length_is_refused_without_waiting() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, "9".parse().unwrap());
        let endless = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let read = BodyBounds { timeout: Duration::MAX, ..bounds() }.read(&headers, endless, &context()).await;
        assert!(matches!(read, Err(ApiError::PayloadTooLarge { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_times_out() {
        let endless = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let read = bounds().read(&HeaderMap::new(), endless, &context()).await;
        assert!(matches!(read, Err(ApiError::BodyTimeout)));
    }

    #[tokio::test]
    async fn no_body_is_an_empty_one() {
        let read = bounds().read(&HeaderMap::new(), Full::new(Bytes::new()), &context()).await.unwrap();
        assert!(read.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn large_bodies_take_places_and_small_ones_do_not() {
        let bounds = BodyBounds::new(64 * 1024, Duration::from_secs(10), 1);
        let of_length = |length: usize| HeaderMap::from_iter([(CONTENT_LENGTH, length.into())]);
        let endless = || StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let (large, small, undeclared) =
            (of_length(SMALL_BODY_BYTES + 1), of_length(SMALL_BODY_BYTES), HeaderMap::new());
        let first_context = context();
        let mut slow = std::pin::pin!(bounds.read(&large, endless(), &first_context));
        assert!(futures_util::poll!(slow.as_mut()).is_pending());
        let refused = bounds.read(&large, endless(), &context()).await;
        assert!(matches!(refused, Err(ApiError::Gateway(GatewayError::Overloaded { .. }))));
        // One whose length is not declared is small until it has grown.
        assert_eq!(bounds.read(&undeclared, in_pieces(&["{", "}"]), &context()).await.unwrap(), "{}");
        let grown = context();
        let refused = bounds.read(&undeclared, in_pieces(&[FULL, "}"]), &grown).await;
        assert!(matches!(refused, Err(ApiError::Gateway(GatewayError::Overloaded { .. }))));
        assert!(grown.body_is_unread());
        assert_eq!(bounds.read(&small, in_pieces(&["{}"]), &context()).await.unwrap(), "{}");
        assert_eq!(bounds.read(&undeclared, in_pieces(&[FULL]), &context()).await.unwrap(), FULL);
        assert!(matches!(slow.await, Err(ApiError::BodyTimeout)));
        assert_eq!(bounds.read(&large, in_pieces(&["{}"]), &context()).await.unwrap(), "{}", "the place came back");
    }
}
