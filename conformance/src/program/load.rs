//! [`Load`]: programs on several threads at once.

use super::worker::{Shared, Worker};
use super::{Model, Program};
use crate::broken::Broken;
use crate::contents::Contents;
use crate::rng::Rng;
use cumem::{MemoryResource, Stream};
use std::sync::Mutex;
use std::thread;

/// One [`Program`] per thread on one resource, which hand blocks over to each other.
#[derive(Debug, Clone)]
pub struct Load {
    program: Program,
    threads: usize,
}

impl Load {
    /// `threads` threads that run programs like `program`, each of a seed of its own, all of its length.
    pub fn new(program: Program, threads: usize) -> Self {
        Self { program, threads }
    }

    /// Runs them to the end, and frees everything. Every thread uses every stream, and blocks wander
    /// from thread to thread.
    ///
    /// The answer counts what all of them did; its peaks are upper bounds.
    ///
    /// # Errors
    ///
    /// What the resource did that its contract forbids. Which thread met it first may differ from run to run.
    ///
    /// # Panics
    ///
    /// If there is no stream.
    pub fn run<R: MemoryResource + Sync>(
        &self,
        resource: &R,
        streams: &[Stream],
        contents: &Contents<R::Kind>,
    ) -> Result<Model, Broken> {
        let exchange = Some(Mutex::default());
        let shared = Shared { resource, contents, live: Mutex::default(), exchange };
        self.start(&shared, |_| streams.to_vec())
    }

    /// The same with one stream for each thread, which `stream` makes on the thread; no block leaves its thread.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    pub fn run_apart<R: MemoryResource + Sync>(
        &self,
        resource: &R,
        stream: impl Fn(usize) -> Stream + Sync,
        contents: &Contents<R::Kind>,
    ) -> Result<Model, Broken> {
        let shared = Shared { resource, contents, live: Mutex::default(), exchange: None };
        self.start(&shared, |thread| vec![stream(thread)])
    }

    fn start<R: MemoryResource + Sync>(
        &self,
        shared: &Shared<'_, R>,
        streams: impl Fn(usize) -> Vec<Stream> + Sync,
    ) -> Result<Model, Broken> {
        let (mut seeds, streams) = (Rng::new(self.program.seed), &streams);
        let results: Vec<_> = thread::scope(|scope| {
            let start = |(number, seed)| {
                let program = Program { seed, ..self.program.clone() };
                scope.spawn(move || {
                    let streams = streams(number);
                    assert!(!streams.is_empty(), "a program needs a stream");
                    Worker::new(shared, &streams, number as u64).run(program.ops(streams.len()), |_| ())
                })
            };
            let threads = Vec::from_iter((0..self.threads).map(|number| (number, seeds.next_u64())).map(start));
            // All are joined before the first failure is returned.
            let join = |thread: thread::ScopedJoinHandle<'_, Result<Model, Broken>>| {
                thread.join().unwrap_or_else(|_| Err(Broken::new("a thread panicked")))
            };
            threads.into_iter().map(join).collect()
        });
        let total = results.into_iter().try_fold(Model::default(), |sum, model| model.map(|model| sum.merge(model)));
        total
            .and_then(|model| shared.finish().map(|()| model))
            .map_err(|broken| broken.at(format_args!("{} threads of seed {}", self.threads, self.program.seed)))
    }
}
