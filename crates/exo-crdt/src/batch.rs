//! Batches: entries under one signed header, and single entries shown with their proof.
//!
//! One ML-DSA-65 signature of 3309 bytes stands for up to 256 entries: 13 bytes an entry.

use exo_crypto::{IdentityKey, Label, Signed, SignedBody, Verified, VerifyError};
use exo_types::codec::{CodecError, Wire, bound, invalid};
use exo_types::limits::{BATCH_ENTRIES_MAX, COLLECTION_NAME_BYTES_MAX, ENTRY_BYTES_MAX};
use exo_types::{CollectionName, PeerId, bounded};
use serde::{Deserialize, Serialize};

use crate::dot::Dot;
use crate::entry::{Entry, Value};
use crate::hash::{BatchRoot, CutHash, EntryId, HeaderHash, digest};
use crate::merkle::{self, InclusionPath};

/// What an author signs of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHeader {
    /// The shared collection.
    pub collection: CollectionName,
    /// Who wrote the entries and signs.
    pub author: PeerId,
    /// The batch's number, from 1 without gaps. An author who signs two headers of one number and
    /// different content has given the proof against itself.
    pub seq: u64,
    /// Hash of the header before; zeros in the first.
    pub previous: HeaderHash,
    /// Root of the Merkle tree over the entries.
    pub root: BatchRoot,
    /// Entries in the batch, 1 to [`BATCH_ENTRIES_MAX`].
    pub entries: u16,
    /// Entries of this author and collection up to here, these included.
    pub total_entries: u64,
    /// Bytes of them: encodings and values.
    pub total_bytes: u64,
    /// The newest checkpoint that the author knew.
    pub epoch_ref: EpochRef,
}

/// A checkpoint as a batch names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRef {
    /// Its number: tells one that is too old from one that is not known yet.
    pub epoch: u64,
    /// Its hash; zeros for number 0, which stands before the first checkpoint.
    pub hash: CutHash,
}

impl BatchHeader {
    /// The hash by which the next header names this one. It is over the signed bytes and not over the
    /// signature: signing is hedged, and two signatures on one header are no second history.
    ///
    /// # Errors
    /// [`CodecError`] for a header that breaks a rule.
    pub fn hash(&self) -> Result<HeaderHash, CodecError> {
        Ok(header_hash(&self.to_wire()?))
    }

    /// The dot of the entry at an index.
    pub fn dot(&self, index: u8) -> Dot {
        Dot::of_entry(self.author, self.seq, index)
    }
}

impl Wire for BatchHeader {
    const BYTES_MAX: usize = 1 + COLLECTION_NAME_BYTES_MAX + 4 * 32 + 4 * 10 + 3;

    fn check(&self) -> Result<(), CodecError> {
        bound(usize::from(self.entries), BATCH_ENTRIES_MAX)?;
        if self.entries == 0 {
            return Err(invalid("a batch without entries"));
        }
        if self.seq == 0 || self.seq >> 56 != 0 {
            return Err(invalid("batches are numbered from 1 to 2^56"));
        }
        if (self.seq == 1) != (self.previous == HeaderHash([0; 32])) {
            return Err(invalid("the first batch, and no other, has none before it"));
        }
        if self.total_entries < u64::from(self.entries) || self.total_bytes < self.total_entries {
            return Err(invalid("the totals are less than what is in the batch"));
        }
        Ok(())
    }
}

impl SignedBody for BatchHeader {
    const LABEL: Label = Label::BATCH_HEADER;

    fn signer(&self) -> Option<PeerId> {
        Some(self.author)
    }
}

/// The hash of a header by its signed bytes.
pub fn header_hash(body: &[u8]) -> HeaderHash {
    HeaderHash(digest(Label::BATCH_CHAIN, &[body]))
}

/// A batch as it arrives: nothing is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The signed header.
    pub header: Signed<BatchHeader>,
    /// Its entries in order.
    #[serde(deserialize_with = "bounded::list::<_, _, BATCH_ENTRIES_MAX>")]
    pub entries: Vec<Entry>,
}

impl Wire for Batch {
    const BYTES_MAX: usize =
        <Signed<BatchHeader> as Wire>::BYTES_MAX + 2 + BATCH_ENTRIES_MAX * ENTRY_BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        self.header.check()?;
        bound(self.entries.len(), BATCH_ENTRIES_MAX)?;
        self.entries.iter().try_for_each(Entry::check)
    }
}

/// One entry with the proof that its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownEntry {
    /// The signed header of the entry's batch.
    pub header: Signed<BatchHeader>,
    /// The entry.
    pub entry: Entry,
    /// Where it stands in the batch, from 0.
    pub index: u8,
    /// From the entry to the header's root.
    pub path: InclusionPath,
}

impl Wire for ShownEntry {
    const BYTES_MAX: usize = <Signed<BatchHeader> as Wire>::BYTES_MAX
        + ENTRY_BYTES_MAX
        + 2
        + 32 * merkle::PATH_NODES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        self.header.check()?;
        self.entry.check()?;
        self.path.check()
    }
}

/// Who may write, as the membership says it.
pub trait Authors {
    /// A member's key and the bound that a revocation set; `None` for somebody who never was a member.
    fn author(&self, id: &PeerId) -> Option<Author<'_>>;
}

/// A member or former member.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// Its key.
    pub key: &'a IdentityKey,
    /// For a revoked member the last batch that counts, agreed with the revocation, so that every
    /// replica refuses the same ones; `None` for a member.
    pub last_seq: Option<u64>,
}

/// Why a batch, a header or a shown entry was refused. Each refusal is the same on every replica that
/// has the same membership: none depends on a clock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchRefusal {
    /// The signed bytes are no header.
    #[error("this is no batch header: {0}")]
    Header(CodecError),
    /// The header is not in its one encoding.
    #[error("the header of {0:?} is not in its canonical encoding")]
    NotCanonical(PeerId),
    /// Nobody of that name was ever a member.
    #[error("{0:?} is not a member")]
    UnknownAuthor(PeerId),
    /// The author was revoked before this batch.
    #[error("{author:?} was revoked after batch {last_seq}, this is {seq}")]
    Revoked {
        /// Who.
        author: PeerId,
        /// The last batch that counts.
        last_seq: u64,
        /// This one.
        seq: u64,
    },
    /// The signature does not hold.
    #[error(transparent)]
    Signature(VerifyError),
    /// The batch is of another collection.
    #[error("a batch of {author:?} for {found:?}, not for this collection")]
    OtherCollection {
        /// Whose batch.
        author: PeerId,
        /// Its collection.
        found: CollectionName,
    },
    /// An entry breaks a rule or is over its bound.
    #[error("entry {index} of {author:?} is not valid: {error}")]
    Entry {
        /// Whose entry.
        author: PeerId,
        /// Which one.
        index: usize,
        /// Why.
        error: CodecError,
    },
    /// The entries are not those that were signed.
    #[error("the entries do not make up what {0:?} signed")]
    Root(PeerId),
}

/// A batch whose signature, entries and root hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBatch {
    header: VerifiedHeader,
    entries: Vec<Entry>,
    ids: Vec<EntryId>,
    bytes: u64,
}

/// A header whose signature holds, with its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedHeader {
    header: Verified<BatchHeader>,
    hash: HeaderHash,
}

/// Values that are those to which entries of one verified batch commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedValues {
    pub(crate) author: PeerId,
    pub(crate) seq: u64,
    pub(crate) hash: HeaderHash,
    pub(crate) values: Vec<(EntryId, Value)>,
}

impl OpenedValues {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// An entry whose proof holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedEntry {
    header: VerifiedHeader,
    shown: ShownEntry,
    id: EntryId,
}

impl VerifiedHeader {
    /// Checks who signed, by what right, and the form.
    ///
    /// # Errors
    /// [`BatchRefusal`].
    pub fn verify(
        signed: &Signed<BatchHeader>,
        collection: &CollectionName,
        authors: &impl Authors,
    ) -> Result<Self, BatchRefusal> {
        let claimed = signed.claimed().map_err(BatchRefusal::Header)?;
        let id = claimed.author;
        if claimed.collection != *collection {
            let found = claimed.collection;
            return Err(BatchRefusal::OtherCollection { author: id, found });
        }
        let author = authors.author(&id).ok_or(BatchRefusal::UnknownAuthor(id))?;
        if let Some(last_seq) = author.last_seq.filter(|last| claimed.seq > *last) {
            return Err(BatchRefusal::Revoked { author: id, last_seq, seq: claimed.seq });
        }
        if claimed.to_wire().map_err(BatchRefusal::Header)? != signed.body() {
            return Err(BatchRefusal::NotCanonical(id));
        }
        let header = signed.verify(author.key).map_err(BatchRefusal::Signature)?;
        Ok(Self::of(header))
    }

    pub(crate) fn of(header: Verified<BatchHeader>) -> Self {
        let hash = header_hash(header.signed().body());
        Self { header, hash }
    }

    /// The header's hash.
    pub fn hash(&self) -> HeaderHash {
        self.hash
    }

    /// The header with its signature.
    pub fn signed(&self) -> &Signed<BatchHeader> {
        self.header.signed()
    }
}

impl std::ops::Deref for VerifiedHeader {
    type Target = BatchHeader;

    fn deref(&self) -> &BatchHeader {
        &self.header
    }
}

impl VerifiedBatch {
    /// Checks a batch whole: one entry that is wrong refuses all.
    ///
    /// # Errors
    /// [`BatchRefusal`].
    pub fn verify(
        batch: Batch,
        collection: &CollectionName,
        authors: &impl Authors,
    ) -> Result<Self, BatchRefusal> {
        let header = VerifiedHeader::verify(&batch.header, collection, authors)?;
        Self::assemble(header, batch.entries)
    }

    /// Checks that the entries are those that the header stands for.
    pub(crate) fn assemble(
        header: VerifiedHeader,
        entries: Vec<Entry>,
    ) -> Result<Self, BatchRefusal> {
        let author = header.author;
        if entries.len() != usize::from(header.entries) {
            return Err(BatchRefusal::Root(author));
        }
        let mut ids = Vec::with_capacity(entries.len());
        let mut bytes = 0;
        for (index, entry) in entries.iter().enumerate() {
            let wire =
                entry.to_wire().map_err(|error| BatchRefusal::Entry { author, index, error })?;
            bytes += wire.len() as u64 + u64::from(entry.value_bytes());
            ids.push(Entry::id_of(&author, &header.collection, &wire));
        }
        // Totals that are less than the batch itself are wrong whatever came before.
        if merkle::root(&ids) != header.root || header.total_bytes < bytes {
            return Err(BatchRefusal::Root(author));
        }
        Ok(Self { header, entries, ids, bytes })
    }

    /// The header.
    pub fn header(&self) -> &VerifiedHeader {
        &self.header
    }

    /// The entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The ids of the entries.
    pub fn ids(&self) -> &[EntryId] {
        &self.ids
    }

    /// Bytes of the entries' encodings and values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Checks values that came with the batch, each with the index of its entry, against what the entries
    /// commit to. Others are left out: a value is no part of what was signed, and may come later or from
    /// somebody else.
    pub fn open_values(&self, values: Vec<(u8, Value)>) -> OpenedValues {
        let opened = values.into_iter().filter_map(|(index, value)| {
            let at = usize::from(index);
            let opens = value.opens(self.entries.get(at)?);
            opens.then_some((*self.ids.get(at)?, value))
        });
        OpenedValues {
            author: self.header.author,
            seq: self.header.seq,
            hash: self.header.hash(),
            values: opened.collect(),
        }
    }

    /// Gives up the batch for its parts: header, entries, their ids, and bytes.
    pub fn into_parts(self) -> (VerifiedHeader, Vec<Entry>, Vec<EntryId>, u64) {
        (self.header, self.entries, self.ids, self.bytes)
    }

    /// The batch to send or keep.
    pub fn to_batch(&self) -> Batch {
        Batch { header: self.header.signed().clone(), entries: self.entries.clone() }
    }

    /// One entry with its proof; `None` when there is none at the index.
    pub fn show(&self, index: u8) -> Option<ShownEntry> {
        let at = usize::from(index);
        let entry = self.entries.get(at)?.clone();
        let path = merkle::path(&self.ids, at)?;
        Some(ShownEntry { header: self.header.signed().clone(), entry, index, path })
    }
}

impl VerifiedEntry {
    /// Checks one entry by its proof.
    ///
    /// # Errors
    /// [`BatchRefusal`].
    pub fn verify(
        shown: ShownEntry,
        collection: &CollectionName,
        authors: &impl Authors,
    ) -> Result<Self, BatchRefusal> {
        let header = VerifiedHeader::verify(&shown.header, collection, authors)?;
        let (author, index) = (header.author, usize::from(shown.index));
        let id = shown.entry.id(&author, collection).map_err(|error| BatchRefusal::Entry {
            author,
            index,
            error,
        })?;
        if shown.path.root(id, index, usize::from(header.entries)) != Some(header.root) {
            return Err(BatchRefusal::Root(author));
        }
        Ok(Self { header, shown, id })
    }

    /// The header of the entry's batch.
    pub fn header(&self) -> &VerifiedHeader {
        &self.header
    }

    /// The entry's id.
    pub fn id(&self) -> EntryId {
        self.id
    }

    /// The entry with its proof.
    pub fn shown(&self) -> &ShownEntry {
        &self.shown
    }
}
