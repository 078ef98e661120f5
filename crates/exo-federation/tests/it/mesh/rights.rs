//! Shared collections of a federation that decides together: whose they are, and their checkpoints.

use std::time::{Duration, Instant};

use exo_federation::{
    CollectionName, DecisionOutcome, ErrorCode, FederatedMesh, Proposal, SharedAccess, SharedKind,
};
use exo_types::PeerId;

use super::lane::{Laned, Net, nodes};
use super::nodes::{collection, until_async};
use super::shared::{in_step, key, put, root, seen, sees};

/// Checkpoints take their time: a voter waits for those before it in turn.
const PATIENCE: Duration = Duration::from_secs(40);

async fn deciding(net: &Net, members: usize) -> Vec<Laned> {
    let all = net.deciding(members).await;
    for laned in &all {
        until_async("every member follows the log", || async { laned.node.decisions_status() })
            .await;
    }
    all
}

async fn propose(node: &FederatedMesh, proposal: Proposal) -> DecisionOutcome {
    node.propose(proposal, PATIENCE).await.expect("is certified").outcome
}

/// Several voters propose the same until it takes effect.
async fn decide(voters: &[&FederatedMesh], proposal: &Proposal) {
    for voter in voters {
        if propose(voter, proposal.clone()).await == DecisionOutcome::Effective {
            return;
        }
    }
    panic!("{proposal:?} did not take effect");
}

fn share(name: &CollectionName, readers: SharedAccess, writers: SharedAccess) -> Proposal {
    Proposal::Share { name: name.clone(), kind: SharedKind::LastWriter, readers, writers }
}

fn only(nodes: &[&FederatedMesh]) -> SharedAccess {
    SharedAccess::only(nodes.iter().map(|node| node.peer_id()))
}

async fn known(node: &FederatedMesh, name: &CollectionName) -> bool {
    let all = node.shared_collections().await.expect("shows them");
    all.iter().any(|view| view.name == *name && view.declared)
}

async fn checkpoint(node: &FederatedMesh, name: &CollectionName) -> u64 {
    let all = node.shared_collections().await.expect("shows them");
    all.iter().find(|view| view.name == *name).map_or(0, |view| view.checkpoint)
}

/// Looks for as long as a checkpoint may take.
async fn in_time<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let began = Instant::now();
    while !look().await {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_is_its_readers_and_written_by_its_writers_alone() {
    let net = Net::default();
    let laned = deciding(&net, 4).await;
    let all = nodes(&laned);
    let [one, two, three, four] = &all[..] else { panic!("four") };
    let name = collection("ledger");
    let readers = only(&[one, two]);
    let outcome = propose(three, share(&name, readers, only(&[one]))).await;
    assert_eq!(outcome, DecisionOutcome::Effective);
    for reader in [one, two] {
        in_time("its readers know of it", || known(reader, &name)).await;
    }
    put(one, &name, "k", "for two").await;
    sees(two, &name, "k", "for two").await;
    let refused = two.shared_put(&name, &key("k"), vec![1]).await.expect_err("is no writer");
    assert_eq!(refused.code, ErrorCode::SharedDenied);
    // Another collection reaches everybody: so would this one have by now.
    put(one, &collection("open"), "k", "for all").await;
    for other in [three, four] {
        sees(other, &collection("open"), "k", "for all").await;
        let refused = other.shared_get(&name, &key("k")).await.expect_err("is no reader");
        assert_eq!(refused.code, ErrorCode::SharedNotFound);
        let refused = other.shared_put(&name, &key("k"), vec![1]).await.expect_err("is no reader");
        assert_eq!(refused.code, ErrorCode::SharedNotFound);
        assert_eq!(root(other, &name).await, None);
    }
    for laned in &laned[2..] {
        let dir = laned.home.path().join("shared/ledger.log");
        assert!(!dir.exists(), "nothing of it is on its disk");
    }
    // With a quorum it is somebody else's as well, and what was written before comes to it.
    let more = share(&name, only(&[one, two, three]), only(&[one, two, three]));
    decide(&[one, two, three, four], &more).await;
    sees(three, &name, "k", "for two").await;
    in_time("who may write now writes", || async {
        three.shared_put(&name, &key("k"), b"by three".to_vec()).await.is_ok()
    })
    .await;
    sees(one, &name, "k", "by three").await;
    sees(two, &name, "k", "by three").await;
    assert_eq!(root(four, &name).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_is_cut_off_and_a_checkpoint_ends_its_history_and_keeps_deletions() {
    let net = Net::default();
    let mut laned = deciding(&net, 5).await;
    let name = collection("labels");
    let all = nodes(&laned);
    let [one, two, three, four, five] = &all[..] else { panic!("five") };
    let outcome = propose(one, share(&name, SharedAccess::All, SharedAccess::All)).await;
    assert_eq!(outcome, DecisionOutcome::Effective);
    for node in &all {
        in_time("all know of it", || known(node, &name)).await;
    }
    put(one, &name, "kept", "stays").await;
    put(one, &name, "gone", "to be deleted").await;
    put(five, &name, "of-five", "before it left").await;
    in_step(&all, &name).await;

    // One voter is away with all of this while a key is deleted and a member removed.
    let removed = five.peer_id();
    let five = five.clone();
    let (one, two, three) = (one.clone(), two.clone(), three.clone());
    let _ = four;
    drop(all);
    let last = laned.pop().expect("five");
    let away = net.kill(laned.pop().expect("five"));
    assert!(one.shared_remove(&name, &key("gone")).await.expect("deletes"));
    in_step(&[one.clone(), two.clone(), three.clone()], &name).await;
    revoke(&[&one, &two, &three], removed).await;
    // What it writes from here on counts nowhere.
    let _ = five.shared_put(&name, &key("late"), b"after it left".to_vec()).await;
    for node in [&one, &two, &three] {
        in_time("the checkpoint takes effect", || async { checkpoint(node, &name).await == 1 })
            .await;
        assert_eq!(seen(node, &name, "gone").await, None);
        assert_eq!(seen(node, &name, "kept").await.as_deref(), Some("stays"));
    }
    // The voter comes back with the entry that was deleted: it goes, and comes back nowhere.
    let back = net.back(away).await;
    in_time("it takes the checkpoint over", || async { checkpoint(&back.node, &name).await == 1 })
        .await;
    put(&back.node, &name, "after", "by four").await;
    let members = [one, two, three, back.node.clone()];
    in_step(&members, &name).await;
    for node in &members {
        assert_eq!(seen(node, &name, "gone").await, None);
        assert_eq!(seen(node, &name, "late").await, None);
        assert_eq!(seen(node, &name, "of-five").await.as_deref(), Some("before it left"));
        assert_eq!(seen(node, &name, "after").await.as_deref(), Some("by four"));
    }
    assert_eq!(seen(&last.node, &name, "after").await, None, "it gets nothing any more");
}

/// Removes a member: its sponsor alone can, or as many voters as it takes.
async fn revoke(voters: &[&FederatedMesh], peer: PeerId) {
    decide(voters, &Proposal::Revoke { peer, reason: "left".to_owned() }).await;
}
