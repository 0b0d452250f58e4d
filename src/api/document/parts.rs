//! The document as it is served: whole, or the part that one listener answers.

use std::collections::{BTreeSet, VecDeque};
use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::Value;
use utoipa::openapi::OpenApi;

use crate::api::callbacks;
use crate::api::document::common::{Audience, audience};
use crate::api::document::openapi;
use crate::api::merchant::is_below;

/// What one listener answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What merchants may ask, and what anybody may.
    Merchants,
    /// What the operator may ask, and what anybody may.
    Operator,
}

impl Part {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Merchants, Self::Operator];

    /// Its name in a query.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Merchants => "merchants",
            Self::Operator => "operator",
        }
    }

    /// The part with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.as_str() == name)
    }

    /// Whether its listener answers this path.
    fn answers(self, path: &str) -> bool {
        match (self, audience(path)) {
            (Self::Merchants, Audience::Operator) | (Self::Operator, Audience::Merchant) => false,
            (Self::Operator, Audience::Anybody) => !is_below(callbacks::PREFIX, path),
            _ => true,
        }
    }
}

/// The OpenAPI document of both listeners, as JSON.
pub fn openapi_document() -> String {
    written(&openapi())
}

/// The OpenAPI document of what one listener answers, as JSON.
pub fn openapi_document_of(part: Part) -> String {
    let mut document = openapi();
    document.paths.paths.retain(|path, _| part.answers(path));
    drop_unused(&mut document);
    written(&document)
}

fn written(document: &OpenApi) -> String {
    // It is plain data; that it can be written is tested.
    document.to_pretty_json().unwrap_or_default()
}

/// Removes tags, ways to say who one is, schemas and responses that nothing in the document refers to.
fn drop_unused(document: &mut OpenApi) {
    let Some(mut components) = document.components.take() else { return };
    let paths = serde_json::to_value(&document.paths).unwrap_or_default();
    let all = serde_json::to_value(&components).unwrap_or_default();
    let mut used = BTreeSet::new();
    let mut waiting = VecDeque::from([&paths]);
    while let Some(next) = waiting.pop_front() {
        for target in references(next) {
            if used.insert(target)
                && let Some(component) = target.strip_prefix("#/components").and_then(|rest| all.pointer(rest))
            {
                waiting.push_back(component);
            }
        }
    }
    components.schemas.retain(|name, _| used.contains(format!("#/components/schemas/{name}").as_str()));
    components.responses.retain(|name, _| used.contains(format!("#/components/responses/{name}").as_str()));
    let (mut schemes, mut tags) = (BTreeSet::new(), BTreeSet::new());
    for operation in paths.as_object().into_iter().flatten().flat_map(|(_, item)| item.as_object()).flatten() {
        let list = |field: &str| operation.1[field].as_array().into_iter().flatten();
        schemes.extend(list("security").flat_map(|one| one.as_object()).flatten().map(|(name, _)| name.as_str()));
        tags.extend(list("tags").filter_map(Value::as_str));
    }
    components.security_schemes.retain(|name, _| schemes.contains(name.as_str()));
    if let Some(described) = &mut document.tags {
        described.retain(|tag| tags.contains(tag.name.as_str()));
    }
    document.components = Some(components);
}

/// All targets of references in a value.
fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, inner)| match inner.as_str() {
                Some(target) if name == "$ref" => vec![target],
                _ => references(inner),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// The documents, each made when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    whole: OnceLock<Bytes>,
    merchants: OnceLock<Bytes>,
    operator: OnceLock<Bytes>,
}

impl Documents {
    /// A part, or the whole.
    pub(crate) fn get(&self, part: Option<Part>) -> Bytes {
        let kept = match part {
            None => &self.whole,
            Some(Part::Merchants) => &self.merchants,
            Some(Part::Operator) => &self.operator,
        };
        let made = || Bytes::from(part.map_or_else(openapi_document, openapi_document_of));
        kept.get_or_init(made).clone()
    }
}
