//! A merchant's endpoints: making, changing and removing them.

use std::time::Duration;

use crate::actors::webhook::secret_identity;
use crate::delivery::signing::Secret;
use crate::delivery::url::vet;
use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, MerchantId, sortable_id};
use crate::domain::pan::holds_card_number;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Endpoint, EndpointStatus, EventPattern, LaneSet, Overrides, SealedSecrets};
use crate::gateway::error::{FieldError, GatewayError};
use crate::gateway::page::{Page, PageRequest, cursor_of};
use crate::gateway::webhooks::{
    CHANGES_MAX, CreateEndpoint, EndpointView, ID_MAX_BYTES, NewSecretView, UpdateEndpoint, Webhooks, unless_overtaken,
};
use crate::storage::vault::{Sealing, Vault};
use crate::storage::{ABSENT, Batch, Row, Scan, keys, record};

/// Most patterns of one endpoint.
const PATTERNS_MAX: usize = 32;
/// Longest note, in characters.
const DESCRIPTION_MAX_CHARS: usize = 500;
/// Most tries that a merchant can ask for.
const MAX_ATTEMPTS_MAX: u32 = 100;

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
        let max_attempts = request.max_attempts.unwrap_or(self.core.config.webhook.max_attempts);
        let events = request.events.as_deref();
        refuse_card_numbers(Some(&request.url), request.description.as_deref())?;
        check_fields(events, request.description.as_deref(), request.max_attempts)?;
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
            overrides: Overrides::default(),
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
        Ok(NewSecretView { endpoint: EndpointView::of(&endpoint), secret: secret.as_str().to_owned() })
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
        let rows_max = page.rows()?;
        let mut scan = Scan::prefix_reverse(&prefix, rows_max.saturating_add(1));
        if let Some(after) = page.key_after(&prefix)? {
            scan.end = Some(after);
        }
        let mut rows = self.core.store.scan(&scan)?;
        let has_more = rows.len() > rows_max;
        rows.truncate(rows_max);
        let next_cursor = rows.last().filter(|_| has_more).map(|last| cursor_of(&prefix, &last.key));
        let items = rows
            .iter()
            .map(|row| Ok(EndpointView::of(&record::decode(&row.versioned.value)?)))
            .collect::<Result<_, GatewayError>>()?;
        Ok(Page { items, next_cursor })
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
        Ok(EndpointView::of(&self.read_endpoint(merchant_id, endpoint_id)?.0))
    }

    /// Changes an endpoint; what is absent stays. Enabling it sends what was kept meanwhile.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], [`GatewayError::InvalidRequest`], [`GatewayError::PanRefused`] or
    /// [`GatewayError::UrlNotAllowed`].
    pub async fn update_endpoint(
        &self,
        merchant_id: &MerchantId,
        endpoint_id: &EndpointId,
        changes: UpdateEndpoint,
    ) -> Result<EndpointView, GatewayError> {
        refuse_card_numbers(changes.url.as_deref(), changes.description.as_deref())?;
        check_fields(changes.events.as_deref(), changes.description.as_deref(), changes.max_attempts)?;
        let url = changes.url.as_deref().map(|url| self.vetted_url(url)).transpose()?;
        let events = changes.events.as_deref().map(patterns).transpose()?;
        let endpoint = self
            .change_endpoint(merchant_id, endpoint_id, |endpoint, now| {
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
                    endpoint.max_attempts = max_attempts;
                }
                if let Some(status) = changes.status {
                    endpoint.set_status(status.into(), now);
                }
                Ok(())
            })
            .await?;
        Ok(EndpointView::of(&endpoint))
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
        let overlap = Duration::from_secs(self.core.config.webhook.rotation_overlap_s);
        let endpoint = self
            .change_endpoint(merchant_id, endpoint_id, |endpoint, now| {
                let sealed = seal(&sealing, &endpoint.id, &secret)?;
                endpoint.secrets.rotate(sealed, now.plus(overlap));
                Ok(())
            })
            .await?;
        Ok(NewSecretView { endpoint: EndpointView::of(&endpoint), secret: secret.as_str().to_owned() })
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
            if unless_overtaken(self.core.store.commit(batch).await)?.is_some() {
                self.lists.forget(merchant_id);
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
        let endpoints_max = self.core.config.webhook.endpoints_max;
        let made_key = keys::endpoints_made(&endpoint.merchant_id);
        for _ in 0..CHANGES_MAX {
            // Read before counting: who makes another one in between changes it, and this is counted again.
            let made_revision = self.core.store.get(&made_key)?.map_or(ABSENT, |made| made.revision);
            let prefix = keys::endpoints_of(&endpoint.merchant_id);
            let existing = self.core.store.scan(&Scan::prefix(&prefix, endpoints_max.max(1)))?;
            if existing.len() >= endpoints_max {
                return Err(GatewayError::Forbidden(format!(
                    "a merchant has at most {endpoints_max} webhook endpoints"
                )));
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

    async fn change_endpoint(
        &self,
        merchant_id: &MerchantId,
        endpoint_id: &EndpointId,
        change: impl Fn(&mut Endpoint, Timestamp) -> Result<(), GatewayError>,
    ) -> Result<Endpoint, GatewayError> {
        for _ in 0..CHANGES_MAX {
            let (mut endpoint, revision) = self.read_endpoint(merchant_id, endpoint_id)?;
            let now = self.core.clock.now();
            change(&mut endpoint, now)?;
            endpoint.updated_at = now;
            endpoint.secrets.forget_expired(now);
            let mut batch = Batch::new();
            batch.replace(keys::endpoint(merchant_id, endpoint_id), revision, record::encode(&endpoint)?);
            if unless_overtaken(self.core.store.commit(batch).await)?.is_some() {
                self.lists.forget(merchant_id);
                self.actors.directory().poke(endpoint_id, LaneSet::ALL);
                return Ok(endpoint);
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    fn vetted_url(&self, text: &str) -> Result<String, GatewayError> {
        let vetted = vet(text, &self.core.config.webhook.allowed_private_networks);
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
    let previous = match &endpoint.secrets.previous {
        Some(previous) => vault.reseal(&identity, previous)?,
        None => None,
    };
    if current.is_none() && previous.is_none() {
        return Ok(None);
    }
    endpoint.secrets.current = current.unwrap_or(endpoint.secrets.current);
    endpoint.secrets.previous = previous.or(endpoint.secrets.previous);
    Ok(Some(record::encode(&endpoint)?))
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
