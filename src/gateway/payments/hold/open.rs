//! What of a restored store could still move money, or names a provider that has to be asked: found in the store itself.
//! What can't be read is listed for the operator and keeps the hold, because nobody knows what it would do.

use std::collections::BTreeSet;

use crate::channels::{ChargeAnswer, ChargeState};
use crate::domain::ids::{ChannelName, PaymentNo};
use crate::domain::merchant::Merchant;
use crate::domain::money::Money;
use crate::domain::payment::{Payment, PaymentStatus, RefundStatus, ResolvePolicy, on_answer};
use crate::domain::time::Timestamp;
use crate::gateway::error::GatewayError;
use crate::gateway::payments::hold::pre_auths::OpenPreAuth;
use crate::gateway::payments::hold::refunds::PendingRefund;
use crate::gateway::payments::hold::report::{ChannelReport, ChannelState, HeldItemView};
use crate::gateway::payments::hold::{Hold, is_nameless};
use crate::gateway::payments::rows::{self, StoredPayment};
use crate::gateway::payments::views;
use crate::storage::held::Held;
use crate::storage::record::decode;
use crate::storage::{Batch, Row, Scan, StoreError, keys};

/// Rows read at once.
pub(super) const ROWS: usize = 256;
/// Under this name rows that can't be read are listed and confirmed.
const UNREADABLE: &str = "unreadable-rows";

/// What is open when the hold begins.
#[derive(Default)]
pub(super) struct Open {
    /// Refunds that no provider has named.
    pub(super) refunds: Vec<PendingRefund>,
    /// When the earliest refund under way was made.
    pub(super) earliest_refund: Option<Timestamp>,
    /// Channels that payments and pre-auths name.
    pub(super) channels: BTreeSet<ChannelName>,
    /// Pre-auths that have to be asked about.
    pub(super) pre_auths: Vec<OpenPreAuth>,
}

impl Open {
    fn take(&mut self, payment: &Payment) {
        self.channels.extend(payment.attempts.iter().map(|attempt| attempt.channel.clone()));
        let Some(attempt) = payment.current() else { return };
        for refund in payment.refunds.iter().filter(|refund| refund.status == RefundStatus::Pending) {
            let earliest = self.earliest_refund.map_or(refund.created_at, |earliest| earliest.min(refund.created_at));
            self.earliest_refund = Some(earliest);
            if refund.channel_refund_no.is_none() && refund.known_at.is_none() {
                self.refunds.push(PendingRefund {
                    merchant_id: payment.merchant_id.clone(),
                    number: payment.payment_no.to_string(),
                    refund_no: refund.refund_no.clone(),
                    channel: attempt.channel.clone(),
                    money: Money::new(refund.amount_minor, payment.terms.money.currency),
                    created_at: refund.created_at,
                });
            }
        }
    }
}

impl Hold {
    /// Looks through what is due, and through the payments made since shortly before the restore point. Channels that are
    /// not configured are listed.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(super) async fn look_for_open(&self, held: &Held) -> Result<Open, StoreError> {
        let mut open = Open::default();
        let mut scan = Scan::prefix(&keys::payments_due(), ROWS);
        while let Some(page) = self.next_page(&mut scan).await? {
            for row in &page {
                if let Some(stored) = self.due_payment(row)? {
                    open.take(&stored.payment);
                }
            }
        }
        let number = PaymentNo::new(format!("PY{}", held.asked_since().compact()));
        let mut merchants = Scan::prefix(&keys::merchants(), ROWS);
        while let Some(page) = self.next_page(&mut merchants).await? {
            for row in &page {
                let Ok(merchant) = decode::<Merchant>(&row.versioned.value) else {
                    self.list_unreadable(&row.key);
                    continue;
                };
                let mut scan = Scan::prefix(&keys::payments_of(&merchant.merchant_id), ROWS);
                scan.start = keys::payment(&merchant.merchant_id, &number);
                while let Some(page) = self.next_page(&mut scan).await? {
                    for row in &page {
                        match decode::<Payment>(&row.versioned.value) {
                            Ok(payment) => {
                                open.channels.extend(payment.attempts.into_iter().map(|attempt| attempt.channel));
                            }
                            Err(_) => self.list_unreadable(&row.key),
                        }
                    }
                }
            }
        }
        self.look_for_open_pre_auths(held, &mut open).await?;
        self.list_not_configured(held, &open.channels);
        Ok(open)
    }

    /// The next page of a scan, which then begins behind it; `None` at the end.
    pub(super) async fn next_page(&self, scan: &mut Scan) -> Result<Option<Vec<Row>>, StoreError> {
        let page = self.inner().core.store.scan(scan)?;
        let Some(last) = page.last() else { return Ok(None) };
        scan.start.clone_from(&last.key);
        scan.start.push(0);
        tokio::task::yield_now().await;
        Ok(Some(page))
    }

    /// The payment that an entry of the due index is of. Nothing is due for one that is not there.
    fn due_payment(&self, row: &Row) -> Result<Option<StoredPayment>, StoreError> {
        let entry = keys::parse_payment_due(&row.key).zip(rows::parse_due_value(&row.versioned.value));
        let Some(((_, payment_no), (merchant_id, _))) = entry else {
            self.list_unreadable(&row.key);
            return Ok(None);
        };
        let key = keys::payment(&merchant_id, &payment_no);
        let Some(found) = self.inner().core.store.get(&key)? else { return Ok(None) };
        match decode::<Payment>(&found.value) {
            Ok(payment) => Ok(Some(StoredPayment { payment, revision: found.revision })),
            Err(_) => {
                self.list_unreadable(&key);
                Ok(None)
            }
        }
    }

    /// Lists a row as one that a person has to look at; its own channel stands for all of them.
    pub(super) fn list_unreadable(&self, key: &[u8]) {
        let name = ChannelName::new(UNREADABLE);
        let mut state = self.0.state.lock();
        let is_confirmed = state.held.as_ref().is_some_and(|held| held.confirmed.contains_key(UNREADABLE));
        let report = state.channels.entry(name).or_insert_with(|| {
            let state = if is_confirmed { ChannelState::Confirmed } else { ChannelState::NeedsConfirmation };
            let problem = "rows of the store can't be read, so that it is not known what they would do: find out what \
                           they are about, or restore another backup";
            ChannelReport { problem: Some(problem.to_owned()), ..ChannelReport::new(state) }
        });
        let reference = printable(key);
        tracing::error!(
            key = reference,
            "a row can't be read; the store stays held until the operator has confirmed it"
        );
        report.list_once(HeldItemView::new("", Some(&reference), None, "the row with this key can't be read"));
    }

    /// Lists channels that payments or pre-auths name and the configuration does not: their providers can't be asked.
    fn list_not_configured(&self, held: &Held, channels: &BTreeSet<ChannelName>) {
        let mut state = self.0.state.lock();
        for name in channels {
            state.channels.entry(name.clone()).or_insert_with(|| {
                tracing::warn!(channel = %name, "a channel is named that is not configured; it is held");
                let is_confirmed = held.confirmed.contains_key(name.as_str());
                let state = if is_confirmed { ChannelState::Confirmed } else { ChannelState::NeedsConfirmation };
                let problem = "it is not configured: add it and start again, or compare by hand and confirm";
                ChannelReport { problem: Some(problem.to_owned()), ..ChannelReport::new(state) }
            });
        }
    }

    /// Whether every payment that could still be sent for the first time is closed, and everything could be read or was
    /// confirmed.
    pub(super) async fn nothing_is_nameless(&self) -> bool {
        self.look_for_nameless().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "what could still be sent can't be looked for; it is tried again");
            false
        })
    }

    async fn look_for_nameless(&self) -> Result<bool, GatewayError> {
        let mut scan = Scan::prefix(&keys::payments_due(), ROWS);
        while let Some(page) = self.next_page(&mut scan).await? {
            for row in &page {
                let Some(stored) = self.due_payment(row)? else { continue };
                let is_open = matches!(stored.payment.status, PaymentStatus::Pending | PaymentStatus::Processing);
                if is_open && is_nameless(&stored.payment) && !self.give_to_a_person(stored).await? {
                    return Ok(false);
                }
            }
        }
        Ok(self.state_of(&ChannelName::new(UNREADABLE)) == ChannelState::Confirmed)
    }

    /// A payment of a channel that is not configured and was confirmed can't be closed, and must not be sent when the
    /// channel is configured once more. Returns whether it was one.
    async fn give_to_a_person(&self, stored: StoredPayment) -> Result<bool, GatewayError> {
        let inner = self.inner();
        let Some(attempt) = stored.payment.current() else { return Ok(false) };
        if inner.channels.get(&attempt.channel).is_some() || self.state_of(&attempt.channel) != ChannelState::Confirmed
        {
            return Ok(false);
        }
        let reason = format!("channel {} is not configured any more", attempt.channel);
        let answer = ChargeAnswer::with(ChargeState::Unknown { reason }, attempt.refs.clone());
        let mut payment = stored.payment.clone();
        payment.status = PaymentStatus::Processing;
        let now = inner.core.clock.now();
        let Some(outcome) = on_answer(&payment, &answer, &at_once(&inner.policy), now) else { return Ok(false) };
        let mut batch = Batch::finishing();
        let tell = |name, id| views::payment_event(&outcome.payment, name, id);
        let planned = inner.record(&mut batch, &stored, &outcome, tell, now)?;
        match inner.costs.commit(batch, Some(&stored.payment), &outcome.payment).await {
            Ok(_) => {
                inner.alerts.note(&stored.payment, &outcome.payment);
                tracing::error!(payment_no = %outcome.payment.payment_no, "a payment needs a person: its channel is gone");
                inner.announce(planned, outcome.payment.due_at);
                Ok(true)
            }
            Err(StoreError::Precondition { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The policy that gives what is unknown to a person without waiting.
pub(super) fn at_once(policy: &ResolvePolicy) -> ResolvePolicy {
    ResolvePolicy { needs_review_after: std::time::Duration::ZERO, ..*policy }
}

/// A key as an operator can read it: its text, and other bytes as hexadecimal.
fn printable(key: &[u8]) -> String {
    let text = |byte: &u8| {
        if byte.is_ascii_graphic() { char::from(*byte).to_string() } else { format!("\\x{byte:02x}") }
    };
    key.iter().map(text).collect()
}
