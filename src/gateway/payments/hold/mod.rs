//! The hold after a restore. Behind the point that the store was restored to, payments and refunds may have been made
//! that only the providers know of. Until each provider was asked about everything since then (or the operator has
//! confirmed that it was compared), no new money moves; reading, canceling and asking about outcomes go on.
//!
//! It goes in this order. All lists are read. Behind a refusal after which another channel may have been asked, those that
//! have no list are asked for that attempt. What is known is compared, and what is unknown but ours is *adopted*: made
//! again with its outcome, event and notifications, so that its order number is held. Then what no list has and no
//! provider ever answered is closed, never sent. When nothing is left, the hold ends by itself.

mod charges;
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

use crate::channels::{ListError, ListedCharge, ListedRefund};
use crate::config::ChannelKind;
use crate::domain::audit::{Change, Operator};
use crate::domain::ids::ChannelName;
use crate::domain::payment::{Payment, PaymentStatus};
use crate::domain::time::Timestamp;
use crate::gateway::audit;
use crate::gateway::error::GatewayError;
use crate::gateway::payments::rows;
use crate::gateway::payments::{Inner, Payments};
use crate::storage::StoreError;
use crate::storage::held::{Held, HeldFile};
use crate::storage::{Scan, keys};

use charges::Adoption;
use report::{ChannelReport, ChannelState};
pub use report::{HeldChannelView, HeldItemView, HoldView};

/// How much earlier than the restore point the providers' lists are read from, for clocks that differ and requests that
/// were on their way.
const SLACK: Duration = Duration::from_secs(15 * 60);
/// Wait before a list that could not be had is asked for again; doubles.
const LIST_WAIT_FIRST: Duration = Duration::from_secs(1);
/// Longest such wait.
const LIST_WAIT_MAX: Duration = Duration::from_secs(60);
/// Wait between two looks at what is not decided yet.
const LOOK_WAIT: Duration = Duration::from_millis(500);
/// Objects that are kept to be adopted. More than that is no gap that a program should fill.
const COLLECTED_MAX: usize = 100_000;
/// Pages of one list.
const PAGES_MAX: usize = 20_000;
/// Rows of the due index read at once.
const DUE_ROWS: usize = 256;

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

/// What the lists have, put together.
#[derive(Default)]
struct Collected {
    charges: BTreeMap<String, Vec<(ChannelName, ListedCharge)>>,
    refunds: Vec<(ChannelName, ListedRefund)>,
    count: usize,
}

impl Hold {
    /// Reads whether there is a hold, and if so, puts it in force at once. Without a file there is none.
    ///
    /// # Errors
    /// When the mark can't be read.
    pub(crate) fn open(payments: &Payments, file: Option<HeldFile>) -> Result<Self, StoreError> {
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
                // What has no provider behind it has nothing to tell.
                let is_confirmed = config.kind == ChannelKind::Instant || held.confirmed.contains_key(name);
                let state = if is_confirmed { ChannelState::Confirmed } else { ChannelState::Asking };
                channels.insert(ChannelName::new(name.as_str()), ChannelReport::new(state));
            }
        }
        let state = Mutex::new(State { held, channels });
        Ok(Self(Arc::new(Shared {
            payments: payments.clone(),
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

    fn held(&self) -> Option<Held> {
        self.0.state.lock().held.clone()
    }

    async fn run(&self) {
        let Some(held) = self.held() else { return };
        let since = held.restored_until_time.minus(SLACK);
        let Collected { charges, refunds, .. } = self.collect(since).await;
        let mut adoptions: Vec<Adoption> = charges.into_values().map(Adoption::of).collect();
        let mut refunds = refunds;
        let mut is_closing = false;
        loop {
            adoptions = self.adopt(adoptions, held.made_at).await;
            refunds = self.adopt_refunds(refunds, &adoptions).await;
            // What is still looked for elsewhere must not be closed meanwhile.
            if !is_closing && adoptions.iter().all(|adoption| adoption.search.is_over()) {
                // From now on what has no name is closed, and what waits for that can be adopted.
                self.inner().stage.set(Stage::Closing);
                self.inner().due.notify_one();
                is_closing = true;
            }
            self.conclude_channels(&adoptions, &refunds);
            let is_decided = self.0.state.lock().channels.values().all(ChannelReport::is_done);
            if is_decided && self.nothing_is_nameless() {
                break;
            }
            self.rest(LOOK_WAIT).await;
        }
        self.end().await;
    }

    /// Reads all lists, one channel after the other, each until it can be had or the operator confirms the channel.
    async fn collect(&self, since: Timestamp) -> Collected {
        let mut collected = Collected::default();
        let names: Vec<ChannelName> = self.0.state.lock().channels.keys().cloned().collect();
        for name in names {
            let mut wait = LIST_WAIT_FIRST;
            while self.state_of(&name) == ChannelState::Asking {
                match self.read_lists(&name, since, &mut collected).await {
                    Ok(()) => self.report(&name, |report| report.state = ChannelState::Listed),
                    Err(ListError::NotSupported) => {
                        self.report(&name, |report| {
                            report.state = ChannelState::NeedsConfirmation;
                            report.problem = Some(String::from(
                                "its provider can't be asked for a list: compare by hand what it has since then",
                            ));
                        });
                        tracing::warn!(channel = %name, "the provider has no list; the operator has to compare and confirm");
                    }
                    Err(ListError::Failed(reason)) => {
                        tracing::warn!(channel = %name, reason, "the provider's list can't be had; it is asked again");
                        self.report(&name, |report| report.problem = Some(reason));
                        self.rest(wait).await;
                        wait = (wait * 2).min(LIST_WAIT_MAX);
                    }
                }
            }
        }
        collected
    }

    async fn read_lists(
        &self,
        name: &ChannelName,
        since: Timestamp,
        collected: &mut Collected,
    ) -> Result<(), ListError> {
        let Some(channel) = self.inner().channels.get(name) else { return Err(ListError::NotSupported) };
        self.report(name, ChannelReport::begin);
        let (mut charges, mut refunds) = (Vec::new(), Vec::new());
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let page = channel.list_charges(since, after.as_deref()).await?;
            self.report(name, |report| report.objects += page.items.len());
            charges.extend(self.only_marked(name, page.items, |charge| charge.reference.is_some()));
            after = page.next;
            if after.is_none() || charges.len() > COLLECTED_MAX {
                break;
            }
        }
        for _ in 0..PAGES_MAX {
            let page = channel.list_refunds(since, after.as_deref()).await?;
            self.report(name, |report| report.objects += page.items.len());
            refunds.extend(self.only_marked(name, page.items, |refund| refund.refund_reference.is_some()));
            after = page.next;
            if after.is_none() || refunds.len() > COLLECTED_MAX {
                break;
            }
        }
        if after.is_some() || collected.count + charges.len() + refunds.len() > COLLECTED_MAX {
            return Err(ListError::Failed(format!(
                "more than {COLLECTED_MAX} objects since then; restore a newer backup"
            )));
        }
        collected.count += charges.len() + refunds.len();
        for charge in charges {
            let reference = charge.reference.clone().unwrap_or_default();
            collected.charges.entry(reference).or_default().push((name.clone(), charge));
        }
        collected.refunds.extend(refunds.into_iter().map(|refund| (name.clone(), refund)));
        Ok(())
    }

    /// Counts and drops what carries no mark of ours: another program uses the same account.
    fn only_marked<T>(&self, name: &ChannelName, items: Vec<T>, is_marked: impl Fn(&T) -> bool) -> Vec<T> {
        let (marked, foreign): (Vec<T>, Vec<T>) = items.into_iter().partition(is_marked);
        self.report(name, |report| report.foreign += foreign.len());
        marked
    }

    /// Channels whose list was read are done when nothing of them is open.
    fn conclude_channels(&self, adoptions: &[Adoption], refunds: &[(ChannelName, ListedRefund)]) {
        let mut state = self.0.state.lock();
        for (name, report) in &mut state.channels {
            if report.state != ChannelState::Listed {
                continue;
            }
            let is_open = adoptions.iter().any(|adoption| adoption.is_of(name))
                || refunds.iter().any(|(channel, _)| channel == name);
            if !is_open {
                report.state =
                    if report.items.is_empty() { ChannelState::Checked } else { ChannelState::NeedsConfirmation };
            }
        }
    }

    /// Whether every payment that could still be sent for the first time is closed.
    fn nothing_is_nameless(&self) -> bool {
        let inner = self.inner();
        let mut scan = Scan::prefix(&keys::payments_due(), DUE_ROWS);
        loop {
            let Ok(page) = inner.core.store.scan(&scan) else { return false };
            for row in &page {
                let Some((_, payment_no)) = keys::parse_payment_due(&row.key) else { continue };
                let Some((merchant_id, channel)) = rows::parse_due_value(&row.versioned.value) else { continue };
                let Ok(stored) = rows::read(&inner.core, &merchant_id, &payment_no) else { continue };
                let is_open = matches!(stored.payment.status, PaymentStatus::Pending | PaymentStatus::Processing);
                if is_open && is_nameless(&stored.payment) && inner.channels.get(&channel).is_some() {
                    return false;
                }
            }
            let Some(last) = page.last().filter(|_| page.len() == DUE_ROWS) else { return true };
            scan.start.clone_from(&last.key);
            scan.start.push(0);
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
    /// Whether new payments and refunds are refused because the store was restored.
    ///
    /// # Errors
    /// [`GatewayError::Held`].
    pub(super) fn check_held(&self) -> Result<(), GatewayError> {
        if self.0.stage.get() == Stage::Free { Ok(()) } else { Err(GatewayError::Held) }
    }
}
