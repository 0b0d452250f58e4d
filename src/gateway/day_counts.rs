//! What began on channels today, counted again from the stored payments. After a kill the file with what is known of channels
//! lacks what began since it was written; a day's cap has to hold all the same.
//!
//! Payments' numbers begin with the time at which they were made, so that only today's are read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::actors::router::CountedDays;
use crate::domain::ids::{ChannelName, MerchantId, PaymentNo};
use crate::domain::money::Money;
use crate::domain::routing::RoutingSetup;
use crate::domain::time::{Day, Timestamp};
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::storage::record::{Record, decode};
use crate::storage::unreadable::UnreadableRows;
use crate::storage::{Scan, keys, prefix_end};

/// Rows read at once.
const PAGE_ROWS: usize = 256;
/// A payment is given to its last channel at the latest this long after it was made: its client waits for it. With room
/// for a clock that is corrected meanwhile.
const GIVEN_WITHIN: Duration = Duration::from_secs(60 * 60);

/// Of a payment's row, what counts here.
#[derive(Serialize, Deserialize)]
struct Sent {
    terms: SentTerms,
    attempts: Vec<SentAttempt>,
}

#[derive(Serialize, Deserialize)]
struct SentTerms {
    money: Money,
}

#[derive(Serialize, Deserialize)]
struct SentAttempt {
    channel: ChannelName,
    sent_at: Timestamp,
}

impl Record for Sent {
    const NAME: &'static str = "payment";
}

/// Counts every attempt that was stored, from today (UTC) on. Nothing may be stored meanwhile.
///
/// # Errors
/// When the store can't be read.
pub(super) async fn count(core: &Core, setup: &RoutingSetup) -> Result<CountedDays, GatewayError> {
    let (began, today) = (core.clock.monotonic(), Day::of(core.clock.now()));
    let first_number = PaymentNo::new(format!("PY{}", today.start().minus(GIVEN_WITHIN).compact()));
    let mut counting = Counting { core, setup, counted: CountedDays::since(today.start()), payments: 0 };
    let (mut start, end) = (keys::payments(), prefix_end(&keys::payments()));
    loop {
        let next = Scan { start, end: end.clone(), limit: 1, reverse: false };
        let Some(row) = core.store.scan(&next)?.into_iter().next() else { break };
        let prefix = keys::of_one_merchant(&row.key);
        let Some((merchant_id, behind)) = keys::merchant_of(prefix).zip(prefix_end(prefix)) else { break };
        counting.count_of(&merchant_id, &first_number).await?;
        start = behind;
    }
    let took_ms = u64::try_from(core.clock.monotonic().since(began).as_millis()).unwrap_or(u64::MAX);
    tracing::info!(payments = counting.payments, took_ms, "counted what began on channels today");
    Ok(counting.counted)
}

struct Counting<'a> {
    core: &'a Core,
    setup: &'a RoutingSetup,
    counted: CountedDays,
    payments: u64,
}

impl Counting<'_> {
    async fn count_of(&mut self, merchant_id: &MerchantId, first: &PaymentNo) -> Result<(), GatewayError> {
        let unreadable = UnreadableRows::default();
        let mut scan = Scan::prefix(&keys::payments_of(merchant_id), PAGE_ROWS);
        scan.start = keys::payment(merchant_id, first);
        loop {
            let page = self.core.store.scan(&scan)?;
            for row in &page {
                match decode::<Sent>(&row.versioned.value) {
                    Ok(sent) => self.add(&sent),
                    Err(error) => drop(unreadable.report(&row.key, error)),
                }
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE_ROWS) else { return Ok(()) };
            scan.start.clone_from(&last.key);
            scan.start.push(0);
            tokio::task::yield_now().await;
        }
    }

    fn add(&mut self, sent: &Sent) {
        self.payments += 1;
        let amount_minor = self.setup.in_settlement_currency(sent.terms.money).unwrap_or(0);
        for attempt in &sent.attempts {
            self.counted.add(&attempt.channel, attempt.sent_at, amount_minor);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::actors::router::setup_from_config;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::domain::ids::dated_number;
    use crate::random::Random;
    use crate::storage::Batch;
    use crate::storage::memory::MemoryStore;
    use crate::storage::record::encode;
    use crate::storage::vault::Vault;

    const MIDNIGHT: Timestamp = Timestamp::from_unix_s(1_790_035_200);
    const NOON: Timestamp = Timestamp::from_unix_s(1_790_078_400);

    fn core() -> Core {
        let (clock, random) = (Clock::manual(NOON), Random::seeded(1));
        Core {
            store: Arc::new(MemoryStore::new()),
            clock,
            random: random.clone(),
            config: Arc::new(Config::embedded().unwrap()),
            vault: Arc::new(Vault::with_key(&[7; 32], random)),
            figures: Default::default(),
            told: Default::default(),
            audit_turn: Default::default(),
            clock_guard: Default::default(),
            countries: Default::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
    }

    async fn store(core: &Core, merchant: &str, made_at: Timestamp, draw: u64, currency: &str, sent: &[(&str, i64)]) {
        let attempts: Vec<_> = sent
            .iter()
            .map(|(channel, later_ms)| {
                let sent_at = Timestamp::from_unix_ms(made_at.unix_ms() + later_ms);
                json!({ "channel": channel, "sent_at": sent_at, "provider_key": "a field that is not needed" })
            })
            .collect();
        let money = json!({ "amount_minor": 1_000, "currency": currency });
        let row: Sent = serde_json::from_value(json!({ "terms": { "money": money }, "attempts": attempts })).unwrap();
        let key = keys::payment(&MerchantId::new(merchant), &PaymentNo::new(dated_number("PY", made_at, draw)));
        let mut batch = Batch::new();
        batch.put(key, encode(&row).unwrap());
        core.store.commit(batch).await.unwrap();
    }

    #[tokio::test]
    async fn every_stored_attempt_of_today_counts_on_its_own_channel() {
        assert_eq!(Day::of(NOON).start(), MIDNIGHT);
        let core = core();
        let before = |ms: i64| Timestamp::from_unix_ms(MIDNIGHT.unix_ms() - ms);
        // Yesterday's, and one that was passed on after midnight.
        store(&core, "m_1", before(86_400_000), 1, "USD", &[("stripe", 0)]).await;
        store(&core, "m_1", before(1), 2, "USD", &[("stripe", 0)]).await;
        store(&core, "m_1", before(4_000), 3, "USD", &[("stripe", 0), ("alipay", 4_000)]).await;
        // Today's: of several merchants, more than a page, passed on, one in a currency without a rate.
        store(&core, "m_2", MIDNIGHT, 4, "USD", &[("stripe", 0), ("alipay", 900)]).await;
        for number in 0..600 {
            store(&core, "m_3", MIDNIGHT.plus(Duration::from_secs(number)), number, "USD", &[("stripe", 0)]).await;
        }
        store(&core, "m_4", NOON, 5, "ISK", &[("alipay", 0)]).await;
        let mut batch = Batch::new();
        batch.put(keys::payment(&MerchantId::new("m_5"), &PaymentNo::new("PY29990101")), b"\x01{".to_vec());
        core.store.commit(batch).await.unwrap();

        let mut setup = setup_from_config(&core.config, &Default::default()).unwrap();
        setup.rates.remove(&"ISK".parse().unwrap());
        let counted = count(&core, &setup).await.unwrap();
        let of = |channel: &str| {
            let days: Vec<_> = counted.of(&ChannelName::new(channel)).collect();
            assert_eq!(days.len(), 1, "{days:?}");
            (days[0].payments, days[0].amount_minor)
        };
        assert_eq!(of("stripe"), (601, 601_000));
        assert_eq!(of("alipay"), (3, 2_000));
        assert_eq!(counted.of(&ChannelName::new("nobody")).count(), 0);
    }
}
