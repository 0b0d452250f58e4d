//! Answers that are stored before they are first sent, so that a repeated request gets the same bytes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::gateway::view::{ChannelOperationView, ChannelPreAuthView, PaymentView, PreAuthView, RefundView};

/// An answer as it goes to the client, kept for repetition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// HTTP status.
    pub status: u16,
    /// The body, JSON.
    pub body: String,
}

/// What came of a request that creates or changes something.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A payment was created: charged, declined, waiting for the payer, or (status `processing`) not known yet.
    PaymentCreated(PaymentView),
    /// A payment was created, but the channel certainly did not take it: the payment is `failed`.
    PaymentNotTaken(PaymentView),
    /// A payment was asked to be canceled; `processing` while the channel has not closed it.
    PaymentCanceled(PaymentView),
    /// A refund was created; `pending` while its outcome is not known.
    RefundCreated(RefundView),
    /// A refund was created, but the channel certainly did not do it: the refund is `failed`.
    RefundNotDone(RefundView),
    /// A pre-auth was created: held, declined, waiting for the payer, or not known yet.
    PreAuthCreated(PreAuthView),
    /// A pre-auth was asked to be captured; `processing` while that is not known.
    PreAuthCaptured(PreAuthView),
    /// A pre-auth was asked to be canceled; its channel has not closed it until it is final.
    PreAuthCanceled(PreAuthView),
    /// As [`Reply::PreAuthCreated`], under the channel's number.
    ChannelPreAuthCreated(ChannelPreAuthView),
    /// As [`Reply::PreAuthCaptured`], under the channel's number.
    ChannelPreAuthCaptured(ChannelOperationView),
    /// As [`Reply::PreAuthCanceled`], under the channel's number.
    ChannelPreAuthCanceled(ChannelOperationView),
    /// The channel certainly did not do what was asked of a pre-auth, which can be read by this number.
    PreAuthNotDone {
        /// Ours.
        pre_auth_no: String,
    },
}

/// Turns a reply into the bytes that are stored and sent. The caller supplies it, because only the caller knows the
/// envelope, the language and the request's id.
pub type Renderer = Arc<dyn Fn(&Reply) -> StoredAnswer + Send + Sync>;

/// An answer, and whether it is a repetition of an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The answer.
    pub answer: StoredAnswer,
    /// Whether it was given before, to a request with the same idempotency key.
    pub replayed: bool,
}
