//! What a field must be, in words for whoever sent it, from what the parser says of it.

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
        "map with a single key" | "string or map" => "a string that is one of its documented values",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("must be {words}")
}

/// The name that a message of the form ``unknown field `…` `` is about.
pub(crate) fn named<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.strip_prefix(start).and_then(|rest| rest.split('`').next())
}
