//! Compares a value with a schema of an OpenAPI document, as far as ours go.

use serde_json::Value;

/// What the value breaks of the schema; references are looked up in the document.
pub fn violations(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(document, schema, value, "", &mut found);
    undescribed(document, schema, value, "", &mut found);
    found
}

/// What of an object's fields no part of its schema tells of, although it tells of some. JSON Schema lets them pass; a document
/// that forgets a field is not true all the same.
fn undescribed(document: &Value, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                let known: Vec<&Value> =
                    parts(document, schema).into_iter().filter_map(|part| part["properties"].get(name)).collect();
                let place = format!("{place}/{name}");
                match known.first() {
                    Some(described) => undescribed(document, described, inner, &place, found),
                    None if is_open(document, schema) => {}
                    None => found.push(format!("{place} is not described")),
                }
            }
        }
        Value::Array(items) => {
            let described = parts(document, schema).into_iter().find_map(|part| part.get("items"));
            for (number, item) in items.iter().enumerate() {
                let Some(described) = described else { return };
                undescribed(document, described, item, &format!("{place}/{number}"), found);
            }
        }
        _ => {}
    }
}

/// Whether an object of this schema may have fields of any name: it says so, or tells of none.
fn is_open(document: &Value, schema: &Value) -> bool {
    let parts = parts(document, schema);
    let is_said =
        |part: &&Value| matches!(part.get("additionalProperties"), Some(Value::Object(_) | Value::Bool(true)));
    parts.iter().any(is_said) || parts.iter().all(|part| part.get("properties").is_none())
}

/// A schema and all that it is put together from.
fn parts<'a>(document: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let mut all = vec![schema];
    if let Some(target) = schema["$ref"].as_str() {
        all.extend(document.pointer(target.trim_start_matches('#')).into_iter().flat_map(|part| parts(document, part)));
    }
    for kind in ["allOf", "oneOf", "anyOf"] {
        all.extend(schema[kind].as_array().into_iter().flatten().flat_map(|part| parts(document, part)));
    }
    all
}

fn compare(document: &Value, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    if let Some(target) = schema["$ref"].as_str() {
        let referred =
            document.pointer(target.trim_start_matches('#')).unwrap_or_else(|| panic!("{target} is nowhere"));
        compare(document, referred, value, place, found);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        compare(document, part, value, place, found);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fitting = choices.iter().filter(|choice| violations(document, choice, value).is_empty()).count();
        if fitting != 1 {
            found.push(format!("{place}: {fitting} of {} choices fit {value}", choices.len()));
        }
    }
    if !has_type(schema, value) {
        found.push(format!("{place}: {value} is not of type {}", schema["type"]));
        return;
    }
    if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
        found.push(format!("{place}: {value} is none of {}", schema["enum"]));
    }
    match value {
        Value::Object(fields) => {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    found.push(format!("{place}/{name} is missing"));
                }
            }
            for (name, inner) in fields {
                let place = format!("{place}/{name}");
                match (schema["properties"].get(name), schema.get("additionalProperties")) {
                    (Some(known), _) => compare(document, known, inner, &place, found),
                    (None, Some(Value::Bool(false))) => found.push(format!("{place} is not described")),
                    (None, Some(Value::Object(other))) => {
                        compare(document, &Value::Object(other.clone()), inner, &place, found);
                    }
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            for (place_within, item) in items.iter().enumerate() {
                compare(document, &schema["items"], item, &format!("{place}/{place_within}"), found);
            }
        }
        Value::String(text) => {
            let length = text.chars().count() as u64;
            let is_short = schema["minLength"].as_u64().is_some_and(|least| length < least);
            if is_short || schema["maxLength"].as_u64().is_some_and(|most| length > most) {
                found.push(format!("{place}: {length} characters"));
            }
            if schema["format"] == "date-time" && tollgate::domain::time::Timestamp::parse_rfc3339(text).is_none() {
                found.push(format!("{place}: {text:?} is no time"));
            }
            if let Some(pattern) = schema["pattern"].as_str()
                && !begins_like(pattern, text)
            {
                found.push(format!("{place}: {text:?} does not begin like {pattern}"));
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            let is_small = schema["minimum"].as_f64().is_some_and(|least| number < least);
            if is_small || schema["maximum"].as_f64().is_some_and(|most| number > most) {
                found.push(format!("{place}: {number} is out of bounds"));
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}

fn has_type(schema: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("{other} is no type"),
    };
    match &schema["type"] {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

/// Whether a text begins with the letters that stand before anything else in a pattern. The whole pattern is for the tools
/// that check the document from outside.
fn begins_like(pattern: &str, text: &str) -> bool {
    let letters: String = pattern
        .trim_start_matches('^')
        .chars()
        .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
        .collect();
    // A letter before a quantifier may be absent.
    let rest = pattern.trim_start_matches('^').get(letters.len()..).unwrap_or_default();
    rest.starts_with(['*', '?', '{']) || text.starts_with(&letters)
}
