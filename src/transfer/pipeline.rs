//! [`Belt`]: chunks that pass through the slots of a ring, copied piece by piece by threads of the host, in order for the
//! device.
#![forbid(unsafe_code)]

use super::request::Direction;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use std::{array, hint};

/// Slots of a ring. Not every transfer uses all.
pub(super) const SLOTS: usize = 16;
const LOG: usize = 4;
/// Pieces of a chunk, which fills a slot. On the way up the first chunks are smaller, each as large as all before it,
/// so that the device has something to do early.
pub(super) const PER_CHUNK: usize = 1 << LOG;
/// As long as this a thread looks for more to do, and keeps a core busy, before it lets itself be woken.
const PATIENCE: Duration = Duration::from_micros(4);

/// Which pieces the host may copy, and which it has copied. Chunk `i` has slot `i % slots`. Belongs to the thread that
/// made it, which feeds the device; the others only [`work`](Self::work).
#[derive(Debug)]
pub(super) struct Belt {
    pieces: usize,
    pub(super) slots: usize,
    direction: Direction,
    /// Threads that work on it.
    hands: AtomicUsize,
    /// The next piece to copy.
    next: AtomicUsize,
    /// Pieces below may be copied.
    open: AtomicUsize,
    /// How many pieces of the chunk in each slot have been copied.
    copied: [AtomicUsize; SLOTS],
    feeder: Thread,
}

impl Belt {
    pub(super) fn new(pieces: usize, slots: usize, direction: Direction) -> Self {
        Self {
            pieces,
            slots,
            direction,
            hands: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            copied: array::from_fn(|_| AtomicUsize::new(0)),
            feeder: thread::current(),
        }
    }

    pub(super) fn chunks(&self) -> usize {
        self.pieces.checked_sub(1).map_or(0, |last| self.chunk_of(last) + 1)
    }

    /// The pieces of a chunk.
    pub(super) fn pieces(&self, chunk: usize) -> Range<usize> {
        self.start_of(chunk)..self.start_of(chunk + 1).min(self.pieces)
    }

    /// Lets these chunks, which follow those that were opened before, be copied.
    pub(super) fn open(&self, chunks: Range<usize>) {
        for chunk in chunks.clone() {
            self.copied[chunk % self.slots].store(0, Ordering::Relaxed);
        }
        // Whoever takes a piece sees that, and what has landed in the slots.
        self.open.store(self.start_of(chunks.end).min(self.pieces), Ordering::Release);
    }

    /// Calls for threads to [`work`](Self::work), so that there are `hands`, or as many as there are pieces to be
    /// taken.
    pub(super) fn call(&self, hands: usize, call: impl Fn()) {
        let left = self.pieces.saturating_sub(self.next.load(Ordering::Relaxed));
        for _ in self.hands.load(Ordering::Relaxed)..hands.min(left) {
            self.hands.fetch_add(1, Ordering::Relaxed);
            call();
        }
    }

    /// Copies pieces with `copy`, until there are no more or none has come for a while. For a thread that was called
    /// for.
    pub(super) fn work(&self, copy: impl Fn(usize)) {
        let next = || self.next.load(Ordering::Relaxed);
        let over = || next() >= self.pieces;
        loop {
            self.finish(&copy);
            if over() || !self.look(|| over() || next() < self.open.load(Ordering::Relaxed)) {
                break;
            }
        }
        self.hands.fetch_sub(1, Ordering::Relaxed);
    }

    /// Copies pieces with `copy` while there are any that may be copied.
    pub(super) fn finish(&self, copy: impl Fn(usize)) {
        while self.step(usize::MAX, &copy) {}
    }

    /// Waits until a chunk, the one in its slot, has been copied. Copies those of its pieces that nobody else has
    /// taken.
    pub(super) fn wait(&self, chunk: usize, copy: impl Fn(usize)) {
        let pieces = self.pieces(chunk);
        let done = || self.copied[chunk % self.slots].load(Ordering::Acquire) == pieces.len();
        while self.step(pieces.end, &copy) {}
        while !done() && !self.look(done) {
            // Whoever copies the last piece wakes this thread.
            thread::park();
        }
    }

    /// Looks for something for a while, and says whether it has come.
    fn look(&self, found: impl Fn() -> bool) -> bool {
        let since = Instant::now();
        while !found() {
            if since.elapsed() > PATIENCE {
                return false;
            }
            (0..16).for_each(|_| hint::spin_loop());
            thread::yield_now();
        }
        true
    }

    /// Starts no more copies.
    pub(super) fn stop(&self) {
        self.next.store(self.pieces, Ordering::Relaxed);
    }

    /// Copies a piece below `end`, if there is one that may be copied.
    fn step(&self, end: usize, copy: impl Fn(usize)) -> bool {
        let end = self.open.load(Ordering::Acquire).min(end);
        let take = |next: usize| (next < end).then_some(next + 1);
        let Ok(piece) = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) else { return false };
        copy(piece);
        let chunk = self.chunk_of(piece);
        let copied = self.copied[chunk % self.slots].fetch_add(1, Ordering::AcqRel) + 1;
        if copied == self.pieces(chunk).len() {
            self.feeder.unpark();
        }
        true
    }

    /// The first piece of a chunk.
    fn start_of(&self, chunk: usize) -> usize {
        match (self.direction, chunk) {
            (Direction::ToHost, _) => chunk * PER_CHUNK,
            (Direction::ToDevice, 0) => 0,
            (Direction::ToDevice, 1..=LOG) => 1 << (chunk - 1),
            (Direction::ToDevice, _) => (chunk - LOG) * PER_CHUNK,
        }
    }

    /// The chunk that a piece belongs to.
    pub(super) fn chunk_of(&self, piece: usize) -> usize {
        match (self.direction, piece / PER_CHUNK) {
            (Direction::ToHost, chunk) => chunk,
            (Direction::ToDevice, 0) => (usize::BITS - piece.leading_zeros()) as usize,
            (Direction::ToDevice, chunk) => LOG + chunk,
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
            let belt = Belt::new(pieces, SLOTS, direction);
            let all: Vec<usize> = (0..belt.chunks()).flat_map(|chunk| belt.pieces(chunk)).collect();
            assert!(all.into_iter().eq(0..pieces), "{pieces}");
            assert!((0..pieces).all(|piece| belt.pieces(belt.chunk_of(piece)).contains(&piece)), "{pieces}");
        }
    }

    #[test]
    fn every_piece_is_copied_once_and_not_before_it_may() {
        const PIECES: usize = 399;
        for (slots, direction) in [(1, Direction::ToHost), (5, Direction::ToDevice), (SLOTS, Direction::ToHost)] {
            let (belt, open) = (Belt::new(PIECES, slots, direction), AtomicUsize::new(0));
            let copies = [const { AtomicUsize::new(0) }; PIECES];
            let copy = |piece: usize| {
                assert!(piece < open.load(Ordering::SeqCst));
                copies[piece].fetch_add(1, Ordering::SeqCst);
            };
            let copied = |pieces: Range<usize>| pieces.map(|i| copies[i].load(Ordering::SeqCst)).sum::<usize>();
            let all_of = |chunk: usize| assert_eq!(copied(belt.pieces(chunk)), belt.pieces(chunk).len());
            thread::scope(|scope| {
                for chunk in 0..belt.chunks() {
                    if let Some(before) = chunk.checked_sub(slots) {
                        belt.wait(before, copy);
                        all_of(before);
                    }
                    open.store(belt.pieces(chunk).end, Ordering::SeqCst);
                    belt.open(chunk..chunk + 1);
                    belt.call(3, || _ = scope.spawn(|| belt.work(copy)));
                    assert!(belt.hands.load(Ordering::SeqCst) <= 3);
                }
                belt.finish(copy);
                belt.wait(belt.chunks() - 1, copy);
            });
            (0..belt.chunks()).for_each(all_of);
            assert!(copies.iter().all(|copies| copies.load(Ordering::SeqCst) == 1));
            assert_eq!(belt.hands.into_inner(), 0, "nobody stays");
        }
    }

    #[test]
    fn one_thread_is_enough() {
        let (belt, copied) = (Belt::new(100, 2, Direction::ToDevice), AtomicUsize::new(0));
        for chunk in 0..belt.chunks() {
            belt.open(chunk..chunk + 1);
            belt.wait(chunk, |_| _ = copied.fetch_add(1, Ordering::SeqCst));
        }
        assert_eq!(copied.into_inner(), 100);
    }

    #[test]
    fn a_stopped_belt_has_no_work() {
        let belt = Belt::new(10, 2, Direction::ToDevice);
        belt.open(0..2);
        belt.stop();
        belt.call(8, || panic!("stopped"));
        belt.work(|_| panic!("stopped"));
    }
}
