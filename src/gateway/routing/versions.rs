//! Versions of the routing: one for each change of what is in force, whoever made it, kept in the store with the audit's
//! entry in the same commit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::config::Config;
use crate::domain::audit::{Change, FieldChange, Operator};
use crate::domain::time::Timestamp;
use crate::gateway::error::GatewayError;
use crate::gateway::page::{Page, PageRequest, cursor_of};
use crate::gateway::routing::overrides::Overrides;
use crate::storage::record::{Record, decode, encode};
use crate::storage::{Batch, Scan, Store, StoreError, keys};

/// Versions that are kept.
const VERSIONS_KEPT: u64 = 1_000;
/// Changed fields that a version names; the number of the others is kept.
const CHANGES_MAX: usize = 64;
/// Bytes of overrides, so that a version is a row.
const OVERRIDES_BYTES_MAX: usize = 256 * 1024;
/// Bytes of what is in force, of more only the hash is kept.
const PART_BYTES_MAX: usize = 512 * 1024;

/// A version as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredVersion {
    /// Counts from 1 without gaps.
    pub(super) number: u64,
    /// When it was made.
    pub(super) at: Timestamp,
    /// By whom.
    pub(super) by: String,
    /// By which request; empty when there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) request_id: String,
    /// What was done, as in the audit.
    pub(super) action: String,
    /// To what.
    pub(super) object: String,
    /// What changed in force.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) changes: BTreeMap<String, FieldChange>,
    /// Fields that changed beside those.
    #[serde(default)]
    pub(super) changes_left_out: usize,
    /// The admin API's part, whole.
    pub(super) overrides: Overrides,
}

impl Record for StoredVersion {
    const NAME: &'static str = "version of the routing";
}

/// What was in force last, so that a start with another file is noticed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredPart {
    /// Of the part's JSON.
    pub(super) sha256: String,
    /// The part; `None` when it is very large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<Value>,
}

impl Record for StoredPart {
    const NAME: &'static str = "routing in force";
}

/// What makes a version: everything that decisions depend on and an operator decides.
pub(super) fn part_of(config: &Config) -> Value {
    let json = |value: Result<Value, serde_json::Error>| value.unwrap_or(Value::Null);
    let mut channels = Map::new();
    for (name, channel) in &config.channels {
        let mut fields = json(serde_json::to_value(channel));
        if let Some(fields) = fields.as_object_mut() {
            // How a provider is reached is no matter of routing, and credentials are nobody's.
            for key in ["kind", "sandbox", "base_url", "credentials", "timeout_ms"] {
                fields.remove(key);
            }
        }
        channels.insert(name.clone(), fields);
    }
    let ids: Vec<&str> = config.rules.iter().map(|rule| rule.id()).collect();
    let rules: Map<String, Value> =
        config.rules.iter().map(|rule| (rule.id().to_owned(), json(serde_json::to_value(rule)))).collect();
    json!({
        "routing": json(serde_json::to_value(&config.routing)),
        "channels": channels,
        "rules": rules,
        "rules_order": ids,
        "fx": json(serde_json::to_value(&config.fx)),
    })
}

impl StoredPart {
    pub(super) fn of(part: Value) -> Self {
        let text = part.to_string();
        let sha256 = hex::encode(Sha256::digest(text.as_bytes()));
        Self { sha256, part: (text.len() <= PART_BYTES_MAX).then_some(part) }
    }
}

/// Adds every key in which two parts differ to `change`.
pub(super) fn differences(mut change: Change, before: &Value, after: &Value) -> Change {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    for (path, before, after) in found {
        change = change.field(path, before.cloned(), after.cloned());
    }
    change
}

type Difference<'a> = (String, Option<&'a Value>, Option<&'a Value>);

fn compare<'a>(path: &str, before: Option<&'a Value>, after: Option<&'a Value>, found: &mut Vec<Difference<'a>>) {
    // A rule is one thing: what it was and what it is.
    let is_rule = path.starts_with("rules.");
    if let (Some(Value::Object(left)), Some(Value::Object(right)), false) = (before, after, is_rule) {
        let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            compare(&below, left.get(key), right.get(key), found);
        }
    } else if before != after {
        found.push((path.to_owned(), before, after));
    }
}

/// The version that was made last, if there is one.
///
/// # Errors
/// When it can't be read.
pub(super) fn last(store: &dyn Store) -> Result<Option<StoredVersion>, StoreError> {
    let rows = store.scan(&Scan::prefix_reverse(&keys::routing_versions(), 1))?;
    rows.first().map(|row| decode(&row.versioned.value)).transpose()
}

/// The number of the version that was made last, also when that can't be read; 0 when there is none.
pub(super) fn last_number(store: &dyn Store) -> Result<u64, StoreError> {
    let rows = store.scan(&Scan::prefix_reverse(&keys::routing_versions(), 1))?;
    Ok(rows.first().and_then(|row| keys::routing_version_number(&row.key)).unwrap_or(0))
}

/// What was in force last, if that is known.
pub(super) fn last_part(store: &dyn Store) -> Result<Option<StoredPart>, StoreError> {
    store.get(&keys::routing_in_force())?.map(|stored| decode(&stored.value)).transpose()
}

/// One version.
///
/// # Errors
/// [`GatewayError::NotFound`].
pub(super) fn get(store: &dyn Store, number: u64) -> Result<StoredVersion, GatewayError> {
    let stored = store.get(&keys::routing_version(number))?;
    Ok(decode(&stored.ok_or(GatewayError::NotFound("version of the routing"))?.value)?)
}

impl StoredVersion {
    pub(super) fn new(number: u64, at: Timestamp, by: &Operator, change: &Change, overrides: Overrides) -> Self {
        Self {
            number,
            at,
            by: by.name.clone(),
            request_id: by.request_id.clone(),
            action: change.action.to_owned(),
            object: change.object.clone(),
            changes: change.fields.iter().take(CHANGES_MAX).map(|(key, field)| (key.clone(), field.clone())).collect(),
            changes_left_out: change.fields.len().saturating_sub(CHANGES_MAX),
            overrides,
        }
    }

    /// What makes this version the last one: a change is possible, too, while the disk has little room left.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when there is too much in it for a row.
    pub(super) fn batch(&self, part: &StoredPart) -> Result<Batch, GatewayError> {
        let version = encode(self)?;
        if version.len() > OVERRIDES_BYTES_MAX {
            let message =
                format!("are too large together: {OVERRIDES_BYTES_MAX} bytes at most; shorten or remove some");
            return Err(GatewayError::field("rules", message));
        }
        let mut batch = Batch::finishing();
        batch.insert(keys::routing_version(self.number), version);
        batch.put(keys::routing_in_force(), encode(part)?);
        if let Some(oldest) = self.number.checked_sub(VERSIONS_KEPT).filter(|number| *number > 0) {
            batch.delete(keys::routing_version(oldest));
        }
        Ok(batch)
    }
}

/// A version as the operator sees it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RoutingVersionView {
    /// Its number, which decisions name.
    pub version: u64,
    /// Whether it is in force now.
    pub in_force: bool,
    /// When it was made.
    pub at: String,
    /// By whom: the name of a token, or `signal`, or `start` for a start with another configuration.
    pub by: String,
    /// By which request; null when there was none.
    pub request_id: Option<String>,
    /// What was done.
    #[schema(example = "routing.update")]
    pub action: String,
    /// To what.
    pub object: String,
    /// What changed in force, each with `before` and `after` where there was something.
    #[schema(value_type = Object)]
    pub changes: BTreeMap<String, FieldChange>,
    /// Fields that changed beside those; not 0 only when there were very many.
    pub changes_left_out: usize,
    /// All that was changed through the admin API, as a rollback to this version restores it.
    #[schema(value_type = Object)]
    pub overrides: Value,
}

impl RoutingVersionView {
    pub(super) fn of(stored: StoredVersion, in_force: u64) -> Result<Self, GatewayError> {
        let overrides = serde_json::to_value(&stored.overrides)
            .map_err(|error| GatewayError::Internal(format!("overrides can't be written: {error}")))?;
        Ok(Self {
            version: stored.number,
            in_force: stored.number == in_force,
            at: stored.at.rfc3339(),
            by: stored.by,
            request_id: Some(stored.request_id).filter(|request_id| !request_id.is_empty()),
            action: stored.action,
            object: stored.object,
            changes: stored.changes,
            changes_left_out: stored.changes_left_out,
            overrides,
        })
    }
}

/// A page of versions, newest first.
pub(super) fn list(
    store: &dyn Store,
    page: &PageRequest,
    in_force: u64,
) -> Result<Page<RoutingVersionView>, GatewayError> {
    let rows = page.rows()?;
    let prefix = keys::routing_versions();
    let mut scan = Scan::prefix_reverse(&prefix, rows + 1);
    if let Some(before) = page.number_after(&prefix)? {
        scan.end = Some(before);
    }
    let found = store.scan(&scan)?;
    let next_cursor =
        if found.len() > rows { found.get(rows - 1).map(|row| cursor_of(&prefix, &row.key)) } else { None };
    let view = |row: &crate::storage::Row| RoutingVersionView::of(decode(&row.versioned.value)?, in_force);
    let items = found.iter().take(rows).map(view).collect::<Result<Vec<_>, GatewayError>>()?;
    Ok(Page { items, next_cursor })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Write;

    fn version(number: u64) -> StoredVersion {
        let change = Change::new("routing.update", "routing");
        StoredVersion::new(
            number,
            Timestamp::from_unix_s(1),
            &Operator::process("signal"),
            &change,
            Overrides::default(),
        )
    }

    #[test]
    fn the_last_thousand_are_kept() {
        let deleted = |number: u64| {
            let batch = version(number).batch(&StoredPart::of(Value::Null)).unwrap();
            let keys = batch.writes.into_iter().filter_map(|write| match write {
                Write::Delete { key } => keys::routing_version_number(&key),
                Write::Put { .. } => None,
            });
            keys.collect::<Vec<_>>()
        };
        assert_eq!((deleted(1), deleted(1_000), deleted(1_001)), (vec![], vec![], vec![1]));
    }

    #[test]
    fn what_does_not_fit_a_row_is_refused_and_a_large_part_is_known_by_its_hash() {
        let mut large = version(1);
        large.overrides.routing.insert(String::from("mode"), json!("x".repeat(OVERRIDES_BYTES_MAX)));
        assert!(matches!(large.batch(&StoredPart::of(Value::Null)), Err(GatewayError::InvalidRequest(_))));
        let part = StoredPart::of(json!("x".repeat(PART_BYTES_MAX)));
        assert!(part.part.is_none() && part.sha256.len() == 64);
    }

    #[test]
    fn a_rule_changes_as_one_thing() {
        let part = |name: &str, weight: u32| json!({ "rules": { "a": { "name": name } }, "channels": { "x": { "weight": weight } } });
        let change = differences(Change::new("a", "b"), &part("one", 1), &part("two", 2));
        let keys: Vec<&str> = change.fields.keys().map(String::as_str).collect();
        assert_eq!(keys, ["channels.x.weight", "rules.a"]);
    }
}
