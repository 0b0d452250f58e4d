//! What is made shorter and more exact in the document that the handlers' types give: an object is described once and then
//! referred to, objects that are made of others are one object, and every error says which codes it can have, with the body
//! that goes with each.

use std::collections::BTreeMap;

use utoipa::Modify;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::response::Response;
use utoipa::openapi::schema::{AllOf, AllOfBuilder, Array, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Components, Content, Object, OpenApi, Ref, RefOr};

use crate::api::codes::Code;
use crate::api::document::common::{ERROR_SCHEMA, for_each_operation};
use crate::api::document::forms::is_closed;
use crate::api::document::samples::body_of;

/// How the names of envelopes begin.
const ENVELOPE: &str = "Envelope_";
/// Objects of which a request may give any part: what they are called, what the part is called, and what it is.
const CHANGES: [(&str, &str, &str); 2] = [
    ("PlacedRule", "ChangedRule", "The fields of a rule that change; `null` takes one away."),
    ("Faults", "ChangedFaults", "The faults that change."),
];
/// Objects inside objects that are looked into at most.
const DEPTH_MAX: usize = 4;

/// Describes each object once.
pub(super) struct OnceEach;

impl Modify for OnceEach {
    fn modify(&self, openapi: &mut OpenApi) {
        let Some(components) = &mut openapi.components else { return };
        let known = components.schemas.clone();
        for (name, schema) in &mut components.schemas {
            if let (true, RefOr::T(Schema::Object(envelope))) = (name.starts_with(ENVELOPE), &mut *schema) {
                for inner in envelope.properties.values_mut() {
                    refer(inner, &known, DEPTH_MAX);
                }
            }
            if let RefOr::T(Schema::AllOf(parts)) = schema
                && let Some(object) = joined(parts, &known, DEPTH_MAX)
            {
                *schema = RefOr::T(Schema::Object(object));
            }
        }
        for (whole, changes, description) in CHANGES {
            if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get(whole) {
                let changed = RefOr::T(Schema::Object(changed(object, description)));
                components.schemas.insert(String::from(changes), changed);
            }
        }
    }
}

/// What changes an object: any of its fields, and null for each of them where that takes it away.
fn changed(whole: &Object, description: &str) -> Object {
    let mut changes = whole.clone();
    changes.required.clear();
    changes.description = Some(String::from(description));
    if !description.contains("`null`") {
        return changes;
    }
    for value in changes.properties.values_mut() {
        if let RefOr::T(Schema::Object(Object { schema_type, .. }) | Schema::Array(Array { schema_type, .. })) = value
            && let SchemaType::Type(known) = schema_type
        {
            *schema_type = SchemaType::Array(vec![known.clone(), Type::Null]);
        }
    }
    changes
}

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// Puts a reference in the place of a schema that is a known one, or looks for such inside it.
fn refer(schema: &mut RefOr<Schema>, known: &Schemas, depth: usize) {
    let RefOr::T(own) = &*schema else { return };
    let is_worth_it = match own {
        Schema::Object(object) => !object.properties.is_empty(),
        Schema::AllOf(_) => true,
        _ => false,
    };
    let name = known.iter().find(|(name, other)| is_worth_it && !name.starts_with(ENVELOPE) && **other == *schema);
    if let Some((name, _)) = name {
        *schema = RefOr::Ref(Ref::from_schema_name(name));
        return;
    }
    let Some(depth) = depth.checked_sub(1) else { return };
    match schema {
        RefOr::T(Schema::Object(object)) => object.properties.values_mut().for_each(|inner| refer(inner, known, depth)),
        RefOr::T(Schema::Array(array)) => {
            if let utoipa::openapi::schema::ArrayItems::RefOrSchema(items) = &mut array.items {
                refer(items, known, depth);
            }
        }
        _ => {}
    }
}

/// The one object that all parts make. Only so can one of them refuse what it does not name: taken by itself it would refuse
/// the fields of the others.
fn joined(parts: &AllOf, known: &Schemas, depth: usize) -> Option<Object> {
    let depth = depth.checked_sub(1)?;
    let mut whole = Object::with_type(Type::Object);
    whole.description.clone_from(&parts.description);
    for part in &parts.items {
        let schema = match part {
            RefOr::Ref(reference) => known.get(reference.ref_location.strip_prefix("#/components/schemas/")?)?,
            own => own,
        };
        let object = match schema {
            RefOr::T(Schema::Object(object)) => object.clone(),
            RefOr::T(Schema::AllOf(inner)) => joined(inner, known, depth)?,
            _ => return None,
        };
        if !is_closed(&object) && object.additional_properties.is_some() {
            return None;
        }
        whole.properties.extend(object.properties);
        whole.required.extend(object.required);
    }
    Some(whole)
}

/// Says with every error which codes it can have, and shows a body for each.
pub(super) struct ErrorBodies;

impl Modify for ErrorBodies {
    fn modify(&self, openapi: &mut OpenApi) {
        if let Some(Components { responses, .. }) = &mut openapi.components {
            responses.values_mut().for_each(describe);
        }
        for_each_operation(openapi, |_, _, operation| {
            operation.responses.responses.values_mut().for_each(describe);
        });
    }
}

fn describe(response: &mut RefOr<Response>) {
    let RefOr::T(response) = response else { return };
    let codes: Vec<Code> = Code::ALL.into_iter().filter(|code| is_named(*code, &response.description)).collect();
    if codes.is_empty() {
        return;
    }
    let names = codes.iter().map(|code| code.as_str());
    let narrowed =
        ObjectBuilder::new().property("code", ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)));
    let schema = AllOfBuilder::new().item(Ref::from_schema_name(ERROR_SCHEMA)).item(narrowed);
    let mut content = Content::new(Some(schema));
    for code in codes {
        let example = ExampleBuilder::new().value(Some(body_of(code))).build();
        content.examples.insert(String::from(code.as_str()), RefOr::T(example));
    }
    response.content.insert(String::from("application/json"), content);
}

fn is_named(code: Code, description: &str) -> bool {
    description.contains(&format!("`{}`", code.as_str()))
}
