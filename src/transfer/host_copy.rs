//! Copies of the host.

use super::copy_threads;
use super::request::Ends;

/// From here on several threads copy faster than they take to wake.
const PARALLEL_FROM: usize = 2 << 20;

impl Ends {
    /// `bytes` of them from `offset` on, both within the ends.
    pub(super) fn part(self, offset: usize, bytes: usize) -> Self {
        Self { to: self.to.wrapping_add(offset), from: self.from.wrapping_add(offset), bytes }
    }

    /// Copies with stores that go past the caches where the processor has them: what is written here is read next by
    /// the link, or is more than fits.
    ///
    /// # Safety
    ///
    /// Both ends are valid for that many bytes, `to` for writes, do not overlap, and nothing else uses them in a
    /// conflicting way.
    pub(super) unsafe fn stream(self) {
        // SAFETY: by the contract.
        unsafe { streaming::copy(self.to, self.from, self.bytes) }
    }

    /// Copies in the same way from memory that a device has written and will write again. What is read leaves this
    /// core's own caches, where the processor can do that: there it would hold the link up, to half its speed on an
    /// H100's host (`benches/README.md`).
    ///
    /// # Safety
    ///
    /// That of [`stream`](Self::stream).
    pub(super) unsafe fn drain(self) {
        // SAFETY: by the contract.
        unsafe { self.stream() };
        streaming::demote(self.from, self.bytes);
    }
}

/// Copies `bytes` bytes, with several threads if they are many.
///
/// # Safety
///
/// Both ranges are valid, `to` for writes, do not overlap, and nothing else uses them in a conflicting way.
pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) {
    let ends = Ends { to, from, bytes };
    let crew = if bytes < PARALLEL_FROM { None } else { copy_threads::get() };
    let others = crew.as_ref().map_or(0, |_| copy_threads::size());
    let part = bytes.div_ceil(others + 1).next_multiple_of(4096);
    let part_of = |i: usize| {
        let start = (i * part).min(bytes);
        ends.part(start, part.min(bytes - start))
    };
    // SAFETY: by the contract; parts do not overlap.
    let copy = move |i| unsafe { part_of(i).stream() };
    match crew {
        None => copy(0),
        Some(crew) => crew.in_place_scope(|scope| {
            (1..=others).for_each(|i| scope.spawn(move |_| copy(i)));
            copy(0);
        }),
    }
}

#[cfg(target_arch = "x86_64")]
mod streaming {
    use std::arch::asm;
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    use std::ptr;

    const WORD: usize = size_of::<__m128i>();
    const LINE: usize = 4 * WORD;

    /// # Safety
    ///
    /// That of [`Ends::stream`](Ends::stream).
    pub(super) unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) {
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
        // SAFETY: every processor of this architecture has it. Streamed stores are not ordered with others before a
        // fence.
        unsafe { _mm_sfence() };
    }

    /// Moves lines from this core's caches to the one that all share.
    pub(super) fn demote(at: *const u8, bytes: usize) {
        for line in (0..bytes).step_by(LINE).map(|offset| at.wrapping_add(offset)) {
            // SAFETY: a hint, which changes no memory; a processor that does not know it does nothing.
            unsafe { asm!("cldemote [{}]", in(reg) line, options(nostack, preserves_flags, readonly)) };
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod streaming {
    /// # Safety
    ///
    /// That of [`Ends::stream`](Ends::stream).
    pub(super) unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) {
        // SAFETY: by the contract.
        unsafe { std::ptr::copy_nonoverlapping(from, to, bytes) };
    }

    /// There is no such hint.
    pub(super) fn demote(_at: *const u8, _bytes: usize) {}
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
                let ends = Ends { to: target[shift..].as_mut_ptr(), from: source[5..].as_ptr(), bytes };
                // SAFETY: as above.
                unsafe { ends.drain() };
                assert!(target[shift..shift + bytes] == source[5..5 + bytes], "{bytes} bytes at {shift}, drained");
            }
        }
    }
}
