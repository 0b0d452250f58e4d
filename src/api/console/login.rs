//! Logging in with a token of the operator, and out.

use askama::Template;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderValue, StatusCode};

use crate::api::envelope::Outcome;
use crate::config::Mode;
use crate::gateway::Gateway;

use super::call::go_to;
use super::page::show_as;
use super::{PREFIX, assets};

/// Where one logs in.
pub(super) const LOGIN: &str = "/console/login";
/// Where one logs out.
pub(super) const LOGOUT: &str = "/console/logout";

/// The page that asks for a token.
#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    /// Why the last try did not work.
    problem: Option<&'a str>,
    /// Where to go on.
    next: &'a str,
    is_live_mode: bool,
    assets: String,
}

/// Asks for a token.
///
/// # Errors
/// When the page can't be written.
pub(super) fn ask(gateway: &Gateway, status: StatusCode, problem: Option<&str>, next: &str) -> Outcome {
    let is_live_mode = gateway.config().mode == Mode::Live;
    show_as(status, &LoginPage { problem, next, is_live_mode, assets: assets::path() })
}

/// Asks for a token and comes back to where it was needed.
///
/// # Errors
/// When the page's address can't be a header.
pub(super) fn go_to_login(next: Option<&str>) -> Outcome {
    match next.filter(|next| *next != PREFIX) {
        None => go_to(LOGIN),
        Some(next) => {
            let query: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
            go_to(&format!("{LOGIN}?{query}"))
        }
    }
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
