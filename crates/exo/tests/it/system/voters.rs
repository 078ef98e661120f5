//! Voters of one federation, each a process.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::door::Door;
use super::spaces::{Spaces, host};

/// The processes, in the order in which they joined.
pub(super) struct Voters {
    pub(super) nodes: Vec<Voter>,
    /// Gone after the nodes.
    _root: TempDir,
}

/// One process.
pub(super) struct Voter {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) peer: String,
    /// Where it listens for the others.
    pub(super) mesh: SocketAddr,
    pub(super) door: Arc<Door>,
    child: Option<Child>,
}

impl Voters {
    /// Voters on the loopback interface.
    pub(super) fn start(count: usize) -> Self {
        let places = (0..count).map(|_| Place::local()).collect();
        Self::start_at(places)
    }

    /// Each in the network namespace of its number.
    pub(super) fn start_in(spaces: &Spaces, count: usize) -> Self {
        let place = |at| Place {
            mesh: format!("{}:7700", host(at)).parse().expect("an address"),
            advertise: None,
            space: Some(spaces.name(at)),
        };
        Self::start_at((0..count).map(place).collect())
    }

    /// Starts them, has them join the first, and waits until all decide together.
    pub(super) fn start_at(places: Vec<Place>) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let count = places.len();
        let mut nodes = Vec::new();
        for (at, place) in places.into_iter().enumerate() {
            nodes.push(Voter::make(root.path(), at, count, place));
        }
        let voters = Self { nodes, _root: root };
        let invites = &voters.nodes[0].door;
        for joiner in &voters.nodes[1..] {
            let invite = invites.json("POST", "/v1/invites", &json!({"auto_approve": true}));
            joiner.door.json("POST", "/v1/join", &json!({"ticket": invite["ticket"]}));
            joiner.wait_member();
        }
        voters.wait_whole();
        voters
    }

    /// Waits until every node has a session with every other and all decide.
    pub(super) fn wait_whole(&self) {
        for node in &self.nodes {
            node.until("it reaches all voters", |consensus| {
                let voters = consensus["voters"].as_array();
                voters.is_some_and(|voters| {
                    voters.len() == self.nodes.len()
                        && voters.iter().all(|voter| voter["active"] == true)
                })
            });
        }
    }

    /// Waits until all have the same log and its end is certified at all; the log's size.
    pub(super) fn wait_same(&self) -> u64 {
        let began = Instant::now();
        loop {
            let all: Vec<Value> = self.nodes.iter().map(|node| node.door.consensus()).collect();
            let settled = |one: &Value| one["certified"] == one["executed"];
            if all.iter().all(|one| settled(one) && one["root"] == all[0]["root"])
                && let Some(size) = all[0]["size"].as_u64()
            {
                return size;
            }
            if began.elapsed() > PATIENCE {
                let logs: Vec<String> = self.nodes.iter().map(Voter::log).collect();
                panic!("the logs stay different: {all:#?}\n{}", logs.join("\n---\n"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Nodes by seat, so that one follows another as primaries do.
    pub(super) fn by_seat(&self) -> Vec<usize> {
        let consensus = self.nodes[0].door.consensus();
        let seats = consensus["voters"].as_array().expect("voters").clone();
        let at = |voter: &Value| self.nodes.iter().position(|node| voter["peer"] == node.peer);
        seats.iter().map(|voter| at(voter).expect("a voter is a node")).collect()
    }

    /// Who leads, as most of the nodes that answer say.
    pub(super) fn primary(&self) -> Option<usize> {
        let mut told = vec![0; self.nodes.len()];
        for node in self.nodes.iter().filter(|node| node.runs()) {
            let primary = node.door.consensus()["primary"].clone();
            if let Some(at) = self.nodes.iter().position(|node| primary == node.peer) {
                told[at] += 1;
            }
        }
        let (at, times) = told.iter().enumerate().max_by_key(|(_, times)| **times)?;
        (*times > 0).then_some(at)
    }

    pub(super) fn doors(&self) -> Vec<Arc<Door>> {
        self.nodes.iter().map(|node| Arc::clone(&node.door)).collect()
    }
}

/// Where a node is.
pub(super) struct Place {
    pub(super) mesh: SocketAddr,
    /// Where it says that it is, if elsewhere.
    pub(super) advertise: Option<SocketAddr>,
    pub(super) space: Option<String>,
}

impl Place {
    /// A free port of the loopback interface.
    pub(super) fn local() -> Self {
        let probe = UdpSocket::bind("127.0.0.1:0").expect("a port");
        Self { mesh: probe.local_addr().expect("is bound"), advertise: None, space: None }
    }
}

impl Voter {
    fn make(root: &Path, at: usize, count: usize, place: Place) -> Self {
        let name = format!("voter-{at}");
        let dir = root.join(&name);
        let Place { mesh, advertise, space } = place;
        let door = Arc::new(Door::of(space));
        let mut node = Self { name, dir, peer: String::new(), mesh, door, child: None };
        let (listen, voters) = (mesh.to_string(), count.to_string());
        let mut args = vec!["init", "--name", &node.name, "--mesh-listen", &listen];
        args.extend(["--api-listen", "127.0.0.1:0"]);
        if at == 0 {
            args.extend(["--found", "--voters", &voters]);
        }
        let made = exo(None).arg("--data-dir").arg(&node.dir).args(&args).output().expect("runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        if let Some(advertise) = advertise {
            let path = node.dir.join("config.toml");
            let text = fs::read_to_string(&path).expect("the configuration");
            let lines: Vec<&str> =
                text.lines().filter(|line| !line.starts_with("advertise")).collect();
            let text = format!("advertise = [\"{advertise}\"]\n{}\n", lines.join("\n"));
            fs::write(&path, text).expect("the configuration");
        }
        node.serve();
        node
    }

    /// Starts the process and waits until it is ready.
    pub(super) fn serve(&mut self) {
        self.serve_with(&[]);
        assert!(self.wait_ready(), "{} ended: {}", self.name, self.log());
    }

    /// Starts the process with more in its environment.
    pub(super) fn serve_with(&mut self, env: &[(&str, &str)]) {
        let ready = self.dir.join("ready.json");
        // One of an earlier run says nothing about this one.
        let _ = fs::remove_file(&ready);
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log"));
        let mut command = exo(self.door.space.as_deref());
        command.arg("--data-dir").arg(&self.dir).args(["serve", "--ready-file"]).arg(&ready);
        command.envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("a log"));
        self.child = Some(command.spawn().expect("the node starts"));
    }

    /// Waits until the process is ready; false when it has ended instead.
    pub(super) fn wait_ready(&mut self) -> bool {
        let began = Instant::now();
        let path = self.dir.join("ready.json");
        let ready: Value = loop {
            if let Ok(text) = fs::read_to_string(&path)
                && let Ok(ready) = serde_json::from_str(&text)
            {
                break ready;
            }
            if self.ended() {
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "{} is not ready: {}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(10));
        };
        let text = |what: &str| ready[what].as_str().expect("a text").to_owned();
        self.peer = text("peer");
        let token = fs::read_to_string(self.dir.join("keys/api.token")).expect("a token");
        let api = text("api").parse().expect("an address");
        self.door.set(Some((api, token.trim().to_owned())));
        true
    }

    /// Whether the process has ended by itself.
    pub(super) fn ended(&mut self) -> bool {
        let child = self.child.as_mut().expect("was started");
        child.try_wait().expect("is waited for").is_some()
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub(super) fn kill(&mut self) {
        self.door.set(None);
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            child.wait().expect("gone");
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Resident memory and the most it ever was, KiB.
    pub(super) fn memory_kib(&self) -> (u64, u64) {
        let id = self.child.as_ref().expect("it runs").id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
        let of = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("a size");
            line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// Waits until the node is a member.
    fn wait_member(&self) {
        let began = Instant::now();
        loop {
            let status = self.door.json("GET", "/v1/status", &Value::Null);
            if !status["federation"].is_null() {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{} does not join: {}", self.name, status["join"]);
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until how deciding stands at the node is as wanted.
    pub(super) fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let consensus = self.door.consensus();
            if wanted(&consensus) {
                return consensus;
            }
            if began.elapsed() > PATIENCE {
                panic!("{}: not {what}: {consensus:#}\n{}", self.name, self.log());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// What it has logged, in all its lives.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Voter {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The command under test, in a network namespace where one is named.
fn exo(space: Option<&str>) -> Command {
    let binary = env!("CARGO_BIN_EXE_exo");
    let mut command = match space {
        None => Command::new(binary),
        Some(space) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", space, binary]);
            command
        }
    };
    command.env_remove("EXO_DATA_DIR").env_remove("EXO_LOG").env("NO_COLOR", "1");
    command
}

/// How long anything may take that is not measured.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
