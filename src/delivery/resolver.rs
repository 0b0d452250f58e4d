//! Which addresses a host name has, remembered for as long as its name server says. Names that are slow to resolve never keep
//! others waiting: a look-up is asynchronous, there is one at a time of a name, and one that nobody waits for ends.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, WeakShared};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::delivery::hosts::HostsFile;
use crate::delivery::name_servers::{Found, LookUpError, NameServers};
use crate::domain::time::Monotonic;

/// Look-ups at once. A silent name takes its place for the time that name servers have, and then none until that is
/// forgotten.
const UNDER_WAY_MAX: usize = 256;
/// Sockets that look-ups have open at once: each asks for two kinds of address, and up to three times, each from a socket of
/// its own, so that answers are hard to forge.
pub const LOOK_UP_SOCKETS_MAX: usize = UNDER_WAY_MAX * 6;
/// Answers are remembered for at least this, or one that says "never" would be asked for with every connection.
const TTL_MIN: Duration = Duration::from_secs(1);
/// That nobody could say which addresses a name has is remembered no longer than this: it says nothing about the name, and
/// meanwhile tries are used up.
const FAILURE_TTL_MAX: Duration = Duration::from_secs(10);

/// How long to ask and to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResolverSettings {
    /// For one look-up.
    pub(super) timeout: Duration,
    /// Names remembered.
    pub(super) names_max: usize,
    /// Longest time for which addresses are remembered.
    pub(super) ttl_max: Duration,
    /// For how long it is remembered that there are none.
    pub(super) negative_ttl: Duration,
}

/// Addresses of a name.
#[derive(Debug)]
pub(super) struct Resolved {
    /// All of them, at least one.
    pub(super) addresses: Vec<IpAddr>,
    is_reported: AtomicBool,
}

impl Resolved {
    fn new(addresses: Vec<IpAddr>) -> Arc<Self> {
        Arc::new(Self { addresses, is_reported: AtomicBool::new(false) })
    }

    /// Whether this answer is to be reported: true once.
    pub(super) fn report(&self) -> bool {
        !self.is_reported.swap(true, Ordering::Relaxed)
    }
}

type Outcome = Result<Arc<Resolved>, LookUpError>;
type UnderWay = WeakShared<BoxFuture<'static, Outcome>>;

/// How many look-ups have ended how, since the start.
#[derive(Debug, Default)]
pub(super) struct LookUpFigures {
    /// A name server, or the list of hosts, had addresses.
    pub(super) ok: AtomicU64,
    /// Remembered, addresses or that there are none.
    pub(super) cached: AtomicU64,
    /// No addresses, or nobody who could say.
    pub(super) failed: AtomicU64,
    /// No answer in time.
    pub(super) timed_out: AtomicU64,
    /// An address was one that webhooks must not go to; once an answer.
    pub(super) refused: AtomicU64,
}

/// Resolves names.
pub(super) struct Resolver {
    settings: ResolverSettings,
    clock: Clock,
    hosts: Arc<HostsFile>,
    name_servers: Box<dyn NameServers>,
    places: Semaphore,
    state: Mutex<State>,
    figures: LookUpFigures,
}

#[derive(Default)]
struct State {
    remembered: Remembered,
    under_way: HashMap<Box<str>, (u64, UnderWay)>,
    begun: u64,
}

impl Resolver {
    /// One that looks at `hosts` first and then asks `name_servers`.
    pub(super) fn new(
        settings: ResolverSettings,
        clock: Clock,
        hosts: HostsFile,
        name_servers: Box<dyn NameServers>,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings,
            clock,
            hosts: Arc::new(hosts),
            name_servers,
            places: Semaphore::new(UNDER_WAY_MAX),
            state: Mutex::default(),
            figures: LookUpFigures::default(),
        })
    }

    /// How look-ups have ended so far.
    pub(super) fn figures(&self) -> &LookUpFigures {
        &self.figures
    }

    /// All addresses of `name`.
    ///
    /// # Errors
    /// When it has none, or when no name server answers in time.
    pub(super) async fn resolve(self: &Arc<Self>, name: &str) -> Outcome {
        let name = name.to_ascii_lowercase().into_boxed_str();
        let looking_up = {
            let mut state = self.state.lock();
            if let Some(outcome) = state.remembered.get(&name, self.clock.monotonic()) {
                self.figures.cached.fetch_add(1, Ordering::Relaxed);
                return outcome;
            }
            match state.under_way.get(&name).and_then(|(_, under_way)| under_way.upgrade()) {
                Some(under_way) => under_way,
                None => {
                    state.begun += 1;
                    let interest = Interest { resolver: Arc::clone(self), name: name.clone(), number: state.begun };
                    let looking_up = interest.look_up().boxed().shared();
                    if let Some(weak) = looking_up.downgrade() {
                        let number = state.begun;
                        state.under_way.insert(name, (number, weak));
                    }
                    looking_up
                }
            }
        };
        looking_up.await
    }

    async fn look_up(&self, name: &str) -> Outcome {
        let Ok(_place) = self.places.acquire().await else { return Err(LookUpError::TimedOut) };
        let asked = tokio::time::timeout(self.settings.timeout, self.ask(name)).await;
        let found = asked.unwrap_or(Err(LookUpError::TimedOut));
        let (counter, ttl) = match &found {
            Ok(found) => (&self.figures.ok, found.ttl.min(self.settings.ttl_max).max(TTL_MIN)),
            Err(LookUpError::NotFound) => (&self.figures.failed, self.settings.negative_ttl),
            Err(LookUpError::Failed) => (&self.figures.failed, self.settings.negative_ttl.min(FAILURE_TTL_MAX)),
            Err(LookUpError::TimedOut) => (&self.figures.timed_out, self.settings.negative_ttl.min(FAILURE_TTL_MAX)),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let outcome = found.map(|found| Resolved::new(found.addresses));
        let until = self.clock.monotonic().plus(ttl);
        self.state.lock().remembered.put(name, outcome.clone(), until, self.settings.names_max);
        outcome
    }

    async fn ask(&self, name: &str) -> Result<Found, LookUpError> {
        let (hosts, wanted) = (Arc::clone(&self.hosts), name.to_owned());
        // It may have to be read anew.
        let listed = tokio::task::spawn_blocking(move || hosts.addresses_of(&wanted)).await;
        match listed {
            Ok(addresses) if !addresses.is_empty() => Ok(Found { addresses, ttl: TTL_MIN }),
            _ => self.name_servers.ask(name).await,
        }
    }
}

/// The wish to know a name's addresses, shared by all who have it. When it ends, answered or not, the next one to want them
/// looks again.
struct Interest {
    resolver: Arc<Resolver>,
    name: Box<str>,
    number: u64,
}

impl Interest {
    async fn look_up(self) -> Outcome {
        self.resolver.look_up(&self.name).await
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut state = self.resolver.state.lock();
        if state.under_way.get(&self.name).is_some_and(|(number, _)| *number == self.number) {
            state.under_way.remove(&self.name);
        }
    }
}

/// Outcomes by name; when there are too many, the one that was not asked for the longest goes.
#[derive(Default)]
struct Remembered {
    by_name: HashMap<Box<str>, Entry>,
    by_use: BTreeMap<u64, Box<str>>,
    uses: u64,
}

struct Entry {
    outcome: Outcome,
    until: Monotonic,
    last_use: u64,
}

impl Remembered {
    fn get(&mut self, name: &str, now: Monotonic) -> Option<Outcome> {
        let entry = self.by_name.get_mut(name)?;
        if entry.until <= now {
            self.by_use.remove(&entry.last_use);
            self.by_name.remove(name);
            return None;
        }
        let name = self.by_use.remove(&entry.last_use)?;
        self.uses += 1;
        entry.last_use = self.uses;
        self.by_use.insert(self.uses, name);
        Some(entry.outcome.clone())
    }

    fn put(&mut self, name: &str, outcome: Outcome, until: Monotonic, names_max: usize) {
        self.uses += 1;
        let entry = Entry { outcome, until, last_use: self.uses };
        if let Some(before) = self.by_name.insert(Box::from(name), entry) {
            self.by_use.remove(&before.last_use);
        }
        self.by_use.insert(self.uses, Box::from(name));
        while self.by_name.len() > names_max {
            let Some((_, oldest)) = self.by_use.pop_first() else { return };
            self.by_name.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
