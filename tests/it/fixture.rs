//! Stores that earlier programs have written, kept as they were: every one of them must open, from its index and without it.
//!
//! When the store's format goes up, make the next fixture and keep the others as long as their format is read:
//! `TOLLGATE_MAKE_FIXTURE=store-v<format> cargo test --test it fixture::`. That writes a directory of this name in
//! tests/fixtures. Nothing here depends on the day: what opens a fixture believes that it is when the fixture was made.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tollgate::clock::Clock;
use tollgate::config::Config;
use tollgate::domain::time::Timestamp;
use tollgate::storage::engine::Engine;
use tollgate::storage::export::ExportReader;
use tollgate::storage::{Scan, Store};

use crate::support::{Answer, Client, House, Key, Receiver, eventually, make_base, quick_config};

const PAYMENTS: &str = "/api/v1/payments";
const PRE_AUTHS: &str = "/api/v1/pre-auths";
const CHANNEL_PRE_AUTHS: &str = "/api/v1/channel/pre-auth";
const NOTIFICATIONS: &str = "/api/v1/webhooks/notifications";
/// What is not part of a store: made anew, or of the process.
const LEFT_OUT: [&str; 7] = ["LOCK", "BALLAST", "next.tmp", "admin.token", "heartbeat", "windows", "channels"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(name));
        } else {
            fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

/// A store small enough to be kept with the code.
fn small(config: &mut Config) {
    config.storage.segment_bytes = 1024 * 1024;
    config.storage.group_bytes_max = 256 * 1024;
}

/// A payment whose customer is erased.
fn to_erase() -> Value {
    json!({ "order_no": "O-4", "amount": 400, "currency": "USD", "customer_email": "bob@example.com", "description": "for Bob" })
}

/// Asks for something once, and notes how, so that it can be asked for again.
async fn once(shop: &Client, repeats: &mut Vec<Value>, path: &str, body: Value, status: u16) -> Answer {
    let key = format!("r-{}", repeats.len());
    let answer = shop.post_with_key(path, body.clone(), &key).await.expect(status, "SUCCESS");
    repeats.push(json!({ "path": path, "body": body, "key": key, "status": status, "text": answer.text }));
    answer
}

/// A hold, one that was taken in part and of which a part was given back, one that was let go, and one under a number of the
/// merchant's own: where each is read.
async fn hold(shop: &Client, repeats: &mut Vec<Value>) -> Vec<String> {
    let mut paths = vec![PRE_AUTHS.to_owned()];
    let terms = |number: u32| {
        json!({ "order_no": format!("H-{number}"), "amount": 9_000, "currency": "USD", "channel": "stripe",
            "payment_token": "tok_visa" })
    };
    for number in 1..=3 {
        let held = once(shop, repeats, PRE_AUTHS, terms(number), 201).await;
        assert_eq!(held.data("status"), "requires_capture", "{}", held.text);
        let path = format!("{PRE_AUTHS}/{}", held.data("pre_auth_no"));
        if number == 2 {
            once(shop, repeats, &format!("{path}/capture"), json!({ "amount": 4_000 }), 200).await;
            once(shop, repeats, &format!("{path}/refunds"), json!({ "amount": 500 }), 201).await;
            paths.push(format!("{path}/refunds"));
        }
        if number == 3 {
            once(shop, repeats, &format!("{path}/cancel"), json!({ "reason": "the guest has left" }), 200).await;
        }
        paths.push(path);
    }
    let mut own = terms(4);
    own["pre_auth_no"] = json!("DEPOSIT-1");
    let own = once(shop, repeats, CHANNEL_PRE_AUTHS, own, 201).await;
    paths.push(format!("{CHANNEL_PRE_AUTHS}/{}?channel=stripe", own.data("channel_pre_auth_no")));
    paths.push(format!("{CHANNEL_PRE_AUTHS}/DEPOSIT-1?channel=stripe"));
    paths
}

/// Makes a store with a record of each kind that is in a state that no start changes, and answers how it is read.
async fn make(directory: tempfile::TempDir) -> (tempfile::TempDir, Value) {
    let house = House::start_in(directory, small).await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    let endpoint = shop.post("/api/v1/webhooks/endpoints", json!({ "url": receiver.url })).await.expect(201, "SUCCESS");
    let more = json!({
        "metadata": { "table": "7" }, "description": "a stay", "customer_email": "ada@example.com"
    });
    let mut body = json!({ "order_no": "O-1", "amount": 900, "currency": "USD" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let paid = shop.post_with_key(PAYMENTS, body.clone(), "k-1").await.expect(201, "SUCCESS");
    let declined = shop.pay("O-2", 700, json!({ "payment_token": "tok_declined" })).await.expect(201, "SUCCESS");
    let refunds = format!("{PAYMENTS}/{}/refunds", paid.data("payment_no"));
    shop.post_with_key(&refunds, json!({ "amount": 300 }), "k-2").await.expect(201, "SUCCESS");
    let taken = format!("{NOTIFICATIONS}?status=success");
    eventually("the webhooks", || async { (shop.get(&taken).await.items().len() == 3).then_some(()) }).await;
    let erased = shop.post_with_key(PAYMENTS, to_erase(), "k-3").await.expect(201, "SUCCESS");
    eventually("its webhook", || async { (shop.get(&taken).await.items().len() == 4).then_some(()) }).await;
    let mut repeats = Vec::new();
    let held = hold(&shop, &mut repeats).await;
    eventually("theirs", || async { (shop.get(&taken).await.items().len() == 11).then_some(()) }).await;
    receiver.answer(400);
    let refused = shop.pay("O-3", 500, json!({})).await.expect(201, "SUCCESS");
    let given_up = format!("{NOTIFICATIONS}?status=failed");
    eventually("a dead letter", || async { (!shop.get(&given_up).await.items().is_empty()).then_some(()) }).await;
    let all = NOTIFICATIONS.to_owned();
    let is_over = |item: &Value| item["status"] == "success" || item["status"] == "failed";
    eventually("their ends", || async { shop.get(&all).await.items().iter().all(is_over).then_some(()) }).await;
    // Behind a base, and with what an operator does.
    let directory = house.stop().await;
    let house = House::start_in(directory, small).await;
    let one = format!("/admin/v1/merchants/{}", shop.merchant_id);
    let key = house.admin("POST", &format!("{one}/keys"), None).await.expect(201, "SUCCESS");
    house.admin("DELETE", &format!("{one}/keys/{}", key.data("id")), None).await.expect(200, "SUCCESS");
    let directory = house.stop().await;
    make_base(&directory.path().join("data"), Clock::system());
    let house = House::start_in(directory, small).await;
    let shop = shop.at(&house.url);
    let rule = json!({ "id": "kroner", "name": "kroner", "currencies": ["NOK"], "channels": ["stripe"] });
    house.admin("POST", "/admin/v1/rules", Some(rule)).await.expect(201, "SUCCESS");
    let erase = format!("{one}/payments/{}/erase", erased.data("payment_no"));
    let erasure = house.admin("POST", &erase, None).await.expect(202, "SUCCESS");
    let erasure = format!("/admin/v1/erasures/{}", erasure.data("erasure_id"));
    eventually("the erasure", || async {
        (house.admin("GET", &erasure, None).await.data("status") == "done").then_some(())
    })
    .await;
    let mut administration = Vec::new();
    for path in [&one, &erasure, "/admin/v1/rules/kroner", "/admin/v1/pre-auths", "/admin/v1/audit"] {
        let answer = house.admin("GET", path, None).await.expect(200, "SUCCESS");
        administration.push(json!({ "path": path, "data": answer.body["data"] }));
    }

    let mut paths = vec![
        PAYMENTS.to_owned(),
        "/api/v1/events".to_owned(),
        NOTIFICATIONS.to_owned(),
        format!("/api/v1/webhooks/endpoints/{}", endpoint.data("id")),
    ];
    paths.extend(held);
    for number in
        [paid.data("payment_no"), declined.data("payment_no"), refused.data("payment_no"), erased.data("payment_no")]
    {
        paths.extend(["", "/routing", "/refunds"].map(|path| format!("{PAYMENTS}/{number}{path}")));
    }
    let mut answers = Vec::new();
    for path in paths {
        answers.push(json!({ "path": path, "data": shop.get(&path).await.expect(200, "SUCCESS").body["data"] }));
    }
    let story = json!({
        "made_at": house.gateway.clock().now().rfc3339(),
        "merchant_id": shop.merchant_id,
        "key": { "id": shop.key.id, "secret": shop.key.secret },
        "answers": answers,
        "administration": administration,
        "repeated": { "body": body, "key": "k-1", "text": paid.text },
        "repeats": repeats,
    });
    (house.stop().await, story)
}

/// Whether all that is expected is there; later programs may say more.
fn says(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().all(|(name, value)| match (found.get(name), value) {
                (Some(Value::String(found)), Value::String(value)) if name == "next_cursor" => found.starts_with(value),
                (found, value) => found.is_some_and(|found| says(found, value)),
            })
        }
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len() && found.iter().zip(expected).all(|(found, expected)| says(found, expected))
        }
        _ => found == expected,
    }
}

/// A clock that stands where the story's ends, and runs.
fn clock_of(story: &Value) -> Clock {
    Clock::virtual_from(Timestamp::parse_rfc3339(story["made_at"].as_str().unwrap()).unwrap())
}

async fn check(directory: tempfile::TempDir, story: &Value) -> tempfile::TempDir {
    let clock = clock_of(story);
    let house = House::start_at(directory, clock.clone(), small).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let key = Key { id: text(&story["key"]["id"]), secret: text(&story["key"]["secret"]) };
    let shop = Client::with_clock(&house.url, key, story["merchant_id"].as_str().unwrap(), clock);
    for answer in story["answers"].as_array().unwrap() {
        let path = answer["path"].as_str().unwrap();
        let found = shop.get(path).await.expect(200, "SUCCESS");
        assert!(says(&found.body["data"], &answer["data"]), "{path}: {}\n{}", answer["data"], found.text);
        if let Some(cursor) = answer["data"]["next_cursor"].as_str() {
            // Clients go on with what they were given by the program before.
            let next = shop.get(&format!("{path}?cursor={cursor}")).await.expect(200, "SUCCESS");
            assert!(next.items().is_empty(), "{path}: {}", next.text);
        }
    }
    // Fixtures made before there were these have none.
    let administration = story["administration"].as_array().cloned().unwrap_or_default();
    for answer in &administration {
        let path = answer["path"].as_str().unwrap();
        let found = house.admin("GET", path, None).await.expect(200, "SUCCESS");
        assert!(says(&found.body["data"], &answer["data"]), "{path}: {}\n{}", answer["data"], found.text);
    }
    if let Some(chain) = administration.iter().map(|answer| &answer["data"]["chain"]).find(|chain| chain.is_object()) {
        let verify = format!("/admin/v1/audit?verify=true&anchor={}:{}", chain["number"], text(&chain["hash"]));
        let verified = house.admin("GET", &verify, None).await.expect(200, "SUCCESS");
        assert_eq!(verified.body["data"]["chain"]["intact"], true, "{}", verified.text);
        let erased = shop.post_with_key(PAYMENTS, to_erase(), "k-3").await.expect(201, "SUCCESS");
        assert_eq!((erased.header("idempotent-replayed"), &erased.body["data"]["description"]), ("true", &Value::Null));
    }
    let repeated = &story["repeated"];
    let again = shop.post_with_key(PAYMENTS, repeated["body"].clone(), repeated["key"].as_str().unwrap()).await;
    assert_eq!((again.status, again.text.as_str()), (201, repeated["text"].as_str().unwrap()));
    for repeated in story["repeats"].as_array().into_iter().flatten() {
        let (path, key) = (repeated["path"].as_str().unwrap(), repeated["key"].as_str().unwrap());
        let again = shop.post_with_key(path, repeated["body"].clone(), key).await;
        let before = (repeated["status"].as_u64().unwrap(), repeated["text"].as_str().unwrap());
        assert_eq!((u64::from(again.status), again.text.as_str()), before, "{path}");
    }
    house.stop().await
}

/// The rows of the store in a directory are those of its export.
fn check_export(data: &Path, export: &Path, clock: Clock) {
    let mut config = quick_config();
    small(&mut config);
    config.storage.dir = data.to_owned();
    let engine = Engine::open_dir_by(&config.storage, clock).unwrap();
    let mut reader = ExportReader::open(export).unwrap();
    let rows = engine.scan(&Scan { start: Vec::new(), end: None, limit: 10_000, reverse: false }).unwrap();
    for row in rows {
        assert_eq!(reader.next_row().unwrap(), Some(row));
    }
    assert_eq!(reader.next_row().unwrap(), None);
    engine.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_fixture_can_be_made() {
    let (directory, story) = make(tempfile::tempdir().unwrap()).await;
    let data = directory.path().join("data");
    let mut config = quick_config();
    small(&mut config);
    config.storage.dir = data.clone();
    let engine = Engine::open_dir(&config.storage).unwrap();
    let exported = engine.export(Vec::new(), Clock::system().now(), &mut || true).unwrap();
    let export = directory.path().join("export.tgx");
    fs::write(&export, exported.unwrap().1).unwrap();
    engine.close().unwrap();
    drop(engine);
    if let Some(name) = std::env::var_os("TOLLGATE_MAKE_FIXTURE") {
        let target = fixtures().join(name);
        copy(&data, &target.join("data"));
        fs::copy(&export, target.join("export.tgx")).unwrap();
        fs::write(target.join("story.json"), serde_json::to_vec_pretty(&story).unwrap()).unwrap();
    }
    check_export(&data, &export, clock_of(&story));
    check(directory, &story).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_of_earlier_programs_open() {
    let mut formats = 0;
    for entry in fs::read_dir(fixtures()).unwrap() {
        let fixture = entry.unwrap().path();
        let story: Value = serde_json::from_slice(&fs::read(fixture.join("story.json")).unwrap()).unwrap();
        for has_index in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let data = directory.path().join("data");
            copy(&fixture.join("data"), &data);
            if !has_index {
                fs::remove_dir_all(data.join("index")).unwrap();
            }
            check_export(&data, &fixture.join("export.tgx"), clock_of(&story));
            check(directory, &story).await;
        }
        formats += 1;
    }
    assert!(formats > 0);
}
