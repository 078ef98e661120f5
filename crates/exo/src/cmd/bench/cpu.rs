//! The clock of a thread's own processor time: what other programs do on this machine is not in it,
//! and what the kernel does in this thread's system calls is.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Processor time that the calling thread has used, user and kernel together.
pub(super) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Processor time that the calling thread takes for something.
pub(super) fn spent<R>(act: impl FnOnce() -> R) -> (R, Duration) {
    let before = thread_time();
    let result = act();
    (result, thread_time().saturating_sub(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_counts_and_waiting_does_not() {
        let ((), waited) = spent(|| std::thread::sleep(Duration::from_millis(50)));
        let (sum, worked) = spent(|| {
            (0..20_000_000_u64)
                .fold(0, |sum, n| std::hint::black_box(sum ^ n.wrapping_mul(sum | 1)))
        });
        std::hint::black_box(sum);
        assert!(waited < Duration::from_millis(25), "{waited:?}");
        assert!(worked > waited, "{worked:?} {waited:?}");
    }
}
