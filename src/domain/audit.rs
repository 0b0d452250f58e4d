//! The record of administrative changes: who changed what and when, each entry bound to the one before it by a hash, so
//! that an entry that was changed, taken out or put in is noticed.
//!
//! The hash of an entry is SHA-256 over the hash before it (32 bytes; zeros before the first) and the entry's bytes
//! exactly as they are stored, in hexadecimal. A chain shows nothing about entries that were cut off its end together with
//! its head: for that, a head must have been written down somewhere else ([`Anchor`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::domain::time::Timestamp;

/// Bytes of one value in an entry; of a longer one its length and hash are kept.
const VALUE_BYTES_MAX: usize = 2_048;
/// Changed fields in one entry; of more, the first are kept with the number of the others.
const FIELDS_MAX: usize = 64;

/// Who asks for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Name of the token, or of what else made the change, such as `signal`.
    pub name: String,
    /// The request that asked for it; empty when there was none.
    pub request_id: String,
}

impl Operator {
    /// The process itself, for a reason such as `signal` or `retention`.
    pub fn process(name: &str) -> Self {
        Self { name: name.to_owned(), request_id: String::new() }
    }
}

/// One field before and after; `None` where there was nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// What it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it is from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// What is done to which object. Never holds secrets or customers' data.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Such as `merchant.update`.
    pub action: &'static str,
    /// Such as a merchant's id; inner objects after a slash.
    pub object: String,
    /// The fields that change.
    pub fields: BTreeMap<String, FieldChange>,
}

impl Change {
    /// A change without fields.
    pub fn new(action: &'static str, object: impl Into<String>) -> Self {
        Self { action, object: object.into(), fields: BTreeMap::new() }
    }

    /// With a field.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, before: Option<Value>, after: Option<Value>) -> Self {
        let bounded = FieldChange { before: before.map(bounded), after: after.map(bounded) };
        self.fields.insert(name.into(), bounded);
        self
    }

    /// With every field in which two objects differ. What is not an object, or null, has no fields.
    #[must_use]
    pub fn difference(mut self, before: &Value, after: &Value) -> Self {
        let names = [before, after].into_iter().filter_map(Value::as_object).flat_map(|object| object.keys());
        let mut names: Vec<&String> = names.collect();
        names.sort();
        names.dedup();
        for name in names {
            let known = |object: &Value| object.get(name).filter(|value| !value.is_null()).cloned();
            let (was, is) = (known(before), known(after));
            if was != is {
                self = self.field(name.as_str(), was, is);
            }
        }
        self
    }
}

/// A value that is short enough to be kept as it is, or else how long it is and its hash.
fn bounded(value: Value) -> Value {
    let text = value.to_string();
    if text.len() <= VALUE_BYTES_MAX {
        return value;
    }
    serde_json::json!({ "bytes": text.len(), "sha256": hex::encode(Sha256::digest(text.as_bytes())) })
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its place in the chain, from 1 without gaps.
    pub number: u64,
    /// When the change was made.
    pub at: Timestamp,
    /// Who made it.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub object: String,
    /// By which request; empty when there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// The fields that changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changes: BTreeMap<String, FieldChange>,
    /// Fields that changed beside those, when there were too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub changes_left_out: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

/// An entry as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SealedEntry {
    /// The [`AuditEntry`], byte for byte what the hash covers.
    pub entry: Box<RawValue>,
    /// The chain's hash up to here, hexadecimal.
    pub hash: String,
}

/// The end of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// Number of the last entry; 0 when there is none.
    pub number: u64,
    /// The chain's hash, hexadecimal.
    pub hash: String,
}

impl AuditHead {
    /// Of a chain without entries.
    pub fn empty() -> Self {
        Self { number: 0, hash: "0".repeat(64) }
    }

    /// The next entry of the chain, sealed, and the head that it makes.
    ///
    /// # Errors
    /// When the entry can't be written as JSON.
    pub fn extend(
        &self,
        by: &Operator,
        change: &Change,
        at: Timestamp,
    ) -> Result<(SealedEntry, Self), serde_json::Error> {
        let number = self.number + 1;
        let entry = AuditEntry {
            number,
            at,
            actor: by.name.clone(),
            action: change.action.to_owned(),
            object: change.object.clone(),
            request_id: by.request_id.clone(),
            changes: change.fields.iter().take(FIELDS_MAX).map(|(name, field)| (name.clone(), field.clone())).collect(),
            changes_left_out: change.fields.len().saturating_sub(FIELDS_MAX),
        };
        let entry = RawValue::from_string(serde_json::to_string(&entry)?)?;
        let hash = chained(&self.hash, entry.get());
        Ok((SealedEntry { entry, hash: hash.clone() }, Self { number, hash }))
    }
}

/// A hash that is not hexadecimal stands for itself, so that a damaged one still makes another hash than a good one.
fn chained(hash_before: &str, entry: &str) -> String {
    let before = hex::decode(hash_before).unwrap_or_else(|_| hash_before.as_bytes().to_vec());
    hex::encode(Sha256::new().chain_update(before).chain_update(entry).finalize())
}

/// A head that was written down outside: the chain must still have this entry with this hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Number of the entry.
    pub number: u64,
    /// Its hash, hexadecimal.
    pub hash: String,
}

impl Anchor {
    /// Reads `NUMBER:HASH`.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, hash) = text.split_once(':')?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = number.parse().ok().filter(|number| *number > 0)?;
        is_hash.then(|| Self { number, hash: hash.to_ascii_lowercase() })
    }
}

/// Why a chain can't be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainProblem {
    /// A number is missing.
    #[error("entry {expected} is missing: {found} comes in its place")]
    Gap {
        /// What should be there.
        expected: u64,
        /// What is.
        found: u64,
    },
    /// An entry can't be read.
    #[error("entry {number} can't be read")]
    Unreadable {
        /// Which.
        number: u64,
    },
    /// An entry says another number than its place.
    #[error("the entry at place {number} says that it is another")]
    WrongNumber {
        /// The place.
        number: u64,
    },
    /// An entry, or one before it, is not what was written.
    #[error("entry {number} does not fit the hash of the entries before it: it or an earlier one was changed")]
    WrongHash {
        /// The first that does not fit.
        number: u64,
    },
    /// The end is not where the head says.
    #[error("the chain ends at entry {last}, its head says {head}")]
    WrongEnd {
        /// Where it ends.
        last: u64,
        /// What the head says.
        head: u64,
    },
    /// The last entry's hash is not the head's.
    #[error("the hash of entry {number} is not that of the chain's head")]
    WrongHead {
        /// The head's number.
        number: u64,
    },
    /// The chain is not the one that the anchor is of.
    #[error("entry {number} is not there with the hash of the anchor: the chain was cut off or written anew")]
    WrongAnchor {
        /// The anchor's number.
        number: u64,
    },
}

/// Checks a chain entry by entry, from the first.
#[derive(Clone, Debug)]
pub struct ChainCheck {
    at: AuditHead,
    anchor: Option<Anchor>,
    anchor_found: bool,
}

impl ChainCheck {
    /// Begins a check, against an anchor if there is one.
    pub fn new(anchor: Option<Anchor>) -> Self {
        Self { at: AuditHead::empty(), anchor, anchor_found: false }
    }

    /// Takes the next entry, which stands under `number`; `None` when it can't be read.
    ///
    /// # Errors
    /// [`ChainProblem`]; then the check is over.
    pub fn take(&mut self, number: u64, sealed: Option<&SealedEntry>) -> Result<(), ChainProblem> {
        let expected = self.at.number + 1;
        if number != expected {
            return Err(ChainProblem::Gap { expected, found: number });
        }
        let sealed = sealed.ok_or(ChainProblem::Unreadable { number })?;
        if chained(&self.at.hash, sealed.entry.get()) != sealed.hash {
            return Err(ChainProblem::WrongHash { number });
        }
        let entry: AuditEntry =
            serde_json::from_str(sealed.entry.get()).map_err(|_| ChainProblem::Unreadable { number })?;
        if entry.number != number {
            return Err(ChainProblem::WrongNumber { number });
        }
        self.at = AuditHead { number, hash: sealed.hash.clone() };
        self.anchor_found |=
            self.anchor.as_ref().is_some_and(|anchor| anchor.number == number && anchor.hash == sealed.hash);
        Ok(())
    }

    /// How far the check has come.
    pub fn at(&self) -> &AuditHead {
        &self.at
    }

    /// Ends the check: the last entry taken must be the head's.
    ///
    /// # Errors
    /// [`ChainProblem`].
    pub fn finish(self, head: &AuditHead) -> Result<AuditHead, ChainProblem> {
        if self.at.number != head.number {
            return Err(ChainProblem::WrongEnd { last: self.at.number, head: head.number });
        }
        if self.at.hash != head.hash {
            return Err(ChainProblem::WrongHead { number: head.number });
        }
        match self.anchor {
            Some(anchor) if !self.anchor_found => Err(ChainProblem::WrongAnchor { number: anchor.number }),
            _ => Ok(self.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chain(length: u64) -> (Vec<SealedEntry>, AuditHead) {
        let mut head = AuditHead::empty();
        let mut entries = Vec::new();
        for number in 0..length {
            let by = Operator { name: "admin".to_owned(), request_id: format!("r-{number}") };
            let change = Change::new("merchant.update", "m_1").field("tier", Some(json!("a")), Some(json!("b")));
            let (entry, next) = head.extend(&by, &change, Timestamp::from_unix_s(1_737_715_200)).unwrap();
            entries.push(entry);
            head = next;
        }
        (entries, head)
    }

    fn check(entries: &[SealedEntry], head: &AuditHead, anchor: Option<Anchor>) -> Result<AuditHead, ChainProblem> {
        let mut check = ChainCheck::new(anchor);
        for (index, entry) in entries.iter().enumerate() {
            check.take(index as u64 + 1, Some(entry))?;
        }
        check.finish(head)
    }

    fn changed(entry: &SealedEntry, from: &str, to: &str) -> SealedEntry {
        let text = entry.entry.get().replace(from, to);
        assert_ne!(text, entry.entry.get());
        SealedEntry { entry: RawValue::from_string(text).unwrap(), hash: entry.hash.clone() }
    }

    #[test]
    fn a_chain_that_nobody_touched_is_whole() {
        for length in [0, 1, 5] {
            let (entries, head) = chain(length);
            assert_eq!(check(&entries, &head, None), Ok(head.clone()));
            assert_eq!(head.number, length);
        }
    }

    #[test]
    fn the_hash_is_the_documented_one() {
        let (entries, head) = chain(1);
        let bytes = [&[0_u8; 32], entries[0].entry.get().as_bytes()].concat();
        assert_eq!(head.hash, hex::encode(Sha256::digest(bytes)));
        assert!(entries[0].entry.get().starts_with(r#"{"number":1,"at":"#), "{}", entries[0].entry.get());
    }

    #[test]
    fn whatever_is_changed_in_the_middle_is_noticed() {
        let (entries, head) = chain(4);
        for (from, to) in [("admin", "nobody"), ("r-1", "r-9"), ("m_1", "m_2"), ("\"b\"", "\"c\""), ("17377", "17378")]
        {
            let mut touched = entries.clone();
            touched[1] = changed(&entries[1], from, to);
            assert_eq!(check(&touched, &head, None), Err(ChainProblem::WrongHash { number: 2 }), "{from}");
        }
        let mut swapped = entries.clone();
        swapped.swap(1, 2);
        assert_eq!(check(&swapped, &head, None), Err(ChainProblem::WrongHash { number: 2 }));
        let mut taken_out = entries.clone();
        taken_out.remove(1);
        assert!(check(&taken_out, &head, None).is_err());
        assert_eq!(ChainCheck::new(None).take(2, Some(&entries[1])), Err(ChainProblem::Gap { expected: 1, found: 2 }));
        assert_eq!(ChainCheck::new(None).take(1, None), Err(ChainProblem::Unreadable { number: 1 }));
    }

    #[test]
    fn an_entry_resealed_by_somebody_who_knows_how_breaks_those_after_it() {
        let (mut entries, head) = chain(3);
        let forged = changed(&entries[1], "admin", "nobody");
        let hash = chained(&entries[0].hash, forged.entry.get());
        entries[1] = SealedEntry { entry: forged.entry, hash };
        assert_eq!(check(&entries, &head, None), Err(ChainProblem::WrongHash { number: 3 }));
    }

    #[test]
    fn a_shortened_chain_is_noticed_by_its_head_and_a_new_head_by_an_anchor() {
        let (entries, head) = chain(4);
        let short = &entries[..3];
        assert_eq!(check(short, &head, None), Err(ChainProblem::WrongEnd { last: 3, head: 4 }));
        let other = AuditHead { number: 3, hash: head.hash.clone() };
        assert_eq!(check(short, &other, None), Err(ChainProblem::WrongHead { number: 3 }));
        let new_head = AuditHead { number: 3, hash: entries[2].hash.clone() };
        let anchor = Anchor { number: 4, hash: head.hash.clone() };
        assert!(check(short, &new_head, None).is_ok(), "a chain alone can't show it");
        assert_eq!(check(short, &new_head, Some(anchor.clone())), Err(ChainProblem::WrongAnchor { number: 4 }));
        assert!(check(&entries, &head, Some(anchor)).is_ok());
        let earlier = Anchor { number: 2, hash: entries[1].hash.clone() };
        assert!(check(&entries, &head, Some(earlier)).is_ok());
        let foreign = Anchor { number: 2, hash: entries[2].hash.clone() };
        assert!(check(&entries, &head, Some(foreign)).is_err());
    }

    #[test]
    fn anchors_are_read() {
        let hash = "Ab".repeat(32);
        let anchor = Anchor { number: 7, hash: hash.to_lowercase() };
        assert_eq!(Anchor::parse(&format!("7:{hash}")), Some(anchor));
        for bad in
            [hash.as_str(), "7:", "7:abc", &format!("0:{hash}"), &format!("x:{hash}"), &format!("7:{}", "x".repeat(64))]
        {
            assert_eq!(Anchor::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_what_differs_is_written_and_what_is_long_is_hashed() {
        let before = json!({ "name": "a", "tier": "x", "country": null, "rules": [1] });
        let after = json!({ "name": "b", "tier": "x", "country": "DE", "rules": "r".repeat(5_000) });
        let change = Change::new("merchant.update", "m_1").difference(&before, &after);
        let names: Vec<&str> = change.fields.keys().map(String::as_str).collect();
        assert_eq!(names, ["country", "name", "rules"]);
        assert_eq!(change.fields["country"], FieldChange { before: None, after: Some(json!("DE")) });
        assert_eq!(change.fields["rules"].after.as_ref().unwrap()["bytes"], 5_002);
        let created = Change::new("merchant.create", "m_1").difference(&Value::Null, &after);
        assert!(created.fields.values().all(|field| field.before.is_none()));
    }

    #[test]
    fn an_entry_has_so_many_fields_and_says_how_many_more() {
        let mut change = Change::new("config.reload", "configuration");
        for number in 0..100 {
            change = change.field(format!("f{number:03}"), None, Some(json!(number)));
        }
        let (sealed, _) =
            AuditHead::empty().extend(&Operator::process("signal"), &change, Timestamp::from_unix_s(0)).unwrap();
        let entry: AuditEntry = serde_json::from_str(sealed.entry.get()).unwrap();
        assert_eq!((entry.changes.len(), entry.changes_left_out), (64, 36));
    }
}
