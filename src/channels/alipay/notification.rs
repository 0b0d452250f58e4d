//! What Alipay sends of its own accord: forms, signed over their decoded fields.

use crate::channels::alipay::AlipayChannel;
use crate::channels::alipay::charge::PASSBACK_SEPARATOR;
use crate::channels::{Inbound, Notification, NotificationRefusal, Subject};

/// Longest id of a notification.
const ID_BYTES_MAX: usize = 128;
/// Most fields of a notification; Alipay sends about thirty.
const FIELDS_MAX: usize = 200;

/// The fields of a notification in their order, decoded.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn read(body: &[u8]) -> Result<Self, NotificationRefusal> {
        let mut fields: Vec<(String, String)> = url::form_urlencoded::parse(body)
            .take(FIELDS_MAX + 1)
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        if fields.len() > FIELDS_MAX {
            return Err(NotificationRefusal::Malformed("it has too many fields"));
        }
        fields.sort_unstable();
        // Which of two counts would be anybody's guess.
        if fields.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(NotificationRefusal::Malformed("a field stands in it twice"));
        }
        Ok(Self(fields))
    }

    /// A field that is there and not empty.
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn owned(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// The text under the signature: everything but the fields in `without`.
    fn signed_text(&self, without: &[&str]) -> String {
        let signed = self.0.iter().filter(|(name, _)| !without.contains(&name.as_str()));
        let lines: Vec<String> = signed.map(|(name, value)| format!("{name}={value}")).collect();
        lines.join("&")
    }
}

impl AlipayChannel {
    pub(super) fn read_notification(&self, inbound: &Inbound) -> Result<Notification, NotificationRefusal> {
        let fields = Fields::read(&inbound.body)?;
        let signature = fields.get("sign").ok_or(NotificationRefusal::Signature("it has none"))?;
        // Alipay leaves the kind of signature out of what it signs; some of its products do not.
        let is_signed = [&["sign", "sign_type"][..], &["sign"][..]]
            .into_iter()
            .any(|without| self.client.is_signed(&fields.signed_text(without), signature));
        if !is_signed {
            return Err(NotificationRefusal::Signature("it does not fit"));
        }
        if fields.get("app_id").or_else(|| fields.get("auth_app_id")) != Some(self.client.app_id()) {
            return Err(NotificationRefusal::WrongAccount);
        }
        let sellers = [fields.get("seller_id"), fields.get("payee_user_id")];
        if let Some(ours) = &self.seller_id
            && sellers.into_iter().flatten().any(|seller| seller != ours)
        {
            return Err(NotificationRefusal::WrongAccount);
        }
        let id = fields.owned("notify_id").filter(|id| id.len() <= ID_BYTES_MAX);
        let id = id.ok_or(NotificationRefusal::Malformed("it has no usable notify_id"))?;
        let event = fields.get("notify_type").ok_or(NotificationRefusal::Malformed("it has no notify_type"))?;
        let event: String = event.chars().take(ID_BYTES_MAX).collect();
        let subjects = subject_of(&event, &fields).into_iter().collect();
        Ok(Notification { id, event, subjects, dispute: None })
    }
}

/// What a notification is about; `None` when it is of no interest.
fn subject_of(event: &str, fields: &Fields) -> Option<Subject> {
    let subject = match event {
        "trade_status_sync" => {
            let sent_back = fields.get("passback_params").and_then(|text| text.split_once(PASSBACK_SEPARATOR));
            Subject {
                reference: sent_back.map(|(reference, _)| reference.to_owned()),
                merchant_id: sent_back.map(|(_, merchant_id)| merchant_id.to_owned()),
                provider_key: fields.owned("out_trade_no"),
                provider_no: fields.owned("trade_no"),
            }
        }
        event if event.starts_with("fund_auth_") => Subject {
            provider_key: fields.owned("out_order_no"),
            provider_no: fields.owned("auth_no"),
            ..Subject::default()
        },
        _ => return None,
    };
    Some(subject).filter(|subject| subject.provider_key.is_some() || subject.provider_no.is_some())
}
