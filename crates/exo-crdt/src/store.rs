//! What a replica wants saved, and the frame that makes a journal of it.
//!
//! The replica never writes: it hands out a [`WriteBatch`] that its driver makes durable, whole or not at
//! all, before anything that depends on it is sent or acknowledged.

use std::collections::BTreeMap;

use exo_types::limits::FRAME_BYTES_MAX;

/// Changes that are saved together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// Keys with their new values, or `None` for those to delete, in order.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl WriteBatch {
    /// Whether there is nothing to save.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push((key, Some(value)));
    }

    pub(crate) fn delete(&mut self, key: Vec<u8>) {
        self.changes.push((key, None));
    }

    /// Adds another batch's changes behind these.
    pub fn append(&mut self, mut other: Self) {
        self.changes.append(&mut other.changes);
    }

    /// The batch as one frame of a journal: length, BLAKE3 of the content, content.
    pub fn to_frame(&self) -> Vec<u8> {
        let mut content = Vec::new();
        for (key, value) in &self.changes {
            content.extend_from_slice(&(key.len() as u32).to_be_bytes());
            content.extend_from_slice(key);
            content.push(u8::from(value.is_some()));
            if let Some(value) = value {
                content.extend_from_slice(&(value.len() as u32).to_be_bytes());
                content.extend_from_slice(value);
            }
        }
        let mut frame = (content.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(blake3::hash(&content).as_bytes());
        frame.append(&mut content);
        frame
    }
}

/// The driver's disk.
pub trait Store {
    /// Why something was not saved or read.
    type Error;

    /// Saves a batch whole, durable when it returns, or not at all.
    ///
    /// # Errors
    /// The store's own; the replica must not be used any further then, only restored.
    fn commit(&mut self, batch: &WriteBatch) -> Result<(), Self::Error>;

    /// Saves a batch like [`commit`](Self::commit), and when it returns, what was saved under the keys that
    /// it deletes cannot be read from the store's files any more: for the values that users erase.
    ///
    /// # Errors
    /// The store's own; the replica must not be used any further then, only restored.
    fn erase(&mut self, batch: &WriteBatch) -> Result<(), Self::Error>;

    /// Takes everything that was deleted or replaced out of the store's files. What is saved stays as it
    /// is, whenever this is interrupted.
    ///
    /// # Errors
    /// The store's own; the replica must not be used any further then, only restored.
    fn compact(&mut self) -> Result<(), Self::Error>;

    /// Everything that was saved, by key.
    ///
    /// # Errors
    /// The store's own.
    fn load(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Self::Error>;
}

/// A store in memory that is a journal of frames: what a crash tears off at its end is forgotten whole.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    journal: Vec<u8>,
}

/// The batch is longer than a frame can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a batch of {0} bytes is too long for one frame")]
pub struct FrameTooLong(pub usize);

impl MemoryStore {
    /// A store of a journal that was read back.
    pub fn from_journal(journal: &[u8]) -> Self {
        let whole = replay(journal, |_, _| ());
        Self { journal: journal.get(..whole).map(<[u8]>::to_vec).unwrap_or_default() }
    }

    /// The journal's bytes.
    pub fn journal(&self) -> &[u8] {
        &self.journal
    }
}

impl Store for MemoryStore {
    type Error = FrameTooLong;

    fn commit(&mut self, batch: &WriteBatch) -> Result<(), FrameTooLong> {
        let frame = batch.to_frame();
        if frame.len() > u32::MAX as usize {
            return Err(FrameTooLong(frame.len()));
        }
        self.journal.extend_from_slice(&frame);
        Ok(())
    }

    fn erase(&mut self, batch: &WriteBatch) -> Result<(), FrameTooLong> {
        self.commit(batch)?;
        self.compact()
    }

    fn compact(&mut self) -> Result<(), FrameTooLong> {
        let mut fresh = Self::default();
        for (key, value) in self.load()? {
            fresh.commit(&WriteBatch { changes: vec![(key, Some(value))] })?;
        }
        *self = fresh;
        Ok(())
    }

    fn load(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, FrameTooLong> {
        let mut all = BTreeMap::new();
        replay(&self.journal, |key, value| {
            match value {
                Some(value) => all.insert(key.to_vec(), value.to_vec()),
                None => all.remove(key),
            };
        });
        Ok(all)
    }
}

/// Replays a journal's whole frames in order and says how many bytes they take: a frame that is cut off
/// or damaged, and everything behind it, was never acknowledged.
pub fn replay(journal: &[u8], mut each: impl FnMut(&[u8], Option<&[u8]>)) -> usize {
    let mut at = 0;
    while let Some((content, next)) = frame_at(journal, at) {
        let mut rest = content;
        while let Some((key, value)) = change(&mut rest) {
            each(key, value);
        }
        at = next;
    }
    at
}

fn frame_at(journal: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let mut rest = journal.get(at..)?;
    let len = length(&mut rest)?;
    let check = take(&mut rest, 32)?;
    let content = take(&mut rest, len)?;
    (blake3::hash(content).as_bytes() == check).then_some((content, at + 4 + 32 + len))
}

fn change<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let key = length(rest).and_then(|len| take(rest, len))?;
    let kept = *take(rest, 1)?.first()? == 1;
    let value = if kept { Some(length(rest).and_then(|len| take(rest, len))?) } else { None };
    Some((key, value))
}

fn length(rest: &mut &[u8]) -> Option<usize> {
    let bytes: [u8; 4] = take(rest, 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes) as usize)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

// The longest batch but that of a checkpoint is one batch of entries with its values.
const _: () = assert!(FRAME_BYTES_MAX < u32::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(n: u8) -> WriteBatch {
        WriteBatch { changes: vec![(vec![n], Some(vec![n; 5])), (vec![n, 1], None)] }
    }

    #[test]
    fn a_torn_or_damaged_end_is_forgotten_whole_and_what_stands_before_it_stays() {
        let mut store = MemoryStore::default();
        store.commit(&batch(1)).expect("saves");
        let whole = store.journal().len();
        store.commit(&batch(2)).expect("saves");
        for cut in whole..store.journal().len() {
            let torn = MemoryStore::from_journal(&store.journal()[..cut]);
            assert_eq!(torn.journal().len(), whole);
            assert_eq!(torn.load().expect("loads").len(), 1);
            let mut damaged = store.journal().to_vec();
            damaged[cut] ^= 1;
            assert!(MemoryStore::from_journal(&damaged).load().expect("loads").len() <= 2);
        }
        assert_eq!(store.load().expect("loads").len(), 2);
    }
}
