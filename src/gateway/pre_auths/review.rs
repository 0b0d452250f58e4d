//! What an operator says about pre-auths, and refunds of them, that could not be resolved. It is in the audit in the same
//! commit.

use crate::actors::pre_auth::{PreAuthId, PreAuthMessage, StoredPreAuth};
use crate::domain::audit;
use crate::domain::audit::Operator;
use crate::domain::ids::RefundNo;
use crate::domain::pre_auth::{Change, PreAuth, PreAuthPolicy, ReviewVerdict, on_refund_review, on_review};
use crate::domain::time::Timestamp;
use crate::gateway::command::{ResolveByHand, ResolvePreAuthByHand, ResolvedPreAuthStatus};
use crate::gateway::error::GatewayError;
use crate::gateway::numbered_list;
use crate::gateway::payments::rows::Refunded;
use crate::gateway::payments::{check_resolution, resolution};
use crate::gateway::pre_auths::client::rejected;
use crate::gateway::pre_auths::{PreAuths, rows, views};
use crate::gateway::view::{OperatorPreAuthView, OperatorRefundView};
use crate::storage::StoreError;

/// How often a change is tried again that somebody else was quicker with.
const CONFLICTS_MAX: usize = 8;

impl PreAuths {
    /// Ends a pre-auth that could not be resolved as somebody has found out that it stands. The merchant is told, and the
    /// order number is free again if nothing was taken.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`]; [`GatewayError::InvalidState`] for one that does not need it, or that can't be what is
    /// said; [`GatewayError::AmountTooLarge`] for more than was to be held; [`GatewayError::InvalidRequest`].
    pub async fn resolve(
        &self,
        by: &Operator,
        pre_auth_no: &str,
        command: ResolvePreAuthByHand,
    ) -> Result<OperatorPreAuthView, GatewayError> {
        check_resolution(&command.reason)?;
        let verdict = verdict_of(&command)?;
        let found: PreAuth = numbered_list::find(&self.0.core, pre_auth_no)?;
        let (pre_auths, by) = (self.clone(), by.clone());
        let work = async move {
            let id = PreAuthId { merchant_id: found.merchant_id, pre_auth_no: found.pre_auth_no };
            let object = format!("{}/{}", id.merchant_id, id.pre_auth_no);
            let decide = |before: &PreAuth, policy: &PreAuthPolicy, now: Timestamp| {
                let change = on_review(before, verdict, policy, now).map_err(rejected)?;
                let is = change.pre_auth.status.as_str();
                Ok((resolution("pre_auth.resolve", &object, before.status.as_str(), is, &command.reason), change))
            };
            let pre_auth = pre_auths.change_by_hand(&id, &by, decide).await?;
            Ok(pre_auths.0.operator_view(&pre_auth))
        };
        self.0.core.carry(work).await
    }

    /// Ends a refund of a pre-auth that could not be resolved; one that failed gives its reservation back.
    ///
    /// # Errors
    /// As for [`Self::resolve`].
    pub async fn resolve_refund(
        &self,
        by: &Operator,
        refund_no: &str,
        command: ResolveByHand,
    ) -> Result<OperatorRefundView, GatewayError> {
        check_resolution(&command.reason)?;
        let refund_no = RefundNo::new(refund_no);
        let (merchant_id, pre_auth_no) = match numbered_list::holder_of_refund(&self.0.core, &refund_no)? {
            (merchant_id, Refunded::PreAuth(pre_auth_no)) => (merchant_id, pre_auth_no),
            (_, Refunded::Payment(_)) => return Err(GatewayError::NotFound("refund")),
        };
        let (pre_auths, by) = (self.clone(), by.clone());
        let work = async move {
            let id = PreAuthId { merchant_id, pre_auth_no };
            let object = format!("{}/{}/{refund_no}", id.merchant_id, id.pre_auth_no);
            let decide = |before: &PreAuth, policy: &PreAuthPolicy, now: Timestamp| {
                let was = views::find_refund(before, refund_no.as_str())?.status.as_str();
                let change = on_refund_review(before, &refund_no, command.status.verdict(), policy, now);
                let change = change.ok_or_else(|| GatewayError::InvalidState { status: was.to_owned() })?;
                let is = views::find_refund(&change.pre_auth, refund_no.as_str())?.status.as_str();
                Ok((resolution("refund.resolve", &object, was, is, &command.reason), change))
            };
            let pre_auth = pre_auths.change_by_hand(&id, &by, decide).await?;
            let refund = views::find_refund(&pre_auth, refund_no.as_str())?;
            let view = views::refund_view(&pre_auth, refund, pre_auths.0.core.livemode());
            Ok(OperatorRefundView { merchant_id: id.merchant_id.to_string(), refund: view })
        };
        self.0.core.carry(work).await
    }

    /// Stores what a person's word changes, unless the actor was quicker; the actor reads it anew.
    async fn change_by_hand(
        &self,
        id: &PreAuthId,
        by: &Operator,
        decide: impl Fn(&PreAuth, &PreAuthPolicy, Timestamp) -> Result<(audit::Change, Change), GatewayError>,
    ) -> Result<PreAuth, GatewayError> {
        let inner = &self.0;
        for _ in 0..CONFLICTS_MAX {
            let before: StoredPreAuth = rows::read(&inner.core, &id.merchant_id, &id.pre_auth_no)?;
            let policy = inner.works.policy_on(before.pre_auth.channel.as_str());
            let (entry, change) = decide(&before.pre_auth, &policy, inner.core.clock.now())?;
            match inner.works.commit_audited(&before, &change, by, &entry).await {
                Ok(()) => {
                    // One that is too busy to be told finds out by the row's revision.
                    if let Err(error) = inner.send(id, PreAuthMessage::Reread) {
                        tracing::debug!(pre_auth_no = %id.pre_auth_no, %error, "its actor will read it with the next message");
                    }
                    return Ok(change.pre_auth);
                }
                Err(StoreError::Precondition { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }
}

fn verdict_of(command: &ResolvePreAuthByHand) -> Result<ReviewVerdict, GatewayError> {
    let ResolvePreAuthByHand { status, captured_amount, expires_at, .. } = command;
    if captured_amount.is_some() && *status != ResolvedPreAuthStatus::Captured {
        return Err(GatewayError::field("captured_amount", "is only for what was captured"));
    }
    if expires_at.is_some() && *status != ResolvedPreAuthStatus::RequiresCapture {
        return Err(GatewayError::field("expires_at", "is only for what is held"));
    }
    Ok(match status {
        ResolvedPreAuthStatus::RequiresCapture => {
            let expires_at = match expires_at {
                None => None,
                Some(text) => Some(Timestamp::parse_rfc3339(text).ok_or_else(|| {
                    GatewayError::field("expires_at", "must be an RFC 3339 time, such as 2025-01-24T10:30:45Z")
                })?),
            };
            ReviewVerdict::Held { expires_at }
        }
        ResolvedPreAuthStatus::Captured => {
            let amount = captured_amount.filter(|minor| *minor >= 1).ok_or_else(|| {
                GatewayError::field("captured_amount", "must say how many minor units were taken, at least 1")
            })?;
            ReviewVerdict::Captured { captured_minor: amount }
        }
        ResolvedPreAuthStatus::Canceled => ReviewVerdict::Canceled,
        ResolvedPreAuthStatus::Failed => ReviewVerdict::Failed,
    })
}
