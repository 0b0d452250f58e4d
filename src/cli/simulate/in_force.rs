//! Routing as it is in force in a running gateway, in place of what the configuration file says of it.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::super::admin::Admin;
use super::super::failure::Failure;
use crate::config::{ChannelConfig, Config, RuleConfig};

/// Somebody may change the routing while it is read; then it is read again, so often at most.
const TRIES_MAX: usize = 5;
/// What the admin API says of a channel that stands in its configuration, too.
const CHANNEL_KEYS: [&str; 10] =
    ["kind", "enabled", "weight", "fees", "local_countries", "countries", "currencies", "methods", "amounts", "caps"];
const ROUTING_KEYS: [&str; 4] = ["mode", "smart", "rules_first", "default_channel"];

/// What the admin API answers.
struct Answers {
    routing: Value,
    rules: Value,
    channels: Vec<Value>,
}

/// The configuration with rules, channels and routing as they are in force, and their version.
///
/// # Errors
/// When the gateway does not answer, or not with what it should.
pub(super) async fn put_on(config: &Config, admin: &Admin) -> Result<(Config, u64), Failure> {
    for _ in 0..TRIES_MAX {
        let routing = admin.get(&["routing"], &[]).await?;
        let rules = admin.get(&["rules"], &[]).await?;
        let listed = admin.get(&["channels"], &[]).await?;
        let mut channels = Vec::new();
        for row in listed["items"].as_array().into_iter().flatten() {
            let name = row["name"].as_str().unwrap_or_default();
            channels.push(admin.get(&["channels", name], &[]).await?);
        }
        let after = admin.get(&["routing"], &[]).await?;
        if routing["version"] == after["version"] {
            return merged(config, &Answers { routing, rules, channels });
        }
    }
    Err(Failure::Failed(String::from("the routing is being changed all the time; try again")))
}

fn merged(config: &Config, answers: &Answers) -> Result<(Config, u64), Failure> {
    let version = answers.routing["version"].as_u64().ok_or_else(|| not_understood("routing"))?;
    let mut config = config.clone();
    config.routing = with(&json_of(&config.routing), &answers.routing, &ROUTING_KEYS, "routing")?;
    let rules = answers.rules["items"].as_array().ok_or_else(|| not_understood("rules"))?;
    config.rules = rules.iter().map(rule_of).collect::<Result<_, _>>()?;
    let mut channels = std::collections::BTreeMap::new();
    for answer in &answers.channels {
        let name = answer["name"].as_str().ok_or_else(|| not_understood("channels"))?;
        let known = config.channels.get(name).map(json_of::<ChannelConfig>).unwrap_or_default();
        channels.insert(name.to_owned(), with(&known, answer, &CHANNEL_KEYS, name)?);
    }
    config.channels = channels;
    Ok((config, version))
}

/// A rule without what only the API says of it.
fn rule_of(answer: &Value) -> Result<RuleConfig, Failure> {
    let mut fields = answer.as_object().cloned().unwrap_or_default();
    fields.retain(|key, _| !["source", "position"].contains(&key.as_str()));
    read(Value::Object(fields), "rules")
}

/// What was known with these keys of an answer in place of its own.
fn with<T: DeserializeOwned>(known: &Value, answer: &Value, keys: &[&str], what: &str) -> Result<T, Failure> {
    let mut fields: Map<String, Value> = known.as_object().cloned().unwrap_or_default();
    for key in keys {
        let value = answer.get(*key).ok_or_else(|| not_understood(what))?;
        fields.insert((*key).to_owned(), value.clone());
    }
    read(Value::Object(fields), what)
}

fn json_of<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn read<T: DeserializeOwned>(value: Value, what: &str) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| {
        Failure::Failed(format!("what the gateway says of {what} is not understood ({error}); is it of this version?"))
    })
}

fn not_understood(what: &str) -> Failure {
    Failure::Failed(format!("the gateway does not say all of {what}; check --admin-url, or is it of another version?"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn channel(name: &str, more: Value) -> Value {
        let mut channel = json!({ "name": name, "kind": name, "enabled": true, "weight": 100, "fees": { "percent": "1" },
            "local_countries": [], "countries": [], "currencies": [], "methods": [], "amounts": {},
            "caps": { "concurrent": 5 }, "breaker": "closed", "version": 7 });
        for (key, value) in more.as_object().unwrap() {
            channel[key] = value.clone();
        }
        channel
    }

    #[test]
    fn what_is_in_force_takes_the_place_of_the_file_s() {
        let file = Config::embedded().unwrap();
        let routing =
            json!({ "version": 7, "mode": "cost", "smart": false, "rules_first": true, "default_channel": "alipay" });
        let rules = json!({ "items": [{ "id": "ru_1", "name": "r", "countries": ["US"], "channels": ["alipay"],
            "source": "api", "position": 1 }] });
        let channels = vec![channel("alipay", json!({ "fees": { "percent": "0.4" }, "enabled": false }))];
        let answers = Answers { routing, rules, channels };
        let (config, version) = merged(&file, &answers).unwrap();
        assert_eq!((version, config.rules.len(), config.rules[0].id()), (7, 1, "ru_1"));
        assert_eq!((config.routing.smart, config.routing.default_channel.as_str()), (false, "alipay"));
        assert_eq!(config.channels.keys().collect::<Vec<_>>(), ["alipay"], "no other channel is there");
        let alipay = &config.channels["alipay"];
        assert_eq!((alipay.fees.percent.to_string().as_str(), alipay.enabled), ("0.4", false));
        assert_eq!(alipay.sandbox, file.channels["alipay"].sandbox, "the rest is the file's");
        for lacking in [json!({}), json!({ "version": 7, "mode": "luck" })] {
            let answers = Answers { routing: lacking, rules: json!({ "items": [] }), channels: Vec::new() };
            assert!(merged(&file, &answers).is_err());
        }
    }
}
