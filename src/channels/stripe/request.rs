//! The requests that are sent to Stripe, and nothing about their answers.

use reqwest::RequestBuilder;
use zeroize::Zeroizing;

use crate::channels::http::{Deadline, HttpAnswer, HttpClient, HttpError};
use crate::channels::stripe::{
    ATTEMPT_KEY, CAPTURE_KEY, CLOSED_KEY, MERCHANT_KEY, ORDER_KEY, REFERENCE_KEY, REFUND_KEY,
};
use crate::channels::{AuthorizeRequest, CaptureRequest, ChargeRequest, RefundRequest};
use crate::domain::money::Currency;
use crate::domain::time::Timestamp;

/// The same for a page of a list: of a hundred objects, each with others in it, indented.
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The version of Stripe's API that this adapter was written for.
const API_VERSION: &str = "2026-08-26.dahlia";
/// Objects on one page of a list; Stripe gives at most this many.
const PAGE_OBJECTS: &str = "100";

/// Form or query parameters in order.
pub(super) type Parameters = Vec<(String, String)>;

fn pair(name: impl Into<String>, value: impl Into<String>) -> (String, String) {
    (name.into(), value.into())
}

/// What a PaymentIntent is made of, be it a charge or a hold.
struct NewIntent<'a> {
    reference: &'a str,
    provider_key: &'a str,
    merchant_id: &'a str,
    order_no: &'a str,
    currency: Currency,
    amount: i64,
    capture_method: &'static str,
    description: Option<&'a str>,
    customer_email: Option<&'a str>,
    return_url: Option<&'a str>,
    token: Option<&'a str>,
}

/// The parameters of a PaymentIntent that charges.
pub(super) fn charge_parameters(charge: &ChargeRequest, amount: i64, token: Option<&str>) -> Parameters {
    intent_parameters(&NewIntent {
        reference: &charge.reference,
        provider_key: &charge.provider_key,
        merchant_id: &charge.merchant_id,
        order_no: &charge.order_no,
        currency: charge.money.currency,
        amount,
        // Captured before the answer. By default Stripe captures behind it, and the answer lacks the fee.
        capture_method: "automatic",
        description: charge.description.as_deref(),
        customer_email: charge.customer_email.as_deref(),
        return_url: charge.return_url.as_deref(),
        token,
    })
}

/// The parameters of a PaymentIntent that holds.
pub(super) fn hold_parameters(hold: &AuthorizeRequest, amount: i64) -> Parameters {
    intent_parameters(&new_hold(hold, amount, hold.payment_token.as_deref()))
}

fn new_hold<'a>(hold: &'a AuthorizeRequest, amount: i64, token: Option<&'a str>) -> NewIntent<'a> {
    NewIntent {
        reference: &hold.reference,
        provider_key: &hold.provider_key,
        merchant_id: &hold.merchant_id,
        order_no: &hold.order_no,
        currency: hold.money.currency,
        amount,
        capture_method: "manual",
        description: hold.description.as_deref(),
        customer_email: hold.customer_email.as_deref(),
        return_url: hold.return_url.as_deref(),
        token,
    }
}

fn intent_parameters(intent: &NewIntent<'_>) -> Parameters {
    let mut form = vec![
        pair("amount", intent.amount.to_string()),
        pair("currency", intent.currency.code().to_ascii_lowercase()),
        pair("payment_method_types[]", "card"),
        pair("capture_method", intent.capture_method),
        pair(format!("metadata[{REFERENCE_KEY}]"), intent.reference),
        pair(format!("metadata[{ATTEMPT_KEY}]"), intent.provider_key),
        pair(format!("metadata[{MERCHANT_KEY}]"), intent.merchant_id),
        pair(format!("metadata[{ORDER_KEY}]"), intent.order_no),
    ];
    if let Some(description) = intent.description {
        form.push(pair("description", description));
    }
    if let Some(email) = intent.customer_email {
        form.push(pair("receipt_email", email));
    }
    if let Some(token) = intent.token {
        form.push(pair("confirm", "true"));
        form.push(pair("expand[]", "latest_charge.balance_transaction"));
        if token.starts_with("tok_") {
            form.push(pair("payment_method_data[type]", "card"));
            form.push(pair("payment_method_data[card][token]", token));
        } else {
            form.push(pair("payment_method", token));
        }
        if let Some(return_url) = intent.return_url {
            form.push(pair("return_url", return_url));
        }
    }
    form
}

/// The parameters of a PaymentIntent that is made only to use up its key: it is never confirmed, and it says so.
pub(super) fn closing_parameters(charge: &ChargeRequest, amount: i64) -> Parameters {
    let mut form = charge_parameters(charge, amount, None);
    form.push(pair(format!("metadata[{CLOSED_KEY}]"), "true"));
    form
}

/// The same for a hold.
pub(super) fn closing_hold_parameters(hold: &AuthorizeRequest, amount: i64) -> Parameters {
    let mut form = intent_parameters(&new_hold(hold, amount, None));
    form.push(pair(format!("metadata[{CLOSED_KEY}]"), "true"));
    form
}

/// The parameters of a capture. What is not captured is released.
pub(super) fn capture_parameters(request: &CaptureRequest, amount: i64) -> Parameters {
    vec![
        pair("amount_to_capture", amount.to_string()),
        pair("final_capture", "true"),
        pair(format!("metadata[{CAPTURE_KEY}]"), request.capture_reference.clone()),
        pair("expand[]", "latest_charge.balance_transaction"),
    ]
}

/// The parameters of a refund.
pub(super) fn refund_parameters(request: &RefundRequest, intent_id: &str, amount: i64) -> Parameters {
    vec![
        pair("payment_intent", intent_id),
        pair("amount", amount.to_string()),
        pair("reason", "requested_by_customer"),
        pair(format!("metadata[{REFERENCE_KEY}]"), request.reference.clone()),
        pair(format!("metadata[{REFUND_KEY}]"), request.refund_reference.clone()),
        pair(format!("metadata[{MERCHANT_KEY}]"), request.merchant_id.clone()),
    ]
}

/// Sends requests with Stripe's headers.
#[derive(Clone)]
pub(super) struct StripeClient {
    http: HttpClient,
    secret_key: Zeroizing<String>,
}

impl StripeClient {
    pub(super) fn new(http: HttpClient, secret_key: String) -> Self {
        Self { http, secret_key: Zeroizing::new(secret_key) }
    }

    /// The deadline of a call that begins now.
    pub(super) fn deadline(&self) -> Deadline {
        self.http.deadline()
    }

    /// Makes a PaymentIntent.
    pub(super) async fn create_intent(
        &self,
        form: &Parameters,
        key: &str,
        deadline: Deadline,
    ) -> Result<HttpAnswer, HttpError> {
        let request = self.http.post_form("/v1/payment_intents", &[], form).header("Idempotency-Key", key);
        self.send(request, deadline).await
    }

    /// Reads a PaymentIntent.
    pub(super) async fn get_intent(&self, id: &str, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        let expand = [pair("expand[]", "latest_charge.balance_transaction")];
        self.send(self.http.get(&format!("/v1/payment_intents/{}", segment(id)), &expand), deadline).await
    }

    /// Takes what a PaymentIntent holds.
    pub(super) async fn capture_intent(
        &self,
        id: &str,
        form: &Parameters,
        key: &str,
        deadline: Deadline,
    ) -> Result<HttpAnswer, HttpError> {
        let path = format!("/v1/payment_intents/{}/capture", segment(id));
        self.send(self.http.post_form(&path, &[], form).header("Idempotency-Key", key), deadline).await
    }

    /// Reads whose account it is.
    pub(super) async fn get_account(&self, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.send(self.http.get("/v1/account", &[]), deadline).await
    }

    /// Reads the newest PaymentIntent there is.
    pub(super) async fn newest_intent(&self, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.send(self.http.get("/v1/payment_intents", &[pair("limit", "1")]), deadline).await
    }

    /// Cancels a PaymentIntent. Without a key: repeating it is harmless by itself, and a recorded failure would only
    /// stand in the way.
    pub(super) async fn cancel_intent(&self, id: &str, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        let form = [pair("cancellation_reason", "requested_by_customer")];
        self.send(self.http.post_form(&format!("/v1/payment_intents/{}/cancel", segment(id)), &[], &form), deadline)
            .await
    }

    /// Lists PaymentIntents made from `since` to `until`, newest first, those after `starting_after` only.
    pub(super) async fn list_intents(
        &self,
        since: Timestamp,
        until: Timestamp,
        starting_after: Option<&str>,
        deadline: Deadline,
    ) -> Result<HttpAnswer, HttpError> {
        let mut query = vec![
            pair("limit", PAGE_OBJECTS),
            pair("created[gte]", since.unix_s().to_string()),
            pair("created[lte]", until.unix_s().to_string()),
            pair("expand[]", "data.latest_charge.balance_transaction"),
        ];
        query.extend(starting_after.map(|id| pair("starting_after", id)));
        self.get_page("/v1/payment_intents", &query, deadline).await
    }

    /// Lists PaymentIntents made since `since`, as [`StripeClient::list_intents`] does.
    pub(super) async fn list_intents_since(
        &self,
        since: Timestamp,
        starting_after: Option<&str>,
        deadline: Deadline,
    ) -> Result<HttpAnswer, HttpError> {
        let mut query = since_query(since, starting_after);
        query.push(pair("expand[]", "data.latest_charge.balance_transaction"));
        self.get_page("/v1/payment_intents", &query, deadline).await
    }

    /// Lists refunds made since `since`, newest first.
    pub(super) async fn list_refunds_since(
        &self,
        since: Timestamp,
        starting_after: Option<&str>,
        deadline: Deadline,
    ) -> Result<HttpAnswer, HttpError> {
        self.get_page("/v1/refunds", &since_query(since, starting_after), deadline).await
    }

    /// Gives money back.
    pub(super) async fn create_refund(
        &self,
        form: &Parameters,
        key: &str,
        deadline: Deadline,
    ) -> Result<HttpAnswer, HttpError> {
        let request = self.http.post_form("/v1/refunds", &[], form).header("Idempotency-Key", key);
        self.send(request, deadline).await
    }

    /// Reads a refund.
    pub(super) async fn get_refund(&self, id: &str, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.send(self.http.get(&format!("/v1/refunds/{}", segment(id)), &[]), deadline).await
    }

    /// Lists the refunds of a PaymentIntent, newest first, those after `starting_after` only.
    pub(super) async fn list_refunds(
        &self,
        intent_id: &str,
        starting_after: Option<&str>,
        deadline: Deadline,
    ) -> Result<HttpAnswer, HttpError> {
        let mut query = vec![pair("limit", PAGE_OBJECTS), pair("payment_intent", intent_id)];
        query.extend(starting_after.map(|id| pair("starting_after", id)));
        self.get_page("/v1/refunds", &query, deadline).await
    }

    async fn send(&self, request: RequestBuilder, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.http.send(self.with_headers(request), deadline).await
    }

    async fn get_page(&self, path: &str, query: &Parameters, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.http.send_up_to(self.with_headers(self.http.get(path, query)), deadline, PAGE_BYTES_MAX).await
    }

    fn with_headers(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(self.secret_key.as_str()).header("Stripe-Version", API_VERSION)
    }
}

fn since_query(since: Timestamp, starting_after: Option<&str>) -> Parameters {
    let mut query = vec![pair("limit", PAGE_OBJECTS), pair("created[gte]", since.unix_s().to_string())];
    query.extend(starting_after.map(|id| pair("starting_after", id)));
    query
}

/// Ids go into paths; whatever is not part of one is dropped, so that an id can't lead elsewhere.
fn segment(id: &str) -> String {
    id.chars().filter(|character| character.is_ascii_alphanumeric() || *character == '_').collect()
}
