//! The rules that types can't express. All are checked, so that an operator sees everything at once.

mod bounds;
mod channels;
mod money;
mod rules;
pub(super) mod telemetry;

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;

use url::{Host, Url};

use super::error::Problem;
use super::{Config, Mode, RuleConfig};

/// Problems found so far.
#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
}

impl Findings {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(path, message));
    }

    /// Notes a problem unless `holds`.
    fn require(&mut self, holds: bool, path: impl Into<String>, message: impl Into<String>) {
        if !holds {
            self.add(path, message);
        }
    }

    /// Notes a problem when `value` is outside `range`.
    fn range<T: PartialOrd + Display>(&mut self, path: impl Into<String>, value: T, range: RangeInclusive<T>) {
        if !range.contains(&value) {
            self.add(path, format!("must be from {} to {}, not {value}", range.start(), range.end()));
        }
    }
}

/// Everything that is wrong with `config`, in the order of its sections. The channels in `custom` are brought along by the
/// program that embeds this one.
pub(super) fn problems(config: &Config, custom: &[&str]) -> Vec<Problem> {
    let mut findings = Findings::default();
    check_listeners(config, &mut findings);
    check_admin_hosts(config, &mut findings);
    bounds::check(config, &mut findings);
    check_tiers(config, &mut findings);
    channels::check(config, custom, &mut findings);
    channels::check_baseline(config, &mut findings);
    rules::check(config, &mut findings);
    check_sandbox(config, &mut findings);
    money::check(config, &mut findings);
    check_text(config, &mut findings);
    findings.problems
}

/// Everything that is wrong with one rule, by its keys.
pub(super) fn rule_problems(config: &Config, rule: &RuleConfig) -> Vec<Problem> {
    let mut findings = Findings::default();
    rules::check_rule(config, rule, "", &mut findings);
    findings.problems
}

fn check_listeners(config: &Config, findings: &mut Findings) {
    let server = &config.server;
    findings.require(
        !same_port(server.listen, server.admin_listen),
        "server.admin_listen",
        "needs another port than server.listen",
    );
    let pairs = [
        ("server.tls_certificate", &server.tls_certificate, "server.tls_key", &server.tls_key),
        ("server.admin_tls_certificate", &server.admin_tls_certificate, "server.admin_tls_key", &server.admin_tls_key),
    ];
    for (certificate_path, certificate, key_path, key) in pairs {
        findings.require(
            key.is_none() || certificate.is_some(),
            certificate_path,
            format!("must name the certificate that {key_path} belongs to"),
        );
        findings.require(
            certificate.is_none() || key.is_some(),
            key_path,
            format!("must name the key of {certificate_path}"),
        );
    }
}

fn check_admin_hosts(config: &Config, findings: &mut Findings) {
    let hosts = &config.admin.hosts;
    findings.require(hosts.len() <= 100, "admin.hosts", "must be at most 100");
    for host in hosts {
        findings.require(
            is_host_name(host),
            "admin.hosts",
            format!("has \"{host}\", which is not a name such as tollgate.internal (no scheme, port or wildcard)"),
        );
    }
}

/// Whether `text` is a name as DNS has them. Addresses need not be listed.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label) && text.parse::<IpAddr>().is_err()
}

/// Whether both can't be listened on. Port 0 takes a free port each time.
fn same_port(left: SocketAddr, right: SocketAddr) -> bool {
    let overlap = left.ip() == right.ip() || left.ip().is_unspecified() || right.ip().is_unspecified();
    left.port() == right.port() && left.port() != 0 && overlap
}

fn check_tiers(config: &Config, findings: &mut Findings) {
    findings.require(!config.tiers.is_empty(), "tiers", "needs at least one tier; add [tiers.<name>]");
    for (name, tier) in &config.tiers {
        findings.require(
            is_name(name),
            format!("tiers.{name}"),
            "must be named with 1 to 32 characters from a-z, 0-9, _ and -",
        );
        let figures = [
            ("per_second", tier.per_second),
            ("per_minute", tier.per_minute),
            ("per_hour", tier.per_hour),
            ("burst", tier.burst),
            ("concurrent", tier.concurrent),
        ];
        for (key, figure) in figures {
            findings.range(format!("tiers.{name}.{key}"), figure, 1..=10_000_000);
        }
        findings.require(
            tier.burst >= tier.per_second,
            format!("tiers.{name}.burst"),
            format!("must be at least per_second ({}); equal to it for a strict limit", tier.per_second),
        );
    }
}

fn check_sandbox(config: &Config, findings: &mut Findings) {
    let Some(sandbox) = &config.sandbox else { return };
    if config.mode == Mode::Live {
        findings.add("sandbox", "is not allowed in live mode; take the section away or set mode = \"sandbox\"");
        return;
    }
    if let Some(url) = &sandbox.url {
        check_address(findings, "sandbox.url", url);
    }
    for (name, faults) in &sandbox.faults {
        let path = format!("sandbox.{name}");
        let is_emulated = config.channels.get(name).is_some_and(|channel| channel.sandbox);
        findings.require(is_emulated, path.clone(), "names no channel with sandbox = true; name one or take it away");
        findings.range(format!("{path}.latency_ms"), faults.latency_ms, 0..=600_000);
        findings.range(format!("{path}.latency_jitter_ms"), faults.latency_jitter_ms, 0..=600_000);
        findings.range(format!("{path}.late_effect_ms"), faults.late_effect_ms, 0..=600_000);
        let rates = [
            ("decline_rate", faults.decline_rate),
            ("error_rate", faults.error_rate),
            ("error_after_effect_rate", faults.error_after_effect_rate),
            ("lost_response_rate", faults.lost_response_rate),
            ("late_effect_rate", faults.late_effect_rate),
            ("rate_limited_rate", faults.rate_limited_rate),
            ("duplicate_notification_rate", faults.duplicate_notification_rate),
        ];
        for (key, rate) in rates {
            findings.range(format!("{path}.{key}"), rate, 0.0..=1.0);
        }
    }
}

fn check_text(config: &Config, findings: &mut Findings) {
    let empty = Path::new("");
    findings.require(config.storage.dir != empty, "storage.dir", "must name a directory");
    findings.require(
        config.security.master_key_file.as_deref() != Some(empty),
        "security.master_key_file",
        "must name a file; take it away for <data dir>/master.key",
    );
    telemetry::check(config, findings);
}

/// Whether `name` can name a channel or a tier.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    (1..=32).contains(&name.len()) && name.bytes().all(allowed)
}

/// Whether `name` looks like the name of an environment variable and not like a secret.
pub(super) fn is_variable_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=100).contains(&name.len()) && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(allowed)
}

/// An address to talk to: https, or http to a loopback address.
fn check_address(findings: &mut Findings, path: &str, text: &str) {
    let Ok(url) = Url::parse(text) else {
        findings.add(path, "must be a URL such as https://api.example.com");
        return;
    };
    let allowed = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    findings.require(allowed, path, "must begin with https:// (http:// only for a loopback address)");
    findings.require(
        url.query().is_none() && url.fragment().is_none(),
        path,
        "must not have a query or a fragment; give scheme, host, port and path",
    );
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests;
