//! Signatures of webhooks: the plain one over the body (`X-Webhook-Signature`), and those of Standard Webhooks 1.0.0
//! (`webhook-id`, `webhook-timestamp`, `webhook-signature`), with what a receiver needs to verify them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::domain::time::Timestamp;
use crate::random::Random;

/// How far a receiver's clock may be off, in seconds either way, as the official libraries have it.
pub const TOLERANCE_S: i64 = 300;

const PREFIX: &str = "whsec_";
const NEW_KEY_BYTES: usize = 32;
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A text that is not a webhook secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret is whsec_ and 24 to 64 bytes in base64")]
pub struct NotASecret;

/// A secret that signs: `whsec_` and the base64 of its key.
pub struct Secret {
    text: Zeroizing<String>,
    key: Zeroizing<Vec<u8>>,
}

impl Secret {
    /// A new secret of 32 random bytes.
    pub fn generate(random: &Random) -> Self {
        let mut key = Zeroizing::new(vec![0_u8; NEW_KEY_BYTES]);
        random.fill(&mut key);
        let text = Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(key.as_slice())));
        Self { text, key }
    }

    /// Reads a secret, with or without its prefix.
    ///
    /// # Errors
    /// [`NotASecret`].
    pub fn parse(text: &str) -> Result<Self, NotASecret> {
        let encoded = text.strip_prefix(PREFIX).unwrap_or(text);
        let key = Zeroizing::new(BASE64.decode(encoded).map_err(|_| NotASecret)?);
        if !KEY_BYTES.contains(&key.len()) {
            return Err(NotASecret);
        }
        Ok(Self { text: Zeroizing::new(format!("{PREFIX}{encoded}")), key })
    }

    /// The whole text, as the merchant gets it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `X-Webhook-Signature`: lower-case hex HMAC-SHA256 of the body, keyed with the bytes of the whole text.
    pub fn sign_body(&self, body: &[u8]) -> String {
        hex::encode(hmac_sha256(self.text.as_bytes(), &[body]))
    }

    /// One item of `webhook-signature`: `v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body`, keyed with the
    /// decoded key.
    pub fn sign_message(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        format!("v1,{}", BASE64.encode(self.message_hmac(id, timestamp_s, body)))
    }

    fn message_hmac(&self, id: &str, timestamp_s: i64, body: &[u8]) -> [u8; 32] {
        hmac_sha256(&self.key, &[id.as_bytes(), b".", timestamp_s.to_string().as_bytes(), b".", body])
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// The secrets of an endpoint that sign at the moment.
#[derive(Debug)]
pub struct SigningSecrets {
    /// Signs everything.
    pub current: Secret,
    /// Each adds a signature of its own during a rotation.
    pub former: Vec<Secret>,
}

/// What the headers of one request say, beside the signatures.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `webhook-id`, the same at every try. Must not contain a dot.
    pub id: &'a str,
    /// The event's name.
    pub event: &'a str,
    /// Number of this try, from 1.
    pub attempt: u32,
    /// When this try is sent.
    pub at: Timestamp,
    /// The body exactly as it is sent.
    pub body: &'a str,
}

impl SigningSecrets {
    /// The headers of one request, signatures included.
    pub fn headers(&self, message: &Message<'_>) -> Vec<(&'static str, String)> {
        let timestamp_s = message.at.unix_s();
        let body = message.body.as_bytes();
        let mut signatures = self.current.sign_message(message.id, timestamp_s, body);
        for former in &self.former {
            signatures.push(' ');
            signatures.push_str(&former.sign_message(message.id, timestamp_s, body));
        }
        vec![
            ("x-webhook-signature", self.current.sign_body(body)),
            ("x-webhook-event", message.event.to_owned()),
            ("x-webhook-timestamp", timestamp_s.to_string()),
            ("x-webhook-attempt", message.attempt.to_string()),
            ("webhook-id", message.id.to_owned()),
            ("webhook-timestamp", timestamp_s.to_string()),
            ("webhook-signature", signatures),
        ]
    }
}

/// Why a received webhook must not be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The secret is not one.
    #[error("the secret is not a webhook secret")]
    Secret,
    /// `webhook-id`, `webhook-timestamp` or `webhook-signature` is missing.
    #[error("a webhook header is missing")]
    HeaderMissing,
    /// The timestamp is not a number, or too far from now.
    #[error("the timestamp is not acceptable")]
    Timestamp,
    /// No signature of a version that is known matches.
    #[error("no signature matches")]
    Signature,
}

/// Verifies a received webhook as Standard Webhooks has it: for receivers written in Rust, and for tests. `headers` are
/// the request's, names in any case.
///
/// # Errors
/// [`VerifyError`]; then the request must be answered with an error and not be used.
pub fn verify<'a>(
    secret: &str,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), VerifyError> {
    let secret = Secret::parse(secret).map_err(|_| VerifyError::Secret)?;
    let (mut id, mut timestamp, mut signatures) = (None, None, None);
    for (name, value) in headers {
        match name.to_ascii_lowercase().as_str() {
            "webhook-id" => id = Some(value),
            "webhook-timestamp" => timestamp = Some(value),
            "webhook-signature" => signatures = Some(value),
            _ => {}
        }
    }
    let (Some(id), Some(timestamp), Some(signatures)) = (id, timestamp, signatures) else {
        return Err(VerifyError::HeaderMissing);
    };
    let timestamp_s: i64 = timestamp.parse().map_err(|_| VerifyError::Timestamp)?;
    if now.unix_s().saturating_sub(timestamp_s).saturating_abs() > TOLERANCE_S {
        return Err(VerifyError::Timestamp);
    }
    let expected = secret.message_hmac(id, timestamp_s, body);
    let matches = signatures
        .split(' ')
        .filter_map(|item| item.strip_prefix("v1,"))
        .filter_map(|encoded| BASE64.decode(encoded).ok())
        .any(|given| given.ct_eq(&expected).into());
    if matches { Ok(()) } else { Err(VerifyError::Signature) }
}

/// Verifies `X-Webhook-Signature`: lower-case hex over the body alone, which says nothing about when it was sent. During a
/// rotation it is made with the new secret only.
///
/// # Errors
/// [`VerifyError::Secret`] and [`VerifyError::Signature`]; then the request must be answered with an error and not be used.
pub fn verify_body(secret: &str, signature: &str, body: &[u8]) -> Result<(), VerifyError> {
    let secret = Secret::parse(secret).map_err(|_| VerifyError::Secret)?;
    let matches: bool = signature.as_bytes().ct_eq(secret.sign_body(body).as_bytes()).into();
    if matches { Ok(()) } else { Err(VerifyError::Signature) }
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of any length, so that this default is never used.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT_S: i64 = 1_614_265_330;
    const BODY: &str = r#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn check(secret: &str, signature: &str, timestamp: &str, now_s: i64) -> Result<(), VerifyError> {
        let headers = [("Webhook-Id", ID), ("WEBHOOK-TIMESTAMP", timestamp), ("webhook-signature", signature)];
        verify(secret, headers, BODY.as_bytes(), Timestamp::from_unix_s(now_s))
    }

    #[test]
    fn messages_are_signed_as_the_published_vectors_say() {
        let table = [
            (SECRET, ID, AT_S, BODY, SIGNATURE),
            (
                "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
            (SECRET, ID, AT_S, "", "v1,v48jdbgvh29KJz2Qc+ghw8G6vG3nAKnujWBg8oM/62A="),
            (
                SECRET,
                "evt_0001",
                1_700_000_000,
                r#"{"type":"payment.captured","timestamp":"2023-11-14T22:13:20Z","data":{"amount":"10.00","note":"café ✓"}}"#,
                "v1,a6q7n48sP0mSCmq3Vqg2p50E0jWSauZY/IDa+GouxOY=",
            ),
        ];
        for (secret, id, at_s, body, signature) in table {
            assert_eq!(Secret::parse(secret).unwrap().sign_message(id, at_s, body.as_bytes()), signature);
        }
    }

    #[test]
    fn the_plain_signature_is_keyed_with_the_whole_text() {
        // Computed with another program: openssl dgst -sha256 -hmac.
        let expected = "80ec8a89ce3cd22133a1066caecb4d04fea7467657c8514d717ec42c38a5c94c";
        assert_eq!(Secret::parse(SECRET).unwrap().sign_body(BODY.as_bytes()), expected);
        assert_eq!(verify_body(SECRET, expected, BODY.as_bytes()), Ok(()));
        assert_eq!(verify_body("whsec_", expected, BODY.as_bytes()), Err(VerifyError::Secret));
        for wrong in ["", &expected[1..], &expected.to_uppercase()] {
            assert_eq!(verify_body(SECRET, wrong, BODY.as_bytes()), Err(VerifyError::Signature), "{wrong}");
        }
        assert_eq!(verify_body(SECRET, expected, b"{}"), Err(VerifyError::Signature));
    }

    #[test]
    fn a_good_signature_is_accepted_wherever_it_stands_in_the_list() {
        assert_eq!(check(SECRET, SIGNATURE, "1614265330", AT_S), Ok(()));
        assert_eq!(check("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SIGNATURE, "1614265330", AT_S + 300), Ok(()));
        let list = format!("v1,AAAA v2,{} {SIGNATURE} v1,BBBB", &SIGNATURE[3..]);
        assert_eq!(check(SECRET, &list, "1614265330", AT_S - 300), Ok(()));
    }

    #[test]
    fn everything_else_is_refused() {
        let wrong_last = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=";
        let another_version = SIGNATURE.replace("v1,", "v2,");
        for signature in [wrong_last, "v1,", "v1", "", &SIGNATURE[..8], &SIGNATURE[3..], &another_version] {
            assert_eq!(check(SECRET, signature, "1614265330", AT_S), Err(VerifyError::Signature), "{signature:?}");
        }
        for (timestamp, now_s) in [("1614265330", AT_S + 301), ("1614265330", AT_S - 301), ("hello", AT_S), ("", AT_S)]
        {
            assert_eq!(check(SECRET, SIGNATURE, timestamp, now_s), Err(VerifyError::Timestamp), "{timestamp}");
        }
        for secret in ["", "whsec_", "whsec_AAAA", "whsec_not base64"] {
            assert_eq!(check(secret, SIGNATURE, "1614265330", AT_S), Err(VerifyError::Secret), "{secret:?}");
        }
        let all = [("webhook-id", ID), ("webhook-timestamp", "1614265330"), ("webhook-signature", SIGNATURE)];
        for missing in 0..all.len() {
            let rest = all.iter().enumerate().filter(|(index, _)| *index != missing).map(|(_, header)| *header);
            let verdict = verify(SECRET, rest, BODY.as_bytes(), Timestamp::from_unix_s(AT_S));
            assert_eq!(verdict, Err(VerifyError::HeaderMissing));
        }
        let changed_body = verify(SECRET, all, b"{}", Timestamp::from_unix_s(AT_S));
        assert_eq!(changed_body, Err(VerifyError::Signature));
    }

    #[test]
    fn a_new_secret_has_32_bytes_and_reads_back() {
        let secret = Secret::generate(&Random::seeded(7));
        assert_eq!(secret.as_str().len(), PREFIX.len() + 44);
        assert_eq!(Secret::parse(secret.as_str()).unwrap().sign_body(b"a"), secret.sign_body(b"a"));
        assert!(!format!("{secret:?}").contains(PREFIX));
    }

    #[test]
    fn during_a_rotation_both_secrets_sign() {
        let previous = Secret::parse(SECRET).unwrap();
        let current = Secret::generate(&Random::seeded(7));
        let current_text = current.as_str().to_owned();
        let secrets = SigningSecrets { current, former: vec![previous] };
        let at = Timestamp::from_unix_s(AT_S);
        let headers = secrets.headers(&Message { id: ID, event: "payment.success", attempt: 3, at, body: BODY });
        let received: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(verify(SECRET, received.clone(), BODY.as_bytes(), at), Ok(()));
        assert_eq!(verify(&current_text, received.clone(), BODY.as_bytes(), at), Ok(()));
        let expected_plain = Secret::parse(&current_text).unwrap().sign_body(BODY.as_bytes());
        assert!(received.contains(&("x-webhook-signature", expected_plain.as_str())));
        assert!(received.contains(&("x-webhook-event", "payment.success")));
        assert!(received.contains(&("x-webhook-attempt", "3")));
        assert!(received.contains(&("x-webhook-timestamp", "1614265330")));
    }
}
