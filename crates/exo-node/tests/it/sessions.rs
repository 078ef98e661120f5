//! Sessions between members: news that crosses, members removed while something is under way, peers
//! that come again and again.

use std::time::Duration;

use exo_node::effect::{Input, Purpose, SessionId};
use exo_node::wire::{
    CloseReason, Request, Response, SearchFor, SearchRequest, TermsOf, TermsRequest,
};
use exo_types::limits::{
    RECONNECT_LATELY_DIALS, RECONNECT_LATELY_MILLIS_MAX, RECONNECT_MILLIS_MAX,
    RECONNECT_VOTER_MILLIS_MAX, REKEY_MILLIS, SESSIONS_PER_PEER_MAX,
};
use exo_types::{Filter, QueryTarget, TokenId};

use crate::constitution::four_and;
use crate::wires::{Pending, Wires};

fn token(wires: &Wires, of: usize, at: usize) -> TokenId {
    wires.node(of).token_at(&wires.peer(at)).expect("holds a token").id
}

fn search(token: TokenId) -> Request {
    Request::Search(Box::new(SearchRequest {
        token,
        search: SearchFor {
            collection: None,
            target: QueryTarget::vector(vec![1.0, 0.0]),
            filter: Filter::default(),
            top_k: 3,
            terms: None,
            vectors: false,
        },
    }))
}

fn deliver(wires: &mut Wires, call: exo_node::effect::CallId) -> Option<Response> {
    wires.step(|what| matches!(what, Pending::Request { call: of, .. } if *of == call));
    wires.answer(call)
}

#[test]
fn a_member_removed_during_its_search_gets_no_answer() {
    let mut wires = Wires::federation(2);
    let session = wires.session(0, 1).expect("a session");
    let of_member = token(&wires, 1, 0);
    let terms = TermsRequest {
        token: of_member,
        of: TermsOf { collection: None, text: "moth".to_owned() },
    };
    for request in [search(of_member), Request::Terms(terms)] {
        let call = wires.ask(1, 0, session, request);
        assert_eq!(deliver(&mut wires, call), None, "the search is under way");
    }
    let peer = wires.peer(1);
    wires.drive(0, |node, now| node.revoke(now, &peer, "gone")).expect("revokes");
    let found = |what: &Pending| matches!(what, Pending::Search { .. } | Pending::Terms { .. });
    while wires.step(found) {}
    let told = wires.pending.iter().filter(|what| {
        matches!(
            what,
            Pending::Response { response: Response::Answer { .. } | Response::Terms(_), .. }
        )
    });
    assert_eq!(told.count(), 0);
}

#[test]
fn a_member_removed_while_its_old_session_drains_learns_nothing_on_it() {
    let mut wires = Wires::federation(2);
    let old = wires.session(0, 1).expect("a session");
    wires.pass(Duration::from_secs(6));
    // A second session takes the first one's place, which may still finish what is under way.
    wires.connect(1, 0, Purpose::Member);
    wires.run();
    let drains = |what: &Pending| matches!(what, Pending::Close { at: 0, drain: true, .. });
    assert!(wires.pending.iter().any(drains), "{:?}", wires.pending);
    let peer = wires.peer(1);
    wires.drive(0, |node, now| node.revoke(now, &peer, "gone")).expect("revokes");
    let cut = wires.pending.iter().filter(|what| {
        matches!(what, Pending::Close { at: 0, reason: CloseReason::Revoked, drain: false, .. })
    });
    assert_eq!(cut.count(), 2, "both sessions are cut at once");
    for request in [
        Request::Sync(exo_node::wire::SyncRequest { epoch: exo_types::Epoch(0), have: Vec::new() }),
        Request::Grant,
        Request::Ping,
        search(TokenId::new([1; 16])),
    ] {
        let call = wires.ask(1, 0, old, request);
        let answer = deliver(&mut wires, call);
        assert!(matches!(answer, Some(Response::Refused(_))), "{answer:?}");
    }
}

#[test]
fn news_that_comes_while_older_news_is_fetched_is_fetched_too() {
    let mut wires = Wires::federation(2);
    let epoch = |wires: &Wires, at: usize| wires.node(at).federation().expect("member").epoch;
    let session = wires.session(1, 0).expect("a session");
    // The member asks for news and is answered before there are any.
    let told = Request::Notify { epoch: epoch(&wires, 0) };
    let call = wires.ask(0, 1, session, told.clone());
    deliver(&mut wires, call);
    let sync = |what: &Pending| matches!(what, Pending::Request { request: Request::Sync(_), .. });
    assert!(wires.step(sync), "the member asks");
    // Then a third node is admitted, and the word of it overtakes the answer.
    let answers =
        |what: &Pending| matches!(what, Pending::Response { response: Response::Synced(_), .. });
    let held = wires.pending.iter().position(answers).expect("the answer is on its way");
    let held = wires.pending.remove(held).expect("is there");
    let peer = wires.peer(1);
    wires
        .drive(0, |node, now| node.invite(now, 60_000, true, &[([10, 0, 0, 0], 1).into()]))
        .expect("invites");
    let before = epoch(&wires, 0);
    wires.drive(0, |node, now| {
        node.revoke_tokens(now, &peer);
    });
    admit_somebody(&mut wires);
    assert!(epoch(&wires, 0) > before);
    let notify = |what: &Pending| {
        matches!(what, Pending::Request { to: 1, request: Request::Notify { .. }, .. })
    };
    assert!(wires.step(notify), "the word of it arrives");
    wires.pending.push_front(held);
    wires.run();
    assert_eq!(epoch(&wires, 1), epoch(&wires, 0));
}

/// The founder admits a node that is not on the wires.
fn admit_somebody(wires: &mut Wires) {
    let mut other = Wires::new(9);
    let key = other.hosts[8].keypair.public().clone();
    let ticket = wires.invite(true);
    let session = SessionId(1 << 45);
    let up = |dialled| Input::SessionUp {
        session,
        key: key.clone(),
        dialled,
        purpose: Purpose::Join,
        exporter: [3; 32],
    };
    wires.input(0, up(false));
    other.drive(8, |node, now| node.join(now, ticket)).expect("joins");
    other.pending.clear();
    let founder = wires.hosts[0].keypair.public().clone();
    other.now = wires.now;
    let to_founder = Input::SessionUp {
        session,
        key: founder,
        dialled: true,
        purpose: Purpose::Join,
        exporter: [3; 32],
    };
    other.introduce(8, session, 0);
    other.input(8, to_founder);
    for _ in 0..2 {
        let (call, request) = other.take_request(8).expect("the joiner asks");
        let asked = wires.ask(8, 0, session, request);
        let answer = deliver(wires, asked).expect("the founder answers");
        other.input(8, Input::Response { call, result: Ok(answer) });
    }
}

#[test]
fn a_member_behind_hears_of_news_when_it_is_asked_for_its_own() {
    let mut wires = Wires::federation(2);
    admit_somebody(&mut wires);
    // Word of it is lost.
    wires.pending.retain(|what| !matches!(what, Pending::Request { to: 1, .. }));
    let session = wires.session(1, 0).expect("a session");
    let epoch = wires.node(0).federation().expect("member").epoch;
    let ask = Request::Sync(exo_node::wire::SyncRequest { epoch, have: Vec::new() });
    let call = wires.ask(0, 1, session, ask);
    deliver(&mut wires, call);
    wires.run();
    assert_eq!(wires.node(1).federation().expect("member").epoch, epoch);
}

#[test]
fn a_peer_that_connects_again_and_again_is_heard_and_holds_few_sessions() {
    let mut wires = Wires::federation(2);
    let key = wires.hosts[1].keypair.public().clone();
    for number in 0..20 {
        let up = Input::SessionUp {
            session: SessionId((1 << 40) + number),
            key: key.clone(),
            dialled: false,
            purpose: Purpose::Member,
            exporter: [0; 32],
        };
        wires.input(0, up);
    }
    let newest = (1 << 40) + 20 - SESSIONS_PER_PEER_MAX as u64 + 1;
    let closed = |what: &Pending| match what {
        Pending::Close { at: 0, session, .. } => Some(session.0),
        _ => None,
    };
    let closed: Vec<u64> = wires.pending.iter().filter_map(closed).collect();
    assert!(closed.iter().all(|session| *session < newest), "the newest stay: {closed:?}");
    assert_eq!(closed.len(), 20 + 1 - SESSIONS_PER_PEER_MAX);
}

#[test]
fn a_peer_whose_sessions_fail_again_and_again_is_dialled_once_at_a_time() {
    let mut wires = Wires::federation(2);
    let session = wires.session(0, 1).expect("a session");
    wires.crash(1);
    wires.end(0, session, None);
    let key = wires.hosts[1].keypair.public().clone();
    for number in 0..100 {
        let session = SessionId((1 << 40) + number);
        let key = key.clone();
        let (purpose, exporter) = (Purpose::Member, [0; 32]);
        wires.input(0, Input::SessionUp { session, key, dialled: false, purpose, exporter });
        wires.input(0, Input::SessionDown { session, reason: None });
    }
    let load = wires.node(0).load();
    assert!(load.timers <= 2, "one to dial it, one for upkeep: {load:?}");
    assert_eq!(load.sessions, 0);
}

#[test]
fn a_member_that_moved_is_found_though_its_clock_was_set_back() {
    let mut wires = Wires::federation(2);
    wires.crash(1);
    let (before, session) = (wires.now, wires.session(0, 1).expect("a session"));
    wires.end(0, session, None);
    wires.pending.clear();
    wires.hosts[1].host_name = "10.0.0.1.moved".to_owned();
    wires.now = Duration::ZERO;
    wires.start(1);
    wires.now = before;
    wires.connect(1, 0, Purpose::Member);
    wires.run();
    let peers = wires.node(0).peers();
    let known = peers.iter().find(|peer| peer.peer == wires.peer(1)).expect("a member");
    assert_eq!(known.addresses[0].host, "10.0.0.1.moved");
}

#[test]
fn a_member_that_is_lost_is_dialled_again_within_a_second() {
    let mut wires = Wires::federation(2);
    let session = wires.session(0, 1).expect("a session");
    wires.end(0, session, None);
    wires.pass(Duration::from_secs(1));
    assert!(wires.session(0, 1).is_some());
    assert!(wires.node(0).token_at(&wires.peer(1)).is_some(), "and is in use");
}

#[test]
fn a_member_that_falls_silent_is_dialled_beside_its_session() {
    let mut wires = Wires::federation(2);
    let old = wires.session(0, 1).expect("a session");
    wires.pass(Duration::from_secs(6));
    wires.input(0, Input::FellSilent(old));
    wires.run();
    let new = wires.session(0, 1).expect("a session");
    assert_ne!(new, old);
    let replaced = |what: &Pending| matches!(what, Pending::Close { at: 0, session, reason: CloseReason::Superseded, .. } if *session == old);
    assert!(wires.pending.iter().any(replaced), "{:?}", wires.pending);
    assert!(wires.node(0).token_at(&wires.peer(1)).is_some(), "and is in use");
    wires.input(0, Input::FellSilent(old));
    assert!(!wires.pending.iter().any(|what| matches!(what, Pending::Dial { .. })));
}

#[test]
fn a_young_session_that_fell_silent_gives_way_whoever_dials() {
    for order in [[0, 1], [1, 0]] {
        let mut wires = Wires::federation(2);
        let old = [wires.session(0, 1), wires.session(1, 0)].map(|end| end.expect("a session"));
        // Both ends are cut off alike, and one notices first.
        for at in order {
            wires.input(at, Input::FellSilent(old[at]));
        }
        wires.pass(Duration::from_secs(3));
        let left = wires.sessions(0, 1);
        assert!(left.len() == 1 && left != [old[0]], "{order:?}: {left:?}");
        assert!(wires.node(0).token_at(&wires.peer(1)).is_some(), "and is in use");
    }
}

#[test]
fn a_session_that_fell_silent_is_given_up_where_no_dial_helps_either() {
    let fails = |wires: &mut Wires, speaks_again: bool| {
        let session = wires.session(0, 1).expect("a session");
        wires.input(0, Input::FellSilent(session));
        if speaks_again {
            wires.input(0, Input::SpeaksAgain(session));
        }
        wires.pending.clear();
        let (peer, detail) = (wires.peer(1), "nobody answers".to_owned());
        let purpose = Purpose::Member;
        wires.input(0, Input::DialFailed { peer, purpose, detail, refused: false });
    };
    let mut wires = Wires::federation(2);
    fails(&mut wires, true);
    assert_eq!(wires.pending.len(), 0, "it leads somewhere again");
    fails(&mut wires, false);
    let given_up =
        |what: &Pending| matches!(what, Pending::Close { at: 0, reason: CloseReason::Silent, .. });
    assert!(wires.pending.iter().any(given_up), "{:?}", wires.pending);
    wires.pass(Duration::from_secs(1));
    assert!(wires.session(0, 1).is_some(), "and it is dialled again soon");
}

#[test]
fn a_member_that_stays_away_is_dialled_ever_more_rarely() {
    let mut wires = Wires::federation(2);
    let waits = waits(&mut wires, Duration::from_secs(600));
    // The first failure is that of the session.
    let (lately, late) = waits.split_at(RECONNECT_LATELY_DIALS as usize - 1);
    let most = |waits: &[u64]| waits.iter().max().copied().expect("it is dialled");
    assert!((2_000..=RECONNECT_LATELY_MILLIS_MAX + STEP).contains(&most(lately)), "{lately:?}");
    assert!((15_000..=RECONNECT_MILLIS_MAX + STEP).contains(&most(late)), "{late:?}");
}

#[test]
fn a_voter_that_stays_away_is_dialled_every_second() {
    let (mut wires, _) = four_and(0);
    let waits = waits(&mut wires, Duration::from_secs(200));
    let most = waits.iter().max().copied().expect("it is dialled");
    assert!((500..=RECONNECT_VOTER_MILLIS_MAX + STEP).contains(&most), "{waits:?}");
}

/// How long node 0 waits each time before it dials node 1, which is gone, in milliseconds.
fn waits(wires: &mut Wires, lasts: Duration) -> Vec<u64> {
    let session = wires.session(0, 1).expect("a session");
    wires.crash(1);
    wires.end(0, session, None);
    let (end, mut last, mut waits) = (wires.now + lasts, wires.now, Vec::new());
    while wires.now < end {
        wires.tick(Duration::from_millis(STEP));
        while wires.step(|what| matches!(what, Pending::Dial { from: 0, to: 1, .. })) {
            waits.push((wires.now - last).as_millis() as u64);
            last = wires.now;
        }
    }
    waits
}

/// Milliseconds by which time passes there.
const STEP: u64 = 10;

#[test]
fn a_revocation_voids_a_token_of_a_former_life_though_the_clock_was_set_back() {
    let mut wires = Wires::federation(2);
    let token = token(&wires, 1, 0);
    // The issuer starts again with a clock a little behind; the holder shows its token.
    let session = wires.session(0, 1).expect("a session");
    wires.crash(0);
    wires.end(1, session, None);
    for session in wires.sessions(1, 0) {
        wires.end(1, session, None);
    }
    wires.pending.clear();
    wires.back += 4_500;
    wires.start(0);
    wires.connect(1, 0, Purpose::Member);
    wires.run();
    assert_eq!(self::token(&wires, 1, 0), token, "the token is good after a restart");
    let holder = wires.peer(1);
    wires.drive(0, |node, now| node.revoke_tokens(now, &holder));
    let session = wires.session(0, 1).expect("a session");
    let call = wires.ask(1, 0, session, search(token));
    let answer = deliver(&mut wires, call);
    assert!(matches!(answer, Some(Response::Refused(_))), "{answer:?}");
}

#[test]
fn an_old_session_gives_way_to_one_with_fresh_keys_and_no_question_is_lost() {
    let mut wires = Wires::federation(2);
    let old = wires.session(0, 1).expect("a session");
    wires.pass(Duration::from_millis(REKEY_MILLIS) - Duration::from_secs(60));
    assert_eq!(wires.sessions(0, 1), [old], "not before its time");
    // A question is under way as the session is replaced.
    let call = wires.ask(1, 0, old, Request::Ping);
    let question =
        |what: &Pending| matches!(what, Pending::Request { call: of, .. } if *of == call);
    for _ in 0..200 {
        wires.run_but(question);
        if wires.sessions(0, 1).len() > 1 {
            break;
        }
        wires.tick(Duration::from_secs(1));
    }
    assert_eq!(wires.sessions(0, 1).len(), 2, "the old one drains");
    assert_eq!(deliver(&mut wires, call), Some(Response::Done));
    wires.pass(Duration::from_secs(5));
    let left = wires.sessions(0, 1);
    assert!(left.len() == 1 && left != [old], "{left:?}");
}
