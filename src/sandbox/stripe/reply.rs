//! Answers of the Stripe emulator, errors above all.

use serde_json::{Value, json};

use crate::sandbox::stripe::cards::Decline;

/// An answer before it becomes HTTP.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
    /// Whether the request got beyond validation, so that its key remembers this answer.
    pub(super) recorded: bool,
}

impl Reply {
    pub(super) fn ok(body: &Value) -> Self {
        Self { status: 200, body: body.to_string(), recorded: true }
    }

    /// Refused before anything was done.
    pub(super) fn invalid(status: u16, error: Value) -> Self {
        Self { status, body: json!({ "error": error }).to_string(), recorded: false }
    }

    /// Refused by what was found when it was tried.
    pub(super) fn refused(status: u16, error: Value) -> Self {
        Self { recorded: true, ..Self::invalid(status, error) }
    }
}

pub(super) fn invalid_request(code: Option<&str>, param: Option<&str>, message: &str) -> Value {
    let mut error = json!({ "type": "invalid_request_error", "message": message });
    if let Some(code) = code {
        error["code"] = json!(code);
        error["doc_url"] = json!(format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-")));
    }
    if let Some(param) = param {
        error["param"] = json!(param);
    }
    error
}

pub(super) fn unauthorized() -> Reply {
    Reply::invalid(401, invalid_request(None, None, "Invalid API Key provided."))
}

pub(super) fn rate_limited() -> Reply {
    let message = "Request rate limit exceeded. You can learn more about rate limits here: \
                   https://stripe.com/docs/rate-limits.";
    Reply::invalid(429, invalid_request(Some("rate_limit"), None, message))
}

pub(super) fn key_in_use() -> Reply {
    let message = "There is currently another in-progress request using this Idempotent Key.";
    Reply::invalid(409, invalid_request(Some("idempotency_key_in_use"), None, message))
}

pub(super) fn key_conflict() -> Reply {
    let message = "Keys for idempotent requests can only be used with the same parameters they were first used with. \
                   Try using a key other than the one given if you meant to execute a different request.";
    Reply::invalid(400, json!({ "type": "idempotency_error", "message": message }))
}

pub(super) fn internal_error() -> Reply {
    Reply::refused(500, json!({ "type": "api_error", "message": "An unknown error occurred." }))
}

pub(super) fn full() -> Reply {
    Reply::invalid(503, json!({ "type": "api_error", "message": "The emulator holds as much as it can." }))
}

pub(super) fn missing(kind: &str, id: &str, param: &str) -> Reply {
    let message = format!("No such {kind}: '{id}'");
    Reply::invalid(404, invalid_request(Some("resource_missing"), Some(param), &message))
}

pub(super) fn unknown_route(method: &str, path: &str) -> Reply {
    let message = format!("Unrecognized request URL ({method}: {path}).");
    Reply::invalid(404, invalid_request(None, None, &message))
}

pub(super) fn bad_parameter(code: &str, param: &str, message: &str) -> Reply {
    Reply::invalid(400, invalid_request(Some(code), Some(param), message))
}

/// A card's refusal as it stands in `last_payment_error` and in the error that reports it.
pub(super) fn card_error(decline: Decline, charge_id: &str) -> Value {
    let mut error = json!({
        "type": "card_error",
        "code": decline.code,
        "decline_code": decline.decline_code,
        "message": decline.message,
        "charge": charge_id,
    });
    let further = [
        ("advice_code", decline.advice_code),
        ("network_decline_code", decline.network_decline_code),
        ("network_advice_code", decline.network_advice_code),
    ];
    for (name, code) in further {
        if let Some(code) = code {
            error[name] = json!(code);
        }
    }
    error
}
