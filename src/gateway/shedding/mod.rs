//! Sheds load while this node is overloaded: looks at its own signals twice a second and says how much of which work is
//! let in. A request asks without a lock.

mod commit_times;
mod episode;
mod processors;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::actors::directory::MerchantDirectory;
use crate::config::AdaptiveConfig;
use crate::domain::limit::shedding::{Controller, Signals, Targets, Worth, retry_after_s, sheds};
use crate::domain::time::Monotonic;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, Gauge, IntCounter, IntGauge};

pub(super) use commit_times::{CommitTimes, TimedStore};
use episode::{Episode, Told};
use processors::{Allowance, Processors};

/// How often the signals are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Among the figures by worth, what is no merchant's.
const OPERATOR: &str = "operator";
/// The share of its processors that a process uses which gets no more of them, in thousandths.
const ALL_IN_USE: u32 = 1_000;
/// The step from one draw to the next; odd, so that all numbers come up (the golden ratio, as in splitmix64).
const DRAW_STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// See the module. One a gateway.
pub(crate) struct Shedding {
    severity: AtomicU32,
    /// Moves with every request that is decided about while load is shed.
    draws: AtomicU64,
    /// Requests shed, by worth.
    shed: [IntCounter; Worth::ALL.len()],
    /// Requests refused because too many were in flight, by worth.
    full: [IntCounter; Worth::ALL.len()],
    /// The same of operators.
    full_operator: IntCounter,
    figures: SignalFigures,
    /// Held for a moment at each look, never by a request.
    control: Mutex<Control>,
}

struct Control {
    config: AdaptiveConfig,
    controller: Controller,
    episode: Episode,
}

impl Shedding {
    /// Sheds nothing yet. `seed` begins the draws.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when the figures can't be made.
    pub(super) fn new(config: AdaptiveConfig, figures: &Figures, seed: u64) -> Result<Arc<Self>, GatewayError> {
        let shed =
            figures.counters("shed_requests_total", "Requests refused because this node is overloaded", &["worth"])?;
        let full = figures.counters(
            "in_flight_refused_total",
            "Requests refused because as many as they may be were in flight",
            &["worth"],
        )?;
        Ok(Arc::new(Self {
            severity: AtomicU32::new(0),
            draws: AtomicU64::new(seed),
            shed: Worth::ALL.map(|worth| shed.with_label_values(&[worth.as_str()])),
            full: Worth::ALL.map(|worth| full.with_label_values(&[worth.as_str()])),
            full_operator: full.with_label_values(&[OPERATOR]),
            figures: SignalFigures::new(figures)?,
            control: Mutex::new(Control { config, controller: Controller::default(), episode: Episode::default() }),
        }))
    }

    /// Looks at the signals until the gateway stops.
    pub(super) fn start(self: &Arc<Self>, core: &Core, directory: MerchantDirectory, commits: Arc<CommitTimes>) {
        let (shedding, core) = (Arc::clone(self), core.clone());
        let mut processors = Processors::of(&core.clock);
        let mut watch = Watch { looked_at: core.clock.monotonic(), used: core.clock.processor_time() };
        core.tasks.clone().spawn(async move {
            while core.stopping.run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL)).await.is_some() {
                let now = core.clock.monotonic();
                let (elapsed, lag, processor_permille) =
                    watch.look(now, core.clock.processor_time(), processors.look());
                let (mailbox_delay, commit) = (directory.take_longest_wait(), commits.take_longest(now));
                shedding.look(&Signals { mailbox_delay, commit, lag, processor_permille }, elapsed);
            }
        });
    }

    /// Takes in what was seen since the last look.
    fn look(&self, signals: &Signals, elapsed: Duration) {
        self.figures.set(signals);
        let mut control = self.control.lock();
        if !control.config.enabled {
            return;
        }
        let targets = targets_of(&control.config);
        let severity = control.controller.observe(signals, &targets, elapsed);
        self.put_in_force(severity);
        match control.episode.follow(severity, elapsed, self.shed_total()) {
            Some(Told::Began) => tracing::warn!(
                severity,
                mailbox_delay_ms = millis(signals.mailbox_delay),
                commit_ms = millis(signals.commit),
                lag_ms = millis(signals.lag),
                processor_percent = signals.processor_permille / 10,
                "this node is overloaded: requests are shed, those worth least first"
            ),
            Some(Told::Ended { seconds, severity_max, shed }) => {
                tracing::info!(
                    seconds,
                    severity_max,
                    shed,
                    "this node is not overloaded any more: no requests are shed"
                );
            }
            None => {}
        }
    }

    /// Whether a request of this worth is let in now.
    ///
    /// # Errors
    /// [`GatewayError::Overloaded`], with when to come back.
    pub(super) fn check(&self, worth: Worth) -> Result<(), GatewayError> {
        let severity = self.severity.load(Ordering::Relaxed);
        if severity == 0 {
            return Ok(());
        }
        let draw = mix(self.draws.fetch_add(DRAW_STEP, Ordering::Relaxed));
        if !sheds(severity, worth, draw) {
            return Ok(());
        }
        self.shed[worth.index()].inc();
        // Another part of the same draw.
        Err(GatewayError::Overloaded { retry_after_s: retry_after_s(severity, draw >> 32) })
    }

    /// Counts a request that was refused because too many were in flight; none is an operator's.
    pub(super) fn note_full(&self, worth: Option<Worth>) {
        worth.map_or(&self.full_operator, |worth| &self.full[worth.index()]).inc();
    }

    /// Puts other targets in force. When it is switched off, nothing is shed from now on.
    pub(super) fn configure(&self, config: AdaptiveConfig) {
        let mut control = self.control.lock();
        control.config = config;
        if !config.enabled {
            control.controller = Controller::default();
            control.episode = Episode::default();
            self.put_in_force(0);
        }
    }

    fn put_in_force(&self, severity: u32) {
        self.severity.store(severity, Ordering::Relaxed);
        self.figures.severity.set(i64::from(severity));
    }

    fn shed_total(&self) -> u64 {
        self.shed.iter().map(IntCounter::get).sum()
    }
}

/// What the operator sees of the signals.
struct SignalFigures {
    severity: IntGauge,
    mailbox_delay_s: Gauge,
    commit_s: Gauge,
    lag_s: Gauge,
    processor_ratio: Gauge,
}

impl SignalFigures {
    fn new(figures: &Figures) -> Result<Self, GatewayError> {
        Ok(Self {
            severity: figures.gauge("shedding_severity", "How much load is shed, 0 to 1000")?,
            mailbox_delay_s: figures
                .decimal("mailbox_delay_seconds", "Longest wait for a merchant's limits in the last half second")?,
            commit_s: figures.decimal("commit_seconds", "Longest commit in the last half second")?,
            lag_s: figures.decimal("timer_lag_seconds", "How late the last timer of the load's watch was")?,
            processor_ratio: figures
                .decimal("processor_ratio", "Share of the processors it may use that the process used in the last half second; 1 when its quota was used up")?,
        })
    }

    fn set(&self, signals: &Signals) {
        self.mailbox_delay_s.set(signals.mailbox_delay.as_secs_f64());
        self.commit_s.set(signals.commit.as_secs_f64());
        self.lag_s.set(signals.lag.as_secs_f64());
        self.processor_ratio.set(f64::from(signals.processor_permille) / 1_000.0);
    }
}

/// What was read at the last look.
struct Watch {
    looked_at: Monotonic,
    /// Processor time of the process by then.
    used: Duration,
}

impl Watch {
    /// The time since the last look, how much later than asked for this one is, and the share of the processors that was
    /// used meanwhile, in thousandths: all of them when the process was held back for using too much.
    fn look(&mut self, now: Monotonic, used: Duration, allowed: Allowance) -> (Duration, Duration, u32) {
        let elapsed = now.since(self.looked_at);
        let busy = used.saturating_sub(self.used);
        let available = elapsed.as_micros().saturating_mul(u128::from(allowed.permille)).max(1);
        let permille = busy.as_micros().saturating_mul(1_000_000) / available;
        let permille =
            u32::try_from(permille).unwrap_or(u32::MAX).max(if allowed.was_throttled { ALL_IN_USE } else { 0 });
        (self.looked_at, self.used) = (now, used);
        (elapsed, elapsed.saturating_sub(LOOK_INTERVAL), permille)
    }
}

fn targets_of(config: &AdaptiveConfig) -> Targets {
    Targets {
        mailbox_delay: Duration::from_millis(config.mailbox_delay_ms),
        commit: Duration::from_millis(config.commit_ms),
        lag: Duration::from_millis(config.lag_ms),
        rise: Duration::from_secs(config.rise_s),
        fall: Duration::from_secs(config.fall_s),
    }
}

/// Numbers next to each other become numbers that have nothing to do with each other (splitmix64's finish).
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
