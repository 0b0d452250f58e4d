//! How many requests are under way over all endpoints, and whose turn is next.
//!
//! There are two pools. Endpoints that answer, and answer soon, have their requests in the quick one; all others have theirs
//! in the slow one, as has every request that turns out to last long, wherever it began. So however many receivers hang, the
//! places of those that answer come back within a moment.
//!
//! In either pool an endpoint has all the places that it may have while most are free; then a few; and the last places are
//! for endpoints that have none, however many requests have moved there. Of those that wait, the one with the fewest places goes first, and of these the one that
//! has had none for longest: however much waits for an endpoint, it has one turn among others.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::domain::ids::EndpointId;

/// While less than one in so many places of a pool is taken, an endpoint has as many as it may have at all.
const PLENTY_SHARE: usize = 4;
/// One in so many places of a pool is for endpoints that have none.
const KEPT_SHARE: usize = 8;
/// What an endpoint has of the quick pool when there is no plenty.
const FEW_QUICK: usize = 2;
/// What an endpoint has of the slow pool when there is no plenty.
const FEW_SLOW: usize = 4;
/// Requests that turn out to last move to the slow pool even when it is full, up to so many times its places: else the
/// places of those that answer would be theirs until they end.
pub(crate) const SLOW_OVER: usize = 4;
/// Answers that wait for their commit, for each place of the quick pool. Above, nothing more is asked.
const RECORDING_PER_PLACE: usize = 4;

/// What is known of an endpoint to which a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It answers, and soon.
    Good,
    /// It never did, it fails, or it takes long.
    Doubtful,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Quick,
    Slow,
}

/// The places. Cheap to clone; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Pools {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    quick: Pool,
    slow: Pool,
    recording: usize,
    recording_max: usize,
}

#[derive(Debug)]
struct Pool {
    places: usize,
    few: usize,
    taken: usize,
    /// Of those taken, requests that began in the other pool.
    moved: usize,
    endpoints: HashMap<EndpointId, OfEndpoint>,
    /// Those that wait: by the places that they have, and by their turns.
    order: BTreeMap<(usize, u64), EndpointId>,
    next_turn: u64,
}

#[derive(Debug, Default)]
struct OfEndpoint {
    held: usize,
    waiting: VecDeque<oneshot::Sender<Permit>>,
    /// Behind all others from when it begins to wait, and again with each place that it gets or gives back.
    turn: u64,
}

/// A turn that has come, for when nothing is locked any more.
struct Grant {
    endpoint_id: EndpointId,
    kind: Kind,
    granted: oneshot::Sender<Permit>,
}

/// A place. Held while a request is under way.
#[derive(Debug)]
#[must_use = "dropped, the place is given back"]
pub(super) struct Permit {
    pools: Pools,
    endpoint_id: EndpointId,
    kind: Kind,
    has_moved: bool,
}

/// An answer whose commit is under way.
#[derive(Debug)]
#[must_use = "dropped, it is committed"]
pub(super) struct Recording {
    pools: Pools,
}

impl Pool {
    fn new(places: usize, few: usize) -> Self {
        Self {
            places: places.max(1),
            few,
            taken: 0,
            moved: 0,
            endpoints: HashMap::new(),
            order: BTreeMap::new(),
            next_turn: 0,
        }
    }

    /// Whether an endpoint that has `held` places gets one more. Never for one that has more, if not for one that has less.
    const fn has_room_for(&self, held: usize) -> bool {
        // However many have moved here, those that have none can begin.
        if held == 0 && self.moved > 0 && self.taken - self.moved < self.places / KEPT_SHARE {
            return true;
        }
        let free = self.places.saturating_sub(self.taken);
        if free == 0 {
            return false;
        }
        held == 0 || self.taken < self.places / PLENTY_SHARE || (held < self.few && free > self.places / KEPT_SHARE)
    }

    fn held_by(&self, endpoint_id: &EndpointId) -> usize {
        self.endpoints.get(endpoint_id).map_or(0, |of| of.held)
    }

    /// Changes what an endpoint has and what it waits for.
    fn change(&mut self, endpoint_id: &EndpointId, change: impl FnOnce(&mut OfEndpoint)) {
        let of = self.endpoints.entry(endpoint_id.clone()).or_default();
        let (held, was_waiting) = (of.held, !of.waiting.is_empty());
        if was_waiting {
            self.order.remove(&(held, of.turn));
        }
        change(of);
        if of.waiting.is_empty() {
            if of.held == 0 {
                self.endpoints.remove(endpoint_id);
            }
            return;
        }
        if !was_waiting || of.held != held {
            of.turn = self.next_turn;
            self.next_turn += 1;
        }
        self.order.insert((of.held, of.turn), endpoint_id.clone());
    }

    fn take(&mut self, endpoint_id: &EndpointId) {
        self.taken += 1;
        self.change(endpoint_id, |of| of.held += 1);
    }

    fn give_back(&mut self, endpoint_id: &EndpointId) {
        self.taken = self.taken.saturating_sub(1);
        self.change(endpoint_id, |of| of.held = of.held.saturating_sub(1));
    }

    fn take_waiting(&mut self, endpoint_id: &EndpointId) -> VecDeque<oneshot::Sender<Permit>> {
        let mut waiting = VecDeque::new();
        if self.endpoints.contains_key(endpoint_id) {
            self.change(endpoint_id, |of| waiting = std::mem::take(&mut of.waiting));
        }
        waiting
    }

    fn wait_too(&mut self, endpoint_id: &EndpointId, mut waiting: VecDeque<oneshot::Sender<Permit>>) {
        if !waiting.is_empty() {
            self.change(endpoint_id, |of| of.waiting.append(&mut waiting));
        }
    }

    /// Takes the next place for whoever's turn it is.
    fn next(&mut self) -> Option<(EndpointId, oneshot::Sender<Permit>)> {
        loop {
            let (&(held, _), endpoint_id) = self.order.first_key_value()?;
            if !self.has_room_for(held) {
                return None;
            }
            let endpoint_id = endpoint_id.clone();
            let mut next = None;
            self.change(&endpoint_id, |of| next = of.waiting.pop_front());
            // Those that were given up meanwhile are passed over.
            if let Some(granted) = next.filter(|granted| !granted.is_closed()) {
                self.take(&endpoint_id);
                return Some((endpoint_id, granted));
            }
        }
    }
}

impl Inner {
    const fn pool(&mut self, kind: Kind) -> &mut Pool {
        match kind {
            Kind::Quick => &mut self.quick,
            Kind::Slow => &mut self.slow,
        }
    }

    const fn may_ask(&self) -> bool {
        self.recording < self.recording_max
    }

    /// Whose turns have come.
    fn grants(&mut self) -> Vec<Grant> {
        let mut grants = Vec::new();
        if !self.may_ask() {
            return grants;
        }
        for kind in [Kind::Quick, Kind::Slow] {
            while let Some((endpoint_id, granted)) = self.pool(kind).next() {
                grants.push(Grant { endpoint_id, kind, granted });
            }
        }
        grants
    }

    /// What an endpoint waits for in the quick pool, it waits for in the slow one from now on.
    fn wait_in_slow(&mut self, endpoint_id: &EndpointId) {
        let waiting = self.quick.take_waiting(endpoint_id);
        self.slow.wait_too(endpoint_id, waiting);
    }

    /// And the other way round, unless a request of it still lasts.
    fn wait_in_quick(&mut self, endpoint_id: &EndpointId) {
        if self.slow.held_by(endpoint_id) == 0 {
            let waiting = self.slow.take_waiting(endpoint_id);
            self.quick.wait_too(endpoint_id, waiting);
        }
    }
}

impl Pools {
    /// So many places for requests that do not last, and so many for all others.
    pub(super) fn new(quick_max: usize, slow_max: usize) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                quick: Pool::new(quick_max, FEW_QUICK),
                slow: Pool::new(slow_max, FEW_SLOW),
                recording: 0,
                recording_max: quick_max.max(1).saturating_mul(RECORDING_PER_PLACE),
            })),
        }
    }

    /// Waits for a place. `None` never happens while the pools exist.
    pub(super) async fn acquire(&self, endpoint_id: &EndpointId, standing: Standing) -> Option<Permit> {
        let turn = {
            let mut inner = self.inner.lock();
            // An endpoint with a request that lasts is doubtful, whatever else is known of it.
            let is_good = standing == Standing::Good && inner.slow.held_by(endpoint_id) == 0;
            let kind = if is_good { Kind::Quick } else { Kind::Slow };
            let may_ask = inner.may_ask();
            let pool = inner.pool(kind);
            let has_waiting = pool.endpoints.get(endpoint_id).is_some_and(|of| !of.waiting.is_empty());
            if may_ask && !has_waiting && pool.has_room_for(pool.held_by(endpoint_id)) {
                pool.take(endpoint_id);
                return Some(Permit { pools: self.clone(), endpoint_id: endpoint_id.clone(), kind, has_moved: false });
            }
            let (granted, turn_comes) = oneshot::channel();
            pool.change(endpoint_id, |of| of.waiting.push_back(granted));
            turn_comes
        };
        turn.await.ok()
    }

    /// Changes something, and tells those whose turn has come by it.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let (result, grants) = {
            let mut inner = self.inner.lock();
            let result = change(&mut inner);
            (result, inner.grants())
        };
        for Grant { endpoint_id, kind, granted } in grants {
            // Not taken, it comes back by itself.
            drop(granted.send(Permit { pools: self.clone(), endpoint_id, kind, has_moved: false }));
        }
        result
    }

    /// Places taken in the quick pool, and in the slow one.
    pub(super) fn taken(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.quick.taken, inner.slow.taken)
    }
}

impl Permit {
    /// The request lasts: it goes on in the slow pool, over its bound if need be, if there is room at all; what else its
    /// endpoint waits for, it waits for there in any case. Returns whether it is there.
    pub(super) fn lasts(&mut self) -> bool {
        if self.kind == Kind::Slow {
            return true;
        }
        let endpoint_id = self.endpoint_id.clone();
        let has_moved = self.pools.change(|inner| {
            inner.wait_in_slow(&endpoint_id);
            if inner.slow.taken >= inner.slow.places.saturating_mul(SLOW_OVER) {
                return false;
            }
            inner.slow.take(&endpoint_id);
            inner.slow.moved += 1;
            inner.quick.give_back(&endpoint_id);
            true
        });
        if has_moved {
            (self.kind, self.has_moved) = (Kind::Slow, true);
        }
        has_moved
    }

    /// Whether it is one of the slow pool.
    pub(super) const fn is_slow(&self) -> bool {
        matches!(self.kind, Kind::Slow)
    }

    /// The answer is there: gives the place back. What is returned is held until the answer is committed. An endpoint that
    /// `is_quick` waits among the quick ones from now on: a moment of slowness, perhaps our own, has not made it a slow one.
    pub(super) fn answered(self, is_quick: bool) -> Recording {
        let (pools, endpoint_id) = (self.pools.clone(), self.endpoint_id.clone());
        pools.inner.lock().recording += 1;
        drop(self);
        if is_quick {
            pools.change(|inner| inner.wait_in_quick(&endpoint_id));
        }
        Recording { pools }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (kind, endpoint_id) = (self.kind, &self.endpoint_id);
        let moved = usize::from(self.has_moved);
        self.pools.change(|inner| {
            let pool = inner.pool(kind);
            pool.moved = pool.moved.saturating_sub(moved);
            pool.give_back(endpoint_id);
        });
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.pools.change(|inner| inner.recording = inner.recording.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn endpoint(number: usize) -> EndpointId {
        EndpointId::new(format!("we_{number:05}"))
    }

    fn now(pools: &Pools, number: usize, standing: Standing) -> Option<Permit> {
        pools.acquire(&endpoint(number), standing).now_or_never().flatten()
    }

    #[test]
    fn hundreds_of_endpoints_that_hang_leave_a_place_for_one_that_does_not() {
        let pools = Pools::new(512, 1024);
        let mut hanging = Vec::new();
        for number in 0..200 {
            hanging.extend((0..16).map_while(|_| now(&pools, number, Standing::Good)));
        }
        let (quick, slow) = pools.taken();
        assert_eq!((quick, slow), (128 + 160 * 2 + 32, 0), "all, then two, then one each");
        let good = now(&pools, 999, Standing::Good).unwrap();
        assert!(now(&pools, 999, Standing::Good).is_none(), "the last places are for those that have none");
        drop(good);
        for permit in &mut hanging {
            assert!(permit.lasts() && permit.is_slow());
        }
        assert_eq!(pools.taken(), (0, quick));
        // They are known now, and take no more quick places.
        for number in 0..200 {
            hanging.extend((0..16).map_while(|_| now(&pools, number, Standing::Good)));
        }
        let (quick, slow) = pools.taken();
        assert_eq!(quick, 0);
        assert!(slow <= 1024 - 1024 / 8, "{slow}");
        assert!(now(&pools, 999, Standing::Doubtful).is_some());
        let many: Vec<Permit> = (0..16).filter_map(|_| now(&pools, 999, Standing::Good)).collect();
        assert_eq!(many.len(), 16);
        drop((hanging, many));
        assert_eq!(pools.taken(), (0, 0));
    }

    #[tokio::test]
    async fn those_with_the_fewest_places_go_first_and_then_those_that_wait_longest() {
        let pools = Pools::new(8, 1);
        let mut held: Vec<Permit> = (0..4).filter_map(|_| now(&pools, 0, Standing::Good)).collect();
        assert_eq!(held.len(), 2, "no plenty after a quarter");
        held.extend((1..7).filter_map(|number| now(&pools, number, Standing::Good)));
        assert_eq!(pools.taken(), (8, 0));
        let (one, none, later) = (endpoint(1), endpoint(8), endpoint(9));
        let mut has_one = Box::pin(pools.acquire(&one, Standing::Good));
        let mut has_none = Box::pin(pools.acquire(&none, Standing::Good));
        let mut comes_later = Box::pin(pools.acquire(&later, Standing::Good));
        for waiting in [&mut has_one, &mut has_none, &mut comes_later] {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        drop(held.pop());
        let first = has_none.as_mut().now_or_never().unwrap().unwrap();
        assert!(comes_later.as_mut().now_or_never().is_none());
        drop(first);
        let second = comes_later.as_mut().now_or_never().unwrap().unwrap();
        assert!(has_one.as_mut().now_or_never().is_none());
        drop(second);
        assert!(has_one.as_mut().now_or_never().is_none(), "the last place is for one that has none");
        drop(held.pop());
        assert!(has_one.as_mut().now_or_never().unwrap().is_some());
    }

    #[tokio::test]
    async fn what_an_endpoint_waits_for_goes_with_it_into_the_slow_pool() {
        let pools = Pools::new(2, 3);
        let (hung, good) = (endpoint(0), endpoint(1));
        let mut held: Vec<Permit> = (0..2).map(|number| now(&pools, number, Standing::Good).unwrap()).collect();
        let mut waiting = Box::pin(pools.acquire(&hung, Standing::Good));
        let mut of_good = Box::pin(pools.acquire(&good, Standing::Good));
        assert!(waiting.as_mut().now_or_never().is_none() && of_good.as_mut().now_or_never().is_none());
        assert!(held[0].lasts());
        assert!(waiting.as_mut().now_or_never().unwrap().unwrap().is_slow());
        assert!(!of_good.as_mut().now_or_never().unwrap().unwrap().is_slow());
    }

    #[tokio::test]
    async fn a_request_that_lasts_keeps_its_place_only_when_the_slow_pool_is_over_full() {
        let pools = Pools::new(8, 1);
        let mut lasting: Vec<Permit> = (0..5).map(|number| now(&pools, number, Standing::Good).unwrap()).collect();
        let mut last = lasting.pop().unwrap();
        assert!(lasting.iter_mut().all(Permit::lasts));
        assert_eq!(pools.taken(), (1, SLOW_OVER));
        assert!(now(&pools, 5, Standing::Doubtful).is_none(), "nothing begins beyond its places");
        let others: Vec<Permit> = (6..13).map(|number| now(&pools, number, Standing::Good).unwrap()).collect();
        let known = endpoint(4);
        let mut behind_it = Box::pin(pools.acquire(&known, Standing::Good));
        assert!(behind_it.as_mut().now_or_never().is_none());
        assert!(!last.lasts() && !last.is_slow());
        assert_eq!(pools.taken(), (8, SLOW_OVER));
        drop(others);
        assert!(behind_it.as_mut().now_or_never().is_none(), "its endpoint is known, and takes no more quick places");
        drop(lasting);
        assert!(last.lasts());
        drop((last, behind_it));
        assert_eq!(pools.taken(), (0, 0));
    }

    #[tokio::test]
    async fn however_many_have_moved_those_that_have_none_can_begin() {
        let pools = Pools::new(64, 16);
        let mut hanging: Vec<Permit> = (0..40).map(|number| now(&pools, number, Standing::Good).unwrap()).collect();
        assert!(hanging.iter_mut().all(Permit::lasts));
        assert_eq!(pools.taken(), (0, 40));
        let newcomers: Vec<Permit> = (100..110).map_while(|number| now(&pools, number, Standing::Doubtful)).collect();
        assert_eq!(newcomers.len(), 2, "the share that is kept for them");
        assert!(now(&pools, 1, Standing::Doubtful).is_none());
        drop(hanging);
        assert!(now(&pools, 1, Standing::Doubtful).is_some());
        drop(newcomers);
        assert_eq!((pools.taken(), pools.inner.lock().slow.moved), ((0, 0), 0));
    }

    #[tokio::test]
    async fn an_endpoint_that_was_slow_for_a_moment_does_not_wait_among_the_slow_ones() {
        let pools = Pools::new(8, 1);
        let hanging = now(&pools, 0, Standing::Doubtful).unwrap();
        let (mut first, second) = (now(&pools, 1, Standing::Good).unwrap(), now(&pools, 1, Standing::Good).unwrap());
        let once_slow = endpoint(1);
        let mut waiting = Box::pin(pools.acquire(&once_slow, Standing::Good));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(first.lasts());
        let _second = second.answered(true);
        assert!(waiting.as_mut().now_or_never().is_none(), "one of it still lasts");
        let _first = first.answered(true);
        assert!(!waiting.as_mut().now_or_never().unwrap().unwrap().is_slow());
        drop(hanging);
        assert_eq!(pools.taken(), (0, 0));
    }

    #[tokio::test]
    async fn however_much_waits_for_an_endpoint_it_has_one_turn_among_others() {
        let pools = Pools::new(1, 1);
        let held = now(&pools, 9, Standing::Doubtful).unwrap();
        let (greedy, modest) = (endpoint(0), endpoint(1));
        let mut of_greedy: VecDeque<_> = (0..3).map(|_| Box::pin(pools.acquire(&greedy, Standing::Doubtful))).collect();
        assert!(of_greedy.iter_mut().all(|waiting| waiting.as_mut().now_or_never().is_none()));
        let mut of_modest = Box::pin(pools.acquire(&modest, Standing::Doubtful));
        assert!(of_modest.as_mut().now_or_never().is_none());
        drop(held);
        let first = of_greedy[0].as_mut().now_or_never().unwrap().unwrap();
        assert!(of_modest.as_mut().now_or_never().is_none());
        drop(first);
        drop(of_modest.as_mut().now_or_never().unwrap().unwrap());
        for mut waiting in of_greedy.into_iter().skip(1) {
            drop(waiting.as_mut().now_or_never().unwrap().unwrap());
        }
        assert_eq!(pools.taken(), (0, 0));
    }

    #[test]
    fn nothing_more_is_asked_while_too_many_answers_wait_for_their_commit() {
        let pools = Pools::new(1, 1);
        let recording: Vec<Recording> =
            (0..4).map(|_| now(&pools, 0, Standing::Good).unwrap().answered(true)).collect();
        let asking = endpoint(1);
        let mut waiting = Box::pin(pools.acquire(&asking, Standing::Good));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(pools.taken(), (0, 0));
        drop(recording);
        assert!(waiting.as_mut().now_or_never().unwrap().is_some());
    }

    #[test]
    fn who_gives_up_waiting_takes_no_place() {
        let pools = Pools::new(1, 1);
        let held = now(&pools, 0, Standing::Good).unwrap();
        for number in 1..100 {
            assert!(now(&pools, number, Standing::Good).is_none());
        }
        let last = endpoint(100);
        let mut waiting = Box::pin(pools.acquire(&last, Standing::Good));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held);
        let granted = waiting.as_mut().now_or_never().unwrap().unwrap();
        drop((granted, waiting));
        assert_eq!(pools.taken(), (0, 0));
        assert!(pools.inner.lock().quick.endpoints.is_empty(), "nothing is remembered of those that have nothing");
    }
}
