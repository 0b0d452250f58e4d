//! Notifications in the store: the row of each, by the provider's id of it, and the index of those that are still to be
//! gone into.

use std::time::Duration;

use crate::channels::{Notification, Subject};
use crate::domain::ids::{ChannelName, MerchantId, PRE_AUTH_NO_PREFIX, PaymentNo, PreAuthNo};
use crate::domain::inbox::InboxRow;
use crate::domain::time::Timestamp;
use crate::gateway::callbacks::Inner;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::storage::record::{decode, encode};
use crate::storage::{Batch, Row, Scan, StoreError, Versioned, keys, prefix_end};

/// Longest id of a notification.
const ID_BYTES_MAX: usize = 128;
/// Longest name of something, or of what happened to it. None of ours is so long.
const NAME_BYTES_MAX: usize = 256;
/// What one notification can be about.
const SUBJECTS_MAX: usize = 8;
/// What our payments' numbers begin with.
const PAYMENT_NO_PREFIX: &str = "PY";
/// Entries of the index that are read at once.
pub(super) const PAGE_ROWS: usize = 256;
/// Wait before something is looked for again that was not there; doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest such wait.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// What came of going into a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is left to do about it; what came of it.
    Done(&'static str),
    /// It is looked at again soon.
    Soon,
    /// It is looked at again later, and given up one day.
    Later,
    /// The provider has said what it is about that it had named by a number alone.
    Named(Subject),
}

/// Something that a notification is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Target {
    Payment(MerchantId, PaymentNo),
    PreAuth(MerchantId, PreAuthNo),
    /// What the provider names by a number that is not known here.
    Number(String),
}

/// A notification that is to be gone into.
pub(super) struct OpenRow {
    /// Key of its entry in the index.
    pub(super) entry: Vec<u8>,
    pub(super) channel: ChannelName,
    pub(super) id: String,
    pub(super) row: InboxRow,
    /// Of the row.
    pub(super) revision: u64,
}

/// Whether an id can be part of a key.
pub(super) fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.contains('\0')
}

/// Whether a notification is known.
pub(super) fn is_kept(core: &Core, channel: &ChannelName, id: &str) -> Result<bool, StoreError> {
    Ok(core.store.get(&keys::inbox(channel, id))?.is_some())
}

/// Makes a notification durable. Answers whether there is something to go into.
///
/// # Errors
/// [`StoreError::Precondition`] when it is there already.
pub(super) async fn insert(
    core: &Core,
    channel: &ChannelName,
    notification: Notification,
    received_at: Timestamp,
) -> Result<bool, StoreError> {
    let Notification { id, event, subjects, dispute } = notification;
    let subjects: Vec<Subject> = subjects.into_iter().filter(has_usable_names).take(SUBJECTS_MAX).collect();
    let is_open = !subjects.is_empty();
    let row = InboxRow {
        received_at,
        event: event.chars().take(NAME_BYTES_MAX / 4).collect(),
        subjects,
        dispute: dispute.filter(|dispute| dispute.dispute_no.len() <= NAME_BYTES_MAX),
        handled_at: (!is_open).then_some(received_at),
        outcome: (!is_open).then(|| "ignored".to_owned()),
        tries: 0,
    };
    let mut batch = Batch::new();
    batch.insert(keys::inbox(channel, &id), encode(&row)?);
    if is_open {
        batch.insert(keys::inbox_open(received_at, channel, &id), Vec::new());
    }
    core.store.commit(batch).await?;
    Ok(is_open)
}

fn has_usable_names(subject: &Subject) -> bool {
    let names = [&subject.reference, &subject.merchant_id, &subject.provider_key, &subject.provider_no];
    names.into_iter().flatten().all(|name| name.len() <= NAME_BYTES_MAX && !name.contains('\0'))
}

impl Inner {
    /// How many are open.
    pub(super) fn count_open(&self) -> Result<usize, GatewayError> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.open_entries(after.as_deref())?;
            count += page.len();
            match page.last().filter(|_| page.len() == PAGE_ROWS) {
                Some(last) => after = Some(last.key.clone()),
                None => return Ok(count),
            }
        }
    }

    /// A page of the index, the earliest first, from behind a key on.
    pub(super) fn open_entries(&self, after: Option<&[u8]>) -> Result<Vec<Row>, StoreError> {
        let prefix = keys::inboxes_open();
        let start = after.map_or_else(|| prefix.clone(), |after| [after, &[0]].concat());
        self.core.store.scan(&Scan { start, end: prefix_end(&prefix), limit: PAGE_ROWS, reverse: false })
    }

    /// The notification of an entry; `None` when it can't be read, which is reported.
    pub(super) fn read_open(
        &self,
        entry: Vec<u8>,
        channel: ChannelName,
        id: String,
    ) -> Result<Option<OpenRow>, StoreError> {
        let key = keys::inbox(&channel, &id);
        let Some(Versioned { revision, value }) = self.core.store.get(&key)? else {
            self.unreadable.report(&entry, "there is no notification of this id");
            return Ok(None);
        };
        match decode::<InboxRow>(&value) {
            Ok(row) => Ok(Some(OpenRow { entry, channel, id, row, revision })),
            Err(error) => {
                self.unreadable.report(&key, error);
                Ok(None)
            }
        }
    }

    /// What a notification is about. Nothing when all of it is somebody else's.
    pub(super) fn targets_of(&self, open: &OpenRow) -> Result<Vec<Target>, GatewayError> {
        let mut targets = Vec::new();
        for subject in &open.row.subjects {
            targets.extend(self.target_of(&open.channel, subject)?);
        }
        targets.sort_unstable();
        targets.dedup();
        Ok(targets)
    }

    fn target_of(&self, channel: &ChannelName, subject: &Subject) -> Result<Option<Target>, GatewayError> {
        let reference = subject.reference.as_deref();
        if let (Some(reference), Some(merchant_id)) = (reference, &subject.merchant_id) {
            let merchant_id = MerchantId::new(merchant_id.as_str());
            if reference.starts_with(PAYMENT_NO_PREFIX) {
                return Ok(Some(Target::Payment(merchant_id, PaymentNo::new(reference))));
            }
            if reference.starts_with(PRE_AUTH_NO_PREFIX) {
                return Ok(Some(Target::PreAuth(merchant_id, PreAuthNo::new(reference))));
            }
        }
        let numbers = names_of(subject);
        if let Some((merchant_id, pre_auth_no)) = self.pre_auths.named_by_provider(channel, &numbers)? {
            return Ok(Some(Target::PreAuth(merchant_id, pre_auth_no)));
        }
        let may_be_ours = reference.is_none_or(is_ours);
        Ok(numbers.first().filter(|_| may_be_ours).map(|number| Target::Number((*number).to_owned())))
    }

    /// Makes durable what came of going into notifications.
    pub(super) async fn settle(&self, settled: &[(OpenRow, Verdict)]) -> Result<(), GatewayError> {
        let now = self.core.clock.now();
        let keep = Duration::from_secs(self.core.settings().callbacks.unknown_keep_s);
        let mut batch = Batch::finishing();
        let mut ends = Vec::new();
        for (open, verdict) in settled {
            let mut row = open.row.clone();
            let verdict = match verdict {
                Verdict::Later if now.since(row.received_at) >= keep => &Verdict::Done(UNKNOWN),
                other => other,
            };
            let due_at = match verdict {
                Verdict::Done(outcome) => {
                    (row.handled_at, row.outcome) = (Some(now), Some((*outcome).to_owned()));
                    ends.push((open, *outcome == UNKNOWN));
                    None
                }
                Verdict::Soon => Some(now.plus(FIRST_WAIT)),
                Verdict::Later => {
                    let wait = FIRST_WAIT.saturating_mul(1_u32.checked_shl(row.tries).unwrap_or(u32::MAX));
                    row.tries = row.tries.saturating_add(1);
                    Some(now.plus(wait.min(WAIT_MAX)))
                }
                Verdict::Named(named) => {
                    let is_named = |subject: &&mut Subject| subject.provider_no == named.provider_no;
                    row.subjects.iter_mut().filter(is_named).for_each(|subject| subject.clone_from(named));
                    Some(now)
                }
            };
            batch.replace(keys::inbox(&open.channel, &open.id), open.revision, encode(&row)?);
            let entry = due_at.map(|due_at| keys::inbox_open(due_at, &open.channel, &open.id));
            if entry.as_ref() != Some(&open.entry) {
                batch.delete(open.entry.clone());
                entry.into_iter().for_each(|entry| batch.insert(entry, Vec::new()));
            }
        }
        crate::gateway::payments::rows::commit_finish(&self.core, batch).await?;
        for (open, is_unknown) in ends {
            self.figures.closed(is_unknown);
            if is_unknown {
                let (channel, id, event) = (&open.channel, &open.id, &open.row.event);
                tracing::warn!(%channel, id, event, "a provider has told of something that never came up here");
            }
        }
        Ok(())
    }
}

/// The outcome of what is given up.
const UNKNOWN: &str = "unknown";

/// Whether a reference can be one of ours.
pub(super) fn is_ours(reference: &str) -> bool {
    reference.starts_with(PAYMENT_NO_PREFIX) || reference.starts_with(PRE_AUTH_NO_PREFIX)
}

/// The provider's number of something and our key, as far as they are given.
pub(super) fn names_of(subject: &Subject) -> Vec<&str> {
    [&subject.provider_no, &subject.provider_key].into_iter().flatten().map(String::as_str).collect()
}
