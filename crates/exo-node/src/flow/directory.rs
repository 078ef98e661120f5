//! Spreading what is newer: the founder's roster and the members' descriptors.

use std::collections::BTreeMap;
use std::sync::Arc;

use exo_consensus::Quorum;
use exo_crypto::{CosignerKey, KemEpochKey, KemKeyring, PostQuantumKeypair, Signed, Verified};
use exo_onion::ReplayCache;
use exo_types::limits::{DESCRIPTOR_LIFE_MILLIS, DESCRIPTORS_PER_ANSWER_MAX};
use exo_types::{Epoch, Now, PeerAddress, PeerId, Timestamp};

use crate::Node;
use crate::capability::CapabilitySet;
use crate::descriptor::MemberDescriptor;
use crate::effect::{CallFailure, Effect, Event, ExchangeId, SessionId};
use crate::flow::{CONTROL_TIMEOUT, CallKind};
use crate::invite::Joiner;
use crate::refusal::Refusal;
use crate::roster::{Roster, RosterBody, Standing};
use crate::state::{Joining, Membership, RosterError};
use crate::wire::{CloseReason, Request, Response, SyncRequest, Synced};

/// Signs this node's descriptor.
pub(crate) fn sign_descriptor(
    keypair: &PostQuantumKeypair,
    addresses: &[PeerAddress],
    kem_keys: &[Signed<KemEpochKey>],
    cosigner: &CosignerKey,
    capabilities: &CapabilitySet,
    version: u64,
    now: Timestamp,
) -> Result<Verified<MemberDescriptor>, String> {
    let descriptor = MemberDescriptor {
        peer: keypair.peer_id(),
        version,
        addresses: addresses.to_vec(),
        capabilities: capabilities.clone(),
        kem_keys: kem_keys.to_vec(),
        cosigner: cosigner.clone(),
        expires: now.plus_millis(DESCRIPTOR_LIFE_MILLIS),
    };
    Signed::sign(descriptor, keypair).map_err(|error| error.to_string())
}

/// A ring's public keys, current and next, as members get them.
pub(crate) fn announce(
    keyring: &KemKeyring,
    keypair: &PostQuantumKeypair,
) -> Result<Vec<Signed<KemEpochKey>>, String> {
    let keys = keyring.announce(keypair).map_err(|error| error.to_string())?;
    Ok(keys.into_iter().map(Verified::into_signed).collect())
}

impl Node {
    /// Gives the node its sealing keys, when these have changed; with `fresh` ones the packets taken
    /// are forgotten. What was sealed for keys that are not in the new ring is not opened any more.
    ///
    /// # Errors
    /// When nothing can be signed.
    pub fn rekey(&mut self, now: Now, keyring: KemKeyring, fresh: bool) -> Result<(), String> {
        self.kem_keys = announce(&keyring, &self.keypair)?;
        self.keyring = keyring;
        if fresh {
            self.replays = ReplayCache::new();
        }
        self.describe(now)
    }

    /// Asks for other sealing keys when the present ones' time is over, or has not come yet because
    /// the clock was set back.
    pub(crate) fn renew_keys(&mut self, now: Now) {
        let fresh = self.replays.is_ahead_of(now.wall);
        if fresh || !self.keyring.is_current(now.wall) {
            self.effect(Effect::Rekey { fresh });
        }
    }

    /// Tells the node that it is reached elsewhere.
    ///
    /// # Errors
    /// When nothing can be signed.
    pub fn relocate(&mut self, now: Now, addresses: Vec<PeerAddress>) -> Result<(), String> {
        self.addresses = addresses;
        self.describe(now)
    }

    /// The onion packets that this node remembers, to be kept for its next start.
    pub fn replays(&self) -> &ReplayCache {
        &self.replays
    }

    fn describe(&mut self, now: Now) -> Result<(), String> {
        self.descriptor = sign_descriptor(
            &self.keypair,
            &self.addresses,
            &self.kem_keys,
            &self.cosigner,
            &self.capabilities,
            now.wall.0.max(self.descriptor.version.saturating_add(1)),
            now.wall,
        )?;
        self.persist();
        self.notify_all();
        Ok(())
    }

    /// Signs the descriptor again before half of its life is over.
    pub(crate) fn refresh_descriptor(&mut self, now: Now) {
        if self.descriptor.expires.millis_since(now.wall) < DESCRIPTOR_LIFE_MILLIS / 2
            && let Err(error) = self.describe(now)
        {
            self.event(Event::StateNotSaved(error));
        }
    }

    /// Takes over a member's descriptor, where it is newer and its member signed it.
    pub(crate) fn learn_descriptor(&mut self, now: Now, signed: &Signed<MemberDescriptor>) -> bool {
        let Ok(claimed) = signed.claimed() else { return false };
        let Some(membership) = &self.membership else { return false };
        let known = self.directory.get(&claimed.peer).map_or(0, |known| known.version);
        let Some(member) = membership.roster.member(&claimed.peer) else { return false };
        if claimed.peer == self.me || member.revoked.is_some() || claimed.version <= known {
            return false;
        }
        match signed.verify(&member.key) {
            Ok(descriptor) if descriptor.is_current(now.wall) => {
                let addresses = descriptor.addresses.clone();
                let known = self.directory.insert(claimed.peer, Arc::new(descriptor));
                if known.is_some_and(|known| known.addresses != addresses) {
                    self.moved(now, claimed.peer);
                }
                true
            }
            _ => false,
        }
    }

    /// Takes over what a member says of itself as a session begins, and keeps it across a restart:
    /// both may start again before they hear of each other by others.
    pub(crate) fn keep_descriptor(&mut self, now: Now, signed: &Signed<MemberDescriptor>) {
        if self.learn_descriptor(now, signed) {
            self.persist();
        }
    }

    /// Asks the peer of a session for what is newer there.
    pub(crate) fn sync_with(&mut self, id: SessionId) {
        let Some(epoch) = self.membership.as_ref().map(|m| m.roster.epoch) else { return };
        let have = self.directory.iter().map(|(peer, d)| (*peer, d.version));
        let have = have.chain([(self.me, self.descriptor.version)]).collect();
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.syncing {
            // What is asked already may have been answered before the news.
            session.sync_again = true;
        } else if session.greeted && !session.closing {
            session.syncing = true;
            let request = Request::Sync(SyncRequest { epoch, have });
            self.call(id, CallKind::Sync, request, CONTROL_TIMEOUT);
        }
    }

    /// Asks every neighbour that this node dialled: one of each two asks.
    pub(crate) fn sync_all(&mut self, _now: Now) {
        let dialled = |id: &&SessionId| self.sessions.get(id).is_some_and(|s| s.dialled);
        let ids: Vec<_> = self.by_peer.values().filter(dialled).copied().collect();
        for id in ids {
            self.sync_with(id);
        }
    }

    /// Tells every neighbour that something changed here.
    pub(crate) fn notify_all(&mut self) {
        let Some(epoch) = self.membership.as_ref().map(|m| m.roster.epoch) else { return };
        let ids: Vec<_> = self.by_peer.values().copied().collect();
        for id in ids {
            self.call(id, CallKind::Notify, Request::Notify { epoch }, CONTROL_TIMEOUT);
        }
    }

    pub(crate) fn notified(&mut self, id: SessionId, exchange: ExchangeId, epoch: Epoch) {
        self.respond(exchange, Response::Done);
        let token = self.sessions.get(&id).and_then(|session| session.there.as_ref());
        if token.is_some_and(|token| token.epoch < epoch) {
            // With its epoch the peer's tokens have changed: a new one is here before it is needed.
            self.ask_token(id);
        }
        if self.membership.as_ref().is_some_and(|m| epoch > m.roster.epoch) {
            self.catch_up(id);
        } else {
            self.sync_with(id);
        }
    }

    /// The peer of a session is in a later epoch: what made it is fetched, and what goes with it.
    pub(crate) fn catch_up(&mut self, id: SessionId) {
        let peer = self.sessions.get(&id).map(|session| session.peer);
        if let Some(peer) = peer.filter(|_| self.is_constituted()) {
            self.effect(Effect::Behind(peer));
        }
        self.sync_with(id);
    }

    pub(crate) fn is_constituted(&self) -> bool {
        self.membership.as_ref().is_some_and(|membership| membership.is_constituted())
    }

    /// The members' decisions have made another roster.
    pub(crate) fn decided(&mut self, now: Now, roster: &Roster) {
        let present = self.membership.as_ref().filter(|m| m.is_constituted());
        let Some(present) = present.filter(|m| roster.epoch >= m.roster.epoch) else { return };
        let next = present.under(roster.clone());
        let following = self.joining == Joining::Following;
        let at = self.effects_len();
        self.enter(now, next, following);
        let admitted = |joiner: &&Joiner| self.is_active(&joiner.key.peer_id());
        let admitted: Vec<Joiner> = self.book.joiners.iter().filter(admitted).cloned().collect();
        for joiner in &admitted {
            let peer = joiner.key.peer_id();
            self.book.take(&peer);
            self.book.spend(&peer);
            self.proposed.remove(&peer);
            self.learn_descriptor(now, &joiner.descriptor);
        }
        if following && self.is_active(&self.me) {
            self.admitted(now);
        }
        self.persist_before(at);
        self.notify_all();
        self.keep_links(now, false);
    }

    /// Answers what is newer here than there.
    pub(crate) fn sync_request(
        &mut self,
        now: Now,
        session: SessionId,
        exchange: ExchangeId,
        sync: SyncRequest,
    ) {
        let Some(membership) = &self.membership else {
            return self.respond(exchange, Response::Refused(Refusal::NotMember));
        };
        let have: BTreeMap<PeerId, u64> = sync.have.into_iter().collect();
        let newer = |d: &&Verified<MemberDescriptor>| {
            d.version > have.get(&d.peer).copied().unwrap_or(0) && d.is_current(now.wall)
        };
        let all = self.directory.values().map(|known| &**known).chain([&self.descriptor]);
        let synced = Synced {
            roster: (membership.founding.epoch > sync.epoch).then(|| membership.signed.clone()),
            descriptors: all
                .filter(newer)
                .take(DESCRIPTORS_PER_ANSWER_MAX)
                .map(|d| d.signed().clone())
                .collect(),
        };
        // Whoever asks may be ahead, and its word of that may have been lost. Descriptors are no such
        // reason: two nodes that each refuse one of the other's would ask each other for ever.
        let behind = sync.epoch > membership.roster.epoch;
        self.respond(exchange, Response::Synced(Box::new(synced)));
        if behind {
            self.catch_up(session);
        }
    }

    /// Takes over what a neighbour has newer.
    pub(crate) fn synced(
        &mut self,
        now: Now,
        id: SessionId,
        result: Result<Response, CallFailure>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.syncing = false;
        let again = std::mem::take(&mut session.sync_again);
        if let Ok(Response::Synced(synced)) = result {
            self.take_over(now, id, *synced);
        }
        if again {
            self.sync_with(id);
        }
    }

    fn take_over(&mut self, now: Now, id: SessionId, synced: Synced) {
        let at = self.effects_len();
        let mut changed = false;
        if let Some(roster) = synced.roster {
            match self.apply_roster(now, roster) {
                Ok(newer) => changed |= newer,
                Err(_) => return self.drop_session(now, id, CloseReason::Refused),
            }
        }
        for descriptor in &synced.descriptors {
            changed |= self.learn_descriptor(now, descriptor);
        }
        if changed {
            self.persist_before(at);
            self.notify_all();
            self.keep_links(now, false);
            if synced.descriptors.len() == DESCRIPTORS_PER_ANSWER_MAX {
                // There may be more than one answer holds.
                self.sync_with(id);
            }
        }
    }

    /// Takes a roster into force, where it is newer than the present one.
    pub(crate) fn apply_roster(
        &mut self,
        now: Now,
        signed: Signed<RosterBody>,
    ) -> Result<bool, RosterError> {
        let Some(present) = &self.membership else { return Ok(false) };
        if present.is_constituted() {
            // The founder decides nothing alone any more.
            return Ok(false);
        }
        let next = Membership::verify(present.genesis.clone(), signed)?;
        if next.roster.epoch <= present.roster.epoch {
            return Ok(false);
        }
        self.enter(now, next, false);
        self.constituted(false);
        Ok(true)
    }

    /// Says that the members decide together from here on, where they do.
    pub(crate) fn constituted(&mut self, again: bool) {
        let membership = self.membership.as_ref().filter(|m| m.is_constituted());
        if let Some(founding) = membership.map(|m| Arc::clone(&m.founding)) {
            self.effect(Effect::Constituted { founding, again });
        }
    }

    /// A member closed a session saying that this node was removed: what says so will not come any
    /// more, for sessions are for members. The founder is believed as long as it decides alone; then
    /// so many voters that one of them is correct.
    pub(crate) fn told_removed(&mut self, by: PeerId) {
        let Some(membership) = &self.membership else { return };
        if matches!(self.joining, Joining::Ended(_)) {
            return;
        }
        let (believed, whom) = if membership.is_constituted() {
            if membership.roster.votes(&by) {
                self.removed_by.insert(by);
            }
            let said = self.removed_by.iter().filter(|peer| membership.roster.votes(peer)).count();
            let voters = membership.roster.voters().len();
            (Quorum::of(voters).is_ok_and(|quorum| quorum.is_weak(said)), "by its members")
        } else {
            (membership.founder == by, "by its founder")
        };
        if believed {
            let reason = format!("removed from the federation {whom}");
            self.joining = Joining::Ended(reason.clone());
            self.persist();
            self.event(Event::Removed(reason));
        }
    }

    /// Makes a verified membership the one in force: removed members lose their sessions at once,
    /// tokens of the epoch before die, new members get links.
    pub(crate) fn enter(&mut self, now: Now, next: Membership, dials_first: bool) {
        let before = self.membership.replace(Arc::new(next));
        let Some(membership) = &self.membership else { return };
        let roster = &membership.roster;
        let was_active = |peer: &PeerId| {
            before.as_ref().is_some_and(|m| m.roster.standing(peer) == Standing::Active)
        };
        let mut events = Vec::new();
        for (peer, member) in roster.all() {
            match (was_active(peer), member.revoked.is_none()) {
                (false, true) if *peer != self.me => events.push(Event::MemberAdmitted(*peer)),
                (true, false) if *peer != self.me => events.push(Event::MemberRevoked(*peer)),
                _ => {}
            }
        }
        let removed = match roster.member(&self.me).map(|member| &member.revoked) {
            Some(Some(reason)) => Some(reason.clone()),
            _ => None,
        };
        let gone: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| {
                removed.is_some() || roster.standing(&session.peer) == Standing::Revoked
            })
            .map(|(id, _)| *id)
            .collect();
        self.directory.retain(|peer, _| roster.standing(peer) == Standing::Active);
        self.sealing.retain(|peer, _| roster.standing(peer) == Standing::Active);
        self.first.retain(|peer| roster.standing(peer) == Standing::Active);
        for event in events {
            self.event(event);
        }
        for id in gone {
            let reason =
                if removed.is_some() { CloseReason::Shutdown } else { CloseReason::Revoked };
            self.cut(id, reason);
        }
        if let Some(reason) = removed {
            self.joining = Joining::Ended(format!("removed from the federation: {reason}"));
            self.event(Event::Removed(reason));
        }
        self.keep_links(now, dials_first);
        self.renew_tokens(now);
    }
}
