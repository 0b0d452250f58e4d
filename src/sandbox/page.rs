//! The payer's page: where somebody who has to act approves or declines.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Response};

use crate::sandbox::server::{Call, answer};

/// Where pages are, below an emulator's address.
const PREFIX: &str = "/pay/";

/// What a payer does with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visit {
    /// Looks at it.
    Look,
    /// Approves.
    Approve,
    /// Declines.
    Decline,
}

/// The path of a page.
pub(super) fn path_of(id: &str) -> String {
    format!("{PREFIX}{id}")
}

/// The page and what is done with it, if the request is one of a payer.
pub(super) fn visit(call: &Call) -> Option<(&str, Visit)> {
    let rest = call.path.strip_prefix(PREFIX)?;
    let (id, action) = rest.split_once('/').unwrap_or((rest, ""));
    let visit = match (&call.method, action) {
        (&Method::GET, "") => Visit::Look,
        (&Method::POST, "approve") => Visit::Approve,
        (&Method::POST, "decline") => Visit::Decline,
        _ => return None,
    };
    Some((id, visit))
}

/// Answers a visit. `state` says how the payment stands now; `None` when there is no such page.
pub(super) fn render(id: &str, state: Option<&str>, waits: bool) -> Response<Full<Bytes>> {
    let Some(state) = state else {
        return answer(404, "text/html; charset=utf-8", "<!doctype html><title>Not found</title><p>No such payment.");
    };
    // Ids are letters, digits and underscores, or else there is no state: nothing here needs escaping.
    let form = if waits {
        format!(
            "<form method=\"post\" action=\"/pay/{id}/approve\"><button>Approve</button></form>\
             <form method=\"post\" action=\"/pay/{id}/decline\"><button>Decline</button></form>"
        )
    } else {
        String::new()
    };
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Sandbox payment</title>\
         <h1>Sandbox payment</h1><p>{id}: {state}</p>{form}</html>"
    );
    answer(200, "text/html; charset=utf-8", body)
}
