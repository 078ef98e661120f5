//! Decisions that the federation has committed, and how deciding stands.

use exo_federation::{
    ConsensusRole, ConsensusView, DecisionOutcome, DecisionPage, DecisionView, VerifiedCommit,
};
use exo_types::{NodeName, PeerId};
use serde::{Deserialize, Serialize};

/// One decision, `exo.commit/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CommitDoc {
    /// Its place in the log.
    pub(crate) index: u64,
    /// The batch it was committed in.
    pub(crate) sequence: u64,
    /// The epoch of voters that committed it.
    pub(crate) epoch: u64,
    /// Who proposed it.
    pub(crate) member: PeerId,
    /// What it is about, for example `statement` or `revoke`.
    pub(crate) kind: String,
    /// What came of it.
    pub(crate) outcome: OutcomeDoc,
    /// While others have to propose the same: voters that have.
    pub(crate) have: Option<usize>,
    /// While others have to propose the same: voters that are needed.
    pub(crate) need: Option<usize>,
    /// When it has no effect: why.
    pub(crate) reason: Option<String>,
    /// Length of its entry in the log.
    pub(crate) bytes: usize,
    /// Whether a quorum has cosigned a log that holds it.
    pub(crate) certified: bool,
    /// From the proposal to the certificate, milliseconds; null where this node did not propose it just now.
    pub(crate) elapsed_ms: Option<f64>,
    /// The name of who proposed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) member_name: Option<NodeName>,
    /// What it says, for people.
    #[serde(default)]
    pub(crate) summary: String,
    /// Its entry in the log, base64; only where one decision is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) entry: Option<String>,
}

/// What came of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OutcomeDoc {
    /// It stands in the log.
    Recorded,
    /// It is in force.
    Effective,
    /// Others have to propose the same.
    Wished,
    /// It stands in the log and has no effect.
    Void,
}

impl OutcomeDoc {
    /// The outcome as it is printed.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Effective => "effective",
            Self::Wished => "wished",
            Self::Void => "void",
        }
    }
}

/// Decisions, `exo.commits/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CommitsDoc {
    /// Entries of the log.
    pub(crate) size: u64,
    /// Of these, entries that a quorum has cosigned.
    pub(crate) certified: u64,
    /// The decisions of this page. Entries that hold no decision are left out.
    pub(crate) commits: Vec<CommitDoc>,
    /// Where the next page begins, in the order asked for; null after the last.
    pub(crate) next: Option<u64>,
}

/// A proposal, or many statements. Exactly one of its fields but `brief`, `reason` and
/// `deadline_ms` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProposeRequest {
    /// A statement's bytes, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) statement: Option<String>,
    /// Statements, base64 each: answered with `exo.commits/1` once all are certified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) statements: Option<Vec<String>>,
    /// Answers a list of statements without the single decisions.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) brief: bool,
    /// Admits the joiner with these words, who waits here, or the one with this id, whom another voter
    /// has proposed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admit: Option<String>,
    /// Removes a member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revoke: Option<String>,
    /// Why it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Gives a member a vote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grant_vote: Option<String>,
    /// Takes a member's vote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) withdraw_vote: Option<String>,
    /// Changes how many voters admit a member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admit_needs: Option<u8>,
    /// Changes the key with which this node cosigns the log.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) rotate_cosigner: bool,
    /// How long to wait for a quorum, milliseconds; ten seconds unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deadline_ms: Option<u64>,
}

/// How deciding stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConsensusDoc {
    /// The epoch of voters.
    pub(crate) epoch: u64,
    /// The view.
    pub(crate) view: u64,
    /// Who leads it; null while a view is being agreed on.
    pub(crate) primary: Option<PeerId>,
    /// This node's part.
    pub(crate) role: RoleDoc,
    /// Why this node is halted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) halted: Option<String>,
    /// How many voters may fail, in whatever way.
    pub(crate) faults_tolerated: usize,
    /// How many voters a decision takes.
    pub(crate) quorum: usize,
    /// Batches carried out here.
    pub(crate) executed: u64,
    /// The last batch that a quorum has cosigned.
    pub(crate) certified: u64,
    /// Entries of the log here.
    pub(crate) size: u64,
    /// The log's root here, hexadecimal.
    pub(crate) root: String,
    /// Who votes, by seat.
    pub(crate) voters: Vec<VoterDoc>,
}

/// A node's part in deciding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleDoc {
    /// It votes.
    Voter,
    /// It has no vote and follows the log.
    Follower,
    /// It lost its journal and votes again from the next epoch on.
    Rejoining,
    /// Its log contradicts the others': it does nothing any more.
    Halted,
}

/// One voter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VoterDoc {
    /// Who.
    pub(crate) peer: PeerId,
    /// Its name; null when it is no member any more.
    pub(crate) name: Option<NodeName>,
    /// Its seat.
    pub(crate) seat: u8,
    /// Whether it is this node.
    pub(crate) you: bool,
    /// Whether it is this node or one with a live session.
    pub(crate) active: bool,
}

/// A proof to check.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct VerifyRequest {
    /// The text of the `.tlog-proof` file.
    pub(crate) proof: String,
    /// The policy's text; this node's own unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    /// The entry, base64; not needed where the proof carries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entry: Option<String>,
}

/// A proof that holds, `exo.verify/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VerifiedDoc {
    /// Always true: a proof that does not hold is an error.
    pub(crate) valid: bool,
    /// The log.
    pub(crate) origin: String,
    /// The entry's place in it.
    pub(crate) index: u64,
    /// Entries that the signers have committed.
    pub(crate) size: u64,
    /// The log's root at that size, hexadecimal.
    pub(crate) root: String,
    /// Who signed, of those that count.
    pub(crate) signers: Vec<String>,
}

impl CommitDoc {
    /// The decision without its entry.
    pub(crate) fn new(view: DecisionView) -> Self {
        let (outcome, have, need, reason) = match view.outcome {
            DecisionOutcome::Recorded => (OutcomeDoc::Recorded, None, None, None),
            DecisionOutcome::Effective => (OutcomeDoc::Effective, None, None, None),
            DecisionOutcome::Wished { have, need } => {
                (OutcomeDoc::Wished, Some(have), Some(need), None)
            }
            DecisionOutcome::Void(why) => (OutcomeDoc::Void, None, None, Some(why.to_string())),
        };
        Self {
            index: view.index,
            sequence: view.sequence.0,
            epoch: view.epoch.0,
            member: view.member,
            kind: view.kind.name().to_owned(),
            outcome,
            have,
            need,
            reason,
            bytes: view.size,
            certified: view.certified,
            elapsed_ms: None,
            member_name: view.member_name,
            summary: view.summary,
            entry: None,
        }
    }

    /// The decision with its entry.
    pub(crate) fn with_entry(mut view: DecisionView) -> Self {
        let entry = view.entry.take().map(|entry| data_encoding::BASE64.encode(&entry));
        Self { entry, ..Self::new(view) }
    }
}

impl CommitsDoc {
    /// A page of the log.
    pub(crate) fn new(page: DecisionPage) -> Self {
        Self {
            size: page.size,
            certified: page.certified,
            commits: page.decisions.into_iter().map(CommitDoc::new).collect(),
            next: page.next,
        }
    }
}

impl From<ConsensusView> for ConsensusDoc {
    fn from(view: ConsensusView) -> Self {
        let (role, halted) = match view.role {
            ConsensusRole::Voter => (RoleDoc::Voter, None),
            ConsensusRole::Follower => (RoleDoc::Follower, None),
            ConsensusRole::Rejoining => (RoleDoc::Rejoining, None),
            ConsensusRole::Halted(reason) => (RoleDoc::Halted, Some(reason)),
        };
        let voters = view.voters.into_iter().map(|voter| VoterDoc {
            peer: voter.peer,
            name: voter.name,
            seat: voter.seat,
            you: voter.you,
            active: voter.active,
        });
        Self {
            epoch: view.epoch.0,
            view: view.view.0,
            primary: view.primary,
            role,
            halted,
            faults_tolerated: view.faults_tolerated,
            quorum: view.quorum,
            executed: view.executed.0,
            certified: view.certified.0,
            size: view.size,
            root: data_encoding::HEXLOWER.encode(&view.root),
            voters: voters.collect(),
        }
    }
}

impl From<&VerifiedCommit> for VerifiedDoc {
    fn from(commit: &VerifiedCommit) -> Self {
        Self {
            valid: true,
            origin: commit.origin().as_str().to_owned(),
            index: commit.index(),
            size: commit.size(),
            root: data_encoding::HEXLOWER.encode(commit.root().as_bytes()),
            signers: commit.signers().iter().map(|signer| signer.as_str().to_owned()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dto::Document;

    #[test]
    fn a_decision_has_its_frozen_shape() {
        let doc = CommitDoc {
            index: 7,
            sequence: 3,
            epoch: 0,
            member: PeerId::new([0; 32]),
            kind: "revoke".into(),
            outcome: OutcomeDoc::Wished,
            have: Some(2),
            need: Some(3),
            reason: None,
            bytes: 99,
            certified: true,
            elapsed_ms: Some(1.5),
            member_name: Some("lab".parse().expect("a name")),
            summary: "remove x".into(),
            entry: None,
        };
        let shape = format!(
            concat!(
                r#"{{"schema":"exo.commit/1","index":7,"sequence":3,"epoch":0,"member":"{}","#,
                r#""kind":"revoke","outcome":"wished","have":2,"need":3,"reason":null,"bytes":99,"#,
                r#""certified":true,"elapsed_ms":1.5,"member_name":"lab","summary":"remove x"}}"#
            ),
            "a".repeat(52)
        );
        let text = serde_json::to_string(&Document::new("exo.commit/1", doc.clone()));
        assert_eq!(text.expect("json"), shape);
        let list = CommitsDoc { size: 9, certified: 8, commits: Vec::new(), next: None };
        assert_eq!(
            serde_json::to_string(&Document::new("exo.commits/1", list)).expect("json"),
            r#"{"schema":"exo.commits/1","size":9,"certified":8,"commits":[],"next":null}"#
        );
        let back: Document<CommitDoc> = serde_json::from_str(&shape).expect("reads");
        assert_eq!(back.body, doc);
    }

    #[test]
    fn a_proposal_says_only_what_is_given() {
        let request = ProposeRequest { grant_vote: Some("lab".into()), ..Default::default() };
        assert_eq!(serde_json::to_string(&request).expect("json"), r#"{"grant_vote":"lab"}"#);
        assert!(serde_json::from_str::<ProposeRequest>(r#"{"grant_votes":"lab"}"#).is_err());
    }
}
