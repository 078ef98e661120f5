//! The data directory: configuration, keys, state, and the lock that keeps a second node out.
//!
//! ```text
//! config.toml        what the node is configured with
//! keys/identity.key  the identity (0600 in 0700)
//! keys/cosigner.key  cosigns the log of decisions
//! keys/cosigner-next.key  is to follow it, where it was proposed
//! keys/kem.key       the sealing keys of this epoch and the next
//! replays.bin        onion packets taken with these keys, from a clean stop to the next start
//! state.bin          membership, directory, invites, policies
//! substrate.db       the searchable data
//! unbegun            there as long as this node has provably never voted
//! decisions/         the log of decisions, and what this node said about it
//! shared/            a directory for each shared collection
//! lock               held while a node runs
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use exo_crypto::{
    CosignerKeypair, KemError, KemKeyring, KeyFileError, PostQuantumKeypair, load_cosigner,
    load_identity, load_keyring, private_directory, save_cosigner, save_identity, save_keyring,
};
use exo_onion::ReplayCache;
use exo_types::Timestamp;
use exo_types::limits::ONION_REPLAYS_MAX;

use super::decide::Unbegun;
use crate::config::Config;
use crate::error::{ErrorCode, FederationError};

/// A data directory that this process holds.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    _lock: File,
}

impl Store {
    /// Makes a node's directory: keys and configuration. Nothing of an existing node is touched.
    pub(crate) fn init(
        root: &Path,
        config: &Config,
    ) -> Result<PostQuantumKeypair, FederationError> {
        let config_path = Config::path(root);
        if config_path.exists() || identity_path(root).exists() {
            return Err(FederationError::new(
                ErrorCode::AlreadyInitialised,
                format!("{} holds a node already", root.display()),
            ));
        }
        config.addresses()?;
        let text = config.to_toml()?;
        own_directory(root)?;
        private_directory(&keys_path(root)).map_err(|error| key_error(&error))?;
        let keypair = PostQuantumKeypair::generate()
            .map_err(|error| FederationError::new(ErrorCode::Internal, error.to_string()))?;
        save_identity(&identity_path(root), &keypair).map_err(|error| key_error(&error))?;
        // Last, for it is what says that a node is here.
        write_synced(&config_path, text.as_bytes()).map_err(|e| io_error(&config_path, &e))?;
        Ok(keypair)
    }

    /// Takes the directory into use; refused while another process has it.
    pub(crate) fn open(root: &Path) -> Result<Self, FederationError> {
        let path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| io_error(&path, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root: root.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(FederationError::new(
                ErrorCode::DataLocked,
                format!("another process runs the node in {}", root.display()),
            )),
            Err(TryLockError::Error(error)) => Err(io_error(&path, &error)),
        }
    }

    /// The identity.
    pub(crate) fn identity(&self) -> Result<PostQuantumKeypair, FederationError> {
        load_identity(&identity_path(&self.root)).map_err(|error| key_error(&error))
    }

    /// The key that cosigns the log, made where there is none yet.
    pub(crate) fn cosigner(&self) -> Result<CosignerKeypair, FederationError> {
        let path = keys_path(&self.root).join("cosigner.key");
        match load_cosigner(&path) {
            Err(KeyFileError::Missing { .. }) => {
                let made = CosignerKeypair::generate().map_err(|error| {
                    FederationError::new(ErrorCode::Internal, error.to_string())
                })?;
                save_cosigner(&path, &made).map_err(|error| key_error(&error))?;
                Ok(made)
            }
            found => found.map_err(|error| key_error(&error)),
        }
    }

    /// The key that is to follow the one that cosigns, where there is one.
    pub(crate) fn next_cosigner(&self) -> Result<Option<CosignerKeypair>, FederationError> {
        match load_cosigner(&self.next_cosigner_path()) {
            Err(KeyFileError::Missing { .. }) => Ok(None),
            found => found.map(Some).map_err(|error| key_error(&error)),
        }
    }

    /// Makes the key that is to follow.
    pub(crate) fn make_next_cosigner(&self) -> Result<CosignerKeypair, FederationError> {
        let made = CosignerKeypair::generate()
            .map_err(|error| FederationError::new(ErrorCode::Internal, error.to_string()))?;
        save_cosigner(&self.next_cosigner_path(), &made).map_err(|error| key_error(&error))?;
        Ok(made)
    }

    /// The key that followed is the only one now.
    pub(crate) fn settle_cosigner(&self) -> Result<(), FederationError> {
        let (from, to) = (self.next_cosigner_path(), keys_path(&self.root).join("cosigner.key"));
        let moved =
            fs::rename(&from, &to).and_then(|()| File::open(keys_path(&self.root))?.sync_all());
        moved.map_err(|error| io_error(&from, &error))
    }

    fn next_cosigner_path(&self) -> PathBuf {
        keys_path(&self.root).join("cosigner-next.key")
    }

    /// The sealing keys, made or moved to the epoch of `now` where that is due.
    pub(crate) fn keyring(&self, now: Timestamp) -> Result<KemKeyring, FederationError> {
        let path = self.keyring_path();
        let (mut ring, fresh) = match load_keyring(&path) {
            Ok(ring) => (ring, false),
            Err(KeyFileError::Missing { .. }) => {
                (KemKeyring::generate(now).map_err(|error| sealing_error(&error))?, true)
            }
            Err(error) => return Err(key_error(&error)),
        };
        let rotated = ring.rotate(now).map_err(|error| sealing_error(&error))?;
        if rotated || fresh {
            save_keyring(&path, &ring).map_err(|error| key_error(&error))?;
        }
        Ok(ring)
    }

    /// Onion packets that a former run took, where it ended as it should. They are read once: after a
    /// crash an old file would let in what came since.
    pub(crate) fn take_replays(&self) -> Result<Option<ReplayCache>, FederationError> {
        let path = self.replays_path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path, &error)),
        };
        let mut bytes = Vec::new();
        // One that is longer than it can be is cut here, and damaged.
        let read = file.take(REPLAYS_FILE_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| io_error(&path, &error))?;
        let removed = fs::remove_file(&path).and_then(|()| File::open(&self.root)?.sync_all());
        removed.map_err(|error| io_error(&path, &error))?;
        Ok(ReplayCache::from_bytes(&bytes).ok())
    }

    /// Keeps the onion packets that were taken, when no more are.
    pub(crate) fn save_replays(&self, replays: &ReplayCache) -> Result<(), FederationError> {
        let path = self.replays_path();
        write_synced(&path, &replays.to_bytes()).map_err(|error| io_error(&path, &error))
    }

    /// Sealing keys under which no packet has ever been taken.
    pub(crate) fn fresh_keyring(&self, now: Timestamp) -> Result<KemKeyring, FederationError> {
        let mut ring = self.keyring(now)?;
        ring.replace(now).map_err(|error| sealing_error(&error))?;
        save_keyring(&self.keyring_path(), &ring).map_err(|error| key_error(&error))?;
        Ok(ring)
    }

    /// The state a former run left.
    pub(crate) fn state(&self) -> Result<Option<Vec<u8>>, FederationError> {
        let path = self.state_path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path, &error)),
        };
        let mut bytes = Vec::new();
        let read = file.take(STATE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| io_error(&path, &error))?;
        if bytes.len() as u64 > STATE_FILE_BYTES_MAX {
            return Err(FederationError::new(
                ErrorCode::DataCorrupt,
                format!("{} is longer than a state can be", path.display()),
            ));
        }
        Ok(Some(bytes))
    }

    /// Makes a state durable: a crash leaves the old one or this one.
    pub(crate) fn save_state(&self, bytes: &[u8]) -> Result<(), FederationError> {
        let path = self.state_path();
        write_synced(&path, bytes).map_err(|error| io_error(&path, &error))
    }

    /// Where the shared collections are.
    pub(crate) fn shared_path(&self) -> PathBuf {
        self.root.join("shared")
    }

    /// Where the log of decisions and its journal are.
    pub(crate) fn decisions_path(&self) -> PathBuf {
        self.root.join("decisions")
    }

    /// The mark of a node that has not begun to decide.
    pub(crate) fn unbegun(&self) -> Unbegun {
        Unbegun::at(self.root.join("unbegun"))
    }

    /// Where the substrate keeps its data.
    pub(crate) fn substrate_path(&self) -> PathBuf {
        self.root.join("substrate.db")
    }

    fn keyring_path(&self) -> PathBuf {
        keys_path(&self.root).join("kem.key")
    }

    fn replays_path(&self) -> PathBuf {
        self.root.join("replays.bin")
    }

    fn state_path(&self) -> PathBuf {
        self.root.join("state.bin")
    }
}

/// Makes the data directory, or takes one that is there as long as nobody else may write into it.
/// What is secret in it is private by itself.
fn own_directory(root: &Path) -> Result<(), FederationError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
    made.map_err(|error| io_error(root, &error))?;
    let mode = fs::metadata(root).map_err(|error| io_error(root, &error))?.permissions().mode();
    if mode & 0o022 == 0 {
        return Ok(());
    }
    Err(FederationError::new(
        ErrorCode::KeyPermissions,
        format!("{} can be written by others; `chmod go-w` it", root.display()),
    ))
}

fn keys_path(root: &Path) -> PathBuf {
    root.join("keys")
}

fn identity_path(root: &Path) -> PathBuf {
    keys_path(root).join("identity.key")
}

/// Writes beside the place, syncs, renames, and syncs the directory.
fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_parent(path)
}

/// Makes durable which names there are beside a file.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn io_error(path: &Path, error: &io::Error) -> FederationError {
    FederationError::new(ErrorCode::Io, format!("{}: {error}", path.display()))
}

fn sealing_error(error: &KemError) -> FederationError {
    FederationError::new(ErrorCode::Internal, format!("sealing keys: {error}"))
}

/// A key file's error with the code that tells what to do.
fn key_error(error: &KeyFileError) -> FederationError {
    let code = match error {
        KeyFileError::Missing { .. } => ErrorCode::NotInitialised,
        KeyFileError::Exists { .. } => ErrorCode::AlreadyInitialised,
        KeyFileError::Io { .. } => ErrorCode::Io,
        KeyFileError::Damaged { .. } | KeyFileError::Length { .. } => ErrorCode::DataCorrupt,
        _ => ErrorCode::KeyPermissions,
    };
    FederationError::new(code, error.to_string())
}

/// Length of the state file, bytes.
const STATE_FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Length of the file of onion packets taken, bytes: 16 for each, and a little for the steps.
const REPLAYS_FILE_BYTES_MAX: u64 = 16 * ONION_REPLAYS_MAX as u64 + 4 * 1024;

#[cfg(test)]
mod tests {
    use exo_types::NodeName;

    use super::*;

    fn config() -> Config {
        Config::new(NodeName::new("lab").expect("name"))
    }

    #[test]
    fn a_directory_holds_one_node_and_one_process() {
        let root = tempfile::tempdir().expect("directory");
        let root = root.path().join("node");
        let made = Store::init(&root, &config()).expect("makes a node");
        let again = Store::init(&root, &config()).expect_err("a second node");
        assert_eq!(again.code, ErrorCode::AlreadyInitialised);
        let store = Store::open(&root).expect("opens");
        assert_eq!(store.identity().expect("identity").peer_id(), made.peer_id());
        assert_eq!(Store::open(&root).expect_err("held").code, ErrorCode::DataLocked);
        drop(store);
        Store::open(&root).expect("free again");
    }

    #[test]
    fn a_directory_that_is_there_is_taken_unless_others_may_write_into_it() {
        let root = tempfile::tempdir().expect("directory");
        let mode = |dir: &Path, mode| {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode)).expect("permissions");
        };
        for (name, bits, taken) in [("usual", 0o755, true), ("open", 0o777, false)] {
            let dir = root.path().join(name);
            fs::create_dir(&dir).expect("directory");
            mode(&dir, bits);
            assert_eq!(Store::init(&dir, &config()).is_ok(), taken, "{name}");
        }
    }

    #[test]
    fn a_state_replaces_the_one_before() {
        let root = tempfile::tempdir().expect("directory");
        let root = root.path().join("node");
        Store::init(&root, &config()).expect("makes a node");
        let store = Store::open(&root).expect("opens");
        assert_eq!(store.state().expect("reads"), None);
        store.save_state(b"one").expect("saves");
        store.save_state(b"two").expect("saves");
        assert_eq!(store.state().expect("reads").as_deref(), Some(b"two".as_slice()));
    }

    #[test]
    fn remembered_packets_are_good_for_one_start_and_fresh_keys_open_nothing_old() {
        let root = tempfile::tempdir().expect("directory");
        let root = root.path().join("node");
        Store::init(&root, &config()).expect("makes a node");
        let store = Store::open(&root).expect("opens");
        let now = Timestamp(1_800_000_000_000);
        assert!(store.take_replays().expect("reads").is_none(), "there was no former run");
        store.save_replays(&ReplayCache::new()).expect("saves");
        assert!(store.take_replays().expect("reads").is_some());
        assert!(store.take_replays().expect("reads").is_none(), "after a crash they are not there");
        let keypair = store.identity().expect("identity");
        let epochs = |ring: &KemKeyring| {
            ring.announce(&keypair).expect("signs").map(|key| (key.epoch, key.key.clone()))
        };
        let ring = store.keyring(now).expect("keys");
        let old = epochs(&ring);
        assert_eq!(epochs(&store.keyring(now).expect("keys")), old, "keys are kept");
        let fresh = store.fresh_keyring(now).expect("keys");
        assert!(old.iter().all(|(epoch, _)| fresh.pair(*epoch, now).is_none()));
        assert_eq!(epochs(&store.keyring(now).expect("keys")), epochs(&fresh), "and saved");
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let root = tempfile::tempdir().expect("directory");
        let root = root.path().join("node");
        Store::init(&root, &config()).expect("makes a node");
        let store = Store::open(&root).expect("opens");
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(identity_path(&root), open).expect("permissions");
        assert_eq!(store.identity().expect_err("readable").code, ErrorCode::KeyPermissions);
    }
}
