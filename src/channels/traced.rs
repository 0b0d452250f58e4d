//! A channel whose calls are seen in traces: which operation, how long, and what came of it.

use std::sync::Arc;

use crate::channels::{
    Acknowledgement, AuthorizeRequest, Call, Capabilities, CaptureRequest, Channel, ChargeAnswer, ChargeRequest,
    ChargeState, CheckFailure, CheckReport, CurrencySupport, ExtendRequest, HoldAnswer, HoldQuestion, HoldState,
    Inbound, ListError, ListPage, ListedCharge, ListedRefund, Notification, NotificationRefusal, RefundAnswer,
    RefundRequest, RefundState, ReleaseRequest, ResolveRequest, Subject,
};
use crate::domain::ids::ChannelName;
use crate::domain::time::Timestamp;
use crate::telemetry::trace::{self, Kind};

/// The same channel, seen.
pub(crate) fn traced(name: &ChannelName, inner: Arc<dyn Channel>) -> Arc<dyn Channel> {
    Arc::new(Traced { name: name.to_string(), inner })
}

struct Traced {
    name: String,
    inner: Arc<dyn Channel>,
}

impl Traced {
    /// The call as a span, with what its answer is called; `None` is one that did not work.
    fn seen<'a, T: Send + 'a>(
        &'a self,
        name: &'static str,
        call: Call<'a, T>,
        outcome: fn(&T) -> Option<&'static str>,
    ) -> Call<'a, T> {
        let mut span = trace::begin(name, Kind::Client);
        if !span.is_recorded() {
            return call;
        }
        Box::pin(async move {
            span.set("tollgate.channel", self.name.clone());
            let answer = span.scope(call).await;
            match outcome(&answer) {
                Some(outcome) => span.set("tollgate.outcome", outcome),
                None => span.fail("the outcome is not known"),
            }
            answer
        })
    }
}

fn of_charge(answer: &ChargeAnswer) -> Option<&'static str> {
    Some(match &answer.state {
        ChargeState::Success { .. } => "success",
        ChargeState::Declined(_) => "declined",
        ChargeState::NotDone(_) => "not_done",
        ChargeState::ActionRequired { .. } => "action_required",
        ChargeState::Processing => "processing",
        ChargeState::Canceled => "canceled",
        ChargeState::Stray { .. } => "stray",
        ChargeState::Unknown { .. } => return None,
    })
}

fn of_refund(answer: &RefundAnswer) -> Option<&'static str> {
    Some(match &answer.state {
        RefundState::Success => "success",
        RefundState::Failed(_) => "failed",
        RefundState::Pending => "pending",
        RefundState::Unknown { .. } => return None,
    })
}

fn of_hold(answer: &HoldAnswer) -> Option<&'static str> {
    Some(match &answer.state {
        HoldState::AwaitsMethod { .. } => "awaits_method",
        HoldState::ActionRequired { .. } => "action_required",
        HoldState::Processing => "processing",
        HoldState::Held { .. } => "held",
        HoldState::Captured { .. } => "captured",
        HoldState::Released { .. } => "released",
        HoldState::Declined(_) => "declined",
        HoldState::NotDone(_) => "not_done",
        HoldState::Unknown { .. } => return None,
    })
}

fn of_look<T, E>(answer: &Result<T, E>) -> Option<&'static str> {
    answer.is_ok().then_some("answered")
}

impl Channel for Traced {
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
        self.seen("channel charge", self.inner.charge(request), of_charge)
    }

    fn resolve<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, ChargeAnswer> {
        self.seen("channel resolve", self.inner.resolve(request), of_charge)
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest) -> Call<'a, RefundAnswer> {
        self.seen("channel refund", self.inner.refund(request), of_refund)
    }

    fn authorize<'a>(&'a self, request: &'a AuthorizeRequest) -> Call<'a, HoldAnswer> {
        self.seen("channel authorize", self.inner.authorize(request), of_hold)
    }

    fn capture<'a>(&'a self, request: &'a CaptureRequest) -> Call<'a, HoldAnswer> {
        self.seen("channel capture", self.inner.capture(request), of_hold)
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> Call<'a, HoldAnswer> {
        self.seen("channel release", self.inner.release(request), of_hold)
    }

    fn extend<'a>(&'a self, request: &'a ExtendRequest) -> Call<'a, HoldAnswer> {
        self.seen("channel extend", self.inner.extend(request), of_hold)
    }

    fn ask_hold<'a>(&'a self, question: &'a HoldQuestion) -> Call<'a, HoldAnswer> {
        self.seen("channel ask_hold", self.inner.ask_hold(question), of_hold)
    }

    fn find_charge<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, Result<Option<ChargeAnswer>, ListError>> {
        self.seen("channel find_charge", self.inner.find_charge(request), of_look)
    }

    fn list_charges<'a>(
        &'a self,
        since: Timestamp,
        after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedCharge>, ListError>> {
        self.seen("channel list_charges", self.inner.list_charges(since, after), of_look)
    }

    fn list_refunds<'a>(
        &'a self,
        since: Timestamp,
        after: Option<&'a str>,
    ) -> Call<'a, Result<ListPage<ListedRefund>, ListError>> {
        self.seen("channel list_refunds", self.inner.list_refunds(since, after), of_look)
    }

    fn verify<'a>(&'a self, inbound: &'a Inbound) -> Call<'a, Result<Notification, NotificationRefusal>> {
        self.seen("channel verify", self.inner.verify(inbound), of_look)
    }

    fn names_of<'a>(&'a self, provider_no: &'a str) -> Call<'a, Result<Option<Subject>, ListError>> {
        self.seen("channel names_of", self.inner.names_of(provider_no), of_look)
    }

    fn acknowledgement(&self) -> Acknowledgement {
        self.inner.acknowledgement()
    }

    fn check<'a>(&'a self) -> Call<'a, Result<CheckReport, CheckFailure>> {
        self.seen("channel check", self.inner.check(), of_look)
    }
}

#[cfg(test)]
mod tests {
    /// A method that is not handed on would do what the trait's default does, which is nothing.
    #[test]
    fn every_method_is_handed_on() {
        let declared = include_str!("mod.rs");
        let declared = &declared[declared.find("pub trait Channel").unwrap()..declared.find("\nfn at_once").unwrap()];
        let names: Vec<&str> = declared
            .lines()
            .filter_map(|line| line.strip_prefix("    fn "))
            .filter_map(|rest| rest.split(['<', '(']).next())
            .collect();
        assert!(names.len() >= 20, "{names:?}");
        let here = include_str!("traced.rs");
        for name in names {
            assert!(here.contains(&format!("self.inner.{name}(")), "{name} is not handed on");
        }
    }
}
