//! Looks after payments that nobody waits for: outcomes that have to be asked for, payers who do not act, refunds under
//! way. What is due stands in the store, so all of it goes on after a restart.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::channels::ResolveRequest;
use crate::domain::ids::{MerchantId, PaymentNo, RefundNo};
use crate::domain::outcome::{ChargeAnswer, ChargeState};
use crate::domain::payment::{Payment, PaymentStatus, RefundStatus, on_answer, on_recovery};
use crate::domain::time::Timestamp;
use crate::gateway::answer::{Answered, Reply};
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::{Origin, Slot};
use crate::gateway::payments::carry::charge_request;
use crate::gateway::payments::rows::{self, StoredPayment};
use crate::gateway::payments::{CONFLICTS_MAX, Inner, Payments, Working, views};
use crate::storage::unreadable::UnreadableRows;
use crate::storage::{Batch, Row, Scan, StoreError, keys};

/// Due entries read at once.
const PAGE_ROWS: usize = 256;
/// Longest sleep of the timer, so that a step of the wall clock is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// Shortest sleep while everything that is due is being worked on.
const SLEEP_BUSY: Duration = Duration::from_millis(100);

/// One entry of the due index.
struct DueEntry {
    due_at: Timestamp,
    payment_no: PaymentNo,
    merchant_id: MerchantId,
}

/// A page of the due index.
struct DuePage {
    /// What can be read of it, the earliest first.
    entries: Vec<DueEntry>,
    /// Where the next page starts; `None` after the last one.
    next: Option<Vec<u8>>,
}

impl DuePage {
    /// The page that was read as `rows`. Those that can't be understood are passed over and reported.
    fn of(rows: &[Row], unreadable: &UnreadableRows) -> Self {
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            let parsed = keys::parse_payment_due(&row.key).zip(std::str::from_utf8(&row.versioned.value).ok());
            match parsed {
                Some(((due_at, payment_no), merchant_id)) => {
                    entries.push(DueEntry { due_at, payment_no, merchant_id: MerchantId::new(merchant_id) });
                }
                None => {
                    unreadable.report(&row.key, "it names no time, payment and merchant");
                }
            }
        }
        // By what was read, not by what of it could be used: else bad rows would hide everything after them.
        let next = rows.last().filter(|_| rows.len() == PAGE_ROWS).map(|last| [last.key.as_slice(), &[0]].concat());
        Self { entries, next }
    }
}

/// Takes over what an earlier process left behind, then keeps looking for what is due.
pub(super) fn start(payments: &Payments) -> Result<(), GatewayError> {
    let left_behind = payments.0.due_page(keys::payments_due())?;
    let watcher = payments.clone();
    payments.0.core.tasks.spawn(async move {
        watcher.recover(left_behind).await;
        watcher.0.recovered.store(true, Ordering::Release);
        watcher.watch().await;
    });
    Ok(())
}

impl Payments {
    /// Payments in `pending` belong to a process that is gone: whether they were sent is not known.
    async fn recover(&self, first_page: DuePage) {
        let mut page = first_page;
        let mut recovered = 0_usize;
        loop {
            for entry in &page.entries {
                match self.0.recover_one(entry).await {
                    Ok(true) => recovered += 1,
                    Ok(false) => {}
                    Err(error) => tracing::error!(payment_no = %entry.payment_no, %error, "payment not taken over"),
                }
                if self.0.core.stopping.is_cancelled() {
                    return;
                }
            }
            let Some(next) = page.next else { break };
            page = match self.0.due_page(next) {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "the due index can't be read");
                    return;
                }
            };
        }
        if recovered > 0 {
            tracing::info!(payments = recovered, "took over payments of an earlier process; asking their channels");
        }
    }

    async fn watch(&self) {
        let slots = Arc::new(Semaphore::new(self.0.core.config.payments.resolve_in_flight_max));
        loop {
            let sleep = self.start_due_work(&slots).await;
            tokio::select! {
                () = self.0.core.stopping.cancelled() => return,
                () = self.0.due.notified() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Starts work on everything that is due, as far as there are places; returns how long to sleep.
    async fn start_due_work(&self, slots: &Arc<Semaphore>) -> Duration {
        let mut start = keys::payments_due();
        let mut busy = false;
        loop {
            let page = match self.0.due_page(start) {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "the due index can't be read");
                    return SLEEP_MAX;
                }
            };
            let now = self.0.core.clock.now();
            for entry in &page.entries {
                if entry.due_at > now {
                    let until_next = entry.due_at.since(now);
                    return if busy { until_next.min(SLEEP_BUSY) } else { until_next.min(SLEEP_MAX) };
                }
                let Some(working) = self.0.work_on(&entry.payment_no) else {
                    busy = true;
                    continue;
                };
                let Ok(slot) = Arc::clone(slots).acquire_owned().await else { return SLEEP_MAX };
                let payments = self.clone();
                let merchant_id = entry.merchant_id.clone();
                let due_at = entry.due_at;
                self.0.core.tasks.spawn(async move {
                    payments.look_after(&merchant_id, working, due_at).await;
                    drop(slot);
                });
                busy = true;
            }
            match page.next {
                Some(next) => start = next,
                None => return if busy { SLEEP_BUSY } else { SLEEP_MAX },
            }
        }
    }

    /// Does what is due for one payment.
    async fn look_after(&self, merchant_id: &MerchantId, working: Working, due_at: Timestamp) {
        let inner = &self.0;
        let payment_no = working.payment_no.clone();
        let result = async {
            let stored = rows::read(&inner.core, merchant_id, &payment_no)?;
            if stored.payment.due_at != Some(due_at) {
                return Ok(());
            }
            let stored = match stored.payment.status {
                PaymentStatus::Pending => match inner.take_over(stored).await? {
                    Some(taken_over) => taken_over,
                    None => return Ok(()),
                },
                _ => stored,
            };
            if matches!(stored.payment.status, PaymentStatus::Processing | PaymentStatus::RequiresAction) {
                inner.resolve(stored).await.map(drop)
            } else {
                inner.ask_about_refunds(stored).await
            }
        };
        if let Err(error) = result.await {
            tracing::warn!(%payment_no, %error, "payment could not be looked after; it will be tried again");
            // The due entry still stands; without a pause a failing store would be asked in a tight loop.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        drop(working);
        inner.due.notify_one();
    }

    /// Asks the channel to close a payment that its merchant gave up, and answers with what came of it.
    pub(super) async fn close(
        &self,
        stored: StoredPayment,
        slot: Option<Slot>,
        origin: Origin,
    ) -> Result<Answered, GatewayError> {
        let Origin { claim, renderer, .. } = origin;
        // Keeps repetitions out until the answer is stored.
        let _claim = claim;
        let inner = &self.0;
        let payment_no = stored.payment.payment_no.clone();
        let merchant_id = stored.payment.merchant_id.clone();
        // If a timer works on it at this moment, that one sees the request to cancel and the answer is 202.
        if let Some(working) = inner.work_on(&payment_no) {
            let resolved = inner.resolve(stored).await;
            drop(working);
            if let Err(error) = resolved {
                tracing::warn!(%payment_no, %error, "payment not closed yet; its channel will be asked again");
            }
        }
        let now_stored = rows::read(&inner.core, &merchant_id, &payment_no)?;
        let answer = renderer(&Reply::PaymentCanceled(inner.view(&now_stored.payment)));
        if let Some(slot) = slot {
            let mut batch = Batch::finishing();
            slot.answer(&mut batch, payment_no.as_str(), &answer, inner.core.clock.now())?;
            rows::commit_finish(&inner.core, batch).await?;
        }
        Ok(Answered { answer, replayed: false })
    }
}

impl Inner {
    /// The page of the due index that starts at a key.
    fn due_page(&self, start: Vec<u8>) -> Result<DuePage, GatewayError> {
        let scan = Scan { start, ..Scan::prefix(&keys::payments_due(), PAGE_ROWS) };
        Ok(DuePage::of(&self.core.store.scan(&scan)?, &self.unreadable))
    }

    async fn recover_one(&self, entry: &DueEntry) -> Result<bool, GatewayError> {
        let Some(_working) = self.work_on(&entry.payment_no) else { return Ok(false) };
        let stored = rows::read(&self.core, &entry.merchant_id, &entry.payment_no)?;
        if stored.payment.status != PaymentStatus::Pending {
            return Ok(false);
        }
        Ok(self.take_over(stored).await?.is_some())
    }

    /// Makes a payment whose task is gone one whose outcome is asked for.
    async fn take_over(&self, stored: StoredPayment) -> Result<Option<StoredPayment>, GatewayError> {
        let now = self.core.clock.now();
        let Some(outcome) = on_recovery(&stored.payment, &self.policy, now) else { return Ok(None) };
        let mut batch = Batch::finishing();
        rows::replace(&mut batch, &stored, &outcome.payment)?;
        match rows::commit_finish(&self.core, batch).await {
            Ok(committed) => Ok(Some(StoredPayment { payment: outcome.payment, revision: committed.sequence })),
            Err(StoreError::Precondition { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks the channel what became of a payment and stores the answer.
    async fn resolve(&self, mut stored: StoredPayment) -> Result<StoredPayment, GatewayError> {
        let Some(answer) = self.ask(&stored.payment).await else { return Ok(stored) };
        for _ in 0..CONFLICTS_MAX {
            let now = self.core.clock.now();
            let Some(outcome) = on_answer(&stored.payment, &answer, &self.policy, now) else { return Ok(stored) };
            let mut batch = Batch::finishing();
            let tell = |name, id| views::payment_event(&outcome.payment, name, id);
            let planned = self.record(&mut batch, &stored, &outcome, tell, now)?;
            match rows::commit_finish(&self.core, batch).await {
                Ok(committed) => {
                    log_resolution(&stored.payment, &outcome.payment);
                    self.announce(planned, outcome.payment.due_at);
                    return Ok(StoredPayment { payment: outcome.payment, revision: committed.sequence });
                }
                Err(StoreError::Precondition { .. }) => {
                    stored = rows::read(&self.core, &stored.payment.merchant_id, &stored.payment.payment_no)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(stored)
    }

    async fn ask(&self, payment: &Payment) -> Option<ChargeAnswer> {
        let attempt = payment.current()?;
        let now = self.core.clock.now();
        let expired = payment.expires_at.is_some_and(|expires_at| now >= expires_at);
        let Some(channel) = self.channels.get(&attempt.channel) else {
            let reason = format!("channel {} is not configured any more", attempt.channel);
            return Some(ChargeAnswer { state: ChargeState::Unknown { reason }, refs: attempt.refs.clone() });
        };
        let request = ResolveRequest {
            charge: charge_request(payment)?,
            first_sent_at: attempt.sent_at,
            now,
            refs: attempt.refs.clone(),
            close: payment.cancel_requested || expired,
        };
        Some(channel.resolve(&request).await)
    }

    async fn ask_about_refunds(&self, stored: StoredPayment) -> Result<(), GatewayError> {
        let pending: Vec<RefundNo> = stored
            .payment
            .refunds
            .iter()
            .filter(|refund| refund.status == RefundStatus::Pending)
            .map(|refund| refund.refund_no.clone())
            .collect();
        for refund_no in pending {
            let stored = rows::read(&self.core, &stored.payment.merchant_id, &stored.payment.payment_no)?;
            self.send_refund(stored, &refund_no, None, None).await?;
        }
        Ok(())
    }
}

fn log_resolution(before: &Payment, after: &Payment) {
    if before.status == after.status {
        return;
    }
    let (from, to) = (before.status.as_str(), after.status.as_str());
    if after.status == PaymentStatus::NeedsReview {
        tracing::error!(payment_no = %after.payment_no, from, "payment could not be resolved and needs a person");
    } else {
        tracing::info!(payment_no = %after.payment_no, from, to, "payment resolved");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Versioned;

    fn row(number: usize, merchant_id: &[u8]) -> Row {
        let key = keys::payment_due(Timestamp::from_unix_ms(1), &PaymentNo::new(format!("PY{number:04}")));
        Row { key, versioned: Versioned { revision: 1, value: merchant_id.into() } }
    }

    #[test]
    fn rows_that_cant_be_read_do_not_hide_those_after_them() {
        let unreadable = UnreadableRows::default();
        let mut rows: Vec<Row> = (0..PAGE_ROWS).map(|number| row(number, b"m_1")).collect();
        rows[3].versioned.value = [0xff].as_slice().into();
        rows[4].key.truncate(4);
        let page = DuePage::of(&rows, &unreadable);
        assert_eq!(page.entries.len(), PAGE_ROWS - 2);
        let last = rows.pop().unwrap();
        assert_eq!(page.next, Some([last.key.as_slice(), &[0]].concat()));
        assert_eq!(DuePage::of(&rows, &unreadable).next, None, "a page that is not full is the last");
        assert!(!unreadable.report(&rows[3].key, "again"), "each is reported once");
    }
}
