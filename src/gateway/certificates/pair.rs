//! One certificate with its key, read from two files and held against each other.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use webpki::{EndEntityCert, KeyUsage};
use zeroize::Zeroizing;

use crate::config::{open_regular, read_within};
use crate::domain::time::Timestamp;

/// Largest file that is read, in bytes; a chain has a few thousand.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Certificates of one chain.
const CHAIN_MAX: usize = 16;
/// Names that are told; a certificate may have hundreds.
const NAMES_TOLD_MAX: usize = 20;
/// The bits by which a file is open to everybody on the machine.
const OTHERS: u32 = 0o007;

/// Where a certificate and its key are, and by which keys of the configuration they are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PairFiles {
    pub(super) certificate_key: &'static str,
    pub(super) certificate: PathBuf,
    pub(super) key_key: &'static str,
    pub(super) key: PathBuf,
}

/// Files that can't be used as certificate and key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {} {problem}", path.display())]
pub struct InvalidCertificate {
    key: &'static str,
    path: PathBuf,
    problem: String,
}

impl InvalidCertificate {
    /// The key of the configuration that names the file.
    pub(crate) fn key(&self) -> &'static str {
        self.key
    }
}

/// What is known of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) names: Vec<String>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// Whether everybody on this machine may read the key.
    pub(super) key_is_open: bool,
    /// Whether it is an authority's, which strict clients do not take for a server's.
    pub(super) is_authority: bool,
}

impl About {
    /// Why it can't be used at `now`, in words; `None` when it can.
    pub(super) fn out_of_date(&self, now: Timestamp) -> Option<String> {
        if now > self.not_after {
            return Some(format!("has expired at {}; renew it", self.not_after.rfc3339()));
        }
        (now < self.not_before)
            .then(|| format!("is not valid before {}; is the clock right?", self.not_before.rfc3339()))
    }
}

/// What is in both files, so that it can be told whether they have changed. Never what is in them itself.
pub(super) type Digests = [u8; 32];

/// A certificate with the key that it belongs to.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) about: About,
    pub(super) digests: Digests,
}

/// The bytes of both files as they stood.
pub(super) struct Contents {
    certificate: Result<Vec<u8>, String>,
    key: Result<Zeroizing<Vec<u8>>, String>,
    key_is_open: bool,
    pub(super) digests: Digests,
}

impl PairFiles {
    /// Reads both files. May block.
    pub(super) fn read(&self) -> Contents {
        let certificate = bytes_of(&self.certificate).map(|(bytes, _)| bytes);
        let (key, mode) = match bytes_of(&self.key) {
            Ok((bytes, mode)) => (Ok(Zeroizing::new(bytes)), mode),
            Err(problem) => (Err(problem), 0),
        };
        let mut digest = Sha256::new();
        // What can't be read has contents too: the reason why.
        for part in [
            certificate.as_deref().unwrap_or_else(|problem| problem.as_bytes()),
            key.as_ref().map_or_else(|problem: &String| problem.as_bytes(), |bytes| bytes.as_slice()),
        ] {
            digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(part);
        }
        Contents { certificate, key, key_is_open: mode & OTHERS != 0, digests: digest.finalize().into() }
    }

    /// Makes a pair of what is in the files.
    ///
    /// # Errors
    /// [`InvalidCertificate`], with a sentence that says what to do.
    pub(super) fn parse(&self, contents: Contents, provider: &CryptoProvider) -> Result<Pair, InvalidCertificate> {
        let Contents { certificate, key, key_is_open, digests } = contents;
        let chain = certificate.and_then(|bytes| chain_of(&bytes)).map_err(|problem| self.certificate_is(problem))?;
        let key = key.and_then(|bytes| key_of(&bytes)).map_err(|problem| self.key_is(problem))?;
        let about = about(&chain, key_is_open).map_err(|problem| self.certificate_is(problem))?;
        let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => self.key_is(format!(
                "is not the key of {}; both must be of one issue, the certificate before those that vouch for it",
                self.certificate.display()
            )),
            error => self.key_is(format!("can't be used ({error}); RSA from 2048 bits, ECDSA and Ed25519 can")),
        })?;
        Ok(Pair { certified: Arc::new(certified), about, digests })
    }

    /// What is wrong with the certificate.
    pub(super) fn certificate_is(&self, problem: impl Into<String>) -> InvalidCertificate {
        InvalidCertificate { key: self.certificate_key, path: self.certificate.clone(), problem: problem.into() }
    }

    fn key_is(&self, problem: impl Into<String>) -> InvalidCertificate {
        InvalidCertificate { key: self.key_key, path: self.key.clone(), problem: problem.into() }
    }
}

/// The bytes and the mode of a file.
fn bytes_of(path: &Path) -> Result<(Vec<u8>, u32), String> {
    let failed = |error: std::io::Error| format!("can't be read ({error})");
    let file = open_regular(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode();
    Ok((read_within(file, FILE_BYTES_MAX).map_err(failed)?, mode))
}

fn chain_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(CHAIN_MAX + 1).collect();
    let chain = chain.map_err(|error| format!("is damaged ({error:?})"))?;
    match chain.len() {
        0 => Err(String::from("has no certificate; it must be PEM (-----BEGIN CERTIFICATE-----)")),
        1..=CHAIN_MAX => Ok(chain),
        _ => Err(format!("has more than {CHAIN_MAX} certificates; it must be one with those that vouch for it")),
    }
}

fn key_of(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound if is_encrypted(pem) => {
            String::from("is encrypted; the key must be there without a password, readable for this process alone")
        }
        rustls::pki_types::pem::Error::NoItemsFound => {
            String::from("has no private key; it must be PEM (-----BEGIN PRIVATE KEY-----)")
        }
        // Without what was found: it may be the key.
        _ => String::from("is damaged"),
    })
}

fn is_encrypted(pem: &[u8]) -> bool {
    const MARK: &[u8] = b"ENCRYPTED PRIVATE KEY";
    pem.windows(MARK.len()).any(|window| window == MARK)
}

fn about(chain: &[CertificateDer<'static>], key_is_open: bool) -> Result<About, String> {
    let first = chain.first().ok_or("has no certificate")?;
    let unusable = |error: webpki::Error| format!("has a certificate that can't be used ({error})");
    let certificate = EndEntityCert::try_from(first).map_err(unusable)?;
    let names = certificate.valid_dns_names().take(NAMES_TOLD_MAX).map(String::from).collect();
    // The end is told by asking at a time after all ends, and the beginning by asking before all beginnings.
    let not_after = match validity(&certificate, Duration::from_secs(u64::MAX)) {
        Some(webpki::Error::CertExpired { not_after, .. }) => not_after,
        other => return Err(no_validity(other)),
    };
    let not_before = match validity(&certificate, Duration::ZERO) {
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => not_before,
        // It begins with the epoch.
        Some(webpki::Error::UnknownIssuer | webpki::Error::CaUsedAsEndEntity) => {
            UnixTime::since_unix_epoch(Duration::ZERO)
        }
        other => return Err(no_validity(other)),
    };
    let while_valid = validity(&certificate, Duration::from_secs(not_after.as_secs()));
    let is_authority = matches!(while_valid, Some(webpki::Error::CaUsedAsEndEntity));
    let (not_before, not_after) = (timestamp(not_before), timestamp(not_after));
    Ok(About { names, not_before, not_after, key_is_open, is_authority })
}

/// What is wrong with a certificate at a time. Nobody vouches for it here, so something always is.
fn validity(certificate: &EndEntityCert<'_>, since_epoch: Duration) -> Option<webpki::Error> {
    let at = UnixTime::since_unix_epoch(since_epoch);
    certificate.verify_for_usage(&[], &[], &[], at, KeyUsage::server_auth(), None, None).err()
}

fn no_validity(error: Option<webpki::Error>) -> String {
    let reason = error.map_or_else(|| String::from("no dates"), |error| error.to_string());
    format!("has a certificate whose dates can't be read ({reason})")
}

fn timestamp(time: UnixTime) -> Timestamp {
    Timestamp::from_unix_s(i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 1_000))
}
