//! A merchant's client: signs every request as the contract says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tollgate::clock::Clock;
use tollgate::domain::signature::SignedParts;

/// Longest time for an answer; a request of the gateway takes seconds at most.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

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
    /// Asserts status and code, and shows the answer when they are others.
    #[track_caller]
    pub fn expect(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.text);
        self
    }

    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The rows of a list.
    pub fn items(&self) -> Vec<Value> {
        self.body["data"]["items"].as_array().cloned().unwrap_or_default()
    }

    /// The fields that an invalid request names.
    pub fn wrong_fields(&self) -> Vec<String> {
        let errors = self.body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["field"].as_str().unwrap_or_default().to_owned()).collect()
    }

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
    clock: Clock,
    http: reqwest::Client,
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
        Self::with_clock(url, key, merchant_id, Clock::system())
    }

    /// A merchant whose clock is another than the machine's: the one of its gateway.
    pub fn with_clock(url: &str, key: Key, merchant_id: &str, clock: Clock) -> Self {
        Self { url: url.to_owned(), key, merchant_id: merchant_id.to_owned(), clock, http: http_client() }
    }

    /// The same merchant at a gateway that was started again.
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// The same merchant with another key.
    pub fn with_key(&self, key: Key) -> Self {
        Self { key, ..self.clone() }
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
        let body_signed = body.as_deref().unwrap_or_default();
        let headers = self.signed(method, path, body_signed, idempotency_key, self.unix_s(), &nonce());
        self.send(method, path, body, headers).await
    }

    /// Sends what is given, signed or not, as JSON if it has a body.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
        headers: HashMap<String, String>,
    ) -> Answer {
        send(&self.http, &self.url, method, path, body, headers).await
    }

    /// Signs a body of any bytes and sends it with this content type, or none.
    pub async fn post_bytes(&self, path: &str, bytes: &[u8], content_type: Option<&str>) -> Answer {
        let mut headers = self.signed_bytes("POST", path, bytes, None, self.unix_s(), &nonce());
        headers.extend(content_type.map(|value| ("content-type".to_owned(), value.to_owned())));
        exchange(&self.http, &self.url, "POST", path, Some(bytes.to_vec()), headers).await
    }

    fn unix_s(&self) -> u64 {
        u64::try_from(self.clock.now().unix_ms() / 1_000).unwrap()
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
        self.signed_bytes(method, path, body.as_bytes(), idempotency_key, timestamp_s, nonce)
    }

    /// The headers of a signed request whose timestamp is any text.
    pub fn signed_at(&self, method: &str, path: &str, timestamp: &str) -> HashMap<String, String> {
        self.signed_bytes(method, path, b"", None, timestamp, &nonce())
    }

    fn signed_bytes(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
        idempotency_key: Option<&str>,
        timestamp: impl ToString,
        nonce: &str,
    ) -> HashMap<String, String> {
        let timestamp = timestamp.to_string();
        let parts = SignedParts {
            key_id: &self.key.id,
            timestamp: &timestamp,
            nonce,
            method,
            path_and_query: path,
            idempotency_key: idempotency_key.unwrap_or_default(),
            body,
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

/// A client with connections of its own that stay open.
pub fn http_client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build().unwrap()
}

/// Sends one request as it is; a body is JSON.
pub async fn send(
    http: &reqwest::Client,
    url: &str,
    method: &str,
    path: &str,
    body: Option<String>,
    mut headers: HashMap<String, String>,
) -> Answer {
    if body.is_some() {
        headers.insert("content-type".to_owned(), "application/json".to_owned());
    }
    exchange(http, url, method, path, body.map(String::into_bytes), headers).await
}

pub(super) async fn exchange(
    http: &reqwest::Client,
    url: &str,
    method: &str,
    path: &str,
    body: Option<Vec<u8>>,
    headers: HashMap<String, String>,
) -> Answer {
    let mut request = http.request(method.parse().unwrap(), format!("{url}{path}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if let Some(body) = body {
        request = request.body(body);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    };
    let headers = response.headers().iter().map(header).collect();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer { status, headers, text, body }
}
