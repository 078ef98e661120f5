//! Who votes in an epoch, and how that changes.

use exo_types::codec::{CodecError, Wire, bound, invalid};
use exo_types::limits::{VOTER_KEYS_BYTES_MAX, VOTERS_MAX};
use exo_types::{PeerId, View, bounded};
use serde::{Deserialize, Serialize};

use crate::blob::Blob;
use crate::quorum::{InsufficientPeers, Quorum};

/// A member with a vote and its public keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Voter {
    /// Its name.
    pub id: PeerId,
    /// The identity key and the cosigner's key, as the [`Verifier`](crate::Verifier) reads them.
    pub keys: Blob<VOTER_KEYS_BYTES_MAX>,
}

/// A voter's place in its epoch, 0 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seat(pub u8);

impl Seat {
    /// The bit of this seat in a set of seats.
    pub fn bit(self) -> u32 {
        1u32.checked_shl(u32::from(self.0)).unwrap_or(0)
    }
}

/// The voters of one epoch, in the order of their names: four to thirty-two, each once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Listed", into = "Listed")]
pub struct Voters {
    list: Vec<Voter>,
    quorum: Quorum,
}

/// Why a list of voters is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VotersError {
    /// Too few to agree.
    #[error(transparent)]
    Insufficient(InsufficientPeers),
    /// More than an epoch holds.
    #[error("an epoch has at most {VOTERS_MAX} voters, not {0}")]
    TooMany(usize),
    /// One is named twice.
    #[error("{0:?} is named twice")]
    Twice(PeerId),
    /// A change names a voter that is one already, or is none.
    #[error("the change does not apply to {0:?}")]
    NotApplicable(PeerId),
}

/// A change of who votes. It takes effect when a quorum wishes for the same one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Change {
    /// A new voter.
    Admit(Voter),
    /// A voter less.
    Remove(PeerId),
    /// Other keys for a voter.
    Rotate(Voter),
}

impl Voters {
    /// The voters of an epoch, put into order.
    ///
    /// # Errors
    /// [`VotersError`].
    pub fn new(mut list: Vec<Voter>) -> Result<Self, VotersError> {
        if list.len() > VOTERS_MAX {
            return Err(VotersError::TooMany(list.len()));
        }
        let quorum = Quorum::of(list.len()).map_err(VotersError::Insufficient)?;
        list.sort_by_key(|voter| voter.id);
        match list.windows(2).find(|pair| pair[0].id == pair[1].id) {
            Some(pair) => Err(VotersError::Twice(pair[0].id)),
            None => Ok(Self { list, quorum }),
        }
    }

    /// The thresholds among them.
    pub fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Seat, &Voter)> {
        self.list.iter().enumerate().map(|(i, voter)| (Seat(i as u8), voter))
    }

    /// Where a member sits; `None` when it has no vote.
    pub fn seat(&self, id: &PeerId) -> Option<Seat> {
        self.list.binary_search_by(|voter| voter.id.cmp(id)).ok().map(|i| Seat(i as u8))
    }

    /// Who sits there.
    pub fn voter(&self, seat: Seat) -> Option<&Voter> {
        self.list.get(usize::from(seat.0))
    }

    /// The voter of that name.
    pub fn named(&self, id: &PeerId) -> Option<&Voter> {
        self.seat(id).and_then(|seat| self.voter(seat))
    }

    /// Who leads a view: `view mod n` (Castro & Liskov 1999, section 4).
    pub fn primary(&self, view: View) -> Seat {
        Seat((view.0 % self.list.len().max(1) as u64) as u8)
    }

    /// The voters after a change.
    ///
    /// # Errors
    /// [`VotersError`] when there would be too few or too many, or the change does not apply.
    pub fn changed(&self, change: &Change) -> Result<Self, VotersError> {
        let mut list = self.list.clone();
        let at = |id: &PeerId| self.seat(id).map(|seat| usize::from(seat.0));
        match change {
            Change::Admit(voter) => match at(&voter.id) {
                Some(_) => return Err(VotersError::NotApplicable(voter.id)),
                None => list.push(voter.clone()),
            },
            Change::Remove(id) => match at(id) {
                Some(i) => drop(list.remove(i)),
                None => return Err(VotersError::NotApplicable(*id)),
            },
            Change::Rotate(voter) => match at(&voter.id) {
                Some(i) if list[i] != *voter => list[i] = voter.clone(),
                _ => return Err(VotersError::NotApplicable(voter.id)),
            },
        }
        Self::new(list)
    }
}

/// The encoding of [`Voters`]: the list, which is checked again.
#[derive(Clone, Serialize, Deserialize)]
struct Listed(#[serde(deserialize_with = "bounded::list::<_, _, VOTERS_MAX>")] Vec<Voter>);

impl TryFrom<Listed> for Voters {
    type Error = VotersError;

    fn try_from(listed: Listed) -> Result<Self, VotersError> {
        let ordered = listed.0.windows(2).find(|pair| pair[0].id >= pair[1].id).map(|p| p[1].id);
        match ordered {
            Some(id) => Err(VotersError::Twice(id)),
            None => Self::new(listed.0),
        }
    }
}

impl From<Voters> for Listed {
    fn from(voters: Voters) -> Self {
        Self(voters.list)
    }
}

impl Wire for Voters {
    const BYTES_MAX: usize = VOTERS_MAX * (VOTER_KEYS_BYTES_MAX + 64) + 8;

    fn check(&self) -> Result<(), CodecError> {
        bound(self.list.len(), VOTERS_MAX)?;
        if self.list.is_empty() { Err(invalid("no voters")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(n: u8) -> Voter {
        Voter { id: PeerId::new([n; 32]), keys: Blob::new(vec![n]).expect("short") }
    }

    #[test]
    fn seats_are_in_the_order_of_names_whatever_the_order_given() {
        let voters = Voters::new([4, 1, 3, 2].map(voter).into()).expect("four");
        assert_eq!(voters.seat(&voter(1).id), Some(Seat(0)));
        assert_eq!(voters.seat(&voter(4).id), Some(Seat(3)));
        assert_eq!(voters.primary(View(5)), Seat(1));
    }

    #[test]
    fn a_change_keeps_the_bounds() {
        let voters = Voters::new([1, 2, 3, 4].map(voter).into()).expect("four");
        let few = voters.changed(&Change::Remove(voter(1).id));
        assert!(matches!(few, Err(VotersError::Insufficient(_))));
        let five = voters.changed(&Change::Admit(voter(9))).expect("five");
        assert_eq!(five.count(), 5);
        assert_eq!(five.changed(&Change::Remove(voter(9).id)), Ok(voters.clone()));
        assert!(voters.changed(&Change::Admit(voter(1))).is_err());
        assert!(voters.changed(&Change::Rotate(voter(1))).is_err());
        assert!(voters.changed(&Change::Remove(voter(9).id)).is_err());
    }

    #[test]
    fn only_an_ordered_list_decodes() {
        let voters = Voters::new([1, 2, 3, 4].map(voter).into()).expect("four");
        let wire = voters.to_wire().expect("encodes");
        assert_eq!(Voters::from_wire(&wire), Ok(voters));
        let mut swapped = wire.clone();
        swapped[1..35].copy_from_slice(&wire[35..69]);
        swapped[35..69].copy_from_slice(&wire[1..35]);
        assert!(Voters::from_wire(&swapped).is_err());
    }
}
