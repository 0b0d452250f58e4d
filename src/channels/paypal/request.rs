//! The requests that are sent to PayPal, and nothing about their answers.

use reqwest::RequestBuilder;
use serde_json::{Map, Value, json};

use crate::channels::http::{Deadline, HttpAnswer, HttpClient, HttpError};
use crate::channels::paypal::token::{Granted, TokenError, Tokens};
use crate::channels::{AuthorizeRequest, ChargeRequest};
use crate::clock::Clock;
use crate::domain::money::{Currency, Money};

/// Longest `custom_id` that PayPal takes.
const CUSTOM_ID_LENGTH_MAX: usize = 127;
/// Longest description that PayPal takes.
const DESCRIPTION_CHARACTERS_MAX: usize = 127;
/// What stands between our number and the merchant's id.
const SEPARATOR: char = '~';

/// What becomes of the money of an order once the payer has approved it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    Capture,
    Authorize,
}

/// What an order is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) intent: Intent,
    pub(super) reference: &'a str,
    pub(super) merchant_id: &'a str,
    pub(super) provider_key: &'a str,
    pub(super) money: Money,
    /// Whether the token is a card's.
    pub(super) is_card: bool,
    pub(super) token: Option<&'a str>,
    pub(super) description: Option<&'a str>,
    pub(super) return_url: Option<&'a str>,
}

impl<'a> Terms<'a> {
    /// Of a charge with this token.
    pub(super) fn of_charge(charge: &'a ChargeRequest, token: Option<&'a str>) -> Self {
        Self {
            intent: Intent::Capture,
            reference: &charge.reference,
            merchant_id: &charge.merchant_id,
            provider_key: &charge.provider_key,
            money: charge.money,
            is_card: charge.method.as_deref() == Some("card"),
            token,
            description: charge.description.as_deref(),
            return_url: charge.return_url.as_deref(),
        }
    }

    /// Of a hold.
    pub(super) fn of_hold(hold: &'a AuthorizeRequest) -> Self {
        Self {
            intent: Intent::Authorize,
            reference: &hold.reference,
            merchant_id: &hold.merchant_id,
            provider_key: &hold.provider_key,
            money: hold.money,
            is_card: false,
            token: hold.payment_token.as_deref(),
            description: hold.description.as_deref(),
            return_url: hold.return_url.as_deref(),
        }
    }

    /// The same without means of payment, so that nothing moves unless its payer approves: to use up the id of what must not
    /// be done any more. What arrives with that id later is answered with this order.
    pub(super) const fn for_closing(self) -> Self {
        Self { token: None, ..self }
    }

    /// What PayPal keeps beside the money and shows with everything that belongs to it.
    pub(super) fn custom_id(&self) -> String {
        custom_id_of(self.reference, self.merchant_id)
    }

    fn order(&self, value: &str) -> Value {
        let mut unit = json!({
            "reference_id": "default",
            "custom_id": self.custom_id(),
            "invoice_id": self.provider_key,
            "amount": amount_of(self.money.currency, value),
        });
        if let Some(description) = self.description.filter(|text| !text.trim().is_empty()) {
            unit["description"] = description.chars().take(DESCRIPTION_CHARACTERS_MAX).collect::<String>().into();
        }
        let intent = match self.intent {
            Intent::Capture => "CAPTURE",
            Intent::Authorize => "AUTHORIZE",
        };
        json!({ "intent": intent, "purchase_units": [unit], "payment_source": self.payment_source() })
    }

    fn payment_source(&self) -> Value {
        if let Some(token) = self.token {
            let kind = if self.is_card { "card" } else { "paypal" };
            return json!({ kind: { "vault_id": token } });
        }
        let mut experience = Map::new();
        experience.insert(String::from("user_action"), "PAY_NOW".into());
        experience.insert(String::from("shipping_preference"), "NO_SHIPPING".into());
        if let Some(url) = self.return_url {
            experience.insert(String::from("return_url"), url.into());
            experience.insert(String::from("cancel_url"), url.into());
        }
        json!({ "paypal": { "experience_context": experience } })
    }
}

/// Our number and whose it is in one. A merchant's id that does not fit is left out.
pub(super) fn custom_id_of(reference: &str, merchant_id: &str) -> String {
    let whole = format!("{reference}{SEPARATOR}{merchant_id}");
    if whole.len() > CUSTOM_ID_LENGTH_MAX { reference.to_owned() } else { whole }
}

/// Our number and the merchant's id in a `custom_id`.
pub(super) fn reference_in(custom_id: &str) -> (&str, Option<&str>) {
    match custom_id.split_once(SEPARATOR) {
        Some((reference, merchant_id)) => (reference, Some(merchant_id).filter(|id| !id.is_empty())),
        None => (custom_id, None),
    }
}

/// An amount as PayPal wants it.
pub(super) fn amount_of(currency: Currency, value: &str) -> Value {
    json!({ "currency_code": currency.code(), "value": value })
}

/// Sends requests with an access token, and once more with a new one when that is not taken any more.
pub(super) struct PaypalClient {
    http: HttpClient,
    tokens: Tokens,
}

impl PaypalClient {
    pub(super) fn new(http: HttpClient, clock: Clock, client_id: &str, client_secret: &str) -> Self {
        let tokens = Tokens::new(http.clone(), clock, client_id, client_secret);
        Self { http, tokens }
    }

    /// The deadline of a call that begins now.
    pub(super) fn deadline(&self) -> Deadline {
        self.http.deadline()
    }

    /// The client beneath, which knows no token.
    pub(super) const fn http(&self) -> &HttpClient {
        &self.http
    }

    /// Fetches a new access token.
    ///
    /// # Errors
    /// [`TokenError`].
    pub(super) async fn renew_token(&self) -> Result<Granted, TokenError> {
        self.tokens.renew(self.deadline()).await
    }

    /// Makes an order.
    pub(super) async fn create_order(
        &self,
        terms: &Terms<'_>,
        value: &str,
        deadline: Deadline,
    ) -> Result<HttpAnswer, HttpError> {
        self.post("/v2/checkout/orders", &terms.order(value), Some(terms.provider_key), deadline).await
    }

    /// Reads an order.
    pub(super) async fn get_order(&self, id: &str, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.get(&format!("/v2/checkout/orders/{}", segment(id)), deadline).await
    }

    /// Takes the money of an order that the payer has approved, or holds it.
    pub(super) async fn finish_order(
        &self,
        id: &str,
        terms: &Terms<'_>,
        deadline: Deadline,
    ) -> Result<HttpAnswer, HttpError> {
        let (verb, key) = match terms.intent {
            Intent::Capture => ("capture", format!("{}c", terms.provider_key)),
            Intent::Authorize => ("authorize", format!("{}a", terms.provider_key)),
        };
        self.post(&format!("/v2/checkout/orders/{}/{verb}", segment(id)), &json!({}), Some(&key), deadline).await
    }

    /// Reads an authorization.
    pub(super) async fn get_authorization(&self, id: &str, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.get(&authorization(id, ""), deadline).await
    }

    /// Takes held money, all that will ever be taken of it.
    pub(super) async fn capture(
        &self,
        id: &str,
        body: &Value,
        key: &str,
        deadline: Deadline,
    ) -> Result<HttpAnswer, HttpError> {
        self.post(&authorization(id, "/capture"), body, Some(key), deadline).await
    }

    /// Releases held money. Repeating it is harmless by itself.
    pub(super) async fn void(&self, id: &str, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.post(&authorization(id, "/void"), &json!({}), None, deadline).await
    }

    /// Holds money for longer.
    pub(super) async fn reauthorize(
        &self,
        id: &str,
        body: &Value,
        key: &str,
        deadline: Deadline,
    ) -> Result<HttpAnswer, HttpError> {
        self.post(&authorization(id, "/reauthorize"), body, Some(key), deadline).await
    }

    /// Reads a capture.
    pub(super) async fn get_capture(&self, id: &str, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.get(&format!("/v2/payments/captures/{}", segment(id)), deadline).await
    }

    /// Gives money back.
    pub(super) async fn refund(
        &self,
        capture_id: &str,
        body: &Value,
        key: &str,
        deadline: Deadline,
    ) -> Result<HttpAnswer, HttpError> {
        self.post(&format!("/v2/payments/captures/{}/refund", segment(capture_id)), body, Some(key), deadline).await
    }

    /// Lets PayPal itself check a notification.
    pub(super) async fn check_signature(&self, body: Vec<u8>, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.send(self.http.post_json_text("/v1/notifications/verify-webhook-signature", body), deadline).await
    }

    async fn get(&self, path: &str, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.send(self.http.get(path, &[]), deadline).await
    }

    async fn post(
        &self,
        path: &str,
        body: &Value,
        key: Option<&str>,
        deadline: Deadline,
    ) -> Result<HttpAnswer, HttpError> {
        let mut request = self.http.post_json(path, body).header("Prefer", "return=representation");
        if let Some(key) = key {
            request = request.header("PayPal-Request-Id", key);
        }
        self.send(request, deadline).await
    }

    async fn send(&self, request: RequestBuilder, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        let token = self.tokens.get(None, deadline).await?;
        let again = request.try_clone();
        let answer = self.http.send(request.bearer_auth(token.as_str()), deadline).await?;
        let Some(again) = again.filter(|_| answer.status == 401) else { return Ok(answer) };
        // A token that is not taken has kept the request from being looked at. Without another, that is the answer.
        match self.tokens.get(Some(&token), deadline).await {
            Ok(token) => self.http.send(again.bearer_auth(token.as_str()), deadline).await,
            Err(_) => Ok(answer),
        }
    }
}

fn authorization(id: &str, verb: &str) -> String {
    format!("/v2/payments/authorizations/{}{verb}", segment(id))
}

/// Ids go into paths; whatever is not part of one is dropped, so that an id can't lead elsewhere.
fn segment(id: &str) -> String {
    id.chars().filter(|character| character.is_ascii_alphanumeric() || matches!(character, '_' | '-')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_number_comes_back_with_whose_it_is() {
        assert_eq!(reference_in(&custom_id_of("PY1", "m_1")), ("PY1", Some("m_1")));
        assert_eq!(reference_in(&custom_id_of("PY1", &"m".repeat(200))), ("PY1", None));
        assert_eq!(reference_in("PY1~"), ("PY1", None));
        assert_eq!(reference_in("inv-1"), ("inv-1", None));
    }

    #[test]
    fn an_id_leads_nowhere_else() {
        assert_eq!(segment("../../v1/oauth2/token?x=1"), "v1oauth2tokenx1");
        assert_eq!(segment("5O190127TN364715T"), "5O190127TN364715T");
    }
}
