//! Channels: what they are, where they are and what may go through them.

use super::{Findings, check_address, is_name, is_variable_name};
use crate::config::{ChannelConfig, ChannelKind, Config, Mode};
use crate::domain::country::is_country;

/// What a provider's adapter must know to sign in, by the name before `_env` or `_file`.
fn required_credentials(kind: ChannelKind) -> &'static [&'static str] {
    match kind {
        ChannelKind::Stripe => &["secret_key"],
        ChannelKind::Paypal => &["client_id", "client_secret"],
        ChannelKind::Alipay => &["app_id", "app_private_key", "alipay_public_key"],
        ChannelKind::Btcpay => &["api_key", "store_id"],
        ChannelKind::Instant | ChannelKind::Custom => &[],
    }
}

/// What it can make use of besides, to check what the provider sends of its own accord.
fn optional_credentials(kind: ChannelKind) -> &'static [&'static str] {
    match kind {
        ChannelKind::Stripe | ChannelKind::Btcpay => &["webhook_secret"],
        ChannelKind::Paypal => &["webhook_id", "webhook_ca", "merchant_id"],
        ChannelKind::Alipay => &["seller_id"],
        ChannelKind::Instant | ChannelKind::Custom => &[],
    }
}

pub(super) fn check(config: &Config, custom: &[&str], findings: &mut Findings) {
    findings.require(!config.channels.is_empty(), "channels", "needs at least one channel; add [channels.<name>]");
    for (name, channel) in &config.channels {
        let path = format!("channels.{name}");
        findings.require(is_name(name), path.clone(), "must be named with 1 to 32 characters from a-z, 0-9, _ and -");
        findings.range(format!("{path}.weight"), channel.weight, 1..=1000);
        check_bounds(&path, channel, findings);
        findings.range(format!("{path}.timeout_ms"), channel.timeout_ms, 100..=45_000);
        if let Some(slow_call_ms) = channel.slow_call_ms {
            findings.range(format!("{path}.slow_call_ms"), slow_call_ms, 10..=60_000);
        }
        findings.range(format!("{path}.hold_valid_s"), channel.hold_valid_s, 3_600..=2_592_000);
        check_countries(findings, &format!("{path}.local_countries"), &channel.local_countries);
        check_countries(findings, &format!("{path}.countries"), &channel.countries);
        let is_brought = custom.contains(&name.as_str());
        findings.require(
            is_brought == (channel.kind == ChannelKind::Custom),
            format!("{path}.kind"),
            "is \"custom\" for channels that a program which embeds Tollgate brings along, and for no others",
        );
        check_provider(config, &path, channel, findings);
        check_credentials(&path, channel, findings);
    }
    for name in custom {
        findings.require(
            config.channels.contains_key(*name),
            format!("channels.{name}"),
            "is missing: the program that embeds Tollgate brings this channel along; add it with kind = \"custom\" and fees",
        );
    }
    let default = &config.routing.default_channel;
    match config.channels.get(default) {
        None => findings.add("routing.default_channel", "names no channel; name one of [channels.<name>]"),
        Some(channel) if !channel.enabled => {
            findings.add("routing.default_channel", "names a channel that is not enabled; enable it, or name another first (`tollgate routing set --default-channel NAME`)");
        }
        Some(_) => {}
    }
}

/// The channel that fees are compared with may be switched off.
pub(super) fn check_baseline(config: &Config, findings: &mut Findings) {
    let known = config.channels.contains_key(config.routing.baseline_channel());
    let is_default = config.routing.baseline_channel.is_none();
    findings.require(
        known || is_default,
        "routing.baseline_channel",
        "names no channel; name one of [channels.<name>]",
    );
}

/// Amounts, caps and maintenance.
fn check_bounds(path: &str, channel: &ChannelConfig, findings: &mut Findings) {
    for (currency, range) in &channel.amounts {
        let path = format!("{path}.amounts.{currency}");
        let least = range.min_minor.unwrap_or(0);
        findings.require(least >= 0, path.clone(), "must not be negative");
        findings.require(range.max_minor.is_none_or(|most| most >= least.max(1)), path, "lets no amount through");
    }
    let caps = &channel.caps;
    findings.range(format!("{path}.caps.concurrent"), caps.concurrent, 1..=100_000);
    for (key, cap) in [("per_second", caps.per_second), ("per_day", caps.per_day)] {
        let path = format!("{path}.caps.{key}");
        findings.require(cap != Some(0), path, "must be at least 1; to stop payments set enabled = false");
    }
    let none_a_day = caps.amount_per_day_minor.is_some_and(|most| most < 1);
    let path_of_amount = format!("{path}.caps.amount_per_day_minor");
    findings.require(!none_a_day, path_of_amount, "must be at least 1; to stop payments set enabled = false");
    findings.require(channel.maintenance.len() <= 100, format!("{path}.maintenance"), "must be at most 100");
    for (index, maintenance) in channel.maintenance.iter().enumerate() {
        findings.require(
            maintenance.span().is_some(),
            format!("{path}.maintenance[{index}]"),
            "must have `from` and a later `until` such as 2026-03-01T02:00:00Z",
        );
    }
}

/// Where calls go: to the emulator, to the provider, or nowhere.
fn check_provider(config: &Config, path: &str, channel: &ChannelConfig, findings: &mut Findings) {
    if let Some(base_url) = &channel.base_url {
        check_address(findings, &format!("{path}.base_url"), base_url);
    }
    if channel.kind == ChannelKind::Instant {
        let allowed = config.sandbox.as_ref().is_some_and(|sandbox| sandbox.allow_instant);
        match config.mode {
            Mode::Live => findings.add(
                format!("{path}.kind"),
                "must not be \"instant\" in live mode, because no money would move; name a provider",
            ),
            Mode::Sandbox => findings.require(
                allowed,
                format!("{path}.kind"),
                "is \"instant\", which is for load tests; set allow_instant = true in [sandbox] if that is meant",
            ),
        }
        return;
    }
    if config.mode == Mode::Live && channel.sandbox {
        findings.add(format!("{path}.sandbox"), "must not be true in live mode; give base_url and credentials");
        return;
    }
    if channel.sandbox || channel.kind == ChannelKind::Custom {
        return;
    }
    findings.require(
        channel.base_url.is_some(),
        format!("{path}.base_url"),
        "is missing; give the provider's address, or set sandbox = true in sandbox mode",
    );
    for name in required_credentials(channel.kind) {
        let given = |suffix: &str| channel.credentials.contains_key(&format!("{name}{suffix}"));
        findings.require(
            given("_env") || given("_file"),
            format!("{path}.credentials"),
            format!("lacks `{name}_env` (a variable's name) or `{name}_file` (a path); add one of them"),
        );
    }
}

fn check_credentials(path: &str, channel: &ChannelConfig, findings: &mut Findings) {
    for (name, value) in &channel.credentials {
        let path = format!("{path}.credentials.{name}");
        let credential = name.strip_suffix("_env").or_else(|| name.strip_suffix("_file"));
        let Some(credential) = credential else {
            findings.add(path, "must end in _env (a variable's name) or _file (a path); secrets are not written here");
            continue;
        };
        let known = [required_credentials(channel.kind), optional_credentials(channel.kind)].concat();
        if !known.contains(&credential) {
            let names = if known.is_empty() { String::from("none") } else { known.join(", ") };
            findings.add(path, format!("is not a credential of this kind of channel; it has {names}"));
            continue;
        }
        if name.ends_with("_env") {
            // The value is not repeated: what does not look like a variable's name may be the secret itself.
            findings.require(is_variable_name(value), path, "must be a variable's name such as STRIPE_SECRET_KEY");
            continue;
        }
        findings.require(!value.is_empty(), path.clone(), "must name a file");
        let twice = channel.credentials.contains_key(&format!("{credential}_env"));
        findings.require(!twice, path, format!("is given twice; take {credential}_env or {credential}_file away"));
    }
}

pub(super) fn check_countries(findings: &mut Findings, path: &str, countries: &[String]) {
    for country in countries {
        findings.require(
            is_country(country),
            path,
            format!("has \"{country}\", which is not an ISO 3166-1 alpha-2 code in capitals such as DE"),
        );
    }
}
