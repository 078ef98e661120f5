//! The log: its tiles, its proofs, and what is made of damage.

use std::fs;
use std::path::{Path, PathBuf};

use exo_consensus::{Archive as _, Record};
use exo_log::{
    MemoryTree, TILE_WIDTH, Tile, TileKind, TreeHash, consistency_path, inclusion_path, leaf_hash,
    root_at, tiles_to_write, verify_inclusion,
};

use super::super::{Archive, Journal, JournalError, Opened, Part};
use super::sample::{Rng, Script, directory};

/// A log of at least so many leaves, which its journal has forgotten.
fn rotated(dir: &Path, leaves: u64, seed: u64) -> Script {
    let mut script = Script::new(seed);
    let mut journal = Journal::open(dir).expect("opens").journal;
    journal.append(&script.group(1)).expect("writes");
    while script.tree().size() < leaves {
        journal.append(&script.batch_of(3)).expect("writes");
    }
    script.certificate();
    let (number, records) = script.rotate();
    journal.rotate(number, &records).expect("begins anew");
    script
}

fn proves(archive: &Archive, tree: &MemoryTree, leaf: u64, size: u64) {
    let path = archive.inclusion(leaf, size).expect("a path");
    assert_eq!(path, inclusion_path(leaf, size, tree).expect("a path"));
    let entry = archive.entry(leaf).expect("reads").expect("is there");
    let root = root_at(size, tree).expect("a root");
    verify_inclusion(&leaf_hash(&entry), leaf, size, &path, &root).expect("the path holds");
}

#[test]
fn tiles_and_proofs_are_those_of_the_tree_in_memory_at_every_size() {
    let dir = directory();
    let mut script = Script::new(21);
    let Opened { mut journal, archive, .. } = Journal::open(dir.path()).expect("opens");
    journal.append(&script.group(1)).expect("writes");
    let mut rng = Rng(1);
    let mut before = script.tree().size();
    while script.tree().size() < 600 {
        journal.append(&script.batch_of(rng.below(3) as usize)).expect("writes");
        let (tree, size) = (script.tree(), script.tree().size());
        assert_eq!(archive.size(), size);
        assert_eq!(archive.root(size), Some(tree.root()));
        for tile in tiles_to_write(before, size) {
            let bytes = archive.tile(&tile).expect("it has the tile");
            match tile.kind() {
                TileKind::Hashes { .. } => {
                    assert_eq!(bytes, tile.hash_bytes(tree).expect("the tree has it"), "{tile}");
                    assert_eq!(archive.hash_tile(&tile), Some(bytes));
                }
                TileKind::Entries => {
                    let entries = tile.entries(&bytes).expect("entries");
                    let first = tile.index() * TILE_WIDTH;
                    for (at, entry) in entries.iter().enumerate() {
                        let leaf = exo_log::NodeReader::node(tree, 0, first + at as u64);
                        assert_eq!(leaf_hash(entry), leaf.expect("the tree has it"), "{tile}");
                    }
                }
            }
        }
        let old = rng.below(size + 1);
        let path = archive.consistency(old, size).expect("a path");
        let path: Vec<TreeHash> = path.iter().map(|root| TreeHash::new(root.0)).collect();
        assert_eq!(path, consistency_path(old, size, tree).expect("a path"));
        proves(&archive, tree, rng.below(size), size);
        before = size;
    }
    let tree = script.tree();
    for leaf in (0..600).step_by(37) {
        proves(&archive, tree, leaf, leaf + 1);
        proves(&archive, tree, leaf, 600);
    }
    let all = TileKind::Hashes { level: 0 };
    let narrow = Tile::in_log(all, 1, 300).expect("a partial tile");
    let bytes = archive.tile(&narrow).expect("a full tile has its beginning");
    assert_eq!(bytes, narrow.hash_bytes(tree).expect("the tree has it"));
    assert_eq!(archive.tile(&Tile::in_log(all, 2, 700).expect("a tile")), None, "not yet");
    assert_eq!(archive.tile(&Tile::in_log(all, 9, 1 << 20).expect("a tile")), None);
    assert_eq!((archive.root(5000), archive.inclusion(7, 5000)), (None, None));
    assert_eq!((archive.inclusion(7, 7), archive.consistency(9, 8)), (None, None));
    assert_eq!(archive.entry(5000).expect("reads"), None);
}

#[test]
fn batches_are_given_from_a_leaf_on_and_no_more_than_asked_for() {
    let dir = directory();
    let script = rotated(dir.path(), 200, 22);
    let archive = Journal::open(dir.path()).expect("opens").archive;
    let all = script.batches();
    assert_eq!(archive.batches(0, 7).expect("reads"), all[..7]);
    assert_eq!(archive.batches(all[9].0, 1000).expect("reads"), all[9..]);
    assert_eq!(archive.batches(all[9].0 + 1, 1).expect("reads"), all[9..10], "the one that has it");
    assert_eq!(archive.batches(archive.size(), 7).expect("reads"), []);
    assert_eq!(archive.batch_at(all[9].0 + 1), None, "it does not begin there");
}

#[test]
fn a_log_of_several_levels_comes_back_from_its_tiles() {
    let dir = directory();
    let mut script = Script::new(23);
    let mut journal = Journal::open(dir.path()).expect("opens").journal;
    journal.append(&script.group(1)).expect("writes");
    while script.tree().size() < 70_000 {
        let batches: Vec<_> = (0..16).flat_map(|_| script.batch_of(60)).collect();
        journal.append(&batches).expect("writes");
    }
    let (number, records) = script.rotate();
    journal.rotate(number, &records).expect("begins anew");
    let tree = script.tree();
    let archive = Journal::open(dir.path()).expect("opens").archive;
    assert_eq!(archive.root(tree.size()), Some(tree.root()));
    for leaf in [0, 255, 256, 65_535, 65_536, tree.size() - 1] {
        proves(&archive, tree, leaf, tree.size());
    }
    let tile = Tile::in_log(TileKind::Hashes { level: 1 }, 0, 65_536).expect("full");
    assert_eq!(archive.tile(&tile), tile.hash_bytes(tree).ok());

    // Every tile is lost, or another: they follow from the batches.
    fs::remove_file(dir.path().join("log/hashes-1")).expect("removes");
    let low = dir.path().join("log/hashes-0");
    let right = fs::read(&low).expect("reads");
    let mut wrong = right.clone();
    wrong[3 * 8192 + 77] ^= 1;
    fs::write(&low, &wrong).expect("writes");
    let archive = Journal::open(dir.path()).expect("opens").archive;
    proves(&archive, tree, 3 * 256 + 5, tree.size());
    proves(&archive, tree, 60_000, tree.size());
    assert_eq!(archive.tile(&tile), tile.hash_bytes(tree).ok());
    assert_eq!(fs::read(&low).expect("reads"), right, "it was made anew");
    for level in ["log/hashes-0", "log/hashes-1"] {
        fs::remove_file(dir.path().join(level)).expect("removes");
    }
    let archive = Journal::open(dir.path()).expect("opens").archive;
    proves(&archive, tree, 60_000, tree.size());
}

#[test]
fn a_tile_that_changes_under_way_is_not_given_out() {
    let dir = directory();
    let script = rotated(dir.path(), 600, 24);
    let archive = Journal::open(dir.path()).expect("opens").archive;
    for content in [vec![1; 2 * 8192], vec![2; 8192 + 100], vec![3; 100], Vec::new()] {
        fs::write(dir.path().join("log/hashes-0"), content).expect("writes");
        for leaf in [3, 300] {
            proves(&archive, script.tree(), leaf, script.tree().size());
        }
    }
}

/// Where the bytes of batches begin and end in their file.
fn batches(dir: &Path) -> (PathBuf, Vec<u8>) {
    let file = dir.join("log/batches");
    let bytes = fs::read(&file).expect("reads");
    (file, bytes)
}

#[test]
fn a_wrong_byte_anywhere_in_the_log_is_an_error_and_never_another_batch() {
    let dir = directory();
    let script = rotated(dir.path(), 30, 25);
    let (file, bytes) = batches(dir.path());
    let mut found = 0;
    for at in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1 << (at % 8);
        fs::write(&file, &wrong).expect("writes");
        let archive = match Journal::open(dir.path()) {
            Ok(opened) => opened.archive,
            Err(JournalError::Damaged { part: Part::Log, .. }) => {
                found += 1;
                continue;
            }
            Err(error) => panic!("at {at}: {error}"),
        };
        let read = archive.batches(0, 1000);
        match read {
            Ok(all) => assert_eq!(all, script.batches(), "at {at}"),
            Err(_) => found += 1,
        }
    }
    assert!(found > bytes.len() * 8 / 10, "{found} of {}", bytes.len());
}

#[test]
fn a_log_that_lost_its_end_is_damaged_where_the_journal_forgot_it_and_repaired_where_not() {
    let dir = directory();
    let mut script = rotated(dir.path(), 300, 26);
    let (file, bytes) = batches(dir.path());
    let mut journal = Journal::open(dir.path()).expect("opens").journal;
    for _ in 0..20 {
        journal.append(&script.batch_of(2)).expect("writes");
    }
    journal.sync().expect("syncs");
    drop(journal);
    let (_, all) = batches(dir.path());
    for len in (bytes.len()..all.len()).step_by(13) {
        let mut short = all[..len].to_vec();
        // Something else stands in the last sector.
        short.resize(len + len % 3 * 100, 0x5a);
        fs::write(&file, &short).expect("writes");
        script.check(&Journal::open(dir.path()).expect("repairs it").archive);
    }
    for len in (0..bytes.len()).step_by(997) {
        fs::write(&file, &all[..len]).expect("writes");
        let opened = Journal::open(dir.path());
        let damaged = matches!(opened, Err(JournalError::Damaged { part: Part::Log, .. }));
        assert!(damaged, "{len} bytes: {opened:?}");
    }
    Journal::set_aside(dir.path(), Part::Log).expect("moves");
    let opened = Journal::open(dir.path()).expect("opens");
    assert!(opened.records.is_empty() && opened.archive.size() == 0);
}

#[test]
fn another_log_than_the_journal_knows_is_damaged() {
    let (dir, other) = (directory(), directory());
    rotated(dir.path(), 300, 27);
    rotated(other.path(), 300, 28);
    fs::remove_dir_all(dir.path().join("log")).expect("removes");
    fs::rename(other.path().join("log"), dir.path().join("log")).expect("renames");
    let opened = Journal::open(dir.path());
    assert!(matches!(opened, Err(JournalError::Damaged { part: Part::Log, .. })), "{opened:?}");
}

#[test]
fn the_log_holds_no_batch_that_the_journal_does_not_vouch_for() {
    let dir = directory();
    let mut script = rotated(dir.path(), 100, 29);
    let journal_file = dir.path().join("journal/journal-00000002");
    let journal_then = fs::read(&journal_file).expect("reads");
    let size = script.tree().size();
    let mut journal = Journal::open(dir.path()).expect("opens").journal;
    journal.append(&script.batch_of(5)).expect("writes");
    drop(journal);
    // The batch came to the disk, its record did not.
    fs::write(&journal_file, journal_then).expect("writes");
    let Opened { archive, records, .. } = Journal::open(dir.path()).expect("opens");
    assert!(!records.iter().any(|record| matches!(record, Record::Append(_))));
    assert_eq!(archive.size(), size);
}

#[test]
fn files_of_any_content_are_opened_or_refused() {
    let dir = directory();
    let mut script = rotated(dir.path(), 600, 30);
    let mut journal = Journal::open(dir.path()).expect("opens").journal;
    journal.append(&script.end_epoch()).expect("writes");
    journal.append(&script.group(9)).expect("writes");
    journal.sync().expect("syncs");
    drop(journal);
    let names =
        ["journal/journal-00000002", "log/batches", "log/ends", "log/latest", "log/hashes-0"];
    let files: Vec<_> = names.iter().map(|name| dir.path().join(name)).collect();
    let contents: Vec<_> = files.iter().map(|file| fs::read(file).expect("reads")).collect();
    let mut rng = Rng(31);
    let mut opened = 0;
    for _ in 0..400 {
        for (file, content) in files.iter().zip(&contents) {
            fs::write(file, content).expect("writes");
        }
        let which = rng.below(files.len() as u64) as usize;
        let mut bytes = contents[which].clone();
        let used = bytes.iter().rposition(|byte| *byte != 0).expect("some") as u64 + 1;
        let from = rng.below(used) as usize;
        let len = 1 + rng.below(100) as usize;
        match rng.below(4) {
            0 => bytes.truncate(from),
            1 => bytes[from..].iter_mut().take(len).for_each(|byte| *byte = rng.below(256) as u8),
            2 => bytes.copy_within(0..len.min(from), from - len.min(from)),
            _ => drop(bytes.splice(from..from, (0..len).map(|at| at as u8))),
        }
        fs::write(&files[which], &bytes).expect("writes");
        match Journal::open(dir.path()) {
            Ok(Opened { archive, records, .. }) => {
                opened += 1;
                assert_eq!(records, script.records()[..records.len()]);
                let size = archive.size();
                assert_eq!(archive.root(size), root_at(size, script.tree()).ok());
                if let Ok(batches) = archive.batches(0, 1000) {
                    assert_eq!(batches, script.batches()[..batches.len()]);
                }
                for epoch in 0..3 {
                    let end = archive.end_of(exo_types::Epoch(epoch));
                    assert!(end.is_none() || end.as_ref() == script.ends().values().next());
                }
            }
            Err(JournalError::Damaged { .. }) => {}
            Err(error) => panic!("{}: {error}", files[which].display()),
        }
    }
    assert!(opened > 50, "{opened} were opened");
}

#[test]
fn a_log_without_its_journal_is_refused_when_what_is_certified_is_damaged() {
    let dir = directory();
    rotated(dir.path(), 300, 32);
    Journal::set_aside(dir.path(), Part::Journal).expect("moves");
    let (file, bytes) = batches(dir.path());
    fs::write(&file, &bytes[..bytes.len() - 64]).expect("writes");
    let opened = Journal::open(dir.path());
    assert!(matches!(opened, Err(JournalError::Damaged { part: Part::Log, .. })), "{opened:?}");
    assert_eq!(batches(dir.path()).1.len(), bytes.len() - 64, "nothing was cut off");
}
