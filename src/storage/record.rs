//! How records become bytes: a byte that says which form of the record follows, then JSON. The store adds checksums.
//!
//! JSON, because a record must be readable in ten years and by other programs, tolerates added fields, and costs a few
//! microseconds beside a disk write of hundreds.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::audit::{AuditHead, SealedEntry};
use crate::domain::event::Event;
use crate::domain::inbox::InboxRow;
use crate::domain::merchant::Merchant;
use crate::domain::pre_auth::PreAuth;
use crate::domain::webhook::{DeadEntry, DueEntry, Endpoint, EndpointHealth, Notification, WebhookJob};
use crate::storage::StoreError;

/// Something that is kept in the store.
pub trait Record: Serialize + DeserializeOwned {
    /// Which form this program writes. Readers accept this one and the one before it.
    const FORM: u8 = 1;
    /// For messages.
    const NAME: &'static str;
}

/// The bytes of a record.
///
/// # Errors
/// [`StoreError::Invalid`] when it can't be written as JSON.
pub fn encode<R: Record>(record: &R) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(512);
    bytes.push(R::FORM);
    serde_json::to_writer(&mut bytes, record)
        .map_err(|error| StoreError::Invalid(format!("a {} can't be written: {error}", R::NAME)))?;
    Ok(bytes)
}

/// The record in `bytes`.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is of a newer form or not what it should be.
pub fn decode<R: Record>(bytes: &[u8]) -> Result<R, StoreError> {
    let Some((form, json)) = bytes.split_first() else {
        return Err(StoreError::Corrupt(format!("a stored {} is empty", R::NAME)));
    };
    if *form > R::FORM || form.saturating_add(1) < R::FORM {
        return Err(StoreError::Corrupt(format!(
            "a stored {} has form {form}, this program reads forms up to {}: use the program that wrote it",
            R::NAME,
            R::FORM
        )));
    }
    serde_json::from_slice(json)
        .map_err(|error| StoreError::Corrupt(format!("a stored {} can't be read: {error}", R::NAME)))
}

/// Whether the record in `bytes` may hold this number of ours (letters, digits, `_` and `-`, which JSON writes as they are).
/// Much quicker than reading one that does not.
pub fn may_name(bytes: &[u8], number: &str) -> bool {
    // What is no text has to be looked at by who can say so.
    std::str::from_utf8(bytes).map_or(true, |text| text.contains(number))
}

impl Record for Event {
    const NAME: &'static str = "event";
}

impl Record for Merchant {
    const NAME: &'static str = "merchant";
}

impl Record for Endpoint {
    const NAME: &'static str = "webhook endpoint";
}

impl Record for Notification {
    const NAME: &'static str = "notification";
}

impl Record for DueEntry {
    const NAME: &'static str = "due entry";
}

impl Record for DeadEntry {
    const NAME: &'static str = "dead letter";
}

impl Record for EndpointHealth {
    const NAME: &'static str = "endpoint's health";
}

impl Record for WebhookJob {
    const NAME: &'static str = "webhook job";
}

impl Record for SealedEntry {
    const NAME: &'static str = "audit entry";
}

impl Record for AuditHead {
    const NAME: &'static str = "head of the audit";
}

impl Record for PreAuth {
    const NAME: &'static str = "pre-auth";
}

impl Record for InboxRow {
    const NAME: &'static str = "notification of a provider";
}
