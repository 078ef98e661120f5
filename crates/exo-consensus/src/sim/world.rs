//! The world of one simulation and its main loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use exo_types::{PeerId, Wire};

use super::auth::{Tags, cosign, sign};
use super::fault::Weather;
use super::host::{Host, identity, voter};
use super::invariant::Checker;
use super::liar::{Knowledge, Liar, LiarKind};
use super::rng::Rng;
use super::tree::Tree;
use super::{Options, Outcome, Stats, Step, Violation};
use crate::blob::Blob;
use crate::check::{Refused, check};
use crate::effect::{Effect, Input};
use crate::message::{Message, Statement};
use crate::quorum::Quorum;
use crate::replica::Start;
use crate::serve::log_piece;
use crate::update::Update;
use crate::voter::Voters;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Happening {
    Arrives { host: usize, from: PeerId, message: Message },
    Answered { host: usize, life: u32, input: Input },
    Wake { host: usize, life: u32 },
    Synced { host: usize, life: u32, covered: usize },
    Restart { host: usize },
    Submit,
    Fault,
    Mend,
    Lie { host: usize },
}

pub(crate) struct World {
    seed: u64,
    pub(super) now: Duration,
    queue: BTreeMap<(Duration, u64), Happening>,
    ordered: u64,
    pub(super) rng: Rng,
    pub(super) hosts: Vec<Host>,
    pub(super) weather: Weather,
    pub(super) storm: bool,
    pub(super) checker: Checker,
    pub(super) knowledge: Knowledge,
    pub(super) stats: Stats,
    pub(super) tickets: u64,
    /// Faults that count towards `f`: liars, and nodes that lost their journal.
    pub(super) faults_max: usize,
    log: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, options: &Options) -> Self {
        let mut rng = Rng::new(seed);
        let drawn = [4, 4, 4, 4, 4, 4, 7, 7, 7, 10][rng.below(10)];
        let nodes = options.nodes.unwrap_or(drawn).max(4);
        let weather = Weather::draw(&mut rng);
        let list = (0..nodes).map(|n| voter(n, 0)).collect();
        // Four to ten voters of different names are an epoch's.
        let voters = Arc::new(Voters::new(list).unwrap_or_else(|_| unreachable!()));
        // One fewer, should a change take one away.
        let faults_max = Quorum::of(nodes.max(5) - 1).map_or(1, Quorum::faults).max(1);
        let mut hosts = Vec::new();
        let liars = if rng.chance(750) { rng.between(1, faults_max as u64) as usize } else { 0 };
        let first = rng.below(nodes);
        for n in 0..nodes {
            let lies = (n + nodes - first) % nodes < liars;
            let kind = LiarKind::draw(&mut rng);
            let copies = if lies && kind == LiarKind::Twins { 2 } else { 1 };
            for _ in 0..copies {
                let liar = lies.then(|| Liar::new(kind));
                let sync = weather.draw_sync(&mut rng);
                let host = Host::new(identity(n), liar, Start::Founding, &voters, &mut rng, sync);
                hosts.push(host);
            }
        }
        let sync = weather.draw_sync(&mut rng);
        hosts.push(Host::new(identity(nodes), None, Start::Joining, &voters, &mut rng, sync));
        let liar_ids = hosts.iter().filter(|host| !host.honest()).map(|host| host.id).collect();
        Self {
            seed,
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            ordered: 0,
            rng,
            hosts,
            weather,
            storm: true,
            checker: Checker::new(&voters, liar_ids),
            knowledge: Knowledge::default(),
            stats: Stats { nodes: nodes as u64, liars: liars as u64, ..Stats::default() },
            tickets: 0,
            faults_max,
            log: options.log.then(Vec::new),
        }
    }

    pub(super) fn play(&mut self) -> Step {
        for host in 0..self.hosts.len() {
            self.start(host)?;
        }
        for what in [Happening::Submit, Happening::Fault] {
            self.after(Duration::from_millis(5), what);
        }
        let liars: Vec<usize> =
            (0..self.hosts.len()).filter(|h| !self.hosts[*h].honest()).collect();
        for host in liars {
            self.after(Duration::from_millis(10), Happening::Lie { host });
        }
        let end = self.weather.storm;
        self.run_until(end, |_| false)?;
        self.calm()
    }

    /// The network heals, everybody is up, and each correct voter asks for one thing more.
    fn calm(&mut self) -> Step {
        self.storm = false;
        self.weather.calm();
        let began = self.now;
        for host in 0..self.hosts.len() {
            if self.hosts[host].core.is_none() {
                self.start(host)?;
            }
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].honest() {
                self.submit_data(host)?;
            }
        }
        let bound = self.now + CALM_MAX;
        self.run_until(bound, |world| world.converged())?;
        if !self.converged() {
            return Err(Violation(format!("no progress in the calm: {}", self.describe())));
        }
        self.stats.calm_millis = (self.now - began).as_millis() as u64;
        self.check_end()
    }

    fn run_until(&mut self, end: Duration, over: impl Fn(&Self) -> bool) -> Step {
        while let Some((at, _)) = self.queue.first_key_value().map(|(key, _)| *key)
            && at <= end
        {
            let Some((_, what)) = self.queue.pop_first() else { break };
            self.now = self.now.max(at);
            self.stats.events += 1;
            let digest = self.stats.digest.rotate_left(5) ^ at.as_micros() as u64;
            self.stats.digest = digest.wrapping_mul(0x100_0000_01b3) ^ self.ordered;
            self.happen(what)?;
            if over(self) {
                return Ok(());
            }
        }
        self.now = self.now.max(end);
        Ok(())
    }

    fn happen(&mut self, what: Happening) -> Step {
        match what {
            Happening::Arrives { host, from, message } => self.arrives(host, from, message),
            Happening::Answered { host, life, input } => {
                if self.hosts[host].life == life {
                    self.input(host, input)
                } else {
                    Ok(())
                }
            }
            Happening::Wake { host, life } => {
                if self.hosts[host].life != life {
                    return Ok(());
                }
                self.hosts[host].wake = None;
                self.input(host, Input::Tick)
            }
            Happening::Synced { host, life, covered } => {
                if self.hosts[host].life != life {
                    return Ok(());
                }
                self.hosts[host].disk.syncing = None;
                let number = self.hosts[host].disk.synced(covered);
                self.sync(host);
                self.input(host, Input::Durable(number))
            }
            Happening::Restart { host } => {
                if self.hosts[host].core.is_none() {
                    self.start(host)
                } else {
                    Ok(())
                }
            }
            Happening::Submit => self.submit(),
            Happening::Fault => self.fault(),
            Happening::Mend => {
                self.weather.cut.clear();
                Ok(())
            }
            Happening::Lie { host } => self.lie(host),
        }
    }

    pub(super) fn after(&mut self, wait: Duration, what: Happening) {
        self.ordered += 1;
        self.queue.insert((self.now + wait, self.ordered), what);
    }

    pub(super) fn start(&mut self, host: usize) -> Step {
        let effects = self.hosts[host].start(self.now)?;
        let kind = self.hosts[host].liar.as_ref().map(|liar| liar.kind);
        self.trace(host, "starts", || format!("{kind:?}"));
        self.carry_out(host, effects)
    }

    pub(super) fn crash(&mut self, host: usize) {
        self.stats.crashes += 1;
        self.hosts[host].crash(&mut self.rng);
        self.trace(host, "crashes", String::new);
        let wait = self.rng.micros(1_000, 1_500_000);
        self.after(wait, Happening::Restart { host });
    }

    fn arrives(&mut self, host: usize, from: PeerId, message: Message) -> Step {
        let Some(directory) = self.hosts[host].core.as_ref().map(|core| core.directory()) else {
            return Ok(());
        };
        self.stats.messages += 1;
        if self.hosts[host].liar.is_some() {
            self.knowledge.hear(&message);
        }
        let request = matches!(message, Message::Request(_));
        let piece = matches!(message, Message::LogPiece(_));
        if self.log.is_some() {
            let line = format!("{message:?}");
            self.trace(host, "hears", || format!("{} {}", from.short(), shorten(&line)));
        }
        if let Message::LogPiece(piece) = &message
            && !self.hosts[host].core.as_ref().is_some_and(|c| c.expects_piece(&from, piece.from))
        {
            return Ok(());
        }
        match check::<Tree>(from, message, &directory, &Tags) {
            Ok(checked) => {
                self.stats.pieces += u64::from(piece);
                self.input(host, Input::Received(Box::new(checked)))
            }
            Err(refused) => {
                self.stats.refused += 1;
                let honest = self.hosts.iter().all(|h| h.id != from || h.honest());
                // A request of who has no vote any more is the one thing that may be refused.
                if honest && !request && matches!(refused, Refused::False { .. }) {
                    return Err(Violation(format!("an honest message is refused: {refused}")));
                }
                if piece && matches!(refused, Refused::False { .. }) {
                    return self.input(host, Input::FalsePiece(from));
                }
                Ok(())
            }
        }
    }

    pub(super) fn input(&mut self, host: usize, input: Input) -> Step {
        let now = self.hosts[host].local(self.now);
        let Some(core) = self.hosts[host].core.as_mut() else { return Ok(()) };
        let effects = core.step(now, input);
        self.carry_out(host, effects)?;
        self.check_core(host)
    }

    /// Does what a node wants, and perhaps crashes it between any two effects.
    fn carry_out(&mut self, host: usize, effects: Vec<Effect>) -> Step {
        let life = self.hosts[host].life;
        for effect in effects {
            if self.storm && self.rng.chance(self.weather.crash_in_thousand) && self.rng.chance(30)
            {
                self.crash(host);
                return Ok(());
            }
            self.effect(host, life, effect)?;
        }
        self.sync(host);
        self.set_wake(host);
        Ok(())
    }

    fn effect(&mut self, host: usize, life: u32, effect: Effect) -> Step {
        let id = self.hosts[host].id;
        match effect {
            Effect::Persist { record, .. } => {
                self.check_record(host, &record)?;
                if self.log.is_some() {
                    let line = shorten(&format!("{record:?}"));
                    self.trace(host, "writes", || line);
                }
                self.hosts[host].disk.write(record);
            }
            Effect::Rotate { records, .. } => {
                let at = self.hosts[host].disk.len();
                for record in &records {
                    self.note_guards(host, record, at);
                }
                self.hosts[host].disk.rotate(records);
            }
            Effect::Send { to, message } => self.send(host, &[to], &message)?,
            Effect::Broadcast(message) => {
                let to: Vec<PeerId> = self.hosts[host].voters.iter().map(|(_, v)| v.id).collect();
                self.send(host, &to, &message)?;
            }
            Effect::Sign(statement) => {
                let signed = match &*statement {
                    Statement::ViewChange(_) | Statement::NewView(_) => sign(&id, &*statement),
                };
                let Some(signed) = signed else {
                    return Err(Violation(format!("{id:?} cannot sign {statement:?}")));
                };
                self.answer(host, life, Input::Signed(Box::new(signed)));
            }
            Effect::SignBundle(head) => {
                let Some(signed) = sign(&id, &head) else {
                    return Err(Violation(format!("{id:?} cannot sign {head:?}")));
                };
                self.answer(host, life, Input::BundleSigned(Box::new(signed)));
            }
            Effect::Cosign { size, root } => {
                let signature = cosign(&id, size, root);
                self.answer(host, life, Input::Cosigned { size, root, signature });
            }
            Effect::Serve { to, asked, certificate } => {
                let piece = log_piece(&self.hosts[host].disk, asked, certificate);
                if let Some(piece) = piece {
                    self.send(host, &[to], &Message::LogPiece(Box::new(piece)))?;
                }
            }
            Effect::Apply { first, batch } => self.check_applied(host, first, &batch)?,
            Effect::Certified(certificate) => self.check_certified(host, &certificate)?,
            Effect::Done { ticket, leaf, .. } => self.check_done(host, ticket, leaf)?,
            Effect::Declined { ticket, .. } => {
                // What is declined for want of a vote is not owed.
                self.hosts[host].done.insert(ticket);
            }
            Effect::Epoch { voters, .. } => {
                self.stats.epochs += 1;
                self.hosts[host].voters = voters;
            }
            Effect::Halted(contradiction) => {
                if self.hosts[host].honest() {
                    return Err(Violation(format!("{id:?} halts: {contradiction}")));
                }
            }
        }
        Ok(())
    }

    /// What the node's driver answers, a little later.
    /// Answers with a signature, unless the host fails to make it.
    fn answer(&mut self, host: usize, life: u32, input: Input) {
        if self.weather.unsigned(&mut self.rng) {
            return;
        }
        let wait = self.rng.micros(20, 400);
        self.after(wait, Happening::Answered { host, life, input });
    }

    fn send(&mut self, host: usize, to: &[PeerId], message: &Message) -> Step {
        let from = self.hosts[host].id;
        if self.hosts[host].honest() {
            self.check_said(host, message)?;
        }
        if self.rng.chance(10) {
            let wire = message.to_wire().map_err(|e| Violation(format!("does not encode: {e}")))?;
            let back = Message::from_wire(&wire);
            if back.as_ref() != Ok(message) {
                return Err(Violation(format!("does not decode: {message:?}")));
            }
        }
        for to in to.iter().filter(|to| **to != from) {
            for message in self.distort(host, to, message) {
                self.transmit(from, to, &message);
            }
        }
        Ok(())
    }

    /// Puts a message on its way; to both, where two nodes have one name.
    pub(super) fn transmit(&mut self, from: PeerId, to: &PeerId, message: &Message) {
        for host in 0..self.hosts.len() {
            if self.hosts[host].id != *to || self.weather.is_cut(&from, to) {
                continue;
            }
            for _ in 0..self.weather.copies(&mut self.rng) {
                let wait = self.weather.delay(&mut self.rng);
                let message = message.clone();
                self.after(wait, Happening::Arrives { host, from, message });
            }
        }
    }

    fn sync(&mut self, host: usize) {
        let node = &mut self.hosts[host];
        if node.core.is_none() || node.disk.syncing.is_some() {
            return;
        }
        let Some(len) = node.disk.due() else { return };
        node.disk.syncing = Some(len);
        let (low, high) = node.sync_micros;
        let life = node.life;
        let wait = self.rng.micros(low, high);
        self.after(wait, Happening::Synced { host, life, covered: len });
    }

    fn set_wake(&mut self, host: usize) {
        let node = &self.hosts[host];
        let Some(core) = &node.core else { return };
        let at = node.global(core.next_wake()).max(self.now);
        if node.wake.is_none_or(|set| at < set) {
            let life = node.life;
            self.hosts[host].wake = Some(at);
            self.after(at - self.now, Happening::Wake { host, life });
        }
    }

    fn submit(&mut self) -> Step {
        let host = self.rng.below(self.hosts.len());
        for _ in 0..self.rng.between(1, self.weather.burst) {
            self.submit_data(host)?;
        }
        if self.storm {
            let wait = self.rng.micros(500, self.weather.submit_micros);
            self.after(wait, Happening::Submit);
        }
        Ok(())
    }

    pub(super) fn submit_data(&mut self, host: usize) -> Step {
        self.tickets += 1;
        let ticket = self.tickets;
        let mut content = ticket.to_be_bytes().to_vec();
        let long = if self.rng.chance(20) { 12_000 } else { self.rng.below(200) };
        content.resize(8 + long, 0);
        let update = Update::Data(Blob::new(content).unwrap_or_default());
        self.submit_update(host, ticket, update)
    }

    pub(super) fn submit_update(&mut self, host: usize, ticket: u64, update: Update) -> Step {
        if self.hosts[host].core.is_none() {
            return Ok(());
        }
        if !self.storm && self.hosts[host].honest() {
            self.checker.owed.push((host, ticket));
        }
        self.input(host, Input::Submit { ticket, update })
    }

    pub(super) fn trace(&mut self, host: usize, what: &str, more: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let millis = self.now.as_micros() as f64 / 1000.0;
            let id = self.hosts[host].id.short();
            log.push(format!("{millis:>10.3} n{host}({id}) {what} {}", more()));
        }
    }

    pub(super) fn outcome(self, violation: Option<Violation>) -> Outcome {
        Outcome { seed: self.seed, violation, stats: self.stats, log: self.log.unwrap_or_default() }
    }
}

fn shorten(line: &str) -> String {
    line.chars().take(400).collect()
}

/// How long the calm may last, simulated: several views of the longest patience.
const CALM_MAX: Duration = Duration::from_secs(600);
