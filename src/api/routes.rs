//! The routes of one listener: an axum router that remembers what it holds, so that a test can compare it with the
//! document.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::handler::Handler;
use axum::http::Request;
use axum::http::request::Parts;
use axum::routing::{MethodFilter, on};
use parking_lot::Mutex;
use tower::ServiceExt;

use crate::api::envelope::{Outcome, outcome_of};
use crate::api::error::ApiError;
use crate::gateway::error::GatewayError;

/// Routes by method and path.
#[derive(Clone, Default)]
pub(crate) struct Routes {
    router: Router,
    listed: Vec<(Verb, &'static str)>,
}

/// The methods that routes have. `GET` answers `HEAD` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    /// Reads.
    Get,
    /// Creates, or does something.
    Post,
    /// Replaces, or merges.
    Put,
    /// Merges.
    Patch,
    /// Removes.
    Delete,
}

impl Verb {
    /// The method's name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

impl Routes {
    /// Adds a route. Handlers answer with an [`Outcome`].
    pub(crate) fn with<H, T>(mut self, verb: Verb, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, ()>,
        T: 'static,
    {
        self.router = self.router.route(path, on(verb.filter(), handler));
        self.listed.push((verb, path));
        self
    }

    /// What was added, in its order.
    pub(crate) fn listed(&self) -> &[(Verb, &'static str)] {
        &self.listed
    }

    /// Lets the route answer that has the request's method and path; `call` is what its handler takes.
    pub(crate) async fn answer<C: Send + 'static>(&self, mut head: Parts, call: C) -> Outcome {
        head.extensions.insert(Slot(Arc::new(Mutex::new(Some(call)))));
        let request = Request::from_parts(head, Body::empty());
        match self.router.clone().oneshot(request).await {
            Ok(response) => outcome_of(response),
            Err(never) => match never {},
        }
    }
}

/// Carries the call to the handler; requests' extensions must be clonable, a call is not.
struct Slot<C>(Arc<Mutex<Option<C>>>);

impl<C> Clone for Slot<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Takes what [`Routes::answer`] was given.
///
/// # Errors
/// [`GatewayError::Internal`] when a handler takes it twice.
pub(crate) fn take_call<C: Send + 'static>(head: &mut Parts) -> Result<C, ApiError> {
    let slot = head.extensions.remove::<Slot<C>>();
    slot.and_then(|slot| slot.0.lock().take())
        .ok_or_else(|| GatewayError::Internal(String::from("a request reached its handler without its call")).into())
}
