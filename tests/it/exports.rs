//! Statements for reconciliation, from real payments to CSV.

use serde_json::json;

use crate::pre_auths::with_instant;
use crate::support::{Answer, House, LogBook, nonce};

const EXPORTS: &str = "/api/v1/exports";

/// The lines of an export, header first, split at commas; nothing in these tests is quoted but what is looked at whole.
fn rows(answer: &Answer) -> Vec<Vec<String>> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.text.ends_with("\r\n"));
    answer.text.lines().map(|line| line.split(',').map(String::from).collect()).collect()
}

/// A column by its name.
fn column(rows: &[Vec<String>], name: &str) -> Vec<String> {
    let place = rows[0].iter().position(|column| column == name).unwrap();
    rows[1..].iter().map(|row| row[place].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_paid_taken_and_given_back_is_exported_as_csv() {
    let house = House::start_with(with_instant).await;
    let (shop, other) = (house.merchant("premium").await, house.merchant("premium").await);
    let paid = shop.pay("-1-1", 10_000, json!({ "country": "US", "method": "card" })).await.expect(201, "SUCCESS");
    shop.pay("O-2", 5_000, json!({ "payment_token": "tok_declined", "method": "card" })).await.expect(201, "SUCCESS");
    let hold = json!({ "order_no": "ROOM", "amount": 8_000, "currency": "USD", "channel": "instant" });
    let held = shop.post("/api/v1/pre-auths", hold).await.expect(201, "SUCCESS");
    let capture = format!("/api/v1/pre-auths/{}/capture", held.data("pre_auth_no"));
    shop.post_with_key(&capture, json!({ "amount": 2_500 }), "k-1").await.expect(200, "SUCCESS");
    let refunds = format!("/api/v1/payments/{}/refunds", paid.data("payment_no"));
    let reason = json!({ "amount": 300, "reason": "=1+1, \"so\"" });
    shop.post_with_key(&refunds, reason, "k-2").await.expect(201, "SUCCESS");
    other.pay("FOREIGN", 100, json!({ "method": "card" })).await.expect(201, "SUCCESS");

    let export = shop.get(&format!("{EXPORTS}/payments?from=2020-01-01&to=2029-12-31")).await;
    assert_eq!(export.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert_eq!(export.header("content-disposition"), "attachment; filename=\"payments-20200101-20291231.csv\"");
    assert_eq!((export.header("transfer-encoding"), export.header("cache-control")), ("chunked", "no-store"));
    assert!(!export.header("x-ratelimit-remaining").is_empty(), "it counts as every request does");
    let payments = rows(&export);
    assert_eq!(column(&payments, "order_no"), ["'-1-1", "O-2", "ROOM"]);
    assert_eq!(column(&payments, "kind"), ["payment", "payment", "capture"]);
    assert_eq!(column(&payments, "status"), ["success", "failed", "captured"]);
    assert_eq!(column(&payments, "amount"), ["100.00", "50.00", "25.00"]);
    assert_eq!(column(&payments, "refunded_minor"), ["300", "0", "0"]);
    assert_eq!(column(&payments, "net"), ["93.80", "", ""]);
    assert!(column(&payments, "merchant_id").iter().all(|merchant| *merchant == shop.merchant_id));

    let export = shop.get(&format!("{EXPORTS}/refunds?from=2020-01-01")).await;
    assert!(export.text.contains(",\"'=1+1, \"\"so\"\"\","), "{}", export.text);
    assert_eq!(column(&rows(&export), "refund_no").len(), 1);

    let fees = rows(&shop.get(&format!("{EXPORTS}/fees?from=2020-01-01")).await);
    assert_eq!(column(&fees, "channel"), ["instant", "stripe"]);
    assert_eq!(column(&fees, "gross"), ["25.00", "100.00"]);
    assert_eq!(column(&fees, "refunded"), ["0.00", "3.00"]);
    assert_eq!(column(&fees, "fees"), ["0.00", "3.20"]);
    let nothing = rows(&shop.get(&format!("{EXPORTS}/payments?from=2020-01-01&to=2020-02-01")).await);
    assert_eq!(nothing.len(), 1, "the header row is always there");

    let all = rows(&house.admin("GET", "/admin/v1/exports/payments?from=2020-01-01", None).await);
    assert_eq!(column(&all, "merchant_id").len(), 4);
    let of_one = format!("/admin/v1/exports/payments?from=2020-01-01&merchant_id={}", other.merchant_id);
    assert_eq!(column(&rows(&house.admin("GET", &of_one, None).await), "order_no"), ["FOREIGN"]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fee_of_a_part_that_was_captured_is_the_provider_s_own() {
    let house = House::start_with(with_instant).await;
    let shop = house.merchant("premium").await;
    let take_part = async |channel: &str| {
        let hold = json!({ "order_no": channel, "amount": 8_000, "currency": "USD", "channel": channel,
            "payment_token": "tok_visa" });
        let held = shop.post("/api/v1/pre-auths", hold).await.expect(201, "SUCCESS");
        let path = format!("/api/v1/pre-auths/{}/capture", held.data("pre_auth_no"));
        shop.post_with_key(&path, json!({ "amount": 2_500 }), &nonce()).await.expect(200, "SUCCESS")
    };
    let fee = |amount: i64| json!({ "amount": amount, "currency": "USD" });
    for (channel, fee) in [("stripe", fee(103)), ("paypal", fee(136)), ("instant", json!(null))] {
        let captured = take_part(channel).await;
        assert_eq!(captured.body["data"]["fee"], fee, "{channel}");
        let path = format!("/api/v1/pre-auths/{}", captured.data("pre_auth_no"));
        assert_eq!(shop.get(&path).await.body["data"]["fee"], fee, "{channel}");
        let seen = house.admin("GET", &format!("/admin/v1/pre-auths/{}", captured.data("pre_auth_no")), None).await;
        assert_eq!(seen.body["data"]["fee"], fee, "{channel}");
    }
    let payments = rows(&shop.get(&format!("{EXPORTS}/payments?from=2020-01-01")).await);
    assert_eq!(column(&payments, "order_no"), ["stripe", "paypal", "instant"]);
    assert_eq!(column(&payments, "fee"), ["1.03", "1.36", ""]);
    assert_eq!(column(&payments, "fee_source"), ["reported", "reported", ""]);
    assert_eq!(column(&payments, "net"), ["23.97", "23.64", ""]);
    let fees = rows(&shop.get(&format!("{EXPORTS}/fees?from=2020-01-01")).await);
    assert_eq!(column(&fees, "channel"), ["instant", "paypal", "stripe"]);
    assert_eq!(column(&fees, "fees"), ["0.00", "1.36", "1.03"]);
    assert_eq!(column(&fees, "fees_unknown"), ["1", "0", "0"]);
    assert_eq!(column(&fees, "net"), ["", "23.64", "23.97"], "without all fees it would be too high");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_wrongly_is_said_before_anything_is_sent() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    for (query, field) in [
        ("", "from"),
        ("?from=yesterday", "from"),
        ("?from=2026-02-01&to=2026-01-01", "to"),
        ("?from=2026-02-01&limit=5", "limit"),
        ("?from=2026-02-01&merchant_id=m_1", "merchant_id"),
    ] {
        for statement in ["payments", "refunds", "fees"] {
            let refused = shop.get(&format!("{EXPORTS}/{statement}{query}")).await.expect(400, "INVALID_REQUEST");
            assert_eq!(refused.wrong_fields(), [field], "{query}");
        }
    }
    shop.get(&format!("{EXPORTS}/everything?from=2026-01-01")).await.expect(404, "NOT_FOUND");
    let unknown = "/admin/v1/exports/fees?from=2026-01-01&merchant_id=m_nobody";
    house.admin("GET", unknown, None).await.expect(404, "NOT_FOUND");
    for statement in ["payments", "refunds", "fees"] {
        let of_nobody = format!("/admin/v1/exports/{statement}?from=2026-01-01&merchant_id=");
        let refused = house.admin("GET", &of_nobody, None).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), ["merchant_id"]);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_payments_come_whole_and_one_line_of_the_log_says_so() {
    let logs = LogBook::open();
    let house = House::start().await;
    let shop = house
        .merchant_limited(json!({ "per_second": 100_000, "burst": 100_000, "per_minute": 1_000_000,
        "per_hour": 1_000_000, "concurrent": 10_000 }))
        .await;
    for chunk in 0..10 {
        let paying = (0..100).map(|number| {
            let shop = shop.clone();
            tokio::spawn(
                async move { shop.pay(&format!("O-{chunk}-{number}"), 1_000, json!({ "method": "card" })).await },
            )
        });
        for paid in futures_util::future::join_all(paying).await {
            paid.unwrap().expect(201, "SUCCESS");
        }
    }
    let export = shop.get(&format!("{EXPORTS}/payments?from=2020-01-01")).await;
    let numbers = column(&rows(&export), "number");
    assert_eq!(numbers.len(), 1_000);
    assert!(numbers.is_sorted(), "in the order in which they were made");
    let line = format!("request_id=\"{}\"", export.header("x-request-id"));
    crate::support::eventually("its line", || async {
        let text = logs.text();
        let ended = text.lines().find(|text| text.contains("a stream ended") && text.contains(&line)).map(String::from);
        ended.map(|ended| {
            for part in ["kind=\"download\"", "route=\"/api/v1/exports/payments\"", "ending=\"whole\""] {
                assert!(ended.contains(part), "{ended}");
            }
            assert!(ended.contains(&format!("bytes={}", export.text.len())), "{ended}");
        })
    })
    .await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_writes_a_file_that_is_complete_or_none() {
    use std::process::{Command, Stdio};

    let house = House::start().await;
    let shop = house.merchant("premium").await;
    shop.pay("O-1", 900, json!({ "method": "card" })).await.expect(201, "SUCCESS");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("payments.csv");
    let run = async |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(["export"]).args(more).args(["--admin-url", &house.admin_url]);
        command.env("TOLLGATE_ADMIN_TOKEN", &house.admin_token).stdin(Stdio::null());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    let told = run(&["payments", "--from", "2020-01-01"]).await;
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success() && told.stderr.is_empty(), "{:?}", String::from_utf8_lossy(&told.stderr));
    assert!(text.starts_with("merchant_id,kind,number,") && text.ends_with("\r\n"), "{text}");
    assert_eq!(text.lines().count(), 2);
    let path = file.to_str().unwrap();
    let written = run(&["payments", "--from", "2020-01-01", "--output", path, "--json"]).await;
    assert!(written.status.success(), "{:?}", String::from_utf8_lossy(&written.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&written.stdout).unwrap();
    assert_eq!(summary, json!({ "file": path, "rows": 1, "bytes": text.len() }));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let missing = directory.path().join("fees.csv");
    for wrong in [
        ["fees", "--from", "yesterday", "--output", missing.to_str().unwrap()].as_slice(),
        &["fees", "--from", "2020-01-01", "--merchant", "m_nobody", "--output", missing.to_str().unwrap()],
    ] {
        let refused = run(wrong).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && said.contains("the gateway refused"), "{said}");
    }
    assert!(!missing.exists());
    // A variable that is not set says neither "all merchants" nor "until now".
    for wrong in [
        ["everything", "--from", "2020-01-01"].as_slice(),
        &["fees", "--from", ""],
        &["fees", "--from", "2020-01-01", "--merchant", ""],
        &["fees", "--from", "2020-01-01", "--to", ""],
    ] {
        let refused = run(wrong).await;
        assert_eq!((refused.status.code(), refused.stdout.as_slice()), (Some(2), b"".as_slice()), "{wrong:?}");
    }
    house.stop().await;
}
