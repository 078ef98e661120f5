//! Signatures of the simulation: cheap tags under a key that only their owner's code uses. They stand in
//! the places of ML-DSA's, so everything around them is the real code.

use std::hash::{DefaultHasher, Hash, Hasher};

use exo_crypto::{SIGNATURE_BYTES, Signed, SignedBody};
use exo_types::{PeerId, Wire};

use crate::blob::Root;
use crate::check::Verifier;
use crate::message::Statement;
use crate::update::BundleHead;
use crate::voter::Voter;

/// Checks the tags.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tags;

impl Verifier for Tags {
    fn statement(&self, voter: &Voter, signed: &Signed<Statement>) -> Option<Statement> {
        holds(&voter.id, signed)
    }

    fn head(&self, voter: &Voter, signed: &Signed<BundleHead>) -> Option<BundleHead> {
        holds(&voter.id, signed)
    }

    fn cosignature(&self, voter: &Voter, size: u64, root: Root, signature: &[u8]) -> bool {
        signature == cosign(&voter.id, size, root)
    }
}

/// Signs as a member. `None` when the statement breaks a rule of its type.
pub fn sign<T: SignedBody>(id: &PeerId, value: &T) -> Option<Signed<T>> {
    let body = value.to_wire().ok()?;
    let mut wire = Vec::with_capacity(body.len() + SIGNATURE_BYTES + 5);
    let mut len = body.len();
    while len >= 0x80 {
        wire.push((len as u8) | 0x80);
        len >>= 7;
    }
    wire.push(len as u8);
    wire.extend_from_slice(&body);
    wire.extend_from_slice(&tag(id, T::LABEL.as_str(), &body));
    wire.resize(wire.len() + SIGNATURE_BYTES - 8, 0);
    Signed::from_wire(&wire).ok()
}

/// Cosigns as a member.
pub fn cosign(id: &PeerId, size: u64, root: Root) -> Vec<u8> {
    let mut body = size.to_be_bytes().to_vec();
    body.extend_from_slice(&root.0);
    tag(id, "cosignature", &body).to_vec()
}

fn holds<T: SignedBody>(id: &PeerId, signed: &Signed<T>) -> Option<T> {
    let genuine = signed.signature().as_bytes()[..8] == tag(id, T::LABEL.as_str(), signed.body());
    let value = signed.claimed().ok()?;
    (genuine && value.signer() == Some(*id)).then_some(value)
}

fn tag(id: &PeerId, label: &str, body: &[u8]) -> [u8; 8] {
    let mut hasher = DefaultHasher::new();
    (id.as_bytes(), label, body).hash(&mut hasher);
    hasher.finish().to_be_bytes()
}
