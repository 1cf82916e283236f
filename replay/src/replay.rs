//! [`Replay`]: several passes, with figures only if all of them finished.

use crate::error::ReplayError;
use crate::figures::Figures;
use crate::player::Player;
use crate::trace::Trace;
use cumem::MemoryResource;
use std::fmt;

/// A replay of a trace, with its options.
///
/// The first pass is not part of the median, because pools grow and caches fill in it.
/// [`repeat`](Self::repeat) passes follow, which are.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Device, ManagedResource};
/// use cumem_replay::{Replay, Trace};
///
/// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,0\n1,1,free,0x100,1024,0\n";
/// let trace = Trace::parse(log.as_bytes(), "two lines")?;
/// let device = Device::simulated(Profile::default())?;
/// let figures = Replay::new(&trace).repeat(5).run(&ManagedResource::new(&device)?)?;
/// println!("{:.0} ns per operation", figures.ns_per_operation());
/// assert_eq!(figures.first().operations, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Replay<'a> {
    trace: &'a Trace,
    repeat: usize,
    on_progress: Box<dyn FnMut(Progress) + 'a>,
}

/// The progress of a replay.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device};
/// use cumem_replay::{Replay, Trace};
///
/// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,0\n1,1,free,0x100,1024,0\n";
/// let trace = Trace::parse(log.as_bytes(), "two lines")?;
/// let resource = CudaResource::new(&Device::simulated(Profile::default())?);
/// let mut last = None;
/// Replay::new(&trace).on_progress(|progress| last = Some(progress)).run(&resource)?;
/// assert!(last.is_some_and(|progress| progress.done == progress.total));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Operations made so far, in all passes.
    pub done: u64,
    /// Operations of all passes.
    pub total: u64,
}

impl<'a> Replay<'a> {
    /// Creates a replay with one pass to warm up and one to measure.
    pub fn new(trace: &'a Trace) -> Self {
        Self { trace, repeat: 1, on_progress: Box::new(|_| ()) }
    }

    /// Sets the number of measured passes; at least one.
    pub fn repeat(mut self, passes: usize) -> Self {
        self.repeat = passes.max(1);
        self
    }

    /// Sets a function that is called from time to time, outside of the measured time.
    pub fn on_progress(mut self, callback: impl FnMut(Progress) + 'a) -> Self {
        self.on_progress = Box::new(callback);
        self
    }

    /// Replays the trace on `resource`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Player::new`] and [`Player::pass`], as soon as one occurs.
    /// The live blocks are freed then, and there are no figures. Running out of memory is no error; it is counted.
    pub fn run<R: MemoryResource + ?Sized>(mut self, resource: &R) -> Result<Figures, ReplayError> {
        let mut player = Player::new(self.trace, resource)?;
        let of_a_pass = self.trace.operations() as u64;
        let total = of_a_pass * (self.repeat as u64 + 1);
        let mut pass = |number: usize| {
            player.pass(|done| {
                (self.on_progress)(Progress { done: of_a_pass * number as u64 + done as u64, total });
            })
        };
        let first = pass(0)?;
        let passes = (1..=self.repeat).map(pass).collect::<Result<_, _>>()?;
        Ok(Figures { first, passes })
    }
}

impl fmt::Debug for Replay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("trace", &self.trace).field("repeat", &self.repeat).finish_non_exhaustive()
    }
}
