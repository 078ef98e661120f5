//! The shipping signatures: ML-DSA-65 identities by the verifier's own methods.

use std::sync::Arc;

use exo_consensus::sim::Tree;
use exo_consensus::{
    Blob, Bundle, BundleHead, Directory, Message, Root, Statement, Update, Verifier, ViewChange,
    ViewChangeMessage, Voter, Voters, bundle_root, check,
};
use exo_consensus::{Point, Refused};
use exo_crypto::{PostQuantumKeypair, Signed};
use exo_types::{Epoch, Sequence, View};

use crate::lab::FEDERATION;

struct Real;

impl Verifier for Real {
    fn cosignature(&self, _: &Voter, _: u64, _: Root, _: &[u8]) -> bool {
        false
    }
}

fn keypair(seed: u8) -> PostQuantumKeypair {
    PostQuantumKeypair::from_seed(&[seed; 32]).expect("a seed expands")
}

fn voter(key: &PostQuantumKeypair) -> Voter {
    let keys = Blob::new(key.public().as_bytes().to_vec()).expect("fits");
    Voter { id: key.peer_id(), keys }
}

fn directory(keys: &[PostQuantumKeypair]) -> Directory {
    let voters = Arc::new(Voters::new(keys.iter().map(voter).collect()).expect("four"));
    Directory { federation: FEDERATION, epoch: Epoch::GENESIS, voters }
}

fn request(key: &PostQuantumKeypair, updates: Vec<Update>) -> Bundle {
    let head = BundleHead {
        federation: FEDERATION,
        member: key.peer_id(),
        number: 0,
        count: updates.len() as u32,
        root: bundle_root(&updates),
    };
    Bundle { head: Signed::sign(head, key).expect("signs").into_signed(), updates }
}

fn data(byte: u8) -> Update {
    Update::Data(Blob::new(vec![byte; 9]).expect("short"))
}

#[test]
fn a_request_holds_as_its_member_signed_it_and_not_otherwise() {
    let keys: Vec<_> = (1..=4).map(keypair).collect();
    let directory = directory(&keys);
    let bundle = request(&keys[0], vec![data(1), data(2), data(3)]);
    let ask = |bundle: Bundle| {
        check::<Tree>(keys[1].peer_id(), Message::Request(Arc::new(bundle)), &directory, &Real)
    };
    assert!(ask(bundle.clone()).is_ok());
    let mut other = bundle.clone();
    other.updates[1] = data(9);
    assert!(matches!(ask(other), Err(Refused::False { .. })));
    let mut fewer = bundle.clone();
    fewer.updates.pop();
    assert!(ask(fewer).is_err());
    let stranger = keypair(9);
    assert!(ask(request(&stranger, vec![data(1)])).is_err());
    let mut signed_by_another = bundle;
    signed_by_another.head = request(&keys[2], vec![data(1)]).head;
    assert!(ask(signed_by_another).is_err());
}

#[test]
fn a_view_change_holds_under_its_senders_key_for_its_federation_alone() {
    let keys: Vec<_> = (1..=4).map(keypair).collect();
    let directory = directory(&keys);
    let change = ViewChange {
        federation: FEDERATION,
        epoch: Epoch::GENESIS,
        view: View(1),
        sender: keys[3].peer_id(),
        stable: Point { sequence: Sequence::ZERO, size: 0, root: Root::default() },
        prepared: Vec::new(),
        accepted: Vec::new(),
    };
    let send = |change: ViewChange, directory: &Directory| {
        let signed = Signed::sign(Statement::ViewChange(change), &keys[3]).expect("signs");
        let of = ViewChangeMessage { signed: signed.into_signed(), certificate: None };
        let message = Message::ViewChange(Box::new(of));
        check::<Tree>(keys[0].peer_id(), message, directory, &Real)
    };
    assert!(send(change.clone(), &directory).is_ok());
    let elsewhere =
        Directory { federation: exo_types::FederationId::new([1; 32]), ..directory.clone() };
    assert!(matches!(send(change.clone(), &elsewhere), Err(Refused::False { .. })));
    let later = Directory { epoch: Epoch(1), ..directory.clone() };
    assert_eq!(send(change, &later).err(), Some(Refused::Epoch(Epoch::GENESIS)));
}
