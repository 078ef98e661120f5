//! `exo commit watch`: decisions as they are committed, none left out.

use super::{Commit, outcome, row, style};
use crate::api::dto::Document;
use crate::api::dto::decision::{CommitDoc, CommitsDoc};
use crate::client::Client;
use crate::cmd::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use exo_federation::ErrorCode;

/// Prints decisions until stopped.
pub(super) fn run(context: &Context) -> Outcome {
    let client = context.client()?;
    let mut seen = Seen { output: context.output, next: None };
    loop {
        // Opened before the log is looked at, so that nothing is committed unseen in between.
        let events = client.get_events("/v1/decisions/events")?;
        match seen.next {
            None => seen.next = Some(end(&client)?),
            Some(_) => seen.catch_up(&client)?,
        }
        for event in events {
            let Ok(event) = event else { break };
            match event.name.as_str() {
                "commit" => {
                    let commit: Commit = serde_json::from_str(&event.data).map_err(|error| {
                        Failure::new(ErrorCode::Internal, format!("the node's answer: {error}"))
                    })?;
                    seen.print(&commit.body)?;
                }
                "missed" => seen.catch_up(&client)?,
                _ => {}
            }
        }
        // The node ends every answer some time; a node that has gone is said by the next request.
        std::thread::sleep(AGAIN_AFTER);
    }
}

/// What has been printed.
struct Seen {
    output: Output,
    /// The first entry that has not been.
    next: Option<u64>,
}

impl Seen {
    /// Prints a decision, once.
    fn print(&mut self, commit: &CommitDoc) -> Result<Exit, Failure> {
        if self.next.is_some_and(|next| commit.index < next) {
            return Ok(Exit::Ok);
        }
        self.next = Some(commit.index + 1);
        let output = &self.output;
        if output.json {
            output.json(&Document::new("exo.commit/1", commit.clone()))?;
        } else {
            let mut cells = row(commit);
            // The columns of a list that is never whole have a width of their own.
            for (cell, width) in cells.iter_mut().zip([8, 16, 14, 18]) {
                *cell = format!("{cell:<width$}");
            }
            debug_assert!(cells[3].starts_with(&outcome(commit)));
            output.line(&output.style(&cells.join(" "), style(commit.outcome)))?;
        }
        Ok(Exit::Ok)
    }

    /// Prints what was committed since.
    fn catch_up(&mut self, client: &Client) -> Result<(), Failure> {
        let mut from = self.next;
        while let Some(at) = from {
            let page: Document<CommitsDoc> =
                client.get(&format!("/v1/decisions?from={at}&limit={PAGE}"))?;
            for commit in &page.body.commits {
                self.print(commit)?;
            }
            from = page.body.next;
        }
        Ok(())
    }
}

/// Where the log ends.
fn end(client: &Client) -> Result<u64, Failure> {
    let page: Document<CommitsDoc> = client.get("/v1/decisions?newest=true&limit=1")?;
    Ok(page.body.size)
}

/// Decisions that are fetched at once.
const PAGE: usize = 500;
/// Pause before the events are asked for again.
const AGAIN_AFTER: std::time::Duration = std::time::Duration::from_millis(100);
