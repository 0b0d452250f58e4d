//! Who waits for what becomes of a pre-auth: what is answered, under which idempotency key it is kept, and to whom it goes.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::actors::merchant::{IdempotencyClaim, Permit};
use crate::actors::pre_auth::{Client, Told};
use crate::domain::pre_auth::{PreAuth, Rejection};
use crate::domain::time::Timestamp;
use crate::gateway::answer::{Answered, Renderer, Reply, StoredAnswer};
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::{IdempotencyKey, Origin, Reservation, Slot};
use crate::gateway::pre_auths::rows;
use crate::gateway::pre_auths::views::{self, Form};
use crate::gateway::told::Telling;
use crate::storage::{Batch, StoreError};

/// What a client has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A pre-auth.
    Create(Form),
    /// Its capture.
    Capture(Form),
    /// Its end.
    Cancel(Form),
    /// Money back.
    Refund,
}

impl Asked {
    /// What is answered; `object_no` is the number of the refund, or else of the pre-auth.
    pub(super) fn reply(self, pre_auth: &PreAuth, object_no: &str, livemode: bool) -> Result<Reply, GatewayError> {
        Ok(match self {
            Self::Create(form) => views::created_reply(pre_auth, form, livemode),
            Self::Capture(form) => views::captured_reply(pre_auth, form, livemode),
            Self::Cancel(form) => views::canceled_reply(pre_auth, form, livemode),
            Self::Refund => views::refund_reply(pre_auth, object_no, livemode)?,
        })
    }
}

/// Where the answer will be kept.
enum Kept {
    /// Under a key that is about to be used.
    Reserved(Reservation),
    /// Under a key that stands for what has begun, or nowhere.
    Begun(Option<Slot>),
}

/// A client that waits for its answer.
pub(super) struct WaitingClient {
    core: Core,
    asked: Asked,
    object_no: String,
    kept: Kept,
    renderer: Renderer,
    answer: Option<StoredAnswer>,
    /// Has the answer ready for repetitions until it is stored.
    telling: Option<Telling>,
    /// Keeps repetitions out until the answer is stored.
    _claim: Option<IdempotencyClaim>,
    /// In flight until it is answered.
    permit: Option<Arc<Permit>>,
    waiting: Option<oneshot::Sender<Result<Answered, GatewayError>>>,
}

/// What comes back to who sent a request.
pub(super) struct Awaited {
    /// The answer.
    pub(super) answered: oneshot::Receiver<Result<Answered, GatewayError>>,
    /// The request's key, to look for an answer when none comes.
    pub(super) key: Option<IdempotencyKey>,
    /// Makes the bytes of an answer.
    pub(super) renderer: Renderer,
}

impl WaitingClient {
    /// Whoever sent a request about the pre-auth with this number. The answer comes from what is returned beside it.
    pub(super) fn new(
        core: &Core,
        asked: Asked,
        pre_auth_no: &str,
        reservation: Reservation,
        origin: Origin,
    ) -> (Self, Awaited) {
        let (waiting, answered) = oneshot::channel();
        let Origin { idempotency: key, claim, permit, renderer } = origin;
        let awaited = Awaited { answered, key, renderer: Arc::clone(&renderer) };
        let client = Self {
            core: core.clone(),
            asked,
            object_no: pre_auth_no.to_owned(),
            kept: Kept::Reserved(reservation),
            renderer,
            answer: None,
            telling: None,
            _claim: claim,
            permit,
            waiting: Some(waiting),
        };
        (client, awaited)
    }

    /// The same bytes however often it is called, once somebody was told them.
    fn answer_about(&mut self, pre_auth: &PreAuth) -> Result<StoredAnswer, GatewayError> {
        if let Some(answer) = &self.answer {
            return Ok(answer.clone());
        }
        let reply = self.asked.reply(pre_auth, &self.object_no, self.core.livemode())?;
        Ok(self.answer.insert((self.renderer)(&reply)).clone())
    }

    /// Nobody is told what is not stored: it is answered as what is, which something is still open in.
    fn answer_unstored(&mut self, decided: &PreAuth) -> Result<StoredAnswer, GatewayError> {
        self.answer = None;
        let stored = rows::read(&self.core, &decided.merchant_id, &decided.pre_auth_no)?.pre_auth;
        let answer = self.answer_about(&stored)?;
        if let Kept::Begun(Some(slot)) = &self.kept {
            self.telling = Some(slot.tell(&self.core, &answer));
        }
        Ok(answer)
    }

    /// What is stored already has the word.
    fn kept_answer(&self) -> Result<Option<StoredAnswer>, GatewayError> {
        match &self.kept {
            Kept::Begun(Some(slot)) => slot.kept_answer(&self.core),
            Kept::Begun(None) | Kept::Reserved(_) => Ok(None),
        }
    }

    fn send(&mut self, outcome: Result<Answered, GatewayError>) {
        self.permit = None;
        if let Some(waiting) = self.waiting.take() {
            // A client that went away hears nothing; what it asked for is done all the same.
            let _ = waiting.send(outcome);
        }
    }
}

impl Client for WaitingClient {
    fn begin(&mut self, batch: &mut Batch, object_no: &str, now: Timestamp) -> Result<Option<usize>, StoreError> {
        object_no.clone_into(&mut self.object_no);
        match &self.kept {
            Kept::Reserved(reservation) => reservation.begin(batch, object_no, now).map_err(as_store_error),
            Kept::Begun(_) => Ok(None),
        }
    }

    fn begun(&mut self, sequence: u64) {
        if let Kept::Reserved(reservation) = &mut self.kept {
            self.kept = Kept::Begun(std::mem::take(reservation).committed(sequence));
        }
    }

    fn answer(&mut self, batch: &mut Batch, pre_auth: &PreAuth, now: Timestamp) -> Result<(), StoreError> {
        if self.waiting.is_some() {
            // Nobody was told anything yet: what a commit that failed would have said is not so.
            self.answer = None;
        }
        let answer = self.answer_about(pre_auth).map_err(as_store_error)?;
        match &self.kept {
            Kept::Reserved(reservation) => reservation.answer(batch, &self.object_no, &answer, now).map(drop),
            Kept::Begun(Some(slot)) => slot.answer(batch, &self.object_no, &answer, now),
            Kept::Begun(None) => Ok(()),
        }
        .map_err(as_store_error)
    }

    fn tell(&mut self, told: Told) {
        let outcome = match told {
            Told::Now(pre_auth) => self.kept_answer().and_then(|kept| match kept {
                Some(kept) => Ok(kept),
                None => self.answer_about(&pre_auth),
            }),
            Told::NotStored(pre_auth) => self.answer_unstored(&pre_auth),
            Told::Rejected(rejection) => Err(rejected(rejection)),
            Told::InProgress => Err(GatewayError::IdempotencyInProgress),
            // Only who looks is told that.
            Told::Unanswered => Err(GatewayError::Internal("there is no answer to a request".to_owned())),
            Told::Failed(error) => Err(error.into()),
        };
        self.send(outcome.map(|answer| Answered { answer, replayed: false }));
    }
}

/// What an onlooker has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// What its channel says is stored, or it can't be asked.
    Known,
    /// Its channel gave no answer, or that is not stored yet.
    NotKnown,
}

/// Somebody who wants to know where it stands when its channel has been asked.
pub(super) struct Onlooker(Option<oneshot::Sender<Result<Seen, GatewayError>>>);

impl Onlooker {
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<Seen, GatewayError>>) {
        let (waiting, seen) = oneshot::channel();
        (Self(Some(waiting)), seen)
    }
}

impl Client for Onlooker {
    fn begin(&mut self, _: &mut Batch, _: &str, _: Timestamp) -> Result<Option<usize>, StoreError> {
        Ok(None)
    }

    fn begun(&mut self, _: u64) {}

    fn answer(&mut self, _: &mut Batch, _: &PreAuth, _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }

    fn tell(&mut self, told: Told) {
        let outcome = match told {
            // What can't be asked about now is as it is stored.
            Told::Now(_) | Told::Rejected(_) | Told::InProgress => Ok(Seen::Known),
            Told::NotStored(_) | Told::Unanswered => Ok(Seen::NotKnown),
            Told::Failed(error) => Err(error.into()),
        };
        if let Some(waiting) = self.0.take() {
            let _ = waiting.send(outcome);
        }
    }
}

pub(super) fn rejected(rejection: Rejection) -> GatewayError {
    match rejection {
        Rejection::State(status) => GatewayError::InvalidState { status: status.as_str().to_owned() },
        Rejection::TooMuch { max_minor } => GatewayError::AmountTooLarge { max_minor },
        Rejection::TooMany => GatewayError::InvalidState { status: "too_many_refunds".to_owned() },
    }
}

/// What the store says where nothing but the store can say something.
pub(super) fn as_store_error(error: GatewayError) -> StoreError {
    match error {
        GatewayError::Overloaded { .. } | GatewayError::StorageLow => StoreError::Overloaded("no room for this now"),
        other => StoreError::Invalid(other.to_string()),
    }
}
