//! A channel that approves at once without any input or output. It exists to load-test everything around it and is
//! refused in live mode.

use std::future::ready;

use crate::channels::{
    Call, Capabilities, Channel, ChargeAnswer, ChargeRequest, ChargeState, ProviderRefs, RefundAnswer, RefundRequest,
    RefundState, ResolveRequest,
};

/// Approves everything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InstantChannel;

fn approved(request: &ChargeRequest) -> ChargeAnswer {
    ChargeAnswer {
        state: ChargeState::Success { fee_minor: None },
        refs: ProviderRefs { channel_order_no: Some(format!("instant_{}", request.provider_key)), client_secret: None },
    }
}

impl Channel for InstantChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities { charge: true, refund: true, pre_auth: false }
    }

    fn charge<'a>(&'a self, request: &'a ChargeRequest) -> Call<'a, ChargeAnswer> {
        Box::pin(ready(approved(request)))
    }

    fn resolve<'a>(&'a self, request: &'a ResolveRequest) -> Call<'a, ChargeAnswer> {
        Box::pin(ready(approved(&request.charge)))
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest) -> Call<'a, RefundAnswer> {
        Box::pin(ready(RefundAnswer {
            state: RefundState::Success,
            channel_refund_no: Some(format!("instant_{}", request.provider_key)),
        }))
    }
}
