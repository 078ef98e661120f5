//! Shared collections: what stands at a key, what a collection is, and where its other readers are.

use std::collections::BTreeMap;

use data_encoding::{BASE64, HEXLOWER};
use exo_federation::{
    LagState, SharedAccess, SharedCollectionView, SharedEntry, SharedKind, SharedLag, SharedValue,
};
use exo_types::{CollectionName, NodeName, PeerId, RecordId};
use serde::{Deserialize, Serialize};

use super::rfc3339;

/// What stands at a key, `exo.shared/1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SharedDoc {
    /// The collection.
    pub(crate) collection: CollectionName,
    /// The key.
    pub(crate) key: RecordId,
    /// The value, as `encoding` says; null where it was erased, has not come yet, or was removed.
    pub(crate) value: Option<String>,
    /// How the value is written here; null without a value.
    pub(crate) encoding: Option<Encoding>,
    /// Who wrote it; null where it was removed.
    pub(crate) author: Option<PeerId>,
    /// The author's name now; null when it is no member any more.
    pub(crate) author_name: Option<NodeName>,
    /// When, by the clocks of the members, RFC 3339; null where it was removed.
    pub(crate) at: Option<String>,
    /// Nothing stands at the key any more; only among changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) removed: bool,
}

/// How bytes are written in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    /// As they are: they are UTF-8.
    #[default]
    Text,
    /// In base64 (RFC 4648, section 4).
    Base64,
}

/// A part of a collection by key, `exo.shared-entries/1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedEntriesDoc {
    /// What stands at each key.
    pub(crate) entries: Vec<SharedDoc>,
    /// The key after which the next page begins; null after the last.
    pub(crate) next: Option<RecordId>,
}

/// A value to put. A body of bytes can be sent instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PutRequest {
    /// The value, as `encoding` says.
    pub(crate) value: String,
    /// How the value is written here; text unless given.
    #[serde(default)]
    pub(crate) encoding: Encoding,
}

/// What a removal did, `exo.shared-removed/1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemovedDoc {
    /// The collection.
    pub(crate) collection: CollectionName,
    /// The key.
    pub(crate) key: RecordId,
    /// Whether something stood there.
    pub(crate) removed: bool,
}

/// What an erasure did, `exo.shared-erased/1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErasedDoc {
    /// The collection.
    pub(crate) collection: CollectionName,
    /// The key.
    pub(crate) key: RecordId,
    /// Values that were destroyed at this node.
    pub(crate) erased: usize,
}

/// Shared collections, `exo.shared-collections/1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedCollectionsDoc {
    /// Those of which this node may know, by name.
    pub(crate) collections: Vec<SharedCollectionDoc>,
}

/// A shared collection as a node holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedCollectionDoc {
    /// Its name.
    pub(crate) name: CollectionName,
    /// What its entries mean.
    pub(crate) kind: KindDoc,
    /// Who gets it.
    pub(crate) readers: AccessDoc,
    /// Whose entries count.
    pub(crate) writers: AccessDoc,
    /// Whether the members have declared it.
    pub(crate) declared: bool,
    /// Whether this node may write.
    pub(crate) writable: bool,
    /// The number of the last checkpoint taken over; 0 before the first.
    pub(crate) checkpoint: u64,
    /// Hash of everything held, hexadecimal: two nodes with the same hash hold the same.
    pub(crate) root: String,
    /// Signed batches above the checkpoint.
    pub(crate) batches: u64,
    /// Entries held, removals included.
    pub(crate) entries: u64,
    /// Entries under the checkpoint that have not come yet.
    pub(crate) missing: u64,
    /// Members of which a proof is held that they signed two histories of it.
    pub(crate) accused: Vec<PeerId>,
}

/// What a shared collection's entries mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KindDoc {
    /// The last write of each key counts.
    LastWriter,
    /// A removal takes away the writes it observed; concurrent ones stay.
    ObservedRemove,
    /// The first write of each key counts and nothing is removed.
    GrowOnly,
}

/// Whom a right is for: `"members"`, or a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum AccessDoc {
    /// All members.
    All(AllDoc),
    /// These.
    Only(Vec<WhoDoc>),
}

/// All members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AllDoc {
    /// Every member.
    Members,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WhoDoc {
    /// Who.
    pub(crate) peer: PeerId,
    /// Its name; null when it is no member any more.
    pub(crate) name: Option<NodeName>,
}

/// A shared collection to declare, or one of which others get the rights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeclareRequest {
    /// Its name.
    pub(crate) name: CollectionName,
    /// What its entries mean.
    pub(crate) kind: KindDoc,
    /// Who gets it, by ids, beginnings of ids or names; every member unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) readers: Option<Vec<String>>,
    /// Whose entries count, the same way; every reader unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) writers: Option<Vec<String>>,
    /// How long to wait for a quorum, milliseconds; ten seconds unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deadline_ms: Option<u64>,
}

/// Where other readers are, `exo.shared-lag/1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedLagsDoc {
    /// Each other reader of each collection.
    pub(crate) lag: Vec<SharedLagDoc>,
}

/// Where another reader of a shared collection is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedLagDoc {
    /// The collection.
    pub(crate) collection: CollectionName,
    /// Who.
    pub(crate) peer: PeerId,
    /// Its name; null when it is no member any more.
    pub(crate) name: Option<NodeName>,
    /// Whether there is a session with it.
    pub(crate) connected: bool,
    /// Whether a synchronisation with it is under way.
    pub(crate) syncing: bool,
    /// `unknown`, `in-step` or `behind`: whether it has what this node has.
    pub(crate) state: String,
    /// While behind: for how long at least, milliseconds.
    pub(crate) behind_ms: Option<u64>,
    /// While behind: batches by which this node has more; below zero when it has fewer.
    pub(crate) batches: Option<i64>,
}

impl SharedDoc {
    /// What stands at a key; `None` when nothing does any more.
    pub(crate) fn new(
        collection: CollectionName,
        key: RecordId,
        value: Option<SharedValue>,
    ) -> Self {
        let Some(found) = value else {
            let (value, encoding, author, author_name, at) = Default::default();
            let removed = true;
            return Self { collection, key, value, encoding, author, author_name, at, removed };
        };
        let (value, encoding) = found.value.map(written).unzip();
        Self {
            collection,
            key,
            value,
            encoding,
            author: Some(found.author),
            author_name: found.author_name,
            at: Some(rfc3339(found.at)),
            removed: false,
        }
    }

    /// The shape of an entry.
    pub(crate) fn of(collection: &CollectionName, entry: SharedEntry) -> Self {
        Self::new(collection.clone(), entry.key, Some(entry.value))
    }

    /// The value's bytes.
    pub(crate) fn bytes(&self) -> Option<Result<Vec<u8>, String>> {
        let value = self.value.as_ref()?;
        Some(bytes(value, self.encoding.unwrap_or_default()))
    }
}

impl PutRequest {
    /// The value's bytes.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, String> {
        bytes(&self.value, self.encoding)
    }
}

impl SharedCollectionDoc {
    /// The shape of a collection, with what members are called now.
    pub(crate) fn new(view: SharedCollectionView, names: &BTreeMap<PeerId, NodeName>) -> Self {
        Self {
            name: view.name,
            kind: view.kind.into(),
            readers: AccessDoc::new(view.readers, names),
            writers: AccessDoc::new(view.writers, names),
            declared: view.declared,
            writable: view.writable,
            checkpoint: view.checkpoint,
            root: HEXLOWER.encode(&view.root),
            batches: view.batches,
            entries: view.entries,
            missing: view.missing,
            accused: view.accused,
        }
    }
}

impl AccessDoc {
    fn new(access: SharedAccess, names: &BTreeMap<PeerId, NodeName>) -> Self {
        match access {
            SharedAccess::All => Self::All(AllDoc::Members),
            SharedAccess::Only(peers) => {
                let who = |peer| WhoDoc { peer, name: names.get(&peer).cloned() };
                Self::Only(peers.into_iter().map(who).collect())
            }
        }
    }
}

impl From<SharedKind> for KindDoc {
    fn from(kind: SharedKind) -> Self {
        match kind {
            SharedKind::LastWriter => Self::LastWriter,
            SharedKind::ObservedRemove => Self::ObservedRemove,
            SharedKind::GrowOnly => Self::GrowOnly,
        }
    }
}

impl From<KindDoc> for SharedKind {
    fn from(kind: KindDoc) -> Self {
        match kind {
            KindDoc::LastWriter => Self::LastWriter,
            KindDoc::ObservedRemove => Self::ObservedRemove,
            KindDoc::GrowOnly => Self::GrowOnly,
        }
    }
}

impl KindDoc {
    /// The kind as it is printed.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::LastWriter => "last-writer",
            Self::ObservedRemove => "observed-remove",
            Self::GrowOnly => "grow-only",
        }
    }
}

impl From<SharedLag> for SharedLagDoc {
    fn from(lag: SharedLag) -> Self {
        let state = lag.state.name().to_owned();
        let (behind_ms, batches) = match lag.state {
            LagState::Behind { since, batches } => {
                (Some(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)), Some(batches))
            }
            LagState::Unknown | LagState::InStep => (None, None),
        };
        Self {
            collection: lag.collection,
            peer: lag.peer,
            name: lag.name,
            connected: lag.connected,
            syncing: lag.syncing,
            state,
            behind_ms,
            batches,
        }
    }
}

/// Bytes as JSON has them: text where they are.
fn written(bytes: Vec<u8>) -> (String, Encoding) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, Encoding::Text),
        Err(other) => (BASE64.encode(other.as_bytes()), Encoding::Base64),
    }
}

fn bytes(value: &str, encoding: Encoding) -> Result<Vec<u8>, String> {
    match encoding {
        Encoding::Text => Ok(value.as_bytes().to_vec()),
        Encoding::Base64 => BASE64
            .decode(value.as_bytes())
            .map_err(|error| format!("the value is no base64: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use exo_types::Timestamp;

    use super::*;
    use crate::api::dto::Document;

    fn doc(value: Option<SharedValue>) -> SharedDoc {
        SharedDoc::new("minutes".parse().expect("a name"), "may".parse().expect("a key"), value)
    }

    fn value(bytes: Option<&[u8]>) -> SharedValue {
        SharedValue {
            value: bytes.map(<[u8]>::to_vec),
            author: PeerId::new([0; 32]),
            author_name: Some("lab".parse().expect("a name")),
            at: Timestamp(1_750_000_000_000),
        }
    }

    #[test]
    fn an_entry_has_its_frozen_shape() {
        let text = |doc: SharedDoc| {
            serde_json::to_string(&Document::new("exo.shared/1", doc)).expect("json")
        };
        let shape = |value: &str, encoding: &str| {
            format!(
                concat!(
                    r#"{{"schema":"exo.shared/1","collection":"minutes","key":"may","value":{},"#,
                    r#""encoding":{},"author":"{}","author_name":"lab","at":"2025-06-15T15:06:40Z"}}"#
                ),
                value,
                encoding,
                "a".repeat(52)
            )
        };
        assert_eq!(text(doc(Some(value(Some(b"we met"))))), shape("\"we met\"", "\"text\""));
        assert_eq!(text(doc(Some(value(Some(&[0xff, 0]))))), shape("\"/wA=\"", "\"base64\""));
        assert_eq!(text(doc(Some(value(None)))), shape("null", "null"));
        let gone = concat!(
            r#"{"schema":"exo.shared/1","collection":"minutes","key":"may","value":null,"#,
            r#""encoding":null,"author":null,"author_name":null,"at":null,"removed":true}"#
        );
        assert_eq!(text(doc(None)), gone);
        let back: Document<SharedDoc> = serde_json::from_str(gone).expect("reads");
        assert_eq!(back.body, doc(None));
    }

    #[test]
    fn bytes_are_the_same_there_and_back() {
        for bytes in [&b"text"[..], b"", &[0xff, 0xfe], "naïve".as_bytes()] {
            let (text, encoding) = written(bytes.to_vec());
            assert_eq!(PutRequest { value: text, encoding }.bytes().as_deref(), Ok(bytes));
            let doc = doc(Some(value(Some(bytes))));
            assert_eq!(doc.bytes(), Some(Ok(bytes.to_vec())));
        }
        let wrong = PutRequest { value: "?".into(), encoding: Encoding::Base64 };
        assert!(wrong.bytes().is_err());
    }

    #[test]
    fn rights_are_of_all_or_of_a_list() {
        let all = serde_json::to_string(&AccessDoc::new(SharedAccess::All, &BTreeMap::new()));
        assert_eq!(all.expect("json"), "\"members\"");
        let peer = PeerId::new([0; 32]);
        let only = AccessDoc::new(SharedAccess::only([peer]), &BTreeMap::new());
        let text = serde_json::to_string(&only).expect("json");
        assert_eq!(text, format!(r#"[{{"peer":"{peer}","name":null}}]"#));
        assert_eq!(serde_json::from_str::<AccessDoc>(&text).expect("reads"), only);
    }
}
