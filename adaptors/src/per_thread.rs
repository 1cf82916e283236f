//! [`PerThread`]: a number that all threads add to, in one part per thread.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The number of parts. Threads share a part only if more threads exist at a time.
pub(crate) const PARTS: usize = 64;

/// Aligned to two cache lines, because some processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Part(AtomicU64);

/// A number that all threads add to. Each thread adds to its own part. If all threads added to one word, each addition
/// would wait for the word's cache line, which takes longer than the rest of a warm allocation.
#[derive(Debug)]
pub(crate) struct PerThread(Box<[Part; PARTS]>);

impl Default for PerThread {
    fn default() -> Self {
        Self(Box::new(std::array::from_fn(|_| Part::default())))
    }
}

impl PerThread {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0[thread_number() % PARTS].0.fetch_add(n, Relaxed);
    }

    /// Returns the sum. Additions that other threads make at the same time may be missing.
    pub(crate) fn get(&self) -> u64 {
        self.0.iter().map(|part| part.0.load(Relaxed)).sum()
    }
}

#[cfg(not(all(loom, test)))]
#[inline]
pub(crate) fn thread_number() -> usize {
    crate::lock::ThisThread::get().number()
}

/// The models do not count per thread.
#[cfg(all(loom, test))]
pub(crate) fn thread_number() -> usize {
    0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn no_addition_is_lost_with_more_threads_than_parts() {
        let (number, started) = (PerThread::default(), Barrier::new(PARTS + 8));
        std::thread::scope(|scope| {
            for _ in 0..PARTS + 8 {
                scope.spawn(|| {
                    started.wait();
                    (0..1000).for_each(|_| number.add(3));
                });
            }
        });
        assert_eq!(number.get(), 3000 * (PARTS as u64 + 8));
    }

    #[test]
    fn threads_do_not_all_add_to_one_part() {
        let (number, all_exist) = (PerThread::default(), Barrier::new(8));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    number.add(1);
                    all_exist.wait();
                });
            }
        });
        let used = number.0.iter().filter(|part| part.0.load(Relaxed) > 0).count();
        // Not always 8, because the numbers of two threads may differ by the number of parts.
        assert!(number.get() == 8 && used > 1, "{used}");
    }
}
