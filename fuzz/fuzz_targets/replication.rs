//! Batches, shown entries, proofs, checkpoints, replicated types, and whatever a synchronisation hears.
#![no_main]

use std::sync::OnceLock;

use exo_crdt::sync::{LinkSecret, Session, SetSync, SyncMessage};
use exo_crdt::{
    Batch, Checkpoint, CollectionKind, Evidence, GSet, LWWMap, LiveSet, ORSet, Reconciled, Replica,
    ShownEntry, Value,
};
use exo_fuzz::{byte, wire};
use exo_types::{CollectionName, Wire};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    match byte(&mut rest) % 12 {
        0 => drop(wire::<Batch>(rest)),
        1 => drop(wire::<ShownEntry>(rest)),
        2 => {
            if let Some(evidence) = wire::<Evidence>(rest) {
                // Nobody is framed: without signatures there is no proof.
                assert!(evidence.verify(exo_fuzz::keypair().public()).is_err());
            }
        }
        3 => checkpoint(rest),
        4 => drop(wire::<Value>(rest)),
        5 => drop(wire::<GSet<[u8; 32]>>(rest)),
        6 => drop(wire::<LWWMap<String, Vec<u8>>>(rest)),
        7 => drop(wire::<ORSet<u8>>(rest)),
        8 => drop(wire::<Reconciled>(rest)),
        9 => drop(wire::<SyncMessage>(rest)),
        10 => session(rest),
        _ => set(rest),
    }
});

fn checkpoint(bytes: &[u8]) {
    let (Some(cut), live) = (wire::<Checkpoint>(bytes), LiveSet::default()) else { return };
    let mut replica = replica().clone();
    if replica.adopt(cut, live).is_ok() {
        assert!(replica.checkpoint().epoch > 0 && replica.entries() == 0);
    }
}

/// Messages one after another, each behind two bytes of length.
fn session(mut bytes: &[u8]) {
    let link = LinkSecret([1; 32]);
    let (mut asker, _) = Session::ask(replica(), link, [1; 16]);
    let mut answerer = Session::answer(replica(), link, [2; 16]);
    for turn in 0..16 {
        let length = usize::from(byte(&mut bytes)) << 8 | usize::from(byte(&mut bytes));
        let (message, rest) = bytes.split_at(length.min(bytes.len()));
        bytes = rest;
        let Ok(message) = SyncMessage::from_wire(message) else { continue };
        let session = if turn % 2 == 0 { &mut asker } else { &mut answerer };
        if let Ok(step) = session.handle(replica(), message, [turn; 16]) {
            for answer in step.send {
                let encoded = answer.to_wire().expect("what is sent encodes");
                assert_eq!(SyncMessage::from_wire(&encoded), Ok(answer));
            }
        }
    }
}

/// A set's messages against a set that has something to differ about.
fn set(bytes: &[u8]) {
    let ids: Vec<_> = (0..50u8).map(|n| [n; 32]).collect();
    let mut answerer = SetSync::new(ids, LinkSecret([1; 32]), [1; 16]).expect("a small set");
    answerer.answer([2; 16]);
    let mut message = SyncMessage::from_wire(bytes);
    for turn in 0..8 {
        let Ok(SyncMessage::Set(arrived)) = &message else { return };
        let Ok(step) = answerer.handle(arrived, [turn; 16]) else { return };
        assert!(step.mine.len() <= 50);
        // What it says, said back to it.
        let Some(said) = step.send else { return };
        message = Ok(SyncMessage::Set(said));
    }
}

fn replica() -> &'static Replica {
    static REPLICA: OnceLock<Replica> = OnceLock::new();
    REPLICA.get_or_init(|| {
        let name = CollectionName::new("fuzz").expect("a name");
        Replica::new(name, CollectionKind::LastWriter)
    })
}
