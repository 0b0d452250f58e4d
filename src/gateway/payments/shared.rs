//! What payments and pre-auths have in common: how their terms are checked, how a channel is found for them, and how long
//! what was sent may still take effect.

use std::time::Duration;

use crate::actors::router::Reservation;
use crate::domain::ids::ChannelName;
use crate::domain::payment::{PaymentTerms, ResolvePolicy};
use crate::domain::pre_auth::PreAuth;
use crate::domain::routing::{DecisionRecord, RouteRequest};
use crate::domain::time::Timestamp;
use crate::gateway::auth::Caller;
use crate::gateway::command::CreatePayment;
use crate::gateway::error::GatewayError;
use crate::gateway::payments::carry::hold_refusal;
use crate::gateway::payments::{Payments, terms};

impl Payments {
    /// The checked terms, as for a payment.
    ///
    /// # Errors
    /// As for [`Payments::create`], but never for the order number.
    pub(in crate::gateway) fn checked_terms(
        &self,
        caller: &Caller,
        command: &CreatePayment,
    ) -> Result<PaymentTerms, GatewayError> {
        self.0.check_terms(caller, command)
    }

    /// The merchant's reason of something, checked.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`], [`GatewayError::PanRefused`].
    pub(in crate::gateway) fn check_reason(reason: Option<&String>) -> Result<(), GatewayError> {
        terms::check_reason(reason)
    }

    /// A channel that is to hold money, with a place on it.
    ///
    /// # Errors
    /// [`GatewayError::PreAuthNotSupported`], [`GatewayError::CurrencyNotSupported`],
    /// [`GatewayError::NoChannelAvailable`].
    pub(in crate::gateway) fn decide_hold(
        &self,
        caller: &Caller,
        terms: &PaymentTerms,
        now: Timestamp,
    ) -> Result<(Reservation, DecisionRecord), GatewayError> {
        let refusing = self.0.channels.refusing(terms.payment_token.as_deref());
        let as_payment = self.0.route_request(caller, terms, &[], &refusing, now);
        let decided = self.0.router.decide(&RouteRequest { needs_pre_auth: true, ..as_payment });
        self.0.decisions.note(&decided);
        decided.map_err(|none| hold_refusal(none, terms.method.as_deref(), &self.0.router.table().setup.channels))
    }

    /// How long a request to a channel that was sent at `sent_by` at the latest may still take effect.
    pub(in crate::gateway) fn settling(&self, channel: &ChannelName, sent_by: Timestamp) -> Duration {
        self.0.settling(channel, sent_by)
    }

    /// How outcomes are asked about.
    pub(in crate::gateway) fn resolve_policy(&self) -> ResolvePolicy {
        self.0.policy
    }

    /// Counts what a stored change of a pre-auth leaves to a person, and the money that it moves.
    pub(in crate::gateway) fn alert_of_pre_auth(&self, before: &PreAuth, after: &PreAuth) {
        self.0.alerts.note_pre_auth(before, after);
        self.0.money.note_pre_auth(before, after);
    }

    /// When this process began: what an earlier one sent, it had sent by then.
    pub(in crate::gateway) fn started_at(&self) -> Timestamp {
        self.0.started_at
    }
}
