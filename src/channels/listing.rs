//! What a provider has done since a moment, object by object. Asked after the store was restored to an earlier point:
//! what happened behind that point is known to the provider only.

use crate::channels::{ChargeState, HoldState, ProviderRefs, RefundState};
use crate::domain::money::Money;
use crate::domain::time::Timestamp;

/// One page of a provider's list, newest first.
#[derive(Clone, Debug)]
pub struct ListPage<T> {
    /// The objects of this page.
    pub items: Vec<T>,
    /// Behind which the next page begins; `None` on the last page.
    pub next: Option<String>,
}

/// A charge as a provider lists it. What names it is what was sent with it; an object of somebody else has none of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedCharge {
    /// The provider's number.
    pub provider_no: String,
    /// Our `payment_no` or `pre_auth_no`.
    pub reference: Option<String>,
    /// The key of the attempt.
    pub provider_key: Option<String>,
    /// The merchant's id.
    pub merchant_id: Option<String>,
    /// The merchant's order number.
    pub order_no: Option<String>,
    /// How much it is about; `None` when the provider's amount is none that a payment of ours could have.
    pub money: Option<Money>,
    /// Where it stands. Unknown when something would have to be done first to know, and of held money.
    pub state: ChargeState,
    /// Where held money stands; `None` when it is a charge.
    pub hold: Option<HoldState>,
    /// Its names.
    pub refs: ProviderRefs,
    /// When the provider made it.
    pub created_at: Timestamp,
}

/// A refund as a provider lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRefund {
    /// The provider's number.
    pub provider_no: String,
    /// Our `payment_no` or `pre_auth_no`.
    pub reference: Option<String>,
    /// Our `refund_no`.
    pub refund_reference: Option<String>,
    /// The merchant's id.
    pub merchant_id: Option<String>,
    /// How much it gives back, as for a charge.
    pub money: Option<Money>,
    /// Where it stands.
    pub state: RefundState,
    /// When the provider made it.
    pub created_at: Timestamp,
}

/// Why a list can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The provider has no such list; a person has to compare.
    #[error("the provider can't be asked for a list")]
    NotSupported,
    /// It did not work this time.
    #[error("{0}")]
    Failed(String),
}
