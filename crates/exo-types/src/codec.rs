//! The bounded codec of the wire and of signed bodies: postcard, with a bound before and checks after.
//!
//! Wire types are never recursive: a recursive type lets a few kilobytes overflow the stack.
//! A frame is a four-byte big-endian length and that many bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes were not encoded or decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Longer than the bound for this type.
    #[error("{actual} bytes where at most {max} are allowed")]
    TooLong {
        /// The bound, bytes.
        max: usize,
        /// The length found or announced, bytes.
        actual: usize,
    },
    /// The bytes are not an encoding of the type.
    #[error("the bytes do not decode: {0}")]
    Malformed(postcard::Error),
    /// Bytes are left over after the value.
    #[error("{0} bytes are left over after the value")]
    Trailing(usize),
    /// The value decodes but breaks a rule of its type.
    #[error("the value is out of bounds: {0}")]
    Invalid(String),
}

/// A type that crosses the wire or is signed: it has a bound in bytes and rules to check.
pub trait Wire: Serialize + DeserializeOwned {
    /// Largest encoding, bytes.
    const BYTES_MAX: usize;

    /// Checks the rules that the encoding alone does not enforce.
    fn check(&self) -> Result<(), CodecError>;

    /// About how long the encoding will be, bytes, where that is known and long: so much room is made
    /// for it at once.
    fn room(&self) -> usize {
        0
    }

    /// Encodes the value; refuses one that its receiver would refuse.
    fn to_wire(&self) -> Result<Vec<u8>, CodecError> {
        self.check()?;
        let mut bytes = Vec::with_capacity(self.room());
        encode_onto(&mut bytes, self)?;
        bound(bytes.len(), Self::BYTES_MAX)?;
        Ok(bytes)
    }

    /// Decodes a value: bound first, then the encoding, then nothing left over, then the rules.
    fn from_wire(bytes: &[u8]) -> Result<Self, CodecError> {
        bound(bytes.len(), Self::BYTES_MAX)?;
        let (value, rest) =
            postcard::take_from_bytes::<Self>(bytes).map_err(CodecError::Malformed)?;
        if !rest.is_empty() {
            return Err(CodecError::Trailing(rest.len()));
        }
        value.check()?;
        Ok(value)
    }
}

/// Puts the encoding of a value behind what is in the buffer, with no bound and no rule checked. The
/// encoding of a struct or tuple is those of its fields one after the other.
///
/// # Errors
/// [`CodecError::Malformed`] when the value cannot be encoded; the buffer then holds a part of it.
pub fn encode_onto<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), CodecError> {
    postcard::serialize_with_flavor(value, Onto(out)).map_err(CodecError::Malformed)
}

/// Where [`encode_onto`] writes to.
struct Onto<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Onto<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Length of a frame's header, bytes.
pub const FRAME_HEADER_BYTES: usize = 4;

/// The header of a frame of `len` bytes; refuses one over `max`.
pub fn frame_header(len: usize, max: usize) -> Result<[u8; FRAME_HEADER_BYTES], CodecError> {
    bound(len, max)?;
    let len = u32::try_from(len).map_err(|_| CodecError::TooLong { max, actual: len })?;
    Ok(len.to_be_bytes())
}

/// The length that a frame's header announces; refused over `max`, before anything is allocated.
pub fn frame_len(header: [u8; FRAME_HEADER_BYTES], max: usize) -> Result<usize, CodecError> {
    let len = u32::from_be_bytes(header) as usize;
    bound(len, max)?;
    Ok(len)
}

/// Refuses a count or length over its bound.
pub fn bound(actual: usize, max: usize) -> Result<(), CodecError> {
    if actual > max { Err(CodecError::TooLong { max, actual }) } else { Ok(()) }
}

/// Turns any rule's error into [`CodecError::Invalid`].
pub fn invalid(error: impl std::fmt::Display) -> CodecError {
    CodecError::Invalid(error.to_string())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Small(Vec<u8>);

    impl Wire for Small {
        const BYTES_MAX: usize = 8;

        fn check(&self) -> Result<(), CodecError> {
            if self.0.contains(&0) { Err(invalid("zero")) } else { Ok(()) }
        }
    }

    #[test]
    fn bound_encoding_leftovers_and_rules_are_each_refused() {
        let good = Small(vec![1, 2]).to_wire().expect("encodes");
        assert_eq!(Small::from_wire(&good), Ok(Small(vec![1, 2])));
        assert!(matches!(Small::from_wire(&[9; 9]), Err(CodecError::TooLong { .. })));
        assert!(matches!(Small::from_wire(&[5, 1]), Err(CodecError::Malformed(_))));
        assert_eq!(Small::from_wire(&[1, 2, 3]), Err(CodecError::Trailing(1)));
        assert!(matches!(Small::from_wire(&[1, 0]), Err(CodecError::Invalid(_))));
        assert!(Small(vec![1; 9]).to_wire().is_err());
        assert!(Small(vec![0]).to_wire().is_err());
    }

    #[test]
    fn a_value_is_encoded_behind_what_is_there_and_its_fields_one_after_the_other() {
        let mut bytes = vec![7];
        encode_onto(&mut bytes, &(Small(vec![1, 2]), 300_u64, "a")).expect("encodes");
        let mut fields = vec![7];
        encode_onto(&mut fields, &Small(vec![1, 2])).expect("encodes");
        encode_onto(&mut fields, &300_u64).expect("encodes");
        encode_onto(&mut fields, "a").expect("encodes");
        assert_eq!(bytes, fields);
        let whole = (Small(vec![1, 2]), 300_u64, "a");
        assert_eq!(bytes[1..], postcard::to_allocvec(&whole).expect("encodes"));
    }

    #[test]
    fn a_frame_of_four_gibibytes_is_refused_by_its_header() {
        assert!(frame_len([0xff; 4], 1024).is_err());
        assert_eq!(frame_len(frame_header(1024, 1024).expect("fits"), 1024), Ok(1024));
        assert!(frame_header(1025, 1024).is_err());
    }
}
