//! Sections about where payments go: strategies, rules and channels.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::fees::{FeeSchedule, Percent};
use crate::domain::money::Currency;
use crate::domain::routing::{AmountRange, ChannelCaps, TimeSpan};
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
