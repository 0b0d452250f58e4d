//! Which refusals of the emulators are followed by another channel.

use serde_json::{Value, json};

use crate::support::House;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_of_the_providers_decide_whether_another_channel_is_asked() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let reasons = [
        ("US", "tok_stripe_declines:processing_error:try_again_later", "success", "asked"),
        ("US", "tok_stripe_declines:issuer_not_available::91:02", "success", "asked"),
        ("US", "tok_stripe_declines:processing_error:do_not_try_again", "failed", "advised_against"),
        ("US", "tok_stripe_declines:processing_error::R1", "failed", "advised_against"),
        ("US", "tok_stripe_declines:issuer_not_available:::24", "failed", "advised_against"),
        ("US", "tok_stripe_declines:stolen_card::43", "failed", "advised_against"),
        ("US", "tok_stripe_declines:do_not_honor::05", "failed", "refused_by_bank"),
        ("US", "tok_stripe_declines:insufficient_funds::51", "failed", "refused_by_customer"),
        ("US", "tok_stripe_declines:unheard_of", "failed", "refused_by_unknown"),
        ("CN", "tok_alipay_declines:TOTAL_FEE_EXCEED", "success", "asked"),
        ("CN", "tok_alipay_declines:SELLER_BEEN_BLOCKED", "success", "asked"),
        ("CN", "tok_alipay_declines:PAYMENT_REQUEST_HAS_RISK", "failed", "refused_by_bank"),
        ("CN", "tok_alipay_declines:BUYER_BALANCE_NOT_ENOUGH", "failed", "refused_by_customer"),
        ("CN", "tok_alipay_declines:SYSTEM_ERROR", "processing", "outcome_unknown"),
    ];
    for (number, (country, token, status, reason)) in reasons.into_iter().enumerate() {
        let more = json!({ "country": country, "payment_token": token });
        let paid = shop.pay(&format!("O-{number}"), 900, more).await;
        assert_eq!(paid.data("status"), status, "{token}: {}", paid.text);
        let routing = shop.get(&format!("/api/v1/payments/{}/routing", paid.data("payment_no"))).await;
        let attempts = routing.body["data"]["attempts"].as_array().unwrap();
        let first = &attempts[0];
        assert_eq!(first["failover"]["reason"], reason, "{token}: {}", routing.text);
        assert_eq!(first["failover"]["allowed"], reason == "asked", "{token}");
        assert!(first["failover"]["explanation"].as_str().unwrap().ends_with('.'), "{token}");
        if reason == "asked" {
            assert_eq!((attempts.len(), &attempts[1]["outcome"]), (2, &json!("success")), "{token}");
            assert_eq!(attempts[1].get("failover"), None, "{token}");
        } else {
            assert_eq!(attempts.len(), 1, "{token}: {}", routing.text);
        }
        // At most one of the providers took the money.
        let charges = if status == "success" { 1 } else { 0 };
        assert_eq!(house.charges(paid.data("payment_no")).await, charges, "{token}");
    }
    let more = json!({ "country": "US", "payment_token": "tok_stripe_declines:lost_card:do_not_try_again:41:03" });
    let refused = shop.pay("O-codes", 900, more).await;
    let failure = &refused.body["data"]["failure"];
    let expected = json!({
        "code": "lost_card", "message": "The card was refused by the bank for good.", "decline_scope": "bank",
        "advice": "never", "network_code": "41", "network_advice_code": "03",
    });
    assert_eq!(failure, &expected, "{}", refused.text);
    // Without such codes the failure is as it always was.
    let plain: Value = shop.pay("O-plain", 900, json!({ "country": "US", "payment_token": "tok_declined" })).await.body;
    let fields: Vec<&String> = plain["data"]["failure"].as_object().unwrap().keys().collect();
    assert_eq!(fields.len(), 4, "{plain}");
    house.stop().await;
}
