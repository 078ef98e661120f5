//! `exo shared put`, `get`, `rm` and `erase`: one key.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::ArgGroup;
use exo_federation::ErrorCode;
use exo_types::limits::ENTRY_VALUE_BYTES_MAX;
use exo_types::{CollectionName, RecordId};
use serde_json::json;

use super::{Entry, path, row};
use crate::api::dto::Document;
use crate::api::dto::shared::{Encoding, ErasedDoc, RemovedDoc};
use crate::cmd::Context;
use crate::escape::visible;
use crate::exit::{Exit, Failure, Outcome};
use crate::files::read_bytes;
use crate::output::Style;

/// A key of a collection.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    /// The shared collection
    collection: CollectionName,
    /// The key
    key: RecordId,
}

/// Arguments of `exo shared put`.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("what").required(true).args(["value", "file"])))]
pub(crate) struct PutArgs {
    #[command(flatten)]
    at: KeyArgs,
    /// The value, a text
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,
    /// Take the value from a file, or from standard input with -
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Writes a value.
pub(super) fn put(context: &Context, args: PutArgs) -> Outcome {
    let value = match (&args.file, args.value) {
        (Some(path), _) => content(path)?,
        (None, value) => value.unwrap_or_default().into_bytes(),
    };
    if value.len() > ENTRY_VALUE_BYTES_MAX {
        return Err(too_long());
    }
    let KeyArgs { collection, key } = &args.at;
    let entry: Entry = context.client()?.put_bytes(&path(collection, key), &value)?;
    let output = &context.output;
    if output.json {
        output.json(&entry)?;
        return Ok(Exit::Ok);
    }
    let stands = entry.body.bytes().and_then(Result::ok).is_some_and(|bytes| bytes == value);
    if stands {
        let text = format!("{} is written", visible(key.as_str()));
        output.line(&output.style(&text, Style::Good))?;
    } else {
        // The write is signed and kept all the same: by the collection's kind another one counts.
        let text = format!("written, but another value stands at {}", visible(key.as_str()));
        output.line(&output.style(&text, Style::Warn))?;
        output.line(&row(&entry.body).join("  "))?;
    }
    Ok(Exit::Ok)
}

/// Prints what stands at a key.
pub(super) fn get(context: &Context, args: &KeyArgs) -> Outcome {
    let output = &context.output;
    let entry: Entry = context.client()?.get(&path(&args.collection, &args.key))?;
    let value = entry.body.bytes().transpose().map_err(|error| {
        Failure::new(ErrorCode::Internal, format!("the node's answer: {error}"))
    })?;
    if output.json {
        output.json(&entry)?;
        return Ok(if value.is_some() { Exit::Ok } else { Exit::NotFound });
    }
    let Some(value) = value else {
        let reason = format!("the value at {} was erased, or has not come yet", args.key);
        return Err(Failure::new(ErrorCode::SharedKeyNotFound, reason));
    };
    let mut stdout = std::io::stdout().lock();
    if !stdout.is_terminal() {
        let written = stdout.write_all(&value).and_then(|()| stdout.flush());
        return written.map(|()| Exit::Ok).map_err(|error| Failure::output(&error));
    }
    drop(stdout);
    match (entry.body.encoding, &entry.body.value) {
        (Some(Encoding::Text), Some(text)) => {
            text.lines().try_for_each(|line| output.line(&visible(line)))?;
        }
        _ => output.note(&format!("{} bytes that are no text: send them to a file", value.len())),
    }
    Ok(Exit::Ok)
}

/// Removes what stands at a key.
pub(super) fn remove(context: &Context, args: &KeyArgs) -> Outcome {
    let output = &context.output;
    let path = path(&args.collection, &args.key);
    let removed: Document<RemovedDoc> = context.client()?.delete_told(&path)?;
    let key = visible(args.key.as_str());
    if output.json {
        output.json(&removed)?;
    } else if removed.body.removed {
        output.line(&output.style(&format!("{key} is removed"), Style::Good))?;
    } else {
        output.line(&format!("nothing stood at {key}"))?;
    }
    Ok(Exit::Ok)
}

/// Destroys values.
pub(super) fn erase(context: &Context, args: &KeyArgs) -> Outcome {
    let output = &context.output;
    let path = format!("{}/erase", path(&args.collection, &args.key));
    let erased: Document<ErasedDoc> = context.client()?.post(&path, &json!({}))?;
    if output.json {
        output.json(&erased)?;
        return Ok(Exit::Ok);
    }
    let (key, count) = (visible(args.key.as_str()), erased.body.erased);
    output
        .line(&output.style(&format!("{count} values at {key} are destroyed here"), Style::Good))?;
    output.note("Other members are asked to destroy those that this node wrote.");
    output.note("A member that kept a copy cannot be stopped.");
    Ok(Exit::Ok)
}

/// The content of a file, or of standard input.
fn content(path: &Path) -> Result<Vec<u8>, Failure> {
    if path != Path::new("-") {
        return read_bytes(path, ENTRY_VALUE_BYTES_MAX);
    }
    let mut bytes = Vec::new();
    let most = ENTRY_VALUE_BYTES_MAX as u64 + 1;
    std::io::stdin()
        .lock()
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(ErrorCode::Io, format!("standard input: {error}")))?;
    Ok(bytes)
}

fn too_long() -> Failure {
    let reason = format!("a value has at most {ENTRY_VALUE_BYTES_MAX} bytes");
    Failure::new(ErrorCode::ValueTooLong, reason)
}
