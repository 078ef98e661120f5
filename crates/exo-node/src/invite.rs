//! Open invites and the joiners that wait: the inviter's book.

use exo_crypto::{IdentityKey, Label, Signed, hash};
use exo_types::limits::{INVITES_OPEN_MAX, JOINERS_PENDING_MAX};
use exo_types::{NodeName, PeerId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::descriptor::MemberDescriptor;
use crate::ticket::INVITE_SECRET_BYTES;

/// An invite as the inviter keeps it: a hash, never the secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invite {
    /// Shown in lists: the beginning of the hash, hexadecimal.
    pub id: String,
    /// Hash of the secret.
    pub secret_hash: [u8; 32],
    /// When it ends.
    pub expires: Timestamp,
    /// Admit without spoken words.
    pub auto_approve: bool,
    /// Who used it. The same key may come again, no other may.
    pub used_by: Option<PeerId>,
}

impl Invite {
    fn admits(&self, secret_hash: &[u8; 32], peer: PeerId, now: Timestamp) -> bool {
        self.secret_hash == *secret_hash
            && self.expires > now
            && self.used_by.is_none_or(|user| user == peer)
    }
}

/// A joiner that waits for approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Joiner {
    /// Its identity key.
    pub key: IdentityKey,
    /// The name it wants.
    pub name: NodeName,
    /// The four words both sides see.
    pub words: String,
    /// Since when it waits.
    pub since: Timestamp,
    /// What it says of itself.
    pub descriptor: Signed<MemberDescriptor>,
    /// The inviter said no.
    pub rejected: bool,
}

/// Invites and joiners, bounded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InviteBook {
    /// Open invites, oldest first.
    pub invites: Vec<Invite>,
    /// Waiting joiners, oldest first.
    pub joiners: Vec<Joiner>,
}

impl InviteBook {
    /// Opens an invite for a secret; `None` when too many are open.
    pub fn open(
        &mut self,
        secret: &[u8; INVITE_SECRET_BYTES],
        expires: Timestamp,
        auto_approve: bool,
        now: Timestamp,
    ) -> Option<&Invite> {
        self.forget_expired(now);
        if self.invites.len() >= INVITES_OPEN_MAX {
            return None;
        }
        let secret_hash = Self::hash(secret);
        let id = secret_hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        self.invites.push(Invite { id, secret_hash, expires, auto_approve, used_by: None });
        self.invites.last()
    }

    /// Uses an invite for a peer: the first to come, and that one again.
    pub fn redeem(
        &mut self,
        secret: &[u8; INVITE_SECRET_BYTES],
        peer: PeerId,
        now: Timestamp,
    ) -> Option<&Invite> {
        let wanted = Self::hash(secret);
        let invite = self.invites.iter_mut().find(|invite| invite.admits(&wanted, peer, now))?;
        invite.used_by = Some(peer);
        Some(invite)
    }

    /// Whether a peer could use an invite.
    pub fn is_good(
        &self,
        secret: &[u8; INVITE_SECRET_BYTES],
        peer: PeerId,
        now: Timestamp,
    ) -> bool {
        let wanted = Self::hash(secret);
        self.invites.iter().any(|invite| invite.admits(&wanted, peer, now))
    }

    /// Closes the invites that a peer used.
    pub fn spend(&mut self, peer: &PeerId) {
        self.invites.retain(|invite| invite.used_by != Some(*peer));
    }

    /// Closes an invite by its id.
    pub fn revoke(&mut self, id: &str) -> bool {
        let before = self.invites.len();
        self.invites.retain(|invite| invite.id != id);
        before != self.invites.len()
    }

    /// Adds or replaces a waiting joiner; false when too many wait. Those that were told no are kept
    /// to be told again, for as long as there is room.
    pub fn wait(&mut self, joiner: Joiner) -> bool {
        let peer = joiner.key.peer_id();
        self.joiners.retain(|known| known.key.peer_id() != peer);
        if self.joiners.len() >= JOINERS_PENDING_MAX
            && let Some(at) = self.joiners.iter().position(|known| known.rejected)
        {
            self.joiners.remove(at);
        }
        if self.joiners.len() >= JOINERS_PENDING_MAX {
            return false;
        }
        self.joiners.push(joiner);
        true
    }

    /// A waiting or rejected joiner.
    pub fn joiner(&self, peer: &PeerId) -> Option<&Joiner> {
        self.joiners.iter().find(|joiner| joiner.key.peer_id() == *peer)
    }

    /// Takes a joiner out of the book.
    pub fn take(&mut self, peer: &PeerId) -> Option<Joiner> {
        let at = self.joiners.iter().position(|joiner| joiner.key.peer_id() == *peer)?;
        Some(self.joiners.remove(at))
    }

    /// Whether a key that is no member may connect at all.
    pub fn expects_somebody(&self, now: Timestamp) -> bool {
        !self.joiners.is_empty() || self.invites.iter().any(|invite| invite.expires > now)
    }

    /// Drops invites whose time has passed.
    pub fn forget_expired(&mut self, now: Timestamp) {
        self.invites.retain(|invite| invite.expires > now);
    }

    /// The hash under which an invite's secret is kept. Comparing hashes tells nothing by timing
    /// about a secret.
    fn hash(secret: &[u8; INVITE_SECRET_BYTES]) -> [u8; 32] {
        hash(Label::INVITE_KEY, &[secret])
    }
}

#[cfg(test)]
mod tests {
    use exo_crypto::PostQuantumKeypair;

    use super::*;
    use crate::capability::CapabilitySet;

    #[test]
    fn an_invite_is_good_once_and_for_its_time() {
        let mut book = InviteBook::default();
        let (now, end) = (Timestamp(1_000), Timestamp(2_000));
        let (one, two) = (PeerId::new([1; 32]), PeerId::new([2; 32]));
        book.open(&[7; 16], end, false, now).expect("opens");
        assert!(book.redeem(&[8; 16], one, now).is_none());
        assert!(book.redeem(&[7; 16], one, end).is_none());
        assert!(book.redeem(&[7; 16], one, now).is_some());
        assert!(book.redeem(&[7; 16], two, now).is_none());
        assert!(book.redeem(&[7; 16], one, now).is_some());
    }

    fn joiner(seed: u8) -> Joiner {
        let keypair = PostQuantumKeypair::from_seed(&[seed; 32]).expect("a seed expands");
        let descriptor = MemberDescriptor {
            peer: keypair.peer_id(),
            version: 1,
            addresses: Vec::new(),
            capabilities: CapabilitySet::default(),
            kem_keys: Vec::new(),
            cosigner: exo_crypto::CosignerKeypair::from_seed(&[seed; 32])
                .expect("a seed expands")
                .public()
                .clone(),
            expires: Timestamp(9),
        };
        Joiner {
            key: keypair.public().clone(),
            name: NodeName::new("joiner").expect("name"),
            words: String::new(),
            since: Timestamp(1),
            descriptor: Signed::sign(descriptor, &keypair).expect("signs").into_signed(),
            rejected: false,
        }
    }

    #[test]
    fn waiting_joiners_are_bounded_and_rejected_ones_make_room() {
        let mut book = InviteBook::default();
        for seed in 0..JOINERS_PENDING_MAX {
            assert!(book.wait(joiner(seed as u8)));
        }
        let late = joiner(200);
        assert!(!book.wait(late.clone()));
        let rejected = book.joiners[3].key.peer_id();
        book.joiners[3].rejected = true;
        assert!(book.wait(late.clone()));
        assert!(book.joiner(&rejected).is_none() && book.joiner(&late.key.peer_id()).is_some());
        assert!(!book.wait(joiner(201)));
        assert!(book.wait(late), "one that waits may come again");
    }

    #[test]
    fn the_book_is_bounded_and_holds_no_secret() {
        let mut book = InviteBook::default();
        for i in 0..INVITES_OPEN_MAX {
            assert!(book.open(&[i as u8; 16], Timestamp(9), false, Timestamp(1)).is_some());
        }
        assert!(book.open(&[99; 16], Timestamp(9), false, Timestamp(1)).is_none());
        assert!(book.open(&[99; 16], Timestamp(19), false, Timestamp(9)).is_some());
        assert!(!format!("{book:?}").contains("99, 99"));
    }
}
