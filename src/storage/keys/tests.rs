//! Keys read back and sort as they should.

use super::*;
use crate::domain::ids::sortable_id;

const EARLY: Timestamp = Timestamp::from_unix_ms(255);
const LATE: Timestamp = Timestamp::from_unix_ms(256);

#[test]
fn endpoints_read_back_and_notifications_begin_at_a_time() {
    let (merchant_id, endpoint_id) = (MerchantId::new("m_1"), EndpointId::new("we_1"));
    assert_eq!(parse_endpoint(&endpoint(&merchant_id, &endpoint_id)), Some(endpoint_id));
    let made = |at| notification(&merchant_id, &NotificationId::new(sortable_id("wn_", at, 0)));
    assert!(made(EARLY) < notifications_from(&merchant_id, LATE));
    assert!(notifications_from(&merchant_id, LATE) < made(LATE));
    assert!(notifications_from(&merchant_id, EARLY).starts_with(&notifications_of(&merchant_id)));
}

#[test]
fn due_entries_read_back_and_sort_by_lane_and_time() {
    let endpoint_id = EndpointId::new("we_1");
    let (one, other) = (Lane::from_byte(3).unwrap(), Lane::from_byte(4).unwrap());
    let early = notification_due(&endpoint_id, one, EARLY, &NotificationId::new("wn_b"));
    let late = notification_due(&endpoint_id, one, LATE, &NotificationId::new("wn_a"));
    let in_other = notification_due(&endpoint_id, other, Timestamp::from_unix_ms(0), &NotificationId::new("wn_c"));
    assert!(early < late && late < in_other);
    assert_eq!(parse_notification_due(&late), Some((endpoint_id.clone(), one, LATE, NotificationId::new("wn_a"))));
    assert!(late < notifications_due_end(&endpoint_id, one, LATE));
    assert!(late > notifications_due_end(&endpoint_id, one, EARLY));
    assert!(in_other.starts_with(&notifications_due_of(&endpoint_id)));
    assert!(!in_other.starts_with(&notifications_due_in(&endpoint_id, one)));
    let mut no_lane = late.clone();
    no_lane[notifications_due_of(&endpoint_id).len()] = 8;
    assert_eq!(parse_notification_due(&no_lane), None);
    assert_eq!(parse_notification_due(&notifications_due_in(&endpoint_id, one)), None);
    let due = payment_due(Timestamp::from_unix_ms(77), &PaymentNo::new("PY1"));
    assert_eq!(parse_payment_due(&due), Some((Timestamp::from_unix_ms(77), PaymentNo::new("PY1"))));
    assert!(due < payments_due_end(Timestamp::from_unix_ms(77)));
    assert!(due > payments_due_end(Timestamp::from_unix_ms(76)));
}

#[test]
fn entries_from_before_lanes_read_back() {
    let (endpoint_id, notification_id) = (EndpointId::new("we_1"), NotificationId::new("wn_a"));
    let former = former_notification_due(&endpoint_id, LATE, &notification_id);
    assert!(former.starts_with(&former_notifications_due()));
    assert_eq!(parse_former_notification_due(&former), Some((endpoint_id, LATE, notification_id)));
}

#[test]
fn dead_letters_read_back_and_sort_by_time() {
    let endpoint_id = EndpointId::new("we_1");
    let early = dead_letter(&endpoint_id, EARLY, &NotificationId::new("wn_b"));
    let late = dead_letter(&endpoint_id, LATE, &NotificationId::new("wn_a"));
    assert!(early < dead_letters_since(&endpoint_id, LATE) && dead_letters_since(&endpoint_id, LATE) < late);
    assert!(late.starts_with(&dead_letters_of(&endpoint_id)) && late.starts_with(&dead_letters()));
    assert_eq!(parse_dead_letter(&late), Some((endpoint_id, LATE, NotificationId::new("wn_a"))));
}

#[test]
fn health_and_jobs_read_back_and_jobs_sort_by_their_ids() {
    let (merchant_id, endpoint_id) = (MerchantId::new("m_1"), EndpointId::new("we_1"));
    let health = endpoint_health(&merchant_id, &endpoint_id);
    assert!(health.starts_with(&endpoint_healths()));
    assert_eq!(merchant_of(&health), Some(merchant_id.clone()));
    assert_eq!(parse_endpoint_health(&health), Some((merchant_id.clone(), endpoint_id)));
    let (early, late) = (JobId::new("wj_1"), JobId::new("wj_2"));
    assert!(webhook_job(&merchant_id, &early) < webhook_job(&merchant_id, &late));
    assert!(webhook_job(&merchant_id, &late).starts_with(&webhook_jobs_of(&merchant_id)));
    assert!(webhook_jobs_of(&merchant_id).starts_with(&webhook_jobs()));
    assert!(webhook_job_open(&early) < webhook_job_open(&late));
    assert!(webhook_job_open(&late).starts_with(&webhook_jobs_open()));
    assert_eq!(parse_webhook_job_open(&webhook_job_open(&late)), Some(late));
}

#[test]
fn a_key_begins_with_what_all_of_its_merchant_begin_with() {
    let merchant_id = MerchantId::new("m_1");
    assert_eq!(of_one_merchant(&event(&merchant_id, 7)), events_of(&merchant_id));
    let notification = notification(&merchant_id, &NotificationId::new("wn_1"));
    assert_eq!(of_one_merchant(&notification), notifications_of(&merchant_id));
    assert_eq!(of_one_merchant(b"x"), b"x");
    assert_eq!(of_one_merchant(b""), b"");
}

#[test]
fn one_merchants_keys_are_never_under_anothers_prefix() {
    let short = MerchantId::new("m_1");
    let long = MerchantId::new("m_11");
    assert!(!payment(&long, &PaymentNo::new("PY1")).starts_with(&payments_of(&short)));
}

#[test]
fn pre_auths_are_their_merchants_and_their_due_entries_read_back() {
    let (merchant_id, other) = (MerchantId::new("m_1"), MerchantId::new("m_11"));
    let number = PreAuthNo::new("PA1");
    let row = pre_auth(&merchant_id, &number);
    assert!(row.starts_with(&pre_auths_of(&merchant_id)) && row.starts_with(&pre_auths()));
    assert!(!pre_auth(&other, &number).starts_with(&pre_auths_of(&merchant_id)));
    assert_eq!((merchant_of(&row), parse_pre_auth(&row)), (Some(merchant_id.clone()), Some(number.clone())));
    let named = [
        row,
        pre_auth_order(&merchant_id, "PA1"),
        pre_auth_reference(&merchant_id, "PA1"),
        payment(&merchant_id, &PaymentNo::new("PA1")),
        order(&merchant_id, "PA1"),
    ];
    assert!(named.iter().enumerate().all(|(place, key)| !named[..place].contains(key)), "each has its own keyspace");
    let due = pre_auth_due(LATE, &number);
    assert!(due.starts_with(&pre_auths_due()));
    assert_eq!(parse_pre_auth_due(&due), Some((LATE, number.clone())));
    assert!(pre_auth_due(EARLY, &PreAuthNo::new("PA2")) < due);
    assert!(due < pre_auths_due_end(LATE) && due > pre_auths_due_end(EARLY));
    assert_eq!(parse_pre_auth_due(&due[..8]), None);
}

#[test]
fn late_money_stands_by_kind_and_day() {
    let merchant_id = MerchantId::new("m_1");
    let entry = |prefix: &str, day: &str, number: &str| late_money(&merchant_id, prefix, day, number);
    let payment = entry("PY", "20260202", "PY20260201235959000abcde");
    assert_eq!(parse_late_money(&payment), Some(("20260202", "PY20260201235959000abcde")));
    assert_eq!(merchant_of(&payment), Some(merchant_id.clone()));
    let from = |day: &str| late_money_from(&merchant_id, "PY", day);
    assert!(from("20260202") < payment && payment < from("20260203"));
    assert!(entry("PA", "20270101", "PA1") < from("20200101") && entry("RF", "20200101", "RF1") > from("20990101"));
    assert_eq!(parse_late_money(&from("2026")), None);
}

#[test]
fn a_provider_s_number_belongs_to_its_channel() {
    let (stripe, second) = (ChannelName::new("stripe"), ChannelName::new("stripe2"));
    assert_ne!(provider_no(&stripe, "2pi_1"), provider_no(&second, "pi_1"));
    assert!(provider_no(&stripe, "pi_1").starts_with(&provider_nos()));
}

#[test]
fn what_providers_have_told_reads_back_and_waits_in_the_order_of_its_times() {
    let channel = ChannelName::new("stripe");
    let row = inbox(&channel, "evt_1");
    assert!(row.starts_with(&inboxes()));
    assert_eq!(parse_inbox(&row), Some((channel.clone(), "evt_1")));
    let (early, late) = (inbox_open(EARLY, &channel, "evt_2"), inbox_open(LATE, &channel, "evt_1"));
    assert!(early < late && late.starts_with(&inboxes_open()));
    assert!(late < inboxes_open_end(LATE) && late > inboxes_open_end(EARLY));
    assert_eq!(parse_inbox_open(&late), Some((LATE, channel, "evt_1")));
    assert_eq!(parse_inbox_open(&late[..9]), None);
    assert_eq!(parse_inbox(&inboxes()), None);
}
