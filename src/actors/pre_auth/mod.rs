//! One actor for each pre-auth that somebody works on: it decides in order what becomes of it, so that no two of a
//! capture, a release and an answer are ever decided beside each other.
//!
//! The decisions are the domain's, what lasts is stored before anything follows from it, and a channel is never waited
//! for: it is asked by a task of its own, which posts the answer back. An actor that is lost loses nothing, because what is
//! open stands in the store with the time at which it is looked at again.

mod actor;
mod clients;
mod directory;
mod housekeeping;
mod slot;
#[cfg(test)]
mod tests;

pub use directory::{PreAuthDirectory, PreAuthDirectorySettings, Refused};

use futures_util::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;

use crate::domain::ids::{MerchantId, PreAuthNo, RefundNo};
use crate::domain::outcome::{HoldAnswer, RefundAnswer};
use crate::domain::pre_auth::{Change, Dispatch, PreAuth, PreAuthPolicy, Rejection};
use crate::domain::refund::Refund;
use crate::domain::time::Timestamp;
use crate::storage::{Batch, StoreError};

/// Which pre-auth.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PreAuthId {
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// Our number.
    pub pre_auth_no: PreAuthNo,
}

/// A pre-auth as it was read, and the revision of its row.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPreAuth {
    /// What was read.
    pub pre_auth: PreAuth,
    /// The number of the commit that wrote it.
    pub revision: u64,
}

/// What actors of pre-auths have done for them.
pub trait PreAuthWorks: Send + Sync + 'static {
    /// Reads a pre-auth; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError`], when it can't be read.
    fn load(&self, id: &PreAuthId) -> Result<Option<StoredPreAuth>, StoreError>;

    /// Makes a change durable with everything that goes with it, and the part of a client who waits for it. A change to what
    /// is stored already leaves the row as it is.
    fn commit<'a>(
        &'a self,
        before: &'a StoredPreAuth,
        change: &'a Change,
        client: Option<(&'a mut dyn Client, ClientPart)>,
    ) -> BoxFuture<'a, Result<StoredPreAuth, CommitError>>;

    /// Asks the channel. The only place that does. It always ends.
    fn call(&self, pre_auth: &PreAuth, dispatch: &Dispatch) -> BoxFuture<'static, Answered>;

    /// The provider key of an operation of this kind and with this number.
    fn key(&self, pre_auth_no: &PreAuthNo, operation: &str, number: u32) -> String;

    /// A refund of so many minor units, with a number and a provider key of its own.
    fn refund(&self, pre_auth: &PreAuth, amount_minor: i64, reason: Option<String>, now: Timestamp) -> Refund;

    /// What is configured for this pre-auth.
    fn policy(&self, pre_auth: &PreAuth) -> PreAuthPolicy;

    /// The time of day.
    fn now(&self) -> Timestamp;
}

/// Why a change was not made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// Somebody else has changed the row.
    Precondition,
    /// A request with the client's idempotency key is being worked on, or has its answer.
    InProgress,
    /// The store did not take it.
    Store(StoreError),
}

/// Which part of a client goes into a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientPart {
    /// That its request has begun.
    Begin,
    /// What it is answered.
    Answer,
    /// Both at once.
    Both,
}

/// An answer of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// About held money.
    Hold {
        /// Which operation was open when it was asked: [`PreAuth::operation_number`].
        operation: u32,
        /// The answer.
        answer: Box<HoldAnswer>,
    },
    /// About a refund.
    Refund {
        /// Which.
        refund_no: RefundNo,
        /// The answer.
        answer: RefundAnswer,
    },
}

/// Somebody who waits for what becomes of a request.
pub trait Client: Send + 'static {
    /// Adds to a commit that the request has begun on `object_no`. Answers the index of the precondition that its
    /// idempotency key makes, if it has one.
    ///
    /// # Errors
    /// [`StoreError`], when it can't be written.
    fn begin(&mut self, batch: &mut Batch, object_no: &str, now: Timestamp) -> Result<Option<usize>, StoreError>;

    /// Its beginning is durable.
    fn begun(&mut self, sequence: u64);

    /// Adds to a commit what the client is answered: what it was told, if it was told already.
    ///
    /// # Errors
    /// [`StoreError`], when it can't be written.
    fn answer(&mut self, batch: &mut Batch, pre_auth: &PreAuth, now: Timestamp) -> Result<(), StoreError>;

    /// Tells the client. Once; after [`Told::NotStored`] its answer is asked for again until it is stored.
    fn tell(&mut self, told: Told);
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// So it stands, and its answer is stored.
    Now(PreAuth),
    /// So it stands, which is not stored yet; something may have happened at the provider.
    NotStored(PreAuth),
    /// Nothing was done.
    Rejected(Rejection),
    /// A request with the same idempotency key is being worked on.
    InProgress,
    /// Nothing was done, or it is not known, because of the store.
    Failed(StoreError),
}

/// What a merchant or an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// To take what is held.
    Capture {
        /// Minor units; all when absent.
        amount: Option<i64>,
    },
    /// To give it up.
    Cancel {
        /// In the merchant's words.
        reason: Option<String>,
    },
    /// To give back what was taken.
    Refund {
        /// Minor units; all that is left when absent.
        amount: Option<i64>,
        /// In the merchant's words.
        reason: Option<String>,
    },
    /// To have the channel asked. Nothing of it is stored for the client.
    Refresh,
}

/// What a pre-auth's actor is told.
pub enum PreAuthMessage {
    /// A request to do something.
    Begin {
        /// What.
        command: Command,
        /// Who waits for it.
        client: Box<dyn Client>,
    },
    /// The intent is stored, and its beginning with it: now the channel is asked.
    Carry {
        /// Who waits for it.
        client: Box<dyn Client>,
    },
    /// Something is due.
    Due {
        /// The due time of the entry.
        at: Timestamp,
        /// Room for a question to its channel, given back when that has been answered.
        place: OwnedSemaphorePermit,
    },
    /// The provider has something to tell.
    Hint,
    /// Somebody else has changed the row.
    Reread,
}
