//! [`Program`]: random operations that run on a resource and on a model, which must agree.

mod load;
mod model;
mod op;
mod worker;

pub use load::Load;
pub use model::Model;
pub use op::{Op, Ops};

use crate::broken::Broken;
use crate::contents::Contents;
use cumem::{MemoryResource, Stream};
use std::sync::Mutex;
use worker::{Shared, Worker};

/// A sequence of random operations, determined by a seed and by limits.
#[derive(Debug, Clone)]
pub struct Program {
    pub(crate) seed: u64,
    pub(crate) operations: usize,
    pub(crate) max_live: usize,
    pub(crate) max_size: usize,
    pub(crate) max_align: usize,
}

impl Program {
    /// Creates a program of 2,000 operations on up to 100 live blocks of up to 1 MiB.
    pub fn new(seed: u64) -> Self {
        Self { seed, operations: 2_000, max_live: 100, max_size: 1 << 20, max_align: 256 }
    }

    /// Sets the number of operations, not counting the frees of blocks that are still live at the end.
    pub fn operations(mut self, operations: usize) -> Self {
        self.operations = operations;
        self
    }

    /// Sets roughly how many blocks may be live at a time.
    pub fn max_live(mut self, blocks: usize) -> Self {
        self.max_live = blocks;
        self
    }

    /// Sets the largest size in bytes. Every order of magnitude below it is equally likely.
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// Sets the largest alignment in bytes, a power of two.
    pub fn max_align(mut self, bytes: usize) -> Self {
        self.max_align = bytes;
        self
    }

    /// Returns the operations on `streams` streams. The iterator is lazy, so a long program takes no memory.
    pub fn ops(&self, streams: usize) -> Ops {
        Ops::new(self, streams)
    }

    /// Runs the program, compares it with the model at every step, and frees everything.
    ///
    /// `observe` is called after every step and after every free at the end, for example to compare counters with the
    /// model's. If it panics, the seed is printed.
    ///
    /// # Errors
    ///
    /// Returns the promise that the resource broke, with the operation and the seed.
    ///
    /// # Panics
    ///
    /// Panics if `streams` is empty.
    pub fn run<R: MemoryResource>(
        &self,
        resource: &R,
        streams: &[Stream],
        contents: &Contents<R::Kind>,
        observe: impl FnMut(&Model),
    ) -> Result<Model, Broken> {
        let named = SeedOnPanic(self.seed);
        let result = Self::run_ops(self.ops(streams.len()), resource, streams, contents, observe);
        drop(named);
        result.map_err(|broken| broken.at(format_args!("program of seed {}", self.seed)))
    }

    /// Runs operations that come from elsewhere, for example from a fuzzer, as [`run`](Self::run) does.
    ///
    /// # Errors
    ///
    /// Returns what the resource did that its contract forbids, and the number of the operation.
    ///
    /// # Panics
    ///
    /// Panics if there is no stream, or if an operation names a stream that is not in `streams`.
    pub fn run_ops<R: MemoryResource>(
        ops: impl IntoIterator<Item = Op>,
        resource: &R,
        streams: &[Stream],
        contents: &Contents<R::Kind>,
        observe: impl FnMut(&Model),
    ) -> Result<Model, Broken> {
        assert!(!streams.is_empty(), "a program needs a stream");
        let shared = Shared { resource, contents, live: Mutex::default(), exchange: None };
        let model = Worker::new(&shared, streams, 0).run(ops.into_iter(), observe)?;
        shared.finish().map(|()| model)
    }
}

/// Prints the seed of the program if it panics.
struct SeedOnPanic(u64);

impl Drop for SeedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in a program of seed {}", self.0);
        }
    }
}
