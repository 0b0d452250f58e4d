//! A backlog of webhooks, and SIGKILL in the middle of sending it, five times: each of them arrives, none comes twice but what
//! was in flight when the process was killed, and memory does not follow what waits.
//!
//! The gateway is this program again, in a process of its own, with a real store, and with four endpoints: one that takes
//! everything at once, one that takes its time (so that most kills find something in flight), one that answers one of ten 500,
//! and one that does not answer until the end. It makes the backlog itself while they are paused.
//!
//! `TOLLGATE_BACKLOG` sets how many webhooks (30,000; a million takes a good quarter of an hour), `TOLLGATE_CRASH_SEED` at which moments it
//! is killed. It says in the end what it saw.
//!
//! Shown by having the gateway send 64 at once to an endpoint where 8 are allowed: 56 came again after a kill.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what it is asked to list, and what the process says to the test")]

#[path = "../../benches/webhooks/house.rs"]
mod house;
#[path = "../../benches/webhooks/receiver.rs"]
#[allow(dead_code, reason = "shared with a bench, which uses more of it")]
mod receiver;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use house::{Hook, House};
use receiver::{Arrival, Fate, GROUPS, Mode, Receiver, host};
use tollgate::config::Config;
use tollgate::domain::ids::{EndpointId, MerchantId};
use tollgate::domain::webhook::{Notification, NotificationStatus};
use tollgate::gateway::page::PageRequest;
use tollgate::gateway::webhooks::SettableStatus;
use tollgate::random::Random;
use tollgate::storage::{Scan, Store, keys, record};

/// Its name among other tests.
const NAME: &str = "a_backlog_arrives_whole_although_its_sender_is_killed_and_little_comes_twice";
/// As the first argument: be the gateway. Behind it: its directory, the receiver's port, how many webhooks are made.
const LIVE: &str = "--live";

const COUNT_DEFAULT: u64 = 30_000;
const COUNT_LEAST: u64 = 2_000;
const KILLS: u64 = 5;
/// Of a thousand webhooks, how many go to each endpoint.
const SHARES: [u64; GROUPS] = [790, 100, 100, 10];
const AT_ONCE: usize = 0;
const TAKES_TIME: usize = 1;
const REFUSES_SOME: usize = 2;
const SILENT: usize = 3;
/// What the second one takes for an answer.
const ITS_TIME: Duration = Duration::from_millis(50);

/// Requests of one endpoint that may have no answer, or one that is not on disk yet: `[webhook] endpoint_in_flight_max`.
const IN_FLIGHT_MAX: usize = 8;

const CACHE_BYTES: u64 = 16 << 20;
const OVERLAY_BYTES: u64 = 16 << 20;
/// What a process may take more with the backlog than with nothing: cache, overlay, the journal's segments while they are
/// read, and what the allocator keeps. A quarter of a million webhooks in memory would be more, wherever they were held.
/// With fewer, such as the default, this can't tell; what is held of a backlog is counted in the tests of endpoints' health.
const MEMORY_MORE_MAX_MIB: u64 = 192;

/// Longest time without another webhook.
const STALLED_AFTER: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);
/// How long what has arrived may take until it is on disk.
const RECORDED_WITHIN: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if arguments.first().is_some_and(|first| first == LIVE) {
        runtime().block_on(live(&arguments[1..]));
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--list") {
        println!("{NAME}: test");
        return ExitCode::SUCCESS;
    }
    let filters = || arguments.iter().filter(|argument| !argument.starts_with('-'));
    if filters().count() > 0 && !filters().any(|filter| NAME.contains(filter.as_str())) {
        println!("test {NAME} ... left out, as asked for");
        return ExitCode::SUCCESS;
    }
    // A panic ends it with a code of its own, and kills the gateway on the way.
    runtime().block_on(kill_and_count());
    println!("test {NAME} ... ok");
    ExitCode::SUCCESS
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

// The gateway.

fn config(directory: &Path) -> Config {
    let mut config = house::config(directory);
    config.storage.cache_bytes = CACHE_BYTES;
    config.storage.overlay_bytes_max = OVERLAY_BYTES;
    config.storage.segment_bytes = 4 << 20;
    config.storage.group_bytes_max = 1 << 20;
    config.storage.ballast_bytes = 0;
    config.storage.low_space_bytes = 0;
    config.storage.checkpoint_interval_ms = 2_000;
    config.webhook.endpoint_in_flight_max = IN_FLIGHT_MAX;
    config.webhook.restart_spread_ms = 100;
    config.webhook.max_backoff_s = 1;
    config.webhook.max_attempts = 100;
    // The one that was silent is asked again soon, for else this would take longer than it need.
    config.webhook.breaker_open_s = 1;
    config.webhook.breaker_open_max_s = 1;
    config.webhook.recovery_rate_per_s = 0;
    config
}

/// Which endpoint a webhook goes to.
fn group_of(number: u64) -> usize {
    let mut place = number.wrapping_mul(7_919) % 1_000;
    for (group, share) in SHARES.into_iter().enumerate() {
        match place.checked_sub(share) {
            Some(rest) => place = rest,
            None => return group,
        }
    }
    AT_ONCE
}

/// A gateway, until it is told to stop or killed.
async fn live(arguments: &[String]) {
    let [directory, port, count] = arguments else { panic!("a directory, a port and a number") };
    let count: u64 = count.parse().unwrap();
    let house = House::open(config(Path::new(directory))).await;
    if count > 0 {
        say("empty");
        let urls = (0..GROUPS).map(|group| format!("http://{}:{port}/{group}", host(group))).collect();
        let hooks = house.hooks(urls).await;
        house.set_status(&hooks, SettableStatus::Paused).await;
        house.publish_all(0..count, |number| &hooks[group_of(number)]).await;
        house.applied().await;
        house.set_status(&hooks, SettableStatus::Enabled).await;
    }
    say("ready");
    let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await.unwrap();
    // Whoever started this is gone.
    let Some(Ok(_)) = line else { return };
    say(&left(&house).await);
    house.gateway.stop().await.unwrap();
}

/// What the store says once everything has arrived: how many wait, how many were taken, and how many are there.
async fn left(house: &House) -> String {
    let until_us = house.now_us() + u64::try_from(RECORDED_WITHIN.as_micros()).unwrap();
    while !house.engine.scan(&Scan::prefix(&keys::notifications_due(), 1)).unwrap().is_empty()
        && house.now_us() < until_us
    {
        tokio::time::sleep(LOOK).await;
    }
    let waiting = rows(house, keys::notifications_due(), |_| true);
    let taken = rows(house, keys::notifications(), |value| {
        let notification: Notification = record::decode(value).unwrap();
        notification.status == NotificationStatus::Success
    });
    let enabled = hooks(house);
    format!("left {} waiting, {} taken of {}, {enabled} endpoints enabled", waiting.0, taken.0, taken.1)
}

/// How many rows of a kind there are that are meant, and how many in all.
fn rows(house: &House, prefix: Vec<u8>, is_meant: impl Fn(&[u8]) -> bool) -> (usize, usize) {
    let (mut meant, mut all) = (0, 0);
    let mut scan = Scan::prefix(&prefix, 1_000);
    loop {
        let page = house.engine.scan(&scan).unwrap();
        let Some(last) = page.last() else { return (meant, all) };
        scan.start = [last.key.as_slice(), &[0]].concat();
        all += page.len();
        meant += page.iter().filter(|row| is_meant(&row.versioned.value)).count();
    }
}

/// How many endpoints are enabled.
fn hooks(house: &House) -> usize {
    let page = PageRequest { limit: Some(100), cursor: None };
    let merchants = house.gateway.merchants().list(&page).unwrap().items;
    let endpoints = merchants.iter().flat_map(|merchant| {
        let merchant_id = MerchantId::new(merchant.merchant_id.as_str());
        let endpoints = house.gateway.webhooks().list_endpoints(&merchant_id, &page).unwrap().items;
        endpoints.into_iter().map(move |endpoint| Hook {
            merchant_id: merchant_id.clone(),
            endpoint_id: EndpointId::new(endpoint.id.as_str()),
        })
    });
    let is_enabled = |hook: &Hook| {
        let endpoint = house.gateway.webhooks().get_endpoint(&hook.merchant_id, &hook.endpoint_id).unwrap();
        endpoint.status == "enabled"
    };
    endpoints.filter(is_enabled).count()
}

fn say(word: &str) {
    println!("{word}");
    let _ = std::io::stdout().flush();
}

// The test.

/// The gateway as the test sees it. Killed when dropped.
struct Living {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Living {
    fn start(directory: &Path, port: u16, count: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(LIVE).arg(directory).args([port.to_string(), count.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    /// Its next line, which it says within a long time or ends.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// A number out of `/proc/PID/status`, in MiB.
    fn memory_mib(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1_024
    }

    fn kill(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "it ended by itself before it was killed");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where each life of the process ended, for each endpoint in webhooks that had come by then.
type Ends = Vec<[usize; GROUPS]>;

async fn kill_and_count() {
    let count = setting("TOLLGATE_BACKLOG", COUNT_DEFAULT).max(COUNT_LEAST);
    let seed = setting("TOLLGATE_CRASH_SEED", Random::from_os().draw_u64());
    println!("TOLLGATE_CRASH_SEED={seed}");
    let random = Random::seeded(seed);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let receiver = Receiver::new();
    let port = receiver.listen(GROUPS).await;
    receiver.set(TAKES_TIME, Mode::TakeAfter(ITS_TIME));
    receiver.set(REFUSES_SOME, Mode::RefuseOneOf(10));
    receiver.set(SILENT, Mode::Hang);

    let mut living = Living::start(&data, port, count);
    assert_eq!(living.line(), "empty");
    let empty_mib = living.memory_mib("VmRSS");
    assert_eq!(living.line(), "ready");
    let mut ends = Ends::new();
    let mut memory = Vec::new();
    for kill in 0..KILLS {
        if kill > 0 {
            living = Living::start(&data, port, 0);
            assert_eq!(living.line(), "ready", "it opens after a kill");
        }
        // Some of what is left, so that each kill is in the middle.
        let come = all(&receiver);
        let left = usize::try_from(count).unwrap().saturating_sub(come);
        let share = usize::try_from(10 + random.draw_u64() % 15).unwrap();
        until(&receiver, come + (left * share / 100).max(20)).await;
        memory.push(living.memory_mib("VmRSS"));
        living.kill();
        receiver.quiet(port, GROUPS).await;
        ends.push(std::array::from_fn(|group| receiver.count(group)));
    }
    let sent_at_kills: usize = ends.last().unwrap().iter().sum();
    assert!(sent_at_kills < usize::try_from(count).unwrap(), "the last kill was after the end: {ends:?}");
    living = Living::start(&data, port, 0);
    assert_eq!(living.line(), "ready");
    receiver.set(SILENT, Mode::Take);
    everything_arrives(&receiver, count).await;
    memory.push(living.memory_mib("VmRSS"));
    writeln!(living.input, "look").unwrap();
    assert_eq!(living.line(), format!("left 0 waiting, {count} taken of {count}, {GROUPS} endpoints enabled"));
    assert!(living.child.wait().unwrap().success(), "it stops in order");

    let duplicates: Vec<Vec<usize>> =
        (0..GROUPS).map(|group| duplicates(&receiver.arrivals(group), group, &ends)).collect();
    println!(
        "{count} webhooks, {KILLS} kills after {:?} had come; came again, by endpoint and kill: {duplicates:?}; memory {empty_mib} MiB \
         without them, then {memory:?}",
        ends.iter().map(|end| end.iter().sum::<usize>()).collect::<Vec<_>>()
    );
    for (group, of_kills) in duplicates.iter().enumerate() {
        for (kill, again) in of_kills.iter().enumerate() {
            let most = IN_FLIGHT_MAX;
            assert!(
                *again <= most,
                "{again} webhooks of endpoint {group} came again after kill {kill}: more than {most}"
            );
        }
    }
    // Else it says nothing: with so many in flight at any moment a kill that finds none is rare.
    let of_all: usize = duplicates.iter().flatten().sum();
    assert!(of_all > 0, "no kill found anything in flight: is it killed in the middle?");
    let most = memory.iter().copied().max().unwrap();
    assert!(
        most <= empty_mib + MEMORY_MORE_MAX_MIB,
        "memory follows what waits: {empty_mib} MiB, and {most} MiB with it"
    );
}

fn all(receiver: &Arc<Receiver>) -> usize {
    (0..GROUPS).map(|group| receiver.count(group)).sum()
}

/// Waits until so much has come.
async fn until(receiver: &Arc<Receiver>, count: usize) {
    let (mut last, mut stalled) = (0, Duration::ZERO);
    while last < count {
        let now = all(receiver);
        stalled = if now > last { Duration::ZERO } else { stalled + LOOK };
        assert!(stalled < STALLED_AFTER, "{now} of {count} webhooks have come, and no more do");
        last = now;
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until each has been taken.
async fn everything_arrives(receiver: &Arc<Receiver>, count: u64) {
    let expected = usize::try_from(count).unwrap();
    let (mut last, mut stalled) = (0, Duration::ZERO);
    loop {
        let mut is_taken = vec![false; expected];
        let taken =
            (0..GROUPS).flat_map(|group| receiver.arrivals(group)).filter(|arrival| arrival.fate == Fate::Taken);
        taken.for_each(|arrival| is_taken[usize::try_from(arrival.number).unwrap()] = true);
        let now = is_taken.iter().filter(|is_taken| **is_taken).count();
        if now == expected {
            return;
        }
        // What is counted is what comes at all: an endpoint that was silent may be left alone for a while.
        stalled = if now > last { Duration::ZERO } else { stalled + 20 * LOOK };
        let example = is_taken.iter().position(|is_taken| !is_taken);
        assert!(stalled < STALLED_AFTER, "{} of {count} webhooks are missing, such as {example:?}", expected - now);
        last = now;
        tokio::time::sleep(20 * LOOK).await;
    }
}

/// How many webhooks of an endpoint that were taken in each life came once more in a later one. What was taken does not come
/// again within a life, and goes nowhere else.
fn duplicates(arrivals: &[Arrival], group: usize, ends: &Ends) -> Vec<usize> {
    let life_of = |place: usize| ends.partition_point(|end| end[group] <= place);
    let mut taken: HashMap<u64, usize> = HashMap::new();
    let mut again = vec![0; ends.len() + 1];
    for (place, arrival) in arrivals.iter().enumerate() {
        assert_eq!(group_of(arrival.number), group, "webhook {} came to another endpoint", arrival.number);
        let life = life_of(place);
        if let Some(before) = taken.get(&arrival.number) {
            assert!(*before < life, "webhook {} came again in the life in which it was taken", arrival.number);
            again[*before] += 1;
        }
        if arrival.fate == Fate::Taken {
            taken.insert(arrival.number, life);
        }
    }
    again
}
