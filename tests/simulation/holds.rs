//! Money that a provider holds, and the adapter in front of it: holds that wait for their payers, end by themselves, are
//! taken, let go and held for longer. It keeps the promises of [`tollgate::channels`] and no others, as for charges.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use tollgate::channels::{
    AuthorizeRequest, DeclineScope, Failure, HoldAnswer, HoldQuestion, HoldState, NextAction, ProviderRefs, Sent,
};

use crate::provider::{Refund, SECOND_US, SimChannel, TIMEOUT, micros};
use crate::world::World;

/// Where a hold stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for the payer's means of payment; the last one may have been refused.
    Method {
        was_refused: bool,
    },
    Action,
    Processing,
    Held,
    /// So much was taken, and the rest let go.
    Captured(i64),
    /// Given up or let go.
    Closed,
    /// Refused for good.
    Declined,
    /// Its time ran out.
    Lapsed,
}

impl Phase {
    const fn is_open(self) -> bool {
        matches!(self, Self::Method { .. } | Self::Action | Self::Processing)
    }

    /// Nothing was taken, nothing is held, and nothing ever will be.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Closed | Self::Declined | Self::Lapsed)
    }
}

/// What is done to a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The payer does something, or nothing for too long.
    Payer(Phase),
    Capture {
        amount: i64,
    },
    Release,
    Extend {
        until_us: u64,
    },
    Close,
}

impl Act {
    const fn moves_money(self) -> bool {
        matches!(self, Self::Capture { .. } | Self::Release)
    }
}

#[derive(Clone, Debug)]
struct Entry {
    /// When it takes effect, if the hold is such then that it can.
    at_us: u64,
    /// The provider key under which it was asked for.
    key: Option<String>,
    act: Act,
    /// The provider does not do it.
    is_refused: bool,
}

/// One hold as the provider knows it.
#[derive(Clone, Debug)]
pub struct Hold {
    pub reference: String,
    /// Merchant and order, from the description.
    pub order: String,
    pub amount: i64,
    pub channel: &'static str,
    /// When the request takes effect.
    arrives_us: u64,
    first: Phase,
    /// How long the money is held, if that ends, and how long capturing it is sure to work, if that is shorter.
    lives_us: Option<u64>,
    honored_us: Option<u64>,
    /// What was done, first to last.
    entries: Vec<Entry>,
    pub refunds: BTreeMap<String, Refund>,
}

/// A hold at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub phase: Phase,
    /// When it ends by itself, once it is held.
    pub ends_us: Option<u64>,
    honored_until_us: Option<u64>,
}

impl Seen {
    fn begin(&mut self, hold: &Hold, at_us: u64) {
        self.phase = Phase::Held;
        self.ends_us = hold.lives_us.map(|lives_us| at_us + lives_us);
        self.honored_until_us = hold.honored_us.map(|honored_us| at_us + honored_us);
    }

    fn lapse(&mut self, now_us: u64) {
        if self.phase == Phase::Held && self.ends_us.is_some_and(|ends_us| ends_us <= now_us) {
            self.phase = Phase::Lapsed;
        }
    }
}

impl Hold {
    /// `None` before it arrives.
    pub fn seen(&self, now_us: u64) -> Option<Seen> {
        if now_us < self.arrives_us {
            return None;
        }
        let mut seen = Seen { phase: self.first, ends_us: None, honored_until_us: None };
        if self.first == Phase::Held {
            seen.begin(self, self.arrives_us);
        }
        for entry in self.entries.iter().filter(|entry| entry.at_us <= now_us && !entry.is_refused) {
            seen.lapse(entry.at_us);
            match (entry.act, seen.phase) {
                (Act::Payer(Phase::Held), phase) if phase.is_open() => seen.begin(self, entry.at_us),
                (Act::Payer(then), phase) if phase.is_open() => seen.phase = then,
                (Act::Close, phase) if phase.is_open() => seen.phase = Phase::Closed,
                (Act::Capture { amount }, Phase::Held) => seen.phase = Phase::Captured(amount),
                (Act::Release | Act::Close, Phase::Held) => seen.phase = Phase::Closed,
                (Act::Extend { until_us }, Phase::Held) => {
                    seen.ends_us = seen.ends_us.map(|ends_us| ends_us.max(until_us));
                    seen.honored_until_us = None;
                }
                _ => {}
            }
        }
        seen.lapse(now_us);
        Some(seen)
    }

    pub fn captured(&self, now_us: u64) -> Option<i64> {
        match self.seen(now_us)?.phase {
            Phase::Captured(amount) => Some(amount),
            _ => None,
        }
    }

    pub fn refunded(&self, now_us: u64) -> i64 {
        let done = self.refunds.values().filter(|refund| refund.state(now_us) == Some(Some(true)));
        done.map(|refund| refund.amount).sum()
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.as_deref() == Some(key))
    }

    fn add(&mut self, entry: Entry) {
        let place = self.entries.partition_point(|before| before.at_us <= entry.at_us);
        self.entries.insert(place, entry);
    }

    fn payer(&mut self, at_us: u64, then: Phase) {
        self.add(Entry { at_us, key: None, act: Act::Payer(then), is_refused: false });
    }
}

/// All holds, by the provider key of the request for them.
#[derive(Default)]
pub struct Holds {
    pub by_key: Mutex<BTreeMap<String, Hold>>,
    /// Keys under which something was sent for the first time.
    sent: Mutex<BTreeSet<String>>,
    /// Holds about which the provider is being asked.
    asked: Mutex<BTreeSet<String>>,
}

impl Holds {
    /// Payers who have not acted by now never will: the provider gives up waiting soon.
    pub fn settle_soon(&self, now_us: u64) {
        for hold in self.by_key.lock().values_mut() {
            if hold.seen(u64::MAX).is_some_and(|end| end.phase.is_open()) {
                let at_us = now_us.max(hold.arrives_us) + 5 * SECOND_US;
                hold.payer(at_us, Phase::Lapsed);
            }
        }
    }

    /// What holds must never be.
    pub fn check(&self, now_us: u64) -> Result<(), String> {
        let holds = self.by_key.lock();
        let mut orders = BTreeSet::new();
        for hold in holds.values() {
            let is_over = hold.seen(now_us).is_some_and(|seen| seen.phase.is_over());
            if !is_over && !orders.insert(&hold.order) {
                return Err(format!("money is, or may come to be, held twice for {}", hold.order));
            }
            if hold.refunded(now_us) > hold.captured(now_us).unwrap_or(0) {
                return Err(format!("more than was taken went back of {}", hold.reference));
            }
        }
        Ok(())
    }

    /// How many ran out between two moments.
    pub fn lapsed_between(&self, from_us: u64, to_us: u64) -> usize {
        let phase = |hold: &Hold, at_us| hold.seen(at_us).map(|seen| seen.phase);
        let holds = self.by_key.lock();
        let lapsed =
            |hold: &&Hold| phase(hold, from_us) == Some(Phase::Held) && phase(hold, to_us) == Some(Phase::Lapsed);
        holds.values().filter(lapsed).count()
    }
}

/// One question about a hold at a time.
struct Asking<'a> {
    world: &'a World,
    key: &'a str,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.world.ledger.holds.asked.lock().remove(self.key);
    }
}

/// What is asked of the provider about a hold.
pub struct Operation<'a> {
    pub hold: &'a AuthorizeRequest,
    pub key: &'a str,
    pub sent: &'a Sent,
    pub act: Act,
}

fn declined() -> Failure {
    Failure::new("card_declined", "Declined.", DeclineScope::Bank)
}

fn unreachable() -> Failure {
    Failure::new("unreachable", "Not reached.", DeclineScope::Processor)
}

impl SimChannel {
    fn begin<'a>(&'a self, hold: &'a AuthorizeRequest) -> Asking<'a> {
        let key = hold.provider_key.as_str();
        if !self.world.ledger.holds.asked.lock().insert(key.to_owned()) {
            self.world.violate(format!("{} is asked about twice at once", hold.reference));
        }
        Asking { world: &self.world, key }
    }

    fn note_first(&self, key: &str, reference: &str) {
        if !self.world.ledger.holds.sent.lock().insert(key.to_owned()) {
            self.world.violate(format!("{key} of {reference} is sent for the first time once more"));
        }
    }

    fn seen(&self, hold: &AuthorizeRequest) -> Option<Seen> {
        let now_us = self.world.now_us();
        self.world.ledger.holds.by_key.lock().get(&hold.provider_key).and_then(|hold| hold.seen(now_us))
    }

    /// What becomes of a hold, and what its payer does.
    fn draw_hold(&self, request: &AuthorizeRequest, arrives_us: u64) -> Hold {
        let dice = self.dice();
        let has_token = request.payment_token.is_some();
        let lives_us = dice.chance(40).then(|| dice.between(20, 200) * SECOND_US);
        let honored_us = dice.chance(15).then(|| dice.between(2, 40) * SECOND_US);
        let mut hold = Hold {
            reference: request.reference.clone(),
            order: request.description.clone().unwrap_or_default(),
            amount: request.money.amount_minor,
            channel: self.name(),
            arrives_us,
            first: Phase::Method { was_refused: false },
            lives_us,
            honored_us,
            entries: Vec::new(),
            refunds: BTreeMap::new(),
        };
        let later = |low, high| arrives_us + dice.between(low, high) * SECOND_US;
        match dice.below(100) {
            0..=56 if has_token => hold.first = Phase::Held,
            57..=62 if has_token => hold.first = Phase::Declined,
            63..=68 if has_token => {
                hold.first = Phase::Method { was_refused: true };
                if dice.chance(50) {
                    hold.payer(later(2, 60), Phase::Held);
                }
            }
            69..=78 if has_token => {
                hold.first = Phase::Processing;
                hold.payer(later(1, 60), if dice.chance(80) { Phase::Held } else { Phase::Declined });
            }
            0..=84 => {
                if has_token || dice.chance(30) {
                    hold.first = Phase::Action;
                }
                hold.payer(later(1, 40), Phase::Action);
                let then = match dice.below(10) {
                    0 => Phase::Method { was_refused: true },
                    1 => Phase::Closed,
                    _ => Phase::Held,
                };
                hold.payer(later(40, 60), then);
            }
            // The payer does nothing at all.
            _ if has_token => hold.first = Phase::Action,
            _ => {}
        }
        hold
    }

    /// The request takes effect then, unless the provider knows its key already.
    fn put_hold(&self, request: &AuthorizeRequest, arrives_us: u64) {
        let mut holds = self.world.ledger.holds.by_key.lock();
        if let Some(known) = holds.get_mut(&request.provider_key) {
            known.arrives_us = known.arrives_us.min(arrives_us);
            return;
        }
        let hold = self.draw_hold(request, arrives_us);
        holds.insert(request.provider_key.clone(), hold);
    }

    /// The operation takes effect then, unless the provider knows its key already.
    fn put_operation(&self, operation: &Operation<'_>, at_us: u64) {
        let Operation { hold: request, key, act, .. } = *operation;
        let is_refused = self.dice().chance(if act.moves_money() { 5 } else { 30 });
        let mut holds = self.world.ledger.holds.by_key.lock();
        let Some(hold) = holds.get_mut(&request.provider_key) else {
            drop(holds);
            return self.world.violate(format!("{act:?} of {}, which was never held", request.reference));
        };
        if let Some(place) = hold.entries.iter().position(|entry| entry.key.as_deref() == Some(key)) {
            if at_us < hold.entries[place].at_us {
                let entry = hold.entries.remove(place);
                hold.add(Entry { at_us, ..entry });
            }
            return;
        }
        let other = hold.entries.iter().find(|entry| entry.act.moves_money() && !entry.is_refused);
        let wrong = match (other, act) {
            (Some(other), _) => Some(format!("though {:?} was, or may be, done", other.act)),
            (None, Act::Capture { amount }) if !(1..=hold.amount).contains(&amount) => {
                Some(format!("of which {} is held", hold.amount))
            }
            _ => None,
        };
        hold.add(Entry { at_us, key: Some(key.to_owned()), act, is_refused });
        drop(holds);
        if let Some(wrong) = wrong {
            self.world.violate(format!("{act:?} of {} {wrong}", request.reference));
        }
    }

    fn close_hold(&self, request: &AuthorizeRequest) {
        let at_us = self.world.now_us();
        if let Some(hold) = self.world.ledger.holds.by_key.lock().get_mut(&request.provider_key) {
            hold.add(Entry { at_us, key: None, act: Act::Close, is_refused: false });
        }
    }

    fn told(&self, request: &AuthorizeRequest, seen: Seen) -> HoldAnswer {
        let url = format!("https://pay.example/{}", request.reference);
        let next_action = Some(NextAction::Redirect { url });
        let time = |at_us: Option<u64>| at_us.map(|at_us| self.world.true_time(at_us));
        let state = match seen.phase {
            Phase::Method { was_refused } => {
                HoldState::AwaitsMethod { failure: was_refused.then(declined), next_action, expires_at: None }
            }
            Phase::Action => HoldState::ActionRequired { next_action, expires_at: None },
            Phase::Processing => HoldState::Processing,
            Phase::Held => HoldState::Held {
                held_minor: request.money.amount_minor,
                expires_at: time(seen.ends_us),
                honor_until: time(seen.honored_until_us),
            },
            Phase::Captured(captured_minor) => HoldState::Captured { captured_minor, fee_minor: None },
            Phase::Closed => HoldState::Released { expired: false },
            Phase::Lapsed => HoldState::Released { expired: true },
            Phase::Declined => HoldState::Declined(declined()),
        };
        let named = |what: &str| Some(format!("{}_{what}_{}", self.name(), request.provider_key));
        let refs = ProviderRefs {
            channel_order_no: named("hold"),
            client_secret: seen.phase.is_open().then(|| format!("{}_secret", request.provider_key)),
            capture_no: matches!(seen.phase, Phase::Captured(_)).then(|| named("taken")).flatten(),
            ..ProviderRefs::default()
        };
        HoldAnswer { refs, ..HoldAnswer::bare(state) }
    }

    /// What the provider says of an operation that it knows. Nothing before that has arrived.
    fn outcome(&self, operation: &Operation<'_>) -> HoldAnswer {
        let Operation { hold: request, key, .. } = *operation;
        let now_us = self.world.now_us();
        let (seen, is_refused) = {
            let holds = self.world.ledger.holds.by_key.lock();
            let Some(hold) = holds.get(&request.provider_key) else { return HoldAnswer::unknown("no such hold") };
            let entry = hold.entry(key).filter(|entry| entry.at_us <= now_us);
            (hold.seen(now_us), entry.map(|entry| entry.is_refused))
        };
        let (Some(seen), Some(is_refused)) = (seen, is_refused) else {
            return HoldAnswer::unknown("it has not arrived");
        };
        let failure = Failure::new("not_possible", "Not possible.", DeclineScope::Processor);
        HoldAnswer { refused: is_refused.then_some(failure), ..self.told(request, seen) }
    }

    pub async fn authorize_money(&self, request: &AuthorizeRequest) -> HoldAnswer {
        let world = &self.world;
        world.step().await;
        let _asking = self.begin(request);
        self.note_first(&request.provider_key, &request.reference);
        if world.has_faults() && self.dice().chance(4) {
            world.trace(&format!("{} not reached for {}", self.name(), request.reference));
            return HoldAnswer::not_done(unreachable());
        }
        let fate = self.fate();
        if let Some(effect) = fate.effect {
            self.put_hold(request, world.now_us() + micros(effect));
        }
        world.trace(&format!("{} hold {} {}", self.name(), request.reference, request.provider_key));
        let Some(wait) = fate.answer else { return self.nothing_comes().await };
        tokio::time::sleep(wait).await;
        world.step().await;
        self.check();
        self.seen(request).map_or_else(|| HoldAnswer::unknown("no such hold"), |seen| self.told(request, seen))
    }

    async fn nothing_comes(&self) -> HoldAnswer {
        tokio::time::sleep(TIMEOUT).await;
        self.check();
        HoldAnswer::unknown("no answer")
    }

    pub async fn operate(&self, operation: Operation<'_>) -> HoldAnswer {
        let world = &self.world;
        world.step().await;
        let _asking = self.begin(operation.hold);
        if !operation.sent.is_first {
            return self.operate_again(&operation).await;
        }
        let Operation { hold: request, key, act, .. } = operation;
        self.note_first(key, &request.reference);
        if world.has_faults() && self.dice().chance(4) {
            world.trace(&format!("{} not reached for {act:?} of {}", self.name(), request.reference));
            return HoldAnswer::refused(HoldState::Unknown { reason: "not reached".to_owned() }, unreachable());
        }
        let fate = self.fate();
        if let Some(effect) = fate.effect {
            self.put_operation(&operation, world.now_us() + micros(effect));
        }
        world.trace(&format!("{} {act:?} of {} {key}", self.name(), request.reference));
        let Some(wait) = fate.answer else { return self.nothing_comes().await };
        tokio::time::sleep(wait).await;
        world.step().await;
        self.check();
        self.outcome(&operation)
    }

    /// The same is sent once more, or it is looked what came of it: whichever is safe.
    async fn operate_again(&self, operation: &Operation<'_>) -> HoldAnswer {
        let world = &self.world;
        let Operation { hold: request, key, act, sent } = operation;
        tokio::time::sleep(self.latency()).await;
        world.step().await;
        self.check();
        let is_known = {
            let holds = world.ledger.holds.by_key.lock();
            let entry = holds.get(&request.provider_key).and_then(|hold| hold.entry(key));
            entry.is_some_and(|entry| entry.at_us <= world.now_us())
        };
        world.trace(&format!("{} {act:?} of {} again, known: {is_known}", self.name(), request.reference));
        if world.has_faults() && self.dice().chance(10) {
            return HoldAnswer::unknown("the provider is busy");
        }
        if !is_known && sent.is_settled() {
            let failure = Failure::new("not_received", "It never arrived.", DeclineScope::Processor);
            let seen = self.seen(request);
            let answer = seen.map_or_else(|| HoldAnswer::unknown("no such hold"), |seen| self.told(request, seen));
            return HoldAnswer { refused: Some(failure), ..answer };
        }
        if self.dice().chance(60) {
            self.put_operation(operation, world.now_us());
            self.check();
            if world.has_faults() && self.dice().chance(10) {
                return HoldAnswer::unknown("the answer is lost");
            }
        }
        self.outcome(operation)
    }

    pub async fn ask_about_hold(&self, question: &HoldQuestion) -> HoldAnswer {
        let world = &self.world;
        world.step().await;
        let request = &question.hold;
        let _asking = self.begin(request);
        let latency = self.latency();
        let is_stale = world.has_faults() && self.dice().chance(10) && !question.close;
        let before = self.seen(request).filter(|seen| seen.phase.is_open() && is_stale);
        tokio::time::sleep(latency).await;
        world.step().await;
        self.check();
        if world.has_faults() && self.dice().chance(10) {
            return HoldAnswer::unknown("the provider is busy");
        }
        // An answer that was overtaken: it was so when the question arrived.
        let seen = self.seen(request).map(|seen| before.unwrap_or(seen));
        let phase = seen.map(|seen| seen.phase);
        world.trace(&format!(
            "{} asked about {} close={} -> {phase:?}",
            self.name(),
            request.reference,
            question.close
        ));
        match seen {
            Some(seen) if question.close && (seen.phase.is_open() || seen.phase == Phase::Held) => {
                if world.has_faults() && self.dice().chance(20) {
                    return HoldAnswer::unknown("it can't be closed now");
                }
                self.close_hold(request);
                self.told(request, Seen { phase: Phase::Closed, ..seen })
            }
            Some(seen) => self.told(request, seen),
            None if question.is_settled() => {
                HoldAnswer::not_done(Failure::new("never_arrived", "It never arrived.", DeclineScope::Processor))
            }
            None if !question.close && self.dice().chance(30) => {
                // Repeating it with the same key is safe.
                self.put_hold(request, world.now_us());
                self.check();
                self.seen(request).map_or_else(|| HoldAnswer::unknown("?"), |seen| self.told(request, seen))
            }
            None => HoldAnswer::unknown("no such hold yet"),
        }
    }

    /// How much longer a hold lives that is held for longer.
    pub fn extension_us(&self) -> u64 {
        self.world.now_us() + micros(Duration::from_secs(self.dice().between(60, 200)))
    }
}
