//! The adapter against the emulator, and against servers that do not behave.

mod answers;
mod charges;
mod notifications;
mod refunds;

use std::time::Duration;

use crate::channels::tests::{Bench, browse, charge_with};
use crate::channels::{ChargeAnswer, ChargeRequest, ChargeState, NextAction, ProviderRefs};
use crate::config::ChannelKind;

const MINUTE: Duration = Duration::from_secs(60);
/// After this what was paid can't be taken back any more.
const CONFIRMED: Duration = Duration::from_secs(3);
/// After this the payer's time is over.
const EXPIRED: Duration = Duration::from_secs(16 * 60);
/// After this nobody looks for what comes late any more.
const UNWATCHED: Duration = Duration::from_secs((15 + 1_440 + 6) * 60);

fn bench() -> Bench {
    Bench::new(ChannelKind::Btcpay)
}

/// A charge whose payer is shown an invoice, with what it is called and where its page is.
async fn waiting(bench: &Bench) -> (ChargeRequest, ProviderRefs, String) {
    let charge = charge_with(Some("tok_3ds"));
    let answer = bench.charge(&charge).await;
    let ChargeState::ActionRequired { next_action: Some(NextAction::Redirect { url }), .. } = answer.state else {
        panic!("{answer:?}");
    };
    (charge, answer.refs, url)
}

async fn pay(url: &str, amount: &str) {
    let (status, _) = browse("POST", &format!("{url}/approve?amount={amount}")).await;
    assert_eq!(status, 200);
}

async fn ask(bench: &Bench, charge: &ChargeRequest, refs: &ProviderRefs) -> ChargeAnswer {
    bench.resolve(charge, refs, 60, false).await
}
