//! The language of a request.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT_LANGUAGE;

pub(crate) use crate::domain::language::Language;

/// Reads `Accept-Language`. Anything that can't be read counts as not said.
pub(crate) fn language_of(headers: &HeaderMap) -> Language {
    Language::preferred(headers.get_all(ACCEPT_LANGUAGE).iter().filter_map(|value| value.to_str().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_of_the_header_are_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(language_of(&headers), Language::English);
        headers.append(ACCEPT_LANGUAGE, "en;q=0.5".parse().unwrap());
        headers.append(ACCEPT_LANGUAGE, axum::http::HeaderValue::from_bytes(b"zh\xff").unwrap());
        assert_eq!(language_of(&headers), Language::English);
        headers.append(ACCEPT_LANGUAGE, "zh-CN".parse().unwrap());
        assert_eq!(language_of(&headers), Language::Chinese);
    }
}
