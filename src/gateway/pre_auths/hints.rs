//! Pre-auths of which their providers have told something.

use crate::actors::pre_auth::{Command, PreAuthId, PreAuthMessage};
use crate::domain::ids::{ChannelName, MerchantId, PreAuthNo};
use crate::domain::pre_auth::PreAuthStatus;
use crate::domain::refund::RefundStatus;
use crate::gateway::error::GatewayError;
use crate::gateway::payments::{Followed, Need};
use crate::gateway::pre_auths::client::{Onlooker, Seen};
use crate::gateway::pre_auths::{PreAuths, rows};

impl PreAuths {
    /// Whose pre-auth a channel's provider names by one of these numbers.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(in crate::gateway) fn named_by_provider(
        &self,
        channel: &ChannelName,
        numbers: &[&str],
    ) -> Result<Option<(MerchantId, PreAuthNo)>, GatewayError> {
        for number in numbers {
            if let Some(owner) = rows::owner_at_provider(&self.0.core, channel, number)? {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }

    /// What a hint about a pre-auth calls for.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(in crate::gateway) fn need(
        &self,
        merchant_id: &MerchantId,
        pre_auth_no: &PreAuthNo,
        channel: &ChannelName,
    ) -> Result<Need, GatewayError> {
        let Some(stored) = rows::load(&self.0.core, merchant_id, pre_auth_no)? else { return Ok(Need::Presence) };
        let pre_auth = stored.pre_auth;
        if !self.0.core.config.is_one_provider(pre_auth.channel.as_str(), channel.as_str()) {
            return Ok(Need::Presence);
        }
        let has_open_refunds = pre_auth.refunds.iter().any(|refund| refund.status == RefundStatus::Pending);
        // Captured is captured for good, and a person looks at what needs one.
        let is_settled = matches!(pre_auth.status, PreAuthStatus::Captured | PreAuthStatus::NeedsReview);
        Ok(if is_settled && !has_open_refunds { Need::Nothing } else { Need::Question })
    }

    /// Has the channel asked about a pre-auth, and waits for that. One with an open operation is asked about again by
    /// whoever looks after those; of any other nobody else will soon.
    ///
    /// # Errors
    /// [`GatewayError::Overloaded`] when it has too much to do, [`GatewayError::ShuttingDown`], and what the store says.
    pub(in crate::gateway) async fn follow_hint(
        &self,
        merchant_id: &MerchantId,
        pre_auth_no: &PreAuthNo,
    ) -> Result<Followed, GatewayError> {
        let id = PreAuthId { merchant_id: merchant_id.clone(), pre_auth_no: pre_auth_no.clone() };
        let (onlooker, seen) = Onlooker::new();
        self.0.send(&id, PreAuthMessage::Begin { command: Command::Refresh, client: Box::new(onlooker) })?;
        // An actor that was lost may not have asked.
        let seen = seen.await.unwrap_or(Err(GatewayError::Overloaded { retry_after_s: 1 }))?;
        if self.0.core.stopping.is_cancelled() {
            // Nor one that was to ask only now.
            return Err(GatewayError::ShuttingDown);
        }
        let has_nothing_open = rows::read(&self.0.core, merchant_id, pre_auth_no)?.pre_auth.operation.is_none();
        Ok(if has_nothing_open && seen == Seen::NotKnown { Followed::Unanswered } else { Followed::Asked })
    }
}
