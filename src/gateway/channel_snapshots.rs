//! What is known of channels over restarts: breakers, success rates, latency, and what went through each today. One file
//! beside the journal, written whole every few seconds when it has changed and on stopping. It only ranks and bounds, so
//! that one which is missing or can't be read means starting afresh, never a refused start.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::actors::router::{RouterHandle, SavedRouter};
use crate::clock::Clock;
use crate::domain::time::Timestamp;
use crate::gateway::core::Core;
use crate::gateway::outside::DiskWork;
use crate::storage::whole_file::WholeFiles;

/// The file in the data directory.
const FILE: &str = "channels";
/// Of the form of the file. Another one is not read.
const VERSION: u32 = 1;
/// How often the router looks after calls that hang.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Writes down what a router knows.
pub(super) struct ChannelSnapshots {
    files: Arc<dyn WholeFiles>,
    disk_work: DiskWork,
    written: tokio::sync::Mutex<Written>,
}

#[derive(Default)]
struct Written {
    /// What the file has, as far as that is known.
    saved: Option<SavedRouter>,
    /// Whether the last one has been written.
    finished: bool,
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    version: u32,
    saved_at: Timestamp,
    router: SavedRouter,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl ChannelSnapshots {
    /// Writes into `files`.
    pub(super) fn new(files: Arc<dyn WholeFiles>, disk_work: DiskWork) -> Arc<Self> {
        Arc::new(Self { files, disk_work, written: tokio::sync::Mutex::default() })
    }

    /// What the process before has left, and how long ago that was. A clock that was set back since means that no time has
    /// passed.
    pub(super) fn read(&self, now: Timestamp) -> Option<(SavedRouter, Duration)> {
        match self.read_file() {
            Ok(snapshot) => snapshot.map(|snapshot| (snapshot.router, now.since(snapshot.saved_at))),
            Err(error) => {
                tracing::warn!(file = FILE, error, "what is known of channels can't be read; they start afresh");
                None
            }
        }
    }

    fn read_file(&self) -> Result<Option<Snapshot>, String> {
        let Some(bytes) = self.files.read(FILE).map_err(|error| error.to_string())? else { return Ok(None) };
        let Versioned { version } = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if version != VERSION {
            return Err(format!("it has version {version}, and this program reads version {VERSION}"));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| error.to_string())
    }

    /// Starts writing at every interval, and has the router look after its channels.
    pub(super) fn start(self: &Arc<Self>, core: &Core, router: &RouterHandle) {
        let interval = Duration::from_millis(core.config.routing.snapshot_interval_ms);
        let (snapshots, looked_after) = (Arc::clone(self), router.clone());
        let (router, stopping, clock) = (router.clone(), core.stopping.clone(), core.clock.clone());
        core.tasks.clone().spawn(async move {
            while stopping.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
                snapshots.write(&router, &clock, false).await;
            }
        });
        let stopping = core.stopping.clone();
        core.tasks.clone().spawn(async move {
            while stopping.run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL)).await.is_some() {
                looked_after.look_after();
            }
        });
    }

    /// Writes the file for the last time. `complete_at`: the store's last commit, if the days' counts have all that is stored.
    pub(super) async fn write_final(&self, router: &RouterHandle, clock: &Clock, complete_at: Option<u64>) {
        self.write_down(router, clock, true, complete_at).await;
    }

    /// Writes the file if something has changed; `last`: for the last time.
    async fn write(&self, router: &RouterHandle, clock: &Clock, last: bool) {
        self.write_down(router, clock, last, None).await;
    }

    async fn write_down(&self, router: &RouterHandle, clock: &Clock, last: bool, complete_at: Option<u64>) {
        let mut written = self.written.lock().await;
        if written.finished {
            return;
        }
        written.finished = last;
        let saved = router.save().complete_at(complete_at);
        if !last && written.saved.as_ref().is_some_and(|before| before.says_the_same_as(&saved)) {
            return;
        }
        let snapshot = Snapshot { version: VERSION, saved_at: clock.now(), router: saved };
        let files = Arc::clone(&self.files);
        let work = move || {
            let outcome = serde_json::to_vec(&snapshot).map_err(std::io::Error::from);
            (outcome.and_then(|bytes| files.write(FILE, &bytes)), snapshot.router)
        };
        match self.disk_work.run(work).await {
            Ok((Ok(()), saved)) => written.saved = Some(saved),
            Ok((Err(error), _)) => tracing::warn!(%error, "what is known of channels was not written down"),
            Err(error) => tracing::warn!(error, "what is known of channels was not written down"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::router::{Beginning, setup_from_config};
    use crate::actors::supervisor::{RestartBudget, Supervisor};
    use crate::channels::Capabilities;
    use crate::config::Config;
    use crate::domain::ids::ChannelName;
    use crate::domain::routing::{BreakerView, OutcomeClass};
    use crate::storage::whole_file::DirectoryFiles;

    const START: Timestamp = Timestamp::from_unix_s(1_737_715_200);

    struct Process {
        router: RouterHandle,
        snapshots: Arc<ChannelSnapshots>,
        clock: Clock,
        _supervisor: Supervisor,
    }

    impl Process {
        async fn start(directory: &std::path::Path, now: Timestamp) -> Self {
            let clock = Clock::manual(now);
            let supervisor = Supervisor::start(RestartBudget::default(), clock.clone()).await.unwrap();
            let config = Config::embedded().unwrap();
            let can = Capabilities { charge: true, refund: true, ..Capabilities::default() };
            let names = config.channels.keys().map(|name| (ChannelName::new(name.as_str()), can));
            let setup = setup_from_config(&config, &names.collect()).unwrap();
            let snapshots = ChannelSnapshots::new(Arc::new(DirectoryFiles::new(directory)), DiskWork::InPlace);
            let beginning = Beginning { saved: snapshots.read(now), ..Beginning::default() };
            let router = RouterHandle::resume(setup, beginning, clock.clone(), &supervisor).await.unwrap();
            Self { router, snapshots, clock, _supervisor: supervisor }
        }

        async fn fail_stripe(&self) {
            for _ in 0..5 {
                self.router.report(&ChannelName::new("stripe"), OutcomeClass::TechnicalFailure, Some(10));
            }
            while self.stripe() != BreakerView::Open {
                tokio::task::yield_now().await;
            }
        }

        fn stripe(&self) -> BreakerView {
            self.router.channels().iter().find(|status| status.name.as_str() == "stripe").unwrap().breaker
        }

        fn left(&self) -> Duration {
            let channels = self.router.channels();
            channels.iter().find_map(|status| status.open).unwrap().left
        }

        async fn write(&self, last: bool) {
            self.snapshots.write(&self.router, &self.clock, last).await;
        }
    }

    #[tokio::test]
    async fn an_open_breaker_outlives_its_process_whatever_the_clock_does_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let first = Process::start(directory.path(), START).await;
        first.fail_stripe().await;
        let left = first.left();
        assert!((24..=36).contains(&left.as_secs()), "{left:?}");
        first.write(true).await;
        for (moved, expected) in [(0, left), (10, left - Duration::from_secs(10)), (-86_400 * 400, left)] {
            let now = Timestamp::from_unix_s(START.unix_s() + moved);
            let next = Process::start(directory.path(), now).await;
            assert_eq!(next.stripe(), BreakerView::Open);
            assert!(next.left().abs_diff(expected) <= Duration::from_millis(1), "{moved} s: {:?}", next.left());
        }
        let much_later = Process::start(directory.path(), Timestamp::from_unix_s(START.unix_s() + 86_400 * 400)).await;
        assert_eq!(much_later.stripe(), BreakerView::HalfOpen, "it is tried before it is used");
    }

    #[tokio::test]
    async fn a_file_that_can_not_be_read_means_starting_afresh() {
        let directory = tempfile::tempdir().unwrap();
        let files = DirectoryFiles::new(directory.path());
        let first = Process::start(directory.path(), START).await;
        first.fail_stripe().await;
        first.write(true).await;
        let whole = files.read(FILE).unwrap().unwrap();
        let other_version = String::from_utf8(whole.clone()).unwrap().replace("\"version\":1", "\"version\":2");
        for content in [&b"{"[..], b"", b"[]", b"{\"version\":1}", other_version.as_bytes(), &whole[..whole.len() / 2]]
        {
            files.write(FILE, content).unwrap();
            assert_eq!(Process::start(directory.path(), START).await.stripe(), BreakerView::Closed);
        }
        std::fs::write(directory.path().join(FILE), b"0123456789abcdef\nnot what was summed").unwrap();
        assert_eq!(Process::start(directory.path(), START).await.stripe(), BreakerView::Closed);
        files.write(FILE, &whole).unwrap();
        assert_eq!(Process::start(directory.path(), START).await.stripe(), BreakerView::Open);
    }

    #[tokio::test]
    async fn it_is_written_when_something_has_changed_and_after_the_last_time_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let process = Process::start(directory.path(), START).await;
        // It says when it was written.
        let content = || std::fs::read(directory.path().join(FILE)).unwrap();
        process.write(false).await;
        let first = content();
        process.clock.advance(Duration::from_secs(5));
        process.write(false).await;
        assert_eq!(content(), first, "nothing is new");
        process.fail_stripe().await;
        process.write(true).await;
        let last = content();
        assert_ne!(last, first);
        process.router.reset_health(&ChannelName::new("stripe")).await.unwrap();
        process.clock.advance(Duration::from_secs(5));
        process.write(false).await;
        assert_eq!(content(), last);
    }
}
