//! [`HostKernel`]: the work of a kernel as a closure of the host, for a simulated device.

use bytemuck::Pod;
use smallvec::SmallVec;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

/// What a kernel does to a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    /// Only reads it.
    Read,
    /// Writes it, perhaps after reading.
    Write,
}

/// In which order a [`HostKernel`] touches a range. Offsets are bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pattern {
    /// All of it, ascending.
    #[default]
    Sequential,
    /// The bytes at 0, `stride`, twice `stride`, ... and nothing between them.
    Strided {
        /// Bytes from one to the next.
        stride: usize,
    },
    /// So many bytes anywhere in it, drawn evenly. The same seed gives the same ones.
    Random {
        /// Of the random numbers.
        seed: u64,
        /// How many are drawn.
        touches: usize,
    },
    /// The bytes at these offsets, in this order.
    List(Arc<[usize]>),
}

/// A range of memory that a [`HostKernel`] touches.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Access {
    /// The first byte.
    pub addr: u64,
    /// Bytes.
    pub bytes: usize,
    /// What is done to it.
    pub mode: AccessMode,
    /// In which order.
    pub pattern: Pattern,
}

/// The closure of a [`HostKernel`].
pub type HostWork = Box<dyn FnOnce(&KernelMemory<'_>) + Send>;

/// Work of a simulated device: a closure of the host that says what it reads and writes, so that
/// pages move and time passes as they would.
///
/// The closure runs when its turn comes, which may be at a later synchronisation.
#[must_use = "does nothing until it is launched"]
#[non_exhaustive]
pub struct HostKernel {
    /// The name, for reports.
    pub name: &'static str,
    /// The ranges that the kernel reads and writes.
    pub accesses: SmallVec<[Access; 4]>,
    /// The number of arithmetic operations.
    pub operations: u64,
    /// The number of page faults that its threads can wait for at once.
    pub in_flight: usize,
    /// The closure.
    pub work: HostWork,
}

impl HostKernel {
    /// Work called `name` that touches nothing yet.
    pub fn new(name: &'static str, work: impl FnOnce(&KernelMemory<'_>) + Send + 'static) -> Self {
        Self { name, accesses: SmallVec::new(), operations: 0, in_flight: 1, work: Box::new(work) }
    }

    /// It reads `bytes` bytes at `addr`, in ascending order unless [`in_order`](Self::in_order) says otherwise.
    pub fn reads(self, addr: u64, bytes: usize) -> Self {
        self.touches(addr, bytes, AccessMode::Read)
    }

    /// It writes `bytes` bytes at `addr`, in ascending order unless [`in_order`](Self::in_order) says otherwise.
    pub fn writes(self, addr: u64, bytes: usize) -> Self {
        self.touches(addr, bytes, AccessMode::Write)
    }

    fn touches(mut self, addr: u64, bytes: usize, mode: AccessMode) -> Self {
        self.accesses.push(Access { addr, bytes, mode, pattern: Pattern::Sequential });
        self
    }

    /// The range declared last is touched in this order. The ranges of a kernel are touched one after the other.
    ///
    /// The launch fails if the order does not stay within the range.
    ///
    /// # Panics
    ///
    /// If no range has been declared.
    pub fn in_order(mut self, pattern: Pattern) -> Self {
        self.accesses.last_mut().expect("an order is that of a declared range").pattern = pattern;
        self
    }

    /// Its threads can wait for up to `threads` page faults at once, which the driver then serves together, in batches;
    /// at most as many as its batches hold. Without this, each fault is served before the next comes.
    pub fn in_flight(mut self, threads: usize) -> Self {
        self.in_flight = threads;
        self
    }

    /// It does this many arithmetic operations, from which its virtual time follows.
    pub fn operations(mut self, operations: u64) -> Self {
        self.operations = operations;
        self
    }
}

impl fmt::Debug for HostKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostKernel").field("name", &self.name).field("accesses", &self.accesses).finish_non_exhaustive()
    }
}

/// The ranges that a running [`HostKernel`] declared, in the order in which it declared them.
#[derive(Debug)]
pub struct KernelMemory<'a> {
    accesses: &'a [Access],
    taken: Cell<u64>,
}

impl<'a> KernelMemory<'a> {
    /// # Safety
    ///
    /// Every access names memory that is valid, initialised, and used by nothing else while the result is
    /// in use; writes overlap no other access.
    pub unsafe fn new(accesses: &'a [Access]) -> Self {
        Self { accesses, taken: Cell::new(0) }
    }

    /// Declared range `index`, which was declared with [`HostKernel::reads`].
    ///
    /// # Panics
    ///
    /// If it was not, or is no whole number of aligned `T`.
    pub fn read<T: Pod>(&self, index: usize) -> &'a [T] {
        let access = self.declared(index, AccessMode::Read);
        // SAFETY: by the contract of `new`, and only written ranges are handed out mutably.
        let bytes = unsafe { std::slice::from_raw_parts(access.addr as *const u8, access.bytes) };
        bytemuck::cast_slice(bytes)
    }

    /// Declared range `index`, which was declared with [`HostKernel::writes`]. Taken once.
    ///
    /// # Panics
    ///
    /// If it was not, was taken before, is no whole number of aligned `T`, or is not among the first 64 ranges.
    pub fn write<T: Pod>(&self, index: usize) -> &'a mut [T] {
        let access = self.declared(index, AccessMode::Write);
        let bit = 1_u64.checked_shl(index as u32).expect("a host kernel writes to its first 64 ranges only");
        assert_eq!(self.taken.replace(self.taken.get() | bit) & bit, 0, "range {index} was taken before");
        // SAFETY: by the contract of `new`, and each written range is handed out once.
        let bytes = unsafe { std::slice::from_raw_parts_mut(access.addr as *mut u8, access.bytes) };
        bytemuck::cast_slice_mut(bytes)
    }

    fn declared(&self, index: usize, mode: AccessMode) -> &'a Access {
        let access = &self.accesses[index];
        assert_eq!(access.mode, mode, "range {index} was declared as {:?}", access.mode);
        access
    }
}
