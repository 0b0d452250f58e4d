//! A body for every operation that takes one. A test sends each of them to a running gateway, which must take it.

use serde_json::{Value, json};
use utoipa::Modify;
use utoipa::openapi::schema::{Schema, Type};
use utoipa::openapi::{OneOf, OpenApi, RefOr};

use crate::api::document::common::for_each_operation;

/// Shows a body with every operation that takes one, and says of bodies that may be absent that they are objects where
/// they are there.
pub(super) struct Examples;

impl Modify for Examples {
    fn modify(&self, openapi: &mut OpenApi) {
        for_each_operation(openapi, |_, _, operation| {
            let example = operation.operation_id.as_deref().and_then(body_of);
            let Some(content) = operation.request_body.as_mut().and_then(|body| body.content.get_mut(JSON)) else {
                return;
            };
            content.example = example;
            if let Some(RefOr::T(Schema::OneOf(choice))) = &content.schema {
                content.schema = but_null(choice).or_else(|| content.schema.clone());
            }
        });
    }
}

const JSON: &str = "application/json";

/// The one of two that is not null.
fn but_null(choice: &OneOf) -> Option<RefOr<Schema>> {
    let is_null = |schema: &RefOr<Schema>| match schema {
        RefOr::T(Schema::Object(object)) => object.schema_type == Type::Null.into(),
        _ => false,
    };
    let mut others = choice.items.iter().filter(|schema| !is_null(schema));
    others.next().filter(|_| others.next().is_none()).cloned()
}

fn body_of(operation_id: &str) -> Option<Value> {
    Some(match operation_id {
        "create_payment" => json!({
            "order_no": "ORDER-12345",
            "amount": 50_000,
            "currency": "USD",
            "country": "US",
            "method": "card",
            "payment_token": "tok_visa",
            "customer_email": "jane@shop.example",
            "description": "Two nights",
            "metadata": { "room": "12" },
        }),
        "create_pre_auth" => json!({
            "order_no": "STAY-12345", "amount": 30_000, "currency": "USD", "method": "card", "payment_token": "tok_visa",
            "description": "Deposit",
        }),
        "quote_routing" => {
            json!({ "order_no": "ORDER-12346", "amount": 50_000, "currency": "USD", "country": "CN", "method": "alipay" })
        }
        "create_refund" | "create_pre_auth_refund" => json!({ "amount": 1_500, "reason": "one night less" }),
        "capture_pre_auth" | "capture_any_pre_auth" => json!({ "amount": 20_000 }),
        "cancel_pre_auth" | "cancel_any_pre_auth" => json!({ "reason": "the guest has left" }),
        "create_channel_pre_auth" => json!({
            "channel": "stripe", "pre_auth_no": "DEPOSIT-1", "amount": 30_000, "currency": "USD",
            "description": "Deposit", "payment_token": "tok_visa",
        }),
        "capture_channel_pre_auth" => json!({
            "channel": "stripe", "channel_pre_auth_no": "pi_3PqXyZ2eZvKYlo2C", "amount": 20_000, "currency": "USD",
        }),
        "cancel_channel_pre_auth" => json!({
            "channel": "stripe", "channel_pre_auth_no": "pi_3PqXyZ2eZvKYlo2C", "reason": "the guest has left",
        }),
        "create_endpoint" => json!({
            "url": "https://shop.example/tollgate", "events": ["payment.*", "refund.success"], "description": "the shop",
        }),
        "update_endpoint" => json!({ "events": ["*"], "max_attempts": 8 }),
        "recover_endpoint" | "recover_any_endpoint" => json!({ "since": "2025-01-24T10:30:45Z" }),
        "retry_notifications" => json!({ "event": "payment.success", "failure": "exhausted" }),
        "cancel_notifications" => json!({ "event": "payment.success", "to": "2025-01-24T10:30:45Z" }),
        _ => return operators_body_of(operation_id),
    })
}

fn operators_body_of(operation_id: &str) -> Option<Value> {
    Some(match operation_id {
        "create_merchant" => json!({
            "name": "Harbour Hotel", "tier": "business", "country": "US", "limits": { "per_second": 80 },
            "channels": ["stripe", "alipay"],
        }),
        "update_merchant" => json!({ "tier": "enterprise", "limits": { "per_second": null } }),
        "update_channel" => json!({ "weight": 50, "caps": { "per_second": 20 } }),
        "update_routing" => json!({ "mode": "cost", "rules_first": true }),
        "roll_back_routing" => json!({ "version": 0 }),
        "create_rule" => json!({
            "name": "Chinese cards", "card_countries": ["CN"], "currencies": ["USD"], "amount_minor_min": 1_000,
            "channels": ["alipay", "stripe"], "position": 1,
        }),
        "update_rule" => json!({ "enabled": false }),
        "check_rules" => {
            json!({ "rule": { "name": "at night", "from": "22:00", "until": "06:00", "channels": ["stripe"] } })
        }
        "resolve_payment" | "resolve_refund" => {
            json!({ "status": "failed", "reason": "no such order in the provider's dashboard" })
        }
        "resolve_pre_auth" => json!({ "status": "canceled", "reason": "released by hand in the provider's dashboard" }),
        "enable_any_webhook_endpoint" => json!({}),
        "check_limits" => json!({ "merchant_id": "m_0m6a1b2c3d4e5f6g7h8", "cost": 1 }),
        "release_permit" => json!({ "permit": "0m6a1b2c3d4e5f6g" }),
        "erase_customer" => json!({ "customer_email": "jane@shop.example" }),
        "confirm_hold" => json!({ "channel": "stripe" }),
        "change_log_level" => json!({ "filter": "info,tollgate::delivery=debug", "for_s": 600 }),
        "check_config" => json!({ "toml": "[tiers.starter]\nper_second = 20\n" }),
        "begin_backup" => json!({ "destination": "/var/backups/tollgate/2025-01-24" }),
        "begin_export" => json!({ "destination": "/var/backups/tollgate/2025-01-24.export" }),
        "set_faults" => json!({ "latency_ms": 20, "decline_rate": 0.05 }),
        _ => return None,
    })
}
