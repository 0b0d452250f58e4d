//! Tests of `webhook`.

mod answer;
mod endpoint;
mod health;
mod job;
mod lane;
mod pick;
mod schedule;
mod transition;

use serde_json::value::RawValue;

use super::*;
use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, MerchantId, NotificationId};
use crate::domain::time::Timestamp;

pub(super) const NOW: Timestamp = Timestamp::from_unix_s(1_737_715_200);

pub(super) fn settings() -> ScheduleSettings {
    ScheduleSettings { initial_backoff_s: 1, max_backoff_s: 3_600, own_waits_s: Vec::new(), jitter_percent: 0 }
}

pub(super) fn notification() -> Notification {
    Notification::new(
        NewNotification {
            id: NotificationId::new("wn_1"),
            merchant_id: MerchantId::new("m_1"),
            endpoint_id: EndpointId::new("we_1"),
            url: String::from("https://example.com/"),
            event: EventName::PaymentSuccess,
            object_no: Some(String::from("PY1")),
            order_no: None,
            body: RawValue::from_string(String::from("{}")).unwrap(),
            amount_minor: 100,
            class: AmountClass::default(),
            max_attempts: 13,
            trace: None,
        },
        NOW,
    )
}

pub(super) fn answered(status_code: u16) -> TryResult {
    TryResult { duration_ms: 20, status_code: Some(status_code), ..TryResult::default() }
}

pub(super) fn after(notification: Notification, result: &TryResult) -> AfterTry {
    notification.after_try(result, &Schedule::from(settings()), NOW, 0).unwrap()
}
