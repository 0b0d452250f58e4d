//! What providers send of their own accord. It is proved on the bytes as they came, kept before the provider is told that
//! it was taken, and gone into in the background. Whatever it says, it is a hint to ask the provider: amounts and states
//! come from the answers alone, so that the order in which notifications arrive, and how often, makes no difference.

mod figures;
mod inbox;
mod limits;
#[cfg(test)]
mod tests;
mod work;

use std::sync::Arc;

use bytes::Bytes;
use dashmap::DashSet;
use tokio::sync::Notify;

pub use crate::channels::Acknowledgement;
use crate::channels::{Channel, Inbound, Notification, NotificationRefusal};
use crate::domain::ids::ChannelName;
use crate::domain::time::Timestamp;
use crate::gateway::channels::ChannelSet;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::payments::Payments;
use crate::gateway::pre_auths::PreAuths;
use crate::storage::StoreError;
use crate::storage::unreadable::UnreadableRows;

use figures::{Arrival, CallbackFigures};
use inbox::Target;
use limits::Room;

/// When a provider is to come back whose signature could not be checked.
const CERTIFICATE_RETRY_AFTER_S: u64 = 30;

/// The notifications of a gateway's providers. Cheap to clone.
#[derive(Clone)]
pub struct Callbacks(Arc<Inner>);

struct Inner {
    core: Core,
    channels: Arc<ChannelSet>,
    payments: Payments,
    pre_auths: PreAuths,
    figures: CallbackFigures,
    room: Room,
    /// Rows of the index of open ones that are being gone into.
    at_work: DashSet<Vec<u8>>,
    /// What is being asked about.
    asking: DashSet<(ChannelName, Target)>,
    /// Wakes whoever goes into them.
    wake: Notify,
    /// Rows that can't be read.
    unreadable: UnreadableRows,
}

impl Callbacks {
    /// # Errors
    /// [`GatewayError::Internal`] when the name of a figure is there twice.
    pub(crate) fn new(
        core: Core,
        channels: Arc<ChannelSet>,
        payments: Payments,
        pre_auths: PreAuths,
    ) -> Result<Self, GatewayError> {
        let figures = CallbackFigures::new(&core.figures, core.config.channels.keys())?;
        let room = Room::new(&core.config);
        let (at_work, asking) = (DashSet::new(), DashSet::new());
        let (wake, unreadable) = (Notify::new(), UnreadableRows::default());
        let inner = Inner { core, channels, payments, pre_auths, figures, room, at_work, asking, wake, unreadable };
        Ok(Self(Arc::new(inner)))
    }

    /// Starts what goes into notifications, those first that an earlier process has left.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(crate) fn start(&self) -> Result<(), GatewayError> {
        self.0.figures.opened(self.0.count_open()?);
        let inner = Arc::clone(&self.0);
        self.0.core.tasks.spawn(async move { inner.watch().await });
        Ok(())
    }

    /// Whether there is a channel of this name that understands notifications.
    pub fn takes(&self, channel: &str) -> bool {
        self.0.adapter(&ChannelName::new(channel)).is_some()
    }

    /// Takes a request that claims to come from a channel's provider, with its headers (names in lower case), query and body
    /// as they came. Answers what the provider wants to read; the notification is durable then.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`] without such a channel, or when it takes no notifications;
    /// [`GatewayError::Unauthenticated`] for what is not proved to come from the provider, about our account and in our
    /// mode; [`GatewayError::Overloaded`], [`GatewayError::StorageLow`] or [`GatewayError::ShuttingDown`] when it could not
    /// be proved or kept now.
    pub async fn receive(
        &self,
        channel: &str,
        headers: Vec<(String, String)>,
        query: Option<String>,
        body: Bytes,
    ) -> Result<Acknowledgement, GatewayError> {
        let inner = &self.0;
        let channel = ChannelName::new(channel);
        let adapter = inner.adapter(&channel).ok_or(GatewayError::NotFound("channel that takes notifications"))?;
        if inner.core.stopping.is_cancelled() {
            return Err(GatewayError::ShuttingDown);
        }
        let received_at = inner.core.clock.now();
        let inbound = Inbound { headers, query, body, received_at };
        let notification = match adapter.verify(&inbound).await {
            Ok(notification) => notification,
            Err(refusal) => return Err(inner.refuse(&channel, &refusal)),
        };
        drop(inbound);
        let keeper = Arc::clone(inner);
        // Once it may be kept, what follows from that must not be left out.
        inner.core.carry(async move { keeper.keep(&channel, notification, received_at).await }).await?;
        Ok(adapter.acknowledgement())
    }
}

impl Inner {
    /// A channel that is switched off is told of what began before.
    fn adapter(&self, channel: &ChannelName) -> Option<Arc<dyn Channel>> {
        self.channels.get(channel).filter(|adapter| adapter.capabilities().notifications)
    }

    /// Says in the log why, and nothing of that to whoever sent it.
    fn refuse(&self, channel: &ChannelName, refusal: &NotificationRefusal) -> GatewayError {
        match refusal {
            NotificationRefusal::NotSupported => GatewayError::NotFound("channel that takes notifications"),
            NotificationRefusal::CertificateUnavailable(_) => {
                self.figures.count(channel, Arrival::Unavailable);
                tracing::warn!(%channel, "the certificate of a notification's signature can't be had now");
                GatewayError::Overloaded { retry_after_s: CERTIFICATE_RETRY_AFTER_S }
            }
            NotificationRefusal::Signature(_)
            | NotificationRefusal::Stale
            | NotificationRefusal::WrongAccount
            | NotificationRefusal::WrongMode
            | NotificationRefusal::Malformed(_) => {
                self.figures.count(channel, Arrival::Refused);
                tracing::info!(%channel, %refusal, "a notification was refused");
                GatewayError::Unauthenticated
            }
        }
    }

    /// Makes a notification durable, once.
    async fn keep(
        &self,
        channel: &ChannelName,
        notification: Notification,
        received_at: Timestamp,
    ) -> Result<(), GatewayError> {
        if !inbox::is_id(&notification.id) {
            return Err(self.refuse(channel, &NotificationRefusal::Malformed("its id can't be a key")));
        }
        let kept = match inbox::is_kept(&self.core, channel, &notification.id) {
            Ok(true) => Ok(Arrival::Duplicate),
            Ok(false) => match inbox::insert(&self.core, channel, notification, received_at).await {
                Ok(is_open) => Ok(if is_open { Arrival::Taken } else { Arrival::Ignored }),
                // The same one, which was sent twice at once.
                Err(StoreError::Precondition { .. }) => Ok(Arrival::Duplicate),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match kept {
            Ok(arrival) => {
                self.figures.count(channel, arrival);
                if arrival == Arrival::Taken {
                    self.figures.opened(1);
                    self.wake.notify_one();
                }
                Ok(())
            }
            Err(error) => {
                self.figures.count(channel, Arrival::Unavailable);
                tracing::warn!(%channel, %error, "a notification could not be kept; its provider sends it again");
                Err(match GatewayError::from(error) {
                    low @ GatewayError::StorageLow => low,
                    _ => GatewayError::Overloaded { retry_after_s: 1 },
                })
            }
        }
    }
}
