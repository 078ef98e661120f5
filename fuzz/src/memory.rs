//! Counts what is allocated, so that a target can say how much memory an input may cost.
//!
//! The one place with unsafe code here: an allocator is unsafe by its nature. Every call is handed on
//! unchanged, to the sanitizer's allocator where there is one.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: each method is the system allocator's own; counting touches no memory but its counters.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may be there at once.
        grow(size);
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(memory, layout, size) }
    }
}

fn grow(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(live, Relaxed);
}

/// Runs `decode` and asserts that it held at most `factor` times the length of its input at once, and
/// [`SLACK_BYTES`] for what does not depend on it. Only for targets with one thread.
pub fn bounded<T>(factor: usize, input: &[u8], decode: impl FnOnce() -> T) -> T {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let value = decode();
    let held = PEAK.load(Relaxed).saturating_sub(before);
    let allowed = factor * input.len() + SLACK_BYTES;
    assert!(held <= allowed, "{} bytes of input took {held} bytes of memory", input.len());
    value
}

/// Bytes of memory for any input.
pub const SLACK_BYTES: usize = 64 * 1024;
