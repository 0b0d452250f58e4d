//! One test for every limiter: stories of hostile traffic, restarts, changed limits and a clock that is set. Ours passes; the
//! kinds of limiter that are in use elsewhere must be found out by it, or it would prove nothing.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::{LEASE, SMALL, WALL, at_us};
use crate::domain::limit::*;
use crate::domain::time::Timestamp;

const MINUTE_US: u64 = 60_000_000;
const HOUR_US: u64 = 3_600_000_000;
/// Stories told to each limiter that must be found out.
const STORIES: usize = 400;

/// The time as nobody but the test knows it, and as the clock on the wall shows it.
#[derive(Clone, Copy)]
struct Now {
    true_us: u64,
    wall: Timestamp,
}

impl Now {
    fn wall_us(self) -> u64 {
        u64::try_from(self.wall.unix_ms()).unwrap() * 1000
    }
}

/// What a limiter is put through.
#[derive(Clone, Debug)]
enum Step {
    Wait {
        us: u64,
    },
    Burst {
        asks: u32,
        cost: u32,
    },
    Paced {
        asks: u32,
        gap_us: u64,
    },
    /// A burst just before a window of the clock ends, and one just after it.
    EndOfWindow {
        window_us: u64,
        asks: u32,
    },
    /// One request, then a burst just before its window ends, and one just after it.
    AfterFirst {
        window_us: u64,
        asks: u32,
    },
    SetClock {
        ahead_ms: i64,
        /// Whether what is held is written down right after it.
        saved: bool,
    },
    Tier {
        figures: LimitFigures,
        saved: bool,
    },
    /// Put away and loaded again.
    Reload,
    Restart {
        down_ms: u64,
        cleanly: bool,
        /// What is done to the clock meanwhile.
        ahead_ms: i64,
        /// The machine starts again, too. Then nobody knows how long it took but the clock on the wall, which is only set back.
        reboot: bool,
        /// The limits are others when it starts.
        figures: Option<LimitFigures>,
    },
}

/// An end of the process and the next start.
struct Restarted {
    stopped: Now,
    cleanly: bool,
    started: Now,
    reboot: bool,
    figures: LimitFigures,
}

impl Step {
    fn is_traffic(&self) -> bool {
        !matches!(self, Self::SetClock { .. } | Self::Tier { .. } | Self::Reload | Self::Restart { .. })
    }
}

trait Candidate {
    fn admits(&mut self, cost: u32, now: Now) -> bool;
    fn put_in_force(&mut self, figures: LimitFigures, now: Now);
    /// What is held is written down, as it is every few seconds.
    fn save(&mut self, _now: Now) {}
    fn reload(&mut self, _now: Now) {}
    fn restart(&mut self, _restarted: &Restarted) {}
    /// How much longer its windows may be than they are called, once for each and once more for each restart.
    fn lateness_us(&self, _figures: &LimitFigures) -> Option<[u64; 3]> {
        None
    }
}

/// By a bucket, or by a part of the burst window, and by what is cut to milliseconds.
fn lateness_of_ours_us(figures: &LimitFigures) -> [u64; 3] {
    [figures.burst_window_us().div_ceil(40), 1_000_000, 15_000_000].map(|late_us| late_us + 4_000)
}

fn windows_of(figures: &LimitFigures) -> [(u64, u64); 3] {
    [
        (figures.burst_window_us(), u64::from(figures.burst)),
        (MINUTE_US, u64::from(figures.per_minute)),
        (HOUR_US, u64::from(figures.per_hour)),
    ]
}

/// Tells a candidate a story and watches it.
struct Watch<'a> {
    candidate: &'a mut dyn Candidate,
    figures: LimitFigures,
    true_us: u64,
    ahead_ms: i64,
    log: Vec<(u64, u64)>,
    /// What a request after this may be charged for beside the log: whatever happened before it.
    charged_until_us: Option<u64>,
    /// By how much less than the truth may seem to have passed over starts of the machine.
    stood_still_us: u64,
    restarts: u64,
    restarted_us: Option<u64>,
    found: Option<String>,
}

impl<'a> Watch<'a> {
    fn new(candidate: &'a mut dyn Candidate) -> Self {
        Self {
            candidate,
            figures: SMALL,
            true_us: 0,
            ahead_ms: 0,
            log: Vec::new(),
            charged_until_us: None,
            stood_still_us: 0,
            restarts: 0,
            restarted_us: None,
            found: None,
        }
    }

    fn now(&self) -> Now {
        let steady = WALL.plus(Duration::from_micros(self.true_us));
        Now { true_us: self.true_us, wall: Timestamp::from_unix_ms(steady.unix_ms() + self.ahead_ms) }
    }

    fn ask(&mut self, cost: u32) -> bool {
        let admitted = self.candidate.admits(cost, self.now());
        if admitted {
            self.log.push((self.true_us, u64::from(cost)));
            self.look();
        } else {
            self.look_at_refusal(u64::from(cost));
        }
        admitted
    }

    /// Whether the refusal was without need: nothing that was admitted, or that a crash was charged for, is in any window,
    /// were each as much longer as is promised.
    fn look_at_refusal(&mut self, cost: u64) {
        let Some(late_us) = self.candidate.lateness_us(&self.figures) else { return };
        let is_full = windows_of(&self.figures).into_iter().zip(late_us).any(|((window_us, limit), late_us)| {
            let longer_us = window_us + late_us * (1 + self.restarts) + self.stood_still_us;
            let is_inside = |at: u64| self.true_us - at < longer_us;
            // What was out of the window by less than what is cut off is in it for as long.
            let is_just_restored = self.restarted_us.is_some_and(|at| self.true_us - at < 2_000);
            let held: u64 = self.log.iter().filter(|(at, _)| is_inside(*at)).map(|(_, cost)| cost).sum();
            cost > limit || held + cost > limit || is_just_restored || self.charged_until_us.is_some_and(is_inside)
        });
        if !is_full && self.found.is_none() {
            self.found = Some(format!("a request of {cost} was refused at {} µs without need", self.true_us));
        }
    }

    /// Whether the last admission made a true window hold more than is allowed now.
    fn look(&mut self) {
        for (window_us, limit) in windows_of(&self.figures) {
            let inside = self.log.iter().rev().take_while(|(at, _)| self.true_us - at < window_us);
            let held: u64 = inside.map(|(_, cost)| cost).sum();
            if held > limit && self.found.is_none() {
                self.found = Some(format!("{held} of {limit} in {window_us} µs at {} µs", self.true_us));
            }
        }
    }

    fn burst(&mut self, asks: u32, cost: u32) {
        for _ in 0..asks {
            self.ask(cost);
        }
    }

    fn around_edge(&mut self, before_us: u64, asks: u32) {
        self.true_us += before_us;
        self.burst(asks, 1);
        self.true_us += 1;
        self.burst(asks, 1);
    }

    /// A longer burst window takes what it does not know for as late as can be.
    fn note_figures(&mut self, figures: LimitFigures) {
        if (figures.burst, figures.per_second) != (self.figures.burst, self.figures.per_second) {
            self.charged_until_us = Some(self.true_us);
        }
        self.figures = figures;
    }

    fn save_if(&mut self, saved: bool) {
        if saved {
            self.candidate.save(self.now());
        }
    }

    fn live_through(&mut self, step: &Step) {
        match step {
            Step::Wait { us } => self.true_us += us,
            Step::Burst { asks, cost } => self.burst(*asks, *cost),
            Step::Paced { asks, gap_us } => {
                for _ in 0..*asks {
                    self.true_us += gap_us;
                    self.ask(1);
                }
            }
            Step::EndOfWindow { window_us, asks } => {
                self.around_edge(window_us - self.true_us % window_us - 1, *asks);
            }
            Step::AfterFirst { window_us, asks } => {
                self.ask(1);
                self.around_edge(window_us - 1, *asks);
            }
            Step::SetClock { ahead_ms, saved } => {
                self.ahead_ms += ahead_ms;
                self.save_if(*saved);
            }
            Step::Tier { figures, saved } => {
                self.note_figures(*figures);
                self.candidate.put_in_force(*figures, self.now());
                self.save_if(*saved);
            }
            Step::Reload => self.candidate.reload(self.now()),
            Step::Restart { down_ms, cleanly, ahead_ms, reboot, figures } => {
                let stopped = self.now();
                self.true_us += down_ms * 1000;
                self.ahead_ms += if *reboot { -ahead_ms.abs() } else { *ahead_ms };
                self.note_figures(figures.unwrap_or(self.figures));
                self.restarts += 1;
                self.restarted_us = Some(self.true_us);
                self.stood_still_us += if *reboot { down_ms * 1000 } else { 0 };
                if !cleanly {
                    self.charged_until_us = Some(stopped.true_us + 1_000);
                }
                let (started, figures) = (self.now(), self.figures);
                self.candidate.restart(&Restarted { stopped, cleanly: *cleanly, started, reboot: *reboot, figures });
                self.candidate.save(started);
            }
        }
    }
}

/// What a candidate did that it must not, if anything.
fn violation(candidate: &mut dyn Candidate, story: &[Step]) -> Option<String> {
    let mut watch = Watch::new(candidate);
    for step in story {
        watch.live_through(step);
        if let Some(found) = watch.found {
            return Some(format!("{found}, in {story:?}"));
        }
    }
    // Whatever happened, two hours later a request passes: nothing is jammed by a clock that was set.
    watch.true_us += 2 * HOUR_US;
    (!watch.ask(1)).then(|| String::from("a request was refused two hours after the last one"))
}

fn figures() -> impl Strategy<Value = LimitFigures> {
    (1_u32..12, 1_u32..14, 4_u32..40, 10_u32..120).prop_map(|(per_second, burst, per_minute, per_hour)| LimitFigures {
        per_second,
        burst,
        per_minute,
        per_hour,
        concurrent: 1_000,
    })
}

fn story() -> impl Strategy<Value = Vec<Step>> {
    let window_us = || prop::sample::select(vec![SMALL.burst_window_us(), MINUTE_US, HOUR_US]);
    let wait_us = prop_oneof![
        4 => 1_u64..600_000,
        3 => 600_000_u64..3_000_000,
        2 => prop::sample::select(vec![999_999, 1_000_000, 1_499_999, 1_500_000, 14_999_999, 15_000_000]),
        1 => prop::sample::select(vec![59_999_999, 60_000_000, 60_999_999, 61_000_000]),
        1 => 100_000_000_u64..4_000_000_000,
    ];
    let step = prop_oneof![
        5 => wait_us.prop_map(|us| Step::Wait { us }),
        5 => (1_u32..14, 1_u32..4).prop_map(|(asks, cost)| Step::Burst { asks, cost }),
        4 => (4_u32..40, 1_u64..700_000).prop_map(|(asks, gap_us)| Step::Paced { asks, gap_us }),
        2 => (window_us(), 1_u32..14).prop_map(|(window_us, asks)| Step::EndOfWindow { window_us, asks }),
        2 => (window_us(), 1_u32..14).prop_map(|(window_us, asks)| Step::AfterFirst { window_us, asks }),
        1 => (-5_000_000_i64..5_000_000, any::<bool>()).prop_map(|(ahead_ms, saved)| Step::SetClock { ahead_ms, saved }),
        1 => (figures(), any::<bool>()).prop_map(|(figures, saved)| Step::Tier { figures, saved }),
        2 => Just(Step::Reload),
        2 => (
            0_u64..9_000,
            any::<bool>(),
            prop_oneof![3 => Just(0), 1 => -5_000_000_i64..5_000_000],
            prop::bool::weighted(0.2),
            prop::option::weighted(0.3, figures()),
        )
            .prop_map(|(down_ms, cleanly, ahead_ms, reboot, figures)| Step::Restart {
                down_ms,
                cleanly,
                ahead_ms,
                reboot,
                figures,
            }),
    ];
    prop::collection::vec(step, 1..40)
}

/// What the first of many stories finds out about a candidate, when only some kinds of step are told.
fn found_out(is_told: fn(&Step) -> bool, make: impl Fn() -> Box<dyn Candidate>) -> Option<String> {
    let mut runner = TestRunner::deterministic();
    let stories = story();
    (0..STORIES).find_map(|_| {
        let mut told = stories.new_tree(&mut runner).unwrap().current();
        told.retain(is_told);
        violation(&mut *make(), &told)
    })
}

/// Ours, in a process that stops and starts.
struct Ours {
    limiter: Limiter,
    leases: Leases,
    figures: LimitFigures,
    started_us: u64,
    snapshot: Option<LimiterSnapshot>,
    complete_until: Timestamp,
    /// The limits' own time at the start of the story.
    origin: Timestamp,
    /// The highest of the figures that were replaced since the last snapshot.
    former: Option<LimitFigures>,
    /// Two faults that it can be given.
    believes_the_wall: bool,
    charges_by_present_figures: bool,
}

impl Ours {
    fn new() -> Self {
        let (limiter, leases) = (Limiter::new(SMALL, at_us(0)), Leases::new(0, LEASE));
        Self {
            limiter,
            leases,
            figures: SMALL,
            started_us: 0,
            snapshot: None,
            complete_until: WALL,
            origin: WALL,
            former: None,
            believes_the_wall: false,
            charges_by_present_figures: false,
        }
    }

    fn limit_time(&self, now: Now) -> Timestamp {
        if self.believes_the_wall { now.wall } else { self.origin.plus(Duration::from_micros(now.true_us)) }
    }

    fn replace_figures(&mut self, figures: LimitFigures) {
        let replaced = std::mem::replace(&mut self.figures, figures);
        self.former = Some(self.former.map_or(replaced, |former| former.highest(&replaced)));
    }
}

impl Candidate for Ours {
    fn admits(&mut self, cost: u32, now: Now) -> bool {
        match self.limiter.decide(&mut self.leases, cost, at_us(now.true_us - self.started_us)) {
            Decision::Admitted { lease, .. } => self.leases.release(lease),
            Decision::Refused(refusal) => {
                let longest = Duration::from_micros(HOUR_US + HOUR_US / 240);
                assert!(refusal.blocked_for() <= longest, "no wait is longer than a window with one bucket");
                false
            }
            Decision::CostTooLarge { .. } => false,
        }
    }

    fn put_in_force(&mut self, figures: LimitFigures, now: Now) {
        self.replace_figures(figures);
        self.limiter.reconfigure(figures, at_us(now.true_us - self.started_us));
    }

    fn save(&mut self, now: Now) {
        let at = at_us(now.true_us - self.started_us);
        let saved_at = self.limit_time(now);
        self.snapshot = Some(self.limiter.save(&DailyUsage::default(), at, saved_at));
        self.complete_until = saved_at;
        self.former = None;
    }

    fn reload(&mut self, now: Now) {
        self.save(now);
        let at = at_us(now.true_us - self.started_us);
        let limit_time = self.limit_time(now);
        self.limiter = Limiter::restore(self.figures, self.snapshot.as_ref(), &[], at, limit_time);
    }

    fn lateness_us(&self, figures: &LimitFigures) -> Option<[u64; 3]> {
        (!self.believes_the_wall).then(|| lateness_of_ours_us(figures))
    }

    fn restart(&mut self, restarted: &Restarted) {
        let Restarted { stopped, cleanly, started, reboot, figures } = *restarted;
        let mut unseen = Vec::new();
        if figures != self.figures {
            self.replace_figures(figures);
        }
        if cleanly {
            self.save(stopped);
        } else {
            let until = self.limit_time(stopped).plus(Duration::from_millis(1));
            let former = self.former.filter(|_| !self.charges_by_present_figures);
            unseen.push(UnseenSpan { since: self.complete_until, until, former });
        }
        if reboot {
            // As long as the clock on the wall says; less than it was, when that was set back.
            let down_us = started.true_us - stopped.true_us;
            let passed = started.wall.since(stopped.wall);
            self.origin = self.origin.minus(Duration::from_micros(down_us).saturating_sub(passed));
        }
        // Another process counts its time from elsewhere.
        self.started_us = started.true_us - started.true_us % 777;
        let at = at_us(started.true_us - self.started_us);
        let limit_time = self.limit_time(started);
        // As it comes from the file.
        let stored = self.snapshot.as_ref().map(|snapshot| LimiterSnapshot { saved_tick: None, ..snapshot.clone() });
        self.limiter = Limiter::restore(self.figures, stored.as_ref(), &unseen, at, limit_time);
        self.leases = Leases::new(0, LEASE);
    }
}

/// An exact log, which has no fault but those that it is given.
#[derive(Default)]
struct ExactLog {
    figures: Option<LimitFigures>,
    log: Vec<(u64, u64)>,
    reads_the_wall_clock: bool,
    forgets_at_restart: bool,
    forgets_at_change: bool,
    /// As when counters are raised first and looked at afterwards.
    forgets_cost: bool,
}

impl Candidate for ExactLog {
    fn admits(&mut self, cost: u32, now: Now) -> bool {
        let now_us = if self.reads_the_wall_clock { now.wall_us() } else { now.true_us };
        let cost = if self.forgets_cost { 1 } else { u64::from(cost) };
        let fits = windows_of(&self.figures.unwrap_or(SMALL)).into_iter().all(|(window_us, limit)| {
            let inside = self.log.iter().filter(|(at, _)| now_us.saturating_sub(*at) < window_us);
            inside.map(|(_, cost)| cost).sum::<u64>() + cost <= limit
        });
        if fits {
            self.log.push((now_us, cost));
        }
        fits
    }

    fn put_in_force(&mut self, figures: LimitFigures, _now: Now) {
        self.figures = Some(figures);
        if self.forgets_at_change {
            self.log.clear();
        }
    }

    fn restart(&mut self, restarted: &Restarted) {
        self.figures = Some(restarted.figures);
        if self.forgets_at_restart {
            self.log.clear();
        }
    }
}

/// How a counter's window is chosen.
#[derive(Clone, Copy, PartialEq)]
enum Counting {
    /// By the clock, anew with each window.
    Fixed,
    /// From the first request on.
    FromFirst,
    /// By the clock, with a share of the window before.
    TwoCounters,
}

struct Counter {
    counting: Counting,
    /// Begin of the window, count in it, count in the window before.
    windows: [(u64, u64, u64); 3],
}

impl Candidate for Counter {
    fn admits(&mut self, cost: u32, now: Now) -> bool {
        let (now_us, cost) = (now.true_us, u64::from(cost));
        let mut fits = true;
        for ((begin, count, before), (window_us, limit)) in self.windows.iter_mut().zip(windows_of(&SMALL)) {
            if now_us >= *begin + window_us {
                let is_next = now_us < *begin + 2 * window_us;
                *before = if is_next { *count } else { 0 };
                *begin = if self.counting == Counting::FromFirst { now_us } else { now_us - now_us % window_us };
                *count = 0;
            }
            let share = if self.counting == Counting::TwoCounters { window_us - (now_us - *begin) } else { 0 };
            fits &= *before * share / window_us + *count + cost <= limit;
        }
        for (_, count, _) in self.windows.iter_mut().filter(|_| fits) {
            *count += cost;
        }
        fits
    }

    fn put_in_force(&mut self, _figures: LimitFigures, _now: Now) {}
}

/// A token bucket for each window, written as GCRA: the theoretical time of arrival in microseconds times the limit.
#[derive(Default)]
struct Gcra {
    arrivals: [u64; 3],
}

impl Candidate for Gcra {
    fn admits(&mut self, cost: u32, now: Now) -> bool {
        let mut next = self.arrivals;
        for (arrival, (window_us, limit)) in next.iter_mut().zip(windows_of(&SMALL)) {
            let scaled_now = now.true_us * limit;
            *arrival = (*arrival).max(scaled_now) + u64::from(cost) * window_us;
            if *arrival - scaled_now > window_us * limit {
                return false;
            }
        }
        self.arrivals = next;
        true
    }

    fn put_in_force(&mut self, _figures: LimitFigures, _now: Now) {}
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_happens_no_true_window_is_above_its_limit_and_none_is_jammed(story in story()) {
        prop_assert_eq!(violation(&mut Ours::new(), &story), None);
    }

    /// The other side of the buckets' caution: who keeps `1 / (k + 1)` below the limit is never refused.
    #[test]
    fn a_client_that_keeps_within_the_stated_loss_is_never_refused(limit in 1_u32..120, phase_us in 0_u64..1_000_000) {
        let figures = LimitFigures { per_second: 1_000, burst: 1_000, per_minute: limit, per_hour: 100_000, concurrent: 9 };
        let (mut limiter, mut leases) = (Limiter::new(figures, at_us(0)), Leases::new(0, LEASE));
        let gap_us = (MINUTE_US + MINUTE_US / 60).div_ceil(u64::from(limit));
        for request in 0..u64::from(limit) * 3 {
            let decision = limiter.decide(&mut leases, 1, at_us(phase_us + request * gap_us));
            let Decision::Admitted { lease, .. } = decision else { panic!("request {request} was refused") };
            leases.release(lease);
        }
    }
}

#[test]
fn ours_passes_the_stories_that_find_the_others_out() {
    assert_eq!(found_out(|_| true, || Box::new(Ours::new())), None);
    assert_eq!(found_out(|_| true, || Box::new(ExactLog::default())), None);
}

#[test]
fn limiters_of_other_kinds_are_found_out_by_traffic_alone() {
    for counting in [Counting::Fixed, Counting::FromFirst, Counting::TwoCounters] {
        let found = found_out(Step::is_traffic, || Box::new(Counter { counting, windows: [(0, 0, 0); 3] }));
        assert!(found.is_some(), "counter number {}", counting as u8);
    }
    assert!(found_out(Step::is_traffic, || Box::new(Gcra::default())).is_some());
    let uncounted = || Box::new(ExactLog { forgets_cost: true, ..ExactLog::default() }) as Box<dyn Candidate>;
    assert!(found_out(Step::is_traffic, uncounted).is_some());
}

#[test]
fn limiters_that_forget_or_believe_the_wall_clock_are_found_out() {
    type Told = fn(&Step) -> bool;
    type Make = fn() -> ExactLog;
    let cases: [(&str, Told, Make); 3] = [
        (
            "a restart",
            |step| step.is_traffic() || matches!(step, Step::Restart { .. }),
            || ExactLog { forgets_at_restart: true, ..ExactLog::default() },
        ),
        (
            "a change of limits",
            |step| step.is_traffic() || matches!(step, Step::Tier { .. }),
            || ExactLog { forgets_at_change: true, ..ExactLog::default() },
        ),
        (
            "a clock that is set",
            |step| step.is_traffic() || matches!(step, Step::SetClock { .. }),
            || ExactLog { reads_the_wall_clock: true, ..ExactLog::default() },
        ),
    ];
    for (what, is_told, make) in cases {
        assert!(found_out(is_told, || Box::new(make())).is_some(), "{what}");
        assert_eq!(found_out(is_told, || Box::new(ExactLog::default())), None, "{what}");
    }
}

/// What ours would do if it went by the time of day, or charged a crash by the figures of the restart.
#[test]
fn a_restart_that_believes_the_wall_clock_or_forgets_what_was_in_force_is_found_out() {
    let by_the_wall = |is_told| found_out(is_told, || Box::new(Ours { believes_the_wall: true, ..Ours::new() }));
    let clock_steps: fn(&Step) -> bool = |step| {
        let restarts_by_itself = matches!(step, Step::Restart { figures: None, reboot: false, .. });
        step.is_traffic() || restarts_by_itself || matches!(step, Step::SetClock { .. })
    };
    assert!(by_the_wall(clock_steps).is_some());
    // Set back by no more than a moment, just before the crash.
    let set_back_before_a_crash = [
        Step::Burst { asks: 9, cost: 1 },
        Step::Wait { us: 1_000 },
        Step::SetClock { ahead_ms: -2, saved: false },
        Step::Restart { down_ms: 1, cleanly: false, ahead_ms: 0, reboot: false, figures: None },
        Step::Burst { asks: 9, cost: 1 },
    ];
    let mut by_the_wall = Ours { believes_the_wall: true, ..Ours::new() };
    assert!(violation(&mut by_the_wall, &set_back_before_a_crash).is_some());
    assert_eq!(violation(&mut Ours::new(), &set_back_before_a_crash), None);
    let changes: fn(&Step) -> bool = |step| {
        step.is_traffic() || matches!(step, Step::Restart { cleanly: false, ahead_ms: 0, .. } | Step::Tier { .. })
    };
    let by_present = || Box::new(Ours { charges_by_present_figures: true, ..Ours::new() }) as Box<dyn Candidate>;
    assert!(found_out(changes, by_present).is_some());
    for is_told in [clock_steps, changes] {
        assert_eq!(found_out(is_told, || Box::new(Ours::new())), None);
    }
}

#[test]
fn who_knocks_while_refused_is_not_kept_out_by_it() {
    let figures = LimitFigures { per_second: 10, burst: 10, per_minute: 20, per_hour: 30, concurrent: 10 };
    let (mut limiter, mut leases) = (Limiter::new(figures, at_us(0)), Leases::new(0, LEASE));
    let mut admitted = 0_u32;
    for step in 0..2 * HOUR_US / 100_000 {
        if let Decision::Admitted { lease, .. } = limiter.decide(&mut leases, 1, at_us(step * 100_000)) {
            admitted += 1;
            leases.release(lease);
        }
    }
    assert_eq!(admitted, 60, "thirty in each of two hours, however often it asked in between");
}

#[test]
fn very_quick_and_very_slow_rates_hold_their_figures_too() {
    let wide = LimitFigures { per_minute: u32::MAX, per_hour: u32::MAX, ..SMALL };
    for (per_second, burst) in [(2_000_000, 100_000), (u32::MAX, 7), (1, 1), (3, 1), (1, 3_600), (7, 3)] {
        let figures = LimitFigures { per_second, burst, ..wide };
        let (mut limiter, mut leases) = (Limiter::new(figures, at_us(0)), Leases::new(0, LEASE));
        let mut admitted = |at: u64| {
            let mut count = 0_u32;
            while let Decision::Admitted { lease, .. } = limiter.decide(&mut leases, 1, at_us(at)) {
                leases.release(lease);
                count += 1;
            }
            count
        };
        assert_eq!(admitted(50), burst, "{per_second} a second: neither one more nor one fewer");
        assert_eq!(admitted(50 + figures.burst_window_us() - 1), 0);
        assert_eq!(admitted(50 + figures.burst_window_us()), burst);
    }
}

/// A restart must not hide admissions from a longer window that comes into force later.
#[test]
fn a_longer_burst_window_after_a_restart_knows_what_was_before_it() {
    let mut ours = Ours::new();
    let now = |true_us: u64| Now { true_us, wall: WALL.plus(Duration::from_micros(true_us)) };
    for _ in 0..SMALL.burst {
        assert!(ours.admits(1, now(0)));
    }
    let (stopped, started) = (now(2_000_000), now(3_000_000));
    ours.restart(&Restarted { stopped, cleanly: true, started, reboot: false, figures: SMALL });
    ours.put_in_force(LimitFigures { per_second: 1, burst: 12, ..SMALL }, now(3_000_000));
    let admitted = (0..20).filter(|_| ours.admits(1, now(3_000_000))).count();
    assert_eq!(admitted, 6, "six of twelve were used 3 s ago");
}

/// Two hours in which the windows are put away and loaded again every few seconds, or come from a file. What was refused
/// although nothing is in a window that is longer by what is promised.
fn refused_without_need(figures: LimitFigures, gap_us: u64, reload_us: u64, from_file: bool) -> Vec<String> {
    let mut limiter = Limiter::new(figures, at_us(0));
    let mut leases = Leases::new(0, LEASE);
    let (mut log, mut found) = (Vec::<u64>::new(), Vec::new());
    let mut reloaded_us = 0;
    for now_us in (0..2 * HOUR_US).step_by(usize::try_from(gap_us).unwrap()) {
        let limit_time = WALL.plus(Duration::from_micros(now_us));
        if now_us - reloaded_us >= reload_us {
            reloaded_us = now_us;
            let mut snapshot = limiter.save(&DailyUsage::default(), at_us(now_us), limit_time);
            snapshot.saved_tick = snapshot.saved_tick.filter(|_| !from_file);
            limiter = Limiter::restore(figures, Some(&snapshot), &[], at_us(now_us), limit_time);
        }
        let decision = limiter.decide(&mut leases, 1, at_us(now_us));
        let mut is_needless = true;
        if let Decision::Admitted { lease, .. } = decision {
            leases.release(lease);
            log.push(now_us);
        }
        let held = |longer_us: u64| log.iter().rev().take_while(|at| now_us - **at < longer_us).count() as u64;
        // What comes from a file is cut to milliseconds each time.
        let cut_us = if from_file { 3 * HOUR_US / reload_us * 1_000 } else { 0 };
        for ((window_us, limit), late_us) in windows_of(&figures).into_iter().zip(lateness_of_ours_us(&figures)) {
            match decision {
                Decision::Admitted { .. } => {
                    assert!(held(window_us) <= limit, "{window_us} µs hold {limit} at {now_us}")
                }
                _ => is_needless &= held(window_us + late_us + cut_us) < limit,
            }
        }
        if is_needless && matches!(decision, Decision::Refused(_)) {
            found.push(format!("refused at {now_us} µs, requests every {gap_us}, reloads every {reload_us}"));
        }
    }
    found
}

#[test]
fn being_put_away_and_loaded_again_makes_no_window_longer_however_often_it_happens() {
    let wide = LimitFigures { per_second: 1_000, per_minute: 100_000, per_hour: 100_000, burst: 1_000, concurrent: 9 };
    let cases = [
        // Each limit, with requests at about what it allows, and at odd times.
        (LimitFigures { per_minute: 40, ..wide }, 1_600_000),
        (LimitFigures { per_minute: 40, ..wide }, 1_234_567),
        (LimitFigures { per_hour: 400, ..wide }, 8_765_432),
        (LimitFigures { per_second: 1, burst: 600, ..wide }, 997_001),
        (LimitFigures { per_second: 1, burst: 30, ..wide }, 500_001),
    ];
    for (figures, gap_us) in cases {
        for reload_us in [1, 2_500_000, 7_000_000, 14_999_999, 61_000_000] {
            assert_eq!(refused_without_need(figures, gap_us, reload_us, false), [""; 0]);
        }
        assert_eq!(refused_without_need(figures, gap_us, 60_000_000, true), [""; 0]);
    }
}
