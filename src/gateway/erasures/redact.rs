//! Taking customers' data out of stored JSON, the order of its fields kept.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// An object whose fields stay in their order and, but for those that are changed, byte for byte as they are.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Fields {
    fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_ref())
    }

    fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// Sets a field that is there; says whether that changed it.
    fn set(&mut self, name: &str, value: &str) -> bool {
        let Some((_, known)) = self.0.iter_mut().find(|(known, _)| known == name) else { return false };
        if known.get() == value {
            return false;
        }
        let Ok(value) = RawValue::from_string(value.to_owned()) else { return false };
        *known = value;
        true
    }
}

/// The payment or pre-auth that an answer's body is about, if it is about one.
pub(super) fn number_in(body: &str) -> Option<String> {
    let envelope: Fields = serde_json::from_str(body).ok()?;
    let data: Fields = serde_json::from_str(envelope.get("data")?.get()).ok()?;
    data.text("payment_no").or_else(|| data.text("pre_auth_no"))
}

/// An answer's body without customers' data; `None` when there is none in it.
pub(super) fn redacted_answer(body: &str) -> Option<String> {
    let mut envelope: Fields = serde_json::from_str(body).ok()?;
    let mut data: Fields = serde_json::from_str(envelope.get("data")?.get()).ok()?;
    // A list, not a short circuit: all of them are set.
    let mut changed = [
        data.set("description", "null"),
        data.set("metadata", "{}"),
        data.set("client_secret", "null"),
        data.set("next_action", "null"),
    ]
    .contains(&true);
    // The merchant's own words about a refund; elsewhere a reason is the router's.
    if data.get("refund_no").is_some() {
        changed |= data.set("reason", "null");
    }
    if !changed {
        return None;
    }
    envelope.set("data", &serde_json::to_string(&data).ok()?);
    serde_json::to_string(&envelope).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYMENT: &str = r#"{"code":"SUCCESS","message":"Success","data":{"payment_no":"PY1","order_no":"O-1","amount":5,"client_secret":"s","next_action":{"type":"redirect","url":"https://x"},"routing":{"reason":"the only one"},"description":"for Ann","metadata":{"a":"b"},"paid_at":null}}"#;

    #[test]
    fn a_payments_answer_keeps_everything_else_in_its_place() {
        assert_eq!(number_in(PAYMENT).as_deref(), Some("PY1"));
        let redacted = redacted_answer(PAYMENT).unwrap();
        assert_eq!(
            redacted,
            r#"{"code":"SUCCESS","message":"Success","data":{"payment_no":"PY1","order_no":"O-1","amount":5,"client_secret":null,"next_action":null,"routing":{"reason":"the only one"},"description":null,"metadata":{},"paid_at":null}}"#
        );
        assert_eq!(redacted_answer(&redacted), None, "once is enough");
    }

    #[test]
    fn a_refunds_reason_goes_and_other_answers_stay() {
        let refund = r#"{"code":"SUCCESS","data":{"refund_no":"RF1","payment_no":"PY1","reason":"Ann was ill"}}"#;
        let redacted = r#"{"code":"SUCCESS","data":{"refund_no":"RF1","payment_no":"PY1","reason":null}}"#;
        assert_eq!(redacted_answer(refund).as_deref(), Some(redacted));
        for other in [r#"{"code":"CHANNEL_ERROR","payment_no":"PY1"}"#, r#"{"data":{"payment_no":"PY1"}}"#, "", "[]"] {
            assert_eq!(redacted_answer(other), None, "{other}");
        }
        assert_eq!(number_in("[]"), None);
    }

    #[test]
    fn what_belongs_to_a_pre_auth_is_found_and_redacted() {
        let refund = r#"{"code":"SUCCESS","data":{"refund_no":"RF1","pre_auth_no":"PA1","reason":"Ann was ill"}}"#;
        assert_eq!(number_in(refund).as_deref(), Some("PA1"));
        assert_eq!(
            redacted_answer(refund).as_deref(),
            Some(r#"{"code":"SUCCESS","data":{"refund_no":"RF1","pre_auth_no":"PA1","reason":null}}"#)
        );
        let named_by_channel = r#"{"code":"SUCCESS","data":{"channel":"stripe","pre_auth_no":"deposit-7","client_secret":"s","next_action":{"type":"redirect"},"status":"requires_action"}}"#;
        assert_eq!(
            redacted_answer(named_by_channel).as_deref(),
            Some(
                r#"{"code":"SUCCESS","data":{"channel":"stripe","pre_auth_no":"deposit-7","client_secret":null,"next_action":null,"status":"requires_action"}}"#
            )
        );
    }
}
