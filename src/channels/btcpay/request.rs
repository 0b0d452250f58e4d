//! The requests that are sent to a BTCPay server, and nothing about their answers.

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::channels::http::{Deadline, HttpAnswer, HttpClient, HttpError};
use crate::channels::{ChargeRequest, RefundRequest};

/// Metadata that holds our payment number. BTCPay finds invoices by it.
pub(super) const REFERENCE_KEY: &str = "orderId";
/// Metadata that holds the attempt's key, which tells attempts of one payment apart.
pub(super) const ATTEMPT_KEY: &str = "gatewayAttempt";
/// Metadata that holds the merchant's id.
pub(super) const MERCHANT_KEY: &str = "gatewayMerchant";
/// Metadata that holds the merchant's order number.
const ORDER_KEY: &str = "gatewayOrder";
/// Metadata by which the sandbox is told what its payer does.
const TOKEN_KEY: &str = "sandboxPaymentToken";

/// How long the payer has for an invoice: its rate is fixed for that time.
const EXPIRATION_MINUTES: u32 = 15;
/// How long after that the server looks for payments that come late. The order number is held until then.
const MONITORING_MINUTES: u32 = 1_440;
/// Invoices of one payment that are looked at; there is one.
const INVOICES_MAX: usize = 50;
/// Longest list of pull payments that is read: the server gives out all of a store's at once, some 400 bytes each.
const PULL_PAYMENTS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A new invoice. `token` is for the sandbox only.
pub(super) fn invoice_body(charge: &ChargeRequest, amount: &str, token: Option<&str>) -> Value {
    let mut metadata = json!({
        REFERENCE_KEY: charge.reference,
        ATTEMPT_KEY: charge.provider_key,
        MERCHANT_KEY: charge.merchant_id,
        ORDER_KEY: charge.order_no,
    });
    let optional = [
        ("itemDesc", charge.description.as_deref()),
        ("buyerEmail", charge.customer_email.as_deref()),
        (TOKEN_KEY, token),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            metadata[name] = json!(value);
        }
    }
    let mut checkout = json!({
        "speedPolicy": "MediumSpeed",
        "expirationMinutes": EXPIRATION_MINUTES,
        "monitoringMinutes": MONITORING_MINUTES,
        "paymentTolerance": 0,
    });
    if let Some(return_url) = &charge.return_url {
        checkout["redirectURL"] = json!(return_url);
    }
    json!({ "amount": amount, "currency": charge.money.currency.code(), "metadata": metadata, "checkout": checkout })
}

/// A refund: money that the payer claims, by our number.
pub(super) fn refund_body(request: &RefundRequest, amount: &str, payment_method_id: &str) -> Value {
    let mut body = json!({
        "name": request.refund_reference,
        "refundVariant": "Custom",
        "customAmount": amount,
        "customCurrency": request.money.currency.code(),
        "payoutMethodId": payment_method_id,
    });
    if let Some(reason) = &request.reason {
        body["description"] = json!(reason);
    }
    body
}

/// Sends requests with the key of one store.
pub(super) struct BtcpayClient {
    http: HttpClient,
    authorization: Zeroizing<String>,
    store_id: String,
}

impl BtcpayClient {
    pub(super) fn new(http: HttpClient, api_key: &str, store_id: String) -> Self {
        Self { http, authorization: Zeroizing::new(format!("token {api_key}")), store_id }
    }

    /// The store's id.
    pub(super) fn store_id(&self) -> &str {
        &self.store_id
    }

    pub(super) fn deadline(&self) -> Deadline {
        self.http.deadline()
    }

    pub(super) async fn create_invoice(&self, body: &Value, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.send(self.http.post_json(&self.of_store("invoices"), body), deadline).await
    }

    pub(super) async fn get_invoice(&self, id: &str, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.send(self.http.get(&of_invoice(id, ""), &[]), deadline).await
    }

    /// The invoices of one payment.
    pub(super) async fn find_invoices(&self, reference: &str, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        let query = [
            (String::from("orderId"), reference.to_owned()),
            (String::from("take"), INVOICES_MAX.to_string()),
            (String::from("includeArchived"), String::from("true")),
        ];
        self.send(self.http.get(&self.of_store("invoices"), &query), deadline).await
    }

    /// One invoice, whichever: shows whether the key opens the store.
    pub(super) async fn any_invoice(&self, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        let query = [(String::from("take"), String::from("1"))];
        self.send(self.http.get(&self.of_store("invoices"), &query), deadline).await
    }

    /// Closes an invoice. What is paid for it nevertheless is noticed while it is monitored.
    pub(super) async fn close_invoice(&self, id: &str, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.send(self.http.post_json(&of_invoice(id, "/status"), &json!({ "status": "Invalid" })), deadline).await
    }

    pub(super) async fn payment_methods(&self, id: &str, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.send(self.http.get(&of_invoice(id, "/payment-methods"), &[]), deadline).await
    }

    pub(super) async fn refund(&self, id: &str, body: &Value, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.send(self.http.post_json(&of_invoice(id, "/refund"), body), deadline).await
    }

    /// All of the store's pull payments, among them refunds.
    pub(super) async fn pull_payments(&self, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        let query = [(String::from("includeArchived"), String::from("true"))];
        let request = self.http.get(&self.of_store("pull-payments"), &query);
        let request = request.header("authorization", self.authorization.as_str());
        self.http.send_up_to(request, deadline, PULL_PAYMENTS_BYTES_MAX).await
    }

    /// One pull payment.
    pub(super) async fn pull_payment(&self, id: &str, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.send(self.http.get(&format!("/api/v1/pull-payments/{id}"), &[]), deadline).await
    }

    /// The claims of a pull payment.
    pub(super) async fn payouts(&self, id: &str, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        let query = [(String::from("includeCancelled"), String::from("true"))];
        self.send(self.http.get(&format!("/api/v1/pull-payments/{id}/payouts"), &query), deadline).await
    }

    fn of_store(&self, what: &str) -> String {
        format!("/api/v1/stores/{}/{what}", self.store_id)
    }

    async fn send(&self, request: RequestBuilder, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.http.send(request.header("authorization", self.authorization.as_str()), deadline).await
    }
}

fn of_invoice(id: &str, what: &str) -> String {
    format!("/api/v1/invoices/{id}{what}")
}
