//! The HTTP client that spans are sent with, its address and its headers.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::{Client, StatusCode};

use crate::config::{TelemetryConfig, open_regular, read_text_within};

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Longest file of headers.
const HEADERS_BYTES_MAX: u64 = 64 * 1024;
/// Tries of one request altogether.
const TRIES_MAX: u32 = 3;
/// Wait before the second try; doubles.
const WAIT_FIRST: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// The headers that the configuration names, in OpenTelemetry's form: `name=value,name=value`, values percent-encoded.
///
/// # Errors
/// In words, without what is in them.
pub(crate) fn headers(
    config: &TelemetryConfig,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>, String> {
    let (key, text) = match (&config.otlp_headers_env, &config.otlp_headers_file) {
        (Some(name), _) => {
            let missing = || format!("set the environment variable {name}, which telemetry.otlp_headers_env names");
            ("telemetry.otlp_headers_env", variable(name).ok_or_else(missing)?)
        }
        (None, Some(path)) => {
            let failed = |why: String| {
                format!("{}, which telemetry.otlp_headers_file names, can't be read: {why}", path.display())
            };
            let text = open_regular(path).and_then(|file| read_text_within(file, HEADERS_BYTES_MAX));
            let text = text.map_err(|error| failed(error.to_string()))?;
            ("telemetry.otlp_headers_file", text)
        }
        (None, None) => return Ok(Vec::new()),
    };
    let entries = text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
    let read = entries.map(|entry| {
        let (name, value) = entry.split_once('=')?;
        let name = reqwest::header::HeaderName::try_from(name.trim()).ok()?;
        let value = decoded(value.trim())?;
        reqwest::header::HeaderValue::try_from(value.as_str()).ok()?;
        Some((name.as_str().to_owned(), value))
    });
    read.collect::<Option<_>>()
        .ok_or_else(|| format!("{key} names headers that can't be read; write them as name=value, separated by commas"))
}

/// A text without percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match first {
            b'%' => {
                let digits = std::str::from_utf8(after.get(..2)?).ok()?;
                (u8::from_str_radix(digits, 16).ok()?, &after[2..])
            }
            byte => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// Sends requests to a collector, each a few times if need be, within one timeout.
#[derive(Debug)]
pub(crate) struct CollectorClient {
    client: Client,
    timeout: Duration,
}

impl CollectorClient {
    /// A client for the collector at `endpoint`.
    ///
    /// # Errors
    /// In words, when TLS can't be used.
    pub(crate) fn new(endpoint: &str, timeout: Duration) -> Result<Self, String> {
        let builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT_MAX.min(timeout))
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .pool_max_idle_per_host(1);
        let no_tls = |error: String| format!("TLS can't be used for telemetry.otlp_endpoint: {error}");
        let builder = if endpoint.starts_with("https:") {
            // Whoever embeds the crate may have chosen a provider already; theirs is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
            builder.https_only(true)
        } else {
            builder.tls_backend_preconfigured(tls_that_trusts_nobody().map_err(|error| no_tls(error.to_string()))?)
        };
        let client = builder.build().map_err(|error| no_tls(error.to_string()))?;
        Ok(Self { client, timeout })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let address = head.uri.to_string();
        let mut wait = WAIT_FIRST;
        for tries_left in (0..TRIES_MAX).rev() {
            let trying = self.client.post(address.as_str()).headers(head.headers.clone()).body(body.clone());
            let answered = trying.send().await;
            let is_worth_another = match &answered {
                Ok(answer) => is_passing(answer.status()),
                // Spans that arrive twice are seen twice, so that only what certainly did not arrive is sent again.
                Err(error) => error.is_connect(),
            };
            if is_worth_another && tries_left > 0 {
                tokio::time::sleep(wait).await;
                wait *= 2;
                continue;
            }
            return taken_in(answered.map_err(reqwest::Error::without_url)?).await;
        }
        Err("no try was made".into())
    }
}

/// Whether OTLP wants a request with this answer to be sent again.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// The whole answer.
async fn taken_in(mut answer: reqwest::Response) -> Result<Response<Bytes>, HttpError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err("the collector's answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = Response::new(body.freeze());
    *response.status_mut() = answer.status();
    Ok(response)
}

impl HttpClient for CollectorClient {
    fn send_bytes<'client, 'sending>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sending>>
    where
        'client: 'sending,
        Self: 'sending,
    {
        Box::pin(async move {
            let sent = tokio::time::timeout(self.timeout, self.send(request)).await;
            sent.unwrap_or_else(|_elapsed| Err("the collector did not answer in time".into()))
        })
    }
}

/// Where TLS is not spoken no certificates are needed; not loading them lets it work on a machine that has none.
fn tls_that_trusts_nobody() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> TelemetryConfig {
        crate::config::Config::embedded().unwrap().telemetry
    }

    #[test]
    fn headers_come_from_a_variable_or_a_file_and_are_never_told() {
        let mut config = config();
        config.otlp_headers_env = Some(String::from("HEADERS"));
        let with = |config: &TelemetryConfig, text: &str| {
            let text = text.to_owned();
            headers(config, move |name| (name == "HEADERS").then(|| text.clone()))
        };
        let expected =
            vec![(String::from("authorization"), String::from("Basic a+b=")), (String::from("x-k"), String::from("v"))];
        assert_eq!(with(&config, "Authorization=Basic%20a+b%3D, x-k = v,").unwrap(), expected);
        for wrong in ["s3cret", "a b=s3cret", "a=s3cret%0a", "a=s3cret%2", "a=s3cret%zz"] {
            let problem = with(&config, wrong).unwrap_err();
            assert!(problem.contains("otlp_headers_env") && !problem.contains("s3cret"), "{problem}");
        }
        assert!(headers(&config, |_| None).unwrap_err().contains("HEADERS"));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("headers");
        std::fs::write(&file, "authorization=Basic%20a+b%3D\nx-k=v\n").unwrap();
        (config.otlp_headers_env, config.otlp_headers_file) = (None, Some(file.clone()));
        assert_eq!(headers(&config, |_| None).unwrap(), expected);
        std::fs::remove_file(&file).unwrap();
        assert!(headers(&config, |_| None).unwrap_err().contains("can't be read"));
        config.otlp_headers_file = None;
        assert_eq!(headers(&config, |_| None).unwrap(), []);
    }
}
