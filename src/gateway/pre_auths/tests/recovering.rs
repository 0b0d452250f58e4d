//! A process that dies at any moment: the next one finds out what became of what it left, and does nothing twice.

use std::time::Duration;

use super::fixture::{Asked, House, pass, told};

/// Longer than a test; the process dies before.
const NEVER: Duration = Duration::from_secs(1_000_000);

/// Begins something whose answer never comes, and dies.
async fn dies_while<T>(house: House, begun: impl Future<Output = T>) -> House {
    assert!(tokio::time::timeout(Duration::from_secs(5), begun).await.is_err(), "it is answered already");
    house.provider.set(|mood| mood.takes = Duration::ZERO);
    house.crash().await
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_was_sent_is_asked_about_and_not_sent_again() {
    let house = House::new().await;
    house.provider.set(|mood| mood.is_mute = true);
    assert_eq!(told(&house.hold("O-1").await.unwrap()), (202, "processing"));
    house.provider.set(|mood| mood.is_mute = false);
    let house = house.crash().await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(house.only().status, "requires_capture");
    assert_eq!(house.provider.authorizes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_was_perhaps_never_sent_is_asked_about() {
    let house = House::new().await;
    house.provider.set(|mood| mood.takes = NEVER);
    let begun = {
        let pre_auths = house.pre_auths.clone();
        let caller = house.caller.clone();
        async move {
            let wanted =
                serde_json::json!({ "order_no": "O-1", "amount": 10_000, "currency": "USD", "channel": "stripe" });
            let command = crate::gateway::command::CreatePreAuth {
                wanted: serde_json::from_value(wanted).unwrap(),
                ..Default::default()
            };
            pre_auths.create(&caller, super::fixture::origin("O-1"), command).await
        }
    };
    let house = dies_while(house, begun).await;
    pass(Duration::from_secs(60)).await;
    let view = house.only();
    assert_eq!(view.status, "failed", "the provider has none");
    assert_eq!(house.provider.authorizes(), 1);
    assert!(house.provider.count(|asked| matches!(asked, Asked::Ask { .. })) >= 1);
    let late = house.hold("O-1").await.unwrap();
    assert_eq!((late.answer.status, late.replayed), (502, true), "the same key is answered with what is so now");
    assert_eq!(house.hold("O-1").await.unwrap().answer, late.answer);
    assert_eq!(house.provider.authorizes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_capture_that_was_sent_is_finished_once() {
    let house = House::new().await;
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    house.provider.set(|mood| mood.takes = NEVER);
    let begun = {
        let (pre_auths, caller, no) = (house.pre_auths.clone(), house.caller.clone(), no.clone());
        async move {
            let command = crate::gateway::command::CapturePreAuth { amount: Some(800) };
            pre_auths.capture(&caller, super::fixture::origin("k-1"), &no, command).await
        }
    };
    let house = dies_while(house, begun).await;
    pass(Duration::from_secs(60)).await;
    let view = house.view(&no).await;
    assert_eq!((view.status.as_str(), view.captured_amount), ("captured", 800));
    assert_eq!(house.provider.count(|asked| *asked == Asked::Capture { amount: 800, is_first: true }), 1);
    let late = house.capture(&no, Some(800), "k-1").await.unwrap();
    assert_eq!((told(&late), late.replayed), ((200, "captured"), true));
    assert_eq!(house.events(), ["pre_auth.authorized", "pre_auth.captured"]);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_was_sent_is_finished() {
    let house = House::new().await;
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    house.provider.set(|mood| mood.takes = NEVER);
    let begun = {
        let (pre_auths, caller, no) = (house.pre_auths.clone(), house.caller.clone(), no.clone());
        async move { pre_auths.cancel(&caller, super::fixture::origin("k-1"), &no, Default::default()).await }
    };
    let house = dies_while(house, begun).await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(house.view(&no).await.status, "canceled");
    assert_eq!(told(&house.cancel(&no, "k-1").await.unwrap()), (200, "canceled"));
}
