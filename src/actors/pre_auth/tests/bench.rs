//! A store and a channel that do what a test says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::super::slot::ActorMessage;
use super::super::*;
use crate::clock::Clock;
use crate::domain::ids::ChannelName;
use crate::domain::money::{Currency, Money};
use crate::domain::outcome::{DeclineScope, Failure, HoldState};
use crate::domain::payment::ResolvePolicy;
use crate::domain::pre_auth::{Intent, OnExpiry, PreAuthTerms, Sending, begin, on_answer};
use crate::domain::refund::RefundStatus;
use crate::domain::routing::DecisionRecord;
use crate::domain::stray::StrayPolicy;

pub const START: Timestamp = Timestamp::from_unix_s(1_700_000_000);
pub const SETTINGS: PreAuthDirectorySettings = PreAuthDirectorySettings {
    active_max: 100,
    idle: Duration::from_secs(5),
    mailbox_max: 8,
    mailboxes_total_max: 400,
    refunds_max: 10,
};
const DAY: Duration = Duration::from_secs(86_400);

pub fn policy() -> PreAuthPolicy {
    PreAuthPolicy {
        resolve: ResolvePolicy {
            first: Duration::from_secs(1),
            early_max: Duration::from_secs(10),
            late_max: Duration::from_secs(600),
            needs_review_after: 3 * DAY,
            action_expires: DAY,
            abandoned_after: Duration::from_secs(60),
        },
        unconfirmed_expires: DAY,
        expiring_before: DAY / 4,
        on_expiry_before: DAY / 24,
        on_expiry: OnExpiry::Release,
        hold_valid: 7 * DAY,
        is_clock_believed: true,
        stray: StrayPolicy::Refund,
    }
}

pub fn failure() -> Failure {
    Failure::new("card_declined", "The card was declined.", DeclineScope::Bank)
}

pub fn number(number: usize) -> PreAuthId {
    PreAuthId {
        merchant_id: MerchantId::new("m_1"),
        pre_auth_no: PreAuthNo::new(format!("PA20231114221320000{number:06}")),
    }
}

/// The intent of a pre-auth over 10.00 that was not sent.
pub fn stored_with(no: usize) -> StoredPreAuth {
    let terms = PreAuthTerms {
        order_no: format!("O-{no}"),
        money: Money::new(1000, Currency::USD),
        country: None,
        method: None,
        requested_channel: None,
        payment_token: None,
        customer_email: None,
        customer_ip: None,
        description: None,
        metadata: BTreeMap::new(),
        return_url: None,
        reference: None,
    };
    let PreAuthId { merchant_id, pre_auth_no } = number(no);
    let channel = ChannelName::new("stripe");
    let decision = DecisionRecord::adopted(channel.clone(), Currency::USD);
    let provider_key = format!("tg_{no}");
    let intent = Intent { pre_auth_no, merchant_id, terms, channel, decision, provider_key };
    StoredPreAuth { pre_auth: begin(intent, &policy(), START).pre_auth, revision: 1 }
}

/// A pre-auth whose money is held.
pub fn held(no: usize) -> StoredPreAuth {
    let StoredPreAuth { pre_auth, revision } = stored_with(no);
    let answer = HoldAnswer::bare(HoldState::Held { held_minor: 1000, expires_at: None, honor_until: None });
    let pre_auth = on_answer(&pre_auth, 1, &answer, &policy(), START).unwrap().pre_auth;
    StoredPreAuth { pre_auth, revision }
}

/// A call that waits for its answer.
struct Asked {
    dispatch: Dispatch,
    operation: u32,
    answer: oneshot::Sender<Answered>,
}

/// What the works do.
pub struct Script {
    clock: Clock,
    rows: Mutex<BTreeMap<PreAuthNo, StoredPreAuth>>,
    failures: Mutex<(usize, Option<CommitError>)>,
    parts: Mutex<Vec<Option<ClientPart>>>,
    asked: Mutex<VecDeque<Asked>>,
    refunds: Mutex<i64>,
}

impl Script {
    pub fn row(&self, no: usize) -> PreAuth {
        self.rows.lock()[&number(no).pre_auth_no].pre_auth.clone()
    }

    pub fn add(&self, stored: StoredPreAuth) {
        self.rows.lock().insert(stored.pre_auth.pre_auth_no.clone(), stored);
    }

    /// Commits that were made.
    pub fn commits(&self) -> usize {
        self.parts.lock().len()
    }

    /// What of clients went into them.
    pub fn parts(&self) -> Vec<Option<ClientPart>> {
        self.parts.lock().clone()
    }

    pub fn fail_next(&self, times: usize, error: &CommitError) {
        *self.failures.lock() = (times, Some(error.clone()));
    }

    /// What the channel is being asked.
    pub fn asked(&self) -> Vec<(Sending, bool)> {
        self.asked.lock().iter().map(|asked| (asked.dispatch.what.clone(), asked.dispatch.is_first)).collect()
    }

    /// Answers the oldest call, about the hold.
    pub fn answer(&self, answer: HoldAnswer) {
        let asked = self.asked.lock().pop_front().unwrap();
        assert!(asked.answer.send(Answered::Hold { operation: asked.operation, answer: Box::new(answer) }).is_ok());
    }

    /// Answers the oldest call, about a refund.
    pub fn answer_refund(&self, answer: RefundAnswer) {
        let asked = self.asked.lock().pop_front().unwrap();
        let Sending::Refund(refund_no) = asked.dispatch.what else { panic!("{:?}", asked.dispatch) };
        assert!(asked.answer.send(Answered::Refund { refund_no, answer }).is_ok());
    }

    /// Has the oldest call break off.
    pub fn break_off(&self) {
        drop(self.asked.lock().pop_front().unwrap());
    }
}

impl PreAuthWorks for Script {
    fn load(&self, id: &PreAuthId) -> Result<Option<StoredPreAuth>, StoreError> {
        Ok(self.rows.lock().get(&id.pre_auth_no).cloned())
    }

    fn commit<'a>(
        &'a self,
        before: &'a StoredPreAuth,
        change: &'a Change,
        client: Option<(&'a mut dyn Client, ClientPart)>,
    ) -> BoxFuture<'a, Result<StoredPreAuth, CommitError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            {
                let mut failures = self.failures.lock();
                if let (1.., Some(error)) = &*failures {
                    let error = error.clone();
                    failures.0 -= 1;
                    return Err(error);
                }
            }
            let mut rows = self.rows.lock();
            let row = rows.get_mut(&change.pre_auth.pre_auth_no).unwrap();
            if row.revision != before.revision {
                return Err(CommitError::Precondition);
            }
            *row = StoredPreAuth { pre_auth: change.pre_auth.clone(), revision: row.revision + 1 };
            self.parts.lock().push(client.map(|(_, part)| part));
            Ok(row.clone())
        })
    }

    fn call(&self, pre_auth: &PreAuth, dispatch: &Dispatch) -> BoxFuture<'static, Answered> {
        let (answer, answered) = oneshot::channel();
        let operation = pre_auth.operation_number();
        self.asked.lock().push_back(Asked { dispatch: dispatch.clone(), operation, answer });
        Box::pin(async move { answered.await.unwrap() })
    }

    fn key(&self, pre_auth_no: &PreAuthNo, operation: &str, number: u32) -> String {
        format!("tg_{pre_auth_no}_{operation}_{number}")
    }

    fn refund(&self, _pre_auth: &PreAuth, amount_minor: i64, reason: Option<String>, now: Timestamp) -> Refund {
        let mut refunds = self.refunds.lock();
        *refunds += 1;
        Refund {
            refund_no: RefundNo::new(format!("RF{refunds}")),
            amount_minor,
            status: RefundStatus::Pending,
            reason,
            provider_key: format!("tg_refund_{refunds}"),
            channel_refund_no: None,
            failure: None,
            resolve_tries: 0,
            unanswered_at: None,
            known_at: None,
            created_at: now,
            updated_at: now,
        }
    }

    fn policy(&self, _pre_auth: &PreAuth) -> PreAuthPolicy {
        policy()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Somebody who waits.
pub struct Waiter(pub Option<oneshot::Sender<Told>>);

impl Client for Waiter {
    fn begin(&mut self, _batch: &mut Batch, _object_no: &str, _now: Timestamp) -> Result<Option<usize>, StoreError> {
        Ok(None)
    }

    fn begun(&mut self, _sequence: u64) {}

    fn answer(&mut self, _batch: &mut Batch, _pre_auth: &PreAuth, _now: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }

    fn tell(&mut self, told: Told) {
        // Whoever asked may be gone, but is told only once.
        let _ = self.0.take().unwrap().send(told);
    }
}

pub struct Bench {
    pub directory: PreAuthDirectory,
    pub script: Arc<Script>,
}

impl Bench {
    pub fn with(stored: StoredPreAuth) -> Self {
        let clock = Clock::virtual_from(START);
        let script = Arc::new(Script {
            clock: clock.clone(),
            rows: Mutex::default(),
            failures: Mutex::new((0, None)),
            parts: Mutex::default(),
            asked: Mutex::default(),
            refunds: Mutex::default(),
        });
        script.add(stored);
        let works: Arc<dyn PreAuthWorks> = Arc::clone(&script) as _;
        Self { directory: PreAuthDirectory::start(works, clock, SETTINGS), script }
    }

    pub fn send(&self, no: usize, message: PreAuthMessage) {
        self.directory.send(&number(no), message).unwrap();
    }

    pub fn begin(&self, no: usize, command: Command) -> oneshot::Receiver<Told> {
        let (tell, told) = oneshot::channel();
        self.send(no, PreAuthMessage::Begin { command, client: Box::new(Waiter(Some(tell))) });
        told
    }

    pub fn carry(&self, no: usize) -> oneshot::Receiver<Told> {
        let (tell, told) = oneshot::channel();
        self.send(no, PreAuthMessage::Carry { client: Box::new(Waiter(Some(tell))) });
        told
    }

    /// Makes the actor fail.
    pub fn fail(&self, no: usize) {
        let shared = self.directory.shared();
        let slot = Arc::clone(&shared.slots.get(&number(no)).unwrap());
        assert!(shared.post(&slot, ActorMessage::Fail, None).is_ok());
    }

    /// Waits until nobody has anything to do.
    pub async fn quiet(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
