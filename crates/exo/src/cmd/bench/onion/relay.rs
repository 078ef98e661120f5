//! A node process that relays as much as it can: cover packets through it to another node process, and
//! their replies back. They cost a relay what questions cost it; the member that they end at spends
//! nothing on a search.

use std::sync::Arc;
use std::time::Instant;

use exo_onion::ReplyClass;
use tokio::task::JoinSet;

use super::super::broken;
use super::super::federation::{Federation, Stage};
use super::super::process::Used;
use super::super::report::{Report, Unit};
use super::probe::{Packet, Probe, Way};
use crate::exit::Failure;

/// What is needed to measure.
pub(super) struct Bench<'a> {
    pub(super) report: &'a mut Report,
    pub(super) stage: &'a Stage,
    pub(super) probe: &'a Arc<Probe>,
}

/// Samples, one a run.
#[derive(Default)]
struct Taken {
    /// Processor time of the relay's process for one packet and its reply, microseconds.
    each: Vec<f64>,
    /// Packets a second, by the clock.
    rate: Vec<f64>,
    /// Processors that the relay's process kept busy.
    cores: Vec<f64>,
}

impl Bench<'_> {
    /// Measures packets of 8 KiB with replies of each length that answers have.
    pub(super) fn measure(
        &mut self,
        federation: &Federation,
        packets: usize,
    ) -> Result<(), Failure> {
        let relay = federation.others.first();
        let process = relay.and_then(|relay| self.stage.processes.id(relay));
        for (reply, name) in [(ReplyClass::Medium, "16_kib"), (ReplyClass::Large, "64_kib")] {
            let mut taken = Taken::default();
            for run in 0..=RUNS {
                let run_of = packets / RUNS;
                let packets = self.build(reply, if run == 0 { run_of / 4 } else { run_of })?;
                self.run(&mut taken, process, packets)?;
                if run == 0 {
                    // The congestion window and the buffers had to grow to what they need.
                    taken = Taken::default();
                }
            }
            let per_core: Vec<f64> = taken.each.iter().map(|micros| 1e6 / micros).collect();
            let report = &mut *self.report;
            report.samples(format!("relay.reply_{name}.cpu"), Unit::Micros, &taken.each);
            let name = |what: &str| format!("relay.reply_{name}.{what}");
            report.samples(name("per_core"), Unit::PacketsPerSecond, &per_core);
            report.samples(name("saturated"), Unit::PacketsPerSecond, &taken.rate);
            report.samples(name("saturated_cores"), Unit::Cores, &taken.cores);
        }
        Ok(())
    }

    /// Builds packets before the clock runs.
    fn build(&self, reply: ReplyClass, count: usize) -> Result<Vec<Packet>, Failure> {
        let path = self.probe.path(2, 0);
        (0..count.max(AT_ONCE)).map(|_| self.probe.packet(&path, None, reply)).collect()
    }

    /// Sends packets, [`AT_ONCE`] under way at any time, until every reply is back.
    fn run(
        &self,
        taken: &mut Taken,
        process: Option<u32>,
        packets: Vec<Packet>,
    ) -> Result<(), Failure> {
        let count = packets.len();
        let mut shares: Vec<Vec<Packet>> = (0..AT_ONCE).map(|_| Vec::new()).collect();
        for (at, packet) in packets.into_iter().enumerate() {
            shares[at % AT_ONCE].push(packet);
        }
        let used = || process.map(Used::by).unwrap_or_default();
        let (before, began) = (used(), Instant::now());
        self.stage.runtime.block_on(async {
            let mut senders = JoinSet::new();
            for share in shares {
                let probe = self.probe.clone();
                senders.spawn(async move {
                    match probe.path(2, 0).first() {
                        Some(way) => send(way, share).await,
                        None => Err(broken("a path", "nobody is on it")),
                    }
                });
            }
            while let Some(done) = senders.join_next().await {
                done.map_err(|error| broken("a task that sends", error))??;
            }
            Ok::<(), Failure>(())
        })?;
        let took = began.elapsed();
        taken.rate.push(count as f64 / took.as_secs_f64());
        if let Some(cpu) = used().since(&before) {
            taken.each.push(cpu.as_secs_f64() * 1e6 / count as f64);
            taken.cores.push(cpu.as_secs_f64() / took.as_secs_f64());
        }
        Ok(())
    }
}

/// Sends packets one after the other. A relay's failure looks like any reply, so the first of each
/// share is opened; opening all would take the processors away from the relay.
async fn send(way: &Way, packets: Vec<Packet>) -> Result<(), Failure> {
    for (at, packet) in packets.into_iter().enumerate() {
        match at {
            0 => way.send(packet).await.map(drop)?,
            _ => way.send_unread(packet).await?,
        }
    }
    Ok(())
}

/// Runs that are measured; the figures are of these.
pub(super) const RUNS: usize = 5;
/// Packets under way at once, well below what a node owes one neighbour.
pub(super) const AT_ONCE: usize = 64;
