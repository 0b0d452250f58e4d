//! How much asking notifications may lead to, channel by channel, so that neither many of them nor one provider that does
//! not answer keeps the rest waiting.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Config;
use crate::domain::ids::ChannelName;
use crate::domain::time::Monotonic;

/// Questions that may be asked at once after a rest.
const BURST: u32 = 50;

/// A steady number of questions a second.
struct Allowance {
    /// Of one question.
    interval: Duration,
    /// When all that was asked has been made up for.
    even_at: Monotonic,
}

impl Allowance {
    fn new(per_second: u32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second.max(1), even_at: Monotonic::default() }
    }

    /// Takes as many as `count` at once, or none.
    fn try_take(&mut self, count: u32, now: Monotonic) -> bool {
        let after = self.even_at.max(now).plus(self.interval * count);
        // More at once than there ever can be waits until nothing is owed.
        let fits = after.since(now) <= self.interval * BURST || self.even_at <= now;
        if fits {
            self.even_at = after;
        }
        fits
    }
}

struct Lane {
    places: Arc<Semaphore>,
    allowance: Mutex<Allowance>,
}

impl Lane {
    fn new(config: &Config) -> Self {
        Self {
            places: Arc::new(Semaphore::new(config.payments.resolve_in_flight_max)),
            allowance: Mutex::new(Allowance::new(config.callbacks.asks_per_second)),
        }
    }
}

/// The room of all channels.
pub(super) struct Room {
    by_channel: BTreeMap<ChannelName, Lane>,
    /// For channels that are not configured any more.
    others: Lane,
}

impl Room {
    pub(super) fn new(config: &Config) -> Self {
        let lanes = config.channels.keys().map(|name| (ChannelName::new(name.as_str()), Lane::new(config)));
        Self { by_channel: lanes.collect(), others: Lane::new(config) }
    }

    /// A place for following a hint that asks so many questions; none when there is no room for that now.
    pub(super) fn try_take(
        &self,
        channel: &ChannelName,
        questions: usize,
        now: Monotonic,
    ) -> Option<OwnedSemaphorePermit> {
        let lane = self.by_channel.get(channel).unwrap_or(&self.others);
        let place = Arc::clone(&lane.places).try_acquire_owned().ok()?;
        let questions = u32::try_from(questions).unwrap_or(u32::MAX);
        lane.allowance.lock().try_take(questions, now).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_there_are_so_many_a_second() {
        let mut allowance = Allowance::new(20);
        let at = |millis: u64| Monotonic::from_micros(1_000_000_000 + millis * 1_000);
        let taken = |allowance: &mut Allowance, millis| (0..500).filter(|_| allowance.try_take(1, at(millis))).count();
        assert_eq!(taken(&mut allowance, 0), 50);
        assert_eq!(taken(&mut allowance, 49), 0);
        assert_eq!(taken(&mut allowance, 50), 1);
        assert_eq!(taken(&mut allowance, 1_050), 20);
        assert_eq!(taken(&mut allowance, 600_000), 50, "a rest gives back no more than the burst");
    }

    #[test]
    fn what_asks_several_takes_several() {
        let mut allowance = Allowance::new(1);
        let at = Monotonic::from_micros(1_000_000_000);
        let taken = (0..100).filter(|_| allowance.try_take(8, at)).count();
        assert_eq!(taken, 6);
    }

    #[test]
    fn one_channel_takes_no_other_s_room() {
        let mut config = Config::embedded().unwrap();
        config.payments.resolve_in_flight_max = 2;
        let room = Room::new(&config);
        let (stripe, alipay) = (ChannelName::new("stripe"), ChannelName::new("alipay"));
        let now = Monotonic::from_micros(1_000_000_000);
        let held: Vec<_> = (0..4).filter_map(|_| room.try_take(&stripe, 1, now)).collect();
        assert_eq!(held.len(), 2);
        assert!(room.try_take(&alipay, 1, now).is_some());
        drop(held);
        assert!(room.try_take(&stripe, 1, now).is_some(), "places come back");
        assert!(room.try_take(&ChannelName::new("gone"), 1, now).is_some());
    }
}
