//! Secret files: what is written, what is refused, and what the refusal says.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use exo_crypto::keyfile::{read_secret, write_key_file, write_secret};
use exo_crypto::{
    ApiToken, KemKeyring, KeyFileError, KeyFileKind, PostQuantumKeypair, WriteMode, load_identity,
    load_keyring, private_directory, save_identity, save_keyring,
};
use exo_types::Timestamp;
use exo_types::limits::KEY_FILE_BYTES_MAX;
use tempfile::TempDir;

fn home() -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().expect("a directory");
    let keys = home.path().join("node").join("keys");
    private_directory(&keys).expect("makes a private directory");
    (home, keys)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("sets the mode");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("exists").mode() & 0o7777
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("lists");
    entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
}

fn identity(seed: u8) -> PostQuantumKeypair {
    PostQuantumKeypair::from_seed(&[seed; 32]).expect("a seed expands")
}

#[test]
fn an_identity_is_private_to_its_owner_and_the_same_when_read() {
    let (_home, keys) = home();
    let path = keys.join("identity.key");
    save_identity(&path, &identity(1)).expect("writes");
    assert_eq!((mode(&keys), mode(&path)), (0o700, 0o600));
    assert_eq!(load_identity(&path).expect("reads").peer_id(), identity(1).peer_id());
    assert_eq!(names(&keys), ["identity.key"]);
    assert_eq!(fs::metadata(&path).expect("exists").nlink(), 1);
}

#[test]
fn an_identity_is_never_overwritten() {
    let (_home, keys) = home();
    let path = keys.join("identity.key");
    save_identity(&path, &identity(1)).expect("writes");
    let error = save_identity(&path, &identity(2)).expect_err("there is one");
    assert!(matches!(error, KeyFileError::Exists { .. }), "{error}");
    assert_eq!(load_identity(&path).expect("reads").peer_id(), identity(1).peer_id());
    assert_eq!(names(&keys), ["identity.key"]);
}

#[test]
fn a_ring_is_replaced_whole_and_a_leftover_of_a_crash_is_no_obstacle() {
    let (_home, keys) = home();
    let path = keys.join("kem.key");
    fs::write(keys.join("kem.key.new"), b"half a fi").expect("writes");
    for start in [1_000, 2_000] {
        let ring = KemKeyring::generate(Timestamp(start)).expect("a ring");
        save_keyring(&path, &ring).expect("writes");
        let read = load_keyring(&path).expect("reads");
        assert_eq!(read.to_secret_bytes(), ring.to_secret_bytes());
        assert_eq!(
            (names(&keys).as_slice(), mode(&path)),
            (["kem.key".to_owned()].as_slice(), 0o600)
        );
    }
}

#[test]
fn a_token_file_is_its_text_and_a_line_end() {
    let (_home, keys) = home();
    let path = keys.join("api.token");
    let token = ApiToken::generate().expect("randomness");
    token.save(&path, WriteMode::Create).expect("writes");
    let text = fs::read_to_string(&path).expect("reads");
    assert_eq!(text, format!("{}\n", token.expose_text().as_str()));
    assert!(ApiToken::load(&path).expect("reads").matches(text.trim_end()));
    fs::write(&path, &text[..40]).expect("writes");
    let error = ApiToken::load(&path).expect_err("it is cut").to_string();
    assert!(
        error.contains(&path.display().to_string()) && !error.contains(&text[9..40]),
        "{error}"
    );
}

#[test]
fn any_right_of_others_to_the_file_refuses_it_and_names_the_remedy() {
    let (_home, keys) = home();
    let path = keys.join("identity.key");
    save_identity(&path, &identity(1)).expect("writes");
    for bit in [0o040, 0o020, 0o010, 0o004, 0o002, 0o001] {
        chmod(&path, 0o600 | bit);
        let error = load_identity(&path).expect_err("others have a right").to_string();
        assert!(error.contains(&format!("mode {:04o}", 0o600 | bit)), "{error}");
        assert!(error.ends_with(&format!("chmod 600 {}", path.display())), "{error}");
    }
    chmod(&path, 0o400);
    load_identity(&path).expect("less is no harm");
}

#[test]
fn any_right_of_others_to_the_directory_refuses_reading_and_writing() {
    let (_home, keys) = home();
    let path = keys.join("identity.key");
    save_identity(&path, &identity(1)).expect("writes");
    for bit in [0o040, 0o020, 0o010, 0o004, 0o002, 0o001] {
        chmod(&keys, 0o700 | bit);
        let errors = [
            load_identity(&path).expect_err("others have a right").to_string(),
            save_identity(&keys.join("two"), &identity(2)).expect_err("the same").to_string(),
            private_directory(&keys).expect_err("the same").to_string(),
        ];
        for error in errors {
            assert!(error.ends_with(&format!("chmod 700 {}", keys.display())), "{error}");
        }
    }
}

#[test]
fn the_remedy_is_one_word_to_a_shell() {
    let (home, _keys) = home();
    let keys = home.path().join("it's a key");
    private_directory(&keys).expect("makes a directory");
    chmod(&keys, 0o755);
    let error = load_identity(&keys.join("identity.key"));
    let error = error.expect_err("there is none").to_string();
    assert!(error.ends_with("does not exist"), "{error}");
    let error = private_directory(&keys).expect_err("others have a right").to_string();
    assert!(error.ends_with(r"/it'\''s a key'"), "{error}");
}

#[test]
fn links_directories_and_missing_files_are_refused_by_name() {
    let (_home, keys) = home();
    let path = keys.join("identity.key");
    save_identity(&path, &identity(1)).expect("writes");
    let link = keys.join("link");
    symlink(&path, &link).expect("links");
    assert!(matches!(load_identity(&link), Err(KeyFileError::Symlink { .. })));
    let dangling = keys.join("dangling");
    symlink(keys.join("nothing"), &dangling).expect("links");
    assert!(matches!(load_identity(&dangling), Err(KeyFileError::Symlink { .. })));
    let inner = keys.join("inner");
    private_directory(&inner).expect("makes a directory");
    assert!(matches!(load_identity(&inner), Err(KeyFileError::NotAFile { .. })));
    assert!(matches!(load_identity(&keys.join("nothing")), Err(KeyFileError::Missing { .. })));
    assert!(matches!(private_directory(&path), Err(KeyFileError::Io { .. })));
}

#[test]
fn writing_over_a_link_replaces_the_link_and_not_its_target() {
    let (home, keys) = home();
    let target = home.path().join("target");
    fs::write(&target, b"kept").expect("writes");
    let path = keys.join("kem.key");
    symlink(&target, &path).expect("links");
    write_secret(&path, b"secret", WriteMode::Replace).expect("writes");
    assert_eq!(fs::read(&target).expect("reads"), b"kept");
    assert_eq!(read_secret(&path).expect("reads").as_slice(), b"secret");
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_key_file_is_found() {
    let (_home, keys) = home();
    let path = keys.join("identity.key");
    save_identity(&path, &identity(1)).expect("writes");
    let good = fs::read(&path).expect("reads");
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bad).expect("writes");
        let error = load_identity(&path).expect_err("a bit is flipped").to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
    }
    for len in 0..good.len() {
        fs::write(&path, &good[..len]).expect("writes");
        load_identity(&path).expect_err("it is cut");
    }
    fs::write(&path, [good.as_slice(), &[0]].concat()).expect("writes");
    assert!(matches!(load_identity(&path), Err(KeyFileError::Length { .. })));
}

#[test]
fn a_file_of_another_kind_version_or_payload_is_refused() {
    let (_home, keys) = home();
    let path = keys.join("identity.key");
    save_identity(&path, &identity(1)).expect("writes");
    let error = load_keyring(&path).expect_err("an identity").to_string();
    assert!(error.ends_with("does not hold sealing keys"), "{error}");
    let mut newer = fs::read(&path).expect("reads");
    newer[8] = 2;
    fs::write(&path, &newer).expect("writes");
    assert!(matches!(load_identity(&path), Err(KeyFileError::Version { found: 2, .. })));
    write_key_file(&path, KeyFileKind::Identity, &[1; 31], WriteMode::Replace).expect("writes");
    let error = load_identity(&path).expect_err("a byte is missing").to_string();
    assert!(error.contains("a seed has 32 bytes"), "{error}");
}

#[test]
fn a_huge_file_is_refused_before_it_is_read() {
    let (_home, keys) = home();
    let path = keys.join("identity.key");
    let file = fs::File::create(&path).expect("creates");
    file.set_len(1 << 40).expect("a sparse file");
    chmod(&path, 0o600);
    assert!(matches!(load_identity(&path), Err(KeyFileError::Length { .. })));
    let long = vec![7; KEY_FILE_BYTES_MAX + 1];
    let error = write_secret(&path, &long, WriteMode::Replace);
    assert!(matches!(error, Err(KeyFileError::Length { .. })));
    fs::write(&path, &long).expect("writes");
    assert!(matches!(read_secret(&path), Err(KeyFileError::Length { .. })));
    let longest = &long[..KEY_FILE_BYTES_MAX];
    write_secret(&path, longest, WriteMode::Replace).expect("the bound itself is allowed");
    assert_eq!(read_secret(&path).expect("reads").as_slice(), longest);
}
