//! The operator's console: pages for people at `/console` on the operator's listener. They are made here, work without
//! scripts, and load nothing from elsewhere.
//!
//! A request that is not for a file or the login needs a session (`sessions`); a form that changes something must come
//! from one of the session's own pages (`guard`) and goes through the same methods of the gateway as the API, so that it
//! is written down in the audit under the name of the token that was used to log in. One file a part of the console adds
//! its routes; `page` is what stands around them, `table` and `form` are what they are made of.

mod assets;
mod audit;
mod call;
mod chart;
mod form;
mod guard;
mod limits;
mod login;
mod overview;
mod page;
mod parts;
mod payments;
mod pre_auths;
mod reading;
mod routing;
mod search;
mod sessions;
mod settings;
mod table;
mod text;
mod webhooks;

use std::sync::Arc;

use axum::http::header::REFERER;
use axum::http::request::Parts;
use axum::http::{HeaderName, Method, StatusCode, Uri};
use bytes::Bytes;
use url::form_urlencoded;

use crate::api::auth::{came_over_tls, only_value};
use crate::api::call::Call;
use crate::api::context::{RequestContext, Route};
use crate::api::envelope::Outcome;
use crate::api::error::ApiError;
use crate::api::merchant::is_below;
use crate::api::routes::{Routes, Verb};
use crate::domain::audit::Operator;
use crate::gateway::Gateway;
use crate::gateway::error::GatewayError;

use call::{ConsoleCall, go_to};
use login::{Ended, LOGIN, LOGOUT, ask, go_to_login, go_with_cookie};
use overview::news::News;
use page::{Failure, Page, show_as};
use reading::Reading;
use sessions::{Session, Sessions, Use};

/// Everything below it is the console's.
pub(crate) const PREFIX: &str = "/console";
/// The media type of forms.
const FORM: &str = "application/x-www-form-urlencoded";
/// The field that proves that a form is the session's own.
const CSRF: &str = "csrf";
/// With it a browser says that it loads something that may be wanted later.
const PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");

/// Leads to the console.
const SLASH: &str = "/console/";
/// What is answered before a router is asked.
const WITHOUT_SESSION: [(Verb, &str); 5] =
    [(Verb::Get, assets::ROUTE), (Verb::Get, SLASH), (Verb::Get, LOGIN), (Verb::Post, LOGIN), (Verb::Post, LOGOUT)];

/// The console of one listener.
pub(crate) struct Console {
    gateway: Gateway,
    sessions: Arc<Sessions>,
    cookie: String,
    routes: Arc<Routes>,
    reading: Reading,
    news: Arc<News>,
}

/// A request of the console, read.
pub(crate) struct ConsoleRequest {
    pub(crate) head: Box<Parts>,
    /// What was sent with it, or why that could not be read.
    pub(crate) body: Result<Bytes, ApiError>,
}

impl Console {
    /// For the operator of `gateway`, on a listener at this port.
    pub(crate) fn new(gateway: Gateway, port: u16) -> Self {
        let sessions = Sessions::new(gateway.clock().clone(), gateway.random().clone());
        let reading = Reading::new();
        Self {
            gateway,
            sessions: Arc::new(sessions),
            cookie: guard::cookie_name(port),
            routes: Arc::new(routes()),
            news: Arc::new(News::new(reading.clone())),
            reading,
        }
    }

    /// Its pages, what forms are sent to, and what is answered without a session.
    pub(crate) fn listed(&self) -> Vec<(Verb, &'static str)> {
        [self.routes.listed(), &WITHOUT_SESSION].concat()
    }

    /// Answers a request. `token_name` says whose token it is that somebody logs in with, and counts wrong ones.
    pub(crate) async fn answer<'a>(
        &self,
        context: &Arc<RequestContext>,
        request: ConsoleRequest,
        token_name: impl Fn(&str) -> Result<&'a str, ApiError>,
    ) -> Outcome {
        if let Some(route) = route_without_session(request.head.uri.path()) {
            // Set once: a request has one route.
            let _ = context.route.set(Route::Listed(route));
        }
        let session = self.session(&request.head);
        let seen_at = seen_at(&request.head);
        let form_at = form_at(&request.head);
        let outcome = match request.head.uri.path() {
            path if is_below(assets::BELOW, path) => assets::answer(&request.head),
            SLASH => go_to(PREFIX),
            LOGIN => self.login(context, &request, session.as_deref(), token_name),
            _ => match &session {
                Some(session) => self.page(context, request, Arc::clone(session), seen_at.clone()).await,
                None if is_of_script(&request.head) => Err(ApiError::OperatorUnauthenticated),
                None => self.to_login(&request.head, form_at.as_deref()),
            },
        };
        let at = [seen_at.as_deref(), form_at.as_deref()];
        let shown = outcome.or_else(|error| self.failure(context, session.as_deref(), at, error));
        shown.map(guard::guarded)
    }

    fn session(&self, head: &Parts) -> Option<Arc<Session>> {
        // A page that updates itself, or comes back to that, would keep its session for ever; files are for everybody.
        let path = head.uri.path();
        let wanted = match head.method == Method::POST {
            true => Use::Form,
            false if path == overview::LIVE || is_below(assets::BELOW, path) => Use::Update,
            false => Use::Page,
        };
        let ids = guard::cookie_values(&head.headers, &self.cookie);
        ids.iter().find_map(|id| self.sessions.find(id, wanted))
    }

    /// Leads somebody to the login who has no session (any more), and from there back to the page that was asked for, or
    /// that the form stands on which was sent. What was sent is not done later.
    fn to_login(&self, head: &Parts, form_at: Option<&str>) -> Outcome {
        if head.uri.path() == LOGOUT {
            // It is what was wanted.
            return go_to_login(None, None);
        }
        let had_one = !guard::cookie_values(&head.headers, &self.cookie).is_empty();
        let is_page = head.method == Method::GET || head.method == Method::HEAD;
        let asked = head.uri.path_and_query().and_then(|asked| guard::own_address(asked.as_str()));
        if is_page {
            return go_to_login(asked, had_one.then_some(Ended::Page));
        }
        // Whose cookie was taken away by logging out in another tab has the page of the form still.
        go_to_login(form_at, (had_one || form_at.is_some()).then_some(Ended::Form))
    }

    /// Shows the page that asks for a token, or begins a session with the one that was sent.
    fn login<'a>(
        &self,
        context: &RequestContext,
        request: &ConsoleRequest,
        session: Option<&Session>,
        token_name: impl Fn(&str) -> Result<&'a str, ApiError>,
    ) -> Outcome {
        let head = &request.head;
        if head.method != Method::POST {
            let query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
            let asked: Vec<(String, String)> = query.into_owned().collect();
            let value = |name: &str| asked.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
            let next = value("next").and_then(guard::own_address).unwrap_or(PREFIX);
            // Who is logged in is asked only where that is what somebody wants.
            return match session.is_some() && value("again").is_none() {
                true => go_to(next),
                false => ask(&self.gateway, StatusCode::OK, value("ended").and_then(Ended::words), next),
            };
        }
        if !guard::is_of_own_page(head) {
            return Err(forged());
        }
        let form = form_of(request)?;
        let value = |name: &str| form.iter().find(|(known, _)| known == name).map(|(_, value)| value.trim());
        let next = value("next").and_then(guard::own_address).unwrap_or(PREFIX);
        match token_name(value("token").unwrap_or_default()) {
            Ok(name) => {
                // A session that is logged in again is another one.
                let (id, _) = self.sessions.begin_after(session, name);
                tracing::info!(operator = name, request_id = context.request_id, "logged in to the console");
                go_with_cookie(next, guard::set_cookie(&self.cookie, &id, self.is_secure(context, head)))
            }
            Err(error @ ApiError::OperatorUnauthenticated) => {
                let (peer, request_id) = (context.peer.ip(), &context.request_id);
                tracing::warn!(%peer, request_id, "somebody showed a wrong token at the console's login");
                let problem = Some("This is not a token of this gateway.");
                Ok(ask(&self.gateway, StatusCode::FORBIDDEN, problem, next)?.about(&error))
            }
            Err(error) => {
                let problem = page::in_words(&error);
                let mut answer = ask(&self.gateway, error.code().status(), Some(&problem), next)?.about(&error);
                error.add_headers(&mut answer.headers);
                Ok(answer)
            }
        }
    }

    /// Answers somebody who is logged in, and sees what is answered at this path.
    async fn page(
        &self,
        context: &Arc<RequestContext>,
        request: ConsoleRequest,
        session: Arc<Session>,
        seen_at: Option<String>,
    ) -> Outcome {
        let mut form = Vec::new();
        if request.head.method == Method::POST {
            if !guard::is_of_own_page(&request.head) {
                return Err(forged());
            }
            form = form_of(&request)?;
            let shown = form.iter().find(|(name, _)| name == CSRF).map(|(_, value)| value.as_str());
            if !session.is_csrf(shown.unwrap_or_default()) {
                return Err(forged());
            }
            if request.head.uri.path() == LOGOUT {
                self.sessions.end(&session);
                let gone = guard::drop_cookie(&self.cookie, self.is_secure(context, &request.head));
                return go_with_cookie(LOGIN, gone);
            }
        }
        let operator = Operator { name: session.operator.clone(), request_id: context.request_id.clone() };
        let call = Call::new(self.gateway.clone(), Arc::clone(context), &request.head, Bytes::new());
        let news = Arc::clone(&self.news);
        let call = ConsoleCall { call, operator, session, news, seen_at, form };
        let (routes, head) = (Arc::clone(&self.routes), *request.head);
        // What a form does may wait for a provider, and what is sent for as long as somebody listens is made elsewhere: neither
        // holds a place.
        if head.method == Method::POST || head.uri.path() == overview::LIVE {
            return routes.answer(head, call).await;
        }
        let path = String::from(head.uri.path());
        let made = self.reading.run(async move { routes.answer(head, call).await }).await;
        made.unwrap_or_else(|refused| {
            // Its route has not seen it.
            let route = self.route_of(&path);
            route.into_iter().for_each(|route| drop(context.route.set(Route::Listed(route))));
            Err(refused.into())
        })
    }

    /// The route that has this path.
    fn route_of(&self, path: &str) -> Option<&'static str> {
        let is_field = |part: &str| part.starts_with('{');
        let fits = |route: &&str| {
            route.split('/').count() == path.split('/').count()
                && route.split('/').zip(path.split('/')).all(|(part, own)| is_field(part) || part == own)
        };
        let fitting = self.routes.listed().iter().map(|(_, route)| *route).filter(fits);
        fitting.min_by_key(|route| route.split('/').filter(|part| is_field(part)).count())
    }

    /// Says what went wrong on a page, to who is logged in; to others as every API does. `at` is where the page is seen,
    /// and where the form stands that was sent.
    fn failure(
        &self,
        context: &RequestContext,
        session: Option<&Session>,
        at: [Option<&str>; 2],
        error: ApiError,
    ) -> Outcome {
        let Some(session) = session else { return Err(error) };
        if let ApiError::Gateway(GatewayError::Internal(reason)) = &error {
            tracing::error!(request_id = context.request_id, reason, "a request failed inside");
        }
        let [seen_at, form_at] = at;
        let page = Page::new(&self.gateway, session, seen_at, None, String::new());
        let mut answer = show_as(error.code().status(), &Failure::new(page, &error, context, form_at))?.about(&error);
        error.add_headers(&mut answer.headers);
        Ok(answer)
    }

    fn is_secure(&self, context: &RequestContext, head: &Parts) -> bool {
        context.is_tls || came_over_tls(&head.headers, context.peer.ip(), &self.gateway.config().server.trusted_proxies)
    }
}

/// The route of [`WITHOUT_SESSION`] that has this path.
fn route_without_session(path: &str) -> Option<&'static str> {
    if is_below(assets::BELOW, path) {
        return Some(assets::ROUTE);
    }
    WITHOUT_SESSION.iter().map(|(_, route)| *route).find(|route| *route == path)
}

/// The address of the page that somebody will see who asks so. Where nobody will, as with `HEAD`, for a script, or of a browser
/// that asks before anybody wanted it, none: what is said once is not said there.
fn seen_at(head: &Parts) -> Option<String> {
    let is_seen = head.method == Method::GET && !is_of_script(head) && !head.headers.contains_key(PURPOSE);
    is_seen.then(|| head.uri.path_and_query().map_or(PREFIX, |asked| asked.as_str()).to_owned())
}

/// The page that a form stands on which was sent, as far as the browser says.
fn form_at(head: &Parts) -> Option<String> {
    let from = only_value(&head.headers, &REFERER).filter(|_| head.method == Method::POST)?;
    let from: Uri = from.parse().ok()?;
    guard::own_address(from.path_and_query()?.as_str()).filter(|at| *at != LOGIN).map(String::from)
}

/// What can't have come from a page of the session.
fn forged() -> ApiError {
    ApiError::field("form", "was not sent by a page of this session; go back, load the page again and try once more")
}

/// Whether a script of ours asks, which is not to be led to the login.
fn is_of_script(head: &Parts) -> bool {
    only_value(&head.headers, &axum::http::header::ACCEPT).is_some_and(|accepted| accepted == "text/event-stream")
}

/// The fields of a form that was sent.
fn form_of(request: &ConsoleRequest) -> Result<Vec<(String, String)>, ApiError> {
    let body = request.body.clone()?;
    let content_type = only_value(&request.head.headers, &axum::http::header::CONTENT_TYPE).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !body.is_empty() && !media_type.eq_ignore_ascii_case(FORM) {
        return Err(ApiError::field("form", "must be sent as application/x-www-form-urlencoded"));
    }
    Ok(form_urlencoded::parse(&body).into_owned().collect())
}

/// All pages, and what forms are sent to.
fn routes() -> Routes {
    let routes = Routes::default();
    let routes = overview::add_routes(routes);
    let routes = search::add_routes(routes);
    let routes = payments::add_routes(routes);
    let routes = pre_auths::add_routes(routes);
    let routes = webhooks::add_routes(routes);
    let routes = limits::add_routes(routes);
    let routes = routing::add_routes(routes);
    let routes = audit::add_routes(routes);
    settings::add_routes(routes)
}

#[cfg(test)]
mod tests;
