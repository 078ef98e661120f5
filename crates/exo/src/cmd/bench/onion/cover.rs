//! What cover traffic costs: every node process sends some, relays that of others and answers what ends
//! at it; beside the same processes when nobody sends any.

use std::time::Duration;

use exo_federation::Config;
use exo_onion::{PacketClass, ReplyClass};

use super::super::federation::{Federation, Stage, whole};
use super::super::process::Used;
use super::super::report::{Report, Unit};
use crate::cmd::demo::fleet;
use crate::exit::Failure;

/// Measures the node processes with nothing to do, then with cover traffic.
pub(super) fn measure(
    report: &mut Report,
    stage: &Stage,
    federation: &mut Federation,
    each: Duration,
) -> Result<(), Failure> {
    let without = rest(stage, federation, each);
    for node in &mut federation.others {
        stage.processes.kill(node)?;
        let path = node.data_dir.path();
        let mut config = Config::load(path)?;
        config.onion.cover_per_minute = PER_MINUTE;
        let path = Config::path(path);
        std::fs::write(&path, config.to_toml()?).map_err(|error| Failure::file(&path, &error))?;
        fleet::restart(&stage.processes, node)?;
    }
    whole(&federation.asker, &federation.others)?;
    // What a start sets off has ended.
    std::thread::sleep(SETTLE);
    let with = rest(stage, federation, each);
    report.samples("cover.none.cpu_of_node", Unit::MillisPerSecond, &without);
    report.samples("cover.60_per_minute.cpu_of_node", Unit::MillisPerSecond, &with);
    let bytes = PacketClass::Small.packet_bytes() + ReplyClass::Medium.reply_bytes();
    let rate = f64::from(PER_MINUTE) / 60.0 * (bytes * LINKS) as f64 / 1024.0;
    report.samples("cover.60_per_minute.all_links_of_sender", Unit::KibibytesPerSecond, &[rate]);
    Ok(())
}

/// Processor time of each node process over a while, milliseconds a second.
fn rest(stage: &Stage, federation: &Federation, each: Duration) -> Vec<f64> {
    let used = || -> Vec<Used> {
        let ids = federation.others.iter().map(|node| stage.processes.id(node));
        ids.map(|id| id.map(Used::by).unwrap_or_default()).collect()
    };
    let before = used();
    std::thread::sleep(each);
    let spent = used().iter().zip(&before).filter_map(|(now, before)| now.since(before)).collect();
    let spent: Vec<Duration> = spent;
    spent.iter().map(|spent| spent.as_secs_f64() * 1e3 / each.as_secs_f64()).collect()
}

/// Cover packets that each node sends.
const PER_MINUTE: u32 = 60;
/// Links that a cover packet passes, and its reply.
const LINKS: usize = 3;
/// How long nodes are left alone after their start.
const SETTLE: Duration = Duration::from_secs(2);
