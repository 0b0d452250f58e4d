//! What the operator sees of a hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::ids::ChannelName;
use crate::domain::money::Money;
use crate::domain::time::Timestamp;
use crate::storage::held::Held;

/// Objects shown of one channel; the rest is counted.
const ITEMS_MAX: usize = 1_000;

/// How far a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelState {
    /// Its list is being read.
    Asking,
    /// Its list can be had, and counts only when it is read once more: something may still take effect.
    Waiting,
    /// Its list is read and being gone through.
    Listed,
    /// Everything in its list is known here.
    Checked,
    /// A person has to look.
    NeedsConfirmation,
    /// A person has looked.
    Confirmed,
}

impl ChannelState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Asking => "asking",
            Self::Waiting => "waiting",
            Self::Listed => "comparing",
            Self::Checked => "checked",
            Self::NeedsConfirmation => "needs_confirmation",
            Self::Confirmed => "confirmed",
        }
    }
}

/// What is known of a channel.
#[derive(Debug)]
pub(super) struct ChannelReport {
    pub(super) state: ChannelState,
    pub(super) objects: usize,
    pub(super) agreeing: usize,
    pub(super) adopted: usize,
    pub(super) foreign: usize,
    pub(super) pre_auths: usize,
    pub(super) items: Vec<HeldItemView>,
    pub(super) problem: Option<String>,
    /// When the list is read that counts.
    pub(super) waiting_until: Option<Timestamp>,
    /// From when on the list of refunds was read that counts.
    pub(super) refunds_listed_since: Option<Timestamp>,
}

impl ChannelReport {
    pub(super) const fn new(state: ChannelState) -> Self {
        Self {
            state,
            objects: 0,
            agreeing: 0,
            adopted: 0,
            foreign: 0,
            pre_auths: 0,
            items: Vec::new(),
            problem: None,
            waiting_until: None,
            refunds_listed_since: None,
        }
    }

    /// The list is read from its beginning.
    pub(super) fn begin(&mut self) {
        *self = Self { waiting_until: self.waiting_until, ..Self::new(self.state) };
    }

    /// Notes an object that a person has to look at.
    pub(super) fn list(&mut self, item: HeldItemView) {
        if self.items.len() < ITEMS_MAX {
            self.items.push(item);
        }
    }

    /// The same for one that may be noted already.
    pub(super) fn list_once(&mut self, item: HeldItemView) {
        if !self.items.contains(&item) {
            self.list(item);
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, ChannelState::Checked | ChannelState::Confirmed)
    }
}

/// A hold, as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HoldView {
    /// Whether new payments, pre-auths, captures and refunds are refused.
    pub held: bool,
    /// Sequence of the last commit that the store was restored with.
    pub restored_until_sequence: Option<u64>,
    /// When that commit was made, in RFC 3339.
    pub restored_until_time: Option<String>,
    /// From when on the providers are asked what they have, in RFC 3339.
    #[serde(default)]
    pub asked_since: Option<String>,
    /// The channels.
    pub channels: Vec<HeldChannelView>,
}

/// One channel of a hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldChannelView {
    /// Its name.
    pub channel: String,
    /// `asking`, `waiting`, `comparing`, `checked`, `needs_confirmation` or `confirmed`.
    pub state: String,
    /// When the list is read that counts, in RFC 3339: until then requests of the process before may take effect.
    #[serde(default)]
    pub waiting_until: Option<String>,
    /// Objects in the provider's lists.
    pub objects: usize,
    /// Those that are known here and agree.
    pub agreeing: usize,
    /// Those that were unknown here and were made again.
    pub adopted: usize,
    /// Those that carry no mark of this gateway.
    pub foreign: usize,
    /// How many of all of them belong to pre-auths.
    #[serde(default)]
    pub pre_auths: usize,
    /// Those that a person has to look at, at most 1,000.
    pub items: Vec<HeldItemView>,
    /// Why the list can't be had, if so.
    pub problem: Option<String>,
}

/// An object that a person has to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldItemView {
    /// The provider's number.
    pub provider_no: String,
    /// Our number of the payment, pre-auth or refund, as the provider has it.
    pub reference: Option<String>,
    /// Minor units.
    pub amount: Option<i64>,
    /// ISO 4217.
    pub currency: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl HeldItemView {
    pub(super) fn new(provider_no: &str, reference: Option<&str>, money: Option<Money>, reason: &str) -> Self {
        Self {
            provider_no: provider_no.to_owned(),
            reference: reference.map(str::to_owned),
            amount: money.map(|money| money.amount_minor),
            currency: money.map(|money| money.currency.to_string()),
            reason: reason.to_owned(),
        }
    }
}

impl HoldView {
    pub(super) fn of(held: Option<&Held>, channels: &BTreeMap<ChannelName, ChannelReport>) -> Self {
        Self {
            held: held.is_some(),
            restored_until_sequence: held.map(|held| held.restored_until_sequence),
            restored_until_time: held.map(|held| held.restored_until_time.rfc3339()),
            asked_since: held.map(|held| held.asked_since().rfc3339()),
            channels: channels.iter().map(|(name, report)| HeldChannelView::of(name, report)).collect(),
        }
    }
}

impl HeldChannelView {
    fn of(name: &ChannelName, report: &ChannelReport) -> Self {
        Self {
            channel: name.to_string(),
            state: report.state.as_str().to_owned(),
            waiting_until: report
                .waiting_until
                .filter(|_| report.state == ChannelState::Waiting)
                .map(Timestamp::rfc3339),
            objects: report.objects,
            agreeing: report.agreeing,
            adopted: report.adopted,
            foreign: report.foreign,
            pre_auths: report.pre_auths,
            items: report.items.clone(),
            problem: report.problem.clone(),
        }
    }
}
