//! Fees and rates of exchange.

use super::Findings;
use crate::config::Config;
use crate::domain::fees::FxRate;

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
        findings.range(format!("{path}.fixed_minor"), fees.fixed_minor, 0..=FIXED_MINOR_MAX);
        findings.require(
            fees.as_of.is_empty() || is_date(&fees.as_of),
            format!("{path}.as_of"),
            "must be a day such as \"2025-01-24\"",
        );
        let convertible = fees.fixed_currency == fx.settlement_currency || fx.rates.contains_key(&fees.fixed_currency);
        findings.require(
            convertible || fees.fixed_minor == 0,
            format!("{path}.fixed_currency"),
            format!("has no rate of exchange; add {} to [fx.rates]", fees.fixed_currency),
        );
        let whole = u64::from(fees.percent.ppm())
            + u64::from(fees.international_percent.ppm())
            + u64::from(fees.conversion_percent.ppm());
        findings.require(
            whole <= 1_000_000,
            path,
            "take more than the whole payment together; check the percentages (2.9 % is \"2.9\")",
        );
    }
}

/// `yyyy-mm-dd`, a day that exists.
fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}
