//! What a stop, a crash or a damaged directory leaves: everything acknowledged, or a refusal that says what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tollgate::clock::Clock;
use tollgate::config::{Config, Mode};
use tollgate::random::Random;
use tollgate::sandbox::{Sandbox, SandboxOptions, serve_control};
use tollgate::storage::whole_file::WholeFile;

use crate::support::{Client, House, Receiver, eventually, http_client};

const PAYMENTS: &str = "/api/v1/payments";
const FRAME: &[u8] = b"TGFRAME1";

/// Emulators that go on while the gateway is restarted, as providers do. Ends with the test's runtime.
async fn separate_sandbox() -> (Arc<Sandbox>, String) {
    let sandbox = Sandbox::start(SandboxOptions::new(Clock::system(), Random::from_os())).unwrap();
    let sandbox = Arc::new(sandbox);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve_control(listener, Arc::clone(&sandbox), std::future::pending()));
    (sandbox, url)
}

fn with_sandbox(url: &str) -> impl Fn(&mut Config) + use<> {
    let url = url.to_owned();
    move |config| config.sandbox.as_mut().unwrap().url = Some(url.clone())
}

/// Why a gateway does not open on a directory.
async fn refusal(data: &Path, change: impl FnOnce(&mut Config)) -> String {
    match House::open(data, change).await {
        Ok(_) => panic!("{} was opened", data.display()),
        Err(error) => error.to_string(),
    }
}

/// Everything that a merchant can read of a payment.
async fn all_about(shop: &Client, number: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for path in ["", "/routing", "/refunds"] {
        let answer = shop.get(&format!("{PAYMENTS}/{number}{path}")).await.expect(200, "SUCCESS");
        all.push(answer.body["data"].clone());
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_as_it_was() {
    let (sandbox, url) = separate_sandbox().await;
    let house = House::start_with(with_sandbox(&url)).await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    let endpoint = shop.post("/api/v1/webhooks/endpoints", json!({ "url": receiver.url })).await.expect(201, "SUCCESS");
    let body = json!({ "order_no": "O-1", "amount": 900, "currency": "USD", "metadata": { "table": "7" } });
    let paid = shop.post_with_key(PAYMENTS, body.clone(), "k-1").await.expect(201, "SUCCESS");
    let declined = shop.pay("O-2", 900, json!({ "payment_token": "tok_declined" })).await.expect(201, "SUCCESS");
    let refunds = format!("{PAYMENTS}/{}/refunds", paid.data("payment_no"));
    let refund = shop.post_with_key(&refunds, json!({ "amount": 300 }), "k-2").await.expect(201, "SUCCESS");
    eventually("the webhooks", || async { (receiver.deliveries().len() == 3).then_some(()) }).await;
    let settled = "/api/v1/webhooks/notifications?status=success";
    eventually("their ends", || async { (shop.get(settled).await.items().len() == 3).then_some(()) }).await;
    let lists = [PAYMENTS, "/api/v1/events", "/api/v1/webhooks/endpoints", "/api/v1/webhooks/notifications"];
    let mut before = Vec::new();
    for number in [paid.data("payment_no"), declined.data("payment_no")] {
        before.extend(all_about(&shop, number).await);
    }
    for list in lists {
        before.push(shop.get(list).await.expect(200, "SUCCESS").body["data"].clone());
    }
    let merchants = house.admin("GET", "/admin/v1/merchants", None).await.body["data"].clone();

    let mut directory = house.stop().await;
    for _ in 0..2 {
        let house = House::start_in(directory, with_sandbox(&url)).await;
        let shop = shop.at(&house.url);
        let mut after = Vec::new();
        for number in [paid.data("payment_no"), declined.data("payment_no")] {
            after.extend(all_about(&shop, number).await);
        }
        for list in lists {
            after.push(shop.get(list).await.expect(200, "SUCCESS").body["data"].clone());
        }
        assert_eq!(after, before);
        assert_eq!(house.admin("GET", "/admin/v1/merchants", None).await.body["data"], merchants);
        let again = shop.post_with_key(PAYMENTS, body.clone(), "k-1").await;
        assert_eq!((again.status, &again.text, again.header("idempotent-replayed")), (201, &paid.text, "true"));
        let again = shop.post_with_key(&refunds, json!({ "amount": 300 }), "k-2").await;
        assert_eq!((again.status, &again.text), (201, &refund.text));
        let other = json!({ "order_no": "O-1", "amount": 901, "currency": "USD" });
        shop.post_with_key(PAYMENTS, other, "k-1").await.expect(422, "IDEMPOTENCY_MISMATCH");
        shop.pay("O-1", 900, json!({})).await.expect(409, "ORDER_EXISTS");
        directory = house.stop().await;
    }
    let house = House::start_in(directory, with_sandbox(&url)).await;
    let shop = shop.at(&house.url);
    let rest = shop.post_with_key(&refunds, json!({}), "k-3").await.expect(201, "SUCCESS");
    assert_eq!(rest.body["data"]["amount"], 600);
    let told = eventually("the next webhook", || async { receiver.deliveries().get(3).cloned() }).await;
    told.verify(endpoint.data("secret")).unwrap();
    assert_eq!(receiver.deliveries().len(), 4, "nothing was sent twice");
    let charges = ["stripe", "alipay"].iter().flat_map(|channel| sandbox.ledger(channel).unwrap());
    let charges = charges.map(|entry| serde_json::to_value(entry).unwrap());
    assert_eq!(charges.filter(|entry| entry["operation"] == "charge").count(), 1);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_waits_for_its_payer_goes_on_waiting() {
    let (_sandbox, url) = separate_sandbox().await;
    let house = House::start_with(with_sandbox(&url)).await;
    let shop = house.merchant("premium").await;
    let mut waiting = Vec::new();
    for channel in ["stripe", "alipay"] {
        for deed in ["approve", "decline", "cancel"] {
            let more = json!({ "channel": channel, "payment_token": "tok_3ds", "currency": "CNY" });
            let waits = shop.pay(&format!("{channel}-{deed}"), 900, more).await.expect(201, "SUCCESS");
            assert_eq!(waits.data("status"), "requires_action");
            waiting.push((deed, waits));
        }
    }
    let directory = house.stop().await;
    let house = House::start_in(directory, with_sandbox(&url)).await;
    let shop = shop.at(&house.url);
    let http = http_client();
    for (deed, waits) in waiting {
        let path = format!("{PAYMENTS}/{}", waits.data("payment_no"));
        let read = shop.get(&path).await.expect(200, "SUCCESS");
        assert_eq!(read.data("status"), "requires_action", "{}", read.text);
        assert_eq!(read.body["data"]["next_action"], waits.body["data"]["next_action"]);
        let order = waits.data("order_no");
        shop.pay(order, 900, json!({ "currency": "CNY" })).await.expect(409, "ORDER_EXISTS");
        let expected = match deed {
            "cancel" => {
                let canceled = shop.post_with_key(&format!("{path}/cancel"), json!({}), order).await;
                assert!([200, 202].contains(&canceled.status), "{}", canceled.text);
                if waits.data("channel") == "alipay" {
                    // A code that nobody has scanned can't be closed; the payer scans it and sees that it is over.
                    let page = read.body["data"]["next_action"]["url"].as_str().unwrap();
                    assert!(http.post(format!("{page}/decline")).send().await.unwrap().status().is_success());
                }
                "canceled"
            }
            _ => {
                let page = read.body["data"]["next_action"]["url"].as_str().unwrap();
                let done = http.post(format!("{page}/{deed}")).send().await.unwrap();
                assert!(done.status().is_success());
                match (deed, waits.data("channel")) {
                    ("approve", _) => "success",
                    // Alipay closes such a trade, and does not say who wanted it.
                    (_, "alipay") => "canceled",
                    _ => "failed",
                }
            }
        };
        let what = format!("{} after {deed}", waits.data("order_no"));
        eventually(&what, || async {
            let read = shop.get(&path).await;
            (read.data("status") == expected).then_some(())
        })
        .await;
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_whose_outcome_was_unknown_is_asked_about() {
    let (sandbox, url) = separate_sandbox().await;
    // Late enough that the next process does it.
    let later = |config: &mut Config| {
        with_sandbox(&url)(config);
        config.payments.resolve_first_ms = 1_000;
        config.payments.resolve_early_max_ms = 1_000;
    };
    let house = House::start_with(later).await;
    let shop = house.merchant("premium").await;
    let body = json!({
        "order_no": "O-1", "amount": 900, "currency": "USD", "channel": "stripe", "payment_token": "tok_lost_response"
    });
    let lost = shop.post_with_key(PAYMENTS, body.clone(), "k-1").await.expect(202, "SUCCESS");
    assert_eq!(lost.data("status"), "processing");
    let directory = house.stop().await;
    let house = House::start_in(directory, with_sandbox(&url)).await;
    let shop = shop.at(&house.url);
    let again = shop.post_with_key(PAYMENTS, body, "k-1").await;
    assert_eq!((again.status, &again.text), (202, &lost.text), "the answer of then");
    eventually("the outcome", || async {
        let read = shop.get(&format!("{PAYMENTS}/{}", lost.data("payment_no"))).await;
        (read.data("status") == "success").then_some(())
    })
    .await;
    assert_eq!(sandbox.ledger("stripe").unwrap().len(), 1, "charged once, and not again by starting");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_s_directory_is_not_opened_in_live_mode() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let directory = house.stop().await;
    let data = directory.path().join("data");
    let why = refusal(&data, |config| config.mode = Mode::Live).await;
    assert!(why.contains("sandbox mode") && why.contains("live mode"), "{why}");
    // The refusal has changed nothing and holds nothing.
    let house = House::start_in(directory, |_| {}).await;
    shop.at(&house.url).get(PAYMENTS).await.expect(200, "SUCCESS");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_master_key_is_never_made_again() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let directory = house.stop().await;
    let data = directory.path().join("data");
    let (key, aside) = (data.join("master.key"), directory.path().join("master.key"));
    fs::rename(&key, &aside).unwrap();
    for _ in 0..2 {
        let why = refusal(&data, |_| {}).await;
        assert!(why.contains("master.key") && why.contains("missing"), "{why}");
        assert!(!key.exists());
    }
    fs::write(&key, format!("{}\n", "0".repeat(64))).unwrap();
    let why = refusal(&data, |_| {}).await;
    assert!(why.contains("wrong master key"), "{why}");
    fs::write(&key, "nonsense").unwrap();
    let why = refusal(&data, |_| {}).await;
    assert!(why.contains("master.key") && why.contains("64 hexadecimal digits"), "{why}");
    fs::rename(&aside, &key).unwrap();
    let house = House::start_in(directory, |_| {}).await;
    shop.at(&house.url).get(PAYMENTS).await.expect(200, "SUCCESS");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_do_not_share_a_directory() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let data = house.directory.path().join("data");
    for _ in 0..2 {
        let why = refusal(&data, |_| {}).await;
        assert!(why.contains("another process"), "{why}");
    }
    shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    let directory = house.stop().await;
    let house = House::start_in(directory, |_| {}).await;
    assert_eq!(shop.at(&house.url).get(PAYMENTS).await.items().len(), 1);
    house.stop().await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// A running gateway with one payment and then one more merchant; nothing of them has reached the index yet.
struct Crashed {
    house: House,
    shop: Client,
    payment: Value,
    last_merchant: Client,
    images: u32,
}

impl Crashed {
    async fn new() -> Self {
        let house = House::start_with(|config| config.storage.apply_interval_ms = 60_000).await;
        let shop = house.merchant("premium").await;
        let paid = shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
        let last_merchant = house.merchant("premium").await;
        Self { house, shop, payment: paid.body["data"].clone(), last_merchant, images: 0 }
    }

    /// The directory as a crash would leave it now, without what the operating system still holds.
    fn image(&mut self) -> (tempfile::TempDir, PathBuf) {
        self.images += 1;
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        copy(&self.house.directory.path().join("data"), &data);
        // What a crash may have let through counts as used; with that each image would take seconds to let anybody in.
        fs::remove_file(data.join("heartbeat")).unwrap();
        let _ = fs::remove_file(data.join("windows"));
        let mut segments: Vec<PathBuf> = fs::read_dir(data.join("journal"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
            .collect();
        segments.sort();
        (directory, segments.pop().unwrap())
    }

    async fn assert_recovered(&self, directory: tempfile::TempDir, has_last_merchant: bool) {
        let house = House::start_in(directory, |_| {}).await;
        let shop = self.shop.at(&house.url);
        let path = format!("{PAYMENTS}/{}", self.payment["payment_no"].as_str().unwrap());
        let read = shop.get(&path).await.expect(200, "SUCCESS");
        assert_eq!(read.body["data"], self.payment);
        let last = self.last_merchant.at(&house.url).get(PAYMENTS).await;
        assert_eq!(last.status, if has_last_merchant { 200 } else { 401 }, "{}", last.text);
        shop.pay("O-2", 900, json!({})).await.expect(201, "SUCCESS");
        let directory = house.stop().await;
        let house = House::start_in(directory, |_| {}).await;
        assert_eq!(self.shop.at(&house.url).get(PAYMENTS).await.items().len(), 2);
        house.stop().await;
    }
}

/// Where the frames of a segment begin.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let found = bytes.windows(FRAME.len()).enumerate().filter(|(_, window)| *window == FRAME);
    found.map(|(offset, _)| offset).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_image_opens_with_all_that_was_acknowledged() {
    let mut crashed = Crashed::new().await;
    let (directory, _) = crashed.image();
    crashed.assert_recovered(directory, true).await;
    crashed.house.stop().await;
}

/// How much of a merchant's hour is used, as the operator sees it.
async fn hour_used(house: &House, shop: &Client) -> u64 {
    let path = format!("/admin/v1/merchants/{}/limits", shop.merchant_id);
    let limits = house.admin("GET", &path, None).await.expect(200, "SUCCESS");
    let windows = limits.body["data"]["windows"].as_array().unwrap();
    windows.iter().find(|window| window["name"] == "hour").unwrap()["used"].as_u64().unwrap()
}

/// A house on what a crash would leave now.
async fn after_crash(house: House, change: impl FnOnce(&mut Config)) -> House {
    let directory = tempfile::tempdir().unwrap();
    copy(&house.directory.path().join("data"), &directory.path().join("data"));
    house.stop().await;
    House::start_in(directory, change).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_counts_by_the_limits_that_were_in_force_before_it() {
    let lower = |config: &mut Config| {
        let tier = config.tiers.get_mut("premium").unwrap();
        (tier.burst, tier.per_second) = (10, 5);
    };
    // Lowered in the configuration while nothing runs.
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let house = after_crash(house, lower).await;
    assert!(hour_used(&house, &shop).await >= 1_000, "a burst of before");
    shop.at(&house.url).get(PAYMENTS).await.expect(429, "RATE_LIMIT_EXCEEDED");
    house.stop().await;

    // Lowered by the operator just before the crash.
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let other = house.merchant("starter").await;
    let path = format!("/admin/v1/merchants/{}", shop.merchant_id);
    let limits = json!({ "limits": { "burst": 10, "per_second": 5 } });
    house.admin("PATCH", &path, Some(limits)).await.expect(200, "SUCCESS");
    let house = after_crash(house, |_| {}).await;
    assert!(hour_used(&house, &shop).await >= 1_000, "a burst of before");
    assert!(hour_used(&house, &other).await < 1_000, "nobody else's business");
    house.stop().await;
}

/// Whoever sets the clock, processes on one start of the machine agree about how much time passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_between_two_processes_empties_no_window() {
    for (ahead_ms, says) in [(7_200_000_i64, "forward"), (-200_000, "back")] {
        let house = House::start().await;
        let shop = house.merchant("starter").await;
        for _ in 0..7 {
            shop.get(PAYMENTS).await.expect(200, "SUCCESS");
        }
        let directory = house.stop().await;
        // As if the process before had read a clock that was set since.
        for name in ["windows", "heartbeat"] {
            let file = directory.path().join("data").join(name);
            let mut content: Value =
                serde_json::from_slice(&WholeFile::new(file.clone()).read().unwrap().unwrap()).unwrap();
            let wall = content["state"]["mark"]["wall"].as_i64().unwrap();
            content["state"]["mark"]["wall"] = json!(wall - ahead_ms);
            WholeFile::new(file).write(content.to_string().as_bytes()).unwrap();
        }
        let house = House::start_in(directory, |_| {}).await;
        assert_eq!(hour_used(&house, &shop).await, 7, "set {says}");
        house.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_may_have_let_through_counts_as_used() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let directory = tempfile::tempdir().unwrap();
    copy(&house.directory.path().join("data"), &directory.path().join("data"));
    house.stop().await;
    let house = House::start_in(directory, |_| {}).await;
    let shop = shop.at(&house.url);
    // Nothing was ever written down but that the process was running.
    let path = format!("/admin/v1/merchants/{}/limits", shop.merchant_id);
    let limits = house.admin("GET", &path, None).await.expect(200, "SUCCESS");
    let windows = limits.body["data"]["windows"].as_array().unwrap();
    let hour = windows.iter().find(|window| window["name"] == "hour").unwrap();
    assert!(hour["used"].as_u64().unwrap() >= 1_000, "a burst at the least: {}", limits.text);
    for _ in 0..200 {
        if shop.get(PAYMENTS).await.status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    shop.get(PAYMENTS).await.expect(200, "SUCCESS");
    let directory = house.stop().await;
    let house = House::start_in(directory, |_| {}).await;
    shop.at(&house.url).get(PAYMENTS).await.expect(200, "SUCCESS");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_last_write_is_cut_off_unless_it_is_known_to_have_been_whole() {
    let mut crashed = Crashed::new().await;
    for torn_from in [60, 0, 20] {
        let (directory, segment) = crashed.image();
        let mut bytes = fs::read(&segment).unwrap();
        let last = *frames(&bytes).last().unwrap();
        bytes[last + torn_from..].fill(0);
        fs::write(&segment, bytes).unwrap();
        let data = directory.path().join("data");
        let why = refusal(&data, |_| {}).await;
        assert!(why.contains("have been stored") || why.contains("shows that it was"), "{why}");
        // As a power cut may leave it: it is not synced with each write.
        fs::remove_file(data.join("REACHED")).unwrap();
        crashed.assert_recovered(directory, false).await;
    }
    crashed.house.stop().await;
}

/// A segment has its whole length before anything is written to it, so no crash leaves a shorter one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_ends_within_its_last_write_is_refused_by_name() {
    let mut crashed = Crashed::new().await;
    for cut_from in [60, 4] {
        let (directory, segment) = crashed.image();
        let bytes = fs::read(&segment).unwrap();
        let last = *frames(&bytes).last().unwrap();
        fs::write(&segment, &bytes[..last + cut_from]).unwrap();
        let why = refusal(&directory.path().join("data"), |_| {}).await;
        assert!(why.contains(segment.file_name().unwrap().to_str().unwrap()), "names the file: {why}");
        assert!(why.contains(&last.to_string()), "names the place {last}: {why}");
        // With the rest put back all is there again.
        fs::write(&segment, &bytes).unwrap();
        crashed.assert_recovered(directory, true).await;
    }
    crashed.house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_before_the_last_write_is_refused_by_name() {
    let mut crashed = Crashed::new().await;
    for (index, into) in [(0, 60), (1, 60), (1, 9), (2, 30)] {
        let (directory, segment) = crashed.image();
        let mut bytes = fs::read(&segment).unwrap();
        let frames = frames(&bytes);
        assert!(frames.len() >= 4, "{} frames", frames.len());
        bytes[frames[index] + into] ^= 0x10;
        fs::write(&segment, &bytes).unwrap();
        for _ in 0..2 {
            let why = refusal(&directory.path().join("data"), |_| {}).await;
            let file = segment.file_name().unwrap().to_str().unwrap();
            assert!(why.contains(file), "names the file: {why}");
            assert!(why.contains(&frames[index].to_string()), "names the place {}: {why}", frames[index]);
        }
        assert_eq!(fs::read(&segment).unwrap(), bytes, "what is damaged is left for people to look at");
        // With the byte put right all is there again.
        bytes[frames[index] + into] ^= 0x10;
        fs::write(&segment, &bytes).unwrap();
        crashed.assert_recovered(directory, true).await;
    }
    crashed.house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_clean_stop_nothing_may_be_torn() {
    let house = House::start_with(|config| config.storage.apply_interval_ms = 60_000).await;
    let shop = house.merchant("premium").await;
    shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    let directory = house.stop().await;
    let data = directory.path().join("data");
    let journal = data.join("journal");
    let mut segments: Vec<PathBuf> = fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    let segment = segments.pop().unwrap();
    let whole = fs::read(&segment).unwrap();
    let mut bytes = whole.clone();
    let all = frames(&bytes);
    let last_data = all[all.len() - 2];
    bytes[last_data + 60] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let why = refusal(&data, |_| {}).await;
    assert!(why.contains(segment.file_name().unwrap().to_str().unwrap()), "{why}");
    fs::write(&segment, whole).unwrap();
    let house = House::start_in(directory, |_| {}).await;
    assert_eq!(shop.at(&house.url).get(PAYMENTS).await.items().len(), 1);
    house.stop().await;
}

/// The index can be made again of the journal, so its damage is no reason to refuse.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_index_is_made_again() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let paid = shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    let mut directory = house.stop().await;
    for is_removed in [true, false] {
        let index = directory.path().join("data/index");
        assert!(index.is_dir());
        if is_removed {
            fs::remove_dir_all(&index).unwrap();
        } else {
            for entry in fs::read_dir(&index).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    fs::write(path, "nonsense").unwrap();
                }
            }
        }
        let house = House::start_in(directory, |_| {}).await;
        let read = shop.at(&house.url).get(&format!("{PAYMENTS}/{}", paid.data("payment_no"))).await;
        assert_eq!(read.expect(200, "SUCCESS").body["data"], paid.body["data"]);
        directory = house.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_stopping_finishes_what_has_begun() {
    let house = House::start().await;
    house.disturb("stripe", json!({ "latency_ms": 300 })).await;
    let shop = house.merchant("premium").await;
    let running = tokio::spawn({
        let shop = shop.clone();
        async move { shop.pay("O-1", 900, json!({ "channel": "stripe" })).await }
    });
    eventually("the request in flight", || async {
        let list = shop.get(PAYMENTS).await;
        (!list.items().is_empty()).then_some(())
    })
    .await;
    let directory = house.stop().await;
    let answered = running.await.unwrap().expect(201, "SUCCESS");
    let house = House::start_in(directory, |_| {}).await;
    let read = shop.at(&house.url).get(&format!("{PAYMENTS}/{}", answered.data("payment_no"))).await;
    assert_eq!(read.body["data"], answered.body["data"], "{}", read.text);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_stopping_is_alive_but_not_ready() {
    let house = House::start().await;
    let http = http_client();
    let status_of = |path: &str| {
        let asked = http.get(format!("{}{path}", house.url)).send();
        async move { asked.await.unwrap().status().as_u16() }
    };
    eventually("the recovery", || async { (status_of("/readyz").await == 200).then_some(()) }).await;
    house.gateway.begin_stopping();
    assert_eq!((status_of("/healthz").await, status_of("/readyz").await), (200, 503));
    let answer: Value = http.get(format!("{}/readyz", house.admin_url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["code"], "SHUTTING_DOWN");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_clock_behind_the_store_nothing_begins_until_somebody_says_that_it_is_right() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let order = json!({ "order_no": "O-1", "amount": 900, "currency": "USD" });
    shop.post(PAYMENTS, order).await.expect(201, "SUCCESS");
    let directory = house.stop().await;
    let data = directory.path().join("data");
    let hours_ago =
        |hours: u64| Clock::virtual_from(Clock::system().now().minus(std::time::Duration::from_secs(hours * 3_600)));
    // More than once: a start that is refused leaves nothing behind by which the next one would be let in.
    for _ in 0..2 {
        let Err(error) = House::open_by(hours_ago(30), &data, |_| {}).await else { panic!("it was opened") };
        assert!(error.to_string().contains("--accept-clock"), "{error}");
    }
    let accepted = |config: &mut Config| config.storage.clock_back_max_s = 40 * 3_600;
    let gateway = House::open_by(hours_ago(30), &data, accepted).await.unwrap();
    gateway.stop().await.unwrap();
    // Said once, it need not be said again.
    let gateway = House::open_by(hours_ago(30), &data, |_| {}).await.unwrap();
    gateway.stop().await.unwrap();
    // And the clock that is ahead of the store by hours is one of a machine that was off.
    House::start_in(directory, |_| {}).await.stop().await;
}
