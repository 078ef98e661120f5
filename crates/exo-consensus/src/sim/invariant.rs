//! What must hold after every event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use exo_types::limits::{
    ACCEPTED_DIGESTS_PER_SEQUENCE_MAX, ACCEPTED_SEQUENCES_MAX, BUNDLE_UPDATES_MAX,
    BUNDLES_PENDING_PER_MEMBER_MAX, CONSENSUS_OUTBOX_MAX, SUBMISSIONS_WAITING_MAX,
};
use exo_types::{Epoch, PeerId, Sequence, View, Wire};

use exo_crypto::{Label, hash};

use super::auth::Tags;
use super::host::{CHECKPOINT, COMMIT, PRE_PREPARE, PREPARE, VIEW_CHANGE};
use super::tree::Tree;
use super::world::World;
use super::{Step, Violation};
use crate::blob::Digest;
use crate::certificate::Certificate;
use crate::check::Verifier;
use crate::entry::{LoggedBatch, Point};
use crate::guard::{Guard, Record, Role};
use crate::ledger::Ledger;
use crate::message::{Message, Statement, statement_digest};
use crate::update::{CheckedBatch, Update};
use crate::voter::Voters;

/// What correct nodes have committed so far.
pub(crate) struct Checker {
    agreed: Vec<(Arc<LoggedBatch>, u64)>,
    tree: Tree,
    points: BTreeMap<Sequence, Point>,
    numbers: BTreeSet<(PeerId, u64, u32)>,
    contents: BTreeSet<u64>,
    liars: BTreeSet<PeerId>,
    epochs: BTreeMap<Epoch, Arc<Voters>>,
    /// Updates of the calm: whose, and which.
    pub(crate) owed: Vec<(usize, u64)>,
}

impl Checker {
    pub(crate) fn new(voters: &Arc<Voters>, liars: BTreeSet<PeerId>) -> Self {
        Self {
            agreed: Vec::new(),
            tree: Tree::empty(),
            points: [(Sequence::ZERO, beginning())].into(),
            numbers: BTreeSet::new(),
            contents: BTreeSet::new(),
            liars,
            epochs: [(Epoch::GENESIS, Arc::clone(voters))].into(),
            owed: Vec::new(),
        }
    }

    /// One batch at each place, the same for everybody; each update once.
    fn commits(&mut self, id: PeerId, batch: &Arc<LoggedBatch>) -> Step {
        let sequence = batch.seal.sequence;
        let at = sequence.0 as usize - 1;
        if let Some((agreed, _)) = self.agreed.get(at) {
            let same = agreed == batch;
            return if same {
                Ok(())
            } else {
                Err(Violation(format!(
                    "{id:?} commits another batch at {sequence}: {batch:?}, not {agreed:?}"
                )))
            };
        }
        if at != self.agreed.len() {
            return Err(Violation(format!("{id:?} leaves a gap before {sequence}")));
        }
        for logged in &batch.updates {
            if !self.numbers.insert((logged.member, logged.number, logged.index)) {
                return Err(Violation(format!("a number is committed twice: {logged:?}")));
            }
            // A liar may ask for the same thing twice, under two numbers.
            if let Some(content) = content(&logged.update)
                && !self.liars.contains(&logged.member)
                && !self.contents.insert(content)
            {
                return Err(Violation(format!("an update is committed twice: {logged:?}")));
            }
        }
        let first = self.agreed.last().map_or(0, |(before, first)| first + before.size());
        self.agreed.push((Arc::clone(batch), first));
        batch.leaves().for_each(|leaf| self.tree.append(Tree::leaf_hash(&leaf)));
        let point = Point { sequence, size: self.tree.size(), root: self.tree.root() };
        self.points.insert(sequence, point);
        Ok(())
    }

    pub(crate) fn batches(&self) -> u64 {
        self.agreed.len() as u64
    }
}

impl World {
    /// After every step of a node, once its effects are done.
    pub(super) fn check_core(&mut self, host: usize) -> Step {
        let node = &mut self.hosts[host];
        let Some(core) = &node.core else { return Ok(()) };
        let voters = core.directory().voters;
        if !node.honest() {
            return Ok(());
        }
        self.checker.epochs.entry(core.epoch()).or_insert_with(|| Arc::clone(&voters));
        let point = core.point();
        node.executed = node.executed.max(point.sequence);
        let known = self.checker.points.get(&point.sequence);
        if known != Some(&point) {
            return Err(Violation(format!("{:?} has {point:?}, agreed is {known:?}", node.id)));
        }
        if self.checker.epochs.get(&core.epoch()) != Some(&voters) {
            return Err(Violation(format!("{:?} has other voters in {}", node.id, core.epoch())));
        }
        let load = core.load();
        let n = voters.count() + 1;
        let window = 2 * ACCEPTED_SEQUENCES_MAX as usize;
        let within = load.slots <= window
            && load.votes <= window * (2 * n + ACCEPTED_DIGESTS_PER_SEQUENCE_MAX)
            && load.batches <= 1 + window * (ACCEPTED_DIGESTS_PER_SEQUENCE_MAX + 3)
            && load.cosignatures <= window * n
            && load.past <= window
            && load.view_changes <= n
            && load.pending <= n * BUNDLES_PENDING_PER_MEMBER_MAX
            && load.submitted
                <= SUBMISSIONS_WAITING_MAX
                    + (BUNDLES_PENDING_PER_MEMBER_MAX + 1) * BUNDLE_UPDATES_MAX
            && load.waiting <= 2 * CONSENSUS_OUTBOX_MAX;
        if within {
            Ok(())
        } else {
            Err(Violation(format!("{:?} holds too much: {load:?}", node.id)))
        }
    }

    /// A record is about to be written.
    pub(super) fn check_record(&mut self, host: usize, record: &Record) -> Step {
        let at = self.hosts[host].disk.len();
        self.note_guards(host, record, at);
        match record {
            Record::Accepted(guard) | Record::Prepared(guard) => self.hosts[host].votes(guard)?,
            Record::NewView(of) if of.signed.is_some() => self.stats.views += 1,
            Record::Append(batch) if self.hosts[host].honest() => {
                self.checker.commits(self.hosts[host].id, batch.batch())?;
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn note_guards(&mut self, host: usize, record: &Record, at: usize) {
        let node = &mut self.hosts[host];
        let said = |kind, guard: &Guard| (kind, guard.epoch, guard.view, guard.sequence);
        match record {
            Record::Accepted(guard) => node.guarded(said(PREPARE, guard), guard.digest, at),
            Record::Prepared(guard) => node.guarded(said(COMMIT, guard), guard.digest, at),
            Record::ViewChange(of) => {
                let kind = (VIEW_CHANGE, of.change.epoch, of.change.view, Sequence::ZERO);
                let statement = Statement::ViewChange(of.change.clone());
                node.guarded(kind, name(&statement), at);
            }
            Record::NewView(of) => {
                let kind = (NEW_VIEW, of.statement.epoch, of.statement.view, Sequence::ZERO);
                node.guarded(kind, name(&Statement::NewView(of.statement.clone())), at);
            }
            Record::Cosigned(point) => {
                let Some(core) = &node.core else { return };
                let kind = (CHECKPOINT, core.epoch(), View::FIRST, point.sequence);
                node.guarded(kind, Digest(point.root.0), at);
            }
            _ => {}
        }
    }

    /// A correct node is about to say something.
    pub(super) fn check_said(&mut self, host: usize, message: &Message) -> Step {
        let node = &mut self.hosts[host];
        match message {
            Message::PrePrepare(of) => {
                let digest = CheckedBatch::journaled(&of.batch).map(|batch| batch.digest());
                let said = (PRE_PREPARE, of.epoch, of.view, of.sequence);
                node.says(said, digest.unwrap_or_default())
            }
            Message::Prepare(vote) => {
                node.says((PREPARE, vote.epoch, vote.view, vote.sequence), vote.digest)
            }
            Message::Commit(vote) => {
                node.says((COMMIT, vote.epoch, vote.view, vote.sequence), vote.digest)
            }
            Message::Cosignature(of) => {
                let said = (CHECKPOINT, of.epoch, View::FIRST, of.point.sequence);
                if self.checker.points.get(&of.point.sequence) != Some(&of.point) {
                    return Err(Violation(format!("{:?} cosigns {:?}", node.id, of.point)));
                }
                node.says(said, Digest(of.point.root.0))
            }
            Message::ViewChange(of) => {
                let Ok(Statement::ViewChange(value)) = of.signed.claimed() else { return Ok(()) };
                let said = (VIEW_CHANGE, value.epoch, value.view, Sequence::ZERO);
                node.says(said, statement_digest(&of.signed))?;
                let left = node.left.entry(value.epoch).or_default();
                *left = value.view.max(*left);
                Ok(())
            }
            Message::NewView(of) => {
                let Ok(Statement::NewView(value)) = of.signed.claimed() else { return Ok(()) };
                if value.sender != node.id {
                    return Ok(());
                }
                let said = (NEW_VIEW, value.epoch, value.view, Sequence::ZERO);
                node.says(said, statement_digest(&of.signed))
            }
            _ => Ok(()),
        }
    }

    /// What the application is given is what is agreed, with the right place in the log.
    pub(super) fn check_applied(
        &mut self,
        host: usize,
        first: u64,
        batch: &Arc<LoggedBatch>,
    ) -> Step {
        if !self.hosts[host].honest() {
            return Ok(());
        }
        match self.checker.agreed.get(batch.seal.sequence.0 as usize - 1) {
            Some((agreed, at)) if agreed == batch && *at == first => Ok(()),
            _ => Err(Violation(format!("{:?} applies {batch:?}", self.hosts[host].id))),
        }
    }

    /// A certificate comes from a quorum, of whom all that are correct have carried the batch out.
    pub(super) fn check_certified(&mut self, host: usize, certificate: &Certificate) -> Step {
        if !self.hosts[host].honest() {
            return Ok(());
        }
        let no = |what: &str| {
            Err(Violation(format!("{:?} is certified and {what}", certificate.point())))
        };
        let point = certificate.point();
        let Some(voters) = self.checker.epochs.get(&certificate.epoch()) else {
            return no("of no epoch");
        };
        let (size, root) = (certificate.size, certificate.root);
        let holds = certificate.signatures.iter().filter(|of| {
            voters
                .voter(of.seat)
                .is_some_and(|v| Tags.cosignature(v, size, root, of.signature.as_bytes()))
        });
        if !voters.quorum().is_quorum(holds.count()) {
            return no("has no quorum");
        }
        let liars = &self.checker.liars;
        let correct = self.hosts.iter().filter(|node| {
            node.honest()
                && voters.seat(&node.id).is_some()
                && node
                    .executed
                    .max(node.core.as_ref().map_or(Sequence::ZERO, |c| c.point().sequence))
                    >= point.sequence
        });
        if correct.count() + liars.len() < voters.quorum().quorum() {
            return no("too few have carried it out");
        }
        if self.checker.points.get(&point.sequence).is_some_and(|known| *known != point) {
            return no("another is agreed");
        }
        Ok(())
    }

    /// What a client is told is so.
    pub(super) fn check_done(&mut self, host: usize, ticket: u64, leaf: u64) -> Step {
        self.hosts[host].done.insert(ticket);
        if !self.hosts[host].honest() || ticket == crate::REJOIN_TICKET {
            return Ok(());
        }
        let at = self.checker.agreed.partition_point(|(_, first)| *first <= leaf);
        let logged = at.checked_sub(1).and_then(|at| self.checker.agreed.get(at));
        let logged = logged.and_then(|(batch, first)| batch.updates.get((leaf - first) as usize));
        match logged {
            Some(logged) if content(&logged.update).is_none_or(|c| c == ticket) => Ok(()),
            other => Err(Violation(format!("{ticket} is told to be at {leaf}: {other:?}"))),
        }
    }

    /// Whether all that is owed is done, and all correct voters are at the same end, certified.
    pub(super) fn converged(&self) -> bool {
        let done = |(host, ticket): &(usize, u64)| self.hosts[*host].done.contains(ticket);
        if !self.checker.owed.iter().all(done) {
            return false;
        }
        let epoch = self.checker.epochs.last_key_value();
        let Some((epoch, voters)) = epoch else { return false };
        let end = Sequence(self.checker.batches());
        self.hosts.iter().filter(|h| h.honest() && voters.seat(&h.id).is_some()).all(|host| {
            host.core.as_ref().is_some_and(|core| {
                core.epoch() == *epoch
                    && core.point().sequence == end
                    && core.stable().sequence == end
                    && (core.role() == Role::Voter || !core.state().may_rejoin(&host.id))
            })
        })
    }

    pub(super) fn check_end(&mut self) -> Step {
        self.stats.batches = self.checker.batches();
        let updates = self.checker.agreed.iter().map(|(batch, _)| batch.updates.len() as u64);
        self.stats.updates = updates.sum();
        Ok(())
    }

    pub(super) fn describe(&self) -> String {
        let mut lines = vec![format!("{} agreed", self.checker.batches())];
        for (n, host) in self.hosts.iter().enumerate() {
            let Some(core) = &host.core else {
                lines.push(format!("n{n} is down"));
                continue;
            };
            lines.push(format!(
                "n{n} {} {:?} epoch {} view {} {} at {} certified {} {:?}",
                host.liar.as_ref().map_or("correct".to_owned(), |l| format!("{:?}", l.kind)),
                core.role(),
                core.epoch(),
                core.view(),
                if core.is_active() { "active" } else { "changing" },
                core.point().sequence,
                core.stable().sequence,
                core.load(),
            ));
        }
        let missing = self.checker.owed.iter().filter(|(h, t)| !self.hosts[*h].done.contains(t));
        lines.push(format!("owed {:?}", missing.collect::<Vec<_>>()));
        lines.join("\n  ")
    }
}

fn beginning() -> Point {
    let empty = Tree::empty();
    Point { sequence: Sequence::ZERO, size: 0, root: empty.root() }
}

/// The number that a simulated update carries.
fn content(update: &Update) -> Option<u64> {
    match update {
        Update::Data(content) => {
            content.as_bytes().first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
        }
        _ => None,
    }
}

/// The name of a statement before it is signed.
fn name(statement: &Statement) -> Digest {
    let body = statement.to_wire().unwrap_or_default();
    Digest(hash(Label::CONSENSUS, &[b"statement", &body]))
}

const NEW_VIEW: u8 = 5;
