//! The tree against RFC 6962: known answers, a second implementation from its text, and every alteration.

use data_encoding::HEXLOWER;
use exo_log::{
    ConsistencyError, Frontier, InclusionError, MemoryTree, TreeError, TreeHash, consistency_path,
    inclusion_path, leaf_hash, node_hash, root_at, subtree_path, verify_consistency,
    verify_inclusion, verify_subtree,
};
use proptest::prelude::*;

use crate::{altered, entry, log};

/// The inputs of certificate-transparency's own tests.
const INPUTS: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
const SIZE_MAX: u64 = 300;

fn hash(hex: &str) -> TreeHash {
    let bytes = HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal");
    TreeHash::new(bytes.try_into().expect("32 bytes"))
}

fn hashes(hex: &[&str]) -> Vec<TreeHash> {
    hex.iter().map(|hex| hash(hex)).collect()
}

fn known() -> MemoryTree {
    let mut tree = MemoryTree::new();
    for (index, input) in (0..).zip(INPUTS) {
        let input = HEXLOWER.decode(input.as_bytes()).expect("hexadecimal");
        assert_eq!(tree.append(leaf_hash(&input)), Ok(index));
    }
    tree
}

/// MTH of RFC 6962 section 2.1, as it is written there.
fn mth(leaves: &[TreeHash]) -> TreeHash {
    match leaves {
        [] => TreeHash::EMPTY,
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&mth(left), &mth(right))
        }
    }
}

/// PATH of RFC 6962 section 2.1.1.
fn path(index: usize, leaves: &[TreeHash]) -> Vec<TreeHash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let middle = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(middle);
    let (mut path, sibling) = if index < middle {
        (path(index, left), mth(right))
    } else {
        (path(index - middle, right), mth(left))
    };
    path.push(sibling);
    path
}

/// SUBPROOF of RFC 6962 section 2.1.2.
fn subproof(old: usize, leaves: &[TreeHash], whole: bool) -> Vec<TreeHash> {
    if old == leaves.len() {
        return if whole { Vec::new() } else { vec![mth(leaves)] };
    }
    let middle = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(middle);
    let (mut path, sibling) = if old <= middle {
        (subproof(old, left, whole), mth(right))
    } else {
        (subproof(old - middle, right, false), mth(left))
    };
    path.push(sibling);
    path
}

fn leaves() -> Vec<TreeHash> {
    (0..SIZE_MAX).map(|index| leaf_hash(&entry(index))).collect()
}

#[test]
fn the_roots_of_the_known_inputs_are_the_known_ones() {
    let tree = known();
    for (size, root) in (0..).zip(ROOTS) {
        assert_eq!(root_at(size, &tree), Ok(hash(root)), "{size}");
        assert_eq!(Frontier::read(size, &tree).expect("read").root(), hash(root), "{size}");
    }
    assert_eq!(tree.root(), hash(ROOTS[8]));
    assert_eq!(TreeHash::EMPTY, hash(ROOTS[0]));
}

#[test]
fn the_paths_of_the_known_inputs_are_the_known_ones() {
    let tree = known();
    let second = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
    let third = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
    let fifth = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
    let last_two = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
    let last_four = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";
    let fifth_two = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
    for (index, size, path) in [
        (0, 1, &[][..]),
        (0, 8, &[second, third, last_four]),
        (5, 8, &[fifth, last_two, ROOTS[4]]),
        (2, 3, &[ROOTS[2]]),
        (1, 5, &[ROOTS[1], third, fifth]),
    ] {
        assert_eq!(inclusion_path(index, size, &tree), Ok(hashes(path)), "{index} in {size}");
    }
    for (old, new, path) in [
        (1, 1, &[][..]),
        (1, 8, &[second, third, last_four]),
        (6, 8, &[fifth_two, last_two, ROOTS[4]]),
        (2, 5, &[third, fifth]),
    ] {
        assert_eq!(consistency_path(old, new, &tree), Ok(hashes(path)), "{old} to {new}");
    }
}

#[test]
fn every_entry_of_every_size_has_the_path_of_the_rfc_and_no_other_index_takes_it() {
    let (leaves, tree) = (leaves(), log(SIZE_MAX));
    for size in 1..=SIZE_MAX {
        let of_size = &leaves[..size as usize];
        let root = mth(of_size);
        assert_eq!(root_at(size, &tree), Ok(root), "{size}");
        // All indices where it is quick, and those at the edges.
        let every = if size < 70 { 1 } else { 23 };
        for index in (0..size).filter(|index| index % every == 0 || index + 3 > size) {
            let path = inclusion_path(index, size, &tree).expect("in the tree");
            assert_eq!(path, self::path(index as usize, of_size), "{index} in {size}");
            let leaf = &leaves[index as usize];
            assert_eq!(verify_inclusion(leaf, index, size, &path, &root), Ok(()));
            let others = [index ^ 1, index + 1, index / 2, size - 1 - index, size];
            for other in others.into_iter().filter(|other| *other != index) {
                let outcome = verify_inclusion(leaf, other, size, &path, &root);
                assert!(outcome.is_err(), "{index} taken for {other} in {size}");
            }
            let far = verify_inclusion(leaf, size, size, &path, &root);
            assert_eq!(far, Err(InclusionError::OutOfRange { index: size, size }));
        }
    }
}

#[test]
fn every_two_sizes_have_the_path_of_the_rfc() {
    let (leaves, tree) = (leaves(), log(SIZE_MAX));
    let roots: Vec<_> = (0..=SIZE_MAX).map(|size| mth(&leaves[..size as usize])).collect();
    for new in 0..=SIZE_MAX {
        for old in (0..=new).filter(|old| new < 70 || old % 17 == 0 || old + 3 > new) {
            let path = consistency_path(old, new, &tree).expect("in the tree");
            if old > 0 && old < new {
                assert_eq!(path, subproof(old as usize, &leaves[..new as usize], true));
            }
            let (was, is) = (&roots[old as usize], &roots[new as usize]);
            assert_eq!(verify_consistency(old, was, new, is, &path), Ok(()), "{old} to {new}");
            let mut longer = path.clone();
            longer.push(*is);
            let outcome = verify_consistency(old, was, new, is, &longer);
            assert_eq!(outcome, Err(ConsistencyError::PathLength), "{old} to {new}");
            if old > 0 {
                let outcome = verify_consistency(old, &altered(was), new, is, &path);
                assert!(outcome.is_err(), "{old} to {new}");
                let outcome = verify_consistency(old, was, new, &altered(is), &path);
                assert!(outcome.is_err(), "{old} to {new}");
            }
        }
    }
}

#[test]
fn every_complete_subtree_is_shown_to_be_in_the_tree() {
    let (leaves, tree) = (leaves(), log(SIZE_MAX));
    for size in [1, 2, 7, 64, 100, 255, 256, 257, SIZE_MAX] {
        let root = root_at(size, &tree).expect("in the tree");
        for level in 0..9_u8 {
            for index in 0..size >> level {
                let (first, end) = (index << level, (index + 1) << level);
                let node = mth(&leaves[first as usize..end as usize]);
                let path = subtree_path(level, index, size, &tree).expect("in the tree");
                let check = |node: &TreeHash, level, index| {
                    verify_subtree(node, level, index, size, &path, &root)
                };
                assert_eq!(check(&node, level, index), Ok(()), "{level} {index} in {size}");
                assert!(check(&altered(&node), level, index).is_err());
                assert!(check(&node, level, index + 1).is_err(), "{level} {index} in {size}");
            }
            let outside = subtree_path(level, size >> level, size, &tree);
            assert!(matches!(outside, Err(TreeError::OutOfRange { .. })));
        }
        assert!(verify_subtree(&root, 64, 0, size, &[], &root).is_err());
        assert!(verify_subtree(&root, 255, u64::MAX, size, &[], &root).is_err());
    }
}

#[test]
fn a_frontier_goes_on_from_its_parts_and_from_a_reader() {
    let tree = log(SIZE_MAX);
    let mut grown = Frontier::new();
    for size in 0..SIZE_MAX {
        assert_eq!(grown, Frontier::read(size, &tree).expect("read"));
        let parts = Frontier::from_parts(grown.size(), grown.peaks().to_vec());
        assert_eq!(parts.as_ref(), Some(&grown));
        assert_eq!(grown.append(leaf_hash(&entry(size)), |_, _, _| ()), Ok(size));
    }
    assert_eq!(grown.root(), tree.root());
    assert_eq!(Frontier::from_parts(3, vec![TreeHash::EMPTY]), None);
    assert_eq!(Frontier::from_parts(u64::MAX, vec![TreeHash::EMPTY; 64]), None);
}

#[test]
fn what_is_not_in_the_tree_is_an_error() {
    let tree = log(5);
    let outside = TreeError::OutOfRange { index: 5, size: 5 };
    assert_eq!(inclusion_path(5, 5, &tree), Err(outside));
    assert!(matches!(inclusion_path(0, 0, &tree), Err(TreeError::OutOfRange { .. })));
    assert!(matches!(consistency_path(6, 5, &tree), Err(TreeError::OutOfRange { .. })));
    assert!(matches!(root_at(6, &tree), Err(TreeError::Read(_))));
    assert!(matches!(inclusion_path(4, 6, &tree), Err(TreeError::Read(_))));
    let shrunk = verify_consistency(2, &tree.root(), 1, &tree.root(), &[]);
    assert_eq!(shrunk, Err(ConsistencyError::Shrunk { old: 2, new: 1 }));
    let empty = verify_consistency(0, &tree.root(), 5, &tree.root(), &[]);
    assert_eq!(empty, Err(ConsistencyError::OldRoot));
}

#[test]
fn a_hash_has_one_text() {
    let hash = leaf_hash(b"x");
    assert_eq!(hash.to_string().parse(), Ok(hash));
    let text = hash.to_string();
    let other_last = text.replace("=", "").chars().last().map(|c| if c == 'A' { 'B' } else { 'A' });
    let loose = format!("{}{}=", &text[..42], other_last.expect("a character"));
    for text in ["", "AAAA", &text[..43], &format!("{text}="), &format!(" {text}"), &loose] {
        let read = text.parse::<TreeHash>();
        assert!(read.is_err() || read.is_ok_and(|read| read.to_string() == *text), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_altered_byte_of_an_inclusion_is_refused(
        size in 1..=SIZE_MAX, index in 0..SIZE_MAX, at in 0..400_usize, xor in 1..=255_u8,
    ) {
        let (tree, index) = (log(size), index % size);
        let root = tree.root();
        let mut path = inclusion_path(index, size, &tree).expect("in the tree");
        let mut leaf = leaf_hash(&entry(index));
        let parts = path.len() + 1;
        let part = (at / 32) % parts;
        let target = if part == 0 { &mut leaf } else { &mut path[part - 1] };
        let mut bytes = *target.as_bytes();
        bytes[at % 32] ^= xor;
        *target = TreeHash::new(bytes);
        let outcome = verify_inclusion(&leaf, index, size, &path, &root);
        prop_assert_eq!(outcome, Err(InclusionError::Root));
    }

    #[test]
    fn any_altered_byte_of_a_consistency_is_refused(
        new in 2..=SIZE_MAX, old in 1..SIZE_MAX, at in 0..400_usize, xor in 1..=255_u8,
    ) {
        let (tree, old) = (log(new), 1 + old % (new - 1));
        let was = root_at(old, &tree).expect("in the tree");
        let mut path = consistency_path(old, new, &tree).expect("in the tree");
        let part = (at / 32) % path.len();
        let mut bytes = *path[part].as_bytes();
        bytes[at % 32] ^= xor;
        path[part] = TreeHash::new(bytes);
        prop_assert!(verify_consistency(old, &was, new, &tree.root(), &path).is_err());
        path.remove(part);
        prop_assert!(verify_consistency(old, &was, new, &tree.root(), &path).is_err());
    }

    #[test]
    fn any_numbers_at_all_are_answered(
        index in any::<u64>(), size in any::<u64>(), old in any::<u64>(), level in any::<u8>(),
        length in 0..70_usize,
    ) {
        let path = vec![TreeHash::EMPTY; length];
        let root = TreeHash::EMPTY;
        let _ = verify_subtree(&root, level, index, size, &path, &root);
        prop_assert!(old == size || verify_consistency(old, &root, size, &root, &path).is_err() || old == 0);
    }
}
