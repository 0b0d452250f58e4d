//! The certificates that PayPal signs with: fetched from PayPal's own hosts only, seldom, and believed only when a root
//! that we trust vouches for them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::Url;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::channels::NotificationRefusal;
use crate::channels::http::HttpClient;
use crate::domain::time::{Monotonic, Timestamp};

/// Certificates that are kept.
const KEPT_MAX: usize = 8;
/// Certificates of one chain that are looked at.
const CHAIN_MAX: usize = 6;
/// Where PayPal and its certificates are, for real money and for its sandbox.
pub(super) const LIVE_HOSTS: [&str; 2] = ["api-m.paypal.com", "api.paypal.com"];
pub(super) const SANDBOX_HOSTS: [&str; 2] = ["api-m.sandbox.paypal.com", "api.sandbox.paypal.com"];

/// So many things in a minute, and no more.
pub(super) struct Allowance {
    per_minute: usize,
    taken: Mutex<VecDeque<Monotonic>>,
}

impl Allowance {
    pub(super) const fn new(per_minute: usize) -> Self {
        Self { per_minute, taken: Mutex::new(VecDeque::new()) }
    }

    /// Takes one, if there is one left.
    pub(super) fn take(&self, now: Monotonic) -> bool {
        let mut taken = self.taken.lock();
        while taken.front().is_some_and(|at| now.since(*at) >= Duration::from_secs(60)) {
            taken.pop_front();
        }
        if taken.len() >= self.per_minute {
            return false;
        }
        taken.push_back(now);
        true
    }
}

/// A certificate with those that vouch for it.
pub(super) type Chain = Arc<Vec<CertificateDer<'static>>>;

/// What a signature came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Made by PayPal.
    Good,
    /// The certificate is PayPal's, and the signature none of this message by it.
    Forged,
    /// Not made by PayPal, and why.
    Bad(&'static str),
    /// No root that we have can say.
    NoRoot,
}

/// A certificate that somebody trusted vouches for.
struct Kept {
    address: String,
    chain: Chain,
    /// Something was signed with it.
    is_proved: bool,
}

/// The certificates that were fetched, and the roots that they are held against.
pub(super) struct Certificates {
    anchors: Vec<TrustAnchor<'static>>,
    /// Whether the roots are those that were configured for this, and nobody else is asked.
    is_configured: bool,
    kept: Mutex<VecDeque<Kept>>,
    fetches: Allowance,
}

impl Certificates {
    /// With the roots in `ca` (PEM), or else this machine's.
    ///
    /// # Errors
    /// A sentence, when `ca` can't be read.
    pub(super) fn new(ca: Option<&str>) -> Result<Self, String> {
        let roots = match ca {
            Some(pem) => {
                let roots = certificates_in(pem.as_bytes()).ok_or("credential `webhook_ca` is not PEM")?;
                if roots.is_empty() {
                    return Err(String::from("credential `webhook_ca` holds no certificate"));
                }
                roots
            }
            None => rustls_native_certs::load_native_certs().certs,
        };
        let anchor = |root: &CertificateDer<'static>| {
            webpki::anchor_from_trusted_cert(root).ok().map(|anchor| anchor.to_owned())
        };
        let anchors: Vec<TrustAnchor<'static>> = roots.iter().filter_map(anchor).collect();
        if ca.is_some() && anchors.is_empty() {
            return Err(String::from("credential `webhook_ca` holds no certificate that can be a root"));
        }
        Ok(Self { anchors, is_configured: ca.is_some(), kept: Mutex::new(VecDeque::new()), fetches: Allowance::new(6) })
    }

    /// Whether there is nothing to hold certificates against.
    pub(super) fn has_no_roots(&self) -> bool {
        self.anchors.is_empty()
    }

    /// The certificate at an address that was found to be PayPal's.
    ///
    /// # Errors
    /// [`NotificationRefusal::CertificateUnavailable`] when it can't be had now, `Signature` when there is none.
    pub(super) async fn chain_at(
        &self,
        address: &Url,
        http: &HttpClient,
        now: Monotonic,
    ) -> Result<Chain, NotificationRefusal> {
        let kept = self.kept.lock().iter().find(|kept| kept.address == address.as_str()).map(|kept| kept.chain.clone());
        if let Some(chain) = kept {
            return Ok(chain);
        }
        if !self.fetches.take(now) {
            let reason = String::from("too many were asked for within a minute");
            return Err(NotificationRefusal::CertificateUnavailable(reason));
        }
        let answer = http.send(http.get_url(address.clone()), http.deadline()).await;
        let answer = answer.map_err(|error| NotificationRefusal::CertificateUnavailable(error.to_string()))?;
        match answer.status {
            200 => {}
            300..=499 => return Err(NotificationRefusal::Signature("there is no certificate at its address")),
            status => {
                let reason = format!("its address answered with HTTP status {status}");
                return Err(NotificationRefusal::CertificateUnavailable(reason));
            }
        }
        let chain = certificates_in(&answer.body).filter(|chain| (1..=CHAIN_MAX).contains(&chain.len()));
        chain.map(Arc::new).ok_or(NotificationRefusal::Signature("what is at its certificate's address is none"))
    }

    /// Keeps a certificate that somebody trusted vouches for, and that it has proved something. The oldest makes room, one
    /// that has proved nothing before one that has, so that forged notifications don't drive out those in use.
    pub(super) fn keep(&self, address: &Url, chain: &Chain, is_proved: bool) {
        let mut kept = self.kept.lock();
        if let Some(known) = kept.iter_mut().find(|kept| kept.address == address.as_str()) {
            known.is_proved |= is_proved;
            return;
        }
        if kept.len() >= KEPT_MAX {
            match kept.iter().position(|kept| !kept.is_proved) {
                Some(place) => drop(kept.remove(place)),
                None if is_proved => drop(kept.pop_front()),
                None => return,
            }
        }
        kept.push_back(Kept { address: address.to_string(), chain: Arc::clone(chain), is_proved });
    }

    /// Whether `signature` is one of `message` by this certificate, and the certificate is good at `now`.
    pub(super) fn judge(&self, chain: &Chain, message: &[u8], signature: &[u8], now: Timestamp) -> Verdict {
        let Some((leaf, intermediates)) = chain.split_first() else { return Verdict::Bad("it has no certificate") };
        let Ok(certificate) = EndEntityCert::try_from(leaf) else {
            return Verdict::Bad("its certificate can't be read");
        };
        let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.unix_s()).unwrap_or(0)));
        let path = certificate.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &self.anchors,
            intermediates,
            time,
            KeyUsage::server_auth(),
            None,
            None,
        );
        match path {
            Ok(_) => {}
            Err(webpki::Error::UnknownIssuer) if !self.is_configured => return Verdict::NoRoot,
            Err(_) => return Verdict::Bad("nobody that is trusted vouches for its certificate now"),
        }
        match certificate.verify_signature(webpki::ring::RSA_PKCS1_2048_8192_SHA256, message, signature) {
            Ok(()) => Verdict::Good,
            Err(_) => Verdict::Forged,
        }
    }
}

/// Whether a certificate may be fetched from an address: from PayPal's own hosts of our mode, or the very host that we
/// speak to. Nothing else is ever asked.
///
/// # Errors
/// [`NotificationRefusal`].
pub(super) fn allowed(address: &str, base_url: &Url) -> Result<Url, NotificationRefusal> {
    let refused = NotificationRefusal::Signature("its certificate's address is not PayPal's");
    let Ok(address) = Url::parse(address) else { return Err(refused) };
    if !address.username().is_empty() || address.password().is_some() || address.fragment().is_some() {
        return Err(refused);
    }
    if address.origin() == base_url.origin() {
        return Ok(address);
    }
    if address.scheme() != "https" || address.port().is_some() {
        return Err(refused);
    }
    let host = address.host_str().unwrap_or_default();
    let base = base_url.host_str().unwrap_or_default();
    let (ours, others): (&[&str], &[&str]) = match base {
        base if LIVE_HOSTS.contains(&base) => (&LIVE_HOSTS, &SANDBOX_HOSTS),
        base if SANDBOX_HOSTS.contains(&base) => (&SANDBOX_HOSTS, &LIVE_HOSTS),
        _ => (&[], &LIVE_HOSTS),
    };
    match host {
        host if ours.contains(&host) => Ok(address),
        host if others.contains(&host) => Err(NotificationRefusal::WrongMode),
        _ => Err(refused),
    }
}

fn certificates_in(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed(address: &str, base_url: &str) -> bool {
        allowed(address, &Url::parse(base_url).unwrap()).is_ok()
    }

    #[test]
    fn only_paypal_s_own_hosts_are_asked_for_certificates() {
        let live = "https://api-m.paypal.com";
        for address in ["https://api.paypal.com/v1/notifications/certs/CERT-1", "https://api-m.paypal.com/x"] {
            assert!(is_allowed(address, live), "{address}");
        }
        for address in [
            "http://api.paypal.com/x",
            "https://api.paypal.com.evil.example/x",
            "https://evil.example/api.paypal.com",
            "https://evil.example#api.paypal.com",
            "https://api.paypal.com@evil.example/x",
            "https://user@api.paypal.com/x",
            "https://user:secret@api.paypal.com/x",
            "https://api.paypal.com:8443/x",
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "http://169.254.169.254/latest/meta-data",
            "https://paypal.com/x",
            "https://www.paypal.com/x",
            "file:///etc/passwd",
            "api.paypal.com/x",
            "",
        ] {
            assert!(!is_allowed(address, live), "{address}");
        }
        assert!(is_allowed("http://127.0.0.1:4001/v1/notifications/certs/x", "http://127.0.0.1:4001"));
        assert!(!is_allowed("http://127.0.0.1:4002/v1/notifications/certs/x", "http://127.0.0.1:4001"));
    }

    #[test]
    fn certificates_of_the_other_mode_are_told_apart() {
        for (address, base_url) in [
            ("https://api.sandbox.paypal.com/x", "https://api-m.paypal.com"),
            ("https://api.paypal.com/x", "https://api-m.sandbox.paypal.com"),
            ("https://api.paypal.com/x", "http://127.0.0.1:4001"),
        ] {
            let refusal = allowed(address, &Url::parse(base_url).unwrap()).unwrap_err();
            assert_eq!(refusal, NotificationRefusal::WrongMode, "{address}");
        }
    }

    #[test]
    fn an_allowance_comes_back_after_a_minute() {
        let allowance = Allowance::new(2);
        let at = |seconds: u64| Monotonic::from_micros(seconds * 1_000_000);
        assert!(allowance.take(at(1)) && allowance.take(at(30)));
        assert!(!allowance.take(at(60)));
        assert!(allowance.take(at(61)));
        assert!(!allowance.take(at(89)));
    }
}
