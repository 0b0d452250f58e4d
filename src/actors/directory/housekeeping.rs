//! The task that hands over snapshots of changed merchants, takes back permits whose time is over, and puts idle merchants
//! away.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use crate::actors::directory::Inner;
use crate::actors::merchant::{DECIDING_MAX, MerchantMessage, Slot, SlotGuard};

/// Merchants that are put away in one round at most.
const PUT_AWAY_ROUND_MAX: usize = 1_024;
/// Permits that are taken back in one round at most.
const REAPED_ROUND_MAX: u64 = 4_096;
/// When there is no room, a merchant is idle enough after this.
const IDLE_UNDER_PRESSURE: Duration = Duration::from_secs(1);
const PAUSE_UNDER_PRESSURE: Duration = Duration::from_millis(100);

/// Runs until the directory is gone.
pub(super) async fn run(directory: Weak<Inner>) {
    let Some(interval) = directory.upgrade().map(|inner| inner.settings.snapshot_interval) else { return };
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let pressed = tokio::select! {
            biased;
            _ = ticks.tick() => false,
            () = pressed(&directory) => true,
        };
        let Some(inner) = directory.upgrade() else { return };
        if inner.stopping.load(Ordering::Acquire) {
            return;
        }
        let idle = if pressed { IDLE_UNDER_PRESSURE.min(inner.settings.idle) } else { inner.settings.idle };
        inner.reap_permits();
        inner.tell_completeness();
        inner.ask_for_snapshots();
        inner.put_idle_away(idle).await;
        drop(inner);
        if pressed {
            // However many are refused for want of room, looking for room takes little of the processor.
            tokio::time::sleep(PAUSE_UNDER_PRESSURE).await;
        }
    }
}

/// Ready when there is no room for one more merchant.
async fn pressed(directory: &Weak<Inner>) {
    match directory.upgrade() {
        Some(inner) => inner.pressure.notified().await,
        None => std::future::pending().await,
    }
}

impl Inner {
    /// Takes back permits whose time is over, also of merchants that ask for nothing any more. What is above the bound is
    /// for the next round.
    fn reap_permits(&self) {
        let now = self.surroundings.clock.monotonic();
        let mut left = REAPED_ROUND_MAX;
        // Every permit holds its slot.
        for slot in self.slots_that(|slot| !slot.is_free(), usize::MAX) {
            left -= slot.reap(now, left);
            if left == 0 {
                return;
            }
        }
    }

    /// Says up to when every admission is in a snapshot.
    fn tell_completeness(&self) {
        // Read before the merchants are looked at: what they admit meanwhile is later.
        let before = self.surroundings.limit_time.now().minus(DECIDING_MAX);
        let oldest = self.slots.iter().filter_map(|entry| entry.value().incomplete_since(before)).min();
        self.surroundings.snapshots.complete(oldest.map_or(before, |oldest| oldest.min(before)));
    }

    /// Asks every changed merchant for a snapshot, without waiting.
    fn ask_for_snapshots(&self) {
        for slot in self.slots_that(|slot| slot.is_unsaved(), usize::MAX) {
            if slot.save_asked.swap(true, Ordering::AcqRel) {
                continue;
            }
            if !ask_to_save(&slot, None) {
                slot.save_asked.store(false, Ordering::Release);
            }
        }
    }

    async fn put_idle_away(&self, idle: Duration) {
        let now = self.surroundings.clock.monotonic();
        let is_idle = |slot: &Slot| slot.is_free() && now.since(slot.last_used()) >= idle;
        for slot in self.slots_that(is_idle, PUT_AWAY_ROUND_MAX) {
            self.put_away(&slot).await;
        }
    }

    /// Puts one merchant away: nobody can begin to hold it, its state is handed over, it leaves the directory. It stays
    /// when somebody holds it or its state is not taken.
    pub(super) async fn put_away(&self, slot: &Arc<Slot>) -> bool {
        if !slot.close() {
            return false;
        }
        let gone = match slot.started.initialized() {
            true => hand_over(slot).await,
            false => true,
        };
        if gone {
            self.slots.remove_if(slot.merchant_id(), |_, known| Arc::ptr_eq(known, slot));
            self.active.fetch_sub(1, Ordering::AcqRel);
            self.surroundings.observer.merchant_went();
            slot.gone();
        } else {
            slot.reopen();
        }
        gone
    }

    pub(super) async fn snapshot_all(&self) -> usize {
        let mut left = 0;
        for slot in self.slots_that(|slot| slot.is_unsaved(), usize::MAX) {
            let (reply, answer) = oneshot::channel();
            let saved = ask_to_save(&slot, Some(reply)) && answer.await.unwrap_or(false);
            left += usize::from(!saved);
        }
        left
    }

    /// Slots that fit, without holding the map for longer than it takes to look.
    fn slots_that(&self, fits: impl Fn(&Slot) -> bool, max: usize) -> Vec<Arc<Slot>> {
        let fitting = self.slots.iter().filter(|entry| fits(entry.value()));
        fitting.take(max).map(|entry| Arc::clone(entry.value())).collect()
    }
}

fn ask_to_save(slot: &Arc<Slot>, reply: Option<oneshot::Sender<bool>>) -> bool {
    let Some(guard) = SlotGuard::hold(slot) else { return false };
    slot.send(MerchantMessage::Save { reply, _guard: guard }).is_ok()
}

async fn hand_over(slot: &Slot) -> bool {
    let (reply, answer) = oneshot::channel();
    let asked = slot.send(MerchantMessage::PutAway { reply });
    asked.is_ok() && answer.await.unwrap_or(false)
}
