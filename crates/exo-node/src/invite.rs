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
        let good = |invite: &&mut Invite| {
            invite.secret_hash == wanted
                && invite.expires > now
                && invite.used_by.is_none_or(|user| user == peer)
        };
        let invite = self.invites.iter_mut().find(good)?;
        invite.used_by = Some(peer);
        Some(invite)
    }

    /// Closes an invite by its id.
    pub fn revoke(&mut self, id: &str) -> bool {
        let before = self.invites.len();
        self.invites.retain(|invite| invite.id != id);
        before != self.invites.len()
    }

    /// Adds or replaces a waiting joiner; false when too many wait.
    pub fn wait(&mut self, joiner: Joiner) -> bool {
        let peer = joiner.key.peer_id();
        self.joiners.retain(|known| known.key.peer_id() != peer);
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
    use super::*;

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
