//! Processor time of other processes, from what Linux tells of their threads.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Processor time that each thread of a process has used so far, user and kernel together.
#[derive(Debug, Default)]
pub(super) struct Used(BTreeMap<String, Duration>);

impl Used {
    /// That of a process; empty where the system does not tell.
    pub(super) fn by(process: u32) -> Self {
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
            return Self::default();
        };
        let of_thread = |thread: fs::DirEntry| {
            // One that has just ended cannot be read any more.
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            Some((thread.file_name().into_string().ok()?, on_processor(&text)?))
        };
        Self(threads.flatten().filter_map(of_thread).collect())
    }

    /// What came since an earlier look; `None` where the system does not tell. What a thread that has
    /// ended in between did since is not in it; such threads were idle for long.
    pub(super) fn since(&self, earlier: &Self) -> Option<Duration> {
        let more = |(thread, time): (&String, &Duration)| {
            time.saturating_sub(earlier.0.get(thread).copied().unwrap_or_default())
        };
        (!self.0.is_empty()).then(|| self.0.iter().map(more).sum())
    }
}

/// The first of the three numbers, nanoseconds (Linux, `Documentation/scheduler/sched-stats.rst`).
fn on_processor(schedstat: &str) -> Option<Duration> {
    schedstat.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(threads: &[(&str, u64)]) -> Used {
        Used(
            threads.iter().map(|(id, ms)| ((*id).to_owned(), Duration::from_millis(*ms))).collect(),
        )
    }

    #[test]
    fn the_first_number_is_the_time() {
        assert_eq!(on_processor("83535239 74179250 229\n"), Some(Duration::from_nanos(83_535_239)));
        assert_eq!(on_processor(""), None);
        assert_eq!(on_processor("x 1 2"), None);
    }

    #[test]
    fn threads_that_come_count_and_threads_that_go_take_nothing_back() {
        let (before, after) = (used(&[("1", 5), ("2", 70)]), used(&[("1", 8), ("3", 4)]));
        assert_eq!(after.since(&before), Some(Duration::from_millis(7)));
        assert_eq!(used(&[]).since(&before), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_works_has_used_something() {
        let used = Used::by(std::process::id()).since(&Used::default()).expect("is told");
        assert!(used > Duration::ZERO);
        assert_eq!(Used::by(u32::MAX).since(&Used::default()), None);
    }
}
