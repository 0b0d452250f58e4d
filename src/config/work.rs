//! Sections about carrying payments: outcomes, webhooks, emulators and rates of exchange.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::fees::FxRate;
use crate::domain::money::Currency;
use crate::domain::pre_auth::OnExpiry;
use crate::domain::stray::StrayPolicy;
use crate::domain::webhook::PortRange;

/// `[payments]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentsConfig {
    /// No further channel is tried for a payment that is older than this.
    pub failover_within_ms: u64,
    /// Wait before the first question about an unknown outcome; doubles from then on.
    pub resolve_first_ms: u64,
    /// Longest wait between questions in the first ten minutes.
    pub resolve_early_max_ms: u64,
    /// Longest wait between questions after them.
    pub resolve_late_max_ms: u64,
    /// A payment that could not be resolved by then needs a person.
    pub needs_review_after_s: u64,
    /// A payment whose payer does not act is closed after this, unless the provider's time is shorter.
    pub action_expires_s: u64,
    /// Questions about outcomes under way at once, for each channel.
    pub resolve_in_flight_max: usize,
    /// A request that was given up may still take effect at its provider for this long after its timeout.
    pub settling_ms: u64,
    /// Answers are kept for repetition this long.
    pub idempotency_keep_s: u64,
    /// Refunds of one payment at most.
    pub refunds_max: usize,
    /// What is done about money that comes late, in part or for what is closed.
    pub on_stray: StrayPolicy,
}

/// `[pre_auth]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreAuthConfig {
    /// A pre-auth whose payer does not act is given up after this.
    pub unconfirmed_expires_s: u64,
    /// How long before a hold's end the merchant is told of it.
    pub expiring_before_s: u64,
    /// What becomes of a hold that nobody has captured.
    pub on_expiry: OnExpiry,
    /// How long before its end that is done.
    pub on_expiry_before_s: u64,
    /// Pre-auths being worked on at once.
    pub active_max: usize,
    /// A pre-auth that nobody asks about leaves memory after this.
    pub idle_s: u64,
    /// Refunds of one pre-auth at most.
    pub refunds_max: usize,
}

/// `[callbacks]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallbacksConfig {
    /// Where providers reach the merchants' listener from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// Largest body of a notification.
    pub body_max_bytes: usize,
    /// How many days it is remembered that a notification was taken.
    pub keep_days: u64,
    /// What a notification is about may come up for this long after it.
    pub unknown_keep_s: u64,
    /// Questions that notifications lead to, a second and channel.
    pub asks_per_second: u32,
}

impl CallbacksConfig {
    /// Where the provider of a channel sends its notifications; `None` where nobody has said how it reaches us.
    pub fn url_of(&self, channel: &str) -> Option<String> {
        self.public_url.as_ref().map(|url| format!("{}/callbacks/{channel}", url.trim_end_matches('/')))
    }
}

/// `[webhook]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Tries of one notification, the first included.
    pub max_attempts: u32,
    /// Wait before the second try.
    pub initial_backoff_s: u64,
    /// Longest wait between tries.
    pub max_backoff_s: u64,
    /// An own list of waits in place of the built-in schedule.
    #[serde(default)]
    pub schedule_s: Vec<u64>,
    /// Waits vary by up to this share either way, in percent.
    pub jitter_percent: u32,
    /// One request ends within this, everything included.
    pub timeout_s: u64,
    /// How often exhausted notifications of recovered endpoints are looked for.
    pub retry_interval_s: u64,
    /// Requests in flight to one endpoint.
    pub endpoint_in_flight_max: usize,
    /// Requests in flight to all endpoints that answer, and answer soon.
    pub in_flight_max: usize,
    /// A request that lasts longer is slow.
    pub slow_after_ms: u64,
    /// Requests in flight to all others.
    pub slow_in_flight_max: usize,
    /// Connections without a request that are kept open, over all hosts.
    pub idle_connections_max: usize,
    /// A connection is used no longer than this, so that its host is looked up again.
    pub connection_age_max_s: u64,
    /// A name server has so long for an answer.
    pub dns_timeout_ms: u64,
    /// Names whose addresses are remembered.
    pub dns_cache_max: usize,
    /// Addresses are remembered for their time to live, and no longer than this.
    pub dns_ttl_max_s: u64,
    /// That a name has no address is remembered for this long.
    pub dns_negative_ttl_s: u64,
    /// Bounds of the classes in which larger amounts are sent first, in minor units of the settlement currency, falling.
    pub amount_classes_minor: [i64; 3],
    /// Tries in the breaker's window before it may open.
    pub breaker_min: u32,
    /// Share of them that failed at which it opens, in percent.
    pub breaker_failure_percent: u32,
    /// Length of the window.
    pub breaker_window_s: u64,
    /// How long it stays open; doubles each time it opens again.
    pub breaker_open_s: u64,
    /// How long at most.
    pub breaker_open_max_s: u64,
    /// An endpoint that has taken nothing for this long is told about.
    pub failing_event_after_s: u64,
    /// An endpoint that has taken nothing for this long is disabled; 0 never.
    pub disable_after_s: u64,
    /// Tries that must have failed by then.
    pub disable_min_tries: u32,
    /// Requests a second with which a recovered endpoint's backlog begins; 0 for all at once.
    pub recovery_rate_per_s: u32,
    /// Jobs of one merchant under way at once.
    pub jobs_max: usize,
    /// How often a dead letter is sent again by itself.
    pub dead_letter_sweeps_max: u32,
    /// Due notifications of one endpoint held in memory at once.
    pub horizon_max: usize,
    /// Bytes of an answer that are kept.
    pub response_max_bytes: usize,
    /// Endpoints of one merchant.
    pub endpoints_max: usize,
    /// After our own restart a backlog is spread over this long.
    pub restart_spread_ms: u64,
    /// During rotation the old secret signs too for this long.
    pub rotation_overlap_s: u64,
    /// Ports at public addresses to which webhooks may go.
    pub public_ports: Vec<PortRange>,
    /// Private networks to which webhooks may go all the same, then also by plain http and on any port.
    pub allowed_private_networks: Vec<IpNet>,
}

/// `[retention]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionConfig {
    /// How many days events can be listed; 0 for ever.
    pub events_days: u64,
    /// How many days notifications are kept that the receiver has taken; 0 for ever.
    pub notifications_days: u64,
    /// How many days notifications are kept that were given up; 0 for ever.
    pub dead_letters_days: u64,
    /// Customers' data is erased from payments that have not changed for this many days; 0 keeps it.
    pub customer_data_days: u64,
}

/// `[sandbox]`
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SandboxConfig {
    /// A separate sandbox (`tollgate sandbox`) to use in place of the built-in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether channels of kind `instant` are allowed.
    pub allow_instant: bool,
    /// Faults by channel.
    #[serde(flatten)]
    pub faults: BTreeMap<String, FaultConfig>,
}

// Written by hand, because a flattened map would be read through a buffer in which the path of a wrong key is lost.
impl<'de> Deserialize<'de> for SandboxConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Section;

        impl<'de> Visitor<'de> for Section {
            type Value = SandboxConfig;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SandboxConfig, A::Error> {
                let mut section = SandboxConfig::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "url" => section.url = Some(map.next_value()?),
                        "allow_instant" => section.allow_instant = map.next_value()?,
                        _ => {
                            let faults = map.next_value()?;
                            section.faults.insert(key, faults);
                        }
                    }
                }
                Ok(section)
            }
        }

        deserializer.deserialize_map(Section)
    }
}

/// `[sandbox.<channel>]`: how an emulator misbehaves. Rates are shares from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultConfig {
    /// Added to every answer.
    pub latency_ms: u64,
    /// Added to that at random, up to this much.
    pub latency_jitter_ms: u64,
    /// Declined.
    pub decline_rate: f64,
    /// Answered 500 before any effect.
    pub error_rate: f64,
    /// Answered 500 after the effect.
    pub error_after_effect_rate: f64,
    /// Connection closed after the effect with no byte sent.
    pub lost_response_rate: f64,
    /// Connection closed before the effect with no byte sent; the effect comes `late_effect_ms` later.
    pub late_effect_rate: f64,
    /// How late such an effect is.
    pub late_effect_ms: u64,
    /// Answered as over the provider's rate limit.
    pub rate_limited_rate: f64,
    /// Notifications sent twice.
    pub duplicate_notification_rate: f64,
    /// Nothing listens.
    pub down: bool,
    /// Seed of the faults' random numbers.
    pub seed: u64,
}

/// `[fx]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FxConfig {
    /// The currency in which providers settle.
    pub settlement_currency: Currency,
    /// The day of the rates.
    pub as_of: String,
    /// What one whole unit of a currency is worth in the settlement currency.
    pub rates: BTreeMap<Currency, FxRate>,
}
