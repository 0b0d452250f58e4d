//! How money, times and shares are written for people.

use crate::domain::money::{Currency, Money};
use crate::domain::time::Timestamp;

/// An amount with its currency's decimals, thousands set apart: `1,234.50 USD`. What is no currency is written as minor
/// units.
pub(super) fn money(amount_minor: i64, currency: &str) -> String {
    match currency.parse::<Currency>() {
        Ok(currency) => format!("{} {currency}", grouped(&Money::new(amount_minor, currency).decimal())),
        Err(_) => format!("{} {currency} (minor units)", count(amount_minor)),
    }
}

/// A whole number, thousands set apart.
pub(super) fn count(number: impl ToString) -> String {
    grouped(&number.to_string())
}

/// How likely it is that a payment succeeds, as routing goes by it: what was seen is mixed with what is assumed, and where
/// nothing was seen it is assumed alone.
pub(super) fn expectation(share: f64, is_assumed: bool) -> String {
    if is_assumed { format!("{}, assumed", percent(share)) } else { percent(share) }
}

/// A share from 0 to 1 as percent with one decimal.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A point in RFC 3339 as people read it: `2026-01-31 10:20:30`, in UTC.
pub(super) fn moment(rfc3339: &str) -> String {
    match Timestamp::parse_rfc3339(rfc3339) {
        Some(at) => at.rfc3339().replace('T', " ").trim_end_matches('Z').to_owned(),
        None => String::from(rfc3339),
    }
}

/// What a form's field for a date or a moment holds, as the gateway reads it (RFC 3339, UTC). Other text is left for the
/// gateway to judge.
pub(super) fn sent_moment(text: &str) -> String {
    match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 if text.as_bytes().get(10) == Some(&b'T') => format!("{text}:00Z"),
        19 if text.as_bytes().get(10) == Some(&b'T') => format!("{text}Z"),
        _ => String::from(text),
    }
}

/// A name of the machine's for people: `requires_capture` is `requires capture`.
pub(super) fn words(name: &str) -> String {
    name.replace('_', " ")
}

fn grouped(number: &str) -> String {
    let (sign, rest) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) = rest.split_once('.').map_or((rest, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut text = String::from(sign);
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if let Some(fraction) = fraction {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_follow_their_currency() {
        assert_eq!(money(123_450, "USD"), "1,234.50 USD");
        assert_eq!(money(-5, "USD"), "-0.05 USD");
        assert_eq!(money(1_000_000, "JPY"), "1,000,000 JPY");
        assert_eq!(money(999, "USD"), "9.99 USD");
        assert_eq!(money(1_234, "???"), "1,234 ??? (minor units)");
        assert_eq!(count(999), "999");
        assert_eq!(count(-1_000), "-1,000");
        assert_eq!(percent(0.98765), "98.8 %");
    }

    #[test]
    fn moments_are_read_and_written() {
        assert_eq!(moment("2026-01-31T10:20:30Z"), "2026-01-31 10:20:30");
        assert_eq!(moment("2026-01-31T10:20:30.5+01:00"), "2026-01-31 09:20:30");
        assert_eq!(moment("<b>"), "<b>");
        for (sent, read) in [
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("2026-01-31T10:20", "2026-01-31T10:20:00Z"),
            ("2026-01-31T10:20:30", "2026-01-31T10:20:30Z"),
            ("2026-01-31T10:20:30Z", "2026-01-31T10:20:30Z"),
            ("yesterday", "yesterday"),
        ] {
            assert_eq!(sent_moment(sent), read);
        }
    }
}
