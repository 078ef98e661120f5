//! Replicated types and their synchronisation beside negentropy, riblt and crdts, in one run on one core:
//! `cargo run --release --manifest-path benches/Cargo.toml --bin sync -- --help`.
//!
//! Two sets of 32-byte ids find out what differs, with every message encoded and decoded in between. Bytes
//! are those of all messages, the want-list included; the items themselves are not. Round trips end when
//! each side knows what to send. Times are CPU times of the thread over both sides, medians of the rounds.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use crdts::CvRDT;
use exo_crdt::sync::{LinkSecret, SetMessage, SetSync, SyncMessage, set::prefix};
use exo_crdt::{
    CollectionKind, Delta, GSet, Hlc, LWWMap, Merge, Operation, Replica, Stamp, StateRoot, Value,
    VerifiedBatch, Writer,
};
use exo_types::codec::Wire;
use exo_types::{CollectionName, PeerId, RecordId, Timestamp};
use negentropy::{Id, Negentropy, NegentropyStorageVector};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// Replicated types and their synchronisation beside negentropy, riblt and crdts.
#[derive(Parser)]
struct Args {
    /// Items of each set.
    #[arg(long, default_value_t = 1_000_000)]
    items: usize,
    /// Items in which the sets differ.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 10_000])]
    differences: Vec<usize>,
    /// Rounds to take the median of.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only the types, not the synchronisation.
    #[arg(long)]
    types_only: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What one reconciliation cost.
#[derive(Clone, Copy, Default)]
struct Cost {
    bytes: usize,
    round_trips: usize,
    millis: f64,
    /// What could be kept from one reconciliation to the next: sorting.
    prepare_millis: f64,
}

struct Row {
    what: String,
    differences: usize,
    cost: Cost,
    /// Rounds with more round trips than the median.
    slower: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut rows = Vec::new();
    if !args.types_only {
        rows.push(row("idle", 0, &[idle(&args)?]));
        for differences in &args.differences {
            synchronise(&args, *differences, &mut rows)?;
        }
    }
    let types = types(&args)?;
    if args.json {
        let rows: Vec<_> = rows.iter().map(|row| json!({
            "what": row.what, "differences": row.differences, "bytes": row.cost.bytes,
            "ratio": row.ratio(), "round_trips": row.cost.round_trips, "cpu_ms": row.cost.millis,
            "prepare_ms": row.cost.prepare_millis, "slower_rounds": row.slower,
        })).collect();
        let types: Vec<_> =
            types.iter().map(|(what, millis)| json!({"what": what, "p50": millis})).collect();
        println!("{}", json!({"items": args.items, "sync": rows, "types": types}));
        return Ok(());
    }
    println!(
        "| {} ids a side | differences | bytes | x difference x 32 B | round trips | CPU ms | sorting ms |",
        args.items
    );
    println!("|---|---|---|---|---|---|---|");
    for row in &rows {
        let Cost { bytes, round_trips, millis, prepare_millis } = row.cost;
        println!(
            "| {} | {} | {bytes} | {:.2} | {round_trips}{} | {millis:.1} | {prepare_millis:.1} |",
            row.what,
            row.differences,
            row.ratio(),
            if row.slower > 0 {
                format!(" ({} of {} rounds more)", row.slower, args.rounds)
            } else {
                String::new()
            },
        );
    }
    println!("\n| operation | |\n|---|---|");
    types.iter().for_each(|(what, value)| println!("| {what} | {value:.2} |"));
    Ok(())
}

impl Row {
    fn ratio(&self) -> f64 {
        self.cost.bytes as f64 / (32 * self.differences.max(1)) as f64
    }
}

/// The medians of several rounds.
fn row(what: &str, differences: usize, costs: &[Cost]) -> Row {
    let median = |of: fn(&Cost) -> f64| {
        let mut all: Vec<_> = costs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let round_trips = median(|cost| cost.round_trips as f64) as usize;
    let cost = Cost {
        bytes: median(|cost| cost.bytes as f64) as usize,
        round_trips,
        millis: median(|cost| cost.millis),
        prepare_millis: median(|cost| cost.prepare_millis),
    };
    let slower = costs.iter().filter(|cost| cost.round_trips > round_trips).count();
    Row { what: what.to_owned(), differences, cost, slower }
}

/// Two sets of ids with the times at which they were made.
struct Sets {
    ids: [Vec<[u8; 32]>; 2],
    times: [Vec<u64>; 2],
}

fn synchronise(args: &Args, differences: usize, rows: &mut Vec<Row>) -> Result<()> {
    for newest in [false, true] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..args.rounds {
            let sets = sets(args.items, differences, newest, round as u64);
            ours.push(exo(&sets, differences, round as u8)?);
            theirs.push(negentropy(&sets, differences, 0)?);
        }
        let place = if newest { "newest" } else { "random" };
        rows.push(row(&format!("exo, {place}"), differences, &ours));
        rows.push(row(&format!("negentropy, {place}"), differences, &theirs));
        if !newest {
            let sets = sets(args.items, differences, newest, 0);
            let frames = negentropy(&sets, differences, 60_000)?;
            rows.push(row("negentropy, random, 60 kB frames", differences, &[frames]));
            if differences <= 1000 {
                rows.push(row("riblt, random", differences, &[riblt(&sets, differences)?]));
            }
        }
    }
    Ok(())
}

fn sets(items: usize, differences: usize, newest: bool, seed: u64) -> Sets {
    let mut numbers = Numbers(seed);
    let mut sets = Sets { ids: [Vec::new(), Vec::new()], times: [Vec::new(), Vec::new()] };
    let half = differences / 2;
    for n in 0..items + half {
        let id = numbers.id();
        let (both, time) = (n < items - half, n as u64);
        // Items that only one side has were made at any time, or after all others.
        let time = if both || newest { time } else { numbers.next() % items as u64 };
        for side in 0..2 {
            if both || (n - (items - half)) % 2 == side {
                sets.ids[side].push(id);
                sets.times[side].push(time);
            }
        }
    }
    sets
}

/// The bytes of two ends that hold the same.
fn idle(args: &Args) -> Result<Cost> {
    let start = cpu_time();
    let name = CollectionName::new("bench").context("a name")?;
    let replica = Replica::new(name, CollectionKind::LastWriter);
    let link = LinkSecret([1; 32]);
    let (_, hello) = exo_crdt::sync::Session::ask(&replica, link, [1; 16]);
    let mut answer = exo_crdt::sync::Session::answer(&replica, link, [2; 16]);
    let hello = hello.to_wire()?;
    answer.handle(&replica, SyncMessage::from_wire(&hello)?, [3; 16])?;
    let reply = answer.next(&replica).context("an answer")?.to_wire()?;
    black_box(args.items);
    Ok(Cost {
        bytes: hello.len() + reply.len(),
        round_trips: 1,
        millis: millis(start),
        prepare_millis: 0.0,
    })
}

fn exo(sets: &Sets, differences: usize, seed: u8) -> Result<Cost> {
    let mut cost = Cost::default();
    let link = LinkSecret([seed; 32]);
    let ids = [sets.ids[0].clone(), sets.ids[1].clone()];
    let start = cpu_time();
    let [a, b] = ids;
    let mut ends = [SetSync::new(a, link, [1; 16])?, SetSync::new(b, link, [1; 16])?];
    let hello = SyncMessage::Hello { root: StateRoot([0; 32]), epoch: 1, nonce: [1; 16] };
    cost.bytes += hello.to_wire()?.len();
    let rest = ends[1].answer([2; 16]);
    let differs = SyncMessage::Differs { tips: Vec::new(), rest }.to_wire()?;
    cost.bytes += differs.len();
    let SyncMessage::Differs { rest, .. } = SyncMessage::from_wire(&differs)? else {
        bail!("another message")
    };
    let mut message = ends[0].open(&rest)?;
    let (mut mine, mut theirs, mut flights) = (0, Vec::new(), 2usize);
    for turn in 1.. {
        let wire = SyncMessage::Set(message).to_wire()?;
        cost.bytes += wire.len();
        flights += 1;
        let SyncMessage::Set(arrived) = SyncMessage::from_wire(&wire)? else {
            bail!("another message")
        };
        let step = ends[turn % 2].handle(&arrived, [turn as u8; 16])?;
        mine += step.mine.len();
        theirs.extend(step.theirs);
        match step.send {
            Some(SetMessage::Ranges(ranges)) if ranges.is_empty() => break,
            Some(next) => message = next,
            None => break,
        }
    }
    let shorts = theirs.iter().map(|short| prefix(*short)).collect();
    let want = SyncMessage::Want { shorts, authors: Vec::new() }.to_wire()?;
    cost.bytes += want.len();
    flights += 1;
    let SyncMessage::Want { shorts, .. } = SyncMessage::from_wire(&want)? else {
        bail!("another message")
    };
    let wanted = ends[0].wanted(&shorts).len();
    cost.millis = millis(start);
    cost.round_trips = flights.div_ceil(2);
    if mine + theirs.len() != differences || wanted < theirs.len() {
        bail!("{} of {differences} differences found", mine + theirs.len());
    }
    Ok(cost)
}

fn negentropy(sets: &Sets, differences: usize, frame: u64) -> Result<Cost> {
    let mut cost = Cost::default();
    let start = cpu_time();
    let mut storages = [NegentropyStorageVector::new(), NegentropyStorageVector::new()];
    for (side, storage) in storages.iter_mut().enumerate() {
        for (id, time) in sets.ids[side].iter().zip(&sets.times[side]) {
            storage.insert(*time, Id::from_byte_array(*id))?;
        }
        storage.seal()?;
    }
    cost.prepare_millis = millis(start);
    let start = cpu_time();
    let [asker, answerer] = &storages;
    let mut asker = Negentropy::borrowed(asker, frame)?;
    let mut answerer = Negentropy::borrowed(answerer, frame)?;
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let mut query = asker.initiate()?;
    loop {
        let reply = answerer.reconcile(&query)?;
        cost.bytes += query.len() + reply.len();
        cost.round_trips += 1;
        match asker.reconcile_with_ids(&reply, &mut have, &mut need)? {
            Some(next) => query = next,
            None => break,
        }
    }
    cost.millis = millis(start);
    // Its want-list names items by their ids.
    cost.bytes += 32 * need.len();
    if have.len() + need.len() != differences {
        bail!("negentropy found {} of {differences} differences", have.len() + need.len());
    }
    Ok(cost)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Symbol([u8; 32]);

impl riblt::Symbol for Symbol {
    const BYTE_ARRAY_LENGTH: usize = 32;

    fn encode_to_bytes(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    fn decode_from_bytes(bytes: &Vec<u8>) -> Self {
        let mut id = [0; 32];
        id.copy_from_slice(bytes);
        Self(id)
    }
}

/// Symbols in blocks, as the crate makes them, until all differences are decoded.
fn riblt(sets: &Sets, differences: usize) -> Result<Cost> {
    const BLOCK: usize = 1024;
    let start = cpu_time();
    let [a, b] = &sets.ids;
    let symbols = |ids: &[[u8; 32]]| ids.iter().map(|id| Symbol(*id)).collect::<Vec<_>>();
    let mut asker = riblt::RatelessIBLT::new(symbols(a));
    let mut answerer = riblt::RatelessIBLT::new(symbols(b));
    let mut received = riblt::UnmanagedRatelessIBLT::new();
    for blocks in 1.. {
        for at in (blocks - 1) * BLOCK..blocks * BLOCK {
            received.add_coded_symbol(&asker.get_coded_symbol(at));
        }
        let mut collapsed = answerer.collapse(&received);
        let found = collapsed.peel_all_symbols().len();
        if collapsed.is_empty() && found == differences {
            // Per symbol 32 bytes, a hash of 8 and a count of 8; the want-list by ids.
            let bytes = blocks * BLOCK * 48 + 32 * differences / 2;
            return Ok(Cost { bytes, round_trips: 2, millis: millis(start), prepare_millis: 0.0 });
        }
        if blocks > 64 {
            bail!("riblt does not decode");
        }
    }
    bail!("riblt does not decode")
}

/// Joins, deltas, and signed batches.
fn types(args: &Args) -> Result<Vec<(String, f64)>> {
    let half = args.items / 2;
    let mut numbers = Numbers(7);
    let keys: Vec<[u8; 32]> = (0..args.items + half).map(|_| numbers.id()).collect();
    let mut shuffled = keys[half..].to_vec();
    for at in (1..shuffled.len()).rev() {
        shuffled.swap(at, numbers.next() as usize % (at + 1));
    }
    let stamp = |n: u64| Stamp::new(Hlc::from_bits(n), PeerId::new([(n % 5) as u8; 32]));
    let map = |keys: &[[u8; 32]], from: u64| {
        let mut map = LWWMap::new();
        for (n, key) in (from..).zip(keys) {
            map.put(*key, n, stamp(n % 1_000_003));
        }
        map
    };
    let mut all = Vec::new();
    let mut timed = |what: &str, mut work: Box<dyn FnMut() -> f64 + '_>| {
        let mut times: Vec<_> = (0..args.rounds).map(|_| work()).collect();
        times.sort_by(f64::total_cmp);
        all.push((what.to_owned(), times[times.len() / 2]));
    };
    let (a, b) = (map(&keys[..args.items], 0), map(&shuffled, 77));
    timed(
        "LWWMap, join of two such maps, half shared, ms",
        Box::new(|| {
            let (mut a, b) = (a.clone(), b.clone());
            let start = cpu_time();
            a.merge(b);
            let time = millis(start);
            black_box(a.cells_len());
            time
        }),
    );
    let delta: LWWMap<_, _> = map(&shuffled[..shuffled.len().min(10_000)], 99);
    timed(
        "LWWMap, join of a delta of 10,000, ms",
        Box::new(|| {
            let (mut a, delta) = (a.clone(), delta.clone());
            let start = cpu_time();
            a.merge_delta(delta);
            let time = millis(start);
            black_box(a.cells_len());
            time
        }),
    );
    drop((a, b, delta));
    let set = |keys: &[[u8; 32]]| keys.iter().copied().collect::<GSet<_>>();
    let (a, b) = (set(&keys[..args.items]), set(&shuffled));
    let delta = set(&shuffled[..shuffled.len().min(10_000)]);
    timed(
        "GSet, join of two such sets, half shared, ms",
        Box::new(|| {
            let (mut a, b) = (a.clone(), b.clone());
            let start = cpu_time();
            a.merge(b);
            let time = millis(start);
            black_box(a.len());
            time
        }),
    );
    timed(
        "GSet, join of a delta of 10,000, ms",
        Box::new(|| {
            let (mut a, delta) = (a.clone(), delta.clone());
            let start = cpu_time();
            a.merge_delta(delta);
            let time = millis(start);
            black_box(a.len());
            time
        }),
    );
    drop((a, b, delta));
    let set = |keys: &[[u8; 32]]| {
        let mut set = crdts::GSet::new();
        keys.iter().for_each(|key| set.insert(*key));
        set
    };
    let (a, b) = (set(&keys[..args.items]), set(&shuffled));
    timed(
        "crdts GSet, join of two such sets, ms",
        Box::new(|| {
            let (mut a, b) = (a.clone(), b.clone());
            let start = cpu_time();
            a.merge(b);
            let time = millis(start);
            black_box(&a);
            time
        }),
    );
    drop((a, b));
    let map = |keys: &[[u8; 32]], actor: u8| {
        let mut map: crdts::Map<[u8; 32], crdts::MVReg<u64, u8>, u8> = crdts::Map::new();
        for key in keys {
            let add = map.read_ctx().derive_add_ctx(actor);
            let op = map.update(*key, add, |register, ctx| register.write(1, ctx));
            crdts::CmRDT::apply(&mut map, op);
        }
        map
    };
    let (a, b) = (map(&keys[..args.items], 1), map(&shuffled, 2));
    let start = cpu_time();
    let mut joined = a;
    joined.merge(b);
    let once = millis(start);
    black_box(&joined);
    drop(joined);
    all.push(("crdts Map of MVReg, join of two such maps, once, ms".to_owned(), once));
    all.extend(batches()?);
    Ok(all)
}

/// Signing, verifying and applying batches of 256.
fn batches() -> Result<Vec<(String, f64)>> {
    const BATCHES: usize = 200;
    let keypair = exo_crypto::PostQuantumKeypair::from_seed(&[1; 32])?;
    let members = exo_crdt::sim::Members::new(1)?;
    let name = CollectionName::new("bench").context("a name")?;
    let replica = Replica::new(name.clone(), CollectionKind::LastWriter);
    let mut writer =
        Writer::new(keypair.peer_id(), name.clone(), replica.chain_end(&keypair.peer_id()));
    let mut clock = exo_crdt::Clock::default();
    let (mut sent, mut signing) = (Vec::new(), 0.0);
    for batch in 0..BATCHES {
        for n in 0..256 {
            let value = Value { salt: [n as u8; 32], bytes: vec![n as u8; 1024] };
            let operation: Operation = value.put();
            let key = RecordId::new(format!("record-{batch}-{n}")).context("a key")?;
            let now = Timestamp(1_800_000_000_000 + batch as u64);
            writer.write(key, operation, Vec::new(), &mut clock, now)?;
        }
        let start = cpu_time();
        let batch = writer.flush(&keypair, replica.epoch_ref())?.context("a batch")?;
        signing += millis(start);
        sent.push(batch.to_batch().to_wire()?);
    }
    let mut replica = replica;
    let start = cpu_time();
    for wire in &sent {
        let batch = VerifiedBatch::verify(exo_crdt::Batch::from_wire(wire)?, &name, &members)?;
        black_box(replica.apply(batch)?);
    }
    let applying = millis(start);
    let entries = (BATCHES * 256) as f64;
    let bytes: usize = sent.iter().map(Vec::len).sum();
    Ok(vec![
        ("signed entries a second, batches of 256".to_owned(), entries / signing * 1e3),
        (
            "entries decoded, verified and applied a second, without a disk".to_owned(),
            entries / applying * 1e3,
        ),
        ("bytes of an entry with its share of the header".to_owned(), bytes as f64 / entries),
        ("bytes of signature an entry".to_owned(), 3309.0 / 256.0),
    ])
}

/// A cheap source of numbers.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn id(&mut self) -> [u8; 32] {
        let mut id = [0; 32];
        id.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&self.next().to_le_bytes()));
        id
    }
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn millis(start: Duration) -> f64 {
    (cpu_time() - start).as_secs_f64() * 1e3
}
