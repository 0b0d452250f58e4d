//! The headers and body fields that carry limits to clients: `X-RateLimit-*`, the IETF draft's `RateLimit-Policy` and
//! `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11), and `Retry-After`. Every name stands here and nowhere else.

use std::fmt::Write;

use serde::Serialize;

use crate::domain::limit::figures::{LimitFigures, Policy};
use crate::domain::limit::view::{LimitView, Refusal, WindowView};
use crate::domain::time::Timestamp;

/// The tier's figure per second.
pub const LIMIT: &str = "x-ratelimit-limit";
/// Admissions that are possible now under the tightest window.
pub const REMAINING: &str = "x-ratelimit-remaining";
/// Unix second at which that window next frees one, rounded up.
pub const RESET: &str = "x-ratelimit-reset";
/// The merchant's tier.
pub const TIER: &str = "x-ratelimit-tier";
/// `true` from 80 % of any limit on, absent below.
pub const NEAR_LIMIT: &str = "x-ratelimit-nearlimit";
/// All limits, as a structured list.
pub const POLICY: &str = "ratelimit-policy";
/// The limit nearest to exhaustion, as a structured list.
pub const CURRENT: &str = "ratelimit";
/// Whole seconds to wait after a refusal.
pub const RETRY_AFTER: &str = "retry-after";

/// Names of the draft's parameters; a later draft may rename them.
mod parameter {
    /// Quota of a policy.
    pub const QUOTA: &str = "q";
    /// What the quota counts, where that is not requests.
    pub const QUOTA_UNIT: &str = "qu";
    /// Length of the policy's window in seconds.
    pub const WINDOW: &str = "w";
    /// Quota that is left.
    pub const REMAINING: &str = "r";
    /// Seconds within which no more than that can be used.
    pub const EFFECTIVE_WINDOW: &str = "t";
    /// The unit of [`Policy::Concurrency`](crate::domain::limit::Policy::Concurrency).
    pub const UNIT_CONCURRENT: &str = "concurrent-requests";
}

/// A header: its name in lower case, and its value.
pub type Header = (&'static str, String);

/// The value of `RateLimit-Policy`; the same for every answer under the same figures.
pub fn policy_value(figures: &LimitFigures) -> String {
    let window_s = figures.burst_window_us().div_ceil(1_000_000);
    let windows = [
        (Policy::Second, figures.burst, window_s),
        (Policy::Minute, figures.per_minute, 60),
        (Policy::Hour, figures.per_hour, 3_600),
    ];
    let mut value = String::with_capacity(128);
    for (policy, quota, window_s) in windows {
        let name = policy.as_str();
        let (quota_name, window_name) = (parameter::QUOTA, parameter::WINDOW);
        let _ = write!(value, "\"{name}\";{quota_name}={quota};{window_name}={window_s}, ");
    }
    let name = Policy::Concurrency.as_str();
    let (quota_name, unit_name, unit) = (parameter::QUOTA, parameter::QUOTA_UNIT, parameter::UNIT_CONCURRENT);
    let _ = write!(value, "\"{name}\";{quota_name}={};{unit_name}=\"{unit}\"", figures.concurrent);
    value
}

/// The headers of an answer to a request that was let through. `policy` is [`policy_value`] of the figures.
pub fn of_admitted(view: &LimitView, tier: &str, policy: &str, now: Timestamp) -> Vec<Header> {
    let (_, tightest) = view.tightest();
    let mut headers = common(view, tier, policy, tightest.remaining(), reset_at_s(&tightest, now));
    let (name, fullest) = view.fullest();
    headers.push((CURRENT, current_value(name, fullest.remaining(), Some(reset_in_s(&fullest)))));
    headers
}

/// The headers of a refusal. `policy` is [`policy_value`] of the figures.
pub fn of_refused(refusal: &Refusal, tier: &str, policy: &str, now: Timestamp) -> Vec<Header> {
    let (_, window) = refusal.window();
    let mut headers = common(&refusal.view, tier, policy, 0, reset_at_s(&window, now));
    let effective_s = match refusal.limit() {
        Policy::Concurrency => None,
        Policy::Second | Policy::Minute | Policy::Hour => Some(refusal.retry_after_s()),
    };
    headers.push((CURRENT, current_value(refusal.limit(), 0, effective_s)));
    headers.push((RETRY_AFTER, refusal.retry_after_s().to_string()));
    headers
}

fn common(view: &LimitView, tier: &str, policy: &str, remaining: u32, reset_at_s: i64) -> Vec<Header> {
    let mut headers = Vec::with_capacity(8);
    headers.push((LIMIT, view.per_second.to_string()));
    headers.push((REMAINING, remaining.to_string()));
    headers.push((RESET, reset_at_s.to_string()));
    headers.push((TIER, tier.to_owned()));
    headers.push((POLICY, policy.to_owned()));
    if view.near_limit() {
        headers.push((NEAR_LIMIT, String::from("true")));
    }
    headers
}

fn current_value(policy: Policy, remaining: u32, effective_s: Option<u64>) -> String {
    let mut value = format!("\"{}\";{}={remaining}", policy.as_str(), parameter::REMAINING);
    if let Some(effective_s) = effective_s {
        let _ = write!(value, ";{}={effective_s}", parameter::EFFECTIVE_WINDOW);
    }
    value
}

fn reset_in_s(window: &WindowView) -> u64 {
    u64::from(window.reset_in_ms.div_ceil(1000))
}

/// The Unix second, rounded up, at which a window next frees an admission.
pub fn reset_at_s(window: &WindowView, now: Timestamp) -> i64 {
    let reset_at_ms = now.unix_ms().saturating_add(i64::from(window.reset_in_ms));
    reset_at_ms.div_euclid(1000) + i64::from(reset_at_ms.rem_euclid(1000) > 0)
}

/// The fields that a refusal's body has beside `code`, `message` and `request_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusalFields<'a> {
    /// The merchant's tier.
    pub tier: &'a str,
    /// The limit that refuses longest.
    pub limit: Policy,
    /// Every limit that refused.
    pub violated_policies: Vec<Policy>,
    /// Whole seconds to wait, as in `Retry-After`.
    pub retry_after: u64,
}

impl<'a> RefusalFields<'a> {
    /// The fields for a merchant of `tier`.
    pub fn of(refusal: &Refusal, tier: &'a str) -> Self {
        Self {
            tier,
            limit: refusal.limit(),
            violated_policies: refusal.violated().iter().collect(),
            retry_after: refusal.retry_after_s(),
        }
    }
}
