//! What members ask to have committed: updates, the bundles they sign, the batches that are ordered.

use std::sync::Arc;

use exo_crypto::{Label, Signed, SignedBody, hash};
use exo_types::codec::{CodecError, Wire, bound, encode_onto, invalid};
use exo_types::limits::{
    BATCH_BUNDLES_MAX, BATCH_BYTES_MAX, BUNDLE_BYTES_MAX, BUNDLE_UPDATES_MAX, UPDATE_BYTES_MAX,
};
use exo_types::{FederationId, PeerId, bounded};
use serde::{Deserialize, Serialize};

use crate::blob::{Blob, Digest};
use crate::voter::Change;

/// One thing to be committed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Update {
    /// Content that means something to the application alone.
    Data(Blob<UPDATE_BYTES_MAX>),
    /// The member wishes for a change of who votes; its last wish counts.
    Wish(Change),
    /// The member lost its journal and asks for a new epoch in which it may vote again.
    Rejoin {
        /// Drawn anew for each loss, so that an older request is not taken for this one.
        nonce: u64,
    },
}

/// What a member signs: its next request number and a Merkle root over the updates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BundleHead {
    /// In which federation.
    pub federation: FederationId,
    /// Who asks.
    pub member: PeerId,
    /// The member's request number: each is committed at most once, and in order without gaps.
    pub number: u64,
    /// How many updates.
    pub count: u32,
    /// Root over them, [`bundle_root`].
    pub root: Digest,
}

/// Updates of one member under one signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The signed head.
    pub head: Signed<BundleHead>,
    /// The updates.
    #[serde(deserialize_with = "bounded::list::<_, _, BUNDLE_UPDATES_MAX>")]
    pub updates: Vec<Update>,
}

/// What is ordered at one place; without bundles it is the null request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The bundles in the order in which they are carried out.
    #[serde(deserialize_with = "bounded::list::<_, _, BATCH_BUNDLES_MAX>")]
    pub bundles: Vec<Arc<Bundle>>,
}

/// A bundle whose signature and root held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedBundle {
    head: BundleHead,
    digest: Digest,
    bytes: usize,
    bundle: Arc<Bundle>,
}

/// A batch of checked bundles and its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedBatch {
    digest: Digest,
    bundles: Vec<CheckedBundle>,
}

impl Update {
    /// Length that counts towards the bounds, bytes.
    pub fn bytes(&self) -> usize {
        16 + match self {
            Self::Data(content) => content.len(),
            Self::Wish(Change::Admit(voter) | Change::Rotate(voter)) => 32 + voter.keys.len(),
            Self::Wish(Change::Remove(_)) => 32,
            Self::Rejoin { .. } => 8,
        }
    }
}

impl Wire for Update {
    const BYTES_MAX: usize = UPDATE_BYTES_MAX + 64;

    fn check(&self) -> Result<(), CodecError> {
        Ok(())
    }
}

impl Wire for BundleHead {
    const BYTES_MAX: usize = 128;

    fn check(&self) -> Result<(), CodecError> {
        if self.count == 0 || self.count as usize > BUNDLE_UPDATES_MAX {
            return Err(invalid("a bundle has one update at least, and not too many"));
        }
        Ok(())
    }
}

impl SignedBody for BundleHead {
    const LABEL: Label = Label::UPDATE;

    fn signer(&self) -> Option<PeerId> {
        Some(self.member)
    }
}

impl Bundle {
    /// Its name: a hash of the signed head, not of the signature, which differs every time.
    pub fn digest(&self) -> Digest {
        Digest(hash(Label::BATCH_DIGEST, &[b"bundle", self.head.body()]))
    }

    /// Length of the updates that counts towards the bounds, bytes.
    pub fn bytes(&self) -> usize {
        self.updates.iter().map(Update::bytes).sum()
    }

    /// Room for its encoding, bytes.
    pub(crate) fn room(&self) -> usize {
        self.bytes() + SIGNED_ROOM_BYTES
    }

    /// Checks the bounds that the encoding alone does not.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn check(&self) -> Result<(), CodecError> {
        bound(self.updates.len(), BUNDLE_UPDATES_MAX)?;
        bound(self.bytes(), BUNDLE_BYTES_MAX)
    }
}

impl Batch {
    /// Its name.
    pub fn digest(&self) -> Digest {
        let digests: Vec<Digest> = self.bundles.iter().map(|bundle| bundle.digest()).collect();
        batch_digest(&digests)
    }

    /// Room for its encoding, bytes.
    pub(crate) fn room(&self) -> usize {
        64 + self.bundles.iter().map(|bundle| bundle.room()).sum::<usize>()
    }

    /// Checks the bounds that the encoding alone does not.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn check(&self) -> Result<(), CodecError> {
        bound(self.bundles.len(), BATCH_BUNDLES_MAX)?;
        self.bundles.iter().try_for_each(|bundle| bundle.check())?;
        bound(self.bundles.iter().map(|bundle| bundle.bytes()).sum(), BATCH_BYTES_MAX)
    }
}

impl CheckedBundle {
    /// A bundle whose head's signature held: the updates must be those of the head.
    pub(crate) fn new(head: BundleHead, bundle: Arc<Bundle>) -> Option<Self> {
        let holds = bundle.check().is_ok()
            && head.count as usize == bundle.updates.len()
            && bundle_root(&bundle.updates) == head.root;
        holds.then(|| Self::trusted(head, bundle))
    }

    /// A bundle of this node's own, whose head it has made from these updates.
    pub(crate) fn own(head: BundleHead, bundle: Arc<Bundle>) -> Self {
        Self::trusted(head, bundle)
    }

    fn trusted(head: BundleHead, bundle: Arc<Bundle>) -> Self {
        let digest = bundle.digest();
        Self { head, digest, bytes: bundle.bytes(), bundle }
    }

    /// A bundle from this node's own journal, which checked it when it wrote it.
    pub(crate) fn journaled(bundle: Arc<Bundle>) -> Option<Self> {
        let head = bundle.head.claimed().ok()?;
        Some(Self::trusted(head, bundle))
    }

    /// What was signed.
    pub fn head(&self) -> &BundleHead {
        &self.head
    }

    /// Its name: a hash of the signed head, not of the signature, which differs every time.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Length of its updates, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bundle as it travels.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }
}

impl CheckedBatch {
    /// Puts bundles together.
    pub(crate) fn new(bundles: Vec<CheckedBundle>) -> Self {
        let digests: Vec<Digest> = bundles.iter().map(CheckedBundle::digest).collect();
        Self { digest: batch_digest(&digests), bundles }
    }

    /// The null request: nothing is done at its place.
    pub(crate) fn null() -> Self {
        Self::new(Vec::new())
    }

    /// A batch from this node's own journal.
    pub(crate) fn journaled(batch: &Batch) -> Option<Self> {
        let bundles = batch.bundles.iter().map(|b| CheckedBundle::journaled(Arc::clone(b)));
        Some(Self::new(bundles.collect::<Option<_>>()?))
    }

    /// Its name.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The bundles in order.
    pub fn bundles(&self) -> &[CheckedBundle] {
        &self.bundles
    }

    /// The batch as it travels.
    pub fn to_batch(&self) -> Batch {
        Batch { bundles: self.bundles.iter().map(|b| Arc::clone(&b.bundle)).collect() }
    }
}

/// The name of a batch of bundles of these names.
pub fn batch_digest(bundles: &[Digest]) -> Digest {
    let mut parts: Vec<&[u8]> = vec![b"batch"];
    parts.extend(bundles.iter().map(|digest| digest.0.as_slice()));
    Digest(hash(Label::BATCH_DIGEST, &parts))
}

/// The Merkle root over a bundle's updates: a leaf is the hash of one encoded update, an inner node of
/// its two children, an odd last node goes up as it is. It lets one update be shown with the signature
/// and a path, without the others.
pub fn bundle_root(updates: &[Update]) -> Digest {
    root_over(updates.iter())
}

/// [`bundle_root`] of updates that do not lie side by side.
pub(crate) fn root_over<'a>(updates: impl Iterator<Item = &'a Update>) -> Digest {
    let mut bytes = Vec::new();
    let leaf = |update: &Update| {
        bytes.clear();
        let encoded = encode_onto(&mut bytes, update).is_ok() && bytes.len() <= Update::BYTES_MAX;
        // An update that does not encode is over its bound and was refused before.
        let bytes = if encoded { bytes.as_slice() } else { &[] };
        hash(Label::BUNDLE_ROOT, &[&[0], bytes])
    };
    let mut level: Vec<[u8; 32]> = updates.map(leaf).collect();
    while level.len() > 1 {
        let pairs = level.len() / 2;
        for at in 0..pairs {
            let (left, right) = (&level[2 * at], &level[2 * at + 1]);
            level[at] = hash(Label::BUNDLE_ROOT, &[&[1], left, right]);
        }
        if !level.len().is_multiple_of(2) {
            level[pairs] = level[2 * pairs];
        }
        level.truncate(level.len().div_ceil(2));
    }
    level.first().map_or_else(Digest::default, |root| Digest(*root))
}

/// Room for a signed head and what stands beside a bundle, bytes.
const SIGNED_ROOM_BYTES: usize = Signed::<BundleHead>::BYTES_MAX + 64;
