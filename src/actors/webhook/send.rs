//! One request: waits for its turn, sends, and commits what follows. It runs in a task of its own, so that a receiver
//! that hangs holds up nothing but itself.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::webhook::directory::{self, Finished, Hold};
use crate::actors::webhook::health::{After, Answered, Gate};
use crate::actors::webhook::observer::Tried;
use crate::actors::webhook::pools::{Permit, Recording, Standing};
use crate::actors::webhook::reader::{EndpointReader, LoadedEndpoint, ReadError};
use crate::actors::webhook::rows::{self, Changed};
use crate::actors::webhook::{CountedIn, Engine};
use crate::delivery::signing::Message;
use crate::delivery::{DeliveryError, DeliveryRequest, DeliveryResult};
use crate::domain::ids::{EndpointId, NotificationId};
use crate::domain::time::Timestamp;
use crate::domain::trace::TraceContext;
use crate::domain::webhook::{
    DueEntry, Ending, EndpointStatus, Lane, LaneSet, Notification, Try, TryOutcome, TryResult, parse_retry_after,
    verdict,
};
use crate::storage::{Batch, StoreError, keys, record};
use crate::telemetry::trace::Kind;

/// How often the commit of one result is tried again at once because somebody else has changed the row: the merchant, who
/// cancels or retries.
const OVERTAKEN_MAX: u32 = 8;
/// Wait before a commit that the store had no room for is tried again; doubles.
const COMMIT_WAIT_FIRST: Duration = Duration::from_millis(50);
/// The longest such wait.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(5);
/// What everything around a request may take, from when its turn has come to its answer. Ample.
const AROUND_TAKES: Duration = Duration::from_secs(60);

/// From when its turn has come, a request to a receiver that has `timeout` has its answer by then, however it went.
pub(super) fn answered_within(timeout: Duration) -> Duration {
    timeout + AROUND_TAKES
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

impl Trouble {
    /// Whether it is there until somebody mends what is stored.
    const fn is_lasting(&self) -> bool {
        match self {
            Self::Read(error) => error.is_lasting(),
            Self::Store(error) => matches!(error, StoreError::Corrupt(_) | StoreError::Invalid(_)),
        }
    }
}

/// Gives the place of a request back when it ends, however it ends.
struct Place {
    engine: Arc<Engine>,
    due: Due,
    number: directory::Place,
    /// Whether it is left alone for a while.
    hold: Option<Hold>,
    /// Where it may wait again.
    lanes: LaneSet,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.engine.directory.finish(&Finished {
            endpoint_id: &self.due.endpoint_id,
            notification_id: &self.due.notification_id,
            place: self.number,
            now: self.engine.due_now(),
            hold: self.hold,
            lanes: self.lanes,
        });
    }
}

/// Starts a request whose place is reserved.
pub(super) fn start(
    engine: &Arc<Engine>,
    reader: Arc<EndpointReader>,
    due: Due,
    (standing, number): (Standing, directory::Place),
) {
    let (endpoint_id, notification_id) = (due.endpoint_id.clone(), due.notification_id.clone());
    let task = engine.sends.spawn(carry_out(Arc::clone(engine), reader, due, (standing, number)));
    engine.directory.carried_by(&endpoint_id, &notification_id, number, task.abort_handle());
}

async fn carry_out(
    engine: Arc<Engine>,
    reader: Arc<EndpointReader>,
    due: Due,
    (standing, number): (Standing, directory::Place),
) {
    // Unless it ends in order it was cut off or panicked, and must not be tried again at once.
    let lanes = LaneSet::from(due.lane);
    let mut place = Place { engine: Arc::clone(&engine), due, number, hold: Some(Hold::Lasting), lanes };
    match send(&engine, &reader, &place, standing).await {
        Ok(Sent::NotAsked) => place.hold = None,
        Ok(Sent::NotBefore(until)) => place.hold = Some(Hold::Until(until)),
        Ok(Sent::Recorded(lanes)) => (place.hold, place.lanes) = (None, lanes),
        Err(trouble) => place.hold = Some(hold_for(&engine, &place.due, &trouble)),
    }
}

/// Tells of trouble, once if it lasts.
fn hold_for(engine: &Engine, due: &Due, trouble: &Trouble) -> Hold {
    let Due { endpoint_id, notification_id, .. } = due;
    if !trouble.is_lasting() {
        tracing::error!(%endpoint_id, %notification_id, %trouble, "a webhook has to wait");
        return Hold::Passing;
    }
    let key = match trouble {
        Trouble::Read(_) => keys::endpoint(&due.entry.merchant_id, endpoint_id),
        Trouble::Store(_) => due.row_key(),
    };
    engine.unreadable.report(&key, trouble);
    Hold::Lasting
}

/// What came of something that was due.
enum Sent {
    /// It need not be sent now, or not at all.
    NotAsked,
    /// Its endpoint is left alone until then.
    NotBefore(Timestamp),
    /// The receiver was asked, and the result is committed. It waits in these lanes from now on, if it does.
    Recorded(LaneSet),
}

/// A request that has ended.
struct Asked {
    result: TryResult,
    outcome: TryOutcome,
}

/// Sends what is due, if it still is.
async fn send(engine: &Engine, reader: &EndpointReader, place: &Place, standing: Standing) -> Result<Sent, Trouble> {
    let permit = tokio::select! {
        biased;
        permit = engine.pools.acquire(&place.due.endpoint_id, standing) => permit,
        () = engine.stopping.cancelled() => None,
    };
    match permit {
        // Very many may wait for their turn: only then is there all that a request takes.
        Some(permit) => Box::pin(send_in_turn(engine, reader, place, permit)).await,
        None => Ok(Sent::NotAsked),
    }
}

async fn send_in_turn(
    engine: &Engine,
    reader: &EndpointReader,
    place: &Place,
    permit: Permit,
) -> Result<Sent, Trouble> {
    let due = &place.due;
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
    let Some((asked, _recording)) = ask_receiver(engine, place, &loaded, &notification, permit).await else {
        return Ok(Sent::NotAsked);
    };
    let lanes = commit_result(engine, due, &loaded, &asked).await?;
    tracing::debug!(
        endpoint_id = %due.endpoint_id,
        notification_id = %due.notification_id,
        attempt = notification.next_attempt(),
        status_code = asked.result.status_code,
        duration_ms = asked.result.duration_ms,
        "webhook sent"
    );
    Ok(Sent::Recorded(lanes))
}

/// An answer on its way to disk.
struct Recorded<'a> {
    _of_all: Recording,
    _counted: CountedIn<'a>,
}

/// Sends one request; `None` when it was cut off because we are stopping. With the answer, its place is given back.
async fn ask_receiver<'a>(
    engine: &'a Engine,
    place: &Place,
    loaded: &LoadedEndpoint,
    notification: &Notification,
    mut permit: Permit,
) -> Option<(Asked, Recorded<'a>)> {
    let due = &place.due;
    let parts = &engine.parts;
    let clock = &parts.clock;
    let mut span = parts.traces.begin_later(notification.trace.as_ref(), "webhook", Kind::Client);
    let mut headers = loaded.secrets.headers(&Message {
        id: notification.id.as_str(),
        event: notification.event.as_str(),
        attempt: notification.next_attempt(),
        at: clock.now(),
        body: notification.body.get(),
    });
    if let Some(TraceContext { parent, state }) = span.outgoing() {
        headers.push(("traceparent", parent.to_string()));
        headers.extend(state.map(|state| ("tracestate", state)));
    }
    let request = DeliveryRequest {
        url: loaded.endpoint.url.clone(),
        headers,
        body: Arc::from(notification.body.get()),
        timeout: loaded.endpoint.overrides.timeout(Duration::from_secs(parts.config.timeout_s)),
    };
    let asking = CountedIn::new(&engine.asking);
    let waited = clock.now().since(due.due_at);
    let began = clock.monotonic();
    let result = answer_to(engine, request, &mut permit).await?;
    let took = clock.monotonic().since(began);
    let outcome = outcome_of(&result);
    if span.is_recorded() {
        span.set("tollgate.event", notification.event.as_str());
        span.set("tollgate.notification_id", notification.id.to_string());
        span.set("tollgate.attempt", i64::from(notification.next_attempt()));
        match &result {
            Ok(answer) => span.answered(answer.status),
            Err(_) => span.fail("no answer"),
        }
    }
    drop(span);
    let answered = directory::Answered { place: place.number, is_success: outcome == TryOutcome::Success, took };
    let is_good = engine.directory.answered(&due.endpoint_id, &due.notification_id, &answered);
    let recorded = Recorded { _of_all: permit.answered(is_good), _counted: CountedIn::new(&engine.recording) };
    drop(asking);
    let since_made = due.entry.is_first_try().then(|| clock.now().since(notification.created_at));
    parts.observer.tried(&Tried { outcome, took, waited, since_made });
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Some((Asked { result: try_result(result, duration_ms, clock.now()), outcome }, recorded))
}

/// The answer to a request; `None` when it was cut off because we are stopping. A request that lasts goes on in the place of
/// a slow one, so that it takes none from those that don't.
async fn answer_to(engine: &Engine, request: DeliveryRequest, permit: &mut Permit) -> Option<DeliveryResult> {
    let slow_after = Duration::from_millis(engine.parts.config.slow_after_ms);
    let mut answer = engine.parts.deliver.deliver(request);
    loop {
        tokio::select! {
            biased;
            result = &mut answer => return Some(result),
            () = engine.giving_up.cancelled() => return None,
            () = tokio::time::sleep(slow_after), if !permit.is_slow() => {
                // Without room it is asked for again.
                if !permit.lasts() {
                    engine.slow_pool_full.note(engine.due_now());
                }
            }
        }
    }
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
    /// Returns where the notification waits from now on: its endpoint is told of that when it is no longer under way.
    fn done(self, engine: &Engine) -> LaneSet {
        engine.parts.observer.changed(&self.changed);
        if let Some(after) = self.after {
            engine.announce(&engine.healths.committed(after));
        }
        self.changed.lanes()
    }
}

/// Commits a result. Without room, for writing or for reading what is to be changed, it is tried again until there is room
/// or we have to stop: a result that is given up is a webhook that is sent once more. Returns the lanes in which the
/// notification waits from now on.
async fn commit_result(
    engine: &Engine,
    due: &Due,
    sent_to: &LoadedEndpoint,
    asked: &Asked,
) -> Result<LaneSet, Trouble> {
    let drawn = (engine.due_now(), engine.parts.random.draw_u64());
    let mut pending = None;
    let (mut overtaken, mut wait) = (0, COMMIT_WAIT_FIRST);
    loop {
        match commit_result_once(engine, due, sent_to, asked, drawn, &mut pending).await {
            // Where nothing was to be changed, the entry may be there still.
            Ok(()) => {
                return Ok(pending.map_or_else(|| LaneSet::from(due.lane), |pending: Pending| pending.done(engine)));
            }
            Err(StoreError::Precondition { .. }) if overtaken < OVERTAKEN_MAX => overtaken += 1,
            Err(
                error @ (StoreError::Overloaded(_) | StoreError::Precondition { .. } | StoreError::Indeterminate(_)),
            ) => {
                tokio::select! {
                    biased;
                    () = engine.giving_up.cancelled() => return Err(error.into()),
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(COMMIT_WAIT_MAX),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn size_of_future<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_that_waits_for_its_turn_takes_little_memory() {
        // Of each endpoint as many may wait as it may have in flight.
        assert!(size_of_future(carry_out) <= 1_024, "{}", size_of_future(carry_out));
    }
}
