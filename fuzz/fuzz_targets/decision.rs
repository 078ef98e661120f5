//! A log of any updates under a charter: the first byte of a piece says who proposes, the next two how
//! long its decision is, or that the epoch turns.
#![no_main]

use std::sync::LazyLock;

use exo_consensus::{Blob, Logged, LoggedBatch, Seal, Turn, Update};
use exo_crypto::{CosignerKeypair, PostQuantumKeypair};
use exo_node::decide::{Charter, Decision, Keys, Kind, Outcome, summary};
use exo_node::roster::{Member, RosterBody, Standing};
use exo_types::{Epoch, FederationId, NodeName, PeerId, Sequence, Wire};

static CONSTITUTION: LazyLock<RosterBody> = LazyLock::new(|| {
    let member = |n: u8| Member {
        key: PostQuantumKeypair::from_seed(&[n; 32]).expect("a key").public().clone(),
        cosigner: CosignerKeypair::from_seed(&[n; 32]).expect("a key").public().clone(),
        name: NodeName::new(format!("lab-{n}")).expect("a name"),
        unverified: false,
        since: Epoch(1),
        revoked: None,
    };
    let members: Vec<Member> = (0..6).map(member).collect();
    let mut voters: Vec<PeerId> = members[..5].iter().map(|m| m.key.peer_id()).collect();
    voters.sort_unstable();
    RosterBody { federation: FederationId::new([1; 32]), epoch: Epoch(1), members, voters }
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(decision) = Decision::from_wire(data) {
        let bytes = decision.to_wire().expect("what was read is within bounds");
        assert_eq!(Decision::from_wire(&bytes).as_ref(), Ok(&decision));
        assert!(bytes.len() <= data.len());
        assert!(!decision.summary().chars().any(char::is_control));
    }
    let mut charter = Charter::new(&CONSTITUTION).expect("a constitution");
    let mut changes = 0;
    let mut rest = data;
    let mut leaf = 0;
    while let Some(((who, length), after)) = split(rest) {
        let content = &after[..length.min(after.len())];
        rest = &after[content.len()..];
        let turn = (who == 0xff).then(|| charter.wanted_change(charter.seats())).flatten();
        let batch = batch(&charter, leaf, who, content, turn.map(Turn::Change));
        for decided in charter.carry_out(leaf, &batch) {
            let members = matches!(decided.kind, Kind::Admit | Kind::Revoke | Kind::Rotate);
            changes += u64::from(members && decided.outcome == Outcome::Effective);
            assert!(!summary(&decided.logged.update).is_empty());
        }
        leaf += batch.size();
    }
    assert_eq!(charter.epoch(), Epoch(1 + changes));
    assert!(charter.entitled().all(|peer| charter.standing(peer) == Standing::Active));
    let active = |peer: &PeerId| charter.standing(peer) == Standing::Active;
    let live = charter.seats().iter().filter(|(_, voter)| active(&voter.id)).count();
    assert!(charter.seats().quorum().is_quorum(live));
    assert!(Keys::new(&CONSTITUTION.federation).policy(charter.seats()).is_ok());
});

/// Who proposes, and how many bytes.
fn split(bytes: &[u8]) -> Option<((u8, usize), &[u8])> {
    let ([who, high, low], rest) = bytes.split_first_chunk::<3>()?;
    Some(((*who, usize::from(u16::from_be_bytes([*high, *low]))), rest))
}

fn batch(charter: &Charter, leaf: u64, who: u8, content: &[u8], turn: Option<Turn>) -> LoggedBatch {
    let member = CONSTITUTION.members[usize::from(who) % CONSTITUTION.members.len()].key.peer_id();
    let update = Blob::new(content.to_vec()).ok().map(Update::Data);
    let logged = update.map(|update| Logged { member, number: leaf, index: 0, update });
    let seal = Seal {
        epoch: charter.term(),
        sequence: Sequence(leaf + 1),
        digest: Default::default(),
        turn,
    };
    LoggedBatch { updates: logged.into_iter().collect(), seal }
}
