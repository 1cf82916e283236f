//! What can be wrong with a trace, and what can go wrong in a replay.

use cumem::{AllocError, DeallocReason, DriverError};
use std::io;

/// A trace that cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be opened.
    #[error("cannot open {name}: {source}")]
    Open {
        /// The trace.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// Reading, or unpacking, broke off.
    #[error("cannot read {name} past line {line}: {source}")]
    Read {
        /// The trace.
        name: String,
        /// The last line that was read.
        line: u64,
        /// What the system, or the decoder, said.
        source: io::Error,
    },
    /// A line means nothing, or contradicts the lines before it.
    #[error("{name}, line {line}: {problem}")]
    Malformed {
        /// The trace.
        name: String,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        problem: Malformed,
    },
    /// No line allocates anything.
    #[error("{name} holds no allocation")]
    Empty {
        /// The trace.
        name: String,
    },
}

/// What is wrong with a line of a trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The bytes are no text.
    #[error("expected text, found bytes that are no UTF-8")]
    NotText,
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
    /// An unknown action.
    #[error("expected the action `allocate`, `free` or `allocate failure`, found `{found}`")]
    Action {
        /// What stands there.
        found: String,
    },
    /// A field is not what its column holds.
    #[error("expected {expected} in column {column}, found `{found}`")]
    Field {
        /// The column.
        column: &'static str,
        /// What the column holds.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A block of more than no bytes at the null pointer.
    #[error("expected a pointer, found null for an allocation of {size} bytes")]
    NullPointer {
        /// Bytes that were allocated.
        size: usize,
    },
    /// A block is allocated where one lives.
    #[error("{pointer:#x} is allocated, but has not been freed since its allocation in line {allocated_in}")]
    AllocatedTwice {
        /// The pointer.
        pointer: u64,
        /// The line of the allocation before.
        allocated_in: u64,
    },
    /// A block is freed where none lives.
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
    /// A number is past what a replay can count.
    #[error("too many {what}")]
    TooMany {
        /// What is too many.
        what: &'static str,
    },
}

/// A replay that did not come to its end. There are no figures then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// An allocation failed for another reason than want of memory.
    #[error("{trace}, line {line}: {size} bytes could not be allocated: {source}")]
    Allocate {
        /// The trace.
        trace: String,
        /// The line of the allocation.
        line: u64,
        /// Bytes asked for.
        size: usize,
        /// Why not.
        source: AllocError,
    },
    /// A block was not accepted back.
    #[error("{trace}, line {line}: a block could not be freed: {source}")]
    Deallocate {
        /// The trace.
        trace: String,
        /// The line of the free; for a block that the trace never frees, of its allocation.
        line: u64,
        /// Why not.
        source: DeallocReason,
    },
    /// A stream could not be made, or reported an error of its work.
    #[error(transparent)]
    Driver(#[from] DriverError),
}
