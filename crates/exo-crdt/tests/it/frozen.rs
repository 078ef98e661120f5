//! The formats are frozen: encodings, hashes and an exported collection as files.
//!
//! A change that makes these tests fail is a new format. `tests/verifier` reads the same files with other
//! code in another language. `write_the_vectors_anew` is for the day when a new format is decided on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use exo_crdt::batch::EpochRef;
use exo_crdt::sync::layers::Layer;
use exo_crdt::sync::short::ShortSet;
use exo_crdt::sync::{Item, LinkSecret, SyncKey, SyncMessage};
use exo_crdt::{
    Batch, BatchHeader, Checkpoint, CollectionKind, CutHash, Dot, Entry, EntryId, Evidence, GSet,
    HeaderHash, LWWMap, LWWRegister, LiveSet, ORSet, Operation, Replica, Stamp, StateRoot, Value,
    VerifiedBatch, VerifiedEntry, merkle,
};
use exo_types::Timestamp;
use exo_types::codec::Wire;
use serde_json::{Value as Json, json};

use crate::support::{Member, Numbers, T0, bytes, hlc, key, members, name, peer, value};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

fn load(name: &str) -> Json {
    let path = file(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).expect("JSON")
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

fn unhex(json: &Json) -> Vec<u8> {
    HEXLOWER.decode(json.as_str().expect("a text").as_bytes()).expect("hexadecimal")
}

/// Every format with fixed content.
fn encodings() -> Json {
    let stamp = Stamp::new(hlc(1_800_000_000_000, 7), peer(1));
    let gset: GSet<String> = ["moth", "ant", "bee"].map(str::to_owned).into_iter().collect();
    let mut map = LWWMap::new();
    map.put("b".to_owned(), vec![1u8, 2], stamp);
    map.remove("a".to_owned(), Stamp::new(hlc(5, 0), peer(2)));
    let mut or_set = ORSet::new();
    or_set.insert("x".to_owned(), peer(1)).expect("a dot");
    or_set.insert("y".to_owned(), peer(2)).expect("a dot");
    or_set.remove(&"x".to_owned());
    let entry = |n: u8| Entry {
        key: key(&format!("key-{n}")),
        operation: if n == 2 { Operation::Remove } else { value(n).put() },
        stamp: hlc(1_800_000_000_000 + u64::from(n), 3),
        observed: (0..n).map(|i| Dot::of_entry(peer(i), 4, i)).collect(),
    };
    let entries: Vec<_> = (0..5).map(entry).collect();
    let ids: Vec<EntryId> =
        entries.iter().map(|entry| entry.id(&peer(9), &name()).expect("an id")).collect();
    let header = BatchHeader {
        collection: name(),
        author: peer(9),
        seq: 300,
        previous: HeaderHash([3; 32]),
        root: merkle::root(&ids),
        entries: 5,
        total_entries: 70_000,
        total_bytes: 9_000_000,
        epoch_ref: EpochRef { epoch: 4, hash: CutHash([4; 32]) },
    };
    let live: LiveSet = ids.iter().map(|id| (*id, hlc(1_800_000_000_000, 0))).collect();
    let checkpoint = Checkpoint {
        collection: name(),
        kind: CollectionKind::ObservedRemove,
        epoch: 5,
        time: T0,
        recent: vec![(CutHash([4; 32]), Timestamp(1_700_000_000_000))],
        frontier: vec![exo_crdt::checkpoint::FrontierBatch {
            author: peer(9),
            seq: 300,
            hash: header.hash().expect("a hash"),
            total_entries: 70_000,
            total_bytes: 9_000_000,
        }],
        live_root: live.root(),
        live_count: live.len() as u64,
    };
    let paths: Vec<_> =
        (0..5).map(|at| hex(merkle::path(&ids, at).expect("a leaf").0.concat())).collect();
    json!({
        "gset": hex(bytes(&gset)),
        "lww_register": hex(bytes(&LWWRegister::new("value".to_owned(), stamp))),
        "lww_map": hex(bytes(&map)),
        "or_set": hex(bytes(&or_set)),
        "entries": entries.iter().map(|entry| hex(bytes(entry))).collect::<Vec<_>>(),
        "author": hex(peer(9).as_bytes()),
        "collection": name().as_str(),
        "entry_ids": ids.iter().map(|id| hex(id.0)).collect::<Vec<_>>(),
        "merkle_root": hex(merkle::root(&ids).0),
        "merkle_paths": paths,
        "header": hex(bytes(&header)),
        "header_hash": hex(header.hash().expect("a hash").0),
        "value": hex(bytes(&value(3))),
        "commitment": hex(value(3).commitment().0),
        "live_set": hex(bytes(&live)),
        "checkpoint": hex(bytes(&checkpoint)),
        "checkpoint_hash": hex(checkpoint.hash().expect("a hash").0),
        "sync": sync_formats(),
    })
}

fn sync_formats() -> Json {
    let secret = LinkSecret([5; 32]);
    let key = SyncKey::new(&secret, &[1; 16], &[2; 16]);
    let mut numbers = Numbers(1);
    let ids: Vec<_> = (0..20).map(|_| numbers.id()).collect();
    let set = ShortSet::new(key, ids.iter());
    let mut sorted = set.shorts.clone();
    sorted.sort_unstable();
    let sketch: Vec<u8> = set.sketch().0.iter().flat_map(|n| n.to_be_bytes()).collect();
    let hello = SyncMessage::Hello { root: StateRoot([8; 32]), epoch: 3, nonce: [1; 16] };
    let want = SyncMessage::Want { shorts: vec![1, 70_000], authors: vec![[9; 8]] };
    let shorts = set.shorts.iter().map(|short| hex(short.to_be_bytes()));
    json!({
        "link_secret": hex(secret.0),
        "nonces": [hex([1; 16]), hex([2; 16])],
        "ids": ids.iter().map(hex).collect::<Vec<_>>(),
        "shorts": shorts.collect::<Vec<_>>(),
        "fingerprint": hex(key.fingerprint(&sorted)),
        "sketch": hex(sketch),
        "layers": (0..3).map(|n| hex(Layer::of(&set, n, 7).to_bytes())).collect::<Vec<_>>(),
        "hello": hex(bytes(&hello)),
        "same": hex(bytes(&SyncMessage::Same)),
        "want": hex(bytes(&want)),
        "done": hex(bytes(&SyncMessage::Done)),
    })
}

/// A collection with a past: a checkpoint, a deletion, two histories, values.
fn collection() -> Json {
    let kind = CollectionKind::LastWriter;
    let (mut a, mut b) = (Member::new(0, kind), Member::new(1, kind));
    let mut values: BTreeMap<String, Value> = BTreeMap::new();
    let note = |values: &mut BTreeMap<String, Value>, member: &Member, now| {
        for (key, seen) in member.replica.view(now).keys {
            if let Operation::Put { .. } = seen.operation {
                let n = key.as_str().bytes().last().unwrap_or(0);
                values.insert(hex(seen.id.0), value(n));
            }
        }
    };
    for n in b"abcde" {
        a.put(&format!("key-{}", *n as char), *n, T0.plus_millis(u64::from(*n)));
    }
    let batch = a.flush();
    b.take(&batch);
    b.remove("key-a", T0.plus_millis(500));
    b.put("key-b", b'b', T0.plus_millis(501));
    let batch = b.flush();
    a.take(&batch);
    let (cut, live) = a.replica.propose(T0.plus_millis(1_000)).expect("a proposal");
    for member in [&mut a, &mut b] {
        member.replica.adopt(cut.clone(), live.clone()).expect("taken over");
        member.clock.fold_agreed(cut.time);
    }
    a.put("key-f", b'f', T0.plus_millis(2_000));
    a.remove("key-c", T0.plus_millis(2_001));
    a.flush();
    for n in 1..3u8 {
        let mut liar = Member::new(2, kind);
        liar.replica = Replica::new(name(), kind);
        liar.put("key-d", n, T0.plus_millis(3_000));
        let batch = liar.flush();
        a.take(&batch);
    }
    note(&mut values, &a, T0.plus_millis(9_000));
    export(&a.replica, &values, T0.plus_millis(9_000))
}

fn export(replica: &Replica, values: &BTreeMap<String, Value>, now: Timestamp) -> Json {
    let (mut batches, mut shown, mut evidence) = (Vec::new(), Vec::new(), Vec::new());
    for item in replica.items() {
        match item {
            Item::Batch { batch, .. } => batches.push(hex(bytes(&batch))),
            Item::Shown(group) => {
                shown.extend(group.entries().map(|(shown, _)| hex(bytes(&shown))));
            }
            Item::Evidence(proof) => evidence.push(hex(bytes(&proof))),
            Item::Void(_) => panic!("nothing is void here"),
        }
    }
    let members = (0..3).map(|at| hex(members().keypair(at).public().as_bytes()));
    json!({
        "collection": name().as_str(),
        "members": members.collect::<Vec<_>>(),
        "checkpoint": hex(bytes(replica.checkpoint())),
        "live": hex(bytes(replica.live())),
        "batches": batches,
        "shown": shown,
        "evidence": evidence,
        "values": values.iter().map(|(id, value)| json!([id, hex(bytes(value))])).collect::<Vec<_>>(),
        "now": now.0,
        "state": hex(replica.canonical_state()),
        "root": hex(replica.state_root().0),
        "view": view(replica, now),
    })
}

fn view(replica: &Replica, now: Timestamp) -> Json {
    let view = replica.view(now);
    let keys = view.keys.iter().map(|(key, seen)| {
        json!([key.as_str(), hex(seen.id.0), hex(seen.author.as_bytes()), seen.effective.to_bits()])
    });
    json!({"keys": keys.collect::<Vec<_>>(), "deferred": view.deferred, "frozen": view.frozen})
}

#[test]
fn every_encoding_and_hash_is_the_frozen_one() {
    let (is, frozen) = (encodings(), load("encodings.json"));
    for (what, value) in frozen.as_object().expect("an object") {
        assert_eq!(&is[what], value, "{what}");
    }
    assert_eq!(is, frozen);
}

#[test]
fn the_frozen_collection_verifies_and_looks_as_it_did() {
    let frozen = load("collection.json");
    let list = |what: &str| frozen[what].as_array().expect("a list").iter().map(unhex);
    let cut = Checkpoint::from_wire(&unhex(&frozen["checkpoint"])).expect("a checkpoint");
    let live = LiveSet::from_wire(&unhex(&frozen["live"])).expect("a live set");
    let mut replica = Replica::new(name(), cut.kind);
    replica.adopt(cut, live).expect("taken over");
    for bytes in list("batches") {
        let batch = Batch::from_wire(&bytes).expect("a batch");
        let batch = VerifiedBatch::verify(batch, &name(), members()).expect("verifies");
        replica.apply(batch).expect("applies");
    }
    for bytes in list("shown") {
        let shown = exo_crdt::ShownEntry::from_wire(&bytes).expect("an entry");
        let shown = VerifiedEntry::verify(shown, &name(), members()).expect("verifies");
        replica.apply_shown(&shown).expect("applies");
    }
    for bytes in list("evidence") {
        let proof = Evidence::from_wire(&bytes).expect("a proof");
        proof.verify(members().keypair(2).public()).expect("verifies");
        replica.apply_evidence(proof).expect("applies");
    }
    assert_eq!(hex(replica.canonical_state()), frozen["state"]);
    assert_eq!(hex(replica.state_root().0), frozen["root"]);
    let now = Timestamp(frozen["now"].as_u64().expect("a time"));
    assert_eq!(view(&replica, now), frozen["view"]);
    for pair in frozen["values"].as_array().expect("a list") {
        let id: [u8; 32] = unhex(&pair[0]).try_into().expect("an id");
        let value = Value::from_wire(&unhex(&pair[1])).expect("a value");
        assert!(replica.put_value(EntryId(id), value).is_some());
    }
}

#[test]
#[ignore = "writes the vectors: for a new format alone"]
fn write_the_vectors_anew() {
    let write = |name: &str, json: &Json| {
        let text = serde_json::to_string_pretty(json).expect("JSON") + "\n";
        std::fs::write(file(name), text).expect("writes");
    };
    write("encodings.json", &encodings());
    write("collection.json", &collection());
}
