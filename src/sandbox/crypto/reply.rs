//! Answers of the BTCPay emulator.

use serde_json::{Value, json};

/// An answer before it becomes HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn ok(body: &Value) -> Self {
        Self { status: 200, body: body.to_string() }
    }

    fn coded(status: u16, code: &str, message: &str) -> Self {
        Self { status, body: json!({ "code": code, "message": message }).to_string() }
    }
}

pub(super) fn not_found() -> Reply {
    Reply::coded(404, "not-found", "There is no such resource.")
}

pub(super) fn missing_invoice() -> Reply {
    Reply::coded(404, "invoice-not-found", "The invoice was not found")
}

pub(super) fn missing_pull() -> Reply {
    Reply::coded(404, "pullpayment-not-found", "The pull payment was not found")
}

pub(super) fn unauthenticated() -> Reply {
    Reply::coded(401, "unauthenticated", "Authentication is required for accessing this endpoint")
}

pub(super) fn other_store() -> Reply {
    Reply::coded(403, "missing-permission", "Insufficient API Permissions. Please use an API key of this store")
}

pub(super) fn rate_limited() -> Reply {
    Reply::coded(429, "too-many-requests", "Too many requests, please try again later.")
}

pub(super) fn internal_error() -> Reply {
    Reply { status: 500, body: String::from("Internal Server Error") }
}

pub(super) fn full() -> Reply {
    Reply::coded(503, "unavailable", "The emulator holds as much as it can.")
}

pub(super) fn not_refundable() -> Reply {
    Reply::coded(400, "non-refundable", "Cannot refund this invoice")
}

/// A field that is not as it has to be.
pub(super) fn invalid(path: &str, message: &str) -> Reply {
    Reply { status: 422, body: json!([{ "path": path, "message": message }]).to_string() }
}
