//! Merchants' receivers: they take webhooks, fail, hang, are silent for minutes, answer late, take one and lose the answer, or
//! say that they are gone for good.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tollgate::delivery::{Answer, Deliver, DeliveryError, DeliveryFuture, DeliveryRequest, DeliveryResult};
use tollgate::domain::time::Timestamp;

use crate::world::{Dice, World};

const TIMEOUT: Duration = Duration::from_secs(30);
/// However long a breaker is open, no start cuts that to less.
const BREAKER_OPEN_LEAST: Duration = Duration::from_secs(300);
/// In place of a drawn fault: the receiver answers nobody.
const SILENT: u64 = 100;

/// What one notification came to at its receiver.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    pub url: String,
    pub body: String,
    /// How often it was answered 200 and the sender could know.
    pub accepted: u64,
    /// How many of these may come again, because a crash came before they were on disk.
    pub excused: u64,
}

/// By `webhook-id`.
pub struct Received {
    pub taken: Mutex<BTreeMap<String, Taken>>,
    /// In flight in this life.
    pub in_flight: Mutex<BTreeSet<String>>,
    /// Receivers that answer nobody until then, in microseconds.
    silent: Mutex<BTreeMap<String, u64>>,
    /// Those whose breaker was open when this life began: until when, if it can be told.
    left_alone: Mutex<BTreeMap<String, Timestamp>>,
    /// Receivers that have said that they are gone for good: their endpoints are disabled by themselves, sooner or later.
    pub gone: Mutex<BTreeSet<String>>,
    dice: Dice,
}

impl Received {
    pub fn new(dice: Dice) -> Self {
        Self {
            taken: Mutex::default(),
            in_flight: Mutex::default(),
            silent: Mutex::default(),
            left_alone: Mutex::default(),
            gone: Mutex::default(),
            dice,
        }
    }
}

impl Received {
    /// Nothing may come to these before then, for this was so when the life began.
    pub fn leave_alone(&self, world: &World, mut until: BTreeMap<String, Timestamp>) {
        // What seems to be later was written while the clock was ahead, and is cut.
        let latest = world.due_now().plus(BREAKER_OPEN_LEAST);
        until.values_mut().for_each(|until| *until = (*until).min(latest));
        until.retain(|_, until| *until > world.due_now());
        for _ in &until {
            world.count("breakers open at a start");
        }
        *self.left_alone.lock() = until;
    }
}

pub struct SimReceiver {
    pub world: Arc<World>,
}

impl SimReceiver {
    async fn receive(&self, request: DeliveryRequest) -> DeliveryResult {
        let world = &self.world;
        world.step().await;
        let id = request.headers.iter().find(|(name, _)| *name == "webhook-id").map(|(_, value)| value.clone());
        let Some(id) = id else {
            world.violate("a webhook came without an id".to_owned());
            return Err(DeliveryError::Broken);
        };
        let left_alone_until = world.received.left_alone.lock().get(&request.url).copied();
        if left_alone_until.is_some_and(|until| world.due_now() < until) {
            world.violate(format!("{} is asked although its breaker was open at the start", request.url));
        }
        let dice = &world.received.dice;
        let (fault, quick_ms) = (dice.below(100), dice.between(1, 80));
        let fault = if world.has_faults() { fault } else { 99 };
        let fault = if self.is_silent(&request.url, fault) { SILENT } else { fault };
        if fault < 6 {
            world.trace(&format!("webhook {id} refused"));
            world.count("receivers down");
            return Err(DeliveryError::NotConnected("refused".to_owned()));
        }
        if !world.received.in_flight.lock().insert(id.clone()) {
            world.violate(format!("webhook {id} was sent twice at once"));
        }
        let result = self.answer(&id, &request, fault, quick_ms).await;
        world.received.in_flight.lock().remove(&id);
        result
    }

    /// Whether a receiver answers nobody at the moment. Now and then one begins to.
    fn is_silent(&self, url: &str, fault: u64) -> bool {
        let world = &self.world;
        let now_us = world.now_us();
        let mut silent = world.received.silent.lock();
        if fault == 30 && silent.get(url).is_none_or(|until_us| *until_us < now_us) {
            world.count("receivers silent for minutes");
            world.trace(&format!("{url} answers nobody"));
            silent.insert(url.to_owned(), now_us + 1_000_000 * world.received.dice.between(30, 240));
        }
        world.has_faults() && silent.get(url).is_some_and(|until_us| *until_us > now_us)
    }

    /// The receiver says that it is gone for good; that of the endpoint that is never changed does not.
    fn is_gone(&self, url: &str, fault: u64) -> bool {
        let is_gone =
            (31..=32).contains(&fault) && !self.world.model.lock().shops.iter().any(|shop| shop.stable_url == url);
        if is_gone {
            self.world.count("receivers gone");
            self.world.received.gone.lock().insert(url.to_owned());
        }
        is_gone
    }

    async fn answer(&self, id: &str, request: &DeliveryRequest, fault: u64, quick_ms: u64) -> DeliveryResult {
        let world = &self.world;
        let status = match fault {
            _ if self.is_gone(&request.url, fault) => 410,
            6..=13 => 500,
            14..=15 => 503,
            16..=17 => 429,
            _ => 200,
        };
        match fault {
            6..=17 => world.count("webhooks refused"),
            18..=20 | SILENT => world.count("webhooks without an answer"),
            25..=27 => world.count("webhooks whose answer is lost"),
            _ => {}
        }
        match fault {
            18..=20 | SILENT => {
                world.trace(&format!("webhook {id} hangs"));
                tokio::time::sleep(TIMEOUT).await;
                return Err(DeliveryError::TimedOut(TIMEOUT));
            }
            21..=24 => tokio::time::sleep(Duration::from_secs(5)).await,
            _ => tokio::time::sleep(Duration::from_millis(quick_ms)).await,
        }
        world.step().await;
        self.take(id, request, status == 200 && !(25..=27).contains(&fault));
        world.trace(&format!("webhook {id} {} answered {status}", request.url));
        if (25..=27).contains(&fault) {
            // It was taken, and the answer is lost.
            return Err(DeliveryError::Broken);
        }
        let retry_after = (status == 429).then(|| "3".to_owned());
        Ok(Answer { status, retry_after, response: format!("answer {status}") })
    }

    fn take(&self, id: &str, request: &DeliveryRequest, is_accepted: bool) {
        let mut taken = self.world.received.taken.lock();
        let entry = taken.entry(id.to_owned()).or_insert_with(|| Taken {
            url: request.url.clone(),
            body: request.body.to_string(),
            ..Taken::default()
        });
        if entry.body != *request.body {
            let was = entry.body.clone();
            drop(taken);
            self.world.violate(format!("webhook {id} changed its body from {was} to {}", request.body));
            return;
        }
        if !is_accepted {
            return;
        }
        // Before the process ends, a store that has failed can note nothing.
        if entry.accepted > entry.excused && !self.world.has_failed_store() {
            drop(taken);
            self.world.violate(format!("webhook {id} was sent again after it had been taken"));
            return;
        }
        entry.accepted += 1;
    }
}

impl Deliver for SimReceiver {
    fn deliver(&self, request: DeliveryRequest) -> DeliveryFuture<'_> {
        Box::pin(self.receive(request))
    }
}
