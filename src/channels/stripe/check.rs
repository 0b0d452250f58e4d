//! Whether the channel's credentials open an account, without moving anything.

use crate::channels::http::HttpAnswer;
use crate::channels::stripe::StripeChannel;
use crate::channels::stripe::response::{Account, ErrorReply, List, PaymentIntent, Reply, read};
use crate::channels::{CheckFailure, CheckReport};

impl StripeChannel {
    pub(super) async fn look_at_account(&self) -> Result<CheckReport, CheckFailure> {
        let deadline = self.client.deadline();
        let answer = self.client.get_account(deadline).await.map_err(unreachable)?;
        let mut report = CheckReport { livemode: self.livemode, ..CheckReport::default() };
        match read::<Account>(&answer).map_err(CheckFailure::Refused)? {
            Reply::Object(account) => {
                report.account = Some(account.id);
                if account.charges_enabled == Some(false) {
                    report.findings.push(String::from("The account may not take payments yet."));
                }
            }
            // A restricted key need not see the account; what it is for here is more.
            Reply::Error(reply) if reply.status == 403 => {
                report.findings.push(String::from("The key may not read the account, which is not needed."));
            }
            Reply::Error(reply) => return Err(refused(&reply)),
        }
        let answer = self.client.newest_intent(deadline).await.map_err(unreachable)?;
        can_list(&answer)?;
        if self.livemode.is_none() {
            report.findings.push(String::from("The key does not say whether it moves real money."));
        }
        if self.webhook_secret.is_none() {
            let missing = "Stripe's notifications are not taken, because `webhook_secret` is missing.";
            report.findings.push(String::from(missing));
        }
        Ok(report)
    }
}

/// Without the list, what became of a request whose answer was lost can't be found out.
fn can_list(answer: &HttpAnswer) -> Result<(), CheckFailure> {
    match read::<List<PaymentIntent>>(answer).map_err(CheckFailure::Refused)? {
        Reply::Object(_) => Ok(()),
        Reply::Error(reply) => Err(refused(&reply)),
    }
}

fn unreachable(error: impl ToString) -> CheckFailure {
    CheckFailure::Unreachable(error.to_string())
}

fn refused(reply: &ErrorReply) -> CheckFailure {
    match reply.status {
        401 => CheckFailure::Refused(String::from("Stripe does not know the secret key.")),
        403 => CheckFailure::Refused(String::from("The key may not read PaymentIntents.")),
        // Nothing that the credentials are to blame for.
        429 | 500.. => CheckFailure::Unreachable(format!("Stripe answered with HTTP status {}", reply.status)),
        status => CheckFailure::Refused(format!("Stripe answered with HTTP status {status}")),
    }
}
