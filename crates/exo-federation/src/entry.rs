//! What an entry of the log says, read from its bytes alone.

use exo_consensus::{Entry, Update};
use exo_node::decide::{Decision, Kind, summary};
use exo_types::{PeerId, Wire};

/// An entry of the log as its bytes tell it. Whether it is committed is for a proof to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEntry {
    /// Who proposed it.
    pub member: PeerId,
    /// What it is about, in one word that never changes.
    pub kind: &'static str,
    /// What it says, in one line for people.
    pub summary: String,
    /// The content of a statement.
    pub statement: Option<Vec<u8>>,
}

impl LoggedEntry {
    /// Reads an entry; `None` for the seal at the end of a batch, and for what is no entry.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let Ok(Entry::Update(logged)) = Entry::from_wire(bytes) else { return None };
        let statement = match &logged.update {
            Update::Data(content) => match Decision::from_wire(content.as_bytes()) {
                Ok(Decision::Statement(bytes)) => Some(bytes.as_bytes().to_vec()),
                _ => None,
            },
            _ => None,
        };
        Some(Self {
            member: logged.member,
            kind: Kind::of(&logged.update).name(),
            summary: summary(&logged.update),
            statement,
        })
    }
}
