//! Places for TLS handshakes: a bound on all of them, a share of it for each client, and who gives way when all are taken.
//!
//! A handshake does next to nothing but wait for its client, which may send a byte at a time or no more at all. Were places
//! only waited for, a few addresses that stall would keep everybody out for as long as a handshake may take. So when there is
//! none left, one that has taken longer than a handshake needs is ended for whoever comes: the oldest of the client with the
//! most of them, else the oldest of all. One that may still be honest is ended only for a client that has fewer, and only
//! where its own has a whole share of them; else whoever comes waits until one has stalled.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::api::body::places::share_of;
use crate::clock::Clock;
use crate::domain::limit::ClientNetwork;
use crate::domain::time::Monotonic;

/// A handshake is two or three ways there and back: what lasts longer may be ended for somebody else.
const STALLED_AFTER: Duration = Duration::from_secs(1);

/// The places of one listener.
pub(crate) struct Handshakes {
    all_max: usize,
    share_max: usize,
    open: Mutex<Open>,
    /// Notified when a place comes back.
    freed: Notify,
    clock: Clock,
}

/// A place, given back when it is dropped.
pub(crate) struct Place<'a> {
    handshakes: &'a Handshakes,
    number: u64,
    taken_away: CancellationToken,
}

#[derive(Default)]
struct Open {
    last_number: u64,
    /// By number, so that the oldest comes first. Looked through only while all places are taken.
    all: BTreeMap<u64, Held>,
    /// Only of those that hold any, so never more entries than places.
    by_client: HashMap<ClientNetwork, usize>,
}

struct Held {
    /// `None` when it is one of many that can't be told apart: then it counts as a client of its own.
    client: Option<ClientNetwork>,
    since: Monotonic,
    taken_away: CancellationToken,
}

/// What becomes of who asks for a place.
enum Asked<'a> {
    Taken(Place<'a>),
    HasItsShare,
    /// Somebody will have stalled by then, if no place comes back before.
    WaitFor(Duration),
}

impl Handshakes {
    /// `all_max` at once.
    pub(crate) fn new(all_max: usize, clock: Clock) -> Self {
        Self { all_max, share_max: share_of(all_max), open: Mutex::default(), freed: Notify::new(), clock }
    }

    /// Takes a place, waiting for one while nobody has to give way; `None` when `client` has its share. Who calls bounds
    /// the wait.
    pub(crate) async fn take(&self, client: Option<ClientNetwork>) -> Option<Place<'_>> {
        loop {
            // Before asking, so that a place that comes back in between is not missed.
            let freed = self.freed.notified();
            match self.ask(client, self.clock.monotonic()) {
                Asked::Taken(place) => return Some(place),
                Asked::HasItsShare => return None,
                Asked::WaitFor(wait) => tokio::select! { () = freed => {}, () = tokio::time::sleep(wait) => {} },
            }
        }
    }

    fn ask(&self, client: Option<ClientNetwork>, now: Monotonic) -> Asked<'_> {
        let mut open = self.open.lock();
        let held = client.and_then(|client| open.by_client.get(&client).copied()).unwrap_or(0);
        if held >= self.share_max {
            return Asked::HasItsShare;
        }
        if open.all.len() >= self.all_max {
            let Some(number) = open.gives_way(held, self.share_max, now) else {
                return Asked::WaitFor(open.until_stalled(now));
            };
            if let Some(loser) = open.remove(number) {
                loser.taken_away.cancel();
            }
        }
        let (number, taken_away) = open.add(client, now);
        Asked::Taken(Place { handshakes: self, number, taken_away })
    }
}

impl Open {
    fn add(&mut self, client: Option<ClientNetwork>, since: Monotonic) -> (u64, CancellationToken) {
        self.last_number += 1;
        let taken_away = CancellationToken::new();
        self.all.insert(self.last_number, Held { client, since, taken_away: taken_away.clone() });
        if let Some(client) = client {
            *self.by_client.entry(client).or_default() += 1;
        }
        (self.last_number, taken_away)
    }

    fn remove(&mut self, number: u64) -> Option<Held> {
        let held = self.all.remove(&number)?;
        if let Some(client) = held.client {
            match self.by_client.get_mut(&client) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.by_client.remove(&client)),
            }
        }
        Some(held)
    }

    /// Which one is ended for a client that holds `held`, if one is.
    fn gives_way(&self, held: usize, share_max: usize, now: Monotonic) -> Option<u64> {
        let is_stalled = |(_, oldest): &(&u64, &Held)| now.since(oldest.since) >= STALLED_AFTER;
        let most = self.by_client.iter().max_by_key(|(_, count)| **count);
        // So that both do not take each other's place by turns.
        let most = most.filter(|(_, count)| **count > held + 1);
        let of_most = most.and_then(|(client, _)| self.all.iter().find(|(_, held)| held.client == Some(*client)));
        let is_share = most.is_some_and(|(_, count)| *count >= share_max);
        let stalled = of_most.filter(is_stalled).or_else(|| self.all.first_key_value().filter(is_stalled));
        stalled.or(of_most.filter(|_| is_share)).map(|(number, _)| *number)
    }

    fn until_stalled(&self, now: Monotonic) -> Duration {
        self.all
            .first_key_value()
            .map_or(STALLED_AFTER, |(_, oldest)| STALLED_AFTER.saturating_sub(now.since(oldest.since)))
    }
}

impl Place<'_> {
    /// Ready when somebody else has got the place.
    pub(crate) async fn taken_away(&self) {
        self.taken_away.cancelled().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.handshakes.open.lock().remove(self.number).is_some() {
            self.handshakes.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn client(number: u8) -> Option<ClientNetwork> {
        Some(ClientNetwork::of([192, 0, 2, number].into()))
    }

    fn places(all_max: usize) -> (Handshakes, Clock) {
        let clock = Clock::manual(Timestamp::from_unix_s(1_700_000_000));
        (Handshakes::new(all_max, clock.clone()), clock)
    }

    fn taken(handshakes: &Handshakes, client: Option<ClientNetwork>) -> Option<Place<'_>> {
        match handshakes.ask(client, handshakes.clock.monotonic()) {
            Asked::Taken(place) => Some(place),
            Asked::HasItsShare | Asked::WaitFor(_) => None,
        }
    }

    fn lost(places: &[Place<'_>]) -> Vec<usize> {
        (0..places.len()).filter(|index| places[*index].taken_away.is_cancelled()).collect()
    }

    #[test]
    fn who_holds_the_most_loses_the_oldest_to_who_has_fewer() {
        let (handshakes, clock) = places(32);
        let stalled: Vec<_> = (0..40).map_while(|_| taken(&handshakes, client(1))).collect();
        assert_eq!(stalled.len(), 16, "its share");
        let others: Vec<_> = (0..16).map_while(|_| taken(&handshakes, client(2))).collect();
        assert_eq!(others.len(), 16, "the rest");
        let fresh = taken(&handshakes, client(3)).expect("nobody waits for those who hold so many");
        assert_eq!(lost(&stalled).len() + lost(&others).len(), 1);
        assert!(!stalled[15].taken_away.is_cancelled() && !others[15].taken_away.is_cancelled(), "the oldest goes");
        let other = taken(&handshakes, client(4)).expect("the other one has a whole share, too");
        assert!(taken(&handshakes, client(5)).is_none(), "those that nobody has too many of may be honest");
        clock.advance(STALLED_AFTER);
        let many: Vec<_> = (0..20).map_while(|_| taken(&handshakes, client(5))).collect();
        assert_eq!(many.len(), 16, "its share");
        assert!(
            !other.taken_away.is_cancelled() && !fresh.taken_away.is_cancelled(),
            "who holds one loses none to who holds more"
        );
        assert_eq!(handshakes.open.lock().all.len(), 32);
        drop((stalled, others, fresh, other, many));
        let open = handshakes.open.lock();
        assert!(open.all.is_empty() && open.by_client.is_empty());
    }

    #[test]
    fn who_stalls_goes_before_who_does_not_however_many_addresses_stall() {
        let (handshakes, clock) = places(32);
        let stalled: Vec<_> = (0..24).map_while(|number| taken(&handshakes, client(number))).collect();
        clock.advance(STALLED_AFTER);
        let honest: Vec<_> = (0..8).map_while(|_| taken(&handshakes, client(100))).collect();
        let next: Vec<_> = (0..8).map_while(|number| taken(&handshakes, client(200 + number))).collect();
        assert_eq!((stalled.len(), honest.len(), next.len()), (24, 8, 8));
        assert_eq!((lost(&stalled), lost(&honest)), ((0..8).collect(), Vec::new()));
    }

    #[test]
    fn a_rush_of_honest_ones_waits_until_one_has_stalled() {
        let (handshakes, clock) = places(16);
        // Each a client of its own, be it that they can be told apart or not.
        let mut rush: Vec<_> = (0..8).map_while(|_| taken(&handshakes, None)).collect();
        rush.extend((0..8).map_while(|number| taken(&handshakes, client(number))));
        assert_eq!(rush.len(), 16);
        clock.advance(STALLED_AFTER - Duration::from_millis(1));
        let Asked::WaitFor(wait) = handshakes.ask(client(100), clock.monotonic()) else { panic!("nobody has stalled") };
        assert_eq!((wait, lost(&rush)), (Duration::from_millis(1), Vec::new()));
        clock.advance(wait);
        assert!(taken(&handshakes, None).is_some());
        assert_eq!(lost(&rush), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_comes_back_goes_to_who_waits() {
        let (handshakes, _clock) = places(16);
        let mut held: Vec<_> = (0..16).map_while(|number| taken(&handshakes, client(number))).collect();
        let mut waiting = std::pin::pin!(handshakes.take(client(100)));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(held.pop());
        // Not by the time, which stands still.
        let std::task::Poll::Ready(Some(place)) = futures_util::poll!(waiting.as_mut()) else { panic!("it came back") };
        assert!(taken(&handshakes, client(101)).is_none());
        drop(place);
        assert!(taken(&handshakes, client(101)).is_some());
    }
}
