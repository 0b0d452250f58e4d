//! Shedding load while the node itself is overloaded: how bad it is, and which requests are refused for it.
//!
//! One controller looks at a few signals now and then and keeps one figure, the severity. How far the signals are above
//! their targets says where it wants to be; it gets there slowly, and back more slowly, four times as
//! slowly until all signals are below half of their targets. So a short hiccup sheds nothing, what is shed does not flap,
//! and a load that lasts ends at the same severity whatever came before it.

use std::time::Duration;

/// The severity at which everything that may be shed is shed.
pub const SEVERITY_MAX: u32 = 1_000;
/// What a class of requests has of the scale of severities.
const CLASS_SPAN: u32 = 200;
/// Of every thousand requests that finish something, so many are shed at the most: what has begun must be able to end.
const FINISH_SHED_MAX: u32 = 900;
/// A pressure: a signal at its target.
const AT_TARGET: u64 = 1_000;
/// With less pressure than this the severity falls as fast as it may.
const CALM: u64 = AT_TARGET / 2;
/// With more, it takes so many times as long to fall: it could be what keeps the pressure where it is.
const FALL_SLOWER: u32 = 4;
/// Millionths of the scale by which the severity wanted grows with each unit of pressure above the target: all of it at
/// five times the target. Without such a bound a node whose slowness is not made by its load would refuse everything.
const WANTED_PER_PRESSURE: u64 = 250;
/// Millionths of the scale in one of its thousand parts.
const FINE: u64 = 1_000;
const LEVEL_MAX: u64 = SEVERITY_MAX as u64 * FINE;
/// No more time than this counts as gone by between two looks: after a process was stopped and went on, its past says
/// little.
const STEP_MAX: Duration = Duration::from_secs(1);
/// With less of the processors than this, in thousandths, being late is not for want of them.
const PROCESSOR_BUSY: u32 = 950;

/// What a request is worth, the least first. What is not among these is never shed: probes, operators, notifications of
/// providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Worth {
    /// Reads several objects: lists, events.
    List,
    /// Reads one object, or asks without effect: a payment, limits, a quote.
    Query,
    /// Changes how the merchant is served: endpoints of webhooks and their notifications.
    Manage,
    /// Begins to move money.
    Create,
    /// Finishes what was begun: captures, cancellations, refunds.
    Finish,
}

impl Worth {
    /// All of them, the least first.
    pub const ALL: [Self; 5] = [Self::List, Self::Query, Self::Manage, Self::Create, Self::Finish];

    /// Its place among [`Worth::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name among the figures.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Query => "query",
            Self::Manage => "manage",
            Self::Create => "create",
            Self::Finish => "finish",
        }
    }
}

/// How many of a thousand requests of this worth are shed. Each class has a fifth of the scale, in which its share grows
/// from none to all; of the last, to nine tenths.
pub fn shed_permille(severity: u32, worth: Worth) -> u32 {
    let begins = worth as u32 * CLASS_SPAN;
    let most = if worth == Worth::Finish { FINISH_SHED_MAX } else { 1_000 };
    severity.saturating_sub(begins).min(CLASS_SPAN) * most / CLASS_SPAN
}

/// Whether this request is shed; `draw` is any random number.
pub fn sheds(severity: u32, worth: Worth, draw: u64) -> bool {
    draw % 1_000 < u64::from(shed_permille(severity, worth))
}

/// When a request that was shed should come again, in whole seconds, 1 to 5: the later the worse it is, and spread, so that
/// those who were shed together do not come back together.
pub fn retry_after_s(severity: u32, draw: u64) -> u64 {
    1 + draw % (1 + (4 * u64::from(severity.min(SEVERITY_MAX))).div_ceil(u64::from(SEVERITY_MAX)))
}

/// What can be seen of the node's load. All of it is local: how long a provider takes is not its load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// The longest that a request has waited for its merchant's actor.
    pub mailbox_delay: Duration,
    /// The longest that a commit has taken, or has by now.
    pub commit: Duration,
    /// How late a timer was.
    pub lag: Duration,
    /// How much of the processors that it may use the process has used, in thousandths.
    pub processor_permille: u32,
}

/// What the signals should not exceed, and how fast the severity follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// For waiting for an actor.
    pub mailbox_delay: Duration,
    /// For a commit.
    pub commit: Duration,
    /// For a timer. Late timers count only while the processors are all in use.
    pub lag: Duration,
    /// From nothing to everything in no less than this.
    pub rise: Duration,
    /// And back, while all signals are below half of their targets; else four times as long, and only as far as the worst
    /// of them lets it.
    pub fall: Duration,
}

impl Signals {
    /// How near the signal that is worst is to its target, in thousandths of it.
    pub fn pressure(&self, targets: &Targets) -> u64 {
        let lag = if self.processor_permille >= PROCESSOR_BUSY { self.lag } else { Duration::ZERO };
        let signals = [(self.mailbox_delay, targets.mailbox_delay), (self.commit, targets.commit), (lag, targets.lag)];
        signals.into_iter().map(|(signal, target)| pressure_of(signal, target)).max().unwrap_or(0)
    }
}

fn pressure_of(signal: Duration, target: Duration) -> u64 {
    let pressure = signal.as_micros().saturating_mul(u128::from(AT_TARGET)) / target.as_micros().max(1);
    u64::try_from(pressure).unwrap_or(u64::MAX)
}

/// Keeps the severity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Controller {
    /// The severity in finer steps.
    level: u64,
    was_overloaded: bool,
}

impl Controller {
    /// One that stands at `severity`.
    pub fn at(severity: u32) -> Self {
        Self { level: u64::from(severity.min(SEVERITY_MAX)) * FINE, was_overloaded: false }
    }

    /// Takes in what was seen in the time since the last look, and answers the severity.
    pub fn observe(&mut self, signals: &Signals, targets: &Targets, elapsed: Duration) -> u32 {
        let pressure = signals.pressure(targets);
        let is_overloaded = pressure > AT_TARGET;
        let wanted = pressure.saturating_sub(AT_TARGET).saturating_mul(WANTED_PER_PRESSURE).min(LEVEL_MAX);
        if wanted < self.level {
            let fall = if pressure < CALM { targets.fall } else { targets.fall.saturating_mul(FALL_SLOWER) };
            self.level = self.level.saturating_sub(step(elapsed, fall)).max(wanted);
        } else if self.was_overloaded || self.level > 0 {
            // Once is a hiccup: a disk that was busy with something else, a machine that was suspended.
            self.level = wanted.min(self.level + step(elapsed, targets.rise));
        }
        self.was_overloaded = is_overloaded;
        self.severity()
    }

    /// Where it stands, 0 to [`SEVERITY_MAX`].
    pub fn severity(&self) -> u32 {
        u32::try_from(self.level / FINE).unwrap_or(SEVERITY_MAX)
    }
}

/// How far the severity may go in `elapsed` when all of the scale takes `full`.
fn step(elapsed: Duration, full: Duration) -> u64 {
    let step = elapsed.min(STEP_MAX).as_micros().saturating_mul(u128::from(LEVEL_MAX)) / full.as_micros().max(1);
    u64::try_from(step).unwrap_or(LEVEL_MAX)
}

#[cfg(test)]
mod tests;
