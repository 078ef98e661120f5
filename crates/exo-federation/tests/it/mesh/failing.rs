//! Members that vanish, fall silent, are slow, and come back: no query waits for them past its
//! deadline, and every answer names them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use exo_federation::driver::net::Purpose;
use exo_federation::{ErrorCode, FederatedMesh, PeerState, QueryEvent, QuerySpec, SourceStatus};
use exo_node::wire::{Request, Response};
use futures::future::join;

use super::actor::{Actor, Reply, answer, leg};
use super::lane::{Net, nodes};
use super::nodes::{
    Federation, PATIENCE, Watch, ask, by_text, by_vector, ids, invite, of, one_moth_each, state,
    stop, until, until_async,
};
use super::raw::{Raw, ask as ask_raw, close_code};

#[tokio::test]
async fn a_member_that_falls_silent_costs_one_deadline_and_comes_back_whole() {
    let net = Net::default();
    let all = net.federation(3).await;
    let [asker, other, lost] = &nodes(&all)[..] else { panic!("three") };
    one_moth_each(&nodes(&all)).await;
    for make in [by_vector, by_text] {
        let answer = ask(asker, make()).await;
        assert!(answer.complete, "{:?}", answer.sources);
    }

    net.cut(lost);
    let deadline = Duration::from_millis(1_200);
    let mut query = by_vector();
    query.deadline = deadline;
    let answer = ask(asker, query.clone()).await;
    assert!(answer.elapsed >= deadline && answer.elapsed < deadline + SLACK, "{answer:?}");
    assert_eq!(of(&answer, &lost.peer_id()).status, SourceStatus::Timeout);
    assert_eq!(of(&answer, &other.peer_id()).status, SourceStatus::Answered);
    assert!(!answer.complete);
    assert_eq!(answer.results.len(), 2);

    // From the next one on nobody waits for it.
    for make in [by_vector, by_text, by_vector] {
        let answer = ask(asker, make()).await;
        let report = of(&answer, &lost.peer_id());
        assert_eq!(report.status, SourceStatus::Unreachable, "{report:?}");
        assert!(!report.detail.is_empty());
        assert!(answer.elapsed < deadline, "{:?}", answer.elapsed);
        assert_eq!(answer.results.len(), 2);
    }
    assert_eq!(state(asker, &lost.peer_id()), Some(PeerState::Unreachable));

    net.mend(lost);
    let answer = until_async("the member answers again", || async {
        Some(ask(asker, by_vector()).await).filter(|answer| answer.complete)
    })
    .await;
    assert_eq!(answer.results.len(), 3);
    let answer = until_async("it asks again as well", || async {
        Some(ask(lost, by_text()).await).filter(|answer| answer.complete)
    })
    .await;
    assert_eq!(answer.results.len(), 3);
}

#[tokio::test]
async fn a_short_outage_within_the_deadline_costs_time_and_nothing_else() {
    let net = Net::default();
    let all = net.federation(3).await;
    let [asker, _, lost] = &nodes(&all)[..] else { panic!("three") };
    one_moth_each(&nodes(&all)).await;
    for make in [by_vector, by_text] {
        net.cut(lost);
        let mut query = make();
        query.deadline = Duration::from_secs(8);
        let mut events = asker.federated_query_events(query).expect("begins");
        if make().target.text.is_empty() {
            // The others have answered, the lost one cannot have.
            for _ in 0..2 {
                let Some(QueryEvent::Source(report)) = events.recv().await else { panic!() };
                assert_ne!(report.peer, lost.peer_id());
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        net.mend(lost);
        let answer = loop {
            match events.recv().await.expect("ends") {
                QueryEvent::Source(_) => {}
                QueryEvent::Done(answer) => break answer,
            }
        };
        assert!(answer.complete, "{:?}", answer.sources);
        assert_eq!(answer.results.len(), 3);
        assert!(answer.elapsed < Duration::from_secs(5), "{:?}", answer.elapsed);
    }
}

#[tokio::test]
async fn a_text_query_ends_by_its_deadline_while_a_member_is_silent() {
    let net = Net::default();
    let all = net.federation(3).await;
    let [asker, _, lost] = &nodes(&all)[..] else { panic!("three") };
    one_moth_each(&nodes(&all)).await;
    net.cut(lost);
    let mut query = by_text();
    query.deadline = Duration::from_millis(1_200);
    let answer = ask(asker, query.clone()).await;
    assert!(answer.elapsed < query.deadline + SLACK, "{:?}", answer.elapsed);
    assert_eq!(answer.results.len(), 2, "the others' answers stand: {:?}", answer.sources);
    assert_ne!(of(&answer, &lost.peer_id()).status, SourceStatus::Answered);
}

#[tokio::test]
async fn a_member_that_stops_is_named_at_once_and_back_within_two_seconds() {
    let mut federation = Federation::of(3).await;
    one_moth_each(&federation.nodes).await;
    for at in [2, 1, 0] {
        let node = federation.nodes.remove(at);
        let peer = node.peer_id();
        stop(node).await;
        let asker = federation.nodes[0].clone();
        until("it is noticed", || {
            (state(&asker, &peer) == Some(PeerState::Unreachable)).then_some(())
        })
        .await;
        let answer = ask(&asker, by_vector()).await;
        assert_eq!(of(&answer, &peer).status, SourceStatus::Unreachable);
        assert!(answer.elapsed < by_vector().deadline / 2, "{:?}", answer.elapsed);
        assert_eq!(answer.results.len(), 2);

        federation.nodes.insert(at, federation.homes[at].open().await);
        back_within_two_seconds(&federation.nodes).await;
    }
}

#[tokio::test]
async fn a_member_that_dies_without_a_word_and_starts_again_is_back_within_two_seconds() {
    let net = Net::default();
    let mut all = net.federation(3).await;
    one_moth_each(&nodes(&all)).await;
    // Each of them: which of two dials whom hangs on their ids.
    for at in 0..3 {
        let crashed = all.remove(at);
        let peer = crashed.node.peer_id();
        let held: Vec<_> = all.iter().map(|other| other.node.token(&peer)).collect();
        let crashed = net.crash(crashed).await;
        let began = Watch::start();
        // The sessions with its former life are replaced although nobody used them meanwhile.
        until("the others have new sessions with it", || {
            let now: Vec<_> = all.iter().map(|other| other.node.token(&peer)).collect();
            let fresh = |(now, held): (&Option<_>, &Option<_>)| now.is_some() && now != held;
            now.iter().zip(&held).all(fresh).then_some(())
        })
        .await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        all.insert(at, crashed);
        for laned in &all {
            let answer = ask(&laned.node, by_vector()).await;
            assert!(answer.complete, "{:?}", answer.sources);
            assert_eq!(answer.results.len(), 3);
        }
    }
}

/// Every member gets whole answers again, with all records.
async fn back_within_two_seconds(nodes: &[FederatedMesh]) {
    let began = Watch::start();
    for node in nodes {
        let answer = until_async("the federation is whole again", || async {
            let mut query = by_vector();
            query.deadline = Duration::from_millis(300);
            Some(ask(node, query).await).filter(|answer| answer.complete)
        })
        .await;
        assert_eq!(answer.results.len(), nodes.len());
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_slow_member_holds_up_no_others_event() {
    let federation = Federation::of(3).await;
    one_moth_each(&federation.nodes).await;
    let asker = &federation.nodes[1];
    let slow = Actor::join(federation.founder(), "slow", |request| match request {
        Request::Search(_) => {
            Reply::Late(Duration::from_millis(900), Box::new(answer(vec![leg(&[0.99, 0.5])])))
        }
        _ => Reply::Usual,
    })
    .await;
    until("the slow one is active", || {
        (state(asker, &slow.peer_id()) == Some(PeerState::Active)).then_some(())
    })
    .await;
    for (make, by_vector) in [(by_vector as fn() -> QuerySpec, true), (by_text, false)] {
        let began = Instant::now();
        let mut events = asker.federated_query_events(make()).expect("begins");
        let mut quick = Vec::new();
        while quick.len() < 3 {
            match events.recv().await.expect("goes on") {
                QueryEvent::Source(report) => quick.push(report),
                QueryEvent::Done(result) => panic!("ended without the slow one: {result:?}"),
            }
        }
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
        assert!(quick.iter().all(|report| report.status == SourceStatus::Answered), "{quick:?}");
        assert!(quick.iter().all(|report| report.peer != slow.peer_id()), "{quick:?}");
        let Some(QueryEvent::Source(last)) = events.recv().await else { panic!("no last event") };
        assert_eq!(last.peer, slow.peer_id());
        assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
        let Some(QueryEvent::Done(result)) = events.recv().await else { panic!("no end") };
        assert!(events.recv().await.is_none(), "nothing follows the end");
        if result.sources.iter().all(|report| report.status == SourceStatus::Answered) {
            assert!(result.complete);
        }
        if by_vector {
            assert_eq!(ids(&result)[0], "lie:0");
            assert_eq!(result.results.len(), 5);
        }
    }
}

#[tokio::test]
async fn a_member_slower_than_the_deadline_times_out_and_is_asked_again_next_time() {
    let federation = Federation::of(2).await;
    one_moth_each(&federation.nodes).await;
    let asker = &federation.nodes[1];
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let slow = Actor::join(federation.founder(), "slow", move |request| match request {
        Request::Search(_) => {
            count.fetch_add(1, Ordering::Relaxed);
            Reply::Silence
        }
        _ => Reply::Usual,
    })
    .await;
    until("the slow one is active", || {
        (state(asker, &slow.peer_id()) == Some(PeerState::Active)).then_some(())
    })
    .await;
    for _ in 0..3 {
        let before = asked.load(Ordering::Relaxed);
        let mut query = by_vector();
        query.deadline = Duration::from_millis(300);
        let answer = ask(asker, query.clone()).await;
        assert!(answer.elapsed < query.deadline + SLACK, "{:?}", answer.elapsed);
        let report = of(&answer, &slow.peer_id());
        assert_eq!(report.status, SourceStatus::Timeout, "{report:?}");
        assert_eq!(answer.results.len(), 2);
        assert!(asked.load(Ordering::Relaxed) > before);
    }
}

#[tokio::test]
async fn a_member_that_never_says_hello_is_closed_within_the_handshake_timeout() {
    let federation = Federation::of(1).await;
    let founder = federation.founder();
    let raw = Raw::member(founder, "mute").await;
    invite(founder, true);
    let member = raw.dial(founder, Purpose::Member).await;
    let stranger = Raw::stranger();
    let join = stranger.dial(founder, Purpose::Join).await;
    let began = Instant::now();
    let allowed = Duration::from_millis(exo_types::limits::HANDSHAKE_TIMEOUT_MILLIS);
    for channel in [member, join] {
        let code = close_code(&channel).await;
        assert_eq!(code, 2);
        assert!(began.elapsed() < allowed + SLACK, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_member_that_never_answers_a_hello_is_unreachable_and_holds_up_no_query() {
    let federation = Federation::of(2).await;
    one_moth_each(&federation.nodes).await;
    let founder = federation.founder();
    let mute = Actor::join(founder, "mute", |_| Reply::Silence).await;
    let mut query = by_vector();
    query.deadline = Duration::from_millis(500);
    let answer = ask(founder, query.clone()).await;
    assert!(answer.elapsed < query.deadline + SLACK, "{:?}", answer.elapsed);
    let report = of(&answer, &mute.peer_id());
    assert_eq!(report.status, SourceStatus::Unreachable, "{report:?}");
    assert_eq!(answer.results.len(), 2);
    assert_ne!(state(founder, &mute.peer_id()), Some(PeerState::Active));
}

#[tokio::test]
async fn a_query_under_way_when_its_member_stops_ends_early_and_says_so() {
    let federation = Federation::of(2).await;
    one_moth_each(&federation.nodes).await;
    let asker = &federation.nodes[1];
    let slow = Actor::join(federation.founder(), "slow", |request| match request {
        Request::Search(_) => Reply::Silence,
        _ => Reply::Usual,
    })
    .await;
    until("the slow one is active", || {
        (state(asker, &slow.peer_id()) == Some(PeerState::Active)).then_some(())
    })
    .await;
    let mut query = by_vector();
    query.deadline = Duration::from_secs(10);
    let mut events = asker.federated_query_events(query).expect("begins");
    for _ in 0..2 {
        assert!(matches!(events.recv().await, Some(QueryEvent::Source(_))));
    }
    slow.raw.endpoint.close(0, "the node stopped");
    let Some(QueryEvent::Source(report)) = events.recv().await else { panic!("no event") };
    assert_eq!(report.status, SourceStatus::Unreachable, "{report:?}");
    let Some(QueryEvent::Done(result)) = events.recv().await else { panic!("no end") };
    assert!(result.elapsed < Duration::from_secs(3), "{:?}", result.elapsed);
    assert_eq!(result.results.len(), 2);
}

#[tokio::test]
async fn a_node_that_cannot_save_its_state_says_so_and_leaves_nobody_waiting() {
    let federation = Federation::of(2).await;
    one_moth_each(&federation.nodes).await;
    let founder = federation.founder();
    let slow = Actor::join(founder, "slow", |request| match request {
        Request::Search(_) => Reply::Silence,
        _ => Reply::Usual,
    })
    .await;
    until("the slow one is active", || {
        (state(founder, &slow.peer_id()) == Some(PeerState::Active)).then_some(())
    })
    .await;
    let mut query = by_vector();
    query.deadline = Duration::from_secs(30);
    let mut events = founder.federated_query_events(query).expect("begins");
    // A directory stands where the next state would be written.
    std::fs::create_dir(federation.homes[0].path().join("state.new")).expect("makes it");
    let peer = federation.nodes[1].peer_id();
    let error = founder.revoke(&peer, "").expect_err("cannot be saved");
    assert_eq!(error.code, ErrorCode::Io);
    let began = Instant::now();
    while let Some(event) = events.recv().await {
        assert!(matches!(event, QueryEvent::Source(_)), "{event:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let error = founder.federated_query(by_vector()).await.expect_err("is out of order");
    assert_eq!(error.code, ErrorCode::Io);
    assert_eq!(founder.status().await.expect_err("is out of order").code, ErrorCode::Io);
    // What was not saved was not told either.
    assert_eq!(state(&federation.nodes[1], &founder.peer_id()), Some(PeerState::Active));
    let mut query = by_vector();
    query.deadline = Duration::from_millis(300);
    let answer = ask(&federation.nodes[1], query).await;
    assert_ne!(of(&answer, &founder.peer_id()).status, SourceStatus::Answered);
}

#[tokio::test]
async fn two_that_dial_each_other_at_once_keep_one_session() {
    join(dial_at_once(true), dial_at_once(false)).await;
}

/// The session that the smaller of two ids dialled stays.
async fn dial_at_once(raw_is_smaller: bool) {
    let federation = Federation::of(1).await;
    let node = federation.founder();
    one_moth_each(&federation.nodes).await;
    let raw = loop {
        let raw = Raw::stranger();
        if (raw.peer_id() < node.peer_id()) == raw_is_smaller {
            break raw;
        }
    };
    let actor = Actor::idle(raw, node, "twin", |_| Reply::Usual).await;
    let accepted = tokio::time::timeout(PATIENCE, actor.raw.endpoint.accept());
    let theirs = accepted.await.expect("is dialled").expect("is open");
    // Before the node's hello is answered, the other side's own session is up.
    let ours = actor.raw.enter(node).await;
    actor.serve(ours.channel.clone());
    ask_raw(&ours.channel, &Request::Ping).await;
    until("the session is in use", || node.token(&actor.peer_id())).await;
    actor.serve(theirs.clone());

    let (kept, closed) =
        if raw_is_smaller { (&ours.channel, &theirs) } else { (&theirs, &ours.channel) };
    assert_eq!(close_code(closed).await, 1, "superseded");
    assert!(!kept.is_closed(), "{:?}", kept.close_reason());
    let answer = ask(node, by_vector()).await;
    assert!(answer.complete, "{:?}", answer.sources);
    assert!(!kept.is_closed());
    let answer = ours.search(ours.token().id);
    if raw_is_smaller {
        assert!(matches!(answer.await, Response::Answer { .. }));
    }
}

/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_millis(1_500);
