//! `exo shared watch`: changes as they come. Where the node could not name all of them, what differs from
//! what was seen before is printed, so that none that lasts is left out.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use exo_federation::ErrorCode;
use exo_types::{CollectionName, RecordId};

use super::{Entry, entries, row};
use crate::api::dto::Document;
use crate::api::dto::shared::SharedDoc;
use crate::client::{Client, segment};
use crate::cmd::Context;
use crate::exit::{Failure, Outcome};
use crate::output::Output;

/// Arguments of `exo shared watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shared collection; it need not be there yet
    collection: CollectionName,
    /// Print what stands there first
    #[arg(long)]
    all: bool,
}

/// Prints changes until stopped.
pub(super) fn run(context: &Context, args: &Args) -> Outcome {
    let client = context.client()?;
    let mut seen = Seen { output: context.output, keys: BTreeMap::new() };
    let mut quiet = !args.all;
    loop {
        // Opened before the collection is looked at, so that nothing changes unseen in between.
        let path = format!("/v1/shared/{}/events", segment(args.collection.as_str()));
        let events = client.get_events(&path)?;
        seen.catch_up(&client, &args.collection, quiet)?;
        quiet = false;
        for event in events {
            let Ok(event) = event else { break };
            match event.name.as_str() {
                "change" => {
                    let entry: Entry = serde_json::from_str(&event.data).map_err(|error| {
                        Failure::new(ErrorCode::Internal, format!("the node's answer: {error}"))
                    })?;
                    seen.take(entry.body, false)?;
                }
                "missed" => seen.catch_up(&client, &args.collection, false)?,
                _ => {}
            }
        }
        // The node ends every answer some time; a node that has gone is said by the next request.
        std::thread::sleep(AGAIN_AFTER);
    }
}

/// What has been printed, a hash for each key.
struct Seen {
    output: Output,
    keys: BTreeMap<RecordId, u64>,
}

impl Seen {
    /// Prints an entry unless it is what was seen at its key before.
    fn take(&mut self, entry: SharedDoc, quiet: bool) -> Result<(), Failure> {
        let mut hasher = DefaultHasher::new();
        entry.hash(&mut hasher);
        let known = if entry.removed {
            self.keys.remove(&entry.key).is_none()
        } else {
            let hash = hasher.finish();
            self.keys.insert(entry.key.clone(), hash) == Some(hash)
        };
        if known || quiet {
            return Ok(());
        }
        if self.output.json {
            return self.output.json(&Document::new("exo.shared/1", entry));
        }
        let mut cells = row(&entry);
        // The columns of a list that is never whole have a width of their own.
        for (cell, width) in cells.iter_mut().zip([24, 16, 24]) {
            *cell = format!("{cell:<width$}");
        }
        self.output.line(cells.join(" ").trim_end())
    }

    /// Looks at the whole collection and prints what differs.
    fn catch_up(
        &mut self,
        client: &Client,
        collection: &CollectionName,
        quiet: bool,
    ) -> Result<(), Failure> {
        let mut gone: BTreeMap<RecordId, u64> = self.keys.clone();
        let read = entries(client, collection, "", usize::MAX, |entry| {
            gone.remove(&entry.key);
            self.take(entry, quiet)
        });
        match read {
            Ok(_) => {}
            // It is made by its first write.
            Err(failure) if failure.code == ErrorCode::SharedNotFound.as_str() => {}
            Err(failure) => return Err(failure),
        }
        for key in gone.into_keys() {
            self.take(SharedDoc::new(collection.clone(), key, None), quiet)?;
        }
        Ok(())
    }
}

/// Pause before the events are asked for again.
const AGAIN_AFTER: std::time::Duration = std::time::Duration::from_millis(100);
