//! The certificates that the listeners show, and what is told about them.
//!
//! Certificate and key are read and held against each other off the runtime, and swapped in at once: a connection is
//! greeted with the old pair or with the new one, and those that are open stay. The files are looked at again every half a
//! minute and at each reload of the configuration; a pair that can't be used is said once, is counted, and is no reason to
//! give up the last good one. It is judged again at each look.

mod pair;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{self, FileWork};
use crate::domain::time::Timestamp;
use crate::gateway::addresses::Listener;
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

pub use pair::InvalidCertificate;

use pair::{About, Digests, Pair, PairFiles};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// With less time left than this, a certificate is warned about when it is taken up.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 86_400);
/// What is said of a certificate that is an authority's.
const IS_AUTHORITY: &str = "the certificate is that of an authority (CA:TRUE), which many clients refuse as a server's, this \
    program's commands too; have it issue one for the server, or make a self-signed one with \
    `-addext basicConstraints=critical,CA:FALSE`";
/// In place of what is in files that could not be read in time.
const UNREAD: Digests = [0; 32];
/// The only protocol that is spoken inside.
const PROTOCOL: &[u8] = b"http/1.1";

/// What became of a connection to a listener that speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It speaks TLS with us.
    Done,
    /// Both could not agree, or the client hung up.
    Failed,
    /// The client took too long.
    TimedOut,
    /// The client spoke something else, such as plain HTTP.
    NotTls,
    /// Its address had its share of handshakes already.
    Refused,
    /// It was ended for another client, which held fewer, when there was no place left.
    GaveWay,
}

impl Handshake {
    /// All of them.
    const ALL: [Self; 6] = [Self::Done, Self::Failed, Self::TimedOut, Self::NotTls, Self::Refused, Self::GaveWay];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::NotTls => "not_tls",
            Self::Refused => "refused",
            Self::GaveWay => "gave_way",
        }
    }
}

/// The certificates of a gateway's listeners, as far as they speak TLS.
#[derive(Debug)]
pub(crate) struct Certificates {
    merchants: Option<Arc<ListenerCertificate>>,
    operator: Option<Arc<ListenerCertificate>>,
}

impl Certificates {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// [`InvalidCertificate`], with a sentence that says what to do; one that is out of date is only warned about, since no
    /// listener at all would be worse.
    pub(crate) async fn open(server: &config::ServerConfig, clock: &Clock) -> Result<Self, InvalidCertificate> {
        Ok(Self {
            merchants: ListenerCertificate::open(files(server, Listener::Merchants), clock).await?,
            operator: ListenerCertificate::open(files(server, Listener::Operator), clock).await?,
        })
    }

    /// The certificate of a listener; `None` when it speaks plain HTTP.
    pub(crate) fn of(&self, listener: Listener) -> Option<&Arc<ListenerCertificate>> {
        match listener {
            Listener::Merchants => self.merchants.as_ref(),
            Listener::Operator => self.operator.as_ref(),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<ListenerCertificate>> {
        self.merchants.iter().chain(self.operator.iter())
    }

    /// Reads the files again, and takes up those that have changed. Says of which listeners they can't be used.
    pub(crate) async fn look_again(&self) -> Vec<InvalidCertificate> {
        let mut refused = Vec::new();
        for certificate in self.all() {
            refused.extend(certificate.look_again().await);
        }
        refused
    }

    /// Looks at the files now and then until the gateway stops.
    pub(crate) fn start(self: &Arc<Self>, tasks: &TaskTracker, stopping: &CancellationToken) {
        if self.all().next().is_none() {
            return;
        }
        let (certificates, stopping) = (Arc::clone(self), stopping.clone());
        tasks.spawn(async move {
            let looks = async {
                loop {
                    tokio::time::sleep(LOOK_INTERVAL).await;
                    certificates.look_again().await;
                }
            };
            stopping.run_until_cancelled(looks).await;
        });
    }
}

/// The files that the configuration names for a listener.
fn files(server: &config::ServerConfig, listener: Listener) -> Option<PairFiles> {
    let (certificate_key, certificate, key_key, key) = match listener {
        Listener::Merchants => ("server.tls_certificate", &server.tls_certificate, "server.tls_key", &server.tls_key),
        Listener::Operator => (
            "server.admin_tls_certificate",
            &server.admin_tls_certificate,
            "server.admin_tls_key",
            &server.admin_tls_key,
        ),
    };
    Some(PairFiles { certificate_key, certificate: certificate.clone()?, key_key, key: key.clone()? })
}

/// Checks the certificates that a configuration names, without keeping them. Says a line about each.
///
/// # Errors
/// [`InvalidCertificate`] for what can't be used, or is out of date at `now`.
pub fn check_files(server: &config::ServerConfig, now: Timestamp) -> Result<Vec<String>, InvalidCertificate> {
    let mut lines = Vec::new();
    for files in [Listener::Merchants, Listener::Operator].into_iter().filter_map(|listener| files(server, listener)) {
        let about = files.parse(files.read(), &provider())?.about;
        if let Some(problem) = about.out_of_date(now) {
            return Err(files.certificate_is(problem));
        }
        let names = if about.names.is_empty() { String::from("no name") } else { about.names.join(", ") };
        let days = about.not_after.since(now).as_secs() / 86_400;
        let valid_until = about.not_after.rfc3339();
        lines.push(format!("{}: for {names}, valid until {valid_until} ({days} days)", files.certificate_key));
        if about.is_authority {
            lines.push(format!("{}: {IS_AUTHORITY}", files.certificate_key));
        }
        if about.key_is_open {
            lines.push(format!("{}: everybody on this machine may read the key; chmod o= it", files.key_key));
        }
    }
    Ok(lines)
}

fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// What a listener shows to its clients.
#[derive(Debug)]
pub struct ListenerCertificate {
    files: PairFiles,
    shown: Arc<Shown>,
    clock: Clock,
    /// What was in the files when they were last looked at, if it could not be used: that is said and counted once. Held while
    /// they are looked at, so that two looks do not overtake each other.
    refused: tokio::sync::Mutex<Option<Digests>>,
    reading: FileWork,
    /// Until somebody has made figures of it, it is counted here alone.
    counts: std::sync::OnceLock<Counts>,
}

/// Figures of one listener.
#[derive(Debug)]
struct Counts {
    reload_failures: IntCounter,
    not_loaded: IntGauge,
    handshakes: [IntCounter; Handshake::ALL.len()],
}

/// The pair in use.
#[derive(Debug)]
struct Shown(ArcSwap<Pair>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().certified))
    }
}

impl ListenerCertificate {
    async fn open(files: Option<PairFiles>, clock: &Clock) -> Result<Option<Arc<Self>>, InvalidCertificate> {
        let Some(files) = files else { return Ok(None) };
        let reading = files.clone();
        let read = tokio::task::spawn_blocking(move || reading.parse(reading.read(), &provider())).await;
        let pair = read.unwrap_or_else(|error| Err(files.certificate_is(format!("can't be read ({error})"))))?;
        let made = Self {
            files,
            shown: Arc::new(Shown(ArcSwap::from_pointee(pair))),
            clock: clock.clone(),
            refused: Default::default(),
            reading: FileWork::default(),
            counts: Default::default(),
        };
        made.say_in_use();
        Ok(Some(Arc::new(made)))
    }

    /// How to speak TLS with clients: 1.2 or 1.3, HTTP/1.1 inside, with the certificate that is in use when each of them
    /// connects.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when there are no random numbers.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, GatewayError> {
        let failed = |error: rustls::Error| GatewayError::Internal(format!("TLS can't be set up: {error}"));
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Clients keep what they need to connect again; nothing of it is held here.
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(failed)?;
        Ok(Arc::new(config))
    }

    /// Counts a handshake.
    pub fn note(&self, handshake: Handshake) {
        if let Some(counter) = self.counts.get().and_then(|counts| counts.handshakes.get(handshake as usize)) {
            counter.inc();
        }
    }

    /// When the certificate in use ends.
    pub fn not_after(&self) -> Timestamp {
        self.shown.0.load().about.not_after
    }

    /// Reads the files again, and takes up what is another pair than the one in use. One that can't be used, or is out of date,
    /// changes nothing and is given back. It is judged anew at each look: one that was issued a little ahead of this clock can
    /// be used as soon as its time has come.
    async fn look_again(&self) -> Option<InvalidCertificate> {
        let mut refused = self.refused.lock().await;
        let (files, in_use, now) = (self.files.clone(), self.shown.0.load().digests, self.clock.now());
        let look = move || {
            let contents = files.read();
            let digests = contents.digests;
            (digests != in_use).then(|| (digests, usable(&files, files.parse(contents, &provider()), now)))
        };
        let looked = self.reading.run(look).await;
        let found = looked.unwrap_or_else(|problem| Some((UNREAD, Err(self.files.certificate_is(problem)))));
        let Some((digests, Err(problem))) = found else {
            *refused = None;
            self.note_not_loaded(false);
            if let Some((_, Ok(pair))) = found {
                self.shown.0.store(Arc::new(pair));
                self.say_in_use();
            }
            return None;
        };
        self.note_not_loaded(true);
        if refused.replace(digests) != Some(digests) {
            self.note_failure();
            tracing::error!(%problem, "the new certificate can't be used; the last good one stays in use");
        }
        Some(problem)
    }

    fn note_not_loaded(&self, is_not: bool) {
        if let Some(counts) = self.counts.get() {
            counts.not_loaded.set(i64::from(is_not));
        }
    }

    fn note_failure(&self) {
        if let Some(counts) = self.counts.get() {
            counts.reload_failures.inc();
        }
    }

    fn say_in_use(&self) {
        let pair = self.shown.0.load();
        let About { names, not_after, key_is_open, is_authority, .. } = &pair.about;
        let (certificate, now) = (self.files.certificate.display(), self.clock.now());
        let (names, not_after_text) = (names.join(" "), not_after.rfc3339());
        tracing::info!(%certificate, names, not_after = not_after_text, "the certificate is in use");
        if let Some(problem) = pair.about.out_of_date(now) {
            tracing::error!(%certificate, problem, "the certificate in use is out of date; clients will refuse it");
        } else if not_after.since(now) < EXPIRES_SOON {
            tracing::warn!(%certificate, not_after = not_after_text, "the certificate in use expires soon");
        }
        if *is_authority {
            tracing::warn!(%certificate, "{IS_AUTHORITY}");
        }
        if *key_is_open {
            tracing::warn!(key = %self.files.key.display(), "everybody on this machine may read the key; chmod o= it");
        }
    }
}

/// Of what was read again, what is better than what is in use.
fn usable(
    files: &PairFiles,
    read: Result<Pair, InvalidCertificate>,
    now: Timestamp,
) -> Result<Pair, InvalidCertificate> {
    let pair = read?;
    match pair.about.out_of_date(now) {
        Some(problem) => Err(files.certificate_is(problem)),
        None => Ok(pair),
    }
}

/// Figures about certificates and handshakes, each there for both listeners whether or not they speak TLS.
pub(crate) struct CertificateFigures {
    expiry: Vec<(Gauge, Option<Arc<ListenerCertificate>>)>,
}

impl CertificateFigures {
    /// Makes them, and lets the listeners' certificates count in them.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when a name is there twice or is none.
    pub(crate) fn new(figures: &Figures, certificates: &Certificates) -> Result<Self, GatewayError> {
        let expiry = figures.decimals(
            "tls_certificate_expiry_timestamp_seconds",
            "When the certificate in use ends; NaN for a listener that speaks plain HTTP",
            &["listener"],
        )?;
        let failures = figures.counters(
            "tls_reload_failures_total",
            "Certificates or keys that could not be used when they had changed",
            &["listener"],
        )?;
        let not_loaded = figures.gauges(
            "tls_certificate_not_loaded",
            "1 while certificate and key in the files are not the ones in use, since they can't be used",
            &["listener"],
        )?;
        let handshakes = figures.counters(
            "tls_handshakes_total",
            "Connections to listeners that speak TLS, by what became of their handshake",
            &["listener", "result"],
        )?;
        let mut rows = Vec::new();
        for (listener, name) in [(Listener::Merchants, "merchant"), (Listener::Operator, "admin")] {
            let certificate = certificates.of(listener).cloned();
            let counts = Counts::of(&failures, &not_loaded, &handshakes, name);
            if let Some(certificate) = &certificate {
                // Set once: a gateway makes its figures once.
                let _ = certificate.counts.set(counts);
            }
            rows.push((expiry.with_label_values(&[name]), certificate));
        }
        Ok(Self { expiry: rows })
    }

    /// Brings them up to date.
    pub(crate) fn read(&self) {
        for (gauge, certificate) in &self.expiry {
            gauge.set(certificate.as_ref().map_or(f64::NAN, |certificate| certificate.not_after().unix_s() as f64));
        }
    }
}

impl Counts {
    fn of(failures: &IntCounterVec, not_loaded: &IntGaugeVec, handshakes: &IntCounterVec, listener: &str) -> Self {
        Self {
            reload_failures: failures.with_label_values(&[listener]),
            not_loaded: not_loaded.with_label_values(&[listener]),
            handshakes: Handshake::ALL.map(|result| handshakes.with_label_values(&[listener, result.as_str()])),
        }
    }
}
