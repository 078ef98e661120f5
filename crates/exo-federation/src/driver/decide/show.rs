//! Reading the log: decisions, pages of them, proofs, policies and tiles.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use exo_consensus::{Certificate, Entry, Logged, LoggedBatch, Role, Voters};
use exo_crypto::CosignerKey;
use exo_log::{CommitProof, Note, Policy, Tile};
use exo_node::decide::{Charter, Decided, Decision, Kind, Outcome, summary};
use exo_types::limits::{DECISIONS_PER_PAGE_MAX, FORMER_EPOCHS_KEPT_MAX};
use exo_types::{Epoch, NodeName, PeerId, Wire};

use super::Shared;
use super::start::Walk;
use crate::decisions::{
    ConsensusRole, ConsensusView, DecisionOutcome, DecisionPage, DecisionView, VoterView,
};
use crate::error::{ErrorCode, FederationError};

impl Shared {
    /// How deciding together stands here; `active` tells with whom there is a session.
    pub(crate) fn status(&self, active: impl Fn(&PeerId) -> bool) -> ConsensusView {
        let inner = self.lock();
        let (replica, charter) = (inner.decisions.replica(), inner.decisions.charter());
        let voters = &replica.state().voters;
        let view = |(seat, voter): (exo_consensus::Seat, &exo_consensus::Voter)| VoterView {
            peer: voter.id,
            name: charter.member(&voter.id).map(|member| member.name.clone()),
            seat: seat.0,
            you: voter.id == self.me,
            active: voter.id == self.me || active(&voter.id),
        };
        let role = match (&inner.halted, replica.role()) {
            (Some(cause), _) => ConsensusRole::Halted(cause.clone()),
            (None, _) if voters.seat(&self.me).is_none() => ConsensusRole::Follower,
            (None, Role::Voter) => ConsensusRole::Voter,
            (None, Role::Joining) => ConsensusRole::Follower,
            (None, Role::Wiped { .. }) => ConsensusRole::Rejoining,
        };
        let point = replica.point();
        ConsensusView {
            epoch: replica.epoch(),
            view: replica.view(),
            primary: replica.primary(),
            voters: voters.iter().map(view).collect(),
            faults_tolerated: voters.quorum().faults(),
            quorum: voters.quorum().quorum(),
            executed: point.sequence,
            certified: replica.stable().sequence,
            // What can be looked at: the journal is written a moment later.
            size: point.size.min(self.archive.size()),
            root: point.root.0,
            role,
        }
    }

    /// Removed members and the indices of the decisions that removed them.
    pub(crate) fn removals(&self) -> BTreeMap<PeerId, u64> {
        self.lock().outcomes.removals().clone()
    }

    /// The cosigner keys of this node's seat and of its membership.
    pub(crate) fn own_keys(&self) -> (Option<CosignerKey>, Option<CosignerKey>) {
        let inner = self.lock();
        let member = inner.decisions.charter().member(&self.me);
        (inner.decisions.cosigner(), member.map(|member| member.cosigner.clone()))
    }

    /// The admission of a peer that waits for more voters.
    pub(crate) fn proposed_admission(&self, peer: &PeerId) -> Option<Decision> {
        let inner = self.lock();
        let mut waiting = inner.decisions.charter().waiting().map(|(_, wish)| &wish.decision);
        let admits = |decision: &&Decision| match decision {
            Decision::Admit(admission) => admission.key.peer_id() == *peer,
            _ => false,
        };
        waiting.find(admits).cloned()
    }

    /// How a decision is shown that was just certified.
    pub(crate) fn show(&self, decided: &Decided) -> DecisionView {
        let name = self.name(&decided.logged.member);
        DecisionView {
            index: decided.index,
            sequence: decided.sequence,
            epoch: decided.epoch,
            member: decided.logged.member,
            member_name: name,
            kind: decided.kind,
            outcome: outcome(decided.outcome),
            size: content(&decided.logged),
            summary: summary(&decided.logged.update),
            entry: None,
            certified: true,
        }
    }

    /// One decision, with its entry.
    pub(crate) fn decision(&self, index: u64) -> Result<DecisionView, FederationError> {
        let found = if index < self.known_size() { self.batch_of(index)? } else { None };
        let (first, batch) = found.ok_or_else(|| none_at(index))?;
        let at = usize::try_from(index - first).unwrap_or(usize::MAX);
        let logged = batch.updates.get(at).ok_or_else(|| none_at(index))?;
        let mut view = self.view(index, logged, &batch, self.certified_size())?;
        view.entry = Some(entry(logged)?);
        Ok(view)
    }

    /// Decisions from an index on, upward or downward.
    pub(crate) fn page(
        &self,
        from: u64,
        max: usize,
        newest_first: bool,
    ) -> Result<DecisionPage, FederationError> {
        let max = max.clamp(1, DECISIONS_PER_PAGE_MAX);
        let (size, certified) = (self.known_size(), self.certified_size());
        let mut decisions = Vec::new();
        let mut next =
            if newest_first { size.checked_sub(1).map(|last| last.min(from)) } else { Some(from) };
        while let Some(at) = next.filter(|at| *at < size) {
            if decisions.len() == max {
                return Ok(DecisionPage { size, certified, decisions, next: Some(at) });
            }
            let Some((first, batch)) = self.batch_of(at)? else { break };
            let room = max - decisions.len();
            let leaves = (first..).zip(&batch.updates);
            let mut show = |(index, logged): (u64, &Logged)| {
                self.view(index, logged, &batch, certified).map(|view| decisions.push(view))
            };
            if newest_first {
                let below: Vec<_> = leaves.filter(|(index, _)| *index <= at).collect();
                let shown: Vec<_> = below.into_iter().rev().take(room).collect();
                let last = shown.last().map_or(first, |(index, _)| *index);
                shown.into_iter().try_for_each(&mut show)?;
                next = last.checked_sub(1);
            } else {
                let shown: Vec<_> = leaves.filter(|(index, _)| *index >= at).take(room).collect();
                let end = first + batch.size();
                let last = shown.last().map_or(end, |(index, _)| index + 1);
                // Behind the last update of a batch there is its seal alone.
                next = Some(if last + 1 >= end { end } else { last });
                shown.into_iter().try_for_each(&mut show)?;
            }
        }
        Ok(DecisionPage { size, certified, decisions, next: None })
    }

    /// The proof that an entry is committed, which carries it.
    pub(crate) fn proof(&self, index: u64) -> Result<CommitProof, FederationError> {
        let certificate = self.certificate_of(index)?;
        let bytes = self.archive.entry(index).map_err(|error| unreadable(&error))?;
        let bytes = bytes.ok_or_else(|| none_at(index))?;
        let voters = self.voters_of(certificate.epoch())?;
        let path = self.archive.inclusion(index, certificate.size);
        let proof = path.and_then(|path| self.keys.proof(&certificate, &voters, index, path));
        let proof = proof.ok_or_else(|| {
            FederationError::new(
                ErrorCode::NotCertified,
                format!("entry {index} has no proof here"),
            )
        })?;
        proof.with_entry(bytes).map_err(|error| {
            FederationError::new(ErrorCode::Internal, format!("the proof of {index}: {error}"))
        })
    }

    /// The policy by which proofs of an epoch are checked; of the one whose voters cosigned last where
    /// none is named.
    pub(crate) fn policy(&self, epoch: Option<Epoch>) -> Result<Policy, FederationError> {
        let epoch = epoch.unwrap_or_else(|| match self.archive.covered() {
            Some(certificate) => certificate.epoch(),
            None => self.directory().epoch,
        });
        let voters = self.voters_of(epoch)?;
        self.keys.policy(&voters).map_err(|error| {
            FederationError::new(ErrorCode::Internal, format!("the policy of {epoch}: {error}"))
        })
    }

    /// The newest certified head of the log, as a signed note (c2sp.org/tlog-checkpoint).
    pub(crate) fn checkpoint(&self) -> Result<Vec<u8>, FederationError> {
        let certificate = self.archive.covered().ok_or_else(|| {
            FederationError::new(ErrorCode::NotCertified, "nothing is certified yet")
        })?;
        let voters = self.voters_of(certificate.epoch())?;
        let checkpoint = self.keys.checkpoint(certificate.size, certificate.root);
        let note = checkpoint.and_then(|checkpoint| {
            Note::new(checkpoint.to_string(), self.keys.lines(&certificate, &voters)).ok()
        });
        let note = note.ok_or_else(|| {
            FederationError::new(ErrorCode::Internal, "the newest certificate makes no note")
        })?;
        Ok(note.to_string().into_bytes())
    }

    /// A tile or entry bundle of the log by its path (c2sp.org/tlog-tiles).
    pub(crate) fn tile(&self, path: &str) -> Result<Vec<u8>, FederationError> {
        let tile: Option<Tile> = path.parse().ok();
        let bytes = tile.and_then(|tile| self.archive.tile(&tile));
        bytes.ok_or_else(|| {
            FederationError::new(ErrorCode::DecisionNotFound, format!("the log has no {path:?}"))
        })
    }

    fn view(
        &self,
        index: u64,
        logged: &Logged,
        batch: &LoggedBatch,
        certified: u64,
    ) -> Result<DecisionView, FederationError> {
        let kept = self.lock().outcomes.of(index);
        let of = kept.read(index).map_err(|error| {
            FederationError::new(
                ErrorCode::Io,
                format!("what became of decision {index} cannot be read: {error}"),
            )
        })?;
        Ok(DecisionView {
            index,
            sequence: batch.seal.sequence,
            epoch: batch.seal.epoch,
            member: logged.member,
            member_name: self.name(&logged.member),
            kind: Kind::of(&logged.update),
            outcome: outcome(of),
            size: content(logged),
            summary: summary(&logged.update),
            entry: None,
            certified: index < certified,
        })
    }

    fn batch_of(&self, index: u64) -> Result<Option<(u64, LoggedBatch)>, FederationError> {
        let found = self.archive.batches(index, 1).map_err(|error| unreadable(&error))?;
        Ok(found.into_iter().next().filter(|(first, _)| *first <= index))
    }

    /// Leaves of the log of which it is known what became of them: a replica that lost its journal goes
    /// through its log again.
    fn known_size(&self) -> u64 {
        self.archive.size().min(self.lock().decisions.replica().point().size)
    }

    fn certified_size(&self) -> u64 {
        self.archive.covered().map_or(0, |certificate| certificate.size)
    }

    /// The certificate on which an entry's proof stands: of the epoch in which it was committed the last
    /// one, so that the proof holds under the policy of the entry's own epoch.
    fn certificate_of(&self, index: u64) -> Result<Arc<Certificate>, FederationError> {
        let latest = self.certificate_over(index)?;
        let batches = self.archive.batches(index, 1).map_err(|error| unreadable(&error))?;
        let epoch = batches.first().map(|(_, batch)| batch.seal.epoch);
        let ended = epoch.filter(|epoch| *epoch < latest.epoch());
        match ended.map(|epoch| exo_consensus::Archive::end_of(&self.archive, epoch)) {
            Some(Some(end)) if index < end.size => Ok(end),
            _ => Ok(latest),
        }
    }

    fn certificate_over(&self, index: u64) -> Result<Arc<Certificate>, FederationError> {
        let latest = self.archive.covered().filter(|certificate| index < certificate.size);
        latest.ok_or_else(|| match index < self.archive.size() {
            true => FederationError::new(
                ErrorCode::NotCertified,
                format!("entry {index} is not certified yet"),
            ),
            false => none_at(index),
        })
    }

    fn name(&self, peer: &PeerId) -> Option<NodeName> {
        self.lock().decisions.charter().member(peer).map(|member| member.name.clone())
    }

    /// Who voted in an epoch: the present one, or one that is found out from the log.
    fn voters_of(&self, epoch: Epoch) -> Result<Arc<Voters>, FederationError> {
        let present = self.directory();
        if present.epoch == epoch {
            return Ok(Arc::clone(&present.voters));
        }
        let former = || self.former.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(voters) = former().get(&epoch) {
            return Ok(Arc::clone(voters));
        }
        let mut found = None;
        self.replay(|charter| {
            if charter.term() == epoch {
                found = Some(Arc::clone(charter.seats()));
            }
            found.is_some()
        })?;
        let voters = found.ok_or_else(|| {
            FederationError::new(ErrorCode::DecisionNotFound, format!("there is no epoch {epoch}"))
        })?;
        let mut kept = former();
        kept.insert(epoch, Arc::clone(&voters));
        if kept.len() > FORMER_EPOCHS_KEPT_MAX {
            kept.pop_first();
        }
        Ok(voters)
    }

    /// Goes through the whole log; `look` sees the charter after each batch, and says whether it has seen
    /// enough.
    fn replay(&self, mut look: impl FnMut(&Charter) -> bool) -> Result<(), FederationError> {
        let mut charter = Charter::new(&self.constitution).map_err(|error| {
            FederationError::new(ErrorCode::Internal, format!("the constitution: {error}"))
        })?;
        if look(&charter) {
            return Ok(());
        }
        let mut failed = None;
        for (first, batch) in Walk::new(&self.archive, &mut failed) {
            charter.carry_out(first, &batch);
            if look(&charter) {
                return Ok(());
            }
        }
        match failed {
            Some(error) => Err(unreadable(&error)),
            None => Ok(()),
        }
    }
}

fn outcome(of: Outcome) -> DecisionOutcome {
    match of {
        Outcome::Recorded => DecisionOutcome::Recorded,
        Outcome::Effective => DecisionOutcome::Effective,
        Outcome::Wished { have, need } => {
            DecisionOutcome::Wished { have: have.into(), need: need.into() }
        }
        Outcome::Void(why) => DecisionOutcome::Void(why),
    }
}

/// Length of what an update says, bytes.
fn content(logged: &Logged) -> usize {
    use exo_consensus::Update;
    match &logged.update {
        Update::Data(bytes) => match Decision::from_wire(bytes.as_bytes()) {
            Ok(Decision::Statement(content)) => content.len(),
            _ => bytes.len(),
        },
        other => other.to_wire().map_or(0, |bytes| bytes.len()),
    }
}

fn entry(logged: &Logged) -> Result<Vec<u8>, FederationError> {
    Entry::Update(logged.clone())
        .to_wire()
        .map_err(|error| FederationError::new(ErrorCode::Internal, error.to_string()))
}

fn none_at(index: u64) -> FederationError {
    FederationError::new(ErrorCode::DecisionNotFound, format!("the log has no decision {index}"))
}

fn unreadable(error: &std::io::Error) -> FederationError {
    FederationError::new(ErrorCode::DataCorrupt, format!("the log cannot be read: {error}"))
}
