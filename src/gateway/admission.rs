//! Whether an authentic request may go on: the merchant's limits, and no other request with the same idempotency key.

use crate::actors::directory::{AdmitRequest, FullMerchant, MerchantDirectory};
use crate::actors::merchant::{IdempotencyClaim, MerchantUsage, Permit, Refused};
use crate::domain::limit::{DayUsage, LimitView, Refusal as LimitRefusal, RefusedBy};
use crate::domain::time::Timestamp;
use crate::gateway::auth::Caller;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::merchants::{KnownMerchant, Merchants};
use crate::gateway::page::{Page, PageRequest};
use crate::gateway::view::{
    ConcurrencyView, DayView, FullMerchantView, LimitsView, MerchantLimitsView, RefusedByView, WindowView,
};

/// From here on a merchant is near a limit when no threshold is configured, in percent.
const NEAR_PERCENT: u8 = 80;

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
        revision: Some(caller.known.revision),
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
    let usage = directory.usage(&known.merchant.merchant_id, known.figures, Some(known.revision)).await;
    let usage = usage.map_err(|refused| error_of(&refused))?;
    Ok(view_of(&known.merchant.tier, &usage, core.clock.now()))
}

pub(super) async fn merchant_limits(
    core: &Core,
    directory: &MerchantDirectory,
    known: &KnownMerchant,
) -> Result<MerchantLimitsView, GatewayError> {
    let usage = directory.usage(&known.merchant.merchant_id, known.figures, Some(known.revision)).await;
    let usage = usage.map_err(|refused| error_of(&refused))?;
    Ok(MerchantLimitsView {
        limits: view_of(&known.merchant.tier, &usage, core.clock.now()),
        active: usage.is_active,
        leases_expired: usage.leases_expired_total,
    })
}

pub(super) async fn fullest(
    core: &Core,
    directory: &MerchantDirectory,
    merchants: &Merchants,
    near: bool,
    page: &PageRequest,
) -> Result<Page<FullMerchantView>, GatewayError> {
    let rows = page.rows()?;
    if page.cursor.is_some() {
        return Err(GatewayError::field("cursor", "this list has one page"));
    }
    let lowest = directory.near().lowest().unwrap_or(NEAR_PERCENT);
    let least = if near { u32::from(lowest) * 10 } else { 0 };
    let found = directory.fullest(rows, least).await;
    let now = core.clock.now();
    let items = found.into_iter().map(|FullMerchant { merchant_id, view }| {
        let (limit, used) = view.most_used();
        FullMerchantView {
            tier: merchants.merchant(&merchant_id).ok().map(|known| known.merchant.tier.clone()),
            merchant_id: merchant_id.to_string(),
            limit: limit.as_str().to_owned(),
            used_percent: f64::from(used) / 10.0,
            windows: window_views(&view, now),
            concurrency: concurrency_view(&view),
        }
    });
    Ok(Page { items: items.collect(), next_cursor: None })
}

pub(super) fn error_of(refused: &Refused) -> GatewayError {
    match refused {
        Refused::Overloaded(_) => GatewayError::Overloaded { retry_after_s: 1 },
        other => GatewayError::Internal(other.to_string()),
    }
}

fn view_of(tier: &str, usage: &MerchantUsage, now: Timestamp) -> LimitsView {
    LimitsView {
        tier: tier.to_owned(),
        per_second: u64::from(usage.view.per_second),
        burst: u64::from(usage.view.second.limit),
        windows: window_views(&usage.view, now),
        concurrency: concurrency_view(&usage.view),
        today: day_view(&usage.today),
        days: usage.days.iter().rev().map(day_view).collect(),
    }
}

pub(super) fn window_views(view: &LimitView, now: Timestamp) -> Vec<WindowView> {
    let windows = view.windows().map(|(policy, window)| WindowView {
        name: policy.as_str().to_owned(),
        limit: u64::from(window.limit),
        window_s: f64::from(window.window_ms) / 1000.0,
        used: u64::from(window.used),
        remaining: u64::from(window.remaining()),
        reset_at: (window.reset_in_ms > 0)
            .then(|| now.plus(std::time::Duration::from_millis(u64::from(window.reset_in_ms))).rfc3339()),
    });
    windows.to_vec()
}

pub(super) fn concurrency_view(view: &LimitView) -> ConcurrencyView {
    ConcurrencyView { limit: u64::from(view.concurrency.limit), used: u64::from(view.concurrency.used) }
}

fn day_view(day: &DayUsage) -> DayView {
    let RefusedBy { second, minute, hour, concurrency } = day.refused_by;
    DayView {
        date: day.date(),
        admitted: day.admitted,
        refused: day.refused,
        refused_by: RefusedByView { second, minute, hour, concurrency },
        peak_concurrency: day.peak_concurrency,
    }
}
