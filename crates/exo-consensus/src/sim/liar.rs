//! Nodes that lie. Each runs the real core and says other things than it wants said; it signs as itself
//! alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use exo_crypto::Signed;
use exo_types::{Epoch, PeerId, Sequence, View};

use super::Step;
use super::auth::sign;
use super::disk::Disk;
use super::host::FEDERATION;
use super::rng::Rng;
use super::world::{Happening, World};
use crate::blob::{Blob, Digest, Root};
use crate::message::{
    Claim, LogPiece, Message, NewView, NewViewMessage, Statement, ViewChange, ViewChangeMessage,
    Vote, statement_digest,
};
use crate::replica::Start;
use crate::update::{Batch, Bundle, BundleHead, CheckedBatch, Update, bundle_root};
use crate::voter::Seat;

/// How a node lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LiarKind {
    /// It says nothing, from some moment on.
    Silent,
    /// It speaks to some and not to others.
    Selective,
    /// It tells some one thing and others another.
    Equivocator,
    /// It says again what it heard, as if it came from itself.
    Replayer,
    /// It votes for other digests.
    WrongDigest,
    /// It invents what it prepared and accepted, leaves views early, and leads with chosen view changes.
    ForgedViewChange,
    /// It hands out false logs and boasts of checkpoints.
    ForgedState,
    /// It changes real messages a little.
    Mutator,
    /// Two nodes run under one name.
    Twins,
    /// It forgets everything and goes on as if it had never been.
    Amnesiac,
}

impl LiarKind {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        *rng.pick(&ALL).unwrap_or(&Self::Silent)
    }
}

/// A liar's own state.
#[derive(Clone, Debug)]
pub(crate) struct Liar {
    pub(crate) kind: LiarKind,
    /// What it tells the other half at a place.
    other: BTreeMap<(Epoch, View, Sequence), Digest>,
}

impl Liar {
    pub(crate) fn new(kind: LiarKind) -> Self {
        Self { kind, other: BTreeMap::new() }
    }
}

/// What liars have heard, all of them together.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    messages: Vec<Message>,
    digests: BTreeSet<Digest>,
    bundles: Vec<Arc<Bundle>>,
    view_changes: BTreeMap<(Epoch, View), BTreeMap<PeerId, Signed<Statement>>>,
}

impl Knowledge {
    pub(crate) fn hear(&mut self, message: &Message) {
        match message {
            Message::Prepare(vote) | Message::Commit(vote) if self.digests.len() < 64 => {
                self.digests.insert(vote.digest);
            }
            Message::PrePrepare(of) if self.bundles.len() < 32 => {
                self.bundles.extend(of.batch.bundles.iter().cloned());
            }
            Message::ViewChange(of) if self.view_changes.len() < 32 => {
                if let Ok(Statement::ViewChange(value)) = of.signed.claimed() {
                    let here = self.view_changes.entry((value.epoch, value.view)).or_default();
                    here.insert(value.sender, of.signed.clone());
                }
            }
            _ => {}
        }
        if self.messages.len() < 300 {
            self.messages.push(message.clone());
        }
    }

    fn digest(&self, rng: &mut Rng) -> Digest {
        let known: Vec<Digest> = self.digests.iter().copied().collect();
        rng.pick(&known).copied().unwrap_or(Digest([9; 32]))
    }
}

impl World {
    /// What a node really sends where its core wants to send this.
    pub(super) fn distort(&mut self, host: usize, to: &PeerId, message: &Message) -> Vec<Message> {
        let Some(liar) = &self.hosts[host].liar else { return vec![message.clone()] };
        let half = to.as_bytes()[1].is_multiple_of(2);
        match liar.kind {
            LiarKind::Silent if self.now > Duration::from_millis(300) => Vec::new(),
            LiarKind::Selective if half && self.rng.chance(900) => Vec::new(),
            LiarKind::Equivocator if half => vec![self.equivocate(host, message)],
            LiarKind::WrongDigest => vec![self.wrong_digest(message)],
            LiarKind::ForgedState => vec![self.false_state(message)],
            LiarKind::Mutator if self.rng.chance(250) => vec![self.mutate(host, message)],
            _ => vec![message.clone()],
        }
    }

    fn equivocate(&mut self, host: usize, message: &Message) -> Message {
        let mut message = message.clone();
        let Some(liar) = &mut self.hosts[host].liar else { return message };
        match &mut message {
            Message::PrePrepare(of) => {
                match self.rng.pick(&self.knowledge.bundles) {
                    Some(more) if of.batch.bundles.len() < 2 => {
                        of.batch.bundles.insert(0, Arc::clone(more));
                    }
                    _ => of.batch.bundles.reverse(),
                }
                let digest = CheckedBatch::journaled(&of.batch).map(|batch| batch.digest());
                let place = (of.epoch, of.view, of.sequence);
                liar.other.insert(place, digest.unwrap_or_default());
            }
            Message::Prepare(vote) | Message::Commit(vote) => {
                let place = (vote.epoch, vote.view, vote.sequence);
                vote.digest = liar.other.get(&place).copied().unwrap_or(vote.digest);
            }
            _ => {}
        }
        message
    }

    fn wrong_digest(&mut self, message: &Message) -> Message {
        let mut message = message.clone();
        if let Message::Prepare(vote) | Message::Commit(vote) = &mut message
            && self.rng.chance(600)
        {
            vote.digest = self.knowledge.digest(&mut self.rng);
        }
        message
    }

    fn false_state(&mut self, message: &Message) -> Message {
        let mut message = message.clone();
        match &mut message {
            Message::LogPiece(piece) => {
                self.false_piece(piece);
            }
            Message::Status(status) if self.rng.chance(300) => {
                status.stable = status.stable.plus(self.rng.between(1, 50));
                status.executed = status.stable;
            }
            Message::BatchContent(of) => {
                of.batch.bundles.pop();
            }
            _ => {}
        }
        message
    }

    fn false_piece(&mut self, piece: &mut LogPiece) {
        let certificate = Arc::make_mut(&mut piece.certificate);
        match self.rng.below(7) {
            0 => drop(piece.batches.pop()),
            1 => {
                if let Some(batch) = piece.batches.first_mut() {
                    batch.updates.clear();
                }
            }
            2 => {
                certificate.seal.sequence = certificate.seal.sequence.plus(1);
            }
            3 => {
                // A quorum's number of cosignatures, all by one seat's tag.
                if let Some(first) = certificate.signatures.first().cloned() {
                    for of in &mut certificate.signatures {
                        of.signature = first.signature.clone();
                    }
                }
            }
            4 => certificate.signatures.truncate(1),
            5 => {
                if let Some(batch) = piece.batches.last_mut() {
                    batch.seal.digest = Digest([1; 32]);
                }
            }
            _ => {
                certificate.size += 1;
                certificate.root = Root([3; 32]);
            }
        }
    }

    /// A small change to a real message.
    fn mutate(&mut self, host: usize, message: &Message) -> Message {
        let mut message = message.clone();
        let id = self.hosts[host].id;
        let digest = self.knowledge.digest(&mut self.rng);
        let rng = &mut self.rng;
        match &mut message {
            Message::Prepare(vote) | Message::Commit(vote) => nudge(vote, digest, rng),
            Message::PrePrepare(of) => {
                let mut vote = Vote {
                    epoch: of.epoch,
                    view: of.view,
                    sequence: of.sequence,
                    digest: Digest::default(),
                };
                nudge(&mut vote, digest, rng);
                (of.view, of.sequence) = (vote.view, vote.sequence);
                if rng.chance(300) {
                    of.batch = Batch::default();
                }
            }
            Message::Cosignature(of) => {
                of.point.sequence = of.point.sequence.plus(rng.between(0, 2));
            }
            Message::Status(status) => match rng.below(4) {
                0 => status.view = View(status.view.0 ^ rng.between(0, 3)),
                1 => {
                    status.executed = Sequence(status.executed.0.saturating_sub(rng.between(0, 9)));
                }
                2 => status.committed = rng.next() as u32,
                _ => status.epoch = Epoch(status.epoch.0 + rng.between(0, 1)),
            },
            Message::ViewChange(of) => {
                if let Ok(Statement::ViewChange(mut value)) = of.signed.claimed() {
                    match rng.below(4) {
                        0 => drop(value.prepared.pop()),
                        1 => value.accepted.clear(),
                        2 => value.view = View(value.view.0 + rng.between(0, 2)),
                        _ => {
                            if let Some(claim) = value.prepared.first_mut() {
                                claim.digest = digest;
                            }
                        }
                    }
                    if value.sender == id
                        && let Some(signed) = sign(&id, &Statement::ViewChange(value))
                    {
                        of.signed = signed;
                    }
                }
            }
            Message::NewView(of) => {
                of.view_changes.pop();
            }
            Message::LogPiece(piece) => piece.from += rng.between(0, 1),
            _ => {}
        }
        message
    }

    /// What a liar does on its own.
    pub(super) fn lie(&mut self, host: usize) -> Step {
        let wait = self.rng.micros(20_000, 500_000) * if self.storm { 1 } else { 4 };
        self.after(wait, Happening::Lie { host });
        let Some(kind) = self.hosts[host].liar.as_ref().map(|liar| liar.kind) else {
            return Ok(());
        };
        match kind {
            LiarKind::Replayer => self.replay(host),
            LiarKind::ForgedViewChange => {
                if self.rng.chance(500) {
                    self.false_view_change(host);
                } else {
                    self.false_view(host);
                }
            }
            LiarKind::Equivocator => self.two_requests(host),
            LiarKind::Amnesiac if self.rng.chance(300) => return self.forget(host),
            _ => {}
        }
        Ok(())
    }

    fn replay(&mut self, host: usize) {
        let id = self.hosts[host].id;
        for _ in 0..self.rng.between(1, 12) {
            let Some(message) = self.rng.pick(&self.knowledge.messages).cloned() else { return };
            let to = self.hosts[self.rng.below(self.hosts.len())].id;
            self.transmit(id, &to, &message);
        }
    }

    fn false_view_change(&mut self, host: usize) {
        let id = self.hosts[host].id;
        let Some(core) = &self.hosts[host].core else { return };
        let (epoch, view, stable) = (core.epoch(), core.view(), core.stable());
        let begun = stable.sequence > core.state().start.sequence;
        let certificate = core.certificate.clone().filter(|_| begun);
        let view = View(view.0 + self.rng.between(1, 3));
        for n in 0..self.hosts.len() {
            let claims = |rng: &mut Rng| -> Vec<Claim> {
                let mut claims = Vec::new();
                for i in 1..=rng.between(0, 6) {
                    claims.push(Claim {
                        sequence: stable.sequence.plus(i),
                        digest: self.knowledge.digest(rng),
                        view: View(view.0 - rng.between(1, view.0.min(3))),
                    });
                }
                claims
            };
            let (prepared, accepted) = (claims(&mut self.rng), claims(&mut self.rng));
            let value = ViewChange {
                federation: FEDERATION,
                epoch,
                view,
                sender: id,
                stable,
                prepared,
                accepted,
            };
            let Some(signed) = sign(&id, &Statement::ViewChange(value)) else { continue };
            let certificate = certificate.clone();
            let message = Message::ViewChange(Box::new(ViewChangeMessage { signed, certificate }));
            let to = self.hosts[n].id;
            self.transmit(id, &to, &message);
        }
    }

    /// Leads a view with view changes of its choice, others for each node.
    fn false_view(&mut self, host: usize) {
        let id = self.hosts[host].id;
        let Some(core) = &self.hosts[host].core else { return };
        let voters = core.directory().voters;
        let certificates: Vec<_> = core
            .view_changes
            .values()
            .map(|leaver| leaver.certificate.clone())
            .chain([core.certificate.clone(), None])
            .collect();
        let Some(us) = voters.seat(&id) else { return };
        let ours = self.knowledge.view_changes.iter().rev().find(|((epoch, view), known)| {
            *epoch == core.epoch()
                && voters.primary(*view) == us
                && known.len() + 1 >= voters.quorum().quorum()
        });
        let Some(((epoch, view), known)) = ours else { return };
        let (epoch, view) = (*epoch, *view);
        let all: Vec<(Seat, Signed<Statement>)> =
            known.iter().filter_map(|(id, s)| Some((voters.seat(id)?, s.clone()))).collect();
        for n in 0..self.hosts.len() {
            let mut chosen = all.clone();
            while chosen.len() > voters.quorum().quorum() {
                chosen.remove(self.rng.below(chosen.len()));
            }
            chosen.sort_by_key(|(seat, _)| *seat);
            let named = chosen.iter().map(|(seat, s)| (*seat, statement_digest(s))).collect();
            let value =
                NewView { federation: FEDERATION, epoch, view, sender: id, view_changes: named };
            let Some(signed) = sign(&id, &Statement::NewView(value)) else { return };
            let message = Message::NewView(Box::new(NewViewMessage {
                signed,
                view_changes: chosen.into_iter().map(|(_, s)| s).collect(),
                certificate: self.rng.pick(&certificates).cloned().flatten(),
            }));
            let to = self.hosts[n].id;
            self.transmit(id, &to, &message);
        }
    }

    /// Two requests under one number, each to other nodes.
    fn two_requests(&mut self, host: usize) {
        let id = self.hosts[host].id;
        let Some(core) = &self.hosts[host].core else { return };
        let Some(number) = core.state().next.get(&id).copied() else { return };
        for n in 0..self.hosts.len() {
            self.tickets += 1;
            let content = Blob::new(self.tickets.to_be_bytes().to_vec()).unwrap_or_default();
            let updates = vec![Update::Data(content)];
            let head = BundleHead {
                federation: FEDERATION,
                member: id,
                number: number + self.rng.between(0, 1),
                count: 1,
                root: bundle_root(&updates),
            };
            let Some(head) = sign(&id, &head) else { return };
            let to = self.hosts[n].id;
            let message = Message::Request(Arc::new(Bundle { head, updates }));
            self.transmit(id, &to, &message);
        }
    }

    fn forget(&mut self, host: usize) -> Step {
        let node = &mut self.hosts[host];
        node.disk = Disk::default();
        node.core = None;
        node.start = Start::Founding;
        self.start(host)
    }
}

fn nudge(vote: &mut Vote, digest: Digest, rng: &mut Rng) {
    match rng.below(4) {
        0 => vote.view = View(vote.view.0 ^ rng.between(0, 3)),
        1 => vote.sequence = Sequence(vote.sequence.0 ^ rng.between(0, 3)),
        2 => vote.digest = digest,
        _ => {
            vote.view = View(vote.view.0 + 1);
            vote.digest = digest;
        }
    }
}

const ALL: [LiarKind; 10] = [
    LiarKind::Silent,
    LiarKind::Selective,
    LiarKind::Equivocator,
    LiarKind::Replayer,
    LiarKind::WrongDigest,
    LiarKind::ForgedViewChange,
    LiarKind::ForgedState,
    LiarKind::Mutator,
    LiarKind::Twins,
    LiarKind::Amnesiac,
];
