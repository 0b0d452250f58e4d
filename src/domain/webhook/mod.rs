//! Webhooks: who is told ([`Endpoint`]), what is on its way ([`Notification`]), when it is tried again ([`Schedule`])
//! and what an answer means ([`verdict`]).

mod answer;
mod due;
mod endpoint;
mod notification;
mod schedule;
mod transition;

#[cfg(test)]
mod tests;

pub use answer::{TryResult, Verdict, parse_retry_after, verdict};
pub use due::DueEntry;
pub use endpoint::{Endpoint, EndpointStatus, EventPattern, SealedSecrets};
pub use notification::{
    EXCERPT_OF_OLDER_TRIES_MAX_BYTES, Failure, NewNotification, Notification, NotificationStatus, TRIES_KEPT_MAX, Try,
};
pub use schedule::{Schedule, ScheduleSettings};
pub use transition::{AfterTry, Ending, Next, NotPossible};
