//! One real node, and the command that speaks to it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A node process with a directory of its own; ended when dropped.
pub(super) struct Node {
    root: TempDir,
    pub(super) ready: Value,
    child: Child,
}

impl Node {
    /// Makes and starts a node on ports that the system chooses.
    pub(super) fn start(name: &str) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("data");
        init(&dir, name);
        let (child, ready) = serve(&dir, root.path());
        Self { root, ready, child }
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// A path beside the data directory.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file beside the data directory.
    pub(super) fn write(&self, name: &str, text: &str) -> String {
        let path = self.file(name);
        fs::write(&path, text).expect("written");
        path.to_str().expect("path").to_owned()
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn api(&self) -> std::net::SocketAddr {
        self.ready["api"].as_str().and_then(|api| api.parse().ok()).expect("an address")
    }

    pub(super) fn token(&self) -> String {
        fs::read_to_string(self.dir().join("keys/api.token")).expect("a token").trim().to_owned()
    }

    /// Runs a command against this node.
    pub(super) fn run(&self, args: &[&str]) -> Output {
        run(&self.dir(), args)
    }

    /// Runs a command with a standard input.
    pub(super) fn run_with_stdin(&self, args: &[&str], input: &str) -> Output {
        let mut command = exo();
        command.arg("--data-dir").arg(self.dir()).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
        child.wait_with_output().expect("it ends")
    }

    /// Runs a command that must succeed and print one JSON document.
    pub(super) fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        serde_json::from_slice(&output.stdout).expect("one JSON document")
    }

    /// Imports records given as JSON lines.
    pub(super) fn import(&self, collection: &str, lines: &str) {
        let file = self.write(&format!("{collection}.jsonl"), lines);
        self.json(&["import", &file, "--into", collection]);
    }

    /// Joins another node to this one without words.
    pub(super) fn admit(&self, other: &Self) {
        let invite = self.json(&["invite", "new", "--auto-approve"]);
        let ticket = other.write("ticket", invite["ticket"].as_str().expect("a ticket"));
        // Where the approval takes a moment, the words are printed as well.
        let joined = other.run(&["join", "--ticket-file", &ticket]);
        assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
        for node in [self, other] {
            until("both have a session", || node.json(&["status"])["peers"]["active"] == 1);
        }
    }

    pub(super) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits until the process ends; its exit code.
    pub(super) fn wait(&mut self) -> Option<i32> {
        let mut code = None;
        until("the node ends", || match self.child.try_wait().expect("waited for") {
            Some(status) => {
                code = status.code();
                true
            }
            None => false,
        });
        code
    }

    /// Kills the process and starts it again.
    pub(super) fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        (self.child, self.ready) = serve(&self.dir(), self.root.path());
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.root.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a node.
pub(super) fn init(dir: &Path, name: &str) {
    let free = "127.0.0.1:0";
    let made = run(dir, &["init", "--name", name, "--mesh-listen", free, "--api-listen", free]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Runs a command against a directory.
pub(super) fn run(dir: &Path, args: &[&str]) -> Output {
    let mut command = exo();
    command.arg("--data-dir").arg(dir).args(args).stdin(Stdio::null());
    command.output().expect("it runs")
}

/// The command under test.
pub(super) fn exo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exo"));
    command.env_remove("EXO_DATA_DIR").env_remove("EXO_LOG").env("NO_COLOR", "1");
    command
}

/// Sends a signal by its name.
pub(super) fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status();
    assert!(sent.expect("kill runs").success(), "no process {process}");
}

/// Waits, half a minute at most.
pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn serve(dir: &Path, root: &Path) -> (Child, Value) {
    let ready = root.join("ready.json");
    let _ = fs::remove_file(&ready);
    let log = fs::File::create(root.join("log")).expect("a log");
    let mut command = exo();
    command.arg("--data-dir").arg(dir).arg("serve").arg("--ready-file").arg(&ready);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let child = command.spawn().expect("it starts");
    until("the node is ready", || ready.exists());
    let text = fs::read_to_string(&ready).expect("the ready file");
    (child, serde_json::from_str(&text).expect("JSON"))
}
