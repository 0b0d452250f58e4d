//! Takes away what has been kept long enough: answers under idempotency keys. In the background, a page at a time, so
//! that nobody waits for it.

use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::IdempotencyRecord;
use crate::storage::record::decode;
use crate::storage::{Batch, Row, Scan, StoreError, keys, prefix_end};

/// From the end of one pass over all keys to the beginning of the next.
const PASS_INTERVAL: Duration = Duration::from_secs(600);
/// Between two pages, so that a pass takes little of the disk and the processor.
const PAGE_PAUSE: Duration = Duration::from_millis(50);
/// Rows read and taken away at once.
const PAGE_ROWS: usize = 128;

/// Starts it; it ends when the gateway stops.
pub(super) fn start(core: &Core) {
    let keeper = core.clone();
    core.tasks.spawn(async move {
        let stopping = keeper.stopping.clone();
        let passes = async {
            loop {
                tokio::time::sleep(PASS_INTERVAL).await;
                match pass(&keeper).await {
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

/// Goes over all keys once; answers how many it took away.
async fn pass(core: &Core) -> Result<usize, GatewayError> {
    let prefix = keys::idempotencies();
    let mut scan = Scan { start: prefix.clone(), end: prefix_end(&prefix), limit: PAGE_ROWS, reverse: false };
    let mut removed = 0;
    loop {
        let page = core.store.scan(&scan)?;
        removed += remove_old(core, &page).await?;
        let Some(last) = page.last().filter(|_| page.len() == PAGE_ROWS) else { return Ok(removed) };
        // The first key after it.
        scan.start = [last.key.as_slice(), &[0]].concat();
        tokio::time::sleep(PAGE_PAUSE).await;
    }
}

async fn remove_old(core: &Core, page: &[Row]) -> Result<usize, GatewayError> {
    let now = core.clock.now();
    let mut batch = Batch::new();
    for row in page {
        if is_old(core, row, now)? {
            batch.expect(row.key.clone(), row.versioned.revision);
            batch.delete(row.key.clone());
        }
    }
    let count = batch.writes.len();
    if count == 0 {
        return Ok(0);
    }
    match core.store.commit(batch).await {
        Ok(_) => Ok(count),
        // Somebody uses one of them again; the next pass takes the others.
        Err(StoreError::Precondition { .. }) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// An answer is kept as long as the configuration says. A request that was never answered is kept until its payment is
/// decided or in a person's hands, and as long again.
fn is_old(core: &Core, row: &Row, now: Timestamp) -> Result<bool, GatewayError> {
    let record: IdempotencyRecord = decode(&row.versioned.value)?;
    let payments = &core.config.payments;
    let keep_s = match record.answer {
        Some(_) => payments.idempotency_keep_s,
        None => payments.needs_review_after_s.saturating_add(payments.idempotency_keep_s),
    };
    Ok(now.since(record.at).as_secs() >= keep_s)
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
}
