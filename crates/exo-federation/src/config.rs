//! The configuration file of a node, `config.toml` in its data directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use exo_types::{NodeName, PeerAddress};
use serde::{Deserialize, Serialize};

use crate::error::{ErrorCode, FederationError};

/// What a node is configured with. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's name in its federation.
    pub name: NodeName,
    /// Where the node listens for peers (UDP).
    #[serde(default = "default_mesh_listen")]
    pub mesh_listen: SocketAddr,
    /// Where the local API listens (TCP). Anything but loopback is a deliberate choice.
    #[serde(default = "default_api_listen")]
    pub api_listen: SocketAddr,
    /// Addresses that peers are told, `host:port`; empty means the listening address, or the
    /// machine's outgoing address when the node listens on all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advertise: Vec<String>,
    /// Collections up to this many vectors are scanned exactly; larger ones by the approximate
    /// index. `None` for the substrate's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_scan_records: Option<usize>,
}

impl Config {
    /// The file's name within the data directory.
    pub const FILE: &'static str = "config.toml";

    /// A configuration with the usual addresses.
    pub fn new(name: NodeName) -> Self {
        Self {
            name,
            mesh_listen: default_mesh_listen(),
            api_listen: default_api_listen(),
            advertise: Vec::new(),
            exact_scan_records: None,
        }
    }

    /// Reads and checks `config.toml` of a data directory.
    pub fn load(data_dir: &Path) -> Result<Self, FederationError> {
        let path = Self::path(data_dir);
        let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => FederationError::new(
                ErrorCode::NotInitialised,
                format!("there is no node in {}", data_dir.display()),
            ),
            _ => FederationError::new(ErrorCode::Io, format!("{}: {error}", path.display())),
        })?;
        let config: Self = toml::from_str(&text).map_err(|error| {
            FederationError::new(ErrorCode::ConfigInvalid, format!("{}: {error}", path.display()))
        })?;
        config.addresses()?;
        Ok(config)
    }

    /// The configuration as the text of its file.
    pub fn to_toml(&self) -> Result<String, FederationError> {
        toml::to_string(self)
            .map_err(|error| FederationError::new(ErrorCode::Internal, error.to_string()))
    }

    /// The advertised addresses, checked.
    pub fn addresses(&self) -> Result<Vec<PeerAddress>, FederationError> {
        let parse = |text: &String| {
            text.parse().map_err(|error| {
                FederationError::new(
                    ErrorCode::ConfigInvalid,
                    format!("advertise {text:?}: {error}"),
                )
            })
        };
        self.advertise.iter().map(parse).collect()
    }

    /// Where the file is.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(Self::FILE)
    }
}

fn default_mesh_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 7700))
}

fn default_api_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7780))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = toml::from_str::<Config>("name = \"a\"\nmesh_lisen = \"1.2.3.4:5\"\n")
            .expect_err("unknown key");
        assert!(error.to_string().contains("mesh_lisen"), "{error}");
    }

    #[test]
    fn the_file_round_trips() {
        let mut config = Config::new(NodeName::new("lab").expect("name"));
        config.advertise.push("lab.example:7700".into());
        let text = config.to_toml().expect("toml");
        assert_eq!(toml::from_str::<Config>(&text).expect("parses"), config);
        assert_eq!(config.addresses().expect("addresses").len(), 1);
    }
}
