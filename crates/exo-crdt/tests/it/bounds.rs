//! What a member can make the others hold: as much as it may sign above the cut, and no more.

use exo_crdt::replica::ApplyRefusal;
use exo_crdt::{CollectionKind, Observed, Operation, Replica, Value, VerifiedBatch, Writer};
use exo_types::Wire;
use exo_types::limits::{
    BATCH_ENTRIES_MAX, BATCHES_PER_AUTHOR_MAX, ENTRIES_PER_AUTHOR_MAX, ENTRY_BYTES_PER_AUTHOR_MAX,
    ENTRY_VALUE_BYTES_MAX,
};

use crate::support::{Member, T0, key, members, name};

/// How a member fills up what others hold of it.
struct Flood {
    what: &'static str,
    entries: usize,
    value_bytes: usize,
}

/// Resident memory of this process, MiB.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this system tells");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB");
    kib / 1024
}

/// Signs batch after batch of keys that nobody has written before; how many are taken, and how many entries.
fn fill(replica: &mut Replica, flood: &Flood) -> (u64, u64) {
    let keypair = members().keypair(0);
    let (author, mut clock) = (keypair.peer_id(), exo_crdt::Clock::default());
    let mut writer = Writer::new(author, name(), replica.chain_end(&author));
    let (mut batches, mut entries, mut number) = (0, 0, 0u64);
    loop {
        let mut values = Vec::new();
        for at in 0..flood.entries {
            number += 1;
            let mut bytes = vec![0; flood.value_bytes];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            let value = Value { salt: [7; 32], bytes };
            let (at, put) = (u8::try_from(at).expect("in a batch"), value.put());
            let at_key = key(&format!("{number:x}"));
            writer.write(at_key, put, Observed::default(), &mut clock, T0).expect("writes");
            values.push((at, value));
        }
        let batch = writer.flush(keypair, replica.epoch_ref()).expect("signs").expect("a batch");
        // As it arrives, so that nothing is shared with the writer.
        let wire = batch.to_batch().to_wire().expect("encodes");
        let batch = exo_crdt::Batch::from_wire(&wire).expect("decodes");
        let batch = VerifiedBatch::verify(batch, &name(), members()).expect("verifies");
        let puts =
            batch.entries().iter().all(|entry| matches!(entry.operation, Operation::Put { .. }));
        assert!(puts);
        let opened = batch.open_values(values);
        match replica.apply(batch) {
            Ok(_) => {
                replica.put_values(opened).expect("encodes");
                (batches, entries) = (batches + 1, entries + flood.entries as u64);
            }
            Err(refusal) => {
                assert_eq!(refusal, ApplyRefusal::Quota(author));
                return (batches, entries);
            }
        }
    }
}

#[test]
#[ignore = "long: as much as one member may sign, in each way"]
fn a_member_that_writes_without_end_is_refused_at_its_bound_and_nobody_else_is() {
    let floods = [
        Flood { what: "batches of one entry", entries: 1, value_bytes: 8 },
        Flood { what: "full batches of small entries", entries: BATCH_ENTRIES_MAX, value_bytes: 8 },
        Flood { what: "the longest values", entries: 15, value_bytes: ENTRY_VALUE_BYTES_MAX },
    ];
    let mut kept = Vec::new();
    for flood in floods {
        let before = resident_mib();
        let mut replica = Replica::new(name(), CollectionKind::LastWriter);
        let (batches, entries) = fill(&mut replica, &flood);
        let grown = resident_mib() - before;
        println!("{}: {batches} batches, {entries} entries, {grown} MiB", flood.what);
        let bytes = entries * flood.value_bytes as u64;
        let full = batches == BATCHES_PER_AUTHOR_MAX
            || entries == ENTRIES_PER_AUTHOR_MAX
            || bytes > ENTRY_BYTES_PER_AUTHOR_MAX * 9 / 10;
        assert!(full && bytes <= ENTRY_BYTES_PER_AUTHOR_MAX, "refused before its bound");
        assert!(grown < 1_536, "{}: {grown} MiB", flood.what);
        let mut other = Member::new(1, CollectionKind::LastWriter);
        other.put("of another member", 1, T0);
        let batch = VerifiedBatch::verify(other.flush(), &name(), members()).expect("verifies");
        replica.apply(batch).expect("another member is not affected");
        // Held to the end, so that each figure is new memory.
        kept.push(replica);
    }
}
