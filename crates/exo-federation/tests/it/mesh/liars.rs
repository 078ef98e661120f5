//! Members that answer what cannot be right: each is named as failed and the others' answers stand.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exo_federation::{ErrorCode, FederatedMesh, PeerState, QuerySpec, SourceStatus};
use exo_node::wire::{Request, Response};
use exo_types::limits::{QUERY_TERMS_MAX, TOP_K_MAX};
use exo_types::{Leg, LegKind, Metric, ScoreScale, TermStats, Wire};

use super::actor::{Actor, Reply, answer, encoded, leg};
use super::nodes::{
    Federation, admit, ask, by_text, by_vector, ids, of, one_moth_each, state, until,
};
use super::raw::{Raw, ask as ask_raw, close_code};
use crate::net::rogue::Rogue;

/// Two honest members, and one that says what it is told to.
struct Setting {
    federation: Federation,
    liar: Actor,
    says: Arc<Mutex<Reply>>,
}

impl Setting {
    /// `lies_about` picks the requests that get the lie.
    async fn new(lies_about: fn(&Request) -> bool) -> Self {
        let federation = Federation::of(2).await;
        one_moth_each(&federation.nodes).await;
        let says = Arc::new(Mutex::new(Reply::Usual));
        let told = says.clone();
        let liar = Actor::join(federation.founder(), "liar", move |request| {
            if lies_about(request) { told.lock().expect("is whole").clone() } else { Reply::Usual }
        })
        .await;
        let setting = Self { federation, liar, says };
        until("the liar is active", || {
            (state(setting.asker(), &setting.liar.peer_id()) == Some(PeerState::Active))
                .then_some(())
        })
        .await;
        setting
    }

    fn asker(&self) -> &FederatedMesh {
        &self.federation.nodes[1]
    }

    fn say(&self, reply: Reply) {
        *self.says.lock().expect("is whole") = reply;
    }
}

fn is_search(request: &Request) -> bool {
    matches!(request, Request::Search(_))
}

fn is_terms(request: &Request) -> bool {
    matches!(request, Request::Terms(_))
}

#[tokio::test]
async fn a_lying_answer_fails_its_source_and_no_other() {
    let setting = Setting::new(is_search).await;
    let mut good = leg(&[0.9]);
    good.hits[0].vector = Some(vec![0.9, (1.0f32 - 0.81).sqrt()]);
    let with = |change: &dyn Fn(&mut Leg)| {
        let mut leg = good.clone();
        change(&mut leg);
        answer(vec![leg])
    };
    let scale = |dimensions| ScoreScale::Vector {
        metric: Metric::Cosine,
        dimensions,
        embedder: String::new(),
    };
    let bytes = encoded(&Response::Answer { legs: vec![good.clone()] });
    let altered = |find: &[u8], put: &[u8]| {
        let mut bytes = bytes.clone();
        let at = bytes.windows(find.len()).position(|seen| seen == find).expect("is there");
        bytes[at..at + put.len()].copy_from_slice(put);
        Reply::Bytes(bytes)
    };
    let score = 0.9f32.to_le_bytes();
    let text = Leg { kind: LegKind::Text, scale: ScoreScale::TextGlobal, hits: Vec::new() };
    let lies = [
        ("results out of order", answer(vec![leg(&[0.1, 0.9])])),
        ("more than was asked for", answer(vec![leg(&[0.5; 11])])),
        ("vectors of other dimensions", with(&|l| l.scale = scale(3))),
        ("a result of other dimensions", with(&|l| l.hits[0].vector = Some(vec![1.0]))),
        ("a score that its vector has not", with(&|l| l.hits[0].score = 0.99)),
        ("a score that is no number", altered(&score, &f32::NAN.to_le_bytes())),
        ("an endless score", altered(&score, &f32::INFINITY.to_le_bytes())),
        ("a word for another", altered(b"lie:0", b"\xff\xfe\xff\xfe\xff")),
        ("lists that were not asked for", answer(vec![good.clone(), text])),
        ("something else", Reply::Say(Response::Done)),
        ("garbage", Reply::Bytes(vec![0xff; 1000])),
        ("nothing", Reply::Bytes(Vec::new())),
        ("no frame", Reply::Frames(Vec::new())),
        ("two frames", Reply::Frames(vec![bytes.clone(), bytes.clone()])),
        ("half an answer", Reply::Bytes(bytes[..bytes.len() / 2].to_vec())),
        ("more than the answer", Reply::Bytes([bytes.as_slice(), &[0]].concat())),
        ("a promise of 4 GiB", Reply::Bytes(vec![6, 0xff, 0xff, 0xff, 0xff, 0x0f])),
    ];
    for (what, lie) in lies {
        setting.say(lie);
        let answer = ask(setting.asker(), by_vector()).await;
        let report = of(&answer, &setting.liar.peer_id());
        assert_eq!(report.status, SourceStatus::Failed, "{what}: {report:?}");
        assert!(!report.detail.is_empty() && report.count == 0, "{what}: {report:?}");
        assert!(!answer.complete, "{what}");
        assert_eq!(answer.results.len(), 2, "{what}");
        assert!(answer.elapsed < by_vector().deadline, "{what}: {:?}", answer.elapsed);
    }
    // The same source is good again when it says what is right.
    setting.say(answer(vec![good]));
    let answer = ask(setting.asker(), by_vector()).await;
    assert!(answer.complete, "{:?}", answer.sources);
    assert_eq!((answer.results.len(), ids(&answer).contains(&"lie:0")), (3, true));
}

#[tokio::test]
async fn an_answer_that_announces_more_than_a_frame_holds_fails_its_source_at_once() {
    let federation = Federation::of(2).await;
    one_moth_each(&federation.nodes).await;
    let node = federation.founder();
    let actor = Actor::idle(Raw::stranger(), node, "huge", |_| Reply::Usual).await;
    let huge = actor.peer_id();
    let rogue = Rogue::like(&actor.raw.keypair);
    let (_endpoint, connection) = rogue.dial(node.mesh_listen()).await.expect("connects");
    let hello = actor.raw.hello(super::nodes::federation(node).await.id);
    let ask = async |request: &Request| {
        let (mut to, mut from) = connection.open_bi().await.expect("opens");
        let body = request.to_wire().expect("encodes");
        let len = u32::try_from(body.len()).expect("is short").to_be_bytes();
        to.write_all(&[&len, body.as_slice()].concat()).await.expect("is read");
        to.finish().expect("is open");
        let answer = from.read_to_end(1 << 20).await.expect("is answered");
        Response::from_wire(&answer[4..]).expect("decodes")
    };
    let answer = ask(&Request::Hello(Box::new(hello))).await;
    assert!(matches!(answer, Response::Welcome(_)), "{answer:?}");
    // The node asks for its token over the same connection before it answers the first request.
    let (serving, peer) = (connection.clone(), node.peer_id());
    tokio::spawn(async move {
        while let Ok((mut to, mut from)) = serving.accept_bi().await {
            let request = from.read_to_end(1 << 20).await.expect("is whole");
            let request = Request::from_wire(&request[4..]).expect("decodes");
            let frame = match &request {
                Request::Search(_) => [&[0xff; 4], [0; 1000].as_slice()].concat(),
                request => {
                    let body = encoded(&actor.usual(peer, request));
                    let len = u32::try_from(body.len()).expect("is short").to_be_bytes();
                    [&len, body.as_slice()].concat()
                }
            };
            to.write_all(&frame).await.expect("is read");
            if matches!(request, Request::Search(_)) {
                // The rest of the 4 GiB may come for as long as it likes.
                tokio::spawn(async move { to.stopped().await });
            } else {
                to.finish().expect("is open");
            }
        }
    });
    assert_eq!(ask(&Request::Ping).await, Response::Done);
    until("it is active", || (state(node, &huge) == Some(PeerState::Active)).then_some(())).await;
    let answer = super::nodes::ask(node, by_vector()).await;
    let report = of(&answer, &huge);
    assert_eq!(report.status, SourceStatus::Failed, "{report:?}");
    assert_eq!(answer.results.len(), 2);
    assert!(answer.elapsed < by_vector().deadline, "{:?}", answer.elapsed);
}

#[tokio::test]
async fn a_source_that_gives_up_or_is_busy_says_so_and_holds_up_nobody() {
    use exo_node::refusal::Refusal;
    let setting = Setting::new(is_search).await;
    let refused = |refusal| Reply::Say(Response::Refused(refusal));
    let cases = [
        (Reply::GiveUp, SourceStatus::Unreachable),
        (refused(Refusal::Busy), SourceStatus::Declined),
        (refused(Refusal::Embedder), SourceStatus::Declined),
        (refused(Refusal::SearchFailed), SourceStatus::Failed),
        (refused(Refusal::TokenOverreach), SourceStatus::Refused),
        // For ever: a fresh token is asked for once, not without end.
        (refused(Refusal::TokenUnknown), SourceStatus::Refused),
    ];
    for (reply, expected) in cases {
        setting.say(reply);
        let answer = ask(setting.asker(), by_vector()).await;
        let report = of(&answer, &setting.liar.peer_id());
        assert_eq!(report.status, expected, "{report:?}");
        assert!(!report.detail.is_empty());
        assert_eq!(answer.results.len(), 2);
        assert!(answer.elapsed < by_vector().deadline, "{:?}", answer.elapsed);
    }
}

#[tokio::test]
async fn the_most_results_there_may_be_are_taken_and_cut_to_what_was_asked() {
    let setting = Setting::new(is_search).await;
    let mut query = by_vector();
    query.top_k = TOP_K_MAX;
    let scores: Vec<f32> = (0..TOP_K_MAX).map(|i| 1.0 - i as f32 / 2000.0).collect();
    setting.say(answer(vec![leg(&scores)]));
    let whole = ask(setting.asker(), query.clone()).await;
    assert!(whole.complete, "{:?}", whole.sources);
    assert_eq!(whole.results.len(), TOP_K_MAX);
    assert!(whole.results.is_sorted_by(|a, b| a.score >= b.score));
    query.top_k = TOP_K_MAX + 1;
    let error = setting.asker().federated_query(query).await.expect_err("too many");
    assert_eq!(error.code, ErrorCode::InvalidQuery);
}

#[tokio::test]
async fn false_term_statistics_take_no_honest_result_away() {
    let setting = Setting::new(is_terms).await;
    let terms =
        |records, tokens, terms| Reply::Say(Response::Terms(TermStats { records, tokens, terms }));
    let bogus: Vec<_> = (0..QUERY_TERMS_MAX).map(|i| (format!("!{i:03}"), 1)).collect();
    let lies = [
        ("endless counts", terms(u64::MAX, u64::MAX, vec![("moth".to_owned(), u64::MAX)])),
        ("no tokens", terms(u64::MAX, 0, vec![("moth".to_owned(), 1)])),
        ("endless tokens", terms(1, u64::MAX, Vec::new())),
        ("other words, before the query's", terms(9, 9, bogus)),
        ("garbage", Reply::Bytes(vec![0xff; 99])),
        ("something else", Reply::Say(Response::Done)),
    ];
    for (what, lie) in lies {
        setting.say(lie);
        let answer = ask(setting.asker(), by_text()).await;
        assert_eq!(answer.results.len(), 2, "{what}: {answer:?}");
        assert!(
            answer.results.iter().all(|hit| hit.score.is_finite() && hit.score > 0.0),
            "{what}"
        );
        for node in &setting.federation.nodes {
            assert_eq!(of(&answer, &node.peer_id()).status, SourceStatus::Answered, "{what}");
        }
    }
}

#[tokio::test]
async fn statistics_that_break_their_own_rules_fail_their_source() {
    let setting = Setting::new(is_terms).await;
    // More records hold the word than there are: the honest encoder refuses it, so by hand.
    let good = TermStats { records: 5, tokens: 5, terms: vec![("moth".to_owned(), 5)] };
    let mut bytes = encoded(&Response::Terms(good));
    let at = bytes.len() - 1;
    assert_eq!(bytes[at], 5);
    bytes[at] = 6;
    assert!(Response::from_wire(&bytes).is_err());
    setting.say(Reply::Bytes(bytes));
    let answer = ask(setting.asker(), by_text()).await;
    let report = of(&answer, &setting.liar.peer_id());
    assert_eq!(report.status, SourceStatus::Failed, "{report:?}");
    assert_eq!(answer.results.len(), 2);
}

#[tokio::test]
async fn a_false_roster_or_descriptor_changes_nothing() {
    use exo_crypto::Signed;
    use exo_node::roster::{Member, RosterBody};
    use exo_node::wire::Synced;
    use exo_types::Epoch;

    let says = Arc::new(Mutex::new(Reply::Usual));
    let told = says.clone();
    let federation = Federation::of(2).await;
    one_moth_each(&federation.nodes).await;
    let founder = federation.founder();
    let view = super::nodes::federation(founder).await;
    let told_count = Arc::new(AtomicUsize::new(0));
    let count = told_count.clone();
    let liar = Actor::join(founder, "liar", move |request| match request {
        Request::Sync(_) => {
            count.fetch_add(1, Ordering::Relaxed);
            told.lock().expect("is whole").clone()
        }
        _ => Reply::Usual,
    })
    .await;
    // A roster in which the liar alone is left, of a far epoch, signed by the liar.
    let usurper = Member {
        key: liar.raw.keypair.public().clone(),
        cosigner: liar.raw.cosigner.clone(),
        name: exo_federation::NodeName::new("liar").expect("a name"),
        unverified: false,
        since: Epoch(0),
        revoked: None,
    };
    let body = RosterBody {
        federation: view.id,
        epoch: Epoch(1000),
        members: vec![usurper],
        voters: Vec::new(),
    };
    let roster = Signed::sign(body, &liar.raw.keypair).expect("signs").into_signed();
    let stranger = Raw::stranger().descriptor();
    let reply = |roster, descriptors| {
        Reply::Say(Response::Synced(Box::new(Synced { roster, descriptors })))
    };
    let known = founder.peers().len();
    for (what, reply, closed) in [
        ("a descriptor of nobody", reply(None, vec![stranger]), false),
        ("a roster", reply(Some(roster), Vec::new()), true),
    ] {
        *says.lock().expect("is whole") = reply;
        let channel = liar.raw.enter(founder).await.channel;
        // The founder hears that there is news and asks for it.
        let notify = Request::Notify { epoch: Epoch(1000) };
        assert_eq!(ask_raw(&channel, &notify).await, Response::Done, "{what}");
        let before = told_count.load(Ordering::Relaxed);
        liar.serve(channel.clone());
        until("the lie is told", || (told_count.load(Ordering::Relaxed) > before).then_some(()))
            .await;
        if closed {
            assert_eq!(close_code(&channel).await, 2, "{what}");
        } else {
            assert_eq!(ask_raw(&channel, &Request::Ping).await, Response::Done, "{what}");
        }
        for node in &federation.nodes {
            let now = super::nodes::federation(node).await;
            assert_eq!(now.founder, view.founder, "{what}");
            assert!(now.epoch < Epoch(10), "{what}");
        }
        assert_eq!(founder.peers().len(), known, "{what}");
        let mut query: QuerySpec = by_vector();
        query.deadline = Duration::from_millis(500);
        assert_eq!(ask(founder, query).await.results.len(), 2, "{what}");
    }
    // The federation goes on as it was.
    let newcomer = super::nodes::Home::new("n2");
    let newcomer = newcomer.open().await;
    admit(founder, &newcomer).await;
}
