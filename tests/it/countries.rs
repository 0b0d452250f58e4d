//! Payers' countries by their addresses, with a real database.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::json;
use tollgate::config::Config;
use tollgate::domain::audit::Operator;

use crate::support::{Client, House, LogBook};

/// An address of a Chinese university, and one of a German publisher.
const IN_CHINA: &str = "202.112.0.36";
const IN_GERMANY: &str = "193.99.144.80";

/// The database that comes with the tests, as a file of its own.
fn database(directory: &Path) -> PathBuf {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/geoip/iptoasn-country-ipv4.mmdb.gz");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(packed).unwrap()).read_to_end(&mut bytes).unwrap();
    let path = directory.join("country.mmdb");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The channel, the strategy, and the country as the record has it: its code, and whether it is from the address.
async fn pay(shop: &Client, order_no: &str, more: serde_json::Value) -> (String, String, String, bool) {
    let paid = shop.pay(order_no, 900, more).await.expect(201, "SUCCESS");
    let routing = shop.get(&format!("/api/v1/payments/{}/routing", paid.data("payment_no"))).await;
    let decision = &routing.body["data"]["attempts"][0]["decision"];
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    (
        text(&paid.body["data"]["channel"]),
        text(&paid.body["data"]["routing"]["strategy"]),
        text(&decision["co"]),
        decision["ca"].as_bool().unwrap_or(false),
    )
}

fn found(channel: &str, strategy: &str, country: &str, from_address: bool) -> (String, String, String, bool) {
    (channel.to_owned(), strategy.to_owned(), country.to_owned(), from_address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payer_without_a_country_is_routed_by_the_address() {
    let logs = LogBook::open();
    let directory = tempfile::tempdir().unwrap();
    let path = database(directory.path());
    let house = House::start_with(|config| config.routing.geoip_database = Some(path.clone())).await;
    let shop = house.merchant("premium").await;

    let china = pay(&shop, "O-1", json!({ "customer_ip": IN_CHINA })).await;
    assert_eq!(china, found("alipay", "geographic", "CN", true));
    let germany = pay(&shop, "O-2", json!({ "customer_ip": format!("::ffff:{IN_GERMANY}") })).await;
    assert_eq!(germany, found("stripe", "geographic", "DE", true));
    // What the merchant says goes before.
    let given = pay(&shop, "O-3", json!({ "customer_ip": IN_CHINA, "country": "US" })).await;
    assert_eq!(given, found("stripe", "geographic", "US", false));
    // The request's own address is the merchant's server's, which says nothing about the payer.
    for (order_no, more) in [("O-4", json!({})), ("O-5", json!({ "customer_ip": "10.1.2.3" }))] {
        let unknown = pay(&shop, order_no, more).await;
        assert_eq!((unknown.2.as_str(), unknown.3), ("-", false), "{unknown:?}");
        assert_ne!(unknown.1, "geographic");
    }
    let quote = json!({ "order_no": "Q-1", "amount": 900, "currency": "USD", "customer_ip": IN_CHINA });
    let quoted = shop.post("/api/v1/routing/quote", quote).await.expect(200, "SUCCESS");
    assert_eq!(quoted.data("channel"), "alipay");
    let reason = quoted.data("reason");
    assert!(reason.contains("local to the payer's country, as known from the payer's address"), "{reason}");
    house.stop().await;
    let text = logs.text();
    for address in [IN_CHINA, IN_GERMANY] {
        assert!(!text.contains(address), "a payer's address is in the log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_changes_while_the_gateway_runs_and_a_broken_one_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = database(directory.path());
    let house = House::start_with(|config| config.routing.geoip_database = Some(path.clone())).await;
    let shop = house.merchant("premium").await;
    let changed = |change: fn(&mut Config)| {
        let mut config = house.gateway.config().clone();
        change(&mut config);
        config
    };
    let by = Operator::process("signal");
    let address = json!({ "customer_ip": IN_CHINA });

    // The file itself is broken: the last good one stays, whoever asks for a reload.
    std::fs::write(&path, b"half a download").unwrap();
    assert!(house.gateway.reload(&changed(|_| {}), &by).await.unwrap().applied.is_empty());
    assert_eq!(pay(&shop, "O-1", address.clone()).await, found("alipay", "geographic", "CN", true));

    // A path that leads nowhere: the whole change is refused.
    let nowhere = changed(|config| {
        config.routing.geoip_database = Some(PathBuf::from("/nowhere/country.mmdb"));
        config.channels.get_mut("alipay").unwrap().enabled = false;
    });
    let refused = house.gateway.reload(&nowhere, &by).await.unwrap_err().to_string();
    assert!(refused.contains("/nowhere/country.mmdb can't be read"), "{refused}");
    assert_eq!(pay(&shop, "O-2", address.clone()).await, found("alipay", "geographic", "CN", true));

    // Without one nobody knows.
    let without = house.gateway.reload(&changed(|config| config.routing.geoip_database = None), &by).await.unwrap();
    assert_eq!(without.applied, ["routing.geoip_database"]);
    assert_eq!(pay(&shop, "O-3", address.clone()).await.2, "-");

    // And with it again.
    database(directory.path());
    let with = house.gateway.reload(&changed(|_| {}), &by).await.unwrap();
    assert_eq!(with.applied, ["routing.geoip_database"]);
    assert_eq!(pay(&shop, "O-4", address).await, found("alipay", "geographic", "CN", true));
    house.stop().await;
}

#[tokio::test]
async fn a_start_with_a_wrong_file_says_what_to_do_and_opens_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("country.csv");
    std::fs::write(&wrong, "1.0.0.0,1.0.0.255,AU").unwrap();
    let data = directory.path().join("data");
    let opened = House::open(&data, |config| config.routing.geoip_database = Some(wrong)).await;
    let error = opened.err().unwrap().to_string();
    assert!(error.starts_with("routing.geoip_database: "), "{error}");
    assert!(error.contains("country.csv is not a database"), "{error}");
    assert!(error.ends_with("such as GeoLite2-Country, or leave the key out"), "{error}");
    assert!(!data.exists(), "the store was made before the configuration was known to be right");
}
