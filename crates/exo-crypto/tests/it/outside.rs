//! Vectors of other projects: Wycheproof's and the X-Wing draft's.
//!
//! They are not part of this repository. The directory is `EXO_VECTORS`, or `shared/data/vectors` beside
//! the checkout; without either the tests say that they were skipped. One vector of X-Wing is kept in
//! `tests/vectors/x-wing.json`, so that a fresh clone checks something.

use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{Context, SHA3_256};
use aws_lc_rs::signature::{ML_DSA_65, UnparsedPublicKey};
use exo_crypto::{
    CosignerKey, CosignerSignature, IdentityKey, KemCiphertext, KemError, KemKeypair, KemPublicKey,
    Signature,
};
use serde_json::Value;
use shake::digest::{ExtendableOutput, Update, XofReader};

use crate::{bytes, expand_ml_kem, keypair};

/// The file, or `None` with a word about it when there are no outside vectors.
fn load(name: &str) -> Option<Value> {
    let directory = std::env::var_os("EXO_VECTORS").map(PathBuf::from).or_else(|| {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/vectors");
        beside.is_dir().then_some(beside)
    });
    let Some(directory) = directory else {
        println!("skipped: {name} is an outside vector and EXO_VECTORS names no directory");
        return None;
    };
    let text = std::fs::read_to_string(directory.join(name))
        .unwrap_or_else(|error| panic!("{name} in {}: {error}", directory.display()));
    Some(serde_json::from_str(&text).expect("JSON"))
}

fn cases(file: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    let groups = file["testGroups"].as_array().expect("groups").iter();
    groups.flat_map(|group| {
        let tests = group["tests"].as_array().expect("tests").iter();
        tests.map(move |test| (group, test))
    })
}

fn is_valid(test: &Value) -> bool {
    match test["result"].as_str() {
        Some("valid") => true,
        Some("invalid") => false,
        other => panic!("{other:?}"),
    }
}

/// X-Wing's combiner, written down a second time.
fn combined(ss_m: &[u8], ss_x: &[u8], ct_x: &[u8], pk_x: &[u8]) -> Vec<u8> {
    let mut context = Context::new(&SHA3_256);
    for part in [ss_m, ss_x, ct_x, pk_x, b"\x5c\x2e\x2f\x2f\x5e\x5c"] {
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

/// The draft's expandDecapsulationKey: SHAKE256 of the seed gives d, z and the X25519 scalar.
fn x_wing_pair(seed: &[u8]) -> KemKeypair {
    let mut expanded = [0; 96];
    let mut hasher = shake::Shake256::default();
    hasher.update(seed);
    hasher.finalize_xof().read(&mut expanded);
    keypair(&expand_ml_kem(&expanded[..64]), &expanded[64..]).expect("a key")
}

fn check_x_wing(vector: &Value) {
    let pair = x_wing_pair(&bytes(&vector["sk"]));
    assert_eq!(pair.public().as_bytes().as_slice(), bytes(&vector["pk"]));
    let ciphertext = KemCiphertext::from_bytes(&bytes(&vector["ct"])).expect("1120 bytes");
    let secret = pair.decapsulate(&ciphertext).expect("decapsulates");
    assert_eq!(secret.expose().as_slice(), bytes(&vector["ss"]));
}

#[test]
fn the_kept_x_wing_vector_holds() {
    let text = include_str!("../vectors/x-wing.json");
    let file: Value = serde_json::from_str(text).expect("JSON");
    check_x_wing(&file["vector"]);
}

/// KEM 0x647A of HPKE is this one: its keys come from the seed and its secret from the encapsulation. The
/// end of the public key is compared, and the whole of it goes into the secret.
#[test]
fn the_vector_of_hpkes_kem_0x647a_holds() {
    let text = include_str!("../vectors/hpke-pq.json");
    let vector: Value = serde_json::from_str(text).expect("JSON");
    let pair = x_wing_pair(&bytes(&vector["sk"]));
    assert!(pair.public().as_bytes().ends_with(&bytes(&vector["pk_end"])));
    let ciphertext = KemCiphertext::from_bytes(&bytes(&vector["enc"])).expect("1120 bytes");
    let secret = pair.decapsulate(&ciphertext).expect("decapsulates");
    assert_eq!(secret.expose().as_slice(), bytes(&vector["shared_secret"]));
}

#[test]
fn all_x_wing_vectors_of_the_draft_hold() {
    let Some(file) = load("x-wing/test-vectors.json") else { return };
    let vectors = file.as_array().expect("a list");
    assert!(vectors.len() >= 3);
    vectors.iter().for_each(check_x_wing);
}

#[test]
fn ml_kem_decapsulates_as_wycheproof_says() {
    let Some(file) = load("wycheproof/mlkem_768_test.json") else { return };
    let x25519 = [0x40; 32];
    let base = KemKeypair::generate().expect("a key pair");
    let (share, _) = base.public().encapsulate().expect("encapsulates");
    let ct_x = &share.as_bytes()[1088..];
    let (mut agreed, mut refused) = (0, 0);
    for (_, test) in cases(&file) {
        let id = &test["tcId"];
        let seed = bytes(&test["seed"]);
        let c = bytes(&test["c"]);
        if seed.len() != 64 || c.len() != 1088 {
            assert!(!is_valid(test), "{id}");
            let ciphertext = KemCiphertext::from_bytes(&[&c, ct_x].concat());
            assert_eq!(ciphertext.is_none(), c.len() != 1088, "{id}");
            refused += 1;
            continue;
        }
        let pair = keypair(&expand_ml_kem(&seed), &x25519).expect("a key");
        let (ek, pk_x) = pair.public().as_bytes().split_at(1184);
        if is_valid(test) && test.get("ek").is_some() {
            assert_eq!(ek, bytes(&test["ek"]), "{id}");
        }
        let ss_x = x25519_of(&x25519, ct_x).expect("not of low order");
        let ciphertext = KemCiphertext::from_bytes(&[&c, ct_x].concat()).expect("1120 bytes");
        let secret = pair.decapsulate(&ciphertext).expect("decapsulates");
        let expected = combined(&bytes(&test["K"]), &ss_x, ct_x, pk_x);
        assert_eq!(secret.expose().as_slice() == expected, is_valid(test), "{id}");
        agreed += 1;
    }
    println!("ML-KEM-768 decapsulation: {agreed} agreed, {refused} refused by their length");
    assert!(agreed > 100);
}

/// X25519 by the library, to put an expected value together.
fn x25519_of(scalar: &[u8], share: &[u8]) -> Option<Vec<u8>> {
    use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
    let scalar = PrivateKey::from_private_key(&X25519, scalar).ok()?;
    agree(&scalar, UnparsedPublicKey::new(&X25519, share), (), |z| Ok(z.to_vec())).ok()
}

#[test]
fn ml_kem_expanded_keys_are_wycheproofs() {
    let Some(file) = load("wycheproof/mlkem_768_keygen_seed_test.json") else { return };
    for (_, test) in cases(&file) {
        let dk = bytes(&test["dk"]);
        assert_eq!(expand_ml_kem(&bytes(&test["seed"])), dk, "{}", test["tcId"]);
        let pair = keypair(&dk, &[0x40; 32]).expect("a key");
        assert_eq!(&pair.public().as_bytes()[..1184], bytes(&test["ek"]), "{}", test["tcId"]);
    }
}

#[test]
fn ml_kem_public_keys_out_of_range_are_refused() {
    let Some(file) = load("wycheproof/mlkem_768_encaps_test.json") else { return };
    let base = KemKeypair::generate().expect("a key pair");
    let (mut used, mut refused) = (0, 0);
    for (_, test) in cases(&file) {
        let key = [&bytes(&test["ek"]), &base.public().as_bytes()[1184..]].concat();
        let outcome = KemPublicKey::from_bytes(&key).map(|key| key.encapsulate().map(|_| ()));
        if is_valid(test) {
            assert_eq!(outcome, Some(Ok(())), "{}", test["tcId"]);
            used += 1;
        } else {
            assert!(matches!(outcome, None | Some(Err(KemError::PublicKey))), "{}", test["tcId"]);
            refused += 1;
        }
    }
    println!("ML-KEM-768 encapsulation: {used} keys used, {refused} refused");
    assert!(refused > 100);
}

#[test]
fn x25519_agrees_as_wycheproof_says_and_low_order_is_refused() {
    let Some(file) = load("wycheproof/x25519_test.json") else { return };
    let ml_kem = expand_ml_kem(&[7; 64]);
    let first = keypair(&ml_kem, &[0x40; 32]).expect("a key");
    let (ct_m, ss_m) = ml_kem_part(&first);
    let (mut agreed, mut refused) = (0, 0);
    for (_, test) in cases(&file) {
        let id = &test["tcId"];
        let (share, shared) = (bytes(&test["public"]), bytes(&test["shared"]));
        let pair = keypair(&ml_kem, &bytes(&test["private"])).expect("a key");
        let pk_x = &pair.public().as_bytes()[1184..];
        let ciphertext = KemCiphertext::from_bytes(&[ct_m.as_slice(), &share].concat());
        let outcome = pair.decapsulate(&ciphertext.expect("1120 bytes"));
        if shared == [0; 32] {
            assert_eq!(outcome.err(), Some(KemError::Ciphertext), "{id}");
            refused += 1;
        } else {
            let expected = combined(&ss_m, &shared, &share, pk_x);
            assert_eq!(outcome.expect("agrees").expose().as_slice(), expected, "{id}");
            agreed += 1;
        }
    }
    println!("X25519: {agreed} agreed, {refused} of low order refused");
    assert!(agreed > 300 && refused > 10);
}

/// An ML-KEM ciphertext for the pair and its shared secret, by the library.
fn ml_kem_part(pair: &KemKeypair) -> (Vec<u8>, Vec<u8>) {
    use aws_lc_rs::kem::{EncapsulationKey, ML_KEM_768};
    let key = &pair.public().as_bytes()[..1184];
    let key = EncapsulationKey::new(&ML_KEM_768, key).expect("a key");
    let (ciphertext, secret) = key.encapsulate().expect("encapsulates");
    (ciphertext.as_ref().to_vec(), secret.as_ref().to_vec())
}

#[test]
fn ml_dsa_verifies_as_wycheproof_says() {
    let Some(file) = load("wycheproof/mldsa_65_verify_test.json") else { return };
    let (mut checked, mut without_form, mut with_context) = (0, 0, 0);
    for (group, test) in cases(&file) {
        if test.get("ctx").is_some_and(|context| context != "") {
            // There is no way to give a context, to the library or to us.
            with_context += 1;
            continue;
        }
        let key = IdentityKey::from_bytes(&bytes(&group["publicKey"]));
        let signature = Signature::from_bytes(&bytes(&test["sig"]));
        let (Ok(key), Some(signature)) = (key, signature) else {
            assert!(!is_valid(test), "{}", test["tcId"]);
            without_form += 1;
            continue;
        };
        if let Some(der) = group.get("publicKeyDer").filter(|der| der.is_string()) {
            assert_eq!(key.spki_der(), bytes(der), "{}", test["tcId"]);
            assert_eq!(IdentityKey::from_spki_der(&bytes(der)), Ok(key.clone()));
        }
        // The call that `IdentityKey::verify` makes, on a message without a label.
        let outcome = UnparsedPublicKey::new(&ML_DSA_65, key.as_bytes())
            .verify(&bytes(&test["msg"]), signature.as_bytes());
        assert_eq!(outcome.is_ok(), is_valid(test), "{}", test["tcId"]);
        checked += 1;
    }
    println!(
        "ML-DSA-65: {checked} checked, {without_form} refused by their length, \
         {with_context} with a context left out"
    );
    assert!(checked > 50);
}

#[test]
fn ml_dsa_44_of_cosigners_verifies_as_wycheproof_says() {
    let Some(file) = load("wycheproof/mldsa_44_verify_test.json") else { return };
    let (mut checked, mut without_form, mut with_context) = (0, 0, 0);
    for (group, test) in cases(&file) {
        if test.get("ctx").is_some_and(|context| context != "") {
            // There is no way to give a context, to the library or to us.
            with_context += 1;
            continue;
        }
        let key = CosignerKey::from_bytes(&bytes(&group["publicKey"]));
        let signature = CosignerSignature::from_bytes(&bytes(&test["sig"]));
        let (Some(key), Some(signature)) = (key, signature) else {
            assert!(!is_valid(test), "{}", test["tcId"]);
            without_form += 1;
            continue;
        };
        let outcome = key.verify(&bytes(&test["msg"]), &signature);
        assert_eq!(outcome.is_ok(), is_valid(test), "{}", test["tcId"]);
        checked += 1;
    }
    println!(
        "ML-DSA-44: {checked} checked, {without_form} refused by their length, \
         {with_context} with a context left out"
    );
    assert!(checked > 50);
}

#[test]
fn chacha20_poly1305_opens_as_wycheproof_says() {
    let Some(file) = load("wycheproof/chacha20_poly1305_test.json") else { return };
    let (mut checked, mut other_nonce) = (0, 0);
    for (_, test) in cases(&file) {
        let Ok(nonce) = Nonce::try_assume_unique_for_key(&bytes(&test["iv"])) else {
            assert!(!is_valid(test), "{}", test["tcId"]);
            other_nonce += 1;
            continue;
        };
        // The call that sealing makes; a key of ours seals once, so there the nonce is always zero.
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes(&test["key"])).expect("32 bytes");
        let mut body = [bytes(&test["ct"]), bytes(&test["tag"])].concat();
        let aad = Aad::from(bytes(&test["aad"]));
        let opened = LessSafeKey::new(key).open_in_place(nonce, aad, &mut body);
        assert_eq!(opened.is_ok(), is_valid(test), "{}", test["tcId"]);
        if let Ok(plaintext) = opened {
            assert_eq!(plaintext, bytes(&test["msg"]), "{}", test["tcId"]);
        }
        checked += 1;
    }
    println!("ChaCha20-Poly1305: {checked} checked, {other_nonce} refused by their nonce's length");
    assert!(checked > 200);
}
