//! What the adapters' tests share: an emulator with its channel, requests, and peers that answer nonsense.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::channels::{
    AuthorizeRequest, Channel, ChargeAnswer, ChargeRequest, ChargeState, Credentials, Failure, HoldQuestion, ListError,
    ProviderRefs, RefundRequest, ResolveRequest, Sent, build,
};
use crate::clock::Clock;
use crate::config::{ChannelConfig, ChannelKind};
use crate::domain::fees::FeeSchedule;
use crate::domain::ids::ChannelName;
use crate::domain::money::{Currency, Money};
use crate::domain::routing::ChannelCaps;
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::sandbox::testing::send;
use crate::sandbox::{FaultPatch, LedgerEntry, LedgerOperation, Sandbox, SandboxOptions, credentials};

/// Long enough for a loopback answer on a busy machine, short enough to be waited for.
pub(crate) const TIMEOUT_MS: u64 = 500;

pub(crate) const START: Timestamp = Timestamp::from_unix_s(1_790_000_000);

/// An emulator and the channel that talks to it, on a clock that stands still.
pub(crate) struct Bench {
    pub(crate) sandbox: Sandbox,
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) clock: Clock,
    /// How long after it was sent a request may be on its way.
    settling: Duration,
    name: &'static str,
}

pub(crate) fn config(kind: ChannelKind) -> ChannelConfig {
    ChannelConfig {
        kind,
        enabled: true,
        sandbox: true,
        base_url: None,
        credentials: BTreeMap::new(),
        fees: FeeSchedule::default(),
        local_countries: Vec::new(),
        countries: Vec::new(),
        currencies: Vec::new(),
        methods: Vec::new(),
        weight: 1,
        amounts: BTreeMap::new(),
        caps: ChannelCaps { concurrent: 8, ..ChannelCaps::default() },
        maintenance: Vec::new(),
        slow_call_ms: None,
        hold_valid_s: 604_800,
        timeout_ms: TIMEOUT_MS,
    }
}

pub(crate) fn channel_at(kind: ChannelKind, base_url: &str, clock: Clock) -> Arc<dyn Channel> {
    build(&ChannelName::new("x"), &config(kind), base_url, &Credentials::new(credentials::of(kind)), clock).unwrap()
}

impl Bench {
    pub(crate) fn new(kind: ChannelKind) -> Self {
        let clock = Clock::manual(START);
        let sandbox = Sandbox::start(SandboxOptions::new(clock.clone(), Random::seeded(1))).unwrap();
        let (name, settling_s) = match kind {
            ChannelKind::Stripe => ("stripe", 60),
            ChannelKind::Btcpay => ("crypto", 5),
            ChannelKind::Paypal => ("paypal", 60),
            _ => ("alipay", 5),
        };
        let settling = Duration::from_secs(settling_s);
        let channel = channel_at(kind, &sandbox.urls()[name], clock.clone());
        Self { sandbox, channel, clock, settling, name }
    }

    pub(crate) async fn charge(&self, request: &ChargeRequest) -> ChargeAnswer {
        self.channel.charge(request).await
    }

    /// Asks about a charge `age_s` seconds after it was sent.
    pub(crate) async fn resolve(
        &self,
        charge: &ChargeRequest,
        refs: &ProviderRefs,
        age_s: i64,
        close: bool,
    ) -> ChargeAnswer {
        self.channel.resolve(&self.question(charge, refs, age_s, close)).await
    }

    /// The same about a charge whose payer got something to act on when it was sent.
    pub(crate) async fn resolve_offered(&self, charge: &ChargeRequest, age_s: i64, close: bool) -> ChargeAnswer {
        let question = self.question(charge, &ProviderRefs::default(), age_s, close);
        let offered_at = Some(question.first_sent_at);
        self.channel.resolve(&ResolveRequest { offered_at, ..question }).await
    }

    /// Looks for a charge that was sent `age_s` seconds ago at the latest.
    pub(crate) async fn find(&self, charge: &ChargeRequest, age_s: i64) -> Result<Option<ChargeAnswer>, ListError> {
        self.channel.find_charge(&self.question(charge, &ProviderRefs::default(), age_s, false)).await
    }

    /// A question about a charge that was sent so many seconds ago.
    pub(crate) fn question(
        &self,
        charge: &ChargeRequest,
        refs: &ProviderRefs,
        age_s: i64,
        close: bool,
    ) -> ResolveRequest {
        let now = self.clock.now();
        let first_sent_at = Timestamp::from_unix_s(now.unix_s() - age_s);
        ResolveRequest {
            charge: charge.clone(),
            first_sent_at,
            sent_by: first_sent_at,
            settling: self.settling,
            set_back: Duration::ZERO,
            now,
            refs: refs.clone(),
            offered_at: None,
            money_sent_at: None,
            close,
        }
    }

    pub(crate) async fn faults(&self, patch: FaultPatch) {
        self.sandbox.set_faults(self.name, patch).await.unwrap();
    }

    pub(crate) fn ledger(&self) -> Vec<LedgerEntry> {
        self.sandbox.ledger(self.name).unwrap()
    }

    pub(crate) fn count(&self, operation: LedgerOperation) -> usize {
        self.ledger().iter().filter(|entry| entry.operation == operation).count()
    }

    /// Exactly this payment was charged, once, and nothing given back.
    pub(crate) fn assert_charged_once(&self, request: &ChargeRequest) {
        let ledger = self.ledger();
        assert_eq!(ledger.len(), 1, "{ledger:?}");
        assert_eq!(ledger[0].operation, LedgerOperation::Charge);
        assert_eq!(ledger[0].reference, request.reference);
        assert_eq!(ledger[0].amount_minor, request.money.amount_minor);
        assert_eq!(ledger[0].currency, request.money.currency.code());
    }
}

/// A charge of 12.30 USD with this token.
pub(crate) fn charge_with(token: Option<&str>) -> ChargeRequest {
    ChargeRequest {
        reference: String::from("PY20260924000000abcdefgh"),
        merchant_id: String::from("m_1"),
        order_no: String::from("O-1"),
        provider_key: String::from("tg7_PY20260924000000abcdefgh_1"),
        money: Money::new(1230, Currency::USD),
        method: None,
        payment_token: token.map(str::to_owned),
        description: Some(String::from("Two nights & breakfast / room=7")),
        customer_email: Some(String::from("payer@example.com")),
        return_url: Some(String::from("https://shop.example/done")),
        notify_url: None,
    }
}

/// A refund of a charge that succeeded with `refs`.
pub(crate) fn refund_of(charge: &ChargeRequest, refs: &ProviderRefs, amount_minor: i64, number: u32) -> RefundRequest {
    RefundRequest {
        reference: charge.reference.clone(),
        refund_reference: format!("RF20260924000000abcdef{number:02}"),
        merchant_id: charge.merchant_id.clone(),
        provider_key: format!("tg7_RF20260924000000abcdef{number:02}"),
        money: Money::new(amount_minor, charge.money.currency),
        charged: charge.money,
        reason: None,
        refs: refs.clone(),
        channel_refund_no: None,
        first_sent_at: START,
        sent_by: START,
        settling: Duration::from_secs(60),
        is_first: true,
        set_back: Duration::ZERO,
        now: START,
    }
}

/// A hold of so many cents.
pub(crate) fn hold_of(amount_minor: i64) -> AuthorizeRequest {
    AuthorizeRequest {
        reference: String::from("PA20260924000000abcdefgh"),
        merchant_id: String::from("m_1"),
        order_no: String::from("O-1"),
        provider_key: String::from("tg7_PA20260924000000abcdefgh_1"),
        money: Money::new(amount_minor, Currency::USD),
        payment_token: Some(String::from("tok_visa")),
        description: Some(String::from("Deposit & key / room=7")),
        customer_email: Some(String::from("payer@example.com")),
        return_url: Some(String::from("https://shop.example/done")),
        notify_url: None,
    }
}

/// An operation on a hold that is sent for the first time, now.
pub(crate) fn sent_first() -> Sent {
    Sent {
        first_sent_at: START,
        sent_by: START,
        settling: Duration::from_secs(60),
        set_back: Duration::ZERO,
        now: START,
        is_first: true,
    }
}

/// A question about a hold that was sent just now.
pub(crate) fn question_about(hold: &AuthorizeRequest) -> HoldQuestion {
    HoldQuestion {
        hold: hold.clone(),
        refs: ProviderRefs::default(),
        first_sent_at: START,
        sent_by: START,
        settling: Duration::from_secs(60),
        set_back: Duration::ZERO,
        now: START,
        offered_at: None,
        money_sent_at: None,
        close: false,
        is_over: false,
    }
}

/// The failure of a charge that is over without success.
pub(crate) fn failure_of(answer: &ChargeAnswer) -> &Failure {
    match &answer.state {
        ChargeState::Declined(failure) | ChargeState::NotDone(failure) => failure,
        other => panic!("not a failure: {other:?}"),
    }
}

pub(crate) fn is_success(answer: &ChargeAnswer) -> bool {
    matches!(answer.state, ChargeState::Success { .. })
}

pub(crate) fn is_unknown(answer: &ChargeAnswer) -> bool {
    matches!(answer.state, ChargeState::Unknown { .. })
}

/// A peer that answers every connection with the same bytes and closes it; its address.
pub(crate) async fn peer_that_answers(bytes: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let mut request = [0; 16 * 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    format!("http://{address}")
}

/// An HTTP answer with this status and body, and a length that may be a lie.
pub(crate) fn http_answer(status: u16, content_type: &str, body: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Sends a plain request as a payer's browser would; gives the status and the body.
pub(crate) async fn browse(method: &str, url: &str) -> (u16, String) {
    let answer = send(method, url, &[], "").await.unwrap();
    (answer.status, answer.body)
}
