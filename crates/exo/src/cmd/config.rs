//! `exo config`: checks and shows the configuration.

use std::collections::BTreeMap;

use clap::Subcommand;
use exo_federation::{Config, ErrorCode};
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::files::read_small;
use crate::output::table;

/// Commands of `exo config`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check config.toml: unknown keys and wrong values are refused
    Check,
    /// Show the configuration in force
    Show(ShowArgs),
}

/// Arguments of `exo config show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Say of each value whether the file or the default set it
    #[arg(long)]
    origin: bool,
}

/// The configuration in force, `exo.config/1`.
#[derive(Serialize)]
struct ConfigDoc {
    schema: &'static str,
    path: String,
    config: toml::Table,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<BTreeMap<String, &'static str>>,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Command) -> Outcome {
    let output = &context.output;
    let path = Config::path(context.data_dir.path());
    let config = Config::load(context.data_dir.path())?;
    let origin = match command {
        Command::Check => {
            if output.json {
                output.json(&serde_json::json!({
                    "schema": "exo.config-check/1", "path": path.display().to_string(), "ok": true,
                }))?;
            } else {
                output.line(&format!("{}: in order", path.display()))?;
            }
            return Ok(Exit::Ok);
        }
        Command::Show(args) => args.origin,
    };
    let invalid = |error: String| Failure::new(ErrorCode::ConfigInvalid, error);
    let nested: toml::Table =
        config.to_toml()?.parse().map_err(|error: toml::de::Error| invalid(error.to_string()))?;
    let written: toml::Table = read_small(&path)?
        .parse()
        .map_err(|error: toml::de::Error| invalid(format!("{}: {error}", path.display())))?;
    let values = flat(&nested);
    let written = flat(&written);
    let from = |key: &str| if written.contains_key(key) { "file" } else { "default" };
    if output.json {
        output.json(&ConfigDoc {
            schema: "exo.config/1",
            path: path.display().to_string(),
            origin: origin.then(|| values.keys().map(|key| (key.clone(), from(key))).collect()),
            config: nested,
        })?;
        return Ok(Exit::Ok);
    }
    let rows: Vec<_> = values
        .iter()
        .map(|(key, value)| {
            let mut row = vec![format!("{key} = {value}")];
            if origin {
                row.push(format!("# {}", from(key)));
            }
            row
        })
        .collect();
    for line in table(&rows) {
        output.line(&line)?;
    }
    Ok(Exit::Ok)
}

/// Every value by its dotted key.
fn flat(table: &toml::Table) -> BTreeMap<String, toml::Value> {
    let mut all = BTreeMap::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => {
                let inner = flat(inner).into_iter();
                all.extend(inner.map(|(below, value)| (format!("{key}.{below}"), value)));
            }
            value => {
                all.insert(key.clone(), value.clone());
            }
        }
    }
    all
}
