//! Whom receivers' certificates are checked against, and what is said when TLS fails.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use tokio_rustls::TlsConnector;

use crate::delivery::DeliveryError;

/// Who may sign certificates.
#[derive(Debug)]
pub(super) enum Authorities {
    /// Those that the machine trusts.
    Machine,
    /// Only these.
    #[cfg(test)]
    These(RootCertStore),
}

/// How to speak TLS with receivers.
///
/// # Errors
/// Why that is impossible, for the operator.
pub(super) fn connector(authorities: Authorities) -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS can't be set up for webhooks: {error}"))?;
    let mut config = match authorities {
        Authorities::Machine => match Verifier::new(provider) {
            Ok(verifier) => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
            }
            Err(error) => {
                // A machine without certificate authorities can still serve everything but https webhooks.
                tracing::warn!(
                    %error,
                    "no certificate authorities found: webhooks over https will fail until they are installed \
                     (ca-certificates)"
                );
                builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
            }
        },
        #[cfg(test)]
        Authorities::These(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What a failed handshake is told as.
pub(super) fn failure_of(error: &io::Error) -> DeliveryError {
    tracing::debug!(%error, "a webhook's receiver failed the TLS handshake");
    let words = match rustls_error_in(error) {
        Some(error) => words_of(error),
        None => String::from("the connection broke during the handshake"),
    };
    DeliveryError::Tls(words)
}

/// An `io::Error` does not name what it was made of as its source, so it is opened at each step.
fn rustls_error_in(error: &io::Error) -> Option<&rustls::Error> {
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        if let Some(found) = cause.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let inside = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match inside {
            Some(inside) => inside,
            None => cause.source()?,
        };
    }
}

fn words_of(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(reason) => String::from(words_of_certificate(reason)),
        rustls::Error::InvalidMessage(_) => String::from("the receiver does not speak TLS"),
        rustls::Error::PeerIncompatible(_) => String::from("the receiver offers no version or cipher that is safe"),
        rustls::Error::AlertReceived(alert) => format!("the receiver broke off the handshake ({alert:?})"),
        _ => String::from("the handshake failed"),
    }
}

fn words_of_certificate(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate is for another name"
        }
        CertificateError::Revoked => "the certificate has been revoked",
        // The second: the authority goes by a name that is trusted, but has another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the certificate is not signed by an authority that is trusted here"
        }
        _ => "the certificate is not accepted",
    }
}
