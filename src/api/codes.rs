//! The codes that errors carry, each with its one HTTP status.

use axum::http::StatusCode;

/// What a program reads to know what went wrong. Part of the contract: a code never changes its meaning or its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Code {
    InvalidRequest,
    Unauthenticated,
    SignatureExpired,
    NonceReused,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    OrderExists,
    InvalidState,
    IdempotencyInProgress,
    PayloadTooLarge,
    UnsupportedMediaType,
    IdempotencyMismatch,
    AmountTooLarge,
    CurrencyNotSupported,
    PreAuthNotSupported,
    PanRefused,
    UrlNotAllowed,
    RateLimitExceeded,
    Internal,
    ChannelError,
    NoChannelAvailable,
    Overloaded,
    Held,
    StorageLow,
    ShuttingDown,
}

impl Code {
    /// All codes, by status.
    pub(crate) const ALL: [Self; 27] = [
        Self::InvalidRequest,
        Self::Unauthenticated,
        Self::SignatureExpired,
        Self::NonceReused,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::OrderExists,
        Self::InvalidState,
        Self::IdempotencyInProgress,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::IdempotencyMismatch,
        Self::AmountTooLarge,
        Self::CurrencyNotSupported,
        Self::PreAuthNotSupported,
        Self::PanRefused,
        Self::UrlNotAllowed,
        Self::RateLimitExceeded,
        Self::Internal,
        Self::ChannelError,
        Self::NoChannelAvailable,
        Self::Overloaded,
        Self::Held,
        Self::StorageLow,
        Self::ShuttingDown,
    ];

    /// The code as bodies carry it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::SignatureExpired => "SIGNATURE_EXPIRED",
            Self::NonceReused => "NONCE_REUSED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::RequestTimeout => "REQUEST_TIMEOUT",
            Self::OrderExists => "ORDER_EXISTS",
            Self::InvalidState => "INVALID_STATE",
            Self::IdempotencyInProgress => "IDEMPOTENCY_IN_PROGRESS",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::IdempotencyMismatch => "IDEMPOTENCY_MISMATCH",
            Self::AmountTooLarge => "AMOUNT_TOO_LARGE",
            Self::CurrencyNotSupported => "CURRENCY_NOT_SUPPORTED",
            Self::PreAuthNotSupported => "PRE_AUTH_NOT_SUPPORTED",
            Self::PanRefused => "PAN_REFUSED",
            Self::UrlNotAllowed => "URL_NOT_ALLOWED",
            Self::RateLimitExceeded => "RATE_LIMIT_EXCEEDED",
            Self::Internal => "INTERNAL",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::NoChannelAvailable => "NO_CHANNEL_AVAILABLE",
            Self::Overloaded => "OVERLOADED",
            Self::Held => "HELD",
            Self::StorageLow => "STORAGE_LOW",
            Self::ShuttingDown => "SHUTTING_DOWN",
        }
    }

    /// The status that goes with it.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated | Self::SignatureExpired | Self::NonceReused => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::OrderExists | Self::InvalidState | Self::IdempotencyInProgress => StatusCode::CONFLICT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::IdempotencyMismatch
            | Self::AmountTooLarge
            | Self::CurrencyNotSupported
            | Self::PreAuthNotSupported
            | Self::PanRefused
            | Self::UrlNotAllowed => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RateLimitExceeded => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ChannelError => StatusCode::BAD_GATEWAY,
            Self::NoChannelAvailable | Self::Overloaded | Self::Held | Self::StorageLow | Self::ShuttingDown => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_have_error_statuses() {
        let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
        }
    }

    #[test]
    fn every_code_is_explained_with_its_status_and_nothing_else_is() {
        let page = include_str!("../../docs/errors.md");
        let rows = page.lines().filter_map(|line| {
            let mut cells = line.split(" | ");
            let status = cells.next()?.strip_prefix("| ")?.parse::<u16>().ok()?;
            let code = cells.next()?.trim_matches('`');
            assert!(cells.all(|cell| cell.len() > 4), "cause and cure of {code}");
            Some((status, code))
        });
        let explained: BTreeSet<(u16, &str)> = rows.collect();
        let coded = Code::ALL.map(|code| (code.status().as_u16(), code.as_str()));
        assert_eq!(explained, BTreeSet::from(coded));
    }
}
