//! The clocks of this machine.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use exo_types::{Now, Timestamp};

/// Reads wall-clock and monotonic time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins now.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Both times.
    pub(crate) fn now(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let millis = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        Now { wall: Timestamp(millis), mono: self.start.elapsed() }
    }

    /// The instant of a monotonic time.
    pub(crate) fn instant(&self, mono: Duration) -> Instant {
        self.start.checked_add(mono).unwrap_or_else(|| self.start + FAR)
    }
}

/// A time that never comes within a process's life.
const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);
