//! What durable deliveries are measured against: the same sender in a loop, with the same bodies to the same receiver and as
//! many requests in flight. Nothing is stored, nothing is signed, nothing is sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tollgate::config::WebhookConfig;
use tollgate::delivery::client::{DeliverySettings, HttpDelivery};
use tollgate::delivery::{Deliver, DeliveryRequest};

use crate::house;

/// See the module.
pub struct Bare {
    deliver: Arc<HttpDelivery>,
    timeout: Duration,
}

impl Bare {
    pub fn new(config: &WebhookConfig) -> Self {
        let deliver = Arc::new(HttpDelivery::new(DeliverySettings::from(config)).expect("a sender"));
        Self { deliver, timeout: Duration::from_secs(config.timeout_s) }
    }

    /// Sends `count` bodies to the addresses in turn, `in_flight` at once.
    pub async fn send(&self, urls: &Arc<Vec<String>>, count: u64, in_flight: usize) {
        let next = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..in_flight)
            .map(|_| {
                let (next, urls, deliver) = (Arc::clone(&next), Arc::clone(urls), Arc::clone(&self.deliver));
                let timeout = self.timeout;
                tokio::spawn(async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        let place = usize::try_from(number).unwrap_or(0) % urls.len();
                        let request = DeliveryRequest {
                            url: urls[place].clone(),
                            headers: headers(number),
                            body: house::body(number).into(),
                            timeout,
                        };
                        let answer = deliver.deliver(request).await.expect("an answer");
                        assert_eq!(answer.status, 200);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a task");
        }
    }
}

/// As many and as long as those of a webhook, so that the receiver has the same to read.
fn headers(number: u64) -> Vec<(&'static str, String)> {
    vec![
        ("x-webhook-signature", "0".repeat(64)),
        ("x-webhook-event", "payment.success".to_owned()),
        ("x-webhook-timestamp", "1737714645".to_owned()),
        ("x-webhook-attempt", "1".to_owned()),
        ("webhook-id", format!("wn_{number:019}")),
        ("webhook-timestamp", "1737714645".to_owned()),
        ("webhook-signature", format!("v1,{}=", "A".repeat(43))),
    ]
}
