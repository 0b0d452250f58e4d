//! What the emulators have to tell of their own accord, on its way to whoever sends it.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::time::Timestamp;

/// Notifications that may wait; more are lost, as they are with a provider that gives up.
const WAITING_MAX: usize = 10_000;

/// A notification as its provider would send it: signed, and only to be posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The emulator's name.
    pub channel: &'static str,
    /// Where it goes; `None` for the address that the gateway has registered.
    pub url: Option<String>,
    /// Of the body.
    pub content_type: &'static str,
    /// Headers of its own, such as a signature.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte as it was signed.
    pub body: Bytes,
    /// The body of an answer that means that it was taken; `None` where the status alone says so.
    pub taken_says: Option<&'static str>,
    /// Whether it is not sent again after a 4xx other than 408 and 429.
    pub refusal_is_final: bool,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// Headers and body when it is sent again, where they are others then.
    pub again: Option<(Vec<(String, String)>, Bytes)>,
}

/// Notifications that wait to be sent, the oldest first.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<VecDeque<Prepared>>,
    pushed: Notify,
}

impl Outbox {
    /// Adds a notification; returns whether there was room for it.
    pub fn push(&self, prepared: Prepared) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= WAITING_MAX {
            return false;
        }
        waiting.push_back(prepared);
        drop(waiting);
        self.pushed.notify_one();
        true
    }

    /// Takes the oldest, once there is one. Only one caller at a time can wait.
    pub async fn take(&self) -> Prepared {
        loop {
            // What is pushed from here on is remembered until it is waited for.
            let next = self.waiting.lock().pop_front();
            match next {
                Some(prepared) => return prepared,
                None => self.pushed.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn prepared(number: usize) -> Prepared {
        Prepared {
            channel: "stripe",
            url: None,
            content_type: "application/json",
            headers: Vec::new(),
            body: Bytes::from(number.to_string()),
            taken_says: None,
            refusal_is_final: false,
            signed_at: Timestamp::from_unix_s(0),
            again: None,
        }
    }

    #[tokio::test]
    async fn they_leave_in_the_order_in_which_they_came_and_are_waited_for() {
        let outbox = Arc::new(Outbox::default());
        assert!(outbox.push(prepared(1)) && outbox.push(prepared(2)));
        assert_eq!((outbox.take().await, outbox.take().await), (prepared(1), prepared(2)));
        let waiting = tokio::spawn({
            let outbox = Arc::clone(&outbox);
            async move { outbox.take().await }
        });
        tokio::task::yield_now().await;
        assert!(outbox.push(prepared(3)));
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap().unwrap(), prepared(3));
    }

    #[tokio::test]
    async fn no_more_wait_than_may() {
        let outbox = Outbox::default();
        assert!((0..WAITING_MAX).all(|number| outbox.push(prepared(number))));
        assert!(!outbox.push(prepared(WAITING_MAX)), "the newest is lost");
        assert_eq!(outbox.take().await, prepared(0));
        assert!(outbox.push(prepared(WAITING_MAX + 1)));
    }
}
