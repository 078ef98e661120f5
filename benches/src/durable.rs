//! Taking signed batches in, verified and durable, and the store beside fjall and redb, in one run:
//! `cargo run --release --manifest-path benches/Cargo.toml --bin durable -- --help`.
//!
//! What arrives is one message a batch: 256 entries under one signature, each with a value of 1 KiB. It is
//! decoded, its signature, entries and values are verified, the replica takes it in, and the store writes it
//! and syncs the file before the next: with `verifying` another thread decodes and verifies meanwhile.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use exo_crdt::checkpoint::CollectionKind;
use exo_crdt::sim::Members;
use exo_crdt::sync::{Item, SyncMessage};
use exo_crdt::{Clock, Replica, Store, Value, WriteBatch, Writer};
use exo_federation::driver::shared::{SharedCollection, SharedLog, VerifiedWrites};
use exo_types::codec::Wire;
use exo_types::{CollectionName, RecordId, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// Taking signed batches in, verified and durable, and the store beside fjall and redb.
#[derive(Parser)]
struct Args {
    /// Batches of 256 entries.
    #[arg(long, default_value_t = 800)]
    batches: usize,
    /// Length of a value, bytes.
    #[arg(long, default_value_t = 1024)]
    value: usize,
    /// Batches in one atomic write.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16])]
    group: Vec<usize>,
    /// Rounds to take the median of.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where to write; the system's directory for temporary files otherwise.
    #[arg(long)]
    dir: Option<std::path::PathBuf>,
    /// Not beside other stores.
    #[arg(long)]
    alone: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Where the seconds of the thread that takes in went.
#[derive(Clone, Copy, Default)]
struct Spent {
    wall: f64,
    decode: f64,
    verify: f64,
    apply: f64,
    save: f64,
    /// Processor time of the whole process.
    cpu: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let members = Members::new(1)?;
    let name = CollectionName::new("bench").context("a name")?;
    let sent = messages(&args, &members, &name)?;
    let root = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut rows = Vec::new();
    for group in &args.group {
        for threads in [1, 2] {
            let mut rounds = Vec::new();
            for _ in 0..args.rounds {
                let dir = tempfile::tempdir_in(&root)?;
                rounds.push(take_in(&sent, *group, threads, dir.path(), &members, &name)?);
            }
            let what = if threads == 1 { "one thread" } else { "verifying on another thread" };
            rows.push((format!("exo, {what}, {group} batches a write"), median(rounds)));
        }
    }
    let mut stores = Vec::new();
    if !args.alone {
        let writes = writes(&sent, &members, &name)?;
        for group in &args.group {
            stores.push(("exo's log", *group, stored(&args, &root, &writes, *group, exo)?));
            stores.push(("fjall 3", *group, stored(&args, &root, &writes, *group, fjall)?));
            stores.push(("redb 4", *group, stored(&args, &root, &writes, *group, redb)?));
        }
    }
    print(&args, &rows, &stores);
    Ok(())
}

fn print(args: &Args, rows: &[(String, Spent)], stores: &[(&str, usize, f64)]) {
    let entries = (args.batches * 256) as f64;
    if args.json {
        let taken: Vec<_> = rows.iter().map(|(what, s)| json!({
            "what": what, "entries_per_s": entries / s.wall, "cpu_us": s.cpu / entries * 1e6,
            "decode_us": s.decode / entries * 1e6, "verify_us": s.verify / entries * 1e6,
            "apply_us": s.apply / entries * 1e6, "save_us": s.save / entries * 1e6,
        })).collect();
        let stores: Vec<_> = stores
            .iter()
            .map(|(what, group, wall)| {
                json!({
                    "store": what, "batches_per_write": group, "records_per_s": entries / wall,
                })
            })
            .collect();
        println!("{}", json!({"taken_in": taken, "stores": stores}));
        return;
    }
    println!(
        "| taken in, durable | entries/s | decode | verify | apply | save, µs | CPU µs an entry |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (what, s) in rows {
        let each = |seconds: f64| seconds / entries * 1e6;
        println!(
            "| {what} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            entries / s.wall,
            each(s.decode),
            each(s.verify),
            each(s.apply),
            each(s.save),
            each(s.cpu)
        );
    }
    println!("\n| store, the same writes | batches a write | records/s |\n|---|---|---|");
    for (what, group, wall) in stores {
        println!("| {what} | {group} | {:.0} |", entries / wall);
    }
}

fn median(mut rounds: Vec<Spent>) -> Spent {
    rounds.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    rounds.get(rounds.len() / 2).copied().unwrap_or_default()
}

/// Messages of one batch each, as a synchronisation brings them.
fn messages(args: &Args, members: &Members, name: &CollectionName) -> Result<Vec<Vec<u8>>> {
    let replica = Replica::new(name.clone(), CollectionKind::LastWriter);
    let author = members.keypair(0).peer_id();
    let mut writer = Writer::new(author, name.clone(), replica.chain_end(&author));
    let (mut clock, mut sent, mut bits) = (Clock::default(), Vec::new(), 1u64);
    for batch in 0..args.batches {
        let mut values = Vec::new();
        for n in 0..=u8::MAX {
            let mut bytes = vec![0; args.value];
            for byte in &mut bytes {
                bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (bits >> 56) as u8;
            }
            let value = Value { salt: [n; 32], bytes };
            let key = RecordId::new(format!("record-{batch}-{n}")).context("a key")?;
            let now = Timestamp(1_800_000_000_000 + batch as u64);
            writer.write(key, value.put(), Vec::new(), &mut clock, now)?;
            values.push((n, value));
        }
        let batch = writer.flush(members.keypair(0), replica.epoch_ref())?.context("a batch")?;
        let item = Item::Batch { batch: batch.to_batch(), values };
        sent.push(SyncMessage::Items(vec![item]).to_wire()?);
    }
    Ok(sent)
}

fn decode(wire: &[u8]) -> Result<(exo_crdt::Batch, Vec<(u8, Value)>)> {
    let SyncMessage::Items(mut items) = SyncMessage::from_wire(wire)? else { bail!("no items") };
    match items.pop() {
        Some(Item::Batch { batch, values }) => Ok((batch, values)),
        _ => bail!("no batch"),
    }
}

fn take_in(
    sent: &[Vec<u8>],
    group: usize,
    threads: usize,
    dir: &Path,
    members: &Members,
    name: &CollectionName,
) -> Result<Spent> {
    let store = SharedLog::open(&dir.join("log"))?;
    let mut collection =
        SharedCollection::open(store, name.clone(), CollectionKind::LastWriter, members)?;
    let (mut spent, cpu, start) = (Spent::default(), cpu_time(), Instant::now());
    let prepare = |messages: &[Vec<u8>], spent: &mut Spent| -> Result<Vec<VerifiedWrites>> {
        let mut ready = Vec::with_capacity(messages.len());
        for wire in messages {
            let begun = Instant::now();
            let (batch, values) = decode(wire)?;
            let decoded = Instant::now();
            ready.push(VerifiedWrites::verify(batch, values, name, members)?);
            spent.decode += (decoded - begun).as_secs_f64();
            spent.verify += decoded.elapsed().as_secs_f64();
        }
        Ok(ready)
    };
    let mut take = |ready: Vec<VerifiedWrites>, spent: &mut Spent| -> Result<()> {
        let begun = Instant::now();
        let taken = collection.apply(ready, WriteBatch::default())?;
        spent.save += begun.elapsed().as_secs_f64();
        if taken.refused.is_empty() { Ok(()) } else { bail!("refused") }
    };
    if threads == 1 {
        for messages in sent.chunks(group) {
            let ready = prepare(messages, &mut spent)?;
            take(ready, &mut spent)?;
        }
    } else {
        std::thread::scope(|scope| {
            let (give, get) = sync_channel(4);
            let verifier = scope.spawn(move || -> Result<Spent> {
                let mut spent = Spent::default();
                for messages in sent.chunks(group) {
                    give.send(prepare(messages, &mut spent)?)?;
                }
                Ok(spent)
            });
            get.iter().try_for_each(|ready| take(ready, &mut spent))?;
            let Ok(verified) = verifier.join() else { bail!("the verifier ended") };
            let verified = verified?;
            (spent.decode, spent.verify) = (verified.decode, verified.verify);
            anyhow::Ok(())
        })?;
    }
    spent.wall = start.elapsed().as_secs_f64();
    spent.cpu = cpu_time() - cpu;
    // What the replica alone takes, to be told from the store's part.
    let mut replica = Replica::new(name.clone(), CollectionKind::LastWriter);
    let ready: Vec<_> = sent.iter().map(|wire| decode(wire)).collect::<Result<_>>()?;
    for (batch, values) in ready {
        let batch = exo_crdt::VerifiedBatch::verify(batch, name, members)?;
        let values = batch.open_values(values);
        let begun = Instant::now();
        let mut write = replica.apply(batch)?.write;
        write.append(replica.put_values(values)?);
        std::hint::black_box(&write);
        spent.apply += begun.elapsed().as_secs_f64();
    }
    spent.save -= spent.apply;
    if collection.replica().entries() != sent.len() * 256 {
        bail!("entries are missing");
    }
    Ok(spent)
}

/// What a replica wants saved of each message.
fn writes(sent: &[Vec<u8>], members: &Members, name: &CollectionName) -> Result<Vec<WriteBatch>> {
    let mut replica = Replica::new(name.clone(), CollectionKind::LastWriter);
    let mut writes = Vec::new();
    for wire in sent {
        let (batch, values) = decode(wire)?;
        let batch = exo_crdt::VerifiedBatch::verify(batch, name, members)?;
        let values = batch.open_values(values);
        let mut write = replica.apply(batch)?.write;
        write.append(replica.put_values(values)?);
        writes.push(write);
    }
    Ok(writes)
}

type Saver = fn(&Path, &[WriteBatch]) -> Result<()>;

/// Seconds to save all writes in groups, each group one atomic write that is synced.
fn stored(
    args: &Args,
    root: &Path,
    writes: &[WriteBatch],
    group: usize,
    save: Saver,
) -> Result<f64> {
    let groups: Vec<WriteBatch> = writes
        .chunks(group)
        .map(|writes| {
            let mut all = WriteBatch::default();
            writes.iter().for_each(|write| all.append(write.clone()));
            all
        })
        .collect();
    let mut times = Vec::new();
    for _ in 0..args.rounds {
        let dir = tempfile::tempdir_in(root)?;
        let start = Instant::now();
        save(dir.path(), &groups)?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().context("a round")
}

fn exo(dir: &Path, writes: &[WriteBatch]) -> Result<()> {
    let mut log = SharedLog::open(&dir.join("log"))?;
    writes.iter().try_for_each(|write| Ok(log.commit(write)?))
}

fn fjall(dir: &Path, writes: &[WriteBatch]) -> Result<()> {
    let db = fjall::Database::builder(dir).open()?;
    let items = db.keyspace("items", fjall::KeyspaceCreateOptions::default)?;
    for write in writes {
        let mut batch = db.batch().durability(Some(fjall::PersistMode::SyncData));
        for (key, value) in &write.changes {
            match value {
                Some(value) => batch.insert(&items, key.as_slice(), value.as_slice()),
                None => batch.remove(&items, key.as_slice()),
            }
        }
        batch.commit()?;
    }
    Ok(())
}

fn redb(dir: &Path, writes: &[WriteBatch]) -> Result<()> {
    const ITEMS: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("items");
    let db = redb::Database::create(dir.join("db"))?;
    for write in writes {
        let transaction = db.begin_write()?;
        {
            let mut items = transaction.open_table(ITEMS)?;
            for (key, value) in &write.changes {
                match value {
                    Some(value) => items.insert(key.as_slice(), value.as_slice())?,
                    None => items.remove(key.as_slice())?,
                };
            }
        }
        transaction.commit()?;
    }
    Ok(())
}

/// Processor seconds of the process.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
