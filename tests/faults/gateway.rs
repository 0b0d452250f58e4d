//! The whole program: under a write limit, in a directory that it may not write, with damaged keys.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::client::{Answer, Client, Key};
use crate::house::copy_into;
use crate::process::{BINARY, Process, Serving, serve_arguments, start_sandbox};

const PAYMENTS: &str = "/api/v1/payments";

pub struct Shop {
    /// The merchant.
    pub client: Client,
    /// Payments that were answered.
    pub paid: Vec<String>,
}

impl Shop {
    /// A new merchant.
    pub async fn new(serving: &Serving) -> Self {
        let limits = json!({
            "per_second": 10_000, "per_minute": 600_000, "per_hour": 36_000_000, "burst": 10_000, "concurrent": 10_000,
        });
        let merchant = json!({ "name": "faults", "tier": "premium", "limits": limits });
        let made = serving.admin_data("POST", "/admin/v1/merchants", Some(merchant)).await;
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let key = Key { id: text(&made["key"]["id"]), secret: text(&made["key"]["secret"]) };
        Self { client: Client::new(&serving.url, key, &text(&made["merchant_id"])), paid: Vec::new() }
    }

    /// Pays once and returns the status.
    pub async fn pay(&mut self) -> u16 {
        self.try_pay().await.status
    }

    /// Pays once.
    pub async fn try_pay(&mut self) -> Answer {
        let order_no = format!("O-{}", self.paid.len());
        let body = json!({ "channel": "stripe", "description": "x".repeat(200) });
        let answer = self.client.pay(&order_no, 500, body).await;
        if answer.status == 201 {
            assert_eq!(answer.data("status"), "success");
            self.paid.push(answer.data("payment_no").to_owned());
        }
        answer
    }

    /// Waits until a payment has succeeded, which it must in a minute.
    pub async fn becomes_success(&self, payment_no: &str) {
        let mut answer = self.client.get(&format!("{PAYMENTS}/{payment_no}")).await;
        for _ in 0..600 {
            if answer.data("status") == "success" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            answer = self.client.get(&format!("{PAYMENTS}/{payment_no}")).await;
        }
        panic!("{payment_no} does not succeed: {}", answer.text);
    }

    /// Every payment that was answered is there.
    pub async fn has_everything(&self, serving: &Serving) {
        let client = self.client.at(&serving.url);
        for payment_no in &self.paid {
            let mut answer = client.get(&format!("{PAYMENTS}/{payment_no}")).await;
            for _ in 0..500 {
                // After a crash it counts as having used its burst.
                if answer.status != 429 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                answer = client.get(&format!("{PAYMENTS}/{payment_no}")).await;
            }
            assert_eq!((answer.status, answer.data("status")), (200, "success"), "{payment_no}: {}", answer.text);
        }
    }
}

/// The program with its data in this directory.
pub fn serve_command(directory: &Path, sandbox_url: &str) -> Command {
    let mut command = Command::new(BINARY);
    serve_arguments(&mut command, directory, sandbox_url);
    command
}

/// A command that runs the same after `setup` in a shell.
fn after(setup: &str, directory: &Path, sandbox_url: &str) -> Command {
    let plain = serve_command(directory, sandbox_url);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{setup} && exec \"$0\" \"$@\"")]).arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap());
    }
    command
}

/// Starts it, and returns what it said instead.
pub async fn refusal(command: Command) -> String {
    let mut process = Process::start(command, false);
    match process.find_line("\"ready\"") {
        Ok(_) => panic!("it was opened"),
        Err(said) => {
            assert!(!process.ended(Duration::from_secs(10)).await.success());
            said
        }
    }
}

/// No file may grow beyond a limit that sled's file reaches after a while. What was acknowledged is there, the process
/// goes on, refuses what it can't keep, and everything is well when there is room again.
#[tokio::test]
async fn a_write_limit_refuses_new_work_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (_sandbox, sandbox_url) = start_sandbox();
    // In blocks of 512 bytes: 2 MiB, twice a segment and all of the ballast.
    let mut serving = Serving::start(after("ulimit -f 4096", directory.path(), &sandbox_url)).unwrap();
    let mut shop = Shop::new(&serving).await;
    let mut refused = 0;
    for _ in 0..1_500 {
        match shop.pay().await {
            201 => {}
            503 => {
                refused += 1;
                if refused == 20 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => panic!("{other} after {} payments", shop.paid.len()),
        }
    }
    eprintln!("under the limit: {} payments, {refused} refused", shop.paid.len());
    assert!(refused > 0, "the limit was not reached");
    shop.has_everything(&serving).await;
    serving.process.kill();
    let serving = Serving::start(serve_command(directory.path(), &sandbox_url)).unwrap();
    shop.client.url.clone_from(&serving.url);
    shop.has_everything(&serving).await;
    assert_eq!(shop.pay().await, 201, "with room it goes on");
}

#[tokio::test]
async fn a_limit_below_a_segment_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (_sandbox, sandbox_url) = start_sandbox();
    let said = refusal(after("ulimit -f 128", directory.path(), &sandbox_url)).await;
    assert!(said.contains("disk is full") || said.contains("too large"), "{said}");
}

#[tokio::test]
async fn a_directory_that_may_not_be_written_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (_sandbox, sandbox_url) = start_sandbox();
    let mut serving = Serving::start(serve_command(directory.path(), &sandbox_url)).unwrap();
    let mut shop = Shop::new(&serving).await;
    for _ in 0..5 {
        assert_eq!(shop.pay().await, 201);
    }
    serving.process.kill();
    // Readable for everybody, writable for nobody; root may write all the same, so it becomes somebody else.
    let open_up = format!("chmod -R a+rX,a-w {}", directory.path().display());
    assert!(Command::new("sh").args(["-c", &open_up]).status().unwrap().success());
    let is_root = String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap().trim() == "0";
    let command = if is_root {
        // The binary itself may be where only root can reach it.
        let copied = directory.path().parent().unwrap().join(format!("tollgate-{}", std::process::id()));
        fs::copy(BINARY, &copied).unwrap();
        let plain = serve_command(directory.path(), &sandbox_url);
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copied).args(plain.get_args());
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap());
        }
        command
    } else {
        serve_command(directory.path(), &sandbox_url)
    };
    let said = refusal(command).await;
    assert!(said.contains("Permission denied") && said.contains("check who may write there"), "{said}");
    let writable = format!("chmod -R u+w {}", directory.path().display());
    assert!(Command::new("sh").args(["-c", &writable]).status().unwrap().success());
    let serving = Serving::start(serve_command(directory.path(), &sandbox_url)).unwrap();
    shop.has_everything(&serving).await;
}

/// The files beside the store: keys, tokens, the merchants' windows.
#[tokio::test]
async fn damage_beside_the_store_is_told_or_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let (_sandbox, sandbox_url) = start_sandbox();
    let mut serving = Serving::start(serve_command(directory.path(), &sandbox_url)).unwrap();
    let mut shop = Shop::new(&serving).await;
    for _ in 0..3 {
        assert_eq!(shop.pay().await, 201);
    }
    serving.process.kill();
    let mut names: Vec<String> = fs::read_dir(directory.path())
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(["master.key", "LOCK", "BALLAST"].iter().all(|name| names.iter().any(|found| found == name)), "{names:?}");
    for name in names {
        let bytes = fs::read(directory.path().join(&name)).unwrap();
        let mut cases: Vec<Option<Vec<u8>>> = vec![None, Some(Vec::new()), Some(bytes[..bytes.len() / 2].to_vec())];
        for place in [0, bytes.len() / 3, bytes.len().saturating_sub(2)] {
            let mut flipped = bytes.clone();
            if let Some(byte) = flipped.get_mut(place) {
                *byte ^= 1;
                cases.push(Some(flipped));
            }
        }
        for case in cases {
            let copy = tempfile::tempdir().unwrap();
            copy_into(directory.path(), copy.path());
            match &case {
                Some(bytes) => fs::write(copy.path().join(&name), bytes).unwrap(),
                None => fs::remove_file(copy.path().join(&name)).unwrap(),
            }
            match Serving::start(serve_command(copy.path(), &sandbox_url)) {
                Ok(serving) => {
                    assert_ne!(name, "master.key", "another key was taken");
                    shop.has_everything(&serving).await;
                }
                Err(said) => assert!(said.contains(&name) || said.contains("master key"), "{name}: {said}"),
            }
        }
    }
}
