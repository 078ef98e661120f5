//! `exo init`: makes a node's keys and configuration.

use std::net::SocketAddr;

use exo_federation::{Config, ErrorCode, FederatedMesh};
use exo_types::limits::{VOTERS_MAX, VOTERS_MIN};
use exo_types::{FederationId, NodeName, PeerId};
use serde::Serialize;

use super::Context;
use crate::api::dto::node::words;
use crate::exit::{Exit, Failure, Outcome};
use crate::files::{DataDir, write_whole};
use crate::output::{Style, table};

/// Arguments of `exo init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node's name in its federation: letters, digits, '.', '_' and '-'
    #[arg(long)]
    name: NodeName,
    /// Where the node listens for peers (UDP) [default: 0.0.0.0:7700]
    #[arg(long, value_name = "ADDRESS")]
    mesh_listen: Option<SocketAddr>,
    /// Where the local API listens (TCP) [default: 127.0.0.1:7780]
    #[arg(long, value_name = "ADDRESS")]
    api_listen: Option<SocketAddr>,
    /// An address that peers are told, host:port; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Vec<String>,
    /// Found a federation at once, with this node as its only member
    #[arg(long)]
    found: bool,
    /// With how many members the federation begins to decide by consensus, so that its founder decides
    /// nothing alone any more [default: 4]
    #[arg(long, requires = "found", value_name = "N", value_parser = voters)]
    voters: Option<usize>,
}

/// A new node, `exo.init/1`.
#[derive(Debug, Serialize)]
pub(crate) struct InitDoc {
    schema: &'static str,
    name: NodeName,
    /// The node.
    pub(crate) peer: PeerId,
    words: Vec<String>,
    mesh_listen: SocketAddr,
    api_listen: SocketAddr,
    /// The federation it has founded.
    #[serde(skip_serializing_if = "Option::is_none")]
    federation: Option<FederationId>,
}

/// Makes the node and prints the words of its identity.
pub(crate) fn run(context: &Context, args: Args) -> Outcome {
    let output = &context.output;
    let mut config = Config::new(args.name);
    config.mesh_listen = args.mesh_listen.unwrap_or(config.mesh_listen);
    config.api_listen = args.api_listen.unwrap_or(config.api_listen);
    config.advertise = args.advertise;
    config.founding_voters = args.voters.unwrap_or(config.founding_voters);
    let mut doc = make(&context.data_dir, &config)?;
    if args.found {
        doc.federation = Some(found(&context.data_dir, &config)?);
    }
    if output.json {
        output.json(&doc)?;
        return Ok(Exit::Ok);
    }
    output.line(&output.style(&format!("Node {} is made.", doc.name), Style::Strong))?;
    let mut rows = vec![
        vec!["  peer id".into(), doc.peer.to_string()],
        vec!["  words".into(), doc.words.join(" ")],
        vec!["  directory".into(), context.data_dir.path().display().to_string()],
        vec!["  peers reach it at".into(), format!("{} (UDP)", doc.mesh_listen)],
        vec!["  local API".into(), format!("{} (token in keys/api.token)", doc.api_listen)],
    ];
    if let Some(federation) = doc.federation {
        let voters = config.founding_voters;
        rows.push(vec!["  federation".into(), federation.to_string()]);
        rows.push(vec!["  decides together".into(), format!("from {voters} members on")]);
    }
    for line in table(&rows) {
        output.line(&line)?;
    }
    output.note(if args.found {
        "Next: `exo serve` runs it; then `exo invite new` makes a ticket for the next member."
    } else {
        "Next: `exo serve` runs it; then `exo invite new` founds a federation, or `exo join` joins one."
    });
    Ok(Exit::Ok)
}

/// Makes a node in a directory.
pub(crate) fn make(data_dir: &DataDir, config: &Config) -> Result<InitDoc, Failure> {
    config.addresses()?;
    let made = FederatedMesh::init(data_dir.path(), config)?;
    data_dir.make_token()?;
    Ok(InitDoc {
        schema: "exo.init/1",
        name: config.name.clone(),
        peer: made.peer,
        words: words(&made.words),
        mesh_listen: config.mesh_listen,
        api_listen: config.api_listen,
        federation: None,
    })
}

/// Founds a federation with the new node. It listens nowhere that anybody could reach meanwhile, and
/// does not need its port for that.
fn found(data_dir: &DataDir, config: &Config) -> Result<FederationId, Failure> {
    let path = Config::path(data_dir.path());
    let write = |config: &Config| -> Result<(), Failure> {
        write_whole(&path, config.to_toml()?.as_bytes())
    };
    let mut alone = config.clone();
    alone.mesh_listen = SocketAddr::from(([127, 0, 0, 1], 0));
    write(&alone)?;
    let founded = found_alone(data_dir);
    write(config)?;
    founded
}

fn found_alone(data_dir: &DataDir) -> Result<FederationId, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new(ErrorCode::Io, format!("runtime: {error}")))?;
    runtime.block_on(async {
        let mesh = Box::pin(FederatedMesh::open(data_dir.path())).await?;
        let founded = mesh.found();
        mesh.shutdown().await;
        Ok(founded?)
    })
}

fn voters(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(voters) if (VOTERS_MIN..=VOTERS_MAX).contains(&voters) => Ok(voters),
        _ => Err(format!("must be {VOTERS_MIN} to {VOTERS_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_its_frozen_shape() {
        let doc = InitDoc {
            schema: "exo.init/1",
            name: NodeName::new("lab").expect("name"),
            peer: PeerId::new([0; 32]),
            words: words("able baker charlie dog"),
            mesh_listen: SocketAddr::from(([0, 0, 0, 0], 7700)),
            api_listen: SocketAddr::from(([127, 0, 0, 1], 7780)),
            federation: None,
        };
        assert_eq!(
            serde_json::to_string(&doc).expect("json"),
            format!(
                concat!(
                    r#"{{"schema":"exo.init/1","name":"lab","peer":"{}","#,
                    r#""words":["able","baker","charlie","dog"],"#,
                    r#""mesh_listen":"0.0.0.0:7700","api_listen":"127.0.0.1:7780"}}"#
                ),
                "a".repeat(52)
            )
        );
    }
}
