//! What a new access token shows about how the channel is set up. Fetching one moves nothing.

use crate::channels::paypal::PaypalChannel;
use crate::channels::paypal::token::TokenError;
use crate::channels::{Channel, CheckFailure, CheckReport};

impl PaypalChannel {
    pub(super) async fn look_around(&self) -> Result<CheckReport, CheckFailure> {
        let granted = match self.client.renew_token().await {
            Ok(granted) => granted,
            Err(TokenError::Refused(reason)) => return Err(CheckFailure::Refused(reason)),
            Err(TokenError::Unreachable(reason)) => return Err(CheckFailure::Unreachable(reason)),
        };
        let mut findings = Vec::new();
        if self.notifications.is_none() {
            let finding = "Without the credential `webhook_id` no notification of PayPal's can be checked: what payers \
                           do is learned by asking alone.";
            findings.push(finding.to_owned());
        }
        Ok(CheckReport { account: granted.app_id, livemode: self.livemode(), findings })
    }
}
