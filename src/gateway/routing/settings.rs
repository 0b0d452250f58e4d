//! Mode, ladder and default channel, the versions of the routing, and rollback.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::domain::audit::{Change, Operator};
use crate::gateway::error::GatewayError;
use crate::gateway::page::{Page, PageRequest};
use crate::gateway::routing::control::{InForce, ROLL_BACK, Routing, UNCHECKED};
use crate::gateway::routing::overrides::{Overrides, ROUTING_KEYS, UnfitView, check_shapes, merge_patch};
use crate::gateway::routing::rules::{FindingView, note_of};
use crate::gateway::routing::versions::{self, RoutingVersionView, differences};

/// Body of `PUT /admin/v1/routing`. Only what is given changes; `null` goes back to what the configuration file says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateRouting {
    /// `balanced`, `cost`, `success` or `geographic`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub mode: Option<Value>,
    /// Whether strategies decide at all.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<bool>)]
    pub smart: Option<Value>,
    /// Whether the rules are asked before the strategies.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<bool>)]
    pub rules_first: Option<Value>,
    /// The last rung of the ladder.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub default_channel: Option<Value>,
}

/// Body of `POST /admin/v1/routing/rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// The version whose changes through the admin API are to be in force again; 0 for none, the configuration file alone.
    pub version: u64,
}

/// A field that is there, also when it is null.
pub(super) fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The fields of a patch that are there.
pub(super) fn patch_of<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// Routing as it is in force.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RoutingSettingsView {
    /// The version in force, which decisions name.
    pub version: u64,
    /// `balanced`, `cost`, `success` or `geographic`.
    pub mode: String,
    /// Whether strategies decide at all; otherwise rules, then the default.
    pub smart: bool,
    /// Whether the rules are asked before the strategies.
    pub rules_first: bool,
    /// The last rung of the ladder.
    pub default_channel: String,
    /// How many rules there are.
    pub rules: usize,
    /// What was changed through the admin API, such as `routing.mode`, `channels.stripe.fees`, `rules.ru_1`.
    pub overridden: Vec<String>,
    /// What of that does not fit the configuration file any more and is not in force.
    pub unfit: Vec<UnfitView>,
    /// What is wrong with the rules.
    pub findings: Vec<FindingView>,
    /// What there is to know about the rules as a whole, such as that nothing asks them; null when there is nothing.
    pub note: Option<String>,
}

impl Routing {
    /// Routing as it is in force.
    ///
    /// # Errors
    /// [`GatewayError::Internal`].
    pub async fn settings(&self) -> Result<RoutingSettingsView, GatewayError> {
        let in_force = self.hold().await.clone();
        self.settings_view(&in_force).await
    }

    /// Changes mode, ladder or default channel.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] for what can't be.
    pub async fn update(&self, command: UpdateRouting, by: &Operator) -> Result<RoutingSettingsView, GatewayError> {
        self.update_seen(command, None, by).await
    }

    /// The same for somebody who has looked at the version `seen`: where another is in force by now, nothing changes.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] for what can't be, and for `version` when it is another.
    pub async fn update_seen(
        &self,
        command: UpdateRouting,
        seen: Option<u64>,
        by: &Operator,
    ) -> Result<RoutingSettingsView, GatewayError> {
        let (routing, by) = (self.clone(), by.clone());
        let fields = [command.mode, command.smart, command.rules_first, command.default_channel];
        let patch: Map<String, Value> =
            ROUTING_KEYS.into_iter().zip(fields).filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        let work = async move {
            let edit = |before: &InForce, overrides: &mut Overrides| {
                check_seen(seen, before)?;
                check_shapes(&patch, &[])?;
                merge_patch(&mut overrides.routing, &patch);
                let after = InForce::of(before.file.clone(), overrides.clone());
                let json = |in_force: &InForce| serde_json::to_value(&in_force.config.routing).unwrap_or(Value::Null);
                Ok((Change::new("routing.update", "routing").difference(&json(before), &json(&after)), ()))
            };
            let (in_force, ()) = routing.0.change(&by, edit, UNCHECKED).await.map_err(unprefixed)?;
            routing.settings_view(&in_force).await
        };
        self.0.core.carry(work).await
    }

    /// A page of versions, newest first.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] for a wrong limit or cursor.
    pub async fn versions(&self, page: &PageRequest) -> Result<Page<RoutingVersionView>, GatewayError> {
        let version = self.hold().await.version;
        versions::list(self.0.core.store.as_ref(), page, version)
    }

    /// Puts in force again what was changed through the admin API up to a version, as a new version. What the
    /// configuration file says stays as it is.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`]; [`GatewayError::InvalidRequest`] when it does not fit the file any more.
    pub async fn roll_back(&self, command: RollBack, by: &Operator) -> Result<RoutingSettingsView, GatewayError> {
        self.roll_back_seen(command, None, by).await
    }

    /// The same for somebody who has looked at the version `seen`: where another is in force by now, nothing changes.
    ///
    /// # Errors
    /// As for [`Routing::roll_back`]; [`GatewayError::InvalidRequest`] for `version` when another is in force.
    pub async fn roll_back_seen(
        &self,
        command: RollBack,
        seen: Option<u64>,
        by: &Operator,
    ) -> Result<RoutingSettingsView, GatewayError> {
        let (routing, by) = (self.clone(), by.clone());
        let work = async move {
            let target = match command.version {
                0 => Overrides::default(),
                version => versions::get(routing.0.core.store.as_ref(), version)?.overrides,
            };
            let edit = |before: &InForce, overrides: &mut Overrides| {
                check_seen(seen, before)?;
                let after = InForce::of(before.file.clone(), target.clone());
                let change = Change::new(ROLL_BACK, format!("version {}", command.version));
                let parts = (versions::part_of(&before.config), versions::part_of(&after.config));
                *overrides = target;
                Ok((differences(change, &parts.0, &parts.1), ()))
            };
            let (in_force, ()) = routing.0.change(&by, edit, UNCHECKED).await?;
            routing.settings_view(&in_force).await
        };
        self.0.core.carry(work).await
    }

    async fn settings_view(&self, in_force: &InForce) -> Result<RoutingSettingsView, GatewayError> {
        let routing = &in_force.config.routing;
        let mode = json!(routing.mode).as_str().map(str::to_owned).unwrap_or_default();
        let findings = self.0.check(&in_force.config).await?;
        Ok(RoutingSettingsView {
            version: in_force.version,
            mode,
            smart: routing.smart,
            rules_first: routing.rules_first,
            default_channel: routing.default_channel.clone(),
            rules: in_force.config.rules.len(),
            overridden: in_force.overrides.names(),
            unfit: in_force.unfit.clone(),
            findings: findings.iter().map(FindingView::of).collect(),
            note: note_of(&in_force.config),
        })
    }
}

/// Refuses what somebody decided who has seen another version than the one in force.
fn check_seen(seen: Option<u64>, before: &InForce) -> Result<(), GatewayError> {
    if seen.is_none_or(|seen| seen == before.version) {
        return Ok(());
    }
    let message = format!(
        "the routing was changed meanwhile and nothing was done: version {} is in force; look again and then decide",
        before.version
    );
    Err(GatewayError::field("version", message))
}

/// Fields as the body has them.
fn unprefixed(error: GatewayError) -> GatewayError {
    without_prefix(error, "routing.")
}

pub(super) fn without_prefix(error: GatewayError, prefix: &str) -> GatewayError {
    match error {
        GatewayError::InvalidRequest(mut fields) => {
            for field in &mut fields {
                if let Some(rest) = field.field.strip_prefix(prefix) {
                    field.field = rest.to_owned();
                }
            }
            GatewayError::InvalidRequest(fields)
        }
        other => other,
    }
}
