//! Very many webhooks that wait: what they take of the memory, and how long a restart takes with them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use tollgate::clock::Clock;

use crate::house::{House, config};
use crate::options::Options;
use crate::report::{load, memory_mib};
use crate::station::Station;

/// As the first argument: be the gateway. Behind it: its directory, how many webhooks are made, where they go.
pub const ARGUMENT: &str = "--live";
/// Of the receiver.
const GROUP: usize = 2;
/// Each webhook is answered after this, so that hardly any are taken while it is looked.
const SLOWLY: &str = "after/2000";
/// So many are there when memory is looked at for the first time.
const FEW: u64 = 1_000;
/// How long a gateway that was started sends before its memory is looked at.
const SENDS_FOR: Duration = Duration::from_secs(3);
/// Of the index's cache. The default is four times that, and full of what waits it would hide everything else.
const CACHE_BYTES: u64 = 64 << 20;

/// The gateway that is looked at.
pub async fn live(arguments: &[String]) {
    let [directory, count, urls @ ..] = arguments else { panic!("a directory, a number, addresses") };
    let count: u64 = count.parse().expect("a number");
    let mut config = config(Path::new(directory));
    config.storage.cache_bytes = CACHE_BYTES;
    let house = House::open(config).await;
    if count > 0 {
        let hooks = house.hooks(urls.to_vec()).await;
        let whose = |number: u64| &hooks[usize::try_from(number).unwrap_or(0) % hooks.len()];
        house.publish_all(0..FEW, whose).await;
        house.applied().await;
        say("few");
        heard("go on").await;
        house.publish_all(FEW..count, whose).await;
        house.applied().await;
    }
    say("ready");
    heard("stop").await;
    house.gateway.stop().await.expect("a stop in order");
}

fn say(word: &str) {
    println!("{word}");
    let _ = std::io::stdout().flush();
}

/// Waits for a line.
async fn heard(expected: &'static str) {
    let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await.expect("a thread");
    // Whoever started this is gone.
    assert_eq!(line.and_then(Result::ok).as_deref(), Some(expected));
}

/// The gateway as seen from here. Killed when dropped.
struct Living {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    started_us: u64,
}

impl Living {
    fn start(directory: &Path, urls: &[String], count: u64) -> Self {
        let started_us = Clock::system().steady().micros();
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.arg(ARGUMENT).arg(directory).arg(count.to_string()).args(urls);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, input, output, started_us }
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.input, "{word}").expect("it listens");
    }

    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        assert_eq!(line.trim(), word, "the gateway says something else");
    }

    fn memory(&self) -> [f64; 2] {
        ["VmRSS", "VmHWM"].map(|what| memory_mib(self.child.id(), what))
    }

    fn stop(&mut self) {
        self.tell("stop");
        assert!(self.child.wait().expect("its end").success(), "it stops in order");
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Milliseconds from its start to the first webhook that came since.
    async fn first_arrival_ms(&self, station: &Station) -> f64 {
        station.until(GROUP, 1).await;
        let first_us = station.drain(GROUP).await.iter().map(|(_, at_us)| *at_us).min().unwrap_or(0);
        first_us.saturating_sub(self.started_us) as f64 / 1_000.0
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.kill();
    }
}

pub async fn measure(options: &Options, station: &Station) {
    let directory = tempfile::tempdir_in(&options.dir).expect("a directory");
    let data = directory.path().join("data");
    let urls: Vec<String> = (1..=options.spread).map(|number| station.url(GROUP, number)).collect();
    station.set(GROUP, SLOWLY).await;
    println!(
        "\n{} webhooks that wait for {} endpoints; the index may cache {} MiB",
        options.backlog,
        options.spread,
        CACHE_BYTES >> 20
    );
    let mut living = Living::start(&data, &urls, options.backlog);
    living.wait_for("few");
    let [few, _] = living.memory();
    println!("  memory with {FEW} waiting: {few:.0} MiB");
    living.tell("go on");
    living.wait_for("ready");
    let [now, most] = living.memory();
    println!("  memory when they have just been made: {now:.0} MiB, at most {most:.0} MiB meanwhile; load {}", load());
    living.kill();
    settle(station).await;
    for (how, is_killed) in [("SIGKILL", false), ("a stop in order", true)] {
        let mut living = Living::start(&data, &[], 0);
        let first_ms = living.first_arrival_ms(station).await;
        living.wait_for("ready");
        tokio::time::sleep(SENDS_FOR).await;
        let [now, most] = living.memory();
        println!(
            "  after {how}: the first webhook came {first_ms:.0} ms after the start of the process; memory {now:.0} MiB \
             ({:+.0} MiB), at most {most:.0} MiB; load {}",
            now - few,
            load()
        );
        if is_killed {
            living.kill();
        } else {
            living.stop();
        }
        settle(station).await;
    }
    station.set(GROUP, "take").await;
}

/// Nothing more comes of a process that is gone.
async fn settle(station: &Station) {
    station.until_quiet(GROUP, Duration::from_millis(200), Duration::from_secs(5)).await;
    station.drain(GROUP).await;
}
