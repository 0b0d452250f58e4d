//! A provider with a ledger of its own, and the adapter in front of it. It keeps the promises of
//! [`tollgate::channels`] and no others: answers get lost, come late and out of order, requests take effect after
//! nobody waits for them any more, payers act or do not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tollgate::channels::{
    AuthorizeRequest, Call, Capabilities, CaptureRequest, Channel, ChargeAnswer, ChargeRequest, ChargeState,
    DeclineScope, ExtendRequest, Failure, HoldAnswer, HoldQuestion, Inbound, NextAction, Notification,
    NotificationRefusal, ProviderRefs, RefundAnswer, RefundRequest, RefundState, ReleaseRequest, ResolveRequest,
};

use crate::holds::{Act, Holds, Operation};
use crate::notices;
use crate::world::{Dice, World};

/// How long the adapter waits for an answer; as in the configuration.
pub const TIMEOUT: Duration = Duration::from_secs(10);
pub const SECOND_US: u64 = 1_000_000;

/// Where an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Action,
    Processing,
    Success,
    Declined,
    Closed,
}

/// One charge as the provider knows it.
#[derive(Clone, Debug)]
pub struct Charge {
    pub reference: String,
    /// Merchant and order, from the description.
    pub order: String,
    pub amount: i64,
    pub channel: &'static str,
    /// When the request takes effect.
    arrives_us: u64,
    first: State,
    then: Option<(u64, State)>,
    pub refunds: BTreeMap<String, Refund>,
}

#[derive(Clone, Debug)]
pub struct Refund {
    pub reference: String,
    pub amount: i64,
    arrives_us: u64,
    settles_us: u64,
    succeeds: bool,
}

impl Charge {
    pub fn state(&self, now_us: u64) -> Option<State> {
        if now_us < self.arrives_us {
            return None;
        }
        Some(self.then.filter(|(at_us, _)| now_us >= *at_us).map_or(self.first, |(_, state)| state))
    }

    pub fn refunded(&self, now_us: u64) -> i64 {
        let done = self.refunds.values().filter(|refund| refund.state(now_us) == Some(Some(true)));
        done.map(|refund| refund.amount).sum()
    }
}

impl Refund {
    /// `None` before it arrives, `Some(None)` while it is worked on, then whether it succeeded.
    pub fn state(&self, now_us: u64) -> Option<Option<bool>> {
        (now_us >= self.arrives_us).then(|| (now_us >= self.settles_us).then_some(self.succeeds))
    }
}

/// What all channels of a world have done, by provider key.
pub struct Ledger {
    pub charges: Mutex<BTreeMap<String, Charge>>,
    pub holds: Holds,
    dice: Dice,
}

impl Ledger {
    pub fn new(dice: Dice) -> Self {
        Self { charges: Mutex::default(), holds: Holds::default(), dice }
    }

    /// Payers who have not acted by now never will: their objects are closed soon.
    pub fn settle_soon(&self, now_us: u64) {
        self.holds.settle_soon(now_us);
        for charge in self.charges.lock().values_mut() {
            let is_open = matches!(charge.state(now_us), None | Some(State::Action | State::Processing));
            if is_open && charge.then.is_none() && charge.first != State::Success {
                charge.then = Some((now_us.max(charge.arrives_us) + 5 * SECOND_US, State::Closed));
            }
        }
    }

    /// Orders that were charged more than once.
    fn charged_twice(&self, now_us: u64) -> Option<String> {
        let charges = self.charges.lock();
        let mut seen = BTreeSet::new();
        let charged = charges.values().filter(|charge| charge.state(now_us) == Some(State::Success));
        charged.map(|charge| &charge.order).find(|order| !seen.insert((*order).clone())).cloned()
    }

    fn refunded_too_much(&self, now_us: u64) -> Option<String> {
        let charges = self.charges.lock();
        let found = charges.values().find(|charge| charge.refunded(now_us) > charge.amount);
        found.map(|charge| charge.reference.clone())
    }
}

/// The adapter and the provider behind it.
pub struct SimChannel {
    name: &'static str,
    pub world: Arc<World>,
}

/// What becomes of one request.
pub struct Fate {
    /// When it takes effect, if ever, after it was sent.
    pub effect: Option<Duration>,
    /// When the adapter knows an answer, if ever.
    pub answer: Option<Duration>,
}

impl SimChannel {
    pub fn new(name: &'static str, world: &Arc<World>) -> Self {
        Self { name, world: Arc::clone(world) }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn dice(&self) -> &Dice {
        &self.world.ledger.dice
    }

    pub fn latency(&self) -> Duration {
        let ms = if self.world.has_faults() && self.dice().chance(5) {
            self.dice().between(500, 9_000)
        } else {
            self.dice().between(1, 120)
        };
        Duration::from_millis(ms)
    }

    pub fn fate(&self) -> Fate {
        let latency = self.latency();
        let arrives = Some(latency / 2);
        let lost = Duration::from_secs(self.dice().between(0, 40));
        if !self.world.has_faults() {
            return Fate { effect: arrives, answer: Some(latency) };
        }
        let draw = self.dice().below(100);
        if draw <= 16 {
            self.world.count("answers of providers lost");
        }
        match draw {
            0..=7 => Fate { effect: arrives, answer: None },
            8..=12 => Fate { effect: Some(lost), answer: None },
            13..=16 => Fate { effect: None, answer: None },
            _ => Fate { effect: arrives, answer: Some(latency) },
        }
    }

    fn draw_course(&self, arrives_us: u64) -> (State, Option<(u64, State)>) {
        let dice = self.dice();
        let later = |low, high| arrives_us + dice.between(low, high) * SECOND_US;
        match dice.below(100) {
            0..=64 => (State::Success, None),
            65..=76 => (State::Declined, None),
            77..=80 => (State::Action, None),
            81..=87 => {
                (State::Action, Some((later(2, 90), if dice.chance(75) { State::Success } else { State::Declined })))
            }
            88..=90 => (State::Action, Some((later(5, 60), State::Closed))),
            _ => (
                State::Processing,
                Some((later(1, 60), if dice.chance(75) { State::Success } else { State::Declined })),
            ),
        }
    }

    /// The request takes effect then, unless the provider knows its key already.
    fn put(&self, request: &ChargeRequest, arrives_us: u64) {
        let mut charges = self.world.ledger.charges.lock();
        if let Some(known) = charges.get_mut(&request.provider_key) {
            // The same request again is the same charge; it may arrive earlier than the first one.
            if arrives_us < known.arrives_us {
                known.arrives_us = arrives_us;
            }
            return;
        }
        let (first, then) = self.draw_course(arrives_us);
        charges.insert(
            request.provider_key.clone(),
            Charge {
                reference: request.reference.clone(),
                order: request.description.clone().unwrap_or_default(),
                amount: request.money.amount_minor,
                channel: self.name,
                arrives_us,
                first,
                then,
                refunds: BTreeMap::new(),
            },
        );
    }

    fn knows(&self, provider_key: &str) -> bool {
        self.world.ledger.charges.lock().contains_key(provider_key)
    }

    fn state_of(&self, provider_key: &str) -> Option<State> {
        let now_us = self.world.now_us();
        self.world.ledger.charges.lock().get(provider_key).and_then(|charge| charge.state(now_us))
    }

    pub fn check(&self) {
        let now_us = self.world.now_us();
        if let Err(wrong) = self.world.ledger.holds.check(now_us) {
            self.world.violate(wrong);
        }
        if let Some(order) = self.world.ledger.charged_twice(now_us) {
            self.world.violate(format!("order {order} was charged twice"));
        }
        if let Some(payment_no) = self.world.ledger.refunded_too_much(now_us) {
            self.world.violate(format!("more than was charged went back of {payment_no}"));
        }
    }

    fn answer(&self, state: State, request: &ChargeRequest) -> ChargeAnswer {
        let state = match state {
            State::Success => ChargeState::Success { fee_minor: None },
            State::Declined => {
                let digit = request.provider_key.bytes().last().unwrap_or(0);
                let scope = if digit.is_multiple_of(3) { DeclineScope::Processor } else { DeclineScope::Bank };
                ChargeState::Declined(Failure::new("card_declined", "Declined.", scope))
            }
            State::Closed => ChargeState::Canceled,
            State::Processing => ChargeState::Processing,
            State::Action => ChargeState::ActionRequired {
                next_action: Some(NextAction::Redirect { url: format!("https://pay.example/{}", request.reference) }),
                expires_at: None,
            },
        };
        let refs = ProviderRefs {
            channel_order_no: Some(format!("{}_{}", self.name, request.provider_key)),
            ..ProviderRefs::default()
        };
        ChargeAnswer::with(state, refs)
    }

    async fn send_charge(&self, request: &ChargeRequest) -> ChargeAnswer {
        self.world.step().await;
        if self.world.has_faults() && self.dice().chance(4) && !self.knows(&request.provider_key) {
            self.world.trace(&format!("{} not reached for {}", self.name, request.reference));
            return bare(ChargeState::NotDone(Failure::new("unreachable", "Not reached.", DeclineScope::Processor)));
        }
        let fate = self.fate();
        if let Some(effect) = fate.effect {
            self.put(request, self.world.now_us() + micros(effect));
        }
        self.world.trace(&format!(
            "{} charge {} {} ({})",
            self.name,
            request.reference,
            request.provider_key,
            request.description.as_deref().unwrap_or("")
        ));
        let Some(wait) = fate.answer else {
            tokio::time::sleep(TIMEOUT).await;
            self.check();
            return unknown("no answer");
        };
        tokio::time::sleep(wait).await;
        self.world.step().await;
        self.check();
        match self.state_of(&request.provider_key) {
            Some(state) => self.answer(state, request),
            None => unknown("no such charge"),
        }
    }

    async fn ask(&self, request: &ResolveRequest) -> ChargeAnswer {
        self.world.step().await;
        let charge = &request.charge;
        let latency = self.latency();
        let is_stale = self.world.has_faults() && self.dice().chance(10);
        let before = self.state_of(&charge.provider_key);
        tokio::time::sleep(latency).await;
        self.world.step().await;
        self.check();
        if self.world.has_faults() && self.dice().chance(10) {
            return unknown("the provider is busy");
        }
        let state = self.state_of(&charge.provider_key);
        let told = match (state, before) {
            // An answer that was overtaken: it was so when the question arrived.
            (Some(_), Some(before @ (State::Action | State::Processing))) if is_stale && !request.close => Some(before),
            _ => state,
        };
        self.world
            .trace(&format!("{} asked about {} close={} -> {told:?}", self.name, charge.reference, request.close));
        match told {
            Some(State::Action | State::Processing) if request.close => {
                if self.world.has_faults() && self.dice().chance(20) {
                    return unknown("it can't be closed now");
                }
                self.close(&charge.provider_key);
                self.answer(State::Closed, charge)
            }
            Some(state) => self.answer(state, charge),
            None if request.is_settled() => {
                bare(ChargeState::NotDone(Failure::new("never_arrived", "It never arrived.", DeclineScope::Processor)))
            }
            None if !request.close && self.dice().chance(30) => {
                // Repeating it with the same key is safe.
                self.put(charge, self.world.now_us());
                self.check();
                self.state_of(&charge.provider_key).map_or_else(|| unknown("?"), |state| self.answer(state, charge))
            }
            None => unknown("no such charge yet"),
        }
    }

    fn close(&self, provider_key: &str) {
        let now_us = self.world.now_us();
        if let Some(charge) = self.world.ledger.charges.lock().get_mut(provider_key) {
            charge.then = Some((now_us, State::Closed));
        }
    }

    async fn send_refund(&self, request: &RefundRequest) -> RefundAnswer {
        self.world.step().await;
        let fate = self.fate();
        let now_us = self.world.now_us();
        if let Some(effect) = fate.effect {
            self.put_refund(request, now_us + micros(effect));
        }
        self.world.trace(&format!("{} refund {} of {}", self.name, request.refund_reference, request.reference));
        let Some(wait) = fate.answer else {
            tokio::time::sleep(TIMEOUT).await;
            self.check();
            return refund_answer(RefundState::Unknown { reason: "no answer".to_owned() }, request);
        };
        tokio::time::sleep(wait).await;
        self.world.step().await;
        self.check();
        let now_us = self.world.now_us();
        let state = match self.refund(&request.provider_key).and_then(|refund| refund.state(now_us)) {
            Some(Some(true)) => RefundState::Success,
            Some(Some(false)) => {
                RefundState::Failed(Failure::new("refund_failed", "Not possible.", DeclineScope::Processor))
            }
            Some(None) => RefundState::Pending,
            None => RefundState::Unknown { reason: "no such refund yet".to_owned() },
        };
        refund_answer(state, request)
    }

    fn refund(&self, provider_key: &str) -> Option<Refund> {
        let of_charge = {
            let charges = self.world.ledger.charges.lock();
            charges.values().find_map(|charge| charge.refunds.get(provider_key)).cloned()
        };
        of_charge.or_else(|| {
            let holds = self.world.ledger.holds.by_key.lock();
            holds.values().find_map(|hold| hold.refunds.get(provider_key)).cloned()
        })
    }

    fn put_refund(&self, request: &RefundRequest, arrives_us: u64) {
        let dice = self.dice();
        let (is_slow, succeeds) = (dice.chance(15), dice.chance(88));
        let settles_us = arrives_us + if is_slow { dice.between(1, 60) * SECOND_US } else { 0 };
        let now_us = self.world.now_us();
        let new = Refund {
            reference: request.refund_reference.clone(),
            amount: request.money.amount_minor,
            arrives_us,
            settles_us,
            succeeds,
        };
        let mut charges = self.world.ledger.charges.lock();
        let mut holds = self.world.ledger.holds.by_key.lock();
        let of_charges = charges.values_mut().filter(|charge| charge.state(now_us) == Some(State::Success));
        let mut charged = of_charges.map(|charge| (&charge.reference, charge.amount, &mut charge.refunds));
        let of_holds = holds.values_mut().filter_map(|hold| hold.captured(now_us).map(|amount| (amount, hold)));
        let mut taken = of_holds.map(|(amount, hold)| (&hold.reference, amount, &mut hold.refunds));
        let is_meant = |reference: &String| *reference == request.reference;
        let found = charged
            .find(|(reference, _, _)| is_meant(reference))
            .or_else(|| taken.find(|(reference, _, _)| is_meant(reference)));
        match found {
            Some((_, amount, refunds)) if amount == request.charged.amount_minor => {
                let refund = refunds.entry(request.provider_key.clone()).or_insert(new);
                if arrives_us < refund.arrives_us {
                    (refund.arrives_us, refund.settles_us) = (arrives_us, settles_us);
                }
            }
            other => {
                let amount = other.map(|(_, amount, _)| amount);
                self.world.violate(format!("a refund was asked for {request:?}, of which {amount:?} was taken"));
            }
        }
    }
}

pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn bare(state: ChargeState) -> ChargeAnswer {
    ChargeAnswer::bare(state)
}

fn unknown(reason: &str) -> ChargeAnswer {
    bare(ChargeState::Unknown { reason: reason.to_owned() })
}

fn refund_answer(state: RefundState, request: &RefundRequest) -> RefundAnswer {
    RefundAnswer { state, channel_refund_no: Some(format!("re_{}", request.provider_key)) }
}

impl Channel for SimChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            charge: true,
            refund: true,
            pre_auth: true,
            partial_capture: true,
            notifications: true,
            ..Capabilities::default()
        }
    }

    fn verify<'a>(&'a self, inbound: &'a Inbound) -> Call<'a, Result<Notification, NotificationRefusal>> {
        Box::pin(std::future::ready(notices::verify(inbound)))
    }

    fn charge<'a>(&'a self, request: &'a ChargeRequest) -> Call<'a, ChargeAnswer> {
        Box::pin(self.send_charge(request))
    }

    fn resolve<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, ChargeAnswer> {
        Box::pin(self.ask(request))
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest) -> Call<'a, RefundAnswer> {
        Box::pin(self.send_refund(request))
    }

    fn authorize<'a>(&'a self, request: &'a AuthorizeRequest) -> Call<'a, HoldAnswer> {
        Box::pin(self.authorize_money(request))
    }

    fn ask_hold<'a>(&'a self, question: &'a HoldQuestion) -> Call<'a, HoldAnswer> {
        Box::pin(self.ask_about_hold(question))
    }

    fn capture<'a>(&'a self, request: &'a CaptureRequest) -> Call<'a, HoldAnswer> {
        let CaptureRequest { hold, provider_key: key, money, sent, .. } = request;
        Box::pin(self.operate(Operation { hold, key, sent, act: Act::Capture { amount: money.amount_minor } }))
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> Call<'a, HoldAnswer> {
        let ReleaseRequest { hold, provider_key: key, sent, .. } = request;
        Box::pin(self.operate(Operation { hold, key, sent, act: Act::Release }))
    }

    fn extend<'a>(&'a self, request: &'a ExtendRequest) -> Call<'a, HoldAnswer> {
        let ExtendRequest { hold, provider_key: key, sent, .. } = request;
        Box::pin(self.operate(Operation { hold, key, sent, act: Act::Extend { until_us: self.extension_us() } }))
    }
}
