//! Jobs: work on many notifications at once, asked for by merchants or following from what became of an endpoint. A job is
//! a row like any other. It is carried out a page at a time, and its progress is committed with what it has changed, so
//! that it goes on after a crash exactly where it was.

mod former;
mod page;
mod upkeep;
mod work;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::ToSchema;

use crate::actors::webhook::rows::{self, Planned};
use crate::domain::audit::{Change, Operator};
use crate::domain::ids::{EndpointId, JobId, MerchantId, sortable_id};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Endpoint, EndpointStatus, JobFilter, JobKind, JobStatus, NotificationStatus, WebhookJob};
use crate::gateway::core::Core;
use crate::gateway::error::{GatewayError, JobRefusal};
use crate::gateway::page::{Page, PageRequest};
use crate::gateway::webhooks::{CHANGES_MAX, ID_MAX_BYTES, NotificationFilter, Webhooks, unless_overtaken};
use crate::storage::{Batch, Row, Scan, StoreError, keys, record};

use work::Worker;

/// Entries of the index of open jobs that are read at once.
const OPEN_READ_MAX: usize = 256;
/// What belongs before this time and what after it is told apart to this.
const MILLISECOND: Duration = Duration::from_millis(1);

/// A job on many notifications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct JobView {
    /// Its id.
    pub id: String,
    /// What it does: `retry`, `recover` or `cancel`, if it was asked for; `sweep`, `park`, `enable` or `expire`, if it
    /// follows from what became of an endpoint.
    pub kind: String,
    /// `running`, `done`, `canceled` or `failed`.
    pub status: String,
    /// The endpoint that it is about, if it is about one.
    pub endpoint_id: Option<String>,
    /// Which notifications, as it was asked for.
    pub filter: JobFilterView,
    /// From this time on.
    pub since: Option<String>,
    /// Before this time.
    pub until: Option<String>,
    /// Notifications that it has looked at.
    pub looked_at: u64,
    /// Of them, those that it changed.
    pub changed: u64,
    /// Of them, those that it should have changed and could not: their endpoints are gone or disabled.
    pub skipped: u64,
    /// Why it could not go on.
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
    /// When it came to its end.
    pub finished_at: Option<String>,
}

/// Which notifications a job takes; what is null does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct JobFilterView {
    /// Of this event.
    pub event: Option<String>,
    /// In this status.
    pub status: Option<String>,
    /// About this payment.
    pub payment_no: Option<String>,
    /// Given up for this reason.
    pub failure: Option<String>,
}

impl JobFilterView {
    fn of(filter: &JobFilter) -> Self {
        Self {
            event: filter.event.map(|event| event.as_str().to_owned()),
            status: filter.status.map(|status| status.as_str().to_owned()),
            payment_no: filter.payment_no.clone(),
            failure: filter.failure.map(|failure| failure.as_str().to_owned()),
        }
    }
}

impl JobView {
    fn of(job: &WebhookJob) -> Self {
        Self {
            id: job.id.to_string(),
            kind: job.kind.as_str().to_owned(),
            status: job.status.as_str().to_owned(),
            endpoint_id: job.endpoint_id.as_ref().map(EndpointId::to_string),
            filter: JobFilterView::of(&job.filter),
            since: job.since.map(Timestamp::rfc3339),
            until: job.until.map(Timestamp::rfc3339),
            looked_at: job.done.looked_at,
            changed: job.done.changed,
            skipped: job.done.skipped,
            error: job.error.clone(),
            created_at: job.created_at.rfc3339(),
            updated_at: job.updated_at.rfc3339(),
            finished_at: job.finished_at.map(Timestamp::rfc3339),
        }
    }
}

/// Carries jobs out. Cheap to clone.
#[derive(Clone)]
pub(super) struct Jobs {
    /// Fired after each commit of a new job.
    added: Arc<Notify>,
    /// Held while a merchant's jobs are counted and one is added.
    adding: Arc<Mutex<()>>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Jobs {
    /// Nothing is carried out yet.
    pub(super) fn new(core: &Core) -> Self {
        Self {
            added: Arc::default(),
            adding: Arc::default(),
            tasks: TaskTracker::new(),
            stopping: core.stopping.child_token(),
        }
    }

    /// What is to be fired after each commit of a new job.
    pub(super) fn added(&self) -> Arc<Notify> {
        Arc::clone(&self.added)
    }

    /// Begins with those that were open when the process last ended.
    pub(super) fn start(&self, webhooks: &Webhooks) {
        let worker = Worker::new(webhooks.clone(), Arc::clone(&self.added));
        let stopping = self.stopping.clone();
        // Cut off anywhere, a job has done what it has done.
        self.tasks.spawn(async move { stopping.run_until_cancelled(worker.run()).await });
    }

    /// Carries out nothing more.
    pub(super) async fn stop(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Webhooks {
    /// Sends again what was given up, with the whole schedule before it: of the dead letters, or of what was given up for
    /// the reason that the filter names, everything that it takes and that was there before now.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the filter is empty, is none, or asks for what has not failed;
    /// [`GatewayError::NotFound`] when the endpoint is not there; [`GatewayError::InvalidState`] when it is disabled;
    /// [`GatewayError::JobRefused`] when this or too much is under way already.
    pub async fn retry_many(
        &self,
        merchant_id: &MerchantId,
        filter: &NotificationFilter,
    ) -> Result<JobView, GatewayError> {
        if filter.status.as_deref().is_some_and(|status| status != NotificationStatus::Failed.as_str()) {
            return Err(GatewayError::field("status", "must be failed: only what was given up is sent again"));
        }
        self.add_asked(self.job_of(merchant_id, filter, JobKind::Retry)?, None).await
    }

    /// Gives up what is on its way, everything that the filter takes and that was there before now. Requests that are
    /// under way are not called back.
    ///
    /// # Errors
    /// As for [`Webhooks::retry_many`], when the filter asks for what is not on its way.
    pub async fn cancel_many(
        &self,
        merchant_id: &MerchantId,
        filter: &NotificationFilter,
    ) -> Result<JobView, GatewayError> {
        let is_open = |status: &str| NotificationStatus::parse(status).is_none_or(NotificationStatus::is_open);
        if filter.failure.is_some() {
            return Err(GatewayError::field("failure", "must not be given: only what is on its way ends"));
        }
        if filter.status.as_deref().is_some_and(|status| !is_open(status)) {
            return Err(GatewayError::field("status", "must be pending or retrying: only what is on its way ends"));
        }
        self.add_asked(self.job_of(merchant_id, filter, JobKind::Cancel)?, None).await
    }

    /// Sends again everything that an endpoint was given up on since a time, also what it has refused and what was kept
    /// while it was disabled.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the time is in the future; [`GatewayError::NotFound`];
    /// [`GatewayError::InvalidState`] when the endpoint is disabled; [`GatewayError::JobRefused`] when this or too much is
    /// under way already.
    pub async fn recover(
        &self,
        merchant_id: &MerchantId,
        endpoint_id: &EndpointId,
        since: Timestamp,
    ) -> Result<JobView, GatewayError> {
        self.recover_by((merchant_id, endpoint_id), since, None).await
    }

    /// The same, also by an operator.
    pub(super) async fn recover_by(
        &self,
        (merchant_id, endpoint_id): (&MerchantId, &EndpointId),
        since: Timestamp,
        by: Option<(&Operator, &Change)>,
    ) -> Result<JobView, GatewayError> {
        let now = self.core.clock.now();
        if since > now {
            return Err(GatewayError::field("since", "must not be in the future"));
        }
        self.refuse_disabled(merchant_id, endpoint_id)?;
        let of_endpoint = (merchant_id.clone(), endpoint_id.clone());
        let mut job = WebhookJob::of_endpoint(self.new_job_id(now), of_endpoint, JobKind::Recover, now);
        job.since = Some(since);
        job.until = Some(now.plus(MILLISECOND));
        self.add_asked(job, by).await
    }

    /// A merchant's jobs, newest first.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the page asked for is none.
    pub fn list_jobs(&self, merchant_id: &MerchantId, page: &PageRequest) -> Result<Page<JobView>, GatewayError> {
        self.newest(&keys::webhook_jobs_of(merchant_id), page, |row| {
            Ok(Some(JobView::of(&record::decode(&row.versioned.value)?)))
        })
    }

    /// The jobs of all merchants that are under way, newest first, with whose they are.
    pub(super) fn list_open_jobs(&self, page: &PageRequest) -> Result<Page<(MerchantId, JobView)>, GatewayError> {
        self.newest(&keys::webhook_jobs_open(), page, |entry| {
            let open = self.read_open(entry)?;
            Ok(open.map(|job| (job.merchant_id.clone(), JobView::of(&job))))
        })
    }

    /// One job.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn get_job(&self, merchant_id: &MerchantId, job_id: &JobId) -> Result<JobView, GatewayError> {
        Ok(JobView::of(&self.read_job(merchant_id, job_id)?.0))
    }

    /// Ends a job where it is. What it has done stays.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`]; [`GatewayError::InvalidState`] when it is at its end; [`GatewayError::JobRefused`] when it
    /// must not be left undone.
    pub async fn cancel_job(&self, merchant_id: &MerchantId, job_id: &JobId) -> Result<JobView, GatewayError> {
        self.cancel_job_by((merchant_id, job_id), None).await
    }

    /// The same, also by an operator.
    pub(super) async fn cancel_job_by(
        &self,
        (merchant_id, job_id): (&MerchantId, &JobId),
        by: Option<(&Operator, &Change)>,
    ) -> Result<JobView, GatewayError> {
        for _ in 0..CHANGES_MAX {
            let (mut job, revision) = self.read_job(merchant_id, job_id)?;
            if !job.is_open() {
                return Err(GatewayError::InvalidState { status: job.status.as_str().to_owned() });
            }
            if !job.kind.is_cancelable() {
                return Err(GatewayError::JobRefused(JobRefusal::HasToBeDone(job.kind.as_str())));
            }
            job.finish(JobStatus::Canceled, None, self.core.clock.now());
            let mut batch = Batch::finishing();
            batch.replace(keys::webhook_job(merchant_id, job_id), revision, record::encode(&job)?);
            batch.delete(keys::webhook_job_open(job_id));
            if unless_overtaken(self.commit_by(batch, by).await)?.is_some() {
                return Ok(JobView::of(&job));
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    /// Adds to the `batch` that enables an endpoint again that what was kept meanwhile is sent. `disabled` is the endpoint
    /// as it was until now; after the commit `planned` is announced.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when it can't be written.
    pub fn add_enable_job(
        &self,
        batch: &mut Batch,
        planned: &mut Planned,
        disabled: &Endpoint,
    ) -> Result<(), StoreError> {
        let now = self.core.clock.now();
        let of_endpoint = (disabled.merchant_id.clone(), disabled.id.clone());
        let mut job = WebhookJob::of_endpoint(self.new_job_id(now), of_endpoint, JobKind::Enable, now);
        job.since = disabled.disabled_at;
        rows::add_job(batch, planned, &job)
    }

    /// Has a job carried out that follows from something.
    async fn add_following(&self, mut batch: Batch, job: &WebhookJob) -> Result<(), GatewayError> {
        let mut planned = Planned::default();
        rows::add_job(&mut batch, &mut planned, job)?;
        if unless_overtaken(self.core.store.commit(batch).await)?.is_some() {
            self.announce(planned);
        }
        Ok(())
    }

    /// Has a job carried out that a merchant, or an operator for it, asks for, if it may have one more.
    async fn add_asked(&self, job: WebhookJob, by: Option<(&Operator, &Change)>) -> Result<JobView, GatewayError> {
        // Of two at once the second counts the first.
        let _adding = self.jobs.adding.lock().await;
        let open: Vec<WebhookJob> = self.open_jobs()?.into_iter().filter(|open| is_beside(open, &job)).collect();
        let is_same = |open: &&WebhookJob| open.kind == job.kind && open.endpoint_id == job.endpoint_id;
        if let Some(same) = open.iter().find(is_same).filter(|same| same.endpoint_id.is_some()) {
            return Err(GatewayError::JobRefused(JobRefusal::UnderWay(same.id.to_string())));
        }
        let jobs_max = self.core.settings().webhook.jobs_max;
        if open.len() >= jobs_max {
            return Err(GatewayError::JobRefused(JobRefusal::TooMany(jobs_max)));
        }
        // What the operator asks for is possible while there is little room, too.
        let mut batch = if by.is_some() { Batch::finishing() } else { Batch::new() };
        let mut planned = Planned::default();
        rows::add_job(&mut batch, &mut planned, &job)?;
        self.commit_by(batch, by).await?;
        self.announce(planned);
        Ok(JobView::of(&job))
    }

    fn job_of(
        &self,
        merchant_id: &MerchantId,
        filter: &NotificationFilter,
        kind: JobKind,
    ) -> Result<WebhookJob, GatewayError> {
        let now = self.core.clock.now();
        if *filter == NotificationFilter::default() {
            let message = "must be said: at least one of endpoint_id, event, status, payment_no, failure, from and to";
            return Err(GatewayError::field("filter", message));
        }
        let mut job = WebhookJob::new(self.new_job_id(now), merchant_id.clone(), kind, now);
        job.filter = filter.parsed()?;
        job.since = filter.from;
        // What is made from now on is not what was asked for.
        let end = now.plus(MILLISECOND);
        job.until = Some(filter.to.map_or(end, |to| to.min(end)));
        if let Some(endpoint_id) = &filter.endpoint_id {
            let endpoint_id = EndpointId::new(endpoint_id.as_str());
            match kind {
                JobKind::Retry => self.refuse_disabled(merchant_id, &endpoint_id)?,
                _ => drop(self.read_endpoint(merchant_id, &endpoint_id)?),
            }
            job.endpoint_id = Some(endpoint_id);
        }
        Ok(job)
    }

    fn refuse_disabled(&self, merchant_id: &MerchantId, endpoint_id: &EndpointId) -> Result<(), GatewayError> {
        let (endpoint, _) = self.read_endpoint(merchant_id, endpoint_id)?;
        if endpoint.status == EndpointStatus::Disabled {
            return Err(GatewayError::InvalidState { status: endpoint.status.as_str().to_owned() });
        }
        Ok(())
    }

    fn new_job_id(&self, now: Timestamp) -> JobId {
        new_job_id(&self.core, now)
    }

    fn read_job(&self, merchant_id: &MerchantId, job_id: &JobId) -> Result<(WebhookJob, u64), GatewayError> {
        if job_id.as_str().len() > ID_MAX_BYTES {
            return Err(GatewayError::NotFound("webhook job"));
        }
        let stored = self.core.store.get(&keys::webhook_job(merchant_id, job_id))?;
        let stored = stored.ok_or(GatewayError::NotFound("webhook job"))?;
        Ok((record::decode(&stored.value)?, stored.revision))
    }

    /// The job of an entry of the index of open jobs; `None` when it is at its end or can't be read.
    fn read_open(&self, entry: &Row) -> Result<Option<WebhookJob>, StoreError> {
        let merchant_id = rows::merchant_of_open_job(&entry.versioned.value);
        let (Some(job_id), Some(merchant_id)) = (keys::parse_webhook_job_open(&entry.key), merchant_id) else {
            return Ok(None);
        };
        let stored = self.core.store.get(&keys::webhook_job(&merchant_id, &job_id))?;
        let job = stored.and_then(|stored| record::decode::<WebhookJob>(&stored.value).ok());
        Ok(job.filter(WebhookJob::is_open))
    }

    /// All jobs of all merchants that are not at their end and can be read. There are few.
    fn open_jobs(&self) -> Result<Vec<WebhookJob>, StoreError> {
        let mut jobs = Vec::new();
        let mut scan = Scan::prefix(&keys::webhook_jobs_open(), OPEN_READ_MAX);
        loop {
            let entries = self.core.store.scan(&scan)?;
            for entry in &entries {
                jobs.extend(self.read_open(entry)?);
            }
            let Some(last) = entries.last().filter(|_| entries.len() == OPEN_READ_MAX) else { return Ok(jobs) };
            scan.start = page::after(&last.key);
        }
    }
}

/// The id of a new job.
pub(crate) fn new_job_id(core: &Core, now: Timestamp) -> JobId {
    JobId::new(sortable_id("wj_", now, core.random.draw_u64()))
}

/// Whether an open job counts when the same merchant asks for this one.
fn is_beside(open: &WebhookJob, job: &WebhookJob) -> bool {
    open.merchant_id == job.merchant_id && open.kind.is_asked_for()
}
