//! The record of administrative changes in the store: an entry is committed with the change that it is about, or neither
//! is. `domain::audit` says how entries are bound to each other.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::audit::{
    Anchor, AuditEntry, AuditHead, ChainCheck, ChainProblem, Change, FieldChange, Operator, SealedEntry,
};
use crate::domain::time::Timestamp;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::page::{Page, PageRequest, cursor_of};
use crate::storage::record::{decode, encode};
use crate::storage::{ABSENT, Batch, Committed, Scan, Store, StoreError, keys, prefix_end};

/// Tries of a change. One whose caller went away while it was being committed has given up its turn already, and is found
/// by the next as a head that has moved, once.
const TRIES_MAX: usize = 3;
/// Rows read at once.
const CHUNK_ROWS: usize = 500;
/// Rows looked at for one page: a filter that fits few of them gives a short page with a cursor to go on from.
const ROWS_LOOKED_AT_MAX: usize = 2_000;
/// How often the head is said in the log when it has moved.
const HEAD_LOG_INTERVAL: Duration = Duration::from_secs(3_600);

/// Commits a change together with its entry, after those that came before it. A precondition of `batch` that does not
/// hold is reported as without the entry.
///
/// # Errors
/// As for [`Store::commit`]; [`StoreError::Overloaded`] when others were quicker every time.
pub(crate) async fn commit(core: &Core, batch: Batch, by: &Operator, change: &Change) -> Result<Committed, StoreError> {
    let _turn = core.audit_turn.lock().await;
    for _ in 0..TRIES_MAX {
        let (head, revision) = read_head(core.store.as_ref())?;
        let (entry, next) = head
            .extend(by, change, core.clock.now())
            .map_err(|error| StoreError::Invalid(format!("an audit entry can't be written: {error}")))?;
        let mut audited = batch.clone();
        let head_index = audited.preconditions.len();
        audited.replace(keys::audit_head(), revision, encode(&next)?);
        audited.append(keys::audit(), encode(&entry)?);
        match core.store.commit(audited).await {
            Err(StoreError::Precondition { index }) if index == head_index => {}
            result => return result,
        }
    }
    Err(StoreError::Overloaded("too many administrative changes at once"))
}

/// Writes an entry about something that changes no row of the store itself. Also when the disk has little room left: what
/// the operator does then is what has to be possible.
///
/// # Errors
/// As for [`commit`].
pub(crate) async fn record(core: &Core, by: &Operator, change: &Change) -> Result<(), StoreError> {
    commit(core, Batch::finishing(), by, change).await.map(|_| ())
}

/// The end of the chain and the revision of its row.
fn read_head(store: &dyn Store) -> Result<(AuditHead, u64), StoreError> {
    match store.get(&keys::audit_head())? {
        None => Ok((AuditHead::empty(), ABSENT)),
        Some(stored) => Ok((decode(&stored.value)?, stored.revision)),
    }
}

/// The end of the chain.
///
/// # Errors
/// As for [`Store::get`].
pub fn head(store: &dyn Store) -> Result<AuditHead, StoreError> {
    read_head(store).map(|(head, _)| head)
}

/// Checks the whole chain in `store`, and against an anchor if there is one. Blocks while it reads; entries that are
/// added meanwhile are not looked at.
///
/// # Errors
/// [`StoreError`] when the store can't be read. What is wrong with the chain itself is the answer's own error.
pub fn verify(store: &dyn Store, anchor: Option<Anchor>) -> Result<Result<AuditHead, ChainProblem>, StoreError> {
    let head = head(store)?;
    let mut check = ChainCheck::new(anchor);
    let end = keys::audit_entry(head.number.saturating_add(1));
    let mut scan = Scan { start: keys::audit(), end: Some(end), limit: CHUNK_ROWS, reverse: false };
    loop {
        let page = store.scan(&scan)?;
        for row in &page {
            let number = keys::audit_number(&row.key).unwrap_or_default();
            let sealed: Option<SealedEntry> = decode(&row.versioned.value).ok();
            if let Err(problem) = check.take(number, sealed.as_ref()) {
                return Ok(Err(problem));
            }
        }
        if page.len() < CHUNK_ROWS {
            break;
        }
        scan.start = keys::audit_entry(check.at().number + 1);
    }
    // Nothing may stand behind the head. It is read after the row, because both are written together.
    let last = store.scan(&Scan::prefix_reverse(&keys::audit(), 1))?;
    let last = last.first().and_then(|row| keys::audit_number(&row.key)).unwrap_or_default();
    let known = self::head(store)?.number;
    if last > known {
        return Ok(Err(ChainProblem::WrongEnd { last, head: known }));
    }
    Ok(check.finish(&head))
}

/// Which entries to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Who did it.
    pub actor: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// To what; also finds what belongs to it (`m_1` finds `m_1/ak_1`).
    pub object: Option<String>,
    /// Not before, RFC 3339.
    pub from: Option<String>,
    /// Before, RFC 3339.
    pub to: Option<String>,
}

/// One entry as the operator sees it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AuditEntryView {
    /// Its place in the chain, from 1.
    pub number: u64,
    /// When.
    pub at: String,
    /// Who: the name of the token, or `signal`, `retention`, `hold` or `rotation` for what the process did.
    pub actor: String,
    /// What was done.
    #[schema(example = "merchant.update")]
    pub action: String,
    /// To what.
    pub object: String,
    /// By which request; null when there was none.
    pub request_id: Option<String>,
    /// The fields that changed, each with `before` and `after` where there was something; never secrets.
    #[schema(value_type = Object)]
    pub changes: std::collections::BTreeMap<String, FieldChange>,
    /// Fields that changed beside those; not 0 only when there were very many.
    pub changes_left_out: usize,
    /// The chain's hash up to here.
    pub hash: String,
}

/// The chain's end as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuditChainView {
    /// Number of the last entry; 0 when there is none.
    pub number: u64,
    /// Its hash. Written down elsewhere, `number:hash` shows later whether entries were cut off.
    pub hash: String,
    /// With `verify=true`: whether the whole chain is what was written.
    pub intact: Option<bool>,
    /// With `verify=true`: what is wrong with it, if something is.
    pub problem: Option<String>,
}

/// A page of entries, and the chain's end.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AuditPage {
    /// The entries, newest first.
    pub items: Vec<AuditEntryView>,
    /// Ask for this next; null when there is no more.
    pub next_cursor: Option<String>,
    /// The chain's end.
    pub chain: AuditChainView,
}

/// The record of administrative changes of one gateway, for reading.
#[derive(Clone)]
pub struct Audit(Core);

impl Audit {
    pub(crate) fn new(core: Core) -> Self {
        Self(core)
    }

    /// A page of entries, newest first.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] for a wrong filter, limit or cursor.
    pub fn list(&self, filter: &AuditFilter, page: &PageRequest) -> Result<AuditPage, GatewayError> {
        let store = self.0.store.as_ref();
        let AuditHead { number, hash } = head(store)?;
        let Page { items, next_cursor } = list(store, filter, page)?;
        Ok(AuditPage { items, next_cursor, chain: AuditChainView { number, hash, intact: None, problem: None } })
    }

    /// Checks the whole chain, and against an anchor (`NUMBER:HASH`, written down earlier) if there is one.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the anchor is none. A damaged chain is no error here but the answer.
    pub async fn verify(&self, anchor: Option<&str>) -> Result<AuditChainView, GatewayError> {
        let anchor = match anchor {
            None => None,
            Some(text) => Some(Anchor::parse(text).ok_or_else(|| {
                GatewayError::field("anchor", "must be a number, a colon and 64 hexadecimal digits, such as 17:9f86…")
            })?),
        };
        let store = std::sync::Arc::clone(&self.0.store);
        let verified = tokio::task::spawn_blocking(move || {
            let head = head(store.as_ref())?;
            verify(store.as_ref(), anchor).map(|verified| (head, verified))
        });
        let (before, verified) =
            verified.await.map_err(|error| GatewayError::Internal(format!("checking the audit ended: {error}")))??;
        let (AuditHead { number, hash }, problem) = match verified {
            Ok(head) => (head, None),
            Err(problem) => (before, Some(problem.to_string())),
        };
        Ok(AuditChainView { number, hash, intact: Some(problem.is_none()), problem })
    }
}

fn list(store: &dyn Store, filter: &AuditFilter, page: &PageRequest) -> Result<Page<AuditEntryView>, GatewayError> {
    let rows_wanted = page.rows()?;
    let (from, to) = (time("from", filter.from.as_deref())?, time("to", filter.to.as_deref())?);
    let prefix = keys::audit();
    let mut end = page.number_after(&prefix)?.or_else(|| prefix_end(&prefix));
    let mut items = Vec::new();
    let mut looked_at = 0;
    while looked_at < ROWS_LOOKED_AT_MAX {
        let rows = store.scan(&Scan { start: prefix.clone(), end: end.clone(), limit: CHUNK_ROWS, reverse: true })?;
        for row in &rows {
            looked_at += 1;
            let sealed: SealedEntry = decode(&row.versioned.value)?;
            let entry: AuditEntry = serde_json::from_str(sealed.entry.get())
                .map_err(|error| GatewayError::Internal(format!("an audit entry can't be read: {error}")))?;
            // Not the end of the list: clocks can be set back.
            let in_time = from.is_none_or(|from| entry.at >= from) && to.is_none_or(|to| entry.at < to);
            if in_time && includes(filter, &entry) {
                items.push(view_of(entry, sealed.hash));
            }
            if items.len() == rows_wanted {
                return Ok(Page { items, next_cursor: Some(cursor_of(&prefix, &row.key)) });
            }
        }
        match rows.last() {
            Some(last) if rows.len() == CHUNK_ROWS => end = Some(last.key.clone()),
            _ => return Ok(Page { items, next_cursor: None }),
        }
    }
    Ok(Page { items, next_cursor: end.map(|key| cursor_of(&prefix, &key)) })
}

fn time(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, GatewayError> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || GatewayError::field(field, "must be an RFC 3339 time, such as 2025-01-24T10:30:45Z");
    Timestamp::parse_rfc3339(text).map(Some).ok_or_else(wrong)
}

fn includes(filter: &AuditFilter, entry: &AuditEntry) -> bool {
    let is_of = |object: &String| {
        entry.object.strip_prefix(object.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    filter.actor.as_ref().is_none_or(|actor| *actor == entry.actor)
        && filter.action.as_ref().is_none_or(|action| *action == entry.action)
        && filter.object.as_ref().is_none_or(is_of)
}

fn view_of(entry: AuditEntry, hash: String) -> AuditEntryView {
    AuditEntryView {
        number: entry.number,
        at: entry.at.rfc3339(),
        actor: entry.actor,
        action: entry.action,
        object: entry.object,
        request_id: Some(entry.request_id).filter(|request_id| !request_id.is_empty()),
        changes: entry.changes,
        changes_left_out: entry.changes_left_out,
        hash,
    }
}

/// Says the chain's end in the log at the start, and whenever it has moved: logs that leave the machine are what shows
/// later that entries were cut off.
pub(super) fn start(core: &Core) {
    let keeper = core.clone();
    core.tasks.spawn(async move {
        let stopping = keeper.stopping.clone();
        let mut told = None;
        let tell = async {
            loop {
                told = tell_head(&keeper, told.take());
                tokio::time::sleep(HEAD_LOG_INTERVAL).await;
            }
        };
        stopping.run_until_cancelled(tell).await;
        tell_head(&keeper, told);
    });
}

fn tell_head(core: &Core, told: Option<AuditHead>) -> Option<AuditHead> {
    match head(core.store.as_ref()) {
        Ok(head) if head.number == 0 || told.as_ref() == Some(&head) => Some(head),
        Ok(head) => {
            tracing::info!(number = head.number, hash = head.hash, "end of the audit's chain");
            Some(head)
        }
        Err(error) => {
            tracing::warn!(%error, "the end of the audit's chain can't be read");
            told
        }
    }
}

#[cfg(test)]
mod tests;
