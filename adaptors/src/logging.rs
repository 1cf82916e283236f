//! [`Logging`] writes each call as a row of RMM's log format.

mod clock;
mod file;
mod log;
mod options;
mod row;
mod state;

pub use options::{LogError, LogOptions};
pub use state::LoggingState;

use cumem::{AllocError, Block, DeallocError, MemoryResource, Stream, Upstream};
use row::Action;
use std::alloc::Layout;

/// An adaptor that writes each allocation, each free and each failed allocation as a row of a log in RMM's format.
/// `cumem-replay` reads the log.
///
/// | column | content |
/// |---|---|
/// | `Thread` | the thread's id in the system |
/// | `Time` | the local time of day, `HH:MM:SS.ffffff`, with the time zone of the log's start |
/// | `Action` | `allocate`, `free`, or `allocate failure` |
/// | `Pointer` | the address, or `(nil)` for a block of zero bytes and for a failure |
/// | `Size` | bytes as requested |
/// | `Stream` | the driver's handle of the stream |
///
/// An allocation is logged after it succeeded, a free before it is made. If the upstream refuses a free, the block is
/// live again, and the next row about it is `allocate`. The rows are in the order of the calls, also those of several
/// threads. Each thread collects its rows and shares no lock with other threads until it has 4096 rows. Then it writes
/// the rows of all threads. [`flush`](LoggingState::flush), the drop of the stack, and the end of the process write what
/// is left. A thread that allocates faster than the sink writes waits for the sink.
///
/// If the sink returns an error or panics, the rows are [counted](LoggingState::lost_rows) and the call that was logged
/// succeeds.
///
/// `find::<LoggingState>()` returns its [`LoggingState`] from any stack.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::ResourceExt;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let path = std::env::temp_dir().join(format!("cumem-log-{}.csv", std::process::id()));
/// let stack = CudaResource::new(&device).logging(path.as_path())?;
/// drop(Buffer::<u8, _>::zeroed(1000, &Stream::new(&device)?, &stack)?);
/// stack.state().flush()?;
/// let log = std::fs::read_to_string(&path)?;
/// let rows: Vec<&str> = log.lines().collect();
/// assert_eq!(rows[0], "Thread,Time,Action,Pointer,Size,Stream");
/// assert!(rows[1].contains(",allocate,0x") && rows[2].contains(",free,0x"));
/// # std::fs::remove_file(path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Logging<U> {
    state: LoggingState,
    upstream: U,
}

impl<U> Logging<U> {
    /// Creates the adaptor, and its file if it has one.
    ///
    /// # Errors
    ///
    /// - Returns [`LogError::NoFile`] if the file is [the environment's](LogOptions::env) and the variable is not set.
    /// - Returns [`LogError::Open`] if the file cannot be created.
    /// - Returns [`LogError::InUse`] if another adaptor of this process writes to the file.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{LogOptions, Logging};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = Logging::new(CudaResource::new(&device), LogOptions::sink(Vec::new()))?;
    /// assert!(stack.to_string().starts_with("log over device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(upstream: U, options: impl Into<LogOptions>) -> Result<Self, LogError>
    where
        U: Upstream,
    {
        Ok(Self { state: LoggingState::new(options.into())?, upstream })
    }

    /// Returns the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{LogOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).limit(1 << 30).logging(LogOptions::sink(std::io::sink()))?;
    /// assert_eq!(stack.upstream().state().bytes(), 1 << 30); // the limit
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Removes this adaptor and returns the upstream. All rows are written. Live blocks stay valid, because the upstream
    /// made them: deallocate them through the upstream. The log then has no row of their frees.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{LogOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).logging(LogOptions::sink(std::io::sink()))?;
    /// assert!(stack.into_upstream().to_string().starts_with("device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_upstream(self) -> U {
        self.upstream
    }

    /// Returns the log.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{LogOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).logging(LogOptions::sink(std::io::sink()))?;
    /// assert_eq!(stack.state().lost_rows(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn state(&self) -> &LoggingState {
        &self.state
    }
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Logging<U> {
        upstream: U = upstream;
        describe = |logging, f| logging.state.describe(f);
        state = state;
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Logging<U> {
    type Kind = U::Kind;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let result = self.upstream.allocate(stream, layout);
        let (action, pointer) = match &result {
            Ok(block) => (Action::Allocate, block.addr()),
            Err(_) => (Action::Failure, 0),
        };
        self.state.log.push(action, pointer, layout.size(), stream.as_raw());
        result
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let (pointer, size) = (block.addr(), block.size());
        // Logged before the upstream is called, because the upstream may give the same memory to another thread at
        // once.
        self.state.log.push(Action::Free, pointer, size, stream.as_raw());
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
            .inspect_err(|_| self.state.log.push(Action::Allocate, pointer, size, stream.as_raw()))
    }
}
