//! Finds the jobs that nobody asks for: what is kept for endpoints that are disabled, what has waited for too long for
//! those that are paused, dead letters of those that have recovered; and takes away jobs that were done long ago.

use std::collections::HashSet;
use std::time::Duration;

use crate::domain::ids::EndpointId;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{DueEntry, Endpoint, EndpointHealth, EndpointStatus, JobKind, Lane, WebhookJob};
use crate::gateway::error::GatewayError;
use crate::gateway::retention::rest_after;
use crate::gateway::webhooks::jobs::page::after;
use crate::gateway::webhooks::jobs::work::Worker;
use crate::storage::record::{Record, decode};
use crate::storage::{ABSENT, Batch, Row, Scan, StoreError, keys, prefix_end};

/// How long a job is kept after its end.
const KEEP_FINISHED: Duration = Duration::from_secs(7 * 86_400);
const DAY_S: u64 = 86_400;
/// Rows read at once.
const PAGE_ROWS: usize = 256;
/// Endpoints looked at between rests.
const ENDPOINTS_BEFORE_REST: usize = 16;

/// What is under way already.
type Open = HashSet<(JobKind, EndpointId)>;

/// Looks at all endpoints that have something waiting, or dead letters that may be sent again.
///
/// # Errors
/// [`GatewayError`] when something can't be read or stored; what was not looked at is, next time.
pub(super) async fn pass(worker: &Worker) -> Result<(), GatewayError> {
    let jobs = worker.webhooks.open_jobs()?;
    let open: Open = jobs.into_iter().filter_map(|job| Some((job.kind, job.endpoint_id?))).collect();
    look_at_waiting(worker, &open).await?;
    let core = &worker.webhooks.core;
    if !core.clock_guard.is_believed(&core.clock) {
        tracing::debug!("no dead letters are sent while the clock is not to be believed");
        return Ok(());
    }
    look_at_recovered(worker).await?;
    forget_finished(worker).await
}

/// Goes from endpoint to endpoint in the index of what waits, without looking at all that waits for one.
async fn look_at_waiting(worker: &Worker, open: &Open) -> Result<(), GatewayError> {
    let clock = &worker.webhooks.core.clock;
    let end = prefix_end(&keys::notifications_due());
    let mut start = keys::notifications_due();
    let mut began = clock.monotonic();
    for number in 1_usize.. {
        let scan = Scan { start, end: end.clone(), limit: 1, reverse: false };
        let Some(row) = worker.store().scan(&scan)?.pop() else { return Ok(()) };
        let entry = keys::parse_notification_due(&row.key).zip(read::<DueEntry>(worker, &row));
        start = match entry {
            None => after(&row.key),
            Some(((endpoint_id, ..), entry)) => {
                let key = keys::endpoint(&entry.merchant_id, &endpoint_id);
                let stored = worker.store().get(&key)?.map(|versioned| Row { key, versioned });
                if let Some(endpoint) = stored.and_then(|row| read::<Endpoint>(worker, &row)) {
                    look_at(worker, open, &endpoint).await?;
                }
                let Some(next) = prefix_end(&keys::notifications_due_of(&endpoint_id)) else { return Ok(()) };
                next
            }
        };
        if number % ENDPOINTS_BEFORE_REST == 0 {
            tokio::time::sleep(rest_after(clock.monotonic().since(began))).await;
            began = clock.monotonic();
        }
    }
    Ok(())
}

/// Sees to an endpoint for which something waits.
async fn look_at(worker: &Worker, open: &Open, endpoint: &Endpoint) -> Result<(), GatewayError> {
    let core = &worker.webhooks.core;
    let now = core.clock.now();
    let (kind, until) = match endpoint.status {
        EndpointStatus::Enabled => return Ok(()),
        EndpointStatus::Disabled => (JobKind::Park, None),
        EndpointStatus::Paused => {
            let days = core.settings().retention.notifications_days;
            let cutoff = now.minus(Duration::from_secs(days.saturating_mul(DAY_S)));
            let is_due =
                days > 0 && core.clock_guard.is_believed(&core.clock) && waits_since(worker, endpoint, cutoff)?;
            if !is_due {
                return Ok(());
            }
            (JobKind::Expire, Some(cutoff))
        }
    };
    if open.contains(&(kind, endpoint.id.clone())) {
        return Ok(());
    }
    let of_endpoint = (endpoint.merchant_id.clone(), endpoint.id.clone());
    let job_id = worker.webhooks.new_job_id(now);
    let job = WebhookJob { until, ..WebhookJob::of_endpoint(job_id, of_endpoint, kind, now) };
    worker.webhooks.add_following(Batch::finishing(), &job).await
}

/// Whether anything waits for an endpoint that was due before `cutoff`.
fn waits_since(worker: &Worker, endpoint: &Endpoint, cutoff: Timestamp) -> Result<bool, StoreError> {
    for lane in Lane::all() {
        let scan = Scan::prefix(&keys::notifications_due_in(&endpoint.id, lane), 1);
        let first = worker.store().scan(&scan)?.pop();
        let due_at = first.and_then(|row| keys::parse_notification_due(&row.key)).map(|(_, _, due_at, _)| due_at);
        if due_at.is_some_and(|due_at| due_at < cutoff) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Has dead letters sent again of endpoints that have taken webhooks since. Those that are still dead are not looked at.
async fn look_at_recovered(worker: &Worker) -> Result<(), GatewayError> {
    let clock = &worker.webhooks.core.clock;
    let mut scan = Scan::prefix(&keys::endpoint_healths(), PAGE_ROWS);
    loop {
        let began = clock.monotonic();
        let page = worker.store().scan(&scan)?;
        for row in &page {
            look_at_health(worker, row).await?;
        }
        let Some(last) = page.last().filter(|_| page.len() == PAGE_ROWS) else { return Ok(()) };
        scan.start = after(&last.key);
        tokio::time::sleep(rest_after(clock.monotonic().since(began))).await;
    }
}

async fn look_at_health(worker: &Worker, row: &Row) -> Result<(), GatewayError> {
    let Some((merchant_id, endpoint_id)) = keys::parse_endpoint_health(&row.key) else { return Ok(()) };
    let Some(mut health) = read::<EndpointHealth>(worker, row) else { return Ok(()) };
    let now = worker.webhooks.core.clock.now();
    let Some(answered_at) = answered_well_at(&health, now) else { return Ok(()) };
    let key = keys::endpoint(&merchant_id, &endpoint_id);
    let stored = worker.store().get(&key)?;
    let endpoint_revision = stored.as_ref().map_or(ABSENT, |stored| stored.revision);
    let mut batch = Batch::finishing();
    batch.expect(key.clone(), endpoint_revision);
    let Some(versioned) = stored else {
        // Nobody asks for it any more.
        batch.expect(row.key.clone(), row.versioned.revision);
        batch.delete(row.key.clone());
        return match worker.store().commit(batch).await {
            Ok(_) | Err(StoreError::Precondition { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        };
    };
    let endpoint: Option<Endpoint> = read(worker, &Row { key, versioned });
    if endpoint.is_none_or(|endpoint| endpoint.status != EndpointStatus::Enabled) {
        return Ok(());
    }
    health.dead_until_success = None;
    health.updated_at = now;
    batch.replace(row.key.clone(), row.versioned.revision, crate::storage::record::encode(&health)?);
    let job_id = worker.webhooks.new_job_id(now);
    let mut job = WebhookJob::of_endpoint(job_id, (merchant_id, endpoint_id), JobKind::Sweep, now);
    // What has failed since that answer waits for the next one.
    job.until = Some(answered_at.plus(Duration::from_millis(1)));
    worker.webhooks.add_following(batch, &job).await
}

/// When an endpoint with dead letters has last answered well, if that was after they were given up and nothing is wrong
/// with it now.
fn answered_well_at(health: &EndpointHealth, now: Timestamp) -> Option<Timestamp> {
    let dead_at = health.dead_until_success?;
    let answered_at = health.last_success_at.filter(|at| *at > dead_at)?;
    let is_open = health.open_until.is_some_and(|until| until > now);
    (!is_open).then_some(answered_at)
}

/// Takes away what was done long ago.
async fn forget_finished(worker: &Worker) -> Result<(), GatewayError> {
    let clock = &worker.webhooks.core.clock;
    let mut scan = Scan::prefix(&keys::webhook_jobs(), PAGE_ROWS);
    loop {
        let began = clock.monotonic();
        let page = worker.store().scan(&scan)?;
        let now = clock.now();
        let mut batch = Batch::finishing();
        for row in &page {
            let finished_at = read::<WebhookJob>(worker, row).and_then(|job| job.finished_at);
            // Nobody changes a job that is at its end.
            if finished_at.is_some_and(|at| now.since(at) >= KEEP_FINISHED) {
                batch.delete(row.key.clone());
            }
        }
        if !batch.writes.is_empty() {
            worker.store().commit(batch).await?;
        }
        let Some(last) = page.last().filter(|_| page.len() == PAGE_ROWS) else { return Ok(()) };
        scan.start = after(&last.key);
        tokio::time::sleep(rest_after(clock.monotonic().since(began))).await;
    }
}

fn read<R: Record>(worker: &Worker, row: &Row) -> Option<R> {
    decode(&row.versioned.value).map_err(|error| worker.unreadable.report(&row.key, error)).ok()
}
