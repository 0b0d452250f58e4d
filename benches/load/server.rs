//! The servers as processes of their own: started, asked for their processor time, stopped.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bare;
use crate::drive::Target;
use crate::http::Connection;
use crate::options::Options;
use crate::request::Merchant;

const ADMIN_TOKEN: &str = "an-admin-token-for-load-tests";
/// Of `/proc/PID/stat`: what Linux shows to programs, whatever it counts in.
const TICKS_PER_S: f64 = 100.0;
/// A server counts as idle when it used at most a tick in this long.
const SETTLE_STEP: Duration = Duration::from_millis(300);
const SETTLE_MAX: Duration = Duration::from_secs(10);
const STOP_MAX: Duration = Duration::from_secs(60);

/// A server that is measured. Killed when dropped.
pub struct Contestant {
    pub name: &'static str,
    child: Child,
    target: Target,
    /// Of the smallest tier, to be refused.
    flooding: Merchant,
    /// Of a gateway.
    data: Option<PathBuf>,
    payments: Cell<u64>,
}

/// What a gateway wrote from its start to its stop.
pub struct Written {
    journal_bytes: u64,
    /// Handed to the operating system, answers to clients included.
    handed_bytes: u64,
    /// What the operating system counts as caused on the disk. It counts a page with one changed byte as a whole, and
    /// newer kernels have pages of up to megabytes.
    counted_bytes: u64,
}

impl Written {
    pub fn print(&self, name: &str, payments: u64) {
        let each = |bytes: u64| bytes as f64 / payments.max(1) as f64;
        println!(
            "{name}: bytes written per payment: journal {:.0}, handed to the operating system {:.0} (index, zero-filled \
             segments and answers included), counted by it as caused on disks {:.0} (whole pages); {payments} payments",
            each(self.journal_bytes),
            each(self.handed_bytes),
            each(self.counted_bytes),
        );
    }
}

impl Contestant {
    /// A gateway on a directory of its own, with a merchant that no limit stops.
    pub fn gateway(name: &'static str, binary: &str, home: &Path, options: &Options) -> Self {
        let data = home.join(name);
        let config = home.join(format!("{name}.toml"));
        std::fs::write(&config, configuration(&options.log)).expect("a file");
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"]);
        command.arg(&config).arg("--data-dir").arg(&data).env("TOLLGATE_ADMIN_TOKEN", ADMIN_TOKEN);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a gateway");
        let mut log = BufReader::new(child.stderr.take().expect("its log"));
        let ready: Value = serde_json::from_str(&line_with(&mut log, "\"ready\"")).expect("a line of JSON");
        drain(log);
        let address = |field: &str| ready[field].as_str().and_then(|text| text.parse().ok()).expect("an address");
        let merchant = make_merchant(address("admin_listen"), &largest());
        let flooding = make_merchant(address("admin_listen"), &json!({ "name": "Flood", "tier": "starter" }));
        let target = Target { address: address("listen"), merchant, is_gateway: true };
        Self { name, child, target, flooding, data: Some(data), payments: Cell::new(0) }
    }

    /// The bare handler: this program with another task.
    pub fn bare() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.arg(bare::ARGUMENT).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let line = line_with(&mut output, bare::READY);
        let address = line.trim().trim_start_matches(bare::READY).parse().expect("an address");
        let merchant = Merchant { key_id: "ak_bare".to_owned(), secret: "sk_bare".to_owned() };
        let target = Target { address, merchant: merchant.clone(), is_gateway: false };
        Self { name: "bare axum", child, target, flooding: merchant, data: None, payments: Cell::new(0) }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The same server, asked by the merchant that is to be refused.
    pub fn flooding(&self) -> Target {
        Target { merchant: self.flooding.clone(), ..self.target.clone() }
    }

    pub fn count_payments(&self, more: u64) {
        self.payments.set(self.payments.get() + more);
    }

    pub fn payments(&self) -> u64 {
        self.payments.get()
    }

    /// Processor time used so far, in seconds.
    pub fn cpu_s(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("a running server");
        // After the name, which may hold anything, comes the third field.
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let ticks = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("ticks"));
        ticks.sum::<f64>() / TICKS_PER_S
    }

    /// Waits until the server has done what it left for later.
    pub fn settle(&self) {
        let deadline = Instant::now() + SETTLE_MAX;
        let mut before = self.cpu_s();
        while Instant::now() < deadline {
            std::thread::sleep(SETTLE_STEP);
            let now = self.cpu_s();
            if now - before <= 1.0 / TICKS_PER_S {
                return;
            }
            before = now;
        }
    }

    /// Stops a gateway in good order and tells what it wrote; `None` for the bare handler.
    pub fn stop(mut self) -> Option<Written> {
        let data = self.data.clone()?;
        let io = format!("/proc/{}/io", self.child.id());
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "the gateway can't be told to stop");
        let deadline = Instant::now() + STOP_MAX;
        let (mut handed_bytes, mut counted_bytes) = (0, 0);
        // Its last checkpoint counts, too, so it is asked until it is gone.
        while self.child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < deadline, "the gateway does not stop");
            let text = std::fs::read_to_string(&io).unwrap_or_default();
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            handed_bytes = field("wchar:").unwrap_or(handed_bytes);
            counted_bytes = field("write_bytes:").unwrap_or(counted_bytes);
            std::thread::sleep(Duration::from_millis(2));
        }
        // A clean stop cuts the zeros off the last segment; in those before it hardly any are left.
        let segments = std::fs::read_dir(data.join("journal")).expect("a journal").filter_map(Result::ok);
        let segments = segments.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "seg"));
        let journal_bytes = segments.map(|entry| entry.metadata().expect("a segment").len()).sum();
        Some(Written { journal_bytes, handed_bytes, counted_bytes })
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The embedded configuration but for the channels, and for what a single key is not meant to do for long: it has an
/// eighth of the nonces, about 1,500 signed requests a second.
fn configuration(log: &str) -> String {
    format!(
        "[auth]\nnonces_max = 64000000\n[sandbox]\nallow_instant = true\n[routing]\ndefault_channel = \"instant\"\n[channels.stripe]\nenabled = false\n\
         [channels.alipay]\nenabled = false\n[channels.instant]\nkind = \"instant\"\ncaps = {{ concurrent = 100000 }}\n\
         fees = {{ percent = \"2.9\", fixed_minor = 30 }}\n\
         [telemetry]\nlog = \"{log},tollgate::cli=info\"\nformat = \"json\"\n"
    )
}

/// A merchant with the highest limits that there are.
fn largest() -> Value {
    let limits = json!({
        "per_second": 100_000, "burst": 100_000, "per_minute": u32::MAX, "per_hour": u32::MAX, "concurrent": 100_000,
    });
    json!({ "name": "Load", "tier": "premium", "limits": limits })
}

fn make_merchant(admin: SocketAddr, merchant: &Value) -> Merchant {
    let body = merchant.to_string();
    let request = format!(
        "POST /admin/v1/merchants HTTP/1.1\r\nhost: {admin}\r\nauthorization: Bearer {ADMIN_TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len(),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connection = Connection::open(admin).await.expect("a connection");
        let (status, answer) = connection.exchange(request.as_bytes()).await.expect("an answer");
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(answer));
        let answer: Value = serde_json::from_slice(answer).expect("JSON");
        let text = |field: &str| answer["data"]["key"][field].as_str().expect("a key").to_owned();
        Merchant { key_id: text("id"), secret: text("secret") }
    })
}

fn line_with(output: &mut impl BufRead, text: &str) -> String {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        let read = output.read_line(&mut line).expect("output");
        assert!(read > 0, "the server ended before it was ready: {seen}");
        if line.contains(text) {
            return line;
        }
        seen.push_str(&line);
    }
}

/// Reads the rest away, so that the server never waits for its output.
fn drain(mut output: impl Read + Send + 'static) {
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
}
