//! What was changed through the admin API, as a layer on top of the configuration file: kept in the store, and put on
//! whatever the file says. What does not fit the file any more is left out and named.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::config::{Config, ConfigError, RuleConfig, rule_problems};
use crate::gateway::error::GatewayError;
use crate::gateway::wish::{named, wish};

/// Keys of `[routing]` that the admin API changes.
pub(super) const ROUTING_KEYS: [&str; 4] = ["mode", "smart", "rules_first", "default_channel"];
/// Keys of a channel that the admin API changes.
pub(super) const CHANNEL_KEYS: [&str; 6] = ["enabled", "weight", "fees", "local_countries", "caps", "maintenance"];

/// Those of them that are tables.
pub(super) const TABLE_KEYS: [&str; 2] = ["fees", "caps"];

/// What was changed through the admin API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Overrides {
    /// Keys of `[routing]`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) routing: Map<String, Value>,
    /// Keys of channels; tables inside of them are merged, too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) channels: BTreeMap<String, Map<String, Value>>,
    /// Rules, which stand before the file's. Each has an id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) rules: Vec<RuleConfig>,
}

/// A part of the overrides that does not fit the configuration file and is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct UnfitView {
    /// Which, such as `routing.default_channel`, `channels.stripe.caps` or `rules.ru_1`.
    #[schema(example = "routing.default_channel")]
    pub what: String,
    /// Why not.
    pub problem: String,
}

impl UnfitView {
    /// The problem without the part's name, which some begin with.
    pub(super) fn told(&self) -> &str {
        let rest = self.problem.strip_prefix(&self.what).and_then(|rest| rest.strip_prefix(['.', ' ']));
        rest.unwrap_or(&self.problem)
    }
}

/// A file's configuration with the overrides on top.
pub(super) struct Fitted {
    /// What is in force; the overrides' rules stand before the file's.
    pub(super) config: Config,
    /// What is not.
    pub(super) unfit: Vec<UnfitView>,
}

impl Overrides {
    /// The names of all parts.
    pub(crate) fn names(&self) -> Vec<String> {
        let channels = self.channels.iter();
        let keys = channels.flat_map(|(name, keys)| keys.keys().map(move |key| format!("channels.{name}.{key}")));
        let rules = self.rules.iter().map(|rule| format!("rules.{}", rule.id()));
        self.routing.keys().map(|key| format!("routing.{key}")).chain(keys).chain(rules).collect()
    }

    /// A part by its name, as [`UnfitView`] names it.
    pub(super) fn part(&self, what: &str) -> Option<Value> {
        let (section, rest) = what.split_once('.')?;
        match section {
            "routing" => self.routing.get(rest).cloned(),
            "channels" => {
                let (channel, key) = rest.split_once('.')?;
                self.channels.get(channel)?.get(key).cloned()
            }
            "rules" => serde_json::to_value(self.rules.iter().find(|rule| rule.id() == rest)?).ok(),
            _ => None,
        }
    }

    /// Puts the overrides on top of `file`. All of them, where that makes a valid configuration; otherwise as many as fit
    /// together.
    pub(super) fn fit(&self, file: &Config) -> Fitted {
        if *self == Self::default() {
            return Fitted { config: file.clone(), unfit: Vec::new() };
        }
        // What an embedder's configuration has of its own is no reason against an override.
        let accepted = problems_of(file);
        let is_valid = |config: &Config| problems_of(config).into_iter().find(|problem| !accepted.contains(problem));
        let units = self.units();
        let mut whole = file.clone();
        let all_read = units.iter().all(|unit| unit.put_on(&mut whole).is_ok());
        whole.rules.splice(0..0, self.rules.iter().cloned());
        if all_read && is_valid(&whole).is_none() {
            return Fitted { config: whole, unfit: Vec::new() };
        }
        let mut config = file.clone();
        let mut left: Vec<(&Unit<'_>, String)> = units.iter().map(|unit| (unit, String::new())).collect();
        // One may need another, such as a default channel that must be enabled: again, until nothing more fits.
        loop {
            let before = left.len();
            left.retain_mut(|(unit, problem)| {
                let mut candidate = config.clone();
                let wrong = unit.put_on(&mut candidate).err().or_else(|| is_valid(&candidate));
                if let Some(wrong) = wrong {
                    *problem = wrong;
                    return true;
                }
                config = candidate;
                false
            });
            if left.len() == before {
                break;
            }
        }
        let mut unfit: Vec<UnfitView> =
            left.into_iter().map(|(unit, problem)| UnfitView { what: unit.name(), problem }).collect();
        let mut rules: Vec<RuleConfig> = Vec::new();
        for rule in &self.rules {
            let taken = |other: &RuleConfig| other.id() == rule.id() || other.name == rule.name;
            let problem = rule_problems(&config, rule).first().map(ToString::to_string).or_else(|| {
                let taken = rules.iter().chain(&file.rules).any(taken);
                taken.then(|| String::from("another rule has its name or id"))
            });
            match problem {
                None => rules.push(rule.clone()),
                Some(problem) => unfit.push(UnfitView { what: format!("rules.{}", rule.id()), problem }),
            }
        }
        config.rules.splice(0..0, rules);
        Fitted { config, unfit }
    }

    fn units(&self) -> Vec<Unit<'_>> {
        let routing = self.routing.iter().map(|(key, value)| Unit { channel: None, key, value });
        let channels = self
            .channels
            .iter()
            .flat_map(|(name, keys)| keys.iter().map(move |(key, value)| Unit { channel: Some(name), key, value }));
        routing.chain(channels).collect()
    }
}

/// One key that is overridden.
struct Unit<'a> {
    channel: Option<&'a String>,
    key: &'a String,
    value: &'a Value,
}

impl Unit<'_> {
    fn name(&self) -> String {
        match self.channel {
            None => format!("routing.{}", self.key),
            Some(channel) => format!("channels.{channel}.{}", self.key),
        }
    }

    /// Sets the key; `Err` with what is wrong.
    fn put_on(&self, config: &mut Config) -> Result<(), String> {
        match self.channel {
            None => config.routing = with(&config.routing, self.key, self.value)?,
            Some(name) => {
                let channel = config.channels.get_mut(name).ok_or("there is no such channel")?;
                *channel = with(channel, self.key, self.value)?;
            }
        }
        Ok(())
    }
}

/// `section` with a value laid over one of its keys.
fn with<T: Serialize + DeserializeOwned>(section: &T, key: &str, value: &Value) -> Result<T, String> {
    let mut json = serde_json::to_value(section).map_err(|error| error.to_string())?;
    let fields = json.as_object_mut().ok_or("is no table")?;
    lay_over(fields.entry(key).or_insert(Value::Null), value);
    serde_path_to_error::deserialize(json).map_err(|error| {
        let (path, text) = (error.path().to_string(), error.inner().to_string());
        if let Some(name) = named(&text, "unknown field `") {
            return format!("has `{name}`, which is not one of its fields");
        }
        let told = named(&text, "missing field `").map_or_else(|| wish(&text), |name| format!("lacks `{name}`"));
        let inner = path.strip_prefix(key).and_then(|rest| rest.strip_prefix('.'));
        inner.map_or_else(|| told.clone(), |inner| format!("{inner}: {told}"))
    })
}

/// Tables are merged key by key, everything else is replaced.
fn lay_over(below: &mut Value, above: &Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                lay_over(below.entry(key.as_str()).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above.clone(),
    }
}

/// Whether each key of a patch has the shape that it must have: a table for those in `tables`, and none for the others. What
/// a table in the wrong place holds would be merged with what is not there, and mean that nothing was said.
pub(super) fn check_shapes(patch: &Map<String, Value>, tables: &[&str]) -> Result<(), GatewayError> {
    for (key, value) in patch.iter().filter(|(_, value)| !value.is_null()) {
        if value.is_object() != tables.contains(&key.as_str()) {
            let message = if value.is_object() { "must not be an object" } else { "must be an object" };
            return Err(GatewayError::field(key.as_str(), message));
        }
    }
    Ok(())
}

/// Merges a patch into what was patched before: `null` takes a key away, tables are merged, everything else is replaced.
pub(super) fn merge_patch(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(key);
            }
            // Of something that is no table: it is for the whole to say that it can't be one.
            Value::Object(inner) if inner.is_empty() && !target.get(key).is_some_and(Value::is_object) => {
                target.insert(key.clone(), value.clone());
            }
            Value::Object(inner) => {
                let below = target.entry(key.as_str()).or_insert(Value::Null);
                let mut merged = below.as_object().cloned().unwrap_or_default();
                merge_patch(&mut merged, inner);
                *below = Value::Object(merged);
                let is_empty = below.as_object().is_some_and(Map::is_empty);
                if is_empty {
                    target.remove(key);
                }
            }
            other => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}

fn problems_of(config: &Config) -> Vec<String> {
    match config.validate_running() {
        Ok(()) => Vec::new(),
        Err(ConfigError::Problems(problems)) => problems.iter().map(ToString::to_string).collect(),
        Err(other) => vec![other.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn overrides(value: Value) -> Overrides {
        serde_json::from_value(value).unwrap()
    }

    fn unfit(overrides: &Overrides, file: &Config) -> Vec<String> {
        overrides.fit(file).unfit.into_iter().map(|unfit| unfit.what).collect()
    }

    #[test]
    fn what_fits_is_on_top_of_the_file_and_tables_are_merged() {
        let file = Config::embedded().unwrap();
        let overrides = overrides(json!({
            "routing": { "mode": "cost", "default_channel": "alipay" },
            "channels": { "stripe": { "enabled": false, "fees": { "fixed_minor": 5 }, "caps": { "per_day": 7 } } },
            "rules": [{ "id": "a", "name": "a", "channels": ["alipay"] }],
        }));
        let Fitted { config, unfit } = overrides.fit(&file);
        assert!(unfit.is_empty(), "{unfit:?}");
        assert_eq!((config.routing.default_channel.as_str(), config.rules[0].id()), ("alipay", "a"));
        let (stripe, before) = (&config.channels["stripe"], &file.channels["stripe"]);
        assert_eq!((stripe.enabled, stripe.fees.fixed_minor), (false, 5));
        assert_eq!((stripe.fees.percent, stripe.weight), (before.fees.percent, before.weight));
        assert_eq!((stripe.caps.per_day, stripe.caps.concurrent), (Some(7), before.caps.concurrent));
        let mut names = overrides.names();
        names.sort();
        let expected = [
            "channels.stripe.caps",
            "channels.stripe.enabled",
            "channels.stripe.fees",
            "routing.default_channel",
            "routing.mode",
            "rules.a",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn what_does_not_fit_the_file_is_left_out_alone_and_named() {
        let mut file = Config::embedded().unwrap();
        let overrides = overrides(json!({
            "routing": { "default_channel": "gone", "mode": "cost" },
            "channels": { "gone": { "weight": 3 }, "stripe": { "weight": 9, "local_countries": ["XX"] } },
            "rules": [
                { "id": "a", "name": "a", "channels": ["gone"] }, { "id": "b", "name": "b", "channels": ["stripe"] },
                { "id": "c", "name": "c", "tiers": ["premium"], "channels": ["stripe"] },
            ],
        }));
        file.tiers.remove("premium");
        let wrong = [
            "routing.default_channel",
            "channels.gone.weight",
            "channels.stripe.local_countries",
            "rules.a",
            "rules.c",
        ];
        assert_eq!(unfit(&overrides, &file), wrong);
        let config = overrides.fit(&file).config;
        assert_eq!((config.channels["stripe"].weight, config.rules.len()), (9, 1));
        assert_eq!(config.routing.mode, crate::config::RoutingMode::Cost);
    }

    #[test]
    fn one_that_needs_another_waits_for_it() {
        let mut file = Config::embedded().unwrap();
        file.channels.get_mut("alipay").unwrap().enabled = false;
        // The default channel must be enabled; the wrong weight keeps the whole from being valid.
        let overrides = overrides(json!({
            "routing": { "default_channel": "alipay" },
            "channels": { "alipay": { "enabled": true }, "stripe": { "weight": 0 } },
        }));
        assert_eq!(unfit(&overrides, &file), ["channels.stripe.weight"]);
    }

    #[test]
    fn a_table_in_the_place_of_something_else_takes_nothing_away() {
        let patch = |value: Value| value.as_object().unwrap().clone();
        for (wrong, tables) in [(json!({ "weight": {} }), &[][..]), (json!({ "fees": 1 }), &["fees"])] {
            assert!(check_shapes(&patch(wrong), tables).is_err());
        }
        assert!(check_shapes(&patch(json!({ "weight": 1, "fees": {}, "caps": null })), &["fees", "caps"]).is_ok());
        let mut target = patch(json!({ "fees": { "percent": "1" } }));
        merge_patch(&mut target, &patch(json!({ "fees": { "percent": {}, "by_method": {} } })));
        assert_eq!(Value::Object(target), json!({ "fees": { "percent": {}, "by_method": {} } }));
    }

    #[test]
    fn null_takes_an_override_away_and_empty_tables_go() {
        let mut target = json!({ "weight": 3, "fees": { "percent": "1" } }).as_object().unwrap().clone();
        let patch = json!({ "weight": null, "fees": { "percent": null }, "caps": { "per_day": 5 } });
        merge_patch(&mut target, patch.as_object().unwrap());
        assert_eq!(Value::Object(target), json!({ "caps": { "per_day": 5 } }));
    }
}
