//! Keys of the store: a keyspace byte, the merchant where there is one, the rest. Every key of the product is made here.
//!
//! Texts inside a key end with a zero byte, which no id contains; numbers are big-endian, so that keys sort as numbers.

use crate::domain::ids::{
    ChannelName, EndpointId, JobId, KeyId, MerchantId, NotificationId, PAYMENT_NO_PREFIX, PRE_AUTH_NO_PREFIX,
    PaymentNo, PreAuthNo, REFUND_NO_PREFIX, RefundNo, first_dated_number, first_sortable_id,
};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Lane;

/// A payment's row: attempts, decision, operations.
const PAYMENT: u8 = 0x01;
/// Which payment holds an order number.
const ORDER: u8 = 0x02;
/// What was answered under an idempotency key.
const IDEMPOTENCY: u8 = 0x03;
/// Which payment or pre-auth a refund belongs to.
const REFUND: u8 = 0x04;
/// A merchant's events, a numbered stream.
const EVENT: u8 = 0x05;
/// A webhook endpoint.
const ENDPOINT: u8 = 0x06;
/// A notification with its tries.
const NOTIFICATION: u8 = 0x07;
/// A merchant's own row.
const MERCHANT: u8 = 0x08;
/// Changes with every endpoint that a merchant makes.
const ENDPOINTS_MADE: u8 = 0x09;
/// How an endpoint has been doing.
const ENDPOINT_HEALTH: u8 = 0x0A;
/// A job on many notifications.
const WEBHOOK_JOB: u8 = 0x0B;
/// A pre-auth's row: what was asked for, operations, refunds.
const PRE_AUTH: u8 = 0x0C;
/// Which pre-auth holds an order number.
const PRE_AUTH_ORDER: u8 = 0x0D;
/// Which pre-auth a merchant's own number names.
const PRE_AUTH_REFERENCE: u8 = 0x0E;
/// Money that moved on another day than the one in its number, by the day on which it moved.
const LATE_MONEY: u8 = 0x0F;

// The keyspaces below are not a merchant's: they are looked up before the merchant is known, or by time.

/// When a payment has to be looked at again.
const PAYMENT_DUE: u8 = 0x40;
/// When a notification has to be sent, by endpoint, as it was before there were lanes. It is only read, once.
const FORMER_NOTIFICATION_DUE: u8 = 0x41;
/// An API key with its encrypted secret.
const API_KEY: u8 = 0x42;
/// What belongs to the installation: its id, its mode, the canary of the master key.
const INSTALLATION: u8 = 0x43;
/// When a notification has to be sent, by endpoint and lane.
const NOTIFICATION_WAITING: u8 = 0x44;
/// A notification that was given up and may be sent again, by endpoint.
const DEAD_LETTER: u8 = 0x45;
/// When a pre-auth has to be looked at again.
const PRE_AUTH_DUE: u8 = 0x46;
/// Which pre-auth a provider's number names.
const PROVIDER_NO: u8 = 0x47;
/// The record of administrative changes, a numbered stream.
const AUDIT: u8 = 0x48;
/// The end of the audit's chain.
const AUDIT_HEAD: u8 = 0x49;
/// An erasure of customers' data that was asked for.
const ERASURE: u8 = 0x4A;
/// A job on many notifications that is not at its end.
const WEBHOOK_JOB_OPEN: u8 = 0x4B;
/// What a provider has told and was not gone into yet, by when that is to be done.
const INBOX_OPEN: u8 = 0x4C;
/// A version of the routing, by its number.
const ROUTING_VERSION: u8 = 0x50;
/// What of the routing was in force last.
const ROUTING_IN_FORCE: u8 = 0x51;
/// What a provider has told, by its own id of it.
const INBOX: u8 = 0x52;

/// Of a day that is written `yyyymmdd`.
const DAY_LEN: usize = 8;

fn with_text(mut key: Vec<u8>, text: &str) -> Vec<u8> {
    key.extend_from_slice(text.as_bytes());
    key.push(0);
    key
}

fn with_time(mut key: Vec<u8>, at: Timestamp) -> Vec<u8> {
    key.extend_from_slice(&u64::try_from(at.unix_ms()).unwrap_or(0).to_be_bytes());
    key
}

fn of_merchant(keyspace: u8, merchant_id: &MerchantId) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    key.push(keyspace);
    with_text(key, merchant_id.as_str())
}

fn text_after(key: &[u8], prefix_len: usize) -> Option<&str> {
    let rest = key.get(prefix_len..)?;
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    std::str::from_utf8(rest.get(..end)?).ok()
}

/// A payment's row.
pub fn payment(merchant_id: &MerchantId, payment_no: &PaymentNo) -> Vec<u8> {
    with_text(payments_of(merchant_id), payment_no.as_str())
}

/// Prefix of all payments of a merchant, in the order they were made.
pub fn payments_of(merchant_id: &MerchantId) -> Vec<u8> {
    of_merchant(PAYMENT, merchant_id)
}

/// First key of the payments of a merchant that were made in the second of `from` or later.
pub fn payments_from(merchant_id: &MerchantId, from: Timestamp) -> Vec<u8> {
    numbered_from(payments_of(merchant_id), PAYMENT_NO_PREFIX, from)
}

fn numbered_from(mut key: Vec<u8>, prefix: &str, from: Timestamp) -> Vec<u8> {
    key.extend_from_slice(first_dated_number(prefix, from).as_bytes());
    key
}

/// Prefix of all payments of all merchants.
pub fn payments() -> Vec<u8> {
    vec![PAYMENT]
}

/// Who holds an order number.
pub fn order(merchant_id: &MerchantId, order_no: &str) -> Vec<u8> {
    with_text(of_merchant(ORDER, merchant_id), order_no)
}

/// What was answered under an idempotency key; `fingerprint` covers method, path and key.
pub fn idempotency(merchant_id: &MerchantId, fingerprint: u128) -> Vec<u8> {
    let mut key = of_merchant(IDEMPOTENCY, merchant_id);
    key.extend_from_slice(&fingerprint.to_be_bytes());
    key
}

/// Prefix of all entries of [`idempotency`] of all merchants.
pub fn idempotencies() -> Vec<u8> {
    vec![IDEMPOTENCY]
}

/// Which payment or pre-auth a refund belongs to; the value is its number.
pub fn refund(merchant_id: &MerchantId, refund_no: &RefundNo) -> Vec<u8> {
    with_text(of_merchant(REFUND, merchant_id), refund_no.as_str())
}

/// Prefix of all refunds of a merchant, in the order they were made.
pub fn refunds_of(merchant_id: &MerchantId) -> Vec<u8> {
    of_merchant(REFUND, merchant_id)
}

/// First key of the refunds of a merchant that were made in the second of `from` or later.
pub fn refunds_from(merchant_id: &MerchantId, from: Timestamp) -> Vec<u8> {
    numbered_from(refunds_of(merchant_id), REFUND_NO_PREFIX, from)
}

/// Prefix of all refunds of all merchants.
pub fn refunds() -> Vec<u8> {
    vec![REFUND]
}

/// Money of a payment, pre-auth or refund that moved on another day (`yyyymmdd`, UTC) than the one in its number; `prefix` is the
/// number's. The value of a refund's is as that of [`refund`], the others' is empty.
pub fn late_money(merchant_id: &MerchantId, prefix: &str, day: &str, number: &str) -> Vec<u8> {
    let mut key = late_money_from(merchant_id, prefix, day);
    key.extend_from_slice(number.as_bytes());
    key.push(0);
    key
}

/// First key of the entries of [`late_money`] of a merchant and kind whose money moved on `day` or later.
pub fn late_money_from(merchant_id: &MerchantId, prefix: &str, day: &str) -> Vec<u8> {
    let mut key = of_merchant(LATE_MONEY, merchant_id);
    key.extend_from_slice(prefix.as_bytes());
    key.extend_from_slice(day.as_bytes());
    key
}

/// On which day the money of an entry of [`late_money`] moved, and its number.
pub fn parse_late_money(key: &[u8]) -> Option<(&str, &str)> {
    let day_place = of_one_merchant(key).len() + PAYMENT_NO_PREFIX.len();
    let day_and_number = text_after(key, day_place)?;
    day_and_number.split_at_checked(DAY_LEN)
}

/// Stream of a merchant's events; its rows are this prefix and the number as 8 bytes.
pub fn events_of(merchant_id: &MerchantId) -> Vec<u8> {
    of_merchant(EVENT, merchant_id)
}

/// Prefix of all rows of [`events_of`] of all merchants.
pub fn events() -> Vec<u8> {
    vec![EVENT]
}

/// A row of [`events_of`].
pub fn event(merchant_id: &MerchantId, number: u64) -> Vec<u8> {
    let mut key = events_of(merchant_id);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The number in a row's key of [`events_of`].
pub fn event_number(key: &[u8]) -> Option<u64> {
    let start = key.len().checked_sub(8)?;
    Some(u64::from_be_bytes(key.get(start..)?.try_into().ok()?))
}

/// A webhook endpoint.
pub fn endpoint(merchant_id: &MerchantId, endpoint_id: &EndpointId) -> Vec<u8> {
    with_text(endpoints_of(merchant_id), endpoint_id.as_str())
}

/// Which endpoint a row of [`endpoint`] is.
pub fn parse_endpoint(key: &[u8]) -> Option<EndpointId> {
    let merchant_id = text_after(key, 1)?;
    text_after(key, 1 + merchant_id.len() + 1).map(EndpointId::new)
}

/// Prefix of all endpoints of a merchant.
pub fn endpoints_of(merchant_id: &MerchantId) -> Vec<u8> {
    of_merchant(ENDPOINT, merchant_id)
}

/// A row that is written with every endpoint that a merchant makes, so that two made at once notice each other.
pub fn endpoints_made(merchant_id: &MerchantId) -> Vec<u8> {
    of_merchant(ENDPOINTS_MADE, merchant_id)
}

/// A notification.
pub fn notification(merchant_id: &MerchantId, notification_id: &NotificationId) -> Vec<u8> {
    with_text(notifications_of(merchant_id), notification_id.as_str())
}

/// Prefix of all notifications of a merchant, in the order they were made.
pub fn notifications_of(merchant_id: &MerchantId) -> Vec<u8> {
    of_merchant(NOTIFICATION, merchant_id)
}

/// First key of the notifications of a merchant that were made at `from` or later.
pub fn notifications_from(merchant_id: &MerchantId, from: Timestamp) -> Vec<u8> {
    let mut key = notifications_of(merchant_id);
    key.extend_from_slice(first_sortable_id("wn_", from).as_bytes());
    key
}

/// Prefix of all notifications of all merchants.
pub fn notifications() -> Vec<u8> {
    vec![NOTIFICATION]
}

/// Whose a key is that begins with a keyspace and a merchant.
pub fn merchant_of(key: &[u8]) -> Option<MerchantId> {
    text_after(key, 1).map(MerchantId::new)
}

/// The part of a merchant's key that all keys of its kind and merchant begin with.
pub fn of_one_merchant(key: &[u8]) -> &[u8] {
    let end = key.iter().skip(1).position(|byte| *byte == 0).map_or(key.len(), |position| position + 2);
    &key[..end]
}

/// A merchant's own row.
pub fn merchant(merchant_id: &MerchantId) -> Vec<u8> {
    of_merchant(MERCHANT, merchant_id)
}

/// Prefix of all merchants.
pub fn merchants() -> Vec<u8> {
    vec![MERCHANT]
}

/// When a payment has to be looked at again; the value is the merchant's id.
pub fn payment_due(due_at: Timestamp, payment_no: &PaymentNo) -> Vec<u8> {
    with_text(with_time(payments_due(), due_at), payment_no.as_str())
}

/// Prefix of all entries of [`payment_due`], the earliest first.
pub fn payments_due() -> Vec<u8> {
    vec![PAYMENT_DUE]
}

/// First key after all entries of [`payment_due`] that are due at `now`.
pub fn payments_due_end(now: Timestamp) -> Vec<u8> {
    with_time(payments_due(), now.plus(std::time::Duration::from_millis(1)))
}

/// When and of which payment an entry of [`payment_due`] is.
pub fn parse_payment_due(key: &[u8]) -> Option<(Timestamp, PaymentNo)> {
    Some((time_in(key, 1)?, PaymentNo::new(text_after(key, 9)?)))
}

/// When a notification has to be sent to an endpoint; the value is a [`crate::domain::webhook::DueEntry`].
pub fn notification_due(
    endpoint_id: &EndpointId,
    lane: Lane,
    due_at: Timestamp,
    notification_id: &NotificationId,
) -> Vec<u8> {
    with_text(with_time(notifications_due_in(endpoint_id, lane), due_at), notification_id.as_str())
}

/// Prefix of all entries of [`notification_due`] of a lane of an endpoint, the earliest first.
pub fn notifications_due_in(endpoint_id: &EndpointId, lane: Lane) -> Vec<u8> {
    let mut key = notifications_due_of(endpoint_id);
    key.push(lane.byte());
    key
}

/// Prefix of all entries of [`notification_due`] of an endpoint, lane by lane.
pub fn notifications_due_of(endpoint_id: &EndpointId) -> Vec<u8> {
    with_text(notifications_due(), endpoint_id.as_str())
}

/// Prefix of all entries of [`notification_due`].
pub fn notifications_due() -> Vec<u8> {
    vec![NOTIFICATION_WAITING]
}

/// First key after all entries of [`notification_due`] of a lane of an endpoint that are due at `now`.
pub fn notifications_due_end(endpoint_id: &EndpointId, lane: Lane, now: Timestamp) -> Vec<u8> {
    with_time(notifications_due_in(endpoint_id, lane), now.plus(std::time::Duration::from_millis(1)))
}

/// Of which endpoint an entry of [`notification_due`] is, in which lane, when it is due, and for which notification.
pub fn parse_notification_due(key: &[u8]) -> Option<(EndpointId, Lane, Timestamp, NotificationId)> {
    let endpoint_id = text_after(key, 1)?;
    let lane_place = 1 + endpoint_id.len() + 1;
    let lane = Lane::from_byte(*key.get(lane_place)?)?;
    let (due_at, notification_id) = time_and_notification(key, lane_place + 1)?;
    Some((EndpointId::new(endpoint_id), lane, due_at, notification_id))
}

/// Prefix of all entries of the due index as it was before there were lanes.
pub fn former_notifications_due() -> Vec<u8> {
    vec![FORMER_NOTIFICATION_DUE]
}

/// An entry of that index.
#[cfg(test)]
pub(crate) fn former_notification_due(
    endpoint_id: &EndpointId,
    due_at: Timestamp,
    notification_id: &NotificationId,
) -> Vec<u8> {
    let of_endpoint = with_text(former_notifications_due(), endpoint_id.as_str());
    with_text(with_time(of_endpoint, due_at), notification_id.as_str())
}

/// Of which endpoint an entry of that index is, when it is due, and for which notification.
pub fn parse_former_notification_due(key: &[u8]) -> Option<(EndpointId, Timestamp, NotificationId)> {
    let endpoint_id = text_after(key, 1)?;
    let (due_at, notification_id) = time_and_notification(key, 1 + endpoint_id.len() + 1)?;
    Some((EndpointId::new(endpoint_id), due_at, notification_id))
}

fn time_and_notification(key: &[u8], start: usize) -> Option<(Timestamp, NotificationId)> {
    Some((time_in(key, start)?, NotificationId::new(text_after(key, start + 8)?)))
}

/// A dead letter, by when it was given up last; the value is a [`crate::domain::webhook::DeadEntry`].
pub fn dead_letter(endpoint_id: &EndpointId, failed_at: Timestamp, notification_id: &NotificationId) -> Vec<u8> {
    with_text(dead_letters_since(endpoint_id, failed_at), notification_id.as_str())
}

/// First key of the entries of [`dead_letter`] of an endpoint that were given up at `since` or later.
pub fn dead_letters_since(endpoint_id: &EndpointId, since: Timestamp) -> Vec<u8> {
    with_time(dead_letters_of(endpoint_id), since)
}

/// Prefix of all entries of [`dead_letter`] of an endpoint, the earliest first.
pub fn dead_letters_of(endpoint_id: &EndpointId) -> Vec<u8> {
    with_text(dead_letters(), endpoint_id.as_str())
}

/// Prefix of all entries of [`dead_letter`].
pub fn dead_letters() -> Vec<u8> {
    vec![DEAD_LETTER]
}

/// Of which endpoint an entry of [`dead_letter`] is, when it was given up, and which notification it is.
pub fn parse_dead_letter(key: &[u8]) -> Option<(EndpointId, Timestamp, NotificationId)> {
    let endpoint_id = text_after(key, 1)?;
    let (failed_at, notification_id) = time_and_notification(key, 1 + endpoint_id.len() + 1)?;
    Some((EndpointId::new(endpoint_id), failed_at, notification_id))
}

/// How an endpoint has been doing.
pub fn endpoint_health(merchant_id: &MerchantId, endpoint_id: &EndpointId) -> Vec<u8> {
    with_text(of_merchant(ENDPOINT_HEALTH, merchant_id), endpoint_id.as_str())
}

/// Prefix of all rows of [`endpoint_health`].
pub fn endpoint_healths() -> Vec<u8> {
    vec![ENDPOINT_HEALTH]
}

/// Whose endpoint a row of [`endpoint_health`] is about, and which.
pub fn parse_endpoint_health(key: &[u8]) -> Option<(MerchantId, EndpointId)> {
    let merchant_id = text_after(key, 1)?;
    let endpoint_id = text_after(key, 1 + merchant_id.len() + 1)?;
    Some((MerchantId::new(merchant_id), EndpointId::new(endpoint_id)))
}

/// A job on many notifications.
pub fn webhook_job(merchant_id: &MerchantId, job_id: &JobId) -> Vec<u8> {
    with_text(webhook_jobs_of(merchant_id), job_id.as_str())
}

/// Prefix of all jobs of a merchant, in the order they were asked for.
pub fn webhook_jobs_of(merchant_id: &MerchantId) -> Vec<u8> {
    of_merchant(WEBHOOK_JOB, merchant_id)
}

/// Prefix of all jobs of all merchants.
pub fn webhook_jobs() -> Vec<u8> {
    vec![WEBHOOK_JOB]
}

/// A job that is not at its end; the value is the merchant's id.
pub fn webhook_job_open(job_id: &JobId) -> Vec<u8> {
    with_text(webhook_jobs_open(), job_id.as_str())
}

/// Prefix of all entries of [`webhook_job_open`], in the order they were asked for.
pub fn webhook_jobs_open() -> Vec<u8> {
    vec![WEBHOOK_JOB_OPEN]
}

/// Which job an entry of [`webhook_job_open`] is of.
pub fn parse_webhook_job_open(key: &[u8]) -> Option<JobId> {
    text_after(key, 1).map(JobId::new)
}

/// An API key.
pub fn api_key(key_id: &KeyId) -> Vec<u8> {
    with_text(vec![API_KEY], key_id.as_str())
}

/// Prefix of all API keys.
pub fn api_keys() -> Vec<u8> {
    vec![API_KEY]
}

/// Which API key a row of [`api_key`] is.
pub fn parse_api_key(key: &[u8]) -> Option<KeyId> {
    (key.first() == Some(&API_KEY)).then(|| text_after(key, 1).map(KeyId::new))?
}

/// Prefix of all webhook endpoints of all merchants.
pub fn endpoints() -> Vec<u8> {
    vec![ENDPOINT]
}

/// A fact about the installation, such as its mode.
pub fn installation(name: &str) -> Vec<u8> {
    with_text(vec![INSTALLATION], name)
}

/// Stream of the record of administrative changes; its rows are this prefix and the number as 8 bytes.
pub fn audit() -> Vec<u8> {
    vec![AUDIT]
}

/// A row of [`audit`].
pub fn audit_entry(number: u64) -> Vec<u8> {
    let mut key = audit();
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The end of the audit's chain, written with each of its entries.
pub fn audit_head() -> Vec<u8> {
    vec![AUDIT_HEAD]
}

/// The number in a row's key of [`audit`].
pub fn audit_number(key: &[u8]) -> Option<u64> {
    let (keyspace, number) = key.split_first()?;
    if *keyspace != AUDIT {
        return None;
    }
    Some(u64::from_be_bytes(number.try_into().ok()?))
}

/// An erasure of customers' data.
pub fn erasure(erasure_id: &str) -> Vec<u8> {
    with_text(erasures(), erasure_id)
}

/// Prefix of all erasures, in the order they were asked for.
pub fn erasures() -> Vec<u8> {
    vec![ERASURE]
}

/// A version of the routing.
pub fn routing_version(number: u64) -> Vec<u8> {
    let mut key = routing_versions();
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// Prefix of all versions of the routing, in their order.
pub fn routing_versions() -> Vec<u8> {
    vec![ROUTING_VERSION]
}

/// The number in a row's key of [`routing_version`].
pub fn routing_version_number(key: &[u8]) -> Option<u64> {
    let (keyspace, number) = key.split_first()?;
    (*keyspace == ROUTING_VERSION).then(|| number.try_into().map(u64::from_be_bytes).ok())?
}

/// What of the routing was in force last; one row.
pub fn routing_in_force() -> Vec<u8> {
    vec![ROUTING_IN_FORCE]
}

/// Prefix of all answers under a merchant's idempotency keys.
pub fn idempotencies_of(merchant_id: &MerchantId) -> Vec<u8> {
    of_merchant(IDEMPOTENCY, merchant_id)
}

/// A pre-auth's row.
pub fn pre_auth(merchant_id: &MerchantId, pre_auth_no: &PreAuthNo) -> Vec<u8> {
    with_text(pre_auths_of(merchant_id), pre_auth_no.as_str())
}

/// Which pre-auth a row of [`pre_auth`] is.
pub fn parse_pre_auth(key: &[u8]) -> Option<PreAuthNo> {
    let merchant_id = text_after(key, 1)?;
    text_after(key, 1 + merchant_id.len() + 1).map(PreAuthNo::new)
}

/// Prefix of all pre-auths of a merchant, in the order they were made.
pub fn pre_auths_of(merchant_id: &MerchantId) -> Vec<u8> {
    of_merchant(PRE_AUTH, merchant_id)
}

/// First key of the pre-auths of a merchant that were made in the second of `from` or later.
pub fn pre_auths_from(merchant_id: &MerchantId, from: Timestamp) -> Vec<u8> {
    numbered_from(pre_auths_of(merchant_id), PRE_AUTH_NO_PREFIX, from)
}

/// Prefix of all pre-auths of all merchants.
pub fn pre_auths() -> Vec<u8> {
    vec![PRE_AUTH]
}

/// Which pre-auth holds an order number; the value is its number.
pub fn pre_auth_order(merchant_id: &MerchantId, order_no: &str) -> Vec<u8> {
    with_text(of_merchant(PRE_AUTH_ORDER, merchant_id), order_no)
}

/// Which pre-auth a merchant's own number names; the value is ours.
pub fn pre_auth_reference(merchant_id: &MerchantId, reference: &str) -> Vec<u8> {
    with_text(of_merchant(PRE_AUTH_REFERENCE, merchant_id), reference)
}

/// When a pre-auth has to be looked at again; the value is as that of [`payment_due`].
pub fn pre_auth_due(due_at: Timestamp, pre_auth_no: &PreAuthNo) -> Vec<u8> {
    with_text(with_time(pre_auths_due(), due_at), pre_auth_no.as_str())
}

/// Prefix of all entries of [`pre_auth_due`], the earliest first.
pub fn pre_auths_due() -> Vec<u8> {
    vec![PRE_AUTH_DUE]
}

/// First key after all entries of [`pre_auth_due`] that are due at `now`.
pub fn pre_auths_due_end(now: Timestamp) -> Vec<u8> {
    with_time(pre_auths_due(), now.plus(std::time::Duration::from_millis(1)))
}

/// When and of which pre-auth an entry of [`pre_auth_due`] is.
pub fn parse_pre_auth_due(key: &[u8]) -> Option<(Timestamp, PreAuthNo)> {
    Some((time_in(key, 1)?, PreAuthNo::new(text_after(key, 9)?)))
}

/// Which pre-auth a number names at a channel's provider; the value is the merchant's id and ours.
pub fn provider_no(channel: &ChannelName, number: &str) -> Vec<u8> {
    with_text(with_text(provider_nos(), channel.as_str()), number)
}

/// Prefix of all entries of [`provider_no`].
pub fn provider_nos() -> Vec<u8> {
    vec![PROVIDER_NO]
}

/// What a channel's provider has told, by its own id of it.
pub fn inbox(channel: &ChannelName, id: &str) -> Vec<u8> {
    with_text(with_text(inboxes(), channel.as_str()), id)
}

/// Prefix of all rows of [`inbox`].
pub fn inboxes() -> Vec<u8> {
    vec![INBOX]
}

/// Which channel's notification a row of [`inbox`] is, and its id.
pub fn parse_inbox(key: &[u8]) -> Option<(ChannelName, &str)> {
    channel_and_id(key, 1)
}

/// When what a channel's provider has told has to be gone into.
pub fn inbox_open(due_at: Timestamp, channel: &ChannelName, id: &str) -> Vec<u8> {
    with_text(with_text(with_time(inboxes_open(), due_at), channel.as_str()), id)
}

/// Prefix of all entries of [`inbox_open`], the earliest first.
pub fn inboxes_open() -> Vec<u8> {
    vec![INBOX_OPEN]
}

/// First key after all entries of [`inbox_open`] that are due at `now`.
pub fn inboxes_open_end(now: Timestamp) -> Vec<u8> {
    with_time(inboxes_open(), now.plus(std::time::Duration::from_millis(1)))
}

/// When an entry of [`inbox_open`] is due, of which channel, and the id of the notification.
pub fn parse_inbox_open(key: &[u8]) -> Option<(Timestamp, ChannelName, &str)> {
    let (channel, id) = channel_and_id(key, 9)?;
    Some((time_in(key, 1)?, channel, id))
}

fn channel_and_id(key: &[u8], start: usize) -> Option<(ChannelName, &str)> {
    let channel = text_after(key, start)?;
    Some((ChannelName::new(channel), text_after(key, start + channel.len() + 1)?))
}

fn time_in(key: &[u8], start: usize) -> Option<Timestamp> {
    let at_ms = u64::from_be_bytes(key.get(start..start + 8)?.try_into().ok()?);
    Some(Timestamp::from_unix_ms(i64::try_from(at_ms).ok()?))
}

#[cfg(test)]
mod tests;
