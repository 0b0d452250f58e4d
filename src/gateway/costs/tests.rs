//! Sums of costs over stores of payments.

use std::path::Path;

use super::*;
use crate::actors::router::setup_from_config;
use crate::actors::supervisor::{RestartBudget, Supervisor};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::ids::{MerchantId, PaymentNo, RefundNo};
use crate::domain::payment::{Attempt, PaymentTerms, Refund};
use crate::domain::routing::{DecisionRecord, RouteRequest};
use crate::gateway::money_figures::MoneyFigures;
use crate::gateway::payments::rows::{self, StoredPayment};
use crate::random::Random;
use crate::storage::memory::MemoryStore;
use crate::storage::vault::Vault;
use crate::storage::whole_file::DirectoryFiles;
use crate::storage::{CommitFuture, Health, Store, Versioned};

/// 2026-09-21T14:13:20Z
const START: Timestamp = Timestamp::from_unix_s(1_790_000_000);

fn core(store: &Arc<dyn Store>, clock: &Clock) -> Core {
    let random = Random::seeded(1);
    Core::new(
        Arc::clone(store),
        clock.clone(),
        random.clone(),
        Config::embedded().unwrap(),
        Vault::with_key(&[7; 32], random),
    )
}

async fn costs(store: &Arc<dyn Store>, clock: &Clock) -> Costs {
    costs_with(store, clock, |_| {}).await
}

async fn costs_with(store: &Arc<dyn Store>, clock: &Clock, change: impl FnOnce(&mut Config)) -> Costs {
    let mut config = Config::embedded().unwrap();
    change(&mut config);
    let core = Core { config: Arc::new(config), ..core(store, clock) };
    let supervisor = Supervisor::start(RestartBudget::default(), clock.clone()).await.unwrap();
    let setup = setup_from_config(&core.config, &BTreeMap::new()).unwrap();
    let router = RouterHandle::start(setup, clock.clone(), &supervisor).await.unwrap();
    let money = MoneyFigures::new(&core.figures, core.config.channels.keys(), Currency::USD).unwrap();
    Costs::new(core, router, money)
}

async fn opened(store: &Arc<dyn Store>, clock: &Clock, directory: &Path) -> Costs {
    let costs = costs(store, clock).await;
    let files = Arc::new(DirectoryFiles::new(directory));
    costs.open(files, DiskWork::InPlace, store.health().committed).await.unwrap();
    costs
}

/// A payment that is being carried, on a channel whose fee is 60 where Stripe's would be 320.
fn payment(number: usize) -> Payment {
    let channel = ChannelName::new("alipay");
    let mut decision = DecisionRecord::adopted(channel.clone(), Currency::USD);
    decision.channels[0].fee_minor = Some(60);
    let mut stripe = decision.channels[0].clone();
    (stripe.channel, stripe.fee_minor) = (ChannelName::new("stripe"), Some(320));
    decision.channels.push(stripe);
    let attempt = Attempt {
        channel,
        provider_key: String::new(),
        decision,
        sent_at: START,
        refs: Default::default(),
        unanswered_at: None,
        offered_at: None,
        money_sent_at: None,
        outcome: None,
        failure: None,
        failover: None,
    };
    let terms: PaymentTerms = serde_json::from_value(serde_json::json!({
        "order_no": format!("O-{number}"), "money": { "amount_minor": 10_000, "currency": "USD" },
    }))
    .unwrap();
    Payment {
        payment_no: PaymentNo::new(format!("PY{number:06}")),
        merchant_id: MerchantId::new(format!("m_{}", number % 3)),
        terms,
        status: PaymentStatus::Processing,
        reconciling: false,
        cancel_requested: false,
        attempts: vec![attempt],
        refunds: Vec::new(),
        strays: Vec::new(),
        disputes: Vec::new(),
        next_action: None,
        fee_minor: Some(60),
        fee_reported: false,
        resolve_tries: 0,
        known_at: None,
        event_count: 0,
        due_at: None,
        expires_at: None,
        created_at: START,
        updated_at: START,
        paid_at: None,
        erased_at: None,
    }
}

fn paid(number: usize, at: Timestamp) -> Payment {
    Payment { status: PaymentStatus::Success, paid_at: Some(at), ..payment(number) }
}

fn refunded(before: &Payment, amount_minor: i64) -> Payment {
    let mut payment = before.clone();
    payment.refunds.push(Refund {
        refund_no: RefundNo::new(format!("RF{}-{}", payment.payment_no, payment.refunds.len())),
        amount_minor,
        status: RefundStatus::Success,
        reason: None,
        provider_key: String::new(),
        channel_refund_no: None,
        failure: None,
        resolve_tries: 0,
        unanswered_at: None,
        known_at: None,
        created_at: START,
        updated_at: START,
    });
    payment
}

async fn insert(store: &Arc<dyn Store>, payment: Payment) -> StoredPayment {
    let mut batch = Batch::new();
    rows::insert(&mut batch, &payment).unwrap();
    let revision = store.commit(batch).await.unwrap().sequence;
    StoredPayment { payment, revision }
}

async fn change(costs: &Costs, before: &StoredPayment, after: Payment) -> StoredPayment {
    let mut batch = Batch::finishing();
    rows::replace(&mut batch, before, &after).unwrap();
    let committed = costs.commit(batch, Some(&before.payment), &after).await.unwrap();
    StoredPayment { payment: after, revision: committed.sequence }
}

fn days(costs: &Costs) -> Days {
    let mut days = costs.0.sums.lock().days.clone();
    for cells in days.values_mut() {
        cells.retain(|_, cell| *cell != Cell::default());
    }
    days.retain(|_, cells| !cells.is_empty());
    days
}

fn only(costs: &Costs) -> CostRowView {
    let view = costs.view(&CostsFilter::default(), &PageRequest::default()).unwrap();
    assert!(view.complete);
    let [row] = view.items.try_into().unwrap();
    row
}

#[tokio::test]
async fn a_payment_counts_when_it_is_charged_and_again_as_it_changes() {
    let (store, clock) = (Arc::new(MemoryStore::new()) as Arc<dyn Store>, Clock::virtual_from(START));
    let directory = tempfile::tempdir().unwrap();
    let costs = opened(&store, &clock, directory.path()).await;
    let first = insert(&store, payment(1)).await;
    assert_eq!(days(&costs), Days::new());
    let first = change(&costs, &first, paid(1, START)).await;
    let row = only(&costs);
    assert_eq!(
        (row.day.as_deref(), row.channel.as_str(), row.payments, row.amount),
        (Some("2026-09-21"), "alipay", 1, 10_000)
    );
    assert_eq!((row.fees, row.baseline_fees, row.saved, row.fees_reported), (60, 320, 260, 0));
    let stored =
        change(&costs, &first, Payment { fee_minor: Some(75), fee_reported: true, ..first.payment.clone() }).await;
    let row = only(&costs);
    assert_eq!(
        (row.fees, row.fees_estimated, row.fees_reported, row.saved),
        (75, 60, 1, 245),
        "late and the provider's"
    );
    change(&costs, &stored, refunded(&stored.payment, 4_000)).await;
    let row = only(&costs);
    assert_eq!((row.payments, row.fees, row.refunds, row.refunded), (1, 75, 1, 4_000));
    let text = costs.0.core.figures.text();
    for line in [
        "tollgate_fees_minor_total{channel=\"alipay\",currency=\"USD\"} 75",
        "tollgate_fees_baseline_minor_total{channel=\"alipay\",currency=\"USD\"} 320",
        "tollgate_fees_minor_total{channel=\"stripe\",currency=\"USD\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_channel_is_compared_with_once_all_is_counted_again() {
    let (store, clock) = (Arc::new(MemoryStore::new()) as Arc<dyn Store>, Clock::virtual_from(START));
    let directory = tempfile::tempdir().unwrap();
    let costs = opened(&store, &clock, directory.path()).await;
    let mut stored = Vec::new();
    for number in 0..2 * PAGE_ROWS + 7 {
        let before = insert(&store, payment(number)).await;
        stored.push(change(&costs, &before, paid(number, START)).await);
    }
    let count = i64::try_from(stored.len()).unwrap();
    let row = only(&costs);
    assert_eq!((row.payments, row.baseline_fees), (count, 320 * count));
    costs.compare_with("alipay");
    // A page is counted, then payments of read and unread pages change, and one is added: all count once in both.
    costs.0.count_page_again().await.unwrap();
    let mut refunds = 0;
    for number in (0..stored.len()).step_by(10) {
        let after = refunded(&stored[number].payment, 100);
        stored[number] = change(&costs, &stored[number], after).await;
        refunds += 1;
    }
    let added = insert(&store, payment(900)).await;
    change(&costs, &added, paid(900, START)).await;
    let view = |costs: &Costs| costs.view(&CostsFilter::default(), &PageRequest::default()).unwrap();
    let present = view(&costs);
    assert_eq!((present.baseline_channel.as_str(), present.complete), ("stripe", true), "until all is counted");
    assert_eq!(present.items[0].baseline_fees, 320 * (count + 1));
    costs.0.count_again().await;
    let row = only(&costs);
    assert_eq!(view(&costs).baseline_channel, "alipay");
    assert_eq!((row.payments, row.refunds, row.refunded), (count + 1, refunds, 100 * refunds));
    assert_eq!((row.fees, row.baseline_fees, row.saved), (60 * (count + 1), 60 * (count + 1), 0));
    assert_eq!(costs.channel_totals(&ChannelName::new("alipay"), START).today_minor, 10_000 * (count + 1));
    // Changed and taken back at once, nothing is counted.
    costs.compare_with("stripe");
    costs.compare_with("alipay");
    assert!(costs.0.recounted.lock().is_none());
    // The next start compares with it, too, or counts again.
    costs.write_final(true).await;
    assert_eq!(view(&opened(&store, &clock, directory.path()).await).baseline_channel, "stripe");
}

#[tokio::test]
async fn totals_are_of_today_and_of_this_month_and_reach_the_router() {
    let (store, clock) = (Arc::new(MemoryStore::new()) as Arc<dyn Store>, Clock::virtual_from(START));
    let directory = tempfile::tempdir().unwrap();
    let costs = opened(&store, &clock, directory.path()).await;
    let long_ago = Day::of(START).month().before().start();
    for (number, at) in [(1, START), (2, Day::of(START).before().start()), (3, long_ago)] {
        let stored = insert(&store, payment(number)).await;
        change(&costs, &stored, paid(number, at)).await;
    }
    let alipay = ChannelName::new("alipay");
    let expected = ChannelTotals { today: 1, today_minor: 10_000, this_month_minor: 20_000 };
    assert_eq!(costs.channel_totals(&alipay, START), expected);
    let next_month = Timestamp::parse_rfc3339("2026-10-01T00:00:00Z").unwrap();
    assert_eq!(costs.channel_totals(&alipay, next_month), ChannelTotals::default());
    assert_eq!(costs.channel_totals(&ChannelName::new("stripe"), START), ChannelTotals::default());
}

#[tokio::test]
async fn a_clean_stop_leaves_the_sums_and_anything_else_has_them_counted_again() {
    let (store, clock) = (Arc::new(MemoryStore::new()) as Arc<dyn Store>, Clock::virtual_from(START));
    let directory = tempfile::tempdir().unwrap();
    let costs = opened(&store, &clock, directory.path()).await;
    for number in 0..3 {
        let stored = insert(&store, payment(number)).await;
        change(&costs, &stored, paid(number, START)).await;
    }
    let expected = days(&costs);
    costs.write_final(false).await;
    assert!(!directory.path().join(FILE).exists(), "work had not ended");
    let costs = opened(&store, &clock, directory.path()).await;
    assert_eq!(days(&costs), expected, "counted");
    costs.write_final(true).await;
    // What stands in the file is believed as long as nothing was committed since.
    let again = opened(&store, &clock, directory.path()).await;
    assert!(!again.0.is_counting.load(Ordering::SeqCst));
    assert_eq!(days(&again), expected, "read");
    insert(&store, paid(9, START)).await;
    let after_crash = opened(&store, &clock, directory.path()).await;
    assert_eq!(only(&after_crash).payments, 4, "a commit that the file does not know");
    after_crash.0.sums.lock().is_doubtful = true;
    assert!(!after_crash.view(&CostsFilter::default(), &PageRequest::default()).unwrap().complete);
    std::fs::remove_file(directory.path().join(FILE)).unwrap();
    after_crash.write_final(true).await;
    assert!(!directory.path().join(FILE).exists(), "what may be wrong is not left");
}

/// What Alipay would take for 100.00 USD now.
fn quoted(costs: &Costs) -> Option<i64> {
    let request = RouteRequest {
        money: Money::new(10_000, Currency::USD),
        country: None,
        country_from_address: false,
        card_country: None,
        merchant_country: None,
        method: Some("alipay"),
        requested: None,
        allowed: &[],
        merchant_id: "m_1",
        tier: "",
        order_no: "O-1",
        metadata: &BTreeMap::new(),
        at: costs.0.core.clock.now(),
        tried: &[],
        refusing_token: &[],
        needs_pre_auth: false,
        draw: 0,
    };
    let record = costs.0.router.quote(&request).unwrap_or_else(|none| *none.record);
    record.channels.iter().find(|verdict| verdict.channel.as_str() == "alipay")?.fee_minor
}

#[tokio::test(start_paused = true)]
async fn a_new_month_begins_with_no_volume_when_it_begins() {
    let turn = Timestamp::parse_rfc3339("2026-10-01T00:00:00Z").unwrap();
    let (store, clock) =
        (Arc::new(MemoryStore::new()) as Arc<dyn Store>, Clock::virtual_from(turn.minus(Duration::from_secs(5))));
    let costs = costs_with(&store, &clock, |config| {
        let tier = serde_json::from_value(serde_json::json!({ "from_minor": 10_000, "percent": "0.1" })).unwrap();
        config.channels.get_mut("alipay").unwrap().fees.tiers = vec![tier];
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    costs.open(Arc::new(DirectoryFiles::new(directory.path())), DiskWork::InPlace, 0).await.unwrap();
    costs.start();
    let stored = insert(&store, payment(1)).await;
    assert_eq!(quoted(&costs), Some(60));
    change(&costs, &stored, paid(1, clock.now())).await;
    tokio::time::sleep(Duration::from_millis(4_990)).await;
    assert_eq!(quoted(&costs), Some(10), "the tier is reached");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(quoted(&costs), Some(60), "and left with the month");
    costs.0.core.stopping.cancel();
}

/// Stores what is committed and never answers.
struct Silent(Arc<dyn Store>);

impl Store for Silent {
    fn commit(&self, batch: Batch) -> CommitFuture {
        let stored = self.0.commit(batch);
        Box::pin(async {
            stored.await.unwrap();
            std::future::pending().await
        })
    }

    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.0.get(key)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<crate::storage::Row>, StoreError> {
        self.0.scan(scan)
    }

    fn health(&self) -> Health {
        self.0.health()
    }

    fn failed(&self) -> std::pin::Pin<Box<dyn Future<Output = String> + Send>> {
        self.0.failed()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.0.close()
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_cut_off_between_commit_and_note_leaves_a_doubt() {
    let (store, clock) = (Arc::new(MemoryStore::new()) as Arc<dyn Store>, Clock::virtual_from(START));
    let directory = tempfile::tempdir().unwrap();
    let costs = opened(&(Arc::new(Silent(Arc::clone(&store))) as Arc<dyn Store>), &clock, directory.path()).await;
    let first = insert(&store, payment(1)).await;
    let after = paid(1, START);
    let mut batch = Batch::finishing();
    rows::replace(&mut batch, &first, &after).unwrap();
    assert!(costs.view(&CostsFilter::default(), &PageRequest::default()).unwrap().complete);
    let commit = costs.commit(batch, Some(&first.payment), &after);
    assert!(tokio::time::timeout(Duration::from_secs(1), commit).await.is_err());
    assert!(!costs.view(&CostsFilter::default(), &PageRequest::default()).unwrap().complete);
    costs.write_final(true).await;
    assert!(!directory.path().join(FILE).exists(), "the next start counts it");
    assert_eq!(only(&opened(&store, &clock, directory.path()).await).payments, 1);
}

#[tokio::test]
async fn lists_page_by_day_and_add_up_by_channel() {
    let (store, clock) = (Arc::new(MemoryStore::new()) as Arc<dyn Store>, Clock::virtual_from(START));
    let directory = tempfile::tempdir().unwrap();
    for number in 0..25 {
        let at = START.minus(Duration::from_secs(86_400 * (number as u64 / 2)));
        let mut payment = paid(number, at);
        if number % 2 == 1 {
            payment.attempts[0].channel = ChannelName::new("stripe");
            payment.fee_minor = Some(320);
        }
        insert(&store, payment).await;
    }
    let costs = opened(&store, &clock, directory.path()).await;
    let mut filter = CostsFilter::default();
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = costs.view(&filter, &PageRequest { limit: Some(4), cursor }).unwrap();
        assert!(page.complete && page.items.len() <= 4);
        found.extend(page.items.into_iter().map(|row| (row.day.unwrap(), row.channel)));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), 25);
    assert!(found.windows(2).all(|pair| pair[0].0 > pair[1].0 || (pair[0].0 == pair[1].0 && pair[0].1 < pair[1].1)));
    filter.by_channel = true;
    let all = costs.view(&filter, &PageRequest::default()).unwrap();
    let rows: Vec<_> = all.items.iter().map(|row| (row.channel.as_str(), row.payments, row.fees, row.saved)).collect();
    assert_eq!(rows, [("alipay", 13, 13 * 60, 13 * 260), ("stripe", 12, 12 * 320, 0)]);
    let first = costs.view(&filter, &PageRequest { limit: Some(1), cursor: None }).unwrap();
    let second = costs.view(&filter, &PageRequest { limit: Some(1), cursor: first.next_cursor }).unwrap();
    assert_eq!((second.items[0].channel.as_str(), second.next_cursor), ("stripe", None));
    let yesterday = Some(Day::of(START).before());
    let filter = CostsFilter { from: yesterday, to: yesterday, channel: Some("stripe".to_owned()), by_channel: false };
    assert_eq!(costs.view(&filter, &PageRequest::default()).unwrap().items.len(), 1);
    let backwards = CostsFilter { from: yesterday, to: yesterday.map(Day::before), ..CostsFilter::default() };
    let nothing = costs.view(&backwards, &PageRequest::default()).unwrap();
    assert!(nothing.items.is_empty() && nothing.totals.payments == 0);
}

/// Payments change, come and are paid while the rows of an earlier process are counted: each counts once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_changes_while_rows_are_counted_counts_once() {
    let (store, clock) = (Arc::new(MemoryStore::new()) as Arc<dyn Store>, Clock::system());
    let directory = tempfile::tempdir().unwrap();
    let mut stored = Vec::new();
    for number in 0..2_000 {
        let payment = if number % 2 == 0 { paid(number, START) } else { payment(number) };
        stored.push(insert(&store, payment).await);
    }
    let costs = opened(&store, &clock, directory.path()).await;
    assert!(!costs.view(&CostsFilter::default(), &PageRequest::default()).unwrap().complete);
    costs.start();
    let mut changing = Vec::new();
    for (worker, rows) in stored.chunks(500).enumerate() {
        let (costs, rows) = (costs.clone(), rows.to_vec());
        changing.push(tokio::spawn(async move {
            for (place, row) in rows.iter().enumerate().rev() {
                let row = match row.payment.status {
                    PaymentStatus::Success => change(&costs, row, refunded(&row.payment, 10)).await,
                    _ => {
                        change(
                            &costs,
                            row,
                            Payment { attempts: row.payment.attempts.clone(), ..paid(worker * 500 + place, START) },
                        )
                        .await
                    }
                };
                if place % 7 == 0 {
                    change(&costs, &row, refunded(&row.payment, 5)).await;
                }
                if place % 20 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }));
    }
    for task in changing {
        task.await.unwrap();
    }
    while costs.0.is_counting.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut expected = Sums::default();
    for row in store.scan(&Scan::prefix(&keys::payments(), 10_000)).unwrap() {
        let payment: Payment = decode(&row.versioned.value).unwrap();
        expected.add(&Part::of(&payment, "stripe").unwrap(), 1);
    }
    assert_eq!(days(&costs), expected.days);
    costs.0.core.stopping.cancel();
}
