//! How merchants sign requests: HMAC-SHA256 over eight lines, so that a request can't be changed, sent again or sent
//! elsewhere by whoever sees it.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// Scheme in front of the hexadecimal signature.
const SCHEME: &str = "v1";
/// Longest nonce.
pub const NONCE_LEN_MAX: usize = 64;

/// The parts of a request that are signed.
#[derive(Clone, Copy, Debug)]
pub struct SignedParts<'a> {
    /// `X-Api-Key`.
    pub key_id: &'a str,
    /// `X-Timestamp` exactly as sent, Unix seconds.
    pub timestamp: &'a str,
    /// `X-Nonce`.
    pub nonce: &'a str,
    /// In capitals.
    pub method: &'a str,
    /// Path with query, exactly as sent.
    pub path_and_query: &'a str,
    /// `Idempotency-Key`, or empty.
    pub idempotency_key: &'a str,
    /// The body as sent.
    pub body: &'a [u8],
}

impl SignedParts<'_> {
    fn mac(&self, secret: &str) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
        let body_hash = hex::encode(Sha256::digest(self.body));
        let lines = [
            SCHEME,
            self.key_id,
            self.timestamp,
            self.nonce,
            self.method,
            self.path_and_query,
            self.idempotency_key,
            &body_hash,
        ];
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                mac.update(b"\n");
            }
            mac.update(line.as_bytes());
        }
        Some(mac)
    }

    /// The value of `X-Signature`.
    pub fn sign(&self, secret: &str) -> String {
        let code = self.mac(secret).map(|mac| mac.finalize().into_bytes());
        format!("{SCHEME}={}", code.map(hex::encode).unwrap_or_default())
    }

    /// Whether `signature` (`v1=<hex>`) was made with `secret` over these parts. The comparison takes the same time
    /// whatever is wrong.
    pub fn verify(&self, secret: &str, signature: &str) -> bool {
        let hexadecimal = signature.strip_prefix(SCHEME).and_then(|rest| rest.strip_prefix('=')).unwrap_or_default();
        let mut code = [0_u8; 32];
        let readable = hex::decode_to_slice(hexadecimal, &mut code).is_ok();
        // The code is computed even for an unreadable signature, so that both take the same time.
        let equal = self.mac(secret).is_some_and(|mac| mac.verify_slice(&code).is_ok());
        readable & equal
    }
}

/// Whether a nonce has the documented form: 1 to 64 characters from `A-Za-z0-9_-`.
pub fn nonce_is_valid(nonce: &str) -> bool {
    (1..=NONCE_LEN_MAX).contains(&nonce.len())
        && nonce.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTED: SignedParts<'static> = SignedParts {
        key_id: "ak_test",
        timestamp: "1700000000",
        nonce: "n-1",
        method: "POST",
        path_and_query: "/api/v1/payments",
        idempotency_key: "k-1",
        body: b"{}",
    };
    const SIGNATURE: &str = "v1=02d8d70bc60be60fdf6efcdb9511babedbb72b938f74e17e2a2356b5425ded6f";

    #[test]
    fn the_documented_vector_comes_out() {
        assert_eq!(DOCUMENTED.sign("sk_test"), SIGNATURE);
        assert!(DOCUMENTED.verify("sk_test", SIGNATURE));
    }

    #[test]
    fn any_changed_part_is_refused() {
        let changed = [
            SignedParts { key_id: "ak_tesu", ..DOCUMENTED },
            SignedParts { timestamp: "1700000001", ..DOCUMENTED },
            SignedParts { nonce: "n-2", ..DOCUMENTED },
            SignedParts { method: "PUT", ..DOCUMENTED },
            SignedParts { path_and_query: "/api/v1/payments?", ..DOCUMENTED },
            SignedParts { idempotency_key: "", ..DOCUMENTED },
            SignedParts { body: b"{ }", ..DOCUMENTED },
        ];
        for parts in changed {
            assert!(!parts.verify("sk_test", SIGNATURE), "{parts:?}");
        }
        assert!(!DOCUMENTED.verify("sk_tesu", SIGNATURE));
        for signature in ["", "v1=", "v1", &SIGNATURE[3..], &SIGNATURE[..66], "v2=02d8", "v1=zz"] {
            assert!(!DOCUMENTED.verify("sk_test", signature), "{signature}");
        }
    }

    #[test]
    fn nonces_have_a_form() {
        assert!(nonce_is_valid("aZ09_-"));
        for nonce in ["", "a b", "é", "a\n", &"a".repeat(65)] {
            assert!(!nonce_is_valid(nonce), "{nonce:?}");
        }
    }
}
