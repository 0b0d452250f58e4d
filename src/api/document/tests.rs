//! The document is complete: routes, references, errors, credentials.

use std::collections::BTreeSet;

use serde_json::Value;

use super::openapi_document;
use crate::api::codes::Code;
use crate::api::routes::Verb;
use crate::api::{admin, callbacks, merchant, open};
use crate::domain::payment::{Failover, PaymentStatus};
use crate::domain::pre_auth::PreAuthStatus;
use crate::domain::webhook::EndpointStatus;

fn document() -> Value {
    serde_json::from_str(&openapi_document()).unwrap()
}

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push((method.clone(), path.clone(), operation));
        }
    }
    operations
}

#[test]
fn the_document_has_exactly_the_routes() {
    let method = |verb: Verb| match verb {
        Verb::Get => "get",
        Verb::Post => "post",
        Verb::Put => "put",
        Verb::Patch => "patch",
        Verb::Delete => "delete",
    };
    let listed = [merchant::routes(), admin::routes(), open::routes(), callbacks::routes()];
    let routes: Vec<(String, String)> = listed
        .iter()
        .flat_map(|routes| routes.listed())
        .map(|(verb, path)| (String::from(method(*verb)), String::from(*path)))
        .collect();
    let routed: BTreeSet<_> = routes.iter().cloned().collect();
    assert_eq!(routes.len(), routed.len(), "a route is there twice");
    let document = document();
    let documented: BTreeSet<_> = operations(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
    assert_eq!(routed, documented);
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, inner) in fields {
                    match inner.as_str() {
                        Some(target) if name == "$ref" => {
                            found.insert(String::from(target));
                        }
                        _ => references(inner, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 10);
    for target in found {
        let pointer = target.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{target}");
    }
}

#[test]
fn every_operation_says_who_may_call_it_and_what_can_go_wrong() {
    let document = document();
    let mut codes = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let schemes = &operation["security"];
        let is_open = !path.starts_with("/api/v1/") && !path.starts_with("/admin/v1/") && path != "/metrics";
        assert_eq!(schemes.is_null(), is_open, "{method} {path}");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
        assert!(!operation["operationId"].is_null());
        for (status, response) in operation["responses"].as_object().unwrap() {
            let shared = response["$ref"].as_str().map(|target| target.trim_start_matches('#'));
            let response = shared.map_or(response, |pointer| document.pointer(pointer).unwrap());
            assert!(response["headers"].get("X-Request-Id").is_some(), "{method} {path} {status}");
            if status.starts_with(['4', '5']) {
                let content = &response["content"]["application/json"];
                let parts = &content["schema"]["allOf"];
                assert_eq!(parts[0]["$ref"], "#/components/schemas/Error", "{method} {path} {status}");
                let text = response["description"].as_str().unwrap();
                let named: Vec<&str> = Code::ALL
                    .iter()
                    .map(|code| code.as_str())
                    .filter(|code| text.contains(&format!("`{code}`")))
                    .collect();
                assert!(!named.is_empty(), "{method} {path} {status}");
                assert_eq!(
                    parts[1]["properties"]["code"]["enum"],
                    serde_json::json!(named),
                    "{method} {path} {status}"
                );
                for code in &named {
                    assert_eq!(content["examples"][code]["value"]["code"], *code, "{method} {path} {status}");
                }
                for code in Code::ALL.iter().filter(|code| text.contains(&format!("`{}`", code.as_str()))) {
                    assert_eq!(code.status().as_str(), status, "{method} {path} {text}");
                    codes.insert(*code);
                }
            }
        }
        if path.starts_with("/api/v1/") {
            assert_eq!(schemes[0].as_object().unwrap().len(), 4, "all signature headers together");
            assert!(operation["responses"].get("429").is_some());
        }
    }
    // A wrong method has no operation that could name it.
    let undocumented: Vec<_> = Code::ALL.into_iter().filter(|code| !codes.contains(code)).collect();
    assert_eq!(undocumented, [Code::MethodNotAllowed]);
}

#[test]
fn operation_ids_are_unique() {
    let document = document();
    let ids: Vec<&str> =
        operations(&document).iter().filter_map(|(_, _, operation)| operation["operationId"].as_str()).collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "{ids:?}");
}

#[test]
fn a_key_is_required_where_money_moves_by_number() {
    let document = document();
    for (method, path, operation) in operations(&document) {
        let parameters = operation["parameters"].as_array().unwrap();
        let key = parameters.iter().find(|parameter| parameter["name"] == "Idempotency-Key");
        assert_eq!(key.is_some(), method == "post" && path.starts_with("/api/v1/"), "{method} {path}");
        if let Some(key) = key {
            let is_own = path.contains("/payments/") || path.contains("/pre-auths/");
            let moves = ["/capture", "/cancel", "/refunds"].iter().any(|action| path.ends_with(action));
            assert_eq!(key["required"] == true, is_own && moves, "{path}");
        }
    }
}

#[test]
fn lists_of_values_are_those_of_the_code() {
    let document = document();
    let listed = |pointer: &str| {
        let values = document.pointer(&format!("{pointer}/enum")).unwrap_or_else(|| panic!("{pointer}"));
        values.as_array().unwrap().iter().filter_map(Value::as_str).map(String::from).collect::<BTreeSet<_>>()
    };
    let schema = |name: &str, field: &str| listed(&format!("/components/schemas/{name}/properties/{field}"));
    let payment: BTreeSet<_> = PaymentStatus::ALL.iter().map(|status| String::from(status.as_str())).collect();
    assert_eq!(schema("PaymentView", "status"), payment);
    let pre_auth: BTreeSet<_> = PreAuthStatus::ALL.iter().map(|status| String::from(status.as_str())).collect();
    assert_eq!(schema("PreAuthView", "status"), pre_auth);
    let endpoint: BTreeSet<_> = EndpointStatus::ALL.iter().map(|status| String::from(status.as_str())).collect();
    assert_eq!(schema("EndpointView", "status"), endpoint);
    let failover: BTreeSet<_> = Failover::ALL.iter().map(|reason| String::from(reason.as_str())).collect();
    assert_eq!(schema("FailoverView", "reason"), failover);
}

#[test]
fn objects_are_described_once() {
    let document = document();
    let data = &document["components"]["schemas"]["Envelope_PaymentView"]["properties"]["data"];
    assert_eq!(data["$ref"], "#/components/schemas/PaymentView");
    let rows =
        &document["components"]["schemas"]["Envelope_Listed_PaymentView"]["properties"]["data"]["properties"]["items"];
    assert_eq!(rows["items"]["$ref"], "#/components/schemas/PaymentView");
    // What is made of a closed object and more must let the more in.
    let rule = &document["components"]["schemas"]["SavedRuleView"];
    assert!(rule["properties"]["methods"].is_object() && rule["properties"]["findings"].is_object(), "{rule}");
    assert!(rule.get("additionalProperties").is_none() && rule.get("allOf").is_none());
}
