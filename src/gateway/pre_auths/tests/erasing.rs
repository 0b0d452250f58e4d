//! What was erased from a pre-auth does not come back through an actor that has read it before.

use super::fixture::{House, told};
use crate::domain::audit::Operator;
use crate::gateway::erasures::Erasures;

#[tokio::test(start_paused = true)]
async fn nothing_that_was_erased_is_told_again() {
    let house = House::new().await;
    let with_customer = house.hold_with("O-1", |command| command.wanted.description = Some("for Ann".to_owned()));
    assert!(with_customer.await.unwrap().answer.body.contains("for Ann"));
    let no = house.only().pre_auth_no;
    assert!(house.cancel(&no, "k-1").await.unwrap().answer.body.contains("for Ann"));
    let merchant_id = house.caller.merchant.merchant_id.to_string();
    let erasures = Erasures::new(house.core.clone());
    erasures.erase_pre_auth(&merchant_id, &no, &Operator::process("test")).await.unwrap();
    assert_eq!(house.pre_auths.0.directory.active(), 1, "its actor has not forgotten it yet");
    let again = house.cancel(&no, "k-2").await.unwrap();
    assert_eq!(told(&again), (200, "canceled"));
    assert!(!again.answer.body.contains("for Ann"), "{}", again.answer.body);
    assert_eq!(house.provider.count(|asked| matches!(asked, super::fixture::Asked::Release { .. })), 1);
}
