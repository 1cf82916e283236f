//! The errors of reading a trace and of replaying it.

use cumem::error::{DeallocReason, ErrorReport};
use cumem::{AllocError, DeviceError, DriverError};
use std::io;

/// The error of a trace that cannot be replayed.
///
/// ```
/// use cumem_replay::{Malformed, Trace, TraceError};
///
/// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,free,0x100,1024,0\n";
/// let error = Trace::parse_strict(log.as_bytes(), "log.csv").unwrap_err();
/// assert_eq!(error.to_string(), "log.csv is malformed in line 2");
/// assert!(matches!(error, TraceError::Malformed { problem: Malformed::NotAllocated { pointer: 0x100 }, .. }));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be opened.
    #[error("cannot open {name}")]
    Open {
        /// The trace.
        name: String,
        /// The system's error.
        source: io::Error,
    },
    /// The file could not be read or unpacked to its end.
    #[error("cannot read {name} past line {line}")]
    Read {
        /// The trace.
        name: String,
        /// The last line that was read.
        line: u64,
        /// The error of the system or of the decoder.
        source: io::Error,
    },
    /// A line is malformed, or contradicts an earlier line.
    #[error("{name} is malformed in line {line}")]
    Malformed {
        /// The trace.
        name: String,
        /// The line, counted from 1.
        line: u64,
        /// The problem of the line.
        #[source]
        problem: Malformed,
    },
    /// The trace holds no allocation.
    #[error("{name} holds no allocation")]
    Empty {
        /// The trace.
        name: String,
    },
}

impl TraceError {
    /// Returns the error with all its causes in one line.
    pub fn report(&self) -> ErrorReport<'_> {
        ErrorReport::of(self)
    }
}

/// The problem of a line of a trace.
///
/// ```
/// use cumem_replay::Trace;
///
/// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,realloc,0x100,1024,0\n";
/// let error = Trace::parse(log.as_bytes(), "log.csv").unwrap_err();
/// assert_eq!(
///     error.report().to_string(),
///     "log.csv is malformed in line 2: expected the action `allocate`, `free` or `allocate failure`, found `realloc`"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The bytes are not text.
    #[error("expected text, found bytes that are no UTF-8")]
    NotText,
    /// The line is longer than any row. The rest of the trace was not read.
    #[error("expected the end of the line within {most} bytes")]
    LongLine {
        /// Bytes that a line may have.
        most: usize,
    },
    /// The header lacks a column.
    #[error("expected a header with the columns Thread, Action, Pointer, Size and Stream, found no {column}")]
    MissingColumn {
        /// The column.
        column: &'static str,
    },
    /// A row has more or fewer columns than the header.
    #[error("expected {expected} columns as in the header, found {found}")]
    Columns {
        /// Columns of the header.
        expected: usize,
        /// Columns of the row.
        found: usize,
    },
    /// The action is unknown.
    #[error("expected the action `allocate`, `free` or `allocate failure`, found `{found}`")]
    Action {
        /// The text of the action.
        found: String,
    },
    /// The value of a field is not valid for its column.
    #[error("expected {expected} in column {column}, found `{found}`")]
    Field {
        /// The column.
        column: &'static str,
        /// The values that the column may have.
        expected: &'static str,
        /// The text of the field.
        found: String,
    },
    /// An allocation of more than zero bytes at the null pointer.
    #[error("expected a pointer, found null for an allocation of {size} bytes")]
    NullPointer {
        /// Bytes that were allocated.
        size: usize,
    },
    /// A block is allocated at the address of a live block.
    #[error("{pointer:#x} is allocated, but has not been freed since its allocation in line {allocated_in}")]
    AllocatedTwice {
        /// The pointer.
        pointer: u64,
        /// The line of the earlier allocation.
        allocated_in: u64,
    },
    /// A block is freed that is not live.
    #[error("{pointer:#x} is freed, but no line before allocates it, or it has been freed already")]
    NotAllocated {
        /// The pointer.
        pointer: u64,
    },
    /// A block is freed with another size than it was allocated with.
    #[error("{pointer:#x} is freed with {freed} bytes, but was allocated with {allocated} in line {allocated_in}")]
    SizeMismatch {
        /// The pointer.
        pointer: u64,
        /// Bytes of the allocation.
        allocated: usize,
        /// Bytes of the free.
        freed: usize,
        /// The line of the allocation.
        allocated_in: u64,
    },
    /// A number exceeds the largest number that a replay can count.
    #[error("too many {what}")]
    TooMany {
        /// The quantity that is too large.
        what: &'static str,
    },
}

/// The error of a replay that did not finish. There are no figures then.
///
/// ```
/// use cumem::error::CudaErrorCode;
/// use cumem::sim::{FaultCall, Profile};
/// use cumem::{CudaResource, Device};
/// use cumem_replay::{Replay, ReplayError, Trace};
///
/// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,0\n1,1,free,0x100,1024,0\n";
/// let trace = Trace::parse(log.as_bytes(), "log.csv")?;
/// let device = Device::simulated(Profile::default())?;
/// let simulator = device.simulator().expect("it is simulated");
/// simulator.fail_nth(FaultCall::AllocateDevice, 1, CudaErrorCode::UNKNOWN);
/// let error = Replay::new(&trace).run(&CudaResource::new(&device)).unwrap_err();
/// assert_eq!(error.to_string(), "1024 bytes could not be allocated in line 2 of log.csv");
/// assert!(matches!(error, ReplayError::Allocate { line: 2, size: 1024, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// An allocation failed for another reason than running out of memory.
    #[error("{size} bytes could not be allocated in line {line} of {trace}")]
    Allocate {
        /// The trace.
        trace: String,
        /// The line of the allocation.
        line: u64,
        /// Requested bytes.
        size: usize,
        /// The resource's error.
        source: AllocError,
    },
    /// The resource did not take a block back.
    #[error("a block could not be freed in line {line} of {trace}")]
    Deallocate {
        /// The trace.
        trace: String,
        /// The line of the free. If the trace never frees the block, the line of its allocation.
        line: u64,
        /// The resource's reason.
        source: DeallocReason,
    },
    /// A stream could not be created, or reported an error of its work.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl ReplayError {
    /// Returns the error with all its causes in one line.
    pub fn report(&self) -> ErrorReport<'_> {
        ErrorReport::of(self)
    }
}

impl From<DriverError> for ReplayError {
    fn from(error: DriverError) -> Self {
        Self::Device(error.into())
    }
}
