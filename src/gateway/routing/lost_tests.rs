//! What was changed through the admin API and can't be read any more.

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::Config;
use crate::domain::audit::Operator;
use crate::gateway::error::GatewayError;
use crate::gateway::routing::settings::{RollBack, UpdateRouting};
use crate::gateway::{Environment, Gateway};
use crate::random::Random;
use crate::storage::{Batch, keys};

async fn open(config: &Config) -> Gateway {
    let environment =
        Environment { clock: Clock::system(), random: Random::seeded(1), variable: Box::new(|_: &str| None) };
    Gateway::open(config.clone(), environment).await.unwrap()
}

fn mode(mode: &str) -> UpdateRouting {
    UpdateRouting { mode: Some(json!(mode)), ..UpdateRouting::default() }
}

#[tokio::test]
async fn nothing_is_written_over_it_until_somebody_says_what_is_to_be_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::embedded().unwrap();
    config.storage.dir = directory.path().join("data");
    (config.storage.segment_bytes, config.storage.group_bytes_max) = (1 << 20, 1 << 18);
    config.storage.ballast_bytes = 0;
    let by = Operator::process("test");
    let gateway = open(&config).await;
    gateway.routing().update(mode("cost"), &by).await.unwrap();
    gateway.routing().update(mode("success"), &by).await.unwrap();
    let mut batch = Batch::new();
    batch.put(keys::routing_version(3), b"nothing that can be read".to_vec());
    gateway.0.core.store.commit(batch).await.unwrap();
    gateway.stop().await.unwrap();

    let gateway = open(&config).await;
    let seen = gateway.routing().settings().await.unwrap();
    assert_eq!((seen.version, seen.mode.as_str(), seen.unfit[0].what.as_str()), (0, "balanced", "all"));
    let refused = gateway.routing().update(mode("geographic"), &by).await;
    assert!(matches!(refused, Err(GatewayError::InvalidRequest(_))), "{refused:?}");
    // A file that has changed is in force all the same, and has no version.
    let mut wanted = config.clone();
    wanted.channels.get_mut("stripe").unwrap().weight = 7;
    let reloaded = gateway.reload(&wanted, &by).await.unwrap();
    assert_eq!((reloaded.applied.len(), reloaded.unfit[0].what.as_str()), (1, "all"));
    gateway.stop().await.unwrap();

    let gateway = open(&config).await;
    assert_eq!(gateway.routing().settings().await.unwrap().unfit.len(), 1, "still not known");
    let back = gateway.routing().roll_back(RollBack { version: 2 }, &by).await.unwrap();
    assert_eq!((back.version, back.mode.as_str(), back.unfit.len()), (4, "cost", 0));
    gateway.routing().update(mode("geographic"), &by).await.unwrap();
    let none = gateway.routing().roll_back(RollBack { version: 0 }, &by).await.unwrap();
    assert_eq!((none.version, none.mode.as_str(), none.overridden.len()), (6, "balanced", 0));
    gateway.stop().await.unwrap();
    let gateway = open(&config).await;
    let seen = gateway.routing().settings().await.unwrap();
    assert_eq!((seen.version, Value::from(seen.unfit.len())), (6, json!(0)));
    gateway.stop().await.unwrap();
}
