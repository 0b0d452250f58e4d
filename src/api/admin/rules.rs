//! The rule table, as the operator manages it.

use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::call::{Named, OperatorCall};
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Nothing, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::config::RuleConfig;
use crate::gateway::page::Page;
use crate::gateway::routing::rules::{CheckRules, CheckedRulesView, RuleView, SavedRuleView};

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, "/admin/v1/rules", list)
        .with(Verb::Post, "/admin/v1/rules", create)
        .with(Verb::Post, "/admin/v1/rules/check", check)
        .with(Verb::Get, "/admin/v1/rules/{id}", get)
        .with(Verb::Put, "/admin/v1/rules/{id}", update)
        .with(Verb::Delete, "/admin/v1/rules/{id}", delete)
}

/// A rule and where it is put, for the document.
#[derive(ToSchema)]
#[expect(dead_code, reason = "handlers take the fields as they come, so that null and nothing differ")]
pub(crate) struct PlacedRule {
    /// The rule.
    #[serde(flatten)]
    rule: RuleConfig,
    /// Before the rule with this id; without it and `position`, the last of this API's rules.
    before: Option<String>,
    /// At this place of the table, from 1.
    #[schema(minimum = 1)]
    position: Option<u32>,
}

/// List rules
///
/// In their order: those made through this API, then the configuration file's. The first that matches a payment counts.
#[utoipa::path(
    get, path = "/admin/v1/rules", operation_id = "list_rules", tag = "Rules",
    responses((status = 200, description = "All rules", body = Envelope<Listed<RuleView>>)),
)]
pub(crate) async fn list(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(Page { items: call.gateway.routing().rules().await, next_cursor: None })
}

/// Add a rule
///
/// Beside the rule's own fields, `before` (another rule's id) or `position` (from 1) says where; without them it is the last
/// of this API's rules. One that can't be meant like this is refused; warnings are in `findings`.
#[utoipa::path(
    post, path = "/admin/v1/rules", operation_id = "create_rule", tag = "Rules", request_body = PlacedRule,
    responses((status = 201, description = "The rule", body = Envelope<SavedRuleView>)),
)]
pub(crate) async fn create(OperatorCall { call, operator }: OperatorCall) -> Outcome {
    let fields: Map<String, Value> = call.json()?;
    call.created(call.gateway.routing().create_rule(fields, &operator).await?)
}

/// Read a rule
#[utoipa::path(
    get, path = "/admin/v1/rules/{id}", operation_id = "get_rule", tag = "Rules",
    params(("id" = String, Path, description = "The rule's id")),
    responses(
        (status = 200, description = "The rule", body = Envelope<RuleView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get(Named(id): Named<String>, OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.routing().rule(&id).await?)
}

/// Change a rule
///
/// Only the fields that are given change; `null` takes one away; `before` or `position` moves the rule.
#[utoipa::path(
    put, path = "/admin/v1/rules/{id}", operation_id = "update_rule", tag = "Rules",
    request_body(content_type = "application/json", content = ref("#/components/schemas/ChangedRule")),
    params(("id" = String, Path, description = "The rule's id")),
    responses(
        (status = 200, description = "The rule as it is now", body = Envelope<SavedRuleView>),
        (status = 403, description = "`FORBIDDEN`: the rule is the configuration file's"),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn update(Named(id): Named<String>, OperatorCall { call, operator }: OperatorCall) -> Outcome {
    let fields: Map<String, Value> = call.json_or_default()?;
    call.ok(call.gateway.routing().update_rule(&id, fields, &operator).await?)
}

/// Remove a rule
#[utoipa::path(
    delete, path = "/admin/v1/rules/{id}", operation_id = "delete_rule", tag = "Rules",
    params(("id" = String, Path, description = "The rule's id")),
    responses(
        (status = 200, description = "Removed; `data` is empty", body = Envelope<Nothing>),
        (status = 403, description = "`FORBIDDEN`: the rule is the configuration file's"),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn delete(Named(id): Named<String>, OperatorCall { call, operator }: OperatorCall) -> Outcome {
    call.no_fields()?;
    call.gateway.routing().delete_rule(&id, &operator).await?;
    call.ok(Nothing {})
}

/// Check rules without saving them
///
/// Finds rules that can never match, that an earlier one always precedes, that name what is not there, or that send payments
/// where they can't be taken. Without a body: the rules in force.
#[utoipa::path(
    post, path = "/admin/v1/rules/check", operation_id = "check_rules", tag = "Rules",
    request_body = Option<CheckRules>,
    responses((status = 200, description = "What was found", body = Envelope<CheckedRulesView>)),
)]
pub(crate) async fn check(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    let command: CheckRules = call.json_or_default()?;
    call.ok(call.gateway.routing().check_rules(command).await?)
}
