//! Requests that are sent again: the key, what is kept under it, and what a repetition gets.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::actors::merchant::{IdempotencyClaim, Permit};
use crate::domain::ids::MerchantId;
use crate::domain::time::Timestamp;
use crate::gateway::answer::{Answered, Renderer, StoredAnswer};
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::patience::Patience;
use crate::gateway::payments::rows::commit_finish;
use crate::gateway::told::Telling;
use crate::storage::record::{Record, decode, encode};
use crate::storage::vault::{Sealing, Vault};
use crate::storage::{ABSENT, Batch, Row, StoreError, keys};
use crate::telemetry::trace;

/// Tries of storing an answer while somebody else changes what was kept under its key before.
const CONFLICTS_MAX: usize = 8;
/// Longest `Idempotency-Key`.
pub const KEY_LEN_MAX: usize = 255;

/// An idempotency key within its scope: method and path. The merchant is added where it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Covers method, path and key.
    pub fingerprint: u128,
    /// Covers the body.
    pub body_hash: u128,
}

impl IdempotencyKey {
    /// Takes the header's value with what it is valid for.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the key is empty, longer than 255 characters, or not visible ASCII.
    pub fn new(method: &str, path: &str, key: &str, body: &[u8]) -> Result<Self, GatewayError> {
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.is_empty() || key.len() > KEY_LEN_MAX || !visible {
            let message = format!("must be 1 to {KEY_LEN_MAX} visible ASCII characters");
            return Err(GatewayError::field("Idempotency-Key", message));
        }
        let scope = format!("{method}\n{path}\n{key}");
        Ok(Self { fingerprint: hash_128(scope.as_bytes()), body_hash: hash_128(body) })
    }
}

fn hash_128(bytes: &[u8]) -> u128 {
    let digest = Sha256::digest(bytes);
    let mut first_half = [0_u8; 16];
    first_half.copy_from_slice(&digest[..16]);
    u128::from_be_bytes(first_half)
}

/// Where a request that changes something comes from.
pub struct Origin {
    /// Its idempotency key, if it has one.
    pub idempotency: Option<IdempotencyKey>,
    /// Keeps requests with the same key out while this one runs.
    pub claim: Option<IdempotencyClaim>,
    /// Its right to be in flight, if it has one. Whoever waits for the answer holds it too: the request is in flight until
    /// both have ended, its client's waiting and the work that it began, which goes on when the client hangs up.
    pub permit: Option<Arc<Permit>>,
    /// Makes the bytes of its answer.
    pub renderer: Renderer,
}

/// What is kept under an idempotency key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct IdempotencyRecord {
    /// Hash of the body, hexadecimal.
    body_hash: String,
    /// The object that the request made or changed.
    pub(crate) object_no: String,
    /// What was answered; `None` while the first request has not been answered.
    pub(crate) answer: Option<StoredAnswer>,
    /// When the answer was made, or else when the request came.
    pub(crate) at: Timestamp,
    /// Whether the answer's body is encrypted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    sealed: bool,
}

impl Record for IdempotencyRecord {
    const NAME: &'static str = "idempotency record";
}

impl IdempotencyRecord {
    /// The answer, unless there is none yet or it is encrypted. Encrypted ones hold no customers' data.
    pub(crate) fn plain_answer(&self) -> Option<&StoredAnswer> {
        self.answer.as_ref().filter(|_| !self.sealed)
    }

    /// Whether the key may be used anew.
    fn is_over(&self, core: &Core) -> bool {
        let keep_s = core.settings().payments.idempotency_keep_s;
        let is_old = core.clock.now().since(self.at).as_secs() >= keep_s;
        // A clock that jumped ahead makes nothing old: what was done would be done once more.
        self.answer.is_some() && is_old && core.clock_guard.is_believed(&core.clock)
    }

    /// The same with another body of the answer.
    pub(crate) fn with_body(self, body: String) -> Self {
        let answer = self.answer.map(|answer| StoredAnswer { status: answer.status, body });
        Self { answer, ..self }
    }
}

/// What is known about a request's key before it does anything.
pub(crate) enum Known {
    /// Nothing, or the request has no key.
    New(Reservation),
    /// It was answered with this.
    Answered(StoredAnswer),
    /// It made this object, but the process ended before it was answered.
    Unanswered {
        /// The object.
        object_no: String,
        /// For storing the answer.
        slot: Slot,
    },
}

/// The place where the answer of a request will be kept.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    key: Vec<u8>,
    revision: u64,
    body_hash: String,
}

/// A key that is about to be used for the first time; `None` inside when the request has no key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reservation(Option<Slot>);

/// Looks a request's key up.
///
/// # Errors
/// [`GatewayError::IdempotencyMismatch`] when it was used with another body.
pub(crate) fn look_up(
    core: &Core,
    merchant_id: &MerchantId,
    idempotency: Option<&IdempotencyKey>,
) -> Result<Known, GatewayError> {
    let Some(idempotency) = idempotency else { return Ok(Known::New(Reservation::default())) };
    let key = keys::idempotency(merchant_id, idempotency.fingerprint);
    let body_hash = format!("{:032x}", idempotency.body_hash);
    // Looked for before the row: once it is not told any more it is stored.
    if let Some((told_hash, answer)) = core.told.get(&key) {
        return if told_hash == body_hash {
            Ok(Known::Answered(answer))
        } else {
            Err(GatewayError::IdempotencyMismatch)
        };
    }
    let Some(stored) = core.store.get(&key)? else {
        return Ok(Known::New(Reservation(Some(Slot { key, revision: ABSENT, body_hash }))));
    };
    let record: IdempotencyRecord = decode(&stored.value)?;
    let slot = Slot { key, revision: stored.revision, body_hash };
    if record.is_over(core) {
        return Ok(Known::New(Reservation(Some(slot))));
    }
    if record.body_hash != slot.body_hash {
        return Err(GatewayError::IdempotencyMismatch);
    }
    Ok(match record.answer {
        Some(answer) if record.sealed => Known::Answered(unseal(core, &slot.key, &answer)?),
        Some(answer) => Known::Answered(answer),
        None => Known::Unanswered { object_no: record.object_no, slot },
    })
}

/// The answer to a request whose first sending is still being worked on, if it has been given already and only waits to
/// be stored.
///
/// # Errors
/// [`GatewayError::IdempotencyMismatch`] when it was given to another body.
pub(super) fn told_to(
    core: &Core,
    merchant_id: &MerchantId,
    idempotency: Option<&IdempotencyKey>,
) -> Result<Option<Answered>, GatewayError> {
    match look_up(core, merchant_id, idempotency)? {
        Known::Answered(answer) => Ok(Some(Answered { answer, replayed: true })),
        Known::New(_) | Known::Unanswered { .. } => Ok(None),
    }
}

/// Carries a request out that moves no money, once per idempotency key: a repetition gets the answer that was given
/// before. The answer is kept encrypted, since it may hold a secret, and is stored before it is returned, unless the
/// store has no room: what was done is done, so that the answer is given all the same, to repetitions as well, and
/// stored as soon as it can be. `work` goes on when this future is dropped; a process that dies between its effect and
/// storing the answer leaves no answer, and then a repetition does it once more.
pub(in crate::gateway) async fn once<E>(
    core: &Core,
    merchant_id: &MerchantId,
    key: Option<IdempotencyKey>,
    claim: Option<IdempotencyClaim>,
    work: impl Future<Output = Result<StoredAnswer, E>> + Send + 'static,
) -> Result<Answered, E>
where
    E: From<GatewayError> + Send + 'static,
{
    let slot = match look_up(core, merchant_id, key.as_ref())? {
        Known::Answered(answer) => return Ok(Answered { answer, replayed: true }),
        Known::Unanswered { .. } => return Err(GatewayError::IdempotencyInProgress.into()),
        Known::New(Reservation(slot)) => slot,
    };
    let inner = core.clone();
    core.carry(async move {
        // Keeps repetitions out until the answer is stored.
        let claim = claim;
        let answer = work.await?;
        if let Some(slot) = slot
            && let Err(error) = slot.keep_sealed(&inner, &answer).await
        {
            tracing::warn!(%error, "an answer could not be stored yet; it is tried again");
            let telling = slot.tell(&inner, &answer);
            let (core, answer) = (inner.clone(), answer.clone());
            inner.tasks.spawn(trace::in_current(async move {
                // Dropped in this order once the answer is stored.
                let (_telling, _claim) = (telling, claim);
                let mut patience = Patience::new();
                while patience.for_another_try(&core).await {
                    match slot.keep_sealed(&core, &answer).await {
                        Ok(()) => return,
                        Err(error) => tracing::debug!(%error, "an answer could still not be stored"),
                    }
                }
                tracing::warn!("an answer was not stored; a repetition of its request would be carried out again");
            }));
        }
        Ok(Answered { answer, replayed: false })
    })
    .await
}

/// What an encrypted answer is bound to.
fn identity_of(key: &[u8]) -> String {
    format!("idempotency|{}", hex::encode(key))
}

fn unseal(core: &Core, key: &[u8], answer: &StoredAnswer) -> Result<StoredAnswer, GatewayError> {
    let body = core.vault.unseal(&identity_of(key), &answer.body)?;
    Ok(StoredAnswer { status: answer.status, body: String::from_utf8_lossy(&body).into_owned() })
}

/// The row of an idempotency key with its answer under the master key that seals; `None` when it is, or is not
/// encrypted.
pub(crate) fn reseal_answer(vault: &Vault, row: &Row) -> Result<Option<Vec<u8>>, GatewayError> {
    let record: IdempotencyRecord = decode(&row.versioned.value)?;
    let Some(answer) = record.answer.as_ref().filter(|_| record.sealed) else { return Ok(None) };
    let Some(body) = vault.reseal(&identity_of(&row.key), &answer.body)? else { return Ok(None) };
    Ok(Some(encode(&record.with_body(body))?))
}

impl Reservation {
    /// Adds to `batch` that the key now stands for `object_no`. Returns the index of the precondition that fails when
    /// another request with the same key was quicker.
    pub(crate) fn begin(
        &self,
        batch: &mut Batch,
        object_no: &str,
        now: Timestamp,
    ) -> Result<Option<usize>, GatewayError> {
        let Some(slot) = &self.0 else { return Ok(None) };
        let index = batch.preconditions.len();
        slot.write(batch, object_no, None, now)?;
        Ok(Some(index))
    }

    /// Adds to `batch` what is answered to a request that is over with it. Returns false when it has no key.
    pub(crate) fn answer(
        &self,
        batch: &mut Batch,
        object_no: &str,
        answer: &StoredAnswer,
        now: Timestamp,
    ) -> Result<bool, GatewayError> {
        let Some(slot) = &self.0 else { return Ok(false) };
        slot.answer(batch, object_no, answer, now)?;
        Ok(true)
    }

    /// The place for the answer, once the batch of [`Reservation::begin`] was committed as `sequence`.
    pub(crate) fn committed(self, sequence: u64) -> Option<Slot> {
        self.0.map(|slot| Slot { revision: sequence, ..slot })
    }
}

impl Slot {
    /// The answer that is kept already, if there is one.
    pub(crate) fn kept_answer(&self, core: &Core) -> Result<Option<StoredAnswer>, GatewayError> {
        let Some(stored) = core.store.get(&self.key)? else { return Ok(None) };
        let record: IdempotencyRecord = decode(&stored.value)?;
        match record.answer {
            Some(answer) if record.sealed => unseal(core, &self.key, &answer).map(Some),
            answer => Ok(answer),
        }
    }

    /// Adds to `batch` what is answered.
    pub(crate) fn answer(
        &self,
        batch: &mut Batch,
        object_no: &str,
        answer: &StoredAnswer,
        now: Timestamp,
    ) -> Result<(), GatewayError> {
        self.write(batch, object_no, Some(answer.clone()), now)
    }

    /// Has an answer ready for repetitions that could not be stored yet.
    pub(crate) fn tell(&self, core: &Core, answer: &StoredAnswer) -> Telling {
        core.told.tell(&self.key, &self.body_hash, answer, &core.stopping)
    }

    /// Stores the answer of a request that is done. That there is one already is as good; what stood there before and is
    /// over may have been taken away meanwhile, or sealed anew.
    async fn keep_sealed(&self, core: &Core, answer: &StoredAnswer) -> Result<(), GatewayError> {
        let sealing = core.vault.sealing();
        let mut revision = self.revision;
        for _ in 0..CONFLICTS_MAX {
            match commit_finish(core, self.sealed_answer(core, &sealing, answer, revision)?).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Precondition { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            revision = match core.store.get(&self.key)? {
                None => ABSENT,
                Some(stored) if decode::<IdempotencyRecord>(&stored.value)?.is_over(core) => stored.revision,
                Some(_) => return Ok(()),
            };
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    fn sealed_answer(
        &self,
        core: &Core,
        sealing: &Sealing,
        answer: &StoredAnswer,
        revision: u64,
    ) -> Result<Batch, GatewayError> {
        let body = sealing.seal(&identity_of(&self.key), answer.body.as_bytes())?;
        let record = IdempotencyRecord {
            body_hash: self.body_hash.clone(),
            object_no: String::new(),
            answer: Some(StoredAnswer { status: answer.status, body }),
            at: core.clock.now(),
            sealed: true,
        };
        let mut batch = Batch::finishing();
        batch.replace(self.key.clone(), revision, encode(&record)?);
        Ok(batch)
    }

    fn write(
        &self,
        batch: &mut Batch,
        object_no: &str,
        answer: Option<StoredAnswer>,
        now: Timestamp,
    ) -> Result<(), GatewayError> {
        let record = IdempotencyRecord {
            body_hash: self.body_hash.clone(),
            object_no: object_no.to_owned(),
            answer,
            at: now,
            sealed: false,
        };
        batch.replace(self.key.clone(), self.revision, encode(&record)?);
        Ok(())
    }
}
