//! Deciding together: a founder and three others are four voters.

use std::time::Duration;

use exo_federation::{
    ConsensusRole, DecisionEvent, DecisionKind, DecisionOutcome, ErrorCode, FederatedMesh,
    InviteOptions, PeerState, Proposal, StateUpdate, byzantine_commit, join_federation,
};
use exo_types::limits::SUBMISSIONS_TOGETHER_MAX;
use exo_types::{Epoch, PeerId};

use super::nodes::{Federation, Home, all_active, invite, state, stop, until};

const DEADLINE: Duration = Duration::from_secs(15);

fn statement(text: &str) -> Proposal {
    Proposal::Statement(text.as_bytes().to_vec())
}

async fn commit(node: &FederatedMesh, text: &str) -> u64 {
    let view = node.propose(statement(text), DEADLINE).await.expect("is committed");
    assert_eq!((view.kind, view.outcome), (DecisionKind::Statement, DecisionOutcome::Recorded));
    assert!(view.certified);
    view.index
}

/// What the node has of the log, once it has all that is certified at `other`.
async fn caught_up(node: &FederatedMesh, size: u64) {
    until("the node has the log", || {
        let there = node.decisions_status()?;
        (there.size >= size).then_some(())
    })
    .await;
}

fn role(node: &FederatedMesh) -> Option<ConsensusRole> {
    node.decisions_status().map(|view| view.role)
}

fn size(node: &FederatedMesh) -> u64 {
    node.decisions_status().expect("decides").size
}

async fn four() -> Federation {
    let federation = Federation::deciding(4).await;
    for node in &federation.nodes {
        until("every member decides with the others", || {
            let view = node.decisions_status()?;
            let all = view.voters.iter().all(|voter| voter.active);
            (all && view.role == ConsensusRole::Voter).then_some(())
        })
        .await;
    }
    federation
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_voter_commits_is_proved_to_whoever_has_the_policy() {
    let federation = four().await;
    let [one, two, ..] = federation.nodes.as_slice() else { panic!("four nodes") };
    let mut watch = two.decisions_watch().expect("decides");
    let update = b"moths navigate by the moon".to_vec();
    let proof = byzantine_commit(one, StateUpdate(update.clone())).await.expect("commits");
    let policy = two.decision_policy(None).await.expect("has a policy");
    let verified = proof.verify(&policy, None).expect("holds");
    assert!(verified.signers().len() >= 3);
    let file = proof.to_bytes();
    let again = exo_federation::CommitProof::from_bytes(&file).expect("reads");
    again.verify(&policy, None).expect("holds as a file");
    let entry = proof.entry().expect("carries it").to_vec();
    assert!(entry.windows(update.len()).any(|part| part == update));
    assert!(proof.verify(&policy, Some(b"another")).is_err());

    // Everybody else has the same at the same place.
    let index = proof.index();
    for node in &federation.nodes {
        caught_up(node, index + 1).await;
        let view = node.decision(index).await.expect("is there");
        assert_eq!(view.entry.as_deref(), Some(entry.as_slice()));
        assert_eq!((view.member, view.size), (one.peer_id(), update.len()));
    }
    let seen = tokio::time::timeout(DEADLINE, watch.next()).await.expect("in time");
    match seen.expect("goes on") {
        DecisionEvent::Decided(view) => assert_eq!((view.index, view.certified), (index, true)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_updates_of_all_voters_at_once_are_each_committed_once_in_one_order() {
    let federation = four().await;
    let mut commits = Vec::new();
    for round in 0..25 {
        for (at, node) in federation.nodes.iter().enumerate() {
            let node = node.clone();
            commits
                .push(tokio::spawn(async move { commit(&node, &format!("{at}-{round}")).await }));
        }
    }
    let mut indices = Vec::new();
    for commit in commits {
        indices.push(commit.await.expect("is committed"));
    }
    indices.sort_unstable();
    let count = indices.len();
    indices.dedup();
    assert_eq!(indices.len(), count, "each has a place of its own");
    let end = indices.last().expect("some") + 1;
    let mut orders = Vec::new();
    for node in &federation.nodes {
        caught_up(node, end).await;
        let mut order = Vec::new();
        let mut from = 0;
        loop {
            let page = node.decisions(from, 7, false).await.expect("lists");
            order.extend(page.decisions.into_iter().map(|view| (view.index, view.member)));
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        let newest = node.decisions(u64::MAX, 1000, true).await.expect("lists").decisions;
        let reversed: Vec<(u64, PeerId)> =
            newest.iter().rev().map(|view| (view.index, view.member)).collect();
        assert_eq!(reversed, order, "both ways are the same");
        orders.push(order);
    }
    assert_eq!(orders[0].len(), count);
    assert!(orders.iter().all(|order| *order == orders[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_and_places_that_are_not_there_are_refused() {
    let federation = four().await;
    let node = federation.founder();
    for bytes in [Vec::new(), vec![1; 16 * 1024]] {
        let error = node.byzantine_commit(StateUpdate(bytes)).await.expect_err("out of bounds");
        assert_eq!(error.code, ErrorCode::UpdateTooLong);
    }
    let index = commit(node, "one").await;
    for nowhere in [index + 1, index + 100, u64::MAX] {
        let error = node.decision(nowhere).await.expect_err("a seal, or nothing");
        assert_eq!(error.code, ErrorCode::DecisionNotFound, "{nowhere}");
    }
    let error = node.decision_policy(Some(Epoch(7))).await.expect_err("no such epoch");
    assert_eq!(error.code, ErrorCode::DecisionNotFound);
    let note = node.log_checkpoint().await.expect("has a head");
    assert!(note.starts_with(b"exo-federation/"));
    let tile = node.log_tile("tile/entries/000.p/1").await.expect("has entries");
    assert!(tile.windows(3).any(|part| part == b"one"));
    assert!(node.log_tile("tile/9/000").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_there_are_four_members_nothing_is_decided_together() {
    let federation = Federation::deciding(3).await;
    let error = federation.founder().byzantine_commit(StateUpdate(vec![1])).await;
    assert_eq!(error.expect_err("too few").code, ErrorCode::InsufficientPeers);
    assert_eq!(federation.founder().decisions_status(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifth_member_joins_by_any_voter_follows_the_log_and_is_removed_by_its_sponsor() {
    let federation = four().await;
    let before = commit(federation.founder(), "before").await;
    let sponsor = &federation.nodes[2];
    let home = Home::deciding("fifth");
    let fifth = home.open().await;
    let ticket = invite(sponsor, true);
    join_federation(&fifth, &ticket, DEADLINE).await.expect("joins");
    let mut all = federation.nodes.clone();
    all.push(fifth.clone());
    all_active(&all).await;
    assert_eq!(role(&fifth), Some(ConsensusRole::Follower));
    let after = commit(federation.founder(), "after").await;
    caught_up(&fifth, after + 1).await;
    for index in [before, after] {
        let ours = federation.founder().decision(index).await.expect("is there");
        assert_eq!(fifth.decision(index).await.expect("is there").entry, ours.entry);
    }
    let error = fifth.byzantine_commit(StateUpdate(vec![1])).await.expect_err("has no vote");
    assert_eq!(error.code, ErrorCode::NoVote);

    let revoke = Proposal::Revoke { peer: fifth.peer_id(), reason: "gone".to_owned() };
    let view = sponsor.propose(revoke, DEADLINE).await.expect("is decided");
    assert_eq!(view.outcome, DecisionOutcome::Effective);
    for node in &federation.nodes {
        until("its sessions are closed", || {
            (state(node, &fifth.peer_id()) == Some(PeerState::Revoked)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_gets_a_vote_when_a_quorum_says_so_and_the_epoch_is_another_then() {
    let federation = four().await;
    let home = Home::deciding("fifth");
    let fifth = home.open().await;
    let options = InviteOptions { life: Duration::from_secs(60), auto_approve: true };
    let ticket = federation.nodes[1].invite_new(options).expect("invites").ticket;
    join_federation(&fifth, &ticket, DEADLINE).await.expect("joins");
    let grant = Proposal::GrantVote(fifth.peer_id());
    for (have, node) in (1..).zip(&federation.nodes[..3]) {
        let view = node.propose(grant.clone(), DEADLINE).await.expect("is committed");
        let outcome = match have {
            3 => DecisionOutcome::Effective,
            have => DecisionOutcome::Wished { have, need: 3 },
        };
        assert_eq!(view.outcome, outcome);
    }
    until("it votes", || (role(&fifth)? == ConsensusRole::Voter).then_some(())).await;
    let proof = fifth.byzantine_commit(StateUpdate(b"mine".to_vec())).await.expect("commits");
    let old = fifth.decision_policy(Some(Epoch(0))).await.expect("of the first epoch");
    let new = fifth.decision_policy(None).await.expect("of this epoch");
    assert_ne!(old, new);
    proof.verify(&new, None).expect("holds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_restarts_has_everything_and_goes_on() {
    let mut federation = four().await;
    let index = commit(&federation.nodes[3], "kept").await;
    let kept = federation.nodes[3].decision(index).await.expect("is there");
    stop(federation.nodes.pop().expect("four")).await;
    let while_away = commit(&federation.nodes[0], "while it was away").await;
    let again = federation.homes[3].open().await;
    assert_eq!(again.decision(index).await.expect("is there"), kept);
    caught_up(&again, while_away + 1).await;
    federation.nodes.push(again);
    all_active(&federation.nodes).await;
    assert_eq!(role(&federation.nodes[3]), Some(ConsensusRole::Voter));
    commit(&federation.nodes[3], "after").await;

    // All at once: what was committed is there before anybody is asked.
    let end = size(&federation.nodes[0]);
    let nodes = std::mem::take(&mut federation.nodes);
    for (node, home) in nodes.iter().zip(&federation.homes) {
        home.listen_at(node.mesh_listen());
    }
    for node in nodes {
        stop(node).await;
    }
    for home in &federation.homes {
        federation.nodes.push(home.open().await);
    }
    assert!(federation.nodes.iter().any(|node| size(node) >= end));
    all_active(&federation.nodes).await;
    commit(&federation.nodes[1], "after all").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_lost_its_journal_votes_again_only_in_a_later_epoch() {
    let mut federation = four().await;
    let index = commit(&federation.nodes[3], "kept").await;
    let epoch = federation.nodes[0].decisions_status().expect("decides").epoch;
    stop(federation.nodes.pop().expect("four")).await;
    std::fs::remove_dir_all(federation.homes[3].path().join("decisions")).expect("is lost");
    let again = federation.homes[3].open().await;
    assert_eq!(role(&again), Some(ConsensusRole::Rejoining));
    federation.nodes.push(again);
    all_active(&federation.nodes).await;
    let again = &federation.nodes[3];
    caught_up(again, index + 1).await;
    let began = until("it votes", || {
        let view = again.decisions_status()?;
        (view.role == ConsensusRole::Voter).then_some(view.epoch)
    })
    .await;
    assert!(began > epoch);
    commit(again, "again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nothing_is_claimed() {
    let mut federation = four().await;
    let index = commit(&federation.nodes[0], "one").await;
    while federation.nodes.len() > 1 {
        stop(federation.nodes.pop().expect("some")).await;
    }
    let node = &federation.nodes[0];
    let error = node.propose(statement("two"), Duration::from_secs(1)).await.expect_err("alone");
    assert_eq!(error.code, ErrorCode::NoQuorum);
    assert!(node.decisions(index + 1, 10, false).await.expect("lists").decisions.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_voter_may_be_away_even_the_one_that_leads() {
    let mut federation = four().await;
    let primary = federation.nodes[0].decisions_status().expect("decides").primary;
    let at = federation.nodes.iter().position(|node| Some(node.peer_id()) == primary);
    stop(federation.nodes.remove(at.expect("leads"))).await;
    commit(&federation.nodes[0], "without its leader").await;
    let view = federation.nodes[0].decisions_status().expect("decides");
    assert!(view.view.0 > 0 && view.primary != primary);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cosigner_key_is_changed_and_the_old_one_signs_no_more() {
    let federation = four().await;
    let node = &federation.nodes[1];
    let old = node.decision_policy(None).await.expect("has a policy");
    let early = commit(node, "early").await;
    for _ in 0..2 {
        let before = node.decisions_status().expect("decides").epoch;
        let view = node.propose(Proposal::RotateCosigner, DEADLINE).await.expect("is decided");
        assert_eq!(view.outcome, DecisionOutcome::Effective);
        until("the seat has the key", || (node.decisions_status()?.epoch > before).then_some(()))
            .await;
        let proof = node.byzantine_commit(StateUpdate(b"new key".to_vec())).await.expect("commits");
        let new = node.decision_policy(None).await.expect("has a policy");
        assert_ne!(new, old);
        proof.verify(&new, None).expect("holds");
    }
    // What was committed before is proved by those who voted then.
    let epoch = node.decision(early).await.expect("is there").epoch;
    let then = node.decision_policy(Some(epoch)).await.expect("of that epoch");
    let proof = node.decision_proof(early).await.expect("is proved");
    proof.verify(&then, None).expect("holds under the policy of its own epoch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn founders_that_all_died_before_they_began_to_decide_decide_when_they_are_back() {
    let Federation { homes, nodes } = four().await;
    for (home, node) in homes.iter().zip(nodes) {
        home.listen_at(node.mesh_listen());
        stop(node).await;
    }
    for home in &homes {
        let mark = home.path().join("unbegun");
        assert!(!mark.exists(), "it was ended before the first vote");
        // As it was between the state with the constitution and the first record.
        std::fs::remove_dir_all(home.path().join("decisions")).expect("removes");
        std::fs::write(mark, []).expect("writes");
    }
    let mut nodes = Vec::new();
    for home in &homes {
        nodes.push(home.open().await);
    }
    all_active(&nodes).await;
    assert!(nodes.iter().all(|node| role(node) == Some(ConsensusRole::Voter)));
    commit(&nodes[0], "after all").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_updates_in_one_call_are_all_taken_or_none() {
    let federation = four().await;
    let node = federation.founder();
    let update = |number: usize| StateUpdate(format!("of many {number}").into_bytes());
    let views = node.propose_many((0..500).map(update).collect(), DEADLINE).await.expect("all");
    assert_eq!(views.len(), 500);
    assert!(views.is_sorted_by(|one, next| one.index < next.index), "in the order of the log");
    assert!(views.iter().all(|view| view.certified));
    let size = size(node);
    // One that is out of bounds: none of the others is taken.
    let mixed = vec![update(1), StateUpdate(Vec::new()), update(2)];
    let error = node.propose_many(mixed, DEADLINE).await.expect_err("one is empty");
    assert_eq!(error.code, ErrorCode::UpdateTooLong);
    let none = node.propose_many(Vec::new(), DEADLINE).await.expect_err("none");
    assert_eq!(none.code, ErrorCode::InvalidArgument);
    let over = (0..=SUBMISSIONS_TOGETHER_MAX).map(update).collect();
    let error = node.propose_many(over, DEADLINE).await.expect_err("too many");
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    commit(node, "after").await;
    let page = node.decisions(size, 100, false).await.expect("lists");
    assert_eq!(page.decisions.len(), 1, "nothing of what was refused is in the log");
}
