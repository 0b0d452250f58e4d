//! A strategy of one's own among the built-in ones: subscriptions stay on the channel where the card is on file.
//!
//! ```sh
//! cargo run --example custom_strategy
//! ```
//!
//! The whole gateway runs in this program, over emulators of the providers and a temporary directory. Two payments are
//! taken, an ordinary one and a subscription's, and of each it says where it went, which strategies were asked and what each
//! of them did.
#![allow(clippy::print_stdout, reason = "an example that says what happened")]

use std::error::Error;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tollgate::api::Api;
use tollgate::clock::Clock;
use tollgate::config::Config;
use tollgate::domain::audit::Operator;
use tollgate::domain::ids::ChannelName;
use tollgate::domain::routing::{Candidates, ChannelSet, RouteRequest, RoutingStrategy};
use tollgate::gateway::{Environment, Gateway};
use tollgate::random::Random;

/// Keeps subscriptions where the payers' cards are on file.
struct CardOnFile {
    channel: ChannelName,
}

impl RoutingStrategy for CardOnFile {
    fn name(&self) -> &str {
        "card_on_file"
    }

    /// Behind geographic (90), before success rate (80).
    fn priority(&self) -> u8 {
        85
    }

    fn narrow(&self, request: &RouteRequest<'_>, candidates: &Candidates<'_>) -> ChannelSet {
        match request.metadata.get("kind").map(String::as_str) {
            // Nothing, should that channel not be among the candidates: then the others decide.
            Some("subscription") => candidates.named(&self.channel),
            _ => ChannelSet::default(),
        }
    }
}

/// Takes an ordinary payment and a subscription's, and says of each where it went and why, line by line.
pub(crate) async fn run() -> Result<Vec<String>, Box<dyn Error>> {
    // reqwest is built without a provider of cryptography here, so the program chooses one; an error means that one was
    // chosen before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir()?;
    let mut config = Config::embedded()?;
    config.storage.dir = directory.path().join("data");
    config.storage.ballast_bytes = 0;
    let environment = Environment {
        clock: Clock::system(),
        random: Random::from_os(),
        variable: Box::new(|name| std::env::var(name).ok()),
    };
    let card_on_file = CardOnFile { channel: ChannelName::new("stripe") };
    let gateway = Gateway::open_with_strategies(config, environment, vec![Arc::new(card_on_file)]).await?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let admin_listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/api/v1/payments", listener.local_addr()?);
    let shutdown = CancellationToken::new();
    let api = Api::start(gateway.clone(), listener, admin_listener, shutdown.clone())?;

    let shop = serde_json::from_value(json!({ "name": "a shop", "tier": "starter" }))?;
    let key = gateway.merchants().create(shop, &Operator::process("example")).await?.key;
    let client = reqwest::Client::new();
    let mut lines = Vec::new();
    for (order_no, kind) in [("O-1", "order"), ("O-2", "subscription")] {
        let body = json!({ "order_no": order_no, "amount": 10_000, "currency": "USD", "metadata": { "kind": kind } });
        let request = client.post(&url).basic_auth(&key.id, Some(&key.secret));
        let request = request.header("content-type", "application/json").body(body.to_string());
        let paid: Value = serde_json::from_slice(&request.send().await?.bytes().await?)?;
        let number = paid["data"]["payment_no"].as_str().ok_or_else(|| format!("not taken: {paid}"))?;
        let routing = client.get(format!("{url}/{number}/routing")).basic_auth(&key.id, Some(&key.secret));
        let routing: Value = serde_json::from_slice(&routing.send().await?.bytes().await?)?;
        let decision = &routing["data"]["attempts"][0]["explanation"];
        lines.push(format!("{kind}: {} by {}", text(&decision["channel"]), text(&decision["strategy"])));
        lines.push(format!("  {}", text(&decision["reason"])));
        for step in decision["steps"].as_array().into_iter().flatten() {
            lines.push(format!("  - {}", text(&step["in_words"])));
        }
    }

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
