//! Pre-auths as their channels number them. Every number that a channel ever gave one addresses it, for its merchant only.

use crate::domain::ids::{ChannelName, PreAuthNo};
use crate::gateway::answer::Answered;
use crate::gateway::auth::Caller;
use crate::gateway::command::{CancelChannelPreAuth, CaptureChannelPreAuth, CreateChannelPreAuth};
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::Origin;
use crate::gateway::pre_auths::views::{self, Form};
use crate::gateway::pre_auths::{PreAuths, rows};
use crate::gateway::view::ChannelPreAuthView;

/// The pre-auths of a gateway, by channel and the channel's own number, or the merchant's or ours.
#[derive(Clone, Copy)]
pub struct ChannelPreAuths<'a>(pub(super) &'a PreAuths);

impl ChannelPreAuths<'_> {
    /// As [`PreAuths::create`], on the channel that is named.
    ///
    /// # Errors
    /// As for [`PreAuths::create`].
    pub async fn create(
        self,
        caller: &Caller,
        origin: Origin,
        command: CreateChannelPreAuth,
    ) -> Result<Answered, GatewayError> {
        self.0.take(caller, origin, command.into(), Form::Channel).await
    }

    /// As [`PreAuths::capture`].
    ///
    /// # Errors
    /// As for [`PreAuths::capture`].
    pub async fn capture(
        self,
        caller: &Caller,
        origin: Origin,
        command: CaptureChannelPreAuth,
    ) -> Result<Answered, GatewayError> {
        let pre_auth_no = self.number_of(caller, &command.channel, &command.channel_pre_auth_no)?;
        let currency = command.currency.as_deref();
        self.0.capture_no(caller, origin, pre_auth_no, command.amount, currency, Form::Channel).await
    }

    /// As [`PreAuths::cancel`].
    ///
    /// # Errors
    /// As for [`PreAuths::cancel`].
    pub async fn cancel(
        self,
        caller: &Caller,
        origin: Origin,
        command: CancelChannelPreAuth,
    ) -> Result<Answered, GatewayError> {
        let pre_auth_no = self.number_of(caller, &command.channel, &command.channel_pre_auth_no)?;
        self.0.cancel_no(caller, origin, pre_auth_no, command.reason, Form::Channel).await
    }

    /// As [`PreAuths::get`].
    ///
    /// # Errors
    /// As for [`PreAuths::get`].
    pub async fn get(self, caller: &Caller, channel: &str, number: &str) -> Result<ChannelPreAuthView, GatewayError> {
        let pre_auth_no = self.number_of(caller, channel, number)?;
        let pre_auth = self.0.look_at(&caller.merchant.merchant_id, pre_auth_no, false).await?;
        Ok(views::channel_view(&pre_auth, self.0.0.core.livemode()))
    }

    /// Our number. Without one of the channel's (it may not have given one yet) the merchant's own, or ours, does too, on
    /// the channel that has it.
    fn number_of(self, caller: &Caller, channel: &str, number: &str) -> Result<PreAuthNo, GatewayError> {
        let core = &self.0.0.core;
        let merchant_id = &caller.merchant.merchant_id;
        match rows::number_at_provider(core, merchant_id, &ChannelName::new(channel), number) {
            Err(unknown @ GatewayError::NotFound(_)) => {
                let pre_auth_no = rows::number_of(core, merchant_id, number)?;
                let stored = rows::read(core, merchant_id, &pre_auth_no)?;
                if stored.pre_auth.channel.as_str() == channel { Ok(pre_auth_no) } else { Err(unknown) }
            }
            found => found,
        }
    }
}
