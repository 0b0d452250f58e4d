//! What a provider sends of its own accord. It is a hint to ask, never an answer: amounts and states are read from the
//! provider's answers alone.

use bytes::Bytes;

use crate::domain::inbox::{DisputeHint, Subject};
use crate::domain::time::Timestamp;

/// A request that claims to come from a provider, exactly as it arrived.
pub struct Inbound {
    /// Its headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its query, without the question mark.
    pub query: Option<String>,
    /// Its body, untouched: signatures are over these bytes.
    pub body: Bytes,
    /// When it arrived.
    pub received_at: Timestamp,
}

impl Inbound {
    /// The first header with this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A notification that was proved to come from the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The provider's own id of it, the same whenever it is sent again; at most 128 bytes.
    pub id: String,
    /// What the provider calls what happened.
    pub event: String,
    /// What it is about, at most eight things; none when it is of no interest here.
    pub subjects: Vec<Subject>,
    /// The payer's bank claims the money back.
    pub dispute: Option<DisputeHint>,
}

/// Why a notification is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotificationRefusal {
    /// The channel takes no notifications.
    #[error("the channel takes no notifications")]
    NotSupported,
    /// Its signature is missing or wrong.
    #[error("its signature is not right: {0}")]
    Signature(&'static str),
    /// It was signed too long ago, or in the future.
    #[error("its signature's time is outside the accepted window")]
    Stale,
    /// It is about somebody else's account.
    #[error("it is about another account")]
    WrongAccount,
    /// It is about play money where there is real money, or the other way round.
    #[error("it is of the other mode")]
    WrongMode,
    /// Signed, and not what it should be.
    #[error("it can't be read: {0}")]
    Malformed(&'static str),
    /// What its signature is checked with can't be had now; the provider sends it again.
    #[error("the certificate of its signature can't be had: {0}")]
    CertificateUnavailable(String),
}

/// What a provider wants to read when a notification was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Of the body.
    pub content_type: &'static str,
    /// The whole body.
    pub body: &'static str,
}

impl Default for Acknowledgement {
    fn default() -> Self {
        Self { content_type: "text/plain", body: "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_header_of_a_name_counts() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let inbound = Inbound {
            headers: vec![header("x-other", "0"), header("x-sig", "1"), header("x-sig", "2")],
            query: None,
            body: Bytes::new(),
            received_at: Timestamp::from_unix_s(0),
        };
        assert_eq!((inbound.header("x-sig"), inbound.header("x-sigs")), (Some("1"), None));
    }
}
