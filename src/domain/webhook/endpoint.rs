//! A merchant's webhook endpoint: where events go, which ones, and the secrets that sign them.

use serde::{Deserialize, Serialize};

use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, MerchantId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Overrides;

/// Whether an endpoint is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointStatus {
    /// It is.
    Enabled,
    /// Not now; what happens meanwhile is kept and sent later.
    Paused,
    /// It is gone, or takes nothing. Nothing is sent; what happens meanwhile is kept as dead letters are.
    Disabled,
}

impl EndpointStatus {
    /// The name as the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }
}

/// Which events an endpoint wants: a name, `payment.*` for all of a group, or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventPattern(String);

impl EventPattern {
    /// Every event.
    pub fn all() -> Self {
        Self(String::from("*"))
    }

    /// Reads a pattern; `None` when no event could ever match it.
    pub fn parse(text: &str) -> Option<Self> {
        let pattern = Self(text.to_owned());
        EventName::ALL.iter().any(|name| pattern.matches(*name)).then_some(pattern)
    }

    /// Whether `name` is wanted.
    pub fn matches(&self, name: EventName) -> bool {
        match self.0.strip_suffix('*') {
            Some("") => true,
            Some(group) => group.ends_with('.') && name.as_str().starts_with(group),
            None => self.0 == name.as_str(),
        }
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An endpoint's secrets, encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecrets {
    /// The one that signs.
    pub current: String,
    /// The one before it, which signs too until `previous_valid_until`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// End of the rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_valid_until: Option<Timestamp>,
}

impl SealedSecrets {
    /// The first secret of an endpoint.
    pub const fn new(current: String) -> Self {
        Self { current, previous: None, previous_valid_until: None }
    }

    /// Makes `new_current` the secret that signs; the one before it signs too until `previous_valid_until`.
    pub fn rotate(&mut self, new_current: String, previous_valid_until: Timestamp) {
        self.previous = Some(std::mem::replace(&mut self.current, new_current));
        self.previous_valid_until = Some(previous_valid_until);
    }

    /// The secret before the current one, while it still signs.
    pub fn previous_at(&self, now: Timestamp) -> Option<&str> {
        let valid_until = self.previous_valid_until?;
        if now < valid_until { self.previous.as_deref() } else { None }
    }

    /// Forgets the secret before the current one when its time is over.
    pub fn forget_expired(&mut self, now: Timestamp) {
        if self.previous_at(now).is_none() {
            self.previous = None;
            self.previous_valid_until = None;
        }
    }
}

/// An endpoint as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// Where events go.
    pub url: String,
    /// Which events; at least one pattern.
    pub events: Vec<EventPattern>,
    /// The merchant's note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Tries of one notification, the first included.
    pub max_attempts: u32,
    /// What it has otherwise than the configuration.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
    /// Whether it is sent to.
    pub status: EndpointStatus,
    /// Why it is disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<String>,
    /// When it was disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_at: Option<Timestamp>,
    /// Its secrets.
    pub secrets: SealedSecrets,
    /// When it first took a webhook at this URL; `None` while nothing is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Endpoint {
    /// Whether a notification is made for an event of this name. Paused endpoints get them too, and they are sent when the
    /// endpoint is enabled again; those of disabled ones are dead letters from the beginning.
    pub fn subscribes(&self, name: EventName) -> bool {
        self.events.iter().any(|pattern| pattern.matches(name))
    }

    /// Switches it off for `reason`.
    pub fn disable(&mut self, reason: &str, now: Timestamp) {
        self.status = EndpointStatus::Disabled;
        self.disabled_reason = Some(reason.to_owned());
        self.disabled_at = Some(now);
        self.updated_at = now;
    }

    /// Sends to another address from now on. What is known of the one before says nothing about it.
    pub fn set_url(&mut self, url: &str) {
        if self.url != url {
            url.clone_into(&mut self.url);
            self.proven_at = None;
        }
    }

    /// Sets the status that the merchant asks for; when and why it was disabled is forgotten.
    pub fn set_status(&mut self, status: EndpointStatus, now: Timestamp) {
        self.status = status;
        self.disabled_reason = None;
        self.disabled_at = None;
        self.updated_at = now;
    }
}
