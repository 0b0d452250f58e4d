//! Windows on disks that refuse, hang, or are slow.

use super::*;

/// Files that can be neither written nor taken away for a while, or take their time.
struct Obstinate {
    files: DirectoryFiles,
    refuses: AtomicBool,
}

impl WholeFiles for Obstinate {
    fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        self.files.read(name)
    }

    fn write(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("refused"));
        }
        self.files.write(name, content)
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("refused"));
        }
        self.files.remove(name)
    }
}

#[tokio::test]
async fn nothing_is_admitted_while_an_old_heartbeat_can_be_neither_replaced_nor_removed() {
    let machine = Machine::new();
    machine.open_at(0).await.write_final(true).await;
    let files = Arc::new(Obstinate { files: DirectoryFiles::new(machine.dir()), refuses: AtomicBool::new(true) });
    let snapshots =
        LimitSnapshots::open(Arc::clone(&files) as _, DiskWork::Threads, &machine.config, &machine.clock).await;
    assert!(!snapshots.is_noted(), "the next process would believe that this one never ran");
    files.refuses.store(false, Ordering::SeqCst);
    snapshots.write().await;
    assert!(snapshots.is_noted());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_admitted_once_the_heartbeat_is_late() {
    let machine = Machine::with_clock();
    let snapshots = machine.open().await;
    let hanging = snapshots.finished.lock().await;
    let writing = {
        let snapshots = Arc::clone(&snapshots);
        tokio::spawn(async move { snapshots.write_in_time().await })
    };
    tokio::time::sleep(Duration::from_millis(9_999)).await;
    assert!(snapshots.is_noted());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!snapshots.is_noted(), "from here on the next process would charge for nothing");
    drop(hanging);
    writing.await.unwrap();
    assert!(snapshots.is_noted());
}

/// What the writing of one file does while it is told to.
#[derive(Clone, Copy, Default)]
enum Trouble {
    #[default]
    None,
    Hangs,
    Panics,
    /// Of the heartbeat: it is not written, ...
    Refuses,
    /// ... or is, and nobody learns of it.
    HangsAfterwards,
}

struct Troubled {
    files: DirectoryFiles,
    trouble: Mutex<Trouble>,
    /// A hanging writing ends when this is sent to or dropped.
    goes_on: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Troubled {
    fn new(machine: &Machine) -> (Arc<Self>, std::sync::mpsc::SyncSender<()>) {
        let (sender, goes_on) = std::sync::mpsc::sync_channel(1);
        let files = DirectoryFiles::new(machine.dir());
        (Arc::new(Self { files, trouble: Mutex::default(), goes_on: Mutex::new(goes_on) }), sender)
    }
}

impl WholeFiles for Troubled {
    fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        self.files.read(name)
    }

    fn write(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        let trouble = *self.trouble.lock();
        match trouble {
            Trouble::Hangs if name == "windows" => drop(self.goes_on.lock().recv()),
            Trouble::Panics if name == "windows" => panic!("told to"),
            Trouble::Refuses if name == "heartbeat" => return Err(std::io::Error::other("refused")),
            _ => {}
        }
        self.files.write(name, content)?;
        if matches!(trouble, Trouble::HangsAfterwards) && name == "heartbeat" {
            let _ = self.goes_on.lock().recv();
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.files.remove(name)
    }
}

#[tokio::test]
async fn the_heartbeat_does_not_wait_for_windows_that_take_long() {
    let machine = Machine::new();
    let (files, goes_on) = Troubled::new(&machine);
    let snapshots =
        LimitSnapshots::open(Arc::clone(&files) as _, DiskWork::Threads, &machine.config, &machine.clock).await;
    assert!(snapshots.save(&id(1), snapshot(at(0), Vec::new())));
    snapshots.complete(at(4));
    *files.trouble.lock() = Trouble::Hangs;
    machine.until(9);
    let writing = {
        let snapshots = Arc::clone(&snapshots);
        tokio::spawn(async move { snapshots.write_windows().await })
    };
    tokio::task::yield_now().await;
    snapshots.write_heartbeat().await;
    machine.until(18);
    assert!(snapshots.is_noted());
    machine.until(19);
    assert!(!snapshots.is_noted());
    // What the next process believes: complete up to the windows that are in the file.
    assert_eq!(machine.unseen_at(40).await, [span(0, 19)]);
    drop(goes_on);
    assert!(writing.await.unwrap());
    assert_eq!(snapshots.windows_until_ms.load(Ordering::SeqCst), at(4).unix_ms());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_that_is_there_before_this_process_knows_bounds_what_is_admitted() {
    let machine = Machine::new();
    let (files, goes_on) = Troubled::new(&machine);
    let snapshots =
        LimitSnapshots::open(Arc::clone(&files) as _, DiskWork::Threads, &machine.config, &machine.clock).await;
    *files.trouble.lock() = Trouble::Refuses;
    machine.until(5);
    snapshots.write_heartbeat().await;
    machine.until(1_000);
    assert!(snapshots.is_noted(), "there is none, so that everything will be charged");
    *files.trouble.lock() = Trouble::HangsAfterwards;
    let writing = {
        let snapshots = Arc::clone(&snapshots);
        tokio::spawn(async move { snapshots.write_heartbeat().await })
    };
    while !machine.dir().join("heartbeat").exists() {
        tokio::task::yield_now().await;
    }
    machine.until(1_009);
    assert!(snapshots.is_noted());
    machine.until(1_010);
    assert!(!snapshots.is_noted(), "the next process would charge for nothing from here on");
    drop(goes_on);
    writing.await.unwrap();
}

#[tokio::test]
async fn nothing_is_admitted_once_it_ends() {
    let machine = Machine::new();
    let snapshots = machine.open_at(0).await;
    assert!(snapshots.is_noted());
    snapshots.write_final(true).await;
    assert!(!snapshots.is_noted());
}

#[tokio::test]
async fn a_crash_of_long_ago_concerns_nobody() {
    let machine = Machine::new();
    drop(machine.open_at(0).await);
    let snapshots = machine.open_at(60).await;
    assert_eq!(snapshots.load(&id(1)).unseen.len(), 1);
    machine.until(4_000);
    assert!(snapshots.load(&id(1)).unseen.is_empty());
}

/// Otherwise a disk that takes more than half an interval for each would leave times without one.
#[tokio::test(start_paused = true)]
async fn the_next_heartbeat_is_due_an_interval_after_the_last_began() {
    let machine = Machine::with_clock();
    let snapshots = machine.open().await;
    for (taken_ms, due_ms) in [(0, 5_000), (4_000, 5_000), (4_990, 5_010), (7_000, 7_020)] {
        let begun = machine.clock.monotonic();
        tokio::time::sleep(Duration::from_millis(taken_ms)).await;
        snapshots.until_heartbeat(begun).await;
        let since_ms = machine.clock.monotonic().since(begun).as_millis();
        assert!((due_ms..=due_ms + 1).contains(&u64::try_from(since_ms).unwrap()), "{taken_ms}: {since_ms}");
    }
}

#[tokio::test]
async fn windows_whose_writing_broke_off_are_written_again() {
    let machine = Machine::new();
    let (files, _goes_on) = Troubled::new(&machine);
    let snapshots =
        LimitSnapshots::open(Arc::clone(&files) as _, DiskWork::Threads, &machine.config, &machine.clock).await;
    assert!(snapshots.save(&id(1), snapshot(at(0), Vec::new())));
    machine.until(5);
    snapshots.complete(at(5));
    *files.trouble.lock() = Trouble::Panics;
    snapshots.write().await;
    *files.trouble.lock() = Trouble::None;
    assert!(snapshots.is_noted(), "the heartbeat says up to when the file is complete");
    assert_eq!(snapshots.windows_until_ms.load(Ordering::SeqCst), at(0).unix_ms());
    snapshots.write().await;
    drop(snapshots);
    let snapshots = machine.open_at(6).await;
    assert_eq!(snapshots.load(&id(1)).snapshot, Some(snapshot(at(0), Vec::new())));
    assert_eq!(snapshots.load(&id(1)).unseen, [span(5, 6)]);
}

#[tokio::test]
async fn without_any_file_nothing_is_admitted() {
    let machine = Machine::new();
    // Neither can be written, and there is nothing to take away.
    for name in ["heartbeat.tmp", "windows.tmp"] {
        std::fs::create_dir(machine.dir().join(name)).unwrap();
    }
    let snapshots = machine.open_at(0).await;
    assert!(!snapshots.is_noted(), "the next process would take this one's for the first start");
    std::fs::remove_dir(machine.dir().join("windows.tmp")).unwrap();
    snapshots.write().await;
    assert!(snapshots.is_noted(), "everything since the windows is charged");
}

#[tokio::test]
async fn a_merchant_made_after_a_crash_is_not_charged_for_it() {
    let machine = Machine::new();
    drop(machine.open_at(0).await);
    let snapshots = machine.open_at(5).await;
    assert_eq!(Windows::load(&snapshots, &machine.clock, SLOW).used(&machine.clock), [50, 50, 50]);
    snapshots.created(&id(1));
    assert_eq!(Windows::load(&snapshots, &machine.clock, SLOW).used(&machine.clock), [0, 0, 0]);
    // Long after it nothing needs to be noted.
    machine.until(3_700);
    snapshots.created(&id(2));
    assert!(snapshots.load(&id(2)).snapshot.is_none());
}

#[tokio::test]
async fn daily_statistics_go_oldest_first_and_no_more_than_needed() {
    let mut machine = Machine::new();
    machine.config.limits.merchants_active_max = 32;
    let snapshots = machine.open_at(0).await;
    let today = vec![DayUsage { day: DayUsage::day_of(at(0)), admitted: 1, ..DayUsage::default() }];
    let all = 32 * KEPT_PER_ACTIVE;
    for number in 0..all {
        assert!(snapshots.save(&id(number), snapshot(at(number as u64), today.clone())));
    }
    let now = at(4_000);
    assert!(snapshots.save(&id(all), snapshot(now, today)));
    let is_kept = |number: &usize| snapshots.load(&id(*number)).snapshot.is_some();
    assert_eq!((0..all).filter(|number| !is_kept(number)).collect::<Vec<_>>(), [0, 1, 2]);
}

#[tokio::test]
async fn completeness_never_goes_back() {
    let machine = Machine::new();
    let snapshots = machine.open_at(0).await;
    snapshots.complete(at(7));
    snapshots.complete(at(3));
    machine.write_at(9, &snapshots).await;
    assert_eq!(machine.unseen_at(10).await, [span(7, 10)]);
}

#[tokio::test(start_paused = true)]
async fn windows_that_are_over_take_no_room_and_days_stay() {
    let machine = Machine::with_clock();
    let snapshots = machine.open().await;
    let today = vec![DayUsage { day: DayUsage::day_of(at(0)), admitted: 1, ..DayUsage::default() }];
    let whole = || Some(snapshot(at(0), today.clone()));
    assert!(snapshots.save(&id(1), snapshot(at(0), today.clone())));
    // The clock jumps ahead for a while: nothing is over yet.
    machine.clock.set_forward(HOUR * 3);
    snapshots.write().await;
    assert_eq!(snapshots.load(&id(1)).snapshot, whole());
    machine.clock.set_back(HOUR * 3);
    for _ in 1..=720 {
        pass(seconds(5)).await;
        snapshots.write_windows().await;
    }
    assert_eq!(snapshots.load(&id(1)).snapshot, whole(), "3,600 s, 720 intervals");
    pass(seconds(5)).await;
    snapshots.write_windows().await;
    let kept = snapshots.load(&id(1)).snapshot;
    assert_eq!(kept, Some(LimiterSnapshot { burst: Vec::new(), ..snapshot(at(0), today) }));
}

#[tokio::test(start_paused = true)]
async fn days_are_not_forgotten_because_the_clock_was_set_forward() {
    let machine = Machine::with_clock();
    let snapshots = machine.open().await;
    let today = vec![DayUsage { day: DayUsage::day_of(at(0)), admitted: 1, ..DayUsage::default() }];
    assert!(snapshots.save(&id(1), snapshot(at(0), today)));
    pass(HOUR * 2).await;
    machine.clock.set_forward(HOUR * 24 * 60);
    snapshots.write().await;
    assert!(snapshots.load(&id(1)).snapshot.is_some());
}
