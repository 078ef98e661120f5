//! Two replicas find out what differs, in this process: every message is encoded and decoded, and both
//! ends' work counts.

use exo_crdt::StateRoot;
use exo_crdt::sync::{LinkSecret, SetMessage, SetSync, SyncMessage, set::prefix};
use exo_types::{CodecError, Wire};

use super::super::broken;
use super::super::cpu::spent;
use super::super::report::{Report, Unit};
use crate::exit::Failure;

/// What one run took.
#[derive(Clone, Copy, Default)]
struct Cost {
    bytes: usize,
    flights: usize,
    found: usize,
}

/// Measures some runs, each with other keys.
pub(super) fn measure(
    report: &mut Report,
    keys: usize,
    differences: usize,
    rounds: usize,
) -> Result<(), Failure> {
    let (mut bytes, mut ratio, mut trips, mut cpu) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let ids = ids(keys, differences, round as u64);
        let (cost, time) = spent(|| reconcile(ids, round as u8));
        let cost = cost?;
        if cost.found != differences {
            let what = format!("{} of {differences} differences are found", cost.found);
            return Err(broken("synchronisation", what));
        }
        bytes.push(cost.bytes as f64);
        ratio.push(cost.bytes as f64 / (ID_BYTES * differences) as f64);
        trips.push(cost.flights.div_ceil(2) as f64);
        cpu.push(time.as_secs_f64() * 1e3);
    }
    let name = |what: &str| format!("differ.{differences}.{what}");
    report.samples(name("bytes"), Unit::Bytes, &bytes);
    report.samples(name("bytes_over_ids"), Unit::Ratio, &ratio);
    report.samples(name("round_trips"), Unit::Count, &trips);
    report.samples(name("cpu"), Unit::Millis, &cpu);
    Ok(())
}

/// The ids of two replicas: each has half of the differences.
fn ids(keys: usize, differences: usize, seed: u64) -> [Vec<[u8; ID_BYTES]>; 2] {
    let mut numbers = Numbers(seed);
    let both = keys - differences / 2;
    let mut sides = [Vec::with_capacity(keys), Vec::with_capacity(keys)];
    for _ in 0..both {
        let id = numbers.id();
        sides.iter_mut().for_each(|side| side.push(id));
    }
    for at in 0..differences {
        sides[at % 2].push(numbers.id());
    }
    sides
}

/// One end asks, the other answers, until each knows what to send.
fn reconcile([ours, theirs]: [Vec<[u8; ID_BYTES]>; 2], seed: u8) -> Result<Cost, Failure> {
    let failed = |error: exo_crdt::sync::SyncError| broken("synchronisation", error);
    let mut cost = Cost::default();
    let link = LinkSecret([seed; 32]);
    let mut ends = [
        SetSync::new(ours, link, [1; 16]).map_err(failed)?,
        SetSync::new(theirs, link, [1; 16]).map_err(failed)?,
    ];
    cost.carry(&SyncMessage::Hello { root: StateRoot([0; 32]), epoch: 1, nonce: [1; 16] })?;
    let rest = ends[1].answer([2; 16]);
    let SyncMessage::Differs { rest, .. } =
        cost.carry(&SyncMessage::Differs { tips: Vec::new(), rest })?
    else {
        return Err(broken("synchronisation", "another message"));
    };
    let mut message = ends[0].open(&rest).map_err(failed)?;
    let mut wanted = Vec::new();
    for turn in 1_u8..=TURNS_MAX {
        let SyncMessage::Set(arrived) = cost.carry(&SyncMessage::Set(message))? else {
            return Err(broken("synchronisation", "another message"));
        };
        let step = ends[usize::from(turn % 2)].handle(&arrived, [turn; 16]).map_err(failed)?;
        cost.found += step.mine.len() + step.theirs.len();
        wanted.extend(step.theirs.into_iter().map(prefix));
        match step.send {
            Some(SetMessage::Ranges(ranges)) if ranges.is_empty() => break,
            Some(next) => message = next,
            None => break,
        }
    }
    cost.carry(&SyncMessage::Want { shorts: wanted, authors: Vec::new() })?;
    Ok(cost)
}

impl Cost {
    /// A message goes over: its bytes count, and it arrives as it is decoded.
    fn carry(&mut self, message: &SyncMessage) -> Result<SyncMessage, Failure> {
        let failed = |error: CodecError| broken("a message", error);
        let wire = message.to_wire().map_err(failed)?;
        self.bytes += wire.len();
        self.flights += 1;
        SyncMessage::from_wire(&wire).map_err(failed)
    }
}

/// splitmix64: numbers that are the same on every run.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    /// The next one.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    fn id(&mut self) -> [u8; ID_BYTES] {
        let mut id = [0; ID_BYTES];
        id.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&self.next().to_le_bytes()));
        id
    }
}

/// Length of an entry's id.
const ID_BYTES: usize = 32;
/// Messages about ranges at most.
const TURNS_MAX: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_differences_are_found_with_little_more_than_their_ids() {
        let mut report = Report::new("sync");
        measure(&mut report, 10_000, 100, 2).expect("all are found");
        let figure = |name: &str| report.figure(name).map(|figure| figure.p50).expect("measured");
        assert!((0.3..4.0).contains(&figure("differ.100.bytes_over_ids")));
        assert!((2.0..8.0).contains(&figure("differ.100.round_trips")));
    }
}
