//! A channel that is timed: how long each call took, for each pre-auth.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tollgate::channels::{
    AuthorizeRequest, Capabilities, CaptureRequest, Channel, HoldAnswer, HoldQuestion, ReleaseRequest,
};

/// What was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Authorize,
    Capture,
}

/// See the module.
pub struct Timed {
    channel: Arc<dyn Channel>,
    took_us: Mutex<HashMap<(Call, String), u64>>,
}

type Answering<'a> = Pin<Box<dyn Future<Output = HoldAnswer> + Send + 'a>>;

impl Timed {
    pub fn new(channel: Arc<dyn Channel>) -> Arc<Self> {
        Arc::new(Self { channel, took_us: Mutex::default() })
    }

    /// How long it took, in microseconds. Every one of those that are asked for was called once.
    pub fn take(&self, call: Call, reference: &str) -> u64 {
        let mut took_us = self.took_us.lock().unwrap_or_else(PoisonError::into_inner);
        took_us.remove(&(call, reference.to_owned())).expect("its channel was called")
    }

    pub fn forget(&self) {
        self.took_us.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn time(&self, call: Call, reference: &str, answering: impl Future<Output = HoldAnswer>) -> HoldAnswer {
        let started = Instant::now();
        let answer = answering.await;
        let us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.took_us.lock().unwrap_or_else(PoisonError::into_inner).insert((call, reference.to_owned()), us);
        answer
    }
}

impl Channel for Timed {
    fn capabilities(&self) -> Capabilities {
        self.channel.capabilities()
    }

    fn takes_token(&self, token: &str) -> bool {
        self.channel.takes_token(token)
    }

    fn authorize<'a>(&'a self, request: &'a AuthorizeRequest) -> Answering<'a> {
        Box::pin(self.time(Call::Authorize, &request.reference, self.channel.authorize(request)))
    }

    fn capture<'a>(&'a self, request: &'a CaptureRequest) -> Answering<'a> {
        Box::pin(self.time(Call::Capture, &request.hold.reference, self.channel.capture(request)))
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> Answering<'a> {
        self.channel.release(request)
    }

    fn ask_hold<'a>(&'a self, question: &'a HoldQuestion) -> Answering<'a> {
        self.channel.ask_hold(question)
    }
}
