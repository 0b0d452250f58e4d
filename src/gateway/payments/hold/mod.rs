//! The hold after a restore. Behind the point that the store was restored to, payments and refunds may have been made
//! that only the providers know of. Until each provider was asked about everything since then (or the operator has
//! confirmed that it was compared), no new money moves; reading, canceling and asking about outcomes go on.
//!
//! It goes in this order. What is open is looked for in the store. All lists are read, not before everything that was sent
//! has settled. Behind a refusal after which another channel may have been asked, those that
//! have no list are asked for that attempt. What is known is compared, and what is unknown but ours is *adopted*: made
//! again with its outcome, event and notifications, so that its order number is held. Then what no list has and no
//! provider ever answered is closed, never sent: payments, and refunds. When nothing is left, the hold ends by itself.

mod charges;
mod lists;
mod open;
mod pre_auths;
mod refunds;
mod report;
mod search;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

use crate::channels::ListedRefund;
use crate::config::ChannelKind;
use crate::domain::audit::{Change, Operator};
use crate::domain::ids::ChannelName;
use crate::domain::payment::Payment;
use crate::gateway::audit;
use crate::gateway::error::GatewayError;
use crate::gateway::payments::{Inner, Payments};
use crate::gateway::pre_auths::PreAuths;
use crate::storage::StoreError;
use crate::storage::held::{Held, HeldFile, SLACK};

use charges::Adoption;
use lists::ListsSince;
use pre_auths::OpenPreAuth;
use report::{ChannelReport, ChannelState};
pub use report::{HeldChannelView, HeldItemView, HoldView};

/// Wait before a list that could not be had is asked for again; doubles.
const LIST_WAIT_FIRST: Duration = Duration::from_secs(1);
/// Longest such wait.
const LIST_WAIT_MAX: Duration = Duration::from_secs(60);
/// Wait between two looks at what is not decided yet.
const LOOK_WAIT: Duration = Duration::from_millis(500);
/// How far the hold is, as those see it who would send something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is none.
    Free,
    /// The lists are being read.
    Asking,
    /// The lists are read; what none of them has is closed.
    Closing,
}

/// The stage, read by everybody and changed by the hold.
#[derive(Debug, Default)]
pub(super) struct StageCell(AtomicU8);

impl StageCell {
    pub(super) fn get(&self) -> Stage {
        match self.0.load(Ordering::Acquire) {
            0 => Stage::Free,
            1 => Stage::Asking,
            _ => Stage::Closing,
        }
    }

    fn set(&self, stage: Stage) {
        let number = match stage {
            Stage::Free => 0,
            Stage::Asking => 1,
            Stage::Closing => 2,
        };
        self.0.store(number, Ordering::Release);
    }
}

/// Whether nobody knows that the current attempt was ever received: no provider has named it, and no payer got
/// something to act on.
pub(super) fn is_nameless(payment: &Payment) -> bool {
    payment.current().is_some_and(|attempt| {
        attempt.outcome.is_none() && attempt.refs.channel_order_no.is_none() && attempt.offered_at.is_none()
    })
}

/// The hold of a gateway, over or not. Cheap to clone.
#[derive(Clone)]
pub struct Hold(Arc<Shared>);

struct Shared {
    payments: Payments,
    pre_auths: PreAuths,
    file: Option<HeldFile>,
    state: Mutex<State>,
    changed: Notify,
    /// Held by who changes the mark, from reading what it says until that is so.
    changing_mark: tokio::sync::Mutex<()>,
}

struct State {
    /// `None` when there is no hold, or it is over.
    held: Option<Held>,
    channels: BTreeMap<ChannelName, ChannelReport>,
}

impl Hold {
    /// Reads whether there is a hold, and if so, puts it in force at once. Without a file there is none.
    ///
    /// # Errors
    /// When the mark can't be read.
    pub(crate) fn open(payments: &Payments, pre_auths: &PreAuths, file: Option<HeldFile>) -> Result<Self, StoreError> {
        let inner = &payments.0;
        let held = file.as_ref().map(HeldFile::read).transpose()?.flatten();
        let mut channels = BTreeMap::new();
        if let Some(held) = &held {
            inner.stage.set(Stage::Asking);
            tracing::warn!(
                restored_until_sequence = held.restored_until_sequence,
                restored_until_time = held.restored_until_time.rfc3339(),
                "the store was restored: no money moves until the providers were asked what happened since"
            );
            for (name, config) in &inner.core.config.channels {
                let channel_name = ChannelName::new(name.as_str());
                // What has no provider behind it has nothing to tell, and neither has what can move no money.
                let moves_money = inner.channels.get(&channel_name).is_none_or(|channel| {
                    let can = channel.capabilities();
                    can.charge || can.refund || can.pre_auth
                });
                let has_provider = config.kind != ChannelKind::Instant && moves_money;
                let is_confirmed = !has_provider || held.confirmed.contains_key(name);
                let state = if is_confirmed { ChannelState::Confirmed } else { ChannelState::Asking };
                channels.insert(channel_name, ChannelReport::new(state));
            }
        }
        let state = Mutex::new(State { held, channels });
        Ok(Self(Arc::new(Shared {
            payments: payments.clone(),
            pre_auths: pre_auths.clone(),
            file,
            state,
            changed: Notify::new(),
            changing_mark: tokio::sync::Mutex::new(()),
        })))
    }

    /// Starts asking the providers, if there is a hold.
    pub(crate) fn start(&self) {
        if self.held().is_none() {
            return;
        }
        let hold = self.clone();
        self.inner().core.tasks.spawn(async move {
            let stopping = hold.inner().core.stopping.clone();
            tokio::select! {
                () = stopping.cancelled() => {}
                () = hold.run() => {}
            }
        });
    }

    /// How the hold is going.
    pub fn view(&self) -> HoldView {
        let state = self.0.state.lock();
        HoldView::of(state.held.as_ref(), &state.channels)
    }

    /// The operator has compared a channel by hand and says that nothing is missing here, or that what is missing was
    /// dealt with. It goes on when this future is dropped.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`] for a channel that is not held.
    pub async fn confirm(&self, by: &Operator, channel: &str) -> Result<HoldView, GatewayError> {
        let (hold, by, channel) = (self.clone(), by.clone(), channel.to_owned());
        self.inner().core.carry(async move { hold.note_confirmed(&by, &channel).await }).await
    }

    async fn note_confirmed(&self, by: &Operator, channel: &str) -> Result<HoldView, GatewayError> {
        let _changing = self.0.changing_mark.lock().await;
        let core = &self.inner().core;
        let now = core.clock.now();
        let name = ChannelName::new(channel);
        let mut held = {
            let state = self.0.state.lock();
            let held = state.held.clone().filter(|_| state.channels.contains_key(&name));
            held.ok_or(GatewayError::NotFound("channel that is held"))?
        };
        if held.confirmed.contains_key(channel) {
            return Ok(self.view());
        }
        // Before it counts: who has let money move again must be known, and a restart must find it.
        audit::record(core, by, &Change::new("hold.confirm", channel)).await?;
        held.confirmed.insert(channel.to_owned(), now);
        let file = self.0.file.clone();
        let written = tokio::task::spawn_blocking(move || file.map_or(Ok(()), |file| file.write(&held))).await;
        written.map_err(|error| GatewayError::Internal(format!("writing the hold: {error}")))??;
        {
            let mut state = self.0.state.lock();
            let State { held, channels } = &mut *state;
            if let (Some(held), Some(report)) = (held.as_mut(), channels.get_mut(&name)) {
                held.confirmed.insert(channel.to_owned(), now);
                report.state = ChannelState::Confirmed;
            }
        }
        tracing::warn!(channel, "the operator has confirmed that a channel was compared");
        self.0.changed.notify_one();
        Ok(self.view())
    }

    fn inner(&self) -> &Inner {
        &self.0.payments.0
    }

    fn pre_auths(&self) -> &PreAuths {
        &self.0.pre_auths
    }

    fn held(&self) -> Option<Held> {
        self.0.state.lock().held.clone()
    }

    async fn run(&self) {
        let Some(held) = self.held() else { return };
        let open = loop {
            match self.look_for_open(&held).await {
                Ok(open) => break open,
                Err(error) => tracing::warn!(%error, "what is open can't be looked for; it is tried again"),
            }
            self.rest(LIST_WAIT_MAX).await;
        };
        let charges = held.asked_since();
        // A refund that was under way may have been done long before the point.
        let refunds = open.earliest_refund.map_or(charges, |made_at| charges.min(made_at.minus(SLACK)));
        let mut collected = self.collect(&held, ListsSince { charges, refunds }).await;
        let (mut undecided, mut pre_auths) = (open.refunds, open.pre_auths);
        let charges = std::mem::take(&mut collected.charges);
        let mut adoptions: Vec<Adoption> = charges.into_values().map(Adoption::of).collect();
        let mut refunds = std::mem::take(&mut collected.refunds);
        let mut is_closing = false;
        loop {
            adoptions = self.adopt(adoptions, &mut pre_auths, self.sent_until(&held)).await;
            pre_auths = self.ask_about(&held, pre_auths, is_closing).await;
            refunds = self.adopt_refunds(refunds, &adoptions, &undecided).await;
            undecided = self.close_refunds(undecided, &collected).await;
            // What is still looked for elsewhere must not be closed meanwhile.
            if !is_closing && adoptions.iter().all(|adoption| adoption.search.is_over()) {
                // From now on what has no name is closed, and what waits for that can be adopted.
                self.inner().stage.set(Stage::Closing);
                self.inner().due.notify_one();
                is_closing = true;
            }
            self.conclude_channels(&adoptions, &refunds, &pre_auths);
            let is_decided = self.0.state.lock().channels.values().all(ChannelReport::is_done);
            if is_decided
                && undecided.is_empty()
                && pre_auths.is_empty()
                && self.nothing_is_nameless().await
                && self.is_left_to_the_operator(&adoptions, &refunds)
            {
                break;
            }
            self.rest(LOOK_WAIT).await;
        }
        self.end().await;
    }

    /// Whether everything that is not decided is of channels that the operator has confirmed. Then that is told, and given
    /// up.
    fn is_left_to_the_operator(&self, adoptions: &[Adoption], refunds: &[(ChannelName, ListedRefund)]) -> bool {
        let is_confirmed = |name: &ChannelName| self.state_of(name) == ChannelState::Confirmed;
        let of_charges = adoptions.iter().flat_map(|adoption| &adoption.charges);
        let are_confirmed = of_charges.clone().all(|(name, _)| is_confirmed(name))
            && refunds.iter().all(|(name, _)| is_confirmed(name));
        if are_confirmed {
            for (channel, charge) in of_charges {
                let (reference, provider_no) = (charge.reference.as_deref(), &charge.provider_no);
                tracing::warn!(%channel, reference, provider_no, "a charge is not taken over: its channel was confirmed");
            }
            for (channel, refund) in refunds {
                let (reference, provider_no) = (refund.refund_reference.as_deref(), &refund.provider_no);
                tracing::warn!(%channel, reference, provider_no, "a refund is not taken over: its channel was confirmed");
            }
        }
        are_confirmed
    }

    /// Channels whose list was read are done when nothing of them is open.
    fn conclude_channels(
        &self,
        adoptions: &[Adoption],
        refunds: &[(ChannelName, ListedRefund)],
        pre_auths: &[OpenPreAuth],
    ) {
        let mut state = self.0.state.lock();
        for (name, report) in &mut state.channels {
            if report.state != ChannelState::Listed {
                continue;
            }
            let is_open = adoptions.iter().any(|adoption| adoption.is_of(name))
                || refunds.iter().any(|(channel, _)| channel == name)
                || Self::are_open_on(pre_auths, name);
            if !is_open {
                report.problem = None;
                report.state =
                    if report.items.is_empty() { ChannelState::Checked } else { ChannelState::NeedsConfirmation };
            }
        }
    }

    async fn end(&self) {
        let core = &self.inner().core;
        let restored_until = self.held().map_or(0, |held| held.restored_until_sequence);
        let change = Change::new("hold.end", "store");
        let change = change.field("restored_until_sequence", Some(json!(restored_until)), None);
        // Before it counts, as with a confirmation: that money moves again must be known.
        while let Err(error) = audit::record(core, &Operator::process("hold"), &change).await {
            tracing::error!(%error, "the hold is over and that can't be written into the audit yet");
            self.rest(LIST_WAIT_MAX).await;
        }
        loop {
            // A confirmation that is being written down must not put the mark back.
            let changing = self.0.changing_mark.lock().await;
            let file = self.0.file.clone();
            let removed = tokio::task::spawn_blocking(move || file.map_or(Ok(()), |file| file.remove())).await;
            match removed {
                Ok(Ok(())) => {
                    self.0.state.lock().held = None;
                    break;
                }
                Ok(Err(error)) => tracing::error!(%error, "the hold is over and its mark can't be removed"),
                Err(error) => tracing::error!(%error, "the hold is over and its mark can't be removed"),
            }
            drop(changing);
            self.rest(LIST_WAIT_MAX).await;
        }
        self.inner().stage.set(Stage::Free);
        self.inner().due.notify_one();
        self.pre_auths().look_at_what_is_due();
        tracing::info!("every provider was asked about everything since the restore point: the hold is over");
    }

    async fn rest(&self, wait: Duration) {
        tokio::select! {
            () = self.0.changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    fn state_of(&self, name: &ChannelName) -> ChannelState {
        self.0.state.lock().channels.get(name).map_or(ChannelState::Confirmed, |report| report.state)
    }

    fn report(&self, name: &ChannelName, change: impl FnOnce(&mut ChannelReport)) {
        if let Some(report) = self.0.state.lock().channels.get_mut(name) {
            change(report);
        }
    }
}

impl Payments {
    /// Whether what moves money is refused because the store was restored.
    ///
    /// # Errors
    /// [`GatewayError::Held`].
    pub(in crate::gateway) fn check_held(&self) -> Result<(), GatewayError> {
        if self.0.stage.get() == Stage::Free { Ok(()) } else { Err(GatewayError::Held) }
    }
}
