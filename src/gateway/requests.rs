//! What stands before every request: who sent it, whether this node and its merchant's limits let it in, and that it is
//! carried out once.

use std::sync::Arc;

use crate::domain::ids::{KeyId, MerchantId};
use crate::domain::language::Language;
use crate::domain::limit::shedding::Worth;
use crate::gateway::Gateway;
use crate::gateway::admission::{self, Admission, Refusal};
use crate::gateway::answer::{Answered, StoredAnswer};
use crate::gateway::auth::{Caller, Credentials};
use crate::gateway::command::CreatePayment;
use crate::gateway::error::GatewayError;
use crate::gateway::explain::DecisionView;
use crate::gateway::external_permits::{CheckLimits, LimitCheckView, ReleasedView};
use crate::gateway::idempotency::{self, IdempotencyKey, Origin};
use crate::gateway::page::{Page, PageRequest};
use crate::gateway::view::{FullMerchantView, LimitsView, MerchantLimitsView};
use crate::telemetry::trace::{self, Kind};

impl Gateway {
    /// Finds out who sent a request.
    ///
    /// # Errors
    /// [`GatewayError::Unauthenticated`], [`GatewayError::SignatureExpired`], [`GatewayError::NonceReused`],
    /// [`GatewayError::Forbidden`] for a suspended merchant.
    pub fn authenticate(&self, credentials: Credentials<'_>) -> Result<Caller, GatewayError> {
        self.0.authentication.check(&self.0.merchants, credentials)
    }

    /// Whether this node takes in a request of this worth at the moment: it does unless it is overloaded. To be asked
    /// before anything is done for the request; nothing is consumed either way.
    ///
    /// # Errors
    /// [`GatewayError::Overloaded`], with when to come back.
    pub fn check_load(&self, worth: Worth) -> Result<(), GatewayError> {
        self.0.shedding.check(worth)
    }

    /// Counts a request that was refused because as many as it may be one of were in flight; without a worth it is an
    /// operator's.
    pub fn note_full(&self, worth: Option<Worth>) {
        self.0.shedding.note_full(worth);
    }

    /// Asks the merchant's limits whether a request may go on. `idempotency` is the fingerprint of its key, if any.
    ///
    /// # Errors
    /// [`Refusal`], with the figures for the answer.
    pub async fn admit(&self, caller: &Caller, idempotency: Option<u128>) -> Result<Admission, Refusal> {
        let mut span = trace::begin("admission", Kind::Internal);
        let admitted = span.scope(admission::admit(&self.0.directory, caller, idempotency)).await;
        let outcome = match &admitted {
            Ok(_) => "admitted",
            Err(Refusal::Limited(_)) => "limited",
            Err(Refusal::InProgress(_)) => "in_progress",
            Err(Refusal::Error(_)) => "not_decided",
        };
        span.set("tollgate.outcome", outcome);
        admitted
    }

    /// Carries out a request that moves no money, once per idempotency key: a repetition gets the stored answer. `work`
    /// makes the answer, and goes on when this future is dropped.
    ///
    /// # Errors
    /// [`GatewayError::IdempotencyMismatch`] when the key was used with another body; what `work` fails with, which is not
    /// stored.
    pub async fn once<E: From<GatewayError> + Send + 'static>(
        &self,
        caller: &Caller,
        origin: Origin,
        work: impl Future<Output = Result<StoredAnswer, E>> + Send + 'static,
    ) -> Result<Answered, E> {
        let merchant_id = &caller.merchant.merchant_id;
        let Origin { idempotency, claim, permit, .. } = origin;
        let work = async move {
            // In flight while it runs, also when its client hangs up.
            let _permit = permit;
            work.await
        };
        idempotency::once(&self.0.core, merchant_id, idempotency, claim, work).await
    }

    /// The answer to a request that [`Gateway::admit`] found to be still running, if it was given already and only waits
    /// to be stored.
    ///
    /// # Errors
    /// [`GatewayError::IdempotencyMismatch`] when it was given to another body.
    pub fn told(&self, caller: &Caller, key: Option<&IdempotencyKey>) -> Result<Option<Answered>, GatewayError> {
        idempotency::told_to(&self.0.core, &caller.merchant.merchant_id, key)
    }

    /// Carries out a change that has no idempotency key. `work` goes on when this future is dropped.
    ///
    /// # Errors
    /// What `work` fails with.
    pub async fn carry<T, E>(&self, work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<GatewayError> + Send + 'static,
    {
        self.0.core.carry(work).await
    }

    /// A merchant's limits and how much of them is used, without using any.
    ///
    /// # Errors
    /// [`GatewayError::Overloaded`] while they are being recovered.
    pub async fn limits(&self, caller: &Caller) -> Result<LimitsView, GatewayError> {
        admission::limits(&self.0.core, &self.0.directory, &caller.known).await
    }

    /// Where a payment of a merchant would go now, and why, for the operator. Nothing is reserved.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`] without such a merchant, and as for [`Payments::quote`].
    ///
    /// [`Payments::quote`]: crate::gateway::payments::Payments::quote
    pub fn quote_for(
        &self,
        merchant_id: &str,
        command: &CreatePayment,
        language: Language,
    ) -> Result<DecisionView, GatewayError> {
        let known = self.0.merchants.merchant(&MerchantId::new(merchant_id))?;
        let caller = Caller { merchant: Arc::clone(&known.merchant), key_id: KeyId::new("operator"), known };
        self.0.payments.quote(&caller, command, language)
    }

    /// A merchant's limits and how much of them is used, for the operator.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub async fn merchant_limits(&self, merchant_id: &str) -> Result<MerchantLimitsView, GatewayError> {
        let known = self.0.merchants.merchant(&MerchantId::new(merchant_id))?;
        admission::merchant_limits(&self.0.core, &self.0.directory, &known).await
    }

    /// The merchants in memory that use most of one of their limits, the fullest first; `near`: only those that are at
    /// the lowest threshold of `limit.near`. One page; it has no next one, since the order changes all the time.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the page asked for is none.
    pub async fn fullest_merchants(
        &self,
        near: bool,
        page: &PageRequest,
    ) -> Result<Page<FullMerchantView>, GatewayError> {
        let inner = &self.0;
        admission::fullest(&inner.core, &inner.directory, &inner.merchants, near, page).await
    }

    /// Asks a merchant's limits about a request of another service. A permit is to be given back when that request ends.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], [`GatewayError::Forbidden`] for a suspended merchant, [`GatewayError::InvalidRequest`] for
    /// a cost that the limits can never admit, [`GatewayError::Overloaded`] when too many permits are out.
    pub async fn check_limits(&self, command: &CheckLimits) -> Result<LimitCheckView, GatewayError> {
        let known = self.0.merchants.merchant(&MerchantId::new(command.merchant_id.as_str()))?;
        self.0.external_permits.check(&known, command.cost).await
    }

    /// Gives such a permit back; twice changes nothing.
    pub fn release_permit(&self, permit: &str) -> ReleasedView {
        self.0.external_permits.release(permit)
    }
}
