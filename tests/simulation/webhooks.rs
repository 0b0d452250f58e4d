//! What must be so of webhooks in the store at any moment: the indexes say what the rows say, and every notification has come
//! to an end or waits in its place.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tollgate::domain::event::{Event, EventName};
use tollgate::domain::webhook::{
    Endpoint, EndpointHealth, EndpointStatus, Failure, Lane, Notification, NotificationStatus, WebhookJob,
};
use tollgate::storage::{Row, Scan, Store, StoreError, keys, record};

use crate::store::SimStore;
use crate::world::World;

/// Looks at all of it. What can't be read because of the disk says nothing.
pub fn check_webhooks(world: &World, store: &SimStore) {
    // Nothing is committed between two scans: whoever commits has its turn when this has ended.
    let scan = |prefix: Vec<u8>| store.scan(&Scan::prefix(&prefix, usize::from(u16::MAX)));
    let read = || -> Result<[Vec<Row>; 3], StoreError> {
        Ok([scan(keys::notifications())?, scan(keys::notifications_due())?, scan(keys::dead_letters())?])
    };
    let Ok([rows, waiting, dead]) = read() else {
        if world.has_power() && !world.is_dead() && !world.has_disk_faults() && store.health().poisoned.is_none() {
            world.violate("the webhooks can't be read".to_owned());
        }
        return;
    };
    let (mut waiting_expected, mut dead_expected) = (BTreeSet::new(), BTreeSet::new());
    for row in rows {
        let notification: Notification = match record::decode(&row.versioned.value) {
            Ok(notification) => notification,
            Err(error) => return world.violate(format!("a notification can't be read: {error}")),
        };
        let Notification { id, endpoint_id, status, due_at, failed_at, failure, .. } = &notification;
        match (status.is_open(), due_at) {
            (true, Some(due_at)) => {
                waiting_expected.insert(keys::notification_due(endpoint_id, Lane::of(&notification), *due_at, id));
            }
            (true, None) => return world.violate(format!("webhook {id} waits for nothing")),
            (false, Some(_)) => return world.violate(format!("webhook {id} has ended and is due")),
            (false, None) => {}
        }
        if *status != NotificationStatus::Failed {
            continue;
        }
        let (Some(failed_at), Some(failure)) = (failed_at, failure) else {
            return world.violate(format!("webhook {id} has failed, and nobody knows when and why"));
        };
        if failure.is_dead_letter() {
            dead_expected.insert(keys::dead_letter(endpoint_id, *failed_at, id));
        }
        if *failure == Failure::Exhausted {
            world.count("webhooks given up");
        }
    }
    same(world, "webhooks that wait", &waiting_expected, &waiting);
    same(world, "webhooks that are dead letters", &dead_expected, &dead);
    if let Err(error) = check_jobs(world, store).and_then(|()| check_endpoints(world, store)) {
        world.trace(&format!("jobs and endpoints can't be read: {error}"));
    }
}

/// Each job that is not at its end is in the index of those, and nothing else is.
fn check_jobs(world: &World, store: &SimStore) -> Result<(), StoreError> {
    let rows = store.scan(&Scan::prefix(&keys::webhook_jobs(), usize::from(u16::MAX)))?;
    let mut open = BTreeSet::new();
    for row in rows {
        let job: WebhookJob = record::decode(&row.versioned.value)?;
        if job.is_open() {
            world.count("jobs in the middle");
            open.insert(keys::webhook_job_open(&job.id));
        } else if job.finished_at.is_none() {
            world.violate(format!("a job has ended, and nobody knows when: {job:?}"));
        }
    }
    same(
        world,
        "webhooks that jobs work on",
        &open,
        &store.scan(&Scan::prefix(&keys::webhook_jobs_open(), usize::from(u16::MAX)))?,
    );
    Ok(())
}

/// That an endpoint was disabled by itself was told in the same commit. What must be kept of breakers is told to the receivers.
fn check_endpoints(world: &World, store: &SimStore) -> Result<(), StoreError> {
    let shops = world.model.lock().shops.clone();
    let mut left_alone = BTreeMap::new();
    for shop in shops {
        let events = store.scan(&Scan::prefix(&keys::events_of(&shop.merchant_id), usize::from(u16::MAX)))?;
        let mut told = BTreeSet::new();
        for row in events {
            let event: Event = record::decode(&row.versioned.value)?;
            if event.name == EventName::WebhookEndpointDisabled {
                let body: Value = serde_json::from_str(event.body.get()).unwrap();
                told.insert(body["extra"]["endpoint_id"].as_str().unwrap_or_default().to_owned());
            }
        }
        for row in store.scan(&Scan::prefix(&keys::endpoints_of(&shop.merchant_id), usize::from(u16::MAX)))? {
            let endpoint: Endpoint = record::decode(&row.versioned.value)?;
            if endpoint.status == EndpointStatus::Disabled && !told.contains(endpoint.id.as_str()) {
                world.violate(format!("nobody was told that {} was disabled: {told:?}", endpoint.id));
            }
            let health = store.get(&keys::endpoint_health(&shop.merchant_id, &endpoint.id))?;
            let Some(health) = health.map(|row| record::decode::<EndpointHealth>(&row.value)).transpose()? else {
                continue;
            };
            // Others may be changed, which resets it.
            if let Some(until) = health.open_until.filter(|_| endpoint.url == shop.stable_url) {
                left_alone.insert(endpoint.url, until);
            }
        }
    }
    world.received.leave_alone(world, left_alone);
    Ok(())
}

pub fn same(world: &World, what: &str, expected: &BTreeSet<Vec<u8>>, found: &[Row]) {
    let found: BTreeSet<Vec<u8>> = found.iter().map(|row| row.key.clone()).collect();
    if let Some(key) = expected.symmetric_difference(&found).next() {
        let side = if found.contains(key) { "only the index has" } else { "the index lacks" };
        world.violate(format!("{what}: {side} {}", String::from_utf8_lossy(key).escape_debug()));
    }
}
