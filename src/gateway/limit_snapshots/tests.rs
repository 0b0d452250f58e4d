//! Windows over real files: clean stops, crashes, clocks, changed figures, damage.

mod trouble;

use std::path::Path;

use super::*;
use crate::config::LimitsConfig;
use crate::domain::limit::{BucketsSnapshot, DailyUsage, Leases, Limiter};
use crate::storage::whole_file::DirectoryFiles;

const START: Timestamp = Timestamp::from_unix_s(1_737_715_200);
const HOUR: Duration = Duration::from_secs(3_600);

fn at(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

fn config() -> Config {
    let config = Config::embedded().unwrap();
    let limits = LimitsConfig { snapshot_interval_ms: 5_000, merchants_active_max: 1, ..config.limits.clone() };
    Config { limits, ..config }
}

fn snapshot(saved_at: Timestamp, days: Vec<DayUsage>) -> LimiterSnapshot {
    let (minute, hour) = (BucketsSnapshot::default(), BucketsSnapshot::default());
    LimiterSnapshot {
        version: LimiterSnapshot::VERSION,
        saved_at,
        saved_tick: None,
        saved_early_us: 0,
        burst: vec![(0, 1)],
        burst_known_us: 0,
        minute,
        hour,
        days,
        near: Vec::new(),
    }
}

fn id(number: usize) -> MerchantId {
    MerchantId::new(format!("m_{number}"))
}

/// A machine with a data directory, on which processes start and end.
struct Machine {
    directory: tempfile::TempDir,
    clock: Clock,
    config: Config,
}

impl Machine {
    fn new() -> Self {
        Self::with(Clock::manual(START))
    }

    /// One whose time of day can be set; its steady time is tokio's.
    fn with_clock() -> Self {
        Self::with(Clock::virtual_from(START))
    }

    fn with(clock: Clock) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), clock, config: config() }
    }

    fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// Goes on to a time of day.
    fn until(&self, seconds: u64) {
        self.clock.advance(at(seconds).since(self.clock.now()));
        assert_eq!(self.clock.now(), at(seconds));
    }

    async fn open(&self) -> Arc<LimitSnapshots> {
        let files = Arc::new(DirectoryFiles::new(self.dir()));
        LimitSnapshots::open(files, DiskWork::Threads, &self.config, &self.clock).await
    }

    async fn open_at(&self, seconds: u64) -> Arc<LimitSnapshots> {
        self.until(seconds);
        self.open().await
    }

    async fn unseen_at(&self, seconds: u64) -> Vec<UnseenSpan> {
        self.open_at(seconds).await.load(&id(1)).unseen
    }

    async fn write_at(&self, seconds: u64, snapshots: &LimitSnapshots) {
        self.until(seconds);
        snapshots.write().await;
    }

    fn rewrite(&self, name: &str, change: impl FnOnce(&mut serde_json::Value)) {
        let files = DirectoryFiles::new(self.dir());
        let mut content = serde_json::from_slice(&files.read(name).unwrap().unwrap()).unwrap();
        change(&mut content);
        files.write(name, &serde_json::to_vec(&content).unwrap()).unwrap();
    }

    /// Leaves out what earlier programs did not write.
    fn make_old(&self) {
        for name in ["windows", "heartbeat"] {
            self.rewrite(name, |content| {
                content.as_object_mut().unwrap().remove("state");
                if name == "windows" {
                    content.as_object_mut().unwrap().remove("unseen");
                }
            });
        }
    }
}

async fn pass(duration: Duration) {
    tokio::time::advance(duration).await;
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn span(since: u64, until: u64) -> UnseenSpan {
    UnseenSpan::new(at(since), at(until))
}

/// A merchant's windows and leases in a process.
struct Windows {
    limiter: Limiter,
    leases: Leases,
}

impl Windows {
    fn load(snapshots: &LimitSnapshots, clock: &Clock, figures: LimitFigures) -> Self {
        let Loaded { snapshot, unseen } = snapshots.load(&id(1));
        let (now, at) = (clock.monotonic(), snapshots.time.now());
        let limiter = Limiter::restore(figures, snapshot.as_ref(), &unseen, now, at);
        Self { limiter, leases: Leases::new(1, HOUR) }
    }

    /// Admits as much as can be.
    fn fill(&mut self, clock: &Clock) -> usize {
        let mut admitted = 0;
        while let crate::domain::limit::Decision::Admitted { lease, .. } =
            self.limiter.decide(&mut self.leases, 1, clock.monotonic())
        {
            self.leases.release(lease);
            admitted += 1;
        }
        admitted
    }

    fn used(&mut self, clock: &Clock) -> [u32; 3] {
        let view = self.limiter.view(&mut self.leases, clock.monotonic());
        [view.second.used, view.minute.used, view.hour.used]
    }

    fn save(&mut self, snapshots: &LimitSnapshots, clock: &Clock) {
        let at = snapshots.time.now();
        assert!(snapshots.save(&id(1), self.limiter.save(&DailyUsage::default(), clock.monotonic(), at)));
    }
}

/// At most 50 in 50 s, so that a whole process fits into a window.
const SLOW: LimitFigures = LimitFigures { per_second: 1, per_minute: 1_000, per_hour: 3_600, burst: 50, concurrent: 9 };

#[tokio::test]
async fn a_clean_stop_leaves_nothing_unseen_and_all_windows() {
    let machine = Machine::new();
    let snapshots = machine.open_at(0).await;
    assert!(snapshots.save(&id(1), snapshot(at(10), Vec::new())));
    machine.until(12);
    snapshots.write_final(true).await;
    // Whoever comes late changes nothing any more.
    machine.write_at(13, &snapshots).await;
    drop(snapshots);
    let again = machine.open_at(20).await;
    assert_eq!(again.load(&id(1)).snapshot, Some(snapshot(at(10), Vec::new())));
    assert!(again.load(&id(1)).unseen.is_empty());
    machine.until(25);
    again.write_final(false).await;
    assert_eq!(machine.unseen_at(26).await, [span(20, 26)], "not all was handed over");
}

#[tokio::test]
async fn after_a_crash_all_since_the_windows_were_complete_is_unseen() {
    let machine = Machine::new();
    // Not even the first interval passes.
    drop(machine.open_at(0).await);
    assert_eq!(machine.unseen_at(3).await, [span(0, 3)]);
    let snapshots = machine.open_at(1000).await;
    snapshots.complete(at(1093));
    machine.write_at(1100, &snapshots).await;
    drop(snapshots);
    let unseen = machine.unseen_at(2000).await;
    assert_eq!(unseen.last(), Some(&span(1093, 1110)), "written at 1100, and admitting for a while");
    assert_eq!(unseen.first(), Some(&span(0, 3)), "nobody has been charged for that one yet");
    let later = machine.unseen_at(3 * 3600).await;
    assert_eq!(later, [], "what was admitted an hour ago does not count");
}

#[tokio::test]
async fn without_a_heartbeat_everything_since_the_windows_is_unseen() {
    let machine = Machine::new();
    drop(machine.open_at(0).await);
    let snapshots = machine.open_at(5).await;
    snapshots.complete(at(50));
    assert!(snapshots.save(&id(1), snapshot(at(50), Vec::new())));
    // The heartbeat can't be replaced, so an old one must not stay.
    std::fs::create_dir(machine.dir().join("heartbeat.tmp")).unwrap();
    machine.write_at(60, &snapshots).await;
    assert!(!machine.dir().join("heartbeat").exists());
    assert!(snapshots.is_noted(), "without one, everything is charged");
    std::fs::remove_dir(machine.dir().join("heartbeat.tmp")).unwrap();
    assert_eq!(machine.unseen_at(500).await, [span(0, 5), span(50, 500)], "also for the crash before");
}

#[tokio::test]
async fn the_windows_are_written_when_they_have_changed_only() {
    let machine = Machine::new();
    let snapshots = machine.open_at(0).await;
    assert!(snapshots.save(&id(1), snapshot(at(1), Vec::new())));
    machine.write_at(5, &snapshots).await;
    let windows = machine.dir().join("windows");
    std::fs::remove_file(&windows).unwrap();
    machine.write_at(10, &snapshots).await;
    assert!(!windows.exists());
    assert!(snapshots.save(&id(1), snapshot(at(11), Vec::new())));
    machine.write_at(15, &snapshots).await;
    assert!(windows.exists());
}

#[tokio::test]
async fn snapshots_that_are_of_no_use_any_more_make_room() {
    let machine = Machine::new();
    let snapshots = machine.open_at(0).await;
    let today = vec![DayUsage { day: DayUsage::day_of(at(0)), admitted: 1, ..DayUsage::default() }];
    for number in 0..KEPT_PER_ACTIVE {
        assert!(snapshots.save(&id(number), snapshot(at(0), today.clone())));
    }
    assert!(!snapshots.save(&id(9), snapshot(at(60), Vec::new())), "all of them count still");
    assert!(snapshots.save(&id(0), snapshot(at(60), today)), "one that is known needs no room");
    // The days of a merchant that is idle are kept as long as there is room.
    machine.write_at(3620, &snapshots).await;
    assert_eq!(snapshots.snapshots.len(), KEPT_PER_ACTIVE);
    assert!(snapshots.save(&id(9), snapshot(at(3620), Vec::new())));
    assert!(snapshots.load(&id(0)).snapshot.is_some() && snapshots.load(&id(1)).snapshot.is_none());
    machine.write_at(40 * 86_400, &snapshots).await;
    assert!(snapshots.snapshots.is_empty());
}

#[test]
fn many_crashes_are_remembered_as_few() {
    let spans = (0..40).map(|number| span(number * 10, number * 10 + 5)).collect();
    let kept = recent(spans, at(500));
    assert_eq!((kept.len(), kept[0].since), (16, at(0)));
}

/// What is done to the time of day while no process runs, or between a process's last heartbeat and its end.
const STEPS: [fn(&Clock); 5] = [
    |_| {},
    |clock| clock.set_forward(HOUR),
    |clock| clock.set_back(HOUR),
    |clock| clock.set_forward(HOUR * 24 * 400),
    |clock| clock.set_back(seconds(4)),
];

#[tokio::test(start_paused = true)]
async fn setting_the_clock_changes_nothing_between_processes_of_one_start_of_the_machine() {
    for (number, step) in STEPS.into_iter().enumerate() {
        let machine = Machine::with_clock();
        let clock = &machine.clock;
        let snapshots = machine.open().await;
        let mut windows = Windows::load(&snapshots, clock, SLOW);
        assert_eq!(windows.fill(clock), 50);
        pass(seconds(7)).await;
        windows.save(&snapshots, clock);
        snapshots.write_final(true).await;
        step(clock);
        pass(seconds(30)).await;
        let snapshots = machine.open().await;
        let mut windows = Windows::load(&snapshots, clock, SLOW);
        assert_eq!(windows.used(clock), [50, 50, 50], "step {number}: 37 s ago");
        pass(seconds(12)).await;
        assert_eq!(windows.fill(clock), 0, "step {number}");
        pass(seconds(1) + Duration::from_millis(1)).await;
        assert_eq!(windows.fill(clock), 50, "step {number}: nothing is jammed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_charged_whatever_was_done_to_the_clock_before_or_after_it() {
    for (number, (before, after)) in STEPS.into_iter().flat_map(|one| STEPS.map(|other| (one, other))).enumerate() {
        let machine = Machine::with_clock();
        let clock = &machine.clock;
        let snapshots = machine.open().await;
        let mut windows = Windows::load(&snapshots, clock, SLOW);
        pass(seconds(100)).await;
        snapshots.complete(snapshots.time.now());
        snapshots.write().await;
        pass(seconds(2)).await;
        before(clock);
        assert_eq!(windows.fill(clock), 50);
        drop((windows, snapshots));
        after(clock);
        pass(seconds(20)).await;
        let snapshots = machine.open().await;
        assert_eq!(snapshots.load(&id(1)).unseen, [span(100, 110)]);
        let mut windows = Windows::load(&snapshots, clock, SLOW);
        assert_eq!(windows.used(clock), [50, 50, 50], "steps {number}");
        assert_eq!(windows.fill(clock), 0);
        pass(seconds(39)).await;
        assert_eq!(windows.fill(clock), 50, "steps {number}: charged as late as it could be, 12 s ago, and no later");
    }
}

#[tokio::test(start_paused = true)]
async fn over_a_start_of_the_machine_the_time_of_day_says_how_long_it_took() {
    // What the clock gains while the machine is off, and how long ago the windows were filled by then.
    for (step, passed) in [(STEPS[0], 30), (STEPS[2], 0), (STEPS[4], 26)] {
        let machine = Machine::with_clock();
        let clock = &machine.clock;
        pass(seconds(500)).await;
        let snapshots = machine.open().await;
        let mut windows = Windows::load(&snapshots, clock, SLOW);
        assert_eq!(windows.fill(clock), 50);
        windows.save(&snapshots, clock);
        snapshots.write_final(true).await;
        pass(seconds(10)).await;
        clock.reboot();
        step(clock);
        pass(seconds(20)).await;
        let snapshots = machine.open().await;
        assert_eq!(snapshots.time.now(), at(500 + passed));
        let mut windows = Windows::load(&snapshots, clock, SLOW);
        assert_eq!(windows.fill(clock), 0);
        pass(seconds(50 - passed) + Duration::from_millis(1)).await;
        assert_eq!(windows.fill(clock), 50, "and then it goes on by the steady clock");
    }
}

#[tokio::test(start_paused = true)]
async fn files_of_earlier_programs_are_read_with_the_time_of_day() {
    let machine = Machine::with_clock();
    let clock = &machine.clock;
    let snapshots = machine.open().await;
    let mut windows = Windows::load(&snapshots, clock, SLOW);
    assert_eq!(windows.fill(clock), 50);
    windows.save(&snapshots, clock);
    snapshots.write().await;
    machine.make_old();
    pass(seconds(20)).await;
    let snapshots = machine.open().await;
    assert_eq!(snapshots.load(&id(1)).unseen, [span(0, 10)]);
    assert_eq!(Windows::load(&snapshots, clock, SLOW).fill(clock), 0);
    // Set back since: nothing is younger than it was, and the windows go on.
    machine.make_old();
    clock.set_back(HOUR);
    let snapshots = machine.open().await;
    assert_eq!(snapshots.time.now(), at(20));
    assert_eq!(Windows::load(&snapshots, clock, SLOW).fill(clock), 0);
    pass(seconds(61)).await;
    assert_eq!(Windows::load(&snapshots, clock, SLOW).fill(clock), 50);
}

#[tokio::test]
async fn what_seems_to_come_later_is_as_late_as_can_be() {
    let machine = Machine::new();
    let snapshots = machine.open_at(0).await;
    assert!(snapshots.save(&id(1), snapshot(at(9_000), Vec::new())));
    snapshots.write_final(true).await;
    let snapshots = machine.open_at(100).await;
    assert_eq!(snapshots.load(&id(1)).snapshot.unwrap().saved_at, at(100));
}

/// The figures that a crash is charged by, for a merchant with the limits of `SLOW` at the restart.
const FAST: LimitFigures = LimitFigures { burst: 500, per_second: 10, ..SLOW };

#[tokio::test]
async fn a_crash_is_charged_by_the_highest_figures_of_its_time() {
    let machine = Machine::new();
    let snapshots = machine.open_at(0).await;
    machine.until(100);
    snapshots.complete(at(100));
    // Raised and lowered again, all since the last snapshot.
    for figures in [SLOW, FAST] {
        snapshots.before_change(&id(1), figures).await;
    }
    drop(snapshots);
    let snapshots = machine.open_at(105).await;
    let unseen = snapshots.load(&id(1)).unseen;
    assert_eq!(unseen, [UnseenSpan { former: Some(FAST), ..span(100, 105) }]);
    assert_eq!(snapshots.load(&id(2)).unseen, [span(100, 105)], "another merchant's are its own");
    let mut windows = Windows::load(&snapshots, &machine.clock, SLOW);
    assert_eq!(windows.used(&machine.clock), [50, 550, 550], "a burst, and 5 s at the rate");
    // Put in force again they have no room that they had not had.
    windows.limiter.reconfigure(LimitFigures { per_minute: 551, ..FAST }, machine.clock.monotonic());
    assert_eq!(windows.fill(&machine.clock), 0);

    // Still so after another crash, as long as somebody may be charged.
    snapshots.complete(at(3_000));
    machine.write_at(3_000, &snapshots).await;
    drop(snapshots);
    let snapshots = machine.open_at(3_100).await;
    assert_eq!(snapshots.load(&id(1)).unseen[0].former, Some(FAST));
    assert_eq!(snapshots.load(&id(1)).unseen[1].former, None);
    snapshots.complete(at(7_000));
    machine.write_at(7_000, &snapshots).await;
    drop(snapshots);
    let snapshots = machine.open_at(7_100).await;
    assert!(snapshots.figures.lock().1.of(&id(1), at(0)).is_none(), "forgotten once nobody can be charged by them");
}

#[tokio::test]
async fn tiers_that_are_lowered_while_nothing_runs_or_just_before_a_crash_charge_by_what_they_were() {
    let with_burst = |machine: &Machine, burst: u32| {
        let mut tiers = machine.config.tiers.clone();
        tiers.values_mut().for_each(|tier| tier.burst = burst);
        tiers
    };
    let former_burst = |snapshots: &LimitSnapshots| snapshots.load(&id(1)).unseen[0].former.map(|former| former.burst);
    // In the file, while nothing runs.
    let mut machine = Machine::new();
    machine.config.tiers = with_burst(&machine, 400);
    drop(machine.open_at(0).await);
    machine.config.tiers = with_burst(&machine, 40);
    let snapshots = machine.open_at(3).await;
    assert_eq!(former_burst(&snapshots), Some(400));
    drop(snapshots);
    assert_eq!(former_burst(&*machine.open_at(5).await), Some(400), "not forgotten by the next");

    // While it runs: raised, then lowered, then it crashes.
    let mut machine = Machine::new();
    machine.config.tiers = with_burst(&machine, 40);
    let snapshots = machine.open_at(0).await;
    snapshots.before_tiers(&with_burst(&machine, 400)).await;
    snapshots.before_tiers(&with_burst(&machine, 40)).await;
    drop(snapshots);
    assert_eq!(former_burst(&*machine.open_at(3).await), Some(400));

    // Raised, and lowered in the file after the crash.
    let mut machine = Machine::new();
    machine.config.tiers = with_burst(&machine, 40);
    let snapshots = machine.open_at(0).await;
    snapshots.before_tiers(&with_burst(&machine, 400)).await;
    drop(snapshots);
    machine.config.tiers = with_burst(&machine, 4);
    assert_eq!(former_burst(&*machine.open_at(3).await), Some(400));
}

#[tokio::test]
async fn a_shorter_interval_does_not_shorten_what_a_crash_before_it_left_unseen() {
    let mut machine = Machine::new();
    machine.config.limits.snapshot_interval_ms = 60_000;
    drop(machine.open_at(0).await);
    machine.config.limits.snapshot_interval_ms = 1_000;
    assert_eq!(machine.unseen_at(300).await, [span(0, 120)]);
}

#[tokio::test]
async fn what_can_t_be_read_counts_as_used_up() {
    let hour_before = |seconds| UnseenSpan::all_before(at(seconds).plus(Duration::from_millis(1)));
    let short = UnseenSpan { since: at(0), ..hour_before(60) };
    // What is damaged and how, when the process ended, and what it may have admitted without anybody knowing.
    let cases: [(&str, &[u8], u64, UnseenSpan); 6] = [
        ("windows", b"what a later program says", 5_000, hour_before(5_000)),
        ("windows", b"", 5_000, hour_before(5_000)),
        ("windows", b"", 60, short),
        ("windows", b"{}", 60, short),
        ("heartbeat", b"{}", 60, span(0, 600)),
        ("heartbeat", b"", 60, span(0, 600)),
    ];
    for (name, content, ended, unseen) in cases {
        let machine = Machine::new();
        let snapshots = machine.open_at(0).await;
        assert!(snapshots.save(&id(1), snapshot(at(0), Vec::new())));
        machine.until(ended);
        snapshots.write_final(true).await;
        match content {
            // The checksum is wrong.
            b"" => std::fs::write(machine.dir().join(name), b"0\n{}").unwrap(),
            _ => DirectoryFiles::new(machine.dir()).write(name, content).unwrap(),
        }
        assert_eq!(machine.unseen_at(ended + 540).await, [unseen], "{name} {content:?}");
    }
    // Both: that is no first start.
    let machine = Machine::new();
    machine.open_at(0).await.write_final(true).await;
    for name in ["heartbeat", "windows"] {
        let path = machine.dir().join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let snapshots = machine.open_at(10).await;
    assert_eq!(snapshots.load(&id(1)).unseen, [UnseenSpan::all_before(at(10))]);
    // Both, and one that the disk does not give.
    let machine = Machine::new();
    machine.open_at(0).await.write_final(true).await;
    std::fs::remove_file(machine.dir().join("heartbeat")).unwrap();
    std::fs::remove_file(machine.dir().join("windows")).unwrap();
    std::fs::create_dir(machine.dir().join("windows")).unwrap();
    let snapshots = machine.open_at(10).await;
    assert_eq!(snapshots.load(&id(1)).unseen, [UnseenSpan::all_before(at(10))]);
    let mut windows = Windows::load(&snapshots, &machine.clock, SLOW);
    assert_eq!((windows.fill(&machine.clock), windows.used(&machine.clock)[2]), (0, SLOW.per_hour));
}

#[tokio::test]
async fn a_snapshot_of_an_unknown_form_counts_as_used_up() {
    let machine = Machine::new();
    let snapshots = machine.open_at(0).await;
    let later = LimiterSnapshot { version: LimiterSnapshot::VERSION + 1, ..snapshot(at(0), Vec::new()) };
    assert!(snapshots.save(&id(1), later));
    snapshots.write_final(true).await;
    let snapshots = machine.open_at(100).await;
    let mut windows = Windows::load(&snapshots, &machine.clock, SLOW);
    assert_eq!((windows.fill(&machine.clock), windows.used(&machine.clock)[2]), (0, SLOW.per_hour));
    machine.until(3_620);
    assert_eq!(windows.fill(&machine.clock), 50);
}
