//! How many files, connections among them, the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::actors::webhook::SLOW_OVER;
use crate::config::{Config, WebhookConfig};
use crate::delivery::LOOK_UP_SOCKETS_MAX;

/// Files kept for everything but connections of merchants, of the operator and to webhooks' receivers: journal, index,
/// providers.
const KEPT: u64 = 512;

/// Raises the soft limit of open files to the hard one, and lowers `connections_max` where even that is too little for
/// so many connections: those that are accepted are not to take the files that the store needs.
pub(super) fn prepare(config: &mut Config) {
    let open_max = raise(getrlimit(Resource::Nofile));
    let slow_max = slow_that_fit(open_max, config.webhook.slow_in_flight_max);
    if slow_max < config.webhook.slow_in_flight_max {
        tracing::warn!(
            open_files_max = open_max,
            slow_in_flight_max = slow_max,
            configured = config.webhook.slow_in_flight_max,
            "the process may not open enough files for so many webhooks to receivers that hang; raise the limit (ulimit \
             -n, or LimitNOFILE= of the service)"
        );
        config.webhook.slow_in_flight_max = slow_max;
    }
    let fitting = connections_that_fit(open_max, kept(&config.webhook), config.server.connections_max);
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

/// At most `wanted` requests to receivers that hang, which take up to a quarter of the open files, however many are over.
fn slow_that_fit(open_max: u64, wanted: usize) -> usize {
    let each = usize::try_from(open_max / 4).unwrap_or(usize::MAX) / SLOW_OVER;
    wanted.min(each.max(1))
}

/// What is kept, with look-ups of names, a connection for each request to a receiver and those between requests. While connections are
/// closed others are opened, so the latter count twice.
fn kept(webhook: &WebhookConfig) -> u64 {
    let in_flight = webhook.in_flight_max.saturating_add(webhook.slow_in_flight_max.saturating_mul(SLOW_OVER));
    let connections = in_flight.saturating_add(webhook.idle_connections_max.saturating_mul(2));
    let sockets = connections.saturating_add(LOOK_UP_SOCKETS_MAX);
    KEPT.saturating_add(u64::try_from(sockets).unwrap_or(u64::MAX))
}

/// At most `wanted` connections on each of the two listeners, which leave `kept` files, or half of all if that is less.
fn connections_that_fit(open_max: u64, kept: u64, wanted: usize) -> usize {
    let kept = kept.min(open_max / 2);
    let each = usize::try_from((open_max - kept) / 2).unwrap_or(usize::MAX);
    wanted.min(each.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        assert_eq!(connections_that_fit(u64::MAX, 1024, 10_000), 10_000);
        assert_eq!(connections_that_fit(1_048_576, 1024, 10_000), 10_000);
        assert_eq!(connections_that_fit(4096, 1024, 10_000), 1536);
        assert_eq!(connections_that_fit(4096, 1024, 100), 100);
        assert_eq!(connections_that_fit(256, 1024, 10_000), 64);
        assert_eq!(connections_that_fit(0, 1024, 10_000), 1);
        assert_eq!(connections_that_fit(4096, u64::MAX, 10_000), 1024);
    }

    #[test]
    fn receivers_that_hang_leave_files_for_the_rest() {
        assert_eq!(slow_that_fit(u64::MAX, 1_024), 1_024);
        assert_eq!(slow_that_fit(65_536, 1_024), 1_024);
        assert_eq!(slow_that_fit(4_096, 1_024), 256);
        assert_eq!(slow_that_fit(4_096, 100), 100);
        assert_eq!(slow_that_fit(0, 1_024), 1);
    }

    #[test]
    fn requests_to_receivers_and_kept_connections_have_their_files() {
        let mut webhook = Config::embedded().unwrap().webhook;
        (webhook.in_flight_max, webhook.slow_in_flight_max, webhook.idle_connections_max) = (100, 20, 7);
        assert_eq!(kept(&webhook), KEPT + 1_536 + 194);
        (webhook.in_flight_max, webhook.idle_connections_max) = (usize::MAX, usize::MAX);
        assert!(kept(&webhook) >= u64::MAX / 2);
    }

    #[test]
    fn the_limit_in_force_is_the_hard_one() {
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(raise(limit), limit.maximum.unwrap_or(u64::MAX));
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
    }
}
