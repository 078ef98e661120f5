//! The state file, and that a node which started from one saves a state it can start from again.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use exo_fuzz::sim::cosigner;
use exo_fuzz::{NOW, keypair, keyring};
use exo_node::effect::{Effect, Input};
use exo_node::policy::OnionPolicy;
use exo_node::{Node, Settings, StateError};
use exo_onion::ReplayCache;
use exo_types::{NodeName, Now};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(mut node) = start(data) else { return };
    drain(&mut node);
    let _ = node.federation();
    let _ = (node.join_status(), node.peers().len(), node.invites().len());
    let later =
        Now { wall: NOW.wall.plus_millis(60_000), mono: NOW.mono + Duration::from_secs(60) };
    node.handle(later, Input::Tick);
    drain(&mut node);
    if let Some(invite) = node.invites().first().map(|invite| invite.id.clone()) {
        node.revoke_invite(&invite).expect("it is there");
        assert!(drain(&mut node) > 0, "a change is saved");
    }
});

fn start(state: &[u8]) -> Result<Node, StateError> {
    let settings = Settings {
        keypair: Arc::clone(keypair()),
        name: NodeName::new("node").expect("a name"),
        addresses: Vec::new(),
        cosigner: cosigner(),
        founding_voters: 4,
        keyring: keyring(),
        replays: ReplayCache::new(),
        onion: OnionPolicy::default(),
        collections: Vec::new(),
        state: Some(state.to_vec()),
        decided: None,
        entropy: Box::new(|bytes| bytes.fill(9)),
    };
    Node::new(NOW, settings)
}

/// Takes every effect; answers how many states were saved.
fn drain(node: &mut Node) -> usize {
    let mut saved = 0;
    while let Some(effect) = node.poll_effect() {
        if let Effect::Persist(bytes) = effect {
            saved += 1;
            assert!(start(&bytes).is_ok(), "a node starts from what it saved");
        }
    }
    saved
}
