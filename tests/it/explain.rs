//! Decisions that can be read: by merchants, by the operator, in both languages, also those of registered strategies.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::Arc;

use serde_json::{Value, json};
use tollgate::cli::{self, CommandLine};
use tollgate::clock::Clock;
use tollgate::domain::ids::ChannelName;
use tollgate::domain::routing::{Candidates, ChannelSet, DecisionRecord, RouteRequest, RoutingStrategy};
use tollgate::gateway::{Environment, Gateway};
use tollgate::random::Random;

use crate::support::{House, eventually, quick_config};

const PAYMENTS: &str = "/api/v1/payments";
const ALL: &str = "/admin/v1/payments";

fn names(values: &Value) -> Vec<&str> {
    values.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
}

/// What is said of one channel in a list of them.
fn of<'a>(channels: &'a Value, name: &str) -> &'a Value {
    channels.as_array().unwrap().iter().find(|channel| channel["channel"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_is_told_with_every_number_it_went_by() {
    let house = House::start_with_two(|_| {}).await;
    let shop = house.merchant("business").await;
    let other = house.merchant("business").await;
    house.disturb("stripe", json!({ "down": true })).await;
    let paid = shop.pay("O-1", 10_000, json!({ "country": "US" })).await.expect(201, "SUCCESS");
    let number = paid.data("payment_no");
    let routing = shop.get(&format!("{PAYMENTS}/{number}/routing")).await.expect(200, "SUCCESS");
    let attempts = routing.body["data"]["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{}", routing.text);
    let first = &attempts[0]["explanation"];
    assert_eq!((&first["channel"], &first["strategy"]), (&json!("stripe"), &json!("geographic")));
    assert_eq!(first["reason"], "stripe is local to the payer's country.");
    assert_eq!(
        (&first["mode"], &first["amount"], &first["country"]),
        (&json!("balanced"), &json!(10_000), &json!("US"))
    );
    assert!(first["draw"].as_str().unwrap().parse::<u64>().is_ok());
    assert_eq!(
        (&first["reproduced"], &first["all_down"], &first["prior_outcomes"]),
        (&json!(true), &json!(false), &json!(20))
    );
    // The record as it is stored is enough to make the decision again.
    let record: DecisionRecord = serde_json::from_value(attempts[0]["decision"].clone()).unwrap();
    assert!(record.is_reproduced());
    assert_eq!(record.chosen_channel().unwrap().channel.as_str(), "stripe");
    let step = &first["steps"][0];
    assert_eq!((names(&step["before"]), names(&step["after"])), (vec!["alipay", "stripe"], vec!["stripe"]));
    assert_eq!(step["figures"][1], json!({ "channel": "stripe", "kept": true, "local": true }));
    assert_eq!(of(&first["channels"], "stripe")["fee"], json!({ "amount": 320, "currency": "USD" }));
    assert_eq!(of(&first["channels"], "stripe")["expected_cost"]["currency"], "USD");
    let failed_over = attempts[0]["failed_over"].as_str().unwrap();
    assert!(failed_over.starts_with("stripe could not do it (") && failed_over.ends_with("so alipay was asked."));
    assert_eq!(attempts[1]["failed_over"], Value::Null);
    let second = &attempts[1]["explanation"];
    assert_eq!(second["reason"], "alipay is the only channel that can take it.");
    assert_eq!(of(&second["channels"], "stripe")["dropped"]["filter"], "tried");

    let bearer = ("authorization".to_owned(), format!("Bearer {}", house.admin_token));
    let chinese = HashMap::from([bearer, ("accept-language".to_owned(), "zh-CN".to_owned())]);
    let path = format!("{ALL}/{number}/routing");
    let told = house.admin_as("GET", &path, None, chinese).await.expect(200, "SUCCESS");
    assert_eq!(told.data("merchant_id"), shop.merchant_id);
    let told = &told.body["data"]["attempts"];
    assert_eq!(told[0]["explanation"]["reason"], "stripe 是付款人所在国家的本地渠道。");
    assert!(told[0]["failed_over"].as_str().unwrap().ends_with("因此改用 alipay。"));
    assert_eq!(of(&told[1]["explanation"]["channels"], "stripe")["dropped"]["in_words"], "已经尝试过");

    other.pay("O-2", 500, json!({})).await.expect(201, "SUCCESS");
    let one = house.admin("GET", &format!("{ALL}/{number}"), None).await.expect(200, "SUCCESS");
    assert_eq!((one.data("merchant_id"), one.data("order_no")), (shop.merchant_id.as_str(), "O-1"));
    house.admin("GET", &format!("{ALL}/PY0"), None).await.expect(404, "NOT_FOUND");
    house.admin("GET", &format!("{ALL}/PY0/routing"), None).await.expect(404, "NOT_FOUND");
    let listed = |query: &str| {
        let path = format!("{ALL}{query}");
        let house = &house;
        async move { house.admin("GET", &path, None).await.expect(200, "SUCCESS").items() }
    };
    let orders = |items: &[Value]| {
        let mut orders: Vec<String> = items.iter().map(|item| item["order_no"].as_str().unwrap().to_owned()).collect();
        orders.sort();
        orders
    };
    assert_eq!(orders(&listed("").await), ["O-1", "O-2"]);
    assert_eq!(orders(&listed(&format!("?merchant_id={}", other.merchant_id)).await), ["O-2"]);
    assert_eq!(orders(&listed("?order_no=O-1&status=success").await), ["O-1"]);
    assert!(listed("?status=failed").await.is_empty());
    let first_page = house.admin("GET", &format!("{ALL}?limit=1"), None).await;
    let cursor = first_page.data("next_cursor").to_owned();
    let mut both = first_page.items();
    both.extend(listed(&format!("?limit=1&cursor={cursor}")).await);
    assert_eq!(orders(&both), ["O-1", "O-2"]);

    for arguments in [vec!["routing", number], vec!["routing", number, "--json"], vec!["show", number], vec!["list"]] {
        let flags = ["--admin-url", house.admin_url.as_str(), "--admin-token", house.admin_token.as_str()];
        let words = ["tollgate", "payment"].into_iter().chain(arguments).chain(flags).map(OsString::from);
        let command = CommandLine::from_arguments(words).unwrap();
        assert_eq!(cli::run(command, Vec::new()).await, 0);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quote_tells_as_much_and_in_the_readers_language() {
    let house = House::start_with_two(|config| {
        config.channels.get_mut("stripe").unwrap().amounts =
            serde_json::from_value(json!({ "USD": { "min_minor": 1_000 } })).unwrap();
    })
    .await;
    let shop = house.merchant("business").await;
    let body = json!({ "order_no": "O-1", "amount": 900, "currency": "USD" }).to_string();
    let path = "/api/v1/routing/quote";
    let now = crate::support::unix_s();
    let mut headers = shop.signed("POST", path, &body, None, now, &crate::support::nonce());
    headers.insert("accept-language".to_owned(), "zh".to_owned());
    let quote = shop.send("POST", path, Some(body), headers).await.expect(200, "SUCCESS");
    assert_eq!(quote.data("reason"), "只有 alipay 可以处理。");
    let stripe = of(&quote.body["data"]["channels"], "stripe");
    assert_eq!((&stripe["eligible"], &stripe["dropped_by"]), (&json!(false), &json!("amount_min")));
    let expected = json!({ "filter": "amount_min", "value": "9.00 USD", "demanded": "10.00 USD", "in_words": "不接受这么小的金额" });
    assert_eq!(stripe["dropped"], expected);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_channel_is_told_why_for_each_and_when_to_come_back() {
    let house = House::start_with(|config| {
        config.channels.get_mut("alipay").unwrap().caps.amount_per_day_minor = Some(15_000);
    })
    .await;
    let shop = house.merchant("business").await;
    let alipay = |amount: u64| json!({ "order_no": "O", "amount": amount, "currency": "USD", "method": "alipay" });
    shop.pay("O-1", 10_000, json!({ "method": "alipay" })).await.expect(201, "SUCCESS");
    let refused = shop.post(PAYMENTS, alipay(10_000)).await.expect(503, "NO_CHANNEL_AVAILABLE");
    let at_capacity = json!({ "channel": "alipay", "reason": "would get more money today than it may",
        "dropped_by": "amount_per_day", "value": "200.00 USD", "demanded": "150.00 USD" });
    let by_method = |name: &str| {
        json!({ "channel": name, "reason": "does not take this payment method",
        "dropped_by": "method", "value": "alipay", "demanded": null })
    };
    let expected = json!([at_capacity, by_method("crypto"), by_method("paypal"), by_method("stripe")]);
    assert_eq!(refused.body["reasons"], expected);
    let seconds = refused.headers["retry-after"].parse::<i64>().unwrap();
    let until_midnight = 86_400 - (crate::support::unix_s() % 86_400).cast_signed();
    assert!((seconds - until_midnight).rem_euclid(86_400) <= 60, "{seconds} s, midnight in {until_midnight} s");
    // Nothing but another configuration would help.
    let too_much = shop.post(PAYMENTS, alipay(15_001)).await.expect(503, "NO_CHANNEL_AVAILABLE");
    assert_eq!(too_much.headers["retry-after"], "60");
    // The channel asked for is the one that counts.
    let mut named = alipay(100);
    named["channel"] = json!("stripe");
    let refused = shop.post(PAYMENTS, named).await.expect(503, "NO_CHANNEL_AVAILABLE");
    assert_eq!(refused.body["reasons"][0]["reason"], "could take it, but another channel was asked for");
    assert_eq!(refused.body["reasons"][0]["dropped_by"], Value::Null);
    // A currency that the channel asked for does not serve is not a matter of time.
    let nobodys = json!({ "order_no": "O", "amount": 100, "currency": "KPW", "channel": "alipay" });
    shop.post(PAYMENTS, nobodys.clone()).await.expect(422, "CURRENCY_NOT_SUPPORTED");
    let quote = shop.post("/api/v1/routing/quote", nobodys).await.expect(200, "SUCCESS");
    assert_eq!((&quote.body["data"]["channel"], &quote.body["data"]["reproduced"]), (&Value::Null, &json!(true)));
    house.stop().await;
}

/// Keeps what the metadata name; panics when they say so.
struct Named;

impl RoutingStrategy for Named {
    fn name(&self) -> &str {
        "named_by_shop"
    }

    fn priority(&self) -> u8 {
        95
    }

    fn narrow(&self, request: &RouteRequest<'_>, candidates: &Candidates<'_>) -> ChannelSet {
        match request.metadata.get("prefer").map(String::as_str) {
            Some("panic") => panic!("told to fail"),
            Some(name) => candidates.named(&ChannelName::new(name)),
            None => ChannelSet::default(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_strategy_routes_payments_and_one_that_fails_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = quick_config();
    config.storage.dir = directory.path().join("data");
    let environment = Environment { clock: Clock::system(), random: Random::from_os(), variable: Box::new(|_| None) };
    let gateway = Gateway::open_with_strategies(config, environment, vec![Arc::new(Named)]).await.unwrap();
    let house = House::serving(gateway, directory).await;
    let shop = house.merchant("business").await;
    let paid = |order_no: &'static str, prefer: &'static str| {
        let shop = &shop;
        async move {
            let more = json!({ "country": "US", "metadata": { "prefer": prefer } });
            let paid = shop.pay(order_no, 900, more).await.expect(201, "SUCCESS");
            (paid.data("channel").to_owned(), paid.body["data"]["routing"].clone())
        }
    };
    let (channel, routing) = paid("O-1", "alipay").await;
    assert_eq!((channel.as_str(), &routing["strategy"]), ("alipay", &json!("named_by_shop")));
    assert_eq!(routing["reason"], "The strategy named_by_shop chose alipay.");
    let (channel, routing) = paid("O-2", "klarna").await;
    assert_eq!((channel.as_str(), &routing["strategy"]), ("stripe", &json!("geographic")));
    let (channel, routing) = paid("O-3", "panic").await;
    assert_eq!((channel.as_str(), &routing["strategy"]), ("stripe", &json!("geographic")));
    let metrics = house.admin("GET", "/admin/v1/metrics", None).await;
    assert!(metrics.text.contains("tollgate_routing_strategies_failed_total 1"), "{}", metrics.text);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_was_added_is_a_newcomer_until_it_is_known_and_a_restart_makes_none() {
    let quote = |house: &House, shop: &crate::support::Client| {
        let shop = shop.at(&house.url);
        async move {
            let body = json!({ "order_no": "Q", "amount": 900, "currency": "USD" });
            let quote = shop.post("/api/v1/routing/quote", body).await.expect(200, "SUCCESS");
            let channels = quote.body["data"]["channels"].as_array().unwrap().clone();
            let is_new = |channel: &&Value| channel["newcomer"] == true;
            channels
                .iter()
                .filter(is_new)
                .map(|channel| channel["channel"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        }
    };
    let with_another = |config: &mut tollgate::config::Config| {
        let another = config.channels["stripe"].clone();
        config.channels.insert("another".to_owned(), another);
    };
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    assert!(quote(&house, &shop).await.is_empty());
    let house = House::start_in(house.stop().await, with_another).await;
    assert_eq!(quote(&house, &shop).await, ["another"]);
    let paying = shop.at(&house.url);
    for number in 0..49 {
        paying.pay(&format!("O-{number}"), 900, json!({ "channel": "another" })).await.expect(201, "SUCCESS");
    }
    assert_eq!(quote(&house, &shop).await, ["another"]);
    paying.pay("O-49", 900, json!({ "channel": "another" })).await.expect(201, "SUCCESS");
    eventually("enough to be known", || async { quote(&house, &shop).await.is_empty().then_some(()) }).await;
    let house = House::start_in(house.stop().await, with_another).await;
    assert!(quote(&house, &shop).await.is_empty(), "known for good");
    house.stop().await;
}
