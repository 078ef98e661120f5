//! The handle a node holds, and the backends it can open by name.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use crate::embedded::EmbeddedSubstrate;
use crate::error::SubstrateError;
use crate::substrate::Substrate;

/// A substrate and the name of its backend. Cheap to clone; clones are the same substrate.
#[derive(Clone, Debug)]
pub struct SubstrateInstance {
    backend: &'static str,
    inner: Arc<dyn Substrate>,
}

impl SubstrateInstance {
    /// Opens a substrate by its backend's name; see [`SubstrateInstance::backends`].
    pub async fn open(backend: &str, options: OpenOptions) -> Result<Self, SubstrateError> {
        // One line a backend.
        match backend {
            EmbeddedSubstrate::NAME => {
                let substrate = EmbeddedSubstrate::open(options).await?;
                Ok(Self::new(EmbeddedSubstrate::NAME, substrate))
            }
            _ => Err(SubstrateError::Backend {
                name: backend.to_owned(),
                known: Self::backends().join(", "),
            }),
        }
    }

    /// The names of the backends built in.
    pub const fn backends() -> &'static [&'static str] {
        &[EmbeddedSubstrate::NAME]
    }

    /// Wraps a substrate that was made elsewhere.
    pub fn new(backend: &'static str, substrate: impl Substrate + 'static) -> Self {
        Self { backend, inner: Arc::new(substrate) }
    }

    /// The name of its backend.
    pub fn backend(&self) -> &'static str {
        self.backend
    }
}

impl Deref for SubstrateInstance {
    type Target = dyn Substrate;

    fn deref(&self) -> &Self::Target {
        &*self.inner
    }
}

/// How a substrate is opened. A backend ignores what does not concern it.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The store's file, created when missing.
    pub path: PathBuf,
    /// Collections with more vectors than this are searched approximately: candidates by one bit a
    /// component, then exact scores.
    pub exact_scan_records_max: usize,
    /// Connections that read at once, 1 to [`exo_types::limits::READ_CONNECTIONS_MAX`].
    pub read_connections: usize,
}

impl OpenOptions {
    /// The usual settings for a store at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            exact_scan_records_max: exo_types::limits::EXACT_SCAN_RECORDS_MAX,
            read_connections: std::thread::available_parallelism()
                .map_or(READ_CONNECTIONS_LEAST, usize::from)
                .clamp(READ_CONNECTIONS_LEAST, READ_CONNECTIONS_MOST),
        }
    }
}

/// Read connections unless asked otherwise: as many as there are processors, within these. Each
/// costs a few megabytes of page cache.
const READ_CONNECTIONS_LEAST: usize = 2;
/// See [`READ_CONNECTIONS_LEAST`].
const READ_CONNECTIONS_MOST: usize = 16;
