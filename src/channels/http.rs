//! The HTTP client under every adapter. It sends each request once, within the time that its call has left, and says
//! of every failure whether the request can have arrived: that difference decides whether another channel may be asked.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Client, RequestBuilder, Url};

use crate::clock::Clock;
use crate::domain::time::Monotonic;
use crate::telemetry::trace::{self, Kind};

/// An answer with a longer body is not read to its end and counts as none.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Longest wait for a connection; less where the channel's own timeout is shorter.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(2);
/// Connections without a request are closed after this, before a provider's own idle limit.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Most connections kept open without a request.
const IDLE_CONNECTIONS_MAX: u32 = 1024;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpError {
    /// No connection was made, so that the request certainly did not arrive.
    #[error("the provider could not be reached: {0}")]
    NotSent(String),
    /// The request may have arrived, and may even have been carried out.
    #[error("the provider gave no answer: {0}")]
    MayHaveArrived(String),
}

/// The client could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpSetupError {
    /// The address is no URL, or not one that may carry payments.
    #[error("its address must be an https:// URL (http:// only on this machine's loopback): {0}")]
    Address(String),
    /// TLS can't be used here.
    #[error("TLS can't be used: {0}")]
    Tls(String),
}

/// A provider's answer.
#[derive(Clone, Debug)]
pub(crate) struct HttpAnswer {
    /// Its HTTP status.
    pub(crate) status: u16,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its whole body.
    pub(crate) body: Bytes,
}

impl HttpAnswer {
    /// Whether a header has exactly this value.
    pub(crate) fn header_is(&self, name: &str, value: &str) -> bool {
        self.headers.get(name).is_some_and(|found| found.as_bytes() == value.as_bytes())
    }
}

/// By when everything that belongs to one call of a channel has to be over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Monotonic);

/// Sends requests to one provider.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    client: Client,
    base_url: Url,
    timeout: Duration,
    clock: Clock,
}

impl HttpClient {
    /// A client for the provider at `base_url` whose calls end within `timeout` and that keeps at most
    /// `idle_connections` connections open between them.
    ///
    /// # Errors
    /// [`HttpSetupError`] when the address must not be used, or TLS can't be.
    pub(crate) fn new(
        base_url: &str,
        timeout: Duration,
        idle_connections: u32,
        clock: Clock,
    ) -> Result<Self, HttpSetupError> {
        let base_url = Url::parse(base_url).map_err(|error| HttpSetupError::Address(error.to_string()))?;
        let builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT_MAX.min(timeout))
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .tcp_nodelay(true)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(usize::try_from(idle_connections.min(IDLE_CONNECTIONS_MAX)).unwrap_or(1));
        let builder = match base_url.scheme() {
            "https" => {
                // Whoever embeds the crate may have chosen a provider already; theirs is as good.
                let _ = rustls::crypto::ring::default_provider().install_default();
                builder.https_only(true)
            }
            "http" if is_loopback(&base_url) => builder.tls_backend_preconfigured(tls_that_trusts_nobody()?),
            _ => return Err(HttpSetupError::Address(base_url.to_string())),
        };
        let client = builder.build().map_err(|error| HttpSetupError::Tls(error.to_string()))?;
        Ok(Self { client, base_url, timeout, clock })
    }

    /// The deadline of a call that begins now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline(self.clock.monotonic().plus(self.timeout))
    }

    /// A GET of `path` below the provider's address.
    pub(crate) fn get(&self, path: &str, query: &[(String, String)]) -> RequestBuilder {
        self.client.get(self.address(path, query))
    }

    /// A POST of a form to `path` below the provider's address.
    pub(crate) fn post_form(
        &self,
        path: &str,
        query: &[(String, String)],
        form: &[(String, String)],
    ) -> RequestBuilder {
        self.client.post(self.address(path, query)).form(form)
    }

    /// A POST of a JSON document to `path` below the provider's address.
    pub(crate) fn post_json(&self, path: &str, body: &impl serde::Serialize) -> RequestBuilder {
        self.client.post(self.address(path, &[])).json(body)
    }

    /// A PUT of a JSON document to `path` below the address.
    pub(crate) fn put_json(&self, path: &str, body: &impl serde::Serialize) -> RequestBuilder {
        self.client.put(self.address(path, &[])).json(body)
    }

    /// A POST of JSON text as it stands to `path` below the provider's address.
    pub(crate) fn post_json_text(&self, path: &str, text: Vec<u8>) -> RequestBuilder {
        self.client.post(self.address(path, &[])).header(CONTENT_TYPE, "application/json").body(text)
    }

    /// A GET of an address that its caller has found to be the provider's.
    pub(crate) fn get_url(&self, url: Url) -> RequestBuilder {
        self.client.get(url)
    }

    /// The provider's address.
    pub(crate) fn base_url(&self) -> &Url {
        &self.base_url
    }

    /// Sends a request once and reads the whole answer.
    ///
    /// # Errors
    /// [`HttpError`], which says whether the request can have arrived.
    pub(crate) async fn send(&self, request: RequestBuilder, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.send_up_to(request, deadline, BODY_BYTES_MAX).await
    }

    /// The same where a longer answer, of up to `bytes_max`, is what was asked for.
    ///
    /// # Errors
    /// As [`HttpClient::send`].
    pub(crate) async fn send_up_to(
        &self,
        request: RequestBuilder,
        deadline: Deadline,
        bytes_max: usize,
    ) -> Result<HttpAnswer, HttpError> {
        let left = deadline.0.since(self.clock.monotonic()).min(self.timeout);
        if left.is_zero() {
            return Err(HttpError::NotSent(String::from("no time was left")));
        }
        let mut span = trace::begin("HTTP", Kind::Client);
        if span.is_recorded() {
            span.set("server.address", self.base_url.host_str().unwrap_or_default().to_owned());
        }
        let answer = span.scope(self.exchange(request.timeout(left), bytes_max)).await;
        match &answer {
            Ok(answer) => span.answered(answer.status),
            Err(_) => span.fail("no answer"),
        }
        answer
    }

    async fn exchange(&self, mut request: RequestBuilder, bytes_max: usize) -> Result<HttpAnswer, HttpError> {
        // Only where it belongs, not what other services want to have passed on: that is the merchant's.
        if let Some(context) = trace::outgoing() {
            request = request.header("traceparent", context.parent.to_string());
        }
        let mut response = request.send().await.map_err(|error| failure_of(&error))?;
        let mut body = BytesMut::new();
        // A body cut short is no answer: half a document can read like a whole one.
        while let Some(chunk) = response.chunk().await.map_err(|error| arrived(&error))? {
            if body.len() + chunk.len() > bytes_max {
                return Err(HttpError::MayHaveArrived(format!("its answer is longer than {bytes_max} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let headers = std::mem::take(response.headers_mut());
        Ok(HttpAnswer { status: response.status().as_u16(), headers, body: body.freeze() })
    }

    fn address(&self, path: &str, query: &[(String, String)]) -> Url {
        let mut address = self.base_url.clone();
        let prefix = address.path().trim_end_matches('/').to_owned();
        address.set_path(&format!("{prefix}{path}"));
        if !query.is_empty() {
            address.query_pairs_mut().extend_pairs(query);
        }
        address
    }
}

/// Only an error while connecting proves that nothing was sent. A connection out of the pool that turns out to be closed
/// does not: the peer may have read the request before it closed.
fn failure_of(error: &reqwest::Error) -> HttpError {
    if error.is_connect() || error.is_builder() { HttpError::NotSent(describe(error)) } else { arrived(error) }
}

fn arrived(error: &reqwest::Error) -> HttpError {
    HttpError::MayHaveArrived(describe(error))
}

/// What went wrong in a few words, without the URL, which can carry parameters.
fn describe(error: &reqwest::Error) -> String {
    let kind = if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "connection failed"
    } else if error.is_body() || error.is_decode() {
        "answer cut short"
    } else {
        "connection broken"
    };
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    match cause {
        Some(cause) => format!("{kind} ({cause})"),
        None => String::from(kind),
    }
}

fn is_loopback(address: &Url) -> bool {
    match address.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Loopback needs no certificates; not loading them lets the emulators work on a machine that has none.
fn tls_that_trusts_nobody() -> Result<rustls::ClientConfig, HttpSetupError> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| HttpSetupError::Tls(error.to_string()))?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(base_url: &str) -> Result<HttpClient, HttpSetupError> {
        HttpClient::new(base_url, Duration::from_millis(500), 4, Clock::system())
    }

    #[tokio::test]
    async fn plain_http_is_only_for_loopback() {
        for address in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
            assert!(client(address).is_ok(), "{address}");
        }
        for address in ["http://api.stripe.com", "http://10.0.0.1", "http://127.0.0.1.example.com", "ftp://x", "x"] {
            assert!(matches!(client(address), Err(HttpSetupError::Address(_))), "{address}");
        }
    }

    #[tokio::test]
    async fn https_is_for_every_address() {
        // A machine without any certificates may refuse, but for that reason only.
        let made = client("https://api.stripe.com");
        assert!(matches!(made, Ok(_) | Err(HttpSetupError::Tls(_))), "{made:?}");
    }

    #[tokio::test]
    async fn a_refused_connection_is_not_sent_and_a_silent_one_may_have_arrived() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let http = client(&format!("http://{address}")).unwrap();
        let silent = http.send(http.get("/x", &[]), http.deadline());
        let (answer, _connection) = tokio::join!(silent, listener.accept());
        assert!(matches!(answer, Err(HttpError::MayHaveArrived(_))), "{answer:?}");
        drop(listener);
        let answer = http.send(http.get("/x", &[]), http.deadline()).await;
        assert!(matches!(answer, Err(HttpError::NotSent(_))), "{answer:?}");
    }

    #[tokio::test]
    async fn a_provider_is_told_the_trace_and_nothing_that_others_added_to_it() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        use crate::domain::trace::TraceContext;
        use crate::random::Random;
        use crate::telemetry::Traces;

        const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = client(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let heads = async {
            let mut heads = Vec::new();
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                heads.push(String::from_utf8(head).unwrap());
            }
            heads
        };
        let telemetry = crate::config::Config::embedded().unwrap().telemetry;
        let traces = Traces::open(&telemetry, &Clock::system(), &Random::seeded(1), |_| None).unwrap();
        let context = TraceContext { parent: PARENT.parse().unwrap(), state: Some(String::from("shop=1")) };
        let request = traces.begin_request(Some(context), "request");
        let asked = async {
            request.scope(http.send(http.get("/x", &[]), http.deadline())).await.unwrap();
            http.send(http.get("/x", &[]), http.deadline()).await.unwrap();
        };
        let (heads, ()) = tokio::join!(heads, asked);
        assert!(heads[0].contains(&format!("traceparent: {PARENT}\r\n")) && !heads[0].contains("shop=1"), "{heads:?}");
        assert!(!heads[1].contains("traceparent"), "{heads:?}");
    }

    #[tokio::test]
    async fn no_time_left_sends_nothing() {
        let http = client("http://127.0.0.1:9").unwrap();
        let answer = http.send(http.get("/x", &[]), Deadline(Monotonic::default())).await;
        // The clock has moved on since the start, or stands exactly there: either way no time is left.
        assert!(matches!(answer, Err(HttpError::NotSent(_))), "{answer:?}");
    }
}
