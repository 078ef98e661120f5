//! `exo invite`: tickets for others to join with.

use std::time::Duration;

use clap::Subcommand;

use super::Context;
use crate::api::dto::Document;
use crate::api::dto::node::{InviteRequest, InvitesDoc, NewInviteDoc};
use crate::client::segment;
use crate::exit::{Exit, Outcome};
use crate::output::table;
use crate::span;

/// Commands of `exo invite`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a ticket; founds a federation if the node has none
    New(NewArgs),
    /// List open invites
    List,
    /// Revoke an invite
    Revoke(RevokeArgs),
}

/// Arguments of `exo invite new`.
#[derive(Debug, clap::Args)]
pub(crate) struct NewArgs {
    /// How long the ticket is good
    #[arg(long, default_value = "24h", value_parser = span::parse, value_name = "DURATION")]
    expires: Duration,
    /// Admit whoever brings the ticket without spoken words, for automation; that member is shown
    /// as unverified for ever
    #[arg(long)]
    auto_approve: bool,
}

/// Arguments of `exo invite revoke`.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// The invite's id
    id: String,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Command) -> Outcome {
    let client = context.client()?;
    let output = &context.output;
    match command {
        Command::New(args) => {
            let request = InviteRequest {
                expires_ms: Some(u64::try_from(args.expires.as_millis()).unwrap_or(u64::MAX)),
                auto_approve: args.auto_approve,
            };
            let invite: Document<NewInviteDoc> = client.post("/v1/invites", &request)?;
            if output.json {
                output.json(&invite)?;
            } else {
                let invite = invite.body;
                // The ticket alone is data: `exo invite new > ticket` works.
                output.line(&invite.ticket)?;
                output.note(&format!(
                    "Invite {} is good for one node until {}.",
                    invite.id, invite.expires
                ));
                output.note("Whoever holds the ticket can ask to join: send it by a channel you trust, in a file.");
                output.note(if args.auto_approve {
                    "The node that brings it is admitted at once and shown as unverified."
                } else {
                    "At the other node: `exo join --ticket-file FILE`. Then `exo peers approve \"THE FOUR WORDS\"` here."
                });
            }
        }
        Command::List => {
            let invites: Document<InvitesDoc> = client.get("/v1/invites")?;
            if output.json {
                output.json(&invites)?;
            } else if invites.body.invites.is_empty() {
                output.note("No open invites.");
            } else {
                let mut rows =
                    vec![["ID", "EXPIRES", "APPROVAL", "USED BY"].map(str::to_owned).to_vec()];
                rows.extend(invites.body.invites.iter().map(|invite| {
                    vec![
                        invite.id.clone(),
                        invite.expires.clone(),
                        if invite.auto_approve { "automatic" } else { "by words" }.to_owned(),
                        invite.used_by.map_or("-".to_owned(), |peer| peer.short()),
                    ]
                }));
                for line in table(&rows) {
                    output.line(&line)?;
                }
            }
        }
        Command::Revoke(args) => {
            client.delete(&format!("/v1/invites/{}", segment(&args.id)))?;
            if output.json {
                output.json(&serde_json::json!({
                    "schema": "exo.invite-revoked/1", "id": args.id,
                }))?;
            } else {
                output.line(&format!("Invite {} is revoked.", args.id))?;
            }
        }
    }
    Ok(Exit::Ok)
}
