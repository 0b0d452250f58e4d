//! Tollgate: a payment gateway that runs as one process with nothing beside it.
//!
//! A merchant's system sends it payments and deposits; Tollgate checks who asks and whether the merchant's tier allows it, picks
//! the channel (Stripe, PayPal, Alipay, BTCPay, or one of your own) that serves the payment best, keeps the record durably on
//! the local disk, and tells the merchant with signed webhooks what happened. It is a program, `tollgate serve`, and it is this
//! crate: the same gateway as a value in a program of yours.
//!
//! # A payment in ten lines
//!
//! Out of the box all channels run against built-in emulators of their providers, so this moves no money:
//!
//! ```
//! use tollgate::domain::audit::Operator;
//! use tollgate::gateway::command::{CreateMerchant, CreatePayment};
//! use tollgate::gateway::idempotency::Origin;
//! use tollgate::gateway::view::PaymentView;
//! use tollgate::{Config, Environment, Gateway};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let mut config = Config::embedded()?;
//! config.storage.dir = directory.path().join("data");
//! # config.storage.ballast_bytes = 0;
//! let gateway = Gateway::open(config, Environment::of_process()).await?;
//!
//! let shop = CreateMerchant { name: "Shop".into(), tier: "starter".into(), country: None, limits: None, channels: None };
//! let shop = gateway.merchants().create(shop, &Operator::process("example")).await?.merchant;
//! let caller = gateway.caller(&shop.merchant_id)?;
//!
//! let order = CreatePayment { order_no: "O-1".into(), amount: 4_500, currency: "EUR".into(), ..CreatePayment::default() };
//! let answered = gateway.payments().create(&caller, Origin::in_process(), order).await?;
//! let payment: PaymentView = answered.read()?;
//! assert_eq!(payment.status, "success");
//! println!("{} on {}", payment.payment_no, payment.channel.unwrap_or_default());
//!
//! gateway.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! What is returned is on disk: a crash loses none of it, and the next [`Gateway::open`] takes over what was under way.
//!
//! # What for, and where
//!
//! | you want | take |
//! |---|---|
//! | the whole gateway in your process, without HTTP | [`Gateway`]: [`payments`](Gateway::payments), [`refunds`](Gateway::refunds), [`pre_auths`](Gateway::pre_auths), [`merchants`](Gateway::merchants), [`routing`](Gateway::routing), [`webhooks`](Gateway::webhooks); `examples/embed.rs` |
//! | its HTTP APIs for merchants and the operator | [`Api::start`] over the same [`Gateway`] |
//! | a payment channel of your own | [`channels::Channel`], [`Gateway::open_with_channels`]; `examples/custom_channel.rs` |
//! | a routing strategy of your own | [`domain::routing::RoutingStrategy`], [`Gateway::open_with_strategies`]; `examples/custom_strategy.rs` |
//! | only the tier limits, around any tower service | [`ratelimit`]; `examples/rate_limit_layer.rs` |
//! | to receive Tollgate's webhooks | [`webhook`]; `examples/verify_webhook.rs` |
//! | to sign requests to a Tollgate | [`domain::signature::SignedParts`] |
//! | settings | [`Config`], with every key documented in [`config::EMBEDDED`] |
//!
//! A gateway is a value: two can run in one process, each with a data directory of its own. It needs a multi-threaded tokio
//! runtime. It reads clocks and random numbers through [`Environment`] alone, so that tests can bring their own.
//! `docs/embedding.md` says what to mind.
//!
//! # Modules in reading order
//!
//! [`domain`] decides and does nothing else: ids, money, limits, routing, the state machines. [`config`] is what can be
//! configured, [`clock`] and [`random`] where time and chance come from. [`channels`] talk to providers. [`gateway`] puts
//! everything together and is the in-process API; [`api`] serves it over HTTP. [`ratelimit`] and [`webhook`] stand by
//! themselves. The rooms between them (storage, actors, delivery, the emulators, the command line) are not for use from outside:
//! they change without notice and are left out of this documentation; ARCHITECTURE.md describes them.

#[doc(hidden)]
pub mod actors;
pub mod api;
pub mod channels;
#[doc(hidden)]
pub mod cli;
pub mod clock;
pub mod config;
#[doc(hidden)]
pub mod delivery;
pub mod domain;
pub mod gateway;
pub mod random;
pub mod ratelimit;
#[doc(hidden)]
pub mod sandbox;
#[doc(hidden)]
pub mod storage;
#[doc(hidden)]
pub mod telemetry;
pub mod webhook;

pub use api::Api;
pub use config::Config;
pub use gateway::{Environment, Gateway};
