//! Those who do not belong: strangers, members of other federations, and members that were removed.

use std::time::Duration;

use exo_federation::driver::net::{CloseReason, Purpose};
use exo_federation::{FederatedMesh, JoinStatus, PeerState, SourceStatus};
use exo_node::refusal::Refusal;
use exo_node::wire::{Request, Response};

use super::nodes::{
    Federation, Watch, ask as query, by_text, by_vector, federation, invite, of, one_moth_each,
    refused, state, stop, until,
};
use super::raw::{Raw, ask, close_code, refusal, search, try_ask};

#[tokio::test]
async fn an_unknown_key_gets_nothing() {
    let federation = Federation::of(2).await;
    one_moth_each(&federation.nodes).await;
    gets_nothing(&Raw::stranger(), &federation).await;
}

#[tokio::test]
async fn a_member_of_another_federation_gets_nothing() {
    let (ours, mut theirs) = (Federation::of(2).await, Federation::of(2).await);
    one_moth_each(&ours.nodes).await;
    let raw = Raw::new(theirs.retire_last().await);
    assert!(matches!(
        raw.enter(theirs.founder()).await.search(no_token()).await,
        Response::Refused(_)
    ));
    gets_nothing(&raw, &ours).await;
}

/// Whoever it is, it gets no answer to anything, with an invite open or not.
async fn gets_nothing(raw: &Raw, federation: &Federation) {
    let hello = raw.hello(super::nodes::federation(federation.founder()).await.id);
    let requests = [Request::Hello(Box::new(hello)), search(no_token()), Request::Ping];
    for node in &federation.nodes {
        for request in &requests {
            // Without an open invite the handshake itself is refused.
            let channel = raw.dial(node, Purpose::Member).await;
            try_ask(&channel, request).await.expect_err("is not answered");
            assert_eq!(channel.closed().await, CloseReason::Refused);
        }
        let channel = raw.dial(node, Purpose::Join).await;
        try_ask(&channel, &Request::JoinPoll).await.expect_err("is not answered");
    }
    invite(federation.founder(), true);
    for request in &requests {
        let channel = raw.dial(federation.founder(), Purpose::Member).await;
        match try_ask(&channel, request).await {
            Err(_) => {}
            Ok(answer) => assert_eq!(refusal(answer), Refusal::NotMember),
        }
        assert_eq!(close_code(&channel).await, 2);
    }
}

fn no_token() -> exo_types::TokenId {
    exo_types::TokenId::new([7; 16])
}

#[tokio::test]
async fn a_removed_member_is_out_at_once_everywhere_and_is_told_so() {
    let federation = Federation::of(4).await;
    one_moth_each(&federation.nodes).await;
    let [founder, b, c, removed] = federation.nodes.as_slice() else { panic!("four") };
    assert!(query(removed, by_vector()).await.complete);
    assert_eq!(query(b, by_vector()).await.results.len(), 4);

    founder.revoke(&removed.peer_id(), "left the project").expect("removes");
    let began = Watch::start();
    until("every member has closed its session", || {
        let gone =
            |node: &FederatedMesh| state(node, &removed.peer_id()) == Some(PeerState::Revoked);
        let alone = removed.peers().iter().all(|peer| peer.state != PeerState::Active);
        ([founder, b, c].into_iter().all(gone) && alone).then_some(())
    })
    .await;
    let told = refused(removed).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(told.contains("removed from the federation"), "{told}");

    for node in [founder, b, c] {
        for make in [by_vector, by_text] {
            let answer = query(node, make()).await;
            assert!(answer.complete, "{:?}", answer.sources);
            assert!(answer.sources.iter().all(|source| source.peer != removed.peer_id()));
            assert_eq!(answer.results.len(), 3);
        }
        let view = node.peers().into_iter().find(|peer| peer.peer == removed.peer_id());
        assert_eq!(view.expect("is remembered").detail, "left the project");
    }
    let answer = query(removed, by_vector()).await;
    assert_eq!(answer.results.len(), 1, "its own record alone");
    for node in [founder, b, c] {
        let source = of(&answer, &node.peer_id());
        assert_eq!(source.status, SourceStatus::Refused, "{source:?}");
    }
    // The key is what was removed: a new ticket does not bring it back, and it is told why.
    removed.join(&invite(founder, true)).expect("begins");
    until("it is told why", || match removed.join_status() {
        JoinStatus::Refused { reason } => Some(reason.contains("membership was revoked")),
        _ => None,
    })
    .await
    .then_some(())
    .expect("names the removal");
}

#[tokio::test]
async fn a_removed_key_loses_live_sessions_and_never_gets_another() {
    let federation = Federation::of(2).await;
    one_moth_each(&federation.nodes).await;
    let founder = federation.founder();
    let raw = Raw::member(founder, "raw").await;
    until("both know the new member", || {
        let knows = |node: &FederatedMesh| state(node, &raw.peer_id()).is_some();
        federation.nodes.iter().all(knows).then_some(())
    })
    .await;
    let mut sessions = Vec::new();
    for node in &federation.nodes {
        let session = raw.enter(node).await;
        let id = session.token().id;
        assert!(matches!(session.search(id).await, Response::Answer { .. }));
        sessions.push(session);
    }
    founder.revoke(&raw.peer_id(), "").expect("removes");
    let began = Watch::start();
    for session in &sessions {
        assert_eq!(close_code(&session.channel).await, 3);
        try_ask(&session.channel, &search(session.token().id)).await.expect_err("is closed");
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    for node in &federation.nodes {
        let channel = raw.dial(node, Purpose::Member).await;
        assert_eq!(close_code(&channel).await, 3);
    }
    // Neither does a ticket help: the key is what was removed.
    invite(founder, true);
    let channel = raw.dial(founder, Purpose::Join).await;
    assert_eq!(close_code(&channel).await, 3);
}

#[tokio::test]
async fn a_member_removed_while_it_was_away_is_told_when_it_comes_back() {
    let mut federation = Federation::of(3).await;
    let node = federation.nodes.pop().expect("is there");
    let peer = node.peer_id();
    stop(node).await;
    federation.founder().revoke(&peer, "gone for good").expect("removes");
    until("the other member has heard", || {
        (state(&federation.nodes[1], &peer) == Some(PeerState::Revoked)).then_some(())
    })
    .await;
    let back = federation.homes[2].open().await;
    let told = refused(&back).await;
    assert!(told.contains("removed from the federation"), "{told}");
    // And again after another start, without asking anybody.
    stop(back).await;
    let back = federation.homes[2].open().await;
    assert!(matches!(back.join_status(), JoinStatus::Refused { .. }));
}

#[tokio::test]
async fn a_member_that_was_away_hears_of_a_removal_when_it_comes_back() {
    let mut federation = Federation::of(4).await;
    one_moth_each(&federation.nodes).await;
    let raw = Raw::new(federation.retire_last().await);
    let away = federation.nodes.pop().expect("is there");
    stop(away).await;
    federation.founder().revoke(&raw.peer_id(), "").expect("removes");
    let back = federation.homes[2].open().await;
    until("it has heard", || {
        (state(&back, &raw.peer_id()) == Some(PeerState::Revoked)).then_some(())
    })
    .await;
    let channel = raw.dial(&back, Purpose::Member).await;
    assert_eq!(close_code(&channel).await, 3);
    let epoch = super::nodes::federation(federation.founder()).await.epoch;
    assert_eq!(super::nodes::federation(&back).await.epoch, epoch);
}

#[tokio::test]
async fn removal_reaches_members_through_others() {
    // The second member hears of it from the first, for the founder is gone by then.
    let mut federation = Federation::of(4).await;
    let removed = federation.nodes[3].peer_id();
    let away = federation.nodes.remove(2);
    stop(away).await;
    federation.founder().revoke(&removed, "").expect("removes");
    until("the first member has heard", || {
        (state(&federation.nodes[1], &removed) == Some(PeerState::Revoked)).then_some(())
    })
    .await;
    let founder = federation.nodes.remove(0);
    stop(founder).await;
    let back = federation.homes[2].open().await;
    until("the second member has heard", || {
        (state(&back, &removed) == Some(PeerState::Revoked)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_member_that_claims_another_federation_is_refused_by_name() {
    let mut ours = Federation::of(2).await;
    let theirs = Federation::of(1).await;
    let raw = Raw::new(ours.retire_last().await);
    let channel = raw.dial(ours.founder(), Purpose::Member).await;
    let hello = raw.hello(federation(theirs.founder()).await.id);
    let answer = ask(&channel, &Request::Hello(Box::new(hello))).await;
    assert_eq!(refusal(answer), Refusal::WrongFederation);
}
