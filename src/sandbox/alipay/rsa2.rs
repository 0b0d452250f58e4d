//! RSA2 as Alipay does it, written a second time on purpose: an emulator that shared the adapter's code would agree with
//! its mistakes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey};

/// What stands before the key itself in the DER of every 2,048-bit RSA SubjectPublicKeyInfo.
const PUBLIC_KEY_PREFIX_BYTES: usize = 24;

/// Signs.
pub(crate) struct Signer(RsaKeyPair);

impl Signer {
    /// A signer with a PKCS#8 key in base64.
    pub(crate) fn new(key: &str) -> Result<Self, String> {
        let der = STANDARD.decode(key).map_err(|error| error.to_string())?;
        RsaKeyPair::from_pkcs8(&der).map(Self).map_err(|error| error.to_string())
    }

    /// The signature of `text` in base64.
    pub(crate) fn sign(&self, text: &str) -> Option<String> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).ok()?;
        Some(STANDARD.encode(signature))
    }
}

/// Checks signatures.
pub(crate) struct Verifier(Vec<u8>);

impl Verifier {
    /// A verifier with the SubjectPublicKeyInfo of a 2,048-bit key in base64.
    pub(crate) fn new(key: &str) -> Result<Self, String> {
        let mut der = STANDARD.decode(key).map_err(|error| error.to_string())?;
        if der.len() <= PUBLIC_KEY_PREFIX_BYTES {
            return Err(String::from("the public key is too short"));
        }
        Ok(Self(der.split_off(PUBLIC_KEY_PREFIX_BYTES)))
    }

    /// Whether `signature`, in base64, is one of `text`.
    pub(crate) fn verify(&self, text: &[u8], signature: &str) -> bool {
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.0);
        STANDARD.decode(signature).is_ok_and(|signature| key.verify(text, &signature).is_ok())
    }
}

/// The text under a request's signature.
pub(crate) fn signed_text<N: AsRef<str>>(parameters: &[(N, String)]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (name, value) in parameters {
        if name.as_ref() != "sign" && !value.is_empty() {
            lines.push(format!("{}={value}", name.as_ref()));
        }
    }
    // No name is the beginning of another one, so that whole lines sort as their names do.
    lines.sort();
    lines.join("&")
}
