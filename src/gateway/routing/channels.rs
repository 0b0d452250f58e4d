//! Channels as the operator changes them while the gateway runs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::actors::router::RouterError;
use crate::config::{ChannelConfig, Config};
use crate::domain::audit::{Change, Operator};
use crate::domain::ids::ChannelName;
use crate::gateway::audit;
use crate::gateway::channels::OtherCredentials;
use crate::gateway::error::GatewayError;
use crate::gateway::routing::channel_views;
use crate::gateway::routing::control::{InForce, Routing, UNCHECKED};
use crate::gateway::routing::overrides::{CHANNEL_KEYS, Overrides, TABLE_KEYS, check_shapes, merge_patch};
use crate::gateway::routing::settings::{given, patch_of, without_prefix};
use crate::gateway::view::ChannelView;

/// Body of `PATCH /admin/v1/channels/{name}`. Only what is given changes, in `fees` and `caps` too; `null` goes back to
/// what the configuration file says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateChannel {
    /// Whether it may be chosen.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<bool>)]
    pub enabled: Option<Value>,
    /// Share of load among equals, 1 to 1000.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub weight: Option<Value>,
    /// What the provider takes, as in the configuration.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    pub fees: Option<Value>,
    /// Countries in which it is the local one.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    pub local_countries: Option<Value>,
    /// How much may go through it: `concurrent`, `per_second`, `per_day`, `amount_per_day_minor`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    pub caps: Option<Value>,
    /// When it is known to be away: a list of `{"from", "until"}`, RFC 3339.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub maintenance: Option<Value>,
}

/// A channel with what is configured of it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ChannelDetailView {
    /// Its health.
    #[serde(flatten)]
    pub channel: ChannelView,
    /// Share of load among equals.
    pub weight: u32,
    /// What the provider takes.
    #[schema(value_type = Object)]
    pub fees: Value,
    /// Countries in which it is the local one.
    pub local_countries: Vec<String>,
    /// Payers' countries it serves; empty for all.
    pub countries: Vec<String>,
    /// Currencies it serves as configured; empty for all that the adapter can.
    pub currencies: Vec<String>,
    /// Methods it serves as configured; empty for all that the adapter can.
    pub methods: Vec<String>,
    /// The amounts that it takes, by currency.
    #[schema(value_type = Object)]
    pub amounts: Value,
    /// How much may go through it.
    #[schema(value_type = Object)]
    pub caps: Value,
    /// When it is known to be away.
    #[schema(value_type = Vec<Object>)]
    pub maintenance: Value,
    /// Which of these were changed through the admin API, such as `fees`.
    pub overridden: Vec<String>,
    /// The version of the routing in force.
    pub version: u64,
}

impl Routing {
    /// One channel.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub async fn channel(&self, name: &str) -> Result<ChannelDetailView, GatewayError> {
        let in_force = self.hold().await.clone();
        self.detail(&in_force, name)
    }

    /// Changes a channel; takes effect with the next decision.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], [`GatewayError::InvalidRequest`].
    pub async fn update_channel(
        &self,
        name: &str,
        command: UpdateChannel,
        by: &Operator,
    ) -> Result<ChannelDetailView, GatewayError> {
        let (routing, name, by) = (self.clone(), name.to_owned(), by.clone());
        let [enabled, weight, fees, local_countries, caps, maintenance] = CHANNEL_KEYS;
        let mut patch = patch_of([
            (enabled, command.enabled),
            (weight, command.weight),
            (fees, command.fees),
            (local_countries, command.local_countries),
            (caps, command.caps),
            (maintenance, command.maintenance),
        ]);
        // Nothing of a table is nothing.
        patch.retain(|key, value| !TABLE_KEYS.contains(&key.as_str()) || !value.as_object().is_some_and(Map::is_empty));
        let work = async move {
            let edit = |before: &InForce, overrides: &mut Overrides| {
                let present = before.file.channels.get(&name).ok_or(GatewayError::NotFound("channel"))?;
                check_shapes(&patch, &TABLE_KEYS)?;
                let mut own = overrides.channels.remove(&name).unwrap_or_default();
                merge_patch(&mut own, &patch);
                if !own.is_empty() {
                    overrides.channels.insert(name.clone(), own);
                }
                let after = InForce::of(before.file.clone(), overrides.clone());
                let was = before.config.channels.get(&name).unwrap_or(present);
                let is = after.config.channels.get(&name).unwrap_or(present);
                let change = Change::new("channel.update", name.as_str());
                Ok((change.difference(&changeable(was), &changeable(is)), ()))
            };
            let prefix = format!("channels.{name}.");
            let changed = routing.0.change(&by, edit, UNCHECKED).await;
            let (in_force, ()) = changed.map_err(|error| without_prefix(error, &prefix))?;
            routing.detail(&in_force, &name)
        };
        self.0.core.carry(work).await
    }

    /// Closes a channel's breaker at once and forgets what was learned about it.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], [`GatewayError::Overloaded`] while the router is being recovered.
    pub async fn reset_health(&self, name: &str, by: &Operator) -> Result<ChannelDetailView, GatewayError> {
        let (routing, name, by) = (self.clone(), name.to_owned(), by.clone());
        let work = async move {
            routing.channel(&name).await?;
            // Before it happens: nothing is reset without its entry.
            audit::record(&routing.0.core, &by, &Change::new("channel.reset_health", name.as_str())).await?;
            routing.0.router.reset_health(&ChannelName::new(name.as_str())).await.map_err(|error| match error {
                RouterError::UnknownChannel(_) => GatewayError::NotFound("channel"),
                _ => GatewayError::Overloaded { retry_after_s: 1 },
            })?;
            routing.channel(&name).await
        };
        self.0.core.carry(work).await
    }

    /// The channels as they stand.
    pub(crate) fn views(&self) -> Vec<ChannelView> {
        channel_views(&self.0.core, &self.0.router, &self.0.channels)
    }

    /// Looks again for credentials that were missing, and says which channels have theirs now and are not in use yet. May
    /// block.
    pub(crate) fn find_credentials(&self, file: &Config) -> Vec<ChannelName> {
        self.0.channels.look_again(file);
        self.0.channels.found_since(&self.0.router.table().setup)
    }

    /// The channels whose credentials have changed since they were set up, or are gone. May block.
    pub(crate) fn with_other_credentials(&self, file: &Config) -> OtherCredentials {
        self.0.channels.with_other_credentials(file)
    }

    fn detail(&self, in_force: &InForce, name: &str) -> Result<ChannelDetailView, GatewayError> {
        let channel =
            self.views().into_iter().find(|view| view.name == name).ok_or(GatewayError::NotFound("channel"))?;
        let config = in_force.config.channels.get(name).ok_or(GatewayError::NotFound("channel"))?;
        let json = |value: Result<Value, serde_json::Error>| value.unwrap_or(Value::Null);
        let overridden = in_force.overrides.channels.get(name);
        Ok(ChannelDetailView {
            channel,
            weight: config.weight,
            fees: json(serde_json::to_value(&config.fees)),
            local_countries: config.local_countries.clone(),
            countries: config.countries.clone(),
            currencies: config.currencies.iter().map(ToString::to_string).collect(),
            methods: config.methods.clone(),
            amounts: json(serde_json::to_value(&config.amounts)),
            caps: json(serde_json::to_value(config.caps)),
            maintenance: json(serde_json::to_value(&config.maintenance)),
            overridden: overridden.into_iter().flat_map(Map::keys).cloned().collect(),
            version: in_force.version,
        })
    }
}

/// What can be changed of a channel.
fn changeable(channel: &ChannelConfig) -> Value {
    let json = serde_json::to_value(channel).unwrap_or(Value::Null);
    let fields = json.as_object().into_iter().flatten();
    let own = fields.filter(|(key, _)| CHANNEL_KEYS.contains(&key.as_str()));
    Value::Object(own.map(|(key, value)| (key.clone(), value.clone())).collect())
}
