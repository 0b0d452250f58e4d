//! A request as the console's pages see it: of somebody who is logged in, and if it changes something, from one of this
//! session's own forms.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use bytes::Bytes;

use crate::api::call::{Call, note_route};
use crate::api::envelope::{Answer, Outcome};
use crate::api::error::ApiError;
use crate::api::query::{Pages, Query};
use crate::api::routes::take_call;
use crate::domain::audit::Operator;
use crate::gateway::Gateway;
use crate::gateway::error::GatewayError;
use crate::gateway::page::{Page as Listed, PageRequest, looked_back_to};

use super::form::Pager;
use super::overview::news::News;
use super::page::{Page, Section, in_words};
use super::sessions::{Notice, Session};
use super::text::moment;

/// Short pages of a list that are looked through for one request.
const SHORT_PAGES_MAX: usize = 5;

/// A page that is asked for, or a form that was sent.
pub(super) struct ConsoleCall {
    /// What every handler gets.
    pub(super) call: Call,
    /// Who asks; what is changed is written down under this name.
    pub(super) operator: Operator,
    /// The session.
    pub(super) session: Arc<Session>,
    /// What pages that show themselves anew are sent.
    pub(super) news: Arc<News>,
    /// The path of the page that somebody will see; none where nobody will, as of a `HEAD`.
    pub(super) seen_at: Option<String>,
    /// The fields of the form, in their order; none when a page is asked for.
    pub(super) form: Vec<(String, String)>,
}

impl ConsoleCall {
    /// The gateway.
    pub(super) fn gateway(&self) -> &Gateway {
        &self.call.gateway
    }

    /// The query, which may have these names.
    ///
    /// # Errors
    /// An invalid request that names every unknown or repeated name.
    pub(super) fn query(&self, names: &[&str], pages: Pages) -> Result<Query<'_>, ApiError> {
        self.call.query(names, pages)
    }

    /// A field of the form without white space around it; an empty one counts as not there.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        let value = self.form.iter().find(|(known, _)| known == name).map(|(_, value)| value.trim())?;
        (!value.is_empty()).then(|| String::from(value))
    }

    /// What its forms carry.
    pub(super) fn csrf(&self) -> &str {
        self.session.csrf()
    }

    /// What stands around a page with this heading.
    pub(super) fn page(&self, section: Section, title: impl Into<String>) -> Page {
        Page::new(self.gateway(), &self.session, self.seen_at.as_deref(), Some(section), title.into())
    }

    /// The way on in the list at `path`, of which this page was asked for and so many rows found. A page that is short and
    /// goes on says that there may be more.
    pub(super) fn pager(&self, path: &str, asked: &PageRequest, rows: usize, next_cursor: Option<&str>) -> Pager {
        let pager = Pager::new(path, self.call.raw_query(), next_cursor);
        let Some(cursor) = next_cursor.filter(|_| asked.rows().is_ok_and(|wanted| rows < wanted)) else { return pager };
        pager.partly(match looked_back_to(cursor) {
            Some(at) => format!("Looked through back to {} UTC only.", moment(&at.rfc3339())),
            None => String::from("Not everything was looked through yet."),
        })
    }

    /// After a form: goes to `path`, which says that it was done, or why not.
    ///
    /// # Errors
    /// When `path` can't be a header.
    pub(super) fn done<E: Into<ApiError>>(&self, result: Result<impl Into<String>, E>, path: &str) -> Outcome {
        let mut error_code = None;
        let notice = match result {
            Ok(text) => Notice { is_good: true, text: text.into() },
            Err(error) => {
                let error = error.into();
                error_code = Some(error.code().as_str());
                if let ApiError::Gateway(GatewayError::Internal(reason)) = &error {
                    tracing::error!(request_id = self.call.context.request_id, reason, "a request failed inside");
                }
                Notice { is_good: false, text: in_words(&error) }
            }
        };
        self.session.leave(path.split('?').next().unwrap_or(path), notice);
        Ok(Answer { error_code, ..go_to(path)? })
    }
}

/// What a list says that has no rows: that there are none, unless it may go on.
pub(super) fn empty<'a>(none: &'a str, next_cursor: Option<&str>) -> &'a str {
    if next_cursor.is_some() { "None was found yet, and not everything was looked through." } else { none }
}

/// One page of a list that gives short pages where little fits: goes on for a while to fill it. The other requests come in
/// between.
///
/// # Errors
/// What `list` fails with.
pub(super) async fn filled<T>(
    mut asked: PageRequest,
    list: impl Fn(&PageRequest) -> Result<Listed<T>, GatewayError>,
) -> Result<Listed<T>, GatewayError> {
    let wanted = asked.rows()?;
    let mut found = list(&asked)?;
    for _ in 1..SHORT_PAGES_MAX {
        let left = wanted.saturating_sub(found.items.len());
        if left == 0 || found.next_cursor.is_none() {
            break;
        }
        asked = PageRequest { limit: Some(left), cursor: found.next_cursor.take() };
        tokio::task::yield_now().await;
        let more = list(&asked)?;
        found.items.extend(more.items);
        found.next_cursor = more.next_cursor;
    }
    Ok(found)
}

/// Sends the browser to another page, which it asks for with GET.
///
/// # Errors
/// When `path` can't be a header.
pub(super) fn go_to(path: &str) -> Outcome {
    let location = HeaderValue::from_str(path)
        .map_err(|_| GatewayError::Internal(String::from("a page's address can't be a header")))?;
    let answer = Answer::html(StatusCode::SEE_OTHER, String::new());
    Ok(Answer { body: Bytes::new(), ..answer }.with_header(LOCATION, location))
}

impl<S: Sync> FromRequestParts<S> for ConsoleCall {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let taken: Self = take_call(head)?;
        note_route(head, &taken.call.context);
        Ok(taken)
    }
}
