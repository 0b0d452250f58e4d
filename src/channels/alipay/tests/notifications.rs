//! Notifications: what they prove, and what they are about. And the check of the credentials.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::channels::alipay::rsa2::{Signer, canonical};
use crate::channels::alipay::tests::{NOTHING, capture_of, hold_with, release_of};
use crate::channels::tests::{Bench, START, browse, channel_at, charge_with, config, is_success, question_about};
use crate::channels::{
    Acknowledgement, AuthorizeRequest, Channel, ChargeRequest, ChargeState, CheckFailure, Credentials, HoldState,
    Inbound, NextAction, Notification, NotificationRefusal, ResolveRequest, Subject, build,
};
use crate::clock::Clock;
use crate::config::ChannelKind;
use crate::domain::ids::ChannelName;
use crate::random::Random;
use crate::sandbox::notify::{Outbox, Prepared};
use crate::sandbox::{Sandbox, SandboxOptions, credentials};

const NOTIFY_URL: &str = "https://pay.example/callbacks/alipay?from=a b";

/// An emulator whose notifications are seen, and the channel that talks to it.
struct House {
    sandbox: Sandbox,
    channel: Arc<dyn Channel>,
    clock: Clock,
    outbox: Arc<Outbox>,
}

impl House {
    fn new() -> Self {
        let clock = Clock::manual(START);
        let mut options = SandboxOptions::new(clock.clone(), Random::seeded(1));
        let outbox = options.keep_notifications();
        let sandbox = Sandbox::start(options).unwrap();
        let channel = channel_at(ChannelKind::Alipay, &sandbox.urls()["alipay"], clock.clone());
        Self { sandbox, channel, clock, outbox }
    }

    /// The next notification, if there is one.
    async fn told(&self) -> Option<Prepared> {
        tokio::select! {
            biased;
            prepared = self.outbox.take() => Some(prepared),
            () = std::future::ready(()) => None,
        }
    }

    /// The next notification as the channel reads it.
    async fn read(&self) -> Notification {
        let prepared = self.told().await.unwrap();
        assert_eq!((prepared.channel, prepared.taken_says), ("alipay", Some("success")));
        assert_eq!(prepared.url.as_deref(), Some(NOTIFY_URL));
        self.channel.verify(&inbound(&prepared.body)).await.unwrap()
    }
}

fn inbound(body: &[u8]) -> Inbound {
    Inbound { headers: Vec::new(), query: None, body: Bytes::copy_from_slice(body), received_at: START }
}

/// Fields of a notification about the capture of a hold.
fn fields() -> Vec<(&'static str, String)> {
    [
        ("notify_id", "2026112100222034318009991425"),
        ("notify_type", "trade_status_sync"),
        ("notify_time", "2026-11-21 10:00:00"),
        ("app_id", credentials::ALIPAY_APP_ID),
        ("charset", "utf-8"),
        ("version", "1.0"),
        ("seller_id", credentials::ALIPAY_SELLER_ID),
        ("subject", "50 % of 早餐 & more + tax"),
        ("out_trade_no", "tg7_PA1_2"),
        ("trade_no", "T1"),
        ("total_amount", "5.00"),
        ("passback_params", "PA1~m_1"),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.to_owned()))
    .collect()
}

fn with(changes: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let mut fields = fields();
    for (name, value) in changes {
        fields.retain(|(found, _)| found != name);
        fields.push((name, (*value).to_owned()));
    }
    fields
}

fn without(name: &str) -> Vec<(&'static str, String)> {
    let mut fields = fields();
    fields.retain(|(found, _)| *found != name);
    fields
}

fn signature(fields: &[(&'static str, String)]) -> String {
    let text = canonical(fields.iter().map(|(name, value)| (*name, value.as_str())));
    Signer::new(credentials::ALIPAY_PRIVATE_KEY).unwrap().sign(&text).unwrap()
}

fn form(fields: &[(&'static str, String)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// As Alipay sends it: the kind of signature is not signed.
fn signed(mut fields: Vec<(&'static str, String)>) -> String {
    let signature = signature(&fields);
    fields.extend([("sign_type", String::from("RSA2")), ("sign", signature)]);
    form(&fields)
}

async fn verify(body: &str) -> Result<Notification, NotificationRefusal> {
    channel_at(ChannelKind::Alipay, "http://127.0.0.1:1", Clock::system()).verify(&inbound(body.as_bytes())).await
}

#[tokio::test]
async fn a_genuine_notification_says_what_it_is_about() {
    let expected = Notification {
        id: String::from("2026112100222034318009991425"),
        event: String::from("trade_status_sync"),
        subjects: vec![Subject {
            reference: Some(String::from("PA1")),
            merchant_id: Some(String::from("m_1")),
            provider_key: Some(String::from("tg7_PA1_2")),
            provider_no: Some(String::from("T1")),
        }],
        dispute: None,
    };
    assert_eq!(verify(&signed(fields())).await.as_ref(), Ok(&expected));
    // Some sign the kind of signature too.
    let mut other = with(&[("sign_type", "RSA2")]);
    other.push(("sign", signature(&other)));
    assert_eq!(verify(&form(&other)).await.as_ref(), Ok(&expected));
    let mut bare = fields();
    bare.push(("sign", signature(&bare)));
    assert_eq!(verify(&form(&bare)).await.as_ref(), Ok(&expected));
    let acknowledgement = channel_at(ChannelKind::Alipay, "http://127.0.0.1:1", Clock::system()).acknowledgement();
    assert_eq!(acknowledgement, Acknowledgement { content_type: "text/plain", body: "success" });
}

#[tokio::test]
async fn a_notification_about_another_amount_is_the_same_hint() {
    let notification = verify(&signed(with(&[("total_amount", "999.00")]))).await.unwrap();
    assert_eq!(notification.subjects, verify(&signed(fields())).await.unwrap().subjects);
}

#[tokio::test]
async fn what_is_forged_or_somebody_elses_is_refused() {
    use NotificationRefusal::{Malformed, Signature, WrongAccount};
    let genuine = signed(fields());
    // Every field counts, and none can be added or dropped.
    for (name, _) in fields() {
        let changed = {
            let mut changed = with(&[(name, "changed")]);
            changed.extend([("sign_type", String::from("RSA2")), ("sign", signature(&fields()))]);
            form(&changed)
        };
        assert!(matches!(verify(&changed).await, Err(Signature(_))), "{name}");
        let mut dropped = without(name);
        dropped.extend([("sign_type", String::from("RSA2")), ("sign", signature(&fields()))]);
        assert!(matches!(verify(&form(&dropped)).await, Err(Signature(_))), "{name}");
    }
    for body in [
        format!("{genuine}&more=1"),
        format!("{genuine}&more="),
        genuine.replace("sign=", "sing="),
        form(&fields()),
        String::new(),
        String::from("\u{0}\u{1}%%%"),
        String::from("{\"notify_id\":1}"),
        genuine[..genuine.len() / 2].to_owned(),
    ] {
        assert!(matches!(verify(&body).await, Err(Signature(_))), "{body}");
    }
    // The application's own key is not Alipay's.
    let mut own = fields();
    let text = canonical(own.iter().map(|(name, value)| (*name, value.as_str())));
    own.push(("sign", Signer::new(credentials::ALIPAY_APP_PRIVATE_KEY).unwrap().sign(&text).unwrap()));
    assert!(matches!(verify(&form(&own)).await, Err(Signature(_))));

    for body in [
        signed(with(&[("app_id", "2021000000000002")])),
        signed(without("app_id")),
        signed(with(&[("seller_id", "2088000000000002")])),
        signed(with(&[("payee_user_id", "2088000000000002")])),
    ] {
        assert_eq!(verify(&body).await, Err(WrongAccount), "{body}");
    }
    for body in [
        signed(without("notify_id")),
        signed(with(&[("notify_id", &"9".repeat(129))])),
        signed(without("notify_type")),
        format!("{genuine}&trade_no=T2"),
        "a=1&".repeat(2),
        (0..201).map(|index| format!("f{index}=1&")).collect::<String>(),
    ] {
        assert!(matches!(verify(&body).await, Err(Malformed(_))), "{body}");
    }
}

#[tokio::test]
async fn what_is_of_no_interest_is_taken_and_about_nothing() {
    for changes in [&[("notify_type", "alipay_user_agreement")][..], &[("out_trade_no", ""), ("trade_no", "")]] {
        let mut fields = with(changes);
        fields.retain(|(_, value)| !value.is_empty());
        assert_eq!(verify(&signed(fields)).await.unwrap().subjects, Vec::new());
    }
    let foreign = verify(&signed(with(&[("passback_params", "their own")]))).await.unwrap();
    assert_eq!(foreign.subjects[0].reference, None);
    assert_eq!(foreign.subjects[0].provider_no.as_deref(), Some("T1"));
}

#[tokio::test]
async fn a_payment_by_qr_code_is_told_about_when_it_is_paid() {
    let house = House::new();
    let charge = ChargeRequest { notify_url: Some(NOTIFY_URL.to_owned()), ..charge_with(Some("tok_3ds")) };
    let offered = house.channel.charge(&charge).await;
    let ChargeState::ActionRequired { next_action: Some(NextAction::Redirect { url }), .. } = offered.state else {
        panic!("{offered:?}")
    };
    assert_eq!(house.told().await, None);
    browse("POST", &format!("{url}/approve")).await;
    let told = house.read().await;
    assert_eq!(told.event, "trade_status_sync");
    let subject = &told.subjects[0];
    assert_eq!((subject.reference.as_deref(), subject.merchant_id.as_deref()), (Some(&*charge.reference), Some("m_1")));
    assert_eq!(subject.provider_key.as_deref(), Some(&*charge.provider_key));
    // It is a hint to ask; the answer counts.
    let question = ResolveRequest {
        charge,
        first_sent_at: START,
        sent_by: START,
        settling: Duration::from_secs(5),
        now: START,
        set_back: Duration::ZERO,
        refs: NOTHING,
        offered_at: Some(START),
        money_sent_at: None,
        close: false,
    };
    let asked = house.channel.resolve(&question).await;
    assert!(is_success(&asked));
    assert_eq!(asked.refs.channel_order_no, subject.provider_no);
    assert_eq!(house.told().await, None, "once");
}

#[tokio::test]
async fn every_step_of_a_hold_is_told() {
    let house = House::new();
    let hold = AuthorizeRequest { notify_url: Some(NOTIFY_URL.to_owned()), ..hold_with(Some("tok_processing")) };
    house.channel.authorize(&hold).await;
    house.clock.advance(Duration::from_secs(5));
    let held = house.channel.ask_hold(&question_about(&hold)).await;
    assert!(matches!(held.state, HoldState::Held { .. }), "{held:?}");
    let subject = Subject {
        provider_key: Some(hold.provider_key.clone()),
        provider_no: held.refs.hold_no.clone(),
        ..Subject::default()
    };
    let told = house.read().await;
    assert_eq!((told.event.as_str(), &told.subjects), ("fund_auth_freeze", &vec![subject.clone()]));
    let captured = house.channel.capture(&capture_of(&hold, &held.refs, 500, 2)).await;
    let told = house.read().await;
    assert_eq!((told.event.as_str(), told.subjects.len()), ("trade_status_sync", 1));
    assert_eq!(told.subjects[0].reference.as_deref(), Some(&*hold.reference));
    assert_eq!(told.subjects[0].provider_no, captured.refs.capture_no);

    let house = House::new();
    let hold = AuthorizeRequest { payment_token: Some(String::from("tok_visa")), ..hold };
    let held = house.channel.authorize(&hold).await;
    let first = house.read().await;
    house.channel.release(&release_of(&hold, &held.refs, 2)).await;
    let told = house.read().await;
    assert_eq!(told.event, "fund_auth_unfreeze");
    assert_eq!(told.subjects[0].provider_no, held.refs.hold_no);
    assert_ne!(told.id, first.id);
    assert_eq!(house.sandbox.ledger("alipay").unwrap().len(), 2);
    assert_eq!(house.told().await, None);
}

#[tokio::test]
async fn a_check_says_whether_the_credentials_fit_and_moves_nothing() {
    let bench = Bench::new(ChannelKind::Alipay);
    let report = bench.channel.check().await.unwrap();
    assert_eq!(report.account.as_deref(), Some(credentials::ALIPAY_APP_ID));
    assert_eq!(report.findings.len(), 2, "{:?}", report.findings);
    assert!(report.findings[1].contains("may hold money"));
    let url = bench.sandbox.urls()["alipay"].clone();
    let with = |change: fn(&str) -> bool, app_id: &'static str| {
        let entries = credentials::of(ChannelKind::Alipay).into_iter().filter(move |(name, _)| change(name));
        let entries = entries.map(move |(name, value)| (name, if name == "app_id" { app_id } else { value }));
        let credentials = Credentials::new(entries);
        build(&ChannelName::new("x"), &config(ChannelKind::Alipay), &url, &credentials, Clock::manual(START)).unwrap()
    };
    let anybodys = with(|name| name != "seller_id", credentials::ALIPAY_APP_ID).check().await.unwrap();
    assert!(anybodys.findings.iter().any(|finding| finding.contains("seller_id")), "{:?}", anybodys.findings);
    let wrong = with(|_| true, "2021000000000002").check().await;
    assert_eq!(wrong, Err(CheckFailure::Refused(String::from("40002 isv.invalid-app-id"))));
    let nobody = channel_at(ChannelKind::Alipay, "http://127.0.0.1:1", Clock::system()).check().await;
    assert!(matches!(nobody, Err(CheckFailure::Unreachable(_))), "{nobody:?}");
    assert!(bench.ledger().is_empty());
}
