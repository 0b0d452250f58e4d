//! A channel whose calls are timed, counted and seen in traces, whoever makes them.

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
use crate::telemetry::trace::{self, Kind};

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
    /// Of a notification. Nothing is asked for it but a certificate now and then, so it has no figures.
    Verify,
}

impl Operation {
    /// Those that have figures.
    const COUNTED: [Self; 10] = [
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
            Self::Verify => "verify",
        }
    }

    /// The name of its spans.
    const fn span_name(self) -> &'static str {
        match self {
            Self::Charge => "channel charge",
            Self::Resolve => "channel resolve",
            Self::Refund => "channel refund",
            Self::Authorize => "channel authorize",
            Self::Capture => "channel capture",
            Self::Release => "channel release",
            Self::Extend => "channel extend",
            Self::AskHold => "channel ask_hold",
            Self::Search => "channel search",
            Self::Check => "channel check",
            Self::Verify => "channel verify",
        }
    }

    /// Whether a channel that can do so much is ever asked this.
    const fn is_of(self, abilities: Capabilities) -> bool {
        match self {
            Self::Charge | Self::Resolve => abilities.charge,
            Self::Refund => abilities.refund,
            Self::Authorize | Self::Capture | Self::Release | Self::Extend | Self::AskHold => abilities.pre_auth,
            Self::Search | Self::Check | Self::Verify => true,
        }
    }
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// What is known now.
    Known(&'static str),
    /// That it did not work, which is known, too.
    Refused(&'static str),
    /// Nothing: it is not known what the channel has done.
    Unknown,
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
    name: ChannelName,
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
        let known = Operation::COUNTED.iter().filter(|operation| operation.is_of(abilities)).map(of_operation);
        let figures_of_name = known.collect();
        Arc::new(Self { name: name.clone(), inner, clock: figures.clock.clone(), figures: figures_of_name })
    }

    /// Times a call, counts it when nothing is known after it, and makes it a span where somebody records spans.
    fn observe<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        call: Call<'a, T>,
        outcome_of: fn(&T) -> Outcome,
    ) -> Call<'a, T> {
        Box::pin(async move {
            let mut span = trace::begin(operation.span_name(), Kind::Client);
            let began = self.clock.monotonic();
            let answer = if span.is_recorded() { span.scope(call).await } else { call.await };
            let took = self.clock.monotonic().since(began);
            let outcome = outcome_of(&answer);
            if let Some(figures) = self.figures.get(&operation) {
                figures.duration.observe(took.as_secs_f64());
                if outcome == Outcome::Unknown {
                    figures.unanswered.inc();
                }
            }
            if span.is_recorded() {
                span.set("tollgate.channel", self.name.to_string());
                match outcome {
                    Outcome::Known(known) => span.set("tollgate.outcome", known),
                    Outcome::Refused(why) => span.fail(why),
                    Outcome::Unknown => span.fail("the outcome is not known"),
                }
            }
            answer
        })
    }
}

fn of_charge(answer: &ChargeAnswer) -> Outcome {
    Outcome::Known(match &answer.state {
        ChargeState::Success { .. } => "success",
        ChargeState::Declined(_) => "declined",
        ChargeState::NotDone(_) => "not_done",
        ChargeState::ActionRequired { .. } => "action_required",
        ChargeState::Processing => "processing",
        ChargeState::Canceled => "canceled",
        ChargeState::Stray { .. } => "stray",
        ChargeState::Unknown { .. } => return Outcome::Unknown,
    })
}

fn of_refund(answer: &RefundAnswer) -> Outcome {
    Outcome::Known(match &answer.state {
        RefundState::Success => "success",
        RefundState::Failed(_) => "failed",
        RefundState::Pending => "pending",
        RefundState::Unknown { .. } => return Outcome::Unknown,
    })
}

fn of_hold(answer: &HoldAnswer) -> Outcome {
    Outcome::Known(match &answer.state {
        HoldState::AwaitsMethod { .. } => "awaits_method",
        HoldState::ActionRequired { .. } => "action_required",
        HoldState::Processing => "processing",
        HoldState::Held { .. } => "held",
        HoldState::Captured { .. } => "captured",
        HoldState::Released { .. } => "released",
        HoldState::Declined(_) => "declined",
        HoldState::NotDone(_) => "not_done",
        HoldState::Unknown { .. } => return Outcome::Unknown,
    })
}

fn of_search<T>(answer: &Result<T, ListError>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Known("answered"),
        Err(ListError::NotSupported) => Outcome::Refused("not supported"),
        Err(ListError::Failed(_)) => Outcome::Unknown,
    }
}

fn of_check(answer: &Result<CheckReport, CheckFailure>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Known("answered"),
        Err(CheckFailure::NotSupported) => Outcome::Refused("not supported"),
        Err(CheckFailure::Refused(_)) => Outcome::Refused("the provider refused"),
        Err(CheckFailure::Unreachable(_)) => Outcome::Unknown,
    }
}

fn of_verification(answer: &Result<Notification, NotificationRefusal>) -> Outcome {
    if answer.is_ok() { Outcome::Known("answered") } else { Outcome::Refused("not proved to be the provider's") }
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
        self.observe(Operation::Charge, self.inner.charge(request), of_charge)
    }

    fn resolve<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, ChargeAnswer> {
        self.observe(Operation::Resolve, self.inner.resolve(request), of_charge)
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest) -> Call<'a, RefundAnswer> {
        self.observe(Operation::Refund, self.inner.refund(request), of_refund)
    }

    fn authorize<'a>(&'a self, request: &'a AuthorizeRequest) -> Call<'a, HoldAnswer> {
        self.observe(Operation::Authorize, self.inner.authorize(request), of_hold)
    }

    fn capture<'a>(&'a self, request: &'a CaptureRequest) -> Call<'a, HoldAnswer> {
        self.observe(Operation::Capture, self.inner.capture(request), of_hold)
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> Call<'a, HoldAnswer> {
        self.observe(Operation::Release, self.inner.release(request), of_hold)
    }

    fn extend<'a>(&'a self, request: &'a ExtendRequest) -> Call<'a, HoldAnswer> {
        self.observe(Operation::Extend, self.inner.extend(request), of_hold)
    }

    fn ask_hold<'a>(&'a self, question: &'a HoldQuestion) -> Call<'a, HoldAnswer> {
        self.observe(Operation::AskHold, self.inner.ask_hold(question), of_hold)
    }

    fn find_charge<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, Result<Option<ChargeAnswer>, ListError>> {
        self.observe(Operation::Search, self.inner.find_charge(request), of_search)
    }

    fn list_charges<'a>(
        &'a self,
        since: Timestamp,
        after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedCharge>, ListError>> {
        self.observe(Operation::Search, self.inner.list_charges(since, after), of_search)
    }

    fn list_refunds<'a>(
        &'a self,
        since: Timestamp,
        after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedRefund>, ListError>> {
        self.observe(Operation::Search, self.inner.list_refunds(since, after), of_search)
    }

    fn verify<'a>(&'a self, inbound: &'a Inbound) -> Call<'a, Result<Notification, NotificationRefusal>> {
        self.observe(Operation::Verify, self.inner.verify(inbound), of_verification)
    }

    fn names_of<'a>(&'a self, provider_no: &'a str) -> Call<'a, Result<Option<Subject>, ListError>> {
        self.observe(Operation::Search, self.inner.names_of(provider_no), of_search)
    }

    fn acknowledgement(&self) -> Acknowledgement {
        self.inner.acknowledgement()
    }

    fn check<'a>(&'a self) -> Call<'a, Result<CheckReport, CheckFailure>> {
        self.observe(Operation::Check, self.inner.check(), of_check)
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
            assert!(wrapper.contains(&format!("self.inner.{name}(")), "{name} is not handed on");
        }
    }
}
