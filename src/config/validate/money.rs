//! Fees and rates of exchange.

use super::Findings;
use crate::config::{ChannelConfig, Config};
use crate::domain::fees::{FeeSchedule, FxRate, Percent};
use crate::domain::money::AMOUNT_MINOR_MAX;

/// Largest fixed part of a fee, in minor units.
const FIXED_MINOR_MAX: i64 = 1_000_000;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let fx = &config.fx;
    let own_rate = fx.rates.get(&fx.settlement_currency);
    findings.require(
        own_rate.is_none_or(|rate| *rate == FxRate::ONE),
        format!("fx.rates.{}", fx.settlement_currency),
        "is the settlement currency and is worth \"1\"; take the line away",
    );
    findings.require(is_date(&fx.as_of), "fx.as_of", "must be a day such as \"2025-01-24\"");
    for (name, channel) in &config.channels {
        let path = format!("channels.{name}.fees");
        let fees = &channel.fees;
        findings.require(
            fees.valid_from.is_none(),
            format!("{path}.valid_from"),
            format!("belongs into [[{path}.changes]]; these figures hold until the first of them"),
        );
        check_schedule(config, &path, fees, findings);
        let mut before = None;
        for (index, change) in fees.changes.iter().enumerate() {
            let path = format!("{path}.changes[{index}]");
            findings.require(
                change.valid_from.is_some(),
                format!("{path}.valid_from"),
                "is missing; give a day such as \"2026-01-01\"",
            );
            findings.require(
                change.valid_from.is_none() || change.valid_from > before,
                format!("{path}.valid_from"),
                "must be after the change before it",
            );
            findings.require(
                change.changes.is_empty(),
                format!("{path}.changes"),
                format!("belong into [[channels.{name}.fees.changes]] themselves"),
            );
            before = change.valid_from.or(before);
            check_schedule(config, &path, change, findings);
        }
    }
}

/// One schedule without what replaces it later.
fn check_schedule(config: &Config, path: &str, fees: &FeeSchedule, findings: &mut Findings) {
    let fx = &config.fx;
    findings.range(format!("{path}.fixed_minor"), fees.fixed_minor, 0..=FIXED_MINOR_MAX);
    for (key, bound) in [("min_minor", fees.min_minor), ("max_minor", fees.max_minor)] {
        findings.range(format!("{path}.{key}"), bound.unwrap_or(0), 0..=AMOUNT_MINOR_MAX);
    }
    let least = fees.min_minor.unwrap_or(0);
    findings.require(
        fees.max_minor.is_none_or(|most| most >= least),
        format!("{path}.max_minor"),
        format!("must be at least min_minor ({least})"),
    );
    findings.require(
        fees.as_of.is_empty() || is_date(&fees.as_of),
        format!("{path}.as_of"),
        "must be a day such as \"2025-01-24\"",
    );
    let overrides = || fees.by_method.values().chain(fees.by_currency.values());
    let has_amounts = fees.fixed_minor != 0
        || fees.min_minor.is_some()
        || fees.max_minor.is_some()
        || fees.tiers.iter().any(|tier| tier.fixed_minor.is_some_and(|fixed| fixed != 0))
        || overrides().any(|own| own.fixed_minor != 0);
    let convertible = fees.fixed_currency == fx.settlement_currency || fx.rates.contains_key(&fees.fixed_currency);
    findings.require(
        convertible || !has_amounts,
        format!("{path}.fixed_currency"),
        format!("has no rate of exchange; add {} to [fx.rates]", fees.fixed_currency),
    );
    check_sum(path, fees.percent, fees, findings);
    let mut before = None;
    for (index, tier) in fees.tiers.iter().enumerate() {
        let path = format!("{path}.tiers[{index}]");
        findings.require(tier.from_minor >= 0, format!("{path}.from_minor"), "must not be negative");
        let rises = before.is_none_or(|before| tier.from_minor > before);
        findings.require(rises, format!("{path}.from_minor"), "must be more than that of the tier before it");
        findings.range(format!("{path}.fixed_minor"), tier.fixed_minor.unwrap_or(0), 0..=FIXED_MINOR_MAX);
        check_sum(&path, tier.percent, fees, findings);
        before = Some(tier.from_minor);
    }
    for method in fees.by_method.keys().filter(|method| !is_served(config, method)) {
        findings.add(
            format!("{path}.by_method.{method}"),
            "names a method that no channel serves; check its spelling, or add it to a channel's methods",
        );
    }
    let by_method = fees.by_method.iter().map(|(method, own)| (format!("{path}.by_method.{method}"), own));
    let by_currency = fees.by_currency.iter().map(|(currency, own)| (format!("{path}.by_currency.{currency}"), own));
    for (path, own) in by_method.chain(by_currency) {
        findings.range(format!("{path}.fixed_minor"), own.fixed_minor, 0..=FIXED_MINOR_MAX);
        check_sum(&path, own.percent, fees, findings);
    }
}

/// Whether some channel serves a method. What a channel would take for a method of others counts where costs are compared.
fn is_served(config: &Config, method: &str) -> bool {
    config
        .channels
        .values()
        .map(ChannelConfig::methods_served)
        .any(|served| served.is_empty() || served.contains(&method))
}

/// With both surcharges a percentage must leave something of the payment.
fn check_sum(path: &str, percent: Percent, fees: &FeeSchedule, findings: &mut Findings) {
    let whole = u64::from(percent.ppm())
        + u64::from(fees.international_percent.ppm())
        + u64::from(fees.conversion_percent.ppm());
    findings.require(
        whole <= 1_000_000,
        path,
        "take more than the whole payment together; check the percentages (2.9 % is \"2.9\")",
    );
}

/// `yyyy-mm-dd`, a day that exists.
fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}
