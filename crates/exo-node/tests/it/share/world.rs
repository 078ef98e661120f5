//! A small federation in memory: nodes with disks, lanes that break, a log that decides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use exo_crdt::WriteBatch;
use exo_crdt::store::{MemoryStore, Store};
use exo_crdt::sync::SyncMessage;
use exo_crypto::PostQuantumKeypair;
use exo_node::decide::{Decision, Outcome};
use exo_node::share::{
    Change, Input, Output, ShareEvent, ShareMessage, ShareRefusal, Shared, Written,
};
use exo_types::{CollectionName, Now, PeerId, RecordId, Timestamp, Wire};

use super::lies::Lie;
use crate::decide::{Town, id};

pub(crate) fn collection(text: &str) -> CollectionName {
    CollectionName::new(text).expect("a name")
}

pub(crate) fn key(text: impl Into<String>) -> RecordId {
    RecordId::new(text).expect("a key")
}

/// SplitMix64.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

pub(crate) struct Host {
    pub(crate) shared: Option<Shared>,
    pub(crate) stores: BTreeMap<CollectionName, MemoryStore>,
    /// Commits that are not on the disk yet.
    pub(crate) writing: VecDeque<(u64, CollectionName, WriteBatch, bool)>,
    pub(crate) done: BTreeMap<u64, Result<Written, ShareRefusal>>,
    pub(crate) events: Vec<ShareEvent>,
    /// What was sent to whom, of which kind.
    pub(crate) sent: Vec<(PeerId, ShareMessage)>,
    pub(crate) in_flight: BTreeMap<PeerId, usize>,
    pub(crate) commits: usize,
}

pub(crate) struct World {
    pub(crate) hosts: Vec<Host>,
    pub(crate) town: Town,
    pub(crate) lanes: BTreeSet<(usize, usize)>,
    /// Lanes on which nothing arrives, though nobody has noticed.
    pub(crate) stuck: BTreeSet<(usize, usize)>,
    /// Sessions that liars have begun: with whom, under which number.
    begun: BTreeSet<(usize, usize, u64)>,
    /// Who lies, and how.
    pub(crate) liars: BTreeMap<usize, Lie>,
    queues: BTreeMap<(usize, usize), VecDeque<ShareMessage>>,
    pub(crate) now: Now,
    pub(crate) chance: Chance,
    /// Disks are slow: commits wait for `save`.
    pub(crate) slow_disks: bool,
    /// Bytes of all messages that were delivered.
    pub(crate) bytes: u64,
    told: u64,
    ticket: u64,
    keys: Vec<Arc<PostQuantumKeypair>>,
}

impl World {
    /// So many members, all of them with lanes among them, of whom the first are voters.
    pub(crate) fn new(members: usize, voters: usize, seed: u64) -> Self {
        let keypair = |n: u8| PostQuantumKeypair::from_seed(&[n; 32]).expect("a seed expands");
        let keys = (0..members).map(|n| Arc::new(keypair(n as u8))).collect();
        let mut world = Self {
            hosts: Vec::new(),
            town: Town::new(members, voters),
            lanes: BTreeSet::new(),
            stuck: BTreeSet::new(),
            liars: BTreeMap::new(),
            begun: BTreeSet::new(),
            queues: BTreeMap::new(),
            now: Now { wall: Timestamp(1_800_000_000_000), mono: Duration::from_secs(1) },
            chance: Chance(seed),
            slow_disks: false,
            bytes: 0,
            told: 0,
            ticket: 0,
            keys,
        };
        for n in 0..members {
            let host = Host {
                shared: None,
                stores: BTreeMap::new(),
                writing: VecDeque::new(),
                done: BTreeMap::new(),
                events: Vec::new(),
                sent: Vec::new(),
                in_flight: BTreeMap::new(),
                commits: 0,
            };
            world.hosts.push(host);
            world.start(n);
        }
        world
    }

    pub(crate) fn connect_all(&mut self) {
        for a in 0..self.hosts.len() {
            for b in 0..a {
                self.connect(a, b);
            }
        }
    }

    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        let up = self.hosts[a].shared.is_some() && self.hosts[b].shared.is_some();
        if a != b && up && self.lanes.insert((a.min(b), a.max(b))) {
            self.give(a, Input::Lane(id(b)));
            self.give(b, Input::Lane(id(a)));
        }
    }

    /// A member's lane to another is replaced, as when two sessions come up at once: what was on it is lost, and
    /// the other's lane stays.
    pub(crate) fn replace(&mut self, a: usize, b: usize) {
        if self.lanes.contains(&(a.min(b), a.max(b))) {
            self.queues.remove(&(a, b));
            self.hosts[a].in_flight.remove(&id(b));
            self.begun.retain(|(liar, to, _)| (*liar, *to) != (a, b));
            self.give(a, Input::NoLane(id(b)));
            self.give(a, Input::Lane(id(b)));
            self.give(b, Input::Began(id(a)));
        }
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        if self.lanes.remove(&(a.min(b), a.max(b))) {
            self.queues.remove(&(a, b));
            self.queues.remove(&(b, a));
            self.hosts[a].in_flight.remove(&id(b));
            self.hosts[b].in_flight.remove(&id(a));
            self.begun.retain(|(liar, to, _)| (*liar, *to) != (a, b) && (*liar, *to) != (b, a));
            self.give(a, Input::NoLane(id(b)));
            self.give(b, Input::NoLane(id(a)));
        }
    }

    /// Starts a node from its disk.
    pub(crate) fn start(&mut self, n: usize) {
        let mut chance = Chance(self.chance.next());
        let entropy = Box::new(move |bytes: &mut [u8]| {
            bytes.iter_mut().for_each(|byte| *byte = chance.next() as u8);
        });
        let rights = self.town.charter.rights();
        let keypair = Arc::clone(&self.keys[n]);
        let mut shared = Shared::new(keypair, rights.clone(), self.now, entropy);
        for (name, store) in &self.hosts[n].stores {
            let saved = store.load().expect("loads");
            shared.restore(name.clone(), saved).expect("what was saved verifies");
        }
        self.hosts[n].shared = Some(shared);
        self.give(n, Input::Rights(Box::new(rights)));
    }

    /// A node stops: what is not on the disk is gone.
    pub(crate) fn crash(&mut self, n: usize) {
        (0..self.hosts.len()).for_each(|other| self.cut(n, other));
        self.hosts[n].shared = None;
        self.hosts[n].writing.clear();
    }

    pub(crate) fn give(&mut self, n: usize, input: Input) {
        let now = self.now;
        let Some(shared) = &mut self.hosts[n].shared else { return };
        let outputs = shared.step(now, input);
        self.carry_out(n, outputs);
    }

    fn carry_out(&mut self, n: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Commit { number, collection, write, erase } => {
                    self.hosts[n].commits += 1;
                    self.hosts[n].writing.push_back((number, collection, write, erase));
                    if !self.slow_disks {
                        self.save(n);
                    }
                }
                Output::Send { peer, message } => self.send(n, peer, message),
                Output::Propose(decision) => drop(self.decide(n, &decision)),
                Output::Done { ticket, result } => {
                    let before = self.hosts[n].done.insert(ticket, result);
                    assert!(before.is_none(), "a ticket is answered once");
                }
                Output::Event(event) => self.hosts[n].events.push(event),
                Output::Changed { .. } => {}
            }
        }
    }

    fn send(&mut self, n: usize, peer: PeerId, message: ShareMessage) {
        let to = (0..self.hosts.len()).find(|to| id(*to) == peer).expect("a member");
        let open = self.lanes.contains(&(n.min(to), n.max(to)));
        assert!(open, "nothing is sent where there is no lane");
        let waiting = self.hosts[n].in_flight.entry(peer).or_default();
        *waiting += 1;
        assert!(*waiting <= exo_types::limits::SHARED_WINDOW_MESSAGES, "the window holds");
        // Its kind, for the tests that ask who was told what.
        self.hosts[n].sent.push((peer, message.clone()));
        self.queues.entry((n, to)).or_default().push_back(message);
    }

    /// Everything that a node writes is on its disk.
    pub(crate) fn save(&mut self, n: usize) {
        while self.save_one(n) {}
    }

    /// Saves the oldest commit that waits, if there is one.
    pub(crate) fn save_one(&mut self, n: usize) -> bool {
        let Some((number, name, write, erase)) = self.hosts[n].writing.pop_front() else {
            return false;
        };
        let store = self.hosts[n].stores.entry(name).or_default();
        if erase { store.erase(&write) } else { store.commit(&write) }.expect("saves");
        self.give(n, Input::Saved(number));
        true
    }

    /// A member proposes, and all hear what the log makes of it.
    pub(crate) fn decide(&mut self, n: usize, decision: &Decision) -> Outcome {
        let outcome = self.town.says(n, decision);
        self.tell_rights();
        outcome
    }

    pub(crate) fn tell_rights(&mut self) {
        if self.told != self.town.charter.share_changes() {
            self.told = self.town.charter.share_changes();
            for n in 0..self.hosts.len() {
                // What one is told may make it propose, and so the next is told more.
                let rights = self.town.charter.rights();
                self.give(n, Input::Rights(Box::new(rights)));
            }
        }
    }

    /// Delivers the next message of one lane; whether there was one.
    pub(crate) fn deliver(&mut self, from: usize, to: usize) -> bool {
        let Some(message) = self.queues.get_mut(&(from, to)).and_then(VecDeque::pop_front) else {
            return false;
        };
        if let Some(waiting) = self.hosts[from].in_flight.get_mut(&id(to)) {
            *waiting -= 1;
        }
        self.give(from, Input::Sent(id(to)));
        let wire = message.to_wire().expect("what is sent is within its bounds");
        self.bytes += wire.len() as u64;
        let message = ShareMessage::from_wire(&wire).expect("decodes");
        let message = match self.liars.get(&from) {
            Some(lie) => lie.twist(message, &mut self.chance),
            None => message,
        };
        self.give(to, Input::Message { peer: id(from), message });
        true
    }

    /// Delivers something somewhere; whether there was anything.
    pub(crate) fn deliver_any(&mut self) -> bool {
        let stuck = |at: &(usize, usize)| self.stuck.contains(&(at.0.min(at.1), at.0.max(at.1)));
        let waiting = self.queues.iter().filter(|(at, q)| !q.is_empty() && !stuck(at));
        let waiting: Vec<_> = waiting.map(|(at, _)| *at).collect();
        if waiting.is_empty() {
            return false;
        }
        let (from, to) = waiting[self.chance.below(waiting.len())];
        self.deliver(from, to)
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now.wall = self.now.wall.plus_millis(millis);
        self.now.mono += Duration::from_millis(millis);
        for n in 0..self.hosts.len() {
            self.give(n, Input::Tick);
        }
        let endless = self.liars.iter().filter(|(_, lie)| **lie == Lie::Endless);
        for liar in endless.map(|(n, _)| *n).collect::<Vec<_>>() {
            for to in (0..self.hosts.len()).filter(|to| *to != liar) {
                if self.lanes.contains(&(liar.min(to), liar.max(to))) {
                    self.go_on_for_ever(liar, to);
                }
            }
        }
    }

    /// Begins a session that brings nothing, and goes on with those begun before.
    fn go_on_for_ever(&mut self, liar: usize, to: usize) {
        // Beyond the numbers that its own node gives.
        let session = 2 * (1_000_000 + self.chance.next() % 4) + u64::from(id(liar) > id(to));
        let (collection, secret) = (collection("notes"), [7; 32]);
        let nothing = || SyncMessage::Items(Vec::new());
        let open = ShareMessage::Open { session, collection, secret };
        let sync = |_| ShareMessage::Sync { session, message: nothing() };
        let messages: Vec<_> = match self.begun.insert((liar, to, session)) {
            true => vec![open],
            false => (0..8).map(sync).collect(),
        };
        for message in messages {
            self.give(to, Input::Message { peer: id(liar), message });
        }
    }

    /// Lets time pass and delivers everything.
    pub(crate) fn run(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(50) {
            self.pass(50);
            let mut delivered = 0;
            while self.deliver_any() {
                delivered += 1;
                assert!(delivered < 100_000, "they never stop talking");
            }
        }
    }

    pub(crate) fn write(&mut self, n: usize, name: &str, at: &str, change: Change) -> u64 {
        self.ticket += 1;
        let (ticket, collection) = (self.ticket, collection(name));
        self.give(n, Input::Write { ticket, collection, key: key(at), change });
        ticket
    }

    pub(crate) fn put(&mut self, n: usize, name: &str, at: &str, value: &str) -> u64 {
        self.write(n, name, at, Change::Put(value.as_bytes().to_vec()))
    }

    pub(crate) fn erase(&mut self, n: usize, name: &str, at: &str) -> u64 {
        self.ticket += 1;
        let (ticket, collection) = (self.ticket, collection(name));
        self.give(n, Input::Erase { ticket, collection, key: key(at) });
        ticket
    }

    pub(crate) fn get(&self, n: usize, name: &str, at: &str) -> Option<Vec<u8>> {
        let shared = self.hosts[n].shared.as_ref().expect("is up");
        let got = shared.get(self.now.wall.plus_millis(10_000), &collection(name), &key(at));
        got.ok().flatten().and_then(|shown| shown.value)
    }

    pub(crate) fn state(&self, n: usize, name: &str) -> Option<Vec<u8>> {
        let shared = self.hosts[n].shared.as_ref()?;
        shared.replica(&collection(name)).map(exo_crdt::Replica::canonical_state)
    }

    /// These nodes hold the same bytes and see the same.
    pub(crate) fn assert_same(&self, nodes: &[usize], name: &str) {
        let first = self.state(nodes[0], name).expect("has it");
        for n in nodes {
            let same = self.state(*n, name).as_ref() == Some(&first);
            assert!(same, "node {n} holds something else: {}", self.summary(nodes, name));
        }
        let view = |n: usize| {
            let shared = self.hosts[n].shared.as_ref().expect("is up");
            let later = self.now.wall.plus_millis(3_600_000);
            shared.list(later, &collection(name), None, usize::MAX).expect("is a reader")
        };
        for n in nodes {
            assert_eq!(view(*n), view(nodes[0]), "node {n} sees something else");
        }
        // What is seen key by key is what is seen of all at once.
        let shared = self.hosts[nodes[0]].shared.as_ref().expect("is up");
        let replica = shared.replica(&collection(name)).expect("has it");
        let later = self.now.wall.plus_millis(3_600_000);
        let at_once = replica.view(later).keys;
        let by_key: BTreeMap<_, _> = replica
            .keys(None)
            .filter_map(|key| Some((key.clone(), replica.visible(key, later)?)))
            .collect();
        assert_eq!(by_key, at_once);
    }

    /// What each of these nodes holds, in numbers.
    fn summary(&self, nodes: &[usize], name: &str) -> String {
        let one = |n: &usize| {
            let shared = self.hosts[*n].shared.as_ref()?;
            let replica = shared.replica(&collection(name))?;
            let ends: Vec<_> =
                (0..self.hosts.len()).map(|of| replica.chain_end(&id(of)).seq).collect();
            let (epoch, batches) = (replica.checkpoint().epoch, replica.batches());
            let (entries, missing) = (replica.entries(), replica.missing().count());
            let terms = shared.rights().terms(&collection(name));
            let (log, ended, leaving) = (terms.epoch(), &terms.ended, &terms.leaving);
            Some(format!(
                "\n{n}: epoch {epoch} of {log}, {batches} batches, {entries} entries, {missing} missing, \
                 chains {ends:?}, ended {ended:?}, leaving {leaving:?}"
            ))
        };
        nodes.iter().filter_map(one).collect()
    }
}
