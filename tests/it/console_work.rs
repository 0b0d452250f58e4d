//! What operators do in the console about webhooks, limits, routing and settings, as a browser without scripts does it.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tollgate::config::Config;
use tollgate::gateway::reload::{ConfigSource, Reloaded};

use crate::support::{Browser, Client, House, Receiver, eventually};

/// Sends the form of a confirmation and says what the page after it says.
async fn confirm(browser: &Browser, path: &str, fields: &[(&str, &str)], says: &str) -> String {
    let asked = browser.page(path.split('?').next().unwrap()).await;
    assert!(asked.contains("class=\"card confirm\"") || asked.contains("<form"), "{asked}");
    send(browser, path, fields, says).await
}

async fn send(browser: &Browser, path: &str, fields: &[(&str, &str)], says: &str) -> String {
    let done = browser.post(path, fields).await;
    assert_eq!(done.status, 303, "{path}: {}", done.text);
    let page = browser.page(done.header("location")).await;
    assert!(page.contains(says), "{says:?} in {page}");
    page
}

/// The version of the routing that a page shows to who is asked.
async fn seen(browser: &Browser, path: &str) -> String {
    let asked = browser.page(path).await;
    let (_, rest) = asked.split_once("name=\"version\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// The same for a form that says which version was looked at.
async fn confirm_seen(browser: &Browser, path: &str, fields: &[(&str, &str)], says: &str) -> String {
    let version = seen(browser, path).await;
    confirm(browser, path, &[fields, &[("version", version.as_str())]].concat(), says).await
}

async fn actions(house: &House) -> Vec<String> {
    let audit = house.admin("GET", "/admin/v1/audit?limit=100", None).await.expect(200, "SUCCESS");
    let items = audit.items();
    items.iter().rev().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

async fn with_status(shop: &Client, status: &str, number: usize) -> Vec<String> {
    eventually("the notifications' status", || async {
        let list = shop.get(&format!("/api/v1/webhooks/notifications?status={status}")).await.expect(200, "SUCCESS");
        let ids: Vec<String> = list.items().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
        (ids.len() == number).then_some(ids)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_up_is_found_read_and_sent_again() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    receiver.answer(400);
    let endpoint = json!({ "url": receiver.url, "description": "<b>mine</b>" });
    let id = shop.post("/api/v1/webhooks/endpoints", endpoint).await.expect(201, "SUCCESS").data("id").to_owned();
    for order in ["O-1", "O-2", "O-3"] {
        shop.pay(order, 900, json!({})).await.expect(201, "SUCCESS");
    }
    let failed = with_status(&shop, "failed", 3).await;
    let browser = Browser::logged_in(&house).await;

    let list = browser.page("/console/webhooks").await;
    assert!(list.contains(&format!("/console/webhooks/endpoints/{id}")) && list.contains(&shop.merchant_id), "{list}");
    assert!(!browser.page("/console/webhooks?status=paused").await.contains(&id));
    let cell = |page: &str, column: &str| {
        let (_, row) = page.split_once(&format!("href=\"/console/webhooks/endpoints/{id}\"")).unwrap();
        let (_, cell) = row.split_once(&format!("<td data-label=\"{column}\"")).unwrap();
        cell.split_once("</td>").unwrap().0.to_owned()
    };
    assert!(cell(&list, "Waiting").contains(">0"), "{list}");
    let link =
        format!("<a href=\"/console/webhooks/notifications?endpoint_id={id}&#38;status=failed\"><code>3</code></a>");
    assert!(cell(&list, "Given up").contains(&link), "{list}");
    // Who looks at night finds from the first page whose they are.
    let quiet = json!({ "url": receiver.url });
    let other = house.merchant("premium").await;
    let quiet = other.post("/api/v1/webhooks/endpoints", quiet).await.expect(201, "SUCCESS").data("id").to_owned();
    let tile = "<dt>Webhooks given up</dt><dd class=\"value\"><a href=\"/console/webhooks?given_up=true\">3</a></dd>";
    eventually("they are counted", || async { browser.page("/console").await.contains(tile).then_some(()) }).await;
    let led = browser.page("/console/webhooks?given_up=true").await;
    assert!(led.contains(&id) && !led.contains(&quiet), "{led}");
    assert!(browser.page("/console/webhooks?given_up=").await.contains(&quiet));
    assert_eq!(browser.get("/console/webhooks?given_up=perhaps").await.status, 400);
    let one = browser.page(&format!("/console/webhooks/endpoints/{id}")).await;
    assert!(one.contains("&#60;b&#62;mine") && failed.iter().all(|no| one.contains(no)), "{one}");
    assert!(browser.page("/console/webhooks/notifications").await.contains("Say whose"));
    let given_up = browser.page(&format!("/console/webhooks/notifications?endpoint_id={id}&status=failed")).await;
    assert!(given_up.contains("Send the 3 given up here again"), "{given_up}");
    let read = browser.page(&format!("/console/webhooks/notifications/{}", failed[0])).await;
    assert!(read.contains("payment.success") && read.contains(">400<") && read.contains(&receiver.url), "{read}");

    receiver.answer(200);
    let path = format!("/console/webhooks/resend?ids={}", failed[0]);
    let asked = browser.page(&path).await;
    assert!(asked.contains("This notification is sent again") && asked.contains(&failed[0]), "{asked}");
    let (only, all) = (failed[0].as_str(), failed.join(","));
    let page = send(&browser, "/console/webhooks/resend", &[("ids", only)], "It is on its way again.").await;
    assert!(page.contains("Notifications"));
    with_status(&shop, "success", 1).await;
    // One of them is not to be sent any more, which keeps back none of the others.
    let said = format!("2 are on their way again; not any more to be sent: {only}.");
    send(&browser, "/console/webhooks/resend", &[("ids", &all)], &said).await;
    with_status(&shop, "success", 3).await;
    for none in [only, &all] {
        send(&browser, "/console/webhooks/resend", &[("ids", none)], "notice bad").await;
    }
    for (ids, status) in [("", 400), ("wn_nobody", 303)] {
        assert_eq!(browser.post("/console/webhooks/resend", &[("ids", ids)]).await.status, status, "{ids}");
    }
    assert_eq!(browser.get("/console/webhooks/resend?ids=wn_nobody").await.status, 404);
    // Nobody is led elsewhere by a form.
    let led = browser.post("/console/webhooks/resend", &[("ids", only), ("back", "https://evil.example/")]).await;
    assert_eq!(led.header("location"), "/console/webhooks/notifications");
    let retries = actions(&house).await.iter().filter(|action| *action == "webhook_notification.retry").count();
    assert_eq!(retries, 3);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_paused_enabled_recovered_and_reset() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    let endpoint = json!({ "url": receiver.url });
    let id = shop.post("/api/v1/webhooks/endpoints", endpoint).await.expect(201, "SUCCESS").data("id").to_owned();
    let at = format!("/console/webhooks/endpoints/{id}");
    let browser = Browser::logged_in(&house).await;
    confirm(&browser, &format!("{at}/pause"), &[], "The endpoint is paused.").await;
    assert!(browser.page(&at).await.contains("badge warn\">paused"));
    confirm(&browser, &format!("{at}/enable"), &[], "The endpoint is enabled.").await;
    confirm(&browser, &format!("{at}/reset-health"), &[], "is forgotten").await;
    send(&browser, &format!("{at}/recover"), &[("since", "soon")], "RFC 3339").await;
    let job = confirm(&browser, &format!("{at}/recover"), &[("since", "2020-01-01T00:00")], "The job has begun.").await;
    assert!(job.contains("2020-01-01 00:00:00") && job.contains(&id), "{job}");
    let listed = browser.page(&format!("/console/webhooks/jobs?merchant_id={}", shop.merchant_id)).await;
    assert!(listed.contains("/console/webhooks/jobs/") && listed.contains("recover"), "{listed}");
    browser.page("/console/webhooks/jobs").await;
    let done = actions(&house).await;
    let expected = [
        "webhook_endpoint.pause",
        "webhook_endpoint.enable",
        "webhook_endpoint.reset_health",
        "webhook_endpoint.recover",
    ];
    assert_eq!(done[done.len() - 4..], expected);
    for path in ["endpoints/we_nobody", "endpoints/we_nobody/pause", "notifications/wn_nobody", "jobs/wj_nobody"] {
        assert_eq!(browser.get(&format!("/console/webhooks/{path}")).await.status, 404, "{path}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_seen_and_a_tier_is_changed() {
    let house = House::start().await;
    let shop = house.merchant("starter").await;
    for _ in 0..3 {
        shop.get("/api/v1/limits").await;
    }
    shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    let browser = Browser::logged_in(&house).await;
    let page = browser.page("/console/limits").await;
    assert!(page.contains(&shop.merchant_id) && page.contains("<meter") && page.contains(" of 10,000"), "{page}");
    assert!(browser.page("/console/limits?near=true").await.contains("No merchant is near a limit."));
    assert!(browser.page("/console/merchants").await.contains(&shop.merchant_id));
    let at = format!("/console/limits/{}", shop.merchant_id);
    let one = browser.page(&at).await;
    assert!(one.contains("starter") && one.contains(" of 500") && one.contains("at once"), "{one}");
    assert_eq!(one.split_once(">Days<").unwrap().1.matches("<tr>").count(), 2, "a heading and today: {one}");
    let asked = browser.page(&format!("{at}/tier")).await;
    assert!(asked.contains("<option value=\"starter\" selected>") && asked.contains("value=\"business\""), "{asked}");
    let page = confirm(&browser, &format!("{at}/tier"), &[("tier", "business")], "The tier is business now.").await;
    assert!(page.contains(" of 2,500"), "{page}");
    assert_eq!(shop.get("/api/v1/limits").await.header("x-ratelimit-limit"), "50");
    send(&browser, &format!("{at}/tier"), &[("tier", "gold")], "notice bad").await;
    assert_eq!(browser.post(&format!("{at}/tier"), &[]).await.status, 400);
    assert_eq!(browser.get("/console/limits/m_nobody").await.status, 404);
    assert_eq!(actions(&house).await.last().unwrap(), "merchant.update");
    house.stop().await;
}

async fn channels_without_outcome(house: &House) -> usize {
    let channels = house.admin("GET", "/admin/v1/channels", None).await.expect(200, "SUCCESS");
    channels.items().iter().filter(|channel| channel["samples"] == 0).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_rules_and_versions_are_seen_and_changed() {
    let house = House::start_with_two(|_| {}).await;
    let shop = house.merchant("premium").await;
    let rule = json!({ "name": "big <b>ones</b>", "countries": ["DE"], "channels": ["alipay"] });
    house.admin("PUT", "/admin/v1/routing", Some(json!({ "rules_first": true }))).await.expect(200, "SUCCESS");
    house.admin("POST", "/admin/v1/rules", Some(rule)).await.expect(201, "SUCCESS");
    let browser = Browser::logged_in(&house).await;
    let page = browser.page("/console/routing").await;
    assert!(page.contains("countries: DE") && page.contains("&#60;b&#62;ones"), "{page}");
    let decided = |page: &str| {
        let row = page.split("countries: DE").nth(1).unwrap().split("</tr>").next().unwrap().to_owned();
        let cell = row.rsplit("<td data-label=\"Decided\"").next().unwrap().to_owned();
        cell.split('>').nth(1).unwrap().split('<').next().unwrap().to_owned()
    };
    assert_eq!(decided(&page), "0");
    assert_eq!(page.matches(" %, assumed").count(), 2, "nothing is known of them yet: {page}");
    for (order, country) in [("O-1", "DE"), ("O-2", "DE"), ("O-3", "US")] {
        shop.pay(order, 900, json!({ "country": country })).await.expect(201, "SUCCESS");
    }
    assert_eq!(decided(&browser.page("/console/routing").await), "2");

    let at = "/console/routing/channels/stripe";
    assert_eq!(browser.get("/console/routing/stripe").await.header("location"), at);
    let one = browser.page(at).await;
    assert!(one.contains("Disable…") && one.contains("fixed_minor"), "{one}");
    assert!(one.contains("Expected to succeed"), "{one}");
    let page = browser.page("/console/routing").await;
    assert_eq!(page.matches(" %, assumed").count(), channels_without_outcome(&house).await, "{page}");
    confirm(&browser, "/console/routing/channels/alipay/disable", &[], "The channel is disabled.").await;
    assert_eq!(shop.pay("O-4", 900, json!({ "country": "DE" })).await.data("channel"), "stripe");
    let page = confirm(&browser, "/console/routing/channels/alipay/enable", &[], "The channel is enabled.").await;
    assert!(page.contains("Reset health…"));
    confirm(&browser, &format!("{at}/reset-health"), &[], "is forgotten").await;
    send(&browser, "/console/routing/channels/stripe/disable", &[], "notice bad").await;

    let versions = browser.page("/console/routing/versions").await;
    assert!(versions.contains("in force") && versions.contains("channel.update"), "{versions}");
    let fields = [("mode", "cost"), ("smart", "true"), ("rules_first", "true"), ("default_channel", "stripe")];
    confirm_seen(&browser, "/console/routing/change", &fields, "is in force.").await;
    let now = house.admin("GET", "/admin/v1/routing", None).await.expect(200, "SUCCESS");
    assert_eq!((now.data("mode"), &now.body["data"]["rules_first"]), ("cost", &json!(true)));
    let overridden = now.body["data"]["overridden"].as_array().unwrap().clone();
    assert!(!overridden.contains(&json!("routing.default_channel")), "what stays is not changed: {overridden:?}");
    confirm_seen(&browser, "/console/routing/versions/0/rollback", &[], "is in force.").await;
    let now = house.admin("GET", "/admin/v1/routing", None).await.expect(200, "SUCCESS");
    assert_eq!((now.data("mode"), &now.body["data"]["rules"]), ("balanced", &json!(0)));
    let gone = "/console/routing/versions/999/rollback";
    let version = seen(&browser, gone).await;
    let page = send(&browser, gone, &[("version", &version)], "notice bad").await;
    assert!(!page.contains("meanwhile"), "{page}");
    for path in [
        "/console/routing/channels/nobody",
        "/console/routing/channels/nobody/disable",
        "/console/routing/versions/x/rollback",
    ] {
        assert_eq!(browser.get(path).await.status, 404, "{path}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_looked_at_another_version_of_the_routing_changes_nothing() {
    let house = House::start_with_two(|_| {}).await;
    let browser = Browser::logged_in(&house).await;
    let (change, rollback) = ("/console/routing/change", "/console/routing/versions/0/rollback");
    let (old, old_of_rollback) = (seen(&browser, change).await, seen(&browser, rollback).await);
    // A colleague stops the strategies while the page is open.
    house.admin("PUT", "/admin/v1/routing", Some(json!({ "smart": false }))).await.expect(200, "SUCCESS");
    let fields = [("mode", "cost"), ("smart", "true"), ("default_channel", "stripe"), ("version", old.as_str())];
    let page = send(&browser, change, &fields, "notice bad").await;
    assert!(page.contains("was changed meanwhile"), "{page}");
    let page = send(&browser, rollback, &[("version", &old_of_rollback)], "notice bad").await;
    assert!(page.contains("was changed meanwhile"), "{page}");
    // Nor who does not say what was looked at.
    send(&browser, change, &fields[..3], "notice bad").await;
    send(&browser, rollback, &[], "notice bad").await;
    let now = house.admin("GET", "/admin/v1/routing", None).await.expect(200, "SUCCESS");
    assert_eq!((now.data("mode"), &now.body["data"]["smart"]), ("balanced", &json!(false)));
    confirm_seen(&browser, change, &[("mode", "cost"), ("default_channel", "stripe")], "is in force.").await;
    let now = house.admin("GET", "/admin/v1/routing", None).await.expect(200, "SUCCESS");
    assert_eq!((now.data("mode"), &now.body["data"]["smart"]), ("cost", &json!(false)));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_happen_to_a_payment_is_asked_and_nothing_happens() {
    let house = House::start_with_two(|_| {}).await;
    let shop = house.merchant("premium").await;
    let browser = Browser::logged_in(&house).await;
    assert!(browser.page("/console/routing/quote").await.contains("In minor units"));
    let ask = async |more: &str| {
        browser.page(&format!("/console/routing/quote?merchant_id={}&currency=USD&{more}", shop.merchant_id)).await
    };
    let china = ask("amount=5000&country=CN&method=&channel=").await;
    assert!(
        china.contains("badge good\">chosen") && china.contains("href=\"/console/routing/channels/alipay\""),
        "{china}"
    );
    let card = ask("amount=5000&method=card").await;
    assert!(
        card.contains("1.75 USD") && card.contains("badge bad\">no"),
        "stripe takes it, alipay takes no cards: {card}"
    );
    assert!(ask("amount=lots").await.contains("must be a whole number of minor units"));
    assert!(ask("amount=5000&method=crypto").await.contains("no channel can take it"));
    let nobody = browser.page("/console/routing/quote?merchant_id=m_nobody&amount=1&currency=USD").await;
    assert!(nobody.contains("m_nobody") && !nobody.contains("Decision"), "{nobody}");
    assert!(house.admin("GET", "/admin/v1/payments", None).await.items().is_empty());
    house.stop().await;
}

#[derive(Clone)]
struct Given(Arc<Mutex<Result<Config, String>>>);

impl ConfigSource for Given {
    fn read(&self) -> Result<Config, String> {
        self.0.lock().unwrap().clone()
    }

    fn has_changed(&self, _config: &Config, _reloaded: &Reloaded) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_is_looked_at_and_read_again() {
    let house = House::start().await;
    let mut config = house.gateway.config().clone();
    config.tiers.get_mut("starter").unwrap().burst = 77;
    config.server.body_max_bytes = 2_048;
    let source = Given(Arc::new(Mutex::new(Ok(config))));
    house.gateway.set_config_source(source.clone());
    let browser = Browser::logged_in(&house).await;
    let page = browser.page("/console/settings").await;
    assert!(
        page.contains("[tiers.starter]") && page.contains("at the start") && page.contains("Back up now"),
        "{page}"
    );
    assert!(!page.contains(&house.admin_token));
    let asked = browser.page("/console/settings/reload").await;
    for part in ["tiers.starter.burst", "badge good\">at once", "server.body_max_bytes", "badge warn\">after a restart"]
    {
        assert!(asked.contains(part), "{part} in {asked}");
    }
    assert_eq!(house.gateway.settings().tiers["starter"].burst, 20, "asking changes nothing");
    let page =
        confirm(&browser, "/console/settings/reload", &[], "1 keys are in force now, 1 wait for a restart.").await;
    assert_eq!(house.gateway.settings().tiers["starter"].burst, 77);
    assert!(page.contains(">server.body_max_bytes</code>") && page.contains("badge good\">in force"), "{page}");
    *source.0.lock().unwrap() = Err(String::from("line 3: <what>?"));
    let asked = browser.page("/console/settings/reload").await;
    assert!(asked.contains("line 3: &#60;what&#62;?") && !asked.contains("Put in force what"), "{asked}");
    let page = send(&browser, "/console/settings/reload", &[], "notice bad").await;
    assert!(page.contains("nothing was changed"), "{page}");
    let metrics = house.admin("GET", "/metrics", None).await.text;
    for line in
        ["tollgate_config_reloads_total{result=\"failure\"} 1", "tollgate_config_reloads_total{result=\"success\"} 1"]
    {
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }
    // Whoever started this gateway keeps logs of its own.
    send(&browser, "/console/settings/log-level", &[("filter", "debug")], "notice bad").await;
    send(&browser, "/console/settings/log-level", &[("for_s", "soon")], "for_s must be a whole number").await;
    let backup = house.directory.path().join("backup");
    send(&browser, "/console/settings/backup", &[("destination", "here")], "notice bad").await;
    send(&browser, "/console/settings/backup", &[("destination", backup.to_str().unwrap())], "The backup has begun.")
        .await;
    eventually("the backup", || async {
        browser.page("/console/settings").await.contains("badge good\">done").then_some(())
    })
    .await;
    house.stop().await;
}
