//! After the storm: everything must converge, every question be answered exactly, and nothing be
//! left over.

use std::collections::BTreeSet;
use std::time::Duration;

use exo_types::{FederationScope, PeerId, SourceStatus};

use super::exact::reader;
use super::host::Role;
use super::net::{EndState, HostId, Side};
use super::people::FOUNDER;
use super::world::World;
use super::{Step, Violation};
use crate::effect::Purpose;
use crate::{JoinStatus, Node};

impl World {
    /// The weather calms: no more faults, every path whole, every node running.
    pub(super) fn calm(&mut self) -> Step {
        self.chaos = false;
        self.net.paths.mend_all();
        for h in 0..self.hosts.len() {
            if self.hosts[h].broken {
                self.crash(h)?;
            }
            if self.hosts[h].node.is_none() {
                self.restart(h)?;
            }
        }
        Ok(())
    }

    /// Waits until every member has the founder's epoch and one session with every other.
    pub(super) fn converge(&mut self) -> Step {
        let began = self.now;
        // What the storm has set going is over by then.
        self.run_until(self.now + Duration::from_millis(1_500))?;
        let mut missing = String::new();
        while self.now < began + CONVERGED_WITHIN {
            self.run_until(self.now + Duration::from_millis(500))?;
            match self.not_converged() {
                None => {
                    self.stats.converged_millis = (self.now - began).as_millis() as u64;
                    return Ok(());
                }
                Some(what) => missing = what,
            }
        }
        Err(Violation(format!("no convergence within {CONVERGED_WITHIN:?}: {missing}")))
    }

    /// What is still amiss.
    fn not_converged(&self) -> Option<String> {
        let belongs: Vec<HostId> =
            (0..self.hosts.len()).filter(|h| self.hosts[*h].belongs()).collect();
        let wanted: BTreeSet<PeerId> = belongs.iter().map(|h| self.hosts[*h].peer).collect();
        let founder = self.hosts[FOUNDER].node.as_ref().and_then(|node| node.membership.as_ref());
        let Some(founder) = founder else { return Some("nobody has founded yet".to_owned()) };
        let active: BTreeSet<PeerId> = founder.roster.active().map(|(peer, _)| *peer).collect();
        if active != wanted {
            let states: Vec<_> = belongs
                .iter()
                .map(|h| (*h, self.hosts[*h].node.as_ref().map(Node::join_status)))
                .collect();
            return Some(format!(
                "the roster has {} of {} members: {states:?}",
                active.len(),
                wanted.len()
            ));
        }
        let epoch = founder.roster.epoch;
        let honest: Vec<HostId> =
            belongs.into_iter().filter(|h| self.hosts[*h].role != Role::Liar).collect();
        for h in &honest {
            let Some(node) = &self.hosts[*h].node else { return Some(format!("n{h} is down")) };
            let here = node.membership.as_ref().map(|membership| membership.roster.epoch);
            if here != Some(epoch) || node.join_status() != JoinStatus::Member {
                return Some(format!("n{h} has epoch {here:?}, not {epoch}"));
            }
            if let Some(what) = self.wrong_session(*h, &honest) {
                return Some(what);
            }
        }
        None
    }

    /// A pair of members without exactly one session that both use.
    fn wrong_session(&self, h: HostId, honest: &[HostId]) -> Option<String> {
        let Some(node) = &self.hosts[h].node else { return Some(format!("n{h} is down")) };
        for other in honest.iter().filter(|other| **other != h) {
            let peer = self.hosts[*other].peer;
            let Some(session) = node.by_peer.get(&peer) else {
                return Some(format!("n{h} has no session with n{other}"));
            };
            let life = self.hosts[h].life;
            let Some((conn, side)) = self.net.find(h, life, *session) else {
                return Some(format!("n{h}'s session with n{other} is no connection"));
            };
            let there = self.net.end(conn, side.other()).map(|end| end.session);
            let used = self.hosts[*other].node.as_ref().map(|node| &node.by_peer);
            let used = used.and_then(|by_peer| by_peer.get(&self.hosts[h].peer)).copied();
            if used.is_none() || used != there {
                return Some(format!("n{h} and n{other} use different sessions"));
            }
            let between = |side: Side, conn: &super::net::Conn| {
                conn.end(side).host == h && conn.end(side.other()).host == *other
            };
            let up = self.net.conns.values().filter(|conn| {
                let ends = [Side::Dialler, Side::Acceptor];
                ends.iter().any(|side| between(*side, conn))
                    && ends.iter().any(|side| conn.end(*side).state != EndState::Down)
            });
            let count = up.count();
            if count != 1 {
                return Some(format!("{count} connections between n{h} and n{other}"));
            }
        }
        None
    }

    /// Every member asks every other by vector, by words and by both, and must hear the exact answer.
    pub(super) fn ask_everybody(&mut self) -> Step {
        // By then every node has noticed that its clock was set, and tells of keys that hold now.
        self.run_until(self.now + Duration::from_secs(40))?;
        let skews = || self.hosts.iter().filter(|h| h.belongs()).map(|host| host.clocks.skew);
        let (first, last) = (skews().min().unwrap_or(0), skews().max().unwrap_or(0));
        let clocks_agree = last - first <= CLOCKS_AGREE_MILLIS;
        let liars = self.hosts.iter().any(|host| host.role == Role::Liar);
        for h in 0..self.hosts.len() {
            if !self.hosts[h].belongs() || !self.hosts[h].honest() {
                continue;
            }
            let members = self.hosts.iter().filter(|host| host.belongs()).count();
            let hops = self.rng.between(1, (members as u64 - 1).clamp(1, 4)) as u8;
            let global = FederationScope::Global { max_hops: hops };
            let direct = FederationScope::Direct;
            for scope in [direct, direct, direct, global] {
                if scope == global && !clocks_agree {
                    // Packets expire; with clocks minutes apart no path holds.
                    continue;
                }
                let spec = self.draw_query(scope, Duration::from_secs(4));
                self.ask(h, spec.clone())?;
                let asked = self.checker.latest(h);
                self.run_until(self.now + Duration::from_secs(5))?;
                let Some(id) = asked else {
                    return Err(Violation(format!("n{h} cannot ask")));
                };
                if liars {
                    continue;
                }
                let Some((reports, stats)) = self.checker.take_done(h, id) else {
                    return Err(Violation(format!("query {id} of n{h} brought nothing")));
                };
                for source in self.hosts.iter().filter(|host| host.belongs()) {
                    let asker = self.hosts[h].peer;
                    let by = reader(&spec, &source.peer, &asker);
                    let status = match source.data.answer(by, &spec, None) {
                        Some(_) => SourceStatus::Answered,
                        None => SourceStatus::Declined,
                    };
                    let told = reports.get(&source.peer);
                    if told.map(|report| report.status) != Some(status) {
                        return Err(Violation(format!(
                            "in calm weather n{h} hears of n{}: {told:?}, not {status:?}",
                            source.id
                        )));
                    }
                }
                if !spec.target.text.is_empty() && stats != self.true_counts(h, &spec) {
                    return Err(Violation(format!(
                        "n{h} scored by {stats:?}, not by {:?}",
                        self.true_counts(h, &spec)
                    )));
                }
            }
        }
        Ok(())
    }

    /// The term statistics over all sources together; `None` where nothing is searched.
    fn true_counts(&self, h: HostId, spec: &exo_types::QuerySpec) -> Option<exo_types::TermStats> {
        let mut sum = exo_types::TermStats::default();
        let mut searched = false;
        let asker = self.hosts[h].peer;
        for source in self.hosts.iter().filter(|host| host.belongs()) {
            let own = source.peer == asker;
            let by = reader(spec, &source.peer, &asker);
            // Others are asked whatever they hold, unless they declined to count; a node does not ask
            // itself for nothing.
            searched |= match own {
                true => source.data.answer(by, spec, None).is_some_and(|legs| !legs.is_empty()),
                false => !source.data.denies(by, spec),
            };
            sum.add(&source.data.counts(by, spec));
        }
        searched.then_some(sum)
    }

    /// When nothing happens any more, a node holds its sessions and nothing else.
    pub(super) fn fall_idle(&mut self) -> Step {
        let liars = self.hosts.iter().any(|host| !host.honest());
        if liars {
            return Ok(());
        }
        let until = self.now + IDLE_WITHIN;
        let mut left = String::new();
        self.run_until(self.now + Duration::from_secs(12))?;
        while self.now < until {
            self.run_until(self.now + Duration::from_millis(50))?;
            if self.queue.in_flight() {
                continue;
            }
            match self.left_over() {
                None => return Ok(()),
                Some(what) => left = what,
            }
        }
        Err(Violation(format!("not idle within {IDLE_WITHIN:?}: {left}")))
    }

    fn left_over(&self) -> Option<String> {
        let members = self.hosts.iter().filter(|host| host.belongs()).count();
        for (h, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.belongs()) {
            let Some(node) = &host.node else { return Some(format!("n{h} is down")) };
            let load = node.load();
            let waits = self.hosts.iter().any(|host| host.role == Role::Pending);
            let joins = usize::from(waits && h == FOUNDER);
            let most = members - 1 + joins;
            if load.sessions > most
                || load.calls + load.jobs + load.queries + load.effects + load.packets > 0
            {
                return Some(format!("n{h} still holds {load:?}"));
            }
            if load.timers > 1 + load.sessions {
                return Some(format!("n{h} still has timers: {load:?}"));
            }
            if !host.exchanges.is_empty() {
                return Some(format!("n{h} owes {} answers", host.exchanges.len()));
            }
            let sessions = node.sessions.values();
            if sessions.filter(|session| session.purpose == Purpose::Join).count() > joins {
                return Some(format!("n{h} holds sessions of joiners that are members"));
            }
        }
        let under_way = self.checker.under_way();
        (under_way > 0).then(|| format!("{under_way} queries are not over"))
    }
}

/// How far clocks may be apart for anonymous questions, milliseconds.
const CLOCKS_AGREE_MILLIS: i64 = 8_000;
/// How long convergence may take once the weather is calm: the longest wait between two dials, and
/// the silence after which a dead connection is given up, a few times over.
const CONVERGED_WITHIN: Duration = Duration::from_secs(180);
/// How long a node may have something to do after the last question.
const IDLE_WITHIN: Duration = Duration::from_secs(60);
