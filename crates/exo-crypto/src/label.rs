//! Every domain-separation string of the project, in one file.
//!
//! A label says what a hash, a signature, a key or a code is for, so that a value made for one
//! purpose never passes for another. The type has no public constructor: a new purpose is a new
//! constant here, and the test below refuses one that equals or begins another.

use std::fmt;

/// The purpose of a hash, signature, derived key or authentication code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label(&'static str);

impl Label {
    /// Hash that turns an identity key into a [`PeerId`](exo_types::PeerId).
    pub const PEER_ID: Self = Self("exo-federation/1 peer-id");
    /// Hash of a federation's genesis into its [`FederationId`](exo_types::FederationId).
    pub const GENESIS: Self = Self("exo-federation/1 genesis");
    /// Signature on a roster: who is a member in one membership epoch.
    pub const ROSTER: Self = Self("exo-federation/1 roster");
    /// Signature on a member's descriptor: its name and addresses.
    pub const DESCRIPTOR: Self = Self("exo-federation/1 descriptor");
    /// Signature on a federation token.
    pub const TOKEN: Self = Self("exo-federation/1 token");
    /// Signature on a public sealing key and the time it holds.
    pub const KEM_EPOCH: Self = Self("exo-federation/1 kem-epoch");
    /// Signature on an answer to a query.
    pub const ANSWER: Self = Self("exo-federation/1 answer");
    /// Hash of a question, which its answer names.
    pub const QUESTION: Self = Self("exo-federation/1 question");
    /// Signature that shows the identity behind a session.
    pub const SESSION: Self = Self("exo-federation/1 session");
    /// Signature on an entry of the audit log.
    pub const AUDIT: Self = Self("exo-federation/1 audit");
    /// Signature on the head of an audit log.
    pub const CHECKPOINT: Self = Self("exo-federation/1 checkpoint");
    /// Signature on a message of the commit protocol.
    pub const CONSENSUS: Self = Self("exo-federation/1 consensus");
    /// Signature on an update that asks to be committed.
    pub const UPDATE: Self = Self("exo-federation/1 update");
    /// Hash of a batch of updates that is proposed for one place in the order.
    pub const BATCH_DIGEST: Self = Self("exo-federation/1 batch-digest");
    /// Nodes of the Merkle tree over the updates that a member signs at once.
    pub const BUNDLE_ROOT: Self = Self("exo-federation/1 bundle-root");

    /// The joiner's commitment to its nonce before it sees the inviter's.
    pub const SAS_COMMIT: Self = Self("exo-federation/1 sas-commit");
    /// The words that the two people compare while one joins the other's federation.
    pub const SAS_WORDS: Self = Self("exo-federation/1 sas-words");
    /// The words of a member's identity.
    pub const FINGERPRINT: Self = Self("exo-federation/1 fingerprint");
    /// Code that shows the joiner knows an invite's secret.
    pub const INVITE_PROOF: Self = Self("exo-federation/1 invite-proof");
    /// Key derived from an invite's secret.
    pub const INVITE_KEY: Self = Self("exo-federation/1 invite-key");

    /// Key material exported from a session's handshake (RFC 8446 section 7.5).
    pub const EXPORTER: Self = Self("exo-federation/1 exporter");
    /// Key with which a node makes stateless resets (RFC 9000 section 10.3).
    pub const RESET_KEY: Self = Self("exo-federation/1 reset-key");
    /// Key with which a node makes address-validation tokens (RFC 9000 section 8.1).
    pub const ADDRESS_TOKEN_KEY: Self = Self("exo-federation/1 address-token-key");

    /// Sealing of one message to a member's epoch key.
    pub const SEAL: Self = Self("exo-federation/1 seal");
    /// Sealing of a query that relays carry to its target.
    pub const RELAY_QUERY: Self = Self("exo-federation/1 relay-query");
    /// Sealing of the answer that relays carry back.
    pub const RELAY_REPLY: Self = Self("exo-federation/1 relay-reply");
    /// Keys of one hop of an onion packet.
    pub const ONION_KEYS: Self = Self("exo-federation/1 onion-keys");

    /// Hash of a record's title and text.
    pub const CONTENT_HASH: Self = Self("exo-federation/1 content-hash");
    /// Check value of a key file: finds damage, proves nothing.
    pub const KEY_FILE: Self = Self("exo-federation/1 key-file");
    /// Hash of a state for comparison between replicas.
    pub const STATE_HASH: Self = Self("exo-federation/1 state-hash");

    /// Hash of an entry of a shared collection into its id.
    pub const ENTRY_ID: Self = Self("exo-federation/1 entry-id");
    /// Inner node of the Merkle tree over a batch's entries.
    pub const BATCH_NODE: Self = Self("exo-federation/1 batch-node");
    /// Signature on the header of a batch of entries.
    pub const BATCH_HEADER: Self = Self("exo-federation/1 batch-header");
    /// Hash of a batch's header, by which the next one names it.
    pub const BATCH_CHAIN: Self = Self("exo-federation/1 batch-chain");
    /// Salted commitment to the value of an entry.
    pub const VALUE_COMMITMENT: Self = Self("exo-federation/1 value-commitment");
    /// Hash of what a replica holds, for comparison between replicas.
    pub const FRONTIER_ROOT: Self = Self("exo-federation/1 frontier-root");
    /// Hash of the entries that live under the cut of a shared collection's checkpoint.
    pub const LIVE_SET: Self = Self("exo-federation/1 live-set");
    /// Hash of a shared collection's checkpoint, by which later batches name it.
    pub const CUT: Self = Self("exo-federation/1 collection-cut");
    /// Hash of a proof that an author signed two histories.
    pub const EVIDENCE_ID: Self = Self("exo-federation/1 evidence-id");
    /// Keys of one reconciliation on one link.
    pub const SYNC_KEY: Self = Self("exo-federation/1 sync-key");
    /// Fingerprint of a range of short ids during a reconciliation.
    pub const RANGE_FINGERPRINT: Self = Self("exo-federation/1 range-fingerprint");
    /// Hash of one source's response to a query, by which responses are told apart.
    pub const RESPONSE_ID: Self = Self("exo-federation/1 response-id");

    /// All labels.
    pub const ALL: &'static [Self] = &[
        Self::PEER_ID,
        Self::GENESIS,
        Self::ROSTER,
        Self::DESCRIPTOR,
        Self::TOKEN,
        Self::KEM_EPOCH,
        Self::ANSWER,
        Self::QUESTION,
        Self::SESSION,
        Self::AUDIT,
        Self::CHECKPOINT,
        Self::CONSENSUS,
        Self::UPDATE,
        Self::BATCH_DIGEST,
        Self::BUNDLE_ROOT,
        Self::SAS_COMMIT,
        Self::SAS_WORDS,
        Self::FINGERPRINT,
        Self::INVITE_PROOF,
        Self::INVITE_KEY,
        Self::EXPORTER,
        Self::RESET_KEY,
        Self::ADDRESS_TOKEN_KEY,
        Self::SEAL,
        Self::RELAY_QUERY,
        Self::RELAY_REPLY,
        Self::ONION_KEYS,
        Self::CONTENT_HASH,
        Self::KEY_FILE,
        Self::STATE_HASH,
        Self::ENTRY_ID,
        Self::BATCH_NODE,
        Self::BATCH_HEADER,
        Self::BATCH_CHAIN,
        Self::VALUE_COMMITMENT,
        Self::FRONTIER_ROOT,
        Self::LIVE_SET,
        Self::CUT,
        Self::EVIDENCE_ID,
        Self::SYNC_KEY,
        Self::RANGE_FINGERPRINT,
        Self::RESPONSE_ID,
    ];

    /// The text, ASCII.
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// The text behind one byte that holds its length: what is put before anything hashed or signed,
    /// so that no label and message can be read as another label and message.
    pub(crate) fn prefix(self) -> Vec<u8> {
        let mut prefix = Vec::with_capacity(1 + self.0.len());
        // Labels are constants of this file; the test below keeps them under 256 bytes.
        prefix.push(self.0.len() as u8);
        prefix.extend_from_slice(self.0.as_bytes());
        prefix
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Label({:?})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_equals_or_begins_another() {
        for (i, a) in Label::ALL.iter().enumerate() {
            for (j, b) in Label::ALL.iter().enumerate() {
                assert!(i == j || !b.0.starts_with(a.0), "{a} begins {b}");
            }
        }
    }

    #[test]
    fn every_label_names_the_project_and_fits_its_length_byte() {
        for label in Label::ALL {
            assert!(label.0.starts_with("exo-federation/1 "), "{label}");
            assert!(label.0.is_ascii() && label.0.len() < 256, "{label}");
            assert_eq!(usize::from(label.prefix()[0]), label.0.len());
        }
    }

    #[test]
    fn the_list_holds_every_constant_of_this_file() {
        let constants = include_str!("label.rs")
            .lines()
            .filter(|line| line.trim_start().starts_with("pub const ") && line.contains("Self(\""))
            .count();
        assert_eq!(constants, Label::ALL.len());
    }
}
