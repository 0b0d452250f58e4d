//! Each action against a scripted server.

use clap::Parser;

use super::*;
use crate::cli::scripted::{Asked, Scripted};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

const MERCHANT: &str = r#"{"data":{"merchant_id":"m_1","name":"Shop","tier":"starter","country":"DE",
    "status":"active","limits":{"per_second":5},"channels":[],"keys":["ak_1"],"created_at":"2025-01-24T10:30:45Z",
    "updated_at":"2025-01-24T10:30:45Z","key":{"id":"ak_1","secret":"sk_1"}}}"#;

/// Runs one command line against a server that knows one merchant; gives back what it printed and what was asked.
async fn run_line(line: &str) -> (Result<Shown, Failure>, Vec<Asked>) {
    let server = Scripted::start(&[(200, MERCHANT)]).await;
    let words = ["merchant", "--admin-token", "t", "--admin-url", &server.url].into_iter();
    let parsed = Line::try_parse_from(words.chain(line.split(' '))).unwrap();
    let admin = Admin::new(&parsed.arguments.admin, &Context::new(Vec::new())).unwrap();
    let shown = act(&admin, parsed.arguments.action).await;
    (shown, server.asked())
}

async fn asked_by(line: &str) -> (String, Value) {
    let (shown, asked) = run_line(line).await;
    shown.map(|shown| shown.text).unwrap();
    let body = if asked[0].body.is_empty() { Value::Null } else { asked[0].json() };
    (format!("{} {}", asked[0].method, asked[0].uri), body)
}

#[tokio::test]
async fn each_action_is_one_request() {
    let status = |status: &str| json!({ "status": status });
    let cases = [
        ("create Shop --tier starter", "POST /admin/v1/merchants", json!({ "name": "Shop", "tier": "starter" })),
        ("show m_1", "GET /admin/v1/merchants/m_1", Value::Null),
        ("update m_1 --tier business", "PATCH /admin/v1/merchants/m_1", json!({ "tier": "business" })),
        ("suspend m_1", "PATCH /admin/v1/merchants/m_1", status("suspended")),
        ("activate m_1", "PATCH /admin/v1/merchants/m_1", status("active")),
        ("delete m_1", "DELETE /admin/v1/merchants/m_1", Value::Null),
        ("limits m_1", "GET /admin/v1/merchants/m_1/limits", Value::Null),
        ("limits", "GET /admin/v1/limits?near=false&limit=20", Value::Null),
        ("limits --near --limit 5", "GET /admin/v1/limits?near=true&limit=5", Value::Null),
        ("key add m_1", "POST /admin/v1/merchants/m_1/keys", json!({})),
        ("key remove m_1 ak_1", "DELETE /admin/v1/merchants/m_1/keys/ak_1", Value::Null),
    ];
    for (line, request, body) in cases {
        assert_eq!(asked_by(line).await, (String::from(request), body), "{line}");
    }
}

#[tokio::test]
async fn terms_are_sent_as_given() {
    let line = "update m_1 --country DE --channels stripe,alipay --per-second 5 --burst 10";
    let (_, body) = asked_by(line).await;
    let expected = json!({ "country": "DE", "channels": ["stripe", "alipay"],
        "limits": { "per_second": 5, "burst": 10 } });
    assert_eq!(body, expected);
    let (_, body) = asked_by("update m_1 --channels=").await;
    assert_eq!(body, json!({ "channels": [] }));
}

#[tokio::test]
async fn limits_of_its_own_are_taken_away_when_that_is_said() {
    let (request, body) = asked_by("update m_1 --own-limits none").await;
    assert_eq!((request.as_str(), body), ("PATCH /admin/v1/merchants/m_1", json!({ "limits": null })));
    let (_, body) = asked_by("update m_1 --own-limits none --per-hour 7 --tier premium").await;
    let limits = json!({ "per_second": null, "per_minute": null, "per_hour": 7, "burst": null, "concurrent": null });
    assert_eq!(body, json!({ "tier": "premium", "limits": limits }));
    let words = ["merchant", "update", "m_1", "--own-limits", "all"];
    assert!(Line::try_parse_from(words).is_err(), "there is no other word");
}

#[tokio::test]
async fn an_update_of_nothing_is_refused_before_it_is_sent() {
    let (shown, asked) = run_line("update m_1").await;
    assert!(matches!(shown, Err(Failure::Usage(_))));
    assert!(asked.is_empty());
}

#[tokio::test]
async fn a_new_merchant_is_shown_with_its_secret() {
    let (shown, _) = run_line("create Shop --tier starter").await;
    let text = shown.map(|shown| shown.text).unwrap();
    for expected in ["m_1", "per_second 5", "ak_1", "sk_1", "shown this once"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[tokio::test]
async fn a_shell_takes_the_key_of_a_new_merchant() {
    let (shown, _) = run_line("create Shop --tier starter --shell").await;
    assert_eq!(shown.map(|shown| shown.text).unwrap(), "export TOLLGATE_KEY=ak_1\nexport TOLLGATE_SECRET=sk_1");
    assert!(Line::try_parse_from("line create Shop --tier starter --shell --json".split(' ')).is_err());
}

#[test]
fn merchants_are_listed_in_columns() {
    let merchant: Value = serde_json::from_str(MERCHANT).unwrap();
    let text = merchants_table(&json!({ "items": [merchant["data"]] }));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[0].find("tier"), lines[1].find("starter"), "{text}");
    assert!(lines[1].contains("2025-01-24T10:30:45Z"));
}
