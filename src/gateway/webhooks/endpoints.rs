//! A merchant's endpoints: making, changing and removing them.

use std::time::Duration;

use crate::actors::webhook::rows::Planned;
use crate::actors::webhook::secret_identity;
use crate::config::WebhookConfig;
use crate::delivery::signing::Secret;
use crate::delivery::url::{Rules, vet};
use crate::domain::audit::{Change, Operator};
use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, MerchantId, sortable_id};
use crate::domain::pan::holds_card_number;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{
    Endpoint, EndpointHealth, EndpointStatus, EventPattern, FormerSecret, LaneSet, Overrides, SealedSecrets,
};
use crate::gateway::error::{FieldError, Forbidden, GatewayError};
use crate::gateway::page::{Page, PageRequest};
use crate::gateway::webhooks::{
    CHANGES_MAX, CreateEndpoint, EndpointView, ID_MAX_BYTES, Kept, NewSecretView, SettableStatus, UpdateEndpoint,
    Webhooks, unless_overtaken,
};
use crate::storage::vault::{Sealing, Vault};
use crate::storage::{ABSENT, Batch, Row, Scan, keys, record};

/// Most patterns of one endpoint.
const PATTERNS_MAX: usize = 32;
/// Longest note, in characters.
const DESCRIPTION_MAX_CHARS: usize = 500;
/// Most tries that a merchant can ask for.
const MAX_ATTEMPTS_MAX: u32 = 100;
/// Most waits of an own schedule.
const WAITS_MAX: usize = 100;
/// Longest first wait, in seconds.
const INITIAL_BACKOFF_MAX_S: u64 = 3_600;
/// Longest wait, in seconds.
const WAIT_MAX_S: u64 = 7 * 86_400;
/// Largest share by which waits vary, in percent.
const JITTER_MAX_PERCENT: u32 = 50;

/// Most rows that are counted for one answer.
pub(crate) const COUNTED_MAX: usize = 1_000;

/// What is committed together with a changed endpoint, and announced then.
struct Work {
    batch: Batch,
    planned: Planned,
    /// What is known of how the endpoint does has to be read again after the commit.
    is_health_changed: bool,
}

impl Webhooks {
    /// Makes an endpoint. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`], [`GatewayError::PanRefused`], [`GatewayError::UrlNotAllowed`], or
    /// [`GatewayError::Forbidden`] when the merchant has as many as it may have.
    pub async fn create_endpoint(
        &self,
        merchant_id: &MerchantId,
        request: CreateEndpoint,
    ) -> Result<NewSecretView, GatewayError> {
        let max_attempts = request.max_attempts.unwrap_or(self.core.settings().webhook.max_attempts);
        let events = request.events.as_deref();
        refuse_card_numbers(Some(&request.url), request.description.as_deref())?;
        check_fields(events, request.description.as_deref(), request.max_attempts)?;
        let overrides = Overrides {
            schedule_s: request.schedule_s,
            initial_backoff_s: request.initial_backoff_s,
            max_backoff_s: request.max_backoff_s,
            jitter_percent: request.jitter_percent,
            timeout_s: request.timeout_s,
        };
        self.check_overrides(&overrides)?;
        let url = self.vetted_url(&request.url)?;
        let now = self.core.clock.now();
        let id = EndpointId::new(sortable_id("we_", now, self.core.random.draw_u64()));
        let secret = Secret::generate(&self.core.random);
        let sealing = self.core.vault.sealing();
        let endpoint = Endpoint {
            merchant_id: merchant_id.clone(),
            url,
            events: events.map_or_else(|| Ok(vec![EventPattern::all()]), patterns)?,
            description: request.description.filter(|text| !text.is_empty()),
            max_attempts,
            status: EndpointStatus::Enabled,
            overrides,
            disabled_reason: None,
            disabled_at: None,
            secrets: SealedSecrets::new(seal(&sealing, &id, &secret)?),
            proven_at: None,
            created_at: now,
            updated_at: now,
            id,
        };
        self.insert_endpoint(&endpoint).await?;
        self.lists.forget(merchant_id);
        Ok(NewSecretView { endpoint: self.counted_endpoint_view(&endpoint)?, secret: secret.as_str().to_owned() })
    }

    /// A merchant's endpoints.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the page asked for is none.
    pub fn list_endpoints(
        &self,
        merchant_id: &MerchantId,
        page: &PageRequest,
    ) -> Result<Page<EndpointView>, GatewayError> {
        let prefix = keys::endpoints_of(merchant_id);
        self.newest(&prefix, page, |row| self.endpoint_view(&record::decode(&row.versioned.value)?).map(Some))
    }

    /// One endpoint.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn get_endpoint(
        &self,
        merchant_id: &MerchantId,
        endpoint_id: &EndpointId,
    ) -> Result<EndpointView, GatewayError> {
        self.counted_endpoint_view(&self.read_endpoint(merchant_id, endpoint_id)?.0)
    }

    /// Changes an endpoint; what is absent stays. Enabling a paused one sends what was kept meanwhile, enabling a disabled
    /// one only if that is wished.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], [`GatewayError::InvalidRequest`], [`GatewayError::PanRefused`],
    /// [`GatewayError::UrlNotAllowed`]; [`GatewayError::InvalidState`] when it is disabled and is to be paused.
    pub async fn update_endpoint(
        &self,
        merchant_id: &MerchantId,
        endpoint_id: &EndpointId,
        changes: UpdateEndpoint,
    ) -> Result<EndpointView, GatewayError> {
        refuse_card_numbers(changes.url.as_deref(), changes.description.as_deref())?;
        check_fields(changes.events.as_deref(), changes.description.as_deref(), changes.max_attempts.flatten())?;
        let url = changes.url.as_deref().map(|url| self.vetted_url(url)).transpose()?;
        let events = changes.events.as_deref().map(patterns).transpose()?;
        let endpoint = self
            .change_endpoint(merchant_id, endpoint_id, None, |endpoint, work, now| {
                if let Some(url) = &url {
                    endpoint.set_url(url);
                }
                if let Some(events) = &events {
                    endpoint.events.clone_from(events);
                }
                if let Some(text) = &changes.description {
                    endpoint.description = Some(text.clone()).filter(|text| !text.is_empty());
                }
                if let Some(max_attempts) = changes.max_attempts {
                    endpoint.max_attempts = max_attempts.unwrap_or(self.core.settings().webhook.max_attempts);
                }
                let overrides = endpoint.overrides.clone();
                changes.change_overrides(&mut endpoint.overrides);
                if endpoint.overrides != overrides {
                    self.check_overrides(&endpoint.overrides)?;
                }
                self.set_status(endpoint, (changes.status, changes.kept), work, now)
            })
            .await?;
        self.counted_endpoint_view(&endpoint)
    }

    /// Sets the status that was asked for, and sees to what was kept for an endpoint that was disabled.
    fn set_status(
        &self,
        endpoint: &mut Endpoint,
        (status, kept): (Option<SettableStatus>, Option<Kept>),
        work: &mut Work,
        now: Timestamp,
    ) -> Result<(), GatewayError> {
        let is_enabled_again = status == Some(SettableStatus::Enabled) && endpoint.status == EndpointStatus::Disabled;
        if kept.is_some() && !is_enabled_again {
            return Err(GatewayError::field("kept", "is only for an endpoint that is disabled and is set to enabled"));
        }
        if status == Some(SettableStatus::Paused) && endpoint.status == EndpointStatus::Disabled {
            // Why it is disabled would be forgotten, and since when: what was kept since then could not be asked for.
            return Err(GatewayError::InvalidState { status: endpoint.status.as_str().to_owned() });
        }
        if is_enabled_again {
            // How it did before it was disabled says nothing about it from now on, but that its merchant was told of it.
            let key = keys::endpoint_health(&endpoint.merchant_id, &endpoint.id);
            if let Some(stored) = self.core.store.get(&key)? {
                match record::decode::<EndpointHealth>(&stored.value) {
                    Ok(health) => {
                        let released = health.released_at(self.actors.due_now());
                        work.batch.replace(key, stored.revision, record::encode(&released)?);
                    }
                    // What can't be read is not known.
                    Err(_) => work.batch.delete(key),
                }
                work.is_health_changed = true;
            }
        }
        if kept == Some(Kept::Send) {
            self.add_enable_job(&mut work.batch, &mut work.planned, endpoint)?;
        }
        if let Some(status) = status {
            endpoint.set_status(status.into(), now);
        }
        Ok(())
    }

    /// Sets the status of an endpoint that the operator has named.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub(super) async fn set_status_by(
        &self,
        (merchant_id, endpoint_id): (&MerchantId, &EndpointId),
        (status, kept): (SettableStatus, Option<Kept>),
        by: &Operator,
    ) -> Result<Endpoint, GatewayError> {
        let action = match status {
            SettableStatus::Enabled => "webhook_endpoint.enable",
            SettableStatus::Paused => "webhook_endpoint.pause",
        };
        self.change_endpoint(merchant_id, endpoint_id, Some((by, action)), |endpoint, work, now| {
            self.set_status(endpoint, (Some(status), kept), work, now)
        })
        .await
    }

    /// Gives an endpoint a new secret. The one before it signs too for the configured time, so that the receiver can
    /// change over.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub async fn rotate_secret(
        &self,
        merchant_id: &MerchantId,
        endpoint_id: &EndpointId,
    ) -> Result<NewSecretView, GatewayError> {
        let secret = Secret::generate(&self.core.random);
        let sealing = self.core.vault.sealing();
        let overlap = Duration::from_secs(self.core.settings().webhook.rotation_overlap_s);
        let endpoint = self
            .change_endpoint(merchant_id, endpoint_id, None, |endpoint, _, now| {
                let sealed = seal(&sealing, &endpoint.id, &secret)?;
                endpoint.secrets.rotate(sealed, now.plus(overlap));
                Ok(())
            })
            .await?;
        Ok(NewSecretView { endpoint: self.counted_endpoint_view(&endpoint)?, secret: secret.as_str().to_owned() })
    }

    /// Removes an endpoint. What is on its way to it ends as failed.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub async fn delete_endpoint(
        &self,
        merchant_id: &MerchantId,
        endpoint_id: &EndpointId,
    ) -> Result<(), GatewayError> {
        for _ in 0..CHANGES_MAX {
            let (_, revision) = self.read_endpoint(merchant_id, endpoint_id)?;
            let key = keys::endpoint(merchant_id, endpoint_id);
            let mut batch = Batch::new();
            batch.expect(key.clone(), revision);
            batch.delete(key);
            batch.delete(keys::endpoint_health(merchant_id, endpoint_id));
            if unless_overtaken(self.core.store.commit(batch).await)?.is_some() {
                self.lists.forget(merchant_id);
                self.actors.forget_health(endpoint_id);
                self.actors.directory().poke(endpoint_id, LaneSet::ALL);
                return Ok(());
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    /// An endpoint and its revision.
    pub(super) fn read_endpoint(
        &self,
        merchant_id: &MerchantId,
        endpoint_id: &EndpointId,
    ) -> Result<(Endpoint, u64), GatewayError> {
        if endpoint_id.as_str().len() > ID_MAX_BYTES {
            return Err(GatewayError::NotFound("webhook endpoint"));
        }
        let stored = self.core.store.get(&keys::endpoint(merchant_id, endpoint_id))?;
        let stored = stored.ok_or(GatewayError::NotFound("webhook endpoint"))?;
        Ok((record::decode(&stored.value)?, stored.revision))
    }

    /// Stores a new endpoint, if the merchant may have one more.
    async fn insert_endpoint(&self, endpoint: &Endpoint) -> Result<(), GatewayError> {
        let endpoints_max = self.core.settings().webhook.endpoints_max;
        let made_key = keys::endpoints_made(&endpoint.merchant_id);
        for _ in 0..CHANGES_MAX {
            // Read before counting: who makes another one in between changes it, and this is counted again.
            let made_revision = self.core.store.get(&made_key)?.map_or(ABSENT, |made| made.revision);
            let prefix = keys::endpoints_of(&endpoint.merchant_id);
            let existing = self.core.store.scan(&Scan::prefix(&prefix, endpoints_max.max(1)))?;
            if existing.len() >= endpoints_max {
                return Err(GatewayError::Forbidden(Forbidden::EndpointsMax(endpoints_max)));
            }
            let mut batch = Batch::new();
            batch.replace(made_key.clone(), made_revision, Vec::new());
            batch.insert(keys::endpoint(&endpoint.merchant_id, &endpoint.id), record::encode(endpoint)?);
            if unless_overtaken(self.core.store.commit(batch).await)?.is_some() {
                return Ok(());
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    /// Changes an endpoint's row, with what else `change` adds; by the operator with an entry in the audit.
    async fn change_endpoint(
        &self,
        merchant_id: &MerchantId,
        endpoint_id: &EndpointId,
        by: Option<(&Operator, &'static str)>,
        change: impl Fn(&mut Endpoint, &mut Work, Timestamp) -> Result<(), GatewayError>,
    ) -> Result<Endpoint, GatewayError> {
        for _ in 0..CHANGES_MAX {
            let (before, revision) = self.read_endpoint(merchant_id, endpoint_id)?;
            let now = self.core.clock.now();
            // The operator's changes are possible while there is little room, too.
            let batch = if by.is_some() { Batch::finishing() } else { Batch::new() };
            let mut work = Work { batch, planned: Planned::default(), is_health_changed: false };
            let mut endpoint = before.clone();
            change(&mut endpoint, &mut work, now)?;
            endpoint.updated_at = now;
            endpoint.secrets.forget_expired(now);
            let Work { mut batch, planned, is_health_changed } = work;
            batch.replace(keys::endpoint(merchant_id, endpoint_id), revision, record::encode(&endpoint)?);
            let status = |endpoint: &Endpoint| Some(endpoint.status.as_str().into());
            let by = by.map(|(by, action)| {
                let change = Change::new(action, format!("{merchant_id}/{endpoint_id}"));
                (by, change.field("status", status(&before), status(&endpoint)))
            });
            let by = by.as_ref().map(|(by, change)| (*by, change));
            if unless_overtaken(self.commit_by(batch, by).await)?.is_some() {
                self.lists.forget(merchant_id);
                if is_health_changed {
                    self.actors.forget_health(endpoint_id);
                }
                self.announce(planned);
                self.actors.directory().poke(endpoint_id, LaneSet::ALL);
                return Ok(endpoint);
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    /// The view of an endpoint with how it does.
    pub(super) fn endpoint_view(&self, endpoint: &Endpoint) -> Result<EndpointView, GatewayError> {
        Ok(EndpointView::of(endpoint, self.health_of(endpoint)?.as_ref(), self.core.clock.now()))
    }

    /// The same with how much waits for it and how much was given up.
    pub(super) fn counted_endpoint_view(&self, endpoint: &Endpoint) -> Result<EndpointView, GatewayError> {
        let mut view = self.endpoint_view(endpoint)?;
        self.count_for(&mut view)?;
        Ok(view)
    }

    /// Adds to a view how much waits for the endpoint and how much was given up, each up to `COUNTED_MAX`.
    ///
    /// # Errors
    /// [`GatewayError`] when it can't be read.
    pub fn count_for(&self, view: &mut EndpointView) -> Result<(), GatewayError> {
        let count = |prefix: Vec<u8>| self.core.store.scan(&Scan::prefix(&prefix, COUNTED_MAX)).map(|rows| rows.len());
        let endpoint_id = EndpointId::new(view.id.as_str());
        view.waiting = Some(count(keys::notifications_due_of(&endpoint_id))?);
        view.dead_letters = Some(count(keys::dead_letters_of(&endpoint_id))?);
        Ok(())
    }

    /// Whether something that was to be sent to an endpoint was given up and is kept.
    pub(super) fn has_dead_letters(&self, endpoint: &Endpoint) -> Result<bool, GatewayError> {
        Ok(!self.core.store.scan(&Scan::prefix(&keys::dead_letters_of(&endpoint.id), 1))?.is_empty())
    }

    /// What is stored of how an endpoint does. What can't be read is not known.
    pub(super) fn health_of(&self, endpoint: &Endpoint) -> Result<Option<EndpointHealth>, GatewayError> {
        let stored = self.core.store.get(&keys::endpoint_health(&endpoint.merchant_id, &endpoint.id))?;
        Ok(stored.and_then(|stored| record::decode(&stored.value).ok()))
    }

    /// Refuses what the configuration would not be allowed to say either.
    fn check_overrides(&self, overrides: &Overrides) -> Result<(), GatewayError> {
        let settings = self.core.settings();
        let config = &settings.webhook;
        let mut errors = Vec::new();
        let mut range = |field: &str, value: Option<u64>, least: u64, most: u64| {
            if value.is_some_and(|value| !(least..=most).contains(&value)) {
                errors.push(FieldError::new(field, format!("must be from {least} to {most}")));
            }
        };
        range("initial_backoff_s", overrides.initial_backoff_s, 1, INITIAL_BACKOFF_MAX_S);
        let initial_s = overrides.initial_backoff_s.unwrap_or(config.initial_backoff_s).min(INITIAL_BACKOFF_MAX_S);
        range("max_backoff_s", overrides.max_backoff_s, initial_s, WAIT_MAX_S);
        range("jitter_percent", overrides.jitter_percent.map(u64::from), 0, u64::from(JITTER_MAX_PERCENT));
        range("timeout_s", overrides.timeout_s, 1, config.timeout_s);
        if overrides.schedule_s.as_ref().is_some_and(|waits| waits.len() > WAITS_MAX) {
            errors.push(FieldError::new("schedule_s", format!("must have at most {WAITS_MAX} entries")));
        } else if overrides.schedule_s.iter().flatten().any(|wait_s| *wait_s > WAIT_MAX_S) {
            errors.push(FieldError::new("schedule_s", format!("must have entries from 0 to {WAIT_MAX_S}")));
        }
        if errors.is_empty() { Ok(()) } else { Err(GatewayError::InvalidRequest(errors)) }
    }

    fn vetted_url(&self, text: &str) -> Result<String, GatewayError> {
        let WebhookConfig { allowed_private_networks, public_ports, .. } = &self.core.config.webhook;
        let vetted = vet(text, Rules { allowed_private_networks, public_ports });
        vetted.map(|vetted| vetted.url.to_string()).map_err(GatewayError::UrlNotAllowed)
    }

    /// Reads a merchant's endpoints again next time: a row of one was changed by somebody else.
    pub(crate) fn forget_endpoints(&self, merchant_id: &MerchantId) {
        self.lists.forget(merchant_id);
    }
}

fn seal(sealing: &Sealing, endpoint_id: &EndpointId, secret: &Secret) -> Result<String, GatewayError> {
    Ok(sealing.seal(&secret_identity(endpoint_id), secret.as_str().as_bytes())?)
}

/// The row of an endpoint with its secrets under the master key that seals; `None` when they are already.
pub(crate) fn reseal_endpoint(vault: &Vault, row: &Row) -> Result<Option<Vec<u8>>, GatewayError> {
    let mut endpoint: Endpoint = record::decode(&row.versioned.value)?;
    let identity = secret_identity(&endpoint.id);
    let current = vault.reseal(&identity, &endpoint.secrets.current)?;
    let mut is_changed = current.is_some();
    endpoint.secrets.current = current.unwrap_or(endpoint.secrets.current);
    for FormerSecret { sealed, .. } in &mut endpoint.secrets.former {
        if let Some(resealed) = vault.reseal(&identity, sealed)? {
            (*sealed, is_changed) = (resealed, true);
        }
    }
    Ok(if is_changed { Some(record::encode(&endpoint)?) } else { None })
}

/// As with payments: no text that is kept may hold a card number.
fn refuse_card_numbers(url: Option<&str>, description: Option<&str>) -> Result<(), GatewayError> {
    for (field, text) in [("url", url), ("description", description)] {
        if text.is_some_and(holds_card_number) {
            return Err(GatewayError::PanRefused(field.to_owned()));
        }
    }
    Ok(())
}

fn check_fields(
    events: Option<&[String]>,
    description: Option<&str>,
    max_attempts: Option<u32>,
) -> Result<(), GatewayError> {
    let mut errors = Vec::new();
    if events.is_some_and(|events| events.is_empty() || events.len() > PATTERNS_MAX) {
        errors.push(FieldError::new("events", format!("must have from 1 to {PATTERNS_MAX} entries")));
    }
    if description.is_some_and(|text| text.chars().count() > DESCRIPTION_MAX_CHARS) {
        errors.push(FieldError::new("description", format!("must have at most {DESCRIPTION_MAX_CHARS} characters")));
    }
    if max_attempts.is_some_and(|attempts| !(1..=MAX_ATTEMPTS_MAX).contains(&attempts)) {
        errors.push(FieldError::new("max_attempts", format!("must be from 1 to {MAX_ATTEMPTS_MAX}")));
    }
    if errors.is_empty() { Ok(()) } else { Err(GatewayError::InvalidRequest(errors)) }
}

fn patterns(texts: &[String]) -> Result<Vec<EventPattern>, GatewayError> {
    let mut patterns: Vec<EventPattern> = Vec::with_capacity(texts.len());
    for text in texts {
        let Some(pattern) = EventPattern::parse(text) else {
            let names: Vec<&str> = EventName::ALL.iter().map(|name| name.as_str()).collect();
            let message = format!("has an entry that matches no event; events are {}", names.join(", "));
            return Err(GatewayError::field("events", message));
        };
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    Ok(patterns)
}
