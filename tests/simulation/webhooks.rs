//! What must be so of webhooks in the store at any moment: the indexes say what the rows say, and every notification has come
//! to an end or waits in its place.

use std::collections::BTreeSet;

use tollgate::domain::webhook::{Failure, Lane, Notification, NotificationStatus};
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
    same(world, "wait", &waiting_expected, &waiting);
    same(world, "are dead letters", &dead_expected, &dead);
}

fn same(world: &World, what: &str, expected: &BTreeSet<Vec<u8>>, found: &[Row]) {
    let found: BTreeSet<Vec<u8>> = found.iter().map(|row| row.key.clone()).collect();
    if let Some(key) = expected.symmetric_difference(&found).next() {
        let side = if found.contains(key) { "only the index has" } else { "the index lacks" };
        world.violate(format!("webhooks that {what}: {side} {}", String::from_utf8_lossy(key).escape_debug()));
    }
}
