//! One validator: network, dissemination of blocks, consensus engine and the measured window.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use commonware_broadcast::buffered;
use commonware_codec::RangeCfg;
use commonware_consensus::{
    simplex::{self, ForwardPolicy, SkipPolicy, elector::RoundRobin, scheme::ed25519::Scheme},
    types::{Epoch, ViewDelta},
};
use commonware_cryptography::{ChaCha20Poly1305, Sha256, Signer as _, ed25519};
use commonware_p2p::{
    Address, AddressableManager as _,
    authenticated::lookup::{self, Network},
};
use commonware_parallel::Sequential;
use commonware_runtime::{
    Clock as _, Quota, Runner as _, Supervisor as _,
    buffer::paged::{CacheRef, page_size},
    tokio,
};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{
    NZU32, NZUsize, NonZeroDuration,
    ordered::{Map, Set},
};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    NodeArgs,
    app::{App, BLOCK_OVERHEAD_BYTES, Block, Report, UPDATE_BYTES, genesis},
};

/// Runs the validator of `args` until its window is over.
pub(crate) fn run(args: &NodeArgs) -> Result<Report> {
    // The runtime's own defaults otherwise: two worker threads, TCP_NODELAY, files synced with fdatasync.
    let runtime = tokio::Config::new().with_storage_directory(&args.dir);
    tokio::Runner::new(runtime).start(|context| validator(context, args))
}

async fn validator(context: tokio::Context, args: &NodeArgs) -> Result<Report> {
    ensure!(args.index < args.nodes, "the index is not below the number of validators");
    let last_port = args.base_port.checked_add(args.nodes - 1).context("ports")?;
    // Keys from the index: this is a benchmark, where every process must know all public keys.
    let keys: Vec<_> =
        (0..args.nodes).map(|i| ed25519::PrivateKey::from_seed(u64::from(i))).collect();
    let signer = keys[usize::from(args.index)].clone();
    let addresses =
        (args.base_port..=last_port).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let peers: Vec<_> =
        keys.iter().map(|k| k.public_key()).zip(addresses.map(Address::Symmetric)).collect();
    let participants = Set::from_iter_dedup(keys.iter().map(|k| k.public_key()));
    let scheme = Scheme::signer(b"exo-bench_CONSENSUS", participants, signer.clone())
        .context("no participant")?;

    let (mut network, mut oracle) =
        Network::new(context.child("network"), network_config(args, signer.clone()));
    oracle.track(0, Map::try_from(peers).map_err(|_| anyhow::anyhow!("a key occurs twice"))?);
    // Above anything reached here, so that no quota shapes a figure.
    let quota = Quota::per_second(NZU32!(8192));
    let votes = network.register(0, quota);
    let certificates = network.register(1, quota);
    let resolver = network.register(2, quota);
    let blocks = network.register(3, quota);

    let body_bytes = args.load.updates() * UPDATE_BYTES;
    let (broadcast, mailbox) = buffered::Engine::<_, _, Block, _, _>::new(
        context.child("broadcast"),
        buffered::Config {
            public_key: signer.public_key(),
            mailbox_size: NZUsize!(1024),
            // Blocks kept for each proposer: of the last 64 views with four of them.
            deque_size: 16,
            // Votes overtake blocks, as the engine sends them with priority and an application does not.
            priority: false,
            codec_config: RangeCfg::from(body_bytes..=body_bytes),
            peer_provider: oracle.clone(),
            strategy: Sequential,
        },
    );
    let app = App::new(context.child("app"), mailbox, &args.load);
    let engine =
        simplex::Engine::new(context.child("engine"), engine_config(args, scheme, oracle, &app));

    network.start();
    broadcast.start(blocks);
    // Connections first: a first leader that nobody hears would cost everyone a timeout.
    context.sleep(Duration::from_secs(2)).await;
    engine.start(votes, certificates, resolver);
    context.sleep(Duration::from_secs(args.load.warmup - 2)).await;

    let cpu_before = cpu();
    let start = Instant::now();
    app.open(start);
    context.sleep(Duration::from_secs(args.load.seconds)).await;
    let mut report = app.close();
    report.window_s = start.elapsed().as_secs_f64();
    report.cpu_ms = (cpu() - cpu_before).as_secs_f64() * 1e3;
    // The others are still measuring: a validator that leaves would cost them its turns as leader.
    context.sleep(Duration::from_secs(1)).await;
    Ok(report)
}

/// Connections between known addresses, each authenticated with Ed25519 at both ends and encrypted with
/// ChaCha20-Poly1305. `local` differs from the settings recommended for production only in how eagerly it
/// dials and what it admits (private addresses, several handshakes a second from one address).
fn network_config(
    args: &NodeArgs,
    signer: ed25519::PrivateKey,
) -> lookup::Config<Cups<Sake<ed25519::PrivateKey>, ChaCha20Poly1305>> {
    let handshake = Sake {
        signer,
        synchrony_bound: Duration::from_secs(5),
        max_handshake_age: Duration::from_secs(10),
        version: sake::Version::V1,
    };
    // The largest message is a block, or with small blocks a certificate or an answer of the resolver.
    let message_bytes_max =
        (args.load.updates() * UPDATE_BYTES + BLOCK_OVERHEAD_BYTES).max(64 * 1024);
    let mut config = lookup::Config::local(
        Cups::new(handshake, cups::Version::V1),
        b"exo-bench_P2P",
        SocketAddr::from((Ipv4Addr::LOCALHOST, args.base_port + args.index)),
        NZUsize!(usize::from(args.nodes)),
        u32::try_from(message_bytes_max).unwrap_or(u32::MAX),
        NZUsize!(1024),
    );
    config.tracked_peer_sets = NZUsize!(1);
    config
}

type Oracle = lookup::Oracle<ed25519::PublicKey>;
type EngineConfig = simplex::Config<
    Scheme,
    RoundRobin<Sha256>,
    Oracle,
    commonware_cryptography::sha256::Digest,
    App,
    App,
    App,
    Sequential,
>;

/// Simplex as its users run it: a new leader each view, certificates of Ed25519 signatures, and a journal
/// in which the voter syncs its own votes before it sends them (one sync an iteration of its loop).
fn engine_config(args: &NodeArgs, scheme: Scheme, oracle: Oracle, app: &App) -> EngineConfig {
    // In low load a leader waits for its update, up to one tick. Otherwise the timeouts are far above a
    // view (about 5 ms) and never part of a figure: the summary counts the views they skipped.
    let tick = args.load.rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate);
    let leader_timeout = Duration::from_secs(1) + tick;
    simplex::Config {
        scheme,
        elector: RoundRobin::default(),
        blocker: oracle,
        automaton: app.clone(),
        relay: app.clone(),
        reporter: app.clone(),
        track_historical_votes: false,
        // Four participants: a batch of three signatures is not worth a pool of threads.
        strategy: Sequential,
        partition: "consensus".into(),
        mailbox_size: NZUsize!(1024),
        epoch: Epoch::zero(),
        floor: simplex::Floor::Genesis(genesis()),
        replay_buffer: NZUsize!(1024 * 1024),
        write_buffer: NZUsize!(1024 * 1024),
        page_cache: CacheRef::new(page_size(4096), NZUsize!(1024)),
        leader_timeout,
        certification_timeout: leader_timeout * 2,
        timeout_retry: leader_timeout * 4,
        view_retention: ViewDelta::new(10),
        skip: SkipPolicy::Disabled,
        fetch_timeout: NonZeroDuration::new_panic(Duration::from_secs(1)),
        fetch_retry_delay: Duration::from_millis(100),
        forward: ForwardPolicy::Disabled,
    }
}

/// Processor time of this process so far, user and system, over all its threads.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
