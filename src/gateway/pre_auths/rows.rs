//! Pre-auths in the store: the row, the order number that it holds, the merchant's and the provider's numbers of it, its
//! due entry, its refunds' index, and when its money moved.

use crate::actors::pre_auth::StoredPreAuth;
use crate::domain::ids::{ChannelName, MerchantId, PreAuthNo};
use crate::domain::pre_auth::{PreAuth, PreAuthStatus};
use crate::domain::time::Timestamp;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::numbered_list::Numbered;
use crate::gateway::reconciliation::late;
use crate::storage::record::{Record, decode, encode};
use crate::storage::{Batch, StoreError, keys};

impl Numbered for PreAuth {
    type Status = PreAuthStatus;

    fn status_named(text: &str) -> Result<PreAuthStatus, Vec<&'static str>> {
        let known = || PreAuthStatus::ALL.iter().map(|status| status.as_str()).collect();
        PreAuthStatus::parse(text).ok_or_else(known)
    }

    fn rows() -> Vec<u8> {
        keys::pre_auths()
    }

    fn rows_of(merchant_id: &MerchantId) -> Vec<u8> {
        keys::pre_auths_of(merchant_id)
    }

    fn rows_from(merchant_id: &MerchantId, from: Timestamp) -> Vec<u8> {
        keys::pre_auths_from(merchant_id, from)
    }

    fn row(merchant_id: &MerchantId, number: &str) -> Vec<u8> {
        keys::pre_auth(merchant_id, &PreAuthNo::new(number))
    }

    fn order(merchant_id: &MerchantId, order_no: &str) -> Vec<u8> {
        keys::pre_auth_order(merchant_id, order_no)
    }

    fn status(&self) -> PreAuthStatus {
        self.status
    }

    fn channel(&self) -> Option<&ChannelName> {
        Some(&self.channel)
    }

    fn order_no(&self) -> &str {
        &self.terms.order_no
    }

    fn created_at(&self) -> Timestamp {
        self.created_at
    }
}

/// Places of the preconditions that fail when numbers of a new pre-auth are taken.
pub(super) struct Claims {
    /// Of the order number.
    pub(super) order: usize,
    /// Of the merchant's own number, if it has one.
    pub(super) reference: Option<usize>,
}

/// The pre-auth with this number, if it is this merchant's.
pub(super) fn load(
    core: &Core,
    merchant_id: &MerchantId,
    pre_auth_no: &PreAuthNo,
) -> Result<Option<StoredPreAuth>, StoreError> {
    let Some(stored) = core.store.get(&keys::pre_auth(merchant_id, pre_auth_no))? else { return Ok(None) };
    Ok(Some(StoredPreAuth { pre_auth: decode(&stored.value)?, revision: stored.revision }))
}

/// The same of one that is there.
pub(super) fn read(
    core: &Core,
    merchant_id: &MerchantId,
    pre_auth_no: &PreAuthNo,
) -> Result<StoredPreAuth, GatewayError> {
    load(core, merchant_id, pre_auth_no)?.ok_or(GatewayError::NotFound(PreAuth::NAME))
}

/// Our number of what the merchant names by our number or by its own.
pub(super) fn number_of(core: &Core, merchant_id: &MerchantId, named: &str) -> Result<PreAuthNo, GatewayError> {
    let pre_auth_no = PreAuthNo::new(named);
    if core.store.get(&keys::pre_auth(merchant_id, &pre_auth_no))?.is_some() {
        return Ok(pre_auth_no);
    }
    let stored = core.store.get(&keys::pre_auth_reference(merchant_id, named))?;
    stored.map(|stored| number_in(&stored.value)).ok_or(GatewayError::NotFound(PreAuth::NAME))
}

/// Our number of what a channel's provider names by a number of its own, if it is this merchant's.
pub(super) fn number_at_provider(
    core: &Core,
    merchant_id: &MerchantId,
    channel: &ChannelName,
    number: &str,
) -> Result<PreAuthNo, GatewayError> {
    let found = owner_at_provider(core, channel, number)?;
    let own = found.filter(|(owner, _)| owner == merchant_id).map(|(_, pre_auth_no)| pre_auth_no);
    own.ok_or(GatewayError::NotFound(PreAuth::NAME))
}

/// Whose pre-auth a channel's provider names by a number of its own, or by our key, and our number of it.
pub(super) fn owner_at_provider(
    core: &Core,
    channel: &ChannelName,
    number: &str,
) -> Result<Option<(MerchantId, PreAuthNo)>, GatewayError> {
    let stored = core.store.get(&keys::provider_no(channel, number))?;
    Ok(stored.and_then(|stored| parse_owner(&stored.value)))
}

/// The pre-auth that holds an order number, or stands under a merchant's own number, if any. What a merchant may name it by
/// names nothing else: not another of its pre-auths by our number of that.
pub(super) fn holder(
    core: &Core,
    merchant_id: &MerchantId,
    order_no: &str,
    reference: Option<&str>,
) -> Result<Option<PreAuthNo>, GatewayError> {
    if let Some(order) = core.store.get(&keys::pre_auth_order(merchant_id, order_no))? {
        return Ok(Some(number_in(&order.value)));
    }
    match reference.map(|reference| number_of(core, merchant_id, reference)) {
        Some(Ok(holder)) => Ok(Some(holder)),
        None | Some(Err(GatewayError::NotFound(_))) => Ok(None),
        Some(Err(error)) => Err(error),
    }
}

/// Adds a new pre-auth to `batch`.
pub(super) fn insert(batch: &mut Batch, pre_auth: &PreAuth) -> Result<Claims, StoreError> {
    let PreAuth { merchant_id, pre_auth_no, terms, .. } = pre_auth;
    let number = || pre_auth_no.as_str().as_bytes().to_vec();
    batch.insert(keys::pre_auth(merchant_id, pre_auth_no), encode(pre_auth)?);
    let order = batch.preconditions.len();
    batch.insert(keys::pre_auth_order(merchant_id, &terms.order_no), number());
    let reference = terms.reference.as_ref().map(|reference| {
        let place = batch.preconditions.len();
        batch.insert(keys::pre_auth_reference(merchant_id, reference), number());
        place
    });
    batch.insert(keys::provider_no(&pre_auth.channel, &pre_auth.provider_key), owner(pre_auth));
    if let Some(due_at) = pre_auth.due_at {
        put_due(batch, pre_auth, due_at);
    }
    Ok(Claims { order, reference })
}

/// Adds a pre-auth that was made again, in the state that its provider says; one that is over holds no order number.
pub(super) fn insert_adopted(batch: &mut Batch, pre_auth: &PreAuth) -> Result<(), StoreError> {
    let PreAuth { merchant_id, pre_auth_no, .. } = pre_auth;
    batch.insert(keys::pre_auth(merchant_id, pre_auth_no), encode(pre_auth)?);
    late::enter_pre_auth(batch, None, pre_auth);
    if !pre_auth.status.frees_order_no() {
        let order = keys::pre_auth_order(merchant_id, &pre_auth.terms.order_no);
        batch.insert(order, pre_auth_no.as_str().as_bytes().to_vec());
    }
    for number in std::iter::once(pre_auth.provider_key.as_str()).chain(pre_auth.refs.numbers()) {
        batch.put(keys::provider_no(&pre_auth.channel, number), owner(pre_auth));
    }
    if let Some(due_at) = pre_auth.due_at {
        put_due(batch, pre_auth, due_at);
    }
    Ok(())
}

/// Adds a changed pre-auth to `batch`, on condition that nobody else changed it. Every number that the provider ever had
/// for it goes on naming it.
pub(super) fn replace(batch: &mut Batch, before: &StoredPreAuth, after: &PreAuth) -> Result<(), StoreError> {
    let StoredPreAuth { pre_auth: former, revision } = before;
    batch.replace(keys::pre_auth(&after.merchant_id, &after.pre_auth_no), *revision, encode(after)?);
    late::enter_pre_auth(batch, Some(former), after);
    if former.due_at != after.due_at {
        if let Some(due_at) = former.due_at {
            batch.delete(keys::pre_auth_due(due_at, &after.pre_auth_no));
        }
        if let Some(due_at) = after.due_at {
            put_due(batch, after, due_at);
        }
    }
    if after.status.frees_order_no() && !former.status.frees_order_no() {
        batch.delete(keys::pre_auth_order(&after.merchant_id, &after.terms.order_no));
    }
    let mut known: Vec<&str> = former.refs.numbers().collect();
    known.push(&after.provider_key);
    for number in after.refs.numbers() {
        if !known.contains(&number) {
            batch.put(keys::provider_no(&after.channel, number), owner(after));
            known.push(number);
        }
    }
    for refund in after.refunds.iter().skip(former.refunds.len()) {
        let refund_key = keys::refund(&after.merchant_id, &refund.refund_no);
        batch.insert(refund_key, after.pre_auth_no.as_str().as_bytes().to_vec());
    }
    Ok(())
}

fn put_due(batch: &mut Batch, pre_auth: &PreAuth, due_at: Timestamp) {
    let value = format!("{}\n{}", pre_auth.merchant_id, pre_auth.channel).into_bytes();
    batch.insert(keys::pre_auth_due(due_at, &pre_auth.pre_auth_no), value);
}

/// What is under a provider's number.
fn owner(pre_auth: &PreAuth) -> Vec<u8> {
    format!("{}\n{}", pre_auth.merchant_id, pre_auth.pre_auth_no).into_bytes()
}

/// Reads what [`owner`] has written.
fn parse_owner(value: &[u8]) -> Option<(MerchantId, PreAuthNo)> {
    let (merchant_id, pre_auth_no) = std::str::from_utf8(value).ok()?.split_once('\n')?;
    Some((MerchantId::new(merchant_id), PreAuthNo::new(pre_auth_no)))
}

fn number_in(value: &[u8]) -> PreAuthNo {
    PreAuthNo::new(String::from_utf8_lossy(value).into_owned())
}
