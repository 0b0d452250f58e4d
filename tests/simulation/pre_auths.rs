//! Pre-auths: what merchants ask for, what they remember of what they were told, and what must therefore be so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use tollgate::domain::ids::MerchantId;
use tollgate::domain::pre_auth::PreAuth;
use tollgate::domain::refund::RefundStatus;
use tollgate::gateway::Gateway;
use tollgate::gateway::auth::Caller;
use tollgate::gateway::command::{CancelPreAuth, CapturePreAuth, CreatePayment, CreatePreAuth, CreateRefund};
use tollgate::gateway::error::GatewayError;
use tollgate::gateway::view::PreAuthView;
use tollgate::gateway::webhooks::EventView;
use tollgate::storage::{Row, Scan, Store, StoreError, keys, record};

use crate::holds::Phase;
use crate::model::{Model, Op, Sent, all, caller_of, is_excused, may_fail};
use crate::store::SimStore;
use crate::webhooks::same;
use crate::world::{Dice, World};

/// A hold that ends by itself in less than this is waited for at the end.
const WAITED_FOR_US: u64 = 2 * 3_600_000_000;

/// A pre-auth that was acknowledged.
#[derive(Clone, Debug)]
pub struct Known {
    pub merchant: usize,
    /// As it was seen last.
    pub seen: PreAuthView,
    /// The first final status that was seen.
    pub ended: Option<String>,
}

pub fn is_final(status: &str) -> bool {
    status == "captured" || frees_order_no(status)
}

fn frees_order_no(status: &str) -> bool {
    matches!(status, "canceled" | "expired" | "failed")
}

/// Adds what is to be sent next about pre-auths to the model. Returns the places; several are sent at once.
pub fn draw_requests(model: &mut Model, dice: &Dice, merchant: usize) -> Vec<usize> {
    let known = |wanted: &[&str]| -> Vec<(String, i64)> {
        let mine = model.pre_auths.iter().filter(|(_, known)| known.merchant == merchant);
        let fit = mine.filter(|(_, known)| wanted.is_empty() || wanted.contains(&known.seen.status.as_str()));
        fit.map(|(no, known)| (no.clone(), known.seen.amount)).collect()
    };
    let any = dice.pick(&known(&[])).cloned();
    let held = dice.pick(&known(&["requires_capture"])).cloned().filter(|_| dice.chance(85)).or_else(|| any.clone());
    let open = known(&["requires_payment_method", "requires_action", "processing", "requires_capture"]);
    let open = dice.pick(&open).cloned().filter(|_| dice.chance(85)).or(any);
    let taken = dice.pick(&known(&["captured"])).cloned();
    let part = |amount: i64| 1 + i64::try_from(dice.below(amount.unsigned_abs())).unwrap_or(0);
    let capture = |(no, amount): (String, i64)| {
        let amount = match dice.below(5) {
            0..=1 => None,
            2 => Some(amount + 1),
            _ => Some(part(amount)),
        };
        Op::Capture(no, CapturePreAuth { amount })
    };
    let cancel = |no: String| Op::Void(no, CancelPreAuth { reason: None });
    let ops = match (dice.below(100), held, open, taken) {
        (0..=39, Some(held), _, _) => match dice.below(10) {
            0..=2 => vec![capture(held.clone()), capture(held)],
            3..=4 => vec![capture(held.clone()), cancel(held.0)],
            _ => vec![capture(held)],
        },
        (40..=47, _, Some((no, _)), _) if dice.chance(15) => vec![cancel(no.clone()), cancel(no)],
        (40..=47, _, Some((no, _)), _) => vec![cancel(no)],
        // More than there is, both together.
        (48..=64, _, _, Some((no, _))) if dice.chance(25) => {
            let all = Op::HoldRefund(no, CreateRefund { amount: None, reason: None });
            vec![all.clone(), all]
        }
        (48..=64, _, _, Some((no, amount))) => {
            let amount = match dice.below(4) {
                0 => None,
                1 => Some(amount + 1),
                _ => Some(part(amount)),
            };
            vec![Op::HoldRefund(no, CreateRefund { amount, reason: None })]
        }
        (draw, ..) => {
            let op = Op::Hold(Box::new(draw_hold(model, dice, merchant, draw % 5 == 0)));
            // The same order under another key, at the same time.
            if dice.chance(10) { vec![op.clone(), op] } else { vec![op] }
        }
    };
    let mut places = Vec::new();
    for op in ops {
        let number = model.sent.len();
        places.push(number);
        model.sent.push(Sent { merchant, key: format!("key-{number}"), op, answer: None, unkept: None });
    }
    if places.len() == 1 && dice.chance(8) {
        places.push(places[0]);
    }
    places
}

fn draw_hold(model: &mut Model, dice: &Dice, merchant: usize, is_again: bool) -> CreatePreAuth {
    let shop = &mut model.shops[merchant];
    // An order number may be in use already, or be free again.
    let order = if is_again && shop.holds > 0 { dice.between(1, shop.holds) } else { shop.holds + 1 };
    shop.holds = shop.holds.max(order);
    let order_no = format!("ROOM-{order}");
    let wanted = CreatePayment {
        description: Some(format!("{}/{order_no}", shop.merchant_id)),
        order_no,
        amount: i64::try_from(dice.between(50, 90_000)).unwrap_or(1),
        currency: "USD".to_owned(),
        channel: dice.chance(25).then(|| "alipay".to_owned()),
        payment_token: dice.chance(65).then(|| "tok_visa".to_owned()),
        ..CreatePayment::default()
    };
    CreatePreAuth { wanted, ..CreatePreAuth::default() }
}

/// Somebody looks where a pre-auth stands, and has its channel asked or not.
pub async fn look(world: Arc<World>, gateway: Gateway, dice: Dice, merchant: usize) {
    let known: Vec<(String, usize)> = {
        let model = world.model.lock();
        let open = model.pre_auths.iter().filter(|(_, known)| !is_final(&known.seen.status));
        open.map(|(no, known)| (no.clone(), known.merchant)).collect()
    };
    let Some((no, owner)) = dice.pick(&known).cloned() else { return };
    let Some(caller) = caller_of(&world, &gateway, merchant) else { return };
    let refresh = dice.chance(70);
    let found = gateway.pre_auths().get(&caller, &no, refresh).await;
    if world.is_dead() {
        return;
    }
    match found {
        Ok(view) if owner == merchant => {
            if refresh {
                world.count("pre-auths asked about");
            }
            see(&world, &view);
        }
        Ok(_) => world.violate(format!("{no} is shown to somebody else")),
        Err(GatewayError::NotFound(_)) if owner != merchant => {}
        Err(GatewayError::NotFound(what)) => {
            world.violate(format!("{no} was acknowledged, and there is no such {what}"))
        }
        Err(GatewayError::Internal(reason)) if !may_fail(&world, &gateway) => {
            world.violate(format!("{no} can't be read: {reason}"));
        }
        Err(error) => world.trace(&format!("{no} is not read: {error}")),
    }
}

/// What a pre-auth that somebody was told of means, be it as it is or as it once was.
pub fn see_end(world: &World, view: &PreAuthView) {
    let PreAuthView { pre_auth_no: no, status, .. } = view;
    let was = {
        let mut model = world.model.lock();
        let known = model.pre_auths.get_mut(no);
        known.map(|known| {
            let was = known.clone();
            if known.ended.is_none() && is_final(status) {
                known.ended = Some(status.clone());
            }
            was
        })
    };
    if let Some(Known { seen, ended, .. }) = was {
        let terms = |view: &PreAuthView| (view.order_no.clone(), view.amount, view.channel.clone());
        if terms(&seen) != terms(view) {
            world.violate(format!("{no} has changed its terms: {view:?}"));
        }
        if ended.as_ref().is_some_and(|ended| ended != status) {
            world.violate(format!("{no} was {ended:?} and is {status}"));
        }
    }
    let now_us = world.now_us();
    let phases: Vec<Option<Phase>> = {
        let holds = world.ledger.holds.by_key.lock();
        let own = holds.values().filter(|hold| hold.reference == *no);
        own.map(|hold| hold.seen(now_us).map(|seen| seen.phase)).collect()
    };
    let is_so = match status.as_str() {
        "captured" => phases == [Some(Phase::Captured(view.captured_amount))],
        "canceled" | "expired" | "failed" => phases.iter().all(|phase| phase.is_some_and(Phase::is_over)),
        _ => true,
    };
    if !is_so {
        world.violate(format!("{no} is {status} with {} taken, and its provider has {phases:?}", view.captured_amount));
    }
    let PreAuthView { amount, authorized_amount: held, captured_amount: taken, released_amount: let_go, .. } = *view;
    let is_sound = match status.as_str() {
        "captured" => (1..=held).contains(&taken) && taken + let_go == held && held == amount,
        "canceled" | "expired" | "failed" => taken == 0 && let_go == held && (held == 0 || held == amount),
        _ => taken == 0 && let_go == 0,
    };
    if !is_sound || view.refunded_amount > taken {
        world.violate(format!("the amounts of {no} disagree: {view:?}"));
    }
}

/// What a pre-auth that somebody has read means for what was seen before.
pub fn see(world: &World, view: &PreAuthView) {
    see_end(world, view);
    let no = &view.pre_auth_no;
    let was = {
        let mut model = world.model.lock();
        let Some(known) = model.pre_auths.get_mut(no) else { return };
        std::mem::replace(&mut known.seen, view.clone())
    };
    let amounts =
        |view: &PreAuthView| [view.authorized_amount, view.captured_amount, view.released_amount, view.refunded_amount];
    let fell = amounts(&was).into_iter().zip(amounts(view)).any(|(was, is)| is < was);
    if fell || view.operations.len() < was.operations.len() {
        world.violate(format!("{no} was {was:?} and is {view:?}"));
    }
    let open = view.operations.iter().filter(|operation| operation.status == "open").count();
    if open > 1 {
        world.violate(format!("{no} has {open} operations open: {view:?}"));
    }
    let holds = world.ledger.holds.by_key.lock();
    let hold = holds.values().find(|hold| hold.reference == *no).and_then(|hold| hold.seen(world.now_us()));
    let phase = hold.map(|seen| seen.phase);
    drop(holds);
    // What ran out is known when its provider was asked.
    let is_held = matches!(phase, Some(Phase::Held | Phase::Lapsed));
    if view.status == "requires_capture" && open == 0 && !is_held {
        world.violate(format!("{no} is held, and its provider has {phase:?}"));
    }
}

/// An answer about a pre-auth has come, to a request for it or about it.
pub fn acknowledged(world: &World, gateway: &Gateway, sent: &Sent, body: &Value) {
    let no = body["object"]["pre_auth_no"].as_str().unwrap_or_default();
    let found = match gateway.pre_auths().find(no) {
        Ok(found) => found,
        Err(error) if is_excused(world, gateway, &error) => return,
        Err(error) => return world.violate(format!("{no} was acknowledged and is not found: {error}")),
    };
    {
        let mut model = world.model.lock();
        if model.shops[sent.merchant].merchant_id.as_str() != found.merchant_id {
            drop(model);
            return world.violate(format!("{no} is not that of who asked for it"));
        }
        let new = Known { merchant: sent.merchant, seen: found.pre_auth.clone(), ended: None };
        model.pre_auths.entry(no.to_owned()).or_insert(new);
    }
    see(world, &found.pre_auth);
    let told: Option<PreAuthView> = serde_json::from_value(body["object"].clone()).ok();
    if let Some(told) = told.as_ref().filter(|told| is_final(&told.status)) {
        see_end(world, told);
    }
    match &sent.op {
        Op::Hold(command) => {
            world.count("pre-auths");
            let view = &found.pre_auth;
            if (&command.wanted.order_no, command.wanted.amount) != (&view.order_no, view.amount) {
                world.violate(format!("{no} is not what was asked for: {view:?}"));
            }
        }
        Op::Capture(_, command) => {
            let Some(told) = told.filter(|told| told.status == "captured") else { return };
            world.count("captures");
            if told.captured_amount != command.amount.unwrap_or(told.amount) {
                world.violate(format!("{:?} of {no} was to be taken: {told:?}", command.amount));
            }
        }
        Op::Void(..) if told.is_some_and(|told| told.status == "canceled") => world.count("pre-auths canceled"),
        _ => {}
    }
}

/// An order number is in use by a pre-auth; `before` is what was known of those that had ended before it was asked for.
pub fn check_in_use(world: &World, holder: &str, before: &BTreeMap<String, Known>) {
    let ended = before.get(holder).and_then(|known| known.ended.as_deref());
    if ended.is_some_and(frees_order_no) {
        world.violate(format!("{holder} was {ended:?} and holds its order number"));
    }
}

/// What was told is found.
pub fn check_known(world: &World, gateway: &Gateway) {
    let known = world.model.lock().pre_auths.clone();
    for no in known.keys() {
        match gateway.pre_auths().find(no) {
            Ok(found) => see(world, &found.pre_auth),
            Err(error) => world.violate(format!("{no} was acknowledged and is lost: {error}")),
        }
    }
}

fn list(gateway: &Gateway, caller: &Caller) -> Vec<PreAuthView> {
    all(|page| gateway.pre_auths().list(caller, &Default::default(), page)).unwrap_or_default()
}

/// What of a merchant's pre-auths is still under way.
pub fn unrest(world: &World, gateway: &Gateway, caller: &Caller, open: &mut Vec<String>) {
    let now_us = world.now_us();
    for view in list(gateway, caller) {
        see(world, &view);
        let no = &view.pre_auth_no;
        let seen = {
            let holds = world.ledger.holds.by_key.lock();
            holds.values().find(|hold| hold.reference == *no).and_then(|hold| hold.seen(now_us))
        };
        // What is held for days is not waited for.
        let ends_us = seen.filter(|seen| seen.phase == Phase::Held).map(|seen| seen.ends_us.unwrap_or(u64::MAX));
        let stays =
            view.status == "requires_capture" && ends_us.is_some_and(|ends_us| ends_us - now_us > WAITED_FOR_US);
        let is_busy = view.operations.iter().any(|operation| operation.status == "open");
        if is_busy || !(stays || is_final(&view.status)) {
            open.push(format!("{no} {}", view.status));
        }
        let refunds = gateway.pre_auths().refunds(caller, no).map(|page| page.items).unwrap_or_default();
        open.extend(refunds.into_iter().filter(|refund| refund.status == "pending").map(|refund| refund.refund_no));
    }
}

/// A merchant's pre-auths at the end: both books agree. Adds the events that must have been told.
pub fn check_books(
    world: &World,
    gateway: &Gateway,
    caller: &Caller,
    expected: &mut BTreeSet<(String, String, String)>,
) -> BTreeSet<String> {
    let now_us = world.now_us();
    let holds = world.ledger.holds.by_key.lock().clone();
    let mut holders: BTreeMap<String, String> = BTreeMap::new();
    let mut ours = BTreeSet::new();
    for view in list(gateway, caller) {
        let (no, status) = (view.pre_auth_no.clone(), view.status.as_str());
        if is_final(status) {
            expected.insert((format!("pre_auth.{status}"), no.clone(), String::new()));
        }
        if view.authorized_amount > 0 {
            expected.insert(("pre_auth.authorized".to_owned(), no.clone(), String::new()));
        }
        if status == "expired" {
            world.count(if view.authorized_amount > 0 { "holds expired" } else { "payers too late" });
        }
        if !frees_order_no(status)
            && let Some(other) = holders.insert(view.order_no.clone(), no.clone())
        {
            world.violate(format!("{no} and {other} hold the order {}", view.order_no));
        }
        let hold = holds.values().find(|hold| hold.reference == no);
        let is_there = hold.and_then(|hold| hold.seen(now_us)).is_some();
        if !is_there && matches!(status, "captured" | "requires_capture") {
            world.violate(format!("{no} is {status}, and its provider has nothing"));
        }
        let refunds = gateway.pre_auths().refunds(caller, &no).map(|page| page.items).unwrap_or_default();
        for refund in &refunds {
            expected.insert((format!("refund.{}", refund.status), no.clone(), refund.refund_no.clone()));
        }
        let refunded: i64 =
            refunds.iter().filter(|refund| refund.status == "success").map(|refund| refund.amount).sum();
        let given_back = hold.map_or(0, |hold| hold.refunded(now_us));
        if refunded != view.refunded_amount || refunded > view.captured_amount || refunded != given_back {
            world.violate(format!("refunds of {refunded} of {no}, {given_back} at the provider: {view:?}"));
        }
        for refund in hold.iter().flat_map(|hold| hold.refunds.values()) {
            let found = refunds.iter().find(|known| known.refund_no == refund.reference);
            if found.is_none_or(|known| known.amount != refund.amount) {
                world.violate(format!("the provider has refund {} of {no}, and we don't", refund.reference));
            }
        }
        see(world, &view);
        ours.insert(no);
    }
    ours
}

/// Whatever a provider has is known to somebody.
pub fn check_provider(world: &World, ours: &BTreeSet<String>) {
    let holds = world.ledger.holds.by_key.lock();
    let unknown = holds.values().find(|hold| !ours.contains(&hold.reference)).map(|hold| hold.reference.clone());
    drop(holds);
    if let Some(reference) = unknown {
        world.violate(format!("the provider has {reference}, and we don't"));
    }
}

/// Whether an event may be told although one of its name was told: it is held again after all.
pub fn is_told_again(event: &EventView) -> bool {
    let body: Value = serde_json::from_str(event.body.get()).unwrap();
    event.event == "pre_auth.authorized" && !body["extra"]["failure"].is_null()
}

/// The rows of pre-auths and what points to them say the same. What can't be read because of the disk says nothing.
pub fn check_rows(world: &World, store: &SimStore) {
    if let Err(error) = read_rows(world, store)
        && world.has_power()
        && !world.is_dead()
        && !world.has_disk_faults()
        && store.health().poisoned.is_none()
    {
        world.violate(format!("the pre-auths can't be read: {error}"));
    }
}

fn read_rows(world: &World, store: &SimStore) -> Result<(), StoreError> {
    let scan = |prefix: Vec<u8>| store.scan(&Scan::prefix(&prefix, usize::from(u16::MAX)));
    let (rows, due): (Vec<Row>, Vec<Row>) = (scan(keys::pre_auths())?, scan(keys::pre_auths_due())?);
    let mut due_expected = BTreeSet::new();
    for row in rows {
        let pre_auth: PreAuth = record::decode(&row.versioned.value)?;
        let PreAuth { merchant_id, pre_auth_no: no, status, .. } = &pre_auth;
        if let Some(due_at) = pre_auth.due_at {
            due_expected.insert(keys::pre_auth_due(due_at, no));
        }
        let is_open =
            !status.is_final() || pre_auth.refunds.iter().any(|refund| refund.status == RefundStatus::Pending);
        if is_open != pre_auth.due_at.is_some() {
            world.violate(format!("{no} is {status:?} and due at {:?}", pre_auth.due_at));
        }
        if !pre_auth.strays.is_empty() {
            world.violate(format!("money came for {no} after its end: {pre_auth:?}"));
        }
        let order = store.get(&keys::pre_auth_order(merchant_id, &pre_auth.terms.order_no))?;
        let holds_order = order.is_some_and(|order| *order.value == *no.as_str().as_bytes());
        if holds_order == status.frees_order_no() {
            world.violate(format!("{no} is {status:?}; that it holds its order number is {holds_order}"));
        }
        let owner = |merchant_id: &MerchantId| format!("{merchant_id}\n{no}").into_bytes();
        for number in pre_auth.refs.numbers().chain([pre_auth.provider_key.as_str()]) {
            let found = store.get(&keys::provider_no(&pre_auth.channel, number))?;
            if found.is_none_or(|found| *found.value != *owner(merchant_id)) {
                world.violate(format!("{number} does not name {no}"));
            }
        }
    }
    same(world, "pre-auths that are due", &due_expected, &due);
    Ok(())
}
