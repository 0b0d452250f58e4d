//! Which notifications a job looks at next.

use std::time::Duration;

use crate::domain::ids::NotificationId;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{JobKind, JobSource, Lane, LaneKind, WebhookJob};
use crate::storage::{Scan, Store, StoreError, Versioned, keys, prefix_end};

/// Rows looked at in one turn.
pub(super) const PAGE_ROWS: usize = 64;

/// A notification's row, as it was read last; nothing when it is not there.
pub(super) struct Found {
    pub(super) key: Vec<u8>,
    pub(super) stored: Option<Versioned>,
}

/// What a job looks at in one turn.
pub(super) struct JobPage {
    pub(super) rows: Vec<Found>,
    /// Where it goes on after that.
    pub(super) cursor: Option<Vec<u8>>,
    /// Whether there is nothing after that.
    pub(super) is_last: bool,
}

/// Reads the next page of a job.
///
/// Rows leave and enter the indexes meanwhile, and none may be passed over for that. What is acted on leaves. What comes
/// in again, because it was tried or has failed once more, comes in behind the cursor's place or is not the job's any more.
///
/// # Errors
/// [`StoreError`] when it can't be read.
pub(super) fn read(store: &dyn Store, job: &WebhookJob) -> Result<JobPage, StoreError> {
    let (first, end) = range(job);
    let start = job.cursor.as_deref().map_or(first, after);
    if end.as_ref().is_some_and(|end| *end <= start) {
        return Ok(JobPage { rows: Vec::new(), cursor: job.cursor.clone(), is_last: true });
    }
    let entries = store.scan(&Scan { start, end, limit: PAGE_ROWS, reverse: false })?;
    let mut page = JobPage { rows: Vec::new(), cursor: job.cursor.clone(), is_last: entries.len() < PAGE_ROWS };
    for entry in entries {
        let notification_id = match job.source() {
            JobSource::All => {
                page.cursor = Some(entry.key.clone());
                page.rows.push(Found { key: entry.key, stored: Some(entry.versioned) });
                continue;
            }
            JobSource::DeadLetters(_) => keys::parse_dead_letter(&entry.key).map(|(_, _, id)| id),
            JobSource::Waiting(endpoint_id) => match keys::parse_notification_due(&entry.key) {
                Some((_, lane, due_at, _)) if is_over_in_lane(job, lane, due_at) => {
                    page.cursor = prefix_end(&keys::notifications_due_in(endpoint_id, lane));
                    page.is_last = false;
                    return Ok(page);
                }
                Some((_, _, _, id)) => Some(id),
                None => None,
            },
        };
        page.cursor = Some(entry.key);
        if let Some(notification_id) = notification_id {
            page.rows.push(found(store, job, &notification_id)?);
        }
    }
    Ok(page)
}

/// The first key after `key`.
pub(super) fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

fn found(store: &dyn Store, job: &WebhookJob, notification_id: &NotificationId) -> Result<Found, StoreError> {
    let key = keys::notification(&job.merchant_id, notification_id);
    let stored = store.get(&key)?;
    Ok(Found { key, stored })
}

/// The keys among which a job's are: the first of them, and the first after them.
fn range(job: &WebhookJob) -> (Vec<u8>, Option<Vec<u8>>) {
    match job.source() {
        JobSource::DeadLetters(endpoint_id) => {
            // The times of some are about when their notifications were made.
            let since = job.since.filter(|_| job.kind != JobKind::Retry);
            let first = since.map_or_else(
                || keys::dead_letters_of(endpoint_id),
                |since| keys::dead_letters_since(endpoint_id, since),
            );
            // What fails after the job was asked for, perhaps because of it, is not its business.
            let end = job.failures_until().plus(Duration::from_millis(1));
            (first, Some(keys::dead_letters_since(endpoint_id, end)))
        }
        JobSource::Waiting(endpoint_id) => {
            let prefix = keys::notifications_due_of(endpoint_id);
            let end = prefix_end(&prefix);
            (prefix, end)
        }
        JobSource::All => {
            let prefix = keys::notifications_of(&job.merchant_id);
            let from = |at| keys::notifications_from(&job.merchant_id, at);
            let end = job.until.map(from).or_else(|| prefix_end(&prefix));
            (job.since.max(job.filter.made_from()).map_or(prefix, from), end)
        }
    }
}

/// Whether nothing in the rest of a lane is the job's, because all of it is due, or was made, too late.
fn is_over_in_lane(job: &WebhookJob, lane: Lane, due_at: Timestamp) -> bool {
    let is_by_time = match job.kind {
        JobKind::Expire => true,
        // What was never tried is due when it was made, or when somebody has begun it anew.
        JobKind::Cancel => lane.kind() == LaneKind::First,
        JobKind::Retry | JobKind::Recover | JobKind::Sweep | JobKind::Enable | JobKind::Park | JobKind::Purge => false,
    };
    is_by_time && job.until.is_some_and(|until| due_at >= until)
}
