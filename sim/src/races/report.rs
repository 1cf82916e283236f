//! [`Race`]: two conflicting uses of the same bytes that the program does not order.

use std::fmt;
use std::ops::Range;
use std::panic::Location;
use std::time::Duration;

/// Two conflicting uses of the same bytes that the program does not order, found by
/// [`Simulator::detect_races`](crate::Simulator::detect_races).
///
/// A race does not mean that this run went wrong. It means that nothing prevented the run from going wrong.
///
/// # Examples
///
/// ```
/// use cumem_driver::Driver;
/// use cumem_sim::{AccessKind, Profile, RaceKind, Simulator};
///
/// let sim = Simulator::new([Profile::h100_pcie5()])?;
/// sim.detect_races(true);
/// let stream = sim.create_stream(0, false)?;
/// let memory = sim.allocate_pinned(0, 64)?;
/// // SAFETY: the stream and the memory are live.
/// unsafe { sim.fill_async(0, memory.as_ptr(), 7, 64, stream) }?;
/// // SAFETY: only the fill uses the memory. The simulator checks that the memory exists before the fill runs.
/// unsafe { sim.free_pinned(0, memory) }?;
///
/// let race = &sim.take_races()[0];
/// assert_eq!(race.kind, RaceKind::ReuseBeforeLastUse);
/// assert_eq!((race.first.kind, race.second.kind), (AccessKind::Written, AccessKind::Freed));
/// assert_eq!(race.addresses.end - race.addresses.start, 64);
/// println!("{race}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Race {
    /// The kind of race.
    pub kind: RaceKind,
    /// The use that the program made first.
    pub first: MemoryUse,
    /// The use that does not wait for `first`, or that must not follow it,
    /// for example because `first` freed the memory.
    pub second: MemoryUse,
    /// Addresses that both uses share. If they share several runs of addresses, this is one of them.
    pub addresses: Range<u64>,
    /// The allocation of the block, if a pool's block was used after it was freed.
    pub allocated: Option<MemoryUse>,
}

/// The kind of a [`Race`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RaceKind {
    /// A block was used on a stream that does not wait for its allocation.
    UseBeforeAllocation,
    /// Memory was freed, or allocated again, without a wait for its last use.
    ReuseBeforeLastUse,
    /// The host and work of a stream used the same memory, at least one of them wrote, and neither waits for the other.
    HostAccess,
    /// Memory was used after it was freed.
    UseAfterFree,
    /// A use began in a block of a pool and left it, or reached into a block from outside. `first` is the allocation of
    /// the block, and `addresses` lie outside of the block.
    OutOfBounds,
    /// Two accesses of the host, at least one of them a write, existed at the same time.
    HostOverlap,
    /// Two streams used the same bytes, at least one of them wrote, and neither waits for the other. A pool that reuses
    /// its memory before the last use is reported as this kind, too.
    Unordered,
}

/// One use of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUse {
    /// The kind of access to the memory.
    pub kind: AccessKind,
    /// The driver call, or the kernel's name.
    pub by: &'static str,
    /// The stream, by its number (`Stream::as_raw` of cumem), or `None` for the host.
    pub stream: Option<u64>,
    /// The number of this use among those of its stream, or of the host, counted from 1.
    pub number: u64,
    /// The host's virtual time at the call.
    pub at: Duration,
    /// The line of the program, if the call records it.
    pub caller: Option<&'static Location<'static>>,
}

/// The kind of an access to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AccessKind {
    /// The memory was allocated.
    Allocated,
    /// The memory was read.
    Read,
    /// The memory was written.
    Written,
    /// The memory was freed.
    Freed,
}

impl fmt::Display for RaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UseBeforeAllocation => "use on a stream that does not wait for the allocation",
            Self::ReuseBeforeLastUse => "reuse before the last use",
            Self::HostAccess => "access of the host while the device may work",
            Self::UseAfterFree => "use after free",
            Self::OutOfBounds => "use outside of a block",
            Self::HostOverlap => "two accesses of the host at the same time",
            Self::Unordered => "unordered use on two streams",
        })
    }
}

impl fmt::Display for AccessKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allocated => "allocated",
            Self::Read => "read",
            Self::Written => "written",
            Self::Freed => "freed",
        })
    }
}

/// For example `written by fill, use 3 of stream 0x11, at 1.2us (src/main.rs:10:5)`.
impl fmt::Display for MemoryUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}, use {} of ", self.kind, self.by, self.number)?;
        match self.stream {
            Some(stream) => write!(f, "stream {stream:#x}")?,
            None => f.write_str("the host")?,
        }
        write!(f, ", at {:?}", self.at)?;
        self.caller.map_or(Ok(()), |caller| write!(f, " ({caller})"))
    }
}

/// For example `reuse before the last use, 64 bytes at 0x7f0000000000: written by ...; then freed by ...`.
impl fmt::Display for Race {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Race { kind, first, second, addresses, allocated } = self;
        let bytes = addresses.end - addresses.start;
        write!(f, "{kind}, {bytes} bytes at {:#x}: {first}; then {second}", addresses.start)?;
        allocated.as_ref().map_or(Ok(()), |allocated| write!(f, "; the block was {allocated}"))
    }
}

impl std::error::Error for Race {}
