//! Lists of a great many payments: what is there is found, and a page that was looked through in part says so.

use std::time::Duration;

use super::fixture::{Fixture, START};
use crate::domain::ids::{PaymentNo, dated_number};
use crate::domain::payment::{Payment, PaymentStatus};
use crate::domain::time::Timestamp;
use crate::gateway::command::PaymentFilter;
use crate::gateway::page::{Page, PageRequest, looked_back_to};
use crate::gateway::view::OperatorPaymentView;
use crate::storage::record::{decode, encode};
use crate::storage::{Batch, keys};

/// More than are looked at for one page.
const LATER: u64 = 2_500;

fn later(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

/// A payment under `O-1`, an earlier one of that number that failed, and a great many later ones under others.
async fn house_with_many() -> (Fixture, [String; 2]) {
    let house = Fixture::new().await;
    house.pay("O-1").await.unwrap();
    let holder = house.only().payment_no;
    let merchant_id = house.caller.merchant.merchant_id.clone();
    let key = keys::payment(&merchant_id, &PaymentNo::new(holder.clone()));
    let paid: Payment = decode(&house.core.store.get(&key).unwrap().unwrap().value).unwrap();
    let mut batch = Batch::new();
    let mut store = |made_at: Timestamp, order_no: String, status: PaymentStatus| {
        let payment_no = PaymentNo::new(dated_number("PY", made_at, 7));
        let mut payment = paid.clone();
        payment.terms.order_no = order_no;
        (payment.payment_no, payment.created_at, payment.status) = (payment_no.clone(), made_at, status);
        batch.put(keys::payment(&merchant_id, &payment_no), encode(&payment).unwrap());
        payment_no.to_string()
    };
    let failed = store(START.minus(Duration::from_secs(3_600)), String::from("O-1"), PaymentStatus::Failed);
    for number in 0..LATER {
        store(later(60 + number), format!("LATER-{number}"), PaymentStatus::Success);
    }
    house.core.store.commit(batch).await.unwrap();
    (house, [holder, failed])
}

fn page(house: &Fixture, filter: &PaymentFilter, cursor: Option<String>) -> Page<OperatorPaymentView> {
    house.payments.list_all(None, filter, &PageRequest { limit: None, cursor }).unwrap()
}

fn numbers(page: &Page<OperatorPaymentView>) -> Vec<&str> {
    page.items.iter().map(|view| view.payment.payment_no.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn who_holds_an_order_number_is_found_at_once_however_many_came_later() {
    let (house, [holder, failed]) = house_with_many().await;
    let filter = PaymentFilter { order_no: Some(String::from("O-1")), ..PaymentFilter::default() };
    let first = page(&house, &filter, None);
    assert_eq!(numbers(&first), [holder.as_str()]);
    let second = page(&house, &filter, first.next_cursor);
    assert!(second.items.is_empty());
    let looked_at = looked_back_to(second.next_cursor.as_deref().unwrap());
    assert_eq!(looked_at, Some(later(60 + LATER - 2_000)), "it says how far it has come");
    let third = page(&house, &filter, second.next_cursor);
    assert_eq!((numbers(&third), &third.next_cursor), (vec![failed.as_str()], &None), "earlier ones, and each once");
    // Nothing is said not to be there before all was looked through.
    let filter = PaymentFilter { order_no: Some(String::from("O-2")), ..PaymentFilter::default() };
    let first = page(&house, &filter, None);
    assert!(first.items.is_empty() && first.next_cursor.is_some());
    let last = page(&house, &filter, first.next_cursor);
    assert!(last.items.is_empty() && last.next_cursor.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_was_made_long_ago_is_found_by_its_time_at_once() {
    let (house, [holder, failed]) = house_with_many().await;
    let before = |to: Timestamp| PaymentFilter { to: Some(to.rfc3339()), ..PaymentFilter::default() };
    let filter = before(later(30));
    let of_all = page(&house, &filter, None);
    assert_eq!((numbers(&of_all), &of_all.next_cursor), (vec![holder.as_str(), failed.as_str()], &None));
    let merchant_id = house.caller.merchant.merchant_id.to_string();
    let of_one = house.payments.list_all(Some(&merchant_id), &filter, &PageRequest::default()).unwrap();
    assert_eq!((numbers(&of_one), &of_one.next_cursor), (vec![holder.as_str(), failed.as_str()], &None));
    let none = PaymentFilter { from: Some(START.rfc3339()), ..before(START.minus(Duration::from_secs(9_000))) };
    for merchant_id in [None, Some(merchant_id.as_str())] {
        let none = house.payments.list_all(merchant_id, &none, &PageRequest::default()).unwrap();
        assert!(none.items.is_empty() && none.next_cursor.is_none());
    }
    let all = PaymentFilter { to: Some(String::from("9999-12-30T00:00:00Z")), ..PaymentFilter::default() };
    assert_eq!(page(&house, &all, None).items.len(), 20);
}
