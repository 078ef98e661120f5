//! The asker's side of onion packets: which members a question passes, the packet, and what its reply
//! says. A packet is sent once; after a failure another one goes over another path.

use std::collections::BTreeSet;
use std::time::Duration;

use exo_crypto::{KemEpochKey, Verified};
use exo_onion::{
    Candidate, Hop, PacketClass, PathError, PathRules, ReplyClass, ReplyKeys, WrapError,
    first_relays, select_path, wrap,
};
use exo_types::limits::{ONION_DELAY_MILLIS_MAX, ONION_DOUBT_MILLIS, ONION_FIRST_RELAYS_MAX};
use exo_types::{Now, PeerId, QueryId};

use crate::Node;
use crate::capability::{ONION, RELAY};
use crate::descriptor::MemberDescriptor;
use crate::effect::{CallId, PacketFate, SessionId};
use crate::flow::{CONTROL_TIMEOUT, CallKind};
use crate::question::Question;
use crate::roster::Standing;
use crate::wire::{OnionRequest, Request};

/// A packet of this node's own on its way.
pub(crate) struct Sent {
    /// What opens its reply.
    pub(crate) keys: ReplyKeys,
    /// The members that it passes, the nearest first.
    pub(crate) path: Vec<PeerId>,
    /// When it left.
    pub(crate) at: Duration,
    /// Hash of the question in it.
    pub(crate) question: [u8; 32],
}

/// What to put into a packet.
pub(crate) struct Parcel<'a> {
    /// The question; `None` for cover.
    pub(crate) content: Option<&'a [u8]>,
    pub(crate) reply: ReplyClass,
    /// Mean time for which each member holds it back.
    pub(crate) mix: Duration,
    pub(crate) kind: CallKind,
    pub(crate) timeout: Duration,
}

/// Why no packet left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// A member on the path has no key to seal for.
    #[error("no sealing key of a member on the path is known")]
    NoKey,
    /// No connection with the first one.
    #[error("there is no connection with the first member on the path")]
    NoSession,
    /// It could not be built.
    #[error(transparent)]
    Wrap(WrapError),
}

/// A member as a candidate for paths.
struct Willing {
    peer: PeerId,
    organisation: Option<String>,
    relays: bool,
}

impl Node {
    /// Draws a path to a member: `hops` members, itself the last. Those in `tried`, and those on paths
    /// that failed of late, are left out where others will do.
    pub(crate) fn path_to(
        &mut self,
        now: Now,
        target: PeerId,
        hops: usize,
        tried: &BTreeSet<PeerId>,
    ) -> Result<Vec<PeerId>, PathError> {
        let willing = self.willing(now);
        let candidates: Vec<Candidate<'_>> = willing.iter().map(Willing::candidate).collect();
        let relays = hops.saturating_sub(1);
        let doubted: BTreeSet<PeerId> = self.doubted(now);
        let both: Vec<PeerId> = tried.union(&doubted).copied().collect();
        let doubted: Vec<PeerId> = doubted.into_iter().collect();
        let tried: Vec<PeerId> = tried.iter().copied().collect();
        let mut last = PathError::NoFirst;
        for avoid in [both.as_slice(), doubted.as_slice(), tried.as_slice(), &[]] {
            // The first relays stay unless none of them will do; then one more is drawn.
            for _ in 0..2 {
                let first: Vec<PeerId> =
                    self.first.iter().filter(|peer| self.way_to(peer).is_some()).copied().collect();
                let rules = PathRules {
                    asker: self.me,
                    target,
                    relays,
                    first: &first,
                    avoid,
                    diversity: self.onion.diversity,
                };
                let path = if first.is_empty() && relays > 0 {
                    Err(PathError::NoFirst)
                } else {
                    select_path(&candidates, &rules, &mut *self.entropy)
                };
                match path {
                    Ok(path) => return Ok(path),
                    Err(error) => last = error,
                }
                if last != PathError::NoFirst || !self.draw_first(&candidates, target, avoid) {
                    break;
                }
            }
        }
        Err(last)
    }

    /// Draws another relay to begin paths with, of those with a session; `false` when there is none.
    /// Whoever changes its first relay often will some day begin at one that watches, so those there
    /// are stay and come first, also after a restart.
    fn draw_first(
        &mut self,
        candidates: &[Candidate<'_>],
        target: PeerId,
        avoid: &[PeerId],
    ) -> bool {
        let will_do = |candidate: &&Candidate<'_>| {
            let peer = &candidate.peer;
            *peer == self.me
                || *peer != target
                    && !self.first.contains(peer)
                    && !avoid.contains(peer)
                    && self.way_to(peer).is_some()
        };
        let others: Vec<Candidate<'_>> = candidates.iter().filter(will_do).copied().collect();
        let (me, diversity) = (self.me, self.onion.diversity);
        let Some(drawn) =
            first_relays(&others, me, diversity, 1, &mut *self.entropy).first().copied()
        else {
            return false;
        };
        if self.first.len() >= ONION_FIRST_RELAYS_MAX {
            self.first.pop();
        }
        self.first.push(drawn);
        self.persist();
        true
    }

    /// Active members but this one.
    pub(crate) fn other_members(&self) -> Vec<PeerId> {
        let roster = self.membership.as_ref().map(|membership| &membership.roster);
        let active = roster.into_iter().flat_map(|roster| roster.active());
        active.map(|(peer, _)| *peer).filter(|peer| *peer != self.me).collect()
    }

    /// Members as candidates for paths, this one included, for its organisation's sake.
    fn willing(&self, now: Now) -> Vec<Willing> {
        let Some(membership) = &self.membership else { return Vec::new() };
        let relays = |member: &MemberDescriptor| {
            let usable = |key: &KemEpochKey| key.usable_at(now.wall);
            member.capabilities.0.contains_key(RELAY)
                && member.is_current(now.wall)
                && self.sealing.get(&member.peer).is_none_or(|(version, keys)| {
                    *version != member.version || keys.iter().any(|key| usable(key))
                })
        };
        let others = self.directory.values().filter(|d| {
            membership.roster.standing(&d.peer) == Standing::Active
                && d.capabilities.0.contains_key(ONION)
        });
        let others = others.map(|member| Willing {
            peer: member.peer,
            organisation: member.capabilities.organisation().map(str::to_owned),
            relays: relays(member),
        });
        let me = Willing {
            peer: self.me,
            organisation: self.capabilities.organisation().map(str::to_owned),
            relays: false,
        };
        others.chain([me]).collect()
    }

    /// Builds a packet and sends it to the first member of its path; over which session.
    pub(crate) fn send_packet(
        &mut self,
        now: Now,
        path: Vec<PeerId>,
        parcel: &Parcel<'_>,
    ) -> Result<SessionId, SendError> {
        let way = path.first().and_then(|first| self.way_to(first));
        let (session, token) = way.ok_or(SendError::NoSession)?;
        let keys: Vec<Verified<KemEpochKey>> = path
            .iter()
            .map(|peer| self.sealing_key(now, peer).ok_or(SendError::NoKey))
            .collect::<Result<_, _>>()?;
        let delays: Vec<u16> = keys.iter().map(|_| self.draw_delay(parcel.mix)).collect();
        let hops: Vec<Hop<'_>> =
            keys.iter().zip(delays).map(|(key, delay_millis)| Hop { key, delay_millis }).collect();
        let bytes = parcel.content.map_or(0, <[u8]>::len);
        let request = exo_onion::Request {
            path: &hops,
            content: parcel.content,
            // What fits no class is refused by the packet itself.
            class: PacketClass::for_content(bytes).unwrap_or(PacketClass::Large),
            reply: parcel.reply,
        };
        let (message, keys) =
            wrap(&request, now.wall, &mut *self.entropy).map_err(SendError::Wrap)?;
        let request = Request::Onion(OnionRequest { token, packet: message.into_bytes() });
        let call = self.call(session, parcel.kind, request, parcel.timeout);
        let question = Question::hash(parcel.content.unwrap_or_default());
        self.sent.insert(call, Sent { keys, path, at: now.mono, question });
        self.fate(PacketFate::Sent);
        Ok(session)
    }

    /// A member's key to seal for now. Signatures are checked once for each descriptor.
    fn sealing_key(&mut self, now: Now, peer: &PeerId) -> Option<Verified<KemEpochKey>> {
        let descriptor = match self.directory.get(peer) {
            _ if *peer == self.me => &self.descriptor,
            known => known?,
        };
        let version = descriptor.version;
        if self.sealing.get(peer).is_none_or(|(known, _)| *known != version) {
            let member = self.membership.as_ref()?.roster.member(peer)?;
            let checked = descriptor.kem_keys.iter().filter_map(|key| key.verify(&member.key).ok());
            self.sealing.insert(*peer, (version, checked.collect()));
        }
        let (_, keys) = self.sealing.get(peer)?;
        keys.iter().find(|key| key.usable_at(now.wall)).cloned()
    }

    /// How long a member is to hold a packet back: exponentially distributed, so that how long it has
    /// waited says nothing of how long it will (Loopix, Piotrowska et al. 2017, section 4.1).
    fn draw_delay(&mut self, mean: Duration) -> u16 {
        if mean.is_zero() {
            return 0;
        }
        let millis = self.exponential(mean).as_millis();
        u16::try_from(millis).unwrap_or(u16::MAX).min(ONION_DELAY_MILLIS_MAX)
    }

    /// A time drawn from the exponential distribution.
    pub(crate) fn exponential(&mut self, mean: Duration) -> Duration {
        // In (0, 1], so that its logarithm is finite: at most 37 times the mean.
        let uniform = (u64::from_be_bytes(self.random()) >> 11) as f64 + 1.0;
        let uniform = uniform / (1u64 << 53) as f64;
        mean.mul_f64(-uniform.ln())
    }

    /// Takes note that a packet's reply did not come: others are chosen before these for a while.
    pub(crate) fn doubt(&mut self, now: Now, peers: impl IntoIterator<Item = PeerId>) {
        let until = now.mono + Duration::from_millis(ONION_DOUBT_MILLIS);
        for peer in peers {
            self.doubts.insert(peer, until);
        }
    }

    /// A reply came over these.
    pub(crate) fn trust(&mut self, path: &[PeerId]) {
        for peer in path {
            self.doubts.remove(peer);
        }
    }

    fn doubted(&mut self, now: Now) -> BTreeSet<PeerId> {
        self.doubts.retain(|_, until| *until > now.mono);
        self.doubts.keys().copied().collect()
    }

    /// Asks the relays that a query's packets under way began with whether they are there: when a reply
    /// does not come, those are kept that have been heard from, so that nobody behind them can drive this
    /// node from them. No other member hears from it that this node asks.
    pub(crate) fn probe_first(&mut self, id: QueryId) {
        let of_query = |call: &CallId| {
            let known = self.calls.get(call);
            known.is_some_and(
                |(_, kind)| matches!(kind, CallKind::Question { query, .. } if *query == id),
            )
        };
        let relayed = self.sent.iter().filter(|(call, sent)| sent.path.len() > 1 && of_query(call));
        let first: BTreeSet<PeerId> =
            relayed.filter_map(|(_, sent)| sent.path.first().copied()).collect();
        let ways: Vec<_> = first.iter().filter_map(|peer| self.way_to(peer)).collect();
        for (session, _) in ways {
            self.call(session, CallKind::Probe, Request::Ping, CONTROL_TIMEOUT);
        }
    }
}

impl Willing {
    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            peer: self.peer,
            organisation: self.organisation.as_deref(),
            relays: self.relays,
        }
    }
}
