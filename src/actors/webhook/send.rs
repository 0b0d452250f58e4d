//! One request: waits for its turn, sends, and commits what follows. It runs in a task of its own, so that a receiver
//! that hangs holds up nothing but itself.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::webhook::Engine;
use crate::actors::webhook::directory::{self, Finished};
use crate::actors::webhook::permits::Class;
use crate::actors::webhook::reader::{EndpointReader, LoadedEndpoint, ReadError};
use crate::delivery::signing::Message;
use crate::delivery::{DeliveryRequest, DeliveryResult};
use crate::domain::ids::{EndpointId, NotificationId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{
    DueEntry, Ending, Endpoint, EndpointStatus, Next, Notification, Try, TryResult, Verdict, parse_retry_after, verdict,
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
    pub(super) due_at: Timestamp,
    pub(super) notification_id: NotificationId,
    pub(super) entry: DueEntry,
}

impl Due {
    fn key(&self) -> Vec<u8> {
        keys::notification_due(&self.endpoint_id, self.due_at, &self.notification_id)
    }

    fn row_key(&self) -> Vec<u8> {
        keys::notification(&self.entry.merchant_id, &self.notification_id)
    }

    /// Whether `notification` still is to be sent because of this entry, and not because of a later one.
    fn is_for(&self, notification: &Notification) -> bool {
        notification.status.is_open() && notification.due_at == Some(self.due_at)
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
        Ok(is_success) => {
            place.hold_until = None;
            place.is_success = is_success;
        }
        Err(trouble) => {
            let Due { endpoint_id, notification_id, .. } = &place.due;
            tracing::error!(%endpoint_id, %notification_id, %trouble, "a webhook has to wait");
            place.hold_until = Some(engine.due_now().plus(HOLD));
        }
    }
}

/// Sends what is due, if it still is. Returns what the receiver said, if it was asked.
async fn send(engine: &Engine, reader: &EndpointReader, place: &Place, class: Class) -> Result<Option<bool>, Trouble> {
    let due = &place.due;
    let _permit = tokio::select! {
        biased;
        permit = engine.permits.acquire(class) => permit,
        () = engine.stopping.cancelled() => return Ok(None),
    };
    engine.directory.began(&due.endpoint_id, &due.notification_id, place.number);
    let parts = &engine.parts;
    let Some((notification, _)) = read(engine, due)?.filter(|(notification, _)| due.is_for(notification)) else {
        remove_entry(engine, due).await?;
        return Ok(None);
    };
    let now = parts.clock.now();
    let Some(loaded) = reader.load(parts.store.as_ref(), &parts.vault, &due.entry.merchant_id, now)? else {
        end_without_endpoint(engine, due).await?;
        return Ok(None);
    };
    if loaded.endpoint.status != EndpointStatus::Enabled || engine.stopping.is_cancelled() {
        return Ok(None);
    }
    let Some(result) = ask_receiver(engine, &loaded, &notification).await else { return Ok(None) };
    let is_success = verdict(result.status_code) == Verdict::Success;
    commit_result(engine, due, &loaded.endpoint, &result).await?;
    tracing::debug!(
        endpoint_id = %due.endpoint_id,
        notification_id = %due.notification_id,
        attempt = notification.next_attempt(),
        status_code = result.status_code,
        duration_ms = result.duration_ms,
        "webhook sent"
    );
    Ok(Some(is_success))
}

/// Sends one request; `None` when it was cut off because we are stopping.
async fn ask_receiver(engine: &Engine, loaded: &LoadedEndpoint, notification: &Notification) -> Option<TryResult> {
    let clock = &engine.parts.clock;
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
        timeout: Duration::from_secs(engine.parts.config.timeout_s),
    };
    let began = clock.monotonic();
    let result = tokio::select! {
        biased;
        result = engine.parts.deliver.deliver(request) => result,
        () = engine.giving_up.cancelled() => return None,
    };
    let duration_ms = u64::try_from(clock.monotonic().since(began).as_millis()).unwrap_or(u64::MAX);
    Some(try_result(result, duration_ms, clock.now()))
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
    let Ok(ended) = notification.end(Ending::EndpointDeleted, engine.parts.clock.now()) else { return Ok(()) };
    let mut batch = Batch::finishing();
    batch.replace(due.row_key(), revision, record::encode(&ended)?);
    batch.delete(due.key());
    match engine.parts.store.commit(batch).await {
        Ok(_) | Err(StoreError::Precondition { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Commits a result. Without room, for writing or for reading what is to be changed, it is tried again for a while: a
/// result that is given up is a webhook that is sent once more.
async fn commit_result(engine: &Engine, due: &Due, sent_to: &Endpoint, result: &TryResult) -> Result<(), Trouble> {
    let drawn = (engine.due_now(), engine.parts.random.draw_u64());
    let mut last_error = None;
    // The last wait is followed by a try, too: it is half of all the waiting.
    for commit in 0..=COMMITS_MAX {
        match commit_result_once(engine, due, sent_to, result, drawn).await {
            Ok(()) => return Ok(()),
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

/// The notification, its old entry, its new one if there is to be one, and the endpoint if it has to be disabled or is
/// proven now, all at once.
async fn commit_result_once(
    engine: &Engine,
    due: &Due,
    sent_to: &Endpoint,
    result: &TryResult,
    (now, draw): (Timestamp, u64),
) -> Result<(), StoreError> {
    let this_try = Try::of(result, now);
    let Some((notification, revision)) = read(engine, due)? else { return Ok(()) };
    let mut batch = Batch::finishing();
    let mut is_disabled = false;
    let changed = if due.is_for(&notification) {
        let after = after_try(engine, notification, sent_to, result, (now, draw));
        let Some((changed, next, disable_reason)) = after else { return Ok(()) };
        batch.delete(due.key());
        if let Next::RetryAt(at) = next {
            let key = keys::notification_due(&due.endpoint_id, at, &due.notification_id);
            batch.put(key, record::encode(&DueEntry::of(&changed))?);
        }
        let learned = match (next, disable_reason) {
            (_, Some(reason)) => Some(Learned::Gone(reason)),
            (Next::Done, None) if sent_to.proven_at.is_none() => Some(Learned::Proven),
            _ => None,
        };
        if let Some(learned) = learned {
            let is_changed = change_endpoint(engine, due, sent_to, &mut batch, (learned, now))?;
            is_disabled = is_changed && matches!(learned, Learned::Gone(_));
        }
        changed
    } else if notification.last_try() == Some(&this_try) {
        // An earlier commit whose outcome was not known was stored after all.
        return Ok(());
    } else {
        let mut changed = notification;
        changed.note_late_try(result, now);
        changed
    };
    batch.replace(due.row_key(), revision, record::encode(&changed)?);
    engine.parts.store.commit(batch).await?;
    if is_disabled {
        engine.lists.forget(&due.entry.merchant_id);
        tracing::warn!(endpoint_id = %due.endpoint_id, "a webhook endpoint is gone and was disabled");
    }
    Ok(())
}

fn after_try(
    engine: &Engine,
    mut notification: Notification,
    sent_to: &Endpoint,
    result: &TryResult,
    (now, draw): (Timestamp, u64),
) -> Option<(Notification, Next, Option<&'static str>)> {
    notification.url.clone_from(&sent_to.url);
    let after = notification.after_try(result, &engine.schedule, now, draw).ok()?;
    Some((after.notification, after.next, after.disable_endpoint))
}

/// What a result says about the endpoint.
#[derive(Clone, Copy)]
enum Learned {
    /// It takes webhooks.
    Proven,
    /// It wants no more, for this reason.
    Gone(&'static str),
}

/// Adds to `batch` what was learned about the endpoint. Returns whether anything has to change: not when the endpoint is
/// gone, known as such already, or has another address by now, about which nothing was learned.
fn change_endpoint(
    engine: &Engine,
    due: &Due,
    sent_to: &Endpoint,
    batch: &mut Batch,
    (learned, now): (Learned, Timestamp),
) -> Result<bool, StoreError> {
    let key = keys::endpoint(&due.entry.merchant_id, &due.endpoint_id);
    let Some(stored) = engine.parts.store.get(&key)? else { return Ok(false) };
    let mut endpoint: Endpoint = record::decode(&stored.value)?;
    if endpoint.url != sent_to.url {
        return Ok(false);
    }
    match learned {
        Learned::Proven if endpoint.proven_at.is_some() => return Ok(false),
        Learned::Proven => endpoint.proven_at = Some(now),
        Learned::Gone(_) if endpoint.status == EndpointStatus::Disabled => return Ok(false),
        Learned::Gone(reason) => endpoint.disable(reason, now),
    }
    batch.replace(key, stored.revision, record::encode(&endpoint)?);
    Ok(true)
}
