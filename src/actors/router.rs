//! The router: decisions are made in the caller's task over the published table; the actor behind it takes outcomes
//! and changes of the configuration and publishes the next table.

mod live;
mod saved;
mod setup;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

pub use live::{CountedDays, DayCount, Reservation};
pub use saved::{SavedChannel, SavedRouter};
pub use setup::{InvalidRouting, rule_from_config, setup_from_config};

use crate::actors::router::live::{ChannelLive, ProbeToken, Wanted};
use crate::actors::supervisor::{Respawn, Spawned, StartError, Supervisor};
use crate::clock::Clock;
use crate::domain::ids::ChannelName;
use crate::domain::routing::{
    BreakerView, CHANNELS_MAX, ChannelFacts, ChannelHealth, ChannelReading, ChannelSet, Choice, CustomStrategies,
    DecisionRecord, HealthSettings, InvalidSetup, Learned, NoChannel, OpenBreaker, Outcome, OutcomeClass, RouteRequest,
    RoutingSetup, RoutingTable, Rung, Segment, decide,
};
use crate::domain::time::{Monotonic, Timestamp};
use crate::random::Random;
use crate::telemetry::trace::{self, Kind};

/// How often a decision is made again because somebody else took the last place meanwhile.
const DECIDE_TRIES_MAX: usize = 8;
/// Outcomes that may wait for the actor; more are dropped and counted, since they only rank.
const OUTCOMES_QUEUED_MAX: usize = 65_536;

/// Sets of channels that count their turns apart; those of tables with more than eight channels may share some.
const TURNS: usize = 256;

/// A channel as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelStatus {
    /// Its name.
    pub name: ChannelName,
    /// Whether it may be chosen.
    pub enabled: bool,
    /// Its breaker.
    pub breaker: BreakerView,
    /// How that stands when it is not closed.
    pub open: Option<OpenBreaker>,
    /// Whether its credentials are there.
    pub has_credentials: bool,
    /// Until when it is being maintained, if it is.
    pub maintained_until: Option<Timestamp>,
    /// Expected success rate, in parts per million.
    pub success_ppm: u32,
    /// Outcomes behind it.
    pub samples: u32,
    /// Payments in flight.
    pub in_flight: u32,
    /// Average latency in milliseconds, when any was measured.
    pub latency_ms: Option<u32>,
    /// Payments that began today (UTC).
    pub today: u32,
    /// Their amounts, in minor units of the settlement currency.
    pub today_minor: i64,
    /// Calls that ended since the process started, by what came of them.
    pub calls: [(OutcomeClass, u64); OutcomeClass::ALL.len()],
}

/// The router could not do what the operator asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouterError {
    /// The setup does not fit together.
    #[error(transparent)]
    Invalid(#[from] InvalidSetup),
    /// There is no such channel.
    #[error("there is no channel {0}")]
    UnknownChannel(ChannelName),
    /// The router is being started again.
    #[error("the router is being recovered")]
    Restarting,
    /// The actor could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A table with the counters of its channels, place by place.
struct Published {
    table: Arc<RoutingTable>,
    live: Vec<Arc<ChannelLive>>,
}

struct Shared {
    published: ArcSwap<Published>,
    actor: ArcSwapOption<ActorRef<RouterMessage>>,
    clock: Clock,
    random: Random,
    /// The breakers as the log has them.
    noted: Mutex<BTreeMap<ChannelName, BreakerView>>,
    queued: AtomicUsize,
    outcomes_dropped_total: AtomicU64,
    strategies_failed_total: AtomicU64,
    /// Decisions by rules, by the rules' ids.
    rule_hits: Mutex<BTreeMap<Arc<str>, u64>>,
    /// Turns taken, by the set of channels among which.
    turns: Box<[AtomicU64; TURNS]>,
}

/// What a report says beyond how a call went.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// What came of the payment is reported later, if at all.
    Later,
    /// The call's outcome is how the payment ended, of whatever kind it was.
    Known,
    /// The same, and the payment was of this kind.
    KnownOf(Segment),
}

/// What a router begins with.
pub struct Beginning {
    /// Strategies of whoever embeds the gateway.
    pub custom: CustomStrategies,
    /// Channels that were added while others were known already.
    pub newcomers: BTreeSet<ChannelName>,
    /// Where open times differ.
    pub random: Random,
    /// What an earlier router has left, and how long ago.
    pub saved: Option<(SavedRouter, Duration)>,
    /// What began on channels in the last days, where that was counted again; what was left says less.
    pub counted: Option<CountedDays>,
}

impl Default for Beginning {
    fn default() -> Self {
        Self {
            custom: CustomStrategies::default(),
            newcomers: BTreeSet::new(),
            random: Random::seeded(0),
            saved: None,
            counted: None,
        }
    }
}

/// The way to the router. Cheap to clone; clones are the same router.
#[derive(Clone)]
pub struct RouterHandle {
    shared: Arc<Shared>,
}

enum RouterMessage {
    Report {
        channel: ChannelName,
        outcome: Outcome,
        ending: Ending,
        token: Option<ProbeToken>,
    },
    Ended {
        channel: ChannelName,
        class: OutcomeClass,
        segment: Segment,
    },
    Configure {
        setup: Box<RoutingSetup>,
        reply: oneshot::Sender<u64>,
    },
    /// Looks after calls that hang, and notes breakers that moved by themselves.
    LookAfter,
    ResetHealth {
        channel: ChannelName,
        reply: oneshot::Sender<Result<(), RouterError>>,
    },
    #[cfg(test)]
    Fail,
}

impl RouterHandle {
    /// Starts the router under `supervisor`.
    ///
    /// # Errors
    /// When the setup does not fit together or the actor can't be started.
    pub async fn start(setup: RoutingSetup, clock: Clock, supervisor: &Supervisor) -> Result<Self, RouterError> {
        Self::resume(setup, Beginning::default(), clock, supervisor).await
    }

    /// The same with strategies of whoever embeds the gateway, with newcomers among the channels, and with what an earlier
    /// router has left.
    ///
    /// # Errors
    /// As for [`RouterHandle::start`].
    pub async fn resume(
        setup: RoutingSetup,
        beginning: Beginning,
        clock: Clock,
        supervisor: &Supervisor,
    ) -> Result<Self, RouterError> {
        setup.check()?;
        let Beginning { custom, newcomers, random, saved, counted } = beginning;
        let mut table = RoutingTable { custom, ..RoutingTable::fresh(1, setup) };
        for (learned, channel) in table.learned.iter_mut().zip(&table.setup.channels) {
            if newcomers.contains(&channel.name) {
                *learned = Arc::new(Learned::newcomer());
            }
        }
        let live: Vec<Arc<ChannelLive>> = table.setup.channels.iter().map(|_| Arc::default()).collect();
        if let Some((saved, passed)) = saved {
            saved.restore(&mut table, &live, passed, clock.monotonic());
        }
        if let Some(counted) = &counted {
            let channels = live.iter().zip(&table.setup.channels);
            channels.for_each(|(live, facts)| live.adopt_days(counted, &facts.name));
        }
        let table = Arc::new(table);
        let shared = Arc::new(Shared {
            published: ArcSwap::from_pointee(Published { table, live }),
            actor: ArcSwapOption::empty(),
            clock,
            random,
            noted: Mutex::default(),
            queued: AtomicUsize::new(0),
            outcomes_dropped_total: AtomicU64::new(0),
            strategies_failed_total: AtomicU64::new(0),
            rule_hits: Mutex::default(),
            turns: Box::new([const { AtomicU64::new(0) }; TURNS]),
        });
        note_breakers(&shared);
        supervisor.start_child(Arc::from("router"), respawn(&shared)).await?;
        Ok(Self { shared })
    }

    /// Decides in the caller's task and reserves a place on the channel. No message is sent and nothing is waited for.
    ///
    /// # Errors
    /// [`NoChannel`] when none can take it, with the reasons.
    pub fn decide(&self, request: &RouteRequest<'_>) -> Result<(Reservation, DecisionRecord), NoChannel> {
        let mut span = trace::begin("decision", Kind::Internal);
        let decided = self.decide_now(request);
        if span.is_recorded() {
            match &decided {
                Ok((place, record)) => {
                    span.set("tollgate.channel", place.channel().to_string());
                    span.set("tollgate.rung", record.rung.map_or("none", |rung| rung.as_str()));
                    span.set("tollgate.mode", record.mode.as_str());
                }
                Err(_) => span.set("tollgate.outcome", "no_channel"),
            }
        }
        decided
    }

    fn decide_now(&self, request: &RouteRequest<'_>) -> Result<(Reservation, DecisionRecord), NoChannel> {
        let now = self.shared.clock.monotonic();
        let mut tries_left = DECIDE_TRIES_MAX;
        // Channels that somebody else began to try meanwhile.
        let mut tried_by_others = ChannelSet::default();
        loop {
            let published = self.shared.published.load();
            let setup = &published.table.setup;
            let mut readings = published.readings(now, request.at);
            tried_by_others.iter().for_each(|place| readings[place].probe_available = false);
            let choice = decide(&published.table, &readings[..published.live.len()], request, now);
            let choice = choice.inspect_err(|none| self.count_failed(&none.record))?;
            self.count_failed(&choice.record);
            let mut choice = self.in_turn(choice, |turn| turn.fetch_add(1, Ordering::Relaxed));
            // A probe that has just ended gives its right back after the table says what it found; whoever decided over
            // the table before must look again, or a channel that has failed again would be tried at once.
            let is_outdated = || self.shared.published.load().table.version != published.table.version;
            loop {
                let wanted = Wanted {
                    caps: setup.channels[choice.place].caps,
                    probe: choice.probe,
                    amount_minor: setup.in_settlement_currency(request.money),
                    now,
                    at: request.at,
                };
                let reserved = published.live[choice.place].reserve(&wanted);
                if reserved.is_none() && choice.probe {
                    tried_by_others.insert(choice.place);
                }
                if let Some(reserved) = reserved.filter(|_| !(choice.probe && is_outdated())) {
                    let segment = choice.record.segment();
                    self.count_hit(&choice.record, setup);
                    let reservation =
                        Reservation::new(choice.channel, segment, reserved, choice.all_down, self.clone());
                    return Ok((reservation, choice.record));
                }
                if tries_left > 1 {
                    tries_left -= 1;
                    break;
                }
                // Others were quicker again and again: that channel is left to them. This ends, since each turn leaves
                // one channel less.
                choice = choice.lost_to_others()?;
            }
        }
    }

    /// Decides without reserving anything: what would happen to such a payment now.
    ///
    /// # Errors
    /// As for [`RouterHandle::decide`].
    pub fn quote(&self, request: &RouteRequest<'_>) -> Result<DecisionRecord, NoChannel> {
        let published = self.shared.published.load();
        let now = self.shared.clock.monotonic();
        let readings = published.readings(now, request.at);
        let choice = decide(&published.table, &readings[..published.live.len()], request, now)?;
        Ok(self.in_turn(choice, |turn| turn.load(Ordering::Relaxed)).record)
    }

    /// The choice with the turn that `take` gives, where load is balanced in turn. Turns are counted by the set among which
    /// they are taken: one counter for all would let payments that alternate get the same channel every time.
    fn in_turn(&self, choice: Choice, take: impl FnOnce(&AtomicU64) -> u64) -> Choice {
        let Some(set) = choice.record.taken_in_turn() else { return choice };
        choice.in_turn(take(&self.shared.turns[set.bits() as usize % TURNS]))
    }

    /// Counts a decision that a rule made.
    fn count_hit(&self, record: &DecisionRecord, setup: &RoutingSetup) {
        let Some(rule) = record.rule.as_ref().filter(|_| record.rung == Some(Rung::Rules)) else { return };
        let mut hits = self.shared.rule_hits.lock();
        if let Some(count) = hits.get_mut(&rule.id) {
            *count = count.saturating_add(1);
            return;
        }
        // Rules that are gone make room.
        if hits.len() >= setup.rules.len() {
            hits.retain(|id, _| setup.rules.iter().any(|known| known.id == *id));
        }
        hits.insert(Arc::clone(&rule.id), 1);
    }

    /// Decisions that rules have made since the process began, by the rules' ids; what is not there has made none.
    pub fn rule_hits(&self) -> BTreeMap<Arc<str>, u64> {
        self.shared.rule_hits.lock().clone()
    }

    fn count_failed(&self, record: &DecisionRecord) {
        let failed = record.custom.iter().filter(|said| said.panicked).count();
        if failed > 0 {
            self.shared.strategies_failed_total.fetch_add(failed as u64, Ordering::Relaxed);
        }
    }

    /// Reports what came of a call for which no reservation is held any more, such as a late notification.
    pub fn report(&self, channel: &ChannelName, class: OutcomeClass, latency_ms: Option<u32>) {
        let published = self.shared.published.load();
        if let Some(place) = published.table.setup.place_of(channel) {
            published.live[place].count_call(class);
        }
        self.send_outcome(channel, Outcome { class, latency_ms, probe: false }, Ending::Known, None);
    }

    /// Notes what was charged on a channel this month, in minor units of the settlement currency: fees may fall with it.
    pub fn note_month(&self, channel: &ChannelName, this_month_minor: i64) {
        let published = self.shared.published.load();
        if let Some(place) = published.table.setup.place_of(channel) {
            published.live[place].note_month(this_month_minor);
        }
    }

    /// Learns how a payment ended of which only the call was reported. To be called once for each attempt of a payment, when
    /// its end is stored.
    pub fn learn(&self, channel: &ChannelName, segment: Segment, class: OutcomeClass) {
        if class.approval().is_some() {
            self.send_news(RouterMessage::Ended { channel: channel.clone(), class, segment });
        }
    }

    fn send_outcome(&self, channel: &ChannelName, outcome: Outcome, ending: Ending, token: Option<ProbeToken>) {
        self.send_news(RouterMessage::Report { channel: channel.clone(), outcome, ending, token });
    }

    fn send_news(&self, message: RouterMessage) {
        let one_more = |queued: usize| (queued < OUTCOMES_QUEUED_MAX).then_some(queued + 1);
        let sent = self.shared.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_ok() && {
            let taken = self.shared.send(message).is_ok();
            if !taken {
                self.shared.queued.fetch_sub(1, Ordering::AcqRel);
            }
            taken
        };
        if !sent {
            self.shared.outcomes_dropped_total.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts another configuration in force; channels keep their health and counters by name. Answers the version of the
    /// table that has it.
    ///
    /// # Errors
    /// When the setup does not fit together or the router is being started again; then nothing has changed.
    pub async fn configure(&self, setup: RoutingSetup) -> Result<u64, RouterError> {
        setup.check()?;
        let (reply, answer) = oneshot::channel();
        self.shared.send(RouterMessage::Configure { setup: Box::new(setup), reply })?;
        answer.await.map_err(|_| RouterError::Restarting)
    }

    /// Closes a channel's breaker at once and forgets what was learned about it.
    ///
    /// # Errors
    /// When there is no such channel, or the router is being started again.
    pub async fn reset_health(&self, channel: &ChannelName) -> Result<(), RouterError> {
        let (reply, answer) = oneshot::channel();
        self.shared.send(RouterMessage::ResetHealth { channel: channel.clone(), reply })?;
        answer.await.map_err(|_| RouterError::Restarting)?
    }

    /// Has the router look after what no outcome tells: calls that hang. To be called about once a second.
    pub fn look_after(&self) {
        // A router that is being started again is asked the next time.
        let _ = self.shared.send(RouterMessage::LookAfter);
    }

    /// What is to be written down so that the next process goes on from it.
    pub fn save(&self) -> SavedRouter {
        let published = self.shared.published.load();
        SavedRouter::of(&published.table, &published.live, self.shared.clock.monotonic())
    }

    fn monotonic(&self) -> Monotonic {
        self.shared.clock.monotonic()
    }

    /// The table that decisions are made over now.
    pub fn table(&self) -> Arc<RoutingTable> {
        Arc::clone(&self.shared.published.load().table)
    }

    /// The channels as they stand.
    pub fn channels(&self) -> Vec<ChannelStatus> {
        let published = self.shared.published.load();
        let (now, at) = (self.shared.clock.monotonic(), self.shared.clock.now());
        let status = |(place, facts): (usize, &ChannelFacts)| {
            let health = &published.table.health[place];
            let estimate = health.estimate(&published.table.setup.health, now);
            let reading = published.live[place].read_all(now, at);
            ChannelStatus {
                name: facts.name.clone(),
                enabled: facts.enabled,
                breaker: health.breaker_at(now),
                success_ppm: estimate.success_ppm,
                samples: estimate.samples,
                in_flight: reading.in_flight,
                latency_ms: health.latency_us().map(|micros| micros.div_ceil(1000)),
                open: health.open_at(now),
                has_credentials: facts.has_credentials,
                maintained_until: facts.maintenance_at(at).map(|span| span.until),
                today: reading.today,
                today_minor: reading.today_minor,
                calls: published.live[place].calls(),
            }
        };
        published.table.setup.channels.iter().enumerate().map(status).collect()
    }

    /// How often a strategy of an embedding program panicked and was passed over.
    pub fn strategies_failed_total(&self) -> u64 {
        self.shared.strategies_failed_total.load(Ordering::Relaxed)
    }

    /// Outcomes that were dropped because too many were waiting.
    pub fn outcomes_dropped_total(&self) -> u64 {
        self.shared.outcomes_dropped_total.load(Ordering::Relaxed)
    }
}

impl Published {
    fn readings(&self, now: Monotonic, at: Timestamp) -> [ChannelReading; CHANNELS_MAX] {
        let mut readings = [ChannelReading::default(); CHANNELS_MAX];
        let channels = self.live.iter().zip(&self.table.setup.channels);
        for (reading, (live, facts)) in readings.iter_mut().zip(channels) {
            *reading = live.read(&facts.caps, now, at);
        }
        readings
    }
}

impl Shared {
    fn take_from_queue(&self) {
        let left = |queued: usize| Some(queued.saturating_sub(1));
        let _ = self.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, left);
    }

    fn send(&self, message: RouterMessage) -> Result<(), RouterError> {
        let actor = self.actor.load();
        let actor = actor.as_ref().ok_or(RouterError::Restarting)?;
        actor.send_message(message).map_err(|_| RouterError::Restarting)
    }

    /// Publishes the next table made by `change` from the present one. Only the actor calls this.
    fn publish(&self, change: impl FnOnce(&mut RoutingTable, &mut Vec<Arc<ChannelLive>>)) -> u64 {
        let present = self.published.load();
        let (mut table, mut live) = (RoutingTable::clone(&present.table), present.live.clone());
        table.version += 1;
        change(&mut table, &mut live);
        let version = table.version;
        self.published.store(Arc::new(Published { table: Arc::new(table), live }));
        version
    }
}

fn respawn(shared: &Arc<Shared>) -> Respawn {
    let shared = Arc::clone(shared);
    Arc::new(move |root: ActorCell| {
        let shared = Arc::clone(&shared);
        Box::pin(async move {
            let (actor, _task) = Actor::spawn_linked(None, RouterActor, Arc::clone(&shared), root).await?;
            let cell = actor.get_cell();
            Ok(Spawned { cell, publish: Box::new(move || shared.actor.store(Some(Arc::new(actor)))) })
        })
    })
}

/// Holds no state of its own: what it has learned is in the table that it published last, so that one that takes its
/// place goes on from there.
struct RouterActor;

impl Actor for RouterActor {
    type Msg = RouterMessage;
    type State = Arc<Shared>;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        _myself: ActorRef<RouterMessage>,
        shared: Arc<Shared>,
    ) -> Result<Arc<Shared>, ActorProcessingErr> {
        // Outcomes that waited for a failed predecessor went with it.
        shared.queued.store(0, Ordering::Release);
        Ok(shared)
    }

    async fn handle(
        &self,
        _myself: ActorRef<RouterMessage>,
        message: RouterMessage,
        shared: &mut Arc<Shared>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RouterMessage::Report { channel, outcome, ending, token } => {
                shared.take_from_queue();
                learn_of_call(shared, &channel, outcome, ending);
                // Only now may somebody else try the channel: the table already says what the probe found.
                drop(token);
            }
            RouterMessage::Ended { channel, class, segment } => {
                shared.take_from_queue();
                if !is_excused(shared, &channel, class) {
                    change_channel(shared, &channel, |health, learned, setup, settings, now| {
                        *health = health.after_ending(class, settings, now);
                        learn_of_segment(learned, &segment, class, setup, now);
                    });
                }
            }
            RouterMessage::Configure { setup, reply } => {
                let _ = reply.send(configure(shared, *setup));
            }
            RouterMessage::LookAfter => look_after(shared),
            RouterMessage::ResetHealth { channel, reply } => {
                let published = shared.published.load_full();
                if let Some(place) = published.table.setup.place_of(&channel) {
                    // What hangs now is what the operator knows of.
                    published.live[place].forgive_calls();
                }
                let known = change_channel(shared, &channel, |health, learned, _, _, now| {
                    *health = health.reset(now);
                    *learned = Arc::new(learned.forgotten());
                });
                note_breakers(shared);
                let _ = reply.send(if known { Ok(()) } else { Err(RouterError::UnknownChannel(channel)) });
            }
            #[cfg(test)]
            RouterMessage::Fail => panic!("told to fail"),
        }
        Ok(())
    }
}

/// Whether it was announced that the channel would not answer, and it did not.
fn is_excused(shared: &Shared, channel: &ChannelName, class: OutcomeClass) -> bool {
    let published = shared.published.load();
    let facts = published.table.setup.channels.iter().find(|facts| facts.name == *channel);
    class.technical() == Some(false) && facts.is_some_and(|facts| facts.maintenance_at(shared.clock.now()).is_some())
}

fn learn_of_call(shared: &Shared, channel: &ChannelName, outcome: Outcome, ending: Ending) {
    if is_excused(shared, channel, outcome.class) {
        return;
    }
    change_channel(shared, channel, |health, learned, setup, settings, now| {
        let before = *health;
        let next = health.after_call(outcome, settings, now);
        *health = jittered_if_opened(shared, &before, next, settings, now);
        if before.breaker_at(now) != BreakerView::Closed && health.breaker_at(now) == BreakerView::Closed {
            // What was learned in the outage says nothing about the channel now.
            *learned = Arc::new(learned.forgotten());
        }
        match ending {
            Ending::Later => {}
            Ending::Known => *health = health.after_ending(outcome.class, settings, now),
            Ending::KnownOf(segment) => {
                *health = health.after_ending(outcome.class, settings, now);
                learn_of_segment(learned, &segment, outcome.class, setup, now);
            }
        }
    });
    note_breakers(shared);
}

/// Opens channels whose calls have been without an answer for too long while nothing else got one.
fn look_after(shared: &Shared) {
    let published = shared.published.load_full();
    let (now, at) = (shared.clock.monotonic(), shared.clock.now());
    for (place, facts) in published.table.setup.channels.iter().enumerate() {
        let health = &published.table.health[place];
        if health.breaker_at(now) != BreakerView::Closed || facts.maintenance_at(at).is_some() {
            continue;
        }
        let slow = published.table.setup.health_at(place).breaker.slow;
        let hanging = published.live[place].hanging(slow, health.answered_at(), now);
        if hanging == 0 {
            continue;
        }
        change_channel(shared, &facts.name, |health, _, _, settings, now| {
            let next = health.after_silence(hanging, settings, now);
            *health = jittered_if_opened(shared, health, next, settings, now);
        });
    }
    note_breakers(shared);
}

fn jittered_if_opened(
    shared: &Shared,
    before: &ChannelHealth,
    after: ChannelHealth,
    settings: &HealthSettings,
    now: Monotonic,
) -> ChannelHealth {
    let opened = before.breaker_at(now) != BreakerView::Open && after.breaker_at(now) == BreakerView::Open;
    if opened { after.jittered(shared.random.draw_u64(), settings, now) } else { after }
}

/// Says in the log, once each, which breakers have moved.
fn note_breakers(shared: &Shared) {
    let published = shared.published.load();
    let now = shared.clock.monotonic();
    let mut noted = shared.noted.lock();
    for (facts, health) in published.table.setup.channels.iter().zip(&published.table.health) {
        let channel = &facts.name;
        let before = noted.get(channel).copied().unwrap_or_default();
        let after = health.breaker_at(now);
        if before == after {
            continue;
        }
        noted.insert(channel.clone(), after);
        let (before, after) = (before.as_str(), after.as_str());
        match health.open_at(now) {
            Some(open) if !open.left.is_zero() => tracing::warn!(
                %channel, before, after, because = open.by.as_str(), failed_probes = open.failed_probes,
                open_ms = u64::try_from(open.left.as_millis()).unwrap_or(u64::MAX), "a channel's breaker moved"
            ),
            Some(_) | None => tracing::info!(%channel, before, after, "a channel's breaker moved"),
        }
    }
}

fn learn_of_segment(
    learned: &mut Arc<Learned>,
    segment: &Segment,
    class: OutcomeClass,
    setup: &RoutingSetup,
    now: Monotonic,
) {
    let Some(approved) = class.approval() else { return };
    let next = learned.after(segment, approved, &setup.health.approvals, setup.choice.segments_max, now);
    *learned = Arc::new(next);
}

/// Publishes a table with what is known about one channel changed. `false` when there is no such channel.
fn change_channel(
    shared: &Shared,
    channel: &ChannelName,
    change: impl FnOnce(&mut ChannelHealth, &mut Arc<Learned>, &RoutingSetup, &HealthSettings, Monotonic),
) -> bool {
    let Some(place) = shared.published.load().table.setup.place_of(channel) else { return false };
    let now = shared.clock.monotonic();
    shared.publish(|table, _| {
        let setup = Arc::clone(&table.setup);
        change(&mut table.health[place], &mut table.learned[place], &setup, &setup.health_at(place), now);
    });
    true
}

fn configure(shared: &Shared, setup: RoutingSetup) -> u64 {
    shared.publish(|table, live| {
        let before = std::mem::replace(&mut table.setup, Arc::new(setup));
        let setup = Arc::clone(&table.setup);
        let resized = before.health.approvals.window_outcomes != setup.health.approvals.window_outcomes;
        let places: Vec<Option<usize>> = setup.channels.iter().map(|channel| before.place_of(&channel.name)).collect();
        let health = |place: &Option<usize>| {
            let known = place.map(|place| table.health[place]).unwrap_or_default();
            if resized { known.resized(&setup.health) } else { known }
        };
        let learned = |place: &Option<usize>| match place {
            Some(place) if resized => Arc::new(table.learned[*place].resized(&setup.health.approvals)),
            Some(place) => Arc::clone(&table.learned[*place]),
            // The others are known already, so that this one is not just as good until it has shown it.
            None => Arc::new(Learned::newcomer()),
        };
        let counters = |place: &Option<usize>| place.map(|place| Arc::clone(&live[place])).unwrap_or_default();
        let (health, learned, counters) = (
            places.iter().map(health).collect(),
            places.iter().map(learned).collect(),
            places.iter().map(counters).collect(),
        );
        (table.health, table.learned, *live) = (health, learned, counters);
    })
}

#[cfg(test)]
mod tests;
