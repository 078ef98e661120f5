//! Shared collections over real nodes, where every member reads and writes: they converge, over others
//! where need be, and keep what they acknowledged.

use std::path::Path;
use std::time::{Duration, Instant};

use exo_federation::{
    CollectionName, ErrorCode, FederatedMesh, LagState, RecordId, SharedEvent, SharedValue,
};
use exo_types::limits::ENTRY_VALUE_BYTES_MAX;
use futures::future::join_all;

use super::lane::{Net, nodes};
use super::nodes::{Federation, Home, collection, until_async};

pub(super) fn key(text: &str) -> RecordId {
    RecordId::new(text).expect("a key")
}

pub(super) async fn put(node: &FederatedMesh, name: &CollectionName, at: &str, value: &str) {
    node.shared_put(name, &key(at), value.as_bytes().to_vec()).await.expect("is written");
}

/// What a node sees at a key.
pub(super) async fn seen(node: &FederatedMesh, name: &CollectionName, at: &str) -> Option<String> {
    let value = node.shared_get(name, &key(at)).await.ok()??;
    String::from_utf8(value.value?).ok()
}

/// The hash of what a node holds.
pub(super) async fn root(node: &FederatedMesh, name: &CollectionName) -> Option<[u8; 32]> {
    let all = node.shared_collections().await.expect("shows them");
    all.into_iter().find(|view| view.name == *name).map(|view| view.root)
}

/// Waits until all hold the same, and every one of them says of the others that they do.
pub(super) async fn in_step(all: &[FederatedMesh], name: &CollectionName) {
    until_async("all hold the same", || async {
        let roots = join_all(all.iter().map(|node| root(node, name))).await;
        (roots[0].is_some() && roots.iter().all(|root| *root == roots[0])).then_some(())
    })
    .await;
}

/// Waits until a node sees this value.
pub(super) async fn sees(node: &FederatedMesh, name: &CollectionName, at: &str, value: &str) {
    until_async("the value is there", || async {
        (seen(node, name, at).await.as_deref() == Some(value)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_hold_the_same_whoever_wrote_it() {
    let federation = Federation::of(3).await;
    let name = collection("labels");
    let mut watch = federation.nodes[2].shared_watch(&name).expect("watches");
    for (i, node) in federation.nodes.iter().enumerate() {
        put(node, &name, &format!("of-{i}"), "1").await;
        put(node, &name, "all", &format!("by {i}")).await;
    }
    in_step(&federation.nodes, &name).await;
    // Of the key that all wrote the last counts, and each says whose it is.
    let at = key("all");
    let views = join_all(federation.nodes.iter().map(|node| node.shared_get(&name, &at))).await;
    let views: Vec<Option<SharedValue>> =
        views.into_iter().map(|value| value.expect("reads")).collect();
    let last = views[0].clone().expect("is there");
    assert!(views.iter().all(|view| view.as_ref() == Some(&last)));
    assert_eq!(last.value.as_deref(), Some(b"by 2".as_slice()));
    assert_eq!(last.author, federation.nodes[2].peer_id());
    assert_eq!(last.author_name.as_ref().map(|name| name.as_str()), Some("n2"));

    // Removed at one, gone at all; another key stays.
    assert!(federation.nodes[0].shared_remove(&name, &key("of-1")).await.expect("removes"));
    assert!(!federation.nodes[0].shared_remove(&name, &key("of-1")).await.expect("is gone"));
    until_async("it is gone everywhere", || async {
        let left = join_all(federation.nodes.iter().map(|node| seen(node, &name, "of-1"))).await;
        left.iter().all(Option::is_none).then_some(())
    })
    .await;
    let page = federation.nodes[1].shared_list(&name, "of-", None, 1).await.expect("lists");
    assert_eq!(page.next, Some(key("of-0")));
    let page = federation.nodes[1].shared_list(&name, "of-", page.next.as_ref(), 9).await;
    let page = page.expect("lists");
    let keys: Vec<_> = page.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!((keys, page.next), (vec!["of-2"], None));

    // Who watched saw the others' writes come.
    let mut told = Vec::new();
    while !told.contains(&key("of-0")) {
        match watch.next().await.expect("goes on") {
            SharedEvent::Changed(keys) => told.extend(keys.into_iter().map(|(key, _)| key)),
            SharedEvent::Missed => panic!("it was not slow"),
        }
    }
    // And each says of the others that they have the same.
    for node in &federation.nodes {
        until_async("they are in step", || async {
            let lag = node.shared_lag().await.expect("tells");
            let same = lag.iter().all(|of| of.state == LagState::InStep && of.connected);
            (lag.len() == 2 && same).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_written_is_refused_with_its_reason() {
    let home = Home::new("alone");
    let node = home.open().await;
    let name = collection("labels");
    let code = |result: Result<(), exo_federation::FederationError>| result.expect_err("no").code;
    assert_eq!(code(node.shared_put(&name, &key("k"), vec![1]).await), ErrorCode::NotAMember);
    assert!(node.shared_collections().await.expect("none").is_empty());
    node.found().expect("founds");
    assert_eq!(
        node.shared_get(&name, &key("k")).await.expect_err("is not there").code,
        ErrorCode::SharedNotFound
    );
    let long = vec![0; ENTRY_VALUE_BYTES_MAX + 1];
    assert_eq!(code(node.shared_put(&name, &key("k"), long).await), ErrorCode::ValueTooLong);
    // Alone it writes as well as with others, whatever the name looks like on a disk.
    for odd in ["..", ".", ".hidden", "a.log"] {
        let name = collection(odd);
        put(&node, &name, "k", odd).await;
        assert_eq!(seen(&node, &name, "k").await.as_deref(), Some(odd));
    }
    drop(node);
    let node = home.open().await;
    for odd in ["..", ".", ".hidden", "a.log"] {
        assert_eq!(seen(&node, &collection(odd), "k").await.as_deref(), Some(odd));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_cannot_reach_each_other_converge_over_the_others() {
    let net = Net::default();
    let all = nodes(&net.federation(5).await);
    let name = collection("labels");
    put(&all[0], &name, "first", "1").await;
    in_step(&all, &name).await;
    net.part(&all[3], &all[4]);
    let brief = Duration::from_millis(500);
    let answer = tokio::time::timeout(brief, all[3].ping(&all[4].peer_id())).await;
    assert!(!matches!(answer, Ok(Ok(_))), "nothing passes between them");
    put(&all[3], &name, "from-3", "three").await;
    put(&all[4], &name, "from-4", "four").await;
    sees(&all[4], &name, "from-3", "three").await;
    sees(&all[3], &name, "from-4", "four").await;
    in_step(&all, &name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_catches_up_and_brings_what_it_wrote_alone() {
    let net = Net::default();
    let mut all = net.federation(3).await;
    let name = collection("labels");
    put(&all[0].node, &name, "before", "1").await;
    in_step(&nodes(&all), &name).await;
    let away = all.pop().expect("three");
    net.cut(&away.node);
    // It writes though it reaches nobody, and so do the others.
    put(&away.node, &name, "alone", "written without anybody").await;
    let writes = (0..500).map(|i| {
        let (node, name) = (all[0].node.clone(), name.clone());
        async move { put(&node, &name, &format!("k{i:03}"), &"moth ".repeat(20)).await }
    });
    let began = Instant::now();
    join_all(writes).await;
    println!("500 writes at once acknowledged in {:?}", began.elapsed());
    let away = net.kill(away);
    let began = Instant::now();
    let back = net.back(away).await;
    let opened = began.elapsed();
    sees(&back.node, &name, "k499", &"moth ".repeat(20)).await;
    let came = began.elapsed();
    all.push(back);
    in_step(&nodes(&all), &name).await;
    println!(
        "open after {opened:?}, has all after {came:?}, all in step after {:?}",
        began.elapsed()
    );
    for laned in &all {
        assert_eq!(
            seen(&laned.node, &name, "alone").await.as_deref(),
            Some("written without anybody")
        );
        let page = laned.node.shared_list(&name, "k", None, 1000).await.expect("lists");
        assert_eq!(page.entries.len(), 500);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_is_there_after_the_node_was_killed() {
    let net = Net::default();
    let mut all = net.federation(2).await;
    let name = collection("labels");
    let mut acknowledged = 0;
    for life in 0..5 {
        let node = all[1].node.clone();
        let writer = {
            let (node, name) = (node.clone(), name.clone());
            tokio::spawn(async move {
                let mut done = 0;
                loop {
                    let keys: Vec<_> =
                        (0..4).map(|j| key(&format!("{life}-{}", done + j))).collect();
                    let written = keys.iter().map(|at| node.shared_put(&name, at, vec![7]));
                    if join_all(written).await.iter().any(Result::is_err) {
                        return done;
                    }
                    done += 4;
                    if done >= 12 + 4 * life {
                        return done;
                    }
                }
            })
        };
        let done = writer.await.expect("writes");
        // One more that nobody waits for is under way when it dies.
        let late = tokio::spawn({
            let (node, name) = (node.clone(), name.clone());
            async move { node.shared_put(&name, &key("late"), vec![life as u8]).await.is_ok() }
        });
        tokio::time::sleep(Duration::from_millis(20 * life)).await;
        late.abort();
        let _ = late.await;
        drop(node);
        let victim = all.pop().expect("two");
        let back = net.crash(victim).await;
        acknowledged += done;
        let page = back.node.shared_list(&name, "", None, 1000).await.expect("lists");
        let kept = page.entries.iter().filter(|entry| entry.key.as_str() != "late").count();
        assert_eq!(kept as u64, acknowledged, "in life {life}");
        all.push(back);
    }
    in_step(&nodes(&all), &name).await;
    assert!(all[0].node.shared_evidence().await.expect("tells").is_empty(), "one history");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_value_leaves_every_member_and_every_file() {
    let federation = Federation::of(3).await;
    let name = collection("labels");
    let secret = "an address that must not stay";
    put(&federation.nodes[0], &name, "k", secret).await;
    in_step(&federation.nodes, &name).await;
    for node in &federation.nodes {
        sees(node, &name, "k", secret).await;
    }
    assert_eq!(federation.nodes[0].shared_erase(&name, &key("k")).await.expect("erases"), 1);
    for (node, home) in federation.nodes.iter().zip(&federation.homes) {
        until_async("the value is gone", || async {
            let value = node.shared_get(&name, &key("k")).await.expect("reads");
            value.is_some_and(|value| value.value.is_none()).then_some(())
        })
        .await;
        // The bytes follow as soon as the disk has them out.
        until_async("the bytes are gone", || async {
            (!holds(&home.path().join("shared"), secret.as_bytes())).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_put_back_from_a_copy_proves_itself_a_liar_and_all_learn_of_it() {
    let net = Net::default();
    let mut all = net.federation(4).await;
    let name = collection("labels");
    put(&all[0].node, &name, "first", "1").await;
    in_step(&nodes(&all), &name).await;
    let away = all.pop().expect("four");
    let (peer, away) = (away.node.peer_id(), net.kill(away));
    // Nothing was written by it yet: its store holds the others' batches alone.
    let kept = tempfile::tempdir().expect("a directory");
    let back = net.back(away).await;
    let shared = back.home.path().join("shared");
    copy(&shared, kept.path());
    put(&back.node, &name, "one", "what it wrote first").await;
    all.push(back);
    in_step(&nodes(&all), &name).await;
    // It is put back from the copy, reaches nobody, and writes: its first batch a second time.
    let away = net.kill(all.pop().expect("four"));
    for laned in &all {
        net.cut(&laned.node);
    }
    std::fs::remove_dir_all(&shared).expect("removes");
    copy(kept.path(), &shared);
    // So is what it noted beside its stores: without that it would notice.
    std::fs::remove_dir_all(shared.with_extension("ends")).expect("removes");
    let back = net.back(away).await;
    put(&back.node, &name, "two", "what it wrote instead").await;
    for laned in &all {
        net.mend(&laned.node);
    }
    all.push(back);
    for laned in &all {
        until_async("the proof is there", || async {
            let evidence = laned.node.shared_evidence().await.expect("tells");
            evidence
                .iter()
                .any(|of| of.author == peer && of.batch == 1 && !of.proof.is_empty())
                .then_some(())
        })
        .await;
    }
    in_step(&nodes(&all), &name).await;
}

/// Whether the bytes are in a file below a directory.
fn holds(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).expect("reads").any(|entry| {
        let path = entry.expect("reads").path();
        if path.is_dir() {
            return holds(&path, bytes);
        }
        // A file may be dropped meanwhile.
        std::fs::read(&path).is_ok_and(|all| all.windows(bytes.len()).any(|part| part == bytes))
    })
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("makes");
    for entry in std::fs::read_dir(from).expect("reads") {
        let path = entry.expect("reads").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).expect("copies");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_store_is_noticed_and_written_to_again_when_it_has_come_back() {
    let net = Net::default();
    let mut all = net.federation(3).await;
    let name = collection("labels");
    for n in 0..3 {
        put(&all[2].node, &name, &format!("k{n}"), "x").await;
    }
    in_step(&nodes(&all), &name).await;
    let away = all.pop().expect("three");
    let shared = away.home.path().join("shared");
    let away = net.kill(away);
    for laned in &all {
        net.cut(&laned.node);
    }
    std::fs::remove_dir_all(&shared).expect("is deleted");

    // Alone it knows that it has written, and not what: it must not sign those numbers again.
    let back = net.back(away).await;
    let early = back.node.shared_put(&name, &key("k3"), b"early".to_vec()).await;
    assert_eq!(early.expect_err("is refused").code, ErrorCode::SharedCatchingUp);
    for laned in &all {
        net.mend(&laned.node);
    }
    let (node, at) = (&back.node, key("k3"));
    let ready = || async { node.shared_put(&name, &at, b"y".to_vec()).await.ok() };
    until_async("what it wrote has come back", ready).await;
    assert_eq!(seen(node, &name, "k0").await.as_deref(), Some("x"));
    sees(&all[0].node, &name, "k3", "y").await;
    assert!(all[0].node.shared_evidence().await.expect("shows it").is_empty());
}
