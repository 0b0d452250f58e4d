//! What a running gateway logs, changed from the command line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_tollgate");
const LINE_WITHIN: Duration = Duration::from_secs(20);

struct Serve(Child);

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lines that wait to be looked at.
const LINES_MAX: usize = 1_024;

/// The next line of the log that has this message.
fn line(lines: &mpsc::Receiver<Value>, message: &str) -> Value {
    loop {
        let line = lines.recv_timeout(LINE_WITHIN).unwrap_or_else(|_| panic!("{message} is not logged"));
        if line["message"] == message {
            return line;
        }
    }
}

/// The status that a listener answers with.
fn status_of(listener: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(listener).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {listener}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn the_level_changes_for_a_while_and_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut serve = Command::new(BINARY)
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .env("TOLLGATE_STORAGE__DIR", format!("\"{}\"", directory.path().display()))
        .env("TOLLGATE_STORAGE__BALLAST_BYTES", "0")
        .env("TOLLGATE_TELEMETRY__LOG", "\"info\"")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(serve.stderr.take().unwrap());
    let _serve = Serve(serve);
    let (sender, lines) = mpsc::sync_channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            let _ = sender.send(serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}")));
        }
    });
    let ready = line(&lines, "ready");
    let url = format!("http://{}", ready["admin_listen"].as_str().unwrap());
    let token = std::fs::read_to_string(directory.path().join("admin.token")).unwrap();
    let log_level = |arguments: &[&str]| -> Output {
        let mut command = Command::new(BINARY);
        command.arg("log-level").args(arguments).args(["--admin-url", &url, "--admin-token", token.trim()]);
        command.output().unwrap()
    };
    let told = |arguments: &[&str]| {
        let output = log_level(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // Probes that find everything in order are not logged, others are.
    let [merchants, operators] = ["listen", "admin_listen"].map(|listener| ready[listener].as_str().unwrap());
    for (listener, path) in [(merchants, "/healthz"), (merchants, "/readyz"), (operators, "/healthz")] {
        assert_eq!(status_of(listener, path), "200");
    }
    assert_eq!(status_of(operators, "/metrics"), "401");
    let refused = line(&lines, "request");
    assert_eq!(
        (&refused["status"], &refused["level"]),
        (&401.into(), &"INFO".into()),
        "nobody's scrape is as any request"
    );
    assert_eq!(told(&[]), "info (as configured)\n");
    assert_eq!(line(&lines, "request")["route"], "/admin/v1/log-level");
    told(&["debug"]);
    line(&lines, "what is logged has changed");
    assert_eq!(status_of(merchants, "/healthz"), "200");
    while line(&lines, "request")["route"] != "/healthz" {}
    let changed: Value = serde_json::from_str(&told(&["warn", "--for", "10m", "--json"])).unwrap();
    assert_eq!((&changed["filter"], &changed["configured_filter"]), (&"warn".into(), &"info".into()));
    assert!(changed["until"].is_string(), "{changed}");
    assert!(told(&[]).starts_with("warn"));
    assert_eq!(told(&["--reset"]), "info (as configured)\n");
    // That is said at info, as requests are: since the level rose nothing was.
    let next = lines.recv_timeout(LINE_WITHIN).unwrap();
    assert_eq!((&next["message"], &next["filter"]), (&"what is logged has changed".into(), &"info".into()), "{next}");
    let wrong = log_level(&["loud"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no level"), "{wrong:?}");
    assert_eq!(log_level(&["debug", "--for", "soon"]).status.code(), Some(2));
}
