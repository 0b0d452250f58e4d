//! Looks after pre-auths that nobody waits for: outcomes that have to be asked for, payers who do not act, holds that are
//! about to expire. What is due stands in the store, so all of it goes on after a restart. What is to be done is decided by
//! the pre-auth's actor; here is only when, and how many at once on each channel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::actors::pre_auth::{PreAuthId, PreAuthMessage};
use crate::config::Config;
use crate::domain::ids::{ChannelName, MerchantId, PreAuthNo};
use crate::domain::time::Timestamp;
use crate::gateway::error::GatewayError;
use crate::gateway::payments::rows::parse_due_value;
use crate::gateway::pre_auths::{Inner, PreAuths, rows};
use crate::storage::unreadable::UnreadableRows;
use crate::storage::{Row, Scan, keys};

/// Due entries read at once.
const PAGE_ROWS: usize = 256;
/// Longest sleep of the timer, so that a step of the wall clock is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// Shortest time from one look at what is due to the next, whoever wakes the timer: a channel that does not answer may
/// have many pre-auths waiting, and all of them are passed over each time.
const SLEEP_BUSY: Duration = Duration::from_millis(100);
/// Sleep after the due index could not be read, or while the store is held.
const SLEEP_IDLE: Duration = Duration::from_secs(1);
/// Pre-auths of an earlier process that are taken over at once.
const TAKEOVERS_MAX: usize = 64;
/// Pages looked at before the timer looks whether it has to stop.
const PAGES_MAX: usize = 16;

/// One entry of the due index.
struct DueEntry {
    due_at: Timestamp,
    pre_auth_no: PreAuthNo,
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
            match keys::parse_pre_auth_due(&row.key).zip(parse_due_value(&row.versioned.value)) {
                Some(((due_at, pre_auth_no), (merchant_id, channel))) => {
                    entries.push(DueEntry { due_at, pre_auth_no, merchant_id, channel });
                }
                None => {
                    unreadable.report(&row.key, "it names no time, pre-auth and merchant");
                }
            }
        }
        // By what was read, not by what of it could be used: else bad rows would hide everything after them.
        let next = rows.last().filter(|_| rows.len() == PAGE_ROWS).map(|last| last.key.clone());
        Self { entries, next }
    }
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

/// Starts the timer. What an earlier process has left open is taken over first; whoever asks for it before that finds it
/// taken over, too.
pub(super) fn start(pre_auths: &PreAuths) -> Result<(), GatewayError> {
    let left_behind = pre_auths.0.due_entries(None)?;
    let watcher = pre_auths.clone();
    pre_auths.0.core.tasks.spawn(async move {
        watcher.0.take_over(left_behind).await;
        watcher.0.watch().await;
    });
    Ok(())
}

impl Inner {
    /// What an earlier process was about to send may have been sent or not, which its actor takes over. Its due entries end
    /// where those of this process begin.
    async fn take_over(&self, first_page: DuePage) {
        let last_due_at = self.payments.started_at().plus(self.payments.resolve_policy().abandoned_after);
        let places = Arc::new(Semaphore::new(TAKEOVERS_MAX));
        let mut page = first_page;
        loop {
            for entry in &page.entries {
                // After a restore asking may mean sending again, and that moves money.
                if entry.due_at > last_due_at || self.payments.check_held().is_err() {
                    return;
                }
                let place = tokio::select! {
                    biased;
                    () = self.core.stopping.cancelled() => return,
                    place = Arc::clone(&places).acquire_owned() => place,
                };
                if let (true, Ok(place)) = (self.was_left_behind(entry), place) {
                    // Where there is no room its due entry stands, and the timer comes to it.
                    let _ = self.send(&entry.id(), PreAuthMessage::Due { at: entry.due_at, place });
                }
            }
            let Some(after) = page.next else { return };
            // A page takes a while, and others have work, too.
            tokio::task::yield_now().await;
            page = match self.due_entries(Some(&after)) {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "the due index of pre-auths can't be read");
                    return;
                }
            };
        }
    }

    /// Whether something is open of which nobody knows if it was sent.
    fn was_left_behind(&self, entry: &DueEntry) -> bool {
        match rows::load(&self.core, &entry.merchant_id, &entry.pre_auth_no) {
            Ok(Some(stored)) => stored.pre_auth.operation.is_some_and(|operation| !operation.had_answer()),
            Ok(None) => false,
            Err(error) => {
                tracing::error!(pre_auth_no = %entry.pre_auth_no, %error, "a pre-auth can't be read");
                false
            }
        }
    }

    async fn watch(&self) {
        let room = Room::new(&self.core.config);
        let mut resume_after = None;
        while !self.core.stopping.is_cancelled() {
            // After a restore asking may mean sending again, and that moves money.
            let is_held = self.payments.check_held().is_err();
            let sleep = if is_held { SLEEP_IDLE } else { self.start_due_work(&room, &mut resume_after).await };
            // Whoever ends a piece of work wakes the timer, and with much due that is all the time.
            tokio::select! {
                () = self.core.stopping.cancelled() => return,
                () = tokio::time::sleep(SLEEP_BUSY) => {}
            }
            tokio::select! {
                biased;
                () = self.core.stopping.cancelled() => return,
                () = self.works.due().notified() => {}
                () = tokio::time::sleep(sleep.saturating_sub(SLEEP_BUSY)) => {}
            }
        }
    }

    /// Starts work on what is due, as far as its channels have room; returns how long to sleep. Looks at a bounded number
    /// of entries and goes on behind them the next time.
    async fn start_due_work(&self, room: &Room, resume_after: &mut Option<Vec<u8>>) -> Duration {
        let mut busy = resume_after.is_some();
        let mut after = resume_after.take();
        for _ in 0..PAGES_MAX {
            let page = match self.due_entries(after.as_deref()) {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "the due index of pre-auths can't be read");
                    return SLEEP_IDLE;
                }
            };
            let now = self.core.clock.now();
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
            tokio::task::yield_now().await;
        }
        *resume_after = after;
        SLEEP_BUSY
    }

    /// Does nothing when the channel has no room, or the pre-auth has much to do.
    fn start_work_on(&self, entry: &DueEntry, room: &Room) {
        let Some(place) = room.try_take(&entry.channel) else { return };
        let _ = self.send(&entry.id(), PreAuthMessage::Due { at: entry.due_at, place });
    }

    /// A page of the due index, the earliest first, from behind a key on.
    fn due_entries(&self, after: Option<&[u8]>) -> Result<DuePage, GatewayError> {
        let mut scan = Scan::prefix(&keys::pre_auths_due(), PAGE_ROWS);
        if let Some(after) = after {
            scan.start = after.to_vec();
            scan.start.push(0);
        }
        Ok(DuePage::of(&self.core.store.scan(&scan)?, &self.unreadable))
    }
}

impl DueEntry {
    fn id(&self) -> PreAuthId {
        PreAuthId { merchant_id: self.merchant_id.clone(), pre_auth_no: self.pre_auth_no.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Versioned;

    fn row(number: usize, value: &[u8]) -> Row {
        let key = keys::pre_auth_due(Timestamp::from_unix_ms(1), &PreAuthNo::new(format!("PA{number:04}")));
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
