//! What is taken as credentials, and over which ways.

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
}

fn appended(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), value.parse().unwrap());
    }
    headers
}

const SIGNED: [(&str, &str); 4] =
    [("x-api-key", "ak_1"), ("x-timestamp", "1700000000"), ("x-nonce", "n"), ("x-signature", "v1=00")];
const LOOPBACK: &str = "127.0.0.1:9";
const PROXY: &str = "10.1.2.3:9";
/// `ak_1:sk_1:x`.
const BASIC: (&str, &str) = ("authorization", "Basic YWtfMTpza18xOng=");

fn read(headers: &HeaderMap, peer: &str) -> Result<Presented, ApiError> {
    Presented::read(headers, peer.parse().unwrap(), false, &["10.0.0.0/8".parse().unwrap()])
}

fn read_over_tls(headers: &HeaderMap, peer: &str) -> Result<Presented, ApiError> {
    Presented::read(headers, peer.parse().unwrap(), true, &["10.0.0.0/8".parse().unwrap()])
}

fn is_unauthenticated(read: Result<Presented, ApiError>) -> bool {
    matches!(read, Err(ApiError::Gateway(GatewayError::Unauthenticated)))
}

#[test]
fn a_signature_is_taken_over_any_way() {
    for peer in [LOOPBACK, PROXY, "203.0.113.9:9", "[2001:db8::1]:9"] {
        assert!(matches!(read(&headers(&SIGNED), peer), Ok(Presented::Signature { .. })), "{peer}");
    }
}

#[test]
fn a_signature_needs_each_header_once() {
    for (missing, removed) in SIGNED.into_iter().enumerate() {
        let mut pairs = SIGNED.to_vec();
        pairs.remove(missing);
        assert!(is_unauthenticated(read(&headers(&pairs), LOOPBACK)), "without {}", removed.0);
        // An incomplete signature is not saved by a password beside it.
        pairs.push(BASIC);
        assert!(is_unauthenticated(read(&headers(&pairs), LOOPBACK)));
        let twice = [SIGNED.to_vec(), vec![removed]].concat();
        assert!(is_unauthenticated(read(&appended(&twice), LOOPBACK)), "two {}", removed.0);
    }
    assert!(is_unauthenticated(read(&HeaderMap::new(), LOOPBACK)));
}

#[test]
fn signed_parts_are_as_sent() {
    let mut request = axum::http::Request::post("/api/v1/payments/a%20b?x=%41&&y").body(()).unwrap();
    request.headers_mut().insert(IDEMPOTENCY_KEY, "k-1".parse().unwrap());
    let (head, ()) = request.into_parts();
    let presented = read(&headers(&SIGNED), LOOPBACK).unwrap();
    let Credentials::Signed { signature, parts } = presented.credentials(&head, b"{}") else { panic!("not signed") };
    assert_eq!(signature, "v1=00");
    assert_eq!(parts.path_and_query, "/api/v1/payments/a%20b?x=%41&&y");
    assert_eq!((parts.method, parts.idempotency_key, parts.body), ("POST", "k-1", &b"{}"[..]));
    assert_eq!((parts.key_id, parts.timestamp, parts.nonce), ("ak_1", "1700000000", "n"));
}

#[test]
fn basic_is_read_up_to_the_first_colon() {
    let Ok(Presented::Basic { key_id, secret }) = read(&headers(&[BASIC]), LOOPBACK) else { panic!("not basic") };
    assert_eq!((key_id.as_str(), secret.as_str()), ("ak_1", "sk_1:x"));
    let lower_case = headers(&[("authorization", "basic  YWtfMTpza18x")]);
    assert!(matches!(read(&lower_case, LOOPBACK), Ok(Presented::Basic { .. })));
    for bad in ["Basic", "Basic ", "Basic !!!", "Basic YWtfMQ==", "Basic /w==", "Bearer YWtfMTpza18x", "YWtfMTpza18x"] {
        assert!(is_unauthenticated(read(&headers(&[("authorization", bad)]), LOOPBACK)), "{bad}");
    }
}

#[test]
fn basic_is_refused_where_others_can_read_it() {
    let refused = |pairs: &[(&'static str, &str)], peer: &str| {
        let all = [&[BASIC], pairs].concat();
        matches!(read(&headers(&all), peer), Err(ApiError::BasicNotAllowed))
    };
    assert!(refused(&[], PROXY), "a proxy that does not say how it was reached");
    assert!(refused(&[], "203.0.113.9:9"));
    assert!(refused(&[("x-forwarded-proto", "https")], "203.0.113.9:9"), "anybody can say so");
    assert!(refused(&[("x-forwarded-proto", "http")], PROXY));
    assert!(refused(&[("x-forwarded-proto", "https, http")], PROXY));
    assert!(refused(&[("x-forwarded-proto", "")], PROXY));
    assert!(refused(&[("x-forwarded-for", "1.2.3.4")], PROXY));
    for name in ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "x-forwarded-proto"] {
        assert!(refused(&[(name, "https")], LOOPBACK), "loopback behind {name}");
    }
}

#[test]
fn basic_is_taken_over_loopback_and_from_a_trusted_proxy_over_tls() {
    for peer in [LOOPBACK, "[::1]:9", "[::ffff:127.0.0.1]:9", "127.8.9.1:9"] {
        assert!(read(&headers(&[BASIC]), peer).is_ok(), "{peer}");
    }
    let proxied = [BASIC, ("x-forwarded-proto", "HTTPS"), ("x-forwarded-for", "1.2.3.4")];
    for peer in [PROXY, "[::ffff:10.1.2.3]:9"] {
        assert!(read(&headers(&proxied), peer).is_ok(), "{peer}");
    }
}

#[test]
fn basic_is_taken_over_tls_of_our_own_unless_a_trusted_proxy_says_that_its_client_used_none() {
    for peer in [LOOPBACK, PROXY, "203.0.113.9:9", "[2001:db8::1]:9"] {
        assert!(read_over_tls(&headers(&[BASIC]), peer).is_ok(), "{peer}");
    }
    // What anybody can write says nothing about how it came to us.
    for written in [("x-forwarded-proto", "http"), ("x-forwarded-for", "1.2.3.4"), ("via", "1.1 x")] {
        assert!(read_over_tls(&headers(&[BASIC, written]), "203.0.113.9:9").is_ok(), "{}", written.0);
    }
    let refused = |proto: &str| {
        let all = headers(&[BASIC, ("x-forwarded-proto", proto)]);
        matches!(read_over_tls(&all, PROXY), Err(ApiError::BasicNotAllowed))
    };
    assert!(refused("http") && refused("https, http") && !refused("https"));
    let unnamed = headers(&[BASIC, ("x-forwarded-for", "1.2.3.4")]);
    assert!(matches!(read_over_tls(&unnamed, PROXY), Err(ApiError::BasicNotAllowed)));
}

#[test]
fn only_what_could_be_a_key_is_a_try() {
    let basic = |user_and_password: &str| {
        let value = format!("Basic {}", STANDARD.encode(user_and_password));
        tries_a_key(&headers(&[("authorization", &value)]))
    };
    assert!(basic("ak_1:wrong") && basic("ak_1:"));
    // A URL with user and password in it.
    for fetched in ["a:b", ":", "a:ak_1", "AK_1:b", "ak_1"] {
        assert!(!basic(fetched), "{fetched}");
    }
    for other in ["Bearer ak_1:b", "Basic ak_1:b", "Basic", "ak_1:b", ""] {
        assert!(!tries_a_key(&headers(&[("authorization", other)])), "{other}");
    }
    assert!(!tries_a_key(&HeaderMap::new()));
    for signing in SIGNED {
        assert!(tries_a_key(&headers(&[signing])), "{}", signing.0);
    }
}

#[test]
fn only_a_bearer_token_is_a_try_at_the_operators() {
    let token = |value: &str| bearer_token(&headers(&[("authorization", value)])).map(String::from);
    assert_eq!(token("bEARER  tok ").as_deref(), Some("tok"));
    for other in ["Basic YTpi", "Bearer", "Bearer ", "tok", ""] {
        assert_eq!(token(other), None, "{other}");
    }
    assert_eq!(bearer_token(&appended(&[("authorization", "Bearer a"), ("authorization", "Bearer b")])), None);
    assert_eq!(bearer_token(&headers(&SIGNED)), None);
}
