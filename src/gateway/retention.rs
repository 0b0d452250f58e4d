//! Takes away what has been kept long enough: answers under idempotency keys, events, notifications, and what
//! providers have told. In the background, a page at a time, so that nobody waits for it.

use std::time::Duration;

use crate::actors::webhook::rows::{Changed, Removal};
use crate::domain::event::Event;
use crate::domain::inbox::InboxRow;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Notification, NotificationStatus};
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::IdempotencyRecord;
use crate::gateway::webhooks::Webhooks;
use crate::storage::record::{Record, decode};
use crate::storage::unreadable::UnreadableRows;
use crate::storage::{Batch, Row, Scan, StoreError, keys, prefix_end};

/// From the end of one pass over all keys to the beginning of the next.
const PASS_INTERVAL: Duration = Duration::from_secs(600);
/// After each page a pass rests so many times as long as reading it took: it has at most a quarter of one thread.
const REST_FACTOR: u32 = 3;
/// The rest after a page that took less than can be measured. Pages cost little more than that: of the 43 million keys of
/// a gateway that takes 500 a second and keeps them for a day, a pass rests 3 to 6 minutes.
const REST_MIN: Duration = Duration::from_millis(1);
/// Rows read at once.
const PAGE_ROWS: usize = 256;
/// Rows taken away at once.
const BATCH_ROWS: usize = 128;
const DAY_S: u64 = 86_400;

/// Starts it; it ends when the gateway stops.
pub(super) fn start(core: &Core, webhooks: &Webhooks) {
    let webhooks = webhooks.clone();
    start_counted(core, move |changed| webhooks.count(changed));
}

/// Starts it; what becomes of notifications is `counted`.
fn start_counted(core: &Core, counted: impl Fn(&Changed) + Send + Sync + 'static) {
    let keeper = Keeper { core: core.clone(), unreadable: UnreadableRows::default(), counted: Box::new(counted) };
    core.tasks.spawn(async move {
        let stopping = keeper.core.stopping.clone();
        let passes = async {
            loop {
                tokio::time::sleep(PASS_INTERVAL).await;
                for kind in Kind::ALL {
                    match keeper.pass(kind).await {
                        Ok(0) => {}
                        Ok(removed) => tracing::debug!(removed, ?kind, "records were kept long enough"),
                        Err(error) => {
                            tracing::warn!(%error, ?kind, "old records were not taken away; tried again later")
                        }
                    }
                }
            }
        };
        // Cut off anywhere, a pass has done what it has done.
        stopping.run_until_cancelled(passes).await;
    });
}

/// What is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Answers under idempotency keys.
    Answers,
    /// Events.
    Events,
    /// Notifications that were taken or given up.
    Notifications,
    /// What providers have told and was gone into.
    Inbox,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Answers, Self::Events, Self::Notifications, Self::Inbox];

    fn prefix(self) -> Vec<u8> {
        match self {
            Self::Answers => keys::idempotencies(),
            Self::Events => keys::events(),
            Self::Notifications => keys::notifications(),
            Self::Inbox => keys::inboxes(),
        }
    }
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    /// It goes.
    Old,
    /// It stays.
    Young,
    /// It stays, and so do all later ones of its merchant.
    YoungFromHere,
}

struct Keeper {
    core: Core,
    unreadable: UnreadableRows,
    counted: Box<dyn Fn(&Changed) + Send + Sync>,
}

impl Keeper {
    /// Goes over all rows of a kind once; answers how many it took away.
    async fn pass(&self, kind: Kind) -> Result<usize, GatewayError> {
        let prefix = kind.prefix();
        let mut scan = Scan { start: prefix.clone(), end: prefix_end(&prefix), limit: PAGE_ROWS, reverse: false };
        let mut removed = 0;
        let mut old = Vec::new();
        loop {
            // Looked at for each page: a pass may take hours.
            if !self.core.clock_guard.is_believed(&self.core.clock) {
                tracing::debug!(?kind, "nothing is taken away while the clock is not to be believed");
                return Ok(removed);
            }
            let began = self.core.clock.monotonic();
            let page = self.core.store.scan(&scan)?;
            let now = self.core.clock.now();
            let done_with = self.choose(kind, &page, now, &mut old);
            let took = self.core.clock.monotonic().since(began);
            let Some(last) = page.last().filter(|_| page.len() == PAGE_ROWS) else { break };
            // The first key after it, or after all of its merchant.
            let behind_merchant = done_with.filter(|done_with| last.key.starts_with(done_with)).and_then(prefix_end);
            scan.start = behind_merchant.unwrap_or_else(|| [last.key.as_slice(), &[0]].concat());
            while old.len() >= BATCH_ROWS {
                removed += self.remove(old.drain(..BATCH_ROWS).collect()).await?;
            }
            tokio::time::sleep(rest_after(took)).await;
        }
        while !old.is_empty() {
            removed += self.remove(old.drain(..BATCH_ROWS.min(old.len())).collect()).await?;
        }
        Ok(removed)
    }

    /// Adds the old rows of a page to `old`. Returns what the keys of the last merchant begin with of whom nothing more has
    /// to be looked at.
    fn choose<'a>(&self, kind: Kind, page: &'a [Row], now: Timestamp, old: &mut Vec<Removal>) -> Option<&'a [u8]> {
        let mut done_with: Option<&[u8]> = None;
        for row in page {
            if done_with.is_some_and(|done_with| row.key.starts_with(done_with)) {
                continue;
            }
            match self.age(kind, row, now) {
                Age::Old => old.push(self.removal(kind, row)),
                Age::Young => {}
                Age::YoungFromHere => done_with = Some(keys::of_one_merchant(&row.key)),
            }
        }
        done_with
    }

    /// Takes rows away, all but those that somebody has used again since they were found.
    async fn remove(&self, mut old: Vec<Removal>) -> Result<usize, GatewayError> {
        // Each turn has one row less.
        while !old.is_empty() {
            // Also when the disk has little room left: it makes some.
            let mut batch = Batch::finishing();
            let changes: Vec<Changed> = old.iter().map(|row| row.add_to(&mut batch)).collect();
            match self.core.store.commit(batch).await {
                Ok(_) => {
                    changes.iter().for_each(|changed| (self.counted)(changed));
                    return Ok(old.len());
                }
                Err(StoreError::Precondition { index }) if index < old.len() => drop(old.swap_remove(index)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(0)
    }

    /// How a row is taken away: a notification with its entries.
    fn removal(&self, kind: Kind, row: &Row) -> Removal {
        let revision = row.versioned.revision;
        let notification = match kind {
            Kind::Notifications => self.read::<Notification>(row),
            Kind::Answers | Kind::Events | Kind::Inbox => None,
        };
        match notification {
            Some(notification) => Removal::of(&notification, revision),
            None => Removal::of_row(row.key.clone(), revision),
        }
    }

    /// Whether a row has been kept long enough. What can't be read is kept.
    fn age(&self, kind: Kind, row: &Row, now: Timestamp) -> Age {
        match kind {
            Kind::Answers => self.read(row).map_or(Age::Young, |record| self.age_of_answer(&record, now)),
            Kind::Events => self.read(row).map_or(Age::Young, |record| self.age_of_event(&record, now)),
            Kind::Notifications => self.read(row).map_or(Age::Young, |record| self.age_of_notification(&record, now)),
            Kind::Inbox => self.read(row).map_or(Age::Young, |row| self.age_in_inbox(&row, now)),
        }
    }

    fn read<R: Record>(&self, row: &Row) -> Option<R> {
        decode(&row.versioned.value).map_err(|error| self.unreadable.report(&row.key, error)).ok()
    }

    /// An answer is kept as long as the configuration says. A request that was never answered is kept until its payment
    /// is decided or in a person's hands, and as long again.
    fn age_of_answer(&self, record: &IdempotencyRecord, now: Timestamp) -> Age {
        let settings = self.core.settings();
        let payments = &settings.payments;
        let keep_s = match record.answer {
            Some(_) => payments.idempotency_keep_s,
            None => payments.needs_review_after_s.saturating_add(payments.idempotency_keep_s),
        };
        if now.since(record.at).as_secs() >= keep_s { Age::Old } else { Age::Young }
    }

    /// What is still to be gone into is never old. The rows stand in the order of their ids, which says nothing.
    fn age_in_inbox(&self, row: &InboxRow, now: Timestamp) -> Age {
        let is_old = is_over(row.handled_at, self.core.settings().callbacks.keep_days, now);
        if is_old { Age::Old } else { Age::Young }
    }

    /// A merchant's events stand in the order in which they happened.
    fn age_of_event(&self, event: &Event, now: Timestamp) -> Age {
        let is_old = is_over(Some(event.at), self.core.settings().retention.events_days, now);
        if is_old { Age::Old } else { Age::YoungFromHere }
    }

    /// A merchant's notifications stand in the order in which they were made, which is before they ended. Those that were
    /// sent again by themselves are no younger for that. What is still on its way is never old.
    fn age_of_notification(&self, notification: &Notification, now: Timestamp) -> Age {
        let settings = self.core.settings();
        let (days, dead_days) = (settings.retention.notifications_days, settings.retention.dead_letters_days);
        let is_old = match notification.status {
            NotificationStatus::Success => is_over(notification.succeeded_at, days, now),
            NotificationStatus::Failed => is_over(notification.given_up_since(), dead_days, now),
            NotificationStatus::Pending | NotificationStatus::Retrying => false,
        };
        let created_at = Some(notification.created_at);
        if is_old {
            Age::Old
        } else if is_over(created_at, days, now) || is_over(created_at, dead_days, now) {
            Age::Young
        } else {
            Age::YoungFromHere
        }
    }
}

/// Whether so many days have gone by since then; 0 days never do.
fn is_over(since: Option<Timestamp>, days: u64, now: Timestamp) -> bool {
    days > 0 && since.is_some_and(|since| now.since(since).as_secs() >= days.saturating_mul(DAY_S))
}

/// How long a pass rests after a page.
pub(super) fn rest_after(took: Duration) -> Duration {
    (took * REST_FACTOR).max(REST_MIN)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::actors::webhook::rows;
    use crate::clock::Clock;
    use crate::config::{Config, RetentionConfig};
    use crate::domain::event::EventName;
    use crate::domain::ids::{ChannelName, EndpointId, EventId, MerchantId, NotificationId};
    use crate::domain::webhook::{Anew, Ending, Failure, NewNotification};
    use crate::gateway::answer::StoredAnswer;
    use crate::gateway::idempotency::{IdempotencyKey, Known, look_up, once};
    use crate::random::Random;
    use crate::storage::memory::MemoryStore;
    use crate::storage::record::encode;
    use crate::storage::vault::Vault;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn core() -> Core {
        let random = Random::seeded(1);
        Core::new(
            Arc::new(MemoryStore::new()),
            Clock::virtual_from(Timestamp::from_unix_s(1_737_715_200)),
            random.clone(),
            Config::embedded().unwrap(),
            Vault::with_key(&[7; 32], random),
        )
    }

    fn key(number: usize) -> IdempotencyKey {
        IdempotencyKey::new("POST", "/x", &format!("k-{number}"), b"{}").unwrap()
    }

    fn merchant(number: usize) -> MerchantId {
        MerchantId::new(format!("m_{}", number % 3))
    }

    async fn answer(core: &Core, number: usize) {
        let work = async { Ok::<_, GatewayError>(StoredAnswer { status: 201, body: "{}".to_owned() }) };
        once(core, &merchant(number), Some(key(number)), None, work).await.unwrap();
    }

    fn rows(core: &Core) -> usize {
        core.store.scan(&Scan::prefix(&keys::idempotencies(), 10_000)).unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn answers_go_after_their_time_and_not_before() {
        let core = core();
        start_counted(&core, |_| {});
        // More than a page, of several merchants.
        for number in 0..PAGE_ROWS * 2 + 10 {
            answer(&core, number).await;
        }
        tokio::time::sleep(12 * HOUR).await;
        answer(&core, 1_000).await;
        tokio::time::sleep(HOUR * 23 / 2).await;
        assert_eq!(rows(&core), PAGE_ROWS * 2 + 11);
        tokio::time::sleep(HOUR).await;
        assert_eq!(rows(&core), 1, "only the later one is left");
        assert!(matches!(look_up(&core, &merchant(1_000), Some(&key(1_000))), Ok(Known::Answered(_))));
        tokio::time::sleep(12 * HOUR).await;
        assert_eq!(rows(&core), 0);
        core.stopping.cancel();
        core.tasks.close();
        core.tasks.wait().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_days_ahead_for_a_while_takes_nothing_away() {
        let core = core();
        start_counted(&core, |_| {});
        for number in 0..10 {
            answer(&core, number).await;
        }
        tokio::time::sleep(HOUR).await;
        core.clock.set_forward(48 * HOUR);
        // A repetition is one, however old its first sending seems to be.
        assert!(matches!(look_up(&core, &merchant(1), Some(&key(1))), Ok(Known::Answered(_))));
        tokio::time::sleep(HOUR).await;
        assert_eq!(rows(&core), 10);
        core.clock.set_back(48 * HOUR);
        tokio::time::sleep(21 * HOUR).await;
        assert_eq!(rows(&core), 10);
        assert!(matches!(look_up(&core, &merchant(1), Some(&key(1))), Ok(Known::Answered(_))));
        tokio::time::sleep(2 * HOUR).await;
        assert_eq!(rows(&core), 0, "when their time is over they go");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_under_way_ends_when_the_clock_jumps() {
        let core = core();
        // More than a page, so that there is a rest in between.
        for number in 0..PAGE_ROWS + 10 {
            answer(&core, number).await;
        }
        assert!(core.clock_guard.is_believed(&core.clock));
        let keeper = Keeper { core: core.clone(), unreadable: UnreadableRows::default(), counted: Box::new(|_| {}) };
        let pass = tokio::spawn(async move { keeper.pass(Kind::Answers).await.unwrap() });
        tokio::task::yield_now().await;
        core.clock.set_forward(48 * HOUR);
        assert_eq!(pass.await.unwrap(), 0);
        assert_eq!(rows(&core), PAGE_ROWS + 10);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_long_time_off_what_is_old_goes_when_the_clock_has_been_steady() {
        let core = core();
        answer(&core, 1).await;
        let last_written_at = core.clock.now();
        tokio::time::sleep(48 * HOUR).await;
        let guard = crate::gateway::clock_check::ClockGuard::begin(&core.clock, Some(last_written_at));
        let core = Core { clock_guard: guard, ..core };
        start_counted(&core, |_| {});
        tokio::time::sleep(5 * HOUR).await;
        assert_eq!(rows(&core), 1);
        tokio::time::sleep(2 * HOUR).await;
        assert_eq!(rows(&core), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_takes_the_place_of_an_old_one_that_went_while_it_was_made() {
        let core = core();
        answer(&core, 1).await;
        tokio::time::sleep(25 * HOUR).await;
        let keeper = Keeper { core: core.clone(), unreadable: UnreadableRows::default(), counted: Box::new(|_| {}) };
        let work = async move {
            assert_eq!(keeper.pass(Kind::Answers).await.unwrap(), 1);
            Ok::<_, GatewayError>(StoredAnswer { status: 201, body: "again".to_owned() })
        };
        let first = once(&core, &merchant(1), Some(key(1)), None, work).await.unwrap();
        assert!(!first.replayed);
        let nothing = async { Err(GatewayError::Internal("it was done once more".to_owned())) };
        let second = once(&core, &merchant(1), Some(key(1)), None, nothing).await.unwrap();
        assert_eq!((second.replayed, second.answer), (true, first.answer));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_never_answered_is_kept_until_its_payment_is_decided() {
        let core = core();
        let Ok(Known::New(reservation)) = look_up(&core, &merchant(1), Some(&key(1))) else {
            panic!("the key is new");
        };
        let mut batch = Batch::new();
        reservation.begin(&mut batch, "PY1", core.clock.now()).unwrap();
        core.store.commit(batch).await.unwrap();
        start_counted(&core, |_| {});
        tokio::time::sleep(95 * HOUR).await;
        assert_eq!(rows(&core), 1);
        tokio::time::sleep(2 * HOUR).await;
        assert_eq!(rows(&core), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_cant_be_read_and_one_that_is_used_again_keep_no_other() {
        let core = core();
        for number in 0..10 {
            answer(&core, number).await;
        }
        let mut batch = Batch::new();
        // The first of all keys, so that everything else comes after it.
        let unreadable = keys::idempotency(&MerchantId::new("m_"), 0);
        batch.put(unreadable.clone(), b"?".to_vec());
        core.store.commit(batch).await.unwrap();
        tokio::time::sleep(25 * HOUR).await;
        let keeper = Keeper { core: core.clone(), unreadable: UnreadableRows::default(), counted: Box::new(|_| {}) };
        let page = core.store.scan(&Scan::prefix(&keys::idempotencies(), 100)).unwrap();
        let readable = page.iter().filter(|row| row.key != unreadable).take(5);
        let old = (0..).zip(readable).map(|(place, row)| {
            let revision = row.versioned.revision + if [0, 3].contains(&place) { 1_000 } else { 0 };
            Removal::of_row(row.key.clone(), revision)
        });
        assert_eq!(keeper.remove(old.collect()).await.unwrap(), 3);
        assert_eq!(keeper.pass(Kind::Answers).await.unwrap(), 7);
        assert_eq!(core.store.scan(&Scan::prefix(&keys::idempotencies(), 100)).unwrap()[0].key, unreadable);
        assert_eq!(rows(&core), 1);
    }

    fn core_with_days(events_days: u64, notifications_days: u64, dead_letters_days: u64) -> Core {
        let mut config = Config::embedded().unwrap();
        config.retention =
            RetentionConfig { events_days, notifications_days, dead_letters_days, customer_data_days: 0 };
        Core { config: Arc::new(config), ..core() }
    }

    async fn tell(core: &Core, merchant_number: usize, number: usize) {
        let (merchant_id, now) = (merchant(merchant_number), core.clock.now());
        let body = || serde_json::value::RawValue::from_string("{}".to_owned()).unwrap();
        let event = Event {
            id: EventId::new(format!("ev_{number}")),
            name: EventName::PaymentSuccess,
            object_no: None,
            amount_minor: 1,
            currency: None,
            at: now,
            body: body(),
        };
        let new = NewNotification {
            id: NotificationId::new(format!("wn_{number:05}")),
            merchant_id: merchant_id.clone(),
            endpoint_id: EndpointId::new(format!("we_{merchant_number}")),
            url: "https://shop.example/hook".to_owned(),
            event: EventName::PaymentSuccess,
            object_no: None,
            order_no: None,
            body: body(),
            amount_minor: 1,
            class: Default::default(),
            max_attempts: 3,
            trace: None,
        };
        let mut notification = Notification::new(new, now);
        match number % 3 {
            0 => (notification.status, notification.succeeded_at) = (NotificationStatus::Success, Some(now)),
            1 => {
                (notification.status, notification.failed_at) = (NotificationStatus::Failed, Some(now));
                notification.failure = Some(Failure::Exhausted);
            }
            _ => {}
        }
        let mut batch = Batch::new();
        batch.append(keys::events_of(&merchant_id), encode(&event).unwrap());
        let _ = rows::change(&mut batch, None, &notification).unwrap();
        core.store.commit(batch).await.unwrap();
    }

    fn count(core: &Core, prefix: &[u8]) -> usize {
        core.store.scan(&Scan::prefix(prefix, 10_000)).unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn events_and_ended_notifications_go_after_their_days_and_what_is_on_its_way_stays() {
        let core = core_with_days(3, 1, 3);
        start_counted(&core, |_| {});
        // Of one merchant more than a page.
        for number in 0..PAGE_ROWS * 2 {
            tell(&core, 0, number).await;
        }
        for number in 0..30 {
            tell(&core, 1 + number % 2, number).await;
        }
        let all = PAGE_ROWS * 2 + 30;
        let on_its_way = (0..PAGE_ROWS * 2).chain(0..30).filter(|number| number % 3 == 2).count();
        let given_up = (0..PAGE_ROWS * 2).chain(0..30).filter(|number| number % 3 == 1).count();
        tokio::time::sleep(23 * HOUR).await;
        for number in 1_000..1_003 {
            tell(&core, 0, number).await;
        }
        assert_eq!((count(&core, &keys::events()), count(&core, &keys::notifications())), (all + 3, all + 3));
        tokio::time::sleep(2 * HOUR).await;
        assert_eq!(count(&core, &keys::events()), all + 3);
        assert_eq!(count(&core, &keys::notifications()), on_its_way + given_up + 3, "what was taken is gone");
        assert_eq!(count(&core, &keys::dead_letters()), given_up + 1);
        tokio::time::sleep(48 * HOUR).await;
        assert_eq!(count(&core, &keys::events()), 3, "the later ones are left");
        assert_eq!(count(&core, &keys::notifications()), on_its_way + 2, "of the later ones one was taken long ago");
        assert_eq!(count(&core, &keys::dead_letters()), 1, "they go with their notifications");
        tokio::time::sleep(23 * HOUR).await;
        assert_eq!(count(&core, &keys::events()), 0);
        assert_eq!(count(&core, &keys::notifications()), on_its_way + 1);
        // Numbers go on where they were.
        tell(&core, 0, 2_000).await;
        let event = core.store.scan(&Scan::prefix(&keys::events(), 1)).unwrap().remove(0);
        assert_eq!(keys::event_number(&event.key), Some(PAGE_ROWS as u64 * 2 + 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_letter_that_was_sent_again_by_itself_is_no_younger_for_that() {
        let core = core_with_days(3, 30, 7);
        start_counted(&core, |_| {});
        tell(&core, 0, 2).await;
        let row = || core.store.scan(&Scan::prefix(&keys::notifications(), 1)).unwrap().pop();
        let step = async |change: fn(Notification, Timestamp) -> Notification| {
            let row = row().unwrap();
            let before: Notification = decode(&row.versioned.value).unwrap();
            let mut batch = Batch::new();
            let after = change(before.clone(), core.clock.now());
            let _ = rows::change(&mut batch, Some((&before, row.versioned.revision)), &after).unwrap();
            core.store.commit(batch).await.unwrap();
        };
        let end: fn(Notification, Timestamp) -> Notification =
            |row, now| row.end(Ending::EndpointDisabled, now).unwrap();
        step(end).await;
        for _ in 0..6 {
            tokio::time::sleep(24 * HOUR).await;
            step(|row, now| row.begin_anew(3, Anew::Sweep, now).unwrap()).await;
            step(end).await;
        }
        tokio::time::sleep(22 * HOUR).await;
        assert!(row().is_some());
        // Asked for, it is.
        step(|row, now| row.begin_anew(3, Anew::Recover, now).unwrap()).await;
        step(end).await;
        tokio::time::sleep(6 * 24 * HOUR).await;
        step(|row, now| row.begin_anew(3, Anew::Sweep, now).unwrap()).await;
        step(end).await;
        tokio::time::sleep(23 * HOUR).await;
        assert!(row().is_some());
        tokio::time::sleep(2 * HOUR).await;
        assert!(row().is_none());
        assert_eq!(count(&core, &keys::dead_letters()), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_providers_have_told_goes_days_after_it_was_gone_into() {
        let core = core();
        start_counted(&core, |_| {});
        let channel = ChannelName::new("stripe");
        let put = async |number: usize, handled_at: Option<Timestamp>| {
            let row = InboxRow {
                received_at: core.clock.now(),
                event: "x".to_owned(),
                subjects: Vec::new(),
                dispute: None,
                handled_at,
                outcome: None,
                tries: 0,
            };
            let mut batch = Batch::new();
            batch.put(keys::inbox(&channel, &format!("evt_{number}")), encode(&row).unwrap());
            core.store.commit(batch).await.unwrap();
        };
        for number in 0..PAGE_ROWS + 10 {
            put(number, Some(core.clock.now())).await;
        }
        // One that is still to be gone into stays, however old it is.
        put(1_000, None).await;
        tokio::time::sleep(6 * 24 * HOUR).await;
        put(1_001, Some(core.clock.now())).await;
        assert_eq!(count(&core, &keys::inboxes()), PAGE_ROWS + 12);
        tokio::time::sleep(25 * HOUR).await;
        assert_eq!(count(&core, &keys::inboxes()), 2);
        tokio::time::sleep(7 * 24 * HOUR).await;
        assert_eq!(count(&core, &keys::inboxes()), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn zero_days_are_for_ever() {
        let core = core_with_days(0, 0, 0);
        start_counted(&core, |_| {});
        for number in 0..9 {
            tell(&core, 0, number).await;
        }
        tokio::time::sleep(240 * HOUR).await;
        assert_eq!((count(&core, &keys::events()), count(&core, &keys::notifications())), (9, 9));
    }

    #[test]
    fn a_pass_rests_in_proportion_to_its_work() {
        assert_eq!(rest_after(Duration::ZERO), REST_MIN);
        assert_eq!(rest_after(Duration::from_millis(20)), Duration::from_millis(60));
        // Twice the rest, since timers are that coarse.
        let day_of_500_a_second = 500 * 86_400 / u32::try_from(PAGE_ROWS).unwrap();
        assert!(REST_MIN * 2 * day_of_500_a_second < PASS_INTERVAL);
    }
}
