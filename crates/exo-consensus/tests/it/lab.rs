//! A few replicas on a bench: what they send is delivered when the test says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use exo_consensus::sim::{Tags, Tree, cosign, sign};
use exo_consensus::{
    Archive, Blob, Certificate, Change, Checked, Config, Effect, Input, LoggedBatch, Message,
    Record, Refused, Replica, Root, Start, Update, Verifier, Voter, Voters, check, log_piece,
};
use exo_types::{Epoch, FederationId, PeerId};

pub(crate) const FEDERATION: FederationId = FederationId::new([7; 32]);

pub(crate) struct Node {
    pub(crate) id: PeerId,
    pub(crate) core: Option<Replica<Tree>>,
    pub(crate) journal: Vec<Record>,
    /// Records of the journal before the present life.
    base: usize,
    /// Whether the disk reports what it writes.
    pub(crate) durable: bool,
    /// Whether it makes the signatures that it is asked for.
    pub(crate) signs: bool,
    /// What left, in order.
    pub(crate) sent: Vec<Message>,
    pub(crate) done: Vec<u64>,
    pub(crate) declined: Vec<u64>,
    pub(crate) voters: Arc<Voters>,
    pub(crate) log: Vec<LoggedBatch>,
    ends: BTreeMap<Epoch, Arc<Certificate>>,
}

pub(crate) struct Lab {
    pub(crate) nodes: Vec<Node>,
    pub(crate) wire: VecDeque<(usize, usize, Message)>,
    pub(crate) now: Duration,
    pub(crate) genesis: Arc<Voters>,
    /// Crash this node when it has done so many effects.
    pub(crate) crash_after: Option<(usize, usize)>,
    pub(crate) effects: Vec<usize>,
    /// Signatures that were asked for and not made, of each node.
    pub(crate) unsigned: Vec<usize>,
    tickets: u64,
}

pub(crate) fn id(n: usize) -> PeerId {
    PeerId::new([n as u8 + 1; 32])
}

pub(crate) fn voter(n: usize, generation: u8) -> Voter {
    Voter { id: id(n), keys: Blob::new(vec![generation]).expect("short") }
}

pub(crate) fn everything(_: usize, _: usize, _: &Message) -> bool {
    true
}

impl Lab {
    pub(crate) fn new(n: usize) -> Self {
        let genesis = Arc::new(Voters::new((0..n).map(|i| voter(i, 0)).collect()).expect("enough"));
        let mut lab = Self {
            nodes: Vec::new(),
            wire: VecDeque::new(),
            now: Duration::ZERO,
            genesis,
            crash_after: None,
            effects: vec![0; n + 1],
            unsigned: vec![0; n + 1],
            tickets: 0,
        };
        for i in 0..n {
            lab.add(i, Start::Founding);
        }
        lab
    }

    pub(crate) fn add(&mut self, n: usize, start: Start) {
        assert_eq!(n, self.nodes.len());
        self.nodes.push(Node {
            id: id(n),
            core: None,
            journal: Vec::new(),
            base: 0,
            durable: true,
            signs: true,
            sent: Vec::new(),
            done: Vec::new(),
            declined: Vec::new(),
            voters: Arc::clone(&self.genesis),
            log: Vec::new(),
            ends: BTreeMap::new(),
        });
        self.begin(n, start);
    }

    pub(crate) fn begin(&mut self, n: usize, start: Start) {
        let config = Config::new(FEDERATION, id(n));
        self.nodes[n].core = Some(Replica::start(config, Arc::clone(&self.genesis), start));
        self.input(n, Input::Tick);
    }

    pub(crate) fn core(&self, n: usize) -> &Replica<Tree> {
        self.nodes[n].core.as_ref().expect("the node is up")
    }

    /// Stops a node; of its journal the first records are left.
    pub(crate) fn crash(&mut self, n: usize, kept: usize) {
        let node = &mut self.nodes[n];
        node.core = None;
        node.journal.truncate(kept);
        node.log = logged(&node.journal);
    }

    pub(crate) fn restart(&mut self, n: usize) {
        let journal = self.nodes[n].journal.clone();
        if journal.is_empty() {
            self.begin(n, Start::Founding);
            return;
        }
        let config = Config::new(FEDERATION, id(n));
        self.nodes[n].base = journal.len();
        let (core, effects) = Replica::recover(config, self.now, journal).expect("recovers");
        self.nodes[n].voters = core.directory().voters;
        self.nodes[n].core = Some(core);
        self.carry_out(n, effects);
    }

    pub(crate) fn input(&mut self, n: usize, input: Input) {
        let now = self.now;
        if let Some(core) = self.nodes[n].core.as_mut() {
            let effects = core.step(now, input);
            self.carry_out(n, effects);
        }
    }

    fn carry_out(&mut self, n: usize, effects: Vec<Effect>) {
        let mut written = None;
        let mut answers = Vec::new();
        for effect in effects {
            if self.crash_after == Some((n, self.effects[n])) {
                self.crash_after = None;
                let kept = self.nodes[n].journal.len();
                self.crash(n, kept);
                return;
            }
            self.effects[n] += 1;
            match effect {
                Effect::Persist { number, record } => {
                    written = Some(number);
                    let node = &mut self.nodes[n];
                    match &record {
                        Record::Append(batch) => node.log.push((**batch).clone()),
                        Record::Certified(c) if c.seal.turn.is_some() => {
                            node.ends.insert(c.epoch(), Arc::clone(c));
                        }
                        _ => {}
                    }
                    node.journal.push(record);
                }
                Effect::Rotate { number, records } => {
                    written = Some(number);
                    self.nodes[n].journal = records;
                }
                Effect::Send { to, message } => self.send(n, &[to], &message),
                Effect::Broadcast(message) => {
                    let to: Vec<PeerId> = self.nodes[n].voters.iter().map(|(_, v)| v.id).collect();
                    self.send(n, &to, &message);
                }
                Effect::Sign(statement) => {
                    let signed = sign(&id(n), &*statement).expect("signs");
                    answers.push(Input::Signed(Box::new(signed)));
                }
                Effect::SignBundle(head) => {
                    let signed = sign(&id(n), &head).expect("signs");
                    answers.push(Input::BundleSigned(Box::new(signed)));
                }
                Effect::Cosign { size, root } => {
                    let signature = cosign(&id(n), size, root);
                    answers.push(Input::Cosigned { size, root, signature });
                }
                Effect::Serve { to, asked, certificate } => {
                    if let Some(piece) = log_piece(&self.nodes[n], asked, certificate) {
                        self.send(n, &[to], &Message::LogPiece(Box::new(piece)));
                    }
                }
                Effect::Done { ticket, .. } => self.nodes[n].done.push(ticket),
                Effect::Declined { ticket, .. } => self.nodes[n].declined.push(ticket),
                Effect::Epoch { voters, .. } => self.nodes[n].voters = voters,
                Effect::Certified(certificate) => self.assert_certified(n, &certificate),
                Effect::Apply { .. } => {}
                Effect::Halted(contradiction) => panic!("node {n} halts: {contradiction}"),
            }
        }
        if let Some(number) = written.filter(|_| self.nodes[n].durable) {
            self.input(n, Input::Durable(number));
        }
        if !self.nodes[n].signs {
            self.unsigned[n] += answers.len();
            return;
        }
        for answer in answers {
            self.input(n, answer);
        }
    }

    fn send(&mut self, from: usize, to: &[PeerId], message: &Message) {
        self.nodes[from].sent.push(message.clone());
        for to in to.iter().filter(|to| **to != id(from)) {
            if let Some(at) = self.nodes.iter().position(|node| node.id == *to) {
                self.wire.push_back((from, at, message.clone()));
            }
        }
    }

    /// Every cosignature of a certificate holds, and they are a quorum's.
    fn assert_certified(&self, n: usize, certificate: &Certificate) {
        let voters = &self.nodes[n].voters;
        assert!(voters.quorum().is_quorum(certificate.signatures.len()));
        for of in &certificate.signatures {
            let voter = voters.voter(of.seat).expect("a seat");
            let (size, root) = (certificate.size, certificate.root);
            assert!(Tags.cosignature(voter, size, root, of.signature.as_bytes()), "{of:?}");
        }
    }

    /// Checks a message as if it came from a node.
    pub(crate) fn checked(
        &self,
        from: usize,
        to: usize,
        message: Message,
    ) -> Result<Checked, Refused> {
        check::<Tree>(id(from), message, &self.core(to).directory(), &Tags)
    }

    /// Gives a node a message at once.
    pub(crate) fn give(&mut self, from: usize, to: usize, message: Message) {
        if self.nodes[to].core.is_none() {
            return;
        }
        let piece = matches!(message, Message::LogPiece(_));
        match self.checked(from, to, message) {
            Ok(checked) => self.input(to, Input::Received(Box::new(checked))),
            Err(Refused::False { from, .. }) if piece => self.input(to, Input::FalsePiece(from)),
            Err(_) => {}
        }
    }

    /// Delivers until nothing is on the wire; what the filter refuses is lost.
    pub(crate) fn deliver(&mut self, mut passes: impl FnMut(usize, usize, &Message) -> bool) {
        let mut steps = 0;
        while let Some((from, to, message)) = self.wire.pop_front() {
            steps += 1;
            assert!(steps < 200_000, "the replicas talk without end");
            if passes(from, to, &message) {
                self.give(from, to, message);
            }
        }
    }

    /// Lets time pass in small steps, delivering all the while.
    pub(crate) fn pass(
        &mut self,
        millis: u64,
        mut passes: impl FnMut(usize, usize, &Message) -> bool,
    ) {
        let end = self.now + Duration::from_millis(millis);
        while self.now < end {
            self.now += Duration::from_millis(50);
            for n in 0..self.nodes.len() {
                let due = self.nodes[n].core.as_ref().is_some_and(|c| c.next_wake() <= self.now);
                if due {
                    self.input(n, Input::Tick);
                }
            }
            self.deliver(&mut passes);
        }
    }

    pub(crate) fn submit(&mut self, n: usize) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        let content = Blob::new(ticket.to_be_bytes().to_vec()).expect("short");
        self.input(n, Input::Submit { ticket, update: Update::Data(content) });
        ticket
    }

    pub(crate) fn wish(&mut self, nodes: &[usize], change: &Change) {
        for n in nodes {
            self.tickets += 1;
            let update = Update::Wish(change.clone());
            self.input(*n, Input::Submit { ticket: self.tickets, update });
        }
    }

    /// The tickets that a node's log holds, batch by batch.
    pub(crate) fn contents(&self, n: usize) -> Vec<Vec<u64>> {
        let of = |update: &Update| match update {
            Update::Data(content) => {
                content.as_bytes().first_chunk().map(|b| u64::from_be_bytes(*b))
            }
            _ => None,
        };
        let batch = |batch: &LoggedBatch| {
            batch.updates.iter().filter_map(|logged| of(&logged.update)).collect()
        };
        self.nodes[n].log.iter().map(batch).collect()
    }

    /// Every log is the beginning of the longest.
    pub(crate) fn assert_agreement(&self) {
        let longest = self.nodes.iter().max_by_key(|node| node.log.len()).expect("nodes");
        for node in &self.nodes {
            assert_eq!(node.log[..], longest.log[..node.log.len()], "{:?}", node.id);
        }
        let mut all: Vec<u64> = longest
            .log
            .iter()
            .flat_map(|batch| &batch.updates)
            .filter_map(|l| match &l.update {
                Update::Data(c) => c.as_bytes().first_chunk().map(|b| u64::from_be_bytes(*b)),
                _ => None,
            })
            .collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "something is committed twice");
    }
}

pub(crate) fn logged(journal: &[Record]) -> Vec<LoggedBatch> {
    let batch = |record: &Record| match record {
        Record::Append(batch) => Some((**batch).clone()),
        _ => None,
    };
    journal.iter().filter_map(batch).collect()
}

impl Archive for Node {
    fn end_of(&self, epoch: Epoch) -> Option<Arc<Certificate>> {
        self.ends.get(&epoch).cloned()
    }

    fn batch_at(&self, leaf: u64) -> Option<LoggedBatch> {
        let mut first = 0;
        for batch in &self.log {
            if first == leaf {
                return Some(batch.clone());
            }
            first += batch.size();
        }
        None
    }

    fn consistency(&self, old: u64, new: u64) -> Option<Vec<Root>> {
        let leaves: Vec<Vec<u8>> = self.log.iter().flat_map(LoggedBatch::leaves).collect();
        exo_consensus::sim::consistency(&leaves, old, new)
    }
}
