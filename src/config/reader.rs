//! Reads typed sections out of a TOML table. An own deserializer, small because serde does most of it, so that errors
//! carry the key's path and the known names as data and not as text.

use std::fmt;

use serde::Deserialize;
use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Error, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use toml::{Table, Value};

/// How far a name may be from a known one, from 0 (nothing in common) to 1 (equal), to be suggested.
const SIMILARITY_MIN: f64 = 0.7;

/// Why a table could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is no such key.
    Unknown {
        /// The path of the key, itself included.
        path: Vec<String>,
        /// The keys that there are.
        known: &'static [&'static str],
    },
    /// A value is missing or wrong.
    Wrong {
        /// The path of the value, or of the table that lacks one.
        path: Vec<String>,
        /// What is wrong.
        message: String,
    },
}

impl Fault {
    /// Where it is.
    pub(super) fn path(&self) -> &[String] {
        let (Self::Unknown { path, .. } | Self::Wrong { path, .. }) = self;
        path
    }

    /// What is wrong and what would be right, without the path.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Wrong { message, .. } => message.clone(),
            Self::Unknown { path, known } => {
                let name = path.last().map(String::as_str).unwrap_or_default();
                match nearest(name, known) {
                    Some(suggestion) => format!("is not a known key; did you mean `{suggestion}`?"),
                    None => format!("is not a known key; known here are {}", known.join(", ")),
                }
            }
        }
    }

    /// The same fault seen from the table or list around it.
    fn inside(mut self, segment: &str) -> Self {
        let (Self::Unknown { path, .. } | Self::Wrong { path, .. }) = &mut self;
        path.insert(0, String::from(segment));
        self
    }

    fn wrong(message: String) -> Self {
        Self::Wrong { path: Vec::new(), message }
    }
}

/// The known name that is most like `name`, if one is like it at all.
fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let similarity = |candidate: &str| strsim::jaro_winkler(name, candidate);
    let best = known.iter().max_by(|left, right| similarity(left).total_cmp(&similarity(right)))?;
    (similarity(best) >= SIMILARITY_MIN).then_some(best)
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", display_path(self.path()), self.message())
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::wrong(format!("is wrong: {message}"))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = plain(expected);
        // Texts may be secrets that stand in the wrong place, so they are not repeated.
        match unexpected {
            Unexpected::Str(_) => Self::wrong(format!("must be {expected}, not text")),
            Unexpected::Seq => Self::wrong(format!("must be {expected}, not a list")),
            Unexpected::Map => Self::wrong(format!("must be {expected}, not a table")),
            other => Self::wrong(format!("must be {expected}, not {other}")),
        }
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = plain(expected);
        match unexpected {
            Unexpected::Str(_) => Self::wrong(format!("must be {expected}")),
            other => Self::wrong(format!("must be {expected}, not {other}")),
        }
    }

    fn unknown_variant(_variant: &str, expected: &'static [&'static str]) -> Self {
        Self::wrong(format!("must be one of {}", expected.join(", ")))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::Unknown { path: vec![String::from(field)], known }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::wrong(format!("lacks `{field}`; add it"))
    }
}

/// What is wanted, in words for people who do not know Rust's types.
fn plain(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    let words = match text.as_str() {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        "i64" => "a whole number",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a string" => "text",
        "socket address" => "an address such as 127.0.0.1:8080",
        _ => return text,
    };
    String::from(words)
}

/// Reads a `T` out of a table.
///
/// # Errors
/// The first fault met.
pub(super) fn read<T: for<'de> Deserialize<'de>>(table: Table) -> Result<T, Fault> {
    T::deserialize(Node(Value::Table(table)))
}

/// `server.listen`, `rules[0].name`.
pub(super) fn display_path(path: &[String]) -> String {
    let mut text = String::new();
    for segment in path {
        if !text.is_empty() && !segment.starts_with('[') {
            text.push('.');
        }
        text.push_str(segment);
    }
    if text.is_empty() { String::from("(top level)") } else { text }
}

/// The segments of what [`display_path`] writes.
pub(super) fn path_of(text: &str) -> Vec<String> {
    text.replace('[', ".[").split('.').map(String::from).collect()
}

/// The number in a list's segment.
pub(super) fn index_of(segment: &str) -> Option<usize> {
    segment.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// A TOML value being read.
struct Node(Value);

impl<'de> IntoDeserializer<'de, Fault> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            Value::Integer(number) => visitor.visit_i64(number),
            Value::Float(number) => visitor.visit_f64(number),
            Value::Boolean(flag) => visitor.visit_bool(flag),
            Value::Datetime(datetime) => visitor.visit_string(datetime.to_string()),
            Value::Array(items) => visitor.visit_seq(Items { rest: items.into_iter(), index: 0 }),
            Value::Table(table) => visitor.visit_map(Entries { rest: table.into_iter(), pending: None }),
        }
    }

    /// Numbers are welcome where text is wanted (`percent = 2.9`): they are written as the shortest text that means
    /// the same.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Integer(number) => visitor.visit_string(number.to_string()),
            Value::Float(number) => visitor.visit_string(number.to_string()),
            other => Node(other).deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0 {
            Value::String(text) => {
                let variant: StringDeserializer<Fault> = text.into_deserializer();
                variant.deserialize_enum(name, variants, visitor)
            }
            _ => Err(Fault::wrong(format!("must be one of {}", variants.join(", ")))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple tuple_struct
        map struct identifier ignored_any
    }
}

/// A table's entries.
struct Entries {
    rest: toml::map::IntoIter<String, Value>,
    pending: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        let name: StringDeserializer<Fault> = key.clone().into_deserializer();
        let read = seed.deserialize(name).map_err(|fault| match fault {
            Fault::Wrong { message, .. } => Fault::Wrong { path: vec![key.clone()], message },
            unknown => unknown,
        })?;
        self.pending = Some((key, value));
        Ok(Some(read))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some((key, value)) = self.pending.take() else {
            return Err(Fault::wrong(String::from("has a value without a key")));
        };
        seed.deserialize(Node(value)).map_err(|fault| fault.inside(&key))
    }
}

/// A list's items.
struct Items {
    rest: std::vec::IntoIter<Value>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(value) = self.rest.next() else { return Ok(None) };
        let segment = format!("[{}]", self.index);
        self.index += 1;
        seed.deserialize(Node(value)).map(Some).map_err(|fault| fault.inside(&segment))
    }
}
