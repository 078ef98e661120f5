//! `exo serve`: runs the node in the foreground.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use exo_federation::{Config, ErrorCode, FederatedMesh};
use exo_types::PeerId;
use exo_types::limits::DRAIN_MILLIS_MAX;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rustix::process::{Resource, Rlimit, setrlimit};
use sd_notify::NotifyState;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Context;
use crate::api::{Api, Server};
use crate::exit::{Exit, Failure, Outcome};
use crate::files::{DataDir, write_whole};

/// Arguments of `exo serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write this file once the node answers: {"peer", "mesh", "api"}
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Let the API listen on an address that other machines reach. Its token travels unencrypted
    #[arg(long)]
    allow_remote_api: bool,
    /// Stop when standard input ends, for a program that starts nodes and may die itself
    #[arg(long)]
    stop_with_stdin: bool,
}

/// What the ready file says.
#[derive(Debug, Serialize, serde::Deserialize)]
pub(crate) struct ReadyDoc {
    /// The node.
    pub(crate) peer: PeerId,
    /// Where it listens for peers.
    pub(crate) mesh: SocketAddr,
    /// Where its API listens.
    pub(crate) api: SocketAddr,
}

/// Runs the node until it is told to stop.
pub(crate) fn run(context: &Context, args: Args) -> Outcome {
    let config = Config::load(context.data_dir.path())?;
    check_api_address(&config, args.allow_remote_api)?;
    no_core_files();
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| Failure::new(ErrorCode::Internal, format!("metrics: {error}")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ErrorCode::Io, format!("runtime: {error}")))?;
    let served = runtime.block_on(Box::pin(serve(&context.data_dir, &config, args, metrics)));
    // Whatever has not ended by now is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    served
}

async fn serve(
    data_dir: &DataDir,
    config: &Config,
    args: Args,
    metrics: PrometheusHandle,
) -> Outcome {
    // Watched from the first moment, so that a signal while opening is not lost.
    let mut signals = Signals::new()?;
    data_dir.make_token()?;
    let token = data_dir.token()?;
    let mesh = Box::pin(FederatedMesh::open(data_dir.path())).await?;
    let server = match Server::bind(config.api_listen).await {
        Ok(server) => server,
        Err(error) => {
            mesh.shutdown().await;
            let message = format!("the API cannot listen on {}: {error}", config.api_listen);
            return Err(Failure::new(ErrorCode::AddressInUse, message));
        }
    };
    let listen = server.listen();
    let api = Api::new(mesh.clone(), token, listen, args.allow_remote_api, Some(metrics.clone()));
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(server.serve(api.clone(), stopped));
    tokio::spawn(upkeep(metrics));
    if let Err(failure) = ready(data_dir, &mesh, listen, args.ready_file.as_deref()) {
        mesh.shutdown().await;
        return Err(failure);
    }
    tracing::info!(peer = %mesh.peer_id(), mesh = %mesh.mesh_listen(), api = %listen, "ready");

    let why = signals.first(args.stop_with_stdin).await;
    tracing::info!(why, "stopping");
    abort_on_second_signal(signals);
    // A service manager that does not listen changes nothing.
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    data_dir.retract();
    api.stop_admitting();
    stop.send_replace(true);
    let drain = async {
        let _ = serving.await;
        mesh.shutdown().await;
    };
    if tokio::time::timeout(Duration::from_millis(DRAIN_MILLIS_MAX), drain).await.is_err() {
        tracing::warn!("some work did not finish in time");
    }
    if let Some(path) = args.ready_file {
        let _ = std::fs::remove_file(path);
    }
    tracing::info!("stopped");
    Ok(Exit::Ok)
}

/// Folds what the histograms have collected, so that they do not grow while nobody reads them.
async fn upkeep(metrics: PrometheusHandle) {
    let mut every = tokio::time::interval(METRICS_UPKEEP);
    loop {
        every.tick().await;
        metrics.run_upkeep();
    }
}

/// A core file would hold keys: none is written, whatever the shell's limit.
fn no_core_files() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core files are not switched off");
    }
}

/// An API that others reach is a decision, never an accident.
fn check_api_address(config: &Config, allowed: bool) -> Result<(), Failure> {
    if config.api_listen.ip().is_loopback() {
        return Ok(());
    }
    if allowed {
        tracing::warn!(api = %config.api_listen, "the API can be reached by other machines");
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::ConfigInvalid,
        format!("api_listen {} can be reached by other machines", config.api_listen),
    )
    .with_remedy(
        "Set api_listen to a loopback address in config.toml; `--allow-remote-api` serves it all the same.",
    ))
}

/// Tells everybody who waits that the node answers.
fn ready(
    data_dir: &DataDir,
    mesh: &FederatedMesh,
    api: SocketAddr,
    file: Option<&Path>,
) -> Result<(), Failure> {
    data_dir.announce(api)?;
    if let Some(path) = file {
        let doc = ReadyDoc { peer: mesh.peer_id(), mesh: mesh.mesh_listen(), api };
        let text = serde_json::to_vec(&doc)
            .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
        write_whole(path, &text)?;
    }
    // A service manager that does not listen changes nothing.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    Ok(())
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let watch = |kind| {
            signal(kind).map_err(|error| Failure::new(ErrorCode::Io, format!("signals: {error}")))
        };
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
        })
    }

    /// Waits for the first reason to stop.
    async fn first(&mut self, with_stdin: bool) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            () = stdin_ends(), if with_stdin => "standard input ended",
        }
    }
}

/// Returns when whoever holds the other end of standard input is gone. On a thread of its own: a
/// read of standard input cannot be taken back.
async fn stdin_ends() {
    let (ended, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = wait.await;
}

/// While work is being finished, a second signal ends the process at once.
fn abort_on_second_signal(mut signals: Signals) {
    tokio::spawn(async move {
        signals.first(false).await;
        std::process::exit(i32::from(Exit::Interrupted as u8));
    });
}

/// How often histograms are folded.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
