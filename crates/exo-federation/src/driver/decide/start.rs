//! From the disk to a replica that is ready to run: its journal and its log, or their absence.
//!
//! A replica that does not know what it has said must not vote: a journal that is lost or damaged makes
//! it one that rejoins ([`Start::Wiped`]). So whether it was ever there has to be known. It begins when the
//! node learns of the constitution, once; where a node starts with a constitution in its state and has no
//! journal, it is taken for lost, unless a mark proves that it never began (see [`Unbegun`]); and so is
//! that of a member that joins again by a ticket.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use exo_consensus::{Input, LoggedBatch, Start};
use exo_node::decide::{Charter, Decided, Decisions, Output, RecoverError};
use exo_node::roster::RosterBody;
use exo_types::limits::TRANSFER_BATCHES_MAX;
use exo_types::{FederationId, PeerId};
use rand::TryRng;

use super::outcomes::Outcomes;
use super::unbegun::Unbegun;
use crate::driver::clock::Clock;
use crate::driver::journal::{Archive, Journal, JournalError, Opened, Part};
use crate::error::{ErrorCode, FederationError};

/// Where a replica lives and what it decides for.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Its directory.
    pub(crate) dir: PathBuf,
    /// The federation.
    pub(crate) federation: FederationId,
    /// The member.
    pub(crate) me: PeerId,
    /// The federation's constitution.
    pub(crate) constitution: Arc<RosterBody>,
    /// The mark of a node that has not begun.
    pub(crate) unbegun: Unbegun,
}

/// Whether a replica begins or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// The node learns of the constitution only now.
    First,
    /// It had the constitution in a former run.
    Later,
}

/// A replica that is ready to run.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(super) federation: FederationId,
    pub(super) me: PeerId,
    pub(super) decisions: Decisions,
    pub(super) outputs: Vec<Output>,
    pub(super) opened: Opened,
    pub(super) outcomes: Outcomes,
    pub(super) constitution: Arc<RosterBody>,
    pub(super) unbegun: Unbegun,
    /// What a log makes of the membership whose journal is lost: the replica carries it out anew, and
    /// who was removed meanwhile stays out.
    known: Option<Charter>,
}

impl Ready {
    /// Reads what is on the disk, and puts aside what is damaged.
    ///
    /// # Errors
    /// The disk cannot be read or written, or the constitution gives no replica.
    pub(crate) fn prepare(
        place: &Place,
        life: Life,
        clock: Clock,
    ) -> Result<Self, FederationError> {
        let (mut opened, damaged) = open(place)?;
        if let Some(repaired) = &opened.repaired {
            tracing::info!(%repaired, "the journal of decisions was repaired after a crash");
        }
        let mut start = first_start(place);
        if !opened.records.is_empty() {
            match Self::recover(place, opened, clock)? {
                Ok(ready) => {
                    // What is in the journal may be said at once.
                    place.unbegun.end()?;
                    return Ok(ready);
                }
                Err(Lost { part, cause }) => {
                    tracing::error!(%cause, "the journal of decisions is lost: this node rejoins");
                    Journal::set_aside(&place.dir, part).map_err(|error| refused(&error))?;
                    (opened, _) = open(place)?;
                    start = wiped();
                }
            }
        } else if damaged
            || opened.archive.size() > 0
            || (life == Life::Later && !place.unbegun.is_there()?)
        {
            tracing::warn!("the journal of decisions is not there: this node rejoins");
            start = wiped();
        }
        let decisions = Decisions::begin(place.federation, place.me, &place.constitution, start);
        let mut decisions = decisions
            .map_err(|error| FederationError::new(ErrorCode::DataCorrupt, error.to_string()))?;
        let outputs = decisions.step(clock.now().mono, Input::Tick);
        let known = walked(place, &opened.archive)?;
        let outcomes = Outcomes::beside(&place.dir);
        Ok(Self { known, ..Self::of(place, decisions, outputs, opened, outcomes) })
    }

    /// The roster that the log gives.
    pub(crate) fn roster(&self) -> exo_node::roster::Roster {
        self.known.as_ref().unwrap_or(self.decisions.charter()).roster()
    }

    /// Who may do what with shared collections.
    pub(crate) fn rights(&self) -> exo_node::share::Rights {
        self.decisions.rights()
    }

    /// # Errors
    /// The log cannot be read now, which says nothing of what is in it: nothing is put aside.
    fn recover(
        place: &Place,
        mut opened: Opened,
        clock: Clock,
    ) -> Result<Result<Self, Lost>, FederationError> {
        let mut outcomes = Outcomes::beside(&place.dir);
        let mut failed = None;
        let records = std::mem::take(&mut opened.records);
        let log = Walk::new(&opened.archive, &mut failed);
        let told = |decided: Decided| outcomes.note(&decided);
        let recovered = Decisions::recover(
            place.federation,
            place.me,
            clock.now().mono,
            &place.constitution,
            records,
            log,
            told,
        );
        let lost = |part, cause: String| Lost { part, cause };
        if let Some(error) = failed {
            return damage(&error).map(|cause| Err(lost(Part::Log, cause)));
        }
        let recovered = recovered.map_err(|error| match error {
            RecoverError::LogShort { .. } | RecoverError::LogDiffers => {
                lost(Part::Log, error.to_string())
            }
            RecoverError::Begin(_) | RecoverError::Journal(_) => {
                lost(Part::Journal, error.to_string())
            }
        });
        let ready = |(decisions, outputs)| Self::of(place, decisions, outputs, opened, outcomes);
        Ok(recovered.map(ready))
    }

    fn of(
        place: &Place,
        decisions: Decisions,
        outputs: Vec<Output>,
        opened: Opened,
        outcomes: Outcomes,
    ) -> Self {
        let (federation, me) = (place.federation, place.me);
        let constitution = Arc::clone(&place.constitution);
        let (unbegun, known) = (place.unbegun.clone(), None);
        Self { federation, me, decisions, outputs, opened, outcomes, constitution, unbegun, known }
    }
}

/// Why a journal does not give a replica back.
struct Lost {
    part: Part,
    cause: String,
}

/// The batches of a log from the first on.
pub(super) struct Walk<'a> {
    archive: &'a Archive,
    batches: std::vec::IntoIter<(u64, LoggedBatch)>,
    next: u64,
    failed: &'a mut Option<io::Error>,
}

impl<'a> Walk<'a> {
    /// Begins; where the log cannot be read the walk ends and `failed` says why.
    pub(super) fn new(archive: &'a Archive, failed: &'a mut Option<io::Error>) -> Self {
        Self { archive, batches: Vec::new().into_iter(), next: 0, failed }
    }
}

impl Iterator for Walk<'_> {
    type Item = (u64, LoggedBatch);

    fn next(&mut self) -> Option<Self::Item> {
        if self.batches.len() == 0 {
            match self.archive.batches(self.next, TRANSFER_BATCHES_MAX) {
                Ok(batches) => self.batches = batches.into_iter(),
                Err(error) => {
                    *self.failed = Some(error);
                    return None;
                }
            }
        }
        let (first, batch) = self.batches.next()?;
        self.next = first.saturating_add(batch.size());
        Some((first, batch))
    }
}

/// Opens journal and log; one that is damaged is put aside, and this says so.
fn open(place: &Place) -> Result<(Opened, bool), FederationError> {
    match Journal::open(&place.dir) {
        Ok(opened) => Ok((opened, false)),
        Err(error @ JournalError::Damaged { part, .. }) => {
            tracing::error!(%error, "the journal or log of decisions is damaged: it is put aside");
            Journal::set_aside(&place.dir, part).map_err(|error| refused(&error))?;
            Journal::open(&place.dir).map(|opened| (opened, true)).map_err(|error| refused(&error))
        }
        Err(error) => Err(refused(&error)),
    }
}

/// The charter of a log that is there though its journal is not.
fn walked(place: &Place, archive: &Archive) -> Result<Option<Charter>, FederationError> {
    if archive.size() == 0 {
        return Ok(None);
    }
    let corrupt = |error: String| FederationError::new(ErrorCode::DataCorrupt, error);
    let mut charter = Charter::new(&place.constitution).map_err(|e| corrupt(e.to_string()))?;
    let mut failed = None;
    for (first, batch) in Walk::new(archive, &mut failed) {
        charter.carry_out(first, &batch);
    }
    // What is damaged counts as far as it can be read: the rest is fetched again.
    if let Some(cause) = failed.as_ref().map(damage).transpose()? {
        tracing::error!(%cause, "the log of decisions cannot be read to its end");
    }
    Ok(Some(charter))
}

/// What is damaged of the log, by the error with which it was read; any other error may be over the next
/// time, and must not make this node throw away what it has said and what is decided.
fn damage(error: &io::Error) -> Result<String, FederationError> {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Ok(error.to_string()),
        _ => Err(FederationError::new(
            ErrorCode::Io,
            format!("the log of decisions cannot be read: {error}"),
        )),
    }
}

fn first_start(place: &Place) -> Start {
    match place.constitution.voters.contains(&place.me) {
        true => Start::Founding,
        false => Start::Joining,
    }
}

fn wiped() -> Start {
    let mut nonce = [0; 8];
    // As for every other random number of a node: before the system's generator is seeded nothing goes
    // on.
    if rand::rngs::SysRng.try_fill_bytes(&mut nonce).is_err() {
        std::process::abort();
    }
    Start::Wiped { nonce: u64::from_le_bytes(nonce) }
}

fn refused(error: &JournalError) -> FederationError {
    let code = match error {
        JournalError::Damaged { .. } | JournalError::OtherLog { .. } => ErrorCode::DataCorrupt,
        _ => ErrorCode::Io,
    };
    FederationError::new(code, format!("the log of decisions: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_as_it_was_written_counts_as_damage() {
        let of = |kind| damage(&io::Error::new(kind, "so it is"));
        assert!(of(io::ErrorKind::InvalidData).is_ok());
        for kind in [io::ErrorKind::Other, io::ErrorKind::TimedOut, io::ErrorKind::NotFound] {
            assert_eq!(of(kind).expect_err("may be over").code, ErrorCode::Io);
        }
    }
}
