//! Notes, verifier keys, checkpoints and cosignatures: their one form, and what is refused.

use exo_crypto::CosignerSignature;
use exo_log::{
    Checkpoint, CheckpointError, CheckpointSigner, CosignatureError, Cosigner, KeyName,
    NotACosigner, Note, NoteError, NoteSignature, Origin, TreeHash, VerifierKey, VerifierKeyError,
    cosigned_message, leaf_hash,
};

use crate::{Federation, keypair};

/// The example of c2sp.org/signed-note.
const EXAMPLE_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const EXAMPLE_NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

fn name(text: &str) -> KeyName {
    KeyName::new(text).expect("a name")
}

#[test]
fn the_example_of_the_specification_is_read_and_written() {
    let key: VerifierKey = EXAMPLE_KEY.parse().expect("a verifier key");
    assert_eq!((key.signature_type(), key.public_key().len()), (1, 32));
    assert_eq!(key.to_string(), EXAMPLE_KEY);
    let note = Note::parse(EXAMPLE_NOTE.as_bytes()).expect("a note");
    assert_eq!(note.text(), "This is an example message.\n");
    let [signature] = note.signatures() else { panic!("one signature") };
    assert_eq!((signature.name(), signature.id()), (key.name(), key.id()));
    assert_eq!(signature.signature().len(), 64);
    assert_eq!(note.to_string(), EXAMPLE_NOTE);
    assert_eq!(Cosigner::from_verifier_key(&key), Err(NotACosigner::SignatureType(1)));
}

#[test]
fn the_text_of_a_note_ends_at_its_last_empty_line() {
    let text = EXAMPLE_NOTE.replace("This", "\n\nThis\n\n\u{2014} not a signature\n\nBut this");
    let note = Note::parse(text.as_bytes()).expect("a note");
    assert!(note.text().contains("not a signature\n\nBut this"));
    assert_eq!(note.to_string(), text);
}

#[test]
fn what_is_not_a_note_is_refused_with_its_reason() {
    let of = |text: &str| Note::parse(text.as_bytes()).expect_err("no note");
    let line = EXAMPLE_NOTE.split_once("\n\n").expect("two parts").1;
    assert_eq!(of(""), NoteError::Unsigned);
    assert_eq!(of("text\n"), NoteError::Unsigned);
    assert_eq!(of("text\n\n"), NoteError::Unsigned);
    assert_eq!(of(&EXAMPLE_NOTE[..EXAMPLE_NOTE.len() - 1]), NoteError::Unsigned);
    assert_eq!(of(&format!("text\r\n\n{line}")), NoteError::Control);
    assert_eq!(of(&format!("text\n\n{line}\n")), NoteError::Unsigned);
    assert_eq!(of(&format!("text\n\n{line}more\n")), NoteError::Signature(2));
    assert_eq!(of(&format!("text\n\n{}", line.replace('\u{2014}', "-"))), NoteError::Signature(1));
    assert_eq!(of(&format!("text\n\n{}", line.replace("foo ", "foo  "))), NoteError::Signature(1));
    assert_eq!(of(&format!("text\n\n{}", line.replace("foo", "f+o"))), NoteError::Signature(1));
    assert_eq!(of("text\n\n\u{2014} name AAAAAA==\n"), NoteError::Signature(1));
    assert_eq!(Note::parse(b"\xff\n\n"), Err(NoteError::NotUtf8));
    assert_eq!(of(&format!("text\n\n{}", line.repeat(273))), NoteError::TooManySignatures);
    assert!(Note::parse(format!("text\n\n{}", line.repeat(272)).as_bytes()).is_ok());
    let long = 2 * 1024 * 1024 + 1;
    assert_eq!(of(&"x".repeat(long)), NoteError::TooLong(long));
}

#[test]
fn a_name_has_no_space_of_any_kind_no_plus_and_no_control() {
    for text in ["", "a b", "a+b", "a\u{a0}b", "a\u{3000}b", "a\u{85}b", "a\tb", "a\u{1}b"] {
        assert!(KeyName::new(text).is_err(), "{text:?}");
    }
    assert!(KeyName::new("é".repeat(127)).is_ok() && KeyName::new("é".repeat(128)).is_err());
}

#[test]
fn what_is_not_a_verifier_key_is_refused_with_its_reason() {
    let of = |text: &str| text.parse::<VerifierKey>().expect_err("no verifier key");
    assert_eq!(of("example.com/foo"), VerifierKeyError::Parts);
    assert_eq!(of("example.com/foo+530d903a"), VerifierKeyError::Parts);
    assert!(matches!(of("a b+530d903a+AQ=="), VerifierKeyError::Name(_)));
    assert_eq!(of("a+530d903a+AQ=="), VerifierKeyError::Key);
    assert_eq!(of("a+530d903a+"), VerifierKeyError::Key);
    assert_eq!(of("a+530d903a+A?=="), VerifierKeyError::Key);
    for wrong in ["530D903A", "530d903b", "0530d903a", ""] {
        let text = EXAMPLE_KEY.replace("530d903a", wrong);
        assert!(matches!(of(&text), VerifierKeyError::Id { .. }), "{text}");
    }
    let long = format!("a+530d903a+{}", "A".repeat(20_000));
    assert_eq!(of(&long), VerifierKeyError::Key);
    let short = VerifierKey::new(name("a"), 6, vec![1; 1311]).expect("in bounds");
    assert_eq!(Cosigner::from_verifier_key(&short), Err(NotACosigner::KeyLength(1311)));
}

#[test]
fn a_checkpoint_is_three_lines() {
    let root = leaf_hash(b"x");
    let text = format!("exo-federation/x\n7\n{root}\n");
    let checkpoint: Checkpoint = text.parse().expect("a checkpoint");
    assert_eq!((checkpoint.origin().as_str(), checkpoint.size()), ("exo-federation/x", 7));
    assert_eq!(checkpoint.to_string(), text);
    let of = |text: &str| text.parse::<Checkpoint>().expect_err("no checkpoint");
    assert_eq!(of(""), CheckpointError::Lines);
    assert_eq!(of(&text[..text.len() - 1]), CheckpointError::Lines);
    assert_eq!(of("o\n7\n"), CheckpointError::Lines);
    assert_eq!(of(&format!("{text}extension\n")), CheckpointError::Extension);
    assert!(matches!(of(&format!("\n7\n{root}\n")), CheckpointError::Origin(_)));
    for size in ["", "07", "-7", "7 ", "4611686018427387905", "99999999999999999999"] {
        assert_eq!(of(&format!("o\n{size}\n{root}\n")), CheckpointError::Size, "{size}");
    }
    assert_eq!(of("o\n7\nAAAA\n"), CheckpointError::Root);
    assert_eq!(of(&format!("o\n0\n{root}\n")), CheckpointError::EmptyRoot);
    assert!(format!("o\n0\n{}\n", TreeHash::EMPTY).parse::<Checkpoint>().is_ok());
    assert_eq!(of(&"o".repeat(1025)), CheckpointError::TooLong(1025));
}

#[test]
fn the_signed_message_is_laid_out_as_the_specification_says() {
    let (cosigner, origin) = (name("w.example"), Origin::new("log.example").expect("a name"));
    let root = TreeHash::new([0xab; 32]);
    let message = cosigned_message(&cosigner, 0x0102, &origin, 8, 13, &root);
    let expected = [
        b"subtree/v1\n\0".as_slice(),
        b"\x09w.example",
        &[0, 0, 0, 0, 0, 0, 1, 2],
        b"\x0blog.example",
        &[0, 0, 0, 0, 0, 0, 0, 8],
        &[0, 0, 0, 0, 0, 0, 0, 13],
        &[0xab; 32],
    ]
    .concat();
    assert_eq!(message, expected);
}

#[test]
fn a_cosignature_is_bound_to_name_origin_size_and_root() {
    let root = leaf_hash(b"x");
    let checkpoint = |origin: &str, size, root| {
        Checkpoint::new(Origin::new(origin).expect("a name"), size, root).expect("in bounds")
    };
    let signer = CheckpointSigner::new(name("w"), keypair(1));
    let signed = checkpoint("o", 7, root);
    let line = signer.cosign(&signed).expect("signs");
    let bare = signer.sign(&signed).expect("signs");
    let cosigner = signer.cosigner();
    assert_eq!(cosigner.verify(&signed, &line), Ok(0));
    assert_eq!(cosigner.verify_bare(&signed, &bare), Ok(()));
    assert_eq!(cosigner.verify(&signed, &cosigner.line(&bare)), Ok(0));
    let bad = CosignatureError::BadSignature;
    for other in
        [checkpoint("p", 7, root), checkpoint("o", 8, root), checkpoint("o", 7, leaf_hash(b"y"))]
    {
        assert_eq!(cosigner.verify(&other, &line), Err(bad));
        assert_eq!(cosigner.verify_bare(&other, &bare), Err(bad));
    }
    let renamed = CheckpointSigner::new(name("v"), keypair(1));
    assert_eq!(renamed.cosigner().verify(&signed, &line), Err(CosignatureError::OtherSigner));
    assert_eq!(renamed.cosigner().verify_bare(&signed, &bare), Err(bad));
    let relabelled =
        NoteSignature::new(name("v"), renamed.cosigner().id(), line.signature().to_vec());
    assert_eq!(renamed.cosigner().verify(&signed, &relabelled.expect("in bounds")), Err(bad));
}

#[test]
fn two_cosignatures_of_one_checkpoint_differ_and_both_hold() {
    let federation = Federation::new(1, 1, 3);
    let checkpoint = federation.checkpoint();
    let signer = &federation.signers[0];
    let [a, b] = [(); 2].map(|()| signer.sign(&checkpoint).expect("signs"));
    assert!(a != b, "signing is hedged");
    for signature in [a, b] {
        assert_eq!(signer.cosigner().verify_bare(&checkpoint, &signature), Ok(()));
    }
    let zeros = CosignerSignature::from_bytes(&[0; 2420]).expect("the length is right");
    assert!(signer.cosigner().verify_bare(&checkpoint, &zeros).is_err());
}

#[test]
fn a_members_name_is_its_logs_and_its_own() {
    let federation = Federation::new(1, 1, 1);
    let (peer, _) = federation.members[0];
    let name = federation.origin.member(&peer).expect("a name");
    assert_eq!(name.as_str().len(), 15 + 52 + 1 + 52);
    assert_eq!(Origin::of_member(&name), Some((federation.origin.clone(), peer)));
    for text in [
        "exo-federation",
        "a/b",
        &name.as_str().to_uppercase(),
        &format!("/{peer}"),
        &peer.to_string(),
        &format!("{name}/"),
    ] {
        assert_eq!(Origin::of_member(&self::name(text)), None, "{text}");
    }
}
