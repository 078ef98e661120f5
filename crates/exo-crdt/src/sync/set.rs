//! Two sets of 32-byte ids find out in which items they differ: the part of a synchronisation that is
//! about sets alone.
//!
//! The asker opens with a nonce; the answerer sends a sketch; the asker sends layers sized by it; the
//! answerer decodes. When it cannot, it asks for another layer; after [`SYNC_LAYERS_MAX`] for another key;
//! after [`SYNC_KEYS_MAX`] keys it compares by ranges, which cannot fail.

use exo_types::bounded;
use exo_types::codec::{CodecError, bound};
use exo_types::limits::{
    SYNC_ITEMS_MAX, SYNC_KEYS_MAX, SYNC_LAYER_CELLS_MAX, SYNC_LAYERS_MAX, SYNC_RANGES_MAX,
};
use serde::{Deserialize, Serialize};

use super::SyncError;
use super::layers::{CELL_BYTES, Decoder, FIRST_LAYERS, Layer, cells_for};
use super::ranges::{self, Range, Ranges};
use super::short::{LinkSecret, Nonce, SKETCH_COUNTERS, ShortSet, Sketch, SyncKey};
use crate::table;

/// What the answerer says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Its part of the key.
    pub nonce: Nonce,
    /// Its sketch, big-endian counters.
    #[serde(deserialize_with = "bounded::list::<_, _, SKETCH_BYTES>")]
    pub sketch: Vec<u8>,
}

/// A message about sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetMessage {
    /// The asker's next layers, each as [`Layer::to_bytes`].
    Layers(#[serde(deserialize_with = "layers")] Vec<LayerBytes>),
    /// The answerer cannot decode yet.
    More,
    /// The answerer gives this key up and draws another nonce.
    Rekey(Opening),
    /// A comparison by ranges; an empty one ends it.
    Ranges(#[serde(deserialize_with = "bounded::list::<_, _, SYNC_RANGES_MAX>")] Vec<Range>),
}

/// One layer on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerBytes(
    #[serde(
        serialize_with = "write_bytes",
        deserialize_with = "bounded::list::<_, _, LAYER_BYTES_MAX>"
    )]
    pub Vec<u8>,
);

/// What is known after a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetStep {
    /// What to answer.
    pub send: Option<SetMessage>,
    /// Places of the items of this end that the other lacks.
    pub mine: Vec<usize>,
    /// Short ids of items that this end lacks.
    pub theirs: Vec<u64>,
    /// Whether this end has compared all there is.
    pub finished: bool,
}

/// One end of a comparison of sets. It holds eight bytes an item, and what the other end may make it hold
/// is bounded by [`SYNC_LAYERS_MAX`] layers.
#[derive(Debug)]
pub struct SetSync {
    ids: Vec<[u8; 32]>,
    link: LinkSecret,
    asker: Nonce,
    set: Option<ShortSet>,
    decoder: Decoder,
    /// Cells of a layer, and how many were sent.
    sent: (usize, usize),
    keys: usize,
    ranges: Option<Ranges>,
    finished: bool,
}

impl SetSync {
    /// One end, with the nonce that the asker drew.
    ///
    /// # Errors
    /// [`SyncError::TooManyItems`].
    pub fn new(ids: Vec<[u8; 32]>, link: LinkSecret, asker: Nonce) -> Result<Self, SyncError> {
        if ids.len() > SYNC_ITEMS_MAX {
            return Err(SyncError::TooManyItems(ids.len()));
        }
        let (decoder, set, ranges) = (Decoder::default(), None, None);
        Ok(Self { ids, link, asker, set, decoder, sent: (0, 0), keys: 0, ranges, finished: false })
    }

    /// The answerer's opening, with the nonce it drew.
    pub fn answer(&mut self, nonce: Nonce) -> Opening {
        let set = self.with_key(nonce);
        let sketch = set.sketch().0.iter().flat_map(|counter| counter.to_be_bytes()).collect();
        Opening { nonce, sketch }
    }

    /// The asker's answer to an opening: layers, or ranges when the difference is too large for them.
    ///
    /// # Errors
    /// [`SyncError`].
    pub fn open(&mut self, opening: &Opening) -> Result<SetMessage, SyncError> {
        self.keys += 1;
        if self.keys > SYNC_KEYS_MAX {
            return Err(SyncError::Unexpected);
        }
        let counters = opening.sketch.chunks_exact(2).map(|c| i16::from_be_bytes([c[0], c[1]]));
        let theirs: Vec<_> = counters.collect();
        let theirs: [i16; SKETCH_COUNTERS] =
            theirs.try_into().map_err(|_| SyncError::Unexpected)?;
        // A second key means that the estimate was too low.
        let keys = self.keys as u64;
        let set = self.with_key(opening.nonce);
        let estimate = set.sketch().estimate(&Sketch(theirs)).saturating_mul(keys);
        match cells_for(estimate) {
            Some(cells) => {
                self.sent = (cells, 0);
                self.layers(FIRST_LAYERS)
            }
            None => self.start_ranges(),
        }
    }

    /// Takes a message of the other end, as the answerer or the asker. `nonce` is used when the key must
    /// be changed.
    ///
    /// # Errors
    /// [`SyncError`] when the other end does not keep to the protocol; nothing is to be sent then.
    pub fn handle(&mut self, message: &SetMessage, nonce: Nonce) -> Result<SetStep, SyncError> {
        if self.finished {
            return Err(SyncError::Unexpected);
        }
        let step = match message {
            SetMessage::Layers(layers) => self.decode(layers, nonce)?,
            SetMessage::More => SetStep { send: Some(self.layers(1)?), ..SetStep::default() },
            SetMessage::Rekey(opening) => {
                SetStep { send: Some(self.open(opening)?), ..SetStep::default() }
            }
            SetMessage::Ranges(theirs) => self.compare(theirs)?,
        };
        self.finished = step.finished;
        Ok(step)
    }

    /// Items of this end that short ids of a want-list name, by their first four bytes; more than one
    /// when they begin alike.
    pub fn wanted(&self, wants: &[u32]) -> Vec<usize> {
        let sieve = Sieve::new(wants.iter().copied());
        let wants: table::Set<u32> = wants.iter().copied().collect();
        let wanted = |short: &u64| sieve.may_hold(*short) && wants.contains(&prefix(*short));
        self.places(wanted)
    }

    /// The places of this end's items whose short ids are asked for.
    fn places(&self, asked: impl Fn(&u64) -> bool) -> Vec<usize> {
        let shorts = self.set.iter().flat_map(|set| &set.shorts);
        shorts.enumerate().filter(|(_, short)| asked(short)).map(|(at, _)| at).collect()
    }

    /// The short id of an item under the present key; `None` before there is one.
    pub fn short(&self, id: &[u8; 32]) -> Option<u64> {
        self.set.as_ref().map(|set| set.key.short(id))
    }

    fn with_key(&mut self, answerer: Nonce) -> &ShortSet {
        let key = SyncKey::new(&self.link, &self.asker, &answerer);
        self.decoder = Decoder::default();
        self.set.insert(ShortSet::new(key, self.ids.iter()))
    }

    fn set(&self) -> Result<&ShortSet, SyncError> {
        self.set.as_ref().ok_or(SyncError::Unexpected)
    }

    fn layers(&mut self, count: usize) -> Result<SetMessage, SyncError> {
        let (cells, sent) = self.sent;
        if cells == 0 || sent + count > SYNC_LAYERS_MAX {
            return Err(SyncError::Unexpected);
        }
        let layers = Layer::several(self.set()?, sent..sent + count, cells);
        let layers = layers.iter().map(|layer| LayerBytes(layer.to_bytes())).collect();
        self.sent = (cells, sent + count);
        Ok(SetMessage::Layers(layers))
    }

    fn decode(&mut self, layers: &[LayerBytes], nonce: Nonce) -> Result<SetStep, SyncError> {
        let mut decoder = std::mem::take(&mut self.decoder);
        let set = self.set()?;
        if decoder.layers() + layers.len() > SYNC_LAYERS_MAX {
            return Err(SyncError::Unexpected);
        }
        let theirs = layers.iter().map(|LayerBytes(bytes)| Layer::from_bytes(bytes));
        let theirs: Vec<_> = theirs.collect::<Option<_>>().ok_or(SyncError::Unexpected)?;
        decoder.push(set, &theirs);
        if decoder.layers() == 0 {
            return Err(SyncError::Unexpected);
        }
        if let Some(found) = decoder.decode() {
            return Ok(self.split(&found));
        }
        let more = decoder.layers() < SYNC_LAYERS_MAX;
        self.decoder = decoder;
        let send = if more {
            SetMessage::More
        } else if self.keys + 1 < SYNC_KEYS_MAX {
            self.keys += 1;
            SetMessage::Rekey(self.answer(nonce))
        } else {
            self.start_ranges()?
        };
        Ok(SetStep { send: Some(send), ..SetStep::default() })
    }

    /// Tells what only this end has from what only the other has.
    fn split(&self, found: &[u64]) -> SetStep {
        let all: table::Set<u64> = found.iter().copied().collect();
        let sieve = Sieve::new(found.iter().map(|short| prefix(*short)));
        let mine = self.places(|short| sieve.may_hold(*short) && all.contains(short));
        let shorts = self.set.as_ref().map_or(&[][..], |set| &set.shorts);
        let own: table::Set<u64> = mine.iter().filter_map(|at| shorts.get(*at)).copied().collect();
        let mut theirs: Vec<_> = all.difference(&own).copied().collect();
        theirs.sort_unstable();
        SetStep { send: None, mine, theirs, finished: true }
    }

    fn start_ranges(&mut self) -> Result<SetMessage, SyncError> {
        let ranges = Ranges::new(self.set()?);
        let first = ranges.open();
        self.ranges = Some(ranges);
        Ok(SetMessage::Ranges(first))
    }

    fn compare(&mut self, theirs: &[Range]) -> Result<SetStep, SyncError> {
        if theirs.is_empty() {
            return Ok(SetStep { finished: true, ..SetStep::default() });
        }
        let ranges = match self.ranges.take() {
            Some(ranges) => ranges,
            None => Ranges::new(self.set()?),
        };
        let found = ranges.compare(theirs).map_err(SyncError::Malformed)?;
        self.ranges = Some(ranges);
        let lacked: table::Set<u64> = found.mine.iter().copied().collect();
        let sieve = Sieve::new(found.mine.iter().map(|short| prefix(*short)));
        let mine = self.places(|short| sieve.may_hold(*short) && lacked.contains(short));
        let finished = found.answer.is_empty();
        let send = Some(SetMessage::Ranges(found.answer));
        Ok(SetStep { send, mine, theirs: found.theirs, finished })
    }
}

impl SetMessage {
    /// Checks bounds and order.
    pub(crate) fn check(&self) -> Result<(), CodecError> {
        match self {
            Self::Layers(layers) => bound(layers.len(), SYNC_LAYERS_MAX),
            Self::More => Ok(()),
            Self::Rekey(opening) => bound(opening.sketch.len(), SKETCH_BYTES),
            Self::Ranges(ranges) => ranges::check(ranges),
        }
    }
}

/// A quick no for most of a large set: a bit for the first 16 of each short id that is looked for.
struct Sieve(Vec<u64>);

impl Sieve {
    fn new(prefixes: impl Iterator<Item = u32>) -> Self {
        let mut bits = vec![0; 1 << 10];
        for prefix in prefixes {
            bits[(prefix >> 22) as usize] |= 1 << (prefix >> 16 & 63);
        }
        Self(bits)
    }

    fn may_hold(&self, short: u64) -> bool {
        self.0[(short >> 54) as usize] >> (short >> 48 & 63) & 1 == 1
    }
}

/// The four bytes by which a want-list names an item.
pub fn prefix(short: u64) -> u32 {
    (short >> 32) as u32
}

fn layers<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<LayerBytes>, D::Error> {
    bounded::list::<D, LayerBytes, SYNC_LAYERS_MAX>(d)
}

fn write_bytes<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// Length of a sketch, bytes.
pub const SKETCH_BYTES: usize = 2 * SKETCH_COUNTERS;
const LAYER_BYTES_MAX: usize = CELL_BYTES * SYNC_LAYER_CELLS_MAX;
