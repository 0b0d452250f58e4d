//! Takes away what has been kept long enough: answers under idempotency keys. In the background, a page at a time, so
//! that nobody waits for it.

use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::IdempotencyRecord;
use crate::storage::record::decode;
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

/// Starts it; it ends when the gateway stops.
pub(super) fn start(core: &Core) {
    let keeper = Keeper { core: core.clone(), unreadable: UnreadableRows::default() };
    core.tasks.spawn(async move {
        let stopping = keeper.core.stopping.clone();
        let passes = async {
            loop {
                tokio::time::sleep(PASS_INTERVAL).await;
                match keeper.pass().await {
                    Ok(0) => {}
                    Ok(removed) => tracing::debug!(removed, "idempotency keys were kept long enough"),
                    Err(error) => tracing::warn!(%error, "old idempotency keys were not taken away; tried again later"),
                }
            }
        };
        // Cut off anywhere, a pass has done what it has done.
        stopping.run_until_cancelled(passes).await;
    });
}

/// A row as it was found.
struct Found {
    key: Vec<u8>,
    revision: u64,
}

struct Keeper {
    core: Core,
    unreadable: UnreadableRows,
}

impl Keeper {
    /// Goes over all keys once; answers how many it took away.
    async fn pass(&self) -> Result<usize, GatewayError> {
        let prefix = keys::idempotencies();
        let mut scan = Scan { start: prefix.clone(), end: prefix_end(&prefix), limit: PAGE_ROWS, reverse: false };
        let mut removed = 0;
        let mut old = Vec::new();
        loop {
            let began = self.core.clock.monotonic();
            let page = self.core.store.scan(&scan)?;
            let now = self.core.clock.now();
            old.extend(page.iter().filter(|row| self.is_old(row, now)).map(found));
            let took = self.core.clock.monotonic().since(began);
            let Some(last) = page.last().filter(|_| page.len() == PAGE_ROWS) else { break };
            // The first key after it.
            scan.start = [last.key.as_slice(), &[0]].concat();
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

    /// Takes rows away, all but those that somebody has used again since they were found.
    async fn remove(&self, mut old: Vec<Found>) -> Result<usize, GatewayError> {
        // Each turn has one row less.
        while !old.is_empty() {
            let mut batch = Batch::new();
            for row in &old {
                batch.expect(row.key.clone(), row.revision);
                batch.delete(row.key.clone());
            }
            match self.core.store.commit(batch).await {
                Ok(_) => return Ok(old.len()),
                Err(StoreError::Precondition { index }) if index < old.len() => drop(old.swap_remove(index)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(0)
    }

    /// An answer is kept as long as the configuration says. A request that was never answered is kept until its payment
    /// is decided or in a person's hands, and as long again. What can't be read is kept.
    fn is_old(&self, row: &Row, now: Timestamp) -> bool {
        let record: IdempotencyRecord = match decode(&row.versioned.value) {
            Ok(record) => record,
            Err(error) => {
                self.unreadable.report(&row.key, error);
                return false;
            }
        };
        let payments = &self.core.config.payments;
        let keep_s = match record.answer {
            Some(_) => payments.idempotency_keep_s,
            None => payments.needs_review_after_s.saturating_add(payments.idempotency_keep_s),
        };
        now.since(record.at).as_secs() >= keep_s
    }
}

fn found(row: &Row) -> Found {
    Found { key: row.key.clone(), revision: row.versioned.revision }
}

/// How long a pass rests after a page.
fn rest_after(took: Duration) -> Duration {
    (took * REST_FACTOR).max(REST_MIN)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::domain::ids::MerchantId;
    use crate::gateway::answer::StoredAnswer;
    use crate::gateway::idempotency::{IdempotencyKey, Known, look_up, once};
    use crate::random::Random;
    use crate::storage::memory::MemoryStore;
    use crate::storage::vault::Vault;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn core() -> Core {
        let random = Random::seeded(1);
        Core {
            store: Arc::new(MemoryStore::new()),
            clock: Clock::virtual_from(Timestamp::from_unix_s(1_737_715_200)),
            random: random.clone(),
            config: Arc::new(Config::embedded().unwrap()),
            vault: Arc::new(Vault::with_key(&[7; 32], random)),
            told: Default::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
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
        start(&core);
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
    async fn what_was_never_answered_is_kept_until_its_payment_is_decided() {
        let core = core();
        let Ok(Known::New(reservation)) = look_up(&core, &merchant(1), Some(&key(1))) else {
            panic!("the key is new");
        };
        let mut batch = Batch::new();
        reservation.begin(&mut batch, "PY1", core.clock.now()).unwrap();
        core.store.commit(batch).await.unwrap();
        start(&core);
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
        let keeper = Keeper { core: core.clone(), unreadable: UnreadableRows::default() };
        let page = core.store.scan(&Scan::prefix(&keys::idempotencies(), 100)).unwrap();
        let mut old: Vec<Found> = page.iter().filter(|row| row.key != unreadable).take(5).map(found).collect();
        old[0].revision += 1_000;
        old[3].revision += 1_000;
        assert_eq!(keeper.remove(old).await.unwrap(), 3);
        assert_eq!(keeper.pass().await.unwrap(), 7);
        assert_eq!(core.store.scan(&Scan::prefix(&keys::idempotencies(), 100)).unwrap()[0].key, unreadable);
        assert_eq!(rows(&core), 1);
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
