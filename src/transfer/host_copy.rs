//! Copies by the host, with non-temporal stores: they bypass the caches.

use super::copy_threads;
use super::request::Ends;

/// Smallest copy that several threads share. For less, waking them takes longer than they save.
const PARALLEL_MIN: usize = 2 << 20;

impl Ends {
    /// Returns `bytes` bytes of both ends from `offset` on. They must lie within the ends.
    pub(super) fn part(self, offset: usize, bytes: usize) -> Self {
        Self { to: self.to.wrapping_add(offset), from: self.from.wrapping_add(offset), bytes }
    }

    /// Copies with non-temporal stores, if the processor has them, because the caches are of no use here: the next
    /// reader is the link, or the bytes do not fit.
    ///
    /// # Safety
    ///
    /// - `from` is valid for reads of `bytes` bytes, and `to` for writes.
    /// - The two ranges do not overlap, and nothing else uses them in a conflicting way.
    pub(super) unsafe fn copy_past_caches(self) {
        // SAFETY: the caller keeps the same contract.
        unsafe { non_temporal::copy(self.to, self.from, self.bytes) }
    }

    /// Copies in the same way from memory that a device has written and will write again.
    ///
    /// If the processor has such an instruction, the lines of the source are then demoted from this core's own caches.
    /// Lines that stay there slow the link's next writes down, to half speed on an H100's host (`benches/README.md`).
    ///
    /// # Safety
    ///
    /// The contract of [`copy_past_caches`](Self::copy_past_caches).
    pub(super) unsafe fn copy_and_demote_source(self) {
        // SAFETY: the caller keeps the same contract.
        unsafe { self.copy_past_caches() };
        non_temporal::demote(self.from, self.bytes);
    }
}

/// Copies `bytes` bytes, with several threads if there are at least [`PARALLEL_MIN`].
///
/// # Safety
///
/// - `from` is valid for reads of `bytes` bytes, and `to` for writes.
/// - The two ranges do not overlap, and nothing else uses them in a conflicting way.
pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) {
    let ends = Ends { to, from, bytes };
    let threads = if bytes < PARALLEL_MIN { None } else { copy_threads::thread_pool() };
    let others = threads.as_ref().map_or(0, |_| copy_threads::count());
    let part = bytes.div_ceil(others + 1).next_multiple_of(4096);
    let part_of = |i: usize| {
        let start = (i * part).min(bytes);
        ends.part(start, part.min(bytes - start))
    };
    // SAFETY: the caller ensures this for the whole ranges, and the parts do not overlap.
    let copy = move |i| unsafe { part_of(i).copy_past_caches() };
    match threads {
        None => copy(0),
        Some(threads) => threads.in_place_scope(|scope| {
            (1..=others).for_each(|i| scope.spawn(move |_| copy(i)));
            copy(0);
        }),
    }
}

#[cfg(target_arch = "x86_64")]
mod non_temporal {
    use std::arch::asm;
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    use std::ptr;

    const WORD: usize = size_of::<__m128i>();
    const LINE: usize = 4 * WORD;

    /// # Safety
    ///
    /// The contract of `Ends::copy_past_caches`.
    pub(super) unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) {
        let head = to.align_offset(LINE).min(bytes);
        // SAFETY: the caller ensures this for the whole ranges, and the head is a part of them.
        unsafe { ptr::copy_nonoverlapping(from, to, head) };
        let lines = (bytes - head) / LINE;
        let (mut at, mut next) = (to.wrapping_add(head), from.wrapping_add(head));
        for _ in 0..lines {
            let words = [0, 1, 2, 3].map(|i| {
                // SAFETY: at least one whole line is left to read, and the load accepts any alignment.
                unsafe { _mm_loadu_si128(next.wrapping_add(i * WORD).cast()) }
            });
            for (i, word) in words.into_iter().enumerate() {
                // SAFETY: at least one whole line is left to write, and `at` is aligned to a line.
                unsafe { _mm_stream_si128(at.wrapping_add(i * WORD).cast(), word) };
            }
            (at, next) = (at.wrapping_add(LINE), next.wrapping_add(LINE));
        }
        // SAFETY: these bytes are the end of both ranges, less than a line.
        unsafe { ptr::copy_nonoverlapping(next, at, bytes - head - lines * LINE) };
        // The fence orders the non-temporal stores before later stores.
        // SAFETY: every processor of this architecture has the instruction.
        unsafe { _mm_sfence() };
    }

    /// Moves lines from this core's own caches to the cache that all cores share.
    pub(super) fn demote(at: *const u8, bytes: usize) {
        for line in (0..bytes).step_by(LINE).map(|offset| at.wrapping_add(offset)) {
            // SAFETY: the instruction is a hint that changes no memory. Processors without it ignore it.
            unsafe { asm!("cldemote [{}]", in(reg) line, options(nostack, preserves_flags, readonly)) };
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod non_temporal {
    /// # Safety
    ///
    /// The contract of `Ends::copy_past_caches`.
    pub(super) unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) {
        // SAFETY: the caller keeps the same contract.
        unsafe { std::ptr::copy_nonoverlapping(from, to, bytes) };
    }

    /// Does nothing: there is no such instruction here.
    pub(super) fn demote(_at: *const u8, _bytes: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_arrives_and_no_other() {
        let source: Vec<u8> = (0..(PARALLEL_MIN + 5000)).map(|i| (i * 31 % 251) as u8).collect();
        let mut target = vec![0_u8; source.len() + 200];
        for bytes in [0, 1, 63, 64, 65, 4097, PARALLEL_MIN - 1, PARALLEL_MIN, PARALLEL_MIN + 4099] {
            for shift in [0, 1, 16, 33] {
                target.fill(9);
                // SAFETY: both vectors are longer, and `target` is borrowed mutably.
                unsafe { copy(target[shift..].as_mut_ptr(), source[3..].as_ptr(), bytes) };
                assert!(target[shift..shift + bytes] == source[3..3 + bytes], "{bytes} bytes at {shift}");
                assert!(target[..shift].iter().chain(&target[shift + bytes..]).all(|byte| *byte == 9));
                let ends = Ends { to: target[shift..].as_mut_ptr(), from: source[5..].as_ptr(), bytes };
                // SAFETY: both vectors are longer, and `target` is borrowed mutably.
                unsafe { ends.copy_and_demote_source() };
                assert!(target[shift..shift + bytes] == source[5..5 + bytes], "{bytes} bytes at {shift}, demoted");
            }
        }
    }
}
