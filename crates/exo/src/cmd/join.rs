//! `exo join`: brings a ticket to its inviter and waits for approval.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use exo_federation::ErrorCode;
use zeroize::Zeroizing;

use super::Context;
use crate::api::dto::Document;
use crate::api::dto::node::{JoinDoc, JoinRequest, JoinState, StatusDoc};
use crate::api::dto::peer::PeersDoc;
use crate::client::Client;
use crate::escape::visible;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Style, table};
use crate::span;

/// Arguments of `exo join`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file that holds the ticket, or - for standard input. A ticket is a secret: never an
    /// argument, which the shell's history and other users would see
    #[arg(long, value_name = "FILE")]
    ticket_file: PathBuf,
    /// Return as soon as the words are known, without waiting for approval
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for approval
    #[arg(long, default_value = "10m", value_parser = span::parse, value_name = "DURATION")]
    timeout: Duration,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Outcome {
    let client = context.client()?;
    let ticket = read_ticket(&args.ticket_file)?;
    let request = JoinRequest { ticket: ticket.as_str().to_owned() };
    let started: Document<JoinDoc> = client.post("/v1/join", &request)?;
    drop(Zeroizing::new(request.ticket));
    follow(context, &client, args, started)
}

/// Follows the joining until it is decided, or the words are known and nobody waits.
fn follow(context: &Context, client: &Client, args: &Args, mut join: Document<JoinDoc>) -> Outcome {
    let output = &context.output;
    let began = Instant::now();
    let mut told = false;
    loop {
        let state = join.body.state;
        if state == JoinState::Pending && !told {
            told = true;
            if output.json {
                output.json(&join)?;
            } else {
                let words = join.body.words.join(" ");
                output.line(&format!("Your words: {}", output.style(&words, Style::Strong)))?;
                output.note(
                    "Read them to the inviter, who runs: exo peers approve \"THE FOUR WORDS\"",
                );
            }
        }
        match state {
            JoinState::Member => return member(context, client, &join),
            JoinState::Refused => {
                let reason = join.body.reason.as_deref().unwrap_or("no reason given");
                return Err(Failure::new(
                    ErrorCode::JoinRefused,
                    format!("the inviter refused: {reason}"),
                ));
            }
            JoinState::Pending if args.no_wait => return Ok(Exit::Ok),
            JoinState::Idle | JoinState::Connecting | JoinState::Pending | JoinState::Following => {
            }
        }
        if began.elapsed() >= args.timeout {
            let what = match state {
                JoinState::Pending => "not approved yet",
                JoinState::Following => "approved; what the federation has decided is not here yet",
                _ => "the inviter is not reached yet",
            };
            return Err(Failure::new(
                ErrorCode::JoinInProgress,
                format!("{what} after {}", span::show(args.timeout)),
            ));
        }
        std::thread::sleep(POLL_EVERY);
        join = client.get("/v1/join")?;
    }
}

/// Says what membership brought.
fn member(context: &Context, client: &Client, join: &Document<JoinDoc>) -> Outcome {
    let output = &context.output;
    if output.json {
        output.json(join)?;
        return Ok(Exit::Ok);
    }
    let status: Document<StatusDoc> = client.get("/v1/status")?;
    let peers: Document<PeersDoc> = client.get("/v1/peers")?;
    let Some(federation) = status.body.federation else {
        output.line("This node is a member.")?;
        return Ok(Exit::Ok);
    };
    output.line(&output.style(
        &format!("{} is a member of federation {}.", status.body.name, federation.id.short()),
        Style::Strong,
    ))?;
    let founder = peers.body.peers.iter().find(|peer| peer.peer == federation.founder);
    let mut rows = vec![
        vec!["  members".to_owned(), federation.members.to_string()],
        vec!["  founded by".to_owned(), federation.founder_name.to_string()],
    ];
    if let Some(founder) = founder {
        rows.push(vec!["  negotiated".to_owned(), visible(&founder.capabilities.join(", "))]);
        if let Some(expires) = &founder.token_expires {
            rows.push(vec!["  token renews before".to_owned(), expires.clone()]);
        }
    }
    for line in table(&rows) {
        output.line(&line)?;
    }
    output.note("Now `exo query \"words\"` asks every member.");
    Ok(Exit::Ok)
}

/// Reads a ticket from a file or standard input.
fn read_ticket(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let failed = |error: std::io::Error| Failure::file(path, &error);
    if path == Path::new("-") {
        std::io::stdin().lock().take(TICKET_BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(TICKET_BYTES_MAX + 1).read_to_string(&mut text)
    }
    .map_err(failed)?;
    if text.len() as u64 > TICKET_BYTES_MAX {
        return Err(Failure::new(
            ErrorCode::TicketMalformed,
            format!("{} is too long for a ticket", path.display()),
        ));
    }
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// How often the node is asked how joining stands.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// Longest ticket file that is read, bytes; a ticket itself is far shorter.
const TICKET_BYTES_MAX: u64 = 4 * 1024;
