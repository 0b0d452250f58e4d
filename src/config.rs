//! The configuration's typed sections. The embedded `config.toml` documents every key and is the lowest layer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::domain::fees::{FeeSchedule, FxRate};
use crate::domain::money::Currency;

/// Whether real money moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Built-in emulators stand in for the providers.
    Sandbox,
    /// Real providers, real money.
    Live,
}

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Sandbox or live; stamped into the data directory.
    pub mode: Mode,
    /// Listeners and their bounds.
    pub server: ServerConfig,
    /// Where and how state is kept.
    pub storage: StorageConfig,
    /// Authentication of merchants.
    pub auth: AuthConfig,
    /// Limits by tier.
    pub tiers: BTreeMap<String, TierConfig>,
    /// Bounds of admission.
    pub limits: LimitsConfig,
    /// How a channel is chosen.
    pub routing: RoutingConfig,
    /// The operator's rule table, top down, first match.
    #[serde(default)]
    pub rules: Vec<RuleConfig>,
    /// Payment channels by name.
    pub channels: BTreeMap<String, ChannelConfig>,
    /// How payments are carried and unknown outcomes asked about.
    pub payments: PaymentsConfig,
    /// How webhooks are sent.
    pub webhook: WebhookConfig,
    /// The built-in emulators. Not allowed in live mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxConfig>,
    /// Rates of exchange.
    pub fx: FxConfig,
    /// Logs.
    pub telemetry: TelemetryConfig,
    /// Keys that protect what is stored.
    pub security: SecurityConfig,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Address of the merchants' listener.
    pub listen: SocketAddr,
    /// Address of the operator's listener.
    pub admin_listen: SocketAddr,
    /// Proxies whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Largest body of a request.
    pub body_max_bytes: usize,
    /// Largest head of a request.
    pub head_max_bytes: usize,
    /// A request's head must have arrived by then.
    pub header_timeout_ms: u64,
    /// A request's body must have arrived by then.
    pub body_timeout_ms: u64,
    /// A request is answered by then, whatever it waits for.
    pub request_timeout_ms: u64,
    /// A connection without a request is closed after this.
    pub idle_timeout_ms: u64,
    /// Connections open at once on each listener.
    pub connections_max: usize,
    /// Requests being worked on at once; more are answered 503.
    pub requests_in_flight_max: usize,
    /// How long stopping waits for what is under way.
    pub drain_timeout_ms: u64,
}

/// `[storage]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageConfig {
    /// The data directory.
    pub dir: PathBuf,
    /// Size of one journal segment, zero-filled in advance.
    pub segment_bytes: u64,
    /// Batches that may wait for the committer.
    pub queue_batches_max: usize,
    /// Bytes of batches in one journal frame at most.
    pub group_bytes_max: usize,
    /// Bytes in memory that the index does not have yet; new work is refused above.
    pub overlay_bytes_max: u64,
    /// How long changes are collected before they go to the index.
    pub apply_interval_ms: u64,
    /// How often the index is made durable at the least.
    pub checkpoint_interval_ms: u64,
    /// Journal bytes after which the index is made durable even before that.
    pub checkpoint_bytes: u64,
    /// Memory that the index may use as a cache.
    pub cache_bytes: u64,
    /// Size of the file that is given up when the disk is full.
    pub ballast_bytes: u64,
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// How old a signature may be.
    pub timestamp_past_s: u64,
    /// How far ahead of our clock a signature may be.
    pub timestamp_future_s: u64,
    /// Nonces remembered at once; when full, signed requests are answered 503.
    pub nonces_max: usize,
    /// Keys kept decrypted in memory at once.
    pub key_cache_max: usize,
}

/// `[tiers.<name>]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierConfig {
    /// Advertised rate; at most `burst` admissions in any `burst / per_second` seconds.
    pub per_second: u32,
    /// Admissions in any 60 s.
    pub per_minute: u32,
    /// Admissions in any 3,600 s.
    pub per_hour: u32,
    /// Admissions at once.
    pub burst: u32,
    /// Requests in flight.
    pub concurrent: u32,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// A permit is taken back after this.
    pub lease_ms: u64,
    /// Merchant actors in memory at once.
    pub merchants_active_max: usize,
    /// A merchant's actor is put away after being idle this long.
    pub idle_ms: u64,
    /// Requests that may wait for one merchant's actor.
    pub mailbox_max: usize,
    /// How often windows of changed merchants are written down.
    pub snapshot_interval_ms: u64,
}

/// The order in which strategies are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoutingMode {
    /// All four by their priority.
    Balanced,
    /// Cost first.
    Cost,
    /// Success rate first.
    Success,
    /// Geography first.
    Geographic,
}

/// `[routing]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutingConfig {
    /// Order of the strategies.
    pub mode: RoutingMode,
    /// Whether strategies decide at all; otherwise rules, then the default.
    pub smart: bool,
    /// The last rung of the ladder.
    pub default_channel: String,
    /// Payments on other channels after the first at most.
    pub failover_max: u32,
    /// Outcomes remembered per channel.
    pub window_outcomes: usize,
    /// Weight of the prior in outcomes, so that few outcomes do not decide.
    pub prior_outcomes: u32,
    /// Expected success rate before anything is known, in percent.
    pub prior_success_percent: u32,
    /// Technical failures in a row that open the breaker.
    pub breaker_consecutive_failures: u32,
    /// Share of technical failures in the window that opens the breaker, in percent.
    pub breaker_failure_percent: u32,
    /// Outcomes needed before that share counts.
    pub breaker_min_outcomes: u32,
    /// First time that an open breaker stays open; doubles with each failed probe.
    pub breaker_open_ms: u64,
    /// Longest time that it stays open.
    pub breaker_open_max_ms: u64,
}

/// `[[rules]]`: what a payment must be (every given condition holds), and where it then goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Shown in decisions.
    pub name: String,
    /// Payer's countries, ISO 3166-1 alpha-2.
    #[serde(default)]
    pub countries: Vec<String>,
    /// Currencies.
    #[serde(default)]
    pub currencies: Vec<Currency>,
    /// Methods.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Merchants' tiers.
    #[serde(default)]
    pub tiers: Vec<String>,
    /// At least this much, in minor units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_minor_min: Option<i64>,
    /// At most this much, in minor units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_minor_max: Option<i64>,
    /// Channels in the order of preference.
    pub channels: Vec<String>,
}

/// Whose protocol a channel speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// Stripe's PaymentIntents.
    Stripe,
    /// Alipay's open platform (gateway.do).
    Alipay,
    /// Approves at once without I/O; for load tests in sandbox mode.
    Instant,
}

/// `[channels.<name>]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelConfig {
    /// Whose protocol it speaks.
    pub kind: ChannelKind,
    /// Whether it may be chosen.
    pub enabled: bool,
    /// Whether the built-in emulator stands in for the provider. Not allowed in live mode.
    #[serde(default)]
    pub sandbox: bool,
    /// The provider's address, where the emulator does not stand in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Credentials by name, each from an environment variable (`<name>_env`) or a file (`<name>_file`).
    #[serde(default)]
    pub credentials: BTreeMap<String, String>,
    /// What the provider takes.
    pub fees: FeeSchedule,
    /// Countries in which this channel is the local one; ranks.
    #[serde(default)]
    pub local_countries: Vec<String>,
    /// Payers' countries it serves; empty for all.
    #[serde(default)]
    pub countries: Vec<String>,
    /// Currencies it serves; empty for all that the adapter can.
    #[serde(default)]
    pub currencies: Vec<Currency>,
    /// Methods it serves; empty for all that the adapter can.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Share of load among equals.
    pub weight: u32,
    /// Calls in flight at once; more payments go elsewhere.
    pub in_flight_max: u32,
    /// Every call ends within this.
    pub timeout_ms: u64,
}

/// `[payments]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentsConfig {
    /// A request waits this long for an outcome; then it is answered 202 and the payment goes on.
    pub answer_within_ms: u64,
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
    /// Questions about outcomes under way at once.
    pub resolve_in_flight_max: usize,
    /// Answers are kept for repetition this long.
    pub idempotency_keep_s: u64,
    /// Refunds of one payment at most.
    pub refunds_max: usize,
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
    /// Requests in flight to all endpoints.
    pub in_flight_max: usize,
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
    /// Private networks to which webhooks may go all the same, then also by plain http and on any port.
    pub allowed_private_networks: Vec<IpNet>,
}

/// `[sandbox]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// A separate sandbox (`tollgate sandbox`) to use in place of the built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether channels of kind `instant` are allowed.
    #[serde(default)]
    pub allow_instant: bool,
    /// Faults by channel.
    #[serde(flatten)]
    pub faults: BTreeMap<String, FaultConfig>,
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

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// What is logged, in the syntax of `tracing`'s filters.
    pub log: String,
    /// `auto` (pretty on a terminal, JSON otherwise), `pretty` or `json`.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// `[security]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityConfig {
    /// The key that encrypts stored secrets; `<data dir>/master.key` when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_key_file: Option<PathBuf>,
}
