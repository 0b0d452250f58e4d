//! Pre-auths: money that is held first, and captured or released later. Each has an actor that decides about it, one
//! message after the other; here is how requests come to it, and what it works with.

mod addressed;
mod client;
mod create;
mod figures;
pub(in crate::gateway) mod held;
mod hints;
mod operator;
mod own_time;
mod reconcile;
mod review;
mod rows;
#[cfg(test)]
mod tests;
mod views;
mod works;

use std::sync::Arc;
use std::time::Duration;

use crate::actors::pre_auth::{
    Command, PreAuthDirectory, PreAuthDirectorySettings, PreAuthId, PreAuthMessage, Refused,
};
use crate::actors::router::RouterHandle;
use crate::domain::ids::{MerchantId, PreAuthNo, RefundNo};
use crate::domain::pre_auth::{PreAuth, PreAuthStatus};
use crate::gateway::answer::Answered;
use crate::gateway::auth::Caller;
use crate::gateway::channels::ChannelSet;
use crate::gateway::command::{CancelPreAuth, CapturePreAuth, CreatePreAuth, CreateRefund, PaymentFilter};
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::{Known, Origin, Reservation, Slot, look_up};
use crate::gateway::installation::ProviderKeys;
use crate::gateway::numbered_list;
use crate::gateway::page::{Page, PageRequest};
use crate::gateway::payments::Payments;
use crate::gateway::payments::rows::commit_finish;
use crate::gateway::payments::views::stray_view;
use crate::gateway::view::{OperatorPreAuthView, PreAuthView, RefundView};
use crate::gateway::webhooks::Webhooks;
use crate::storage::unreadable::UnreadableRows;
use crate::storage::{Batch, StoreError};

pub use addressed::ChannelPreAuths;
use client::{Asked, Awaited, Onlooker, Seen, WaitingClient};
use figures::PreAuthFigures;
pub use operator::ExpiringPreAuths;
use views::Form;
use works::Works;

/// Requests that may wait for one pre-auth.
const MAILBOX_MAX: usize = 64;
/// Requests that may wait for all of them together, as a multiple of how many are worked on.
const MAILBOXES_TOTAL: usize = 4;

/// The pre-auths of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct PreAuths(Arc<Inner>);

struct Inner {
    core: Core,
    payments: Payments,
    channels: Arc<ChannelSet>,
    provider_keys: ProviderKeys,
    works: Works,
    directory: PreAuthDirectory,
    figures: PreAuthFigures,
    /// Rows of the due index that can't be read.
    unreadable: UnreadableRows,
}

/// A refund of a pre-auth, for who knows its number only.
///
/// # Errors
/// [`GatewayError::NotFound`].
pub(in crate::gateway) fn refund_of(
    core: &Core,
    merchant_id: &MerchantId,
    pre_auth_no: &PreAuthNo,
    refund_no: &RefundNo,
) -> Result<RefundView, GatewayError> {
    let stored = rows::read(core, merchant_id, pre_auth_no)?;
    let refund = views::find_refund(&stored.pre_auth, refund_no.as_str())?;
    Ok(views::refund_view(&stored.pre_auth, refund, core.livemode()))
}

impl PreAuths {
    /// # Errors
    /// [`GatewayError::Internal`] when the name of a figure is there twice.
    pub(crate) fn new(
        core: Core,
        payments: Payments,
        router: RouterHandle,
        channels: Arc<ChannelSet>,
        webhooks: Webhooks,
        provider_keys: ProviderKeys,
    ) -> Result<Self, GatewayError> {
        let figures = PreAuthFigures::new(&core.figures)?;
        let works = Works::new(
            core.clone(),
            payments.clone(),
            router,
            Arc::clone(&channels),
            webhooks,
            provider_keys.clone(),
            figures.clone(),
        )?;
        let settings = &core.config.pre_auth;
        let settings = PreAuthDirectorySettings {
            active_max: settings.active_max,
            idle: Duration::from_secs(settings.idle_s),
            mailbox_max: MAILBOX_MAX,
            mailboxes_total_max: settings.active_max.saturating_mul(MAILBOXES_TOTAL),
            refunds_max: settings.refunds_max,
        };
        let directory = PreAuthDirectory::start(Arc::new(works.clone()), core.clock.clone(), settings);
        Ok(Self(Arc::new(Inner {
            core,
            payments,
            channels,
            provider_keys,
            works,
            directory,
            figures,
            unreadable: UnreadableRows::default(),
        })))
    }

    /// Starts what looks after pre-auths that nobody waits for.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(crate) fn start(&self) -> Result<(), GatewayError> {
        reconcile::start(self)
    }

    /// Has the timer look at what is due now.
    pub(in crate::gateway) fn look_at_what_is_due(&self) {
        self.0.works.due().notify_one();
    }

    /// Brings the figures for Prometheus up to date.
    pub(crate) fn read_figures(&self) {
        self.0.figures.read(self.0.directory.active());
    }

    /// Ends the actors, which finish what they are at within `within`.
    pub(crate) async fn stop(&self, within: Duration) {
        let left = self.0.directory.stop(within).await;
        if left > 0 {
            tracing::warn!(
                left,
                "pre-auths were still under way when the time to stop ran out; they go on at the next start"
            );
        }
    }

    /// The same pre-auths, addressed by their channels' numbers.
    pub fn by_channel(&self) -> ChannelPreAuths<'_> {
        ChannelPreAuths(self)
    }

    /// Has money held. The answer says what became of it, or that this is not known yet; it is stored before it is
    /// returned. The pre-auth goes on when this future is dropped.
    ///
    /// # Errors
    /// Nothing is held and nothing is stored when an error is returned, but for [`GatewayError::Internal`].
    pub async fn create(
        &self,
        caller: &Caller,
        origin: Origin,
        command: CreatePreAuth,
    ) -> Result<Answered, GatewayError> {
        self.take(caller, origin, command, Form::Own).await
    }

    /// Takes what is held, or part of it and releases the rest. The answer is 202 until that is known.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], [`GatewayError::InvalidState`], [`GatewayError::AmountTooLarge`] for more than is held.
    pub async fn capture(
        &self,
        caller: &Caller,
        origin: Origin,
        named: &str,
        command: CapturePreAuth,
    ) -> Result<Answered, GatewayError> {
        let pre_auth_no = rows::number_of(&self.0.core, &caller.merchant.merchant_id, named)?;
        self.capture_no(caller, origin, pre_auth_no, command.amount, None, Form::Own).await
    }

    /// Releases what is held, or gives up what is not held yet. The answer is 202 until that is known.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], [`GatewayError::InvalidState`].
    pub async fn cancel(
        &self,
        caller: &Caller,
        origin: Origin,
        named: &str,
        command: CancelPreAuth,
    ) -> Result<Answered, GatewayError> {
        let pre_auth_no = rows::number_of(&self.0.core, &caller.merchant.merchant_id, named)?;
        self.cancel_no(caller, origin, pre_auth_no, command.reason, Form::Own).await
    }

    /// Gives back money that was captured. `pending` in the answer means that the outcome is not known yet; the amount
    /// stays reserved.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], [`GatewayError::InvalidState`] when nothing was captured,
    /// [`GatewayError::AmountTooLarge`] for more than is left.
    pub async fn refund(
        &self,
        caller: &Caller,
        origin: Origin,
        named: &str,
        command: CreateRefund,
    ) -> Result<Answered, GatewayError> {
        let merchant_id = &caller.merchant.merchant_id;
        let pre_auth_no = rows::number_of(&self.0.core, merchant_id, named)?;
        let reservation = match self.look_up(merchant_id, &pre_auth_no, &origin, Asked::Refund).await? {
            Ok(answered) => return Ok(answered),
            Err(reservation) => reservation,
        };
        self.0.payments.check_held()?;
        Payments::check_reason(command.reason.as_ref())?;
        check_amount(command.amount)?;
        let command = Command::Refund { amount: command.amount, reason: command.reason };
        self.carry(merchant_id, pre_auth_no, command, Asked::Refund, reservation, origin).await
    }

    /// One pre-auth, named by our number or the merchant's own. With `refresh` its channel is asked first.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], also for another merchant's.
    pub async fn get(&self, caller: &Caller, named: &str, refresh: bool) -> Result<PreAuthView, GatewayError> {
        let pre_auth_no = rows::number_of(&self.0.core, &caller.merchant.merchant_id, named)?;
        let pre_auth = self.look_at(&caller.merchant.merchant_id, pre_auth_no, refresh).await?;
        Ok(self.0.view(&pre_auth))
    }

    /// A page of the merchant's pre-auths, newest first.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] for a wrong filter, limit or cursor.
    pub fn list(
        &self,
        caller: &Caller,
        filter: &PaymentFilter,
        page: &PageRequest,
    ) -> Result<Page<PreAuthView>, GatewayError> {
        let found = numbered_list::list(&self.0.core, &caller.merchant.merchant_id, filter, page)?;
        let items = found.items.iter().map(|pre_auth| self.0.view(pre_auth)).collect();
        Ok(Page { items, next_cursor: found.next_cursor })
    }

    /// All refunds of a pre-auth, newest first; there are few.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn refunds(&self, caller: &Caller, named: &str) -> Result<Page<RefundView>, GatewayError> {
        let core = &self.0.core;
        let merchant_id = &caller.merchant.merchant_id;
        let pre_auth = rows::read(core, merchant_id, &rows::number_of(core, merchant_id, named)?)?.pre_auth;
        let newest_first = pre_auth.refunds.iter().rev();
        let items = newest_first.map(|refund| views::refund_view(&pre_auth, refund, core.livemode())).collect();
        Ok(Page { items, next_cursor: None })
    }

    /// A page of all merchants' pre-auths, or of one's, newest first.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] for a wrong filter, limit or cursor.
    pub fn list_all(
        &self,
        merchant_id: Option<&str>,
        filter: &PaymentFilter,
        page: &PageRequest,
    ) -> Result<Page<OperatorPreAuthView>, GatewayError> {
        let core = &self.0.core;
        let found = match merchant_id {
            Some(merchant_id) => numbered_list::list(core, &MerchantId::new(merchant_id), filter, page)?,
            None => numbered_list::list_all(core, filter, page)?,
        };
        let items = found.items.iter().map(|pre_auth| self.0.operator_view(pre_auth)).collect();
        Ok(Page { items, next_cursor: found.next_cursor })
    }

    /// One pre-auth, whosever it is.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn find(&self, pre_auth_no: &str) -> Result<OperatorPreAuthView, GatewayError> {
        Ok(self.0.operator_view(&numbered_list::find(&self.0.core, pre_auth_no)?))
    }

    async fn capture_no(
        &self,
        caller: &Caller,
        origin: Origin,
        pre_auth_no: PreAuthNo,
        amount: Option<i64>,
        currency: Option<&str>,
        form: Form,
    ) -> Result<Answered, GatewayError> {
        let merchant_id = &caller.merchant.merchant_id;
        let own_time = self.0.works.own_times().time(&pre_auth_no, self.0.works.own_times().now());
        let asked = Asked::Capture(form);
        let reservation = match self.look_up(merchant_id, &pre_auth_no, &origin, asked).await? {
            Ok(answered) => return Ok(answered),
            Err(reservation) => reservation,
        };
        self.0.payments.check_held()?;
        check_amount(amount)?;
        let pre_auth = rows::read(&self.0.core, merchant_id, &pre_auth_no)?.pre_auth;
        if currency.is_some_and(|currency| currency != pre_auth.terms.money.currency.code()) {
            return Err(GatewayError::field("currency", "is not that of the pre-auth"));
        }
        self.0.check_partial(&pre_auth, amount)?;
        let command = Command::Capture { amount };
        let answered = self.carry(merchant_id, pre_auth_no, command, asked, reservation, origin).await;
        drop(own_time);
        answered
    }

    async fn cancel_no(
        &self,
        caller: &Caller,
        origin: Origin,
        pre_auth_no: PreAuthNo,
        reason: Option<String>,
        form: Form,
    ) -> Result<Answered, GatewayError> {
        let merchant_id = &caller.merchant.merchant_id;
        let asked = Asked::Cancel(form);
        let reservation = match self.look_up(merchant_id, &pre_auth_no, &origin, asked).await? {
            Ok(answered) => return Ok(answered),
            Err(reservation) => reservation,
        };
        Payments::check_reason(reason.as_ref())?;
        self.carry(merchant_id, pre_auth_no, Command::Cancel { reason }, asked, reservation, origin).await
    }

    /// Where a pre-auth stands, when its channel was asked if that is wanted.
    async fn look_at(
        &self,
        merchant_id: &MerchantId,
        pre_auth_no: PreAuthNo,
        refresh: bool,
    ) -> Result<PreAuth, GatewayError> {
        let core = &self.0.core;
        let pre_auth = rows::read(core, merchant_id, &pre_auth_no)?.pre_auth;
        // What the channel took for a capture is often said only later.
        let lacks_fee = pre_auth.status == PreAuthStatus::Captured && pre_auth.reported_fee_minor.is_none();
        let is_over = pre_auth.status.is_final() && !lacks_fee;
        // After a restore asking may mean sending again, and that moves money.
        if !refresh || is_over || self.0.payments.check_held().is_err() {
            return Ok(pre_auth);
        }
        let id = PreAuthId { merchant_id: merchant_id.clone(), pre_auth_no };
        let (onlooker, seen) = Onlooker::new();
        self.0.send(&id, PreAuthMessage::Begin { command: Command::Refresh, client: Box::new(onlooker) })?;
        // Who was put away before it could answer has stored what it knows.
        seen.await.unwrap_or(Ok(Seen::Known))?;
        Ok(rows::read(core, merchant_id, &id.pre_auth_no)?.pre_auth)
    }

    /// What is known of a request's idempotency key: its answer, or the place where that will be kept.
    async fn look_up(
        &self,
        merchant_id: &MerchantId,
        pre_auth_no: &PreAuthNo,
        origin: &Origin,
        asked: Asked,
    ) -> Result<Result<Answered, Reservation>, GatewayError> {
        match look_up(&self.0.core, merchant_id, origin.idempotency.as_ref())? {
            Known::Answered(answer) => Ok(Ok(Answered { answer, replayed: true })),
            Known::New(reservation) => Ok(Err(reservation)),
            Known::Unanswered { object_no, slot } => {
                let answered = self.answer_late(merchant_id, pre_auth_no, &object_no, &slot, origin, asked).await?;
                Ok(Ok(answered))
            }
        }
    }

    /// Answers a request whose first sending was never answered because the process ended: with what is so now.
    async fn answer_late(
        &self,
        merchant_id: &MerchantId,
        pre_auth_no: &PreAuthNo,
        object_no: &str,
        slot: &Slot,
        origin: &Origin,
        asked: Asked,
    ) -> Result<Answered, GatewayError> {
        let core = &self.0.core;
        let pre_auth = rows::read(core, merchant_id, pre_auth_no)?.pre_auth;
        let answer = (origin.renderer)(&asked.reply(&pre_auth, object_no, core.livemode())?);
        let mut batch = Batch::finishing();
        slot.answer(&mut batch, object_no, &answer, core.clock.now())?;
        match commit_finish(core, batch).await {
            Ok(_) => Ok(Answered { answer, replayed: true }),
            Err(StoreError::Precondition { .. }) => Err(GatewayError::IdempotencyInProgress),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the pre-auth's actor do what is asked for, and waits for what came of it.
    async fn carry(
        &self,
        merchant_id: &MerchantId,
        pre_auth_no: PreAuthNo,
        command: Command,
        asked: Asked,
        reservation: Reservation,
        origin: Origin,
    ) -> Result<Answered, GatewayError> {
        let core = &self.0.core;
        if core.stopping.is_cancelled() {
            return Err(GatewayError::ShuttingDown);
        }
        let id = PreAuthId { merchant_id: merchant_id.clone(), pre_auth_no };
        let (client, awaited) = WaitingClient::new(core, asked, id.pre_auth_no.as_str(), reservation, origin);
        self.0.send(&id, PreAuthMessage::Begin { command, client: Box::new(client) })?;
        let pre_auths = self.clone();
        // Stopping waits for what was begun, also when nobody waits for its answer.
        core.carry(async move { pre_auths.outcome(&id, asked, awaited).await }).await
    }

    /// What a client is told. If its actor was lost, with what is stored: something may have been done.
    async fn outcome(&self, id: &PreAuthId, asked: Asked, awaited: Awaited) -> Result<Answered, GatewayError> {
        let Awaited { answered, key, renderer } = awaited;
        if let Ok(outcome) = answered.await {
            return outcome;
        }
        let core = &self.0.core;
        match look_up(core, &id.merchant_id, key.as_ref())? {
            Known::Answered(answer) => Ok(Answered { answer, replayed: false }),
            Known::Unanswered { object_no, slot } => {
                let origin = Origin { idempotency: key, claim: None, permit: None, renderer };
                let answered =
                    self.answer_late(&id.merchant_id, &id.pre_auth_no, &object_no, &slot, &origin, asked).await?;
                Ok(Answered { replayed: false, ..answered })
            }
            Known::New(_) if key.is_none() && matches!(asked, Asked::Create(_)) => {
                let pre_auth = rows::read(core, &id.merchant_id, &id.pre_auth_no)?.pre_auth;
                let reply = asked.reply(&pre_auth, id.pre_auth_no.as_str(), core.livemode())?;
                Ok(Answered { answer: renderer(&reply), replayed: false })
            }
            Known::New(_) if key.is_some() => Err(GatewayError::Overloaded { retry_after_s: 1 }),
            Known::New(_) => Err(GatewayError::Internal("a pre-auth's actor was lost before it answered".to_owned())),
        }
    }
}

impl Inner {
    fn view(&self, pre_auth: &PreAuth) -> PreAuthView {
        views::pre_auth_view(pre_auth, self.core.livemode())
    }

    fn operator_view(&self, pre_auth: &PreAuth) -> OperatorPreAuthView {
        OperatorPreAuthView {
            merchant_id: pre_auth.merchant_id.to_string(),
            pre_auth: self.view(pre_auth),
            strays: pre_auth.strays.iter().map(stray_view).collect(),
        }
    }

    fn send(&self, id: &PreAuthId, message: PreAuthMessage) -> Result<(), GatewayError> {
        self.directory.send(id, message).map_err(|refused| match refused {
            Refused::Stopping => GatewayError::ShuttingDown,
            Refused::Full | Refused::Busy => GatewayError::Overloaded { retry_after_s: 1 },
        })
    }

    /// Whether the channel can take so little. What is not held is refused for that first.
    fn check_partial(&self, pre_auth: &PreAuth, amount: Option<i64>) -> Result<(), GatewayError> {
        let is_part = amount.is_some_and(|amount| amount < pre_auth.authorized_minor);
        let takes_parts =
            self.channels.get(&pre_auth.channel).is_none_or(|channel| channel.capabilities().partial_capture);
        if pre_auth.status == PreAuthStatus::RequiresCapture && is_part && !takes_parts {
            return Err(GatewayError::field("amount", "must be all that is held: the channel takes no part of it"));
        }
        Ok(())
    }
}

fn check_amount(amount: Option<i64>) -> Result<(), GatewayError> {
    if amount.is_some_and(|amount| amount < 1) {
        return Err(GatewayError::field("amount", "must be at least 1 minor unit"));
    }
    Ok(())
}
