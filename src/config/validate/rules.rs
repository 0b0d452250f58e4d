//! The rule table: that each rule can be understood and names what is there. Whether rules make sense together is said by
//! the domain's check.

use jiff::tz::TimeZone;

use super::Findings;
use super::channels::check_countries;
use crate::config::{Config, RuleConfig};

/// Most rules of a table.
const RULES_MAX: usize = 1000;
/// No rule could be read, changed or removed by these.
const RESERVED_IDS: [&str; 3] = ["check", ".", ".."];
/// Most entries of one condition.
const ENTRIES_MAX: usize = 300;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    findings.require(config.rules.len() <= RULES_MAX, "rules", format!("must be at most {RULES_MAX}"));
    for (index, rule) in config.rules.iter().enumerate() {
        let path = format!("rules[{index}].");
        check_rule(config, rule, &path, findings);
        let earlier = || config.rules.iter().take(index);
        let name_taken = earlier().any(|other| other.name == rule.name);
        findings.require(!name_taken, format!("{path}name"), "is the name of an earlier rule; give it its own");
        let id_taken = !name_taken && earlier().any(|other| other.id() == rule.id());
        findings.require(!id_taken, format!("{path}id"), "is the id of an earlier rule; give it its own");
    }
}

/// One rule; `path` stands before its keys.
pub(super) fn check_rule(config: &Config, rule: &RuleConfig, path: &str, findings: &mut Findings) {
    let key = |key: &str| format!("{path}{key}");
    let name_length = rule.name.chars().count();
    findings.require((1..=100).contains(&name_length), key("name"), "must have 1 to 100 characters");
    let is_id = |id: &String| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        (1..=64).contains(&id.len()) && id.bytes().all(allowed)
    };
    findings.require(rule.id.as_ref().is_none_or(is_id), key("id"), "must be 1 to 64 characters from A-Za-z0-9_-");
    // These are addresses of the rules' API, or none at all.
    let is_reserved = RESERVED_IDS.contains(&rule.id());
    let place = if rule.id.is_some() { "id" } else { "name" };
    findings.require(
        !is_reserved,
        key(place),
        format!("can't be {:?} as an id; give the rule another `id`", rule.id()),
    );
    for (name, countries) in [
        ("countries", &rule.countries),
        ("not_countries", &rule.not_countries),
        ("card_countries", &rule.card_countries),
        ("not_card_countries", &rule.not_card_countries),
    ] {
        check_countries(findings, &key(name), countries);
    }
    check_lengths(rule, path, findings);
    for tier in &rule.tiers {
        findings.require(config.tiers.contains_key(tier), key("tiers"), format!("names no tier with \"{tier}\""));
    }
    check_amounts(rule, path, findings);
    check_hours(rule, path, findings);
    check_result(config, rule, path, findings);
}

fn check_lengths(rule: &RuleConfig, path: &str, findings: &mut Findings) {
    for (name, texts) in [
        ("methods", &rule.methods),
        ("not_methods", &rule.not_methods),
        ("tiers", &rule.tiers),
        ("merchants", &rule.merchants),
        ("not_merchants", &rule.not_merchants),
    ] {
        let path = format!("{path}{name}");
        findings.require(texts.len() <= ENTRIES_MAX, path.clone(), format!("must have at most {ENTRIES_MAX} entries"));
        let fits = texts.iter().all(|text| (1..=64).contains(&text.len()));
        findings.require(fits, path, "must have entries of 1 to 64 characters");
    }
    let metadata = format!("{path}metadata");
    findings.require(rule.metadata.len() <= 20, metadata.clone(), "must have at most 20 names");
    let fits = |(name, values): (&String, &Vec<String>)| {
        (1..=40).contains(&name.chars().count())
            && values.len() <= ENTRIES_MAX
            && values.iter().all(|value| value.chars().count() <= 500)
    };
    let message =
        format!("must have names of 1 to 40 characters, and at most {ENTRIES_MAX} values of up to 500 characters");
    findings.require(rule.metadata.iter().all(fits), metadata, message);
}

fn check_amounts(rule: &RuleConfig, path: &str, findings: &mut Findings) {
    let bounds = [("amount_minor_min", rule.amount_minor_min), ("amount_minor_max", rule.amount_minor_max)];
    for (name, bound) in bounds {
        findings.require(bound.is_none_or(|bound| bound >= 0), format!("{path}{name}"), "must not be negative");
        findings.require(
            bound.is_none() || !rule.currencies.is_empty(),
            format!("{path}{name}"),
            "needs `currencies`: minor units of different currencies can't be compared",
        );
    }
    if let (Some(least), Some(most)) = (rule.amount_minor_min, rule.amount_minor_max) {
        let message = format!("must be at least amount_minor_min ({least})");
        findings.require(least <= most, format!("{path}amount_minor_max"), message);
    }
}

fn check_hours(rule: &RuleConfig, path: &str, findings: &mut Findings) {
    let until = format!("{path}until");
    match (rule.from, rule.until) {
        (Some(from), Some(end)) => {
            let is_span = from != end && from.minutes() < 24 * 60;
            findings.require(is_span, until, "must be another time than `from`; 00:00 until 24:00 is the whole day");
        }
        (None, None) => {}
        (Some(_), None) => findings.add(until, "is missing: `from` goes with it"),
        (None, Some(_)) => findings.add(format!("{path}from"), "is missing: `until` goes with it"),
    }
    if let Some(zone) = &rule.time_zone {
        let path = format!("{path}time_zone");
        findings.require(
            TimeZone::get(zone).is_ok(),
            path.clone(),
            format!(
                "{zone:?} is not a time zone that this machine knows (such as Europe/Berlin; tzdata must be installed)"
            ),
        );
        let is_needed = rule.from.is_some() || !rule.weekdays.is_empty();
        findings.require(is_needed, path, "goes with `from` and `until`, or `weekdays`");
    }
}

fn check_result(config: &Config, rule: &RuleConfig, path: &str, findings: &mut Findings) {
    let (channels, split) = (format!("{path}channels"), format!("{path}split"));
    if rule.split.is_empty() {
        findings.require(!rule.channels.is_empty(), channels.clone(), "must name at least one channel");
    } else {
        findings.require(rule.channels.is_empty(), channels.clone(), "can't stand beside `split`; take one away");
        let sum: u64 = rule.split.iter().map(|share| u64::from(share.percent)).sum();
        findings.require(sum == 100, split.clone(), format!("must have shares that add up to 100 percent, not {sum}"));
    }
    let shared = rule.split.iter().map(|share| (&split, &share.channel));
    let mut seen = Vec::new();
    for (path, channel) in rule.channels.iter().map(|channel| (&channels, channel)).chain(shared) {
        let known = config.channels.contains_key(channel);
        findings.require(known, path.clone(), format!("names no channel with \"{channel}\""));
        findings.require(!seen.contains(&channel), path.clone(), format!("names \"{channel}\" twice"));
        seen.push(channel);
    }
}
