//! [`Load`]: programs on several threads at once.

use super::counts::ExpectedCounts;
use super::random::Program;
use super::worker::{Shared, Worker};
use crate::broken::Broken;
use crate::contents::Contents;
use crate::rng::Rng;
use cumem::{MemoryResource, Stream};
use std::sync::Mutex;
use std::thread;

/// One [`Program`] per thread on one resource. The threads exchange blocks.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Device, ManagedResource, Stream};
/// use cumem_conformance::{Contents, Load, Program};
///
/// let device = Device::simulated(Profile::default())?;
/// let streams = [Stream::new(&device)?, Stream::new(&device)?];
/// let load = Load::new(Program::new(1).operations(50), 4); // four threads, 50 operations each
/// let counts = load.run(&ManagedResource::new(&device)?, &streams, &Contents::untouched())?;
/// assert_eq!(counts.bytes, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Load {
    program: Program,
    threads: usize,
}

impl Load {
    /// Creates a load of `threads` threads. Each runs a program like `program`, of the same length, with its own seed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Stream};
    /// # use cumem_conformance::{Contents, Load, Op, Program};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let (resource, stream) = (CudaResource::new(&device), Stream::new(&device)?);
    /// let load = Load::new(Program::new(1).operations(20), 2); // two threads with 20 operations each
    /// let counts = load.run(&resource, &[stream], &Contents::untouched())?;
    /// assert!(counts.total_blocks <= 40);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(program: Program, threads: usize) -> Self {
        Self { program, threads }
    }

    /// Runs all programs to their end, and frees everything. Every thread uses every stream, and blocks move from
    /// thread to thread.
    ///
    /// The result counts the operations of all threads; its peaks are upper bounds.
    ///
    /// # Errors
    ///
    /// Returns the promise that the resource broke. Which thread finds it first may differ from run to run.
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
    /// let streams = [stream.clone(), Stream::new(&device)?]; // each thread uses both
    /// let load = Load::new(Program::new(3).operations(50), 2);
    /// let counts = load.run(&resource, &streams, &Contents::through_device(&device)?)?;
    /// assert_eq!(counts.blocks, 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn run<R: MemoryResource + Sync>(
        &self,
        resource: &R,
        streams: &[Stream],
        contents: &Contents<R::Kind>,
    ) -> Result<ExpectedCounts, Broken> {
        let exchange = Some(Mutex::default());
        let shared = Shared { resource, contents, live: Mutex::default(), exchange };
        self.start(&shared, |_| streams.to_vec())
    }

    /// Runs all programs with one stream for each thread, which `stream` creates on that thread.
    /// No block leaves its thread.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`run`](Self::run).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Stream};
    /// # use cumem_conformance::{Contents, Load, Op, Program};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let (resource, stream) = (CudaResource::new(&device), Stream::new(&device)?);
    /// // Each thread uses its own default stream.
    /// let load = Load::new(Program::new(3).operations(50), 2);
    /// let counts = load.run_apart(&resource, |_| Stream::per_thread_default(&device), &Contents::untouched())?;
    /// assert_eq!(counts.bytes, 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_apart<R: MemoryResource + Sync>(
        &self,
        resource: &R,
        stream: impl Fn(usize) -> Stream + Sync,
        contents: &Contents<R::Kind>,
    ) -> Result<ExpectedCounts, Broken> {
        let shared = Shared { resource, contents, live: Mutex::default(), exchange: None };
        self.start(&shared, |thread| vec![stream(thread)])
    }

    fn start<R: MemoryResource + Sync>(
        &self,
        shared: &Shared<'_, R>,
        streams: impl Fn(usize) -> Vec<Stream> + Sync,
    ) -> Result<ExpectedCounts, Broken> {
        let (mut seeds, streams) = (Rng::new(self.program.seed()), &streams);
        let results: Vec<_> = thread::scope(|scope| {
            let start = |(number, seed)| {
                let program = self.program.clone().with_seed(seed);
                scope.spawn(move || {
                    let streams = streams(number);
                    assert!(!streams.is_empty(), "a program needs a stream");
                    Worker::new(shared, &streams, number as u64).run(program.ops(streams.len()), |_| ())
                })
            };
            let threads = Vec::from_iter((0..self.threads).map(|number| (number, seeds.next_u64())).map(start));
            // All threads are joined before the first failure is returned.
            let join = |thread: thread::ScopedJoinHandle<'_, Result<ExpectedCounts, Broken>>| {
                thread.join().unwrap_or_else(|_| Err(Broken::new("a thread panicked")))
            };
            threads.into_iter().map(join).collect()
        });
        let total = results
            .into_iter()
            .try_fold(ExpectedCounts::default(), |sum, counts| counts.map(|counts| sum.merge(counts)));
        total
            .and_then(|counts| shared.finish().map(|()| counts))
            .map_err(|broken| broken.at(format_args!("{} threads of seed {}", self.threads, self.program.seed())))
    }
}
