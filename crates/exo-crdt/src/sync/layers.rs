//! Layered invertible tables: the difference of two sets in cells in proportion to it, not to the sets.
//!
//! An invertible Bloom lookup table (Goodrich & Mitzenmacher 2011) in layers: every item stands in one cell
//! of each layer. Layers are added until the difference decodes, so the table has no rate to be chosen
//! beforehand. A cell is the exclusive or of its items' short ids and of their 16-bit checks; it has no
//! count, because on which side an item is, the decoder sees by looking whether it has it.

use std::collections::HashSet;

use exo_types::limits::SYNC_LAYER_CELLS_MAX;

use crate::sync::short::ShortSet;
use crate::table;

/// One layer of a table. A cell is 10 bytes on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Exclusive or of the short ids in each cell.
    pub shorts: Vec<u64>,
    /// Exclusive or of their checks.
    pub checks: Vec<u16>,
}

impl Layer {
    /// Layer `number` of a set's table, of so many cells.
    pub fn of(set: &ShortSet, number: usize, cells: usize) -> Self {
        Self::several(set, number..number + 1, cells)
            .pop()
            .unwrap_or(Self { shorts: vec![], checks: vec![] })
    }

    /// Several layers, in one walk over the set.
    pub(crate) fn several(
        set: &ShortSet,
        numbers: std::ops::Range<usize>,
        cells: usize,
    ) -> Vec<Self> {
        let cells = cells.clamp(1, SYNC_LAYER_CELLS_MAX);
        let mut layers = vec![vec![Cell::default(); cells]; numbers.len()];
        toggle_all(set, numbers.start, &mut layers);
        let unzip =
            |cells: Vec<Cell>| cells.into_iter().map(|cell| (cell.short, cell.check)).unzip();
        layers.into_iter().map(unzip).map(|(shorts, checks)| Self { shorts, checks }).collect()
    }

    /// Cells in the layer.
    pub fn cells(&self) -> usize {
        self.shorts.len()
    }

    fn to_cells(&self) -> Vec<Cell> {
        let both = self.shorts.iter().zip(&self.checks);
        both.map(|(short, check)| Cell { short: *short, check: *check }).collect()
    }

    /// The layer's encoding: all short ids, then all checks, big-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let shorts = self.shorts.iter().flat_map(|short| short.to_be_bytes());
        let checks = self.checks.iter().flat_map(|check| check.to_be_bytes());
        shorts.chain(checks).collect()
    }

    /// Reads a layer; `None` when its length is none of a layer.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let cells = bytes.len() / CELL_BYTES;
        if cells == 0 || cells > SYNC_LAYER_CELLS_MAX || cells * CELL_BYTES != bytes.len() {
            return None;
        }
        let (shorts, checks) = bytes.split_at(cells * 8);
        let short = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).ok();
        let check = |bytes: &[u8]| bytes.try_into().map(u16::from_be_bytes).ok();
        Some(Self {
            shorts: shorts.chunks_exact(8).map(short).collect::<Option<_>>()?,
            checks: checks.chunks_exact(2).map(check).collect::<Option<_>>()?,
        })
    }
}

/// Decodes the difference of a set and another's layers.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    layers: Vec<Vec<Cell>>,
}

impl Decoder {
    /// Adds the other end's next layers: what both sets hold falls out of them.
    pub fn push(&mut self, set: &ShortSet, theirs: &[Layer]) {
        let first = self.layers.len();
        self.layers.extend(theirs.iter().filter(|layer| layer.cells() > 0).map(Layer::to_cells));
        toggle_all(set, first, &mut self.layers[first..]);
    }

    /// Layers so far.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// The short ids in which the sets differ, on whichever side; `None` when more layers are needed.
    ///
    /// It takes out at most as many items as the table has cells: layers that no set has, however they
    /// are made, end it there.
    pub fn decode(&self) -> Option<Vec<u64>> {
        let mut layers = self.layers.clone();
        let mut left: usize = layers.iter().map(Vec::len).sum();
        let mut queue: Vec<_> = layers
            .iter()
            .enumerate()
            .flat_map(|(layer, cells)| (0..cells.len()).map(move |cell| (layer, cell)))
            .collect();
        let mut found = HashSet::with_hasher(table::state());
        while let Some((layer, at)) = queue.pop() {
            let cell = layers[layer][at];
            if cell.is_empty() || !cell.is_single(layer, at, layers[layer].len()) {
                continue;
            }
            left = left.checked_sub(1)?;
            // Taken out twice it was never there.
            if !found.insert(cell.short) {
                found.remove(&cell.short);
            }
            for (number, cells) in layers.iter_mut().enumerate() {
                let place = place(cell.short, number, cells.len());
                cells[place].toggle(cell.short, cell.check);
                queue.push((number, place));
            }
        }
        let empty = layers.iter().flatten().all(Cell::is_empty);
        empty.then(|| found.into_iter().collect())
    }
}

/// Cells of one layer for an estimated difference, so that [`FIRST_LAYERS`] of them decode it 19 times of
/// 20 although the estimate is rough; `None` when the difference is too large for a table.
///
/// With three cells an item a difference decodes from 1.22 cells an item on, small ones from about 1.5;
/// the rest is for an estimate that is two standard deviations too low.
pub fn cells_for(estimate: u64) -> Option<usize> {
    let estimate = usize::try_from(estimate).ok()?;
    let cells = estimate.checked_mul(55)? / 100 + (estimate.isqrt() * 8) / 10 + 3;
    (cells <= SYNC_LAYER_CELLS_MAX).then_some(cells)
}

/// Layers sent at first.
pub const FIRST_LAYERS: usize = 3;
/// Length of a cell on the wire, bytes.
pub const CELL_BYTES: usize = 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    short: u64,
    check: u16,
}

impl Cell {
    fn toggle(&mut self, short: u64, check: u16) {
        self.short ^= short;
        self.check ^= check;
    }

    fn is_empty(&self) -> bool {
        self.short == 0 && self.check == 0
    }

    /// Whether one item is alone in the cell: its check is right and it belongs there.
    fn is_single(&self, layer: usize, at: usize, cells: usize) -> bool {
        self.check == check(self.short) && place(self.short, layer, cells) == at
    }
}

/// Puts every item of a set into the layers, or takes it out: layers from number `first` on.
fn toggle_all(set: &ShortSet, first: usize, layers: &mut [Vec<Cell>]) {
    for short in &set.shorts {
        let check = check(*short);
        for (number, cells) in (first..).zip(layers.iter_mut()) {
            let place = place(*short, number, cells.len());
            cells[place].toggle(*short, check);
        }
    }
}

/// The cell of a layer in which a short id stands.
fn place(short: u64, layer: usize, cells: usize) -> usize {
    let mixed = mix(short.wrapping_add(LAYER_STEP.wrapping_mul(layer as u64 + 1)));
    (((mixed >> 32) * cells as u64) >> 32) as usize
}

fn check(short: u64) -> u16 {
    mix(short ^ CHECK_SALT) as u16
}

/// The finalizer of SplitMix64 (Steele, Lea & Flood 2014). Short ids are unpredictable already; this
/// only makes the layers independent of each other.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

const LAYER_STEP: u64 = 0x9e37_79b9_7f4a_7c15;
const CHECK_SALT: u64 = 0x6a09_e667_f3bc_c908;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::short::{LinkSecret, SyncKey};

    fn set(shorts: impl Iterator<Item = u64>) -> ShortSet {
        let key = SyncKey::new(&LinkSecret([1; 32]), &[2; 16], &[3; 16]);
        ShortSet { shorts: shorts.map(|n| mix(n ^ 0x1234_5678)).collect(), key }
    }

    #[test]
    fn layers_decode_to_the_difference_of_both_sides() {
        let (a, b) = (set(0..5000), set(40..5050));
        let mut decoder = Decoder::default();
        decoder.push(&a, &Layer::several(&b, 0..FIRST_LAYERS, 69));
        let mut found = decoder.decode().expect("decodes");
        found.sort_unstable();
        let mut expected: Vec<_> =
            a.shorts[..40].iter().chain(&b.shorts[4960..]).copied().collect();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn layers_that_no_set_has_end_the_decoder() {
        let a = set(0..100);
        for seed in 0..200 {
            let mut decoder = Decoder::default();
            for number in 0..6 {
                let shorts: Vec<_> = (0..40).map(|i| mix(seed * 1000 + number * 40 + i)).collect();
                // Every cell looks like a single item.
                let checks = shorts.iter().map(|short| check(*short)).collect();
                decoder.push(&a, &[Layer { shorts, checks }]);
            }
            assert_eq!(decoder.decode(), None);
        }
    }

    #[test]
    fn a_layer_has_one_encoding_and_other_lengths_are_refused() {
        let layer = Layer::of(&set(0..50), 0, 7);
        let bytes = layer.to_bytes();
        assert_eq!(bytes.len(), 7 * CELL_BYTES);
        assert_eq!(Layer::from_bytes(&bytes), Some(layer));
        assert_eq!(Layer::from_bytes(&bytes[1..]), None);
        assert_eq!(Layer::from_bytes(&[]), None);
    }
}
