//! What the fuzz targets share: the properties that every decoder has, and fixed keys.

pub mod log;
pub mod memory;
pub mod sim;

use std::fmt::{Debug, Display};
use std::future::Future;
use std::pin::pin;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use exo_crypto::{
    IDENTITY_SEED_BYTES, KemKeypair, KemKeyring, PostQuantumKeypair, SIGNATURE_BYTES, Signed,
    SignedBody,
};
use exo_types::{Now, Timestamp, Wire};

/// A value that decodes is within its bound, is accepted again by its own encoder, and its encoding
/// is a fixed point that is never longer than what it came from. (Not equal to it: a varint may be
/// padded, and what is signed is signed as it arrived.)
pub fn wire<T: Wire + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value = memory::bounded(40, bytes, || T::from_wire(bytes)).ok()?;
    assert!(bytes.len() <= T::BYTES_MAX);
    let encoded = value.to_wire().expect("what was decoded is encoded");
    assert!(encoded.len() <= bytes.len(), "{} bytes became {}", bytes.len(), encoded.len());
    let again = T::from_wire(&encoded).expect("an encoding decodes");
    assert_eq!(again, value);
    assert_eq!(again.to_wire().expect("encodes again"), encoded);
    Some(value)
}

/// A signed statement from the wire; and the bytes as the body of one, because a mutation seldom
/// leaves the 3309 bytes of a signature in place.
pub fn signed<T: SignedBody + PartialEq + Debug>(bytes: &[u8]) {
    if let Some(arrived) = wire::<Signed<T>>(bytes) {
        assert!(arrived.body().len() <= T::BYTES_MAX);
        assert!(arrived.verify(nobody().public()).is_err(), "nobody signed this");
        let _ = arrived.claimed();
    }
    let value = wire::<T>(bytes);
    let envelope = envelope(bytes);
    match Signed::<T>::from_wire(&envelope) {
        Err(_) => assert!(bytes.len() > T::BYTES_MAX),
        Ok(signed) => {
            assert_eq!(signed.body(), bytes, "the body is kept as it arrived");
            assert_eq!(signed.claimed().ok(), value);
        }
    }
}

/// The wire form of a signed statement with this body and a signature of zeros.
pub fn envelope(body: &[u8]) -> Vec<u8> {
    let mut bytes = postcard::to_allocvec(body).expect("encodes");
    bytes.resize(bytes.len() + SIGNATURE_BYTES, 0);
    bytes
}

/// A value that parses is shown in a text that parses to it again and is shown in the same way.
pub fn text<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T>
where
    T::Err: Debug + Display,
{
    match text.parse::<T>() {
        Ok(value) => {
            let shown = value.to_string();
            let again: T = shown.parse().expect("what is shown parses");
            assert_eq!(again, value);
            assert_eq!(again.to_string(), shown);
            Some(value)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// The identity of the node that is fuzzed.
pub fn keypair() -> &'static Arc<PostQuantumKeypair> {
    static KEY: OnceLock<Arc<PostQuantumKeypair>> = OnceLock::new();
    KEY.get_or_init(|| Arc::new(identity(1)))
}

/// An identity that signs nothing.
fn nobody() -> &'static PostQuantumKeypair {
    static KEY: OnceLock<PostQuantumKeypair> = OnceLock::new();
    KEY.get_or_init(|| identity(99))
}

/// Another identity, the same for the same number.
pub fn identity(number: u8) -> PostQuantumKeypair {
    PostQuantumKeypair::from_seed(&[number; IDENTITY_SEED_BYTES]).expect("expands")
}

/// A pair to open sealed messages with.
pub fn kem_pair() -> &'static KemKeypair {
    static PAIR: OnceLock<KemKeypair> = OnceLock::new();
    PAIR.get_or_init(|| KemKeypair::generate().expect("generates"))
}

/// The secret bytes of a fresh ring.
pub fn keyring_bytes() -> &'static [u8] {
    static RING: OnceLock<Vec<u8>> = OnceLock::new();
    RING.get_or_init(|| {
        KemKeyring::generate(NOW.wall).expect("generates").to_secret_bytes().to_vec()
    })
}

/// The ring of these bytes, once more.
pub fn keyring() -> KemKeyring {
    KemKeyring::from_secret_bytes(keyring_bytes()).expect("reads")
}

/// The moment in which everything happens.
pub const NOW: Now =
    Now { wall: Timestamp(1_800_000_000_000), mono: std::time::Duration::from_secs(1) };

/// Runs a future that waits for nothing but memory.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

/// Takes one byte from the front; zero when there is none.
pub fn byte(bytes: &mut &[u8]) -> u8 {
    match bytes.split_first() {
        Some((first, rest)) => {
            *bytes = rest;
            *first
        }
        None => 0,
    }
}

/// A text with a right check sum, which no mutation finds: each byte gives one character.
pub fn bech32m(prefix: &str, bytes: &[u8]) -> String {
    use bech32::Fe32IterExt;
    let hrp = bech32::Hrp::parse(prefix).expect("a prefix");
    let characters = bytes.iter().map(|byte| bech32::Fe32::try_from(byte & 31).expect("five bits"));
    characters.with_checksum::<bech32::Bech32m>(&hrp).chars().collect()
}
