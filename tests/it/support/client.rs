//! A merchant's client: signs every request as the contract says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tollgate::domain::signature::SignedParts;

static NONCES: AtomicU64 = AtomicU64::new(1);

/// An API key.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub secret: String,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub text: String,
    pub body: Value,
}

impl Answer {
    pub fn data(&self, field: &str) -> &str {
        self.body["data"][field].as_str().unwrap_or_default()
    }

    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

/// A merchant.
#[derive(Clone, Debug)]
pub struct Client {
    pub url: String,
    pub key: Key,
    pub merchant_id: String,
}

#[allow(clippy::disallowed_methods, reason = "a client of its own has a clock of its own")]
pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn nonce() -> String {
    format!("n-{}-{}", std::process::id(), NONCES.fetch_add(1, Ordering::SeqCst))
}

impl Client {
    pub fn new(url: &str, key: Key, merchant_id: &str) -> Self {
        Self { url: url.to_owned(), key, merchant_id: merchant_id.to_owned() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, None, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.request("POST", path, Some(body.to_string()), None).await
    }

    pub async fn post_with_key(&self, path: &str, body: Value, idempotency_key: &str) -> Answer {
        self.request("POST", path, Some(body.to_string()), Some(idempotency_key)).await
    }

    pub async fn pay(&self, order_no: &str, amount: i64, more: Value) -> Answer {
        let mut body = serde_json::json!({ "order_no": order_no, "amount": amount, "currency": "USD" });
        for (field, value) in more.as_object().unwrap() {
            body[field] = value.clone();
        }
        self.post("/api/v1/payments", body).await
    }

    pub async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
        idempotency_key: Option<&str>,
    ) -> Answer {
        let headers =
            self.signed(method, path, body.as_deref().unwrap_or_default(), idempotency_key, unix_s(), &nonce());
        send(&self.url, method, path, body, headers).await
    }

    /// The headers of a signed request.
    pub fn signed(
        &self,
        method: &str,
        path: &str,
        body: &str,
        idempotency_key: Option<&str>,
        timestamp_s: u64,
        nonce: &str,
    ) -> HashMap<String, String> {
        let timestamp = timestamp_s.to_string();
        let parts = SignedParts {
            key_id: &self.key.id,
            timestamp: &timestamp,
            nonce,
            method,
            path_and_query: path,
            idempotency_key: idempotency_key.unwrap_or_default(),
            body: body.as_bytes(),
        };
        let mut headers = HashMap::from([
            ("x-api-key".to_owned(), self.key.id.clone()),
            ("x-timestamp".to_owned(), timestamp.clone()),
            ("x-nonce".to_owned(), nonce.to_owned()),
            ("x-signature".to_owned(), parts.sign(&self.key.secret)),
        ]);
        if let Some(key) = idempotency_key {
            headers.insert("idempotency-key".to_owned(), key.to_owned());
        }
        headers
    }
}

/// Sends one request as it is.
pub async fn send(
    url: &str,
    method: &str,
    path: &str,
    body: Option<String>,
    headers: HashMap<String, String>,
) -> Answer {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.request(method.parse().unwrap(), format!("{url}{path}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
        (name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned())
    };
    let headers = response.headers().iter().map(header).collect();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer { status, headers, text, body }
}
