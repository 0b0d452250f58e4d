//! Figures for Prometheus: they follow the conventions, are documented, move with what happens, and are what the
//! dashboards, the alerts and the runbook speak of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Browser, House, eventually};

/// What a label may never hold, since there may be any number of them or they say who somebody is.
const NO_LABELS: [&str; 12] = [
    "merchant",
    "merchant_id",
    "key_id",
    "payment_no",
    "order_no",
    "refund_no",
    "pre_auth_no",
    "endpoint_id",
    "url",
    "address",
    "ip",
    "request_id",
];
/// Units that are not base units, as a part of a name.
const NO_UNITS: [&str; 14] = [
    "ms",
    "milliseconds",
    "us",
    "microseconds",
    "minutes",
    "hours",
    "days",
    "kb",
    "kib",
    "mb",
    "megabytes",
    "kilobytes",
    "percent",
    "ppm",
];
const RUNBOOK: &str = "https://github.com/tollgate-rs/tollgate/blob/main/docs/runbook.md";

/// A figure as a scrape or the documentation has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Figure {
    kind: String,
    labels: BTreeSet<String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

async fn scrape(house: &House) -> String {
    house.admin("GET", "/metrics", None).await.text
}

/// The name of the figure that a sample belongs to.
fn figure_of<'a>(sample: &'a str, figures: &BTreeMap<String, Figure>) -> &'a str {
    let stems = ["_bucket", "_sum", "_count"].into_iter().filter_map(|suffix| sample.strip_suffix(suffix));
    let is_histogram = |stem: &&str| figures.get(*stem).is_some_and(|figure| figure.kind == "histogram");
    stems.into_iter().find(is_histogram).unwrap_or(sample)
}

/// Every figure of a scrape, with the labels that its samples have.
fn figures_in(text: &str) -> BTreeMap<String, Figure> {
    let mut figures = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            figures.insert(name.to_owned(), Figure { kind: kind.to_owned(), labels: BTreeSet::new() });
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
            let name = figure_of(name, &figures).to_owned();
            let labels = rest.strip_prefix('{').map_or("", |rest| rest.rsplit_once('}').unwrap().0);
            // Values hold no quotes: they are names, routes and numbers.
            let names = labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
            let figure = figures.get_mut(&name).unwrap_or_else(|| panic!("{line} has no kind"));
            figure.labels.extend(names.filter(|name| name != "le"));
        }
    }
    assert!(figures.len() > 80, "{text}");
    figures
}

/// Every word of a text that is the name of a figure.
fn named_in(text: &str) -> BTreeSet<&str> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.split(|character| !is_part(character)).filter(|word| word.starts_with("tollgate_")).collect()
}

fn documented() -> BTreeMap<String, Figure> {
    let text = text_of("docs/metrics.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `tollgate_"));
    let figures = rows.map(|row| {
        let (name, rest) = row.split_once("` | ").unwrap();
        let (kind, meaning) = rest.split_once(" | ").unwrap();
        assert!(meaning.len() > 10, "{row} says nothing");
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).map(str::to_owned);
        (format!("tollgate_{name}"), Figure { kind: kind.to_owned(), labels: labels.collect() })
    });
    figures.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_figure_is_documented_and_there_from_the_first_scrape() {
    let house = House::start().await;
    let there = figures_in(&scrape(&house).await);
    let documented = documented();
    for (name, figure) in &there {
        assert_eq!(documented.get(name), Some(figure), "docs/metrics.md has {name} otherwise or not at all");
    }
    for name in documented.keys() {
        assert!(there.contains_key(name), "docs/metrics.md has {name}, which there is not");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_labels_follow_the_conventions() {
    let house = House::start().await;
    let text = scrape(&house).await;
    let is_snake = |name: &str| {
        let characters =
            |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_';
        name.chars().all(characters) && !name.contains("__") && !name.ends_with('_')
    };
    for (name, Figure { kind, labels }) in figures_in(&text) {
        assert!(name.starts_with("tollgate_") && is_snake(&name), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()), "{name} is a {kind}");
        assert!(!name.split('_').any(|part| NO_UNITS.contains(&part)), "{name} has another unit than a base unit");
        assert!(
            !["_bucket", "_sum", "_count", "_info"].iter().any(|end| name.ends_with(end))
                || name == "tollgate_build_info"
        );
        assert!(
            labels.iter().all(|label| is_snake(label) && !NO_LABELS.contains(&label.as_str())),
            "{name} {labels:?}"
        );
        assert!(labels.len() <= 4, "{name} {labels:?}");
        let help = text.lines().find_map(|line| line.strip_prefix(&format!("# HELP {name} ")));
        assert!(help.is_some_and(|help| help.len() > 8), "{name} does not say what it is");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_move_with_what_happens() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let paid = shop.pay("F-1", 900, json!({ "channel": "stripe" })).await.expect(201, "SUCCESS");
    let payment_no = paid.data("payment_no").to_owned();
    shop.post_with_key(&format!("/api/v1/payments/{payment_no}/refunds"), json!({ "amount": 400 }), "F-1-R")
        .await
        .expect(201, "SUCCESS");
    shop.get(&format!("/api/v1/payments/{payment_no}")).await.expect(200, "SUCCESS");
    shop.get("/api/v1/payments/PY0").await.expect(404, "NOT_FOUND");
    shop.get("/nothing/here").await;
    shop.get("/api/v1/exports/payments?from=2020-01-01").await;
    let mut browser = Browser::logged_in(&house).await;
    assert_eq!(browser.get("/console/assets/0/console.css").await.status, 404);
    assert_eq!(browser.post("/console/logout", &[]).await.status, 303);
    assert_eq!(browser.log_in("not a token").await.status, 403);
    let expected = [
        r#"http_streams{kind="download",listener="merchant"} 0"#,
        r#"http_streams_ended_total{ending="whole",kind="download",listener="merchant"} 1"#,
        r#"http_streams_refused_total{kind="download",listener="merchant"} 0"#,
        r#"http_requests_total{listener="admin",method="POST",route="/console/login",status="3xx"} 1"#,
        r#"http_requests_total{listener="admin",method="POST",route="/console/login",status="4xx"} 1"#,
        r#"http_requests_total{listener="admin",method="POST",route="/console/logout",status="3xx"} 1"#,
        r#"http_requests_total{listener="admin",method="GET",route="/console/assets/{version}/{file}",status="4xx"} 1"#,
        r#"http_requests_total{listener="merchant",method="POST",route="/api/v1/payments",status="2xx"} 1"#,
        r#"http_requests_total{listener="merchant",method="GET",route="/api/v1/payments/{payment_no}",status="2xx"} 1"#,
        r#"http_requests_total{listener="merchant",method="GET",route="/api/v1/payments/{payment_no}",status="4xx"} 1"#,
        r#"http_requests_total{listener="merchant",method="unmatched",route="unmatched",status="4xx"} 1"#,
        r#"http_request_duration_seconds_count{listener="merchant",method="GET",route="/api/v1/payments/{payment_no}"} 2"#,
        r#"http_requests_in_flight{listener="merchant"} 0"#,
        // The scrape itself.
        r#"http_requests_in_flight{listener="admin"} 1"#,
        r#"routing_decisions_total{channel="stripe",rung="requested",strategy="none"} 1"#,
        r#"channel_call_duration_seconds_count{channel="stripe",operation="charge"} 1"#,
        r#"channel_call_duration_seconds_count{channel="stripe",operation="refund"} 1"#,
        r#"channel_calls_unanswered_total{channel="stripe",operation="charge"} 0"#,
        r#"channel_enabled{channel="stripe"} 1"#,
        "payments_begun_total 1",
        r#"payments_total{channel="stripe",end="success"} 1"#,
        r#"payment_amount_minor_total{channel="stripe",currency="USD"} 900"#,
        r#"refunds_total{channel="stripe",end="success"} 1"#,
        r#"refund_amount_minor_total{channel="stripe",currency="USD"} 400"#,
        "ready 1",
        "held 0",
    ];
    eventually("what has happened is counted", || async {
        let text = scrape(&house).await;
        let missing = expected.iter().find(|line| !text.lines().any(|found| found == format!("tollgate_{line}")));
        missing.is_none().then_some(())
    })
    .await;
    let text = scrape(&house).await;
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("tollgate_{name} ")));
        line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().unwrap()
    };
    let frames = value("store_journal_frames_total");
    assert!((value("store_sync_duration_seconds_count") - frames).abs() < 0.5 && frames > 3.0);
    assert!(value("store_sync_duration_seconds_sum") > 0.0);
    assert!(value("store_commits_per_frame_sum") >= frames, "each has at least one");
    assert!(value("commit_duration_seconds_count") >= 4.0, "two of the payment, two of the refund");
    assert!(value("limit_wait_seconds_count") >= 4.0);
    assert!(value("store_index_bytes") > 0.0 && value("runtime_tasks") > 0.0);
    assert!(value("http_connections{listener=\"admin\"}") >= 1.0, "the scraper's own");
    house.stop().await;
}

/// The alerts, each with the lines of its rule.
fn alerts() -> BTreeMap<String, String> {
    let text = text_of("deploy/prometheus/alerts.yml");
    let mut alerts = BTreeMap::new();
    for rule in text.split("- alert: ").skip(1) {
        let (name, rest) = rule.split_once('\n').unwrap();
        assert!(alerts.insert(name.to_owned(), rest.to_owned()).is_none(), "{name} is there twice");
    }
    assert!(alerts.len() > 20);
    alerts
}

#[test]
fn every_alert_has_its_place_in_the_runbook_and_the_other_way_round() {
    let runbook = text_of("docs/runbook.md");
    let chapters: BTreeMap<&str, &str> =
        runbook.split("\n## ").skip(1).filter_map(|part| part.split_once('\n')).collect();
    let alerts = alerts();
    for (name, rule) in &alerts {
        let chapter = chapters.get(name.as_str()).unwrap_or_else(|| panic!("docs/runbook.md has nothing about {name}"));
        for part in ["**Means.**", "**See more.**", "**Do.**", "**Over**"] {
            assert!(chapter.contains(part), "docs/runbook.md, {name}: {part} is missing");
        }
        let url = format!("runbook_url: {RUNBOOK}#{}", name.to_lowercase());
        for part in ["severity: ", "summary: ", "description: ", &url] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
        assert!(
            ["critical", "warning", "info"].iter().any(|level| rule.contains(&format!("severity: {level}\n"))),
            "{name}"
        );
    }
    let about_alerts = chapters.keys().filter(|title| title.starts_with("Tollgate"));
    for title in about_alerts {
        assert!(alerts.contains_key(*title), "docs/runbook.md has {title}, which is no alert");
    }
}

#[test]
fn every_command_of_the_runbook_is_one() {
    let runbook = text_of("docs/runbook.md");
    let commands = runbook.split(['`', '\n']).map(str::trim).filter_map(|text| text.strip_prefix("tollgate "));
    let is_word = |word: &&str| !word.is_empty() && !word.starts_with('-');
    let words = commands.map(|command| command.split([' ', '#']).take(2).take_while(is_word).collect());
    let commands: BTreeSet<Vec<&str>> = words.collect();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let program = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate")).args(&command).arg("--help").output();
        assert!(program.is_ok_and(|ended| ended.status.success()), "tollgate {command:?} is no command");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dashboards_alerts_and_the_runbook_speak_of_is_there() {
    let house = House::start().await;
    let figures = figures_in(&scrape(&house).await);
    house.stop().await;
    for file in [
        "deploy/grafana/operations.json",
        "deploy/grafana/business.json",
        "deploy/prometheus/alerts.yml",
        "deploy/prometheus/alerts_test.yml",
        "docs/runbook.md",
    ] {
        let text = text_of(file);
        let named = named_in(&text);
        assert!(named.len() > 5, "{file} names no figures");
        for name in named {
            assert!(figures.contains_key(figure_of(name, &figures)), "{file} names {name}, which there is not");
        }
    }
}

#[test]
fn dashboards_are_whole() {
    for (file, uid) in [("operations", "tollgate-operations"), ("business", "tollgate-business")] {
        let dashboard: Value = serde_json::from_str(&text_of(format!("deploy/grafana/{file}.json"))).unwrap();
        assert_eq!(dashboard["uid"], uid);
        let panels = dashboard["panels"].as_array().unwrap();
        let mut ids = BTreeSet::new();
        for panel in panels {
            let title = panel["title"].as_str().unwrap();
            assert!(!title.is_empty() && ids.insert(panel["id"].as_u64().unwrap()), "{file}: {title}");
            let place = &panel["gridPos"];
            assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{file}: {title} sticks out");
            if panel["type"] == "row" {
                continue;
            }
            assert!(
                panel["description"].as_str().is_some_and(|text| text.len() > 10),
                "{file}: {title} is not explained"
            );
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{file}: {title} has no unit");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{file}: {title}");
            let targets = panel["targets"].as_array().unwrap();
            assert!(
                targets.iter().all(|target| !named_in(target["expr"].as_str().unwrap()).is_empty()),
                "{file}: {title}"
            );
        }
        assert!(panels.len() > 10, "{file}");
    }
}
