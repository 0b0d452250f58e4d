//! What a field must be, in words for whoever sent it, from what the parser says of it.

/// What a field must be that is one of some names, where the parser does not say which there are.
pub(crate) const NAME_WISHED: &str = "must be a string that is one of its documented values";

/// What the field must be, from a message of the form `invalid type: …, expected …`. The part in front repeats what was sent
/// and is left out.
pub(crate) fn wish(text: &str) -> String {
    let wished = match text.rfind(", expected ") {
        Some(start) => text[start + ", expected ".len()..].trim(),
        // A check of ours that says it in its own words.
        None => return String::from(text),
    };
    let words = match wished {
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "u8" | "u16" => "a small whole number, not negative",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, not negative",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        // An enum of ours is one of its names.
        "unit" | "map with a single key" | "string or map" => return String::from(NAME_WISHED),
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("must be {words}")
}

/// The name that a message of the form ``unknown field `…` `` is about.
pub(crate) fn named<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.strip_prefix(start).and_then(|rest| rest.split('`').next())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::merchant::MerchantStatus;

    #[test]
    fn what_must_be_a_name_is_not_told_in_the_parser_s_words() {
        for value in [json!(5), json!([]), json!({}), json!({ "active": 1 }), json!({ "active": 1, "suspended": 2 })] {
            let refused = serde_json::from_value::<MerchantStatus>(value.clone()).unwrap_err();
            assert_eq!(wish(&refused.to_string()), NAME_WISHED, "{value}");
        }
    }
}
