//! The verbs of membership: found, invite, approve, remove. The founder carries them out itself as long
//! as it decides alone; then they say what is to be proposed.

use std::net::SocketAddr;

use exo_crypto::Signed;
use exo_types::limits::{
    INVITE_LIFE_MILLIS_MAX, MEMBERS_MAX, REASON_BYTES_MAX, TOKEN_LIFE_MILLIS, VOTERS_MIN,
};
use exo_types::{Epoch, FederationId, Now, PeerId, Timestamp};

use crate::Node;
use crate::decide::{Admission, Decision};
use crate::effect::Event;
use crate::invite::{Invite, Joiner};
use crate::roster::{Genesis, Member, RosterBody, Standing};
use crate::state::{Joining, Membership};
use crate::ticket::{TICKET_ADDRESSES_MAX, Ticket};

/// A change of membership: made, or still to be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// Whose.
    pub peer: PeerId,
    /// What this node is to propose for it; `None` when it is made.
    pub decision: Option<Decision>,
}

/// Why a verb of membership was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// The node belongs to no federation.
    #[error("this node belongs to no federation yet")]
    NotAMember,
    /// The node belongs to a federation, or waits to join one.
    #[error("this node belongs to a federation already, or waits to join one")]
    AlreadyMember,
    /// Another node founded the federation, and it is too small yet to decide together.
    #[error("{0} founded this federation and alone admits and removes members until it has {1}")]
    NotFounder(String, usize),
    /// The members decide together, and this node has no vote.
    #[error("this node has no vote: members with one admit and remove")]
    NoVote,
    /// A bound is reached.
    #[error("there are too many {0}")]
    TooMany(&'static str),
    /// No invite has that id.
    #[error("no open invite has the id {0:?}")]
    NoSuchInvite(String),
    /// No joiner waits with those words.
    #[error("no joiner waits with the words {0:?}")]
    NoSuchWords(String),
    /// No such peer.
    #[error("{0} is neither a member nor a waiting joiner")]
    NoSuchPeer(String),
    /// The name is taken by now.
    #[error("an active member has the name {0:?}")]
    NameTaken(String),
    /// The joiner announces the cosigner key of a member, present or past.
    #[error("the joiner announces the cosigner key of another member")]
    CosignerTaken,
    /// An argument is out of bounds.
    #[error("{0}")]
    Argument(String),
    /// The roster could not be signed.
    #[error("the roster could not be signed: {0}")]
    Signing(String),
}

impl Node {
    /// Founds a federation with this node as its only member.
    pub fn found(&mut self, now: Now) -> Result<FederationId, MembershipError> {
        if self.membership.is_some() || matches!(self.joining, Joining::Waiting { .. }) {
            return Err(MembershipError::AlreadyMember);
        }
        let genesis = Genesis {
            founder: self.keypair.public().clone(),
            created: now.wall,
            nonce: self.random(),
        };
        let founder = Member {
            key: self.keypair.public().clone(),
            cosigner: self.cosigner.clone(),
            name: self.name.clone(),
            unverified: false,
            since: Epoch::GENESIS,
            revoked: None,
        };
        let id = genesis.id();
        self.joining = Joining::Idle;
        self.sign_roster(now, genesis, Epoch::GENESIS, vec![founder])?;
        Ok(id)
    }

    /// Opens an invite and gives its ticket, which is not kept.
    pub fn invite(
        &mut self,
        now: Now,
        life_millis: u64,
        auto_approve: bool,
        addresses: &[SocketAddr],
    ) -> Result<(Invite, Ticket), MembershipError> {
        if self.membership.is_none() {
            self.found(now)?;
        }
        let federation = self.as_admitter()?.id;
        if !(1000..=INVITE_LIFE_MILLIS_MAX).contains(&life_millis) {
            return Err(MembershipError::Argument(format!(
                "an invite lives 1 s to {} days",
                INVITE_LIFE_MILLIS_MAX / 86_400_000
            )));
        }
        if addresses.is_empty() {
            return Err(MembershipError::Argument("no address to put on the ticket".to_owned()));
        }
        let secret = self.random();
        // A ticket carries whole seconds.
        let expires = Timestamp((now.wall.0 + life_millis).div_ceil(1000) * 1000);
        let invite = self
            .book
            .open(&secret, expires, auto_approve, now.wall)
            .ok_or(MembershipError::TooMany("open invites"))?
            .clone();
        let ticket = Ticket {
            federation: Ticket::tag(&federation),
            inviter: self.me,
            secret,
            expires,
            addresses: addresses.iter().take(TICKET_ADDRESSES_MAX).copied().collect(),
        };
        self.persist();
        Ok((invite, ticket))
    }

    /// Closes an invite.
    pub fn revoke_invite(&mut self, id: &str) -> Result<(), MembershipError> {
        if !self.book.revoke(id) {
            return Err(MembershipError::NoSuchInvite(id.to_owned()));
        }
        self.persist();
        Ok(())
    }

    /// Admits the joiner whose words these are, or says what is to be decided for that.
    pub fn approve(&mut self, now: Now, words: &str) -> Result<MemberChange, MembershipError> {
        let peer = self.joiner_of(words)?;
        self.admit(now, &peer, false)
    }

    /// Who waits with these words.
    pub fn joiner_of(&self, words: &str) -> Result<PeerId, MembershipError> {
        self.as_admitter()?;
        let said = words.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ");
        let fits = |joiner: &&Joiner| joiner.words == said && !joiner.rejected;
        let joiner = self.book.joiners.iter().find(fits);
        let peer = joiner.map(|joiner| joiner.key.peer_id());
        peer.ok_or(MembershipError::NoSuchWords(said))
    }

    /// Turns a joiner away.
    pub fn reject(&mut self, peer: &PeerId) -> Result<(), MembershipError> {
        let joiner = self.book.joiners.iter_mut().find(|j| j.key.peer_id() == *peer);
        let joiner = joiner.ok_or_else(|| MembershipError::NoSuchPeer(peer.to_string()))?;
        joiner.rejected = true;
        self.book.spend(peer);
        self.persist();
        Ok(())
    }

    /// Removes a member, or says what is to be decided for that: its sessions close at once and its
    /// tokens die with the epoch.
    pub fn revoke(
        &mut self,
        now: Now,
        peer: &PeerId,
        reason: &str,
    ) -> Result<MemberChange, MembershipError> {
        let membership = self.as_admitter()?;
        if *peer == self.me {
            return Err(MembershipError::Argument("a node cannot remove itself".to_owned()));
        }
        if reason.len() > REASON_BYTES_MAX {
            return Err(MembershipError::Argument(format!(
                "a reason has at most {REASON_BYTES_MAX} bytes"
            )));
        }
        if membership.roster.standing(peer) != Standing::Active {
            return Err(MembershipError::NoSuchPeer(peer.to_string()));
        }
        if membership.is_constituted() {
            let decision = Decision::Revoke { peer: *peer, reason: reason.to_owned() };
            return Ok(MemberChange { peer: *peer, decision: Some(decision) });
        }
        self.change_roster(now, |members, epoch| {
            for member in members.iter_mut().filter(|member| member.key.peer_id() == *peer) {
                member.revoked = Some(reason.to_owned());
                member.since = epoch;
            }
        })?;
        Ok(MemberChange { peer: *peer, decision: None })
    }

    /// Makes every token of a member worthless here at once; it gets new ones as long as it is a
    /// member.
    pub fn revoke_tokens(&mut self, now: Now, holder: &PeerId) {
        // Tokens issued within this very millisecond die too. What is older than a token's life need
        // not be remembered.
        self.tokens_not_before.retain(|_, at| now.wall.millis_since(*at) <= TOKEN_LIFE_MILLIS);
        if self.standing(holder) == Standing::Active {
            // Nor does a clock that was set back leave any good.
            let latest = now.wall.max(self.token_issued_last);
            self.tokens_not_before.insert(*holder, latest.plus_millis(1));
            self.persist();
        }
    }

    /// Admits a waiting joiner, or says what is to be decided for that.
    pub(crate) fn admit(
        &mut self,
        now: Now,
        peer: &PeerId,
        unverified: bool,
    ) -> Result<MemberChange, MembershipError> {
        let membership = self.as_admitter()?;
        let joiner = self.book.joiner(peer).filter(|joiner| !joiner.rejected).cloned();
        let joiner = joiner.ok_or_else(|| MembershipError::NoSuchPeer(peer.to_string()))?;
        if membership.roster.name_taken(&joiner.name, peer) {
            return Err(MembershipError::NameTaken(joiner.name.to_string()));
        }
        if membership.roster.all().count() >= MEMBERS_MAX {
            return Err(MembershipError::TooMany("members"));
        }
        // It was checked when it came.
        let described = joiner.descriptor.claimed();
        let described = described.map_err(|_| MembershipError::NoSuchPeer(peer.to_string()))?;
        let (key, cosigner) = (joiner.key.clone(), described.cosigner.clone());
        // Two of one key could never vote together: the policy of an epoch names each once.
        if membership.roster.all().any(|(other, m)| m.cosigner == cosigner && other != peer) {
            return Err(MembershipError::CosignerTaken);
        }
        if membership.is_constituted() {
            let admission = Admission { key, cosigner, name: joiner.name, unverified };
            let decision = Some(Decision::Admit(Box::new(admission)));
            return Ok(MemberChange { peer: *peer, decision });
        }
        self.book.take(peer);
        self.book.spend(peer);
        self.change_roster(now, |members, epoch| {
            members.retain(|member| member.key != key);
            members.push(Member {
                key,
                cosigner,
                name: joiner.name.clone(),
                unverified,
                since: epoch,
                revoked: None,
            });
        })?;
        self.learn_descriptor(now, &joiner.descriptor);
        self.persist();
        self.keep_links(now, false);
        Ok(MemberChange { peer: *peer, decision: None })
    }

    /// Who admits and removes: the founder, and once the members decide together whoever has a vote.
    pub(crate) fn as_admitter(&self) -> Result<&Membership, MembershipError> {
        let membership = self.membership.as_ref().ok_or(MembershipError::NotAMember)?;
        if !membership.is_constituted() {
            return self.as_founder();
        }
        if membership.roster.votes(&self.me) {
            Ok(membership)
        } else {
            Err(MembershipError::NoVote)
        }
    }

    fn as_founder(&self) -> Result<&Membership, MembershipError> {
        let membership = self.membership.as_ref().ok_or(MembershipError::NotAMember)?;
        if membership.founder == self.me {
            return Ok(membership);
        }
        let name = membership.roster.member(&membership.founder).map(|m| m.name.to_string());
        let name = name.unwrap_or_else(|| membership.founder.short());
        Err(MembershipError::NotFounder(name, VOTERS_MIN))
    }

    fn change_roster(
        &mut self,
        now: Now,
        change: impl FnOnce(&mut Vec<Member>, Epoch),
    ) -> Result<(), MembershipError> {
        let membership = self.as_founder()?;
        let genesis = membership.genesis.clone();
        let epoch = membership.roster.epoch.next();
        let epoch = epoch.ok_or(MembershipError::TooMany("membership epochs"))?;
        let mut members: Vec<Member> = membership.roster.all().map(|(_, m)| m.clone()).collect();
        change(&mut members, epoch);
        self.sign_roster(now, genesis, epoch, members)
    }

    fn sign_roster(
        &mut self,
        now: Now,
        genesis: Genesis,
        epoch: Epoch,
        members: Vec<Member>,
    ) -> Result<(), MembershipError> {
        let signing = |error: &dyn std::fmt::Display| MembershipError::Signing(error.to_string());
        // The first roster of enough members is the last one that their founder signs.
        let active = members.iter().filter(|member| member.revoked.is_none());
        let mut voters: Vec<PeerId> = active.map(|member| member.key.peer_id()).collect();
        voters.sort_unstable();
        if voters.len() < self.founding_voters {
            voters.clear();
        }
        let body = RosterBody { federation: genesis.id(), epoch, members, voters };
        let signed = Signed::sign(body, &self.keypair).map_err(|error| signing(&error))?;
        let next =
            Membership::verify(genesis, signed.into_signed()).map_err(|error| signing(&error))?;
        // Durable first: what a member was told is never taken back by a crash.
        let at = self.effects_len();
        self.enter(now, next, false);
        self.constituted(false);
        self.persist_before(at);
        self.event(Event::RosterSigned(epoch));
        self.notify_all();
        Ok(())
    }
}
