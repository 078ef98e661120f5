//! Replicated data types, signed shared collections and their synchronisation, without I/O.
//!
//! Nothing here reads a clock, draws randomness, writes a file or sends a message: time, keys and nonces
//! are arguments, and what is to be saved or sent is handed to the caller.
//!
//! - [`merge`], [`delta`]: the join and its laws; [`gset`], [`lww_register`], [`lww_map`], [`or_set`]
//!   obey them.
//! - [`stamp`], [`clock`], [`dot`]: when something was written, and which event it is.
//! - [`entry`], [`batch`], [`merkle`], [`writer`], [`evidence`]: signed writes, one signature for up to
//!   256 of them, and proofs against those who sign two histories.
//! - [`checkpoint`], [`replica`], [`store`]: a shared collection, and its compaction that cannot
//!   resurrect.
//! - [`sync`]: how two replicas find what differs and exchange it.
//! - [`reconcile`], [`rank`]: federated answers as a replicated state with a pure ranking.
//!
//! The wire and hash formats are in `docs/protocol/replication.md`.

pub mod batch;
pub mod checkpoint;
pub mod clock;
pub mod delta;
pub mod dot;
pub mod entry;
pub mod evidence;
pub mod gset;
pub mod hash;
pub mod lww_map;
pub mod lww_register;
pub mod merge;
pub mod merkle;
pub mod or_set;
pub mod rank;
pub mod reconcile;
pub mod replica;
#[cfg(feature = "sim")]
pub mod sim;
pub mod stamp;
pub mod store;
pub mod sync;
mod table;
pub mod writer;

pub use batch::{
    Author, Authors, Batch, BatchHeader, BatchRefusal, OpenedValues, ShownEntry, VerifiedBatch,
    VerifiedEntry, VerifiedHeader,
};
pub use checkpoint::{Checkpoint, CollectionKind, LiveSet};
pub use clock::{Clock, Folded};
pub use delta::Delta;
pub use dot::{Dot, DotContext};
pub use entry::{Entry, Operation, Value};
pub use evidence::{Evidence, EvidenceSet};
pub use gset::GSet;
pub use hash::{Commitment, CutHash, EntryId, EvidenceId, HeaderHash, StateRoot};
pub use lww_map::LWWMap;
pub use lww_register::LWWRegister;
pub use merge::{Canonical, Full, Merge};
pub use or_set::ORSet;
pub use rank::{RankOptions, Ranking};
pub use reconcile::{Reconciled, Slot, SourceResponse, reconcile_crdt};
pub use replica::{Replica, View, Visible};
pub use stamp::{Hlc, Stamp};
pub use store::{Store, WriteBatch};
pub use writer::{ChainEnd, Observed, Writer};
