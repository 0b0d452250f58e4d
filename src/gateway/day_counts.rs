//! What began on channels today, counted again from the stored payments and pre-auths. After a kill the file with what is
//! known of channels lacks what began since it was written; a day's cap has to hold all the same.
//!
//! Their numbers begin with the time at which they were made, so that only today's are read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::actors::router::CountedDays;
use crate::domain::ids::{ChannelName, MerchantId, PRE_AUTH_NO_PREFIX, PaymentNo, PreAuthNo};
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

/// Rows that say what began on channels.
trait Begun: Record {
    /// What their numbers begin with.
    const NUMBER_PREFIX: &'static str;

    /// Prefix of all of them.
    fn rows() -> Vec<u8>;

    /// Prefix of a merchant's.
    fn rows_of(merchant_id: &MerchantId) -> Vec<u8>;

    /// The row of a number.
    fn row(merchant_id: &MerchantId, number: &str) -> Vec<u8>;

    /// How much each of what began is about.
    fn money(&self) -> Money;

    /// On which channel something began, and when.
    fn begun(&self) -> impl Iterator<Item = (&ChannelName, Timestamp)>;
}

/// Of a payment's row, what counts here.
#[derive(Serialize, Deserialize)]
struct SentPayment {
    terms: SentTerms,
    attempts: Vec<SentAttempt>,
}

/// Of a pre-auth's row, what counts here. It is given to its channel as soon as it is stored.
#[derive(Serialize, Deserialize)]
struct SentPreAuth {
    terms: SentTerms,
    channel: ChannelName,
    created_at: Timestamp,
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

impl Record for SentPayment {
    const NAME: &'static str = "payment";
}

impl Record for SentPreAuth {
    const NAME: &'static str = "pre-auth";
}

impl Begun for SentPayment {
    const NUMBER_PREFIX: &'static str = "PY";

    fn rows() -> Vec<u8> {
        keys::payments()
    }

    fn rows_of(merchant_id: &MerchantId) -> Vec<u8> {
        keys::payments_of(merchant_id)
    }

    fn row(merchant_id: &MerchantId, number: &str) -> Vec<u8> {
        keys::payment(merchant_id, &PaymentNo::new(number))
    }

    fn money(&self) -> Money {
        self.terms.money
    }

    fn begun(&self) -> impl Iterator<Item = (&ChannelName, Timestamp)> {
        self.attempts.iter().map(|attempt| (&attempt.channel, attempt.sent_at))
    }
}

impl Begun for SentPreAuth {
    const NUMBER_PREFIX: &'static str = PRE_AUTH_NO_PREFIX;

    fn rows() -> Vec<u8> {
        keys::pre_auths()
    }

    fn rows_of(merchant_id: &MerchantId) -> Vec<u8> {
        keys::pre_auths_of(merchant_id)
    }

    fn row(merchant_id: &MerchantId, number: &str) -> Vec<u8> {
        keys::pre_auth(merchant_id, &PreAuthNo::new(number))
    }

    fn money(&self) -> Money {
        self.terms.money
    }

    fn begun(&self) -> impl Iterator<Item = (&ChannelName, Timestamp)> {
        std::iter::once((&self.channel, self.created_at))
    }
}

/// Counts all that was stored of what began on channels, from today (UTC) on. Nothing may be stored meanwhile.
///
/// # Errors
/// When the store can't be read.
pub(super) async fn count(core: &Core, setup: &RoutingSetup) -> Result<CountedDays, GatewayError> {
    let (began, today) = (core.clock.monotonic(), Day::of(core.clock.now()));
    let mut counting = Counting { core, setup, today, counted: CountedDays::since(today.start()) };
    let payments = counting.count_all::<SentPayment>().await?;
    let pre_auths = counting.count_all::<SentPreAuth>().await?;
    let took_ms = u64::try_from(core.clock.monotonic().since(began).as_millis()).unwrap_or(u64::MAX);
    tracing::info!(payments, pre_auths, took_ms, "counted what began on channels today");
    Ok(counting.counted)
}

struct Counting<'a> {
    core: &'a Core,
    setup: &'a RoutingSetup,
    today: Day,
    counted: CountedDays,
}

impl Counting<'_> {
    /// Counts those of all merchants; returns how many rows that were.
    async fn count_all<B: Begun>(&mut self) -> Result<u64, GatewayError> {
        let first_number = format!("{}{}", B::NUMBER_PREFIX, self.today.start().minus(GIVEN_WITHIN).compact());
        let (mut start, end, mut rows) = (B::rows(), prefix_end(&B::rows()), 0);
        loop {
            let next = Scan { start, end: end.clone(), limit: 1, reverse: false };
            let Some(row) = self.core.store.scan(&next)?.into_iter().next() else { return Ok(rows) };
            let prefix = keys::of_one_merchant(&row.key);
            let Some((merchant_id, behind)) = keys::merchant_of(prefix).zip(prefix_end(prefix)) else {
                return Ok(rows);
            };
            rows += self.count_of::<B>(&merchant_id, &first_number).await?;
            start = behind;
        }
    }

    async fn count_of<B: Begun>(&mut self, merchant_id: &MerchantId, first: &str) -> Result<u64, GatewayError> {
        let unreadable = UnreadableRows::default();
        let mut scan = Scan::prefix(&B::rows_of(merchant_id), PAGE_ROWS);
        scan.start = B::row(merchant_id, first);
        let mut rows = 0;
        loop {
            let page = self.core.store.scan(&scan)?;
            for row in &page {
                match decode::<B>(&row.versioned.value) {
                    Ok(begun) => {
                        rows += 1;
                        self.add(&begun);
                    }
                    Err(error) => drop(unreadable.report(&row.key, error)),
                }
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE_ROWS) else { return Ok(rows) };
            scan.start.clone_from(&last.key);
            scan.start.push(0);
            tokio::task::yield_now().await;
        }
    }

    fn add(&mut self, begun: &impl Begun) {
        let amount_minor = self.setup.in_settlement_currency(begun.money()).unwrap_or(0);
        for (channel, at) in begun.begun() {
            self.counted.add(channel, at, amount_minor);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

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
        Core::new(
            Arc::new(MemoryStore::new()),
            clock,
            random.clone(),
            Config::embedded().unwrap(),
            Vault::with_key(&[7; 32], random),
        )
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
        let row = json!({ "terms": { "money": money }, "attempts": attempts });
        let row: SentPayment = serde_json::from_value(row).unwrap();
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
    async fn store_pre_auth(core: &Core, merchant: &str, made_at: Timestamp, draw: u64) {
        let row = json!({ "terms": { "money": { "amount_minor": 1_000, "currency": "USD" } }, "channel": "stripe",
            "created_at": made_at, "status": "a field that is not needed" });
        let row: SentPreAuth = serde_json::from_value(row).unwrap();
        let number = PreAuthNo::new(dated_number(PRE_AUTH_NO_PREFIX, made_at, draw));
        let mut batch = Batch::new();
        batch.put(keys::pre_auth(&MerchantId::new(merchant), &number), encode(&row).unwrap());
        core.store.commit(batch).await.unwrap();
    }

    #[tokio::test]
    async fn pre_auths_of_today_count_as_payments_do() {
        let core = core();
        store_pre_auth(&core, "m_1", Timestamp::from_unix_ms(MIDNIGHT.unix_ms() - 1), 1).await;
        store_pre_auth(&core, "m_1", MIDNIGHT, 2).await;
        // Of a merchant who has no payments, and more than a page.
        for number in 0..300 {
            store_pre_auth(&core, "m_2", MIDNIGHT.plus(Duration::from_secs(number)), number).await;
        }
        store(&core, "m_1", NOON, 3, "USD", &[("stripe", 0)]).await;
        let mut batch = Batch::new();
        batch.put(keys::pre_auth(&MerchantId::new("m_3"), &PreAuthNo::new("PA29990101")), b"\x01{".to_vec());
        core.store.commit(batch).await.unwrap();
        let setup = setup_from_config(&core.config, &Default::default()).unwrap();
        let counted = count(&core, &setup).await.unwrap();
        let days: Vec<_> = counted.of(&ChannelName::new("stripe")).collect();
        assert_eq!(days.len(), 1, "{days:?}");
        assert_eq!((days[0].payments, days[0].amount_minor), (302, 302_000));
    }
}
