//! PBFT (Castro & Liskov 1999, 2002) as a state machine: the order in which a federation's voting members
//! commit updates, with an append-only log and a quorum's cosignatures on it as the proof.
//!
//! The core is [`Replica`]: [`step`](Replica::step) takes an [`Input`] and gives [`Effect`]s. It has no
//! clock, no socket, no disk and no randomness. Messages come in through [`check()`], which is where
//! signatures are verified; signatures are made outside, when an effect asks for them. The log's tree is
//! the composition's, through [`Ledger`].
//!
//! # Requirements
//!
//! - Channels authenticate both ends. They may lose, delay, reorder and repeat messages.
//! - Fewer than a third of the voters are faulty ([`quorum`]).
//! - A record reported durable survives a crash, and of the journal a prefix does.
//! - Identity keys sign for one federation's replica on one machine.
//!
//! # Provided
//!
//! - One order of updates at all correct replicas, each update of a member at most once, across views,
//!   crashes and changes of membership.
//! - Progress while messages between a quorum of correct replicas arrive in time.
//! - A proof of what is committed that anybody checks with the voters' keys.
//! - Bounded memory, whatever up to a third of the voters send.
//!
//! # Not provided
//!
//! - Secrecy of updates among voters.
//! - Order that the primary cannot influence: it chooses among what waits. It cannot keep a request out
//!   for longer than a view's patience.
//! - A bound on time while the network fails.

mod batch;
mod blob;
mod certificate;
mod check;
mod client;
mod effect;
mod entry;
mod guard;
mod handle;
mod ledger;
mod message;
pub mod quorum;
mod recover;
mod replica;
mod select;
mod serve;
#[cfg(feature = "sim")]
pub mod sim;
mod slot;
mod state;
mod timer;
mod update;
mod voter;

pub use blob::{Blob, Digest, Root};
pub use certificate::{Certificate, SeatSignature};
pub use check::{Checked, Directory, Refused, Verifier, check, identity};
pub use client::REJOIN_TICKET;
pub use effect::{Contradiction, Decline, Effect, Input};
pub use entry::{Appended, BATCH_UPDATES_MAX, Entry, Logged, LoggedBatch, Point, Seal, Turn};
pub use guard::{Base, Guard, JournaledNewView, Leaving, Past, Record, Role};
pub use ledger::Ledger;
pub use message::{
    BatchContent, Claim, Cosignature, FetchBatch, FetchLog, LogPiece, Message, NewView,
    NewViewMessage, PrePrepare, Statement, Status, ViewChange, ViewChangeMessage, Vote,
    statement_digest,
};
pub use quorum::{InsufficientPeers, Quorum};
pub use recover::RecoverError;
pub use replica::{Config, Load, Replica, Start};
pub use serve::{Archive, log_piece};
pub use state::{NotNext, Replicated};
pub use update::{
    Batch, Bundle, BundleHead, CheckedBatch, CheckedBundle, Update, batch_digest, bundle_root,
};
pub use voter::{Change, Seat, Voter, Voters, VotersError};
