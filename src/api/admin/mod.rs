//! The operator's listener: its own address, its own tokens, nothing shared with merchants but the code around it.

mod access;
pub(crate) mod audit;
pub(crate) mod channels;
pub(crate) mod config;
pub(crate) mod costs;
pub(crate) mod erasures;
pub(crate) mod exports;
pub(crate) mod hold;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod log_level;
pub(crate) mod merchants;
pub(crate) mod metrics;
pub(crate) mod payments;
pub(crate) mod pre_auths;
pub(crate) mod resolve;
pub(crate) mod routing;
pub(crate) mod rules;
pub(crate) mod sandbox;
pub(crate) mod stats;
pub(crate) mod store;
pub(crate) mod webhooks;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{Method, Request};
use bytes::Bytes;
use hyper::body::Incoming;

use crate::api::body::BodyBounds;
use crate::api::call::{Call, OpenCall, OperatorCall};
use crate::api::client_address::{client_of, note_failure};
use crate::api::console::{self, Console, ConsoleRequest};
use crate::api::context::RequestContext;
use crate::api::document::{Documents, Part};
use crate::api::edge::Handler;
use crate::api::envelope::Outcome;
use crate::api::error::ApiError;
use crate::api::merchant::is_below;
use crate::api::open;
use crate::api::routes::{Routes, Verb};
use crate::domain::audit::Operator;
use crate::domain::limit::shedding::Worth;
use crate::gateway::Gateway;
use crate::gateway::addresses::{Client, Listener};

use access::AccessCheck;

/// Everything below it needs a token.
const PREFIX: &str = "/admin/v1";

/// Serves the operator.
pub(crate) struct AdminHandler {
    gateway: Gateway,
    access: AccessCheck,
    body_bounds: BodyBounds,
    own: Routes,
    open: Routes,
    console: Console,
    documents: Arc<Documents>,
}

impl AdminHandler {
    /// For the operator of `gateway`, on a listener at `address`; `documents` describe its API.
    pub(crate) fn new(gateway: Gateway, address: SocketAddr, documents: Arc<Documents>) -> Self {
        let body_bounds = BodyBounds::of(&gateway.config().server);
        let access = {
            let settings = gateway.clone();
            let is_own =
                move |name: &str| settings.settings().admin.hosts.iter().any(|own| own.eq_ignore_ascii_case(name));
            AccessCheck::new(gateway.admin_tokens(), address, is_own)
        };
        let console = Console::new(gateway.clone(), address.port());
        Self { gateway, access, body_bounds, own: routes(), open: open::routes(), console, documents }
    }

    /// Lets a request in that needs a token, or not; says the name of its token. Wrong ones count for its client's address.
    fn let_in(&self, context: &RequestContext, head: &Parts) -> Result<&str, ApiError> {
        let addresses = self.gateway.addresses();
        let client = client_of(addresses, Listener::Operator, &head.headers, context);
        if let Some(client) = &client {
            addresses.check_block(client)?;
        }
        self.access.check(head).inspect_err(|error| note_failure(addresses, client.as_ref(), &head.headers, error))
    }

    /// The name of a token that somebody logs in to the console with. Wrong ones count as everywhere.
    fn name_of(&self, client: Option<&Client>, token: &str) -> Result<&str, ApiError> {
        let addresses = self.gateway.addresses();
        if let Some(client) = client {
            addresses.check_block(client)?;
        }
        self.access.name_of(token).inspect_err(|_| {
            if let Some(client) = client.filter(|_| !token.is_empty()) {
                addresses.note_failure(client);
            }
        })
    }

    /// Reads a request of the console.
    async fn read_console(
        &self,
        context: &RequestContext,
        request: Request<Incoming>,
    ) -> Result<ReadRequest, ApiError> {
        let (head, body) = request.into_parts();
        if let Err(error) = self.access.check_host(&head) {
            context.leave_body_unread_unless_empty(&body);
            return Err(error);
        }
        let client = client_of(self.gateway.addresses(), Listener::Operator, &head.headers, context);
        let body = self.body_bounds.read(&head.headers, body, context).await;
        Ok(ReadRequest::Console(ConsoleRequest { head: Box::new(head), body }, client))
    }
}

/// A request that has been read and may come in.
pub(crate) enum ReadRequest {
    /// The operator's, with its body and who sent it.
    Own(Box<Parts>, Bytes, Operator),
    /// Anybody's; its body is not read.
    Open(Box<Parts>),
    /// Somebody's who uses the console, and where from.
    Console(ConsoleRequest, Option<Client>),
}

impl Handler for AdminHandler {
    type Read = ReadRequest;

    fn worth(&self, _method: &Method, _path: &str) -> Option<Worth> {
        None
    }

    fn routes(&self) -> Vec<(Verb, &'static str)> {
        [self.own.listed(), self.open.listed(), &self.console.listed()].concat()
    }

    fn note_full(&self, worth: Option<Worth>) {
        self.gateway.note_full(worth);
    }

    async fn read(&self, context: &Arc<RequestContext>, request: Request<Incoming>) -> Result<ReadRequest, ApiError> {
        if is_below(console::PREFIX, request.uri().path()) {
            return self.read_console(context, request).await;
        }
        let (head, body) = request.into_parts();
        let is_own = is_below(PREFIX, head.uri.path()) || head.uri.path() == metrics::SHORT_PATH;
        let allowed =
            if is_own { self.let_in(context, &head).map(Some) } else { self.access.check_host(&head).map(|()| None) };
        let name = match allowed {
            Ok(name) => name,
            Err(error) => {
                context.leave_body_unread_unless_empty(&body);
                return Err(error);
            }
        };
        if let Some(name) = name {
            let operator = Operator { name: String::from(name), request_id: context.request_id.clone() };
            let body = self.body_bounds.read(&head.headers, body, context).await?;
            return Ok(ReadRequest::Own(Box::new(head), body, operator));
        }
        context.leave_body_unread_unless_empty(&body);
        Ok(ReadRequest::Open(Box::new(head)))
    }

    async fn handle(&self, context: &Arc<RequestContext>, read: ReadRequest) -> Outcome {
        match read {
            ReadRequest::Own(head, body, operator) => {
                let call = Call::new(self.gateway.clone(), Arc::clone(context), &head, body);
                self.own.answer(*head, OperatorCall { call, operator }).await
            }
            ReadRequest::Open(head) => {
                let call = Call::new(self.gateway.clone(), Arc::clone(context), &head, Bytes::new());
                let documents = Arc::clone(&self.documents);
                open::answer(&self.open, *head, OpenCall { call, documents, part: Part::Operator }).await
            }
            ReadRequest::Console(request, client) => {
                let token_name = |token: &str| self.name_of(client.as_ref(), token);
                self.console.answer(context, request, token_name).await
            }
        }
    }
}

/// All routes of the operator.
pub(crate) fn routes() -> Routes {
    let routes = Routes::default();
    let routes = merchants::add_routes(routes);
    let routes = keys::add_routes(routes);
    let routes = channels::add_routes(routes);
    let routes = costs::add_routes(routes);
    let routes = exports::add_routes(routes);
    let routes = payments::add_routes(routes);
    let routes = pre_auths::add_routes(routes);
    let routes = resolve::add_routes(routes);
    let routes = webhooks::add_routes(routes);
    let routes = routing::add_routes(routes);
    let routes = rules::add_routes(routes);
    let routes = config::add_routes(routes);
    let routes = audit::add_routes(routes);
    let routes = limits::add_routes(routes);
    let routes = log_level::add_routes(routes);
    let routes = erasures::add_routes(routes);
    let routes = hold::add_routes(routes);
    let routes = store::add_routes(routes);
    let routes = metrics::add_routes(routes);
    let routes = stats::add_routes(routes);
    sandbox::add_routes(routes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done to the audit by what may change something.
    enum Audited {
        /// It gets an entry with this action.
        As(&'static str),
        /// It gets none, and why not.
        Not(&'static str),
    }

    use Audited::{As, Not};

    const CHANGES: [(Verb, &str, Audited); 38] = [
        (Verb::Post, "/admin/v1/merchants", As("merchant.create")),
        (Verb::Patch, "/admin/v1/merchants/{merchant_id}", As("merchant.update")),
        (Verb::Delete, "/admin/v1/merchants/{merchant_id}", As("merchant.delete")),
        (Verb::Post, "/admin/v1/merchants/{merchant_id}/keys", As("key.create")),
        (Verb::Delete, "/admin/v1/merchants/{merchant_id}/keys/{key_id}", As("key.delete")),
        (Verb::Post, "/admin/v1/merchants/{merchant_id}/payments/{payment_no}/erase", As("payment.erase")),
        (Verb::Post, "/admin/v1/merchants/{merchant_id}/pre-auths/{pre_auth_no}/erase", As("pre_auth.erase")),
        (Verb::Post, "/admin/v1/merchants/{merchant_id}/erasures", As("customer.erase")),
        (Verb::Post, "/admin/v1/payments/{payment_no}/resolve", As("payment.resolve")),
        (Verb::Post, "/admin/v1/pre-auths/{pre_auth_no}/resolve", As("pre_auth.resolve")),
        (Verb::Post, "/admin/v1/pre-auths/{pre_auth_no}/capture", As("pre_auth.capture")),
        (Verb::Post, "/admin/v1/pre-auths/{pre_auth_no}/cancel", As("pre_auth.cancel")),
        (Verb::Post, "/admin/v1/refunds/{refund_no}/resolve", As("refund.resolve")),
        (Verb::Post, "/admin/v1/hold/confirm", As("hold.confirm")),
        (Verb::Post, "/admin/v1/store/backup", As("store.backup")),
        (Verb::Post, "/admin/v1/store/export", As("store.export")),
        (Verb::Post, "/admin/v1/store/rotate-key", As("master_key.rotate")),
        (Verb::Put, "/admin/v1/routing", As("routing.update")),
        (Verb::Post, "/admin/v1/routing/rollback", As("routing.rollback")),
        (Verb::Post, "/admin/v1/rules", As("rule.create")),
        (Verb::Put, "/admin/v1/rules/{id}", As("rule.update")),
        (Verb::Delete, "/admin/v1/rules/{id}", As("rule.delete")),
        (Verb::Post, "/admin/v1/rules/check", Not("a question; nothing is saved")),
        (Verb::Patch, "/admin/v1/channels/{name}", As("channel.update")),
        (Verb::Post, "/admin/v1/channels/{name}/reset-health", As("channel.reset_health")),
        (Verb::Post, "/admin/v1/channels/{name}/check", Not("a question to the provider; nothing is changed")),
        (Verb::Post, "/admin/v1/webhooks/endpoints/{endpoint_id}/pause", As("webhook_endpoint.pause")),
        (Verb::Post, "/admin/v1/webhooks/endpoints/{endpoint_id}/enable", As("webhook_endpoint.enable")),
        (Verb::Post, "/admin/v1/webhooks/endpoints/{endpoint_id}/recover", As("webhook_endpoint.recover")),
        (Verb::Post, "/admin/v1/webhooks/endpoints/{endpoint_id}/reset-health", As("webhook_endpoint.reset_health")),
        (Verb::Post, "/admin/v1/webhooks/jobs/{job_id}/cancel", As("webhook_job.cancel")),
        (Verb::Post, "/admin/v1/webhooks/notifications/{notification_id}/retry", As("webhook_notification.retry")),
        (Verb::Post, "/admin/v1/config/reload", As("config.reload")),
        (Verb::Put, "/admin/v1/log-level", As("log_level.update")),
        (Verb::Post, "/admin/v1/config/check", Not("a question; nothing is changed")),
        (Verb::Post, "/admin/v1/limits/check", Not("a merchant's request that is counted, not a change of anything")),
        (Verb::Post, "/admin/v1/limits/release", Not("the end of such a request")),
        (Verb::Put, "/admin/v1/sandbox/{channel}", Not("emulators move no money and are not there in live mode")),
    ];

    #[test]
    fn nothing_changes_something_without_a_decision_about_its_audit() {
        let mut listed = routes().listed().to_vec();
        listed.retain(|(verb, _)| *verb != Verb::Get);
        listed.sort_unstable();
        let mut decided: Vec<(Verb, &str)> = CHANGES.iter().map(|(verb, path, _)| (*verb, *path)).collect();
        decided.sort_unstable();
        assert_eq!(listed, decided, "say in CHANGES which entry a new route makes, or why it makes none");
        let documented = include_str!("../../../docs/audit.md");
        for (verb, path, audited) in CHANGES {
            match audited {
                As(action) => assert!(documented.contains(&format!("`{action}`")), "{action} in docs/audit.md"),
                Not(reason) => assert!(!reason.is_empty(), "{verb:?} {path}"),
            }
        }
    }
}
