//! The merchants' listener. In front of every route of `/api/v1`: who asks, and whether the merchant's limits let it
//! in.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{Method, Request};
use bytes::Bytes;
use hyper::body::Incoming;

use crate::api::auth::Presented;
use crate::api::body::BodyBounds;
use crate::api::call::{Call, CallbackCall, MerchantCall, OpenCall};
use crate::api::client_address::{client_of, note_failure};
use crate::api::context::RequestContext;
use crate::api::document::{Documents, Part};
use crate::api::edge::{Handler, PROBES};
use crate::api::envelope::Outcome;
use crate::api::error::ApiError;
use crate::api::limit_headers::{self, LimitedRequest};
use crate::api::render::renderer;
use crate::api::routes::{Routes, Verb};
use crate::api::worth::worth_of;
use crate::api::{
    call, callbacks, channel_pre_auths, events, exports, idempotency, limits, open, payments, pre_auths, quotes,
    refunds, webhook_jobs, webhooks,
};
use crate::domain::limit::shedding::Worth;
use crate::gateway::Gateway;
use crate::gateway::addresses::{Client, Listener};
use crate::gateway::admission::{Admission, Refusal};
use crate::gateway::auth::Caller;
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::Origin;

/// Everything below it belongs to merchants.
const PREFIX: &str = "/api/v1";

/// Serves merchants.
pub(crate) struct MerchantHandler {
    gateway: Gateway,
    body_bounds: BodyBounds,
    /// Of what providers send, which have places for large ones of their own.
    callback_bounds: BodyBounds,
    own: Routes,
    open: Routes,
    callbacks: Routes,
    documents: Arc<Documents>,
}

impl MerchantHandler {
    /// For the merchants of `gateway`; `documents` describe its API.
    pub(crate) fn new(gateway: Gateway, documents: Arc<Documents>) -> Self {
        let config = gateway.config();
        let body_bounds = BodyBounds::of(&config.server);
        let callback_bounds = BodyBounds::of_callbacks(&config.server, &config.callbacks);
        let (own, open, callbacks) = (routes(), open::routes(), callbacks::routes());
        Self { gateway, body_bounds, callback_bounds, own, open, callbacks, documents }
    }

    /// Whose address a request comes from, and whether that may send another one. Probes may always be sent.
    fn let_in(&self, context: &RequestContext, head: &Parts) -> Result<Option<Client>, ApiError> {
        if PROBES.contains(&head.uri.path()) {
            return Ok(None);
        }
        let addresses = self.gateway.addresses();
        let client = client_of(addresses, Listener::Merchants, &head.headers, context);
        if let Some(client) = &client {
            if is_below(PREFIX, head.uri.path()) {
                addresses.check_block(client)?;
            }
            addresses.admit(client)?;
        }
        Ok(client)
    }

    /// Who asks is read from the head before the body, checked with it. What an overloaded node does not take in costs it
    /// neither.
    async fn read_own(
        &self,
        context: &RequestContext,
        head: Parts,
        body: Incoming,
        client: Option<Client>,
    ) -> Result<ReadRequest, ApiError> {
        if let Err(overloaded) = self.gateway.check_load(worth_of(&head.method, head.uri.path())) {
            context.leave_body_unread_unless_empty(&body);
            return Err(overloaded.into());
        }
        let trusted_proxies = &self.gateway.config().server.trusted_proxies;
        let presented = match Presented::read(&head.headers, context.peer, context.is_tls, trusted_proxies) {
            Ok(presented) => presented,
            Err(error) => {
                note_failure(self.gateway.addresses(), client.as_ref(), &head.headers, &error);
                context.leave_body_unread_unless_empty(&body);
                return Err(error);
            }
        };
        let body = self.body_bounds.read(&head.headers, body, context).await?;
        Ok(ReadRequest::Own { head: Box::new(head), body, presented, client })
    }

    /// A body of a size of its own, and only where there is somebody to look at it. What it says moves no money by itself,
    /// and finishes what was begun.
    async fn read_callback(
        &self,
        context: &RequestContext,
        head: Parts,
        body: Incoming,
    ) -> Result<ReadRequest, ApiError> {
        if let Err(overloaded) = self.gateway.check_load(Worth::Finish) {
            context.leave_body_unread_unless_empty(&body);
            return Err(overloaded.into());
        }
        let channel = head.uri.path().strip_prefix(callbacks::PREFIX).unwrap_or_default().trim_start_matches('/');
        if head.method != Method::POST || !self.gateway.callbacks().takes(channel) {
            context.leave_body_unread_unless_empty(&body);
            return Ok(ReadRequest::Callback { head: Box::new(head), body: Bytes::new() });
        }
        let body = self.callback_bounds.read(&head.headers, body, context).await?;
        Ok(ReadRequest::Callback { head: Box::new(head), body })
    }

    /// Finds out who asks.
    fn authenticate(
        &self,
        head: &Parts,
        body: &[u8],
        presented: &Presented,
        client: Option<&Client>,
    ) -> Result<Caller, ApiError> {
        let addresses = self.gateway.addresses();
        if let Some(client) = client {
            // Others of its requests may have failed while this one was read.
            addresses.check_block(client)?;
        }
        self.gateway.authenticate(presented.credentials(head, body)).map_err(|error| {
            let error = ApiError::from(error);
            note_failure(addresses, client, &head.headers, &error);
            error
        })
    }

    /// Authenticates, admits, and only then looks at what is asked.
    async fn guard(
        &self,
        context: &Arc<RequestContext>,
        head: Parts,
        body: Bytes,
        presented: &Presented,
        client: Option<&Client>,
    ) -> Outcome {
        let caller = self.authenticate(&head, &body, presented, client)?;
        // Set once: a request has one caller.
        let _ = context.merchant.set(caller.merchant.merchant_id.clone());
        let outcome = self.admitted(context, head, body, caller).await;
        if let Ok(answer) = &outcome
            && answer.replayed
        {
            context.numbers.note_stored(&answer.body);
        }
        outcome
    }

    async fn admitted(&self, context: &Arc<RequestContext>, head: Parts, body: Bytes, caller: Caller) -> Outcome {
        let key = idempotency::key_of(&head.method, head.uri.path(), &head.headers, &body);
        let fingerprint = key.as_ref().ok().and_then(Option::as_ref).map(|key| key.fingerprint);
        let admission = match self.admit(context, &caller, fingerprint).await {
            Err(running @ ApiError::Gateway(GatewayError::IdempotencyInProgress)) => {
                // It may have its answer already.
                let told = self.gateway.told(&caller, key?.as_ref())?;
                return told.map_or(Err(running), call::stored);
            }
            admission => admission?,
        };
        // Held until the answer is made, and by the work that the request begins.
        let permit = Arc::new(admission.permit);
        let call = Call::new(self.gateway.clone(), Arc::clone(context), &head, body);
        let origin = Origin {
            idempotency: key?,
            claim: admission.claim,
            permit: Some(Arc::clone(&permit)),
            renderer: renderer(context),
        };
        let call = MerchantCall { call, caller, origin };
        let outcome = self.own.answer(head, call).await;
        drop(permit);
        outcome
    }

    /// Asks for a permit and notes the headers that every answer has from here on.
    async fn admit(
        &self,
        context: &RequestContext,
        caller: &Caller,
        fingerprint: Option<u128>,
    ) -> Result<Admission, ApiError> {
        let tier = &caller.merchant.tier;
        let admitted = self.gateway.admit(caller, fingerprint).await;
        let now = self.gateway.clock().now();
        let (headers, answer) = match admitted {
            Ok(admission) => (limit_headers::headers_of(&admission.view, tier, now), Ok(admission)),
            Err(Refusal::Limited(refusal)) => {
                let limited = LimitedRequest { refusal: *refusal, tier: tier.clone() };
                (limited.headers(now), Err(ApiError::Limited(Box::new(limited))))
            }
            Err(Refusal::InProgress(view)) => {
                (limit_headers::headers_of(&view, tier, now), Err(GatewayError::IdempotencyInProgress.into()))
            }
            Err(Refusal::Error(error)) => return Err(error.into()),
        };
        // Set once: a request is admitted once.
        let _ = context.limit_headers.set(headers);
        answer
    }
}

/// A request that has been read.
pub(crate) enum ReadRequest {
    /// A merchant's.
    Own {
        /// Its head.
        head: Box<Parts>,
        /// Its body.
        body: Bytes,
        /// What it shows to say who sends it.
        presented: Presented,
        /// Whose address it comes from, if that is limited.
        client: Option<Client>,
    },
    /// A provider's, or of somebody who claims to be one.
    Callback {
        /// Its head.
        head: Box<Parts>,
        /// Its body, as it came.
        body: Bytes,
    },
    /// Anybody's; its body is not read.
    Open(Box<Parts>),
}

impl Handler for MerchantHandler {
    type Read = ReadRequest;

    fn worth(&self, method: &Method, path: &str) -> Option<Worth> {
        Some(match path {
            path if is_below(PREFIX, path) => worth_of(method, path),
            path if is_below(callbacks::PREFIX, path) => Worth::Finish,
            _ => Worth::List,
        })
    }

    fn routes(&self) -> Vec<(Verb, &'static str)> {
        [self.own.listed(), self.open.listed(), self.callbacks.listed()].concat()
    }

    fn note_full(&self, worth: Option<Worth>) {
        self.gateway.note_full(worth);
    }

    async fn read(&self, context: &Arc<RequestContext>, request: Request<Incoming>) -> Result<ReadRequest, ApiError> {
        let (head, body) = request.into_parts();
        let client = match self.let_in(context, &head) {
            Ok(client) => client,
            Err(error) => {
                context.leave_body_unread_unless_empty(&body);
                return Err(error);
            }
        };
        if is_below(PREFIX, head.uri.path()) {
            return self.read_own(context, head, body, client).await;
        }
        if is_below(callbacks::PREFIX, head.uri.path()) {
            return self.read_callback(context, head, body).await;
        }
        context.leave_body_unread_unless_empty(&body);
        Ok(ReadRequest::Open(Box::new(head)))
    }

    async fn handle(&self, context: &Arc<RequestContext>, read: ReadRequest) -> Outcome {
        match read {
            ReadRequest::Own { head, body, presented, client } => {
                self.guard(context, *head, body, &presented, client.as_ref()).await
            }
            ReadRequest::Callback { head, body } => {
                let headers = callbacks::headers_of(&head.headers);
                let call = Call::new(self.gateway.clone(), Arc::clone(context), &head, body);
                self.callbacks.answer(*head, CallbackCall { call, headers }).await
            }
            ReadRequest::Open(head) => {
                let call = Call::new(self.gateway.clone(), Arc::clone(context), &head, Bytes::new());
                let documents = Arc::clone(&self.documents);
                open::answer(&self.open, *head, OpenCall { call, documents, part: Part::Merchants }).await
            }
        }
    }
}

/// Whether a path is the prefix or below it.
pub(crate) fn is_below(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// All routes of merchants.
pub(crate) fn routes() -> Routes {
    let routes = Routes::default();
    let routes = payments::add_routes(routes);
    let routes = refunds::add_routes(routes);
    let routes = pre_auths::add_routes(routes);
    let routes = channel_pre_auths::add_routes(routes);
    let routes = quotes::add_routes(routes);
    let routes = limits::add_routes(routes);
    let routes = webhooks::add_routes(routes);
    let routes = webhook_jobs::add_routes(routes);
    let routes = exports::add_routes(routes);
    events::add_routes(routes)
}
