//! The task that has idle pre-auths put away.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::actors::pre_auth::directory::Shared;
use crate::actors::pre_auth::slot::{ActorMessage, Slot};

/// How often is looked for idle ones.
const INTERVAL: Duration = Duration::from_secs(1);
/// Pre-auths that are put away in one round at most.
const PUT_AWAY_ROUND_MAX: usize = 1_024;
/// Pause after a round that was made because there was no room.
const PAUSE_UNDER_PRESSURE: Duration = Duration::from_millis(50);

/// Runs until the directory is gone.
pub(super) async fn run(directory: Weak<Shared>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let pressed = tokio::select! {
            biased;
            _ = ticks.tick() => false,
            () = pressed(&directory) => true,
        };
        let Some(shared) = directory.upgrade() else { return };
        if shared.is_stopping() {
            return;
        }
        // When there is no room, whoever has nothing to do is idle enough.
        let idle = if pressed { Duration::ZERO } else { shared.settings.idle };
        put_idle_away(&shared, idle);
        drop(shared);
        if pressed {
            tokio::time::sleep(PAUSE_UNDER_PRESSURE).await;
        }
    }
}

/// Ready when there is no room for one more.
async fn pressed(directory: &Weak<Shared>) {
    match directory.upgrade() {
        Some(shared) => shared.pressure.notified().await,
        None => std::future::pending().await,
    }
}

fn put_idle_away(shared: &Arc<Shared>, idle: Duration) {
    let now = shared.clock.monotonic();
    let is_idle = |slot: &Slot| slot.waiting() == 0 && !slot.has_calls() && now.since(slot.last_used()) >= idle;
    for slot in shared.slots_that(is_idle, PUT_AWAY_ROUND_MAX) {
        if slot.has_actor() {
            // It puts itself away, so that nothing is taken from it that it has begun.
            let _ = shared.post(&slot, ActorMessage::Leave, None);
        } else if slot.close(0) {
            shared.forget(&slot);
        }
    }
}
