//! Finding out what became of an invoice.
//!
//! With its number it is read. Without, it is looked for by our payment number: an invoice is never created again, since
//! nothing would keep the payer from paying both. Several that are there all the same are closed but for one.

use crate::channels::btcpay::invoice::{answer, unknown};
use crate::channels::btcpay::response::{Invoice, InvoiceStatus, PaymentMethod, Reply, read};
use crate::channels::btcpay::{BtcpayChannel, not_received};
use crate::channels::http::Deadline;
use crate::channels::{ChargeAnswer, ChargeState, ListError, ResolveRequest, StrayKind};

impl BtcpayChannel {
    pub(super) async fn ask_about_charge(&self, request: &ResolveRequest) -> ChargeAnswer {
        let deadline = self.client.deadline();
        if let Some(id) = &request.refs.channel_order_no {
            return self.ask_by_number(id, request, deadline).await;
        }
        let found = match self.invoices_of(request, deadline).await {
            Ok(found) => found,
            Err(reason) => return ChargeAnswer::unknown(reason),
        };
        let Some((kept, others)) = found.split_first() else {
            return match request.is_settled() {
                true => ChargeAnswer::not_done(not_received()),
                false => ChargeAnswer::unknown("BTCPay has no such invoice yet"),
            };
        };
        for other in others.iter().filter(|other| other.status == InvoiceStatus::New) {
            if let Err(reason) = self.close_invoice(other, deadline).await {
                return answer(kept, unknown(format!("another invoice of the payment could not be closed: {reason}")));
            }
        }
        self.judge_or_close(kept, request, deadline).await
    }

    /// Looks for it and changes nothing.
    pub(super) async fn look_for_charge(&self, request: &ResolveRequest) -> Result<Option<ChargeAnswer>, ListError> {
        let deadline = self.client.deadline();
        let found = self.invoices_of(request, deadline).await.map_err(ListError::Failed)?;
        match found.first() {
            Some(kept) => Ok(Some(self.judge_confirmed(kept, request, deadline).await)),
            None if request.is_settled() => Ok(None),
            None => Err(ListError::Failed(String::from("it may be on its way"))),
        }
    }

    async fn ask_by_number(&self, id: &str, request: &ResolveRequest, deadline: Deadline) -> ChargeAnswer {
        let response = match self.client.get_invoice(id, deadline).await {
            Ok(response) => response,
            Err(error) => return ChargeAnswer::unknown(error.to_string()),
        };
        match read::<Invoice>(&response) {
            Ok(Reply::Object(invoice)) if invoice.id == id => self.judge_or_close(&invoice, request, deadline).await,
            Ok(Reply::Object(_)) => ChargeAnswer::unknown("BTCPay answered about another invoice"),
            Ok(Reply::Error(reply)) => ChargeAnswer::unknown(format!("BTCPay answered with status {}", reply.status)),
            Err(reason) => ChargeAnswer::unknown(reason),
        }
    }

    /// What an invoice means, after it was closed if that is wanted and the payer's page is still open.
    async fn judge_or_close(&self, invoice: &Invoice, request: &ResolveRequest, deadline: Deadline) -> ChargeAnswer {
        let judged = self.judge_confirmed(invoice, request, deadline).await;
        // One that is not ours has no number in its answer, and is left alone.
        let is_ours = judged.refs.channel_order_no.is_some();
        if !request.close || invoice.status != InvoiceStatus::New || !is_ours {
            return judged;
        }
        match self.close_invoice(invoice, deadline).await {
            Ok(closed) => self.judge_confirmed(&closed, request, deadline).await,
            Err(reason) => answer(invoice, unknown(format!("it could not be closed: {reason}"))),
        }
    }

    /// What an invoice means. Stray money counts once it can't be taken back any more: else whoever sent it could take it
    /// back, and be given it back as well. Until then what was asked for is paid where the server says so, and of what is
    /// beyond it no amount counts.
    async fn judge_confirmed(&self, invoice: &Invoice, request: &ResolveRequest, deadline: Deadline) -> ChargeAnswer {
        let judged = self.judge(invoice, &request.charge, Some(request.now));
        if !matches!(judged.state, ChargeState::Stray { .. }) {
            return judged;
        }
        let response = match self.client.payment_methods(&invoice.id, deadline).await {
            Ok(response) => response,
            Err(error) => return answer(invoice, unknown(error.to_string())),
        };
        match read::<Vec<PaymentMethod>>(&response) {
            Ok(Reply::Object(methods)) if methods.iter().all(PaymentMethod::is_confirmed) => judged,
            Ok(Reply::Object(_)) if matches!(judged.state, ChargeState::Stray { kind: StrayKind::Over, .. }) => {
                answer(invoice, ChargeState::Stray { kind: StrayKind::Over, received: None })
            }
            Ok(Reply::Object(_)) => answer(invoice, unknown("what came otherwise than asked for is not confirmed yet")),
            Ok(Reply::Error(reply)) => {
                answer(invoice, unknown(format!("BTCPay answered with status {}", reply.status)))
            }
            Err(reason) => answer(invoice, unknown(reason)),
        }
    }

    async fn close_invoice(&self, invoice: &Invoice, deadline: Deadline) -> Result<Invoice, String> {
        let response = self.client.close_invoice(&invoice.id, deadline).await.map_err(|error| error.to_string())?;
        match read::<Invoice>(&response)? {
            Reply::Object(closed) if closed.id == invoice.id => Ok(closed),
            Reply::Object(_) => Err(String::from("BTCPay answered about another invoice")),
            Reply::Error(reply) => Err(format!("BTCPay answered with status {}", reply.status)),
        }
    }

    /// The invoices of an attempt, the one that counts first: what has been paid, or else the oldest.
    async fn invoices_of(&self, request: &ResolveRequest, deadline: Deadline) -> Result<Vec<Invoice>, String> {
        let charge = &request.charge;
        let response = self.client.find_invoices(&charge.reference, deadline).await;
        let mut found = match read::<Vec<Invoice>>(&response.map_err(|error| error.to_string())?)? {
            Reply::Object(found) => found,
            Reply::Error(reply) => return Err(format!("BTCPay's list was answered with status {}", reply.status)),
        };
        found.retain(|invoice| invoice.is_of(charge));
        let is_unpaid = |invoice: &Invoice| {
            let is_open = !matches!(invoice.status, InvoiceStatus::Settled | InvoiceStatus::Processing);
            is_open && invoice.paid(charge.money).is_none_or(|paid| paid.amount_minor == 0)
        };
        found.sort_by_cached_key(|invoice| (is_unpaid(invoice), invoice.created_time, invoice.id.clone()));
        Ok(found)
    }
}
