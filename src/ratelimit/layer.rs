//! The tower layer and its service.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::Body;
use hyper::http::request::Parts;
use hyper::http::{Request, Response};
use tower::{Layer, Service};

use crate::ratelimit::{PermitBody, RateLimits, Subject, answer};

/// Puts [`RateLimit`] around services. Made by [`RateLimits::layer`].
pub struct RateLimitLayer<F> {
    limits: RateLimits,
    subject: Arc<F>,
}

impl<F> RateLimitLayer<F> {
    pub(super) fn new(limits: RateLimits, subject: F) -> Self {
        Self { limits, subject: Arc::new(subject) }
    }
}

impl<F> Clone for RateLimitLayer<F> {
    fn clone(&self) -> Self {
        Self { limits: self.limits.clone(), subject: Arc::clone(&self.subject) }
    }
}

impl<S, F> Layer<S> for RateLimitLayer<F> {
    type Service = RateLimit<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit { inner, limits: self.limits.clone(), subject: Arc::clone(&self.subject) }
    }
}

/// A service whose requests are let through by limits.
pub struct RateLimit<S, F> {
    inner: S,
    limits: RateLimits,
    subject: Arc<F>,
}

impl<S: Clone, F> Clone for RateLimit<S, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), limits: self.limits.clone(), subject: Arc::clone(&self.subject) }
    }
}

impl<S, F, B, R> Service<Request<B>> for RateLimit<S, F>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    F: Fn(&Parts) -> Option<Subject>,
    B: Send + 'static,
    R: Body + From<String>,
{
    type Response = Response<PermitBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (head, body) = request.into_parts();
        let subject = (self.subject)(&head);
        let request = Request::from_parts(head, body);
        // The one that was asked whether it is ready takes the request; its clone may not be.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let limits = self.limits.clone();
        Box::pin(async move {
            let Some(subject) = subject else {
                return Ok(inner.call(request).await?.map(|body| PermitBody::new(body, None)));
            };
            let admitted = match limits.admit(&subject).await {
                Ok(admitted) => admitted,
                Err(refused) => {
                    let refusal = answer::of(&refused, &subject.tier, request.headers(), limits.clock().now());
                    return Ok(refusal.map(|text| PermitBody::new(R::from(text), None)));
                }
            };
            // The permit ends with this future, however that ends, or with the answer's body.
            let permit = admitted.permit;
            let mut response = inner.call(request).await?;
            answer::add_headers(response.headers_mut(), &admitted.view, &subject.tier, limits.clock().now());
            Ok(response.map(|body| PermitBody::new(body, Some(permit))))
        })
    }
}
