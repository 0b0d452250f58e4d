//! Whoever prefers Chinese is told in Chinese what is wrong, whatever they send.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::{Answer, House, nonce, unix_s};

/// What is said to the operator in the words of the file that was read.
const WORDS_OF_OTHERS: [&str; 1] = ["TOML parse error"];

/// Values of which most are wrong for most fields.
fn values() -> Vec<Value> {
    vec![
        json!("x".repeat(300)),
        json!(" "),
        json!("\u{1}"),
        json!("zz"),
        json!("4242424242424242"),
        json!("http://127.0.0.1:1"),
        json!("2026-13-01"),
        json!(-1),
        json!(1.5),
        json!(1_000_000_000_000_000_000_u64),
        json!(true),
        Value::Null,
        json!([]),
        json!({}),
        json!(["a"]),
        json!([{}]),
        json!({ "a": {} }),
    ]
}

fn is_chinese(message: &str) -> bool {
    message.chars().any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter))
        || WORDS_OF_OTHERS.iter().any(|words| message.contains(words))
}

/// What an answer says in other languages, and how much it says at all.
fn english_in(answer: &Answer) -> (Vec<String>, usize) {
    if answer.status < 400 {
        return (Vec::new(), 0);
    }
    let errors = answer.body["errors"].as_array().cloned().unwrap_or_default();
    let said: Vec<String> = std::iter::once(&answer.body)
        .chain(&errors)
        .filter_map(|said| Some(said["message"].as_str()?.to_owned()))
        .collect();
    let count = said.len();
    (said.into_iter().filter(|message| !is_chinese(message)).collect(), count)
}

/// The fields of an operation's body, and an example of it.
fn body_of<'a>(document: &'a Value, operation: &'a Value) -> Option<(Vec<&'a str>, Value)> {
    let content = &operation["requestBody"]["content"]["application/json"];
    let mut schema = content.get("schema")?;
    if let Some(target) = schema["$ref"].as_str() {
        schema = document.pointer(target.trim_start_matches('#'))?;
    }
    let fields = schema["properties"].as_object().map(|fields| fields.keys().map(String::as_str).collect());
    Some((fields.unwrap_or_default(), content.get("example").cloned().unwrap_or_else(|| json!({}))))
}

/// Bodies with one thing wrong, and some that are wrong as a whole.
fn wrong_bodies(fields: &[&str], example: &Value) -> Vec<Value> {
    let mut bodies = vec![json!("x"), json!([]), Value::Null, json!({ "zz": 1 }), json!({})];
    for field in fields {
        for value in values() {
            let mut body = example.clone();
            body[*field] = value;
            bodies.push(body);
        }
    }
    bodies
}

fn wrong_queries(operation: &Value) -> Vec<String> {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let named =
        parameters.filter(|parameter| parameter["in"] == "query").filter_map(|parameter| parameter["name"].as_str());
    let mut queries = vec![String::from("?zz=1"), String::from("?from=2027-01-01&to=2026-01-01")];
    for name in named {
        queries.extend(["", "zz", "%21", "0", "-1", "a%20b"].map(|value| format!("?{name}={value}")));
    }
    queries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_refused_in_english_to_those_who_prefer_chinese() {
    let house = House::start().await;
    let limits = json!({ "per_second": 100_000, "burst": 100_000, "per_minute": 1_000_000, "per_hour": 1_000_000,
        "concurrent": 1_000 });
    let shop = house.merchant_limited(limits).await;
    let bearer = format!("Bearer {}", house.admin_token);
    let document = house.admin("GET", "/openapi.json", None).await.body;
    let (mut english, mut said) = (Vec::new(), 0);
    for (template, item) in document["paths"].as_object().unwrap() {
        let segments = template.split('/').map(|segment| match segment.strip_prefix('{') {
            Some("channel}" | "name}") => "stripe",
            Some(_) => "x_1",
            None => segment,
        });
        let path = segments.collect::<Vec<_>>().join("/");
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase();
            let mut requests: Vec<(String, Option<Value>)> = Vec::new();
            if method == "GET" {
                requests.extend(wrong_queries(operation).into_iter().map(|query| (format!("{path}{query}"), None)));
            } else if let Some((fields, example)) = body_of(&document, operation) {
                // Copies of the store and new keys are not to be made by the dozen.
                let fields = if path.contains("/store/") { Vec::new() } else { fields };
                requests.extend(wrong_bodies(&fields, &example).into_iter().map(|body| (path.clone(), Some(body))));
            }
            for (path, body) in requests {
                let preferred = (String::from("accept-language"), String::from("zh-CN"));
                let answer = if path.starts_with("/api/") {
                    let text = body.as_ref().map(ToString::to_string);
                    let key = (method == "POST").then(nonce);
                    let signed_body = text.as_deref().unwrap_or_default();
                    let mut headers = shop.signed(&method, &path, signed_body, key.as_deref(), unix_s(), &nonce());
                    headers.extend([preferred]);
                    shop.send(&method, &path, text, headers).await
                } else {
                    let headers = HashMap::from([preferred, (String::from("authorization"), bearer.clone())]);
                    house.admin_as(&method, &path, body.clone(), headers).await
                };
                let (wrong, count) = english_in(&answer);
                said += count;
                english.extend(wrong.into_iter().map(|message| format!("{method} {template}: {message}")));
            }
        }
    }
    english.sort();
    english.dedup();
    assert!(said > 2_000, "only {said} sentences were heard");
    assert!(english.is_empty(), "in English:\n{}", english.join("\n"));
    house.stop().await;
}
