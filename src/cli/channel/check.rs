//! `tollgate channel check`: whether a channel is set up right, as its provider sees it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::admin::Admin;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output;

/// What a channel can do, as it is said to people.
const ABILITIES: [(&str, &str); 5] = [
    ("charge", "payments"),
    ("refund", "refunds"),
    ("pre_auth", "pre-auths"),
    ("partial_capture", "partial captures"),
    ("notifications", "notifications"),
];

/// Has the gateway look at a channel, and prints what that showed.
pub(super) async fn run(admin: &Admin, channel: &str, as_json: bool) -> Result<Outcome, Failure> {
    let found = admin.call(Method::POST, &["channels", channel, "check"], Some(&json!({}))).await?;
    if as_json {
        output::json(&found)?;
    } else {
        output::line(&text_of(&found))?;
    }
    Ok(if found["result"] == "fine" { Outcome::Fine } else { Outcome::Failed })
}

/// What was found, a line a fact, and sentences below.
fn text_of(found: &Value) -> String {
    let text = |key: &str| found[key].as_str().map(String::from);
    let result = found["result"].as_str().unwrap_or("-").replace('_', " ");
    let result = found["duration_ms"].as_u64().map_or(result.clone(), |took| format!("{result}, in {took} ms"));
    let can = |(key, said): &(&str, &'static str)| (found["capabilities"][key] == true).then_some(*said);
    let abilities: Vec<&str> = ABILITIES.iter().filter_map(can).collect();
    let real_money = found["livemode"].as_bool().map(|real| String::from(if real { "yes" } else { "no" }));
    let facts = [
        ("channel", text("channel")),
        ("kind", text("kind")),
        ("result", Some(result)),
        ("account", text("account")),
        ("real money", real_money),
        ("can do", (!abilities.is_empty()).then(|| abilities.join(", "))),
        ("callbacks", text("callback_url")),
    ];
    let facts = facts.into_iter().filter_map(|(title, value)| Some(format!("{title:<12}{}", value?)));
    let sentences = [("", text("problem")), ("To do: ", text("advice"))];
    let sentences = sentences.into_iter().filter_map(|(title, said)| Some(format!("{title}{}", said?)));
    let findings = found["findings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    facts.chain(sentences).chain(findings.map(|finding| format!("- {finding}"))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::scripted::Scripted;

    #[test]
    fn what_was_found_is_said_in_lines() {
        let found = json!({ "channel": "stripe", "kind": "stripe", "result": "wrong_mode", "problem": "It is wrong.",
            "advice": "Mend it.", "account": "acct_1", "livemode": true, "findings": ["One.", "Two."],
            "capabilities": { "charge": true, "refund": true, "pre_auth": false, "check": true },
            "callback_url": "https://pay.example.com/callbacks/stripe", "duration_ms": 84 });
        let expected = "channel     stripe\nkind        stripe\nresult      wrong mode, in 84 ms\naccount     acct_1\n\
            real money  yes\ncan do      payments, refunds\ncallbacks   https://pay.example.com/callbacks/stripe\n\
            It is wrong.\nTo do: Mend it.\n- One.\n- Two.";
        assert_eq!(text_of(&found), expected);
    }

    #[tokio::test]
    async fn only_what_is_fine_ends_well() {
        let answers =
            ["fine", "refused"].map(|result| json!({ "code": "SUCCESS", "data": { "result": result } }).to_string());
        let server = Scripted::start(&[(200, &answers[0]), (200, &answers[1]), (404, "{}")]).await;
        let admin = Admin::at(&server.url, "token").unwrap();
        assert_eq!(run(&admin, "stripe", true).await, Ok(Outcome::Fine));
        assert_eq!(run(&admin, "stripe", false).await, Ok(Outcome::Failed));
        assert!(matches!(run(&admin, "strip", false).await, Err(Failure::Failed(_))));
        let asked = server.asked();
        assert_eq!((asked[0].method.as_str(), asked[0].uri.path()), ("POST", "/admin/v1/channels/stripe/check"));
    }
}
