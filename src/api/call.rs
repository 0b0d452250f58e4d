//! A request as handlers see it: admitted, with its body read, and nothing of HTTP left but what they ask for.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::context::{RequestContext, Route};
use crate::api::document::{Documents, Part};
use crate::api::envelope::{Answer, Outcome};
use crate::api::error::ApiError;
use crate::api::query::{Pages, Query};
use crate::api::routes::take_call;
use crate::api::{idempotency, json};
use crate::domain::audit::Operator;
use crate::gateway::Gateway;
use crate::gateway::answer::Answered;
use crate::gateway::auth::Caller;
use crate::gateway::idempotency::Origin;

/// What every handler gets, whoever asks.
#[derive(Clone)]
pub(crate) struct Call {
    /// The gateway.
    pub(crate) gateway: Gateway,
    /// The request.
    pub(crate) context: Arc<RequestContext>,
    /// Its body.
    pub(crate) body: Bytes,
    /// Its query as it was sent.
    query: Option<String>,
    media_type: Result<(), ApiError>,
}

impl Call {
    /// A request whose body has been read.
    pub(crate) fn new(gateway: Gateway, context: Arc<RequestContext>, head: &Parts, body: Bytes) -> Self {
        let media_type = json::check_media_type(&head.headers, &body);
        let query = head.uri.query().map(String::from);
        Self { gateway, context, body, query, media_type }
    }

    /// The body as a command.
    ///
    /// # Errors
    /// [`ApiError::UnsupportedMediaType`], or an invalid request that names the field.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        self.media_type.clone()?;
        json::parse(&self.body)
    }

    /// The body as a command whose fields are all optional: it may be absent.
    ///
    /// # Errors
    /// As for [`Call::json`].
    pub(crate) fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, ApiError> {
        if self.body.is_empty() { Ok(T::default()) } else { self.json() }
    }

    /// Refuses fields where none are taken; an absent body and `{}` are fine.
    ///
    /// # Errors
    /// As for [`Call::json`].
    pub(crate) fn no_fields(&self) -> Result<(), ApiError> {
        self.json_or_default::<NoFields>().map(|NoFields {}| ())
    }

    /// The query, which may have these names.
    ///
    /// # Errors
    /// An invalid request that names every unknown or repeated name.
    pub(crate) fn query(&self, names: &[&str], pages: Pages) -> Result<Query<'_>, ApiError> {
        Query::read(self.query.as_deref(), names, pages)
    }

    /// The query as it was sent.
    pub(crate) fn raw_query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// 200 with `data`.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    pub(crate) fn ok<T: Serialize>(&self, data: T) -> Outcome {
        Answer::of(StatusCode::OK, data, self.context.language)
    }

    /// 202 with `data`: it has begun and goes on.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    pub(crate) fn accepted<T: Serialize>(&self, data: T) -> Outcome {
        Answer::of(StatusCode::ACCEPTED, data, self.context.language)
    }

    /// 201 with `data`.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    pub(crate) fn created<T: Serialize>(&self, data: T) -> Outcome {
        Answer::of(StatusCode::CREATED, data, self.context.language)
    }
}

/// A body without fields.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

/// A merchant's request. Its permit is held outside, too, until the answer is made.
pub(crate) struct MerchantCall {
    /// What every handler gets.
    pub(crate) call: Call,
    /// Who asks.
    pub(crate) caller: Caller,
    /// The request's idempotency key with its claim, its permit, and how its answer is written.
    pub(crate) origin: Origin,
}

impl MerchantCall {
    /// Answers a POST that moves no money with what `work` makes of it, once per idempotency key.
    ///
    /// # Errors
    /// What `work` fails with, and [`GatewayError::IdempotencyMismatch`].
    ///
    /// [`GatewayError::IdempotencyMismatch`]: crate::gateway::error::GatewayError::IdempotencyMismatch
    pub(crate) async fn once<F>(self, work: impl FnOnce(Call, Caller) -> F) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let Self { call, caller, origin } = self;
        let gateway = call.gateway.clone();
        // On the heap: what is waited for on the way holds it several times.
        let work = Box::pin(work(call, caller.clone()));
        let answered = gateway.once(&caller, origin, async move { work.await.map(Answer::into_stored) }).await;
        Answer::stored(answered?)
    }

    /// Answers a change that has no idempotency key with what `work` makes of it. It goes on when the client hangs up,
    /// and is in flight until it ends.
    ///
    /// # Errors
    /// What `work` fails with.
    pub(crate) async fn carry<F>(self, work: impl FnOnce(Call, Caller) -> F) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let Self { call, caller, origin } = self;
        let in_flight = |call| {
            let work = work(call, caller);
            async move {
                let _permit = origin.permit;
                work.await
            }
        };
        call.carry(in_flight).await
    }
}

impl Call {
    /// Answers with what `work` makes of this request. It goes on when the client hangs up, so that what belongs to a
    /// change is done as a whole.
    ///
    /// # Errors
    /// What `work` fails with.
    pub(crate) async fn carry<F>(self, work: impl FnOnce(Self) -> F) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let gateway = self.gateway.clone();
        gateway.carry(work(self)).await
    }
}

/// The origin of a command that must not be sent without an idempotency key.
///
/// # Errors
/// An invalid request when there is none.
pub(crate) fn with_key(origin: Origin) -> Result<Origin, ApiError> {
    if origin.idempotency.is_some() { Ok(origin) } else { Err(idempotency::missing()) }
}

/// The gateway's own answer, byte for byte.
///
/// # Errors
/// When it is none.
pub(crate) fn stored(answered: Answered) -> Outcome {
    Answer::stored(answered)
}

/// An operator's request.
pub(crate) struct OperatorCall {
    /// What every handler gets.
    pub(crate) call: Call,
    /// Who asks.
    pub(crate) operator: Operator,
}

/// A request that anybody may send.
pub(crate) struct OpenCall {
    /// What every handler gets.
    pub(crate) call: Call,
    /// The OpenAPI document.
    pub(crate) documents: Arc<Documents>,
    /// The part of it that this listener answers.
    pub(crate) part: Part,
}

/// What a provider sends of its own accord, or somebody who claims to be one.
pub(crate) struct CallbackCall {
    /// What every handler gets.
    pub(crate) call: Call,
    /// Its headers in their order, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

/// Notes which route answers and what it is about, for the log.
pub(crate) fn note_route(head: &Parts, context: &RequestContext) {
    if let Some(route) = head.extensions.get::<MatchedPath>() {
        context.numbers.note_path(route.as_str(), head.uri.path());
        // Set once: a request has one route.
        let _ = context.route.set(Route::Matched(route.clone()));
    }
}

macro_rules! extracted {
    ($($call:ty),*) => {$(
        impl<S: Sync> FromRequestParts<S> for $call {
            type Rejection = ApiError;

            async fn from_request_parts(head: &mut Parts, _state: &S) -> Result<Self, ApiError> {
                let taken: Self = take_call(head)?;
                note_route(head, &taken.call.context);
                Ok(taken)
            }
        }
    )*};
}

extracted!(MerchantCall, OperatorCall, OpenCall, CallbackCall);

/// What a path's placeholders stand for, in their order. One that is not UTF-8 names nothing.
pub(crate) struct Named<T>(pub(crate) T);

impl<T, S> FromRequestParts<S> for Named<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(names) = Path::<T>::from_request_parts(head, state).await.map_err(|_| ApiError::PathNotFound)?;
        Ok(Self(names))
    }
}
