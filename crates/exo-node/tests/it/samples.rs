//! Values of every kind that crosses the wire, for frozen vectors.
//!
//! What is drawn at random, signatures and sealing keys, is read from files.

use std::collections::{BTreeMap, BTreeSet};

use exo_crypto::{
    CosignerKey, CosignerKeypair, IdentityKey, KemEpochKey, PostQuantumKeypair, SasNonce,
    SasSession, Signed, sas,
};
use exo_node::capability::CapabilitySet;
use exo_node::descriptor::MemberDescriptor;
use exo_node::question::{AnswerSet, Question};
use exo_node::refusal::Refusal;
use exo_node::roster::{Genesis, Member, RosterBody};
use exo_node::token::FederationToken;
use exo_node::wire::{
    Hello, JoinApproved, JoinChallenge, JoinStart, OnionRequest, Request, Response, SearchFor,
    SearchRequest, SyncRequest, Synced, TermsOf, TermsRequest, Welcome,
};
use exo_types::{
    CollectionName, Condition, ContentHash, Epoch, Filter, FilterOp, Hit, Leg, LegKind,
    MetadataValue, Metric, NodeName, PeerAddress, QueryTarget, RecordId, ScoreScale, TermStats,
    Timestamp, TokenId, Wire,
};

/// The founder's identity: seed of 32 bytes `01`.
pub(crate) fn founder() -> PostQuantumKeypair {
    PostQuantumKeypair::from_seed(&[1; 32]).expect("a seed expands")
}

/// A member's identity: seed of 32 bytes `02`.
pub(crate) fn member() -> PostQuantumKeypair {
    PostQuantumKeypair::from_seed(&[2; 32]).expect("a seed expands")
}

/// Statements with the signatures and keys that were drawn once.
pub(crate) struct Statements {
    pub(crate) kem_epoch: Signed<KemEpochKey>,
    pub(crate) descriptor: Signed<MemberDescriptor>,
    pub(crate) roster: Signed<RosterBody>,
    pub(crate) token: Signed<FederationToken>,
}

pub(crate) fn genesis() -> Genesis {
    let founder = founder().public().clone();
    Genesis { founder, created: START, nonce: core::array::from_fn(|i| i as u8) }
}

fn cosigner(seed: u8) -> CosignerKey {
    CosignerKeypair::from_seed(&[seed; 32]).expect("a seed expands").public().clone()
}

fn listed(key: &IdentityKey, name: &str, revoked: Option<&str>) -> Member {
    Member {
        key: key.clone(),
        cosigner: cosigner(3),
        name: NodeName::new(name).expect("a name"),
        unverified: revoked.is_some(),
        since: Epoch(u64::from(revoked.is_some())),
        revoked: revoked.map(str::to_owned),
    }
}

pub(crate) fn roster() -> RosterBody {
    RosterBody {
        federation: genesis().id(),
        epoch: Epoch(300),
        members: vec![
            listed(founder().public(), "lab.one", None),
            listed(member().public(), "lab-two", Some("left the project")),
        ],
        voters: Vec::new(),
    }
}

pub(crate) fn descriptor(kem_epoch: &Signed<KemEpochKey>) -> MemberDescriptor {
    MemberDescriptor {
        peer: member().peer_id(),
        version: 1_800_000_000_123,
        addresses: vec![
            PeerAddress::new(None, "node.example", 7700).expect("an address"),
            PeerAddress::new(Some(member().peer_id()), "2001:db8::1", 65535).expect("an address"),
        ],
        capabilities: capabilities(),
        kem_keys: vec![kem_epoch.clone()],
        cosigner: cosigner(2),
        expires: Timestamp(1_800_604_800_123),
    }
}

pub(crate) fn token() -> FederationToken {
    FederationToken {
        id: token_id(),
        federation: genesis().id(),
        issuer: founder().peer_id(),
        holder: member().peer_id(),
        audience: founder().peer_id(),
        capabilities: BTreeSet::from(["search".to_owned(), "terms".to_owned()]),
        epoch: Epoch(300),
        issued: START,
        expires: START.plus_millis(3_600_000),
    }
}

fn token_id() -> TokenId {
    TokenId::new(core::array::from_fn(|i| 0xf0 + i as u8))
}

pub(crate) fn terms() -> TermStats {
    TermStats {
        records: 1_000_000,
        tokens: 300,
        terms: vec![("moth".to_owned(), 128), ("nachtfalter é".to_owned(), 1)],
    }
}

fn filter() -> Filter {
    let condition = |field: &str, op, value| Condition { field: field.to_owned(), op, value };
    let list = MetadataValue::List(vec!["a".to_owned(), "b".to_owned()]);
    Filter {
        all: vec![
            condition("year", FilterOp::Ge, MetadataValue::Int(-2024)),
            condition("public", FilterOp::Eq, MetadataValue::Bool(true)),
            condition("mass", FilterOp::Lt, MetadataValue::Float(0.5)),
            condition("lang", FilterOp::Ne, MetadataValue::Text("de".to_owned())),
            condition("tag", FilterOp::In, list),
            condition("n", FilterOp::Le, MetadataValue::Int(i64::MAX)),
            condition("m", FilterOp::Gt, MetadataValue::Int(i64::MIN)),
        ],
    }
}

fn legs() -> Vec<Leg> {
    let hit = |score: f32, vector: Option<Vec<f32>>| Hit {
        collection: CollectionName::new("papers").expect("a name"),
        id: RecordId::new("doc:7 é").expect("an id"),
        score,
        content: ContentHash(core::array::from_fn(|i| 2 * i as u8)),
        title: "Moths".to_owned(),
        text: "and lamps".to_owned(),
        metadata: BTreeMap::from([
            ("tags".to_owned(), MetadataValue::List(vec!["a".to_owned()])),
            ("year".to_owned(), MetadataValue::Int(1887)),
        ]),
        vector,
    };
    let scale = ScoreScale::Vector {
        metric: Metric::Cosine,
        dimensions: 2,
        embedder: "all-MiniLM-L6-v2".to_owned(),
    };
    vec![
        Leg { kind: LegKind::Vector, scale, hits: vec![hit(0.75, Some(vec![0.6, -0.8]))] },
        Leg { kind: LegKind::Text, scale: ScoreScale::TextGlobal, hits: vec![hit(12.5, None)] },
        Leg { kind: LegKind::Text, scale: ScoreScale::TextOwn, hits: Vec::new() },
    ]
}

/// One request of every variant, by the name of its file; some variants twice.
pub(crate) fn requests(signed: &Statements) -> Vec<(&'static str, Request)> {
    let hello = |token| Hello {
        federation: genesis().id(),
        epoch: Epoch(300),
        capabilities: capabilities(),
        descriptor: signed.descriptor.clone(),
        token,
    };
    let joiner =
        SasSession { exporter: [9; 32], joiner: member().peer_id(), inviter: founder().peer_id() };
    let (_, commitment) = sas::JoinerSas::start(joiner, nonce(1));
    vec![
        ("request-hello", Request::Hello(Box::new(hello(None)))),
        ("request-hello-token", Request::Hello(Box::new(hello(Some(signed.token.clone()))))),
        ("request-grant", Request::Grant),
        (
            "request-sync",
            Request::Sync(SyncRequest {
                epoch: Epoch(299),
                have: vec![(founder().peer_id(), 7), (member().peer_id(), u64::MAX)],
            }),
        ),
        ("request-notify", Request::Notify { epoch: Epoch(300) }),
        ("request-ping", Request::Ping),
        ("request-terms", Request::Terms(TermsRequest { token: token_id(), of: terms_of() })),
        (
            "request-search",
            Request::Search(Box::new(SearchRequest { token: token_id(), search: search_for() })),
        ),
        (
            "request-join-start",
            Request::JoinStart(Box::new(JoinStart {
                federation: exo_node::ticket::Ticket::tag(&genesis().id()),
                secret: [0xaa; 16],
                commitment,
                name: NodeName::new("lab-two").expect("a name"),
                descriptor: signed.descriptor.clone(),
            })),
        ),
        ("request-join-reveal", Request::JoinReveal { nonce: nonce(1) }),
        ("request-join-poll", Request::JoinPoll),
        (
            "request-onion",
            Request::Onion(OnionRequest { token: token_id(), packet: vec![0xee; 300] }),
        ),
    ]
}

/// One answer of every variant, by the name of its file.
pub(crate) fn responses(signed: &Statements) -> Vec<(&'static str, Response)> {
    vec![
        ("response-refused", Response::Refused(Refusal::JoinFull)),
        ("response-done", Response::Done),
        (
            "response-welcome",
            Response::Welcome(Box::new(Welcome {
                epoch: Epoch(300),
                capabilities: capabilities(),
                descriptor: signed.descriptor.clone(),
                token: signed.token.clone(),
            })),
        ),
        ("response-token", Response::Token(Box::new(signed.token.clone()))),
        (
            "response-synced",
            Response::Synced(Box::new(Synced {
                roster: Some(signed.roster.clone()),
                descriptors: vec![signed.descriptor.clone()],
            })),
        ),
        ("response-terms", Response::Terms(terms())),
        ("response-answer", Response::Answer { legs: legs() }),
        (
            "response-join-challenge",
            Response::JoinChallenge(Box::new(JoinChallenge {
                nonce: nonce(2),
                genesis: genesis(),
            })),
        ),
        ("response-join-pending", Response::JoinPending),
        (
            "response-join-approved",
            Response::JoinApproved(Box::new(JoinApproved {
                genesis: genesis(),
                roster: signed.roster.clone(),
                descriptors: vec![signed.descriptor.clone()],
                again: true,
            })),
        ),
        ("response-onion", Response::Onion(vec![0xdd; 300])),
    ]
}

/// What the first version of a node announced.
fn capabilities() -> CapabilitySet {
    let mut set = CapabilitySet::of_this_version();
    set.0.remove(exo_node::capability::ONION);
    set
}

/// One question of every variant, by the name of its file.
pub(crate) fn questions() -> Vec<(&'static str, Question)> {
    vec![
        ("question-terms", Question::Terms(terms_of())),
        ("question-search", Question::Search(Box::new(search_for()))),
    ]
}

/// The member's answer to the last of them.
pub(crate) fn answer_set() -> AnswerSet {
    let question = Question::Search(Box::new(search_for())).to_wire().expect("encodes");
    AnswerSet {
        peer: member().peer_id(),
        question: Question::hash(&question),
        at: START,
        trimmed: true,
        legs: legs(),
    }
}

fn terms_of() -> TermsOf {
    TermsOf { collection: None, text: "nachtfalter é".to_owned() }
}

fn search_for() -> SearchFor {
    SearchFor {
        collection: Some(CollectionName::new("papers").expect("a name")),
        target: QueryTarget {
            vector: vec![1.0, -0.5, f32::MIN_POSITIVE],
            text: "moth".to_owned(),
            embedder: "all-MiniLM-L6-v2".to_owned(),
        },
        filter: filter(),
        top_k: 1000,
        terms: Some(terms()),
        vectors: true,
    }
}

fn nonce(byte: u8) -> SasNonce {
    SasNonce::new([byte; 32])
}

pub(crate) const START: Timestamp = Timestamp(1_800_000_000_000);
