//! How much may come over a connection. A receiver that sends without end what is no answer (`100 Continue` again and again,
//! TLS messages without content) would keep a processor busy for as long as the request may take.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may come for one request, encrypted if they are, with the handshake if it is the first: ample for the longest
/// head and for everything of a body that is looked at.
const EXCHANGE_MAX_BYTES: usize = 2 * 1024 * 1024;

/// What may still come. Clones are of the same connection.
#[derive(Clone, Debug)]
pub(super) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    /// For one request.
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(EXCHANGE_MAX_BYTES)))
    }

    /// For the next request.
    pub(super) fn renew(&self) {
        self.0.store(EXCHANGE_MAX_BYTES, Ordering::Relaxed);
    }

    /// Whether so much may come, too.
    fn covers(&self, bytes: usize) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }
}

/// A stream over which no more comes than is allowed.
pub(super) struct Allowed<S> {
    stream: S,
    allowance: Allowance,
}

impl<S> Allowed<S> {
    /// `stream`, of which `allowance` is.
    pub(super) const fn new(stream: S, allowance: Allowance) -> Self {
        Self { stream, allowance }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Allowed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let came = buffer.filled().len().saturating_sub(before);
        if self.allowance.covers(came) {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Err(io::Error::other("more comes than an answer may have")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Allowed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn so_much_comes_for_each_request_and_no_more() {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let sending = tokio::spawn(async move { while far.write_all(&[0; 4_096]).await.is_ok() {} });
        let allowance = Allowance::new();
        let mut stream = Allowed::new(near, allowance.clone());
        let mut bytes = vec![0; EXCHANGE_MAX_BYTES];
        for _ in 0..2 {
            stream.read_exact(&mut bytes).await.unwrap();
            allowance.renew();
        }
        stream.read_exact(&mut bytes).await.unwrap();
        let refused = stream.read(&mut bytes).await.unwrap_err();
        assert!(refused.to_string().contains("more comes"), "{refused}");
        drop(stream);
        sending.await.unwrap();
    }
}
