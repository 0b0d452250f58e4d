//! `tollgate demo`: the whole gateway on a temporary data directory, with four merchants whose payments and deposits go
//! through real HTTP, sandbox channels that answer them, and a receiver for the webhooks.

mod books;
mod deposits;
mod plan;
mod receiver;
mod report;
mod traffic;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use url::Url;

use self::books::Books;
use self::deposits::SentDeposit;
use self::plan::{SHOPS, Shop, default_seconds, plan, plan_deposits, split};
use self::receiver::Receiver;
use self::report::{Played, Report, events_of};
use self::traffic::{Merchant, Requests, Sent, SentPayment};
use super::admin::Admin;
use super::client::Client;
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::logs;
use super::output;
use super::running::RunningGateway;
use super::signals::Signals;
use super::signer::Signer;
use crate::config::{Config, FaultConfig, TelemetryConfig};
use crate::telemetry;

/// How long the demo waits for webhooks that are retried once all payments have ended.
const WEBHOOKS_WAIT_MAX: Duration = Duration::from_secs(12);
/// Between two looks at how many have arrived.
const WEBHOOKS_LOOK: Duration = Duration::from_millis(50);
/// Size of the temporary journal's segments: large enough never to matter, small enough to be made at once.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

/// Flags of `demo`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Payments to send
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    payments: u32,
    /// Spread them over this many seconds; about 100 a second when not given
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<f64>,
    /// End after the report in place of serving on, with exit code 1 if something went wrong
    #[arg(long)]
    exit: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| String::from("not a number of seconds"))?;
    if (0.1..=86_400.0).contains(&seconds) { Ok(seconds) } else { Err(String::from("must be from 0.1 to 86400")) }
}

/// Runs the demo; unless told to end with the report, serves on until SIGTERM or SIGINT.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let log = String::from("error");
    let logs = telemetry::init(&TelemetryConfig { log, ..Config::embedded()?.telemetry })
        .map_err(|error| Failure::Failed(error.to_string()))?;
    logs::written(&logs, serve(arguments, context).await)
}

async fn serve(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let mut signals = Signals::listen()?;
    let directory =
        tempfile::tempdir().map_err(|error| Failure::Failed(format!("no temporary directory can be made: {error}")))?;
    // The environment is for a gateway of one's own; the demo is the same everywhere.
    let surroundings =
        Context { environment: Vec::new(), clock: context.clock.clone(), random: context.random.clone() };
    let running = RunningGateway::start(config_in(directory.path())?, &surroundings).await?;
    let result = tokio::select! {
        result = show(&arguments, &surroundings, &running, &mut signals) => result,
        reason = running.gateway.failed() => Err(Failure::Failed(format!("{reason}; run the demo again"))),
    };
    let stopped = running.stop().await;
    result.and_then(|outcome| stopped.map(|()| outcome))
}

async fn show(
    arguments: &Arguments,
    context: &Context,
    running: &RunningGateway,
    signals: &mut Signals,
) -> Result<Outcome, Failure> {
    let demo = tokio::select! {
        demo = Demo::play(arguments, context, running) => demo?,
        () = signals.stop() => return Err(Failure::Failed(String::from("the demo was interrupted"))),
    };
    if arguments.json {
        let report = serde_json::to_value(&demo.report)
            .map_err(|error| Failure::Failed(format!("the report can't be written: {error}")))?;
        output::json(&report)?;
    } else {
        output::line(&demo.report.text(running.gateway.config().fx.settlement_currency))?;
    }
    let shortcomings = demo.report.shortcomings();
    if !shortcomings.is_empty() {
        output::error(&format!("the demo did not go well: {}", shortcomings.join("; ")));
    }
    if !arguments.exit {
        output::note(&hint(running, &demo.merchants)?);
        signals.stop().await;
    }
    // Whoever looks at the console has seen it; whoever runs it in a script looks at the exit code.
    Ok(if shortcomings.is_empty() || !arguments.exit { Outcome::Fine } else { Outcome::Failed })
}

/// The embedded configuration on free ports, with providers that take as long as real ones at their best.
fn config_in(directory: &Path) -> Result<Config, Failure> {
    let mut config = Config::embedded()?;
    let free = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    (config.server.listen, config.server.admin_listen) = (free, free);
    config.storage.dir = directory.join("data");
    config.storage.segment_bytes = SEGMENT_BYTES;
    config.storage.group_bytes_max = config.storage.group_bytes_max.min(SEGMENT_BYTES as usize / 4);
    config.storage.ballast_bytes = 0;
    config.webhook.allowed_private_networks = vec![ipnet::Ipv4Net::new_assert([127, 0, 0, 0].into(), 8).into()];
    if let Some(sandbox) = &mut config.sandbox {
        for (seed, name) in (1..).zip(config.channels.keys()) {
            let faults = FaultConfig { latency_ms: 15, latency_jitter_ms: 30, seed, ..FaultConfig::default() };
            sandbox.faults.insert(name.clone(), faults);
        }
    }
    config.validate()?;
    Ok(config)
}

/// A demo that has been played.
struct Demo {
    report: Report,
    merchants: Vec<Merchant>,
    /// Takes webhooks as long as the gateway serves on.
    _receiver: Receiver,
}

impl Demo {
    async fn play(arguments: &Arguments, context: &Context, running: &RunningGateway) -> Result<Self, Failure> {
        let receiver = Receiver::start(context.clock.clone(), context.random.clone()).await?;
        let admin = admin_of(running)?;
        let mut requests: BTreeMap<String, Requests> = BTreeMap::new();
        let mut merchants = Vec::with_capacity(SHOPS.len());
        for shop in SHOPS {
            let merchant = open_shop(shop, context, running, &admin).await?;
            let counted = requests.entry(String::from(shop.tier)).or_default();
            add_endpoint(&merchant, &receiver, counted).await?;
            merchants.push(merchant);
        }
        let started = context.clock.monotonic();
        let sent = send(arguments, context, &merchants).await?;
        let mut payments = Vec::with_capacity(arguments.payments as usize);
        let mut deposits = Vec::new();
        for (tier, sent) in sent {
            requests.entry(tier).or_default().add(sent.requests);
            payments.extend(sent.payments);
            deposits.extend(sent.deposits);
        }
        wait_for_webhooks(&receiver, events_of(&payments, &deposits)).await;
        let elapsed = context.clock.monotonic().since(started);
        let books = compare_books(running, &payments, &deposits)?;
        let played = Played { payments, deposits, requests, books, webhooks: receiver.tally(), elapsed };
        let report = Report::of(running.gateway.config(), &played);
        Ok(Self { report, merchants, _receiver: receiver })
    }
}

/// Compares what is said here with what the providers' emulators have written down.
fn compare_books(
    running: &RunningGateway,
    payments: &[SentPayment],
    deposits: &[SentDeposit],
) -> Result<Books, Failure> {
    let mut ledger = Vec::new();
    if let Some(sandbox) = running.gateway.sandbox() {
        for provider in running.gateway.config().channels.keys() {
            let lines = sandbox.ledger(provider);
            ledger.extend(lines.map_err(|error| Failure::Failed(format!("the books of {provider}: {error}")))?);
        }
    }
    Ok(Books::compare(&ledger, payments, deposits))
}

fn admin_of(running: &RunningGateway) -> Result<Admin, Failure> {
    let tokens = running.gateway.admin_tokens();
    let token = tokens.first().ok_or_else(|| Failure::Failed(String::from("the gateway made no admin token")))?;
    Admin::at(&format!("http://{}", running.admin_address), &token.secret)
}

/// Adds a merchant as an operator does.
async fn open_shop(
    shop: Shop,
    context: &Context,
    running: &RunningGateway,
    admin: &Admin,
) -> Result<Merchant, Failure> {
    let body = json!({ "name": shop.name, "tier": shop.tier, "country": shop.country });
    let made = admin.call(Method::POST, &["merchants"], Some(&body)).await?;
    let part = |pointer: &str| {
        let text = made.pointer(pointer).and_then(Value::as_str).map(String::from);
        text.ok_or_else(|| Failure::Failed(format!("the new merchant has no {pointer}")))
    };
    let signer = Signer {
        key_id: part("/key/id")?,
        secret: part("/key/secret")?,
        clock: context.clock.clone(),
        random: context.random.clone(),
    };
    let base_url = Url::parse(&format!("http://{}", running.address))
        .map_err(|error| Failure::Failed(format!("the gateway's address is none: {error}")))?;
    Ok(Merchant { shop, client: Client::new()?, signer, base_url })
}

/// Adds a webhook endpoint as a merchant's developer does.
async fn add_endpoint(merchant: &Merchant, receiver: &Receiver, requests: &mut Requests) -> Result<(), Failure> {
    let body = json!({ "url": receiver.url_for(merchant.shop.tier), "events": ["payment.*", "pre_auth.*"] });
    let answer = merchant.call(Method::POST, "/api/v1/webhooks/endpoints", Some(&body), requests).await?;
    let made: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let secret = made.pointer("/data/secret").and_then(Value::as_str);
    let secret = secret.ok_or_else(|| Failure::Failed(format!("no webhook endpoint was made: {made}")))?;
    receiver.expect_secret(merchant.shop.tier, String::from(secret));
    Ok(())
}

/// Sends everything, all merchants at once, and shows how far it is on a terminal.
async fn send(
    arguments: &Arguments,
    context: &Context,
    merchants: &[Merchant],
) -> Result<Vec<(String, Sent)>, Failure> {
    let seconds = arguments.seconds.unwrap_or_else(|| default_seconds(arguments.payments));
    let progress = progress_bar(u64::from(arguments.payments));
    let mut tasks = JoinSet::new();
    for (merchant, count) in merchants.iter().zip(split(arguments.payments, seconds)) {
        let payments = plan(&merchant.shop, count, seconds, &context.random);
        let deposits = plan_deposits(&merchant.shop, count, seconds, &context.random);
        let (holder, progress) = (merchant.clone(), progress.clone());
        tasks.spawn(async move {
            let tier = String::from(holder.shop.tier);
            holder.make_deposits(deposits).await.map(|sent| (tier, sent))
        });
        let merchant = merchant.clone();
        tasks.spawn(async move {
            let tier = String::from(merchant.shop.tier);
            merchant.send_all(payments, progress).await.map(|sent| (tier, sent))
        });
    }
    let mut sent = Vec::with_capacity(merchants.len());
    while let Some(finished) = tasks.join_next().await {
        sent.push(finished.map_err(|error| Failure::Failed(format!("a merchant broke off: {error}")))??);
    }
    progress.finish_and_clear();
    Ok(sent)
}

/// Hidden where standard error is not a terminal.
fn progress_bar(payments: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} payments, {per_sec}, {eta} left");
    let bar = ProgressBar::new(payments);
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

async fn wait_for_webhooks(receiver: &Receiver, events: u64) {
    let all = async {
        while receiver.delivered() < events {
            tokio::time::sleep(WEBHOOKS_LOOK).await;
        }
    };
    // What is not there by then is reported as pending.
    let _ = tokio::time::timeout(WEBHOOKS_WAIT_MAX, all).await;
}

/// What one can try while the demo serves on.
fn hint(running: &RunningGateway, merchants: &[Merchant]) -> Result<String, Failure> {
    let tokens = running.gateway.admin_tokens();
    let (Some(merchant), Some(token)) = (merchants.last(), tokens.first()) else {
        return Err(Failure::Failed(String::from("the demo has no merchant to try")));
    };
    let Signer { key_id, secret, .. } = &merchant.signer;
    Ok(format!(
        "The gateway goes on at http://{address} until Ctrl-C; everything is deleted then. Look at it in a browser:\n\n  \
         http://{admin_address}/console   (admin token: {token})\n\n\
         Or try, in another terminal:\n\n  \
         export TOLLGATE_KEY={key_id} TOLLGATE_SECRET={secret}\n  \
         tollgate request POST /api/v1/payments --url http://{address} \\\n    \
         --data '{{\"order_no\":\"MINE-1\",\"amount\":5000,\"currency\":\"USD\",\"country\":\"CN\",\"payment_token\":\"tok_visa\"}}'\n  \
         tollgate request GET /api/v1/limits --url http://{address}\n\n  \
         export TOLLGATE_ADMIN_TOKEN={token}\n  \
         tollgate merchant list --admin-url http://{admin_address}\n  \
         tollgate channel faults stripe --down true --admin-url http://{admin_address}\n",
        address = running.address,
        admin_address = running.admin_address,
        token = token.secret,
    ))
}
