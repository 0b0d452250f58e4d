//! What the log says about shedding: when it begins, and when it is really over.

use std::time::Duration;

/// It is over when nothing was shed for this long. What comes again sooner belongs to the same episode.
const QUIET: Duration = Duration::from_secs(10);

/// A time in which load is shed, or none.
#[derive(Debug, Default)]
pub(super) struct Episode(Option<Running>);

#[derive(Debug)]
struct Running {
    lasted: Duration,
    quiet: Duration,
    severity_max: u32,
    /// Requests that had been shed before it.
    shed_before: u64,
}

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It begins.
    Began,
    /// It is over.
    Ended {
        /// How long it lasted.
        seconds: u64,
        /// The worst of it.
        severity_max: u32,
        /// Requests that were shed.
        shed: u64,
    },
}

impl Episode {
    /// The severity now, after so much time; `shed_total` requests have been shed since the start of the process.
    pub(super) fn follow(&mut self, severity: u32, elapsed: Duration, shed_total: u64) -> Option<Told> {
        let Some(running) = &mut self.0 else {
            if severity == 0 {
                return None;
            }
            let shed_before = shed_total;
            self.0 =
                Some(Running { lasted: Duration::ZERO, quiet: Duration::ZERO, severity_max: severity, shed_before });
            return Some(Told::Began);
        };
        running.lasted = running.lasted.saturating_add(elapsed);
        running.severity_max = running.severity_max.max(severity);
        running.quiet = if severity == 0 { running.quiet.saturating_add(elapsed) } else { Duration::ZERO };
        if running.quiet < QUIET {
            return None;
        }
        let seconds = running.lasted.saturating_sub(running.quiet).as_secs();
        let ended = Told::Ended {
            seconds,
            severity_max: running.severity_max,
            shed: shed_total.saturating_sub(running.shed_before),
        };
        self.0 = None;
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_begins_once_and_ends_when_it_has_been_quiet() {
        let second = Duration::from_secs(1);
        let mut episode = Episode::default();
        assert_eq!(episode.follow(0, second, 7), None);
        assert_eq!(episode.follow(25, second, 7), Some(Told::Began));
        assert_eq!(episode.follow(50, second, 9), None);
        for _ in 0..5 {
            for _ in 0..9 {
                assert_eq!(episode.follow(0, second, 9), None);
            }
            assert_eq!(episode.follow(1, second, 10), None);
        }
        for _ in 0..9 {
            assert_eq!(episode.follow(0, second, 10), None);
        }
        let ended = Told::Ended { seconds: 51, severity_max: 50, shed: 3 };
        assert_eq!(episode.follow(0, second, 10), Some(ended));
        assert_eq!(episode.follow(0, second, 10), None);
        assert_eq!(episode.follow(25, second, 10), Some(Told::Began));
    }
}
