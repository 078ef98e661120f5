//! What must hold whatever happens, checked as it happens.

use std::collections::{BTreeMap, BTreeSet};

use exo_types::{Epoch, PeerId, QueryId, Timestamp, TokenId};

use super::exact::{Done, Watched};
use super::host::{Host, Role};
use super::net::{Exchange, HostId, Stream};
use super::world::World;
use super::{Step, Violation};
use crate::flow::CallKind;
use crate::flow::query::{Phase, Query};
use crate::roster::Standing;
use crate::wire::{Request, Response};

/// A token that an honest node signed.
struct Issued {
    by: HostId,
    life: u32,
    holder: PeerId,
    epoch: Epoch,
    issued: Timestamp,
    /// Revoked by a node that had lost count of it: it restarted since, and its clock was set back.
    uncounted: bool,
}

/// What is remembered in order to check.
pub(crate) struct Checker {
    peers: Vec<PeerId>,
    pub(super) liars: BTreeSet<PeerId>,
    pub(super) queries: BTreeMap<(HostId, QueryId), Watched>,
    issued: BTreeMap<TokenId, Issued>,
    /// Who may have been admitted: everybody else must never hear anything.
    invited: BTreeSet<PeerId>,
    /// Highest epoch that each node had in force.
    epochs: Vec<Option<Epoch>>,
    /// Who was told by the founder that it is a member.
    told: BTreeSet<PeerId>,
    /// The query that each node's user asked last, and what it brought.
    pub(super) latest: BTreeMap<HostId, QueryId>,
    pub(super) done: BTreeMap<(HostId, QueryId), Done>,
}

impl Checker {
    pub(crate) fn new(hosts: &[Host]) -> Self {
        Self {
            peers: hosts.iter().map(|host| host.peer).collect(),
            liars: hosts.iter().filter(|h| h.role == Role::Liar).map(|h| h.peer).collect(),
            queries: BTreeMap::new(),
            issued: BTreeMap::new(),
            invited: hosts.first().map(|host| host.peer).into_iter().collect(),
            epochs: vec![None; hosts.len()],
            told: BTreeSet::new(),
            latest: BTreeMap::new(),
            done: BTreeMap::new(),
        }
    }

    /// A node may become a member from now on.
    pub(crate) fn invited(&mut self, h: HostId) {
        self.invited.insert(self.peers[h]);
    }

    /// A node's user has revoked every token of a holder, and that is saved.
    pub(crate) fn tokens_revoked(&mut self, at: &Host, now: std::time::Duration, holder: PeerId) {
        let wall = at.now(now).wall;
        self.issued.retain(|_, issued| {
            let of_these = issued.by == at.id && issued.holder == holder;
            issued.uncounted |= of_these && issued.life != at.life && issued.issued > wall;
            !of_these || issued.uncounted
        });
    }

    /// Whether a peer that shows a token is entitled to an answer in this epoch.
    pub(crate) fn entitles(
        &self,
        at: HostId,
        holder: PeerId,
        token: &TokenId,
        epoch: Epoch,
    ) -> bool {
        self.issued.get(token).is_some_and(|issued| {
            issued.by == at
                && issued.holder == holder
                && (issued.epoch == epoch || issued.uncounted)
        })
    }

    /// A node is gone, and its users' queries with it.
    pub(crate) fn gone(&mut self, h: HostId) {
        self.queries.retain(|(of, _), _| *of != h);
    }
}

impl World {
    /// Before a request leaves: it goes to somebody who may see it, and says nothing that a crash
    /// would take back.
    pub(super) fn check_call(&mut self, h: HostId, stream: Stream, request: &Request) -> Step {
        let Some(to) = self.net.end(stream.conn, stream.asker.other()).map(|end| end.host) else {
            return Ok(());
        };
        let bad = |what: &str| Err(Violation(format!("n{h} asks n{to}: {what}")));
        let disk = self.hosts[h].disk.read()?;
        let epoch = match request {
            Request::Hello(hello) => Some(hello.epoch),
            Request::Notify { epoch } => Some(*epoch),
            Request::Sync(sync) => Some(sync.epoch),
            Request::JoinReveal { .. } if !disk.waits => {
                return bad("its nonce is revealed before it is saved that it waits");
            }
            _ => None,
        };
        if epoch.is_some_and(|epoch| disk.epoch.is_none_or(|saved| epoch > saved)) {
            return bad("it tells an epoch that it has not saved");
        }
        if let Request::Search(search) = request
            && let Some(node) = &self.hosts[h].node
            && let Some((_, CallKind::Search { query, .. })) = node.calls.get(&stream.call)
        {
            self.checker.scored_by(h, *query, search.search.terms.as_ref())?;
        }
        if let Some(node) = &self.hosts[h].node
            && let Some((_, CallKind::Question { query, phase: Phase::Search, .. })) =
                node.calls.get(&stream.call)
            && let Some(terms) = node.queries.get(query).map(Query::terms)
        {
            self.checker.scored_by(h, *query, terms.as_ref())?;
        }
        let for_joining = matches!(
            request,
            Request::JoinStart(_) | Request::JoinReveal { .. } | Request::JoinPoll
        );
        if !for_joining && self.standing_at(h, to) != Standing::Active {
            return bad("it is no member there, and is asked as one");
        }
        Ok(())
    }

    fn standing_at(&self, h: HostId, peer: HostId) -> Standing {
        let node = self.hosts[h].node.as_ref();
        node.map_or(Standing::Unknown, |node| node.standing(&self.hosts[peer].peer))
    }

    /// Before an answer leaves: only members hear anything, by tokens that are theirs, and what is
    /// told is saved.
    pub(super) fn check_respond(
        &mut self,
        h: HostId,
        known: &Exchange,
        response: &Response,
    ) -> Step {
        let Some(to) = self.net.end(known.stream.conn, known.stream.asker).map(|end| end.host)
        else {
            return Ok(());
        };
        let bad = |what: &str| Err(Violation(format!("n{h} answers n{to}: {what}")));
        let (peer, disk) = (self.hosts[to].peer, self.hosts[h].disk.read()?);
        let for_members = matches!(
            response,
            Response::Welcome(_)
                | Response::Token(_)
                | Response::Synced(_)
                | Response::Terms(_)
                | Response::Answer { .. }
                | Response::Onion(_)
                | Response::JoinApproved(_)
        );
        if for_members && self.standing_at(h, to) != Standing::Active {
            return bad("it is no member there, and is answered as one");
        }
        let epoch =
            self.hosts[h].node.as_ref().and_then(|n| Some(n.membership.as_ref()?.roster.epoch));
        let told = match response {
            Response::Welcome(welcome) => {
                self.issued(h, peer, &welcome.token)?;
                Some(welcome.epoch)
            }
            Response::Token(token) => {
                self.issued(h, peer, token)?;
                None
            }
            Response::Synced(synced) if synced.roster.is_some() => epoch,
            Response::JoinApproved(_) => {
                if !disk.active.contains(&peer) {
                    return bad("it is told that it is a member before that is saved");
                }
                self.checker.told.insert(peer);
                epoch
            }
            Response::JoinPending if !disk.joiners.contains(&peer) => {
                return bad("it is told that it waits before that is saved");
            }
            Response::JoinChallenge(_) if !disk.invited.contains(&peer) => {
                return bad("its invite is used before that is saved");
            }
            Response::Answer { .. } | Response::Terms(_) | Response::Onion(_)
                if !known.entitled =>
            {
                return bad("it is answered by a token that is not good");
            }
            _ => None,
        };
        if told.is_some_and(|epoch| disk.epoch.is_none_or(|saved| epoch > saved)) {
            return bad("it is told an epoch that is not saved");
        }
        Ok(())
    }

    fn issued(
        &mut self,
        h: HostId,
        holder: PeerId,
        token: &exo_crypto::Signed<crate::token::FederationToken>,
    ) -> Step {
        let token = token.claimed().map_err(|error| Violation(format!("a token: {error}")))?;
        if (token.holder, token.audience) != (holder, self.hosts[h].peer) {
            return Err(Violation(format!("n{h} gives {holder:?} a token that is not its own")));
        }
        let life = self.hosts[h].life;
        let (epoch, issued) = (token.epoch, token.issued);
        let issued = Issued { by: h, life, holder, epoch, issued, uncounted: false };
        self.checker.issued.insert(token.id, issued);
        self.knowledge.token(token.id);
        Ok(())
    }

    /// When an answer arrives: who was never invited must never hear what is for members.
    pub(super) fn check_heard(&self, h: HostId, stream: Stream, response: &Response) -> Step {
        let from = self.net.end(stream.conn, stream.asker.other()).map(|end| end.host);
        let honest = from.is_some_and(|from| self.hosts[from].honest());
        let secret = matches!(
            response,
            Response::Welcome(_)
                | Response::Token(_)
                | Response::Synced(_)
                | Response::Terms(_)
                | Response::Answer { .. }
                | Response::JoinApproved(_)
        );
        if honest && secret && !self.checker.invited.contains(&self.hosts[h].peer) {
            return Err(Violation(format!("n{h}, never invited, hears {response:?}")));
        }
        Ok(())
    }

    /// After a restart: who was told to be a member still is, unless it was removed since.
    pub(super) fn check_restarted(&mut self, h: HostId) -> Step {
        let disk = self.hosts[h].disk.read()?;
        self.checker.epochs[h] = disk.epoch;
        if h != super::people::FOUNDER {
            return Ok(());
        }
        let kept = |peer: &&PeerId| disk.active.contains(*peer) || disk.revoked.contains(*peer);
        match self.checker.told.iter().find(|peer| !kept(peer)) {
            None => Ok(()),
            Some(peer) => {
                Err(Violation(format!("{peer:?} was told that it is a member, and is not")))
            }
        }
    }

    /// After every step of a node: its maps are bounded, its epoch does not go back, and nobody is
    /// ahead of what the founder has saved.
    pub(super) fn check_load(&mut self, h: HostId) -> Step {
        let Some(node) = &self.hosts[h].node else { return Ok(()) };
        let load = node.load();
        let peers = self.hosts.len();
        let bad = |what: &str| Err(Violation(format!("n{h} holds too many {what}: {load:?}")));
        // As many again may be on their way out.
        if load.sessions > 2 * peers * exo_types::limits::SESSIONS_PER_PEER_MAX {
            return bad("sessions");
        }
        // Every packet of its own or of another waits for an answer, or for its time.
        if load.calls > 64 + load.queries * peers * 2 + load.sessions * 8 + load.packets {
            return bad("calls");
        }
        if load.timers > 2 + 3 * load.queries + load.links + load.sessions + load.packets {
            return bad("timers");
        }
        if load.effects > 0 && !self.hosts[h].broken {
            return bad("effects");
        }
        let epoch = node.membership.as_ref().map(|membership| membership.roster.epoch);
        let before = self.checker.epochs[h];
        // A node that joins anew has none for a while.
        if epoch.is_some() && epoch < before {
            return Err(Violation(format!("n{h} goes back from epoch {before:?} to {epoch:?}")));
        }
        self.checker.epochs[h] = epoch;
        let founder = self.hosts[super::people::FOUNDER].disk.read()?.epoch;
        if h != super::people::FOUNDER && epoch > founder {
            return Err(Violation(format!(
                "n{h} has epoch {epoch:?}, the founder saved {founder:?}"
            )));
        }
        Ok(())
    }
}
