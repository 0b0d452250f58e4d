//! Merchants and their keys: made, changed and suspended by the operator; looked up for every request.

mod remembered;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::actors::webhook::rows::{self, Planned};
use crate::config::TierConfig;
use crate::domain::audit::{Change, Operator};
use crate::domain::country::is_country;
use crate::domain::ids::{ChannelName, KEY_ID_PREFIX, KeyId, MerchantId, random_id, sortable_id};
use crate::domain::limit::LimitFigures;
use crate::domain::merchant::{ACTIVE_KEYS_MAX, Merchant, MerchantStatus};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{JobKind, WebhookJob};
use crate::gateway::audit;
use crate::gateway::command::{CreateMerchant, UpdateMerchant};
use crate::gateway::core::Core;
use crate::gateway::error::{FieldError, GatewayError};
use crate::gateway::page::{Page, PageRequest, cursor_of};
use crate::gateway::view::{MerchantView, NewKeyView, NewMerchantView};
use crate::gateway::webhooks::new_job_id;
use crate::storage::record::{Record, decode, encode};
use crate::storage::vault::{Sealing, Vault};
use crate::storage::{Batch, Row, Scan, StoreError, Versioned, keys};

use remembered::Remembered;

/// Tries of a change that others keep overtaking.
const CONFLICTS_MAX: usize = 8;
/// Where the number of changes of the tiers stands in a revision, above the sequence of the merchant's row.
const TIER_CHANGES_SHIFT: u32 = 48;
/// Longest name of a merchant in characters.
const NAME_CHARS_MAX: usize = 100;

/// An API key as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ApiKeyRecord {
    merchant_id: MerchantId,
    /// The secret, encrypted for exactly this key of this merchant.
    sealed_secret: String,
    created_at: Timestamp,
}

impl Record for ApiKeyRecord {
    const NAME: &'static str = "API key";
}

/// A key with its secret, ready for checking signatures.
pub(crate) struct KnownKey {
    /// Whose it is.
    pub(crate) merchant_id: MerchantId,
    /// Its secret half.
    pub(crate) secret: Zeroizing<String>,
}

/// A merchant with what follows from its record and the configuration.
#[derive(Clone, Debug)]
pub(crate) struct KnownMerchant {
    /// The record.
    pub(crate) merchant: Arc<Merchant>,
    /// Its limits: the tier's with its own in place of them.
    pub(crate) figures: LimitFigures,
    /// Of its row and of the tiers; the limits of a higher one are newer.
    pub(crate) revision: u64,
}

/// Called with the limits that a merchant has before others are stored, which waits for it.
pub(crate) type Creating = Box<dyn Fn(&MerchantId) + Send + Sync>;
pub(crate) type LimitsChanging = Box<dyn Fn(&MerchantId, LimitFigures) -> BoxFuture<'static, ()> + Send + Sync>;
/// Called with a merchant's new limits and their revision after they were stored.
pub(crate) type LimitsChanged = Box<dyn Fn(&MerchantId, LimitFigures, u64) + Send + Sync>;

/// Called with the jobs that follow from the removal of a merchant, after its commit.
pub(crate) type Deleted = Box<dyn Fn(Planned) + Send + Sync>;

/// The merchants of a gateway. Cheap to clone. A change that has begun goes on when its future is dropped.
#[derive(Clone)]
pub struct Merchants(Arc<Inner>);

struct Inner {
    core: Core,
    keys: Remembered<KeyId, Arc<KnownKey>>,
    merchants: Remembered<MerchantId, KnownMerchant>,
    tiers: ArcSwap<Tiers>,
    /// Told before there is a new merchant.
    creating: OnceLock<Creating>,
    /// Told after there is one less.
    deleted: OnceLock<Deleted>,
    limits_changing: LimitsChanging,
    limits_changed: LimitsChanged,
}

/// The tiers in force, and how often they were changed.
struct Tiers {
    by_name: BTreeMap<String, TierConfig>,
    changes: u64,
}

impl Tiers {
    /// A change of the configuration must not shut a merchant out: one whose tier is gone has the limits of the smallest
    /// tier, and overrides that do not fit their tier any more are brought into range. Both are said in the log.
    fn figures(&self, merchant: &Merchant) -> Result<LimitFigures, GatewayError> {
        let tier = match self.by_name.get(&merchant.tier) {
            Some(tier) => tier,
            None => {
                let smallest = self.by_name.iter().min_by_key(|(_, tier)| (tier.per_hour, tier.per_second));
                let Some((name, tier)) = smallest else {
                    return Err(GatewayError::Internal("no tier is configured".to_owned()));
                };
                tracing::warn!(
                    merchant_id = %merchant.merchant_id,
                    tier = merchant.tier,
                    instead = name,
                    "the merchant's tier is not configured any more; give it another one"
                );
                tier
            }
        };
        let tier = figures_of(tier);
        Ok(LimitFigures::of(&tier, &merchant.limits).unwrap_or_else(|error| {
            let figures = LimitFigures::nearest(&tier, &merchant.limits);
            tracing::warn!(merchant_id = %merchant.merchant_id, %error, ?figures, "the merchant's limits are brought into range");
            figures
        }))
    }
}

impl Merchants {
    pub(crate) fn new(core: Core, limits_changing: LimitsChanging, limits_changed: LimitsChanged) -> Self {
        let remembered_max = core.config.auth.key_cache_max;
        let (keys, merchants) = (Remembered::new(remembered_max), Remembered::new(remembered_max));
        let tiers = ArcSwap::from_pointee(Tiers { by_name: core.config.tiers.clone(), changes: 0 });
        Self(Arc::new(Inner {
            core,
            keys,
            merchants,
            tiers,
            creating: OnceLock::new(),
            deleted: OnceLock::new(),
            limits_changing,
            limits_changed,
        }))
    }

    /// Has `deleted` told of what is left to do after a merchant was removed.
    pub(crate) fn tell_deleted(&self, deleted: Deleted) {
        let _ = self.0.deleted.set(deleted);
    }

    /// Has `creating` told of each new merchant before it is there.
    pub(crate) fn tell_creating(&self, creating: Creating) {
        let _ = self.0.creating.set(creating);
    }

    /// Puts other tiers in force; every merchant has its new limits with its next request.
    pub(crate) fn change_tiers(&self, tiers: &BTreeMap<String, TierConfig>) {
        self.0.tiers.rcu(|before| Tiers { by_name: tiers.clone(), changes: before.changes + 1 });
        self.0.merchants.forget_all();
    }

    /// Makes a merchant with its first key. The secret is in this answer and nowhere else.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] for a wrong field.
    pub async fn create(&self, command: CreateMerchant, by: &Operator) -> Result<NewMerchantView, GatewayError> {
        let (inner, by) = (Arc::clone(&self.0), by.clone());
        self.0.core.carry(async move { inner.create(command, &by).await }).await
    }

    /// One merchant.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn get(&self, merchant_id: &str) -> Result<MerchantView, GatewayError> {
        let (merchant, _) = self.0.read(&MerchantId::new(merchant_id))?;
        Ok(view_of(&merchant))
    }

    /// A page of merchants, newest first.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] for a wrong limit or cursor.
    pub fn list(&self, page: &PageRequest) -> Result<Page<MerchantView>, GatewayError> {
        let rows = page.rows()?;
        let prefix = keys::merchants();
        let mut scan = Scan::prefix_reverse(&prefix, rows + 1);
        if let Some(before) = page.key_after(&prefix)? {
            scan.end = Some(before);
        }
        let found = self.0.core.store.scan(&scan)?;
        let next_cursor =
            if found.len() > rows { found.get(rows - 1).map(|row| cursor_of(&prefix, &row.key)) } else { None };
        let items = found
            .iter()
            .take(rows)
            .map(|row| decode::<Merchant>(&row.versioned.value).map(|merchant| view_of(&merchant)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        Ok(Page { items, next_cursor })
    }

    /// Changes what the command names; takes effect with the next request.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], [`GatewayError::InvalidRequest`].
    pub async fn update(
        &self,
        merchant_id: &str,
        command: UpdateMerchant,
        by: &Operator,
    ) -> Result<MerchantView, GatewayError> {
        let (inner, merchant_id, by) = (Arc::clone(&self.0), MerchantId::new(merchant_id), by.clone());
        self.0.core.carry(async move { inner.update(&merchant_id, &command, &by).await }).await
    }

    /// Takes a merchant and its keys away. Its payments stay.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub async fn delete(&self, merchant_id: &str, by: &Operator) -> Result<(), GatewayError> {
        let (inner, merchant_id, by) = (Arc::clone(&self.0), MerchantId::new(merchant_id), by.clone());
        self.0.core.carry(async move { inner.delete(&merchant_id, &by).await }).await
    }

    /// Makes another key; a merchant has up to two.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], or [`GatewayError::InvalidState`] when there are two already.
    pub async fn create_key(&self, merchant_id: &str, by: &Operator) -> Result<NewKeyView, GatewayError> {
        let (inner, merchant_id, by) = (Arc::clone(&self.0), MerchantId::new(merchant_id), by.clone());
        self.0.core.carry(async move { inner.create_key(&merchant_id, &by).await }).await
    }

    /// Takes a key away; requests with it are refused from now on.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub async fn delete_key(&self, merchant_id: &str, key_id: &str, by: &Operator) -> Result<(), GatewayError> {
        let (inner, merchant_id, key_id) = (Arc::clone(&self.0), MerchantId::new(merchant_id), KeyId::new(key_id));
        let by = by.clone();
        self.0.core.carry(async move { inner.delete_key(&merchant_id, &key_id, &by).await }).await
    }

    /// The key with this id and its secret, from memory or the store.
    pub(crate) fn key(&self, key_id: &KeyId) -> Result<Option<Arc<KnownKey>>, GatewayError> {
        let inner = &self.0;
        inner.keys.get_or_read(key_id, || {
            let Some(stored) = inner.core.store.get(&keys::api_key(key_id))? else { return Ok(None) };
            let record: ApiKeyRecord = decode(&stored.value)?;
            let identity = key_identity(&record.merchant_id, key_id);
            let secret = inner.core.vault.unseal(&identity, &record.sealed_secret)?;
            let secret = Zeroizing::new(String::from_utf8_lossy(&secret).into_owned());
            Ok(Some(Arc::new(KnownKey { merchant_id: record.merchant_id, secret })))
        })
    }

    /// The merchant with this id, from memory or the store.
    pub(crate) fn merchant(&self, merchant_id: &MerchantId) -> Result<KnownMerchant, GatewayError> {
        let inner = &self.0;
        let known = inner.merchants.get_or_read(merchant_id, || match inner.read(merchant_id) {
            Ok((merchant, stored)) => inner.known(merchant, stored.revision).map(Some),
            Err(GatewayError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        })?;
        known.ok_or(GatewayError::NotFound("merchant"))
    }
}

impl Inner {
    async fn create(&self, command: CreateMerchant, by: &Operator) -> Result<NewMerchantView, GatewayError> {
        let now = self.core.clock.now();
        let channels = command.channels.clone().unwrap_or_default();
        let merchant = Merchant {
            merchant_id: MerchantId::new(sortable_id("m_", now, self.core.random.draw_u64())),
            name: command.name,
            tier: command.tier,
            country: command.country,
            limits: command.limits.unwrap_or_default(),
            channels: channels.into_iter().map(ChannelName::new).collect(),
            status: MerchantStatus::Active,
            keys: Vec::new(),
            created_at: now,
            updated_at: now,
        };
        refuse(self.problems(&merchant))?;
        let mut batch = Batch::new();
        let sealing = self.core.vault.sealing();
        let (merchant, key) = self.add_key(&mut batch, merchant, &sealing)?;
        batch.insert(keys::merchant(&merchant.merchant_id), encode(&merchant)?);
        if let Some(creating) = self.creating.get() {
            creating(&merchant.merchant_id);
        }
        let change = Change::new("merchant.create", merchant.merchant_id.as_str());
        let change = change.difference(&Value::Null, &audited(&merchant)?);
        audit::commit(&self.core, batch, by, &change).await?;
        Ok(NewMerchantView { merchant: view_of(&merchant), key })
    }

    async fn update(
        &self,
        merchant_id: &MerchantId,
        command: &UpdateMerchant,
        by: &Operator,
    ) -> Result<MerchantView, GatewayError> {
        let change = Change::new("merchant.update", merchant_id.as_str());
        let (merchant, revision) = self
            .change(merchant_id, by, &change, |merchant, _| {
                merchant.name = command.name.clone().unwrap_or_else(|| merchant.name.clone());
                merchant.tier = command.tier.clone().unwrap_or_else(|| merchant.tier.clone());
                merchant.country = command.country.clone().or_else(|| merchant.country.clone());
                if let Some(limits) = &command.limits {
                    merchant.limits = limits.applied_to(&merchant.limits);
                }
                merchant.status = command.status.unwrap_or(merchant.status);
                if let Some(channels) = &command.channels {
                    merchant.channels = channels.iter().map(|name| ChannelName::new(name.as_str())).collect();
                }
                // What the configuration does not allow any more must not keep the operator from suspending a merchant.
                let is_changed = |problem: &FieldError| match problem.field.as_str() {
                    "name" => command.name.is_some(),
                    "tier" => command.tier.is_some(),
                    "country" => command.country.is_some(),
                    "channels" => command.channels.is_some(),
                    _ => command.limits.is_some() || command.tier.is_some(),
                };
                refuse(self.problems(merchant).into_iter().filter(is_changed).collect())
            })
            .await?;
        let known = self.known(merchant, revision)?;
        (self.limits_changed)(merchant_id, known.figures, known.revision);
        Ok(view_of(&known.merchant))
    }

    async fn delete(&self, merchant_id: &MerchantId, by: &Operator) -> Result<(), GatewayError> {
        let (merchant, stored) = self.read(merchant_id)?;
        // As for every change of a merchant that there is.
        let mut batch = Batch::finishing();
        batch.expect(keys::merchant(merchant_id), stored.revision);
        batch.delete(keys::merchant(merchant_id));
        for key_id in &merchant.keys {
            batch.delete(keys::api_key(key_id));
        }
        // Its webhooks end with it; it may have any number of them.
        let mut planned = Planned::default();
        let now = self.core.clock.now();
        let purge = WebhookJob::new(new_job_id(&self.core, now), merchant_id.clone(), JobKind::Purge, now);
        rows::add_job(&mut batch, &mut planned, &purge)?;
        let change = Change::new("merchant.delete", merchant_id.as_str());
        let change = change.difference(&audited(&merchant)?, &Value::Null);
        audit::commit(&self.core, batch, by, &change).await?;
        for key_id in &merchant.keys {
            self.keys.forget(key_id);
        }
        self.merchants.forget(merchant_id);
        if let Some(deleted) = self.deleted.get() {
            deleted(planned);
        }
        Ok(())
    }

    async fn create_key(&self, merchant_id: &MerchantId, by: &Operator) -> Result<NewKeyView, GatewayError> {
        let mut made = None;
        let sealing = self.core.vault.sealing();
        let change = Change::new("key.create", merchant_id.as_str());
        self.change(merchant_id, by, &change, |merchant, batch| {
            if merchant.keys.len() >= ACTIVE_KEYS_MAX {
                return Err(GatewayError::InvalidState { status: "two_active_keys".to_owned() });
            }
            let (changed, key) = self.add_key(batch, merchant.clone(), &sealing)?;
            *merchant = changed;
            made = Some(key);
            Ok(())
        })
        .await?;
        made.ok_or_else(|| GatewayError::Internal("a key was stored but not made".to_owned()))
    }

    async fn delete_key(&self, merchant_id: &MerchantId, key_id: &KeyId, by: &Operator) -> Result<(), GatewayError> {
        let change = Change::new("key.delete", format!("{merchant_id}/{key_id}"));
        self.change(merchant_id, by, &change, |merchant, batch| {
            let before = merchant.keys.len();
            merchant.keys.retain(|known| known != key_id);
            if merchant.keys.len() == before {
                return Err(GatewayError::NotFound("key"));
            }
            batch.delete(keys::api_key(key_id));
            Ok(())
        })
        .await?;
        self.keys.forget(key_id);
        Ok(())
    }

    fn known(&self, merchant: Merchant, revision: u64) -> Result<KnownMerchant, GatewayError> {
        let tiers = self.tiers.load();
        let figures = tiers.figures(&merchant)?;
        // Limits of later tiers are newer than any of earlier ones; sequences stay far below the bit.
        let revision = revision + (tiers.changes << TIER_CHANGES_SHIFT);
        Ok(KnownMerchant { merchant: Arc::new(merchant), figures, revision })
    }

    fn read(&self, merchant_id: &MerchantId) -> Result<(Merchant, Versioned), GatewayError> {
        let stored = self.core.store.get(&keys::merchant(merchant_id))?.ok_or(GatewayError::NotFound("merchant"))?;
        Ok((decode(&stored.value)?, stored))
    }

    /// Reads the merchant, lets `apply` change it, and commits all with an entry that says what has changed, again when
    /// somebody else was quicker.
    async fn change(
        &self,
        merchant_id: &MerchantId,
        by: &Operator,
        change: &Change,
        mut apply: impl FnMut(&mut Merchant, &mut Batch) -> Result<(), GatewayError>,
    ) -> Result<(Merchant, u64), GatewayError> {
        for _ in 0..CONFLICTS_MAX {
            let (mut merchant, stored) = self.read(merchant_id)?;
            // Suspending a merchant and changing a key that was stolen must not wait until the disk has room again.
            let mut batch = Batch::finishing();
            let (before, former) = (audited(&merchant)?, merchant.clone());
            apply(&mut merchant, &mut batch)?;
            if (&former.tier, former.limits) != (&merchant.tier, merchant.limits) {
                (self.limits_changing)(merchant_id, self.tiers.load().figures(&former)?).await;
            }
            let change = change.clone().difference(&before, &audited(&merchant)?);
            merchant.updated_at = self.core.clock.now();
            batch.replace(keys::merchant(merchant_id), stored.revision, encode(&merchant)?);
            match audit::commit(&self.core, batch, by, &change).await {
                Ok(committed) => {
                    self.merchants.forget(merchant_id);
                    return Ok((merchant, committed.sequence));
                }
                Err(StoreError::Precondition { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    fn add_key(
        &self,
        batch: &mut Batch,
        mut merchant: Merchant,
        sealing: &Sealing,
    ) -> Result<(Merchant, NewKeyView), GatewayError> {
        let key_id = KeyId::new(random_id(KEY_ID_PREFIX, self.draws()));
        let mut bytes = Zeroizing::new([0_u8; 32]);
        self.core.random.fill(bytes.as_mut_slice());
        let secret = format!("sk_{}", hex::encode(bytes.as_slice()));
        let identity = key_identity(&merchant.merchant_id, &key_id);
        let record = ApiKeyRecord {
            merchant_id: merchant.merchant_id.clone(),
            sealed_secret: sealing.seal(&identity, secret.as_bytes())?,
            created_at: self.core.clock.now(),
        };
        batch.insert(keys::api_key(&key_id), encode(&record)?);
        merchant.keys.push(key_id.clone());
        Ok((merchant, NewKeyView { id: key_id.to_string(), secret }))
    }

    /// What the configuration and the form of the fields do not allow.
    fn problems(&self, merchant: &Merchant) -> Vec<FieldError> {
        let config = &self.core.config;
        let mut errors = Vec::new();
        let name_chars = merchant.name.chars().count();
        if !(1..=NAME_CHARS_MAX).contains(&name_chars) {
            errors.push(FieldError::new("name", format!("must have 1 to {NAME_CHARS_MAX} characters")));
        }
        let tiers = self.tiers.load();
        if !tiers.by_name.contains_key(&merchant.tier) {
            let known: Vec<&str> = tiers.by_name.keys().map(String::as_str).collect();
            errors.push(FieldError::new("tier", format!("must be one of {}", known.join(", "))));
        }
        if merchant.country.as_deref().is_some_and(|country| !is_country(country)) {
            errors.push(FieldError::new("country", "must be an ISO 3166-1 alpha-2 code in capitals, such as US"));
        }
        for channel in &merchant.channels {
            if !config.channels.contains_key(channel.as_str()) {
                errors.push(FieldError::new("channels", format!("there is no channel {channel}")));
            }
        }
        match tiers.by_name.get(&merchant.tier).map(|tier| LimitFigures::of(&figures_of(tier), &merchant.limits)) {
            Some(Err(error)) => errors.push(FieldError::new("limits", error.to_string())),
            Some(Ok(figures)) if figures.burst < figures.per_second => {
                let message = format!(
                    "must be at least per_second ({}); equal to it for a strict limit by the second",
                    figures.per_second
                );
                errors.push(FieldError::new("limits.burst", message));
            }
            Some(Ok(_)) | None => {}
        }
        errors
    }

    fn draws(&self) -> [u64; 2] {
        [self.core.random.draw_u64(), self.core.random.draw_u64()]
    }
}

fn refuse(problems: Vec<FieldError>) -> Result<(), GatewayError> {
    if problems.is_empty() { Ok(()) } else { Err(GatewayError::InvalidRequest(problems)) }
}

/// What the record of changes says of a merchant. Its times are the entry's; its keys are ids, never secrets.
fn audited(merchant: &Merchant) -> Result<Value, GatewayError> {
    let mut value = serde_json::to_value(merchant)
        .map_err(|error| GatewayError::Internal(format!("a merchant can't be written down: {error}")))?;
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| !["merchant_id", "created_at", "updated_at"].contains(&name.as_str()));
    }
    Ok(value)
}

pub(super) fn figures_of(tier: &TierConfig) -> LimitFigures {
    LimitFigures {
        per_second: tier.per_second,
        per_minute: tier.per_minute,
        per_hour: tier.per_hour,
        burst: tier.burst,
        concurrent: tier.concurrent,
    }
}

/// The row of an API key with its secret under the master key that seals; `None` when it is already.
pub(crate) fn reseal_key(vault: &Vault, row: &Row) -> Result<Option<Vec<u8>>, GatewayError> {
    let Some(key_id) = keys::parse_api_key(&row.key) else { return Ok(None) };
    let mut record: ApiKeyRecord = decode(&row.versioned.value)?;
    let identity = key_identity(&record.merchant_id, &key_id);
    let Some(sealed_secret) = vault.reseal(&identity, &record.sealed_secret)? else { return Ok(None) };
    record.sealed_secret = sealed_secret;
    Ok(Some(encode(&record)?))
}

fn key_identity(merchant_id: &MerchantId, key_id: &KeyId) -> String {
    format!("api_key|{merchant_id}|{key_id}")
}

fn view_of(merchant: &Merchant) -> MerchantView {
    MerchantView {
        merchant_id: merchant.merchant_id.to_string(),
        name: merchant.name.clone(),
        tier: merchant.tier.clone(),
        country: merchant.country.clone(),
        status: match merchant.status {
            MerchantStatus::Active => "active".to_owned(),
            MerchantStatus::Suspended => "suspended".to_owned(),
        },
        limits: merchant.limits,
        channels: merchant.channels.iter().map(ToString::to_string).collect(),
        keys: merchant.keys.iter().map(ToString::to_string).collect(),
        created_at: merchant.created_at.rfc3339(),
        updated_at: merchant.updated_at.rfc3339(),
    }
}

#[cfg(test)]
mod tests;
