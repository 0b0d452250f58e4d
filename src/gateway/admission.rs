//! Whether an authentic request may go on: the merchant's limits, and no other request with the same idempotency key.

use crate::actors::directory::{AdmitRequest, MerchantDirectory};
use crate::actors::merchant::{IdempotencyClaim, MerchantUsage, Permit, Refused};
use crate::domain::limit::{DayUsage, LimitView, Refusal as LimitRefusal};
use crate::domain::time::Timestamp;
use crate::gateway::auth::Caller;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::merchants::KnownMerchant;
use crate::gateway::view::{ConcurrencyView, DayView, LimitsView, WindowView};

/// A request may go on.
#[derive(Debug)]
pub struct Admission {
    /// The right to be in flight: keep it until the answer is made.
    pub permit: Permit,
    /// Keeps requests with the same idempotency key out; goes into the call that does the work.
    pub claim: Option<IdempotencyClaim>,
    /// The limits after this request, for the answer's headers.
    pub view: LimitView,
}

/// A request may not go on.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// A limit refused it; nothing was consumed.
    Limited(Box<LimitRefusal>),
    /// A request with the same idempotency key is still running. It has counted.
    InProgress(Box<LimitView>),
    /// It can't be decided now.
    Error(GatewayError),
}

pub(super) async fn admit(
    directory: &MerchantDirectory,
    caller: &Caller,
    idempotency: Option<u128>,
) -> Result<Admission, Refusal> {
    let request = AdmitRequest {
        merchant_id: caller.merchant.merchant_id.clone(),
        figures: caller.known.figures,
        revision: caller.known.revision,
        idempotency,
        cost: 1,
    };
    match directory.admit(request).await {
        Ok(admitted) => Ok(Admission { permit: admitted.permit, claim: admitted.claim, view: admitted.view }),
        Err(Refused::Limited(refusal)) => Err(Refusal::Limited(Box::new(refusal))),
        Err(Refused::IdempotencyInProgress(view)) => Err(Refusal::InProgress(Box::new(view))),
        Err(refused @ (Refused::CostTooLarge { .. } | Refused::Overloaded(_))) => {
            Err(Refusal::Error(error_of(&refused)))
        }
    }
}

pub(super) async fn limits(
    core: &Core,
    directory: &MerchantDirectory,
    known: &KnownMerchant,
) -> Result<LimitsView, GatewayError> {
    let usage = directory.usage(&known.merchant.merchant_id, known.figures).await;
    let usage = usage.map_err(|refused| error_of(&refused))?;
    Ok(view_of(&known.merchant.tier, &usage, core.clock.now()))
}

pub(super) fn error_of(refused: &Refused) -> GatewayError {
    match refused {
        Refused::Overloaded(_) => GatewayError::Overloaded { retry_after_s: 1 },
        other => GatewayError::Internal(other.to_string()),
    }
}

fn view_of(tier: &str, usage: &MerchantUsage, now: Timestamp) -> LimitsView {
    let (windows, concurrency) = windows_of(&usage.view, now);
    LimitsView {
        tier: tier.to_owned(),
        windows,
        concurrency,
        today: day_view(&usage.today),
        days: usage.days.iter().rev().map(day_view).collect(),
    }
}

/// Windows and requests in flight as they are shown.
pub(super) fn windows_of(view: &LimitView, now: Timestamp) -> (Vec<WindowView>, ConcurrencyView) {
    let windows = view.windows().map(|(policy, window)| WindowView {
        name: policy.as_str().to_owned(),
        limit: u64::from(window.limit),
        window_s: f64::from(window.window_ms) / 1000.0,
        used: u64::from(window.used),
        remaining: u64::from(window.remaining()),
        reset_at: (window.reset_in_ms > 0)
            .then(|| now.plus(std::time::Duration::from_millis(u64::from(window.reset_in_ms))).rfc3339()),
    });
    let concurrency =
        ConcurrencyView { limit: u64::from(view.concurrency.limit), used: u64::from(view.concurrency.used) };
    (windows.to_vec(), concurrency)
}

fn day_view(day: &DayUsage) -> DayView {
    DayView { date: day.date(), admitted: day.admitted, refused: day.refused }
}
