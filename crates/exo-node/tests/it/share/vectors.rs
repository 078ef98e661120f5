//! Frozen encodings of what members say about shared collections.

use exo_crdt::stamp::Hlc;
use exo_crdt::sync::SyncMessage;
use exo_crdt::{CutHash, EntryId, StateRoot, Value};
use exo_node::share::{Closed, Held, ShareMessage};
use exo_types::{CodecError, Wire};

use super::{collection, key};

fn all() -> Vec<(&'static str, ShareMessage)> {
    let name = || collection("notes");
    let id = |n: u8| EntryId([n; 32]);
    vec![
        (
            "news",
            ShareMessage::News {
                collection: name(),
                state: Held { root: StateRoot([1; 32]), epoch: 3, batches: 300 },
            },
        ),
        ("open", ShareMessage::Open { session: 7, collection: name(), secret: [2; 32] }),
        (
            "sync",
            ShareMessage::Sync {
                session: 7,
                message: SyncMessage::Hello { root: StateRoot([1; 32]), epoch: 3, nonce: [4; 16] },
            },
        ),
        ("close", ShareMessage::Close { session: 7, reason: Closed::Broken }),
        ("ask-live", ShareMessage::AskLive { collection: name(), cut: CutHash([5; 32]), from: 9 }),
        (
            "live",
            ShareMessage::Live {
                collection: name(),
                cut: CutHash([5; 32]),
                from: 9,
                entries: vec![(id(1), Hlc::new(1_800_000_000_000, 2))],
            },
        ),
        ("erase", ShareMessage::Erase { collection: name(), entries: vec![(key("a"), id(1))] }),
        (
            "ask-values",
            ShareMessage::AskValues { collection: name(), entries: vec![(key("a"), id(1))] },
        ),
        (
            "values",
            ShareMessage::Values {
                collection: name(),
                values: vec![(key("a"), id(1), Value { salt: [6; 32], bytes: b"x".to_vec() })],
            },
        ),
    ]
}

#[test]
fn messages_about_shared_collections_keep_their_encoding() {
    for (name, message) in all() {
        let path = format!("{}/tests/vectors/share-{name}.bin", env!("CARGO_MANIFEST_DIR"));
        let wire = message.to_wire().expect("encodes");
        if std::env::var_os("EXO_VECTORS_FREEZE").is_some() {
            std::fs::write(&path, &wire).expect("writes");
        }
        let frozen = std::fs::read(&path).expect("the vector is there");
        assert_eq!(wire, frozen, "{name}");
        assert_eq!(ShareMessage::from_wire(&frozen), Ok(message), "{name}");
    }
}

#[test]
fn live_entries_out_of_order_and_lists_over_their_bound_are_refused() {
    let live = |entries| ShareMessage::Live {
        collection: collection("notes"),
        cut: CutHash([5; 32]),
        from: 0,
        entries,
    };
    let at = |n: u8| (EntryId([n; 32]), Hlc::ZERO);
    assert!(matches!(live(vec![at(2), at(1)]).to_wire(), Err(CodecError::Invalid(_))));
    assert!(matches!(live(vec![at(1), at(1)]).to_wire(), Err(CodecError::Invalid(_))));
    let erase = |count| ShareMessage::Erase {
        collection: collection("notes"),
        entries: vec![(key("a"), EntryId([0; 32])); count],
    };
    assert!(erase(256).to_wire().is_ok());
    assert!(erase(257).to_wire().is_err());
}
