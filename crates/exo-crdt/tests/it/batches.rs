//! Signed batches, shown entries and proofs: what is refused, and why.

use exo_crdt::clock::ahead;
use exo_crdt::merkle::InclusionPath;
use exo_crdt::replica::ApplyRefusal;
use exo_crdt::{
    Author, Authors, Batch, BatchHeader, BatchRefusal, CollectionKind, Entry, Evidence, Hlc,
    Operation, Replica, ShownEntry, VerifiedBatch, VerifiedEntry,
};
use exo_crypto::{IdentityKey, PostQuantumKeypair, Signed, VerifyError};
use exo_types::codec::{CodecError, Wire};
use exo_types::limits::{
    BATCH_ENTRIES_MAX, BATCHES_PER_AUTHOR_MAX, ENTRIES_PER_AUTHOR_MAX, ENTRY_BYTES_PER_AUTHOR_MAX,
};
use exo_types::{CollectionName, PeerId, Timestamp};

use crate::support::{Member, T0, key, members, name, value};

/// A membership in which one member may be revoked.
struct With(Option<u64>);

impl Authors for With {
    fn author(&self, id: &PeerId) -> Option<Author<'_>> {
        members().author(id).map(|author| Author { last_seq: self.0, ..author })
    }
}

fn batch(entries: usize) -> Batch {
    let mut member = Member::new(0, CollectionKind::LastWriter);
    for n in 0..entries {
        member.put(&format!("key-{n}"), n as u8, T0);
    }
    member.flush()
}

fn verify(batch: Batch) -> Result<VerifiedBatch, BatchRefusal> {
    VerifiedBatch::verify(batch, &name(), members())
}

/// A header signed anew, with whatever it says.
fn sign(header: BatchHeader, keypair: &PostQuantumKeypair) -> Signed<BatchHeader> {
    Signed::sign(header, keypair).expect("signs").into_signed()
}

#[test]
fn a_full_batch_has_at_most_15_bytes_of_signature_an_entry_and_verifies() {
    let batch = batch(BATCH_ENTRIES_MAX);
    let signature = batch.header.signature().as_bytes().len();
    assert!(signature as f64 / batch.entries.len() as f64 <= 15.0);
    let wire = batch.to_wire().expect("encodes");
    let verified = verify(Batch::from_wire(&wire).expect("decodes")).expect("verifies");
    assert_eq!(verified.entries().len(), 256);
    for index in [0, 1, 100, 255] {
        let shown = verified.show(index).expect("an entry");
        let wire = shown.to_wire().expect("encodes");
        let shown = ShownEntry::from_wire(&wire).expect("decodes");
        let shown = VerifiedEntry::verify(shown, &name(), members()).expect("verifies");
        assert_eq!(shown.id(), verified.ids()[usize::from(index)]);
    }
}

#[test]
fn unsigned_missigned_and_foreign_batches_are_refused_with_the_reason() {
    let good = batch(3);
    let author = members().keypair(0).peer_id();
    // Another member's signature under this author's name cannot be made: the signer is named.
    let mut header = good.header.claimed().expect("a header");
    let other = members().keypair(1);
    assert!(Signed::sign(header.clone(), other).is_err());
    // A bit of the signed bytes or of the signature is changed.
    let wire = good.header.to_wire().expect("encodes");
    let mut bad = wire.clone();
    *bad.last_mut().expect("bytes") ^= 1;
    let bad = Batch { header: Signed::from_wire(&bad).expect("the form holds"), ..good.clone() };
    assert_eq!(verify(bad), Err(BatchRefusal::Signature(VerifyError::Signature(author))));
    // Somebody who was never a member.
    let stranger = PostQuantumKeypair::from_seed(&[99; 32]).expect("a key");
    header.author = stranger.peer_id();
    let strange = Batch { header: sign(header, &stranger), ..good.clone() };
    assert_eq!(verify(strange), Err(BatchRefusal::UnknownAuthor(stranger.peer_id())));
    // Another collection.
    let elsewhere = CollectionName::new("elsewhere").expect("a name");
    let refused = VerifiedBatch::verify(good.clone(), &elsewhere, members());
    assert!(matches!(refused, Err(BatchRefusal::OtherCollection { .. })));
    assert!(verify(good).is_ok());
}

#[test]
fn a_revoked_author_is_refused_after_its_last_batch_and_not_before() {
    let mut member = Member::new(0, CollectionKind::LastWriter);
    let batches: Vec<_> = (0..3u8)
        .map(|n| {
            member.put("k", n, T0);
            member.flush()
        })
        .collect();
    let verify = |at: usize| VerifiedBatch::verify(batches[at].clone(), &name(), &With(Some(2)));
    assert!(verify(0).is_ok() && verify(1).is_ok());
    let author = member.author();
    assert_eq!(verify(2), Err(BatchRefusal::Revoked { author, last_seq: 2, seq: 3 }));
    // What was applied before the revocation was known goes, and what was before it stays.
    member.replica.forget_revoked(&With(Some(2)));
    assert_eq!(member.replica.chain_end(&author).seq, 2);
    let mut late = Replica::new(name(), CollectionKind::LastWriter);
    late.apply(verify(0).expect("verifies")).expect("applies");
    late.apply(verify(1).expect("verifies")).expect("applies");
    assert_eq!(late.canonical_state(), member.replica.canonical_state());
}

#[test]
fn entries_other_than_the_signed_ones_are_refused_whole() {
    let good = batch(5);
    let author = members().keypair(0).peer_id();
    let refused = |change: fn(&mut Vec<Entry>)| {
        let mut entries = good.entries.clone();
        change(&mut entries);
        verify(Batch { header: good.header.clone(), entries }) == Err(BatchRefusal::Root(author))
    };
    assert!(refused(|entries| entries.swap(0, 1)));
    assert!(refused(|entries| drop(entries.pop())));
    assert!(refused(|entries| entries.push(entries[0].clone())));
    assert!(refused(|entries| entries[2].key = key("other")));
    assert!(refused(|entries| entries[2].operation = Operation::Remove));
    assert!(refused(|entries| entries[2].stamp = Hlc::ZERO));
    assert!(refused(|entries| entries.clear()));
}

#[test]
fn oversized_entries_headers_and_lists_are_refused_before_they_are_kept() {
    let mut member = Member::new(0, CollectionKind::LastWriter);
    let long = exo_types::limits::ENTRY_VALUE_BYTES_MAX as u32 + 1;
    let commitment = value(1).commitment();
    let operation = Operation::Put { commitment, value_bytes: long };
    let refused = member.writer.write(key("k"), operation, Vec::new(), &mut member.clock, T0);
    assert!(refused.is_err());
    let dots: Vec<_> = (0..65).map(|n| exo_crdt::Dot::new(member.author(), n)).collect();
    let refused = member.writer.write(key("k"), Operation::Remove, dots, &mut member.clock, T0);
    assert!(refused.is_err());
    assert_eq!(member.writer.pending(), 0);
    assert!(matches!(
        Batch::from_wire(&vec![0; Batch::BYTES_MAX + 1]),
        Err(CodecError::TooLong { .. })
    ));
    for n in 0..BATCH_ENTRIES_MAX {
        member.put(&format!("{n}"), 1, T0);
    }
    assert!(member.writer.is_due(T0));
    let full = member.writer.write(key("k"), Operation::Remove, vec![], &mut member.clock, T0);
    assert_eq!(full, Err(exo_crdt::writer::WriteError::Full));
}

#[test]
fn a_header_written_longer_than_need_be_is_refused() {
    let good = batch(1);
    let mut body = good.header.body().to_vec();
    // The number 1, a byte after the author, written in two bytes.
    let seq = 1 + name().as_str().len() + 32;
    assert_eq!(body[seq], 1);
    body.splice(seq..=seq, [0x81, 0x00]);
    let signature =
        members().keypair(0).sign(exo_crypto::Label::BATCH_HEADER, &body).expect("signs");
    let mut wire = vec![body.len() as u8, 1];
    assert!(body.len() > 127);
    wire[0] |= 0x80;
    wire.extend_from_slice(&body);
    wire.extend_from_slice(signature.as_bytes());
    let header = Signed::from_wire(&wire).expect("the form holds");
    let padded = Batch { header, entries: good.entries };
    let author = members().keypair(0).peer_id();
    assert_eq!(verify(padded), Err(BatchRefusal::NotCanonical(author)));
}

#[test]
fn a_batch_waits_for_others_fifty_milliseconds() {
    let mut member = Member::new(0, CollectionKind::LastWriter);
    assert!(!member.writer.is_due(T0));
    member.put("k", 1, T0);
    assert!(!member.writer.is_due(T0.plus_millis(49)));
    assert!(member.writer.is_due(T0.plus_millis(50)));
    member.flush();
    assert!(!member.writer.is_due(T0.plus_millis(500)));
}

#[test]
fn an_entry_is_shown_in_its_own_place_alone() {
    let verified = verify(batch(9)).expect("verifies");
    let shown = verified.show(3).expect("an entry");
    let refused = |change: fn(&mut ShownEntry)| {
        let mut shown = shown.clone();
        change(&mut shown);
        VerifiedEntry::verify(shown, &name(), members()).is_err()
    };
    assert!(refused(|s| s.index = 4));
    assert!(refused(|s| s.entry.key = key("x")));
    assert!(refused(|s| s.path = InclusionPath(Vec::new())));
    assert!(refused(|s| s.path.0.reverse()));
    assert!(!refused(|_| ()));
}

#[test]
fn stamps_from_the_future_are_held_and_passed_on_but_seen_later() {
    let mut liar = Member::new(0, CollectionKind::LastWriter);
    let mut honest = Member::new(1, CollectionKind::LastWriter);
    honest.put("k", 1, T0);
    honest.flush();
    let future = T0.plus_millis(60_000);
    liar.put("k", 2, future);
    let batch = liar.flush();
    let before = honest.clock;
    let verified = verify(batch).expect("a stamp refuses nothing");
    let outcome = honest.replica.apply(verified).expect("applies");
    assert!(ahead(outcome.latest, T0).is_some());
    assert!(matches!(honest.clock.fold(outcome.latest, T0), exo_crdt::Folded::Ahead { .. }));
    assert_eq!(honest.clock, before);
    let now = honest.replica.view(T0);
    assert_eq!((now.deferred, now.keys[&key("k")].author), (1, honest.author()));
    // Two replicas that hold the same say the same, whenever they are asked.
    assert_eq!(honest.replica.view(future).keys[&key("k")].author, liar.author());
}

#[test]
fn a_ground_author_id_wins_ties_alone() {
    // Whoever has the greatest id: one tick later wins over it.
    let greatest = (0..4).max_by_key(|at| members().keypair(*at).peer_id()).expect("members");
    let mut ground = Member::new(greatest, CollectionKind::LastWriter);
    let mut other = Member::new((greatest + 1) % 4, CollectionKind::LastWriter);
    ground.put("tie", 1, T0);
    ground.put("later", 1, T0);
    other.put("tie", 2, T0);
    other.put("later", 2, T0.plus_millis(1));
    let batch = ground.flush();
    other.flush();
    other.take(&batch);
    let view = other.replica.view(T0.plus_millis(10));
    assert_eq!(view.keys[&key("tie")].author, ground.author());
    assert_eq!(view.keys[&key("later")].author, other.author());
}

#[test]
fn two_headers_of_one_number_are_a_proof_that_stands_alone() {
    let [one, two]: [Batch; 2] = [1, 2].map(|n| {
        let mut liar = Member::new(0, CollectionKind::LastWriter);
        liar.put("k", n, T0);
        liar.flush()
    });
    let evidence = Evidence::of(two.header.clone(), one.header.clone()).expect("a proof");
    let wire = evidence.to_wire().expect("encodes");
    let evidence = Evidence::from_wire(&wire).expect("decodes");
    let author: &IdentityKey = members().keypair(0).public();
    assert_eq!(evidence.verify(author), Ok((author.peer_id(), 1)));
    assert!(evidence.verify(members().keypair(1).public()).is_err());
    // One history is no proof, though it be signed twice.
    assert!(Evidence::of(one.header.clone(), one.header.clone()).is_err());
    let again = sign(one.header.claimed().expect("a header"), members().keypair(0));
    assert_ne!(again, one.header);
    assert!(Evidence::of(one.header.clone(), again).is_err());
    // Nor are two numbers.
    let mut member = Member::new(0, CollectionKind::LastWriter);
    member.put("k", 1, T0);
    member.flush();
    member.put("k", 2, T0);
    assert!(Evidence::of(one.header, member.flush().header).is_err());
}

#[test]
fn the_entries_of_a_double_signer_are_frozen_alike_whichever_came_first() {
    let [one, two]: [Batch; 2] = [1, 2].map(|n| {
        let mut liar = Member::new(0, CollectionKind::LastWriter);
        liar.put(&format!("k{n}"), n, T0);
        liar.flush()
    });
    let mut a = Member::new(1, CollectionKind::LastWriter);
    let mut b = Member::new(2, CollectionKind::LastWriter);
    a.take(&one);
    assert_eq!(a.keys(T0), ["k1"]);
    a.take(&two);
    b.take(&two);
    b.take(&one);
    assert_eq!(a.replica.canonical_state(), b.replica.canonical_state());
    let view = a.replica.view(T0);
    assert_eq!(view, b.replica.view(T0));
    assert_eq!((view.keys.len(), view.frozen), (0, 1));
}

#[test]
fn quotas_count_what_the_author_signed_and_end_with_a_typed_refusal() {
    let keypair = members().keypair(0);
    let good = batch(1);
    let header = good.header.claimed().expect("a header");
    let apply = |header: BatchHeader| {
        let batch = Batch { header: sign(header, keypair), entries: good.entries.clone() };
        let batch = verify(batch).expect("verifies");
        Replica::new(name(), CollectionKind::LastWriter).apply(batch)
    };
    let over = ApplyRefusal::Quota(keypair.peer_id());
    let totals =
        |total_entries, total_bytes| BatchHeader { total_entries, total_bytes, ..header.clone() };
    let (entries, bytes) = (ENTRIES_PER_AUTHOR_MAX, ENTRY_BYTES_PER_AUTHOR_MAX);
    assert_eq!(apply(totals(entries + 1, bytes)), Err(over.clone()));
    assert_eq!(apply(totals(entries, bytes + 1)), Err(over.clone()));
    assert!(apply(totals(entries, bytes)).is_ok());
    let previous = exo_crdt::HeaderHash([1; 32]);
    let far = BatchHeader { seq: BATCHES_PER_AUTHOR_MAX + 1, previous, ..header.clone() };
    assert_eq!(apply(far), Err(over));
    // Totals that are not the sum of what came before do not continue a chain, and so never count.
    let mut replica = Replica::new(name(), CollectionKind::LastWriter);
    let lies = BatchHeader { total_entries: 5, ..header };
    let batch = Batch { header: sign(lies, keypair), entries: good.entries.clone() };
    replica.apply(verify(batch).expect("verifies")).expect("applies");
    assert_eq!(replica.chain_end(&keypair.peer_id()).seq, 0);
    assert!(replica.view(Timestamp(u64::MAX)).keys.is_empty());
}

#[test]
fn batches_count_once_those_before_them_have_come() {
    let mut author = Member::new(0, CollectionKind::LastWriter);
    let batches: Vec<_> = (0..3u8)
        .map(|n| {
            author.put(&format!("k{n}"), n, T0);
            author.flush()
        })
        .collect();
    let mut other = Member::new(1, CollectionKind::LastWriter);
    other.take(&batches[2]);
    assert!(other.keys(T0).is_empty());
    other.take(&batches[0]);
    assert_eq!(other.keys(T0), ["k0"]);
    other.take(&batches[1]);
    assert_eq!(other.keys(T0), ["k0", "k1", "k2"]);
    assert_eq!(other.replica.canonical_state(), author.replica.canonical_state());
}

#[test]
fn a_value_opens_its_commitment_and_is_gone_once_erased() {
    let mut member = Member::new(0, CollectionKind::LastWriter);
    member.put("k", 7, T0);
    member.flush();
    let id = member.replica.view(T0).keys[&key("k")].id;
    assert!(member.replica.put_value(id, value(8)).is_none(), "another value");
    let write = member.replica.put_value(id, value(7)).expect("the value");
    member.save(&write);
    assert_eq!(member.restored().value(&id), Some(&value(7)));
    let state = member.replica.canonical_state();
    let write = member.replica.erase(id);
    member.save(&write);
    assert_eq!(member.replica.value(&id), None);
    assert!(member.replica.put_value(id, value(7)).is_none(), "it is not taken again");
    assert_eq!(member.replica.canonical_state(), state, "the entry and its commitment stay");
    let mut restored = member.restored();
    assert!(restored.value(&id).is_none() && restored.put_value(id, value(7)).is_none());
    let saved = member.saved.values().any(|bytes| bytes.windows(32).any(|w| w == [7; 32]));
    assert!(!saved, "the salt is destroyed with the value");
}

#[test]
fn a_removal_is_later_than_what_it_removes_though_that_came_from_ahead_of_the_clock() {
    let mut ahead = Member::new(0, CollectionKind::LastWriter);
    let mut behind = Member::new(1, CollectionKind::LastWriter);
    ahead.put("k", 1, T0.plus_millis(8_000));
    let batch = verify(ahead.flush()).expect("verifies");
    let outcome = behind.replica.apply(batch).expect("applies");
    let folded = behind.clock.fold(outcome.latest, T0);
    assert!(matches!(folded, exo_crdt::Folded::Ahead { .. }));
    let now = T0.plus_millis(4_000);
    assert_eq!(behind.keys(now), ["k"], "it has come into view");
    behind.remove("k", now);
    let removed = behind.flush();
    ahead.take(&removed);
    for member in [&ahead, &behind] {
        assert!(member.keys(T0.plus_millis(60_000)).is_empty());
    }
}
