//! What keeps others out of a session: the cookie, where forms may come from, and the headers of every answer.

use axum::http::header::{CONTENT_SECURITY_POLICY, COOKIE, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use cookie::{Cookie, SameSite};

use crate::api::auth::only_value;
use crate::api::envelope::Answer;

use super::PREFIX;

/// Nothing from elsewhere, nothing inline, no frames.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
     frame-ancestors 'none'; base-uri 'none'",
);
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
/// Longest address to go to after logging in.
const NEXT_BYTES_MAX: usize = 1_024;

/// Gives an answer the headers that every answer of the console has.
pub(super) fn guarded(mut answer: Answer) -> Answer {
    let headers = &mut answer.headers;
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    answer
}

/// The name of the session's cookie. Browsers don't keep ports apart, and several gateways may run on one machine.
pub(super) fn cookie_name(port: u16) -> String {
    format!("tollgate_console_{port}")
}

/// What the cookies of this name hold; somebody may have set several.
pub(super) fn cookie_values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let cookies = lines.flat_map(Cookie::split_parse).flatten();
    cookies.filter(|cookie| cookie.name() == name).map(|cookie| String::from(cookie.value())).collect()
}

/// The `Set-Cookie` that keeps a session's id, or none if it can't be written.
pub(super) fn set_cookie(name: &str, id: &str, is_secure: bool) -> Option<HeaderValue> {
    HeaderValue::from_str(&cookie(name, id, is_secure).to_string()).ok()
}

/// The `Set-Cookie` that takes it away.
pub(super) fn drop_cookie(name: &str, is_secure: bool) -> Option<HeaderValue> {
    let mut gone = cookie(name, "", is_secure);
    gone.set_max_age(cookie::time::Duration::ZERO);
    HeaderValue::from_str(&gone.to_string()).ok()
}

fn cookie(name: &str, value: &str, is_secure: bool) -> Cookie<'static> {
    Cookie::build((String::from(name), String::from(value)))
        .path(PREFIX)
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(is_secure)
        .build()
}

/// Whether a form was sent by a page of this server, as far as the browser says: all that are in use say it one way or the
/// other. What says nothing is no browser that somebody could have led here.
pub(super) fn is_of_own_page(head: &Parts) -> bool {
    if head.headers.contains_key(FETCH_SITE) {
        return only_value(&head.headers, &FETCH_SITE) == Some("same-origin");
    }
    if !head.headers.contains_key(ORIGIN) {
        return true;
    }
    let authority = |text: &str| text.parse::<Uri>().ok().and_then(|uri| uri.authority().cloned());
    let origin = only_value(&head.headers, &ORIGIN).and_then(authority);
    let called = match head.uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => only_value(&head.headers, &HOST).and_then(|host| host.parse::<Authority>().ok()),
    };
    // Authorities are compared without regard to capitals.
    origin.is_some() && origin == called
}

/// An address to go on to after logging in, if it is one of the console's own pages.
pub(super) fn own_address(text: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'<' | b'>');
    let rest = text.strip_prefix(PREFIX)?;
    let is_own = (rest.is_empty() || rest.starts_with(['/', '?'])) && !rest.contains("//");
    (is_own && text.len() <= NEXT_BYTES_MAX && text.bytes().all(is_plain)).then_some(text)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post("/console/logout");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn forms_of_other_pages_are_refused() {
        let (host, own) = (("host", "localhost:8081"), ("origin", "http://localhost:8081"));
        let fine: [&[(&str, &str)]; 5] = [
            &[host],
            &[host, own],
            &[("host", "LOCALHOST:8081"), own],
            &[host, ("sec-fetch-site", "same-origin")],
            // A proxy calls the server by another name; the browser knows better.
            &[host, ("origin", "https://pay.example"), ("sec-fetch-site", "same-origin")],
        ];
        for headers in fine {
            assert!(is_of_own_page(&head(headers)), "{headers:?}");
        }
        let forged: [&[(&str, &str)]; 8] = [
            &[host, ("origin", "http://evil.example")],
            &[host, ("origin", "null")],
            &[host, ("origin", "http://localhost:8080")],
            &[host, own, ("sec-fetch-site", "cross-site")],
            &[host, own, ("sec-fetch-site", "same-site")],
            &[host, own, ("sec-fetch-site", "none")],
            &[host, own, ("origin", "http://evil.example")],
            &[own],
        ];
        for headers in forged {
            assert!(!is_of_own_page(&head(headers)), "{headers:?}");
        }
    }

    #[test]
    fn only_own_pages_are_gone_on_to() {
        for fine in ["/console", "/console/payments?status=failed&cursor=0a", "/console?x=1"] {
            assert_eq!(own_address(fine), Some(fine));
        }
        for wrong in [
            "",
            "/",
            "//evil.example",
            "https://evil.example/console",
            "/console.evil.example",
            "/console//evil.example",
            "/console/\\evil",
            "/console/\r\nSet-Cookie: a=b",
            "/console/<script>",
            "/consolex",
            &format!("/console/{}", "a".repeat(NEXT_BYTES_MAX)),
        ] {
            assert_eq!(own_address(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_cookie_is_kept_from_scripts_other_sites_and_other_paths() {
        let name = cookie_name(8081);
        let set = set_cookie(&name, "ab", true).unwrap();
        assert_eq!(set, "tollgate_console_8081=ab; HttpOnly; SameSite=Strict; Secure; Path=/console");
        assert!(!set_cookie(&name, "ab", false).unwrap().to_str().unwrap().contains("Secure"));
        assert!(drop_cookie(&name, false).unwrap().to_str().unwrap().contains("Max-Age=0"));
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=1; tollgate_console_8081=x; tollgate_console_80=y".parse().unwrap());
        headers.append(COOKIE, "tollgate_console_8081=z; broken".parse().unwrap());
        assert_eq!(cookie_values(&headers, &name), ["x", "z"]);
    }
}
