//! A node that dies after a step that it is told: for tests of what it says when it comes back.
//!
//! `EXO_FAILPOINT=decide:N` in the environment ends the process, as a SIGKILL would, right after the N-th
//! thing that the replica wanted done is done. Nothing of this is in a build without the feature `liar`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// One more thing is done.
pub(super) fn passed() {
    static DONE: AtomicU64 = AtomicU64::new(0);
    static LAST: OnceLock<Option<u64>> = OnceLock::new();
    let last = LAST.get_or_init(|| std::env::var(VARIABLE).ok().and_then(|text| number(&text)));
    if let Some(last) = last
        && DONE.fetch_add(1, Ordering::SeqCst) + 1 == *last
    {
        tracing::error!(last, "this node dies at its failpoint");
        std::process::abort();
    }
}

/// The number in `decide:N`.
fn number(text: &str) -> Option<u64> {
    text.strip_prefix("decide:")?.parse().ok()
}

/// What sets it.
const VARIABLE: &str = "EXO_FAILPOINT";

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_failpoint_is_the_name_of_the_place_and_a_number() {
        assert_eq!(number("decide:17"), Some(17));
        for text in ["decide:", "decide:x", "17", "share:17", ""] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
