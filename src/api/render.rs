//! How an outcome of the gateway becomes the answer that is stored and sent: status and whole body, in the language and
//! with the id of the request that caused it.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::Serialize;

use crate::api::context::RequestContext;
use crate::api::envelope::Answer;
use crate::api::error::ApiError;
use crate::api::language::Language;
use crate::gateway::answer::{Renderer, Reply, StoredAnswer};
use crate::gateway::error::GatewayError;

/// The renderer for one request, which learns what it is about.
pub(crate) fn renderer(context: &Arc<RequestContext>) -> Renderer {
    let context = Arc::clone(context);
    Arc::new(move |reply| {
        context.numbers.note_reply(reply);
        render(reply, context.language, &context.request_id)
    })
}

fn render(reply: &Reply, language: Language, request_id: &str) -> StoredAnswer {
    match reply {
        Reply::PaymentCreated(payment) => {
            let status = match payment.status.as_str() {
                "pending" | "processing" => StatusCode::ACCEPTED,
                _ => StatusCode::CREATED,
            };
            success(status, payment, language, request_id)
        }
        Reply::PaymentCanceled(payment) => {
            let status = if payment.status == "canceled" { StatusCode::OK } else { StatusCode::ACCEPTED };
            success(status, payment, language, request_id)
        }
        Reply::RefundCreated(refund) => {
            let status = if refund.status == "pending" { StatusCode::ACCEPTED } else { StatusCode::CREATED };
            success(status, refund, language, request_id)
        }
        Reply::PaymentNotTaken(payment) => not_done("payment_no", &payment.payment_no, language, request_id),
        Reply::RefundNotDone(refund) => not_done("refund_no", &refund.refund_no, language, request_id),
        Reply::PreAuthCreated(pre_auth) => {
            success(created_status(&pre_auth.status, pre_auth.reconciling), pre_auth, language, request_id)
        }
        Reply::ChannelPreAuthCreated(pre_auth) => {
            success(created_status(&pre_auth.status, pre_auth.reconciling), pre_auth, language, request_id)
        }
        Reply::PreAuthCaptured(pre_auth) | Reply::PreAuthCanceled(pre_auth) => {
            success(ended_status(&pre_auth.status), pre_auth, language, request_id)
        }
        Reply::ChannelPreAuthCaptured(operation) | Reply::ChannelPreAuthCanceled(operation) => {
            success(ended_status(&operation.status), operation, language, request_id)
        }
        Reply::PreAuthNotDone { pre_auth_no } => not_done("pre_auth_no", pre_auth_no, language, request_id),
    }
}

/// Of a pre-auth that was created: whether it is known where it stands.
fn created_status(status: &str, reconciling: bool) -> StatusCode {
    if status == "processing" || reconciling { StatusCode::ACCEPTED } else { StatusCode::CREATED }
}

/// Of a pre-auth that was to be captured or canceled: whether it is.
fn ended_status(status: &str) -> StatusCode {
    match status {
        "captured" | "canceled" | "expired" | "failed" => StatusCode::OK,
        _ => StatusCode::ACCEPTED,
    }
}

fn success<T: Serialize>(status: StatusCode, data: &T, language: Language, request_id: &str) -> StoredAnswer {
    match Answer::of(status, data, language) {
        Ok(answer) => StoredAnswer { status: status.as_u16(), body: text(&answer.body) },
        // Views are plain data; should one not be writable all the same, the client is told that it does not know.
        Err(error) => failure(&error, language, request_id),
    }
}

fn not_done(field: &'static str, number: &str, language: Language, request_id: &str) -> StoredAnswer {
    failure(&ApiError::ChannelFailed { field, number: String::from(number) }, language, request_id)
}

fn failure(error: &ApiError, language: Language, request_id: &str) -> StoredAnswer {
    if let ApiError::Gateway(GatewayError::Internal(reason)) = error {
        tracing::error!(request_id, reason, "an answer could not be made");
    }
    StoredAnswer { status: error.code().status().as_u16(), body: text(&error.body(language, request_id)) }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::gateway::view::{PaymentView, RefundView};

    fn payment(status: &str) -> PaymentView {
        PaymentView {
            payment_no: String::from("PY1"),
            order_no: String::from("O1"),
            amount: 500,
            currency: String::from("USD"),
            status: String::from(status),
            reconciling: false,
            country: None,
            method: None,
            channel: None,
            channel_order_no: None,
            client_secret: None,
            next_action: None,
            routing: None,
            fee: None,
            refunded_amount: 0,
            failure: None,
            description: None,
            metadata: BTreeMap::new(),
            livemode: false,
            created_at: String::from("2025-01-24T10:30:45Z"),
            updated_at: String::from("2025-01-24T10:30:45Z"),
            paid_at: None,
            erased_at: None,
        }
    }

    fn refund(status: &str) -> RefundView {
        RefundView {
            refund_no: String::from("RF1"),
            payment_no: Some(String::from("PY1")),
            pre_auth_no: None,
            amount: 500,
            currency: String::from("USD"),
            status: String::from(status),
            reason: None,
            channel_refund_no: None,
            failure: None,
            livemode: false,
            created_at: String::new(),
            updated_at: String::new(),
        }
    }

    fn rendered(reply: &Reply) -> (u16, serde_json::Value) {
        let answer = render(reply, Language::English, "req_1");
        (answer.status, serde_json::from_str(&answer.body).unwrap())
    }

    #[test]
    fn what_is_known_is_created_and_what_is_not_is_accepted() {
        for (status, expected) in
            [("success", 201), ("failed", 201), ("requires_action", 201), ("processing", 202), ("pending", 202)]
        {
            let (http, body) = rendered(&Reply::PaymentCreated(payment(status)));
            assert_eq!(http, expected, "{status}");
            assert_eq!((&body["code"], &body["data"]["status"]), (&"SUCCESS".into(), &status.into()));
        }
        for (status, expected) in [("success", 201), ("failed", 201), ("pending", 202)] {
            assert_eq!(rendered(&Reply::RefundCreated(refund(status))).0, expected, "{status}");
        }
        for (status, expected) in [("canceled", 200), ("processing", 202)] {
            assert_eq!(rendered(&Reply::PaymentCanceled(payment(status))).0, expected, "{status}");
        }
    }

    #[test]
    fn what_the_channel_did_not_do_is_a_502_with_the_number() {
        let (http, body) = rendered(&Reply::PaymentNotTaken(payment("failed")));
        assert_eq!(http, 502);
        assert_eq!(body["code"], "CHANNEL_ERROR");
        assert_eq!((&body["payment_no"], &body["request_id"]), (&"PY1".into(), &"req_1".into()));
        let (http, body) = rendered(&Reply::RefundNotDone(refund("failed")));
        assert_eq!((http, &body["refund_no"]), (502, &"RF1".into()));
    }
}
