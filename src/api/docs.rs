//! `/docs`: the OpenAPI document as a page on which it can be tried, from files that are in the program, so that it works
//! where the network does not. Nothing on it runs that is not one of these files.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use bytes::Bytes;
use utoipa_swagger_ui::{Config, SwaggerFile};
use xxhash_rust::xxh3::xxh3_64;

use crate::api::call::{Named, OpenCall};
use crate::api::document::Part;
use crate::api::envelope::{Answer, Outcome};
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};

/// Scripts, styles and requests of this server alone; pictures also from within the styles.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
);
/// Their addresses change with their contents.
const FOR_GOOD: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const PAGE: &str = include_str!("docs/page.html");
const STYLE: &str = include_str!("docs/page.css");
const SCRIPT: &str = include_str!("docs/start.js");

/// Where the page is.
pub(crate) const PATH: &str = "/docs";
/// Where it is not: what it names stands beside it.
pub(crate) const SLASHED: &str = "/docs/";
/// The way from there, also where a proxy has put something before the path.
const BACK: HeaderValue = HeaderValue::from_static("../docs");

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, PATH, page).with(Verb::Get, "/docs/{file}", file)
}

/// A page to read and try the API
///
/// It shows the operations of the listener that it is asked from. What is tried is signed in the browser with the id and
/// secret of a key that are given as user and password.
#[utoipa::path(
    get, path = "/docs", operation_id = "get_docs", tag = "Service",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")),
)]
pub(crate) async fn page(request: OpenCall) -> Outcome {
    request.call.query(&[], Pages::No)?;
    let html = page_of(request.part);
    Ok(guarded(Answer::new(StatusCode::OK, HTML, Bytes::from(html))).with_header(CONTENT_SECURITY_POLICY, POLICY))
}

/// A file of that page
#[utoipa::path(
    get, path = "/docs/{file}", operation_id = "get_docs_file", tag = "Service",
    params(
        ("file" = String, Path, description = "The file's name", example = "swagger-ui.css"),
        ("v" = Option<String>, Query, description = "Changes with the files, so that browsers may keep them"),
    ),
    responses(
        (status = 200, description = "The file", content(
            (String = "text/css"), (String = "text/javascript"), (String = "image/png"),
        )),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn file(Named(name): Named<String>, request: OpenCall) -> Outcome {
    request.call.query(&["v"], Pages::No)?;
    let (content_type, content) = file_named(&name).ok_or(ApiError::PathNotFound)?;
    let answer = Answer::new(StatusCode::OK, HeaderValue::from_static(content_type), content);
    Ok(guarded(answer).with_header(CACHE_CONTROL, FOR_GOOD))
}

/// Sends the browser to the page itself.
pub(crate) fn without_slash() -> Answer {
    Answer::new(StatusCode::PERMANENT_REDIRECT, HTML, Bytes::new()).with_header(LOCATION, BACK)
}

fn guarded(answer: Answer) -> Answer {
    answer
        .with_header(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
        .with_header(REFERRER_POLICY, HeaderValue::from_static("no-referrer"))
}

fn page_of(part: Part) -> String {
    let tag = format!("{:x}", xxh3_64([STYLE, SCRIPT, env!("CARGO_PKG_VERSION")].concat().as_bytes()));
    PAGE.replace("{part}", part.as_str()).replace("{tag}", &tag)
}

/// One of the page's own files, or one of the few of Swagger UI's that it uses.
fn file_named(name: &str) -> Option<(&'static str, Bytes)> {
    Some(match name {
        "page.css" => ("text/css; charset=utf-8", Bytes::from_static(STYLE.as_bytes())),
        "start.js" => ("text/javascript; charset=utf-8", Bytes::from_static(SCRIPT.as_bytes())),
        "swagger-ui.css" => ("text/css; charset=utf-8", vendored(name)?),
        "swagger-ui-bundle.js" => ("text/javascript; charset=utf-8", vendored(name)?),
        "favicon-32x32.png" => ("image/png", vendored(name)?),
        _ => return None,
    })
}

fn vendored(name: &str) -> Option<Bytes> {
    let file: Option<SwaggerFile<'static>> = utoipa_swagger_ui::serve(name, Arc::new(Config::default())).ok()?;
    Some(match file?.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_the_page_names_is_there() {
        let page = page_of(Part::Merchants);
        let named: Vec<&str> = page
            .split('"')
            .filter_map(|text| text.strip_prefix("docs/"))
            .map(|text| text.split('?').next().unwrap_or(text))
            .collect();
        assert_eq!(named.len(), 5, "{named:?}");
        for name in named {
            let (_, content) = file_named(name).unwrap_or_else(|| panic!("{name}"));
            assert!(!content.is_empty(), "{name}");
        }
        assert!(file_named("swagger-initializer.js").is_none(), "only what the page uses");
    }

    #[test]
    fn nothing_on_the_page_is_inline_or_from_elsewhere() {
        for part in [Part::Merchants, Part::Operator] {
            let page = page_of(part);
            assert!(page.contains(&format!("openapi.json?part={}", part.as_str())));
            for banned in ["<style", "style=", "onload", "onclick", "http:", "https:", "//"] {
                assert!(!page.contains(banned), "{banned}");
            }
            for script in page.split("<script").skip(1) {
                assert!(script.trim_start().starts_with("src=\"docs/"), "{script}");
            }
        }
    }
}
