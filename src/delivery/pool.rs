//! Connections without a request, kept to be used again: so many in all and of one receiver, none for longer than its age
//! allows, so that a receiver which has moved is found again. Dropping a connection closes its socket at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use url::Host;

use crate::clock::Clock;
use crate::delivery::allowance::Allowance;
use crate::delivery::url::Scope;
use crate::domain::time::Monotonic;

/// How often connections that nobody has used for long are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Where a connection leads. Different scopes share none, because different addresses were allowed for them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) host: Host<String>,
    pub(super) port: u16,
    pub(super) is_tls: bool,
    pub(super) scope: Scope,
}

/// A connection over which one request after the other can go.
#[derive(Debug)]
pub(super) struct Connection {
    /// Takes the requests.
    pub(super) sender: SendRequest<Full<Bytes>>,
    /// How much may come over it until it is renewed.
    pub(super) allowance: Allowance,
    /// From when on its age counts.
    opened_at: Monotonic,
    _driver: Driver,
}

impl Connection {
    /// One that `driver` moves on.
    pub(super) fn new(
        sender: SendRequest<Full<Bytes>>,
        allowance: Allowance,
        opened_at: Monotonic,
        driver: JoinHandle<()>,
    ) -> Self {
        Self { sender, allowance, opened_at, _driver: Driver(driver) }
    }
}

/// The task that reads and writes the socket, which it owns.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolSettings {
    /// Connections kept in all.
    pub(super) idle_max: usize,
    /// Connections kept to one receiver.
    pub(super) idle_of_one_max: usize,
    /// A connection is kept without a request for this long.
    pub(super) idle_timeout: Duration,
    /// A connection is used for this long.
    pub(super) age_max: Duration,
}

/// Connections without a request.
#[derive(Debug)]
pub(super) struct Pool {
    settings: PoolSettings,
    clock: Clock,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    /// By when they were given back, the oldest first.
    kept: BTreeMap<u64, Kept>,
    by_target: HashMap<Target, Vec<u64>>,
    given_back: u64,
    is_swept: bool,
}

#[derive(Debug)]
struct Kept {
    target: Target,
    connection: Connection,
    since: Monotonic,
}

impl Pool {
    /// An empty one.
    pub(super) fn new(settings: PoolSettings, clock: Clock) -> Arc<Self> {
        Arc::new(Self { settings, clock, idle: Mutex::default() })
    }

    /// The connection to `target` that was used last, if there is one.
    pub(super) fn take(&self, target: &Target) -> Option<Connection> {
        let now = self.clock.monotonic();
        let mut unfit = Vec::new();
        let mut idle = self.idle.lock();
        let mut taken = None;
        while let Some(connection) = idle.newest_to(target) {
            if self.is_fit(&connection, now) {
                taken = Some(connection);
                break;
            }
            unfit.push(connection);
        }
        drop(idle);
        drop(unfit);
        taken
    }

    /// Keeps a connection that has no request, if it may be kept.
    pub(super) fn give_back(self: &Arc<Self>, target: Target, connection: Connection) {
        let now = self.clock.monotonic();
        let of_one_max = self.settings.idle_of_one_max.min(self.settings.idle_max);
        if of_one_max == 0 || !self.is_fit(&connection, now) {
            return;
        }
        let mut surplus = Vec::new();
        let mut idle = self.idle.lock();
        if idle.by_target.get(&target).is_some_and(|numbers| numbers.len() >= of_one_max) {
            return;
        }
        idle.keep(target, connection, now);
        while idle.kept.len() > self.settings.idle_max {
            surplus.extend(idle.remove_oldest());
        }
        if !idle.is_swept {
            idle.is_swept = true;
            drop(tokio::spawn(sweep(Arc::downgrade(self))));
        }
        drop(idle);
        drop(surplus);
    }

    /// How many connections are kept.
    pub(super) fn idle(&self) -> usize {
        self.idle.lock().kept.len()
    }

    fn is_fit(&self, connection: &Connection, now: Monotonic) -> bool {
        !connection.sender.is_closed() && now.since(connection.opened_at) < self.settings.age_max
    }

    /// Closes what was not used for too long, is too old or was closed by the receiver. Returns whether any is left.
    fn close_unfit(&self) -> bool {
        let now = self.clock.monotonic();
        let mut closing = Vec::new();
        let mut idle = self.idle.lock();
        let unfit =
            |kept: &Kept| now.since(kept.since) >= self.settings.idle_timeout || !self.is_fit(&kept.connection, now);
        let numbers: Vec<u64> = idle.kept.iter().filter(|(_, kept)| unfit(kept)).map(|(number, _)| *number).collect();
        for number in numbers {
            closing.extend(idle.remove(number));
        }
        idle.is_swept = !idle.kept.is_empty();
        let is_any_left = idle.is_swept;
        drop(idle);
        drop(closing);
        is_any_left
    }
}

impl Idle {
    fn keep(&mut self, target: Target, connection: Connection, since: Monotonic) {
        self.given_back += 1;
        self.by_target.entry(target.clone()).or_default().push(self.given_back);
        self.kept.insert(self.given_back, Kept { target, connection, since });
    }

    fn newest_to(&mut self, target: &Target) -> Option<Connection> {
        let newest = *self.by_target.get(target)?.last()?;
        self.remove(newest)
    }

    fn remove_oldest(&mut self) -> Option<Connection> {
        let oldest = *self.kept.first_key_value()?.0;
        self.remove(oldest)
    }

    fn remove(&mut self, number: u64) -> Option<Connection> {
        let kept = self.kept.remove(&number)?;
        if let Some(numbers) = self.by_target.get_mut(&kept.target) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_target.remove(&kept.target);
            }
        }
        Some(kept.connection)
    }
}

/// Goes on while there are connections.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.close_unfit() {
            return;
        }
    }
}
