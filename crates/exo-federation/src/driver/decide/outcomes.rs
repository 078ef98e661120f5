//! What became of what is in the log, where it is not simply recorded.
//!
//! The outcome of an entry follows from all before it. Statements are recorded, and nothing is kept of
//! them; of all others the newest are kept in memory, and older ones in a file, in the order of their
//! indices: one is found there at the cost of a search, however long the log is. The file says nothing that
//! does not follow from the log, which a node goes through when it starts; so it is begun anew then.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use exo_consensus::Update;
use exo_node::decide::{Decided, Decision, Kind, Outcome, Void};
use exo_types::limits::{OUTCOMES_KEPT_MAX, OUTCOMES_SPILLED_AT_ONCE};
use exo_types::{PeerId, Wire};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Outcomes {
    kept: BTreeMap<u64, Outcome>,
    /// Below this index outcomes are not in memory any more.
    from: u64,
    /// Removed members and what removed them: at most as many as there may be members.
    removals: BTreeMap<PeerId, u64>,
    /// How many are kept, and how many leave at once.
    room: (usize, usize),
    path: PathBuf,
    old: Option<Arc<Old>>,
    /// Outcomes were forgotten because they could not be written.
    broken: bool,
}

/// Where an outcome is.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    Here(Outcome),
    /// In the file, if it is not simply recorded.
    Old(Arc<Old>),
    /// It could not be written.
    Forgotten,
}

/// Outcomes in a file. Whatever was written is never changed.
#[derive(Debug)]
pub(super) struct Old {
    file: File,
    count: AtomicU64,
}

impl Outcomes {
    /// Outcomes whose older part stands in a file of this directory.
    pub(super) fn beside(dir: &Path) -> Self {
        Self::with_room(dir, (OUTCOMES_KEPT_MAX, OUTCOMES_SPILLED_AT_ONCE))
    }

    fn with_room(dir: &Path, room: (usize, usize)) -> Self {
        Self {
            kept: BTreeMap::new(),
            from: 0,
            removals: BTreeMap::new(),
            room,
            path: dir.join("outcomes"),
            old: None,
            broken: false,
        }
    }

    pub(super) fn note(&mut self, decided: &Decided) {
        if decided.outcome == Outcome::Recorded {
            return;
        }
        if let Some(peer) = removed(decided) {
            self.removals.insert(peer, decided.index);
        }
        self.keep(decided.index, decided.outcome);
    }

    fn keep(&mut self, index: u64, outcome: Outcome) {
        self.kept.insert(index, outcome);
        let (most, at_once) = self.room;
        if self.kept.len() >= most + at_once {
            self.spill(at_once);
        }
    }

    /// Writes the oldest to the file.
    fn spill(&mut self, count: usize) {
        let mut bytes = Vec::with_capacity(count * RECORD_BYTES);
        for _ in 0..count {
            let Some((index, outcome)) = self.kept.pop_first() else { break };
            self.from = index + 1;
            bytes.extend(record(index, outcome));
        }
        if self.broken {
            return;
        }
        if let Err(error) = self.write(&bytes) {
            tracing::error!(%error, "what became of old decisions is not kept any more");
            self.broken = true;
            self.old = None;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let old = match &self.old {
            Some(old) => old,
            None => self.old.insert(Arc::new(Old::begin(&self.path)?)),
        };
        old.append(bytes)
    }

    /// Where the outcome of an entry is that was applied.
    pub(super) fn of(&self, index: u64) -> Kept {
        match (self.kept.get(&index), &self.old) {
            (Some(outcome), _) => Kept::Here(*outcome),
            (None, _) if index >= self.from => Kept::Here(Outcome::Recorded),
            (None, Some(old)) => Kept::Old(Arc::clone(old)),
            (None, None) => Kept::Forgotten,
        }
    }

    /// Removed members and the indices of the decisions that removed them.
    pub(super) fn removals(&self) -> &BTreeMap<PeerId, u64> {
        &self.removals
    }
}

impl Kept {
    /// Reads it, which may take a while.
    pub(super) fn read(&self, index: u64) -> io::Result<Outcome> {
        match self {
            Self::Here(outcome) => Ok(*outcome),
            Self::Old(old) => Ok(old.of(index)?.unwrap_or(Outcome::Recorded)),
            Self::Forgotten => Err(io::Error::other("it could not be kept on the disk")),
        }
    }
}

impl Old {
    fn begin(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(Self { file: options.open(path)?, count: AtomicU64::new(0) })
    }

    /// By one at a time: whoever holds the outcomes.
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let count = self.count.load(Ordering::Acquire);
        self.file.write_all_at(bytes, count * RECORD_BYTES as u64)?;
        let written = (bytes.len() / RECORD_BYTES) as u64;
        self.count.store(count + written, Ordering::Release);
        Ok(())
    }

    fn of(&self, index: u64) -> io::Result<Option<Outcome>> {
        let (mut low, mut high) = (0, self.count.load(Ordering::Acquire));
        while low < high {
            let middle = low + (high - low) / 2;
            let mut bytes = [0; RECORD_BYTES];
            self.file.read_exact_at(&mut bytes, middle * RECORD_BYTES as u64)?;
            let (at, outcome) = parse(&bytes)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is damaged"))?;
            match at.cmp(&index) {
                std::cmp::Ordering::Equal => return Ok(Some(outcome)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }
}

/// The index, what became of it in three bytes, and the beginning of the hash of both.
fn record(index: u64, outcome: Outcome) -> [u8; RECORD_BYTES] {
    let what = match outcome {
        Outcome::Recorded => [0, 0, 0],
        Outcome::Effective => [1, 0, 0],
        Outcome::Wished { have, need } => [2, have, need],
        Outcome::Void(why) => {
            let at = Void::ALL.iter().position(|known| *known == why).unwrap_or(usize::MAX);
            [3, u8::try_from(at).unwrap_or(u8::MAX), 0]
        }
    };
    let mut bytes = [0; RECORD_BYTES];
    bytes[..8].copy_from_slice(&index.to_be_bytes());
    bytes[8..11].copy_from_slice(&what);
    let check = blake3::hash(&bytes[..11]);
    bytes[11..].copy_from_slice(&check.as_bytes()[..RECORD_BYTES - 11]);
    bytes
}

/// Reads a record; `None` when it is damaged.
fn parse(bytes: &[u8; RECORD_BYTES]) -> Option<(u64, Outcome)> {
    let (said, check) = bytes.split_at(11);
    if blake3::hash(said).as_bytes()[..check.len()] != *check {
        return None;
    }
    let index = u64::from_be_bytes(*said.first_chunk()?);
    let outcome = match said[8..] {
        [0, ..] => Outcome::Recorded,
        [1, ..] => Outcome::Effective,
        [2, have, need] => Outcome::Wished { have, need },
        [3, at, _] => Outcome::Void(*Void::ALL.get(usize::from(at))?),
        _ => return None,
    };
    Some((index, outcome))
}

const RECORD_BYTES: usize = 16;

/// Whom a decision has removed.
fn removed(decided: &Decided) -> Option<PeerId> {
    match (&decided.logged.update, decided.kind, decided.outcome) {
        (Update::Data(content), Kind::Revoke, Outcome::Effective) => {
            match Decision::from_wire(content.as_bytes()) {
                Ok(Decision::Revoke { peer, .. }) => Some(peer),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(index: u64) -> Outcome {
        match index % 4 {
            0 => Outcome::Effective,
            1 => Outcome::Wished { have: index as u8, need: 200 },
            _ => Outcome::Void(Void::ALL[index as usize % Void::ALL.len()]),
        }
    }

    #[test]
    fn what_became_of_old_decisions_is_read_from_the_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        // Of a former life, and longer: nothing of it is taken for this one's.
        std::fs::write(dir.path().join("outcomes"), [7; 100_000]).expect("writes");
        let mut outcomes = Outcomes::with_room(dir.path(), (8, 4));
        // Every third entry is a statement.
        let kept = |index: &u64| !index.is_multiple_of(3);
        for index in (0..1_000).filter(kept) {
            outcomes.keep(index, outcome(index));
            assert!(outcomes.kept.len() < 12);
        }
        for index in 0..1_000 {
            let is = if kept(&index) { outcome(index) } else { Outcome::Recorded };
            assert_eq!(outcomes.of(index).read(index).expect("reads"), is, "{index}");
        }
    }

    #[test]
    fn what_is_damaged_or_could_not_be_written_is_an_error_and_no_outcome() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut outcomes = Outcomes::with_room(dir.path(), (4, 4));
        (0..8).for_each(|index| outcomes.keep(index, outcome(index)));
        let file = OpenOptions::new().write(true).open(dir.path().join("outcomes"));
        file.expect("opens").write_all_at(&[9], 2 * RECORD_BYTES as u64 + 9).expect("writes");
        assert!(outcomes.of(2).read(2).is_err());
        let mut nowhere = Outcomes::with_room(&dir.path().join("missing"), (4, 4));
        (0..20).for_each(|index| nowhere.keep(index, outcome(index)));
        assert!(nowhere.of(3).read(3).is_err());
        assert_eq!(nowhere.of(19).read(19).expect("is in memory"), outcome(19));
    }
}
