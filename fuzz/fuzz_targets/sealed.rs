//! A sealed message: any bytes are refused, what was sealed opens, what was altered does not.
#![no_main]

use exo_crypto::{Label, Sealed, SharedSecret, open, open_once, seal, seal_once};
use exo_fuzz::{byte, kem_pair, wire};
use exo_types::Wire;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some(sealed) = wire::<Sealed>(data) {
        assert_eq!(sealed.to_wire().map(|bytes| bytes.len() >= sealed.len_bytes()), Ok(true));
        assert!(open(kem_pair(), Label::SEAL, b"", &sealed).is_err());
    }
    let mut rest = data;
    let at = usize::from(byte(&mut rest)) << 4 | usize::from(byte(&mut rest));
    let flip = byte(&mut rest);
    let secret = || SharedSecret::from_slice(&[7; 32]).expect("32 bytes");
    assert!(open_once(secret(), b"a", rest).is_err());
    let mut body = seal_once(secret(), b"a", rest).expect("seals");
    assert_eq!(open_once(secret(), b"a", &body).expect("opens").as_slice(), rest);
    let index = at % body.len();
    body[index] ^= flip;
    assert_eq!(open_once(secret(), b"a", &body).is_ok(), flip == 0);
    let mut bytes = seal(kem_pair().public(), Label::SEAL, b"", rest)
        .and_then(|sealed| sealed.to_wire().map_err(|_| unreachable!("within its bound")))
        .expect("seals");
    let index = at % bytes.len();
    bytes[index] ^= flip;
    let opened = Sealed::from_wire(&bytes)
        .ok()
        .and_then(|sealed| open(kem_pair(), Label::SEAL, b"", &sealed).ok());
    // X25519 ignores the highest bit of a share (RFC 7748 section 5), and the share is authenticated
    // by the combiner: an altered one opens nothing either way.
    assert_eq!(opened.as_ref().map(|opened| opened.as_slice()), (flip == 0).then_some(rest));
});
