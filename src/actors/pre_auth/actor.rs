//! The actor of one pre-auth.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::OwnedSemaphorePermit;

use crate::actors::pre_auth::clients::{Awaited, Unsettled, Waiting, take_met, take_those};
use crate::actors::pre_auth::directory::Shared;
use crate::actors::pre_auth::slot::{ActorMessage, Call, Counted, Slot};
use crate::actors::pre_auth::{
    Answered, Client, ClientPart, Command, CommitError, PreAuthMessage, StoredPreAuth, Told,
};
use crate::domain::outcome::{HoldAnswer, HoldState, RefundAnswer};
use crate::domain::pre_auth::{
    Alert, Change, Dispatch, OperationKind, PreAuth, PreAuthPolicy, PreAuthStatus, Rejection, ReleaseWhy, Sending,
    begin_capture, begin_refund, begin_release, on_due, on_hint, on_recovery,
};
use crate::domain::time::Timestamp;
use crate::storage::StoreError;
use crate::telemetry::trace::{self, Here};

/// How often a decision is made anew because somebody else has changed the row.
const CONFLICTS_MAX: usize = 8;
/// Wait before what the store had no room for is tried again; doubles.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long a due entry is left alone that could not be seen to.
const PAUSE: Duration = Duration::from_secs(1);

const CONFLICTS: StoreError = StoreError::Overloaded("others change the pre-auth all the time");
const BROKEN_OFF: &str = "the call broke off";

/// A message with its place in the mailbox.
pub(super) struct Mail {
    pub message: ActorMessage,
    pub counted: Counted,
    /// Where who sent it is.
    pub here: Here,
}

/// Room for a question to a channel, shared by the calls that one due entry leads to.
type Place = Arc<OwnedSemaphorePermit>;

/// See the module.
pub(super) struct PreAuthActor;

/// What an actor holds. What is not stored elsewhere is who waits.
pub(super) struct PreAuthState {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    number: u64,
    myself: ActorRef<Mail>,
    /// As it was read or written last; `None` when it has to be read.
    stored: Option<StoredPreAuth>,
    /// Whether what an earlier actor left behind was looked for.
    is_recovered: bool,
    waiting: Vec<Waiting>,
    /// What its channel is asked when it has answered what it is being asked.
    next: Option<Dispatch>,
    unsettled: Vec<Unsettled>,
    retry_wait: Duration,
    retries: bool,
    /// Whether it ends because it is to.
    has_left: bool,
}

impl Actor for PreAuthActor {
    type Msg = Mail;
    type State = PreAuthState;
    type Arguments = (Arc<Shared>, Arc<Slot>, u64);

    async fn pre_start(
        &self,
        myself: ActorRef<Mail>,
        (shared, slot, number): Self::Arguments,
    ) -> Result<PreAuthState, ActorProcessingErr> {
        Ok(PreAuthState {
            shared,
            slot,
            number,
            myself,
            stored: None,
            is_recovered: false,
            waiting: Vec::new(),
            next: None,
            unsettled: Vec::new(),
            retry_wait: RETRY_FIRST,
            retries: false,
            has_left: false,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Mail>,
        mail: Mail,
        state: &mut PreAuthState,
    ) -> Result<(), ActorProcessingErr> {
        let Mail { message, counted, here } = mail;
        here.scope(state.react(message, counted)).await;
        Ok(())
    }
}

impl Drop for PreAuthState {
    fn drop(&mut self) {
        if self.has_left || self.shared.is_stopping() {
            return;
        }
        tracing::error!(
            pre_auth_no = %self.slot.id.pre_auth_no,
            waiting = self.waiting.len(),
            unstored = self.unsettled.len(),
            "a pre-auth's actor failed; what is open is looked at again when it is due"
        );
        self.slot.lost(self.number);
    }
}

impl PreAuthState {
    /// Does what a message says.
    async fn react(&mut self, message: ActorMessage, counted: Counted) {
        match message {
            ActorMessage::Outer(PreAuthMessage::Begin { command: Command::Refresh, client }) => {
                self.refresh(client, counted).await;
            }
            ActorMessage::Outer(PreAuthMessage::Begin { command, client }) => {
                self.begin(&command, client, counted).await;
            }
            ActorMessage::Outer(PreAuthMessage::Carry { client }) => self.carry(client, counted).await,
            ActorMessage::Outer(PreAuthMessage::Due { at, place }) => self.due(at, place).await,
            ActorMessage::Outer(PreAuthMessage::Hint) => self.hint().await,
            ActorMessage::Outer(PreAuthMessage::Reread) => self.stored = None,
            ActorMessage::Answered { call, asked, answered } => {
                self.take_in(call, asked, answered.map(|answered| *answered)).await
            }
            ActorMessage::Retry => self.retry().await,
            ActorMessage::Leave => {
                if self.has_nothing_to_do() && self.slot.close(1) {
                    self.has_left = true;
                    self.shared.forget(&self.slot);
                    self.myself.stop(None);
                }
                return;
            }
            #[cfg(test)]
            ActorMessage::Fail => panic!("told to fail"),
        }
        self.answer_those_left_over().await;
        self.retry_later();
    }

    /// Takes out what is known, which is read if need be.
    fn take_stored(&mut self) -> Result<StoredPreAuth, StoreError> {
        match self.stored.take() {
            Some(stored) => Ok(stored),
            None => self
                .shared
                .works
                .load(&self.slot.id)?
                .ok_or_else(|| StoreError::Invalid(format!("there is no pre-auth {}", self.slot.id.pre_auth_no))),
        }
    }

    /// Has it read, and takes over what an earlier actor or process left without anybody who waits for its answer.
    async fn ready(&mut self) -> Result<(), StoreError> {
        self.stored = Some(self.take_stored()?);
        if self.is_recovered || self.slot.has_hold_call() {
            return Ok(());
        }
        self.change(None, on_recovery).await?;
        self.is_recovered = true;
        Ok(())
    }

    /// Makes durable what `decide` says about it now, and sends what follows.
    async fn change(
        &mut self,
        place: Option<Place>,
        decide: impl Fn(&PreAuth, &PreAuthPolicy, Timestamp) -> Option<Change> + Send,
    ) -> Result<(), StoreError> {
        for _ in 0..CONFLICTS_MAX {
            let before = self.take_stored()?;
            let (policy, now) = self.policy_now(&before);
            let Some(change) = decide(&before.pre_auth, &policy, now) else {
                self.stored = Some(before);
                return Ok(());
            };
            let stored = match change.pre_auth == before.pre_auth {
                true => before,
                false => match self.shared.works.commit(&before, &change, None).await {
                    Ok(stored) => stored,
                    Err(CommitError::Precondition | CommitError::InProgress) => continue,
                    Err(CommitError::Store(error)) => return Err(self.not_stored(error)),
                },
            };
            self.follow(stored, change, place);
            return Ok(());
        }
        Err(CONFLICTS)
    }

    fn policy_now(&self, stored: &StoredPreAuth) -> (PreAuthPolicy, Timestamp) {
        (self.shared.works.policy(&stored.pre_auth), self.shared.works.now())
    }

    /// Whether something was stored is perhaps not known: it is read again, and what is open then was not sent.
    fn not_stored(&mut self, error: StoreError) -> StoreError {
        self.is_recovered = false;
        error
    }

    /// What follows once a change is durable.
    fn follow(&mut self, stored: StoredPreAuth, change: Change, place: Option<Place>) {
        let pre_auth_no = &self.slot.id.pre_auth_no;
        for alert in &change.alerts {
            match alert {
                Alert::Stray { kind, received_minor } => {
                    let kind = kind.as_str();
                    tracing::error!(%pre_auth_no, kind, received_minor, "money came for a pre-auth that is over");
                }
                Alert::NeedsReview => tracing::error!(%pre_auth_no, "a person has to look at a pre-auth"),
            }
        }
        self.stored = Some(stored);
        for dispatch in change.send {
            self.send(dispatch, place.clone());
        }
    }

    /// Has the channel asked; later, when it is being asked about the hold.
    fn send(&mut self, dispatch: Dispatch, place: Option<Place>) {
        let refund_no = match &dispatch.what {
            Sending::Refund(refund_no) => Some(refund_no),
            _ => None,
        };
        let is_refund = refund_no.is_some();
        match self.slot.call(refund_no) {
            Some(call) => self.start(call, &dispatch, place),
            // A refund that is being asked about is asked about.
            None if is_refund => {}
            None => self.next = Some(which_next(self.next.take(), dispatch)),
        }
    }

    /// Asks the channel, in a task of its own.
    fn start(&self, call: Call, dispatch: &Dispatch, place: Option<Place>) {
        let Some(stored) = self.stored.as_ref().filter(|_| !self.shared.is_stopping()) else { return };
        let asked = Asked {
            operation: stored.pre_auth.operation_number(),
            closes: dispatch.what == Sending::Ask { close: true },
        };
        let answering = self.shared.works.call(&stored.pre_auth, dispatch);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(trace::in_current(async move {
            let answered = AssertUnwindSafe(answering).catch_unwind().await.ok();
            drop(place);
            let slot = Arc::clone(call.slot());
            // Nobody takes it once everything was stopped; then the next process asks.
            let _ = shared.post(&slot, ActorMessage::Answered { call, asked, answered: answered.map(Box::new) }, None);
        }));
    }

    /// Does what somebody wants, unless it is not possible.
    async fn begin(&mut self, command: &Command, mut client: Box<dyn Client>, counted: Counted) {
        if let Err(error) = self.ready().await {
            client.tell(Told::Failed(error));
            return;
        }
        for _ in 0..CONFLICTS_MAX {
            let before = match self.take_stored() {
                Ok(before) => before,
                Err(error) => return client.tell(Told::Failed(error)),
            };
            let (policy, now) = self.policy_now(&before);
            let change = match self.decide(&before.pre_auth, command, &policy, now) {
                Ok(change) => change,
                Err(rejection) => {
                    self.stored = Some(before);
                    return client.tell(Told::Rejected(rejection));
                }
            };
            let awaited = Awaited::of(&change.send, change.pre_auth.operation_number());
            let part = if awaited.is_some() { ClientPart::Begin } else { ClientPart::Both };
            match self.shared.works.commit(&before, &change, Some((client.as_mut(), part))).await {
                Ok(stored) => {
                    match awaited {
                        Some(awaited) => self.waiting.push(Waiting::new(awaited, client, counted)),
                        None => client.tell(Told::Now(stored.pre_auth.clone())),
                    }
                    return self.follow(stored, change, None);
                }
                Err(CommitError::Precondition) => {}
                Err(CommitError::InProgress) => {
                    self.stored = Some(before);
                    return client.tell(Told::InProgress);
                }
                Err(CommitError::Store(error)) => {
                    let error = self.not_stored(error);
                    return client.tell(Told::Failed(error));
                }
            }
        }
        client.tell(Told::Failed(CONFLICTS));
    }

    fn decide(
        &self,
        before: &PreAuth,
        command: &Command,
        policy: &PreAuthPolicy,
        now: Timestamp,
    ) -> Result<Change, Rejection> {
        let works = &self.shared.works;
        let key = |kind: OperationKind| works.key(&before.pre_auth_no, kind.as_str(), before.next_operation_number());
        match command {
            Command::Capture { amount } => {
                let key = key(OperationKind::Capture { money_minor: 0 });
                begin_capture(before, *amount, key, policy, now)
            }
            Command::Cancel { reason } => {
                let why = ReleaseWhy::Merchant { reason: reason.clone() };
                let key = key(OperationKind::Release { why: why.clone() });
                begin_release(before, why, key, policy, now)
            }
            Command::Refund { amount, reason } => {
                let amount_minor = amount.unwrap_or_else(|| before.refundable_minor());
                let refund = works.refund(before, amount_minor, reason.clone(), now);
                begin_refund(before, refund, self.shared.settings.refunds_max, policy, now)
            }
            Command::Refresh => Ok(Change::nothing(before)),
        }
    }

    /// Sends the hold whose intent was stored just now.
    async fn carry(&mut self, mut client: Box<dyn Client>, counted: Counted) {
        let stored = match self.take_stored() {
            Ok(stored) => stored,
            Err(error) => return client.tell(Told::Failed(error)),
        };
        let operation = stored.pre_auth.operation_number();
        let is_new = stored
            .pre_auth
            .operation
            .as_ref()
            .is_some_and(|operation| operation.kind == OperationKind::Authorize && !operation.had_answer());
        self.stored = Some(stored);
        // Somebody who was faster has found it left behind: then it is being asked about.
        self.is_recovered = true;
        self.waiting.push(Waiting::new(Awaited::Hold { operation, close: false }, client, counted));
        if is_new && !self.slot.has_hold_call() {
            self.send(Dispatch { what: Sending::Authorize, is_first: true }, None);
        }
    }

    async fn refresh(&mut self, mut client: Box<dyn Client>, counted: Counted) {
        let asked = match self.ready().await {
            Ok(()) => self.change(None, on_hint).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(()) => self.waiting.push(Waiting::new(Awaited::Look, client, counted)),
            Err(error) => client.tell(Told::Failed(error)),
        }
    }

    async fn hint(&mut self) {
        let asked = match self.ready().await {
            Ok(()) => self.change(None, on_hint).await,
            Err(error) => Err(error),
        };
        if let Err(error) = asked {
            tracing::warn!(pre_auth_no = %self.slot.id.pre_auth_no, %error, "a hint could not be followed");
        }
    }

    async fn due(&mut self, at: Timestamp, place: OwnedSemaphorePermit) {
        let place = Arc::new(place);
        if let Err(error) = self.see_to(at, &place).await {
            let pre_auth_no = &self.slot.id.pre_auth_no;
            tracing::warn!(%pre_auth_no, %error, "a pre-auth could not be looked after; it will be tried again");
            // The due entry still stands; without a pause a failing store would be asked in a tight loop.
            tokio::spawn(async move {
                tokio::time::sleep(PAUSE).await;
                drop(place);
            });
        }
    }

    async fn see_to(&mut self, at: Timestamp, place: &Place) -> Result<(), StoreError> {
        self.ready().await?;
        let due_at = self.stored.as_ref().and_then(|stored| stored.pre_auth.due_at);
        if due_at != Some(at) || self.slot.has_hold_call() {
            return Ok(());
        }
        let works = Arc::clone(&self.shared.works);
        let decide = move |pre_auth: &PreAuth, policy: &PreAuthPolicy, now: Timestamp| {
            on_due(pre_auth, policy, now, |kind, number| works.key(&pre_auth.pre_auth_no, kind, number))
        };
        self.change(Some(Arc::clone(place)), decide).await
    }

    /// Takes what the channel answered.
    async fn take_in(&mut self, call: Call, asked: Asked, answered: Option<Answered>) {
        self.slot.used(self.shared.clock.monotonic());
        let answered = answered.unwrap_or_else(|| match &call.refund_no {
            Some(refund_no) => {
                let answer = RefundAnswer::unknown(BROKEN_OFF);
                Answered::Refund { refund_no: refund_no.clone(), answer }
            }
            None => Answered::Hold { operation: asked.operation, answer: Box::new(HoldAnswer::unknown(BROKEN_OFF)) },
        });
        let is_silent = says_nothing(&answered);
        let met = take_met(&mut self.waiting, &answered, asked.closes);
        // Whoever only looks wants to know that, too.
        let (in_vain, met): (Vec<_>, Vec<_>) =
            met.into_iter().partition(|met| is_silent && met.awaited == Awaited::Look);
        let mut met = met.into_iter();
        self.settle(Unsettled::new(Some(answered), met.next(), Some(call))).await;
        for waiting in met {
            self.settle(Unsettled::new(None, Some(waiting), None)).await;
        }
        for mut waiting in in_vain {
            waiting.client.tell(Told::Unanswered);
        }
    }

    /// Stores an answer and tells who waits for it. When it can't be stored now, it is kept and tried again.
    async fn settle(&mut self, mut unsettled: Unsettled) {
        match self.try_settle(&mut unsettled).await {
            Ok((stored, change)) => {
                // From here on the channel may be asked again.
                drop(unsettled);
                self.follow(stored, change, None);
                self.send_next();
            }
            Err(error @ StoreError::Poisoned(_)) => unsettled.tell(Told::Failed(error)),
            Err(error) => {
                let pre_auth_no = &self.slot.id.pre_auth_no;
                tracing::warn!(%pre_auth_no, %error, "an answer could not be stored yet; it is tried again");
                if let Some(stands) = unsettled.stands.take() {
                    // A store that does not say whether it has it is going to fail: nothing said now would be kept.
                    let told = match error {
                        StoreError::Overloaded(_) => Told::NotStored(stands),
                        error => Told::Failed(error),
                    };
                    unsettled.tell(told);
                }
                self.unsettled.push(unsettled);
            }
        }
    }

    async fn try_settle(&mut self, unsettled: &mut Unsettled) -> Result<(StoredPreAuth, Change), StoreError> {
        for _ in 0..CONFLICTS_MAX {
            let before = self.take_stored()?;
            let (policy, now) = self.policy_now(&before);
            let Some(change) = unsettled.decide(&*self.shared.works, &before.pre_auth, &policy, now) else {
                unsettled.tell(Told::Now(before.pre_auth.clone()));
                let nothing = Change::nothing(&before.pre_auth);
                return Ok((before, nothing));
            };
            let client = unsettled.client().map(|client| (client.as_mut() as &mut dyn Client, ClientPart::Answer));
            match self.shared.works.commit(&before, &change, client).await {
                Ok(stored) => {
                    unsettled.tell(Told::Now(stored.pre_auth.clone()));
                    return Ok((stored, change));
                }
                Err(CommitError::Precondition) => {}
                Err(CommitError::InProgress) => unsettled.keep(),
                Err(CommitError::Store(error)) => {
                    unsettled.stands = Some(change.pre_auth);
                    return Err(error);
                }
            }
        }
        Err(CONFLICTS)
    }

    /// Asks what was to be asked next, if that still is to be known.
    fn send_next(&mut self) {
        let Some(stored) = &self.stored else { return };
        if let Some(dispatch) = self.next.take()
            && is_wanted(&stored.pre_auth, &dispatch)
        {
            self.send(dispatch, None);
        }
    }

    async fn retry(&mut self) {
        self.retries = false;
        for unsettled in std::mem::take(&mut self.unsettled) {
            self.settle(unsettled).await;
        }
        self.retry_wait = if self.unsettled.is_empty() { RETRY_FIRST } else { (self.retry_wait * 2).min(RETRY_MAX) };
    }

    fn retry_later(&mut self) {
        if self.unsettled.is_empty() || self.retries {
            return;
        }
        self.retries = true;
        let slot = Arc::clone(&self.slot);
        let retry =
            move || Mail { message: ActorMessage::Retry, counted: Counted::one(&slot, None), here: Here::default() };
        drop(self.myself.send_after(self.retry_wait, retry));
    }

    /// Answers those whose answer nobody is going to bring: what they wait for has ended, or is not asked for.
    async fn answer_those_left_over(&mut self) {
        let open = self.stored.as_ref().map(|stored| stored.pre_auth.operation_number());
        let slot = Arc::clone(&self.slot);
        let is_asked = slot.has_hold_call();
        let left_over = take_those(&mut self.waiting, |awaited| match awaited {
            Awaited::Hold { operation, .. } => !is_asked || open.is_some_and(|open| open != *operation),
            Awaited::Refund(refund_no) => !slot.has_refund_call(refund_no),
            Awaited::Look => !is_asked,
        });
        for waiting in left_over {
            self.settle(Unsettled::new(None, Some(waiting), None)).await;
        }
    }

    fn has_nothing_to_do(&self) -> bool {
        self.waiting.is_empty() && self.unsettled.is_empty() && self.next.is_none()
    }
}

/// What a call asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The operation that was open.
    operation: u32,
    /// Whether the provider's object was to be closed.
    closes: bool,
}

/// Whether an answer about the hold is none.
fn says_nothing(answered: &Answered) -> bool {
    matches!(answered, Answered::Hold { answer, .. } if matches!(answer.state, HoldState::Unknown { .. }))
}

/// Which of two is asked next. What was never sent is never left out, and closing asks, too.
fn which_next(known: Option<Dispatch>, new: Dispatch) -> Dispatch {
    match known {
        Some(known) if known.is_first => known,
        Some(known) if known.what == Sending::Ask { close: true } && !new.is_first => known,
        _ => new,
    }
}

/// Whether a question still is one.
fn is_wanted(pre_auth: &PreAuth, dispatch: &Dispatch) -> bool {
    let kind = pre_auth.operation.as_ref().map(|operation| &operation.kind);
    match dispatch.what {
        Sending::Ask { close } => {
            let asks = matches!(kind, None | Some(OperationKind::Authorize));
            asks && pre_auth.status != PreAuthStatus::NeedsReview && (!close || pre_auth.closing.is_some())
        }
        Sending::Authorize => matches!(kind, Some(OperationKind::Authorize)),
        Sending::Capture => matches!(kind, Some(OperationKind::Capture { .. })),
        Sending::Release => matches!(kind, Some(OperationKind::Release { .. })),
        Sending::Extend => matches!(kind, Some(OperationKind::Extend)),
        Sending::Refund(_) => true,
    }
}
