//! The application on top of simplex: blocks of random updates, sent in full to every validator, and the
//! record of what became final.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use commonware_actor::Feedback;
use commonware_broadcast::{Broadcaster as _, buffered::Mailbox};
use commonware_codec::{
    Buf, EncodeSize, Error as CodecError, FixedSize as _, RangeCfg, Read, ReadExt as _, Write,
};
use commonware_consensus::{
    Automaton, CertifiableAutomaton, Handoff, Relay, Reporter, Viewable as _,
    simplex::{
        Plan,
        scheme::ed25519::Scheme,
        types::{Activity, Context, Finalization},
    },
};
use commonware_cryptography::{
    Digested, Digestible, Hasher as _, Sha256, ed25519::PublicKey, sha256::Digest,
};
use commonware_p2p::Recipients;
use commonware_parallel::Sequential;
use commonware_runtime::{BufMut, Clock as _, Spawner as _, Supervisor as _, tokio};
use commonware_utils::channel::oneshot;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use crate::Load;

/// Size of an update, in bytes.
pub(crate) const UPDATE_BYTES: usize = 256;
/// Most that the encoding of a block adds to its updates, in bytes.
pub(crate) const BLOCK_OVERHEAD_BYTES: usize = 64;
/// Views whose final block is sampled for the check of agreement: every 64th.
const SAMPLE_VIEWS: u64 = 64;

/// The parent of the first block.
pub(crate) fn genesis() -> Digest {
    Sha256::hash(&[b"exo-bench genesis"])
}

/// What one validator measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Length of the window, in seconds.
    pub(crate) window_s: f64,
    /// Processor time in the window, user and system, in milliseconds.
    pub(crate) cpu_ms: f64,
    /// Blocks that became final in the window, as seen by this validator.
    pub(crate) finalized: u64,
    /// Views skipped in the window.
    pub(crate) nullified: u64,
    /// Times the ancestry of a final block was not known to the end, so that blocks went uncounted.
    pub(crate) gaps: u64,
    /// From having the updates to seeing their block final, of this validator's own blocks, in µs.
    pub(crate) latencies_us: Vec<u64>,
    /// Digests of some final blocks, by view.
    pub(crate) samples: BTreeMap<u64, String>,
}

/// A block in full: what simplex orders is its digest.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    view: u64,
    parent: Digest,
    updates: Bytes,
}

impl Write for Block {
    fn write(&self, buf: &mut impl BufMut) {
        self.view.write(buf);
        self.parent.write(buf);
        self.updates.write(buf);
    }
}

impl EncodeSize for Block {
    fn encode_size(&self) -> usize {
        u64::SIZE + Digest::SIZE + self.updates.encode_size()
    }
}

impl Read for Block {
    type Cfg = RangeCfg<usize>;

    fn read_cfg(buf: &mut impl Buf, range: &Self::Cfg) -> Result<Self, CodecError> {
        Ok(Self {
            view: u64::read(buf)?,
            parent: Digest::read(buf)?,
            updates: Bytes::read_cfg(buf, range)?,
        })
    }
}

impl Digestible for Block {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        Sha256::hash(&[&self.view.to_be_bytes(), &self.parent, &self.updates])
    }
}

/// Proposes, verifies and relays blocks, and is told what became final.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

struct Inner {
    context: tokio::Context,
    mailbox: Mailbox<PublicKey, Block>,
    updates: usize,
    tick: Option<Duration>,
    pipeline: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Valid proposals not yet final, by view.
    pending: BTreeMap<u64, Pending>,
    /// Highest view known final.
    last_final: u64,
    /// Start of the window, once it is open.
    start: Option<Instant>,
    report: Report,
}

/// A valid proposal that is not final yet.
struct Pending {
    digest: Digest,
    /// View of its parent.
    parent: u64,
    /// This validator's own block, until it is relayed.
    block: Option<Digested<Block>>,
    /// When this validator had the updates, if the block is its own.
    born: Option<Instant>,
}

impl App {
    pub(crate) fn new(
        context: tokio::Context,
        mailbox: Mailbox<PublicKey, Block>,
        load: &Load,
    ) -> Self {
        Self(Arc::new(Inner {
            context,
            mailbox,
            updates: load.updates(),
            tick: load.rate.map(|rate| Duration::from_secs(1) / rate),
            pipeline: load.pipeline,
            state: Mutex::default(),
        }))
    }

    /// Opens the window: what becomes final from now on counts.
    pub(crate) fn open(&self, start: Instant) {
        let mut state = self.state();
        state.start = Some(start);
        state.report = Report::default();
    }

    /// Closes the window and returns what it counted.
    pub(crate) fn close(&self) -> Report {
        let mut state = self.state();
        state.start = None;
        std::mem::take(&mut state.report)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block on the parent in `context`; in low load only once the next tick has brought an update.
    async fn build(&self, context: &Context<Digest, PublicKey>) -> Digest {
        if let Some(tick) = self.0.tick {
            // Ticks of the wall clock, which the processes share: their updates come at `rate` in all.
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let wait = tick.as_nanos() - now % tick.as_nanos();
            self.0.context.sleep(Duration::from_nanos(u64::try_from(wait).unwrap_or(0))).await;
        }
        let mut updates = vec![0; self.0.updates * UPDATE_BYTES];
        SmallRng::from_rng(&mut rand::rng()).fill(&mut updates[..]);
        let born = Instant::now();
        let view = context.view().get();
        let block = Block { view, parent: context.parent.1, updates: updates.into() };
        let block = Digested::compute(block, &Sequential).await;
        let digest = block.digest();
        let parent = context.parent.0.get();
        self.state()
            .pending
            .insert(view, Pending { digest, parent, block: Some(block), born: Some(born) });
        digest
    }
}

impl Automaton for App {
    type Context = Context<Digest, PublicKey>;
    type Digest = Digest;

    async fn propose(&mut self, context: Self::Context) -> oneshot::Receiver<Digest> {
        let (sender, receiver) = oneshot::channel();
        let app = self.clone();
        self.0.context.child("propose").spawn(move |_| async move {
            let digest = app.build(&context).await;
            let _ = sender.send(digest);
        });
        receiver
    }

    /// Answers only once the block is here in full, and is the one that belongs in this place: a vote for
    /// it says that its voter has its bytes.
    async fn verify(&mut self, context: Self::Context, payload: Digest) -> oneshot::Receiver<bool> {
        let (sender, receiver) = oneshot::channel();
        let app = self.clone();
        self.0.context.child("verify").spawn(move |_| async move {
            let Ok(block) = app.0.mailbox.subscribe(payload).await else { return };
            let block = block.inner();
            let view = context.view().get();
            let valid = block.view == view && block.parent == context.parent.1;
            if valid {
                let parent = context.parent.0.get();
                app.state()
                    .learn(view, Pending { digest: payload, parent, block: None, born: None });
            }
            let _ = sender.send(valid);
        });
        receiver
    }
}

impl CertifiableAutomaton for App {
    async fn prepare(&mut self, context: Self::Context) -> oneshot::Receiver<Handoff<Digest>> {
        let (sender, receiver) = oneshot::channel();
        if !self.0.pipeline {
            let _ = sender.send(Handoff::Wait);
            return receiver;
        }
        let app = self.clone();
        self.0.context.child("prepare").spawn(move |_| async move {
            let digest = app.build(&context).await;
            let _ = sender.send(Handoff::Vote(digest));
        });
        receiver
    }
}

impl Relay for App {
    type Digest = Digest;
    type PublicKey = PublicKey;
    type Plan = Plan<PublicKey>;

    /// Sends this validator's own block to all. Nothing else is asked for: no block is staged, and
    /// forwarding is off.
    fn broadcast(&mut self, payload: Digest, plan: Self::Plan) -> Feedback {
        let Plan::Propose { round } = plan else { return Feedback::Ok };
        let block = self.state().pending.get_mut(&round.view().get()).and_then(|p| p.block.take());
        match block {
            Some(block) if block.digest() == payload => {
                self.0.mailbox.broadcast(Recipients::All, block)
            }
            _ => Feedback::Ok,
        }
    }
}

impl Reporter for App {
    type Activity = Activity<Scheme, Digest>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        match activity {
            Activity::Finalization(finalization) => {
                self.state().finalized(&finalization, Instant::now());
            }
            Activity::Nullification(_) => self.state().report.nullified += 1,
            _ => {}
        }
        Feedback::Ok
    }
}

impl State {
    /// Remembers a proposal, unless its place is final already.
    fn learn(&mut self, view: u64, proposal: Pending) {
        if view > self.last_final {
            self.pending.insert(view, proposal);
        }
    }

    /// Counts the final block and those of its ancestors that had no certificate of their own.
    fn finalized(&mut self, finalization: &Finalization<Scheme, Digest>, now: Instant) {
        let proposal = &finalization.proposal;
        let top = proposal.round.view().get();
        if top <= self.last_final {
            return;
        }
        let own = self.pending.remove(&top).filter(|p| p.digest == proposal.payload);
        self.count(top, &proposal.payload, own.and_then(|p| p.born), now);
        let mut view = proposal.parent.get();
        while view > self.last_final {
            let Some(ancestor) = self.pending.remove(&view) else {
                self.report.gaps += 1;
                break;
            };
            self.count(view, &ancestor.digest, ancestor.born, now);
            view = ancestor.parent;
        }
        self.last_final = top;
        self.pending = self.pending.split_off(&(top + 1));
    }

    fn count(&mut self, view: u64, digest: &Digest, born: Option<Instant>, now: Instant) {
        let Some(start) = self.start else { return };
        self.report.finalized += 1;
        if let Some(born) = born.filter(|born| *born >= start) {
            self.report
                .latencies_us
                .push(u64::try_from((now - born).as_micros()).unwrap_or(u64::MAX));
        }
        if view.is_multiple_of(SAMPLE_VIEWS) {
            self.report.samples.insert(view, digest.to_string());
        }
    }
}
