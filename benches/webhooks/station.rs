//! The receiver in a process of its own, and how it is asked what has come.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::receiver::{Receiver, host};

/// As the first argument: receive, and do not measure. Behind it: how many hosts.
pub const ARGUMENT: &str = "--receive";
/// What is printed in front of the port.
const READY: &str = "ready ";
/// How often it is asked how much has come.
const ASK: Duration = Duration::from_millis(10);
/// Longest time without another webhook.
const STALLED_AFTER: Duration = Duration::from_secs(40);

/// Receives until it is killed.
pub async fn receive(arguments: &[String]) {
    let hosts = arguments.first().and_then(|text| text.parse().ok()).expect("how many hosts");
    println!("{READY}{}", Receiver::new().listen(hosts).await);
    std::future::pending().await
}

/// The numbers of webhooks and when they came, in the order in which they did.
pub type Arrivals = Vec<(u64, u64)>;

/// See the module. Killed when dropped.
pub struct Station {
    child: Child,
    port: u16,
    http: reqwest::Client,
}

impl Station {
    pub async fn start(hosts: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.args([ARGUMENT, &hosts.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let port = line.trim().strip_prefix(READY).and_then(|text| text.parse().ok()).expect("a port");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let station = Self { child, port, http: reqwest::Client::builder().no_proxy().build().expect("a client") };
        for group in 0..crate::receiver::GROUPS {
            station.drain(group).await;
        }
        station
    }

    /// Where webhooks of a group go to one of its hosts.
    pub fn url(&self, group: usize, number: usize) -> String {
        format!("http://{}:{}/{group}", host(number), self.port)
    }

    async fn ask(&self, command: String) -> Vec<u8> {
        let url = format!("http://{}:{}/control/{command}", host(0), self.port);
        let answer = self.http.get(url).send().await.expect("an answer").error_for_status().expect("a command");
        answer.bytes().await.expect("a body").to_vec()
    }

    /// How a group answers from now on: `take`, `hang`, `after/MS`.
    pub async fn set(&self, group: usize, mode: &str) {
        self.ask(format!("{group}/{mode}")).await;
    }

    /// How much has come for a group.
    pub async fn count(&self, group: usize) -> u64 {
        let text = self.ask(format!("{group}/count")).await;
        std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).expect("a number")
    }

    /// What has come for a group, which is forgotten there.
    pub async fn drain(&self, group: usize) -> Arrivals {
        let bytes = self.ask(format!("{group}/drain")).await;
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        bytes.chunks_exact(16).map(|pair| (word(&pair[..8]), word(&pair[8..]))).collect()
    }

    /// Waits until so much has come for a group.
    pub async fn until(&self, group: usize, count: u64) {
        let (mut last, mut last_at) = (self.count(group).await, Instant::now());
        while last < count {
            tokio::time::sleep(ASK).await;
            let now = self.count(group).await;
            if now > last {
                (last, last_at) = (now, Instant::now());
            }
            assert!(last_at.elapsed() < STALLED_AFTER, "{last} of {count} webhooks have come, and no more do");
        }
    }

    /// Waits until nothing has come for a group for a while, or too much time has passed.
    pub async fn until_quiet(&self, group: usize, quiet: Duration, at_most: Duration) {
        let begun = Instant::now();
        let (mut last, mut last_at) = (self.count(group).await, Instant::now());
        while last_at.elapsed() < quiet && begun.elapsed() < at_most {
            tokio::time::sleep(5 * ASK).await;
            let now = self.count(group).await;
            if now > last {
                (last, last_at) = (now, Instant::now());
            }
        }
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
