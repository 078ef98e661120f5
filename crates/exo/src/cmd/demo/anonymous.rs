//! The demo's questions through relays, and what each process has learned of them by its own account.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use exo_types::PeerId;
use serde_json::{Value, json};

use super::ask;
use super::corpus::{self, Part};
use super::fleet::{self, Node};
use super::report::Step;
use crate::api::dto::query::{QueryRequest, ScopeDoc};
use crate::exit::Failure;

/// Asks `questions`, each of one node, and some vectors: first directly, then through relays. The answers
/// must be the same, and no process may have written who asked.
pub(crate) fn questions(
    nodes: &[Node],
    parts: &[Part],
    questions: &[(&str, usize)],
) -> Result<Step<()>, Failure> {
    let mut wrong = Vec::new();
    let mut direct = Vec::new();
    for (text, asker) in questions {
        direct.push(ask::ask(&nodes[*asker], &ask::words(text))?);
    }
    // From here on nothing is asked but through relays.
    let before = Account::of_all(nodes)?;
    let mut took = Vec::new();
    for ((text, asker), direct) in questions.iter().zip(&direct) {
        let answer = ask::ask(&nodes[*asker], &unknown(ask::words(text)))?;
        wrong.extend(ask::incomplete(&answer, nodes.len()));
        if answer.results != direct.results {
            wrong.push(format!("{text:?} is answered otherwise than directly"));
        }
        took.push(answer.elapsed_ms);
    }
    for round in 0..VECTORS {
        let part = &parts[round % parts.len()];
        let entry = &part.entries[(round * 104_729) % part.entries.len()];
        let asker = &nodes[questions[round % questions.len()].1];
        let answer = ask::ask(asker, &unknown(ask::vector(&entry.vector)))?;
        wrong.extend(ask::incomplete(&answer, nodes.len()));
        wrong.extend(ask::differs(&answer, &corpus::exact(parts.iter(), &entry.vector), parts));
        took.push(answer.elapsed_ms);
    }
    let after = Account::of_all(nodes)?;
    let askers: Vec<&Node> = questions.iter().map(|(_, asker)| &nodes[*asker]).collect();
    let mut learned = Vec::new();
    for ((node, before), after) in nodes.iter().zip(&before).zip(&after) {
        let role = Role::between(node, before, after)?;
        wrong.extend(role.names(node, &askers));
        let others = askers.iter().filter(|asker| asker.ready.peer != node.ready.peer).count();
        if role.of(DELIVERED) < others as u64 {
            wrong.push(format!("{} has answered {} packets", node.name, role.of(DELIVERED)));
        }
        learned.push(role);
    }
    took.sort_by(f64::total_cmp);
    let median = took[took.len() / 2];
    let asked = questions.len() + VECTORS;
    let per_node = nodes.iter().zip(&learned);
    Ok(Step {
        wrong,
        detail: json!({
            "queries": asked, "hops": HOPS, "p50_ms": median,
            "nodes": per_node.map(|(node, role)| role.doc(node)).collect::<Vec<_>>(),
        }),
        headline: format!(
            "{asked} questions through {} relays to every node: the same answers, p50 {median:.1} ms",
            HOPS - 1
        ),
        lines: lines(nodes, &learned),
        value: (),
    })
}

/// What each process knows, in a few lines.
fn lines(nodes: &[Node], learned: &[Role]) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<16} {:>9} {:>10} {:>9} {:>8}",
        "packets", "own sent", "passed on", "answered", "dropped"
    )];
    lines.extend(nodes.iter().zip(learned).map(|(node, role)| {
        format!(
            "{:<16} {:>9} {:>10} {:>9} {:>8}",
            node.name.as_str(),
            role.of(SENT),
            role.of(FORWARDED),
            role.of(DELIVERED),
            role.dropped()
        )
    }));
    // Not the one that answers, and not the relay that it had the question from.
    let others = nodes.len().saturating_sub(2);
    lines.push(
        "A relay learns its two neighbours on the path, and no question. Who answers learns the"
            .into(),
    );
    lines.push(
        "question and the last relay; no log names who asked, by id or address. But it is one"
            .into(),
    );
    lines.push(format!("of {others}: a federation of {} hides nobody among many.", nodes.len()));
    lines
}

/// The same question, through relays.
fn unknown(request: QueryRequest) -> QueryRequest {
    QueryRequest { scope: ScopeDoc::Global, max_hops: Some(HOPS), ..request }
}

/// What a process has counted and how much it has logged.
struct Account {
    packets: BTreeMap<String, u64>,
    logged: u64,
}

impl Account {
    fn of_all(nodes: &[Node]) -> Result<Vec<Self>, Failure> {
        nodes.iter().map(Self::of).collect()
    }

    fn of(node: &Node) -> Result<Self, Failure> {
        let metrics = node.client.text("/metrics")?;
        let log = fleet::log_path(&node.data_dir);
        let logged = std::fs::metadata(&log).map_err(|error| Failure::file(&log, &error))?.len();
        Ok(Self { packets: packets(&metrics), logged })
    }
}

/// Onion packets by what became of them.
fn packets(metrics: &str) -> BTreeMap<String, u64> {
    let count = |line: &str| {
        let (fate, count) = line.strip_prefix(PACKETS)?.split_once("\"} ")?;
        Some((fate.to_owned(), count.trim().parse().ok()?))
    };
    metrics.lines().filter_map(count).collect()
}

/// What a process did and wrote while others asked.
struct Role {
    packets: BTreeMap<String, u64>,
    log: String,
}

impl Role {
    fn between(node: &Node, before: &Account, after: &Account) -> Result<Self, Failure> {
        let path = fleet::log_path(&node.data_dir);
        let read = || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(before.logged))?;
            let mut log = Vec::new();
            file.take(LOG_BYTES_MAX).read_to_end(&mut log)?;
            Ok(String::from_utf8_lossy(&log).into_owned())
        };
        let log = read().map_err(|error| Failure::file(&path, &error))?;
        let earlier = |fate: &str| before.packets.get(fate).copied().unwrap_or(0);
        let grown = after.packets.iter();
        let packets =
            grown.map(|(fate, n)| (fate.clone(), n.saturating_sub(earlier(fate)))).collect();
        Ok(Self { packets, log })
    }

    fn of(&self, fate: &str) -> u64 {
        self.packets.get(fate).copied().unwrap_or(0)
    }

    /// Packets that came to nothing here.
    fn dropped(&self) -> u64 {
        let fates = [SENT, FORWARDED, RETURNED, DELIVERED];
        self.packets
            .iter()
            .filter(|(fate, _)| !fates.contains(&fate.as_str()))
            .map(|(_, n)| n)
            .sum()
    }

    /// Every way in which the node's log names one of those who asked.
    fn names(&self, node: &Node, askers: &[&Node]) -> Vec<String> {
        let others = askers.iter().filter(|asker| asker.ready.peer != node.ready.peer);
        let named = others.filter(|asker| names(&self.log, &asker.ready.peer, asker.ready.mesh));
        named.map(|asker| format!("the log of {} names {}", node.name, asker.name)).collect()
    }

    fn doc(&self, node: &Node) -> Value {
        json!({
            "node": node.name, SENT: self.of(SENT), FORWARDED: self.of(FORWARDED),
            RETURNED: self.of(RETURNED), DELIVERED: self.of(DELIVERED), "dropped": self.dropped(),
            "log_lines": self.log.lines().count(),
        })
    }
}

fn names(log: &str, peer: &PeerId, mesh: std::net::SocketAddr) -> bool {
    log.contains(&peer.short()) || log.contains(&mesh.to_string())
}

/// Members on a path, the one that answers included.
const HOPS: u8 = 3;
/// Questions by vector, beside those by words.
const VECTORS: usize = 6;
/// A log that grew by more is not read to its end.
const LOG_BYTES_MAX: u64 = 1024 * 1024;
/// The counter of packets up to its label's value.
const PACKETS: &str = "exo_onion_packets_total{fate=\"";
/// Packets of the node's own that it sent.
const SENT: &str = "sent";
/// Packets of others that it sent on.
const FORWARDED: &str = "forwarded";
/// Replies that it sent back for others.
const RETURNED: &str = "returned";
/// Packets that were for it.
const DELIVERED: &str = "delivered";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_from_the_metrics_by_their_fate() {
        let metrics = "# TYPE exo_onion_packets_total counter\n\
                       exo_onion_packets_total{fate=\"forwarded\"} 12\n\
                       exo_onion_packets_total{fate=\"given-up\"} 1\nexo_queries_total 3\n";
        let counted = packets(metrics);
        assert_eq!(counted, BTreeMap::from([("forwarded".into(), 12), ("given-up".into(), 1)]));
        let role = Role { packets: counted, log: String::new() };
        assert_eq!((role.of(FORWARDED), role.of(SENT), role.dropped()), (12, 0, 1));
    }

    #[test]
    fn a_log_names_somebody_by_the_beginning_of_the_id_or_by_the_address() {
        let peer = PeerId::new([7; 32]);
        let mesh = "127.0.0.1:7700".parse().expect("an address");
        for log in
            [format!("peer={} is active", peer.short()), format!("{peer}"), format!("at {mesh}")]
        {
            assert!(names(&log, &peer, mesh), "{log}");
        }
        assert!(!names("a search failed at 127.0.0.1:7701", &peer, mesh));
    }
}
