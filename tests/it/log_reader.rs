//! A gateway whose logs nobody reads any more.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Their lines are some ten times what a pipe holds.
const REQUESTS: usize = 2_000;
const WITHIN: Duration = Duration::from_secs(20);

struct Serve(Child);

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_reader_of_the_log_that_stands_still_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .env("TOLLGATE_STORAGE__DIR", format!("\"{}\"", directory.path().display()))
        .env("TOLLGATE_STORAGE__BALLAST_BYTES", "0")
        .env("TOLLGATE_TELEMETRY__LOG", "\"debug\"")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(serve.stderr.take().unwrap());
    let mut serve = Serve(serve);
    let ready = loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "it has ended");
        let line: Value = serde_json::from_str(&line).unwrap();
        if line["message"] == "ready" {
            break line;
        }
    };
    // The pipe stays open, and from here on nobody reads it.
    let mut stream = TcpStream::connect(ready["listen"].as_str().unwrap()).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for count in 0..REQUESTS {
        stream.write_all(request).unwrap();
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).unwrap_or_else(|error| panic!("request {count}: {error}"));
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "request {count}");
    }
    drop(stream);
    kill_process(Pid::from_child(&serve.0), Signal::TERM).unwrap();
    let ended = (0..600).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        serve.0.try_wait().unwrap()
    });
    assert!(ended.expect("it stops though nobody reads").success());
    // Nobody could write more than the pipe holds, which is far less than was logged.
    let mut left = Vec::new();
    log.read_to_end(&mut left).unwrap();
    let lines = left.split(|byte| *byte == b'\n').count();
    assert!(left.len() > 60_000 && lines < REQUESTS, "{} bytes, {lines} lines", left.len());
}
