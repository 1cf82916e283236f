//! [`Op`]: one operation of a limits.

use crate::rng::Rng;

/// One operation of a limits. Every sequence of operations is a valid limits.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device, Stream};
/// use cumem_conformance::{Contents, Op, Program};
///
/// let device = Device::simulated(Profile::default())?;
/// let ops = [Op::Allocate { size: 1000, align: 256, stream: 0 }, Op::Deallocate { victim: 0, stream: 0 }];
/// let resource = CudaResource::new(&device);
/// let counts = Program::run_ops(ops, &resource, &[Stream::new(&device)?], &Contents::untouched(), |_| ())?;
/// assert_eq!((counts.total_blocks, counts.peak_bytes), (1, 1000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Allocates a block.
    Allocate {
        /// Size in bytes.
        size: usize,
        /// Alignment in bytes, a power of two.
        align: usize,
        /// Index of the stream.
        stream: usize,
    },
    /// Frees a live block, if there is one.
    Deallocate {
        /// Index of the block, modulo the number of live blocks.
        victim: usize,
        /// Index of the stream. If the block was allocated on another stream, this one waits for it first.
        stream: usize,
    },
    /// Gives a live block to another thread's program, and takes one in return. Does nothing in a program that runs
    /// alone.
    Exchange {
        /// Index of the block, modulo the number of live blocks.
        victim: usize,
    },
    /// Waits for a stream.
    Synchronize {
        /// Index of the stream.
        stream: usize,
    },
}

/// The seed of a random program and its limits.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) seed: u64,
    /// Number of operations.
    pub(super) operations: usize,
    /// Roughly the most blocks that are live at a time.
    pub(super) max_live: usize,
    /// The largest size in bytes.
    pub(super) max_size: usize,
    /// The largest alignment in bytes.
    pub(super) max_align: usize,
}

/// The operations of a [`Program`](crate::Program).
///
/// ```
/// use cumem_conformance::Program;
///
/// // The same seed gives the same operations.
/// let program = Program::new(1).operations(10);
/// assert!(program.ops(2).eq(program.ops(2)));
/// assert_eq!(program.ops(2).count(), 10);
/// ```
#[derive(Debug, Clone)]
pub struct Ops {
    rng: Rng,
    remaining: usize,
    streams: usize,
    max_live: usize,
    max_size: usize,
    align_shifts: usize,
    /// Roughly how many blocks are live. Only an estimate, because this iterator does not see failed allocations.
    live: usize,
}

impl Ops {
    pub(super) fn new(limits: &Limits, streams: usize) -> Self {
        Self {
            rng: Rng::new(limits.seed),
            remaining: limits.operations,
            streams,
            max_live: limits.max_live.max(1),
            max_size: limits.max_size,
            align_shifts: limits.max_align.max(1).ilog2() as usize + 1,
            live: 0,
        }
    }

    fn allocate(&mut self) -> Op {
        self.live += 1;
        let size = if self.rng.chance(2) { 0 } else { self.rng.size(self.max_size) };
        // Most requests need no more than CUDA's minimum alignment.
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
            // As in RMM's mixed test, an allocation is slightly more likely, so that the number of live blocks rises to
            // the maximum and stays near it.
            n if self.live == 0 || (n < 58 && self.live < self.max_live) => self.allocate(),
            _ => self.deallocate(),
        })
    }
}
