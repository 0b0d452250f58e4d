//! The processes of a test: a gateway and, apart from it, the emulators, because a provider does not crash with us.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::client::{self, Answer};

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_tollgate");
/// The operator's token.
pub const ADMIN_TOKEN: &str = "an-admin-token-for-tests";

/// A child process that is killed when the test ends.
pub struct Process {
    child: Child,
    /// Lines of its output, as far as they were waited for.
    lines: BufReader<Box<dyn std::io::Read + Send>>,
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
        let output: Box<dyn std::io::Read + Send> = if output_is_stdout {
            Box::new(child.stdout.take().unwrap())
        } else {
            Box::new(child.stderr.take().unwrap())
        };
        Self { child, lines: BufReader::new(output) }
    }

    /// Waits for a line that contains `text`. Returns everything that was said when the process ends before.
    pub fn find_line(&mut self, text: &str) -> Result<String, String> {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return Err(seen);
            }
            if line.contains(text) {
                return Ok(line);
            }
            seen.push_str(&line);
        }
    }

    /// The rest of the output of a process that has ended or is about to.
    pub fn rest(&mut self) -> String {
        let mut text = String::new();
        while self.lines.read_line(&mut text).unwrap() > 0 {}
        text
    }

    /// Reads the rest away, so that the process never waits for its output.
    pub fn drain(&mut self) {
        let empty: Box<dyn std::io::Read + Send> = Box::new(std::io::empty());
        let lines = std::mem::replace(&mut self.lines, BufReader::new(empty));
        std::thread::spawn(move || lines.lines().map_while(Result::ok).count());
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
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
    }
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

    /// Sends an operator's request; `None` when the process is gone.
    pub async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> Option<Answer> {
        operate(&client::http_client(), &self.admin_url, method, path, body).await
    }

    /// The same, which has to succeed.
    pub async fn admin_data(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let answer = self.admin(method, path, body).await.unwrap();
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
        .env("TOLLGATE_WEBHOOK__ALLOWED_PRIVATE_NETWORKS", "[\"127.0.0.0/8\"]")
        .env("TOLLGATE_WEBHOOK__RESTART_SPREAD_MS", "100")
        .env("TOLLGATE_WEBHOOK__MAX_BACKOFF_S", "1")
        .env("TOLLGATE_WEBHOOK__MAX_ATTEMPTS", "100")
        // After a crash a merchant counts as having used what it could since the last of these.
        .env("TOLLGATE_LIMITS__SNAPSHOT_INTERVAL_MS", "100")
        .env("TOLLGATE_STORAGE__SEGMENT_BYTES", "1048576")
        .env("TOLLGATE_STORAGE__CHECKPOINT_BYTES", "1048576")
        .env("TOLLGATE_STORAGE__GROUP_BYTES_MAX", "262144")
        .env("TOLLGATE_STORAGE__BALLAST_BYTES", "2097152")
        .env("TOLLGATE_STORAGE__APPLY_INTERVAL_MS", "20")
        .env("TOLLGATE_STORAGE__CHECKPOINT_INTERVAL_MS", "1000")
        .env("TOLLGATE_TELEMETRY__FORMAT", "\"json\"");
}

/// An operator's request; `None` when nobody answers.
pub async fn operate(
    http: &reqwest::Client,
    admin_url: &str,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Option<Answer> {
    let headers = HashMap::from([("authorization".to_owned(), format!("Bearer {ADMIN_TOKEN}"))]);
    try_send(http, admin_url, method, path, body, headers).await
}

/// Sends a request; `None` when the process is gone before it has answered.
pub async fn try_send(
    http: &reqwest::Client,
    url: &str,
    method: &str,
    path: &str,
    body: Option<Value>,
    headers: HashMap<String, String>,
) -> Option<Answer> {
    let mut request = http.request(method.parse().unwrap(), format!("{url}{path}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let response = request.send().await.ok()?;
    let status = response.status().as_u16();
    let text = response.text().await.ok()?;
    let body = serde_json::from_str(&text).ok()?;
    Some(Answer { status, headers: HashMap::new(), text, body })
}
