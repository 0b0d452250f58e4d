//! What clients remember of what they were told, and what must therefore be so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use tollgate::domain::audit::Anchor;
use tollgate::domain::ids::{EndpointId, JobId, MerchantId};
use tollgate::gateway::Gateway;
use tollgate::gateway::answer::StoredAnswer;
use tollgate::gateway::auth::{Caller, Credentials};
use tollgate::gateway::command::{CancelPreAuth, CapturePreAuth, CreatePayment, CreatePreAuth, CreateRefund};
use tollgate::gateway::error::GatewayError;
use tollgate::gateway::page::{Page, PageRequest};
use tollgate::gateway::view::{PaymentView, RefundView};
use tollgate::gateway::webhooks::{EventView, JobView, NotificationFilter, NotificationView};

use crate::pre_auths;
use crate::provider::State;
use crate::world::World;

/// `[webhook] endpoint_in_flight_max` by default: requests of one endpoint without an answer, and answers whose commit is
/// under way.
const WEBHOOKS_IN_FLIGHT_MAX: usize = 16;

/// What a request asks for.
#[derive(Clone, Debug)]
pub enum Op {
    Pay(Box<CreatePayment>),
    Refund(String, CreateRefund),
    Cancel(String),
    Hold(Box<CreatePreAuth>),
    Capture(String, CapturePreAuth),
    Void(String, CancelPreAuth),
    HoldRefund(String, CreateRefund),
}

/// A request under its idempotency key.
#[derive(Clone, Debug)]
pub struct Sent {
    pub merchant: usize,
    pub key: String,
    pub op: Op,
    pub answer: Option<StoredAnswer>,
    /// The life in which a disk without room let nothing be said but that the outcome is not known yet. That answer is
    /// stored when there is room; if the process dies before, the next one answers anew, about the same object.
    pub unkept: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Shop {
    pub merchant_id: MerchantId,
    pub key_id: String,
    pub secret: String,
    /// Keys that were taken away.
    pub dead_keys: Vec<(String, String)>,
    /// Where its endpoint is that wants everything and is never changed.
    pub stable_url: String,
    /// What the operator was told last; `None` while that is not known.
    pub known: Option<Value>,
    pub orders: u64,
    /// Orders that money was to be held for.
    pub holds: u64,
}

/// An endpoint that is changed: what was told last, `None` while that is not known.
#[derive(Clone, Debug)]
pub struct Hook {
    pub merchant: usize,
    pub url: String,
    pub known: Option<Value>,
    pub deleted: bool,
}

/// An endpoint as it is told, but for what changes by itself once its receiver is gone.
fn told(mut endpoint: Value, is_gone: bool) -> Value {
    if let Some(fields) = endpoint.as_object_mut() {
        // How it does and how much waits for it are no settings: they change with every try.
        for name in ["health", "waiting", "dead_letters"] {
            fields.remove(name);
        }
    }
    if let Some(fields) = endpoint.as_object_mut().filter(|_| is_gone) {
        fields.retain(|name, _| !["status", "disabled_reason", "disabled_at", "updated_at"].contains(&name.as_str()));
    }
    endpoint
}

#[derive(Clone, Debug)]
pub struct Payment {
    pub merchant: usize,
    pub order_no: String,
    pub amount: i64,
    /// The first final status that was seen.
    pub ended: Option<String>,
}

/// A job that was acknowledged, as it was seen last.
#[derive(Clone, Debug)]
pub struct Job {
    pub merchant: usize,
    pub seen: JobView,
}

/// A refund that was acknowledged.
#[derive(Clone, Debug)]
pub struct Refund {
    pub merchant: usize,
    /// The payment or the pre-auth.
    pub of: String,
    pub amount: i64,
    /// The first final status that was seen.
    pub ended: Option<String>,
}

#[derive(Default)]
pub struct Model {
    pub shops: Vec<Shop>,
    pub hooks: BTreeMap<String, Hook>,
    pub sent: Vec<Sent>,
    pub payments: BTreeMap<String, Payment>,
    pub refunds: BTreeMap<String, Refund>,
    pub pre_auths: BTreeMap<String, pre_auths::Known>,
    /// What providers have told of their own accord and was taken: channels and ids.
    pub notices: BTreeSet<(&'static str, String)>,
    pub jobs: BTreeMap<String, Job>,
    pub answers: u64,
    /// The end of the audit's chain when it was last looked.
    pub anchor: Option<Anchor>,
    /// Acknowledged changes: how often what was done to which object.
    pub audited: BTreeMap<(String, String), usize>,
}

fn page(cursor: Option<String>) -> PageRequest {
    PageRequest { limit: Some(100), cursor }
}

/// All pages of a list. The list of events always has a cursor, so that an empty page ends it.
pub fn all<T>(mut read: impl FnMut(&PageRequest) -> Result<Page<T>, GatewayError>) -> Result<Vec<T>, GatewayError> {
    let (mut items, mut cursor) = (Vec::new(), None);
    loop {
        let got = read(&page(cursor))?;
        let is_last = got.items.is_empty() || got.next_cursor.is_none();
        items.extend(got.items);
        if is_last {
            return Ok(items);
        }
        cursor = got.next_cursor;
    }
}

pub fn caller_of(world: &World, gateway: &Gateway, merchant: usize) -> Option<Caller> {
    let shop = world.model.lock().shops[merchant].clone();
    let credentials = Credentials::Basic { key_id: &shop.key_id, secret: &shop.secret };
    match gateway.authenticate(credentials) {
        Ok(caller) => Some(caller),
        Err(GatewayError::Forbidden(_)) => None,
        Err(error) => {
            if !is_excused(world, gateway, &error) {
                world.violate(format!("a key of {} is refused: {error}", shop.merchant_id));
            }
            None
        }
    }
}

/// Whether requests may fail with an internal error.
pub fn may_fail(world: &World, gateway: &Gateway) -> bool {
    world.is_dead() || world.has_disk_faults() || gateway.store_health().poisoned.is_some() || !world.has_power()
}

/// Whether that it can't be read now is due to the disk. That something is not there never is.
pub fn is_excused(world: &World, gateway: &Gateway, error: &GatewayError) -> bool {
    let is_failure =
        matches!(error, GatewayError::Internal(_) | GatewayError::Overloaded { .. } | GatewayError::StorageLow);
    is_failure && may_fail(world, gateway)
}

pub fn is_final(status: &str) -> bool {
    matches!(status, "success" | "failed" | "canceled")
}

/// What a payment that somebody has seen means for the ledger and for what was seen before.
pub fn see(world: &World, view: &PaymentView) {
    let now_us = world.now_us();
    let no = &view.payment_no;
    {
        let mut model = world.model.lock();
        if let Some(known) = model.payments.get_mut(no) {
            if (known.amount, known.order_no.as_str()) != (view.amount, view.order_no.as_str()) {
                drop(model);
                return world.violate(format!("{no} has changed its terms"));
            }
            match &known.ended {
                Some(ended) if *ended != view.status => {
                    let what = format!("{no} was {ended} and is {}", view.status);
                    drop(model);
                    return world.violate(what);
                }
                _ if is_final(&view.status) => known.ended = Some(view.status.clone()),
                _ => {}
            }
        }
    }
    let charges = world.ledger.charges.lock();
    let states: Vec<Option<State>> =
        charges.values().filter(|charge| charge.reference == *no).map(|charge| charge.state(now_us)).collect();
    drop(charges);
    let charged = states.iter().filter(|state| **state == Some(State::Success)).count();
    match view.status.as_str() {
        "success" if charged != 1 => {
            world.violate(format!("{no} is success and was charged {charged} times: {states:?}"))
        }
        "failed" | "canceled" if states.iter().any(|state| !matches!(state, Some(State::Declined | State::Closed))) => {
            world.violate(format!("{no} is {}, but its provider has {states:?}", view.status));
        }
        _ => {}
    }
}

/// What a refund is of.
pub fn refund_of(view: &RefundView) -> &str {
    view.payment_no.as_ref().or(view.pre_auth_no.as_ref()).map_or("", String::as_str)
}

/// What a refund that somebody has seen means for what was seen before.
pub fn see_refund(world: &World, view: &RefundView) {
    let mut model = world.model.lock();
    let Some(known) = model.refunds.get_mut(&view.refund_no) else { return };
    let has_changed = (known.of.as_str(), known.amount) != (refund_of(view), view.amount);
    let was = known.ended.clone();
    if known.ended.is_none() && view.status != "pending" {
        known.ended = Some(view.status.clone());
    }
    drop(model);
    if has_changed {
        world.violate(format!("{} has changed its terms: {view:?}", view.refund_no));
    } else if was.as_ref().is_some_and(|was| *was != view.status) {
        world.violate(format!("{} was {was:?} and is {}", view.refund_no, view.status));
    }
}

/// A job only goes on, and what has ended stays as it is.
pub fn see_job(world: &World, merchant: usize, view: JobView) {
    let mut model = world.model.lock();
    let job = model.jobs.entry(view.id.clone()).or_insert_with(|| Job { merchant, seen: view.clone() });
    let was = std::mem::replace(&mut job.seen, view.clone());
    drop(model);
    let progress = |job: &JobView| [job.looked_at, job.changed, job.skipped];
    let goes_on = progress(&was).into_iter().zip(progress(&view)).all(|(was, is)| was <= is)
        && (&was.kind, &was.created_at) == (&view.kind, &view.created_at);
    if !goes_on || (was.status != "running" && was != view) {
        world.violate(format!("a job was {was:?} and is {view:?}"));
    }
}

/// What was told is found, after a recovery and at the end.
pub fn check_known(world: &World, gateway: &Gateway) {
    let (shops, hooks, payments, refunds) = {
        let model = world.model.lock();
        (model.shops.clone(), model.hooks.clone(), model.payments.clone(), model.refunds.clone())
    };
    pre_auths::check_known(world, gateway);
    for (merchant, shop) in shops.iter().enumerate() {
        match (gateway.merchants().get(shop.merchant_id.as_str()), &shop.known) {
            (Ok(view), Some(known)) if serde_json::to_value(&view).unwrap() != *known => {
                world.violate(format!("{} is {view:?} and was told to be {known}", shop.merchant_id));
            }
            (Ok(_), _) => {}
            (Err(error), _) => world.violate(format!("{} is lost: {error}", shop.merchant_id)),
        }
        for (key_id, secret) in &shop.dead_keys {
            if gateway.authenticate(Credentials::Basic { key_id, secret }).is_ok() {
                world.violate(format!("key {key_id} was taken away and works again"));
            }
        }
        let Some(caller) = caller_of(world, gateway, merchant) else { continue };
        for (no, _) in payments.iter().filter(|(_, payment)| payment.merchant == merchant) {
            match gateway.payments().get(&caller, no) {
                Ok(view) => see(world, &view),
                Err(error) => world.violate(format!("{no} was acknowledged and is lost: {error}")),
            }
        }
        for (no, _) in refunds.iter().filter(|(_, refund)| refund.merchant == merchant) {
            match gateway.refunds().get(&caller, no) {
                Ok(view) => see_refund(world, &view),
                Err(error) => world.violate(format!("{no} was acknowledged and is lost: {error}")),
            }
        }
        check_events(world, gateway, shop);
    }
    let jobs = world.model.lock().jobs.clone();
    for (id, job) in jobs {
        match gateway.webhooks().get_job(&shops[job.merchant].merchant_id, &JobId::new(id.as_str())) {
            Ok(view) => {
                if job.seen.status == "running" && view.looked_at > job.seen.looked_at {
                    world.count("jobs that went on");
                }
                see_job(world, job.merchant, view);
            }
            Err(error) => world.violate(format!("job {id} was acknowledged and is lost: {error}")),
        }
    }
    for (id, hook) in &hooks {
        let is_gone = world.received.gone.lock().contains(&hook.url);
        let merchant_id = &shops[hook.merchant].merchant_id;
        let found = gateway.webhooks().get_endpoint(merchant_id, &EndpointId::new(id.as_str()));
        match (found, &hook.known) {
            (Ok(_), _) if hook.deleted => world.violate(format!("endpoint {id} was deleted and is there")),
            (Ok(view), Some(known))
                if told(serde_json::to_value(&view).unwrap(), is_gone) != told(known.clone(), is_gone) =>
            {
                world.violate(format!("endpoint {id} is {view:?} and was told to be {known}"));
            }
            (Err(error), Some(_)) if !hook.deleted => world.violate(format!("endpoint {id} is lost: {error}")),
            _ => {}
        }
    }
}

fn field<'a>(body: &'a Value, name: &str) -> &'a str {
    body[name].as_str().unwrap_or_default()
}

/// The payment or the pre-auth that an event is about.
fn object_of(body: &Value) -> &str {
    body["payment_no"].as_str().unwrap_or_else(|| field(body, "pre_auth_no"))
}

/// The stream of events has no gaps, each object's are numbered from 1, and nothing about money is told twice.
fn check_events(world: &World, gateway: &Gateway, shop: &Shop) -> Vec<EventView> {
    let merchant_id = &shop.merchant_id;
    let events = match all(|page| gateway.webhooks().list_events(merchant_id, page)) {
        Ok(events) => events,
        Err(error) => {
            world.violate(format!("the events of {merchant_id} can't be read: {error}"));
            return Vec::new();
        }
    };
    let mut of_object: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut told = BTreeSet::new();
    let mut near_before = 0;
    for (index, event) in events.iter().enumerate() {
        if event.sequence != index as u64 + 1 {
            world.violate(format!("the stream of {merchant_id} has {} at place {}", event.sequence, index + 1));
        }
        let body: Value = serde_json::from_str(event.body.get()).unwrap();
        let no = object_of(&body).to_owned();
        if event.event == "limit.near" {
            // About no payment, and what is near is near again some time after it was not.
            let number = body["extra"]["sequence"].as_u64().unwrap_or(0);
            if number <= near_before {
                world.violate(format!("limit.near has number {number} behind {near_before}"));
            }
            near_before = number;
            continue;
        }
        if event.event.starts_with("webhook.") {
            // About an endpoint: one whose receiver is gone, or that has gone with it.
            let url = body["extra"]["url"].as_str().unwrap_or_default();
            if !world.received.gone.lock().contains(url) {
                world.violate(format!("{} of an endpoint that has done nothing: {body}", event.event));
            }
            world.count("endpoints disabled by themselves");
            continue;
        }
        let is_new = told.insert((event.event.clone(), no.clone(), field(&body, "refund_no").to_owned()));
        if !is_new && !pre_auths::is_told_again(event) {
            world.violate(format!("{} of {no} was told twice", event.event));
        }
        of_object.entry(no).or_default().push(body["extra"]["sequence"].as_u64().unwrap_or(0));
    }
    for (no, numbers) in of_object {
        if numbers.iter().enumerate().any(|(index, number)| *number != index as u64 + 1) {
            world.violate(format!("the events of {no} are numbered {numbers:?}"));
        }
    }
    events
}

fn notifications(gateway: &Gateway, shop: &Shop) -> Result<Vec<NotificationView>, GatewayError> {
    let filter = NotificationFilter::default();
    all(|page| gateway.webhooks().list_notifications(&shop.merchant_id, &filter, page))
}

/// What was taken and is not on disk as taken may come once more.
pub fn excuse_repetitions(world: &World, gateway: &Gateway) {
    let shops = world.model.lock().shops.clone();
    for shop in &shops {
        let rows = match notifications(gateway, shop) {
            Ok(rows) => rows,
            Err(error) => {
                world.violate(format!("the notifications of {} can't be read: {error}", shop.merchant_id));
                continue;
            }
        };
        let mut at_once: BTreeMap<String, usize> = BTreeMap::new();
        let mut taken = world.received.taken.lock();
        for row in rows.iter().filter(|row| is_open(row)) {
            if let Some(entry) = taken.get_mut(&row.id).filter(|entry| entry.excused < entry.accepted) {
                entry.excused = entry.accepted;
                *at_once.entry(entry.url.clone()).or_default() += 1;
            }
        }
        drop(taken);
        if let Some(most) = at_once.iter().find(|(_, count)| **count > WEBHOOKS_IN_FLIGHT_MAX) {
            world.violate(format!("more was taken and is not on disk as taken than was in flight: {most:?}"));
        }
    }
}

fn is_open(row: &NotificationView) -> bool {
    matches!(row.status.as_str(), "pending" | "retrying")
}

/// What is still under way; empty when all is quiet.
pub async fn unrest(world: &Arc<World>, gateway: &Gateway) -> Vec<String> {
    let shops = world.model.lock().shops.clone();
    let mut open = Vec::new();
    for (merchant, shop) in shops.iter().enumerate() {
        let Some(caller) = caller_of(world, gateway, merchant) else { continue };
        let payments = all(|page| gateway.payments().list(&caller, &Default::default(), page)).unwrap_or_default();
        for view in payments {
            see(world, &view);
            if !is_final(&view.status) {
                open.push(format!("{} {}", view.payment_no, view.status));
            }
            let refunds = gateway.refunds().list(&caller, &view.payment_no).map(|page| page.items).unwrap_or_default();
            open.extend(
                refunds.iter().filter(|refund| refund.status == "pending").map(|refund| refund.refund_no.clone()),
            );
        }
        pre_auths::unrest(world, gateway, &caller, &mut open);
        let live: Vec<String> = gateway
            .webhooks()
            .list_endpoints(&shop.merchant_id, &page(None))
            .map(|page| page.items)
            .unwrap_or_default()
            .into_iter()
            .filter(|endpoint| endpoint.status == "enabled")
            .map(|endpoint| endpoint.id)
            .collect();
        let jobs = all(|page| gateway.webhooks().list_jobs(&shop.merchant_id, page)).unwrap_or_default();
        let jobs = jobs.into_iter().filter(|job| job.status == "running");
        open.extend(jobs.map(|job| format!("job {} {}", job.id, job.kind)));
        let rows = notifications(gateway, shop).unwrap_or_default();
        let due = rows.iter().filter(|row| is_open(row) && live.contains(&row.endpoint_id));
        open.extend(due.map(|row| format!("{} {} {}", row.id, row.event, row.status)));
        let used = gateway.merchant_limits(shop.merchant_id.as_str()).await.map(|view| view.limits.concurrency.used);
        if !matches!(used, Ok(0)) {
            open.push(format!("permits of {}: {used:?}", shop.merchant_id));
        }
    }
    open.extend(
        gateway.channels().iter().filter(|channel| channel.in_flight > 0).map(|channel| format!("{channel:?}")),
    );
    open
}

/// Both books agree, in both directions, and everybody was told.
pub fn check_books(world: &World, gateway: &Gateway) {
    let shops = world.model.lock().shops.clone();
    let now_us = world.now_us();
    let charges = world.ledger.charges.lock().clone();
    let (mut ours, mut held) = (BTreeMap::new(), BTreeSet::new());
    for (merchant, shop) in shops.iter().enumerate() {
        let Some(caller) = caller_of(world, gateway, merchant) else {
            world.violate(format!("{} can't ask at the end", shop.merchant_id));
            continue;
        };
        let payments = all(|page| gateway.payments().list(&caller, &Default::default(), page)).unwrap_or_default();
        let events = check_events(world, gateway, shop);
        let mut expected = BTreeSet::new();
        for view in payments {
            let no = view.payment_no.clone();
            expected.insert((format!("payment.{}", view.status), no.clone(), String::new()));
            let refunds = gateway.refunds().list(&caller, &no).map(|page| page.items).unwrap_or_default();
            let mut refunded = 0;
            for refund in &refunds {
                expected.insert((format!("refund.{}", refund.status), no.clone(), refund.refund_no.clone()));
                if refund.status == "success" {
                    refunded += refund.amount;
                }
            }
            let at_provider =
                charges.values().find(|charge| charge.reference == no && charge.state(now_us) == Some(State::Success));
            let given_back = at_provider.map_or(0, |charge| charge.refunded(now_us));
            if refunded != view.refunded_amount || refunded > view.amount || refunded != given_back {
                world.violate(format!(
                    "{no}: refunds of {refunded}, {} in the payment, {given_back} at the provider, of {}",
                    view.refunded_amount, view.amount
                ));
            }
            for refund in at_provider.iter().flat_map(|charge| charge.refunds.values()) {
                let found = refunds.iter().find(|known| known.refund_no == refund.reference);
                if found.is_none_or(|known| known.amount != refund.amount) {
                    world.violate(format!("the provider has refund {} of {no}, and we don't", refund.reference));
                }
            }
            ours.insert(no, view);
        }
        held.append(&mut pre_auths::check_books(world, gateway, &caller, &mut expected));
        let told: BTreeSet<(String, String, String)> = events
            .iter()
            .filter(|event| {
                !["payment.requires_action", "pre_auth.expiring", "limit.near"].contains(&event.event.as_str())
            })
            .filter(|event| !event.event.starts_with("webhook."))
            .map(|event| {
                let body: Value = serde_json::from_str(event.body.get()).unwrap();
                (event.event.clone(), object_of(&body).to_owned(), field(&body, "refund_no").to_owned())
            })
            .collect();
        if let Some(missing) = expected.symmetric_difference(&told).next() {
            world.violate(format!("the events and what happened differ by {missing:?}"));
        }
        check_deliveries(world, shop, &events);
    }
    pre_auths::check_provider(world, &held);
    for charge in charges.values() {
        let Some(view) = ours.get(&charge.reference) else {
            // Nobody was told of it: it may not be, unless it never came to anything.
            world.violate(format!("the provider has {}, and we don't", charge.reference));
            continue;
        };
        let is_charged = charge.state(now_us) == Some(State::Success);
        if is_charged != (view.status == "success") && is_charged {
            world.violate(format!("{} was charged and is {}", charge.reference, view.status));
        }
        if is_charged && charge.amount != view.amount {
            world.violate(format!("{} was charged with another amount", charge.reference));
        }
    }
}

/// The stable endpoint has taken each event under one id, with its bytes.
fn check_deliveries(world: &World, shop: &Shop, events: &[EventView]) {
    let taken = world.received.taken.lock().clone();
    let mut bodies: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in taken.values().filter(|entry| entry.url == shop.stable_url && entry.accepted > 0) {
        *bodies.entry(entry.body.as_str()).or_default() += 1;
    }
    for event in events {
        match bodies.get(event.body.get()) {
            Some(1) => {}
            other => world.violate(format!(
                "event {} ({}) of {} has arrived under {other:?} ids",
                event.sequence, event.event, shop.merchant_id
            )),
        }
    }
    if bodies.len() != events.len() {
        world.violate(format!("{} has {} events, {} have arrived", shop.merchant_id, events.len(), bodies.len()));
    }
}
