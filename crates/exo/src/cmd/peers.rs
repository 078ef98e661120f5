//! `exo peers`: who is in the federation, who waits, and who was removed.

use std::time::{Duration, Instant};

use clap::Subcommand;
use exo_federation::ErrorCode;

use super::Context;
use crate::api::dto::Document;
use crate::api::dto::decision::OutcomeDoc;
use crate::api::dto::peer::{
    ApproveRequest, PeerDoc, PeerStateDoc, PeersDoc, PingDoc, RevokeRequest,
};
use crate::client::{Client, segment};
use crate::escape::visible;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Output, Style, table};

/// Commands of `exo peers`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List members, joiners that wait, and removed members
    List,
    /// Show one peer
    Show(PeerArgs),
    /// Approve the joiner that told you these four words
    Approve(ApproveArgs),
    /// Turn a waiting joiner away
    Reject(PeerArgs),
    /// Remove a member: its sessions are closed at once
    Revoke(RevokeArgs),
    /// Measure the round trip to a member
    Ping(PeerArgs),
}

/// One peer.
#[derive(Debug, clap::Args)]
pub(crate) struct PeerArgs {
    /// Its id, the beginning of its id, or its name
    peer: String,
}

/// Arguments of `exo peers approve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ApproveArgs {
    /// The four words, as one argument or four
    #[arg(required = true, num_args = 1..=4)]
    words: Vec<String>,
}

/// Arguments of `exo peers revoke`.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// Its id, the beginning of its id, or its name
    peer: String,
    /// Why; the member is told
    #[arg(long, default_value = "")]
    reason: String,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Command) -> Outcome {
    let client = context.client()?;
    let output = &context.output;
    let path = |peer: &str, verb: &str| format!("/v1/peers/{}{verb}", segment(peer));
    match command {
        Command::List => {
            let peers: Document<PeersDoc> = client.get("/v1/peers")?;
            if output.json {
                output.json(&peers)?;
            } else {
                list(output, &peers.body.peers)?;
            }
        }
        Command::Show(args) => {
            let peer: Document<PeerDoc> = client.get(&path(&args.peer, ""))?;
            show(output, &peer)?;
        }
        Command::Approve(args) => {
            let peer = approve(&client, args.words.join(" "))?;
            let name = &peer.body.name;
            return said(output, &peer, &format!("{name} is a member now"), "approve its words");
        }
        Command::Reject(args) => {
            let peer: Document<PeerDoc> =
                client.post(&path(&args.peer, "/reject"), &serde_json::json!({}))?;
            return said(output, &peer, &format!("{} is turned away", peer.body.name), "");
        }
        Command::Revoke(args) => {
            let request = RevokeRequest { reason: args.reason };
            let peer: Document<PeerDoc> = client.post(&path(&args.peer, "/revoke"), &request)?;
            let name = &peer.body.name;
            let others = format!("run `exo peers revoke {name}`");
            let exit = said(output, &peer, &format!("{name} is removed"), &others)?;
            if peer.body.state == PeerStateDoc::Revoked {
                output.note("What it has copied before cannot be called back.");
            }
            return Ok(exit);
        }
        Command::Ping(args) => {
            let ping: Document<PingDoc> =
                client.post(&path(&args.peer, "/ping"), &serde_json::json!({}))?;
            if output.json {
                output.json(&ping)?;
            } else {
                output.line(&format!("{:.1} ms", ping.body.elapsed_ms))?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// Approves a joiner by its words. The joiner knows them a moment before its inviter does, which a
/// script is quick enough to notice: words that are not known are tried for that long again.
pub(crate) fn approve(client: &Client, words: String) -> Result<Document<PeerDoc>, Failure> {
    let request = ApproveRequest { words };
    let began = Instant::now();
    loop {
        match client.post("/v1/peers/approve", &request) {
            Err(failure)
                if failure.code == ErrorCode::WordsUnknown.as_str()
                    && began.elapsed() < WORDS_WITHIN =>
            {
                std::thread::sleep(WORDS_PAUSE);
            }
            other => return other,
        }
    }
}

/// Says what became of a peer: `done` when it is done, else what is missing and what `others` do.
fn said(output: &Output, peer: &Document<PeerDoc>, done: &str, others: &str) -> Outcome {
    let decision = peer.body.decision.as_ref();
    let void = decision.is_some_and(|decision| decision.outcome == OutcomeDoc::Void);
    let exit = if void { Exit::Failure } else { Exit::Ok };
    if output.json {
        output.json(peer)?;
        return Ok(exit);
    }
    let Some(decision) = decision else {
        output.line(&format!("{done}."))?;
        return Ok(exit);
    };
    let number = decision.index;
    output.line(&match (decision.outcome, decision.have, decision.need) {
        (OutcomeDoc::Wished, Some(have), Some(need)) => {
            format!("{have} of {need} voters wish it, by commit #{number}; others {others}.")
        }
        (OutcomeDoc::Void, _, _) => {
            let reason = decision.reason.as_deref().unwrap_or("no reason given");
            format!("Without effect, though commit #{number}: {}.", visible(reason))
        }
        _ => format!("{done}, by commit #{number}."),
    })?;
    Ok(exit)
}

fn list(output: &Output, peers: &[PeerDoc]) -> Result<(), Failure> {
    if peers.is_empty() {
        output.note("No peers yet: `exo invite new` makes a ticket for one.");
        return Ok(());
    }
    let heading = ["NAME", "PEER", "STATE", "VOTES", "LATENCY", "VERIFIED", "NOTE"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(peers.iter().map(|peer| {
        vec![
            peer.name.to_string(),
            peer.peer.short(),
            state(peer),
            if peer.votes { "yes" } else { "-" }.to_owned(),
            peer.latency_ms.map_or("-".to_owned(), |ms| format!("{ms:.1} ms")),
            verified(peer).to_owned(),
            visible(&peer.detail),
        ]
    }));
    let styles = std::iter::once(Style::Dim).chain(peers.iter().map(|peer| match peer.state {
        PeerStateDoc::Active => Style::Good,
        PeerStateDoc::Pending => Style::Warn,
        PeerStateDoc::Unreachable | PeerStateDoc::Revoked => Style::Bad,
    }));
    for (line, style) in table(&rows).iter().zip(styles) {
        output.line(&output.style(line, style))?;
    }
    Ok(())
}

/// How a peer stands; a removed one with the decision that removed it.
fn state(peer: &PeerDoc) -> String {
    match peer.removed_by {
        Some(number) => format!("{} (commit #{number})", peer.state.as_str()),
        None => peer.state.as_str().to_owned(),
    }
}

/// How the peer was admitted, where it was.
fn verified(peer: &PeerDoc) -> &'static str {
    match peer.state {
        PeerStateDoc::Pending => "not yet",
        _ if peer.unverified => "unverified",
        _ => "by words",
    }
}

/// Addresses for people, who know whose they are.
pub(crate) fn addresses(all: &[String]) -> String {
    let plain = |address: &String| match address.split_once('@') {
        Some((_, address)) => visible(address),
        None => visible(address),
    };
    all.iter().map(plain).collect::<Vec<_>>().join(", ")
}

fn show(output: &Output, peer: &Document<PeerDoc>) -> Result<(), Failure> {
    if output.json {
        return output.json(peer);
    }
    let peer = &peer.body;
    output.line(&output.style(peer.name.as_str(), Style::Strong))?;
    let latency = peer.latency_ms.map_or("not measured".to_owned(), |ms| format!("{ms:.1} ms"));
    let rows = [
        ("peer id", peer.peer.to_string()),
        ("state", state(peer)),
        ("note", visible(&peer.detail)),
        ("votes", if peer.votes { "yes" } else { "no" }.to_owned()),
        ("verified", verified(peer).to_owned()),
        ("addresses", addresses(&peer.addresses)),
        ("latency", latency),
        ("capabilities", visible(&peer.capabilities.join(", "))),
        ("token ends", peer.token_expires.clone().unwrap_or_else(|| "none held".to_owned())),
        ("since epoch", peer.since.to_string()),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(label, value)| vec![format!("  {label}"), value])
        .collect();
    table(&rows).iter().try_for_each(|line| output.line(line))
}

/// How long the inviter may take to know the words that its joiner shows.
const WORDS_WITHIN: Duration = Duration::from_secs(2);
/// Pause before words are tried again.
const WORDS_PAUSE: Duration = Duration::from_millis(100);
