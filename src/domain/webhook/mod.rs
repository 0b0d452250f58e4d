//! Webhooks: who is told ([`Endpoint`]), what is on its way ([`Notification`]), in which [`Lane`] it waits, when it is
//! tried again ([`Schedule`]), what an answer means ([`verdict`]), how an endpoint does and what follows from it
//! ([`EndpointWatch`]), and work on many notifications at once ([`WebhookJob`]).

mod answer;
mod class;
mod dead;
mod due;
mod endpoint;
mod health;
mod job;
mod lane;
mod notification;
mod overrides;
mod pick;
mod ports;
mod recent;
mod schedule;
mod transition;
mod watch;

#[cfg(test)]
mod tests;

pub use answer::{TryResult, Verdict, parse_retry_after, verdict};
pub use class::AmountClass;
pub use dead::DeadEntry;
pub use due::DueEntry;
pub use endpoint::{Endpoint, EndpointStatus, EventPattern, FormerSecret, SealedSecrets};
pub use health::{Breaker, EndpointHealth, EndpointTrouble, EndpointTry, HealthChange, TryOutcome};
pub use job::{JobAct, JobFilter, JobKind, JobProgress, JobSource, JobStatus, WebhookJob};
pub use lane::{Lane, LaneKind, LaneSet};
pub use notification::{
    EXCERPT_OF_OLDER_TRIES_MAX_BYTES, Failure, NewNotification, Notification, NotificationStatus, TRIES_KEPT_MAX, Try,
};
pub use overrides::Overrides;
pub use pick::{Heads, Picker, Room};
pub use ports::{NotPorts, PortRange};
pub use schedule::{Schedule, ScheduleSettings};
pub use transition::{AfterTry, Anew, Ending, Next, NotPossible};
pub use watch::{EndpointWatch, HealthSettings, Judged};
