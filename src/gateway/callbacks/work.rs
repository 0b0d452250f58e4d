//! Going into notifications: each leads to at most one question about each thing that it is about, several about one thing
//! to one question, and none waits for a provider that another one belongs to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::channels::{ListError, Subject};
use crate::domain::ids::ChannelName;
use crate::domain::time::Timestamp;
use crate::gateway::callbacks::Inner;
use crate::gateway::callbacks::inbox::{OpenRow, PAGE_ROWS, Target, Verdict, is_ours, names_of};
use crate::gateway::error::GatewayError;
use crate::gateway::payments::{Followed, Need};
use crate::storage::keys;

/// Longest sleep, so that a step of the wall clock is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// Shortest time from one look at what is open to the next, whoever wakes it.
const SLEEP_BUSY: Duration = Duration::from_millis(100);
/// Sleep after the index could not be read, or while the store is held.
const SLEEP_IDLE: Duration = Duration::from_secs(1);
/// Pages of the index that are looked at in one go.
const PAGES_MAX: usize = 16;
/// Notifications of one channel that are looked at in one go.
const CHANNEL_ROWS_MAX: usize = 1_024;
/// Rows changed in one commit.
const BATCH_ROWS: usize = 64;

/// What of the index is due, by channel: the entries' keys with the ids.
type Due = BTreeMap<ChannelName, Vec<(Vec<u8>, String)>>;
/// Notifications about the same things; those of claims by claim.
type Groups = BTreeMap<(Vec<Target>, Option<String>), Vec<OpenRow>>;

/// What a look at the index has found.
struct Look {
    due: Due,
    /// When the next entry is due that is not yet.
    next_at: Option<Timestamp>,
    /// Behind which the next look goes on.
    resume_after: Option<Vec<u8>>,
}

/// Says that notifications are being gone into, until it is dropped.
struct AtWork {
    inner: Arc<Inner>,
    channel: ChannelName,
    entries: Vec<Vec<u8>>,
    targets: Vec<Target>,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        for entry in &self.entries {
            self.inner.at_work.remove(entry);
        }
        for target in self.targets.drain(..) {
            self.inner.asking.remove(&(self.channel.clone(), target));
        }
        // What waited for this may go on.
        self.inner.wake.notify_one();
    }
}

impl Inner {
    /// Works until the gateway stops.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut resume_after = None;
        while !self.core.stopping.is_cancelled() {
            // After a restore asking may mean sending again, and that moves money.
            let is_held = self.payments.check_held().is_err();
            let sleep = if is_held { SLEEP_IDLE } else { self.start_work(&mut resume_after) };
            tokio::select! {
                () = self.core.stopping.cancelled() => return,
                () = tokio::time::sleep(SLEEP_BUSY) => {}
            }
            tokio::select! {
                biased;
                () = self.core.stopping.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(sleep.saturating_sub(SLEEP_BUSY)) => {}
            }
        }
    }

    /// Starts work on what is open and due, as far as there is room; returns how long to sleep.
    fn start_work(self: &Arc<Self>, resume_after: &mut Option<Vec<u8>>) -> Duration {
        let look = match self.look(resume_after.take()) {
            Ok(look) => look,
            Err(error) => {
                tracing::error!(%error, "the index of open notifications can't be read");
                return SLEEP_IDLE;
            }
        };
        let is_busy = look.resume_after.is_some() || !look.due.is_empty();
        *resume_after = look.resume_after;
        for (channel, entries) in look.due {
            if let Err(error) = self.start_channel(&channel, entries) {
                tracing::warn!(%channel, %error, "notifications could not be gone into; they will be tried again");
                return SLEEP_IDLE;
            }
        }
        let until_next = look.next_at.map_or(SLEEP_MAX, |next_at| next_at.since(self.core.clock.now()));
        if is_busy { SLEEP_BUSY } else { until_next.min(SLEEP_MAX) }
    }

    fn look(&self, mut after: Option<Vec<u8>>) -> Result<Look, GatewayError> {
        let now = self.core.clock.now();
        let (mut due, mut next_at) = (Due::new(), None);
        for _ in 0..PAGES_MAX {
            let page = self.open_entries(after.as_deref())?;
            for row in &page {
                let Some((due_at, channel, id)) = keys::parse_inbox_open(&row.key) else {
                    self.unreadable.report(&row.key, "it names no time, channel and id");
                    continue;
                };
                if due_at > now {
                    next_at = Some(due_at);
                    break;
                }
                let of_channel = due.entry(channel).or_default();
                if of_channel.len() < CHANNEL_ROWS_MAX && !self.at_work.contains(&row.key) {
                    of_channel.push((row.key.clone(), id.to_owned()));
                }
            }
            after = page.last().filter(|_| next_at.is_none() && page.len() == PAGE_ROWS).map(|last| last.key.clone());
            if after.is_none() {
                break;
            }
        }
        Ok(Look { due, next_at, resume_after: after })
    }

    /// Sorts out what there is to do about a channel's notifications, and starts it. What there is no room for is left.
    fn start_channel(
        self: &Arc<Self>,
        channel: &ChannelName,
        entries: Vec<(Vec<u8>, String)>,
    ) -> Result<(), GatewayError> {
        let mut settled = Vec::new();
        let mut groups = Groups::new();
        for (entry, id) in entries {
            let Some(open) = self.read_open(entry, channel.clone(), id)? else { continue };
            let sorted = self.targets_of(&open).and_then(|targets| Ok((self.sort(&open, &targets)?, targets)));
            match sorted {
                Ok((Some(verdict), _)) => settled.push((open, verdict)),
                Err(error) => {
                    // What it is about can't be read. It must not hold up the others.
                    tracing::warn!(%channel, id = open.id, %error, "a notification could not be gone into; tried again");
                    settled.push((open, Verdict::Later));
                }
                Ok((None, targets)) => {
                    let claim = open.row.dispute.as_ref().map(|dispute| dispute.dispute_no.clone());
                    groups.entry((targets, claim)).or_default().push(open);
                }
            }
        }
        if !settled.is_empty() {
            let at_work = self.begin(channel, settled.iter().map(|(open, _)| open), Vec::new());
            let inner = Arc::clone(self);
            self.core.tasks.spawn(async move { inner.settle_all(settled, at_work).await });
        }
        let now = self.core.clock.monotonic();
        for ((targets, claim), rows) in groups {
            let is_asked = |target: &Target| self.asking.contains(&(channel.clone(), target.clone()));
            if targets.iter().any(is_asked) {
                continue;
            }
            let Some(place) = self.room.try_take(channel, targets.len(), now) else { break };
            let at_work = self.begin(channel, rows.iter(), targets.clone());
            let inner = Arc::clone(self);
            let channel = channel.clone();
            self.core.tasks.spawn(async move {
                let verdict = inner.follow(&channel, &targets, claim.as_deref()).await;
                drop(place);
                let settled = rows.into_iter().map(|open| (open, verdict.clone())).collect();
                inner.settle_all(settled, at_work).await;
            });
        }
        Ok(())
    }

    /// What is to become of a notification for which nobody has to be asked; `None` when somebody has to.
    fn sort(&self, open: &OpenRow, targets: &[Target]) -> Result<Option<Verdict>, GatewayError> {
        if targets.is_empty() {
            return Ok(Some(Verdict::Done("ignored")));
        }
        let names: Vec<&str> = open.row.subjects.iter().flat_map(names_of).collect();
        let mut verdict = Verdict::Done("known");
        for target in targets {
            let need = match target {
                Target::Payment(merchant_id, payment_no) => {
                    self.payments.need(merchant_id, payment_no, &open.channel, &names)?
                }
                Target::PreAuth(merchant_id, pre_auth_no) => {
                    self.pre_auths.need(merchant_id, pre_auth_no, &open.channel)?
                }
                Target::Number(_) => Need::Question,
            };
            match need {
                Need::Presence => return Ok(Some(Verdict::Later)),
                Need::Patience => return Ok(Some(Verdict::Soon)),
                Need::Question => verdict = Verdict::Soon,
                Need::Nothing => {}
            }
        }
        let is_over = verdict != Verdict::Soon && open.row.dispute.is_none();
        Ok(is_over.then_some(verdict))
    }

    fn begin<'a>(
        self: &Arc<Self>,
        channel: &ChannelName,
        rows: impl Iterator<Item = &'a OpenRow>,
        targets: Vec<Target>,
    ) -> AtWork {
        let entries: Vec<Vec<u8>> = rows.map(|open| open.entry.clone()).collect();
        for entry in &entries {
            self.at_work.insert(entry.clone());
        }
        for target in &targets {
            self.asking.insert((channel.clone(), target.clone()));
        }
        AtWork { inner: Arc::clone(self), channel: channel.clone(), entries, targets }
    }

    /// Follows a hint about these things.
    async fn follow(&self, channel: &ChannelName, targets: &[Target], claim: Option<&str>) -> Verdict {
        let mut verdict = Verdict::Done("asked");
        for target in targets {
            match self.follow_one(channel, target, claim).await {
                Ok(Verdict::Done(outcome)) => verdict = Verdict::Done(outcome),
                // All of it is gone through again then, which does no harm.
                Ok(other) => return other,
                Err(GatewayError::NotFound(_)) => return Verdict::Later,
                Err(error) => {
                    tracing::warn!(%channel, %error, "a notification could not be followed; it will be tried again");
                    return Verdict::Soon;
                }
            }
        }
        verdict
    }

    async fn follow_one(
        &self,
        channel: &ChannelName,
        target: &Target,
        claim: Option<&str>,
    ) -> Result<Verdict, GatewayError> {
        match target {
            Target::Payment(merchant_id, payment_no) => {
                let followed = match claim {
                    Some(claim) => self.payments.note_dispute(merchant_id, payment_no, claim).await?,
                    None => self.payments.follow_hint(merchant_id, payment_no).await?,
                };
                Ok(match followed {
                    Followed::Asked => Verdict::Done(if claim.is_some() { "disputed" } else { "asked" }),
                    Followed::Busy => Verdict::Soon,
                    Followed::Unanswered => Verdict::Later,
                })
            }
            Target::PreAuth(merchant_id, pre_auth_no) => {
                if let Some(dispute_no) = claim {
                    tracing::warn!(%pre_auth_no, dispute_no, "the payer's bank claims a capture's money back");
                    return Ok(Verdict::Done("disputed"));
                }
                self.pre_auths.follow_hint(merchant_id, pre_auth_no).await?;
                Ok(Verdict::Done("asked"))
            }
            Target::Number(number) => {
                let Some(adapter) = self.channels.get(channel) else { return Ok(Verdict::Later) };
                Ok(match adapter.names_of(number).await {
                    Ok(Some(subject)) if is_whole(&subject) => {
                        Verdict::Named(Subject { provider_no: Some(number.clone()), ..subject })
                    }
                    Ok(_) => Verdict::Done("ignored"),
                    Err(ListError::NotSupported | ListError::Failed(_)) => Verdict::Later,
                })
            }
        }
    }

    /// Makes durable what came of notifications. What can't be stored now is gone into again.
    async fn settle_all(&self, mut settled: Vec<(OpenRow, Verdict)>, at_work: AtWork) {
        while !settled.is_empty() {
            let rest = settled.split_off(settled.len().min(BATCH_ROWS));
            if let Err(error) = self.settle(&settled).await {
                let channel = &at_work.channel;
                tracing::warn!(%channel, %error, "what came of notifications could not be stored; tried again");
                self.pause().await;
            }
            settled = rest;
        }
        drop(at_work);
    }

    /// A failing store is not asked in a tight loop.
    async fn pause(&self) {
        tokio::select! {
            biased;
            () = self.core.stopping.cancelled() => {}
            () = tokio::time::sleep(SLEEP_IDLE) => {}
        }
    }
}

/// Whether it says what is meant, and whose that is.
fn is_whole(subject: &Subject) -> bool {
    subject.merchant_id.is_some() && subject.reference.as_deref().is_some_and(is_ours)
}
