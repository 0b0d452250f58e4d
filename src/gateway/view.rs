//! Objects as merchants see them. Times are RFC 3339.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::gateway::explain::DecisionView;

/// A payment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PaymentView {
    /// Our number.
    #[schema(example = "PY20250124104000abcdefgh")]
    pub payment_no: String,
    /// The merchant's number.
    pub order_no: String,
    /// Minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// `pending`, `requires_action`, `processing`, `success`, `failed`, `canceled` or `needs_review`.
    pub status: String,
    /// Whether the outcome is being asked for.
    pub reconciling: bool,
    /// The payer's country.
    pub country: Option<String>,
    /// The payment method asked for.
    pub method: Option<String>,
    /// The channel that has it.
    pub channel: Option<String>,
    /// The channel's number.
    pub channel_order_no: Option<String>,
    /// For the payer's browser to go on with.
    pub client_secret: Option<String>,
    /// What the payer has to do.
    pub next_action: Option<NextActionView>,
    /// How the channel was chosen.
    pub routing: Option<RoutingSummary>,
    /// What the channel takes.
    pub fee: Option<FeeView>,
    /// Minor units given back so far.
    pub refunded_amount: i64,
    /// Why it failed.
    pub failure: Option<FailureView>,
    /// The merchant's description.
    pub description: Option<String>,
    /// The merchant's own data.
    pub metadata: BTreeMap<String, String>,
    /// Whether real money moved.
    pub livemode: bool,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
    /// When the money was taken.
    pub paid_at: Option<String>,
    /// When the customer's data was erased; absent when it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub erased_at: Option<String>,
}

/// What the payer has to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NextActionView {
    /// `redirect`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The page to visit.
    pub url: String,
}

/// How a channel was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RoutingSummary {
    /// `requested`, `smart`, `rules` or `default`.
    pub rung: String,
    /// `geographic`, `success_rate`, `cost`, `load_balance`, the name of a registered strategy, or null where none had to
    /// decide.
    pub strategy: Option<String>,
    /// One sentence.
    pub reason: String,
}

/// What a channel takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FeeView {
    /// Minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    /// Stable, lower-case.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// `processor`, `network`, `bank`, `customer` or `unknown`.
    pub decline_scope: String,
    /// What the card's bank or network says about trying again: `later`, `corrected` (not with these data), `not_now` or
    /// `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The card network's own code, where the channel passes it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_code: Option<String>,
    /// The card network's own advice, where the channel passes it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_advice_code: Option<String>,
}

/// Whether another channel was asked after an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailoverView {
    /// Whether it was allowed.
    pub allowed: bool,
    /// Stable: `asked`, `outcome_unknown`, `outcome_open`, `advised_against`, `refused_by_bank`, `refused_by_customer`,
    /// `refused_by_unknown`, `channel_requested`, `exhausted`, `out_of_time`, `no_channel_left` or `not_stored`.
    pub reason: String,
    /// The same in one sentence.
    pub explanation: String,
}

/// A refund.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RefundView {
    /// Our number.
    #[schema(example = "RF20250124104000abcdefgh")]
    pub refund_no: String,
    /// The payment it belongs to; absent for one of a pre-auth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub payment_no: Option<String>,
    /// The pre-auth it belongs to; absent for one of a payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub pre_auth_no: Option<String>,
    /// Minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// `pending`, `success`, `failed` or `needs_review`.
    pub status: String,
    /// The merchant's reason.
    pub reason: Option<String>,
    /// The channel's number.
    pub channel_refund_no: Option<String>,
    /// Why it failed.
    pub failure: Option<FailureView>,
    /// Whether real money moved.
    pub livemode: bool,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
}

/// One attempt of a payment on one channel, with the whole decision that led there.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AttemptView {
    /// From 1.
    pub attempt: usize,
    /// The channel.
    pub channel: String,
    /// The channel's number.
    pub channel_order_no: Option<String>,
    /// What came of it: `success`, `declined`, `not_done`, `open` or `canceled`.
    pub outcome: String,
    /// Why it failed.
    pub failure: Option<FailureView>,
    /// Whether another channel was asked after it, and why or why not; absent for one that charged or is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverView>,
    /// When it was about to be sent.
    pub sent_at: String,
    /// Why another channel was asked after it, in one sentence; null when none was.
    pub failed_over: Option<String>,
    /// The decision that led to it, for people: whole names, sentences, and the figures that each strategy went by.
    pub explanation: DecisionView,
    /// The decision record as it is stored, with its short names (docs/routing.md lists them): for programs that keep records
    /// or make decisions again.
    #[schema(value_type = Object)]
    pub decision: serde_json::Value,
}

/// How a payment was routed: every attempt with its decision.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RoutingView {
    /// The payment.
    pub payment_no: String,
    /// Its attempts, first to last.
    pub attempts: Vec<AttemptView>,
}

/// A payment with whose it is, for the operator.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct OperatorPaymentView {
    /// Whose it is.
    pub merchant_id: String,
    /// The payment.
    #[serde(flatten)]
    pub payment: PaymentView,
    /// Money that came otherwise than it was asked for; absent when there was none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub strays: Vec<StrayView>,
}

/// Money that came otherwise than it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct StrayView {
    /// `partial`, `late` or `over`.
    pub kind: String,
    /// Minor units; null when the channel did not say. Of too much, only what is beyond.
    pub amount: Option<i64>,
    /// When that was noticed.
    pub seen_at: String,
    /// `refunding`, `reported` for a person to look at, or `accepted` as paid.
    pub action: String,
    /// The refund that gives it back.
    pub refund_no: Option<String>,
}

/// A refund with whose it is, for the operator.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct OperatorRefundView {
    /// Whose it is.
    pub merchant_id: String,
    /// The refund.
    #[serde(flatten)]
    pub refund: RefundView,
}

/// How a payment was routed, with whose it is, for the operator.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct OperatorRoutingView {
    /// Whose it is.
    pub merchant_id: String,
    /// How it was routed.
    #[serde(flatten)]
    pub routing: RoutingView,
}

/// A merchant's limits and how much of them is used.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct LimitsView {
    /// The merchant's tier.
    pub tier: String,
    /// Requests per second on average over the window `second`.
    pub per_second: u64,
    /// Requests at once: what the window `second` holds.
    pub burst: u64,
    /// `second`, `minute` and `hour`.
    pub windows: Vec<WindowView>,
    /// Requests in flight.
    pub concurrency: ConcurrencyView,
    /// Since midnight UTC.
    pub today: DayView,
    /// The last 30 days that had requests, newest first.
    pub days: Vec<DayView>,
}

/// One window.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct WindowView {
    /// `second`, `minute` or `hour`.
    pub name: String,
    /// Most admissions in the window.
    pub limit: u64,
    /// Length of the window in seconds.
    pub window_s: f64,
    /// Admissions in it now.
    pub used: u64,
    /// Admissions possible now.
    pub remaining: u64,
    /// When the next admission leaves the window.
    pub reset_at: Option<String>,
}

/// Requests in flight.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ConcurrencyView {
    /// Most at once.
    pub limit: u64,
    /// Now.
    pub used: u64,
}

/// One day's requests.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct DayView {
    /// `yyyy-mm-dd`, UTC.
    pub date: String,
    /// Let in.
    pub admitted: u64,
    /// Refused.
    pub refused: u64,
    /// Refused, by the limit that the answer named.
    pub refused_by: RefusedByView,
    /// Most requests in flight at once.
    pub peak_concurrency: u32,
}

/// Refused requests by the limit that refused longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RefusedByView {
    /// By the burst.
    pub second: u64,
    /// By the minute.
    pub minute: u64,
    /// By the hour.
    pub hour: u64,
    /// By the number of requests in flight.
    pub concurrency: u64,
}

/// A merchant's limits as the operator sees them.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct MerchantLimitsView {
    /// What the merchant sees.
    #[serde(flatten)]
    pub limits: LimitsView,
    /// Whether they are in memory; otherwise they are read from the last snapshot.
    pub active: bool,
    /// Permits that were taken back because their time was over, since the merchant came into memory.
    pub leases_expired: u64,
}

/// A merchant and how near it is to its limits.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct FullMerchantView {
    /// Its id.
    pub merchant_id: String,
    /// Its tier; null when the merchant has been removed.
    pub tier: Option<String>,
    /// The limit of which it uses most: `second`, `minute`, `hour` or `concurrency`.
    pub limit: String,
    /// How much of that limit is used, in percent.
    pub used_percent: f64,
    /// `second`, `minute` and `hour`.
    pub windows: Vec<WindowView>,
    /// Requests in flight.
    pub concurrency: ConcurrencyView,
}

/// A merchant as the operator sees it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct MerchantView {
    /// Its id.
    pub merchant_id: String,
    /// Its name.
    pub name: String,
    /// Its tier.
    pub tier: String,
    /// Its country.
    pub country: Option<String>,
    /// `active` or `suspended`.
    pub status: String,
    /// Limits that replace the tier's.
    #[schema(value_type = Object)]
    pub limits: crate::domain::merchant::LimitOverrides,
    /// The only channels it may use; empty for all.
    pub channels: Vec<String>,
    /// Ids of its active keys.
    pub keys: Vec<String>,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
}

/// A new key. The secret is shown this once.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
pub struct NewKeyView {
    /// The public half.
    pub id: String,
    /// The secret half.
    pub secret: String,
}

impl std::fmt::Debug for NewKeyView {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NewKeyView").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A new merchant with its first key.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct NewMerchantView {
    /// The merchant.
    #[serde(flatten)]
    pub merchant: MerchantView,
    /// Its first key.
    pub key: NewKeyView,
}

/// A channel as the operator sees it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ChannelView {
    /// Its name.
    pub name: String,
    /// Whose protocol it speaks.
    pub kind: String,
    /// Whether it may be chosen.
    pub enabled: bool,
    /// `closed`, `open` or `half_open`.
    pub breaker: String,
    /// Share of approvals, 0 to 1.
    pub success_rate: f64,
    /// Outcomes behind that share.
    pub samples: u64,
    /// Payments on their way to it now.
    pub in_flight: u64,
    /// Smoothed time of an answer in milliseconds; null before the first.
    pub latency_ms: Option<f64>,
    /// Until when an open breaker keeps payments away; now for one that is half-open, null for one that is closed.
    pub opens_until: Option<String>,
    /// Why it opened: `consecutive`, `failure_rate`, `slow` or `hanging`; null when it is closed.
    pub opened_by: Option<String>,
    /// Payments that tried it since and failed; each doubles the time.
    pub failed_probes: u64,
    /// Until when it is being maintained; null when it is not.
    pub maintained_until: Option<String>,
    /// What it lacks to be used, such as a credential; null when nothing.
    pub lacks: Option<String>,
    /// Payments that began on it today (UTC).
    pub payments_today: u64,
    /// Their amounts, in minor units of the settlement currency.
    pub amount_today_minor: i64,
}

/// A pre-auth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PreAuthView {
    /// Our number.
    #[schema(example = "PA20250124104000abcdefgh")]
    pub pre_auth_no: String,
    /// The merchant's order number.
    pub order_no: String,
    /// The merchant's own number of the pre-auth, which addresses it too; absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub reference: Option<String>,
    /// Minor units that were asked for.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// `requires_payment_method`, `requires_action`, `processing`, `requires_capture`, `captured`, `canceled`, `expired`,
    /// `failed` or `needs_review`.
    pub status: String,
    /// Whether its channel is being asked where it stands, or to close it.
    pub reconciling: bool,
    /// The payer's country.
    pub country: Option<String>,
    /// The payment method asked for.
    pub method: Option<String>,
    /// The channel that has it.
    pub channel: String,
    /// The channel's number of the hold.
    pub channel_pre_auth_no: Option<String>,
    /// For the payer's browser to go on with, while the payer can act.
    pub client_secret: Option<String>,
    /// What the payer has to do.
    pub next_action: Option<NextActionView>,
    /// How the channel was chosen.
    pub routing: RoutingSummary,
    /// Minor units that were held.
    pub authorized_amount: i64,
    /// Minor units that were taken.
    pub captured_amount: i64,
    /// Minor units that were let go.
    pub released_amount: i64,
    /// Minor units given back so far.
    pub refunded_amount: i64,
    /// Minor units that may still be given back.
    pub refundable_amount: i64,
    /// What the channel took for what was captured: its own figure once it gave one, else ours, which is not known of a part.
    pub fee: Option<FeeView>,
    /// What was, or is being, asked of the channel, first to last.
    pub operations: Vec<OperationView>,
    /// Why it failed, or why the payer's means of payment was declined last.
    pub failure: Option<FailureView>,
    /// The merchant's description.
    pub description: Option<String>,
    /// The merchant's own data.
    pub metadata: BTreeMap<String, String>,
    /// Whether real money is held.
    pub livemode: bool,
    /// When the hold ends; before there is one, when the payer's time to act does.
    pub expires_at: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
    /// When the money was first held.
    pub authorized_at: Option<String>,
    /// When it was taken.
    pub captured_at: Option<String>,
    /// When the customer's data was erased; absent when it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub erased_at: Option<String>,
}

/// What was, or is being, asked of a pre-auth's channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperationView {
    /// `authorize`, `capture`, `release` or `extend`.
    pub kind: String,
    /// `open`, `done`, `declined` or `refused`.
    pub status: String,
    /// Minor units that are to be taken; absent where it is about all that is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub amount: Option<i64>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub failure: Option<FailureView>,
    /// When it was about to be sent.
    pub at: String,
}

/// A pre-auth, as it is told under its channel's number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChannelPreAuthView {
    /// The channel that has it.
    pub channel: String,
    /// The merchant's own number, or else ours.
    pub pre_auth_no: String,
    /// The channel's number.
    pub channel_pre_auth_no: Option<String>,
    /// For the payer's browser to go on with, while the payer can act.
    pub client_secret: Option<String>,
    /// What the payer has to do.
    pub next_action: Option<NextActionView>,
    /// As everywhere else.
    pub status: String,
    /// Whether its channel is being asked where it stands, or to close it.
    pub reconciling: bool,
    /// When the hold ends, or before there is one the payer's time to act; Unix seconds.
    pub expires_at: Option<i64>,
    /// Minor units that were asked for.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// Whether real money is held.
    pub livemode: bool,
}

/// What came of a capture or cancellation of a pre-auth, as it is told under its channel's number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChannelOperationView {
    /// The channel that has it.
    pub channel: String,
    /// The merchant's own number, or else ours.
    pub pre_auth_no: String,
    /// The channel's number of the hold.
    pub channel_pre_auth_no: Option<String>,
    /// The channel's number of the capture, where it has one of its own, or else of the whole.
    pub channel_trade_no: Option<String>,
    /// As everywhere else.
    pub status: String,
    /// Minor units that were taken, or let go.
    pub amount: i64,
}

/// A pre-auth with whose it is, for the operator.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct OperatorPreAuthView {
    /// Whose it is.
    pub merchant_id: String,
    /// The pre-auth.
    #[serde(flatten)]
    pub pre_auth: PreAuthView,
    /// Money that came although it was over; absent when there was none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub strays: Vec<StrayView>,
}
