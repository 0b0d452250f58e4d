//! What can change while the gateway runs, and that the documentation says so of every key.

use std::collections::BTreeMap;

use toml::Value as Toml;

use super::*;
use crate::config::reader::{self, Fault};

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::embedded().unwrap();
    change(&mut config);
    config
}

#[test]
fn what_can_change_is_told_from_what_can_not() {
    let in_force = config(|_| {});
    let wanted = config(|config| {
        config.tiers.get_mut("starter").unwrap().per_hour = 9_000;
        config.tiers.remove("premium");
        config.limits.adaptive.commit_ms = 900;
        config.limits.mailbox_max = 9;
        config.limits.lease_ms = 70_000;
        config.limits.merchants_active_max = 9;
        config.limits.external_permits_max = 9;
        config.limits.idle_ms = 9_000;
        config.limits.snapshot_interval_ms = 900;
        config.limits.near_percent = vec![50];
        config.limits.near_interval_s = 90;
        let client_address = &mut config.limits.client_address;
        client_address.enabled = false;
        (client_address.per_second, client_address.burst) = (5, 9);
        (client_address.failed_authentications_per_minute, client_address.block_s) = (5, 9);
        client_address.addresses_max = 2_048;
        client_address.exempt_networks.clear();
        config.routing.smart = false;
        config.routing.failover_max = 7;
        config.routing.baseline_channel = Some(String::from("alipay"));
        config.fx.settlement_currency = "EUR".parse().unwrap();
        config.server.body_max_bytes = 2_048;
        config.telemetry.log = String::from("debug");
        let stripe = config.channels.get_mut("stripe").unwrap();
        stripe.weight = 7;
        stripe.timeout_ms = 5_000;
        config.channels.remove("alipay");
    });
    let next = in_force.with_changeable(&wanted);
    let applied = [
        "channels.stripe.weight",
        "limits.adaptive.commit_ms",
        "limits.client_address.block_s",
        "limits.client_address.burst",
        "limits.client_address.enabled",
        "limits.client_address.exempt_networks",
        "limits.client_address.failed_authentications_per_minute",
        "limits.client_address.per_second",
        "limits.near_interval_s",
        "limits.near_percent",
        "routing.baseline_channel",
        "routing.failover_max",
        "routing.smart",
        "telemetry.log",
        "tiers.starter.per_hour",
    ];
    assert_eq!(differences(&in_force, &next).unwrap(), applied);
    let waiting = [
        "channels.alipay",
        "channels.stripe.timeout_ms",
        "fx.settlement_currency",
        "limits.client_address.addresses_max",
        "limits.external_permits_max",
        "limits.idle_ms",
        "limits.lease_ms",
        "limits.mailbox_max",
        "limits.merchants_active_max",
        "limits.snapshot_interval_ms",
        "server.body_max_bytes",
        "tiers.premium",
    ];
    assert_eq!(differences(&next, &wanted).unwrap(), waiting);
    assert!(differences(&wanted, &wanted).unwrap().is_empty());
}

#[test]
fn changes_say_what_was_and_what_will_be_but_nothing_secret() {
    let with_secrets = |password: &str, key: &str| {
        config(|config| {
            let stripe = config.channels.get_mut("stripe").unwrap();
            stripe.base_url = Some(format!("https://user:{password}@stripe.example/"));
            stripe.credentials.insert(String::from("secret_key"), key.to_owned());
            stripe.weight = u32::try_from(password.len()).unwrap();
        })
    };
    let changes = with_secrets("hunter2", "sk_live_a").changes_to(&with_secrets("hunter23", "sk_live_b")).unwrap();
    let keys: Vec<(&str, TakesEffect)> =
        changes.iter().map(|change| (change.key.as_str(), change.takes_effect)).collect();
    assert_eq!(
        keys,
        [
            ("channels.stripe.base_url", TakesEffect::AtRestart),
            ("channels.stripe.credentials.secret_key", TakesEffect::AtRestart),
            ("channels.stripe.weight", TakesEffect::AtOnce),
        ]
    );
    assert_eq!((&changes[2].before, &changes[2].after), (&Some(Value::from(7)), &Some(Value::from(8))));
    let shown = format!("{changes:?}");
    assert!(!shown.contains("hunter") && !shown.contains("sk_live"), "{shown}");
}

#[test]
fn what_is_new_and_what_is_gone_is_one_change() {
    let without = config(|config| {
        config.channels.remove("alipay");
        config.tiers.remove("premium");
    });
    let keys = |changes: Vec<KeyChange>| -> Vec<(String, bool, bool, TakesEffect)> {
        let told =
            |change: KeyChange| (change.key, change.before.is_some(), change.after.is_some(), change.takes_effect);
        changes.into_iter().map(told).collect()
    };
    let all = config(|_| {});
    let (channel, tier) = (String::from("channels.alipay"), String::from("tiers.premium"));
    assert_eq!(
        keys(all.changes_to(&without).unwrap()),
        [(channel.clone(), true, false, TakesEffect::AtRestart), (tier.clone(), true, false, TakesEffect::AtRestart)]
    );
    assert_eq!(
        keys(without.changes_to(&all).unwrap()),
        [(channel, false, true, TakesEffect::AtRestart), (tier, false, true, TakesEffect::AtOnce)]
    );
}

/// Every key that may be left out, so that there is one of each.
const OPTIONAL: &str = r#"
[server]
tls_certificate = "c"
tls_key = "k"
admin_tls_certificate = "c"
admin_tls_key = "k"
[storage]
archive_dir = "a"
[routing]
baseline_channel = "stripe"
geoip_database = "g"
[[rules]]
name = "r"
channels = ["stripe"]
[callbacks]
public_url = "https://pay.example"
[telemetry]
otlp_endpoint = "http://127.0.0.1:4318"
otlp_headers_env = "H"
otlp_headers_file = "h"
[security]
master_key_file = "k"
[sandbox]
url = "http://127.0.0.1:1"
[sandbox.stripe]
down = false
[channels.stripe]
base_url = "https://stripe.example"
slow_call_ms = 100
hold_valid_s = 3600
credentials = { secret_key_env = "K" }
caps = { concurrent = 5, per_second = 5, per_day = 5, amount_per_day_minor = 5 }
amounts = { USD = { min_minor = 50, max_minor = 5000 } }
maintenance = [{ from = "2026-03-01T02:00:00Z", until = "2026-03-01T03:00:00Z" }]
[channels.stripe.fees]
min_minor = 1
max_minor = 5
tiers = [{ from_minor = 5, percent = "2" }]
by_method = { card = { percent = "2" } }
by_currency = { EUR = { percent = "2" } }
changes = [{ valid_from = "2026-01-01", percent = "2" }]
"#;
/// Tables whose names the operator chooses; the first of each stands for all.
const NAMED: [(&str, &str); 3] = [("tiers", "starter"), ("channels", "stripe"), ("sandbox", "stripe")];
/// Tables that are one value.
const WHOLE: [&str; 6] = [
    "channels.<name>.amounts",
    "channels.<name>.caps",
    "channels.<name>.credentials",
    "channels.<name>.fees.by_currency",
    "channels.<name>.fees.by_method",
    "fx.rates",
];
/// Texts among which there is one that may stand for each text.
const TEXTS: [&str; 7] = ["x", "9", "1.25", "EUR", "127.0.0.1:9", "10.0.0.0/8", "2020-01-02"];

fn with_everything() -> Config {
    let mut layers = crate::config::embedded_layers().unwrap();
    layers.merge(&crate::config::layers::Source::Embedded, OPTIONAL.parse().unwrap());
    let mut config = layers.read_unchecked().unwrap();
    // Their own words for the same.
    config.sandbox.as_mut().unwrap().faults.retain(|name, _| name == "stripe");
    config
}

/// A key as the documentation names it, and where it is.
type Keys = BTreeMap<String, Vec<String>>;

fn keys(table: &toml::Table, name: &str, path: &[String], keys: &mut Keys) {
    for (key, value) in table {
        let stands_for = NAMED.iter().find(|(of, _)| *of == name).map(|(_, stands_for)| *stands_for);
        let is_named = stands_for.is_some() && value.is_table();
        if is_named && stands_for != Some(key.as_str()) {
            continue;
        }
        let shown = if is_named { "<name>" } else { key };
        let name = if name.is_empty() { shown.to_owned() } else { format!("{name}.{shown}") };
        let path: Vec<String> = path.iter().chain([key]).cloned().collect();
        match value {
            Toml::Table(below) if !WHOLE.contains(&name.as_str()) => self::keys(below, &name, &path, keys),
            _ => {
                keys.insert(name, path);
            }
        }
    }
}

fn place<'a>(table: &'a mut toml::Table, path: &[String]) -> &'a mut Toml {
    let (last, folders) = path.split_last().unwrap();
    let inner = folders.iter().fold(table, |table, name| table.get_mut(name).unwrap().as_table_mut().unwrap());
    inner.get_mut(last).unwrap()
}

/// Other values that may be right.
fn others(value: &Toml) -> Vec<Toml> {
    let texts = || TEXTS.iter().map(|text| Toml::from(*text));
    match value {
        Toml::Integer(number) => vec![Toml::from(number + 1), Toml::from(number - 1)],
        Toml::Float(number) => vec![Toml::from(number + 0.25)],
        Toml::Boolean(flag) => vec![Toml::from(!flag)],
        Toml::Table(_) => vec![Toml::Table(toml::Table::new())],
        Toml::Array(items) if items.is_empty() => {
            texts().chain([Toml::from(1)]).map(|item| Toml::Array(vec![item])).collect()
        }
        Toml::Array(items) => {
            let mut other = items.clone();
            if let Some(Toml::Integer(first)) = other.first_mut() {
                *first += 1;
            }
            vec![Toml::Array(Vec::new()), Toml::Array(other)]
        }
        _ => texts().collect(),
    }
}

/// The configuration with another value there.
fn with_another(base: &toml::Table, key: &str, path: &[String]) -> Config {
    let mut table = base.clone();
    let value = place(&mut table, path).clone();
    let mut candidates = others(&value);
    let before: Config = reader::read(base.clone()).unwrap();
    while let Some(candidate) = candidates.pop() {
        *place(&mut table, path) = candidate;
        match reader::read::<Config>(table.clone()) {
            Ok(config) if config != before => return config,
            Ok(_) => {}
            Err(fault) => {
                // One of a few words: it says which.
                let message = fault.message();
                if let Some(words) = message.strip_prefix("must be one of ") {
                    let words = words.split(", ").filter(|word| Some(*word) != value.as_str());
                    candidates.extend(words.take(1).map(Toml::from));
                }
            }
        }
    }
    panic!("no other value for {key} is known here: extend TEXTS");
}

#[test]
fn the_example_has_every_key() {
    let base = toml::Table::try_from(with_everything()).unwrap();
    let mut tables: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(path) = tables.pop() {
        let here = path.iter().fold(&base, |table, name| table[name].as_table().unwrap());
        tables.extend(
            here.iter()
                .filter(|(_, value)| value.is_table())
                .map(|(name, _)| [&path[..], std::slice::from_ref(name)].concat()),
        );
        let mut table = base.clone();
        let inner = path.iter().fold(&mut table, |table, name| table.get_mut(name).unwrap().as_table_mut().unwrap());
        inner.insert(String::from("no_such_key"), Toml::from(1));
        // Where names are free, something else is wrong with it, or nothing.
        let Err(Fault::Unknown { known, .. }) = reader::read::<Config>(table) else { continue };
        // What stands for the others has them all; only changes of fees have a day from which they hold.
        let stands_for = |(of, first): &(&str, &str)| {
            path.first().is_some_and(|name| name == of) && path.get(1).is_some_and(|name| name != first)
        };
        if NAMED.iter().any(stands_for) {
            continue;
        }
        for name in known.iter().filter(|name| **name != "valid_from") {
            assert!(here.contains_key(*name), "add {}.{name} to OPTIONAL", path.join("."));
            seen += 1;
        }
    }
    assert!(seen > 150, "{seen}");
}

#[test]
fn the_documentation_says_of_every_key_when_a_change_takes_effect() {
    let everything = with_everything();
    let base = toml::Table::try_from(&everything).unwrap();
    let embedded = serde_json::to_value(Config::embedded().unwrap()).unwrap();
    let mut all = Keys::new();
    keys(&base, "", &[], &mut all);
    let rows: Vec<String> = all
        .iter()
        .map(|(key, path)| {
            let wanted = with_another(&base, key, path);
            let at_once = everything.with_changeable(&wanted) == wanted;
            let is_of_one = key.contains("<name>");
            let default = path.iter().try_fold(&embedded, |value, name| value.get(name)).filter(|_| !is_of_one);
            let default = default.map(Value::to_string).filter(|text| text.len() <= 60);
            let default = default.map_or_else(|| String::from("-"), |text| format!("`{text}`"));
            format!("| `{key}` | {default} | {} |", if at_once { "at once" } else { "restart" })
        })
        .collect();
    let documented = include_str!("../../../docs/configuration.md");
    let found: Vec<&str> =
        documented.lines().filter(|line| line.ends_with("| at once |") || line.ends_with("| restart |")).collect();
    let missing: Vec<&String> = rows.iter().filter(|row| !found.contains(&row.as_str())).collect();
    let wrong: Vec<&&str> = found.iter().filter(|line| !rows.iter().any(|row| row == *line)).collect();
    assert!(
        missing.is_empty() && wrong.is_empty(),
        "docs/configuration.md lacks these rows:\n{}\nand has these, which are wrong:\n{}",
        missing.iter().map(|row| row.as_str()).collect::<Vec<_>>().join("\n"),
        wrong.iter().map(|row| **row).collect::<Vec<_>>().join("\n"),
    );
    assert!(
        found.is_sorted_by_key(|row| row.trim_start_matches("| `").split('`').next()),
        "sort the rows by their keys"
    );
}
