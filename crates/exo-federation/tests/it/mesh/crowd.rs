//! Many at once.

use exo_federation::join_federation;
use futures::future::join_all;

use super::nodes::{
    Home, PATIENCE, Watch, all_active, ask, by_text, by_vector, federation, invite, one_moth_each,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_that_join_at_once_are_soon_all_active_with_each_other() {
    let homes: Vec<_> = (0..6).map(|i| Home::new(&format!("n{i}"))).collect();
    let mut nodes = Vec::new();
    for home in &homes {
        nodes.push(home.open().await);
    }
    one_moth_each(&nodes).await;
    let tickets: Vec<_> = (1..6).map(|_| invite(&nodes[0], true)).collect();
    let began = Watch::start();
    let joining = nodes[1..].iter().zip(&tickets);
    let joined = join_all(joining.map(|(node, ticket)| join_federation(node, ticket, PATIENCE)));
    for (token, node) in joined.await.into_iter().zip(&nodes[1..]) {
        let token = token.expect("joins");
        assert_eq!((token.holder, token.issuer), (node.peer_id(), nodes[0].peer_id()));
    }
    all_active(&nodes).await;
    let took = began.elapsed();
    assert!(took.as_secs() < 3, "{took:?}");
    let epoch = federation(&nodes[0]).await.epoch;
    assert_eq!(epoch.0, 5);
    for node in &nodes {
        assert_eq!(federation(node).await.epoch, epoch);
        for make in [by_vector, by_text] {
            let answer = ask(node, make()).await;
            assert!(answer.complete, "{:?}", answer.sources);
            assert_eq!((answer.results.len(), answer.sources.len()), (6, 6));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_federation_that_starts_again_all_at_once_is_whole_again() {
    let mut federation = super::nodes::Federation::of(4).await;
    one_moth_each(&federation.nodes).await;
    let stopping: Vec<_> = federation.nodes.drain(..).collect();
    join_all(stopping.iter().map(exo_federation::FederatedMesh::shutdown)).await;
    let addresses: Vec<_> =
        stopping.iter().map(exo_federation::FederatedMesh::mesh_listen).collect();
    drop(stopping);
    for (home, address) in federation.homes.iter().zip(addresses) {
        home.listen_at(address);
    }
    federation.nodes = join_all(federation.homes.iter().map(Home::open)).await;
    let began = Watch::start();
    all_active(&federation.nodes).await;
    assert!(began.elapsed().as_secs() < 3, "{:?}", began.elapsed());
    for node in &federation.nodes {
        let answer = ask(node, by_text()).await;
        assert!(answer.complete, "{:?}", answer.sources);
        assert_eq!(answer.results.len(), 4);
    }
}
