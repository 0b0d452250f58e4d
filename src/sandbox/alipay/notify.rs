//! What the Alipay emulator sends of its own accord.

use bytes::Bytes;

use crate::domain::time::Timestamp;
use crate::sandbox::alipay::beijing_time;
use crate::sandbox::alipay::rsa2::{Signer, signed_text};
use crate::sandbox::credentials::ALIPAY_APP_ID;
use crate::sandbox::ledger::LedgerEntry;
use crate::sandbox::notify::Prepared;

/// What the emulator writes down: what it did with money, and what it has to tell about it.
#[derive(Default)]
pub(super) struct Journal {
    pub(super) ledger: Vec<LedgerEntry>,
    notices: Vec<Notice>,
}

/// A notification before it is signed.
pub(super) struct Notice {
    url: Option<String>,
    fields: Vec<(&'static str, String)>,
}

impl Journal {
    /// Has something to tell, to `url` or where the gateway has registered.
    pub(super) fn tell(&mut self, kind: &str, url: Option<&String>, mut fields: Vec<(&'static str, String)>) {
        fields.push(("notify_type", kind.to_owned()));
        self.notices.push(Notice { url: url.cloned(), fields });
    }

    /// What there is to tell, once.
    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }
}

impl Notice {
    /// As it goes out: the kind of signature is sent and not signed, and neither is what is empty.
    pub(super) fn prepare(self, id: String, now: Timestamp, signer: &Signer) -> Option<Prepared> {
        let mut fields = self.fields;
        fields.retain(|(_, value)| !value.is_empty());
        fields.extend([
            ("notify_id", id),
            ("notify_time", beijing_time(now)?),
            ("app_id", ALIPAY_APP_ID.to_owned()),
            ("auth_app_id", ALIPAY_APP_ID.to_owned()),
            ("charset", String::from("utf-8")),
            ("version", String::from("1.0")),
        ]);
        let signature = signer.sign(&signed_text(&fields))?;
        fields.extend([("sign_type", String::from("RSA2")), ("sign", signature)]);
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
        Some(Prepared {
            channel: "alipay",
            url: self.url,
            content_type: "application/x-www-form-urlencoded; charset=utf-8",
            headers: Vec::new(),
            body: Bytes::from(body),
            taken_says: Some("success"),
            refusal_is_final: false,
            signed_at: now,
            again: None,
        })
    }
}
