//! Emulators say in their provider's own way that there is no such thing.

use crate::sandbox::testing::send;
use crate::sandbox::tests::sandbox;

#[tokio::test]
async fn each_provider_has_an_emulator_with_an_empty_book() {
    let (sandbox, _) = sandbox();
    let urls = sandbox.urls();
    assert_eq!(urls.keys().map(String::as_str).collect::<Vec<_>>(), ["alipay", "crypto", "paypal", "stripe"]);
    assert!(urls.keys().all(|name| sandbox.ledger(name).unwrap().is_empty()));
}

#[tokio::test]
async fn what_is_not_there_is_said_as_the_provider_says_it() {
    let (sandbox, _) = sandbox();
    let paypal = send("GET", &format!("{}/v9/nothing", sandbox.urls()["paypal"]), &[], "").await.unwrap();
    assert_eq!((paypal.status, &paypal.json()["name"]), (404, &"RESOURCE_NOT_FOUND".into()));
    assert_eq!(paypal.json()["debug_id"].as_str().map(str::len), Some(16));
    let crypto = send("GET", &format!("{}/api/v1/nothing", sandbox.urls()["crypto"]), &[], "").await.unwrap();
    assert_eq!(crypto.status, 404);
    assert!(crypto.json()["code"].is_string() && crypto.json()["message"].is_string());
}
