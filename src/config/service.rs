//! Sections about the process itself: listeners, storage, authentication, limits, logs and keys.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::domain::limit::ForwardingHeader;

/// `[server]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Address of the merchants' listener.
    pub listen: SocketAddr,
    /// Address of the operator's listener.
    pub admin_listen: SocketAddr,
    /// Certificate of the merchants' listener with those that vouch for it; it speaks plain HTTP when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_certificate: Option<PathBuf>,
    /// The key of that certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// Certificate of the operator's listener; it speaks plain HTTP when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_tls_certificate: Option<PathBuf>,
    /// The key of that certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_tls_key: Option<PathBuf>,
    /// A TLS handshake must be done by then.
    pub tls_handshake_timeout_ms: u64,
    /// TLS handshakes at once on each listener.
    pub tls_handshakes_max: usize,
    /// How long browsers are told to ask for TLS only; 0 for nothing.
    pub tls_hsts_max_age_s: u64,
    /// Proxies whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they say where a request comes from.
    pub client_address_header: ForwardingHeader,
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
    /// Requests being worked on at once on each listener; more are answered 503, those worth less somewhat sooner.
    pub requests_in_flight_max: usize,
    /// Answers that are made while they are sent, such as exports and live figures: of each of these two kinds so many at
    /// once on each listener, of them an eighth for one merchant.
    pub streams_max: usize,
    /// Such an answer lasts no longer.
    pub stream_timeout_ms: u64,
    /// A client that takes less than 16 KiB of such an answer for so long, while more waits for it, is cut off.
    pub stream_stall_timeout_ms: u64,
    /// How long stopping waits for what is under way.
    pub drain_timeout_ms: u64,
}

/// `[reload]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadConfig {
    /// Whether the configuration file is read again when it has changed.
    pub watch: bool,
    /// It is read once it has been left alone for this long.
    pub settle_ms: u64,
}

/// `[admin]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Names by which the operator's listener may be called, besides `localhost` and its addresses.
    pub hosts: Vec<String>,
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
    /// With less room than this on the disk new work is refused.
    pub low_space_bytes: u64,
    /// Bytes by which the journal grows before a new base export is made.
    pub base_bytes: u64,
    /// How often it is looked whether a base export is due and whether something may leave the journal.
    pub growth_interval_ms: u64,
    /// How long segments of the journal are kept that are in a base export.
    pub journal_keep_hours: u64,
    /// Bytes of the journal above which the oldest of these segments go before their time.
    pub journal_keep_bytes: u64,
    /// How far the clock may be behind the last change in the store when the gateway is opened.
    pub clock_back_max_s: u64,
    /// Where segments are copied that leave the journal; they are only deleted when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_dir: Option<PathBuf>,
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
    /// Permits that other services may hold at once.
    pub external_permits_max: usize,
    /// A merchant's actor is put away after being idle this long.
    pub idle_ms: u64,
    /// Requests that may wait for one merchant's actor.
    pub mailbox_max: usize,
    /// How often windows of changed merchants are written down.
    pub snapshot_interval_ms: u64,
    /// Shares of a limit, in percent, at which its merchant is told that it is near.
    pub near_percent: Vec<u8>,
    /// Least time between two such events about the same share of the same limit.
    pub near_interval_s: u32,
    /// Shedding of load.
    pub adaptive: AdaptiveConfig,
    /// Limits by client address, before it is known who asks.
    pub client_address: ClientAddressConfig,
}

/// `[limits.adaptive]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveConfig {
    /// Whether requests are shed while this node is overloaded.
    pub enabled: bool,
    /// It is when a request waits longer than this for its merchant's actor,
    pub mailbox_delay_ms: u64,
    /// when a commit takes longer than this,
    pub commit_ms: u64,
    /// or when timers are later than this while the processors are all in use.
    pub lag_ms: u64,
    /// From shedding nothing to shedding everything in no less than this.
    pub rise_s: u64,
    /// And back; four times as slowly until all signals are below half of their targets.
    pub fall_s: u64,
}

/// `[limits.client_address]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientAddressConfig {
    /// Whether clients are limited by their addresses at all.
    pub enabled: bool,
    /// Advertised rate; at most `burst` requests in any `burst / per_second` seconds.
    pub per_second: u32,
    /// Requests at once.
    pub burst: u32,
    /// Failed authentications in any 60 s.
    pub failed_authentications_per_minute: u32,
    /// How long a client is refused after them.
    pub block_s: u64,
    /// Clients remembered at once.
    pub addresses_max: usize,
    /// Networks whose clients are not limited.
    pub exempt_networks: Vec<IpNet>,
}

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// What is logged, in the syntax of `tracing`'s filters.
    pub log: String,
    /// `auto` (pretty on a terminal, JSON otherwise), `pretty` or `json`.
    pub format: LogFormat,
    /// What this gateway is called in traces.
    pub service_name: String,
    /// Address of the collector that takes spans, by OTLP over HTTP; none are recorded without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// Environment variable with headers for the collector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp_headers_env: Option<String>,
    /// File with headers for the collector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp_headers_file: Option<PathBuf>,
    /// The collector has so long for a request, in milliseconds.
    pub otlp_timeout_ms: u64,
    /// Spans are sent at least this often, in milliseconds.
    pub otlp_interval_ms: u64,
    /// Spans that wait to be sent; more are lost.
    pub trace_queue_max: usize,
    /// The share of requests that are recorded, from 0 to 1.
    pub trace_sample_ratio: f64,
    /// Whether a request's `traceparent` says whether it is recorded, in place of the share.
    pub trust_traceparent: bool,
    /// Whether channels and webhooks get a `traceparent`.
    pub pass_on_traceparent: bool,
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
    /// File with the key that encrypts stored secrets, one a line while it is rotated; `<data dir>/master.key` when not
    /// given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_key_file: Option<PathBuf>,
}
