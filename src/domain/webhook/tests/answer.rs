//! Tests of what answers mean.

use super::NOW;
use crate::domain::webhook::{Verdict, parse_retry_after, verdict};

#[test]
fn retry_after_is_read_as_seconds_or_as_a_date() {
    let table = [
        ("120", Some(120)),
        (" 0 ", Some(0)),
        ("Fri, 24 Jan 2025 10:41:00 GMT", Some(60)),
        ("Fri, 24 Jan 2025 10:39:00 GMT", Some(0)),
        ("99999999999999999999", Some(u64::from(u32::MAX))),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("1.5", None),
    ];
    for (text, seconds) in table {
        assert_eq!(parse_retry_after(text, NOW).map(|wait| wait.as_secs()), seconds, "{text:?}");
    }
}

#[test]
fn every_status_code_has_the_documented_verdict() {
    for code in 0..=1_000_u16 {
        let expected = match code {
            200..=299 => Verdict::Success,
            410 => Verdict::Gone,
            408 | 429 | 500..=599 => Verdict::Retry,
            300..=499 => Verdict::Refused,
            _ => Verdict::Retry,
        };
        assert_eq!(verdict(Some(code)), expected, "{code}");
    }
    assert_eq!(verdict(None), Verdict::Retry);
}
