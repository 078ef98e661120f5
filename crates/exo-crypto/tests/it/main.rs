//! What the crate promises to files, to other implementations and to anybody who sends it bytes.

mod decoders;
mod frozen;
mod keyfiles;
mod outside;

use data_encoding::HEXLOWER;
use exo_crypto::{KemError, KemKeypair};
use ml_kem::{DecapsulationKey, MlKem768};
use serde_json::Value;

/// Hexadecimal of a vector file.
fn bytes(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().expect("hexadecimal").as_bytes()).expect("hexadecimal")
}

/// FIPS 203 algorithm 16: the expanded key of a seed, by an implementation that is not ours.
#[expect(deprecated, reason = "the expanded form is what is stored")]
fn expand_ml_kem(seed: &[u8]) -> Vec<u8> {
    use ml_kem::ExpandedKeyEncoding;
    let seed = <[u8; 64]>::try_from(seed).expect("d and z");
    let key = DecapsulationKey::<MlKem768>::from_seed(seed.into());
    key.to_expanded_bytes().to_vec()
}

/// Joins the halves of a stored secret key.
fn keypair(ml_kem: &[u8], x25519: &[u8]) -> Result<KemKeypair, KemError> {
    let secret = [ml_kem, x25519].concat();
    KemKeypair::from_secret_bytes(secret.as_slice().try_into().expect("2432 bytes"))
}
