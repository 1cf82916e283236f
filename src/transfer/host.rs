//! Copies of the host.

use std::thread;

/// From here on several threads copy faster than they take to start.
const PARALLEL_FROM: usize = 16 << 20;
/// With eight of them and streaming stores an H100's host keeps up with two thirds of the link
/// (`benches/README.md`).
const THREADS: usize = 8;

/// How many threads are worth while on this machine.
pub(super) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(THREADS)
}

/// Two ends of a copy, for another thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) to: *mut u8,
    pub(crate) from: *const u8,
    pub(crate) bytes: usize,
}

// SAFETY: addresses; who copies vouches for what is there.
unsafe impl Send for Ends {}
// SAFETY: as above.
unsafe impl Sync for Ends {}

impl Ends {
    /// `bytes` of them from `offset` on, both within the ends.
    pub(super) fn part(self, offset: usize, bytes: usize) -> Self {
        Self { to: self.to.wrapping_add(offset), from: self.from.wrapping_add(offset), bytes }
    }

    /// Copies with stores that go past the caches where the processor has them: what is written here is read next by the
    /// link, or is more than fits.
    ///
    /// # Safety
    ///
    /// Both ends are valid for that many bytes, `to` for writes, do not overlap, and nothing else uses them in a conflicting
    /// way.
    pub(super) unsafe fn stream(self) {
        // SAFETY: by the contract.
        unsafe { streaming::copy(self.to, self.from, self.bytes) }
    }
}

/// Copies `bytes` bytes, with several threads if they are many.
///
/// # Safety
///
/// Both ranges are valid, `to` for writes, do not overlap, and nothing else uses them in a conflicting way.
pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) {
    let ends = Ends { to, from, bytes };
    let others = if bytes < PARALLEL_FROM { 0 } else { threads() - 1 };
    let part = bytes.div_ceil(others + 1).next_multiple_of(4096);
    let part_of = |i: usize| {
        let start = (i * part).min(bytes);
        ends.part(start, part.min(bytes - start))
    };
    // SAFETY: by the contract; parts do not overlap.
    let copy = move |i| unsafe { part_of(i).stream() };
    let copy = &copy;
    thread::scope(|scope| {
        // What no thread can be had for is copied here.
        let start = |i: &usize| {
            thread::Builder::new()
                .spawn_scoped(scope, {
                    let i = *i;
                    move || copy(i)
                })
                .is_err()
        };
        (1..=others).filter(start).for_each(copy);
        copy(0);
    });
}

#[cfg(target_arch = "x86_64")]
mod streaming {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    use std::ptr;

    /// # Safety
    ///
    /// That of [`Ends::stream`](super::Ends::stream).
    pub(super) unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) {
        const WORD: usize = size_of::<__m128i>();
        const LINE: usize = 4 * WORD;
        let head = to.align_offset(LINE).min(bytes);
        // SAFETY: by the contract.
        unsafe { ptr::copy_nonoverlapping(from, to, head) };
        let lines = (bytes - head) / LINE;
        let (mut at, mut next) = (to.wrapping_add(head), from.wrapping_add(head));
        for _ in 0..lines {
            let words = [0, 1, 2, 3].map(|i| {
                // SAFETY: a whole line is left to read; the load takes any alignment.
                unsafe { _mm_loadu_si128(next.wrapping_add(i * WORD).cast()) }
            });
            for (i, word) in words.into_iter().enumerate() {
                // SAFETY: a whole line is left to write, and it is aligned.
                unsafe { _mm_stream_si128(at.wrapping_add(i * WORD).cast(), word) };
            }
            (at, next) = (at.wrapping_add(LINE), next.wrapping_add(LINE));
        }
        // SAFETY: fewer bytes than a line are left.
        unsafe { ptr::copy_nonoverlapping(next, at, bytes - head - lines * LINE) };
        // SAFETY: every processor of this architecture has it. Streamed stores are not ordered with others before a fence.
        unsafe { _mm_sfence() };
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod streaming {
    /// # Safety
    ///
    /// That of [`Ends::stream`](super::Ends::stream).
    pub(super) unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) {
        // SAFETY: by the contract.
        unsafe { std::ptr::copy_nonoverlapping(from, to, bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_arrives_and_no_other() {
        let source: Vec<u8> = (0..(PARALLEL_FROM + 5000)).map(|i| (i * 31 % 251) as u8).collect();
        let mut target = vec![0_u8; source.len() + 200];
        for bytes in [0, 1, 63, 64, 65, 4097, PARALLEL_FROM - 1, PARALLEL_FROM, PARALLEL_FROM + 4099] {
            for shift in [0, 1, 16, 33] {
                target.fill(9);
                // SAFETY: both vectors are longer.
                unsafe { copy(target[shift..].as_mut_ptr(), source[3..].as_ptr(), bytes) };
                assert!(target[shift..shift + bytes] == source[3..3 + bytes], "{bytes} bytes at {shift}");
                assert!(target[..shift].iter().chain(&target[shift + bytes..]).all(|byte| *byte == 9));
            }
        }
    }
}
