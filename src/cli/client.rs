//! HTTP as the commands use it: one bounded exchange, with failures said in words.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use url::Url;

use super::failure::Failure;
use super::untrusted;

/// An exchange ends within this; longer than the gateway's own deadline for a request.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Connecting ends within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The next part of a download comes within this; the gateway reads on for no longer either.
const PART_TIMEOUT: Duration = Duration::from_secs(60);
/// A download ends within this.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// What comes back in parts, as much as there is.
pub(super) struct Download {
    pub(super) response: reqwest::Response,
    server: String,
}

impl Download {
    /// The next part; `None` when it is complete.
    pub(super) async fn part(&mut self) -> Result<Option<bytes::Bytes>, Failure> {
        let broken = |why: &str| {
            Failure::Failed(format!("{} broke it off before the end ({why}); what came is not complete", self.server))
        };
        match tokio::time::timeout(PART_TIMEOUT, self.response.chunk()).await {
            Ok(Ok(part)) => Ok(part),
            Ok(Err(error)) => Err(broken(&error.to_string())),
            Err(_elapsed) => Err(broken("nothing more came")),
        }
    }

    /// What refuses it, as a whole.
    pub(super) async fn refusal(mut self) -> Result<Answer, Failure> {
        let (status, headers) = (self.response.status(), self.response.headers().clone());
        let mut body = Vec::new();
        while let Some(part) = self.part().await? {
            if body.len() + part.len() > ANSWER_BYTES_MAX {
                break;
            }
            body.extend_from_slice(&part);
        }
        Ok(Answer { status, headers, body })
    }
}

/// Sends requests to a gateway.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    /// The file with those who are believed, if it is not those whom this machine trusts.
    authorities: Option<PathBuf>,
}

impl Client {
    pub(super) fn new() -> Result<Self, Failure> {
        // A machine without certificate authorities can still talk plain http to a gateway on loopback.
        builder()
            .build()
            .or_else(|_| {
                builder().tls_backend_preconfigured(tls_that_trusts_nobody()?).build().map_err(|e| e.to_string())
            })
            .map(|http| Self { http, authorities: None })
            .map_err(|error| Failure::Failed(format!("HTTP can't be set up: {error}")))
    }

    /// One that believes whoever these authorities (PEM) vouch for, and nobody else; those of this machine without any.
    pub(super) fn trusting(authorities: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = authorities else { return Self::new() };
        let unusable = |problem: String| Failure::Usage(format!("--ca-file: {} {problem}", path.display()));
        let pem = std::fs::read(path).map_err(|error| unusable(format!("can't be read ({error})")))?;
        let certificates =
            reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(format!("is damaged ({error})")))?;
        if certificates.is_empty() {
            return Err(unusable(String::from("has no certificate; it must be PEM (-----BEGIN CERTIFICATE-----)")));
        }
        let http = builder().tls_certs_only(certificates).build();
        let http = http.map_err(|_| unusable(String::from("has a certificate that can't be read; is it damaged?")))?;
        Ok(Self { http, authorities: Some(path.to_owned()) })
    }

    /// One that looks at nobody's certificate and has a connection of its own for each exchange: for asking, without a
    /// secret, how a gateway is doing whose certificate is not for the address at which this machine reaches it.
    pub(super) fn to_whomever() -> Result<Self, Failure> {
        let http = builder().tls_danger_accept_invalid_certs(true).pool_max_idle_per_host(0).build();
        let http = http.map_err(|error| Failure::Failed(format!("HTTP can't be set up: {error}")))?;
        Ok(Self { http, authorities: None })
    }

    /// Asks for what comes in parts.
    pub(super) async fn download(&self, url: &Url, headers: HeaderMap) -> Result<Download, Failure> {
        let request = self.http.get(url.clone()).headers(headers).timeout(DOWNLOAD_TIMEOUT);
        let response = match tokio::time::timeout(TIMEOUT, request.send()).await {
            Ok(response) => response.map_err(|error| self.failure_of(url, &error))?,
            Err(_elapsed) => return Err(Failure::Failed(format!("{} did not answer in time", origin(url)))),
        };
        Ok(Download { response, server: origin(url) })
    }

    /// One exchange.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Failure> {
        let mut request = self.http.request(method, url.clone()).headers(headers);
        if let Some(body) = body {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body);
        }
        let mut response = request.send().await.map_err(|error| self.failure_of(url, &error))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure_of(url, &error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Failure::Failed(format!(
                    "the answer from {} is too large to be the gateway's",
                    origin(url)
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status: response.status(), headers: response.headers().clone(), body })
    }

    /// Why an exchange failed, in words.
    fn failure_of(&self, url: &Url, error: &reqwest::Error) -> Failure {
        let server = origin(url);
        let not_encrypted = || untrusted::problem_with(error, &server, self.authorities.as_deref());
        Failure::Failed(if let Some(problem) = error.is_connect().then(not_encrypted).flatten() {
            problem
        } else if error.is_connect() && is_refused(error) {
            format!(
                "nothing answers at {server}; start the gateway (`tollgate serve`), or say where it listens with --admin-url \
                 (for `tollgate request` with --url)"
            )
        } else if error.is_connect() {
            format!("{server} can't be reached ({}); check the address", innermost(error))
        } else if error.is_timeout() {
            format!(
                "{server} did not answer within {} s; whether it did what was asked is not known",
                TIMEOUT.as_secs()
            )
        } else {
            format!("the exchange with {server} broke off ({error}); whether it did what was asked is not known")
        })
    }
}

fn builder() -> reqwest::ClientBuilder {
    // Somebody in this process may have chosen a provider already; theirs is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("tollgate-cli/", env!("CARGO_PKG_VERSION")))
        .timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .tcp_nodelay(true)
}

/// A header, or what is wrong with it.
pub(super) fn header(name: &'static str, value: &str) -> Result<(HeaderName, HeaderValue), Failure> {
    let value = HeaderValue::from_str(value)
        .map_err(|_| Failure::Usage(format!("the value for {name} has characters that a header can't hold")))?;
    Ok((HeaderName::from_static(name), value))
}

/// Scheme, host and port: enough to name a server, and nothing secret.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Whether the machine is there, and nobody listens.
fn is_refused(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| {
        let cause = cause.downcast_ref::<std::io::Error>();
        cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::ConnectionRefused)
    })
}

/// What it all began with: the errors around it say only that something could not be done.
fn innermost(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

fn tls_that_trusts_nobody() -> Result<rustls::ClientConfig, String> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}
