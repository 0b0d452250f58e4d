//! RSA2, Alipay's name for RSASSA-PKCS1-v1_5 with SHA-256, and the text that is signed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

/// Signs with the application's private key.
pub(super) struct Signer {
    key: RsaKeyPair,
    random: SystemRandom,
}

/// Checks signatures with Alipay's public key.
pub(super) struct Verifier {
    /// The key as an RSAPublicKey of PKCS#1, in DER.
    key: Vec<u8>,
}

impl Signer {
    /// A signer from a private key as PKCS#8 or PKCS#1, in PEM or as the bare base64 that Alipay's tools give out.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the key; never the key.
    pub(super) fn new(key: &str) -> Result<Self, String> {
        let der = Zeroizing::new(der_of(key).ok_or("the private key is not PEM or base64")?);
        let key = RsaKeyPair::from_pkcs8(&der)
            .or_else(|_| RsaKeyPair::from_der(&der))
            .map_err(|error| format!("the private key can't be used (RSA, 2048 bits or more): {error}"))?;
        Ok(Self { key, random: SystemRandom::new() })
    }

    /// The signature of `text` in base64; `None` when the key turns out not to work.
    pub(super) fn sign(&self, text: &str) -> Option<String> {
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &self.random, text.as_bytes(), &mut signature).ok()?;
        Some(STANDARD.encode(signature))
    }
}

impl Verifier {
    /// A verifier from a public key as X.509 (SubjectPublicKeyInfo) or PKCS#1, in PEM or bare base64.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the key.
    pub(super) fn new(key: &str) -> Result<Self, String> {
        let der = der_of(key).ok_or("the public key is not PEM or base64")?;
        rsa_public_key(&der)
            .map(|key| Self { key: key.to_vec() })
            .ok_or_else(|| String::from("the public key is not RSA"))
    }

    /// Whether `signature` (base64) is Alipay's signature of `text`.
    pub(super) fn verify(&self, text: &[u8], signature: &str) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.key).verify(text, &signature).is_ok()
    }
}

/// The text that is signed: every parameter but `sign` that is not empty, sorted by name, values not encoded.
pub(super) fn canonical<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut parts: Vec<(&str, &str)> =
        parameters.into_iter().filter(|(name, value)| *name != "sign" && !value.is_empty()).collect();
    parts.sort_unstable();
    let parts: Vec<String> = parts.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    parts.join("&")
}

fn der_of(key: &str) -> Option<Vec<u8>> {
    let lines = key.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
    let base64 = Zeroizing::new(lines.collect::<String>());
    STANDARD.decode(base64.as_bytes()).ok().filter(|der| !der.is_empty())
}

/// One element of DER with the expected tag: its content, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let bytes = usize::from(first & 0x7f);
        if bytes == 0 || bytes > 4 || rest.len() < bytes {
            return None;
        }
        length = rest[..bytes].iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
        rest = &rest[bytes..];
    }
    (found == tag && rest.len() >= length).then(|| rest.split_at(length))
}

/// The RSAPublicKey within a SubjectPublicKeyInfo, or the whole when it is one already.
fn rsa_public_key(der: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const BIT_STRING: u8 = 0x03;
    const RSA_ENCRYPTION: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let (content, _) = element(der, SEQUENCE)?;
    if element(content, INTEGER).is_some() {
        return Some(der);
    }
    let (algorithm, rest) = element(content, SEQUENCE)?;
    let (bits, _) = element(rest, BIT_STRING)?;
    let (&unused_bits, key) = bits.split_first()?;
    (algorithm.starts_with(&RSA_ENCRYPTION) && unused_bits == 0 && element(key, SEQUENCE).is_some()).then_some(key)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::sandbox::credentials;

    const PARAMETERS: [(&str, &str); 9] = [
        ("version", "1.0"),
        ("app_id", "2021000000000001"),
        ("method", "alipay.fund.auth.order.unfreeze"),
        ("charset", "utf-8"),
        ("sign_type", "RSA2"),
        ("timestamp", "2026-11-21 01:50:18"),
        ("notify_url", ""),
        ("sign", "not part of it"),
        ("biz_content", r#"{"auth_no":"x","out_request_no":"u1","amount":"5.00","remark":"r"}"#),
    ];

    #[test]
    fn the_signed_text_is_the_one_that_alipays_own_client_signs() {
        let text = canonical(PARAMETERS);
        assert_eq!(
            hex::encode(Sha256::digest(&text)),
            "51ffb8f5736db4b3d8192957968f43074f86505fc1930cbbb6f5b541ca11ba50",
            "{text}"
        );
    }

    #[test]
    fn a_signature_holds_for_its_text_and_its_key_only() {
        let signer = Signer::new(credentials::ALIPAY_APP_PRIVATE_KEY).unwrap();
        let verifier = Verifier::new(credentials::ALIPAY_APP_PUBLIC_KEY).unwrap();
        let signature = signer.sign("a text").unwrap();
        assert!(verifier.verify(b"a text", &signature));
        assert!(!verifier.verify(b"A text", &signature));
        assert!(!verifier.verify(b"a text", "bm90IGEgc2lnbmF0dXJl"));
        assert!(!verifier.verify(b"a text", "not base64!"));
        let another = Verifier::new(credentials::ALIPAY_PUBLIC_KEY).unwrap();
        assert!(!another.verify(b"a text", &signature));
    }

    #[test]
    fn keys_are_taken_in_every_form_that_is_handed_out() {
        let pkcs8 = der_of(credentials::ALIPAY_APP_PRIVATE_KEY).unwrap();
        let pkcs1 = {
            let (content, _) = element(&pkcs8, 0x30).unwrap();
            let (_, rest) = element(content, 0x02).unwrap();
            let (_, rest) = element(rest, 0x30).unwrap();
            element(rest, 0x04).unwrap().0
        };
        let bare = |der: &[u8]| STANDARD.encode(der);
        let pem = format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n", bare(pkcs1));
        let public = der_of(credentials::ALIPAY_APP_PUBLIC_KEY).unwrap();
        let public_pkcs1 = bare(rsa_public_key(&public).unwrap());
        for private in [&bare(&pkcs8), &bare(pkcs1), &pem] {
            let signature = Signer::new(private).unwrap().sign("a text").unwrap();
            assert!(Verifier::new(&public_pkcs1).unwrap().verify(b"a text", &signature));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "?", "aGVsbG8=", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----"] {
            assert!(Signer::new(text).is_err(), "{text}");
            assert!(Verifier::new(text).is_err(), "{text}");
        }
        for truncated in 0..64 {
            let der = der_of(credentials::ALIPAY_APP_PUBLIC_KEY).unwrap();
            assert!(Verifier::new(&STANDARD.encode(&der[..truncated])).is_err());
        }
    }
}
