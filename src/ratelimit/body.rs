//! An answer's body that keeps its request in flight until it ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::actors::merchant::Permit;

pin_project! {
    /// A body that gives the permit back when it has been read to its end, fails, or is dropped.
    #[derive(Debug)]
    pub struct PermitBody<R> {
        #[pin]
        inner: R,
        permit: Option<Permit>,
    }
}

impl<R: Body> PermitBody<R> {
    /// `inner`, in flight by `permit`.
    pub(super) fn new(inner: R, permit: Option<Permit>) -> Self {
        let permit = permit.filter(|_| !inner.is_end_stream());
        Self { inner, permit }
    }
}

impl<R: Body> Body for PermitBody<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let polled = this.inner.as_mut().poll_frame(context);
        // After its last frame nobody asks a body again that says it is at its end.
        let is_over = match &polled {
            Poll::Ready(Some(Ok(_))) => this.inner.is_end_stream(),
            Poll::Ready(_) => true,
            Poll::Pending => false,
        };
        if is_over {
            *this.permit = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
