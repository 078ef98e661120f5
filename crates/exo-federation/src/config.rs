//! The configuration file of a node, `config.toml` in its data directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use exo_node::policy::OnionPolicy;
use exo_onion::Diversity;
use exo_types::limits::{
    ONION_COVER_PER_MINUTE_MAX, ONION_PACKETS_PER_SECOND, ONION_PACKETS_PER_SECOND_MAX, VOTERS_MAX,
    VOTERS_MIN,
};
use exo_types::{NodeName, OrganisationName, PeerAddress};
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
    /// With how many members a federation that this node founds begins to decide by consensus: from
    /// then on they vote, and the founder decides nothing alone any more.
    #[serde(default = "default_founding_voters")]
    pub founding_voters: usize,
    /// Anonymous queries: this node's part in those of others, and its own paths.
    #[serde(default)]
    pub onion: OnionConfig,
}

/// The `[onion]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnionConfig {
    /// Whether this node sends packets of others on.
    pub relay: bool,
    /// Packets a second that it takes from one neighbour.
    pub packets_per_second: u32,
    /// Whose node it is. Nodes of one organisation are not on one path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organisation: Option<OrganisationName>,
    /// Lets one organisation have several nodes on a path of this node's queries.
    pub any_relays: bool,
    /// Cover packets that this node sends a minute, on average; zero for none.
    pub cover_per_minute: u32,
}

impl Default for OnionConfig {
    fn default() -> Self {
        Self {
            relay: true,
            packets_per_second: ONION_PACKETS_PER_SECOND,
            organisation: None,
            any_relays: false,
            cover_per_minute: 0,
        }
    }
}

impl OnionConfig {
    pub(crate) fn policy(&self) -> OnionPolicy {
        OnionPolicy {
            relays: self.relay,
            packets_per_second: self.packets_per_second,
            organisation: self.organisation.clone(),
            diversity: if self.any_relays { Diversity::Any } else { Diversity::Organisation },
            cover_per_minute: self.cover_per_minute,
        }
    }

    fn check(&self) -> Result<(), FederationError> {
        let over = |name: &str, max: u32| {
            FederationError::new(ErrorCode::ConfigInvalid, format!("onion.{name}: at most {max}"))
        };
        if self.packets_per_second == 0 {
            // It would drop packets that end here as well.
            let message = "onion.packets_per_second: at least 1; `relay = false` sends none on";
            return Err(FederationError::new(ErrorCode::ConfigInvalid, message));
        }
        if self.packets_per_second > ONION_PACKETS_PER_SECOND_MAX {
            return Err(over("packets_per_second", ONION_PACKETS_PER_SECOND_MAX));
        }
        if self.cover_per_minute > ONION_COVER_PER_MINUTE_MAX {
            return Err(over("cover_per_minute", ONION_COVER_PER_MINUTE_MAX));
        }
        Ok(())
    }
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
            founding_voters: default_founding_voters(),
            onion: OnionConfig::default(),
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
        config.onion.check()?;
        if !(VOTERS_MIN..=VOTERS_MAX).contains(&config.founding_voters) {
            return Err(FederationError::new(
                ErrorCode::ConfigInvalid,
                format!("founding_voters: {VOTERS_MIN} to {VOTERS_MAX}"),
            ));
        }
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

fn default_founding_voters() -> usize {
    VOTERS_MIN
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
