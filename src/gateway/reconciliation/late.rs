//! An index of money that moved on another day (UTC) than the one in its number: payments paid after midnight or days later,
//! captures, refunds. With it a statement reads what was made in its period and these, and nothing of the months before.
//!
//! An entry is written in the batch that stores that the money moved, and never changes: money moves once. What was stored
//! before there was the index, or by a program that does not know it, is entered in the background; until that is done
//! statements go through the months before, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::domain::ids::{MerchantId, PAYMENT_NO_PREFIX, PRE_AUTH_NO_PREFIX, REFUND_NO_PREFIX};
use crate::domain::payment::Payment;
use crate::domain::pre_auth::PreAuth;
use crate::domain::refund::Refund;
use crate::domain::time::Timestamp;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::reconciliation::lines::{counts_at, given_back_at, is_paid, taken_at};
use crate::gateway::retention::rest_after;
use crate::storage::record::decode;
use crate::storage::unreadable::UnreadableRows;
use crate::storage::{Batch, Row, Scan, StoreError, keys, prefix_end};

/// Notes that everything is entered.
const KEY: &str = "late_money";
const DONE: &[u8] = b"indexed";
/// Rows read at once.
const PAGE_ROWS: usize = 256;
/// Wait before entering is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// An entry: key and value.
type Entry = (Vec<u8>, Vec<u8>);

/// The day of a moment as the entries have it, which is as numbers begin.
pub(super) fn day_of(at: Timestamp) -> String {
    let mut day = at.compact();
    day.truncate(8);
    day
}

/// The entry of money, unless it moved on the day in its number.
fn entry(merchant_id: &MerchantId, prefix: &str, number: &str, at: Timestamp, value: &str) -> Option<Entry> {
    let day = day_of(at);
    let made_on = number.get(prefix.len()..prefix.len() + day.len());
    let is_late = made_on != Some(day.as_str());
    is_late.then(|| (keys::late_money(merchant_id, prefix, &day, number), value.as_bytes().to_vec()))
}

/// Those of refunds of `number` that were not given back in `before`.
fn refunds<'a>(
    merchant_id: &'a MerchantId,
    number: &'a str,
    before: &'a [Refund],
    after: &'a [Refund],
) -> impl Iterator<Item = Entry> + 'a {
    let was_given_back = |refund: &Refund| {
        let was = before.iter().find(|before| before.refund_no == refund.refund_no);
        was.is_some_and(|was| given_back_at(was).is_some())
    };
    after.iter().filter(move |refund| !was_given_back(refund)).filter_map(move |refund| {
        entry(merchant_id, REFUND_NO_PREFIX, refund.refund_no.as_str(), given_back_at(refund)?, number)
    })
}

fn of_payment(before: Option<&Payment>, after: &Payment) -> Vec<Entry> {
    let Payment { merchant_id, payment_no, .. } = after;
    let is_news = is_paid(after) && !before.is_some_and(is_paid);
    let paid = is_news.then(|| entry(merchant_id, PAYMENT_NO_PREFIX, payment_no.as_str(), counts_at(after), ""));
    let were = before.map_or([].as_slice(), |before| &before.refunds);
    paid.flatten().into_iter().chain(refunds(merchant_id, payment_no.as_str(), were, &after.refunds)).collect()
}

fn of_pre_auth(before: Option<&PreAuth>, after: &PreAuth) -> Vec<Entry> {
    let PreAuth { merchant_id, pre_auth_no, .. } = after;
    let taken_at = taken_at(after).filter(|_| before.is_none_or(|before| taken_at(before).is_none()));
    let taken = taken_at.and_then(|at| entry(merchant_id, PRE_AUTH_NO_PREFIX, pre_auth_no.as_str(), at, ""));
    let were = before.map_or([].as_slice(), |before| &before.refunds);
    taken.into_iter().chain(refunds(merchant_id, pre_auth_no.as_str(), were, &after.refunds)).collect()
}

/// Enters what has moved with a change of a payment; of a new one `before` is none.
pub(in crate::gateway) fn enter_payment(batch: &mut Batch, before: Option<&Payment>, after: &Payment) {
    of_payment(before, after).into_iter().for_each(|(key, value)| batch.put(key, value));
}

/// The same of a pre-auth.
pub(in crate::gateway) fn enter_pre_auth(batch: &mut Batch, before: Option<&PreAuth>, after: &PreAuth) {
    of_pre_auth(before, after).into_iter().for_each(|(key, value)| batch.put(key, value));
}

/// Whether the index is complete. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Index(Arc<AtomicBool>);

impl Index {
    pub(super) fn is_complete(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Takes over the index of the process before, or enters all that is missing, in the background. `is_continued`: everything
    /// in the store was written by programs that keep the index.
    pub(super) fn start(&self, core: &Core, is_continued: bool) {
        let (index, core) = (self.clone(), core.clone());
        let tasks = core.tasks.clone();
        tasks.spawn(async move {
            let stopping = core.stopping.clone();
            let filling = async {
                while let Err(error) = index.fill(&core, is_continued).await {
                    tracing::warn!(%error, "money by the day on which it moved could not be entered; tried again");
                    tokio::time::sleep(RETRY).await;
                }
            };
            let _ = stopping.run_until_cancelled(filling).await;
        });
    }

    /// Enters all that is missing, unless that was done before. Cut off anywhere, it begins anew at the next start.
    ///
    /// # Errors
    /// [`GatewayError`] when the store can't be read or takes nothing.
    pub(super) async fn fill(&self, core: &Core, is_continued: bool) -> Result<(), GatewayError> {
        let was_done = core.store.get(&keys::installation(KEY))?.is_some();
        if !was_done || !is_continued {
            if was_done {
                // A start after one that is cut off in the midst of this must not take it for done.
                let mut batch = Batch::finishing();
                batch.delete(keys::installation(KEY));
                core.store.commit(batch).await?;
            }
            tracing::info!("looking for money that moved on another day than it was asked for");
            let payments = enter_all(core, keys::payments(), |row| {
                Ok(of_payment(None, &decode::<Payment>(&row.versioned.value)?))
            });
            let mut entered = payments.await?;
            let pre_auths = enter_all(core, keys::pre_auths(), |row| {
                Ok(of_pre_auth(None, &decode::<PreAuth>(&row.versioned.value)?))
            });
            entered += pre_auths.await?;
            let mut batch = Batch::finishing();
            batch.put(keys::installation(KEY), DONE.to_vec());
            core.store.commit(batch).await?;
            if entered > 0 {
                tracing::info!(
                    entered,
                    "money that moved on another day than it was asked for was entered by that day"
                );
            }
        }
        self.0.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// Enters what is missing of all rows below `prefix`, a page at a time; returns how many entries that were.
async fn enter_all(
    core: &Core,
    prefix: Vec<u8>,
    entries_of: impl Fn(&Row) -> Result<Vec<Entry>, StoreError>,
) -> Result<usize, GatewayError> {
    let (unreadable, mut entered) = (UnreadableRows::default(), 0);
    let mut scan = Scan { end: prefix_end(&prefix), start: prefix, limit: PAGE_ROWS, reverse: false };
    loop {
        let began = core.clock.monotonic();
        let page = core.store.scan(&scan)?;
        let mut batch = Batch::finishing();
        for row in &page {
            let entries = match entries_of(row) {
                Ok(entries) => entries,
                Err(error) => {
                    unreadable.report(&row.key, error);
                    continue;
                }
            };
            // What moved meanwhile enters itself, and money that moved never moves again.
            for (key, value) in entries {
                if core.store.get(&key)?.is_none() {
                    batch.put(key, value);
                }
            }
        }
        entered += batch.writes.len();
        if !batch.writes.is_empty() {
            core.store.commit(batch).await?;
        }
        let Some(last) = page.last().filter(|_| page.len() == PAGE_ROWS) else { return Ok(entered) };
        scan.start = [last.key.as_slice(), &[0]].concat();
        tokio::time::sleep(rest_after(core.clock.monotonic().since(began))).await;
    }
}
