//! What providers send of their own accord: before the answer to what was asked, late, five times, in reverse order, never;
//! and what others send in their names.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tollgate::channels::{Inbound, Notification, NotificationRefusal, Subject};
use tollgate::domain::ids::ChannelName;
use tollgate::domain::inbox::InboxRow;
use tollgate::gateway::Gateway;
use tollgate::gateway::error::GatewayError;
use tollgate::storage::{Row, Scan, Store, StoreError, keys, record};

use crate::model::may_fail;
use crate::store::SimStore;
use crate::world::{Dice, World};

const SIGNATURE: &str = "sim-signature";
const RIGHT: &str = "right";

/// Something that has happened at a provider.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Notice {
    id: String,
    reference: String,
    merchant_id: String,
    provider_key: String,
}

impl Notice {
    /// What has become of what was asked for under `key`; `order` begins with the merchant.
    fn of(key: &str, reference: &str, order: &str, what: &str) -> Self {
        Self {
            id: format!("evt_{key}_{}", what.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-")),
            reference: reference.to_owned(),
            merchant_id: order.split('/').next().unwrap_or_default().to_owned(),
            provider_key: key.to_owned(),
        }
    }
}

/// Who proves its notifications by a word.
pub fn verify(inbound: &Inbound) -> Result<Notification, NotificationRefusal> {
    if inbound.header(SIGNATURE) != Some(RIGHT) {
        return Err(NotificationRefusal::Signature("it is another one"));
    }
    let Ok(Notice { id, reference, merchant_id, provider_key }) = serde_json::from_slice(&inbound.body) else {
        return Err(NotificationRefusal::Malformed("it is no notice"));
    };
    let subject = Subject {
        reference: Some(reference),
        merchant_id: Some(merchant_id),
        provider_key: Some(provider_key),
        provider_no: None,
    };
    Ok(Notification { id, event: "changed".to_owned(), subjects: vec![subject], dispute: None })
}

/// How something stands at its provider just now, and which channel's it is.
fn draw(world: &World, dice: &Dice) -> Option<(&'static str, Notice)> {
    let now_us = world.now_us();
    let there: Vec<(&'static str, Notice)> = if dice.chance(50) {
        let holds = world.ledger.holds.by_key.lock();
        let seen = holds.iter().filter_map(|(key, hold)| Some((key, hold, hold.seen(now_us)?)));
        seen.map(|(key, hold, seen)| {
            (hold.channel, Notice::of(key, &hold.reference, &hold.order, &format!("{:?}", seen.phase)))
        })
        .collect()
    } else {
        let charges = world.ledger.charges.lock();
        let seen = charges.iter().filter_map(|(key, charge)| Some((key, charge, charge.state(now_us)?)));
        seen.map(|(key, charge, state)| {
            (charge.channel, Notice::of(key, &charge.reference, &charge.order, &format!("{state:?}")))
        })
        .collect()
    };
    dice.pick(&there).cloned()
}

/// Sends notices until the process ends.
pub async fn tell(world: Arc<World>, gateway: Gateway, dice: Dice) {
    let mut kept_back = Vec::new();
    loop {
        tokio::time::sleep(Duration::from_millis(dice.between(20, 2_000))).await;
        if world.is_dead() {
            return;
        }
        let Some((channel, notice)) = draw(&world, &dice) else { continue };
        match dice.below(100) {
            // It is lost.
            0..=9 => {}
            10..=24 => {
                for _ in 0..5 {
                    send(&world, &gateway, channel, &notice, RIGHT).await;
                }
            }
            25..=34 => send(&world, &gateway, channel, &notice, "guessed").await,
            35..=49 => kept_back.push((channel, notice)),
            50..=59 => {
                let (world, gateway) = (Arc::clone(&world), gateway.clone());
                let late = Duration::from_secs(dice.between(1, 60));
                tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    send(&world, &gateway, channel, &notice, RIGHT).await;
                });
            }
            _ => send(&world, &gateway, channel, &notice, RIGHT).await,
        }
        if kept_back.len() > 2 {
            for (channel, notice) in kept_back.drain(..).rev() {
                send(&world, &gateway, channel, &notice, RIGHT).await;
            }
        }
    }
}

async fn send(world: &World, gateway: &Gateway, channel: &'static str, notice: &Notice, signature: &str) {
    let troubles = world.troubles();
    let headers = vec![(SIGNATURE.to_owned(), signature.to_owned())];
    let body = Bytes::from(serde_json::to_vec(notice).unwrap());
    let answer = gateway.callbacks().receive(channel, headers, None, body).await;
    if world.is_dead() {
        return;
    }
    world.trace(&format!("{channel} tells {} of {}: {}", notice.id, notice.reference, answer.is_ok()));
    match answer {
        Ok(_) if signature != RIGHT => world.violate(format!("a forged notice was taken: {notice:?}")),
        Ok(_) => {
            world.count("notices");
            world.model.lock().notices.insert((channel, notice.id.clone()));
        }
        Err(GatewayError::Unauthenticated) if signature != RIGHT => world.count("notices forged"),
        Err(GatewayError::Overloaded { .. } | GatewayError::StorageLow | GatewayError::ShuttingDown) => {}
        Err(GatewayError::Internal(_)) if may_fail(world, gateway) || world.had_trouble_since(troubles) => {}
        Err(error) => world.violate(format!("{notice:?} was answered {error}")),
    }
}

/// What was taken is kept. Answers how many notices are still to be gone into. What can't be read because of the disk says
/// nothing.
pub fn check_notices(world: &World, store: &SimStore) -> usize {
    match look(world, store) {
        Ok(open) => open,
        Err(error) => {
            let may_fail = world.has_disk_faults() || store.health().poisoned.is_some();
            if world.has_power() && !world.is_dead() && !may_fail {
                world.violate(format!("the notices can't be read: {error}"));
            }
            0
        }
    }
}

fn look(world: &World, store: &SimStore) -> Result<usize, StoreError> {
    let open: Vec<Row> = store.scan(&Scan::prefix(&keys::inboxes_open(), usize::from(u16::MAX)))?;
    let notices = world.model.lock().notices.clone();
    let mut waiting = 0;
    for (channel, id) in notices {
        match store.get(&keys::inbox(&ChannelName::new(channel), &id))? {
            Some(row) => waiting += usize::from(record::decode::<InboxRow>(&row.value)?.handled_at.is_none()),
            None => world.violate(format!("notice {id} was taken and is lost")),
        }
    }
    if waiting > open.len() {
        world.violate(format!("{waiting} notices are open, and {} stand where they are looked for", open.len()));
    }
    Ok(open.len())
}
