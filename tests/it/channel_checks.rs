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

    // The credentials are not to blame for that. A new access token of PayPal's is no request that is disturbed.
    for faults in ["error_rate", "rate_limited_rate"] {
        for name in ["stripe", "alipay", "crypto"] {
            house.disturb(name, json!({ faults: 1 })).await;
            let checked = check(&house, name).await;
            assert_eq!(checked.data("result"), "unreachable", "{}", checked.text);
            assert!(!checked.data("advice").contains("credentials"), "{}", checked.text);
            house.disturb(name, json!({ faults: 0 })).await;
        }
    }

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_emulator_is_named_by_which_its_faults_are_changed() {
    let house = House::start_with(|config| {
        let mut coins = config.channels["crypto"].clone();
        coins.methods.clear();
        config.channels.insert(String::from("coins"), coins);
    })
    .await;
    house.disturb("crypto", json!({ "down": true })).await;
    let away = check(&house, "coins").await;
    assert!(away.data("advice").contains("tollgate channel faults crypto"), "{}", away.text);
    let patch = Some(json!({ "down": false, "error_rate": 2 }));
    let wrong = house.admin("PUT", "/admin/v1/sandbox/crypto", patch).await.expect(400, "INVALID_REQUEST");
    let errors = json!([{ "field": "error_rate", "message": "must be between 0 and 1" }]);
    assert_eq!(wrong.body["errors"], errors, "{}", wrong.text);
    house.stop().await;

    let sandbox = std::sync::Arc::new(Sandbox::start(SandboxOptions::new(Clock::system(), Random::from_os())).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(tollgate::sandbox::serve_control(listener, std::sync::Arc::clone(&sandbox), std::future::pending()));
    let house = House::start_with(|config| config.sandbox.as_mut().unwrap().url = Some(url)).await;
    let down = serde_json::from_value(json!({ "down": true })).unwrap();
    sandbox.set_faults("stripe", down).await.unwrap();
    let away = check(&house, "stripe").await;
    assert_eq!(away.data("result"), "unreachable", "{}", away.text);
    assert!(away.data("advice").contains("/control/stripe"), "{}", away.text);
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
