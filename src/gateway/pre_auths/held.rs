//! Pre-auths while the store is held after a restore: what their providers list is compared or taken over, what may have gone
//! further is asked about, and what was about to be sent and has no name is closed. Nothing is captured, and nothing is asked
//! to be held.

use std::time::Duration;

use crate::actors::pre_auth::{CommitError, PreAuthId, PreAuthWorks, StoredPreAuth};
use crate::channels::{HoldAnswer, HoldState, ListedCharge, ListedRefund, RefundAnswer, RefundState};
use crate::domain::ids::{ChannelName, MerchantId, PreAuthNo, RefundNo};
use crate::domain::outcome::{DeclineScope, Failure};
use crate::domain::payment::ResolvePolicy;
use crate::domain::pre_auth::{
    Change, Intent, OPERATIONS_MAX, OperationKind, PreAuth, PreAuthPolicy, PreAuthStatus, PreAuthTerms, ReleaseWhy,
    begin, begin_release, on_answer, on_refund_answer,
};
use crate::domain::refund::{Refund, RefundStatus};
use crate::domain::routing::DecisionRecord;
use crate::gateway::error::GatewayError;
use crate::gateway::pre_auths::{Inner, PreAuths, rows};
use crate::storage::keys;

/// Tries of a change that others keep overtaking.
const CONFLICTS_MAX: usize = 8;

/// What came of comparing a listed object.
pub(in crate::gateway) enum Compared {
    /// What is here agrees.
    Agrees,
    /// It was made again or learned from.
    Adopted,
    /// It can't be decided yet.
    Later,
    /// The same, before this one is closed, which holds its order number.
    After(PreAuthId),
    /// What is to be given back is more than there is; what others have reserved may become free.
    TooMuch,
    /// A person has to look.
    Person(&'static str),
}

/// What came of asking about an open pre-auth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum AskedWhileHeld {
    /// What has to be known is known.
    Known,
    /// Nobody can say yet.
    Unknown,
    /// It was not asked about: its provider's list may still name it.
    TooEarly,
}

/// What has to be known of an open pre-auth before the hold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Whether the money is still held.
    Stand,
    /// That it is closed: no provider has named it, or it was given up.
    End,
}

impl Wanted {
    fn of(pre_auth: &PreAuth) -> Option<Self> {
        use PreAuthStatus::{Processing, RequiresAction, RequiresCapture, RequiresPaymentMethod};
        let is_authorizing =
            pre_auth.operation.as_ref().is_some_and(|operation| operation.kind == OperationKind::Authorize);
        match pre_auth.status {
            RequiresCapture => Some(Self::Stand),
            Processing if !is_authorizing => Some(Self::Stand),
            RequiresPaymentMethod | RequiresAction | Processing => {
                (pre_auth.closing.is_some() || is_nameless(pre_auth)).then_some(Self::End)
            }
            _ => None,
        }
    }
}

/// Whether nobody knows that it was ever received: no provider has named it, and no payer got something to act on.
fn is_nameless(pre_auth: &PreAuth) -> bool {
    pre_auth.refs.numbers().next().is_none() && pre_auth.offered_at.is_none()
}

/// Whether something has to be known of a pre-auth before the hold ends.
pub(in crate::gateway) fn has_to_be_asked(pre_auth: &PreAuth) -> bool {
    Wanted::of(pre_auth).is_some()
}

impl PreAuths {
    /// Asks about an open pre-auth what has to be known. With `is_compared` somebody has compared its channel by hand, so
    /// that what nobody can say is left to a person; `may_close` is false as long as a list may still name it.
    ///
    /// # Errors
    /// What the store says.
    pub(in crate::gateway) async fn ask_while_held(
        &self,
        id: &PreAuthId,
        may_close: bool,
        is_compared: bool,
    ) -> Result<AskedWhileHeld, GatewayError> {
        use AskedWhileHeld::{Known, TooEarly, Unknown};
        let inner = &self.0;
        for _ in 0..CONFLICTS_MAX {
            let Some(stored) = rows::load(&inner.core, &id.merchant_id, &id.pre_auth_no)? else { return Ok(Known) };
            let Some(wanted) = Wanted::of(&stored.pre_auth) else { return Ok(Known) };
            if wanted == Wanted::End && !may_close {
                return Ok(TooEarly);
            }
            let Some(stored) = inner.given_up(stored, wanted).await? else { continue };
            let mut answer = inner.works.ask_where_it_stands(&stored.pre_auth, wanted == Wanted::End).await;
            if is_capturing(&stored.pre_auth) && matches!(answer.state, HoldState::Held { .. }) {
                // It is never sent: behind the restore point it may have been refused, and another made in its place.
                let message = "The provider had not received the capture when the store was restored.";
                answer.refused = Some(Failure::new("not_received", message, DeclineScope::Processor));
            }
            let is_unknown = matches!(answer.state, HoldState::Unknown { .. });
            if is_unknown && !is_compared {
                return Ok(Unknown);
            }
            let policy = inner.works.policy_on(stored.pre_auth.channel.as_str());
            let policy = if is_unknown { at_once(&policy) } else { policy };
            match inner.learn(&stored, &answer, is_unknown, &policy).await? {
                Some(after) if wanted == Wanted::End && Wanted::of(&after) == Some(Wanted::End) => return Ok(Unknown),
                Some(_) => return Ok(Known),
                None => {}
            }
        }
        Ok(Unknown)
    }

    /// Compares a hold that a provider lists with what is here, or makes it again.
    ///
    /// # Errors
    /// What the store says.
    pub(in crate::gateway) async fn compare_hold(
        &self,
        channel: &ChannelName,
        listed: &ListedCharge,
    ) -> Result<Compared, GatewayError> {
        let inner = &self.0;
        let (Some(reference), Some(key)) = (&listed.reference, &listed.provider_key) else {
            return Ok(Compared::Person("it carries marks of a gateway and not all of them"));
        };
        if inner.provider_keys.key(reference, OperationKind::Authorize.as_str(), 1) != *key {
            return Ok(Compared::Person("its key is not one of this installation"));
        }
        let (Some(merchant_id), Some(state)) = (&listed.merchant_id, &listed.hold) else {
            return Ok(Compared::Person("it does not say whose it is, or is no hold"));
        };
        let id = PreAuthId {
            merchant_id: MerchantId::new(merchant_id.as_str()),
            pre_auth_no: PreAuthNo::new(reference.as_str()),
        };
        if inner.core.store.get(&keys::merchant(&id.merchant_id))?.is_none() {
            return Ok(Compared::Person("its merchant is not in the restored store"));
        }
        let answer = HoldAnswer { refs: listed.refs.clone(), ..HoldAnswer::bare(state.clone()) };
        for _ in 0..CONFLICTS_MAX {
            let Some(stored) = rows::load(&inner.core, &id.merchant_id, &id.pre_auth_no)? else {
                return inner.make_again(&id, channel, listed, &answer).await;
            };
            let pre_auth = &stored.pre_auth;
            if pre_auth.channel != *channel || listed.money != Some(pre_auth.terms.money) {
                return Ok(Compared::Person("its channel or amount is not that of the pre-auth here"));
            }
            if pre_auth.status.is_final() || pre_auth.status == PreAuthStatus::NeedsReview {
                return Ok(match agrees(pre_auth, state) {
                    true => Compared::Agrees,
                    false => Compared::Person("the pre-auth here is over and says something else"),
                });
            }
            let policy = inner.works.policy_on(channel.as_str());
            let now = inner.core.clock.now();
            let change = on_answer(pre_auth, pre_auth.operation_number(), &answer, &policy, now);
            let is_news = |change: &Change| change.pre_auth.status != pre_auth.status || is_nameless(pre_auth);
            let Some(change) = change.filter(is_news) else { return Ok(Compared::Agrees) };
            if inner.stored(&stored, &change).await? {
                return Ok(Compared::Adopted);
            }
        }
        Ok(Compared::Later)
    }

    /// Compares a refund that a provider lists with what is here, or takes it over.
    ///
    /// # Errors
    /// What the store says.
    pub(in crate::gateway) async fn compare_refund(&self, listed: &ListedRefund) -> Result<Compared, GatewayError> {
        let inner = &self.0;
        let (Some(reference), Some(refund_no), Some(merchant_id), Some(money)) =
            (&listed.reference, &listed.refund_reference, &listed.merchant_id, listed.money)
        else {
            return Ok(Compared::Person("it carries marks of a gateway and not all of them"));
        };
        let (merchant_id, pre_auth_no) = (MerchantId::new(merchant_id.as_str()), PreAuthNo::new(reference.as_str()));
        let refund_no = RefundNo::new(refund_no.as_str());
        for _ in 0..CONFLICTS_MAX {
            let Some(stored) = rows::load(&inner.core, &merchant_id, &pre_auth_no)? else {
                return Ok(Compared::Person("its pre-auth is not here"));
            };
            let pre_auth = &stored.pre_auth;
            if pre_auth.terms.money.currency != money.currency {
                return Ok(Compared::Person("its currency is not that of the pre-auth here"));
            }
            let known = pre_auth.refunds.iter().find(|refund| refund.refund_no == refund_no);
            let mut with_it = pre_auth.clone();
            match known.map(|known| (known.amount_minor, known.status)) {
                Some((amount_minor, _)) if amount_minor != money.amount_minor => {
                    return Ok(Compared::Person("its amount is not that of the refund here"));
                }
                Some((_, RefundStatus::Pending)) => {}
                Some((_, status)) => return Ok(compared_with(status, &listed.state)),
                None if !pre_auth.status.is_final() => return Ok(Compared::Later),
                None if pre_auth.status != PreAuthStatus::Captured => {
                    return Ok(Compared::Person("the pre-auth here is not captured"));
                }
                None => {
                    let gives_back = !matches!(listed.state, RefundState::Failed(_));
                    if gives_back && money.amount_minor > pre_auth.refundable_minor() {
                        return Ok(Compared::TooMuch);
                    }
                    with_it.refunds.push(inner.refund_made(&refund_no, money.amount_minor, listed));
                }
            }
            let answer =
                RefundAnswer { state: listed.state.clone(), channel_refund_no: Some(listed.provider_no.clone()) };
            if known.is_some() && matches!(listed.state, RefundState::Pending | RefundState::Unknown { .. }) {
                return Ok(Compared::Agrees);
            }
            let policy = inner.works.policy_on(pre_auth.channel.as_str());
            let change = on_refund_answer(&with_it, &refund_no, &answer, &policy, inner.core.clock.now());
            let Some(change) = change else { return Ok(Compared::Agrees) };
            if inner.stored(&stored, &change).await? {
                return Ok(Compared::Adopted);
            }
        }
        Ok(Compared::Later)
    }

    /// Ends a refund that was under way at the restore point and is not sent again. Returns whether that is so.
    ///
    /// # Errors
    /// What the store says.
    pub(in crate::gateway) async fn end_refund(
        &self,
        merchant_id: &MerchantId,
        number: &str,
        refund_no: &RefundNo,
        answer: &RefundAnswer,
        is_left_to_person: bool,
    ) -> Result<bool, GatewayError> {
        let inner = &self.0;
        let stored = rows::read(&inner.core, merchant_id, &PreAuthNo::new(number))?;
        let policy = inner.works.policy_on(stored.pre_auth.channel.as_str());
        let policy = if is_left_to_person { at_once(&policy) } else { policy };
        let change = on_refund_answer(&stored.pre_auth, refund_no, answer, &policy, inner.core.clock.now());
        let Some(change) = change else { return Ok(true) };
        inner.stored(&stored, &change).await
    }
}

impl Inner {
    /// The pre-auth as what is to be asked takes it: given up, if it is to end. `None` when somebody else has changed it.
    async fn given_up(&self, stored: StoredPreAuth, wanted: Wanted) -> Result<Option<StoredPreAuth>, GatewayError> {
        if wanted == Wanted::Stand || stored.pre_auth.closing.is_some() {
            return Ok(Some(stored));
        }
        let policy = self.works.policy_on(stored.pre_auth.channel.as_str());
        let now = self.core.clock.now();
        match begin_release(&stored.pre_auth, ReleaseWhy::Unconfirmed, String::new(), &policy, now) {
            Ok(change) => Ok(self.commit(&stored, &change).await?),
            Err(_) => Ok(None),
        }
    }

    /// Stores what an answer says. `None` when somebody else has changed the pre-auth meanwhile.
    async fn learn(
        &self,
        stored: &StoredPreAuth,
        answer: &HoldAnswer,
        is_unknown: bool,
        policy: &PreAuthPolicy,
    ) -> Result<Option<PreAuth>, GatewayError> {
        let before = &stored.pre_auth;
        let now = self.core.clock.now();
        // What is held as far as is known stays so, although nobody says it.
        let stays = is_unknown && before.operation.is_none();
        let learned = if stays { None } else { on_answer(before, before.operation_number(), answer, policy, now) };
        let mut change = learned.unwrap_or_else(|| Change::nothing(before));
        if change.pre_auth.status == PreAuthStatus::RequiresCapture {
            skip_numbers(&mut change.pre_auth);
        }
        Ok(self.commit(stored, &change).await?.map(|stored| stored.pre_auth))
    }

    /// Makes a pre-auth again that is not here.
    async fn make_again(
        &self,
        id: &PreAuthId,
        channel: &ChannelName,
        listed: &ListedCharge,
        answer: &HoldAnswer,
    ) -> Result<Compared, GatewayError> {
        let (Some(order_no), Some(money), Some(provider_key)) = (&listed.order_no, listed.money, &listed.provider_key)
        else {
            return Ok(Compared::Person("it does not say what it is for"));
        };
        let policy = self.works.policy_on(channel.as_str());
        let intent = Intent {
            pre_auth_no: id.pre_auth_no.clone(),
            merchant_id: id.merchant_id.clone(),
            terms: PreAuthTerms {
                order_no: order_no.clone(),
                money,
                country: None,
                method: None,
                requested_channel: None,
                payment_token: None,
                customer_email: None,
                customer_ip: None,
                description: None,
                metadata: std::collections::BTreeMap::new(),
                return_url: None,
                reference: None,
            },
            channel: channel.clone(),
            decision: DecisionRecord::adopted(channel.clone(), money.currency),
            provider_key: provider_key.clone(),
        };
        let begun = begin(intent, &policy, listed.created_at).pre_auth;
        let now = self.core.clock.now();
        let learned = on_answer(&begun, begun.operation_number(), answer, &policy, now);
        let mut change = learned.unwrap_or_else(|| Change::nothing(&begun));
        if change.pre_auth.status == PreAuthStatus::RequiresCapture {
            skip_numbers(&mut change.pre_auth);
        }
        match self.works.adopt(&begun, &change).await {
            Ok(()) => {
                let (pre_auth_no, status) = (&id.pre_auth_no, change.pre_auth.status.as_str());
                tracing::warn!(%pre_auth_no, status, "a pre-auth was made again");
                Ok(Compared::Adopted)
            }
            Err(CommitError::Precondition | CommitError::InProgress) => self.make_way(&id.merchant_id, order_no).await,
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }

    /// Another pre-auth holds the order number here. It let it go after the restore point, so that it was closed with nothing
    /// held: it is closed here too.
    async fn make_way(&self, merchant_id: &MerchantId, order_no: &str) -> Result<Compared, GatewayError> {
        let Some(holder) = rows::holder(&self.core, merchant_id, order_no, None)? else {
            return Ok(Compared::Later);
        };
        let stored = rows::read(&self.core, merchant_id, &holder)?;
        let is_not_held_yet =
            stored.pre_auth.operation.as_ref().is_some_and(|operation| operation.kind == OperationKind::Authorize);
        if !is_not_held_yet || stored.pre_auth.status == PreAuthStatus::NeedsReview {
            return Ok(Compared::Person("another pre-auth holds its order number here and is not closed"));
        }
        self.given_up(stored, Wanted::End).await?;
        Ok(Compared::After(PreAuthId { merchant_id: merchant_id.clone(), pre_auth_no: holder }))
    }

    /// Stores a change; says whether nobody else had changed the pre-auth before.
    async fn stored(&self, before: &StoredPreAuth, change: &Change) -> Result<bool, GatewayError> {
        Ok(self.commit(before, change).await?.is_some())
    }

    async fn commit(&self, before: &StoredPreAuth, change: &Change) -> Result<Option<StoredPreAuth>, GatewayError> {
        match self.works.commit(before, change, None).await {
            Ok(stored) => Ok(Some(stored)),
            Err(CommitError::Precondition | CommitError::InProgress) => Ok(None),
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }

    /// A refund that is not here, as it was before its provider had an answer.
    fn refund_made(&self, refund_no: &RefundNo, amount_minor: i64, listed: &ListedRefund) -> Refund {
        Refund {
            refund_no: refund_no.clone(),
            amount_minor,
            status: RefundStatus::Pending,
            reason: None,
            provider_key: self.provider_keys.key(refund_no.as_str(), "refund", 1),
            channel_refund_no: None,
            failure: None,
            resolve_tries: 0,
            unanswered_at: None,
            known_at: None,
            created_at: listed.created_at,
            updated_at: self.core.clock.now(),
        }
    }
}

/// Behind the restore point operations may have had the next numbers, and their keys are used up.
fn skip_numbers(pre_auth: &mut PreAuth) {
    let skipped = u32::try_from(OPERATIONS_MAX).unwrap_or(u32::MAX);
    pre_auth.operation_count = pre_auth.operation_count.saturating_add(skipped);
}

fn is_capturing(pre_auth: &PreAuth) -> bool {
    matches!(pre_auth.operation.as_ref().map(|operation| &operation.kind), Some(OperationKind::Capture { .. }))
}

/// The policy that gives what is unknown to a person without waiting.
fn at_once(policy: &PreAuthPolicy) -> PreAuthPolicy {
    let resolve = ResolvePolicy { needs_review_after: Duration::ZERO, ..policy.resolve };
    PreAuthPolicy { resolve, ..*policy }
}

/// Whether what is over here is what its provider says.
fn agrees(pre_auth: &PreAuth, state: &HoldState) -> bool {
    match pre_auth.status {
        PreAuthStatus::Captured => {
            matches!(state, HoldState::Captured { captured_minor, .. } if *captured_minor == pre_auth.captured_minor)
        }
        PreAuthStatus::Canceled | PreAuthStatus::Expired | PreAuthStatus::Failed => {
            matches!(state, HoldState::Released { .. } | HoldState::Declined(_) | HoldState::NotDone(_))
        }
        _ => false,
    }
}

fn compared_with(status: RefundStatus, state: &RefundState) -> Compared {
    match (status, state) {
        (RefundStatus::Success, RefundState::Success) | (RefundStatus::Failed, RefundState::Failed(_)) => {
            Compared::Agrees
        }
        _ => Compared::Person("the refund here is final and says something else"),
    }
}
