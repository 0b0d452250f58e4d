//! Carrying jobs out: a page of each in turn, so that a long one holds up none of the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::actors::webhook::rows::{self, Planned};
use crate::domain::ids::{EndpointId, JobId, MerchantId};
use crate::domain::time::{Monotonic, Timestamp};
use crate::domain::webhook::{
    Endpoint, EndpointHealth, EndpointStatus, JobAct, JobKind, JobStatus, LaneSet, Notification, WebhookJob,
};
use crate::gateway::error::GatewayError;
use crate::gateway::retention::rest_after;
use crate::gateway::webhooks::Webhooks;
use crate::gateway::webhooks::jobs::page::{self, Found, JobPage};
use crate::gateway::webhooks::jobs::{MILLISECOND, former, upkeep};
use crate::storage::unreadable::UnreadableRows;
use crate::storage::{ABSENT, Batch, Scan, Store, StoreError, keys, record};

/// Jobs that are open, read at once.
const ROUND_JOBS: usize = 256;
/// After trouble a job is left alone for this long.
const HOLD: Duration = Duration::from_secs(5);
/// Commits of one page tried: rows in it that others change meanwhile are read again, one by one.
const CONFLICTS_MAX: usize = 2 * page::PAGE_ROWS;
/// Pages looked at in one turn, as long as they change nothing.
const PAGES_AT_ONCE: usize = 16;
/// Endpoints taken away at once.
const ENDPOINTS_AT_ONCE: usize = 64;

/// Carries out the jobs of one gateway.
pub(super) struct Worker {
    pub(super) webhooks: Webhooks,
    pub(super) unreadable: UnreadableRows,
    added: Arc<Notify>,
}

/// Where the next round goes on, and what is left alone until when.
#[derive(Default)]
struct Rounds {
    next: Option<Vec<u8>>,
    held: HashMap<JobId, Monotonic>,
    has_trouble: bool,
    /// Whether anything was done since the first of all jobs.
    has_worked: bool,
}

/// An open job as it was read.
struct Open {
    job: WebhookJob,
    revision: u64,
}

/// What a job's endpoint allows.
enum Way {
    /// It goes on, if the endpoint's row is still the one that was read: its key and its revision.
    Free(Option<(Vec<u8>, u64)>),
    /// There is nothing left to do.
    Done,
    /// It can't go on.
    Closed(&'static str),
}

/// What becomes of one row.
enum Outcome {
    /// It stays.
    Left,
    /// It should have changed and could not.
    Skipped,
    /// It changes.
    Changed(Box<Change>),
}

struct Change {
    before: Notification,
    revision: u64,
    after: Notification,
}

impl Worker {
    pub(super) fn new(webhooks: Webhooks, added: Arc<Notify>) -> Self {
        Self { webhooks, added, unreadable: UnreadableRows::default() }
    }

    pub(super) fn store(&self) -> &dyn Store {
        self.webhooks.core.store.as_ref()
    }

    /// Works for as long as it is polled.
    pub(super) async fn run(self) {
        let clock = self.webhooks.core.clock.clone();
        let core = self.webhooks.core.clone();
        let interval = || Duration::from_secs(core.settings().webhook.retry_interval_s.max(1));
        while let Err(error) = former::index(&self).await {
            tracing::warn!(%error, "dead letters were not entered in their index; tried again soon");
            tokio::time::sleep(HOLD).await;
        }
        let mut upkeep_at = clock.monotonic().plus(interval());
        let mut rounds = Rounds::default();
        loop {
            let has_worked = match self.round(&mut rounds).await {
                Ok(has_worked) => has_worked,
                Err(error) => {
                    tracing::warn!(%error, "webhook jobs were not looked for; tried again soon");
                    rounds.has_trouble = true;
                    false
                }
            };
            if !has_worked {
                let until_upkeep = upkeep_at.since(clock.monotonic());
                let wait = if rounds.has_trouble { until_upkeep.min(HOLD) } else { until_upkeep };
                // Whichever comes first; what is added before this is remembered.
                let _ = tokio::time::timeout(wait, self.added.notified()).await;
            }
            if clock.monotonic() >= upkeep_at {
                upkeep_at = clock.monotonic().plus(interval());
                if let Err(error) = upkeep::pass(&self).await {
                    tracing::warn!(%error, "what webhook jobs there should be was not looked for; tried again later");
                }
            }
        }
    }

    /// A page of each of the next open jobs. Returns whether there may be more to do now.
    async fn round(&self, rounds: &mut Rounds) -> Result<bool, StoreError> {
        let clock = &self.webhooks.core.clock;
        let mut scan = Scan::prefix(&keys::webhook_jobs_open(), ROUND_JOBS);
        if let Some(next) = rounds.next.take() {
            scan.start = next;
        }
        let entries = self.store().scan(&scan)?;
        if let Some(last) = entries.last().filter(|_| entries.len() == ROUND_JOBS) {
            rounds.next = Some(page::after(&last.key));
        }
        let now = clock.monotonic();
        rounds.held.retain(|_, until| *until > now);
        for entry in entries {
            let merchant_id = rows::merchant_of_open_job(&entry.versioned.value);
            let (Some(job_id), Some(merchant_id)) = (keys::parse_webhook_job_open(&entry.key), merchant_id) else {
                self.unreadable.report(&entry.key, "it does not say which job it is of");
                continue;
            };
            if rounds.held.contains_key(&job_id) {
                continue;
            }
            let began = clock.monotonic();
            match self.turn(&merchant_id, &job_id).await {
                Ok(true) => rounds.has_worked = true,
                Ok(false) => {
                    rounds.held.insert(job_id, clock.monotonic().plus(HOLD));
                }
                Err(error) => {
                    tracing::warn!(%job_id, %error, "a webhook job has to wait");
                    rounds.held.insert(job_id, clock.monotonic().plus(HOLD));
                }
            }
            tokio::time::sleep(rest_after(clock.monotonic().since(began))).await;
        }
        rounds.has_trouble = !rounds.held.is_empty();
        Ok(rounds.next.is_some() || std::mem::take(&mut rounds.has_worked))
    }

    /// One page of one job; says whether anything could be done.
    async fn turn(&self, merchant_id: &MerchantId, job_id: &JobId) -> Result<bool, GatewayError> {
        let key = keys::webhook_job(merchant_id, job_id);
        let stored = self.store().get(&key)?;
        let revision = stored.as_ref().map_or(ABSENT, |stored| stored.revision);
        let job: Option<WebhookJob> = match stored.map(|stored| record::decode(&stored.value)).transpose() {
            Ok(job) => job,
            Err(error) => {
                self.unreadable.report(&key, error);
                return Ok(false);
            }
        };
        let Some(job) = job.filter(WebhookJob::is_open) else {
            let mut batch = Batch::finishing();
            batch.expect(key, revision);
            batch.delete(keys::webhook_job_open(job_id));
            return self.commit_unless_overtaken(batch).await.map(|()| true);
        };
        if self.webhooks.core.clock.now() == job.created_at {
            // Times have milliseconds. What the job begins, and what fails again at once, must be later than itself, or it
            // would be taken for what was there before.
            tokio::time::sleep(MILLISECOND).await;
        }
        if job.kind == JobKind::Purge && self.remove_endpoints(merchant_id).await? {
            return Ok(true);
        }
        let open = Open { job, revision };
        match self.way(&open.job)? {
            Way::Free(expected) => return self.pages(open, expected).await,
            Way::Done => self.finish(open, JobStatus::Done, None).await?,
            Way::Closed(why) => self.finish(open, JobStatus::Failed, Some(why)).await?,
        }
        Ok(true)
    }

    /// The next pages of a job: one that changes something, and those before it that do not; says whether it may go on at
    /// once. How far it is need not be committed after each that changes nothing.
    async fn pages(&self, mut open: Open, expected: Option<(Vec<u8>, u64)>) -> Result<bool, GatewayError> {
        let mut page = page::read(self.store(), &open.job)?;
        for _ in 1..PAGES_AT_ONCE {
            if page.is_last || !self.is_quiet(&open.job, &page)? {
                break;
            }
            open.job.done.looked_at += u64::try_from(page.rows.len()).unwrap_or(u64::MAX);
            open.job.cursor = page.cursor;
            tokio::task::yield_now().await;
            page = page::read(self.store(), &open.job)?;
        }
        let is_early = page.is_last && !open.job.is_settled(self.webhooks.core.clock.now());
        if is_early {
            // Once more from the beginning, when it was left alone for a while.
            (page.is_last, page.cursor) = (false, None);
        }
        self.commit_page(&open, page, expected).await?;
        Ok(!is_early)
    }

    /// Whether nothing follows from a page.
    fn is_quiet(&self, job: &WebhookJob, page: &JobPage) -> Result<bool, StoreError> {
        let now = self.webhooks.core.clock.now();
        for row in &page.rows {
            if !matches!(self.outcome(job, row, now)?, Outcome::Left) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the endpoint of a job, if it has one, allows now.
    fn way(&self, job: &WebhookJob) -> Result<Way, StoreError> {
        let Some(endpoint_id) = &job.endpoint_id else { return Ok(Way::Free(None)) };
        let key = keys::endpoint(&job.merchant_id, endpoint_id);
        let stored = self.store().get(&key)?;
        let revision = stored.as_ref().map_or(ABSENT, |stored| stored.revision);
        let status = match stored {
            Some(stored) => Some(record::decode::<Endpoint>(&stored.value)?.status),
            None => None,
        };
        Ok(match (job.kind, status) {
            (JobKind::Retry | JobKind::Recover | JobKind::Sweep | JobKind::Enable, None) => {
                Way::Closed("the endpoint was deleted")
            }
            (JobKind::Retry | JobKind::Recover | JobKind::Sweep | JobKind::Enable, Some(EndpointStatus::Disabled)) => {
                Way::Closed("the endpoint is disabled")
            }
            // What is sent again must not be taken away from an endpoint that was enabled meanwhile.
            (JobKind::Park, Some(EndpointStatus::Disabled)) | (JobKind::Expire, Some(EndpointStatus::Paused)) => {
                Way::Free(Some((key, revision)))
            }
            (JobKind::Park | JobKind::Expire, _) => Way::Done,
            _ => Way::Free(None),
        })
    }

    /// Commits what follows from a page, with the progress of its job. Of rows that others have changed meanwhile, what
    /// follows then.
    async fn commit_page(
        &self,
        open: &Open,
        mut page: JobPage,
        expected: Option<(Vec<u8>, u64)>,
    ) -> Result<(), GatewayError> {
        let store = self.store();
        let key = keys::webhook_job(&open.job.merchant_id, &open.job.id);
        for _ in 0..CONFLICTS_MAX {
            let now = self.webhooks.core.clock.now();
            let (mut batch, mut planned, mut changed_places) = (Batch::finishing(), Planned::default(), Vec::new());
            let mut job = open.job.clone();
            for (place, row) in page.rows.iter().enumerate() {
                job.done.looked_at += 1;
                match self.outcome(&job, row, now)? {
                    Outcome::Left => {}
                    Outcome::Skipped => job.done.skipped += 1,
                    Outcome::Changed(change) => {
                        let Change { before, revision, after } = *change;
                        // Its precondition has the place in the batch that this has here.
                        changed_places.push(place);
                        let changed = rows::change(&mut batch, Some((&before, revision)), &after)?;
                        planned.add(after.endpoint_id, changed);
                        job.done.changed += 1;
                    }
                }
            }
            job.cursor.clone_from(&page.cursor);
            job.updated_at = now;
            if page.is_last {
                job.finish(JobStatus::Done, None, now);
                batch.delete(keys::webhook_job_open(&job.id));
            }
            let row = record::encode(&job)?;
            batch.replace(key.clone(), open.revision, row.clone());
            if let Some((key, revision)) = expected.clone() {
                batch.expect(key, revision);
            }
            match store.commit(batch).await {
                Ok(_) => {
                    self.webhooks.announce(planned);
                    return Ok(());
                }
                Err(StoreError::Precondition { index }) => match changed_places.get(index) {
                    Some(place) => {
                        let row = &mut page.rows[*place];
                        row.stored = store.get(&row.key)?;
                    }
                    // The job or its endpoint was changed: its next turn sees how.
                    None => return Ok(()),
                },
                Err(StoreError::Indeterminate(why)) => {
                    // If it was stored, those who have something to send must be told.
                    if store.get(&key)?.is_some_and(|stored| stored.value.as_ref() == row.as_slice()) {
                        self.webhooks.announce(planned);
                        return Ok(());
                    }
                    return Err(StoreError::Indeterminate(why).into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    /// What a job does with a row.
    fn outcome(&self, job: &WebhookJob, row: &Found, now: Timestamp) -> Result<Outcome, StoreError> {
        let Some(stored) = &row.stored else { return Ok(Outcome::Left) };
        let before: Notification = match record::decode(&stored.value) {
            Ok(notification) => notification,
            Err(error) => {
                self.unreadable.report(&row.key, error);
                return Ok(Outcome::Skipped);
            }
        };
        if !job.takes(&before, self.webhooks.core.settings().webhook.dead_letter_sweeps_max) {
            return Ok(Outcome::Left);
        }
        let after = match job.kind.act() {
            JobAct::End(ending) => before.clone().end(ending, now),
            JobAct::Begin(why) => {
                let Some(max_attempts) = self.attempts_of(&before.merchant_id, &before.endpoint_id)? else {
                    return Ok(Outcome::Skipped);
                };
                before.clone().begin_anew(max_attempts, why, now)
            }
        };
        Ok(match after {
            Ok(after) => Outcome::Changed(Box::new(Change { before, revision: stored.revision, after })),
            Err(_) => Outcome::Left,
        })
    }

    /// Tries of a notification that is begun anew; `None` when its endpoint takes none.
    fn attempts_of(&self, merchant_id: &MerchantId, endpoint_id: &EndpointId) -> Result<Option<u32>, StoreError> {
        let endpoints = self.webhooks.lists.of(merchant_id)?;
        let endpoint = endpoints.iter().find(|endpoint| endpoint.id == *endpoint_id);
        let is_sent_to = |endpoint: &&Endpoint| endpoint.status != EndpointStatus::Disabled;
        Ok(endpoint.filter(is_sent_to).map(|endpoint| endpoint.max_attempts))
    }

    async fn finish(&self, open: Open, status: JobStatus, why: Option<&str>) -> Result<(), GatewayError> {
        let Open { mut job, revision } = open;
        job.finish(status, why.map(str::to_owned), self.webhooks.core.clock.now());
        let mut batch = Batch::finishing();
        batch.replace(keys::webhook_job(&job.merchant_id, &job.id), revision, record::encode(&job)?);
        batch.delete(keys::webhook_job_open(&job.id));
        let is_cut_off = job.kind == JobKind::Sweep && status == JobStatus::Failed;
        let Some(endpoint_id) = job.endpoint_id.as_ref().filter(|_| is_cut_off) else {
            return self.commit_unless_overtaken(batch).await;
        };
        // What it has not come to waits for the next success, as it did before.
        let key = keys::endpoint_health(&job.merchant_id, endpoint_id);
        if let Some(stored) = self.store().get(&key)?
            && let Ok(health) = record::decode::<EndpointHealth>(&stored.value)
        {
            let dead_until_success = health.dead_until_success.or(job.until);
            batch.replace(key, stored.revision, record::encode(&EndpointHealth { dead_until_success, ..health })?);
        }
        let committed = self.commit_unless_overtaken(batch).await;
        self.webhooks.actors.forget_health(endpoint_id);
        committed
    }

    /// Takes the endpoints of a merchant away; says whether there were any.
    async fn remove_endpoints(&self, merchant_id: &MerchantId) -> Result<bool, GatewayError> {
        let found = self.store().scan(&Scan::prefix(&keys::endpoints_of(merchant_id), ENDPOINTS_AT_ONCE))?;
        if found.is_empty() {
            return Ok(false);
        }
        let mut batch = Batch::finishing();
        let mut removed = Vec::new();
        for row in found {
            batch.expect(row.key.clone(), row.versioned.revision);
            batch.delete(row.key.clone());
            if let Some(endpoint_id) = keys::parse_endpoint(&row.key) {
                batch.delete(keys::endpoint_health(merchant_id, &endpoint_id));
                removed.push(endpoint_id);
            }
        }
        let committed = self.commit_unless_overtaken(batch).await;
        // Also when it is not known whether it was stored.
        self.webhooks.lists.forget(merchant_id);
        for endpoint_id in removed {
            self.webhooks.actors.directory().poke(&endpoint_id, LaneSet::ALL);
        }
        committed.map(|()| true)
    }

    /// Commits what is looked at again in the next turn, if somebody else was quicker.
    async fn commit_unless_overtaken(&self, batch: Batch) -> Result<(), GatewayError> {
        match self.store().commit(batch).await {
            Ok(_) | Err(StoreError::Precondition { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
