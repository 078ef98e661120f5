//! A replica with its store: what is taken in is durable before it is acknowledged.

use exo_crdt::checkpoint::{Checkpoint, CollectionKind, LiveSet};
use exo_crdt::replica::{AdoptError, ApplyRefusal, RestoreError};
use exo_crdt::{
    Authors, Batch, BatchRefusal, EntryId, Hlc, OpenedValues, Replica, Store, Value, VerifiedBatch,
    WriteBatch,
};
use exo_types::codec::CodecError;
use exo_types::{CollectionName, PeerId};

/// A batch that was verified, with the values that open its entries. Verifying needs no replica, so several
/// threads can.
#[derive(Clone, Debug)]
pub struct VerifiedWrites {
    batch: VerifiedBatch,
    values: OpenedValues,
}

impl VerifiedWrites {
    /// Checks a batch, and of the values that came with it which ones its entries commit to.
    ///
    /// # Errors
    /// [`BatchRefusal`].
    pub fn verify(
        batch: Batch,
        values: Vec<(u8, Value)>,
        collection: &CollectionName,
        authors: &impl Authors,
    ) -> Result<Self, BatchRefusal> {
        let batch = VerifiedBatch::verify(batch, collection, authors)?;
        Ok(Self::of(batch, values))
    }

    /// A batch that this node signed, with its values.
    pub fn of(batch: VerifiedBatch, values: Vec<(u8, Value)>) -> Self {
        Self { values: batch.open_values(values), batch }
    }
}

/// What was done with verified writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The latest stamp among them, for the clock to fold in.
    pub latest: Hlc,
    /// Members of whom a proof of double signing came to light.
    pub accused: Vec<PeerId>,
    /// Batches that were refused, by their place among those given. The others were taken.
    pub refused: Vec<(usize, ApplyRefusal)>,
}

/// Why a shared collection did not open or take something.
#[derive(Debug, thiserror::Error)]
pub enum SharedError<E: std::error::Error + 'static> {
    /// The store failed. The collection must be opened anew.
    #[error(transparent)]
    Store(E),
    /// What is saved is not what a replica saves.
    #[error(transparent)]
    Restore(RestoreError),
    /// A checkpoint was not taken over; nothing has changed.
    #[error(transparent)]
    Adopt(AdoptError),
    /// A value does not encode; nothing has changed.
    #[error("a value does not encode: {0}")]
    Value(CodecError),
}

/// A shared collection: its replica, and the store that is always at least as far.
///
/// After an error of the store the replica may be ahead of it: nothing more is taken, and the collection must
/// be opened anew.
#[derive(Debug)]
pub struct SharedCollection<S> {
    replica: Replica,
    store: S,
}

impl<S: Store> SharedCollection<S>
where
    S::Error: std::error::Error + 'static,
{
    /// Starts from what the store holds; everything is verified again. Batches that were signed after a
    /// revocation are left out.
    ///
    /// # Errors
    /// [`SharedError`].
    pub fn open(
        store: S,
        collection: CollectionName,
        kind: CollectionKind,
        authors: &impl Authors,
    ) -> Result<Self, SharedError<S::Error>> {
        let saved = store.load().map_err(SharedError::Store)?;
        let replica = Replica::restore(collection, kind, &saved, authors);
        Ok(Self { replica: replica.map_err(SharedError::Restore)?, store })
    }

    /// The replica, to look at and to synchronise.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, to tidy it.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Takes batches in with their values, all in one atomic write that is durable when this returns; so
    /// is what the caller adds, such as its clock's mark. A batch that is refused does not keep the others
    /// from being taken.
    ///
    /// # Errors
    /// [`SharedError`] of the store.
    pub fn apply(
        &mut self,
        writes: impl IntoIterator<Item = VerifiedWrites>,
        with: WriteBatch,
    ) -> Result<Taken, SharedError<S::Error>> {
        let (mut taken, mut write) = (Taken::default(), with);
        for (at, VerifiedWrites { batch, values }) in writes.into_iter().enumerate() {
            match self.replica.apply(batch) {
                Ok(outcome) => {
                    write.append(outcome.write);
                    taken.latest = taken.latest.max(outcome.latest);
                    taken.accused.extend(outcome.accused);
                }
                Err(refusal) => {
                    taken.refused.push((at, refusal));
                    continue;
                }
            }
            write.append(self.replica.put_values(values).map_err(SharedError::Value)?);
        }
        self.store.commit(&write).map_err(SharedError::Store)?;
        Ok(taken)
    }

    /// Changes the replica in a way that [`apply`](Self::apply) does not: whatever `change` gives back is
    /// durable when this returns.
    ///
    /// # Errors
    /// [`SharedError`] of the store.
    pub fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Replica) -> (WriteBatch, T),
    ) -> Result<T, SharedError<S::Error>> {
        let (write, result) = change(&mut self.replica);
        self.store.commit(&write).map_err(SharedError::Store)?;
        Ok(result)
    }

    /// Destroys the value behind an entry: when this returns its bytes are not in the store's files.
    ///
    /// # Errors
    /// [`SharedError`] of the store.
    pub fn erase(&mut self, id: EntryId) -> Result<(), SharedError<S::Error>> {
        let write = self.replica.erase(id);
        self.store.erase(&write).map_err(SharedError::Store)
    }

    /// Takes over an agreed checkpoint, with what this node signs again because of it in the same atomic
    /// write, and takes what it prunes out of the files.
    ///
    /// # Errors
    /// [`SharedError`]; nothing has changed if the checkpoint was not taken over.
    pub fn adopt(
        &mut self,
        next: Checkpoint,
        live: LiveSet,
        sign_again: impl FnOnce(&mut Replica) -> WriteBatch,
    ) -> Result<(), SharedError<S::Error>> {
        let mut write = self.replica.adopt(next, live).map_err(SharedError::Adopt)?;
        write.append(sign_again(&mut self.replica));
        self.store.commit(&write).map_err(SharedError::Store)?;
        self.store.compact().map_err(SharedError::Store)
    }
}
