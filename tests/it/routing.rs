//! Routing, rules and channels that the operator changes while the gateway runs: at once, whole, kept, and undone.

use serde_json::{Value, json};
use tollgate::config::Config;
use tollgate::gateway::reload::{ConfigSource, Reloaded};

use crate::support::{Answer, Client, House};

const ROUTING: &str = "/admin/v1/routing";
const RULES: &str = "/admin/v1/rules";
const VERSIONS: &str = "/admin/v1/routing/versions";

async fn decision(shop: &Client, paid: &Answer) -> Value {
    let path = format!("/api/v1/payments/{}/routing", paid.data("payment_no"));
    shop.get(&path).await.expect(200, "SUCCESS").body["data"].clone()
}

/// Where a payment from a country would go, and by which rung.
async fn quote(shop: &Client, number: usize, more: Value) -> (String, String) {
    let mut body = json!({ "order_no": format!("Q-{number}"), "amount": 1000, "currency": "USD" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let quoted = shop.post("/api/v1/routing/quote", body).await.expect(200, "SUCCESS");
    (quoted.data("channel").to_owned(), quoted.data("rung").to_owned())
}

fn rule(name: &str, more: Value) -> Value {
    let mut body = json!({ "name": name, "id": name });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn with_file_rule(config: &mut Config) {
    let file = json!({ "name": "of the file", "countries": ["FR"], "channels": ["alipay"] });
    config.rules = vec![serde_json::from_value(file).unwrap()];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mode_and_ladder_change_at_once_and_null_goes_back() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let before = house.admin("GET", ROUTING, None).await.expect(200, "SUCCESS");
    assert_eq!((before.data("mode"), &before.body["data"]["version"]), ("balanced", &json!(1)));
    let change = json!({ "smart": false, "default_channel": "alipay" });
    let changed = house.admin("PUT", ROUTING, Some(change)).await.expect(200, "SUCCESS");
    assert_eq!(changed.body["data"]["version"], 2, "{}", changed.text);
    assert_eq!(changed.body["data"]["overridden"], json!(["routing.default_channel", "routing.smart"]));
    assert_eq!(quote(&shop, 1, json!({})).await, ("alipay".to_owned(), "default".to_owned()));
    let same = house.admin("PUT", ROUTING, Some(json!({ "smart": false }))).await.expect(200, "SUCCESS");
    assert_eq!(same.body["data"]["version"], 2, "no change, no version");
    let back = house.admin("PUT", ROUTING, Some(json!({ "smart": null, "default_channel": null }))).await;
    assert_eq!((&back.body["data"]["version"], back.data("default_channel")), (&json!(3), "stripe"));
    assert_eq!(back.body["data"]["overridden"], json!([]));
    for (wrong, field) in [
        (json!({ "mode": "fast" }), "mode"),
        (json!({ "smart": 1 }), "smart"),
        (json!({ "default_channel": "klarna" }), "default_channel"),
        (json!({ "failover_max": 1 }), "failover_max"),
    ] {
        let refused = house.admin("PUT", ROUTING, Some(wrong)).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), [field], "{}", refused.text);
    }
    assert_eq!(house.admin("GET", ROUTING, None).await.body["data"]["version"], 3);
    house.admin("PUT", ROUTING, Some(json!({ "mode": "cost" }))).await.expect(200, "SUCCESS");
    for wrong in [json!({}), json!({ "cost": null })] {
        let refused = house.admin("PUT", ROUTING, Some(json!({ "mode": wrong }))).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), ["mode"], "{}", refused.text);
    }
    assert_eq!(house.admin("GET", ROUTING, None).await.data("mode"), "cost");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_added_moved_changed_and_removed_and_decisions_follow() {
    let house = House::start_with(with_file_rule).await;
    let shop = house.merchant("premium").await;
    house.admin("PUT", ROUTING, Some(json!({ "rules_first": true }))).await.expect(200, "SUCCESS");
    let german = json!({ "countries": ["DE"], "channels": ["alipay", "stripe"] });
    let made = house.admin("POST", RULES, Some(rule("german", german))).await.expect(201, "SUCCESS");
    assert_eq!((made.data("source"), &made.body["data"]["position"]), ("api", &json!(1)));
    let from = |code: &str| json!({ "country": code });
    assert_eq!(quote(&shop, 1, from("DE")).await, ("alipay".to_owned(), "rules".to_owned()));
    assert_eq!(quote(&shop, 2, from("FR")).await, ("alipay".to_owned(), "rules".to_owned()), "the file's rule");
    assert_eq!(quote(&shop, 3, from("US")).await.1, "smart");

    let paid = shop.pay("O-1", 500, from("DE")).await.expect(201, "SUCCESS");
    let decided = decision(&shop, &paid).await;
    assert!(decided.to_string().contains("german"), "the decision names the rule: {decided}");

    // One before it, by its generated id.
    let all = json!({ "name": "all cards", "methods": ["card"], "channels": ["stripe"], "before": "german" });
    let first = house.admin("POST", RULES, Some(all)).await.expect(201, "SUCCESS");
    let id = first.data("id").to_owned();
    assert!(id.starts_with("ru_"), "{id}");
    let ids = |answer: &Answer| -> Vec<String> {
        answer.items().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    let listed = house.admin("GET", RULES, None).await.expect(200, "SUCCESS");
    assert_eq!(ids(&listed), [id.as_str(), "german", "of the file"]);
    let moved = house.admin("PUT", &format!("{RULES}/{id}"), Some(json!({ "position": 2 }))).await;
    assert_eq!(moved.expect(200, "SUCCESS").body["data"]["position"], 2);

    let path = format!("{RULES}/german");
    let changed = house.admin("PUT", &path, Some(json!({ "countries": ["AT"], "channels": ["stripe"] }))).await;
    assert_eq!(changed.expect(200, "SUCCESS").body["data"]["countries"], json!(["AT"]));
    assert_eq!(quote(&shop, 4, from("DE")).await.1, "smart");
    let off = house.admin("PUT", &path, Some(json!({ "enabled": false, "countries": null }))).await;
    let off = off.expect(200, "SUCCESS");
    assert_eq!((&off.body["data"]["enabled"], &off.body["data"]["countries"]), (&json!(false), &Value::Null));
    assert_eq!(quote(&shop, 5, from("AT")).await.1, "smart");

    let of_file = format!("{RULES}/of%20the%20file");
    assert_eq!(house.admin("GET", &of_file, None).await.expect(200, "SUCCESS").data("source"), "file");
    house.admin("PUT", &of_file, Some(json!({ "enabled": false }))).await.expect(403, "FORBIDDEN");
    house.admin("DELETE", &of_file, None).await.expect(403, "FORBIDDEN");
    house.admin("DELETE", &path, None).await.expect(200, "SUCCESS");
    house.admin("DELETE", &path, None).await.expect(404, "NOT_FOUND");
    house.admin("GET", &path, None).await.expect(404, "NOT_FOUND");
    let wrong = [
        (json!({ "name": "x" }), "channels"),
        (json!({ "channels": ["stripe"] }), "name"),
        (json!({ "name": "x", "channels": ["stripe"], "colour": 1 }), "colour"),
        (json!({ "name": "x", "channels": ["klarna"] }), "channels"),
        (json!({ "name": "x", "channels": ["stripe"], "from": "8" }), "from"),
        (json!({ "name": "x", "channels": ["stripe"], "amount_minor_min": 5 }), "amount_minor_min"),
        (json!({ "name": "x", "channels": ["stripe"], "methods": ["cash"] }), "rule"),
        (json!({ "name": "x", "channels": ["stripe"], "merchants": ["m_0"] }), "rule"),
        (json!({ "name": "x", "channels": ["alipay"], "methods": ["card"] }), "rule"),
        (json!({ "name": "of the file", "channels": ["stripe"] }), "name"),
        (json!({ "name": "x", "channels": ["stripe"], "before": "nobody" }), "before"),
        (json!({ "name": "x", "channels": ["stripe"], "position": 9 }), "position"),
        (json!({ "name": "x", "channels": ["stripe"], "position": -1 }), "position"),
        (json!({ "name": "x", "channels": ["stripe"], "id": "check" }), "id"),
        (json!({ "name": "x", "split": [{ "channel": "stripe", "percent": 99 }] }), "split"),
    ];
    for (body, field) in wrong {
        let refused = house.admin("POST", RULES, Some(body.clone())).await.expect(400, "INVALID_REQUEST");
        let mut fields = refused.wrong_fields();
        fields.dedup();
        assert_eq!(fields, [field], "{body}: {}", refused.text);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_says_what_saving_would_and_saves_nothing() {
    let house = House::start_with(with_file_rule).await;
    let check = format!("{RULES}/check");
    let clean = house.admin("POST", &check, None).await.expect(200, "SUCCESS");
    assert_eq!((&clean.body["data"]["rules"], &clean.body["data"]["findings"]), (&json!(1), &json!([])));
    let all = json!({ "rule": { "name": "all", "channels": ["stripe"] } });
    let shadows = house.admin("POST", &check, Some(all)).await.expect(200, "SUCCESS");
    let finding = &shadows.body["data"]["findings"][0];
    assert_eq!((&finding["rule"], &finding["other_rules"]), (&json!("of the file"), &json!(["all"])));
    assert_eq!((&shadows.body["data"]["errors"], &shadows.body["data"]["warnings"]), (&json!(0), &json!(1)));
    let table = json!({ "rules": [
        { "name": "never", "countries": ["DE"], "not_countries": ["DE"], "channels": ["stripe"] },
        { "name": "nowhere", "channels": ["klarna"] },
    ] });
    let wrong = house.admin("POST", &check, Some(table)).await.expect(200, "SUCCESS");
    assert!(wrong.body["data"]["errors"].as_u64().unwrap() >= 2, "{}", wrong.text);
    assert_eq!(house.admin("GET", RULES, None).await.items().len(), 1);
    assert_eq!(house.admin("GET", ROUTING, None).await.body["data"]["version"], 1);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_finds_what_saving_would_refuse_and_looks_where_the_rule_would_stand() {
    let house = House::start_with(with_file_rule).await;
    let check = format!("{RULES}/check");
    let cards = json!({ "methods": ["card"], "channels": ["stripe"] });
    house.admin("POST", RULES, Some(rule("cards", cards))).await.expect(201, "SUCCESS");
    let errors = async |body: Value| {
        let found = house.admin("POST", &check, Some(body)).await.expect(200, "SUCCESS");
        found.body["data"]["errors"].as_u64().unwrap()
    };
    for taken in ["cards", "of the file"] {
        let body = json!({ "id": "new", "name": taken, "channels": ["stripe"], "countries": ["BR"] });
        house.admin("POST", RULES, Some(body.clone())).await.expect(400, "INVALID_REQUEST");
        assert_eq!(errors(json!({ "rule": body })).await, 1, "{taken}");
    }
    let named = |id: Option<&str>, countries: &str| {
        let mut rule = json!({ "name": "same", "channels": ["stripe"], "countries": [countries] });
        if let Some(id) = id {
            rule["id"] = json!(id);
        }
        rule
    };
    assert_eq!(errors(json!({ "rules": [named(None, "DE"), named(None, "AT")] })).await, 1);
    // What has no id gets one when it is saved: its name need not be one.
    let nights = json!({ "name": "nights in Berlin", "channels": ["stripe"], "countries": ["BR"] });
    assert_eq!(errors(json!({ "rule": nights })).await, 0);
    assert_eq!(errors(json!({ "rules": [nights] })).await, 0);
    let wrong_id = json!({ "id": "not an id", "name": "x", "channels": ["stripe"], "countries": ["BR"] });
    assert_eq!(errors(json!({ "rule": wrong_id })).await, 1);
    let twice =
        house.admin("POST", &check, Some(json!({ "rules": [named(Some("a"), "DE"), named(Some("b"), "BR")] }))).await;
    let data = &twice.body["data"];
    assert_eq!((&data["rules"], &data["errors"]), (&json!(3), &json!(1)), "{}", twice.text);
    assert_eq!((&data["findings"][0]["rule"], &data["findings"][0]["other_rules"]), (&json!("b"), &json!(["a"])));

    // Behind the other it is never reached; before it, it is.
    let visa = |more: Value| {
        let mut rule = json!({ "name": "visa", "methods": ["card"], "countries": ["US"], "channels": ["stripe"] });
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "rule": rule })
    };
    let warnings = async |body: Value| {
        let found = house.admin("POST", &check, Some(body)).await.expect(200, "SUCCESS");
        found.body["data"]["warnings"].as_u64().unwrap()
    };
    assert_eq!(warnings(visa(json!({}))).await, 1);
    assert_eq!(warnings(visa(json!({ "position": 1 }))).await, 0);
    assert_eq!(warnings(visa(json!({ "before": "cards" }))).await, 0);
    for (wrong, field) in [(json!({ "before": "nobody" }), "rule.before"), (json!({ "nam": 1 }), "rule.nam")] {
        let refused = house.admin("POST", &check, Some(visa(wrong))).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), [field], "{}", refused.text);
    }
    // In place of the one with its id it stands where that stands.
    let instead = json!({ "rule": rule("cards", json!({ "methods": ["alipay"], "channels": ["alipay"] })) });
    assert_eq!(errors(instead).await, 0);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_no_rule_is_asked_is_said() {
    let house = House::start().await;
    let note = |answer: &Answer| answer.body["data"]["note"].as_str().map(str::to_owned);
    assert_eq!(note(&house.admin("GET", ROUTING, None).await), None, "there is none");
    let made = house.admin("POST", RULES, Some(rule("r", json!({ "channels": ["alipay"] })))).await;
    assert!(note(&made.expect(201, "SUCCESS")).is_some_and(|note| note.contains("rules_first = true")));
    assert!(note(&house.admin("POST", &format!("{RULES}/check"), None).await).is_some());
    for change in [json!({ "rules_first": true }), json!({ "rules_first": false, "smart": false })] {
        let changed = house.admin("PUT", ROUTING, Some(change)).await.expect(200, "SUCCESS");
        assert_eq!(note(&changed), None, "{}", changed.text);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_s_rule_is_read_by_any_name() {
    const NAMES: [&str; 4] = ["EU/cards", "50% off?#x", "a b", "..."];
    let house = House::start_with(|config| {
        let rule = |(place, name): (usize, &&str)| {
            let country = ["DE", "FR", "IT", "ES"][place];
            serde_json::from_value(json!({ "name": name, "countries": [country], "channels": ["stripe"] })).unwrap()
        };
        config.rules = NAMES.iter().enumerate().map(rule).collect();
    })
    .await;
    for (name, escaped) in NAMES.iter().zip(["EU%2Fcards", "50%25%20off%3F%23x", "a%20b", "..."]) {
        let read = house.admin("GET", &format!("{RULES}/{escaped}"), None).await.expect(200, "SUCCESS");
        assert_eq!(read.data("id"), *name);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_keeps_a_payment_s_share() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    house.admin("PUT", ROUTING, Some(json!({ "rules_first": true }))).await.expect(200, "SUCCESS");
    let split = json!({ "split": [{ "channel": "stripe", "percent": 50 }, { "channel": "alipay", "percent": 50 }] });
    house.admin("POST", RULES, Some(rule("half", split))).await.expect(201, "SUCCESS");
    let mut by_channel = std::collections::BTreeMap::<String, usize>::new();
    for number in 0..40 {
        let (channel, rung) = quote(&shop, number, json!({})).await;
        assert_eq!((quote(&shop, number, json!({})).await.0, rung.as_str()), (channel.clone(), "rules"));
        *by_channel.entry(channel).or_default() += 1;
    }
    assert!(by_channel.values().all(|count| (5..=35).contains(count)) && by_channel.len() == 2, "{by_channel:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_change_and_what_is_not_given_stays() {
    let house = House::start_with_two(|_| {}).await;
    let shop = house.merchant("premium").await;
    let path = "/admin/v1/channels/alipay";
    let before = house.admin("GET", path, None).await.expect(200, "SUCCESS");
    let china = json!({ "country": "CN" });
    assert_eq!(quote(&shop, 1, china.clone()).await.0, "alipay");
    let off = house.admin("PATCH", path, Some(json!({ "enabled": false }))).await.expect(200, "SUCCESS");
    assert_eq!((&off.body["data"]["enabled"], &off.body["data"]["overridden"]), (&json!(false), &json!(["enabled"])));
    assert_eq!(quote(&shop, 2, china.clone()).await.0, "stripe");
    let change = json!({ "enabled": true, "fees": { "percent": "0.7" }, "caps": { "per_day": 9 }, "weight": 7,
        "local_countries": ["CN"], "maintenance": [{ "from": "2020-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z" }] });
    let changed = house.admin("PATCH", path, Some(change)).await.expect(200, "SUCCESS");
    let data = &changed.body["data"];
    assert_eq!(
        (&data["fees"]["percent"], &data["fees"]["fixed_minor"]),
        (&json!("0.7"), &before.body["data"]["fees"]["fixed_minor"])
    );
    assert_eq!(
        (&data["caps"]["per_day"], &data["caps"]["concurrent"]),
        (&json!(9), &before.body["data"]["caps"]["concurrent"])
    );
    assert_eq!(quote(&shop, 3, china.clone()).await.0, "stripe", "it is away");
    let back = json!({ "enabled": null, "fees": null, "caps": null, "weight": null, "local_countries": null, "maintenance": null });
    let back = house.admin("PATCH", path, Some(back)).await.expect(200, "SUCCESS");
    for key in ["enabled", "fees", "caps", "weight", "local_countries", "maintenance"] {
        assert_eq!(back.body["data"][key], before.body["data"][key], "{key}");
    }
    house.admin("POST", &format!("{path}/reset-health"), None).await.expect(200, "SUCCESS");
    for (wrong, field) in [
        (json!({ "weight": 0 }), "weight"),
        (json!({ "local_countries": ["XX"] }), "local_countries"),
        (json!({ "caps": { "per_day": 0 } }), "caps"),
        (json!({ "fees": { "percent": "101" } }), "fees"),
        (json!({ "base_url": "https://example.com" }), "base_url"),
    ] {
        let refused = house.admin("PATCH", path, Some(wrong)).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), [field], "{}", refused.text);
    }
    let default = json!({ "enabled": false });
    let refused = house.admin("PATCH", "/admin/v1/channels/stripe", Some(default)).await;
    refused.expect(400, "INVALID_REQUEST");
    // What is no table is not merged with nothing, and so takes nothing away.
    house.admin("PATCH", path, Some(json!({ "weight": 7, "fees": { "percent": "0.7" } }))).await.expect(200, "SUCCESS");
    for (wrong, field) in [
        (json!({ "weight": {} }), "weight"),
        (json!({ "weight": { "x": null } }), "weight"),
        (json!({ "fees": "2" }), "fees"),
        (json!({ "fees": [] }), "fees"),
        (json!({ "fees": { "percent": {} } }), "fees"),
    ] {
        let refused = house.admin("PATCH", path, Some(wrong)).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), [field], "{}", refused.text);
    }
    let same = house.admin("PATCH", path, Some(json!({ "fees": {} }))).await.expect(200, "SUCCESS");
    assert_eq!((&same.body["data"]["weight"], &same.body["data"]["fees"]["percent"]), (&json!(7), &json!("0.7")));
    for (wrong, message) in [
        (json!({ "weight": -1 }), "must be a whole number from 0 to 4294967295"),
        (json!({ "weight": 0 }), "must be from 1 to 1000, not 0"),
        (
            json!({ "fees": { "percent": 2.5 } }),
            "percent: must be a percentage in quotes, so that it stays exact, such as \"2.9\"",
        ),
        (json!({ "caps": { "per_day": 0 } }), "caps.per_day must be at least 1; to stop payments set enabled = false"),
        (json!({ "caps": { "a_day": 1 } }), "has `a_day`, which is not one of its fields"),
    ] {
        let refused = house.admin("PATCH", path, Some(wrong)).await.expect(400, "INVALID_REQUEST");
        let told = refused.body["errors"][0]["message"].as_str().unwrap();
        assert_eq!(told, message.strip_prefix("caps.").unwrap_or(message));
    }
    house.admin("PATCH", "/admin/v1/channels/klarna", Some(json!({ "weight": 1 }))).await.expect(404, "NOT_FOUND");
    house.admin("POST", "/admin/v1/channels/klarna/reset-health", None).await.expect(404, "NOT_FOUND");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_restores_what_was_byte_for_byte_and_a_restart_keeps_it() {
    let house = House::start_with(with_file_rule).await;
    house.admin("PUT", ROUTING, Some(json!({ "mode": "cost", "rules_first": true }))).await.expect(200, "SUCCESS");
    let one = json!({ "countries": ["DE", "AT"], "metadata": { "k": ["b", "a"] }, "channels": ["alipay"] });
    house.admin("POST", RULES, Some(rule("one", one))).await.expect(201, "SUCCESS");
    let fees = json!({ "fees": { "percent": "2.5" }, "weight": 7 });
    house.admin("PATCH", "/admin/v1/channels/stripe", Some(fees)).await.expect(200, "SUCCESS");
    let versions = house.admin("GET", VERSIONS, None).await.expect(200, "SUCCESS").items();
    let overrides = |version: &Value| serde_json::to_string(&version["overrides"]).unwrap();
    let numbers: Vec<u64> = versions.iter().map(|version| version["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [4, 3, 2, 1]);
    assert_eq!((&versions[0]["action"], &versions[0]["in_force"]), (&json!("channel.update"), &json!(true)));
    assert_eq!(versions[0]["changes"]["channels.stripe.weight"], json!({ "before": 100, "after": 7 }));
    let wanted = overrides(&versions[0]);
    house.admin("DELETE", &format!("{RULES}/one"), None).await.expect(200, "SUCCESS");
    house.admin("PUT", ROUTING, Some(json!({ "mode": null }))).await.expect(200, "SUCCESS");
    let listed = house.admin("GET", RULES, None).await.items().len();
    assert_eq!(listed, 1);

    let rolled = house.admin("POST", "/admin/v1/routing/rollback", Some(json!({ "version": 4 }))).await;
    assert_eq!(rolled.expect(200, "SUCCESS").body["data"]["version"], 7);
    let versions = house.admin("GET", VERSIONS, None).await.items();
    assert_eq!((overrides(&versions[0]), &versions[0]["action"]), (wanted.clone(), &json!("routing.rollback")));
    house.admin("POST", "/admin/v1/routing/rollback", Some(json!({ "version": 99 }))).await.expect(404, "NOT_FOUND");
    let paged = house.admin("GET", &format!("{VERSIONS}?limit=2"), None).await;
    let cursor = paged.body["data"]["next_cursor"].as_str().unwrap().to_owned();
    let next = house.admin("GET", &format!("{VERSIONS}?limit=2&cursor={cursor}"), None).await;
    assert_eq!(next.items()[0]["version"], 5);
    let audit = house.admin("GET", "/admin/v1/audit?limit=100&verify=true", None).await;
    let actions: Vec<String> = audit.items().iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect();
    let expected =
        ["routing.rollback", "routing.update", "rule.delete", "channel.update", "rule.create", "routing.update"];
    assert_eq!(actions, expected);
    assert_eq!(audit.body["data"]["chain"]["intact"], true);
    let rules = house.admin("GET", RULES, None).await.body["data"].clone();
    let channel = house.admin("GET", "/admin/v1/channels/stripe", None).await.body["data"]["fees"].clone();

    let directory = house.stop().await;
    let house = House::start_in(directory, with_file_rule).await;
    let again = house.admin("GET", ROUTING, None).await.expect(200, "SUCCESS");
    assert_eq!(
        (&again.body["data"]["version"], again.data("mode")),
        (&json!(7), "cost"),
        "the same, so no new version"
    );
    assert_eq!(house.admin("GET", RULES, None).await.body["data"], rules);
    assert_eq!(house.admin("GET", "/admin/v1/channels/stripe", None).await.body["data"]["fees"], channel);
    let shop = house.merchant("premium").await;
    let paid = shop.pay("O-1", 100, json!({ "country": "AT", "metadata": { "k": "a" } })).await.expect(201, "SUCCESS");
    assert_eq!(paid.data("channel"), "alipay");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_another_file_is_a_version_and_names_what_does_not_fit_it() {
    let house = House::start().await;
    house.admin("PUT", ROUTING, Some(json!({ "default_channel": "alipay" }))).await.expect(200, "SUCCESS");
    house.admin("PATCH", "/admin/v1/channels/alipay", Some(json!({ "weight": 7 }))).await.expect(200, "SUCCESS");
    house
        .admin("POST", RULES, Some(rule("to alipay", json!({ "id": "a", "channels": ["alipay"] }))))
        .await
        .expect(201, "SUCCESS");
    house.admin("POST", RULES, Some(rule("both", json!({ "channels": ["stripe"] })))).await.expect(201, "SUCCESS");
    let directory = house.stop().await;
    let without = |config: &mut Config| {
        config.channels.remove("alipay");
        config.channels.get_mut("stripe").unwrap().weight = 55;
        if let Some(sandbox) = &mut config.sandbox {
            sandbox.faults.remove("alipay");
        }
    };
    let house = House::start_in(directory, without).await;
    let now = house.admin("GET", ROUTING, None).await.expect(200, "SUCCESS");
    let unfit: Vec<&str> =
        now.body["data"]["unfit"].as_array().unwrap().iter().map(|unfit| unfit["what"].as_str().unwrap()).collect();
    assert_eq!(unfit, ["routing.default_channel", "channels.alipay.weight", "rules.a"]);
    assert_eq!((now.data("default_channel"), &now.body["data"]["version"]), ("stripe", &json!(6)));
    let version = &house.admin("GET", VERSIONS, None).await.items()[0];
    assert_eq!((&version["by"], &version["action"]), (&json!("start"), &json!("config.start")));
    assert_eq!(version["changes"]["channels.stripe.weight"], json!({ "before": 100, "after": 55 }));
    // What is put there now must fit, or it is refused.
    let gone = json!({ "default_channel": "klarna" });
    let refused = house.admin("PUT", ROUTING, Some(gone)).await.expect(400, "INVALID_REQUEST");
    assert_eq!(refused.wrong_fields(), ["default_channel"], "{}", refused.text);
    assert_eq!(house.admin("GET", ROUTING, None).await.body["data"]["version"], 6);
    // What does not fit is in nobody's way, and comes back with the file.
    house.admin("PUT", ROUTING, Some(json!({ "mode": "success" }))).await.expect(200, "SUCCESS");
    let directory = house.stop().await;
    let house = House::start_in(directory, |_| {}).await;
    let now = house.admin("GET", ROUTING, None).await.expect(200, "SUCCESS");
    assert_eq!((now.data("default_channel"), now.data("mode")), ("alipay", "success"));
    assert_eq!(now.body["data"]["unfit"], json!([]));
    house.stop().await;
}

#[derive(Clone)]
struct Given(std::sync::Arc<std::sync::Mutex<Result<Config, String>>>);

impl ConfigSource for Given {
    fn read(&self) -> Result<Config, String> {
        self.0.lock().unwrap().clone()
    }

    fn has_changed(&self, _config: &Config, _reloaded: &Reloaded) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_the_file_below_what_the_api_has_changed() {
    let house = House::start().await;
    let reload = "/admin/v1/config/reload";
    house.admin("POST", reload, None).await.expect(404, "NOT_FOUND");
    let source = Given(std::sync::Arc::new(std::sync::Mutex::new(Err(String::from("config.toml can't be read")))));
    house.gateway.set_config_source(source.clone());
    let refused = house.admin("POST", reload, None).await.expect(400, "INVALID_REQUEST");
    assert!(refused.text.contains("config.toml can't be read"), "{}", refused.text);
    let fees = json!({ "weight": 7, "fees": { "percent": "2.5" } });
    house.admin("PATCH", "/admin/v1/channels/stripe", Some(fees)).await.expect(200, "SUCCESS");
    let mut config = house.gateway.config().clone();
    {
        let stripe = config.channels.get_mut("stripe").unwrap();
        (stripe.weight, stripe.fees.fixed_minor) = (44, 25);
    }
    *source.0.lock().unwrap() = Ok(config);
    let reloaded = house.admin("POST", reload, None).await.expect(200, "SUCCESS");
    assert_eq!(reloaded.body["data"]["applied"], json!(["channels.stripe.fees.fixed_minor", "channels.stripe.weight"]));
    let stripe = house.admin("GET", "/admin/v1/channels/stripe", None).await.body["data"].clone();
    assert_eq!(
        (&stripe["weight"], &stripe["fees"]["percent"], &stripe["fees"]["fixed_minor"]),
        (&json!(7), &json!("2.5"), &json!(25))
    );
    let version = &house.admin("GET", VERSIONS, None).await.items()[0];
    assert_eq!((&version["version"], &version["action"]), (&json!(3), &json!("config.reload")));
    assert_eq!(version["changes"], json!({ "channels.stripe.fees.fixed_minor": { "before": 30, "after": 25 } }));
    house.stop().await;
}

/// What a kill leaves of a store at least: the journal and what belongs to it. An index is made from it again.
fn copy_journal(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if ["LOCK", "next.tmp", "index", "heartbeat", "windows"].iter().any(|left_out| name == *left_out) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy_journal(&entry.path(), &to.join(name));
        } else {
            std::fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_in_force_after_a_kill() {
    let house = House::start().await;
    let made = house.admin("POST", RULES, Some(rule("kept", json!({ "channels": ["alipay"] })))).await;
    made.expect(201, "SUCCESS");
    // The files as they are at this moment: nothing was stopped, flushed or said good-bye to.
    let killed = tempfile::tempdir().unwrap();
    copy_journal(&house.directory.path().join("data"), &killed.path().join("data"));
    let after = House::start_in(killed, |_| {}).await;
    assert_eq!(after.admin("GET", RULES, None).await.items()[0]["id"], "kept");
    let now = after.admin("GET", ROUTING, None).await;
    assert_eq!(now.body["data"]["version"], 2, "{}", now.text);
    let audit = after.admin("GET", "/admin/v1/audit?verify=true", None).await;
    assert_eq!(
        (&audit.items()[0]["action"], &audit.body["data"]["chain"]["intact"]),
        (&json!("rule.create"), &json!(true))
    );
    after.stop().await;
    house.stop().await;
}
