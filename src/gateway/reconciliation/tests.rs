//! Statements over stores of payments, pre-auths and refunds.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::ids::{ChannelName, PaymentNo, dated_number};
use crate::domain::money::Currency;
use crate::domain::payment::{Payment, PaymentStatus};
use crate::domain::pre_auth::PreAuth;
use crate::domain::routing::DecisionRecord;
use crate::gateway::payments::rows::{self, StoredPayment};
use crate::random::Random;
use crate::storage::memory::MemoryStore;
use crate::storage::record::{decode, encode};
use crate::storage::vault::Vault;
use crate::storage::{Batch, CommitFuture, Health, Row, Store, StoreError, Versioned};

/// Remembers how much it was asked for at once, and how much in all.
#[derive(Default)]
struct WatchedStore {
    inner: MemoryStore,
    rows_at_once: AtomicUsize,
    rows_read: AtomicUsize,
}

impl Store for WatchedStore {
    fn commit(&self, batch: Batch) -> CommitFuture {
        self.inner.commit(batch)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.inner.get(key)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        let rows = self.inner.scan(scan)?;
        self.rows_at_once.fetch_max(scan.limit, Ordering::SeqCst);
        self.rows_read.fetch_add(rows.len(), Ordering::SeqCst);
        Ok(rows)
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = String> + Send>> {
        self.inner.failed()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

struct Books {
    store: Arc<WatchedStore>,
    reconciliation: Reconciliation,
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn ms(text: &str) -> i64 {
    at(text).unix_ms()
}

impl Books {
    fn new() -> Self {
        let store = Arc::new(WatchedStore::default());
        let random = Random::seeded(1);
        let core = Core::new(
            Arc::clone(&store) as Arc<dyn Store>,
            Clock::virtual_from(at("2026-03-01T00:00:00Z")),
            random.clone(),
            Config::embedded().unwrap(),
            Vault::with_key(&[7; 32], random),
        );
        Self { store, reconciliation: Reconciliation::new(core, DiskWork::InPlace) }
    }

    async fn put(&self, key: Vec<u8>, value: Vec<u8>) {
        let mut batch = Batch::default();
        batch.put(key, value);
        self.store.commit(batch).await.unwrap();
    }

    /// Stores a payment that was made then, with some fields in place of the usual ones.
    async fn payment(&self, merchant: &str, order_no: &str, made: &str, more: Value) -> String {
        let mut decision = DecisionRecord::adopted(ChannelName::new("stripe"), Currency::USD);
        decision.channels[0].fee_minor = Some(320);
        let number = dated_number("PY", at(made), 7);
        let mut row = json!({
            "payment_no": number, "merchant_id": merchant, "status": "success", "created_at": ms(made), "updated_at": ms(made),
            "terms": { "order_no": order_no, "money": { "amount_minor": 10_000, "currency": "USD" }, "method": "card" },
            "attempts": [{ "channel": "stripe", "provider_key": "", "sent_at": ms(made),
                "decision": serde_json::to_value(&decision).unwrap(), "refs": { "channel_order_no": "pi_1" } }],
        });
        merge(&mut row, more);
        let payment: Payment = serde_json::from_value(row).unwrap();
        self.put(keys::payment(&payment.merchant_id, &payment.payment_no), encode(&payment).unwrap()).await;
        for refund in &payment.refunds {
            self.put(keys::refund(&payment.merchant_id, &refund.refund_no), number.clone().into_bytes()).await;
        }
        number
    }

    async fn pre_auth(&self, merchant: &str, order_no: &str, made: &str, more: Value) -> String {
        let mut decision = DecisionRecord::adopted(ChannelName::new("paypal"), Currency::USD);
        decision.channels[0].fee_minor = Some(398);
        let number = dated_number("PA", at(made), 7);
        let mut row = json!({
            "pre_auth_no": number, "merchant_id": merchant, "status": "captured", "channel": "paypal", "provider_key": "",
            "created_at": ms(made), "updated_at": ms(made), "decision": serde_json::to_value(&decision).unwrap(),
            "terms": { "order_no": order_no, "money": { "amount_minor": 10_000, "currency": "USD" } },
        });
        merge(&mut row, more);
        let pre_auth: PreAuth = serde_json::from_value(row).unwrap();
        self.put(keys::pre_auth(&pre_auth.merchant_id, &pre_auth.pre_auth_no), encode(&pre_auth).unwrap()).await;
        for refund in &pre_auth.refunds {
            self.put(keys::refund(&pre_auth.merchant_id, &refund.refund_no), number.clone().into_bytes()).await;
        }
        number
    }

    /// Enters what is missing in the index of late money, as a start does.
    async fn index(&self, is_continued: bool) {
        self.reconciliation.0.late.fill(&self.reconciliation.0.core, is_continued).await.unwrap();
    }

    fn reader(&self, statement: Statement, merchant: Option<&str>, from: &str, to: &str) -> StatementReader {
        let period = Period::read(Some(from), Some(to), at("2026-03-01T00:00:00Z")).unwrap();
        self.reconciliation.statement(statement, merchant.map(MerchantId::new), period).unwrap()
    }

    /// All lines, as texts by the names of the columns.
    async fn read(&self, statement: Statement, merchant: Option<&str>, from: &str, to: &str) -> Vec<Value> {
        let mut reader = self.reader(statement, merchant, from, to);
        let mut lines = Vec::new();
        while let Some(page) = reader.next().await.unwrap() {
            lines.extend(page);
        }
        let named = |line: Line| {
            assert_eq!(line.len(), statement.columns().len());
            statement.columns().iter().zip(line).map(|(name, cell)| ((*name).to_owned(), json!(text(cell)))).collect()
        };
        lines.into_iter().map(named).map(Value::Object).collect()
    }
}

fn text(cell: Cell) -> String {
    match cell {
        Cell::Empty => String::new(),
        Cell::Number(number) => number.to_string(),
        Cell::Own(text) | Cell::Foreign(text) => text,
    }
}

fn merge(row: &mut Value, more: Value) {
    for (field, value) in more.as_object().unwrap() {
        row[field] = value.clone();
    }
}

fn refund(number: u64, amount_minor: i64, status: &str, made: &str, changed: &str) -> Value {
    json!({ "refund_no": dated_number("RF", at(made), number), "amount_minor": amount_minor, "status": status,
        "provider_key": "", "created_at": ms(made), "updated_at": ms(changed) })
}

/// The named fields of each line.
fn fields(lines: &[Value], names: &[&str]) -> Vec<Vec<String>> {
    let field = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    lines.iter().map(|line| names.iter().map(|name| field(line, name)).collect()).collect()
}

#[tokio::test]
async fn money_counts_on_the_day_it_moved_and_on_no_other() {
    let books = Books::new();
    // Made the evening before, paid after midnight; a deposit taken two months after it was held.
    let late = json!({ "paid_at": ms("2026-02-02T00:00:01Z") });
    books.payment("m_1", "LATE", "2026-02-01T23:59:59Z", late).await;
    let taken = json!({ "captured_minor": 4_000, "captured_at": ms("2026-02-02T12:00:00Z") });
    books.pre_auth("m_1", "ROOM", "2025-12-01T08:00:00Z", taken).await;
    books.pre_auth("m_1", "FREED", "2026-02-02T08:00:00Z", json!({ "status": "canceled" })).await;
    books.payment("m_1", "OPEN", "2026-02-01T10:00:00Z", json!({ "status": "processing" })).await;
    let names = ["order_no", "kind", "amount", "paid_at"];
    let first = books.read(Statement::Payments, Some("m_1"), "2026-02-01", "2026-02-02").await;
    assert_eq!(fields(&first, &names), [["OPEN", "payment", "100.00", ""]]);
    let second = books.read(Statement::Payments, Some("m_1"), "2026-02-02", "2026-02-03").await;
    assert_eq!(
        fields(&second, &names),
        [["LATE", "payment", "100.00", "2026-02-02T00:00:01Z"], ["ROOM", "capture", "40.00", "2026-02-02T12:00:00Z"]]
    );
    let exact = books.read(Statement::Payments, Some("m_1"), "2026-02-02T00:00:01Z", "2026-02-02T12:00:00Z").await;
    assert_eq!(fields(&exact, &["order_no"]), [["LATE"]], "the end is not included");
}

#[tokio::test]
async fn a_line_says_what_came_what_went_and_what_is_left() {
    let books = Books::new();
    let back = refund(1, 1_500, "success", "2026-02-03T00:00:00Z", "2026-02-03T00:00:05Z");
    let pending = refund(2, 500, "pending", "2026-02-04T00:00:00Z", "2026-02-04T00:00:05Z");
    let made = "2026-02-01T10:00:00Z";
    let paid = json!({ "paid_at": ms(made), "refunds": [back, pending], "fee_minor": 349, "fee_reported": true });
    let number = books.payment("m_1", "O-1", made, paid).await;
    let failure = json!({ "code": "card_declined", "message": "No.", "decline_scope": "bank" });
    let failed = json!({ "status": "failed", "attempts": [{ "channel": "stripe", "provider_key": "", "sent_at": ms(made),
        "decision": serde_json::to_value(DecisionRecord::adopted(ChannelName::new("stripe"), Currency::USD)).unwrap(),
        "failure": failure }] });
    books.payment("m_1", "O-2", "2026-02-01T11:00:00Z", failed).await;
    let yen = json!({ "paid_at": ms(made), "terms": { "order_no": "O-3", "money": { "amount_minor": 500, "currency": "JPY" } } });
    books.payment("m_1", "O-3", "2026-02-01T12:00:00Z", yen).await;
    let part = json!({ "captured_minor": 4_000, "captured_at": ms(made) });
    books.pre_auth("m_1", "O-4", "2026-02-01T09:00:00Z", part).await;
    let all = json!({ "captured_minor": 10_000, "captured_at": ms(made) });
    books.pre_auth("m_1", "O-5", "2026-02-01T10:00:00Z", all).await;
    let told = json!({ "captured_minor": 4_000, "captured_at": ms(made), "reported_fee_minor": 189 });
    books.pre_auth("m_1", "O-6", "2026-02-01T11:00:00Z", told).await;
    let lines = books.read(Statement::Payments, Some("m_1"), "2026-02-01", "2026-02-02").await;
    let money = ["order_no", "status", "amount_minor", "amount", "refunded", "fee", "fee_source", "net_minor", "net"];
    assert_eq!(
        fields(&lines, &money),
        [
            ["O-1", "success", "10000", "100.00", "15.00", "3.49", "reported", "8151", "81.51"],
            ["O-2", "failed", "10000", "100.00", "0.00", "", "", "", ""],
            ["O-3", "success", "500", "500", "0", "320", "estimated", "180", "180"],
            ["O-4", "captured", "4000", "40.00", "0.00", "", "", "", ""],
            ["O-5", "captured", "10000", "100.00", "0.00", "3.98", "estimated", "9602", "96.02"],
            ["O-6", "captured", "4000", "40.00", "0.00", "1.89", "reported", "3811", "38.11"],
        ]
    );
    let names = ["number", "channel", "channel_no", "method", "created_at", "failure_code"];
    assert_eq!(
        fields(&lines[..2], &names),
        [
            [number.as_str(), "stripe", "pi_1", "card", made, ""],
            [lines[1]["number"].as_str().unwrap(), "stripe", "", "card", "2026-02-01T11:00:00Z", "card_declined"]
        ]
    );
    let refunds = books.read(Statement::Refunds, Some("m_1"), "2026-02-03", "2026-02-05").await;
    assert_eq!(
        fields(&refunds, &["kind", "number", "order_no", "status", "amount", "refunded_at"]),
        [
            ["refund", number.as_str(), "O-1", "success", "15.00", "2026-02-03T00:00:05Z"],
            ["refund", number.as_str(), "O-1", "pending", "5.00", ""],
        ]
    );
}

#[tokio::test]
async fn days_add_up_by_channel_and_currency() {
    let books = Books::new();
    let (monday, tuesday) = ("2026-02-02T10:00:00Z", "2026-02-03T10:00:00Z");
    let back = refund(1, 2_500, "success", monday, tuesday);
    let failed = refund(2, 100, "failed", monday, tuesday);
    let paid = json!({ "paid_at": ms(monday), "refunds": [back, failed] });
    books.payment("m_1", "O-1", monday, paid).await;
    books.payment("m_1", "O-2", "2026-02-02T11:00:00Z", json!({ "paid_at": ms(monday) })).await;
    books.payment("m_1", "O-3", "2026-02-02T12:00:00Z", json!({ "status": "failed" })).await;
    let part = json!({ "captured_minor": 4_000, "captured_at": ms(tuesday) });
    books.pre_auth("m_1", "O-4", monday, part).await;
    let told = json!({ "captured_minor": 2_000, "captured_at": ms(tuesday), "reported_fee_minor": 119 });
    books.pre_auth("m_1", "O-6", "2026-02-02T10:30:00Z", told).await;
    // What came too late was given back, and neither side of that is anybody's turnover.
    let stray = refund(3, 700, "success", monday, monday);
    let strays = json!([{ "kind": "late", "received_minor": 700, "seen_at": ms(monday),
        "action": { "refunding": stray["refund_no"] } }]);
    let late = json!({ "status": "canceled", "refunds": [stray], "strays": strays });
    books.payment("m_1", "O-5", "2026-02-02T13:00:00Z", late).await;
    let lines = books.read(Statement::Fees, Some("m_1"), "2026-02-02", "2026-02-04").await;
    let names = [
        "day",
        "channel",
        "currency",
        "payments",
        "captures",
        "gross",
        "refunds",
        "refunded",
        "fees",
        "fees_unknown",
        "net",
    ];
    assert_eq!(
        fields(&lines, &names),
        [
            ["2026-02-02", "stripe", "USD", "2", "0", "200.00", "0", "0.00", "6.40", "0", "193.60"],
            ["2026-02-03", "paypal", "USD", "0", "2", "60.00", "0", "0.00", "1.19", "1", ""],
            ["2026-02-03", "stripe", "USD", "0", "0", "0.00", "1", "25.00", "0.00", "0", "-25.00"],
        ]
    );
    let kinds = books.read(Statement::Refunds, Some("m_1"), "2026-02-02", "2026-02-04").await;
    assert_eq!(fields(&kinds, &["kind", "amount"]), [["refund", "25.00"], ["refund", "1.00"], ["stray", "7.00"]]);
    let first = books.read(Statement::Fees, Some("m_1"), "2026-02-02", "2026-02-03").await;
    assert_eq!(fields(&first, &["day", "net"]), [["2026-02-02", "193.60"]], "the same alone");
}

#[tokio::test(start_paused = true)]
async fn what_is_found_by_its_entry_alone_is_there_also_while_entries_are_made_anew() {
    let books = Books::new();
    let late = json!({ "paid_at": ms("2026-02-01T10:00:00Z") });
    books.payment("m_1", "LATE", "2025-06-01T10:00:00Z", late).await;
    books.index(false).await;
    let of_day = async |books: &Books| {
        fields(&books.read(Statement::Payments, None, "2026-02-01", "2026-02-02").await, &["order_no"])
    };
    assert_eq!(of_day(&books).await, [["LATE"]]);
    let core = books.reconciliation.0.core.clone();
    let after_a_crash = Books { reconciliation: Reconciliation::new(core, DiskWork::InPlace), ..books };
    assert_eq!(of_day(&after_a_crash).await, [["LATE"]]);
}

#[tokio::test(start_paused = true)]
async fn many_merchants_come_one_after_the_other_a_page_at_a_time() {
    let books = Books::new();
    for merchant in 0..7 {
        for minute in 0..(merchant * 40) {
            let made = Timestamp::from_unix_ms(ms("2026-02-01T00:00:00Z") + minute * 60_000).rfc3339();
            books
                .payment(&format!("m_{merchant}"), &format!("O-{minute:03}"), &made, json!({ "paid_at": ms(&made) }))
                .await;
        }
    }
    books
        .pre_auth(
            "m_0",
            "ONLY",
            "2026-02-01T00:00:00Z",
            json!({ "captured_minor": 1, "captured_at": ms("2026-02-01T00:00:00Z") }),
        )
        .await;
    let lines = books.read(Statement::Payments, None, "2026-02-01", "2026-02-02").await;
    let expected = (1..7).flat_map(|merchant| {
        (0..(merchant * 40)).map(move |minute| vec![format!("m_{merchant}"), format!("O-{minute:03}")])
    });
    let expected: Vec<_> = std::iter::once(vec!["m_0".to_owned(), "ONLY".to_owned()]).chain(expected).collect();
    assert_eq!(fields(&lines, &["merchant_id", "order_no"]), expected);
    assert!(books.store.rows_at_once.load(Ordering::SeqCst) <= 200);
    let days = books.read(Statement::Fees, None, "2026-02-01", "2026-02-02").await;
    let sums = fields(&days, &["merchant_id", "payments", "captures"]);
    assert_eq!(sums.len(), 7);
    assert_eq!(
        (&sums[0], &sums[6]),
        (&vec!["m_0".to_owned(), "0".into(), "1".into()], &vec!["m_6".to_owned(), "240".into(), "0".into()])
    );
    assert_eq!(books.read(Statement::Payments, Some("m_3"), "2026-02-01", "2026-02-02").await.len(), 120);
    // Nothing is read ahead of who asks.
    let before = books.store.rows_read.load(Ordering::SeqCst);
    let mut reader = books.reader(Statement::Payments, Some("m_6"), "2026-02-01", "2026-02-02");
    assert_eq!(books.store.rows_read.load(Ordering::SeqCst), before + 1, "whether there is such a merchant");
    // The look at what moved late costs as much as a row.
    assert_eq!(reader.next().await.unwrap().unwrap().len(), 199);
    assert_eq!(books.store.rows_read.load(Ordering::SeqCst), before + 200);
    assert_eq!(reader.next().await.unwrap().unwrap().len(), 41);
    while reader.next().await.unwrap().is_some() {}
    assert_eq!(reader.next().await.unwrap(), None);
}

/// The days of a fortnight, with the one behind them.
fn days_of_february() -> Vec<String> {
    (1..=15).map(|day| format!("2026-02-{day:02}")).collect()
}

#[tokio::test(start_paused = true)]
async fn the_index_of_late_money_changes_nothing_but_what_is_read() {
    let books = Books::new();
    let random = Random::seeded(7);
    let day_ms = 86_400_000;
    // Made in the months before and in the periods, and moved up to 60 days later, also just before and behind midnight.
    let mut made_ms = ms("2025-10-01T00:00:00Z");
    for number in 0..400_u64 {
        made_ms += i64::try_from(random.draw_u64() % (day_ms as u64 * 4 / 5)).unwrap();
        let draw = random.draw_u64();
        let later_ms = match draw % 4 {
            0 => 0,
            1 => i64::try_from(draw % 60).unwrap() * day_ms,
            2 => day_ms - made_ms % day_ms - 1,
            _ => day_ms - made_ms % day_ms,
        };
        let [made, moved] = [made_ms, made_ms + later_ms].map(Timestamp::from_unix_ms);
        let (made, moved) = (made.rfc3339(), moved.rfc3339());
        let back = refund(number, 100, "success", &moved, &Timestamp::from_unix_ms(made_ms + 2 * later_ms).rfc3339());
        let order_no = format!("O-{number}");
        let merchant = if number % 3 == 0 { "m_2" } else { "m_1" };
        match draw % 5 {
            0 => books.payment(merchant, &order_no, &made, json!({ "status": "failed" })).await,
            1 => {
                let taken = json!({ "captured_minor": 500, "captured_at": ms(&moved), "refunds": [back] });
                books.pre_auth(merchant, &order_no, &made, taken).await
            }
            _ => books.payment(merchant, &order_no, &made, json!({ "paid_at": ms(&moved), "refunds": [back] })).await,
        };
    }
    let mut periods: Vec<(String, String)> =
        days_of_february().windows(2).map(|days| (days[0].clone(), days[1].clone())).collect();
    periods.push((String::from("2026-02-01"), String::from("2026-02-28")));
    periods.push((String::from("2026-02-03T12:00:00Z"), String::from("2026-02-05T12:00:00Z")));
    let read_all = async || {
        let mut found = Vec::new();
        for (from, to) in &periods {
            for statement in Statement::ALL {
                let mut lines: Vec<String> =
                    books.read(statement, None, from, to).await.iter().map(Value::to_string).collect();
                lines.sort_unstable();
                found.push(lines);
            }
        }
        found
    };
    let without = read_all().await;
    assert!(without.iter().map(Vec::len).sum::<usize>() > 100);
    books.index(false).await;
    assert_eq!(read_all().await, without);
}

#[tokio::test(start_paused = true)]
async fn with_the_index_a_day_reads_that_day_and_what_moved_on_it() {
    let books = Books::new();
    for hour in 0..24 * 60 {
        let made = Timestamp::from_unix_ms(ms("2025-12-01T00:00:00Z") + hour * 3_600_000).rfc3339();
        let paid_at =
            if made.as_str() < "2026-01-01" && hour % 100 == 0 { "2026-01-20T00:00:00Z" } else { made.as_str() };
        books.payment("m_1", &format!("O-{hour}"), &made, json!({ "paid_at": ms(paid_at) })).await;
    }
    let read = async || {
        let before = books.store.rows_read.load(Ordering::SeqCst);
        let lines = books.read(Statement::Payments, Some("m_1"), "2026-01-20", "2026-01-21").await;
        (lines.len(), books.store.rows_read.load(Ordering::SeqCst) - before)
    };
    let (lines, rows) = read().await;
    assert_eq!(lines, 24 + 8);
    assert!(rows > 1_000, "the months before: {rows}");
    books.index(false).await;
    let (lines, rows) = read().await;
    assert_eq!(lines, 24 + 8);
    assert!(rows < 50, "{rows}");
    let listed = books.read(Statement::Payments, Some("m_1"), "2026-01-20", "2026-01-21").await;
    let made = fields(&listed, &["created_at"]);
    assert!(made.is_sorted(), "what was made earlier comes first");
}

#[tokio::test(start_paused = true)]
async fn the_index_is_made_once_and_again_when_somebody_else_may_have_written() {
    let books = Books::new();
    let late = json!({ "paid_at": ms("2026-02-02T00:00:01Z") });
    books.payment("m_1", "O-1", "2026-02-01T23:59:59Z", late.clone()).await;
    books.index(false).await;
    let read = async || books.read(Statement::Payments, Some("m_1"), "2026-02-02", "2026-02-03").await.len();
    assert_eq!(read().await, 1);
    // As by a program that does not know the index.
    books.payment("m_1", "O-2", "2026-01-01T00:00:00Z", late).await;
    books.index(true).await;
    assert_eq!(read().await, 1, "what is done is not done again after a clean stop");
    books.index(false).await;
    assert_eq!(read().await, 2);
}

#[tokio::test]
async fn a_change_that_moves_money_on_a_later_day_enters_it_itself() {
    let books = Books::new();
    let made = "2026-02-01T23:59:59Z";
    let number = books.payment("m_1", "O-1", made, json!({ "status": "processing" })).await;
    let row = keys::payment(&MerchantId::new("m_1"), &PaymentNo::new(number));
    let entered =
        || books.store.scan(&Scan::prefix(&keys::late_money_from(&MerchantId::new("m_1"), "", ""), 10)).unwrap();
    let change = async |change: fn(&mut Payment)| {
        let stored = books.store.get(&row).unwrap().unwrap();
        let before = StoredPayment { payment: decode(&stored.value).unwrap(), revision: stored.revision };
        let mut after = before.payment.clone();
        change(&mut after);
        let mut batch = Batch::default();
        rows::replace(&mut batch, &before, &after).unwrap();
        books.store.commit(batch).await.unwrap();
    };
    change(|payment| payment.updated_at = at("2026-02-02T00:00:01Z")).await;
    assert!(entered().is_empty(), "no money has moved");
    change(|payment| (payment.status, payment.paid_at) = (PaymentStatus::Success, Some(at("2026-02-03T00:00:00Z"))))
        .await;
    let entries = entered();
    assert_eq!(
        entries.iter().map(|entry| keys::parse_late_money(&entry.key).unwrap().0).collect::<Vec<_>>(),
        ["20260203"]
    );
    change(|payment| payment.updated_at = at("2026-02-04T00:00:00Z")).await;
    assert_eq!(entered().len(), 1);
}

#[tokio::test]
async fn a_row_that_can_not_be_read_ends_the_statement_with_an_error() {
    let books = Books::new();
    books.payment("m_1", "O-1", "2026-02-01T00:00:00Z", json!({})).await;
    let damaged = dated_number("PY", at("2026-02-01T00:00:01Z"), 1);
    books.put(keys::payment(&MerchantId::new("m_1"), &PaymentNo::new(damaged)), vec![9, 9]).await;
    let mut reader = books.reader(Statement::Payments, Some("m_1"), "2026-02-01", "2026-02-02");
    assert!(reader.next().await.is_err());
    assert_eq!(reader.next().await.unwrap(), None);
}

#[test]
fn a_period_has_two_ends_in_their_order() {
    let now = at("2026-02-01T12:00:00Z");
    let read = |from, to| Period::read(from, to, now);
    let day = read(Some("2026-01-01"), Some("2026-01-02")).unwrap();
    assert_eq!((day.from(), day.to()), (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z")));
    assert_eq!(read(Some("2026-01-01T01:00:00+01:00"), None).unwrap().from(), day.from());
    assert_eq!(read(Some("2026-01-01"), None).unwrap().to(), now);
    assert!(read(Some("2026-01-02"), Some("2026-01-02")).is_ok(), "of nothing");
    for moment in ["2026-01-01t00:00:00z", "2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00-05:30"] {
        assert!(read(Some(moment), None).is_ok(), "{moment}");
    }
    // What a parser of times takes beside RFC 3339, and the OpenAPI document does not name.
    for other in [
        "20260101",
        "2026-01-01T00",
        "2026-01-01T00:00Z",
        "2026-01-01 00:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00+08",
        "2026-01-01T00:00:00,5Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00.1234567890Z",
        "2026-01-01T00:00:00Z[UTC]",
        "+002026-01-01T00:00:00Z",
        "２026-01-01",
    ] {
        assert!(read(Some(other), None).is_err(), "{other}");
    }
    for (from, to, field) in [
        (None, Some("2026-01-02"), "from"),
        (Some("yesterday"), None, "from"),
        (Some("1969-12-31"), None, "from"),
        (Some("2026-01-01"), Some("2026-13-01"), "to"),
        (Some("2026-01-02"), Some("2026-01-01"), "to"),
        (Some("2026-03-01"), None, "to"),
        (Some("1970-01-01"), None, "from"),
    ] {
        let refused = read(from, to).unwrap_err();
        let GatewayError::InvalidRequest(errors) = refused else { panic!("{refused:?}") };
        assert_eq!(errors[0].field, field, "{from:?} {to:?}");
    }
}

#[tokio::test]
async fn an_unknown_merchant_is_not_an_empty_statement() {
    let books = Books::new();
    books.payment("m_1", "O-1", "2026-02-01T00:00:00Z", json!({})).await;
    let period = Period::read(Some("2026-01-01"), None, at("2026-03-01T00:00:00Z")).unwrap();
    let of =
        |merchant: &str| books.reconciliation.statement(Statement::Refunds, Some(MerchantId::new(merchant)), period);
    assert!(of("m_1").is_ok(), "it is gone, what it left behind is not");
    assert!(matches!(of("m_2"), Err(GatewayError::NotFound(_))));
}
