//! What a gateway is made of, for those who use it: each part with what it offers.

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Config;
use crate::domain::ids::ChannelName;
use crate::domain::time::Timestamp;
use crate::gateway::Gateway;
use crate::gateway::addresses::{Addresses, Listener};
use crate::gateway::admin_tokens::AdminToken;
use crate::gateway::audit::Audit;
use crate::gateway::backups::Backups;
use crate::gateway::callbacks::Callbacks;
use crate::gateway::certificates::ListenerCertificate;
use crate::gateway::costs::{ChannelTotals, CostsFilter, CostsView};
use crate::gateway::erasures::Erasures;
use crate::gateway::error::GatewayError;
use crate::gateway::merchants::Merchants;
use crate::gateway::metrics::Metrics;
use crate::gateway::page::PageRequest;
use crate::gateway::payments::{Hold, Payments, Refunds};
use crate::gateway::pre_auths::PreAuths;
use crate::gateway::reconciliation::Reconciliation;
use crate::gateway::request_figures::RequestFigures;
use crate::gateway::rotation::KeyRotation;
use crate::gateway::routing::Routing;
use crate::gateway::sandbox::SandboxControl;
use crate::gateway::service_figures::Standing;
use crate::gateway::store::OwnStore;
use crate::gateway::view::ChannelView;
use crate::gateway::webhooks::Webhooks;
use crate::random::Random;

impl Gateway {
    /// The configuration that it was opened with.
    pub fn config(&self) -> &Config {
        &self.0.core.config
    }

    /// Its clock.
    pub fn clock(&self) -> &Clock {
        &self.0.core.clock
    }

    /// Its source of random numbers.
    pub(crate) fn random(&self) -> &Random {
        &self.0.core.random
    }

    /// The operator's tokens.
    pub fn admin_tokens(&self) -> &[AdminToken] {
        &self.0.admin_tokens
    }

    /// Limits by client address.
    pub fn addresses(&self) -> &Addresses {
        &self.0.addresses
    }

    /// What a listener shows to clients that speak TLS; `None` when it speaks plain HTTP.
    pub fn certificate(&self, listener: Listener) -> Option<&Arc<ListenerCertificate>> {
        self.0.certificates.of(listener)
    }

    /// Payments.
    pub fn payments(&self) -> &Payments {
        &self.0.payments
    }

    /// Pre-auths.
    pub fn pre_auths(&self) -> &PreAuths {
        &self.0.pre_auths
    }

    /// Notifications of providers.
    pub fn callbacks(&self) -> &Callbacks {
        &self.0.callbacks
    }

    /// Refunds.
    pub fn refunds(&self) -> &Refunds {
        &self.0.refunds
    }

    /// Statements to hold a merchant's books against.
    pub fn reconciliation(&self) -> &Reconciliation {
        &self.0.reconciliation
    }

    /// Backups of the running store; `None` when the store was handed over ([`Gateway::assemble`]).
    pub fn backups(&self) -> Option<&Backups> {
        self.0.own_store.as_ref().map(OwnStore::backups)
    }

    /// The store and its directory; `None` when the store was handed over ([`Gateway::assemble`]).
    pub fn own_store(&self) -> Option<&OwnStore> {
        self.0.own_store.as_ref()
    }

    /// Rotation of the master key.
    pub fn key_rotation(&self) -> &KeyRotation {
        &self.0.rotation
    }

    /// Figures for Prometheus.
    pub fn metrics(&self) -> &Metrics {
        self.0.channel_figures.read(&self.0.router);
        self.0.routing_figures.read(&self.0.router);
        self.0.trace_figures.read(&self.0.core.traces, self.0.log_level.lines_lost());
        self.0.certificate_figures.read();
        self.0.webhooks.read_figures();
        self.0.pre_auths.read_figures();
        self.0.service_figures.read(&self.standing(), self.0.core.clock.now());
        &self.0.metrics
    }

    /// How it stands, for its figures.
    fn standing(&self) -> Standing {
        let inner = &self.0;
        let backup = self.backups().map(Backups::view).unwrap_or_default();
        Standing {
            ready: self.is_ready(),
            held: inner.hold.view().held,
            restarts: inner.supervisor.restarts_total(),
            index_bytes: self.own_store().and_then(OwnStore::index_bytes),
            backup_made_at: backup.last_time.as_deref().and_then(Timestamp::parse_rfc3339),
            backup_failed: backup.state == "failed",
        }
    }

    /// What is counted of requests over HTTP.
    pub(crate) fn request_figures(&self) -> &RequestFigures {
        &self.0.request_figures
    }

    /// A page of what payments have cost, beside what they would have cost on the baseline channel.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the page asked for is none.
    pub fn costs(&self, filter: &CostsFilter, page: &PageRequest) -> Result<CostsView, GatewayError> {
        self.0.payments.costs().view(filter, page)
    }

    /// What was charged on a channel today and this month.
    pub fn channel_totals(&self, channel: &ChannelName) -> ChannelTotals {
        self.0.payments.costs().channel_totals(channel, self.0.core.clock.now())
    }

    /// The hold after a restore, if there is one.
    pub fn hold(&self) -> &Hold {
        &self.0.hold
    }

    /// Webhooks and events.
    pub fn webhooks(&self) -> &Webhooks {
        &self.0.webhooks
    }

    /// Erasures of customers' data.
    pub fn erasures(&self) -> &Erasures {
        &self.0.erasures
    }

    /// The record of administrative changes.
    pub fn audit(&self) -> Audit {
        Audit::new(self.0.core.clone())
    }

    /// Merchants and their keys.
    pub fn merchants(&self) -> &Merchants {
        &self.0.merchants
    }

    /// Routing, rules and channels, as the operator changes them.
    pub fn routing(&self) -> &Routing {
        &self.0.routing
    }

    /// The channels as they stand.
    pub fn channels(&self) -> Vec<ChannelView> {
        self.0.routing.views()
    }

    /// The built-in emulators; `None` in live mode or with a separate sandbox.
    pub fn sandbox(&self) -> Option<&SandboxControl> {
        self.0.sandbox.as_ref()
    }
}
