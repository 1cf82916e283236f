//! [`Program`]: random operations, run on a resource and on a model that must agree.

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

/// A sequence of random operations, which follows from its seed and these numbers.
#[derive(Debug, Clone)]
pub struct Program {
    pub(crate) seed: u64,
    pub(crate) operations: usize,
    pub(crate) max_live: usize,
    pub(crate) max_size: usize,
    pub(crate) max_align: usize,
}

impl Program {
    /// 2,000 operations on up to 100 live blocks of up to 1 MiB.
    pub fn new(seed: u64) -> Self {
        Self { seed, operations: 2_000, max_live: 100, max_size: 1 << 20, max_align: 256 }
    }

    /// How many operations, before those that free what is left.
    pub fn operations(mut self, operations: usize) -> Self {
        self.operations = operations;
        self
    }

    /// How many blocks may be live at a time, roughly.
    pub fn max_live(mut self, blocks: usize) -> Self {
        self.max_live = blocks;
        self
    }

    /// The largest size. Sizes of every order of magnitude below it are equally likely.
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// The largest alignment, a power of two.
    pub fn max_align(mut self, bytes: usize) -> Self {
        self.max_align = bytes;
        self
    }

    /// Its operations on `streams` streams. Lazily: the longest program takes no memory.
    pub fn ops(&self, streams: usize) -> Ops {
        Ops::new(self, streams)
    }

    /// Runs it, compares with the model at every step, and frees everything.
    ///
    /// `observe` is called after every step, those that free what is left included, for whoever has
    /// counters to compare with the model's; if it panics, the seed is printed.
    ///
    /// # Errors
    ///
    /// What the resource did that its contract forbids, and at which operation of which seed.
    ///
    /// # Panics
    ///
    /// If there is no stream.
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

/// Says which seed a panic belongs to.
struct SeedOnPanic(u64);

impl Drop for SeedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in a program of seed {}", self.0);
        }
    }
}
