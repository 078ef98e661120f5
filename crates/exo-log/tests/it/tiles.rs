//! Tiles: their paths, their bytes, and a log that is read back from them.

use std::collections::BTreeMap;

use exo_log::{
    MemoryTree, NodeReader, Tile, TileError, TileKind, TileNodes, TileReadError, TileReader,
    consistency_path, inclusion_path, leaf_hash, root_at, tiles_to_write,
};
use proptest::prelude::*;

use crate::{entry, log};

const LEAVES: TileKind = TileKind::Hashes { level: 0 };

/// Files by their paths.
#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl TileReader for Files {
    type Error = String;

    fn tile(&self, tile: &Tile) -> Result<Vec<u8>, String> {
        let path = tile.to_string();
        let full = path.split_once(".p/").map(|(full, _)| full);
        let found = self.0.get(&path).or_else(|| self.0.get(full?));
        found.cloned().ok_or(path)
    }
}

/// Writes what is new since the old size.
fn write(files: &mut Files, old: u64, log: &MemoryTree) {
    for tile in tiles_to_write(old, log.size()) {
        let bytes = match tile.kind() {
            TileKind::Hashes { .. } => tile.hash_bytes(log).expect("has the nodes"),
            TileKind::Entries => {
                let first = tile.index() * 256;
                let entries: Vec<_> = (first..first + tile.width() as u64).map(entry).collect();
                tile.bundle_bytes(&entries).expect("fits")
            }
        };
        files.0.insert(tile.to_string(), bytes);
    }
}

#[test]
fn a_tile_has_the_path_of_the_specification() {
    let path = |kind, index, size| Tile::in_log(kind, index, size).map(|tile| tile.to_string());
    assert_eq!(path(LEAVES, 0, 256).as_deref(), Some("tile/0/000"));
    assert_eq!(path(LEAVES, 0, 1).as_deref(), Some("tile/0/000.p/1"));
    assert_eq!(path(LEAVES, 1_234_067, 1 << 40).as_deref(), Some("tile/0/x001/x234/067"));
    assert_eq!(
        path(TileKind::Entries, 1000, 1000 * 256 + 7).as_deref(),
        Some("tile/entries/x001/000.p/7")
    );
    assert_eq!(path(TileKind::Hashes { level: 1 }, 0, 256).as_deref(), Some("tile/1/000.p/1"));
    assert_eq!(path(LEAVES, 1, 256), None);
    assert_eq!(path(TileKind::Hashes { level: 63 }, 0, u64::MAX), None);
    assert_eq!(path(LEAVES, u64::MAX, u64::MAX), None);
}

#[test]
fn seventy_thousand_entries_are_the_tiles_of_the_specification() {
    let tiles: Vec<_> = tiles_to_write(0, 70_000).collect();
    let of = |kind| tiles.iter().filter(move |tile| tile.kind() == kind);
    for kind in [LEAVES, TileKind::Entries] {
        assert_eq!(of(kind).filter(|tile| tile.is_full()).count(), 273);
        assert_eq!(of(kind).next_back().map(Tile::width), Some(112));
    }
    let level = |level| of(TileKind::Hashes { level }).map(Tile::width).collect::<Vec<_>>();
    assert_eq!(level(1), [256, 17]);
    assert_eq!(level(2), [1]);
    assert!(level(3).is_empty());
    assert_eq!(tiles_to_write(70_000, 70_000).count(), 0);
    let more: Vec<_> = tiles_to_write(70_000, 70_001).map(|tile| tile.to_string()).collect();
    assert_eq!(more, ["tile/entries/273.p/113", "tile/0/273.p/113"]);
}

#[test]
fn a_path_of_another_form_is_no_tile() {
    for path in [
        "tile/0/000",
        "tile/63/000",
        "tile/entries/x123/x456/789.p/255",
        "tile/0/x018/x014/x398/x509/x481/983",
    ] {
        assert_eq!(path.parse::<Tile>().map(|tile| tile.to_string()), Ok(path.to_owned()));
    }
    for path in [
        "",
        "tile/0",
        "tile/0/",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/data/000",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001/x000",
        "tile/0/x001000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert!(path.parse::<Tile>().is_err(), "{path}");
    }
}

#[test]
fn a_log_is_read_back_from_its_tiles_at_every_size() {
    let mut files = Files::default();
    let (mut growing, mut old) = (MemoryTree::new(), 0);
    for size in [0, 1, 3, 255, 256, 257, 300, 511, 513, 66_000] {
        while growing.size() < size {
            growing.append(leaf_hash(&entry(growing.size()))).expect("not full");
        }
        write(&mut files, old, &growing);
        old = size;
        let nodes = TileNodes::new(&files, size);
        assert_eq!(root_at(size, &nodes), Ok(growing.root()), "{size}");
        for index in [0, size / 3, size / 2, size.saturating_sub(1)] {
            if index < size {
                let path = inclusion_path(index, size, &growing).expect("in the log");
                assert_eq!(inclusion_path(index, size, &nodes), Ok(path), "{index} in {size}");
            }
            let path = consistency_path(index, size, &growing).expect("in the log");
            assert_eq!(consistency_path(index, size, &nodes), Ok(path), "{index} to {size}");
        }
    }
}

impl TileReader for &Files {
    type Error = String;

    fn tile(&self, tile: &Tile) -> Result<Vec<u8>, String> {
        (**self).tile(tile)
    }
}

#[test]
fn a_partial_tile_is_read_from_the_full_one_that_took_its_place() {
    let log = log(300);
    let full = Tile::in_log(LEAVES, 0, 300).expect("in the log");
    let partial = Tile::in_log(LEAVES, 0, 77).expect("in the log");
    let bytes = full.hash_bytes(&log).expect("has the nodes");
    assert_eq!(bytes.len(), 8192);
    let hashes = partial.hashes(&bytes).expect("a tile");
    assert_eq!(hashes.len(), 77);
    assert_eq!(hashes[76], leaf_hash(&entry(76)));
    for wrong in [&bytes[..76 * 32], &bytes[..77 * 32 - 1], &[bytes.as_slice(), &[0; 32]].concat()]
    {
        assert_eq!(partial.hashes(wrong), Err(TileError::Length(wrong.len())));
    }
}

#[test]
fn an_entry_bundle_holds_its_entries_and_nothing_else() {
    let bundle = Tile::in_log(TileKind::Entries, 0, 3).expect("in the log");
    let entries = [b"".to_vec(), b"two".to_vec(), vec![7; 65_535]];
    let bytes = bundle.bundle_bytes(&entries).expect("fits");
    assert_eq!(bundle.entries(&bytes).expect("a bundle"), entries);
    for cut in [0, 1, 2, 5, bytes.len() - 1] {
        assert!(bundle.entries(&bytes[..cut]).is_err(), "{cut}");
    }
    assert_eq!(bundle.bundle_bytes(&entries[..2]), Err(TileError::Count(2)));
    let long = [vec![], vec![], vec![0; 65_536]];
    assert_eq!(bundle.bundle_bytes(&long), Err(TileError::EntryLength(65_536)));
    assert_eq!(bundle.entries(&vec![0; 2 * 257]), Err(TileError::Length(514)));
    assert_eq!(bundle.hashes(&bytes), Err(TileError::NotHashes));
    let hashes = Tile::in_log(LEAVES, 0, 3).expect("in the log");
    assert_eq!(hashes.entries(&bytes), Err(TileError::NotEntries));
    assert_eq!(hashes.bundle_bytes(&entries), Err(TileError::NotEntries));
}

#[test]
fn a_missing_tile_and_one_of_another_log_are_errors() {
    let log = log(300);
    let nodes = TileNodes::new(Files::default(), 300);
    assert_eq!(nodes.node(0, 299), Err(TileReadError::Read("tile/0/001.p/44".to_owned())));
    assert_eq!(nodes.node(0, 300), Err(TileReadError::NoSuchNode { level: 0, index: 300 }));
    assert!(matches!(nodes.node(255, u64::MAX), Err(TileReadError::NoSuchNode { .. })));
    assert!(log.node(255, u64::MAX).is_err() && log.node(8, 1).is_err());
    let far: Tile = "tile/63/000".parse().expect("a path");
    assert!(far.hash_bytes(&log).is_err());
    let bundle = Tile::in_log(TileKind::Entries, 0, 300).expect("in the log");
    assert_eq!(bundle.hash_bytes(&log), Err(TileReadError::Tile(TileError::NotHashes)));
}

proptest! {
    #[test]
    fn any_bytes_are_a_tile_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..600), size in 1..400_u64,
    ) {
        for kind in [LEAVES, TileKind::Entries] {
            let tile = Tile::in_log(kind, 0, size).expect("in the log");
            let _ = tile.hashes(&bytes);
            if let Ok(entries) = tile.entries(&bytes) {
                prop_assert_eq!(entries.len(), tile.width());
            }
        }
    }

    #[test]
    fn a_path_reads_back_as_its_tile(index in any::<u64>(), size in any::<u64>(), level in 0..8_u8) {
        for kind in [TileKind::Entries, TileKind::Hashes { level }] {
            if let Some(tile) = Tile::in_log(kind, index >> (index % 64), size) {
                prop_assert_eq!(tile.to_string().parse(), Ok(tile));
            }
        }
    }
}
