//! What a member says of itself: where it is reached, what it can do, and its sealing keys.

use exo_crypto::{CosignerKey, KemEpochKey, Label, Signed, SignedBody};
use exo_types::limits::{ADDRESSES_PER_MEMBER_MAX, DESCRIPTOR_LIFE_MILLIS};
use exo_types::{
    CodecError, PeerAddress, PeerId, Timestamp, Wire, bounded,
    codec::{bound, invalid},
};
use serde::{Deserialize, Serialize};

use crate::capability::CapabilitySet;

/// A member's descriptor, signed by the member itself; a higher version replaces a lower one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberDescriptor {
    /// Whose it is.
    pub peer: PeerId,
    /// Grows with every change, also across restarts.
    pub version: u64,
    /// Where the member is reached.
    #[serde(deserialize_with = "bounded::list::<_, _, ADDRESSES_PER_MEMBER_MAX>")]
    pub addresses: Vec<PeerAddress>,
    /// What it can do.
    pub capabilities: CapabilitySet,
    /// Its sealing keys, this epoch's and the next one's, each signed by the member.
    #[serde(deserialize_with = "bounded::list::<_, _, KEM_KEYS_MAX>")]
    pub kem_keys: Vec<Signed<KemEpochKey>>,
    /// The key with which it cosigns the log, where it has a vote.
    pub cosigner: CosignerKey,
    /// When it ends.
    pub expires: Timestamp,
}

impl MemberDescriptor {
    /// Whether it may be used at `now`.
    pub fn is_current(&self, now: Timestamp) -> bool {
        self.expires > now && self.expires.millis_since(now) <= 2 * DESCRIPTOR_LIFE_MILLIS
    }
}

impl Wire for MemberDescriptor {
    const BYTES_MAX: usize = 24 * 1024;

    fn check(&self) -> Result<(), CodecError> {
        bound(self.addresses.len(), ADDRESSES_PER_MEMBER_MAX)?;
        bound(self.kem_keys.len(), KEM_KEYS_MAX)?;
        for address in &self.addresses {
            address.check().map_err(invalid)?;
        }
        self.capabilities.check()
    }
}

impl SignedBody for MemberDescriptor {
    const LABEL: Label = Label::DESCRIPTOR;

    fn signer(&self) -> Option<PeerId> {
        Some(self.peer)
    }
}

/// Sealing keys one descriptor may carry: the current and the next.
pub const KEM_KEYS_MAX: usize = 2;
