//! How many files, connections among them, the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// Files kept for everything but the merchants' and the operator's connections: journal, index, providers, webhooks.
const KEPT: u64 = 1024;

/// Raises the soft limit of open files to the hard one, and lowers `connections_max` where even that is too little for
/// so many connections: those that are accepted are not to take the files that the store needs.
pub(super) fn prepare(config: &mut Config) {
    let open_max = raise(getrlimit(Resource::Nofile));
    let fitting = connections_that_fit(open_max, config.server.connections_max);
    if fitting < config.server.connections_max {
        tracing::warn!(
            open_files_max = open_max,
            connections_max = fitting,
            configured = config.server.connections_max,
            "the process may not open enough files for the configured connections; raise the limit (ulimit -n, or \
             LimitNOFILE= of the service)"
        );
        config.server.connections_max = fitting;
    }
}

/// Returns the limit that is in force then; `u64::MAX` for none.
fn raise(limit: Rlimit) -> u64 {
    if limit.current == limit.maximum {
        return limit.current.unwrap_or(u64::MAX);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::warn!(%error, "the limit of open files can't be raised");
            limit.current.unwrap_or(u64::MAX)
        }
    }
}

/// At most `wanted` connections on each of the two listeners.
fn connections_that_fit(open_max: u64, wanted: usize) -> usize {
    let kept = KEPT.min(open_max / 2);
    let each = usize::try_from((open_max - kept) / 2).unwrap_or(usize::MAX);
    wanted.min(each.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        assert_eq!(connections_that_fit(u64::MAX, 10_000), 10_000);
        assert_eq!(connections_that_fit(1_048_576, 10_000), 10_000);
        assert_eq!(connections_that_fit(4096, 10_000), 1536);
        assert_eq!(connections_that_fit(4096, 100), 100);
        assert_eq!(connections_that_fit(256, 10_000), 64);
        assert_eq!(connections_that_fit(0, 10_000), 1);
    }

    #[test]
    fn the_limit_in_force_is_the_hard_one() {
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(raise(limit), limit.maximum.unwrap_or(u64::MAX));
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
    }
}
