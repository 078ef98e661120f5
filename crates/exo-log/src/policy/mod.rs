//! Policies (c2sp.org/tlog-policy): whose cosignatures make a checkpoint certain.
//!
//! The policy of a federation has a witness for each voting member, a group of them all with the quorum
//! as its threshold, and no log: the log has no key but its members'. Since a policy without a log names
//! no origin, the origin is the one that the members' key names begin with ([`Policy::origin`]).

mod parse;

use std::collections::BTreeSet;
use std::fmt;

use exo_crypto::CosignerKey;
use exo_types::PeerId;
use exo_types::limits::{LOG_POLICY_BYTES_MAX, LOG_POLICY_GROUPS_MAX, LOG_POLICY_WITNESSES_MAX};

use crate::checkpoint::Origin;
use crate::cosign::{Cosigner, NotACosigner};
use crate::note::{NotAKeyName, VerifierKeyError};

/// Who has to have cosigned a checkpoint. A policy always asks for at least one signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: Part,
}

/// A witness of a policy: its name in the policy, its key, and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    name: PolicyName,
    cosigner: Cosigner,
    url: Option<PolicyName>,
}

impl Witness {
    /// Its name within the policy, which means nothing outside it.
    pub fn name(&self) -> &PolicyName {
        &self.name
    }

    /// The one who signs.
    pub fn cosigner(&self) -> &Cosigner {
        &self.cosigner
    }
}

/// A group of a policy: so many of these.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: PolicyName,
    threshold: Threshold,
    members: Vec<Part>,
}

/// How many of a group's members it needs, as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Threshold {
    Any,
    All,
    Of(usize),
}

/// A witness or a group, by its place in the policy. A group's members are before it, so that a walk
/// through the groups in their order meets no circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Witness(usize),
    Group(usize),
}

/// A word of a policy: opaque bytes, without spaces and control characters. Shown as text as far as it
/// is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName(Vec<u8>);

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// Why bytes are not a policy, and the line, counted from one, where they are not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Longer than the bound.
    #[error("{0} bytes are more than the {LOG_POLICY_BYTES_MAX} of a policy")]
    TooLong(usize),
    /// The last line has no end.
    #[error("the policy's last line has no end")]
    Unterminated,
    /// No quorum line.
    #[error("the policy has no quorum line")]
    NoQuorum,
    /// A line breaks a rule.
    #[error("line {line} of the policy: {problem}")]
    Line {
        /// Which one.
        line: usize,
        /// The rule.
        problem: LineProblem,
    },
}

/// What is wrong with a line of a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// A control character other than tab and newline.
    #[error("a control character")]
    Control,
    /// Not witness, group or quorum.
    #[error("it begins with no word that a policy knows")]
    Keyword,
    /// A log line: logs with keys of their own are not what this crate checks.
    #[error("a log with a key of its own is not supported")]
    Log,
    /// Too few or too many words.
    #[error("too few or too many words")]
    Words,
    /// The key is not a verifier key.
    #[error("{0}")]
    VerifierKey(#[source] VerifierKeyError),
    /// The key is not one of ML-DSA-44 cosignatures.
    #[error("{0}")]
    NotACosigner(#[source] NotACosigner),
    /// The name is taken, or is the predefined `none`.
    #[error("the name {0} is taken")]
    NameTaken(PolicyName),
    /// The name is not defined on a line before.
    #[error("nothing before is named {0}")]
    UnknownName(PolicyName),
    /// Two witnesses with one public key.
    #[error("another witness has the same public key")]
    SameKey,
    /// Two witnesses whose signatures could not be told apart.
    #[error("another witness has the same key name and number")]
    SameKeyId,
    /// The name is a group's member already.
    #[error("{0} is a member of a group already")]
    MemberTwice(PolicyName),
    /// Not `any`, `all` or a number from one to the number of members.
    #[error("a threshold is any, all or a number from 1 to that of the members")]
    Threshold,
    /// A second quorum line.
    #[error("a second quorum line")]
    SecondQuorum,
    /// `quorum none`: nothing would have to be signed by anybody.
    #[error("a quorum of none proves nothing")]
    QuorumNone,
    /// More witnesses or groups than the bound.
    #[error("more than {LOG_POLICY_WITNESSES_MAX} witnesses or {LOG_POLICY_GROUPS_MAX} groups")]
    TooMany,
}

/// Why members do not make a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// No members, or more than a policy has.
    #[error("{0} members where 1 to {LOG_POLICY_WITNESSES_MAX} make a policy")]
    Count(usize),
    /// Not from one to the number of members.
    #[error("{quorum} of {members} members is no quorum")]
    Quorum {
        /// What was asked for.
        quorum: usize,
        /// Members there are.
        members: usize,
    },
    /// The origin cannot be a part of a key's name.
    #[error("{0}")]
    Name(#[source] NotAKeyName),
    /// One member twice.
    #[error("{0} is a member twice")]
    MemberTwice(PeerId),
    /// Two members with one key.
    #[error("{0} has the key of another member")]
    KeyTwice(PeerId),
}

impl Policy {
    /// The policy of a federation's log: so many of its members. The same members give the same policy,
    /// in whatever order they come.
    ///
    /// # Errors
    /// [`MembersError`].
    pub fn for_members(
        origin: &Origin,
        members: &[(PeerId, CosignerKey)],
        quorum: usize,
    ) -> Result<Self, MembersError> {
        if !(1..=LOG_POLICY_WITNESSES_MAX).contains(&members.len()) {
            return Err(MembersError::Count(members.len()));
        }
        if !(1..=members.len()).contains(&quorum) {
            return Err(MembersError::Quorum { quorum, members: members.len() });
        }
        let mut sorted: Vec<_> = members.iter().collect();
        sorted.sort_by_key(|(peer, _)| *peer);
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(MembersError::MemberTwice(twice[0].0));
        }
        let mut keys = BTreeSet::new();
        let mut witnesses = Vec::with_capacity(sorted.len());
        for (peer, key) in sorted {
            if !keys.insert(key.as_bytes()) {
                return Err(MembersError::KeyTwice(*peer));
            }
            let name = origin.member(peer).map_err(MembersError::Name)?;
            let cosigner = Cosigner::new(name, key.clone());
            let name = PolicyName(peer.to_string().into_bytes());
            witnesses.push(Witness { name, cosigner, url: None });
        }
        let group = Group {
            name: PolicyName(MEMBERS_GROUP.to_vec()),
            threshold: Threshold::Of(quorum),
            members: (0..witnesses.len()).map(Part::Witness).collect(),
        };
        Ok(Self { witnesses, groups: vec![group], quorum: Part::Group(0) })
    }

    /// The witnesses, in their order.
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// The log of which all witnesses are members by their key names; `None` when they are not members,
    /// or of different logs.
    pub fn origin(&self) -> Option<Origin> {
        let mut origins =
            self.witnesses.iter().map(|witness| Origin::of_member(witness.cosigner.name()));
        let (first, _) = origins.next()??;
        origins.all(|origin| origin.is_some_and(|(origin, _)| origin == first)).then_some(first)
    }

    /// Whether a checkpoint is certain that these witnesses have cosigned, by their places in
    /// [`witnesses`](Self::witnesses).
    pub fn is_met_by(&self, signed: &BTreeSet<usize>) -> bool {
        let mut met = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            let count =
                group.members.iter().filter(|part| has_signed(**part, signed, &met)).count();
            met.push(count >= group.needs());
        }
        has_signed(self.quorum, signed, &met)
    }

    /// The smallest number of witnesses that can meet the policy.
    pub fn signatures_needed(&self) -> usize {
        let mut needs: Vec<usize> = Vec::with_capacity(self.groups.len());
        let of = |part: &Part, needs: &[usize]| match part {
            Part::Witness(_) => 1,
            Part::Group(group) => needs[*group],
        };
        for group in &self.groups {
            // No name is in two groups, so the cheapest members are the cheapest together.
            let mut parts: Vec<usize> = group.members.iter().map(|part| of(part, &needs)).collect();
            parts.sort_unstable();
            needs.push(parts.iter().take(group.needs()).sum());
        }
        of(&self.quorum, &needs)
    }

    /// The policy as a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut line = |words: &[&[u8]]| {
            bytes.extend_from_slice(&words.join(&b' '));
            bytes.push(b'\n');
        };
        for witness in &self.witnesses {
            let key = witness.cosigner.verifier_key().to_string();
            let mut words = vec![b"witness".as_slice(), &witness.name.0, key.as_bytes()];
            words.extend(witness.url.as_ref().map(|url| url.0.as_slice()));
            line(&words);
        }
        for group in &self.groups {
            let threshold = group.threshold.to_string();
            let mut words = vec![b"group".as_slice(), &group.name.0, threshold.as_bytes()];
            words.extend(group.members.iter().map(|part| self.name(*part).0.as_slice()));
            line(&words);
        }
        line(&[b"quorum", &self.name(self.quorum).0]);
        bytes
    }

    fn name(&self, part: Part) -> &PolicyName {
        match part {
            Part::Witness(at) => &self.witnesses[at].name,
            Part::Group(at) => &self.groups[at].name,
        }
    }
}

impl Group {
    fn needs(&self) -> usize {
        match self.threshold {
            Threshold::Any => 1,
            Threshold::All => self.members.len(),
            Threshold::Of(count) => count,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::All => f.write_str("all"),
            Self::Of(count) => write!(f, "{count}"),
        }
    }
}

fn has_signed(part: Part, signed: &BTreeSet<usize>, groups_met: &[bool]) -> bool {
    match part {
        Part::Witness(at) => signed.contains(&at),
        Part::Group(at) => groups_met[at],
    }
}

/// Name of the group of all members.
const MEMBERS_GROUP: &[u8] = b"members";
