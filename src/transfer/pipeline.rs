//! [`Pipeline`]: the order in which the pieces of a transfer pass through the slots of a host ring.
//!
//! A transfer consists of chunks, and each chunk fills a slot. Threads of the host copy a chunk piece by piece. One
//! thread, the pipeline's owner, enqueues the device's copies, in the order of the chunks.
#![forbid(unsafe_code)]

use super::request::Direction;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use std::{array, hint};

/// Slots of a ring. A pipeline may use fewer.
pub(super) const SLOTS_MAX: usize = 16;
const PIECES_PER_CHUNK_LOG2: usize = 4;
/// Pieces of a chunk. In a transfer to the device the first chunks are smaller, so that the device can start early: 1,
/// 1, 2, 4 and 8 pieces.
pub(super) const PIECES_PER_CHUNK: usize = 1 << PIECES_PER_CHUNK_LOG2;
/// How long a thread polls for more to do, and keeps a core busy, before it parks or ends.
const POLL_TIME: Duration = Duration::from_micros(4);

/// Which pieces the host may copy, and which it has copied.
///
/// Chunk `i` uses slot `i % slots`. The thread that creates the pipeline owns it and enqueues the device's copies.
/// Other threads call only [`work`](Self::work).
#[derive(Debug)]
pub(super) struct Pipeline {
    pieces: usize,
    pub(super) slots: usize,
    direction: Direction,
    /// Number of threads that are in `work`, or are starting.
    workers: AtomicUsize,
    /// The next piece to copy.
    next: AtomicUsize,
    /// End of the pieces that may be copied.
    open_end: AtomicUsize,
    /// For each slot, the number of pieces that have been copied of the chunk in it.
    copied: [AtomicUsize; SLOTS_MAX],
    owner: Thread,
}

impl Pipeline {
    pub(super) fn new(pieces: usize, slots: usize, direction: Direction) -> Self {
        Self {
            pieces,
            slots,
            direction,
            workers: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            open_end: AtomicUsize::new(0),
            copied: array::from_fn(|_| AtomicUsize::new(0)),
            owner: thread::current(),
        }
    }

    /// Returns the number of chunks.
    pub(super) fn chunks(&self) -> usize {
        self.pieces.checked_sub(1).map_or(0, |last| self.chunk_of(last) + 1)
    }

    /// Returns the pieces of a chunk.
    pub(super) fn pieces(&self, chunk: usize) -> Range<usize> {
        self.start_of(chunk)..self.start_of(chunk + 1).min(self.pieces)
    }

    /// Allows threads to copy these chunks, which must follow the chunks that were opened before.
    pub(super) fn open(&self, chunks: Range<usize>) {
        for chunk in chunks.clone() {
            self.copied[chunk % self.slots].store(0, Ordering::Relaxed);
        }
        // A thread that takes one of these pieces acquires this store. So it sees the counters at 0, and the bytes that
        // the device has written to the slots.
        self.open_end.store(self.start_of(chunks.end).min(self.pieces), Ordering::Release);
    }

    /// Starts workers with `spawn`, each of which must call [`work`](Self::work). Afterwards there are `count` workers,
    /// or as many as there are pieces that no thread has taken yet.
    pub(super) fn start_workers(&self, count: usize, spawn: impl Fn()) {
        let left = self.pieces.saturating_sub(self.next.load(Ordering::Relaxed));
        for _ in self.workers.load(Ordering::Relaxed)..count.min(left) {
            self.workers.fetch_add(1, Ordering::Relaxed);
            spawn();
        }
    }

    /// Copies pieces with `copy`, until all pieces are taken or no new ones have been opened for [`POLL_TIME`]. Each
    /// worker calls this once.
    pub(super) fn work(&self, copy: impl Fn(usize)) {
        let next = || self.next.load(Ordering::Relaxed);
        let all_taken = || next() >= self.pieces;
        loop {
            self.copy_open_pieces(&copy);
            let more = || all_taken() || next() < self.open_end.load(Ordering::Relaxed);
            if all_taken() || !self.poll(more) {
                break;
            }
        }
        self.workers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Copies pieces with `copy` while there are open ones that no thread has taken.
    pub(super) fn copy_open_pieces(&self, copy: impl Fn(usize)) {
        while self.copy_next_piece(usize::MAX, &copy) {}
    }

    /// Waits until the host has copied a chunk, which must be the latest in its slot. This thread copies those of its
    /// pieces that no other thread has taken.
    pub(super) fn wait_for_chunk(&self, chunk: usize, copy: impl Fn(usize)) {
        let pieces = self.pieces(chunk);
        let is_copied = || self.copied[chunk % self.slots].load(Ordering::Acquire) == pieces.len();
        while self.copy_next_piece(pieces.end, &copy) {}
        while !is_copied() && !self.poll(is_copied) {
            // The thread that copies the last piece of a chunk unparks this one.
            thread::park();
        }
    }

    /// Polls `condition` for up to [`POLL_TIME`], and reports whether it became true.
    fn poll(&self, condition: impl Fn() -> bool) -> bool {
        let since = Instant::now();
        while !condition() {
            if since.elapsed() > POLL_TIME {
                return false;
            }
            (0..16).for_each(|_| hint::spin_loop());
            thread::yield_now();
        }
        true
    }

    /// Marks all pieces as taken, so that no thread starts another copy.
    pub(super) fn stop(&self) {
        self.next.store(self.pieces, Ordering::Relaxed);
    }

    /// Copies the next piece if it is open and lies below `end`. Reports whether it did.
    fn copy_next_piece(&self, end: usize, copy: impl Fn(usize)) -> bool {
        let end = self.open_end.load(Ordering::Acquire).min(end);
        let take = |next: usize| (next < end).then_some(next + 1);
        let Ok(piece) = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) else { return false };
        copy(piece);
        let chunk = self.chunk_of(piece);
        let copied = self.copied[chunk % self.slots].fetch_add(1, Ordering::AcqRel) + 1;
        if copied == self.pieces(chunk).len() {
            self.owner.unpark();
        }
        true
    }

    /// Returns the first piece of a chunk.
    fn start_of(&self, chunk: usize) -> usize {
        match (self.direction, chunk) {
            (Direction::ToHost, _) => chunk * PIECES_PER_CHUNK,
            (Direction::ToDevice, 0) => 0,
            (Direction::ToDevice, 1..=PIECES_PER_CHUNK_LOG2) => 1 << (chunk - 1),
            (Direction::ToDevice, _) => (chunk - PIECES_PER_CHUNK_LOG2) * PIECES_PER_CHUNK,
        }
    }

    /// Returns the chunk that a piece belongs to.
    pub(super) fn chunk_of(&self, piece: usize) -> usize {
        match (self.direction, piece / PIECES_PER_CHUNK) {
            (Direction::ToHost, chunk) => chunk,
            (Direction::ToDevice, 0) => (usize::BITS - piece.leading_zeros()) as usize,
            (Direction::ToDevice, chunk) => PIECES_PER_CHUNK_LOG2 + chunk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_in_one_chunk() {
        let all = [0, 1, 2, 3, 15, 16, 17, 31, 32, 400];
        for (pieces, direction) in all.into_iter().flat_map(|n| [(n, Direction::ToDevice), (n, Direction::ToHost)]) {
            let pipeline = Pipeline::new(pieces, SLOTS_MAX, direction);
            let all: Vec<usize> = (0..pipeline.chunks()).flat_map(|chunk| pipeline.pieces(chunk)).collect();
            assert!(all.into_iter().eq(0..pieces), "{pieces}");
            assert!((0..pieces).all(|piece| pipeline.pieces(pipeline.chunk_of(piece)).contains(&piece)), "{pieces}");
        }
    }

    #[test]
    fn every_piece_is_copied_once_and_not_before_it_is_open() {
        const PIECES: usize = 399;
        for (slots, direction) in [(1, Direction::ToHost), (5, Direction::ToDevice), (SLOTS_MAX, Direction::ToHost)] {
            let (pipeline, open) = (Pipeline::new(PIECES, slots, direction), AtomicUsize::new(0));
            let copies = [const { AtomicUsize::new(0) }; PIECES];
            let copy = |piece: usize| {
                assert!(piece < open.load(Ordering::SeqCst));
                copies[piece].fetch_add(1, Ordering::SeqCst);
            };
            let copied = |pieces: Range<usize>| pieces.map(|i| copies[i].load(Ordering::SeqCst)).sum::<usize>();
            let all_of = |chunk: usize| assert_eq!(copied(pipeline.pieces(chunk)), pipeline.pieces(chunk).len());
            thread::scope(|scope| {
                for chunk in 0..pipeline.chunks() {
                    if let Some(before) = chunk.checked_sub(slots) {
                        pipeline.wait_for_chunk(before, copy);
                        all_of(before);
                    }
                    open.store(pipeline.pieces(chunk).end, Ordering::SeqCst);
                    pipeline.open(chunk..chunk + 1);
                    pipeline.start_workers(3, || _ = scope.spawn(|| pipeline.work(copy)));
                    assert!(pipeline.workers.load(Ordering::SeqCst) <= 3);
                }
                pipeline.copy_open_pieces(copy);
                pipeline.wait_for_chunk(pipeline.chunks() - 1, copy);
            });
            (0..pipeline.chunks()).for_each(all_of);
            assert!(copies.iter().all(|copies| copies.load(Ordering::SeqCst) == 1));
            assert_eq!(pipeline.workers.into_inner(), 0, "all workers have ended");
        }
    }

    #[test]
    fn one_thread_is_enough() {
        let (pipeline, copied) = (Pipeline::new(100, 2, Direction::ToDevice), AtomicUsize::new(0));
        for chunk in 0..pipeline.chunks() {
            pipeline.open(chunk..chunk + 1);
            pipeline.wait_for_chunk(chunk, |_| _ = copied.fetch_add(1, Ordering::SeqCst));
        }
        assert_eq!(copied.into_inner(), 100);
    }

    #[test]
    fn a_stopped_pipeline_has_no_work() {
        let pipeline = Pipeline::new(10, 2, Direction::ToDevice);
        pipeline.open(0..2);
        pipeline.stop();
        pipeline.start_workers(8, || panic!("stopped"));
        pipeline.work(|_| panic!("stopped"));
    }
}
