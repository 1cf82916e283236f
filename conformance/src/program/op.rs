//! [`Op`]: one step of a program.

use super::Program;
use crate::rng::Rng;

/// One step of a program. Every sequence of them is a valid program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Allocates.
    Allocate {
        /// Bytes.
        size: usize,
        /// Alignment, a power of two.
        align: usize,
        /// The stream, by its index.
        stream: usize,
    },
    /// Frees a live block, if there is one.
    Deallocate {
        /// The block, by its index modulo the number of live blocks.
        victim: usize,
        /// The stream, by its index. If the block was allocated on another, this one waits for it first.
        stream: usize,
    },
    /// Hands a live block over to another thread's program, and takes one of theirs. Nothing in a program
    /// that runs alone.
    Exchange {
        /// The block, by its index modulo the number of live blocks.
        victim: usize,
    },
    /// Waits for a stream.
    Synchronize {
        /// The stream, by its index.
        stream: usize,
    },
}

/// The operations of a [`Program`].
#[derive(Debug, Clone)]
pub struct Ops {
    rng: Rng,
    remaining: usize,
    streams: usize,
    max_live: usize,
    max_size: usize,
    align_shifts: usize,
    /// Roughly how many blocks are live, to steer by; failures are not known here.
    live: usize,
}

impl Ops {
    pub(super) fn new(program: &Program, streams: usize) -> Self {
        Self {
            rng: Rng::new(program.seed),
            remaining: program.operations,
            streams,
            max_live: program.max_live.max(1),
            max_size: program.max_size,
            align_shifts: program.max_align.max(1).ilog2() as usize + 1,
            live: 0,
        }
    }

    fn allocate(&mut self) -> Op {
        self.live += 1;
        let size = if self.rng.chance(2) { 0 } else { self.rng.size(self.max_size) };
        // Most requests ask for no more than the floor.
        let align = if self.rng.chance(80) { 256 } else { 1 << self.rng.below(self.align_shifts) };
        Op::Allocate { size, align, stream: self.rng.below(self.streams) }
    }

    fn deallocate(&mut self) -> Op {
        self.live -= 1;
        Op::Deallocate { victim: self.rng.next_u64() as usize, stream: self.rng.below(self.streams) }
    }
}

impl Iterator for Ops {
    type Item = Op;

    fn next(&mut self) -> Option<Op> {
        self.remaining = self.remaining.checked_sub(1)?;
        Some(match self.rng.below(100) {
            0..=2 => Op::Synchronize { stream: self.rng.below(self.streams) },
            3..=7 => Op::Exchange { victim: self.rng.next_u64() as usize },
            // As RMM's mixed test: slightly more likely to allocate, so that the number of live blocks
            // drifts to the maximum and stays near it.
            n if self.live == 0 || (n < 58 && self.live < self.max_live) => self.allocate(),
            _ => self.deallocate(),
        })
    }
}
