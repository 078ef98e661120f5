//! The demo's node processes: started, killed, started again, and never left behind.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use exo_federation::{Config, ErrorCode};
use exo_types::NodeName;

use super::super::init;
use super::super::serve::ReadyDoc;
use crate::client::Client;
use crate::exit::Failure;
use crate::files::{DataDir, read_small};

/// One node of the demo.
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: NodeName,
    /// Its directory.
    pub(crate) data_dir: DataDir,
    /// What it said when it was ready.
    pub(crate) ready: ReadyDoc,
    /// The way to its API.
    pub(crate) client: Client,
    slot: usize,
}

/// Processes that are ended when this is dropped, on every path out of the demo. Besides, each node
/// stops by itself when its standard input ends, should this process be killed.
#[derive(Clone)]
pub(crate) struct Processes(Arc<Mutex<Held>>);

struct Held {
    children: Vec<Option<Child>>,
    /// Removed with the processes.
    remove: Option<PathBuf>,
    closed: bool,
}

impl Processes {
    /// None yet; `remove` goes with them.
    pub(crate) fn new(remove: Option<PathBuf>) -> Self {
        Self(Arc::new(Mutex::new(Held { children: Vec::new(), remove, closed: false })))
    }

    /// Ends all processes and removes their directory. Nothing can be started afterwards.
    pub(crate) fn end(&self) {
        let mut held = self.held();
        held.closed = true;
        for child in held.children.iter_mut().flatten() {
            // One that has ended by itself cannot be killed, and need not be.
            let _ = child.kill();
        }
        for child in held.children.iter_mut().filter_map(Option::take) {
            let mut child = child;
            let _ = child.wait();
        }
        if let Some(path) = held.remove.take() {
            let _ = std::fs::remove_dir_all(path);
        }
    }

    /// Whether they are ended while the demo still runs: only a signal does that.
    pub(crate) fn ended_by_signal(&self) -> bool {
        self.held().closed
    }

    /// The process of a node that runs.
    pub(crate) fn id(&self, node: &Node) -> Option<u32> {
        self.held().children.get(node.slot)?.as_ref().map(Child::id)
    }

    /// Kills one with SIGKILL: it gets no chance to say goodbye.
    pub(crate) fn kill(&self, node: &Node) -> Result<(), Failure> {
        let mut held = self.held();
        let Some(child) = held.children.get_mut(node.slot).and_then(Option::take) else {
            return Ok(());
        };
        let mut child = child;
        child.kill().and_then(|()| child.wait()).map(drop).map_err(|error| {
            Failure::new(ErrorCode::Io, format!("node {} cannot be killed: {error}", node.name))
        })
    }

    fn spawn(
        &self,
        slot: usize,
        data_dir: &DataDir,
        ready: &Path,
        env: &[(&str, &str)],
    ) -> Result<(), Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(ErrorCode::Io, format!("a node process cannot be started: {error}"))
        };
        let program = std::env::current_exe().map_err(failed)?;
        let log = log_path(data_dir);
        let log = File::options().create(true).append(true).open(&log).map_err(failed)?;
        let mut held = self.held();
        if held.closed {
            return Err(Failure::new(ErrorCode::Interrupted, "the demo is ending"));
        }
        let child = Command::new(program)
            .arg("--data-dir")
            .arg(data_dir.path())
            .args(["serve", "--stop-with-stdin", "--ready-file"])
            .arg(ready)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        if held.children.len() <= slot {
            held.children.resize_with(slot + 1, || None);
        }
        held.children[slot] = Some(child);
        Ok(())
    }

    /// Whether a process has ended.
    fn ended(&self, slot: usize) -> bool {
        let mut held = self.held();
        let child = held.children.get_mut(slot).and_then(Option::as_mut);
        child.is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // What a thread that panicked left behind must be ended all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the processes when the demo is left, by whatever way.
pub(crate) struct EndOnDrop(pub(crate) Processes);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Makes nodes below a directory and starts them, all at once. `configure` changes every node's
/// configuration.
pub(crate) fn start_with(
    processes: &Processes,
    root: &Path,
    names: &[NodeName],
    configure: &dyn Fn(&mut Config),
) -> Result<Vec<Node>, Failure> {
    let mut starting = Vec::with_capacity(names.len());
    for (slot, name) in names.iter().enumerate() {
        let data_dir = DataDir::new(root.join(name.as_str()));
        let mut config = Config::new(name.clone());
        // Port 0: the system chooses, so that demos do not get into each other's way.
        config.mesh_listen.set_ip([127, 0, 0, 1].into());
        config.mesh_listen.set_port(0);
        config.api_listen.set_port(0);
        configure(&mut config);
        init::make(&data_dir, &config)?;
        let ready = ready_path(&data_dir);
        processes.spawn(slot, &data_dir, &ready, &[])?;
        starting.push((slot, name, data_dir, config));
    }
    let mut nodes = Vec::with_capacity(names.len());
    for (slot, name, data_dir, mut config) in starting {
        let ready = wait(processes, slot, &data_dir)?;
        // From now on it keeps its port, as a real node does: its peers find it again.
        config.mesh_listen = ready.mesh;
        let path = Config::path(data_dir.path());
        std::fs::write(&path, config.to_toml()?).map_err(|error| Failure::file(&path, &error))?;
        let client = Client::open(&data_dir)?;
        nodes.push(Node { name: name.clone(), data_dir, ready, client, slot });
    }
    Ok(nodes)
}

/// Starts a node that was killed.
pub(crate) fn restart(processes: &Processes, node: &mut Node) -> Result<(), Failure> {
    restart_as(processes, node, &[])
}

/// As [`restart`], with something in its environment.
pub(crate) fn restart_as(
    processes: &Processes,
    node: &mut Node,
    env: &[(&str, &str)],
) -> Result<(), Failure> {
    let ready = ready_path(&node.data_dir);
    let _ = std::fs::remove_file(&ready);
    processes.spawn(node.slot, &node.data_dir, &ready, env)?;
    node.ready = wait(processes, node.slot, &node.data_dir)?;
    node.client = Client::open(&node.data_dir)?;
    Ok(())
}

/// Waits until a node says that it is ready, or has ended.
fn wait(processes: &Processes, slot: usize, data_dir: &DataDir) -> Result<ReadyDoc, Failure> {
    let path = ready_path(data_dir);
    let began = Instant::now();
    loop {
        if path.exists() {
            let text = read_small(&path)?;
            return serde_json::from_str(&text).map_err(|error| {
                Failure::new(ErrorCode::Internal, format!("{}: {error}", path.display()))
            });
        }
        let ended = processes.ended(slot);
        if ended || began.elapsed() > READY_WITHIN {
            let what = if ended { "ended" } else { "was not ready in time" };
            let log = std::fs::read_to_string(log_path(data_dir)).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(LOG_TAIL_LINES).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            let message =
                format!("the node of {} {what}: {}", data_dir.path().display(), tail.join(" | "));
            return Err(Failure::new(ErrorCode::NodeNotRunning, message));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Where a node's log goes.
pub(crate) fn log_path(data_dir: &DataDir) -> PathBuf {
    data_dir.path().join(LOG)
}

fn ready_path(data_dir: &DataDir) -> PathBuf {
    data_dir.path().join("ready.json")
}

/// Name of a node's log.
const LOG: &str = "serve.log";
/// Lines of a log that are shown when a node fails.
const LOG_TAIL_LINES: usize = 4;
/// How long a node may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
