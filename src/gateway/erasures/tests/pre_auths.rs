//! Pre-auths are erased as payments are, with what belongs to them.

use super::*;
use crate::domain::ids::ChannelName;
use crate::domain::outcome::ProviderRefs;
use crate::domain::payment::ResolvePolicy;
use crate::domain::pre_auth::{Intent, OnExpiry, PreAuthPolicy, PreAuthStatus, PreAuthTerms, begin};
use crate::domain::routing::DecisionRecord;
use crate::domain::stray::StrayPolicy;

fn policy() -> PreAuthPolicy {
    let hour = Duration::from_secs(3_600);
    PreAuthPolicy {
        is_clock_believed: true,
        resolve: ResolvePolicy {
            first: hour,
            early_max: hour,
            late_max: hour,
            needs_review_after: hour,
            action_expires: hour,
            abandoned_after: hour,
        },
        unconfirmed_expires: DAY,
        expiring_before: hour,
        on_expiry_before: hour,
        on_expiry: OnExpiry::Release,
        hold_valid: DAY,
        stray: StrayPolicy::Refund,
    }
}

fn pre_auth(merchant: &str, number: usize, status: PreAuthStatus, at: Timestamp) -> PreAuth {
    let channel = ChannelName::new("stripe");
    let money = Money::new(1_000, Currency::USD);
    let intent = Intent {
        pre_auth_no: PreAuthNo::new(format!("PA{}{number:08}", at.compact())),
        merchant_id: MerchantId::new(merchant),
        terms: PreAuthTerms {
            order_no: format!("O-{number}"),
            money,
            country: None,
            method: None,
            requested_channel: None,
            payment_token: None,
            customer_email: Some("ann@example.com".to_owned()),
            customer_ip: None,
            description: Some("for Ann".to_owned()),
            metadata: BTreeMap::from([(CUSTOMER_ID_FIELD.to_owned(), "ann-17".to_owned())]),
            return_url: None,
            reference: Some(format!("deposit-{number}")),
        },
        decision: DecisionRecord::adopted(channel.clone(), money.currency),
        channel,
        provider_key: format!("tg_{number}"),
    };
    let begun = begin(intent, &policy(), at).pre_auth;
    let refs = ProviderRefs { client_secret: Some("a secret for Ann".to_owned()), ..ProviderRefs::default() };
    PreAuth { status, refs, operation: None, due_at: None, ..begun }
}

async fn put_pre_auth(core: &Core, pre_auth: &PreAuth) {
    let mut batch = Batch::new();
    batch.put(keys::pre_auth(&pre_auth.merchant_id, &pre_auth.pre_auth_no), encode(pre_auth).unwrap());
    core.store.commit(batch).await.unwrap();
}

/// An answer that names the object of its key, or a refund of it, in the way that `data` does.
async fn put_answer_of(core: &Core, pre_auth: &PreAuth, key: &str, object_no: &str, data: &str) {
    let key = IdempotencyKey::new("POST", "/x", key, b"{}").unwrap();
    let Ok(Known::New(reservation)) = look_up(core, &pre_auth.merchant_id, Some(&key)) else { panic!("a new key") };
    let mut batch = Batch::new();
    reservation.begin(&mut batch, object_no, START).unwrap();
    let sequence = core.store.commit(batch).await.unwrap().sequence;
    let slot = reservation.committed(sequence).unwrap();
    let mut batch = Batch::new();
    let body = format!(r#"{{"data":{data}}}"#);
    slot.answer(&mut batch, object_no, &StoredAnswer { status: 201, body }, START).unwrap();
    core.store.commit(batch).await.unwrap();
}

/// The answers that a pre-auth leaves, whichever way it was addressed.
async fn put_all_answers(core: &Core, of: &PreAuth) {
    let number = of.pre_auth_no.as_str();
    let own = format!(r#"{{"pre_auth_no":"{number}","description":"for Ann"}}"#);
    put_answer_of(core, of, &format!("own-{number}"), number, &own).await;
    let by_channel = r#"{"pre_auth_no":"deposit-1","client_secret":"a secret for Ann"}"#;
    put_answer_of(core, of, &format!("channel-{number}"), number, by_channel).await;
    let refund = format!(r#"{{"refund_no":"RF1","pre_auth_no":"{number}","reason":"for Ann, who was ill"}}"#);
    put_answer_of(core, of, &format!("refund-{number}"), "RF1", &refund).await;
}

async fn put_notification_of(core: &Core, of: &PreAuth) {
    let as_payment = Payment {
        payment_no: PaymentNo::new(of.pre_auth_no.as_str()),
        ..payment(of.merchant_id.as_str(), 1, PaymentStatus::Success, START)
    };
    put_notification(core, &as_payment, "wn_1", NotificationStatus::Success).await;
}

#[tokio::test(start_paused = true)]
async fn one_pre_auth_is_erased_with_its_answers_and_notifications() {
    let core = core(0);
    let one = pre_auth("m_1", 1, PreAuthStatus::Captured, START);
    let other = pre_auth("m_1", 2, PreAuthStatus::Canceled, START);
    for pre_auth in [&one, &other] {
        put_pre_auth(&core, pre_auth).await;
        put_all_answers(&core, pre_auth).await;
    }
    put_notification_of(&core, &one).await;
    let erasures = Erasures::new(core.clone());
    erasures.start();
    let begun = erasures.erase_pre_auth("m_1", one.pre_auth_no.as_str(), &by()).await.unwrap();
    assert_eq!((begun.subject.as_str(), begun.pre_auth_no.as_deref()), ("pre_auth", Some(one.pre_auth_no.as_str())));
    assert_eq!(begun.payment_no, None);
    let counts = until_done(&erasures).await;
    assert_eq!(counts, Counts { pre_auths: 1, answers: 3, notifications: 1, ..Counts::default() });
    assert_eq!(rows_about_ann(&core).len(), 4, "what belongs to the other: {:?}", rows_about_ann(&core));
    let stored = core.store.get(&keys::pre_auth(&one.merchant_id, &one.pre_auth_no)).unwrap().unwrap();
    let erased: PreAuth = decode(&stored.value).unwrap();
    assert!(erased.erased_at.is_some() && erased.refs.client_secret.is_none() && erased.terms.metadata.is_empty());
    assert_eq!((&erased.terms.order_no, erased.status), (&one.terms.order_no, PreAuthStatus::Captured));
    let entries = audit::verify(core.store.as_ref(), None).unwrap().unwrap();
    assert_eq!(entries.number, 1);
}

#[tokio::test(start_paused = true)]
async fn a_customer_is_found_among_payments_and_pre_auths() {
    let core = core(0);
    for number in 0..300 {
        put_pre_auth(&core, &pre_auth("m_1", number, PreAuthStatus::Expired, START)).await;
    }
    put(&core, &payment("m_1", 1, PaymentStatus::Success, START)).await;
    put_pre_auth(&core, &pre_auth("m_1", 900, PreAuthStatus::RequiresCapture, START)).await;
    put_pre_auth(&core, &pre_auth("m_2", 901, PreAuthStatus::Captured, START)).await;
    let erasures = Erasures::new(core.clone());
    erasures.start();
    erasures.erase_customer("m_1", ann(), &by()).await.unwrap();
    let counts = until_done(&erasures).await;
    assert_eq!(counts, Counts { payments: 1, pre_auths: 300, open_pre_auths: 1, ..Counts::default() });
    assert_eq!(rows_about_ann(&core).len(), 2, "an open one and another merchant's");
    let by_id = EraseCustomer { customer_email: None, customer_id: Some("ann-17".to_owned()) };
    // Of this merchant there are pre-auths only.
    erasures.erase_customer("m_2", by_id, &by()).await.unwrap();
    assert_eq!(until_done(&erasures).await.pre_auths, 1);
    let open = erasures.erase_pre_auth("m_1", &format!("PA{}00000900", START.compact()), &by()).await;
    assert!(matches!(open, Err(GatewayError::InvalidState { status }) if status == "requires_capture"));
    let unknown = erasures.erase_pre_auth("m_2", &format!("PA{}00000900", START.compact()), &by()).await;
    assert!(matches!(unknown, Err(GatewayError::NotFound(_))), "another merchant's: {unknown:?}");
}

#[tokio::test(start_paused = true)]
async fn pre_auths_expire_as_payments_do() {
    let core = core(30);
    let day = |number: u32| START.minus(DAY * number);
    let old = pre_auth("m_1", 1, PreAuthStatus::Captured, day(31));
    put_pre_auth(&core, &old).await;
    put_pre_auth(&core, &pre_auth("m_1", 2, PreAuthStatus::Captured, day(20))).await;
    put_pre_auth(&core, &pre_auth("m_2", 3, PreAuthStatus::NeedsReview, day(60))).await;
    put_all_answers(&core, &old).await;
    let erasures = Erasures::new(core.clone());
    erasures.start();
    tokio::time::sleep(Duration::from_secs(700)).await;
    let counts = until_done(&erasures).await;
    assert_eq!((counts.pre_auths, counts.open_pre_auths, counts.answers), (1, 1, 3));
    assert_eq!(rows_about_ann(&core).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn pre_auths_that_can_not_be_read_are_counted() {
    let core = core(0);
    let bad = pre_auth("m_1", 1, PreAuthStatus::Captured, START);
    put_pre_auth(&core, &bad).await;
    put_all_answers(&core, &bad).await;
    put_notification_of(&core, &bad).await;
    put_garbage(&core, keys::pre_auth(&bad.merchant_id, &bad.pre_auth_no)).await;
    let erasures = Erasures::new(core.clone());
    erasures.start();
    erasures.erase_customer("m_1", ann(), &by()).await.unwrap();
    let counts = until_done(&erasures).await;
    assert_eq!(counts, Counts { unreadable: 5, ..Counts::default() });
}
