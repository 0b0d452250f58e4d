//! Looks at channels that change nothing: what a provider says of the credentials, and what is wrong when it does not.

use serde_json::{Value, json};
use tollgate::clock::Clock;
use tollgate::config::Config;
use tollgate::random::Random;
use tollgate::sandbox::{Sandbox, SandboxOptions, credentials};

use crate::support::{Answer, House};

const CHANNELS: [&str; 4] = ["stripe", "paypal", "alipay", "crypto"];

async fn check(house: &House, name: &str) -> Answer {
    house.admin("POST", &format!("/admin/v1/channels/{name}/check"), None).await.expect(200, "SUCCESS")
}

fn findings(checked: &Answer) -> Vec<&str> {
    checked.body["data"]["findings"].as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_four_are_fine_until_one_is_away() {
    let house = House::start().await;
    for name in CHANNELS {
        let checked = check(&house, name).await;
        assert_eq!((checked.data("channel"), checked.data("result")), (name, "fine"), "{}", checked.text);
        let found = &checked.body["data"];
        assert!(found["problem"].is_null() && found["advice"].is_null(), "{}", checked.text);
        assert!(found["account"].as_str().is_some_and(|account| !account.is_empty()), "{}", checked.text);
        assert_ne!(found["livemode"], true, "{}", checked.text);
        assert_eq!(found["capabilities"]["pre_auth"], name != "crypto", "{}", checked.text);
        assert_eq!(found["capabilities"]["charge"], true);
    }
    house.disturb("paypal", json!({ "down": true })).await;
    for name in CHANNELS {
        let checked = check(&house, name).await;
        let expected = if name == "paypal" { "unreachable" } else { "fine" };
        assert_eq!(checked.data("result"), expected, "{}", checked.text);
    }
    let away = check(&house, "paypal").await;
    assert!(away.data("problem").starts_with("The provider could not be asked: "), "{}", away.text);
    assert!(away.data("advice").contains("tollgate channel faults paypal"), "{}", away.text);
    house.disturb("paypal", json!({ "down": false })).await;
    assert_eq!(check(&house, "paypal").await.data("result"), "fine");

    // Nothing was moved, nothing learned, nothing written down.
    for name in CHANNELS {
        let ledger = house.admin("GET", &format!("/admin/v1/sandbox/{name}/ledger"), None).await;
        assert!(ledger.items().is_empty(), "{}", ledger.text);
        let channel = house.admin("GET", &format!("/admin/v1/channels/{name}"), None).await;
        assert_eq!((&channel.body["data"]["samples"], channel.data("breaker")), (&json!(0), "closed"));
    }
    let audit = house.admin("GET", "/admin/v1/audit", None).await;
    assert!(!audit.text.contains("check"), "{}", audit.text);
    house.admin("POST", "/admin/v1/channels/strip/check", None).await.expect(404, "NOT_FOUND");
    let wrong = house.admin("POST", "/admin/v1/channels/stripe/check", Some(json!({ "amount": 1 }))).await;
    wrong.expect(400, "INVALID_REQUEST");
    let path = "/admin/v1/channels/stripe/check";
    house.admin_as("POST", path, None, Default::default()).await.expect(401, "UNAUTHENTICATED");
    house.stop().await;
}

/// A house whose channels have credentials of their own, at emulators that are somebody else's.
async fn with_credentials(credentials: &[(&str, &str, &str)]) -> (House, Sandbox, tempfile::TempDir) {
    let sandbox = Sandbox::start(SandboxOptions::new(Clock::system(), Random::from_os())).unwrap();
    let (urls, files) = (sandbox.urls(), tempfile::tempdir().unwrap());
    let configure = |config: &mut Config| {
        for (channel, credential, value) in credentials {
            let file = files.path().join(format!("{channel}-{credential}"));
            std::fs::write(&file, value).unwrap();
            let channel_config = config.channels.get_mut(*channel).unwrap();
            (channel_config.sandbox, channel_config.base_url) = (false, urls.get(*channel).cloned());
            channel_config.credentials.insert(format!("{credential}_file"), file.display().to_string());
        }
    };
    (House::start_with(configure).await, sandbox, files)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_are_not_taken_are_said_to_be_so_and_never_shown() {
    let wrong = [
        ("stripe", "secret_key", "sk_test_of_nobody"),
        ("paypal", "client_id", credentials::PAYPAL_CLIENT_ID),
        ("paypal", "client_secret", "secret_of_nobody"),
        ("crypto", "api_key", "key_of_nobody"),
        ("crypto", "store_id", "store"),
    ];
    let (house, sandbox, files) = with_credentials(&wrong).await;
    for name in ["stripe", "paypal", "crypto"] {
        let checked = check(&house, name).await;
        assert_eq!(checked.data("result"), "refused", "{}", checked.text);
        assert!(checked.data("problem").starts_with("The provider refused: "), "{}", checked.text);
        assert!(checked.data("advice").contains(&format!("[channels.{name}.credentials]")), "{}", checked.text);
        assert!(!checked.text.contains("of_nobody"), "{}", checked.text);
    }
    house.stop().await;
    sandbox.stop().await;
    drop(files);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_for_notifications_is_found() {
    let without = [
        ("stripe", "secret_key", credentials::STRIPE_SECRET_KEY),
        ("paypal", "client_id", credentials::PAYPAL_CLIENT_ID),
        ("paypal", "client_secret", credentials::PAYPAL_CLIENT_SECRET),
        ("paypal", "webhook_id", credentials::PAYPAL_WEBHOOK_ID),
    ];
    let (house, sandbox, _files) = with_credentials(&without).await;
    let stripe = check(&house, "stripe").await;
    assert_eq!((stripe.data("result"), &stripe.body["data"]["livemode"]), ("fine", &json!(false)), "{}", stripe.text);
    assert!(findings(&stripe).iter().any(|finding| finding.contains("webhook_secret")), "{}", stripe.text);
    assert_eq!(stripe.body["data"]["capabilities"]["notifications"], false);
    let paypal = check(&house, "paypal").await;
    assert!(findings(&paypal).iter().any(|finding| finding.contains("public_url")), "{}", paypal.text);
    assert_eq!(paypal.body["data"]["callback_url"], Value::Null);
    house.stop().await;
    sandbox.stop().await;

    let public = |config: &mut Config| {
        config.callbacks.public_url = Some(String::from("https://pay.example.com/"));
        let stripe = config.channels.get_mut("stripe").unwrap();
        (stripe.sandbox, stripe.base_url) = (false, Some(String::from("https://api.stripe.com")));
        stripe.credentials.insert(String::from("secret_key_env"), String::from("NOT_THERE"));
    };
    let house = House::start_with(public).await;
    let alipay = check(&house, "alipay").await;
    assert_eq!(alipay.data("callback_url"), "https://pay.example.com/callbacks/alipay");
    let stripe = check(&house, "stripe").await;
    assert_eq!(stripe.data("result"), "no_credentials", "{}", stripe.text);
    assert!(
        stripe.data("problem").contains("NOT_THERE") && stripe.data("advice").contains("SIGHUP"),
        "{}",
        stripe.text
    );
    house.stop().await;
}
