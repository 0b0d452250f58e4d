//! Who changed what: written with the change, shown to the operator, and not to be touched unnoticed.

use serde_json::json;
use tollgate::config::Config;
use tollgate::domain::audit::Operator;
use tollgate::storage::{Batch, Store, keys};

use crate::support::{Answer, House, eventually, open_store};

fn actions(audit: &Answer) -> Vec<String> {
    audit.items().iter().map(|item| item["action"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_the_operator_is_written_down() {
    let house = House::start().await;
    let shop = house.merchant("starter").await;
    let one = format!("/admin/v1/merchants/{}", shop.merchant_id);
    let mut change = house.admin("PATCH", &one, Some(json!({ "tier": "premium" }))).await.expect(200, "SUCCESS");
    let request_id = change.headers.remove("x-request-id").unwrap();
    let key = house.admin("POST", &format!("{one}/keys"), None).await.expect(201, "SUCCESS");
    house.admin("DELETE", &format!("{one}/keys/{}", key.data("id")), None).await.expect(200, "SUCCESS");
    let mut config: Config = house.gateway.config().clone();
    config.channels.get_mut("stripe").unwrap().weight += 1;
    house.gateway.reload(&config, &Operator::process("signal")).await.unwrap();
    house.admin("DELETE", &one, None).await.expect(200, "SUCCESS");
    // What is refused, and what is only read, changes nothing.
    house.admin("PATCH", &one, Some(json!({ "tier": "starter" }))).await.expect(404, "NOT_FOUND");
    house.admin("GET", "/admin/v1/merchants", None).await.expect(200, "SUCCESS");

    let audit = house.admin("GET", "/admin/v1/audit?verify=true", None).await.expect(200, "SUCCESS");
    let items = audit.items();
    let actions: Vec<&str> = items.iter().map(|item| item["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        ["merchant.delete", "config.reload", "key.delete", "key.create", "merchant.update", "merchant.create"]
    );
    let update = &items[4];
    assert_eq!(update["changes"], json!({ "tier": { "before": "starter", "after": "premium" } }));
    assert_eq!((&update["actor"], &update["request_id"]), (&json!("admin"), &json!(request_id)));
    assert_eq!(items[1]["actor"], "signal");
    assert!(items[1]["changes"]["channels.stripe.weight"]["before"].is_number(), "{}", items[1]);
    let chain = &audit.body["data"]["chain"];
    assert_eq!((&chain["intact"], &chain["number"]), (&json!(true), &json!(6)));
    assert_eq!(chain["hash"], items[0]["hash"]);
    for secret in [&shop.key.secret, key.data("secret"), &house.admin_token] {
        assert!(!audit.text.contains(secret), "{secret}");
    }
    let found =
        house.admin("GET", &format!("/admin/v1/audit?object={}&action=key.delete", shop.merchant_id), None).await;
    assert_eq!(found.items().len(), 1);
    for wrong in ["verify=perhaps", "anchor=1:ab", "verify=true&anchor=1", "from=now", "who=me"] {
        house.admin("GET", &format!("/admin/v1/audit?{wrong}"), None).await.expect(400, "INVALID_REQUEST");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_made_at_once_are_all_in_the_chain() {
    let house = House::start().await;
    let made: Vec<_> = (0..12).map(|_| house.merchant("starter")).collect();
    let shops = futures_util::future::join_all(made).await;
    let audit = house.admin("GET", "/admin/v1/audit?verify=true&limit=100", None).await.expect(200, "SUCCESS");
    assert_eq!(audit.items().len(), shops.len());
    assert_eq!(audit.body["data"]["chain"]["intact"], true);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_touches_the_store_is_found_out() {
    let house = House::start().await;
    for _ in 0..4 {
        house.merchant("starter").await;
    }
    let whole = house.admin("GET", "/admin/v1/audit?verify=true", None).await;
    let chain = &whole.body["data"]["chain"];
    let anchor = format!("{}:{}", chain["number"], chain["hash"].as_str().unwrap());
    let verify = format!("/admin/v1/audit?verify=true&anchor={anchor}");
    assert_eq!(house.admin("GET", &verify, None).await.body["data"]["chain"]["intact"], true);

    let directory = house.stop().await;
    let store = open_store(&directory.path().join("data"));
    let row = store.get(&keys::audit_entry(2)).unwrap().unwrap();
    let text = String::from_utf8(row.value.to_vec()).unwrap();
    let mut batch = Batch::new();
    batch.put(keys::audit_entry(2), text.replace("\"admin\"", "\"nobody\"").into_bytes());
    store.commit(batch).await.unwrap();
    tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
    let house = House::start_in(directory, |_| {}).await;
    let touched = house.admin("GET", "/admin/v1/audit?verify=true", None).await.expect(200, "SUCCESS");
    let chain = &touched.body["data"]["chain"];
    assert_eq!(chain["intact"], false);
    assert!(chain["problem"].as_str().unwrap().contains("entry 2"), "{chain}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_protects_is_possible_while_the_disk_has_little_room() {
    let house = House::start().await;
    let shop = house.merchant("starter").await;
    let customer = json!({ "customer_email": "ann@example.com", "description": "for Ann" });
    let paid = shop.pay("O-1", 500, customer).await.expect(201, "SUCCESS");
    let directory = house.stop().await;

    let house = House::start_in(directory, |config| config.storage.low_space_bytes = 1 << 60).await;
    let new = json!({ "name": "a shop", "tier": "starter" });
    house.admin("POST", "/admin/v1/merchants", Some(new)).await.expect(503, "STORAGE_LOW");
    let one = format!("/admin/v1/merchants/{}", shop.merchant_id);
    house.admin("POST", &format!("{one}/keys"), None).await.expect(201, "SUCCESS");
    house.admin("DELETE", &format!("{one}/keys/{}", shop.key.id), None).await.expect(200, "SUCCESS");
    house.admin("PATCH", &one, Some(json!({ "status": "suspended" }))).await.expect(200, "SUCCESS");
    let path = format!("{one}/payments/{}/erase", paid.data("payment_no"));
    house.admin("POST", &path, None).await.expect(202, "SUCCESS");
    let customer = json!({ "customer_email": "ann@example.com" });
    let begun = house.admin("POST", &format!("{one}/erasures"), Some(customer)).await.expect(202, "SUCCESS");
    let erasure = format!("/admin/v1/erasures/{}", begun.data("erasure_id"));
    eventually("the erasure", || async {
        (house.admin("GET", &erasure, None).await.data("status") == "done").then_some(())
    })
    .await;
    let destination = json!({ "destination": house.directory.path().join("backup") });
    house.admin("POST", "/admin/v1/store/backup", Some(destination)).await.expect(200, "SUCCESS");
    eventually("the backup", || async {
        (house.admin("GET", "/admin/v1/store/backup", None).await.data("state") == "done").then_some(())
    })
    .await;
    house.admin("DELETE", &one, None).await.expect(200, "SUCCESS");
    let audit = house.admin("GET", "/admin/v1/audit?verify=true", None).await.expect(200, "SUCCESS");
    let expected = [
        "merchant.delete",
        "store.backup",
        "customer.erase",
        "payment.erase",
        "merchant.update",
        "key.delete",
        "key.create",
        "merchant.create",
    ];
    assert_eq!(actions(&audit), expected);
    assert_eq!(audit.body["data"]["chain"]["intact"], true);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_backup_and_no_export_begins_without_its_entry() {
    let house = House::start().await;
    let gateway = house.gateway.clone();
    let directory = house.stop().await;
    let destination = directory.path().join("backup");
    let refused = gateway.begin_backup(&Operator::process("test"), destination.to_str().unwrap()).await;
    assert!(refused.is_err(), "nothing can be written down any more: {refused:?}");
    assert_eq!(gateway.backups().unwrap().view().state, "none");
    let refused = gateway.begin_export(&Operator::process("test"), destination.to_str().unwrap()).await;
    assert!(refused.is_err(), "nor here: {refused:?}");
    assert_eq!(gateway.own_store().unwrap().exports().view().state, "none");
    assert!(!destination.exists());
}
