//! Tokens at the member that honours them: every rule at every request, each refusal by its own code.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use exo_crypto::{PostQuantumKeypair, Signed};
use exo_federation::driver::net::Purpose;
use exo_federation::{CapabilitySet, FederatedMesh, FederationToken, QuerySpec, SourceStatus};
use exo_node::capability::{DIRECTORY, ONION, SEARCH, TERMS};
use exo_node::refusal::Refusal;
use exo_node::wire::{Hello, Request, Response, SyncRequest, TermsOf, TermsRequest};
use exo_types::{Epoch, FederationId, PeerId, Timestamp, TokenId, Wire};
use futures::future::join_all;

use super::nodes::{
    Federation, Home, PATIENCE, admit, all_active, ask as query, by_text, by_vector, federation,
    one_moth_each, state, until, until_async,
};
use super::raw::{Raw, Session, ask, ask_bytes, now, refusal, search};

/// Two members with a record each, and a third that keeps no rule.
struct Setting {
    federation: Federation,
    raw: Raw,
}

impl Setting {
    async fn new() -> Self {
        let federation = Federation::of(2).await;
        one_moth_each(&federation.nodes).await;
        let raw = Raw::member(federation.founder(), "raw").await;
        until("both know the new member", || {
            let knows = |node: &FederatedMesh| state(node, &raw.peer_id()).is_some();
            federation.nodes.iter().all(knows).then_some(())
        })
        .await;
        Self { federation, raw }
    }

    /// The member whose tokens are tried; it is not the founder.
    fn node(&self) -> &FederatedMesh {
        &self.federation.nodes[1]
    }

    /// The key that signs the tokens tried.
    fn issuer(&self) -> PostQuantumKeypair {
        self.federation.homes[1].identity()
    }

    async fn enter(&self) -> Session {
        self.raw.enter(self.node()).await
    }
}

#[tokio::test]
async fn a_request_names_a_token_of_its_session() {
    let setting = Setting::new().await;
    let (one, two) = (setting.enter().await, setting.enter().await);
    let token = one.token();
    assert_eq!((token.holder, token.issuer), (setting.raw.peer_id(), setting.node().peer_id()));
    let Response::Answer { legs } = one.search(token.id).await else { panic!("no answer") };
    assert_eq!(legs.iter().map(|leg| leg.hits.len()).sum::<usize>(), 1);

    let unknown = TokenId::new([7; 16]);
    for (session, id) in [(&one, unknown), (&one, two.token().id), (&two, token.id)] {
        assert_eq!(refusal(session.search(id).await), Refusal::TokenUnknown);
        let terms = ask(&session.channel, &terms(id)).await;
        assert_eq!(refusal(terms), Refusal::TokenUnknown);
    }
}

#[tokio::test]
async fn every_rule_of_a_presented_token_has_its_own_refusal() {
    let setting = Setting::new().await;
    let node = setting.node();
    let first = setting.enter().await;
    let good = first.token();
    let (issuer, founder) = (setting.issuer(), setting.federation.founder());
    let elsewhere = setting.raw.enter(founder).await.welcome.token;
    let (then, soon) = (Timestamp(now().0 - 60_000), Timestamp(now().0 + 60_000));
    let epoch = good.epoch.0;
    let other = founder.peer_id();

    let signed = |change: &dyn Fn(&mut FederationToken)| {
        let mut token = good.clone();
        change(&mut token);
        Signed::sign(token, &issuer).expect("signs").into_signed()
    };
    let by_holder = {
        let mut token = good.clone();
        token.issuer = setting.raw.peer_id();
        Signed::sign(token, &setting.raw.keypair).expect("signs").into_signed()
    };
    let foreign = FederationId::new([9; 32]);
    let tried = [
        ("federation", signed(&|t| t.federation = foreign), Refusal::TokenForeign),
        ("issued elsewhere", elsewhere, Refusal::TokenAudience),
        ("for elsewhere", signed(&|t| t.audience = other), Refusal::TokenAudience),
        ("signed by its holder", by_holder, Refusal::TokenAudience),
        ("another's", signed(&|t| t.holder = other), Refusal::TokenHolder),
        ("expired", signed(&|t| (t.issued, t.expires) = (then, now())), Refusal::TokenExpired),
        ("not yet valid", signed(&|t| t.issued = soon), Refusal::TokenExpired),
        ("epoch before", signed(&|t| t.epoch = Epoch(epoch - 1)), Refusal::TokenEpoch),
        ("epoch after", signed(&|t| t.epoch = Epoch(epoch + 1)), Refusal::TokenEpoch),
    ];
    let channel = setting.raw.dial(node, Purpose::Member).await;
    let hello = |token| Hello { token: Some(token), ..setting.raw.hello(good.federation) };
    for (what, token, expected) in tried {
        let answer = ask(&channel, &Request::Hello(Box::new(hello(token)))).await;
        assert_eq!(refusal(answer), expected, "{what}");
        assert_eq!(refusal(ask(&channel, &search(good.id)).await), Refusal::HelloExpected);
    }
    // The same session opens with the token as it was given, and the same token comes back.
    let presented = first.welcome.token;
    let answer = ask(&channel, &Request::Hello(Box::new(hello(presented.clone())))).await;
    let Response::Welcome(welcome) = answer else { panic!("{answer:?}") };
    assert_eq!(welcome.token, presented);
    assert!(matches!(ask(&channel, &search(good.id)).await, Response::Answer { .. }));
}

#[tokio::test]
async fn a_token_altered_anywhere_is_refused() {
    let setting = Setting::new().await;
    let first = setting.enter().await;
    let (signed, good) = (&first.welcome.token, first.token());
    let bytes = signed.to_wire().expect("encodes");
    let body = bytes.len() - signed.signature().as_bytes().len();
    let channel = setting.raw.dial(setting.node(), Purpose::Member).await;
    let mut altered = 0;
    // Every byte of the body, and of the signature's commitment, responses and hints.
    let signature = (body..bytes.len()).step_by(83).chain([bytes.len() - 1]);
    for at in (0..body).chain(signature) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        // The length of the body stands first; a frame with a wrong one is not a token at all.
        let Ok(token) = Signed::<FederationToken>::from_wire(&bytes) else { continue };
        let expected = match token.claimed() {
            Ok(claimed) if claimed.federation != good.federation => Refusal::TokenForeign,
            Ok(claimed) if claimed.issuer != good.issuer => Refusal::TokenAudience,
            _ => Refusal::TokenAltered,
        };
        let hello = Hello { token: Some(token), ..setting.raw.hello(good.federation) };
        let answer = ask(&channel, &Request::Hello(Box::new(hello))).await;
        assert_eq!(refusal(answer), expected, "byte {at}");
        altered += usize::from(expected == Refusal::TokenAltered);
    }
    assert!(altered > 150, "{altered} alterations were tried");
}

#[tokio::test]
async fn a_token_that_ends_during_its_session_is_refused_from_then_on() {
    let setting = Setting::new().await;
    let first = setting.enter().await;
    let mut token = first.token();
    token.id = TokenId::new([1; 16]);
    token.expires = now().plus_millis(1_000);
    let ends = token.expires;
    let signed = Signed::sign(token.clone(), &setting.issuer()).expect("signs").into_signed();
    let channel = setting.raw.dial(setting.node(), Purpose::Member).await;
    let hello = Hello { token: Some(signed), ..setting.raw.hello(token.federation) };
    let answer = ask(&channel, &Request::Hello(Box::new(hello))).await;
    assert!(matches!(answer, Response::Welcome(_)), "{answer:?}");
    let refused = until_async("the token expires", || async {
        let asked = now();
        match ask(&channel, &search(token.id)).await {
            Response::Answer { .. } => {
                assert!(asked < ends, "answered after the token's end");
                None
            }
            other => Some(refusal(other)),
        }
    })
    .await;
    assert_eq!(refused, Refusal::TokenExpired);
    assert!(now() >= ends);
    // A fresh one is to be had.
    let fresh = grant(&channel).await;
    assert!(matches!(ask(&channel, &search(fresh.id)).await, Response::Answer { .. }));
}

#[tokio::test]
async fn a_change_of_membership_ends_every_token() {
    let setting = Setting::new().await;
    let session = setting.enter().await;
    let token = session.token();
    let newcomer = Home::new("n3");
    let newcomer = newcomer.open().await;
    admit(setting.federation.founder(), &newcomer).await;
    let refused = until_async("the member has heard of the new epoch", || async {
        match session.search(token.id).await {
            Response::Answer { .. } => None,
            other => Some(refusal(other)),
        }
    })
    .await;
    assert_eq!(refused, Refusal::TokenEpoch);
    let fresh = grant(&session.channel).await;
    assert_eq!(fresh.epoch, Epoch(token.epoch.0 + 1));
    assert!(matches!(session.search(fresh.id).await, Response::Answer { .. }));
    assert_eq!(refusal(session.search(token.id).await), Refusal::TokenEpoch);
}

#[tokio::test]
async fn revoked_tokens_are_refused_and_fresh_ones_are_good() {
    let setting = Setting::new().await;
    let session = setting.enter().await;
    let mut token = session.token();
    // Often, for a token issued within the millisecond of the revocation must be good as well.
    for _ in 0..20 {
        setting.node().revoke_tokens(&setting.raw.peer_id());
        assert_eq!(refusal(session.search(token.id).await), Refusal::TokenRevoked);
        token = grant(&session.channel).await;
        let answer = session.search(token.id).await;
        assert!(matches!(answer, Response::Answer { .. }), "{answer:?}");
    }
    // An old one is not good in a new session either.
    let channel = setting.raw.dial(setting.node(), Purpose::Member).await;
    let old = session.welcome.token.clone();
    let hello = Hello { token: Some(old), ..setting.raw.hello(token.federation) };
    let answer = ask(&channel, &Request::Hello(Box::new(hello))).await;
    assert_eq!(refusal(answer), Refusal::TokenRevoked);
}

#[tokio::test]
async fn tokens_stay_revoked_across_a_restart_and_others_stay_good() {
    let mut setting = Setting::new().await;
    let session = setting.enter().await;
    setting.node().revoke_tokens(&setting.raw.peer_id());
    let fresh = match ask(&session.channel, &Request::Grant).await {
        Response::Token(token) => *token,
        other => panic!("{other:?}"),
    };
    let node = setting.federation.nodes.pop().expect("is there");
    node.shutdown().await;
    drop(node);
    setting.federation.nodes.push(setting.federation.homes[1].open().await);

    let channel = setting.raw.dial(setting.node(), Purpose::Member).await;
    let federation = session.token().federation;
    let hello = |token| Hello { token: Some(token), ..setting.raw.hello(federation) };
    let old = session.welcome.token.clone();
    let answer = ask(&channel, &Request::Hello(Box::new(hello(old)))).await;
    assert_eq!(refusal(answer), Refusal::TokenRevoked);
    let answer = ask(&channel, &Request::Hello(Box::new(hello(fresh)))).await;
    assert!(matches!(answer, Response::Welcome(_)), "{answer:?}");
}

#[tokio::test]
async fn a_member_whose_tokens_were_revoked_gets_new_ones_without_its_users_noticing() {
    let federation = Federation::of(2).await;
    one_moth_each(&federation.nodes).await;
    let [asker, issuer] = federation.nodes.as_slice() else { panic!("two") };
    let before = asker.token(&issuer.peer_id()).expect("has a token");
    for make in [by_vector, by_text, by_vector] {
        issuer.revoke_tokens(&asker.peer_id());
        let answer = query(asker, make()).await;
        assert!(answer.complete, "{:?}", answer.sources);
        assert_eq!(answer.results.len(), 2);
    }
    assert_ne!(asker.token(&issuer.peer_id()).expect("has a token").id, before.id);
}

#[tokio::test]
async fn a_token_allows_what_was_negotiated_and_nothing_else() {
    let setting = Setting::new().await;
    let federation = federation(setting.node()).await.id;
    let enter = async |capabilities: CapabilitySet| {
        let channel = setting.raw.dial(setting.node(), Purpose::Member).await;
        let hello = Hello { capabilities, ..setting.raw.hello(federation) };
        let answer = ask(&channel, &Request::Hello(Box::new(hello))).await;
        (channel, answer)
    };
    let without = |name: &str| {
        let mut set = CapabilitySet::of_this_version();
        set.0.remove(name);
        set
    };
    let only = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();

    let (channel, answer) = enter(without(TERMS)).await;
    let token = token_of(&answer);
    assert_eq!(token.capabilities, only(&[DIRECTORY, ONION, SEARCH]));
    assert_eq!(refusal(ask(&channel, &terms(token.id)).await), Refusal::TokenOverreach);
    assert!(matches!(ask(&channel, &search(token.id)).await, Response::Answer { .. }));

    // Another major version is another thing, and what this version does not know is left out.
    let mut set = CapabilitySet::of_this_version();
    let mut newer = set.0.remove(SEARCH).expect("is there");
    newer.major += 1;
    set.0.insert("teleport".to_owned(), newer.clone());
    set.0.insert(SEARCH.to_owned(), newer);
    let (channel, answer) = enter(set).await;
    let token = token_of(&answer);
    assert_eq!(token.capabilities, only(&[DIRECTORY, ONION, TERMS]));
    assert_eq!(refusal(ask(&channel, &search(token.id)).await), Refusal::TokenOverreach);
    assert!(matches!(ask(&channel, &terms(token.id)).await, Response::Terms(_)));
    // A token granted later in the session goes no further.
    let fresh = grant(&channel).await;
    assert_eq!(refusal(ask(&channel, &search(fresh.id)).await), Refusal::TokenOverreach);

    let (channel, answer) = enter(CapabilitySet::default()).await;
    assert_eq!(refusal(answer), Refusal::NoCommonCapability);
    assert_eq!(refusal(ask(&channel, &search(token.id)).await), Refusal::HelloExpected);
}

#[tokio::test]
async fn a_session_begins_with_one_hello_for_this_federation() {
    let setting = Setting::new().await;
    let (node, raw) = (setting.node(), &setting.raw);
    let id = federation(node).await.id;
    let channel = raw.dial(node, Purpose::Member).await;
    let token = TokenId::new([7; 16]);
    let sync = SyncRequest { epoch: Epoch::GENESIS, have: Vec::new() };
    let early = [
        Request::Grant,
        Request::Sync(sync),
        Request::Notify { epoch: Epoch(9) },
        Request::Ping,
        terms(token),
        search(token),
        Request::JoinPoll,
    ];
    for request in early {
        assert_eq!(refusal(ask(&channel, &request).await), Refusal::HelloExpected, "{request:?}");
    }
    let foreign = raw.hello(FederationId::new([9; 32]));
    let answer = ask(&channel, &Request::Hello(Box::new(foreign))).await;
    assert_eq!(refusal(answer), Refusal::WrongFederation);
    let borrowed = Hello { descriptor: Raw::stranger().descriptor(), ..raw.hello(id) };
    let answer = ask(&channel, &Request::Hello(Box::new(borrowed))).await;
    assert_eq!(refusal(answer), Refusal::Malformed);
    let hello = Request::Hello(Box::new(raw.hello(id)));
    assert!(matches!(ask(&channel, &hello).await, Response::Welcome(_)));
    assert_eq!(refusal(ask(&channel, &hello).await), Refusal::Malformed);
    assert_eq!(refusal(ask(&channel, &Request::JoinPoll).await), Refusal::Malformed);
}

#[tokio::test]
async fn bytes_that_are_no_good_request_are_refused_and_the_session_goes_on() {
    let setting = Setting::new().await;
    let session = setting.enter().await;
    let id = session.token().id;
    let good = search(id).to_wire().expect("encodes");
    let mut inputs =
        vec![Vec::new(), vec![0xff; 64], vec![0x80; 64], [good.clone(), vec![0]].concat()];
    inputs.extend((1..good.len()).map(|end| good[..end].to_vec()));
    // What the encoder here would refuse: results wanted none, and more than there may be.
    let mut other = good.clone();
    let top_k = good.iter().rposition(|byte| *byte == 10).expect("asks for ten");
    other[top_k] = 0;
    inputs.push(other.clone());
    other.splice(top_k..=top_k, [0xff, 0xff, 0xff, 0xff, 0x0f]);
    inputs.push(other);
    // A component that is no number.
    let one = 1.0f32.to_le_bytes();
    let at = good.windows(4).position(|bytes| bytes == one).expect("holds the vector");
    let mut nan = good.clone();
    nan[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    inputs.push(nan);
    for body in inputs {
        let answer = ask_bytes(&session.channel, body.clone()).await.expect("is answered");
        assert_eq!(refusal(answer), Refusal::Malformed, "{body:?}");
    }
    assert!(matches!(session.search(id).await, Response::Answer { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_go_on_while_members_come_and_tokens_are_renewed() {
    let mut federation = Federation::of(3).await;
    one_moth_each(&federation.nodes).await;
    let asked: BTreeSet<PeerId> = federation.nodes.iter().map(FederatedMesh::peer_id).collect();
    let before = super::nodes::federation(federation.founder()).await.epoch;
    let founder = federation.founder().clone();
    let joining = tokio::spawn(async move {
        let homes: Vec<_> = (3..8).map(|i| Home::new(&format!("n{i}"))).collect();
        let nodes = join_all(homes.iter().map(Home::open)).await;
        // One after the other, and then at once: epochs follow each other while tokens are renewed.
        let (slow, quick) = nodes.split_at(2);
        for node in slow {
            admit(&founder, node).await;
        }
        join_all(quick.iter().map(|node| admit(&founder, node))).await;
        (homes, nodes)
    });
    let (mut queries, began) = (0, Instant::now());
    let mut settled = None;
    // Half a second beyond the last admission, for the last epoch to have spread.
    while settled.is_none_or(|at: Instant| at.elapsed() < Duration::from_millis(500)) {
        let makers: [fn() -> QuerySpec; 3] = [by_vector, by_text, by_vector];
        let round = federation.nodes.iter().zip(makers);
        let patient = |make: fn() -> QuerySpec| QuerySpec { deadline: PATIENCE, ..make() };
        let round = join_all(round.map(|(asker, make)| query(asker, patient(make))));
        for answer in round.await {
            for source in answer.sources.iter().filter(|source| asked.contains(&source.peer)) {
                assert_eq!(source.status, SourceStatus::Answered, "{source:?}");
            }
            assert_eq!(answer.results.len(), 3, "{:?}", answer.sources);
            queries += 1;
        }
        if joining.is_finished() && settled.is_none() {
            settled = Some(Instant::now());
        }
        assert!(began.elapsed() < PATIENCE, "the members do not join");
    }
    let (homes, nodes) = joining.await.expect("they join");
    assert!(queries > 20, "{queries} queries were asked meanwhile");
    federation.homes.extend(homes);
    federation.nodes.extend(nodes);
    all_active(&federation.nodes).await;
    let after = super::nodes::federation(federation.founder()).await.epoch;
    assert_eq!(after, Epoch(before.0 + 5));
    let answer = query(&federation.nodes[1], by_vector()).await;
    assert!(answer.complete && answer.sources.len() == 8, "{:?}", answer.sources);
}

/// Asks for the term statistics of a word.
fn terms(token: TokenId) -> Request {
    Request::Terms(TermsRequest {
        token,
        of: TermsOf { collection: None, text: "moth".to_owned() },
    })
}

async fn grant(channel: &exo_federation::EncryptedChannel) -> FederationToken {
    match ask(channel, &Request::Grant).await {
        Response::Token(token) => token.claimed().expect("decodes"),
        other => panic!("no token: {other:?}"),
    }
}

fn token_of(answer: &Response) -> FederationToken {
    match answer {
        Response::Welcome(welcome) => welcome.token.claimed().expect("decodes"),
        other => panic!("not welcome: {other:?}"),
    }
}
