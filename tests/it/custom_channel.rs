//! Channels of an embedding program: the example of one does what its head says, what does not fit its configuration is
//! refused, and one that hangs, panics or is of the other mode is said to do so.

use std::collections::BTreeMap;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tollgate::channels::{Call, Capabilities, Channel, CheckFailure, CheckReport};
use tollgate::clock::Clock;
use tollgate::config::{ChannelKind, Config, LoadOptions};
use tollgate::domain::audit::Operator;
use tollgate::domain::ids::ChannelName;
use tollgate::gateway::{Environment, Gateway, OpenError};
use tollgate::random::Random;

use crate::support::{House, quick_config};

#[allow(dead_code, reason = "its main is the example's")]
#[path = "../../examples/custom_channel.rs"]
mod example;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_pays_with_gift_cards_and_holds_nothing_on_them() {
    let lines = example::run().await.unwrap();
    let expected = [
        "35.00: success on gift_cards, 15.00 USD left",
        "35.00 more: failed (insufficient_funds)",
        "10.00 given back: success, 25.00 USD left",
        "a deposit on it: PRE_AUTH_NOT_SUPPORTED (The payment channel does not support pre-authorization)",
        "a deposit on a card: requires_capture on stripe",
        "check: fine; 1 gift cards are known.",
    ];
    assert_eq!(lines, expected);
}

/// A channel that can be checked, in its own way.
#[derive(Clone, Copy)]
enum Own {
    MovesRealMoney,
    Hangs,
    Panics,
    CanNothing,
}

impl Channel for Own {
    fn capabilities(&self) -> Capabilities {
        Capabilities { check: !matches!(self, Self::CanNothing), ..Capabilities::default() }
    }

    fn check<'a>(&'a self) -> Call<'a, Result<CheckReport, CheckFailure>> {
        let own = *self;
        Box::pin(async move {
            match own {
                Self::MovesRealMoney => Ok(CheckReport { livemode: Some(true), ..CheckReport::default() }),
                Self::Hangs => pending().await,
                Self::Panics => panic!("as no channel should"),
                Self::CanNothing => Err(CheckFailure::NotSupported),
            }
        })
    }
}

/// The configuration with a channel of kind `custom` for each of these names.
fn config(directory: &Path, names: &[&str]) -> Config {
    let mut config = quick_config();
    config.storage.dir = directory.join("data");
    for name in names {
        let mut channel = config.channels["alipay"].clone();
        (channel.kind, channel.sandbox, channel.timeout_ms) = (ChannelKind::Custom, false, 100);
        config.channels.insert(String::from(*name), channel);
    }
    config
}

async fn open(config: Config, channels: &[(&str, Own)]) -> Result<Gateway, OpenError> {
    let environment = Environment { clock: Clock::system(), random: Random::from_os(), variable: Box::new(|_| None) };
    let channels: BTreeMap<ChannelName, Arc<dyn Channel>> =
        channels.iter().map(|(name, own)| (ChannelName::new(*name), Arc::new(*own) as Arc<dyn Channel>)).collect();
    Gateway::open_with_channels(config, environment, channels).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_brought_along_and_what_is_configured_have_to_be_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let refused = async |names: &[&str], brought: &[(&str, Own)]| {
        open(config(directory.path(), names), brought).await.err().map(|error| error.to_string()).unwrap()
    };
    let missing = refused(&["own"], &[]).await;
    assert!(missing.starts_with("channel own is of kind \"custom\""), "{missing}");
    let unknown = refused(&[], &[("own", Own::CanNothing)]).await;
    assert!(unknown.contains("add [channels.own] with kind = \"custom\""), "{unknown}");
    let in_place_of_ours = refused(&["own"], &[("own", Own::CanNothing), ("stripe", Own::CanNothing)]).await;
    assert!(in_place_of_ours.contains("[channels.stripe]"), "{in_place_of_ours}");

    let file = directory.path().join("own.toml");
    let fees = "percent = \"1\"\nfixed_minor = 0\nfixed_currency = \"USD\"\ninternational_percent = \"0\"\n\
        conversion_percent = \"0\"\nas_of = \"2026-01-01\"";
    std::fs::write(&file, format!("[channels.own]\nkind = \"custom\"\n[channels.own.fees]\n{fees}\n")).unwrap();
    let load = |custom: &[&str]| {
        let custom_channels = custom.iter().map(|name| String::from(*name)).collect();
        let options = LoadOptions { file: Some(file.clone()), custom_channels, ..LoadOptions::default() };
        Config::load(options).map_err(|error| error.to_string())
    };
    assert_eq!(load(&["own"]).unwrap().channels["own"].kind, ChannelKind::Custom);
    assert!(load(&[]).unwrap_err().contains("channels.own.kind"));
    assert!(load(&["own", "other"]).unwrap_err().contains("channels.other"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_changes_and_checks_them_like_any_other() {
    let directory = tempfile::tempdir().unwrap();
    let brought =
        [("real", Own::MovesRealMoney), ("hangs", Own::Hangs), ("panics", Own::Panics), ("bare", Own::CanNothing)];
    let config = config(directory.path(), &brought.map(|(name, _)| name));
    let house = House::serving(open(config.clone(), &brought).await.unwrap(), directory).await;
    let check =
        async |name: &str| house.admin("POST", &format!("/admin/v1/channels/{name}/check"), Some(json!({}))).await;
    let real = check("real").await.expect(200, "SUCCESS");
    assert_eq!((real.data("kind"), real.data("result")), ("custom", "wrong_mode"));
    assert_eq!(real.data("problem"), "The credentials move real money, and this gateway is in sandbox mode.");
    let hangs = check("hangs").await.expect(200, "SUCCESS");
    assert_eq!(hangs.data("result"), "unreachable");
    assert!(hangs.data("problem").contains("no answer within 1100 ms"), "{}", hangs.text);
    check("panics").await.expect(500, "INTERNAL");
    let bare = check("bare").await.expect(200, "SUCCESS");
    assert_eq!((bare.data("result"), &bare.body["data"]["advice"]), ("not_supported", &Value::Null));

    let path = "/admin/v1/channels/bare";
    house.admin("PATCH", path, Some(json!({ "weight": 7 }))).await.expect(200, "SUCCESS");
    assert_eq!(house.admin("GET", path, None).await.body["data"]["weight"], 7);
    let mut changed = config;
    changed.routing.explore_percent = 3;
    let reloaded = house.gateway.reload(&changed, &Operator::process("test")).await.unwrap();
    assert_eq!((reloaded.applied, reloaded.unfit.len()), (vec![String::from("routing.explore_percent")], 0));
    assert_eq!(house.admin("GET", path, None).await.body["data"]["weight"], 7);
    house.stop().await;
}
