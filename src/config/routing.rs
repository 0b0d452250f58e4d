//! Sections about where payments go: strategies, rules and channels.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::fees::{FeeSchedule, Percent};
use crate::domain::money::Currency;
use crate::domain::routing::{AmountRange, ChannelCaps, DayTime, LoadBalancing, TimeSpan, Weekday};
use crate::domain::time::Timestamp;

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
    /// Whether the rules are asked before the strategies.
    pub rules_first: bool,
    /// What a payment that does not go through costs, as a share of its amount.
    pub failed_payment_cost_percent: Percent,
    /// The last rung of the ladder.
    pub default_channel: String,
    /// What fees are compared with: every payment on this channel; `default_channel` when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_channel: Option<String>,
    /// Country database in MaxMind's format, for payers whose country the merchant does not give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geoip_database: Option<PathBuf>,
    /// Payments on other channels after the first at most.
    pub failover_max: u32,
    /// Outcomes remembered per channel.
    pub window_outcomes: usize,
    /// Weight of the prior in outcomes, so that few outcomes do not decide.
    pub prior_outcomes: u32,
    /// Expected success rate before anything is known, in percent.
    pub prior_success_percent: u32,
    /// Kinds of payments, by method, currency and country, whose success is known of each channel; at most.
    pub segments_max: usize,
    /// Share of payments for channels of which too little is known, in percent.
    pub newcomer_share_percent: u8,
    /// Share of payments for channels that rank somewhat lower by success, in percent.
    pub explore_percent: u8,
    /// How load is shared among channels that are as good.
    pub load_balance: LoadBalancing,
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
    /// By how much of it such a time differs at random at most, in percent.
    pub breaker_jitter_percent: u32,
    /// Calls that take longer are slow.
    pub slow_call_ms: u64,
    /// Share of slow calls in the window that opens the breaker, in percent; 0: they are no reason.
    pub breaker_slow_percent: u32,
    /// How often what is known of channels is written down.
    pub snapshot_interval_ms: u64,
}

impl RoutingConfig {
    /// The channel that fees are compared with.
    pub fn baseline_channel(&self) -> &str {
        self.baseline_channel.as_deref().unwrap_or(&self.default_channel)
    }
}

/// `[[rules]]`: what a payment must be (every given condition holds), and where it then goes: to the first of `channels`
/// that can take it, or by shares (`split`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Names it for good, also when it is moved or renamed; made when it is not given (in a file: the name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Shown in decisions, 1 to 100 characters.
    pub name: String,
    /// Whether it counts.
    #[serde(default = "default_enabled", skip_serializing_if = "is_true")]
    pub enabled: bool,
    /// Payer's countries, ISO 3166-1 alpha-2. What is asked for and not known does not match, neither these nor `not_…`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub countries: Vec<String>,
    /// Countries that the payer's is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_countries: Vec<String>,
    /// Currencies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub currencies: Vec<Currency>,
    /// Methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Methods that the payment's is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_methods: Vec<String>,
    /// Merchants' tiers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<String>,
    /// Merchants' ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merchants: Vec<String>,
    /// Merchants' ids that the payment's is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_merchants: Vec<String>,
    /// Countries of the card, where the merchant says it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub card_countries: Vec<String>,
    /// Countries that the card's is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_card_countries: Vec<String>,
    /// At least this much, in minor units of one of `currencies`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_minor_min: Option<i64>,
    /// At most this much, in minor units of one of `currencies`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_minor_max: Option<i64>,
    /// From this time of day on, such as `22:00`; with `until`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub from: Option<DayTime>,
    /// Until before this time of day, such as `06:00`; over midnight where it is before `from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub until: Option<DayTime>,
    /// On these days of the week, `mon` to `sun`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub weekdays: Vec<Weekday>,
    /// Whose time that is, such as `Europe/Berlin`; UTC when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What the merchant noted about the payment: under each of these names one of the values, or anything where none is
    /// given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Vec<String>>,
    /// Channels in the order of preference; either these or `split`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Shares of the payments by channel, which add up to 100. The same payment always falls into the same share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<ShareConfig>,
}

/// A channel's share of a rule's payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareConfig {
    /// The channel.
    pub channel: String,
    /// Percent of the payments; 0 for one that only stands in for the others.
    pub percent: u32,
}

impl RuleConfig {
    /// What names it for good.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.name)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_true(value: &bool) -> bool {
    *value
}

/// Whose protocol a channel speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// Stripe's PaymentIntents.
    Stripe,
    /// PayPal's Orders and Payments.
    Paypal,
    /// Alipay's open platform (gateway.do).
    Alipay,
    /// A BTCPay server's invoices.
    Btcpay,
    /// Approves at once without I/O; for load tests in sandbox mode.
    Instant,
    /// What a program that embeds this one brings along.
    Custom,
}

impl ChannelKind {
    /// The payment methods that its adapter takes where the configuration does not narrow them; empty for any.
    pub const fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Stripe => &["card"],
            Self::Paypal => &["paypal", "card"],
            Self::Alipay => &["alipay"],
            Self::Btcpay => &["crypto"],
            Self::Instant | Self::Custom => &[],
        }
    }
}

/// A time in which a channel is known to be away; no payment goes there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceConfig {
    /// Its beginning, RFC 3339.
    pub from: String,
    /// Its end, RFC 3339.
    pub until: String,
}

impl MaintenanceConfig {
    /// The span, where both ends can be read and lie in this order.
    pub fn span(&self) -> Option<TimeSpan> {
        let (from, until) = (Timestamp::parse_rfc3339(&self.from)?, Timestamp::parse_rfc3339(&self.until)?);
        (from < until).then_some(TimeSpan { from, until })
    }
}

/// `[channels.<name>]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelConfig {
    /// Whose protocol it speaks.
    pub kind: ChannelKind,
    /// Whether it may be chosen.
    #[serde(default = "default_enabled")]
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
    #[serde(default = "default_weight")]
    pub weight: u32,
    /// The amounts that it takes, by currency, in minor units; a currency that is not named has no bounds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub amounts: BTreeMap<Currency, AmountRange>,
    /// How much may go through it; more goes elsewhere.
    #[serde(default)]
    pub caps: ChannelCaps,
    /// When it is known to be away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<MaintenanceConfig>,
    /// Every call ends within this.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Calls that take longer are slow; what `[routing]` says where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_call_ms: Option<u64>,
    /// How long money is held where the provider does not say.
    #[serde(default = "default_hold_valid_s")]
    pub hold_valid_s: u64,
}

impl ChannelConfig {
    /// The payment methods that it serves; empty for any.
    pub fn methods_served(&self) -> Vec<&str> {
        if self.methods.is_empty() {
            return self.kind.methods().to_vec();
        }
        self.methods.iter().map(String::as_str).collect()
    }
}

// The embedded file can't hold defaults for channels that an operator adds, so these stand here.

fn default_enabled() -> bool {
    true
}

fn default_weight() -> u32 {
    100
}

fn default_timeout_ms() -> u64 {
    10_000
}

fn default_hold_valid_s() -> u64 {
    7 * 86_400
}
