//! What values look like: which ones there are, patterns, lengths and bounds, found by what a value is called, so that the
//! same thing is described in the same way wherever it stands.

use serde_json::Value;
use utoipa::Modify;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::schema::{AdditionalProperties, KnownFormat, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{Object, OpenApi, RefOr};

use crate::api::document::common::for_each_operation;
use crate::gateway::page::{LIMIT_DEFAULT, LIMIT_MAX};

/// What a text looks like.
#[derive(Clone, Copy)]
enum Form {
    /// A pattern, and an example of it.
    Pattern(&'static str, &'static str),
    /// RFC 3339.
    Moment,
    /// From so many to so many characters.
    Length(usize, usize),
}

use Form::{Length, Moment, Pattern};

const OWN_NUMBER: Form = Pattern("^[A-Za-z0-9_-]{1,64}$", "PA20250124104000abcdefgh");
const ORDER_NO: Form = Pattern("^[A-Za-z0-9_.-]{1,64}$", "ORDER-12345");
const CURRENCY: Form = Pattern("^[A-Z]{3}$", "USD");
const COUNTRY: Form = Pattern("^[A-Z]{2}$", "US");
const METHOD: Form = Pattern("^[a-z0-9_]{1,32}$", "card");
const TOKEN: Form = Pattern("^[!-~]{1,255}$", "tok_visa");
const REASON: Form = Length(0, 255);
/// As [`crate::gateway::reconciliation::Period::read`] takes them.
const DAY_OR_MOMENT: &str = "^(19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])\
    ([Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))?$";
/// Of lists: RFC 3339, or empty, which is as if it were not there.
const MOMENT_OR_NONE: &str = "^([0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])\
    [Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))?$";
const CURSOR: Form = Pattern("^[0-9a-f]*$", "30303030303030303030303030303031");

/// Values that look the same wherever they are answered.
const ANSWERED: [(&str, Form); 14] = [
    ("payment_no", Pattern("^PY[0-9]{14}[0-9a-z]{8}$", "PY20250124104000abcdefgh")),
    ("refund_no", Pattern("^RF[0-9]{14}[0-9a-z]{8}$", "RF20250124104000abcdefgh")),
    ("pre_auth_no", OWN_NUMBER),
    ("order_no", ORDER_NO),
    ("currency", CURRENCY),
    ("country", COUNTRY),
    ("method", METHOD),
    ("merchant_id", Pattern("^m_[0-9a-z]{19}$", "m_0m6a1b2c3d4e5f6g7h8")),
    ("endpoint_id", Pattern("^we_[0-9a-z]{19}$", "we_0m6a1b2c3d4e5f6g7h8")),
    ("erasure_id", Pattern("^er_[0-9a-z]{19}$", "er_0m6a1b2c3d4e5f6g7h8")),
    ("job_id", Pattern("^wj_[0-9a-z]{19}$", "wj_0m6a1b2c3d4e5f6g7h8")),
    ("request_id", Pattern("^[A-Za-z0-9_.:-]{1,64}$", "req_5f0c1d2e3a4b5c6d7e8f9a0b")),
    ("next_cursor", CURSOR),
    ("client_secret", Length(1, 4096)),
];

/// Values of single objects: of requests as the gateway checks them, and of answers where their names say too little.
const OWN: [(&str, &str, Form); 46] = [
    ("CreatePayment", "order_no", ORDER_NO),
    ("CreatePayment", "currency", CURRENCY),
    ("CreatePayment", "country", COUNTRY),
    ("CreatePayment", "card_country", COUNTRY),
    ("CreatePayment", "method", METHOD),
    ("CreatePayment", "payment_token", TOKEN),
    ("CreatePayment", "customer_email", Length(3, 254)),
    ("CreatePayment", "description", Length(0, 255)),
    ("CreatePayment", "return_url", Pattern("^[Hh][Tt][Tt][Pp][Ss]?:.{1,2043}$", "https://shop.example/thanks")),
    ("CreateChannelPreAuth", "pre_auth_no", OWN_NUMBER),
    ("CreateChannelPreAuth", "order_no", ORDER_NO),
    ("CreateChannelPreAuth", "currency", CURRENCY),
    ("CreateChannelPreAuth", "payment_token", TOKEN),
    ("CreateChannelPreAuth", "customer_email", Length(3, 254)),
    ("CreateChannelPreAuth", "description", Length(0, 255)),
    ("CaptureChannelPreAuth", "currency", CURRENCY),
    ("CancelChannelPreAuth", "reason", REASON),
    ("CancelPreAuth", "reason", REASON),
    ("CreateRefund", "reason", REASON),
    ("Recover", "since", Moment),
    ("ManyNotifications", "from", Moment),
    ("ManyNotifications", "to", Moment),
    ("CreateEndpoint", "url", Length(8, 2048)),
    ("CreateEndpoint", "description", Length(0, 500)),
    ("UpdateEndpoint", "url", Length(8, 2048)),
    ("UpdateEndpoint", "description", Length(0, 500)),
    ("CreateMerchant", "name", Length(1, 100)),
    ("CreateMerchant", "country", COUNTRY),
    ("UpdateMerchant", "name", Length(1, 100)),
    ("UpdateMerchant", "country", COUNTRY),
    ("RuleConfig", "name", Length(1, 100)),
    ("RuleConfig", "from", Pattern("^[0-9]{2}:[0-9]{2}$", "22:00")),
    ("RuleConfig", "until", Pattern("^[0-9]{2}:[0-9]{2}$", "06:00")),
    ("ResolvePreAuthByHand", "expires_at", Moment),
    ("EndpointView", "id", Pattern("^we_[0-9a-z]{19}$", "we_0m6a1b2c3d4e5f6g7h8")),
    ("NotificationView", "id", Pattern("^wn_[0-9a-z]{19}$", "wn_0m6a1b2c3d4e5f6g7h8")),
    ("EventView", "id", Pattern("^ev_[0-9a-z]{19}$", "ev_0m6a1b2c3d4e5f6g7h8")),
    ("JobView", "id", Pattern("^wj_[0-9a-z]{19}$", "wj_0m6a1b2c3d4e5f6g7h8")),
    ("NewKeyView", "id", Pattern("^ak_[0-9a-z]{16}$", "ak_0m6a1b2c3d4e5f6g")),
    ("NewKeyView", "secret", Pattern("^sk_[!-~]+$", "sk_0m6a1b2c3d4e5f6g7h8i9j0k")),
    ("NewSecretView", "secret", Pattern("^whsec_[A-Za-z0-9+/]+=*$", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")),
    ("DayView", "date", Pattern("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "2025-01-24")),
    ("CostRowView", "day", Pattern("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "2025-01-24")),
    ("TryView", "at", Moment),
    ("AuditEntryView", "at", Moment),
    ("LedgerEntry", "at", Moment),
];

/// Objects that come from clients, or repeat what came from them: what they hold need not be of the form that answers have.
const REQUESTS: [&str; 4] = ["ManyNotifications", "CheckLimits", "JobFilterView", "Error"];
const REQUEST_PREFIXES: [&str; 6] = ["Create", "Update", "Capture", "Cancel", "Erase", "Begin"];

/// Integers of requests and the bounds within which the gateway takes them.
const BOUNDS: [(&str, &str, i64, i64); 15] = [
    ("CreatePayment", "amount", 1, 999_999_999_999),
    ("CreateChannelPreAuth", "amount", 1, 999_999_999_999),
    ("CaptureChannelPreAuth", "amount", 1, i64::MAX),
    ("CapturePreAuth", "amount", 1, i64::MAX),
    ("CreateRefund", "amount", 1, i64::MAX),
    ("CreateEndpoint", "max_attempts", 1, 100),
    ("CreateEndpoint", "initial_backoff_s", 1, 3_600),
    ("CreateEndpoint", "max_backoff_s", 1, 604_800),
    ("CreateEndpoint", "jitter_percent", 0, 50),
    ("CreateEndpoint", "timeout_s", 1, i64::MAX),
    ("UpdateEndpoint", "max_attempts", 1, 100),
    ("UpdateEndpoint", "initial_backoff_s", 1, 3_600),
    ("UpdateEndpoint", "max_backoff_s", 1, 604_800),
    ("UpdateEndpoint", "jitter_percent", 0, 50),
    ("UpdateEndpoint", "timeout_s", 1, i64::MAX),
];

/// Gives every value its form.
pub(super) struct Forms;

impl Modify for Forms {
    fn modify(&self, openapi: &mut OpenApi) {
        if let Some(components) = &mut openapi.components {
            for (name, schema) in &mut components.schemas {
                if let RefOr::T(schema) = schema {
                    shape(name, schema);
                }
            }
        }
        for_each_operation(openapi, |path, _, operation| shape_parameters(path, operation));
    }
}

fn shape(name: &str, schema: &mut Schema) {
    match schema {
        Schema::Object(object) => {
            for (field, value) in &mut object.properties {
                if let RefOr::T(Schema::Object(value)) = value {
                    shape_value(name, field, value);
                }
            }
        }
        Schema::AllOf(parts) => {
            for part in &mut parts.items {
                if let RefOr::T(part) = part {
                    shape(name, part);
                }
            }
        }
        _ => {}
    }
}

fn shape_value(owner: &str, field: &str, value: &mut Object) {
    if has_type(value, &Type::Integer) {
        let bounds = BOUNDS.iter().find(|(schema, name, ..)| (*schema, *name) == (owner, field));
        if let Some((_, _, least, most)) = bounds {
            value.minimum = Some(utoipa::Number::Int(isize::try_from(*least).unwrap_or(0)));
            value.maximum = (*most < i64::MAX).then(|| utoipa::Number::Int(isize::try_from(*most).unwrap_or(0)));
        }
    }
    if !has_type(value, &Type::String) {
        return;
    }
    let own = OWN.iter().find(|(schema, name, _)| (*schema, *name) == (owner, field)).map(|(.., form)| *form);
    let is_request = REQUESTS.contains(&owner) || REQUEST_PREFIXES.iter().any(|prefix| owner.starts_with(prefix));
    let usual = || {
        let by_name = ANSWERED.iter().find(|(name, _)| *name == field).map(|(_, form)| *form);
        by_name.or_else(|| field.ends_with("_at").then_some(Moment))
    };
    match own.or_else(|| if is_request { None } else { usual() }) {
        Some(form) => apply(form, value),
        None => list_values(value),
    }
}

fn has_type(value: &Object, wanted: &Type) -> bool {
    match &value.schema_type {
        SchemaType::Type(known) => known == wanted,
        SchemaType::Array(known) => known.contains(wanted),
        SchemaType::AnyValue => false,
    }
}

fn apply(form: Form, value: &mut Object) {
    match form {
        Pattern(pattern, example) => {
            value.pattern = Some(String::from(pattern));
            value.example.get_or_insert_with(|| Value::from(example));
        }
        Moment => {
            value.format = Some(SchemaFormat::KnownFormat(KnownFormat::DateTime));
            value.example.get_or_insert_with(|| Value::from("2025-01-24T10:30:45Z"));
        }
        Length(least, most) => {
            value.min_length = Some(least).filter(|least| *least > 0);
            value.max_length = Some(most);
        }
    }
}

/// Where a description is nothing but the values that there are, they are the only ones.
fn list_values(value: &mut Object) {
    let Some(mut values) = value.description.as_deref().and_then(only_values) else { return };
    if has_type(value, &Type::Null) {
        values.push(Value::Null);
    }
    value.enum_values = Some(values);
}

/// The values in "`a`, `b` or `c`.", also behind a few words and a colon; nothing where there is more to read.
fn only_values(description: &str) -> Option<Vec<Value>> {
    let list = match description.split_once(": `") {
        Some((words, _)) if words.contains('`') => return None,
        Some((words, _)) => description.get(words.len() + 2..)?,
        None => description,
    };
    let list = list.strip_suffix('.').unwrap_or(list).replace('\n', " ");
    let names = list.split(", ").flat_map(|part| part.split(" or "));
    names
        .map(|name| {
            let name = name.strip_prefix('`')?.strip_suffix('`')?;
            let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            (is_name && !name.is_empty()).then(|| Value::from(name))
        })
        .collect()
}

fn shape_parameters(path: &str, operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let description = parameter.description.clone();
        let is_query = parameter.parameter_in == ParameterIn::Query;
        let form = if is_query { query_form(path, parameter) } else { path_form(path, parameter) };
        // A parameter that is there has a value: it is never null.
        let Some(RefOr::T(Schema::Object(value))) = &mut parameter.schema else { continue };
        if let SchemaType::Array(types) = &value.schema_type
            && let Some(known) = types.iter().find(|known| **known != Type::Null)
        {
            value.schema_type = SchemaType::Type(known.clone());
        }
        if is_query && parameter.name == "limit" {
            value.minimum = Some(utoipa::Number::Int(1));
            value.maximum = isize::try_from(LIMIT_MAX).ok().map(utoipa::Number::Int);
            value.default = Some(Value::from(LIMIT_DEFAULT));
        }
        match form {
            // Tools fill in what they find as an example, and a place in a list that nobody was given leads nowhere.
            Some(Pattern(pattern, _)) if is_query => value.pattern = Some(String::from(pattern)),
            Some(form) => apply(form, value),
            None if is_query => value.enum_values = description.as_deref().and_then(only_values),
            None => {}
        }
    }
}

fn query_form(path: &str, parameter: &Parameter) -> Option<Form> {
    match parameter.name.as_str() {
        "cursor" => Some(CURSOR),
        "from" | "to" if path.contains("/exports/") => Some(Pattern(DAY_OR_MOMENT, "")),
        // Costs take a day, too, and say so.
        "from" | "to" if !path.ends_with("/costs") => Some(Pattern(MOMENT_OR_NONE, "")),
        _ => None,
    }
}

/// Numbers and ids in paths. Anything else is not found, so that a pattern only says which can be.
fn path_form(path: &str, parameter: &Parameter) -> Option<Form> {
    if parameter.parameter_in != ParameterIn::Path {
        return None;
    }
    match parameter.name.as_str() {
        "key_id" => Some(Pattern("^ak_[0-9a-z]{16}$", "ak_0m6a1b2c3d4e5f6g")),
        "notification_id" => Some(Pattern("^wn_[0-9a-z]{19}$", "wn_0m6a1b2c3d4e5f6g7h8")),
        "id" if path.contains("/rules/") => Some(Length(1, 100)),
        "name" | "channel" => Some(Pattern("^[a-z0-9_-]{1,64}$", "stripe")),
        name => ANSWERED.iter().find(|(known, _)| *known == name).map(|(_, form)| *form),
    }
}

/// Whether a schema lets in what it does not name.
pub(super) fn is_closed(object: &Object) -> bool {
    matches!(object.additional_properties.as_deref(), Some(AdditionalProperties::FreeForm(false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_is_read_and_prose_is_not() {
        let names = |text: &str| only_values(text).map(|values| serde_json::to_string(&values).unwrap());
        assert_eq!(names("`a`, `b_2` or `c`.").as_deref(), Some(r#"["a","b_2","c"]"#));
        assert_eq!(names("What came of it: `a` or `b`.").as_deref(), Some(r#"["a","b"]"#));
        assert_eq!(names("`redirect`.").as_deref(), Some(r#"["redirect"]"#));
        for prose in
            ["", "Its id.", "`a`, `b` (odd) or `c`.", "With `X`: `a` or `b`.", "`a`, or what else.", "`whsec_…`."]
        {
            assert_eq!(names(prose), None, "{prose}");
        }
    }
}
