//! The processes of a test: a gateway and, apart from it, the emulators, because a provider does not crash with us.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tollgate::clock::Clock;

use crate::client::{self, Answer};

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_tollgate");
/// The operator's token.
pub const ADMIN_TOKEN: &str = "an-admin-token-for-tests";

/// Lines that are kept of what a process says.
const SAID_LINES: usize = 12;

/// Lines that may wait to be looked at.
const LINES_MAX: usize = 10_000;
/// Longest time until a process says what is waited for. Opening takes less than a second.
const LINE_WITHIN: Duration = Duration::from_secs(60);

/// Processes that were started and not waited for.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Kills what is left, when the program ends before those who started it do.
pub fn kill_all() {
    for id in std::mem::take(&mut *RUNNING.lock()) {
        if let Some(process) = i32::try_from(id).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(process, Signal::KILL);
        }
    }
}

/// What a process has said.
#[derive(Default)]
struct Said {
    last: VecDeque<String>,
    /// Lines about panics. Those of the index's crate are caught, and the index is rebuilt.
    panics: Vec<String>,
}

/// A child process that is killed when the test ends.
pub struct Process {
    child: Child,
    said: Arc<Mutex<Said>>,
    /// Reads everything, so that the process never waits for its output.
    reader: Option<JoinHandle<()>>,
    /// Lines of its output, for as long as somebody may wait for one.
    lines: Option<Receiver<String>>,
}

impl Process {
    /// Starts it; either its standard output or its standard error can be read.
    pub fn start(mut command: Command, output_is_stdout: bool) -> Self {
        command.stdin(Stdio::null());
        if output_is_stdout {
            command.stdout(Stdio::piped()).stderr(Stdio::null());
        } else {
            command.stdout(Stdio::null()).stderr(Stdio::piped());
        }
        let mut child = command.spawn().unwrap();
        RUNNING.lock().insert(child.id());
        let output: Box<dyn std::io::Read + Send> = if output_is_stdout {
            Box::new(child.stdout.take().unwrap())
        } else {
            Box::new(child.stderr.take().unwrap())
        };
        let said = Arc::<Mutex<Said>>::default();
        let (arrives, lines) = sync_channel(LINES_MAX);
        let reader = std::thread::spawn({
            let said = Arc::clone(&said);
            move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    note(&said, line.clone());
                    // Far more than are said before what is waited for.
                    let _ = arrives.try_send(line);
                }
            }
        });
        Self { child, said, reader: Some(reader), lines: Some(lines) }
    }

    /// Waits for a line that contains `text`, for a minute at most. Returns everything that was said when there is none.
    pub fn find_line(&mut self, text: &str) -> Result<String, String> {
        let clock = Clock::system();
        let begun = clock.monotonic();
        let mut seen = String::new();
        let lines = self.lines.as_ref().unwrap();
        loop {
            match lines.recv_timeout(LINE_WITHIN.saturating_sub(clock.monotonic().since(begun))) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(line) => {
                    seen.push_str(&line);
                    seen.push('\n');
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("no line with {text:?} in {LINE_WITHIN:?}; {seen}"));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(seen),
            }
        }
    }

    /// Nobody waits for a line any more.
    pub fn drain(&mut self) {
        self.lines = None;
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        RUNNING.lock().remove(&self.child.id());
    }

    /// The same for one that has to be running still, and to have been well: one that had ended by itself, or that
    /// panicked where nobody saw it, makes the test fail with what it said.
    pub fn kill_running(&mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        RUNNING.lock().remove(&self.child.id());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        let last = self.last_said();
        assert!(status.signal() == Some(9), "the process ended by itself before it was killed ({status}): {last}");
        let said = self.said.lock();
        assert!(said.panics.is_empty(), "the process panicked: {:?}\n{last}", said.panics);
    }

    /// Whether a line that was said contains `text`.
    pub fn has_said(&self, text: &str) -> bool {
        self.said.lock().last.iter().any(|line| line.contains(text))
    }

    /// What it said last.
    pub fn last_said(&self) -> String {
        self.said.lock().last.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; a process that does not end is killed, and the test fails.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let step = Duration::from_millis(20);
        for _ in 0..within.as_millis() / step.as_millis() {
            if let Some(status) = self.child.try_wait().unwrap() {
                RUNNING.lock().remove(&self.child.id());
                return status;
            }
            tokio::time::sleep(step).await;
        }
        self.kill();
        panic!("the process goes on for {within:?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        RUNNING.lock().remove(&self.child.id());
    }
}

/// Has a process stand still, or go on.
pub fn set_stopped(id: u32, is_stopped: bool) {
    let signal = if is_stopped { Signal::STOP } else { Signal::CONT };
    let process = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    rustix::process::kill_process(process, signal).unwrap();
}

fn note(said: &Mutex<Said>, line: String) {
    let mut said = said.lock();
    if line.contains("panicked at") && !line.contains("/sled-") {
        said.panics.push(line.clone());
    }
    if said.last.len() == SAID_LINES {
        said.last.pop_front();
    }
    said.last.push_back(line);
}

/// The emulators in a process of their own, and the address that they are controlled at.
pub fn start_sandbox() -> (Process, String) {
    let mut command = Command::new(BINARY);
    command.args(["sandbox", "--listen", "127.0.0.1:0"]);
    let mut sandbox = Process::start(command, true);
    let control = sandbox.find_line("control").unwrap();
    sandbox.drain();
    let url = control.split_whitespace().last().unwrap().trim_end_matches("/control").to_owned();
    (sandbox, url)
}

/// A gateway that answers.
pub struct Serving {
    /// Its process.
    pub process: Process,
    /// Where merchants reach it.
    pub url: String,
    /// Where operators reach it.
    pub admin_url: String,
}

impl Serving {
    /// Starts a gateway and waits until it is ready; the error is what it said instead.
    pub fn start(command: Command) -> Result<Self, String> {
        let mut process = Process::start(command, false);
        let line = process.find_line("\"ready\"")?;
        process.drain();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let address = |name: &str| {
            let found = ready["fields"][name].as_str().or_else(|| ready[name].as_str());
            format!("http://{}", found.unwrap_or_else(|| panic!("no {name} in {line}")))
        };
        Ok(Self { url: address("listen"), admin_url: address("admin_listen"), process })
    }

    /// Sends an operator's request, which has to succeed.
    pub async fn admin_data(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let answer = operate(&client::http_client(), &self.admin_url, method, path, body).await.unwrap();
        assert!(answer.status < 300, "{path}: {}", answer.text);
        answer.body["data"].clone()
    }
}

/// The arguments and settings that the gateway runs with.
pub fn serve_arguments(command: &mut Command, directory: &Path, sandbox_url: &str) {
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
        .arg(directory)
        .env("TOLLGATE_ADMIN_TOKEN", ADMIN_TOKEN)
        .env("TOLLGATE_SANDBOX__URL", format!("\"{sandbox_url}\""))
        .env("TOLLGATE_PAYMENTS__RESOLVE_FIRST_MS", "50")
        .env("TOLLGATE_PAYMENTS__RESOLVE_EARLY_MAX_MS", "200")
        .env("TOLLGATE_PAYMENTS__SETTLING_MS", "4000")
        .env("TOLLGATE_CHANNELS__STRIPE__TIMEOUT_MS", "1000")
        .env("TOLLGATE_CHANNELS__ALIPAY__TIMEOUT_MS", "1000")
        .env("TOLLGATE_CHANNELS__PAYPAL__TIMEOUT_MS", "1000")
        .env("TOLLGATE_CHANNELS__CRYPTO__TIMEOUT_MS", "1000")
        .env("TOLLGATE_WEBHOOK__ALLOWED_PRIVATE_NETWORKS", "[\"127.0.0.0/8\"]")
        .env("TOLLGATE_WEBHOOK__RESTART_SPREAD_MS", "100")
        .env("TOLLGATE_WEBHOOK__MAX_BACKOFF_S", "1")
        .env("TOLLGATE_WEBHOOK__MAX_ATTEMPTS", "100")
        // After a crash a merchant counts as having used what it could since the last of these.
        .env("TOLLGATE_LIMITS__SNAPSHOT_INTERVAL_MS", "100")
        .env("TOLLGATE_LIMITS__ADAPTIVE__ENABLED", "false")
        .env("TOLLGATE_STORAGE__SEGMENT_BYTES", "1048576")
        .env("TOLLGATE_STORAGE__CHECKPOINT_BYTES", "1048576")
        .env("TOLLGATE_STORAGE__GROUP_BYTES_MAX", "262144")
        .env("TOLLGATE_STORAGE__BALLAST_BYTES", "2097152")
        .env("TOLLGATE_STORAGE__APPLY_INTERVAL_MS", "20")
        .env("TOLLGATE_STORAGE__CHECKPOINT_INTERVAL_MS", "1000")
        .env("TOLLGATE_TELEMETRY__FORMAT", "\"json\"");
}

/// An operator's request; the error says why there is no answer.
pub async fn operate(
    http: &reqwest::Client,
    admin_url: &str,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Result<Answer, String> {
    let headers = HashMap::from([("authorization".to_owned(), format!("Bearer {ADMIN_TOKEN}"))]);
    try_send(http, admin_url, method, path, body, headers).await
}

/// Sends a request. The error says why there is no whole answer; an answer that is whole has to be JSON.
pub async fn try_send(
    http: &reqwest::Client,
    url: &str,
    method: &str,
    path: &str,
    body: Option<Value>,
    headers: HashMap<String, String>,
) -> Result<Answer, String> {
    let mut request = http.request(method.parse().unwrap(), format!("{url}{path}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let response = request.send().await.map_err(|error| format!("{error:?}"))?;
    let status = response.status().as_u16();
    let text = response.text().await.map_err(|error| format!("{error:?}"))?;
    let body = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error} in the answer {text:?}"));
    Ok(Answer { status, headers: HashMap::new(), text, body })
}
