//! Pre-auths of a restored store: which of them are open, and that all of those are asked about, or closed, before money
//! moves again.

use std::time::Duration;

use futures_util::future::join_all;

use crate::actors::pre_auth::PreAuthId;
use crate::config::ChannelKind;
use crate::domain::ids::{ChannelName, PRE_AUTH_NO_PREFIX, PreAuthNo};
use crate::domain::merchant::Merchant;
use crate::domain::money::Money;
use crate::domain::pre_auth::PreAuth;
use crate::domain::refund::RefundStatus;
use crate::domain::time::Monotonic;
use crate::gateway::error::GatewayError;
use crate::gateway::payments::hold::charges::{Adoption, Verdict};
use crate::gateway::payments::hold::open::{Open, ROWS};
use crate::gateway::payments::hold::refunds::PendingRefund;
use crate::gateway::payments::hold::report::ChannelState;
use crate::gateway::payments::hold::{Hold, LIST_WAIT_FIRST, LIST_WAIT_MAX};
use crate::gateway::payments::rows::parse_due_value;
use crate::gateway::pre_auths::held::{AskedWhileHeld, Compared, has_to_be_asked};
use crate::storage::held::Held;
use crate::storage::record::decode;
use crate::storage::{Scan, StoreError, keys};

/// Questions about a channel's pre-auths after which those that nobody can answer are left to a person, where the operator
/// has compared the channel by hand.
const TRIES_MAX: u32 = 5;
/// Questions under way at once.
const ASKED_AT_ONCE: usize = 16;

/// A pre-auth of which something has to be known before the hold ends.
pub(super) struct OpenPreAuth {
    id: PreAuthId,
    channel: ChannelName,
    tries: u32,
    wait: Duration,
    /// After a question that nobody could answer, not before then.
    again_at: Option<Monotonic>,
}

impl OpenPreAuth {
    fn new(id: PreAuthId, channel: ChannelName) -> Self {
        Self { id, channel, tries: 0, wait: LIST_WAIT_FIRST, again_at: None }
    }
}

/// Whether a number is a pre-auth's.
pub(super) fn is_of_pre_auth(number: Option<&str>) -> bool {
    number.is_some_and(|number| number.starts_with(PRE_AUTH_NO_PREFIX))
}

impl Hold {
    /// Looks through the pre-auths that are due sometime, which all open ones are, and through those made since shortly before
    /// the restore point.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(super) async fn look_for_open_pre_auths(&self, held: &Held, open: &mut Open) -> Result<(), StoreError> {
        let mut scan = Scan::prefix(&keys::pre_auths_due(), ROWS);
        while let Some(page) = self.next_page(&mut scan).await? {
            for row in &page {
                let entry = keys::parse_pre_auth_due(&row.key).zip(parse_due_value(&row.versioned.value));
                let Some(((_, pre_auth_no), (merchant_id, _))) = entry else {
                    self.list_unreadable(&row.key);
                    continue;
                };
                let key = keys::pre_auth(&merchant_id, &pre_auth_no);
                let Some(found) = self.inner().core.store.get(&key)? else { continue };
                match decode::<PreAuth>(&found.value) {
                    Ok(pre_auth) => open.take_pre_auth(pre_auth),
                    Err(_) => self.list_unreadable(&key),
                }
            }
        }
        let number = PreAuthNo::new(format!("{PRE_AUTH_NO_PREFIX}{}", held.asked_since().compact()));
        let mut merchants = Scan::prefix(&keys::merchants(), ROWS);
        while let Some(page) = self.next_page(&mut merchants).await? {
            // One that can't be read was listed with its payments.
            for merchant in page.iter().filter_map(|row| decode::<Merchant>(&row.versioned.value).ok()) {
                let mut scan = Scan::prefix(&keys::pre_auths_of(&merchant.merchant_id), ROWS);
                scan.start = keys::pre_auth(&merchant.merchant_id, &number);
                while let Some(page) = self.next_page(&mut scan).await? {
                    for row in &page {
                        match decode::<PreAuth>(&row.versioned.value) {
                            Ok(pre_auth) => drop(open.channels.insert(pre_auth.channel)),
                            Err(_) => self.list_unreadable(&row.key),
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Compares what a provider lists of a pre-auth with what is here. What stands in its way is added to `open`.
    pub(super) async fn decide_hold(
        &self,
        adoption: &Adoption,
        open: &mut Vec<OpenPreAuth>,
    ) -> Result<Verdict, GatewayError> {
        let [(channel, listed)] = adoption.charges.as_slice() else {
            return Ok(Verdict::Person("it is there more than once"));
        };
        let compared = self.pre_auths().compare_hold(channel, listed).await?;
        Ok(match compared {
            Compared::Agrees => Verdict::Agrees,
            Compared::Adopted => Verdict::Adopted,
            Compared::Later | Compared::TooMuch => Verdict::Later,
            Compared::After(id) => {
                if !open.iter().any(|known| known.id == id) {
                    open.push(OpenPreAuth::new(id, channel.clone()));
                }
                Verdict::Later
            }
            Compared::Person(reason) => Verdict::Person(reason),
        })
    }

    /// Whether anything has to be known of a channel's.
    pub(super) fn are_open_on(open: &[OpenPreAuth], name: &ChannelName) -> bool {
        open.iter().any(|one| one.channel == *name)
    }

    /// Asks about those that it is time for; returns those of which what has to be known is not known yet. What no provider
    /// has named is closed once `may_close`.
    pub(super) async fn ask_about(&self, held: &Held, open: Vec<OpenPreAuth>, may_close: bool) -> Vec<OpenPreAuth> {
        let mut left = Vec::new();
        let mut open = open.into_iter();
        loop {
            let next = open.by_ref().take(ASKED_AT_ONCE);
            let asked: Vec<_> = next.map(|one| self.ask_about_one(held, one, may_close)).collect();
            if asked.is_empty() {
                return left;
            }
            left.extend(join_all(asked).await.into_iter().flatten());
        }
    }

    async fn ask_about_one(&self, held: &Held, mut one: OpenPreAuth, may_close: bool) -> Option<OpenPreAuth> {
        let core = &self.inner().core;
        let is_early = one.again_at.is_some_and(|again_at| core.clock.monotonic() < again_at);
        if is_early || !self.can_be_asked(held, &one.channel) {
            return Some(one);
        }
        // What may have been confirmed, but not by anybody: there is no provider.
        let is_compared = self.state_of(&one.channel) == ChannelState::Confirmed
            && !self.is_instant(&one.channel)
            && (one.tries >= TRIES_MAX || self.inner().channels.get(&one.channel).is_none());
        let known = self.pre_auths().ask_while_held(&one.id, may_close, is_compared).await;
        match known {
            Ok(AskedWhileHeld::Known) => return None,
            Ok(AskedWhileHeld::TooEarly) => return Some(one),
            Ok(AskedWhileHeld::Unknown) => {}
            Err(error) => {
                tracing::warn!(pre_auth_no = %one.id.pre_auth_no, %error, "a pre-auth can't be asked about yet");
            }
        }
        self.report(&one.channel, |report| {
            if report.state == ChannelState::Listed {
                report.problem = Some(format!("it can't say yet what became of pre-auth {}", one.id.pre_auth_no));
            }
        });
        one.tries = one.tries.saturating_add(1);
        one.again_at = Some(core.clock.monotonic().plus(one.wait));
        one.wait = (one.wait * 2).min(LIST_WAIT_MAX);
        Some(one)
    }

    /// Whether nothing that was sent before the restore can take effect any more at a channel, and its list was read, or
    /// somebody has compared it.
    fn can_be_asked(&self, held: &Held, name: &ChannelName) -> bool {
        let is_settled = self.is_instant(name) || self.inner().core.clock.now() >= self.settled_at(held, name);
        let waits = matches!(self.state_of(name), ChannelState::Asking | ChannelState::Waiting);
        let is_gone = self.inner().channels.get(name).is_none();
        is_settled && !waits && (!is_gone || self.state_of(name) == ChannelState::Confirmed)
    }

    fn is_instant(&self, name: &ChannelName) -> bool {
        let config = self.inner().core.config.channels.get(name.as_str());
        config.is_some_and(|config| config.kind == ChannelKind::Instant)
    }
}

impl Open {
    fn take_pre_auth(&mut self, pre_auth: PreAuth) {
        self.channels.insert(pre_auth.channel.clone());
        for refund in pre_auth.refunds.iter().filter(|refund| refund.status == RefundStatus::Pending) {
            self.earliest_refund =
                Some(self.earliest_refund.map_or(refund.created_at, |earliest| earliest.min(refund.created_at)));
            if refund.channel_refund_no.is_none() && refund.known_at.is_none() {
                self.refunds.push(PendingRefund {
                    merchant_id: pre_auth.merchant_id.clone(),
                    number: pre_auth.pre_auth_no.to_string(),
                    refund_no: refund.refund_no.clone(),
                    channel: pre_auth.channel.clone(),
                    money: Money::new(refund.amount_minor, pre_auth.terms.money.currency),
                    created_at: refund.created_at,
                });
            }
        }
        if has_to_be_asked(&pre_auth) {
            let id = PreAuthId { merchant_id: pre_auth.merchant_id, pre_auth_no: pre_auth.pre_auth_no };
            self.pre_auths.push(OpenPreAuth::new(id, pre_auth.channel));
        }
    }
}
