//! Four members in one thread.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exo_consensus::{Effect, Input, Message, Record, Start, check};
use exo_crypto::{CosignerKeypair, PostQuantumKeypair, Signed};
use exo_log::CheckpointSigner;
use exo_node::decide::{Decision, Decisions, Keys, LogTree, Output};
use exo_node::roster::{Member, RosterBody};
use exo_types::{Epoch, FederationId, NodeName, PeerId, Wire};

use crate::journal::Journal;

/// The members, and what is on its way between them.
pub(crate) struct World {
    hosts: Vec<Host>,
    wire: VecDeque<(usize, usize, Arc<Vec<u8>>)>,
    cosigned: VecDeque<(usize, Input)>,
    now: Duration,
    bytes: usize,
    turn: usize,
    tickets: u64,
    settled: usize,
}

struct Host {
    keypair: PostQuantumKeypair,
    cosigner: Arc<CosignerKeypair>,
    decisions: Decisions,
    keys: Keys,
    journal: Journal,
    /// The signature that waits: more updates come in meanwhile.
    held: Option<Input>,
    applied: (usize, usize),
    /// Records that the journal's thread would find when it comes.
    waiting: Vec<(u64, Record)>,
    unsynced: bool,
}

impl World {
    /// Four members, founded just now.
    pub(crate) fn new(dir: &Path, bytes: usize) -> Result<Self> {
        let pairs = |n: u8| -> Result<_> {
            let keypair = PostQuantumKeypair::from_seed(&[n; 32])?;
            Ok((keypair, Arc::new(CosignerKeypair::from_seed(&[n; 32])?)))
        };
        let pairs = (1..=MEMBERS).map(pairs).collect::<Result<Vec<_>>>()?;
        let constitution = constitution(&pairs)?;
        let mut hosts = Vec::new();
        let mut begun = Vec::new();
        for (n, (keypair, cosigner)) in pairs.into_iter().enumerate() {
            let me = keypair.peer_id();
            let decisions = Decisions::begin(FEDERATION, me, &constitution, Start::Founding)?;
            let opened = Journal::open(&dir.join(n.to_string()))?;
            let journal = opened.journal;
            let (held, applied, waiting, unsynced) = (None, (0, 0), Vec::new(), false);
            let keys = decisions.keys();
            begun.push(n);
            hosts.push(Host {
                keypair,
                cosigner,
                decisions,
                keys,
                journal,
                held,
                applied,
                waiting,
                unsynced,
            });
        }
        let (wire, cosigned, now) = (VecDeque::new(), VecDeque::new(), Duration::from_secs(1));
        let (turn, tickets, settled) = (0, 0, 0);
        let mut world = Self { hosts, wire, cosigned, now, bytes, turn, tickets, settled };
        for n in begun {
            world.step(n, Input::Tick)?;
        }
        world.run()?;
        Ok(world)
    }

    /// A first bundle of each member is being signed, behind which the updates of the next one wait.
    pub(crate) fn prepare(&mut self, batch: usize) -> Result<()> {
        for n in 0..self.hosts.len() {
            self.submit(n, 1)?;
            self.submit(n, batch)?;
        }
        for n in 0..self.hosts.len() {
            self.turn = n;
            self.release(n)?;
            self.run()?;
        }
        self.turn = 0;
        Ok(())
    }

    /// So many batches, each a bundle of the next member.
    pub(crate) fn rounds(&mut self, batch: usize, rounds: usize) -> Result<()> {
        for _ in 0..rounds {
            let n = self.turn;
            self.turn = (n + 1) % self.hosts.len();
            self.submit(n, batch)?;
            let settled = self.settled;
            self.release(n)?;
            self.run()?;
            ensure!(self.settled == settled + batch, "a batch was not certified");
        }
        Ok(())
    }

    /// Batches and updates that all have applied.
    pub(crate) fn counts(&self) -> (usize, usize) {
        self.hosts.iter().map(|host| host.applied).min().unwrap_or_default()
    }

    fn submit(&mut self, n: usize, count: usize) -> Result<()> {
        for _ in 0..count {
            self.tickets += 1;
            let ticket = self.tickets;
            let mut content = vec![0; self.bytes];
            let number = ticket.to_le_bytes();
            content.iter_mut().zip(number).for_each(|(byte, of)| *byte = of);
            let decision = Decision::statement(content)?;
            let outputs = self.hosts[n].decisions.submit(self.now, ticket, &decision)?;
            self.carry_out(n, outputs)?;
        }
        Ok(())
    }

    fn release(&mut self, n: usize) -> Result<()> {
        let held = self.hosts[n].held.take().context("nothing is being signed")?;
        self.step(n, held)
    }

    fn step(&mut self, n: usize, input: Input) -> Result<()> {
        let outputs = self.hosts[n].decisions.step(self.now, input);
        self.carry_out(n, outputs)
    }

    /// Delivers and syncs until nothing is left to do.
    fn run(&mut self) -> Result<()> {
        loop {
            self.now += Duration::from_micros(10);
            if let Some((from, to, frame)) = self.wire.pop_front() {
                self.deliver(from, to, &frame)?;
                continue;
            }
            if let Some((n, input)) = self.cosigned.pop_front() {
                self.step(n, input)?;
                continue;
            }
            let Some(n) = self.hosts.iter().position(|host| host.unsynced) else { return Ok(()) };
            let host = &mut self.hosts[n];
            host.unsynced = false;
            host.journal.append(&std::mem::take(&mut host.waiting))?;
            let durable = host.journal.sync()?;
            self.step(n, Input::Durable(durable))?;
        }
    }

    fn deliver(&mut self, from: usize, to: usize, frame: &[u8]) -> Result<()> {
        let from = self.hosts[from].keypair.peer_id();
        let host = &self.hosts[to];
        let body = frame.to_vec();
        let message = Message::from_wire(&body)?;
        // As the driver does: a quorum's are here.
        let certified = host.decisions.replica().stable().sequence;
        if matches!(&message, Message::Cosignature(of) if of.point.sequence <= certified) {
            return Ok(());
        }
        let checked = check::<LogTree>(from, message, &host.decisions.directory(), &host.keys)?;
        self.step(to, Input::Received(Box::new(checked)))
    }

    fn carry_out(&mut self, n: usize, outputs: Vec<Output>) -> Result<()> {
        for output in outputs {
            match output {
                Output::Do(effect) => self.effect(n, effect)?,
                Output::Decided(decided) => {
                    let applied = &mut self.hosts[n].applied;
                    *applied = (applied.0 + 1, applied.1 + decided.len());
                }
                Output::Roster(_) => {}
            }
        }
        Ok(())
    }

    fn effect(&mut self, n: usize, effect: Effect) -> Result<()> {
        let host = &mut self.hosts[n];
        match effect {
            Effect::Persist { number, record } => {
                host.waiting.push((number, record));
                host.unsynced = true;
            }
            Effect::Rotate { number, records } => {
                host.journal.append(&std::mem::take(&mut host.waiting))?;
                host.journal.rotate(number, &records)?;
                host.unsynced = true;
            }
            Effect::Send { to, message } => {
                let frame = Arc::new(message.to_wire()?);
                let to = self.hosts.iter().position(|host| host.keypair.peer_id() == to);
                self.wire.push_back((n, to.context("a stranger")?, frame));
            }
            Effect::Broadcast(message) => {
                let frame = Arc::new(message.to_wire()?);
                let others = (0..self.hosts.len()).filter(|to| *to != n);
                self.wire.extend(others.map(|to| (n, to, Arc::clone(&frame))));
            }
            Effect::SignBundle(head) => {
                let signed = Signed::sign(head, &host.keypair)?.into_signed();
                host.held = Some(Input::BundleSigned(Box::new(signed)));
            }
            Effect::Cosign { size, root } => {
                let checkpoint = host.keys.checkpoint(size, root).context("a size")?;
                let name = host.keys.origin().member(&host.keypair.peer_id())?;
                let signer = CheckpointSigner::new(name, Arc::clone(&host.cosigner));
                let signature = signer.sign(&checkpoint)?.as_bytes().to_vec();
                self.cosigned.push_back((n, Input::Cosigned { size, root, signature }));
            }
            Effect::Certified(_) => {}
            Effect::Done { .. } => self.settled += 1,
            other => anyhow::bail!("not expected: {other:?}"),
        }
        Ok(())
    }
}

fn constitution(pairs: &[(PostQuantumKeypair, Arc<CosignerKeypair>)]) -> Result<RosterBody> {
    let member =
        |(n, (keypair, cosigner)): (usize, &(PostQuantumKeypair, Arc<CosignerKeypair>))| {
            Ok(Member {
                key: keypair.public().clone(),
                cosigner: cosigner.public().clone(),
                name: NodeName::new(format!("member-{n}"))?,
                unverified: false,
                since: FOUNDED,
                revoked: None,
            })
        };
    let mut voters: Vec<PeerId> = pairs.iter().map(|(keypair, _)| keypair.peer_id()).collect();
    voters.sort_unstable();
    let members = pairs.iter().enumerate().map(member).collect::<Result<_>>()?;
    Ok(RosterBody { federation: FEDERATION, epoch: FOUNDED, members, voters })
}

const MEMBERS: u8 = 4;
const FEDERATION: FederationId = FederationId::new([9; 32]);
const FOUNDED: Epoch = Epoch(1);
