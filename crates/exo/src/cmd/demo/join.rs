//! How the demo's nodes join: the first founds, the others bring tickets.

use std::time::{Duration, Instant};

use exo_federation::ErrorCode;
use serde_json::json;

use super::fleet::Node;
use super::report::Step;
use super::steps::missing;
use crate::api::dto::Document;
use crate::api::dto::node::{
    InviteRequest, JoinDoc, JoinRequest, JoinState, NewInviteDoc, StatusDoc,
};
use crate::cmd::peers::approve;
use crate::exit::Failure;

/// Joins all nodes: the last by spoken words, the others approved automatically. Then waits until
/// every node has a session with every other.
pub(crate) fn all(nodes: &[Node]) -> Result<Step<()>, Failure> {
    let (founder, joiners) = nodes.split_first().ok_or_else(|| missing("no nodes"))?;
    let (by_words, automatic) = joiners.split_last().ok_or_else(|| missing("no joiners"))?;
    for node in automatic {
        bring_ticket(founder, node, true)?;
    }
    for node in automatic {
        reach(node, JoinState::Member)?;
    }
    bring_ticket(founder, by_words, false)?;
    let words = reach(by_words, JoinState::Pending)?.words.join(" ");
    let approved = approve(&founder.client, words.clone())?;
    reach(by_words, JoinState::Member)?;
    let mut wrong = Vec::new();
    if approved.body.peer != by_words.ready.peer || approved.body.unverified {
        wrong.push(format!("the words approved {}", approved.body.name));
    }
    for node in nodes {
        whole(node, nodes.len())?;
    }
    Ok(Step {
        wrong,
        detail: json!({
            "founder": founder.name,
            "automatic": automatic.iter().map(|node| &node.name).collect::<Vec<_>>(),
            "by_words": by_words.name,
            "words": words,
            "sessions": nodes.len() * (nodes.len() - 1) / 2,
        }),
        headline: format!("{} founds, {} join by ticket", founder.name, joiners.len()),
        lines: vec![
            format!("{} is approved by its spoken words: {words}", by_words.name),
            format!(
                "{} sessions: TLS 1.3 with X25519MLKEM768, both ends proved by ML-DSA-65",
                nodes.len() * (nodes.len() - 1) / 2
            ),
        ],
        value: (),
    })
}

fn bring_ticket(founder: &Node, node: &Node, auto_approve: bool) -> Result<(), Failure> {
    let request = InviteRequest { expires_ms: Some(TICKET_MILLIS), auto_approve };
    let invite: Document<NewInviteDoc> = founder.client.post("/v1/invites", &request)?;
    let request = JoinRequest { ticket: invite.body.ticket };
    let _: Document<JoinDoc> = node.client.post("/v1/join", &request)?;
    Ok(())
}

/// Waits until joining has come to a state.
fn reach(node: &Node, wanted: JoinState) -> Result<JoinDoc, Failure> {
    let began = Instant::now();
    loop {
        let join: Document<JoinDoc> = node.client.get("/v1/join")?;
        if join.body.state == wanted {
            return Ok(join.body);
        }
        if join.body.state == JoinState::Refused {
            let reason = join.body.reason.unwrap_or_default();
            let message = format!("{} was refused: {reason}", node.name);
            return Err(Failure::new(ErrorCode::JoinRefused, message));
        }
        if began.elapsed() > JOIN_WITHIN {
            let message = format!("{} is still {:?}", node.name, join.body.state);
            return Err(Failure::new(ErrorCode::JoinInProgress, message));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until a node has a session with every other.
fn whole(node: &Node, nodes: usize) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let status: Document<StatusDoc> = node.client.get("/v1/status")?;
        let peers = status.body.peers;
        if peers.active + 1 == nodes {
            return Ok(());
        }
        if began.elapsed() > JOIN_WITHIN {
            let message = format!("{} has {} sessions of {}", node.name, peers.active, nodes - 1);
            return Err(Failure::new(ErrorCode::Unreachable, message));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Life of the demo's tickets, milliseconds.
const TICKET_MILLIS: u64 = 10 * 60 * 1000;
/// How long joining may take.
const JOIN_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
