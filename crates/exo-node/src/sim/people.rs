//! What people do with the nodes: found, invite, join, compare words, approve, remove, ask.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use exo_types::{FederationScope, Filter, QuerySpec};

use super::clock::Happening;
use super::data::{draw_collection, draw_target};
use super::host::{PORT, Role};
use super::net::HostId;
use super::world::World;
use super::{Step, Violation};
use crate::{JoinStatus, Node, QueryError};

/// The founder's place.
pub(super) const FOUNDER: HostId = 0;

impl World {
    /// Everybody looks at their node and does what is to be done next.
    pub(super) fn people(&mut self) -> Step {
        let next = self.now + self.rng.millis(100, 600);
        self.queue.at(next, Happening::People);
        for h in 0..self.hosts.len() {
            if self.hosts[h].broken && self.rng.chance(300) {
                // Somebody sees that it is out of order and starts it again.
                self.crash(h)?;
            }
        }
        self.founder_acts()?;
        for h in 1..self.hosts.len() {
            self.joiner_acts(h)?;
        }
        if self.chaos {
            self.odd_acts()?;
        }
        Ok(())
    }

    fn founder_acts(&mut self) -> Step {
        if self.hosts[FOUNDER].node.as_ref().is_some_and(|node| node.federation().is_none()) {
            let founded = self.drive(FOUNDER, Node::found)?;
            if let Some(Err(error)) = founded {
                return Err(Violation(format!("the founder cannot found: {error}")));
            }
        }
        Ok(())
    }

    fn joiner_acts(&mut self, h: HostId) -> Step {
        let host = &self.hosts[h];
        if host.revoked || matches!(host.role, Role::Founder | Role::Outsider) || !host.works() {
            return Ok(());
        }
        let Some(status) = host.node.as_ref().map(Node::join_status) else { return Ok(()) };
        match status {
            JoinStatus::Idle | JoinStatus::Refused { .. } => self.invite_and_join(h),
            JoinStatus::Connecting => {
                // Somebody loses patience and asks for another ticket.
                if self.rng.chance(10) { self.invite_and_join(h) } else { Ok(()) }
            }
            JoinStatus::Pending { words } => self.compare_words(h, &words),
            JoinStatus::Following | JoinStatus::Member => Ok(()),
        }
    }

    fn invite_and_join(&mut self, h: HostId) -> Step {
        if !self.hosts[FOUNDER].works() {
            return Ok(());
        }
        let auto_approve = self.hosts[h].role != Role::Pending && self.rng.chance(300);
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, FOUNDER as u8)), PORT);
        let invited = self.drive(FOUNDER, |node, now| {
            let open: Vec<String> = node.invites().iter().map(|invite| invite.id.clone()).collect();
            if open.len() > 32
                && let Some(oldest) = open.first()
            {
                // Only a tidy mind keeps the book from filling up.
                let _ = node.revoke_invite(oldest);
            }
            node.invite(now, 20 * 60 * 60 * 1000, auto_approve, &[address])
        })?;
        let (_, ticket) = match invited {
            None => return Ok(()),
            Some(Ok(made)) => made,
            Some(Err(error)) => return Err(Violation(format!("no invite: {error}"))),
        };
        // The ticket travels as text.
        let ticket = ticket.to_string().parse();
        let ticket = ticket.map_err(|error| Violation(format!("a ticket's text: {error}")))?;
        if auto_approve {
            self.checker.invited(h);
        }
        self.trace(h, "is given a ticket", String::new);
        let joined = self.drive(h, |node, now| node.join(now, ticket))?;
        match joined {
            None | Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(Violation(format!("n{h} cannot join: {error}"))),
        }
    }

    /// Two people compare the words they see, over a channel of their own.
    fn compare_words(&mut self, h: HostId, words: &str) -> Step {
        if !self.hosts[FOUNDER].works() || self.rng.chance(300) {
            return Ok(());
        }
        let peer = self.hosts[h].peer;
        if self.hosts[h].role == Role::Pending {
            if self.chaos && self.rng.chance(30) {
                // Whether the joiner is there to be turned away is not known to a person.
                self.drive(FOUNDER, |node, _| node.reject(&peer).is_ok())?;
            }
            return Ok(());
        }
        if self.chaos && self.rng.chance(40) {
            self.drive(FOUNDER, |node, _| node.reject(&peer).is_ok())?;
            return Ok(());
        }
        self.checker.invited(h);
        if let Some(Ok(approved)) = self.drive(FOUNDER, |node, now| node.approve(now, words))? {
            if approved.peer != peer {
                return Err(Violation(format!("n{h}'s words approved another joiner")));
            }
            self.stats.admissions += 1;
        }
        Ok(())
    }

    /// What happens now and then: members removed, tokens revoked, addresses told again, pings.
    fn odd_acts(&mut self) -> Step {
        let h = self.rng.below(self.hosts.len());
        let peer = self.hosts[h].peer;
        match self.rng.below(60) {
            0 if self.hosts[h].role == Role::Member && self.members() > 2 => self.remove(h)?,
            1 | 2 => {
                let at = self.rng.below(self.hosts.len());
                if self.drive(at, |node, now| node.revoke_tokens(now, &peer))?.is_some() {
                    self.checker.tokens_revoked(&self.hosts[at], self.now, peer);
                }
            }
            3 => {
                let address = super::host::address(h);
                self.drive(h, |node, now| node.relocate(now, vec![address]))?;
            }
            4..=8 => {
                let to = self.rng.below(self.hosts.len());
                let to = self.hosts[to].peer;
                self.drive(h, |node, now| node.ping(now, &to))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn members(&self) -> usize {
        self.hosts.iter().filter(|host| host.role == Role::Member && host.belongs()).count()
    }

    /// The founder removes a member for good.
    fn remove(&mut self, h: HostId) -> Step {
        let peer = self.hosts[h].peer;
        if !self.hosts[FOUNDER].works() {
            return Ok(());
        }
        self.drive(FOUNDER, |node, now| node.revoke(now, &peer, "left the project").is_ok())?;
        // A founder that crashed over it may have saved it all the same.
        if self.hosts[FOUNDER].disk.read()?.revoked.contains(&peer) {
            self.trace(h, "is removed", String::new);
            self.stats.removals += 1;
            self.hosts[h].revoked = true;
        }
        Ok(())
    }

    /// Somebody asks their node something.
    pub(super) fn question(&mut self) -> Step {
        let every = self.weather.question_every_millis;
        let next = self.now + self.rng.millis(every / 2, every * 2);
        self.queue.at(next, Happening::Question);
        if !self.chaos {
            return Ok(());
        }
        let h = self.rng.below(self.hosts.len());
        let deadline = match self.rng.below(4) {
            0 => self.rng.between(10, 120),
            1 | 2 => self.rng.between(120, 2_000),
            _ => self.rng.between(2_000, 9_000),
        };
        let scope = match self.rng.below(10) {
            0 => FederationScope::Local,
            1 | 2 => FederationScope::Global { max_hops: self.rng.between(1, 4) as u8 },
            _ => FederationScope::Direct,
        };
        let spec = self.draw_query(scope, Duration::from_millis(deadline));
        self.ask(h, spec)?;
        Ok(())
    }

    pub(super) fn draw_query(&mut self, scope: FederationScope, deadline: Duration) -> QuerySpec {
        QuerySpec {
            scope,
            target: draw_target(&mut self.rng),
            collection: draw_collection(&mut self.rng),
            filter: Filter::default(),
            top_k: self.rng.between(1, 12) as usize,
            deadline,
            min_sources: 1,
            mix: Duration::ZERO,
        }
    }

    /// Asks, and has the answer watched.
    pub(super) fn ask(&mut self, h: HostId, spec: QuerySpec) -> Step {
        let host = &mut self.hosts[h];
        if !host.works() {
            return Ok(());
        }
        let now = host.clocks.at(self.now);
        let Some(node) = host.node.as_mut() else { return Ok(()) };
        let sources = match (spec.scope, &node.membership) {
            (FederationScope::Direct | FederationScope::Global { .. }, Some(membership)) => {
                let mut sources: Vec<_> =
                    membership.roster.active().map(|(peer, _)| *peer).collect();
                sources.push(host.peer);
                sources
            }
            _ => vec![host.peer],
        };
        match node.query(now, spec.clone()) {
            Ok(id) => self.checker.asked(h, id, spec, &sources, self.now),
            Err(QueryError::NotAMember | QueryError::NoPath { .. }) => {}
            Err(error) => return Err(Violation(format!("n{h} cannot ask: {error}"))),
        }
        self.settle(h)
    }
}
