//! Which environment variables are configuration, and which key each of them sets.

use toml::Value;

/// What marks a variable as ours; only names with a double underscore after it are configuration.
const PREFIX: &str = "TOLLGATE_";
/// Between a section and a key, and between the names of nested tables.
const SEPARATOR: &str = "__";

/// Names from before there were sections, and the keys that they stand for.
const SHORT_NAMES: [(&str, [&str; 2]); 6] = [
    ("WEBHOOK_MAX_RETRIES", ["webhook", "max_attempts"]),
    ("WEBHOOK_INITIAL_BACKOFF", ["webhook", "initial_backoff_s"]),
    ("WEBHOOK_MAX_BACKOFF", ["webhook", "max_backoff_s"]),
    ("WEBHOOK_TIMEOUT", ["webhook", "timeout_s"]),
    ("WEBHOOK_RETRY_INTERVAL", ["webhook", "retry_interval_s"]),
    ("ROUTING_STRATEGY", ["routing", "mode"]),
];

/// One key that a variable sets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Setting {
    /// The variable.
    pub(super) name: String,
    /// The key's path, in lower case.
    pub(super) path: Vec<String>,
    /// What it is set to.
    pub(super) value: Value,
}

/// The settings among `environment`: short names first, so that a full name wins over the short one for the same key,
/// and by name otherwise, so that their order does not depend on the process's.
pub(super) fn settings(environment: Vec<(String, String)>) -> Vec<Setting> {
    let mut settings: Vec<(bool, Setting)> = environment
        .into_iter()
        .filter_map(|(name, text)| {
            let short = short_path(&name);
            let is_full = short.is_none();
            let path = short.or_else(|| full_path(&name))?;
            Some((is_full, Setting { name, path, value: value_of(&text) }))
        })
        .collect();
    settings.sort_by(|(left_full, left), (right_full, right)| (left_full, &left.name).cmp(&(right_full, &right.name)));
    settings.into_iter().map(|(_, setting)| setting).collect()
}

fn short_path(name: &str) -> Option<Vec<String>> {
    let (_, path) = SHORT_NAMES.iter().find(|(short, _)| *short == name)?;
    Some(path.iter().map(|segment| String::from(*segment)).collect())
}

fn full_path(name: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix(PREFIX)?;
    rest.contains(SEPARATOR).then(|| rest.split(SEPARATOR).map(str::to_ascii_lowercase).collect())
}

/// A TOML value where the text is one (`5`, `true`, `["a", "b"]`), else the text itself.
fn value_of(text: &str) -> Value {
    text.parse().unwrap_or_else(|_| Value::String(String::from(text)))
}
