//! `exo init`: makes a node's keys and configuration.

use std::net::SocketAddr;

use exo_federation::{Config, FederatedMesh};
use exo_types::{NodeName, PeerId};
use serde::Serialize;

use super::Context;
use crate::api::dto::node::words;
use crate::exit::{Exit, Outcome};
use crate::files::DataDir;
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
}

/// Makes the node and prints the words of its identity.
pub(crate) fn run(context: &Context, args: Args) -> Outcome {
    let output = &context.output;
    let mut config = Config::new(args.name);
    config.mesh_listen = args.mesh_listen.unwrap_or(config.mesh_listen);
    config.api_listen = args.api_listen.unwrap_or(config.api_listen);
    config.advertise = args.advertise;
    let doc = make(&context.data_dir, &config)?;
    if output.json {
        output.json(&doc)?;
        return Ok(Exit::Ok);
    }
    output.line(&output.style(&format!("Node {} is made.", doc.name), Style::Strong))?;
    for line in table(&[
        vec!["  peer id".into(), doc.peer.to_string()],
        vec!["  words".into(), doc.words.join(" ")],
        vec!["  directory".into(), context.data_dir.path().display().to_string()],
        vec!["  peers reach it at".into(), format!("{} (UDP)", doc.mesh_listen)],
        vec!["  local API".into(), format!("{} (token in keys/api.token)", doc.api_listen)],
    ]) {
        output.line(&line)?;
    }
    output.note("Next: `exo serve` runs it; then `exo invite new` founds a federation, or `exo join` joins one.");
    Ok(Exit::Ok)
}

/// Makes a node in a directory.
pub(crate) fn make(data_dir: &DataDir, config: &Config) -> Result<InitDoc, crate::exit::Failure> {
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
    })
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
