//! A restore drill: a real gateway is backed up while it works, goes on, loses its data directory, and is restored, to
//! the backup's end and to a point before it. The emulators run in a process of their own, because a provider does not
//! forget with us; in the end both books agree and a repeated order charges nobody twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "it/support/client.rs"]
#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
mod client;
#[path = "it/support/receiver.rs"]
#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
mod receiver;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use client::{Client, Key};
use receiver::Receiver;
use serde_json::{Value, json};
use sha2::Digest;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_tollgate");
const ADMIN_TOKEN: &str = "an-admin-token-for-tests";
const PAYMENTS: &str = "/api/v1/payments";
const PRE_AUTHS: &str = "/api/v1/pre-auths";
/// Channels whose providers have no list.
const WITHOUT_LIST: [&str; 3] = ["alipay", "crypto", "paypal"];

/// Longest time from one line of a process to the next until it is ready, and most lines until then.
const LINE_WITHIN: Duration = Duration::from_secs(60);
const LINES_MAX: usize = 1_000;

/// A child process that is killed when the test ends.
struct Process(Child);

impl Process {
    /// Starts a program and waits for the line that says that it is ready.
    fn start(mut command: Command, on_stdout: bool, ready: &str) -> (Self, String) {
        command.stdin(Stdio::null());
        let (stdout, stderr) =
            if on_stdout { (Stdio::piped(), Stdio::null()) } else { (Stdio::null(), Stdio::piped()) };
        let mut child = command.stdout(stdout).stderr(stderr).spawn().unwrap();
        let output: Box<dyn std::io::Read + Send> =
            if on_stdout { Box::new(child.stdout.take().unwrap()) } else { Box::new(child.stderr.take().unwrap()) };
        let process = Self(child);
        let (arrives, lines) = sync_channel(LINES_MAX);
        // Reads the rest away, too, so that the process never waits for its output.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = arrives.try_send(line);
            }
        });
        let mut seen = String::new();
        for _ in 0..LINES_MAX {
            match lines.recv_timeout(LINE_WITHIN) {
                Ok(line) if line.contains(ready) => return (process, line),
                Ok(line) => seen.push_str(&line),
                Err(error) => panic!("it has not said {ready:?} ({error}): {seen}"),
            }
        }
        panic!("it says much, and never {ready:?}: {seen}")
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Everything that a drill needs, for as long as it runs.
struct Drill {
    directory: TempDir,
    sandbox_url: String,
    _sandbox: Process,
}

struct Serving {
    process: Process,
    url: String,
    admin_url: String,
}

impl Drill {
    fn begin() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut command = Command::new(BINARY);
        command.args(["sandbox", "--listen", "127.0.0.1:0"]);
        let (sandbox, control) = Process::start(command, true, "control");
        let sandbox_url = control.split_whitespace().last().unwrap().trim_end_matches("/control").to_owned();
        Self { directory: tempfile::tempdir().unwrap(), sandbox_url, _sandbox: sandbox }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn serve(&self) -> Serving {
        // Payments that name no channel go to Stripe first.
        let rules = "[routing]\nsmart = false\n[[rules]]\nname = \"all\"\nchannels = [\"stripe\", \"alipay\"]\n";
        std::fs::write(self.path("config.toml"), rules).unwrap();
        let mut command = Command::new(BINARY);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.path("data"))
            .arg("--config")
            .arg(self.path("config.toml"))
            .env("TOLLGATE_ADMIN_TOKEN", ADMIN_TOKEN)
            .env("TOLLGATE_SANDBOX__URL", format!("\"{}\"", self.sandbox_url))
            .env("TOLLGATE_PAYMENTS__RESOLVE_FIRST_MS", "50")
            .env("TOLLGATE_PAYMENTS__RESOLVE_EARLY_MAX_MS", "200")
            .env("TOLLGATE_PAYMENTS__SETTLING_MS", "1000")
            .env("TOLLGATE_CHANNELS__STRIPE__TIMEOUT_MS", "1000")
            .env("TOLLGATE_CHANNELS__ALIPAY__TIMEOUT_MS", "1000")
            .env("TOLLGATE_WEBHOOK__ALLOWED_PRIVATE_NETWORKS", "[\"127.0.0.0/8\"]")
            .env("TOLLGATE_LIMITS__ADAPTIVE__ENABLED", "false")
            .env("TOLLGATE_STORAGE__SEGMENT_BYTES", "4194304")
            .env("TOLLGATE_STORAGE__GROUP_BYTES_MAX", "1048576")
            .env("TOLLGATE_TELEMETRY__FORMAT", "\"json\"");
        let (process, line) = Process::start(command, false, "\"ready\"");
        let ready: Value = serde_json::from_str(&line).unwrap();
        let address = |name: &str| {
            let found = ready["fields"][name].as_str().or_else(|| ready[name].as_str());
            format!("http://{}", found.unwrap_or_else(|| panic!("no {name} in {line}")))
        };
        Serving { url: address("listen"), admin_url: address("admin_listen"), process }
    }

    /// `tollgate store …`
    fn store(&self, arguments: &[&str]) -> Output {
        Command::new(BINARY)
            .arg("store")
            .args(arguments)
            .args(["--data-dir", self.path("data").to_str().unwrap()])
            .env("TOLLGATE_ADMIN_TOKEN", ADMIN_TOKEN)
            .current_dir(self.path("."))
            .output()
            .unwrap()
    }

    fn backup(&self, serving: &Serving, name: &str) -> Value {
        let destination = self.path(name);
        let arguments = ["backup", destination.to_str().unwrap(), "--admin-url", &serving.admin_url];
        let output = self.store(&arguments);
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("master key is not in it"));
        let key = std::fs::read_to_string(self.path("data").join("master.key")).unwrap();
        for file in files_below(&destination) {
            let bytes = std::fs::read(&file).unwrap();
            let needle = key.trim().as_bytes();
            assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{}", file.display());
        }
        let verified = self.store(&["verify", destination.to_str().unwrap()]);
        assert!(verified.status.success(), "{verified:?}");
        serde_json::from_slice(&std::fs::read(destination.join("manifest.json")).unwrap()).unwrap()
    }

    fn master_key(&self) -> String {
        std::fs::read_to_string(self.path("data").join("master.key")).unwrap()
    }

    /// Loses the data directory, but for the master key, which was kept elsewhere, and restores it.
    fn lose_and_restore(&self, backup: &str, until: Option<u64>) {
        let key = self.master_key();
        self.lose_and_restore_with(backup, until, &key);
    }

    fn lose_and_restore_with(&self, backup: &str, until: Option<u64>, key: &str) {
        std::fs::remove_dir_all(self.path("data")).unwrap();
        let backup = self.path(backup);
        let until = until.map(|sequence| sequence.to_string());
        let mut arguments = vec!["restore", backup.to_str().unwrap()];
        if let Some(until) = &until {
            arguments.extend(["--until", until]);
        }
        let output = self.store(&arguments);
        assert!(output.status.success(), "{output:?}");
        std::fs::write(self.path("data").join("master.key"), key).unwrap();
    }

    /// Starts the gateway and waits until it has refused to; gives back what it said.
    fn refused(&self) -> String {
        let output = Command::new(BINARY)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.path("data"))
            .env("TOLLGATE_SANDBOX__URL", format!("\"{}\"", self.sandbox_url))
            .output()
            .unwrap();
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// What the emulated provider has done for real, by our number.
    async fn ledger(&self, operation: &str) -> HashMap<String, Vec<i64>> {
        self.ledger_of("stripe", operation).await
    }

    async fn ledger_of(&self, channel: &str, operation: &str) -> HashMap<String, Vec<i64>> {
        let url = format!("{}/control/{channel}/ledger", self.sandbox_url);
        let text = client::http_client().get(url).send().await.unwrap().text().await.unwrap();
        let ledger: Value = serde_json::from_str(&text).unwrap();
        let items = ledger["items"].as_array().or_else(|| ledger["data"]["items"].as_array());
        let mut found: HashMap<String, Vec<i64>> = HashMap::new();
        for item in items.unwrap_or_else(|| panic!("{text}")) {
            if item["operation"] == operation {
                let reference = item["reference"].as_str().unwrap().to_owned();
                found.entry(reference).or_default().push(item["amount_minor"].as_i64().unwrap());
            }
        }
        found
    }
}

impl Drill {
    /// The operator has compared all channels that have no list.
    async fn confirm(&self, serving: &Serving) {
        for channel in WITHOUT_LIST {
            let confirmed = self.store(&["confirm", channel, "--admin-url", &serving.admin_url]);
            assert!(confirmed.status.success(), "{confirmed:?}");
        }
        eventually("the end of the hold", || async {
            (admin(serving, "GET", "/admin/v1/hold", None).await["held"] == false).then_some(())
        })
        .await;
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

async fn admin(serving: &Serving, method: &str, path: &str, body: Option<Value>) -> Value {
    let headers = HashMap::from([("authorization".to_owned(), format!("Bearer {ADMIN_TOKEN}"))]);
    let body = body.map(|body| body.to_string());
    let answer = client::send(&client::http_client(), &serving.admin_url, method, path, body, headers).await;
    assert!(answer.status < 300, "{path}: {}", answer.text);
    answer.body["data"].clone()
}

async fn merchant(serving: &Serving) -> Client {
    let made = admin(serving, "POST", "/admin/v1/merchants", Some(json!({ "name": "drill", "tier": "premium" }))).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let key = Key { id: text(&made["key"]["id"]), secret: text(&made["key"]["secret"]) };
    Client::new(&serving.url, key, made["merchant_id"].as_str().unwrap())
}

fn order(order_no: &str, token: &str) -> Value {
    json!({ "order_no": order_no, "amount": 900, "currency": "USD", "channel": "stripe", "payment_token": token })
}

/// Pays and returns the number.
async fn pay(shop: &Client, order_no: &str, token: &str) -> String {
    let answer = shop.post_with_key(PAYMENTS, order(order_no, token), &format!("k-{order_no}")).await;
    assert!(answer.status < 300, "{}", answer.text);
    answer.data("payment_no").to_owned()
}

async fn refund(shop: &Client, payment_no: &str, amount: i64, key: &str) -> String {
    let path = format!("{PAYMENTS}/{payment_no}/refunds");
    let answer = shop.post_with_key(&path, json!({ "amount": amount }), key).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.data("refund_no").to_owned()
}

async fn payment(shop: &Client, payment_no: &str) -> Option<Value> {
    let answer = shop.get(&format!("{PAYMENTS}/{payment_no}")).await;
    (answer.status == 200).then(|| answer.body["data"].clone())
}

/// A restarted gateway admits nobody until it knows the limits' state again.
async fn admitted(shop: &Client) {
    eventually("the admission", || async {
        (shop.get(&format!("{PAYMENTS}?limit=1")).await.status == 200).then_some(())
    })
    .await;
}

async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    for _ in 0..600 {
        if let Some(found) = ask().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not happen within thirty seconds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_after_the_restore_point_is_made_again_and_never_charged_twice() {
    let drill = Drill::begin();
    let receiver = Receiver::start().await;
    let mut serving = drill.serve();
    let mut shop = merchant(&serving).await;
    let endpoint = shop.post("/api/v1/webhooks/endpoints", json!({ "url": receiver.url })).await;
    assert_eq!(endpoint.status, 201, "{}", endpoint.text);
    let early = pay(&shop, "O-early", "tok_visa").await;
    let early_point = drill.backup(&serving, "first")["last_sequence"].as_u64().unwrap();
    let middle = pay(&shop, "O-middle", "tok_visa").await;
    let whole = drill.backup(&serving, "second");
    assert!(early_point < whole["last_sequence"].as_u64().unwrap());
    let refused = drill.store(&["backup", drill.path("second").to_str().unwrap(), "--admin-url", &serving.admin_url]);
    assert!(!refused.status.success(), "a backup is never overwritten");

    let late = pay(&shop, "O-late", "tok_visa").await;
    let declined = pay(&shop, "O-declined", "tok_declined").await;
    let again = pay(&shop, "O-declined-2", "tok_visa").await;
    let late_refund = refund(&shop, &early, 250, "r-early").await;
    refund(&shop, &late, 100, "r-late").await;

    for (backup, until) in [("second", None), ("second", Some(early_point))] {
        serving.process.kill();
        drill.lose_and_restore(backup, until);
        let told_before = receiver.deliveries().len();
        serving = drill.serve();
        shop.url.clone_from(&serving.url);
        admitted(&shop).await;
        let answer = shop.post_with_key(PAYMENTS, order("O-new", "tok_visa"), "k-new").await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (503, Some("HELD")), "{}", answer.text);
        assert!(payment(&shop, &early).await.is_some(), "reading goes on");
        let hold = eventually("the comparison with stripe", || async {
            let hold = admin(&serving, "GET", "/admin/v1/hold", None).await;
            let channels = hold["channels"].as_array().unwrap().clone();
            let state = |name: &str| channels.iter().find(|row| row["channel"] == name).unwrap()["state"].clone();
            (state("stripe") == "checked" && state("alipay") == "needs_confirmation").then_some(hold)
        })
        .await;
        let stripe = hold["channels"].as_array().unwrap().iter().find(|row| row["channel"] == "stripe").unwrap();
        assert_eq!(stripe["items"], json!([]), "{stripe}");
        assert!(stripe["adopted"].as_u64().unwrap() >= 4, "{stripe}");
        drill.confirm(&serving).await;

        for (number, status) in [(&early, "success"), (&middle, "success"), (&late, "success"), (&again, "success")] {
            let found = payment(&shop, number).await.unwrap_or_else(|| panic!("{number} is gone"));
            assert_eq!((found["status"].as_str(), found["amount"].as_i64()), (Some(status), Some(900)), "{found}");
        }
        assert_eq!(payment(&shop, &declined).await.unwrap()["status"], "failed");
        let refunds = shop.get(&format!("{PAYMENTS}/{early}/refunds")).await;
        assert_eq!(refunds.items()[0]["refund_no"], late_refund.as_str());
        assert_eq!(payment(&shop, &early).await.unwrap()["refunded_amount"], 250);
        assert_eq!(payment(&shop, &late).await.unwrap()["refunded_amount"], 100);
        for order_no in ["O-early", "O-middle", "O-late", "O-declined-2"] {
            let repeated =
                shop.post_with_key(PAYMENTS, order(order_no, "tok_visa"), &format!("again-{order_no}")).await;
            assert_eq!(repeated.status, 409, "{}", repeated.text);
        }
        eventually("the webhooks of what was made again", || async {
            let told: Vec<String> =
                receiver.deliveries()[told_before..].iter().map(|delivery| delivery.body.to_string()).collect();
            [&late, &again].iter().all(|number| told.iter().any(|body| body.contains(number.as_str()))).then_some(())
        })
        .await;
    }
    let charges = drill.ledger("charge").await;
    assert_eq!(charges.len(), 4, "{charges:?}");
    assert!(charges.values().all(|amounts| *amounts == [900]), "{charges:?}");
    let refunds = drill.ledger("refund").await;
    assert_eq!(refunds, HashMap::from([(early, vec![250]), (late, vec![100])]));
    let paid = shop.post_with_key(PAYMENTS, order("O-new", "tok_visa"), "k-new").await;
    assert_eq!(paid.status, 201, "{}", paid.text);
}

/// Has money held and returns the number.
async fn hold(shop: &Client, order_no: &str) -> String {
    let body = order(order_no, "tok_visa");
    let answer = shop.post_with_key(PRE_AUTHS, body, &format!("h-{order_no}")).await;
    assert_eq!((answer.status, answer.data("status")), (201, "requires_capture"), "{}", answer.text);
    answer.data("pre_auth_no").to_owned()
}

async fn change_hold(shop: &Client, pre_auth_no: &str, what: &str, body: Value) -> client::Answer {
    shop.post_with_key(&format!("{PRE_AUTHS}/{pre_auth_no}/{what}"), body, &format!("{what}-{pre_auth_no}")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_are_asked_about_and_made_again_and_nothing_is_captured_twice() {
    let drill = Drill::begin();
    let mut serving = drill.serve();
    let mut shop = merchant(&serving).await;
    let (taken, let_go, kept) =
        (hold(&shop, "O-taken").await, hold(&shop, "O-let-go").await, hold(&shop, "O-kept").await);
    drill.backup(&serving, "backup");
    // Behind the restore point: what is there goes on, and more is held.
    let captured = change_hold(&shop, &taken, "capture", json!({ "amount": 400 })).await;
    assert_eq!(captured.data("status"), "captured", "{}", captured.text);
    let canceled = change_hold(&shop, &let_go, "cancel", json!({})).await;
    assert_eq!(canceled.data("status"), "canceled", "{}", canceled.text);
    let late = hold(&shop, "O-late").await;
    let late_taken = hold(&shop, "O-late-taken").await;
    change_hold(&shop, &late_taken, "capture", json!({})).await;
    let refunded = change_hold(&shop, &late_taken, "refunds", json!({ "amount": 250 })).await;
    assert_eq!(refunded.data("status"), "success", "{}", refunded.text);

    serving.process.kill();
    drill.lose_and_restore("backup", None);
    serving = drill.serve();
    shop.url.clone_from(&serving.url);
    admitted(&shop).await;
    let refused = shop.post_with_key(PRE_AUTHS, order("O-new", "tok_visa"), "h-new").await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (503, Some("HELD")), "{}", refused.text);
    let refused = change_hold(&shop, &kept, "capture", json!({})).await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (503, Some("HELD")), "{}", refused.text);
    eventually("the comparison with stripe", || async {
        (held_state(&serving, "stripe").await["state"] == "checked").then_some(())
    })
    .await;
    let stripe = held_state(&serving, "stripe").await;
    assert_eq!((&stripe["items"], stripe["pre_auths"].as_u64()), (&json!([]), Some(6)), "{stripe}");
    drill.confirm(&serving).await;

    let status_of = async |number: &str| {
        let found = shop.get(&format!("{PRE_AUTHS}/{number}")).await;
        let amount = |name: &str| found.body["data"][name].as_i64();
        (found.data("status").to_owned(), amount("captured_amount"), amount("refunded_amount"))
    };
    let is = |status: &str, captured: i64, refunded: i64| (status.to_owned(), Some(captured), Some(refunded));
    assert_eq!(status_of(&taken).await, is("captured", 400, 0));
    assert_eq!(status_of(&let_go).await, is("canceled", 0, 0));
    assert_eq!(status_of(&kept).await, is("requires_capture", 0, 0));
    assert_eq!(status_of(&late).await, is("requires_capture", 0, 0));
    assert_eq!(status_of(&late_taken).await, is("captured", 900, 250));
    for (number, amount) in [(&kept, 500), (&late, 600)] {
        let path = format!("{PRE_AUTHS}/{number}/capture");
        let captured = shop.post_with_key(&path, json!({ "amount": amount }), "once-more").await;
        assert_eq!(captured.data("status"), "captured", "{}", captured.text);
    }
    let holds = drill.ledger("hold").await;
    assert!(holds.len() == 5 && holds.values().all(|amounts| *amounts == [900]), "{holds:?}");
    let expected = [(taken, vec![400]), (kept, vec![500]), (late, vec![600]), (late_taken.clone(), vec![900])];
    assert_eq!(drill.ledger("capture").await, HashMap::from(expected));
    assert_eq!(drill.ledger("void").await, HashMap::from([(let_go, vec![900])]));
    assert_eq!(drill.ledger("refund").await, HashMap::from([(late_taken, vec![250])]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_touches_nothing_that_is_there_and_takes_no_damaged_backup() {
    let drill = Drill::begin();
    let mut serving = drill.serve();
    let shop = merchant(&serving).await;
    pay(&shop, "O-1", "tok_visa").await;
    let manifest = drill.backup(&serving, "backup");
    serving.process.kill();
    let backup = drill.path("backup");
    let refused = |arguments: &[&str], word: &str| {
        let output = drill.store(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(word), "{output:?}");
    };
    refused(&["restore", backup.to_str().unwrap()], "not empty");
    std::fs::rename(drill.path("data"), drill.path("elsewhere")).unwrap();
    let beyond = (manifest["last_sequence"].as_u64().unwrap() + 1).to_string();
    refused(&["restore", backup.to_str().unwrap(), "--until", &beyond], "can be restored to sequences");
    refused(&["restore", backup.to_str().unwrap(), "--until", "2001-01-01T00:00:00Z"], "can be restored to sequences");
    assert!(!drill.path("data").exists() && !drill.path("data.restoring").exists());
    let segment = backup.join(manifest["files"][0]["path"].as_str().unwrap());
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    refused(&["verify", backup.to_str().unwrap()], "not as it was");
    refused(&["restore", backup.to_str().unwrap()], "not as it was");
    std::fs::remove_file(backup.join("manifest.json")).unwrap();
    refused(&["verify", backup.to_str().unwrap()], "manifest.json");
    assert!(!drill.path("data").exists());

    std::fs::rename(drill.path("elsewhere"), drill.path("data")).unwrap();
    let offline = drill.path("offline");
    let output = drill.store(&["backup", offline.to_str().unwrap(), "--offline"]);
    assert!(output.status.success(), "{output:?}");
    assert!(drill.store(&["verify", offline.to_str().unwrap()]).status.success());
    let _serving = drill.serve();
    let other = drill.path("other");
    refused(&["backup", other.to_str().unwrap(), "--offline"], "another process has it open");
}

/// How the hold of one channel stands.
async fn held_state(serving: &Serving, channel: &str) -> Value {
    let hold = admin(serving, "GET", "/admin/v1/hold", None).await;
    hold["channels"].as_array().unwrap().iter().find(|row| row["channel"] == channel).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_charged_elsewhere_after_a_refusal_is_found_though_that_provider_has_no_list() {
    let drill = Drill::begin();
    let mut serving = drill.serve();
    let mut shop = merchant(&serving).await;
    pay(&shop, "O-early", "tok_visa").await;
    drill.backup(&serving, "backup");
    // Stripe refuses it through a fault of its own, so that Alipay is asked, and charges.
    let order =
        json!({ "order_no": "O-moved", "amount": 900, "currency": "USD", "payment_token": "tok_processing_error" });
    let answer = shop.post_with_key(PAYMENTS, order.clone(), "k-moved").await;
    assert_eq!((answer.status, answer.data("channel")), (201, "alipay"), "{}", answer.text);
    let moved = answer.data("payment_no").to_owned();
    assert_eq!(drill.ledger_of("alipay", "charge").await[&moved], [900]);

    serving.process.kill();
    drill.lose_and_restore("backup", None);
    serving = drill.serve();
    shop.url.clone_from(&serving.url);
    admitted(&shop).await;
    eventually("the comparison with stripe", || async {
        (held_state(&serving, "stripe").await["state"] == "checked").then_some(())
    })
    .await;
    // Before the operator has said anything about Alipay.
    let found = payment(&shop, &moved).await.expect("the payment is made again");
    assert_eq!((found["status"].as_str(), found["channel"].as_str()), (Some("success"), Some("alipay")), "{found}");
    assert_eq!(held_state(&serving, "alipay").await["adopted"], 1);
    drill.confirm(&serving).await;
    let repeated = shop.post_with_key(PAYMENTS, order, "k-again").await;
    assert_eq!(repeated.status, 409, "its order is paid: {}", repeated.text);
    assert_eq!(drill.ledger_of("alipay", "charge").await[&moved], [900]);
    let ended = admin(&serving, "GET", "/admin/v1/audit?action=hold.end", None).await;
    assert_eq!(ended["items"][0]["actor"], "hold", "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_key_is_rotated_while_the_gateway_runs_and_older_backups_name_their_key() {
    let drill = Drill::begin();
    let receiver = Receiver::start().await;
    let mut serving = drill.serve();
    let mut shop = merchant(&serving).await;
    let made = shop.post_with_key("/api/v1/webhooks/endpoints", json!({ "url": receiver.url }), "k-endpoint").await;
    let secret = made.data("secret").to_owned();
    drill.backup(&serving, "before");
    let old = drill.master_key();

    let rotate = ["rotate-key", "--admin-url", &serving.admin_url.clone()];
    let output = drill.store(&rotate);
    let said = String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned();
    assert!(output.status.success() && said.contains("master.key.old-"), "{said}");
    let new = drill.master_key();
    assert!(new != old && new.lines().count() == 1);
    assert!(!said.contains(old.trim()) && !said.contains(new.trim()), "a key was printed");
    let audited = admin(&serving, "GET", "/admin/v1/audit?action=master_key.rotate", None).await;
    assert_eq!(audited["items"].as_array().unwrap().len(), 1, "{audited}");

    // The same process, and then the next one: API keys, webhooks' secrets and kept answers open.
    for (order_no, restart) in [("O-1", false), ("O-2", true)] {
        if restart {
            serving.process.kill();
            serving = drill.serve();
            shop.url.clone_from(&serving.url);
            admitted(&shop).await;
        }
        let paid = pay(&shop, order_no, "tok_visa").await;
        let delivery = eventually("the webhook", || async { receiver.about(&paid).first().cloned() }).await;
        delivery.verify(&secret).unwrap();
        let again =
            shop.post_with_key("/api/v1/webhooks/endpoints", json!({ "url": receiver.url }), "k-endpoint").await;
        assert_eq!(again.text, made.text);
    }
    // Offline, the same steps.
    serving.process.kill();
    let output = drill.store(&["rotate-key", "--offline"]);
    assert!(output.status.success(), "{output:?}");
    let newest = drill.master_key();
    assert!(newest != new);

    // A backup from before names the key that it needs, and opens with it.
    drill.lose_and_restore_with("before", None, &newest);
    let said = drill.refused();
    let id = &hex::encode(sha2::Sha256::digest(hex::decode(old.trim()).unwrap()))[..16];
    assert!(said.contains(id) && said.contains(&format!("master.key.old-{id}")), "{said}");
    assert!(!said.contains(old.trim()) && !said.contains(newest.trim()));
    std::fs::write(drill.path("data").join("master.key"), &old).unwrap();
    serving = drill.serve();
    shop.url.clone_from(&serving.url);
    admitted(&shop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_looked_at_checked_and_moved_by_an_export() {
    let drill = Drill::begin();
    let mut serving = drill.serve();
    let mut shop = merchant(&serving).await;
    let payment_no = pay(&shop, "O-1", "tok_visa").await;
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let done = |arguments: &[&str]| {
        let output = drill.store(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output
    };
    let refused = |arguments: &[&str], code: i32, word: &str| {
        let output = drill.store(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &text(&output);
        assert!(output.status.code() == Some(code) && said.contains(word), "{arguments:?}: {output:?}");
    };

    let status = done(&["status", "--json", "--admin-url", &serving.admin_url]);
    let online: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&online["in_use"], &online["held"], &online["poisoned"]), (&json!(true), &json!(false), &Value::Null));
    assert!(online["committed_sequence"].as_u64().unwrap() > 2 && online["free_bytes"].as_u64().is_some(), "{online}");
    let table = text(&done(&["status", "--admin-url", &serving.admin_url]));
    assert!(table.contains("committed") && table.contains("journal segments"), "{table}");
    let beside: Value = serde_json::from_slice(&done(&["status", "--offline", "--json"]).stdout).unwrap();
    assert_eq!((&beside["in_use"], &beside["accepts_new"]), (&json!(true), &Value::Null));
    refused(&["verify"], 1, "verify a backup");
    let online_file = drill.path("online.tgx");
    done(&["export", online_file.to_str().unwrap(), "--admin-url", &serving.admin_url]);
    refused(&["export", online_file.to_str().unwrap(), "--admin-url", &serving.admin_url], 1, "is there");
    let actions = admin(&serving, "GET", "/admin/v1/audit?action=store.export", None).await;
    assert_eq!(actions["items"].as_array().unwrap().len(), 2);

    serving.process.kill();
    let verified: Value = serde_json::from_slice(&done(&["verify", "--json"]).stdout).unwrap();
    assert_eq!((&verified["kind"], &verified["audit"]["intact"]), (&json!("data directory"), &json!(true)));
    let anchor = format!("{}:{}", verified["audit"]["number"], verified["audit"]["hash"].as_str().unwrap());
    done(&["verify", "--anchor", &anchor]);
    let other = format!("{}:{}", verified["audit"]["number"], "0".repeat(64));
    refused(&["verify", "--anchor", &other], 1, "can't be trusted");
    refused(&["verify", "--anchor", "7"], 2, "hexadecimal");
    refused(&["verify", drill.path("nowhere").to_str().unwrap()], 2, "is not there");
    let offline_file = drill.path("offline.tgx");
    done(&["export", offline_file.to_str().unwrap(), "--offline"]);
    // A name alone is a file of this directory.
    done(&["export", "alone.tgx", "--offline"]);
    assert_eq!(std::fs::read(drill.path("alone.tgx")).unwrap(), std::fs::read(&offline_file).unwrap());
    refused(&["export", "data/HELD", "--offline"], 2, "in the data directory");
    refused(&["backup", "data/backup", "--offline"], 2, "in the data directory");
    let exported = text(&done(&["verify", offline_file.to_str().unwrap()]));
    assert!(exported.contains("export") && exported.contains("rows"), "{exported}");

    let segments = std::fs::read_dir(drill.path("data").join("journal")).unwrap();
    let mut segments: Vec<PathBuf> = segments.map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    let whole = std::fs::read(&segments[0]).unwrap();
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    std::fs::write(&segments[0], damaged).unwrap();
    refused(&["verify"], 1, "at byte 32");
    std::fs::write(&segments[0], whole).unwrap();

    refused(&["import", offline_file.to_str().unwrap()], 2, "not empty");
    let key = std::fs::read(drill.path("data").join("master.key")).unwrap();
    std::fs::rename(drill.path("data"), drill.path("before")).unwrap();
    let imported = text(&done(&["import", offline_file.to_str().unwrap()]));
    assert!(imported.contains("opens held") && imported.contains("master.key"), "{imported}");
    std::fs::write(drill.path("data").join("master.key"), key).unwrap();
    assert!(text(&done(&["verify"])).contains("held"));
    let serving = drill.serve();
    shop.url.clone_from(&serving.url);
    admitted(&shop).await;
    assert_eq!(payment(&shop, &payment_no).await.unwrap()["status"], "success");
    let answer = shop.post_with_key(PAYMENTS, order("O-2", "tok_visa"), "k-2").await;
    assert_eq!((answer.status, answer.body["code"].as_str()), (503, Some("HELD")), "{}", answer.text);
    let status: Value =
        serde_json::from_slice(&done(&["status", "--json", "--admin-url", &serving.admin_url]).stdout).unwrap();
    assert_eq!(status["held"], true);
    let while_held = drill.path("held.tgx");
    refused(&["export", while_held.to_str().unwrap(), "--admin-url", &serving.admin_url], 1, "held");
}
