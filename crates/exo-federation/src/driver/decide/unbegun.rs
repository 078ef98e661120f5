//! The mark of a node that has never said anything as a voter.
//!
//! A replica without a journal must not vote: it may have voted before it lost it. One that has provably
//! not begun may, and needs to: where the power fails at every founder between the constitution and the
//! first record, nobody would be left to vote. A mark that is *there* proves it, so that whatever else
//! is lost with it makes the node rejoin, never vote twice.
//!
//! The order, with what a crash after each step leaves:
//!
//! 1. The mark is made durable before the node runs, as long as its state holds no constitution.
//!    Nothing was said: it begins when it learns of one.
//! 2. A node that is told that it was a member before ends its mark, before the next step: it rejoins.
//! 3. The state with the constitution is durable. Mark and no journal: it begins ([`Start::Founding`]).
//! 4. The journal is made, empty; then its first records are durable. What the replica says waits for
//!    the report of them. With the records it goes on from them; without, as after step 3.
//! 5. The mark is ended, durably, and only then the records are reported. From here on a journal that is
//!    not there is lost: the node rejoins ([`Start::Wiped`]).
//!
//! [`Start::Founding`]: exo_consensus::Start::Founding
//! [`Start::Wiped`]: exo_consensus::Start::Wiped

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::driver::store::sync_parent;
use crate::error::{ErrorCode, FederationError};

/// See the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct Unbegun(PathBuf);

impl Unbegun {
    /// The mark at this path, which lies outside of what is lost with a journal.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Whether the mark is there.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub(crate) fn is_there(&self) -> Result<bool, FederationError> {
        self.0.try_exists().map_err(|error| self.failed(&error))
    }

    /// Makes the mark, durably.
    ///
    /// # Errors
    /// The disk cannot be written.
    pub(crate) fn make(&self) -> Result<(), FederationError> {
        let made = || {
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.0)?;
            file.sync_all()?;
            sync_parent(&self.0)
        };
        made().map_err(|error| self.failed(&error))
    }

    /// Ends the mark, durably; nothing where it is not there.
    ///
    /// # Errors
    /// The disk cannot be written.
    pub(crate) fn end(&self) -> Result<(), FederationError> {
        let ended = || match fs::remove_file(&self.0) {
            Ok(()) => sync_parent(&self.0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        ended().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> FederationError {
        FederationError::new(ErrorCode::Io, format!("{}: {error}", self.0.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use exo_consensus::{Effect, Record, Role};
    use exo_crypto::{CosignerKeypair, PostQuantumKeypair};
    use exo_node::decide::Output;
    use exo_node::roster::{Member, RosterBody};
    use exo_types::{Epoch, FederationId, NodeName};
    use tempfile::TempDir;

    use super::*;
    use crate::driver::clock::Clock;
    use crate::driver::decide::{Life, Place, Ready};
    use crate::driver::journal::Journal;

    /// A founding voter's directory, after step 3: mark and state, and nothing of the journal.
    fn founder() -> (TempDir, Place) {
        let root = tempfile::tempdir().expect("a directory");
        let members: Vec<Member> = (1..=4)
            .map(|seed| Member {
                key: PostQuantumKeypair::from_seed(&[seed; 32]).expect("a key").public().clone(),
                cosigner: CosignerKeypair::from_seed(&[seed; 32]).expect("a key").public().clone(),
                name: NodeName::new(format!("n{seed}")).expect("a name"),
                unverified: false,
                since: Epoch(4),
                revoked: None,
            })
            .collect();
        let mut voters: Vec<_> = members.iter().map(|member| member.key.peer_id()).collect();
        voters.sort_unstable();
        let federation = FederationId::new([7; 32]);
        let me = voters[0];
        let constitution = Arc::new(RosterBody { federation, epoch: Epoch(4), members, voters });
        let unbegun = Unbegun::at(root.path().join("unbegun"));
        unbegun.make().expect("makes the mark");
        let dir = root.path().join("decisions");
        (root, Place { dir, federation, me, constitution, unbegun })
    }

    fn start(place: &Place) -> Ready {
        Ready::prepare(place, Life::Later, Clock::start()).expect("is ready")
    }

    fn role(ready: &Ready) -> Role {
        ready.decisions.replica().role()
    }

    /// Step 4: what the replica wants written first becomes durable.
    fn write(ready: &mut Ready) -> usize {
        let records: Vec<(u64, Record)> = ready
            .outputs
            .iter()
            .filter_map(|output| match output {
                Output::Do(Effect::Persist { number, record }) => Some((*number, record.clone())),
                _ => None,
            })
            .collect();
        ready.opened.journal.append(&records).expect("writes");
        ready.opened.journal.sync().expect("syncs");
        records.len()
    }

    #[test]
    fn a_founder_that_crashes_at_any_step_before_it_could_speak_begins_as_a_voter() {
        let (_root, place) = founder();
        // After the state; and after the empty journal was made, as often as it may be.
        for _ in 0..3 {
            assert_eq!(role(&start(&place)), Role::Voter);
        }
        // A journal whose making was cut short, or that was lost: nothing was said yet.
        std::fs::remove_dir_all(&place.dir).expect("removes");
        assert_eq!(role(&start(&place)), Role::Voter);
        let mut ready = start(&place);
        assert!(write(&mut ready) > 0, "it writes before it speaks");
        drop(ready);
        assert!(place.unbegun.is_there().expect("reads"));
        // After the first records, before the mark is ended: it goes on from them.
        let ready = start(&place);
        assert_eq!(role(&ready), Role::Voter);
        assert!(!place.unbegun.is_there().expect("reads"), "before what they allow is said");
        drop(ready);
        assert_eq!(role(&start(&place)), Role::Voter);
    }

    #[test]
    fn a_journal_that_is_lost_after_the_mark_is_ended_makes_a_voter_rejoin() {
        let (_root, place) = founder();
        assert!(write(&mut start(&place)) > 0);
        place.unbegun.end().expect("ends");
        for part in ["decisions/journal", "decisions"] {
            let lost = place.dir.parent().expect("has one").join(part);
            std::fs::remove_dir_all(lost).expect("removes");
            assert!(matches!(role(&start(&place)), Role::Wiped { .. }), "{part}");
        }
        assert!(Journal::open(&place.dir).expect("opens").records.is_empty());
    }

    #[test]
    fn a_state_from_before_there_were_marks_and_a_journal_that_is_damaged_prove_nothing() {
        let (_root, place) = founder();
        place.unbegun.end().expect("ends");
        assert!(matches!(role(&start(&place)), Role::Wiped { .. }));
        place.unbegun.end().expect("ending it twice is nothing");
    }
}
