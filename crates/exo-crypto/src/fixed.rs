//! Byte strings of one fixed length on the wire: no length to lie about, nothing to allocate by.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserializer, Serializer};

/// Writes the bytes one after another without a length.
pub(crate) fn serialize<const N: usize, S: Serializer>(
    bytes: &[u8; N],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut tuple = serializer.serialize_tuple(N)?;
    for byte in bytes {
        tuple.serialize_element(byte)?;
    }
    tuple.end()
}

/// Reads exactly `N` bytes.
pub(crate) fn deserialize<'de, T, const N: usize, D>(deserializer: D) -> Result<T, D::Error>
where
    T: From<Box<[u8; N]>>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_tuple(N, Bytes::<N>(PhantomData)).map(T::from)
}

struct Bytes<const N: usize>(PhantomData<[u8; N]>);

impl<'de, const N: usize> Visitor<'de> for Bytes<N> {
    type Value = Box<[u8; N]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut bytes = Box::new([0; N]);
        for (have, byte) in bytes.iter_mut().enumerate() {
            *byte = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(have, &self))?;
        }
        Ok(bytes)
    }
}
