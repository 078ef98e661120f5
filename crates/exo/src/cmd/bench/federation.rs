//! The federation that is asked: processes, membership, data.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use exo_crypto::content_hash;
use exo_federation::{
    CollectionPolicy, Config, ErrorCode, FederatedMesh, FederationError, InviteOptions, PeerState,
};
use exo_substrate::import::{ImportError, ImportPlan};
use exo_types::NodeName;
use tokio::runtime::Runtime;

use super::broken;
use super::data::Data;
use crate::api::dto::Document;
use crate::api::dto::node::{JoinDoc, JoinRequest, StatusDoc};
use crate::cmd::Context;
use crate::cmd::demo::fleet::{self, EndOnDrop, Node, Processes};
use crate::cmd::import;
use crate::exit::Failure;
use crate::output::Output;
use crate::signals::{Stopped, exit_on_signal};

/// Where the nodes run. All of it is gone when this is dropped, or when the program is told to stop.
pub(super) struct Stage {
    /// For the node of this process.
    pub(super) runtime: Runtime,
    /// A directory for all nodes.
    pub(super) root: PathBuf,
    /// The other nodes.
    pub(super) processes: Processes,
    /// Dropped last.
    _end: EndOnDrop,
}

impl Stage {
    /// Nothing runs yet.
    pub(super) fn set(output: Output) -> Result<Self, Failure> {
        let failed = |what: &str, error: std::io::Error| {
            Failure::new(ErrorCode::Io, format!("{what}: {error}"))
        };
        let root = tempfile::Builder::new()
            .prefix("exo-bench-")
            .tempdir()
            .map_err(|error| failed("a temporary directory", error))?
            .keep();
        let processes = Processes::new(Some(root.clone()));
        let _end = EndOnDrop(processes.clone());
        let ending = processes.clone();
        exit_on_signal(
            output,
            Arc::new(move || {
                ending.end();
                Stopped::Early
            }),
        )?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| failed("runtime", error))?;
        Ok(Self { runtime, root, processes, _end })
    }
}

/// Nodes that are members of one federation and hold their records.
pub(super) struct Federation {
    /// The node of this process.
    pub(super) asker: FederatedMesh,
    /// The node processes.
    pub(super) others: Vec<Node>,
    /// Records a second that each of them imported through its API.
    pub(super) import_rates: Vec<f64>,
}

/// Starts the nodes, joins them, imports; waits until everybody has a session with everybody.
/// `configure` changes every node's configuration before its first start.
pub(super) fn start(
    stage: &Stage,
    context: &Context,
    data: &Data,
    nodes: usize,
    configure: &dyn Fn(&mut Config),
) -> Result<Federation, Failure> {
    let Stage { runtime, root, processes, .. } = stage;
    let names: Vec<NodeName> = (1..nodes)
        .map(|node| NodeName::new(format!("node-{node}")))
        .collect::<Result<_, _>>()
        .map_err(|error| broken("a name", error))?;
    let others = fleet::start_with(processes, root, &names, configure)?;
    let asker = runtime.block_on(open(root, "asker", configure))?;
    for node in &others {
        let options = InviteOptions { life: JOIN_WITHIN, auto_approve: true };
        let request = JoinRequest { ticket: asker.invite_new(options)?.ticket };
        let _: Document<JoinDoc> = node.client.post("/v1/join", &request)?;
    }
    runtime.block_on(own_data(&asker, data, nodes))?;
    let mut quiet = context.output;
    quiet.json = true;
    let mut rates = Vec::new();
    for (at, node) in others.iter().enumerate() {
        let (began, mut records) = (Instant::now(), 0);
        for pair in data.of_node(at + 1, nodes) {
            let (file, vectors) = (pair.records.clone(), pair.vectors.clone());
            let args =
                import::Args::pair(file, vectors, data.spec.name.clone(), &data.spec.embedder);
            records += import::import(&quiet, &node.client, &args)?.records;
        }
        if records > 0 {
            rates.push(records as f64 / began.elapsed().as_secs_f64());
        }
    }
    whole(&asker, &others)?;
    Ok(Federation { asker, others, import_rates: rates })
}

/// Makes a node in this process and starts it.
pub(super) async fn open(
    root: &Path,
    name: &str,
    configure: &dyn Fn(&mut Config),
) -> Result<FederatedMesh, Failure> {
    let directory = root.join(name);
    let name = NodeName::new(name).map_err(|error| broken("a name", error))?;
    let mut config = Config::new(name);
    config.mesh_listen = ([127, 0, 0, 1], 0).into();
    configure(&mut config);
    FederatedMesh::init(&directory, &config)?;
    Ok(FederatedMesh::open(&directory).await?)
}

/// The part of the node that asks.
async fn own_data(asker: &FederatedMesh, data: &Data, nodes: usize) -> Result<(), Failure> {
    asker.collection_add(data.spec.clone(), CollectionPolicy::default()).await?;
    let refused =
        |error: ImportError| FederationError::new(ErrorCode::ImportInvalid, error.to_string());
    for pair in data.of_node(0, nodes) {
        let plan = ImportPlan::check(&pair.records, Some(&pair.vectors), &data.spec, |_| ())
            .map_err(refused)?;
        for batch in plan.batches(0, content_hash).map_err(refused)? {
            let batch = batch.map_err(refused)?;
            asker.put(&data.spec.name, batch.records, Some(batch.mark)).await?;
        }
    }
    Ok(())
}

/// Waits until every node has a session with every other.
pub(super) fn whole(asker: &FederatedMesh, others: &[Node]) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let active = |peer: &exo_federation::PeerView| peer.state == PeerState::Active;
        let mut sessions = vec![asker.peers().into_iter().filter(active).count()];
        for node in others {
            let status: Document<StatusDoc> = node.client.get("/v1/status")?;
            sessions.push(status.body.peers.active);
        }
        if sessions.iter().all(|sessions| *sessions == others.len()) {
            return Ok(());
        }
        if began.elapsed() > JOIN_WITHIN {
            return Err(Failure::new(
                ErrorCode::Unreachable,
                format!("the nodes have {sessions:?} sessions of {} each", others.len()),
            ));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// How long joining may take.
pub(super) const JOIN_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);
