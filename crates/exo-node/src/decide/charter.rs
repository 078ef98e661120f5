//! What the decisions in the log have made of a federation: members, votes, rules.
//!
//! A charter is a function of the constitution and of the log after it, and of nothing else, so every
//! node that has the same log has the same charter. Nothing that a log holds makes it fail: what cannot
//! be done is void, and says why. `docs/protocol/decisions.md` states the rules in full.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use exo_consensus::{
    Change, Logged, LoggedBatch, Quorum, Turn, Update, Voter, Voters, VotersError,
};
use exo_crdt::Checkpoint;
use exo_crypto::CosignerKey;
use exo_types::limits::{MEMBERS_MAX, VOTERS_MAX, VOTERS_MIN};
use exo_types::{CodecError, CollectionName, Epoch, NodeName, PeerId, Wire};

use super::decision::{Admission, Decision, Kind, Rules};
use super::keys::{cosigner_key, voter};
use super::outcome::{Decided, Outcome, Void};
use super::shares::Shares;
use super::wishes::{Wish, Wishes};
use crate::roster::{Member, Roster, RosterBody, Standing};
use crate::share::{Rights, Terms};

/// Members, votes and rules as the log has decided them.
#[derive(Clone, Debug, PartialEq)]
pub struct Charter {
    epoch: Epoch,
    members: BTreeMap<PeerId, Member>,
    sponsors: BTreeMap<PeerId, PeerId>,
    /// Who should vote: active members alone.
    entitled: BTreeSet<PeerId>,
    rules: Rules,
    wishes: Wishes,
    /// The epoch of consensus after the last batch, and who has a seat in it.
    term: Epoch,
    seats: Arc<Voters>,
    /// Somebody was removed in this epoch of consensus who may get a seat yet: a change of seats that
    /// was wished for before cannot be called back.
    late: bool,
    shares: Shares,
    /// How often something has changed that shared collections depend on.
    share_changes: u64,
}

/// Why a roster is no constitution.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CharterError {
    /// It is out of bounds or out of order.
    #[error("the constitution does not hold: {0}")]
    Body(CodecError),
    /// It names nobody who votes.
    #[error("the roster names no voters")]
    NoVoters,
    /// A voter is no member.
    #[error("the voter {0} is no active member")]
    NotAMember(PeerId),
    /// Two voters have one cosigner key.
    #[error("the voter {0} has the cosigner key of another")]
    KeyTwice(PeerId),
    /// The voters are too few or too many.
    #[error(transparent)]
    Voters(VotersError),
}

impl Charter {
    /// The charter before the first update: that of the constitution, the roster with which the founder
    /// hands over to the voters that it names. Its signature is the caller's to have checked.
    ///
    /// # Errors
    /// [`CharterError`].
    pub fn new(constitution: &RosterBody) -> Result<Self, CharterError> {
        constitution.check().map_err(CharterError::Body)?;
        let roster = Roster::new(constitution).map_err(CharterError::Body)?;
        if constitution.voters.is_empty() {
            return Err(CharterError::NoVoters);
        }
        let mut keys = BTreeSet::new();
        let mut seats = Vec::with_capacity(constitution.voters.len());
        for peer in &constitution.voters {
            let member = roster.member(peer).filter(|member| member.revoked.is_none());
            let member = member.ok_or(CharterError::NotAMember(*peer))?;
            if !keys.insert(member.cosigner.as_bytes().as_slice()) {
                return Err(CharterError::KeyTwice(*peer));
            }
            seats.push(voter(&member.key, &member.cosigner));
        }
        Ok(Self {
            epoch: constitution.epoch,
            members: roster.all().map(|(peer, member)| (*peer, member.clone())).collect(),
            sponsors: BTreeMap::new(),
            entitled: constitution.voters.iter().copied().collect(),
            rules: Rules::default(),
            wishes: Wishes::default(),
            term: Epoch::GENESIS,
            seats: Arc::new(Voters::new(seats).map_err(CharterError::Voters)?),
            shares: Shares::default(),
            share_changes: 0,
            late: false,
        })
    }

    /// Takes a whole batch: its updates in order, and the change of seats with which it ends the epoch.
    pub fn carry_out(&mut self, first: u64, batch: &LoggedBatch) -> Vec<Decided> {
        let mut decided = Vec::with_capacity(batch.updates.len());
        for (index, logged) in (first..).zip(&batch.updates) {
            let (kind, outcome) = self.take(index, logged);
            let (sequence, epoch) = (batch.seal.sequence, batch.seal.epoch);
            decided.push(Decided { index, sequence, epoch, logged: logged.clone(), kind, outcome });
        }
        if let Some(turn) = &batch.seal.turn {
            let changed = match turn {
                Turn::Change(change) => self.seats.changed(change).ok().map(Arc::new),
                Turn::Rejoin { .. } => None,
            };
            let seats = changed.unwrap_or_else(|| Arc::clone(&self.seats));
            self.term = batch.seal.epoch.next().unwrap_or(batch.seal.epoch);
            self.begin_epoch(seats);
        }
        decided
    }

    /// Takes one update, which stands at this index of the log.
    pub fn apply(&mut self, leaf: u64, logged: &Logged) -> Outcome {
        self.take(leaf, logged).1
    }

    /// Others have seats from here on. Proposals of those who have none are forgotten.
    pub fn begin_epoch(&mut self, seats: Arc<Voters>) {
        self.seats = seats;
        self.share_changes += 1;
        self.late = false;
        self.sweep();
    }

    /// What would become of a decision if this member proposed it now: how many voters it takes.
    ///
    /// # Errors
    /// Why it would be void.
    pub fn judge(&self, member: &PeerId, decision: &Decision) -> Result<usize, Void> {
        if !self.counts(member) {
            return Err(Void::NoVote);
        }
        let quorum = self.seats.quorum();
        match decision {
            Decision::Statement(_) => Ok(1),
            Decision::Admit(of) => {
                self.may_admit(of)?;
                Ok(usize::from(self.rules.admit).clamp(1, quorum.quorum()))
            }
            Decision::Revoke { peer, .. } => self.may_revoke(member, peer),
            Decision::GrantVote(peer) => {
                self.active(peer)?;
                if self.entitled.contains(peer) {
                    return Err(Void::HasVote);
                }
                if self.entitled.len() >= VOTERS_MAX {
                    return Err(Void::TooManyVoters);
                }
                self.key_apart(peer)?;
                Ok(quorum.quorum())
            }
            Decision::WithdrawVote(peer) => {
                self.active(peer)?;
                if !self.entitled.contains(peer) {
                    return Err(Void::HasNoVote);
                }
                if self.entitled.len() <= VOTERS_MIN || !self.goes_on(None, Some(peer)) {
                    return Err(Void::TooFewVoters);
                }
                Ok(quorum.quorum())
            }
            Decision::Rotate { cosigner } => {
                self.may_change()?;
                match self.members.get(member) {
                    Some(own) if own.cosigner == *cosigner => Err(Void::Unchanged),
                    _ => self.key_free(cosigner).map(|()| 1),
                }
            }
            Decision::Rules(rules) if *rules == self.rules => Err(Void::Unchanged),
            Decision::Rules(_) => Ok(quorum.quorum()),
            Decision::Share { name, spec } => {
                let first = self.shares.judge(name, spec)?;
                for peer in spec.readers.named().iter().chain(spec.writers.named()) {
                    self.active(peer)?;
                }
                Ok(if first { 1 } else { quorum.quorum() })
            }
            Decision::Cut(cut) => self.shares.judge_cut(cut).map(|()| quorum.quorum()),
        }
    }

    /// The epoch of membership.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The members, present and past, and who should vote.
    pub fn roster(&self) -> Roster {
        Roster::of(self.epoch, self.members.clone(), self.entitled.clone())
    }

    /// A member, present or past.
    pub fn member(&self, peer: &PeerId) -> Option<&Member> {
        self.members.get(peer)
    }

    /// How a peer stands.
    pub fn standing(&self, peer: &PeerId) -> Standing {
        match self.members.get(peer) {
            Some(member) if member.revoked.is_none() => Standing::Active,
            Some(_) => Standing::Revoked,
            None => Standing::Unknown,
        }
    }

    /// Who vouched for a member: the first who proposed it. None for those of the constitution.
    pub fn sponsor(&self, peer: &PeerId) -> Option<PeerId> {
        self.sponsors.get(peer).copied()
    }

    /// Who should vote, by id. Seats follow, one epoch for each change.
    pub fn entitled(&self) -> impl Iterator<Item = &PeerId> {
        self.entitled.iter()
    }

    /// The rules in force.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// The shared collections that the log knows.
    pub fn shares(&self) -> &BTreeMap<CollectionName, Terms> {
        self.shares.terms()
    }

    /// Who may do what with shared collections, and which checkpoints wait for further voters.
    pub fn rights(&self) -> Rights {
        let cut = |(peer, wish): (&PeerId, &Wish)| match &wish.decision {
            Decision::Cut(cut) => Some((*peer, Arc::new(Checkpoint::clone(cut)))),
            _ => None,
        };
        Rights {
            roster: Arc::new(self.roster()),
            terms: Arc::clone(self.shares.terms()),
            seats: self.seats.iter().map(|(_, voter)| voter.id).collect(),
            proposed: self.wishes.all().filter_map(cut).collect(),
        }
    }

    /// How often something has changed that [`rights`](Self::rights) tells.
    pub fn share_changes(&self) -> u64 {
        self.share_changes
    }

    /// The epoch of consensus, after the last batch taken.
    pub fn term(&self) -> Epoch {
        self.term
    }

    /// Who has a seat in it.
    pub fn seats(&self) -> &Arc<Voters> {
        &self.seats
    }

    /// What was proposed and waits for others, by voter and age.
    pub fn waiting(&self) -> impl Iterator<Item = (&PeerId, &Wish)> {
        self.wishes.all()
    }

    /// The change by which the seats come closer to who should vote: the first that these voters allow,
    /// of the seats of the removed, the seats lacking, the seats of those who should vote no more, and
    /// the keys that are others by now. All who have the same log want the same.
    ///
    /// The seats of the removed come first: they are empty, and count among those of which a quorum is
    /// taken. Other keys come last, who has changed them longest ago first, so that nobody holds up the
    /// rest by changing its own again and again.
    pub fn wanted_change(&self, voters: &Voters) -> Option<Change> {
        let seated = || voters.iter().map(|(_, voter)| voter);
        let removed = |peer: &PeerId| self.standing(peer) != Standing::Active;
        let empty = seated().filter(|v| removed(&v.id)).map(|v| Change::Remove(v.id));
        // The key of a seat that is about to change may have gone to another member.
        let free = |new: &Voter| {
            let key = cosigner_key(new);
            seated().all(|voter| voter.id == new.id || cosigner_key(voter) != key)
        };
        let lacking = self.entitled.iter().filter(|peer| voters.seat(peer).is_none());
        let lacking = lacking.filter_map(|peer| self.as_voter(peer)).filter(&free);
        let over = seated().filter(|v| !removed(&v.id) && !self.entitled.contains(&v.id));
        let mut keys: Vec<(Epoch, Voter)> = seated()
            .filter(|voter| self.entitled.contains(&voter.id))
            .filter_map(|old| Some((self.members.get(&old.id)?.since, self.as_voter(&old.id)?)))
            .filter(|(_, new)| voters.named(&new.id) != Some(new) && free(new))
            .collect();
        keys.sort_by_key(|(since, voter)| (*since, voter.id));
        empty
            .chain(lacking.map(Change::Admit))
            .chain(over.map(|voter| Change::Remove(voter.id)))
            .chain(keys.into_iter().map(|(_, voter)| Change::Rotate(voter)))
            .find(|change| voters.changed(change).is_ok())
    }

    fn take(&mut self, leaf: u64, logged: &Logged) -> (Kind, Outcome) {
        let decision = match &logged.update {
            Update::Data(content) if Decision::is_plain_statement(content.as_bytes()) => {
                let taken = if self.counts(&logged.member) {
                    Outcome::Recorded
                } else {
                    Outcome::Void(Void::NoVote)
                };
                return (Kind::Statement, taken);
            }
            Update::Data(content) => Decision::from_wire(content.as_bytes()),
            Update::Wish(_) => return (Kind::Seats, Outcome::Recorded),
            Update::Rejoin { .. } => return (Kind::Rejoin, Outcome::Recorded),
        };
        let Ok(decision) = decision else {
            return (Kind::Unknown, Outcome::Void(Void::NotADecision));
        };
        let kind = decision.kind();
        let need = match self.judge(&logged.member, &decision) {
            Ok(need) => need,
            Err(why) => return (kind, Outcome::Void(why)),
        };
        if kind == Kind::Statement {
            return (kind, Outcome::Recorded);
        }
        self.wishes.add(logged.member, leaf, &decision);
        let Some(chorus) = self.wishes.chorus(&decision) else {
            return (kind, Outcome::Void(Void::NoVote));
        };
        if kind == Kind::Cut {
            self.share_changes += 1;
        }
        if chorus.have < need {
            // Both are at most the number of voters.
            return (kind, Outcome::Wished { have: chorus.have as u8, need: need as u8 });
        }
        self.carry(logged.member, decision, chorus.first, chorus.unverified);
        self.sweep();
        (kind, Outcome::Effective)
    }

    /// Lets a decision that was judged take effect.
    fn carry(&mut self, member: PeerId, decision: Decision, first: PeerId, unverified: bool) {
        self.share_changes += 1;
        match decision {
            Decision::Statement(_) => {}
            Decision::Admit(of) => {
                let peer = of.key.peer_id();
                let Admission { key, cosigner, name, .. } = *of;
                let since = self.next_epoch();
                let new = Member { key, cosigner, name, unverified, since, revoked: None };
                self.members.insert(peer, new);
                self.sponsors.insert(peer, first);
            }
            Decision::Revoke { peer, reason } => {
                let since = self.next_epoch();
                if let Some(member) = self.members.get_mut(&peer) {
                    member.revoked = Some(reason);
                    member.since = since;
                }
                self.shares.remove(&peer);
                let entitled = self.entitled.remove(&peer);
                self.late |= entitled && self.seats.seat(&peer).is_none();
            }
            Decision::GrantVote(peer) => drop(self.entitled.insert(peer)),
            Decision::WithdrawVote(peer) => drop(self.entitled.remove(&peer)),
            Decision::Rotate { cosigner } => {
                let since = self.next_epoch();
                if let Some(own) = self.members.get_mut(&member) {
                    own.cosigner = cosigner;
                    own.since = since;
                }
            }
            Decision::Rules(rules) => self.rules = rules,
            Decision::Share { name, spec } => {
                let roster = self.roster();
                self.shares.declare(&roster, &name, spec);
            }
            Decision::Cut(cut) => {
                let roster = self.roster();
                self.shares.cut(&roster, *cut);
            }
        }
    }

    /// Forgets proposals that nobody can bring about any more: of those who do not count, of what is so
    /// by now, of what has become impossible.
    fn sweep(&mut self) {
        let mut wishes = std::mem::take(&mut self.wishes);
        wishes.retain(|voter, wish| self.judge(voter, &wish.decision).is_ok());
        self.wishes = wishes;
    }

    fn next_epoch(&mut self) -> Epoch {
        // That there is one was judged.
        self.epoch = self.epoch.next().unwrap_or(self.epoch);
        self.epoch
    }

    /// Whether a member's proposals count: it has a seat and is an active member.
    fn counts(&self, peer: &PeerId) -> bool {
        self.seats.seat(peer).is_some() && self.standing(peer) == Standing::Active
    }

    fn active(&self, peer: &PeerId) -> Result<&Member, Void> {
        match self.members.get(peer) {
            Some(member) if member.revoked.is_none() => Ok(member),
            Some(_) => Err(Void::Revoked),
            None => Err(Void::NoSuchMember),
        }
    }

    fn may_change(&self) -> Result<(), Void> {
        self.epoch.next().map(|_| ()).ok_or(Void::TooManyChanges)
    }

    fn may_admit(&self, of: &Admission) -> Result<(), Void> {
        self.may_change()?;
        match self.standing(&of.key.peer_id()) {
            Standing::Active => return Err(Void::AlreadyMember),
            Standing::Revoked => return Err(Void::Revoked),
            Standing::Unknown => {}
        }
        if self.members.len() >= MEMBERS_MAX {
            return Err(Void::TooManyMembers);
        }
        if self.name_taken(&of.name) {
            return Err(Void::NameTaken);
        }
        self.key_free(&of.cosigner)
    }

    /// How many voters remove a member: of one with a vote or a seat a quorum; of another its sponsor
    /// alone, or enough to have a correct one among them.
    fn may_revoke(&self, member: &PeerId, peer: &PeerId) -> Result<usize, Void> {
        self.active(peer)?;
        self.may_change()?;
        let quorum = self.seats.quorum();
        if self.entitled.contains(peer) || self.seats.seat(peer).is_some() {
            return match self.goes_on(Some(peer), None) {
                true => Ok(quorum.quorum()),
                false => Err(Void::TooFewVoters),
            };
        }
        Ok(if self.sponsor(peer) == Some(*member) { 1 } else { quorum.weak() })
    }

    fn name_taken(&self, name: &NodeName) -> bool {
        self.members.values().any(|member| member.revoked.is_none() && member.name == *name)
    }

    /// Every cosigner key is one member's for ever: the policy of an epoch cannot name one twice.
    fn key_free(&self, key: &CosignerKey) -> Result<(), Void> {
        let seated = || self.seats.iter().filter_map(|(_, voter)| cosigner_key(voter));
        let taken = self.members.values().any(|member| member.cosigner == *key)
            || seated().any(|other| other == *key);
        if taken { Err(Void::KeyTaken) } else { Ok(()) }
    }

    /// The constitution may have members with one key, who cannot both vote.
    fn key_apart(&self, peer: &PeerId) -> Result<(), Void> {
        let key = |peer: &PeerId| self.members.get(peer).map(|member| &member.cosigner);
        let shared = self.entitled.iter().any(|other| other != peer && key(other) == key(peer));
        if shared { Err(Void::KeyTaken) } else { Ok(()) }
    }

    fn as_voter(&self, peer: &PeerId) -> Option<Voter> {
        self.members.get(peer).map(|member| voter(&member.key, &member.cosigner))
    }

    /// Whether those who are left after a removal, or after a vote is withdrawn, can go on deciding: the
    /// removed keep their seats until the next epochs, and a quorum is taken of all seats. It holds also
    /// if seats of members who should vote no more go before theirs do.
    fn goes_on(&self, revoked: Option<&PeerId>, withdrawn: Option<&PeerId>) -> bool {
        let mut seats = self.seats.count();
        let (mut live, mut leaving) = (0, 0);
        for (_, Voter { id, .. }) in self.seats.iter() {
            if self.standing(id) != Standing::Active || Some(id) == revoked {
                continue;
            }
            live += 1;
            if !self.entitled.contains(id) || Some(id) == withdrawn {
                leaving += 1;
            }
        }
        // One who was about to get a seat may get it yet; an epoch ends with one change.
        if self.late || revoked.is_some_and(|peer| self.seats.seat(peer).is_none()) {
            seats += 1;
        }
        (0..=seats.saturating_sub(VOTERS_MIN).min(leaving))
            .all(|gone| Quorum::of(seats - gone).is_ok_and(|quorum| quorum.is_quorum(live - gone)))
    }
}
