//! The replicated state: what every replica computes alike from the log.
//!
//! It is small and bounded by the number of voters: whose turn which request number is, what each voter
//! wishes, and where the epoch began.

use std::collections::BTreeMap;
use std::sync::Arc;

use exo_types::limits::{REJOIN_SEQUENCES_MIN, VOTERS_MAX};
use exo_types::{Epoch, PeerId, Sequence, bounded};
use serde::{Deserialize, Serialize};

use crate::entry::{Logged, LoggedBatch, Point, Seal, Turn};
use crate::update::{CheckedBatch, Update};
use crate::voter::{Change, Voters};

/// What every replica computes alike from the log; bounded by the number of voters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Replicated {
    /// The epoch.
    pub epoch: Epoch,
    /// Its voters.
    pub voters: Arc<Voters>,
    /// The checkpoint with which it began.
    pub start: Point,
    /// The last batch carried out.
    pub executed: Sequence,
    /// The request number each voter is to use next.
    #[serde(deserialize_with = "bounded::map::<_, _, _, VOTERS_MAX>")]
    pub next: BTreeMap<PeerId, u64>,
    /// The change each voter wishes for.
    #[serde(deserialize_with = "bounded::map::<_, _, _, VOTERS_MAX>")]
    pub wishes: BTreeMap<PeerId, Change>,
    /// When each voter last rejoined.
    #[serde(deserialize_with = "bounded::map::<_, _, _, VOTERS_MAX>")]
    pub rejoined: BTreeMap<PeerId, Sequence>,
    /// Why the epoch has ended, once it has.
    pub turn: Option<Turn>,
}

/// A logged batch does not follow from the state before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("batch {0} in the log does not follow from what is before it")]
pub struct NotNext(pub Sequence);

impl Replicated {
    /// The state before the first batch.
    pub fn genesis(voters: Arc<Voters>, empty: Point) -> Self {
        let next = voters.iter().map(|(_, voter)| (voter.id, 0)).collect();
        Self {
            epoch: Epoch::GENESIS,
            voters,
            start: empty,
            executed: Sequence::ZERO,
            next,
            wishes: BTreeMap::new(),
            rejoined: BTreeMap::new(),
            turn: None,
        }
    }

    /// Carries out the next batch. A bundle whose number is not its member's next is passed over: that
    /// is what makes each number count once, whatever a primary proposes twice.
    pub fn execute(&mut self, batch: &CheckedBatch) -> LoggedBatch {
        let count = batch.bundles().iter().map(|bundle| bundle.bundle().updates.len()).sum();
        let mut updates = Vec::with_capacity(count);
        for bundle in batch.bundles() {
            let head = bundle.head();
            // A voter's alone: who left may not ask any more, and has no number.
            if self.next.get(&head.member) != Some(&head.number) {
                continue;
            }
            for (index, update) in bundle.bundle().updates.iter().enumerate() {
                let logged = Logged {
                    member: head.member,
                    number: head.number,
                    index: index as u32,
                    update: update.clone(),
                };
                self.carry_out(&logged);
                updates.push(logged);
            }
            self.use_up(head.member, head.number);
        }
        let sequence = self.executed.next();
        let seal =
            Seal { epoch: self.epoch, sequence, digest: batch.digest(), turn: self.turn.clone() };
        self.executed = sequence;
        LoggedBatch { updates, seal }
    }

    /// Carries out a batch as it stands in the log.
    ///
    /// # Errors
    /// [`NotNext`] when it does not follow; the state is then unchanged.
    pub fn follow(&mut self, batch: &LoggedBatch) -> Result<(), NotNext> {
        let mut after = self.clone();
        for logged in &batch.updates {
            // The first update of a bundle uses up the number, the others come with it.
            let next = after.next.get(&logged.member).copied();
            let due = if logged.index == 0 { logged.number } else { logged.number + 1 };
            if self.turn.is_some() || next != Some(due) {
                return Err(NotNext(batch.seal.sequence));
            }
            after.use_up(logged.member, logged.number);
            after.carry_out(logged);
        }
        after.executed = after.executed.next();
        let due = Seal {
            epoch: after.epoch,
            sequence: after.executed,
            digest: batch.seal.digest,
            turn: after.turn.clone(),
        };
        if self.turn.is_some() || batch.seal != due {
            return Err(NotNext(batch.seal.sequence));
        }
        *self = after;
        Ok(())
    }

    /// Goes over to the next epoch, which begins with the checkpoint at the end of this one.
    pub fn begin_epoch(&mut self, start: Point) {
        let Some(turn) = self.turn.take() else { return };
        if let Turn::Change(change) = &turn
            && let Ok(voters) = self.voters.changed(change)
        {
            self.voters = Arc::new(voters);
        }
        self.epoch = self.epoch.next().unwrap_or(self.epoch);
        self.start = start;
        self.wishes.clear();
        let voters = Arc::clone(&self.voters);
        self.next.retain(|id, _| voters.seat(id).is_some());
        self.rejoined.retain(|id, _| voters.seat(id).is_some());
        // A member that comes back starts above every number it can have used before: a batch uses up
        // fewer than 2^16 of a member's numbers.
        let first = self.executed.0 << 16;
        for (_, voter) in voters.iter() {
            self.next.entry(voter.id).or_insert(first);
        }
    }

    /// Whether a voter that lost its journal may rejoin already.
    pub fn may_rejoin(&self, member: &PeerId) -> bool {
        let since = |last: &Sequence| self.executed.since(*last) >= REJOIN_SEQUENCES_MIN;
        self.rejoined.get(member).is_none_or(since)
    }

    fn carry_out(&mut self, logged: &Logged) {
        let member = logged.member;
        match &logged.update {
            Update::Data(_) => {}
            Update::Wish(change) => self.wish(member, change),
            Update::Rejoin { nonce } => {
                if self.turn.is_none() && self.may_rejoin(&member) {
                    self.rejoined.insert(member, self.executed.next());
                    self.turn = Some(Turn::Rejoin { member, nonce: *nonce });
                }
            }
        }
    }

    /// The member is to use the number after this one next.
    fn use_up(&mut self, member: PeerId, number: u64) {
        self.next.insert(member, number.saturating_add(1));
    }

    /// A change that cannot be made is no wish. A quorum's wish ends the epoch.
    fn wish(&mut self, member: PeerId, change: &Change) {
        if self.voters.changed(change).is_err() {
            return;
        }
        self.wishes.insert(member, change.clone());
        let agreed = self.wishes.values().filter(|wish| *wish == change).count();
        if self.turn.is_none() && self.voters.quorum().is_quorum(agreed) {
            self.turn = Some(Turn::Change(change.clone()));
        }
    }
}
