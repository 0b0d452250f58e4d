//! A channel that approves at once without any input or output. It exists to load-test everything around it and is
//! refused in live mode.

use std::future::ready;

use crate::channels::{
    AuthorizeRequest, Call, Capabilities, CaptureRequest, Channel, ChargeAnswer, ChargeRequest, ChargeState,
    ExtendRequest, HoldAnswer, HoldQuestion, HoldState, ProviderRefs, RefundAnswer, RefundRequest, RefundState,
    ReleaseRequest, ResolveRequest,
};

/// Approves everything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InstantChannel;

fn refs_of(provider_key: &str) -> ProviderRefs {
    ProviderRefs { channel_order_no: Some(format!("instant_{provider_key}")), ..ProviderRefs::default() }
}

fn approved(request: &ChargeRequest) -> Call<'_, ChargeAnswer> {
    let state = ChargeState::Success { fee_minor: None };
    Box::pin(ready(ChargeAnswer::with(state, refs_of(&request.provider_key))))
}

fn answer_about(hold: &AuthorizeRequest, state: HoldState) -> Call<'_, HoldAnswer> {
    Box::pin(ready(HoldAnswer { refs: refs_of(&hold.provider_key), ..HoldAnswer::bare(state) }))
}

const fn held(hold: &AuthorizeRequest) -> HoldState {
    HoldState::Held { held_minor: hold.money.amount_minor, expires_at: None, honor_until: None }
}

impl Channel for InstantChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities { charge: true, refund: true, pre_auth: true, partial_capture: true, ..Capabilities::default() }
    }

    fn charge<'a>(&'a self, request: &'a ChargeRequest) -> Call<'a, ChargeAnswer> {
        approved(request)
    }

    fn resolve<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, ChargeAnswer> {
        approved(&request.charge)
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest) -> Call<'a, RefundAnswer> {
        Box::pin(ready(RefundAnswer {
            state: RefundState::Success,
            channel_refund_no: Some(format!("instant_{}", request.provider_key)),
        }))
    }

    fn authorize<'a>(&'a self, request: &'a AuthorizeRequest) -> Call<'a, HoldAnswer> {
        answer_about(request, held(request))
    }

    fn capture<'a>(&'a self, request: &'a CaptureRequest) -> Call<'a, HoldAnswer> {
        let captured_minor = request.money.amount_minor;
        answer_about(&request.hold, HoldState::Captured { captured_minor, fee_minor: None })
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> Call<'a, HoldAnswer> {
        answer_about(&request.hold, HoldState::Released { expired: false })
    }

    fn extend<'a>(&'a self, request: &'a ExtendRequest) -> Call<'a, HoldAnswer> {
        answer_about(&request.hold, held(&request.hold))
    }

    /// It remembers nothing: what is asked about is held, unless it is to be closed.
    fn ask_hold<'a>(&'a self, question: &'a HoldQuestion) -> Call<'a, HoldAnswer> {
        let hold = &question.hold;
        answer_about(hold, if question.close { HoldState::Released { expired: false } } else { held(hold) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::tests::{hold_of, sent_first};
    use crate::domain::money::{Currency, Money};

    #[tokio::test]
    async fn what_is_held_is_taken_or_let_go_as_the_request_says() {
        let channel = InstantChannel;
        let hold = hold_of(1230);
        let answer = channel.authorize(&hold).await;
        let HoldState::Held { held_minor: 1230, .. } = answer.state else { panic!("{answer:?}") };
        let refs = answer.refs;
        assert_eq!(refs.channel_order_no, Some(format!("instant_{}", hold.provider_key)));
        let capture = CaptureRequest {
            hold: hold.clone(),
            refs: refs.clone(),
            provider_key: String::from("tg_capture"),
            capture_reference: String::from("PA1-2"),
            money: Money::new(1000, Currency::USD),
            sent: sent_first(),
        };
        let taken = channel.capture(&capture).await;
        assert_eq!(taken.state, HoldState::Captured { captured_minor: 1000, fee_minor: None });
        assert_eq!(taken.refs, refs, "it keeps its number");
        let release = ReleaseRequest {
            hold: hold.clone(),
            refs: refs.clone(),
            provider_key: String::from("tg_release"),
            held: hold.money,
            reason: None,
            sent: sent_first(),
        };
        assert_eq!(channel.release(&release).await.state, HoldState::Released { expired: false });
    }

    #[tokio::test]
    async fn what_is_asked_about_is_held_unless_it_is_to_be_closed() {
        let question = |close| HoldQuestion { close, ..crate::channels::tests::question_about(&hold_of(500)) };
        let held = InstantChannel.ask_hold(&question(false)).await.state;
        assert!(matches!(held, HoldState::Held { held_minor: 500, .. }), "{held:?}");
        assert_eq!(InstantChannel.ask_hold(&question(true)).await.state, HoldState::Released { expired: false });
    }
}
