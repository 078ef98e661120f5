//! How two replicas find what differs between them and exchange it, as a pure state machine.
//!
//! 1. The asker sends the root of what it holds, 32 bytes. Equal: done.
//! 2. The answerer sends where each author's chain ends, and a sketch of everything that is not in a
//!    chain. What is merely newer on one side is known from that.
//! 3. For the rest (holes, what lives under a cut, histories of double signers, proofs) the asker sends
//!    layers of a table ([`layers`]), which the answerer decodes ([`set`]), or they compare by ranges
//!    ([`ranges`]).
//! 4. Each sends what the other lacks, and asks for what it lacks by four bytes an item.
//!
//! Everything that arrives is verified by its receiver; this machine only finds out what to send. A
//! session that breaks off leaves what arrived applied, and the next one goes on from there.

pub mod layers;
pub mod message;
pub mod ranges;
pub mod session;
pub mod set;
pub mod short;

use exo_types::codec::CodecError;

pub use message::{ChainTip, Item, ShownGroup, SyncMessage};
pub use session::{Session, Step, SyncEnd};
pub use set::{Opening, SetMessage, SetStep, SetSync};
pub use short::{LinkSecret, Nonce, SyncKey};

/// Why a synchronisation was cut off. All but [`TooManyItems`](Self::TooManyItems) are the other end's
/// doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// There is more here than one reconciliation compares.
    #[error("{0} items are more than one reconciliation compares")]
    TooManyItems(usize),
    /// The message is not valid.
    #[error("the other end's message is not valid: {0}")]
    Malformed(CodecError),
    /// The message does not belong here.
    #[error("the other end sent what does not belong at this point")]
    Unexpected,
    /// The other end sends without end.
    #[error("the other end sent more messages than one reconciliation has")]
    TooManyMessages,
    /// The other end said it was done and had not sent what it said it had.
    #[error("the other end kept back {0} items that it said it had")]
    Withheld(usize),
}
