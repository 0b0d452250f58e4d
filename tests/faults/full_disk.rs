//! The whole program on a disk that is really full: a small file system of its own, mounted where only this test and its
//! children see it. Where nothing may be mounted, it says so; a limit on the size of files (see `gateway`) is then all
//! that is tried.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::client::{self, Answer, Client};
use crate::gateway::{Shop, refusal, serve_command};
use crate::ledger::{self, Entries};
use crate::process::{Serving, start_sandbox};

const DISK_MIB: u64 = 64;
const LOW_SPACE_BYTES: u64 = 12 << 20;
/// Payments or captures that are with the provider while the disk fills up.
const IN_FLIGHT: usize = 5;
/// What is held, and what is taken of it.
const HELD: i64 = 500;
const TAKEN: i64 = 300;

/// Tests that could not be run on this machine.
static NOT_RUN: AtomicUsize = AtomicUsize::new(0);

/// A small file system, for as long as its holder lives.
struct SmallDisk {
    /// Ends with its standard input, so also when the test is killed; the mount goes with it.
    holder: Child,
    is_root: bool,
    place: tempfile::TempDir,
}

impl SmallDisk {
    /// A loop-mounted ext4, or else a tmpfs; `None` when neither may be mounted here.
    fn mount() -> Option<Self> {
        let id = Command::new("id").arg("-u").output().ok()?;
        let is_root = String::from_utf8(id.stdout).ok()?.trim() == "0";
        let make = format!("truncate -s {DISK_MIB}M image && mkfs.ext4 -q -F -m 0 image && mount -o loop image disk");
        let ways = [make, format!("mount -t tmpfs -o size={DISK_MIB}m tmpfs disk")];
        ways.iter().find_map(|way| Self::mount_by(way, is_root))
    }

    fn mount_by(way: &str, is_root: bool) -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("disk")).unwrap();
        let mut command = Command::new("unshare");
        command.arg("--mount").args((!is_root).then_some("--map-root-user")).args(["sh", "-c"]);
        command.arg(format!("({way}) >&2 && echo mounted && exec cat")).current_dir(place.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut holder = command.spawn().ok()?;
        let mut line = String::new();
        let _ = BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line);
        let disk = Self { holder, is_root, place };
        if line.trim() != "mounted" {
            return None;
        }
        eprintln!("a disk of {DISK_MIB} MiB: {way}");
        Some(disk)
    }

    /// The same, and a loud word when there is none.
    fn mount_or_say(test: &str) -> Option<Self> {
        let disk = Self::mount();
        if disk.is_none() {
            let count = NOT_RUN.fetch_add(1, Ordering::SeqCst) + 1;
            eprintln!(
                "NOT RUN ({count} so far): {test}: nothing may be mounted on this machine, so that no disk can be really \
                 full. Only the limit on the size of files was tried"
            );
        }
        disk
    }

    /// Where the gateway sees it.
    fn inside(&self) -> PathBuf {
        self.place.path().join("disk")
    }

    /// Where this process sees it.
    fn outside(&self) -> PathBuf {
        let inside = self.inside();
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside.strip_prefix("/").unwrap())
    }

    /// A gateway whose data are there.
    fn serve(&self, sandbox_url: &str, low_space_bytes: u64) -> Serving {
        Serving::start(self.command(sandbox_url, low_space_bytes)).unwrap()
    }

    fn command(&self, sandbox_url: &str, low_space_bytes: u64) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.id().to_string()).arg("--mount");
        if !self.is_root {
            command.args(["--user", "--preserve-credentials"]);
        }
        let plain = serve_command(&self.inside().join("data"), sandbox_url);
        command.arg("--").arg(plain.get_program()).args(plain.get_args());
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap());
        }
        command.env("TOLLGATE_STORAGE__LOW_SPACE_BYTES", low_space_bytes.to_string());
        command.env("TOLLGATE_CHANNELS__STRIPE__TIMEOUT_MS", "20000");
        command
    }

    fn free_bytes(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.outside()).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    /// Leaves so much room and no more.
    fn fill(&self, left_bytes: u64) {
        let mut file = File::options().create(true).append(true).open(self.outside().join("filler")).unwrap();
        for step in [1 << 20, 64 << 10, 4 << 10] {
            // What was removed before can be had only after its removal is on the disk, and a file's own sync sees to that only
            // where the file has changed.
            self.sync();
            let zeros = vec![0; step];
            // Bounded, because the gateway may give up what it holds back meanwhile.
            for _ in 0..DISK_MIB {
                if self.free_bytes() < left_bytes + step as u64 || file.write_all(&zeros).is_err() {
                    break;
                }
                let _ = file.sync_data();
            }
        }
    }

    /// Leaves no room for anything, for as long as nothing runs there that may give some up.
    fn fill_for_good(&self) {
        for _ in 0..100 {
            self.fill(0);
            self.sync();
            if self.free_bytes() < 4 << 10 {
                return;
            }
        }
        panic!("{} bytes are left over and over again", self.free_bytes());
    }

    fn sync(&self) {
        rustix::fs::syncfs(File::open(self.outside()).unwrap()).unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.outside().join("filler")).unwrap();
    }

    fn take_ballast(&self) {
        let _ = fs::remove_file(self.outside().join("data/BALLAST"));
    }

    /// Takes away what a start would take away: files that were being written when the process was killed. They can be large,
    /// and their room would let it open.
    fn take_unfinished_files(&self) {
        for folder in ["data", "data/journal", "data/base", "data/index"] {
            let Ok(files) = fs::read_dir(self.outside().join(folder)) else { continue };
            for file in files.map(|file| file.unwrap().path()) {
                let name = file.file_name().unwrap().to_string_lossy().into_owned();
                if name.ends_with(".tmp") || name.ends_with(".generating") {
                    fs::remove_file(file).unwrap();
                }
            }
        }
    }

    fn has_ballast(&self) -> bool {
        self.outside().join("data/BALLAST").exists()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

async fn set_latency(sandbox_url: &str, latency_ms: u64) {
    let faults = json!({ "latency_ms": latency_ms }).to_string();
    let http = client::http_client();
    let answer = client::send(&http, sandbox_url, "PUT", "/control/stripe", Some(faults), HashMap::new()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// Begins payments that the provider takes its time for. They are with it when this returns.
async fn begin_payments(
    shop: &Shop,
    sandbox_url: &str,
    serving: &Serving,
) -> Vec<tokio::task::JoinHandle<client::Answer>> {
    set_latency(sandbox_url, 4_000).await;
    let begun: Vec<_> = (0..IN_FLIGHT)
        .map(|number| {
            let client = shop.client.at(&serving.url);
            let order_no = format!("slow-{number}-{}", shop.paid.len());
            tokio::spawn(async move { client.pay(&order_no, 500, json!({ "channel": "stripe" })).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(700)).await;
    set_latency(sandbox_url, 0).await;
    begun
}

/// Each was answered, and is finished: what had begun needs no new room.
async fn finish_payments(shop: &mut Shop, begun: Vec<tokio::task::JoinHandle<client::Answer>>) {
    for payment in begun {
        let answer = payment.await.unwrap();
        assert!(matches!(answer.status, 201 | 202), "{}", answer.text);
        let payment_no = answer.data("payment_no").to_owned();
        shop.becomes_success(&payment_no).await;
        shop.paid.push(payment_no);
    }
}

/// Pays until it is refused with `code` and `is_over`; at most `payments`. There may be other reasons for a refusal, such as
/// an index that is being opened again after it had no room.
async fn pay_until_refused(shop: &mut Shop, payments: usize, code: &str, is_over: impl Fn() -> bool) {
    for _ in 0..payments {
        let answer = shop.try_pay().await;
        match answer.status {
            201 => {}
            // It is done, and could not be noted yet.
            202 => {
                let payment_no = answer.data("payment_no").to_owned();
                shop.becomes_success(&payment_no).await;
                shop.paid.push(payment_no);
            }
            503 => {
                assert_eq!(answer.code(), code, "{}", answer.text);
                if is_over() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            _ => panic!("{}", answer.text),
        }
    }
    panic!("nothing was refused in {payments} payments");
}

/// Tries until a payment is taken; the index looks for room again after half a minute at the latest.
async fn pay_again(shop: &mut Shop) {
    for _ in 0..600 {
        let answer = shop.try_pay().await;
        if answer.status == 201 {
            return;
        }
        assert_eq!(answer.status, 503, "{}", answer.text);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("with room it does not go on");
}

/// Money that is held; the path of the pre-auth.
async fn hold(shop: &Shop, number: usize) -> String {
    let body = json!({
        "order_no": format!("H-{number}"), "amount": HELD, "currency": "USD", "channel": "stripe",
        "payment_token": "tok_visa",
    });
    let answer = shop.client.post("/api/v1/pre-auths", body).await.expect(201, "SUCCESS");
    assert_eq!(answer.data("status"), "requires_capture", "{}", answer.text);
    format!("/api/v1/pre-auths/{}", answer.data("pre_auth_no"))
}

/// Takes a part of it, by the same request each time.
async fn capture(client: &Client, path: &str) -> Answer {
    client.post_with_key(&format!("{path}/capture"), json!({ "amount": TAKEN }), "the-capture").await
}

/// Each comes to be captured, in a minute, and its provider has taken the money once.
async fn are_captured_once(client: &Client, sandbox_url: &str, holds: &[String]) {
    for path in holds {
        let mut answer = client.get(path).await;
        for _ in 0..600 {
            if answer.data("status") == "captured" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            answer = client.get(path).await;
        }
        let amounts = (&answer.body["data"]["captured_amount"], &answer.body["data"]["released_amount"]);
        assert_eq!(answer.data("status"), "captured", "{}", answer.text);
        assert_eq!(amounts, (&json!(TAKEN), &json!(HELD - TAKEN)), "{}", answer.text);
        let there = ledger::read_all(&client::http_client(), sandbox_url).await;
        let expected = Entries { holds: vec![HELD], captures: vec![TAKEN], ..Entries::default() };
        assert_eq!(there.get(answer.data("pre_auth_no")), Some(&expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_is_captured_twice_and_the_books_agree() {
    let Some(disk) = SmallDisk::mount_or_say("a full disk during captures") else { return };
    let (_sandbox, sandbox_url) = start_sandbox();
    let mut serving = disk.serve(&sandbox_url, 0);
    let mut shop = Shop::new(&serving).await;
    let mut holds = Vec::new();
    for number in 0..2 * IN_FLIGHT {
        holds.push(hold(&shop, number).await);
    }
    let (begun, later) = holds.split_at(IN_FLIGHT);
    set_latency(&sandbox_url, 4_000).await;
    let under_way: Vec<_> = begun
        .iter()
        .map(|path| {
            let (client, path) = (shop.client.clone(), path.clone());
            tokio::spawn(async move { capture(&client, &path).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(700)).await;
    set_latency(&sandbox_url, 0).await;
    disk.fill(0);
    pay_until_refused(&mut shop, 3_000, "OVERLOADED", || !disk.has_ballast()).await;
    let mut answers = Vec::new();
    for path in later {
        answers.push(capture(&shop.client, path).await.status);
    }
    // Those that have begun are finished, or are to be noted when there is room.
    let mut begun_answers = Vec::new();
    for capture in under_way {
        begun_answers.push(capture.await.unwrap().status);
    }
    eprintln!("captures on a full disk: {begun_answers:?} under way, {answers:?} asked for then");
    assert!(begun_answers.iter().all(|status| matches!(status, 200 | 202)), "{begun_answers:?}");
    assert!(answers.iter().all(|status| matches!(status, 200 | 202 | 503)), "{answers:?}");
    are_captured_once(&shop.client, &sandbox_url, begun).await;
    disk.empty();
    pay_again(&mut shop).await;
    for path in &holds {
        let again = capture(&shop.client, path).await;
        assert!(matches!(again.status, 200 | 202), "{}", again.text);
    }
    are_captured_once(&shop.client, &sandbox_url, &holds).await;
    serving.process.kill();
    let serving = disk.serve(&sandbox_url, 0);
    let client = shop.client.at(&serving.url);
    shop.has_everything(&serving).await;
    are_captured_once(&client, &sandbox_url, &holds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_little_room_left_new_work_is_refused_and_what_has_begun_is_finished() {
    let Some(disk) = SmallDisk::mount_or_say("little room left") else { return };
    let (_sandbox, sandbox_url) = start_sandbox();
    let serving = disk.serve(&sandbox_url, LOW_SPACE_BYTES);
    let mut shop = Shop::new(&serving).await;
    for _ in 0..20 {
        assert_eq!(shop.pay().await, 201);
    }
    let begun = begin_payments(&shop, &sandbox_url, &serving).await;
    disk.fill(LOW_SPACE_BYTES / 2);
    // It is looked once a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    pay_until_refused(&mut shop, 200, "STORAGE_LOW", || true).await;
    finish_payments(&mut shop, begun).await;
    assert!(disk.has_ballast(), "it was not needed");
    shop.has_everything(&serving).await;
    assert_eq!(shop.try_pay().await.code(), "STORAGE_LOW");
    disk.empty();
    pay_again(&mut shop).await;
    shop.has_everything(&serving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_the_ballast_lets_what_has_begun_be_finished_and_nothing_is_lost() {
    let Some(disk) = SmallDisk::mount_or_say("a full disk") else { return };
    let (_sandbox, sandbox_url) = start_sandbox();
    let mut serving = disk.serve(&sandbox_url, 0);
    let mut shop = Shop::new(&serving).await;
    for _ in 0..20 {
        assert_eq!(shop.pay().await, 201);
    }
    for round in 0..2 {
        let begun = begin_payments(&shop, &sandbox_url, &serving).await;
        assert!(disk.has_ballast(), "round {round}");
        disk.fill(0);
        pay_until_refused(&mut shop, 3_000, "OVERLOADED", || !disk.has_ballast()).await;
        eprintln!("round {round}: full after {} payments, {} bytes left", shop.paid.len(), disk.free_bytes());
        finish_payments(&mut shop, begun).await;
        shop.has_everything(&serving).await;
        if round == 1 {
            break;
        }
        disk.empty();
        pay_again(&mut shop).await;
    }
    // Killed while it is full: without any room at all, not even a ballast that it had just got back, a start is refused,
    // and takes nothing away.
    serving.process.kill();
    disk.take_ballast();
    disk.take_unfinished_files();
    disk.fill_for_good();
    let said = refusal(disk.command(&sandbox_url, 0)).await;
    assert!(said.contains("the disk is full") && said.contains("make room"), "{said}");
    disk.empty();
    let serving = disk.serve(&sandbox_url, 0);
    shop.client.url.clone_from(&serving.url);
    shop.has_everything(&serving).await;
    pay_again(&mut shop).await;
}
