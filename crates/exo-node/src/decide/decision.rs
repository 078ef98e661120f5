//! What voters propose to have decided: the content of the log's updates.
//!
//! The encoding is part of the log for ever (`docs/protocol/decisions.md`): variants are added at the
//! end, none is changed.

use std::fmt;

use exo_consensus::{Blob, Update};
use exo_crdt::Checkpoint;
use exo_crypto::{CosignerKey, IdentityKey};
use exo_types::codec::{CodecError, Wire, bound, invalid};
use exo_types::limits::{REASON_BYTES_MAX, STATEMENT_BYTES_MAX, UPDATE_BYTES_MAX, VOTERS_MAX};
use exo_types::{CollectionName, NodeName, PeerId};
use serde::{Deserialize, Serialize};

use crate::share::{Access, ShareSpec};

/// Something that a voter proposes. What each takes is said by the [charter](super::Charter).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// Content that means something to people or applications alone: one byte at least.
    Statement(Blob<STATEMENT_BYTES_MAX>),
    /// A new member.
    Admit(Box<Admission>),
    /// A member less, for ever.
    Revoke {
        /// Who.
        peer: PeerId,
        /// Why, for people.
        reason: String,
    },
    /// A member gets a vote.
    GrantVote(PeerId),
    /// A member has a vote no more.
    WithdrawVote(PeerId),
    /// The proposer's own cosigner key is another from now on.
    Rotate {
        /// The new key.
        cosigner: CosignerKey,
    },
    /// Other rules.
    Rules(Rules),
    /// A shared collection is declared, or is others' to read and write from here on.
    Share {
        /// Its name.
        name: CollectionName,
        /// What it is and whose.
        spec: ShareSpec,
    },
    /// The next checkpoint of a shared collection: who proposes it has made it from what it holds.
    Cut(Box<Checkpoint>),
}

/// Who is admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// Its identity key.
    pub key: IdentityKey,
    /// The key with which it cosigns the log, once it has a vote.
    pub cosigner: CosignerKey,
    /// Its name.
    pub name: NodeName,
    /// Nobody has compared spoken words with it.
    pub unverified: bool,
}

/// What the federation's members may decide about deciding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// How many voters admit a member, from one; never more than a quorum are asked for.
    pub admit: u8,
}

impl Default for Rules {
    fn default() -> Self {
        Self { admit: 1 }
    }
}

/// What an update of the log is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Decision::Statement`].
    Statement,
    /// [`Decision::Admit`].
    Admit,
    /// [`Decision::Revoke`].
    Revoke,
    /// [`Decision::GrantVote`].
    GrantVote,
    /// [`Decision::WithdrawVote`].
    WithdrawVote,
    /// [`Decision::Rotate`].
    Rotate,
    /// [`Decision::Rules`].
    Rules,
    /// [`Decision::Share`].
    Share,
    /// [`Decision::Cut`].
    Cut,
    /// A voter's wish that the seats follow what is decided.
    Seats,
    /// A voter that lost its journal asks to vote again.
    Rejoin,
    /// Bytes that are no decision.
    Unknown,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Statement,
        Self::Admit,
        Self::Revoke,
        Self::GrantVote,
        Self::WithdrawVote,
        Self::Rotate,
        Self::Rules,
        Self::Share,
        Self::Cut,
        Self::Seats,
        Self::Rejoin,
        Self::Unknown,
    ];

    /// What an update is about.
    pub fn of(update: &Update) -> Self {
        match update {
            Update::Data(content) => {
                Decision::from_wire(content.as_bytes()).map_or(Self::Unknown, |of| of.kind())
            }
            Update::Wish(_) => Self::Seats,
            Update::Rejoin { .. } => Self::Rejoin,
        }
    }

    /// Its name in one word that never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Admit => "admit",
            Self::Revoke => "revoke",
            Self::GrantVote => "grant-vote",
            Self::WithdrawVote => "withdraw-vote",
            Self::Rotate => "rotate",
            Self::Rules => "rules",
            Self::Share => "share",
            Self::Cut => "cut",
            Self::Seats => "seats",
            Self::Rejoin => "rejoin",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Decision {
    /// A statement of these bytes.
    ///
    /// # Errors
    /// [`CodecError`] when there are none or more than [`STATEMENT_BYTES_MAX`].
    pub fn statement(bytes: Vec<u8>) -> Result<Self, CodecError> {
        let decision = Self::Statement(Blob::new(bytes)?);
        decision.check().map(|()| decision)
    }

    /// Whether bytes are a statement as [`to_wire`](Wire::to_wire) encodes it: nearly all content is,
    /// and this tells it without a copy. Of what is `false` here [`from_wire`](Wire::from_wire) decides.
    pub(crate) fn is_plain_statement(bytes: &[u8]) -> bool {
        let (len, content) = match bytes {
            [0, low, content @ ..] if *low < 0x80 => (usize::from(*low), content),
            [0, low, high @ 1..0x80, content @ ..] => {
                (usize::from(*low & 0x7f) | usize::from(*high) << 7, content)
            }
            _ => return false,
        };
        (1..=STATEMENT_BYTES_MAX).contains(&len) && content.len() == len
    }

    /// The decision as an update of the log.
    ///
    /// # Errors
    /// [`CodecError`] when it breaks a bound.
    pub fn to_update(&self) -> Result<Update, CodecError> {
        Ok(Update::Data(Blob::new(self.to_wire()?)?))
    }

    /// What it is about.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Statement(_) => Kind::Statement,
            Self::Admit(_) => Kind::Admit,
            Self::Revoke { .. } => Kind::Revoke,
            Self::GrantVote(_) => Kind::GrantVote,
            Self::WithdrawVote(_) => Kind::WithdrawVote,
            Self::Rotate { .. } => Kind::Rotate,
            Self::Rules(_) => Kind::Rules,
            Self::Share { .. } => Kind::Share,
            Self::Cut(_) => Kind::Cut,
        }
    }

    /// Whether two voters who propose these propose the same: the reason of a removal may differ, and
    /// whether words were compared.
    pub fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Admit(one), Self::Admit(two)) => {
                (&one.key, &one.cosigner, &one.name) == (&two.key, &two.cosigner, &two.name)
            }
            (Self::Revoke { peer: one, .. }, Self::Revoke { peer: two, .. }) => one == two,
            (one, two) => one == two,
        }
    }

    /// What it says, in one line for people. Peers are named by the beginning of their ids.
    pub fn summary(&self) -> String {
        match self {
            Self::Statement(bytes) => format!("a statement of {} bytes", bytes.len()),
            Self::Admit(of) => {
                let words = if of.unverified { ", without compared words" } else { "" };
                format!("admit {} ({}){words}", of.name, of.key.peer_id().short())
            }
            Self::Revoke { peer, reason } if reason.is_empty() => {
                format!("remove {}", peer.short())
            }
            Self::Revoke { peer, reason } => {
                format!("remove {}: {}", peer.short(), reason.escape_debug())
            }
            Self::GrantVote(peer) => format!("give {} a vote", peer.short()),
            Self::WithdrawVote(peer) => format!("take the vote of {}", peer.short()),
            Self::Rotate { .. } => "another cosigner key of its own".to_owned(),
            Self::Rules(rules) => match rules.admit {
                1 => "one voter admits a member".to_owned(),
                several => format!("{several} voters admit a member"),
            },
            Self::Share { name, spec } => {
                let (readers, writers) = (whose(&spec.readers), whose(&spec.writers));
                format!("share {name}: read by {readers}, written by {writers}")
            }
            Self::Cut(cut) => {
                let (name, live) = (&cut.collection, cut.live_count);
                format!("checkpoint {} of {name}, {live} entries live", cut.epoch)
            }
        }
    }
}

fn whose(access: &Access) -> String {
    match access {
        Access::All => "every member".to_owned(),
        Access::Only(members) => match members.len() {
            1 => "one member".to_owned(),
            several => format!("{several} members"),
        },
    }
}

/// What an update of the log says, in one line for people.
pub fn summary(update: &Update) -> String {
    use exo_consensus::Change;
    match update {
        Update::Data(content) => match Decision::from_wire(content.as_bytes()) {
            Ok(decision) => decision.summary(),
            Err(_) => format!("{} bytes that are no decision", content.len()),
        },
        Update::Wish(Change::Admit(voter)) => format!("a seat for {}", voter.id.short()),
        Update::Wish(Change::Remove(peer)) => format!("no seat for {} any more", peer.short()),
        Update::Wish(Change::Rotate(voter)) => format!("the new keys of {}", voter.id.short()),
        Update::Rejoin { .. } => "vote again after its journal was lost".to_owned(),
    }
}

impl Wire for Decision {
    const BYTES_MAX: usize = UPDATE_BYTES_MAX - 32;

    fn check(&self) -> Result<(), CodecError> {
        match self {
            Self::Statement(bytes) if bytes.is_empty() => Err(invalid("an empty statement")),
            Self::Revoke { reason, .. } => bound(reason.len(), REASON_BYTES_MAX),
            Self::Rules(rules) if !(1..=VOTERS_MAX).contains(&usize::from(rules.admit)) => {
                Err(invalid("as many voters as there can be admit a member, and one at least"))
            }
            Self::Share { spec, .. } => spec.check(),
            Self::Cut(cut) => cut.check(),
            _ => Ok(()),
        }
    }
}

// A statement of the greatest length, behind its number and length, is an update.
const _: () = assert!(STATEMENT_BYTES_MAX + 4 <= Decision::BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_to_be_a_statement_without_a_copy_decodes_as_one() {
        for len in [1, 2, 126, 127, 128, 129, 255, 256, 300, STATEMENT_BYTES_MAX] {
            let statement = Decision::statement(vec![7; len]).expect("a statement");
            let bytes = statement.to_wire().expect("encodes");
            assert!(Decision::is_plain_statement(&bytes), "{len}");
            for cut in [0, 1, 2, bytes.len() - 1] {
                assert!(!Decision::is_plain_statement(&bytes[..cut]), "{len} {cut}");
            }
            assert!(!Decision::is_plain_statement(&[bytes.as_slice(), &[0]].concat()), "{len}");
        }
    }

    #[test]
    fn what_begins_like_a_statement_is_told_to_be_one_only_if_it_decodes() {
        let mut bytes = [0; 200];
        for kind in [0, 1, 2, 8] {
            for low in 0..=u8::MAX {
                for high in [0, 1, 2, 0x7f, 0x80] {
                    bytes[..3].copy_from_slice(&[kind, low, high]);
                    for len in [3, 67, 130, 131, 133, 200] {
                        let decoded = Decision::from_wire(&bytes[..len]);
                        if Decision::is_plain_statement(&bytes[..len]) {
                            assert!(matches!(decoded, Ok(Decision::Statement(_))), "{low} {high}");
                        }
                    }
                }
            }
        }
        assert!(!Decision::is_plain_statement(&[0, 0]), "an empty statement is none");
        let long = [&[0, 0xff, 0x7f], vec![1; 0x3fff].as_slice()].concat();
        assert!(!Decision::is_plain_statement(&long), "a statement has a bound");
    }
}
