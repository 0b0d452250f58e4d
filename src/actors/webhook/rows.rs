//! A notification's rows: its own, its entry in the index of what waits, its entry in the index of dead letters. Whoever
//! changes a notification does it here, so that the indexes always say what the rows say.

use crate::domain::ids::{EndpointId, MerchantId};
use crate::domain::webhook::{
    DeadEntry, DueEntry, Failure, Lane, LaneSet, Notification, NotificationStatus, WebhookJob,
};
use crate::storage::{Batch, StoreError, keys, record};

/// What became of notifications, for whoever counts them once it is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "after the commit, somebody has to send it or to count it"]
pub struct Changed {
    /// The lane in which it waits now, if it does and did not before, or waited elsewhere.
    pub lane: Option<Lane>,
    /// How it ended, if that is what happened.
    pub end: Option<End>,
    /// How many more wait.
    pub waiting: i64,
    /// How many more dead letters there are.
    pub dead_letters: i64,
}

impl Changed {
    /// The lanes that have something new.
    pub fn lanes(&self) -> LaneSet {
        self.lane.map_or(LaneSet::NONE, LaneSet::from)
    }
}

/// What a batch changes, for after its commit: endpoints, with what became of one of their notifications, and whether there
/// is a new job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "after the commit it has to be announced"]
pub struct Planned {
    changes: Vec<(EndpointId, Changed)>,
    has_job: bool,
}

impl Planned {
    /// Adds one.
    pub fn add(&mut self, endpoint_id: EndpointId, changed: Changed) {
        self.changes.push((endpoint_id, changed));
    }

    /// What became of notifications.
    pub fn changes(&self) -> impl Iterator<Item = &(EndpointId, Changed)> {
        self.changes.iter()
    }

    /// Whether there is a new job.
    pub const fn has_job(&self) -> bool {
        self.has_job
    }
}

/// How a notification ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The receiver has it.
    Success,
    /// It was given up.
    Failed(Failure),
}

impl End {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Success,
        Self::Failed(Failure::Exhausted),
        Self::Failed(Failure::Refused),
        Self::Failed(Failure::Canceled),
        Self::Failed(Failure::EndpointDisabled),
        Self::Failed(Failure::Expired),
        Self::Failed(Failure::EndpointDeleted),
    ];

    /// Its name in figures.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed(Failure::Exhausted) => "exhausted",
            Self::Failed(Failure::Refused) => "refused",
            Self::Failed(Failure::Canceled) => "canceled",
            Self::Failed(Failure::EndpointDisabled) => "disabled",
            Self::Failed(Failure::Expired) => "expired",
            Self::Failed(Failure::EndpointDeleted) => "deleted",
        }
    }

    fn of(notification: &Notification) -> Option<Self> {
        match notification.status {
            NotificationStatus::Pending | NotificationStatus::Retrying => None,
            NotificationStatus::Success => Some(Self::Success),
            NotificationStatus::Failed => notification.failure.map(Self::Failed),
        }
    }
}

/// Adds a notification to `batch` as it is `after` a change. `before` is what was read, with its revision; `None` for a new
/// one.
///
/// # Errors
/// [`StoreError::Invalid`] when it can't be written.
pub fn change(
    batch: &mut Batch,
    before: Option<(&Notification, u64)>,
    after: &Notification,
) -> Result<Changed, StoreError> {
    let row_key = keys::notification(&after.merchant_id, &after.id);
    let row = record::encode(after)?;
    match before {
        Some((_, revision)) => batch.replace(row_key, revision, row),
        None => batch.put(row_key, row),
    }
    let before = before.map(|(before, _)| before);
    let (due_before, due_after) = (before.and_then(due_key), due_key(after));
    let (dead_before, dead_after) = (before.and_then(dead_key), dead_key(after));
    let changed = Changed {
        lane: due_after.is_some().then(|| Lane::of(after)).filter(|_| due_before != due_after),
        end: End::of(after).filter(|end| before.and_then(End::of) != Some(*end)),
        waiting: difference(due_before.as_ref(), due_after.as_ref()),
        dead_letters: difference(dead_before.as_ref(), dead_after.as_ref()),
    };
    let due_entry = DueEntry::of(after);
    let same_entry = due_before == due_after && before.map(DueEntry::of).as_ref() == Some(&due_entry);
    if let Some(key) = due_before.filter(|key| due_after.as_ref() != Some(key)) {
        batch.delete(key);
    }
    if let Some(key) = due_after.filter(|_| !same_entry) {
        let entry = record::encode(&due_entry)?;
        match before {
            Some(_) => batch.put(key, entry),
            // Known to be new, an entry that is soon deleted again never reaches the index.
            None => batch.insert(key, entry),
        }
    }
    if dead_before != dead_after {
        dead_before.into_iter().for_each(|key| batch.delete(key));
        if let Some((key, entry)) = dead_entry(after)? {
            batch.put(key, entry);
        }
    }
    Ok(changed)
}

/// The rows of a notification that is to be taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    key: Vec<u8>,
    revision: u64,
    entries: Vec<Vec<u8>>,
    changed: Changed,
}

impl Removal {
    /// Of the notification that was read with this revision.
    pub fn of(notification: &Notification, revision: u64) -> Self {
        let (due, dead) = (due_key(notification), dead_key(notification));
        Self {
            key: keys::notification(&notification.merchant_id, &notification.id),
            revision,
            changed: Changed {
                waiting: difference(due.as_ref(), None),
                dead_letters: difference(dead.as_ref(), None),
                ..Changed::default()
            },
            entries: due.into_iter().chain(dead).collect(),
        }
    }

    /// Of a row that is in no index.
    pub fn of_row(key: Vec<u8>, revision: u64) -> Self {
        Self { key, revision, entries: Vec::new(), changed: Changed::default() }
    }

    /// Adds it to `batch`, with one precondition: that the row is as it was read.
    pub fn add_to(&self, batch: &mut Batch) -> Changed {
        batch.expect(self.key.clone(), self.revision);
        batch.delete(self.key.clone());
        for entry in &self.entries {
            batch.delete(entry.clone());
        }
        self.changed
    }
}

/// Adds a new job to `batch`, and to what is announced after the commit, so that whoever carries jobs out is told.
///
/// # Errors
/// [`StoreError::Invalid`] when it can't be written.
pub fn add_job(batch: &mut Batch, planned: &mut Planned, job: &WebhookJob) -> Result<(), StoreError> {
    batch.insert(keys::webhook_job(&job.merchant_id, &job.id), record::encode(job)?);
    batch.insert(keys::webhook_job_open(&job.id), job.merchant_id.as_str().as_bytes().to_vec());
    planned.has_job = true;
    Ok(())
}

/// Whose job an entry of the index of open jobs is of, by its value.
pub fn merchant_of_open_job(value: &[u8]) -> Option<MerchantId> {
    std::str::from_utf8(value).ok().map(MerchantId::new)
}

/// Key and value of an entry.
pub type Entry = (Vec<u8>, Vec<u8>);

/// The entry of a notification in the index of dead letters, if it is one: its key and its value.
///
/// # Errors
/// [`StoreError::Invalid`] when it can't be written.
pub fn dead_entry(notification: &Notification) -> Result<Option<Entry>, StoreError> {
    let (Some(key), Some(entry)) = (dead_key(notification), DeadEntry::of(notification)) else { return Ok(None) };
    Ok(Some((key, record::encode(&entry)?)))
}

/// Where a notification waits.
fn due_key(notification: &Notification) -> Option<Vec<u8>> {
    let due_at = notification.due_at.filter(|_| notification.status.is_open())?;
    Some(keys::notification_due(&notification.endpoint_id, Lane::of(notification), due_at, &notification.id))
}

/// Where a notification is kept that was given up.
fn dead_key(notification: &Notification) -> Option<Vec<u8>> {
    let is_dead =
        notification.status == NotificationStatus::Failed && notification.failure.is_some_and(Failure::is_dead_letter);
    let failed_at = notification.failed_at.filter(|_| is_dead)?;
    Some(keys::dead_letter(&notification.endpoint_id, failed_at, &notification.id))
}

fn difference(before: Option<&Vec<u8>>, after: Option<&Vec<u8>>) -> i64 {
    i64::from(after.is_some()) - i64::from(before.is_some())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::{ProptestConfig, prop, proptest};

    use super::*;
    use crate::domain::event::EventName;
    use crate::domain::ids::{JobId, NotificationId};
    use crate::domain::time::Timestamp;
    use crate::domain::webhook::{
        AmountClass, Anew, Ending, JobKind, NewNotification, Schedule, ScheduleSettings, TryResult,
    };
    use crate::storage::memory::MemoryStore;
    use crate::storage::{Scan, Store};

    const START: Timestamp = Timestamp::from_unix_s(1_737_715_200);

    fn notification(number: u8) -> Notification {
        Notification::new(
            NewNotification {
                id: NotificationId::new(format!("wn_{number}")),
                merchant_id: MerchantId::new("m_1"),
                endpoint_id: EndpointId::new("we_1"),
                url: "https://example.com/".to_owned(),
                event: EventName::PaymentSuccess,
                object_no: None,
                order_no: None,
                body: serde_json::value::RawValue::from_string("{}".to_owned()).unwrap(),
                amount_minor: 100,
                class: AmountClass::try_from(number % AmountClass::COUNT).unwrap(),
                max_attempts: 2,
                trace: None,
            },
            START,
        )
    }

    /// What may happen to a notification, whether it is possible or not.
    fn step(before: Notification, what: u8, now: Timestamp) -> Option<Notification> {
        let schedule = Schedule::from(ScheduleSettings {
            initial_backoff_s: 1,
            max_backoff_s: 60,
            own_waits_s: Vec::new(),
            jitter_percent: 0,
        });
        let answered = |status_code| TryResult { status_code: Some(status_code), ..TryResult::default() };
        let tried = |status_code| {
            before.clone().after_try(&answered(status_code), &schedule, now, 0).ok().map(|after| after.notification)
        };
        let ended = |ending| before.clone().end(ending, now).ok();
        let anew = |why| before.clone().begin_anew(2, why, now).ok();
        match what {
            0 => tried(200),
            1 => tried(500),
            2 => tried(404),
            3 => ended(Ending::Canceled),
            4 => ended(Ending::EndpointDisabled),
            5 => ended(Ending::EndpointDeleted),
            6 => ended(Ending::Expired),
            7 => anew(Anew::Manual),
            8 => anew(Anew::Sweep),
            _ => {
                let mut late = before;
                late.note_late_try(&answered(500), now);
                Some(late)
            }
        }
    }

    fn keys_under(store: &MemoryStore, prefix: &[u8]) -> Vec<Vec<u8>> {
        store.scan(&Scan::prefix(prefix, 1_000)).unwrap().into_iter().map(|row| row.key).collect()
    }

    fn check(store: &MemoryStore, counted: (i64, i64)) {
        let rows = store.scan(&Scan::prefix(&keys::notifications(), 1_000)).unwrap();
        let rows: Vec<Notification> = rows.iter().map(|row| record::decode(&row.versioned.value).unwrap()).collect();
        let mut due: Vec<Vec<u8>> = rows
            .iter()
            .filter(|row| row.status.is_open())
            .map(|row| keys::notification_due(&row.endpoint_id, Lane::of(row), row.due_at.unwrap(), &row.id))
            .collect();
        let mut dead: Vec<Vec<u8>> = rows
            .iter()
            .filter(|row| {
                let dead = [Failure::Exhausted, Failure::Refused, Failure::EndpointDisabled];
                row.status == NotificationStatus::Failed && dead.contains(&row.failure.unwrap())
            })
            .map(|row| keys::dead_letter(&row.endpoint_id, row.failed_at.unwrap(), &row.id))
            .collect();
        due.sort();
        dead.sort();
        assert_eq!(keys_under(store, &keys::notifications_due()), due);
        assert_eq!(keys_under(store, &keys::dead_letters()), dead);
        assert_eq!(counted, (i64::try_from(due.len()).unwrap(), i64::try_from(dead.len()).unwrap()));
    }

    async fn commit(store: &Arc<MemoryStore>, batch: Batch) {
        store.commit(batch).await.unwrap();
    }

    async fn play(steps: Vec<(u8, u8, u64)>) {
        let store = Arc::new(MemoryStore::new());
        let (mut waiting, mut dead, mut now) = (0, 0, START);
        for (number, what, wait_ms) in steps {
            now = now.plus(Duration::from_millis(wait_ms));
            let new = notification(number);
            let mut batch = Batch::new();
            let stored = store.get(&keys::notification(&new.merchant_id, &new.id)).unwrap();
            let changed = match stored {
                None => change(&mut batch, None, &new).unwrap(),
                Some(stored) => {
                    let before: Notification = record::decode(&stored.value).unwrap();
                    if what == 10 {
                        Removal::of(&before, stored.revision).add_to(&mut batch)
                    } else {
                        let Some(after) = step(before.clone(), what, now) else { continue };
                        let changed = change(&mut batch, Some((&before, stored.revision)), &after).unwrap();
                        assert_eq!(changed.end.is_some(), End::of(&after).is_some() && before.status != after.status);
                        changed
                    }
                }
            };
            assert_eq!(changed.waiting == 1, changed.lane.is_some() && changed.waiting != 0);
            waiting += changed.waiting;
            dead += changed.dead_letters;
            commit(&store, batch).await;
            check(&store, (waiting, dead));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_indexes_say_what_the_rows_say(
            steps in prop::collection::vec((0_u8..4, 0_u8..11, 0_u64..2_000), 1..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(play(steps));
        }
    }

    #[test]
    fn every_way_to_end_has_its_own_name() {
        let names: std::collections::HashSet<&str> = End::ALL.iter().map(|end| end.as_str()).collect();
        assert_eq!(names.len(), End::ALL.len());
    }

    #[tokio::test]
    async fn a_job_is_there_with_its_entry() {
        let store = Arc::new(MemoryStore::new());
        let merchant_id = MerchantId::new("m_1");
        let mut job = WebhookJob::new(JobId::new("wj_1"), merchant_id.clone(), JobKind::Park, START);
        job.cursor = Some(vec![0, 255]);
        let (mut batch, mut planned) = (Batch::new(), Planned::default());
        add_job(&mut batch, &mut planned, &job).unwrap();
        assert!(planned.has_job());
        commit(&store, batch).await;
        let [open] = store.scan(&Scan::prefix(&keys::webhook_jobs_open(), 10)).unwrap().try_into().unwrap();
        let of = merchant_of_open_job(&open.versioned.value).unwrap();
        let key = keys::webhook_job(&of, &keys::parse_webhook_job_open(&open.key).unwrap());
        let read: WebhookJob = record::decode(&store.get(&key).unwrap().unwrap().value).unwrap();
        assert_eq!((read, of), (job, merchant_id));
    }
}
