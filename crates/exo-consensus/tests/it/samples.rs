//! One of every message and record, the same in every run.

use std::sync::Arc;

use exo_consensus::sim::{cosign, sign};
use exo_consensus::{
    Base, Batch, BatchContent, Blob, Bundle, BundleHead, Certificate, Change, Claim, Cosignature,
    Digest, FetchBatch, FetchLog, Guard, JournaledNewView, Leaving, LogPiece, Logged, LoggedBatch,
    Message, NewView, NewViewMessage, Past, Point, PrePrepare, Record, Replicated, Role, Root,
    Seal, Seat, SeatSignature, Statement, Status, Turn, Update, ViewChange, ViewChangeMessage,
    Vote, Voters, bundle_root, statement_digest,
};
use exo_crypto::Signed;
use exo_types::{Epoch, Sequence, View};

use crate::lab::{FEDERATION, id, voter};

fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

fn bundle() -> Arc<Bundle> {
    let updates = vec![
        Update::Data(Blob::new(b"an update".to_vec()).expect("short")),
        Update::Wish(Change::Admit(voter(5, 1))),
        Update::Wish(Change::Remove(id(2))),
        Update::Wish(Change::Rotate(voter(1, 2))),
        Update::Rejoin { nonce: 300 },
    ];
    let head = BundleHead {
        federation: FEDERATION,
        member: id(1),
        number: 1000,
        count: updates.len() as u32,
        root: bundle_root(&updates),
    };
    Arc::new(Bundle { head: sign(&id(1), &head).expect("signs"), updates })
}

fn seal(turn: Option<Turn>) -> Seal {
    Seal { epoch: Epoch(2), sequence: Sequence(500), digest: digest(4), turn }
}

fn point() -> Point {
    Point { sequence: Sequence(500), size: 70_000, root: Root([8; 32]) }
}

fn certificate() -> Arc<Certificate> {
    let signature = |n: usize| SeatSignature {
        seat: Seat(n as u8),
        signature: Blob::new(cosign(&id(n), 70_000, Root([8; 32]))).expect("short"),
    };
    Arc::new(Certificate {
        size: 70_000,
        root: Root([8; 32]),
        seal: seal(Some(Turn::Rejoin { member: id(3), nonce: 9 })),
        peaks: vec![Root([1; 32]), Root([2; 32])],
        signatures: (0..3).map(signature).collect(),
    })
}

fn view_change() -> ViewChange {
    let claim = |sequence, n, view| Claim {
        sequence: Sequence(sequence),
        digest: digest(n),
        view: View(view),
    };
    ViewChange {
        federation: FEDERATION,
        epoch: Epoch(2),
        view: View(9),
        sender: id(2),
        stable: point(),
        prepared: vec![claim(501, 1, 8), claim(503, 2, 3)],
        accepted: vec![claim(501, 1, 8), claim(501, 7, 6), claim(503, 2, 3)],
    }
}

fn signed_view_change() -> Signed<Statement> {
    sign(&id(2), &Statement::ViewChange(view_change())).expect("signs")
}

fn new_view() -> NewView {
    NewView {
        federation: FEDERATION,
        epoch: Epoch(2),
        view: View(9),
        sender: id(1),
        view_changes: vec![(Seat(2), statement_digest(&signed_view_change()))],
    }
}

fn logged() -> LoggedBatch {
    let update = Update::Data(Blob::new(b"an update".to_vec()).expect("short"));
    let logged = Logged { member: id(1), number: 1000, index: 0, update };
    LoggedBatch { updates: vec![logged], seal: seal(Some(Turn::Change(Change::Remove(id(2))))) }
}

pub(crate) fn messages() -> Vec<(&'static str, Message)> {
    let vote = Vote { epoch: Epoch(2), view: View(9), sequence: Sequence(501), digest: digest(1) };
    let batch = Batch { bundles: vec![bundle()] };
    let signed = sign(&id(1), &Statement::NewView(new_view())).expect("signs");
    let cosignature = Cosignature {
        epoch: Epoch(2),
        point: point(),
        signature: Blob::new(cosign(&id(1), 70_000, Root([8; 32]))).expect("short"),
    };
    vec![
        ("request", Message::Request(bundle())),
        (
            "pre-prepare",
            Message::PrePrepare(PrePrepare {
                epoch: Epoch(2),
                view: View(9),
                sequence: Sequence(501),
                batch: batch.clone(),
            }),
        ),
        ("prepare", Message::Prepare(vote)),
        ("commit", Message::Commit(vote)),
        ("cosignature", Message::Cosignature(cosignature)),
        (
            "view-change",
            Message::ViewChange(Box::new(ViewChangeMessage {
                signed: signed_view_change(),
                certificate: Some(certificate()),
            })),
        ),
        (
            "new-view",
            Message::NewView(Box::new(NewViewMessage {
                signed,
                view_changes: vec![signed_view_change()],
                certificate: None,
            })),
        ),
        (
            "status",
            Message::Status(Status {
                epoch: Epoch(2),
                view: View(9),
                active: true,
                executed: Sequence(502),
                stable: Sequence(500),
                accepted: 3,
                prepared: 1,
                committed: 0,
                view_changes: 6,
            }),
        ),
        ("fetch-batch", Message::FetchBatch(FetchBatch { epoch: Epoch(2), digest: digest(1) })),
        ("batch-content", Message::BatchContent(BatchContent { epoch: Epoch(2), batch })),
        ("fetch-log", Message::FetchLog(FetchLog { epoch: Epoch(2), size: 60_000 })),
        (
            "log-piece",
            Message::LogPiece(Box::new(LogPiece {
                certificate: certificate(),
                from: 60_000,
                batches: vec![logged()],
                proof: vec![Root([5; 32])],
            })),
        ),
    ]
}

pub(crate) fn records() -> Vec<(&'static str, Record)> {
    let voters = Arc::new(Voters::new((0..4).map(|n| voter(n, 0)).collect()).expect("four"));
    let guard =
        Guard { epoch: Epoch(2), view: View(9), sequence: Sequence(501), digest: digest(1) };
    let mut state = Replicated::genesis(Arc::clone(&voters), point());
    state.wishes.insert(id(1), Change::Remove(id(2)));
    state.rejoined.insert(id(3), Sequence(400));
    state.turn = Some(Turn::Rejoin { member: id(3), nonce: 9 });
    let base = Base {
        federation: FEDERATION,
        replica: id(1),
        role: Role::Wiped { nonce: 5 },
        state,
        size: 70_000,
        peaks: vec![Root([1; 32])],
        stable: point(),
        certificate: Some(certificate()),
        past: vec![Past { point: point(), seal: seal(None), peaks: vec![Root([2; 32])] }],
        owed: vec![(7, 69_000)],
    };
    let new_view = JournaledNewView {
        statement: new_view(),
        signed: None,
        view_changes: vec![(Seat(2), signed_view_change())],
        certificate: Some(certificate()),
    };
    let leaving = Leaving { change: view_change(), certificate: None };
    vec![
        (
            "founded",
            Record::Founded { federation: FEDERATION, replica: id(1), voters, role: Role::Joining },
        ),
        ("base", Record::Base(Box::new(base))),
        ("role", Record::Role(Role::Voter)),
        ("batch", Record::Batch(Batch { bundles: vec![bundle()] })),
        ("accepted", Record::Accepted(guard)),
        ("prepared", Record::Prepared(guard)),
        ("journaled view-change", Record::ViewChange(Box::new(leaving))),
        ("journaled new-view", Record::NewView(Box::new(new_view))),
        ("append", Record::Append(logged().into())),
        ("cosigned", Record::Cosigned(point())),
        ("certified", Record::Certified(certificate())),
        ("submitted", Record::Submitted { bundle: bundle(), tickets: vec![1, 2, 3, 4, 5] }),
    ]
}

pub(crate) fn leaves() -> Vec<(&'static str, Vec<u8>)> {
    let leaves: Vec<Vec<u8>> = logged().leaves().collect();
    vec![("leaf of an update", leaves[0].clone()), ("leaf of a seal", leaves[1].clone())]
}
