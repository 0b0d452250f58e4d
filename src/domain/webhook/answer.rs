//! What a receiver's answer means for a notification.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// How one try ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TryResult {
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The receiver's status code; `None` when there was no answer.
    pub status_code: Option<u16>,
    /// How long the receiver asks us to wait.
    pub retry_after: Option<Duration>,
    /// The beginning of the receiver's answer.
    pub response: Option<String>,
    /// Why there was no answer, in words for the merchant.
    pub error: Option<String>,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Success,
    /// Try again later.
    Retry,
    /// The receiver does not want it; trying again would not help.
    Refused,
    /// The receiver wants nothing more at this address.
    Gone,
}

/// What follows from a status code, or from there being none. A code that HTTP does not define counts as no answer.
pub const fn verdict(status_code: Option<u16>) -> Verdict {
    match status_code {
        Some(200..=299) => Verdict::Success,
        Some(410) => Verdict::Gone,
        Some(408 | 429 | 500..=599) => Verdict::Retry,
        Some(300..=499) => Verdict::Refused,
        Some(_) | None => Verdict::Retry,
    }
}

/// Reads a `Retry-After` header: whole seconds, or a date. `None` when it is neither; zero when the date is past.
pub fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean longer than any wait that is honoured.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp::from_unix_ms(date.as_millisecond()).since(now))
}
