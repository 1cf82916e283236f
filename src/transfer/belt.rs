//! [`Belt`]: chunks that pass through the slots of a ring, copied by threads of the host, in order for the device.
#![forbid(unsafe_code)]

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Slots of a ring.
pub(super) const SLOTS: usize = 12;

/// Which chunks the host may copy, and which it has copied. Chunk `i` has slot `i % SLOTS`.
#[derive(Debug)]
pub(super) struct Belt {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// The next chunk to copy.
    next: usize,
    /// Chunks below may be copied.
    open: usize,
    /// There are no more.
    chunks: usize,
    /// The chunk that was last copied in each slot, plus one.
    copied: [usize; SLOTS],
}

impl Belt {
    pub(super) fn new(chunks: usize, open: usize) -> Self {
        let state = State { next: 0, open: open.min(chunks), chunks, copied: [0; SLOTS] };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Copies chunks with `copy` until none is left.
    pub(super) fn work(&self, copy: impl Fn(usize)) {
        let mut state = self.lock();
        while state.next < state.chunks {
            if state.next == state.open {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let chunk = state.next;
            state.next += 1;
            drop(state);
            copy(chunk);
            state = self.lock();
            state.copied[chunk % SLOTS] = chunk + 1;
            self.changed.notify_all();
        }
    }

    /// Lets all chunks below `open` be copied.
    pub(super) fn open(&self, open: usize) {
        let mut state = self.lock();
        state.open = open.min(state.chunks);
        self.changed.notify_all();
    }

    /// Waits until a chunk has been copied. Its slot has no later one yet.
    pub(super) fn wait(&self, chunk: usize) {
        let mut state = self.lock();
        while state.copied[chunk % SLOTS] != chunk + 1 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Starts no more copies.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.chunks = state.next;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    #[test]
    fn every_chunk_is_copied_once_and_not_before_it_may() {
        const CHUNKS: usize = 100;
        let (belt, open, copied) = (Belt::new(CHUNKS, 0), AtomicUsize::new(0), AtomicUsize::new(0));
        let copy = |chunk: usize| {
            assert!(chunk < open.load(Ordering::SeqCst));
            copied.fetch_add(1, Ordering::SeqCst);
        };
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| belt.work(copy));
            }
            for chunk in 0..CHUNKS {
                if chunk >= SLOTS {
                    belt.wait(chunk - SLOTS);
                }
                open.store(chunk + 1, Ordering::SeqCst);
                belt.open(chunk + 1);
            }
        });
        assert_eq!(copied.into_inner(), CHUNKS);
    }

    #[test]
    fn a_stopped_belt_keeps_nobody() {
        let belt = Belt::new(10, 1);
        thread::scope(|scope| {
            scope.spawn(|| belt.work(|_| ()));
            belt.wait(0);
            belt.stop();
        });
    }
}
