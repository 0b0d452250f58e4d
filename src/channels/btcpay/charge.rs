//! Making an invoice, once.

use crate::channels::btcpay::request::invoice_body;
use crate::channels::btcpay::response::{ErrorReply, Invoice, Reply, read};
use crate::channels::btcpay::{BtcpayChannel, amount, amount_not_supported, refused, unreachable};
use crate::channels::http::HttpError;
use crate::channels::{ChargeAnswer, ChargeRequest};

impl BtcpayChannel {
    pub(super) async fn send_charge(&self, charge: &ChargeRequest) -> ChargeAnswer {
        let Some(amount) = amount::to_btcpay(charge.money) else {
            return ChargeAnswer::not_done(amount_not_supported());
        };
        let body = invoice_body(charge, &amount, self.token_of(charge));
        let answer = match self.client.create_invoice(&body, self.client.deadline()).await {
            Ok(answer) => answer,
            Err(error @ HttpError::NotSent(_)) => return ChargeAnswer::not_done(unreachable(&error)),
            Err(error) => return ChargeAnswer::unknown(error.to_string()),
        };
        match read::<Invoice>(&answer) {
            Ok(Reply::Object(invoice)) => self.judge(&invoice, charge, None),
            Ok(Reply::Error(reply)) => not_made(&reply),
            Err(reason) => ChargeAnswer::unknown(reason),
        }
    }
}

/// What the refusal of an invoice means. One that a BTCPay server has not said itself says nothing about what is behind it.
fn not_made(reply: &ErrorReply) -> ChargeAnswer {
    match (reply.status, &reply.said) {
        (400 | 401 | 403 | 404 | 422 | 429, Some((code, message))) => ChargeAnswer::not_done(refused(code, message)),
        (status, _) => ChargeAnswer::unknown(format!("BTCPay answered with HTTP status {status}")),
    }
}
