//! The world around the members: time, links, faults, the quorum, and what must hold.

use std::collections::{BTreeMap, BTreeSet};

use exo_types::{CollectionName, PeerId, RecordId, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::liar::Lie;
use super::node::Node;
use super::{Broken, Members, Report};
use crate::batch::Batch;
use crate::checkpoint::{Checkpoint, CollectionKind, LiveSet};
use crate::dot::Dot;
use crate::entry::{Operation, Value};
use crate::hash::HeaderHash;
use crate::sync::message::{Item, SyncMessage};
use crate::sync::session::{Session, SyncEnd};
use crate::sync::short::LinkSecret;

/// What happens in a history beside what the seed draws.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Events before the links heal.
    pub events: u64,
    /// Chances in a thousand, by event: write, flush, sync, deliver, crash, restart, checkpoint, adopt.
    pub chances: [u32; 8],
    /// The last member hears nothing for most of the history, and what it sends arrives when many
    /// checkpoints have passed.
    pub lonely: bool,
}

impl Plan {
    /// The usual mixture.
    pub const USUAL: Self =
        Self { events: 260, chances: [230, 130, 110, 380, 15, 45, 35, 55], lonely: false };

    /// Checkpoint after checkpoint, while members are down for long.
    pub const MANY_CUTS: Self =
        Self { events: 500, chances: [170, 90, 130, 420, 12, 14, 120, 44], lonely: false };

    /// Long, with much under way at once.
    pub const BUSY: Self =
        Self { events: 700, chances: [300, 200, 160, 260, 6, 40, 12, 22], lonely: false };

    /// Checkpoint after checkpoint without one member, whose entries then come too late.
    pub const LONELY: Self =
        Self { events: 900, chances: [110, 80, 230, 430, 3, 60, 90, 60], lonely: true };

    /// The plan of a seed.
    pub fn of_seed(seed: u64) -> Self {
        [Self::MANY_CUTS, Self::BUSY, Self::USUAL, Self::LONELY][(seed % 4) as usize]
    }
}

/// Runs one history, by the [`Plan`] of its seed.
///
/// # Errors
/// [`Broken`] with the invariant that did not hold.
pub fn run(seed: u64, members: &Members) -> Result<Report, Broken> {
    run_plan(seed, members, Plan::of_seed(seed))
}

/// Runs one history by a plan.
///
/// # Errors
/// [`Broken`] with the invariant that did not hold.
pub fn run_plan(seed: u64, members: &Members, plan: Plan) -> Result<Report, Broken> {
    let mut world = World::new(seed, members);
    world.lonely = plan.lonely.then(|| members.len().saturating_sub(1));
    let broken = |event, what| Broken { seed, event, what };
    for event in 0..plan.events {
        if event * 5 == plan.events * 4 {
            world.end_loneliness();
        }
        world.event(plan.chances).map_err(|what| broken(event, what))?;
        world.report.events += 1;
        if event % 37 == 0 {
            world.check_running().map_err(|what| broken(event, what))?;
        }
    }
    world.heal().map_err(|what| broken(plan.events, what))?;
    Ok(world.report)
}

struct World<'a> {
    rng: StdRng,
    members: &'a Members,
    time: Timestamp,
    nodes: Vec<Node>,
    links: Vec<Link>,
    /// Batches under way outside of synchronisations.
    gossip: Vec<(usize, Item)>,
    /// The member that is cut off, and what it sent meanwhile.
    lonely: Option<usize>,
    late: Vec<(usize, Item)>,
    agreed: Vec<(Checkpoint, LiveSet)>,
    /// Keys deleted by a correct member that had seen their only write.
    deleted: BTreeSet<RecordId>,
    /// Keys to be written once and deleted once: what is known of them.
    once: BTreeSet<RecordId>,
    /// Headers that reached correct members.
    seen: BTreeMap<(PeerId, u64), BTreeSet<HeaderHash>>,
    report: Report,
}

/// A synchronisation under way.
struct Link {
    ends: [usize; 2],
    sessions: [Session; 2],
    /// What the first end says first.
    hello: Option<SyncMessage>,
    /// One end has given up.
    dead: bool,
}

impl<'a> World<'a> {
    fn new(seed: u64, members: &'a Members) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let kinds =
            [CollectionKind::LastWriter, CollectionKind::ObservedRemove, CollectionKind::GrowOnly];
        let kind = kinds[[0, 0, 0, 1, 1, 2][rng.random_range(0..6)]];
        let liars = [0, 1, 1, 1][rng.random_range(0..4)];
        let name = CollectionName::new("shared").unwrap_or_else(|_| unreachable!("a name"));
        let mut nodes = Vec::new();
        for at in 0..members.len() {
            let lie = (at < liars).then(|| Lie::ALL[rng.random_range(0..Lie::ALL.len())]);
            let mut node = Node::new(at, lie, &name, kind, members);
            node.skew = rng.random_range(-2_000..2_000);
            nodes.push(node);
        }
        Self {
            rng,
            members,
            time: Timestamp(1_800_000_000_000),
            nodes,
            links: Vec::new(),
            gossip: Vec::new(),
            lonely: None,
            late: Vec::new(),
            agreed: Vec::new(),
            deleted: BTreeSet::new(),
            once: BTreeSet::new(),
            seen: BTreeMap::new(),
            report: Report::default(),
        }
    }

    fn event(&mut self, chances: [u32; 8]) -> Result<(), String> {
        self.time = self.time.plus_millis(self.rng.random_range(0..400));
        let at = self.rng.random_range(0..self.nodes.len());
        let mut draw = self.rng.random_range(0..chances.iter().sum());
        let choice = chances.iter().position(|chance| {
            let hit = draw < *chance;
            draw = draw.saturating_sub(*chance);
            hit
        });
        match choice {
            Some(0) => self.write(at),
            Some(1) => self.flush(at),
            Some(2) => self.sync(at),
            Some(3) => self.deliver(),
            Some(4) => self.crash(at),
            Some(5) => return self.restart(at),
            Some(6) => self.checkpoint(),
            _ => self.adopt(at),
        }
        Ok(())
    }

    fn write(&mut self, at: usize) {
        if !self.nodes[at].up {
            return;
        }
        let time = self.time;
        let number = self.rng.random_range(0..12u32);
        let shared = record(&format!("k{number}"));
        let value = Value { salt: self.rng.random(), bytes: vec![self.rng.random(); 4] };
        let view = self.nodes[at].replica.view(self.nodes[at].now(time));
        let observed =
            |key: &RecordId| view.keys.get(key).map(|v| v.observed.clone()).unwrap_or_default();
        let liar = self.nodes[at].lie;
        if liar == Some(Lie::RemovesAhead) && self.rng.random_bool(0.5) {
            let author = self.nodes[self.rng.random_range(0..self.nodes.len())].author();
            let ahead = Dot::of_entry(author, self.rng.random_range(1..40), 0);
            self.nodes[at].write(shared, None, vec![ahead], time);
            return;
        }
        match self.rng.random_range(0..10) {
            0..5 => {
                let observed = observed(&shared);
                self.nodes[at].write(shared, Some(&value), observed, time);
            }
            5 => {
                let observed = observed(&shared);
                self.nodes[at].write(shared, None, observed, time);
            }
            6..8 if liar.is_none() => {
                let key = record(&format!("once-{}", self.once.len()));
                if self.nodes[at].write(key.clone(), Some(&value), Vec::new(), time) {
                    self.once.insert(key);
                }
            }
            _ if liar.is_none() => {
                let open =
                    |key: &&RecordId| self.once.contains(*key) && !self.deleted.contains(*key);
                let Some(key) = view.keys.keys().find(open).cloned() else { return };
                let observed = observed(&key);
                if self.nodes[at].write(key.clone(), None, observed, time) {
                    self.flush(at);
                    self.deleted.insert(key);
                }
            }
            _ => {}
        }
    }

    fn flush(&mut self, at: usize) {
        if !self.nodes[at].up {
            return;
        }
        let two = self.nodes[at].lie == Some(Lie::TwoHistories);
        if two && self.nodes[at].writer.pending() > 0 {
            let twin = crate::writer::Writer::new(
                self.nodes[at].author(),
                self.nodes[at].replica.collection().clone(),
                self.nodes[at].writer.end(),
            );
            self.nodes[at].twin = Some(twin);
        }
        let Some(batch) = self.nodes[at].flush(self.members) else { return };
        self.gossip_to_some(at, &batch);
        if two && let Some(batch) = self.nodes[at].flush_twin(record("k1"), self.members) {
            self.gossip_to_some(at, &batch);
        }
        if self.nodes[at].lie.is_none() {
            self.note(at, &Item::Batch { batch, values: Vec::new() });
        }
    }

    /// Sends a batch to some, more than once to some of them.
    fn gossip_to_some(&mut self, from: usize, batch: &Batch) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            for _ in 0..[0, 0, 1, 2][self.rng.random_range(0..4)] {
                let sent = (to, Item::Batch { batch: batch.clone(), values: Vec::new() });
                // One other hears of it, and may delete what the rest has not heard of.
                if self.lonely == Some(to) || self.lonely == Some(from) && to != 1 {
                    self.late.push(sent);
                } else {
                    self.gossip.push(sent);
                }
            }
        }
    }

    fn sync(&mut self, at: usize) {
        let with = self.rng.random_range(0..self.nodes.len());
        let lonely = self.lonely.is_some_and(|lonely| lonely == at || lonely == with);
        let up = self.nodes[at].up && self.nodes[with].up;
        if at == with || !up || lonely || self.links.len() > 8 {
            return;
        }
        self.open(at, with);
    }

    fn end_loneliness(&mut self) {
        if self.lonely.take().is_some() {
            self.gossip.append(&mut self.late);
        }
    }

    fn open(&mut self, at: usize, with: usize) {
        let secret = LinkSecret(self.rng.random());
        let (asker, hello) = Session::ask(&self.nodes[at].replica, secret, self.rng.random());
        let answerer = Session::answer(&self.nodes[with].replica, secret, self.rng.random());
        let (ends, sessions) = ([at, with], [asker, answerer]);
        self.links.push(Link { ends, sessions, hello: Some(hello), dead: false });
    }

    /// Delivers one thing that is under way: a message of a link in its order, or a batch in any.
    fn deliver(&mut self) {
        let choices = self.links.len() + self.gossip.len();
        if choices == 0 {
            return;
        }
        let choice = self.rng.random_range(0..choices);
        if choice >= self.links.len() {
            let (to, item) = self.gossip.swap_remove(choice - self.links.len());
            if self.nodes[to].up && self.rng.random_bool(0.8) {
                self.take(to, item);
            }
            return;
        }
        let side = usize::from(self.rng.random_bool(0.5));
        if !self.step(choice, side) && !self.step(choice, 1 - side) {
            // Both are silent: the link is dead.
            self.links.swap_remove(choice);
        }
    }

    /// The next message for one side of a link, made as it leaves the other.
    fn next_message(&mut self, link: usize, side: usize) -> Option<SyncMessage> {
        let link = &mut self.links[link];
        if link.dead {
            return None;
        }
        if let Some(hello) = link.hello.take_if(|_| side == 1) {
            return Some(hello);
        }
        let from = &self.nodes[link.ends[1 - side]];
        let message = link.sessions[1 - side].next(&from.replica).filter(|_| from.up)?;
        Some(match from.lie {
            Some(lie) => lie.twist(message, &mut self.rng),
            None => message,
        })
    }

    /// Hands the next message to one side of a link; whether there was one.
    fn step(&mut self, link: usize, side: usize) -> bool {
        let Some(message) = self.next_message(link, side) else { return false };
        let at = self.links[link].ends[side];
        if !self.nodes[at].up {
            self.links[link].dead = true;
            return true;
        }
        let nonce = self.rng.random();
        let handled =
            self.links[link].sessions[side].handle(&self.nodes[at].replica, message, nonce);
        let Ok(step) = handled else {
            self.nodes[at].refused += 1;
            self.links[link].dead = true;
            return true;
        };
        for item in step.items {
            self.take(at, item);
        }
        match step.end {
            Some(SyncEnd::Exchanged | SyncEnd::Same) => self.report.syncs += 1,
            Some(SyncEnd::Epochs { .. }) => self.adopt(at),
            None => {}
        }
        true
    }

    fn take(&mut self, at: usize, item: Item) {
        if self.nodes[at].lie.is_none() {
            self.note(at, &item);
        }
        let time = self.time;
        if self.rng.random_bool(0.1) {
            self.nodes[at].take(item.clone(), self.members, time);
        }
        self.nodes[at].take(item, self.members, time);
    }

    /// Remembers which headers reached a correct member above its cut.
    fn note(&mut self, at: usize, item: &Item) {
        let header = match item {
            Item::Batch { batch, .. } => &batch.header,
            Item::Void(header) => header,
            Item::Shown(_) | Item::Evidence(_) => return,
        };
        let Ok(claimed) = header.claimed() else { return };
        if !self.nodes[at].replica.checkpoint().covers(&claimed.author, claimed.seq) {
            let hash = crate::batch::header_hash(header.body());
            self.seen.entry((claimed.author, claimed.seq)).or_default().insert(hash);
        }
    }

    fn crash(&mut self, at: usize) {
        if self.nodes[at].up {
            let torn = self.rng.random_range(0..200);
            self.nodes[at].crash(torn);
            self.report.crashes += 1;
        }
    }

    fn restart(&mut self, at: usize) -> Result<(), String> {
        if self.nodes[at].up {
            return Ok(());
        }
        // The machine's clock may have been set back by hours; the stamps must not go back with it.
        let skew = if self.rng.random_bool(0.3) {
            -self.rng.random_range(0..7_200_000)
        } else {
            self.rng.random_range(-2_000..2_000)
        };
        self.nodes[at].restart(skew, self.members)
    }

    /// A member proposes a checkpoint; it is agreed when a quorum of those that are up holds the same.
    fn checkpoint(&mut self) {
        let epoch = self.agreed.len() as u64;
        let newest = |node: &&Node| node.up && node.replica.checkpoint().epoch == epoch;
        let ready: Vec<_> = self.nodes.iter().filter(newest).map(|node| node.at).collect();
        let quorum = self.nodes.len() - (self.nodes.len() - 1) / 3;
        let first = self.rng.random_range(0..self.nodes.len());
        for turn in 0..ready.len() {
            let proposer = ready[(first + turn) % ready.len()];
            let proposed = self.nodes[proposer].replica.propose(self.time);
            let Ok((next, live)) = proposed else { continue };
            let holds =
                |at: &&usize| self.nodes[**at].replica.check_proposal(&next) == Ok(live.clone());
            if ready.iter().filter(holds).count() >= quorum {
                self.agreed.push((next, live));
                self.report.checkpoints += 1;
                return;
            }
        }
    }

    fn adopt(&mut self, at: usize) {
        if !self.nodes[at].up {
            return;
        }
        if self.lonely == Some(at) {
            return;
        }
        let epoch = self.nodes[at].replica.checkpoint().epoch;
        if let Some((next, live)) = self.agreed.last().filter(|(next, _)| next.epoch > epoch) {
            // A key that is written once is not written again: it may have been deleted meanwhile.
            let once = &self.once;
            self.nodes[at].adopt(next, live, self.members, |key| !once.contains(key));
        }
    }

    /// What must hold at any time: who has a deletion does not show the key.
    fn check_running(&self) -> Result<(), String> {
        for node in self.nodes.iter().filter(|node| node.lie.is_none() && node.up) {
            let view = node.replica.view(Timestamp(u64::MAX));
            for key in self.deleted.iter().filter(|key| view.keys.contains_key(*key)) {
                let own = node.replica.author_entries(node.author());
                let removed = own
                    .values()
                    .any(|entry| entry.key == *key && entry.operation == Operation::Remove);
                if removed && node.replica.checkpoint().kind != CollectionKind::GrowOnly {
                    return Err(format!("node {} shows {key}, which it deleted", node.at));
                }
            }
        }
        Ok(())
    }

    /// The faults end: every correct member starts, takes the newest checkpoint over and synchronises
    /// with every other until nothing differs.
    fn heal(&mut self) -> Result<(), String> {
        self.links.clear();
        let correct: Vec<_> =
            self.nodes.iter().filter(|node| node.lie.is_none()).map(|node| node.at).collect();
        for at in &correct {
            if !self.nodes[*at].up {
                self.nodes[*at].restart(0, self.members)?;
            }
            self.adopt(*at);
            self.flush(*at);
        }
        self.gossip.clear();
        for round in 0.. {
            let roots: BTreeSet<_> =
                correct.iter().map(|at| self.nodes[*at].replica.state_root().0).collect();
            if roots.len() == 1 {
                break;
            }
            if round == 6 {
                return Err(format!("{} different states after {round} rounds", roots.len()));
            }
            for pair in correct.iter().flat_map(|a| correct.iter().map(move |b| (*a, *b))) {
                if pair.0 < pair.1 {
                    self.open(pair.0, pair.1);
                    while self.step(0, 0) || self.step(0, 1) {}
                    self.links.clear();
                }
            }
        }
        self.check_healed(&correct)
    }

    fn check_healed(&mut self, correct: &[usize]) -> Result<(), String> {
        let later = self.time.plus_millis(3_600_000);
        let Some(first) = correct.first() else { return Ok(()) };
        let state = self.nodes[*first].replica.canonical_state();
        let view = self.nodes[*first].replica.view(later);
        for at in correct {
            let node = &self.nodes[*at];
            if node.replica.canonical_state() != state || node.replica.view(later) != view {
                return Err(format!("nodes {first} and {at} see different things"));
            }
            if let Some(missing) = node.replica.missing().next() {
                return Err(format!("node {at} lacks {missing:?} under its cut"));
            }
            let correct = self.nodes.iter().filter(|node| node.lie.is_none());
            for author in correct.map(Node::author) {
                if node.replica.evidence().accuses(&author) {
                    return Err(format!("{author:?} is accused and did nothing"));
                }
            }
            for ((author, seq), hashes) in &self.seen {
                if hashes.len() > 1 && !node.replica.evidence().accuses(author) {
                    // Under the cut before both met, one history was picked and there is no proof left.
                    if !node.replica.checkpoint().covers(author, *seq) {
                        return Err(format!(
                            "node {at} lacks the proof against {author:?} at {seq}"
                        ));
                    }
                }
            }
        }
        if self.nodes[*first].replica.checkpoint().kind != CollectionKind::GrowOnly {
            if let Some(key) = self.deleted.iter().find(|key| view.keys.contains_key(*key)) {
                return Err(format!("{key} is back"));
            }
            self.report.deleted = self.deleted.len() as u64;
        }
        let replica = &self.nodes[*first].replica;
        self.report.entries = replica.entries() as u64;
        let accused: BTreeSet<_> =
            replica.evidence().iter().map(|((author, _), _)| *author).collect();
        self.report.accused = accused.len() as u64;
        self.report.refused = self.nodes.iter().map(|node| node.refused).sum();
        self.report.void = self.nodes.iter().map(|node| node.void).sum();
        Ok(())
    }
}

/// A key by its text, which has no control characters.
fn record(text: &str) -> RecordId {
    RecordId::new(text).unwrap_or_else(|_| unreachable!("a record id"))
}
