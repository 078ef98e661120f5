//! A voter that lies, for demonstrations and tests: it runs the real replica, and what leaves it is
//! something else for each of the others. It is compiled in with the feature `liar` alone, and lies only
//! when the environment says `EXO_LIAR=equivocate`.
//!
//! The others fall into three parts, by the order in which they are first spoken to. The first hears the
//! truth. The other two hear of other batches at the same place, each part of its own; PREPAREs and
//! COMMITs for these; and the other two get cosignatures, which hold, on logs that do not exist.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use exo_consensus::{
    Batch, Blob, Cosignature, Digest, Message, PrePrepare, Root, Vote, batch_digest,
};
use exo_crypto::{Label, hash};
use exo_types::limits::{ACCEPTED_SEQUENCES_MAX, BATCH_BUNDLES_MAX, BATCH_BYTES_MAX, VOTERS_MAX};
use exo_types::{Epoch, PeerId, Sequence, View};

use super::outputs::frame;
use super::{Inner, Shared};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Liar {
    /// Whether it lies at all.
    lies: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Which part each of the others is in.
    parts: BTreeMap<PeerId, usize>,
    /// The digest that each part was told at a place.
    told: BTreeMap<(Epoch, Sequence, View), [Digest; PARTS]>,
}

impl Liar {
    /// Lies if the environment says so.
    pub(super) fn of_environment() -> Self {
        let lies = std::env::var_os(VARIABLE).is_some_and(|value| value == EQUIVOCATE);
        if lies {
            tracing::warn!("{VARIABLE} is set: this node lies to the other voters");
        }
        Self { lies, ..Self::default() }
    }

    /// Whether each of the others has to be sent a message of its own.
    pub(super) fn lies(&self) -> bool {
        self.lies
    }

    /// What `to` is told in the place of this message. `cosign` signs a log with this node's key.
    pub(super) fn outgoing(
        &self,
        to: &PeerId,
        message: &Message,
        cosign: impl FnOnce(u64, Root) -> Option<Vec<u8>>,
    ) -> Message {
        if !self.lies {
            return message.clone();
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let part = state.part(to);
        let told = match message {
            Message::PrePrepare(of) => state.propose(of, part),
            Message::Prepare(vote) => state.vote(vote, part).map(Message::Prepare),
            Message::Commit(vote) => state.vote(vote, part).map(Message::Commit),
            Message::Cosignature(of) if part > 0 => other_log(of, cosign),
            _ => None,
        };
        if told.is_some() {
            metrics::counter!("exo_liar_lies_total").increment(1);
        }
        told.unwrap_or_else(|| message.clone())
    }
}

impl Shared {
    /// Tells one of the others something in the place of a message.
    pub(super) fn lie(&self, inner: &Inner, to: &PeerId, message: &Message) {
        let cosign = |size, root| {
            let key = inner.decisions.cosigner();
            self.signer.cosign(size, root, key.as_ref()).ok()
        };
        if let Some(frame) = frame(&self.liar.outgoing(to, message, cosign)) {
            self.lanes.send(to, &frame);
        }
    }
}

impl State {
    fn part(&mut self, to: &PeerId) -> usize {
        let next = self.parts.len() % PARTS;
        match self.parts.get(to) {
            Some(part) => *part,
            None if self.parts.len() < VOTERS_MAX => *self.parts.entry(*to).or_insert(next),
            None => 0,
        }
    }

    /// The same place for another batch. Every part of it was signed by its member, and a bundle that
    /// comes again is passed over when the batch is carried out: the batch is as good as the true one.
    fn propose(&mut self, of: &PrePrepare, part: usize) -> Option<Message> {
        let batches: [Batch; PARTS] = std::array::from_fn(|part| other_batch(&of.batch, part));
        let place = (of.epoch, of.sequence, of.view);
        self.told.insert(place, std::array::from_fn(|part| digest(&batches[part])));
        while self.told.len() > PLACES_MAX {
            self.told.pop_first();
        }
        let batch = batches.into_iter().nth(part).filter(|batch| *batch != of.batch)?;
        Some(Message::PrePrepare(PrePrepare { batch, ..of.clone() }))
    }

    /// The vote for what this part was told; for nothing that there is, where it was not told anything.
    fn vote(&self, vote: &Vote, part: usize) -> Option<Vote> {
        let told = self.told.get(&(vote.epoch, vote.sequence, vote.view));
        let digest = match told {
            Some(digests) => *digests.get(part)?,
            None if part == 0 => vote.digest,
            None => Digest(hash(Label::BATCH_DIGEST, &[b"lie", &[part as u8], &vote.digest.0])),
        };
        (digest != vote.digest).then_some(Vote { digest, ..*vote })
    }
}

/// The first bundle once more for each part, as far as there is room.
fn other_batch(batch: &Batch, part: usize) -> Batch {
    let Some(first) = batch.bundles.first() else { return batch.clone() };
    let bytes: usize = batch.bundles.iter().map(|bundle| bundle.bytes()).sum();
    let fits = batch.bundles.len() + part <= BATCH_BUNDLES_MAX
        && bytes + part * first.bytes() <= BATCH_BYTES_MAX;
    let again = std::iter::repeat_n(Arc::clone(first), if fits { part } else { 0 });
    Batch { bundles: batch.bundles.iter().cloned().chain(again).collect() }
}

/// The name of a batch (`docs/protocol/consensus.md`, "Updates").
fn digest(batch: &Batch) -> Digest {
    let bundle = |bundle: &Arc<exo_consensus::Bundle>| {
        Digest(hash(Label::BATCH_DIGEST, &[b"bundle", bundle.head.body()]))
    };
    batch_digest(&batch.bundles.iter().map(bundle).collect::<Vec<_>>())
}

/// A cosignature that holds, on a log of the same length that there is not.
fn other_log(
    of: &Cosignature,
    cosign: impl FnOnce(u64, Root) -> Option<Vec<u8>>,
) -> Option<Message> {
    let mut lie = of.clone();
    lie.point.root = Root(hash(Label::BATCH_DIGEST, &[b"lie", &of.point.root.0]));
    lie.signature = Blob::new(cosign(lie.point.size, lie.point.root)?).ok()?;
    Some(Message::Cosignature(lie))
}

/// Parts into which the others fall.
const PARTS: usize = 3;
/// Places of which is remembered what was told.
const PLACES_MAX: usize = 4 * ACCEPTED_SEQUENCES_MAX as usize;
/// What switches the lies on.
const VARIABLE: &str = "EXO_LIAR";
/// The way to lie that there is.
const EQUIVOCATE: &str = "equivocate";

#[cfg(test)]
mod tests {
    use exo_consensus::{Bundle, BundleHead, Point, Update, bundle_root};
    use exo_crypto::{PostQuantumKeypair, Signed};
    use exo_types::FederationId;

    use super::*;

    fn liar() -> Liar {
        Liar { lies: true, ..Liar::default() }
    }

    fn batch() -> Batch {
        let keypair = PostQuantumKeypair::generate().expect("randomness");
        let updates = vec![Update::Data(Blob::new(b"one".to_vec()).expect("fits"))];
        let head = BundleHead {
            federation: FederationId::new([1; 32]),
            member: keypair.peer_id(),
            number: 0,
            count: 1,
            root: bundle_root(&updates),
        };
        let head = Signed::sign(head, &keypair).expect("signs").signed().clone();
        Batch { bundles: vec![Arc::new(Bundle { head, updates })] }
    }

    fn place(batch: Batch) -> PrePrepare {
        PrePrepare { epoch: Epoch(0), view: View(0), sequence: Sequence(1), batch }
    }

    fn peer(number: u8) -> PeerId {
        PeerId::new([number; 32])
    }

    #[test]
    fn each_part_is_told_another_batch_and_gets_votes_for_it() {
        let (liar, of) = (liar(), place(batch()));
        let mut told = Vec::new();
        for number in 0..3 {
            let message = Message::PrePrepare(of.clone());
            let Message::PrePrepare(lie) = liar.outgoing(&peer(number), &message, |_, _| None)
            else {
                panic!("another kind of message");
            };
            lie.batch.check().expect("as good a batch as the true one");
            told.push(digest(&lie.batch));
        }
        assert!(told[0] != told[1] && told[1] != told[2] && told[0] != told[2]);
        assert_eq!(told[0], digest(&of.batch), "one part hears the truth");
        let digest = told[0];
        let vote = Vote { epoch: of.epoch, view: of.view, sequence: of.sequence, digest };
        for number in 0..3 {
            let lie = liar.outgoing(&peer(number), &Message::Commit(vote), |_, _| None);
            let digest = told[usize::from(number)];
            assert_eq!(lie, Message::Commit(Vote { digest, ..vote }));
        }
    }

    #[test]
    fn a_false_log_is_signed_and_the_truth_is_told_to_one_part() {
        let liar = liar();
        let point = Point { sequence: Sequence(1), size: 2, root: Root([5; 32]) };
        let signature = Blob::new(vec![1]).expect("fits");
        let message = Message::Cosignature(Cosignature { epoch: Epoch(0), point, signature });
        let truth = liar.outgoing(&peer(0), &message, |_, _| panic!("signs nothing"));
        assert_eq!(truth, message);
        let lie = liar.outgoing(&peer(1), &message, |size, root| {
            assert!(size == 2 && root != point.root);
            Some(vec![2])
        });
        let Message::Cosignature(lie) = lie else { panic!("another kind of message") };
        assert_eq!(lie.signature.as_bytes(), [2]);
    }

    #[test]
    fn who_is_not_told_to_lie_does_not() {
        let (liar, message) = (Liar::default(), Message::PrePrepare(place(batch())));
        for number in 0..3 {
            let said = liar.outgoing(&peer(number), &message, |_, _| panic!("signs nothing"));
            assert_eq!(said, message);
        }
    }
}
