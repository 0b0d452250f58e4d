//! Looks after payments that nobody waits for: outcomes that have to be asked for, payers who do not act, refunds under
//! way. What is due stands in the store, so all of it goes on after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::channels::ResolveRequest;
use crate::config::Config;
use crate::domain::ids::{ChannelName, MerchantId, PaymentNo, RefundNo};
use crate::domain::outcome::{ChargeAnswer, ChargeState};
use crate::domain::payment::{Payment, PaymentStatus, RefundStatus, on_answer, on_recovery};
use crate::domain::time::Timestamp;
use crate::gateway::answer::{Answered, Reply, StoredAnswer};
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::{Origin, Slot};
use crate::gateway::patience::Patience;
use crate::gateway::payments::carry::charge_request;
use crate::gateway::payments::hold::{self, Stage};
use crate::gateway::payments::rows::{self, StoredPayment};
use crate::gateway::payments::{CONFLICTS_MAX, Inner, Payments, Working, views};
use crate::storage::unreadable::UnreadableRows;
use crate::storage::{Batch, Row, Scan, StoreError, keys};
use crate::telemetry::trace;

/// Due entries read at once.
const PAGE_ROWS: usize = 256;
/// Longest sleep of the timer, so that a step of the wall clock is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// Shortest time from one look at what is due to the next, whoever wakes the timer: a channel that does not answer may
/// have many payments waiting, and all of them are passed over each time.
const SLEEP_BUSY: Duration = Duration::from_millis(100);
/// Pause after a payment that could not be looked after.
const PAUSE: Duration = Duration::from_secs(1);
/// Sleep after the due index could not be read.
const SLEEP_UNREADABLE: Duration = Duration::from_secs(1);
/// Pages looked at before the timer looks whether it has to stop.
const PAGES_MAX: usize = 16;
/// Payments of an earlier process that are taken over at once.
const TAKEOVERS_MAX: usize = 64;

/// One entry of the due index.
struct DueEntry {
    due_at: Timestamp,
    payment_no: PaymentNo,
    merchant_id: MerchantId,
    channel: ChannelName,
}

/// A page of the due index.
struct DuePage {
    /// What can be read of it, the earliest first.
    entries: Vec<DueEntry>,
    /// Behind which the next page begins, if there is one.
    next: Option<Vec<u8>>,
}

impl DuePage {
    /// The page that was read as `rows`. Those that can't be understood are passed over and reported.
    fn of(rows: &[Row], unreadable: &UnreadableRows) -> Self {
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            match keys::parse_payment_due(&row.key).zip(rows::parse_due_value(&row.versioned.value)) {
                Some(((due_at, payment_no), (merchant_id, channel))) => {
                    entries.push(DueEntry { due_at, payment_no, merchant_id, channel });
                }
                None => {
                    unreadable.report(&row.key, "it names no time, payment and merchant");
                }
            }
        }
        // By what was read, not by what of it could be used: else bad rows would hide everything after them.
        let next = rows.last().filter(|_| rows.len() == PAGE_ROWS).map(|last| last.key.clone());
        Self { entries, next }
    }
}

/// Starts the timer, and beside it the takeover of what an earlier process left behind.
pub(super) fn start(payments: &Payments) -> Result<(), GatewayError> {
    let left_behind = payments.0.due_entries(None)?;
    let (watcher, heir) = (payments.clone(), payments.clone());
    payments.0.core.tasks.spawn(async move { watcher.watch().await });
    payments.0.core.tasks.spawn(async move {
        heir.recover(left_behind).await;
        heir.0.recovered.store(true, Ordering::Release);
    });
    Ok(())
}

/// Room for questions, channel by channel, so that one that does not answer keeps nobody from asking the others.
struct Room {
    by_channel: BTreeMap<ChannelName, Arc<Semaphore>>,
    /// For channels that are not configured any more.
    others: Arc<Semaphore>,
}

impl Room {
    fn new(config: &Config) -> Self {
        let room = || Arc::new(Semaphore::new(config.payments.resolve_in_flight_max));
        let by_channel = config.channels.keys().map(|name| (ChannelName::new(name.as_str()), room()));
        Self { by_channel: by_channel.collect(), others: room() }
    }

    fn try_take(&self, channel: &ChannelName) -> Option<OwnedSemaphorePermit> {
        let places = self.by_channel.get(channel).unwrap_or(&self.others);
        Arc::clone(places).try_acquire_owned().ok()
    }
}

impl Payments {
    /// Payments in `pending` belong to a process that is gone: whether they were sent is not known. Its due entries end
    /// where those of this process begin.
    async fn recover(&self, first_page: DuePage) {
        let inner = &self.0;
        let last_due_at = inner.started_at.plus(inner.policy.abandoned_after);
        let recovered = Arc::new(AtomicUsize::new(0));
        let places = Arc::new(Semaphore::new(TAKEOVERS_MAX));
        let mut page = first_page;
        loop {
            let is_last_page = page.entries.last().is_some_and(|last| last.due_at > last_due_at);
            for entry in page.entries.into_iter().filter(|entry| entry.due_at <= last_due_at) {
                let place = tokio::select! {
                    biased;
                    () = inner.core.stopping.cancelled() => return,
                    place = Arc::clone(&places).acquire_owned() => place,
                };
                let (payments, recovered) = (self.clone(), Arc::clone(&recovered));
                inner.core.tasks.spawn(async move {
                    let _place = place;
                    match payments.0.recover_one(&entry).await {
                        Ok(true) => drop(recovered.fetch_add(1, Ordering::Relaxed)),
                        Ok(false) => {}
                        // Its due entry stands, and the timer comes to it.
                        Err(error) => tracing::error!(payment_no = %entry.payment_no, %error, "payment not taken over"),
                    }
                });
            }
            let Some(after) = page.next.filter(|_| !is_last_page) else { break };
            page = match inner.due_entries(Some(&after)) {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "the due index can't be read");
                    break;
                }
            };
        }
        // All places free means that all takeovers have ended.
        let _all = places.acquire_many(u32::try_from(TAKEOVERS_MAX).unwrap_or(u32::MAX)).await;
        inner.due.notify_one();
        let recovered = recovered.load(Ordering::Relaxed);
        if recovered > 0 {
            tracing::info!(payments = recovered, "took over payments of an earlier process; asking their channels");
        }
    }

    async fn watch(&self) {
        let room = Room::new(&self.0.core.config);
        let mut resume_after = None;
        loop {
            if self.0.core.stopping.is_cancelled() {
                return;
            }
            let sleep = self.start_due_work(&room, &mut resume_after).await;
            // Whoever ends a piece of work wakes the timer, and with much due that is all the time.
            tokio::select! {
                () = self.0.core.stopping.cancelled() => return,
                () = tokio::time::sleep(SLEEP_BUSY) => {}
            }
            tokio::select! {
                biased;
                () = self.0.core.stopping.cancelled() => return,
                () = self.0.due.notified() => {}
                () = tokio::time::sleep(sleep.saturating_sub(SLEEP_BUSY)) => {}
            }
        }
    }

    /// Starts work on what is due, as far as its channels have room; returns how long to sleep. Looks at a bounded number
    /// of entries and goes on behind them the next time.
    async fn start_due_work(&self, room: &Room, resume_after: &mut Option<Vec<u8>>) -> Duration {
        let was_resumed = resume_after.is_some();
        let mut after = resume_after.take();
        let mut busy = was_resumed;
        for _ in 0..PAGES_MAX {
            let page = match self.0.due_entries(after.as_deref()) {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "the due index can't be read");
                    return SLEEP_UNREADABLE;
                }
            };
            let now = self.0.core.clock.now();
            for entry in &page.entries {
                if entry.due_at > now {
                    let until_next = entry.due_at.since(now);
                    return if busy { until_next.min(SLEEP_BUSY) } else { until_next.min(SLEEP_MAX) };
                }
                busy = true;
                self.start_work_on(entry, room);
            }
            after = page.next;
            if after.is_none() {
                return if busy { SLEEP_BUSY } else { SLEEP_MAX };
            }
            // A page takes a while, and others have work, too.
            tokio::task::yield_now().await;
        }
        *resume_after = after;
        SLEEP_BUSY
    }

    /// Does nothing when the channel has no room or somebody works on the payment already.
    fn start_work_on(&self, entry: &DueEntry, room: &Room) {
        let Some(place) = room.try_take(&entry.channel) else { return };
        let Some(working) = self.0.work_on(&entry.payment_no) else { return };
        let payments = self.clone();
        let merchant_id = entry.merchant_id.clone();
        let due_at = entry.due_at;
        self.0.core.tasks.spawn(async move {
            payments.look_after(&merchant_id, working, due_at).await;
            drop(place);
        });
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
            inner.pause().await;
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
        let inner = &self.0;
        let payment_no = stored.payment.payment_no.clone();
        let merchant_id = stored.payment.merchant_id.clone();
        let asked = stored.payment.clone();
        // If a timer works on it at this moment, that one sees the request to cancel and the answer is 202.
        if let Some(working) = inner.work_on(&payment_no) {
            let resolved = inner.resolve(stored).await;
            drop(working);
            if let Err(error) = resolved {
                tracing::warn!(%payment_no, %error, "payment not closed yet; its channel will be asked again");
            }
        }
        // What can't be read now is as it was: asked to be canceled, which is on disk.
        let payment = rows::read(&inner.core, &merchant_id, &payment_no).map_or(asked, |stored| stored.payment);
        let answer = renderer(&Reply::PaymentCanceled(inner.view(&payment)));
        let Some(slot) = slot else { return Ok(Answered { answer, replayed: false }) };
        match inner.keep_answer(&slot, &payment_no, &answer).await {
            Ok(()) => {}
            Err(error) if inner.core.store.health().poisoned.is_some() => return Err(error),
            Err(error) => {
                tracing::warn!(%payment_no, %error, "a cancellation's answer could not be stored yet; it is tried again");
                let telling = slot.tell(&inner.core, &answer);
                let (payments, answer) = (self.clone(), answer.clone());
                inner.core.tasks.spawn(trace::in_current(async move {
                    // Until the answer is stored repetitions get it from here, and are kept out otherwise.
                    let (_telling, _claim) = (telling, claim);
                    let mut patience = Patience::new();
                    while patience.for_another_try(&payments.0.core).await {
                        if payments.0.keep_answer(&slot, &payment_no, &answer).await.is_ok() {
                            return;
                        }
                    }
                }));
            }
        }
        Ok(Answered { answer, replayed: false })
    }
}

impl Inner {
    /// Keeps an answer that nobody else gives. That it is there already is as good.
    async fn keep_answer(
        &self,
        slot: &Slot,
        payment_no: &PaymentNo,
        answer: &StoredAnswer,
    ) -> Result<(), GatewayError> {
        let mut batch = Batch::finishing();
        slot.answer(&mut batch, payment_no.as_str(), answer, self.core.clock.now())?;
        match rows::commit_finish(&self.core, batch).await {
            Ok(_) | Err(StoreError::Precondition { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A page of the due index, the earliest first, from behind a key on.
    fn due_entries(&self, after: Option<&[u8]>) -> Result<DuePage, GatewayError> {
        let mut scan = Scan::prefix(&keys::payments_due(), PAGE_ROWS);
        if let Some(after) = after {
            scan.start = after.to_vec();
            scan.start.push(0);
        }
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
        if matches!(answer.state, ChargeState::Stray { .. }) {
            let current = stored.payment.attempts.len().saturating_sub(1);
            return self.settle_stray(stored, current, &answer).await;
        }
        for _ in 0..CONFLICTS_MAX {
            let now = self.core.clock.now();
            let Some(outcome) = on_answer(&stored.payment, &answer, &self.policy, now) else { return Ok(stored) };
            let mut batch = Batch::finishing();
            let tell = |name, id| views::payment_event(&outcome.payment, name, id);
            let planned = self.record(&mut batch, &stored, &outcome, tell, now)?;
            match self.costs.commit(batch, Some(&stored.payment), &outcome.payment).await {
                Ok(committed) => {
                    log_resolution(&stored.payment, &outcome.payment);
                    self.alerts.note(&stored.payment, &outcome.payment);
                    self.teach(&stored.payment, &outcome.payment, &answer.state);
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
        let is_nameless = hold::is_nameless(payment);
        let stage = self.stage.get();
        if is_nameless && stage == Stage::Asking {
            // The provider's list may name it; to repeat the request could be what charges first.
            self.pause().await;
            return None;
        }
        let now = self.core.clock.now();
        let expired = payment.expires_at.is_some_and(|expires_at| now >= expires_at);
        let Some(channel) = self.channels.get(&attempt.channel) else {
            let reason = format!("channel {} is not configured any more", attempt.channel);
            return Some(ChargeAnswer::with(ChargeState::Unknown { reason }, attempt.refs.clone()));
        };
        // After a restore, what no provider has on record must not be sent any more.
        let close = payment.cancel_requested || expired || (is_nameless && stage != Stage::Free);
        let request = self.question(payment, payment.attempts.len().checked_sub(1)?, close)?;
        Some(channel.resolve(&request).await)
    }

    /// A question about the attempt at `place`, counted from 0.
    pub(super) fn question(&self, payment: &Payment, place: usize, close: bool) -> Option<ResolveRequest> {
        let attempt = payment.attempts.get(place)?;
        let sent_by = attempt.unanswered_at.unwrap_or(attempt.sent_at).max(self.started_at);
        Some(ResolveRequest {
            charge: charge_request(payment, attempt, &self.core.config.callbacks),
            first_sent_at: attempt.sent_at,
            sent_by,
            settling: self.settling(&attempt.channel, sent_by),
            set_back: self.core.clock_guard.set_back_since(&self.core.clock, attempt.sent_at),
            now: self.core.clock.now(),
            refs: attempt.refs.clone(),
            offered_at: attempt.offered_at,
            money_sent_at: attempt.money_sent_at,
            close,
        })
    }

    async fn ask_about_refunds(&self, stored: StoredPayment) -> Result<(), GatewayError> {
        if self.stage.get() != Stage::Free {
            // Asking may mean sending again, and that moves money. The due entry still stands.
            self.pause().await;
            return Ok(());
        }
        let pending: Vec<RefundNo> = stored
            .payment
            .refunds
            .iter()
            .filter(|refund| refund.status == RefundStatus::Pending)
            .map(|refund| refund.refund_no.clone())
            .collect();
        for refund_no in pending {
            let stored = rows::read(&self.core, &stored.payment.merchant_id, &stored.payment.payment_no)?;
            if !self.ask_about_refund(stored, &refund_no).await? {
                // It is being sent. The due entry still stands; it need not be looked at in a tight loop.
                self.pause().await;
            }
        }
        Ok(())
    }

    async fn pause(&self) {
        tokio::select! {
            biased;
            () = self.core.stopping.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

pub(super) fn log_resolution(before: &Payment, after: &Payment) {
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

    fn row(number: usize, value: &[u8]) -> Row {
        let key = keys::payment_due(Timestamp::from_unix_ms(1), &PaymentNo::new(format!("PY{number:04}")));
        Row { key, versioned: Versioned { revision: 1, value: value.into() } }
    }

    #[test]
    fn rows_that_cant_be_read_do_not_hide_those_after_them() {
        let unreadable = UnreadableRows::default();
        let mut rows: Vec<Row> = (0..PAGE_ROWS).map(|number| row(number, b"m_1\nstripe")).collect();
        rows[3].versioned.value = [0xff].as_slice().into();
        rows[4].key.truncate(4);
        let page = DuePage::of(&rows, &unreadable);
        assert_eq!(page.entries.len(), PAGE_ROWS - 2);
        let last = rows.pop().unwrap();
        assert_eq!(page.next, Some(last.key));
        assert_eq!(DuePage::of(&rows, &unreadable).next, None, "a page that is not full is the last");
        assert!(!unreadable.report(&rows[3].key, "again"), "each is reported once");
    }
}
