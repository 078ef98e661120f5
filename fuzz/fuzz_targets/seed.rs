//! No target: writes a small corpus of real values into the directory that `CORPUS` names, and ends.
//!
//! It is built like a target so that one build serves for all.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use exo_crypto::{ApiToken, KemKeyring, Label, Signed, Verified, fingerprint_words, hash, seal};
use exo_federation::Config;
use exo_fuzz::sim::{cosigner, joiner, met};
use exo_fuzz::{NOW, kem_pair, keypair, keyring_bytes};
use exo_node::question::{AnswerSet, Question, Reply};
use exo_node::refusal::Refusal;
use exo_node::roster::{Member, RosterBody};
use exo_node::token::FederationToken;
use exo_node::wire::{OnionRequest, Request, Response, SearchFor, SearchRequest, TermsOf};
use exo_types::codec::frame_header;
use exo_types::{
    CollectionName, Condition, ContentHash, Epoch, FederationId, Filter, FilterOp, Hit, Leg,
    LegKind, MetadataValue, Metric, NodeName, PeerAddress, QueryTarget, RecordId, ScoreScale,
    TermStats, TokenId, Wire,
};

libfuzzer_sys::fuzz_target!(init: write_seeds(), |_data: &[u8]| {});

fn write_seeds() {
    let root = std::env::var_os("CORPUS").expect("CORPUS names a directory").into();
    let mut seeds = Seeds { root };
    texts(&mut seeds);
    keys(&mut seeds);
    statements(&mut seeds);
    messages(&mut seeds);
    unknown(&mut seeds);
    files(&mut seeds);
    data(&mut seeds);
    logs(&mut seeds);
    decisions(&mut seeds);
    std::process::exit(0);
}

struct Seeds {
    root: PathBuf,
}

impl Seeds {
    fn add(&mut self, target: &str, bytes: impl AsRef<[u8]>) {
        let folder = self.root.join(target);
        fs::create_dir_all(&folder).expect("makes the folder");
        let name = hash(Label::CONTENT_HASH, &[bytes.as_ref()]);
        let name: String = name.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        fs::write(folder.join(name), bytes).expect("writes");
    }
}

fn texts(seeds: &mut Seeds) {
    let peer = keypair().peer_id();
    let at = |host| PeerAddress { peer: Some(peer), host: String::from(host), port: 7700 };
    for text in [
        peer.to_string(),
        peer.to_string().to_uppercase(),
        TokenId::new([0xab; 16]).to_string(),
        at("node.example.org").to_string(),
        at("2001:db8::1").to_string(),
        "[fe80::1%eth0]:1".to_owned(),
        "127.0.0.1:65535".to_owned(),
        "lab-7.north_1".to_owned(),
        "paper Ångström/12".to_owned(),
    ] {
        seeds.add("text_forms", text);
    }
    let words = fingerprint_words(peer).to_string();
    seeds.add("words", &words);
    seeds.add("words", words.to_uppercase().replace(' ', "\n\u{3000}"));
    seeds.add("words", "abandon zoo zebra zoom");
    let token = ApiToken::generate().expect("randomness").expose_text();
    seeds.add("api_token", token.as_bytes());
    seeds.add("api_token", token.to_uppercase());
    for ticket in &met().tickets {
        seeds.add("ticket", ticket.to_string());
        seeds.add("ticket", format!(" {}\n", ticket.to_string().to_uppercase()));
        let mut content = vec![1];
        content.extend(ticket.federation);
        content.extend(ticket.inviter.as_bytes());
        content.extend(ticket.secret);
        content.extend([0x6b, 0x49, 0xd2, 0]);
        content.extend([2, 4, 127, 0, 0, 1, 0x1e, 0x14, 6]);
        content.extend([0; 16]);
        content.extend([0x1e, 0x14]);
        seeds.add("ticket", content);
    }
    let mut config = Config::new(NodeName::new("lab").expect("a name"));
    seeds.add("config", config.to_toml().expect("writes"));
    config.advertise = vec!["node.example.org:7700".to_owned(), "[::1]:7700".to_owned()];
    config.exact_scan_records = Some(10);
    seeds.add("config", config.to_toml().expect("writes"));
}

fn keys(seeds: &mut Seeds) {
    let key = keypair().public();
    seeds.add("identity_key", key.spki_der());
    seeds.add("identity_key", key.as_bytes());
    seeds.add("identity_key", kem_pair().public().as_bytes());
    let signature = keypair().sign(Label::TOKEN, b"words").expect("signs");
    seeds.add("identity_key", [key.as_bytes().as_slice(), signature.as_bytes(), b"words"].concat());
    seeds.add("identity_key", [signature.as_bytes().as_slice(), b"words"].concat());
    let (ciphertext, _) = kem_pair().public().encapsulate().expect("encapsulates");
    seeds.add("identity_key", ciphertext.as_bytes());
    for (code, payload) in [(1, [7; 32].as_slice()), (2, keyring_bytes())] {
        let mut file = b"exo-key\0\x01".to_vec();
        file.extend([code, 0, 0]);
        file.extend((payload.len() as u32).to_be_bytes());
        file.extend_from_slice(payload);
        seeds.add("key_file", &file);
        let (header, payload) = file.split_at(16);
        let check = hash(Label::KEY_FILE, &[header, payload]);
        seeds.add("key_file", [header, payload, &check].concat());
    }
    seeds.add("keyring", keyring_bytes());
    let mut ring = KemKeyring::from_secret_bytes(keyring_bytes()).expect("reads");
    ring.rotate(ring.next_change()).expect("rotates");
    let bytes = ring.to_secret_bytes();
    seeds.add("keyring", &bytes);
    let numbers: Vec<u8> =
        bytes.chunks(bytes.len() / 3).flat_map(|entry| entry[..24].to_vec()).collect();
    seeds.add("keyring", &numbers);
    seeds.add("keyring", &numbers[..48]);
    let sealed = seal(kem_pair().public(), Label::SEAL, b"", b"words").expect("seals");
    seeds.add("sealed", sealed.to_wire().expect("encodes"));
    seeds.add("sealed", b"\x40\x01\x01some words");
}

fn statements(seeds: &mut Seeds) {
    let me = keypair().peer_id();
    let token = FederationToken {
        id: TokenId::new([1; 16]),
        federation: FederationId::new([2; 32]),
        issuer: me,
        holder: joiner().peer_id(),
        audience: me,
        capabilities: ["search", "terms"].map(str::to_owned).into(),
        epoch: Epoch(3),
        issued: NOW.wall,
        expires: NOW.wall.plus_millis(3_600_000),
    };
    seeds.add("signed_token", token.to_wire().expect("encodes"));
    let signed = Signed::sign(token, keypair()).expect("signs").into_signed();
    seeds.add("signed_token", signed.to_wire().expect("encodes"));
    let member = |keypair: &exo_crypto::PostQuantumKeypair, name, revoked| Member {
        key: keypair.public().clone(),
        cosigner: cosigner(),
        name: NodeName::new(name).expect("a name"),
        unverified: false,
        since: Epoch(1),
        revoked,
    };
    let roster = RosterBody {
        federation: FederationId::new([2; 32]),
        epoch: Epoch(3),
        members: vec![
            member(keypair(), "founder", None),
            member(joiner(), "joiner", Some("left".to_owned())),
        ],
        voters: Vec::new(),
    };
    seeds.add("signed_roster", roster.to_wire().expect("encodes"));
    let short = RosterBody { members: Vec::new(), ..roster.clone() };
    seeds.add("signed_roster", short.to_wire().expect("encodes"));
    let signed = Signed::sign(roster, keypair()).expect("signs").into_signed();
    seeds.add("signed_roster", signed.to_wire().expect("encodes"));
    for request in &met().requests {
        if let Request::Hello(hello) = request {
            seeds.add("signed_descriptor", hello.descriptor.body());
            seeds.add("signed_descriptor", hello.descriptor.to_wire().expect("encodes"));
            let mut bare = hello.descriptor.claimed().expect("decodes");
            bare.kem_keys.clear();
            seeds.add("signed_descriptor", bare.to_wire().expect("encodes"));
        }
    }
    let ring = KemKeyring::generate(NOW.wall).expect("generates");
    for key in ring.announce(keypair()).expect("signs").map(Verified::into_signed) {
        seeds.add("signed_kem_epoch", key.body());
        seeds.add("signed_kem_epoch", key.to_wire().expect("encodes"));
    }
}

fn messages(seeds: &mut Seeds) {
    let mut requests = met().requests.clone();
    requests.extend([Request::Ping, Request::Search(Box::new(search()))]);
    let mut responses = met().responses.clone();
    responses.push(Response::Terms(terms()));
    responses.push(Response::Answer { legs: vec![leg(LegKind::Vector), leg(LegKind::Text)] });
    for request in &requests {
        let bytes = request.to_wire().expect("encodes");
        seeds.add("request", &bytes);
        let header = frame_header(bytes.len(), 1 << 20).expect("fits");
        seeds.add("frame", [b"\x20\x01".as_slice(), &header, &bytes].concat());
        seeds.add("substrate_query", &bytes);
        let mut input = vec![0, 0];
        input.extend((bytes.len() as u16).to_be_bytes());
        input.extend_from_slice(&bytes);
        seeds.add("node_input", [input.as_slice(), &input].concat());
    }
    for (number, response) in (0_u8..).zip(&responses) {
        let bytes = response.to_wire().expect("encodes");
        seeds.add("response", &bytes);
        let mut input = vec![0, 8, 10, 0, 4, 8, 0, 3, 0, 2];
        input.extend((bytes.len() as u16).to_be_bytes());
        input.extend_from_slice(&bytes);
        seeds.add("node_input", input);
        seeds.add("node_input", [0, 2, number, 1, 2, number, 2, 2, number, 0, 5, 0]);
    }
    let two = [b"\x01\x00\0\0\0\x02ab\0\0\0\0".as_slice(), b"\xff\x02\0\0\0\x01c\0\0\0\x09short"];
    for bytes in two {
        seeds.add("frame", bytes);
    }
}

/// What onion packets carry, and the messages that carry them.
fn unknown(seeds: &mut Seeds) {
    let of = TermsOf { collection: None, text: "running near".to_owned() };
    for question in [Question::Terms(of), Question::Search(Box::new(search().search))] {
        seeds.add("question", question.to_wire().expect("encodes"));
    }
    let set = AnswerSet {
        peer: keypair().peer_id(),
        question: [6; 32],
        at: NOW.wall,
        trimmed: true,
        legs: vec![leg(LegKind::Vector), leg(LegKind::Text)],
    };
    seeds.add("onion_reply", set.to_wire().expect("encodes"));
    let signed = Signed::sign(set, keypair()).expect("signs").into_signed();
    let answer = Reply::Answer(Box::new(signed));
    for reply in [Reply::Refused(Refusal::Anonymous), Reply::Terms(terms()), answer] {
        seeds.add("onion_reply", reply.to_wire().expect("encodes"));
    }
    let packet = OnionRequest { token: TokenId::new([4; 16]), packet: vec![1; 8192] };
    seeds.add("request", Request::Onion(packet).to_wire().expect("encodes"));
    seeds.add("response", Response::Onion(vec![7; 4096]).to_wire().expect("encodes"));
}

fn files(seeds: &mut Seeds) {
    seeds.add("state", &met().founder_state);
    seeds.add("state", &met().joiner_state);
    let npy = |rows: usize, kind: &str, numbers: &[u8]| {
        let text = format!(
            "{{'descr': '{kind}', 'fortran_order': False, 'shape': ({rows}, 2), }}          \n"
        );
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((text.len() as u16).to_le_bytes());
        file.extend_from_slice(text.as_bytes());
        file.extend_from_slice(numbers);
        file
    };
    let vectors: Vec<u8> = [1.0_f32, 2.0, -3.0, 0.5].iter().flat_map(|x| x.to_le_bytes()).collect();
    let (whole, half) = (npy(2, "<f4", &vectors), npy(2, "<f2", &vectors[..8]));
    seeds.add("npy", &whole);
    seeds.add("npy", &half);
    seeds.add("npy", b"{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 384L), }");
    let lines =
        b"{\"id\": \"a\", \"text\": \"one\"}\n\n{\"id\": 2, \"tags\": [\"x\"]}\r\n".as_slice();
    for file in [whole, half] {
        seeds.add("import_files", [b"\x02".as_slice(), lines, &file].concat());
    }
    seeds.add("import_files", [b"\x00\xef\xbb\xbf".as_slice(), lines].concat());
    for line in [
        r#"{"id": "a", "title": "T", "text": "words", "metadata": {"year": 1905, "ok": true}}"#,
        r#"{"id": 7, "a": {"b": {"c": 1.5, "d": null}}, "tags": ["x", "y"], "n": -1e300}"#,
        r#"{"id": "\ud83d\ude00", "metadata": 5, "a.b": 1, "z": 9223372036854775807}"#,
    ] {
        seeds.add("jsonl", line);
    }
    seeds.add("store_file", [0, 0, 100, 2, 0xff, 0x00, 0, 16, 0, 1, 7]);
    seeds.add("store_file", [0, 0x40, 0, 4, 1, 2, 3, 4]);
}

fn data(seeds: &mut Seeds) {
    for text in ["running cafes near 東京", "\"a\" OR b* NEAR(c, 2) -d:e", "Ångström ÅNGSTRÖM"]
    {
        seeds.add("substrate_query", text);
    }
    for ops in [[FilterOp::Eq, FilterOp::Lt], [FilterOp::In, FilterOp::Ne]] {
        let both = (filter(ops), metadata());
        seeds.add("filter", postcard::to_allocvec(&both).expect("encodes"));
        let mut search = search();
        search.search.filter = filter(ops);
        let bytes = Request::Search(Box::new(search)).to_wire().expect("encodes");
        seeds.add("substrate_query", &bytes);
        seeds.add("request", &bytes);
    }
    seeds.add("metadata", postcard::to_allocvec(&metadata()).expect("encodes"));
    seeds.add("metadata", postcard::to_allocvec(&leg(LegKind::Text)).expect("encodes"));
    seeds.add("metadata", postcard::to_allocvec(&(terms(), terms())).expect("encodes"));
}

fn search() -> SearchRequest {
    let mut target = QueryTarget::text("running near");
    target.vector = vec![0.5, 1.0, -2.0];
    let search = SearchFor {
        collection: Some(CollectionName::new("notes").expect("a name")),
        target,
        filter: filter([FilterOp::Ge, FilterOp::Ne]),
        top_k: 5,
        terms: Some(terms()),
        vectors: true,
    };
    SearchRequest { token: TokenId::new([4; 16]), search }
}

fn terms() -> TermStats {
    let terms = vec![("near".to_owned(), 5), ("run".to_owned(), 2)];
    TermStats { records: 24, tokens: 99, terms }
}

fn filter([number, other]: [FilterOp; 2]) -> Filter {
    let condition = |field: &str, op, value| Condition { field: field.to_owned(), op, value };
    let list = MetadataValue::List(vec!["t1".to_owned(), "all".to_owned()]);
    Filter {
        all: vec![
            condition(
                "n",
                number,
                if number == FilterOp::In { list } else { MetadataValue::Int(7) },
            ),
            condition("tags", other, MetadataValue::Text("t1".to_owned())),
            condition("f", FilterOp::Le, MetadataValue::Float(9007199254740993.0)),
        ],
    }
}

fn metadata() -> BTreeMap<String, MetadataValue> {
    [
        ("n".to_owned(), MetadataValue::Int(9_007_199_254_740_993)),
        ("f".to_owned(), MetadataValue::Float(-0.0)),
        ("ok".to_owned(), MetadataValue::Bool(true)),
        ("tags".to_owned(), MetadataValue::List(vec!["t1".to_owned()])),
        ("kind".to_owned(), MetadataValue::Text("x".to_owned())),
    ]
    .into()
}

fn leg(kind: LegKind) -> Leg {
    let scale = match kind {
        LegKind::Text => ScoreScale::TextGlobal,
        LegKind::Vector => ScoreScale::Vector {
            metric: Metric::Cosine,
            dimensions: 3,
            embedder: "mini".to_owned(),
        },
    };
    let hit = Hit {
        collection: CollectionName::new("notes").expect("a name"),
        id: RecordId::new("r1").expect("an id"),
        score: 0.75,
        content: ContentHash([8; 32]),
        title: "T".to_owned(),
        text: "words".to_owned(),
        metadata: metadata(),
        vector: Some(vec![1.0, 2.0, 3.0]),
    };
    Leg { kind, scale, hits: vec![hit.clone(), hit] }
}

/// The frozen proofs and policies, and what the targets make of control characters.
/// Each frozen decision, and a log in which four members propose it and the epoch turns.
fn decisions(seeds: &mut Seeds) {
    let vectors =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crates/exo-node/tests/vectors");
    let mut log = Vec::new();
    for file in fs::read_dir(vectors).expect("reads") {
        let path = file.expect("reads").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with("decision-") {
            continue;
        }
        let decision = fs::read(path).expect("reads");
        seeds.add("decision", &decision);
        let mut piece = Vec::new();
        for who in 0..4 {
            piece.push(who);
            piece.extend((decision.len() as u16).to_be_bytes());
            piece.extend_from_slice(&decision);
        }
        piece.extend([0xff, 0, 0]);
        seeds.add("decision", &piece);
        log.extend(piece);
    }
    seeds.add("decision", log);
}

fn logs(seeds: &mut Seeds) {
    let vectors = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crates/exo-log/tests/vectors");
    for file in fs::read_dir(vectors.join("proofs")).expect("reads") {
        let bytes = fs::read(file.expect("reads").path()).expect("reads");
        seeds.add("tlog_proof", bytes);
    }
    for edits in [[0, 50, 9, b'6'], [0, 200, 0x12, b'='], [20, 0, 9, b'A']] {
        seeds.add("tlog_proof", edits);
    }
    for text in ["tile/0/x001/067", "tile/entries/000.p/7", "a+00000000+AQ==", "o\n1\nAAAA\n"] {
        seeds.add("tlog_proof", text);
    }
    for file in ["policy.txt", "policy-of-two.txt"] {
        seeds.add("tlog_policy", fs::read(vectors.join(file)).expect("reads"));
    }
    for text in [
        "\x07a \x01\x07b \x02\x07c \x03\x08g 2 a b c\x0bg\n",
        "# x\n\x07a \x01 https://a\x07b \x02\x08g any a\x08h all b g\x0bh\n",
        "\x07k \x04\x0bk\n",
    ] {
        seeds.add("tlog_policy", text);
    }
}
