//! Answers that no server should give.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::channels::tests::{
    START, channel_at, charge_with, http_answer, is_success, is_unknown, peer_that_answers, refund_of,
};
use crate::channels::{Channel, ChargeAnswer, ChargeState, ProviderRefs, RefundState, ResolveRequest, StrayKind};
use crate::clock::Clock;
use crate::config::ChannelKind;
use crate::domain::money::Money;

async fn channel_that_gets(bytes: Vec<u8>) -> std::sync::Arc<dyn Channel> {
    channel_at(ChannelKind::Btcpay, &peer_that_answers(bytes).await, Clock::manual(START))
}

fn invoice(change: impl FnOnce(&mut Value)) -> Value {
    let charge = charge_with(None);
    let mut invoice = json!({
        "id": "INV1", "storeId": "TollgateSandboxStore", "amount": "12.3", "paidAmount": "12.30000000",
        "currency": "USD", "type": "Standard", "checkoutLink": "http://x/i/INV1", "createdTime": START.unix_s(),
        "expirationTime": START.unix_s() + 900, "monitoringExpiration": START.unix_s() + 87_300,
        "status": "Settled", "additionalStatus": "None", "archived": false,
        "metadata": { "orderId": charge.reference, "gatewayAttempt": charge.provider_key },
    });
    change(&mut invoice);
    invoice
}

/// A server that answers about ways to pay with `methods`, and about everything else with `invoice`.
async fn server_with(invoice: String, methods: String) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 16 * 1024];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let about_methods = String::from_utf8_lossy(&request[..read]).contains("/payment-methods ");
            let body = if about_methods { &methods } else { &invoice };
            let head = format!("HTTP/1.1 200 X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    format!("http://{address}")
}

/// What is made of an invoice like that of the payment but for `change`, all payments for it being confirmed.
async fn judged(change: impl FnOnce(&mut Value)) -> ChargeAnswer {
    judged_with(change, json!([{ "paymentMethodId": "BTC-CHAIN", "payments": [{ "status": "Settled" }] }])).await
}

async fn judged_with(change: impl FnOnce(&mut Value), methods: Value) -> ChargeAnswer {
    let address = server_with(invoice(change).to_string(), methods.to_string()).await;
    let channel = channel_at(ChannelKind::Btcpay, &address, Clock::manual(START));
    let charge = charge_with(None);
    let refs = ProviderRefs { channel_order_no: Some(String::from("INV1")), ..ProviderRefs::default() };
    let request = ResolveRequest {
        charge,
        first_sent_at: START,
        sent_by: START,
        settling: std::time::Duration::from_secs(5),
        set_back: std::time::Duration::ZERO,
        now: START.plus(std::time::Duration::from_secs(60)),
        refs,
        offered_at: None,
        money_sent_at: None,
        close: false,
    };
    channel.resolve(&request).await
}

#[tokio::test]
async fn what_is_not_about_this_payment_says_nothing_about_it() {
    assert!(is_success(&judged(|_| {}).await), "but for what is changed below it is paid");
    let set = |name: &'static str, value: Value| move |invoice: &mut Value| invoice[name] = value;
    for (name, value) in [
        ("id", json!("INV2")),
        ("storeId", json!("AnotherStore")),
        ("amount", json!("12.31")),
        ("amount", json!("12.301")),
        ("amount", Value::Null),
        ("currency", json!("EUR")),
        ("metadata", Value::Null),
        ("metadata", json!({ "orderId": 7, "gatewayAttempt": charge_with(None).provider_key })),
        ("status", json!("SomethingNew")),
        ("status", json!(7)),
        ("paidAmount", json!("0")),
        ("monitoringExpiration", json!("soon")),
    ] {
        let answer = judged(set(name, value.clone())).await;
        assert!(is_unknown(&answer), "{name} {value}: {answer:?}");
    }
}

#[tokio::test]
async fn statuses_mean_what_they_say() {
    let with = |status: &'static str, special: &'static str, paid: Value| {
        judged(move |invoice| {
            invoice["status"] = json!(status);
            invoice["additionalStatus"] = json!(special);
            invoice["paidAmount"] = paid;
        })
    };
    let usd = |minor| Some(Money::new(minor, charge_with(None).money.currency));
    let stray = |kind, received| ChargeState::Stray { kind, received };
    let success = ChargeState::Success { fee_minor: None };
    for (status, special, paid, expected) in [
        ("Settled", "Marked", json!("0"), success.clone()),
        ("Settled", "None", json!("12.29"), success.clone()),
        ("Settled", "None", Value::Null, success.clone()),
        ("Settled", "PaidLate", json!("12.30"), success.clone()),
        ("Settled", "PaidOver", json!("12.309"), success),
        ("Settled", "PaidOver", json!("13.00"), stray(StrayKind::Over, usd(1300))),
        ("Settled", "PaidOver", Value::Null, stray(StrayKind::Over, None)),
        ("Processing", "PaidOver", json!("13.00"), ChargeState::Processing),
        ("Expired", "PaidLate", json!("12.30"), stray(StrayKind::Late, usd(1230))),
        ("Expired", "PaidLate", Value::Null, stray(StrayKind::Late, None)),
        ("Expired", "PaidOver", json!("20"), stray(StrayKind::Late, usd(2000))),
        ("Invalid", "Marked", json!("12.30"), stray(StrayKind::Late, usd(1230))),
    ] {
        assert_eq!(with(status, special, paid.clone()).await.state, expected, "{status} {special} {paid}");
    }
    for (status, special, paid) in [
        ("Expired", "PaidPartial", json!("12")),
        ("Expired", "PaidPartial", Value::Null),
        ("Expired", "None", json!("0")),
        ("Invalid", "Marked", json!("0")),
        ("Invalid", "Invalid", json!("12.30")),
        ("Expired", "SomethingNew", json!("12.30")),
        ("Settled", "None", json!("12.28")),
    ] {
        assert!(is_unknown(&with(status, special, paid.clone()).await), "{status} {special} {paid}");
    }
}

#[tokio::test]
async fn stray_money_counts_when_it_can_t_be_taken_back_any_more() {
    let late = |methods: Value| {
        let change = |invoice: &mut Value| {
            (invoice["status"], invoice["additionalStatus"]) = (json!("Expired"), json!("PaidLate"));
        };
        judged_with(change, methods)
    };
    let with = |payments: Value| json!([{ "paymentMethodId": "A" }, { "paymentMethodId": "B", "payments": payments }]);
    for confirmed in [json!([{ "status": "Settled" }]), json!([{ "status": "Settled" }, { "status": "Invalid" }])] {
        let answer = late(with(confirmed)).await;
        assert!(matches!(answer.state, ChargeState::Stray { kind: StrayKind::Late, .. }), "{answer:?}");
    }
    // What was asked for is confirmed, or the invoice would not be settled; how much more there is to be is not.
    let over = |invoice: &mut Value| {
        (invoice["additionalStatus"], invoice["paidAmount"]) = (json!("PaidOver"), json!("13.00"));
    };
    let answer = judged_with(over, with(json!([{ "status": "Settled" }, { "status": "Processing" }]))).await;
    assert_eq!(answer.state, ChargeState::Stray { kind: StrayKind::Over, received: None });
    for open in [
        with(json!([{ "status": "Processing" }])),
        with(json!([{ "status": "Settled" }, { "status": "Processing" }])),
        with(json!([{ "status": "SomethingNew" }])),
        with(json!([{}])),
        json!({}),
    ] {
        let answer = late(open.clone()).await;
        assert!(is_unknown(&answer) && answer.refs.channel_order_no.is_some(), "{open}: {answer:?}");
    }
}

#[tokio::test]
async fn what_is_no_answer_of_btcpays_is_unknown_whatever_is_asked() {
    let page = "<html>Bad gateway</html>";
    let half = invoice(|_| {}).to_string();
    let error = r#"{"code":"x","message":"y"}"#;
    let garbage = [
        http_answer(200, "text/html", page, page.len()),
        http_answer(502, "text/html", page, page.len()),
        http_answer(404, "text/html", page, page.len()),
        http_answer(403, "text/html", page, page.len()),
        http_answer(200, "application/json", &half[..40], half.len()),
        http_answer(200, "application/json", &half[..40], 40),
        http_answer(200, "application/json", error, error.len()),
        http_answer(500, "application/json", error, error.len()),
        http_answer(302, "text/html", "", 0),
        b"not http at all\r\n\r\n".to_vec(),
        Vec::new(),
    ];
    for bytes in garbage {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let channel = channel_that_gets(bytes).await;
        let charge = charge_with(None);
        assert!(is_unknown(&channel.charge(&charge).await), "{shown}");
        let named = ProviderRefs { channel_order_no: Some(String::from("INV1")), ..ProviderRefs::default() };
        for (refs, close) in [(ProviderRefs::default(), true), (named.clone(), true), (named.clone(), false)] {
            let request = ResolveRequest {
                charge: charge.clone(),
                first_sent_at: START,
                sent_by: START,
                settling: std::time::Duration::ZERO,
                set_back: std::time::Duration::ZERO,
                now: START,
                refs,
                offered_at: None,
                money_sent_at: None,
                close,
            };
            assert!(is_unknown(&channel.resolve(&request).await), "{shown}");
        }
        let again = crate::channels::RefundRequest { is_first: false, ..refund_of(&charge, &named, 100, 1) };
        let answer = channel.refund(&again).await;
        assert!(matches!(answer.state, RefundState::Unknown { .. }), "{shown}: {answer:?}");
        assert!(channel.check().await.is_err(), "{shown}");
    }
}
