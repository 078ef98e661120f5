//! Floods of rubbish: memory stays bounded and honest queries are answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use exo_federation::driver::net::{BindConfig, EncryptedChannel, Endpoint, NetLimits, Purpose};
use exo_federation::{Config, FederatedMesh, NodeName, join_federation};
use serde_json::Value;

use super::fleet::{Fleet, status_of};

/// Rubbish a second, over the mesh and over the local API alike.
const RUBBISH_PER_SECOND: u32 = 1_000;
/// Connections that say nothing.
const SILENT: usize = 200;
/// What a node may grow by under all of that, KiB.
const GROWTH_KIB_MAX: u64 = 128 * 1024;

/// Five seconds here; `EXO_SOAK_SECONDS=60` for the long run.
#[test]
fn rubbish_and_silence_leave_memory_bounded_and_honest_queries_answered() {
    let seconds = std::env::var("EXO_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let lasts = Duration::from_secs(seconds.unwrap_or(5));
    let fleet = Fleet::start(&["asker", "target"], None);
    for node in &fleet.nodes {
        let records = fleet.path().join(format!("{}.jsonl", node.name));
        let line = format!("{{\"id\":\"{}:1\",\"text\":\"honest answer\"}}\n", node.name);
        std::fs::write(&records, line).expect("written");
        node.ok(&["import", records.to_str().expect("path"), "--into", "notes"]);
    }
    let before = fleet.nodes[1].resident_kib();

    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mesh = runtime.block_on(flood_mesh(&fleet, Arc::clone(&stop), Arc::clone(&sent)));
    let api = flood_api(&fleet, Arc::clone(&stop), Arc::clone(&sent));

    let until = Instant::now() + lasts;
    let (mut asked, mut answered, mut peak) = (0, 0, before);
    while Instant::now() < until {
        let answer = &fleet.nodes[0].query(&["honest answer", "--deadline", "2s"])[0];
        let elapsed = answer["elapsed_ms"].as_f64().expect("a time");
        assert!(elapsed < 2_500.0, "a query hung for {elapsed} ms");
        asked += 1;
        answered += usize::from(status_of(answer, "target") == "answered");
        peak = peak.max(fleet.nodes[1].resident_kib());
        std::thread::sleep(Duration::from_millis(100));
    }
    stop.store(true, Ordering::Relaxed);
    api.join().expect("the API's flood ends");
    runtime.block_on(mesh).expect("the mesh's flood ends");
    runtime.shutdown_timeout(Duration::from_secs(1));
    let sent = sent.load(Ordering::Relaxed);
    println!(
        "{lasts:?}: {sent} requests of rubbish and {SILENT} silent connections; {answered} of \
         {asked} honest queries answered by the target; its memory {before} KiB before, {peak} \
         KiB at most"
    );
    let least = u64::from(RUBBISH_PER_SECOND) * lasts.as_secs() / 2;
    assert!(sent as u64 >= least, "only {sent} requests of rubbish were sent");
    assert!(answered * 100 >= asked * 95, "{answered} of {asked} honest queries were answered");
    assert!(peak - before < GROWTH_KIB_MAX, "memory grew from {before} to {peak} KiB");
}

/// A member that sends rubbish, strangers that connect, and members' connections that say nothing.
async fn flood_mesh(
    fleet: &Fleet,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
) -> tokio::task::JoinHandle<()> {
    let dir = fleet.path().join("rogue");
    let invite = fleet.nodes[0].json(&["invite", "new", "--auto-approve"]);
    let mut config = Config::new(NodeName::new("rogue").expect("a name"));
    config.mesh_listen = SocketAddr::from(([127, 0, 0, 1], 0));
    FederatedMesh::init(&dir, &config).expect("a node");
    let rogue = FederatedMesh::open(&dir).await.expect("it opens");
    let ticket = invite["ticket"].as_str().expect("a ticket");
    join_federation(&rogue, ticket, Duration::from_secs(10)).await.expect("it joins");
    // The target hears of the new member from the founder; then the honest node makes way.
    let target = loop {
        let active = |peer: &exo_federation::PeerView| {
            peer.name.as_str() == "target" && peer.state == exo_federation::PeerState::Active
        };
        if let Some(peer) = rogue.peers().into_iter().find(active) {
            break peer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    rogue.shutdown().await;
    drop(rogue);
    let keys = exo_crypto::load_identity(&dir.join("keys/identity.key")).expect("its key");
    let member = endpoint(keys);
    let stranger = endpoint(exo_crypto::PostQuantumKeypair::generate().expect("a key"));
    let port = target.addresses[0].port;
    let at = SocketAddr::from(([127, 0, 0, 1], port));

    let mut silent: Vec<EncryptedChannel> = Vec::new();
    for from in [&member, &stranger] {
        for _ in 0..SILENT / 4 {
            silent.extend(from.connect(at, target.peer, Purpose::Member).await);
        }
    }
    let talking = member.connect(at, target.peer, Purpose::Member).await.expect("it connects");
    tokio::spawn(async move {
        let every = Duration::from_secs(1) / (RUBBISH_PER_SECOND / 2);
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let mut seed = 0u32;
        let mut talking = talking;
        while !stop.load(Ordering::Relaxed) {
            tick.tick().await;
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let body: Vec<u8> = (0..64).map(|at| (seed >> (at % 24)) as u8).collect();
            if talking.is_closed() {
                // A node may close on whoever misbehaves; the flood comes back.
                match member.connect(at, target.peer, Purpose::Member).await {
                    Ok(again) => talking = again,
                    Err(_) => continue,
                }
            }
            let channel = talking.clone();
            sent.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                // Whatever comes back, if anything.
                let _ = channel.request(body, Duration::from_secs(2)).await;
            });
        }
        drop(silent);
        drop(stranger);
    })
}

fn endpoint(identity: exo_crypto::PostQuantumKeypair) -> Endpoint {
    Endpoint::bind(BindConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        identity: Arc::new(identity),
        admit: Arc::new(|_| false),
        limits: NetLimits::default(),
    })
    .expect("an endpoint")
}

/// Silent connections to the target's API, and invalid queries on others.
fn flood_api(
    fleet: &Fleet,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
) -> std::thread::JoinHandle<()> {
    let dir = &fleet.nodes[1].dir;
    let text = std::fs::read_to_string(dir.join("api.json")).expect("the API's address");
    let api: Value = serde_json::from_str(&text).expect("JSON");
    let address = api["listen"].as_str().expect("an address");
    let address: SocketAddr = address.parse().expect("an address");
    let token = std::fs::read_to_string(dir.join("keys/api.token")).expect("the token");
    let token = token.trim().to_owned();
    std::thread::spawn(move || {
        let silent: Vec<_> =
            (0..SILENT / 2).filter_map(|_| TcpStream::connect(address).ok()).collect();
        let bodies = [
            "{\"text\":\"x\",\"top_k\":0}",
            "{\"text\":\"\"}",
            "{\"vector\":[1e999]}",
            "{\"text\":\"x\",\"top_k\":9223372036854775808}",
            "{\"text\":\"x\",\"unknown\":1}",
            "{",
        ];
        let every = Duration::from_secs(1) / (RUBBISH_PER_SECOND / 2);
        let mut due = Instant::now();
        let mut connection = None;
        while !stop.load(Ordering::Relaxed) {
            for body in bodies {
                let request = format!(
                    "POST /v1/queries HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer \
                     {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                match exchange(&mut connection, address, &request) {
                    Some(status) => assert_eq!(status, b'4', "invalid input was not refused"),
                    None => connection = None,
                }
                sent.fetch_add(1, Ordering::Relaxed);
                due += every;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        drop(silent);
    })
}

/// One request and the first digit of its answer's status; `None` when the connection is gone.
fn exchange(connection: &mut Option<TcpStream>, address: SocketAddr, request: &str) -> Option<u8> {
    if connection.is_none() {
        let fresh = TcpStream::connect(address).ok()?;
        fresh.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        *connection = Some(fresh);
    }
    let stream = connection.as_mut()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = [0u8; 4096];
    let read = stream.read(&mut answer).ok()?;
    answer.get(9).copied().filter(|_| read > 9)
}
