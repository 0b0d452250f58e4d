//! One request: waits for its turn, sends, and commits what follows. It runs in a task of its own, so that a receiver
//! that hangs holds up nothing but itself.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::webhook::directory::{self, Finished};
use crate::actors::webhook::health::{After, Answered, Gate};
use crate::actors::webhook::observer::Tried;
use crate::actors::webhook::permits::Class;
use crate::actors::webhook::reader::{EndpointReader, LoadedEndpoint, ReadError};
use crate::actors::webhook::rows::{self, Changed, Planned};
use crate::actors::webhook::{CountedIn, Engine};
use crate::delivery::signing::Message;
use crate::delivery::{DeliveryError, DeliveryRequest, DeliveryResult};
use crate::domain::ids::{EndpointId, NotificationId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{
    DueEntry, Ending, EndpointStatus, Lane, Notification, Try, TryOutcome, TryResult, parse_retry_after, verdict,
};
use crate::storage::{Batch, StoreError, keys, record};

/// After trouble on our side, such as a store without room, a notification is left alone for this long.
const HOLD: Duration = Duration::from_secs(5);
/// How often the commit of one result is tried again. The row changes in between only when the merchant cancels or retries.
const COMMITS_MAX: u32 = 8;
/// Wait before a commit that the store had no room for is tried again; doubles.
const COMMIT_WAIT_FIRST: Duration = Duration::from_millis(50);
/// What the commits of one result may take themselves, and everything else around a request. Ample.
const COMMITS_TAKE: Duration = Duration::from_secs(60);

/// From when its turn has come, a request to a receiver that has `timeout` has ended by then, however it went.
pub(super) fn ends_within(timeout: Duration) -> Duration {
    timeout + COMMIT_WAIT_FIRST * 2_u32.pow(COMMITS_MAX) + COMMITS_TAKE
}

/// What has to be sent.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) endpoint_id: EndpointId,
    pub(super) lane: Lane,
    pub(super) due_at: Timestamp,
    pub(super) notification_id: NotificationId,
    pub(super) entry: DueEntry,
}

impl Due {
    fn key(&self) -> Vec<u8> {
        keys::notification_due(&self.endpoint_id, self.lane, self.due_at, &self.notification_id)
    }

    fn row_key(&self) -> Vec<u8> {
        keys::notification(&self.entry.merchant_id, &self.notification_id)
    }

    /// Whether `notification` still is to be sent because of this entry, and not because of a later one.
    fn is_for(&self, notification: &Notification) -> bool {
        notification.status.is_open() && notification.due_at == Some(self.due_at) && Lane::of(notification) == self.lane
    }
}

/// What prevents a result from being committed, on our side.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Gives the place of a request back when it ends, however it ends.
struct Place {
    engine: Arc<Engine>,
    due: Due,
    number: directory::Place,
    hold_until: Option<Timestamp>,
    is_success: Option<bool>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.engine.directory.finish(&Finished {
            endpoint_id: &self.due.endpoint_id,
            notification_id: &self.due.notification_id,
            place: self.number,
            hold_until: self.hold_until,
            is_success: self.is_success,
        });
    }
}

/// Starts a request whose place is reserved.
pub(super) fn start(
    engine: &Arc<Engine>,
    reader: Arc<EndpointReader>,
    due: Due,
    (class, number): (Class, directory::Place),
) {
    let (endpoint_id, notification_id) = (due.endpoint_id.clone(), due.notification_id.clone());
    let task = engine.sends.spawn(carry_out(Arc::clone(engine), reader, due, (class, number)));
    engine.directory.carried_by(&endpoint_id, &notification_id, number, task.abort_handle());
}

async fn carry_out(
    engine: Arc<Engine>,
    reader: Arc<EndpointReader>,
    due: Due,
    (class, number): (Class, directory::Place),
) {
    // Unless it ends in order it was cut off or panicked, and must not be tried again at once.
    let hold_until = Some(engine.due_now().plus(HOLD));
    let mut place = Place { engine: Arc::clone(&engine), due, number, hold_until, is_success: None };
    match send(&engine, &reader, &place, class).await {
        Ok(Sent::NotAsked) => place.hold_until = None,
        Ok(Sent::NotBefore(until)) => place.hold_until = Some(until),
        Ok(Sent::Asked { is_success }) => {
            place.hold_until = None;
            place.is_success = Some(is_success);
        }
        Err(trouble) => {
            let Due { endpoint_id, notification_id, .. } = &place.due;
            tracing::error!(%endpoint_id, %notification_id, %trouble, "a webhook has to wait");
            place.hold_until = Some(engine.due_now().plus(HOLD));
        }
    }
}

/// What came of something that was due.
enum Sent {
    /// It need not be sent now, or not at all.
    NotAsked,
    /// Its endpoint is left alone until then.
    NotBefore(Timestamp),
    /// The receiver was asked, and the result is committed.
    Asked { is_success: bool },
}

/// A request that has ended.
struct Asked {
    result: TryResult,
    outcome: TryOutcome,
}

/// Sends what is due, if it still is.
async fn send(engine: &Engine, reader: &EndpointReader, place: &Place, class: Class) -> Result<Sent, Trouble> {
    let due = &place.due;
    let _permit = tokio::select! {
        biased;
        permit = engine.permits.acquire(class) => permit,
        () = engine.stopping.cancelled() => return Ok(Sent::NotAsked),
    };
    engine.directory.began(&due.endpoint_id, &due.notification_id, place.number);
    let parts = &engine.parts;
    let Some((notification, _)) = read(engine, due)?.filter(|(notification, _)| due.is_for(notification)) else {
        remove_entry(engine, due).await?;
        return Ok(Sent::NotAsked);
    };
    let now = parts.clock.now();
    let Some(loaded) = reader.load(parts.store.as_ref(), &parts.vault, &due.entry.merchant_id, now)? else {
        end_without_endpoint(engine, due).await?;
        return Ok(Sent::NotAsked);
    };
    if loaded.endpoint.status != EndpointStatus::Enabled || engine.stopping.is_cancelled() {
        return Ok(Sent::NotAsked);
    }
    if let Gate::Closed { until } = engine.healths.gate(&loaded.endpoint, engine.due_now())? {
        return Ok(Sent::NotBefore(until));
    }
    let Some(asked) = ask_receiver(engine, due, &loaded, &notification).await else { return Ok(Sent::NotAsked) };
    commit_result(engine, due, &loaded, &asked).await?;
    tracing::debug!(
        endpoint_id = %due.endpoint_id,
        notification_id = %due.notification_id,
        attempt = notification.next_attempt(),
        status_code = asked.result.status_code,
        duration_ms = asked.result.duration_ms,
        "webhook sent"
    );
    Ok(Sent::Asked { is_success: asked.outcome == TryOutcome::Success })
}

/// Sends one request; `None` when it was cut off because we are stopping.
async fn ask_receiver(
    engine: &Engine,
    due: &Due,
    loaded: &LoadedEndpoint,
    notification: &Notification,
) -> Option<Asked> {
    let parts = &engine.parts;
    let clock = &parts.clock;
    let headers = loaded.secrets.headers(&Message {
        id: notification.id.as_str(),
        event: notification.event.as_str(),
        attempt: notification.next_attempt(),
        at: clock.now(),
        body: notification.body.get(),
    });
    let request = DeliveryRequest {
        url: loaded.endpoint.url.clone(),
        headers,
        body: Arc::from(notification.body.get()),
        timeout: loaded.endpoint.overrides.timeout(Duration::from_secs(parts.config.timeout_s)),
    };
    let _asking = CountedIn::new(&engine.asking);
    let waited = clock.now().since(due.due_at);
    let began = clock.monotonic();
    let result = tokio::select! {
        biased;
        result = parts.deliver.deliver(request) => result,
        () = engine.giving_up.cancelled() => return None,
    };
    let took = clock.monotonic().since(began);
    let outcome = outcome_of(&result);
    let since_made = due.entry.is_first_try().then(|| clock.now().since(notification.created_at));
    parts.observer.tried(&Tried { outcome, took, waited, since_made });
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Some(Asked { result: try_result(result, duration_ms, clock.now()), outcome })
}

fn outcome_of(result: &DeliveryResult) -> TryOutcome {
    match result {
        Ok(answer) => TryOutcome::of_answer(verdict(Some(answer.status))),
        Err(DeliveryError::NotAllowed(_)) => TryOutcome::NotAllowed,
        Err(_) => TryOutcome::NoAnswer,
    }
}

fn try_result(result: DeliveryResult, duration_ms: u64, now: Timestamp) -> TryResult {
    match result {
        Ok(answer) => TryResult {
            duration_ms,
            status_code: Some(answer.status),
            retry_after: answer.retry_after.and_then(|text| parse_retry_after(&text, now)),
            response: Some(answer.response),
            error: None,
        },
        Err(error) => TryResult { duration_ms, error: Some(error.to_string()), ..TryResult::default() },
    }
}

fn read(engine: &Engine, due: &Due) -> Result<Option<(Notification, u64)>, StoreError> {
    let Some(stored) = engine.parts.store.get(&due.row_key())? else { return Ok(None) };
    Ok(Some((record::decode(&stored.value)?, stored.revision)))
}

/// Removes an entry for which there is nothing to do. Its row must not change meanwhile: the key may be in use again.
async fn remove_entry(engine: &Engine, due: &Due) -> Result<(), StoreError> {
    let stored = engine.parts.store.get(&due.row_key())?;
    let mut batch = Batch::finishing();
    if let Some(stored) = &stored
        && due.is_for(&record::decode(&stored.value)?)
    {
        return Ok(());
    }
    batch.expect(due.row_key(), stored.map_or(crate::storage::ABSENT, |stored| stored.revision));
    batch.delete(due.key());
    match engine.parts.store.commit(batch).await {
        Ok(_) | Err(StoreError::Precondition { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn end_without_endpoint(engine: &Engine, due: &Due) -> Result<(), StoreError> {
    let Some((notification, revision)) = read(engine, due)? else { return Ok(()) };
    let ended = notification.clone().end(Ending::EndpointDeleted, engine.parts.clock.now());
    let Ok(ended) = ended else { return Ok(()) };
    let mut batch = Batch::finishing();
    let changed = rows::change(&mut batch, Some((&notification, revision)), &ended)?;
    match engine.parts.store.commit(batch).await {
        Ok(_) => {
            engine.parts.observer.changed(&changed);
            Ok(())
        }
        Err(StoreError::Precondition { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What is done once a result is committed.
struct Pending {
    changed: Changed,
    /// What was learned about the endpoint, if anything can be.
    after: Option<After>,
}

impl Pending {
    fn done(self, engine: &Engine, due: &Due) {
        let mut planned = self.after.map_or_else(Planned::default, |after| engine.healths.committed(after));
        planned.add(due.endpoint_id.clone(), self.changed);
        engine.announce(&planned);
    }
}

/// Commits a result. Without room, for writing or for reading what is to be changed, it is tried again for a while: a
/// result that is given up is a webhook that is sent once more.
async fn commit_result(engine: &Engine, due: &Due, sent_to: &LoadedEndpoint, asked: &Asked) -> Result<(), Trouble> {
    let _recording = CountedIn::new(&engine.recording);
    let drawn = (engine.due_now(), engine.parts.random.draw_u64());
    let (mut last_error, mut pending) = (None, None);
    // The last wait is followed by a try, too: it is half of all the waiting.
    for commit in 0..=COMMITS_MAX {
        match commit_result_once(engine, due, sent_to, asked, drawn, &mut pending).await {
            Ok(()) => {
                if let Some(pending) = pending {
                    pending.done(engine, due);
                }
                return Ok(());
            }
            Err(error @ StoreError::Overloaded(_)) => {
                last_error = Some(error);
                if commit < COMMITS_MAX {
                    tokio::time::sleep(COMMIT_WAIT_FIRST * 2_u32.pow(commit)).await;
                }
            }
            Err(error @ (StoreError::Precondition { .. } | StoreError::Indeterminate(_))) => last_error = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(last_error.unwrap_or(StoreError::Overloaded("results")).into())
}

/// The notification with its entries, and what was learned about the endpoint, all at once. What there is to do after the
/// commit is in `pending`, also when it is not known whether it was stored.
async fn commit_result_once(
    engine: &Engine,
    due: &Due,
    sent_to: &LoadedEndpoint,
    asked: &Asked,
    (now, draw): (Timestamp, u64),
    pending: &mut Option<Pending>,
) -> Result<(), StoreError> {
    let (endpoint, result) = (&sent_to.endpoint, &asked.result);
    let Some((before, revision)) = read(engine, due)? else {
        *pending = None;
        return Ok(());
    };
    let mut batch = Batch::finishing();
    let (notification, after) = if due.is_for(&before) {
        let mut sent = before.clone();
        sent.url.clone_from(&endpoint.url);
        let schedule = engine.healths.schedule(endpoint, now);
        let Ok(tried) = sent.after_try(result, &schedule, now, draw) else { return Ok(()) };
        let notification = tried.notification;
        let answered = Answered {
            sent_to: endpoint,
            outcome: asked.outcome,
            result,
            notification: &notification,
            disable: tried.disable_endpoint,
        };
        let after = engine.healths.after(&mut batch, &answered, now)?;
        (notification, Some(after))
    } else if before.last_try() == Some(&Try::of(result, now)) {
        // An earlier commit whose outcome was not known was stored after all.
        return Ok(());
    } else {
        let mut late = before.clone();
        late.note_late_try(result, now);
        (late, None)
    };
    let changed = rows::change(&mut batch, Some((&before, revision)), &notification)?;
    *pending = Some(Pending { changed, after });
    engine.parts.store.commit(batch).await?;
    Ok(())
}
