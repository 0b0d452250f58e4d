//! Signs requests as a merchant does.

use reqwest::Method;
use reqwest::header::HeaderMap;
use url::Url;

use super::client::header;
use super::failure::Failure;
use crate::clock::Clock;
use crate::domain::signature::SignedParts;
use crate::random::Random;

/// One key, and what a signature needs beside it.
#[derive(Clone)]
pub(super) struct Signer {
    pub(super) key_id: String,
    pub(super) secret: String,
    pub(super) clock: Clock,
    pub(super) random: Random,
}

impl Signer {
    /// The headers that make a request this key's, each time with a nonce of their own.
    pub(super) fn headers(
        &self,
        method: &Method,
        url: &Url,
        idempotency_key: &str,
        body: &[u8],
    ) -> Result<HeaderMap, Failure> {
        let timestamp = self.clock.now().unix_s().to_string();
        let mut random = [0_u8; 16];
        self.random.fill(&mut random);
        let nonce = hex::encode(random);
        let path_and_query = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => String::from(url.path()),
        };
        let parts = SignedParts {
            key_id: &self.key_id,
            timestamp: &timestamp,
            nonce: &nonce,
            method: method.as_str(),
            path_and_query: &path_and_query,
            idempotency_key,
            body,
        };
        let signature = parts.sign(&self.secret);
        let mut headers = HeaderMap::new();
        headers.extend([
            header("x-api-key", &self.key_id)?,
            header("x-timestamp", &timestamp)?,
            header("x-nonce", &nonce)?,
            header("x-signature", &signature)?,
        ]);
        if !idempotency_key.is_empty() {
            headers.extend([header("idempotency-key", idempotency_key)?]);
        }
        Ok(headers)
    }
}
