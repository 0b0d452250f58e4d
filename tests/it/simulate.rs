//! `tollgate simulate` on the traffic that comes with the repository, against the documented figures.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_tollgate");
const PRICE_LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/traffic/price-list.csv");
const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/traffic/cross-border-shop.csv");

fn simulate(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(BINARY)
        .arg("simulate")
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(arguments: &[&str]) -> String {
    let output = simulate(arguments, "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json_of(arguments: &[&str]) -> Value {
    serde_json::from_str(&text(&[arguments, &["--json"]].concat())).unwrap()
}

/// The cells of each line of a table, parted by two blanks at least.
fn cells(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect()
}

#[test]
fn the_price_list_comes_out_to_the_cent_and_one_decimal() {
    let text =
        text(&["--traffic", PRICE_LIST, "--mode", "cost", "--against", "stripe", "--at", "2026-01-01", "--lines"]);
    for (amount, stripe, alipay, saved, share) in [
        ("10.00", "0.59", "0.06", "0.53", "89.8 %"),
        ("100.00", "3.20", "0.60", "2.60", "81.3 %"),
        ("1,000.00", "29.30", "6.00", "23.30", "79.5 %"),
        ("10,000.00", "290.30", "60.00", "230.30", "79.3 %"),
    ] {
        let found = cells(&text).into_iter().find(|cells| cells.get(3) == Some(&amount)).unwrap_or_default();
        assert_eq!(found.get(4..), Some(&["USD", "alipay", alipay, stripe, saved, share][..]), "{amount} in\n{text}");
    }
}

#[test]
fn the_shop_saves_what_is_documented() {
    let shop = json_of(&["--traffic", SHOP, "--mode", "cost", "--at", "2026-01-01"]);
    assert_eq!((&shop["volume_minor"], &shop["payments"]), (&json!(100_000_000), &json!(10_000)));
    assert_eq!((&shop["compared_with"], &shop["compared_fees_minor"]), (&json!("stripe"), &json!(3_200_000)));
    let cost = &shop["modes"][0];
    assert_eq!((&cost["fees_minor"], &cost["saved_percent"]), (&json!(1_520_400), &json!(52.5)));
    assert_eq!((&cost["saved_minor"], &cost["unrouted"]), (&json!(1_679_600), &json!(0)));
    let channels: Vec<_> =
        cost["channels"].as_array().unwrap().iter().map(|row| (&row["channel"], &row["payments"])).collect();
    assert_eq!(channels, [(&json!("alipay"), &json!(6_460)), (&json!("stripe"), &json!(3_540))]);
    let text = text(&["--traffic", SHOP, "--at", "2026-01-01"]);
    let row = |mode: &str| {
        cells(&text)
            .into_iter()
            .find(|cells| cells.first() == Some(&mode) && cells.get(1) == Some(&"all"))
            .unwrap_or_default()
    };
    for mode in ["balanced", "cost", "success", "geographic"] {
        let expected = [mode, "all", "10,000", "1,000,000.00", "15,204.00", "32,000.00", "16,796.00", "52.5 %"];
        assert_eq!(row(mode), expected, "{text}");
    }
}

#[test]
fn fees_of_another_day_and_another_baseline_come_from_the_configuration() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"[routing]\nbaseline_channel = \"alipay\"\n[[channels.stripe.fees.changes]]\nvalid_from = 2026-02-01\npercent = \"1\"\n")
        .unwrap();
    let config = file.path().to_str().unwrap();
    let fees = |day: &str| {
        let shop = json_of(&["--traffic", SHOP, "--mode", "cost", "--at", day, "--config", config]);
        assert_eq!((&shop["compared_with"], &shop["compared_fees_minor"]), (&json!("alipay"), &json!(600_000)));
        shop["modes"][0]["fees_minor"].clone()
    };
    assert_eq!((fees("2026-01-31"), fees("2026-02-01")), (json!(1_520_400), json!(387_600 + 354_000)));
}

#[test]
fn the_chart_is_written_and_json_lines_come_from_standard_input() {
    let directory = tempfile::tempdir().unwrap();
    let chart = directory.path().join("fees.svg");
    let line = "{\"amount\":10000,\"currency\":\"USD\",\"country\":\"US\",\"method\":\"card\",\"count\":2}\n";
    let output = simulate(&["--traffic", "-", "--svg", chart.to_str().unwrap(), "--success", "stripe=0.9"], line);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("90.0 %"));
    let chart = std::fs::read_to_string(chart).unwrap();
    assert!(chart.starts_with("<svg ") && chart.contains("6.40 USD") && chart.contains("prefers-color-scheme"));
}

#[test]
fn what_goes_nowhere_is_counted_apart_and_hides_nothing_else() {
    let input = "amount,currency,country,method,count\n10000,USD,US,card,10\n10000,USD,US,barter,1200\n";
    let output = simulate(&["--traffic", "-", "--mode", "cost", "--success", "stripe=0.9"], input);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("90.0 %") && text.contains("cost: 1,200 payments left out: no channel (line 3: "), "{text}");
    let nothing = "amount,currency,method\n10000,USD,barter\n";
    let output = simulate(&["--traffic", "-", "--mode", "cost", "--json"], nothing);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["modes"][0]["unrouted"], &report["modes"][0]["expected_approvals"]), (&json!(1), &Value::Null));
}

#[test]
fn what_is_wrong_is_named_with_file_and_line_and_ends_with_2() {
    for (arguments, input, part) in [
        (&["--traffic", "-"][..], "amount,currency\n100,USD\n1.5,USD\n", "-, line 3: amount"),
        (&["--traffic", "-"], "amount,currency\n100,KRW\n", "line 2: currency: KRW has no rate"),
        (&["--traffic", "-"], "amount,currency\n", "no payments"),
        (&["--traffic", "-"], "amount,currency,count\n999999999999,USD,1000000000\n", "line 2: with it the sums"),
        (&["--traffic", "/nonexistent/x.csv"], "", "/nonexistent/x.csv"),
        (&["--traffic", SHOP, "--against", "bank"], "", "\"bank\"; there are alipay, crypto, paypal, stripe"),
        (&["--traffic", SHOP, "--success", "stripe=2"], "", "0 to 1"),
        (&["--traffic", SHOP, "--mode", "luck"], "", "luck"),
        (&["--traffic", SHOP, "--at", "soon"], "", "not a day"),
    ] {
        let output = simulate(arguments, input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_force_in_a_running_gateway_can_take_the_place_of_the_file() {
    let house = crate::support::House::start().await;
    let fees = json!({ "fees": { "percent": "1", "fixed_minor": 0 }, "maintenance": [] });
    house.admin("PATCH", "/admin/v1/channels/stripe", Some(fees)).await.expect(200, "SUCCESS");
    let rule = json!({ "name": "by card", "methods": ["alipay"], "channels": ["alipay"] });
    house.admin("POST", "/admin/v1/rules", Some(rule)).await.expect(201, "SUCCESS");
    let routing = house.admin("GET", "/admin/v1/routing", None).await.expect(200, "SUCCESS");
    let (url, token) = (house.admin_url.clone(), house.admin_token.clone());
    let run = move |token: &str| {
        simulate(
            &["--traffic", SHOP, "--mode", "cost", "--json", "--in-force", "--admin-url", &url, "--admin-token", token],
            "",
        )
    };
    let (output, refused) = tokio::task::spawn_blocking(move || (run(&token), run("wrong"))).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["routing_version"], routing.body["data"]["version"]);
    // 3,540 at 1.00 on Stripe, 6,460 at 0.60 on Alipay; all at 1.00 on Stripe.
    assert_eq!(
        (&report["modes"][0]["fees_minor"], &report["compared_fees_minor"]),
        (&json!(741_600), &json!(1_000_000))
    );
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("token"));
    house.stop().await;
}

#[test]
fn a_large_file_is_streamed() {
    let mut input = String::from("amount,currency,country,method\n");
    for number in 0..20_000 {
        input.push_str(&format!("{},USD,US,{}\n", 100 + number, if number % 2 == 0 { "card" } else { "alipay" }));
    }
    let output = simulate(&["--traffic", "-", "--json", "--lines"], &input);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["payments"], json!(20_000));
    assert_eq!((report["lines"].as_array().unwrap().len(), &report["lines_left_out"]), (4_000, &json!(19_000)));
}
