//! Joining: tickets, words, approval, and what happens to those who should not come in.

use std::time::{Duration, Instant};

use exo_crypto::SasNonce;
use exo_federation::driver::net::Purpose;
use exo_federation::{ErrorCode, FederatedMesh, InviteOptions, JoinStatus, PeerState};
use exo_node::refusal::Refusal;
use exo_node::roster::Genesis;
use exo_node::ticket::Ticket;
use exo_node::wire::{JoinChallenge, Request, Response, SyncRequest, TermsOf, TermsRequest};
use exo_types::limits::JOINERS_PENDING_MAX;
use exo_types::{Epoch, Timestamp, TokenId, Wire};

use super::nodes::{
    Federation, Home, PATIENCE, all_active, federation, invite, pending_words, refused, state,
    stop, until,
};
use super::raw::{Raw, ask, close_code, join_start, refusal, search};

#[tokio::test]
async fn only_the_joiners_words_admit_it() {
    let (a, b) = (Home::new("inviter"), Home::new("joiner"));
    let (inviter, joiner) = (a.open().await, b.open().await);
    joiner.join(&invite(&inviter, false)).expect("begins");
    let words = pending_words(&inviter, &joiner).await;
    assert_eq!(words.split(' ').count(), 4);
    assert_eq!(state(&inviter, &joiner.peer_id()), Some(PeerState::Pending));

    let mut other: Vec<&str> = words.split(' ').collect();
    other.swap(0, 1);
    let wrong = [other.join(" "), String::new(), "a b c d".to_owned(), words[1..].to_owned()];
    for wrong in wrong.iter().filter(|wrong| **wrong != words) {
        let error = inviter.approve(wrong).expect_err("nobody waits with these words");
        assert_eq!(error.code, ErrorCode::WordsUnknown, "{wrong}");
    }
    assert_eq!(state(&inviter, &joiner.peer_id()), Some(PeerState::Pending));
    assert_eq!(joiner.join_status(), JoinStatus::Pending { words: words.clone() });

    // As a person types them.
    let typed = format!("  {}\t", words.to_uppercase().replace(' ', "  "));
    let view = inviter.approve(&typed).expect("admits");
    assert_eq!((view.peer, view.unverified), (joiner.peer_id(), false));
    until("the joiner is a member", || (joiner.join_status() == JoinStatus::Member).then_some(()))
        .await;
    all_active(&[inviter.clone(), joiner.clone()]).await;
    let error = inviter.approve(&words).expect_err("words are good once");
    assert_eq!(error.code, ErrorCode::WordsUnknown);
}

#[tokio::test]
async fn whoever_came_in_without_words_is_shown_as_unverified() {
    let federation = Federation::of(2).await;
    let [founder, member] = federation.nodes.as_slice() else { panic!("two") };
    let seen = founder.peers().into_iter().find(|peer| peer.peer == member.peer_id());
    assert!(seen.expect("is there").unverified);
    assert!(founder.invites().is_empty(), "a used invite is closed");
}

#[tokio::test]
async fn a_pending_joiner_gets_nothing_but_refusals() {
    let (a, b) = (Home::new("inviter"), Home::new("joiner"));
    let (inviter, joiner) = (a.open().await, b.open().await);
    joiner.join(&invite(&inviter, false)).expect("begins");
    pending_words(&inviter, &joiner).await;
    stop(joiner).await;

    let raw = Raw::new(b.identity());
    let member = raw.dial(&inviter, Purpose::Member).await;
    assert_eq!(close_code(&member).await, 2);

    let join = raw.dial(&inviter, Purpose::Join).await;
    for request in everything_a_member_asks(&raw, federation(&inviter).await.id) {
        assert_eq!(refusal(ask(&join, &request).await), Refusal::MemberPending, "{request:?}");
    }
    assert_eq!(ask(&join, &Request::JoinPoll).await, Response::JoinPending);

    let stranger = Raw::stranger();
    let join = stranger.dial(&inviter, Purpose::Join).await;
    for request in everything_a_member_asks(&stranger, federation(&inviter).await.id) {
        assert_eq!(refusal(ask(&join, &request).await), Refusal::NotMember, "{request:?}");
    }
    assert_eq!(refusal(ask(&join, &Request::JoinPoll).await), Refusal::TicketUnknown);
}

fn everything_a_member_asks(raw: &Raw, federation: exo_types::FederationId) -> Vec<Request> {
    let token = TokenId::new([7; 16]);
    vec![
        Request::Hello(Box::new(raw.hello(federation))),
        Request::Grant,
        Request::Sync(SyncRequest { epoch: Epoch::GENESIS, have: Vec::new() }),
        Request::Notify { epoch: Epoch(9) },
        Request::Ping,
        Request::Terms(TermsRequest {
            token,
            of: TermsOf { collection: None, text: "moth".to_owned() },
        }),
        search(token),
    ]
}

#[tokio::test]
async fn a_ticket_is_good_for_one_key() {
    let mut federation = Federation::of(2).await;
    let ticket = invite(federation.founder(), false);
    let (first, second) = (Home::new("first"), Home::new("second"));
    let (first, second) = (first.open().await, second.open().await);
    first.join(&ticket).expect("begins");
    let words = pending_words(federation.founder(), &first).await;
    second.join(&ticket).expect("begins");
    assert!(refused(&second).await.contains("ticket"), "{:?}", second.join_status());
    // The second one's attempt changes nothing for the first.
    federation.founder().approve(&words).expect("admits");
    federation.nodes.push(first);
    all_active(&federation.nodes).await;
    assert_eq!(state(federation.founder(), &second.peer_id()), None);
}

#[tokio::test]
async fn a_revoked_ticket_is_refused() {
    let (a, b) = (Home::new("inviter"), Home::new("joiner"));
    let (inviter, joiner) = (a.open().await, b.open().await);
    let options = InviteOptions { life: Duration::from_secs(60), auto_approve: true };
    let invite = inviter.invite_new(options).expect("invites");
    let kept = inviter.invite_new(options).expect("invites");
    inviter.invite_revoke(&invite.id).expect("closes it");
    let again = inviter.invite_revoke(&invite.id).expect_err("is closed");
    assert_eq!(again.code, ErrorCode::InviteNotFound);
    joiner.join(&invite.ticket).expect("begins");
    assert!(refused(&joiner).await.contains("ticket"));

    // With no invite open, a stranger's handshake is refused and it is told the same.
    inviter.invite_revoke(&kept.id).expect("closes it");
    joiner.join(&kept.ticket).expect("begins again");
    assert!(refused(&joiner).await.contains("ticket"));
    assert_eq!(state(&inviter, &joiner.peer_id()), None);
}

#[tokio::test]
async fn an_expired_ticket_is_refused_on_both_sides() {
    let (a, b) = (Home::new("inviter"), Home::new("joiner"));
    let (inviter, joiner) = (a.open().await, b.open().await);
    let options = InviteOptions { life: Duration::from_secs(1), auto_approve: true };
    let short = inviter.invite_new(options).expect("invites");
    let ticket: Ticket = short.ticket.parse().expect("parses");
    // It opens the handshake to strangers, so that the ticket itself is judged.
    invite(&inviter, true);
    until("the invite has expired", || (inviter.invites().len() == 1).then_some(())).await;

    assert_eq!(joiner.join(&short.ticket).expect_err("expired").code, ErrorCode::TicketExpired);
    let raw = Raw::stranger();
    let join = raw.dial(&inviter, Purpose::Join).await;
    let (_, start) = join_start(&raw, &join, &ticket, "late");
    assert_eq!(refusal(ask(&join, &start).await), Refusal::TicketUnknown);

    // A joiner whose clock is behind, or that rewrote the ticket, fares no better.
    let rewritten = Ticket { expires: Timestamp(ticket.expires.0 + 3_600_000), ..ticket };
    joiner.join(&rewritten.to_string()).expect("begins");
    assert!(refused(&joiner).await.contains("expired"));
}

#[tokio::test]
async fn a_ticket_for_another_federation_is_refused() {
    let (a, b) = (Home::new("inviter"), Home::new("joiner"));
    let (inviter, joiner) = (a.open().await, b.open().await);
    let ticket: Ticket = invite(&inviter, true).parse().expect("parses");
    let other = Ticket { federation: [9; 16], ..ticket.clone() };
    joiner.join(&other.to_string()).expect("begins");
    assert!(refused(&joiner).await.contains("another federation"));
    // The ticket was not spent by that.
    joiner.join(&ticket.to_string()).expect("begins again");
    until("the joiner is a member", || (joiner.join_status() == JoinStatus::Member).then_some(()))
        .await;
}

#[tokio::test]
async fn an_inviter_that_names_another_federation_than_its_ticket_is_left() {
    let raw = Raw::stranger();
    let genesis =
        Genesis { founder: raw.keypair.public().clone(), created: Timestamp(1), nonce: [1; 16] };
    let other = Genesis { nonce: [2; 16], ..genesis.clone() };
    let ticket = Ticket {
        federation: Ticket::tag(&genesis.id()),
        inviter: raw.peer_id(),
        secret: [3; 16],
        expires: Timestamp(super::raw::now().0 / 1000 * 1000 + 60_000),
        addresses: vec![raw.endpoint.local_address().expect("is bound")],
    };
    let joiner = Home::new("joiner");
    let joiner = joiner.open().await;
    joiner.join(&ticket.to_string()).expect("begins");
    let channel = tokio::time::timeout(PATIENCE, raw.endpoint.accept()).await;
    let channel = channel.expect("in time").expect("is open");
    let request = channel.accept_request().await.expect("asks");
    let start = Request::from_wire(&request.body).expect("decodes");
    assert!(matches!(start, Request::JoinStart(_)), "{start:?}");
    let challenge = JoinChallenge { nonce: SasNonce::new([4; 32]), genesis: other };
    let answer = Response::JoinChallenge(Box::new(challenge)).to_wire().expect("encodes");
    request.respond(answer).await.expect("answers");
    assert!(refused(&joiner).await.contains("another federation"));
}

#[tokio::test]
async fn a_taken_name_is_refused_and_does_not_spend_the_ticket() {
    let federation = Federation::of(2).await;
    let founder = federation.founder();
    let ticket = invite(founder, true);
    let twin = Home::new("n1");
    let twin = twin.open().await;
    twin.join(&ticket).expect("begins");
    assert!(refused(&twin).await.contains("has that name"));
    assert_eq!(state(founder, &twin.peer_id()), None);

    // A node that is made anew with another name has another key.
    let other = Home::new("n2");
    let other = other.open().await;
    other.join(&ticket).expect("begins");
    until("the joiner is a member", || (other.join_status() == JoinStatus::Member).then_some(()))
        .await;
}

#[tokio::test]
async fn names_are_told_to_nobody_without_a_ticket() {
    let federation = Federation::of(1).await;
    let founder = federation.founder();
    let ticket: Ticket = invite(founder, true).parse().expect("parses");
    let guess = Ticket { secret: [0; 16], ..ticket };
    let raw = Raw::stranger();
    let join = raw.dial(founder, Purpose::Join).await;
    for name in ["n0", "nobody"] {
        let (_, start) = join_start(&raw, &join, &guess, name);
        assert_eq!(refusal(ask(&join, &start).await), Refusal::TicketUnknown, "{name}");
    }
}

#[tokio::test]
async fn a_nonce_that_was_not_committed_to_is_refused() {
    let federation = Federation::of(1).await;
    let founder = federation.founder();
    let ticket: Ticket = invite(founder, true).parse().expect("parses");
    let raw = Raw::stranger();
    let join = raw.dial(founder, Purpose::Join).await;
    let reveal = |nonce| Request::JoinReveal { nonce };

    let early = reveal(SasNonce::new([1; 32]));
    assert_eq!(refusal(ask(&join, &early).await), Refusal::Malformed);
    let (sas, start) = join_start(&raw, &join, &ticket, "grinder");
    let Response::JoinChallenge(challenge) = ask(&join, &start).await else { panic!("refused") };
    let ground = reveal(SasNonce::new([1; 32]));
    assert_eq!(refusal(ask(&join, &ground).await), Refusal::WordsMismatch);
    // One try a challenge: the honest nonce comes too late.
    let (nonce, _) = sas.reveal(&challenge.nonce);
    assert_eq!(refusal(ask(&join, &reveal(nonce)).await), Refusal::Malformed);
    assert_eq!(state(founder, &raw.peer_id()), None);
}

#[tokio::test]
async fn a_pending_join_survives_restarts_of_both_sides() {
    let (a, b) = (Home::new("inviter"), Home::new("joiner"));
    let (mut inviter, joiner) = (a.open().await, b.open().await);
    // The joiner knows the inviter by the address on its ticket, so that must not change.
    a.listen_at(inviter.mesh_listen());
    joiner.join(&invite(&inviter, false)).expect("begins");
    let words = pending_words(&inviter, &joiner).await;

    stop(joiner).await;
    let joiner = b.open().await;
    assert_eq!(joiner.join_status(), JoinStatus::Pending { words: words.clone() });
    let again = joiner.join(&invite(&inviter, false)).expect_err("one waits");
    assert_eq!(again.code, ErrorCode::JoinInProgress);

    for _ in 0..3 {
        let at = inviter.mesh_listen();
        stop(inviter).await;
        inviter = a.open().await;
        assert_eq!(inviter.mesh_listen(), at);
        assert_eq!(state(&inviter, &joiner.peer_id()), Some(PeerState::Pending));
    }
    inviter.approve(&words).expect("admits");
    until("the joiner is a member", || match joiner.join_status() {
        JoinStatus::Member => Some(()),
        JoinStatus::Pending { .. } => None,
        other => panic!("lost its place: {other:?}"),
    })
    .await;
    all_active(&[inviter, joiner]).await;
}

#[tokio::test]
async fn a_crowd_of_strangers_does_not_end_a_join_that_waits() {
    let (a, b) = (Home::new("inviter"), Home::new("joiner"));
    let (inviter, joiner) = (a.open().await, b.open().await);
    joiner.join(&invite(&inviter, false)).expect("begins");
    let words = pending_words(&inviter, &joiner).await;
    stop(joiner).await;

    // All places for joiners are taken when it comes back, and the door is closed in its face.
    let crowd: Vec<_> = (0..JOINERS_PENDING_MAX).map(|_| Raw::stranger()).collect();
    let mut channels = Vec::new();
    for stranger in &crowd {
        channels.push(stranger.dial(&inviter, Purpose::Join).await);
    }
    let late = Raw::stranger();
    let turned_away = late.dial(&inviter, Purpose::Join).await;
    assert_eq!(close_code(&turned_away).await, 2);
    let joiner = b.open().await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1_200) {
        assert_eq!(joiner.join_status(), JoinStatus::Pending { words: words.clone() });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop((crowd, channels));
    inviter.approve(&words).expect("admits");
    all_active(&[inviter, joiner]).await;
}

#[tokio::test]
async fn a_rejected_joiner_is_told_so_and_its_ticket_is_spent() {
    let (a, b) = (Home::new("inviter"), Home::new("joiner"));
    let (inviter, joiner) = (a.open().await, b.open().await);
    let ticket = invite(&inviter, false);
    joiner.join(&ticket).expect("begins");
    let words = pending_words(&inviter, &joiner).await;
    inviter.reject(&joiner.peer_id()).expect("rejects");
    assert!(refused(&joiner).await.contains("rejected"), "{:?}", joiner.join_status());
    assert_eq!(inviter.approve(&words).expect_err("no more").code, ErrorCode::WordsUnknown);

    joiner.join(&ticket).expect("begins again");
    refused(&joiner).await;
    assert_ne!(state(&inviter, &joiner.peer_id()), Some(PeerState::Active));

    // A new ticket is a new decision.
    joiner.join(&invite(&inviter, false)).expect("begins again");
    let words = pending_words(&inviter, &joiner).await;
    inviter.approve(&words).expect("admits");
    all_active(&[inviter, joiner]).await;
}

#[tokio::test]
async fn verbs_that_do_not_fit_are_refused_by_name() {
    let federation = Federation::of(2).await;
    let [founder, member] = federation.nodes.as_slice() else { panic!("two") };
    let code = |result: Result<(), exo_federation::FederationError>| {
        result.expect_err("does not fit").code
    };
    let options = InviteOptions { life: Duration::from_secs(60), auto_approve: true };
    let of_member = |node: &FederatedMesh| node.invite_new(options).map(|_| ());
    assert_eq!(code(of_member(member)), ErrorCode::NotFounder);
    assert_eq!(code(member.revoke(&founder.peer_id(), "")), ErrorCode::NotFounder);
    assert_eq!(code(founder.revoke(&founder.peer_id(), "")), ErrorCode::InvalidArgument);
    assert_eq!(code(member.found().map(|_| ())), ErrorCode::AlreadyMember);
    let ticket = invite(founder, true);
    assert_eq!(code(member.join(&ticket)), ErrorCode::AlreadyMember);
    assert_eq!(code(founder.join(&ticket)), ErrorCode::AlreadyMember);
    let loner = Home::new("loner");
    let loner = loner.open().await;
    assert_eq!(code(loner.join(&ticket[..60])), ErrorCode::TicketMalformed);
    assert_eq!(code(loner.join("")), ErrorCode::TicketMalformed);
    assert_eq!(code(loner.revoke(&founder.peer_id(), "")), ErrorCode::NotAMember);
    for life in [Duration::ZERO, Duration::from_secs(31 * 24 * 3600), Duration::MAX] {
        let options = InviteOptions { life, auto_approve: true };
        assert_eq!(code(founder.invite_new(options).map(|_| ())), ErrorCode::InvalidArgument);
    }
}

#[tokio::test]
async fn the_founder_that_never_answers_leaves_the_joiner_trying() {
    let (a, b) = (Home::new("inviter"), Home::new("joiner"));
    let (inviter, joiner) = (a.open().await, b.open().await);
    a.listen_at(inviter.mesh_listen());
    let ticket = invite(&inviter, true);
    stop(inviter).await;
    joiner.join(&ticket).expect("begins");
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        assert_eq!(joiner.join_status(), JoinStatus::Connecting);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let inviter = a.open().await;
    until("the joiner is a member", || (joiner.join_status() == JoinStatus::Member).then_some(()))
        .await;
    drop(inviter);
}
