//! The page's news: parts that have changed, every few seconds, for as long as the session lasts.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::HeaderValue;
use bytes::Bytes;
use futures_util::stream;

use crate::api::envelope::{Answer, Outcome};
use crate::api::query::Pages;
use crate::api::stream::{StreamFailed, StreamKind};
use crate::gateway::Gateway;

use super::super::call::ConsoleCall;
use super::super::sessions::Session;
use super::news::{INTERVAL, News};
use super::{NAMES, Shown};

/// When a browser comes back that was cut off, in milliseconds.
const RETRY_MS: u64 = 3_000;

pub(super) async fn news(call: ConsoleCall) -> Outcome {
    let shown = Shown::read(&call.query(&NAMES, Pages::No)?)?;
    let listener = Listener {
        gateway: call.gateway().clone(),
        session: Arc::clone(&call.session),
        news: Arc::clone(&call.news),
        shown,
        sent: HashMap::new(),
        state: State::Begins,
    };
    let parts = stream::unfold(listener, |mut listener| async move {
        let part = listener.next().await?;
        Some((Ok::<_, StreamFailed>(Bytes::from(part)), listener))
    });
    Ok(Answer::stream(HeaderValue::from_static("text/event-stream"), StreamKind::Live, parts))
}

enum State {
    Begins,
    Goes,
    Ended,
}

/// A page that somebody looks at.
struct Listener {
    gateway: Gateway,
    session: Arc<Session>,
    news: Arc<News>,
    shown: Shown,
    /// What the page has, by place: hashes of the parts.
    sent: HashMap<&'static str, u64>,
    state: State,
}

impl Listener {
    async fn next(&mut self) -> Option<String> {
        let mut text = String::new();
        match self.state {
            State::Ended => return None,
            State::Begins => {
                self.state = State::Goes;
                text.push_str(&format!("retry: {RETRY_MS}\n\n"));
            }
            State::Goes => {
                let ended = self.session.ended().cancelled();
                // Whichever comes first: it is looked at below.
                let _ = tokio::time::timeout(INTERVAL, ended).await;
            }
        }
        if self.session.ended().is_cancelled() || self.session.left(self.gateway.clock().steady()).is_zero() {
            self.state = State::Ended;
            return Some(String::from("event: over\ndata: {}\n\n"));
        }
        // Where nothing has changed, or nothing is known, that is sent, so that a connection that is broken is noticed. A comment
        // would not be heard by the page's script.
        if !self.add_news(&mut text).await {
            text.push_str("event: late\ndata: {}\n\n");
        } else if text.is_empty() {
            text.push_str("event: still\ndata: {}\n\n");
        }
        Some(text)
    }

    /// Adds the parts that are not what the page has; `false` when they could not be made.
    async fn add_news(&mut self, text: &mut String) -> bool {
        let Some(parts) = self.news.of(&self.gateway, &self.shown).await else { return false };
        for part in parts.iter() {
            if self.sent.insert(part.place, part.hash) != Some(part.hash) {
                text.push_str(&part.event);
            }
        }
        true
    }
}
