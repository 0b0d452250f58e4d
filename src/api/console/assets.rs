//! The console's files: one sheet of styles, one script, one picture. Their path changes with what is in them, so that
//! browsers may keep them for good.

use axum::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::api::auth::only_value;
use crate::api::envelope::{Answer, Outcome};
use crate::api::error::ApiError;

/// Everything below it may be asked for by anybody who reaches the listener.
pub(super) const BELOW: &str = "/console/assets";
/// Its route, by which requests are counted.
pub(super) const ROUTE: &str = "/console/assets/{version}/{file}";

const STYLES: &str = include_str!("assets/console.css");
const SCRIPT: &str = include_str!("assets/console.js");
const ICON: &str = include_str!("assets/icon.svg");

/// Name, type and content.
const FILES: [(&str, &str, &str); 3] = [
    ("console.css", "text/css; charset=utf-8", STYLES),
    ("console.js", "text/javascript; charset=utf-8", SCRIPT),
    ("icon.svg", "image/svg+xml", ICON),
];

/// Where the files of this program are.
pub(super) fn path() -> String {
    let version = FILES.iter().fold(0, |version: u64, (_, _, text)| version.rotate_left(1) ^ xxh3_64(text.as_bytes()));
    format!("{BELOW}/{version:016x}")
}

/// Answers with a file.
///
/// # Errors
/// [`ApiError::PathNotFound`]; files of another program are not there, since pages would not fit them.
pub(super) fn answer(head: &Parts) -> Outcome {
    let name = head.uri.path().strip_prefix(&path()).and_then(|rest| rest.strip_prefix('/'));
    let file = FILES.into_iter().find(|(known, _, _)| Some(*known) == name);
    let (_, content_type, text) = file.ok_or(ApiError::PathNotFound)?;
    let tag = format!("\"{:016x}\"", xxh3_64(text.as_bytes()));
    let is_known = only_value(&head.headers, &IF_NONE_MATCH).is_some_and(|known| known.contains(&tag));
    let (status, body) = if is_known { (StatusCode::NOT_MODIFIED, "") } else { (StatusCode::OK, text) };
    let answer = Answer::new(status, HeaderValue::from_static(content_type), Bytes::from_static(body.as_bytes()));
    let answer = answer.with_header(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    Ok(match HeaderValue::from_str(&tag) {
        Ok(tag) => answer.with_header(ETAG, tag),
        Err(_) => answer,
    })
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn ask(path: &str, known: Option<&HeaderValue>) -> Outcome {
        let mut request = Request::get(path);
        if let Some(tag) = known {
            request = request.header(IF_NONE_MATCH, tag);
        }
        answer(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn files_are_kept_and_asked_for_again_by_their_tag() {
        for (name, content_type, text) in FILES {
            let path = format!("{}/{name}", path());
            let first = ask(&path, None).unwrap();
            assert_eq!((first.status, &*first.body), (StatusCode::OK, text.as_bytes()));
            assert_eq!(first.content_type, content_type);
            assert!(first.headers[CACHE_CONTROL].to_str().unwrap().contains("immutable"));
            let again = ask(&path, Some(&first.headers[ETAG])).unwrap();
            assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
        }
        for wrong in [format!("{}/nothing", path()), path(), format!("{BELOW}/0000000000000000/console.css")] {
            assert!(matches!(ask(&wrong, None), Err(ApiError::PathNotFound)), "{wrong}");
        }
    }

    #[test]
    fn nothing_in_them_comes_from_elsewhere() {
        for (name, _, text) in FILES {
            let urls = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!urls.contains("://") && !urls.contains("@import"), "{name}");
        }
    }
}
