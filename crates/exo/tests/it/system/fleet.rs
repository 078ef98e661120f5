//! Starting, asking and killing real nodes.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::http::raw;

/// Nodes of one federation, each a process with a data directory of its own.
pub(super) struct Fleet {
    root: TempDir,
    pub(super) nodes: Vec<Process>,
}

/// One node.
pub(super) struct Process {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    /// What it logs; the default of the command unless given.
    log_filter: Option<String>,
    child: Option<Child>,
}

impl Fleet {
    /// Starts nodes and joins them into one federation that the first founds.
    pub(super) fn start(names: &[&str], exact_scan_records: Option<usize>) -> Self {
        Self::start_logging(names, exact_scan_records, None)
    }

    /// As [`Fleet::start`], with another filter for the logs.
    pub(super) fn start_logging(
        names: &[&str],
        exact_scan_records: Option<usize>,
        log_filter: Option<&str>,
    ) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let mut nodes = Vec::new();
        for name in names {
            let dir = root.path().join(name);
            let log_filter = log_filter.map(str::to_owned);
            let mut node = Process { name: (*name).to_owned(), dir, log_filter, child: None };
            let listen = "127.0.0.1:0";
            node.ok(&["init", "--name", name, "--mesh-listen", listen, "--api-listen", listen]);
            if let Some(records) = exact_scan_records {
                let path = node.dir.join("config.toml");
                let text = fs::read_to_string(&path).expect("the configuration");
                // Before the first section, whose keys follow it.
                let text = format!("exact_scan_records = {records}\n{text}");
                fs::write(&path, text).expect("the configuration");
            }
            node.serve();
            // The port is kept, so that the others find the node again after a restart.
            node.keep_port();
            nodes.push(node);
        }
        let fleet = Self { root, nodes };
        for (at, node) in fleet.nodes.iter().enumerate().skip(1) {
            let invite = fleet.nodes[0].json(&["invite", "new", "--auto-approve"]);
            let ticket = fleet.root.path().join(format!("{at}.ticket"));
            fs::write(&ticket, invite["ticket"].as_str().expect("a ticket")).expect("written");
            node.ok(&["join", "--ticket-file", ticket.to_str().expect("path")]);
        }
        fleet.wait_active();
        fleet
    }

    /// Waits until every node has a session with every other.
    pub(super) fn wait_active(&self) {
        let others = self.nodes.len() - 1;
        let until = Instant::now() + Duration::from_secs(30);
        for node in &self.nodes {
            loop {
                let status = node.run(&["status", "--json"]);
                let text = String::from_utf8_lossy(&status.stdout).into_owned();
                let active = serde_json::from_str::<Value>(&text)
                    .ok()
                    .and_then(|status| status["peers"]["active"].as_u64());
                if active == Some(others as u64) {
                    break;
                }
                assert!(
                    Instant::now() < until,
                    "{} sees {active:?} of {others}: {text}",
                    node.name
                );
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.root.path()
    }
}

impl Process {
    /// Starts the process and waits until it is ready.
    pub(super) fn serve(&mut self) {
        let ready = self.dir.join("ready.json");
        // One of an earlier run says nothing about this one.
        let _ = fs::remove_file(&ready);
        let log = fs::File::create(self.dir.join("log")).expect("a log");
        let mut command = exo();
        if let Some(filter) = &self.log_filter {
            command.args(["--log", filter]);
        }
        let child = command
            .args(["--data-dir", self.dir.to_str().expect("path"), "serve", "--ready-file"])
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the node starts");
        self.child = Some(child);
        let until = Instant::now() + Duration::from_secs(30);
        while !ready.exists() {
            assert!(Instant::now() < until, "{} is not ready: {}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Writes the port that the system chose into the configuration.
    fn keep_port(&self) {
        let mesh = self.ready("mesh");
        let path = self.dir.join("config.toml");
        let text = fs::read_to_string(&path).expect("the configuration");
        let text =
            text.replace("mesh_listen = \"127.0.0.1:0\"", &format!("mesh_listen = \"{mesh}\""));
        fs::write(&path, text).expect("the configuration");
    }

    /// What it said of itself when it was ready: `peer`, `mesh` or `api`.
    pub(super) fn ready(&self, what: &str) -> String {
        let ready = fs::read_to_string(self.dir.join("ready.json")).expect("ready");
        let ready: Value = serde_json::from_str(&ready).expect("JSON");
        ready[what].as_str().expect("a text").to_owned()
    }

    /// The body of what the node's API answers to a request.
    pub(super) fn api(&self, method: &str, path: &str, body: &str) -> String {
        let token = fs::read_to_string(self.dir.join("keys/api.token")).expect("a token");
        let listen: SocketAddr = self.ready("api").parse().expect("an address");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {listen}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            token.trim(),
            body.len(),
        );
        let answer = raw(listen, request.as_bytes());
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
        answer.body
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("gone");
        }
    }

    /// Resident memory, KiB.
    pub(super) fn resident_kib(&self) -> u64 {
        let id = self.child.as_ref().expect("it runs").id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Runs a command against this node.
    pub(super) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the command runs")
    }

    /// A command against this node, to be started by the caller.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = exo();
        command.arg("--data-dir").arg(&self.dir).args(args).stdin(Stdio::null());
        command
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub(super) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {args:?}: {stderr}\n{}", self.name, self.log());
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a command that must succeed and print one JSON document.
    pub(super) fn json(&self, args: &[&str]) -> Value {
        let mut with_json = args.to_vec();
        with_json.push("--json");
        serde_json::from_str(&self.ok(&with_json)).expect("JSON")
    }

    /// Runs a query and gives its documents, whatever its exit code.
    pub(super) fn query(&self, args: &[&str]) -> Vec<Value> {
        let mut all = vec!["query", "--json"];
        all.extend(args);
        documents(&self.run(&all).stdout)
    }

    /// What it has logged since it was started last.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The command under test.
fn exo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exo"));
    command.env_remove("EXO_DATA_DIR").env_remove("EXO_LOG").env("NO_COLOR", "1");
    command
}

/// JSON documents, one a line.
pub(super) fn documents(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The status of one source in a query's document.
pub(super) fn status_of<'a>(answer: &'a Value, source: &str) -> &'a str {
    let sources = answer["sources"].as_array().expect("sources");
    let found = sources.iter().find(|one| one["source"] == source).expect("the source is named");
    found["status"].as_str().expect("a status")
}
