//! What is wrong with a server's certificate, in words that say what to do.

use std::error::Error;
use std::path::Path;

use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use crate::domain::time::Timestamp;

/// Names that are told; a certificate may have hundreds.
const NAMES_TOLD_MAX: usize = 5;

/// Why an exchange with `server` could not be encrypted, if that is what it failed for. `authorities` is the file that was
/// asked whether to believe it; those whom this machine trusts were asked when there is none.
pub(super) fn problem_with(error: &(dyn Error + 'static), server: &str, authorities: Option<&Path>) -> Option<String> {
    match tls_error_in(error)? {
        rustls::Error::InvalidCertificate(reason) => Some(certificate_problem(reason, server, authorities)),
        rustls::Error::InvalidMessage(_) => {
            Some(format!("{server} does not speak TLS; is its address one with http:// in place of https://?"))
        }
        rustls::Error::AlertReceived(alert) => {
            Some(format!("{server} broke the TLS handshake off ({alert:?}); does it speak TLS 1.2 or 1.3?"))
        }
        _ => None,
    }
}

fn certificate_problem(reason: &CertificateError, server: &str, authorities: Option<&Path>) -> String {
    let its = format!("the certificate of {server}");
    match reason {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("{its} has expired at {}; renew it there, unless this machine's clock is wrong", at(*not_after))
        }
        CertificateError::Expired => format!("{its} has expired; renew it there, unless this machine's clock is wrong"),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("{its} is not valid before {}; check the clocks of both machines", at(*not_before))
        }
        CertificateError::NotValidYet => format!("{its} is not valid yet; check the clocks of both machines"),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<String> = presented.iter().take(NAMES_TOLD_MAX).map(|name| name_of(name)).collect();
            let names = if names.is_empty() { String::from("no name at all") } else { names.join(", ") };
            format!("{its} is for {names}; call it by a name that is in it, or have one issued that has this name, too")
        }
        CertificateError::NotValidForName => format!("{its} is for another name; call it by a name that is in it"),
        CertificateError::UnknownIssuer => match authorities {
            Some(file) => format!(
                "{} does not vouch for {its}; --ca-file has to be the certificate of who issued it (not the server's own), or, \
                 if nobody did, the server's own",
                file.display()
            ),
            None => format!(
                "nobody whom this machine trusts vouches for {its}; give the certificate of who issued it with --ca-file (or \
                 TOLLGATE_CA_FILE), or, if nobody did, the server's own"
            ),
        },
        CertificateError::BadSignature => format!(
            "{its} was not signed by whom it names{}; is that an older or a newer authority of the same name?",
            authorities.map(|file| format!(", as far as {} says", file.display())).unwrap_or_default()
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!("{its} is not for servers; have one issued for them (extended key usage serverAuth)")
        }
        CertificateError::Other(other) if is_authority(other.0.as_ref()) => format!(
            "{its} is that of an authority (CA:TRUE), which must not be a server's; have it issue one for the server, or make a \
             self-signed one with `-addext basicConstraints=critical,CA:FALSE`"
        ),
        other => format!("{its} is not accepted ({other})"),
    }
}

fn is_authority(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// A name in a certificate, which comes as `DnsName("a.example")` or `IpAddress(127.0.0.1)`.
fn name_of(presented: &str) -> String {
    let inside = presented.split_once('(').map_or(presented, |(_, inside)| inside.trim_end_matches(')'));
    inside.trim_matches('"').to_owned()
}

fn at(time: UnixTime) -> String {
    Timestamp::from_unix_s(i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 1_000)).rfc3339()
}

fn tls_error_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error hands on the cause of what it holds, not what it holds, which may be one of its kind.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = held.map_or_else(|| error.source(), |held| Some(held));
    }
    None
}
