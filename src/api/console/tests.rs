//! What the console's forms may change, and what is written down about it.

use super::routes;
use crate::api::routes::Verb;

/// Where forms are sent to, each with the action under which the audit has it.
const CHANGES: [(&str, &str); 20] = [
    ("/console/limits/{merchant_id}/tier", "merchant.update"),
    ("/console/payments/{payment_no}/resolve", "payment.resolve"),
    ("/console/pre-auths/{pre_auth_no}/cancel", "pre_auth.cancel"),
    ("/console/pre-auths/{pre_auth_no}/capture", "pre_auth.capture"),
    ("/console/pre-auths/{pre_auth_no}/resolve", "pre_auth.resolve"),
    ("/console/refunds/{refund_no}/resolve", "refund.resolve"),
    ("/console/routing/change", "routing.update"),
    ("/console/routing/channels/{name}/disable", "channel.update"),
    ("/console/routing/channels/{name}/enable", "channel.update"),
    ("/console/routing/channels/{name}/reset-health", "channel.reset_health"),
    ("/console/routing/versions/{version}/rollback", "routing.rollback"),
    ("/console/settings/backup", "store.backup"),
    ("/console/settings/log-level", "log_level.update"),
    ("/console/settings/reload", "config.reload"),
    ("/console/webhooks/endpoints/{endpoint_id}/enable", "webhook_endpoint.enable"),
    ("/console/webhooks/endpoints/{endpoint_id}/pause", "webhook_endpoint.pause"),
    ("/console/webhooks/endpoints/{endpoint_id}/recover", "webhook_endpoint.recover"),
    ("/console/webhooks/endpoints/{endpoint_id}/reset-health", "webhook_endpoint.reset_health"),
    ("/console/webhooks/jobs/{job_id}/cancel", "webhook_job.cancel"),
    ("/console/webhooks/resend", "webhook_notification.retry"),
];

#[test]
fn every_form_that_changes_something_has_its_entry_in_the_audit() {
    let routes = routes();
    let mut listed: Vec<&str> =
        routes.listed().iter().filter(|(verb, _)| *verb != Verb::Get).map(|(_, path)| *path).collect();
    listed.sort_unstable();
    assert_eq!(listed, CHANGES.map(|(path, _)| path), "say in CHANGES which entry a new form makes");
    assert!(routes.listed().iter().all(|(verb, _)| matches!(verb, Verb::Get | Verb::Post)), "forms know no other");
    let documented = include_str!("../../../docs/audit.md");
    for (path, action) in CHANGES {
        assert!(documented.contains(&format!("`{action}`")), "{path}: {action} in docs/audit.md");
    }
}

#[test]
fn everything_is_below_the_consoles_own_path() {
    for (_, path) in routes().listed() {
        assert!(crate::api::merchant::is_below(super::PREFIX, path), "{path}");
    }
}
