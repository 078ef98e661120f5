//! The same questions to other implementations of the formats: the crates `signed_note` and `tlog_tiles`,
//! and a checkpoint that torchwood's tests have.

use std::path::{Path, PathBuf};

use exo_log::{
    Checkpoint, Cosigner, KeyId, KeyName, MemoryTree, NodeReader, Note, NoteSignature, Tile,
    TileKind, TreeHash, VerifierKey, consistency_path, inclusion_path, leaf_hash, node_hash,
    root_at, tiles_to_write, verify_consistency, verify_inclusion,
};
use proptest::prelude::*;
use signed_note::{Verifier, generate_key};
use tlog_tiles::{Hash, HashReader};

use crate::{entry, log};

/// Our tree as the other crate asks for it.
struct Ours<'a>(&'a MemoryTree);

impl HashReader for Ours<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        let read = |index: &u64| {
            let (level, number) = tlog_tiles::split_stored_hash_index(*index);
            self.0.node(level, number).map(theirs).map_err(|_| tlog_tiles::Error::IndexesNotInTree)
        };
        indexes.iter().map(read).collect()
    }
}

fn theirs(hash: TreeHash) -> Hash {
    Hash(*hash.as_bytes())
}

fn all_theirs(hashes: &[TreeHash]) -> Vec<Hash> {
    hashes.iter().copied().map(theirs).collect()
}

#[test]
fn hashes_roots_and_paths_are_those_of_tlog_tiles() {
    let tree = log(300);
    let leaf = |index| leaf_hash(&entry(index));
    assert_eq!(theirs(leaf(3)), tlog_tiles::record_hash(&entry(3)));
    assert_eq!(
        theirs(node_hash(&leaf(1), &leaf(2))),
        tlog_tiles::node_hash(theirs(leaf(1)), theirs(leaf(2)))
    );
    for size in (1..300).filter(|size| size % 7 < 2) {
        let root = root_at(size, &tree).expect("in the tree");
        assert_eq!(tlog_tiles::tree_hash(size, &Ours(&tree)).expect("read"), theirs(root));
        for index in (0..size).filter(|index| size < 40 || index % 11 == 0) {
            let path = inclusion_path(index, size, &tree).expect("in the tree");
            let others = tlog_tiles::prove_record(size, index, &Ours(&tree)).expect("read");
            assert_eq!(others, all_theirs(&path), "{index} in {size}");
            let checked =
                tlog_tiles::check_record(&others, size, theirs(root), index, theirs(leaf(index)));
            assert!(checked.is_ok(), "{index} in {size}");
            if index > 0 {
                let path = consistency_path(index, size, &tree).expect("in the tree");
                let others = tlog_tiles::prove_tree(size, index, &Ours(&tree)).expect("read");
                assert_eq!(others, all_theirs(&path), "{index} to {size}");
            }
        }
    }
}

#[test]
fn tiles_are_those_of_tlog_tiles() {
    let tree = log(1_500);
    for (old, new) in [(0, 1), (0, 256), (0, 1_500), (255, 257), (700, 1_500), (1_500, 1_500)] {
        let ours = tiles_to_write(old, new).filter(|tile| tile.kind() != TileKind::Entries);
        let ours: Vec<Tile> = ours.collect();
        let others = tlog_tiles::Tile::new_tiles(8, old, new);
        assert_eq!(ours.len(), others.len(), "{old} to {new}");
        for (ours, other) in ours.iter().zip(&others) {
            // The other crate's paths have the tiles' height in them.
            assert_eq!(ours.to_string().replacen("tile/", "tile/8/", 1), other.path());
            let bytes = ours.hash_bytes(&tree).expect("has the nodes");
            assert_eq!(bytes, other.read_data(&Ours(&tree)).expect("read"), "{ours}");
        }
    }
}

#[test]
fn a_verifier_key_of_signed_note_is_read_and_has_the_same_number() {
    let (_, text) = generate_key(&mut Counter(7), "example.com/foo");
    let ours: VerifierKey = text.parse().expect("a verifier key");
    let other = signed_note::StandardVerifier::new(&text).expect("a verifier key");
    assert_eq!(ours.to_string(), text);
    assert_eq!((ours.name().as_str(), ours.id().get()), (other.name(), other.key_id()));
    let key = [&[6], vec![9; 1312].as_slice()].concat();
    let name = KeyName::new("a/b").expect("a name");
    assert_eq!(KeyId::of(&name, 6, &key[1..]).get(), signed_note::key_id("a/b", &key));
}

/// Key generation of the other crate, from bytes that are known.
struct Counter(u64);

impl signed_note_rand::RngCore for Counter {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = (self.next_u64() >> 56) as u8;
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), signed_note_rand::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl signed_note_rand::CryptoRng for Counter {}

/// Checks that both take the note, or both refuse it, and that it is the same note to both.
fn compare_notes(bytes: &[u8]) -> bool {
    let other = signed_note::Note::from_bytes(bytes);
    match Note::parse(bytes) {
        Ok(ours) => {
            let other = other.expect("the other crate takes it");
            assert_eq!(ours.text().as_bytes(), other.text());
            assert_eq!(ours.to_string().as_bytes(), bytes);
            assert_eq!(other.to_bytes(), bytes);
            true
        }
        Err(ours) => {
            assert!(other.is_err(), "{ours}: {:?}", String::from_utf8_lossy(bytes));
            false
        }
    }
}

fn small_note() -> Vec<u8> {
    let signature = |name: &str, len| {
        let name = KeyName::new(name).expect("a name");
        NoteSignature::new(name, KeyId::new(0x0102_0304), vec![7; len]).expect("in bounds")
    };
    let signatures = vec![signature("a.example/é", 1), signature("b", 30), signature("c", 2)];
    let text = "example.com/log\n3\n\nmore\n".to_owned();
    Note::new(text, signatures).expect("a note").to_string().into_bytes()
}

/// Where the outside vectors are, as for those of exo-crypto.
fn outside(name: &str) -> Option<String> {
    let directory = std::env::var_os("EXO_VECTORS").map(PathBuf::from).or_else(|| {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/vectors");
        beside.is_dir().then_some(beside)
    });
    let text = directory.and_then(|directory| std::fs::read_to_string(directory.join(name)).ok());
    if text.is_none() {
        println!("skipped: {name} is an outside vector and was not found");
    }
    text
}

#[test]
fn a_cosignature_of_torchwoods_tests_holds() {
    // github.com/FiloSottile/torchwood, cmd/litewitness/testdata/mldsa.txt, kept under this name.
    // The script names the log's verifier key and posts one checkpoint that it has cosigned.
    let Some(script) = outside("torchwood/mldsa.txt") else { return };
    let key = script.split_once(" -key ").and_then(|(_, rest)| rest.lines().next());
    let key: VerifierKey = key.expect("a key").parse().expect("a verifier key");
    let cosigner = Cosigner::from_verifier_key(&key).expect("ML-DSA-44");
    let (_, note) = script.split_once("old 0\n\n").expect("a request");
    let (note, _) = note.split_once("```").expect("its end");
    let note = Note::parse(note.as_bytes()).expect("a note");
    let checkpoint: Checkpoint = note.text().parse().expect("a checkpoint");
    assert_eq!(cosigner.verify(&checkpoint, &note.signatures()[0]), Ok(0));
    let other = Checkpoint::new(checkpoint.origin().clone(), 2, *checkpoint.root());
    assert!(cosigner.verify(&other.expect("in bounds"), &note.signatures()[0]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn notes_are_taken_and_refused_as_signed_note_does(
        at in any::<prop::sample::Index>(), byte in prop::sample::select(&b"\n =+Aa\xe2\x94\x00/"[..]),
        insert in any::<bool>(),
    ) {
        let mut bytes = small_note();
        assert!(compare_notes(&bytes));
        let at = at.index(bytes.len());
        if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
        compare_notes(&bytes);
    }

    #[test]
    fn checkpoints_are_taken_and_refused_as_tlog_tiles_does(
        at in any::<prop::sample::Index>(), byte in prop::sample::select(&b"\n =+A0\xc3"[..]),
    ) {
        let mut bytes = format!("a.example/log\n10\n{}\n", leaf_hash(b"x")).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let ours = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse::<Checkpoint>().ok());
        let other = tlog_tiles::Checkpoint::from_bytes(&bytes).ok();
        if let Some(ours) = ours {
            let other = other.expect("the other crate takes it");
            prop_assert_eq!(ours.origin().as_str(), other.origin());
            prop_assert_eq!(ours.size(), other.size());
            prop_assert_eq!(theirs(*ours.root()), *other.hash());
        } else if let Some(other) = other {
            let empty = other.size() == 0 && *other.hash() != theirs(TreeHash::EMPTY);
            prop_assert!(!other.extension().is_empty() || empty, "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn paths_are_taken_and_refused_as_tlog_tiles_does(
        size in 1..600_u64, other_size in 1..600_u64, index in 0..600_u64, taken in 0..600_u64,
    ) {
        let tree = log(size);
        let (index, taken) = (index % size, taken % size);
        let path = inclusion_path(index, size, &tree).expect("in the tree");
        let (root, leaf) = (tree.root(), leaf_hash(&entry(index)));
        let ours = verify_inclusion(&leaf, taken, other_size, &path, &root).is_ok();
        let other = taken < other_size && tlog_tiles::check_record(
            &all_theirs(&path), other_size, theirs(root), taken, theirs(leaf)).is_ok();
        prop_assert_eq!(ours, other);
        let was = root_at(taken, &tree).expect("in the tree");
        let path = consistency_path(index, size, &tree).expect("in the tree");
        if index > 0 && taken > 0 && taken <= other_size {
            let ours = verify_consistency(taken, &was, other_size, &root, &path).is_ok();
            let other = tlog_tiles::check_tree(
                &all_theirs(&path), other_size, theirs(root), taken, theirs(was)).is_ok();
            prop_assert_eq!(ours, other, "{} to {}", taken, other_size);
        }
    }
}
