//! Names of things. Each is a type of its own, so that a payment's number is never taken for a merchant's.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is; whoever reads outside input checks its form first.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A merchant, `m_` and 19 letters or digits that sort by the time it was made.
    MerchantId
);
text_id!(
    /// An API key's public half, `ak_…`.
    KeyId
);
text_id!(
    /// A payment, `PY`, 14 digits of its second, 8 lower-case letters or digits.
    PaymentNo
);
text_id!(
    /// A pre-auth, `PA` and the same form as a payment's.
    PreAuthNo
);
text_id!(
    /// A refund, `RF` and the same form as a payment's.
    RefundNo
);
text_id!(
    /// A payment channel as the configuration names it, such as `stripe`.
    ChannelName
);
text_id!(
    /// A webhook endpoint, `we_…`.
    EndpointId
);
text_id!(
    /// A job on many webhooks, `wj_…`, which sorts by the time it was made.
    JobId
);
text_id!(
    /// One event on its way to one endpoint, `wn_…`; also its `webhook-id` on the wire.
    NotificationId
);
text_id!(
    /// One event of a merchant, `ev_…`.
    EventId
);

const BASE36: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// `length` characters from `0-9a-z`, the last of them changing fastest with `number`.
fn base36(mut number: u64, length: usize) -> String {
    let mut digits = vec![b'0'; length];
    for digit in digits.iter_mut().rev() {
        *digit = BASE36[usize::try_from(number % 36).unwrap_or(0)];
        number /= 36;
    }
    String::from_utf8(digits).unwrap_or_default()
}

/// The number of a payment, refund or pre-auth: `prefix`, the second, two characters for the millisecond within it and
/// six random ones, so that numbers sort by the time they were made.
pub fn dated_number(prefix: &str, now: Timestamp, draw: u64) -> String {
    let millisecond = u64::try_from(now.unix_ms().rem_euclid(1000)).unwrap_or(0);
    format!("{prefix}{}{}{}", now.compact(), base36(millisecond, 2), base36(draw, 6))
}

/// Whether a text has the form of the numbers that [`dated_number`] makes with this prefix.
pub fn is_dated_number(prefix: &str, text: &str) -> bool {
    let Some(rest) = text.strip_prefix(prefix) else { return false };
    made_at(rest).is_some() && rest.bytes().all(|byte| BASE36.contains(&byte))
}

/// What no number of [`dated_number`] that was made in the second of `from` or later sorts before, and every earlier one does.
pub fn first_dated_number(prefix: &str, from: Timestamp) -> String {
    let from = from.max(Timestamp::from_unix_s(0));
    format!("{prefix}{}", from.compact())
}

/// When a payment or pre-auth was made, by its number, to the second. `None` when it is neither's number.
pub fn object_made_at(number: &str) -> Option<Timestamp> {
    made_at(number.strip_prefix("PY").or_else(|| number.strip_prefix(PRE_AUTH_NO_PREFIX))?)
}

/// The second at the beginning of what follows a number's prefix.
fn made_at(rest: &str) -> Option<Timestamp> {
    let second = Some(rest).filter(|rest| rest.len() == 22)?.get(..14)?;
    let part = |range| second.get(range).filter(|part: &&str| part.bytes().all(|byte| byte.is_ascii_digit()));
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let (hours, minutes, seconds) = (part(8..10)?, part(10..12)?, part(12..14)?);
    Timestamp::parse_rfc3339(&format!("{year}-{month}-{day}T{hours}:{minutes}:{seconds}Z"))
}

/// What every payment's number begins with.
pub const PAYMENT_NO_PREFIX: &str = "PY";
/// What every refund's number begins with.
pub const REFUND_NO_PREFIX: &str = "RF";
/// What every pre-auth's number begins with.
pub const PRE_AUTH_NO_PREFIX: &str = "PA";

/// What every API key's id begins with.
pub const KEY_ID_PREFIX: &str = "ak_";

/// An id with `prefix` and 80 random bits written as 16 characters.
pub fn random_id(prefix: &str, draws: [u64; 2]) -> String {
    format!("{prefix}{}{}", base36(draws[0], 8), base36(draws[1], 8))
}

/// An id with `prefix` that sorts by the time it was made: 9 characters of milliseconds, 10 random ones.
pub fn sortable_id(prefix: &str, now: Timestamp, draw: u64) -> String {
    let millisecond = u64::try_from(now.unix_ms()).unwrap_or(0);
    format!("{prefix}{}{}", base36(millisecond, 9), base36(draw, 10))
}

/// What no id of [`sortable_id`] that was made at `from` or later sorts before, and every earlier one does.
pub fn first_sortable_id(prefix: &str, from: Timestamp) -> String {
    let millisecond = u64::try_from(from.unix_ms()).unwrap_or(0);
    format!("{prefix}{}", base36(millisecond, 9))
}

/// Longest id of a request that is taken from a client.
const REQUEST_ID_LEN_MAX: usize = 64;

/// Whether a client's id of its request can be taken over: visible, short, and nothing that could break a log line or a
/// header.
pub fn is_request_id(id: &str) -> bool {
    (1..=REQUEST_ID_LEN_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_id_of_a_time_stands_between_those_before_and_those_after() {
        let at = Timestamp::from_unix_ms(1_737_715_200_035);
        let before = sortable_id("wn_", Timestamp::from_unix_ms(1_737_715_200_034), u64::MAX);
        assert!(before < first_sortable_id("wn_", at));
        assert!(first_sortable_id("wn_", at) < sortable_id("wn_", at, 0));
        assert!(first_sortable_id("wn_", Timestamp::from_unix_ms(-1)) < sortable_id("wn_", at, 0));
    }

    #[test]
    fn the_first_number_of_a_second_stands_between_those_before_and_those_within() {
        let second = Timestamp::from_unix_s(1_737_715_200);
        let within = [second, Timestamp::from_unix_ms(1_737_715_200_999)];
        for at in within {
            assert!(
                dated_number("PY", Timestamp::from_unix_ms(1_737_715_199_999), u64::MAX) < first_dated_number("PY", at)
            );
            assert!(first_dated_number("PY", at) < dated_number("PY", second, 0));
        }
        assert_eq!(first_dated_number("PY", Timestamp::from_unix_s(-1)), "PY19700101000000");
    }

    #[test]
    fn dated_numbers_have_the_documented_form_and_sort_by_time() {
        let early = dated_number("PY", Timestamp::from_unix_ms(1_737_715_200_001), u64::MAX);
        let late = dated_number("PY", Timestamp::from_unix_ms(1_737_715_200_002), 0);
        assert_eq!(early.len(), 24);
        assert!(early.starts_with("PY20250124104000"));
        assert!(
            is_dated_number("PY", &early) && !is_dated_number("RF", &early) && !is_dated_number("PY", &early[..23])
        );
        for other in ["PY20250124104000abcdéfg", "PY20250124104000ABCDEFGH", "PY4242424242424242abcdef"] {
            assert!(!is_dated_number("PY", other), "{other}");
        }
        assert!(early < late);
    }

    #[test]
    fn a_number_of_a_payment_or_a_pre_auth_says_when_it_was_made() {
        let at = Timestamp::from_unix_ms(1_737_715_200_999);
        for prefix in ["PY", PRE_AUTH_NO_PREFIX] {
            assert_eq!(object_made_at(&dated_number(prefix, at, 7)), Some(Timestamp::from_unix_s(1_737_715_200)));
        }
        let others =
            ["", "PY", "PY007", "RF20250124104000aaaaaaaa", "PY20251324104000aaaaaaaa", "PY2025012410400a1234567"];
        for other in
            others.into_iter().chain(["PY+0250124104000aaaaaaaa", "PY20250124104000aaaaaaa\u{e9}", "PYééééééééééé"])
        {
            assert_eq!(object_made_at(other), None, "{other}");
        }
    }
}
