//! The providers' lists, read until they can be had. What a process that is gone has sent may take effect for a while: a
//! list counts when it was begun after that. Before, it is read once, so that the operator sees early what there is and
//! whether it can be had at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::channels::{ListError, ListedCharge, ListedRefund};
use crate::domain::ids::{ChannelName, RefundNo};
use crate::domain::time::{Monotonic, Timestamp};
use crate::gateway::payments::hold::pre_auths::is_of_pre_auth;
use crate::gateway::payments::hold::report::{ChannelReport, ChannelState};
use crate::gateway::payments::hold::{Hold, LIST_WAIT_FIRST, LIST_WAIT_MAX, LOOK_WAIT};
use crate::storage::held::Held;

/// Objects that are kept to be adopted. More than that is no gap that a program should fill.
const COLLECTED_MAX: usize = 100_000;
/// Pages of one list.
const PAGES_MAX: usize = 20_000;

/// From when on lists are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListsSince {
    pub(super) charges: Timestamp,
    pub(super) refunds: Timestamp,
}

/// What the lists have, put together.
#[derive(Default)]
pub(super) struct Collected {
    /// By our number.
    pub(super) charges: BTreeMap<String, Vec<(ChannelName, ListedCharge)>>,
    /// The earliest first, so that each finds its payment as it was then.
    pub(super) refunds: Vec<(ChannelName, ListedRefund)>,
    /// The numbers of all refunds that a list names.
    pub(super) refund_nos: BTreeSet<RefundNo>,
    count: usize,
}

/// What the lists of one channel have.
struct Lists {
    charges: Vec<ListedCharge>,
    refunds: Vec<ListedRefund>,
}

/// A channel whose list does not count yet.
struct Unread {
    name: ChannelName,
    wait: Duration,
    /// After a failure, not before then.
    again_at: Option<Monotonic>,
}

impl Collected {
    fn add(&mut self, name: &ChannelName, lists: Lists) {
        self.count += lists.charges.len() + lists.refunds.len();
        for charge in lists.charges {
            let reference = charge.reference.clone().unwrap_or_default();
            self.charges.entry(reference).or_default().push((name.clone(), charge));
        }
        // Lists have the newest first, and times are in seconds.
        for refund in lists.refunds.into_iter().rev() {
            self.refund_nos.extend(refund.refund_reference.as_deref().map(RefundNo::new));
            self.refunds.push((name.clone(), refund));
        }
        self.refunds.sort_by_key(|(_, refund)| refund.created_at);
    }
}

impl Hold {
    /// By when everything was sent that the process before the restore has sent.
    pub(super) fn sent_until(&self, held: &Held) -> Timestamp {
        // Later than this process began it can only be by a clock that was set back.
        held.made_at.min(self.inner().started_at)
    }

    /// When nothing that was sent before the restore can take effect any more at a channel.
    pub(super) fn settled_at(&self, held: &Held, name: &ChannelName) -> Timestamp {
        let sent_until = self.sent_until(held);
        sent_until.plus(self.inner().settling(name, sent_until))
    }

    /// Reads all lists, each until it can be had and counts, or the operator confirms the channel.
    pub(super) async fn collect(&self, held: &Held, since: ListsSince) -> Collected {
        let mut collected = Collected::default();
        let names: Vec<ChannelName> = self.0.state.lock().channels.keys().cloned().collect();
        let mut left: Vec<Unread> =
            names.into_iter().map(|name| Unread { name, wait: LIST_WAIT_FIRST, again_at: None }).collect();
        loop {
            let mut unread = Vec::new();
            for mut channel in left {
                if !self.read_if_due(held, since, &mut channel, &mut collected).await {
                    unread.push(channel);
                }
            }
            if unread.is_empty() {
                return collected;
            }
            left = unread;
            self.rest(LOOK_WAIT).await;
        }
    }

    /// Reads a channel's lists if it is time to; returns whether there is nothing more to wait for.
    async fn read_if_due(
        &self,
        held: &Held,
        since: ListsSince,
        channel: &mut Unread,
        collected: &mut Collected,
    ) -> bool {
        let clock = &self.inner().core.clock;
        let name = &channel.name;
        let settled_at = self.settled_at(held, name);
        // Looked at before the list is begun: what takes effect while it is read may be missing in it.
        let counts = clock.now() >= settled_at;
        match self.state_of(name) {
            ChannelState::Asking if channel.again_at.is_some_and(|again_at| clock.monotonic() < again_at) => {
                return false;
            }
            ChannelState::Asking => {}
            ChannelState::Waiting if counts => {}
            ChannelState::Waiting => return false,
            _ => return true,
        }
        match self.read_lists(name, since, collected.count).await {
            Ok(lists) if counts => {
                collected.add(name, lists);
                self.report(name, |report| {
                    report.state = ChannelState::Listed;
                    report.waiting_until = None;
                    report.refunds_listed_since = Some(since.refunds);
                });
                true
            }
            Ok(_) => {
                channel.again_at = None;
                self.report(name, |report| {
                    report.state = ChannelState::Waiting;
                    report.waiting_until = Some(settled_at);
                });
                false
            }
            Err(ListError::NotSupported) => {
                self.report(name, |report| {
                    report.state = ChannelState::NeedsConfirmation;
                    report.problem = Some(format!(
                        "its provider can't be asked for a list: compare by hand what it has since then, not before {}, \
                         because requests of the process before may take effect until then",
                        settled_at.rfc3339()
                    ));
                });
                tracing::warn!(channel = %name, "the provider has no list; the operator has to compare and confirm");
                true
            }
            Err(ListError::Failed(reason)) => {
                tracing::warn!(channel = %name, reason, "the provider's list can't be had; it is asked again");
                self.report(name, |report| {
                    report.state = ChannelState::Asking;
                    report.problem = Some(reason);
                });
                channel.again_at = Some(clock.monotonic().plus(channel.wait));
                channel.wait = (channel.wait * 2).min(LIST_WAIT_MAX);
                false
            }
        }
    }

    async fn read_lists(&self, name: &ChannelName, since: ListsSince, count: usize) -> Result<Lists, ListError> {
        let Some(channel) = self.inner().channels.get(name) else { return Err(ListError::NotSupported) };
        self.report(name, ChannelReport::begin);
        let (mut charges, mut refunds) = (Vec::new(), Vec::new());
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let page = channel.list_charges(since.charges, after.as_deref()).await?;
            self.report(name, |report| report.objects += page.items.len());
            let ours = self.only_marked(name, page.items, |charge| charge.reference.is_some());
            self.count_pre_auths(name, ours.iter().map(|charge| charge.reference.as_deref()));
            charges.extend(ours);
            after = page.next;
            if after.is_none() || charges.len() > COLLECTED_MAX {
                break;
            }
        }
        // What is left of the first list would not be asked for with the second.
        let mut is_cut = after.take().is_some();
        for _ in 0..PAGES_MAX {
            let page = channel.list_refunds(since.refunds, after.as_deref()).await?;
            self.report(name, |report| report.objects += page.items.len());
            let ours = self.only_marked(name, page.items, |refund| refund.refund_reference.is_some());
            self.count_pre_auths(name, ours.iter().map(|refund| refund.reference.as_deref()));
            refunds.extend(ours);
            after = page.next;
            if after.is_none() || refunds.len() > COLLECTED_MAX {
                break;
            }
        }
        is_cut |= after.is_some();
        if is_cut || count + charges.len() + refunds.len() > COLLECTED_MAX {
            return Err(ListError::Failed(format!(
                "more than {COLLECTED_MAX} objects since then; restore a newer backup"
            )));
        }
        Ok(Lists { charges, refunds })
    }

    /// Counts and drops what carries no mark of ours: another program uses the same account.
    fn only_marked<T>(&self, name: &ChannelName, items: Vec<T>, is_marked: impl Fn(&T) -> bool) -> Vec<T> {
        let (marked, foreign): (Vec<T>, Vec<T>) = items.into_iter().partition(is_marked);
        self.report(name, |report| report.foreign += foreign.len());
        marked
    }

    fn count_pre_auths<'a>(&self, name: &ChannelName, references: impl Iterator<Item = Option<&'a str>>) {
        let count = references.filter(|reference| is_of_pre_auth(*reference)).count();
        self.report(name, |report| report.pre_auths += count);
    }
}
