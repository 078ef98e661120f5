//! A host by itself: what it does when a step goes wrong.

use std::sync::{Arc, RwLock, Weak};

use exo_consensus::Input;
use exo_crypto::{CosignerKeypair, PostQuantumKeypair};
use exo_node::decide::Decision;
use exo_node::roster::{Member, RosterBody};
use exo_types::{Epoch, FederationId, NodeName, PeerId};
use tokio::sync::oneshot;

use super::*;
use crate::decisions::ConsensusRole;

const FEDERATION: FederationId = FederationId::new([7; 32]);

fn host(dir: &std::path::Path) -> Host {
    let person = |n: u8| {
        let identity = PostQuantumKeypair::from_seed(&[n; 32]).expect("a seed expands");
        let cosigner = CosignerKeypair::from_seed(&[n; 32]).expect("a seed expands");
        (Arc::new(identity), Arc::new(cosigner))
    };
    let people: Vec<_> = (1..=4).map(person).collect();
    let member =
        |(n, (identity, cosigner)): (usize, &(Arc<PostQuantumKeypair>, Arc<CosignerKeypair>))| {
            Member {
                key: identity.public().clone(),
                cosigner: cosigner.public().clone(),
                name: NodeName::new(format!("lab-{n}")).expect("a name"),
                unverified: false,
                since: Epoch::GENESIS,
                revoked: None,
            }
        };
    let mut voters: Vec<PeerId> = people.iter().map(|(key, _)| key.peer_id()).collect();
    voters.sort_unstable();
    let members = people.iter().enumerate().map(member).collect();
    let constitution =
        RosterBody { federation: FEDERATION, epoch: Epoch::GENESIS, members, voters };
    let (identity, cosigner) = people[0].clone();
    let place = Place {
        dir: dir.to_owned(),
        federation: FEDERATION,
        me: identity.peer_id(),
        constitution: Arc::new(constitution),
        unbegun: Unbegun::at(dir.join("unbegun")),
    };
    let clock = Clock::start();
    let ready = Ready::prepare(&place, Life::First, clock).expect("begins");
    let means = Means {
        clock,
        runtime: Handle::current(),
        identity,
        cosigners: Arc::new(RwLock::new(vec![cosigner])),
        lanes: Arc::default(),
        mailbox: Arc::default(),
        node: Weak::new(),
    };
    Host::run(ready, means).expect("runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_panicked_halts_the_replica_and_its_status_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = host(dir.path());
    assert_eq!(host.shared.status(|_| false).role, ConsensusRole::Voter);
    let (to, settled) = oneshot::channel();
    let statement = Decision::statement(b"one".to_vec()).expect("short");
    host.shared.propose(&statement, Some(to)).expect("is taken");
    let shared = Arc::clone(&host.shared);
    let stepped = std::thread::spawn(move || shared.act(|_, _| panic!("half a step")));
    assert!(stepped.join().is_err());
    assert!(matches!(host.shared.status(|_| false).role, ConsensusRole::Halted(_)));
    assert!(matches!(settled.await, Ok(Settled::Halted(_))));
    // Nothing goes on.
    let view = host.shared.lock().decisions.replica().view();
    host.shared.input(Input::Tick);
    assert_eq!(host.shared.lock().decisions.replica().view(), view);
    let (to, settled) = oneshot::channel();
    host.shared.propose(&statement, Some(to)).expect("is answered");
    assert!(matches!(settled.await, Ok(Settled::Halted(_))));
}
