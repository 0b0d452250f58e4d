//! What holds for many operations: credentials, parameters, errors and headers.

use std::collections::BTreeMap;

use utoipa::Modify;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::response::Response;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Object, OpenApi, Ref, RefOr, Required, Type};

use crate::api::admin::metrics::SHORT_PATH;
use crate::api::codes::Code;
use crate::api::edge::PROBES;
use crate::api::idempotency::{IDEMPOTENCY_KEY_NAME, KEY_LEN_MAX};
use crate::api::routes::Verb;

const SIGNATURE_SCHEMES: [(&str, &str, &str); 4] = [
    ("api_key", "X-Api-Key", "The key's id, `ak_…`. On `/docs` leave all four empty: it signs with what `basic` has"),
    ("timestamp", "X-Timestamp", "Unix seconds; at most 300 s old or 30 s ahead. On `/docs` leave it empty"),
    ("nonce", "X-Nonce", "1 to 64 characters from `A-Za-z0-9_-`, used once per key. On `/docs` leave it empty"),
    (
        "signature",
        "X-Signature",
        "`v1=` and the hexadecimal HMAC-SHA256, with the key's secret, of these lines joined with `\\n`: `v1`, key id, \
         timestamp, nonce, method, path with query exactly as sent, the `Idempotency-Key` header or an empty line, \
         lower-case hexadecimal SHA-256 of the body. On `/docs` leave it empty",
    ),
];
const BASIC: &str = "basic";
const BEARER: &str = "operator";
pub(super) const ERROR_SCHEMA: &str = "Error";
/// Answers to merchants that are given once it is known who asks, and so have the headers of their limits.
const MERCHANTS_ERRORS: [&str; 6] = [INVALID, SUSPENDED, LIMITED, NO_JSON, RUNNING, OTHER_BODY];
const INVALID: &str = "MerchantInvalidRequest";
const SUSPENDED: &str = "MerchantForbidden";
const LIMITED: &str = "RateLimitExceeded";
const NO_JSON: &str = "MerchantUnsupportedMediaType";
const RUNNING: &str = "IdempotencyInProgress";
const OTHER_BODY: &str = "IdempotencyMismatch";
/// Operations that are not taken without an idempotency key.
const KEY_REQUIRED: [&str; 5] = [
    "/api/v1/payments/{payment_no}/cancel",
    "/api/v1/payments/{payment_no}/refunds",
    "/api/v1/pre-auths/{pre_auth_no}/capture",
    "/api/v1/pre-auths/{pre_auth_no}/cancel",
    "/api/v1/pre-auths/{pre_auth_no}/refunds",
];

/// Whose operation it is, by its path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    Merchant,
    Operator,
    Anybody,
}

pub(super) fn audience(path: &str) -> Audience {
    match path {
        path if path.starts_with("/api/v1/") => Audience::Merchant,
        path if path.starts_with("/admin/v1/") || path == SHORT_PATH => Audience::Operator,
        _ => Audience::Anybody,
    }
}

/// Calls `change` with every operation, its path and its method.
pub(super) fn for_each_operation(openapi: &mut OpenApi, mut change: impl FnMut(&str, Verb, &mut Operation)) {
    for (path, item) in &mut openapi.paths.paths {
        let operations = [
            (Verb::Get, &mut item.get),
            (Verb::Post, &mut item.post),
            (Verb::Put, &mut item.put),
            (Verb::Patch, &mut item.patch),
            (Verb::Delete, &mut item.delete),
        ];
        for (verb, operation) in operations {
            if let Some(operation) = operation {
                change(path, verb, operation);
            }
        }
    }
}

/// Who may call what, and how they say who they are.
pub(super) struct Credentials;

impl Modify for Credentials {
    fn modify(&self, openapi: &mut OpenApi) {
        let components = openapi.components.get_or_insert_default();
        for (name, header, description) in SIGNATURE_SCHEMES {
            let value = ApiKeyValue::with_description(header, description);
            components.add_security_scheme(name, SecurityScheme::ApiKey(ApiKey::Header(value)));
        }
        let mut basic = Http::new(HttpAuthScheme::Basic);
        basic.description = Some(String::from(
            "Username: the key's id, `ak_…`. Password: its secret, `sk_…`. On `/docs`, if that was opened by `https://` or from this \
             machine, the browser signs each request with them and does not send the secret. Elsewhere this is HTTP \
             Basic, which is taken only over TLS, straight over loopback, or through a trusted proxy that was reached by TLS",
        ));
        components.add_security_scheme(BASIC, SecurityScheme::Http(basic));
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.description = Some(String::from(
            "The operator's token, without `Bearer` before it: what `TOLLGATE_ADMIN_TOKEN` was when the gateway started, else \
             what `<data dir>/admin.token` holds",
        ));
        components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
        for_each_operation(openapi, |path, _, operation| {
            operation.security = match audience(path) {
                Audience::Merchant => Some(vec![signature(), requirement(BASIC)]),
                Audience::Operator => Some(vec![requirement(BEARER)]),
                Audience::Anybody => None,
            };
        });
    }
}

fn requirement(name: &str) -> SecurityRequirement {
    SecurityRequirement::new(name, [""; 0])
}

/// All four headers together.
fn signature() -> SecurityRequirement {
    let mut all = SecurityRequirement::default();
    for (name, _, _) in SIGNATURE_SCHEMES {
        all = all.add(name, [""; 0]);
    }
    all
}

/// Headers that requests may have.
pub(super) struct UsualParameters;

impl Modify for UsualParameters {
    fn modify(&self, openapi: &mut OpenApi) {
        for_each_operation(openapi, |path, verb, operation| {
            let parameters = operation.parameters.get_or_insert_default();
            if audience(path) == Audience::Merchant && verb == Verb::Post {
                let is_required = KEY_REQUIRED.contains(&path);
                let description = format!(
                    "1 to {KEY_LEN_MAX} visible ASCII characters. The same key and body get the same answer for 24 \
                     hours, with `Idempotent-Replayed: true`"
                );
                parameters.push(header_parameter(IDEMPOTENCY_KEY_NAME, &description, is_required));
            }
            parameters.push(header_parameter("Accept-Language", "`zh` for messages in Chinese", false));
            parameters.push(header_parameter("X-Request-Id", "An id of your own for this request", false));
            parameters.push(header_parameter(
                "traceparent",
                "The trace that the request belongs to (W3C Trace Context)",
                false,
            ));
            parameters.push(header_parameter("tracestate", "What goes with `traceparent`", false));
        });
    }
}

fn header_parameter(name: &str, description: &str, is_required: bool) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(if is_required { Required::True } else { Required::False })
        .description(Some(description))
        .schema(Some(Object::with_type(Type::String)))
        .build()
}

/// Errors that any operation of an audience may answer, and the body of all errors.
pub(super) struct UsualErrors;

impl Modify for UsualErrors {
    fn modify(&self, openapi: &mut OpenApi) {
        let mut shared = BTreeMap::new();
        for_each_operation(openapi, |path, verb, operation| {
            for (name, codes) in usual_errors(path, verb) {
                add_error(operation, name, codes);
                shared.insert(name, codes);
            }
            for (status, response) in &mut operation.responses.responses {
                if let (RefOr::T(response), '4' | '5') = (response, status.chars().next().unwrap_or_default()) {
                    describe_body(response);
                }
            }
        });
        let components = openapi.components.get_or_insert_default();
        for (name, codes) in shared {
            let mut response = Response::new(names_of(codes));
            describe_body(&mut response);
            add_headers(&mut response, &[REQUEST_ID, CACHE_CONTROL]);
            match codes {
                [Code::Unauthenticated, ..] => add_headers(&mut response, &[CHALLENGE]),
                [Code::RateLimitExceeded | Code::Overloaded, ..] => add_headers(&mut response, &[RETRY_AFTER]),
                _ => {}
            }
            // What is refused before it is known who asks has none of these.
            if MERCHANTS_ERRORS.contains(&name) {
                add_headers(&mut response, &LIMIT_HEADERS);
            }
            components.responses.insert(String::from(name), RefOr::T(response));
        }
    }
}

/// A response's name in the document and the codes it may carry, which have one status.
type UsualError = (&'static str, &'static [Code]);

fn usual_errors(path: &str, verb: Verb) -> Vec<UsualError> {
    const INPUT: UsualError = ("InvalidRequest", &[Code::InvalidRequest]);
    const FORBIDDEN: UsualError = ("Forbidden", &[Code::Forbidden]);
    const TIMEOUT: UsualError = ("RequestTimeout", &[Code::RequestTimeout]);
    const TOO_LARGE: UsualError = ("PayloadTooLarge", &[Code::PayloadTooLarge]);
    const MEDIA_TYPE: UsualError = ("UnsupportedMediaType", &[Code::UnsupportedMediaType]);
    const ADDRESS_LIMITED: UsualError = ("AddressLimited", &[Code::RateLimitExceeded]);
    const INTERNAL: UsualError = ("Internal", &[Code::Internal]);
    const BUSY: UsualError = ("Busy", &[Code::Overloaded]);
    const UNAVAILABLE: UsualError =
        ("Unavailable", &[Code::Overloaded, Code::StorageLow, Code::Held, Code::ShuttingDown]);
    let mut usual = vec![INTERNAL, if verb == Verb::Get { BUSY } else { UNAVAILABLE }];
    match audience(path) {
        Audience::Anybody if PROBES.contains(&path) => usual.push(FORBIDDEN),
        Audience::Anybody if verb == Verb::Get => usual.extend([INPUT, FORBIDDEN, ADDRESS_LIMITED]),
        Audience::Anybody => usual.extend([TIMEOUT, TOO_LARGE, ADDRESS_LIMITED]),
        Audience::Operator => {
            let unauthenticated: UsualError = ("OperatorUnauthenticated", &[Code::Unauthenticated]);
            usual.extend([INPUT, unauthenticated, FORBIDDEN, TIMEOUT, TOO_LARGE, ADDRESS_LIMITED]);
        }
        Audience::Merchant => usual.extend([
            (INVALID, INPUT.1),
            ("Unauthenticated", &[Code::Unauthenticated, Code::SignatureExpired, Code::NonceReused]),
            (SUSPENDED, FORBIDDEN.1),
            TIMEOUT,
            TOO_LARGE,
            (LIMITED, ADDRESS_LIMITED.1),
        ]),
    }
    match (audience(path), verb) {
        (Audience::Anybody, _) | (_, Verb::Get) => {}
        (Audience::Operator, _) => usual.push(MEDIA_TYPE),
        (Audience::Merchant, _) => usual.push((NO_JSON, MEDIA_TYPE.1)),
    }
    if (audience(path), verb) == (Audience::Merchant, Verb::Post) {
        usual.push((RUNNING, &[Code::IdempotencyInProgress]));
        usual.push((OTHER_BODY, &[Code::IdempotencyMismatch]));
    }
    usual
}

/// Refers to the shared response, or adds the codes to what the operation says of the same status.
fn add_error(operation: &mut Operation, name: &str, codes: &[Code]) {
    let Some(status) = codes.first().map(|code| code.status().as_str().to_owned()) else { return };
    let shared = || RefOr::Ref(Ref::from_response_name(name));
    if let RefOr::T(own) = operation.responses.responses.entry(status).or_insert_with(shared) {
        for code in codes {
            let quoted = format!("`{}`", code.as_str());
            if !own.description.contains(&quoted) {
                own.description = format!("{}; {quoted}", own.description);
            }
        }
    }
}

fn names_of(codes: &[Code]) -> String {
    codes.iter().map(|code| format!("`{}`", code.as_str())).collect::<Vec<_>>().join("; ")
}

fn describe_body(response: &mut Response) {
    let content = Content::new(Some(Ref::from_schema_name(ERROR_SCHEMA)));
    response.content.insert(String::from("application/json"), content);
}

/// Headers that answers have.
pub(super) struct UsualHeaders;

impl Modify for UsualHeaders {
    fn modify(&self, openapi: &mut OpenApi) {
        for_each_operation(openapi, |path, verb, operation| {
            for (status, response) in &mut operation.responses.responses {
                let RefOr::T(response) = response else { continue };
                add_headers(response, &[REQUEST_ID, CACHE_CONTROL]);
                if status == "401" {
                    add_headers(response, &[CHALLENGE]);
                }
                if path.starts_with("/docs") && status == "200" {
                    add_headers(response, &PAGE_HEADERS);
                }
                if status == "503" || status == "429" || response.description.contains("_IN_PROGRESS") {
                    add_headers(response, &[RETRY_AFTER]);
                }
                // What is not shared is answered after authentication.
                if audience(path) == Audience::Merchant {
                    add_headers(response, &LIMIT_HEADERS);
                    if verb == Verb::Post {
                        add_headers(response, &[REPLAYED]);
                    }
                }
            }
        });
    }
}

/// A header's name, type and meaning.
type HeaderText = (&'static str, Type, &'static str);

const REQUEST_ID: HeaderText = ("X-Request-Id", Type::String, "The request's id");
const CACHE_CONTROL: HeaderText = ("Cache-Control", Type::String, "`no-store`; only the files of `/docs` may be kept");
/// On what a browser shows.
const PAGE_HEADERS: [HeaderText; 3] = [
    ("Content-Security-Policy", Type::String, "Of the page alone: nothing is loaded from elsewhere"),
    ("Referrer-Policy", Type::String, "`no-referrer`"),
    ("X-Content-Type-Options", Type::String, "`nosniff`"),
];
const CHALLENGE: HeaderText = ("WWW-Authenticate", Type::String, "How to say who one is");
const RETRY_AFTER: HeaderText = ("Retry-After", Type::Integer, "Whole seconds to wait");
const REPLAYED: HeaderText = ("Idempotent-Replayed", Type::String, "`true` on the stored answer to a repeated request");
/// On every answer after authentication.
const LIMIT_HEADERS: [HeaderText; 7] = [
    ("X-RateLimit-Limit", Type::Integer, "The tier's requests per second"),
    ("X-RateLimit-Remaining", Type::Integer, "Requests possible now under the tightest window"),
    ("X-RateLimit-Reset", Type::Integer, "Unix second at which that window next frees one"),
    ("X-RateLimit-Tier", Type::String, "The merchant's tier"),
    ("X-RateLimit-NearLimit", Type::String, "`true` from 80 % of any limit on"),
    ("RateLimit-Policy", Type::String, "All limits, draft-ietf-httpapi-ratelimit-headers-11"),
    ("RateLimit", Type::String, "The limit nearest to exhaustion, the same draft"),
];

fn add_headers(response: &mut Response, headers: &[HeaderText]) {
    for (name, kind, description) in headers {
        let mut header = Header::new(Object::with_type(kind.clone()));
        header.description = Some(String::from(*description));
        response.headers.insert(String::from(*name), header);
    }
}
