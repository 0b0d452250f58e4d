//! Merchants and the operator at work: requests drawn by the dice, answers remembered and compared.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate::domain::audit::{Anchor, Operator};
use tollgate::domain::ids::{EndpointId, JobId};
use tollgate::domain::merchant::MerchantStatus;
use tollgate::gateway::Gateway;
use tollgate::gateway::admission::{Admission, Refusal};
use tollgate::gateway::answer::{Answered, Renderer, Reply, StoredAnswer};
use tollgate::gateway::audit::AuditFilter;
use tollgate::gateway::command::{
    ChangeLimits, ChangedLimits, CreateMerchant, CreatePayment, CreatePreAuth, CreateRefund, UpdateMerchant,
};
use tollgate::gateway::error::GatewayError;
use tollgate::gateway::idempotency::{IdempotencyKey, Origin};
use tollgate::gateway::page::PageRequest;
use tollgate::gateway::view::{PaymentView, RefundView};
use tollgate::gateway::webhooks::{CreateEndpoint, Kept, NotificationFilter, SettableStatus, UpdateEndpoint};

use crate::model::{
    Hook, Op, Payment, Refund, Sent, Shop, caller_of, is_excused, is_final, may_fail, refund_of, see, see_job,
    see_refund,
};
use crate::pre_auths;
use crate::world::{Dice, World};

/// As the listener has it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(50);

/// Requests that are about pre-auths.
const HOLDS_PERCENT: u64 = 28;

/// Who makes every change of a merchant.
fn by() -> Operator {
    Operator::process("simulation")
}

/// A change was acknowledged: it is in the audit from now on, and so is all before it.
fn audited(world: &World, gateway: &Gateway, action: &str, object: &str) {
    let page = gateway.audit().list(&AuditFilter::default(), &PageRequest { limit: Some(1), cursor: None });
    let mut model = world.model.lock();
    *model.audited.entry((action.to_owned(), object.to_owned())).or_default() += 1;
    if let Ok(page) = page {
        model.anchor = Anchor::parse(&format!("{}:{}", page.chain.number, page.chain.hash));
    }
}

/// The merchants that every seed has, each with an endpoint that stays as it is.
pub async fn set_up(world: &Arc<World>, gateway: &Gateway) -> Result<(), GatewayError> {
    for number in 1..=2 {
        let command = CreateMerchant {
            name: format!("Shop {number}"),
            tier: "business".to_owned(),
            country: None,
            limits: None,
            channels: None,
        };
        let made = gateway.merchants().create(command, &by()).await?;
        audited(world, gateway, "merchant.create", &made.merchant.merchant_id);
        let merchant_id = tollgate::domain::ids::MerchantId::new(made.merchant.merchant_id.as_str());
        let stable_url = format!("https://hooks.example.com/{number}/all");
        let request = CreateEndpoint { url: stable_url.clone(), ..CreateEndpoint::default() };
        gateway.webhooks().create_endpoint(&merchant_id, request).await?;
        world.model.lock().shops.push(Shop {
            merchant_id,
            key_id: made.key.id.clone(),
            secret: made.key.secret.clone(),
            dead_keys: Vec::new(),
            stable_url,
            known: Some(serde_json::to_value(&made.merchant).unwrap()),
            orders: 0,
            holds: 0,
        });
    }
    Ok(())
}

/// One client of a merchant, until the process ends.
pub async fn client(world: Arc<World>, gateway: Gateway, dice: Dice, merchant: usize) {
    loop {
        tokio::time::sleep(Duration::from_millis(dice.between(20, 2_500))).await;
        if world.is_dead() {
            return;
        }
        if dice.chance(12) {
            let (world, gateway, dice) = (Arc::clone(&world), gateway.clone(), dice.clone());
            tokio::spawn(pre_auths::look(world, gateway, dice, merchant));
        }
        for index in draw_requests(&world, &dice, merchant) {
            // Several at once now and then: with the same key, or for the same order.
            let (world, gateway, dice) = (Arc::clone(&world), gateway.clone(), dice.clone());
            let hangs_up = dice.chance(5);
            let patience = if hangs_up { Duration::from_millis(dice.between(1, 400)) } else { REQUEST_TIMEOUT };
            let request = tokio::spawn(async move { perform(&world, &gateway, index, patience).await });
            if dice.chance(80) {
                let _ = request.await;
            }
        }
    }
}

/// Adds what is to be sent next to the model. Returns the places, the same twice for a repetition.
fn draw_requests(world: &World, dice: &Dice, merchant: usize) -> Vec<usize> {
    let mut model = world.model.lock();
    let mine: Vec<usize> = (0..model.sent.len()).filter(|index| model.sent[*index].merchant == merchant).collect();
    let payments: Vec<(String, i64, Option<String>)> = model
        .payments
        .iter()
        .filter(|(_, payment)| payment.merchant == merchant)
        .map(|(no, payment)| (no.clone(), payment.amount, payment.ended.clone()))
        .collect();
    let charged: Vec<(String, i64)> = payments
        .iter()
        .filter(|(_, _, ended)| ended.as_deref() == Some("success"))
        .map(|(no, amount, _)| (no.clone(), *amount))
        .collect();
    let number = model.sent.len();
    let key = format!("key-{number}");
    if dice.chance(HOLDS_PERCENT) {
        return pre_auths::draw_requests(&mut model, dice, merchant);
    }
    let op = match dice.below(100) {
        0..=13 => {
            // What was sent before is sent again, lately sent things more often.
            let recent = mine.len().saturating_sub(8);
            let from = if dice.chance(70) { &mine[recent..] } else { &mine[..] };
            return dice.pick(from).into_iter().copied().collect();
        }
        14..=30 if !charged.is_empty() => {
            let (no, amount) = dice.pick(&charged).cloned().unwrap_or_default();
            let part = match dice.below(4) {
                0 => None,
                1 => Some(amount + 1),
                _ => Some(1 + i64::try_from(dice.below(amount.unsigned_abs())).unwrap_or(0)),
            };
            Op::Refund(no, CreateRefund { amount: part, reason: None })
        }
        31..=38 if !payments.is_empty() => {
            Op::Cancel(dice.pick(&payments).map(|(no, _, _)| no.clone()).unwrap_or_default())
        }
        draw => {
            let shop = &mut model.shops[merchant];
            // An order number may be in use already.
            let order = if draw < 50 && shop.orders > 0 { dice.between(1, shop.orders) } else { shop.orders + 1 };
            shop.orders = shop.orders.max(order);
            let order_no = format!("ORDER-{order}");
            Op::Pay(Box::new(CreatePayment {
                description: Some(format!("{}/{order_no}", shop.merchant_id)),
                order_no,
                amount: i64::try_from(dice.between(50, 90_000)).unwrap_or(1),
                currency: "USD".to_owned(),
                channel: dice.chance(25).then(|| "stripe".to_owned()),
                ..CreatePayment::default()
            }))
        }
    };
    model.sent.push(Sent { merchant, key, op: op.clone(), answer: None, unkept: None });
    if let Op::Pay(_) = op
        && dice.chance(10)
    {
        // The same order under another key, at the same time.
        model.sent.push(Sent { merchant, key: format!("key-{}", number + 1), op, answer: None, unkept: None });
        return vec![number, number + 1];
    }
    if dice.chance(8) { vec![number, number] } else { vec![number] }
}

/// The idempotency key of a request as the listener has it.
pub fn key_of(sent: &Sent) -> IdempotencyKey {
    let (path, body) = match &sent.op {
        Op::Pay(command) => ("/payments".to_owned(), serde_json::to_vec(command).unwrap()),
        Op::Refund(no, command) => (format!("/payments/{no}/refunds"), serde_json::to_vec(command).unwrap()),
        Op::Cancel(no) => (format!("/payments/{no}/cancel"), b"{}".to_vec()),
        Op::Hold(command) => ("/pre-auths".to_owned(), serde_json::to_vec(&command.wanted).unwrap()),
        Op::Capture(no, command) => (format!("/pre-auths/{no}/capture"), serde_json::to_vec(command).unwrap()),
        Op::Void(no, command) => (format!("/pre-auths/{no}/cancel"), serde_json::to_vec(command).unwrap()),
        Op::HoldRefund(no, command) => (format!("/pre-auths/{no}/refunds"), serde_json::to_vec(command).unwrap()),
    };
    IdempotencyKey::new("POST", &path, &sent.key, &body).unwrap()
}

/// Sends one request of the model and compares the answer with what is known.
pub async fn perform(world: &Arc<World>, gateway: &Gateway, index: usize, patience: Duration) {
    let sent = world.model.lock().sent[index].clone();
    let troubles = world.troubles();
    let Some(caller) = caller_of(world, gateway, sent.merchant) else { return };
    let idempotency = key_of(&sent);
    let Admission { permit, claim, .. } = match gateway.admit(&caller, Some(idempotency.fingerprint)).await {
        Ok(admission) => admission,
        Err(Refusal::Error(error)) => return world.trace(&format!("{} refused: {error}", sent.key)),
        Err(_) => return world.trace(&format!("{} not admitted", sent.key)),
    };
    let permit = Arc::new(permit);
    let carried = Some(Arc::clone(&permit));
    let origin = Origin { idempotency: Some(idempotency), claim, permit: carried, renderer: renderer(world) };
    let work = async {
        match &sent.op {
            Op::Pay(command) => gateway.payments().create(&caller, origin, CreatePayment::clone(command)).await,
            Op::Refund(no, command) => gateway.refunds().create(&caller, origin, no, command.clone()).await,
            Op::Cancel(no) => gateway.payments().cancel(&caller, origin, no).await,
            Op::Hold(command) => gateway.pre_auths().create(&caller, origin, CreatePreAuth::clone(command)).await,
            Op::Capture(no, command) => gateway.pre_auths().capture(&caller, origin, no, command.clone()).await,
            Op::Void(no, command) => gateway.pre_auths().cancel(&caller, origin, no, command.clone()).await,
            Op::HoldRefund(no, command) => gateway.pre_auths().refund(&caller, origin, no, command.clone()).await,
        }
    };
    let holders = matches!(sent.op, Op::Hold(_)).then(|| world.model.lock().pre_auths.clone());
    let answered = tokio::time::timeout(patience, work).await;
    drop(permit);
    match answered {
        Err(_) => {
            world.count("clients hang up");
            world.trace(&format!("{} hangs up", sent.key));
        }
        Ok(Err(error)) => {
            world.trace(&format!("{} failed: {error}", sent.key));
            if let GatewayError::Internal(reason) = &error
                && (!(may_fail(world, gateway) || world.had_trouble_since(troubles)) || reason.contains("panicked"))
            {
                world.violate(format!("{} failed inside: {reason}", sent.key));
            }
            if let (GatewayError::OrderExists { number, .. }, Some(holders)) = (&error, &holders) {
                pre_auths::check_in_use(world, number, holders);
            }
            if sent.answer.is_some() && matches!(error, GatewayError::OrderExists { .. } | GatewayError::NotFound(_)) {
                world.violate(format!("{} was answered before and is now {error}", sent.key));
            }
        }
        Ok(Ok(answered)) => acknowledged(world, gateway, index, &answered, troubles),
    }
}

/// An answer has come: from now on it must stay so. `troubles` are those before it was asked.
fn acknowledged(world: &Arc<World>, gateway: &Gateway, index: usize, answered: &Answered, troubles: u64) {
    let answer = &answered.answer;
    let sent = world.model.lock().sent[index].clone();
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    world.trace(&format!("{} -> {} {}", sent.key, answer.status, body["object"]["status"]));
    if let Some(before) = &sent.answer {
        let told: Value = serde_json::from_str(&before.body).unwrap();
        let number = match body["kind"].as_str() {
            Some("refund") => "refund_no",
            Some("pre-auth") => "pre_auth_no",
            _ => "payment_no",
        };
        let is_same_object = told["object"][number] == body["object"][number];
        let may_differ = sent.unkept.is_some_and(|life| life < world.life()) && is_same_object;
        if before != answer && !may_differ {
            world.violate(format!("{} was answered {before:?} and now {answer:?}", sent.key));
        }
        if before == answer {
            world.count("repetitions");
            return;
        }
    }
    if world.is_dead() {
        return;
    }
    {
        let is_open = matches!(body["object"]["status"].as_str(), Some("processing" | "pending"))
            || body["kind"] == "pre-auth" && body["object"]["reconciling"] == true;
        let had_no_room = world.had_trouble_since(troubles);
        let unkept = (had_no_room && is_open && !answered.replayed).then(|| world.life());
        if unkept.is_some() {
            world.count("answers that could not be kept");
        }
        let sent = &mut world.model.lock().sent[index];
        (sent.answer, sent.unkept) = (Some(answer.clone()), unkept);
    }
    let object = &body["object"];
    if body["kind"] == "pre-auth" {
        return pre_auths::acknowledged(world, gateway, &sent, &body);
    }
    let payment_no = object["payment_no"].as_str().unwrap_or_default().to_owned();
    if body["kind"] == "refund" {
        let refund_no = object["refund_no"].as_str().unwrap_or_default();
        let told: RefundView = serde_json::from_value(object.clone()).unwrap();
        world.count(if told.pre_auth_no.is_some() { "refunds of pre-auths" } else { "refunds" });
        world.model.lock().refunds.entry(refund_no.to_owned()).or_insert_with(|| Refund {
            merchant: sent.merchant,
            of: refund_of(&told).to_owned(),
            amount: told.amount,
            ended: None,
        });
        see_refund(world, &told);
        let Some(caller) = caller_of(world, gateway, sent.merchant) else { return };
        match gateway.refunds().get(&caller, refund_no) {
            Ok(found) => see_refund(world, &found),
            Err(error) if is_excused(world, gateway, &error) => {}
            other => world.violate(format!("refund {refund_no} was acknowledged and is {other:?}")),
        }
        return;
    }
    let view: PaymentView = serde_json::from_value(object.clone()).unwrap();
    world.count(if matches!(sent.op, Op::Cancel(_)) { "cancellations" } else { "payments" });
    world.model.lock().payments.entry(payment_no.clone()).or_insert_with(|| Payment {
        merchant: sent.merchant,
        order_no: view.order_no.clone(),
        amount: view.amount,
        ended: None,
    });
    if is_final(&view.status) {
        see(world, &view);
    }
    let Some(caller) = caller_of(world, gateway, sent.merchant) else { return };
    match gateway.payments().get(&caller, &payment_no) {
        Ok(found) => see(world, &found),
        Err(error) if !is_excused(world, gateway, &error) => {
            world.violate(format!("{payment_no} was acknowledged and is not found: {error}"));
        }
        Err(_) => {}
    }
}

/// Every rendering has other bytes, so that only a kept answer is the same.
fn renderer(world: &Arc<World>) -> Renderer {
    let world = Arc::clone(world);
    Arc::new(move |reply| {
        let number = {
            let mut model = world.model.lock();
            model.answers += 1;
            model.answers
        };
        let (kind, status, object) = match reply {
            Reply::PaymentCreated(view) => ("payment", 201, serde_json::to_value(view)),
            Reply::PaymentNotTaken(view) => ("payment", 502, serde_json::to_value(view)),
            Reply::PaymentCanceled(view) => ("payment", 200, serde_json::to_value(view)),
            Reply::RefundCreated(view) => ("refund", 201, serde_json::to_value(view)),
            Reply::RefundNotDone(view) => ("refund", 502, serde_json::to_value(view)),
            Reply::PreAuthCreated(view) => ("pre-auth", 201, serde_json::to_value(view)),
            Reply::PreAuthCaptured(view) | Reply::PreAuthCanceled(view) => {
                ("pre-auth", 200, serde_json::to_value(view))
            }
            Reply::PreAuthNotDone { pre_auth_no } => ("pre-auth", 502, Ok(json!({ "pre_auth_no": pre_auth_no }))),
            other => panic!("{other:?} is no answer to what is asked here"),
        };
        let body = json!({ "kind": kind, "number": number, "object": object.unwrap_or_default() });
        StoredAnswer { status, body: body.to_string() }
    })
}

/// The operator, and merchants looking after their endpoints: one change at a time.
pub async fn operator(world: Arc<World>, gateway: Gateway, dice: Dice) {
    loop {
        tokio::time::sleep(Duration::from_millis(dice.between(200, 6_000))).await;
        if world.is_dead() {
            return;
        }
        let merchant = usize::try_from(dice.below(2)).unwrap();
        let troubles = world.troubles();
        let draw = dice.below(13);
        let result = match draw {
            0..=2 => change_merchant(&world, &gateway, &dice, merchant).await,
            3..=4 => rotate_key(&world, &gateway, merchant).await,
            5..=6 => make_hook(&world, &gateway, merchant).await,
            7..=9 => change_hook(&world, &gateway, &dice).await,
            _ => ask_for_job(&world, &gateway, &dice, merchant).await,
        };
        let Err(error) = result else {
            world.count(match draw {
                0..=2 => "merchants changed",
                3..=4 => "keys rotated",
                5..=6 => "endpoints made",
                7..=9 => "endpoints changed",
                _ => "jobs",
            });
            continue;
        };
        world.trace(&format!("operator: {error}"));
        let may_fail = may_fail(&world, &gateway) || world.had_trouble_since(troubles);
        if matches!(error, GatewayError::Internal(_)) && !may_fail {
            world.violate(format!("a change failed inside: {error}"));
        }
        // Merchants are never deleted, and nobody else takes their keys.
        if matches!(error, GatewayError::NotFound(_)) && draw <= 4 {
            world.violate(format!("a change of {merchant} failed: {error}"));
        }
    }
}

/// Whoever looks after merchants again knows what is so.
pub async fn wake_all(world: &World, gateway: &Gateway) -> Result<(), GatewayError> {
    let shops = world.model.lock().shops.len();
    for merchant in 0..shops {
        let id = world.model.lock().shops[merchant].merchant_id.clone();
        let command = UpdateMerchant { status: Some(MerchantStatus::Active), ..UpdateMerchant::default() };
        let view = gateway.merchants().update(id.as_str(), command, &by()).await?;
        audited(world, gateway, "merchant.update", id.as_str());
        world.model.lock().shops[merchant].known = Some(serde_json::to_value(&view).unwrap());
    }
    Ok(())
}

async fn change_merchant(world: &World, gateway: &Gateway, dice: &Dice, merchant: usize) -> Result<(), GatewayError> {
    let shop = world.model.lock().shops[merchant].clone();
    let mut command = UpdateMerchant::default();
    match dice.below(3) {
        0 => command.status = Some(if dice.chance(25) { MerchantStatus::Suspended } else { MerchantStatus::Active }),
        1 => command.name = Some(format!("Shop {}", dice.below(1000))),
        _ => {
            let concurrent = u32::try_from(dice.between(4, 40)).unwrap();
            let limits = ChangedLimits { concurrent: Some(Some(concurrent)), ..ChangedLimits::default() };
            command.limits = Some(ChangeLimits::Merge(limits));
        }
    }
    world.model.lock().shops[merchant].known = None;
    let view = gateway.merchants().update(shop.merchant_id.as_str(), command, &by()).await?;
    audited(world, gateway, "merchant.update", shop.merchant_id.as_str());
    world.trace(&format!("operator: {} is {}", shop.merchant_id, view.status));
    world.model.lock().shops[merchant].known = Some(serde_json::to_value(&view).unwrap());
    if view.status == "suspended" {
        tokio::time::sleep(Duration::from_millis(dice.between(100, 4_000))).await;
        world.model.lock().shops[merchant].known = None;
        let command = UpdateMerchant { status: Some(MerchantStatus::Active), ..UpdateMerchant::default() };
        let view = gateway.merchants().update(shop.merchant_id.as_str(), command, &by()).await?;
        world.model.lock().shops[merchant].known = Some(serde_json::to_value(&view).unwrap());
    }
    Ok(())
}

async fn rotate_key(world: &World, gateway: &Gateway, merchant: usize) -> Result<(), GatewayError> {
    let shop = world.model.lock().shops[merchant].clone();
    let id = shop.merchant_id.as_str();
    let keys = gateway.merchants().get(id)?.keys;
    world.model.lock().shops[merchant].known = None;
    // One whose secret was lost with the answer is of no use.
    for lost in keys.iter().filter(|key| **key != shop.key_id) {
        gateway.merchants().delete_key(id, lost, &by()).await?;
        audited(world, gateway, "key.delete", &format!("{id}/{lost}"));
    }
    let made = gateway.merchants().create_key(id, &by()).await?;
    audited(world, gateway, "key.create", id);
    {
        let mut model = world.model.lock();
        let shop = &mut model.shops[merchant];
        (shop.key_id, shop.secret) = (made.id.clone(), made.secret.clone());
    }
    gateway.merchants().delete_key(id, &shop.key_id, &by()).await?;
    audited(world, gateway, "key.delete", &format!("{id}/{}", shop.key_id));
    world.trace(&format!("operator: {id} has a new key"));
    let view = gateway.merchants().get(id)?;
    let mut model = world.model.lock();
    model.shops[merchant].dead_keys.push((shop.key_id, shop.secret));
    model.shops[merchant].known = Some(serde_json::to_value(&view).unwrap());
    Ok(())
}

async fn make_hook(world: &World, gateway: &Gateway, merchant: usize) -> Result<(), GatewayError> {
    let shop = world.model.lock().shops[merchant].clone();
    let number = world.model.lock().hooks.len();
    if number >= 6 {
        return Ok(());
    }
    let url = format!("https://hooks.example.com/{}/{number}", merchant + 1);
    let request = CreateEndpoint { url: url.clone(), ..CreateEndpoint::default() };
    let made = gateway.webhooks().create_endpoint(&shop.merchant_id, request).await?;
    world.trace(&format!("operator: endpoint {}", made.endpoint.id));
    let known = Some(serde_json::to_value(&made.endpoint).unwrap());
    world.model.lock().hooks.insert(made.endpoint.id, Hook { merchant, url, known, deleted: false });
    Ok(())
}

async fn change_hook(world: &World, gateway: &Gateway, dice: &Dice) -> Result<(), GatewayError> {
    let live: Vec<String> = {
        let model = world.model.lock();
        model.hooks.iter().filter(|(_, hook)| !hook.deleted).map(|(id, _)| id.clone()).collect()
    };
    let Some(id) = dice.pick(&live).cloned() else { return Ok(()) };
    let merchant_id = {
        let model = world.model.lock();
        model.shops[model.hooks[&id].merchant].merchant_id.clone()
    };
    let endpoint_id = EndpointId::new(id.as_str());
    let remember = |known: Option<Value>, deleted: bool| {
        if let Some(hook) = world.model.lock().hooks.get_mut(&id) {
            (hook.known, hook.deleted) = (known, deleted);
        }
    };
    remember(None, false);
    let draw = dice.below(6);
    world.trace(&format!("operator: changes endpoint {id} ({draw})"));
    let view = match draw {
        0 => {
            gateway.webhooks().delete_endpoint(&merchant_id, &endpoint_id).await?;
            remember(None, true);
            return Ok(());
        }
        1 => gateway.webhooks().rotate_secret(&merchant_id, &endpoint_id).await?.endpoint,
        2 => {
            let events = Some(vec![if dice.chance(50) { "payment.*" } else { "*" }.to_owned()]);
            let changes = UpdateEndpoint { events, ..UpdateEndpoint::default() };
            gateway.webhooks().update_endpoint(&merchant_id, &endpoint_id, changes).await?
        }
        _ => {
            let status = if dice.chance(40) { SettableStatus::Paused } else { SettableStatus::Enabled };
            let is_disabled = gateway.webhooks().get_endpoint(&merchant_id, &endpoint_id)?.status == "disabled";
            let sends_kept = is_disabled && status == SettableStatus::Enabled && dice.chance(70);
            let kept = sends_kept.then_some(Kept::Send);
            let changes = UpdateEndpoint { status: Some(status), kept, ..UpdateEndpoint::default() };
            gateway.webhooks().update_endpoint(&merchant_id, &endpoint_id, changes).await?
        }
    };
    remember(Some(serde_json::to_value(&view).unwrap()), false);
    Ok(())
}

/// A merchant has much sent again, gives much up, or ends such a job.
async fn ask_for_job(world: &World, gateway: &Gateway, dice: &Dice, merchant: usize) -> Result<(), GatewayError> {
    let (merchant_id, hooks, jobs) = {
        let model = world.model.lock();
        let hooks = model.hooks.iter().filter(|(_, hook)| hook.merchant == merchant && !hook.deleted);
        let jobs = model.jobs.iter().filter(|(_, job)| job.merchant == merchant);
        let hooks: Vec<String> = hooks.map(|(id, _)| id.clone()).collect();
        let jobs: Vec<String> = jobs.map(|(id, _)| id.clone()).collect();
        (model.shops[merchant].merchant_id.clone(), hooks, jobs)
    };
    let webhooks = gateway.webhooks();
    let failed = NotificationFilter { status: Some("failed".to_owned()), ..NotificationFilter::default() };
    let job = match (dice.below(8), dice.pick(&hooks), dice.pick(&jobs)) {
        (0..=2, Some(hook), _) => {
            let since = gateway.clock().now().minus(Duration::from_secs(dice.below(120)));
            webhooks.recover(&merchant_id, &EndpointId::new(hook.as_str()), since).await?
        }
        // That of the endpoint that gets everything is never given up.
        (3..=4, Some(hook), _) => {
            let filter = NotificationFilter { endpoint_id: Some(hook.clone()), ..NotificationFilter::default() };
            webhooks.cancel_many(&merchant_id, &filter).await?
        }
        (5, _, Some(job)) => webhooks.cancel_job(&merchant_id, &JobId::new(job.as_str())).await?,
        _ => webhooks.retry_many(&merchant_id, &failed).await?,
    };
    world.trace(&format!("operator: job {} ({})", job.id, job.kind));
    see_job(world, merchant, job);
    Ok(())
}
