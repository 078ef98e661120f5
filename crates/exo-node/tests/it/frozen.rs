//! Every encoding of the wire, frozen: a change to one of these files is a decision.
//!
//! Files hold the bytes themselves. `EXO_VECTORS_FREEZE=1` writes them anew; what is drawn at random,
//! signatures and a sealing key, only where there is none, and it must verify for ever.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use exo_crypto::{IdentityKey, KemEpoch, KemEpochKey, KemKeypair, Label, Signed, SignedBody};
use exo_node::question::{Question, Reply};
use exo_node::refusal::Refusal;
use exo_node::wire::{CloseReason, Request, Response};
use exo_types::Wire;

use crate::samples::{self, START, Statements, founder, member, requests, responses};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(format!("{name}.bin"))
}

fn freezing() -> bool {
    std::env::var_os("EXO_VECTORS_FREEZE").is_some()
}

/// The bytes of a vector.
pub(crate) fn read(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The bytes of a vector, or what `make` gives where there is none and it is to be written.
fn kept(name: &str, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    if freezing() && !path(name).exists() {
        fs::write(path(name), make()).expect("writes");
    }
    read(name)
}

/// A value encodes to the file's bytes, and these decode to the value.
fn check<T: Wire + PartialEq + Debug>(name: &str, value: &T) {
    let bytes = value.to_wire().expect("encodes");
    if freezing() {
        fs::write(path(name), &bytes).expect("writes");
    }
    let frozen = read(name);
    assert!(frozen == bytes, "the encoding of {name} has changed");
    assert_eq!(&T::from_wire(&frozen).expect("decodes"), value, "{name} decodes to something else");
}

/// A signed statement from its file: the signature holds, and what is signed is this body.
fn signed<T>(
    name: &str,
    key: &IdentityKey,
    body: &T,
    keypair: &exo_crypto::PostQuantumKeypair,
) -> Signed<T>
where
    T: SignedBody + PartialEq + Debug + Clone,
{
    let of = body.clone();
    let bytes = kept(name, || {
        let made = Signed::sign(of, keypair).expect("signs");
        made.signed().to_wire().expect("encodes")
    });
    let statement = Signed::<T>::from_wire(&bytes).expect("decodes");
    assert_eq!(statement.to_wire().expect("encodes"), bytes, "{name}");
    let verified = statement.verify(key).expect("the signature holds for ever");
    assert_eq!(&*verified, body, "{name}");
    assert_eq!(statement.body(), body.to_wire().expect("encodes"), "{name}: the body has changed");
    statement
}

/// The statements of the vectors, read or made once.
pub(crate) fn statements() -> &'static Statements {
    static STATEMENTS: OnceLock<Statements> = OnceLock::new();
    STATEMENTS.get_or_init(make_statements)
}

fn make_statements() -> Statements {
    let key_of = |name: &str, keypair: &exo_crypto::PostQuantumKeypair| {
        let bytes = kept(name, || keypair.public().as_bytes().to_vec());
        let key = IdentityKey::from_bytes(&bytes).expect("a key");
        assert_eq!(&key, keypair.public(), "{name}");
        key
    };
    let (of_founder, of_member) =
        (key_of("key-founder", &founder()), key_of("key-member", &member()));
    let sealing = kept("signed-kem-epoch", || {
        let key = KemEpochKey {
            peer: member().peer_id(),
            epoch: KemEpoch(1_800_000_000),
            not_before: START,
            not_after: START.plus_millis(86_400_000),
            key: KemKeypair::generate().expect("a key").public().clone(),
        };
        Signed::sign(key, &member()).expect("signs").signed().to_wire().expect("encodes")
    });
    let kem_epoch = Signed::<KemEpochKey>::from_wire(&sealing).expect("decodes");
    kem_epoch.verify(&of_member).expect("the signature holds for ever");
    let descriptor = samples::descriptor(&kem_epoch);
    Statements {
        descriptor: signed("signed-descriptor", &of_member, &descriptor, &member()),
        roster: signed("signed-roster", &of_founder, &samples::roster(), &founder()),
        token: signed("signed-token", &of_founder, &samples::token(), &founder()),
        kem_epoch,
    }
}

#[test]
fn signed_statements_verify_for_ever_and_under_no_other_label() {
    let signed = statements();
    let bytes = signed.token.to_wire().expect("encodes");
    assert!(
        Signed::<exo_node::roster::RosterBody>::from_wire(&bytes)
            .is_ok_and(|other| { other.verify(founder().public()).is_err() })
    );
    let at = signed.token.signature();
    assert!(founder().public().verify(Label::TOKEN, signed.token.body(), at).is_ok());
    assert!(founder().public().verify(Label::ROSTER, signed.token.body(), at).is_err());
    check("signed-kem-epoch", &signed.kem_epoch);
}

#[test]
fn the_genesis_names_the_federation() {
    let id = samples::genesis().id();
    let file = kept("federation-id", || id.as_bytes().to_vec());
    assert_eq!(file, id.as_bytes());
}

#[test]
fn every_request_keeps_its_encoding() {
    let requests = requests(statements());
    for (at, (name, request)) in requests.iter().enumerate() {
        check::<Request>(name, request);
        let after = requests.get(at + 1).map(|(_, next)| kind(next));
        assert!(after.is_none_or(|next| next == kind(request) || next == kind(request) + 1));
    }
    assert_eq!(requests.last().map(|(_, last)| kind(last)), Some(10), "a variant has no vector");
}

#[test]
fn every_answer_keeps_its_encoding() {
    for (tag, (name, response)) in responses(statements()).iter().enumerate() {
        check::<Response>(name, response);
        assert_eq!(usize::from(read(name)[0]), tag, "{name}");
    }
    assert_eq!(responses(statements()).len(), 11, "a variant has no vector");
    // A new variant must come with a vector: this match then no longer compiles.
    let counted = |response: &Response| match response {
        Response::Refused(_)
        | Response::Done
        | Response::Welcome(_)
        | Response::Token(_)
        | Response::Synced(_)
        | Response::Terms(_)
        | Response::Answer { .. }
        | Response::JoinChallenge(_)
        | Response::JoinPending
        | Response::JoinApproved(_)
        | Response::Onion(_) => true,
    };
    assert!(responses(statements()).iter().all(|(_, response)| counted(response)));
}

/// The number of a request's variant; a new variant must come with a vector.
fn kind(request: &Request) -> u8 {
    match request {
        Request::Hello(_) => 0,
        Request::Grant => 1,
        Request::Sync(_) => 2,
        Request::Notify { .. } => 3,
        Request::Ping => 4,
        Request::Terms(_) => 5,
        Request::Search(_) => 6,
        Request::JoinStart(_) => 7,
        Request::JoinReveal { .. } => 8,
        Request::JoinPoll => 9,
        Request::Onion(_) => 10,
    }
}

#[test]
fn questions_and_replies_keep_their_encoding() {
    for (name, question) in samples::questions() {
        check::<Question>(name, &question);
    }
    let set = signed("signed-answer", member().public(), &samples::answer_set(), &member());
    let replies = [
        ("reply-refused", Reply::Refused(Refusal::Anonymous)),
        ("reply-terms", Reply::Terms(samples::terms())),
        ("reply-answer", Reply::Answer(Box::new(set))),
    ];
    for (number, (name, reply)) in replies.iter().enumerate() {
        check::<Reply>(name, reply);
        assert_eq!(usize::from(read(name)[0]), number, "{name}");
    }
    let encoded = read("question-search");
    assert_eq!(samples::answer_set().question, Question::hash(&encoded));
    assert_eq!(
        kept("question-hash", || Question::hash(&encoded).to_vec()),
        Question::hash(&encoded)
    );
}

#[test]
fn refusals_and_close_codes_keep_their_numbers() {
    let mut numbered = String::new();
    for refusal in Refusal::ALL {
        let bytes = Response::Refused(*refusal).to_wire().expect("encodes");
        let [0, number] = bytes[..] else { panic!("{refusal} takes {} bytes", bytes.len()) };
        numbered += &format!("{number} {}\n", refusal.code());
    }
    let file = path("refusals").with_extension("txt");
    if freezing() {
        fs::write(&file, &numbered).expect("writes");
    }
    assert_eq!(fs::read_to_string(file).expect("reads"), numbered);
    let codes = [
        CloseReason::Shutdown,
        CloseReason::Superseded,
        CloseReason::Refused,
        CloseReason::Revoked,
        CloseReason::Silent,
    ];
    for (code, reason) in codes.into_iter().enumerate() {
        assert_eq!(reason.code() as usize, code);
        assert_eq!(CloseReason::from_code(code as u64), Some(reason));
    }
    assert_eq!(CloseReason::from_code(5), None);
}

#[test]
fn a_state_of_every_part_loads_and_is_saved_as_it_was() {
    // Written by the unit test beside the format; here a node starts from it.
    let mut wires = crate::wires::Wires::new(1);
    wires.crash(0);
    wires.hosts[0].disk = Some(read("state"));
    wires.start(0);
    let federation = wires.node(0).federation().expect("it holds a membership");
    assert_eq!(federation.id, samples::genesis().id());
    assert_eq!(wires.node(0).invites().len(), 1);
}

#[test]
fn the_protocol_description_names_every_code_label_and_message() {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol/wire.md");
    let text = fs::read_to_string(text).expect("the description is there");
    let says = |line: &str| assert!(text.contains(line), "the description lacks: {line}");
    for (number, refusal) in Refusal::ALL.iter().enumerate() {
        says(&format!("| {number} | {} | {} |", refusal.code(), refusal.says()));
    }
    for label in [
        Label::PEER_ID,
        Label::GENESIS,
        Label::ROSTER,
        Label::DESCRIPTOR,
        Label::TOKEN,
        Label::KEM_EPOCH,
        Label::ANSWER,
        Label::QUESTION,
        Label::EXPORTER,
        Label::SAS_COMMIT,
        Label::SAS_WORDS,
        Label::CONTENT_HASH,
    ] {
        says(label.as_str());
    }
    let variant = |of: String| of.split([' ', '(', '{']).next().map(str::to_owned);
    for (name, request) in requests(statements()) {
        let number = read(name)[0];
        says(&format!("| {number} | {} |", variant(format!("{request:?}")).expect("a name")));
    }
    for (name, response) in responses(statements()) {
        let number = read(name)[0];
        says(&format!("| {number} | {} |", variant(format!("{response:?}")).expect("a name")));
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    says(&hex(&read("request-notify")));
    says(&hex(&read("response-refused")));
}
