//! A channel whose calls are timed and counted, whoever makes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::channels::{
    Acknowledgement, AuthorizeRequest, Call, Capabilities, CaptureRequest, Channel, ChargeAnswer, ChargeRequest,
    ChargeState, CheckFailure, CheckReport, CurrencySupport, ExtendRequest, HoldAnswer, HoldQuestion, HoldState,
    Inbound, ListError, ListPage, ListedCharge, ListedRefund, Notification, NotificationRefusal, RefundAnswer,
    RefundRequest, RefundState, ReleaseRequest, ResolveRequest, Subject,
};
use crate::clock::Clock;
use crate::domain::ids::ChannelName;
use crate::domain::time::Timestamp;
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, Histogram, HistogramVec, IntCounter, IntCounterVec};

/// Bounds of how long a provider takes, in seconds.
const BOUNDS: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What is asked of a channel, as its figures name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Charge,
    Resolve,
    Refund,
    Authorize,
    Capture,
    Release,
    Extend,
    AskHold,
    Search,
    Check,
}

impl Operation {
    const ALL: [Self; 10] = [
        Self::Charge,
        Self::Resolve,
        Self::Refund,
        Self::Authorize,
        Self::Capture,
        Self::Release,
        Self::Extend,
        Self::AskHold,
        Self::Search,
        Self::Check,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Resolve => "resolve",
            Self::Refund => "refund",
            Self::Authorize => "authorize",
            Self::Capture => "capture",
            Self::Release => "release",
            Self::Extend => "extend",
            Self::AskHold => "ask_hold",
            Self::Search => "search",
            Self::Check => "check",
        }
    }

    /// Whether a channel that can do so much is ever asked this.
    const fn is_of(self, abilities: Capabilities) -> bool {
        match self {
            Self::Charge | Self::Resolve => abilities.charge,
            Self::Refund => abilities.refund,
            Self::Authorize | Self::Capture | Self::Release | Self::Extend | Self::AskHold => abilities.pre_auth,
            Self::Search | Self::Check => true,
        }
    }
}

/// The figures of all channels' calls. Cheap to clone.
#[derive(Clone)]
pub(super) struct CallFigures {
    durations: HistogramVec,
    unanswered: IntCounterVec,
    clock: Clock,
}

impl CallFigures {
    /// # Errors
    /// [`GatewayError::Internal`] when a name is there twice.
    pub(super) fn new(figures: &Figures, clock: Clock) -> Result<Self, GatewayError> {
        let labels = ["channel", "operation"];
        Ok(Self {
            durations: figures.histograms(
                "channel_call_duration_seconds",
                "How long calls of a channel took, by what was asked",
                &labels,
                &BOUNDS,
            )?,
            unanswered: figures.counters(
                "channel_calls_unanswered_total",
                "Calls of a channel after which it is not known what it has done, by what was asked",
                &labels,
            )?,
            clock,
        })
    }
}

/// See the module.
pub(super) struct ObservedChannel {
    inner: Arc<dyn Channel>,
    clock: Clock,
    figures: BTreeMap<Operation, OperationFigures>,
}

struct OperationFigures {
    duration: Histogram,
    unanswered: IntCounter,
}

impl ObservedChannel {
    /// The same channel, observed under this name.
    pub(super) fn over(inner: Arc<dyn Channel>, name: &ChannelName, figures: &CallFigures) -> Arc<dyn Channel> {
        let abilities = inner.capabilities();
        let of_operation = |operation: &Operation| {
            let labels = [name.as_str(), operation.as_str()];
            let duration = figures.durations.with_label_values(&labels);
            let unanswered = figures.unanswered.with_label_values(&labels);
            (*operation, OperationFigures { duration, unanswered })
        };
        let known = Operation::ALL.iter().filter(|operation| operation.is_of(abilities)).map(of_operation).collect();
        Arc::new(Self { inner, clock: figures.clock.clone(), figures: known })
    }

    /// Times a call and counts it when `is_unknown` says so of its answer.
    fn observe<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        call: Call<'a, T>,
        is_unknown: impl Fn(&T) -> bool + Send + 'a,
    ) -> Call<'a, T> {
        let Some(figures) = self.figures.get(&operation) else { return call };
        Box::pin(async move {
            let began = self.clock.monotonic();
            let answer = call.await;
            figures.duration.observe(self.clock.monotonic().since(began).as_secs_f64());
            if is_unknown(&answer) {
                figures.unanswered.inc();
            }
            answer
        })
    }
}

fn charge_unknown(answer: &ChargeAnswer) -> bool {
    matches!(answer.state, ChargeState::Unknown { .. })
}

fn hold_unknown(answer: &HoldAnswer) -> bool {
    matches!(answer.state, HoldState::Unknown { .. })
}

fn refund_unknown(answer: &RefundAnswer) -> bool {
    matches!(answer.state, RefundState::Unknown { .. })
}

fn search_unknown<T>(answer: &Result<T, ListError>) -> bool {
    matches!(answer, Err(ListError::Failed(_)))
}

impl Channel for ObservedChannel {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn currencies(&self) -> CurrencySupport {
        self.inner.currencies()
    }

    fn livemode(&self) -> Option<bool> {
        self.inner.livemode()
    }

    fn methods(&self) -> &'static [&'static str] {
        self.inner.methods()
    }

    fn takes_token(&self, token: &str) -> bool {
        self.inner.takes_token(token)
    }

    fn charge<'a>(&'a self, request: &'a ChargeRequest) -> Call<'a, ChargeAnswer> {
        self.observe(Operation::Charge, self.inner.charge(request), charge_unknown)
    }

    fn resolve<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, ChargeAnswer> {
        self.observe(Operation::Resolve, self.inner.resolve(request), charge_unknown)
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest) -> Call<'a, RefundAnswer> {
        self.observe(Operation::Refund, self.inner.refund(request), refund_unknown)
    }

    fn authorize<'a>(&'a self, request: &'a AuthorizeRequest) -> Call<'a, HoldAnswer> {
        self.observe(Operation::Authorize, self.inner.authorize(request), hold_unknown)
    }

    fn capture<'a>(&'a self, request: &'a CaptureRequest) -> Call<'a, HoldAnswer> {
        self.observe(Operation::Capture, self.inner.capture(request), hold_unknown)
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> Call<'a, HoldAnswer> {
        self.observe(Operation::Release, self.inner.release(request), hold_unknown)
    }

    fn extend<'a>(&'a self, request: &'a ExtendRequest) -> Call<'a, HoldAnswer> {
        self.observe(Operation::Extend, self.inner.extend(request), hold_unknown)
    }

    fn ask_hold<'a>(&'a self, question: &'a HoldQuestion) -> Call<'a, HoldAnswer> {
        self.observe(Operation::AskHold, self.inner.ask_hold(question), hold_unknown)
    }

    fn find_charge<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, Result<Option<ChargeAnswer>, ListError>> {
        self.observe(Operation::Search, self.inner.find_charge(request), search_unknown)
    }

    fn list_charges<'a>(
        &'a self,
        since: Timestamp,
        after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedCharge>, ListError>> {
        self.observe(Operation::Search, self.inner.list_charges(since, after), search_unknown)
    }

    fn list_refunds<'a>(
        &'a self,
        since: Timestamp,
        after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedRefund>, ListError>> {
        self.observe(Operation::Search, self.inner.list_refunds(since, after), search_unknown)
    }

    /// Nothing is asked for it but a certificate now and then.
    fn verify<'a>(&'a self, inbound: &'a Inbound) -> Call<'a, Result<Notification, NotificationRefusal>> {
        self.inner.verify(inbound)
    }

    fn names_of<'a>(&'a self, provider_no: &'a str) -> Call<'a, Result<Option<Subject>, ListError>> {
        self.observe(Operation::Search, self.inner.names_of(provider_no), search_unknown)
    }

    fn acknowledgement(&self) -> Acknowledgement {
        self.inner.acknowledgement()
    }

    fn check<'a>(&'a self) -> Call<'a, Result<CheckReport, CheckFailure>> {
        let is_failed =
            |answer: &Result<CheckReport, CheckFailure>| matches!(answer, Err(CheckFailure::Unreachable(_)));
        self.observe(Operation::Check, self.inner.check(), is_failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A channel of which a call takes two seconds, and which never says what it did.
    struct Slow(Clock);

    impl Channel for Slow {
        fn capabilities(&self) -> Capabilities {
            Capabilities { charge: true, ..Capabilities::default() }
        }

        fn list_refunds<'a>(
            &'a self,
            _since: Timestamp,
            _after: Option<&'a str>,
        ) -> Call<'a, Result<ListPage<ListedRefund>, ListError>> {
            Box::pin(async {
                self.0.advance(std::time::Duration::from_secs(2));
                Err(ListError::Failed(String::from("no answer")))
            })
        }
    }

    #[tokio::test]
    async fn a_call_is_timed_and_one_without_an_answer_counted() {
        let (figures, clock) = (Figures::default(), Clock::manual(Timestamp::from_unix_s(1_700_000_000)));
        let calls = CallFigures::new(&figures, clock.clone()).unwrap();
        let channel = ObservedChannel::over(Arc::new(Slow(clock)), &ChannelName::new("slow"), &calls);
        assert!(channel.capabilities().charge);
        let _ = channel.list_refunds(Timestamp::from_unix_s(0), None).await;
        let text = figures.text();
        for line in [
            r#"tollgate_channel_call_duration_seconds_bucket{channel="slow",operation="search",le="1"} 0"#,
            r#"tollgate_channel_call_duration_seconds_bucket{channel="slow",operation="search",le="2.5"} 1"#,
            r#"tollgate_channel_calls_unanswered_total{channel="slow",operation="search"} 1"#,
            r#"tollgate_channel_calls_unanswered_total{channel="slow",operation="charge"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("authorize"), "it holds no money");
    }

    #[test]
    fn every_method_of_a_channel_is_handed_on() {
        let names = |text: &'static str| {
            let lines = text.lines().map(str::trim_start).filter_map(|line| line.strip_prefix("fn "));
            lines.map(|line| line.split(['<', '(']).next().unwrap_or_default()).collect::<Vec<_>>()
        };
        let whole = include_str!("../channels/mod.rs");
        let interface = whole.split("pub trait Channel").nth(1).and_then(|rest| rest.split("\n}\n").next()).unwrap();
        let wrapper = include_str!("observed_channel.rs").split("impl Channel for ObservedChannel").nth(1).unwrap();
        let handed_on = names(wrapper);
        assert!(names(interface).len() > 15);
        for name in names(interface) {
            assert!(handed_on.contains(&name), "{name} would be refused without asking the channel");
        }
    }
}
