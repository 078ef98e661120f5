//! The codec of the wire, for any value and any bytes.

use std::collections::BTreeMap;

use exo_crypto::{Commitment, SasNonce, Signed};
use exo_node::capability::{Capability, CapabilitySet};
use exo_node::descriptor::MemberDescriptor;
use exo_node::refusal::Refusal;
use exo_node::roster::{Genesis, RosterBody};
use exo_node::token::FederationToken;
use exo_node::wire::{
    Hello, JoinApproved, JoinChallenge, JoinStart, OnionRequest, Request, Response, SearchFor,
    SearchRequest, SyncRequest, Synced, TermsOf, TermsRequest, Welcome,
};
use exo_types::limits::TOP_K_MAX;
use exo_types::{
    CodecError, CollectionName, Condition, ContentHash, Epoch, FederationId, Filter, FilterOp, Hit,
    Leg, LegKind, MetadataValue, Metric, NodeName, PeerId, QueryTarget, RecordId, ScoreScale,
    TermStats, Timestamp, TokenId, Wire,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use crate::frozen::{read, statements};
use crate::samples::{requests, responses};

fn finite() -> impl Strategy<Value = f32> {
    any::<f32>().prop_filter("finite", |x| x.is_finite())
}

fn peer() -> impl Strategy<Value = PeerId> {
    any::<[u8; 32]>().prop_map(PeerId::new)
}

fn token_id() -> impl Strategy<Value = TokenId> {
    any::<[u8; 16]>().prop_map(TokenId::new)
}

fn node_name() -> impl Strategy<Value = NodeName> {
    "[A-Za-z0-9._-]{1,64}".prop_map(|name| NodeName::new(name).expect("a name"))
}

fn collection() -> impl Strategy<Value = CollectionName> {
    "[A-Za-z0-9._-]{1,64}".prop_map(|name| CollectionName::new(name).expect("a name"))
}

/// A statement with any body and signature: nothing of it is checked by the codec.
fn signed<T: exo_crypto::SignedBody>() -> impl Strategy<Value = Signed<T>> {
    (vec(any::<u8>(), 0..90), any::<u8>()).prop_map(|(body, filled)| {
        let mut bytes = vec![body.len() as u8];
        bytes.extend(body);
        bytes.extend([filled; exo_crypto::SIGNATURE_BYTES]);
        Signed::from_wire(&bytes).expect("any body decodes")
    })
}

fn capabilities() -> impl Strategy<Value = CapabilitySet> {
    let word = || "[a-z]{1,9}";
    let sets = btree_map(word(), btree_set(word(), 0..4), 0..4);
    let capability = (any::<u16>(), any::<u16>(), btree_map(word(), any::<u64>(), 0..4), sets)
        .prop_map(|(major, minor, numbers, sets)| Capability { major, minor, numbers, sets });
    btree_map(word(), capability, 0..5).prop_map(CapabilitySet)
}

fn metadata_value() -> impl Strategy<Value = MetadataValue> {
    prop_oneof![
        any::<bool>().prop_map(MetadataValue::Bool),
        any::<i64>().prop_map(MetadataValue::Int),
        any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(MetadataValue::Float),
        "\\PC{0,40}".prop_map(MetadataValue::Text),
        vec("\\PC{0,9}", 0..5).prop_map(MetadataValue::List),
    ]
}

fn target() -> impl Strategy<Value = QueryTarget> {
    (vec(finite(), 0..40), "[a-zé ]{0,30}", "[a-z-]{0,12}").prop_filter_map(
        "a query asks for something",
        |(vector, text, embedder)| {
            let target = QueryTarget { vector, text, embedder };
            target.check().is_ok().then_some(target)
        },
    )
}

fn filter() -> impl Strategy<Value = Filter> {
    let op = prop::sample::select(vec![
        FilterOp::Eq,
        FilterOp::Ne,
        FilterOp::Lt,
        FilterOp::Le,
        FilterOp::Gt,
        FilterOp::Ge,
        FilterOp::In,
    ]);
    let condition = ("\\PC{0,20}", op, metadata_value()).prop_map(|(field, op, value)| Condition {
        field,
        op,
        value,
    });
    vec(condition, 0..16).prop_map(|all| Filter { all })
}

fn terms() -> impl Strategy<Value = TermStats> {
    (any::<u64>(), any::<u64>(), btree_map("[a-zé]{1,12}", any::<u64>(), 0..64)).prop_map(
        |(records, tokens, terms)| {
            let terms = terms.into_iter().map(|(term, count)| (term, count.min(records)));
            TermStats { records, tokens, terms: terms.collect() }
        },
    )
}

fn hit() -> impl Strategy<Value = Hit> {
    let metadata = btree_map("[a-z.]{1,12}", metadata_value(), 0..5);
    let shown = (any::<[u8; 32]>(), "\\PC{0,30}", "\\PC{0,60}");
    (collection(), "[^\\pC]{1,40}", finite(), shown, metadata, option::of(vec(finite(), 0..9)))
        .prop_map(|(collection, id, score, (content, title, text), metadata, vector)| Hit {
            collection,
            id: RecordId::new(id).expect("an id"),
            score,
            content: ContentHash(content),
            title,
            text,
            metadata,
            vector,
        })
}

fn leg() -> impl Strategy<Value = Leg> {
    let metric = prop::sample::select(vec![Metric::Cosine, Metric::Dot, Metric::L2]);
    let vector =
        (metric, 0u32..=4096, "[a-z-]{0,12}").prop_map(|(metric, dimensions, embedder)| {
            (LegKind::Vector, ScoreScale::Vector { metric, dimensions, embedder })
        });
    let text = prop_oneof![Just(ScoreScale::TextGlobal), Just(ScoreScale::TextOwn)]
        .prop_map(|scale| (LegKind::Text, scale));
    (prop_oneof![vector, text], vec(hit(), 0..4)).prop_map(|((kind, scale), hits)| Leg {
        kind,
        scale,
        hits,
    })
}

fn genesis() -> impl Strategy<Value = Genesis> {
    (any::<u8>(), any::<u64>(), any::<[u8; 16]>()).prop_map(|(key, created, nonce)| Genesis {
        founder: exo_crypto::IdentityKey::from_bytes(&[key; exo_crypto::IDENTITY_KEY_BYTES])
            .expect("any bytes are a key"),
        created: Timestamp(created),
        nonce,
    })
}

fn commitment() -> impl Strategy<Value = Commitment> {
    any::<([u8; 32], [u8; 32])>()
        .prop_map(|(nonce, exporter)| exo_crypto::sas::commit(&SasNonce::new(nonce), &exporter))
}

fn hello() -> impl Strategy<Value = Hello> {
    let token = option::of(signed::<FederationToken>());
    let descriptor = signed::<MemberDescriptor>();
    (any::<[u8; 32]>(), any::<u64>(), capabilities(), descriptor, token).prop_map(
        |(federation, epoch, capabilities, descriptor, token)| Hello {
            federation: FederationId::new(federation),
            epoch: Epoch(epoch),
            capabilities,
            descriptor,
            token,
        },
    )
}

fn search() -> impl Strategy<Value = SearchRequest> {
    let what = (target(), filter(), 1..=TOP_K_MAX as u32, option::of(terms()), any::<bool>());
    (token_id(), option::of(collection()), what).prop_map(
        |(token, collection, (target, filter, top_k, terms, vectors))| SearchRequest {
            token,
            search: SearchFor { collection, target, filter, top_k, terms, vectors },
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let sync = (any::<u64>(), vec((peer(), any::<u64>()), 0..9))
        .prop_map(|(epoch, have)| Request::Sync(SyncRequest { epoch: Epoch(epoch), have }));
    let terms = (token_id(), option::of(collection()), "[a-zé]{1,9}").prop_map(
        |(token, collection, text)| TermsRequest { token, of: TermsOf { collection, text } },
    );
    let secrets = any::<([u8; 16], [u8; 16])>();
    let start = (secrets, commitment(), node_name(), signed()).prop_map(
        |((federation, secret), commitment, name, descriptor)| JoinStart {
            federation,
            secret,
            commitment,
            name,
            descriptor,
        },
    );
    prop_oneof![
        hello().prop_map(|hello| Request::Hello(Box::new(hello))),
        Just(Request::Grant),
        sync,
        any::<u64>().prop_map(|epoch| Request::Notify { epoch: Epoch(epoch) }),
        Just(Request::Ping),
        terms.prop_map(Request::Terms),
        search().prop_map(|search| Request::Search(Box::new(search))),
        start.prop_map(|start| Request::JoinStart(Box::new(start))),
        any::<[u8; 32]>().prop_map(|nonce| Request::JoinReveal { nonce: SasNonce::new(nonce) }),
        Just(Request::JoinPoll),
        (token_id(), vec(any::<u8>(), 0..300))
            .prop_map(|(token, packet)| Request::Onion(OnionRequest { token, packet })),
    ]
}

fn response() -> impl Strategy<Value = Response> {
    let descriptors = || vec(signed::<MemberDescriptor>(), 0..3);
    let welcome = (any::<u64>(), capabilities(), signed(), signed()).prop_map(
        |(epoch, capabilities, descriptor, token)| Welcome {
            epoch: Epoch(epoch),
            capabilities,
            descriptor,
            token,
        },
    );
    let synced = (option::of(signed::<RosterBody>()), descriptors())
        .prop_map(|(roster, descriptors)| Synced { roster, descriptors });
    let challenge = (any::<[u8; 32]>(), genesis())
        .prop_map(|(nonce, genesis)| JoinChallenge { nonce: SasNonce::new(nonce), genesis });
    let approved = (genesis(), signed(), descriptors(), any::<bool>()).prop_map(
        |(genesis, roster, descriptors, again)| JoinApproved {
            genesis,
            roster,
            descriptors,
            again,
        },
    );
    prop_oneof![
        prop::sample::select(Refusal::ALL).prop_map(Response::Refused),
        Just(Response::Done),
        welcome.prop_map(|welcome| Response::Welcome(Box::new(welcome))),
        signed().prop_map(|token| Response::Token(Box::new(token))),
        synced.prop_map(|synced| Response::Synced(Box::new(synced))),
        terms().prop_map(Response::Terms),
        vec(leg(), 0..4).prop_map(|legs| Response::Answer { legs }),
        challenge.prop_map(|challenge| Response::JoinChallenge(Box::new(challenge))),
        Just(Response::JoinPending),
        approved.prop_map(|approved| Response::JoinApproved(Box::new(approved))),
        vec(any::<u8>(), 0..300).prop_map(Response::Onion),
    ]
}

/// Decodes or is refused; what decodes is again a value that its receiver takes.
fn takes_any<T: Wire + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(value) = T::from_wire(bytes) {
        let again = value.to_wire();
        prop_assert!(again.is_ok(), "{again:?}");
        prop_assert_eq!(T::from_wire(&again.expect("was checked")), Ok(value));
    }
    Ok(())
}

/// A part of an encoding, and an encoding with something behind it, are refused.
fn is_whole<T: Wire + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    cut: prop::sample::Index,
    more: &[u8],
) -> Result<(), TestCaseError> {
    prop_assert!(T::from_wire(&bytes[..cut.index(bytes.len())]).is_err());
    let longer = [bytes, more].concat();
    prop_assert_eq!(T::from_wire(&longer), Err(CodecError::Trailing(more.len())));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_request_round_trips_and_is_taken_only_whole(
        request in request(), cut in any::<prop::sample::Index>(), more in vec(any::<u8>(), 1..9),
    ) {
        let bytes = request.to_wire().expect("encodes");
        prop_assert_eq!(Request::from_wire(&bytes), Ok(request));
        is_whole::<Request>(&bytes, cut, &more)?;
    }

    #[test]
    fn any_answer_round_trips_and_is_taken_only_whole(
        response in response(), cut in any::<prop::sample::Index>(), more in vec(any::<u8>(), 1..9),
    ) {
        let bytes = response.to_wire().expect("encodes");
        prop_assert_eq!(Response::from_wire(&bytes), Ok(response));
        is_whole::<Response>(&bytes, cut, &more)?;
    }

    #[test]
    fn any_bytes_decode_or_are_refused(kind in 0u8..12, bytes in vec(any::<u8>(), 0..600)) {
        let mut bytes = bytes;
        bytes.insert(0, kind);
        takes_any::<Request>(&bytes)?;
        takes_any::<Response>(&bytes)?;
    }

    #[test]
    fn a_message_with_bytes_changed_decodes_or_is_refused(
        request in request(), response in response(),
        changes in vec((any::<prop::sample::Index>(), 1u8..), 1..5),
    ) {
        let mut asked = request.to_wire().expect("encodes");
        let mut answered = response.to_wire().expect("encodes");
        for (at, flip) in changes {
            let place = at.index(asked.len());
            asked[place] ^= flip;
            let place = at.index(answered.len());
            answered[place] ^= flip;
        }
        takes_any::<Request>(&asked)?;
        takes_any::<Response>(&answered)?;
    }

    #[test]
    fn capabilities_of_any_kind_meet_their_bounds(set in capabilities()) {
        prop_assert_eq!(set.check(), Ok(()));
        prop_assert_eq!(set.negotiate(&CapabilitySet(BTreeMap::new())).0.len(), 0);
    }
}

#[test]
fn every_vector_is_refused_cut_short_and_with_a_byte_more() {
    let signed = statements();
    let names = requests(signed).into_iter().map(|(name, _)| (name, true));
    for (name, asks) in names.chain(responses(signed).into_iter().map(|(name, _)| (name, false))) {
        let bytes = read(name);
        let refused = |bytes: &[u8]| match asks {
            true => Request::from_wire(bytes).is_err(),
            false => Response::from_wire(bytes).is_err(),
        };
        assert!(!refused(&bytes), "{name}");
        // Within keys and signatures one place is like another.
        let places = (0..bytes.len()).filter(|len| *len < 300 || len % 61 == 0);
        for len in places.chain(bytes.len().saturating_sub(50)..bytes.len()) {
            assert!(refused(&bytes[..len]), "{name} cut to {len} bytes");
        }
        assert!(refused(&[bytes.as_slice(), &[0]].concat()), "{name} with a byte more");
    }
}

#[test]
fn a_list_longer_than_its_bound_is_refused_before_it_is_read() {
    // A sync request that announces more descriptors than a federation has members.
    let bytes = [&[2, 0, 0x81, 0x02], [0u8; 64].as_slice()].concat();
    assert!(Request::from_wire(&bytes).is_err());
    // And one that announces four thousand million of them.
    assert!(Request::from_wire(&[2, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
}
