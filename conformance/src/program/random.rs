//! [`Program`]: random operations that run on a resource, with the expected values of its counters.

use super::counts::ExpectedCounts;
use super::op::{Limits, Op, Ops};
use super::worker::{Shared, Worker};
use crate::broken::Broken;
use crate::contents::Contents;
use cumem::{MemoryResource, Stream};
use std::sync::Mutex;

/// A sequence of random operations, determined by a seed and by limits.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device, Stream};
/// use cumem_conformance::{Contents, Program};
///
/// let device = Device::simulated(Profile::default())?;
/// let streams = [Stream::new(&device)?, Stream::new(&device)?];
/// let program = Program::new(7).operations(100).max_size(64 << 10);
/// let counts = program.run(&CudaResource::new(&device), &streams, &Contents::untouched(), |_| ())?;
/// assert_eq!(counts.blocks, 0); // the program has freed everything
/// assert!(counts.peak_bytes <= counts.total_bytes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Program {
    limits: Limits,
}

impl Program {
    /// Creates a program of 2,000 operations on up to 100 live blocks of up to 1 MiB.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_conformance::Program;
    /// assert_eq!(Program::new(1).ops(2).count(), 2000);
    /// assert!(Program::new(1).ops(2).ne(Program::new(2).ops(2)), "another seed gives other operations");
    /// ```
    pub fn new(seed: u64) -> Self {
        Self { limits: Limits { seed, operations: 2_000, max_live: 100, max_size: 1 << 20, max_align: 256 } }
    }

    /// Sets the number of operations, not counting the frees of blocks that are still live at the end.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_conformance::Program;
    /// assert_eq!(Program::new(1).operations(30).ops(1).count(), 30);
    /// ```
    pub fn operations(mut self, operations: usize) -> Self {
        self.limits.operations = operations;
        self
    }

    /// Sets roughly how many blocks may be live at a time.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Stream};
    /// # use cumem_conformance::{Contents, Load, Op, Program};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let (resource, stream) = (CudaResource::new(&device), Stream::new(&device)?);
    /// let program = Program::new(1).operations(200).max_live(5).max_size(4096);
    /// let counts = program.run(&resource, &[stream], &Contents::untouched(), |_| ())?;
    /// assert!(counts.peak_blocks < 20 && counts.total_blocks > 50, "{counts:?}");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_live(mut self, blocks: usize) -> Self {
        self.limits.max_live = blocks;
        self
    }

    /// Sets the largest size in bytes. Every order of magnitude below it is equally likely.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_conformance::{Op, Program};
    /// let program = Program::new(1).max_size(4096);
    /// assert!(program.ops(1).all(|op| !matches!(op, Op::Allocate { size, .. } if size > 4096)));
    /// ```
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.limits.max_size = bytes;
        self
    }

    /// Sets the largest alignment in bytes, a power of two.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_conformance::{Op, Program};
    /// let program = Program::new(1).max_align(4096);
    /// assert!(program.ops(1).any(|op| matches!(op, Op::Allocate { align: 4096, .. })));
    /// ```
    pub fn max_align(mut self, bytes: usize) -> Self {
        self.limits.max_align = bytes;
        self
    }

    /// Sets the seed.
    pub(super) fn with_seed(mut self, seed: u64) -> Self {
        self.limits.seed = seed;
        self
    }

    pub(super) fn seed(&self) -> u64 {
        self.limits.seed
    }

    /// Returns the operations on `streams` streams. The iterator is lazy, so a long program takes no memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_conformance::{Op, Program};
    /// let frees = Program::new(1).ops(2).filter(|op| matches!(op, Op::Deallocate { .. })).count();
    /// assert!((500..1500).contains(&frees));
    /// ```
    pub fn ops(&self, streams: usize) -> Ops {
        Ops::new(&self.limits, streams)
    }

    /// Runs the program, checks every block at every step, and frees everything.
    ///
    /// `observe` is called after every step and after every free at the end, for example to compare counters with the
    /// expected ones. If it panics, the seed is printed.
    ///
    /// # Errors
    ///
    /// Returns the promise that the resource broke, with the operation and the seed.
    ///
    /// # Panics
    ///
    /// Panics if `streams` is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Stream};
    /// # use cumem_conformance::{Contents, Load, Op, Program};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let (resource, stream) = (CudaResource::new(&device), Stream::new(&device)?);
    /// let mut steps = 0;
    /// let program = Program::new(1).operations(50);
    /// let counts = program.run(&resource, &[stream], &Contents::through_device(&device)?, |_| steps += 1)?;
    /// assert!(steps >= 50);
    /// assert_eq!((counts.blocks, counts.failures), (0, 0));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn run<R: MemoryResource>(
        &self,
        resource: &R,
        streams: &[Stream],
        contents: &Contents<R::Kind>,
        observe: impl FnMut(&ExpectedCounts),
    ) -> Result<ExpectedCounts, Broken> {
        let named = SeedOnPanic(self.limits.seed);
        let result = Self::run_ops(self.ops(streams.len()), resource, streams, contents, observe);
        drop(named);
        result.map_err(|broken| broken.at(format_args!("program of seed {}", self.limits.seed)))
    }

    /// Runs operations that come from elsewhere, for example from a fuzzer, as [`run`](Self::run) does.
    ///
    /// # Errors
    ///
    /// Returns the promise that the resource broke, with the operation and its number.
    ///
    /// # Panics
    ///
    /// Panics if there is no stream, or if an operation names a stream that is not in `streams`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Stream};
    /// # use cumem_conformance::{Contents, Load, Op, Program};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let (resource, stream) = (CudaResource::new(&device), Stream::new(&device)?);
    /// let ops = [64, 4096].map(|size| Op::Allocate { size, align: 256, stream: 0 });
    /// let counts = Program::run_ops(ops, &resource, &[stream], &Contents::untouched(), |_| ())?;
    /// assert_eq!((counts.peak_bytes, counts.bytes), (4160, 0)); // blocks that are left are freed at the end
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_ops<R: MemoryResource>(
        ops: impl IntoIterator<Item = Op>,
        resource: &R,
        streams: &[Stream],
        contents: &Contents<R::Kind>,
        observe: impl FnMut(&ExpectedCounts),
    ) -> Result<ExpectedCounts, Broken> {
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
