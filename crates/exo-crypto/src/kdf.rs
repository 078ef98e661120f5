//! Keys derived from secrets (HKDF-SHA-256, RFC 5869) and message authentication codes
//! (HMAC-SHA-256, RFC 2104), each under a label.

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key, Tag};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::label::Label;
use crate::secret::SharedSecret;

/// The code does not belong to this secret, label and message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authentication code does not hold")]
pub struct BadMac;

/// Derives a key for one purpose. HKDF without salt; its info is the label behind its length byte,
/// then `info`. The secret need not be uniform, but must hold enough entropy: a password does not.
pub fn kdf(secret: &SharedSecret, label: Label, info: &[u8]) -> SharedSecret {
    let prefix = label.prefix();
    let info = [prefix.as_slice(), info];
    let mut key = Zeroizing::new([0; 32]);
    // Fails for an output other than 1 to 255 hashes long; this is one hash.
    Salt::none(HKDF_SHA256)
        .extract(secret.expose())
        .expand(&info, KeyBytes)
        .and_then(|okm| okm.fill(key.as_mut_slice()))
        .expect("one hash of output is a valid length for HKDF");
    SharedSecret::take(&mut key)
}

/// Authenticates a message: HMAC-SHA-256 over the label behind its length byte and the message.
pub fn mac(secret: &SharedSecret, label: Label, message: &[u8]) -> [u8; MAC_BYTES] {
    let mut out = [0; MAC_BYTES];
    out.copy_from_slice(tag(secret, label, message).as_ref());
    out
}

/// Checks a code in constant time.
///
/// # Errors
/// [`BadMac`], whatever differs.
pub fn mac_verify(
    secret: &SharedSecret,
    label: Label,
    message: &[u8],
    code: &[u8; MAC_BYTES],
) -> Result<(), BadMac> {
    let expected = tag(secret, label, message);
    if expected.as_ref().ct_eq(code).into() { Ok(()) } else { Err(BadMac) }
}

fn tag(secret: &SharedSecret, label: Label, message: &[u8]) -> Tag {
    let mut context = Context::with_key(&Key::new(HMAC_SHA256, secret.expose()));
    context.update(&label.prefix());
    context.update(message);
    context.sign()
}

struct KeyBytes;

impl KeyType for KeyBytes {
    fn len(&self) -> usize {
        32
    }
}

/// Length of an authentication code, bytes.
pub const MAC_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(byte: u8) -> SharedSecret {
        SharedSecret::from_slice(&[byte; 32]).expect("the length is right")
    }

    #[test]
    fn a_derived_key_depends_on_secret_label_and_info() {
        let base = kdf(&secret(1), Label::RESET_KEY, b"info");
        assert_eq!(base, kdf(&secret(1), Label::RESET_KEY, b"info"));
        assert_ne!(base, kdf(&secret(2), Label::RESET_KEY, b"info"));
        assert_ne!(base, kdf(&secret(1), Label::INVITE_KEY, b"info"));
        assert_ne!(base, kdf(&secret(1), Label::RESET_KEY, b"infp"));
        assert_ne!(base, secret(1));
    }

    #[test]
    fn derivation_is_hkdf_as_two_hmacs_compute_it() {
        // RFC 5869: extract is HMAC(salt, secret); one block of expand is HMAC(prk, info || 1).
        let hmac = |key: &[u8], message: &[u8]| {
            aws_lc_rs::hmac::sign(&Key::new(HMAC_SHA256, key), message).as_ref().to_vec()
        };
        let prk = hmac(&[0; 32], secret(3).expose());
        let info = [&Label::RESET_KEY.prefix(), b"info".as_slice(), &[1]].concat();
        assert_eq!(hmac(&prk, &info), kdf(&secret(3), Label::RESET_KEY, b"info").expose());
    }

    proptest! {
        #[test]
        fn a_code_holds_for_its_secret_label_and_message_alone(
            message in proptest::collection::vec(any::<u8>(), 0..64),
            bit in 0..MAC_BYTES * 8,
        ) {
            let mut code = mac(&secret(1), Label::INVITE_PROOF, &message);
            let longer = [message.as_slice(), &[0]].concat();
            prop_assert!(mac_verify(&secret(1), Label::INVITE_PROOF, &message, &code).is_ok());
            prop_assert!(mac_verify(&secret(2), Label::INVITE_PROOF, &message, &code).is_err());
            prop_assert!(mac_verify(&secret(1), Label::TOKEN, &message, &code).is_err());
            prop_assert!(mac_verify(&secret(1), Label::INVITE_PROOF, &longer, &code).is_err());
            code[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(mac_verify(&secret(1), Label::INVITE_PROOF, &message, &code).is_err());
        }
    }
}
