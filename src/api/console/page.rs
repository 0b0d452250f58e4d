//! What every page has around it, the page that asks whether something is really to be done, and the one about a failure.

use askama::Template;
use axum::http::StatusCode;
use url::form_urlencoded;

use crate::api::context::RequestContext;
use crate::api::envelope::{Answer, Outcome};
use crate::api::error::ApiError;
use crate::api::language::Language;
use crate::api::messages::message_of;
use crate::config::Mode;
use crate::domain::time::Timestamp;
use crate::gateway::Gateway;
use crate::gateway::error::GatewayError;

use super::PREFIX;
use super::assets;
use super::form::Form;
use super::guard::own_address;
use super::login::LOGIN;
use super::sessions::{Notice, Session};
use super::table::Facts;
use super::text::moment;

/// The parts of the console, in the order of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Payments,
    PreAuths,
    Webhooks,
    Limits,
    Routing,
    Audit,
    Settings,
}

impl Section {
    pub(super) const ALL: [Self; 8] = [
        Self::Overview,
        Self::Payments,
        Self::PreAuths,
        Self::Webhooks,
        Self::Limits,
        Self::Routing,
        Self::Audit,
        Self::Settings,
    ];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Payments => "Payments",
            Self::PreAuths => "Pre-auths",
            Self::Webhooks => "Webhooks",
            Self::Limits => "Limits",
            Self::Routing => "Routing",
            Self::Audit => "Audit",
            Self::Settings => "Settings",
        }
    }

    /// Where it begins.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Overview => PREFIX,
            Self::Payments => "/console/payments",
            Self::PreAuths => "/console/pre-auths",
            Self::Webhooks => "/console/webhooks",
            Self::Limits => "/console/limits",
            Self::Routing => "/console/routing",
            Self::Audit => "/console/audit",
            Self::Settings => "/console/settings",
        }
    }
}

/// What stands around a page's own content.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// The heading.
    pub(super) title: String,
    /// The part that it belongs to; none when it is about a path that is not there.
    pub(super) section: Option<Section>,
    /// Pages above it: what they are called, and where they are.
    pub(super) crumbs: Vec<(String, String)>,
    /// What was done before it.
    pub(super) notice: Option<Notice>,
    /// Whose session it is.
    pub(super) operator: String,
    /// When it ends at the latest, RFC 3339.
    pub(super) session_end: String,
    /// Where one logs in again, while that end is near.
    pub(super) log_in_again: Option<String>,
    /// What forms carry.
    pub(super) csrf: String,
    /// What updates it while it is looked at.
    pub(super) live: Option<String>,
    /// Whether real money moves.
    pub(super) is_live_mode: bool,
    /// Whether the gateway takes requests.
    pub(super) is_ready: bool,
}

impl Page {
    /// A page of this session, which is seen at this address if anybody sees it.
    pub(super) fn new(
        gateway: &Gateway,
        session: &Session,
        seen_at: Option<&str>,
        section: Option<Section>,
        title: String,
    ) -> Self {
        let now = gateway.clock().steady();
        let end = gateway.clock().now().plus(session.life_left(now));
        let log_in_again = session.ends_soon(now).then(|| {
            let next = seen_at.and_then(own_address).unwrap_or(PREFIX);
            let mut query = form_urlencoded::Serializer::new(String::new());
            format!("{LOGIN}?{}", query.append_pair("again", "true").append_pair("next", next).finish())
        });
        Self {
            title,
            section,
            crumbs: Vec::new(),
            notice: seen_at.and_then(|at| session.take_notice(at.split('?').next().unwrap_or(at))),
            operator: session.operator.clone(),
            session_end: Timestamp::from_unix_s(end.unix_s()).rfc3339(),
            log_in_again,
            csrf: String::from(session.csrf()),
            live: None,
            is_live_mode: gateway.config().mode == Mode::Live,
            is_ready: gateway.is_ready(),
        }
    }

    /// With a page above it.
    #[must_use]
    pub(super) fn below(mut self, name: impl Into<String>, href: impl Into<String>) -> Self {
        self.crumbs.push((name.into(), href.into()));
        self
    }

    /// Updated by what comes from this path while it is looked at.
    #[must_use]
    pub(super) fn live(mut self, path: impl Into<String>) -> Self {
        self.live = Some(path.into());
        self
    }

    pub(super) fn sections(&self) -> [Section; 8] {
        Section::ALL
    }

    pub(super) fn is_in(&self, section: &Section) -> bool {
        self.section == Some(*section)
    }

    pub(super) fn assets(&self) -> String {
        assets::path()
    }

    pub(super) fn session_end_words(&self) -> String {
        moment(&self.session_end)
    }

    pub(super) fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

/// 200 with a page.
///
/// # Errors
/// When it can't be written.
pub(super) fn show(page: &impl Template) -> Outcome {
    show_as(StatusCode::OK, page)
}

/// The same with another status.
///
/// # Errors
/// When it can't be written.
pub(super) fn show_as(status: StatusCode, page: &impl Template) -> Outcome {
    let html = page.render().map_err(|error| GatewayError::Internal(format!("a page can't be written: {error}")))?;
    Ok(Answer::html(status, html))
}

/// Asks whether something is really to be done.
#[derive(Template)]
#[template(path = "confirm.html")]
pub(super) struct Confirmation {
    /// What stands around it.
    pub(super) page: Page,
    /// What will happen, in a sentence or two.
    pub(super) question: String,
    /// To what.
    pub(super) facts: Facts,
    /// What does it.
    pub(super) form: Form,
}

/// Says why something was not done.
#[derive(Template)]
#[template(path = "failure.html")]
pub(super) struct Failure {
    page: Page,
    code: &'static str,
    message: String,
    /// Wrong fields, with what is wrong.
    fields: Vec<(String, String)>,
    request_id: String,
    /// The page that the form stands on which was sent.
    form_at: Option<String>,
}

impl Failure {
    /// About `error`, on a page of this session; of a form that was sent from the page at `form_at`, if it is known.
    pub(super) fn new(mut page: Page, error: &ApiError, context: &RequestContext, form_at: Option<&str>) -> Self {
        let status = error.code().status();
        page.title = match status {
            StatusCode::NOT_FOUND => String::from("Not found"),
            _ if status.is_server_error() => String::from("That did not work"),
            _ => String::from("That can't be done"),
        };
        Self {
            page,
            code: error.code().as_str(),
            message: what_happened(error),
            fields: wrong_fields(error),
            request_id: context.request_id.clone(),
            form_at: form_at.map(String::from),
        }
    }
}

/// A failure in a sentence, and when to come back.
fn what_happened(error: &ApiError) -> String {
    let message = message_of(error, Language::English);
    match error {
        ApiError::Gateway(GatewayError::Overloaded { retry_after_s }) => {
            format!("{message}. Nothing was done; load the page again in {retry_after_s} s.")
        }
        _ => message,
    }
}

fn wrong_fields(error: &ApiError) -> Vec<(String, String)> {
    match error {
        ApiError::Gateway(GatewayError::InvalidRequest(errors)) => {
            errors.iter().map(|error| (error.field.clone(), error.message.clone())).collect()
        }
        _ => Vec::new(),
    }
}

/// A failure in a sentence or two, with what is wrong in which field.
pub(super) fn in_words(error: &ApiError) -> String {
    let fields: Vec<String> =
        wrong_fields(error).into_iter().map(|(field, message)| format!("{field} {message}")).collect();
    let message = message_of(error, Language::English);
    if fields.is_empty() { message } else { format!("{message}: {}", fields.join("; ")) }
}
