//! What must be exact at the moment of a decision: payments in flight, the right to try a half-open channel, and how many
//! payments began within a second and a day. Shared counters that outlive tables and the actor.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::actors::router::{Ending, RouterHandle};
use crate::domain::ids::ChannelName;
use crate::domain::routing::{ChannelCaps, ChannelReading, Outcome, OutcomeClass, Segment};
use crate::domain::time::{Monotonic, Timestamp};

const DAY_MS: i64 = 86_400_000;
/// Days whose counts are kept, so that a clock that is set back finds what was counted.
const DAYS_MAX: usize = 4;

/// One channel's counters.
#[derive(Debug, Default)]
pub(super) struct ChannelLive {
    in_flight: AtomicU32,
    probe_taken: AtomicBool,
    this_month_minor: AtomicI64,
    /// Calls that ended, by [`OutcomeClass::ALL`].
    calls: [AtomicU64; OutcomeClass::ALL.len()],
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    next_id: u64,
    /// How often a day's count has changed.
    changes: u64,
    /// When each call under way began.
    calling: BTreeMap<u64, Monotonic>,
    /// When a call was last declined. That weighs nothing in judging the channel, but whoever declines is not hanging.
    declined_at: Monotonic,
    second: Second,
    /// Oldest first.
    days: Vec<DayCount>,
    /// Days up to this one were forgotten; payments of theirs count for the oldest that is kept.
    forgotten_until: Option<i64>,
}

/// When the payments of the last second began; kept only where a second is bounded.
#[derive(Debug, Default)]
struct Second {
    /// Oldest first.
    began: VecDeque<Monotonic>,
    /// The latest moment at which anybody looked: what is older than a second then is gone.
    seen: Monotonic,
}

impl Second {
    /// Lets go of what is older than a second, and says what time it is: not earlier than it was.
    fn moved_to(&mut self, now: Monotonic) -> Monotonic {
        self.seen = self.seen.max(now);
        while self.began.front().is_some_and(|began| self.seen.since(*began) >= Duration::from_secs(1)) {
            self.began.pop_front();
        }
        self.seen
    }

    /// How many began in the second that ends at `now`, or when somebody last looked, if that was later.
    fn payments(&mut self, now: Monotonic) -> u32 {
        self.moved_to(now);
        u32::try_from(self.began.len()).unwrap_or(u32::MAX)
    }

    /// Counts one and says as when.
    fn count(&mut self, now: Monotonic) -> Monotonic {
        let began = self.moved_to(now);
        self.began.push_back(began);
        began
    }

    fn give_back(&mut self, began: Monotonic) {
        if let Some(place) = self.began.iter().rposition(|kept| *kept == began) {
            self.began.remove(place);
        }
    }
}

/// What began on a channel in one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayCount {
    /// The day (UTC), counted from the Unix epoch.
    pub day: i64,
    /// Payments.
    pub payments: u32,
    /// Their amounts, in minor units of the settlement currency.
    pub amount_minor: i64,
}

/// What began on channels from a day on, as others have counted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedDays {
    first_day: i64,
    channels: BTreeMap<ChannelName, BTreeMap<i64, DayCount>>,
}

impl CountedDays {
    /// Nothing counted yet; what began before the day of `first` will not be.
    pub const fn since(first: Timestamp) -> Self {
        Self { first_day: day_of(first), channels: BTreeMap::new() }
    }

    /// Counts a payment that began on a channel, with its amount in minor units of the settlement currency.
    pub fn add(&mut self, channel: &ChannelName, began_at: Timestamp, amount_minor: i64) {
        let day = day_of(began_at);
        if day < self.first_day {
            return;
        }
        let days = self.channels.entry(channel.clone()).or_default();
        let count = days.entry(day).or_insert(DayCount { day, ..DayCount::default() });
        count.payments = count.payments.saturating_add(1);
        count.amount_minor = count.amount_minor.saturating_add(amount_minor);
    }

    /// A channel's days, the oldest first.
    pub fn of(&self, channel: &ChannelName) -> impl Iterator<Item = &DayCount> {
        self.channels.get(channel).into_iter().flat_map(BTreeMap::values)
    }
}

/// A payment for which a place is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub caps: ChannelCaps,
    pub probe: bool,
    /// In minor units of the settlement currency; `None` when that is not known.
    pub amount_minor: Option<i64>,
    pub now: Monotonic,
    pub at: Timestamp,
}

const fn day_of(at: Timestamp) -> i64 {
    at.unix_ms().div_euclid(DAY_MS)
}

impl ChannelLive {
    /// What a decision goes by. What is not bounded is not looked at.
    pub fn read(&self, caps: &ChannelCaps, now: Monotonic, at: Timestamp) -> ChannelReading {
        let is_bounded = caps.per_second.is_some() || caps.per_day.is_some() || caps.amount_per_day_minor.is_some();
        if is_bounded {
            return self.read_all(now, at);
        }
        ChannelReading {
            in_flight: self.in_flight.load(Ordering::Acquire),
            probe_available: !self.probe_taken.load(Ordering::Acquire),
            this_month_minor: self.this_month_minor.load(Ordering::Acquire),
            ..ChannelReading::default()
        }
    }

    /// Notes what was charged on it this month, in minor units of the settlement currency.
    pub fn note_month(&self, this_month_minor: i64) {
        self.this_month_minor.store(this_month_minor, Ordering::Release);
    }

    /// What stands on all counters.
    pub fn read_all(&self, now: Monotonic, at: Timestamp) -> ChannelReading {
        let mut counted = self.counted.lock();
        let day = counted.day(day_of(at));
        ChannelReading {
            in_flight: self.in_flight.load(Ordering::Acquire),
            probe_available: !self.probe_taken.load(Ordering::Acquire),
            this_second: counted.second.payments(now),
            today: day.payments,
            today_minor: day.amount_minor,
            this_month_minor: self.this_month_minor.load(Ordering::Acquire),
        }
    }

    /// Takes a place, counts the payment, and takes the probe where this is one: all, or nothing and `None` when somebody
    /// else was quicker.
    pub fn reserve(self: &Arc<Self>, wanted: &Wanted) -> Option<Reserved> {
        let Wanted { caps, probe, amount_minor, now, at } = *wanted;
        // Places are taken under this lock only, so that what is found free stays so until it is taken.
        let mut counted = self.counted.lock();
        let day = day_of(at);
        let today = counted.day(day);
        let amount = amount_minor.unwrap_or(0);
        let fits = self.in_flight.load(Ordering::Acquire) < caps.concurrent
            && caps.per_second.is_none_or(|most| counted.second.payments(now) < most)
            && caps.per_day.is_none_or(|most| today.payments < most)
            && caps.amount_per_day_minor.is_none_or(|most| {
                amount_minor.is_some_and(|amount| today.amount_minor.saturating_add(amount) <= most)
            });
        let took_probe = || {
            let taken = self.probe_taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire);
            taken.is_ok().then(|| ProbeToken(Arc::clone(self)))
        };
        if !fits {
            return None;
        }
        let token = if probe { Some(took_probe()?) } else { None };
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        let second = caps.per_second.is_some().then(|| counted.second.count(now));
        let day = counted.count_day(day, 1, amount);
        let id = counted.next_id;
        counted.next_id += 1;
        drop(counted);
        Some(Reserved { live: Arc::clone(self), id, second, day, amount_minor: amount, begun: false, token })
    }

    /// Counts a call that ended.
    pub fn count_call(&self, class: OutcomeClass) {
        let place = OutcomeClass::ALL.iter().position(|one| *one == class);
        if let Some(calls) = place.and_then(|place| self.calls.get(place)) {
            calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Calls that ended, by class.
    pub fn calls(&self) -> [(OutcomeClass, u64); OutcomeClass::ALL.len()] {
        let mut place = 0;
        OutcomeClass::ALL.map(|class| {
            let total = self.calls[place].load(Ordering::Relaxed);
            place += 1;
            (class, total)
        })
    }

    /// Notes that a call was answered with a decline.
    fn note_decline(&self, now: Monotonic) {
        let mut counted = self.counted.lock();
        counted.declined_at = counted.declined_at.max(now);
    }

    /// Calls that began after `answered_at`, and after the last decline, and have been under way for longer than `slow`.
    pub fn hanging(&self, slow: Duration, answered_at: Monotonic, now: Monotonic) -> u32 {
        let counted = self.counted.lock();
        let answered_at = answered_at.max(counted.declined_at);
        let hangs = |began: &Monotonic| *began > answered_at && now.since(*began) > slow;
        u32::try_from(counted.calling.values().filter(|began| hangs(began)).count()).unwrap_or(u32::MAX)
    }

    /// Takes no more notice of how long calls that are under way take.
    pub fn forgive_calls(&self) {
        self.counted.lock().calling.clear();
    }

    /// The days' counts.
    pub fn days(&self) -> Vec<DayCount> {
        self.counted.lock().days.clone()
    }

    /// How often payments were counted or given back.
    pub fn counted_total(&self) -> u64 {
        self.counted.lock().changes
    }

    /// Goes on counting from what was counted of this channel, which is all that began on it since its first day.
    pub fn adopt_days(&self, counted: &CountedDays, channel: &ChannelName) {
        let mut known = self.counted.lock();
        known.days.retain(|count| count.day < counted.first_day);
        for count in counted.of(channel).take(DAYS_MAX) {
            known.count_day(count.day, i64::from(count.payments), count.amount_minor);
        }
    }

    /// Goes on counting from these, where they are more.
    pub fn resume_days(&self, days: &[DayCount]) {
        let mut counted = self.counted.lock();
        for saved in days.iter().take(DAYS_MAX) {
            let known = counted.day(saved.day);
            let payments = saved.payments.saturating_sub(known.payments);
            counted.count_day(saved.day, i64::from(payments), (saved.amount_minor - known.amount_minor).max(0));
        }
    }
}

impl Counted {
    /// The day that counts for `day`: itself, or the oldest that is kept when it was forgotten.
    fn kept(&self, day: i64) -> i64 {
        let is_forgotten = self.forgotten_until.is_some_and(|until| day <= until);
        self.days.first().filter(|_| is_forgotten).map_or(day, |oldest| oldest.day)
    }

    fn day(&self, day: i64) -> DayCount {
        let day = self.kept(day);
        let found = self.days.iter().find(|count| count.day == day);
        found.copied().unwrap_or(DayCount { day, ..DayCount::default() })
    }

    /// Adds to a day (or takes away from it) and says which day that was.
    fn count_day(&mut self, day: i64, payments: i64, amount_minor: i64) -> i64 {
        self.changes += 1;
        let day = self.kept(day);
        if !self.days.iter().any(|count| count.day == day) {
            if self.days.len() >= DAYS_MAX {
                self.forgotten_until = Some(self.days.remove(0).day);
            }
            self.days.push(DayCount { day, ..DayCount::default() });
            self.days.sort_by_key(|count| count.day);
        }
        if let Some(count) = self.days.iter_mut().find(|count| count.day == day) {
            let sum = (i64::from(count.payments) + payments).clamp(0, i64::from(u32::MAX));
            count.payments = u32::try_from(sum).unwrap_or(u32::MAX);
            count.amount_minor = count.amount_minor.saturating_add(amount_minor).max(0);
        }
        day
    }

    fn give_back(&mut self, second: Option<Monotonic>, day: i64, amount_minor: i64) {
        if let Some(began) = second {
            self.second.give_back(began);
        }
        self.count_day(day, -1, -amount_minor);
    }
}

/// The right to try a half-open channel; comes back when dropped.
pub(super) struct ProbeToken(Arc<ChannelLive>);

impl Drop for ProbeToken {
    fn drop(&mut self) {
        self.0.probe_taken.store(false, Ordering::Release);
    }
}

/// What a decision has reserved. When it is dropped the place comes back, and, unless the payment has begun, so does what
/// was counted.
pub(super) struct Reserved {
    live: Arc<ChannelLive>,
    id: u64,
    second: Option<Monotonic>,
    day: i64,
    amount_minor: i64,
    begun: bool,
    token: Option<ProbeToken>,
}

impl Reserved {
    pub(super) fn begin(&mut self, now: Monotonic) {
        self.begun = true;
        self.live.counted.lock().calling.insert(self.id, now);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut counted = self.live.counted.lock();
        counted.calling.remove(&self.id);
        self.live.in_flight.fetch_sub(1, Ordering::AcqRel);
        if !self.begun {
            counted.give_back(self.second, self.day, self.amount_minor);
        }
    }
}

/// A place on the channel that was chosen, held while the payment is on it and given back when dropped. When it is the
/// probe of a half-open channel and nothing is reported, the probe comes back with it. The payment counts against the
/// channel's caps from the decision on, and does so no more if it is dropped before it began.
pub struct Reservation {
    channel: ChannelName,
    segment: Segment,
    reserved: Reserved,
    /// Whether the next report is that of a call which went to an open channel because all were down.
    tries_open: bool,
    router: RouterHandle,
}

impl Reservation {
    pub(super) const fn new(
        channel: ChannelName,
        segment: Segment,
        reserved: Reserved,
        tries_open: bool,
        router: RouterHandle,
    ) -> Self {
        Self { channel, segment, reserved, tries_open, router }
    }

    /// The channel.
    pub const fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// Whether this is the one payment that tries a half-open channel.
    pub const fn is_probe(&self) -> bool {
        self.reserved.token.is_some()
    }

    /// To be called when the payment is durable and its call begins: from now on it counts, whatever comes of it, and it is
    /// noticed when the call takes long.
    pub fn begin(&mut self) {
        self.reserved.begin(self.router.monotonic());
    }

    /// Reports what came of the payment with the call, and how long that took. The first report of a probe decides about
    /// the breaker.
    pub fn report(&mut self, class: OutcomeClass, latency_ms: Option<u32>) {
        self.send(class, latency_ms, Ending::KnownOf(self.segment));
    }

    /// Reports how the call went and how long it took; what came of the payment is told with [`RouterHandle::learn`] when
    /// that is stored. The first report of a probe decides about the breaker.
    pub fn report_call(&mut self, class: OutcomeClass, latency_ms: Option<u32>) {
        self.send(class, latency_ms, Ending::Later);
    }

    fn send(&mut self, class: OutcomeClass, latency_ms: Option<u32>, ending: Ending) {
        self.reserved.live.count_call(class);
        if class.technical().is_none() {
            self.reserved.live.note_decline(self.router.monotonic());
        }
        let token = self.reserved.token.take();
        let probe = token.is_some() || std::mem::take(&mut self.tries_open);
        self.router.send_outcome(&self.channel, Outcome { class, latency_ms, probe }, ending, token);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reservation").field("channel", &self.channel).field("probe", &self.is_probe()).finish()
    }
}
