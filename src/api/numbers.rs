//! The numbers of what a request is about, for its line in the log and its span: those of its path, and those of what it
//! has made.

use std::sync::OnceLock;

use serde::Deserialize;

use crate::domain::ids::{PAYMENT_NO_PREFIX, PRE_AUTH_NO_PREFIX, REFUND_NO_PREFIX, is_dated_number};
use crate::gateway::answer::Reply;

/// See the module. Each is set once: a request is about one payment, one pre-auth and one refund at most.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    payment: OnceLock<Box<str>>,
    pre_auth: OnceLock<Box<str>>,
    refund: OnceLock<Box<str>>,
}

/// Where an answer that was stored has its numbers: in its data, or, an error, beside its code.
#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    data: Named,
    #[serde(flatten)]
    error: Named,
}

#[derive(Default, Deserialize)]
struct Named {
    payment_no: Option<String>,
    pre_auth_no: Option<String>,
    refund_no: Option<String>,
}

impl Numbers {
    /// Of the payment, `PY…`.
    pub(crate) fn payment_no(&self) -> Option<&str> {
        self.payment.get().map(AsRef::as_ref)
    }

    /// Of the pre-auth, `PA…`.
    pub(crate) fn pre_auth_no(&self) -> Option<&str> {
        self.pre_auth.get().map(AsRef::as_ref)
    }

    /// Of the refund, `RF…`.
    pub(crate) fn refund_no(&self) -> Option<&str> {
        self.refund.get().map(AsRef::as_ref)
    }

    /// Notes the number of a field of this name, if it is one that we make: a path and a merchant's own number may hold
    /// anything, which does not belong in a log.
    pub(crate) fn note(&self, field: &str, number: &str) {
        let (place, prefix) = match field {
            "payment_no" => (&self.payment, PAYMENT_NO_PREFIX),
            "pre_auth_no" => (&self.pre_auth, PRE_AUTH_NO_PREFIX),
            "refund_no" => (&self.refund, REFUND_NO_PREFIX),
            _ => return,
        };
        if is_dated_number(prefix, number) {
            place.get_or_init(|| number.into());
        }
    }

    /// Notes what a path has where its route's pattern has a field.
    pub(crate) fn note_path(&self, pattern: &str, path: &str) {
        for (part, text) in pattern.split('/').zip(path.split('/')) {
            if let Some(field) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                self.note(field, text);
            }
        }
    }

    /// Notes what came of the request.
    pub(crate) fn note_reply(&self, reply: &Reply) {
        match reply {
            Reply::PaymentCreated(payment) | Reply::PaymentNotTaken(payment) | Reply::PaymentCanceled(payment) => {
                self.note("payment_no", &payment.payment_no);
            }
            Reply::RefundCreated(refund) | Reply::RefundNotDone(refund) => self.note("refund_no", &refund.refund_no),
            Reply::PreAuthCreated(pre_auth) | Reply::PreAuthCaptured(pre_auth) | Reply::PreAuthCanceled(pre_auth) => {
                self.note("pre_auth_no", &pre_auth.pre_auth_no);
            }
            Reply::ChannelPreAuthCreated(pre_auth) => self.note("pre_auth_no", &pre_auth.pre_auth_no),
            Reply::ChannelPreAuthCaptured(operation) | Reply::ChannelPreAuthCanceled(operation) => {
                self.note("pre_auth_no", &operation.pre_auth_no);
            }
            Reply::PreAuthNotDone { pre_auth_no } => self.note("pre_auth_no", pre_auth_no),
        }
    }

    /// Notes what a stored answer, which is given again, has said.
    pub(crate) fn note_stored(&self, body: &[u8]) {
        let Ok(Stored { data, error }) = serde_json::from_slice(body) else { return };
        for Named { payment_no, pre_auth_no, refund_no } in [data, error] {
            for (field, number) in [("payment_no", payment_no), ("pre_auth_no", pre_auth_no), ("refund_no", refund_no)]
            {
                number.iter().for_each(|number| self.note(field, number));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYMENT: &str = "PY20250124104000abcdefgh";
    const PRE_AUTH: &str = "PA20250124104000abcdefgh";
    const REFUND: &str = "RF20250124104000abcdefgh";

    fn of(numbers: &Numbers) -> [Option<&str>; 3] {
        [numbers.payment_no(), numbers.pre_auth_no(), numbers.refund_no()]
    }

    #[test]
    fn a_path_says_what_it_is_about_only_by_numbers_of_ours() {
        for (pattern, text, expected) in [
            ("/api/v1/payments/{payment_no}/refunds", PAYMENT, [Some(PAYMENT), None, None]),
            ("/admin/v1/merchants/{merchant_id}/pre-auths/{pre_auth_no}/erase", PRE_AUTH, [None, Some(PRE_AUTH), None]),
            ("/api/v1/refunds/{refund_no}", REFUND, [None, None, Some(REFUND)]),
            ("/api/v1/refunds/{refund_no}", PAYMENT, [None; 3]),
            ("/api/v1/payments/{payment_no}", "4242424242424242", [None; 3]),
            ("/api/v1/payments/{payment_no}", "PY20250124104000ABCDEFGH", [None; 3]),
            ("/api/v1/payments/{payment_no}", "PY4242424242424242424242x", [None; 3]),
            ("/api/v1/webhooks/endpoints/{endpoint_id}", PAYMENT, [None; 3]),
        ] {
            let numbers = Numbers::default();
            let parts = pattern.split('/').map(|part| match part {
                "{merchant_id}" => "m_1",
                part if part.starts_with('{') => text,
                part => part,
            });
            numbers.note_path(pattern, &parts.collect::<Vec<_>>().join("/"));
            assert_eq!(of(&numbers), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn an_answer_that_is_given_again_says_it_too() {
        let numbers = Numbers::default();
        let body = format!(r#"{{"code":"SUCCESS","data":{{"refund_no":"{REFUND}","payment_no":"{PAYMENT}","x":1}}}}"#);
        numbers.note_stored(body.as_bytes());
        assert_eq!(of(&numbers), [Some(PAYMENT), None, Some(REFUND)]);
        let numbers = Numbers::default();
        numbers.note_stored(format!(r#"{{"code":"CHANNEL_ERROR","pre_auth_no":"{PRE_AUTH}"}}"#).as_bytes());
        numbers.note_stored(b"not json");
        numbers.note_stored(br#"{"data":[]}"#);
        assert_eq!(of(&numbers), [None, Some(PRE_AUTH), None]);
    }
}
