//! Our own encodings and derivations, frozen: a change to one of these files is a decision.
//!
//! `EXO_VECTORS_FREEZE=1` writes them anew. What is drawn at random, a signature and a sealed message,
//! is written only where there is none, and must verify or open for ever.

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use exo_crypto::{
    KemEpoch, KemEpochKey, KemKeypair, Label, PostQuantumKeypair, Sealed, SharedSecret, Signed,
    Words, content_hash, fingerprint_words, hash, kdf, keyfile, mac, mac_verify, open, sas,
    save_identity, seal,
};
use exo_types::codec::Wire;
use exo_types::{PeerId, Timestamp};
use serde_json::{Value, json};

use crate::{bytes, expand_ml_kem, keypair};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

fn freezing() -> bool {
    std::env::var_os("EXO_VECTORS_FREEZE").is_some()
}

fn read(name: &str) -> Option<Value> {
    let text = fs::read_to_string(path(name)).ok()?;
    Some(serde_json::from_str(&text).expect("JSON"))
}

fn write(name: &str, value: &Value) {
    let text = serde_json::to_string_pretty(value).expect("JSON");
    fs::write(path(name), text + "\n").expect("writes");
}

/// Compares with the file, or writes it.
fn check(name: &str, value: &Value) {
    if freezing() {
        write(name, value);
    }
    assert_eq!(read(name).as_ref(), Some(value), "{name} has changed");
}

/// The file's content, or what `make` gives when there is none and it is to be written.
fn kept(name: &str, make: impl FnOnce() -> Value) -> Value {
    if freezing() && read(name).is_none() {
        write(name, &make());
    }
    read(name).unwrap_or_else(|| panic!("{name} is missing"))
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

fn identity(seed: u8) -> PostQuantumKeypair {
    PostQuantumKeypair::from_seed(&[seed; 32]).expect("a seed expands")
}

fn secret(byte: u8) -> SharedSecret {
    SharedSecret::from_slice(&[byte; 32]).expect("the length is right")
}

fn kem_pair() -> KemKeypair {
    keypair(&expand_ml_kem(&[7; 64]), &[8; 32]).expect("a key")
}

#[test]
fn identities_keep_their_names_and_der_forms() {
    let vectors: Vec<_> = [0, 1, 0xff]
        .map(|byte| {
            let identity = identity(byte);
            json!({
                "seed": hex([byte; 32]),
                "peer_id": identity.peer_id().to_string(),
                "spki_der": hex(identity.public().spki_der()),
                "pkcs8_der": hex(identity.to_pkcs8()),
                "words": fingerprint_words(identity.peer_id()).to_string(),
                "reset_key": hex(identity.derive(Label::RESET_KEY).expose()),
            })
        })
        .to_vec();
    check("identity.json", &json!({ "algorithm": "ML-DSA-65", "vectors": vectors }));
}

#[test]
fn no_label_is_ever_changed_or_taken_back() {
    let known: Vec<_> = Label::ALL.iter().map(|label| label.as_str()).collect();
    if freezing() {
        write("labels.json", &json!({ "labels": known }));
    }
    let frozen = read("labels.json").expect("labels.json is missing");
    for label in frozen["labels"].as_array().expect("a list") {
        assert!(known.contains(&label.as_str().expect("text")), "{label} is gone");
    }
}

#[test]
fn hashes_and_words_keep_their_values() {
    let parts: [&[&[u8]]; 5] = [&[], &[b""], &[b"ab", b"c"], &[b"a", b"bc"], &[&[0xff; 100]]];
    let hashes: Vec<_> = parts
        .iter()
        .map(|parts| {
            json!({
                "label": Label::GENESIS.as_str(),
                "parts": parts.iter().map(hex).collect::<Vec<_>>(),
                "hash": hex(hash(Label::GENESIS, parts)),
            })
        })
        .collect();
    let contents: Vec<_> = [("", ""), ("Title", "Text"), ("Überschrift", "日本語 text\n")]
        .iter()
        .map(|(title, text)| {
            json!({ "title": title, "text": text, "hash": hex(content_hash(title, text).0) })
        })
        .collect();
    let words: Vec<_> = [[0; 32], [0x5a; 32], [0xff; 32]]
        .iter()
        .map(|hash| json!({ "hash": hex(hash), "words": Words::from_hash(hash).to_string() }))
        .collect();
    let value = json!({ "hashes": hashes, "content_hashes": contents, "words": words });
    check("hash.json", &value);
}

#[test]
fn derived_keys_and_codes_keep_their_values() {
    let vectors: Vec<_> = [(1, ""), (2, "info"), (0xff, "a longer piece of information")]
        .iter()
        .map(|(byte, text)| {
            json!({
                "secret": hex([*byte; 32]),
                "label": Label::INVITE_KEY.as_str(),
                "input": hex(text),
                "kdf": hex(kdf(&secret(*byte), Label::INVITE_KEY, text.as_bytes()).expose()),
                "mac": hex(mac(&secret(*byte), Label::INVITE_KEY, text.as_bytes())),
            })
        })
        .collect();
    check("derive.json", &json!({ "vectors": vectors }));
    for (byte, text) in [(1, ""), (2, "info")] {
        let code = mac(&secret(byte), Label::INVITE_KEY, text.as_bytes());
        let holds = mac_verify(&secret(byte), Label::INVITE_KEY, text.as_bytes(), &code);
        assert_eq!(holds, Ok(()));
    }
}

#[test]
fn comparison_words_keep_their_values() {
    let (joiner, inviter) = (PeerId::new([3; 32]), PeerId::new([4; 32]));
    let (ours, theirs) = (sas::SasNonce::new([1; 32]), sas::SasNonce::new([2; 32]));
    let commitment = sas::commit(&ours, &[9; 32]).to_bytes();
    let value = json!({
        "exporter": hex([9; 32]),
        "joiner": hex(joiner.as_bytes()),
        "inviter": hex(inviter.as_bytes()),
        "joiner_nonce": hex([1; 32]),
        "inviter_nonce": hex([2; 32]),
        "commitment": hex(commitment),
        "words": sas::words(&[9; 32], joiner, inviter, &ours, &theirs).to_string(),
    });
    check("sas.json", &value);
}

#[test]
fn what_was_once_encapsulated_and_sealed_still_opens() {
    let pair = kem_pair();
    let value = kept("seal.json", || {
        let (ciphertext, shared) = pair.public().encapsulate().expect("encapsulates");
        let sealed = seal(pair.public(), Label::SEAL, b"aad", b"plaintext").expect("seals");
        json!({
            "secret_key": hex(pair.secret_bytes().expose()),
            "public_key": hex(pair.public().as_bytes()),
            "ciphertext": hex(ciphertext.as_bytes()),
            "shared_secret": hex(shared.expose()),
            "label": Label::SEAL.as_str(),
            "aad": hex("aad"),
            "plaintext": hex("plaintext"),
            "sealed": hex(sealed.to_wire().expect("encodes")),
        })
    });
    let stored = bytes(&value["secret_key"]);
    let stored = KemKeypair::from_secret_bytes(stored.as_slice().try_into().expect("2432 bytes"));
    let stored = stored.expect("a key");
    assert_eq!(hex(stored.public().as_bytes()), value["public_key"]);
    assert_eq!(stored.public(), pair.public());
    let ciphertext = exo_crypto::KemCiphertext::from_bytes(&bytes(&value["ciphertext"]));
    let shared = stored.decapsulate(&ciphertext.expect("1120 bytes")).expect("decapsulates");
    assert_eq!(hex(shared.expose()), value["shared_secret"]);
    let sealed = Sealed::from_wire(&bytes(&value["sealed"])).expect("decodes");
    let opened = open(&stored, Label::SEAL, b"aad", &sealed).expect("opens");
    assert_eq!(opened.as_slice(), b"plaintext");
}

#[test]
fn what_was_once_signed_still_verifies() {
    let identity = identity(1);
    let body = KemEpochKey {
        peer: identity.peer_id(),
        epoch: KemEpoch(1_800_000_000),
        not_before: Timestamp(1_800_000_000_000),
        not_after: Timestamp(1_800_086_400_000),
        key: kem_pair().public().clone(),
    };
    let value = kept("signed.json", || {
        let signed = Signed::sign(body.clone(), &identity).expect("signs");
        json!({
            "seed": hex([1; 32]),
            "label": Label::KEM_EPOCH.as_str(),
            "body": hex(signed.signed().body()),
            "signed": hex(signed.signed().to_wire().expect("encodes")),
        })
    });
    assert_eq!(hex(body.to_wire().expect("encodes")), value["body"]);
    let signed = Signed::<KemEpochKey>::from_wire(&bytes(&value["signed"])).expect("decodes");
    let verified = signed.verify(identity.public()).expect("verifies");
    assert_eq!(*verified, body);
}

#[test]
fn a_key_file_keeps_its_bytes() {
    let home = tempfile::tempdir().expect("a directory");
    let keys = home.path().join("keys");
    exo_crypto::private_directory(&keys).expect("makes a directory");
    let file = keys.join("identity.key");
    save_identity(&file, &identity(1)).expect("writes");
    let content = fs::read(&file).expect("reads");
    let value = json!({ "kind": "identity", "seed": hex([1; 32]), "file": hex(&content) });
    check("keyfile.json", &value);
    let payload = keyfile::decode(&content, exo_crypto::KeyFileKind::Identity);
    assert_eq!(payload, Ok([1; 32].as_slice()));
}
