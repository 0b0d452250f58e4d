//! The console's pages about payments, pre-auths and exports, and its search.

use serde_json::json;

use crate::pre_auths::with_instant;
use crate::support::{Browser, House, Receiver, eventually};

/// What a browser shows of a page: without tags.
fn seen(page: &str) -> String {
    let mut text = String::new();
    for part in page.split('<') {
        text.push_str(part.split_once('>').map_or(part, |(_, text)| text));
        text.push(' ');
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_payments_page_says_why_the_next_channel_was_asked_what_happened_and_who_was_told() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    let endpoint = json!({ "url": receiver.url, "events": ["payment.*", "refund.*"] });
    shop.post("/api/v1/webhooks/endpoints", endpoint).await.expect(201, "SUCCESS");
    let token = "tok_stripe_declines:processing_error:try_again_later";
    let more = json!({ "country": "US", "payment_token": token, "description": "<script>alert(1)</script>" });
    let paid = shop.pay("ORDER-7", 12_345, more).await.expect(201, "SUCCESS");
    let number = paid.data("payment_no").to_owned();
    let refunds = format!("/api/v1/payments/{number}/refunds");
    let refund = shop.post_with_key(&refunds, json!({ "amount": 45, "reason": "a dent" }), "k-1").await;
    let refund_no = refund.expect(201, "SUCCESS").data("refund_no").to_owned();
    let browser = Browser::logged_in(&house).await;
    let path = format!("/console/payments/{number}");
    let page = eventually("the webhooks", || async {
        let page = browser.page(&path).await;
        (page.matches("/console/webhooks/notifications/wn_").count() == 2).then_some(page)
    })
    .await;
    let text = seen(&page);
    let other = paid.data("channel");
    for part in [
        "Attempt 1: stripe",
        &format!("Attempt 2: {other}"),
        "123.45 USD",
        "0.45 USD",
        "a dent",
        "payment.success",
        "refund.success",
        &refund_no,
        "ORDER-7",
        &receiver.url,
        "chosen",
        "The whole decision as JSON",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let routing = house.admin("GET", &format!("/admin/v1/payments/{number}/routing"), None).await;
    let attempts = routing.body["data"]["attempts"].as_array().unwrap();
    for attempt in attempts {
        let reason = attempt["explanation"]["reason"].as_str().unwrap();
        assert!(text.contains(&reason.replace('\'', "&#39;").replace('"', "&#34;")), "{reason}: {text}");
    }
    assert!(text.contains(attempts[0]["failover"]["explanation"].as_str().unwrap()), "{text}");
    assert!(!page.contains("<script>alert") && page.contains("&#60;script&#62;alert(1)"), "{page}");
    assert!(!page.contains("/resolve"), "nothing is to be ended");

    let list = browser.page("/console/payments?order_no=ORDER-7").await;
    assert!(list.contains(&path) && seen(&list).contains("123.45 USD"), "{list}");
    // Who holds the number now is found at once; whether an earlier one had it is another question.
    assert!(list.contains("Not everything was looked through yet.") && list.contains(">Search on</a>"), "{list}");
    let missing = browser.page("/console/payments?order_no=%20ORDER-8%20").await;
    assert!(missing.contains("No payment fits.") && !missing.contains("Search on"), "{missing}");
    let none = browser.page("/console/payments?status=failed&channel=&from=2026-01-01T00:00&to=").await;
    assert!(!none.contains(&path), "{none}");
    assert_eq!(browser.get("/console/payments?status=lost").await.status, 400);
    let missing = browser.get("/console/payments/PY0").await;
    assert!(missing.status == 404 && seen(&missing.text).contains("Not found"), "{}", missing.text);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_is_captured_or_released_after_a_question_and_stands_in_the_audit() {
    let house = House::start_with(with_instant).await;
    let shop = house.merchant("premium").await;
    let mut held = Vec::new();
    for order_no in ["ROOM-1", "ROOM-2", "ROOM-3"] {
        let body = json!({ "order_no": order_no, "amount": 8_000, "currency": "USD", "channel": "instant" });
        let answer = shop.post("/api/v1/pre-auths", body).await.expect(201, "SUCCESS");
        held.push(answer.data("pre_auth_no").to_owned());
    }
    let browser = Browser::logged_in(&house).await;
    let list = browser.page("/console/pre-auths").await;
    let (_, first_section) = list.split_once("Held money").unwrap();
    let (first_section, _) = first_section.split_once("All, newest first").unwrap();
    for number in &held {
        assert!(first_section.contains(&format!("/console/pre-auths/{number}/capture")), "{list}");
    }
    assert_eq!(first_section.matches("data-until").count(), 3, "each with the time that is left");
    let narrowed = browser.page("/console/pre-auths?status=captured").await;
    assert!(!narrowed.contains("Held money") && !narrowed.contains(&held[0]));

    let path = format!("/console/pre-auths/{}", held[0]);
    let question = browser.page(&format!("{path}/capture")).await;
    assert!(question.contains("value=\"80.00\"") && question.contains("method=\"post\""), "{question}");
    for wrong in ["", "abc", "1.234", "-1", "0", "80.01"] {
        let answer = browser.post(&format!("{path}/capture"), &[("amount", wrong)]).await;
        assert_eq!((answer.status, answer.header("location")), (303, path.as_str()), "{wrong}");
        let page = browser.page(&path).await;
        assert!(page.contains("notice bad") && page.contains("requires capture"), "{wrong}: {page}");
    }
    browser.post(&format!("{path}/capture"), &[("amount", "25.50")]).await;
    let page = browser.page(&path).await;
    assert!(seen(&page).contains("25.50 USD was captured.") && page.contains("notice good"), "{page}");
    assert!(!page.contains(&format!("{path}/capture")), "there is nothing to capture any more");
    browser.post(&format!("{path}/capture"), &[("amount", "1")]).await;
    assert!(browser.page(&path).await.contains("notice bad"));
    let view = shop.get(&format!("/api/v1/pre-auths/{}", held[0])).await;
    assert_eq!((view.data("status"), &view.body["data"]["captured_amount"]), ("captured", &json!(2_550)));

    let path = format!("/console/pre-auths/{}", held[1]);
    assert!(browser.page(&format!("{path}/cancel")).await.contains("method=\"post\""));
    browser.post(&format!("{path}/cancel"), &[("reason", "no show")]).await;
    assert!(seen(&browser.page(&path).await).contains("It was canceled"));

    // The same through the API, for those who have no browser.
    let api = format!("/admin/v1/pre-auths/{}", held[2]);
    house
        .admin("POST", &format!("{api}/capture"), Some(json!({ "amount": 8_001 })))
        .await
        .expect(422, "AMOUNT_TOO_LARGE");
    house.admin("POST", &format!("{api}/capture"), Some(json!({ "amount": 0 }))).await.expect(400, "INVALID_REQUEST");
    let captured = house.admin("POST", &format!("{api}/capture"), None).await.expect(200, "SUCCESS");
    assert_eq!((captured.data("status"), captured.data("merchant_id")), ("captured", shop.merchant_id.as_str()));
    house.admin("POST", &format!("{api}/capture"), None).await.expect(409, "INVALID_STATE");
    house.admin("POST", &format!("{api}/cancel"), None).await.expect(409, "INVALID_STATE");
    house.admin("POST", "/admin/v1/pre-auths/PA0/cancel", None).await.expect(404, "NOT_FOUND");

    let audit = house.admin("GET", "/admin/v1/audit?verify=true", None).await;
    let of = |action: &str| -> Vec<(String, serde_json::Value)> {
        let items = audit.items().into_iter().filter(|entry| entry["action"] == action);
        items.map(|entry| (entry["object"].as_str().unwrap().to_owned(), entry["changes"].clone())).collect()
    };
    let object = |place: usize| format!("{}/{}", shop.merchant_id, held[place]);
    let captures = of("pre_auth.capture");
    assert_eq!(captures.iter().map(|(object, _)| object.clone()).collect::<Vec<_>>(), [object(2), object(0)]);
    assert!(captures[1].1.to_string().contains("2550"), "{}", audit.text);
    let cancels = of("pre_auth.cancel");
    assert!(cancels.len() == 1 && cancels[0].0 == object(1) && cancels[0].1.to_string().contains("no show"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_search_leads_to_whatever_has_the_number() {
    let house = House::start_with(with_instant).await;
    let shop = house.merchant_with(json!({ "name": "Corner <b>Shop</b>", "tier": "premium" })).await;
    let other = house.merchant("premium").await;
    let paid = shop.pay("SAME", 900, json!({ "method": "card" })).await.expect(201, "SUCCESS");
    other.pay("SAME", 900, json!({ "method": "card" })).await.expect(201, "SUCCESS");
    let only = other.pay("ONLY", 900, json!({ "method": "card" })).await.expect(201, "SUCCESS");
    let hold = json!({ "order_no": "ROOM", "amount": 100, "currency": "USD", "channel": "instant" });
    let held = shop.post("/api/v1/pre-auths", hold).await.expect(201, "SUCCESS");
    let refunds = format!("/api/v1/payments/{}/refunds", only.data("payment_no"));
    let refund = other.post_with_key(&refunds, json!({ "amount": 1 }), "k-1").await.expect(201, "SUCCESS");
    let browser = Browser::logged_in(&house).await;
    let page_of = |number: &str| format!("/console/payments/{number}");
    for (wanted, page) in [
        (paid.data("payment_no"), page_of(paid.data("payment_no"))),
        (refund.data("refund_no"), page_of(only.data("payment_no"))),
        ("ONLY", page_of(only.data("payment_no"))),
        ("%20ONLY%20", page_of(only.data("payment_no"))),
        ("ROOM", format!("/console/pre-auths/{}", held.data("pre_auth_no"))),
        (held.data("pre_auth_no"), format!("/console/pre-auths/{}", held.data("pre_auth_no"))),
        (shop.merchant_id.as_str(), format!("/console/limits/{}", shop.merchant_id)),
        ("corner", format!("/console/limits/{}", shop.merchant_id)),
    ] {
        let answer = browser.get(&format!("/console/search?q={wanted}")).await;
        assert_eq!((answer.status, answer.header("location")), (303, page.as_str()), "{wanted}: {}", answer.text);
    }
    let both = browser.page("/console/search?q=SAME").await;
    assert!(both.contains(paid.data("payment_no")) && both.contains(&other.merchant_id), "{both}");
    let nothing = browser.page("/console/search?q=%3Cscript%3Enothing").await;
    assert!(nothing.contains("&#60;script&#62;nothing") && !nothing.contains("<script>nothing"), "{nothing}");
    assert!(seen(&browser.page("/console/search").await).contains("Type the number"));
    assert!(seen(&browser.page("/console/search?q=PY0").await).contains("Nothing is called"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_are_downloaded_by_who_is_logged_in() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    shop.pay("O-1", 900, json!({ "method": "card" })).await.expect(201, "SUCCESS");
    let browser = Browser::logged_in(&house).await;
    let form = browser.page("/console/payments").await;
    assert!(form.contains("action=\"/console/exports\"") && form.contains("Download CSV"), "{form}");
    let path = "/console/exports?statement=payments&merchant_id=&from=2020-01-01&to=";
    let file = browser.get(path).await;
    assert_eq!((file.status, file.text.lines().count()), (200, 2), "{}", file.text);
    assert!(file.header("content-type").starts_with("text/csv") && file.header("content-disposition").contains(".csv"));
    assert_eq!(file.header("x-content-type-options"), "nosniff");
    for wrong in ["statement=everything&from=2020-01-01", "statement=fees&from=", "statement=fees&from=2020-01-01&x=1"]
    {
        assert_eq!(browser.get(&format!("/console/exports?{wrong}")).await.status, 400, "{wrong}");
    }
    let unknown = browser.get("/console/exports?statement=fees&from=2020-01-01&merchant_id=m_0").await;
    assert_eq!(unknown.status, 404);
    let stranger = Browser::new(&house).get(path).await;
    assert!(stranger.status == 303 && stranger.header("location").starts_with("/console/login"), "{}", stranger.text);
    house.stop().await;
}
