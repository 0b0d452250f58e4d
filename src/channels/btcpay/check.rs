//! A look at the store that changes nothing.

use serde::de::IgnoredAny;

use crate::channels::btcpay::BtcpayChannel;
use crate::channels::btcpay::response::{Reply, read};
use crate::channels::{CheckFailure, CheckReport};

impl BtcpayChannel {
    /// Asks for one invoice, which takes the store's key and changes nothing.
    pub(super) async fn look_at_store(&self) -> Result<CheckReport, CheckFailure> {
        let response = self.client.any_invoice(self.client.deadline()).await;
        let response = response.map_err(|error| CheckFailure::Unreachable(error.to_string()))?;
        match read::<Vec<IgnoredAny>>(&response).map_err(CheckFailure::Unreachable)? {
            Reply::Object(_) => Ok(CheckReport {
                account: Some(self.client.store_id().to_owned()),
                livemode: None,
                findings: self.findings(),
            }),
            Reply::Error(reply) => {
                let said = reply.said.map_or_else(String::new, |(code, message)| format!(" ({code}: {message})"));
                let answered = format!("HTTP status {}{said}", reply.status);
                // Too much was asked, or the server is not well: nothing that the credentials are to blame for.
                Err(if reply.status == 429 || reply.status >= 500 {
                    CheckFailure::Unreachable(format!("it answered with {answered}"))
                } else {
                    CheckFailure::Refused(answered)
                })
            }
        }
    }

    fn findings(&self) -> Vec<String> {
        match self.webhook_secret {
            Some(_) => Vec::new(),
            None => {
                vec![String::from("There is no webhook_secret: what the server sends of its own accord is not taken.")]
            }
        }
    }
}
