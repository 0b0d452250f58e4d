//! The only reader of the clocks. Everything else takes a [`Clock`], or better, the reading itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::domain::time::{Monotonic, Timestamp};

/// Where Linux says which start of the machine this is: another one after each, the same in all processes and containers.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where a gateway reads the time. Cheap to clone; clones read the same clock.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    /// The machine's clocks.
    System { started: tokio::time::Instant },
    /// Follows tokio's clock from a fixed start, so that a paused runtime moves this clock too.
    Virtual {
        start: Timestamp,
        started: tokio::time::Instant,
        /// How far the time of day was set forward since; negative for back.
        ahead_ms: AtomicI64,
        /// Processor time, as told.
        processor_us: AtomicU64,
        /// How often the machine was started since, and when it was last, in microseconds.
        boots: AtomicU64,
        booted_us: AtomicU64,
    },
    /// Moves only when it is told to.
    Manual { start_ms: i64, now_ms: AtomicI64 },
}

impl Clock {
    /// The machine's clocks: UTC for [`Clock::now`], the runtime's steady clock for [`Clock::monotonic`].
    pub fn system() -> Self {
        Self(Arc::new(Source::System { started: tokio_now() }))
    }

    /// A clock that stands at `start` now and moves with tokio's clock, which tests pause and advance.
    pub fn virtual_from(start: Timestamp) -> Self {
        Self(Arc::new(Source::Virtual {
            start,
            started: tokio_now(),
            ahead_ms: AtomicI64::new(0),
            processor_us: AtomicU64::new(0),
            boots: AtomicU64::new(0),
            booted_us: AtomicU64::new(0),
        }))
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        Self(Arc::new(Source::Manual { start_ms: start.unix_ms(), now_ms: AtomicI64::new(start.unix_ms()) }))
    }

    /// The time of day in UTC.
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            Source::System { .. } => system_now(),
            Source::Virtual { start, started, ahead_ms, .. } => {
                let steady = start.plus(tokio_now().duration_since(*started));
                Timestamp::from_unix_ms(steady.unix_ms().saturating_add(ahead_ms.load(Ordering::SeqCst)))
            }
            Source::Manual { now_ms, .. } => Timestamp::from_unix_ms(now_ms.load(Ordering::SeqCst)),
        }
    }

    /// A reading that never goes back, for measuring how long something took and for limits.
    pub fn monotonic(&self) -> Monotonic {
        let elapsed = match &*self.0 {
            Source::System { started } | Source::Virtual { started, .. } => tokio_now().duration_since(*started),
            Source::Manual { start_ms, now_ms } => {
                let elapsed_ms = now_ms.load(Ordering::SeqCst).saturating_sub(*start_ms);
                Duration::from_millis(u64::try_from(elapsed_ms).unwrap_or(0))
            }
        };
        Monotonic::from_micros(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }

    /// The same as [`Clock::monotonic`], except that it goes on while the machine is suspended: to be compared with the time of
    /// day, which does, too. It begins with the machine's start, so that processes of one [`Clock::boot_id`] read the same.
    pub fn steady(&self) -> Monotonic {
        match &*self.0 {
            Source::System { .. } => since_boot(),
            Source::Virtual { booted_us, .. } => {
                let booted_us = booted_us.load(Ordering::SeqCst);
                Monotonic::from_micros(self.monotonic().micros().saturating_sub(booted_us))
            }
            Source::Manual { .. } => self.monotonic(),
        }
    }

    /// Names the start of the machine since which [`Clock::steady`] counts; `None` when that is not known. Reads a small file
    /// of the system's.
    pub fn boot_id(&self) -> Option<String> {
        match &*self.0 {
            Source::System { .. } => {
                let id = std::fs::read_to_string(BOOT_ID).ok()?.trim().to_owned();
                (!id.is_empty()).then_some(id)
            }
            Source::Virtual { start, boots, .. } => {
                Some(format!("virtual {} {}", start.unix_ms(), boots.load(Ordering::SeqCst)))
            }
            Source::Manual { start_ms, .. } => Some(format!("manual {start_ms}")),
        }
    }

    /// How much time of its processors the process has used, all threads together; by a virtual clock what
    /// [`Clock::use_processors`] was told and by a manual one none, so that tests can be repeated.
    pub fn processor_time(&self) -> Duration {
        match &*self.0 {
            Source::System { .. } => processor_time(),
            Source::Virtual { processor_us, .. } => Duration::from_micros(processor_us.load(Ordering::SeqCst)),
            Source::Manual { .. } => Duration::ZERO,
        }
    }

    /// Adds to the processor time of a virtual clock, as work does to a machine's. Does nothing to the others.
    pub fn use_processors(&self, by: Duration) {
        if let Source::Virtual { processor_us, .. } = &*self.0 {
            processor_us.fetch_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    }

    /// Whether these are the machine's clocks: then what else the machine says counts, too.
    pub fn is_of_machine(&self) -> bool {
        matches!(&*self.0, Source::System { .. })
    }

    /// Sets a virtual clock's time of day back, as an operator or a time server does; its steady time goes on. Does nothing
    /// to the others.
    pub fn set_back(&self, by: Duration) {
        if let Source::Virtual { ahead_ms, .. } = &*self.0 {
            ahead_ms.fetch_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }

    /// Sets a virtual clock's time of day forward; its steady time goes on. Does nothing to the others.
    pub fn set_forward(&self, by: Duration) {
        if let Source::Virtual { ahead_ms, .. } = &*self.0 {
            ahead_ms.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }

    /// Starts a virtual clock's machine again: its steady time begins anew, the time of day goes on. Does nothing to the
    /// others.
    pub fn reboot(&self) {
        if let Source::Virtual { boots, booted_us, .. } = &*self.0 {
            boots.fetch_add(1, Ordering::SeqCst);
            booted_us.store(self.monotonic().micros(), Ordering::SeqCst);
        }
    }

    /// Moves a manual clock; does nothing to the others.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { now_ms, .. } = &*self.0 {
            now_ms.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "this file is the one that reads clocks")]
fn tokio_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

fn since_boot() -> Monotonic {
    let reading = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(reading.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(reading.tv_nsec).unwrap_or(0);
    Monotonic::from_micros(seconds.saturating_mul(1_000_000).saturating_add(nanoseconds / 1_000))
}

fn processor_time() -> Duration {
    let reading = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(reading.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(reading.tv_nsec).unwrap_or(0))
}

#[allow(clippy::disallowed_methods, reason = "this file is the one that reads clocks")]
fn system_now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
