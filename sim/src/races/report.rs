//! [`Race`]: two uses of the same bytes whose order nobody ensured.

use std::fmt;
use std::ops::Range;
use std::panic::Location;
use std::time::Duration;

/// Two uses of the same bytes whose order nobody ensured, found by
/// [`Simulator::detect_races`](crate::sim::Simulator::detect_races).
///
/// It does not say that something went wrong in this run, but that nothing kept it from going wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Race {
    /// What was done wrong.
    pub kind: RaceKind,
    /// The use that the program made first.
    pub first: Use,
    /// The use that does not wait for it, or may not come after it.
    pub second: Use,
    /// Addresses that both use; one run of them, where there are several.
    pub addresses: Range<u64>,
}

/// What was done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RaceKind {
    /// A block was used on a stream that does not wait for its allocation.
    UseBeforeAllocation,
    /// Memory was given back, or handed out again, without a wait for its last use.
    ReuseBeforeLastUse,
    /// The host used memory while a device may have been working on it, or the other way round.
    HostAccess,
    /// Memory was used after it was freed.
    UseAfterFree,
    /// Two streams used the same bytes, one of them writing, and neither waits for the other. In memory of a pool this
    /// is also how a reuse before the last use shows.
    Unordered,
}

/// One use of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Use {
    /// What was done.
    pub deed: Deed,
    /// The driver call, or the kernel's name.
    pub by: &'static str,
    /// The stream, by its [number](crate::Stream::as_raw); `None` for the host.
    pub stream: Option<u64>,
    /// Which of the uses of that stream, or of the host, counted from 1.
    pub number: u64,
    /// The host's virtual time at the call.
    pub at: Duration,
    /// The line of the program, for calls that know it.
    pub caller: Option<&'static Location<'static>>,
}

/// What was done to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deed {
    /// It was allocated.
    Allocated,
    /// It was read.
    Read,
    /// It was written.
    Written,
    /// It was freed.
    Freed,
}

impl fmt::Display for RaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UseBeforeAllocation => "use on a stream that does not wait for the allocation",
            Self::ReuseBeforeLastUse => "reuse before the last use",
            Self::HostAccess => "access of the host while the device may work",
            Self::UseAfterFree => "use after free",
            Self::Unordered => "unordered use on two streams",
        })
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allocated => "allocated",
            Self::Read => "read",
            Self::Written => "written",
            Self::Freed => "freed",
        })
    }
}

/// `written by fill, use 3 of stream 0x11, at 1.2us (src/main.rs:10:5)`.
impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}, use {} of ", self.deed, self.by, self.number)?;
        match self.stream {
            Some(stream) => write!(f, "stream {stream:#x}")?,
            None => f.write_str("the host")?,
        }
        write!(f, ", at {:?}", self.at)?;
        self.caller.map_or(Ok(()), |caller| write!(f, " ({caller})"))
    }
}

/// `reuse before the last use of 64 bytes at 0x7f0000000000: written by ...; then freed by ...`.
impl fmt::Display for Race {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Race { kind, first, second, addresses } = self;
        let bytes = addresses.end - addresses.start;
        write!(f, "{kind}, {bytes} bytes at {:#x}: {first}; then {second}", addresses.start)
    }
}

impl std::error::Error for Race {}
