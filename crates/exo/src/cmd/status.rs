//! `exo status`: the node's state.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::Context;
use crate::api::dto::Document;
use crate::api::dto::decision::{ConsensusDoc, RoleDoc};
use crate::api::dto::node::{JoinState, StatusDoc};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Output, Style, table};

/// Arguments of `exo status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show it again every two seconds until stopped
    #[arg(long)]
    watch: bool,
}

/// Shows the state, once or until stopped.
pub(crate) fn run(context: &Context, args: &Args) -> Outcome {
    let client = context.client()?;
    let output = &context.output;
    loop {
        let status: Document<StatusDoc> = client.get("/v1/status")?;
        if output.json {
            output.json(&status)?;
        } else {
            if args.watch && std::io::stdout().is_terminal() {
                clear()?;
            }
            show(output, &status.body)?;
        }
        if !args.watch {
            return Ok(Exit::Ok);
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

fn show(output: &Output, status: &StatusDoc) -> Result<(), Failure> {
    output.line(&format!(
        "{}  {}",
        output.style(status.name.as_str(), Style::Strong),
        output.style(&format!("exo {}", status.version), Style::Dim)
    ))?;
    let federation = match &status.federation {
        Some(federation) => {
            let founder = if federation.is_founder {
                "this node".to_owned()
            } else {
                federation.founder_name.to_string()
            };
            format!(
                "{}, {} members, epoch {}, founded by {founder}",
                federation.id.short(),
                federation.members,
                federation.epoch
            )
        }
        None => match status.join.state {
            JoinState::Pending => format!(
                "none yet; waits for approval, tell the inviter: {}",
                status.join.words.join(" ")
            ),
            JoinState::Connecting => "none yet; reaching the inviter".to_owned(),
            JoinState::Following => "approved; fetching what the federation has decided".to_owned(),
            JoinState::Refused => {
                let reason = status.join.reason.as_deref().unwrap_or("no reason given");
                format!("none; refused: {}", crate::escape::visible(reason))
            }
            JoinState::Idle | JoinState::Member => {
                "none; `exo invite new` founds one, `exo join` joins one".to_owned()
            }
        },
    };
    let peers = &status.peers;
    let mut rows = vec![
        vec!["  peer id".into(), status.peer.to_string()],
        vec!["  words".into(), status.words.join(" ")],
        vec!["  federation".into(), federation],
        vec![
            "  peers".into(),
            format!(
                "{} active, {} unreachable, {} waiting for approval",
                peers.active, peers.unreachable, peers.pending
            ),
        ],
        vec!["  peers reach it at".into(), super::peers::addresses(&status.advertised)],
        vec!["  local API".into(), status.api_listen.clone()],
        vec!["  runs since".into(), status.started.clone()],
    ];
    rows.extend(status.consensus.iter().flat_map(consensus));
    rows.extend(super::shared::status(&status.shared));
    for (at, collection) in status.collections.iter().enumerate() {
        let label = if at == 0 { "  collections" } else { "" };
        rows.push(vec![
            label.into(),
            format!(
                "{}: {} records, {} vectors of {} dimensions",
                collection.name, collection.records, collection.vectors, collection.dimensions
            ),
        ]);
    }
    table(&rows).iter().try_for_each(|line| output.line(line))
}

/// How deciding stands, for people.
fn consensus(consensus: &ConsensusDoc) -> Vec<Vec<String>> {
    let ConsensusDoc { voters, quorum, faults_tolerated, .. } = consensus;
    let names = voters.iter().map(|voter| {
        let name = voter.name.as_ref().map_or_else(|| voter.peer.short(), ToString::to_string);
        let gone = if voter.active { "" } else { " (not reached)" };
        format!("{name}{gone}")
    });
    let names = names.collect::<Vec<_>>().join(", ");
    let leads = voters.iter().find(|voter| Some(voter.peer) == consensus.primary);
    let primary = match leads {
        Some(voter) if voter.you => "this node leads".to_owned(),
        Some(voter) => match &voter.name {
            Some(name) => format!("{name} leads"),
            None => format!("{} leads", voter.peer.short()),
        },
        None => "nobody leads now".to_owned(),
    };
    let role = match (consensus.role, &consensus.halted) {
        (RoleDoc::Voter, _) => "this node votes".to_owned(),
        (RoleDoc::Follower, _) => "this node follows, without a vote".to_owned(),
        (RoleDoc::Rejoining, _) => {
            "this node lost its journal and votes again from the next epoch on".to_owned()
        }
        (RoleDoc::Halted, reason) => {
            let reason = reason.as_deref().unwrap_or("no reason given");
            format!("this node is halted: {}", crate::escape::visible(reason))
        }
    };
    vec![
        vec![
            "  decides".into(),
            format!("{quorum} of {} voters, {faults_tolerated} may fail; {role}", voters.len()),
        ],
        vec!["  voters".into(), names],
        vec![
            "  view".into(),
            format!("{} of epoch {}, {primary}", consensus.view, consensus.epoch),
        ],
        vec![
            "  log".into(),
            format!(
                "{} entries, batch {} carried out, batch {} cosigned by a quorum",
                consensus.size, consensus.executed, consensus.certified
            ),
        ],
    ]
}

fn clear() -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(b"\x1b[H\x1b[2J").map_err(|error| Failure::output(&error))
}

/// How often a watched state is read.
const WATCH_EVERY: Duration = Duration::from_secs(2);
