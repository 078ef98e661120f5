//! Decisions: the charter by its rules, on random logs, and in a small federation.

mod network;
mod random;
mod rules;
mod scenes;
mod vectors;

use std::sync::{Arc, OnceLock};

use exo_consensus::{Blob, Change, Logged, LoggedBatch, Seal, Turn, Update};
use exo_crypto::{CosignerKey, CosignerKeypair, IdentityKey, PostQuantumKeypair};
use exo_node::decide::{Admission, Charter, Decided, Decision, Outcome, Rules, Void};
use exo_node::roster::{Member, RosterBody};
use exo_types::{Epoch, FederationId, NodeName, PeerId, Sequence};

pub(crate) const FEDERATION: FederationId = FederationId::new([9; 32]);
/// The epoch of the constitution.
pub(crate) const FOUNDED: Epoch = Epoch(10);

/// A person with keys: identities and cosigners by number, made once.
pub(crate) struct Person {
    pub(crate) keypair: PostQuantumKeypair,
    pub(crate) cosigner: Arc<CosignerKeypair>,
}

pub(crate) fn person(n: usize) -> &'static Person {
    static PEOPLE: OnceLock<Vec<Person>> = OnceLock::new();
    let make = |n: u8| Person {
        keypair: PostQuantumKeypair::from_seed(&[n; 32]).expect("a seed expands"),
        cosigner: Arc::new(CosignerKeypair::from_seed(&[n; 32]).expect("a seed expands")),
    };
    &PEOPLE.get_or_init(|| (0..16).map(make).collect())[n]
}

pub(crate) fn id(n: usize) -> PeerId {
    person(n).keypair.peer_id()
}

pub(crate) fn key(n: usize) -> IdentityKey {
    person(n).keypair.public().clone()
}

/// The first cosigner key of somebody is the one of its number; others are for rotations.
pub(crate) fn cosigner(n: usize) -> CosignerKey {
    person(n).cosigner.public().clone()
}

pub(crate) fn name(n: usize) -> NodeName {
    NodeName::new(format!("lab-{n}")).expect("a name")
}

/// A constitution: so many members, of whom the first are voters.
pub(crate) fn constitution(members: usize, voters: usize) -> RosterBody {
    let member = |n| Member {
        key: key(n),
        cosigner: cosigner(n),
        name: name(n),
        unverified: false,
        since: FOUNDED,
        revoked: None,
    };
    let mut ids: Vec<PeerId> = (0..voters).map(id).collect();
    ids.sort_unstable();
    RosterBody {
        federation: FEDERATION,
        epoch: FOUNDED,
        members: (0..members).map(member).collect(),
        voters: ids,
    }
}

pub(crate) fn admit(n: usize) -> Decision {
    Decision::Admit(Box::new(Admission {
        key: key(n),
        cosigner: cosigner(n),
        name: name(n),
        unverified: false,
    }))
}

pub(crate) fn revoke(n: usize) -> Decision {
    Decision::Revoke { peer: id(n), reason: "left".to_owned() }
}

pub(crate) fn grant(n: usize) -> Decision {
    Decision::GrantVote(id(n))
}

pub(crate) fn withdraw(n: usize) -> Decision {
    Decision::WithdrawVote(id(n))
}

/// The rotation to the cosigner key of that number.
pub(crate) fn rotate(n: usize) -> Decision {
    Decision::Rotate { cosigner: cosigner(n) }
}

pub(crate) fn rules(admit: u8) -> Decision {
    Decision::Rules(Rules { admit })
}

pub(crate) fn wished(have: u8, need: u8) -> Outcome {
    Outcome::Wished { have, need }
}

pub(crate) fn void(why: Void) -> Outcome {
    Outcome::Void(why)
}

/// A charter and the log that made it.
pub(crate) struct Town {
    pub(crate) charter: Charter,
    pub(crate) log: Vec<(u64, LoggedBatch)>,
    size: u64,
}

impl Town {
    pub(crate) fn new(members: usize, voters: usize) -> Self {
        let charter = Charter::new(&constitution(members, voters)).expect("a constitution");
        Self { charter, log: Vec::new(), size: 0 }
    }

    /// Commits updates in one batch.
    pub(crate) fn batch(
        &mut self,
        updates: Vec<(PeerId, Update)>,
        turn: Option<Turn>,
    ) -> Vec<Decided> {
        let number = self.log.len() as u64;
        let logged = |(member, update)| Logged { member, number, index: 0, update };
        let batch = LoggedBatch {
            updates: updates.into_iter().map(logged).collect(),
            seal: Seal {
                epoch: self.charter.term(),
                sequence: Sequence(number + 1),
                digest: Default::default(),
                turn,
            },
        };
        let decided = self.charter.carry_out(self.size, &batch);
        self.log.push((self.size, batch));
        self.size += self.log.last().map_or(0, |(_, batch)| batch.size());
        decided
    }

    /// A member proposes.
    pub(crate) fn says(&mut self, n: usize, decision: &Decision) -> Outcome {
        let update = decision.to_update().expect("within bounds");
        self.batch(vec![(id(n), update)], None)[0].outcome
    }

    /// Members propose the same, one after the other; what becomes of the last proposal.
    pub(crate) fn all_say(&mut self, who: &[usize], decision: &Decision) -> Outcome {
        who.iter().map(|n| self.says(*n, decision)).last().expect("somebody")
    }

    /// Bytes that are no decision.
    pub(crate) fn mumbles(&mut self, n: usize, bytes: &[u8]) -> Outcome {
        let update = Update::Data(Blob::new(bytes.to_vec()).expect("short"));
        self.batch(vec![(id(n), update)], None)[0].outcome
    }

    pub(crate) fn wanted(&self) -> Option<Change> {
        self.charter.wanted_change(self.charter.seats())
    }

    /// The epoch turns as the charter wants.
    pub(crate) fn turn(&mut self) -> Option<Change> {
        let change = self.wanted()?;
        self.batch(Vec::new(), Some(Turn::Change(change.clone())));
        Some(change)
    }

    /// Epochs turn until seats are where they should be.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100 {
            if self.turn().is_none() {
                return;
            }
        }
        panic!("the seats never settle");
    }

    pub(crate) fn seated(&self) -> Vec<PeerId> {
        self.charter.seats().iter().map(|(_, voter)| voter.id).collect()
    }
}

/// The ids of people, in order.
pub(crate) fn ids(people: impl IntoIterator<Item = usize>) -> Vec<PeerId> {
    let mut ids: Vec<PeerId> = people.into_iter().map(id).collect();
    ids.sort_unstable();
    ids
}
