//! Lists whose bound holds while they are decoded, not only afterwards.
//!
//! An empty list of a list takes one byte on the wire and tens in memory: without a bound on the way,
//! a frame of 8 MiB becomes hundreds of megabytes before its check refuses it. To be named in
//! `#[serde(deserialize_with = "…")]`; the encoding is that of the plain type.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

/// Decodes a list of at most `MAX` items.
///
/// # Errors
/// The format's own, and one that names the bound.
pub fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(Items::<Vec<T>, MAX>(PhantomData))
}

/// Decodes a list of at most `MAX` items, or nothing.
///
/// # Errors
/// See [`list`].
pub fn optional_list<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let list = Option::<List<T, MAX>>::deserialize(deserializer)?;
    Ok(list.map(|List(items)| items))
}

/// Decodes at most `MAX` bytes. Their encoding is that of a list, and quicker to read.
///
/// # Errors
/// See [`list`].
pub fn bytes<'de, D: Deserializer<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Vec<u8>, D::Error> {
    deserializer.deserialize_byte_buf(Bytes::<MAX>)
}

/// Encodes bytes as [`bytes`] reads them.
///
/// # Errors
/// The format's own.
pub fn write_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// Decodes a set from at most `MAX` items.
///
/// # Errors
/// See [`list`].
pub fn set<'de, D: Deserializer<'de>, T: Deserialize<'de> + Ord, const MAX: usize>(
    deserializer: D,
) -> Result<BTreeSet<T>, D::Error> {
    deserializer.deserialize_seq(Items::<BTreeSet<T>, MAX>(PhantomData))
}

/// Decodes a map from at most `MAX` entries.
///
/// # Errors
/// See [`list`].
pub fn map<'de, D, K, V, const MAX: usize>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    deserializer.deserialize_map(Items::<BTreeMap<K, V>, MAX>(PhantomData))
}

/// Decodes a map from at most `MAX` keys to sets of at most `ITEMS` items each.
///
/// # Errors
/// See [`list`].
pub fn map_of_sets<'de, D, K, T, const MAX: usize, const ITEMS: usize>(
    deserializer: D,
) -> Result<BTreeMap<K, BTreeSet<T>>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    T: Deserialize<'de> + Ord,
{
    let sets = map::<D, K, Set<T, ITEMS>, MAX>(deserializer)?;
    Ok(sets.into_iter().map(|(key, Set(items))| (key, items)).collect())
}

struct Bytes<const MAX: usize>;

impl<const MAX: usize> Visitor<'_> for Bytes<MAX> {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX} bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        if bytes.len() > MAX {
            return Err(E::custom(format_args!("there are more than {MAX} bytes")));
        }
        Ok(bytes.to_vec())
    }
}

struct List<T, const MAX: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        list::<D, T, MAX>(deserializer).map(Self)
    }
}

struct Set<T, const MAX: usize>(BTreeSet<T>);

impl<'de, T: Deserialize<'de> + Ord, const MAX: usize> Deserialize<'de> for Set<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        set::<D, T, MAX>(deserializer).map(Self)
    }
}

struct Items<C, const MAX: usize>(PhantomData<C>);

impl<C, const MAX: usize> Items<C, MAX> {
    fn expecting(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX} items")
    }

    /// Refuses an announced number before anything is read, for the formats that announce one.
    fn announced<E: Error>(hint: Option<usize>) -> Result<(), E> {
        match hint {
            Some(len) if len > MAX => Err(Self::too_many()),
            _ => Ok(()),
        }
    }

    fn too_many<E: Error>() -> E {
        E::custom(format_args!("there are more than {MAX} items"))
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<Vec<T>, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::expecting(f)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        Self::announced(seq.size_hint())?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == MAX {
                return Err(Self::too_many());
            }
            items.push(item);
        }
        Ok(items)
    }
}

impl<'de, T: Deserialize<'de> + Ord, const MAX: usize> Visitor<'de> for Items<BTreeSet<T>, MAX> {
    type Value = BTreeSet<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::expecting(f)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<BTreeSet<T>, A::Error> {
        Self::announced(seq.size_hint())?;
        let mut items = BTreeSet::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == MAX {
                return Err(Self::too_many());
            }
            items.insert(item);
        }
        Ok(items)
    }
}

impl<'de, K, V, const MAX: usize> Visitor<'de> for Items<BTreeMap<K, V>, MAX>
where
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    type Value = BTreeMap<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BTreeMap<K, V>, A::Error> {
        Self::announced(map.size_hint())?;
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = map.next_entry()? {
            if entries.len() == MAX {
                return Err(Self::too_many());
            }
            entries.insert(key, value);
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Bounded {
        #[serde(deserialize_with = "list::<_, _, 3>")]
        list: Vec<String>,
        #[serde(deserialize_with = "optional_list::<_, _, 2>")]
        optional: Option<Vec<u8>>,
        #[serde(deserialize_with = "set::<_, _, 2>")]
        set: BTreeSet<u8>,
        #[serde(deserialize_with = "map::<_, _, _, 2>")]
        map: BTreeMap<u8, u8>,
        #[serde(deserialize_with = "map_of_sets::<_, _, _, 2, 1>")]
        sets: BTreeMap<u8, BTreeSet<u8>>,
        #[serde(serialize_with = "write_bytes", deserialize_with = "bytes::<_, 2>")]
        bytes: Vec<u8>,
    }

    fn full() -> Bounded {
        Bounded {
            list: vec![String::new(); 3],
            optional: Some(vec![1, 2]),
            set: [1, 2].into(),
            map: [(1, 1), (2, 2)].into(),
            sets: [(1, [1].into()), (2, [2].into())].into(),
            bytes: vec![1, 2],
        }
    }

    #[test]
    fn lists_decode_up_to_their_bound_and_not_beyond() {
        let full_bytes = postcard::to_allocvec(&full()).expect("encodes");
        assert_eq!(postcard::from_bytes(&full_bytes), Ok(full()));
        let over: [fn(&mut Bounded); 6] = [
            |b| b.list.push(String::new()),
            |b| b.optional = Some(vec![0; 3]),
            |b| b.set.extend([3]),
            |b| b.map.extend([(3, 3)]),
            |b| b.sets.extend([(1, [1, 2].into())]),
            |b| b.bytes.push(3),
        ];
        for add in over {
            let mut value = full();
            add(&mut value);
            let bytes = postcard::to_allocvec(&value).expect("encodes");
            let refused = postcard::from_bytes::<Bounded>(&bytes);
            assert_eq!(refused, Err(postcard::Error::SerdeDeCustom), "{value:?}");
        }
    }

    #[test]
    fn an_announced_number_over_the_bound_is_refused_before_its_items_are_read() {
        // 127 items are announced, and what stands there is none.
        let refused = postcard::from_bytes::<Bounded>(&[[127; 1].as_slice(), &[255; 127]].concat());
        assert_eq!(refused, Err(postcard::Error::SerdeDeCustom));
    }
}
