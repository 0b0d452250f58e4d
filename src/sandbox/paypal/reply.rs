//! Answers of the PayPal emulator, errors above all.

use serde_json::{Value, json};

/// What PayPal's support would ask for.
pub(super) const DEBUG_ID: &str = "0a1b2c3d4e5f6a7b";

/// What a request's id remembers: where to look for what it made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Made {
    Order(String),
    Authorization(String),
    Capture(String),
    Refund(String),
    /// Nothing: it failed inside PayPal, and is refused from then on.
    Nothing,
}

/// An answer before it becomes HTTP.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) made: Option<Made>,
}

/// What becomes of a request inside.
pub(super) enum Step {
    /// It has this answer.
    Done(Reply),
    /// It has this answer, and its connection is cut in place of it.
    Lost(Reply),
    /// It never gets one, and nothing was done.
    Held,
}

impl Reply {
    pub(super) const fn new(status: u16, body: Value) -> Self {
        Self { status, body, made: None }
    }

    pub(super) const fn making(status: u16, body: Value, made: Made) -> Self {
        Self { status, body, made: Some(made) }
    }
}

fn error(status: u16, name: &str, message: &str, details: &Value) -> Reply {
    let body = json!({ "name": name, "message": message, "debug_id": DEBUG_ID, "details": details, "links": [] });
    Reply::new(status, body)
}

/// Looked at, and refused for this reason.
pub(super) fn unprocessable(issue: &str) -> Reply {
    let message = "The requested action could not be performed, semantically incorrect, or failed business validation.";
    error(422, "UNPROCESSABLE_ENTITY", message, &json!([{ "issue": issue, "description": "See the issue." }]))
}

/// Not even looked at.
pub(super) fn invalid(issue: &str, field: &str) -> Reply {
    let message = "Request is not well-formed, syntactically incorrect, or violates schema.";
    let details = json!([{ "field": field, "location": "body", "issue": issue, "description": "See the issue." }]);
    error(400, "INVALID_REQUEST", message, &details)
}

pub(super) fn not_found() -> Reply {
    let details = json!([{ "issue": "INVALID_RESOURCE_ID", "description": "There is no such resource." }]);
    error(404, "RESOURCE_NOT_FOUND", "The specified resource does not exist.", &details)
}

pub(super) fn unauthorized() -> Reply {
    Reply::new(401, json!({ "error": "invalid_token", "error_description": "The token is not known or too old." }))
}

pub(super) fn invalid_client() -> Reply {
    Reply::new(401, json!({ "error": "invalid_client", "error_description": "Client Authentication failed" }))
}

pub(super) fn rate_limited() -> Reply {
    error(429, "RATE_LIMIT_REACHED", "Too many requests. Blocked due to rate limiting.", &json!([]))
}

pub(super) fn internal_error() -> Reply {
    error(500, "INTERNAL_SERVER_ERROR", "An internal server error has occurred.", &json!([]))
}

pub(super) fn unsupported_media_type() -> Reply {
    error(415, "UNSUPPORTED_MEDIA_TYPE", "The server does not support the request payload's media type.", &json!([]))
}

pub(super) fn full() -> Reply {
    error(503, "SERVICE_UNAVAILABLE", "The emulator is full.", &json!([]))
}
