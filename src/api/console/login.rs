//! Logging in with a token of the operator, and out.

use askama::Template;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderValue, StatusCode};

use crate::api::envelope::Outcome;
use crate::config::Mode;
use crate::gateway::Gateway;

use super::call::go_to;
use super::page::show_as;
use super::sessions::{IDLE_MAX, LIFE_MAX};
use super::{PREFIX, assets};

/// Where one logs in.
pub(super) const LOGIN: &str = "/console/login";
/// Where one logs out.
pub(super) const LOGOUT: &str = "/console/logout";

/// How somebody noticed that a session had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// A page was asked for.
    Page,
    /// A form was sent, which is not done.
    Form,
}

impl Ended {
    /// How an address says it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Form => "form",
        }
    }

    /// What an address says, for people; nothing where it says something else.
    pub(super) fn words(text: &str) -> Option<&'static str> {
        match text {
            "page" => Some("The session has ended. Log in to go on where you were."),
            "form" => Some(
                "The session had ended, so what you have just sent was not done. Log in: you come back to the page, look at \
                 it once more and send it again.",
            ),
            _ => None,
        }
    }
}

/// The page that asks for a token.
#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    /// Why it is asked for again.
    problem: Option<&'a str>,
    /// Where to go on.
    next: &'a str,
    is_live_mode: bool,
    /// After how many minutes without a page, and after how many hours at the latest, a session ends.
    idle_minutes: u64,
    life_hours: u64,
    assets: String,
}

/// Asks for a token.
///
/// # Errors
/// When the page can't be written.
pub(super) fn ask(gateway: &Gateway, status: StatusCode, problem: Option<&str>, next: &str) -> Outcome {
    let is_live_mode = gateway.config().mode == Mode::Live;
    let (idle_minutes, life_hours) = (IDLE_MAX.as_secs() / 60, LIFE_MAX.as_secs() / 3_600);
    show_as(status, &LoginPage { problem, next, is_live_mode, idle_minutes, life_hours, assets: assets::path() })
}

/// Asks for a token and comes back to where it was needed; says that there was a session, if there was.
///
/// # Errors
/// When the page's address can't be a header.
pub(super) fn go_to_login(next: Option<&str>, ended: Option<Ended>) -> Outcome {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(next.filter(|next| *next != PREFIX).map(|next| ("next", next)));
    query.extend_pairs(ended.map(|ended| ("ended", ended.as_str())));
    let query = query.finish();
    if query.is_empty() { go_to(LOGIN) } else { go_to(&format!("{LOGIN}?{query}")) }
}

/// Goes to a page with a cookie set.
///
/// # Errors
/// When the page's address can't be a header.
pub(super) fn go_with_cookie(path: &str, cookie: Option<HeaderValue>) -> Outcome {
    let answer = go_to(path)?;
    Ok(match cookie {
        Some(cookie) => answer.with_header(SET_COOKIE, cookie),
        None => answer,
    })
}
