//! Where a request stands in a distributed trace: the `traceparent` and `tracestate` of W3C's Trace Context, as they come
//! in, as they are kept, and as they go on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::pan::holds_card_number;

/// Longest `tracestate` that is passed on, in bytes; what the standard wants every service to take.
pub const TRACE_STATE_MAX_BYTES: usize = 512;
/// Most entries of a `tracestate`.
const TRACE_STATE_MEMBERS_MAX: usize = 32;
/// Bytes of a `traceparent` of version 00, of which later versions begin with the same.
const TRACE_PARENT_BYTES: usize = 55;
const SAMPLED: u8 = 1;

/// The text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent such as \"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"")]
pub struct InvalidTraceParent;

/// A span of a trace, as others refer to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span in it under which what follows belongs; never 0.
    pub span_id: u64,
    /// Whether it is recorded.
    pub is_sampled: bool,
}

impl TraceParent {
    /// The trace's id as 32 hexadecimal digits.
    pub fn trace_id_text(&self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id, is_sampled } = self;
        write!(formatter, "00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(*is_sampled))
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    /// Reads version 00, and of later versions what they have in common with it.
    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let bytes = text.as_bytes();
        let head = bytes.get(..TRACE_PARENT_BYTES).ok_or(InvalidTraceParent)?;
        let dashes = [2, 35, 52].iter().all(|place| head[*place] == b'-');
        let version = hex(&head[..2])?;
        let ends_well = match (version, bytes.get(TRACE_PARENT_BYTES)) {
            (0xff, _) => false,
            (_, None) => true,
            (version, Some(next)) => version > 0 && *next == b'-',
        };
        let trace_id = hex(&head[3..35])?;
        let span_id = u64::try_from(hex(&head[36..52])?).map_err(|_| InvalidTraceParent)?;
        let flags = u8::try_from(hex(&head[53..55])?).map_err(|_| InvalidTraceParent)?;
        if !dashes || !ends_well || trace_id == 0 || span_id == 0 {
            return Err(InvalidTraceParent);
        }
        Ok(Self { trace_id, span_id, is_sampled: flags & SAMPLED != 0 })
    }
}

/// A number of lower-case hexadecimal digits, as the standard wants them; at most 32 of them.
fn hex(digits: &[u8]) -> Result<u128, InvalidTraceParent> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return Err(InvalidTraceParent),
        };
        Ok(number << 4 | u128::from(value))
    })
}

impl Serialize for TraceParent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceParent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where something stands in a trace, with what other services want to have passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    /// The span that it belongs under.
    #[serde(rename = "traceparent")]
    pub parent: TraceParent,
    /// The `tracestate` that came with it.
    #[serde(rename = "tracestate", default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl TraceContext {
    /// What the two headers say. A `traceparent` that is none, or is there more than once, says nothing; a `tracestate` that
    /// is none is left out.
    pub fn from_headers<'a>(
        mut parents: impl Iterator<Item = &'a str>,
        states: impl Iterator<Item = &'a str>,
    ) -> Option<Self> {
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let parent = parent.parse().ok()?;
        let state = states.collect::<Vec<_>>().join(",");
        Some(Self { parent, state: is_trace_state(&state).then_some(state) })
    }
}

/// Whether `text` is a `tracestate` that is worth passing on.
fn is_trace_state(text: &str) -> bool {
    let members: Vec<&str> = text.split(',').map(|member| member.trim_matches([' ', '\t'])).collect();
    text.len() <= TRACE_STATE_MAX_BYTES
        && !holds_card_number(text)
        && members.len() <= TRACE_STATE_MEMBERS_MAX
        && members.iter().any(|member| !member.is_empty())
        && members.iter().all(|member| member.is_empty() || is_member(member))
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let in_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    let in_value = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b',' && byte != b'=';
    (1..=256).contains(&key.len())
        && key.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && key.bytes().all(in_key)
        && (1..=256).contains(&value.len())
        && value.bytes().all(in_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_and_written() {
        let parent: TraceParent = PARENT.parse().unwrap();
        assert_eq!(parent.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(parent.span_id, 0xb7ad_6b71_6920_3331);
        assert!(parent.is_sampled);
        assert_eq!(parent.to_string(), PARENT);
        assert_eq!(parent.trace_id_text(), "0af7651916cd43dd8448eb211c80319c");
        // Flags that are not known are not passed on.
        let unsampled: TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-fe".parse().unwrap();
        assert!(unsampled.to_string().ends_with("-00"));
    }

    #[test]
    fn a_later_version_may_say_more() {
        let later = PARENT.replacen("00", "01", 1);
        for text in [later.clone(), format!("{later}-"), format!("{later}-what-ever")] {
            assert_eq!(text.parse::<TraceParent>().map(|parent| parent.to_string()).as_deref(), Ok(PARENT), "{text}");
        }
        assert!(format!("{later}x").parse::<TraceParent>().is_err());
    }

    #[test]
    fn what_is_not_one_is_refused() {
        for text in [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-é1",
            "+0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(InvalidTraceParent), "{text}");
        }
    }

    fn context(parents: &[&str], states: &[&str]) -> Option<TraceContext> {
        TraceContext::from_headers(parents.iter().copied(), states.iter().copied())
    }

    #[test]
    fn two_parents_are_none_and_states_are_joined() {
        assert_eq!(context(&[], &["a=1"]), None);
        assert_eq!(context(&[PARENT, PARENT], &[]), None);
        assert_eq!(context(&["x"], &["a=1"]), None);
        assert_eq!(context(&[PARENT], &[]).unwrap().state, None);
        let joined = context(&[PARENT], &["congo=t61rcWkgMzE", "fw529a3039@dt=FfAaAaAa, rojo=00f067aa0ba902b7"]);
        let expected = "congo=t61rcWkgMzE,fw529a3039@dt=FfAaAaAa, rojo=00f067aa0ba902b7";
        assert_eq!(joined.unwrap().state.as_deref(), Some(expected));
    }

    #[test]
    fn a_state_that_is_none_is_left_out_and_its_parent_is_not() {
        let many = vec!["a=1"; 33];
        let long = format!("a={}", "x".repeat(257));
        for state in [
            "",
            ",",
            "a",
            "A=1",
            "a=",
            "=1",
            "a=1=2",
            "a=\u{7f}",
            "a=é",
            "a=4242424242424242",
            "a=1,b=4242 4242 4242 4242",
            &long,
            &many.join(","),
        ] {
            let found = context(&[PARENT], &[state]).unwrap();
            assert_eq!(found.state, None, "{state}");
        }
        let two_long = format!("a={0},b={0}", "x".repeat(256));
        assert_eq!(context(&[PARENT], &[&two_long]).unwrap().state, None, "more than 512 bytes");
    }

    #[test]
    fn it_is_kept_as_the_headers_are_written() {
        let kept = context(&[PARENT], &["a=1"]).unwrap();
        let json = serde_json::to_string(&kept).unwrap();
        assert_eq!(json, format!(r#"{{"traceparent":"{PARENT}","tracestate":"a=1"}}"#));
        assert_eq!(serde_json::from_str::<TraceContext>(&json).unwrap(), kept);
        let bare = context(&[PARENT], &[]).unwrap();
        assert_eq!(serde_json::to_string(&bare).unwrap(), format!(r#"{{"traceparent":"{PARENT}"}}"#));
    }
}
