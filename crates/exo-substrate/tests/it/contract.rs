//! The embedded default behaves as every backend must.

use exo_substrate::{EmbeddedSubstrate, OpenOptions, SubstrateInstance, contract};

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_default_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let count = std::cell::Cell::new(0);
    contract::all(|| {
        count.set(count.get() + 1);
        let path = folder.path().join(format!("{}.db", count.get()));
        async {
            SubstrateInstance::open(EmbeddedSubstrate::NAME, OpenOptions::new(path))
                .await
                .expect("opens")
        }
    })
    .await;
}
