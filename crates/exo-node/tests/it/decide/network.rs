//! A few members on a bench, with real keys: what they send is delivered when the test says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use exo_consensus::{
    Archive, Certificate, Effect, Input, LoggedBatch, Message, Record, Root, Start, Voters, check,
    log_piece,
};
use exo_crypto::Signed;
use exo_log::{
    CheckpointSigner, CommitProof, MemoryTree, consistency_path, inclusion_path, leaf_hash,
};
use exo_node::decide::{Decided, Decision, Decisions, Keys, LogTree, Output};
use exo_node::roster::{Roster, RosterBody};
use exo_types::{Epoch, PeerId, Wire};

use super::{FEDERATION, id, person};

/// One member's machine.
pub(crate) struct Host {
    pub(crate) n: usize,
    pub(crate) decisions: Option<Decisions>,
    pub(crate) journal: Vec<Record>,
    pub(crate) log: Vec<(u64, LoggedBatch)>,
    pub(crate) tree: MemoryTree,
    pub(crate) ends: BTreeMap<Epoch, Arc<Certificate>>,
    pub(crate) epochs: BTreeMap<Epoch, Arc<Voters>>,
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) decided: Vec<Decided>,
    pub(crate) rosters: Vec<Arc<Roster>>,
    pub(crate) done: Vec<(u64, u64)>,
    pub(crate) declined: Vec<u64>,
}

pub(crate) struct Bench {
    pub(crate) constitution: RosterBody,
    pub(crate) hosts: Vec<Host>,
    wire: VecDeque<(usize, usize, Message)>,
    pub(crate) now: Duration,
    tickets: u64,
    /// Hosts that nothing reaches.
    pub(crate) cut: Vec<usize>,
    /// A host whose signatures on requests never come.
    pub(crate) stuck: Option<usize>,
}

impl Bench {
    pub(crate) fn new(constitution: RosterBody, voters: usize) -> Self {
        let mut bench = Self {
            constitution,
            hosts: Vec::new(),
            wire: VecDeque::new(),
            now: Duration::ZERO,
            tickets: 0,
            cut: Vec::new(),
            stuck: None,
        };
        (0..voters).for_each(|n| bench.begin(n, Start::Founding));
        bench
    }

    /// The machine of a person starts without a journal.
    pub(crate) fn begin(&mut self, n: usize, start: Start) {
        assert_eq!(n, self.hosts.len());
        let decisions = Decisions::begin(FEDERATION, id(n), &self.constitution, start);
        let decisions = decisions.expect("a constitution");
        let genesis = Arc::clone(decisions.charter().seats());
        self.hosts.push(Host {
            n,
            decisions: Some(decisions),
            journal: Vec::new(),
            log: Vec::new(),
            tree: MemoryTree::new(),
            ends: BTreeMap::new(),
            epochs: [(Epoch::GENESIS, genesis)].into(),
            certificate: None,
            decided: Vec::new(),
            rosters: Vec::new(),
            done: Vec::new(),
            declined: Vec::new(),
        });
        self.input(n, Input::Tick);
    }

    pub(crate) fn of(&self, n: usize) -> &Decisions {
        self.hosts[n].decisions.as_ref().expect("it is up")
    }

    /// The machine starts anew from its journal and its log; what it was told of the past.
    pub(crate) fn restart(&mut self, n: usize) -> Vec<Decided> {
        let host = &mut self.hosts[n];
        let mut told = Vec::new();
        let (journal, log) = (host.journal.clone(), host.log.clone().into_iter());
        let recovered = Decisions::recover(
            FEDERATION,
            id(n),
            self.now,
            &self.constitution,
            journal,
            log,
            |decided| told.push(decided),
        );
        let (decisions, outputs) = recovered.expect("recovers");
        host.decisions = Some(decisions);
        self.carry_out(n, outputs);
        told
    }

    pub(crate) fn input(&mut self, n: usize, input: Input) {
        let now = self.now;
        if let Some(decisions) = self.hosts[n].decisions.as_mut() {
            let outputs = decisions.step(now, input);
            self.carry_out(n, outputs);
        }
    }

    pub(crate) fn propose(&mut self, n: usize, decision: &Decision) -> u64 {
        self.tickets += 1;
        let (now, ticket) = (self.now, self.tickets);
        let decisions = self.hosts[n].decisions.as_mut().expect("it is up");
        let outputs = decisions.submit(now, ticket, decision).expect("within bounds");
        self.carry_out(n, outputs);
        ticket
    }

    /// Members propose the same, and time passes.
    pub(crate) fn decide(&mut self, who: &[usize], decision: &Decision) {
        for n in who {
            self.propose(*n, decision);
        }
        self.pass(1_500);
    }

    fn carry_out(&mut self, n: usize, outputs: Vec<Output>) {
        let mut written = None;
        let mut answers = Vec::new();
        for output in outputs {
            match output {
                Output::Decided(decided) => self.hosts[n].decided.extend(decided),
                Output::Roster(roster) => self.hosts[n].rosters.push(roster),
                Output::Do(effect) => self.act(n, effect, &mut written, &mut answers),
            }
        }
        if let Some(number) = written {
            self.input(n, Input::Durable(number));
        }
        answers.into_iter().for_each(|answer| self.input(n, answer));
    }

    fn act(
        &mut self,
        n: usize,
        effect: Effect,
        written: &mut Option<u64>,
        answers: &mut Vec<Input>,
    ) {
        let host = &mut self.hosts[n];
        match effect {
            Effect::Persist { number, record } => {
                *written = Some(number);
                if let Record::Append(batch) = &record {
                    host.log.push((host.tree.size(), (**batch).clone()));
                    for leaf in batch.leaves() {
                        host.tree.append(leaf_hash(&leaf)).expect("there is room");
                    }
                }
                if let Record::Certified(of) = &record
                    && of.seal.turn.is_some()
                {
                    host.ends.insert(of.epoch(), Arc::clone(of));
                }
                host.journal.push(record);
            }
            Effect::Rotate { number, records } => {
                *written = Some(number);
                host.journal = records;
            }
            Effect::Send { to, message } => self.send(n, &[to], &message),
            Effect::Broadcast(message) => {
                let last = host.epochs.last_key_value().expect("the first").1;
                let to: Vec<PeerId> = last.iter().map(|(_, voter)| voter.id).collect();
                self.send(n, &to, &message);
            }
            Effect::Sign(statement) => {
                let signed = Signed::sign(*statement, &person(n).keypair).expect("signs");
                answers.push(Input::Signed(Box::new(signed.into_signed())));
            }
            Effect::SignBundle(_) if self.stuck == Some(n) => {}
            Effect::SignBundle(head) => {
                let signed = Signed::sign(head, &person(n).keypair).expect("signs");
                answers.push(Input::BundleSigned(Box::new(signed.into_signed())));
            }
            Effect::Cosign { size, root } => answers.push(self.cosign(n, size, root)),
            Effect::Serve { to, asked, certificate } => {
                if let Some(piece) = log_piece(&self.hosts[n], asked, certificate) {
                    self.send(n, &[to], &Message::LogPiece(Box::new(piece)));
                }
            }
            Effect::Certified(certificate) => host.certificate = Some(certificate),
            Effect::Done { ticket, leaf, .. } => host.done.push((ticket, leaf)),
            Effect::Declined { ticket, .. } => host.declined.push(ticket),
            Effect::Epoch { epoch, voters } => drop(host.epochs.insert(epoch, voters)),
            Effect::Apply { .. } => panic!("what is applied is told as decided"),
            Effect::Halted(contradiction) => panic!("member {n} halts: {contradiction}"),
        }
    }

    /// Cosigns with the key of the member's seat, which it looks for among its own.
    fn cosign(&self, n: usize, size: u64, root: Root) -> Input {
        let keys = Keys::new(&FEDERATION);
        let in_force = self.of(n).cosigner().expect("it has a seat");
        let own = (0..16).map(|k| &person(k).cosigner).find(|k| *k.public() == in_force);
        let name = keys.origin().member(&id(n)).expect("a name");
        let signer = CheckpointSigner::new(name, Arc::clone(own.expect("it has the key")));
        let checkpoint = keys.checkpoint(size, root).expect("a checkpoint");
        let signature = signer.sign(&checkpoint).expect("signs").as_bytes().to_vec();
        Input::Cosigned { size, root, signature }
    }

    fn send(&mut self, from: usize, to: &[PeerId], message: &Message) {
        for host in self.hosts.iter().filter(|host| host.n != from && to.contains(&id(host.n))) {
            self.wire.push_back((from, host.n, message.clone()));
        }
    }

    /// Delivers until nothing is on the wire.
    fn deliver(&mut self) {
        let mut steps = 0;
        while let Some((from, to, message)) = self.wire.pop_front() {
            steps += 1;
            assert!(steps < 100_000, "the members talk without end");
            if self.cut.contains(&from) || self.cut.contains(&to) {
                continue;
            }
            // As it comes over the wire.
            let bytes = message.to_wire().expect("encodes");
            let message = Message::from_wire(&bytes).expect("decodes");
            let Some(decisions) = &self.hosts[to].decisions else { continue };
            let (directory, keys) = (decisions.directory(), decisions.keys());
            if let Ok(checked) = check::<LogTree>(id(from), message, &directory, &keys) {
                self.input(to, Input::Received(Box::new(checked)));
            }
        }
    }

    /// Lets time pass in small steps, delivering all the while.
    pub(crate) fn pass(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while self.now < end {
            self.now += Duration::from_millis(50);
            for n in 0..self.hosts.len() {
                let due = |of: &Decisions| of.next_wake() <= self.now;
                if self.hosts[n].decisions.as_ref().is_some_and(due) {
                    self.input(n, Input::Tick);
                }
            }
            self.deliver();
        }
    }

    /// The proof of an entry from one member's log and its last certificate.
    pub(crate) fn proof(&self, n: usize, leaf: u64) -> (CommitProof, Epoch) {
        let host = &self.hosts[n];
        let certificate = host.certificate.as_ref().expect("certified");
        let path = inclusion_path(leaf, certificate.size, &host.tree).expect("it is in the log");
        let voters = &host.epochs[&certificate.epoch()];
        let proof = Keys::new(&FEDERATION).proof(certificate, voters, leaf, path);
        let leaves: Vec<Vec<u8>> = host.log.iter().flat_map(|(_, batch)| batch.leaves()).collect();
        let proof = proof.expect("it fits").with_entry(leaves[leaf as usize].clone());
        (proof.expect("not too long"), certificate.epoch())
    }

    /// All who are up have the same charter.
    pub(crate) fn assert_agreement(&self) {
        let up = |host: &Host| host.decisions.is_some() && !self.cut.contains(&host.n);
        let mut charters = self.hosts.iter().filter(|host| up(host));
        let first = charters.next().expect("somebody is up").n;
        for host in charters {
            assert_eq!(self.of(host.n).charter(), self.of(first).charter(), "{}", host.n);
        }
    }
}

impl Archive for Host {
    fn end_of(&self, epoch: Epoch) -> Option<Arc<Certificate>> {
        self.ends.get(&epoch).cloned()
    }

    fn batch_at(&self, leaf: u64) -> Option<LoggedBatch> {
        self.log.iter().find(|(first, _)| *first == leaf).map(|(_, batch)| batch.clone())
    }

    fn consistency(&self, old: u64, new: u64) -> Option<Vec<Root>> {
        let path = consistency_path(old, new, &self.tree).ok()?;
        Some(path.iter().map(|hash| Root(*hash.as_bytes())).collect())
    }
}
