//! Those who wait for an answer of the channel, and answers on their way into the store.

use crate::actors::pre_auth::slot::{Call, Counted};
use crate::actors::pre_auth::{Answered, Client, PreAuthWorks, Told};
use crate::domain::ids::RefundNo;
use crate::domain::pre_auth::{
    Change, Dispatch, PreAuth, PreAuthPolicy, Sending, on_answer, on_refund_answer, refund_strays,
};
use crate::domain::time::Timestamp;

/// What a client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// An answer about an operation; with `close`, to a question that also closes.
    Hold { operation: u32, close: bool },
    /// An answer about a refund.
    Refund(RefundNo),
    /// Any answer about the hold. Nothing is stored for such a client.
    Look,
}

impl Awaited {
    /// What whoever began something waits for, by what was to be sent then; `None` when there is nothing to wait for.
    pub fn of(dispatches: &[Dispatch], operation: u32) -> Option<Self> {
        Some(match &dispatches.first()?.what {
            Sending::Refund(refund_no) => Self::Refund(refund_no.clone()),
            Sending::Ask { close } => Self::Hold { operation, close: *close },
            Sending::Authorize | Sending::Capture | Sending::Release | Sending::Extend => {
                Self::Hold { operation, close: false }
            }
        })
    }

    fn is_met(&self, answered: &Answered, closing: bool) -> bool {
        match (self, answered) {
            (Self::Hold { operation, close }, Answered::Hold { operation: asked, .. }) => {
                operation == asked && (closing || !close)
            }
            (Self::Look, Answered::Hold { .. }) => true,
            (Self::Refund(awaited), Answered::Refund { refund_no, .. }) => awaited == refund_no,
            _ => false,
        }
    }
}

/// Somebody who waits.
pub(super) struct Waiting {
    pub awaited: Awaited,
    pub client: Box<dyn Client>,
    _counted: Counted,
}

impl Waiting {
    pub fn new(awaited: Awaited, client: Box<dyn Client>, counted: Counted) -> Self {
        Self { awaited, client, _counted: counted }
    }
}

/// Those who wait for an answer, out of all who wait.
pub(super) fn take_met(waiting: &mut Vec<Waiting>, answered: &Answered, closing: bool) -> Vec<Waiting> {
    take_those(waiting, |awaited| awaited.is_met(answered, closing))
}

/// Those of whom `fits` is true, out of all who wait.
pub(super) fn take_those(waiting: &mut Vec<Waiting>, fits: impl Fn(&Awaited) -> bool) -> Vec<Waiting> {
    let (taken, left) = std::mem::take(waiting).into_iter().partition(|waiting| fits(&waiting.awaited));
    *waiting = left;
    taken
}

/// An answer on its way into the store, and who waits for it.
pub(super) struct Unsettled {
    answered: Option<Answered>,
    waiting: Option<Waiting>,
    /// Keeps the channel from being asked the same until the answer is stored.
    _call: Option<Call>,
    is_told: bool,
    /// Whether nothing is to be stored for the client.
    is_kept: bool,
    /// How it stands as far as it is decided.
    pub stands: Option<PreAuth>,
}

impl Unsettled {
    pub fn new(answered: Option<Answered>, waiting: Option<Waiting>, call: Option<Call>) -> Self {
        let is_kept = waiting.as_ref().is_none_or(|waiting| waiting.awaited == Awaited::Look);
        Self { answered, waiting, _call: call, is_told: false, is_kept, stands: None }
    }

    /// What has to be stored; `None` when nothing has.
    pub fn decide(
        &self,
        works: &dyn PreAuthWorks,
        before: &PreAuth,
        policy: &PreAuthPolicy,
        now: Timestamp,
    ) -> Option<Change> {
        let change = match self.answered.as_ref() {
            Some(Answered::Hold { operation, answer }) => {
                on_answer(before, *operation, answer, policy, now).map(|change| {
                    let refund = |amount_minor| works.refund(before, amount_minor, None, now);
                    refund_strays(before, change, policy, now, refund)
                })
            }
            Some(Answered::Refund { refund_no, answer }) => on_refund_answer(before, refund_no, answer, policy, now),
            None => None,
        };
        change.or_else(|| (!self.is_kept).then(|| Change::nothing(before)))
    }

    /// The client whose answer has to be stored, too.
    pub fn client(&mut self) -> Option<&mut Box<dyn Client>> {
        if self.is_kept {
            return None;
        }
        self.waiting.as_mut().map(|waiting| &mut waiting.client)
    }

    /// The client's answer is in the store already.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }

    /// Tells the client, once.
    pub fn tell(&mut self, told: Told) {
        if let Some(waiting) = self.waiting.as_mut().filter(|_| !self.is_told) {
            waiting.client.tell(told);
            self.is_told = true;
        }
    }
}
