//! A channel of one's own beside the built-in ones: a shop's gift cards.
//!
//! ```sh
//! cargo run --example custom_channel
//! ```
//!
//! The whole gateway runs in this program, over emulators of the providers and a temporary directory. Payments are taken from
//! a gift card, one of them given back; a deposit on a gift card is refused before the channel hears of it, because it does not
//! say that it can hold money, while cards still can.
#![allow(clippy::print_stdout, reason = "an example that says what happened")]

use std::collections::BTreeMap;
use std::error::Error;
use std::future::ready;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tollgate::api::Api;
use tollgate::channels::{
    Call, Capabilities, Channel, ChargeAnswer, ChargeRequest, ChargeState, CheckFailure, CheckReport, DeclineScope,
    Failure, ProviderRefs, RefundAnswer, RefundRequest, RefundState, ResolveRequest,
};
use tollgate::clock::Clock;
use tollgate::config::{Config, LoadOptions, Override};
use tollgate::domain::audit::Operator;
use tollgate::domain::ids::ChannelName;
use tollgate::domain::money::{Currency, Money};
use tollgate::gateway::{Environment, Gateway};
use tollgate::random::Random;

/// What the configuration has to say about the channel: that it is there, whose it is, and what it costs.
const CONFIGURATION: &str = r#"
[channels.gift_cards]
kind = "custom"
currencies = ["USD"]

[channels.gift_cards.fees]
percent = "0"
"#;

/// The cards and what was done with them. A real channel keeps this where no restart loses it, or asks whoever does.
#[derive(Default)]
struct GiftCards(Mutex<Books>);

#[derive(Default)]
struct Books {
    /// What is left on each card.
    cards: BTreeMap<String, Money>,
    /// What came of each charge, by the key that the gateway gave it: the same key never takes money twice.
    charges: BTreeMap<String, Charge>,
    /// The keys of the refunds that were made.
    refunds: BTreeMap<String, Money>,
}

#[derive(Clone)]
enum Charge {
    Taken {
        card: String,
        left_to_refund: i64,
    },
    Refused(Failure),
    /// It never came, and won't be carried out if it still does.
    Closed,
}

impl Books {
    /// Carries a charge out, unless it is known what came of it.
    fn charge(&mut self, request: &ChargeRequest) -> Charge {
        if let Some(known) = self.charges.get(&request.provider_key) {
            return known.clone();
        }
        let charge = self.take(request);
        self.charges.insert(request.provider_key.clone(), charge.clone());
        charge
    }

    fn take(&mut self, request: &ChargeRequest) -> Charge {
        let refused = |code: &str, message: &str| Charge::Refused(Failure::new(code, message, DeclineScope::Customer));
        let number = request.payment_token.as_deref().unwrap_or_default();
        let Some(left) = self.cards.get_mut(number) else {
            return refused("invalid_card", "There is no such gift card.");
        };
        if left.currency != request.money.currency || left.amount_minor < request.money.amount_minor {
            return refused("insufficient_funds", "There is not enough on the gift card.");
        }
        left.amount_minor -= request.money.amount_minor;
        Charge::Taken { card: number.to_owned(), left_to_refund: request.money.amount_minor }
    }

    /// Gives money back once for each key, and never more than was taken.
    fn refund(&mut self, request: &RefundRequest) -> RefundState {
        let refused =
            |message: &str| RefundState::Failed(Failure::new("not_refundable", message, DeclineScope::Processor));
        if self.refunds.contains_key(&request.provider_key) {
            return RefundState::Success;
        }
        let charged = request.refs.channel_order_no.as_ref().and_then(|number| self.charges.get_mut(number));
        let Some(Charge::Taken { card, left_to_refund }) = charged else {
            return refused("There is no such charge.");
        };
        if *left_to_refund < request.money.amount_minor {
            return refused("More than was taken can't be given back.");
        }
        *left_to_refund -= request.money.amount_minor;
        if let Some(left) = self.cards.get_mut(card.as_str()) {
            left.amount_minor += request.money.amount_minor;
        }
        self.refunds.insert(request.provider_key.clone(), request.money);
        RefundState::Success
    }
}

impl GiftCards {
    fn left_on(&self, card: &str) -> Option<Money> {
        self.0.lock().cards.get(card).copied()
    }
}

fn answer(provider_key: &str, charge: &Charge) -> ChargeAnswer {
    let state = match charge {
        Charge::Taken { .. } => ChargeState::Success { fee_minor: Some(0) },
        Charge::Refused(failure) => ChargeState::Declined(failure.clone()),
        Charge::Closed => {
            let message = "The charge never arrived.";
            ChargeState::NotDone(Failure::new("not_received", message, DeclineScope::Processor))
        }
    };
    // What refunds will name.
    let refs = ProviderRefs { channel_order_no: Some(provider_key.to_owned()), ..ProviderRefs::default() };
    ChargeAnswer::with(state, refs)
}

impl Channel for GiftCards {
    /// What is not named here is not supported: no pre-auth ever comes to this channel.
    fn capabilities(&self) -> Capabilities {
        Capabilities { charge: true, refund: true, check: true, ..Capabilities::default() }
    }

    fn methods(&self) -> &'static [&'static str] {
        &["gift_card"]
    }

    fn takes_token(&self, token: &str) -> bool {
        token.starts_with("gift_")
    }

    fn charge<'a>(&'a self, request: &'a ChargeRequest) -> Call<'a, ChargeAnswer> {
        let charge = self.0.lock().charge(request);
        Box::pin(ready(answer(&request.provider_key, &charge)))
    }

    /// What never came is closed by taking its key, so that it is certain that it was not done. Where the books are somebody
    /// else's, "not there" proves that only when [`ResolveRequest::is_settled`].
    fn resolve<'a>(&'a self, question: &'a ResolveRequest) -> Call<'a, ChargeAnswer> {
        let key = &question.charge.provider_key;
        let charge = self.0.lock().charges.entry(key.clone()).or_insert(Charge::Closed).clone();
        Box::pin(ready(answer(key, &charge)))
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest) -> Call<'a, RefundAnswer> {
        let state = self.0.lock().refund(request);
        Box::pin(ready(RefundAnswer { state, channel_refund_no: Some(request.provider_key.clone()) }))
    }

    fn check<'a>(&'a self) -> Call<'a, Result<CheckReport, CheckFailure>> {
        let finding = format!("{} gift cards are known.", self.0.lock().cards.len());
        let report = CheckReport { findings: vec![finding], ..CheckReport::default() };
        Box::pin(ready(Ok(report)))
    }
}

/// A configuration with the channel in it, as from a file.
fn configuration(directory: &std::path::Path) -> Result<Config, Box<dyn Error>> {
    let file = directory.join("tollgate.toml");
    std::fs::write(&file, CONFIGURATION)?;
    let data = directory.join("data").display().to_string();
    let own = |path: &str, value: toml::Value| Override { source: "example".into(), path: path.into(), value };
    Ok(Config::load(LoadOptions {
        file: Some(file),
        overrides: vec![own("storage.dir", data.into()), own("storage.ballast_bytes", 0.into())],
        custom_channels: vec![String::from("gift_cards")],
        ..LoadOptions::default()
    })?)
}

/// Pays with a gift card, gives back, tries deposits, and says what came of each, line by line.
pub(crate) async fn run() -> Result<Vec<String>, Box<dyn Error>> {
    // reqwest is built without a provider of cryptography here, so the program chooses one; an error means that one was
    // chosen before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir()?;
    let environment = Environment {
        clock: Clock::system(),
        random: Random::from_os(),
        variable: Box::new(|name| std::env::var(name).ok()),
    };
    let gift_cards = Arc::new(GiftCards::default());
    gift_cards.0.lock().cards.insert(String::from("gift_1"), Money::new(5_000, Currency::USD));
    let own = BTreeMap::from([(ChannelName::new("gift_cards"), Arc::clone(&gift_cards) as Arc<dyn Channel>)]);
    let gateway = Gateway::open_with_channels(configuration(directory.path())?, environment, own).await?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let admin_listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}/api/v1", listener.local_addr()?);
    let shutdown = CancellationToken::new();
    let api = Api::start(gateway.clone(), listener, admin_listener, shutdown.clone())?;
    let shop = serde_json::from_value(json!({ "name": "a shop", "tier": "starter" }))?;
    let key = gateway.merchants().create(shop, &Operator::process("example")).await?.key;
    let client = reqwest::Client::new();
    let post = async |path: &str, idempotency_key: &str, body: Value| {
        let request = client.post(format!("{base}{path}")).basic_auth(&key.id, Some(&key.secret));
        let request = request.header("content-type", "application/json").header("idempotency-key", idempotency_key);
        let answer = request.body(body.to_string()).send().await?.bytes().await?;
        Ok::<Value, Box<dyn Error>>(serde_json::from_slice(&answer)?)
    };
    let order = |order_no: &str, amount: i64, method: &str, token: &str| json!({ "order_no": order_no, "amount": amount, "currency": "USD", "method": method, "payment_token": token });
    let left = || gift_cards.left_on("gift_1").map_or_else(String::new, |left| left.to_string());
    let mut lines = Vec::new();

    let paid = post("/payments", "1", order("O-1", 3_500, "gift_card", "gift_1")).await?;
    let paid = &paid["data"];
    lines.push(format!("35.00: {} on {}, {} left", text(&paid["status"]), text(&paid["channel"]), left()));
    let refused = post("/payments", "2", order("O-2", 3_500, "gift_card", "gift_1")).await?;
    let refused = &refused["data"];
    lines.push(format!("35.00 more: {} ({})", text(&refused["status"]), text(&refused["failure"]["code"])));
    let refunds = format!("/payments/{}/refunds", text(&paid["payment_no"]));
    let refund = post(&refunds, "3", json!({ "amount": 1_000 })).await?;
    lines.push(format!("10.00 given back: {}, {} left", text(&refund["data"]["status"]), left()));

    let deposit = post("/pre-auths", "4", order("R-1", 2_000, "gift_card", "gift_1")).await?;
    lines.push(format!("a deposit on it: {} ({})", text(&deposit["code"]), text(&deposit["message"])));
    let deposit = post("/pre-auths", "5", order("R-2", 2_000, "card", "tok_visa")).await?;
    let deposit = &deposit["data"];
    lines.push(format!("a deposit on a card: {} on {}", text(&deposit["status"]), text(&deposit["channel"])));
    let checked = gateway.routing().check_channel("gift_cards").await?;
    lines.push(format!("check: {}; {}", checked.result, checked.findings.join(" ")));

    shutdown.cancel();
    api.drained().await;
    gateway.stop().await?;
    Ok(lines)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    for line in run().await? {
        println!("{line}");
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}
