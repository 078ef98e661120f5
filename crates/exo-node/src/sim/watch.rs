//! What is kept of a run: counts, a digest of its events, and lines where they are wanted.

use std::time::Duration;

use super::net::HostId;

/// What happened in a run, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events.
    pub events: u64,
    /// Crashes of nodes.
    pub crashes: u64,
    /// Connections cut by a fault.
    pub cuts: u64,
    /// Paths cut for a time.
    pub partitions: u64,
    /// Nodes admitted by their founder.
    pub admissions: u64,
    /// Members removed.
    pub removals: u64,
    /// Queries that ended.
    pub queries: u64,
    /// Sources that answered them.
    pub answers: u64,
    /// Sources that did not.
    pub other_reports: u64,
    /// Messages that a liar changed or made up.
    pub lies: u64,
    /// Messages that a liar kept to itself.
    pub swallowed: u64,
    /// Requests that did not decode.
    pub malformed: u64,
    /// From the end of the storm to convergence, milliseconds.
    pub converged_millis: u64,
}

impl Stats {
    /// Adds another run's counts; the longest convergence counts.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.crashes += other.crashes;
        self.cuts += other.cuts;
        self.partitions += other.partitions;
        self.admissions += other.admissions;
        self.removals += other.removals;
        self.queries += other.queries;
        self.answers += other.answers;
        self.other_reports += other.other_reports;
        self.lies += other.lies;
        self.swallowed += other.swallowed;
        self.malformed += other.malformed;
        self.converged_millis = self.converged_millis.max(other.converged_millis);
    }
}

/// The events of a run: their digest, and their lines where these are kept.
#[derive(Debug)]
pub(crate) struct Trace {
    keep: bool,
    lines: Vec<String>,
    digest: u64,
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        Self { keep, lines: Vec::new(), digest: 0xcbf2_9ce4_8422_2325 }
    }

    /// Mixes numbers into the digest (FNV-1a over words).
    pub(crate) fn digest(&mut self, words: &[u64]) {
        for word in words {
            self.digest = (self.digest ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn line(
        &mut self,
        now: Duration,
        host: HostId,
        what: &'static str,
        more: impl FnOnce() -> String,
    ) {
        let words = [now.as_micros() as u64, host as u64, what.len() as u64];
        self.digest(&words);
        if self.keep {
            let seconds = now.as_secs_f64();
            self.lines.push(format!("{seconds:10.4} n{host} {what} {}", more()));
        }
    }

    pub(crate) fn value(&self) -> u64 {
        self.digest
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines
    }
}
