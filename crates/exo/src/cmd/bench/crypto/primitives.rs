//! Single operations: those the node uses, and the classical ones beside them.

use aws_lc_rs::aead::{
    AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, ML_KEM_768};
use aws_lc_rs::signature::{self, ED25519, Ed25519KeyPair, KeyPair};
use exo_crypto::{KemKeypair, Label, PostQuantumKeypair};

use super::super::broken;
use super::super::cpu::spent;
use super::super::report::{Report, Unit};
use crate::exit::Failure;

/// Measures every operation, `rounds` times [`SAMPLES_PER_ROUND`] samples each.
pub(super) fn measure(report: &mut Report, rounds: usize) -> Result<(), Failure> {
    let mut bench = Bench { report, samples: rounds * SAMPLES_PER_ROUND };
    signatures(&mut bench)?;
    agreements(&mut bench)?;
    bench.aead("aead.chacha20_poly1305.seal_2k", &CHACHA20_POLY1305)?;
    bench.aead("aead.aes_256_gcm.seal_2k", &AES_256_GCM)
}

struct Bench<'a> {
    report: &'a mut Report,
    samples: usize,
}

impl Bench<'_> {
    /// Times an operation; a sample is the mean of `batch` of them, so that the clock's own cost
    /// does not count.
    fn time<R, E: std::fmt::Display>(
        &mut self,
        name: &str,
        batch: u32,
        mut operation: impl FnMut() -> Result<R, E>,
    ) -> Result<(), Failure> {
        let mut times = Vec::with_capacity(self.samples);
        for sample in 0..self.samples + WARM_UP {
            let (done, time) = spent(|| {
                for _ in 0..batch {
                    std::hint::black_box(operation()?);
                }
                Ok::<(), E>(())
            });
            done.map_err(|error| broken(name, error))?;
            if sample >= WARM_UP {
                times.push(time.as_secs_f64() * 1e6 / f64::from(batch));
            }
        }
        self.report.samples(name, Unit::Micros, &times);
        Ok(())
    }

    fn aead(&mut self, name: &str, algorithm: &'static Algorithm) -> Result<(), Failure> {
        let key = UnboundKey::new(algorithm, &[7; 32]).map_err(|error| broken(name, error))?;
        let key = LessSafeKey::new(key);
        let mut message = vec![0; AEAD_BYTES];
        self.time(name, 64, || {
            // What is sealed goes nowhere, so the nonce may come again.
            let nonce = Nonce::assume_unique_for_key([0; 12]);
            key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut message)
        })
    }
}

fn signatures(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let message = [0x5a; SIGNED_BYTES];
    let ours = PostQuantumKeypair::generate().map_err(|error| broken("an identity", error))?;
    let signed = ours.sign(Label::TOKEN, &message).map_err(|error| broken("a signature", error))?;
    bench.time("ml_dsa_65.sign", 1, || ours.sign(Label::TOKEN, &message))?;
    bench.time("ml_dsa_65.verify", 2, || ours.public().verify(Label::TOKEN, &message, &signed))?;

    let theirs = Ed25519KeyPair::generate().map_err(|error| broken("an Ed25519 key", error))?;
    let signed = theirs.sign(&message);
    let public = signature::UnparsedPublicKey::new(&ED25519, theirs.public_key().as_ref());
    bench.time("ed25519.sign", 4, || theirs.try_sign(&message))?;
    bench.time("ed25519.verify", 2, || public.verify(&message, signed.as_ref()))
}

fn agreements(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let hybrid = KemKeypair::generate().map_err(|error| broken("an X-Wing key", error))?;
    let (sealed, _) = hybrid.public().encapsulate().map_err(|error| broken("X-Wing", error))?;
    bench.time("x_wing.encapsulate", 1, || hybrid.public().encapsulate())?;
    bench.time("x_wing.decapsulate", 1, || hybrid.decapsulate(&sealed))?;

    let failed = |error| broken("ML-KEM-768", error);
    let secret = DecapsulationKey::generate(&ML_KEM_768).map_err(failed)?;
    let public = secret.encapsulation_key().map_err(failed)?;
    let (ciphertext, _) = public.encapsulate().map_err(failed)?;
    let ciphertext = ciphertext.as_ref();
    bench.time("ml_kem_768.generate", 2, || DecapsulationKey::generate(&ML_KEM_768))?;
    bench.time("ml_kem_768.encapsulate", 2, || public.encapsulate())?;
    bench.time("ml_kem_768.decapsulate", 2, || secret.decapsulate(Ciphertext::from(ciphertext)))?;

    let failed = |error| broken("X25519", error);
    let ours = agreement::PrivateKey::generate(&X25519).map_err(failed)?;
    let theirs = agreement::PrivateKey::generate(&X25519).map_err(failed)?;
    let theirs = theirs.compute_public_key().map_err(failed)?;
    bench.time("x25519.generate", 2, || {
        agreement::PrivateKey::generate(&X25519).and_then(|key| key.compute_public_key())
    })?;
    bench.time("x25519.agree", 2, || {
        let peer = UnparsedPublicKey::new(&X25519, theirs.as_ref());
        agreement::agree(&ours, peer, aws_lc_rs::error::Unspecified, |secret| {
            std::hint::black_box(secret);
            Ok(())
        })
    })
}

/// Samples of an operation in one round.
const SAMPLES_PER_ROUND: usize = 50;
/// Samples that are thrown away first.
const WARM_UP: usize = 20;
/// What is signed: about a token's length, bytes.
const SIGNED_BYTES: usize = 256;
/// What is sealed, bytes: about one hit of an answer.
const AEAD_BYTES: usize = 2048;
