//! Erasures reach everything that belongs to a payment or pre-auth, and nothing else.

mod pre_auths;

use std::collections::BTreeMap;
use std::pin::Pin;

use parking_lot::Mutex;
use serde_json::value::RawValue;

use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, NotificationId};
use crate::domain::money::{Currency, Money};
use crate::domain::payment::{PaymentStatus, PaymentTerms};
use crate::domain::trace::TraceContext;
use crate::domain::webhook::{NewNotification, Notification, NotificationStatus, Try};
use crate::gateway::answer::StoredAnswer;
use crate::gateway::idempotency::{IdempotencyKey, Known, look_up};
use crate::random::Random;
use crate::storage::memory::MemoryStore;
use crate::storage::vault::Vault;
use crate::storage::{CommitFuture, Health, Store, Urgency, Versioned};

/// A store in which somebody else writes a row, as it is, just before it would be redacted; each of them once.
struct BusyStore {
    inner: MemoryStore,
    rows: Mutex<Vec<Vec<u8>>>,
}

impl Store for BusyStore {
    fn commit(&self, batch: Batch) -> CommitFuture {
        let mut rows = self.rows.lock();
        let is_about = |row: &Vec<u8>| batch.preconditions.iter().any(|condition| condition.key == *row);
        let found = rows.iter().position(is_about).filter(|_| batch.urgency == Urgency::Finish);
        if let Some(row) = found.map(|place| rows.swap_remove(place)) {
            let value = self.inner.get(&row).unwrap().unwrap().value.to_vec();
            let mut other = Batch::new();
            other.put(row, value);
            // Done by the call itself.
            drop(self.inner.commit(other));
        }
        self.inner.commit(batch)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.inner.get(key)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        self.inner.scan(scan)
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

const START: Timestamp = Timestamp::from_unix_s(1_737_715_200);
const DAY: Duration = Duration::from_secs(86_400);

fn core(customer_data_days: u64) -> Core {
    core_over(Arc::new(MemoryStore::new()), customer_data_days)
}

fn core_over(store: Arc<dyn Store>, customer_data_days: u64) -> Core {
    let random = Random::seeded(1);
    let mut config = Config::embedded().unwrap();
    config.retention.customer_data_days = customer_data_days;
    Core::new(store, Clock::virtual_from(START), random.clone(), config, Vault::with_key(&[7; 32], random))
}

fn payment(merchant: &str, number: usize, status: PaymentStatus, at: Timestamp) -> Payment {
    Payment {
        payment_no: PaymentNo::new(format!("PY{}{number:08}", at.compact())),
        merchant_id: MerchantId::new(merchant),
        terms: PaymentTerms {
            order_no: format!("O-{number}"),
            money: Money::new(1_000, Currency::USD),
            card_country: None,
            country: None,
            method: None,
            requested_channel: None,
            payment_token: None,
            customer_email: Some("ann@example.com".to_owned()),
            customer_ip: None,
            description: Some("for Ann".to_owned()),
            metadata: BTreeMap::new(),
            return_url: None,
        },
        status,
        reconciling: false,
        cancel_requested: false,
        attempts: Vec::new(),
        refunds: Vec::new(),
        strays: Vec::new(),
        disputes: Vec::new(),
        next_action: None,
        fee_minor: None,
        fee_reported: false,
        resolve_tries: 0,
        known_at: None,
        event_count: 0,
        due_at: None,
        expires_at: None,
        created_at: at,
        updated_at: at,
        paid_at: None,
        erased_at: None,
    }
}

async fn put(core: &Core, payment: &Payment) {
    let mut batch = Batch::new();
    batch.put(keys::payment(&payment.merchant_id, &payment.payment_no), encode(payment).unwrap());
    core.store.commit(batch).await.unwrap();
}

async fn put_answer(core: &Core, payment: &Payment, key: &str) {
    let key = IdempotencyKey::new("POST", "/x", key, b"{}").unwrap();
    let Ok(Known::New(reservation)) = look_up(core, &payment.merchant_id, Some(&key)) else { panic!("a new key") };
    let mut batch = Batch::new();
    reservation.begin(&mut batch, payment.payment_no.as_str(), START).unwrap();
    let sequence = core.store.commit(batch).await.unwrap().sequence;
    let body = format!(r#"{{"data":{{"payment_no":"{}","description":"for Ann"}}}}"#, payment.payment_no);
    let slot = reservation.committed(sequence).unwrap();
    let mut batch = Batch::new();
    slot.answer(&mut batch, payment.payment_no.as_str(), &StoredAnswer { status: 201, body }, START).unwrap();
    core.store.commit(batch).await.unwrap();
}

async fn put_notification(core: &Core, payment: &Payment, id: &str, status: NotificationStatus) {
    let mut notification = notification(payment, id, status);
    let response = Some("thanks, Ann".to_owned());
    notification.tries.push(Try { at: START, duration_ms: 1, status_code: Some(200), response, error: None });
    put_row(core, &notification).await;
}

async fn put_row(core: &Core, notification: &Notification) {
    let mut batch = Batch::new();
    batch.put(keys::notification(&notification.merchant_id, &notification.id), encode(notification).unwrap());
    core.store.commit(batch).await.unwrap();
}

/// Not tried yet.
fn notification(payment: &Payment, id: &str, status: NotificationStatus) -> Notification {
    let new = NewNotification {
        id: NotificationId::new(id),
        merchant_id: payment.merchant_id.clone(),
        endpoint_id: EndpointId::new("we_1"),
        url: "https://example.com".to_owned(),
        event: EventName::PaymentSuccess,
        object_no: Some(payment.payment_no.to_string()),
        order_no: None,
        body: RawValue::from_string("{}".to_owned()).unwrap(),
        amount_minor: 1,
        class: Default::default(),
        max_attempts: 13,
        trace: None,
    };
    Notification { status, ..Notification::new(new, START) }
}

/// Keys of the rows that still say who the customer is.
fn rows_about_ann(core: &Core) -> Vec<String> {
    let rows = core.store.scan(&Scan { start: vec![0], end: None, limit: 60_000, reverse: false }).unwrap();
    let about_ann = rows.iter().filter(|row| {
        let text = String::from_utf8_lossy(&row.versioned.value).to_lowercase();
        text.contains("for ann") || text.contains("ann@") || text.contains(", ann")
    });
    about_ann.map(|row| String::from_utf8_lossy(&row.key[1..]).trim_end_matches('\0').replace('\0', "/")).collect()
}

fn by() -> Operator {
    Operator::process("test")
}

async fn until_done(erasures: &Erasures) -> Counts {
    for _ in 0..1_000 {
        let newest = erasures.list(&PageRequest::default()).unwrap().items.remove(0);
        if newest.status == "done" {
            return newest.erased;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the erasure is not done");
}

#[tokio::test(start_paused = true)]
async fn a_customer_of_many_payments_is_erased_with_answers_and_notifications() {
    let core = core(0);
    for number in 0..600 {
        put(&core, &payment("m_1", number, PaymentStatus::Success, START)).await;
    }
    let (with_more, foreign) =
        (payment("m_1", 7, PaymentStatus::Success, START), payment("m_2", 7, PaymentStatus::Failed, START));
    put(&core, &foreign).await;
    put_answer(&core, &with_more, "k-1").await;
    put_answer(&core, &foreign, "k-2").await;
    put_notification(&core, &with_more, "wn_1", NotificationStatus::Success).await;
    put_notification(&core, &with_more, "wn_2", NotificationStatus::Retrying).await;
    let erasures = Erasures::new(core.clone());
    erasures.start();
    let command = EraseCustomer { customer_email: Some("ANN@example.com".to_owned()), customer_id: None };
    erasures.erase_customer("m_1", command, &by()).await.unwrap();
    let counts = until_done(&erasures).await;
    assert_eq!(counts, Counts { payments: 600, answers: 1, notifications: 1, ..Counts::default() });
    let left = rows_about_ann(&core);
    let expected = [foreign.payment_no.as_str(), "m_2", "wn_2"];
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.iter().zip(expected).all(|(row, word)| row.contains(word)), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_merchants_tracing_sent_along_is_erased_also_where_no_receiver_answered() {
    let core = core(0);
    let paid = payment("m_1", 1, PaymentStatus::Success, START);
    put(&core, &paid).await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    let state = Some("shop=ann@example.com".to_owned());
    let mut failed = notification(&paid, "wn_1", NotificationStatus::Failed);
    failed.trace = Some(TraceContext { parent, state });
    put_row(&core, &failed).await;
    let erasures = Erasures::new(core.clone());
    erasures.start();
    erasures.erase_customer("m_1", ann(), &by()).await.unwrap();
    let counts = until_done(&erasures).await;
    assert_eq!(counts, Counts { payments: 1, notifications: 1, ..Counts::default() });
    assert!(rows_about_ann(&core).is_empty());
    let row = core.store.get(&keys::notification(&paid.merchant_id, &failed.id)).unwrap().unwrap();
    let left: Notification = decode(&row.value).unwrap();
    assert_eq!(left.trace, Some(TraceContext { parent, state: None }), "it still belongs in its trace");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_died_goes_on_at_its_next_start_and_forgets_whom_it_was_about() {
    let core = core(0);
    put(&core, &payment("m_1", 1, PaymentStatus::Success, START)).await;
    let command = EraseCustomer { customer_email: Some("ann@example.com".to_owned()), customer_id: None };
    // Nobody works it off.
    let begun = Erasures::new(core.clone()).erase_customer("m_1", command, &by()).await.unwrap();
    let sealed = |core: &Core| {
        let stored = core.store.get(&keys::erasure(&begun.erasure_id)).unwrap().unwrap();
        decode::<ErasureRecord>(&stored.value).unwrap().sealed_customer
    };
    assert!(sealed(&core).is_some());
    assert_eq!(rows_about_ann(&core).len(), 1, "the payment's own, and no other");
    let later = Erasures::new(core.clone());
    later.start();
    assert_eq!(until_done(&later).await.payments, 1);
    assert_eq!((rows_about_ann(&core).len(), sealed(&core)), (0, None));
}

#[tokio::test(start_paused = true)]
async fn data_expires_when_a_payment_has_not_changed_for_so_long() {
    let core = core(30);
    let day = |number: u32| START.minus(DAY * number);
    let mut refunded_lately = payment("m_1", 4, PaymentStatus::Success, day(40));
    refunded_lately.updated_at = day(2);
    let old = [
        payment("m_1", 1, PaymentStatus::Success, day(50)),
        payment("m_1", 2, PaymentStatus::Canceled, day(31)),
        payment("m_2", 3, PaymentStatus::Failed, day(31)),
    ];
    let kept = [
        refunded_lately,
        payment("m_1", 5, PaymentStatus::NeedsReview, day(60)),
        payment("m_1", 6, PaymentStatus::Success, day(28)),
        payment("m_2", 7, PaymentStatus::Success, START),
    ];
    for one in old.iter().chain(&kept) {
        put(&core, one).await;
    }
    put_answer(&core, &old[2], "k-1").await;
    let erasures = Erasures::new(core.clone());
    erasures.start();
    tokio::time::sleep(Duration::from_secs(500)).await;
    assert_eq!(rows_about_ann(&core).len(), 8, "not at once");
    tokio::time::sleep(Duration::from_secs(200)).await;
    let counts = until_done(&erasures).await;
    assert_eq!((counts.payments, counts.answers, counts.open_payments), (3, 1, 1));
    assert_eq!(rows_about_ann(&core).len(), kept.len());
    tokio::time::sleep(DAY).await;
    assert_eq!(erasures.list(&PageRequest::default()).unwrap().items.len(), 1, "nothing to do, nothing written down");
    tokio::time::sleep(DAY * 3).await;
    assert_eq!(rows_about_ann(&core).len(), 3, "the one of 28 days ago has come of age");
    let verified = audit::verify(core.store.as_ref(), None).unwrap().unwrap();
    assert_eq!(verified.number, 2);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_weeks_ahead_for_a_while_erases_nothing() {
    let core = core(30);
    put(&core, &payment("m_1", 1, PaymentStatus::Success, START.minus(DAY * 20))).await;
    let erasures = Erasures::new(core.clone());
    erasures.start();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(core.clock_guard.is_believed(&core.clock), "as whoever else deletes asks now and then");
    core.clock.set_forward(DAY * 21);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    core.clock.set_back(DAY * 21);
    tokio::time::sleep(DAY * 9).await;
    assert_eq!(rows_about_ann(&core).len(), 1);
    tokio::time::sleep(DAY * 2).await;
    assert_eq!(rows_about_ann(&core).len(), 0, "but in its time");
}

#[tokio::test(start_paused = true)]
async fn nothing_expires_unless_it_is_configured() {
    let core = core(0);
    put(&core, &payment("m_1", 1, PaymentStatus::Success, START.minus(DAY * 5_000))).await;
    let erasures = Erasures::new(core.clone());
    erasures.start();
    tokio::time::sleep(DAY * 3).await;
    assert_eq!(rows_about_ann(&core).len(), 1);
    assert!(erasures.list(&PageRequest::default()).unwrap().items.is_empty());
}

fn ann() -> EraseCustomer {
    EraseCustomer { customer_email: Some("ann@example.com".to_owned()), customer_id: None }
}

async fn put_garbage(core: &Core, key: Vec<u8>) {
    let mut batch = Batch::new();
    batch.put(key, b"not a record".to_vec());
    core.store.commit(batch).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_read_is_counted_and_holds_nothing_up() {
    let core = core(0);
    let (good, bad) =
        (payment("m_1", 1, PaymentStatus::Success, START), payment("m_1", 2, PaymentStatus::Success, START));
    for one in [&good, &bad] {
        put(&core, one).await;
        put_answer(&core, one, one.payment_no.as_str()).await;
        put_notification(&core, one, one.payment_no.as_str(), NotificationStatus::Success).await;
    }
    // A payment, and with it its answer and notification; another notification; another answer.
    put_garbage(&core, keys::payment(&bad.merchant_id, &bad.payment_no)).await;
    put_garbage(&core, keys::notification(&bad.merchant_id, &NotificationId::new("wn_bad"))).await;
    put_garbage(&core, [keys::idempotencies_of(&bad.merchant_id), vec![0; 16]].concat()).await;
    let erasures = Erasures::new(core.clone());
    erasures.start();
    erasures.erase_customer("m_1", ann(), &by()).await.unwrap();
    let counts = until_done(&erasures).await;
    assert_eq!(counts, Counts { payments: 1, answers: 1, notifications: 1, unreadable: 5, ..Counts::default() });
    let left = rows_about_ann(&core);
    assert_eq!(left.len(), 2, "the answer and the notification of the payment that can't be read: {left:?}");
}

#[tokio::test(start_paused = true)]
async fn an_erasure_that_can_not_be_done_holds_up_none_of_the_others() {
    let core = core(0);
    put(&core, &payment("m_1", 1, PaymentStatus::Success, START)).await;
    let erasures = Erasures::new(core.clone());
    // One whose customer can't be decrypted, and one that can't be read, both before the good one.
    let stuck = erasures.erase_customer("m_1", ann(), &by()).await.unwrap();
    let key = keys::erasure(&stuck.erasure_id);
    let mut record: ErasureRecord = decode(&core.store.get(&key).unwrap().unwrap().value).unwrap();
    record.sealed_customer = Some("of another key".to_owned());
    let mut batch = Batch::new();
    batch.put(key, encode(&record).unwrap());
    core.store.commit(batch).await.unwrap();
    put_garbage(&core, keys::erasure("er_0")).await;
    tokio::time::sleep(DAY).await;
    erasures.start();
    let good = erasures.erase_customer("m_1", ann(), &by()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(erasures.get(&good.erasure_id).unwrap().status, "done");
    assert_eq!(rows_about_ann(&core).len(), 0);
    let listed = erasures.list(&PageRequest::default()).unwrap().items;
    let statuses: Vec<&str> = listed.iter().map(|erasure| erasure.status.as_str()).collect();
    assert_eq!(statuses, ["done", "running"]);
}

#[tokio::test(start_paused = true)]
async fn rows_that_others_change_meanwhile_are_erased_all_the_same() {
    let inner = MemoryStore::new();
    let core = core_over(Arc::new(inner.clone()), 0);
    let one = payment("m_1", 1, PaymentStatus::Success, START);
    put(&core, &one).await;
    put_answer(&core, &one, "k-1").await;
    put_notification(&core, &one, "wn_1", NotificationStatus::Success).await;
    let first_of = |prefix: Vec<u8>| inner.scan(&Scan::prefix(&prefix, 1)).unwrap().remove(0).key;
    let rows = [keys::payments(), keys::idempotencies(), keys::notifications()].map(first_of).to_vec();
    let busy = Arc::new(BusyStore { inner: inner.clone(), rows: Mutex::new(rows) });
    let core = core_over(Arc::clone(&busy) as Arc<dyn Store>, 0);
    let erasures = Erasures::new(core.clone());
    erasures.start();
    erasures.erase_customer("m_1", ann(), &by()).await.unwrap();
    let counts = until_done(&erasures).await;
    assert_eq!(counts, Counts { payments: 1, answers: 1, notifications: 1, ..Counts::default() });
    assert!(busy.rows.lock().is_empty(), "each of them was changed");
    assert_eq!(rows_about_ann(&core), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_merchant_that_never_was_is_not_found_and_one_that_is_gone_is() {
    let core = core(0);
    put(&core, &payment("m_1", 1, PaymentStatus::Success, START)).await;
    let erasures = Erasures::new(core.clone());
    let mistyped = erasures.erase_customer("m_l", ann(), &by()).await;
    assert!(matches!(mistyped, Err(GatewayError::NotFound("merchant"))), "{mistyped:?}");
    assert!(erasures.list(&PageRequest::default()).unwrap().items.is_empty());
    // There is no row of the merchant, but a payment.
    erasures.erase_customer("m_1", ann(), &by()).await.unwrap();
}
