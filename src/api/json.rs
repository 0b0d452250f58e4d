//! Reading a JSON body into a command, and saying exactly what is wrong with it: which field, and what it must be.
//! Messages never repeat a value that was sent.

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::api::auth::only_value;
use crate::api::error::ApiError;
use crate::gateway::wish::{NAME_WISHED, named, wish};

/// Whether a body that is there is declared as plain JSON.
///
/// # Errors
/// [`ApiError::UnsupportedMediaType`] otherwise.
pub(crate) fn check_media_type(headers: &HeaderMap, body: &[u8]) -> Result<(), ApiError> {
    let is_plain = !headers.contains_key(CONTENT_ENCODING)
        || only_value(headers, &CONTENT_ENCODING).is_some_and(|coding| coding.eq_ignore_ascii_case("identity"));
    let is_json = only_value(headers, &CONTENT_TYPE)
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"));
    if body.is_empty() || (is_plain && is_json) { Ok(()) } else { Err(ApiError::UnsupportedMediaType) }
}

/// Reads a body that is a JSON object. Nesting is bounded by the parser (128 levels), size by the body's bound.
///
/// # Errors
/// An invalid request that names the field.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // The parser would also take an array of all fields in their order, which nobody means.
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        None => return Err(ApiError::field("body", "is missing; a JSON object is expected")),
        Some(b'{') => {}
        Some(_) => return Err(ApiError::field("body", "must be a JSON object")),
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        // Where one of some names is wanted, the parser takes any other value for a mistake in the JSON.
        let is_valid = || serde_json::from_slice::<IgnoredAny>(body).is_ok();
        if error.inner().to_string().starts_with("expected value") && path != "." && is_valid() {
            return ApiError::field(path, NAME_WISHED);
        }
        describe(&path, error.inner())
    })?;
    deserializer.end().map_err(|error| describe(".", &error))?;
    Ok(parsed)
}

fn describe(path: &str, error: &serde_json::Error) -> ApiError {
    let place = format!("line {} column {}", error.line(), error.column());
    let text = error.to_string();
    let text = text.strip_suffix(&format!(" at {place}")).unwrap_or(&text);
    if !error.is_data() {
        return ApiError::field("body", format!("is not valid JSON at {place}: {text}"));
    }
    let parent = if path == "." { "" } else { path };
    for (start, message) in [
        ("missing field `", "is missing"),
        ("unknown field `", "is not a field of this request"),
        ("duplicate field `", "is there twice"),
    ] {
        if let Some(name) = named(text, start) {
            return ApiError::field(joined(parent, name), message);
        }
    }
    // Of a name in an object that name is at the end of the path, as if it were a field.
    let is_inside_name = text.ends_with(", expected unit");
    let parent = parent.rsplit_once('.').filter(|_| is_inside_name).map_or(parent, |(parent, _)| parent);
    let field = if parent.is_empty() { "body" } else { parent };
    ApiError::field(field, wish(text))
}

/// The name of an inner field. The path of an unknown or repeated field already ends with it.
fn joined(parent: &str, name: &str) -> String {
    let is_whole = parent.is_empty() || parent == name;
    if is_whole {
        String::from(name)
    } else if parent.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')) {
        String::from(parent)
    } else {
        format!("{parent}.{name}")
    }
}

#[cfg(test)]
mod tests;
