//! The one hash of the project: SHA-256 (FIPS 180-4) under a label, over parts that cannot run into
//! each other.

use aws_lc_rs::digest::{Context, SHA256, digest};
use exo_types::ContentHash;

use crate::label::Label;

/// SHA-256 over the label and the parts. Each part stands behind its length in eight big-endian
/// bytes, the label behind one, so that different lists of parts are different inputs.
pub fn hash(label: Label, parts: &[&[u8]]) -> [u8; HASH_BYTES] {
    let name = label.as_str().as_bytes();
    // As `Label::prefix` has it; labels are shorter than 256 bytes.
    let prefix = [&[name.len() as u8], name];
    let len = prefix.iter().map(|part| part.len()).sum::<usize>()
        + parts.iter().map(|part| LENGTH_BYTES + part.len()).sum::<usize>();
    let mut gathered = [0; GATHERED_BYTES];
    let digest = if len <= GATHERED_BYTES {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            gathered[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        prefix.into_iter().for_each(&mut put);
        for part in parts {
            put(&(part.len() as u64).to_be_bytes());
            put(part);
        }
        digest(&SHA256, &gathered[..len])
    } else {
        let mut context = Context::new(&SHA256);
        prefix.into_iter().for_each(|bytes| context.update(bytes));
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.finish()
    };
    let mut out = [0; HASH_BYTES];
    out.copy_from_slice(digest.as_ref());
    out
}

/// The hash by which equal records are recognised: over the title and the text, as they are.
pub fn content_hash(title: &str, text: &str) -> ContentHash {
    ContentHash(hash(Label::CONTENT_HASH, &[title.as_bytes(), text.as_bytes()]))
}

/// Length of a hash, bytes.
pub const HASH_BYTES: usize = 32;
/// Length of a part's length, bytes.
const LENGTH_BYTES: usize = 8;
/// Up to this length everything is put together and hashed in one call: a context is kept on the heap,
/// which takes as long as hashing a short text. Bytes.
const GATHERED_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of = |parts: &[&[u8]]| hash(Label::ANSWER, parts);
        let all =
            [of(&[b"ab", b"c"]), of(&[b"a", b"bc"]), of(&[b"abc"]), of(&[b"abc", b""]), of(&[])];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b), "{i}");
        }
    }

    #[test]
    fn short_and_long_inputs_are_hashed_by_one_rule() {
        let text = [7; 2 * GATHERED_BYTES];
        let prefix = Label::ANSWER.prefix();
        let room = GATHERED_BYTES - prefix.len() - 2 * LENGTH_BYTES;
        for len in [0, 1, room - 3, room - 2, room - 1, room, text.len()] {
            let mut plain = prefix.clone();
            for part in [b"ab".as_slice(), &text[..len]] {
                plain.extend_from_slice(&(part.len() as u64).to_be_bytes());
                plain.extend_from_slice(part);
            }
            let expected = digest(&SHA256, &plain);
            assert_eq!(hash(Label::ANSWER, &[b"ab", &text[..len]]), expected.as_ref(), "{len}");
        }
    }

    #[test]
    fn labels_separate_equal_parts() {
        assert_ne!(hash(Label::ANSWER, &[b"a"]), hash(Label::TOKEN, &[b"a"]));
    }

    #[test]
    fn title_and_text_are_told_apart() {
        assert_eq!(content_hash("title", "text"), content_hash("title", "text"));
        assert_ne!(content_hash("title", "text"), content_hash("", "titletext"));
    }
}
