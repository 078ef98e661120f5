//! The one hash of the project: SHA-256 (FIPS 180-4) under a label, over parts that cannot run into
//! each other.

use aws_lc_rs::digest::{Context, SHA256};
use exo_types::ContentHash;

use crate::label::Label;

/// SHA-256 over the label and the parts. Each part stands behind its length in eight big-endian
/// bytes, the label behind one, so that different lists of parts are different inputs.
pub fn hash(label: Label, parts: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut context = Context::new(&SHA256);
    context.update(&label.prefix());
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; HASH_BYTES];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The hash by which equal records are recognised: over the title and the text, as they are.
pub fn content_hash(title: &str, text: &str) -> ContentHash {
    ContentHash(hash(Label::CONTENT_HASH, &[title.as_bytes(), text.as_bytes()]))
}

/// Length of a hash, bytes.
pub const HASH_BYTES: usize = 32;

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
    fn labels_separate_equal_parts() {
        assert_ne!(hash(Label::ANSWER, &[b"a"]), hash(Label::TOKEN, &[b"a"]));
    }

    #[test]
    fn title_and_text_are_told_apart() {
        assert_eq!(content_hash("title", "text"), content_hash("title", "text"));
        assert_ne!(content_hash("title", "text"), content_hash("", "titletext"));
    }
}
