//! How the gateway as a whole does, in a few figures: for whoever looks at one screen.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::gateway::Gateway;

/// How a gateway does.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct StatsView {
    /// The program's version.
    #[schema(example = "0.1.0")]
    pub version: String,
    /// `sandbox` or `live`.
    #[schema(example = "sandbox")]
    pub mode: String,
    /// Whether requests are taken, as `/readyz` says it.
    pub ready: bool,
    /// Whether the gateway is being stopped.
    pub stopping: bool,
    /// When it was started.
    #[schema(example = "2025-01-24T10:40:00Z")]
    pub started_at: String,
    /// Seconds since then.
    pub uptime_s: u64,
    /// What merchants' limits have decided since the start.
    pub limits: LimitStatsView,
    /// What is on its way to merchants.
    pub webhooks: WebhookStatsView,
}

/// What merchants' limits have decided since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LimitStatsView {
    /// Requests that were admitted.
    pub admitted: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// The same by the limit that refused longest: `second`, `minute`, `hour` or `concurrency`.
    pub refused_by: BTreeMap<String, u64>,
    /// Merchants whose limits are in memory.
    pub merchants_active: u64,
}

/// What is on its way to merchants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WebhookStatsView {
    /// Notifications that wait to be sent; null until they were counted.
    pub waiting: Option<u64>,
    /// Notifications that were given up and are kept to be sent again; null until they were counted.
    pub dead_letters: Option<u64>,
}

impl Gateway {
    /// How the gateway does. Reads what is in memory and nothing else.
    pub fn stats(&self) -> StatsView {
        let inner = &self.0;
        let started_at = inner.authentication.started_at();
        let (waiting, dead_letters) = inner.webhooks.waiting_and_dead();
        StatsView {
            version: String::from(env!("CARGO_PKG_VERSION")),
            mode: String::from(inner.core.config.mode.as_str()),
            ready: self.is_ready(),
            stopping: self.is_stopping(),
            started_at: started_at.rfc3339(),
            uptime_s: inner.core.clock.now().since(started_at).as_secs(),
            limits: inner.limit_counts.stats(),
            webhooks: WebhookStatsView { waiting, dead_letters },
        }
    }
}
