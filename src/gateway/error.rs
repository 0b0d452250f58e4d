//! Why the gateway did not do what it was asked. One place (`api::error`) turns these into HTTP.

pub(crate) use crate::delivery::url::URL_MAX_BYTES;
pub use crate::delivery::url::UrlRefusal;
use crate::domain::routing::NoChannel;
use crate::domain::time::Timestamp;
use crate::storage::vault::VaultError;
use crate::storage::{DISK_SPACE_IS_LOW, StoreError};

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// The field's name, with a dot before the name of an inner one.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl FieldError {
    /// What is wrong with `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Why a merchant may not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The operator has suspended it.
    #[error("the merchant is suspended")]
    Suspended,
    /// The configuration file says so, and only there can it be changed.
    #[error("the rule is the configuration file's; change it there")]
    RuleOfFile,
    /// It has as many webhook endpoints as it may have.
    #[error("a merchant has at most {0} webhook endpoints")]
    EndpointsMax(usize),
}

/// Why work on many notifications is not begun, or not ended before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobRefusal {
    /// One of this kind is under way for the endpoint: its id.
    #[error("job {0} of this kind is under way for this endpoint; wait for its end or cancel it")]
    UnderWay(String),
    /// As many are under way as a merchant may have.
    #[error("as many jobs are under way as there may be ({0}); wait for the end of one or cancel one")]
    TooMany(usize),
    /// It has to be done: what it does.
    #[error("a {0} job has to be done and can't be canceled")]
    HasToBeDone(&'static str),
}

/// Why the gateway did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GatewayError {
    /// Fields are missing, unknown or wrong.
    #[error("the request is not valid")]
    InvalidRequest(Vec<FieldError>),
    /// Key or signature is wrong; deliberately not said which.
    #[error("the request is not authenticated")]
    Unauthenticated,
    /// Rightly signed, with a nonce that is none; clients are told the same as for [`GatewayError::Unauthenticated`].
    #[error("the nonce has not the form of one")]
    InvalidNonce,
    /// The signature is too old, too far ahead, or older than this process.
    #[error("the signature's time is outside the accepted window")]
    SignatureExpired {
        /// What our clock says.
        server_time: Timestamp,
    },
    /// The nonce was used before.
    #[error("the nonce was used before")]
    NonceReused,
    /// The merchant is suspended, or may not do this.
    #[error("not allowed: {0}")]
    Forbidden(Forbidden),
    /// There is no such object, or it is another merchant's.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The order number is held by another payment.
    #[error("the order number is in use by {number}")]
    OrderExists {
        /// `payment_no` or `pre_auth_no`.
        field: &'static str,
        /// The number of who holds it.
        number: String,
    },
    /// The object's state does not allow this.
    #[error("not possible in status {status}")]
    InvalidState {
        /// The object's status.
        status: String,
    },
    /// Work on many notifications is not begun, or not ended.
    #[error("{0}")]
    JobRefused(JobRefusal),
    /// A request with the same idempotency key is still running.
    #[error("a request with this idempotency key is still running")]
    IdempotencyInProgress,
    /// The idempotency key was used with another body.
    #[error("this idempotency key was used with another body")]
    IdempotencyMismatch,
    /// More than is allowed, charged or refundable.
    #[error("the amount is too large: at most {max_minor} minor units")]
    AmountTooLarge {
        /// The most that would be possible.
        max_minor: i64,
    },
    /// No channel takes this currency.
    #[error("currency {0} is not supported")]
    CurrencyNotSupported(String),
    /// The channel that was asked for can't hold money, or none that the merchant may use can.
    #[error("the payment channel does not support pre-authorization")]
    PreAuthNotSupported,
    /// A field holds what looks like a card number.
    #[error("the field {0} holds what looks like a card number")]
    PanRefused(String),
    /// Webhooks may not be sent to this URL.
    #[error("webhooks can't be sent to this URL: {0}")]
    UrlNotAllowed(UrlRefusal),
    /// No channel can take the payment; says why for each, and when to come back.
    #[error("no channel is available: {0}")]
    NoChannelAvailable(Box<NoChannel>),
    /// No room for more work now.
    #[error("too much work at the moment")]
    Overloaded {
        /// When it makes sense to come back.
        retry_after_s: u64,
    },
    /// The store was restored, and the providers have not all been asked yet what happened since.
    #[error("the store was restored and is held until the providers were asked what happened since")]
    Held,
    /// The disk has little room left: nothing new is begun.
    #[error("the disk has little room left")]
    StorageLow,
    /// The process is stopping.
    #[error("the gateway is stopping")]
    ShuttingDown,
    /// Something inside failed. The text is for the log, never for a client.
    #[error("internal error: {0}")]
    Internal(String),
}

impl GatewayError {
    /// One wrong field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidRequest(vec![FieldError::new(field, message)])
    }
}

impl From<StoreError> for GatewayError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Overloaded(DISK_SPACE_IS_LOW) => Self::StorageLow,
            StoreError::Overloaded(_) => Self::Overloaded { retry_after_s: 1 },
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<VaultError> for GatewayError {
    fn from(error: VaultError) -> Self {
        Self::Internal(error.to_string())
    }
}
