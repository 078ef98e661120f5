//! The join of replicated states, and its laws.

use exo_types::codec::{CodecError, Wire};

/// A state that replicas join.
///
/// For all `a`, `b` and `c` of a type, where `+` is [`merge`](Merge::merge) and `=` is equality of the
/// canonical encodings, to the last bit:
///
/// - commutative: `a + b = b + a`;
/// - associative: `(a + b) + c = a + (b + c)`;
/// - idempotent: `a + a = a`;
/// - every change `m` of a state inflates it: `a + m(a) = m(a)`.
///
/// So replicas that have seen the same changes hold the same bytes, whatever the order, grouping and
/// repetition in which they saw them. No implementation ever keeps "mine" on a tie.
///
/// `tests/it/laws.rs` holds every implementation to them.
pub trait Merge: Sized {
    /// Joins another state into this one.
    fn merge(&mut self, other: Self);

    /// Items of the join of both, without joining them.
    fn joined_len(&self, other: &Self) -> usize;

    /// Joins a state that a peer sent, unless the join would have more than `max` items: then nothing
    /// is changed, and the peer's state can be joined later, whole.
    ///
    /// # Errors
    /// [`Full`].
    fn try_merge(&mut self, other: Self, max: usize) -> Result<(), Full> {
        let actual = self.joined_len(&other);
        if actual > max {
            return Err(Full { max, actual });
        }
        self.merge(other);
        Ok(())
    }
}

/// A join would have more items than its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the joined state would have {actual} items where at most {max} are allowed")]
pub struct Full {
    /// The bound, items.
    pub max: usize,
    /// Items that the join would have.
    pub actual: usize,
}

/// A value with one encoding.
///
/// Law: two values are equal exactly when [`canonical`](Canonical::canonical) gives the same bytes.
/// That is why floating-point numbers are not among the implementations.
pub trait Canonical: Clone + Eq + serde::Serialize + serde::de::DeserializeOwned {
    /// The one encoding: what ties are broken by.
    fn canonical(&self) -> Vec<u8>;
}

macro_rules! canonical_bytes {
    ($($type:ty => |$value:ident| $bytes:expr;)*) => {$(
        impl Canonical for $type {
            fn canonical(&self) -> Vec<u8> {
                let $value = self;
                $bytes
            }
        }
    )*};
}

canonical_bytes! {
    () => |_v| Vec::new();
    bool => |v| vec![u8::from(*v)];
    u8 => |v| vec![*v];
    u16 => |v| v.to_be_bytes().to_vec();
    u32 => |v| v.to_be_bytes().to_vec();
    u64 => |v| v.to_be_bytes().to_vec();
    i64 => |v| v.to_be_bytes().to_vec();
    String => |v| v.as_bytes().to_vec();
    Vec<u8> => |v| v.clone();
    [u8; 32] => |v| v.to_vec();
    exo_types::PeerId => |v| v.as_bytes().to_vec();
    exo_types::RecordId => |v| v.as_str().as_bytes().to_vec();
    exo_types::CollectionName => |v| v.as_str().as_bytes().to_vec();
    exo_types::ContentHash => |v| v.0.to_vec();
}

/// Decodes a value and refuses any encoding of it but the one that [`Wire::to_wire`] writes: the
/// codec's integers can be written longer than they need be.
///
/// # Errors
/// [`CodecError`].
pub fn from_canonical<T: Wire>(bytes: &[u8]) -> Result<T, CodecError> {
    let value = T::from_wire(bytes)?;
    if value.to_wire()? == bytes {
        Ok(value)
    } else {
        Err(CodecError::Invalid("this is not the canonical encoding".to_owned()))
    }
}
